//! Loops over two dense arrays of the same length, and tests of every element of one.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::chunks::{W, total};
use super::map::{Map, Zip};
use super::par;
use super::simd::{Kernel, dispatch};
use crate::element::Element;
use crate::float::Float;
use crate::tensor::Block;

/// Elements that are added up in lanes.
const BLOCK: usize = 2048;
/// Elements that make a part of their own.
const PART: usize = 1 << 15;

struct Sum<'a, F, T>(F, &'a [T], &'a [T]);

impl<T: Float, F: Zip<T, T, T>> Kernel for Sum<'_, F, T> {
    type Out = T;
    #[inline(always)]
    fn run<const FMA: bool>(self) -> T {
        let f = self.0;
        let mut sum = T::ZERO;
        for (a, b) in self.1.chunks(BLOCK).zip(self.2.chunks(BLOCK)) {
            let mut acc = [T::ZERO; 2 * W];
            let (a, a_tail) = a.as_chunks::<{ 2 * W }>();
            let (b, b_tail) = b.as_chunks::<{ 2 * W }>();
            for (a, b) in a.iter().zip(b) {
                for ((acc, &a), &b) in acc.iter_mut().zip(a).zip(b) {
                    *acc += f.at::<FMA>(a, b);
                }
            }
            // The tail goes through the same vector code; what the padding gives is left out.
            let (mut a, mut b) = ([T::ZERO; 2 * W], [T::ZERO; 2 * W]);
            a[..a_tail.len()].copy_from_slice(a_tail);
            b[..b_tail.len()].copy_from_slice(b_tail);
            for (i, ((acc, &a), &b)) in acc.iter_mut().zip(&a).zip(&b).enumerate() {
                let y = f.at::<FMA>(a, b);
                *acc += if i < a_tail.len() { y } else { T::ZERO };
            }
            for &half in acc.as_chunks::<W>().0 {
                sum += total(half);
            }
        }
        sum
    }
}

/// Σ f(a, b), in an order that depends on the length alone.
pub(crate) fn sum<T: Float, F: Zip<T, T, T>>(f: F, a: &[T], b: &[T]) -> T {
    if a.len() <= PART {
        return dispatch(Sum(f, a, b));
    }
    let mut parts = Block::stale(a.len().div_ceil(PART));
    par::for_each_chunk_mut(&mut parts, 1, F::NS * PART as f64, |i, out| {
        let range = i * PART..((i + 1) * PART).min(a.len());
        out[0] = dispatch(Sum(f, &a[range.clone()], &b[range]));
    });
    T::of(parts.iter().map(|v| v.as_f64()).sum())
}

struct Every<'a, F, T>(F, &'a [T]);

impl<T: Element, F: Map<T, bool>> Kernel for Every<'_, F, T> {
    type Out = Option<usize>;
    #[inline(always)]
    fn run<const FMA: bool>(self) -> Option<usize> {
        for (block, x) in self.1.chunks(BLOCK).enumerate() {
            // Without a branch, so that the loop is vectors; the place is looked for only when there is one.
            if !x.iter().fold(true, |all, &x| all & self.0.at::<FMA>(x)) {
                return x.iter().position(|&x| !self.0.at::<FMA>(x)).map(|i| block * BLOCK + i);
            }
        }
        None
    }
}

/// Where the first element stands that fails a test.
pub(crate) fn first_failing<T: Element, F: Map<T, bool>>(test: F, x: &[T]) -> Option<usize> {
    let first = AtomicUsize::new(usize::MAX);
    par::for_each_range(x.len(), PART, 0.1, |range| {
        let start = range.start;
        if let Some(i) = dispatch(Every(test, &x[range])) {
            first.fetch_min(start + i, Relaxed);
        }
    });
    Some(first.into_inner()).filter(|&i| i != usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    struct Product;
    impl Zip<f64, f64, f64> for Product {
        #[inline(always)]
        fn at<const FMA: bool>(self, a: f64, b: f64) -> f64 {
            // 1 where both are 0, so that padding would show.
            a * b + 1.0
        }
    }
    impl Map<f64, bool> for Product {
        #[inline(always)]
        fn at<const FMA: bool>(self, a: f64) -> bool {
            a >= 0.0
        }
    }

    #[test]
    fn every_length() {
        for n in [0usize, 1, 15, 16, 17, 31, 2047, 2048, 2049, 32_768, 32_769, 100_003] {
            let a: Vec<f64> = (0..n).map(|i| (i % 7) as f64).collect();
            let want: f64 = a.iter().map(|a| a * a + 1.0).sum();
            assert_eq!(sum(Product, &a, &a), want, "{n}");
            assert_eq!(first_failing(Product, &a), None);
            for at in [0, n / 3, n.saturating_sub(1)] {
                let mut b = a.clone();
                if at < n {
                    b[at] = f64::NAN;
                    b[n - 1] = -1.0;
                    assert_eq!(first_failing(Product, &b), Some(at), "{n}");
                }
            }
        }
    }
}
