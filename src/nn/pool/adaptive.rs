//! Poolings to a size.

use crate::Module;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::nn::{Layer, Visitor, VisitorMut};
use crate::ops::Sizes;
use crate::ops::pool::{adaptive_avg_pool, adaptive_max_pool};
use crate::tensor::Tensor;

/// The means of a fixed number of windows, whatever the input's size; see [`Tensor::adaptive_avg_pool2d`].
///
/// ```
/// use gradus::prelude::*;
/// let x: Tensor = Tensor::ones([2, 512, 7, 9])?;
/// assert_eq!(AdaptiveAvgPool2d::new(1).forward(&x)?.shape(), [2, 512, 1, 1]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct AdaptiveAvgPool<const D: usize> {
    /// The sizes of the output.
    pub size: [usize; D],
}

/// The maxima of a fixed number of windows, whatever the input's size; see [`Tensor::adaptive_max_pool2d`].
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::AdaptiveMaxPool2d;
/// let x: Tensor = Tensor::ones([2, 512, 7, 9])?;
/// assert_eq!(AdaptiveMaxPool2d::new((1, 3)).forward(&x)?.shape(), [2, 512, 1, 3]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct AdaptiveMaxPool<const D: usize> {
    /// The sizes of the output.
    pub size: [usize; D],
}

/// The means of a fixed number of windows along a length.
pub type AdaptiveAvgPool1d = AdaptiveAvgPool<1>;
/// The means of a fixed number of windows over height and width.
pub type AdaptiveAvgPool2d = AdaptiveAvgPool<2>;
/// The means of a fixed number of windows over depth, height and width.
pub type AdaptiveAvgPool3d = AdaptiveAvgPool<3>;
/// The maxima of a fixed number of windows along a length.
pub type AdaptiveMaxPool1d = AdaptiveMaxPool<1>;
/// The maxima of a fixed number of windows over height and width.
pub type AdaptiveMaxPool2d = AdaptiveMaxPool<2>;
/// The maxima of a fixed number of windows over depth, height and width.
pub type AdaptiveMaxPool3d = AdaptiveMaxPool<3>;

/// What both have.
macro_rules! to_a_size {
    ($($name:ident, $call:expr, $names:expr;)*) => {$(
        impl<const D: usize> $name<D> {
            /// Pools to this size, a number or one for each axis.
            pub fn new(size: impl Into<Sizes<D>>) -> Self {
                $name { size: size.into().0 }
            }
        }

        impl<const D: usize> Module for $name<D> {
            fn visit(&self, _: &mut Visitor<'_>) {}
            fn visit_mut(&mut self, _: &mut VisitorMut<'_>) {}
        }

        impl<T: Float, const D: usize> Layer<T> for $name<D> {
            fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
                let names: [&'static str; 4] = $names;
                $call(names[if D < 4 { D } else { 0 }], x, self.size)
            }
        }
    )*};
}
to_a_size! {
    AdaptiveAvgPool, adaptive_avg_pool,
        ["adaptive_avg_pool", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"];
    AdaptiveMaxPool, |name, x, size| adaptive_max_pool(name, x, size).map(|(y, _)| y),
        ["adaptive_max_pool", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"];
}

/// The mean of each channel: \[batch, channels, ..\] to \[batch, channels\], whatever the sizes.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::GlobalAvgPool;
/// let x: Tensor = Tensor::ones([2, 512, 7, 9])?;
/// assert_eq!(GlobalAvgPool.forward(&x)?.shape(), [2, 512]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct GlobalAvgPool;

/// The largest element of each channel: \[batch, channels, ..\] to \[batch, channels\], whatever the sizes. Of equals, the first gets the
/// gradient, as with [`Tensor::max_pool2d`].
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::GlobalMaxPool;
/// let x: Tensor = Tensor::from([[[1.0, 3.0, 2.0]]]);
/// assert_eq!(GlobalMaxPool.forward(&x)?, Tensor::from([[3.0]]));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct GlobalMaxPool;

/// Each channel as one axis: \[batch, channels, elements\].
fn channels<T: Float>(op: &'static str, x: &Tensor<T>) -> Result<Tensor<T>> {
    match x.shape() {
        [batch, channels, rest @ ..] if !rest.is_empty() => {
            if rest.contains(&0) {
                return Err(Error::shape(
                    op,
                    format!("the input {:?} has no elements to pool", x.shape()),
                ));
            }
            x.reshape([*batch, *channels, rest.iter().product()])
        }
        _ => Err(Error::shape(
            op,
            format!(
                "the input has shape {:?}, but must be [batch, channels, ..] with one axis or more behind",
                x.shape()
            ),
        )),
    }
}

impl Module for GlobalAvgPool {
    fn visit(&self, _: &mut Visitor<'_>) {}
    fn visit_mut(&mut self, _: &mut VisitorMut<'_>) {}
}

impl<T: Float> Layer<T> for GlobalAvgPool {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        channels("GlobalAvgPool", x)?.mean_axes(2, false)
    }
}

impl Module for GlobalMaxPool {
    fn visit(&self, _: &mut Visitor<'_>) {}
    fn visit_mut(&mut self, _: &mut VisitorMut<'_>) {}
}

impl<T: Float> Layer<T> for GlobalMaxPool {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        Ok(channels("GlobalMaxPool", x)?.max_axis(2, false)?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_single_and_refused() {
        let none: Tensor = Tensor::zeros([0, 3, 4, 5]).unwrap();
        assert_eq!(GlobalAvgPool.forward(&none).unwrap().shape(), [0, 3]);
        assert_eq!(GlobalMaxPool.forward(&none).unwrap().shape(), [0, 3]);
        assert_eq!(AdaptiveMaxPool2d::new(2).forward(&none).unwrap().shape(), [0, 3, 2, 2]);
        assert_eq!(AdaptiveAvgPool3d::new(2).forward(&none).unwrap().shape(), [0, 2, 2, 2]);
        let one: Tensor = Tensor::full([1, 1, 1], 7.0).unwrap();
        assert_eq!(GlobalMaxPool.forward(&one).unwrap().to_vec(), [7.0]);
        assert_eq!(AdaptiveMaxPool1d::new(3).forward(&one).unwrap().to_vec(), [7.0; 3]);
        let flat: Tensor = Tensor::zeros([2, 3]).unwrap();
        assert_eq!(
            GlobalAvgPool.forward(&flat).unwrap_err().to_string(),
            "GlobalAvgPool: the input has shape [2, 3], but must be [batch, channels, ..] with one axis or more behind"
        );
        assert!(GlobalMaxPool.forward(&Tensor::<f32>::zeros([2, 3, 0]).unwrap()).is_err());
    }
}
