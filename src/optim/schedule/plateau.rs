//! A rate that falls when a metric stops getting better.

use super::{require, require_rate};
use crate::error::Result;

/// Which way a metric gets better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlateauMode {
    /// Lower is better, as for a loss.
    Min,
    /// Higher is better, as for an accuracy.
    Max,
}

/// How much better than the best so far a metric must be to count as better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// By a part of the best: below best·(1 - x), or above best·(1 + x).
    Relative(f64),
    /// By an amount: below best - x, or above best + x.
    Absolute(f64),
}

/// A learning rate that is multiplied by a factor when a metric has not become better for more than `patience` reports.
///
/// By default lower is better, the factor is 0.1, the patience 10, the threshold a relative 1e-4, and there is no cooldown and no lowest rate, as
/// in PyTorch's `ReduceLROnPlateau`. A metric that is not a number counts as not better.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::schedule::Plateau;
/// let mut plateau = Plateau::new(0.1)?.factor(0.5)?.patience(1);
/// let mut sgd = Sgd::new(0.1);
/// for validation_loss in [1.0, 0.8, 0.8, 0.8] {
///     sgd.set_lr(plateau.step(validation_loss));
/// }
/// assert_eq!(sgd.lr(), 0.05);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Plateau {
    lr: f64,
    mode: PlateauMode,
    factor: f64,
    patience: usize,
    threshold: Threshold,
    cooldown: usize,
    min_lr: f64,
    eps: f64,
    best: f64,
    bad: usize,
    cooling: usize,
}

impl Plateau {
    /// Beginning with this rate.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) unless the rate is finite and not negative.
    pub fn new(lr: f64) -> Result<Self> {
        require_rate("Plateau", "the rate", lr)?;
        Ok(Plateau {
            lr,
            mode: PlateauMode::Min,
            factor: 0.1,
            patience: 10,
            threshold: Threshold::Relative(1e-4),
            cooldown: 0,
            min_lr: 0.0,
            eps: 1e-8,
            best: f64::INFINITY,
            bad: 0,
            cooling: 0,
        })
    }

    /// Which way the metric gets better.
    pub fn mode(mut self, mode: PlateauMode) -> Self {
        self.mode = mode;
        self.best = match mode {
            PlateauMode::Min => f64::INFINITY,
            PlateauMode::Max => f64::NEG_INFINITY,
        };
        self
    }

    /// What the rate is multiplied by.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) unless it is at least 0 and below 1.
    pub fn factor(mut self, factor: f64) -> Result<Self> {
        require(
            "Plateau",
            (0.0..1.0).contains(&factor),
            "the factor",
            factor,
            "at least 0 and below 1",
        )?;
        self.factor = factor;
        Ok(self)
    }

    /// How many reports in a row may be no better before the rate falls.
    pub fn patience(mut self, reports: usize) -> Self {
        self.patience = reports;
        self
    }

    /// How much better counts as better.
    pub fn threshold(mut self, threshold: Threshold) -> Self {
        self.threshold = threshold;
        self
    }

    /// How many reports after a fall do not count as bad.
    pub fn cooldown(mut self, reports: usize) -> Self {
        self.cooldown = reports;
        self
    }

    /// The lowest rate.
    pub fn min_lr(mut self, lr: f64) -> Self {
        self.min_lr = lr;
        self
    }

    /// A fall by no more than this is not made.
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// The rate now.
    pub fn lr(&self) -> f64 {
        self.lr
    }

    /// The best metric so far; infinite before the first.
    pub fn best(&self) -> f64 {
        self.best
    }

    /// Takes a report, once an epoch, and gives the rate from now on.
    pub fn step(&mut self, metric: f64) -> f64 {
        if self.is_better(metric) {
            (self.best, self.bad) = (metric, 0);
        } else {
            self.bad += 1;
        }
        if self.cooling > 0 {
            self.cooling -= 1;
            self.bad = 0;
        }
        if self.bad > self.patience {
            let lower = (self.lr * self.factor).max(self.min_lr);
            if self.lr - lower > self.eps {
                self.lr = lower;
            }
            self.cooling = self.cooldown;
            self.bad = 0;
        }
        self.lr
    }

    fn is_better(&self, metric: f64) -> bool {
        match (self.mode, self.threshold) {
            (PlateauMode::Min, Threshold::Relative(x)) => metric < self.best * (1.0 - x),
            (PlateauMode::Min, Threshold::Absolute(x)) => metric < self.best - x,
            (PlateauMode::Max, Threshold::Relative(x)) => metric > self.best * (1.0 + x),
            (PlateauMode::Max, Threshold::Absolute(x)) => metric > self.best + x,
        }
    }
}
