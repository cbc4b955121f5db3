//! AdaGrad.

use super::super::formula::{Formula, Slope, mul_add};
use super::super::rule::{Hyper, Rule, Update, require_rate};
use super::super::step::Optimizer;
use super::options;
use crate::error::Result;
use crate::float::Float;

/// AdaGrad (Duchi, Hazan and Singer 2011, <https://jmlr.org/papers/v12/duchi11a.html>): every element has a rate of its own, which falls with the sum of the squares of
/// its gradients. At step `t`, with learning-rate decay δ:
///
/// ```text
/// g  =  g + λ·p
/// s  =  s + g²                              s begins as the initial accumulator
/// p -=  lr/(1 + (t - 1)·δ) · g / (√s + ε)
/// ```
///
/// By default δ = 0, λ = 0, ε = 1e-10 and the initial accumulator is 0, as in PyTorch.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::AdaGrad;
/// let mut w: Param = Param::new(Tensor::from([1.0, -2.0]));
/// let mut optimizer = AdaGrad::new(0.1).lr_decay(1e-3);
/// for step in 0..20 {
///     let loss = Tape::new(step).watch(&w).square().sum();
///     optimizer.step(&mut w, &loss.backward()?)?;
/// }
/// assert!(w.square().sum().item()? < 5.0);
/// # Ok::<(), Error>(())
/// ```
pub type AdaGrad = Optimizer<AdaGradRule>;

/// The hyper-parameters of [`AdaGrad`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdaGradRule {
    /// The learning rate.
    pub lr: f64,
    /// How fast the learning rate falls with the steps.
    pub lr_decay: f64,
    /// What the sums of squares begin with.
    pub initial_accumulator: f64,
    /// What keeps the divisor above zero.
    pub eps: f64,
    /// The share λ of the weights that is added to the gradient.
    pub weight_decay: f64,
    /// Whether to climb instead of descend.
    pub maximize: bool,
}

impl Optimizer<AdaGradRule> {
    /// With this learning rate, which [`step`](Optimizer::step) checks.
    pub fn new(lr: f64) -> Self {
        Optimizer::with(AdaGradRule {
            lr,
            lr_decay: 0.0,
            initial_accumulator: 0.0,
            eps: 1e-10,
            weight_decay: 0.0,
            maximize: false,
        })
    }

    /// How fast the learning rate falls: at step t it is `lr / (1 + (t - 1)·lr_decay)`.
    pub fn lr_decay(mut self, lr_decay: f64) -> Self {
        self.rule.lr_decay = lr_decay;
        self
    }

    /// What the sums of squares begin with, for parameters that have no state yet.
    pub fn initial_accumulator(mut self, initial_accumulator: f64) -> Self {
        self.rule.initial_accumulator = initial_accumulator;
        self
    }
}

options!(AdaGradRule: eps weight_decay maximize);

impl Rule for AdaGradRule {
    const NAME: &'static str = "AdaGrad";

    fn lr(&self) -> f64 {
        self.lr
    }

    fn set_lr(&mut self, lr: f64) {
        self.lr = lr;
    }

    fn arrays(&self) -> &'static [&'static str] {
        &["sum"]
    }

    fn initial(&self, _array: usize) -> f64 {
        self.initial_accumulator
    }

    fn hyper(&mut self) -> Vec<(&'static str, Hyper<'_>)> {
        vec![
            ("lr_decay", Hyper::Number(&mut self.lr_decay)),
            ("initial_accumulator", Hyper::Number(&mut self.initial_accumulator)),
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
        require_rate(Self::NAME, "the learning-rate decay", self.lr_decay)?;
        require_rate(Self::NAME, "the initial accumulator", self.initial_accumulator)?;
        require_rate(Self::NAME, "ε", self.eps)?;
        require_rate(Self::NAME, "the weight decay", self.weight_decay)
    }

    fn step<T: Float>(&self, update: Update<'_, T>) {
        let lr = self.lr / (1.0 + (update.t() - 1) as f64 * self.lr_decay);
        let slope = Slope::new(self.maximize, self.weight_decay);
        update.apply::<1>(0.8, Step { slope, minus_lr: T::of(-lr), eps: T::of(self.eps) });
    }
}

#[derive(Clone, Copy)]
struct Step<T> {
    slope: Slope<T>,
    minus_lr: T,
    eps: T,
}

impl<T: Float> Formula<T> for Step<T> {
    #[inline(always)]
    fn next<const FMA: bool>(&self, p: &mut T, [sum, ..]: [&mut T; 3], g: T) {
        let g = self.slope.of::<FMA>(*p, g);
        *sum = mul_add::<T, FMA>(g, g, *sum);
        *p = mul_add::<T, FMA>(self.minus_lr, g / (sum.sqrt() + self.eps), *p);
    }
}
