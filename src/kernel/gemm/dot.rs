//! Few rows of A against columns of B that lie along k (`x·Wᵀ`, matrix times vector): dot products, without packing.
//!
//! A tile of `R x J` results is `R * J` registers of partial sums, one per lane; what is left of k is read through a mask, and
//! the lanes are summed at the end. The tile micro-kernel would first have to transpose B, which costs as much as
//! multiplying it by some thirty rows.
//!
//! The order of the sum differs from the tile's, and depends on the instruction set. Whether this path is taken depends on sizes
//! and strides only.

use super::GemmElement;
use super::drive::Problem;
use super::vector::Vector;
use crate::element::Element;
use crate::kernel::par;
use std::ops::Range;

/// Rows of a tile of dot products.
pub(super) const ROWS: usize = 4;

/// Computes columns `cols` of a product whose operands lie along k, all rows.
///
/// # Safety
/// As for the problem; the processor has the instruction set; `a_cs == 1` and `b_rs == 1`; nobody else touches these columns of C.
pub(super) type DotFn<T> = unsafe fn(&Problem<T>, Range<usize>);

/// Whether the problem is one for this path.
pub(super) fn suits<T: GemmElement>(p: &Problem<T>, lanes: usize) -> bool {
    p.a_cs == 1 && p.b_rs == 1 && p.b_cs != 1 && p.m <= MOST_ROWS && p.k >= 2 * lanes
}

/// Above this many rows the transposition pays.
const MOST_ROWS: usize = 8;

/// Runs a product in parallel parts of its columns.
///
/// # Safety
/// As [`DotFn`], for all columns.
pub(super) unsafe fn run<T: GemmElement>(p: &Problem<T>, dot: DotFn<T>, rate: f64) {
    // Bound by reading B, which comes at a few elements per nanosecond at best.
    let ns_per_col = (p.k * p.m) as f64 * 2.0 / rate + p.k as f64 * 0.1;
    let grain = ((8_000.0 / ns_per_col) as usize).clamp(1, p.n).next_multiple_of(24);
    par::for_each_range(p.n, grain, ns_per_col, |cols| {
        // SAFETY: the caller's promise; the ranges are disjoint.
        unsafe { dot(p, cols) }
    });
}

/// # Safety
/// As [`DotFn`].
#[inline(always)]
unsafe fn columns<V: Vector, const J: usize>(p: &Problem<V::Elem>, cols: Range<usize>) {
    let mut j = cols.start;
    // SAFETY: tiles lie within `m` rows and `cols`.
    unsafe {
        while j + J <= cols.end {
            rows::<V, J>(p, j);
            j += J;
        }
        while j < cols.end {
            rows::<V, 1>(p, j);
            j += 1;
        }
    }
}

/// # Safety
/// As [`DotFn`], for columns `j..j + J`.
#[inline(always)]
unsafe fn rows<V: Vector, const J: usize>(p: &Problem<V::Elem>, j: usize) {
    let mut i = 0;
    // SAFETY: `i` plus the rows of the tile is at most `m`.
    unsafe {
        while i + ROWS <= p.m {
            tile::<V, ROWS, J>(p, i, j);
            i += ROWS;
        }
        match p.m - i {
            1 => tile::<V, 1, J>(p, i, j),
            2 => tile::<V, 2, J>(p, i, j),
            3 => tile::<V, 3, J>(p, i, j),
            _ => {}
        }
    }
}

/// # Safety
/// As [`DotFn`], for rows `i..i + R` and columns `j..j + J`.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // indices of both factors, as in the formula
unsafe fn tile<V: Vector, const R: usize, const J: usize>(
    p: &Problem<V::Elem>,
    i: usize,
    j: usize,
) {
    // SAFETY: reads elements `0..k` of these rows of A and columns of B, writes these elements of C.
    unsafe {
        let a: [*const V::Elem; R] =
            std::array::from_fn(|r| p.a.wrapping_offset((i + r) as isize * p.a_rs));
        let b: [*const V::Elem; J] =
            std::array::from_fn(|c| p.b.wrapping_offset((j + c) as isize * p.b_cs));
        let mut acc = [[V::zero(); J]; R];
        let whole = p.k - p.k % V::LANES;
        let mut at = 0;
        while at < whole {
            let x: [V; R] = std::array::from_fn(|r| V::load(a[r].add(at)));
            for c in 0..J {
                let y = V::load(b[c].add(at));
                for r in 0..R {
                    acc[r][c] = x[r].fma(y, acc[r][c]);
                }
            }
            at += V::LANES;
        }
        if at < p.k {
            let mask = V::mask(p.k - at);
            let x: [V; R] = std::array::from_fn(|r| V::load_part(a[r].add(at), mask));
            for c in 0..J {
                let y = V::load_part(b[c].add(at), mask);
                for r in 0..R {
                    acc[r][c] = x[r].fma(y, acc[r][c]);
                }
            }
        }
        let mut sums = [[V::Elem::ZERO; J]; R];
        for r in 0..R {
            for c in 0..J {
                sums[r][c] = acc[r][c].sum();
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (c, &sum) in sums.iter().enumerate() {
                p.finish(i + r, j + c, sum);
            }
        }
    }
}

/// # Safety
/// As [`DotFn`].
pub(super) unsafe fn portable<V: Vector>(p: &Problem<V::Elem>, cols: Range<usize>) {
    // SAFETY: the caller's promise, passed on.
    unsafe { columns::<V, 2>(p, cols) }
}

/// # Safety
/// As [`DotFn`]. (12 of 16 registers accumulate.)
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn avx2<V: Vector>(p: &Problem<V::Elem>, cols: Range<usize>) {
    // SAFETY: the caller's promise, passed on.
    unsafe { if p.m == 1 { columns::<V, 6>(p, cols) } else { columns::<V, 2>(p, cols) } }
}

/// # Safety
/// As [`DotFn`]. (24 of 32 registers accumulate; 4 hold A.)
#[cfg(target_arch = "aarch64")]
pub(super) unsafe fn neon<V: Vector>(p: &Problem<V::Elem>, cols: Range<usize>) {
    // SAFETY: the caller's promise, passed on.
    unsafe { columns::<V, 6>(p, cols) }
}

/// # Safety
/// As [`DotFn`]. (24 of 32 registers accumulate.)
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
pub(super) unsafe fn avx512<V: Vector>(p: &Problem<V::Elem>, cols: Range<usize>) {
    // SAFETY: the caller's promise, passed on.
    unsafe { columns::<V, 6>(p, cols) }
}
