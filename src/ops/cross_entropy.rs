//! Cross-entropy of logits with labels or with probabilities, and its options.
//!
//! The formulas stand in the kernel. One pass over the logits gives the losses, one more their gradient.

use std::fmt;

use super::axes::Reduced;
use crate::autograd::{Op, apply};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::cross_entropy::{self as kernel, IGNORED, Setting};
use crate::kernel::reduce;
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
    /// [`Error::Shape`] if the shapes do not fit each other or the weights, [`Error::Index`] for a label that is no class (it names the
    /// label and its place), [`Error::Argument`] for a smoothing outside 0 to 1.
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
                    return Err(Error::shape(
                        OP,
                        format!(
                            "logits of shape {:?} need target probabilities of the same shape, not {:?}",
                            logits.shape(),
                            p.shape()
                        ),
                    ));
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
    /// [`Error::Shape`] if the shapes do not fit, [`Error::Index`] for a label that is no class.
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
        w => Ok(w.map(Tensor::dense)),
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
        Some((row, index)) => Err(Error::Index {
            op,
            index,
            what: format!("the classes (label of row {row})"),
            size: classes,
        }),
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
    /// The logits as rows, and what the forward pass found out about each.
    type Saved = (Tensor<T>, Tensor<T>);
    fn name(&self) -> &'static str {
        OP
    }
    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, Self::Saved)> {
        let x = self.rows.rows(x);
        let (y, stats) = self.compute(&x, None);
        Ok((y, (x, stats)))
    }
    fn vjp(
        &self,
        (x, stats): Self::Saved,
        g: Tensor<T>,
        needs: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        let [dx, _] = self.gradients(&x, None, &stats, &g, [needs[0], false]);
        Ok([dx])
    }
}

impl<T: Float> Op<T, 2> for Loss<T> {
    /// Logits and probabilities as rows, and what the forward pass found out about each.
    type Saved = (Tensor<T>, Tensor<T>, Tensor<T>);
    fn name(&self) -> &'static str {
        OP
    }
    fn forward(&self, [x, p]: [&Tensor<T>; 2]) -> Result<(Tensor<T>, Self::Saved)> {
        let (x, p) = (self.rows.rows(x), self.rows.rows(p));
        let (y, stats) = self.compute(&x, Some(&p));
        Ok((y, (x, p, stats)))
    }
    fn vjp(
        &self,
        (x, p, stats): Self::Saved,
        g: Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        Ok(self.gradients(&x, Some(&p), &stats, &g, needs))
    }
}

#[cfg(test)]
#[path = "cross_entropy_tests.rs"]
mod tests;
