//! Sweeps against double precision, values of forty digits, and the ends.

use super::*;

/// The largest error of `got` in units in the last place of `want`, over a sweep of `[low, high]`.
pub(in super::super) fn worst(
    low: f64,
    high: f64,
    got: impl Fn(f32) -> f32,
    want: impl Fn(f64) -> f64,
) -> f64 {
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
        ($fma:literal, $gelu:literal, $tail:literal) => {
            let limit = |name: &str, limit: f64, error: f64| {
                assert!(error <= limit, "{name}, fma {}: {error}", $fma);
            };
            for (low, high) in [(-20.0, 20.0), (-1.0, 1.0), (-1e-3, 1e-3), (-103.0, 88.7)] {
                let e = worst(low, high, |x| x.vexp::<$fma>(), f64::exp);
                limit("exp", 1.2, e);
                let e = worst(low, high.min(0.0), |x| x.vexp_neg::<$fma>(), f64::exp);
                limit("exp of negative numbers", 1.2, e);
                let e = worst(low, high, |x| x.vtanh::<$fma>(), f64::tanh);
                limit("tanh", 2.5, e);
                let e = worst(low, high, |x| x.vsigmoid::<$fma>(), sigmoid);
                limit("sigmoid", 2.5, e);
                for gate in 0..4 {
                    let got = |x: f32| {
                        let mut a = [0.3 * x, -0.7 * x, 0.2 * x, 0.9 * x];
                        a[gate] = x;
                        f32::vlstm::<$fma>(a)[gate]
                    };
                    let want = if gate == 2 { f64::tanh } else { sigmoid };
                    limit("a gate", 5.5, worst(low, high, got, want));
                }
                let low = low.max(-87.0); // below, the sigmoid has few digits
                let e = worst(low, high, |x| x.vgated::<$fma>(x), |x| x * sigmoid(x));
                limit("x σ(x)", 3.0, e);
                let e = worst(low, high, |x| x.verf::<$fma>(), |x| x.verf::<false>());
                limit("erf", 2.5, e);
                let e = worst(low, high, |x| x.vexpm1::<$fma>(), f64::exp_m1);
                limit("expm1", 1.6, e);
                let e = worst(low, high, |x| x.vsinh_cosh::<$fma>().0, f64::sinh);
                limit("sinh", 3.0, e);
                let e = worst(low, high, |x| x.vsinh_cosh::<$fma>().1, f64::cosh);
                limit("cosh", 2.0, e);
            }
            for (low, high) in [(1e-45, 1e-37), (1e-3, 3.0), (0.9, 1.1), (1.0, 3.4e38)] {
                limit("ln", 1.1, worst(low, high, |x| x.vln::<$fma>(), f64::ln));
            }
            for (low, high) in [(1.2e-38, 1e-37), (1e-3, 3.0), (0.9, 1.1), (1.0, 3.4e38)] {
                limit("ln", 1.1, worst(low, high, |x| x.vln_normal::<$fma>(), f64::ln));
                limit("log2", 2.0, worst(low, high, |x| x.vlog2_normal::<$fma>(), f64::log2));
                limit("log10", 2.5, worst(low, high, |x| x.vlog10_normal::<$fma>(), f64::log10));
            }
            for (low, high) in [(-149.0, 127.99), (-1.0, 1.0), (-1e-3, 1e-3)] {
                limit("exp2", 1.5, worst(low, high, |x| x.vexp2::<$fma>(), f64::exp2));
            }
            let e = worst(0.0, 1.0, |x| x.vln1p_unit::<$fma>(), f64::ln_1p);
            limit("ln1p", 2.0, e);
            for (low, high) in [(-0.999, 3.0), (-1e-3, 1e-3), (1.0, 1e9)] {
                limit("ln1p", 2.0, worst(low, high, |x| x.vln1p::<$fma>(), f64::ln_1p));
            }
            limit("gelu", $gelu, worst(-3.0, 20.0, |x| x.vgelu::<$fma>(), f64::vgelu::<false>));
            let e = worst(-13.0, -3.0, |x| x.vgelu::<$fma>(), f64::vgelu::<false>);
            limit("gelu, tail", $tail, e);
            let slope = |x: f32| {
                let want = (x as f64).vgelu_slope::<false>();
                (x.vgelu_slope::<$fma>() as f64 - want).abs()
            };
            let e = (-60_000..60_000).map(|i| slope(i as f32 * 2.5e-4)).fold(0.0, f64::max);
            assert!(e < 2.5e-7, "the slope of gelu: {e}");
        };
    }
    check!(false, 7.5, 70.0);
    check!(true, 5.0, 6.5);
}

/// What comes after them may rely on it: the square root of 1 - y², an angle.
#[test]
fn never_beyond_one() {
    for i in 0..400_000u32 {
        let x = f32::from_bits(2.0f32.to_bits() + 50 * i);
        let all = [
            x.vtanh::<false>(),
            x.vtanh::<true>(),
            x.verf::<false>(),
            x.verf::<true>(),
            x.vsigmoid::<false>(),
            x.vsigmoid::<true>(),
        ];
        assert!(all.iter().all(|&y| y <= 1.0), "{x}: {all:?}");
    }
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
        let got = f64::vgelu::<true>(x) / x;
        assert!((got / want - 1.0).abs() < 2e-14, "{x}: {got} {want}");
    }
}

#[test]
fn the_ends() {
    macro_rules! ends {
        ($t:ident) => {
            let (inf, nan) = ($t::INFINITY, $t::NAN);
            assert_eq!((inf.vln::<false>(), (0.0 as $t).vln::<false>()), (inf, -inf));
            assert_eq!((inf.vln1p::<false>(), (-1.0 as $t).vln1p::<false>()), (inf, -inf));
            assert!((-2.0 as $t).vln1p::<false>().is_nan() && nan.vln1p::<false>().is_nan());
            assert!((-1.0 as $t).vln::<false>().is_nan() && (-inf).vln::<false>().is_nan());
            assert_eq!((inf.vtanh::<false>(), (-inf).vtanh::<false>()), (1.0, -1.0));
            assert_eq!((inf.verf::<false>(), (-inf).verf::<false>()), (1.0, -1.0));
            assert_eq!((inf.vsigmoid::<false>(), (-inf).vsigmoid::<false>()), (1.0, 0.0));
            assert_eq!((inf.vexpm1::<false>(), (-inf).vexpm1::<false>()), (inf, -1.0));
            assert_eq!((inf.vgelu::<false>(), (-inf).vgelu::<false>()), (inf, 0.0));
            assert_eq!((inf.vgated::<false>(inf), (-inf).vgated::<false>(-inf)), (inf, 0.0));
            assert_eq!(inf.vgelu_slope::<false>(), 1.0);
            assert!((-inf).vgelu_slope::<false>().abs() < 1e-44);
            assert!(nan.vgelu_slope::<false>().is_nan() && nan.vgated::<false>(nan).is_nan());
            assert_eq!((-0.0 as $t).vtanh::<false>().to_bits(), (-0.0 as $t).to_bits());
            assert!(nan.vln::<false>().is_nan() && nan.vtanh::<false>().is_nan());
            assert!(nan.verf::<false>().is_nan() && nan.vsigmoid::<false>().is_nan());
            assert!(nan.vgelu::<false>().is_nan() && nan.vexpm1::<false>().is_nan());
        };
    }
    ends!(f32);
    ends!(f64);
}
