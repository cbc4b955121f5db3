//! The mean of each window.

use super::params::{Pool, Pool1d, Pool2d, Pool3d};
use super::slice;
use crate::autograd::{Op, apply};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::pool::{self, Means};
use crate::tensor::{Dims, Tensor};

impl<T: Float> Tensor<T> {
    /// The mean of each window of the last two axes. See [`Pool2d`] for what counts at the edges.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[[1.0, 2.0], [3.0, 6.0]]]);
    /// assert_eq!(x.avg_pool2d(2)?.to_vec(), [3.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`max_pool2d`](Self::max_pool2d); [`Error::Argument`] also for a dilation or a divisor of 0.
    pub fn avg_pool2d(&self, pool: impl Into<Pool2d>) -> Result<Tensor<T>> {
        avg_pool("avg_pool2d", self, &pool.into())
    }

    /// [`avg_pool2d`](Self::avg_pool2d) along the last axis of \[batch, channels, length\] or \[channels, length\].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 2.0, 0.0, 5.0, 1.0]]);
    /// assert_eq!(x.avg_pool1d(2)?.to_vec(), [1.5, 2.5]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`avg_pool2d`](Self::avg_pool2d).
    pub fn avg_pool1d(&self, pool: impl Into<Pool1d>) -> Result<Tensor<T>> {
        avg_pool("avg_pool1d", self, &pool.into())
    }

    /// [`avg_pool2d`](Self::avg_pool2d) over the last three axes of \[batch, channels, depth, height, width\], with or without a batch.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::arange(0.0, 8.0, 1.0)?.reshape([1, 2, 2, 2])?;
    /// assert_eq!(x.avg_pool3d(2)?.to_vec(), [3.5]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`avg_pool2d`](Self::avg_pool2d).
    pub fn avg_pool3d(&self, pool: impl Into<Pool3d>) -> Result<Tensor<T>> {
        avg_pool("avg_pool3d", self, &pool.into())
    }

    /// The p-norm of each window: (Σ xᵖ)^(1/p), as PyTorch without absolute values. Of the pool, size, stride and ceil mode count.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([3.0, 4.0, 0.0, 5.0]).reshape([1, 4])?;
    /// assert_eq!(x.lp_pool1d(2.0, 2)?.to_vec(), [5.0, 5.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`avg_pool2d`](Self::avg_pool2d); [`Error::Argument`] for p = 0.
    pub fn lp_pool1d(&self, p: f64, pool: impl Into<Pool1d>) -> Result<Tensor<T>> {
        lp_pool("lp_pool1d", self, p, &pool.into())
    }

    /// The p-norm of each window: (Σ xᵖ)^(1/p), as PyTorch without absolute values. Of the pool, size, stride and ceil mode count.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([3.0, 4.0, 0.0, 5.0]).reshape([1, 1, 4])?;
    /// assert_eq!(x.lp_pool2d(2.0, (1, 2))?.to_vec(), [5.0, 5.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`avg_pool2d`](Self::avg_pool2d); [`Error::Argument`] for p = 0.
    pub fn lp_pool2d(&self, p: f64, pool: impl Into<Pool2d>) -> Result<Tensor<T>> {
        lp_pool("lp_pool2d", self, p, &pool.into())
    }

    /// The p-norm of each window: (Σ xᵖ)^(1/p), as PyTorch without absolute values. Of the pool, size, stride and ceil mode count.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([3.0, 4.0, 0.0, 5.0]).reshape([1, 1, 1, 4])?;
    /// assert_eq!(x.lp_pool3d(2.0, (1, 1, 2))?.to_vec(), [5.0, 5.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`avg_pool2d`](Self::avg_pool2d); [`Error::Argument`] for p = 0.
    pub fn lp_pool3d(&self, p: f64, pool: impl Into<Pool3d>) -> Result<Tensor<T>> {
        lp_pool("lp_pool3d", self, p, &pool.into())
    }
}

/// The means of windows over `D` axes.
pub(crate) fn avg_pool<T: Float, const D: usize>(
    name: &'static str,
    x: &Tensor<T>,
    pool: &Pool<D>,
) -> Result<Tensor<T>> {
    if pool.dilation != [1; D] {
        return Err(Error::argument(
            name,
            format!("a mean has no dilation, got {:?}", pool.dilation),
        ));
    }
    if pool.divisor_override == Some(0) {
        return Err(Error::argument(name, "the divisor must be at least 1, got 0"));
    }
    let passes = pool.passes(name, x.shape())?;
    let last = passes.len() - 1;
    let mut y = x.clone();
    for (i, (w, out)) in passes.into_iter().enumerate() {
        let means = Means {
            planes: w.planes,
            input: w.input,
            rows: pool.stretches(&w, 0),
            cols: pool.stretches(&w, 1),
            // Sums until the last pass, which divides.
            divisor: pool.divisor_override.map(|d| if i == last { d } else { 1 }),
        };
        y = apply(MeanPool { name, means, out, shape: y.shape().into() }, [&y])?;
    }
    Ok(y)
}

/// The p-norms of windows over `D` axes.
pub(crate) fn lp_pool<T: Float, const D: usize>(
    name: &'static str,
    x: &Tensor<T>,
    p: f64,
    pool: &Pool<D>,
) -> Result<Tensor<T>> {
    if p == 0.0 || p.is_nan() {
        return Err(Error::argument(name, format!("the norm p must not be 0 or NaN, got {p}")));
    }
    let plain = Pool { padding: [0; D], count_include_pad: true, divisor_override: None, ..*pool };
    let size: f64 = pool.kernel.iter().map(|&k| k as f64).product();
    let mean = avg_pool(name, &x.powf(T::of(p)), &plain)?;
    Ok(mean.mul_scalar(T::of(size)).powf(T::of(1.0 / p)))
}

#[derive(Clone)]
pub(super) struct MeanPool {
    pub name: &'static str,
    pub means: Means,
    pub out: Dims,
    pub shape: Dims,
}

impl<T: Float> Op<T, 1> for MeanPool {
    type Saved = ();

    fn name(&self) -> &'static str {
        self.name
    }

    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, ())> {
        let x = x.dense();
        let y = Tensor::try_build(self.name, &self.out, |y| pool::mean(&self.means, slice(&x), y))?;
        Ok((y, ()))
    }

    fn vjp(&self, _: (), g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        let g = g.dense();
        Ok([Some(Tensor::build(&self.shape, |dx| pool::mean_grad(&self.means, slice(&g), dx)))])
    }

    fn vjp_recorded(&self, (): (), g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        Ok([Some(apply(MeanPoolBack(self.clone()), [&g])?)])
    }
}

/// The gradient of [`MeanPool`], a linear function of g, whose own gradient is the pooling.
struct MeanPoolBack(MeanPool);

impl<T: Float> Op<T, 1> for MeanPoolBack {
    type Saved = ();
    const COMPOSED: bool = true;

    fn name(&self) -> &'static str {
        self.0.name
    }

    fn forward(&self, [g]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, ())> {
        let [dx] = self.0.vjp((), g.detach(), [true])?;
        Ok((dx.unwrap_or_else(|| g.clone()), ()))
    }

    fn vjp(&self, (): (), h: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        Ok([Some(apply(self.0.clone(), [&h])?)])
    }
}
