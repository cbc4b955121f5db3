//! Adamax.

use super::super::formula::{Formula, Slope, mul_add, toward};
use super::super::rule::{Hyper, Rule, Update, require_rate, require_share};
use super::super::step::Optimizer;
use super::options;
use crate::error::Result;
use crate::float::Float;

/// Adamax (Kingma and Ba 2015, section 7, <https://arxiv.org/abs/1412.6980>): Adam with the largest recent gradient in the place of the root mean square.
///
/// ```text
/// g  =  g + λ·p
/// m  =  β₁·m + (1 - β₁)·g
/// u  =  max(β₂·u, |g| + ε)
/// p -=  lr/(1 - β₁ᵗ) · m/u
/// ```
///
/// By default β₁ = 0.9, β₂ = 0.999, ε = 1e-8, λ = 0, as in PyTorch.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::Adamax;
/// let mut w: Param = Param::new(Tensor::from([1.0, -2.0]));
/// let mut optimizer = Adamax::new(0.1);
/// for step in 0..20 {
///     let loss = Tape::new(step).watch(&w).square().sum();
///     optimizer.step(&mut w, &loss.backward()?)?;
/// }
/// assert!(w.square().sum().item()? < 5.0);
/// # Ok::<(), Error>(())
/// ```
pub type Adamax = Optimizer<AdamaxRule>;

/// The hyper-parameters of [`Adamax`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdamaxRule {
    /// The learning rate.
    pub lr: f64,
    /// How much of the first moment a step keeps.
    pub beta1: f64,
    /// How much of the second moment a step keeps.
    pub beta2: f64,
    /// What keeps the divisor above zero.
    pub eps: f64,
    /// The share λ of the weights that is added to the gradient.
    pub weight_decay: f64,
    /// Whether to climb instead of descend.
    pub maximize: bool,
}

impl Optimizer<AdamaxRule> {
    /// With this learning rate, which [`step`](Optimizer::step) checks.
    pub fn new(lr: f64) -> Self {
        Optimizer::with(AdamaxRule {
            lr,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            maximize: false,
        })
    }
}

options!(AdamaxRule: betas eps weight_decay maximize);

impl Rule for AdamaxRule {
    const NAME: &'static str = "Adamax";

    fn lr(&self) -> f64 {
        self.lr
    }

    fn set_lr(&mut self, lr: f64) {
        self.lr = lr;
    }

    fn arrays(&self) -> &'static [&'static str] {
        &["exp_avg", "exp_inf"]
    }

    fn hyper(&mut self) -> Vec<(&'static str, Hyper<'_>)> {
        vec![
            ("beta1", Hyper::Number(&mut self.beta1)),
            ("beta2", Hyper::Number(&mut self.beta2)),
            ("eps", Hyper::Number(&mut self.eps)),
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
        require_rate(Self::NAME, "ε", self.eps)?;
        require_rate(Self::NAME, "the weight decay", self.weight_decay)
    }

    fn step<T: Float>(&self, update: Update<'_, T>) {
        let lr = self.lr / (1.0 - self.beta1.powf(update.t() as f64));
        update.apply::<2>(
            1.0,
            Step {
                slope: Slope::new(self.maximize, self.weight_decay),
                fresh1: T::of(1.0 - self.beta1),
                beta2: T::of(self.beta2),
                eps: T::of(self.eps),
                minus_lr: T::of(-lr),
            },
        );
    }
}

#[derive(Clone, Copy)]
struct Step<T> {
    slope: Slope<T>,
    fresh1: T,
    beta2: T,
    eps: T,
    minus_lr: T,
}

impl<T: Float> Formula<T> for Step<T> {
    #[inline(always)]
    fn next<const FMA: bool>(&self, p: &mut T, [m, u, _]: [&mut T; 3], g: T) {
        let g = self.slope.of::<FMA>(*p, g);
        *m = toward::<T, FMA>(*m, g, self.fresh1);
        let (old, new) = (self.beta2 * *u, g.abs() + self.eps);
        // Not `max`: a NaN must stay visible.
        *u = if old > new || old.is_nan() { old } else { new };
        *p = mul_add::<T, FMA>(self.minus_lr, *m / *u, *p);
    }
}
