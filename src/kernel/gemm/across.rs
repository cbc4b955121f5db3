//! Packing what lies along k: columns of B = Wᵀ, rows of A. Blocks are transposed in registers.
#![cfg(target_arch = "x86_64")]

use std::arch::x86_64::*;
use std::array::from_fn;

/// [`pack`](super::pack::pack) with `along == 1`, eight by eight.
///
/// Each group of eight `j` writes whole registers, also where fewer belong to it: what it writes too much lies in the next
/// `p`'s row, which is written later, or in the slack. (So groups run in ascending `p`, and the last group of each row last.)
///
/// # Safety
/// As [`pack`](super::pack::pack); the processor has AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn by_eight(
    k: usize,
    src: *const f32,
    across: isize,
    count: usize,
    width: usize,
    dst: *mut f32,
) {
    let whole = k - k % 8;
    // SAFETY: reads are at `j < count`, `p < k` (registers of eight `p` only below `whole`); writes are at most eight elements
    // from `p * width + j` with `j < width`, `p < k`, so within the panel and its slack.
    unsafe {
        for j in (0..width).step_by(8) {
            for p in (0..whole).step_by(8) {
                let mut r = [_mm256_setzero_ps(); 8];
                for (i, r) in r.iter_mut().enumerate() {
                    if j + i < count {
                        *r = _mm256_loadu_ps(src.wrapping_offset((j + i) as isize * across).add(p));
                    }
                }
                let t0 = _mm256_unpacklo_ps(r[0], r[1]);
                let t1 = _mm256_unpackhi_ps(r[0], r[1]);
                let t2 = _mm256_unpacklo_ps(r[2], r[3]);
                let t3 = _mm256_unpackhi_ps(r[2], r[3]);
                let t4 = _mm256_unpacklo_ps(r[4], r[5]);
                let t5 = _mm256_unpackhi_ps(r[4], r[5]);
                let t6 = _mm256_unpacklo_ps(r[6], r[7]);
                let t7 = _mm256_unpackhi_ps(r[6], r[7]);
                let s0 = _mm256_shuffle_ps::<0x44>(t0, t2);
                let s1 = _mm256_shuffle_ps::<0xee>(t0, t2);
                let s2 = _mm256_shuffle_ps::<0x44>(t1, t3);
                let s3 = _mm256_shuffle_ps::<0xee>(t1, t3);
                let s4 = _mm256_shuffle_ps::<0x44>(t4, t6);
                let s5 = _mm256_shuffle_ps::<0xee>(t4, t6);
                let s6 = _mm256_shuffle_ps::<0x44>(t5, t7);
                let s7 = _mm256_shuffle_ps::<0xee>(t5, t7);
                let out = [
                    _mm256_permute2f128_ps::<0x20>(s0, s4),
                    _mm256_permute2f128_ps::<0x20>(s1, s5),
                    _mm256_permute2f128_ps::<0x20>(s2, s6),
                    _mm256_permute2f128_ps::<0x20>(s3, s7),
                    _mm256_permute2f128_ps::<0x31>(s0, s4),
                    _mm256_permute2f128_ps::<0x31>(s1, s5),
                    _mm256_permute2f128_ps::<0x31>(s2, s6),
                    _mm256_permute2f128_ps::<0x31>(s3, s7),
                ];
                let room = width - j;
                for (i, out) in out.into_iter().enumerate() {
                    let to = dst.add((p + i) * width + j);
                    if room >= 8 || width < 8 {
                        _mm256_storeu_ps(to, out);
                    } else {
                        // The next row's start is already written: keep to this row.
                        let mut lanes = [0.0; 8];
                        _mm256_storeu_ps(lanes.as_mut_ptr(), out);
                        std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, room);
                    }
                }
            }
        }
        for p in whole..k {
            for j in 0..width {
                *dst.add(p * width + j) =
                    if j < count { *src.wrapping_offset(j as isize * across).add(p) } else { 0.0 };
            }
        }
    }
}

/// [`pack`](super::pack::pack) with `along == 1`, sixteen by sixteen: whole cache lines are read and written.
///
/// A register is loaded with four numbers each of four rows that are four apart; so what is left to do is to transpose blocks of four
/// by four, which the processor does within its lanes of 128 bits.
///
/// # Safety
/// As [`pack`](super::pack::pack); the processor has AVX-512, and `width` is a multiple of 16.
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
pub(super) unsafe fn by_sixteen(
    k: usize,
    src: *const f32,
    across: isize,
    count: usize,
    width: usize,
    dst: *mut f32,
) {
    const N: usize = 16;
    debug_assert!(width.is_multiple_of(N));
    // What is left of k, or of the columns, goes through a block of its own.
    let mut edge = [0.0f32; N * N];
    for j in (0..width).step_by(N) {
        let columns = N.min(count.saturating_sub(j));
        let whole = if columns == N { k - k % N } else { 0 };
        let from = src.wrapping_offset(j as isize * across);
        for p in (0..whole).step_by(N) {
            // SAFETY: sixteen columns from `j` on, sixteen elements of each; the rows of the panel that they become.
            unsafe { block(from.add(p), across, N, dst.add(p * width + j), width) };
        }
        for p in (whole..k).step_by(N) {
            let rows = N.min(k - p);
            let mask = ((1u32 << rows) - 1) as __mmask16;
            for i in 0..N {
                // SAFETY: only the columns that exist are read, in as many elements as are left; the edge has room for all.
                unsafe {
                    let x = if i < columns {
                        let column = from.wrapping_offset(i as isize * across);
                        _mm512_maskz_loadu_ps(mask, column.wrapping_add(p))
                    } else {
                        _mm512_setzero_ps()
                    };
                    _mm512_storeu_ps(edge.as_mut_ptr().add(i * N), x);
                }
            }
            // SAFETY: the edge is a whole block, of which `rows` are written to the panel.
            unsafe { block(edge.as_ptr(), N as isize, rows, dst.add(p * width + j), width) };
        }
    }
}

/// Writes the first `rows` rows, `width` apart, of the transpose of a block of sixteen by sixteen whose rows are `across` apart.
///
/// # Safety
/// The block is readable and those rows writable; the processor has AVX-512.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
unsafe fn block(src: *const f32, across: isize, rows: usize, dst: *mut f32, width: usize) {
    for c in 0..rows.div_ceil(4) {
        // SAFETY: the caller's promise.
        let out = unsafe { four_columns(src.wrapping_add(4 * c), across) };
        for (i, out) in out.into_iter().enumerate().take(rows - 4 * c) {
            // SAFETY: row `4c + i < rows`.
            unsafe { _mm512_storeu_ps(dst.add((4 * c + i) * width), out) };
        }
    }
}

/// Four columns of sixteen rows that are `across` apart.
///
/// # Safety
/// Four elements of each row are readable; the processor has AVX-512.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
pub(super) unsafe fn four_columns(src: *const f32, across: isize) -> [__m512; 4] {
    // SAFETY: the caller's promise.
    let four = |i: usize| unsafe { _mm_loadu_ps(src.wrapping_offset(i as isize * across)) };
    // Row i of lane l: the elements of row i + 4l.
    let [a, b, d, e]: [_; 4] = from_fn(|i| {
        let x = _mm512_castps128_ps512(four(i));
        let x = _mm512_mask_broadcast_f32x4(x, 0x00f0, four(i + 4));
        let x = _mm512_mask_broadcast_f32x4(x, 0x0f00, four(i + 8));
        _mm512_mask_broadcast_f32x4(x, 0xf000, four(i + 12))
    });
    let (ab, de) = (_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(d, e));
    let (ab_high, de_high) = (_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(d, e));
    [
        _mm512_shuffle_ps::<0x44>(ab, de),
        _mm512_shuffle_ps::<0xee>(ab, de),
        _mm512_shuffle_ps::<0x44>(ab_high, de_high),
        _mm512_shuffle_ps::<0xee>(ab_high, de_high),
    ]
}
