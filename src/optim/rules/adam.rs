//! Adam and its variants.

use super::super::formula::{decayed, mul_add};
use super::super::rule::{Hyper, Rule, Update, require_rate, require_share};
use super::super::step::Optimizer;
use super::options;
use crate::error::Result;
use crate::float::Float;
use crate::kernel::simd::{Kernel, dispatch};

/// Adam (Kingma and Ba 2015, <https://arxiv.org/abs/1412.6980>): each element's step is scaled by running means of its
/// gradient and of the gradient's square, at step `t` of the parameter:
///
/// ```text
/// g  =  g + λ·p                                       weight decay λ
/// m  =  β₁·m + (1 - β₁)·g
/// v  =  β₂·v + (1 - β₂)·g²
/// p -=  lr · m/(1 - β₁ᵗ) / (√(v/(1 - β₂ᵗ)) + ε)
/// ```
///
/// By default β₁ = 0.9, β₂ = 0.999, ε = 1e-8, λ = 0, as in PyTorch. The weight decay is part of the gradient and so is scaled like it; for decay
/// apart from the gradient use [`AdamW`].
///
/// ```
/// use gradus::prelude::*;
/// let mut w: Param = Param::new(Tensor::from([1.0, 2.0]));
/// let mut adam = Adam::new(1e-3).betas(0.9, 0.99);
/// let tape = Tape::new(0);
/// let grads = tape.watch(&w).backward_with(&Tensor::from([100.0, -0.1]))?;
/// adam.step(&mut w, &grads)?;
/// assert!((w.to_vec()[0] - 0.999).abs() < 1e-6);      // the first step is lr long, whatever the gradient
/// # Ok::<(), Error>(())
/// ```
pub type Adam = Optimizer<AdamRule>;

/// Adam with decoupled weight decay (Loshchilov and Hutter 2019, <https://arxiv.org/abs/1711.05101>): `p = (1 - lr·λ)·p` instead of a share in
/// the gradient. `AdamW::new(lr)` is not needed as a type of its own: this names the constructor that has PyTorch's default λ = 0.01.
///
/// ```
/// use gradus::prelude::*;
/// let mut adam: Adam = AdamW::new(1e-3).weight_decay(0.1);
/// assert_eq!(adam.lr(), 1e-3);
/// ```
pub struct AdamW;

/// The hyper-parameters of [`Adam`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdamRule {
    /// The learning rate.
    pub lr: f64,
    /// How much of the first moment a step keeps.
    pub beta1: f64,
    /// How much of the second moment a step keeps.
    pub beta2: f64,
    /// What is added to the divisor √v̂.
    pub eps: f64,
    /// The share of the weights that is added to the gradient, or taken off the weights if `decoupled`.
    pub weight_decay: f64,
    /// Whether weight decay acts on the weights directly, as in AdamW.
    pub decoupled: bool,
    /// Whether the divisor uses the largest second moment so far.
    pub amsgrad: bool,
    /// Whether to climb instead of descend.
    pub maximize: bool,
}

impl AdamW {
    /// [`Adam`] with decoupled weight decay 0.01, which [`weight_decay`](Optimizer::weight_decay) changes.
    #[allow(clippy::new_ret_no_self)] // AdamW is Adam with other settings.
    pub fn new(lr: f64) -> Adam {
        Adam::new(lr).weight_decay(0.01).decoupled()
    }
}

impl Optimizer<AdamRule> {
    /// Adam with this learning rate, which [`step`](Optimizer::step) checks.
    pub fn new(lr: f64) -> Self {
        Optimizer::with(AdamRule {
            lr,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            decoupled: false,
            amsgrad: false,
            maximize: false,
        })
    }

    /// How slowly the means of the gradient and of its square forget.
    pub fn betas(mut self, beta1: f64, beta2: f64) -> Self {
        (self.rule.beta1, self.rule.beta2) = (beta1, beta2);
        self
    }

    /// What is added to the root of the mean square, against division by zero.
    pub fn eps(mut self, eps: f64) -> Self {
        self.rule.eps = eps;
        self
    }

    /// Weight decay λ: coupled for [`Adam::new`], decoupled for [`AdamW::new`].
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.rule.weight_decay = weight_decay;
        self
    }

    /// Lets weight decay act on the weights directly, as in [`AdamW`].
    pub fn decoupled(mut self) -> Self {
        self.rule.decoupled = true;
        self
    }

    /// Divides by the largest mean square so far instead of the present one (Reddi et al. 2018).
    pub fn amsgrad(mut self) -> Self {
        self.rule.amsgrad = true;
        self
    }
}

options!(AdamRule: maximize);

impl Rule for AdamRule {
    const NAME: &'static str = "Adam";

    fn lr(&self) -> f64 {
        self.lr
    }

    fn set_lr(&mut self, lr: f64) {
        self.lr = lr;
    }

    fn arrays(&self) -> &'static [&'static str] {
        let all = &["exp_avg", "exp_avg_sq", "max_exp_avg_sq"];
        if self.amsgrad { all } else { &all[..2] }
    }

    fn hyper(&mut self) -> Vec<(&'static str, Hyper<'_>)> {
        vec![
            ("beta1", Hyper::Number(&mut self.beta1)),
            ("beta2", Hyper::Number(&mut self.beta2)),
            ("eps", Hyper::Number(&mut self.eps)),
            ("weight_decay", Hyper::Number(&mut self.weight_decay)),
            ("decoupled", Hyper::Flag(&mut self.decoupled)),
            ("amsgrad", Hyper::Flag(&mut self.amsgrad)),
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
        let c = Coefficients::at(self, update.t());
        if self.amsgrad {
            update.each(1.2, |p, [m, v, top], g| dispatch(AmsGrad { c, p, m, v, top, g }));
        } else {
            update.each(1.0, |p, [m, v], g| dispatch(Plain { c, p, m, v, g }));
        }
    }
}

/// The constants of one step, worked out in double precision.
#[derive(Clone, Copy)]
struct Coefficients<T> {
    sign: T,
    /// Coupled decay: what part of `p` joins the gradient.
    coupled: T,
    /// Decoupled decay: what part of `p` stays.
    keep: T,
    /// `1 - β₁`.
    fresh1: T,
    beta2: T,
    /// `1 - β₂`.
    fresh2: T,
    /// `-lr / (1 - β₁ᵗ)`.
    minus_step: T,
    /// `1 / √(1 - β₂ᵗ)`.
    root: T,
    eps: T,
}

impl<T: Float> Coefficients<T> {
    fn at(rule: &AdamRule, t: u64) -> Self {
        let t = t as f64;
        let (coupled, apart) =
            if rule.decoupled { (0.0, rule.weight_decay) } else { (rule.weight_decay, 0.0) };
        Coefficients {
            sign: T::of(if rule.maximize { -1.0 } else { 1.0 }),
            coupled: T::of(coupled),
            keep: T::of(1.0 - rule.lr * apart),
            fresh1: T::of(1.0 - rule.beta1),
            beta2: T::of(rule.beta2),
            fresh2: T::of(1.0 - rule.beta2),
            minus_step: T::of(-rule.lr / (1.0 - rule.beta1.powf(t))),
            root: T::of(1.0 / (1.0 - rule.beta2.powf(t)).sqrt()),
            eps: T::of(rule.eps),
        }
    }

    /// The new means for one element, and the part of `p` that decoupled decay leaves.
    #[inline(always)]
    fn means<const FMA: bool>(&self, p: T, m: T, v: T, g: T) -> (T, T, T) {
        let g = decayed::<T, FMA>(self.coupled, p, self.sign * g);
        let m = mul_add::<T, FMA>(self.fresh1, g - m, m);
        let v = mul_add::<T, FMA>(self.fresh2 * g, g, self.beta2 * v);
        (p * self.keep, m, v)
    }

    #[inline(always)]
    fn moved<const FMA: bool>(&self, p: T, m: T, v: T) -> T {
        let scale = mul_add::<T, FMA>(v.sqrt(), self.root, self.eps);
        mul_add::<T, FMA>(self.minus_step, m / scale, p)
    }
}

struct Plain<'a, T> {
    c: Coefficients<T>,
    p: &'a mut [T],
    m: &'a mut [T],
    v: &'a mut [T],
    g: &'a [T],
}

impl<T: Float> Kernel for Plain<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let c = self.c;
        for (((p, m), v), &g) in self.p.iter_mut().zip(self.m).zip(self.v).zip(self.g) {
            let kept;
            (kept, *m, *v) = c.means::<FMA>(*p, *m, *v, g);
            *p = c.moved::<FMA>(kept, *m, *v);
        }
    }
}

struct AmsGrad<'a, T> {
    c: Coefficients<T>,
    p: &'a mut [T],
    m: &'a mut [T],
    v: &'a mut [T],
    /// The largest `v` so far.
    top: &'a mut [T],
    g: &'a [T],
}

impl<T: Float> Kernel for AmsGrad<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let c = self.c;
        let state = self.m.iter_mut().zip(self.v).zip(self.top);
        for ((p, ((m, v), top)), &g) in self.p.iter_mut().zip(state).zip(self.g) {
            let kept;
            (kept, *m, *v) = c.means::<FMA>(*p, *m, *v, g);
            // Not `max`: a NaN must stay visible.
            *top = if *top > *v { *top } else { *v };
            *p = c.moved::<FMA>(kept, *m, *top);
        }
    }
}
