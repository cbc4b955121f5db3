//! Exponentials inside vectorised loops.
//!
//! e^x = 2^k · e^r with k = round(x / ln 2) and |r| ≤ ln 2 / 2. The rounding is the addition of a number so large that the sum has no
//! bits left for a fraction; its low bits then are k. 2^k is put together from bits, in two factors, so that results below the
//! smallest normal number come out right. Everything is plain arithmetic, which the compiler turns into vectors of any width.

use super::simd::{fma, fma64};

/// e^x for use inside a [`Kernel`](super::simd::Kernel).
pub trait VecExp: Sized {
    /// e^x to about 1 ulp; 0 for -∞, ∞ for what overflows, NaN for NaN.
    #[doc(hidden)]
    fn vexp<const FMA: bool>(self) -> Self;
    /// `self * b + c`, fused where that is one instruction.
    #[doc(hidden)]
    fn vfma<const FMA: bool>(self, b: Self, c: Self) -> Self;
}

impl VecExp for f32 {
    #[inline(always)]
    fn vexp<const FMA: bool>(self) -> f32 {
        const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23
        // Beyond these the result is 0 or infinite anyway; a NaN passes both comparisons unchanged. What is masked, -∞, must not get its 0
        // from multiplications that underflow: each of those costs as much as a hundred others.
        let zero = self < -104.0;
        let x = if zero { 0.0 } else { self };
        let x = if x > 89.0 { 89.0 } else { x };
        let t = fma::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
        let k = t - ROUND;
        // ln 2 in two parts; the first has so few bits that k times it is exact.
        let r = fma::<FMA>(k, -0.693_359_4, x);
        let r = fma::<FMA>(k, 2.121_944_4e-4, r);
        let mut p = 1.987_569_1e-4;
        for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5, 1.0, 1.0] {
            p = fma::<FMA>(p, r, c);
        }
        let k = (t.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
        let half = k >> 1;
        let pow2 = |k: i32| f32::from_bits((k.wrapping_add(127) << 23) as u32);
        let y = p * pow2(half) * pow2(k.wrapping_sub(half));
        if zero { 0.0 } else { y }
    }

    #[inline(always)]
    fn vfma<const FMA: bool>(self, b: f32, c: f32) -> f32 {
        fma::<FMA>(self, b, c)
    }
}

impl VecExp for f64 {
    #[inline(always)]
    fn vexp<const FMA: bool>(self) -> f64 {
        const ROUND: f64 = 6_755_399_441_055_744.0; // 1.5 · 2^52
        let zero = self < -746.0;
        let x = if zero { 0.0 } else { self };
        let x = if x > 710.0 { 710.0 } else { x };
        let t = fma64::<FMA>(x, std::f64::consts::LOG2_E, ROUND);
        let k = t - ROUND;
        let r = fma64::<FMA>(k, -0.693_147_180_369_123_8, x);
        let r = fma64::<FMA>(k, -1.908_214_929_270_587_7e-10, r);
        // The Taylor series: the term after r^13 / 13! is below 1e-17.
        let mut p = 1.0 / 6_227_020_800.0;
        for c in [
            1.0 / 479_001_600.0,
            1.0 / 39_916_800.0,
            1.0 / 3_628_800.0,
            1.0 / 362_880.0,
            1.0 / 40_320.0,
            1.0 / 5_040.0,
            1.0 / 720.0,
            1.0 / 120.0,
            1.0 / 24.0,
            1.0 / 6.0,
            0.5,
            1.0,
            1.0,
        ] {
            p = fma64::<FMA>(p, r, c);
        }
        let k = (t.to_bits() as i64).wrapping_sub(ROUND.to_bits() as i64);
        let half = k >> 1;
        let pow2 = |k: i64| f64::from_bits((k.wrapping_add(1023) << 52) as u64);
        let y = p * pow2(half) * pow2(k.wrapping_sub(half));
        if zero { 0.0 } else { y }
    }

    #[inline(always)]
    fn vfma<const FMA: bool>(self, b: f64, c: f64) -> f64 {
        fma64::<FMA>(self, b, c)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_to_the_library_everywhere() {
        for i in -110_000..=95_000 {
            let x = i as f32 * 1e-3;
            let (got, want) = (x.vexp::<false>() as f64, (x as f64).exp());
            if want > f32::MAX as f64 {
                assert!(got == f64::INFINITY || want < 3.41e38, "{x}");
            } else if want >= f32::MIN_POSITIVE as f64 {
                assert!((got / want - 1.0).abs() < 2.0e-7, "{x}: {got} {want}");
            } else {
                assert!((got - want).abs() < 2.9e-45, "{x}: {got} {want}");
            }
        }
        for i in -74_600..=70_970 {
            let x = i as f64 * 1e-2;
            let (got, want) = (x.vexp::<false>(), x.exp());
            assert!((got - want).abs() <= want * 5e-16 + 1e-323, "{x}: {got} {want}");
        }
    }

    #[test]
    fn the_ends() {
        assert_eq!(f32::NEG_INFINITY.vexp::<false>(), 0.0);
        assert_eq!(f32::INFINITY.vexp::<false>(), f32::INFINITY);
        assert!(f32::NAN.vexp::<false>().is_nan());
        assert_eq!((0.0f32.vexp::<false>(), (-0.0f32).vexp::<false>()), (1.0, 1.0));
        assert_eq!(f64::NEG_INFINITY.vexp::<false>(), 0.0);
        assert_eq!(f64::INFINITY.vexp::<false>(), f64::INFINITY);
        assert!(f64::NAN.vexp::<false>().is_nan());
        assert_eq!(0.0f64.vexp::<false>(), 1.0);
    }
}
