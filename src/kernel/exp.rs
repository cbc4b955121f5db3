//! Exponentials inside vectorised loops.
//!
//! e^x = 2^k · e^r with k = round(x / ln 2) and |r| ≤ ln 2 / 2. The rounding is the addition of a number so large that the sum has no
//! bits left for a fraction; its low bits then are k. 2^k is put together from bits, in two factors, so that results below the
//! smallest normal number come out right. Everything is plain arithmetic, which the compiler turns into vectors of any width.
//!
//! Each operation in front of memory's pace counts, so the f32 versions save what they can: a polynomial of degree 6 for e^r, its coefficients
//! times a power of two that is the other half of a bias; a constant added together with the rounding is the first half.

use super::simd::{fma, fma64};

/// e^x for use inside a [`Kernel`](super::simd::Kernel).
pub trait VecExp: Sized {
    /// e^x to about 1 ulp; 0 for -∞, ∞ for what overflows, NaN for NaN.
    #[doc(hidden)]
    fn vexp<const FMA: bool>(self) -> Self;
    /// e^x for x ≤ 0, cheaper than [`vexp`](Self::vexp), with its accuracy; NaN for NaN.
    #[doc(hidden)]
    #[inline(always)]
    fn vexp_neg<const FMA: bool>(self) -> Self {
        self.vexp::<FMA>()
    }
    /// e^x - 1, exact to the last places near 0.
    #[doc(hidden)]
    fn vexpm1<const FMA: bool>(self) -> Self;
    /// e^x - 1 for -80 < x ≤ 0.
    #[doc(hidden)]
    #[inline(always)]
    fn vexpm1_neg<const FMA: bool>(self) -> Self {
        self.vexpm1::<FMA>()
    }
    /// 2^x to about 1 ulp, exact for whole numbers.
    #[doc(hidden)]
    fn vexp2<const FMA: bool>(self) -> Self;
    /// sinh x and cosh x.
    #[doc(hidden)]
    fn vsinh_cosh<const FMA: bool>(self) -> (Self, Self);
    /// `self * b + c`, fused where that is one instruction.
    #[doc(hidden)]
    fn vfma<const FMA: bool>(self, b: Self, c: Self) -> Self;
}

/// The degree-6 polynomial of e^r for |r| ≤ ln 2 / 2, times a power of two: relative error 2e-9.
#[inline(always)]
fn scaled_exp<const FMA: bool>(r: f32, scale: f32) -> f32 {
    let mut p = scale * 1.381_431e-3;
    for c in [8.368_851e-3, 4.166_84e-2, 0.166_665_2, 0.499_999_93, 1.0, 1.0] {
        p = fma::<FMA>(p, r, scale * c);
    }
    p
}

/// e^r - 1 by the same polynomial.
#[inline(always)]
fn exp_minus_1<const FMA: bool>(r: f32) -> f32 {
    let mut p = 1.381_431e-3;
    for c in [8.368_851e-3, 4.166_84e-2, 0.166_665_2, 0.499_999_93] {
        p = fma::<FMA>(p, r, c);
    }
    fma::<FMA>(r * r, p, r)
}

/// x - k ln 2, in two parts; the first has so few bits that k times it is exact.
#[inline(always)]
fn reduced<const FMA: bool>(x: f32, k: f32) -> f32 {
    fma::<FMA>(k, 2.121_944_4e-4, fma::<FMA>(k, -0.693_359_4, x))
}

/// 1.5 · 2^23: a number added to this is rounded to a whole one, which is then the low bits of the sum.
const ROUND: f32 = 12_582_912.0;
/// What [`scaled_exp_half_square`] is multiplied by.
pub(super) const HALF_SQUARE_SCALE: f32 = 16_777_216.0;

/// e^(-x²/2) times [`HALF_SQUARE_SCALE`] for 0 ≤ x ≤ 14.43, where it is e^-104; to about 1 ulp even where the square has many bits, with fused
/// multiply-adds.
#[inline(always)]
pub(super) fn scaled_exp_half_square<const FMA: bool>(x: f32) -> f32 {
    let half = -0.5 * x;
    let t = fma::<FMA>(half * x, std::f32::consts::LOG2_E, ROUND);
    let k = t - ROUND;
    // The square and k ln 2 cancel before anything is rounded.
    let r = fma::<FMA>(k, 2.121_944_4e-4, fma::<FMA>(half, x, k * -0.693_359_4));
    let p = scaled_exp::<FMA>(r, HALF_SQUARE_SCALE);
    f32::from_bits(p.to_bits().wrapping_add(t.to_bits() << 23))
}

/// [`ROUND`] and what [`times_power`] wants added to k.
const BIASED: f32 = ROUND + 190.0;

/// e^r 2^k, with `t` the sum of k and [`BIASED`]; 0 if `zero`.
///
/// It is (2^-63 e^r) · 2^a · 2^(b - 127) with a + b = k + 190: for every k from -151 to 129 both exponents stay those of normal numbers.
#[inline(always)]
fn times_power<const FMA: bool>(r: f32, t: f32, zero: bool) -> f32 {
    const SCALE: f32 = 1.084_202_2e-19;
    let p = scaled_exp::<FMA>(r, SCALE);
    let (both, a) = (t.to_bits() << 23, (t.to_bits() >> 1) << 23);
    let factor = f32::from_bits(both.wrapping_sub(a));
    f32::from_bits(p.to_bits().wrapping_add(a)) * if zero { 0.0 } else { factor }
}

impl VecExp for f32 {
    #[inline(always)]
    fn vexp<const FMA: bool>(self) -> f32 {
        // Beyond these the result is 0 or infinite anyway; a NaN passes both comparisons unchanged. What is masked, -∞, must not get its 0
        // from a multiplication that underflows, which costs as much as a hundred others: one factor is 0.
        let zero = self < -104.0;
        let x = if zero { -104.0 } else { self };
        let x = if x > 89.0 { 89.0 } else { x };
        let t = fma::<FMA>(x, std::f32::consts::LOG2_E, BIASED);
        times_power::<FMA>(reduced::<FMA>(x, t - BIASED), t, zero)
    }

    #[inline(always)]
    fn vexp2<const FMA: bool>(self) -> f32 {
        let zero = self < -151.0;
        let x = if zero { -151.0 } else { self };
        let x = if x > 129.0 { 129.0 } else { x };
        let t = x + BIASED;
        times_power::<FMA>((x - (t - BIASED)) * std::f32::consts::LN_2, t, zero)
    }

    #[inline(always)]
    fn vsinh_cosh<const FMA: bool>(self) -> (f32, f32) {
        // With E = e^|x| - 1, sinh = (E + E / (E + 1)) / 2 and cosh = ((E + 1) + 1 / (E + 1)) / 2. A quarter of E is finite for every result that is.
        const BIASED: f32 = ROUND + 125.0;
        let a = self.abs();
        let a = if a > 89.5 { 89.5 } else { a };
        let t = fma::<FMA>(a, std::f32::consts::LOG2_E, BIASED);
        let q = exp_minus_1::<FMA>(reduced::<FMA>(a, t - BIASED));
        let s = f32::from_bits(t.to_bits() << 23);
        let quarter = fma::<FMA>(s, q, s - 0.25);
        let half = quarter + quarter;
        let e = half + 0.5;
        ((half + quarter / e).copysign(self), e + 0.25 / e)
    }

    #[inline(always)]
    fn vexp_neg<const FMA: bool>(self) -> f32 {
        // With k at or below 0, one factor is a constant.
        const SCALE: f32 = 16_777_216.0;
        let zero = self < -104.0;
        let x = if zero { -104.0 } else { self };
        let t = fma::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
        let p = scaled_exp::<FMA>(reduced::<FMA>(x, t - ROUND), SCALE);
        let factor = if zero { 0.0 } else { 1.0 / SCALE };
        f32::from_bits(p.to_bits().wrapping_add(t.to_bits() << 23)) * factor
    }

    #[inline(always)]
    fn vexpm1<const FMA: bool>(self) -> f32 {
        // 2^k (e^r - 1) + (2^k - 1), all of it halved, so that 2^(k - 1) is finite for every k.
        const BIASED: f32 = ROUND + 126.0;
        let x = if self < -20.0 { -20.0 } else { self };
        let x = if x > 89.0 { 89.0 } else { x };
        let t = fma::<FMA>(x, std::f32::consts::LOG2_E, BIASED);
        let q = exp_minus_1::<FMA>(reduced::<FMA>(x, t - BIASED));
        let s = f32::from_bits(t.to_bits() << 23);
        2.0 * fma::<FMA>(s, q, s - 0.5)
    }

    #[inline(always)]
    fn vexpm1_neg<const FMA: bool>(self) -> f32 {
        // 2^k (e^r - 1) + (2^k - 1)
        const BIASED: f32 = ROUND + 127.0;
        let t = fma::<FMA>(self, std::f32::consts::LOG2_E, BIASED);
        let q = exp_minus_1::<FMA>(reduced::<FMA>(self, t - BIASED));
        let s = f32::from_bits(t.to_bits() << 23);
        fma::<FMA>(s, q, s - 1.0)
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
    fn vexpm1<const FMA: bool>(self) -> f64 {
        self.exp_m1()
    }

    #[inline(always)]
    fn vexp2<const FMA: bool>(self) -> f64 {
        self.exp2()
    }

    #[inline(always)]
    fn vsinh_cosh<const FMA: bool>(self) -> (f64, f64) {
        (self.sinh(), self.cosh())
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
