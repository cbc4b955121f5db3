//! Schedules: learning rates, momenta and batch sizes that change with the step.
//!
//! A [`Schedule`] is a pure function of the step (or epoch, whatever is counted), so there is nothing to save and nothing to call in the right order:
//!
//! ```
//! use gradus::prelude::*;
//! use gradus::optim::schedule::Cosine;
//! let rate = Cosine::new(0.1, 90)?.min(1e-3).until(90).warmup(10);     // 10 steps up, 90 steps down, then flat
//! let mut sgd = Sgd::new(0.1);
//! for step in 0..100 {
//!     sgd.set_lr(rate.lr(step));
//!     // … sgd.step(&mut model, &grads)?;
//! }
//! assert_eq!((rate.lr(5), rate.lr(10), rate.lr(200)), (0.05, 0.1, 1e-3));
//! # Ok::<(), Error>(())
//! ```
//!
//! Step 0 is the first one, and a schedule gives the rate that a step uses. Where PyTorch has a scheduler of the kind, its values are the
//! same (its recursions in closed form). [`Plateau`] is the one that looks at a metric and so has a state.
//!
//! | PyTorch | here |
//! | --- | --- |
//! | `StepLR`, `MultiStepLR`, `ExponentialLR` | [`StepDecay`], [`MultiStep`], [`Exponential`] |
//! | `ConstantLR`, `LinearLR`, `PolynomialLR` | [`Constant`], [`Linear`], [`Polynomial`] |
//! | `CosineAnnealingLR`, `CosineAnnealingWarmRestarts` | [`Cosine`], [`CosineRestarts`] |
//! | `OneCycleLR`, `CyclicLR` | [`OneCycle`], [`Cyclic`] |
//! | `LambdaLR`, `MultiplicativeLR` | [`Lambda`] or any closure, [`Multiplicative`] |
//! | `SequentialLR`, `ChainedScheduler` | [`then`](Schedule::then), [`times`](Schedule::times) |
//! | `ReduceLROnPlateau` | [`Plateau`] |

mod batch_size;
mod combine;
mod cosine;
mod cycle;
mod decay;
mod plateau;
mod power;
#[cfg(test)]
mod tests;

pub use batch_size::{BatchSize, ByRate, Exponentially, InSteps, Linearly};
pub use combine::{Held, Then, Times, Warmup};
pub use cosine::{Cosine, CosineRestarts};
pub use cycle::{Cyclic, CyclicMode, OneCycle};
pub use decay::{Constant, Exponential, Lambda, Linear, MultiStep, Multiplicative, StepDecay};
pub use plateau::{Plateau, PlateauMode, Threshold};
pub use power::{InverseSqrt, Noam, Polynomial};

use crate::error::{Error, Result};

/// A learning rate for every step. Closures `Fn(usize) -> f64` are schedules, too.
///
/// ```
/// use gradus::prelude::*;
/// let halving = |step: usize| 0.1 * 0.5f64.powi(step as i32 / 10);
/// assert_eq!(halving.lr(25), 0.025);
/// assert_eq!(halving.warmup(4).lr(2), 0.05);
/// ```
pub trait Schedule {
    /// The learning rate of a step; 0 is the first.
    fn lr(&self, step: usize) -> f64;

    /// Begins with `steps` steps from 0 in a straight line to the schedule's first rate; then the schedule, from its step 0. (Goyal et al. 2017,
    /// <https://arxiv.org/abs/1706.02677>.)
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::optim::schedule::Exponential;
    /// let s = Exponential::new(0.4, 0.5)?.warmup(4);
    /// assert_eq!([0, 1, 2, 4, 5].map(|t| s.lr(t)), [0.0, 0.1, 0.2, 0.4, 0.2]);
    /// # Ok::<(), Error>(())
    /// ```
    fn warmup(self, steps: usize) -> Warmup<Self>
    where
        Self: Sized,
    {
        self.warmup_from(0.0, steps)
    }

    /// [`warmup`](Self::warmup) that begins with `start` times the schedule's first rate.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::optim::schedule::Constant;
    /// let s = Constant::new(1.0)?.warmup_from(0.5, 2);
    /// assert_eq!([0, 1, 2, 3].map(|t| s.lr(t)), [0.5, 0.75, 1.0, 1.0]);
    /// # Ok::<(), Error>(())
    /// ```
    fn warmup_from(self, start: f64, steps: usize) -> Warmup<Self>
    where
        Self: Sized,
    {
        Warmup { schedule: self, start, steps }
    }

    /// Before step `milestone` this schedule, from there on another one, which begins with its own step 0; PyTorch's `SequentialLR`.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::optim::schedule::{Constant, Exponential};
    /// let s = Constant::new(0.1)?.then(2, Exponential::new(1.0, 0.5)?);
    /// assert_eq!([0, 1, 2, 3].map(|t| s.lr(t)), [0.1, 0.1, 1.0, 0.5]);
    /// # Ok::<(), Error>(())
    /// ```
    fn then<S: Schedule>(self, milestone: usize, next: S) -> Then<Self, S>
    where
        Self: Sized,
    {
        Then { first: self, milestone, next }
    }

    /// The product of two schedules. Of several that act together (PyTorch's `ChainedScheduler`), one has the learning rate and the others
    /// begin with 1, so that they are factors.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::optim::schedule::{Exponential, Linear};
    /// let s = Exponential::new(1.0, 0.5)?.times(Linear::new(1.0, 0.5, 1.0, 2)?);
    /// assert_eq!([0, 1, 2].map(|t| s.lr(t)), [0.5, 0.375, 0.25]);
    /// # Ok::<(), Error>(())
    /// ```
    fn times<S: Schedule>(self, factor: S) -> Times<Self, S>
    where
        Self: Sized,
    {
        Times { schedule: self, factor }
    }

    /// Stays at the rate of step `last` from there on.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::optim::schedule::Cosine;
    /// let s = Cosine::new(0.1, 10)?.until(10);
    /// assert_eq!(s.lr(15), s.lr(10));
    /// # Ok::<(), Error>(())
    /// ```
    fn until(self, last: usize) -> Held<Self>
    where
        Self: Sized,
    {
        Held { schedule: self, last }
    }
}

impl<F: Fn(usize) -> f64> Schedule for F {
    fn lr(&self, step: usize) -> f64 {
        self(step)
    }
}

impl Schedule for Box<dyn Schedule> {
    fn lr(&self, step: usize) -> f64 {
        (**self).lr(step)
    }
}

/// `Ok` if `ok`, else an error that names the argument, its value and what it must be.
fn require(op: &'static str, ok: bool, name: &str, value: f64, must: &str) -> Result<()> {
    if ok {
        return Ok(());
    }
    Err(Error::argument(op, format!("{name} is {value}; it must be {must}")))
}

/// For rates and factors.
fn require_rate(op: &'static str, name: &str, value: f64) -> Result<()> {
    require(op, value.is_finite() && value >= 0.0, name, value, "finite and not negative")
}

/// For numbers of steps.
fn require_steps(op: &'static str, name: &str, value: usize) -> Result<()> {
    require(op, value > 0, name, value as f64, "at least 1")
}
