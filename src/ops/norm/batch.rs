//! Batch normalisation.

use super::planes::{Arranged, Share, Then, plane_norm};
use super::{check, slice};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::tensor::Tensor;

/// The statistics of a batch, one of each for each channel. They are values: gradients do not flow through them.
#[derive(Clone, Debug)]
pub struct BatchStats<T: Float = f32> {
    /// The means.
    pub mean: Tensor<T>,
    /// The variances, the squares divided by the count.
    pub var: Tensor<T>,
    /// The elements of each channel.
    pub count: usize,
    /// Both in f64, which lose nothing when they are used.
    exact: Vec<[f64; 2]>,
}

impl<T: Float> BatchStats<T> {
    fn of(x: &Tensor<T>) -> Self {
        let (exact, count) = Arranged::new(x, Share::Batch).statistics(Share::Batch);
        let pick = |k: usize| {
            Tensor::build(&[exact.len()], |out| {
                out.iter_mut().zip(&exact).for_each(|(o, s)| *o = T::of(s[k]));
            })
        };
        BatchStats { mean: pick(0), var: pick(1), count, exact }
    }

    /// The estimates of the variance of what the batch was drawn from: the squares divided by the count less one.
    pub fn var_unbiased(&self) -> Tensor<T> {
        let n = self.count as f64;
        Tensor::build(self.var.shape(), |out| {
            out.iter_mut().zip(&self.exact).for_each(|(o, s)| *o = T::of(s[1] * (n / (n - 1.0))));
        })
    }
}

/// Refuses what has no channels.
pub(super) fn channels<T: Float>(op: &'static str, x: &Tensor<T>) -> Result<usize> {
    match x.shape() {
        [_, c, ..] => Ok(*c),
        shape => Err(Error::shape(
            op,
            format!("the input has shape {shape:?}, but must be [batch, channels, ..]"),
        )),
    }
}

/// The statistics of a batch, of at least two values for each channel.
fn batch_stats<T: Float>(op: &'static str, x: &Tensor<T>) -> Result<BatchStats<T>> {
    channels(op, x)?;
    let (n, s) = (x.shape()[0], x.shape()[2..].iter().product::<usize>());
    if n * s == 1 {
        return Err(Error::shape(
            op,
            format!(
                "more than one value for each channel is needed to train, but the input has shape {:?}; use a larger batch",
                x.shape()
            ),
        ));
    }
    Ok(BatchStats::of(x))
}

/// [`Tensor::batch_norm`] under another name in errors.
pub(crate) fn batch_norm<T: Float>(
    op: &'static str,
    x: &Tensor<T>,
    affine: [Option<&Tensor<T>>; 2],
    eps: f64,
    then: Then<T>,
) -> Result<(Tensor<T>, BatchStats<T>)> {
    check(op, affine, &[channels(op, x)?], eps)?;
    let stats = batch_stats(op, x)?;
    Ok((plane_norm(op, x, affine, Share::Batch, stats.exact.clone(), eps, then)?, stats))
}

/// [`Tensor::batch_norm_with`] under another name in errors.
pub(crate) fn batch_norm_with<T: Float>(
    op: &'static str,
    x: &Tensor<T>,
    [mean, var]: [&Tensor<T>; 2],
    affine: [Option<&Tensor<T>>; 2],
    eps: f64,
    then: Then<T>,
) -> Result<Tensor<T>> {
    let c = channels(op, x)?;
    check(op, affine, &[c], eps)?;
    for (what, t) in [("mean", mean), ("variance", var)] {
        if t.shape() != [c] {
            let message = format!("the {what} has shape {:?}; expected [{c}]", t.shape());
            return Err(Error::shape(op, message));
        }
    }
    let (mean, var) = (mean.dense(), var.dense());
    let both = slice(&mean).iter().zip(slice(&var));
    let stats = both.map(|(m, v)| [m.as_f64(), v.as_f64()]).collect();
    plane_norm(op, x, affine, Share::Given, stats, eps, then)
}

impl<T: Float> Tensor<T> {
    /// Batch normalisation of \[batch, channels, ..\] by the statistics of this batch (Ioffe and Szegedy, 2015): y = (x - m) / √(v + ε) · w + b,
    /// with the mean m and the variance v (divided by n) of each channel. Also returns m and v, for running averages of them.
    ///
    /// In models, the layers [`BatchNorm1d`](crate::nn::BatchNorm1d) and so on keep those.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 10.0], [3.0, 30.0]]);
    /// let (y, stats) = x.batch_norm(None, None, 0.0)?;
    /// assert_eq!(y.to_vec(), [-1.0, -1.0, 1.0, 1.0]);
    /// assert_eq!((stats.mean.to_vec(), stats.var.to_vec()), (vec![2.0, 20.0], vec![1.0, 100.0]));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if there are fewer than two axes, if a shape does not fit, or if there is one value for each channel;
    /// [`Error::Argument`] for a negative `eps`.
    pub fn batch_norm(
        &self,
        weight: Option<&Tensor<T>>,
        bias: Option<&Tensor<T>>,
        eps: f64,
    ) -> Result<(Tensor<T>, BatchStats<T>)> {
        batch_norm("batch_norm", self, [weight, bias], eps, Then::default())
    }

    /// Batch normalisation by a given mean and variance of each channel, which are constants to the gradient: y = (x - m) / √(v + ε) · w + b.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 10.0], [3.0, 30.0]]);
    /// let (mean, var) = (Tensor::from([1.0, 10.0]), Tensor::from([4.0, 4.0]));
    /// assert_eq!(x.batch_norm_with(&mean, &var, None, None, 0.0)?.to_vec(), [0.0, 0.0, 1.0, 10.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if there are fewer than two axes or a shape does not fit, [`Error::Argument`] for a negative `eps`.
    pub fn batch_norm_with(
        &self,
        mean: &Tensor<T>,
        var: &Tensor<T>,
        weight: Option<&Tensor<T>>,
        bias: Option<&Tensor<T>>,
        eps: f64,
    ) -> Result<Tensor<T>> {
        let then = Then::default();
        batch_norm_with("batch_norm_with", self, [mean, var], [weight, bias], eps, then)
    }
}

#[cfg(test)]
#[path = "planes_tests.rs"]
mod tests;
