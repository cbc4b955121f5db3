//! Constant, stepwise, exponential and linear schedules, and those given by functions.

use super::{Schedule, require_rate, require_steps};
use crate::error::Result;

/// One rate for all steps, or with [`factor`](Self::factor) a smaller one at first.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::schedule::Constant;
/// let s = Constant::new(0.1)?.factor(0.5, 3)?;
/// assert_eq!([0, 2, 3].map(|t| s.lr(t)), [0.05, 0.05, 0.1]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Constant {
    lr: f64,
    factor: f64,
    steps: usize,
}

impl Constant {
    /// This rate.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) unless the rate is finite and not negative.
    pub fn new(lr: f64) -> Result<Self> {
        require_rate("Constant", "the rate", lr)?;
        Ok(Constant { lr, factor: 1.0, steps: 0 })
    }

    /// Multiplies the rate of the first `steps` steps; PyTorch's `ConstantLR`.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) unless the factor is finite and not negative.
    pub fn factor(mut self, factor: f64, steps: usize) -> Result<Self> {
        require_rate("Constant", "the factor", factor)?;
        (self.factor, self.steps) = (factor, steps);
        Ok(self)
    }
}

impl Schedule for Constant {
    fn lr(&self, step: usize) -> f64 {
        if step < self.steps { self.lr * self.factor } else { self.lr }
    }
}

/// Multiplied by γ every `size` steps: lr · γ^⌊t/size⌋.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::schedule::StepDecay;
/// let s = StepDecay::new(0.4, 10, 0.5)?;
/// assert_eq!([0, 9, 10, 20].map(|t| s.lr(t)), [0.4, 0.4, 0.2, 0.1]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct StepDecay {
    lr: f64,
    size: usize,
    gamma: f64,
}

impl StepDecay {
    /// A rate, the steps between changes, and the factor γ of each change.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for a size of 0 or a rate or factor that is negative or not finite.
    pub fn new(lr: f64, size: usize, gamma: f64) -> Result<Self> {
        const OP: &str = "StepDecay";
        require_rate(OP, "the rate", lr)?;
        require_steps(OP, "the step size", size)?;
        require_rate(OP, "γ", gamma)?;
        Ok(StepDecay { lr, size, gamma })
    }
}

impl Schedule for StepDecay {
    fn lr(&self, step: usize) -> f64 {
        self.lr * self.gamma.powf((step / self.size) as f64)
    }
}

/// Multiplied by γ at every milestone that was reached; one that stands twice counts twice.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::schedule::MultiStep;
/// let s = MultiStep::new(0.4, [30, 60], 0.5)?;
/// assert_eq!([0, 29, 30, 60].map(|t| s.lr(t)), [0.4, 0.4, 0.2, 0.1]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct MultiStep {
    lr: f64,
    milestones: Vec<usize>,
    gamma: f64,
}

impl MultiStep {
    /// A rate, the steps at which it changes, in any order, and the factor γ of each change.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for a rate or factor that is negative or not finite.
    pub fn new(lr: f64, milestones: impl Into<Vec<usize>>, gamma: f64) -> Result<Self> {
        const OP: &str = "MultiStep";
        require_rate(OP, "the rate", lr)?;
        require_rate(OP, "γ", gamma)?;
        Ok(MultiStep { lr, milestones: milestones.into(), gamma })
    }
}

impl Schedule for MultiStep {
    fn lr(&self, step: usize) -> f64 {
        let reached = self.milestones.iter().filter(|&&m| m <= step).count();
        self.lr * self.gamma.powf(reached as f64)
    }
}

/// Multiplied by γ at every step: lr · γᵗ.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::schedule::Exponential;
/// assert_eq!(Exponential::new(0.4, 0.5)?.lr(2), 0.1);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Exponential {
    lr: f64,
    gamma: f64,
}

impl Exponential {
    /// A rate and its factor γ per step.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for a rate or factor that is negative or not finite.
    pub fn new(lr: f64, gamma: f64) -> Result<Self> {
        require_rate("Exponential", "the rate", lr)?;
        require_rate("Exponential", "γ", gamma)?;
        Ok(Exponential { lr, gamma })
    }
}

impl Schedule for Exponential {
    fn lr(&self, step: usize) -> f64 {
        self.lr * self.gamma.powf(step as f64)
    }
}

/// From `start·lr` in a straight line to `end·lr` in `steps` steps, and constant from there on.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::schedule::Linear;
/// let s = Linear::new(0.4, 0.5, 1.0, 2)?;
/// assert!((s.lr(1) - 0.3).abs() < 1e-15);
/// assert_eq!([0, 2, 9].map(|t| s.lr(t)), [0.2, 0.4, 0.4]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Linear {
    lr: f64,
    start: f64,
    end: f64,
    steps: usize,
}

impl Linear {
    /// A rate, its factors at the start and at the end, and the steps between them.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for a rate or factor that is negative or not finite.
    pub fn new(lr: f64, start: f64, end: f64, steps: usize) -> Result<Self> {
        const OP: &str = "Linear";
        require_rate(OP, "the rate", lr)?;
        require_rate(OP, "the factor at the start", start)?;
        require_rate(OP, "the factor at the end", end)?;
        Ok(Linear { lr, start, end, steps })
    }
}

impl Schedule for Linear {
    fn lr(&self, step: usize) -> f64 {
        if step >= self.steps {
            return self.lr * self.end;
        }
        let part = step as f64 / self.steps as f64;
        self.lr * (self.start + (self.end - self.start) * part)
    }
}

/// A rate times a function of the step.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::schedule::Lambda;
/// let s = Lambda::new(0.1, |step| 1.0 / (1.0 + step as f64));
/// assert_eq!(s.lr(3), 0.025);
/// ```
#[derive(Clone, Debug)]
pub struct Lambda<F> {
    lr: f64,
    f: F,
}

impl<F: Fn(usize) -> f64> Lambda<F> {
    /// `lr · f(step)`.
    pub fn new(lr: f64, f: F) -> Self {
        Lambda { lr, f }
    }
}

impl<F: Fn(usize) -> f64> Schedule for Lambda<F> {
    fn lr(&self, step: usize) -> f64 {
        self.lr * (self.f)(step)
    }
}

/// A rate that every step multiplies by a function of the step: lr · f(1) · … · f(t). It takes `t` calls of the function.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::schedule::Multiplicative;
/// let s = Multiplicative::new(0.4, |step| if step == 2 { 0.5 } else { 1.0 });
/// assert_eq!([0, 1, 2, 3].map(|t| s.lr(t)), [0.4, 0.4, 0.2, 0.2]);
/// ```
#[derive(Clone, Debug)]
pub struct Multiplicative<F> {
    lr: f64,
    f: F,
}

impl<F: Fn(usize) -> f64> Multiplicative<F> {
    /// `lr` times the factors that `f` gives for the steps from 1 on.
    pub fn new(lr: f64, f: F) -> Self {
        Multiplicative { lr, f }
    }
}

impl<F: Fn(usize) -> f64> Schedule for Multiplicative<F> {
    fn lr(&self, step: usize) -> f64 {
        (1..=step).fold(self.lr, |lr, t| lr * (self.f)(t))
    }
}
