//! Layer and RMS normalisation: each row of `n` elements by its own statistics, a weight and a bias for each column.
//!
//! Forward, a few rows while they are in the first cache: mean, squares around it, and then the output, while the next rows are fetched. Backward, each row: the two sums of h = g w, then in one
//! pass dx and, added to running sums of this part of the rows, dw and db. The parts' sums are added in order at the end.

use super::{NS, PART, centre, mean_and_squares_by, two_sums};
use crate::float::Float;
use crate::kernel::par;
use crate::kernel::simd::{Kernel, dispatch, prefetch};
use crate::tensor::Block;

/// At most so many parts have their own sums of dw and db.
const MAX_PARTS: usize = 64;

/// Elements of the rows whose statistics are computed one after the other, so that they need not wait for each other.
const GROUP: usize = 1024;
/// Elements of a pass between two requests to memory.
const STRIDE: usize = 64;

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
        let rows = (GROUP / n).max(1);
        let groups = out.chunks_mut(rows * n).zip(stats.chunks_mut(rows));
        for (i, (out, stats)) in groups.enumerate() {
            let (x, ahead) = x[i * rows * n..].split_at(out.len());
            // One pass over all rows and then the next, so that no row waits for its own sum.
            if CENTRE {
                for (x, stats) in x.chunks_exact(n).zip(&mut *stats) {
                    stats[0] = centre(x);
                }
            }
            for (x, stats) in x.chunks_exact(n).zip(&mut *stats) {
                let (mean, squares) = if CENTRE {
                    mean_and_squares_by::<T, FMA>(x, stats[0])
                } else {
                    let (_, s) = two_sums(x, x, x, |(u, v), x, _, _| (u, x.vfma::<FMA>(x, v)));
                    (T::ZERO, s)
                };
                let r = T::ONE / num_traits::Float::sqrt(squares / T::of(n as f64) + eps);
                *stats = [mean, r];
            }
            for (k, (out, &[mean, r])) in out.chunks_exact_mut(n).zip(&*stats).enumerate() {
                let (x, ahead) = (&x[k * n..][..n], &ahead[(k * n).min(ahead.len())..]);
                match (weight, bias) {
                    (None, None) => each([x, x, x], ahead, out, |x, _, _| (x - mean) * r),
                    (Some(w), None) => each([x, w, w], ahead, out, |x, w, _| (x - mean) * r * w),
                    (None, Some(b)) => {
                        each([x, b, b], ahead, out, |x, b, _| (x - mean).vfma::<FMA>(r, b));
                    }
                    (Some(w), Some(b)) => {
                        each([x, w, b], ahead, out, |x, w, b| ((x - mean) * r).vfma::<FMA>(w, b));
                    }
                }
            }
        }
    }
}

/// Writes `f` of three runs, and asks for as much of what lies `ahead`.
#[inline(always)]
fn each<T: Float>(runs: [&[T]; 3], ahead: &[T], out: &mut [T], f: impl Fn(T, T, T) -> T) {
    // A few vectors at a time, complete before they are written: whether the output overlaps the inputs is then nothing to test for.
    const N: usize = 32;
    let [a, b, c] = runs.map(|run| run[..out.len()].as_chunks::<N>());
    let (outs, tail) = out.as_chunks_mut::<N>();
    for (i, (((o, a), b), c)) in outs.iter_mut().zip(a.0).zip(b.0).zip(c.0).enumerate() {
        prefetch(ahead, i * N, N);
        let mut y = [T::ZERO; N];
        for j in 0..N {
            y[j] = f(a[j], b[j], c[j]);
        }
        *o = y;
    }
    for (((o, &a), &b), &c) in tail.iter_mut().zip(a.1).zip(b.1).zip(c.1) {
        *o = f(a, b, c);
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
        for (i, (((x_row, g_row), dx), &[mean, r])) in rows.zip(stats).enumerate() {
            let weight = if WEIGHT { weight } else { g_row };
            let h = |g: T, w: T| if WEIGHT { g * w } else { g };
            let (s, t) = two_sums(x_row, g_row, weight, |(u, v), x, g, w| {
                let h = h(g, w);
                (u + h, (x - mean).vfma::<FMA>(h, v))
            });
            // The mean of h is taken off before anything is rounded again: what cancels must cancel, above all in rows of one number.
            let shift = if CENTRE { s / count } else { T::ZERO };
            let slope = -r * (r * t / count);
            for (k, dx) in dx.chunks_mut(STRIDE).enumerate() {
                let at = k * STRIDE;
                prefetch(x, (i + 1) * n + at, STRIDE);
                prefetch(g, (i + 1) * n + at, STRIDE);
                let count = dx.len();
                let (x, g) = (&x_row[at..][..count], &g_row[at..][..count]);
                let weight = &weight[at..][..count];
                for (((d, &x), &g), &w) in dx.iter_mut().zip(x).zip(g).zip(weight) {
                    *d = r * (x - mean).vfma::<FMA>(slope, h(g, w) - shift);
                }
                if !db.is_empty() {
                    let (dw, db) = (&mut dw[at..][..count], &mut db[at..][..count]);
                    for (((p, q), &x), &g) in dw.iter_mut().zip(db).zip(x).zip(g) {
                        *p = ((x - mean) * r).vfma::<FMA>(g, *p);
                        *q += g;
                    }
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
