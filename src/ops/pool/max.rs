//! The largest element of each window.

use std::sync::{Arc, OnceLock};

use super::params::{Pool, Pool1d, Pool2d, Pool3d};
use super::slice;
use crate::autograd::{Op, apply};
use crate::error::Result;
use crate::float::Float;
use crate::kernel::pool::{self, Windows};
use crate::profile::Span;
use crate::tensor::{Dims, Tensor};

impl<T: Float> Tensor<T> {
    /// The largest element of each window of the last two axes: \[batch, channels, height, width\] or \[channels, height, width\] to the same
    /// with ⌊(size + 2·padding - dilation·(kernel - 1) - 1) / stride⌋ + 1 along each axis. Padding never wins; of equals, the first
    /// in row-major order gets the gradient; a NaN wins over everything.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[[1.0, 2.0, 0.0, 1.0], [3.0, 0.0, 5.0, 1.0]]]);
    /// assert_eq!(x.max_pool2d(2)?, Tensor::from([[[3.0, 5.0]]]));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for another rank or a window larger than the padded input,
    /// [`Error::Argument`](crate::Error::Argument) for zeros or padding of more than half a window.
    pub fn max_pool2d(&self, pool: impl Into<Pool2d>) -> Result<Tensor<T>> {
        max_pool("max_pool2d", self, &pool.into())
    }

    /// [`max_pool2d`](Self::max_pool2d) along the last axis of \[batch, channels, length\] or \[channels, length\].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 2.0, 0.0, 5.0, 1.0]]);
    /// assert_eq!(x.max_pool1d(2)?.to_vec(), [2.0, 5.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`max_pool2d`](Self::max_pool2d).
    pub fn max_pool1d(&self, pool: impl Into<Pool1d>) -> Result<Tensor<T>> {
        max_pool("max_pool1d", self, &pool.into())
    }

    /// [`max_pool2d`](Self::max_pool2d) over the last three axes of \[batch, channels, depth, height, width\], with or without a batch.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::arange(0.0, 64.0, 1.0)?.reshape([1, 4, 4, 4])?;
    /// assert_eq!(x.max_pool3d((4, 2, 2))?.to_vec(), [53.0, 55.0, 61.0, 63.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`max_pool2d`](Self::max_pool2d).
    pub fn max_pool3d(&self, pool: impl Into<Pool3d>) -> Result<Tensor<T>> {
        max_pool("max_pool3d", self, &pool.into())
    }

    /// [`max_pool1d`](Self::max_pool1d), and where in its plane each largest element stands, in row-major order.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([1.0, 2.0, 0.0, 5.0, 1.0, 4.0]).reshape([1, 6])?;
    /// let (y, index) = x.max_pool1d_with_indices(2)?;
    /// assert_eq!(y.to_vec(), [2.0, 5.0, 4.0]);
    /// assert_eq!(index.to_vec(), [1, 3, 5]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`max_pool2d`](Self::max_pool2d).
    pub fn max_pool1d_with_indices(
        &self,
        pool: impl Into<Pool1d>,
    ) -> Result<(Tensor<T>, Tensor<i64>)> {
        with_indices("max_pool1d", self, &pool.into())
    }

    /// [`max_pool2d`](Self::max_pool2d), and where in its plane each largest element stands, in row-major order.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([1.0, 2.0, 0.0, 5.0, 1.0, 4.0]).reshape([1, 1, 6])?;
    /// let (y, index) = x.max_pool2d_with_indices((1, 2))?;
    /// assert_eq!(y.to_vec(), [2.0, 5.0, 4.0]);
    /// assert_eq!(index.to_vec(), [1, 3, 5]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`max_pool2d`](Self::max_pool2d).
    pub fn max_pool2d_with_indices(
        &self,
        pool: impl Into<Pool2d>,
    ) -> Result<(Tensor<T>, Tensor<i64>)> {
        with_indices("max_pool2d", self, &pool.into())
    }

    /// [`max_pool3d`](Self::max_pool3d), and where in its plane each largest element stands, in row-major order.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([1.0, 2.0, 0.0, 5.0, 1.0, 4.0]).reshape([1, 1, 1, 6])?;
    /// let (y, index) = x.max_pool3d_with_indices((1, 1, 2))?;
    /// assert_eq!(y.to_vec(), [2.0, 5.0, 4.0]);
    /// assert_eq!(index.to_vec(), [1, 3, 5]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`max_pool2d`](Self::max_pool2d).
    pub fn max_pool3d_with_indices(
        &self,
        pool: impl Into<Pool3d>,
    ) -> Result<(Tensor<T>, Tensor<i64>)> {
        with_indices("max_pool3d", self, &pool.into())
    }
}

/// The maxima of windows over `D` axes.
pub(crate) fn max_pool<T: Float, const D: usize>(
    name: &'static str,
    x: &Tensor<T>,
    pool: &Pool<D>,
) -> Result<Tensor<T>> {
    let mut y = x.clone();
    for (windows, out) in pool.passes(name, x.shape())? {
        y = if y.is_recorded() {
            apply(MaxPool { name, windows, out, shape: y.shape().into(), seen: None }, [&y])?
        } else {
            // Nobody will ask where the largest elements stood.
            let (span, x) = (Span::open(), y.dense());
            let max = |y: &mut [T]| pool::max::<T, u8>(&windows, slice(&x), y, None);
            let max = Tensor::try_build(name, &out, max)?;
            Span::moved(span, name, &[&y], &max);
            max
        };
    }
    Ok(y)
}

/// The same with the places.
fn with_indices<T: Float, const D: usize>(
    name: &'static str,
    x: &Tensor<T>,
    pool: &Pool<D>,
) -> Result<(Tensor<T>, Tensor<i64>)> {
    let plane: usize = x.shape()[x.rank().saturating_sub(D)..].iter().product();
    let mut y = x.clone();
    let mut at: Option<Vec<i64>> = None;
    for (windows, out) in pool.passes(name, x.shape())? {
        let seen = Arc::new(OnceLock::new());
        let op = MaxPool { name, windows, out, shape: y.shape().into(), seen: Some(seen.clone()) };
        y = apply(op.clone(), [&y])?;
        let pixels = seen.get().map(|places| op.pixels(places)).unwrap_or_default();
        // A pixel of this pass is a window of the one before.
        at = Some(match at {
            None => pixels,
            Some(before) => pixels.into_iter().map(|p| before[p as usize]).collect(),
        });
    }
    let at = at.unwrap_or_default();
    let index = Tensor::build(y.shape(), |out| {
        out.iter_mut().zip(&at).for_each(|(o, p)| *o = p % plane.max(1) as i64);
    });
    Ok((y, index))
}

/// Where in its window each largest element stands, in a byte if that is enough.
type Places = (Option<Tensor<u8>>, Option<Tensor<i64>>);

#[derive(Clone)]
struct MaxPool {
    windows: Windows,
    out: Dims,
    shape: Dims,
    name: &'static str,
    /// Where the places are left for somebody who asks for them.
    seen: Option<Arc<OnceLock<Places>>>,
}

impl MaxPool {
    /// Whether a place in the window fits a byte.
    fn small(&self) -> bool {
        self.windows.kernel[0] * self.windows.kernel[1] <= 256
    }

    /// The number of the pixel, among all of the input, that each output was taken from.
    fn pixels(&self, (bytes, words): &Places) -> Vec<i64> {
        let w = &self.windows;
        let tap: Vec<usize> = match (bytes, words) {
            (Some(p), _) => p.iter().map(usize::from).collect(),
            (_, Some(p)) => p.iter().map(|p| p as usize).collect(),
            _ => Vec::new(),
        };
        let per_plane = (w.out[0] * w.out[1]).max(1);
        let pixel = |(o, k): (usize, usize)| {
            let (plane, o) = (o / per_plane, o % per_plane);
            let row = w.place(0, o / w.out[1], k / w.kernel[1]).unwrap_or(0);
            let col = w.place(1, o % w.out[1], k % w.kernel[1]).unwrap_or(0);
            ((plane * w.input[0] + row) * w.input[1] + col) as i64
        };
        tap.into_iter().enumerate().map(pixel).collect()
    }
}

impl<T: Float> Op<T, 1> for MaxPool {
    /// Where in its window each largest element stands, in a byte if that is enough.
    type Saved = Places;

    fn name(&self) -> &'static str {
        self.name
    }

    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, Self::Saved)> {
        let x = x.dense();
        let w = &self.windows;
        let (mut bytes, mut words) = (None, None);
        let y = Tensor::try_build(self.name, &self.out, |y| {
            if self.small() {
                bytes = Some(Tensor::build(&self.out, |p| pool::max(w, slice(&x), y, Some(p))));
            } else {
                words = Some(Tensor::build(&self.out, |p| pool::max(w, slice(&x), y, Some(p))));
            }
        })?;
        let places = (bytes, words);
        if let Some(seen) = &self.seen {
            // Empty until now: the operation is computed once.
            let _ = seen.set(places.clone());
        }
        Ok((y, places))
    }

    fn vjp(
        &self,
        saved: Self::Saved,
        g: Tensor<T>,
        _: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        let g = g.dense();
        let w = &self.windows;
        Ok([Some(Tensor::build(&self.shape, |dx| match &saved {
            (Some(p), _) => pool::max_grad(w, slice(&g), slice(p), dx),
            (_, Some(p)) => pool::max_grad(w, slice(&g), slice(p), dx),
            _ => dx.fill(T::ZERO),
        }))])
    }

    fn vjp_recorded(
        &self,
        saved: Self::Saved,
        g: Tensor<T>,
        _: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        let op = MaxPoolBack { pool: self.clone(), places: saved };
        Ok([Some(apply(op, [&g])?)])
    }
}

/// The gradient of [`MaxPool`], a linear function of g: its own gradient picks the same places out of h.
struct MaxPoolBack {
    pool: MaxPool,
    places: Places,
}

impl<T: Float> Op<T, 1> for MaxPoolBack {
    type Saved = ();
    const COMPOSED: bool = true;

    fn name(&self) -> &'static str {
        self.pool.name
    }

    fn forward(&self, [g]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, ())> {
        let [dx] = self.pool.vjp(self.places.clone(), g.detach(), [true])?;
        Ok((dx.unwrap_or_else(|| g.clone()), ()))
    }

    fn vjp(&self, (): (), h: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        let whole: usize = self.pool.shape.iter().product();
        let pixels = self.pool.pixels(&self.places);
        let index = Tensor::build(&[pixels.len()], |out| out.copy_from_slice(&pixels));
        let h = h.reshape([whole])?.index_select(0, &index)?;
        Ok([Some(h.reshape(&self.pool.out[..])?)])
    }
}
