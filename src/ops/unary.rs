//! Functions of one variable, at each place. One row each: the name, what the derivative needs, y = f(x), and dx.

use super::elementwise::{infallible, map};
use super::float_only::record_if_float;
use super::rule::{Keep, Rule, Unary, by_pieces, unary};
use crate::element::Num;
use crate::float::Float;
use crate::kernel::map::Map;
use crate::tensor::Tensor;

/// Declares functions without parameters: documentation, method, what is kept, nanoseconds, an example (f of one number), `f`, and
/// `df` of what is kept and g, and the same of tensors; in brackets, a faster way for runs ([`Unary::run`]); in braces, which x are rare
/// ([`Unary::is_rare`]), and `f` and `df` of those.
macro_rules! functions {
    ($($(#[$doc:meta])* $method:ident $op:ident $keep:ident $ns:literal $(($at:literal => $value:literal))? $([$run:path])?
        $({$rare:path: |$rx:ident| $rf:expr, |$rk:ident, $rg:ident| $rdf:expr})?:
        |$x:ident| $f:expr, |$k:ident, $g:ident| $df:expr, |$tk:ident, $tg:ident| $dt:expr;)*) => {
        $(
            #[derive(Clone, Copy)]
            struct $op;
            impl<T: Float> Unary<T> for $op {
                const NAME: &'static str = stringify!($method);
                const KEEP: Keep = Keep::$keep;
                const NS: f64 = $ns;
                #[inline(always)]
                fn f<const FMA: bool>(self, $x: T) -> T {
                    $f
                }
                #[inline(always)]
                fn df<const FMA: bool>(self, $k: T, $g: T) -> T {
                    $df
                }
                $(#[inline(always)]
                fn run(self, x: &[T], y: &mut [T]) -> bool {
                    $run(x, y)
                })?
                $(const RARE: bool = true;
                #[inline(always)]
                fn is_rare(self, x: T) -> bool {
                    $rare(x)
                }
                #[inline(always)]
                fn rare_f<const FMA: bool>(self, $rx: T) -> T {
                    $rf
                }
                #[inline(always)]
                fn rare_df<const FMA: bool>(self, $rk: T, $rg: T) -> T {
                    $rdf
                })?
                fn gradient(self, $tk: &Tensor<T>, $tg: &Tensor<T>) -> Tensor<T> {
                    $dt
                }
            }
        )*
        impl<T: Float> Tensor<T> {
            $($(#[$doc])*
            $(#[doc = concat!(
                "\n```\nlet y = gradus::Tensor::scalar(", stringify!($at), "f64).", stringify!($method),
                "().item()?;\nassert!((y - ", stringify!($value), ").abs() < 1e-9);\n# Ok::<(), gradus::Error>(())\n```"
            )])?
            pub fn $method(&self) -> Tensor<T> {
                unary($op, self)
            })*
        }
    };
}

pub(super) use functions;

/// `x` between two numbers, NaN as it is: for factors that are 0 or constant beyond, where an infinite `x` would give 0 · ∞.
#[inline(always)]
pub(super) fn within<T: Float>(x: T, low: f64, high: f64) -> T {
    let x = if x < T::of(low) { T::of(low) } else { x };
    if x > T::of(high) { T::of(high) } else { x }
}

/// `x · weight`, 0 where the weight is, even for an infinite `x`.
#[inline(always)]
fn weighted<T: Float>(x: T, weight: T) -> T {
    if weight == T::ZERO { T::ZERO } else { x * weight }
}

/// ln(1 + e^x) without overflow: max(x, 0) + ln(1 + e^-|x|).
#[inline(always)]
fn softplus<T: Float, const FMA: bool>(x: T) -> T {
    let high = if x < T::ZERO { T::ZERO } else { x };
    high + (-x.magnitude()).vexp::<FMA>().vln1p_unit::<FMA>()
}

/// The slope of hardsigmoid as PyTorch has it, in f64 too: 1/6 rounded to f32, 3e-8 off (see docs/numerics.md).
const SIXTH: f64 = (1.0f32 / 6.0) as f64;
/// The scale and the slope of SELU, which make mean 0 and variance 1 a fixed point (Klambauer et al., 2017).
const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;
const SELU_SCALE: f64 = 1.050_700_987_355_480_5;
/// √(2/π) and the cubic coefficient of the tanh form of GELU.
const GELU_SCALE: f64 = 0.797_884_560_802_865_4;
const GELU_CUBE: f64 = 0.044_715;

/// The argument of the sigmoid in x · σ(2u), which is x (1 + tanh u) / 2.
#[inline(always)]
fn gelu_argument<T: Float>(x: T) -> T {
    T::of(2.0 * GELU_SCALE) * (x + T::of(GELU_CUBE) * x * x * x)
}

/// `inside` where low < x < high, else `outside`.
fn between<T: Float>(
    x: &Tensor<T>,
    low: T,
    high: T,
    inside: Tensor<T>,
    outside: Tensor<T>,
) -> Tensor<T> {
    let above = x.gt_scalar(low);
    let chosen =
        above.logical_and(&x.lt_scalar(high)).and_then(|c| c.select_where(&inside, &outside));
    infallible("between", chosen)
}

/// Φ(x) + x φ(x), with the normal distribution function and its density.
fn gelu_slope<T: Float>(x: &Tensor<T>) -> Tensor<T> {
    let phi = ((x * T::of(std::f64::consts::FRAC_1_SQRT_2)).erf() + T::ONE) * T::of(0.5);
    let density = (x.square() * T::of(-0.5)).exp() * T::of(0.398_942_280_401_432_7);
    phi + x * density
}

/// s + x s (1 - s) u' for the sigmoid s of u = 2 √(2/π) (x + 0.044715 x³).
fn gelu_tanh_slope<T: Float>(x: &Tensor<T>) -> Tensor<T> {
    let scale = T::of(2.0 * GELU_SCALE);
    let s = (x * (x.square() * T::of(GELU_CUBE) + T::ONE) * scale).sigmoid();
    let slope = (x.square() * T::of(3.0 * GELU_CUBE) + T::ONE) * scale;
    &s + x * &s * s.rsub_scalar(T::ONE) * slope
}

/// 1, or α e^x for x ≤ 0.
pub(super) fn elu_slope<T: Float>(x: &Tensor<T>, alpha: T) -> Tensor<T> {
    // Where it is not used, the exponential must stay finite.
    let (above, number) = (x.gt_scalar(T::ZERO), |v: T| Tensor::scalar(v));
    let low = above.select_where(&number(T::ZERO), x).map(|x| x.exp() * alpha);
    infallible("elu", low.and_then(|low| above.select_where(&number(T::ONE), &low)))
}

functions! {
    /// e^x
    exp Exp Output 0.4 (1.0 => 2.718_281_828_459): |x| x.vexp::<FMA>(), |y, g| g * y,
        |y, g| g * y;
    /// e^x - 1, exact near 0 too.
    exp_m1 ExpM1 Output 1.0 (1.0 => 1.718_281_828_459): |x| x.vexpm1::<FMA>(), |y, g| g * (y + T::ONE),
        |y, g| g * (y + T::ONE);
    /// The natural logarithm.
    ln Ln Input 0.5 (10.0 => 2.302_585_092_994)
        {T::is_no_normal: |x| x.vln::<FMA>(), |x, g| g / x}:
        |x| x.vln_normal::<FMA>(), |x, g| g / x,
        |x, g| g / x;
    /// ln(1 + x), exact near 0 too.
    ln_1p Ln1p Input 0.6 (1.0 => 0.693_147_180_56): |x| x.vln1p::<FMA>(), |x, g| g / (T::ONE + x),
        |x, g| g / (x + T::ONE);
    /// √x
    sqrt Sqrt Output 0.3 (9.0 => 3.0): |x| num_traits::Float::sqrt(x), |y, g| g / (y + y),
        |y, g| g / (y * T::of(2.0));
    /// 1 / √x
    rsqrt Rsqrt Output 0.4 (4.0 => 0.5):
        |x| T::ONE / num_traits::Float::sqrt(x),
        |y, g| T::of(-0.5) * g * (y * y * y),
        |y, g| g * (y.square() * y) * T::of(-0.5);
    /// 1 / x
    reciprocal Reciprocal Output 0.3 (4.0 => 0.25): |x| T::ONE / x, |y, g| -g * (y * y),
        |y, g| -(g * y.square());
    /// x²
    square Square Input 0.25 (-3.0 => 9.0): |x| x * x, |x, g| g * (x + x),
        |x, g| g * (x * T::of(2.0));
    /// sin x, in radians.
    sin Sin Input 0.5 (1.0 => 0.841_470_984_808)
        {T::is_far: |x| num_traits::Float::sin(x), |x, g| g * num_traits::Float::cos(x)}:
        |x| x.vsin::<FMA>(), |x, g| g * x.vcos::<FMA>(),
        |x, g| g * x.cos();
    /// cos x, in radians.
    cos Cos Input 0.5 (1.0 => 0.540_302_305_868)
        {T::is_far: |x| num_traits::Float::cos(x), |x, g| -g * num_traits::Float::sin(x)}:
        |x| x.vcos::<FMA>(), |x, g| -g * x.vsin::<FMA>(),
        |x, g| -(g * x.sin());
    /// tan x, in radians.
    tan Tan Output 0.8 (1.0 => 1.557_407_724_655)
        {T::is_far: |x| num_traits::Float::tan(x), |y, g| g * (T::ONE + y * y)}:
        |x| x.vtan::<FMA>(), |y, g| g * (T::ONE + y * y),
        |y, g| g * (y.square() + T::ONE);
    /// The hyperbolic tangent.
    tanh Tanh Output 0.6 (0.5 => 0.462_117_157_26): |x| x.vtanh::<FMA>(), |y, g| g * (T::ONE - y * y),
        |y, g| g * y.square().rsub_scalar(T::ONE);
    /// 1 / (1 + e^-x)
    sigmoid Sigmoid Output 0.5 (1.0 => 0.731_058_578_63): |x| x.vsigmoid::<FMA>(), |y, g| g * (y * (T::ONE - y)),
        |y, g| g * (y * y.rsub_scalar(T::ONE));
    /// ln(1 / (1 + e^-x))
    log_sigmoid LogSigmoid Input 1.0 (0.0 => -0.693_147_180_56):
        |x| -softplus::<T, FMA>(-x),
        |x, g| g * (-x).vsigmoid::<FMA>(),
        |x, g| g * (-x).sigmoid();
    /// The error function, 2/√π ∫₀ˣ e^(-t²) dt.
    erf Erf Input 0.6 (0.5 => 0.520_499_877_813):
        |x| x.verf::<FMA>(),
        |x, g| g * (T::of(std::f64::consts::FRAC_2_SQRT_PI) * (-(x * x)).vexp::<FMA>()),
        |x, g| g * ((-x.square()).exp() * T::of(std::f64::consts::FRAC_2_SQRT_PI));
    /// x between 0 and 6; the derivative at both is 0.
    relu6 Relu6 Input 0.25 (7.5 => 6.0):
        |x| within(x, 0.0, 6.0),
        |x, g| if x <= T::ZERO || x >= T::of(6.0) { T::ZERO } else { g },
        |x, g| by_pieces(Relu6, x, g);
    /// x Φ(x), with Φ the normal distribution function (Hendrycks and Gimpel, 2016).
    gelu Gelu Input 0.8 (1.0 => 0.841_344_746_069) [T::gelu_run]:
        |x| x.vgelu::<FMA>(),
        |x, g| g * x.vgelu_slope::<FMA>(),
        |x, g| g * gelu_slope(x);
    /// x (1 + tanh u) / 2 with u = √(2/π) (x + 0.044715 x³): the approximation of [`gelu`](Self::gelu) that GPT-2 and others use.
    gelu_tanh GeluTanh Input 0.8 (1.0 => 0.841_191_990_608):
        |x| x.vgated::<FMA>(gelu_argument(x)),
        |x, g| {
            let near = within(x, -40.0, 40.0);
            let s = gelu_argument(near).vsigmoid::<FMA>();
            let slope = T::of(2.0 * GELU_SCALE) * (T::ONE + T::of(3.0 * GELU_CUBE) * near * near);
            g * (s + near * s * (T::ONE - s) * slope)
        },
        |x, g| g * gelu_tanh_slope(x);
    /// x σ(x), with σ the sigmoid; also called swish.
    silu Silu Input 0.6 (1.0 => 0.731_058_578_63):
        |x| x.vgated::<FMA>(x),
        |x, g| {
            let near = within(x, -750.0, 750.0);
            let s = near.vsigmoid::<FMA>();
            g * (s * (T::ONE + near * (T::ONE - s)))
        },
        |x, g| { let s = x.sigmoid(); g * (&s * (x * s.rsub_scalar(T::ONE) + T::ONE)) };
    /// x tanh(ln(1 + e^x)) (Misra, 2019).
    mish Mish Input 0.8 (1.0 => 0.865_098_388_267):
        |x| {
            // tanh(ln(1 + w)) = n / (n + 2) with n = w² + 2w; 1 to all places for x > 20.
            let w = within(x, -750.0, 20.0).vexp::<FMA>();
            let n = w * (w + T::of(2.0));
            weighted(x, n / (n + T::of(2.0)))
        },
        |x, g| {
            let w = within(x, -750.0, 20.0).vexp::<FMA>();
            let n = w * (w + T::of(2.0));
            let (t, rest) = (n / (n + T::of(2.0)), T::of(2.0) / (n + T::of(2.0)));
            let near = within(x, -750.0, 750.0);
            g * (t + near * rest * (T::ONE + t) * near.vsigmoid::<FMA>())
        },
        |x, g| { let t = x.softplus(T::ONE, T::of(20.0)).tanh(); g * (&t + x * t.square().rsub_scalar(T::ONE) * x.sigmoid()) };
    /// x relu6(x + 3) / 6 (Howard et al., 2019).
    hardswish HardSwish Input 0.3 (1.0 => 0.666_666_666_667):
        |x| weighted(x, within(x + T::of(3.0), 0.0, 6.0)) / T::of(6.0),
        |x, g| {
            if x <= T::of(-3.0) {
                T::ZERO
            } else if x < T::of(3.0) {
                g * (x / T::of(3.0) + T::of(0.5))
            } else {
                g
            }
        },
        |x, g| between(x, T::of(-3.0), T::of(3.0), g * (x / T::of(3.0) + T::of(0.5)), by_pieces(HardSwish, x, g));
    /// relu6(x + 3) / 6
    hardsigmoid HardSigmoid Input 0.3 (0.0 => 0.5):
        |x| within(x + T::of(3.0), 0.0, 6.0) / T::of(6.0),
        |x, g| if x > T::of(-3.0) && x < T::of(3.0) { g * T::of(SIXTH) } else { T::ZERO },
        |x, g| by_pieces(HardSigmoid, x, g);
    /// 1.0507 (x, or 1.6733 (e^x - 1) for x < 0) (Klambauer et al., 2017).
    selu Selu Input 0.6 (-1.0 => -1.111_330_737_813):
        |x| {
            let low = T::of(SELU_ALPHA) * within(x, -1e30, 0.0).vexpm1::<FMA>();
            T::of(SELU_SCALE) * if x > T::ZERO { x } else { low }
        },
        |x, g| {
            let low = T::of(SELU_ALPHA) * within(x, -1e30, 0.0).vexp::<FMA>();
            g * (T::of(SELU_SCALE) * if x > T::ZERO { T::ONE } else { low })
        },
        |x, g| g * (elu_slope(x, T::of(SELU_ALPHA)) * T::of(SELU_SCALE));
    /// x / (1 + |x|)
    softsign Softsign Input 0.3 (1.0 => 0.5):
        |x| x / (T::ONE + x.magnitude()),
        |x, g| {
            let d = T::ONE + x.magnitude();
            g / d / d
        },
        |x, g| g / (x.abs() + T::ONE).square();
}

/// Functions with parameters, kept as f64 so that one type serves both floats; rows as in `functions!`, the method beside.
macro_rules! with_parameters {
    ($($op:ident($($p:ident),*) $name:literal $keep:ident $ns:literal:
        |$x:ident| $f:expr, |$k:ident, $g:ident| $df:expr, |$tk:ident, $tg:ident| $dt:expr;)*) => {$(
        #[derive(Clone, Copy)]
        pub(super) struct $op { $(pub(super) $p: f64),* }
        impl<T: Float> Unary<T> for $op {
            const NAME: &'static str = $name;
            const KEEP: Keep = Keep::$keep;
            const NS: f64 = $ns;
            #[inline(always)]
            fn f<const FMA: bool>(self, $x: T) -> T {
                $(let $p = T::of(self.$p);)*
                $f
            }
            #[inline(always)]
            fn df<const FMA: bool>(self, $k: T, $g: T) -> T {
                $(let $p = T::of(self.$p);)*
                $df
            }
            fn gradient(self, $tk: &Tensor<T>, $tg: &Tensor<T>) -> Tensor<T> {
                $(let $p = T::of(self.$p);)*
                $dt
            }
        }
    )*};
}
pub(super) use with_parameters;

with_parameters! {
    Abs() "abs" Input 0.25:
        |x| x.magnitude(),
        |x, g| if x > T::ZERO { g } else if x < T::ZERO { -g } else { T::ZERO },
        |x, g| by_pieces(Abs {}, x, g);
    LeakyRelu(slope) "leaky_relu" Input 0.25:
        |x| if x > T::ZERO { x } else { x * slope },
        |x, g| if x > T::ZERO { g } else { g * slope },
        |x, g| by_pieces(LeakyRelu { slope: slope.as_f64() }, x, g);
    Elu(alpha) "elu" Input 0.6:
        |x| {
            let low = alpha * within(x, -1e30, 0.0).vexpm1::<FMA>();
            if x > T::ZERO { x } else { low }
        },
        |x, g| {
            let low = g * (alpha * within(x, -1e30, 0.0).vexp::<FMA>());
            if x > T::ZERO { g } else { low }
        },
        |x, g| g * elu_slope(x, alpha);
    Softplus(beta, threshold) "softplus" Input 1.0:
        |x| {
            let y = softplus::<T, FMA>(x * beta) / beta;
            if x * beta > threshold { x } else { y }
        },
        |x, g| {
            let low = g * (x * beta).vsigmoid::<FMA>();
            if x * beta > threshold { g } else { low }
        },
        |x, g| { let u = x * beta; between(&u, T::neg_infinity(), threshold, g * u.sigmoid(), g.clone()) };
    Clamp(low, high) "clamp" Input 0.25:
        |x| {
            let x = if x < low { low } else { x };
            if x > high { high } else { x }
        },
        |x, g| {
            // Strict, but an absent bound (an infinite one) cuts nothing off.
            let above = x > low || low == T::neg_infinity();
            let below = x < high || high == T::infinity();
            if above && below && !x.is_not_a_number() { g } else { T::ZERO }
        },
        |x, g| by_pieces(Clamp { low: low.as_f64(), high: high.as_f64() }, x, g);
    Cube() "powf" Input 0.25:
        |x| x * x * x,
        |x, g| g * (T::of(3.0) * x * x),
        |x, g| g * (x.square() * T::of(3.0));
    Fourth() "powf" Input 0.25:
        |x| x * x * (x * x),
        |x, g| g * (T::of(4.0) * x * x * x),
        |x, g| g * (x.powi(3) * T::of(4.0));
    PowScalar(exponent) "powf" Input 15.0:
        |x| num_traits::Float::powf(x, exponent),
        |x, g| {
            if exponent == T::ZERO {
                T::ZERO
            } else {
                g * (exponent * num_traits::Float::powf(x, exponent - T::ONE))
            }
        },
        |x, g| if exponent == T::ZERO { g.zeros_like() } else { g * (x.powf(exponent - T::ONE) * exponent) };
}

impl<T: Float> Tensor<T> {
    /// x, or `slope` · x for x ≤ 0.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([-2.0f32, 3.0]).leaky_relu(0.5).to_vec(), [-1.0, 3.0]);
    /// ```
    pub fn leaky_relu(&self, slope: T) -> Tensor<T> {
        unary(LeakyRelu { slope: slope.as_f64() }, self)
    }

    /// x, or `alpha` (e^x - 1) for x ≤ 0 (Clevert et al., 2015).
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let y = Tensor::from([-1.0f64, 3.0]).elu(1.0);
    /// assert!((y.get([0])? + 0.632_120_558_828_557_7).abs() < 1e-12 && y.get([1])? == 3.0);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn elu(&self, alpha: T) -> Tensor<T> {
        unary(Elu { alpha: alpha.as_f64() }, self)
    }

    /// ln(1 + e^(`beta` x)) / `beta`; x itself where `beta` x > `threshold`. PyTorch's defaults are 1 and 20.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let y = Tensor::from([0.0f64]).softplus(1.0, 20.0).item()?;
    /// assert!((y - 2f64.ln()).abs() < 1e-12);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn softplus(&self, beta: T, threshold: T) -> Tensor<T> {
        unary(Softplus { beta: beta.as_f64(), threshold: threshold.as_f64() }, self)
    }

    /// x between two numbers; the gradient is 0 on the bounds and beyond. An infinite bound is none; if `min > max`, all become `max`.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([-2.0f32, 0.5, 3.0]).clamp(-1.0, 1.0).to_vec(), [-1.0, 0.5, 1.0]);
    /// ```
    pub fn clamp(&self, min: T, max: T) -> Tensor<T> {
        unary(Clamp { low: min.as_f64(), high: max.as_f64() }, self)
    }

    /// x to a power that is a number; the derivative of x⁰ is 0. The powers 2, 3 and 4 are products, ½, -½ and -1 are [`sqrt`](Self::sqrt),
    /// [`rsqrt`](Self::rsqrt) and [`reciprocal`](Self::reciprocal).
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([4.0f32]).powf(1.5).to_vec(), [8.0]);
    /// ```
    pub fn powf(&self, exponent: T) -> Tensor<T> {
        let is = |number: f64| exponent == T::of(number);
        match () {
            () if is(2.0) => self.square(),
            () if is(3.0) => unary(Cube {}, self),
            () if is(4.0) => unary(Fourth {}, self),
            () if is(0.5) => self.sqrt(),
            () if is(-0.5) => self.rsqrt(),
            () if is(-1.0) => self.reciprocal(),
            () => unary(PowScalar { exponent: exponent.as_f64() }, self),
        }
    }

    /// x to a whole power.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([2.0f32]).powi(-2).to_vec(), [0.25]);
    /// ```
    pub fn powi(&self, exponent: i32) -> Tensor<T> {
        self.powf(T::of(exponent as f64))
    }
}

/// |x| of integers.
#[derive(Clone, Copy)]
struct Magnitude;
impl<T: Num> Map<T, T> for Magnitude {
    #[inline(always)]
    fn at<const FMA: bool>(self, x: T) -> T {
        x.magnitude()
    }
}

impl<T: Num> Tensor<T> {
    /// |x|; the derivative at 0 is 0. Of the least integer it wraps around to itself.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([-3i64, 2]).abs().to_vec(), [3, 2]);
    /// ```
    pub fn abs(&self) -> Tensor<T> {
        infallible("abs", record_if_float(Rule(Abs {}), [self], |[x]| Ok(map(Magnitude, x))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;
    use crate::error::Result;

    type Function =
        (&'static str, fn(&Tensor<f64>) -> Tensor<f64>, fn(&Tensor<f32>) -> Tensor<f32>);

    macro_rules! all {
        ($($name:ident $(($($p:literal),*))?),*) => {
            [$((stringify!($name), |x| x.$name($($($p),*)?), |x| x.$name($($($p),*)?))),*]
        };
    }

    const FUNCTIONS: [Function; 32] = all![
        abs,
        exp,
        exp_m1,
        ln,
        ln_1p,
        sqrt,
        rsqrt,
        reciprocal,
        square,
        sin,
        cos,
        tan,
        tanh,
        sigmoid,
        log_sigmoid,
        erf,
        relu,
        relu6,
        gelu,
        gelu_tanh,
        silu,
        mish,
        hardswish,
        hardsigmoid,
        selu,
        softsign,
        leaky_relu(0.1),
        elu(1.3),
        softplus(2.5, 20.0),
        clamp(-0.5, 1.5),
        powf(2.5),
        neg
    ];

    #[test]
    fn gradients_agree_with_differences_on_awkward_layouts() -> Result<()> {
        let x = Tensor::from_fn([3, 6], |i| 0.13 + 0.11 * i as f64)?;
        let stepped = x.with_layout(x.layout().slice(1, 5, 3, -2));
        let transposed = x.with_layout(x.layout().permute(&[1, 0]));
        let empty = Tensor::zeros([0, 2])?;
        for (name, f, _) in FUNCTIONS {
            for x in [&x, &stepped, &transposed, &Tensor::scalar(0.7), &empty] {
                gradcheck(|[x]| Ok(f(x)), [x]).unwrap_or_else(|e| panic!("{name}: {e}"));
            }
            if !["ln", "sqrt", "rsqrt", "powf"].contains(&name) {
                let negative = Tensor::from([-0.9, -0.3, -0.05]);
                gradcheck(|[x]| Ok(f(x)), [&negative]).unwrap_or_else(|e| panic!("{name}: {e}"));
            }
        }
        Ok(())
    }

    #[test]
    fn single_precision_agrees_with_double() {
        let x = Tensor::from_fn([4001], |i| (i as f64 - 2000.0) / 100.0).unwrap();
        let low = Tensor::from_vec(x.iter().map(|v| v as f32).collect(), [4001]).unwrap();
        let x = Tensor::from_vec(low.iter().map(|v| v as f64).collect(), [4001]).unwrap();
        for (name, f, f32s) in FUNCTIONS {
            for (got, want) in f32s(&low).iter().zip(f(&x).iter()) {
                let close =
                    got as f64 == want || (got as f64 - want).abs() <= 1e-6 + 1e-6 * want.abs();
                assert!(close || want.is_nan() && got.is_nan(), "{name}: {got} {want}");
            }
        }
    }

    /// Large and infinite inputs give no NaN, in values or gradients, where the limits are finite.
    #[test]
    fn saturated_inputs_have_limits() {
        let x = Tensor::from([-f64::INFINITY, -1e300, -1e4, 1e4, 1e300]);
        for name in ["tanh", "sigmoid", "gelu", "gelu_tanh", "silu", "mish", "selu", "erf", "elu"] {
            let (_, f, _) = FUNCTIONS.into_iter().find(|(n, ..)| *n == name).unwrap();
            let tape = crate::Tape::new(0);
            let leaf = tape.leaf(&x);
            let y = f(&leaf);
            assert!(y.iter().all(|v| !v.is_nan()), "{name}: {y}");
            let g = y.backward_with(&y.ones_like()).unwrap();
            let g = g.wrt(&leaf).unwrap();
            assert!(g.iter().all(|v| v.is_finite()), "{name}: {g}");
        }
    }

    #[test]
    fn nan_stays_nan() {
        for (name, f, f32s) in FUNCTIONS {
            assert!(f(&Tensor::scalar(f64::NAN)).item().unwrap().is_nan(), "{name}");
            assert!(f32s(&Tensor::scalar(f32::NAN)).item().unwrap().is_nan(), "{name}");
        }
    }

    #[test]
    fn kinks_have_the_documented_gradient() {
        let at = |f: fn(&Tensor<f64>) -> Tensor<f64>, x: f64| {
            let tape = crate::Tape::new(0);
            let x = tape.leaf(&Tensor::scalar(x));
            f(&x).backward().unwrap().wrt(&x).unwrap().item().unwrap()
        };
        assert_eq!(at(|x| x.relu(), 0.0), 0.0);
        assert_eq!(at(|x| x.abs(), 0.0), 0.0);
        assert_eq!(at(|x| x.leaky_relu(0.1), 0.0), 0.1);
        assert_eq!(at(|x| x.clamp(-1.0, 1.0), 1.0), 0.0);
        assert_eq!(at(|x| x.clamp(-1.0, 1.0), 1.5), 0.0);
        assert_eq!(at(|x| x.powf(0.0), 0.0), 0.0);
    }
}
