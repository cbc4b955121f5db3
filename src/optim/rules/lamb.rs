//! LAMB.

use super::super::formula::{decayed, mul_add, square_mean, toward};
use super::super::rule::{Hyper, Rule, Update, require_rate, require_share};
use super::super::step::Optimizer;
use super::options;
use crate::error::Result;
use crate::float::Float;
use crate::kernel::simd::{Kernel, dispatch};

/// LAMB (You et al. 2020, algorithm 2, <https://arxiv.org/abs/1904.00962>), for very large batches: Adam's direction with weight decay, scaled for every
/// parameter to the length of the parameter itself.
///
/// ```text
/// m  =  β₁·m + (1 - β₁)·g
/// v  =  β₂·v + (1 - β₂)·g²
/// u  =  m/(1 - β₁ᵗ) / (√(v/(1 - β₂ᵗ)) + ε) + λ·p
/// r  =  ‖p‖/‖u‖,  or 1 if one of them is 0
/// p -=  lr·r·u
/// ```
///
/// The norms are those of the whole parameter, summed in f64. By default β₁ = 0.9, β₂ = 0.999, ε = 1e-6, λ = 0; the paper bounds the ratio by a function φ
/// that it leaves open, here the identity.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::Lamb;
/// let mut w: Param = Param::new(Tensor::from([1.0, -2.0]));
/// let mut optimizer = Lamb::new(0.02).weight_decay(0.01);
/// for step in 0..20 {
///     let loss = Tape::new(step).watch(&w).square().sum();
///     optimizer.step(&mut w, &loss.backward()?)?;
/// }
/// assert!(w.square().sum().item()? < 5.0);
/// # Ok::<(), Error>(())
/// ```
pub type Lamb = Optimizer<LambRule>;

/// The hyper-parameters of [`Lamb`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LambRule {
    /// The learning rate.
    pub lr: f64,
    /// How much of the first moment a step keeps.
    pub beta1: f64,
    /// How much of the second moment a step keeps.
    pub beta2: f64,
    /// What keeps the divisor above zero.
    pub eps: f64,
    /// The share λ of the weights in the direction.
    pub weight_decay: f64,
    /// Whether to climb instead of descend.
    pub maximize: bool,
}

impl Optimizer<LambRule> {
    /// With this learning rate, which [`step`](Optimizer::step) checks.
    pub fn new(lr: f64) -> Self {
        Optimizer::with(LambRule {
            lr,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-6,
            weight_decay: 0.0,
            maximize: false,
        })
    }

    /// Weight decay λ, decoupled from the moments.
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.rule.weight_decay = weight_decay;
        self
    }
}

options!(LambRule: betas eps maximize);

impl Rule for LambRule {
    const NAME: &'static str = "Lamb";

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

    fn step<T: Float>(&self, mut update: Update<'_, T>) {
        let t = update.t() as f64;
        let d = Direction {
            sign: T::of(if self.maximize { -1.0 } else { 1.0 }),
            decay: T::of(self.weight_decay),
            fresh1: T::of(1.0 - self.beta1),
            beta2: T::of(self.beta2),
            fresh2: T::of(1.0 - self.beta2),
            scale: T::of(1.0 / (1.0 - self.beta1.powf(t))),
            root: T::of(1.0 / (1.0 - self.beta2.powf(t)).sqrt()),
            eps: T::of(self.eps),
        };
        let [pp, uu] = update.sums(1.4, |p, [m, v], g| dispatch(Measure { d, p, m, v, g }));
        let ratio = if pp > 0.0 && uu > 0.0 { (pp / uu).sqrt() } else { 1.0 };
        // A NaN among the sums is in the directions, too, and gets to the parameter with them.
        let minus_lr = T::of(-self.lr * ratio);
        update.each(1.0, |p, [m, v], _| dispatch(Move { d, minus_lr, p, m, v }));
    }
}

#[derive(Clone, Copy)]
struct Direction<T> {
    sign: T,
    decay: T,
    fresh1: T,
    beta2: T,
    fresh2: T,
    scale: T,
    root: T,
    eps: T,
}

impl<T: Float> Direction<T> {
    /// u, from the moments.
    #[inline(always)]
    fn of<const FMA: bool>(&self, p: T, m: T, v: T) -> T {
        let u = m * self.scale / mul_add::<T, FMA>(v.sqrt(), self.root, self.eps);
        decayed::<T, FMA>(self.decay, p, u)
    }
}

/// Partial sums that are kept side by side, so that their order does not depend on the vector width.
const LANES: usize = 8;

/// New moments, and the squared norms of the parameter and of its direction.
struct Measure<'a, T> {
    d: Direction<T>,
    p: &'a [T],
    m: &'a mut [T],
    v: &'a mut [T],
    g: &'a [T],
}

impl<T: Float> Kernel for Measure<'_, T> {
    type Out = [f64; 2];
    #[inline(always)]
    fn run<const FMA: bool>(self) -> [f64; 2] {
        let d = self.d;
        let (mut pp, mut uu) = ([0.0f64; LANES], [0.0f64; LANES]);
        let pieces = self.m.chunks_mut(LANES).zip(self.v.chunks_mut(LANES));
        let fixed = self.p.chunks(LANES).zip(self.g.chunks(LANES));
        for ((m, v), (p, g)) in pieces.zip(fixed) {
            let lanes = pp.iter_mut().zip(&mut uu);
            for ((((m, v), &p), &g), (pp, uu)) in m.iter_mut().zip(v).zip(p).zip(g).zip(lanes) {
                let g = d.sign * g;
                *m = toward::<T, FMA>(*m, g, d.fresh1);
                *v = square_mean::<T, FMA>(*v, g, d.beta2, d.fresh2);
                let u = d.of::<FMA>(p, *m, *v).as_f64();
                *pp += p.as_f64() * p.as_f64();
                *uu += u * u;
            }
        }
        [pp.iter().sum(), uu.iter().sum()]
    }
}

struct Move<'a, T> {
    d: Direction<T>,
    minus_lr: T,
    p: &'a mut [T],
    m: &'a [T],
    v: &'a [T],
}

impl<T: Float> Kernel for Move<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for ((p, &m), &v) in self.p.iter_mut().zip(self.m).zip(self.v) {
            let u = self.d.of::<FMA>(*p, m, v);
            *p = mul_add::<T, FMA>(self.minus_lr, u, *p);
        }
    }
}
