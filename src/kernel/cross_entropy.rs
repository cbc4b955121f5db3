//! Cross-entropy of rows of logits, fused with the softmax.
//!
//! With q the target distribution of a row, each entry already times its class weight, and L = ln Σ e^x:
//!
//! ```text
//! loss = Σ q_c (L - x_c) = A L - Σ q_c x_c       A = Σ q_c
//! dx_c = g (A e^(x_c - L) - q_c)                 dq_c = g (L - x_c)
//! ```
//!
//! For a label t, smoothing s and weights w of C classes, q_c = s/C w_c, and (1-s) w_t more at c = t. The forward pass reads the logits
//! once from memory and keeps L of each row; the backward pass reads them once and writes the gradient. No distribution is stored.

use super::chunks::row_map;
use super::par;
use super::simd::{Kernel, dispatch};
use super::softmax::{grain, row_log_sum_exp};
use crate::float::Float;

/// What the rows are compared with.
#[derive(Clone, Copy)]
pub(crate) enum Target<'a, T> {
    /// A class for each row, or [`IGNORED`].
    Labels(&'a [i64]),
    /// A distribution for each row.
    Probabilities(&'a [T]),
}

/// The label of a row that does not count.
pub(crate) const IGNORED: i64 = -1;

/// The setting of a loss: the same for every row.
#[derive(Clone, Copy)]
pub(crate) struct Setting<'a, T> {
    pub(crate) target: Target<'a, T>,
    /// One for each class, or empty for all 1.
    pub(crate) weights: &'a [T],
    pub(crate) smoothing: T,
    /// The number of classes.
    pub(crate) classes: usize,
}

impl<T: Float> Setting<'_, T> {
    /// s/C, the share of every class in a smoothed distribution.
    #[inline(always)]
    fn share(&self) -> T {
        self.smoothing / T::of(self.classes as f64)
    }

    #[inline(always)]
    fn weight(&self, class: usize) -> T {
        if self.weights.is_empty() { T::ONE } else { self.weights[class] }
    }

    /// The sum of all weights.
    #[inline(always)]
    fn weight_sum(&self) -> T {
        if self.weights.is_empty() {
            T::of(self.classes as f64)
        } else {
            self.weights.iter().fold(T::ZERO, |a, &w| a + w)
        }
    }

    /// Calls `f(probability of the target, weight)` for each class of a row and adds up what it returns.
    #[inline(always)]
    fn sum_over(&self, p: &[T], mut f: impl FnMut(usize, T) -> T) -> T {
        let keep = T::ONE - self.smoothing;
        let share = self.share();
        p.iter()
            .enumerate()
            .fold(T::ZERO, |sum, (c, &p)| sum + f(c, self.weight(c) * (keep * p + share)))
    }
}

/// Writes L and the loss of each row to `out`, side by side.
pub(crate) fn forward<T: Float>(x: &[T], setting: &Setting<'_, T>, out: &mut [[T; 2]]) {
    let n = setting.classes;
    let rows = grain(n);
    par::for_each_chunk_mut(out, rows, 0.5 * n as f64 + 15.0, |i, out| {
        let x = &x[i * rows * n..][..out.len() * n];
        dispatch(Forward { x, setting, first: i * rows, out });
    });
}

struct Forward<'a, T> {
    x: &'a [T],
    setting: &'a Setting<'a, T>,
    first: usize,
    out: &'a mut [[T; 2]],
}

impl<T: Float> Kernel for Forward<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let s = self.setting;
        let n = s.classes;
        let smooth = s.smoothing > T::ZERO;
        let weight_sum = if smooth { s.weight_sum() } else { T::ZERO };
        for (i, out) in self.out.iter_mut().enumerate() {
            let x = &self.x[i * n..][..n];
            let row = self.first + i;
            if let Target::Labels(labels) = s.target
                && labels[row] == IGNORED
            {
                *out = [T::ZERO; 2];
                continue;
            }
            let l = row_log_sum_exp::<T, FMA>(&self.x[i * n..], n);
            let loss = match s.target {
                Target::Labels(labels) => {
                    let t = labels[row] as usize;
                    let mut loss = (T::ONE - s.smoothing) * s.weight(t) * (l - x[t]);
                    if smooth {
                        let dot = x
                            .iter()
                            .enumerate()
                            .fold(T::ZERO, |sum, (c, &x)| sum + s.weight(c) * x);
                        loss += s.share() * (weight_sum * l - dot);
                    }
                    loss
                }
                Target::Probabilities(p) => s.sum_over(&p[row * n..][..n], |c, q| q * (l - x[c])),
            };
            *out = [l, loss];
        }
    }
}

/// The gradient of the logits, given L of each row (as [`forward`] left it) and `g(row)`, the gradient of its loss.
pub(crate) fn backward<T: Float>(
    x: &[T],
    setting: &Setting<'_, T>,
    stats: &[[T; 2]],
    g: impl Fn(usize) -> T + Sync,
    out: &mut [T],
) {
    let n = setting.classes;
    if out.is_empty() {
        return;
    }
    let rows = grain(n);
    par::for_each_chunk_mut(out, rows * n, 0.5, |i, out| {
        let first = i * rows;
        let x = &x[first * n..][..out.len()];
        dispatch(Backward { x, setting, stats: &stats[first..], first, g: &g, out });
    });
}

struct Backward<'a, T, G> {
    x: &'a [T],
    setting: &'a Setting<'a, T>,
    stats: &'a [[T; 2]],
    first: usize,
    g: &'a G,
    out: &'a mut [T],
}

impl<T: Float, G: Fn(usize) -> T> Kernel for Backward<'_, T, G> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let s = self.setting;
        let n = s.classes;
        let smooth = s.smoothing > T::ZERO;
        let weight_sum = if smooth { s.weight_sum() } else { T::ZERO };
        for i in 0..self.out.len() / n {
            let (x, out) = (&self.x[i * n..], &mut self.out[i * n..]);
            let row = self.first + i;
            let l = self.stats[i][0];
            match s.target {
                Target::Labels(labels) if labels[row] == IGNORED => {
                    out[..n].fill(T::ZERO);
                }
                Target::Labels(labels) => {
                    let g = (self.g)(row);
                    let t = labels[row] as usize;
                    let own = (T::ONE - s.smoothing) * s.weight(t);
                    let a = g * (own + s.share() * weight_sum);
                    if smooth {
                        let b = g * s.share();
                        if s.weights.is_empty() {
                            row_map(x, x, n, out, |x, _| a * (x - l).vexp_neg::<FMA>() - b);
                        } else {
                            row_map(x, s.weights, n, out, |x, w| {
                                a * (x - l).vexp_neg::<FMA>() - b * w
                            });
                        }
                    } else {
                        row_map(x, x, n, out, |x, _| a * (x - l).vexp_neg::<FMA>());
                    }
                    out[t] -= g * own;
                }
                Target::Probabilities(p) => {
                    let g = (self.g)(row);
                    let p = &p[row * n..][..n];
                    let a = g * s.sum_over(p, |_, q| q);
                    row_map(x, x, n, out, |x, _| a * (x - l).vexp_neg::<FMA>());
                    s.sum_over(p, |c, q| {
                        out[c] -= g * q;
                        T::ZERO
                    });
                }
            }
        }
    }
}

/// The gradient of target probabilities: (1-s) w_c g (L - x_c).
pub(crate) fn backward_target<T: Float>(
    x: &[T],
    setting: &Setting<'_, T>,
    stats: &[[T; 2]],
    g: impl Fn(usize) -> T,
    out: &mut [T],
) {
    let n = setting.classes;
    let keep = T::ONE - setting.smoothing;
    for (row, out) in out.chunks_exact_mut(n.max(1)).enumerate() {
        let g = keep * g(row);
        for (c, o) in out.iter_mut().enumerate() {
            *o = g * setting.weight(c) * (stats[row][0] - x[row * n + c]);
        }
    }
}
