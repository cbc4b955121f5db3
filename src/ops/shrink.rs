//! More functions of one variable with parameters: CELU, the shrink functions, the threshold.

use super::elementwise::infallible;
use super::rule::{Keep, Unary, by_pieces, unary};
use super::unary::{elu_slope, with_parameters, within};
use crate::float::Float;
use crate::tensor::Tensor;

with_parameters! {
    Celu(alpha) "celu" Input 0.6:
        |x| {
            let low = alpha * (within(x, -1e30, 0.0) / alpha).vexpm1::<FMA>();
            if x > T::ZERO { x } else { low }
        },
        |x, g| {
            let low = g * (within(x, -1e30, 0.0) / alpha).vexp::<FMA>();
            if x > T::ZERO { g } else { low }
        },
        |x, g| g * elu_slope(&(x / alpha), T::ONE);
    Softshrink(lambda) "softshrink" Input 0.25:
        |x| {
            let near = if x.is_not_a_number() { x } else { T::ZERO };
            if x > lambda { x - lambda } else if x < -lambda { x + lambda } else { near }
        },
        |x, g| if x >= -lambda && x <= lambda { T::ZERO } else { g },
        |x, g| by_pieces(Softshrink { lambda: lambda.as_f64() }, x, g);
    Hardshrink(lambda) "hardshrink" Input 0.25:
        |x| if x >= -lambda && x <= lambda { T::ZERO } else { x },
        |x, g| if x >= -lambda && x <= lambda { T::ZERO } else { g },
        |x, g| by_pieces(Hardshrink { lambda: lambda.as_f64() }, x, g);
    Threshold(threshold, value) "threshold" Input 0.25:
        |x| if x <= threshold { value } else { x },
        |x, g| {
            let _ = value;
            if x <= threshold { T::ZERO } else { g }
        },
        |x, g| by_pieces(Threshold { threshold: threshold.as_f64(), value: value.as_f64() }, x, g);
}

impl<T: Float> Tensor<T> {
    /// x, or `alpha` (e^(x / `alpha`) - 1) for x ≤ 0 (Barron, 2017): ELU with a slope that has no jump. `alpha` is meant to be positive.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let y = Tensor::from([-2.0f64, 3.0]).celu(2.0);
    /// assert!((y.get([0])? + 2.0 * 0.632_120_558_828_557_7).abs() < 1e-12 && y.get([1])? == 3.0);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn celu(&self, alpha: T) -> Tensor<T> {
        unary(Celu { alpha: alpha.as_f64() }, self)
    }

    /// x between `min` and `max`, -1 and 1 in PyTorch: another name of [`clamp`](Self::clamp), which has the same gradient.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([-2.0f32, 0.5, 3.0]).hardtanh(-1.0, 1.0).to_vec(), [-1.0, 0.5, 1.0]);
    /// ```
    pub fn hardtanh(&self, min: T, max: T) -> Tensor<T> {
        self.clamp(min, max)
    }

    /// x - tanh x
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([0.0f32]).tanhshrink().to_vec(), [0.0]);
    /// ```
    pub fn tanhshrink(&self) -> Tensor<T> {
        infallible("tanhshrink", self.try_sub(&self.tanh()))
    }

    /// x moved towards 0 by `lambda`, 0 where it is nearer than that; PyTorch's default is 0.5.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([-2.0f32, 0.25, 3.0]).softshrink(0.5).to_vec(), [-1.5, 0.0, 2.5]);
    /// ```
    pub fn softshrink(&self, lambda: T) -> Tensor<T> {
        unary(Softshrink { lambda: lambda.as_f64() }, self)
    }

    /// x, or 0 where |x| ≤ `lambda`; PyTorch's default is 0.5.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([-2.0f32, 0.25, 3.0]).hardshrink(0.5).to_vec(), [-2.0, 0.0, 3.0]);
    /// ```
    pub fn hardshrink(&self, lambda: T) -> Tensor<T> {
        unary(Hardshrink { lambda: lambda.as_f64() }, self)
    }

    /// x where it is above `threshold`, else `value`.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([-2.0f32, 0.25, 3.0]).threshold(0.5, -1.0).to_vec(), [-1.0, -1.0, 3.0]);
    /// ```
    pub fn threshold(&self, threshold: T, value: T) -> Tensor<T> {
        unary(Threshold { threshold: threshold.as_f64(), value: value.as_f64() }, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::{gradcheck, gradgradcheck};

    type Function = (&'static str, fn(&Tensor<f64>) -> Tensor<f64>);

    const FUNCTIONS: [Function; 6] = [
        ("celu", |x| x.celu(1.7)),
        ("hardtanh", |x| x.hardtanh(-0.7, 0.9)),
        ("tanhshrink", |x| x.tanhshrink()),
        ("softshrink", |x| x.softshrink(0.31)),
        ("hardshrink", |x| x.hardshrink(0.31)),
        ("threshold", |x| x.threshold(0.31, 2.0)),
    ];

    #[test]
    fn gradients_on_awkward_layouts() {
        let x = Tensor::from_fn([3, 6], |i| (i as f64 - 8.2) * 0.21).unwrap();
        let stepped = x.with_layout(x.layout().slice(1, 5, 3, -2));
        let turned = x.with_layout(x.layout().permute(&[1, 0]));
        let empty = Tensor::zeros([0, 2]).unwrap();
        for (name, f) in FUNCTIONS {
            for x in [&x, &stepped, &turned, &Tensor::scalar(0.5), &empty] {
                gradcheck(|[x]| Ok(f(x)), [x]).unwrap_or_else(|e| panic!("{name}: {e}"));
            }
            gradgradcheck(|[x]| Ok(f(x)), [&x]).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(f(&Tensor::scalar(f64::NAN)).item().unwrap().is_nan(), "{name}");
        }
    }

    #[test]
    fn kinks_and_far_ends() {
        let at = |f: fn(&Tensor<f64>) -> Tensor<f64>, x: f64| {
            let tape = crate::Tape::new(0);
            let x = tape.leaf(&Tensor::scalar(x));
            let y = f(&x);
            let g = y.backward().unwrap().wrt(&x).unwrap().item().unwrap();
            (y.item().unwrap(), g)
        };
        assert_eq!(at(|x| x.softshrink(0.5), 0.5), (0.0, 0.0));
        assert_eq!(at(|x| x.hardshrink(0.5), -0.5), (0.0, 0.0));
        assert_eq!(at(|x| x.threshold(0.5, 7.0), 0.5), (7.0, 0.0));
        assert_eq!(at(|x| x.hardtanh(-1.0, 1.0), 1.0), (1.0, 0.0));
        assert_eq!(at(|x| x.celu(2.0), 0.0), (0.0, 1.0));
        assert_eq!(at(|x| x.celu(2.0), f64::NEG_INFINITY), (-2.0, 0.0));
        assert_eq!(at(|x| x.celu(2.0), 1e300), (1e300, 1.0));
    }
}
