//! The optimizers, on the toy model of the reference kit.
//!
//! Each case is run twice: with gradients computed along the way, and with the recorded ones replayed.

use gradus::optim::{
    AdaGrad, Adadelta, Adamax, Asgd, Lamb, Lion, NAdam, Optimizer, RAdam, RmsProp, Rprop, Rule,
};
use gradus::prelude::*;
use serde_json::{Map, Value};

use crate::case::{Case, Inputs, Outputs};
use crate::dispatch::{int, ints, number};

/// The two-layer model of the optimizer cases.
#[derive(Module, Clone)]
struct Toy<T: Float> {
    w1: Param<T>,
    b1: Param<T>,
    w2: Param<T>,
}

type Step<T> = Box<dyn FnMut(&mut Toy<T>, &Gradients) -> Result<()>>;

/// Hyper-parameters by PyTorch's names, and which of them were asked for.
struct Hyper<'a>(&'a Map<String, Value>, std::cell::RefCell<Vec<&'static str>>);

impl Hyper<'_> {
    fn get(&self, name: &'static str, default: f64) -> f64 {
        self.1.borrow_mut().push(name);
        self.0.get(name).map_or(default, number)
    }
    fn pair(&self, name: &'static str, default: (f64, f64)) -> (f64, f64) {
        self.1.borrow_mut().push(name);
        self.0.get(name).map_or(default, |v| (number(&v[0]), number(&v[1])))
    }
    /// The optimizer with an option that is a flag.
    fn flag<O>(&self, name: &'static str, o: O, set: fn(O) -> O) -> O {
        self.1.borrow_mut().push(name);
        let on = self.0.get(name).is_some_and(|v| v.as_bool().unwrap());
        if on { set(o) } else { o }
    }
    fn all_known(&self) -> bool {
        self.0.keys().all(|k| self.1.borrow().contains(&&**k))
    }
}

/// The settings of `w2` as a parameter group.
fn grouped<T: Float, R: Rule + 'static>(first: Optimizer<R>, second: Optimizer<R>) -> Step<T> {
    let mut o = first.group(|path| path == "w2", |_| second);
    Box::new(move |m, g| o.step(m, g))
}

macro_rules! both {
    ($one:expr, $first:expr, $second:expr) => {{
        let (a, b) = ($one(&$first), $one(&$second));
        ($first.all_known() && $second.all_known()).then(|| grouped(a, b))
    }};
}

/// The optimizer of a case, if gradus has it with these hyper-parameters; `w2` may have some of its own.
fn stepper<T: Float>(a: &Value) -> Option<Step<T>> {
    let one = a["hyper"].as_object()?;
    let mut two = one.clone();
    if let Some(own) = a["group2"].as_object() {
        two.extend(own.clone());
    }
    let (h, h2) = (Hyper(one, Default::default()), Hyper(&two, Default::default()));
    match a["optimizer"].as_str()? {
        "sgd" => both!(sgd, h, h2),
        "adam" => both!(|h: &Hyper| adam(h, Adam::new, 0.0), h, h2),
        "adamw" => both!(|h: &Hyper| adam(h, AdamW::new, 0.01), h, h2),
        "adagrad" => both!(adagrad, h, h2),
        "rmsprop" => both!(rmsprop, h, h2),
        "adadelta" => both!(adadelta, h, h2),
        "adamax" => both!(adamax, h, h2),
        "nadam" => both!(nadam, h, h2),
        "radam" => both!(radam, h, h2),
        "lamb" => both!(lamb, h, h2),
        "lion" => both!(lion, h, h2),
        "rprop" => both!(rprop, h, h2),
        "asgd" => both!(asgd, h, h2),
        _ => None,
    }
}

fn sgd(h: &Hyper) -> Sgd {
    let o = Sgd::new(h.get("lr", 1e-3))
        .momentum(h.get("momentum", 0.0))
        .dampening(h.get("dampening", 0.0))
        .weight_decay(h.get("weight_decay", 0.0));
    h.flag("maximize", h.flag("nesterov", o, Sgd::nesterov), Sgd::maximize)
}

fn adam(h: &Hyper, new: fn(f64) -> Adam, decay: f64) -> Adam {
    let (b1, b2) = h.pair("betas", (0.9, 0.999));
    let o = new(h.get("lr", 1e-3))
        .betas(b1, b2)
        .eps(h.get("eps", 1e-8))
        .weight_decay(h.get("weight_decay", decay));
    let o = h.flag("decoupled_weight_decay", o, Adam::decoupled);
    h.flag("maximize", h.flag("amsgrad", o, Adam::amsgrad), Adam::maximize)
}

fn adagrad(h: &Hyper) -> AdaGrad {
    let o = AdaGrad::new(h.get("lr", 1e-2))
        .lr_decay(h.get("lr_decay", 0.0))
        .weight_decay(h.get("weight_decay", 0.0))
        .initial_accumulator(h.get("initial_accumulator_value", 0.0))
        .eps(h.get("eps", 1e-10));
    h.flag("maximize", o, AdaGrad::maximize)
}

fn rmsprop(h: &Hyper) -> RmsProp {
    let o = RmsProp::new(h.get("lr", 1e-2))
        .alpha(h.get("alpha", 0.99))
        .eps(h.get("eps", 1e-8))
        .weight_decay(h.get("weight_decay", 0.0))
        .momentum(h.get("momentum", 0.0));
    h.flag("maximize", h.flag("centered", o, RmsProp::centered), RmsProp::maximize)
}

fn adadelta(h: &Hyper) -> Adadelta {
    let o = Adadelta::new(h.get("lr", 1.0))
        .rho(h.get("rho", 0.9))
        .eps(h.get("eps", 1e-6))
        .weight_decay(h.get("weight_decay", 0.0));
    h.flag("maximize", o, Adadelta::maximize)
}

fn adamax(h: &Hyper) -> Adamax {
    let (b1, b2) = h.pair("betas", (0.9, 0.999));
    let o = Adamax::new(h.get("lr", 2e-3))
        .betas(b1, b2)
        .eps(h.get("eps", 1e-8))
        .weight_decay(h.get("weight_decay", 0.0));
    h.flag("maximize", o, Adamax::maximize)
}

fn nadam(h: &Hyper) -> NAdam {
    let (b1, b2) = h.pair("betas", (0.9, 0.999));
    let o = NAdam::new(h.get("lr", 2e-3))
        .betas(b1, b2)
        .eps(h.get("eps", 1e-8))
        .weight_decay(h.get("weight_decay", 0.0))
        .momentum_decay(h.get("momentum_decay", 4e-3));
    h.flag("maximize", h.flag("decoupled_weight_decay", o, NAdam::decoupled), NAdam::maximize)
}

fn radam(h: &Hyper) -> RAdam {
    let (b1, b2) = h.pair("betas", (0.9, 0.999));
    let o = RAdam::new(h.get("lr", 1e-3))
        .betas(b1, b2)
        .eps(h.get("eps", 1e-8))
        .weight_decay(h.get("weight_decay", 0.0));
    h.flag("maximize", h.flag("decoupled_weight_decay", o, RAdam::decoupled), RAdam::maximize)
}

fn lamb(h: &Hyper) -> Lamb {
    let (b1, b2) = h.pair("betas", (0.9, 0.999));
    Lamb::new(h.get("lr", 1e-3))
        .betas(b1, b2)
        .eps(h.get("eps", 1e-6))
        .weight_decay(h.get("weight_decay", 0.0))
}

fn lion(h: &Hyper) -> Lion {
    let (b1, b2) = h.pair("betas", (0.9, 0.99));
    Lion::new(h.get("lr", 1e-4)).betas(b1, b2).weight_decay(h.get("weight_decay", 0.0))
}

fn rprop(h: &Hyper) -> Rprop {
    let (minus, plus) = h.pair("etas", (0.5, 1.2));
    let (min, max) = h.pair("step_sizes", (1e-6, 50.0));
    let o = Rprop::new(h.get("lr", 1e-2)).etas(minus, plus).step_sizes(min, max);
    h.flag("maximize", o, Rprop::maximize)
}

fn asgd(h: &Hyper) -> Asgd {
    let o = Asgd::new(h.get("lr", 1e-2))
        .lambda(h.get("lambd", 1e-4))
        .alpha(h.get("alpha", 0.75))
        .t0(h.get("t0", 1e6))
        .weight_decay(h.get("weight_decay", 0.0));
    h.flag("maximize", o, Asgd::maximize)
}

/// Trains the toy model and follows its losses, gradients and weights.
pub fn run<T: Float>(case: &Case, i: &Inputs<T>) -> Option<Result<Outputs<T>>> {
    let step = stepper::<T>(&case.attrs)?;
    Some(trajectory(case, i, step))
}

fn trajectory<T: Float>(case: &Case, i: &Inputs<T>, mut step: Step<T>) -> Result<Outputs<T>> {
    let param = |name: &str| Param::new(i.get(name).clone());
    let mut model = Toy { w1: param("w1"), b1: param("b1"), w2: param("w2") };
    // The same optimizer on a second model, by recorded gradients.
    let mut replayed = Toy { w1: param("w1"), b1: param("b1"), w2: param("w2") };
    let mut replay = stepper::<T>(&case.attrs).unwrap();
    let zeroed = ints(&case.attrs["zero_grad_steps"]);
    let mut rows: Vec<(String, Vec<Tensor<T>>)> =
        ["loss", "grad_w1", "grad_b1", "grad_w2", "traj_w1", "traj_b1", "traj_w2"]
            .map(|n| (n.into(), vec![]))
            .into();
    for s in 0..int(&case.attrs["steps"]) {
        let tape = Tape::new(0);
        let net = tape.watch(&model);
        let y = i.get("x").matmul(&net.w1)?.try_add(&net.b1)?.tanh().matmul(&net.w2)?;
        let e2 = y.try_sub(i.get("t"))?.square();
        let loss = e2.try_add(&e2.square().mul_scalar(T::of(0.1)))?.mean();
        let mut grads = loss.backward()?;
        if zeroed.contains(&s) {
            grads.scale(0.0);
        }
        let g = |p: &Param<T>| grads.get(p).unwrap().clone();
        let before = [loss.detach(), g(&model.w1), g(&model.b1), g(&model.w2)];
        step(&mut model, &grads)?;
        let mut given =
            Tape::new(0).watch(&replayed).w1.backward_with(&replayed.w1.zeros_like())?;
        given.set(&replayed.w1, case.recorded("grad_w1", s)?)?;
        given.set(&replayed.b1, case.recorded("grad_b1", s)?)?;
        given.set(&replayed.w2, case.recorded("grad_w2", s)?)?;
        replay(&mut replayed, &given)?;
        for (name, p) in [("w1", &replayed.w1), ("b1", &replayed.b1), ("w2", &replayed.w2)] {
            case.expect(&format!("traj_{name}"), s, p)?;
        }
        let after = [&model.w1, &model.b1, &model.w2].map(|p| p.tensor().clone());
        for (row, t) in rows.iter_mut().zip(before.into_iter().chain(after)) {
            row.1.push(t);
        }
    }
    let stack = |(n, r): (String, Vec<Tensor<T>>)| {
        Ok((n, Tensor::stack(&r.iter().collect::<Vec<_>>(), 0)?.into()))
    };
    rows.into_iter().map(stack).collect()
}
