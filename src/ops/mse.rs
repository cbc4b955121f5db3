//! Mean squared error: y = Σ (x - t)² / n; dx = 2 g (x - t) / n = -dt.

use super::cross_entropy::Reduction;
use crate::autograd::{Op, apply};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::pair;
use crate::tensor::Tensor;

/// Squared error, as the mean unless [`reduction`](Self::reduction) says otherwise: `Mse::new().forward(&pred, &target)?`.
///
/// ```
/// use gradus::prelude::*;
/// let (y, target) = (Tensor::from([1.0f32, 2.0]), Tensor::from([1.0, 4.0]));
/// assert_eq!(Mse::new().forward(&y, &target)?.item()?, 2.0);
/// assert_eq!(Mse::new().reduction(Reduction::None).forward(&y, &target)?.to_vec(), [0.0, 4.0]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Mse {
    /// What becomes of the squared differences.
    pub reduction: Reduction,
}

impl Mse {
    /// The mean.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`reduction`](Self::reduction).
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// The loss. The mean of no elements is NaN, their sum 0.
    ///
    /// # Errors
    /// [`Error::Shape`] unless both shapes are the same.
    pub fn forward<T: Float>(&self, pred: &Tensor<T>, target: &Tensor<T>) -> Result<Tensor<T>> {
        if pred.shape() != target.shape() {
            return Err(Error::shape(
                "mse",
                format!(
                    "the prediction has shape {:?}, the target {:?}; they must be the same, for example by reshaping one of them",
                    pred.shape(),
                    target.shape()
                ),
            ));
        }
        apply(*self, [pred, target])
    }
}

impl<T: Float> Op<T, 2> for Mse {
    type Saved = (Tensor<T>, Tensor<T>);
    fn name(&self) -> &'static str {
        "mse"
    }
    fn forward(&self, [x, t]: [&Tensor<T>; 2]) -> Result<(Tensor<T>, Self::Saved)> {
        let (x, t) = (x.dense(), t.dense());
        let (a, b) = (x.as_slice().unwrap_or(&[]), t.as_slice().unwrap_or(&[]));
        let y = match self.reduction {
            Reduction::None => Tensor::build(x.shape(), |out| {
                out.iter_mut()
                    .zip(a.iter().zip(b))
                    .for_each(|(o, (&a, &b))| *o = (a - b) * (a - b));
            }),
            Reduction::Sum => Tensor::scalar(pair::squared_distance(a, b)),
            Reduction::Mean => Tensor::scalar(pair::squared_distance(a, b) / T::of(a.len() as f64)),
        };
        Ok((y, (x, t)))
    }
    fn vjp(
        &self,
        (x, t): Self::Saved,
        g: Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        let (a, b) = (x.as_slice().unwrap_or(&[]), t.as_slice().unwrap_or(&[]));
        let g = g.dense();
        let g = g.as_slice().unwrap_or(&[]);
        let d = |sign: f64| {
            let two = match self.reduction {
                Reduction::Mean => T::of(2.0 * sign / a.len() as f64),
                _ => T::of(2.0 * sign),
            };
            Tensor::build(x.shape(), |out| match self.reduction {
                Reduction::None => {
                    for (o, (&g, (&a, &b))) in out.iter_mut().zip(g.iter().zip(a.iter().zip(b))) {
                        *o = two * g * (a - b);
                    }
                }
                _ => pair::scaled_difference(two * g[0], a, b, out),
            })
        };
        Ok([needs[0].then(|| d(1.0)), needs[1].then(|| d(-1.0))])
    }
}

impl<T: Float> Tensor<T> {
    /// The mean squared error of this prediction: y = Σ (x - target)² / n. For the sum see [`Mse`](crate::nn::Mse).
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let loss = Tensor::from([1.0f32, 4.0]).mse(&Tensor::from([1.0, 2.0]))?;
    /// assert_eq!(loss.item()?, 2.0);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] unless both shapes are the same: `[32]` against `[32, 1]` would silently compare all with all.
    pub fn mse(&self, target: &Tensor<T>) -> Result<Tensor<T>> {
        Mse::new().forward(self, target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    #[test]
    fn gradients_of_both_sides() {
        let x = Tensor::from_fn([3, 4], |i| (i * 5 % 7) as f64).unwrap();
        let s = Tensor::from_fn([4, 3], |i| i as f64 * 0.3).unwrap();
        let t = s.with_layout(s.layout().permute(&[1, 0]));
        for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
            let loss = Mse::new().reduction(reduction);
            gradcheck(|[x, t]| loss.forward(x, t), [&x, &t]).unwrap();
            gradcheck(|[x]| loss.forward(x, &t), [&x]).unwrap();
        }
    }

    #[test]
    fn long_short_and_mismatched() {
        for n in [1, 15, 16, 17, 4099, 70_001] {
            let x = Tensor::from_fn([n], |i| (i % 5) as f64).unwrap();
            let want: f64 = (0..n).map(|i| ((i % 5) * (i % 5)) as f64).sum();
            let got = Mse::new().reduction(Reduction::Sum).forward(&x, &x.zeros_like()).unwrap();
            assert_eq!(got.item().unwrap(), want);
        }
        let none = Tensor::<f32>::zeros([0, 4]).unwrap();
        assert!(none.mse(&none).unwrap().item().unwrap().is_nan());
        let e = Tensor::<f32>::zeros([32]).unwrap().mse(&Tensor::zeros([32, 1]).unwrap());
        assert!(matches!(e, Err(Error::Shape { op: "mse", .. })));
    }
}
