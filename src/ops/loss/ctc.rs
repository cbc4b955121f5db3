//! Connectionist temporal classification (CTC): the loss of a sequence of labels without knowing at which frames they stand. The recursion
//! stands in the kernel.

use crate::autograd::{Op, apply};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::ctc::{self as kernel, Setting};
use crate::ops::cross_entropy::{Kind, Reduction, Targets, float_labels};
use crate::tensor::{Layout, Tensor};

const OP: &str = "ctc_loss";

/// The negative log-likelihood of a sequence of labels, summed over all alignments with the frames of an input: each label may be
/// repeated, and blanks may stand between labels (they must between equal ones).
///
/// The input are log-probabilities, such as [`log_softmax`](Tensor::log_softmax) gives over the classes, of which one is the blank. The
/// gradient is the true one with respect to them, minus the expected number of uses of each class at each frame. (PyTorch folds the
/// gradient of `log_softmax` in; with respect to the logits both give the same.)
///
/// The mean is that of PyTorch: each loss is divided by the length of its target (at least 1), then the mean over the batch is taken.
///
/// Source: Graves et al., "Connectionist Temporal Classification: Labelling Unsegmented Sequence Data with Recurrent Neural Networks"
/// (2006).
///
/// ```
/// use gradus::prelude::*;
/// // Four frames of one example, three classes, 0 is the blank; the target is "1, 2".
/// let logits: Tensor = Tensor::zeros([4, 1, 3])?;
/// let log_probs = logits.log_softmax(-1)?;
/// let loss = CtcLoss::new().reduction(Reduction::Sum);
/// let loss = loss.forward(&log_probs, &Tensor::from([[1i64, 2]]), &[4], &[2])?;
/// // 15 of the 3⁴ sequences of classes spell it.
/// assert!((loss.item()? - (81.0f32 / 15.0).ln()).abs() < 1e-5);
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "CTCLoss")]
#[derive(Clone, Copy, Debug, Default)]
pub struct CtcLoss {
    /// The class of the blank; 0 unless set.
    pub blank: usize,
    /// Whether an infinite loss (of a target that does not fit into its input) counts as 0, with a gradient of 0. Otherwise the
    /// loss is infinite and its gradient NaN.
    pub zero_infinity: bool,
    /// What becomes of the losses of a batch.
    pub reduction: Reduction,
}

impl CtcLoss {
    /// The mean, with 0 as the blank.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`blank`](Self::blank).
    pub fn blank(mut self, class: usize) -> Self {
        self.blank = class;
        self
    }

    /// Sets [`zero_infinity`](Self::zero_infinity).
    pub fn zero_infinity(mut self) -> Self {
        self.zero_infinity = true;
        self
    }

    /// Sets [`reduction`](Self::reduction).
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// The loss of log-probabilities `[frames, n, classes]` and targets `[n, longest]` (whatever stands behind a target's length is not
    /// looked at) or, one after another, `[sum of the lengths]`. Of `[frames, classes]` and `[length]` without a batch, the loss of a
    /// single example, of shape `[]` whatever the reduction. Each example has one length of its input and one of its target, which may be 0.
    ///
    /// # Errors
    /// [`Error::Shape`] if shapes and lengths do not fit each other, [`Error::Label`] for a label that is no class (with the example and the
    /// place of the label), [`Error::Argument`] for a blank in a target, a blank that is no class, an input length of 0 or above the
    /// number of frames, and targets that are no labels.
    pub fn forward<T: Float, Y: Targets<T> + ?Sized>(
        &self,
        log_probs: &Tensor<T>,
        targets: &Y,
        input_lengths: &[usize],
        target_lengths: &[usize],
    ) -> Result<Tensor<T>> {
        let Kind::Labels(targets) = targets.kind() else { return Err(float_labels(OP)) };
        let (frames, batch, classes) = match *log_probs.shape() {
            [frames, batch, classes] => (frames, batch, classes),
            [frames, classes] => (frames, 1, classes),
            ref other => {
                return Err(Error::shape(
                    OP,
                    format!(
                        "the log-probabilities have shape {other:?}; expected [frames, n, classes] or [frames, classes]"
                    ),
                ));
            }
        };
        if self.blank >= classes {
            return Err(Error::argument(
                OP,
                format!("the blank is {}, but there are {classes} classes", self.blank),
            ));
        }
        check_lengths(batch, frames, input_lengths, target_lengths)?;
        let targets = self.targets(&targets, log_probs.rank() == 2, classes, target_lengths)?;
        let input_lengths = input_lengths.to_vec();
        let setting = Setting { frames, batch, classes, blank: self.blank, input_lengths, targets };
        apply(Ctc { options: *self, setting }, [log_probs])
    }

    /// The target of each example.
    fn targets(
        &self,
        targets: &Tensor<i64>,
        single: bool,
        classes: usize,
        lengths: &[usize],
    ) -> Result<Vec<Vec<usize>>> {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let total: usize = lengths.iter().sum();
        let padded = match *targets.shape() {
            [n, width] => !single && n == lengths.len() && width >= longest,
            [len] => len == total,
            _ => false,
        };
        if !padded {
            let expected = if single {
                format!("[{total}]")
            } else {
                format!("[{}, {longest} or more] or, one after another, [{total}]", lengths.len())
            };
            return Err(Error::shape(
                OP,
                format!(
                    "the targets have shape {:?}; target lengths of {lengths:?} need {expected}",
                    targets.shape()
                ),
            ));
        }
        let targets = targets.dense();
        let values = targets.as_slice().unwrap_or(&[]);
        let mut next = 0;
        let mut all = Vec::with_capacity(lengths.len());
        for (example, &length) in lengths.iter().enumerate() {
            let start = match *targets.shape() {
                [_, width] => example * width,
                _ => next,
            };
            next += length;
            all.push(self.target(&values[start..][..length], example, classes)?);
        }
        Ok(all)
    }

    fn target(&self, labels: &[i64], example: usize, classes: usize) -> Result<Vec<usize>> {
        let class = |(place, &label): (usize, &i64)| match usize::try_from(label) {
            Ok(class) if class == self.blank => Err(Error::argument(
                OP,
                format!(
                    "the target of example {example} has the blank ({class}) at place {place}; leave blanks out, the loss puts them between labels"
                ),
            )),
            Ok(class) if class < classes => Ok(class),
            _ => Err(Error::Label { op: OP, label, place: vec![example, place], classes }),
        };
        labels.iter().enumerate().map(class).collect()
    }
}

fn check_lengths(
    batch: usize,
    frames: usize,
    input_lengths: &[usize],
    target_lengths: &[usize],
) -> Result<()> {
    for (what, lengths) in [("input", input_lengths), ("target", target_lengths)] {
        if lengths.len() != batch {
            return Err(Error::shape(
                OP,
                format!("there are {} {what} lengths for a batch of {batch}", lengths.len()),
            ));
        }
    }
    match input_lengths.iter().position(|&n| n == 0 || n > frames) {
        None => Ok(()),
        Some(i) => Err(Error::argument(
            OP,
            format!(
                "the input length of example {i} is {}; it must be from 1 to the number of frames, {frames}",
                input_lengths[i]
            ),
        )),
    }
}

struct Ctc {
    options: CtcLoss,
    setting: Setting,
}

impl Ctc {
    /// What the loss of an example is multiplied with.
    fn share<T: Float>(&self, example: usize) -> T {
        match self.options.reduction {
            Reduction::Mean => {
                let length = self.setting.targets[example].len().max(1);
                T::ONE / T::of((length * self.setting.batch) as f64)
            }
            _ => T::ONE,
        }
    }
}

impl<T: Float> Op<T, 1> for Ctc {
    /// The log-probabilities, and what the forward recursion found.
    type Saved = (Tensor<T>, Tensor<T>);
    fn name(&self) -> &'static str {
        OP
    }
    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, Self::Saved)> {
        let (x, stride, batch) = (x.dense(), self.setting.stride(), self.setting.batch);
        let alpha = Tensor::try_build(OP, &[batch, stride], |out| {
            kernel::forward(x.as_slice().unwrap_or(&[]), &self.setting, out);
        })?;
        let found = alpha.as_slice().unwrap_or(&[]);
        let each = (0..batch).map(|i| {
            let loss = found[(i + 1) * stride - 1];
            let drop = self.options.zero_infinity && loss == T::infinity();
            if drop { T::ZERO } else { loss * self.share(i) }
        });
        let y = match self.options.reduction {
            Reduction::None if x.rank() == 3 => Tensor::build(&[batch], |out| {
                out.iter_mut().zip(each).for_each(|(o, loss)| *o = loss);
            }),
            // The mean of no examples is NaN, as of any nothing.
            Reduction::Mean if batch == 0 => Tensor::scalar(T::nan()),
            _ => Tensor::scalar(T::of(each.map(Float::as_f64).sum())),
        };
        Ok((y, (x, alpha)))
    }
    fn vjp(
        &self,
        (x, alpha): Self::Saved,
        g: Tensor<T>,
        _: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        let g = g.dense();
        let gs = g.as_slice().unwrap_or(&[]);
        let of = |i: usize| self.share::<T>(i) * gs[if gs.len() == 1 { 0 } else { i }];
        let Setting { frames, batch, classes, .. } = self.setting;
        let (values, found) = (x.as_slice().unwrap_or(&[]), alpha.as_slice().unwrap_or(&[]));
        // An example's rows stand together, so that each has memory of its own to write; the result is a view of that.
        let d = Tensor::build(&[batch, frames, classes], |out| {
            let zero = self.options.zero_infinity;
            kernel::backward(values, &self.setting, found, zero, of, out);
        });
        let layout = match x.rank() {
            2 => Layout::dense(&[frames, classes]),
            _ => d.layout().permute(&[1, 0, 2]),
        };
        Ok([Some(d.with_layout(layout))])
    }
}

impl<T: Float> Tensor<T> {
    /// The mean CTC loss of these log-probabilities `[frames, n, classes]`, with class 0 as the blank; see [`CtcLoss`](crate::nn::CtcLoss).
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let log_probs = Tensor::<f32>::zeros([5, 2, 3])?.log_softmax(-1)?;
    /// let targets = Tensor::from([[1i64, 2], [2, 0]]);
    /// let loss = log_probs.ctc_loss(&targets, &[5, 4], &[2, 1])?;
    /// assert!(loss.item()? > 0.0);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`CtcLoss::forward`](crate::nn::CtcLoss::forward).
    pub fn ctc_loss<Y: Targets<T> + ?Sized>(
        &self,
        targets: &Y,
        input_lengths: &[usize],
        target_lengths: &[usize],
    ) -> Result<Tensor<T>> {
        CtcLoss::new().forward(self, targets, input_lengths, target_lengths)
    }
}

#[cfg(test)]
#[path = "ctc_tests.rs"]
mod tests;
