//! Powers of the step: polynomial decay, Noam's schedule and the inverse square root.

use super::{Schedule, require, require_rate, require_steps};
use crate::error::Result;

/// Down to 0 along a power of what is left: lr · (1 - t/T)ᵖ, and 0 after `T` steps.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::schedule::Polynomial;
/// let s = Polynomial::new(0.4, 10, 2.0)?;
/// assert_eq!([0, 5, 10, 11].map(|t| s.lr(t)), [0.4, 0.1, 0.0, 0.0]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Polynomial {
    lr: f64,
    steps: usize,
    power: f64,
}

impl Polynomial {
    /// A rate, the steps until 0, and the power.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for 0 steps or a rate or power that is negative or not finite.
    pub fn new(lr: f64, steps: usize, power: f64) -> Result<Self> {
        const OP: &str = "Polynomial";
        require_rate(OP, "the rate", lr)?;
        require_steps(OP, "the number of steps", steps)?;
        require_rate(OP, "the power", power)?;
        Ok(Polynomial { lr, steps, power })
    }
}

impl Schedule for Polynomial {
    fn lr(&self, step: usize) -> f64 {
        let left = 1.0 - step.min(self.steps) as f64 / self.steps as f64;
        self.lr * left.powf(self.power)
    }
}

/// The schedule of the first transformer: factor · d^(-1/2) · min(s^(-1/2), s·w^(-3/2)), with s = t + 1. Source: Vaswani et al. 2017,
/// <https://arxiv.org/abs/1706.03762>, section 5.3.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::schedule::Noam;
/// let s = Noam::new(1.0, 64, 100)?;
/// assert!((s.lr(99) - 0.0125).abs() < 1e-15);         // the peak, after the warm-up
/// assert!(s.lr(98) < s.lr(99) && s.lr(100) < s.lr(99));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Noam {
    scale: f64,
    warmup: f64,
}

impl Noam {
    /// A factor, the width of the model and the steps of the warm-up (4000 in the paper).
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for a width or a warm-up of 0, or a factor that is negative or not finite.
    pub fn new(factor: f64, width: usize, warmup: usize) -> Result<Self> {
        require_rate("Noam", "the factor", factor)?;
        require_steps("Noam", "the width", width)?;
        require_steps("Noam", "the number of warm-up steps", warmup)?;
        Ok(Noam { scale: factor / (width as f64).sqrt(), warmup: warmup as f64 })
    }
}

impl Schedule for Noam {
    fn lr(&self, step: usize) -> f64 {
        let s = step as f64 + 1.0;
        self.scale * (1.0 / s.sqrt()).min(s / (self.warmup * self.warmup.sqrt()))
    }
}

/// Up in a straight line for `w` steps, then down with the inverse square root of the step: lr · √(w/t).
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::schedule::InverseSqrt;
/// let s = InverseSqrt::new(0.1, 4)?;
/// assert_eq!([0, 2, 4, 16].map(|t| s.lr(t)), [0.0, 0.05, 0.1, 0.05]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct InverseSqrt {
    lr: f64,
    start: f64,
    warmup: usize,
}

impl InverseSqrt {
    /// The highest rate, and the steps of the warm-up.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for a warm-up of 0 or a rate that is negative or not finite.
    pub fn new(lr: f64, warmup: usize) -> Result<Self> {
        require_rate("InverseSqrt", "the rate", lr)?;
        require_steps("InverseSqrt", "the number of warm-up steps", warmup)?;
        Ok(InverseSqrt { lr, start: 0.0, warmup })
    }

    /// The rate of step 0.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) unless it is finite and not negative.
    pub fn start(mut self, lr: f64) -> Result<Self> {
        require(
            "InverseSqrt",
            lr >= 0.0 && lr.is_finite(),
            "the first rate",
            lr,
            "finite and not negative",
        )?;
        self.start = lr;
        Ok(self)
    }
}

impl Schedule for InverseSqrt {
    fn lr(&self, step: usize) -> f64 {
        let (t, w) = (step as f64, self.warmup as f64);
        if step < self.warmup {
            return self.start + (self.lr - self.start) * t / w;
        }
        self.lr * (w / t).sqrt()
    }
}
