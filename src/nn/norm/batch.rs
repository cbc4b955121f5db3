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
    relu: bool,
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
            relu: false,
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

    /// y + shortcut, and then ReLU if the layer [has one](BatchNormBuilder::relu): the end of a residual block, in one pass over memory
    /// instead of three. The same numbers as of the three operations, and the same gradients.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::BatchNorm1d;
    /// let norm: BatchNorm1d = BatchNorm1d::new(2).eps(0.0).relu(true).build()?;
    /// let y = norm.forward_plus(&Tensor::from([[1.0, -3.0]]), &Tensor::from([[0.5, 1.0]]))?;
    /// assert_eq!(y.to_vec(), [1.5, 0.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`forward`](Layer::forward), and [`Error::Shape`] if the shortcut has not the shape of the input.
    pub fn forward_plus(&self, x: &Tensor<T>, shortcut: &Tensor<T>) -> Result<Tensor<T>> {
        within([&self.weight, &self.bias], || self.run(x, Some(shortcut)))
    }

    fn run(&self, x: &Tensor<T>, plus: Option<&Tensor<T>>) -> Result<Tensor<T>> {
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
        let then = norm::Then { plus, relu: self.relu };
        match (&self.running_mean, &self.running_var) {
            (Some(mean), Some(var)) if !self.mode.is_training() => {
                let stats = [&mean.get(), &var.get()];
                norm::batch_norm_with(Self::NAME, x, stats, affine, self.eps, then)
            }
            _ => {
                let (y, stats) = norm::batch_norm(Self::NAME, x, affine, self.eps, then)?;
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
        within([&self.weight, &self.bias], || self.run(x, None))
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
    relu: bool,
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

    /// Whether ReLU follows: max(0, y); it does not unless said otherwise. The same numbers as of a layer of its own, without another pass over memory.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::BatchNorm1d;
    /// let norm: BatchNorm1d = BatchNorm1d::new(2).eps(0.0).relu(true).build()?;
    /// assert_eq!(norm.forward(&Tensor::from([[1.0, -3.0]]))?.to_vec(), [1.0, 0.0]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn relu(mut self, relu: bool) -> Self {
        self.relu = relu;
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
            relu: self.relu,
            mode: Mode::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::autograd::{gradcheck, gradgradcheck};

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

    /// What follows, in the same pass if the layer does it, else by operations of their own.
    fn output<T: Float>(
        norm: &BatchNorm2d<T>,
        x: &Tensor<T>,
        plus: Option<&Tensor<T>>,
        [together, relu]: [bool; 2],
    ) -> Tensor<T> {
        match plus {
            _ if !together => {
                let y = norm.forward(x).unwrap();
                let y = plus.map_or(y.clone(), |plus| y.try_add(plus).unwrap());
                if relu { y.relu() } else { y }
            }
            Some(plus) => norm.forward_plus(x, plus).unwrap(),
            None => norm.forward(x).unwrap(),
        }
    }

    /// Values and all gradients of what follows in the same pass are those of operations of their own, to the last bit.
    fn follows<T: Float>(x: &Tensor<T>, plus: Option<&Tensor<T>>, relu: bool) {
        let c = x.shape()[1];
        let values = |k: f64| Tensor::from_fn([c], |i| T::of((i as f64 * k).cos())).unwrap();
        let plain = BatchNorm2d::<T>::new(c).build().unwrap();
        let (weight, bias) = (Some(Param::new(values(1.0))), Some(Param::new(values(2.0))));
        let plain = BatchNorm { weight, bias, ..plain };
        let fused = BatchNorm { relu, ..plain.clone() };
        let bits = |t: &Tensor<T>| t.iter().map(|v| v.as_f64().to_bits()).collect::<Vec<_>>();
        let [a, b] = [&fused, &plain].map(|n| output(n, x, plus, [std::ptr::eq(n, &fused), relu]));
        assert_eq!(bits(&a), bits(&b));
        let slope = |i: usize| T::of((i as f64).sin());
        // By the running averages with a recorded input, and in training; the last gradient has another holder.
        for train in [false, true] {
            let run = |norm: &BatchNorm2d<T>, together: bool, shared: bool| {
                let tape = Tape::new(0);
                let net = if train { tape.watch(norm) } else { norm.clone() };
                let (x, plus) = (tape.leaf(x), plus.map(|p| tape.leaf(p)));
                let y = output(&net, &x, plus.as_ref(), [together, relu]);
                let g = Tensor::from_fn(y.shape(), slope).unwrap();
                let kept = shared.then(|| g.clone());
                let values = bits(&y);
                let d = y.backward_with(&g).unwrap();
                assert!(kept.is_none_or(|g| g.iter().enumerate().all(|(i, g)| g == slope(i))));
                let param = |p: &Option<Param<T>>| d.get(p.as_ref().unwrap()).map(bits);
                let plus = plus.map(|p| bits(d.wrt(&p).unwrap()));
                let x = bits(d.wrt(&x).unwrap());
                (values, x, plus, param(&norm.weight), param(&norm.bias))
            };
            let want = run(&plain, false, false);
            assert_eq!(want.3.is_some(), train);
            assert!(run(&fused, true, false) == want && run(&fused, true, true) == want);
        }
    }

    #[test]
    fn relu_and_a_shortcut_follow() {
        // Columns, planes with bits to the end of a byte and not, and planes of more than one part.
        for shape in [[3, 4, 2, 3], [2, 3, 7, 7], [2, 4, 8, 16], [9, 2, 45, 61], [1, 2, 190, 190]] {
            let at = |i: usize, k: usize| (i * k % 61) as f64 / 16.0 - 2.0;
            let x = Tensor::from_fn(shape, |i| at(i, 37)).unwrap();
            let plus = Tensor::from_fn(shape, |i| at(i, 11)).unwrap();
            let turned = plus.with_layout(plus.layout().slice(3, shape[3] - 1, shape[3], -1));
            let last = Tensor::from_fn([shape[0], shape[2], shape[3], shape[1]], |i| at(i, 7));
            let last = last.unwrap().permute([0, 3, 1, 2]).unwrap();
            for x in [&x, &last] {
                for plus in [None, Some(&plus), Some(&turned)] {
                    follows(x, plus, true);
                    follows(&x.cast::<f32>(), plus.map(|p| p.cast::<f32>()).as_ref(), true);
                }
                follows(x, Some(&plus), false);
            }
        }
        let norm: BatchNorm2d = BatchNorm2d::new(1).build().unwrap();
        let ones = |shape: &[usize]| Tensor::ones(shape).unwrap();
        assert_eq!(
            norm.forward_plus(&ones(&[1, 1, 2, 2]), &ones(&[2, 2])).unwrap_err().to_string(),
            "BatchNorm2d: what is added has shape [2, 2]; expected [1, 1, 2, 2]"
        );
    }

    #[test]
    fn gradients_with_what_follows_are_those_of_differences() {
        let norm = BatchNorm2d::<f64>::new(2).eps(1e-2).relu(true).track_running_stats(false);
        let norm = norm.build().unwrap();
        let x =
            Tensor::from_fn([2, 2, 5, 7], |i| ((i * 37 + 11) % 64) as f64 * 0.07 - 2.0).unwrap();
        let plus = x.sin();
        gradcheck(|[x, p]| norm.forward_plus(x, p), [&x, &plus]).unwrap();
        gradgradcheck(|[x, p]| norm.forward_plus(x, p), [&x, &plus]).unwrap();
        gradgradcheck(|[x]| norm.forward(x), [&x]).unwrap();
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
