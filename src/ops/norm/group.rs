//! Group and instance normalisation.

use super::batch::channels;
use super::check;
use super::planes::{Arranged, SHORT, Share, Then, plane_norm};
use super::rows::layer_norm;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::tensor::{Dims, Tensor};

/// [`Tensor::group_norm`] under another name in errors.
pub(crate) fn group_norm<T: Float>(
    op: &'static str,
    x: &Tensor<T>,
    groups: usize,
    affine: [Option<&Tensor<T>>; 2],
    eps: f64,
) -> Result<Tensor<T>> {
    let c = channels(op, x)?;
    check(op, affine, &[c], eps)?;
    if groups == 0 || c % groups != 0 {
        let message = format!("{groups} groups do not divide the {c} channels");
        return Err(Error::argument(op, message));
    }
    let (n, s) = (x.shape()[0], x.shape()[2..].iter().product::<usize>());
    if n * (c / groups) * s == 1 {
        let message = format!(
            "more than one value for each channel is needed, but the input has shape {:?}",
            x.shape()
        );
        return Err(Error::shape(op, message));
    }
    if s >= SHORT {
        let share = Share::Groups(groups);
        let stats = Arranged::new(x, share).statistics(share).0;
        return plane_norm(op, x, affine, share, stats, eps, Then::default());
    }
    // The planes are too short for loops over each; the groups are rows.
    let n = n * groups;
    let rows = x.reshape([n, c / groups * s])?;
    let mut y = layer_norm(op, &rows, &[c / groups * s], [None; 2], eps)?.reshape(x.shape())?;
    let shape: Dims = [c].into_iter().chain(x.shape()[2..].iter().map(|_| 1)).collect();
    if let Some(w) = affine[0] {
        y = y.try_mul(&w.reshape(&shape)?)?;
    }
    if let Some(b) = affine[1] {
        y = y.try_add(&b.reshape(&shape)?)?;
    }
    Ok(y)
}

/// [`Tensor::instance_norm`] under another name in errors.
pub(crate) fn instance_norm<T: Float>(
    op: &'static str,
    x: &Tensor<T>,
    affine: [Option<&Tensor<T>>; 2],
    eps: f64,
) -> Result<Tensor<T>> {
    let c = channels(op, x)?;
    if x.shape()[2..].iter().product::<usize>() == 1 {
        let message = format!(
            "more than one value for each channel of a sample is needed, but the input has shape {:?}",
            x.shape()
        );
        return Err(Error::shape(op, message));
    }
    group_norm(op, x, c.max(1), affine, eps)
}

/// Mean, and variance divided by n - 1, of each channel of each sample, averaged over the samples.
pub(crate) fn instance_stats<T: Float>(x: &Tensor<T>) -> [Tensor<T>; 2] {
    let (n, c) = (x.shape()[0], x.shape()[1]);
    let share = Share::Groups(c.max(1));
    let (stats, count) = Arranged::new(x, share).statistics(share);
    let unbiased = count as f64 / (count as f64 - 1.0);
    [(0, 1.0), (1, unbiased)].map(|(k, scale)| {
        Tensor::build(&[c], |out| {
            for (i, o) in out.iter_mut().enumerate() {
                let total: f64 = stats[i..].iter().step_by(c).map(|s| s[k]).sum();
                *o = T::of(scale * total / n as f64);
            }
        })
    })
}

impl<T: Float> Tensor<T> {
    /// Group normalisation of \[batch, channels, ..\] (Wu and He, 2018): y = (x - m) / √(v + ε) · w + b, with the mean m and the variance v
    /// (divided by n) of each sample and each of `groups` groups of neighbouring channels; weight and bias have a number for each channel.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 3.0, 10.0, 30.0]]);
    /// assert_eq!(x.group_norm(2, None, None, 0.0)?.to_vec(), [-1.0, 1.0, -1.0, 1.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if there are fewer than two axes, a shape does not fit or there is only one value; [`Error::Argument`] for groups
    /// that do not divide the channels and for a negative `eps`.
    pub fn group_norm(
        &self,
        groups: usize,
        weight: Option<&Tensor<T>>,
        bias: Option<&Tensor<T>>,
        eps: f64,
    ) -> Result<Tensor<T>> {
        group_norm("group_norm", self, groups, [weight, bias], eps)
    }

    /// Instance normalisation of \[batch, channels, ..\] (Ulyanov et al., 2016): y = (x - m) / √(v + ε) · w + b, with the mean m and the
    /// variance v (divided by n) of each channel of each sample.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[[1.0, 3.0], [10.0, 30.0]]]);
    /// assert_eq!(x.instance_norm(None, None, 0.0)?.to_vec(), [-1.0, 1.0, -1.0, 1.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if there are fewer than two axes, a shape does not fit or a channel of a sample has only one value;
    /// [`Error::Argument`] for a negative `eps`.
    pub fn instance_norm(
        &self,
        weight: Option<&Tensor<T>>,
        bias: Option<&Tensor<T>>,
        eps: f64,
    ) -> Result<Tensor<T>> {
        instance_norm("instance_norm", self, [weight, bias], eps)
    }
}
