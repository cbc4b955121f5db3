//! Negative log-likelihood: y = -Σ w_t x_t / Σ w_t for labels t; dx_t = -g w_t / Σ w_t, 0 elsewhere.

use super::axes::Reduced;
use super::cross_entropy::{
    Kind, Reduction, Targets, check_labels, check_weights, class_axis, counted, float_labels,
};
use crate::autograd::{Op, apply};
use crate::error::Result;
use crate::float::Float;
use crate::kernel::cross_entropy::IGNORED;
use crate::tensor::Tensor;

const OP: &str = "nll_loss";

/// Negative log-likelihood of labels under log-probabilities, such as [`log_softmax`](Tensor::log_softmax) gives. For logits,
/// [`CrossEntropy`](crate::nn::CrossEntropy) does both in one.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::NllLoss;
/// let logits: Tensor = Tensor::from([[2.0, 0.0], [0.5, 1.0]]);
/// let labels = Tensor::from([0i64, 1]);
/// let loss = NllLoss::new().forward(&logits.log_softmax(1)?, &labels)?;
/// assert!((loss.item()? - logits.cross_entropy(&labels)?.item()?).abs() < 1e-6);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct NllLoss<T: Float = f32> {
    /// The label of examples that do not count; -100 unless set.
    pub ignore_index: Option<i64>,
    /// A weight for each class.
    pub class_weights: Option<Tensor<T>>,
    /// What becomes of the losses of a batch; their mean divides by the sum of the weights that count.
    pub reduction: Reduction,
}

impl<T: Float> Default for NllLoss<T> {
    fn default() -> Self {
        NllLoss { ignore_index: Some(-100), class_weights: None, reduction: Reduction::Mean }
    }
}

impl<T: Float> NllLoss<T> {
    /// The mean, without weights.
    pub fn new() -> Self {
        Self::default()
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

    /// The loss of log-probabilities `[n, classes]`, `[n, classes, d1, …]` or `[classes]` for labels of that shape without the
    /// axis of classes.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the shapes do not fit, [`Error::Label`](crate::Error::Label) for a label that is no class, [`Error::Argument`](crate::Error::Argument) for targets that
    /// are no labels, and class weights that are negative or not finite.
    pub fn forward<Y: Targets<T> + ?Sized>(&self, x: &Tensor<T>, labels: &Y) -> Result<Tensor<T>> {
        let Kind::Labels(labels) = labels.kind() else {
            return Err(float_labels(OP));
        };
        let axis = class_axis(OP, x)?;
        let weights = check_weights(OP, self.class_weights.as_ref(), x.shape()[axis])?;
        let labels = check_labels(OP, &labels, x, axis, self.ignore_index)?;
        let divisor = match self.reduction {
            Reduction::Mean => counted(&labels, weights.as_ref()),
            _ => T::ONE,
        };
        let rows = Reduced::new(OP, x.shape(), axis, false)?;
        let each = self.reduction == Reduction::None;
        apply(Nll { rows, labels, weights, divisor, each }, [x])
    }
}

struct Nll<T: Float> {
    rows: Reduced,
    labels: Tensor<i64>,
    weights: Option<Tensor<T>>,
    divisor: T,
    /// Whether the losses stay as they are.
    each: bool,
}

impl<T: Float> Nll<T> {
    /// For each row that counts: its number, its label and the weight of that.
    fn counted(&self) -> impl Iterator<Item = (usize, usize, T)> {
        let weights = self.weights.as_ref().and_then(Tensor::as_slice);
        let labels = self.labels.as_slice().unwrap_or(&[]).iter().enumerate();
        labels
            .filter(|&(_, &t)| t != IGNORED)
            .map(move |(row, &t)| (row, t as usize, weights.map_or(T::ONE, |w| w[t as usize])))
    }
}

impl<T: Float> Op<T, 1> for Nll<T> {
    type Saved = ();
    fn name(&self) -> &'static str {
        OP
    }
    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, ())> {
        let x = self.rows.rows(x);
        let (x, n) = (x.as_slice().unwrap_or(&[]), self.rows.count());
        let losses = self.counted().map(|(row, t, w)| (row, -w * x[row * n + t]));
        if self.each {
            let y = Tensor::build(&self.rows.out_shape(), |out| {
                out.fill(T::ZERO);
                losses.for_each(|(row, loss)| out[row] = loss);
            });
            return Ok((y, ()));
        }
        let sum: f64 = losses.map(|(_, loss)| loss.as_f64()).sum();
        // + 0 turns the -0 of an empty sum into 0.
        Ok((Tensor::scalar((T::of(sum) + T::ZERO) / self.divisor), ()))
    }
    fn vjp(&self, _: (), g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        let g = g.dense();
        let (g, n) = (g.as_slice().unwrap_or(&[]), self.rows.count());
        let d = Tensor::build(&[self.rows.shape.iter().product()], |out| {
            out.fill(T::ZERO);
            for (row, t, w) in self.counted() {
                out[row * n + t] = -w * g[if self.each { row } else { 0 }] / self.divisor;
            }
        });
        Ok([Some(self.rows.unrows(&d))])
    }
    fn vjp_recorded(
        &self,
        _: (),
        g: Tensor<T>,
        needs: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        // The loss is linear in x, so its slope is a constant.
        let [slope] = self.vjp((), g.ones_like(), needs)?;
        let axis = self.rows.axes.first().map_or(0, |&a| a as isize);
        let g = if self.each { g.unsqueeze(axis)? } else { g };
        Ok([slope.map(|slope| slope.try_mul(&g)).transpose()?])
    }
}

impl<T: Float> Tensor<T> {
    /// The mean negative log-likelihood of labels under these log-probabilities; for options see [`NllLoss`](crate::nn::NllLoss).
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let p: Tensor = Tensor::from([[0.5, 0.5], [0.125, 0.875]]);
    /// let loss = p.ln().nll_loss(&Tensor::from([0i64, 0]))?;
    /// assert!((loss.item()? - 4f32.ln()).abs() < 1e-6);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`NllLoss::forward`](crate::nn::NllLoss::forward).
    pub fn nll_loss<Y: Targets<T> + ?Sized>(&self, labels: &Y) -> Result<Tensor<T>> {
        NllLoss::new().forward(self, labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;
    use crate::error::Error;

    #[test]
    fn by_hand_and_gradients() {
        let x = Tensor::from([[-1.0f64, -2.0, -3.0], [-4.0, -5.0, -6.0], [-7.0, -8.0, -9.0]]);
        let y = Tensor::from([2i64, 0, 1]);
        let w = Tensor::from([1.0, 2.0, 3.0]);
        for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
            let loss = NllLoss { ignore_index: Some(0), class_weights: Some(w.clone()), reduction };
            let got = loss.forward(&x, &y).unwrap();
            let want: &[f64] = match reduction {
                Reduction::Mean => &[5.0],
                Reduction::Sum => &[25.0],
                Reduction::None => &[9.0, 0.0, 16.0],
            };
            assert_eq!(got.to_vec(), want);
            gradcheck(|[x]| loss.forward(x, &y), [&x]).unwrap();
            // Its gradient is linear in the gradient of the loss.
            let labels = check_labels(OP, &y, &x, 1, Some(0)).unwrap();
            let op = Nll {
                rows: Reduced::new(OP, x.shape(), 1, false).unwrap(),
                labels,
                weights: Some(w.clone()),
                divisor: 5.0,
                each: reduction == Reduction::None,
            };
            let rule = |g: &Tensor<f64>| Ok(op.vjp_recorded((), g.clone(), [true])?[0].clone());
            let g = Tensor::from([2.0, 3.0, 4.0]);
            let g = if op.each { g } else { Tensor::scalar(2.0) };
            assert_eq!(rule(&g).unwrap(), op.vjp((), g.clone(), [true]).unwrap()[0]);
            gradcheck(|[g]| Ok(rule(g)?.unwrap()), [&g]).unwrap();
        }
        assert!(matches!(NllLoss::new().forward(&x, &x), Err(Error::Argument { .. })));
        let wrong = Tensor::from([2i64, 7, 1]);
        assert!(matches!(NllLoss::new().forward(&x, &wrong), Err(Error::Label { label: 7, .. })));
    }
}
