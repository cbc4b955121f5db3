//! Transcendental functions inside vectorised loops.
//!
//! For f32 each is plain arithmetic without a branch, which the compiler turns into vectors of any width: polynomials fitted
//! by the Remez exchange to the relative error of the function, around the exponential of [`exp`](super::exp). For f64 the standard
//! library's functions do, except the error function, which it lacks. Largest errors against f64 (f32) and 40 digits (f64), in units of
//! the last place: `vln` and `vln_normal` 1.1, `vlog2_normal` 2, `vlog10_normal` 2.5, `vln1p` 2, `vtanh` 2.5, `vsigmoid` 2.5, `vgated` 3, `verf` 2.5, `vgelu` 5 (6.5 left of -3, where it has decayed below 0.005;
//! 7.5 and 70 without fused multiply-add); the tests hold them to that.

use super::exp::{HALF_SQUARE_SCALE, VecExp, scaled_exp_half_square};

/// Functions for use inside a [`Kernel`](super::simd::Kernel).
#[doc(hidden)]
pub trait VecMath: VecExp + Copy {
    /// ln x: -∞ at 0, NaN below.
    fn vln<const FMA: bool>(self) -> Self;
    /// Whether this is no positive normal number, whose logarithms the three functions below cannot compute.
    fn is_no_normal(self) -> bool;
    /// ln x of a positive normal number, cheaper than [`vln`](Self::vln).
    fn vln_normal<const FMA: bool>(self) -> Self;
    /// The logarithm to base 2 of a positive normal number, exact for powers of 2.
    fn vlog2_normal<const FMA: bool>(self) -> Self;
    /// The logarithm to base 10 of a positive normal number.
    fn vlog10_normal<const FMA: bool>(self) -> Self;
    /// ln(1 + x) for x in [0, 1], exact to the last places near 0.
    fn vln1p_unit<const FMA: bool>(self) -> Self;
    /// ln(1 + x), exact to the last places near 0 too: -∞ at -1, NaN below.
    fn vln1p<const FMA: bool>(self) -> Self;
    /// tanh x
    fn vtanh<const FMA: bool>(self) -> Self;
    /// 1 / (1 + e^-x)
    fn vsigmoid<const FMA: bool>(self) -> Self;
    /// The gates of an LSTM: the sigmoids of the first, the second and the last, and tanh of the third.
    #[inline(always)]
    fn vlstm<const FMA: bool>([i, f, g, o]: [Self; 4]) -> [Self; 4]
    where
        Self: Sized,
    {
        [i.vsigmoid::<FMA>(), f.vsigmoid::<FMA>(), g.vtanh::<FMA>(), o.vsigmoid::<FMA>()]
    }
    /// erf x
    fn verf<const FMA: bool>(self) -> Self;
    /// x / (1 + e^-u) for a `u` of the sign of x: 0 at -∞.
    fn vgated<const FMA: bool>(self, u: Self) -> Self;
    /// x Φ(x), with the normal distribution function Φ; without cancellation on the left.
    fn vgelu<const FMA: bool>(self) -> Self;
    /// [`vgelu`](Self::vgelu) of each element by a faster way for whole runs; `false`, and nothing done, where there is none.
    fn gelu_run(_x: &[Self], _out: &mut [Self]) -> bool {
        false
    }
    /// The derivative of [`vgelu`](Self::vgelu), Φ(x) + x φ(x).
    fn vgelu_slope<const FMA: bool>(self) -> Self;
}

/// `c[0] + c[1] x + …`
macro_rules! poly {
    ($x:expr, [$($c:expr),* $(,)?]) => {{
        let (x, c) = ($x, [$($c),*]);
        let mut p = c[c.len() - 1];
        for &c in c[..c.len() - 1].iter().rev() {
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

/// Φ(-a) e^(a²/2), the normal distribution function without its fast decay, for 0 ≤ a ≤ 14.43 (Mills' ratio): relative error 1.4e-8.
/// Divided by [`HALF_SQUARE_SCALE`], for it is to be multiplied with that.
#[inline(always)]
fn mills<const FMA: bool>(a: f32) -> f32 {
    const S: f32 = 1.0 / HALF_SQUARE_SCALE;
    let p = poly!(
        a,
        [S * 0.5, S * 4.383_006e-1, S * 1.832_392e-1, S * 4.063_455_8e-2, S * 4.116_492_3e-3]
    );
    let q =
        poly!(a, [1.0, 1.674_486_2, 1.202_520_3, 4.694_813_8e-1, 1.018_621_7e-1, 1.031_839_7e-2]);
    p / q
}

/// ln 2 for a factor times 2^23; rounded, it is 3e-9 off, relatively.
const LN_2_SCALED: f32 = std::f32::consts::LN_2 / 8_388_608.0;

/// k · 2^23 and ln m of a normal number x = 2^k m with m in [√½, √2).
#[inline(always)]
fn logarithm<const FMA: bool>(x: f32) -> (f32, f32) {
    const SQRT_HALF: i32 = 0x3f35_04f3;
    let bits = x.to_bits() as i32;
    let e = bits.wrapping_sub(SQRT_HALF) & !0x7f_ffff;
    let f = f32::from_bits(bits.wrapping_sub(e) as u32) - 1.0;
    // ln(1 + f) = f - f²/2 + f³ P(f), with a relative error of 6e-9
    let p = poly!(
        f,
        [
            -0.5,
            3.333_333e-1,
            -2.500_082e-1,
            2.000_122_8e-1,
            -1.662_337_8e-1,
            1.420_181_1e-1,
            -1.316_024_4e-1,
            1.276_161e-1,
            -7.634_475e-2
        ]
    );
    (e as f32, (f * f).vfma::<FMA>(p, f))
}

/// The sigmoid and what is made of it, for both types.
macro_rules! sigmoids {
    ($t:ty) => {
        #[inline(always)]
        fn vsigmoid<const FMA: bool>(self) -> $t {
            let e = (-self.abs()).vexp_neg::<FMA>();
            (if self < 0.0 { e } else { 1.0 }) / (1.0 + e)
        }

        #[inline(always)]
        fn vgated<const FMA: bool>(self, u: $t) -> $t {
            let e = (-u.abs()).vexp_neg::<FMA>();
            // Not infinite, as e may be 0.
            let x = if self < <$t>::MIN { <$t>::MIN } else { self };
            (if u < 0.0 { x * e } else { x }) / (1.0 + e)
        }
    };
}

impl VecMath for f32 {
    sigmoids!(f32);

    #[cfg(target_arch = "x86_64")]
    fn gelu_run(x: &[f32], out: &mut [f32]) -> bool {
        super::gelu::gelu(x, out)
    }

    #[inline(always)]
    fn vln<const FMA: bool>(self) -> f32 {
        // Numbers below the smallest normal one are scaled first.
        let tiny = self < f32::MIN_POSITIVE;
        let x = if tiny { self * 8_388_608.0 } else { self };
        let (k, y) = logarithm::<FMA>(x);
        let k = if tiny { k - 23.0 * 8_388_608.0 } else { k };
        let y = k.vfma::<FMA>(LN_2_SCALED, y);
        let y = if self <= f32::MAX { y } else { self };
        let outside = if self == 0.0 { f32::NEG_INFINITY } else { f32::NAN };
        if self <= 0.0 { outside } else { y }
    }

    #[inline(always)]
    fn is_no_normal(self) -> bool {
        // A NaN is in no range.
        !(f32::MIN_POSITIVE..=f32::MAX).contains(&self)
    }

    #[inline(always)]
    fn vln_normal<const FMA: bool>(self) -> f32 {
        let (k, y) = logarithm::<FMA>(self);
        k.vfma::<FMA>(LN_2_SCALED, y)
    }

    #[inline(always)]
    fn vlog2_normal<const FMA: bool>(self) -> f32 {
        let (k, y) = logarithm::<FMA>(self);
        y.vfma::<FMA>(std::f32::consts::LOG2_E, k * (1.0 / 8_388_608.0))
    }

    #[inline(always)]
    fn vlog10_normal<const FMA: bool>(self) -> f32 {
        self.vln_normal::<FMA>() * std::f32::consts::LOG10_E
    }

    #[inline(always)]
    fn vln1p_unit<const FMA: bool>(self) -> f32 {
        // 2 artanh(s) with s = x / (2 + x) at most 1/3: 2 s (1 + s² P(s²)), with a relative error of 5e-9
        let s = self / (2.0 + self);
        let z = s * s;
        let p = poly!(z, [3.333_321e-1, 2.001_075_3e-1, 1.400_090_2e-1, 1.400_597_2e-1]);
        (s + s).vfma::<FMA>(z * p, s + s)
    }

    #[inline(always)]
    fn vln1p<const FMA: bool>(self) -> f32 {
        // What 1 + x rounded away, divided by the slope, comes back on top.
        let u = 1.0 + self;
        let rounded_away = (self - (u - 1.0)) / u;
        // Not at the ends, where it is 0 / 0 or ∞ - ∞.
        let inside = (self > -1.0) & (self < 1e30);
        u.vln::<FMA>() + if inside { rounded_away } else { 0.0 }
    }

    #[inline(always)]
    fn vtanh<const FMA: bool>(self) -> f32 {
        // With m = e^(-2 |x|) - 1 it is -m / (2 + m): no cancellation anywhere, and at most 1. Beyond 9.1 it is 1 to all places.
        let a = at_most!(self.abs(), 9.1);
        let m = (-2.0 * a).vexpm1_neg::<FMA>();
        // The sign last, so that -0 keeps its own.
        (m / (2.0 + m)).copysign(self)
    }

    #[inline(always)]
    fn vlstm<const FMA: bool>([i, f, g, o]: [f32; 4]) -> [f32; 4] {
        // The formulas of `vsigmoid` and `vtanh`. A division costs as much as all the rest of one of them, so the four share one: their denominators
        // are between 1 and 2.
        let e = |x: f32| (-x.abs()).vexp_neg::<FMA>();
        let (ei, ef, eo) = (e(i), e(f), e(o));
        let m = (-2.0 * at_most!(g.abs(), 9.1)).vexpm1_neg::<FMA>();
        let (di, df, dg, d_o) = (1.0 + ei, 1.0 + ef, 2.0 + m, 1.0 + eo);
        let (first, second) = (di * df, dg * d_o);
        let inverse = 1.0 / (first * second);
        let (first, second) = (inverse * second, inverse * first);
        let sigmoid = |x: f32, e: f32, inverse: f32| {
            at_most!(if x < 0.0 { e * inverse } else { inverse }, 1.0)
        };
        [
            sigmoid(i, ei, first * df),
            sigmoid(f, ef, first * di),
            at_most!(-m * (second * d_o), 1.0).copysign(g),
            sigmoid(o, eo, second * dg),
        ]
    }

    #[inline(always)]
    fn verf<const FMA: bool>(self) -> f32 {
        let a = at_most!(self.abs(), 4.0);
        let far = 1.0 - (-minus_ln_erfc::<FMA>(a)).vexp_neg::<FMA>();
        let near = self * erf_over_x::<FMA>(self * self);
        if a < 0.92 { near } else { far.copysign(self) }
    }

    #[inline(always)]
    fn vgelu<const FMA: bool>(self) -> f32 {
        // max(x, 0) - a Φ(-a) with a = |x|; beyond 14.43 the second term is 0.
        let a = at_most!(self.abs(), 14.43);
        let high = if self > 0.0 { self } else { 0.0 };
        (-a * scaled_exp_half_square::<FMA>(a)).vfma::<FMA>(mills::<FMA>(a), high)
    }

    #[inline(always)]
    fn vgelu_slope<const FMA: bool>(self) -> f32 {
        // For x < 0: e^(-a²/2) (M(a) - a / √2π), which is Φ(-a) - a φ(a); for x > 0 the rest to 1.
        let a = at_most!(self.abs(), 14.43);
        let m = a.vfma::<FMA>(-0.398_942_3 / HALF_SQUARE_SCALE, mills::<FMA>(a));
        let low = scaled_exp_half_square::<FMA>(a) * m;
        if self > 0.0 { 1.0 - low } else { low }
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
    sigmoids!(f64);

    #[inline(always)]
    fn vln<const FMA: bool>(self) -> f64 {
        self.ln()
    }

    #[inline(always)]
    fn is_no_normal(self) -> bool {
        false
    }

    #[inline(always)]
    fn vln_normal<const FMA: bool>(self) -> f64 {
        self.ln()
    }

    #[inline(always)]
    fn vlog2_normal<const FMA: bool>(self) -> f64 {
        self.log2()
    }

    #[inline(always)]
    fn vlog10_normal<const FMA: bool>(self) -> f64 {
        self.log10()
    }

    #[inline(always)]
    fn vln1p_unit<const FMA: bool>(self) -> f64 {
        self.ln_1p()
    }

    #[inline(always)]
    fn vln1p<const FMA: bool>(self) -> f64 {
        self.ln_1p()
    }

    #[inline(always)]
    fn vtanh<const FMA: bool>(self) -> f64 {
        self.tanh()
    }

    #[inline(always)]
    fn verf<const FMA: bool>(self) -> f64 {
        let a = self.abs();
        let near = self * erf_over_x64::<FMA>(self * self);
        if a < 1.0 { near } else { (1.0 - erfc_tail::<FMA>(a)).copysign(self) }
    }

    #[inline(always)]
    fn vgelu<const FMA: bool>(self) -> f64 {
        // Not infinite, as Φ may be 0.
        let x = if self < -100.0 { -100.0 } else { self };
        x * phi::<FMA>(x)
    }

    #[inline(always)]
    fn vgelu_slope<const FMA: bool>(self) -> f64 {
        let x = if self < -100.0 { -100.0 } else { at_most!(self, 100.0) };
        phi::<FMA>(x) + x * (0.398_942_280_401_432_7 * (-0.5 * x * x).vexp::<FMA>())
    }
}

/// The normal distribution function, erfc(-x / √2) / 2; without cancellation on the left.
#[inline(always)]
pub(super) fn phi<const FMA: bool>(x: f64) -> f64 {
    let z = x * std::f64::consts::FRAC_1_SQRT_2;
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

#[cfg(test)]
#[path = "math_tests.rs"]
pub(super) mod tests;
