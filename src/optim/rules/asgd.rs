//! Averaged SGD.

use super::super::formula::{Formula, Slope, mul_add};
use super::super::rule::{Hyper, Rule, Update, require, require_rate};
use super::super::step::Optimizer;
use super::options;
use crate::error::Result;
use crate::float::Float;

/// Averaged stochastic gradient descent (Polyak and Juditsky 1992): descent with a falling rate and decay, and beside every parameter the mean of its values
/// since step `t₀`.
///
/// ```text
/// g  =  g + λ₂·p
/// η  =  lr / (1 + λ·lr·(t - 1))^α
/// p  =  (1 - λ·η)·p - η·g
/// a  =  a + (p - a) / max(1, t - 1 - t₀)          the mean
/// ```
///
/// By default λ (`lambda`) = 1e-4, α = 0.75, t₀ = 1e6 and weight decay λ₂ = 0, as in PyTorch. The mean is the state `"ax"`:
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::Asgd;
/// let mut w: Param = Param::new(Tensor::from([4.0]));
/// let mut asgd = Asgd::new(0.25).lambda(0.0).t0(0.0);
/// for step in 0..3 {
///     let loss = Tape::new(step).watch(&w).square().sum();
///     asgd.step(&mut w, &loss.backward()?)?;          // 4, 2, 1, 0.5
/// }
/// assert_eq!(asgd.state(&w, "ax").unwrap().to_vec(), [0.75]);
/// # Ok::<(), Error>(())
/// ```
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::Asgd;
/// let mut w: Param = Param::new(Tensor::from([1.0, -2.0]));
/// let mut optimizer = Asgd::new(0.1);
/// for step in 0..20 {
///     let loss = Tape::new(step).watch(&w).square().sum();
///     optimizer.step(&mut w, &loss.backward()?)?;
/// }
/// assert!(w.square().sum().item()? < 5.0);
/// # Ok::<(), Error>(())
/// ```
pub type Asgd = Optimizer<AsgdRule>;

/// The hyper-parameters of [`Asgd`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AsgdRule {
    /// The learning rate.
    pub lr: f64,
    /// The decay λ of the weights.
    pub lambda: f64,
    /// The power α of the falling rate.
    pub alpha: f64,
    /// The step at which averaging begins.
    pub t0: f64,
    /// The share λ of the weights that is added to the gradient.
    pub weight_decay: f64,
    /// Whether to climb instead of descend.
    pub maximize: bool,
}

impl Optimizer<AsgdRule> {
    /// With this learning rate, which [`step`](Optimizer::step) checks.
    pub fn new(lr: f64) -> Self {
        Optimizer::with(AsgdRule {
            lr,
            lambda: 1e-4,
            alpha: 0.75,
            t0: 1e6,
            weight_decay: 0.0,
            maximize: false,
        })
    }

    /// The decay λ of the weights, which also makes the rate fall.
    pub fn lambda(mut self, lambda: f64) -> Self {
        self.rule.lambda = lambda;
        self
    }

    /// The power α of the falling rate.
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.rule.alpha = alpha;
        self
    }

    /// The step at which averaging begins.
    pub fn t0(mut self, t0: f64) -> Self {
        self.rule.t0 = t0;
        self
    }
}

options!(AsgdRule: weight_decay maximize);

impl Rule for AsgdRule {
    const NAME: &'static str = "Asgd";

    fn lr(&self) -> f64 {
        self.lr
    }

    fn set_lr(&mut self, lr: f64) {
        self.lr = lr;
    }

    fn arrays(&self) -> &'static [&'static str] {
        &["ax"]
    }

    fn hyper(&mut self) -> Vec<(&'static str, Hyper<'_>)> {
        vec![
            ("lambda", Hyper::Number(&mut self.lambda)),
            ("alpha", Hyper::Number(&mut self.alpha)),
            ("t0", Hyper::Number(&mut self.t0)),
            ("weight_decay", Hyper::Number(&mut self.weight_decay)),
            ("maximize", Hyper::Flag(&mut self.maximize)),
        ]
    }

    fn maximizes(&self) -> bool {
        self.maximize
    }

    fn check(&self) -> Result<()> {
        require_rate(Self::NAME, "the learning rate", self.lr)?;
        require_rate(Self::NAME, "λ", self.lambda)?;
        require_rate(Self::NAME, "α", self.alpha)?;
        require(!self.t0.is_nan(), Self::NAME, "t₀", self.t0, "a number")?;
        require_rate(Self::NAME, "the weight decay", self.weight_decay)
    }

    fn step<T: Float>(&self, update: Update<'_, T>) {
        let before = (update.t() - 1) as f64;
        let eta = self.lr / (1.0 + self.lambda * self.lr * before).powf(self.alpha);
        update.apply::<1>(
            0.7,
            Step {
                slope: Slope::new(self.maximize, self.weight_decay),
                keep: T::of(1.0 - self.lambda * eta),
                minus_eta: T::of(-eta),
                fresh: T::of(1.0 / (before - self.t0).max(1.0)),
            },
        );
    }
}

#[derive(Clone, Copy)]
struct Step<T> {
    slope: Slope<T>,
    keep: T,
    minus_eta: T,
    fresh: T,
}

impl<T: Float> Formula<T> for Step<T> {
    #[inline(always)]
    fn next<const FMA: bool>(&self, p: &mut T, [mean, ..]: [&mut T; 3], g: T) {
        let g = self.slope.of::<FMA>(*p, g);
        *p = mul_add::<T, FMA>(self.minus_eta, g, *p * self.keep);
        // The mean of one value is that value, without rounding.
        *mean = if self.fresh == T::ONE {
            *p
        } else {
            mul_add::<T, FMA>(self.fresh, *p - *mean, *mean)
        };
    }
}
