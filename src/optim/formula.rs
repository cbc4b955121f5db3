//! The arithmetic of a rule for one element, and the loop around it.

use crate::float::Float;
use crate::kernel::simd::Kernel;

/// The arithmetic of one step for one element. What it holds are the constants of the step.
pub(super) trait Formula<T: Float>: Copy + Send + Sync {
    /// Updates the value `p` and the numbers of state beside it by the gradient `g`. A rule with fewer than three arrays of state finds zeros in the
    /// places of the others. It must be `#[inline(always)]`.
    fn next<const FMA: bool>(&self, p: &mut T, state: [&mut T; 3], g: T);
}

/// A [`Formula`] over whole arrays.
pub(super) struct Loop<'a, T, F, const N: usize> {
    pub(super) f: F,
    pub(super) p: &'a mut [T],
    pub(super) s: [&'a mut [T]; N],
    pub(super) g: &'a [T],
}

impl<T: Float, F: Formula<T>, const N: usize> Kernel for Loop<'_, T, F, N> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let f = self.f;
        let elements = self.p.iter_mut().zip(self.g);
        // What is never used costs nothing: the compiler drops it.
        let (mut x, mut y, mut z) = (T::ZERO, T::ZERO, T::ZERO);
        let (x, y, z) = (&mut x, &mut y, &mut z);
        let mut state = self.s.into_iter();
        match (state.next(), state.next(), state.next()) {
            (None, _, _) => {
                for (p, &g) in elements {
                    f.next::<FMA>(p, [x, y, z], g);
                }
            }
            (Some(a), None, _) => {
                for ((p, &g), a) in elements.zip(a) {
                    f.next::<FMA>(p, [a, y, z], g);
                }
            }
            (Some(a), Some(b), None) => {
                for (((p, &g), a), b) in elements.zip(a).zip(b) {
                    f.next::<FMA>(p, [a, b, z], g);
                }
            }
            (Some(a), Some(b), Some(c)) => {
                for ((((p, &g), a), b), c) in elements.zip(a).zip(b).zip(c) {
                    f.next::<FMA>(p, [a, b, c], g);
                }
            }
        }
    }
}

/// What becomes of a gradient before a rule sees it: its sign, if the rule climbs, and coupled weight decay.
#[derive(Clone, Copy)]
pub(super) struct Slope<T> {
    sign: T,
    decay: T,
}

impl<T: Float> Slope<T> {
    pub(super) fn new(maximize: bool, weight_decay: f64) -> Self {
        Slope { sign: T::of(if maximize { -1.0 } else { 1.0 }), decay: T::of(weight_decay) }
    }

    /// ±g + λ·p.
    #[inline(always)]
    pub(super) fn of<const FMA: bool>(&self, p: T, g: T) -> T {
        decayed::<T, FMA>(self.decay, p, self.sign * g)
    }
}

/// Weight decay in its two forms: the share that joins the gradient (coupled) and the share of the weights that stays (decoupled).
pub(super) fn decays(lr: f64, weight_decay: f64, decoupled: bool) -> (f64, f64) {
    if decoupled { (0.0, 1.0 - lr * weight_decay) } else { (weight_decay, 1.0) }
}

/// The sign, and 0 for 0; a NaN stays one.
#[inline(always)]
pub(super) fn sign<T: Float>(x: T) -> T {
    if x > T::ZERO {
        T::ONE
    } else if x < T::ZERO {
        -T::ONE
    } else {
        x
    }
}

/// `(1 - β)·g + β·m` as `m + fresh·(g - m)`, with `fresh = 1 - β`.
#[inline(always)]
pub(super) fn toward<T: Float, const FMA: bool>(m: T, g: T, fresh: T) -> T {
    mul_add::<T, FMA>(fresh, g - m, m)
}

/// `β·v + (1 - β)·g²`.
#[inline(always)]
pub(super) fn square_mean<T: Float, const FMA: bool>(v: T, g: T, beta: T, fresh: T) -> T {
    mul_add::<T, FMA>(fresh * g, g, beta * v)
}

/// `a·b + c`, fused where that is one instruction.
#[inline(always)]
pub(super) fn mul_add<T: Float, const FMA: bool>(a: T, b: T, c: T) -> T {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `decay·p + g`, and `g` itself without decay: 0 times an infinite weight must not become NaN.
#[inline(always)]
pub(super) fn decayed<T: Float, const FMA: bool>(decay: T, p: T, g: T) -> T {
    if decay == T::ZERO { g } else { mul_add::<T, FMA>(decay, p, g) }
}
