//! NAdam.

use super::super::formula::{Formula, Slope, decays, mul_add, square_mean, toward};
use super::super::rule::{Hyper, Rule, Update, require_rate, require_share};
use super::super::step::Optimizer;
use super::options;
use crate::error::Result;
use crate::float::Float;

/// NAdam (Dozat 2016, <https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ>): Adam with Nesterov's momentum, whose strength μ grows with the step `t`.
///
/// ```text
/// g  =  g + λ·p                                     or p = (1 - lr·λ)·p if decoupled
/// μₜ =  β₁·(1 - ½·0.96^(t·ψ))                       ψ: the momentum decay
/// m  =  β₁·m + (1 - β₁)·g
/// v  =  β₂·v + (1 - β₂)·g²
/// p -=  lr·(μₜ₊₁·m/(1 - μ₁…μₜ₊₁) + (1 - μₜ)·g/(1 - μ₁…μₜ)) / (√(v/(1 - β₂ᵗ)) + ε)
/// ```
///
/// By default β₁ = 0.9, β₂ = 0.999, ε = 1e-8, ψ = 0.004, λ = 0, as in PyTorch.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::NAdam;
/// let mut w: Param = Param::new(Tensor::from([1.0, -2.0]));
/// let mut optimizer = NAdam::new(0.1).weight_decay(1e-2).decoupled();
/// for step in 0..20 {
///     let loss = Tape::new(step).watch(&w).square().sum();
///     optimizer.step(&mut w, &loss.backward()?)?;
/// }
/// assert!(w.square().sum().item()? < 5.0);
/// # Ok::<(), Error>(())
/// ```
pub type NAdam = Optimizer<NAdamRule>;

/// The hyper-parameters of [`NAdam`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NAdamRule {
    /// The learning rate.
    pub lr: f64,
    /// How much of the first moment a step keeps.
    pub beta1: f64,
    /// How much of the second moment a step keeps.
    pub beta2: f64,
    /// What keeps the divisor above zero.
    pub eps: f64,
    /// How fast the momentum grows to β₁.
    pub momentum_decay: f64,
    /// The share λ of the weights that is added to the gradient, or taken off the weights if `decoupled`.
    pub weight_decay: f64,
    /// Whether weight decay acts on the weights directly, as in AdamW.
    pub decoupled: bool,
    /// Whether to climb instead of descend.
    pub maximize: bool,
}

impl Optimizer<NAdamRule> {
    /// With this learning rate, which [`step`](Optimizer::step) checks.
    pub fn new(lr: f64) -> Self {
        Optimizer::with(NAdamRule {
            lr,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            momentum_decay: 4e-3,
            weight_decay: 0.0,
            decoupled: false,
            maximize: false,
        })
    }

    /// How fast the momentum grows to β₁: ψ.
    pub fn momentum_decay(mut self, momentum_decay: f64) -> Self {
        self.rule.momentum_decay = momentum_decay;
        self
    }

    /// Weight decay λ, coupled unless [`decoupled`](Self::decoupled).
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.rule.weight_decay = weight_decay;
        self
    }

    /// Lets weight decay act on the weights directly, `p = (1 - lr·λ)·p`, as in AdamW.
    pub fn decoupled(mut self) -> Self {
        self.rule.decoupled = true;
        self
    }
}

options!(NAdamRule: betas eps maximize);

impl Rule for NAdamRule {
    const NAME: &'static str = "NAdam";

    fn lr(&self) -> f64 {
        self.lr
    }

    fn set_lr(&mut self, lr: f64) {
        self.lr = lr;
    }

    fn arrays(&self) -> &'static [&'static str] {
        &["exp_avg", "exp_avg_sq"]
    }

    fn numbers(&self) -> &'static [(&'static str, f64)] {
        &[("mu_product", 1.0)]
    }

    fn hyper(&mut self) -> Vec<(&'static str, Hyper<'_>)> {
        vec![
            ("beta1", Hyper::Number(&mut self.beta1)),
            ("beta2", Hyper::Number(&mut self.beta2)),
            ("eps", Hyper::Number(&mut self.eps)),
            ("momentum_decay", Hyper::Number(&mut self.momentum_decay)),
            ("weight_decay", Hyper::Number(&mut self.weight_decay)),
            ("decoupled", Hyper::Flag(&mut self.decoupled)),
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
        require_rate(Self::NAME, "the momentum decay", self.momentum_decay)?;
        require_rate(Self::NAME, "the weight decay", self.weight_decay)
    }

    fn step<T: Float>(&self, mut update: Update<'_, T>) {
        let t = update.t() as f64;
        let mu = |t: f64| self.beta1 * (1.0 - 0.5 * 0.96f64.powf(t * self.momentum_decay));
        let (mu, mu_next) = (mu(t), mu(t + 1.0));
        let mut product = 1.0;
        if let [kept] = update.numbers() {
            *kept *= mu;
            product = *kept;
        }
        let (coupled, keep) = decays(self.lr, self.weight_decay, self.decoupled);
        update.apply::<2>(
            1.2,
            Step {
                slope: Slope::new(self.maximize, coupled),
                keep: T::of(keep),
                fresh1: T::of(1.0 - self.beta1),
                beta2: T::of(self.beta2),
                fresh2: T::of(1.0 - self.beta2),
                root: T::of(1.0 / (1.0 - self.beta2.powf(t)).sqrt()),
                eps: T::of(self.eps),
                of_g: T::of(-self.lr * (1.0 - mu) / (1.0 - product)),
                of_m: T::of(-self.lr * mu_next / (1.0 - product * mu_next)),
            },
        );
    }
}

#[derive(Clone, Copy)]
struct Step<T> {
    slope: Slope<T>,
    keep: T,
    fresh1: T,
    beta2: T,
    fresh2: T,
    root: T,
    eps: T,
    of_g: T,
    of_m: T,
}

impl<T: Float> Formula<T> for Step<T> {
    #[inline(always)]
    fn next<const FMA: bool>(&self, p: &mut T, [m, v, _]: [&mut T; 3], g: T) {
        let g = self.slope.of::<FMA>(*p, g);
        *m = toward::<T, FMA>(*m, g, self.fresh1);
        *v = square_mean::<T, FMA>(*v, g, self.beta2, self.fresh2);
        let scale = mul_add::<T, FMA>(v.sqrt(), self.root, self.eps);
        let ahead = mul_add::<T, FMA>(self.of_g, g, self.of_m * *m);
        *p = mul_add::<T, FMA>(*p, self.keep, ahead / scale);
    }
}
