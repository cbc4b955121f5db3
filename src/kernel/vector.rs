//! Whole arrays scaled, limited, added and measured: what is done to gradients.

use super::par;
use super::simd::{Kernel, dispatch};
use super::update::for_each_piece;
use crate::float::Float;

/// Elements that one thread takes at a time.
const PART: usize = 16 << 10;
/// Memory's pace: about 10 GB/s for a core that reads and writes 4-byte elements.
const NS: f64 = 0.4;
/// Partial sums that are kept side by side, so that the order of a sum does not depend on the vector width and no addition waits for another.
const LANES: usize = 64;

/// `x *= factor`.
pub(crate) fn scale<T: Float>(x: &mut [T], factor: T) {
    par::for_each_chunk_mut(x, PART, NS, |_, x| dispatch(Scale { x, factor }));
}

struct Scale<'a, T> {
    x: &'a mut [T],
    factor: T,
}

impl<T: Float> Kernel for Scale<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        self.x.iter_mut().for_each(|x| *x *= self.factor);
    }
}

/// Every element limited to `[-max, max]`; a NaN stays one.
pub(crate) fn clamp<T: Float>(x: &mut [T], max: T) {
    par::for_each_chunk_mut(x, PART, NS, |_, x| dispatch(Clamp { x, max }));
}

struct Clamp<'a, T> {
    x: &'a mut [T],
    max: T,
}

impl<T: Float> Kernel for Clamp<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let (lo, hi) = (-self.max, self.max);
        for x in self.x {
            // Comparisons that are false for a NaN keep it.
            let v = if *x < lo { lo } else { *x };
            *x = if v > hi { hi } else { v };
        }
    }
}

/// `a += b`, or `out = a + b` if `a` may not be changed. All of one length.
pub(crate) fn add<T: Float>(a: Option<&[T]>, out: &mut [T], b: &[T]) {
    for_each_piece(a, out, [], b, NS, |out, [], b| dispatch(Add { out, b }));
}

struct Add<'a, T> {
    out: &'a mut [T],
    b: &'a [T],
}

impl<T: Float> Kernel for Add<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        self.out.iter_mut().zip(self.b).for_each(|(a, &b)| *a += b);
    }
}

/// `Σ x²` in double precision, in an order that only the length fixes.
pub(crate) fn sum_of_squares<T: Float>(x: &[T]) -> f64 {
    if x.len() <= PART {
        return dispatch(Squares(x));
    }
    let mut sums = vec![0.0; x.len().div_ceil(PART)];
    par::for_each_chunk_mut(&mut sums, 1, NS * PART as f64, |i, sum| {
        sum[0] = dispatch(Squares(&x[i * PART..x.len().min((i + 1) * PART)]));
    });
    sums.iter().sum()
}

struct Squares<'a, T>(&'a [T]);

impl<T: Float> Kernel for Squares<'_, T> {
    type Out = f64;
    #[inline(always)]
    fn run<const FMA: bool>(self) -> f64 {
        let mut lanes = [0.0f64; LANES];
        let (blocks, rest) = self.0.as_chunks::<LANES>();
        for block in blocks {
            for (lane, x) in lanes.iter_mut().zip(block) {
                let x = x.as_f64();
                // Not fused: the bits must not depend on the instruction set.
                *lane += x * x;
            }
        }
        for (lane, x) in lanes.iter_mut().zip(rest) {
            let x = x.as_f64();
            *lane += x * x;
        }
        lanes.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(n: usize) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * 0.37).sin()).collect()
    }

    #[test]
    fn each_agrees_with_the_plain_loop_at_every_length() {
        for n in [0, 1, 15, 16, 17, 33, PART - 1, PART, 2 * PART + 3] {
            let x = wave(n);
            let mut y = x.clone();
            scale(&mut y, 3.0);
            assert!(y.iter().zip(&x).all(|(y, x)| *y == x * 3.0));
            let mut y = x.clone();
            clamp(&mut y, 0.5);
            assert!(y.iter().zip(&x).all(|(y, x)| *y == x.clamp(-0.5, 0.5)));
            let mut y = x.clone();
            add(None, &mut y, &x);
            let mut z = vec![f32::NAN; n];
            add(Some(&x), &mut z, &x);
            assert!(y == z && y.iter().zip(&x).all(|(y, x)| *y == x + x));
            let plain: f64 = x.iter().map(|&x| x as f64 * x as f64).sum();
            assert!((sum_of_squares(&x) - plain).abs() <= 1e-12 * plain);
        }
    }

    #[test]
    fn what_is_not_finite_stays_visible() {
        let mut x = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        clamp(&mut x, 2.0);
        assert!(x[0].is_nan() && x[1..] == [2.0, -2.0]);
        assert!(sum_of_squares(&[1.0, f64::NAN]).is_nan());
    }

    #[test]
    fn large_values_do_not_overflow_the_sum() {
        assert!(sum_of_squares(&[f32::MAX; 20]).is_finite());
    }
}
