//! What a rule is: hyper-parameters, and the arithmetic for one array.

use crate::autograd::AnyTensor;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::update::for_each_piece;
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
pub trait Rule {
    /// The learning rate.
    fn lr(&self) -> f64;

    /// Sets the learning rate.
    fn set_lr(&mut self, lr: f64);

    /// How many arrays of state stand beside each parameter; they begin as zeros.
    fn arrays(&self) -> usize {
        0
    }

    /// Whether the hyper-parameters make sense; asked at the beginning of every step.
    ///
    /// # Errors
    /// [`Error::Argument`], with the name and value of the hyper-parameter and the values it may have.
    fn check(&self) -> Result<()>;

    /// Changes one parameter.
    fn step<T: Float>(&self, update: Update<'_, T>);
}

/// One parameter under update: its elements, its gradient, its state.
pub struct Update<'a, T> {
    /// How often this parameter has been updated, with this one: 1 at first.
    pub(crate) t: u64,
    /// Where the old values stand, unless it is in `new` itself.
    pub(crate) old: Option<&'a [T]>,
    pub(crate) new: &'a mut [T],
    pub(crate) state: &'a mut [AnyTensor],
    pub(crate) grad: &'a [T],
}

impl<T: Float> Update<'_, T> {
    /// How often this parameter has been updated, with this one: 1 at first.
    pub fn t(&self) -> u64 {
        self.t
    }

    /// Runs `f(values, state, gradient)` over the elements, a piece at a time, on several threads if there are
    /// many. `f` updates the values and the `N` arrays of state in place. `ns` estimates the nanoseconds that one element takes.
    ///
    /// # Panics
    /// If `N` is not [`Rule::arrays`].
    pub fn each<const N: usize>(self, ns: f64, f: impl Fn(&mut [T], [&mut [T]; N], &[T]) + Sync) {
        let arrays = self.state.len();
        assert!(
            arrays == N,
            "Update::each: the rule uses {N} arrays of state, but Rule::arrays says {arrays}"
        );
        let mut arrays = self.state.iter_mut().filter_map(|a| a.get_mut::<T>());
        let state = std::array::from_fn(|_| arrays.next().map_or(&mut [][..], Tensor::make_mut));
        for_each_piece(self.old, self.new, state, self.grad, ns, f);
    }
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
