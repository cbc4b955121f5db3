//! Inverse and hyperbolic functions, powers and logarithms of other bases, and rounding. One row each, as in [`unary`](super::unary).

use super::rule::{Keep, Unary, unary};
use super::unary::functions;
use crate::float::Float;
use crate::tensor::Tensor;

const LN_10: f64 = std::f64::consts::LN_10;
const LN_2: f64 = std::f64::consts::LN_2;

functions! {
    /// The angle in -π/2 to π/2 whose sine is x; NaN beyond ±1.
    asin Asin Input 0.6 (0.5 => 0.523_598_775_598): |x| x.vasin::<FMA>(),
        |x, g| g / num_traits::Float::sqrt(T::ONE - x * x), |x, g| g / x.square().rsub_scalar(T::ONE).sqrt();
    /// The angle in 0 to π whose cosine is x; NaN beyond ±1.
    acos Acos Input 0.6 (0.5 => 1.047_197_551_197): |x| x.vacos::<FMA>(),
        |x, g| -g / num_traits::Float::sqrt(T::ONE - x * x), |x, g| -(g / x.square().rsub_scalar(T::ONE).sqrt());
    /// The angle in -π/2 to π/2 whose tangent is x.
    atan Atan Input 0.5 (1.0 => 0.785_398_163_397): |x| x.vatan::<FMA>(),
        |x, g| g / (T::ONE + x * x), |x, g| g / (x.square() + T::ONE);
    /// (e^x - e^-x) / 2
    sinh Sinh Input 0.6 (1.0 => 1.175_201_193_644): |x| x.vsinh_cosh::<FMA>().0,
        |x, g| g * x.vsinh_cosh::<FMA>().1, |x, g| g * x.cosh();
    /// (e^x + e^-x) / 2
    cosh Cosh Input 0.6 (1.0 => 1.543_080_634_815): |x| x.vsinh_cosh::<FMA>().1,
        |x, g| g * x.vsinh_cosh::<FMA>().0, |x, g| g * x.sinh();
    /// The number whose hyperbolic sine is x.
    asinh Asinh Input 10.0 (1.0 => 0.881_373_587_02): |x| num_traits::Float::asinh(x),
        |x, g| g / num_traits::Float::sqrt(x * x + T::ONE), |x, g| g / (x.square() + T::ONE).sqrt();
    /// The number of 0 or more whose hyperbolic cosine is x; NaN below 1.
    acosh Acosh Input 10.0 (2.0 => 1.316_957_896_925): |x| num_traits::Float::acosh(x),
        |x, g| g / num_traits::Float::sqrt(x * x - T::ONE), |x, g| g / (x.square() - T::ONE).sqrt();
    /// The number whose hyperbolic tangent is x; NaN beyond ±1.
    atanh Atanh Input 10.0 (0.5 => 0.549_306_144_334): |x| num_traits::Float::atanh(x),
        |x, g| g / (T::ONE - x * x), |x, g| g / x.square().rsub_scalar(T::ONE);
    /// 2^x
    exp2 Exp2 Output 0.4 (3.0 => 8.0): |x| x.vexp2::<FMA>(),
        |y, g| g * (y * T::of(LN_2)), |y, g| g * (y * T::of(LN_2));
    /// The logarithm to base 2.
    log2 Log2 Input 0.5 (8.0 => 3.0)
        {T::is_no_normal: |x| x.vln::<FMA>() * T::of(1.0 / LN_2), |x, g| g / (x * T::of(LN_2))}:
        |x| x.vlog2_normal::<FMA>(),
        |x, g| g / (x * T::of(LN_2)), |x, g| g / (x * T::of(LN_2));
    /// The logarithm to base 10.
    log10 Log10 Input 0.5 (1000.0 => 3.0)
        {T::is_no_normal: |x| x.vln::<FMA>() * T::of(1.0 / LN_10), |x, g| g / (x * T::of(LN_10))}:
        |x| x.vlog10_normal::<FMA>(),
        |x, g| g / (x * T::of(LN_10)), |x, g| g / (x * T::of(LN_10));
    /// The next lower whole number. The gradient is 0.
    floor Floor Nothing 0.25 (-1.5 => -2.0): |x| num_traits::Float::floor(x),
        |_x, _g| T::ZERO, |_x, g| g.zeros_like();
    /// The next higher whole number. The gradient is 0.
    ceil Ceil Nothing 0.25 (-1.5 => -1.0): |x| num_traits::Float::ceil(x),
        |_x, _g| T::ZERO, |_x, g| g.zeros_like();
    /// The nearest whole number, the even one of two. The gradient is 0.
    round Round Nothing 0.25 (2.5 => 2.0): |x| half_to_even(x),
        |_x, _g| T::ZERO, |_x, g| g.zeros_like();
    /// The whole number next to x towards 0. The gradient is 0.
    trunc Trunc Nothing 0.25 (-1.5 => -1.0): |x| num_traits::Float::trunc(x),
        |_x, _g| T::ZERO, |_x, g| g.zeros_like();
    /// -1, 0 or 1; NaN stays. The gradient is 0.
    sign Sign Nothing 0.25 (-3.0 => -1.0):
        |x| if x > T::ZERO { T::ONE } else if x < T::ZERO { -T::ONE } else { x * T::ZERO },
        |_x, _g| T::ZERO, |_x, g| g.zeros_like();
}

#[inline(always)]
fn half_to_even<T: Float>(x: T) -> T {
    let below = num_traits::Float::floor(x);
    let rest = x - below;
    let half = T::of(0.5);
    let even = num_traits::Float::floor(below * half) * T::of(2.0) == below;
    if rest > half || (rest == half && !even) { below + T::ONE } else { below }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::{gradcheck, gradgradcheck};
    use crate::error::Result;

    type Function = fn(&Tensor<f64>) -> Tensor<f64>;

    #[test]
    fn gradients() -> Result<()> {
        let x = Tensor::from([[0.3f64, -0.8, 0.55], [0.1, -0.2, 0.71]]);
        let inside: [Function; 8] = [
            Tensor::asin,
            Tensor::acos,
            Tensor::atan,
            Tensor::sinh,
            Tensor::cosh,
            Tensor::asinh,
            Tensor::atanh,
            Tensor::exp2,
        ];
        for f in inside {
            gradcheck(|[x]| Ok(f(x)), [&x.t()?])?;
            gradgradcheck(|[x]| Ok(f(x)), [&x])?;
        }
        for f in [Tensor::acosh as Function, Tensor::log2, Tensor::log10] {
            gradcheck(|[x]| Ok(f(x)), [&(&x + 2.0)])?;
            gradgradcheck(|[x]| Ok(f(x)), [&(&x + 2.0)])?;
        }
        for f in
            [Tensor::floor as Function, Tensor::ceil, Tensor::round, Tensor::trunc, Tensor::sign]
        {
            gradcheck(|[x]| Ok(f(x)), [&x])?;
            gradgradcheck(|[x]| Ok(f(&x.square())), [&x])?;
        }
        Ok(())
    }

    #[test]
    fn what_is_rare_is_right_among_the_others() {
        let odd = [0.5f32, 1e9, 3e20, f32::INFINITY, f32::NAN, -0.0, 7e4, 1e-40, -1.0, 0.0, 2.0];
        let same = |got: f32, want: f64| {
            let want = want as f32;
            got == want || (got - want).abs() <= 1e-6 * want.abs() || (got != got && want != want)
        };
        type Plain = fn(f64) -> f64;
        type Row = (fn(&Tensor<f32>) -> Tensor<f32>, Plain, Plain);
        let functions: [Row; 6] = [
            (Tensor::sin, f64::sin, f64::cos),
            (Tensor::cos, f64::cos, |x| -x.sin()),
            (Tensor::tan, f64::tan, |x| 1.0 + x.tan() * x.tan()),
            (Tensor::ln, f64::ln, |x| 1.0 / x),
            (Tensor::log2, f64::log2, |x| 1.0 / (x * LN_2)),
            (Tensor::log10, f64::log10, |x| 1.0 / (x * LN_10)),
        ];
        for n in [11, 40, 1000] {
            let x = Tensor::from_fn([n], |i| if i % 3 == 0 { odd[i % 11] } else { 1.25 }).unwrap();
            for (i, (f, value, slope)) in functions.iter().enumerate() {
                let tape = crate::Tape::new(0);
                let leaf = tape.leaf(&x);
                let y = f(&leaf);
                let grads = y.backward_with(&x.ones_like()).unwrap();
                let g = grads.wrt(&leaf).unwrap();
                for ((x, y), g) in x.iter().zip(y.iter()).zip(g.iter()) {
                    assert!(same(y, value(x as f64)), "{i}, {x}: {y}");
                    // The slope of a tangent is that of its rounded value.
                    assert!(i == 2 || same(g, slope(x as f64)), "{i}, the slope at {x}: {g}");
                }
            }
        }
    }

    #[test]
    fn rounding_at_its_corners() {
        let x = Tensor::from([0.5f32, 1.5, 2.5, -0.5, -1.5, 2.4, -2.6, 8388609.0]);
        assert_eq!(x.round().to_vec(), [0.0, 2.0, 2.0, 0.0, -2.0, 2.0, -3.0, 8388609.0]);
        let y = Tensor::from([f64::NAN, f64::INFINITY, 0.0]);
        assert!(y.round().get([0]).unwrap().is_nan() && y.sign().get([0]).unwrap().is_nan());
        assert_eq!(y.floor().get([1]).unwrap(), f64::INFINITY);
        assert_eq!(y.round().get([1]).unwrap(), f64::INFINITY);
        assert_eq!(y.sign().to_vec()[1..], [1.0, 0.0]);
    }
}
