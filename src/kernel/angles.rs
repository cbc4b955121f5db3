//! Sine, cosine, tangent and their inverses inside vectorised loops.
//!
//! For f32, x - k π/2 with the nearest k, and a polynomial of that for the sine and one for the cosine, of which k chooses. k π/2 is taken off in
//! parts, π/2 being three numbers of 24 bits each, so that what is left is right to its last place even where nearly all of x cancels. That is
//! so up to [`FAR`]; what is beyond says [`is_far`](VecAngles::is_far), and takes the library's way. For f64 all is the library's.
//!
//! Largest errors in units of the last place: sine and cosine 2, tangent 3.5, arc tangent 2.5, arc sine 2.5, arc cosine 2.

use super::exp::VecExp;
use super::simd::fma;

/// The largest angle in f32.
const FAR: f32 = 65_536.0;

/// Functions for use inside a [`Kernel`](super::simd::Kernel).
#[doc(hidden)]
pub trait VecAngles: VecExp + Copy {
    /// Whether sine, cosine and tangent must be had from the library: for large numbers, infinite ones and NaN.
    fn is_far(self) -> bool;
    /// sin x, unless it [`is_far`](Self::is_far).
    fn vsin<const FMA: bool>(self) -> Self;
    /// cos x, unless it [`is_far`](Self::is_far).
    fn vcos<const FMA: bool>(self) -> Self;
    /// tan x, unless it [`is_far`](Self::is_far).
    fn vtan<const FMA: bool>(self) -> Self;
    /// arctan x
    fn vatan<const FMA: bool>(self) -> Self;
    /// arcsin x, NaN beyond ±1
    fn vasin<const FMA: bool>(self) -> Self;
    /// arccos x, NaN beyond ±1
    fn vacos<const FMA: bool>(self) -> Self;
}

/// a - k π/2 with the nearest whole k, and k in the low bits of the second number.
#[inline(always)]
fn reduced<const FMA: bool>(a: f32) -> (f32, u32) {
    // 1.5 · 2^23: what is added to it is rounded, and stands in its low bits.
    const ROUND: f32 = 12_582_912.0;
    let t = fma::<FMA>(a, std::f32::consts::FRAC_2_PI, ROUND);
    let k = t - ROUND;
    let r = if FMA {
        let r = fma::<FMA>(k, -std::f32::consts::FRAC_PI_2, a);
        fma::<FMA>(k, 1.715_124_5e-15, fma::<FMA>(k, 4.371_139e-8, r))
    } else {
        // Without the fused operation, a product of f32 would have to be exact; one with the first 25 bits of π/2 is, in f64.
        let (a, k) = (a as f64, k as f64);
        ((a - k * 1.570_796_310_901_641_8) - k * 1.589_325_477_352_819_6e-8) as f32
    };
    (r, t.to_bits())
}

/// Sine and cosine for |r| ≤ π/4 and a little: relative errors 4e-9 and 1e-10.
#[inline(always)]
fn sine_and_cosine<const FMA: bool>(r: f32) -> (f32, f32) {
    let z = r * r;
    let s = fma::<FMA>(fma::<FMA>(-1.951_495_8e-4, z, 8.332_158e-3), z, -1.666_665_5e-1);
    let c = fma::<FMA>(fma::<FMA>(2.443_278_5e-5, z, -1.388_731_3e-3), z, 4.166_664_6e-2);
    (fma::<FMA>(r * z, s, r), fma::<FMA>(z * z, c, fma::<FMA>(z, -0.5, 1.0)))
}

/// The sine of k π/2 + r.
#[inline(always)]
fn sine_by_quarter<const FMA: bool>(r: f32, k: u32) -> f32 {
    let (s, c) = sine_and_cosine::<FMA>(r);
    let y = if k & 1 == 0 { s } else { c };
    f32::from_bits(y.to_bits() ^ ((k & 2) << 30))
}

/// arcsin s for 0 ≤ s ≤ ½ of z = s²: relative error 5e-9.
#[inline(always)]
fn small_arcsine<const FMA: bool>(s: f32, z: f32) -> f32 {
    let mut p = 4.216_631e-2;
    for c in [2.417_951_5e-2, 4.547_037_6e-2, 7.495_298e-2, 1.666_675_2e-1] {
        p = fma::<FMA>(p, z, c);
    }
    fma::<FMA>(s * z, p, s)
}

/// For arcsin and arccos of ±a: whether a > ½, and the arcsine of a, or else of √((1 - a) / 2), which is half of arccos a.
#[inline(always)]
fn arcsine_parts<const FMA: bool>(a: f32) -> (bool, f32) {
    let large = a > 0.5;
    let z = if large { 0.5 * (1.0 - a) } else { a * a };
    let s = if large { z.sqrt() } else { a };
    (large, small_arcsine::<FMA>(s, z))
}

impl VecAngles for f32 {
    #[inline(always)]
    fn is_far(self) -> bool {
        // A NaN is in no range.
        !(-FAR..=FAR).contains(&self)
    }

    #[inline(always)]
    fn vsin<const FMA: bool>(self) -> f32 {
        let (r, k) = reduced::<FMA>(self.abs());
        let sign = self.to_bits() & 0x8000_0000;
        f32::from_bits(sine_by_quarter::<FMA>(r, k).to_bits() ^ sign)
    }

    #[inline(always)]
    fn vcos<const FMA: bool>(self) -> f32 {
        let (r, k) = reduced::<FMA>(self.abs());
        sine_by_quarter::<FMA>(r, k.wrapping_add(1))
    }

    #[inline(always)]
    fn vtan<const FMA: bool>(self) -> f32 {
        let (r, k) = reduced::<FMA>(self.abs());
        let (s, c) = sine_and_cosine::<FMA>(r);
        let odd = k & 1 == 1;
        let y = if odd { -c } else { s } / if odd { s } else { c };
        f32::from_bits(y.to_bits() ^ (self.to_bits() & 0x8000_0000))
    }

    #[inline(always)]
    fn vatan<const FMA: bool>(self) -> f32 {
        // arctan a = π/4 + arctan((a - 1) / (a + 1)) = π/2 - arctan(1 / a), so that the argument is at most tan(π/8).
        let a = self.abs();
        let (middle, high) = (a > 0.414_213_57, a > 2.414_213_7);
        let (n, d) = if middle { (a - 1.0, a + 1.0) } else { (a, 1.0) };
        let (n, d) = if high { (-1.0, a) } else { (n, d) };
        let t = n / d;
        let z = t * t;
        let mut p = -6.077_259_4e-2;
        for c in [1.059_345_2e-1, -1.424_348_7e-1, 1.999_846_9e-1, -3.333_331_5e-1] {
            p = fma::<FMA>(p, z, c);
        }
        let p = fma::<FMA>(t * z, p, t);
        // What π/4 and π/2 lost when they were rounded.
        let (base, rest) =
            if middle { (std::f32::consts::FRAC_PI_4, -2.185_569_5e-8) } else { (0.0, 0.0) };
        let (base, rest) =
            if high { (std::f32::consts::FRAC_PI_2, -4.371_139e-8) } else { (base, rest) };
        (base + (p + rest)).copysign(self)
    }

    #[inline(always)]
    fn vasin<const FMA: bool>(self) -> f32 {
        let (large, p) = arcsine_parts::<FMA>(self.abs());
        let y = if large { fma::<FMA>(-2.0, p, std::f32::consts::FRAC_PI_2) } else { p };
        y.copysign(self)
    }

    #[inline(always)]
    fn vacos<const FMA: bool>(self) -> f32 {
        let (large, p) = arcsine_parts::<FMA>(self.abs());
        let twice = p + p;
        let far = if self < 0.0 { std::f32::consts::PI - twice } else { twice };
        if large { far } else { std::f32::consts::FRAC_PI_2 - p.copysign(self) }
    }
}

impl VecAngles for f64 {
    #[inline(always)]
    fn is_far(self) -> bool {
        false
    }

    #[inline(always)]
    fn vsin<const FMA: bool>(self) -> f64 {
        self.sin()
    }

    #[inline(always)]
    fn vcos<const FMA: bool>(self) -> f64 {
        self.cos()
    }

    #[inline(always)]
    fn vtan<const FMA: bool>(self) -> f64 {
        self.tan()
    }

    #[inline(always)]
    fn vatan<const FMA: bool>(self) -> f64 {
        self.atan()
    }

    #[inline(always)]
    fn vasin<const FMA: bool>(self) -> f64 {
        self.asin()
    }

    #[inline(always)]
    fn vacos<const FMA: bool>(self) -> f64 {
        self.acos()
    }
}

#[cfg(test)]
mod tests {
    use super::super::math::tests::worst;
    use super::*;

    #[test]
    fn close_to_double_precision_with_and_without_fma() {
        macro_rules! check {
            ($fma:literal) => {
                let limit = |name: &str, limit: f64, error: f64| {
                    assert!(error <= limit, "{name}, fma {}: {error}", $fma);
                };
                for far in [1e-3, 1.0, 10.0, 500.0, 65_536.0] {
                    limit("sin", 2.0, worst(-far, far, |x| x.vsin::<$fma>(), f64::sin));
                    limit("cos", 2.0, worst(-far, far, |x| x.vcos::<$fma>(), f64::cos));
                    limit("tan", 3.5, worst(-far, far, |x| x.vtan::<$fma>(), f64::tan));
                    limit("atan", 2.5, worst(-far, far, |x| x.vatan::<$fma>(), f64::atan));
                }
                // Next to the multiples of π/2, where nearly everything cancels.
                for k in 1..41_000 {
                    let x = (k as f64 * std::f64::consts::FRAC_PI_2) as f32;
                    for x in [x.next_down(), x, x.next_up()] {
                        let (want, at) = (x as f64, |w: f64| w.abs() * 2f64.powi(-23));
                        assert!(
                            (x.vsin::<$fma>() as f64 - want.sin()).abs() <= 2.0 * at(want.sin())
                        );
                        assert!(
                            (x.vcos::<$fma>() as f64 - want.cos()).abs() <= 2.0 * at(want.cos())
                        );
                        assert!(
                            (x.vtan::<$fma>() as f64 - want.tan()).abs() <= 3.5 * at(want.tan())
                        );
                    }
                }
                for far in [1e-3, 1.0] {
                    limit("asin", 2.5, worst(-far, far, |x| x.vasin::<$fma>(), f64::asin));
                    limit("acos", 2.0, worst(-far, far, |x| x.vacos::<$fma>(), f64::acos));
                }
                limit("acos", 2.0, worst(0.999, 1.0, |x| x.vacos::<$fma>(), f64::acos));
            };
        }
        check!(false);
        check!(true);
    }

    #[test]
    fn the_ends() {
        assert!((-0.0f32).vsin::<true>().is_sign_negative() && (-0.0f32).vtan::<true>() == 0.0);
        assert!((-0.0f32).vatan::<true>().is_sign_negative() && (-0.0f32).vasin::<true>() == 0.0);
        assert_eq!(f32::INFINITY.vatan::<true>(), std::f32::consts::FRAC_PI_2);
        assert_eq!(
            (1.0f32.vacos::<true>(), (-1.0f32).vacos::<true>()),
            (0.0, std::f32::consts::PI)
        );
        assert!(1.1f32.vasin::<true>().is_nan() && (-1.1f32).vacos::<true>().is_nan());
        assert!(f32::NAN.vatan::<true>().is_nan() && f32::NAN.vasin::<true>().is_nan());
        assert!(
            f32::NAN.is_far() && f32::INFINITY.is_far() && 65_537f32.is_far() && !1e4f32.is_far()
        );
    }
}
