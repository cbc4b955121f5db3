//! A dataset for supervised learning, in memory.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;

use super::Batches;
use super::inputs::Inputs;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::tensor::{IntoShape, Tensor};

/// Examples for supervised learning: inputs, and a label for each.
///
/// `L` is the type of a label: `i64`, the index of a class ([`Dataset::new`]), or `f32`, numbers to be predicted
/// ([`Dataset::regression`]). There is always at least one example. Cloning, [`take`](Self::take), [`split`](Self::split),
/// [`subset`](Self::subset), [`shuffled`](Self::shuffled) and [`normalized`](Self::normalized) share the data and copy none of it.
///
/// ```
/// use gradus::Tensor;
/// use gradus::data::Dataset;
/// let inputs = Tensor::from_vec(vec![0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0], [4, 2])?;
/// let labels = Tensor::from_vec(vec![0, 1, 1, 0], [4])?;
/// let xor = Dataset::new(&inputs, &labels, 2)?;
/// for batch in xor.batches(3).shuffled(1) {
///     assert_eq!(batch.inputs.shape(), [batch.labels.len(), 2]);
/// }
/// # Ok::<(), gradus::Error>(())
/// ```
#[derive(Clone)]
pub struct Dataset<L: Element = i64> {
    inputs: Inputs,
    labels: Arc<Vec<L>>,
    /// The shape of one example's label; empty for a single number.
    label_shape: Vec<usize>,
    /// 0 where labels aren't classes.
    classes: usize,
    rows: Rows,
}

/// Some examples and what they should give.
#[derive(Clone, Debug)]
pub struct Batch<L: Element = i64> {
    /// `[n, example…]`.
    pub inputs: Tensor,
    /// `[n]` class indices, or `[n, …]` target numbers.
    pub labels: Tensor<L>,
}

/// Which of the stored examples belong to the dataset, in order.
#[derive(Clone)]
enum Rows {
    Range(Range<usize>),
    List(Arc<[usize]>),
}

impl Rows {
    fn len(&self) -> usize {
        match self {
            Rows::Range(r) => r.len(),
            Rows::List(l) => l.len(),
        }
    }

    fn at(&self, i: usize) -> usize {
        match self {
            Rows::Range(r) => r.start + i,
            Rows::List(l) => l[i],
        }
    }

    fn slice(&self, range: Range<usize>) -> Rows {
        match self {
            Rows::Range(r) => Rows::Range(r.start + range.start..r.start + range.end),
            Rows::List(l) => Rows::List(l[range].into()),
        }
    }
}

impl Dataset<i64> {
    /// A dataset for classification: inputs whose first axis counts the examples, and the class of each, `[n]`, in `0..classes`.
    ///
    /// # Errors
    /// [`Error::Shape`] if inputs and labels differ in number or the labels aren't of rank 1, [`Error::Argument`] if there are no
    /// examples, [`Error::Index`] for a label outside the classes.
    pub fn new(inputs: &Tensor, labels: &Tensor<i64>, classes: usize) -> Result<Self> {
        Self::with_classes("Dataset::new", Inputs::floats(inputs), labels, classes)
    }

    /// As [`new`](Self::new), from images as bytes in the order of `shape`, `[n, channels, height, width]` or any other that
    /// begins with their number. They stay bytes in memory; in a batch they are `f32` from 0 to 1.
    ///
    /// ```
    /// use gradus::Tensor;
    /// use gradus::data::Dataset;
    /// let labels = Tensor::from_vec(vec![3, 7], [2])?;
    /// let two = Dataset::images(vec![255; 2 * 28 * 28], [2, 1, 28, 28], &labels, 10)?;
    /// let all = two.all();
    /// assert_eq!((all.inputs.shape(), all.inputs.get([0, 0, 5, 5])?), (&[2, 1, 28, 28][..], 1.0));
    /// # Ok::<(), gradus::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`Error::Shape`] if the bytes don't fill the shape.
    pub fn images(
        pixels: Vec<u8>,
        shape: impl IntoShape,
        labels: &Tensor<i64>,
        classes: usize,
    ) -> Result<Self> {
        const OP: &str = "Dataset::images";
        let inputs = Inputs::bytes(OP, pixels, &shape.into_shape())?;
        Self::with_classes(OP, inputs, labels, classes)
    }

    fn with_classes(
        op: &'static str,
        inputs: Inputs,
        labels: &Tensor<i64>,
        classes: usize,
    ) -> Result<Self> {
        if labels.rank() != 1 {
            let shape = labels.shape();
            return Err(Error::shape(
                op,
                format!("labels of shape {shape:?}: expected one class index per example, [n]"),
            ));
        }
        let dataset = Dataset::build(op, inputs, labels.to_vec(), vec![], classes)?;
        let mut labels = dataset.labels.iter().enumerate();
        match labels.find(|(_, l)| !(0..classes as i64).contains(l)) {
            None => Ok(dataset),
            Some((i, &index)) => {
                let what = format!("the classes (it is the label of example {i})");
                Err(Error::Index { op, index, what, size: classes })
            }
        }
    }

    /// The number of classes.
    pub fn num_classes(&self) -> usize {
        self.classes
    }

    /// How many examples each class has.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// # let data = Dataset::new(&Tensor::zeros([3, 1])?, &Tensor::from([0i64, 1, 1]), 2)?;
    /// assert_eq!((data.num_classes(), data.class_counts()), (2, vec![1, 2]));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes];
        (0..self.len()).for_each(|i| counts[self.labels[self.rows.at(i)] as usize] += 1);
        counts
    }
}

impl Dataset<f32> {
    /// A dataset for regression: inputs whose first axis counts the examples, and the numbers to predict, `[n]` or `[n, …]`.
    ///
    /// ```
    /// use gradus::Tensor;
    /// use gradus::data::Dataset;
    /// let x = Tensor::from_vec(vec![1.0, 2.0, 3.0], [3, 1])?;
    /// let y = Tensor::from_vec(vec![2.0, 4.0, 6.0], [3, 1])?;
    /// let table = Dataset::regression(&x, &y)?;
    /// let first = table.batches(2).next().unwrap();
    /// assert_eq!(first.labels.to_vec(), [2.0, 4.0]);
    /// # Ok::<(), gradus::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if inputs and targets differ in number, [`Error::Argument`] if there are no examples.
    pub fn regression(inputs: &Tensor, targets: &Tensor) -> Result<Self> {
        const OP: &str = "Dataset::regression";
        match targets.shape() {
            [] => Err(Error::shape(OP, "a single target: expected [n] or [n, …], one per example")),
            [n, shape @ ..] => {
                let inputs = Inputs::floats(inputs);
                same_number(OP, inputs.len(), *n)?;
                Dataset::build(OP, inputs, targets.to_vec(), shape.to_vec(), 0)
            }
        }
    }
}

fn same_number(op: &'static str, inputs: usize, labels: usize) -> Result<()> {
    if inputs == labels {
        return Ok(());
    }
    Err(Error::shape(
        op,
        format!("{inputs} inputs and {labels} labels: expected one label per input"),
    ))
}

impl<L: Element> Dataset<L> {
    fn build(
        op: &'static str,
        inputs: Inputs,
        labels: Vec<L>,
        label_shape: Vec<usize>,
        classes: usize,
    ) -> Result<Self> {
        let n = inputs.len();
        if label_shape.is_empty() {
            same_number(op, n, labels.len())?;
        }
        if n == 0 {
            return Err(Error::argument(op, "an empty dataset: expected at least one example"));
        }
        Ok(Dataset {
            inputs,
            labels: Arc::new(labels),
            label_shape,
            classes,
            rows: Rows::Range(0..n),
        })
    }

    /// The number of examples.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Always `false`: a dataset without examples can't be made.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shape of one input, for example `[1, 28, 28]`.
    pub fn example_shape(&self) -> &[usize] {
        self.inputs.example_shape()
    }

    /// The examples in batches of `n`, in their order; see [`Batches`] for shuffling.
    ///
    /// # Panics
    /// If `n` is 0, with the words of the error that [`try_batches`](Self::try_batches) returns.
    #[track_caller]
    pub fn batches(&self, n: usize) -> Batches<'_, L> {
        match self.try_batches(n) {
            Ok(batches) => batches,
            Err(e) => panic!("{e}"),
        }
    }

    /// As [`batches`](Self::batches), for a size that comes from outside the program.
    ///
    /// # Errors
    /// [`Error::Argument`] if `n` is 0.
    pub fn try_batches(&self, n: usize) -> Result<Batches<'_, L>> {
        if n == 0 {
            return Err(Error::argument("batches", "a batch size of 0: expected at least 1"));
        }
        Ok(Batches::new(self, n))
    }

    /// The whole dataset as one batch.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// # let x = Tensor::from([[0.0f32], [1.0], [2.0]]);
    /// # let data = Dataset::new(&x, &Tensor::from([0i64, 1, 1]), 2)?;
    /// assert_eq!(data.all().labels.to_vec(), [0, 1, 1]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn all(&self) -> Batch<L> {
        self.collect(self.len(), |i| i)
    }

    /// The examples at these places as one batch, in this order; a place may come more than once.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// # let x = Tensor::from([[0.0f32], [1.0], [2.0]]);
    /// # let data = Dataset::new(&x, &Tensor::from([0i64, 1, 1]), 2)?;
    /// assert_eq!(data.gather(&[2, 0])?.inputs.to_vec(), [2.0, 0.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Index`] for a place outside the dataset.
    pub fn gather(&self, places: &[usize]) -> Result<Batch<L>> {
        self.check("gather", places)?;
        Ok(self.collect(places.len(), |i| places[i]))
    }

    /// `place(i)` must be below `len()`.
    pub(super) fn collect(&self, n: usize, place: impl Fn(usize) -> usize + Sync) -> Batch<L> {
        let inputs = self.inputs.gather(n, |i| self.rows.at(place(i)));
        let width: usize = self.label_shape.iter().product();
        let shape: Vec<usize> = [&[n], &self.label_shape[..]].concat();
        let labels = Tensor::build(&shape, |out| {
            for (i, out) in out.chunks_mut(width.max(1)).enumerate() {
                let row = self.rows.at(place(i));
                out.copy_from_slice(&self.labels[row * width..(row + 1) * width]);
            }
        });
        Batch { inputs, labels }
    }

    /// The first `n` examples, or all if there are fewer.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// # let x = Tensor::from([[0.0f32], [1.0], [2.0]]);
    /// # let data = Dataset::new(&x, &Tensor::from([0i64, 1, 1]), 2)?;
    /// assert_eq!(data.take(2)?.len(), 2);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if `n` is 0.
    pub fn take(&self, n: usize) -> Result<Self> {
        if n == 0 {
            return Err(Error::argument("take", "0 examples: expected at least 1"));
        }
        Ok(self.with_rows(self.rows.slice(0..n.min(self.len()))))
    }

    /// The first `n` examples and the others. For parts at random, call [`shuffled`](Self::shuffled) before.
    ///
    /// # Errors
    /// [`Error::Argument`] if either part would be empty.
    ///
    /// ```
    /// # use gradus::{Tensor, data::Dataset};
    /// # let all = Dataset::new(&Tensor::zeros([10, 2])?, &Tensor::zeros([10])?, 1)?;
    /// let (train, validation) = all.shuffled(1).split(8)?;
    /// assert_eq!((train.len(), validation.len()), (8, 2));
    /// # Ok::<(), gradus::Error>(())
    /// ```
    pub fn split(&self, n: usize) -> Result<(Self, Self)> {
        let len = self.len();
        if n == 0 || n >= len {
            return Err(Error::argument(
                "split",
                format!(
                    "at {n} of {len} examples: expected 1 to {}, so that no part is empty",
                    len - 1
                ),
            ));
        }
        let part = |range| self.with_rows(self.rows.slice(range));
        Ok((part(0..n), part(n..len)))
    }

    /// The examples at these places, in this order; a place may come more than once.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// # let x = Tensor::from([[0.0f32], [1.0], [2.0]]);
    /// # let data = Dataset::new(&x, &Tensor::from([0i64, 1, 1]), 2)?;
    /// assert_eq!(data.subset(&[2, 0])?.all().inputs.to_vec(), [2.0, 0.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Index`] for a place outside the dataset, [`Error::Argument`] if there are none.
    pub fn subset(&self, places: &[usize]) -> Result<Self> {
        if places.is_empty() {
            return Err(Error::argument("subset", "no places: expected at least one"));
        }
        self.check("subset", places)?;
        Ok(self.with_rows(Rows::List(places.iter().map(|&i| self.rows.at(i)).collect())))
    }

    /// The same examples in an order that the seed decides.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// # let x = Tensor::from([[0.0f32], [1.0], [2.0]]);
    /// # let data = Dataset::new(&x, &Tensor::from([0i64, 1, 1]), 2)?;
    /// assert_eq!(data.shuffled(1).all().inputs, data.shuffled(1).all().inputs);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn shuffled(&self, seed: u64) -> Self {
        let order = permutation(self.len(), seed);
        self.with_rows(Rows::List(order.into_iter().map(|i| self.rows.at(i)).collect()))
    }

    /// The same examples, their inputs normalised in every batch: (x − mean) / std.
    ///
    /// One number of each for everything, or one per channel, which is the first axis of an example: the colours of an
    /// image, the columns of a table. Bytes are divided by 255 first. It replaces an earlier normalisation.
    ///
    /// ```
    /// # use gradus::{Tensor, data::Dataset};
    /// let x = Tensor::from_vec(vec![1.0, 10.0, 3.0, 30.0], [2, 2])?;
    /// let table = Dataset::regression(&x, &Tensor::zeros([2])?)?;
    /// let (mean, std) = table.mean_std();
    /// let scaled = table.normalized(&mean, &std)?;
    /// assert_eq!(scaled.all().inputs.to_vec(), [-1.0, -1.0, 1.0, 1.0]);
    /// # Ok::<(), gradus::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if there are other than 1 or as many numbers as channels, [`Error::Argument`] for a mean that isn't
    /// finite or a standard deviation that isn't above 0.
    pub fn normalized(&self, mean: &[f32], std: &[f32]) -> Result<Self> {
        Ok(Dataset { inputs: self.inputs.normalized(mean, std)?, ..self.clone() })
    }

    /// Mean and standard deviation (of the population) of each channel of the inputs, before any normalisation. Take those
    /// of the training set, for the test set too.
    pub fn mean_std(&self) -> (Vec<f32>, Vec<f32>) {
        self.inputs.mean_std((0..self.len()).map(|i| self.rows.at(i)))
    }

    fn with_rows(&self, rows: Rows) -> Self {
        Dataset { rows, ..self.clone() }
    }

    fn check(&self, op: &'static str, places: &[usize]) -> Result<()> {
        match places.iter().find(|&&i| i >= self.len()) {
            None => Ok(()),
            Some(&i) => {
                let index = i64::try_from(i).unwrap_or(i64::MAX);
                Err(Error::Index { op, index, what: "the dataset".into(), size: self.len() })
            }
        }
    }
}

/// Sizes, and not the millions of numbers.
impl<L: Element> fmt::Debug for Dataset<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dataset")
            .field("len", &self.len())
            .field("example_shape", &self.example_shape())
            .field("label_shape", &self.label_shape)
            .field("classes", &self.classes)
            .finish()
    }
}

/// 0 to n − 1 in an order that the seed decides.
pub(super) fn permutation(n: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(&mut Xoshiro256PlusPlus::seed_from_u64(seed));
    order
}

#[cfg(test)]
#[path = "dataset_tests.rs"]
mod tests;
