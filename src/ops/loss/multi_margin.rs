//! The hinge for several classes: y = Σ_{j≠t} w_t max(0, margin - x_t + x_j)^p / C.

use super::{check_setting, reduce};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::ops::cross_entropy::{
    Kind, Reduction, Targets, check_labels, check_weights, class_axis, float_labels,
};
use crate::tensor::Tensor;

const OP: &str = "multi_margin";

/// By how much the score of the right class is not higher than the others': Σ_{j≠t} w_t max(0, margin - x_t + x_j)^p / C for scores x of
/// C classes, a label t and class weights w. The mean over a batch divides by the number of examples, whatever the weights.
///
/// Source: Crammer and Singer, "On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines" (2001), with a sum in
/// place of their maximum.
///
/// ```
/// use gradus::prelude::*;
/// let scores: Tensor = Tensor::from([[0.1, 0.2, 0.4, 0.8]]);
/// let loss = MultiMargin::new().forward(&scores, &Tensor::from([3i64]))?;
/// assert!((loss.item()? - (0.3 + 0.4 + 0.6) / 4.0).abs() < 1e-6);
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "MultiMarginLoss")]
#[derive(Clone, Debug)]
pub struct MultiMargin<T: Float = f32> {
    /// 1, or 2 for squares.
    pub p: usize,
    /// How much higher the right class must be; 1 unless set.
    pub margin: f64,
    /// A weight for each class.
    pub class_weights: Option<Tensor<T>>,
    /// What becomes of the losses of a batch.
    pub reduction: Reduction,
}

impl<T: Float> Default for MultiMargin<T> {
    fn default() -> Self {
        MultiMargin { p: 1, margin: 1.0, class_weights: None, reduction: Reduction::Mean }
    }
}

impl<T: Float> MultiMargin<T> {
    /// The mean, for a margin of 1, without squares and weights.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`p`](Self::p).
    pub fn p(mut self, p: usize) -> Self {
        self.p = p;
        self
    }

    /// Sets [`margin`](Self::margin).
    pub fn margin(mut self, margin: f64) -> Self {
        self.margin = margin;
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

    /// The loss of scores `[n, classes]` and labels `[n]`, or of `[classes]` and `[]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not fit each other or the weights, [`Error::Label`] for a label that is no class,
    /// [`Error::Argument`] for a `p` other than 1 and 2, a margin that is NaN, targets that are no labels, and class weights that
    /// are negative or not finite.
    pub fn forward<Y: Targets<T> + ?Sized>(&self, x: &Tensor<T>, labels: &Y) -> Result<Tensor<T>> {
        let Kind::Labels(labels) = labels.kind() else { return Err(float_labels(OP)) };
        check_setting(OP, "p", self.p as f64, matches!(self.p, 1 | 2), "1 or 2")?;
        check_setting(OP, "the margin", self.margin, true, "a number")?;
        if x.rank() > 2 {
            return Err(Error::shape(
                OP,
                format!(
                    "the scores have shape {:?}; expected [n, classes] or [classes]",
                    x.shape()
                ),
            ));
        }
        let axis = class_axis(OP, x)?;
        let classes = x.shape()[axis];
        let weights = check_weights(OP, self.class_weights.as_ref(), classes)?;
        let labels = check_labels(OP, &labels, x, axis, None)?;
        let along = axis as isize;
        let right = labels.unsqueeze(along)?;
        let short = x.try_sub(&x.gather(along, &right)?)?.add_scalar(T::of(self.margin)).relu();
        // The right class itself does not count.
        let others = right.try_ne(&Tensor::arange(0, classes as i64, 1)?)?;
        let short = others.select_where(&short, &Tensor::scalar(T::ZERO))?;
        let each = if self.p == 2 { short.square() } else { short };
        let mut y = each.sum_axes(along, false)?.mul_scalar(T::ONE / T::of(classes as f64));
        if let Some(w) = weights {
            let of_labels = w.index_select(0, &labels.flatten(..)?)?;
            y = y.try_mul(&of_labels.reshape(labels.shape())?)?;
        }
        Ok(reduce(y, self.reduction))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    fn plain(x: &[f64], t: usize, p: i32, margin: f64) -> f64 {
        let short = |(j, &v): (usize, &f64)| {
            if j == t { 0.0 } else { (margin - x[t] + v).max(0.0).powi(p) }
        };
        x.iter().enumerate().map(short).sum::<f64>() / x.len() as f64
    }

    #[test]
    fn by_the_definition_and_gradients() {
        let x = Tensor::from_fn([3, 5], |i| (i * 7 % 11) as f64 * 0.33).unwrap();
        let turned = x.t().unwrap().copy().t().unwrap();
        let labels = Tensor::from([4i64, 0, 2]);
        let w = Tensor::from([1.0, 2.0, 3.0, 4.0, 5.0]);
        for p in [1, 2] {
            let each = MultiMargin::new().p(p).margin(0.71).reduction(Reduction::None);
            let weighted = each.clone().class_weights(w.clone());
            let y = each.forward(&turned, &labels).unwrap().to_vec();
            let z = weighted.forward(&x, &labels).unwrap().to_vec();
            for (i, t) in [4, 0, 2].into_iter().enumerate() {
                let want = plain(&x.to_vec()[i * 5..][..5], t, p as i32, 0.71);
                assert!((y[i] - want).abs() < 1e-12);
                assert!((z[i] - want * (t + 1) as f64).abs() < 1e-12);
            }
            for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
                let loss = weighted.clone().reduction(reduction);
                gradcheck(|[x]| loss.forward(x, &labels), [&turned]).unwrap();
            }
        }
        let one = x.select(0, 1).unwrap();
        let y = MultiMargin::new().forward(&one, &Tensor::scalar(2i64)).unwrap();
        assert_eq!(y.shape(), [0usize; 0]);
        assert!((y.item().unwrap() - plain(&one.to_vec(), 2, 1, 1.0)).abs() < 1e-12);
    }

    #[test]
    fn mistakes_and_nothing() {
        let x = Tensor::<f32>::zeros([2, 3]).unwrap();
        let y = Tensor::from([0i64, 3]);
        let loss = MultiMargin::new();
        assert!(matches!(loss.forward(&x, &y), Err(Error::Label { label: 3, .. })));
        assert!(matches!(loss.forward(&x, &x), Err(Error::Argument { .. })));
        let deep = Tensor::zeros([2, 3, 4]).unwrap();
        assert!(matches!(loss.forward(&deep, &y), Err(Error::Shape { .. })));
        let y = Tensor::from([0i64, 2]);
        let cubes = loss.clone().p(3).forward(&x, &y);
        assert!(matches!(cubes, Err(Error::Argument { .. })));
        let none = Tensor::<f32>::zeros([0, 3]).unwrap();
        let y = Tensor::<i64>::zeros([0]).unwrap();
        let sum = loss.reduction(Reduction::Sum).forward(&none, &y).unwrap();
        assert_eq!(sum.item().unwrap(), 0.0);
    }
}
