//! L-BFGS, with and without a line search.

use std::collections::VecDeque;
use std::path::Path;

use super::export::{Named, Reader, Saved, Stateful, Writer};
use super::flat::{flatten_gradients, flatten_params, set_flat_params};
use super::rule::{require, require_rate};
use super::wolfe::{Point, strong_wolfe};
use crate::autograd::{AnyTensor, Gradients};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::nn::Module;
use crate::tensor::Tensor;

/// L-BFGS (Liu and Nocedal 1989): steps along -H·g, where H is the inverse Hessian as far as the last `history` steps and changes of the gradient tell it.
/// For full batches and small models, where it needs far fewer evaluations than first-order methods.
///
/// It has to evaluate the loss several times a step, so it takes a function of the model:
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::Lbfgs;
/// let x: Tensor<f64> = Tensor::linspace(-1.0, 1.0, 20)?.reshape([20, 1])?;
/// let y = &x * 3.0 + 2.0;
/// let mut model: Dense<f64> = Dense::new(1, 1).build(&mut gradus::rng(0))?;
/// let mut lbfgs = Lbfgs::new(1.0).strong_wolfe();
/// let before = lbfgs.step(&mut model, |model| {
///     let loss = Tape::new(0).watch(model).forward(&x)?.mse(&y)?;
///     Ok((loss.item()?, loss.backward()?))
/// })?;
/// assert!(before > 1.0 && (model.weight.item()? - 3.0).abs() < 1e-6);
/// # Ok::<(), Error>(())
/// ```
///
/// By default 20 iterations a step, at most 25 evaluations (the last line search may take one more, as in PyTorch), a history of 100, no line search (each iteration moves by the learning rate), and it stops early
/// when the largest gradient is at most 1e-7 or the changes fall below 1e-9, as in PyTorch. It computes in f64, whatever the parameters are. Parameters
/// that are not watched have gradient 0 and stay.
#[derive(Clone, Debug)]
pub struct Lbfgs {
    lr: f64,
    max_iter: usize,
    max_eval: Option<usize>,
    tolerance_grad: f64,
    tolerance_change: f64,
    history: usize,
    line_search: bool,
    maximize: bool,
    memory: Memory,
}

/// What a step leaves for the next.
#[derive(Clone, Debug, Default)]
struct Memory {
    iterations: u64,
    evaluations: u64,
    /// The last direction, how far it went, and the gradient at its beginning.
    d: Vec<f64>,
    t: f64,
    before: Vec<f64>,
    /// Changes of the gradient and steps, oldest first.
    pairs: VecDeque<(Vec<f64>, Vec<f64>)>,
    /// The scale of the first guess of H.
    scale: f64,
}

impl Lbfgs {
    /// With this learning rate, usually 1.
    pub fn new(lr: f64) -> Self {
        Lbfgs {
            lr,
            max_iter: 20,
            max_eval: None,
            tolerance_grad: 1e-7,
            tolerance_change: 1e-9,
            history: 100,
            line_search: false,
            maximize: false,
            memory: Memory::default(),
        }
    }

    /// The most iterations of a step.
    pub fn max_iter(mut self, n: usize) -> Self {
        self.max_iter = n;
        self
    }

    /// The most evaluations of a step; by default 1.25 times the iterations.
    pub fn max_eval(mut self, n: usize) -> Self {
        self.max_eval = Some(n);
        self
    }

    /// The step ends where no element of the gradient is larger than this.
    pub fn tolerance_grad(mut self, tolerance: f64) -> Self {
        self.tolerance_grad = tolerance;
        self
    }

    /// The step ends where the loss and the parameters change by less than this.
    pub fn tolerance_change(mut self, tolerance: f64) -> Self {
        self.tolerance_change = tolerance;
        self
    }

    /// How many past steps are remembered.
    pub fn history(mut self, n: usize) -> Self {
        self.history = n;
        self
    }

    /// Searches along each direction for a point that fulfils the strong Wolfe conditions (c₁ = 1e-4, c₂ = 0.9).
    pub fn strong_wolfe(mut self) -> Self {
        self.line_search = true;
        self
    }

    /// Climbs instead of descending.
    pub fn maximize(mut self) -> Self {
        self.maximize = true;
        self
    }

    /// The learning rate.
    pub fn lr(&self) -> f64 {
        self.lr
    }

    /// Sets the learning rate.
    pub fn set_lr(&mut self, lr: f64) {
        self.lr = lr;
    }

    /// How often the loss was evaluated, in all steps.
    pub fn evaluations(&self) -> u64 {
        self.memory.evaluations
    }

    fn check(&self) -> Result<()> {
        const NAME: &str = "Lbfgs";
        require_rate(NAME, "the learning rate", self.lr)?;
        require_rate(NAME, "the tolerance of the gradient", self.tolerance_grad)?;
        require_rate(NAME, "the tolerance of changes", self.tolerance_change)?;
        require(self.history > 0, NAME, "the history", 0.0, "at least 1")
    }

    /// Up to `max_iter` iterations. `evaluate` computes the loss of a model and its gradients; what comes back is the loss before the step.
    ///
    /// # Errors
    /// [`Error::Argument`] if a hyper-parameter is out of its range or `model` is a watched copy, [`Error::ForeignGradients`] if the gradients are of another
    /// model, and whatever `evaluate` says. The model then stands at the last point that was evaluated.
    pub fn step<M: Module, T: Float>(
        &mut self,
        model: &mut M,
        mut evaluate: impl FnMut(&M) -> Result<(T, Gradients)>,
    ) -> Result<f64> {
        self.check()?;
        let sign = if self.maximize { -1.0 } else { 1.0 };
        let mut evaluate = |model: &M| -> Result<(f64, Vec<f64>)> {
            let (loss, grads) = evaluate(model)?;
            let mut g = flatten_gradients(model, &grads)?;
            g.iter_mut().for_each(|g| *g *= sign);
            Ok((loss.as_f64() * sign, g))
        };
        let (first, mut g) = evaluate(model)?;
        let mut loss = first;
        let (mut used, most) = (1, self.max_eval.unwrap_or(self.max_iter * 5 / 4));
        self.memory.evaluations += 1;
        if largest(&g) <= self.tolerance_grad {
            return Ok(first * sign);
        }
        if self.memory.d.len() != g.len() {
            // Another model, or the first step.
            self.memory = Memory { evaluations: self.memory.evaluations, ..Memory::default() };
        }
        for iteration in 1..=self.max_iter {
            self.turn(&g);
            let memory = &mut self.memory;
            memory.before.clone_from(&g);
            let loss_before = loss;
            let mut t = match memory.iterations {
                1 => (1.0 / g.iter().map(|g| g.abs()).sum::<f64>()).min(1.0) * self.lr,
                _ => self.lr,
            };
            memory.t = t;
            let slope = dot(&g, &memory.d);
            if slope > -self.tolerance_change {
                break;
            }
            let mut evaluations = 0;
            let start = flatten_params(model);
            let moved = |t: f64, d: &[f64]| -> Vec<f64> {
                start.iter().zip(d).map(|(x, d)| x + t * d).collect()
            };
            if self.line_search {
                let d = &memory.d;
                let end = strong_wolfe(
                    |t| {
                        set_flat_params(model, &moved(t, d))?;
                        evaluations += 1;
                        let (f, g) = evaluate(model)?;
                        Ok(Point { t, f, slope: dot(&g, d), g })
                    },
                    Point { t: 0.0, f: loss, slope, g },
                    t,
                    largest(d),
                    self.tolerance_change,
                    most - used,
                )?;
                (t, loss, g) = (end.t, end.f, end.g);
                set_flat_params(model, &moved(t, d))?;
            } else {
                set_flat_params(model, &moved(t, &memory.d))?;
                // At the last iteration nobody asks for the loss any more.
                if iteration != self.max_iter {
                    (loss, g) = evaluate(model)?;
                    evaluations = 1;
                }
            }
            memory.t = t;
            used += evaluations;
            memory.evaluations += evaluations as u64;
            let still = memory.t.abs() * largest(&memory.d) <= self.tolerance_change
                || (loss - loss_before).abs() < self.tolerance_change;
            if used >= most || largest(&g) <= self.tolerance_grad || still {
                break;
            }
        }
        Ok(first * sign)
    }

    /// The direction -H·g, after the last step has been remembered (the two-loop recursion of Nocedal 1980).
    fn turn(&mut self, g: &[f64]) {
        let m = &mut self.memory;
        m.iterations += 1;
        if m.iterations == 1 {
            m.d = g.iter().map(|g| -g).collect();
            m.scale = 1.0;
            return;
        }
        let y: Vec<f64> = g.iter().zip(&m.before).map(|(g, b)| g - b).collect();
        let s: Vec<f64> = m.d.iter().map(|d| d * m.t).collect();
        let ys = dot(&y, &s);
        if ys > 1e-10 {
            while m.pairs.len() >= self.history {
                m.pairs.pop_front();
            }
            m.scale = ys / dot(&y, &y);
            m.pairs.push_back((y, s));
        }
        let mut q: Vec<f64> = g.iter().map(|g| -g).collect();
        let mut shares = Vec::with_capacity(m.pairs.len());
        for (y, s) in m.pairs.iter().rev() {
            let a = dot(s, &q) / dot(y, s);
            q.iter_mut().zip(y).for_each(|(q, y)| *q -= a * y);
            shares.push(a);
        }
        q.iter_mut().for_each(|q| *q *= m.scale);
        for ((y, s), a) in m.pairs.iter().zip(shares.into_iter().rev()) {
            let b = dot(y, &q) / dot(y, s);
            q.iter_mut().zip(s).for_each(|(q, s)| *q += (a - b) * s);
        }
        m.d = q;
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The largest absolute value; a NaN wins.
fn largest(x: &[f64]) -> f64 {
    x.iter().map(|x| x.abs()).fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a })
}

impl Stateful for Lbfgs {
    #[allow(private_interfaces)]
    fn export(&self, _: &impl Module) -> Named {
        let (m, mut w) = (&self.memory, Writer::default());
        w.count("rule/Lbfgs", 1);
        w.count("iterations", m.iterations);
        w.count("evaluations", m.evaluations);
        w.count("pairs", m.pairs.len() as u64);
        w.number("settings/0/lr", self.lr);
        w.number("state/t", m.t);
        w.number("state/scale", m.scale);
        let mut put = |name: String, v: &[f64]| {
            w.put(name, Saved::Tensor(AnyTensor::F64(Tensor::from(v))));
        };
        if m.iterations > 0 {
            put("state/d".into(), &m.d);
            put("state/before".into(), &m.before);
        }
        for (k, (y, s)) in m.pairs.iter().enumerate() {
            put(format!("state/y/{k}"), y);
            put(format!("state/s/{k}"), s);
        }
        w.0
    }

    #[allow(private_interfaces)]
    fn import(&mut self, model: &impl Module, saved: &Named, path: &Path) -> Result<()> {
        let (mut r, n) = (Reader::new(saved), model.num_params());
        r.count("rule/Lbfgs");
        let mut m = Memory {
            iterations: r.count("iterations").unwrap_or(0),
            evaluations: r.count("evaluations").unwrap_or(0),
            t: r.number("state/t").unwrap_or(0.0),
            scale: r.number("state/scale").unwrap_or(1.0),
            ..Memory::default()
        };
        let lr = r.number("settings/0/lr").unwrap_or(self.lr);
        let pairs = r.count("pairs").unwrap_or(0);
        let mut vector =
            |name: String| -> Option<Vec<f64>> { r.tensor::<f64>(name, &[n]).map(|t| t.to_vec()) };
        if m.iterations > 0 {
            m.d = vector("state/d".into()).unwrap_or_default();
            m.before = vector("state/before".into()).unwrap_or_default();
        }
        // A file cannot make this loop longer than it has tensors.
        for k in 0..pairs {
            match (vector(format!("state/y/{k}")), vector(format!("state/s/{k}"))) {
                (Some(y), Some(s)) => m.pairs.push_back((y, s)),
                _ => break,
            }
        }
        let new = Lbfgs { lr, memory: m, ..self.clone() };
        if let Err(e @ Error::Argument { .. }) = new.check() {
            r.refuse(e.to_string());
        }
        r.finish(path)?;
        *self = new;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    /// 100 (y - x²)² + (1 - x)² + 10 (z - y)².
    fn valley(w: &Param<f64>) -> Result<(f64, Gradients)> {
        let w = Tape::new(0).watch(w);
        let at = |k| w.narrow(0, k, 1);
        let (x, y, z) = (at(0)?, at(1)?, at(2)?);
        let a = (&y - &x.square()).square() * 100.0 + (&x * -1.0 + 1.0).square();
        let loss = (a + (&z - &y).square() * 10.0).sum();
        Ok((loss.item()?, loss.backward()?))
    }

    /// Final points, first losses and numbers of evaluations of PyTorch 2.15.
    #[test]
    fn the_path_of_the_reference() {
        let run = |mut o: Lbfgs, steps: usize, want: [f64; 3], losses: &[f64], evaluations: u64| {
            let mut w = Param::new(Tensor::from([-1.2f64, 1.0, 0.3]));
            for (k, want) in (0..steps).zip(losses) {
                let loss = o.step(&mut w, valley).unwrap();
                assert!((loss - want).abs() < 1e-8 * want.abs(), "step {k}: {loss} {want}");
            }
            for (got, want) in w.iter().zip(want) {
                assert!((got - want).abs() < 1e-7, "{got} {want}");
            }
            assert_eq!(o.evaluations(), evaluations);
        };
        let end = [-0.3123115047279661, 0.04081426017921821, 0.043442548687778706];
        let losses = [29.1, 4.61348829622949, 3.3525673342541995];
        run(Lbfgs::new(1.0).max_iter(5).strong_wolfe(), 3, end, &losses, 18);
        let end = [-0.07157051171592549, -0.03072202288623764, 0.0478536681391504];
        let losses = [29.1, 7.509585837864766, 3.403046623981808, 3.23080663038056];
        let o = Lbfgs::new(0.5).max_iter(6).history(2).strong_wolfe();
        run(o, 4, end, &losses, 28);
        let end = [-1.1557209713680978, 1.0090325668658315, 0.3153821792267949];
        let losses = [29.1, 24.142017822506325, 22.047242993502643];
        run(Lbfgs::new(0.02).max_iter(4), 3, end, &losses, 12);
        let end = [1.0000034496061583, 1.0000069940924687, 1.0000091111572205];
        run(Lbfgs::new(1.0).max_iter(100).strong_wolfe(), 1, end, &[29.1], 47);
        let end = [-0.8569054296614431, 0.7134316161613943, 0.7214417841147328];
        let o = Lbfgs::new(1.0).max_iter(10).max_eval(4).strong_wolfe();
        run(o, 2, end, &[29.1, 9.340444030065523], 8);
    }

    #[test]
    fn climbing_and_mistakes() {
        let mut w = Param::new(Tensor::from([-1.2f64, 1.0, 0.3]));
        let mut o = Lbfgs::new(1.0).max_iter(5).strong_wolfe().maximize();
        let minus = |w: &Param<f64>| {
            let (loss, mut g) = valley(w)?;
            g.scale(-1.0);
            Ok((-loss, g))
        };
        assert!((o.step(&mut w, minus).unwrap() + 29.1).abs() < 1e-9);
        assert!((o.step(&mut w, minus).unwrap() + 4.61348829622949).abs() < 1e-8);
        let e = Lbfgs::new(f64::NAN).step(&mut w, valley).unwrap_err().to_string();
        assert_eq!(e, "step: Lbfgs: the learning rate is NaN; it must be finite and not negative");
        assert!(Lbfgs::new(1.0).history(0).step(&mut w, valley).is_err());
        let other = Param::new(Tensor::from([1.0f64, 1.0, 1.0]));
        let e = Lbfgs::new(1.0).step(&mut w, |_| valley(&other)).unwrap_err();
        assert!(matches!(e, Error::ForeignGradients { .. }));
    }

    #[test]
    fn numbers_that_are_not_finite_end_the_search() {
        let mut w = Param::new(Tensor::from([1.0f64]));
        let mut o = Lbfgs::new(1.0).strong_wolfe();
        let bad = |w: &Param<f64>| {
            let loss = (Tape::new(0).watch(w).tensor() * f64::NAN).sum();
            Ok((loss.item()?, loss.backward()?))
        };
        assert!(o.step(&mut w, bad).unwrap().is_nan());
        // The first of a line search is not counted among its tries, as in PyTorch.
        assert!(o.evaluations() <= 26, "{}", o.evaluations());
    }
}
