//! What the multipliers can do at most: chains of multiply-adds in registers alone, by which the benches judge products.

use super::vector::Vector;
use crate::kernel::simd::{Isa, isa};
use std::hint::black_box;

/// Runs chains of multiply-adds on the instruction set in use, each `rounds` long, and says how many operations those were.
pub(crate) fn multiply_adds(rounds: usize) -> u64 {
    // SAFETY: the set in use is one that was detected.
    unsafe {
        match isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Amx => avx512(rounds),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2(rounds),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => chains::<std::arch::aarch64::float32x4_t, 24>(rounds),
            _ => chains::<super::vector::Lanes<f32, 4>, 8>(rounds),
        }
    }
}

/// As many chains as the tile of a micro-kernel has: enough to hide the latency of an addition.
///
/// # Safety
/// The processor has the instruction set of the type.
#[inline(always)]
unsafe fn chains<V: Vector<Elem = f32>, const N: usize>(rounds: usize) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        let (factor, term) = (V::splat(black_box(0.999)), V::splat(black_box(0.001)));
        let mut sums = [V::zero(); N];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = sum.fma(factor, term);
            }
        }
        black_box(sums.map(|sum| sum.sum()));
    }
    (2 * N * V::LANES * rounds) as u64
}

/// # Safety
/// The processor has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(rounds: usize) -> u64 {
    // SAFETY: the caller's promise, passed on.
    unsafe { chains::<std::arch::x86_64::__m256, 12>(rounds) }
}

/// # Safety
/// The processor has AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
unsafe fn avx512(rounds: usize) -> u64 {
    // SAFETY: the caller's promise, passed on.
    unsafe { chains::<std::arch::x86_64::__m512, 24>(rounds) }
}
