//! Loops over rows of `d` columns, each column with a mean and a weight of its own.

use super::{NS, PART};
use crate::float::Float;
use crate::kernel::par;
use crate::kernel::reduce;
use crate::kernel::simd::{Kernel, dispatch};
use crate::tensor::{Block, Layout};

/// At most so many rows are added one after the other.
const ROWS: usize = 256;

struct Sums<'a, T, const SELF: bool> {
    x: &'a [T],
    /// Ignored with `SELF`, which stands for g = x - m.
    g: &'a [T],
    mean: &'a [T],
    /// Σ g and then Σ g (x - m) of each column.
    out: &'a mut [T],
}

impl<T: Float, const SELF: bool> Kernel for Sums<'_, T, SELF> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let d = self.mean.len();
        self.out.fill(T::ZERO);
        let (u, v) = self.out.split_at_mut(d);
        for (x, g) in self.x.chunks_exact(d).zip(self.g.chunks_exact(d)) {
            let columns = u.iter_mut().zip(v.iter_mut()).zip(x).zip(g).zip(self.mean);
            for ((((u, v), &x), &g), &m) in columns {
                let c = x - m;
                let g = if SELF { c } else { g };
                *u += g;
                *v = c.vfma::<FMA>(g, *v);
            }
        }
    }
}

/// The sums of [`Sums`] over all rows, in f64.
fn sums<T: Float, const SELF: bool>(x: &[T], g: &[T], mean: &[T]) -> Vec<[f64; 2]> {
    let d = mean.len();
    let mut total = vec![[0.0; 2]; d];
    if x.is_empty() {
        return total;
    }
    let rows = (PART / d).clamp(16, ROWS);
    let parts = (x.len() / d).div_ceil(rows);
    let mut partial = Block::stale(parts * 2 * d);
    par::for_each_chunk_mut(&mut partial, 2 * d, NS * rows as f64, |i, out| {
        let part = i * rows * d..((i + 1) * rows * d).min(x.len());
        dispatch(Sums::<T, SELF> { x: &x[part.clone()], g: &g[part], mean, out });
    });
    for part in partial.chunks_exact(2 * d) {
        for (j, t) in total.iter_mut().enumerate() {
            *t = [t[0] + part[j].as_f64(), t[1] + part[d + j].as_f64()];
        }
    }
    total
}

/// The mean of each column and Σ (x - mean)², of at least one row.
pub(crate) fn moments<T: Float>(x: &[T], d: usize) -> Vec<[f64; 2]> {
    let n = x.len() / d.max(1);
    if n == 0 {
        return vec![[0.0; 2]; d];
    }
    let mut centre = Block::stale(d);
    reduce::fold(reduce::Sum, x, &Layout::dense(&[n, d]), &[0], &mut centre);
    centre.iter_mut().for_each(|c| *c /= T::of(n as f64));
    let n = n as f64;
    // The second pass is around the rounded mean; what is left over of it corrects both.
    let corrected = |(s, &c): ([f64; 2], &T)| {
        let left = s[0] / n;
        [c.as_f64() + left, s[1] - s[0] * left]
    };
    sums::<T, true>(x, x, &centre).into_iter().zip(&*centre).map(corrected).collect()
}

/// Σ g and Σ g (x - m) of each column.
pub(crate) fn dots<T: Float>(x: &[T], g: &[T], mean: &[T]) -> Vec<[f64; 2]> {
    sums::<T, false>(x, g, mean)
}

/// One number for each column: `m`, and the factors of the loops below.
pub(crate) struct Columns<T, const N: usize>(pub(crate) [Vec<T>; N]);

struct Affine<'a, T>(&'a [T], &'a Columns<T, 3>, &'a mut [T]);
impl<T: Float> Kernel for Affine<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Affine(x, Columns([m, a, b]), out) = self;
        let d = m.len();
        for (out, x) in out.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
            for ((((o, &x), &m), &a), &b) in out.iter_mut().zip(x).zip(m).zip(a).zip(b) {
                *o = (x - m).vfma::<FMA>(a, b);
            }
        }
    }
}

/// out = (x - m) a + b
pub(crate) fn affine<T: Float>(x: &[T], of: &Columns<T, 3>, out: &mut [T]) {
    let d = of.0[0].len();
    let rows = (PART / d.max(1)).max(1);
    par::for_each_chunk_mut(out, rows * d, NS, |i, out| {
        dispatch(Affine(&x[i * rows * d..][..out.len()], of, out));
    });
}

struct Back<'a, T>(&'a [T], &'a [T], &'a Columns<T, 4>, &'a mut [T]);
impl<T: Float> Kernel for Back<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Back(x, g, Columns([m, a, k, c]), out) = self;
        let d = m.len();
        let rows = out.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(g.chunks_exact(d));
        for ((out, x), g) in rows {
            let columns = out.iter_mut().zip(x).zip(g).zip(m).zip(a).zip(k).zip(c);
            for ((((((o, &x), &g), &m), &a), &k), &c) in columns {
                *o = a.vfma::<FMA>(g, (x - m).vfma::<FMA>(k, c));
            }
        }
    }
}

/// out = a g + (x - m) k + c
pub(crate) fn back<T: Float>(x: &[T], g: &[T], of: &Columns<T, 4>, out: &mut [T]) {
    let d = of.0[0].len();
    let rows = (PART / d.max(1)).max(1);
    par::for_each_chunk_mut(out, rows * d, NS, |i, out| {
        let part = i * rows * d..i * rows * d + out.len();
        dispatch(Back(&x[part.clone()], &g[part], of, out));
    });
}
