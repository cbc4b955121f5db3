//! Poolings as layers.

use super::{Layer, Module, Visitor, VisitorMut};
use crate::error::Result;
use crate::float::Float;
use crate::ops::{Pair, Pool2d};
use crate::tensor::Tensor;

/// A layer without parameters.
macro_rules! no_parameters {
    ($($name:ident),*) => {$(
        impl Module for $name {
            fn visit(&self, _: &mut Visitor<'_>) {}
            fn visit_mut(&mut self, _: &mut VisitorMut<'_>) {}
        }
    )*};
}
no_parameters!(MaxPool2d, AvgPool2d, AdaptiveAvgPool2d);

/// The largest element of each window; see [`Tensor::max_pool2d`].
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::{MaxPool2d, Pool2d};
/// let x: Tensor = Tensor::ones([8, 32, 26, 26])?;
/// assert_eq!(MaxPool2d::new(2).forward(&x)?.shape(), [8, 32, 13, 13]);
/// assert_eq!(MaxPool2d::new(Pool2d::new(3).stride(2).padding(1)).forward(&x)?.shape(), [8, 32, 13, 13]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct MaxPool2d {
    /// The windows.
    pub pool: Pool2d,
}

impl MaxPool2d {
    /// Pools over these windows; a number or a pair is a window of that size that moves by its size.
    pub fn new(pool: impl Into<Pool2d>) -> Self {
        MaxPool2d { pool: pool.into() }
    }
}

impl<T: Float> Layer<T> for MaxPool2d {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        x.max_pool2d(self.pool)
    }
}

/// The mean of each window; see [`Tensor::avg_pool2d`].
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::AvgPool2d;
/// let x: Tensor = Tensor::from([[[1.0, 2.0], [3.0, 6.0]]]);
/// assert_eq!(AvgPool2d::new(2).forward(&x)?.to_vec(), [3.0]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct AvgPool2d {
    /// The windows.
    pub pool: Pool2d,
}

impl AvgPool2d {
    /// Pools over these windows; a number or a pair is a window of that size that moves by its size.
    pub fn new(pool: impl Into<Pool2d>) -> Self {
        AvgPool2d { pool: pool.into() }
    }
}

impl<T: Float> Layer<T> for AvgPool2d {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        x.avg_pool2d(self.pool)
    }
}

/// The means of a fixed number of windows, whatever the input's size; see [`Tensor::adaptive_avg_pool2d`].
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::AdaptiveAvgPool2d;
/// let x: Tensor = Tensor::ones([2, 512, 7, 9])?;
/// assert_eq!(AdaptiveAvgPool2d::new(1).forward(&x)?.shape(), [2, 512, 1, 1]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct AdaptiveAvgPool2d {
    /// Height and width of the output.
    pub size: [usize; 2],
}

impl AdaptiveAvgPool2d {
    /// Pools to this size, a number or a pair.
    pub fn new(size: impl Into<Pair>) -> Self {
        AdaptiveAvgPool2d { size: size.into().0 }
    }
}

impl<T: Float> Layer<T> for AdaptiveAvgPool2d {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        x.adaptive_avg_pool2d(self.size)
    }
}
