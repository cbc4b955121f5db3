//! Layer and RMS normalisation: each row of `n` elements by its own statistics, a weight and a bias for each column.
//!
//! Forward, each row while it is in the first cache: mean, squares around it, output. Backward, each row: the two sums of h = g w, then in one
//! pass dx and, added to running sums of this part of the rows, dw and db. The parts' sums are added in order at the end.

use super::{NS, PART, W, chunk, mean_and_squares, put, two_sums};
use crate::float::Float;
use crate::kernel::par;
use crate::kernel::simd::{Kernel, dispatch};
use crate::tensor::Block;

/// At most so many parts have their own sums of dw and db.
const MAX_PARTS: usize = 64;

/// The rows of a part.
fn grain(n: usize) -> usize {
    (PART / n.max(1)).max(1)
}

struct Forward<'a, T, const CENTRE: bool> {
    x: &'a [T],
    weight: Option<&'a [T]>,
    bias: Option<&'a [T]>,
    n: usize,
    eps: T,
    out: &'a mut [T],
    /// Mean and 1 / √(v + ε) of each row.
    stats: &'a mut [[T; 2]],
}

impl<T: Float, const CENTRE: bool> Kernel for Forward<'_, T, CENTRE> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Forward { x, weight, bias, n, eps, out, stats } = self;
        for ((x, out), stats) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)).zip(stats) {
            let (mean, squares) = if CENTRE {
                mean_and_squares::<T, FMA>(x)
            } else {
                let (_, s) = two_sums(x, x, x, |(u, v), x, _, _| (u, x.vfma::<FMA>(x, v)));
                (T::ZERO, s)
            };
            let r = T::ONE / num_traits::Float::sqrt(squares / T::of(n as f64) + eps);
            *stats = [mean, r];
            match (weight, bias) {
                (None, None) => each(x, x, x, out, |x, _, _| (x - mean) * r),
                (Some(w), None) => each(x, w, w, out, |x, w, _| (x - mean) * r * w),
                (None, Some(b)) => each(x, b, b, out, |x, b, _| (x - mean).vfma::<FMA>(r, b)),
                (Some(w), Some(b)) => {
                    each(x, w, b, out, |x, w, b| ((x - mean) * r).vfma::<FMA>(w, b))
                }
            }
        }
    }
}

/// Writes `f` of three runs.
#[inline(always)]
fn each<T: Float>(a: &[T], b: &[T], c: &[T], out: &mut [T], f: impl Fn(T, T, T) -> T) {
    for at in (0..out.len()).step_by(W) {
        let (a, b, c) = (chunk(a, at), chunk(b, at), chunk(c, at));
        let mut o = [T::ZERO; W];
        for j in 0..W {
            o[j] = f(a[j], b[j], c[j]);
        }
        put(out, at, &o);
    }
}

/// Normalises the rows of `x`; with `CENTRE` by mean and variance, without by the mean square. `stats` gets mean and 1 / √(v + ε).
pub(crate) fn forward<T: Float, const CENTRE: bool>(
    x: &[T],
    (weight, bias): (Option<&[T]>, Option<&[T]>),
    n: usize,
    eps: T,
    out: &mut [T],
    stats: &mut [[T; 2]],
) {
    if out.is_empty() {
        return;
    }
    let rows = grain(n);
    let ns = 3.0 * NS * (rows * n) as f64;
    par::for_each_two_chunks_mut((out, rows * n), (stats, rows), ns, |i, out, stats| {
        let x = &x[i * rows * n..][..out.len()];
        dispatch(Forward::<T, CENTRE> { x, weight, bias, n, eps, out, stats });
    });
}

struct Backward<'a, T, const CENTRE: bool, const WEIGHT: bool> {
    x: &'a [T],
    g: &'a [T],
    /// Anything of length n without `WEIGHT`.
    weight: &'a [T],
    n: usize,
    stats: &'a [[T; 2]],
    dx: &'a mut [T],
    /// Σ g x̂ and Σ g of each column, or empty.
    sums: &'a mut [T],
}

impl<T: Float, const CENTRE: bool, const WEIGHT: bool> Kernel for Backward<'_, T, CENTRE, WEIGHT> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Backward { x, g, weight, n, stats, dx, sums } = self;
        let (dw, db) = sums.split_at_mut(sums.len() / 2);
        dw.fill(T::ZERO);
        db.fill(T::ZERO);
        let count = T::of(n as f64);
        let rows = x.chunks_exact(n).zip(g.chunks_exact(n)).zip(dx.chunks_exact_mut(n));
        for (((x, g), dx), &[mean, r]) in rows.zip(stats) {
            let weight = if WEIGHT { weight } else { g };
            let h = |g: T, w: T| if WEIGHT { g * w } else { g };
            let (s, t) = two_sums(x, g, weight, |(u, v), x, g, w| {
                let h = h(g, w);
                (u + h, (x - mean).vfma::<FMA>(h, v))
            });
            // The mean of h is taken off before anything is rounded again: what cancels must cancel, above all in rows of one number.
            let shift = if CENTRE { s / count } else { T::ZERO };
            let slope = -r * (r * t / count);
            for at in (0..n).step_by(W) {
                let (x, g, w) = (chunk(x, at), chunk(g, at), chunk(weight, at));
                let mut d = [T::ZERO; W];
                for j in 0..W {
                    d[j] = r * (x[j] - mean).vfma::<FMA>(slope, h(g[j], w[j]) - shift);
                }
                put(dx, at, &d);
                if !db.is_empty() {
                    let (mut p, mut q) = (chunk(dw, at), chunk(db, at));
                    for j in 0..W {
                        p[j] = ((x[j] - mean) * r).vfma::<FMA>(g[j], p[j]);
                        q[j] += g[j];
                    }
                    put(dw, at, &p);
                    put(db, at, &q);
                }
            }
        }
    }
}

/// The gradients of [`forward`]: `dx`, and if `sums` is not empty, in it Σ g x̂ of each column and then Σ g of each.
pub(crate) fn backward<T: Float, const CENTRE: bool>(
    (x, g, weight): (&[T], &[T], Option<&[T]>),
    n: usize,
    stats: &[[T; 2]],
    dx: &mut [T],
    sums: &mut [T],
) {
    sums.fill(T::ZERO);
    if dx.is_empty() {
        return;
    }
    // Few parts with sums of their own; longer ones where there are many rows.
    let rows = grain(n).max((dx.len() / n).div_ceil(MAX_PARTS));
    let parts = (dx.len() / n).div_ceil(rows);
    let width = sums.len();
    let mut partial = Block::stale(parts * width);
    let ns = 5.0 * NS * (rows * n) as f64;
    par::for_each_two_chunks_mut((dx, rows * n), (&mut partial, width), ns, |i, dx, sums| {
        let part = i * rows * n..i * rows * n + dx.len();
        let (x, g) = (&x[part.clone()], &g[part]);
        let stats = &stats[i * rows..];
        match weight {
            Some(weight) => {
                dispatch(Backward::<T, CENTRE, true> { x, g, weight, n, stats, dx, sums })
            }
            None => dispatch(Backward::<T, CENTRE, false> { x, g, weight: g, n, stats, dx, sums }),
        }
    });
    for part in partial.chunks_exact(width.max(1)) {
        for (s, &p) in sums.iter_mut().zip(part) {
            *s += p;
        }
    }
}
