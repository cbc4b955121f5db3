//! Batch sizes that grow with the step, in the place of learning rates that fall.
//!
//! Source: Smith et al. 2018, "Don't Decay the Learning Rate, Increase the Batch Size", <https://arxiv.org/abs/1711.00489>.

use super::{Schedule, require, require_steps};
use crate::error::Result;

/// A batch size for every step or epoch. Closures `Fn(usize) -> usize` are batch sizes, too.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::schedule::{BatchSize, InSteps};
/// let size = InSteps::new(32, 10, 2.0)?.max(100)?;
/// assert_eq!([0, 9, 10, 25].map(|epoch| size.size(epoch)), [32, 32, 64, 100]);
/// # Ok::<(), Error>(())
/// ```
pub trait BatchSize {
    /// The batch size of a step; 0 is the first. Never 0.
    fn size(&self, step: usize) -> usize;
}

impl<F: Fn(usize) -> usize> BatchSize for F {
    fn size(&self, step: usize) -> usize {
        self(step).max(1)
    }
}

/// A number of rows, rounded to the nearest whole, at least 1 and at most a bound.
fn rows(size: f64, max: usize) -> usize {
    // The cast saturates, and makes 0 of what is not a number.
    (size.round() as usize).clamp(1, max)
}

macro_rules! cap {
    ($t:ident) => {
        impl $t {
            /// The largest size.
            ///
            /// # Errors
            /// [`Error::Argument`](crate::Error::Argument) for 0.
            pub fn max(mut self, max: usize) -> Result<Self> {
                require_steps(stringify!($t), "the largest batch size", max)?;
                self.max = max;
                Ok(self)
            }
        }
    };
}

/// Multiplied by a factor every so many steps.
#[derive(Clone, Debug)]
pub struct InSteps {
    start: usize,
    every: usize,
    factor: f64,
    max: usize,
}
cap!(InSteps);

impl InSteps {
    /// The first size, the steps between changes, and the factor of each change.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for a size or a number of steps of 0, or a factor that is not finite and above 0.
    pub fn new(start: usize, every: usize, factor: f64) -> Result<Self> {
        require_steps("InSteps", "the first batch size", start)?;
        require_steps("InSteps", "the number of steps", every)?;
        let ok = factor > 0.0 && factor.is_finite();
        require("InSteps", ok, "the factor", factor, "finite and above 0")?;
        Ok(InSteps { start, every, factor, max: usize::MAX })
    }
}

impl BatchSize for InSteps {
    fn size(&self, step: usize) -> usize {
        rows(self.start as f64 * self.factor.powf((step / self.every) as f64), self.max)
    }
}

/// Larger by the same amount at every step.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::schedule::{BatchSize, Linearly};
/// let size = Linearly::new(32, 0.5)?;
/// assert_eq!([0, 4, 5].map(|step| size.size(step)), [32, 34, 35]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Linearly {
    start: usize,
    by: f64,
    max: usize,
}
cap!(Linearly);

impl Linearly {
    /// The first size, and how much a step adds.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for a size of 0 or an amount that is not finite.
    pub fn new(start: usize, by: f64) -> Result<Self> {
        require_steps("Linearly", "the first batch size", start)?;
        require("Linearly", by.is_finite(), "the amount per step", by, "finite")?;
        Ok(Linearly { start, by, max: usize::MAX })
    }
}

impl BatchSize for Linearly {
    fn size(&self, step: usize) -> usize {
        rows(self.start as f64 + self.by * step as f64, self.max)
    }
}

/// Multiplied by the same factor at every step.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::schedule::{BatchSize, Exponentially};
/// let size = Exponentially::new(10, 1.5)?.max(30)?;
/// assert_eq!([0, 1, 2, 3].map(|step| size.size(step)), [10, 15, 23, 30]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Exponentially {
    start: usize,
    factor: f64,
    max: usize,
}
cap!(Exponentially);

impl Exponentially {
    /// The first size, and its factor per step.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for a size of 0 or a factor that is not finite and above 0.
    pub fn new(start: usize, factor: f64) -> Result<Self> {
        require_steps("Exponentially", "the first batch size", start)?;
        let ok = factor > 0.0 && factor.is_finite();
        require("Exponentially", ok, "the factor", factor, "finite and above 0")?;
        Ok(Exponentially { start, factor, max: usize::MAX })
    }
}

impl BatchSize for Exponentially {
    fn size(&self, step: usize) -> usize {
        rows(self.start as f64 * self.factor.powf(step as f64), self.max)
    }
}

/// As many times larger as a schedule's learning rate would be lower: start · lr(0)/lr(t). The noise of a step goes with lr/size, so training sees
/// what it would have seen of the schedule, while the learning rate itself stays at lr(0).
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::schedule::{BatchSize, ByRate, StepDecay};
/// let size = ByRate::new(64, StepDecay::new(0.1, 30, 0.25)?)?.max(512)?;
/// assert_eq!([0, 30, 60].map(|epoch| size.size(epoch)), [64, 256, 512]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ByRate<S> {
    start: usize,
    schedule: S,
    max: usize,
}

impl<S: Schedule> ByRate<S> {
    /// The first size, and the schedule that it stands for.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for a size of 0, or if the schedule begins with a rate that is not finite and above 0.
    pub fn new(start: usize, schedule: S) -> Result<Self> {
        require_steps("ByRate", "the first batch size", start)?;
        let first = schedule.lr(0);
        let ok = first > 0.0 && first.is_finite();
        require("ByRate", ok, "the first learning rate", first, "finite and above 0")?;
        Ok(ByRate { start, schedule, max: usize::MAX })
    }

    /// The largest size.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for 0.
    pub fn max(mut self, max: usize) -> Result<Self> {
        require_steps("ByRate", "the largest batch size", max)?;
        self.max = max;
        Ok(self)
    }
}

impl<S: Schedule> BatchSize for ByRate<S> {
    fn size(&self, step: usize) -> usize {
        rows(self.start as f64 * self.schedule.lr(0) / self.schedule.lr(step), self.max)
    }
}
