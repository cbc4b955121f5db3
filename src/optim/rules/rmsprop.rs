//! RMSProp, plain, centred and with momentum.

use super::super::formula::{Formula, Slope, mul_add, square_mean, toward};
use super::super::rule::{Hyper, Rule, Update, require_rate, require_share};
use super::super::step::Optimizer;
use super::options;
use crate::error::Result;
use crate::float::Float;

/// RMSProp (Tieleman and Hinton 2012, lecture 6.5 of "Neural Networks for Machine Learning"; centred after Graves 2013): the gradient over the
/// root of a running mean of its square.
///
/// ```text
/// g  =  g + λ·p
/// v  =  α·v + (1 - α)·g²
/// m  =  α·m + (1 - α)·g                     centred only
/// d  =  √v + ε,  or √(v - m²) + ε if centred
/// p -=  lr·g/d                              without momentum
/// b  =  μ·b + g/d;  p -= lr·b               with momentum μ
/// ```
///
/// By default α = 0.99, ε = 1e-8, μ = 0, λ = 0, as in PyTorch.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::RmsProp;
/// let mut w: Param = Param::new(Tensor::from([1.0, -2.0]));
/// let mut optimizer = RmsProp::new(0.05).momentum(0.5).centered();
/// for step in 0..20 {
///     let loss = Tape::new(step).watch(&w).square().sum();
///     optimizer.step(&mut w, &loss.backward()?)?;
/// }
/// assert!(w.square().sum().item()? < 5.0);
/// # Ok::<(), Error>(())
/// ```
pub type RmsProp = Optimizer<RmsPropRule>;

/// The hyper-parameters of [`RmsProp`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RmsPropRule {
    /// The learning rate.
    pub lr: f64,
    /// How much of the mean square a step keeps.
    pub alpha: f64,
    /// How much of the velocity a step keeps.
    pub momentum: f64,
    /// Whether the divisor is the standard deviation instead of the root of the mean square.
    pub centered: bool,
    /// What keeps the divisor above zero.
    pub eps: f64,
    /// The share λ of the weights that is added to the gradient.
    pub weight_decay: f64,
    /// Whether to climb instead of descend.
    pub maximize: bool,
}

impl Optimizer<RmsPropRule> {
    /// With this learning rate, which [`step`](Optimizer::step) checks.
    pub fn new(lr: f64) -> Self {
        Optimizer::with(RmsPropRule {
            lr,
            alpha: 0.99,
            momentum: 0.0,
            centered: false,
            eps: 1e-8,
            weight_decay: 0.0,
            maximize: false,
        })
    }

    /// How slowly the mean square forgets.
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.rule.alpha = alpha;
        self
    }

    /// Momentum on the scaled gradients.
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.rule.momentum = momentum;
        self
    }

    /// Divides by the standard deviation of the gradient instead of the root of its mean square.
    pub fn centered(mut self) -> Self {
        self.rule.centered = true;
        self
    }
}

options!(RmsPropRule: eps weight_decay maximize);

impl Rule for RmsPropRule {
    const NAME: &'static str = "RmsProp";

    fn lr(&self) -> f64 {
        self.lr
    }

    fn set_lr(&mut self, lr: f64) {
        self.lr = lr;
    }

    fn arrays(&self) -> &'static [&'static str] {
        match (self.centered, self.momentum != 0.0) {
            (false, false) => &["square_avg"],
            (false, true) => &["square_avg", "momentum_buffer"],
            (true, false) => &["square_avg", "grad_avg"],
            (true, true) => &["square_avg", "momentum_buffer", "grad_avg"],
        }
    }

    fn hyper(&mut self) -> Vec<(&'static str, Hyper<'_>)> {
        vec![
            ("alpha", Hyper::Number(&mut self.alpha)),
            ("momentum", Hyper::Number(&mut self.momentum)),
            ("centered", Hyper::Flag(&mut self.centered)),
            ("eps", Hyper::Number(&mut self.eps)),
            ("weight_decay", Hyper::Number(&mut self.weight_decay)),
            ("maximize", Hyper::Flag(&mut self.maximize)),
        ]
    }

    fn momentum(&mut self) -> Option<&mut f64> {
        Some(&mut self.momentum)
    }

    fn maximizes(&self) -> bool {
        self.maximize
    }

    fn check(&self) -> Result<()> {
        require_rate(Self::NAME, "the learning rate", self.lr)?;
        require_share(Self::NAME, "α", self.alpha)?;
        require_rate(Self::NAME, "the momentum", self.momentum)?;
        require_rate(Self::NAME, "ε", self.eps)?;
        require_rate(Self::NAME, "the weight decay", self.weight_decay)
    }

    fn step<T: Float>(&self, update: Update<'_, T>) {
        let step = Step {
            slope: Slope::new(self.maximize, self.weight_decay),
            minus_lr: T::of(-self.lr),
            alpha: T::of(self.alpha),
            fresh: T::of(1.0 - self.alpha),
            mu: T::of(self.momentum),
            eps: T::of(self.eps),
        };
        match (self.centered, self.momentum != 0.0) {
            (false, false) => update.apply::<1>(0.8, Plain(step)),
            (false, true) => update.apply::<2>(1.0, Momentum(step)),
            (true, false) => update.apply::<2>(1.0, Centered(step)),
            (true, true) => update.apply::<3>(1.2, CenteredMomentum(step)),
        }
    }
}

#[derive(Clone, Copy)]
struct Step<T> {
    slope: Slope<T>,
    minus_lr: T,
    alpha: T,
    fresh: T,
    mu: T,
    eps: T,
}

impl<T: Float> Step<T> {
    /// The gradient over its scale.
    #[inline(always)]
    fn scaled<const FMA: bool>(&self, p: T, v: &mut T, g: T) -> T {
        let g = self.slope.of::<FMA>(p, g);
        *v = square_mean::<T, FMA>(*v, g, self.alpha, self.fresh);
        g / (v.sqrt() + self.eps)
    }

    /// The gradient over its standard deviation.
    #[inline(always)]
    fn centered<const FMA: bool>(&self, p: T, v: &mut T, m: &mut T, g: T) -> T {
        let g = self.slope.of::<FMA>(p, g);
        *v = square_mean::<T, FMA>(*v, g, self.alpha, self.fresh);
        *m = toward::<T, FMA>(*m, g, self.fresh);
        g / (mul_add::<T, FMA>(-*m, *m, *v).sqrt() + self.eps)
    }

    #[inline(always)]
    fn moved<const FMA: bool>(&self, p: &mut T, b: &mut T, scaled: T) {
        *b = mul_add::<T, FMA>(self.mu, *b, scaled);
        *p = mul_add::<T, FMA>(self.minus_lr, *b, *p);
    }
}

#[derive(Clone, Copy)]
struct Plain<T>(Step<T>);

impl<T: Float> Formula<T> for Plain<T> {
    #[inline(always)]
    fn next<const FMA: bool>(&self, p: &mut T, [v, ..]: [&mut T; 3], g: T) {
        let scaled = self.0.scaled::<FMA>(*p, v, g);
        *p = mul_add::<T, FMA>(self.0.minus_lr, scaled, *p);
    }
}

#[derive(Clone, Copy)]
struct Momentum<T>(Step<T>);

impl<T: Float> Formula<T> for Momentum<T> {
    #[inline(always)]
    fn next<const FMA: bool>(&self, p: &mut T, [v, b, _]: [&mut T; 3], g: T) {
        let scaled = self.0.scaled::<FMA>(*p, v, g);
        self.0.moved::<FMA>(p, b, scaled);
    }
}

#[derive(Clone, Copy)]
struct Centered<T>(Step<T>);

impl<T: Float> Formula<T> for Centered<T> {
    #[inline(always)]
    fn next<const FMA: bool>(&self, p: &mut T, [v, m, _]: [&mut T; 3], g: T) {
        let scaled = self.0.centered::<FMA>(*p, v, m, g);
        *p = mul_add::<T, FMA>(self.0.minus_lr, scaled, *p);
    }
}

#[derive(Clone, Copy)]
struct CenteredMomentum<T>(Step<T>);

impl<T: Float> Formula<T> for CenteredMomentum<T> {
    #[inline(always)]
    fn next<const FMA: bool>(&self, p: &mut T, [v, b, m]: [&mut T; 3], g: T) {
        let scaled = self.0.centered::<FMA>(*p, v, m, g);
        self.0.moved::<FMA>(p, b, scaled);
    }
}
