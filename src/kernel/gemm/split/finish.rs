//! Sums of a tile on their way to C.

use super::super::GemmElement;
use super::super::drive::Problem;
use super::super::plan::Plan;
use super::pack::PANEL;
use super::tile::{SIDE, Sums};
use crate::kernel::simd::Isa;
use std::arch::x86_64::*;
use std::ops::Range;

/// Which results a tile holds: up to 32 rows and columns.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) rows: Range<usize>,
    pub(super) cols: Range<usize>,
}

impl Place {
    /// Tiles of sixteen, down and across.
    pub(super) fn tiles(&self) -> (usize, usize) {
        (self.rows.len().div_ceil(SIDE), self.cols.len().div_ceil(SIDE))
    }

    /// So many rows from the `first` on, or those that there are.
    #[inline]
    fn part(&self, first: usize, count: usize) -> Range<usize> {
        let start = self.rows.start + first;
        start..self.rows.end.min(start + count)
    }

    /// Asks for the cache lines of some rows of C, to be written.
    #[inline]
    pub(super) fn ask(&self, p: &Problem<f32>, first: usize, count: usize) {
        for row in self.part(first, count) {
            let c = p.c.wrapping_add(row * p.c_rs + self.cols.start);
            for i in (0..self.cols.len()).step_by(SIDE) {
                // SAFETY: a hint, harmless at any address.
                unsafe { _mm_prefetch::<_MM_HINT_ET0>(c.wrapping_add(i).cast()) };
            }
        }
    }

    /// Where sixteen sums of a row begin.
    fn at(row: usize, half: usize) -> usize {
        row * PANEL + half * SIDE
    }
}

/// Makes sure that the sums over a block of k are what they should be.
///
/// # Safety
/// As [`Split::run`](super::Split::run), for these results.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
pub(super) unsafe fn check(p: &Problem<f32>, k: &Range<usize>, place: &Place, sums: &mut Sums) {
    // SAFETY: the caller's promise.
    unsafe {
        if !finite(sums) {
            again(p, k, place, sums);
        }
    }
}

/// Whether all sums are; those of tiles that were not computed are zeros.
///
/// # Safety
/// The processor has AVX-512.
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
unsafe fn finite(sums: &Sums) -> bool {
    // 0 times infinity, or NaN, is NaN, and a sum with it stays so.
    let mut zeros = [_mm512_setzero_ps(); 4];
    for rows in sums.0.chunks_exact(4 * SIDE) {
        for (zero, row) in zeros.iter_mut().zip(rows.chunks_exact(SIDE)) {
            // SAFETY: sixteen elements.
            let x = unsafe { _mm512_loadu_ps(row.as_ptr()) };
            *zero = _mm512_fmadd_ps(x, _mm512_setzero_ps(), *zero);
        }
    }
    let [a, b, c, d] = zeros;
    let all = _mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d));
    _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(all, all) == 0
}

/// Computes those sums that are not finite by multiply-adds: a factor that is not finite has no pieces, and the right result may be finite.
///
/// # Safety
/// As [`check`].
#[cold]
unsafe fn again(p: &Problem<f32>, k: &Range<usize>, place: &Place, sums: &mut Sums) {
    let mut right = [0.0; PANEL * PANEL];
    let (row, col) = (place.rows.start as isize, place.cols.start as isize);
    let problem = Problem {
        m: place.rows.len(),
        k: k.len(),
        n: place.cols.len(),
        a: p.a.wrapping_offset(row * p.a_rs + k.start as isize * p.a_cs),
        b: p.b.wrapping_offset(k.start as isize * p.b_rs + col * p.b_cs),
        c: right.as_mut_ptr(),
        c_rs: PANEL,
        accumulate: false,
        bias_col: std::ptr::null(),
        bias_row: std::ptr::null(),
        relu: false,
        ..*p
    };
    // SAFETY: a part of the product that the caller vouches for, with a C of its own.
    unsafe { Plan::new(Isa::Avx512, f32::family(Isa::Avx512), &problem).run(None) };
    for (i, right) in right.chunks_exact(PANEL).enumerate().take(place.rows.len()) {
        for (j, &right) in right.iter().enumerate().take(place.cols.len()) {
            let sum = &mut sums.0[Place::at(i, j / SIDE) + j % SIDE];
            if !sum.is_finite() {
                *sum = right;
            }
        }
    }
}

/// Writes some rows of the sums over a block of k to C, or adds them; after the last block through the epilogue.
///
/// # Safety
/// As [`check`], which they went through.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
pub(super) unsafe fn write(
    p: &Problem<f32>,
    k: &Range<usize>,
    place: &Place,
    sums: &Sums,
    first: usize,
    count: usize,
) {
    let (add, last) = (p.accumulate || k.start > 0, k.end == p.k);
    let zero = _mm512_setzero_ps();
    for row in place.part(first, count) {
        for half in 0..place.tiles().1 {
            let first = place.cols.start + half * SIDE;
            let count = (place.cols.end - first).min(SIDE);
            let mask = ((1u32 << count) - 1) as __mmask16;
            // SAFETY: columns `first..first + count` of this row of C and of the biases exist; a masked access touches nothing else.
            unsafe {
                let c = p.c.add(row * p.c_rs + first);
                let at = Place::at(row - place.rows.start, half);
                let mut x = _mm512_load_ps(sums.0[at..][..SIDE].as_ptr());
                if add {
                    x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(mask, c));
                }
                if last {
                    if !p.bias_col.is_null() {
                        let bias = _mm512_maskz_loadu_ps(mask, p.bias_col.add(first));
                        x = _mm512_add_ps(x, bias);
                    }
                    if !p.bias_row.is_null() {
                        x = _mm512_add_ps(x, _mm512_set1_ps(*p.bias_row.add(row)));
                    }
                    if p.relu {
                        let negative = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, zero);
                        x = _mm512_mask_mov_ps(x, negative, zero);
                    }
                }
                _mm512_mask_storeu_ps(c, mask, x);
            }
        }
    }
}
