//! Recurrent layers: remembering over many steps, and going on with a wave.

use gradus::prelude::*;

#[derive(Module, Clone)]
struct Adder {
    lstm: LSTM,
    head: Dense,
}

/// The adding problem (Hochreiter & Schmidhuber 1997): of a sequence of numbers in [0, 1), two are marked; the answer is their sum.
/// Always answering 1 has a mean squared error of 1/6.
fn sums(batch: usize, steps: usize, rng: &mut impl Rng) -> Result<(Tensor, Tensor)> {
    let values = Tensor::<f32>::rand([steps, batch], rng)?;
    let places = Tensor::<f32>::rand([2, batch], rng)?;
    let place = |half: isize, b: usize| -> Result<usize> {
        let u = places.get([half, b as isize])?;
        Ok(half as usize * (steps / 2) + (u * (steps / 2) as f32) as usize)
    };
    let (mut marks, mut answers) = (Tensor::zeros([steps, batch])?, Tensor::zeros([batch, 1])?);
    for b in 0..batch {
        let mut sum = 0.0;
        for half in 0..2 {
            let t = place(half, b)? as isize;
            marks.set([t, b as isize], 1.0)?;
            sum += values.get([t, b as isize])?;
        }
        answers.set([b as isize, 0], sum)?;
    }
    Ok((Tensor::stack(&[&values, &marks], -1)?, answers))
}

#[test]
fn an_lstm_learns_to_add_two_marked_numbers() -> Result<()> {
    let mut rng = gradus::rng(1);
    let mut model =
        Adder { lstm: LSTM::new(2, 24).build(&mut rng)?, head: Dense::new(24, 1).build(&mut rng)? };
    let answer = |m: &Adder, x: &Tensor| -> Result<Tensor> {
        let (_, (h, _)) = m.lstm.forward_with(x, None)?;
        m.head.forward(&h.squeeze(0)?)
    };
    let mut adam = Adam::new(1e-2);
    for step in 0..500 {
        let (x, y) = sums(32, 20, &mut rng)?;
        let tape = Tape::new(step);
        let loss = answer(&tape.watch(&model), &x)?.mse(&y)?;
        let mut grads = loss.backward()?;
        grads.clip_norm(1.0)?;
        adam.step(&mut model, &grads)?;
    }
    let (x, y) = sums(200, 20, &mut rng)?;
    let loss = answer(&model, &x)?.mse(&y)?.item()?;
    // A model that does not remember the first of the two stays above 1/12.
    assert!(loss < 0.01, "{loss}");
    Ok(())
}

#[derive(Module, Clone)]
struct Wave {
    gru: GRU,
    head: Dense,
}

/// Trained to give the next number of sine waves, and then fed with its own answers.
#[test]
fn a_gru_goes_on_with_a_sine() -> Result<()> {
    let mut rng = gradus::rng(2);
    let mut model =
        Wave { gru: GRU::new(1, 16).build(&mut rng)?, head: Dense::new(16, 1).build(&mut rng)? };
    let wave = |phase: f32, steps: usize| move |i: usize| ((i % steps) as f32 * 0.3 + phase).sin();
    let mut adam = Adam::new(1e-2);
    for step in 0..400 {
        let phases: Tensor = Tensor::uniform([16], 0.0, std::f32::consts::TAU, &mut rng)?;
        let waves: Vec<Tensor> =
            phases.iter().map(|p| Tensor::from_fn([41, 1], wave(p, 41))).collect::<Result<_>>()?;
        let all = Tensor::stack(&waves.iter().collect::<Vec<_>>(), 1)?;
        let tape = Tape::new(step);
        let net = tape.watch(&model);
        let y = net.head.forward(&net.gru.forward(&all.narrow(0, 0, 40)?)?)?;
        let loss = y.mse(&all.narrow(0, 1, 40)?)?;
        adam.step(&mut model, &loss.backward()?)?;
    }
    // Twenty steps are shown, twenty are its own.
    let want = Tensor::from_fn([40, 1], wave(1.0, 40))?;
    let (y, mut h) = model.gru.forward_with(&want.narrow(0, 0, 20)?, None)?;
    let mut last = model.head.forward(&y.narrow(0, 19, 1)?)?;
    let mut worst = 0.0f32;
    for t in 20..40 {
        worst = worst.max((last.item()? - want.get([t, 0])?).abs());
        let (y, next) = model.gru.forward_with(&last, Some(&h))?;
        (last, h) = (model.head.forward(&y)?, next);
    }
    assert!(worst < 0.2, "{worst}");
    Ok(())
}
