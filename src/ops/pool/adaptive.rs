//! As many windows as are asked for, as equal as possible: window `i` of `n` covers ⌊i·size/n⌋ to ⌈(i+1)·size/n⌉.

use super::mean::MeanPool;
use super::params::{Pass, passes, spatial};
use super::slice;
use crate::autograd::apply;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::pool::{self, Means, Stretch};
use crate::ops::window::{Sizes, check_most, check_sizes};
use crate::tensor::{Tensor, numel};

impl<T: Float> Tensor<T> {
    /// The means of as many windows as are asked for (a number or a pair: height, width), as equal as possible: window `i` of `n` covers
    /// ⌊i·size/n⌋ to ⌈(i+1)·size/n⌉.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[[1.0, 2.0, 6.0]]]);
    /// assert_eq!(x.adaptive_avg_pool2d((1, 2))?.to_vec(), [1.5, 4.0]);
    /// assert_eq!(x.adaptive_avg_pool2d(1)?.to_vec(), [3.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] for another rank or an input without pixels, [`Error::Argument`] for a size of 0.
    pub fn adaptive_avg_pool2d(&self, size: impl Into<Sizes<2>>) -> Result<Tensor<T>> {
        adaptive_avg_pool("adaptive_avg_pool2d", self, size.into().0)
    }

    /// [`adaptive_avg_pool2d`](Self::adaptive_avg_pool2d) along the last axis of \[batch, channels, length\] or \[channels, length\].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 2.0, 6.0]]);
    /// assert_eq!(x.adaptive_avg_pool1d(2)?.to_vec(), [1.5, 4.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`adaptive_avg_pool2d`](Self::adaptive_avg_pool2d).
    pub fn adaptive_avg_pool1d(&self, size: usize) -> Result<Tensor<T>> {
        adaptive_avg_pool("adaptive_avg_pool1d", self, [size])
    }

    /// [`adaptive_avg_pool2d`](Self::adaptive_avg_pool2d) over the last three axes.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::ones([2, 8, 5, 6, 7])?;
    /// assert_eq!(x.adaptive_avg_pool3d((1, 2, 3))?.shape(), [2, 8, 1, 2, 3]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`adaptive_avg_pool2d`](Self::adaptive_avg_pool2d).
    pub fn adaptive_avg_pool3d(&self, size: impl Into<Sizes<3>>) -> Result<Tensor<T>> {
        adaptive_avg_pool("adaptive_avg_pool3d", self, size.into().0)
    }

    /// The maxima of as many windows as are asked for, and where in its plane each stands. Windows as in
    /// [`adaptive_avg_pool2d`](Self::adaptive_avg_pool2d); the first of equals, and a NaN over everything.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[[1.0, 2.0, 6.0]]]);
    /// let (y, index) = x.adaptive_max_pool2d((1, 2))?;
    /// assert_eq!((y.to_vec(), index.to_vec()), (vec![2.0, 6.0], vec![1, 2]));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`adaptive_avg_pool2d`](Self::adaptive_avg_pool2d).
    pub fn adaptive_max_pool2d(
        &self,
        size: impl Into<Sizes<2>>,
    ) -> Result<(Tensor<T>, Tensor<i64>)> {
        adaptive_max_pool("adaptive_max_pool2d", self, size.into().0)
    }

    /// [`adaptive_max_pool2d`](Self::adaptive_max_pool2d) along the last axis of \[batch, channels, length\] or \[channels, length\].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[7.0, 2.0, 6.0]]);
    /// let (y, index) = x.adaptive_max_pool1d(2)?;
    /// assert_eq!((y.to_vec(), index.to_vec()), (vec![7.0, 6.0], vec![0, 2]));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`adaptive_avg_pool2d`](Self::adaptive_avg_pool2d).
    pub fn adaptive_max_pool1d(&self, size: usize) -> Result<(Tensor<T>, Tensor<i64>)> {
        adaptive_max_pool("adaptive_max_pool1d", self, [size])
    }

    /// [`adaptive_max_pool2d`](Self::adaptive_max_pool2d) over the last three axes.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::arange(0.0, 8.0, 1.0)?.reshape([1, 2, 2, 2])?;
    /// let (y, index) = x.adaptive_max_pool3d((1, 2, 1))?;
    /// assert_eq!((y.to_vec(), index.to_vec()), (vec![5.0, 7.0], vec![5, 7]));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`adaptive_avg_pool2d`](Self::adaptive_avg_pool2d).
    pub fn adaptive_max_pool3d(
        &self,
        size: impl Into<Sizes<3>>,
    ) -> Result<(Tensor<T>, Tensor<i64>)> {
        adaptive_max_pool("adaptive_max_pool3d", self, size.into().0)
    }
}

/// The passes to an output of this size.
fn checked<const D: usize>(
    op: &'static str,
    x: &[usize],
    size: [usize; D],
    what: &str,
) -> Result<impl Iterator<Item = Pass> + use<D>> {
    let input = spatial::<D>(op, x)?;
    check_sizes(op, &[("output size", &size)])?;
    if input.contains(&0) {
        return Err(Error::shape(op, format!("the input {x:?} has no pixels to take a {what} of")));
    }
    check_most(op, "input size", &input)?;
    let passes = passes(x, size);
    passes.iter().try_for_each(|p| numel(op, &p.shape).map(|_| ()))?;
    Ok(passes.into_iter())
}

/// The stretches along an axis of a pass; one for each element where nothing moves.
fn stretches(p: &Pass, i: usize) -> Vec<Stretch> {
    let (n, m) = (p.input[i], p.out[i]);
    let stretch = |o: usize| match p.axes[i] {
        None => Stretch { start: o, end: o + 1, count: 1 },
        Some(_) => {
            let (start, end) = (o * n / m, ((o + 1) * n).div_ceil(m));
            Stretch { start, end, count: end - start }
        }
    };
    (0..m).map(stretch).collect()
}

/// The means of windows over `D` axes.
pub(crate) fn adaptive_avg_pool<T: Float, const D: usize>(
    name: &'static str,
    x: &Tensor<T>,
    size: [usize; D],
) -> Result<Tensor<T>> {
    checked(name, x.shape(), size, "mean")?.try_fold(x.clone(), |x, p| {
        let (rows, cols) = (stretches(&p, 0), stretches(&p, 1));
        let means = Means { planes: p.planes, input: p.input, rows, cols, divisor: None };
        apply(MeanPool { name, means, out: p.shape, shape: x.shape().into() }, [&x])
    })
}

/// The maxima of windows over `D` axes, and their places.
pub(crate) fn adaptive_max_pool<T: Float, const D: usize>(
    name: &'static str,
    x: &Tensor<T>,
    size: [usize; D],
) -> Result<(Tensor<T>, Tensor<i64>)> {
    let whole: usize = x.shape()[x.rank().saturating_sub(D)..].iter().product();
    let mut y = x.clone();
    let mut at: Option<Vec<i64>> = None;
    for p in checked(name, x.shape(), size, "maximum")? {
        let (n, m) = (p.input[0] * p.input[1], p.out[0] * p.out[1]);
        let means = Means {
            planes: p.planes,
            input: p.input,
            rows: stretches(&p, 0),
            cols: stretches(&p, 1),
            divisor: None,
        };
        let dense = y.dense();
        let index = Tensor::build(&[p.planes, m], |i| pool::max_of(&means, slice(&dense), i));
        y = y.reshape([p.planes, n])?.gather(1, &index)?.reshape(&p.shape)?;
        let global = slice(&index).iter().enumerate().map(|(q, &i)| (q / m * n) as i64 + i);
        at = Some(match at {
            None => global.collect(),
            Some(before) => global.map(|i| before[i as usize]).collect(),
        });
    }
    let at = at.unwrap_or_default();
    let index = Tensor::build(y.shape(), |out| {
        out.iter_mut().zip(&at).for_each(|(o, i)| *o = i % whole.max(1) as i64);
    });
    Ok((y, index))
}
