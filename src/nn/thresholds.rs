//! Activations with two settings or none: softplus, hard tanh, threshold, softmax over the channels of images, the identity.

use super::Layer;
use crate::Module;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::tensor::Tensor;

/// ln(1 + e^(βx)) / β, and x itself where βx is above a threshold, see [`Tensor::softplus`].
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::Softplus;
/// let y = Softplus::default().forward(&Tensor::from([0.0f64, 30.0]))?;
/// assert!((y.get([0])? - 2f64.ln()).abs() < 1e-12 && y.get([1])? == 30.0);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Copy, Debug, PartialEq)]
pub struct Softplus {
    /// How sharp the bend is; 1 by default.
    pub beta: f64,
    /// Where x itself takes over; 20 by default.
    pub threshold: f64,
}

impl Default for Softplus {
    fn default() -> Self {
        Softplus { beta: 1.0, threshold: 20.0 }
    }
}

impl<T: Float> Layer<T> for Softplus {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        Ok(x.softplus(T::of(self.beta), T::of(self.threshold)))
    }
}

/// x between two numbers, see [`Tensor::hardtanh`].
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::Hardtanh;
/// let y = Hardtanh::default().forward(&Tensor::from([-3.0f32, 0.5]))?;
/// assert_eq!(y.to_vec(), [-1.0, 0.5]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Copy, Debug, PartialEq)]
pub struct Hardtanh {
    /// The lower; -1 by default.
    pub min: f64,
    /// The upper; 1 by default.
    pub max: f64,
}

impl Default for Hardtanh {
    fn default() -> Self {
        Hardtanh { min: -1.0, max: 1.0 }
    }
}

impl<T: Float> Layer<T> for Hardtanh {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        Ok(x.hardtanh(T::of(self.min), T::of(self.max)))
    }
}

/// x above a threshold, else a number, see [`Tensor::threshold`].
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::Threshold;
/// let layer = Threshold { threshold: 0.5, value: -1.0 };
/// assert_eq!(layer.forward(&Tensor::from([0.25f32, 2.0]))?.to_vec(), [-1.0, 2.0]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// The threshold.
    pub threshold: f64,
    /// What stands for the numbers that are not above it.
    pub value: f64,
}

impl<T: Float> Layer<T> for Threshold {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        Ok(x.threshold(T::of(self.threshold), T::of(self.value)))
    }
}

/// Softmax over the channels of \[batch, channels, height, width\] or \[channels, height, width\], at each pixel.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::Softmax2d;
/// let y = Softmax2d.forward(&Tensor::<f32>::zeros([1, 4, 2, 2])?)?;
/// assert_eq!(y.to_vec(), [0.25; 16]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Softmax2d;

impl<T: Float> Layer<T> for Softmax2d {
    /// # Errors
    /// [`Error::Shape`] unless there are three or four axes.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        if ![3, 4].contains(&x.rank()) {
            let message = format!(
                "the input has shape {:?}, but must be [batch, channels, height, width] or [channels, height, width]",
                x.shape()
            );
            return Err(Error::shape("Softmax2d", message));
        }
        x.softmax(-3)
    }
}

/// The input as it is.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::Identity;
/// let x = Tensor::from([1.0f32, 2.0]);
/// assert_eq!(Identity.forward(&x)?, x);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity;

impl<T: Float> Layer<T> for Identity {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        Ok(x.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_of_pixels() {
        let x = Tensor::from_fn([2, 3, 2, 2], |i| (i as f64).sin()).unwrap();
        let y = Softmax2d.forward(&x).unwrap();
        assert!(y.sum_axes(1, false).unwrap().iter().all(|s| (s - 1.0).abs() < 1e-12));
        assert_eq!(Softmax2d.forward(&x.select(0, 1).unwrap()).unwrap(), y.select(0, 1).unwrap());
        assert!(Softmax2d.forward(&Tensor::<f32>::zeros([2, 3]).unwrap()).is_err());
    }
}
