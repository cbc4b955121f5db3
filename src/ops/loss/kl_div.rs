//! The Kullback-Leibler divergence of each element, for log-probabilities x of the model and a target t:
//!
//! ```text
//! t a probability          t (ln t - x), 0 at t = 0      dx = -t       dt = ln t + 1 - x
//! t the logarithm of one   e^t (t - x)                   dx = -e^t     dt = e^t (t - x + 1)
//! ```

use super::pointwise::{Pointwise, pointwise};
use super::{Within, check};
use crate::error::Result;
use crate::float::Float;
use crate::ops::cross_entropy::Reduction;
use crate::tensor::Tensor;

const OP: &str = "kl_div";

/// The Kullback-Leibler divergence Σ t (ln t - x) of a target distribution t from a model's log-probabilities x, such as
/// [`log_softmax`](Tensor::log_softmax) gives.
///
/// The divergence of one example is a sum over its classes, so of a batch one mostly wants [`batch_mean`](Self::batch_mean): the mean over
/// all elements, which is PyTorch's default and so this one's, divides by the number of classes as well.
///
/// Source: Kullback and Leibler, "On Information and Sufficiency" (1951).
///
/// ```
/// use gradus::prelude::*;
/// let x: Tensor = Tensor::from([[0.5, 0.5], [0.25, 0.75]]).ln();
/// let t = Tensor::from([[1.0, 0.0], [0.25, 0.75]]);
/// let loss = KlDiv::new().batch_mean().forward(&x, &t)?;
/// assert!((loss.item()? - 2f32.ln() / 2.0).abs() < 1e-6);
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "KLDivLoss")]
#[derive(Clone, Copy, Debug, Default)]
pub struct KlDiv {
    /// Whether the target too is given by logarithms of probabilities.
    pub log_target: bool,
    /// Whether the sum is divided by the size of axis 0, in place of `reduction`.
    pub batch_mean: bool,
    /// What becomes of the divergences of the elements.
    pub reduction: Reduction,
}

impl KlDiv {
    /// The mean over all elements, for a target of probabilities.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`log_target`](Self::log_target).
    pub fn log_target(mut self) -> Self {
        self.log_target = true;
        self
    }

    /// Sets [`batch_mean`](Self::batch_mean).
    pub fn batch_mean(mut self) -> Self {
        self.batch_mean = true;
        self
    }

    /// Sets [`reduction`](Self::reduction).
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// The loss.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) unless both shapes are the same, [`Error::Argument`](crate::Error::Argument) for a negative
    /// probability or one that is NaN.
    pub fn forward<T: Float>(&self, x: &Tensor<T>, target: &Tensor<T>) -> Result<Tensor<T>> {
        super::same_shape(OP, x, target)?;
        let reduction = if self.batch_mean { Reduction::Sum } else { self.reduction };
        let y = if self.log_target {
            pointwise(Divergence::<true>, reduction, x, target)?
        } else {
            let rule = "is not 0 or more; for logarithms of probabilities, see log_target";
            check(OP, "target", target, Within(T::ZERO, T::infinity()), rule)?;
            pointwise(Divergence::<false>, reduction, x, target)?
        };
        Ok(match (self.batch_mean, x.shape().first()) {
            (true, Some(&n)) => y.mul_scalar(T::ONE / T::of(n as f64)),
            _ => y,
        })
    }
}

#[derive(Clone, Copy)]
struct Divergence<const LOG: bool>;

impl<T: Float, const LOG: bool> Pointwise<T> for Divergence<LOG> {
    const NAME: &'static str = OP;
    const NS: f64 = 0.6;
    #[inline(always)]
    fn f<const FMA: bool>(self, x: T, t: T) -> T {
        if LOG {
            t.vexp::<FMA>() * (t - x)
        } else {
            // 0 ln 0 = 0, and no matter how unlikely what never happens was thought to be.
            let y = t * (t.vln::<FMA>() - x);
            if t == T::ZERO { T::ZERO } else { y }
        }
    }
    #[inline(always)]
    fn dx<const FMA: bool>(self, _: T, t: T) -> T {
        if LOG { -t.vexp::<FMA>() } else { -t }
    }
    #[inline(always)]
    fn dt<const FMA: bool>(self, x: T, t: T) -> T {
        if LOG { t.vexp::<FMA>() * (t - x + T::ONE) } else { t.vln::<FMA>() + T::ONE - x }
    }
    fn slope(self, _: &Tensor<T>, t: &Tensor<T>) -> Result<Tensor<T>> {
        Ok(if LOG { t.exp().neg() } else { t.neg() })
    }
    fn target_slope(self, x: &Tensor<T>, t: &Tensor<T>) -> Result<Tensor<T>> {
        if LOG {
            t.exp().try_mul(&t.try_sub(x)?.add_scalar(T::ONE))
        } else {
            t.ln().add_scalar(T::ONE).try_sub(x)
        }
    }
}

impl<T: Float> Tensor<T> {
    /// The Kullback-Leibler divergence of a target distribution from these log-probabilities, summed over the classes, as the mean
    /// over axis 0 ("batchmean" in PyTorch). For other reductions and targets given by logarithms see [`KlDiv`](crate::nn::KlDiv).
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let p: Tensor = Tensor::from([[0.5, 0.5]]);
    /// assert_eq!(p.ln().kl_div(&p)?.item()?, 0.0);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`KlDiv::forward`](crate::nn::KlDiv::forward).
    pub fn kl_div(&self, target: &Tensor<T>) -> Result<Tensor<T>> {
        KlDiv::new().batch_mean().forward(self, target)
    }
}

#[cfg(test)]
mod tests {
    use super::super::pointwise::tests::check_all;
    use super::*;
    use crate::error::Error;

    #[test]
    fn gradients_of_both_sides() {
        let x = Tensor::from_fn([4, 3], |i| (i * 5 % 7) as f64 * -0.4).unwrap();
        let t = Tensor::from_fn([4, 3], |i| 0.1 + (i % 5) as f64 * 0.3).unwrap();
        check_all(Divergence::<false>, &x, &t);
        check_all(Divergence::<true>, &x, &t.ln());
    }

    #[test]
    fn what_never_happens_costs_nothing() {
        let x = Tensor::from([f32::NEG_INFINITY, -1.0, f32::NEG_INFINITY]);
        let t = Tensor::from([0.0, 1.0, 0.5]);
        let y = KlDiv::new().reduction(Reduction::None).forward(&x, &t).unwrap();
        assert_eq!(y.to_vec(), [0.0, 1.0, f32::INFINITY]);
        let x = Tensor::from([-1.0f64, -2.0]);
        let both = KlDiv::new().log_target().batch_mean().forward(&x, &x).unwrap();
        assert_eq!(both.item().unwrap(), 0.0);
        let e = KlDiv::new().forward(&x, &x);
        assert!(matches!(e, Err(Error::Argument { op: "kl_div", .. })));
    }
}
