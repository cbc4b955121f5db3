//! Dropout of more than single numbers: whole channels, whole samples, the same numbers at every time step, weights; and alpha dropout.

use super::{Dense, Layer, Mode};
use crate::Module;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::ops::linear::linear;
use crate::tensor::{Dims, Tensor};

fn probability(layer: &'static str, p: f64) -> Result<f64> {
    match (0.0..=1.0).contains(&p) {
        true => Ok(p),
        false => Err(Error::argument(
            layer,
            format!("the probability is {p}; it must be between 0 and 1"),
        )),
    }
}

/// Zeros with probability p, else 1 / (1 - p): a number for each index of the axes of `shape` that do not repeat.
fn factors<T: Float>(
    shape: &[usize],
    repeats: impl Fn(usize) -> bool,
    p: f64,
    seed: u64,
) -> Result<Tensor<T>> {
    let size = |(a, &d): (usize, &usize)| if repeats(a) { 1 } else { d };
    Tensor::ones(shape.iter().enumerate().map(size).collect::<Dims>())?.dropout(p, seed)
}

/// [`factors`] as the tensor's factors, if the layer trains.
fn drop<T: Float>(
    mode: &Mode,
    p: f64,
    x: &Tensor<T>,
    repeats: impl Fn(usize) -> bool,
) -> Result<Tensor<T>> {
    match mode.next_seed() {
        Some(seed) if p > 0.0 => x.try_mul(&factors(x.shape(), repeats, p, seed)?),
        _ => Ok(x.clone()),
    }
}

/// The first axis behind the channels, of inputs with or without a batch.
fn behind_channels<T: Float>(layer: &'static str, axes: usize, x: &Tensor<T>) -> Result<usize> {
    match x.rank().checked_sub(axes) {
        Some(n @ (1 | 2)) => Ok(n),
        _ => Err(Error::shape(
            layer,
            format!(
                "the input has shape {:?}, but must be [batch, channels] or [channels], with {axes} axes behind",
                x.shape()
            ),
        )),
    }
}

/// While training, each channel of each sample is zero with probability p, and the others are multiplied by 1 / (1 - p) (Tompson et al. 2015). `D` is the
/// number of axes behind the channels; there may be a batch before them.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::Dropout2d;
/// let x: Tensor = Tensor::ones([8, 16, 5, 5])?;
/// let y = Tape::new(0).watch(&Dropout2d::new(0.5)?).forward(&x)?;
/// let sums = y.sum_axes([2, 3], false)?;
/// assert!(sums.iter().all(|s| s == 0.0 || s == 50.0));
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct ChannelDropout<const D: usize> {
    p: f64,
    mode: Mode,
}

/// Dropout of channels of \[batch, channels, length\] or \[channels, length\].
pub type Dropout1d = ChannelDropout<1>;
/// Dropout of channels of \[batch, channels, height, width\] or \[channels, height, width\].
pub type Dropout2d = ChannelDropout<2>;
/// Dropout of channels of \[batch, channels, depth, height, width\] or the same without a batch.
pub type Dropout3d = ChannelDropout<3>;

impl<const D: usize> ChannelDropout<D> {
    /// Drops channels with probability `p`.
    ///
    /// # Errors
    /// [`Error::Argument`] unless 0 ≤ p ≤ 1.
    pub fn new(p: f64) -> Result<Self> {
        Ok(ChannelDropout { p: probability("ChannelDropout", p)?, mode: Mode::new() })
    }
}

impl<const D: usize, T: Float> Layer<T> for ChannelDropout<D> {
    /// # Errors
    /// [`Error::Shape`] for an input of another number of axes.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let first = behind_channels("ChannelDropout", D, x)?;
        drop(&self.mode, self.p, x, |a| a >= first)
    }
}

/// While training, each sample (index of axis 0) is zero with probability p, and the others are multiplied by 1 / (1 - p): the way to drop a residual
/// branch, also called stochastic depth (Huang et al. 2016).
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::DropPath;
/// let x: Tensor = Tensor::ones([64, 3])?;
/// let y = Tape::new(0).watch(&DropPath::new(0.5)?).forward(&x)?;
/// assert!(y.sum_axes(1, false)?.iter().all(|s| s == 0.0 || s == 6.0));
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct DropPath {
    p: f64,
    mode: Mode,
}

impl DropPath {
    /// Drops samples with probability `p`.
    ///
    /// # Errors
    /// [`Error::Argument`] unless 0 ≤ p ≤ 1.
    pub fn new(p: f64) -> Result<Self> {
        Ok(DropPath { p: probability("DropPath", p)?, mode: Mode::new() })
    }
}

impl<T: Float> Layer<T> for DropPath {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        drop(&self.mode, self.p, x, |a| a > 0)
    }
}

/// Dropout for sequences with the same zeros at every time step (Gal and Ghahramani 2016), also called locked dropout. While evaluating, the identity.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::VariationalDropout;
/// let x: Tensor = Tensor::ones([2, 10, 4])?;                     // [batch, time, features]
/// let drop = Tape::new(1).watch(&VariationalDropout::new(0.5)?);
/// let y = drop.forward(&x)?;
/// assert_eq!(y.select(1, 0)?, y.select(1, 9)?);
/// // In a loop over the steps, one mask for all of them:
/// let mask = drop.mask::<f32>([2, 4])?;
/// let step = x.select(1, 0)?;
/// let dropped = match &mask { Some(m) => step.try_mul(m)?, None => step };
/// assert_eq!(dropped.shape(), [2, 4]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct VariationalDropout {
    p: f64,
    time: isize,
    mode: Mode,
}

impl VariationalDropout {
    /// Drops with probability `p`; time is axis 1.
    ///
    /// # Errors
    /// [`Error::Argument`] unless 0 ≤ p ≤ 1.
    pub fn new(p: f64) -> Result<Self> {
        Ok(VariationalDropout {
            p: probability("VariationalDropout", p)?,
            time: 1,
            mode: Mode::new(),
        })
    }

    /// The same layer with another axis for time: 0 where it stands before the batch.
    pub fn time_axis(mut self, axis: isize) -> Self {
        self.time = axis;
        self
    }

    /// While training, factors of 0 and 1 / (1 - p) of this shape for loops of one's own; another each time. `None` while evaluating.
    ///
    /// # Errors
    /// [`Error::Overflow`] if they do not fit in memory.
    pub fn mask<T: Float>(
        &self,
        shape: impl crate::tensor::IntoShape,
    ) -> Result<Option<Tensor<T>>> {
        match self.mode.next_seed() {
            Some(seed) if self.p > 0.0 => {
                Ok(Some(factors(&shape.into_shape(), |_| false, self.p, seed)?))
            }
            _ => Ok(None),
        }
    }
}

impl<T: Float> Layer<T> for VariationalDropout {
    /// # Errors
    /// [`Error::Axis`] if the input has no axis of time.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let time = crate::tensor::axis("VariationalDropout", self.time, x.rank())?;
        drop(&self.mode, self.p, x, |a| a == time)
    }
}

/// The value that SELU tends to for very negative numbers, negated: scale · α.
const SELU_LOW: f64 = 1.758_099_340_847_376_6;

/// y = a (x where it is kept, else -1.758) + b, with a and b so that mean 0 and variance 1 stay (Klambauer et al. 2017).
fn alpha_drop<T: Float>(
    mode: &Mode,
    p: f64,
    x: &Tensor<T>,
    repeats: impl Fn(usize) -> bool,
) -> Result<Tensor<T>> {
    let Some(seed) = mode.next_seed().filter(|_| p > 0.0) else { return Ok(x.clone()) };
    let kept = factors::<T>(x.shape(), repeats, p, seed)?.gt_scalar(T::ZERO).cast::<T>();
    if p == 1.0 {
        return x.try_mul(&kept);
    }
    let a = 1.0 / ((SELU_LOW * SELU_LOW * p + 1.0) * (1.0 - p)).sqrt();
    let low = T::of(SELU_LOW * a);
    let shift = kept.sub_scalar(T::ONE).mul_scalar(low).add_scalar(low * T::of(p));
    x.try_mul(&kept.mul_scalar(T::of(a)))?.try_add(&shift)
}

/// Dropout for networks of SELUs: dropped numbers become what SELU tends to for very negative ones, and the whole is scaled and shifted so that mean 0
/// and variance 1 stay (Klambauer et al. 2017). While evaluating, the identity.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::AlphaDropout;
/// let x: Tensor = Tensor::randn([10_000], &mut gradus::rng(0))?;
/// let y = Tape::new(0).watch(&AlphaDropout::new(0.2)?).forward(&x)?;
/// assert!(y.mean().item()?.abs() < 0.05 && (y.var().item()? - 1.0).abs() < 0.05);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct AlphaDropout {
    p: f64,
    mode: Mode,
}

impl AlphaDropout {
    /// Drops with probability `p`.
    ///
    /// # Errors
    /// [`Error::Argument`] unless 0 ≤ p ≤ 1.
    pub fn new(p: f64) -> Result<Self> {
        Ok(AlphaDropout { p: probability("AlphaDropout", p)?, mode: Mode::new() })
    }
}

impl<T: Float> Layer<T> for AlphaDropout {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        alpha_drop(&self.mode, self.p, x, |_| false)
    }
}

/// [`AlphaDropout`] of whole channels of \[batch, channels, ..\].
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::FeatureAlphaDropout;
/// let x: Tensor = Tensor::zeros([4, 8, 5])?;
/// let y = Tape::new(0).watch(&FeatureAlphaDropout::new(0.5)?).forward(&x)?;
/// assert_eq!(y.select(2, 0)?, y.select(2, 4)?);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct FeatureAlphaDropout {
    p: f64,
    mode: Mode,
}

impl FeatureAlphaDropout {
    /// Drops channels with probability `p`.
    ///
    /// # Errors
    /// [`Error::Argument`] unless 0 ≤ p ≤ 1.
    pub fn new(p: f64) -> Result<Self> {
        Ok(FeatureAlphaDropout { p: probability("FeatureAlphaDropout", p)?, mode: Mode::new() })
    }
}

impl<T: Float> Layer<T> for FeatureAlphaDropout {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        alpha_drop(&self.mode, self.p, x, |a| a > 1)
    }
}

/// A [`Dense`] layer that, while training, loses each weight with probability p; the others are multiplied by 1 / (1 - p) (Wan et al. 2013).
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::DropConnect;
/// let dense: Dense = Dense::new(8, 4).build(&mut gradus::rng(0))?;
/// let layer = DropConnect::new(dense.clone(), 0.5)?;
/// let x = Tensor::ones([2, 8])?;
/// assert_eq!(layer.forward(&x)?, dense.forward(&x)?);
/// assert_ne!(Tape::new(0).watch(&layer).forward(&x)?, dense.forward(&x)?);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct DropConnect<T: Float = f32> {
    /// The layer.
    pub inner: Dense<T>,
    p: f64,
    mode: Mode,
}

impl<T: Float> DropConnect<T> {
    /// Drops the weights of `inner` with probability `p`.
    ///
    /// # Errors
    /// [`Error::Argument`] unless 0 ≤ p ≤ 1.
    pub fn new(inner: Dense<T>, p: f64) -> Result<Self> {
        Ok(DropConnect { inner, p: probability("DropConnect", p)?, mode: Mode::new() })
    }
}

impl<T: Float> Layer<T> for DropConnect<T> {
    /// # Errors
    /// As [`Dense`].
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        match self.mode.next_seed() {
            Some(seed) if self.p > 0.0 => {
                let Dense { weight, bias } = &self.inner;
                weight.within(|| {
                    linear("DropConnect", x, &weight.dropout(self.p, seed)?, bias.as_deref())
                })
            }
            _ => self.inner.forward(x),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;

    fn train(layer: impl Layer<f64> + Clone, x: &Tensor<f64>) -> Tensor<f64> {
        Tape::new(5).watch(&layer).forward(x).unwrap()
    }

    #[test]
    fn evaluating_is_the_identity_and_ends_are_exact() {
        let x = Tensor::from_fn([2, 3, 4], |i| i as f64).unwrap();
        macro_rules! all {
            ($($layer:ty),*) => {$(
                assert_eq!(<$layer>::new(0.5).unwrap().forward(&x).unwrap(), x);
                assert_eq!(train(<$layer>::new(0.0).unwrap(), &x), x);
                assert_eq!(train(<$layer>::new(1.0).unwrap(), &x), x.zeros_like());
                let empty = Tensor::zeros([0, 3, 4]).unwrap();
                assert_eq!(train(<$layer>::new(0.5).unwrap(), &empty).shape(), [0, 3, 4]);
                assert!(<$layer>::new(1.5).is_err() && <$layer>::new(f64::NAN).is_err());
            )*};
        }
        all!(Dropout1d, DropPath, VariationalDropout, AlphaDropout, FeatureAlphaDropout);
    }

    #[test]
    fn what_is_dropped_together() {
        let x = Tensor::ones([50, 20, 3, 3]).unwrap();
        let y = train(Dropout2d::new(0.25).unwrap(), &x);
        let sums = y.sum_axes([2, 3], false).unwrap();
        assert!(sums.iter().all(|s| s == 0.0 || (s - 12.0).abs() < 1e-9));
        let share = sums.iter().filter(|&s| s == 0.0).count() as f64 / 1000.0;
        // Four standard deviations of the share are 0.055.
        assert!((share - 0.25).abs() < 0.055, "{share}");
        let one = train(Dropout2d::new(0.5).unwrap(), &Tensor::ones([40, 2, 2]).unwrap());
        assert!(one.sum_axes([1, 2], false).unwrap().iter().all(|s| s == 0.0 || s == 8.0));
        let e =
            Layer::<f32>::forward(&Dropout3d::new(0.5).unwrap(), &Tensor::zeros([2, 2]).unwrap());
        assert_eq!(
            e.unwrap_err().to_string(),
            "ChannelDropout: the input has shape [2, 2], but must be [batch, channels] or [channels], with 3 axes behind"
        );
    }

    #[test]
    fn the_same_at_every_step_and_another_each_time() {
        let x = Tensor::ones([3, 7, 8]).unwrap();
        let net = Tape::new(0).watch(&VariationalDropout::new(0.5).unwrap());
        let (a, b) = (net.forward(&x).unwrap(), net.forward(&x).unwrap());
        assert_ne!(a, b);
        for t in 1..7 {
            assert_eq!(a.select(1, t).unwrap(), a.select(1, 0).unwrap());
        }
        let first = train(VariationalDropout::new(0.5).unwrap().time_axis(0), &x);
        assert_eq!(first.select(0, 0).unwrap(), first.select(0, 2).unwrap());
        assert!(VariationalDropout::new(0.5).unwrap().mask::<f64>([2]).unwrap().is_none());
        let e = Layer::<f64>::forward(
            &VariationalDropout::new(0.5).unwrap(),
            &Tensor::ones([2]).unwrap(),
        );
        assert!(matches!(e, Err(Error::Axis { .. })));
    }

    #[test]
    fn alpha_dropout_keeps_mean_and_variance() {
        let x = Tensor::<f64>::randn([200_000], &mut crate::rng(3)).unwrap();
        let y = train(AlphaDropout::new(0.3).unwrap(), &x);
        let (mean, var) = (y.mean().item().unwrap(), y.var().item().unwrap());
        assert!(mean.abs() < 0.01 && (var - 1.0).abs() < 0.02, "{mean} {var}");
    }

    #[test]
    fn lost_weights_get_no_gradient() {
        let dense = Dense::<f64>::new(20, 10).build(&mut crate::rng(0)).unwrap();
        let layer = DropConnect::new(dense, 0.5).unwrap();
        let tape = Tape::new(0);
        let y = tape.watch(&layer).forward(&Tensor::ones([1, 20]).unwrap()).unwrap();
        let g = y.sum().backward().unwrap();
        let g = g.get(&layer.inner.weight).unwrap();
        assert!(g.iter().all(|v| v == 0.0 || v == 2.0) && g.iter().any(|v| v == 0.0));
    }
}
