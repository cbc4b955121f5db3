//! Cross-entropy of logits with labels or with probabilities, and its options.
//!
//! The formulas stand in the kernel. One pass over the logits gives the losses, one more their gradient.

use std::fmt;

use super::axes::Reduced;
use super::loss::Within;
use crate::autograd::{Op, apply};
use crate::element::Element;
use crate::error::{Error, Result, label_place};
use crate::float::Float;
use crate::kernel::cross_entropy::{self as kernel, IGNORED, Setting};
use crate::kernel::{pair, reduce};
use crate::tensor::{Dims, Tensor};

const OP: &str = "cross_entropy";

/// What becomes of the losses of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// Their mean.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// They stay as they are, one for each element of the target.
    None,
}

/// Cross-entropy between logits and targets, with options: `CrossEntropy::new().label_smoothing(0.1).forward(&logits, &labels)?`.
///
/// For logits x of one example with C classes, a label t, label smoothing s and class weights w (all 1 unless given):
///
/// loss = -(1-s) w_t ln softmax(x)_t - s/C Σ_c w_c ln softmax(x)_c
///
/// With target probabilities p: loss = -Σ_c w_c ((1-s) p_c + s/C) ln softmax(x)_c.
///
/// The mean divides by the sum of the weights of the labels that count (by their number, without weights); with probabilities by the
/// number of examples. If no label counts, that is 0 / 0, so the mean is NaN; the sum is 0.
///
/// Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision" (2016), for the smoothing.
///
/// ```
/// use gradus::prelude::*;
/// let logits: Tensor = Tensor::from([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0]]);
/// let labels = Tensor::from([0i64, 2]);
/// let each = CrossEntropy::new().reduction(Reduction::None).forward(&logits, &labels)?;
/// assert_eq!(each.shape(), [2]);
/// let padded = CrossEntropy::new().ignore_index(2).forward(&logits, &labels)?;
/// assert_eq!(padded.item()?, each.get([0])?);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct CrossEntropy<T: Float = f32> {
    /// The share of the target that is spread evenly over all classes, from 0 to 1.
    pub label_smoothing: f64,
    /// The label of examples that do not count; -100 unless set, as is the custom. Probabilities do not look at it.
    pub ignore_index: Option<i64>,
    /// A weight for each class.
    pub class_weights: Option<Tensor<T>>,
    /// What becomes of the losses of a batch.
    pub reduction: Reduction,
}

impl<T: Float> Default for CrossEntropy<T> {
    fn default() -> Self {
        CrossEntropy {
            label_smoothing: 0.0,
            ignore_index: Some(-100),
            class_weights: None,
            reduction: Reduction::Mean,
        }
    }
}

impl<T: Float> CrossEntropy<T> {
    /// The mean, without smoothing and weights.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`label_smoothing`](Self::label_smoothing).
    pub fn label_smoothing(mut self, smoothing: f64) -> Self {
        self.label_smoothing = smoothing;
        self
    }

    /// Sets [`ignore_index`](Self::ignore_index).
    pub fn ignore_index(mut self, label: i64) -> Self {
        self.ignore_index = Some(label);
        self
    }

    /// Sets [`class_weights`](Self::class_weights).
    pub fn class_weights(mut self, weights: Tensor<T>) -> Self {
        self.class_weights = Some(weights);
        self
    }

    /// Sets [`reduction`](Self::reduction).
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// The loss. Logits are `[n, classes]`, `[n, classes, d1, …]` or `[classes]`; labels have that shape without the axis of classes,
    /// probabilities have it whole.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let logits: Tensor = Tensor::zeros([3, 2])?;
    /// let loss = CrossEntropy::new().ignore_index(-1).forward(&logits, &Tensor::from([0i64, 1, -1]))?;
    /// assert!((loss.item()? - 2f32.ln()).abs() < 1e-6);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not fit each other or the weights, [`Error::Label`] for a label that is no class (it names the
    /// label and its place), [`Error::Argument`] for a smoothing outside 0 to 1, class weights that are negative or not finite, and target
    /// probabilities that are negative or do not sum to 1. (A sum may be off by 0.01, so that probabilities that were stored in half
    /// precision pass.)
    pub fn forward<Y: Targets<T> + ?Sized>(
        &self,
        logits: &Tensor<T>,
        targets: &Y,
    ) -> Result<Tensor<T>> {
        let axis = class_axis(OP, logits)?;
        let classes = logits.shape()[axis];
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            return Err(Error::argument(
                OP,
                format!("label smoothing {} is not between 0 and 1", self.label_smoothing),
            ));
        }
        let weights = check_weights(OP, self.class_weights.as_ref(), classes)?;
        let rows = Reduced::new(OP, logits.shape(), axis, false)?;
        let loss = Loss {
            rows,
            weights,
            smoothing: T::of(self.label_smoothing),
            reduction: self.reduction,
            labels: None,
            denominator: T::ONE,
        };
        match targets.kind() {
            Kind::Labels(labels) => {
                let labels = check_labels(OP, &labels, logits, axis, self.ignore_index)?;
                let denominator = counted(&labels, loss.weights.as_ref());
                apply(Loss { labels: Some(labels), denominator, ..loss }, [logits])
            }
            Kind::Probabilities(p) => {
                if p.shape() != logits.shape() {
                    return Err(no_probabilities(logits, p, &loss.rows.out_shape()));
                }
                let examples: usize = loss.rows.out_shape().iter().product();
                apply(Loss { denominator: T::of(examples as f64), ..loss }, [logits, p])
            }
        }
    }
}

impl<T: Float> Tensor<T> {
    /// The mean cross-entropy of these logits with targets: class labels (`Tensor<i64>`, `<i32>` or `<u8>`) or probabilities of each class.
    /// For options see [`CrossEntropy`](crate::nn::CrossEntropy).
    ///
    /// Logits are `[n, classes]`, `[n, classes, d1, …]` or `[classes]`; loss = mean over the examples of ln Σ_c e^{x_c} - x_t.
    /// Examples with the label -100 do not count.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let logits: Tensor = Tensor::from([[0.0, 0.0], [0.0, 0.0]]);
    /// let loss = logits.cross_entropy(&Tensor::from([0i64, 1]))?;
    /// assert!((loss.item()? - 2f32.ln()).abs() < 1e-6);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not fit, [`Error::Label`] for a label that is no class, [`Error::Argument`] for probabilities
    /// that are negative or do not sum to 1.
    pub fn cross_entropy<Y: Targets<T> + ?Sized>(&self, targets: &Y) -> Result<Tensor<T>> {
        CrossEntropy::new().forward(self, targets)
    }
}

/// What [`CrossEntropy`] compares logits with: labels in a tensor of `i64`, `i32` or `u8`, or probabilities in a tensor of floats.
pub trait Targets<T: Float>: sealed::Sealed {
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn kind(&self) -> Kind<'_, T>;
}

/// Targets by kind, labels as 64-bit integers.
pub(crate) enum Kind<'a, T: Float> {
    Labels(Tensor<i64>),
    Probabilities(&'a Tensor<T>),
}

mod sealed {
    pub trait Sealed {}
    impl<T: crate::element::Element> Sealed for crate::tensor::Tensor<T> {}
}

#[allow(private_interfaces)]
impl<T: Float> Targets<T> for Tensor<i64> {
    fn kind(&self) -> Kind<'_, T> {
        Kind::Labels(self.detach())
    }
}

macro_rules! narrow_labels {
    ($($t:ty),*) => {$(
        #[allow(private_interfaces)]
        impl<T: Float> Targets<T> for Tensor<$t> {
            fn kind(&self) -> Kind<'_, T> {
                Kind::Labels(Tensor::build(self.shape(), |out| {
                    out.iter_mut().zip(self.iter()).for_each(|(o, v)| *o = v.cast());
                }))
            }
        }
    )*};
}
narrow_labels!(i32, u8);

#[allow(private_interfaces)]
impl<T: Float> Targets<T> for Tensor<T> {
    fn kind(&self) -> Kind<'_, T> {
        Kind::Probabilities(self)
    }
}

/// The axis of the classes: 1, or 0 for a single example.
pub(crate) fn class_axis<T: Float>(op: &'static str, logits: &Tensor<T>) -> Result<usize> {
    match logits.rank() {
        0 => Err(Error::shape(
            op,
            "the logits are a single number; they need an axis of classes: [classes], [n, classes] or [n, classes, …]",
        )),
        1 => Ok(0),
        _ => Ok(1),
    }
}

/// The weights, dense, if there is one for each class.
pub(crate) fn check_weights<T: Float>(
    op: &'static str,
    weights: Option<&Tensor<T>>,
    classes: usize,
) -> Result<Option<Tensor<T>>> {
    match weights {
        Some(w) if w.shape() != [classes] => Err(Error::shape(
            op,
            format!(
                "class weights of shape {:?} for {classes} classes; expected [{classes}]",
                w.shape()
            ),
        )),
        w => w.map(|w| check_weight_values(op, w.dense())).transpose(),
    }
}

fn check_weight_values<T: Float>(op: &'static str, weights: Tensor<T>) -> Result<Tensor<T>> {
    let values = weights.as_slice().unwrap_or(&[]);
    match values.iter().position(|&w| !(w >= T::ZERO && w.is_finite())) {
        None => Ok(weights),
        Some(c) => Err(Error::argument(
            op,
            format!("the weight of class {c} is {}; it must be finite and 0 or more", values[c]),
        )),
    }
}

/// The error of float targets where only labels will do.
pub(crate) fn float_labels(op: &'static str) -> Error {
    Error::argument(
        op,
        "the targets are floats, but labels are integers: a Tensor<i64>, such as targets.cast::<i64>()",
    )
}

/// The error of float targets that are no probabilities by their shape; `labels` is the shape of labels.
fn no_probabilities<T: Float>(logits: &Tensor<T>, p: &Tensor<T>, labels: &[usize]) -> Error {
    let hint = if p.shape() == labels {
        "; if these are labels, make them integers, a Tensor<i64>: targets.cast::<i64>()"
    } else {
        ""
    };
    Error::shape(
        OP,
        format!(
            "logits of shape {:?} need target probabilities of the same shape, not {:?}{hint}",
            logits.shape(),
            p.shape()
        ),
    )
}

/// The index of the `i`-th element in row-major order.
pub(crate) fn place(shape: &[usize], mut i: usize) -> Vec<usize> {
    let mut at = vec![0; shape.len()];
    for (at, &size) in at.iter_mut().zip(shape).rev() {
        (*at, i) = (i % size, i / size);
    }
    at
}

/// How far the sum of target probabilities may be from 1.
const SUM_TOLERANCE: f64 = 0.01;

/// Refuses rows of probabilities that are none.
fn check_distributions<T: Float>(rows: &Reduced, p: &Tensor<T>) -> Result<()> {
    let (values, n) = (p.as_slice().unwrap_or(&[]), rows.count());
    let row = |row| label_place(&place(&rows.out_shape(), row));
    if let Some(i) = pair::first_failing(Within(T::ZERO, T::infinity()), values) {
        return Err(Error::argument(
            OP,
            format!(
                "the target probability of class {}{} is {}; probabilities are 0 or more",
                i % n,
                row(i / n),
                values[i]
            ),
        ));
    }
    let last = Reduced {
        axes: [p.rank() - 1].into_iter().collect(),
        keepdim: false,
        shape: p.shape().into(),
    };
    let sums = super::sum::fold(reduce::Sum, p, &last, T::ZERO);
    // A sum of NaN is off as well.
    let off = |sum: T| sum.is_nan() || (sum.as_f64() - 1.0).abs() > SUM_TOLERANCE;
    match sums.iter().enumerate().find(|&(_, sum)| n > 0 && off(sum)) {
        None => Ok(()),
        Some((i, sum)) => Err(Error::argument(
            OP,
            format!(
                "the target probabilities{} sum to {sum}, not 1; divide them by their sum, or take the softmax of scores",
                row(i)
            ),
        )),
    }
}

/// The labels, dense, with [`IGNORED`] in place of `ignore`, if they fit the logits.
pub(crate) fn check_labels<T: Float>(
    op: &'static str,
    labels: &Tensor<i64>,
    logits: &Tensor<T>,
    axis: usize,
    ignore: Option<i64>,
) -> Result<Tensor<i64>> {
    let mut shape: Dims = logits.shape().into();
    let classes = shape.remove(axis);
    if labels.shape() != &shape[..] {
        return Err(Error::shape(
            op,
            format!(
                "logits of shape {:?} (classes on axis {axis}) need labels of shape {:?}, not {:?}",
                logits.shape(),
                &shape[..],
                labels.shape()
            ),
        ));
    }
    let mut bad = None;
    let out = Tensor::build(&shape, |out| {
        for (i, (o, label)) in out.iter_mut().zip(labels.iter()).enumerate() {
            *o = label;
            if Some(label) == ignore {
                *o = IGNORED;
            } else if (label < 0 || label >= classes as i64) && bad.is_none() {
                bad = Some((i, label));
            }
        }
    });
    match bad {
        None => Ok(out),
        Some((i, label)) => Err(Error::Label { op, label, place: place(&shape, i), classes }),
    }
}

/// The sum of the weights of the labels that count.
pub(crate) fn counted<T: Float>(labels: &Tensor<i64>, weights: Option<&Tensor<T>>) -> T {
    let weights = weights.and_then(Tensor::as_slice);
    let counted = labels.as_slice().unwrap_or(&[]).iter().filter(|&&t| t != IGNORED);
    T::of(match weights {
        None => counted.count() as f64,
        Some(w) => counted.map(|&t| w[t as usize].as_f64()).sum(),
    })
}

/// The operation. With labels it has one input, with probabilities they are the second.
struct Loss<T: Float> {
    /// The axis of the classes is the one it "reduces".
    rows: Reduced,
    labels: Option<Tensor<i64>>,
    weights: Option<Tensor<T>>,
    smoothing: T,
    reduction: Reduction,
    /// What the mean divides by.
    denominator: T,
}

impl<T: Float> fmt::Debug for Loss<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{OP}")
    }
}

impl<T: Float> Loss<T> {
    fn setting<'a>(&'a self, p: Option<&'a Tensor<T>>) -> Setting<'a, T> {
        let slice = |t: Option<&'a Tensor<T>>| t.and_then(Tensor::as_slice).unwrap_or(&[]);
        let labels = self.labels.as_ref().and_then(Tensor::as_slice);
        Setting {
            target: match labels {
                Some(labels) => kernel::Target::Labels(labels),
                None => kernel::Target::Probabilities(slice(p)),
            },
            weights: slice(self.weights.as_ref()),
            smoothing: self.smoothing,
            classes: self.rows.count(),
        }
    }

    /// The loss, and the statistics of each row. `x` and `p` are rows.
    fn compute(&self, x: &Tensor<T>, p: Option<&Tensor<T>>) -> (Tensor<T>, Tensor<T>) {
        let shape = self.rows.out_shape();
        let rows: usize = shape.iter().product();
        let stats = Tensor::build(&[rows, 2], |out| {
            let x = x.as_slice().unwrap_or(&[]);
            if self.rows.count() == 0 {
                out.fill(T::ZERO);
            } else {
                kernel::forward(x, &self.setting(p), out.as_chunks_mut().0);
            }
        });
        let each = stats.with_layout(stats.layout().slice(1, 1, 1, 1));
        let y = match self.reduction {
            Reduction::None => Tensor::build(&shape, |out| {
                out.iter_mut().zip(each.iter()).for_each(|(o, v)| *o = v);
            }),
            Reduction::Sum | Reduction::Mean => {
                let sum =
                    super::sum::fold(reduce::Sum, &each, &Reduced::all(each.shape()), T::ZERO);
                match self.reduction {
                    Reduction::Mean => Tensor::scalar(sum.buffer()[0] / self.denominator),
                    _ => sum,
                }
            }
        };
        (y, stats)
    }

    /// The gradients once more, by tensor operations, so that they can be differentiated again: with q as in the kernel and y = ln softmax(x),
    /// dx = g (e^y Σ q - q) and dp = -g (1-s) w y.
    fn recorded(
        &self,
        x: &Tensor<T>,
        p: Option<&Tensor<T>>,
        g: &Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        let axis = self.rows.axes.first().map_or(0, |&a| a as isize);
        let g = match self.reduction {
            Reduction::None => g.unsqueeze(axis)?,
            Reduction::Sum => g.clone(),
            Reduction::Mean => g.mul_scalar(T::ONE / self.denominator),
        };
        let (keep, y) = (T::ONE - self.smoothing, x.log_softmax(axis)?);
        let weigh = |q: Tensor<T>| match &self.weights {
            None => Ok(q),
            Some(w) => {
                // One for each class, and axes of size 1 for those after it.
                let mut shape = vec![1; x.rank() - axis as usize];
                shape[0] = w.len();
                q.try_mul(&w.reshape(shape)?)
            }
        };
        let dx = || {
            let share = self.smoothing / T::of(self.rows.count() as f64);
            let q = match p {
                Some(p) => weigh(p.mul_scalar(keep).add_scalar(share))?,
                None => self.distribution(share, keep),
            };
            y.exp().try_mul(&q.sum_axes(axis, true)?)?.try_sub(&q)?.try_mul(&g)
        };
        let dp = || weigh(y.mul_scalar(-keep))?.try_mul(&g);
        Ok([needs[0].then(dx).transpose()?, needs[1].then(dp).transpose()?])
    }

    /// The q of labels, weighed.
    fn distribution(&self, share: T, keep: T) -> Tensor<T> {
        let n = self.rows.count();
        let weight = |c: usize| self.weights.as_ref().map_or(T::ONE, |w| w.buffer()[c]);
        let labels = self.labels.as_ref().and_then(Tensor::as_slice).unwrap_or(&[]);
        let q = Tensor::build(&[self.rows.shape.iter().product()], |out| {
            out.fill(T::ZERO);
            for (row, &label) in out.chunks_mut(n.max(1)).zip(labels) {
                if label != IGNORED {
                    row.iter_mut().enumerate().for_each(|(c, q)| *q = share * weight(c));
                    row[label as usize] += keep * weight(label as usize);
                }
            }
        });
        self.rows.unrows(&q)
    }

    /// The gradients of logits and probabilities, of the latter only if asked for.
    fn gradients(
        &self,
        x: &Tensor<T>,
        p: Option<&Tensor<T>>,
        stats: &Tensor<T>,
        g: &Tensor<T>,
        needs: [bool; 2],
    ) -> [Option<Tensor<T>>; 2] {
        let g = g.dense();
        let gs = g.as_slice().unwrap_or(&[]);
        let each = |row: usize| match self.reduction {
            Reduction::None => gs[row],
            Reduction::Sum => gs[0],
            Reduction::Mean => gs[0] / self.denominator,
        };
        let xs = x.as_slice().unwrap_or(&[]);
        let stats = stats.as_slice().unwrap_or(&[]).as_chunks().0;
        let setting = self.setting(p);
        let dx = needs[0].then(|| {
            let d =
                Tensor::build(x.shape(), |out| kernel::backward(xs, &setting, stats, each, out));
            self.rows.unrows(&d)
        });
        let dp = needs[1].then(|| {
            let d = Tensor::build(x.shape(), |out| {
                kernel::backward_target(xs, &setting, stats, each, out);
            });
            self.rows.unrows(&d)
        });
        [dx, dp]
    }
}

impl<T: Float> Op<T, 1> for Loss<T> {
    /// The logits, the same as rows, and what the forward pass found out about each.
    type Saved = (Tensor<T>, Tensor<T>, Tensor<T>);
    fn name(&self) -> &'static str {
        OP
    }
    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, Self::Saved)> {
        let rows = self.rows.rows(x);
        let (y, stats) = self.compute(&rows, None);
        Ok((y, (x.clone(), rows, stats)))
    }
    fn vjp(
        &self,
        (_, x, stats): Self::Saved,
        g: Tensor<T>,
        needs: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        let [dx, _] = self.gradients(&x, None, &stats, &g, [needs[0], false]);
        Ok([dx])
    }
    fn vjp_recorded(
        &self,
        (x, ..): Self::Saved,
        g: Tensor<T>,
        needs: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        let [dx, _] = self.recorded(&x, None, &g, [needs[0], false])?;
        Ok([dx])
    }
}

impl<T: Float> Op<T, 2> for Loss<T> {
    /// Logits and probabilities, both as rows, and what the forward pass found out about each.
    type Saved = ((Tensor<T>, Tensor<T>), (Tensor<T>, Tensor<T>, Tensor<T>));
    fn name(&self) -> &'static str {
        OP
    }
    fn forward(&self, [x, p]: [&Tensor<T>; 2]) -> Result<(Tensor<T>, Self::Saved)> {
        let rows = (self.rows.rows(x), self.rows.rows(p));
        check_distributions(&self.rows, &rows.1)?;
        let (y, stats) = self.compute(&rows.0, Some(&rows.1));
        Ok((y, ((x.clone(), p.clone()), (rows.0, rows.1, stats))))
    }
    fn vjp(
        &self,
        (_, (x, p, stats)): Self::Saved,
        g: Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        Ok(self.gradients(&x, Some(&p), &stats, &g, needs))
    }
    fn vjp_recorded(
        &self,
        ((x, p), _): Self::Saved,
        g: Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        self.recorded(&x, Some(&p), &g, needs)
    }
}

#[cfg(test)]
#[path = "cross_entropy_tests.rs"]
mod tests;
