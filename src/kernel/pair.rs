//! Loops over two dense arrays of the same length.

use super::par;
use super::simd::{Kernel, dispatch};
use super::softmax::{W, padded, total};
use crate::float::Float;
use crate::tensor::Block;

/// Elements whose differences are added up in lanes.
const BLOCK: usize = 2048;
/// Elements that make a part of their own.
const PART: usize = 1 << 15;

struct Distance<'a, T>(&'a [T], &'a [T]);

impl<T: Float> Kernel for Distance<'_, T> {
    type Out = T;
    #[inline(always)]
    fn run<const FMA: bool>(self) -> T {
        let mut sum = T::ZERO;
        for (a, b) in self.0.chunks(BLOCK).zip(self.1.chunks(BLOCK)) {
            let mut acc = [[T::ZERO; W]; 2];
            let (a, a_tail) = a.as_chunks::<W>();
            let (b, b_tail) = b.as_chunks::<W>();
            let tails = (padded(a_tail, T::ZERO), padded(b_tail, T::ZERO));
            for (i, (a, b)) in
                a.iter().chain([&tails.0]).zip(b.iter().chain([&tails.1])).enumerate()
            {
                for ((acc, &a), &b) in acc[i % 2].iter_mut().zip(a).zip(b) {
                    let d = a - b;
                    *acc = d.vfma::<FMA>(d, *acc);
                }
            }
            sum += total(acc[0]) + total(acc[1]);
        }
        sum
    }
}

/// Σ (a - b)².
pub(crate) fn squared_distance<T: Float>(a: &[T], b: &[T]) -> T {
    if a.len() <= PART {
        return dispatch(Distance(a, b));
    }
    let mut parts = Block::stale(a.len().div_ceil(PART));
    par::for_each_chunk_mut(&mut parts, 1, 0.1 * PART as f64, |i, out| {
        let range = i * PART..((i + 1) * PART).min(a.len());
        out[0] = dispatch(Distance(&a[range.clone()], &b[range]));
    });
    T::of(parts.iter().map(|v| v.as_f64()).sum())
}

/// out = scale (a - b).
pub(crate) fn scaled_difference<T: Float>(scale: T, a: &[T], b: &[T], out: &mut [T]) {
    struct Difference<'a, T>(T, &'a [T], &'a [T], &'a mut [T]);
    impl<T: Float> Kernel for Difference<'_, T> {
        type Out = ();
        #[inline(always)]
        fn run<const FMA: bool>(self) {
            for (o, (&a, &b)) in self.3.iter_mut().zip(self.1.iter().zip(self.2)) {
                *o = self.0 * (a - b);
            }
        }
    }
    par::for_each_chunk_mut(out, PART, 0.1, |i, out| {
        let range = i * PART..i * PART + out.len();
        dispatch(Difference(scale, &a[range.clone()], &b[range], out));
    });
}
