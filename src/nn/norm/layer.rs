//! Layer normalisation and RMS normalisation as layers.

use std::marker::PhantomData;

use super::{check, param, within};
use crate::Module;
use crate::error::Result;
use crate::float::Float;
use crate::nn::{Layer, Param};
use crate::ops::norm;
use crate::tensor::{Dims, IntoShape, Tensor};

/// Layer normalisation over the last axes (Ba et al., 2016): y = (x - m) / √(v + ε) · w + b, with mean and variance of each index of the leading
/// axes. The same whether it trains or not.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::LayerNorm;
/// let norm: LayerNorm = LayerNorm::new(512).build()?;
/// assert_eq!(norm.forward(&Tensor::zeros([8, 20, 512])?)?.shape(), [8, 20, 512]);
/// let images: LayerNorm = LayerNorm::new([3, 8, 8]).build()?;
/// assert_eq!(images.weight.as_ref().unwrap().shape(), [3, 8, 8]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct LayerNorm<T: Float = f32> {
    /// w: the shape that is normalised.
    pub weight: Option<Param<T>>,
    /// b: the same shape.
    pub bias: Option<Param<T>>,
    #[module(skip)]
    shape: Dims,
    eps: f64,
}

impl<T: Float> LayerNorm<T> {
    /// Starts a layer over the last axes, which have this shape.
    #[allow(clippy::new_ret_no_self)] // As the other layers: options come before the layer is made.
    pub fn new(shape: impl IntoShape) -> LayerNormBuilder<T> {
        LayerNormBuilder {
            shape: shape.into_shape(),
            eps: 1e-5,
            affine: true,
            bias: true,
            element: PhantomData,
        }
    }

    /// The shape that is normalised.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
}

impl<T: Float> Layer<T> for LayerNorm<T> {
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the input does not end in the shape that is normalised.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let affine = [self.weight.as_deref(), self.bias.as_deref()];
        within([&self.weight, &self.bias], || {
            norm::layer_norm("LayerNorm", x, &self.shape, affine, self.eps)
        })
    }
}

/// What a [`LayerNorm`] will be.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::LayerNorm;
/// let norm: LayerNorm = LayerNorm::new(64).eps(1e-12).bias(false).build()?;
/// assert_eq!(norm.param_paths(), ["weight"]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "call build() to get the layer"]
pub struct LayerNormBuilder<T: Float = f32> {
    shape: Dims,
    eps: f64,
    affine: bool,
    bias: bool,
    element: PhantomData<T>,
}

impl<T: Float> LayerNormBuilder<T> {
    /// What is added to the variance; 1e-5 unless said otherwise.
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// Whether there are a weight and a bias; there are unless said otherwise.
    pub fn affine(mut self, affine: bool) -> Self {
        self.affine = affine;
        self
    }

    /// Whether there is a bias beside the weight; there is unless said otherwise.
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// The layer: weight 1, bias 0.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for a negative `eps`, [`Error::Overflow`](crate::Error::Overflow) if the shape does not
    /// fit in memory.
    pub fn build(self) -> Result<LayerNorm<T>> {
        check("LayerNorm", self.eps, None)?;
        Ok(LayerNorm {
            weight: param(self.affine, &self.shape, 1.0)?,
            bias: param(self.affine && self.bias, &self.shape, 0.0)?,
            shape: self.shape,
            eps: self.eps,
        })
    }
}

/// Root mean square normalisation over the last axes (Zhang and Sennrich, 2019): y = x / √(Σ x² / n + ε) · w. The same whether it trains or not.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::RMSNorm;
/// let norm: RMSNorm = RMSNorm::new(512).eps(1e-6).build()?;
/// assert_eq!(norm.forward(&Tensor::zeros([8, 20, 512])?)?.shape(), [8, 20, 512]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct RMSNorm<T: Float = f32> {
    /// w: the shape that is normalised.
    pub weight: Option<Param<T>>,
    #[module(skip)]
    shape: Dims,
    eps: f64,
}

impl<T: Float> RMSNorm<T> {
    /// Starts a layer over the last axes, which have this shape.
    #[allow(clippy::new_ret_no_self)] // As the other layers: options come before the layer is made.
    pub fn new(shape: impl IntoShape) -> RMSNormBuilder<T> {
        RMSNormBuilder {
            shape: shape.into_shape(),
            eps: <T as num_traits::Float>::epsilon().as_f64(),
            affine: true,
            element: PhantomData,
        }
    }

    /// The shape that is normalised.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
}

impl<T: Float> Layer<T> for RMSNorm<T> {
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the input does not end in the shape that is normalised.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        within([&self.weight, &None], || {
            norm::rms_norm("RMSNorm", x, &self.shape, self.weight.as_deref(), self.eps)
        })
    }
}

/// What an [`RMSNorm`] will be.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::RMSNorm;
/// let norm: RMSNorm = RMSNorm::new(64).affine(false).build()?;
/// assert_eq!(norm.num_params(), 0);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "call build() to get the layer"]
pub struct RMSNormBuilder<T: Float = f32> {
    shape: Dims,
    eps: f64,
    affine: bool,
    element: PhantomData<T>,
}

impl<T: Float> RMSNormBuilder<T> {
    /// What is added to the mean square; the distance from 1 to the next larger number of the element type unless said otherwise, as in PyTorch.
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// Whether there is a weight; there is unless said otherwise.
    pub fn affine(mut self, affine: bool) -> Self {
        self.affine = affine;
        self
    }

    /// The layer: weight 1.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for a negative `eps`, [`Error::Overflow`](crate::Error::Overflow) if the shape does not
    /// fit in memory.
    pub fn build(self) -> Result<RMSNorm<T>> {
        check("RMSNorm", self.eps, None)?;
        let weight = param(self.affine, &self.shape, 1.0)?;
        Ok(RMSNorm { weight, shape: self.shape, eps: self.eps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;

    #[test]
    fn empty_single_and_by_hand() {
        let norm = LayerNorm::<f64>::new(2).eps(0.0).build().unwrap();
        let y = norm.forward(&Tensor::from([[1.0, 3.0], [8.0, 6.0]])).unwrap();
        assert_eq!(y.to_vec(), [-1.0, 1.0, 1.0, -1.0]);
        assert_eq!(norm.forward(&Tensor::zeros([0, 2]).unwrap()).unwrap().shape(), [0, 2]);
        let one = LayerNorm::<f64>::new(1).build().unwrap();
        assert_eq!(one.forward(&Tensor::from([5.0])).unwrap().to_vec(), [0.0]);
        let rms = RMSNorm::<f64>::new(2).eps(0.0).build().unwrap();
        let y = rms.forward(&Tensor::from([[1.0, 7.0]])).unwrap();
        assert!((y.get([0, 1]).unwrap() - 1.4).abs() < 1e-12);
    }

    #[test]
    fn the_watched_copy_learns_and_errors_say_where() {
        let model = (LayerNorm::<f64>::new(3).build().unwrap(), RMSNorm::new(3).build().unwrap());
        let net = Tape::new(0).watch(&model);
        let x = Tensor::from([[1.0, 2.0, 4.0]]);
        let y = net.1.forward(&net.0.forward(&x).unwrap()).unwrap();
        let grads = y.backward_with(&Tensor::from([[1.0, 0.0, 2.0]])).unwrap();
        assert!(grads.get(model.0.weight.as_ref().unwrap()).is_some());
        assert!(grads.get(model.0.bias.as_ref().unwrap()).is_some());
        assert!(grads.get(model.1.weight.as_ref().unwrap()).is_some());
        assert_eq!(
            net.1.forward(&Tensor::zeros([3, 4]).unwrap()).unwrap_err().to_string(),
            "RMSNorm: the input has shape [3, 4], but it must end with the normalised shape [3], which has at least one axis [at 1]"
        );
        assert!(LayerNorm::<f32>::new(3).eps(-1.0).build().is_err());
    }
}
