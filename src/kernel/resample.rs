//! A sparse matrix along one axis: each output row is a weighted sum of a few input rows. Interpolation is this, an axis at a time.

use super::par;
use super::simd::{Kernel, dispatch};
use crate::float::Float;

/// The taps of each output row: which input rows, and their weights.
pub(crate) type Taps = Vec<Vec<(usize, f64)>>;

struct Plane<'a, T> {
    x: &'a [T],
    taps: &'a [Vec<(usize, f64)>],
    inner: usize,
    out: &'a mut [T],
}

impl<T: Float> Kernel for Plane<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Plane { x, taps, inner, out } = self;
        if inner == 1 {
            for (o, taps) in out.iter_mut().zip(taps) {
                *o = taps.iter().fold(T::ZERO, |sum, &(k, w)| x[k].vfma::<FMA>(T::of(w), sum));
            }
            return;
        }
        for (out, taps) in out.chunks_exact_mut(inner).zip(taps) {
            out.fill(T::ZERO);
            for &(k, w) in taps {
                let w = T::of(w);
                for (o, &x) in out.iter_mut().zip(&x[k * inner..][..inner]) {
                    *o = x.vfma::<FMA>(w, *o);
                }
            }
        }
    }
}

/// `x` as \[.., n, inner\] to \[.., taps, inner\].
pub(crate) fn along<T: Float>(x: &[T], n: usize, inner: usize, taps: &Taps, out: &mut [T]) {
    let len = taps.len() * inner;
    if out.is_empty() {
        return;
    }
    par::for_each_chunk_mut(out, len, 1.0, |i, out| {
        dispatch(Plane { x: &x[i * n * inner..][..n * inner], taps, inner, out });
    });
}

/// The matrix the other way round: for each of `n` input rows the output rows that it is a part of, in order.
pub(crate) fn transposed(taps: &Taps, n: usize) -> Taps {
    let mut back = vec![Vec::new(); n];
    for (i, row) in taps.iter().enumerate() {
        for &(k, w) in row {
            back[k].push((i, w));
        }
    }
    back
}
