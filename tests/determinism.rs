//! Same seed, same bits, whatever the number of threads; and a steady state that asks the system for nothing.
//!
//! One test function, because the number of threads and the memory counters belong to the whole process.

use gradus::data::mnist;
use gradus::prelude::*;

#[derive(Module, Clone)]
struct Cnn {
    conv1: Conv2d,
    conv2: Conv2d,
    drop: Dropout,
    fc1: Dense,
    fc2: Dense,
}

impl Cnn {
    fn new(rng: &mut impl Rng) -> Result<Self> {
        Ok(Self {
            conv1: Conv2d::new(1, 32, 3).build(rng)?,
            conv2: Conv2d::new(32, 64, 3).build(rng)?,
            drop: Dropout::new(0.25)?,
            fc1: Dense::new(1600, 128).build(rng)?,
            fc2: Dense::new(128, 10).build(rng)?,
        })
    }
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.conv1.forward(x)?.relu().max_pool2d(2)?;
        let x = self.conv2.forward(&x)?.relu().max_pool2d(2)?;
        let x = self.drop.forward(&x.flatten(1..)?)?;
        self.fc2.forward(&self.fc1.forward(&x)?.relu())
    }
}

/// The bits of every parameter after an epoch over a few hundred drawn digits, and the loss of each step.
fn train(threads: usize) -> Result<(Vec<u32>, Vec<u32>)> {
    gradus::set_num_threads(threads);
    let data = mnist::digits(300, 10, 5)?.train;
    let mut model = Cnn::new(&mut gradus::rng(1))?;
    let mut adam = Adam::new(1e-3);
    let mut losses = Vec::new();
    for (step, batch) in data.batches(64).shuffled(9).enumerate() {
        let tape = Tape::new(step as u64);
        let net = tape.watch(&model);
        let loss = net.forward(&batch.inputs)?.cross_entropy(&batch.labels)?;
        let mut grads = loss.backward()?;
        grads.clip_norm(5.0)?;
        adam.step(&mut model, &grads)?;
        losses.push(loss.item()?.to_bits());
    }
    let mut bits = Vec::new();
    model.for_each_param(|_, p| {
        if let gradus::nn::ParamRef::F32(p) = p {
            bits.extend(p.iter().map(f32::to_bits));
        }
    });
    Ok((bits, losses))
}

#[derive(Module, Clone)]
struct Tagger {
    gru: GRU,
    lstm: LSTM,
    head: Dense,
}

impl Tagger {
    fn new(rng: &mut impl Rng) -> Result<Self> {
        Ok(Tagger {
            gru: GRU::new(8, 24).bidirectional(true).batch_first(true).build(rng)?,
            lstm: LSTM::new(48, 40).variational_dropout(0.2).batch_first(true).build(rng)?,
            head: Dense::new(40, 5).build(rng)?,
        })
    }
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.head.forward(&self.lstm.forward(&self.gru.forward(x)?)?)
    }
}

/// The bits of every parameter of a recurrent network after a few steps, with so many sequences in a batch, and whether the memory stayed flat.
fn train_tagger(threads: usize, batch: usize) -> Result<(Vec<u32>, bool)> {
    gradus::set_num_threads(threads);
    let mut model = Tagger::new(&mut gradus::rng(1))?;
    let x = Tensor::randn([batch, 12, 8], &mut gradus::rng(2))?;
    let mut adam = Adam::new(1e-2);
    let mut allocations = [0; 2];
    for step in 0..20 {
        let tape = Tape::new(step);
        let loss = tape.watch(&model).forward(&x)?.square().mean();
        adam.step(&mut model, &loss.backward()?)?;
        allocations[(step >= 10) as usize] = gradus::memory::stats().system_allocations;
    }
    let mut bits = Vec::new();
    model.for_each_param(|_, p| {
        if let gradus::nn::ParamRef::F32(p) = p {
            bits.extend(p.iter().map(f32::to_bits));
        }
    });
    Ok((bits, allocations[0] == allocations[1]))
}

fn steps(model: &mut Cnn, adam: &mut Adam, x: &Tensor, y: &Tensor<i64>, n: u64) -> Result<()> {
    for step in 0..n {
        let tape = Tape::new(step);
        let loss = tape.watch(model).forward(x)?.cross_entropy(y)?;
        adam.step(model, &loss.backward()?)?;
    }
    Ok(())
}

#[test]
fn bits_do_not_depend_on_threads_and_memory_does_not_grow() -> Result<()> {
    let one = train(1)?;
    assert_eq!(one.1.len(), 5);
    assert!(one.0.iter().all(|b| f32::from_bits(*b).is_finite()));
    for threads in [2, 4] {
        assert!(one == train(threads)?, "{threads} threads changed the result");
    }
    // Few sequences, whose steps are split, and many, which are dealt out.
    for batch in [3, 40] {
        let (one, _) = train_tagger(1, batch)?;
        assert!(one.iter().all(|b| f32::from_bits(*b).is_finite()));
        for threads in [2, 4] {
            let (bits, flat) = train_tagger(threads, batch)?;
            assert!(one == bits, "{threads} threads changed the result of {batch} sequences");
            assert!(flat, "{threads} threads, {batch} sequences: the memory grew");
        }
    }
    // Another seed of the tape changes the dropout, so the comparison above does see it.
    gradus::set_num_threads(2);

    let mut model = Cnn::new(&mut gradus::rng(1))?;
    let mut adam = Adam::new(1e-3);
    let x = Tensor::rand([8, 1, 28, 28], &mut gradus::rng(2))?;
    let y = Tensor::from_fn([8], |i| i as i64)?;
    steps(&mut model, &mut adam, &x, &y, 10)?;
    let before = gradus::memory::stats();
    steps(&mut model, &mut adam, &x, &y, 200)?;
    let after = gradus::memory::stats();
    assert_eq!(after.live, before.live, "{before:?} then {after:?}");
    assert_eq!(after.system_allocations, before.system_allocations, "{before:?} then {after:?}");
    Ok(())
}
