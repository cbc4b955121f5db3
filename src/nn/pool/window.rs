//! Poolings over windows.

use crate::Module;
use crate::error::Result;
use crate::float::Float;
use crate::nn::{Layer, Visitor, VisitorMut};
use crate::ops::pool::{avg_pool, lp_pool, max_pool};
use crate::ops::{Pool, Sizes};
use crate::tensor::Tensor;

/// The name of an operation in errors, by the number of axes.
fn name<const D: usize>(names: [&'static str; 4]) -> &'static str {
    names[if D < 4 { D } else { 0 }]
}

/// A layer without parameters.
macro_rules! no_parameters {
    ($($name:ident),*) => {$(
        impl<const D: usize> Module for $name<D> {
            fn visit(&self, _: &mut Visitor<'_>) {}
            fn visit_mut(&mut self, _: &mut VisitorMut<'_>) {}
        }
    )*};
}
no_parameters!(MaxPool, AvgPool, LPPool);

/// The largest element of each window; see [`Tensor::max_pool2d`].
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::Pool2d;
/// let x: Tensor = Tensor::ones([8, 32, 26, 26])?;
/// assert_eq!(MaxPool2d::new(2).forward(&x)?.shape(), [8, 32, 13, 13]);
/// assert_eq!(MaxPool2d::new(3).stride(2).padding(1).forward(&x)?.shape(), [8, 32, 13, 13]);
/// assert_eq!(MaxPool2d::new(Pool2d::new(3).stride(2).padding(1)).forward(&x)?.shape(), [8, 32, 13, 13]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct MaxPool<const D: usize> {
    /// The windows.
    pub pool: Pool<D>,
}

impl<const D: usize> MaxPool<D> {
    /// Pools over these windows; a number, or one for each axis, is a window of that size that moves by its size.
    pub fn new(pool: impl Into<Pool<D>>) -> Self {
        MaxPool { pool: pool.into() }
    }

    /// Sets the step between windows; the window's size unless said otherwise.
    pub fn stride(mut self, stride: impl Into<Sizes<D>>) -> Self {
        self.pool = self.pool.stride(stride);
        self
    }

    /// Sets what is added on each side, at most half a window; none unless said otherwise.
    pub fn padding(mut self, padding: impl Into<Sizes<D>>) -> Self {
        self.pool = self.pool.padding(padding);
        self
    }

    /// Sets the distance between the taps of a window; 1 unless said otherwise.
    pub fn dilation(mut self, dilation: impl Into<Sizes<D>>) -> Self {
        self.pool = self.pool.dilation(dilation);
        self
    }

    /// Sets whether a last window that reaches beyond the edge counts; not unless said otherwise.
    pub fn ceil_mode(mut self, ceil: bool) -> Self {
        self.pool = self.pool.ceil_mode(ceil);
        self
    }
}

impl<T: Float, const D: usize> Layer<T> for MaxPool<D> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let name = name::<D>(["max_pool", "max_pool1d", "max_pool2d", "max_pool3d"]);
        max_pool(name, x, &self.pool)
    }
}

/// The mean of each window; see [`Tensor::avg_pool2d`].
///
/// ```
/// use gradus::prelude::*;
/// let x: Tensor = Tensor::from([[[1.0, 2.0], [3.0, 6.0]]]);
/// assert_eq!(AvgPool2d::new(2).forward(&x)?.to_vec(), [3.0]);
/// assert_eq!(AvgPool2d::new(2).padding(1).count_include_pad(false).forward(&x)?.to_vec(), [1.0, 2.0, 3.0, 6.0]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct AvgPool<const D: usize> {
    /// The windows.
    pub pool: Pool<D>,
}

impl<const D: usize> AvgPool<D> {
    /// Pools over these windows; a number, or one for each axis, is a window of that size that moves by its size.
    pub fn new(pool: impl Into<Pool<D>>) -> Self {
        AvgPool { pool: pool.into() }
    }

    /// Sets the step between windows; the window's size unless said otherwise.
    pub fn stride(mut self, stride: impl Into<Sizes<D>>) -> Self {
        self.pool = self.pool.stride(stride);
        self
    }

    /// Sets what is added on each side, at most half a window; none unless said otherwise.
    pub fn padding(mut self, padding: impl Into<Sizes<D>>) -> Self {
        self.pool = self.pool.padding(padding);
        self
    }

    /// Sets whether a last window that reaches beyond the edge counts; not unless said otherwise.
    pub fn ceil_mode(mut self, ceil: bool) -> Self {
        self.pool = self.pool.ceil_mode(ceil);
        self
    }

    /// Sets whether a mean counts the padding as zeros; it does unless said otherwise.
    pub fn count_include_pad(mut self, include: bool) -> Self {
        self.pool = self.pool.count_include_pad(include);
        self
    }

    /// Sets what a mean divides by instead of the number of elements.
    pub fn divisor_override(mut self, divisor: usize) -> Self {
        self.pool = self.pool.divisor_override(divisor);
        self
    }
}

impl<T: Float, const D: usize> Layer<T> for AvgPool<D> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let name = name::<D>(["avg_pool", "avg_pool1d", "avg_pool2d", "avg_pool3d"]);
        avg_pool(name, x, &self.pool)
    }
}

/// The p-norm of each window, (Σ xᵖ)^(1/p); see [`Tensor::lp_pool2d`].
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::LPPool1d;
/// let x: Tensor = Tensor::from([[3.0, 4.0, 0.0, 5.0]]);
/// assert_eq!(LPPool1d::new(2.0, 2).forward(&x)?.to_vec(), [5.0, 5.0]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LPPool<const D: usize> {
    /// The exponent.
    pub p: f64,
    /// The windows.
    pub pool: Pool<D>,
}

impl<const D: usize> LPPool<D> {
    /// Pools over these windows; a number, or one for each axis, is a window of that size that moves by its size.
    pub fn new(p: f64, pool: impl Into<Pool<D>>) -> Self {
        LPPool { p, pool: pool.into() }
    }

    /// Sets the step between windows; the window's size unless said otherwise.
    pub fn stride(mut self, stride: impl Into<Sizes<D>>) -> Self {
        self.pool = self.pool.stride(stride);
        self
    }

    /// Sets whether a last window that reaches beyond the edge counts; not unless said otherwise.
    pub fn ceil_mode(mut self, ceil: bool) -> Self {
        self.pool = self.pool.ceil_mode(ceil);
        self
    }
}

impl<T: Float, const D: usize> Layer<T> for LPPool<D> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let name = name::<D>(["lp_pool", "lp_pool1d", "lp_pool2d", "lp_pool3d"]);
        lp_pool(name, x, self.p, &self.pool)
    }
}

/// The largest element of each window along a length.
pub type MaxPool1d = MaxPool<1>;
/// The largest element of each window over height and width.
pub type MaxPool2d = MaxPool<2>;
/// The largest element of each window over depth, height and width.
pub type MaxPool3d = MaxPool<3>;
/// The mean of each window along a length.
pub type AvgPool1d = AvgPool<1>;
/// The mean of each window over height and width.
pub type AvgPool2d = AvgPool<2>;
/// The mean of each window over depth, height and width.
pub type AvgPool3d = AvgPool<3>;
/// The p-norm of each window along a length.
pub type LPPool1d = LPPool<1>;
/// The p-norm of each window over height and width.
pub type LPPool2d = LPPool<2>;
/// The p-norm of each window over depth, height and width.
pub type LPPool3d = LPPool<3>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_reach_the_operation() {
        let x: Tensor<f64> = Tensor::from_fn([1, 7], |i| (i * i) as f64).unwrap();
        let y = |l: &dyn Layer<f64>| l.forward(&x).unwrap().to_vec();
        assert_eq!(y(&MaxPool1d::new(2).stride(3).ceil_mode(true)), [1.0, 16.0, 36.0]);
        assert_eq!(y(&MaxPool1d::new(2).stride(3).dilation(2).padding(1)), [1.0, 16.0, 25.0]);
        let means = y(&AvgPool1d::new(3).stride(5).padding(1));
        // A mean may be a sum times 1/3.
        let close = |(a, b): (&f64, f64)| (a - b).abs() < 1e-14 * b;
        assert!(means.iter().zip([1.0 / 3.0, 77.0 / 3.0]).all(close), "{means:?}");
        assert_eq!(y(&AvgPool1d::new(3).stride(5).divisor_override(1)), [5.0]);
        let volume: Tensor = Tensor::ones([2, 3, 4, 5, 6]).unwrap();
        let shape = |l: &dyn Layer<f32>| l.forward(&volume).unwrap().shape().to_vec();
        assert_eq!(shape(&MaxPool3d::new((1, 2, 3))), [2, 3, 4, 2, 2]);
        assert_eq!(shape(&AvgPool3d::new(2).stride(1)), [2, 3, 3, 4, 5]);
        assert_eq!(shape(&LPPool3d::new(1.0, 2).ceil_mode(true)), [2, 3, 2, 3, 3]);
    }
}
