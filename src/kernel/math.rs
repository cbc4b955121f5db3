//! Transcendental functions inside vectorised loops.
//!
//! For f32 each is plain arithmetic without a branch, which the compiler turns into vectors of any width: polynomials fitted
//! by the Remez exchange to the relative error of the function, around the exponential of [`exp`](super::exp). For f64 the standard
//! library's functions do, except the error function, which it lacks. Largest errors against f64 (f32) and 40 digits (f64), in units of
//! the last place: `vln` 1.5, `vtanh` 2.5, `vsigmoid` 2.5, `verf` 2.5, `vexpm1` 4; the tests hold them to that.

use super::exp::VecExp;

/// Functions for use inside a [`Kernel`](super::simd::Kernel).
#[doc(hidden)]
pub trait VecMath: VecExp + Copy {
    /// ln x: -∞ at 0, NaN below.
    fn vln<const FMA: bool>(self) -> Self;
    /// ln(1 + x) for x in [0, 1], exact to the last places near 0.
    fn vln1p_unit<const FMA: bool>(self) -> Self;
    /// e^x - 1, exact to the last places near 0.
    fn vexpm1<const FMA: bool>(self) -> Self;
    /// tanh x
    fn vtanh<const FMA: bool>(self) -> Self;
    /// 1 / (1 + e^-x)
    fn vsigmoid<const FMA: bool>(self) -> Self;
    /// erf x
    fn verf<const FMA: bool>(self) -> Self;
    /// The normal distribution function, erfc(-x / √2) / 2; without cancellation on the left.
    fn vphi<const FMA: bool>(self) -> Self;
}

/// `c[0] + c[1] x + …`
macro_rules! poly {
    ($x:expr, [$($c:expr),* $(,)?]) => {{
        let x = $x;
        let mut p = 0.0;
        for c in [$($c),*].into_iter().rev() {
            p = VecExp::vfma::<FMA>(p, x, c);
        }
        p
    }};
}

/// `x` with an upper bound that lets NaN pass.
macro_rules! at_most {
    ($x:expr, $max:expr) => {{
        let x = $x;
        if x > $max { $max } else { x }
    }};
}

/// -ln erfc(a) for 0.9 ≤ a ≤ 4.
#[inline(always)]
fn minus_ln_erfc<const FMA: bool>(a: f32) -> f32 {
    poly!(
        a,
        [
            -1.692_055_7e-4,
            1.129_488_4,
            6.334_008_4e-1,
            1.082_203_9e-1,
            -2.508_062_5e-2,
            4.156_259e-3,
            -4.313_945e-4,
            2.082_871_4e-5
        ]
    )
}

/// erf(x) / x of t = x², for |x| ≤ 0.95.
#[inline(always)]
fn erf_over_x<const FMA: bool>(t: f32) -> f32 {
    poly!(
        t,
        [
            std::f32::consts::FRAC_2_SQRT_PI,
            -3.761_263_2e-1,
            1.128_366_4e-1,
            -2.685_770_5e-2,
            5.196_952e-3,
            -8.097_703e-4,
            8.185_091e-5
        ]
    )
}

impl VecMath for f32 {
    #[inline(always)]
    fn vln<const FMA: bool>(self) -> f32 {
        const SQRT_HALF: i32 = 0x3f35_04f3;
        // x = 2^k m with m in [√½, √2); numbers below the smallest normal one are scaled first.
        let tiny = self < f32::MIN_POSITIVE;
        let x = if tiny { self * 8_388_608.0 } else { self };
        let bits = x.to_bits() as i32;
        let e = bits.wrapping_sub(SQRT_HALF) >> 23;
        let m = f32::from_bits(bits.wrapping_sub(e << 23) as u32);
        let k = e as f32 + if tiny { -23.0 } else { 0.0 };
        // ln(1 + f) = f - f²/2 + f³ P(f)
        let f = m - 1.0;
        let s = f * f;
        let p = poly!(
            f,
            [
                3.333_331e-1,
                -2.499_998_7e-1,
                2.000_222_6e-1,
                -1.666_925_1e-1,
                1.421_866_7e-1,
                -1.238_433_9e-1,
                1.187_291e-1,
                -1.178_984_05e-1,
                6.915_545_7e-2
            ]
        );
        let r = (f * s).vfma::<FMA>(p, k * -2.121_944_4e-4);
        let r = s.vfma::<FMA>(-0.5, r) + f;
        let y = k.vfma::<FMA>(0.693_359_4, r);
        let y = if self > f32::MAX { self } else { y };
        let outside = if self == 0.0 { f32::NEG_INFINITY } else { f32::NAN };
        if self > 0.0 { y } else { outside }
    }

    #[inline(always)]
    fn vln1p_unit<const FMA: bool>(self) -> f32 {
        // What 1 + x rounded away, divided by the slope, comes back on top.
        let u = 1.0 + self;
        u.vln::<FMA>() + (self - (u - 1.0)) / u
    }

    #[inline(always)]
    fn vexpm1<const FMA: bool>(self) -> f32 {
        // Near 0: e^x - 1 = 2 t / (1 - t) with t = tanh(x / 2).
        let t = (0.5 * self).vtanh::<FMA>();
        if self.abs() < 0.7 { 2.0 * t / (1.0 - t) } else { self.vexp::<FMA>() - 1.0 }
    }

    #[inline(always)]
    fn vtanh<const FMA: bool>(self) -> f32 {
        let t = self * self;
        let p = poly!(
            t,
            [
                -3.333_332_8e-1,
                1.333_315_8e-1,
                -5.394_056_4e-2,
                2.166_635e-2,
                -8.091_972e-3,
                2.064_668e-3
            ]
        );
        let near = (t * self).vfma::<FMA>(p, self);
        let a = at_most!(self.abs(), 10.0);
        let far = 1.0 - 2.0 / ((a + a).vexp::<FMA>() + 1.0);
        // The sign last, so that -0 keeps its own.
        (if a < 0.625 { near } else { far }).copysign(self)
    }

    #[inline(always)]
    fn vsigmoid<const FMA: bool>(self) -> f32 {
        let e = (-self.abs()).vexp::<FMA>();
        let d = 1.0 / (1.0 + e);
        if self < 0.0 { e * d } else { d }
    }

    #[inline(always)]
    fn verf<const FMA: bool>(self) -> f32 {
        let a = at_most!(self.abs(), 4.0);
        let far = 1.0 - (-minus_ln_erfc::<FMA>(a)).vexp::<FMA>();
        let near = self * erf_over_x::<FMA>(self * self);
        if a < 0.92 { near } else { far.copysign(self) }
    }

    #[inline(always)]
    fn vphi<const FMA: bool>(self) -> f32 {
        let z = self * std::f32::consts::FRAC_1_SQRT_2;
        let a = z.abs();
        let tail = 0.5 * (-minus_ln_erfc::<FMA>(at_most!(a, 4.0))).vexp::<FMA>();
        let tail = if a > 4.0 { 0.0 } else { tail };
        let near = (0.5 * z).vfma::<FMA>(erf_over_x::<FMA>(z * z), 0.5);
        if a < 0.92 {
            near
        } else if z < 0.0 {
            tail
        } else {
            1.0 - tail
        }
    }
}

/// erfc(a) for a ≥ 1: e^(-a²) / (1 + 2 a) times a polynomial of (a - 3) / (a + 3).
#[inline(always)]
fn erfc_tail<const FMA: bool>(a: f64) -> f64 {
    let a = at_most!(a, 28.0);
    let p = poly!(
        (a - 3.0) / (a + 3.0),
        [
            1.253_008_058_269_729_7,
            -0.135_621_106_124_582_2,
            -0.047_562_294_353_486_725,
            0.129_645_158_702_930_55,
            -0.119_273_663_412_691_88,
            0.068_308_027_334_963_36,
            -0.023_770_514_989_407_205,
            0.002_529_392_042_436_532_6,
            0.001_888_691_256_333_473_9,
            -0.000_779_835_350_209_588_2,
            -0.000_105_165_301_828_637_95,
            0.000_125_123_094_880_499_5,
            4.961_307_097_141_69e-6,
            -2.020_311_924_508_878_4e-5,
            -6.977_238_552_597_576e-7,
            3.696_291_036_437_179e-6,
            1.408_889_859_336_02e-7,
            -7.758_173_740_813_239e-7,
            1.740_577_062_896_659e-7
        ]
    );
    p * (-a * a).vexp::<FMA>() / (1.0 + 2.0 * a)
}

/// erf(x) / x of t = x², for |x| ≤ 1.
#[inline(always)]
fn erf_over_x64<const FMA: bool>(t: f64) -> f64 {
    poly!(
        t,
        [
            std::f64::consts::FRAC_2_SQRT_PI,
            -0.376_126_389_031_837_5,
            0.112_837_916_709_548_57,
            -0.026_866_170_645_072_88,
            0.005_223_977_624_780_739,
            -0.000_854_832_697_873_517,
            0.000_120_553_310_366_539_76,
            -1.492_559_350_124_325_8e-5,
            1.646_097_273_044_742_7e-6,
            -1.635_002_434_599_897_6e-7,
            1.465_787_421_209_357e-8,
            -1.136_564_518_231_581_7e-9,
            5.945_228_176_984_277e-11
        ]
    )
}

impl VecMath for f64 {
    #[inline(always)]
    fn vln<const FMA: bool>(self) -> f64 {
        self.ln()
    }

    #[inline(always)]
    fn vln1p_unit<const FMA: bool>(self) -> f64 {
        self.ln_1p()
    }

    #[inline(always)]
    fn vexpm1<const FMA: bool>(self) -> f64 {
        self.exp_m1()
    }

    #[inline(always)]
    fn vtanh<const FMA: bool>(self) -> f64 {
        self.tanh()
    }

    #[inline(always)]
    fn vsigmoid<const FMA: bool>(self) -> f64 {
        let e = (-self.abs()).vexp::<FMA>();
        let d = 1.0 / (1.0 + e);
        if self < 0.0 { e * d } else { d }
    }

    #[inline(always)]
    fn verf<const FMA: bool>(self) -> f64 {
        let a = self.abs();
        let near = self * erf_over_x64::<FMA>(self * self);
        if a < 1.0 { near } else { (1.0 - erfc_tail::<FMA>(a)).copysign(self) }
    }

    #[inline(always)]
    fn vphi<const FMA: bool>(self) -> f64 {
        let z = self * std::f64::consts::FRAC_1_SQRT_2;
        let tail = 0.5 * erfc_tail::<FMA>(z.abs());
        let near = (0.5 * z).vfma::<FMA>(erf_over_x64::<FMA>(z * z), 0.5);
        if z.abs() < 1.0 {
            near
        } else if z < 0.0 {
            tail
        } else {
            1.0 - tail
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest error of `got` in units in the last place of `want`, over a sweep of `[low, high]`.
    fn worst(low: f64, high: f64, got: impl Fn(f32) -> f32, want: impl Fn(f64) -> f64) -> f64 {
        const N: usize = 200_000;
        let mut worst = 0.0f64;
        for i in 0..=N {
            let x = (low + (high - low) * i as f64 / N as f64) as f32;
            let (got, want) = (got(x), want(x as f64));
            if want.abs() < f32::MIN_POSITIVE as f64 {
                assert!((got as f64 - want).abs() < 3e-45, "{x}: {got} {want}");
                continue;
            }
            let ulp = 2f64.powi(want.abs().log2().floor() as i32 - 23);
            worst = worst.max((got as f64 - want).abs() / ulp);
        }
        worst
    }

    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    #[test]
    fn close_to_double_precision_with_and_without_fma() {
        macro_rules! check {
            ($fma:literal) => {
                let erf = |x: f64| x.verf::<false>();
                for (low, high) in [(-20.0, 20.0), (-1.0, 1.0), (-100.0, 87.0)] {
                    let e = worst(low, high, |x| x.vtanh::<$fma>(), f64::tanh);
                    assert!(e <= 2.5, "tanh {e}");
                    let e = worst(low, high, |x| x.vsigmoid::<$fma>(), sigmoid);
                    assert!(e <= 2.5, "sigmoid {e}");
                    let e = worst(low, high, |x| x.verf::<$fma>(), erf);
                    assert!(e <= 2.5, "erf {e}");
                    let e = worst(low, high, |x| x.vexpm1::<$fma>(), f64::exp_m1);
                    assert!(e <= 4.0, "expm1 {e}");
                }
                for (low, high) in [(1e-45, 1e-37), (1e-3, 3.0), (1.0, 1e5), (1.0, 3.4e38)] {
                    let e = worst(low, high, |x| x.vln::<$fma>(), f64::ln);
                    assert!(e <= 1.5, "ln {e}");
                }
                let e = worst(0.0, 1.0, |x| x.vln1p_unit::<$fma>(), f64::ln_1p);
                assert!(e <= 2.5, "ln1p {e}");
            };
        }
        check!(false);
        check!(true);
    }

    /// Forty-digit values, rounded.
    #[test]
    fn the_error_function_in_double_precision() {
        for (x, want) in [
            (1e-10, 1.128_379_167_095_512_6e-10),
            (0.1, 0.112_462_916_018_284_9),
            (0.5, 0.520_499_877_813_046_5),
            (0.999, 0.842_285_270_206_496_9),
            (1.0, 0.842_700_792_949_714_9),
            (1.5, 0.966_105_146_475_310_7),
            (3.0, 0.999_977_909_503_001_4),
            (6.0, 1.0),
        ] {
            let got = f64::verf::<true>(x);
            assert!((got - want).abs() <= 4e-16 * want, "{x}: {got} {want}");
            assert_eq!(f64::verf::<true>(-x), -got);
        }
        // Φ(-10), Φ(-1), Φ(3)
        for (x, want) in [
            (-10.0, 7.619_853_024_160_527e-24),
            (-1.0, 0.158_655_253_931_457_05),
            (3.0, 0.998_650_101_968_369_9),
        ] {
            let got = f64::vphi::<true>(x);
            assert!((got / want - 1.0).abs() < 2e-14, "{x}: {got} {want}");
            let low = (x as f32).vphi::<true>() as f64;
            assert!((low - want).abs() < 1e-7, "{x}: {low} {want}");
        }
    }

    #[test]
    fn the_ends() {
        macro_rules! ends {
            ($t:ident) => {
                let (inf, nan) = ($t::INFINITY, $t::NAN);
                assert_eq!((inf.vln::<false>(), (0.0 as $t).vln::<false>()), (inf, -inf));
                assert!((-1.0 as $t).vln::<false>().is_nan() && (-inf).vln::<false>().is_nan());
                assert_eq!((inf.vtanh::<false>(), (-inf).vtanh::<false>()), (1.0, -1.0));
                assert_eq!((inf.verf::<false>(), (-inf).verf::<false>()), (1.0, -1.0));
                assert_eq!((inf.vsigmoid::<false>(), (-inf).vsigmoid::<false>()), (1.0, 0.0));
                assert_eq!((inf.vexpm1::<false>(), (-inf).vexpm1::<false>()), (inf, -1.0));
                assert_eq!((inf.vphi::<false>(), (-inf).vphi::<false>()), (1.0, 0.0));
                assert_eq!((-0.0 as $t).vtanh::<false>().to_bits(), (-0.0 as $t).to_bits());
                assert!(nan.vln::<false>().is_nan() && nan.vtanh::<false>().is_nan());
                assert!(nan.verf::<false>().is_nan() && nan.vsigmoid::<false>().is_nan());
                assert!(nan.vphi::<false>().is_nan() && nan.vexpm1::<false>().is_nan());
            };
        }
        ends!(f32);
        ends!(f64);
    }
}
