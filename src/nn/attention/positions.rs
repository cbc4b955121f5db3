//! What tells a transformer the order: encodings that are added to the input, and biases of the scores.

use std::marker::PhantomData;

use rand::Rng;

use crate::Module;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::nn::{Init, Layer, Param};
use crate::tensor::Tensor;

/// Adds sines and cosines of the position (Vaswani et al., 2017): to number 2i of position p sin(p / 10000^(2i/width)), to number 2i + 1 the cosine of the
/// same. Input \[.., positions, width\].
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::SinusoidalPositions;
/// let y = SinusoidalPositions::new(4).forward(&Tensor::<f32>::zeros([2, 3, 4])?)?;
/// assert_eq!(y.slice((0, 0))?.to_vec(), [0.0, 1.0, 0.0, 1.0]);
/// assert!((y.get([1, 2, 2])? - (2.0f32 / 100.0).sin()).abs() < 1e-6);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct SinusoidalPositions {
    width: usize,
    base: f64,
}

impl SinusoidalPositions {
    /// For inputs of this width, with base 10000.
    pub fn new(width: usize) -> Self {
        SinusoidalPositions { width, base: 10_000.0 }
    }

    /// The base of the wavelengths, 10000 unless said otherwise.
    #[must_use]
    pub fn base(mut self, base: f64) -> Self {
        self.base = base;
        self
    }

    /// The encodings of positions `start` to `start + len`: \[len, width\].
    ///
    /// # Errors
    /// [`Error::Overflow`] if they do not fit in memory.
    pub fn table<T: Float>(&self, start: usize, len: usize) -> Result<Tensor<T>> {
        let width = self.width.max(1);
        Tensor::from_fn([len, self.width], |i| {
            let (p, j) = (start + i / width, i % width);
            let pair = (j - j % 2) as f64;
            let angle = p as f64 * self.base.powf(-pair / width as f64);
            T::of(if j % 2 == 0 { angle.sin() } else { angle.cos() })
        })
    }

    /// [`forward`](Layer::forward) for inputs whose first position is `start`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the last axis of `x` is not `width`.
    pub fn forward_at<T: Float>(&self, x: &Tensor<T>, start: usize) -> Result<Tensor<T>> {
        let len = positions("SinusoidalPositions", x, self.width)?;
        x.try_add(&self.table(start, len)?)
    }
}

impl<T: Float> Layer<T> for SinusoidalPositions {
    /// # Errors
    /// [`Error::Shape`] if the last axis of `x` is not `width`.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        self.forward_at(x, 0)
    }
}

/// The number of positions of an input \[.., positions, width\].
fn positions<T: Float>(op: &'static str, x: &Tensor<T>, width: usize) -> Result<usize> {
    match *x.shape() {
        [.., n, w] if w == width => Ok(n),
        _ => Err(Error::shape(
            op,
            format!("input {:?} does not fit: expected [.., positions, {width}]", x.shape()),
        )),
    }
}

/// Adds a vector that is learnt for each position: y = x + W\[0..positions\]. Input \[.., positions, width\].
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::LearnedPositions;
/// let layer: LearnedPositions = LearnedPositions::new(512, 16).build(&mut gradus::rng(0))?;
/// let y = layer.forward(&Tensor::zeros([2, 10, 16])?)?;
/// assert_eq!(y.get([1, 9, 3])?, layer.weight.get([9, 3])?);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct LearnedPositions<T: Float = f32> {
    /// W: \[most positions, width\].
    pub weight: Param<T>,
}

impl<T: Float> LearnedPositions<T> {
    /// Starts a layer for at most `most` positions; [`build`](LearnedPositionsBuilder::build) draws its parameters.
    #[allow(clippy::new_ret_no_self)] // A layer cannot be made before the generator is there.
    pub fn new(most: usize, width: usize) -> LearnedPositionsBuilder<T> {
        let init = Init::Normal { mean: 0.0, std: 0.02 };
        LearnedPositionsBuilder { most, width, init, element: PhantomData }
    }

    /// [`forward`](Layer::forward) for inputs whose first position is `start`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the last axis of `x` is not the width, or there are more positions than learnt ones.
    pub fn forward_at(&self, x: &Tensor<T>, start: usize) -> Result<Tensor<T>> {
        self.weight.within(|| {
            let len = positions("LearnedPositions", x, self.weight.shape()[1])?;
            let most = self.weight.shape()[0];
            if start.checked_add(len).is_none_or(|end| end > most) {
                return Err(Error::shape(
                    "LearnedPositions",
                    format!(
                        "input {:?} starts at position {start} and is too long: the layer knows {most} positions",
                        x.shape()
                    ),
                ));
            }
            x.try_add(&self.weight.narrow(0, start, len)?)
        })
    }
}

impl<T: Float> Layer<T> for LearnedPositions<T> {
    /// # Errors
    /// [`Error::Shape`] if the last axis of `x` is not the width, or there are more positions than learnt ones.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        self.forward_at(x, 0)
    }
}

/// What a [`LearnedPositions`] will be.
#[derive(Clone, Copy, Debug)]
#[must_use = "call build(rng) to get the layer"]
pub struct LearnedPositionsBuilder<T: Float = f32> {
    most: usize,
    width: usize,
    init: Init,
    element: PhantomData<T>,
}

impl<T: Float> LearnedPositionsBuilder<T> {
    /// How the vectors start: normal with standard deviation 0.02 (as in BERT and GPT-2) unless said otherwise.
    pub fn init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }

    /// The layer, its parameters drawn from `rng`.
    ///
    /// # Errors
    /// [`Error::Argument`] from the initialiser, [`Error::Overflow`] if the weight does not fit in memory.
    pub fn build(self, rng: &mut (impl Rng + ?Sized)) -> Result<LearnedPositions<T>> {
        Ok(LearnedPositions { weight: Param::new(self.init.tensor([self.most, self.width], rng)?) })
    }
}

/// Attention with linear biases (Press et al., 2022): the score of a query and a key that stand n positions apart loses n times the slope of the
/// head. The slopes are 2^(-8h/heads) for head h = 1, 2, …, and those of the paper where heads are no power of two.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::{Alibi, Attention};
/// let alibi = Alibi::new(2)?;
/// assert_eq!(alibi.slopes(), [1.0 / 16.0, 1.0 / 256.0]);
/// let x: Tensor = Tensor::ones([1, 2, 5, 4])?;
/// let y = x.scaled_dot_product_attention(&x, &x, &Attention::new().causal().mask(alibi.bias::<f32>(5, 5)?))?;
/// assert_eq!(y.shape(), [1, 2, 5, 4]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Alibi {
    slopes: Vec<f64>,
}

impl Alibi {
    /// For this many heads.
    ///
    /// # Errors
    /// [`Error::Argument`] for no heads.
    pub fn new(heads: usize) -> Result<Self> {
        if heads == 0 {
            return Err(Error::argument("Alibi", "0 heads; there must be one at least"));
        }
        let power = 1 << heads.ilog2();
        let slope = |h: usize, of: usize| 2f64.powf(-8.0 * h as f64 / of as f64);
        // What a power of two lacks is filled up with every second slope of twice as many heads.
        let slopes = (1..=power)
            .map(|h| slope(h, power))
            .chain((0..heads - power).map(|i| slope(2 * i + 1, 2 * power)))
            .collect();
        Ok(Alibi { slopes })
    }

    /// The slope of each head.
    pub fn slopes(&self) -> &[f64] {
        &self.slopes
    }

    /// What is added to the scores: \[heads, queries, keys\]. The last query stands beside the last key.
    ///
    /// # Errors
    /// [`Error::Overflow`] if it does not fit in memory.
    pub fn bias<T: Float>(&self, queries: usize, keys: usize) -> Result<Tensor<T>> {
        let (q, k) = (queries.max(1), keys.max(1));
        Tensor::from_fn([self.slopes.len(), queries, keys], |n| {
            let (h, i, j) = (n / (q * k), n / k % q, n % k);
            // The query's position is i + keys - queries.
            T::of(-self.slopes[h] * ((i + keys) as f64 - (j + queries) as f64).abs())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinusoids_by_the_formula() {
        let t: Tensor<f64> = SinusoidalPositions::new(5).table(2, 3).unwrap();
        for p in 0..3 {
            for j in 0..5 {
                let angle = (p + 2) as f64 / 10_000f64.powf((j / 2 * 2) as f64 / 5.0);
                let want = if j % 2 == 0 { angle.sin() } else { angle.cos() };
                assert!((t.get([p as isize, j as isize]).unwrap() - want).abs() < 1e-14);
            }
        }
        let none = SinusoidalPositions::new(0).forward(&Tensor::<f32>::zeros([2, 0]).unwrap());
        assert_eq!(none.unwrap().shape(), [2, 0]);
        let e = SinusoidalPositions::new(4).forward(&Tensor::<f32>::zeros([2, 3]).unwrap());
        assert_eq!(
            e.unwrap_err().to_string(),
            "SinusoidalPositions: input [2, 3] does not fit: expected [.., positions, 4]"
        );
    }

    #[test]
    fn learnt_ones_and_their_end() {
        let layer = LearnedPositions::<f64>::new(4, 2).build(&mut crate::rng(0)).unwrap();
        let x = Tensor::zeros([2, 2]).unwrap();
        let y = layer.forward_at(&x, 2).unwrap();
        assert_eq!(y, layer.weight.narrow(0, 2, 2).unwrap());
        assert!(layer.forward_at(&x, 3).unwrap_err().to_string().contains("knows 4 positions"));
        assert!(layer.forward_at(&x, usize::MAX).is_err());
        let net = crate::Tape::new(0).watch(&layer);
        let g = net.forward(&x).unwrap().sum().backward().unwrap();
        let want = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(g.get(&layer.weight).unwrap().to_vec(), want);
    }

    #[test]
    fn slopes_of_the_paper() {
        let eight: Vec<f64> = (1..=8).map(|h| 0.5f64.powi(h)).collect();
        assert_eq!(Alibi::new(8).unwrap().slopes(), eight);
        let twelve = Alibi::new(12).unwrap();
        let more: Vec<f64> = [0.5, 1.5, 2.5, 3.5].iter().map(|h| 0.5f64.powf(*h)).collect();
        assert_eq!(twelve.slopes()[..8], eight);
        assert_eq!(twelve.slopes()[8..], more);
        let b: Tensor<f64> = Alibi::new(1).unwrap().bias(2, 3).unwrap();
        let s = 0.5f64.powi(8);
        assert_eq!(b.to_vec(), [-s, 0.0, -s, -2.0 * s, -s, 0.0]);
        assert!(Alibi::new(0).is_err());
    }
}
