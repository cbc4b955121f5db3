//! One vector register of floats, as the micro-kernels see it: a portable array, 256 and 512 bits of x86, 128 of AArch64.

#[cfg(target_arch = "aarch64")]
mod neon;

use super::GemmElement;

/// A register of `LANES` floats.
///
/// All methods are `#[inline(always)]`: they take on the instruction set of the function that they are inlined into.
///
/// # Safety
/// Every method requires that the processor has the instruction set of the type. Those that take a pointer require
/// `LANES` readable or writable elements there (with a mask, as many as the mask was made for), at any alignment.
#[allow(clippy::missing_safety_doc)]
pub(crate) trait Vector: Copy {
    /// One float.
    type Elem: GemmElement;
    /// Selects the first few lanes.
    type Mask: Copy;
    /// How many floats it holds.
    const LANES: usize;
    unsafe fn zero() -> Self;
    unsafe fn splat(x: Self::Elem) -> Self;
    unsafe fn load(p: *const Self::Elem) -> Self;
    unsafe fn store(self, p: *mut Self::Elem);
    /// Asks for the cache line at `p`, which may be any address.
    #[inline(always)]
    fn prefetch(_p: *const Self::Elem) {}
    /// Asks for the cache line at `p`, which may be any address, in L2.
    #[inline(always)]
    fn prefetch_far(_p: *const u8) {}
    /// The first `n` lanes, `n <= LANES`.
    unsafe fn mask(n: usize) -> Self::Mask;
    /// Lanes outside the mask are zero, and their memory is not touched.
    unsafe fn load_part(p: *const Self::Elem, mask: Self::Mask) -> Self;
    /// Memory of lanes outside the mask is not touched.
    unsafe fn store_part(self, p: *mut Self::Elem, mask: Self::Mask);
    /// `self * b + c`.
    unsafe fn fma(self, b: Self, c: Self) -> Self;
    unsafe fn add(self, b: Self) -> Self;
    /// `max(self, 0)`, and NaN for NaN.
    unsafe fn relu(self) -> Self;
    /// The sum of all lanes.
    unsafe fn sum(self) -> Self::Elem;
}

/// The portable register: an array that the compiler keeps in whatever the target has.
#[derive(Clone, Copy)]
pub(crate) struct Lanes<T, const N: usize>(pub(crate) [T; N]);

impl<T: GemmElement, const N: usize> Vector for Lanes<T, N> {
    type Elem = T;
    type Mask = usize;
    const LANES: usize = N;
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([T::ZERO; N])
    }
    #[inline(always)]
    unsafe fn splat(x: T) -> Self {
        Self([x; N])
    }
    #[inline(always)]
    unsafe fn load(p: *const T) -> Self {
        // SAFETY: `N` elements are readable, by the trait's contract.
        Self(unsafe { p.cast::<[T; N]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut T) {
        // SAFETY: `N` elements are writable, by the trait's contract.
        unsafe { p.cast::<[T; N]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn mask(n: usize) -> usize {
        n
    }
    #[inline(always)]
    unsafe fn load_part(p: *const T, n: usize) -> Self {
        let mut x = [T::ZERO; N];
        for (i, x) in x.iter_mut().enumerate().take(n) {
            // SAFETY: the first `n` elements are readable, by the trait's contract.
            *x = unsafe { *p.add(i) };
        }
        Self(x)
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut T, n: usize) {
        for (i, x) in self.0.iter().enumerate().take(n) {
            // SAFETY: the first `n` elements are writable, by the trait's contract.
            unsafe { *p.add(i) = *x };
        }
    }
    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        // Only AArch64 has the fused instruction in its baseline.
        Self(std::array::from_fn(|i| {
            self.0[i].mul_add_if::<{ cfg!(target_arch = "aarch64") }>(b.0[i], c.0[i])
        }))
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].plus(b.0[i])))
    }
    #[inline(always)]
    unsafe fn relu(self) -> Self {
        Self(self.0.map(|x| if x < T::ZERO { T::ZERO } else { x }))
    }
    #[inline(always)]
    unsafe fn sum(self) -> T {
        self.0.into_iter().fold(T::ZERO, T::plus)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Vector;
    use std::arch::x86_64::*;

    /// Windows of eight or four lanes: reading at `8 - n` (or `4 - n`) gives a mask of the first `n`.
    static MASK32: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    static MASK64: [i64; 8] = [-1, -1, -1, -1, 0, 0, 0, 0];

    macro_rules! vector {
        (
            $vector:ty, $elem:ty, $lanes:literal, $zero:ident, $splat:ident, $load:ident, $store:ident, $fma:ident, $add:ident, $max:ident,
            mask: $mask:ty = |$n:ident| $make:expr,
            load_part: |$lp:ident, $lm:ident| $load_part:expr,
            store_part: |$sp:ident, $sm:ident, $sx:ident| $store_part:expr,
            sum: |$xx:ident| $sum:expr,
        ) => {
            // SAFETY (of each block below): the features and the memory are the caller's to provide, by the trait's contract.
            #[allow(clippy::undocumented_unsafe_blocks, unused_unsafe)]
            impl Vector for $vector {
                type Elem = $elem;
                type Mask = $mask;
                const LANES: usize = $lanes;
                #[inline(always)]
                unsafe fn zero() -> Self {
                    unsafe { $zero() }
                }
                #[inline(always)]
                unsafe fn splat(x: $elem) -> Self {
                    unsafe { $splat(x) }
                }
                #[inline(always)]
                unsafe fn load(p: *const $elem) -> Self {
                    unsafe { $load(p) }
                }
                #[inline(always)]
                unsafe fn store(self, p: *mut $elem) {
                    unsafe { $store(p, self) }
                }
                #[inline(always)]
                fn prefetch(p: *const $elem) {
                    unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
                }
                #[inline(always)]
                fn prefetch_far(p: *const u8) {
                    unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
                }
                #[inline(always)]
                unsafe fn mask($n: usize) -> $mask {
                    debug_assert!($n <= $lanes);
                    unsafe { $make }
                }
                #[inline(always)]
                unsafe fn load_part($lp: *const $elem, $lm: $mask) -> Self {
                    unsafe { $load_part }
                }
                #[inline(always)]
                unsafe fn store_part(self, $sp: *mut $elem, $sm: $mask) {
                    let $sx = self;
                    unsafe { $store_part }
                }
                #[inline(always)]
                unsafe fn fma(self, b: Self, c: Self) -> Self {
                    unsafe { $fma(self, b, c) }
                }
                #[inline(always)]
                unsafe fn add(self, b: Self) -> Self {
                    unsafe { $add(self, b) }
                }
                #[inline(always)]
                unsafe fn relu(self) -> Self {
                    // The second operand is the answer where either is NaN.
                    unsafe { $max($zero(), self) }
                }
                #[inline(always)]
                unsafe fn sum(self) -> $elem {
                    let $xx = self;
                    unsafe { $sum }
                }
            }
        };
    }

    vector! {
        __m512, f32, 16, _mm512_setzero_ps, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_fmadd_ps, _mm512_add_ps, _mm512_max_ps,
        mask: __mmask16 = |n| ((1u32 << n) - 1) as __mmask16,
        load_part: |p, m| _mm512_maskz_loadu_ps(m, p),
        store_part: |p, m, x| _mm512_mask_storeu_ps(p, m, x),
        sum: |x| _mm512_reduce_add_ps(x),
    }
    vector! {
        __m512d, f64, 8, _mm512_setzero_pd, _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_fmadd_pd, _mm512_add_pd, _mm512_max_pd,
        mask: __mmask8 = |n| ((1u32 << n) - 1) as __mmask8,
        load_part: |p, m| _mm512_maskz_loadu_pd(m, p),
        store_part: |p, m, x| _mm512_mask_storeu_pd(p, m, x),
        sum: |x| _mm512_reduce_add_pd(x),
    }
    vector! {
        __m256, f32, 8, _mm256_setzero_ps, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_fmadd_ps, _mm256_add_ps, _mm256_max_ps,
        mask: __m256i = |n| _mm256_loadu_si256(MASK32.as_ptr().add(8 - n).cast()),
        load_part: |p, m| _mm256_maskload_ps(p, m),
        store_part: |p, m, x| _mm256_maskstore_ps(p, m, x),
        sum: |x| {
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps::<1>(x, x)))
        },
    }
    vector! {
        __m256d, f64, 4, _mm256_setzero_pd, _mm256_set1_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_fmadd_pd, _mm256_add_pd, _mm256_max_pd,
        mask: __m256i = |n| _mm256_loadu_si256(MASK64.as_ptr().add(4 - n).cast()),
        load_part: |p, m| _mm256_maskload_pd(p, m),
        store_part: |p, m, x| _mm256_maskstore_pd(p, m, x),
        sum: |x| {
            let x = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd::<1>(x));
            _mm_cvtsd_f64(_mm_add_sd(x, _mm_unpackhi_pd(x, x)))
        },
    }
}
