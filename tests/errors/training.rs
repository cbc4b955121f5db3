//! Mistakes in the training loop: tape, backward, gradients, optimizers.

use gradus::Result;
use gradus::prelude::*;

use crate::{Table, panics_with};

type Model = (Dense, Dense);

fn model() -> Model {
    let mut rng = gradus::rng(0);
    let mut dense = |i, o| Dense::new(i, o).build(&mut rng).expect("sizes that fit");
    (dense(3, 4), dense(4, 2))
}

fn x() -> Tensor {
    Tensor::from([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
}

fn gradients(model: &Model) -> Gradients {
    let tape = Tape::new(0);
    tape.watch(model).forward(&x()).and_then(|y| y.sum().backward()).expect("a loss on a tape")
}

#[test]
fn the_tape() {
    let mut t = Table::default();
    let m = model();
    t.says(|| m.forward(&x())?.sum().backward(), "backward: the loss was not recorded; compute it from the copy that tape.watch(&model) returned");
    let tape = Tape::new(0);
    let net = tape.watch(&m);
    t.says(|| net.forward(&x())?.backward(), "backward: the loss must be a single number, but its shape is [2, 2]; reduce it first, for example with .mean() or .sum()");
    let loss = net.forward(&x()).map(|y| y.sum()).expect("shapes that fit");
    loss.backward().expect("the first backward");
    t.says(|| loss.backward(), "backward: this tape was consumed by an earlier backward; make a new one for the next step: let tape = Tape::new(seed)");
    t.says(|| net.forward(&x())?.sum().backward(), "backward: this tape was consumed by an earlier backward; make a new one for the next step: let tape = Tape::new(seed)");
    t.says(|| tape.watch(&m).forward(&x())?.sum().backward(), "backward: this tape was consumed by an earlier backward; make a new one for the next step: let tape = Tape::new(seed)");
    let (a, b) = (Tape::new(0), Tape::new(1));
    t.says(|| a.watch(&m).forward(&x())?.try_add(&b.watch(&m).forward(&x())?), "add: the inputs were recorded on two different tapes; watch everything that takes part on one tape, or detach one side");
    t.says(|| a.leaf(&x()).matmul(&b.leaf(&x()).t()?), "matmul: the inputs were recorded on two different tapes; watch everything that takes part on one tape, or detach one side");
    let y = a.leaf(&x());
    t.says(
        || y.backward_with(&Tensor::ones([3])?),
        "backward_with: the cotangent has shape [3], the output [2, 3]",
    );
    let panic = panics_with(|| a.leaf(&x()) + b.leaf(&x()));
    assert_eq!(
        panic,
        "add: the inputs were recorded on two different tapes; watch everything that takes part on one tape, or detach one side"
    );
}

#[test]
fn the_step() {
    let mut t = Table::default();
    let mut m = model();
    let tape = Tape::new(0);
    let net = tape.watch(&m);
    let grads = net.0.forward(&x()).and_then(|y| y.sum().backward()).expect("a loss");
    t.says(|| Sgd::new(0.1).step(&mut m, &grads), "step: no gradient for 2 of the watched parameters: 1.weight, 1.bias; did the forward pass leave them out? To update only the others, call step_partial");
    t.says(|| Sgd::new(0.1).step(&mut model(), &grads), "step: these gradients are not of this model: none of its 4 parameters was watched on their tape");
    let mut copy = net.clone();
    t.says(|| Adam::new(0.1).step(&mut copy, &gradients(&m)), "step: this model is the copy that tape.watch returned; update the model itself, which the copy was made from");
    for lr in [f64::NAN, f64::INFINITY, -0.1] {
        let words =
            format!("step: Sgd: the learning rate is {lr}; it must be finite and not negative");
        t.says(|| Sgd::new(lr).step(&mut m.clone(), &gradients(&m)), &words);
    }
    t.says(
        || Adam::new(f64::NAN).step(&mut m.clone(), &gradients(&m)),
        "step: Adam: the learning rate is NaN; it must be finite and not negative",
    );
    let mut adam = Adam::new(0.1);
    adam.set_lr(-1.0);
    t.says(
        || adam.step(&mut m.clone(), &gradients(&m)),
        "step: Adam: the learning rate is -1; it must be finite and not negative",
    );
    t.says(
        || Sgd::new(0.1).momentum(f64::NAN).step(&mut m.clone(), &gradients(&m)),
        "step: Sgd: the momentum is NaN; it must be finite and not negative",
    );
    t.says(
        || Sgd::new(0.1).nesterov().step(&mut m.clone(), &gradients(&m)),
        "step: Sgd: the momentum is 0; it must be above 0 for Nesterov's momentum",
    );
    t.says(
        || Sgd::new(0.1).weight_decay(-1.0).step(&mut m.clone(), &gradients(&m)),
        "step: Sgd: the weight decay is -1; it must be finite and not negative",
    );
    t.says(
        || Adam::new(0.1).betas(0.9, 1.0).step(&mut m.clone(), &gradients(&m)),
        "step: Adam: β₂ is 1; it must be at least 0 and below 1",
    );
    t.says(
        || Adam::new(0.1).eps(-1.0).step(&mut m.clone(), &gradients(&m)),
        "step: Adam: ε is -1; it must be finite and not negative",
    );
    t.says(
        || Adam::new(0.1).step_where(&mut m.clone(), &gradients(&m), |p| p == "nothing"),
        "step_where: the path of no parameter of this model is accepted",
    );
    let other: Dense = Dense::new(3, 4).build(&mut gradus::rng(9)).expect("a layer");
    let mut reshaped = m.clone();
    reshaped.0.weight.set(Tensor::zeros([5, 3]).expect("small"));
    t.says(
        || Sgd::new(0.1).step(&mut reshaped, &gradients(&m)),
        "step: shapes differ: 0.weight: parameter [5, 3], gradient [4, 3]",
    );
    let mut g = gradients(&m);
    t.says(
        || g.set(&other.weight, x()),
        "Gradients::set: the gradient has shape [2, 3], the parameter [4, 3]",
    );
}

#[test]
fn gradients_as_values() {
    let mut t = Table::default();
    let m = model();
    let mut g = gradients(&m);
    t.says(|| g.clip_norm(-1.0), "clip_norm: the largest norm is -1; it must be 0 or more");
    t.says(|| g.clip_norm(f64::NAN), "clip_norm: the largest norm is NaN; it must be 0 or more");
    t.says(|| g.clip_value(f64::NAN), "clip_value: the largest value is NaN; it must be 0 or more");
    t.says(|| g.norm_p(0.0), "norm_p: p is 0; it must be above 0, perhaps infinite");
    let nan = |m: &Model| -> Result<Gradients> {
        let tape = Tape::new(0);
        (tape.watch(m).forward(&x())? * f32::NAN).sum().backward()
    };
    t.says(|| nan(&m)?.clip_norm(1.0), "clip_norm: the norm of the gradients is NaN; check_finite(&model) tells which parameter it comes from");
    t.says(|| nan(&m)?.check_finite(&m), "check_finite: the gradients of these parameters are not finite: 0.weight (12 of 12 values), 0.bias (4 of 4 values), 1.weight (8 of 8 values), 1.bias (2 of 2 values)");
}

#[test]
fn penalties() {
    let mut t = Table::default();
    let m = model();
    t.says(
        || L1::new(-1.0).penalty::<f32>(&m),
        "penalty: L1: λ is -1; it must be finite and not negative",
    );
    t.says(
        || L2::new(f64::NAN).penalty::<f32>(&m),
        "penalty: L2: λ is NaN; it must be finite and not negative",
    );
    t.says(
        || ElasticNet::new(0.1, 1.5).penalty::<f32>(&m),
        "penalty: ElasticNet: the ratio is 1.5; it must be from 0 to 1",
    );
    t.says(
        || L2::new(0.1).penalty_where::<f32>(&m, |p| p == "wieght"),
        "penalty: no parameter to penalise: the model has none whose path is accepted",
    );
    t.says(|| L2::new(0.1).penalty::<f64>(&m), "penalty: the parameter 1.bias is not f64");
}
