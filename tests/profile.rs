//! What a profile counts, against numbers worked out by hand.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gradus::nn::{LSTM, recompute};
use gradus::prelude::*;
use gradus::profile::{LayerCost, Phase, Profile, Report, layer, record};

/// Memory is that of all threads: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

fn calls(report: &Report, name: &str) -> [u64; 3] {
    [Phase::Forward, Phase::Backward, Phase::Update].map(|phase| report.op(name, phase).calls)
}

fn flops(report: &Report, name: &str) -> [u64; 2] {
    [Phase::Forward, Phase::Backward].map(|phase| report.op(name, phase).flops)
}

fn of<'a>(report: &'a Report, path: &str) -> &'a LayerCost {
    report
        .layers()
        .iter()
        .find(|l| l.path == path)
        .unwrap_or_else(|| panic!("no {path} in\n{report}"))
}

#[derive(Module, Clone)]
struct Mlp {
    fc1: Dense,
    fc2: Dense,
}

impl Mlp {
    fn new() -> Result<Self> {
        let mut rng = gradus::rng(0);
        Ok(Mlp {
            fc1: Dense::new(64, 32).build(&mut rng)?,
            fc2: Dense::new(32, 4).build(&mut rng)?,
        })
    }
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.fc2.forward(&self.fc1.forward(x)?.relu())
    }
}

/// Calls, floating-point operations, bytes and layers of a training step; times that add up.
#[test]
fn a_training_step() -> Result<()> {
    let _alone = alone();
    let mut model = Mlp::new()?;
    let (x, y) = (Tensor::ones([16, 64])?, Tensor::zeros([16, 4])?);
    let mut adam = Adam::new(1e-3);
    let (loss, report) = record(|| {
        let loss = Tape::new(0).watch(&model).forward(&x)?.mse(&y)?;
        adam.step(&mut model, &loss.backward()?)?;
        loss.item()
    })?;
    assert!(loss > 0.0);
    assert_eq!(calls(&report, "Dense"), [2, 2, 0]);
    assert_eq!(calls(&report, "relu"), [1, 1, 0]);
    assert_eq!(calls(&report, "mse"), [1, 1, 0]);
    assert_eq!(calls(&report, "Adam"), [0, 0, 4]);
    // Nobody asks for the gradient of the images, so the first layer has one product backward.
    let (first, second) = (2 * 16 * 64 * 32, 2 * 16 * 32 * 4);
    assert_eq!(flops(&report, "Dense"), [first + second, first + 2 * second]);
    assert_eq!(flops(&report, "relu"), [0, 0]);
    // Inputs, weight, bias, output; of Adam, the parameter and two arrays read and written, and the gradient.
    let dense = 16 * 64 + 32 * 64 + 32 + 16 * 32 + 16 * 32 + 4 * 32 + 4 + 16 * 4;
    assert_eq!(report.op("Dense", Phase::Forward).bytes, 4 * dense);
    assert_eq!(report.op("Adam", Phase::Update).bytes, 4 * 7 * model.num_params() as u64);

    let fc1 = of(&report, "fc1");
    assert_eq!([fc1.forward.calls, fc1.backward.calls, fc1.update.calls], [1, 1, 2]);
    assert_eq!([fc1.forward.flops, fc1.backward.flops], [first, first]);
    assert_eq!(of(&report, "fc2").backward.flops, 2 * second);
    assert_eq!(of(&report, "(no layer)").all().calls, 4, "relu and mse, both ways:\n{report}");

    let ops: Duration = report.ops().iter().map(|o| o.cost.time).sum();
    let layers: Duration = report.layers().iter().map(|l| l.all().time).sum();
    assert_eq!(ops, layers);
    assert_eq!(ops + report.outside(), report.total());
    assert!(ops > Duration::ZERO && report.outside() > Duration::ZERO);
    assert!(report.ops().is_sorted_by(|a, b| a.cost.time >= b.cost.time));
    Ok(())
}

/// What no tape records is seen as well: inference, operators in place, integers, views.
#[test]
fn unrecorded_operations() -> Result<()> {
    let _alone = alone();
    let model = Mlp::new()?;
    let x = Tensor::ones([16, 64])?;
    let (_, report) = record(|| model.forward(&x))?;
    assert_eq!((calls(&report, "Dense")[0], calls(&report, "relu")[0]), (2, 1));
    assert_eq!(of(&report, "(unnamed)").forward.calls, 2, "no walk has met the parameters yet");
    model.summary();
    let (_, report) = record(|| model.forward(&x))?;
    assert_eq!(of(&report, "fc1").forward.calls, 1);
    let (_, report) = record(|| model.fc1.forward(&x))?;
    assert_eq!(of(&report, "fc1").forward.calls, 1);

    let (y, report) = record(|| {
        let mut y = (x.t()?.reshape([1024])? + 1.0) * 2.0 - &Tensor::scalar(1.0);
        y += &Tensor::scalar(2.0);
        y *= 0.5;
        let count = Tensor::from([1i64, 2]) + Tensor::from([1i64, 2]);
        Ok((-y).exp().sum().item()? + count.get([0])? as f32)
    })?;
    assert!(y > 2.0);
    for (name, n) in [("add", 3), ("mul", 2), ("sub", 1), ("neg", 1), ("exp", 1), ("sum", 1)] {
        assert_eq!(calls(&report, name)[0], n, "{name} in\n{report}");
    }
    assert_eq!(report.op("permute", Phase::Forward).bytes, 0, "a view moves nothing:\n{report}");
    assert_eq!(report.op("reshape", Phase::Forward).bytes, 8 * 1024, "this one copies");
    assert_eq!(report.op("sub", Phase::Forward).bytes, 8 * 1024 + 4);
    Ok(())
}

/// The rule of a product calls products, which are part of it.
#[test]
fn what_an_operation_calls_counts_once() -> Result<()> {
    let _alone = alone();
    let x: Tensor<f64> = Tensor::ones([3, 4, 5])?;
    let w = Tensor::ones([3, 5, 6])?;
    let (_, report) = record(|| {
        let tape = Tape::new(0);
        tape.leaf(&x).matmul(&tape.leaf(&w))?.sum().backward()
    })?;
    assert_eq!(calls(&report, "matmul"), [1, 1, 0]);
    let product = 2 * 3 * 4 * 5 * 6;
    assert_eq!(flops(&report, "matmul"), [product, 2 * product]);
    // Two gradients of one tensor are added.
    let (_, report) = record(|| {
        let x = Tape::new(0).leaf(&x);
        x.matmul(&x.transpose(1, 2)?)?.sum().backward()
    })?;
    assert_eq!(calls(&report, "sum of gradients"), [0, 1, 0]);
    // Parts of a tensor: the gradients of the second and third go into the place that the first one made.
    let (_, report) = record(|| {
        let x = Tape::new(0).leaf(&x);
        let [a, b, c] = [0, 1, 2].map(|i| x.narrow(0, i, 1));
        (a? * b? * c?).sum().backward()
    })?;
    assert_eq!(calls(&report, "slice"), [3, 3, 0], "{report}");
    Ok(())
}

/// Floating-point operations of the other products.
#[test]
fn textbook_counts() -> Result<()> {
    let _alone = alone();
    let mut rng = gradus::rng(0);
    let tape = Tape::new(0);
    let conv: Conv2d = Conv2d::new(4, 8, 3).build(&mut rng)?;
    let x = Tensor::ones([2, 4, 10, 12])?;
    let (_, report) = record(|| tape.watch(&conv).forward(&x)?.sum().backward())?;
    let product = 2 * 2 * (8 * 8 * 10) * (4 * 3 * 3);
    assert_eq!(flops(&report, "conv2d"), [product, product]);
    assert_eq!(of(&report, "(the model itself)").backward.calls, 1);

    // 6 queries look at 6 keys of width 4, without and with a causal mask.
    for (causal, pairs) in [(false, 36), (true, 21)] {
        let mut options = Attention::new();
        if causal {
            options = options.causal();
        }
        let (_, report) = record(|| {
            let x = Tape::new(0).leaf(&Tensor::<f32>::ones([2, 3, 6, 4])?);
            x.scaled_dot_product_attention(&x, &x, &options)?.sum().backward()
        })?;
        let product = 2 * (2 * 3) * pairs * 4;
        let name = "scaled_dot_product_attention";
        assert_eq!(flops(&report, name), [2 * product, 5 * product]);
    }

    let lstm: LSTM = LSTM::new(3, 5).build(&mut rng)?;
    let x = Tensor::ones([7, 2, 3])?;
    let (_, report) = record(|| Tape::new(0).watch(&lstm).forward(&x)?.sum().backward())?;
    let [input, state] = [3, 5].map(|k| 2 * 7 * 2 * (4 * 5) * k);
    assert_eq!(flops(&report, "lstm"), [input + state, input + 2 * state]);
    Ok(())
}

/// The most that is live at once, per step.
#[test]
fn memory_of_a_step() -> Result<()> {
    let _alone = alone();
    const BYTES: usize = 8 << 20;
    let zeros = || Tensor::<u8>::zeros([BYTES]);
    let kept = zeros()?;
    let mut profile = Profile::start();
    let live = gradus::memory::stats().live;
    assert!(live >= BYTES);
    drop((zeros()?, zeros()?));
    profile.step();
    drop(zeros()?);
    profile.step();
    let report = profile.finish();
    let peaks: Vec<usize> = report.steps().iter().map(|s| s.peak - live).collect();
    assert_eq!(peaks, [2 * BYTES, BYTES]);
    assert_eq!(report.peak(), live + 2 * BYTES);
    drop(kept);
    Ok(())
}

/// Layers of one's own, names for parts of a program, and the innermost wins.
#[test]
fn layers() -> Result<()> {
    let _alone = alone();
    let model = Mlp::new()?;
    let x = Tensor::ones([16, 64])?;
    let (_, report) = record(|| {
        let net = Tape::new(0).watch(&model);
        let y = layer("whole", || Ok::<_, Error>(net.forward(&x)?.tanh()))?;
        layer("elsewhere", || y.sum().backward())
    })?;
    let whole = of(&report, "whole");
    assert_eq!([whole.forward.calls, whole.backward.calls], [2, 2], "relu and tanh:\n{report}");
    assert_eq!(of(&report, "elsewhere").forward.calls, 1, "the sum");
    assert_eq!(
        of(&report, "elsewhere").backward.calls,
        1,
        "its own, not all that was called there"
    );
    assert_eq!(of(&report, "fc1").backward.calls, 1);
    Ok(())
}

/// A recomputed segment is seen from inside, twice forward.
#[test]
fn recomputed() -> Result<()> {
    let _alone = alone();
    let model = Mlp::new()?;
    let x = Tensor::ones([16, 64])?;
    let (_, report) = record(|| {
        let net = Tape::new(0).watch(&model);
        recompute(&net, [&x], |m, [x]| m.forward(x))?.sum().backward()
    })?;
    assert_eq!(calls(&report, "Dense"), [4, 2, 0]);
    assert_eq!(calls(&report, "recompute"), [0; 3]);
    assert_eq!(of(&report, "fc2").forward.calls, 2);
    Ok(())
}

/// Only this thread and those that join; nothing before and after; an inner profile is part of the outer one.
#[test]
fn who_is_seen() -> Result<()> {
    let _alone = alone();
    let x: Tensor = Tensor::ones([8])?;
    let outer = Profile::start();
    std::thread::scope(|s| {
        s.spawn(|| x.exp());
    });
    std::thread::scope(|s| {
        let handle = outer.handle();
        let x = &x;
        s.spawn(move || handle.run(|| x.ln()));
    });
    let (_, inner) = record(|| Ok(outer.handle().run(|| x.sqrt())))?;
    assert_eq!(inner.ops().len(), 0, "that was told to the outer one");
    let (_, inner) = record(|| Ok(x.tanh()))?;
    assert_eq!(calls(&inner, "tanh")[0], 1);
    assert_eq!(inner.ops().len(), 1);
    assert!(x.try_add(&Tensor::ones([3])?).is_err());
    let outer = outer.finish();
    let seen: std::collections::BTreeSet<&str> = outer.ops().iter().map(|o| o.name).collect();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["ln", "sqrt", "tanh"]);
    let (_, after) = record(|| Ok(()))?;
    assert!(after.ops().is_empty() && after.layers().is_empty());
    Ok(())
}

/// The two tables, in full and cut.
#[test]
fn printed() -> Result<()> {
    let _alone = alone();
    let x: Tensor = Tensor::ones([64, 64])?;
    let (_, report) = record(|| layer("product", || x.matmul(&x))?.relu().exp().sum().item())?;
    let text = report.to_string();
    for part in [
        "operation",
        "GFLOP/s",
        "matmul",
        "outside of operations",
        "layer",
        "product",
        "\n1 step of",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let short = format!("{report:.1}");
    assert!(short.contains("\n3 more ") && short.contains("\nand 1 more\n"), "{short}");
    Ok(())
}
