//! Normalisation: subtract a mean, divide by a standard deviation, scale and shift.
//!
//! With n elements that share their statistics, r = 1 / √(v + ε), x̂ = (x - m) r:
//!
//! ```text
//! m = Σ x / n        v = Σ (x - m)² / n        y = x̂ w + b
//! ```
//!
//! Backward. Let h = g w, the gradient of x̂. y depends on x through x̂ directly, through m and through r:
//!
//! ```text
//! dx̂_i/dx_j = r ([i = j] - 1/n - x̂_i x̂_j / n)          (∂m/∂x_j = 1/n;  ∂r/∂x_j = -r² x̂_j / n, as Σ (x - m) = 0)
//! dx_j = r (h_j - Σ h / n - x̂_j Σ h x̂ / n)
//! dw = Σ g x̂        db = Σ g                             (over all that a weight was multiplied with)
//! ```
//!
//! With A = Σ h / n and B = r² Σ h (x - m) / n this is dx = r (h - A - (x - m) B), which is what the loops compute: x̂ is never stored.
//! Without the mean (RMS normalisation) m = 0 and A = 0.
//!
//! Three shapes of loops, after where the elements that share statistics or a weight stand:
//!
//! - [`rows`]: statistics of each row of n elements, a weight for each column. Layer and RMS normalisation.
//! - [`planes`]: one mean and one weight for each run of s elements. Batch, group and instance normalisation of images.
//! - [`columns`]: a mean and a weight for each column. Batch normalisation of small or no images, whose planes would be too short for vectors.
//!
//! Variances are exact for numbers far from 0: two passes, the second around the mean of the first, and with the correction
//! Σ(x - c)² - (Σ(x - c))² / n for the rounding of that mean c. Pieces are merged in f64 by Chan's formula.

pub(crate) mod columns;
pub(crate) mod planes;
pub(crate) mod rows;

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

use super::lanes::{tree_of, tree_of_8};
use crate::float::Float;

/// Lanes of a sum: with two sums, half of the registers of AVX2.
const LANES: usize = 32;
/// Elements summed in lanes before they are added to the rest.
const BLOCK: usize = 2048;
/// Elements that make a part of their own.
const PART: usize = 1 << 14;
/// Nanoseconds for an element of a pass.
const NS: f64 = 0.15;

/// A step of [`two_sums`]: the two sums so far and one element of each run, to the sums with it.
trait Step<T>: Fn((T, T), T, T, T) -> (T, T) {}
impl<T, F: Fn((T, T), T, T, T) -> (T, T)> Step<T> for F {}

/// Two sums over three runs of one length.
#[inline(always)]
fn two_sums<T: Float>(a: &[T], b: &[T], c: &[T], step: impl Step<T>) -> (T, T) {
    let (b, c) = (&b[..a.len()], &c[..a.len()]);
    let mut total = (T::ZERO, T::ZERO);
    for ((a, b), c) in a.chunks(BLOCK).zip(b.chunks(BLOCK)).zip(c.chunks(BLOCK)) {
        let (u, v) = block_sums(a, b, c, &step);
        total = (total.0 + u, total.1 + v);
    }
    total
}

#[inline(always)]
fn block_sums<T: Float>(a: &[T], b: &[T], c: &[T], step: &impl Step<T>) -> (T, T) {
    let (a32, a) = a.as_chunks::<LANES>();
    let (b32, b) = b.as_chunks::<LANES>();
    let (c32, c) = c.as_chunks::<LANES>();
    let mut wide = ([T::ZERO; LANES], [T::ZERO; LANES]);
    for ((a, b), c) in a32.iter().zip(b32).zip(c32) {
        for j in 0..LANES {
            (wide.0[j], wide.1[j]) = step((wide.0[j], wide.1[j]), a[j], b[j], c[j]);
        }
    }
    let (a8, a) = a.as_chunks::<8>();
    let (b8, b) = b.as_chunks::<8>();
    let (c8, c) = c.as_chunks::<8>();
    let mut narrow = ([T::ZERO; 8], [T::ZERO; 8]);
    for ((a, b), c) in a8.iter().zip(b8).zip(c8) {
        for j in 0..8 {
            (narrow.0[j], narrow.1[j]) = step((narrow.0[j], narrow.1[j]), a[j], b[j], c[j]);
        }
    }
    let mut rest = (T::ZERO, T::ZERO);
    for ((&a, &b), &c) in a.iter().zip(b).zip(c) {
        rest = step(rest, a, b, c);
    }
    let plus = |a, b| a + b;
    let total = |wide, narrow, rest| tree_of(wide, plus) + tree_of_8(narrow, plus) + rest;
    (total(wide.0, narrow.0, rest.0), total(wide.1, narrow.1, rest.1))
}

/// The mean of a run that is not empty, but for rounding.
#[inline(always)]
fn centre<T: Float>(x: &[T]) -> T {
    super::reduce::run_of(super::reduce::Sum, x) / T::of(x.len() as f64)
}

/// The mean, and Σ (x - mean)², of a run that is not empty.
#[inline(always)]
fn mean_and_squares<T: Float, const FMA: bool>(x: &[T]) -> (T, T) {
    mean_and_squares_by::<T, FMA>(x, centre(x))
}

/// [`mean_and_squares`] from what [`centre`] gives.
#[inline(always)]
fn mean_and_squares_by<T: Float, const FMA: bool>(x: &[T], centre: T) -> (T, T) {
    let sums = two_sums(x, x, x, |(u, v), x, _, _| {
        let d = x - centre;
        (u + d, d.vfma::<FMA>(d, v))
    });
    corrected(centre, sums, x.len())
}

/// Mean and squares around it of `n` elements, from the sums of distances and their squares around some centre near it: what the rounding of the
/// centre left over is put right. An infinite run has no squares to correct, and a NaN shows by itself.
#[inline(always)]
fn corrected<T: Float>(centre: T, (d, squares): (T, T), n: usize) -> (T, T) {
    let left = d / T::of(n as f64);
    (centre + left, squares - d * left)
}

/// Mean and Σ (x - mean)² of two sets together (Chan et al., 1979), with the number of elements of each.
pub(crate) fn merge((n, a): (f64, [f64; 2]), (k, b): (f64, [f64; 2])) -> (f64, [f64; 2]) {
    let total = n + k;
    if total == 0.0 {
        return (0.0, [0.0; 2]);
    }
    let d = b[0] - a[0];
    (total, [a[0] + d * (k / total), a[1] + b[1] + d * d * (n * k / total)])
}
