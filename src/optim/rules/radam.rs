//! RAdam.

use super::super::formula::{Formula, Slope, decays, mul_add, square_mean, toward};
use super::super::rule::{Hyper, Rule, Update, require_rate, require_share};
use super::super::step::Optimizer;
use super::options;
use crate::error::Result;
use crate::float::Float;

/// RAdam (Liu et al. 2020, <https://arxiv.org/abs/1908.03265>): Adam whose adaptive scale waits until the mean square is known well enough.
///
/// ```text
/// g   =  g + λ·p                                    or p = (1 - lr·λ)·p if decoupled
/// m   =  β₁·m + (1 - β₁)·g
/// v   =  β₂·v + (1 - β₂)·g²
/// ρ∞  =  2/(1 - β₂) - 1,   ρₜ = ρ∞ - 2·t·β₂ᵗ/(1 - β₂ᵗ)
/// p  -=  lr·m/(1 - β₁ᵗ)                             while ρₜ ≤ 5
/// p  -=  lr·m/(1 - β₁ᵗ) · r·√(1 - β₂ᵗ)/(√v + ε)     later, with r² = (ρₜ-4)(ρₜ-2)ρ∞ / ((ρ∞-4)(ρ∞-2)ρₜ)
/// ```
///
/// By default β₁ = 0.9, β₂ = 0.999, ε = 1e-8, λ = 0, as in PyTorch.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::RAdam;
/// let mut w: Param = Param::new(Tensor::from([1.0, -2.0]));
/// let mut optimizer = RAdam::new(0.1);
/// for step in 0..20 {
///     let loss = Tape::new(step).watch(&w).square().sum();
///     optimizer.step(&mut w, &loss.backward()?)?;
/// }
/// assert!(w.square().sum().item()? < 5.0);
/// # Ok::<(), Error>(())
/// ```
pub type RAdam = Optimizer<RAdamRule>;

/// The hyper-parameters of [`RAdam`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RAdamRule {
    /// The learning rate.
    pub lr: f64,
    /// How much of the first moment a step keeps.
    pub beta1: f64,
    /// How much of the second moment a step keeps.
    pub beta2: f64,
    /// What keeps the divisor above zero.
    pub eps: f64,
    /// The share λ of the weights that is added to the gradient, or taken off the weights if `decoupled`.
    pub weight_decay: f64,
    /// Whether weight decay acts on the weights directly, as in AdamW.
    pub decoupled: bool,
    /// Whether to climb instead of descend.
    pub maximize: bool,
}

impl Optimizer<RAdamRule> {
    /// With this learning rate, which [`step`](Optimizer::step) checks.
    pub fn new(lr: f64) -> Self {
        Optimizer::with(RAdamRule {
            lr,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            decoupled: false,
            maximize: false,
        })
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

options!(RAdamRule: betas eps maximize);

impl Rule for RAdamRule {
    const NAME: &'static str = "RAdam";

    fn lr(&self) -> f64 {
        self.lr
    }

    fn set_lr(&mut self, lr: f64) {
        self.lr = lr;
    }

    fn arrays(&self) -> &'static [&'static str] {
        &["exp_avg", "exp_avg_sq"]
    }

    fn hyper(&mut self) -> Vec<(&'static str, Hyper<'_>)> {
        vec![
            ("beta1", Hyper::Number(&mut self.beta1)),
            ("beta2", Hyper::Number(&mut self.beta2)),
            ("eps", Hyper::Number(&mut self.eps)),
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
        require_rate(Self::NAME, "the weight decay", self.weight_decay)
    }

    fn step<T: Float>(&self, update: Update<'_, T>) {
        let t = update.t() as f64;
        let power2 = self.beta2.powf(t);
        let most = 2.0 / (1.0 - self.beta2) - 1.0;
        let now = most - 2.0 * t * power2 / (1.0 - power2);
        let rect = (now - 4.0) * (now - 2.0) * most / ((most - 4.0) * (most - 2.0) * now);
        let adapts = now > 5.0;
        let scale = if adapts { rect.sqrt() * (1.0 - power2).sqrt() } else { 1.0 };
        let (coupled, keep) = decays(self.lr, self.weight_decay, self.decoupled);
        let step = Step {
            slope: Slope::new(self.maximize, coupled),
            keep: T::of(keep),
            fresh1: T::of(1.0 - self.beta1),
            beta2: T::of(self.beta2),
            fresh2: T::of(1.0 - self.beta2),
            eps: T::of(self.eps),
            minus_lr: T::of(-self.lr / (1.0 - self.beta1.powf(t)) * scale),
        };
        if adapts {
            update.apply::<2>(1.0, Adaptive(step));
        } else {
            update.apply::<2>(0.8, Waiting(step));
        }
    }
}

#[derive(Clone, Copy)]
struct Step<T> {
    slope: Slope<T>,
    keep: T,
    fresh1: T,
    beta2: T,
    fresh2: T,
    eps: T,
    minus_lr: T,
}

impl<T: Float> Step<T> {
    #[inline(always)]
    fn means<const FMA: bool>(&self, p: T, m: &mut T, v: &mut T, g: T) {
        let g = self.slope.of::<FMA>(p, g);
        *m = toward::<T, FMA>(*m, g, self.fresh1);
        *v = square_mean::<T, FMA>(*v, g, self.beta2, self.fresh2);
    }
}

#[derive(Clone, Copy)]
struct Waiting<T>(Step<T>);

impl<T: Float> Formula<T> for Waiting<T> {
    #[inline(always)]
    fn next<const FMA: bool>(&self, p: &mut T, [m, v, _]: [&mut T; 3], g: T) {
        self.0.means::<FMA>(*p, m, v, g);
        *p = mul_add::<T, FMA>(self.0.minus_lr, *m, *p * self.0.keep);
    }
}

#[derive(Clone, Copy)]
struct Adaptive<T>(Step<T>);

impl<T: Float> Formula<T> for Adaptive<T> {
    #[inline(always)]
    fn next<const FMA: bool>(&self, p: &mut T, [m, v, _]: [&mut T; 3], g: T) {
        self.0.means::<FMA>(*p, m, v, g);
        let scaled = *m / (v.sqrt() + self.0.eps);
        *p = mul_add::<T, FMA>(self.0.minus_lr, scaled, *p * self.0.keep);
    }
}
