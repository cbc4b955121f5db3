//! The walk of an optimizer over a model: gradients found and missing, frozen and tied parameters.

use std::collections::HashMap;

use super::group::{Group, Settings};
use super::max_norm::limit_rows;
use super::penalty::add_signs;
use super::rule::{Rule, Update, require, require_rate};
use super::state::States;
use crate::autograd::{AnyTensor, Gradients, ParamId};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::nn::{Item, ItemMut, Module, Param, ParamRef, Visitor, VisitorMut, with_param};
use crate::profile::{Phase, Span, bytes, phase};
use crate::tensor::Tensor;

/// A [`Rule`] at work: its state for every parameter, and the walk over the model.
///
/// The usual rules have names of their own: [`Sgd`](super::Sgd), [`Adam`](super::Adam).
///
/// A parameter that was not watched is frozen and stays as it is; one that was watched and got no gradient is an error, since it was
/// probably forgotten in the forward pass. Tied parameters are updated once. Where the watched copy or anyone else still shares a
/// parameter's memory, the new values go to another buffer in the same pass; no one sees their tensors change.
///
/// Groups of parameters have hyper-parameters of their own, chosen by path:
///
/// ```
/// use gradus::prelude::*;
/// # let mut model: (Dense, Dense) = { let mut rng = gradus::rng(0); (Dense::new(2, 2).build(&mut rng)?, Dense::new(2, 1).build(&mut rng)?) };
/// # let tape = Tape::new(0);
/// # let net = tape.watch(&model);
/// # let grads = net.1.forward(&net.0.forward(&Tensor::ones([1, 2])?)?)?.sum().backward()?;
/// let mut adam = AdamW::new(1e-3)
///     .group(|path| path.ends_with("bias"), |o| o.weight_decay(0.0))
///     .group(|path| path.starts_with("0."), |o| o.with_lr(1e-4));
/// adam.step(&mut model, &grads)?;
/// adam.set_lr(5e-4);                                          // a schedule: every rate keeps its ratio to the first
/// assert!((adam.group_lr(1).unwrap() - 5e-5).abs() < 1e-12);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Optimizer<R> {
    pub(super) rule: R,
    pub(super) settings: Settings,
    pub(super) groups: Vec<Group<R>>,
    pub(super) states: States,
    pub(super) steps: u64,
}

/// Which parameters a step is about: a test of their paths, if not all.
type Which<'a> = Option<&'a dyn Fn(&str) -> bool>;

impl<R: Rule> Optimizer<R> {
    /// An optimizer for a rule of your own.
    pub fn with(rule: R) -> Self {
        let (settings, groups) = (Settings::default(), Vec::new());
        Optimizer { rule, settings, groups, states: States::default(), steps: 0 }
    }

    /// The rule and its hyper-parameters.
    pub fn rule(&self) -> &R {
        &self.rule
    }

    /// L1 penalty (Lasso): `λ·sign(p)` is added to the gradient of every parameter, before the rule sees it. With
    /// `weight_decay` this is the elastic net. [`Penalty`](super::Penalty) adds penalties to the loss instead, where one can read them.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let mut w: Param = Param::new(Tensor::from([1.0, -2.0]));
    /// let grads = Tape::new(0).watch(&w).backward_with(&Tensor::from([0.0, 0.0]))?;
    /// Sgd::new(1.0).l1(0.5).step(&mut w, &grads)?;
    /// assert_eq!(w.to_vec(), [0.5, -1.5]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn l1(mut self, lambda: f64) -> Self {
        self.settings.l1 = lambda;
        self
    }

    /// Max-norm constraint: after each step, the weights of every output unit (the rows along the first axis of a parameter with two axes or more) are
    /// scaled down to a Euclidean norm of at most `c`. See [`MaxNorm`](super::MaxNorm) for other axes.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let mut w: Param = Param::new(Tensor::from([[3.0, 4.0], [0.3, 0.4]]));
    /// let grads = Tape::new(0).watch(&w).backward_with(&w.zeros_like())?;
    /// Sgd::new(1.0).max_norm(1.0).step(&mut w, &grads)?;
    /// assert_eq!(w.to_vec(), [0.6, 0.8, 0.3, 0.4]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn max_norm(mut self, c: f64) -> Self {
        self.settings.max_norm = c;
        self
    }

    /// How many steps were made.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Updates every watched parameter of the model by its gradient.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let mut w: Param = Param::new(Tensor::from([1.0]));
    /// let grads = Tape::new(0).watch(&w).square().sum().backward()?;
    /// Sgd::new(0.25).step(&mut w, &grads)?;
    /// assert_eq!(w.to_vec(), [0.5]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// Nothing is changed if there is any:
    /// [`Error::MissingGradient`] with the path of every watched parameter that has no gradient,
    /// [`Error::ForeignGradients`] if none of the model's parameters was watched on the gradients' tape,
    /// [`Error::Argument`] if a hyper-parameter is out of its range, or if `model` is the watched copy,
    /// [`Error::Shape`] if a parameter and its gradient differ in shape.
    pub fn step(&mut self, model: &mut impl Module, grads: &Gradients) -> Result<()> {
        self.run("step", model, grads, None, false)
    }

    /// Like [`step`](Self::step), but watched parameters without a gradient are left alone.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let mut model: (Param, Param) = (Param::new(Tensor::from([1.0])), Param::new(Tensor::from([1.0])));
    /// let grads = Tape::new(0).watch(&model).0.square().sum().backward()?;
    /// assert!(Sgd::new(0.25).step(&mut model, &grads).is_err());
    /// Sgd::new(0.25).step_partial(&mut model, &grads)?;
    /// assert_eq!((model.0.to_vec(), model.1.to_vec()), (vec![0.5], vec![1.0]));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As `step`, but `MissingGradient`.
    pub fn step_partial(&mut self, model: &mut impl Module, grads: &Gradients) -> Result<()> {
        self.run("step_partial", model, grads, None, true)
    }

    /// Like [`step`](Self::step) for the parameters whose path `which` accepts, as if the model had no others.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let mut model: (Param, Param) = (Param::new(Tensor::from([1.0])), Param::new(Tensor::from([1.0])));
    /// let tape = Tape::new(0);
    /// let net = tape.watch(&model);
    /// let grads = (&*net.0 * &*net.1).sum().backward()?;
    /// Sgd::new(0.25).step_where(&mut model, &grads, |path| path == "1")?;
    /// assert_eq!((model.0.to_vec(), model.1.to_vec()), (vec![1.0], vec![0.75]));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As `step`.
    pub fn step_where(
        &mut self,
        model: &mut impl Module,
        grads: &Gradients,
        which: impl Fn(&str) -> bool,
    ) -> Result<()> {
        self.run("step_where", model, grads, Some(&which), false)
    }

    fn run(
        &mut self,
        op: &'static str,
        model: &mut impl Module,
        grads: &Gradients,
        which: Which<'_>,
        partial: bool,
    ) -> Result<()> {
        self.check()?;
        let mut seen = Seen::default();
        read(model, which, &mut |_, p| seen.look(p, grads));
        if seen.watched == 0 || seen.broken || (seen.missing && !partial) {
            return Err(complain(op, model, grads, which, seen));
        }
        self.steps += 1;
        self.states.next = 0;
        let _phase = phase(Phase::Update);
        let named = which.is_some() || !self.groups.is_empty();
        let mut tied = false;
        let mut change = |path: &str, item: ItemMut<'_>| {
            if let ItemMut::Param(p) = item
                && which.is_none_or(|accepts| accepts(path))
            {
                tied |= with_param!(ParamMut, p, p => self.update(path, p, grads));
            }
        };
        // Paths are written down only where somebody reads them.
        match named {
            true => VisitorMut::walk(model, &mut change),
            false => VisitorMut::walk_unnamed(model, &mut change),
        }
        // With a filter, the other place of a tied parameter may be one that was not accepted.
        if tied || which.is_some() {
            spread(model, which);
        }
        Ok(())
    }

    pub(super) fn check(&self) -> Result<()> {
        for (rule, settings) in self.all() {
            rule.check()?;
            require_rate(R::NAME, "the L1 penalty", settings.l1)?;
            let c = settings.max_norm;
            require(c > 0.0, R::NAME, "the largest norm", c, "above 0")?;
        }
        Ok(())
    }

    /// One parameter: finds its gradient, state and output buffer, and applies the rule. Whether it had its update
    /// already in this step, at another place of the model.
    fn update<T: Float>(&mut self, path: &str, p: &mut Param<T>, grads: &Gradients) -> bool {
        let Some(g) = grads.by_id::<T>(p.id()) else { return false };
        let state = self.states.get(p.id());
        if state.stamp == self.steps {
            return true;
        }
        state.stamp = self.steps;
        state.t += 1;
        let group = self.groups.iter().position(|g| (g.which)(path));
        let (rule, settings) = match group {
            None => (&self.rule, self.settings),
            Some(i) => (&self.groups[i].rule, self.groups[i].settings),
        };
        state.group = group;
        let _layer = p.enter_layer();
        let span = Span::open();
        state.prepare::<T>(rule, p.shape());
        let value = p.value_mut();
        if value.as_slice().is_none() {
            *value = value.dense();
        }
        let dense;
        let mut g = match g.as_slice() {
            Some(_) => g,
            None => {
                dense = g.dense();
                &dense
            }
        };
        let penalized;
        if settings.l1 > 0.0 {
            let lambda = if rule.maximizes() { -settings.l1 } else { settings.l1 };
            penalized = add_signs(g, value, T::of(lambda));
            g = &penalized;
        }
        let grad = g.as_slice().unwrap_or(&[]);
        let (t, numbers, state) = (state.t, &mut state.numbers[..], &mut state.arrays[..]);
        match value.unique_dense() {
            Some(new) => rule.step(Update { t, old: None, new, state, numbers, grad }),
            None => {
                *value = Tensor::build(value.shape(), |new| {
                    rule.step(Update { t, old: value.as_slice(), new, state, numbers, grad });
                });
            }
        }
        if settings.max_norm.is_finite() && value.rank() >= 2 {
            limit_rows(value, 0, settings.max_norm);
        }
        if let Some(span) = span {
            // The arrays of state have the parameter's size; they are read and written, as it is.
            let arrays = rule.arrays().len() as u64;
            span.close(R::NAME, || [0, (3 + 2 * arrays) * bytes(value)]);
        }
        false
    }
}

/// What a first walk finds, before anything is changed.
#[derive(Default)]
struct Seen {
    parameters: usize,
    watched: usize,
    missing: bool,
    /// Some parameter is a leaf of a tape, or has another shape than its gradient.
    broken: bool,
}

impl Seen {
    fn look(&mut self, p: ParamRef<'_>, grads: &Gradients) {
        self.parameters += 1;
        if grads.watched(p.id()) {
            self.watched += 1;
            match with_param!(ParamRef, p, p => fits(p, grads)) {
                None => self.missing = true,
                Some(fits) => self.broken |= !fits,
            }
        }
        self.broken |= with_param!(ParamRef, p, p => p.is_recorded());
    }
}

/// Whether a parameter and its gradient have one shape; `None` without a gradient.
fn fits<T: Float>(p: &Param<T>, grads: &Gradients) -> Option<bool> {
    grads.by_id::<T>(p.id()).map(|g| g.shape() == p.shape())
}

/// Shows the parameters that a step is about, with their paths only if those were asked for.
fn read(model: &impl Module, which: Which<'_>, f: &mut dyn FnMut(&str, ParamRef<'_>)) {
    let mut look = |path: &str, item: Item<'_>| {
        if let Item::Param(p) = item
            && which.is_none_or(|accepts| accepts(path))
        {
            f(path, p);
        }
    };
    match which {
        None => Visitor::walk_unnamed(model, &mut look),
        Some(_) => Visitor::walk(model, &mut look),
    }
}

/// Gives every place of a tied parameter the value of the place that was updated, the first one.
fn spread(model: &mut impl Module, which: Which<'_>) {
    let mut fresh: HashMap<ParamId, AnyTensor> = HashMap::new();
    read(model, which, &mut |_, p| {
        let value = || with_param!(ParamRef, p, p => AnyTensor::new(p.tensor().clone()));
        fresh.entry(p.id()).or_insert_with(value);
    });
    VisitorMut::walk_unnamed(model, &mut |_, item| {
        if let ItemMut::Param(p) = item {
            with_param!(ParamMut, p, p => {
                if let Some(value) = fresh.get(&p.id()).and_then(AnyTensor::get) {
                    p.set(value.clone());
                }
            });
        }
    });
}

/// The error for what the first walk found, with paths.
#[cold]
fn complain(
    op: &'static str,
    model: &impl Module,
    grads: &Gradients,
    which: Which<'_>,
    seen: Seen,
) -> Error {
    let (mut missing, mut different, mut recorded) = (Vec::new(), Vec::new(), false);
    read(model, Some(which.unwrap_or(&|_| true)), &mut |path, p| {
        recorded |= with_param!(ParamRef, p, p => p.is_recorded());
        if !grads.watched(p.id()) {
            return;
        }
        match with_param!(ParamRef, p, p => grads.by_id(p.id()).map(|g| g_shape(p, g))) {
            None => missing.push(path.to_string()),
            Some(g) if g != p.shape() => {
                different.push(format!("{path}: parameter {:?}, gradient {g:?}", p.shape()));
            }
            Some(_) => {}
        }
    });
    if recorded {
        let message = "this model is the copy that tape.watch returned; update the model itself, which the copy was made from";
        return Error::argument(op, message);
    }
    if !different.is_empty() {
        return Error::shape(op, format!("shapes differ: {}", different.join("; ")));
    }
    if seen.watched == 0 {
        return match which {
            Some(_) if seen.parameters == 0 => {
                Error::argument(op, "the path of no parameter of this model is accepted")
            }
            _ => Error::ForeignGradients { op, parameters: seen.parameters },
        };
    }
    Error::MissingGradient { op, paths: missing }
}

/// The shape of a gradient, of the float type of its parameter.
fn g_shape<T: Float>(_: &Param<T>, g: &Tensor<T>) -> Vec<usize> {
    g.shape().to_vec()
}
