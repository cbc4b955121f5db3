//! Adadelta.

use super::super::formula::{Formula, Slope, mul_add, square_mean};
use super::super::rule::{Hyper, Rule, Update, require, require_rate};
use super::super::step::Optimizer;
use super::options;
use crate::error::Result;
use crate::float::Float;

/// Adadelta (Zeiler 2012, <https://arxiv.org/abs/1212.5701>): steps in units of the parameters, from the ratio of the running means of squared
/// steps and squared gradients.
///
/// ```text
/// g  =  g + λ·p
/// v  =  ρ·v + (1 - ρ)·g²
/// d  =  √(u + ε) / √(v + ε) · g
/// u  =  ρ·u + (1 - ρ)·d²
/// p -=  lr·d
/// ```
///
/// By default ρ = 0.9, ε = 1e-6, λ = 0, as in PyTorch; the paper's learning rate is 1.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::Adadelta;
/// let mut w: Param = Param::new(Tensor::from([1.0, -2.0]));
/// let mut optimizer = Adadelta::new(1.0).rho(0.95);
/// for step in 0..20 {
///     let loss = Tape::new(step).watch(&w).square().sum();
///     optimizer.step(&mut w, &loss.backward()?)?;
/// }
/// assert!(w.square().sum().item()? < 5.0);
/// # Ok::<(), Error>(())
/// ```
pub type Adadelta = Optimizer<AdadeltaRule>;

/// The hyper-parameters of [`Adadelta`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdadeltaRule {
    /// The learning rate.
    pub lr: f64,
    /// How much of the mean squares a step keeps.
    pub rho: f64,
    /// What keeps the divisor above zero.
    pub eps: f64,
    /// The share λ of the weights that is added to the gradient.
    pub weight_decay: f64,
    /// Whether to climb instead of descend.
    pub maximize: bool,
}

impl Optimizer<AdadeltaRule> {
    /// With this learning rate, which [`step`](Optimizer::step) checks.
    pub fn new(lr: f64) -> Self {
        Optimizer::with(AdadeltaRule {
            lr,
            rho: 0.9,
            eps: 1e-6,
            weight_decay: 0.0,
            maximize: false,
        })
    }

    /// How slowly the mean squares forget.
    pub fn rho(mut self, rho: f64) -> Self {
        self.rule.rho = rho;
        self
    }
}

options!(AdadeltaRule: eps weight_decay maximize);

impl Rule for AdadeltaRule {
    const NAME: &'static str = "Adadelta";

    fn lr(&self) -> f64 {
        self.lr
    }

    fn set_lr(&mut self, lr: f64) {
        self.lr = lr;
    }

    fn arrays(&self) -> &'static [&'static str] {
        &["square_avg", "acc_delta"]
    }

    fn hyper(&mut self) -> Vec<(&'static str, Hyper<'_>)> {
        vec![
            ("rho", Hyper::Number(&mut self.rho)),
            ("eps", Hyper::Number(&mut self.eps)),
            ("weight_decay", Hyper::Number(&mut self.weight_decay)),
            ("maximize", Hyper::Flag(&mut self.maximize)),
        ]
    }

    fn maximizes(&self) -> bool {
        self.maximize
    }

    fn check(&self) -> Result<()> {
        require_rate(Self::NAME, "the learning rate", self.lr)?;
        require((0.0..=1.0).contains(&self.rho), Self::NAME, "ρ", self.rho, "from 0 to 1")?;
        require_rate(Self::NAME, "ε", self.eps)?;
        require_rate(Self::NAME, "the weight decay", self.weight_decay)
    }

    fn step<T: Float>(&self, update: Update<'_, T>) {
        update.apply::<2>(
            1.2,
            Step {
                slope: Slope::new(self.maximize, self.weight_decay),
                minus_lr: T::of(-self.lr),
                rho: T::of(self.rho),
                fresh: T::of(1.0 - self.rho),
                eps: T::of(self.eps),
            },
        );
    }
}

#[derive(Clone, Copy)]
struct Step<T> {
    slope: Slope<T>,
    minus_lr: T,
    rho: T,
    fresh: T,
    eps: T,
}

impl<T: Float> Formula<T> for Step<T> {
    #[inline(always)]
    fn next<const FMA: bool>(&self, p: &mut T, [v, u, _]: [&mut T; 3], g: T) {
        let g = self.slope.of::<FMA>(*p, g);
        *v = square_mean::<T, FMA>(*v, g, self.rho, self.fresh);
        let d = (*u + self.eps).sqrt() / (*v + self.eps).sqrt() * g;
        *u = square_mean::<T, FMA>(*u, d, self.rho, self.fresh);
        *p = mul_add::<T, FMA>(self.minus_lr, d, *p);
    }
}
