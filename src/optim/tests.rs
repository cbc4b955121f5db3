use super::*;
use crate::prelude::*;

/// The gradients of a model's parameters, as if a loss had them: `(path, values)`.
fn gradients<M: Module + Clone>(model: &M, of: &[(&str, Tensor<f64>)]) -> Gradients {
    let tape = Tape::new(0);
    let net = tape.watch(model);
    let mut grads = None;
    net.for_each_param(|path, p| {
        let crate::nn::ParamRef::F64(p) = p else { return };
        for (_, g) in of.iter().filter(|(name, _)| *name == path) {
            let grads = grads.get_or_insert_with(|| p.backward_with(&p.zeros_like()).unwrap());
            grads.set(p, g.clone()).unwrap();
        }
    });
    grads.unwrap()
}

fn param<const N: usize>(values: [f64; N]) -> Param<f64> {
    Param::new(Tensor::from(values))
}

fn close(a: &[f64], b: &[f64]) {
    assert!(
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-12 + 1e-9 * b.abs()),
        "{a:?} is not {b:?}"
    );
}

#[test]
fn plain_descent_by_hand() {
    let mut w = param([1.0, 2.0]);
    let grads = gradients(&w, &[("", Tensor::from([10.0, -20.0]))]);
    Sgd::new(0.1).weight_decay(0.5).step(&mut w, &grads).unwrap();
    close(&w.to_vec(), &[1.0 - 0.1 * 10.5, 2.0 + 0.1 * 19.0]);
}

#[test]
fn the_first_step_of_adam_has_the_length_of_the_rate() {
    let mut w = param([1.0, 2.0, 3.0]);
    let grads = gradients(&w, &[("", Tensor::from([10.0, -1e-3, 0.0]))]);
    Adam::new(0.01).eps(0.0).betas(0.5, 0.5).step(&mut w, &grads).unwrap();
    close(&w.to_vec()[..2], &[0.99, 2.01]);
    assert!(w.to_vec()[2].is_nan(), "0/0 without ε stays visible");
}

#[test]
fn shared_memory_is_left_alone_and_own_memory_is_reused() {
    let mut w = param([1.0, 2.0]);
    let before = w.tensor().clone();
    let grads = gradients(&w, &[("", Tensor::from([1.0, 1.0]))]);
    let mut sgd = Sgd::new(1.0);
    sgd.step(&mut w, &grads).unwrap();
    assert_eq!(before.to_vec(), [1.0, 2.0]);
    assert_eq!(w.to_vec(), [0.0, 1.0]);
    let at = w.as_slice().unwrap().as_ptr();
    sgd.step(&mut w, &grads).unwrap();
    assert_eq!(at, w.as_slice().unwrap().as_ptr());
    assert_eq!(w.to_vec(), [-1.0, 0.0]);
}

#[test]
fn large_arrays_in_both_ways_agree_with_the_small_way() {
    let n = 40_000;
    let values = Tensor::<f64>::from_fn([n], |i| (i as f64 * 0.7).sin()).unwrap();
    let g = Tensor::<f64>::from_fn([n], |i| (i as f64 * 0.3).cos()).unwrap();
    let mut w = Param::new(values.clone());
    let grads = gradients(&w, &[("", g.clone())]);
    let mut adam = Adam::new(0.1);
    for _ in 0..3 {
        adam.step(&mut w, &grads).unwrap(); // the first out of place (`values` shares), the others in place
    }
    let mut few = Param::new(Tensor::from(&values.to_vec()[n - 7..]));
    let grads = gradients(&few, &[("", Tensor::from(&g.to_vec()[n - 7..]))]);
    let mut adam = Adam::new(0.1);
    for _ in 0..3 {
        adam.step(&mut few, &grads).unwrap();
    }
    assert_eq!(few.to_vec(), w.to_vec()[n - 7..]);
}

#[test]
fn any_layout() {
    let grid = |k: f64| Tensor::<f64>::from_fn([6], move |i| k * i as f64).unwrap();
    let turned = |t: Tensor<f64>| {
        let layout = crate::tensor::Layout::dense(&[2, 3]);
        let layout = crate::tensor::Layout {
            shape: layout.shape.iter().rev().copied().collect(),
            strides: layout.strides.iter().rev().copied().collect(),
            offset: 0,
        };
        t.with_layout(layout)
    };
    let mut w = Param::new(turned(grid(1.0)));
    assert!(w.as_slice().is_none());
    let grads = gradients(&w, &[("", turned(grid(10.0)))]);
    Sgd::new(0.5).step(&mut w, &grads).unwrap();
    assert_eq!(w.shape(), [3, 2]);
    assert_eq!(w.to_vec(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0].map(|v| v - 5.0 * v));
}

#[test]
fn empty_and_rank_0() {
    let mut model =
        (Param::new(Tensor::<f64>::zeros([0, 3]).unwrap()), Param::new(Tensor::scalar(1.0f64)));
    let grads =
        gradients(&model, &[("0", Tensor::zeros([0, 3]).unwrap()), ("1", Tensor::scalar(2.0))]);
    Adam::new(0.5).eps(0.0).step(&mut model, &grads).unwrap();
    close(&model.1.to_vec(), &[0.5]);
}

#[test]
fn a_forgotten_parameter_is_named_and_nothing_changes() {
    let mut model = (param([1.0]), (param([2.0]), param([3.0])));
    let grads = gradients(&model, &[("1.0", Tensor::from([1.0]))]);
    let mut sgd = Sgd::new(0.5);
    let e = sgd.step(&mut model, &grads).unwrap_err();
    assert_eq!(
        e.to_string(),
        "step: no gradient for 2 of the watched parameters: 0, 1.1; did the forward pass leave them out? To update only the others, call step_partial"
    );
    assert_eq!((model.1.0.to_vec(), sgd.steps()), (vec![2.0], 0));
    sgd.step_partial(&mut model, &grads).unwrap();
    assert_eq!(model.1.0.to_vec(), [1.5]);
    assert_eq!((model.0.to_vec(), model.1.1.to_vec()), (vec![1.0], vec![3.0]));
}

#[test]
fn frozen_parameters_are_passed_over() {
    let mut model = (param([1.0]), param([2.0]));
    let tape = Tape::new(0);
    let net = tape.watch_where(&model, |path| path == "1");
    let grads = net.1.backward().unwrap();
    Sgd::new(0.5).step(&mut model, &grads).unwrap();
    assert_eq!((model.0.to_vec(), model.1.to_vec()), (vec![1.0], vec![1.5]));
}

#[test]
fn groups_by_path() {
    let mut model = (param([1.0]), param([2.0]));
    let grads = gradients(&model, &[("0", Tensor::from([1.0]))]);
    Sgd::new(0.5).step_where(&mut model, &grads, |path| path == "0").unwrap();
    assert_eq!((model.0.to_vec(), model.1.to_vec()), (vec![0.5], vec![2.0]));
    let e = Sgd::new(0.5).step_where(&mut model, &grads, |path| path == "2").unwrap_err();
    assert_eq!(e.to_string(), "step_where: the path of no parameter of this model is accepted");
}

#[test]
fn tied_parameters_move_once() {
    let w = param([1.0]);
    let mut model = (w.clone(), w);
    let grads = gradients(&model, &[("0", Tensor::from([1.0]))]);
    let mut sgd = Sgd::new(0.25);
    sgd.step(&mut model, &grads).unwrap();
    assert_eq!((model.0.to_vec(), model.1.to_vec()), (vec![0.75], vec![0.75]));
    sgd.step_where(&mut model, &grads, |path| path == "1").unwrap();
    assert_eq!((model.0.to_vec(), model.1.to_vec()), (vec![0.5], vec![0.5]));
}

#[test]
fn gradients_of_another_model_and_the_watched_copy_are_refused() {
    let (mut a, b) = (param([1.0]), param([1.0]));
    let grads = gradients(&b, &[("", Tensor::from([1.0]))]);
    let e = Sgd::new(0.5).step(&mut a, &grads).unwrap_err();
    assert!(matches!(e, Error::ForeignGradients { op: "step", parameters: 1 }));
    let tape = Tape::new(0);
    let mut net = tape.watch(&b);
    let e = Sgd::new(0.5).step(&mut net, &grads).unwrap_err();
    assert!(e.to_string().contains("update the model itself"), "{e}");
}

#[test]
fn a_parameter_whose_shape_was_changed_is_named() {
    let mut model = (param([1.0]), param([2.0]));
    let one = || Tensor::from([1.0]);
    let grads = gradients(&model, &[("0", one()), ("1", one())]);
    model.1.set(Tensor::from([1.0, 2.0]));
    let e = Sgd::new(0.5).step(&mut model, &grads).unwrap_err();
    assert_eq!(e.to_string(), "step: shapes differ: 1: parameter [2], gradient [1]");
    assert_eq!(model.0.to_vec(), [1.0]);
}

#[test]
fn hyper_parameters_are_checked() {
    let w = param([1.0]);
    let grads = gradients(&w, &[("", Tensor::from([1.0]))]);
    let sgd = |s: Sgd| s.clone().step(&mut w.clone(), &grads).unwrap_err().to_string();
    let adam = |s: Adam| s.clone().step(&mut w.clone(), &grads).unwrap_err().to_string();
    for (got, want) in [
        (
            sgd(Sgd::new(f64::NAN)),
            "Sgd: the learning rate is NaN; it must be finite and not negative",
        ),
        (sgd(Sgd::new(-0.1)), "the learning rate is -0.1"),
        (sgd(Sgd::new(0.1).momentum(f64::INFINITY)), "the momentum is inf"),
        (sgd(Sgd::new(0.1).nesterov()), "the momentum is 0; it must be above 0 for Nesterov"),
        (
            sgd(Sgd::new(0.1).momentum(0.9).dampening(0.1).nesterov()),
            "the dampening is 0.1; it must be 0",
        ),
        (sgd(Sgd::new(0.1).weight_decay(-1.0)), "the weight decay is -1"),
        (adam(Adam::new(f64::INFINITY)), "Adam: the learning rate is inf"),
        (adam(Adam::new(0.1).betas(1.0, 0.9)), "β₁ is 1; it must be at least 0 and below 1"),
        (adam(Adam::new(0.1).betas(0.9, f64::NAN)), "β₂ is NaN"),
        (adam(Adam::new(0.1).eps(-1.0)), "ε is -1"),
    ] {
        assert!(got.starts_with("step: ") && got.contains(want), "{got}");
    }
    let mut sgd = Sgd::new(0.1);
    sgd.set_lr(0.5);
    sgd.step(&mut w.clone(), &grads).unwrap();
    assert_eq!((sgd.lr(), sgd.steps()), (0.5, 1));
}

#[test]
fn names_of_bad_gradients_and_norms() {
    let model = (param([1.0, 2.0]), param([2.0]));
    let grads =
        gradients(&model, &[("0", Tensor::from([f64::NAN, 1.0])), ("1", Tensor::from([-3.0]))]);
    let e = grads.check_finite(&model).unwrap_err();
    assert_eq!(
        e.to_string(),
        "check_finite: the gradients of these parameters are not finite: 0 (1 of 2 values)"
    );
    assert_eq!(grads.norms(&model)[1], ("1".into(), 3.0));
}
