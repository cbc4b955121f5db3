//! Lion.

use super::super::formula::{Formula, Slope, mul_add, sign, toward};
use super::super::rule::{Hyper, Rule, Update, require_rate, require_share};
use super::super::step::Optimizer;
use super::options;
use crate::error::Result;
use crate::float::Float;

/// Lion (Chen et al. 2023, <https://arxiv.org/abs/2302.06675>): steps of one length along the sign of an interpolated momentum; half of Adam's memory.
///
/// ```text
/// c  =  β₁·m + (1 - β₁)·g
/// p  =  (1 - lr·λ)·p - lr·sign(c)
/// m  =  β₂·m + (1 - β₂)·g
/// ```
///
/// By default β₁ = 0.9, β₂ = 0.99, λ = 0. Its authors advise a learning rate 3 to 10 times lower than AdamW's and a weight decay as many times higher.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::Lion;
/// let mut w: Param = Param::new(Tensor::from([1.0, -2.0]));
/// let mut optimizer = Lion::new(0.05);
/// for step in 0..20 {
///     let loss = Tape::new(step).watch(&w).square().sum();
///     optimizer.step(&mut w, &loss.backward()?)?;
/// }
/// assert!(w.square().sum().item()? < 5.0);
/// # Ok::<(), Error>(())
/// ```
pub type Lion = Optimizer<LionRule>;

/// The hyper-parameters of [`Lion`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LionRule {
    /// The learning rate.
    pub lr: f64,
    /// How much of the first moment a step keeps.
    pub beta1: f64,
    /// How much of the second moment a step keeps.
    pub beta2: f64,
    /// The share λ of the weights that a step takes off, times the learning rate.
    pub weight_decay: f64,
    /// Whether to climb instead of descend.
    pub maximize: bool,
}

impl Optimizer<LionRule> {
    /// With this learning rate, which [`step`](Optimizer::step) checks.
    pub fn new(lr: f64) -> Self {
        Optimizer::with(LionRule {
            lr,
            beta1: 0.9,
            beta2: 0.99,
            weight_decay: 0.0,
            maximize: false,
        })
    }

    /// Decoupled weight decay λ.
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.rule.weight_decay = weight_decay;
        self
    }
}

options!(LionRule: betas maximize);

impl Rule for LionRule {
    const NAME: &'static str = "Lion";

    fn lr(&self) -> f64 {
        self.lr
    }

    fn set_lr(&mut self, lr: f64) {
        self.lr = lr;
    }

    fn arrays(&self) -> &'static [&'static str] {
        &["exp_avg"]
    }

    fn hyper(&mut self) -> Vec<(&'static str, Hyper<'_>)> {
        vec![
            ("beta1", Hyper::Number(&mut self.beta1)),
            ("beta2", Hyper::Number(&mut self.beta2)),
            ("weight_decay", Hyper::Number(&mut self.weight_decay)),
            ("maximize", Hyper::Flag(&mut self.maximize)),
        ]
    }

    fn momentum(&mut self) -> Option<&mut f64> {
        Some(&mut self.beta1)
    }

    fn maximizes(&self) -> bool {
        self.maximize
    }

    fn check(&self) -> Result<()> {
        require_rate(Self::NAME, "the learning rate", self.lr)?;
        require_share(Self::NAME, "β₁", self.beta1)?;
        require_share(Self::NAME, "β₂", self.beta2)?;
        require_rate(Self::NAME, "the weight decay", self.weight_decay)
    }

    fn step<T: Float>(&self, update: Update<'_, T>) {
        update.apply::<1>(
            0.7,
            Step {
                slope: Slope::new(self.maximize, 0.0),
                keep: T::of(1.0 - self.lr * self.weight_decay),
                fresh1: T::of(1.0 - self.beta1),
                fresh2: T::of(1.0 - self.beta2),
                minus_lr: T::of(-self.lr),
            },
        );
    }
}

#[derive(Clone, Copy)]
struct Step<T> {
    slope: Slope<T>,
    keep: T,
    fresh1: T,
    fresh2: T,
    minus_lr: T,
}

impl<T: Float> Formula<T> for Step<T> {
    #[inline(always)]
    fn next<const FMA: bool>(&self, p: &mut T, [m, ..]: [&mut T; 3], g: T) {
        let g = self.slope.of::<FMA>(*p, g);
        let c = toward::<T, FMA>(*m, g, self.fresh1);
        *p = mul_add::<T, FMA>(self.minus_lr, sign(c), *p * self.keep);
        *m = toward::<T, FMA>(*m, g, self.fresh2);
    }
}
