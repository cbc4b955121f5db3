//! Networks of dense layers on three old problems: exclusive or, two spirals, and pictures through a narrow place.

use gradus::data::digits;
use gradus::prelude::*;

/// Dense layers with tanh between them.
#[derive(Module, Clone)]
struct Mlp {
    layers: Vec<Dense>,
}

impl Mlp {
    fn new(widths: &[usize], rng: &mut impl Rng) -> Result<Self> {
        let layers = widths.windows(2).map(|w| Dense::new(w[0], w[1]).build(rng));
        Ok(Mlp { layers: layers.collect::<Result<_>>()? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&if i == 0 { x } else { x.tanh() })?;
        }
        Ok(x)
    }
}

/// The share of logits \[n, 1\] on the side of 0 that the targets say.
fn right(logits: &Tensor, targets: &Tensor) -> Result<f64> {
    let same = logits.gt_scalar(0.0).try_eq(&targets.gt_scalar(0.5))?;
    Ok(same.count_true() as f64 / same.len() as f64)
}

/// No line separates the two classes, so that a network without a hidden layer gets three of four right at most (Minsky and Papert,
/// 1969).
#[test]
fn exclusive_or() -> Result<()> {
    let x = Tensor::from([[0.0f32, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]);
    let y = Tensor::from([[0.0f32], [1.0], [1.0], [0.0]]);
    for seed in 0..5 {
        let mut model = Mlp::new(&[2, 8, 1], &mut gradus::rng(seed))?;
        let mut adam = Adam::new(0.05);
        for step in 0..300 {
            let loss = Tape::new(step).watch(&model).forward(&x)?.bce_with_logits(&y)?;
            adam.step(&mut model, &loss.backward()?)?;
        }
        let logits = model.forward(&x)?;
        assert_eq!(right(&logits, &y)?, 1.0, "seed {seed}: {logits:?}");
        let loss = logits.bce_with_logits(&y)?.item()?;
        assert!(loss < 0.05, "seed {seed}: {loss}");
    }
    Ok(())
}

/// Points near two spirals of one and a half turns, one the other turned by 180 degrees (after Lang and Witbrock, 1988).
fn spirals(n: usize, rng: &mut impl Rng) -> Result<(Tensor, Tensor)> {
    let along = Tensor::<f32>::rand([n], rng)?;
    let noise = Tensor::normal([n, 2], 0.0, 0.02, rng)?;
    let class = |i: usize| (i % 2) as f32;
    let points: Vec<f32> = along
        .iter()
        .enumerate()
        .flat_map(|(i, t)| {
            let radius = 0.1 + 0.9 * t;
            let angle = 1.5 * std::f32::consts::TAU * t + class(i) * std::f32::consts::PI;
            [radius * angle.cos(), radius * angle.sin()]
        })
        .collect();
    let points = Tensor::from_vec(points, [n, 2])?.try_add(&noise)?;
    Ok((points, Tensor::from_fn([n, 1], class)?))
}

#[test]
fn two_spirals() -> Result<()> {
    let mut rng = gradus::rng(1);
    let (x, y) = spirals(400, &mut rng)?;
    let (new_x, new_y) = spirals(400, &mut rng)?;
    let mut model = Mlp::new(&[2, 32, 32, 1], &mut rng)?;
    let mut adam = Adam::new(1e-2);
    for step in 0..500 {
        let loss = Tape::new(step).watch(&model).forward(&x)?.bce_with_logits(&y)?;
        adam.step(&mut model, &loss.backward()?)?;
    }
    let share = right(&model.forward(&new_x)?, &new_y)?;
    assert!(share > 0.95, "{share}");
    Ok(())
}

/// `n` drawn digits at half their size, as rows of 196 numbers from 0 to 1.
fn pictures(n: usize, seed: u64) -> Result<Tensor> {
    let all = digits::generate(n, seed).images;
    let all = all.iter().map(|&b| f32::from(b) / 255.0).collect();
    let half = Tensor::from_vec(all, [n, 1, digits::SIDE, digits::SIDE])?.avg_pool2d(2)?;
    half.reshape([n, 196])
}

/// Sixteen numbers for a picture of 196 pixels: what comes out must be much nearer to an unseen picture than the mean of all pictures is.
#[test]
fn an_autoencoder() -> Result<()> {
    let (train, test) = (pictures(1024, 1)?, pictures(256, 2)?);
    let mean = train.mean_axes(0, true)?;
    let by_mean = mean.expand(test.shape())?.mse(&test)?.item()?;
    let mut model = Mlp::new(&[196, 64, 16, 64, 196], &mut gradus::rng(3))?;
    let mut adam = Adam::new(3e-3);
    let error = |m: &Mlp, x: &Tensor| m.forward(&x.try_sub(&mean)?)?.try_add(&mean)?.mse(x);
    for step in 0..480 {
        let batch = train.narrow(0, step % 16 * 64, 64)?;
        let loss = error(&Tape::new(step as u64).watch(&model), &batch)?;
        adam.step(&mut model, &loss.backward()?)?;
    }
    let reached = error(&model, &test)?.item()?;
    assert!(reached < 0.5 * by_mean, "{reached}, the mean: {by_mean}");
    Ok(())
}
