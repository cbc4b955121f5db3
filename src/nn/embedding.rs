//! The embedding as a layer.

use std::marker::PhantomData;

use rand::Rng;

use super::init::Init;
use super::{Fans, Param};
use crate::Module;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::ops::embedding::{embedding, padding_row};
use crate::tensor::Tensor;

/// A table of vectors, one for each id of a vocabulary: ids of shape \[..\] give \[.., width\].
///
/// ```
/// use gradus::prelude::*;
/// let layer: Embedding = Embedding::new(1000, 64).padding_idx(0).build(&mut gradus::rng(0))?;
/// let y = layer.forward(&Tensor::from([[5i64, 17, 0], [2, 0, 0]]))?;
/// assert_eq!(y.shape(), [2, 3, 64]);
/// assert_eq!(y.get([0, 2, 7])?, 0.0);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct Embedding<T: Float = f32> {
    /// \[vocabulary, width\].
    pub weight: Param<T>,
    padding: Option<usize>,
    max_norm: Option<f64>,
    norm_type: f64,
}

impl<T: Float> Embedding<T> {
    /// Starts a layer for so many ids with vectors of this width; [`build`](EmbeddingBuilder::build) draws them.
    #[allow(clippy::new_ret_no_self)] // A layer cannot be made before the generator is there.
    pub fn new(vocabulary: usize, width: usize) -> EmbeddingBuilder<T> {
        EmbeddingBuilder {
            vocabulary,
            width,
            padding: None,
            max_norm: None,
            norm_type: 2.0,
            init: Init::Normal { mean: 0.0, std: 1.0 },
            element: PhantomData,
        }
    }

    /// A layer with this table, \[vocabulary, width\]. To keep it as it is, don't watch it: see [`Tape::watch_where`](crate::Tape::watch_where).
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let layer = Embedding::from_pretrained(Tensor::from([[1.0f32, 2.0], [3.0, 4.0]]))?;
    /// assert_eq!(layer.forward(&Tensor::from([1i64]))?.to_vec(), [3.0, 4.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if it has not two axes.
    pub fn from_pretrained(table: Tensor<T>) -> Result<Self> {
        if table.rank() != 2 {
            let message =
                format!("the table has shape {:?}; it must be [vocabulary, width]", table.shape());
            return Err(Error::shape("Embedding", message));
        }
        Ok(Embedding { weight: Param::new(table), padding: None, max_norm: None, norm_type: 2.0 })
    }

    /// The same layer with a row that learns nothing; negative numbers count from the end. Its vector stays as it is.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no such row.
    pub fn with_padding_idx(mut self, index: isize) -> Result<Self> {
        self.padding = padding_row("Embedding", Some(index), self.vocabulary())?;
        Ok(self)
    }

    /// How many ids there are.
    pub fn vocabulary(&self) -> usize {
        self.weight.shape()[0]
    }

    /// The size of each vector.
    pub fn width(&self) -> usize {
        self.weight.shape()[1]
    }

    /// The vectors of the ids, \[.., width\].
    ///
    /// # Errors
    /// [`Error::Index`] for an id that is negative or not below the vocabulary, with its place.
    pub fn forward(&self, ids: &Tensor<i64>) -> Result<Tensor<T>> {
        self.weight.within(|| {
            let y = embedding("Embedding", &self.weight, ids, self.padding)?;
            match self.max_norm {
                Some(max) => shorten(&y, max, self.norm_type),
                None => Ok(y),
            }
        })
    }
}

/// Each vector longer than `max` scaled down to that length; the factors are constants to the gradient.
fn shorten<T: Float>(y: &Tensor<T>, max: f64, p: f64) -> Result<Tensor<T>> {
    let x = y.detach();
    let norm = match p {
        2.0 => x.norm_axes(-1, true)?,
        f64::INFINITY => x.abs().amax(-1, true)?,
        p => x.abs().powf(T::of(p)).sum_axes(-1, true)?.powf(T::of(1.0 / p)),
    };
    // The small number keeps a length of exactly `max` from becoming longer by rounding, as in PyTorch.
    let factor = norm.add_scalar(T::of(1e-7)).rdiv_scalar(T::of(max));
    let longer = norm.gt_scalar(T::of(max));
    y.try_mul(&longer.select_where(&factor, &factor.ones_like())?)
}

/// What an [`Embedding`] will be.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::Init;
/// let layer: Embedding =
///     Embedding::new(100, 8).init(Init::Normal { mean: 0.0, std: 0.02 }).max_norm(1.0).build(&mut gradus::rng(0))?;
/// assert_eq!((layer.vocabulary(), layer.width()), (100, 8));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "call build(rng) to get the layer"]
pub struct EmbeddingBuilder<T: Float = f32> {
    vocabulary: usize,
    width: usize,
    padding: Option<isize>,
    max_norm: Option<f64>,
    norm_type: f64,
    init: Init,
    element: PhantomData<T>,
}

impl<T: Float> EmbeddingBuilder<T> {
    /// The id of padding: its vector starts as zeros and learns nothing. Negative numbers count from the end.
    pub fn padding_idx(mut self, index: isize) -> Self {
        self.padding = Some(index);
        self
    }

    /// Vectors come out no longer than this. The table keeps its numbers (PyTorch writes the shortened vectors back into it).
    pub fn max_norm(mut self, max: f64) -> Self {
        self.max_norm = Some(max);
        self
    }

    /// Which norm [`max_norm`](Self::max_norm) measures; 2, the Euclidean, unless said otherwise.
    pub fn norm_type(mut self, p: f64) -> Self {
        self.norm_type = p;
        self
    }

    /// How the table starts: drawn from the standard normal distribution unless said otherwise.
    pub fn init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }

    /// The layer, its table drawn from `rng`.
    ///
    /// # Errors
    /// [`Error::Argument`] for a padding index that is no row, a negative `max_norm` or from the initialiser, [`Error::Overflow`] if the table
    /// does not fit in memory.
    pub fn build(self, rng: &mut (impl Rng + ?Sized)) -> Result<Embedding<T>> {
        let padding = padding_row("Embedding", self.padding, self.vocabulary)?;
        if self.max_norm.is_some_and(|m| m.is_nan() || m < 0.0)
            || self.norm_type.is_nan()
            || self.norm_type <= 0.0
        {
            let message = format!(
                "max_norm {:?} must not be negative, and norm_type {} must be positive",
                self.max_norm, self.norm_type
            );
            return Err(Error::argument("Embedding", message));
        }
        let fans = Fans { fan_in: self.vocabulary, fan_out: self.width };
        let mut table = self.init.tensor_with([self.vocabulary, self.width], fans, rng)?;
        if let Some(row) = padding {
            table.make_mut()[row * self.width..(row + 1) * self.width].fill(T::ZERO);
        }
        let (max_norm, norm_type) = (self.max_norm, self.norm_type);
        Ok(Embedding { weight: Param::new(table), padding, max_norm, norm_type })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;

    #[test]
    fn padding_starts_as_zeros_and_learns_nothing() {
        let layer = Embedding::<f64>::new(4, 3).padding_idx(-1).build(&mut crate::rng(0)).unwrap();
        assert_eq!(layer.weight.to_vec()[9..], [0.0; 3]);
        let y = Tape::new(0).watch(&layer).forward(&Tensor::from([3i64, 1, 1])).unwrap();
        let g = y.backward_with(&y.ones_like()).unwrap();
        let g = g.get(&layer.weight).unwrap().to_vec();
        assert_eq!(g, [[0.0; 3], [2.0; 3], [0.0; 3], [0.0; 3]].concat());
        let own = Embedding::from_pretrained(layer.weight.detach()).unwrap();
        assert!(own.clone().with_padding_idx(2).is_ok() && own.with_padding_idx(4).is_err());
    }

    #[test]
    fn long_vectors_come_out_shorter() {
        let table = Tensor::from([[3.0f64, 4.0], [0.3, 0.4]]);
        let mut layer = Embedding::from_pretrained(table).unwrap();
        layer.max_norm = Some(1.0);
        let y = layer.forward(&Tensor::from([0i64, 1])).unwrap().to_vec();
        for (got, want) in y.iter().zip([0.6, 0.8, 0.3, 0.4]) {
            assert!((got - want).abs() < 1e-6);
        }
        layer.norm_type = f64::INFINITY;
        let y = layer.forward(&Tensor::from([0i64])).unwrap();
        assert!((y.get([0, 1]).unwrap() - 1.0).abs() < 1e-6);
        layer.norm_type = 1.0;
        let y = layer.forward(&Tensor::from([0i64])).unwrap();
        assert!((y.get([0, 0]).unwrap() - 3.0 / 7.0).abs() < 1e-6);
    }

    #[test]
    fn errors_say_where() {
        let mut rng = crate::rng(0);
        let model: (Embedding, Embedding) = (
            Embedding::new(4, 3).build(&mut rng).unwrap(),
            Embedding::new(5, 3).build(&mut rng).unwrap(),
        );
        let net = Tape::new(0).watch(&model);
        assert_eq!(
            net.1.forward(&Tensor::from([5i64])).unwrap_err().to_string(),
            "Embedding: index 5 is out of range for the vocabulary (the id at [0]) of size 5 [at 1]"
        );
        assert!(Embedding::<f32>::new(4, 3).padding_idx(4).build(&mut rng).is_err());
        assert!(Embedding::<f32>::new(4, 3).max_norm(-1.0).build(&mut rng).is_err());
        assert!(Embedding::from_pretrained(Tensor::from([1.0f32])).is_err());
    }
}
