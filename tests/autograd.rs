//! The tape as its users meet it: what is recorded, what the gradients are, and what each slip is answered with.

use gradus::autograd::{Op, apply, gradcheck};
use gradus::prelude::*;

/// y = c·x; dx = c·g
struct Scale(f64);

impl Op<f64, 1> for Scale {
    type Saved = ();
    fn name(&self) -> &'static str {
        "scale"
    }
    fn forward(&self, [x]: [&Tensor<f64>; 1]) -> Result<(Tensor<f64>, ())> {
        Ok((Tensor::from_fn(x.shape(), |i| self.0 * x.iter().nth(i).unwrap_or(0.0))?, ()))
    }
    fn vjp(&self, _: (), g: Tensor<f64>, _: [bool; 1]) -> Result<[Option<Tensor<f64>>; 1]> {
        Ok([Some(self.forward([&g])?.0)])
    }
}

/// y = x², with a factor in the gradient that is right only if it is 2.
struct Square {
    factor: f64,
}

impl Op<f64, 1> for Square {
    type Saved = Tensor<f64>;
    fn name(&self) -> &'static str {
        "square"
    }
    fn forward(&self, [x]: [&Tensor<f64>; 1]) -> Result<(Tensor<f64>, Tensor<f64>)> {
        let y = x.iter().map(|v| v * v).collect();
        Ok((Tensor::from_vec(y, x.shape())?, x.clone()))
    }
    fn vjp(
        &self,
        x: Tensor<f64>,
        g: Tensor<f64>,
        _: [bool; 1],
    ) -> Result<[Option<Tensor<f64>>; 1]> {
        let d = x.iter().zip(g.iter()).map(|(x, g)| self.factor * x * g).collect();
        Ok([Some(Tensor::from_vec(d, x.shape())?)])
    }
}

/// A layer from `inputs` numbers to one, whose weights are all `value`.
fn layer(inputs: usize, value: f64) -> Dense<f64> {
    let init = gradus::nn::Init::Constant(value);
    Dense::new(inputs, 1).init(init).bias(false).build(&mut gradus::rng(0)).unwrap()
}

fn ones(n: usize) -> Tensor<f64> {
    Tensor::ones([n]).unwrap()
}

#[test]
fn the_loss_of_the_model_itself_was_not_recorded() {
    let model = layer(2, 1.0);
    let tape = Tape::new(0);
    let _net = tape.watch(&model);
    let e = model.forward(&ones(2)).unwrap().backward().unwrap_err();
    assert!(matches!(e, Error::NotRecorded { op: "backward" }));
    assert_eq!(
        e.to_string(),
        "backward: the loss was not recorded; compute it from the copy that tape.watch(&model) returned"
    );
}

#[test]
fn a_loss_must_be_a_single_number() {
    let model = layer(2, 1.0);
    let tape = Tape::new(0);
    let net = tape.watch(&model);
    let y = net.forward(&Tensor::ones([3, 2]).unwrap()).unwrap();
    let e = y.backward().unwrap_err();
    assert!(matches!(&e, Error::NotScalar { shape, .. } if *shape == [3, 1]));
    assert_eq!(
        e.to_string(),
        "backward: the loss must be a single number, but its shape is [3, 1]; reduce it first, for example with .mean() or .sum()"
    );
    // The refusal consumed nothing.
    let grads = y.backward_with(&Tensor::ones([3, 1]).unwrap()).unwrap();
    assert_eq!(grads.get(&model.weight).unwrap().to_vec(), [3.0, 3.0]);
}

#[test]
fn a_cotangent_of_another_shape() {
    let tape = Tape::new(0);
    let y = apply(Scale(2.0), [&tape.leaf(&ones(2))]).unwrap();
    assert!(matches!(y.backward_with(&ones(3)), Err(Error::Shape { op: "backward_with", .. })));
}

#[test]
fn a_tape_serves_one_backward() {
    let model = layer(2, 1.0);
    let tape = Tape::new(0);
    let net = tape.watch(&model);
    let loss = net.forward(&ones(2)).unwrap();
    loss.backward().unwrap();
    let e = loss.backward().unwrap_err();
    assert!(matches!(e, Error::TapeConsumed { op: "backward" }));
    assert_eq!(
        e.to_string(),
        "backward: this tape was consumed by an earlier backward; make a new one for the next step: let tape = Tape::new(seed)"
    );
    // Neither the copy from before nor a new one brings it back.
    for net in [net, tape.watch(&model)] {
        let late = net.forward(&ones(2)).unwrap();
        assert!(matches!(late.backward(), Err(Error::TapeConsumed { .. })));
    }
}

#[test]
fn two_tapes_do_not_mix() {
    let (a, b) = (Tape::new(0), Tape::new(0));
    let (x, w) = (a.leaf(&ones(2)), b.leaf(&Tensor::ones([1, 2]).unwrap()));
    let e = x.linear(&w, None).unwrap_err();
    assert!(matches!(e, Error::TapesMixed { op: "linear" }));
    assert!(e.to_string().contains("two different tapes"));
    assert!(x.linear(&w.detach(), None).is_ok());
}

#[test]
fn gradients_with_respect_to_inputs() {
    let model = layer(2, 3.0);
    let tape = Tape::new(0);
    let x = tape.leaf(&ones(2));
    let unused = tape.leaf(&ones(2));
    let grads = model.forward(&x).unwrap().backward().unwrap();
    assert_eq!(grads.wrt(&x).unwrap().to_vec(), [3.0, 3.0]);
    assert!(grads.wrt(&unused).is_none());
    assert!(grads.get(&model.weight).is_none(), "it was not watched");
    assert!(grads.wrt(&ones(2)).is_none(), "a constant");
    let other = Tape::new(0).leaf(&ones(2));
    assert!(grads.wrt(&other).is_none(), "a leaf of another tape");
}

#[test]
fn a_tensor_used_twice_gets_the_sum() {
    let tape = Tape::new(0);
    let x = tape.leaf(&Tensor::from([[2.0f64, 3.0]]));
    // x·xᵀ
    let y = x.linear(&x, None).unwrap();
    assert_eq!(y.to_vec(), [13.0]);
    assert_eq!(y.backward().unwrap().wrt(&x).unwrap().to_vec(), [4.0, 6.0]);
}

#[test]
fn a_loss_that_is_itself_a_leaf() {
    let tape = Tape::new(0);
    let x = tape.leaf(&Tensor::scalar(5.0f64));
    let grads = x.backward().unwrap();
    assert_eq!(grads.wrt(&x).unwrap().to_vec(), [1.0]);
}

#[test]
fn tied_weights_are_one_leaf_with_one_gradient_and_one_update() {
    let first = layer(1, 2.0);
    let mut model = (first.clone(), first);
    assert_eq!(model.num_params(), 1);
    let tape = Tape::new(0);
    let net = tape.watch(&model);
    assert_eq!(tape.len(), 1);
    // y = w·w·x: dy/dw = 2 w x
    let grads = net.forward(&Tensor::from([3.0])).unwrap().backward().unwrap();
    assert_eq!(grads.get(&model.0.weight).unwrap().to_vec(), [12.0]);
    assert_eq!(grads.get(&model.1.weight).unwrap().to_vec(), [12.0]);
    Sgd::new(0.1).step(&mut model, &grads).unwrap();
    for place in [&model.0, &model.1] {
        assert!((place.weight.to_vec()[0] - 0.8).abs() < 1e-12);
    }
}

#[test]
fn two_models_on_one_tape() {
    let (mut g, mut d) = (layer(1, 2.0), layer(1, 5.0));
    let tape = Tape::new(0);
    let (gn, dn) = (tape.watch(&g), tape.watch(&d));
    let y = dn.forward(&gn.forward(&Tensor::from([1.0])).unwrap()).unwrap();
    let grads = y.backward().unwrap();
    Sgd::new(1.0).step(&mut g, &grads).unwrap();
    assert_eq!((g.weight.to_vec(), d.weight.to_vec()), (vec![-3.0], vec![5.0]));
    Sgd::new(1.0).step(&mut d, &grads).unwrap();
    assert_eq!(d.weight.to_vec(), [3.0]);
}

#[test]
fn frozen_by_path() {
    let mut model = (layer(1, 2.0), layer(1, 5.0));
    let tape = Tape::new(0);
    let net = tape.watch_where(&model, |path| path.starts_with("1."));
    let grads = net.forward(&Tensor::from([1.0])).unwrap().backward().unwrap();
    assert!(grads.get(&model.0.weight).is_none());
    Sgd::new(1.0).step(&mut model, &grads).unwrap();
    assert_eq!((model.0.weight.to_vec(), model.1.weight.to_vec()), (vec![2.0], vec![3.0]));
}

#[test]
fn a_layer_that_the_forward_pass_forgot_is_named() {
    let mut model = (layer(1, 2.0), layer(1, 5.0));
    let tape = Tape::new(0);
    let net = tape.watch(&model);
    let grads = net.0.forward(&Tensor::from([1.0])).unwrap().backward().unwrap();
    let e = Sgd::new(1.0).step(&mut model, &grads).unwrap_err();
    assert!(matches!(&e, Error::MissingGradient { paths, .. } if *paths == ["1.weight"]));
    assert_eq!((model.0.weight.to_vec(), model.1.weight.to_vec()), (vec![2.0], vec![5.0]));
}

#[test]
fn clone_copies_a_buffer_and_watch_shares_it() {
    let model: Buffer<f64> = Buffer::new(ones(1));
    let tape = Tape::new(0);
    let (net, copy) = (tape.watch(&model), model.clone());
    net.set(Tensor::from([7.0]));
    assert_eq!((model.get().to_vec(), copy.get().to_vec()), (vec![7.0], vec![1.0]));
    copy.set(Tensor::from([8.0]));
    assert_eq!(model.get().to_vec(), [7.0]);
}

#[test]
fn only_the_watched_copy_trains_and_its_seeds_repeat_with_the_tape() {
    let model = (Mode::new(), Mode::new());
    let draws = |seed| {
        let net = Tape::new(seed).watch(&model);
        assert!(net.0.is_training());
        [net.0.next_seed(), net.1.next_seed(), net.0.next_seed()].map(Option::unwrap)
    };
    assert!(!model.0.is_training() && model.0.next_seed().is_none());
    assert_eq!(draws(1), draws(1));
    assert_ne!(draws(1), draws(2));
    let [a, b, c] = draws(1);
    assert!(a != b && b != c && a != c);
}

#[test]
fn what_is_computed_of_constants_is_not_recorded() {
    let tape = Tape::new(0);
    let y = apply(Scale(2.0), [&ones(2)]).unwrap();
    assert!(!y.is_recorded() && tape.is_empty());
    let y = apply(Scale(2.0), [&tape.leaf(&ones(2))]).unwrap();
    assert!(y.is_recorded() && !y.detach().is_recorded());
    assert_eq!(tape.len(), 2);
}

#[test]
fn an_operation_of_ones_own() {
    let x = Tensor::from([0.5f64, -2.0, 0.0]);
    gradcheck(|[x]| apply(Square { factor: 2.0 }, [x]), [&x]).unwrap();
    gradcheck(|[x]| apply(Scale(-3.0), [x]), [&x]).unwrap();
}

#[test]
fn gradcheck_catches_a_wrong_gradient() {
    for x in [Tensor::from([0.5f64, -2.0]), Tensor::ones([100]).unwrap()] {
        let e = gradcheck(|[x]| apply(Square { factor: 2.001 }, [x]), [&x]).unwrap_err();
        assert!(matches!(e, Error::Argument { op: "gradcheck", .. }));
        assert!(e.to_string().contains("input 0, "), "{e}");
    }
    // A gradient that is missing altogether.
    let e = gradcheck(|[x]| apply(Scale(2.0), [&x.detach()]), [&ones(2)]).unwrap_err();
    assert!(e.to_string().contains("the gradient is 0"), "{e}");
}

#[test]
fn a_backward_rule_of_the_wrong_shape_is_named() {
    struct Wrong;
    impl Op<f64, 1> for Wrong {
        type Saved = ();
        fn name(&self) -> &'static str {
            "wrong"
        }
        fn forward(&self, [x]: [&Tensor<f64>; 1]) -> Result<(Tensor<f64>, ())> {
            Ok((x.clone(), ()))
        }
        fn vjp(&self, _: (), _: Tensor<f64>, _: [bool; 1]) -> Result<[Option<Tensor<f64>>; 1]> {
            Ok([Some(Tensor::zeros([7])?)])
        }
    }
    let tape = Tape::new(0);
    let e = apply(Wrong, [&tape.leaf(&ones(1))]).unwrap().backward().unwrap_err();
    assert_eq!(
        e.to_string(),
        "wrong: its backward rule gave a gradient of shape [7] for input 0 of shape [1]"
    );
}

/// Runs in a thread with a stack of 1 MiB: whatever recurses along the chain overflows it.
fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(1 << 20).spawn(work).unwrap().join().unwrap();
}

const LONG: usize = 1_000_000;

fn long_chain(tape: &Tape) -> (Tensor<f64>, Tensor<f64>) {
    let x = tape.leaf(&Tensor::scalar(1.0));
    let y = (0..LONG).fold(x.clone(), |y, i| {
        let factor = if i % 2 == 0 { 2.0 } else { 0.5 };
        apply(Scale(factor), [&y]).unwrap()
    });
    (x, y)
}

#[test]
fn a_million_operations_go_backward_and_are_dropped() {
    on_a_small_stack(|| {
        let tape = Tape::new(0);
        let (x, y) = long_chain(&tape);
        assert_eq!(tape.len(), LONG + 1);
        let grads = y.backward().unwrap();
        assert_eq!(grads.wrt(&x).unwrap().to_vec(), [1.0]);
        assert!(tape.is_empty());
    });
    // Without a backward, by dropping the tape and the tensors in either order.
    on_a_small_stack(|| {
        let tape = Tape::new(0);
        let ends = long_chain(&tape);
        drop(tape);
        drop(ends);
    });
}

#[test]
fn everything_can_be_sent_and_shared_between_threads() {
    fn both<T: Send + Sync>() {}
    both::<Tensor>();
    both::<Tensor<bool>>();
    both::<Tape>();
    both::<Gradients>();
    both::<Param<f64>>();
    both::<Buffer<i64>>();
    both::<(Dense, Conv2d, Dropout)>();
    both::<Sequential>();
    both::<(Adam, Sgd)>();
    both::<Dataset>();
    both::<Error>();
}
