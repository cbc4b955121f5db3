//! Binary cross-entropy, of probabilities or of logits, for targets t between 0 and 1:
//!
//! ```text
//! bce               -t ln x - (1-t) ln(1-x), each logarithm at least -100      dx = (x-t) / (x (1-x)), the divisor at least 1e-12
//! bce_with_logits   -t ln σ(x) - (1-t) ln(1-σ(x))                              dx = σ(x) - t,  dt = -x
//!                 = |x| w + ln(1 + e^-|x|)  with w = 1-t for x >= 0, else t
//! ```
//!
//! The last form neither overflows nor cancels: both summands are positive.

use super::pointwise::{Pointwise, weighted_pointwise};
use super::{check, check_broadcast, check_probabilities, reduce, same_shape};
use crate::error::Result;
use crate::float::Float;
use crate::kernel::map::Map;
use crate::ops::cross_entropy::Reduction;
use crate::tensor::Tensor;

/// Binary cross-entropy of probabilities. For logits, [`BceWithLogits`] is more exact, and its gradient does not vanish.
///
/// loss = -t ln x - (1-t) ln(1-x), times the weight of the element; each logarithm is at least -100, so that a certain but wrong
/// prediction costs 100 and not infinity.
///
/// ```
/// use gradus::prelude::*;
/// let (p, t): (Tensor, Tensor) = (Tensor::from([0.5, 0.75]), Tensor::from([1.0, 1.0]));
/// let loss = Bce::new().reduction(Reduction::Sum).forward(&p, &t)?;
/// assert!((loss.item()? - (2.0f32.ln() + (4.0f32 / 3.0).ln())).abs() < 1e-6);
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "BCELoss")]
#[doc(alias = "binary_cross_entropy")]
#[derive(Clone, Debug, Default)]
pub struct Bce<T: Float = f32> {
    /// A weight for each element, of a shape that broadcasts to the prediction's.
    pub weight: Option<Tensor<T>>,
    /// What becomes of the losses of the elements. The mean divides by their number, whatever the weights.
    pub reduction: Reduction,
}

impl<T: Float> Bce<T> {
    /// The mean, without weights.
    pub fn new() -> Self {
        Bce { weight: None, reduction: Reduction::Mean }
    }

    /// Sets [`weight`](Self::weight).
    pub fn weight(mut self, weight: Tensor<T>) -> Self {
        self.weight = Some(weight);
        self
    }

    /// Sets [`reduction`](Self::reduction).
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// The loss of probabilities and targets of one shape, all between 0 and 1.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the shapes differ or the weight does not broadcast to them,
    /// [`Error::Argument`](crate::Error::Argument) for a probability or a target that is not between 0 and 1.
    pub fn forward(&self, x: &Tensor<T>, target: &Tensor<T>) -> Result<Tensor<T>> {
        const OP: &str = "bce";
        same_shape(OP, x, target)?;
        check_probabilities(OP, "prediction", x, "; for logits, see bce_with_logits")?;
        check_probabilities(OP, "target", target, "")?;
        weighted_pointwise(OfProbability, self.weight.as_ref(), self.reduction, x, target)
    }
}

/// Binary cross-entropy of logits: [`Bce`] of their sigmoid, exact for large ones too.
///
/// loss = w (-p t ln σ(x) - (1-t) ln(1-σ(x))) with the weight w of the element and the weight p of positive targets. With p = (number of
/// negatives) / (number of positives), both kinds count the same in total.
///
/// ```
/// use gradus::prelude::*;
/// let (x, t): (Tensor, Tensor) = (Tensor::from([0.0, 200.0]), Tensor::from([1.0, 0.0]));
/// let each = BceWithLogits::new().reduction(Reduction::None).forward(&x, &t)?;
/// assert_eq!(each.to_vec(), [2f32.ln(), 200.0]);
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "BCEWithLogitsLoss")]
#[doc(alias = "binary_cross_entropy_with_logits")]
#[derive(Clone, Debug, Default)]
pub struct BceWithLogits<T: Float = f32> {
    /// A weight for each element, of a shape that broadcasts to the logits'.
    pub weight: Option<Tensor<T>>,
    /// A weight of positive targets, mostly one for each class, of a shape that broadcasts to the logits'.
    pub pos_weight: Option<Tensor<T>>,
    /// What becomes of the losses of the elements. The mean divides by their number, whatever the weights.
    pub reduction: Reduction,
}

impl<T: Float> BceWithLogits<T> {
    /// The mean, without weights.
    pub fn new() -> Self {
        BceWithLogits { weight: None, pos_weight: None, reduction: Reduction::Mean }
    }

    /// Sets [`weight`](Self::weight).
    pub fn weight(mut self, weight: Tensor<T>) -> Self {
        self.weight = Some(weight);
        self
    }

    /// Sets [`pos_weight`](Self::pos_weight).
    pub fn pos_weight(mut self, weight: Tensor<T>) -> Self {
        self.pos_weight = Some(weight);
        self
    }

    /// Sets [`reduction`](Self::reduction).
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// The loss of logits and targets of one shape, the targets between 0 and 1.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the shapes differ or a weight does not broadcast to them,
    /// [`Error::Argument`](crate::Error::Argument) for a target that is not between 0 and 1, or a weight of positives that is negative or
    /// not finite.
    pub fn forward(&self, x: &Tensor<T>, target: &Tensor<T>) -> Result<Tensor<T>> {
        const OP: &str = "bce_with_logits";
        same_shape(OP, x, target)?;
        check_probabilities(OP, "target", target, "")?;
        let Some(p) = &self.pos_weight else {
            return weighted_pointwise(OfLogit, self.weight.as_ref(), self.reduction, x, target);
        };
        check_broadcast(OP, "weight of positives", p, x.shape())?;
        check(OP, "weight of positives", p, Weight, "is not finite and 0 or more")?;
        // (1-t) x - (1 + (p-1) t) ln σ(x)
        let certain = target.rsub_scalar(T::ONE).try_mul(x)?;
        let share = p.sub_scalar(T::ONE).try_mul(target)?.add_scalar(T::ONE);
        let mut y = certain.try_sub(&share.try_mul(&x.log_sigmoid())?)?;
        if let Some(w) = &self.weight {
            check_broadcast(OP, "weight", w, x.shape())?;
            y = y.try_mul(w)?;
        }
        Ok(reduce(y, self.reduction))
    }
}

/// Whether an element can be a weight.
#[derive(Clone, Copy)]
struct Weight;
impl<T: Float> Map<T, bool> for Weight {
    #[inline(always)]
    fn at<const FMA: bool>(self, x: T) -> bool {
        (x >= T::ZERO) & (x < T::infinity())
    }
}

#[derive(Clone, Copy)]
struct OfProbability;

/// The least divisor of the gradient: PyTorch's 1e-12, which is rounded to f32 there in f64 too (see docs/numerics.md).
const LEAST_SPREAD: f64 = 1e-12f32 as f64;

/// ln x, at least -100.
#[inline(always)]
fn ln<T: Float, const FMA: bool>(x: T) -> T {
    let (y, least) = (x.vln::<FMA>(), T::of(-100.0));
    if y < least { least } else { y }
}

/// ln(1 - x), at least -100. The rounding of 1 - x is made up for to first order.
#[inline(always)]
fn ln_rest<T: Float, const FMA: bool>(x: T) -> T {
    let rest = T::ONE - x;
    let lost = (T::ONE - rest) - x;
    let y = if rest > T::ZERO { ln::<T, FMA>(rest) + lost / rest } else { T::of(-100.0) };
    if x.is_nan() { x } else { y }
}

impl<T: Float> Pointwise<T> for OfProbability {
    const NAME: &'static str = "bce";
    const NS: f64 = 1.5;
    #[inline(always)]
    fn f<const FMA: bool>(self, x: T, t: T) -> T {
        -(t * ln::<T, FMA>(x) + (T::ONE - t) * ln_rest::<T, FMA>(x))
    }
    #[inline(always)]
    fn dx<const FMA: bool>(self, x: T, t: T) -> T {
        let (spread, least) = (x * (T::ONE - x), T::of(LEAST_SPREAD));
        (x - t) / if spread < least { least } else { spread }
    }
    #[inline(always)]
    fn dt<const FMA: bool>(self, x: T, _: T) -> T {
        ln_rest::<T, FMA>(x) - ln::<T, FMA>(x)
    }
    fn slope(self, x: &Tensor<T>, t: &Tensor<T>) -> Result<Tensor<T>> {
        let spread = x.try_mul(&x.rsub_scalar(T::ONE))?;
        x.try_sub(t)?.try_div(&spread.clamp(T::of(LEAST_SPREAD), T::infinity()))
    }
    fn target_slope(self, x: &Tensor<T>, _: &Tensor<T>) -> Result<Tensor<T>> {
        let ln = |x: &Tensor<T>| x.ln().clamp(T::of(-100.0), T::infinity());
        ln(&x.rsub_scalar(T::ONE)).try_sub(&ln(x))
    }
}

/// Also what the focal loss begins with.
#[derive(Clone, Copy)]
pub(super) struct OfLogit;

impl<T: Float> Pointwise<T> for OfLogit {
    const NAME: &'static str = "bce_with_logits";
    const NS: f64 = 1.0;
    #[inline(always)]
    fn f<const FMA: bool>(self, x: T, t: T) -> T {
        let size = x.magnitude();
        let share = if x < T::ZERO { t } else { T::ONE - t };
        // Nothing, even of infinity, where the share is 0.
        let straight = if share == T::ZERO { T::ZERO } else { size * share };
        straight + (-size).vexp::<FMA>().vln1p_unit::<FMA>()
    }
    #[inline(always)]
    fn dx<const FMA: bool>(self, x: T, t: T) -> T {
        x.vsigmoid::<FMA>() - t
    }
    #[inline(always)]
    fn dt<const FMA: bool>(self, x: T, _: T) -> T {
        -x
    }
    fn slope(self, x: &Tensor<T>, t: &Tensor<T>) -> Result<Tensor<T>> {
        x.sigmoid().try_sub(t)
    }
    fn target_slope(self, x: &Tensor<T>, _: &Tensor<T>) -> Result<Tensor<T>> {
        Ok(x.neg())
    }
}

impl<T: Float> Tensor<T> {
    /// The mean binary cross-entropy of these probabilities with targets from 0 to 1. For weights see [`Bce`](crate::nn::Bce); for logits
    /// [`bce_with_logits`](Self::bce_with_logits).
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let loss = Tensor::from([0.5f32, 0.5]).bce(&Tensor::from([1.0, 0.0]))?;
    /// assert_eq!(loss.item()?, 2f32.ln());
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Bce::forward`](crate::nn::Bce::forward).
    pub fn bce(&self, target: &Tensor<T>) -> Result<Tensor<T>> {
        Bce::new().forward(self, target)
    }

    /// The mean binary cross-entropy of these logits with targets from 0 to 1. For weights see
    /// [`BceWithLogits`](crate::nn::BceWithLogits).
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let loss = Tensor::from([0.0f32, 0.0]).bce_with_logits(&Tensor::from([1.0, 0.0]))?;
    /// assert_eq!(loss.item()?, 2f32.ln());
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`BceWithLogits::forward`](crate::nn::BceWithLogits::forward).
    pub fn bce_with_logits(&self, target: &Tensor<T>) -> Result<Tensor<T>> {
        BceWithLogits::new().forward(self, target)
    }
}

#[cfg(test)]
mod tests {
    use super::super::pointwise::tests::check_all;
    use super::*;
    use crate::autograd::gradcheck;
    use crate::error::Error;

    fn targets() -> Tensor<f64> {
        Tensor::from_fn([4, 3], |i| (i % 5) as f64 * 0.25).unwrap()
    }

    #[test]
    fn gradients_of_both_sides() {
        let x = Tensor::from_fn([4, 3], |i| (i * 5 % 12) as f64 * 0.4 - 2.1).unwrap();
        check_all(OfLogit, &x, &targets());
        check_all(OfProbability, &x.sigmoid(), &targets());
    }

    #[test]
    fn weights_broadcast() {
        let x = Tensor::from_fn([4, 3], |i| (i * 5 % 12) as f64 * 0.4 - 2.1).unwrap();
        let t = Tensor::from_fn([4, 3], |i| 0.1 + (i % 5) as f64 * 0.2).unwrap();
        let (w, p) = (Tensor::from([0.5, 1.0, 2.0]), Tensor::from([[3.0], [1.0], [0.5], [2.0]]));
        for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
            let (bce, logits) = (Bce::new(), BceWithLogits::new());
            let bce = bce.weight(w.clone()).reduction(reduction);
            let logits = logits.weight(w.clone()).pos_weight(p.clone()).reduction(reduction);
            gradcheck(|[x, t]| bce.forward(x, t), [&x.sigmoid(), &t]).unwrap();
            gradcheck(|[x, t]| logits.forward(x, t), [&x, &t]).unwrap();
        }
        // The same numbers by the definition.
        let logits = BceWithLogits::new().weight(w.clone()).pos_weight(p.clone());
        let s = x.sigmoid();
        let kept = &t * &s.ln() * &p + t.rsub_scalar(1.0) * s.rsub_scalar(1.0).ln();
        let want = -(kept * &w).mean().item().unwrap();
        assert!((logits.forward(&x, &t).unwrap().item().unwrap() - want).abs() < 1e-12);
    }

    #[test]
    fn certain_predictions() {
        let (inf, each) = (f32::INFINITY, Reduction::None);
        let x = Tensor::from([0.0f32, 1.0, 1.0, 0.0, 1e-30, 1e-7]);
        let t = Tensor::from([0.0f32, 1.0, 0.0, 1.0, 0.0, 0.0]);
        let y = Bce::new().reduction(each).forward(&x, &t).unwrap().to_vec();
        assert_eq!(y[..5], [0.0, 0.0, 100.0, 100.0, 1e-30]);
        assert!((y[5] - 1e-7).abs() < 1e-13, "{}", y[5]);
        let x = Tensor::from([inf, -inf, inf, -inf, -100.0, f32::NAN]);
        let t = Tensor::from([1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        let y = BceWithLogits::new().reduction(each).forward(&x, &t).unwrap().to_vec();
        assert_eq!(y[..5], [0.0, 0.0, inf, inf, 100.0]);
        assert!(y[5].is_nan());
    }

    #[test]
    fn mistakes() {
        let x = Tensor::from([[0.5f32, 0.25]]);
        for bad in [-0.1, 1.1, f32::NAN] {
            let t = Tensor::from([[1.0, bad]]);
            assert!(matches!(x.bce(&t), Err(Error::Argument { op: "bce", .. })));
            assert!(matches!(t.bce(&x), Err(Error::Argument { op: "bce", .. })));
            assert!(matches!(x.bce_with_logits(&t), Err(Error::Argument { .. })));
        }
        assert!(matches!(x.bce(&Tensor::zeros([2]).unwrap()), Err(Error::Shape { .. })));
        let loss = Bce::new().weight(Tensor::zeros([3]).unwrap());
        assert!(matches!(loss.forward(&x, &x), Err(Error::Shape { .. })));
        // A weight that would make the loss larger than the prediction.
        let wide = Tensor::ones([4, 1, 2]).unwrap();
        let loss = BceWithLogits::new().pos_weight(wide.clone());
        assert!(matches!(loss.forward(&x, &x), Err(Error::Shape { .. })));
        let loss = BceWithLogits::new().pos_weight(Tensor::from([1.0, -1.0]));
        assert!(matches!(loss.forward(&x, &x), Err(Error::Argument { .. })));
        let loss = BceWithLogits::new().weight(wide);
        assert!(matches!(loss.forward(&x, &x), Err(Error::Shape { .. })));
    }
}
