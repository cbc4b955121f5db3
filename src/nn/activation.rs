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
        same(LeakyReLU { slope: 0.3 }, |x| x.leaky_relu(0.3));
        same(ELU { alpha: 0.7 }, |x| x.elu(0.7));
    }

    #[test]
    fn along_an_axis() {
        let x = Tensor::from([[-2.0f64, 0.5], [0.25, 1.0]]);
        for axis in [0, 1, -1, -2] {
            assert_eq!(Softmax(axis).forward(&x).unwrap(), x.softmax(axis).unwrap());
            assert_eq!(LogSoftmax(axis).forward(&x).unwrap(), x.log_softmax(axis).unwrap());
        }
        assert!(matches!(Softmax(2).forward(&x), Err(crate::Error::Axis { .. })));
        assert_eq!(Softmax(1).forward(&Tensor::<f64>::zeros([2, 0]).unwrap()).unwrap().len(), 0);
    }
}
