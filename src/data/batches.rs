//! Going through a dataset batch by batch.

use std::fmt;

use super::dataset::permutation;
use super::{Batch, Dataset};
use crate::element::Element;

/// The batches of a [`Dataset`], one after the other; an iterator.
///
/// The last batch is shorter where the size doesn't divide the number of examples, unless [`drop_last`](Self::drop_last) leaves it out.
///
/// ```
/// # use gradus::{Tensor, data::Dataset};
/// # let train = Dataset::new(&Tensor::zeros([10, 2])?, &Tensor::zeros([10])?, 1)?;
/// let sizes: Vec<usize> = train.batches(4).map(|b| b.labels.len()).collect();
/// assert_eq!(sizes, [4, 4, 2]);
/// for epoch in 0..2 {
///     for batch in train.batches(4).shuffled(epoch).drop_last() {
///         assert_eq!(batch.inputs.shape(), [4, 2]);
///     }
/// }
/// # Ok::<(), gradus::Error>(())
/// ```
#[derive(Clone)]
pub struct Batches<'a, L: Element = i64> {
    data: &'a Dataset<L>,
    size: usize,
    /// The order of the examples; none stands for their own.
    order: Option<Vec<usize>>,
    /// Examples already given.
    next: usize,
    /// Examples that will be given in all.
    end: usize,
}

impl<'a, L: Element> Batches<'a, L> {
    /// `size` is at least 1.
    pub(super) fn new(data: &'a Dataset<L>, size: usize) -> Self {
        Batches { data, size, order: None, next: 0, end: data.len() }
    }

    /// Goes through the examples in an order that the seed decides: the same seed, the same order. Take another seed for each epoch.
    pub fn shuffled(mut self, seed: u64) -> Self {
        self.order = Some(permutation(self.data.len(), seed));
        self
    }

    /// Leaves out the last batch if it is shorter than the others.
    pub fn drop_last(mut self) -> Self {
        self.end = self.data.len() / self.size * self.size;
        self
    }
}

impl<L: Element> Iterator for Batches<'_, L> {
    type Item = Batch<L>;

    fn next(&mut self) -> Option<Batch<L>> {
        let start = self.next;
        let n = self.size.min(self.end.saturating_sub(start));
        if n == 0 {
            return None;
        }
        self.next += n;
        Some(match &self.order {
            None => self.data.collect(n, |i| start + i),
            Some(order) => self.data.collect(n, |i| order[start + i]),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.end.saturating_sub(self.next).div_ceil(self.size);
        (left, Some(left))
    }
}

/// Sizes, and not the order.
impl<L: Element> fmt::Debug for Batches<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches")
            .field("data", self.data)
            .field("size", &self.size)
            .field("left", &self.len())
            .finish()
    }
}

impl<L: Element> ExactSizeIterator for Batches<'_, L> {}
impl<L: Element> std::iter::FusedIterator for Batches<'_, L> {}
