//! The 128-bit registers of AArch64. Its baseline has them, so nothing needs to be enabled.
//!
//! There are no masked accesses: part of a register is read and written by halves and single lanes.

use std::arch::aarch64::*;

use super::Vector;

macro_rules! vector {
    (
        $vector:ty, $elem:ty, $lanes:literal, $splat:ident, $load:ident, $store:ident, $fma:ident, $add:ident, $sum:ident,
        relu: |$x:ident| $relu:expr,
        load_part: |$lp:ident, $ln:ident| $load_part:expr,
        store_part: |$sp:ident, $sn:ident, $sx:ident| $store_part:expr,
    ) => {
        // SAFETY (of each block below): the memory is the caller's to provide, by the trait's contract; the features are the target's.
        #[allow(clippy::undocumented_unsafe_blocks, unused_unsafe)]
        impl Vector for $vector {
            type Elem = $elem;
            /// How many lanes.
            type Mask = usize;
            const LANES: usize = $lanes;
            #[inline(always)]
            unsafe fn zero() -> Self {
                unsafe { $splat(0.0) }
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
            unsafe fn mask(n: usize) -> usize {
                debug_assert!(n <= $lanes);
                n
            }
            #[inline(always)]
            unsafe fn load_part($lp: *const $elem, $ln: usize) -> Self {
                unsafe { $load_part }
            }
            #[inline(always)]
            unsafe fn store_part(self, $sp: *mut $elem, $sn: usize) {
                let $sx = self;
                unsafe { $store_part }
            }
            #[inline(always)]
            unsafe fn fma(self, b: Self, c: Self) -> Self {
                unsafe { $fma(c, self, b) }
            }
            #[inline(always)]
            unsafe fn add(self, b: Self) -> Self {
                unsafe { $add(self, b) }
            }
            #[inline(always)]
            unsafe fn relu(self) -> Self {
                // What is negative loses its bits; a NaN is not.
                let $x = self;
                unsafe { $relu }
            }
            #[inline(always)]
            unsafe fn sum(self) -> $elem {
                unsafe { $sum(self) }
            }
        }
    };
}

vector! {
    float32x4_t, f32, 4, vdupq_n_f32, vld1q_f32, vst1q_f32, vfmaq_f32, vaddq_f32, vaddvq_f32,
    relu: |x| vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x), vcltzq_f32(x))),
    load_part: |p, n| match n {
        0 => vdupq_n_f32(0.0),
        1 => vld1q_lane_f32::<0>(p, vdupq_n_f32(0.0)),
        2 => vcombine_f32(vld1_f32(p), vdup_n_f32(0.0)),
        3 => vld1q_lane_f32::<2>(p.add(2), vcombine_f32(vld1_f32(p), vdup_n_f32(0.0))),
        _ => vld1q_f32(p),
    },
    store_part: |p, n, x| match n {
        0 => {}
        1 => vst1q_lane_f32::<0>(p, x),
        2 => vst1_f32(p, vget_low_f32(x)),
        3 => {
            vst1_f32(p, vget_low_f32(x));
            vst1q_lane_f32::<2>(p.add(2), x);
        }
        _ => vst1q_f32(p, x),
    },
}
vector! {
    float64x2_t, f64, 2, vdupq_n_f64, vld1q_f64, vst1q_f64, vfmaq_f64, vaddq_f64, vaddvq_f64,
    relu: |x| vreinterpretq_f64_u64(vbicq_u64(vreinterpretq_u64_f64(x), vcltzq_f64(x))),
    load_part: |p, n| match n {
        0 => vdupq_n_f64(0.0),
        1 => vld1q_lane_f64::<0>(p, vdupq_n_f64(0.0)),
        _ => vld1q_f64(p),
    },
    store_part: |p, n, x| match n {
        0 => {}
        1 => vst1q_lane_f64::<0>(p, x),
        _ => vst1q_f64(p, x),
    },
}
