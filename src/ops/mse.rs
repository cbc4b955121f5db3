//! Mean squared error: y = Σ (x - t)² / n; dx = 2 g (x - t) / n = -dt.

use super::cross_entropy::Reduction;
use super::loss::pointwise::{Pointwise, pointwise};
use crate::error::Result;
use crate::float::Float;
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
    /// [`Error::Shape`](crate::Error::Shape) unless both shapes are the same.
    pub fn forward<T: Float>(&self, pred: &Tensor<T>, target: &Tensor<T>) -> Result<Tensor<T>> {
        pointwise(Square, self.reduction, pred, target)
    }
}

#[derive(Clone, Copy)]
struct Square;

impl<T: Float> Pointwise<T> for Square {
    const NAME: &'static str = "mse";
    #[inline(always)]
    fn f<const FMA: bool>(self, x: T, t: T) -> T {
        (x - t) * (x - t)
    }
    #[inline(always)]
    fn dx<const FMA: bool>(self, x: T, t: T) -> T {
        let d = x - t;
        d + d
    }
    #[inline(always)]
    fn dt<const FMA: bool>(self, x: T, t: T) -> T {
        let d = t - x;
        d + d
    }
    fn slope(self, x: &Tensor<T>, t: &Tensor<T>) -> Result<Tensor<T>> {
        Ok(x.try_sub(t)?.mul_scalar(T::of(2.0)))
    }
    fn target_slope(self, x: &Tensor<T>, t: &Tensor<T>) -> Result<Tensor<T>> {
        Ok(t.try_sub(x)?.mul_scalar(T::of(2.0)))
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
    /// [`Error::Shape`](crate::Error::Shape) unless both shapes are the same: `[32]` against `[32, 1]` would silently compare all with all.
    pub fn mse(&self, target: &Tensor<T>) -> Result<Tensor<T>> {
        Mse::new().forward(self, target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::ops::loss::pointwise::tests::check_all;

    #[test]
    fn gradients_of_both_sides() {
        let x = Tensor::from_fn([4, 3], |i| (i * 5 % 7) as f64).unwrap();
        let t = Tensor::from_fn([4, 3], |i| i as f64 * 0.3).unwrap();
        check_all(Square, &x, &t);
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
