//! Softmax and log-softmax along an axis that is not the last, and their gradients: of each column of `[outer][n][width]`, many columns side by
//! side. The formulas are those of [`softmax`](super::softmax).
//!
//! A strip of columns is gone through row by row, once for the largest, once for the sum, once for the result; each time the next row of
//! the strip lies a whole row further on. Strips are as wide as lets all their rows stay in the second-level cache, where that is possible.

#![allow(unsafe_code)]

use super::par::{self, SyncPtr};
use super::simd::{Kernel, dispatch};
use crate::float::Float;

/// Columns of a strip, at most; what is kept for each stays in the first-level cache.
const MOST: usize = 512;
/// Columns of a strip, at least: some cache lines of each row.
const LEAST: usize = 64;
/// Elements of a strip, if there need not be more.
const STRIP: usize = 1 << 16;
/// Rows that are added one after the other before their sum is added to the column's.
const ROWS: usize = 32;
/// Nanoseconds for an element.
const NS: f64 = 0.5;

/// The rows of a strip of columns, `step` elements from each other, of two inputs and an output.
struct Strip<'a, T> {
    x: &'a [T],
    g: &'a [T],
    out: SyncPtr<T>,
    n: usize,
    step: usize,
    width: usize,
}

impl<'a, T> Strip<'a, T> {
    #[inline(always)]
    fn x(&self, i: usize) -> &'a [T] {
        &self.x[i * self.step..][..self.width]
    }

    #[inline(always)]
    fn g(&self, i: usize) -> &'a [T] {
        &self.g[i * self.step..][..self.width]
    }

    #[inline(always)]
    fn out(&mut self, i: usize) -> &mut [T] {
        // SAFETY: `for_strips` makes strips whose rows lie within `out` and that share no column; each is in the hands of one thread, and the
        // exclusive borrow of the strip keeps two of its rows from being held at once.
        unsafe { std::slice::from_raw_parts_mut(self.out.get().add(i * self.step), self.width) }
    }
}

struct Softmax<'a, T, const LOG: bool>(Strip<'a, T>);

impl<T: Float, const LOG: bool> Kernel for Softmax<'_, T, LOG> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let mut strip = self.0;
        let (n, w) = (strip.n, strip.width);
        let mut largest = [T::neg_infinity(); MOST];
        let largest = &mut largest[..w];
        for i in 0..n {
            for (m, &x) in largest.iter_mut().zip(strip.x(i)) {
                *m = if x > *m { x } else { *m };
            }
        }
        let (mut sums, mut part) = ([T::ZERO; MOST], [T::ZERO; MOST]);
        let (sums, part) = (&mut sums[..w], &mut part[..w]);
        for first in (0..n).step_by(ROWS) {
            part.fill(T::ZERO);
            for i in first..n.min(first + ROWS) {
                let x = strip.x(i);
                let out = strip.out(i);
                for (((o, p), &x), &m) in out.iter_mut().zip(&mut *part).zip(x).zip(&*largest) {
                    let e = (x - m).vexp_neg::<FMA>();
                    if !LOG {
                        *o = e;
                    }
                    *p += e;
                }
            }
            sums.iter_mut().zip(&*part).for_each(|(s, &p)| *s += p);
        }
        for s in &mut *sums {
            *s = if LOG { s.vln::<FMA>() } else { T::ONE / *s };
        }
        for i in 0..n {
            let x = strip.x(i);
            let out = strip.out(i);
            for (((o, &x), &m), &s) in out.iter_mut().zip(x).zip(&*largest).zip(&*sums) {
                *o = if LOG { x - m - s } else { *o * s };
            }
        }
    }
}

struct Back<'a, T, const LOG: bool>(Strip<'a, T>);

impl<T: Float, const LOG: bool> Kernel for Back<'_, T, LOG> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let mut strip = self.0;
        let (n, w) = (strip.n, strip.width);
        let (mut sums, mut part) = ([T::ZERO; MOST], [T::ZERO; MOST]);
        let (sums, part) = (&mut sums[..w], &mut part[..w]);
        for first in (0..n).step_by(ROWS) {
            part.fill(T::ZERO);
            for i in first..n.min(first + ROWS) {
                for ((p, &y), &g) in part.iter_mut().zip(strip.x(i)).zip(strip.g(i)) {
                    *p = if LOG { *p + g } else { g.vfma::<FMA>(y, *p) };
                }
            }
            sums.iter_mut().zip(&*part).for_each(|(s, &p)| *s += p);
        }
        for i in 0..n {
            let (y, g) = (strip.x(i), strip.g(i));
            for (((o, &y), &g), &s) in strip.out(i).iter_mut().zip(y).zip(g).zip(&*sums) {
                *o = if LOG { g - y.vexp_neg::<FMA>() * s } else { y * (g - s) };
            }
        }
    }
}

/// Whether columns of this width are worth going through side by side.
pub(crate) fn serves(width: usize) -> bool {
    width >= LEAST / 4
}

/// The softmax, or its logarithm, of each column of `x`, dense as `[outer][n][width]`.
pub(crate) fn softmax<T: Float, const LOG: bool>(x: &[T], size: [usize; 2], out: &mut [T]) {
    for_strips([x, x], size, out, |strip| dispatch(Softmax::<T, LOG>(strip)));
}

/// The gradient of [`softmax`] from its output `y` and the gradient `g` of that.
pub(crate) fn back<T: Float, const LOG: bool>(y: &[T], g: &[T], size: [usize; 2], out: &mut [T]) {
    for_strips([y, g], size, out, |strip| dispatch(Back::<T, LOG>(strip)));
}

fn for_strips<T: Float>(
    [x, g]: [&[T]; 2],
    [n, width]: [usize; 2],
    out: &mut [T],
    f: impl Fn(Strip<'_, T>) + Sync,
) {
    let len = out.len();
    assert!(x.len() == len && g.len() == len && len.is_multiple_of((n * width).max(1)));
    if out.is_empty() {
        return;
    }
    let most = (STRIP / n).clamp(LEAST, MOST) / LEAST * LEAST;
    let strips = width.div_ceil(most);
    let base = SyncPtr(out.as_mut_ptr());
    let ns = NS * (n * most.min(width)) as f64;
    par::for_each(len / (n * width) * strips, ns, |part| {
        let first = part % strips * most;
        let at = part / strips * n * width + first;
        // The rows of a strip end at most with the block of n * width elements that it begins in, and so within `out`.
        let out = SyncPtr(base.get().wrapping_add(at));
        f(Strip { x: &x[at..], g: &g[at..], out, n, step: width, width: most.min(width - first) });
    });
}
