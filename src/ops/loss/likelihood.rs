//! Negative log-likelihoods of counts (Poisson) and of real numbers with a predicted variance (Gauss).

use super::pointwise::{Pointwise, pointwise};
use super::{Within, check, check_broadcast, check_setting, reduce, same_shape};
use crate::error::Result;
use crate::float::Float;
use crate::ops::cross_entropy::Reduction;
use crate::tensor::Tensor;

/// Negative log-likelihood of counts t under a Poisson distribution: e^x - t x for the logarithm x of its rate (the default), or
/// x - t ln(x + eps) for the rate itself. With [`full`](Self::full), Stirling's approximation t ln t - t + ln(2πt)/2 of ln t! is added for
/// t > 1.
///
/// ```
/// use gradus::prelude::*;
/// let (x, t): (Tensor, Tensor) = (Tensor::from([0.0, 1.0]), Tensor::from([2.0, 3.0]));
/// let each = PoissonNll::new().reduction(Reduction::None).forward(&x, &t)?;
/// assert_eq!(each.to_vec(), [1.0, 1f32.exp() - 3.0]);
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "PoissonNLLLoss")]
#[derive(Clone, Copy, Debug)]
pub struct PoissonNll {
    /// Whether the prediction is the logarithm of the rate; it is unless set otherwise.
    pub log_input: bool,
    /// Whether the part that depends on the target alone is added.
    pub full: bool,
    /// Keeps the logarithm of a rate finite at 0; 1e-8 unless set.
    pub eps: f64,
    /// What becomes of the losses of the elements.
    pub reduction: Reduction,
}

impl Default for PoissonNll {
    fn default() -> Self {
        PoissonNll { log_input: true, full: false, eps: 1e-8, reduction: Reduction::Mean }
    }
}

impl PoissonNll {
    /// The mean, for logarithms of rates.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`log_input`](Self::log_input).
    pub fn log_input(mut self, log_input: bool) -> Self {
        self.log_input = log_input;
        self
    }

    /// Sets [`full`](Self::full).
    pub fn full(mut self) -> Self {
        self.full = true;
        self
    }

    /// Sets [`eps`](Self::eps).
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
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
    /// [`Error::Shape`](crate::Error::Shape) unless both shapes are the same, [`Error::Argument`](crate::Error::Argument) for a target
    /// that is negative or NaN, or a negative `eps`.
    pub fn forward<T: Float>(&self, x: &Tensor<T>, target: &Tensor<T>) -> Result<Tensor<T>> {
        const OP: &str = "poisson_nll";
        same_shape(OP, x, target)?;
        check_setting(OP, "eps", self.eps, self.eps >= 0.0, "0 or more")?;
        check(OP, "target", target, Within(T::ZERO, T::infinity()), "is not 0 or more")?;
        let f = Poisson { log_input: self.log_input, full: self.full, eps: T::of(self.eps) };
        pointwise(f, self.reduction, x, target)
    }
}

#[derive(Clone, Copy)]
struct Poisson<T> {
    log_input: bool,
    full: bool,
    eps: T,
}

impl<T: Float> Pointwise<T> for Poisson<T> {
    const NAME: &'static str = "poisson_nll";
    const NS: f64 = 1.0;
    #[inline(always)]
    fn f<const FMA: bool>(self, x: T, t: T) -> T {
        let y = if self.log_input {
            x.vexp::<FMA>() - t * x
        } else {
            x - t * (x + self.eps).vln::<FMA>()
        };
        let half_ln = T::of(0.5) * (T::of(std::f64::consts::TAU) * t).vln::<FMA>();
        let rest = t * t.vln::<FMA>() - t + half_ln;
        if self.full && t > T::ONE { y + rest } else { y }
    }
    #[inline(always)]
    fn dx<const FMA: bool>(self, x: T, t: T) -> T {
        if self.log_input { x.vexp::<FMA>() - t } else { T::ONE - t / (x + self.eps) }
    }
    #[inline(always)]
    fn dt<const FMA: bool>(self, x: T, t: T) -> T {
        let y = if self.log_input { -x } else { -(x + self.eps).vln::<FMA>() };
        let rest = t.vln::<FMA>() + T::of(0.5) / t;
        if self.full && t > T::ONE { y + rest } else { y }
    }
    fn slope(self, x: &Tensor<T>, t: &Tensor<T>) -> Result<Tensor<T>> {
        if self.log_input {
            x.exp().try_sub(t)
        } else {
            Ok(t.try_div(&x.add_scalar(self.eps))?.rsub_scalar(T::ONE))
        }
    }
    fn target_slope(self, x: &Tensor<T>, t: &Tensor<T>) -> Result<Tensor<T>> {
        let y = if self.log_input { x.neg() } else { x.add_scalar(self.eps).ln().neg() };
        if !self.full {
            return Ok(y);
        }
        let rest = t.ln().try_add(&t.try_rdiv_scalar(T::of(0.5))?)?;
        y.try_add(&t.gt_scalar(T::ONE).select_where(&rest, &Tensor::scalar(T::ZERO))?)
    }
}

/// Negative log-likelihood of real numbers under a Gaussian whose mean x and variance v are predicted: (ln v + (x - t)² / v) / 2, with a
/// variance below [`eps`](Self::eps) taken as that. With [`full`](Self::full), ln(2π)/2 is added.
///
/// Source: Nix and Weigend, "Estimating the mean and variance of the target probability distribution" (1994).
///
/// ```
/// use gradus::prelude::*;
/// let (x, t): (Tensor, Tensor) = (Tensor::from([1.0, 2.0]), Tensor::from([1.0, 4.0]));
/// let v = Tensor::from([1.0, 2.0]);
/// let each = GaussianNll::new().reduction(Reduction::None).forward(&x, &t, &v)?;
/// assert_eq!(each.to_vec(), [0.0, 0.5 * 2f32.ln() + 1.0]);
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "GaussianNLLLoss")]
#[derive(Clone, Copy, Debug)]
pub struct GaussianNll {
    /// Whether the constant ln(2π)/2 is added.
    pub full: bool,
    /// The least variance, above 0; 1e-6 unless set.
    pub eps: f64,
    /// What becomes of the losses of the elements.
    pub reduction: Reduction,
}

impl Default for GaussianNll {
    fn default() -> Self {
        GaussianNll { full: false, eps: 1e-6, reduction: Reduction::Mean }
    }
}

impl GaussianNll {
    /// The mean, without the constant.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`full`](Self::full).
    pub fn full(mut self) -> Self {
        self.full = true;
        self
    }

    /// Sets [`eps`](Self::eps).
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// Sets [`reduction`](Self::reduction).
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// The loss of means and targets of one shape, and variances of that shape, or with its last axis of size 1 or left out (one variance
    /// for all outputs of an example).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the shapes do not fit, [`Error::Argument`](crate::Error::Argument) for a variance that
    /// is negative or NaN, or an `eps` that is not above 0.
    pub fn forward<T: Float>(
        &self,
        x: &Tensor<T>,
        target: &Tensor<T>,
        variance: &Tensor<T>,
    ) -> Result<Tensor<T>> {
        const OP: &str = "gaussian_nll";
        same_shape(OP, x, target)?;
        check_setting(OP, "eps", self.eps, self.eps > 0.0, "above 0")?;
        let rank = x.rank();
        let left_out =
            rank > 0 && variance.shape() == &x.shape()[..rank - 1] && variance.rank() > 0;
        let v = if left_out { variance.unsqueeze(-1)? } else { variance.clone() };
        check_broadcast(OP, "variance", &v, x.shape())?;
        check(OP, "variance", variance, Within(T::ZERO, T::infinity()), "is not 0 or more")?;
        // As in PyTorch the gradient passes the bound, or a variance that has come too low could never rise again.
        let plain = v.detach();
        let missing = plain.clamp(T::of(self.eps), T::infinity()).try_sub(&plain)?;
        let v = v.try_add(&missing)?;
        let y = x.try_sub(target)?.square().try_div(&v)?.try_add(&v.ln())?.mul_scalar(T::of(0.5));
        let constant = if self.full { 0.5 * std::f64::consts::TAU.ln() } else { 0.0 };
        Ok(reduce(y.add_scalar(T::of(constant)), self.reduction))
    }
}

#[cfg(test)]
mod tests {
    use super::super::pointwise::tests::check_all;
    use super::*;
    use crate::autograd::gradcheck;
    use crate::error::Error;

    #[test]
    fn counts() {
        let x = Tensor::from_fn([4, 3], |i| 0.2 + (i * 5 % 7) as f64 * 0.4).unwrap();
        let t = Tensor::from_fn([4, 3], |i| 0.5 + (i % 4) as f64).unwrap();
        for log_input in [true, false] {
            for full in [true, false] {
                check_all(Poisson { log_input, full, eps: 1e-8 }, &x, &t);
            }
        }
        // ln 50! = 148.478: Stirling's formula is close.
        let full = PoissonNll::new().full();
        let (zero, fifty) = (Tensor::from([0.0f64]), Tensor::from([50.0]));
        let y = full.forward(&zero, &fifty).unwrap().item().unwrap();
        assert!((y - 1.0 - 148.478).abs() < 0.01, "{y}");
        assert!(matches!(full.forward(&zero, &-&fifty), Err(Error::Argument { .. })));
    }

    #[test]
    fn variances_of_each_shape() {
        let x = Tensor::from_fn([4, 3], |i| (i * 5 % 7) as f64 * 0.4).unwrap();
        let t = Tensor::from_fn([3, 4], |i| (i % 5) as f64 * 0.3).unwrap().t().unwrap();
        for shape in [&[4, 3][..], &[4, 1], &[4], &[]] {
            let v = Tensor::from_fn(shape, |i| 0.4 + 0.2 * i as f64).unwrap();
            for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
                let loss = GaussianNll::new().full().reduction(reduction);
                gradcheck(|[x, t, v]| loss.forward(x, t, v), [&x, &t, &v]).unwrap();
            }
        }
        let loss = GaussianNll::new();
        let wrong = Tensor::ones([5]).unwrap();
        assert!(matches!(loss.forward(&x, &t, &wrong), Err(Error::Shape { .. })));
        let wrong = Tensor::from([[-1.0], [1.0], [1.0], [1.0]]);
        assert!(matches!(loss.forward(&x, &t, &wrong), Err(Error::Argument { .. })));
    }

    #[test]
    fn a_variance_of_nothing_can_rise() {
        let tape = crate::Tape::new(0);
        let v = tape.leaf(&Tensor::from([0.0f64]));
        let (x, t) = (Tensor::from([1.0]), Tensor::from([2.0]));
        let g = GaussianNll::new().eps(0.5).forward(&x, &t, &v).unwrap().backward().unwrap();
        assert!((g.wrt(&v).unwrap().item().unwrap() - 0.5 * (2.0 - 4.0)).abs() < 1e-12);
    }
}
