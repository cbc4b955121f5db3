//! Rectification that keeps one bit per element for its backward pass, instead of the output.
//!
//! forward:  `y = 0 where x < 0, else x`, `bit = not (x <= 0)`; backward: `g = 0 where the bit is 0`.
//! A NaN stays one and lets the gradient pass, as in PyTorch. Element `i` has bit `i % 8` of byte `i / 8`.
#![allow(unsafe_code)]

use crate::float::Float;
use crate::kernel::par::{self, SyncPtr};

/// Elements of one part of the parallel loop; a multiple of 8, so that parts share no byte.
const GRAIN: usize = 1 << 15;
const NS: f64 = 0.15;
/// Elements that are copied, then masked while they are in the first cache; a multiple of 8 as well.
const BLOCK: usize = 1 << 10;

/// The number of bytes that hold a bit for each of `n` elements.
pub(crate) fn mask_len(n: usize) -> usize {
    n.div_ceil(8)
}

/// Writes all of `y` and of `mask`.
pub(crate) fn forward<T: Float>(x: &[T], y: &mut [T], mask: &mut [u8]) {
    assert!(x.len() == y.len() && mask.len() == mask_len(x.len()));
    let bits = SyncPtr(mask.as_mut_ptr());
    par::for_each_chunk_mut(y, GRAIN, NS, |part, y| {
        let start = part * GRAIN;
        // SAFETY: the bytes of elements start..start + y.len() lie within `mask` (checked above), no other part has any of
        // them because GRAIN is a multiple of 8, and `mask` is borrowed mutably until the loop has ended.
        let mask =
            unsafe { std::slice::from_raw_parts_mut(bits.get().add(start / 8), mask_len(y.len())) };
        forward_part(&x[start..start + y.len()], y, mask);
    });
}

/// Writes `g` to `out`, with zeros where the bit is 0; without `g`, what stands in `out` already is taken.
pub(crate) fn backward<T: Float>(g: Option<&[T]>, out: &mut [T], mask: &[u8]) {
    assert!(mask.len() == mask_len(out.len()) && g.is_none_or(|g| g.len() == out.len()));
    par::for_each_chunk_mut(out, GRAIN, NS, |part, out| {
        for (i, out) in out.chunks_mut(BLOCK).enumerate() {
            let start = part * GRAIN + i * BLOCK;
            if let Some(g) = g {
                out.copy_from_slice(&g[start..start + out.len()]);
            }
            backward_part(out, &mask[start / 8..start / 8 + mask_len(out.len())]);
        }
    });
}

/// Some elements from a multiple of 8 on.
pub(crate) fn forward_part<T: Float>(x: &[T], y: &mut [T], mask: &mut [u8]) {
    let done = vector::forward(x, y, mask);
    let rest = x[done..].chunks(8).zip(y[done..].chunks_mut(8)).zip(&mut mask[done / 8..]);
    for ((x, y), bits) in rest {
        *bits = 0;
        for (i, (&x, y)) in x.iter().zip(y).enumerate() {
            *y = if x < T::ZERO { T::ZERO } else { x };
            *bits |= u8::from(x > T::ZERO || x.is_not_a_number()) << i;
        }
    }
}

/// As [`backward`] in place, for some elements from a multiple of 8 on.
pub(crate) fn backward_part<T: Float>(g: &mut [T], mask: &[u8]) {
    let done = vector::backward(g, mask);
    for (g, bits) in g[done..].chunks_mut(8).zip(&mask[done / 8..]) {
        for (i, g) in g.iter_mut().enumerate() {
            if bits >> i & 1 == 0 {
                *g = T::ZERO;
            }
        }
    }
}

/// The part of the work that vectors do; both functions return how many elements that was, a multiple of 8.
#[cfg(target_arch = "x86_64")]
mod vector {
    use std::arch::x86_64::*;

    use crate::element::DType;
    use crate::float::Float;
    use crate::kernel::simd::{Isa, isa};

    pub(super) fn forward<T: Float>(x: &[T], y: &mut [T], mask: &mut [u8]) -> usize {
        let n = x.len().min(y.len()).min(mask.len() * 8);
        let (xp, yp, mp) = (x.as_ptr().cast(), y.as_mut_ptr().cast(), mask.as_mut_ptr());
        match (T::DTYPE, isa()) {
            // SAFETY: `T` is f32, the processor has the instruction set, and `n` elements and their bits exist.
            (DType::F32, Isa::Avx512 | Isa::Amx) => unsafe { forward_avx512(n, xp, yp, mp) },
            // SAFETY: as above.
            (DType::F32, Isa::Avx2) => unsafe { forward_avx2(n, xp, yp, mp) },
            _ => 0,
        }
    }

    pub(super) fn backward<T: Float>(g: &mut [T], mask: &[u8]) -> usize {
        let n = g.len().min(mask.len() * 8);
        let (gp, mp) = (g.as_mut_ptr().cast(), mask.as_ptr());
        match (T::DTYPE, isa()) {
            // SAFETY: `T` is f32, the processor has the instruction set, and `n` elements and their bits exist.
            (DType::F32, Isa::Avx512 | Isa::Amx) => unsafe { backward_avx512(n, gp, mp) },
            // SAFETY: as above.
            (DType::F32, Isa::Avx2) => unsafe { backward_avx2(n, gp, mp) },
            _ => 0,
        }
    }

    /// # Safety
    /// `x` and `y` hold `n` elements, `mask` n / 8 bytes, and the processor has AVX-512F.
    #[target_feature(enable = "avx512f")]
    unsafe fn forward_avx512(n: usize, x: *const f32, y: *mut f32, mask: *mut u8) -> usize {
        let zero = _mm512_setzero_ps();
        let n = n / 16 * 16;
        for i in (0..n).step_by(16) {
            // SAFETY: i + 16 <= n elements and (i + 16) / 8 bytes exist, by the caller.
            unsafe {
                let v = _mm512_loadu_ps(x.add(i));
                let negative = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(v, zero);
                let passes = _mm512_cmp_ps_mask::<_CMP_NLE_UQ>(v, zero);
                _mm512_storeu_ps(y.add(i), _mm512_mask_mov_ps(v, negative, zero));
                mask.add(i / 8).cast::<u16>().write_unaligned(passes);
            }
        }
        n
    }

    /// # Safety
    /// As [`forward_avx512`], with AVX2.
    #[target_feature(enable = "avx2")]
    unsafe fn forward_avx2(n: usize, x: *const f32, y: *mut f32, mask: *mut u8) -> usize {
        let zero = _mm256_setzero_ps();
        let n = n / 8 * 8;
        for i in (0..n).step_by(8) {
            // SAFETY: i + 8 <= n elements and their byte exist, by the caller.
            unsafe {
                let v = _mm256_loadu_ps(x.add(i));
                let negative = _mm256_cmp_ps::<_CMP_LT_OQ>(v, zero);
                let passes = _mm256_cmp_ps::<_CMP_NLE_UQ>(v, zero);
                _mm256_storeu_ps(y.add(i), _mm256_andnot_ps(negative, v));
                *mask.add(i / 8) = _mm256_movemask_ps(passes) as u8;
            }
        }
        n
    }

    /// # Safety
    /// `g` holds `n` elements, `mask` n / 8 bytes, and the processor has AVX-512F.
    #[target_feature(enable = "avx512f")]
    unsafe fn backward_avx512(n: usize, g: *mut f32, mask: *const u8) -> usize {
        let n = n / 16 * 16;
        for i in (0..n).step_by(16) {
            // SAFETY: i + 16 <= n elements and (i + 16) / 8 bytes exist, by the caller.
            unsafe {
                let passes = mask.add(i / 8).cast::<u16>().read_unaligned();
                _mm512_storeu_ps(g.add(i), _mm512_maskz_loadu_ps(passes, g.add(i)));
            }
        }
        n
    }

    /// # Safety
    /// As [`backward_avx512`], with AVX2.
    #[target_feature(enable = "avx2")]
    unsafe fn backward_avx2(n: usize, g: *mut f32, mask: *const u8) -> usize {
        let each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
        let n = n / 8 * 8;
        for i in (0..n).step_by(8) {
            // SAFETY: i + 8 <= n elements and their byte exist, by the caller.
            unsafe {
                let bits = _mm256_and_si256(_mm256_set1_epi32(i32::from(*mask.add(i / 8))), each);
                let passes = _mm256_castsi256_ps(_mm256_cmpeq_epi32(bits, each));
                _mm256_storeu_ps(g.add(i), _mm256_and_ps(_mm256_loadu_ps(g.add(i)), passes));
            }
        }
        n
    }
}

/// As for x86, eight elements at a time.
#[cfg(target_arch = "aarch64")]
mod vector {
    use std::arch::aarch64::*;

    use crate::element::DType;
    use crate::float::Float;
    use crate::kernel::simd::{Isa, isa};

    /// The bit of each lane.
    static EACH: [u8; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

    /// How many of `n` elements are for the loops below.
    fn taken<T: Float>(n: usize) -> usize {
        if T::DTYPE == DType::F32 && isa() == Isa::Neon { n / 8 * 8 } else { 0 }
    }

    pub(super) fn forward<T: Float>(x: &[T], y: &mut [T], mask: &mut [u8]) -> usize {
        let n = taken::<T>(x.len().min(y.len()).min(mask.len() * 8));
        let (x, y) = (x.as_ptr().cast::<f32>(), y.as_mut_ptr().cast::<f32>());
        for (byte, i) in mask.iter_mut().zip((0..n).step_by(8)) {
            // SAFETY: `T` is f32, and both arrays hold i + 8 elements.
            unsafe {
                let halves = [0, 4].map(|half| {
                    let v = vld1q_f32(x.add(i + half));
                    let rest = vbicq_u32(vreinterpretq_u32_f32(v), vcltzq_f32(v));
                    vst1q_f32(y.add(i + half), vreinterpretq_f32_u32(rest));
                    vmovn_u32(vmvnq_u32(vclezq_f32(v)))
                });
                let passes = vmovn_u16(vcombine_u16(halves[0], halves[1]));
                *byte = vaddv_u8(vand_u8(passes, vld1_u8(EACH.as_ptr())));
            }
        }
        n
    }

    pub(super) fn backward<T: Float>(g: &mut [T], mask: &[u8]) -> usize {
        let n = taken::<T>(g.len().min(mask.len() * 8));
        let g = g.as_mut_ptr().cast::<f32>();
        for (&byte, i) in mask.iter().zip((0..n).step_by(8)) {
            // SAFETY: `T` is f32, and the array holds i + 8 elements.
            unsafe {
                let passes = vtst_u8(vdup_n_u8(byte), vld1_u8(EACH.as_ptr()));
                // All ones and zeros stay that when the sign is extended.
                let passes = vmovl_s8(vreinterpret_s8_u8(passes));
                let halves = [vget_low_s16(passes), vget_high_s16(passes)].map(|h| vmovl_s16(h));
                for (half, passes) in halves.into_iter().enumerate() {
                    let at = g.add(i + 4 * half);
                    let v = vreinterpretq_s32_f32(vld1q_f32(at));
                    vst1q_f32(at, vreinterpretq_f32_s32(vandq_s32(v, passes)));
                }
            }
        }
        n
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod vector {
    use crate::float::Float;

    pub(super) fn forward<T: Float>(_: &[T], _: &mut [T], _: &mut [u8]) -> usize {
        0
    }
    pub(super) fn backward<T: Float>(_: &mut [T], _: &[u8]) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_agrees_with_the_definition() {
        let odd = [f32::NAN, -0.0, 0.0, f32::INFINITY, f32::NEG_INFINITY, 1e-40, -1e-40];
        for n in (0..70).chain([GRAIN - 1, GRAIN + 9]) {
            let x: Vec<f32> =
                (0..n).map(|i| if i % 3 == 0 { odd[i % 7] } else { (i as f32).sin() }).collect();
            let (mut y, mut mask) = (vec![f32::NAN; n], vec![0xaa; mask_len(n)]);
            forward(&x, &mut y, &mut mask);
            let mut g = vec![2.0f32; n];
            let mut copy = vec![f32::NAN; n];
            backward(Some(&g), &mut copy, &mask);
            backward(None, &mut g, &mask);
            assert_eq!(g, copy);
            for i in 0..n {
                let want = if x[i] < 0.0 { 0.0 } else { x[i] };
                assert!(y[i].to_bits() == want.to_bits(), "{n} {i}: {} → {}", x[i], y[i]);
                assert_eq!(g[i], if x[i] <= 0.0 { 0.0 } else { 2.0 }, "{n} {i}: {}", x[i]);
            }
        }
    }
}
