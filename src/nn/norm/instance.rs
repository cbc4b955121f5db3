//! Instance normalisation as a layer.

use std::marker::PhantomData;

use super::{check, move_towards, param, within};
use crate::Module;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::nn::{Buffer, Layer, Mode, Param};
use crate::ops::norm;
use crate::tensor::Tensor;

/// Instance normalisation of inputs with `D` axes behind the channels, with or without a batch before them (Ulyanov et al., 2016):
/// y = (x - m) / √(v + ε) · w + b for each channel of each sample.
///
/// As in PyTorch there are no weight, no bias and no running averages unless asked for. With running averages, training normalises by each
/// sample's own statistics and moves the averages towards their mean over the batch, and evaluating normalises by the averages.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::InstanceNorm2d;
/// let norm: InstanceNorm2d = InstanceNorm2d::new(3).build()?;
/// let x = Tensor::randn([8, 3, 5, 5], &mut gradus::rng(0))?.add_scalar(4.0);
/// assert!(norm.forward(&x)?.mean().item()?.abs() < 1e-5);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct InstanceNorm<const D: usize, T: Float = f32> {
    /// w: \[channels\].
    pub weight: Option<Param<T>>,
    /// b: \[channels\].
    pub bias: Option<Param<T>>,
    /// The running mean: \[channels\].
    pub running_mean: Option<Buffer<T>>,
    /// The running variance: \[channels\].
    pub running_var: Option<Buffer<T>>,
    /// Always 0, as in PyTorch; it stands in the checkpoints.
    pub num_batches_tracked: Option<Buffer<i64>>,
    channels: usize,
    eps: f64,
    momentum: f64,
    mode: Mode,
}

/// Instance normalisation of \[batch, channels, length\] or \[channels, length\].
pub type InstanceNorm1d<T = f32> = InstanceNorm<1, T>;
/// Instance normalisation of \[batch, channels, height, width\] or \[channels, height, width\].
pub type InstanceNorm2d<T = f32> = InstanceNorm<2, T>;
/// Instance normalisation of \[batch, channels, depth, height, width\] or the same without a batch.
pub type InstanceNorm3d<T = f32> = InstanceNorm<3, T>;

/// The name that errors show.
const NAMES: [&str; 4] = ["InstanceNorm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"];

impl<const D: usize, T: Float> InstanceNorm<D, T> {
    const NAME: &str = NAMES[if D < 4 { D } else { 0 }];

    /// Starts a layer for so many channels.
    #[allow(clippy::new_ret_no_self)] // As the other layers: options come before the layer is made.
    pub fn new(channels: usize) -> InstanceNormBuilder<D, T> {
        InstanceNormBuilder {
            channels,
            eps: 1e-5,
            momentum: 0.1,
            affine: false,
            track: false,
            element: PhantomData,
        }
    }

    fn run(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let at = x.rank().checked_sub(D + 1).filter(|&at| at <= 1);
        if at.is_none_or(|at| x.shape()[at] != self.channels) {
            let message = format!(
                "the input has shape {:?}, but must be [batch, {1}] or [{1}], with {D} axes behind",
                x.shape(),
                self.channels
            );
            return Err(Error::shape(Self::NAME, message));
        }
        if at == Some(0) {
            return self.batched(&x.unsqueeze(0)?)?.squeeze(0);
        }
        self.batched(x)
    }

    fn batched(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let affine = [self.weight.as_deref(), self.bias.as_deref()];
        let (Some(mean), Some(var)) = (&self.running_mean, &self.running_var) else {
            return norm::instance_norm(Self::NAME, x, affine, self.eps);
        };
        if !self.mode.is_training() {
            let stats = [&mean.get(), &var.get()];
            return norm::batch_norm_with(
                Self::NAME,
                x,
                stats,
                affine,
                self.eps,
                norm::Then::default(),
            );
        }
        let y = norm::instance_norm(Self::NAME, x, affine, self.eps)?;
        if !x.is_empty() {
            let [new_mean, new_var] = norm::instance_stats(x);
            move_towards(mean, &new_mean, self.momentum);
            move_towards(var, &new_var, self.momentum);
        }
        Ok(y)
    }
}

impl<const D: usize, T: Float> Layer<T> for InstanceNorm<D, T> {
    /// # Errors
    /// [`Error::Shape`] for an input of other axes or channels, or with a single value in each channel of a sample.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        within([&self.weight, &self.bias], || self.run(x))
    }
}

/// What an [`InstanceNorm`] will be.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::InstanceNorm1d;
/// let norm: InstanceNorm1d = InstanceNorm1d::new(16).affine(true).build()?;
/// assert_eq!(norm.num_params(), 32);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "call build() to get the layer"]
pub struct InstanceNormBuilder<const D: usize, T: Float = f32> {
    channels: usize,
    eps: f64,
    momentum: f64,
    affine: bool,
    track: bool,
    element: PhantomData<T>,
}

impl<const D: usize, T: Float> InstanceNormBuilder<D, T> {
    /// What is added to the variance; 1e-5 unless said otherwise.
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// How far the running averages move towards each batch; 0.1 unless said otherwise.
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// Whether there are a weight and a bias; there are none unless said otherwise.
    pub fn affine(mut self, affine: bool) -> Self {
        self.affine = affine;
        self
    }

    /// Whether there are running averages; there are none unless said otherwise.
    pub fn track_running_stats(mut self, track: bool) -> Self {
        self.track = track;
        self
    }

    /// The layer: weight 1, bias 0, running mean 0, running variance 1, as far as there are any.
    ///
    /// # Errors
    /// [`Error::Argument`] for a negative `eps` or a momentum outside 0 to 1, [`Error::Overflow`] if the channels do not fit in memory.
    pub fn build(self) -> Result<InstanceNorm<D, T>> {
        check(InstanceNorm::<D, T>::NAME, self.eps, Some(self.momentum))?;
        let shape = [self.channels];
        let buffer = |value: f64| match self.track {
            true => Ok(Some(Buffer::new(Tensor::full(shape, T::of(value))?))),
            false => Ok(None),
        };
        Ok(InstanceNorm {
            weight: param(self.affine, &shape, 1.0)?,
            bias: param(self.affine, &shape, 0.0)?,
            running_mean: buffer(0.0)?,
            running_var: buffer(1.0)?,
            num_batches_tracked: self.track.then(|| Buffer::new(Tensor::scalar(0))),
            channels: self.channels,
            eps: self.eps,
            momentum: self.momentum,
            mode: Mode::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;

    #[test]
    fn running_averages_are_those_of_the_samples() {
        let norm = InstanceNorm1d::<f64>::new(1)
            .track_running_stats(true)
            .momentum(0.5)
            .eps(0.0)
            .build()
            .unwrap();
        let x = Tensor::from([[[1.0, 3.0]], [[10.0, 14.0]]]);
        let y = Tape::new(0).watch(&norm).forward(&x).unwrap();
        assert_eq!(y.to_vec(), [-1.0, 1.0, -1.0, 1.0]);
        let get = |b: &Option<Buffer<f64>>| b.as_ref().unwrap().get().to_vec();
        // Means 2 and 12, variances (divided by n - 1) 2 and 8.
        assert_eq!(get(&norm.running_mean), [3.5]);
        assert_eq!(get(&norm.running_var), [0.5 + 0.5 * 5.0]);
        let y = norm.forward(&x).unwrap();
        assert!((y.get([0, 0, 0]).unwrap() + 2.5 / 3f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn with_and_without_a_batch() {
        let norm = InstanceNorm2d::<f64>::new(2).affine(true).build().unwrap();
        let x = Tensor::from_fn([1, 2, 3, 4], |i| (i * i % 11) as f64).unwrap();
        let y = norm.forward(&x).unwrap();
        assert_eq!(norm.forward(&x.squeeze(0).unwrap()).unwrap(), y.squeeze(0).unwrap());
        assert_eq!(norm.forward(&Tensor::zeros([0, 2, 3, 4]).unwrap()).unwrap().len(), 0);
        let e = norm.forward(&Tensor::zeros([3, 4, 4]).unwrap()).unwrap_err().to_string();
        assert_eq!(
            e,
            "InstanceNorm2d: the input has shape [3, 4, 4], but must be [batch, 2] or [2], with 2 axes behind"
        );
        assert!(norm.forward(&Tensor::zeros([1, 2, 1, 1]).unwrap()).is_err());
        assert!(norm.forward(&Tensor::zeros([2]).unwrap()).is_err());
    }
}
