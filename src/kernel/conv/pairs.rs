//! What registers need beyond arithmetic where every second element is wanted: by tiles of two by two, and by strides of two.

use std::array::from_fn;

use crate::kernel::gemm::GemmElement;
use crate::kernel::gemm::vector::{Lanes, Vector};

/// A register whose neighbouring elements can be taken apart and put together.
///
/// # Safety
/// As [`Vector`]: the processor has the instruction set of the type.
#[allow(clippy::missing_safety_doc)]
pub(super) trait Pairs: Vector {
    /// `self - b`.
    unsafe fn sub(self, b: Self) -> Self;
    /// Of the elements of `self` and then `b`: those at even places, and those at odd ones.
    unsafe fn split(self, b: Self) -> (Self, Self);
    /// The inverse of [`split`](Self::split): `self` at even places, `b` at odd ones.
    unsafe fn merge(self, b: Self) -> (Self, Self);
}

impl<T: GemmElement, const N: usize> Pairs for Lanes<T, N> {
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        Self(from_fn(|i| self.0[i].minus(b.0[i])))
    }
    #[inline(always)]
    unsafe fn split(self, b: Self) -> (Self, Self) {
        let at = |i: usize| if i < N { self.0[i] } else { b.0[i - N] };
        (Self(from_fn(|i| at(2 * i))), Self(from_fn(|i| at(2 * i + 1))))
    }
    #[inline(always)]
    unsafe fn merge(self, b: Self) -> (Self, Self) {
        let at = |i: usize| if i.is_multiple_of(2) { self.0[i / 2] } else { b.0[i / 2] };
        (Self(from_fn(at)), Self(from_fn(|i| at(N + i))))
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! pairs {
    ($vector:ty, $sub:ident, split: |$a:ident, $b:ident| $split:expr, merge: |$e:ident, $o:ident| $merge:expr) => {
        // SAFETY (of each block below): the features are the caller's to provide, by the trait's contract.
        #[allow(clippy::undocumented_unsafe_blocks, unused_unsafe)]
        impl Pairs for $vector {
            #[inline(always)]
            unsafe fn sub(self, b: Self) -> Self {
                unsafe { $sub(self, b) }
            }
            #[inline(always)]
            unsafe fn split(self, $b: Self) -> (Self, Self) {
                let $a = self;
                unsafe { $split }
            }
            #[inline(always)]
            unsafe fn merge(self, $o: Self) -> (Self, Self) {
                let $e = self;
                unsafe { $merge }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Pairs;
    use std::arch::x86_64::*;

    /// The places in two registers laid side by side: of even and odd elements, and of the lower and upper halves' pairs.
    static PLACES32: [[i32; 16]; 4] = places();
    static PLACES64: [[i64; 8]; 4] = {
        let (narrow, mut wide) = (places::<8>(), [[0; 8]; 4]);
        let mut i = 0;
        while i < 32 {
            wide[i / 8][i % 8] = narrow[i / 8][i % 8] as i64;
            i += 1;
        }
        wide
    };

    const fn places<const N: usize>() -> [[i32; N]; 4] {
        let mut all = [[0; N]; 4];
        let mut i = 0;
        while i < N {
            all[0][i] = 2 * i as i32;
            all[1][i] = 2 * i as i32 + 1;
            all[2][i] = (i / 2 + i % 2 * N) as i32;
            all[3][i] = (N / 2 + i / 2 + i % 2 * N) as i32;
            i += 1;
        }
        all
    }

    /// The elements of two registers at some of [`PLACES32`].
    ///
    /// # Safety
    /// The processor has AVX-512.
    #[inline(always)]
    unsafe fn pick32(a: __m512, b: __m512, which: usize) -> __m512 {
        // SAFETY: the caller's promise; a row of the table is a register's worth.
        unsafe { _mm512_permutex2var_ps(a, _mm512_loadu_si512(PLACES32[which].as_ptr().cast()), b) }
    }

    /// As [`pick32`].
    ///
    /// # Safety
    /// The processor has AVX-512.
    #[inline(always)]
    unsafe fn pick64(a: __m512d, b: __m512d, which: usize) -> __m512d {
        // SAFETY: the caller's promise; a row of the table is a register's worth.
        unsafe { _mm512_permutex2var_pd(a, _mm512_loadu_si512(PLACES64[which].as_ptr().cast()), b) }
    }

    pairs!(__m512, _mm512_sub_ps,
        split: |a, b| (pick32(a, b, 0), pick32(a, b, 1)),
        merge: |e, o| (pick32(e, o, 2), pick32(e, o, 3)));
    pairs!(__m512d, _mm512_sub_pd,
        split: |a, b| (pick64(a, b, 0), pick64(a, b, 1)),
        merge: |e, o| (pick64(e, o, 2), pick64(e, o, 3)));
    pairs!(__m256, _mm256_sub_ps,
    split: |a, b| {
        // In order but for the middle quarters.
        let swap = |x| _mm256_castpd_ps(_mm256_permute4x64_pd::<0xd8>(_mm256_castps_pd(x)));
        (swap(_mm256_shuffle_ps::<0x88>(a, b)), swap(_mm256_shuffle_ps::<0xdd>(a, b)))
    },
    merge: |e, o| {
        let (low, high) = (_mm256_unpacklo_ps(e, o), _mm256_unpackhi_ps(e, o));
        (_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high))
    });
    pairs!(__m256d, _mm256_sub_pd,
    split: |a, b| (
        _mm256_permute4x64_pd::<0xd8>(_mm256_unpacklo_pd(a, b)),
        _mm256_permute4x64_pd::<0xd8>(_mm256_unpackhi_pd(a, b)),
    ),
    merge: |e, o| {
        let (low, high) = (_mm256_unpacklo_pd(e, o), _mm256_unpackhi_pd(e, o));
        (_mm256_permute2f128_pd::<0x20>(low, high), _mm256_permute2f128_pd::<0x31>(low, high))
    });
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use super::Pairs;
    use std::arch::aarch64::*;

    pairs!(float32x4_t, vsubq_f32,
        split: |a, b| (vuzp1q_f32(a, b), vuzp2q_f32(a, b)),
        merge: |e, o| (vzip1q_f32(e, o), vzip2q_f32(e, o)));
    pairs!(float64x2_t, vsubq_f64,
        split: |a, b| (vuzp1q_f64(a, b), vuzp2q_f64(a, b)),
        merge: |e, o| (vzip1q_f64(e, o), vzip2q_f64(e, o)));
}
