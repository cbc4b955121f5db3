//! Batch normalisation as a layer.

use std::marker::PhantomData;

use super::{check, move_towards, param, within};
use crate::Module;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::nn::{Buffer, Layer, Mode, Param};
use crate::ops::norm;
use crate::tensor::Tensor;

/// Batch normalisation of inputs with `D` axes behind the channels (Ioffe and Szegedy, 2015): y = (x - m) / √(v + ε) · w + b for each channel.
///
/// In the copy that [`Tape::watch`](crate::Tape::watch) returns, m and v are the mean and the variance (divided by n) of the batch, and the running
/// averages of the model move towards them: running ← (1 - momentum) running + momentum · new, with the variance divided by n - 1. The model itself
/// normalises by its running averages.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::BatchNorm2d;
/// let norm: BatchNorm2d = BatchNorm2d::new(3).build()?;
/// let x = Tensor::randn([8, 3, 5, 5], &mut gradus::rng(0))?.add_scalar(4.0);
/// let y = Tape::new(0).watch(&norm).forward(&x)?;            // by the batch
/// assert!(y.mean().item()?.abs() < 1e-5);
/// let mean = norm.running_mean.as_ref().unwrap().get();      // a tenth of the way from 0 to about 4
/// assert!((mean.get([0])? - 0.4).abs() < 0.1);
/// assert!(norm.forward(&x)?.mean().item()? > 3.0);           // by the running averages
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct BatchNorm<const D: usize, T: Float = f32> {
    /// w: \[channels\].
    pub weight: Option<Param<T>>,
    /// b: \[channels\].
    pub bias: Option<Param<T>>,
    /// The running mean: \[channels\].
    pub running_mean: Option<Buffer<T>>,
    /// The running variance: \[channels\].
    pub running_var: Option<Buffer<T>>,
    /// How many batches the running averages have seen.
    pub num_batches_tracked: Option<Buffer<i64>>,
    channels: usize,
    eps: f64,
    momentum: Option<f64>,
    mode: Mode,
}

/// Batch normalisation of \[batch, channels\] or \[batch, channels, length\].
pub type BatchNorm1d<T = f32> = BatchNorm<1, T>;
/// Batch normalisation of \[batch, channels, height, width\].
pub type BatchNorm2d<T = f32> = BatchNorm<2, T>;
/// Batch normalisation of \[batch, channels, depth, height, width\].
pub type BatchNorm3d<T = f32> = BatchNorm<3, T>;

/// The name that errors show.
const NAMES: [&str; 4] = ["BatchNorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d"];

impl<const D: usize, T: Float> BatchNorm<D, T> {
    const NAME: &str = NAMES[if D < 4 { D } else { 0 }];

    /// Starts a layer for so many channels.
    #[allow(clippy::new_ret_no_self)] // As the other layers: options come before the layer is made.
    pub fn new(channels: usize) -> BatchNormBuilder<D, T> {
        BatchNormBuilder {
            channels,
            eps: 1e-5,
            momentum: Some(0.1),
            affine: true,
            track: true,
            element: PhantomData,
        }
    }

    /// Moves the running averages towards the statistics of a batch.
    fn learn(&self, stats: &norm::BatchStats<T>) {
        if let Some(n) = &self.num_batches_tracked {
            n.set(n.get().add_scalar(1));
        }
        let seen = || self.num_batches_tracked.as_ref().and_then(|n| n.get().item().ok());
        // Without a momentum, the mean of all batches so far.
        let factor = self.momentum.unwrap_or_else(|| 1.0 / seen().unwrap_or(1).max(1) as f64);
        if let (Some(mean), Some(var), true) =
            (&self.running_mean, &self.running_var, stats.count > 0)
        {
            move_towards(mean, &stats.mean, factor);
            move_towards(var, &stats.var_unbiased(), factor);
        }
    }

    fn run(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let fits = x.rank() == D + 2 || (D == 1 && x.rank() == 2);
        if !fits || x.shape()[1] != self.channels {
            let spatial = match D {
                1 => ", or with a length behind".to_string(),
                _ => format!(" with {D} axes behind"),
            };
            let message = format!(
                "the input has shape {:?}, but must be [batch, {}]{spatial}",
                x.shape(),
                self.channels
            );
            return Err(Error::shape(Self::NAME, message));
        }
        let affine = [self.weight.as_deref(), self.bias.as_deref()];
        match (&self.running_mean, &self.running_var) {
            (Some(mean), Some(var)) if !self.mode.is_training() => {
                norm::batch_norm_with(Self::NAME, x, [&mean.get(), &var.get()], affine, self.eps)
            }
            _ => {
                let (y, stats) = norm::batch_norm(Self::NAME, x, affine, self.eps)?;
                if self.mode.is_training() {
                    self.learn(&stats);
                }
                Ok(y)
            }
        }
    }
}

impl<const D: usize, T: Float> Layer<T> for BatchNorm<D, T> {
    /// # Errors
    /// [`Error::Shape`] for an input of other axes or channels, and while training for one with a single value for each channel.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        within([&self.weight, &self.bias], || self.run(x))
    }
}

/// What a [`BatchNorm`] will be.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::BatchNorm1d;
/// let norm: BatchNorm1d = BatchNorm1d::new(16).momentum(None).affine(false).build()?;
/// assert_eq!(norm.num_params(), 0);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "call build() to get the layer"]
pub struct BatchNormBuilder<const D: usize, T: Float = f32> {
    channels: usize,
    eps: f64,
    momentum: Option<f64>,
    affine: bool,
    track: bool,
    element: PhantomData<T>,
}

impl<const D: usize, T: Float> BatchNormBuilder<D, T> {
    /// What is added to the variance; 1e-5 unless said otherwise.
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// How far the running averages move towards each batch; 0.1 unless said otherwise. `None`: they are the mean of all batches.
    pub fn momentum(mut self, momentum: impl Into<Option<f64>>) -> Self {
        self.momentum = momentum.into();
        self
    }

    /// Whether there are a weight and a bias; there are unless said otherwise.
    pub fn affine(mut self, affine: bool) -> Self {
        self.affine = affine;
        self
    }

    /// Whether there are running averages; there are unless said otherwise. Without them, the statistics are always those of the batch.
    pub fn track_running_stats(mut self, track: bool) -> Self {
        self.track = track;
        self
    }

    /// The layer: weight 1, bias 0, running mean 0, running variance 1.
    ///
    /// # Errors
    /// [`Error::Argument`] for a negative `eps` or a momentum outside 0 to 1, [`Error::Overflow`] if the channels do not fit in memory.
    pub fn build(self) -> Result<BatchNorm<D, T>> {
        check(BatchNorm::<D, T>::NAME, self.eps, self.momentum)?;
        let shape = [self.channels];
        let buffer = |value: f64| match self.track {
            true => Ok(Some(Buffer::new(Tensor::full(shape, T::of(value))?))),
            false => Ok(None),
        };
        Ok(BatchNorm {
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

    fn close(a: &Tensor<f64>, b: &[f64]) {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).for_each(|(a, b)| assert!((a - b).abs() < 1e-12, "{a} {b}"));
    }

    fn running(n: &BatchNorm1d<f64>) -> (Tensor<f64>, Tensor<f64>, i64) {
        let get = |b: &Option<Buffer<f64>>| b.as_ref().unwrap().get();
        let count = n.num_batches_tracked.as_ref().unwrap().get().item().unwrap();
        (get(&n.running_mean), get(&n.running_var), count)
    }

    #[test]
    fn the_watched_copy_moves_the_averages_and_the_model_uses_them() {
        let norm = BatchNorm1d::<f64>::new(1).eps(0.0).momentum(0.25).build().unwrap();
        let x = Tensor::from([[1.0], [3.0]]);
        let y = Tape::new(0).watch(&norm).forward(&x).unwrap();
        close(&y, &[-1.0, 1.0]);
        let (mean, var, n) = running(&norm);
        close(&mean, &[0.5]);
        close(&var, &[0.75 + 0.25 * 2.0]);
        assert_eq!(n, 1);
        let y = norm.forward(&x).unwrap();
        close(&y, &[0.5 / 1.25f64.sqrt(), 2.5 / 1.25f64.sqrt()]);
        assert_eq!(running(&norm).2, 1);
        // A clone has averages of its own.
        let other = norm.clone();
        Tape::new(0).watch(&other).forward(&x).unwrap();
        assert_eq!((running(&norm).2, running(&other).2), (1, 2));
    }

    #[test]
    fn without_momentum_the_averages_are_means() {
        let norm = BatchNorm1d::<f64>::new(1).momentum(None).build().unwrap();
        for x in [[[0.0], [2.0]], [[4.0], [8.0]], [[1.0], [3.0]]] {
            Tape::new(0).watch(&norm).forward(&Tensor::from(x)).unwrap();
        }
        let (mean, var, n) = running(&norm);
        close(&mean, &[3.0]);
        close(&var, &[4.0]);
        assert_eq!(n, 3);
    }

    #[test]
    fn without_averages_the_batch_counts_always() {
        let norm = BatchNorm1d::<f64>::new(1).eps(0.0).track_running_stats(false).build().unwrap();
        let x = Tensor::from([[1.0], [3.0]]);
        close(&norm.forward(&x).unwrap(), &[-1.0, 1.0]);
        close(&Tape::new(0).watch(&norm).forward(&x).unwrap(), &[-1.0, 1.0]);
        assert!(norm.running_mean.is_none() && norm.num_params() == 2);
    }

    #[test]
    fn gradients_reach_the_parameters() {
        let norm = BatchNorm2d::<f64>::new(2).build().unwrap();
        let x = Tensor::from_fn([2, 2, 3, 1], |i| (i * i % 7) as f64).unwrap();
        let y = Tape::new(0).watch(&norm).forward(&x).unwrap();
        let g = y.backward_with(&y.ones_like()).unwrap();
        close(g.get(norm.bias.as_ref().unwrap()).unwrap(), &[6.0, 6.0]);
        close(g.get(norm.weight.as_ref().unwrap()).unwrap(), &[0.0, 0.0]);
    }

    #[test]
    fn empty_and_what_does_not_fit() {
        let norm: BatchNorm2d = BatchNorm2d::new(2).build().unwrap();
        let empty = Tensor::zeros([0, 2, 3, 3]).unwrap();
        assert_eq!(Tape::new(0).watch(&norm).forward(&empty).unwrap().shape(), [0, 2, 3, 3]);
        assert_eq!(norm.running_var.as_ref().unwrap().get().to_vec(), [1.0; 2]);
        let says = |e: Error, want: &str| assert_eq!(e.to_string(), want);
        says(
            norm.forward(&Tensor::zeros([4, 2, 3]).unwrap()).unwrap_err(),
            "BatchNorm2d: the input has shape [4, 2, 3], but must be [batch, 2] with 2 axes behind",
        );
        let model: (BatchNorm1d, BatchNorm1d) =
            (BatchNorm1d::new(2).build().unwrap(), BatchNorm1d::new(2).build().unwrap());
        let net = Tape::new(0).watch(&model);
        says(
            net.1.forward(&Tensor::zeros([4, 3]).unwrap()).unwrap_err(),
            "BatchNorm1d: the input has shape [4, 3], but must be [batch, 2], or with a length behind [at 1]",
        );
        says(
            net.0.forward(&Tensor::zeros([1, 2]).unwrap()).unwrap_err(),
            "BatchNorm1d: more than one value for each channel is needed to train, but the input has shape [1, 2]; use a larger batch [at 0]",
        );
        says(
            BatchNorm1d::<f32>::new(2).momentum(1.5).build().unwrap_err(),
            "BatchNorm1d: the momentum is 1.5; it must be from 0 to 1, or None for the mean of all",
        );
        assert!(BatchNorm1d::<f32>::new(2).eps(f64::NAN).build().is_err());
    }
}
