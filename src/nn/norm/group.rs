//! Group normalisation as a layer.

use std::marker::PhantomData;

use super::{check, param, within};
use crate::Module;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::nn::{Layer, Param};
use crate::ops::norm;
use crate::tensor::Tensor;

/// Group normalisation of \[batch, channels, ..\] (Wu and He, 2018): y = (x - m) / √(v + ε) · w + b, with mean and variance of each sample and each
/// group of neighbouring channels. The same whether it trains or not.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::GroupNorm;
/// let norm: GroupNorm = GroupNorm::new(4, 16).build()?;
/// assert_eq!(norm.forward(&Tensor::zeros([2, 16, 8, 8])?)?.shape(), [2, 16, 8, 8]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct GroupNorm<T: Float = f32> {
    /// w: \[channels\].
    pub weight: Option<Param<T>>,
    /// b: \[channels\].
    pub bias: Option<Param<T>>,
    groups: usize,
    channels: usize,
    eps: f64,
}

impl<T: Float> GroupNorm<T> {
    /// Starts a layer of so many groups of so many channels.
    #[allow(clippy::new_ret_no_self)] // As the other layers: options come before the layer is made.
    pub fn new(groups: usize, channels: usize) -> GroupNormBuilder<T> {
        GroupNormBuilder { groups, channels, eps: 1e-5, affine: true, element: PhantomData }
    }

    fn run(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        if x.shape().get(1) != Some(&self.channels) {
            let message = format!(
                "the input has shape {:?}, but must be [batch, {}, ..]",
                x.shape(),
                self.channels
            );
            return Err(Error::shape("GroupNorm", message));
        }
        let affine = [self.weight.as_deref(), self.bias.as_deref()];
        norm::group_norm("GroupNorm", x, self.groups, affine, self.eps)
    }
}

impl<T: Float> Layer<T> for GroupNorm<T> {
    /// # Errors
    /// [`Error::Shape`] for an input of other channels, or with a single value altogether.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        within([&self.weight, &self.bias], || self.run(x))
    }
}

/// What a [`GroupNorm`] will be.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::GroupNorm;
/// let norm: GroupNorm = GroupNorm::new(4, 16).eps(1e-6).affine(false).build()?;
/// assert_eq!(norm.num_params(), 0);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "call build() to get the layer"]
pub struct GroupNormBuilder<T: Float = f32> {
    groups: usize,
    channels: usize,
    eps: f64,
    affine: bool,
    element: PhantomData<T>,
}

impl<T: Float> GroupNormBuilder<T> {
    /// What is added to the variance; 1e-5 unless said otherwise.
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// Whether there are a weight and a bias; there are unless said otherwise.
    pub fn affine(mut self, affine: bool) -> Self {
        self.affine = affine;
        self
    }

    /// The layer: weight 1, bias 0.
    ///
    /// # Errors
    /// [`Error::Argument`] for groups that do not divide the channels and for a negative `eps`, [`Error::Overflow`] if the channels do not
    /// fit in memory.
    pub fn build(self) -> Result<GroupNorm<T>> {
        let GroupNormBuilder { groups, channels, eps, affine, .. } = self;
        check("GroupNorm", eps, None)?;
        if groups == 0 || channels % groups != 0 {
            let message = format!("{groups} groups do not divide the {channels} channels");
            return Err(Error::argument("GroupNorm", message));
        }
        let (weight, bias) = (param(affine, &[channels], 1.0)?, param(affine, &[channels], 0.0)?);
        Ok(GroupNorm { weight, bias, groups, channels, eps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand_and_what_does_not_fit() {
        let norm = GroupNorm::<f64>::new(2, 4).eps(0.0).build().unwrap();
        let y = norm.forward(&Tensor::from([[1.0, 3.0, 10.0, 30.0]])).unwrap();
        assert_eq!(y.to_vec(), [-1.0, 1.0, -1.0, 1.0]);
        assert_eq!(norm.forward(&Tensor::zeros([0, 4, 9]).unwrap()).unwrap().shape(), [0, 4, 9]);
        assert_eq!(
            norm.forward(&Tensor::zeros([2, 3]).unwrap()).unwrap_err().to_string(),
            "GroupNorm: the input has shape [2, 3], but must be [batch, 4, ..]"
        );
        assert_eq!(
            GroupNorm::<f32>::new(3, 4).build().unwrap_err().to_string(),
            "GroupNorm: 3 groups do not divide the 4 channels"
        );
    }
}
