//! Activations as layers, for `Sequential` and for fields of a model. Each is the tensor's method of that name.

use super::Layer;
use crate::Module;
use crate::error::Result;
use crate::float::Float;
use crate::tensor::Tensor;

/// Declares layers without settings: documentation, name, and the method of one tensor.
macro_rules! activations {
    ($($(#[$doc:meta])* $layer:ident: $method:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Module, Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $layer;

        impl<T: Float> Layer<T> for $layer {
            fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
                Ok(x.$method())
            }
        }
    )*};
}

activations! {
    /// Rectified linear unit: max(x, 0), see [`Tensor::relu`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::ReLU;
    /// assert_eq!(ReLU.forward(&Tensor::from([-1.0f32, 2.0]))?.to_vec(), [0.0, 2.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ReLU: relu;
    /// Logistic function 1 / (1 + e^-x), see [`Tensor::sigmoid`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Sigmoid.forward(&Tensor::from([0.0f32]))?.to_vec(), [0.5]);
    /// # Ok::<(), Error>(())
    /// ```
    Sigmoid: sigmoid;
    /// Hyperbolic tangent, see [`Tensor::tanh`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tanh.forward(&Tensor::from([0.0f32]))?.to_vec(), [0.0]);
    /// # Ok::<(), Error>(())
    /// ```
    Tanh: tanh;
    /// Gaussian error linear unit x Φ(x) (Hendrycks and Gimpel 2016), see [`Tensor::gelu`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(GELU.forward(&Tensor::from([0.0f32]))?.to_vec(), [0.0]);
    /// # Ok::<(), Error>(())
    /// ```
    GELU: gelu;
    /// The approximation of GELU by a hyperbolic tangent, see [`Tensor::gelu_tanh`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(GELUTanh.forward(&Tensor::from([0.0f32]))?.to_vec(), [0.0]);
    /// # Ok::<(), Error>(())
    /// ```
    GELUTanh: gelu_tanh;
    /// x σ(x), with σ the sigmoid, also called swish (Elfwing et al. 2017), see [`Tensor::silu`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::SiLU;
    /// assert_eq!(SiLU.forward(&Tensor::from([0.0f32]))?.to_vec(), [0.0]);
    /// # Ok::<(), Error>(())
    /// ```
    SiLU: silu;
    /// x tanh(ln(1 + e^x)) (Misra 2019), see [`Tensor::mish`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::Mish;
    /// assert_eq!(Mish.forward(&Tensor::from([0.0f32]))?.to_vec(), [0.0]);
    /// # Ok::<(), Error>(())
    /// ```
    Mish: mish;
    /// x relu6(x + 3) / 6 (Howard et al. 2019), see [`Tensor::hardswish`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::Hardswish;
    /// assert_eq!(Hardswish.forward(&Tensor::from([0.0f32]))?.to_vec(), [0.0]);
    /// # Ok::<(), Error>(())
    /// ```
    Hardswish: hardswish;
    /// relu6(x + 3) / 6, see [`Tensor::hardsigmoid`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::Hardsigmoid;
    /// assert_eq!(Hardsigmoid.forward(&Tensor::from([0.0f32]))?.to_vec(), [0.5]);
    /// # Ok::<(), Error>(())
    /// ```
    Hardsigmoid: hardsigmoid;
    /// x between 0 and 6, see [`Tensor::relu6`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::ReLU6;
    /// assert_eq!(ReLU6.forward(&Tensor::from([0.0f32]))?.to_vec(), [0.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ReLU6: relu6;
    /// 1.0507 (x, or 1.6733 (e^x - 1) for x < 0) (Klambauer et al. 2017), see [`Tensor::selu`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::SELU;
    /// assert_eq!(SELU.forward(&Tensor::from([0.0f32]))?.to_vec(), [0.0]);
    /// # Ok::<(), Error>(())
    /// ```
    SELU: selu;
    /// x / (1 + |x|), see [`Tensor::softsign`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::Softsign;
    /// assert_eq!(Softsign.forward(&Tensor::from([0.0f32]))?.to_vec(), [0.0]);
    /// # Ok::<(), Error>(())
    /// ```
    Softsign: softsign;
    /// ln(1 / (1 + e^-x)), see [`Tensor::log_sigmoid`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::LogSigmoid;
    /// assert_eq!(LogSigmoid.forward(&Tensor::from([0.0f32]))?.to_vec(), [-std::f32::consts::LN_2]);
    /// # Ok::<(), Error>(())
    /// ```
    LogSigmoid: log_sigmoid;
    /// x - tanh x, see [`Tensor::tanhshrink`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::Tanhshrink;
    /// assert_eq!(Tanhshrink.forward(&Tensor::from([0.0f32]))?.to_vec(), [0.0]);
    /// # Ok::<(), Error>(())
    /// ```
    Tanhshrink: tanhshrink;
}

/// Declares layers with one number: documentation, name, field, its default, and the method.
macro_rules! with_a_number {
    ($($(#[$doc:meta])* $layer:ident { $(#[$field_doc:meta])* $field:ident = $default:expr }: $method:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Module, Clone, Copy, Debug, PartialEq)]
        pub struct $layer {
            $(#[$field_doc])*
            pub $field: f64,
        }

        impl Default for $layer {
            fn default() -> Self {
                $layer { $field: $default }
            }
        }

        impl<T: Float> Layer<T> for $layer {
            fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
                Ok(x.$method(T::of(self.$field)))
            }
        }
    )*};
}

with_a_number! {
    /// x for positive x, slope · x for negative (Maas et al. 2013), see [`Tensor::leaky_relu`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let layer = LeakyReLU { slope: 0.5 };
    /// assert_eq!(layer.forward(&Tensor::from([-1.0f32, 2.0]))?.to_vec(), [-0.5, 2.0]);
    /// # Ok::<(), Error>(())
    /// ```
    LeakyReLU {
        /// The slope for negative x; 0.01 by default.
        slope = 0.01
    }: leaky_relu;
    /// x for positive x, α (e^x - 1) for negative (Clevert et al. 2016), see [`Tensor::elu`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(ELU::default().forward(&Tensor::from([0.0f32, 2.0]))?.to_vec(), [0.0, 2.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ELU {
        /// What the output tends to for very negative x, negated; 1 by default.
        alpha = 1.0
    }: elu;
    /// x for positive x, α (e^(x/α) - 1) for negative (Barron 2017), see [`Tensor::celu`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::CELU;
    /// assert_eq!(CELU::default().forward(&Tensor::from([0.0f32, 2.0]))?.to_vec(), [0.0, 2.0]);
    /// # Ok::<(), Error>(())
    /// ```
    CELU {
        /// What the output tends to for very negative x, negated; 1 by default.
        alpha = 1.0
    }: celu;
    /// x moved towards 0 by λ, see [`Tensor::softshrink`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::Softshrink;
    /// assert_eq!(Softshrink::default().forward(&Tensor::from([0.25f32, 2.0]))?.to_vec(), [0.0, 1.5]);
    /// # Ok::<(), Error>(())
    /// ```
    Softshrink {
        /// How far; 0.5 by default.
        lambda = 0.5
    }: softshrink;
    /// x, or 0 where |x| ≤ λ, see [`Tensor::hardshrink`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::Hardshrink;
    /// assert_eq!(Hardshrink::default().forward(&Tensor::from([0.25f32, 2.0]))?.to_vec(), [0.0, 2.0]);
    /// # Ok::<(), Error>(())
    /// ```
    Hardshrink {
        /// What counts as 0; 0.5 by default.
        lambda = 0.5
    }: hardshrink;
}

/// Declares layers along an axis: documentation, name, and the method of a tensor and the axis.
macro_rules! along_an_axis {
    ($($(#[$doc:meta])* $layer:ident: $method:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Module, Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $layer(
            /// The axis; negative ones count from the end.
            pub isize,
        );

        impl<T: Float> Layer<T> for $layer {
            /// # Errors
            /// [`Error::Axis`](crate::Error::Axis) if the input has no such axis.
            fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
                x.$method(self.0)
            }
        }
    )*};
}

along_an_axis! {
    /// Softmax along an axis: e^x / Σ e^x, see [`Tensor::softmax`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::Softmax;
    /// assert_eq!(Softmax(-1).forward(&Tensor::from([[3.0f32, 3.0]]))?.to_vec(), [0.5, 0.5]);
    /// # Ok::<(), Error>(())
    /// ```
    Softmax: softmax;
    /// Logarithm of the softmax along an axis: x - ln Σ e^x, see [`Tensor::log_softmax`]. Not needed before a cross-entropy, which takes logits.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::LogSoftmax;
    /// assert_eq!(LogSoftmax(-1).forward(&Tensor::from([[3.0f32]]))?.to_vec(), [0.0]);
    /// # Ok::<(), Error>(())
    /// ```
    LogSoftmax: log_softmax;
    /// Softmax of -x along an axis, see [`Tensor::softmin`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::Softmin;
    /// assert_eq!(Softmin(-1).forward(&Tensor::from([[3.0f32, 3.0]]))?.to_vec(), [0.5, 0.5]);
    /// # Ok::<(), Error>(())
    /// ```
    Softmin: softmin;
    /// Gated linear unit a σ(b) of the halves of an axis (Dauphin et al. 2017), see [`Tensor::glu`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::GLU;
    /// assert_eq!(GLU(-1).forward(&Tensor::from([[3.0f32, 0.0]]))?.to_vec(), [1.5]);
    /// # Ok::<(), Error>(())
    /// ```
    GLU: glu;
    /// silu(a) b of the halves of an axis (Shazeer 2020), see [`Tensor::swiglu`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::SwiGLU;
    /// assert_eq!(SwiGLU(-1).forward(&Tensor::from([[0.0f32, 3.0]]))?.to_vec(), [0.0]);
    /// # Ok::<(), Error>(())
    /// ```
    SwiGLU: swiglu;
    /// gelu(a) b of the halves of an axis (Shazeer 2020), see [`Tensor::geglu`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::GEGLU;
    /// assert_eq!(GEGLU(-1).forward(&Tensor::from([[0.0f32, 3.0]]))?.to_vec(), [0.0]);
    /// # Ok::<(), Error>(())
    /// ```
    GEGLU: geglu;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;

    /// The layer and the method agree, on empty and single inputs too, and the gradient passes.
    fn same(layer: impl Layer<f64>, method: impl Fn(&Tensor<f64>) -> Tensor<f64>) {
        for x in [
            Tensor::zeros([0, 3]).unwrap(),
            Tensor::scalar(0.5),
            Tensor::from([[-2.0, -0.5, 0.25], [0.5, 1.0, 3.0]]),
        ] {
            let tape = Tape::new(0);
            let y = layer.forward(&tape.leaf(&x)).unwrap();
            assert!(y.is_recorded());
            assert_eq!(y, method(&x));
        }
        assert!(layer.param_paths().is_empty());
    }

    #[test]
    fn each_layer_is_its_method() {
        same(ReLU, Tensor::relu);
        same(Sigmoid, Tensor::sigmoid);
        same(Tanh, Tensor::tanh);
        same(GELU, Tensor::gelu);
        same(GELUTanh, Tensor::gelu_tanh);
        same(SiLU, Tensor::silu);
        same(Mish, Tensor::mish);
        same(Hardswish, Tensor::hardswish);
        same(Hardsigmoid, Tensor::hardsigmoid);
        same(ReLU6, Tensor::relu6);
        same(SELU, Tensor::selu);
        same(Softsign, Tensor::softsign);
        same(LogSigmoid, Tensor::log_sigmoid);
        same(Tanhshrink, Tensor::tanhshrink);
        same(CELU { alpha: 0.7 }, |x| x.celu(0.7));
        same(Softshrink::default(), |x| x.softshrink(0.5));
        same(Hardshrink::default(), |x| x.hardshrink(0.5));
        same(LeakyReLU { slope: 0.3 }, |x| x.leaky_relu(0.3));
        same(ELU { alpha: 0.7 }, |x| x.elu(0.7));
    }

    #[test]
    fn along_an_axis() {
        let x = Tensor::from([[-2.0f64, 0.5], [0.25, 1.0]]);
        assert_eq!(Softmin(0).forward(&x).unwrap(), x.softmin(0).unwrap());
        assert_eq!(GLU(0).forward(&x).unwrap(), x.glu(0).unwrap());
        assert_eq!(SwiGLU(1).forward(&x).unwrap(), x.swiglu(1).unwrap());
        assert_eq!(GEGLU(-1).forward(&x).unwrap(), x.geglu(-1).unwrap());
        let x = Tensor::from([[-2.0f64, 0.5], [0.25, 1.0]]);
        for axis in [0, 1, -1, -2] {
            assert_eq!(Softmax(axis).forward(&x).unwrap(), x.softmax(axis).unwrap());
            assert_eq!(LogSoftmax(axis).forward(&x).unwrap(), x.log_softmax(axis).unwrap());
        }
        assert!(matches!(Softmax(2).forward(&x), Err(crate::Error::Axis { .. })));
        assert_eq!(Softmax(1).forward(&Tensor::<f64>::zeros([2, 0]).unwrap()).unwrap().len(), 0);
    }
}
