//! Layer and RMS normalisation: each row of `n` elements by its own statistics, a weight and a bias for each column.
//!
//! Forward, a few rows while they are in the first cache: mean, squares around it, and then the output, while the next rows are fetched. Backward, each row: the two sums of h = g w, then in one
//! pass dx and, added to running sums of this part of the rows, dw and db. The parts' sums are added in order at the end.

use super::{NS, PART, centre, corrected, mean_and_squares_by, two_sums};
use crate::float::Float;
use crate::kernel::chunks::{W, for_chunks, padded, row_add, row_map3, total};
use crate::kernel::par;
use crate::kernel::simd::{Kernel, dispatch};
use crate::tensor::Block;

/// At most so many parts have their own sums of dw and db.
const MAX_PARTS: usize = 64;

/// Elements of the rows whose statistics are computed one after the other, so that they need not wait for each other.
const GROUP: usize = 1024;
/// Up to this length, a row is summed chunk by chunk; neighbouring rows fill the time that an addition takes.
const SHORT: usize = 256;

/// The rows of a part.
fn grain(n: usize) -> usize {
    (PART / n.max(1)).max(1)
}

/// A weight or a bias with whole chunks, so that its last one is read like that of a row among others.
fn whole_chunks<T: Float>(x: &[T]) -> Block<T> {
    let mut whole = Block::stale(x.len().next_multiple_of(W));
    whole.fill(T::ZERO);
    whole[..x.len()].copy_from_slice(x);
    whole
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
        for (i, stats) in stats.chunks_mut(rows).enumerate() {
            let first = i * rows * n;
            // One pass over all rows and then the next, so that no row waits for its own sum.
            if CENTRE {
                for (k, stats) in stats.iter_mut().enumerate() {
                    stats[0] = row_centre(&x[first + k * n..], n);
                }
            }
            for (k, stats) in stats.iter_mut().enumerate() {
                let (mean, squares) =
                    row_squares::<T, FMA, CENTRE>(&x[first + k * n..], n, stats[0]);
                let r = T::ONE / num_traits::Float::sqrt(squares / T::of(n as f64) + eps);
                *stats = [mean, r];
            }
            let ahead = &x[first + stats.len() * n..];
            for (k, &[mean, r]) in stats.iter().enumerate() {
                let at = first + k * n;
                let (x, out) = (&x[at..], &mut out[at..]);
                let ahead = [&ahead[(k * n).min(ahead.len())..], &[]];
                match (weight, bias) {
                    (None, None) => row_map3([x, x, x], ahead, n, out, |x, _, _| (x - mean) * r),
                    (Some(w), None) => {
                        row_map3([x, w, w], ahead, n, out, |x, w, _| (x - mean) * r * w);
                    }
                    (None, Some(b)) => {
                        row_map3([x, b, b], ahead, n, out, |x, b, _| (x - mean).vfma::<FMA>(r, b));
                    }
                    (Some(w), Some(b)) => {
                        row_map3([x, w, b], ahead, n, out, |x, w, b| {
                            ((x - mean) * r).vfma::<FMA>(w, b)
                        });
                    }
                }
            }
        }
    }
}

/// The mean of a row, but for rounding.
#[inline(always)]
fn row_centre<T: Float>(x: &[T], n: usize) -> T {
    if n > SHORT {
        return centre(&x[..n]);
    }
    let mut sums = [T::ZERO; W];
    for_chunks!(x, n, T::ZERO, |chunk| {
        for (s, &x) in sums.iter_mut().zip(chunk) {
            *s += x;
        }
    });
    total(sums) / T::of(n as f64)
}

/// The mean of a row and the squares around it, from its [`row_centre`]; without `CENTRE` 0 and the squares.
#[inline(always)]
fn row_squares<T: Float, const FMA: bool, const CENTRE: bool>(
    x: &[T],
    n: usize,
    centre: T,
) -> (T, T) {
    if !CENTRE {
        return (T::ZERO, row_sums([x, x, x], n, |(u, v), x, _, _| (u, x.vfma::<FMA>(x, v))).1);
    }
    if n > SHORT {
        return mean_and_squares_by::<T, FMA>(&x[..n], centre);
    }
    let (mut sums, mut squares) = ([T::ZERO; W], [T::ZERO; W]);
    // What is behind the row becomes the centre, whose distance is 0.
    for_chunks!(x, n, centre, |chunk| {
        for ((s, q), &x) in sums.iter_mut().zip(&mut squares).zip(chunk) {
            let d = x - centre;
            *s += d;
            *q = d.vfma::<FMA>(d, *q);
        }
    });
    corrected(centre, (total(sums), total(squares)), n)
}

/// Two sums over three rows. `step` must change nothing where all three are 0.
#[inline(always)]
fn row_sums<T: Float>(
    [a, b, c]: [&[T]; 3],
    n: usize,
    step: impl Fn((T, T), T, T, T) -> (T, T),
) -> (T, T) {
    if n > SHORT {
        return two_sums(&a[..n], &b[..n], &c[..n], step);
    }
    let mut sums = ([T::ZERO; W], [T::ZERO; W]);
    let (xs, tail) = a[..n].as_chunks::<W>();
    let (ys, zs) = (b[..n].as_chunks::<W>().0, c[..n].as_chunks::<W>().0);
    for ((a, b), c) in xs.iter().zip(ys).zip(zs) {
        for j in 0..W {
            (sums.0[j], sums.1[j]) = step((sums.0[j], sums.1[j]), a[j], b[j], c[j]);
        }
    }
    if !tail.is_empty() {
        let (at, n) = (n - tail.len(), tail.len());
        let (a, b) = (padded(&a[at..], n, T::ZERO), padded(&b[at..], n, T::ZERO));
        let c = padded(&c[at..], n, T::ZERO);
        for j in 0..W {
            (sums.0[j], sums.1[j]) = step((sums.0[j], sums.1[j]), a[j], b[j], c[j]);
        }
    }
    (total(sums.0), total(sums.1))
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
    let (weight, bias) = (weight.map(whole_chunks), bias.map(whole_chunks));
    let (weight, bias) = (weight.as_deref(), bias.as_deref());
    par::for_each_two_chunks_mut((out, rows * n), (stats, rows), ns, |i, out, stats| {
        let x = &x[i * rows * n..][..out.len()];
        dispatch(Forward::<T, CENTRE> { x, weight, bias, n, eps, out, stats });
    });
}

struct Backward<'a, T, const CENTRE: bool, const WEIGHT: bool> {
    x: &'a [T],
    g: &'a [T],
    /// Ignored without `WEIGHT`.
    weight: &'a [T],
    n: usize,
    stats: &'a [[T; 2]],
    dx: &'a mut [T],
    /// Σ g x̂ and Σ g of each column, both in whole chunks, or empty.
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
        for (i, &[mean, r]) in stats.iter().enumerate().take(dx.len() / n) {
            let (x, g, dx) = (&x[i * n..], &g[i * n..], &mut dx[i * n..]);
            let weight = if WEIGHT { weight } else { g };
            let h = |g: T, w: T| if WEIGHT { g * w } else { g };
            let (s, t) = row_sums([x, g, weight], n, |(u, v), x, g, w| {
                let h = h(g, w);
                (u + h, (x - mean).vfma::<FMA>(h, v))
            });
            // The mean of h is taken off before anything is rounded again: what cancels must cancel, above all in rows of one number.
            let shift = if CENTRE { s / count } else { T::ZERO };
            let slope = -r * (r * t / count);
            let ahead = [&x[n..], &g[n..]];
            row_map3([x, g, weight], ahead, n, dx, |x, g, w| {
                r * (x - mean).vfma::<FMA>(slope, h(g, w) - shift)
            });
            if !db.is_empty() {
                row_add(x, g, n, dw, |p, x, g| ((x - mean) * r).vfma::<FMA>(g, p));
                row_add(x, g, n, db, |q, _, g| q + g);
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
    let width = if sums.is_empty() { 0 } else { n.next_multiple_of(W) };
    let mut partial = Block::stale(parts * 2 * width);
    let ns = 5.0 * NS * (rows * n) as f64;
    let weight = weight.map(whole_chunks);
    par::for_each_two_chunks_mut((dx, rows * n), (&mut partial, 2 * width), ns, |i, dx, sums| {
        let part = i * rows * n..i * rows * n + dx.len();
        let (x, g) = (&x[part.clone()], &g[part]);
        let stats = &stats[i * rows..];
        match &weight {
            Some(weight) => {
                dispatch(Backward::<T, CENTRE, true> { x, g, weight, n, stats, dx, sums })
            }
            None => dispatch(Backward::<T, CENTRE, false> { x, g, weight: g, n, stats, dx, sums }),
        }
    });
    for part in partial.chunks_exact((2 * width).max(1)) {
        for (sums, part) in sums.chunks_exact_mut(n).zip(part.chunks_exact(width)) {
            for (s, &p) in sums.iter_mut().zip(part) {
                *s += p;
            }
        }
    }
}
