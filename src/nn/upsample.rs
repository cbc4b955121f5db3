//! Layers that change the size of images.

use super::{Interpolate, Layer};
use crate::Module;
use crate::error::Result;
use crate::float::Float;
use crate::tensor::Tensor;

/// The axes behind the channels brought to another size, see [`Tensor::interpolate`].
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::{Interpolate, Upsample};
/// let layer = Upsample(Interpolate::by([2.0]));
/// assert_eq!(layer.forward(&Tensor::<f32>::zeros([1, 3, 4, 4])?)?.shape(), [1, 3, 8, 8]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug, PartialEq)]
pub struct Upsample(
    /// To which size, and how.
    #[module(skip)]
    pub Interpolate,
);

impl<T: Float> Layer<T> for Upsample {
    /// # Errors
    /// As [`Tensor::interpolate`].
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        x.interpolate(&self.0)
    }
}

/// Channels to pixels by this factor, see [`Tensor::pixel_shuffle`].
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::PixelShuffle;
/// assert_eq!(PixelShuffle(2).forward(&Tensor::<f32>::zeros([1, 8, 4, 4])?)?.shape(), [1, 2, 8, 8]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelShuffle(
    /// How many times higher and wider.
    pub usize,
);

impl<T: Float> Layer<T> for PixelShuffle {
    /// # Errors
    /// As [`Tensor::pixel_shuffle`].
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        x.pixel_shuffle(self.0)
    }
}

/// Pixels to channels by this factor, see [`Tensor::pixel_unshuffle`].
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::PixelUnshuffle;
/// assert_eq!(PixelUnshuffle(2).forward(&Tensor::<f32>::zeros([1, 2, 8, 8])?)?.shape(), [1, 8, 4, 4]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelUnshuffle(
    /// How many times lower and narrower.
    pub usize,
);

impl<T: Float> Layer<T> for PixelUnshuffle {
    /// # Errors
    /// As [`Tensor::pixel_unshuffle`].
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        x.pixel_unshuffle(self.0)
    }
}
