//! Rprop.

use super::super::formula::{Formula, Slope, mul_add, sign};
use super::super::rule::{Hyper, Rule, Update, require, require_rate};
use super::super::step::Optimizer;
use super::options;
use crate::error::Result;
use crate::float::Float;

/// Rprop (Riedmiller and Braun 1993, the variant without weight-backtracking of Igel and Hüsken 2000), for full batches: only the signs of the gradient
/// count. Each element has a step length of its own, at first the learning rate, that grows while the sign stays and shrinks when it turns:
///
/// ```text
/// s  =  sign(g·g')                 g': the gradient of the step before, at first 0
/// l  =  l·η₊ if s > 0,  l·η₋ if s < 0, kept within the limits
/// g  =  0 if s < 0
/// p -=  l·sign(g)
/// ```
///
/// By default η₋ = 0.5, η₊ = 1.2 and the limits are 1e-6 and 50, as in PyTorch. The learning rate is read when a parameter is met for the first time.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::Rprop;
/// let mut w: Param = Param::new(Tensor::from([1.0, -2.0]));
/// let mut optimizer = Rprop::new(0.1);
/// for step in 0..20 {
///     let loss = Tape::new(step).watch(&w).square().sum();
///     optimizer.step(&mut w, &loss.backward()?)?;
/// }
/// assert!(w.square().sum().item()? < 5.0);
/// # Ok::<(), Error>(())
/// ```
pub type Rprop = Optimizer<RpropRule>;

/// The hyper-parameters of [`Rprop`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RpropRule {
    /// The learning rate.
    pub lr: f64,
    /// The factor of a step length whose gradient turned.
    pub eta_minus: f64,
    /// The factor of a step length whose gradient kept its sign.
    pub eta_plus: f64,
    /// The shortest step.
    pub min_step: f64,
    /// The longest step.
    pub max_step: f64,
    /// Whether to climb instead of descend.
    pub maximize: bool,
}

impl Optimizer<RpropRule> {
    /// With this learning rate, which [`step`](Optimizer::step) checks.
    pub fn new(lr: f64) -> Self {
        Optimizer::with(RpropRule {
            lr,
            eta_minus: 0.5,
            eta_plus: 1.2,
            min_step: 1e-6,
            max_step: 50.0,
            maximize: false,
        })
    }

    /// The factors of the step length: below 1 after a turn, above 1 otherwise.
    pub fn etas(mut self, minus: f64, plus: f64) -> Self {
        (self.rule.eta_minus, self.rule.eta_plus) = (minus, plus);
        self
    }

    /// The limits of the step length.
    pub fn step_sizes(mut self, min: f64, max: f64) -> Self {
        (self.rule.min_step, self.rule.max_step) = (min, max);
        self
    }
}

options!(RpropRule: maximize);

impl Rule for RpropRule {
    const NAME: &'static str = "Rprop";

    fn lr(&self) -> f64 {
        self.lr
    }

    fn set_lr(&mut self, lr: f64) {
        self.lr = lr;
    }

    fn arrays(&self) -> &'static [&'static str] {
        &["prev", "step_size"]
    }

    fn initial(&self, array: usize) -> f64 {
        if array == 0 { 0.0 } else { self.lr }
    }

    fn hyper(&mut self) -> Vec<(&'static str, Hyper<'_>)> {
        vec![
            ("eta_minus", Hyper::Number(&mut self.eta_minus)),
            ("eta_plus", Hyper::Number(&mut self.eta_plus)),
            ("min_step", Hyper::Number(&mut self.min_step)),
            ("max_step", Hyper::Number(&mut self.max_step)),
            ("maximize", Hyper::Flag(&mut self.maximize)),
        ]
    }

    fn maximizes(&self) -> bool {
        self.maximize
    }

    fn check(&self) -> Result<()> {
        require_rate(Self::NAME, "the learning rate", self.lr)?;
        let between = self.eta_minus > 0.0 && self.eta_minus < 1.0;
        require(between, Self::NAME, "η₋", self.eta_minus, "above 0 and below 1")?;
        let above = self.eta_plus > 1.0 && self.eta_plus.is_finite();
        require(above, Self::NAME, "η₊", self.eta_plus, "above 1 and finite")?;
        require_rate(Self::NAME, "the shortest step", self.min_step)?;
        let most = self.max_step >= self.min_step;
        require(most, Self::NAME, "the longest step", self.max_step, "at least the shortest one")
    }

    fn step<T: Float>(&self, update: Update<'_, T>) {
        update.apply::<2>(
            1.0,
            Step {
                slope: Slope::new(self.maximize, 0.0),
                minus: T::of(self.eta_minus),
                plus: T::of(self.eta_plus),
                min: T::of(self.min_step),
                max: T::of(self.max_step),
            },
        );
    }
}

#[derive(Clone, Copy)]
struct Step<T> {
    slope: Slope<T>,
    minus: T,
    plus: T,
    min: T,
    max: T,
}

impl<T: Float> Formula<T> for Step<T> {
    #[inline(always)]
    fn next<const FMA: bool>(&self, p: &mut T, [prev, length, _]: [&mut T; 3], g: T) {
        let g = self.slope.of::<FMA>(*p, g);
        let same = g * *prev;
        let (factor, g) = if same > T::ZERO {
            (self.plus, g)
        } else if same < T::ZERO {
            (self.minus, T::ZERO)
        } else {
            (T::ONE, g)
        };
        let l = *length * factor;
        let l = if l < self.min { self.min } else { l };
        *length = if l > self.max { self.max } else { l };
        *p = mul_add::<T, FMA>(-*length, sign(g), *p);
        *prev = g;
    }
}
