//! Windows of two by two that do not overlap, in f32: the pooling of most small image models, in registers.
//!
//! ```text
//! a0 a1 | a2 a3 | …      best = a0; then a1, b0, b1 replace it where they are greater or not a number
//! b0 b1 | b2 b3 | …      so the first of equals wins, and a NaN stays
//! ```
//!
//! A register of outputs takes two registers of each row, sorted into even and odd columns; the gradient goes the way back.
//! Where a row ends, lanes beyond it are masked (AVX-512). AVX2 has no quick masked store: there whole registers go beyond the row
//! where the plane has room, as what is written too much is written again by a later row, and lane by lane at the plane's end.
use std::arch::x86_64::*;

use super::Windows;
use crate::element::{DType, Element};
use crate::kernel::simd::{Isa, isa};

/// Whether these are such windows and types, and the processor has the instructions.
pub(super) fn fits<T: Element, P: Element>(w: &Windows) -> bool {
    let types = T::DTYPE == DType::F32 && P::DTYPE == DType::U8 && isa() >= Isa::Avx2;
    let plain = w.kernel == [2, 2] && w.stride == [2, 2] && w.pad == [0, 0] && w.dilation == [1, 1];
    // Ceil mode adds windows that are cut off.
    types && plain && (0..2).all(|i| w.out[i] == w.input[i] / 2)
}

/// Computes whole planes: `y` and, if not empty, `places`. `isa` is at least AVX2, and was detected.
pub(super) fn max(isa: Isa, w: &Windows, x: &[f32], y: &mut [f32], places: &mut [u8]) {
    let planes = y.len() / w.out_plane().max(1);
    assert!(x.len() >= planes * w.in_plane() && y.len() == planes * w.out_plane());
    assert!(places.is_empty() || places.len() == y.len());
    let wanted = !places.is_empty();
    for p in 0..planes {
        let place =
            if wanted { places[p * w.out_plane()..].as_mut_ptr() } else { std::ptr::null_mut() };
        let (x, y) = (x[p * w.in_plane()..].as_ptr(), y[p * w.out_plane()..].as_mut_ptr());
        // SAFETY: plane `p` is inside all three slices, by the assertions; the instruction set was detected.
        unsafe {
            if isa >= Isa::Avx512 { max_avx512(w, x, y, place) } else { max_avx2(w, x, y, place) }
        }
    }
}

/// The gradient of whole planes, each element written once. `isa` as above.
pub(super) fn grad(isa: Isa, w: &Windows, g: &[f32], places: &[u8], dx: &mut [f32]) {
    let planes = dx.len() / w.in_plane().max(1);
    assert!(g.len() >= planes * w.out_plane() && places.len() >= planes * w.out_plane());
    assert_eq!(dx.len(), planes * w.in_plane());
    let ([height, width], [rows, cols]) = (w.input, w.out);
    for p in 0..planes {
        let dx = &mut dx[p * w.in_plane()..][..w.in_plane()];
        if cols > 0 {
            let at = p * w.out_plane();
            // SAFETY: plane `p` is inside all three slices, by the assertions; the instruction set was detected.
            unsafe {
                let (g, places) = (g.as_ptr().add(at), places.as_ptr().add(at));
                match isa {
                    Isa::Avx512 | Isa::Amx => grad_avx512(w, g, places, dx.as_mut_ptr()),
                    _ => grad_avx2(w, g, places, dx.as_mut_ptr()),
                }
            }
        }
        // What no window covers.
        if width > 2 * cols {
            dx.iter_mut().skip(width - 1).step_by(width).take(2 * rows).for_each(|d| *d = 0.0);
        }
        if height > 2 * rows {
            dx[2 * rows * width..].fill(0.0);
        }
    }
}

/// # Safety
/// The processor has AVX-512; a plane is readable at `x` and writable at `y` and, unless null, at `places`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn max_avx512(w: &Windows, x: *const f32, y: *mut f32, places: *mut u8) {
    let ([rows, cols], width) = (w.out, w.input[1]);
    let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    for r in 0..rows {
        for o in (0..cols).step_by(16) {
            let n = (cols - o).min(16);
            let (lanes, pairs) = (mask16(n), mask32(2 * n));
            // SAFETY: the masks leave `2 * n` columns of the two rows and `n` outputs, all inside the planes.
            unsafe {
                let a = x.add(2 * r * width + 2 * o);
                let load = |p: *const f32| {
                    let lo = _mm512_maskz_loadu_ps(pairs as __mmask16, p);
                    let hi = _mm512_maskz_loadu_ps((pairs >> 16) as __mmask16, p.wrapping_add(16));
                    (_mm512_permutex2var_ps(lo, even, hi), _mm512_permutex2var_ps(lo, odd, hi))
                };
                let (a0, a1) = load(a);
                let (b0, b1) = load(a.add(width));
                let mut best = a0;
                let mut place = _mm512_setzero_si512();
                for (i, v) in [(1, a1), (2, b0), (3, b1)] {
                    let wins = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(v, best)
                        | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
                    best = _mm512_mask_mov_ps(best, wins, v);
                    place = _mm512_mask_mov_epi32(place, wins, _mm512_set1_epi32(i));
                }
                let to = r * cols + o;
                _mm512_mask_storeu_ps(y.add(to), lanes, best);
                if !places.is_null() {
                    _mm_mask_storeu_epi8(places.add(to).cast(), lanes, _mm512_cvtepi32_epi8(place));
                }
            }
        }
    }
}

/// # Safety
/// The processor has AVX-512; a plane is readable at `g` and `places`, and writable at `dx`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn grad_avx512(w: &Windows, g: *const f32, places: *const u8, dx: *mut f32) {
    let ([rows, cols], width) = (w.out, w.input[1]);
    let first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    let second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
    for r in 0..rows {
        for o in (0..cols).step_by(16) {
            let n = (cols - o).min(16);
            let (lanes, pairs) = (mask16(n), mask32(2 * n));
            // SAFETY: as in `max_avx512`.
            unsafe {
                let from = r * cols + o;
                let g = _mm512_maskz_loadu_ps(lanes, g.add(from));
                let place =
                    _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes, places.add(from).cast()));
                let to = dx.add(2 * r * width + 2 * o);
                for (i, to) in [(0, to), (2, to.add(width))] {
                    let even = _mm512_maskz_mov_ps(
                        _mm512_cmpeq_epi32_mask(place, _mm512_set1_epi32(i)),
                        g,
                    );
                    let odd = _mm512_maskz_mov_ps(
                        _mm512_cmpeq_epi32_mask(place, _mm512_set1_epi32(i + 1)),
                        g,
                    );
                    let lo = _mm512_permutex2var_ps(even, first, odd);
                    let hi = _mm512_permutex2var_ps(even, second, odd);
                    _mm512_mask_storeu_ps(to, pairs as __mmask16, lo);
                    _mm512_mask_storeu_ps(to.wrapping_add(16), (pairs >> 16) as __mmask16, hi);
                }
            }
        }
    }
}

/// The first `n <= 16` lanes.
#[inline(always)]
fn mask16(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

/// The first `n <= 32` lanes.
#[inline(always)]
fn mask32(n: usize) -> u32 {
    ((1u64 << n) - 1) as u32
}

/// The first `n <= 8` lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn mask8(n: usize) -> __m256i {
    _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
}

/// `n` elements at `from`, as a full array.
///
/// # Safety
/// They are readable.
#[inline(always)]
unsafe fn staged<E: Copy, const N: usize>(from: *const E, n: usize, zero: E) -> [E; N] {
    let mut all = [zero; N];
    for (i, v) in all.iter_mut().enumerate().take(n) {
        // SAFETY: `i < n`.
        *v = unsafe { *from.add(i) };
    }
    all
}

/// Writes the first `n` of an array.
///
/// # Safety
/// They are writable at `to`.
#[inline(always)]
unsafe fn unstage<E: Copy, const N: usize>(all: &[E; N], to: *mut E, n: usize) {
    for (i, v) in all.iter().enumerate().take(n) {
        // SAFETY: `i < n`.
        unsafe { *to.add(i) = *v };
    }
}

/// # Safety
/// The processor has AVX2; a plane is readable at `x` and writable at `y` and, unless null, at `places`.
#[target_feature(enable = "avx2")]
unsafe fn max_avx2(w: &Windows, x: *const f32, y: *mut f32, places: *mut u8) {
    let ([rows, cols], width) = (w.out, w.input[1]);
    for r in 0..rows {
        let mut o = 0;
        while o < cols {
            // The last register of a wide row begins earlier, instead of being partial.
            o = if cols >= 8 { o.min(cols - 8) } else { o };
            let n = (cols - o).min(8);
            // SAFETY: `2 * n` columns of the two rows and `n` outputs are inside the planes; what is written beyond
            // them is inside the plane and belongs to later rows.
            unsafe {
                let a = x.add(2 * r * width + 2 * o);
                let load = |p: *const f32| {
                    let (lo, hi) = if n == 8 {
                        (_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8)))
                    } else {
                        let (few, more) = ((2 * n).min(8), (2 * n).max(8) - 8);
                        let hi = p.wrapping_add(8);
                        (_mm256_maskload_ps(p, mask8(few)), _mm256_maskload_ps(hi, mask8(more)))
                    };
                    let sort = |v: __m256| {
                        _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(_mm256_castps_pd(
                            v,
                        )))
                    };
                    (
                        sort(_mm256_shuffle_ps::<0x88>(lo, hi)),
                        sort(_mm256_shuffle_ps::<0xdd>(lo, hi)),
                    )
                };
                let (a0, a1) = load(a);
                let (b0, b1) = load(a.add(width));
                let mut best = a0;
                let mut place = _mm256_setzero_ps();
                for (i, v) in [(1, a1), (2, b0), (3, b1)] {
                    let wins = _mm256_or_ps(
                        _mm256_cmp_ps::<_CMP_GT_OQ>(v, best),
                        _mm256_cmp_ps::<_CMP_UNORD_Q>(v, v),
                    );
                    best = _mm256_blendv_ps(best, v, wins);
                    place =
                        _mm256_blendv_ps(place, _mm256_castsi256_ps(_mm256_set1_epi32(i)), wins);
                }
                let place = _mm256_castps_si256(place);
                let words = _mm_packs_epi32(
                    _mm256_castsi256_si128(place),
                    _mm256_extracti128_si256::<1>(place),
                );
                let bytes = _mm_packus_epi16(words, words);
                let to = r * cols + o;
                if to + 8 <= w.out_plane() {
                    _mm256_storeu_ps(y.add(to), best);
                    if !places.is_null() {
                        _mm_storel_epi64(places.add(to).cast(), bytes);
                    }
                } else {
                    let mut all = [0.0f32; 8];
                    _mm256_storeu_ps(all.as_mut_ptr(), best);
                    unstage(&all, y.add(to), n);
                    if !places.is_null() {
                        let all = (_mm_cvtsi128_si64(bytes) as u64).to_le_bytes();
                        unstage(&all, places.add(to), n);
                    }
                }
            }
            o += 8;
        }
    }
}

/// # Safety
/// The processor has AVX2; a plane is readable at `g` and `places`, and writable at `dx`.
#[target_feature(enable = "avx2")]
unsafe fn grad_avx2(w: &Windows, g: *const f32, places: *const u8, dx: *mut f32) {
    let ([rows, cols], width) = (w.out, w.input[1]);
    for r in 0..rows {
        let mut o = 0;
        while o < cols {
            o = if cols >= 8 { o.min(cols - 8) } else { o };
            let n = (cols - o).min(8);
            // SAFETY: as in `max_avx2`.
            unsafe {
                let from = r * cols + o;
                let gs = _mm256_maskload_ps(g.add(from), mask8(n));
                let bytes = if from + 8 <= w.out_plane() {
                    _mm_loadl_epi64(places.add(from).cast())
                } else {
                    let all: [u8; 8] = staged(places.add(from), n, 0);
                    _mm_loadl_epi64(all.as_ptr().cast())
                };
                let place = _mm256_cvtepu8_epi32(bytes);
                let at = 2 * r * width + 2 * o;
                for (i, at) in [(0, at), (2, at + width)] {
                    let to = dx.add(at);
                    let pick = |i: i32| {
                        let here = _mm256_cmpeq_epi32(place, _mm256_set1_epi32(i));
                        _mm256_and_ps(gs, _mm256_castsi256_ps(here))
                    };
                    let (even, odd) = (pick(i), pick(i + 1));
                    let (lo, hi) = (_mm256_unpacklo_ps(even, odd), _mm256_unpackhi_ps(even, odd));
                    let first = _mm256_permute2f128_ps::<0x20>(lo, hi);
                    let second = _mm256_permute2f128_ps::<0x31>(lo, hi);
                    if at + 16 <= w.in_plane() {
                        _mm256_storeu_ps(to, first);
                        _mm256_storeu_ps(to.add(8), second);
                    } else {
                        let mut all = [0.0f32; 16];
                        _mm256_storeu_ps(all.as_mut_ptr(), first);
                        _mm256_storeu_ps(all.as_mut_ptr().add(8), second);
                        unstage(&all, to, 2 * n);
                    }
                }
            }
            o += 8;
        }
    }
}
