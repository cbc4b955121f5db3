//! Embeddings of bags of ids, added up.

use rand::Rng;

use super::{Embedding, Param};
use crate::Module;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::ops::embedding::{checked, padding_row};
use crate::tensor::Tensor;

/// How the vectors of a bag become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BagMode {
    /// Their sum.
    Sum,
    /// Their mean.
    #[default]
    Mean,
    /// The largest number at each place.
    Max,
}

/// A table of vectors, of which each bag of ids gets the sum, the mean or the maximum: one vector for each bag. An empty bag gets zeros.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::{BagMode, EmbeddingBag};
/// let table: Tensor = Tensor::from([[1.0, 2.0], [3.0, 4.0], [5.0, 0.0]]);
/// let layer = EmbeddingBag::from_pretrained(table, BagMode::Sum)?;
/// let bags = Tensor::from([[0i64, 1], [2, 2]]);
/// assert_eq!(layer.forward(&bags)?.to_vec(), [4.0, 6.0, 10.0, 0.0]);
/// // Bags of different sizes: all ids in a row, and where each bag begins.
/// let y = layer.forward_offsets(&Tensor::from([0i64, 1, 2]), &[0, 2, 2], None)?;
/// assert_eq!(y.to_vec(), [4.0, 6.0, 0.0, 0.0, 5.0, 0.0]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct EmbeddingBag<T: Float = f32> {
    /// \[vocabulary, width\].
    pub weight: Param<T>,
    #[module(skip)]
    mode: BagMode,
    padding: Option<usize>,
}

impl<T: Float> EmbeddingBag<T> {
    /// A layer for so many ids with vectors of this width, drawn from the standard normal distribution.
    ///
    /// # Errors
    /// [`Error::Overflow`] if the table does not fit in memory.
    pub fn new(
        vocabulary: usize,
        width: usize,
        mode: BagMode,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<Self> {
        let Embedding { weight, .. } = Embedding::new(vocabulary, width).build(rng)?;
        Ok(EmbeddingBag { weight, mode, padding: None })
    }

    /// A layer with this table, \[vocabulary, width\].
    ///
    /// # Errors
    /// [`Error::Shape`] if it has not two axes.
    pub fn from_pretrained(table: Tensor<T>, mode: BagMode) -> Result<Self> {
        let Embedding { weight, .. } = Embedding::from_pretrained(table)?;
        Ok(EmbeddingBag { weight, mode, padding: None })
    }

    /// The same layer with an id that counts for nothing: bags are as if it were not in them. Negative numbers count from the end.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no such row.
    pub fn with_padding_idx(mut self, index: isize) -> Result<Self> {
        self.padding = padding_row("EmbeddingBag", Some(index), self.weight.shape()[0])?;
        Ok(self)
    }

    /// Bags of one size, \[bags, ids\], to \[bags, width\].
    ///
    /// # Errors
    /// [`Error::Shape`] unless there are two axes, [`Error::Index`] for an id that is negative or not below the vocabulary.
    pub fn forward(&self, ids: &Tensor<i64>) -> Result<Tensor<T>> {
        let &[bags, size] = ids.shape() else {
            let message = format!(
                "the ids have shape {:?}, but must be [bags, ids]; for bags of different sizes call forward_offsets",
                ids.shape()
            );
            return Err(self.weight.locate(Error::shape("EmbeddingBag", message)));
        };
        let bag_of: Vec<usize> = (0..bags * size).map(|i| i / size.max(1)).collect();
        self.weight.within(|| self.run(ids, bag_of, bags, None))
    }

    /// Bags of any sizes: all `ids` in a row, bag k from `offsets[k]` to the next bag's offset or the end, to \[bags, width\]. With a
    /// weight for each id, which only sums have, its vector is multiplied by it.
    ///
    /// # Errors
    /// [`Error::Shape`] unless the ids have one axis and the weights are as many, [`Error::Argument`] for offsets that do not begin at 0 and grow
    /// up to the number of ids, and for weights without sums; [`Error::Index`] for an id that is negative or not below the vocabulary.
    pub fn forward_offsets(
        &self,
        ids: &Tensor<i64>,
        offsets: &[usize],
        weights: Option<&Tensor<T>>,
    ) -> Result<Tensor<T>> {
        let n = ids.len();
        let says =
            |message: String| Err(self.weight.locate(Error::argument("EmbeddingBag", message)));
        if ids.rank() != 1 || weights.is_some_and(|w| w.shape() != [n]) {
            let message = format!(
                "the ids have shape {:?} and the weights {:?}; both must be one row of the same length",
                ids.shape(),
                weights.map(Tensor::shape)
            );
            return Err(self.weight.locate(Error::shape("EmbeddingBag", message)));
        }
        if weights.is_some() && self.mode != BagMode::Sum {
            return says(format!("weights go with BagMode::Sum, not with {:?}", self.mode));
        }
        let grows = offsets.is_sorted() && offsets.last().is_none_or(|&l| l <= n);
        if !grows || offsets.first().is_some_and(|&f| f != 0) || (offsets.is_empty() && n > 0) {
            return says(format!("the offsets {offsets:?} must begin at 0 and grow up to {n}"));
        }
        let bag_of = (0..n).map(|i| offsets.partition_point(|&o| o <= i) - 1).collect();
        self.weight.within(|| self.run(ids, bag_of, offsets.len(), weights))
    }

    fn run(
        &self,
        ids: &Tensor<i64>,
        bag_of: Vec<usize>,
        bags: usize,
        weights: Option<&Tensor<T>>,
    ) -> Result<Tensor<T>> {
        let rows = checked("EmbeddingBag", ids, self.weight.shape()[0])?;
        // What is padding is left out from here on.
        let kept: Vec<usize> = (0..rows.len()).filter(|&i| Some(rows[i]) != self.padding).collect();
        let pick = |f: &dyn Fn(usize) -> usize| {
            let all = kept.iter().map(|&i| f(i) as i64).collect();
            Tensor::from_vec(all, [kept.len()])
        };
        let mut y = self.weight.index_select(0, &pick(&|i| rows[i])?)?;
        if let Some(w) = weights {
            y = y.try_mul(&w.index_select(0, &pick(&|i| i)?)?.unsqueeze(-1)?)?;
        }
        let width = self.weight.shape()[1];
        if self.mode == BagMode::Max {
            return largest(&y, kept.iter().map(|&i| bag_of[i]).collect(), bags, width);
        }
        let to = pick(&|i| bag_of[i])?.unsqueeze(-1)?.expand([kept.len(), width])?;
        let sums = Tensor::zeros([bags, width])?.scatter_add(0, &to, &y)?;
        if self.mode == BagMode::Sum {
            return Ok(sums);
        }
        let mut counts = vec![0usize; bags];
        kept.iter().for_each(|&i| counts[bag_of[i]] += 1);
        let share = |&n: &usize| T::of(1.0 / n.max(1) as f64);
        let shares = Tensor::from_vec(counts.iter().map(share).collect(), [bags, 1])?;
        sums.try_mul(&shares)
    }
}

/// The largest number at each place of the vectors of each bag; `bag_of` ascends.
fn largest<T: Float>(
    y: &Tensor<T>,
    bag_of: Vec<usize>,
    bags: usize,
    width: usize,
) -> Result<Tensor<T>> {
    let mut out = Vec::with_capacity(bags);
    for bag in 0..bags {
        let (from, to) =
            (bag_of.partition_point(|&b| b < bag), bag_of.partition_point(|&b| b <= bag));
        out.push(match to - from {
            0 => Tensor::zeros([width])?,
            n => y.narrow(0, from, n)?.max_axis(0, false)?.0,
        });
    }
    match out.is_empty() {
        true => Tensor::zeros([0, width]),
        false => Tensor::stack(&out.iter().collect::<Vec<_>>(), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    fn layer(mode: BagMode) -> EmbeddingBag<f64> {
        let table = Tensor::from_fn([5, 3], |i| (i as f64 * 1.3).sin()).unwrap();
        EmbeddingBag::from_pretrained(table, mode).unwrap()
    }

    #[test]
    fn each_mode_against_the_embedding() {
        let ids = Tensor::from([[0i64, 3, 3], [4, 1, 2]]);
        let y = layer(BagMode::Sum).weight.embedding(&ids, None).unwrap();
        let near = |a: Tensor<f64>, b: Tensor<f64>| {
            assert_eq!(a.shape(), b.shape());
            a.iter().zip(b.iter()).for_each(|(a, b)| assert!((a - b).abs() < 1e-12));
        };
        near(layer(BagMode::Sum).forward(&ids).unwrap(), y.sum_axes(1, false).unwrap());
        near(layer(BagMode::Mean).forward(&ids).unwrap(), y.mean_axes(1, false).unwrap());
        near(layer(BagMode::Max).forward(&ids).unwrap(), y.amax(1, false).unwrap());
        let flat = ids.reshape([6]).unwrap();
        let padded = layer(BagMode::Mean).with_padding_idx(3).unwrap();
        let y = padded.forward_offsets(&flat, &[0, 3], None).unwrap();
        near(y.narrow(0, 0, 1).unwrap(), padded.weight.narrow(0, 0, 1).unwrap());
    }

    #[test]
    fn gradients_of_table_and_weights() {
        let ids = Tensor::from([0i64, 3, 3, 4, 1]);
        for mode in [BagMode::Sum, BagMode::Mean, BagMode::Max] {
            let l = layer(mode);
            gradcheck(
                |[w]| {
                    let mut l = l.clone();
                    *l.weight.value_mut() = w.clone();
                    l.forward_offsets(&ids, &[0, 2, 2], None)
                },
                [&l.weight],
            )
            .unwrap();
        }
        let w = Tensor::from([0.5, -1.0, 2.0, 0.1, 3.0]);
        let l = layer(BagMode::Sum);
        gradcheck(|[w]| l.forward_offsets(&ids, &[0, 2, 2], Some(w)), [&w]).unwrap();
    }

    #[test]
    fn empty_bags_and_what_does_not_fit() {
        let none = Tensor::<i64>::zeros([0]).unwrap();
        for mode in [BagMode::Sum, BagMode::Mean, BagMode::Max] {
            let l = layer(mode);
            assert_eq!(l.forward_offsets(&none, &[0, 0], None).unwrap().to_vec(), [0.0; 6]);
            assert_eq!(l.forward_offsets(&none, &[], None).unwrap().shape(), [0, 3]);
            assert_eq!(l.forward(&Tensor::zeros([2, 0]).unwrap()).unwrap().to_vec(), [0.0; 6]);
        }
        let l = layer(BagMode::Mean);
        let one = Tensor::from([1i64]);
        assert!(l.forward(&one).is_err());
        assert!(l.forward_offsets(&one, &[1], None).is_err());
        assert!(l.forward_offsets(&one, &[0, 2], None).is_err());
        assert!(l.forward_offsets(&one, &[], None).is_err());
        assert!(l.forward_offsets(&one, &[0], Some(&Tensor::from([1.0]))).is_err());
        assert!(matches!(
            l.forward(&Tensor::from([[7i64]])),
            Err(Error::Index { index: 7, size: 5, .. })
        ));
    }
}
