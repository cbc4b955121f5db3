//! Cosine annealing, with and without restarts.

use std::f64::consts::PI;

use super::{Schedule, require_rate, require_steps};
use crate::error::Result;

/// From `a` to `b` along half a cosine, at the part `x` of the way.
pub(super) fn half_cosine(a: f64, b: f64, x: f64) -> f64 {
    b + (a - b) * (1.0 + (PI * x).cos()) / 2.0
}

/// Down to a lowest rate along a half cosine: η + (lr - η)·(1 + cos(π·t/T))/2. Source: Loshchilov and Hutter 2017, <https://arxiv.org/abs/1608.03983>.
///
/// After `T` steps it climbs again, as PyTorch's does; [`until`](Schedule::until) keeps it low.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::schedule::Cosine;
/// let s = Cosine::new(0.1, 10)?.min(0.02);
/// assert_eq!([0, 10].map(|t| s.lr(t)), [0.1, 0.02]);
/// assert!((s.lr(5) - 0.06).abs() < 1e-15);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cosine {
    lr: f64,
    min: f64,
    steps: usize,
}

impl Cosine {
    /// From this rate to 0 in so many steps.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for 0 steps or a rate that is negative or not finite.
    pub fn new(lr: f64, steps: usize) -> Result<Self> {
        require_rate("Cosine", "the rate", lr)?;
        require_steps("Cosine", "the number of steps", steps)?;
        Ok(Cosine { lr, min: 0.0, steps })
    }

    /// The lowest rate η.
    pub fn min(mut self, min: f64) -> Self {
        self.min = min;
        self
    }
}

impl Schedule for Cosine {
    fn lr(&self, step: usize) -> f64 {
        half_cosine(self.lr, self.min, step as f64 / self.steps as f64)
    }
}

/// Half cosines from the rate down to a lowest one, again and again, each `T_mult` times as long as the one before (SGDR). Source:
/// Loshchilov and Hutter 2017, <https://arxiv.org/abs/1608.03983>.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::schedule::CosineRestarts;
/// let s = CosineRestarts::new(0.1, 10)?.mult(2)?;
/// assert_eq!([0, 10, 30, 70].map(|t| s.lr(t)), [0.1; 4]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct CosineRestarts {
    lr: f64,
    min: f64,
    first: usize,
    mult: usize,
}

impl CosineRestarts {
    /// From this rate to 0 in `first` steps, and again.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for 0 steps or a rate that is negative or not finite.
    pub fn new(lr: f64, first: usize) -> Result<Self> {
        require_rate("CosineRestarts", "the rate", lr)?;
        require_steps("CosineRestarts", "the number of steps", first)?;
        Ok(CosineRestarts { lr, min: 0.0, first, mult: 1 })
    }

    /// How many times as long each period is as the one before.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for 0.
    pub fn mult(mut self, mult: usize) -> Result<Self> {
        require_steps("CosineRestarts", "the factor of the period", mult)?;
        self.mult = mult;
        Ok(self)
    }

    /// The lowest rate η.
    pub fn min(mut self, min: f64) -> Self {
        self.min = min;
        self
    }
}

impl Schedule for CosineRestarts {
    fn lr(&self, step: usize) -> f64 {
        let (mut at, mut period) = (step, self.first);
        if self.mult == 1 {
            at %= period;
        }
        while at >= period {
            at -= period;
            period = period.saturating_mul(self.mult);
        }
        half_cosine(self.lr, self.min, at as f64 / period as f64)
    }
}
