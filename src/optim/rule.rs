//! What a rule is: hyper-parameters, and the arithmetic for one array.

use super::formula::{Formula, Loop};
use crate::autograd::AnyTensor;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::simd::dispatch;
use crate::kernel::update::{for_each_piece, sum_pieces};
use crate::tensor::Tensor;

/// An update rule: hyper-parameters and one step over the elements of one parameter.
///
/// A rule of your own, sign descent, with all that [`Optimizer`](super::Optimizer) adds:
///
/// ```
/// use gradus::optim::{Optimizer, Rule, Update};
/// use gradus::prelude::*;
///
/// #[derive(Clone)]
/// struct SignDescent { lr: f64 }
///
/// impl Rule for SignDescent {
///     const NAME: &'static str = "SignDescent";
///     fn lr(&self) -> f64 { self.lr }
///     fn set_lr(&mut self, lr: f64) { self.lr = lr; }
///     fn check(&self) -> Result<()> { Ok(()) }
///     fn step<T: Float>(&self, update: Update<'_, T>) {
///         let lr = T::of(self.lr);
///         update.each(1.0, |p, [], g| p.iter_mut().zip(g).for_each(|(p, g)| *p -= lr * g.signum()));
///     }
/// }
///
/// let mut w: Param = Param::new(Tensor::from([1.0, 2.0]));
/// let tape = Tape::new(0);
/// let grads = tape.watch(&w).backward_with(&Tensor::from([-3.0, 0.5]))?;
/// Optimizer::with(SignDescent { lr: 0.25 }).step(&mut w, &grads)?;
/// assert_eq!(w.to_vec(), [1.25, 1.75]);
/// # Ok::<(), Error>(())
/// ```
pub trait Rule: Clone {
    /// What errors and checkpoints call it.
    const NAME: &'static str;

    /// The learning rate.
    fn lr(&self) -> f64;

    /// Sets the learning rate.
    fn set_lr(&mut self, lr: f64);

    /// The names of the arrays of state that stand beside each parameter, each of the parameter's shape.
    fn arrays(&self) -> &'static [&'static str] {
        &[]
    }

    /// What every element of an array of state is at first.
    fn initial(&self, _array: usize) -> f64 {
        0.0
    }

    /// Numbers of state beside each parameter: a name, and the value at first.
    fn numbers(&self) -> &'static [(&'static str, f64)] {
        &[]
    }

    /// The hyper-parameters besides the learning rate, by name; a checkpoint of an optimizer keeps them.
    fn hyper(&mut self) -> Vec<(&'static str, Hyper<'_>)> {
        Vec::new()
    }

    /// The momentum, or what stands in its place (β₁), for schedules that cycle it.
    fn momentum(&mut self) -> Option<&mut f64> {
        None
    }

    /// Whether it climbs instead of descending.
    fn maximizes(&self) -> bool {
        false
    }

    /// Whether the hyper-parameters make sense; asked at the beginning of every step.
    ///
    /// # Errors
    /// [`Error::Argument`], with the name and value of the hyper-parameter and the values it may have.
    fn check(&self) -> Result<()>;

    /// Changes one parameter.
    fn step<T: Float>(&self, update: Update<'_, T>);
}

/// A hyper-parameter of a [`Rule`], for saving and restoring.
#[derive(Debug)]
pub enum Hyper<'a> {
    /// A number.
    Number(&'a mut f64),
    /// A choice between yes and no.
    Flag(&'a mut bool),
}

/// One parameter under update: its elements, its gradient, its state.
pub struct Update<'a, T> {
    /// How often this parameter has been updated, with this one: 1 at first.
    pub(crate) t: u64,
    /// Where the old values stand, unless it is in `new` itself.
    pub(crate) old: Option<&'a [T]>,
    pub(crate) new: &'a mut [T],
    pub(crate) state: &'a mut [AnyTensor],
    pub(crate) numbers: &'a mut [f64],
    pub(crate) grad: &'a [T],
}

impl<T: Float> Update<'_, T> {
    /// How often this parameter has been updated, with this one: 1 at first.
    pub fn t(&self) -> u64 {
        self.t
    }

    /// The [numbers](Rule::numbers) of state.
    pub fn numbers(&mut self) -> &mut [f64] {
        self.numbers
    }

    /// A first pass for rules that need sums over the whole parameter: runs `f(values, state, gradient)` over the elements, a piece at a time, and
    /// adds up the `S` numbers that each piece gives, in an order that only the length fixes. `f` updates the state in place.
    ///
    /// # Panics
    /// If `N` is not the number of [`Rule::arrays`].
    pub fn sums<const N: usize, const S: usize>(
        &mut self,
        ns: f64,
        f: impl Fn(&[T], [&mut [T]; N], &[T]) -> [f64; S] + Sync,
    ) -> [f64; S] {
        let state = arrays(self.state);
        let values = self.old.unwrap_or(self.new);
        sum_pieces(values, state, self.grad, ns, f)
    }

    /// [`each`](Self::each) with the arithmetic of one element, compiled for the instruction set in use.
    pub(super) fn apply<const N: usize>(self, ns: f64, f: impl Formula<T>) {
        self.each::<N>(ns, |p, s, g| dispatch(Loop { f, p, s, g }));
    }

    /// Runs `f(values, state, gradient)` over the elements, a piece at a time, on several threads if there are
    /// many. `f` updates the values and the `N` arrays of state in place. `ns` estimates the nanoseconds that one element takes.
    ///
    /// # Panics
    /// If `N` is not the number of [`Rule::arrays`].
    pub fn each<const N: usize>(self, ns: f64, f: impl Fn(&mut [T], [&mut [T]; N], &[T]) + Sync) {
        for_each_piece(self.old, self.new, arrays(self.state), self.grad, ns, f);
    }
}

/// The elements of the arrays of state.
fn arrays<T: Float, const N: usize>(state: &mut [AnyTensor]) -> [&mut [T]; N] {
    let n = state.len();
    assert!(n == N, "Update: the rule uses {N} arrays of state, but Rule::arrays names {n}");
    let mut arrays = state.iter_mut().filter_map(|a| a.get_mut::<T>());
    std::array::from_fn(|_| arrays.next().map_or(&mut [][..], Tensor::make_mut))
}

/// `Ok` if `ok`, else an error that names the hyper-parameter, its value and what it must be.
pub(super) fn require(ok: bool, rule: &str, name: &str, value: f64, must: &str) -> Result<()> {
    if ok {
        return Ok(());
    }
    Err(Error::argument("step", format!("{rule}: {name} is {value}; it must be {must}")))
}

/// [`require`] for what must be finite and not negative: rates and penalties.
pub(super) fn require_rate(rule: &str, name: &str, value: f64) -> Result<()> {
    require(value.is_finite() && value >= 0.0, rule, name, value, "finite and not negative")
}

/// [`require`] for what is kept of a running mean: at least 0 and below 1.
pub(super) fn require_share(rule: &str, name: &str, value: f64) -> Result<()> {
    require((0.0..1.0).contains(&value), rule, name, value, "at least 0 and below 1")
}
