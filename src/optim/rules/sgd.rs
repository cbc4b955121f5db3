//! Stochastic gradient descent, with momentum.

use super::super::formula::{decayed, mul_add};
use super::super::rule::{Hyper, Rule, Update, require, require_rate};
use super::super::step::Optimizer;
use super::options;
use crate::error::Result;
use crate::float::Float;
use crate::kernel::simd::{Kernel, dispatch};

/// Stochastic gradient descent: `p -= lr·g`.
///
/// With weight decay `λ`, momentum `μ` and dampening `τ` (as in PyTorch, after Sutskever et al. 2013):
///
/// ```text
/// g  =  g + λ·p
/// b  =  g                      at the first step of a parameter
/// b  =  μ·b + (1 - τ)·g        later
/// p -=  lr·b                   plain momentum
/// p -=  lr·(g + μ·b)           Nesterov's
/// ```
///
/// ```
/// use gradus::prelude::*;
/// let mut w: Param = Param::new(Tensor::from([1.0, 2.0]));
/// let mut sgd = Sgd::new(0.1).momentum(0.9).nesterov().weight_decay(1e-4);
/// let tape = Tape::new(0);
/// let grads = tape.watch(&w).backward_with(&Tensor::from([1.0, 1.0]))?;
/// sgd.step(&mut w, &grads)?;
/// assert!(w.to_vec()[0] < 0.82);
/// # Ok::<(), Error>(())
/// ```
pub type Sgd = Optimizer<SgdRule>;

/// The hyper-parameters of [`Sgd`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SgdRule {
    /// The learning rate.
    pub lr: f64,
    /// How much of the velocity a step keeps.
    pub momentum: f64,
    /// The share of the gradient that the velocity does not take.
    pub dampening: f64,
    /// The share of the weights that is added to the gradient.
    pub weight_decay: f64,
    /// Whether to step along the velocity of the next step (Nesterov).
    pub nesterov: bool,
    /// Whether to climb instead of descend.
    pub maximize: bool,
}

impl Optimizer<SgdRule> {
    /// Plain descent with this learning rate, which [`step`](Optimizer::step) checks.
    pub fn new(lr: f64) -> Self {
        Optimizer::with(SgdRule {
            lr,
            momentum: 0.0,
            dampening: 0.0,
            weight_decay: 0.0,
            nesterov: false,
            maximize: false,
        })
    }

    /// Momentum, usually 0.9.
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.rule.momentum = momentum;
        self
    }

    /// How much of the gradient is held back from the momentum; 0 by default.
    pub fn dampening(mut self, dampening: f64) -> Self {
        self.rule.dampening = dampening;
        self
    }

    /// L2 penalty: `weight_decay·p` is added to the gradient.
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.rule.weight_decay = weight_decay;
        self
    }

    /// Nesterov's momentum: the step looks ahead by one. Needs momentum and no dampening.
    pub fn nesterov(mut self) -> Self {
        self.rule.nesterov = true;
        self
    }
}

options!(SgdRule: maximize);

impl Rule for SgdRule {
    const NAME: &'static str = "Sgd";

    fn lr(&self) -> f64 {
        self.lr
    }

    fn set_lr(&mut self, lr: f64) {
        self.lr = lr;
    }

    fn arrays(&self) -> &'static [&'static str] {
        if self.momentum == 0.0 { &[] } else { &["momentum_buffer"] }
    }

    fn hyper(&mut self) -> Vec<(&'static str, Hyper<'_>)> {
        vec![
            ("momentum", Hyper::Number(&mut self.momentum)),
            ("dampening", Hyper::Number(&mut self.dampening)),
            ("weight_decay", Hyper::Number(&mut self.weight_decay)),
            ("nesterov", Hyper::Flag(&mut self.nesterov)),
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
        require_rate(Self::NAME, "the momentum", self.momentum)?;
        require(self.dampening.is_finite(), Self::NAME, "the dampening", self.dampening, "finite")?;
        require_rate(Self::NAME, "the weight decay", self.weight_decay)?;
        if self.nesterov {
            let must = "above 0 for Nesterov's momentum";
            require(self.momentum > 0.0, Self::NAME, "the momentum", self.momentum, must)?;
            let must = "0 for Nesterov's momentum";
            require(self.dampening == 0.0, Self::NAME, "the dampening", self.dampening, must)?;
        }
        Ok(())
    }

    fn step<T: Float>(&self, update: Update<'_, T>) {
        let sign = T::of(if self.maximize { -1.0 } else { 1.0 });
        let (lr, decay) = (T::of(self.lr), T::of(self.weight_decay));
        if self.momentum == 0.0 {
            return update.each(0.3, |p, [], g| dispatch(Plain { lr, decay, sign, p, g }));
        }
        let mu = T::of(self.momentum);
        // At first the momentum is the gradient itself, without dampening: 0·μ + 1·g.
        let share = T::of(if update.t() == 1 { 1.0 } else { 1.0 - self.dampening });
        // Both kinds in one formula: p -= lr·(α·g + β·b).
        let (alpha, beta) = if self.nesterov { (T::ONE, mu) } else { (T::ZERO, T::ONE) };
        let (alpha, beta) = (lr * alpha, lr * beta);
        update.each(0.5, |p, [b], g| {
            dispatch(Momentum { decay, sign, mu, share, alpha, beta, p, b, g })
        });
    }
}

struct Plain<'a, T> {
    lr: T,
    decay: T,
    sign: T,
    p: &'a mut [T],
    g: &'a [T],
}

impl<T: Float> Kernel for Plain<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (p, &g) in self.p.iter_mut().zip(self.g) {
            let g = decayed::<T, FMA>(self.decay, *p, self.sign * g);
            *p = mul_add::<T, FMA>(-self.lr, g, *p);
        }
    }
}

struct Momentum<'a, T> {
    decay: T,
    sign: T,
    mu: T,
    share: T,
    alpha: T,
    beta: T,
    p: &'a mut [T],
    b: &'a mut [T],
    g: &'a [T],
}

impl<T: Float> Kernel for Momentum<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for ((p, b), &g) in self.p.iter_mut().zip(self.b).zip(self.g) {
            let g = decayed::<T, FMA>(self.decay, *p, self.sign * g);
            *b = mul_add::<T, FMA>(self.mu, *b, self.share * g);
            let ahead = decayed::<T, FMA>(-self.alpha, g, *p);
            *p = mul_add::<T, FMA>(-self.beta, *b, ahead);
        }
    }
}
