//! Margins of one score x with a target t of -1 or 1:
//!
//! ```text
//! binary_hinge      max(0, 1 - t x)^k                               dx = -k t max(0, 1 - t x)^(k-1), 0 where the margin is kept
//! hinge_embedding   x for t = 1, max(0, margin - x) for t = -1      dx = 1; -1 or 0
//! soft_margin       ln(1 + e^(-t x))                                dx = -t σ(-t x)
//! ```

use super::pointwise::{Pointwise, constant_slope, pointwise};
use super::{check_setting, check_signs, same_shape};
use crate::error::Result;
use crate::float::Float;
use crate::kernel::map::Zip;
use crate::ops::cross_entropy::Reduction;
use crate::ops::elementwise::zip;
use crate::tensor::Tensor;

/// The hinge loss of a support vector machine, max(0, 1 - t x)^power for scores x and targets t of -1 or 1.
///
/// Source: Cortes and Vapnik, "Support-Vector Networks" (1995).
///
/// ```
/// use gradus::prelude::*;
/// let (x, t): (Tensor, Tensor) = (Tensor::from([2.0, 0.5, 0.5]), Tensor::from([1.0, 1.0, -1.0]));
/// let each = BinaryHinge::new().reduction(Reduction::None);
/// assert_eq!(each.forward(&x, &t)?.to_vec(), [0.0, 0.5, 1.5]);
/// assert_eq!(each.power(2.0).forward(&x, &t)?.to_vec(), [0.0, 0.25, 2.25]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct BinaryHinge {
    /// 1 for the hinge, 2 for its square, which is smooth; at least 1.
    pub power: f64,
    /// What becomes of the losses of the elements.
    pub reduction: Reduction,
}

impl Default for BinaryHinge {
    fn default() -> Self {
        BinaryHinge { power: 1.0, reduction: Reduction::Mean }
    }
}

impl BinaryHinge {
    /// The mean of the hinge itself.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`power`](Self::power).
    pub fn power(mut self, power: f64) -> Self {
        self.power = power;
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
    /// [`Error::Shape`](crate::Error::Shape) unless both shapes are the same, [`Error::Argument`](crate::Error::Argument) for a target that
    /// is neither -1 nor 1, or a power below 1.
    pub fn forward<T: Float>(&self, x: &Tensor<T>, target: &Tensor<T>) -> Result<Tensor<T>> {
        const OP: &str = "binary_hinge";
        check_setting(OP, "power", self.power, self.power >= 1.0, "1 or more")?;
        same_shape(OP, x, target)?;
        check_signs(OP, target)?;
        pointwise(Hinge(T::of(self.power)), self.reduction, x, target)
    }
}

/// For distances x of pairs that belong together (t = 1: the loss is x) or not (t = -1: max(0, margin - x)).
///
/// Source: Hadsell, Chopra and LeCun, "Dimensionality Reduction by Learning an Invariant Mapping" (2006), without the squares.
///
/// ```
/// use gradus::prelude::*;
/// let (x, t): (Tensor, Tensor) = (Tensor::from([0.5, 0.25, 3.0]), Tensor::from([1.0, -1.0, -1.0]));
/// assert_eq!(HingeEmbedding::new(1.0).reduction(Reduction::None).forward(&x, &t)?.to_vec(), [0.5, 0.75, 0.0]);
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "HingeEmbeddingLoss")]
#[derive(Clone, Copy, Debug)]
pub struct HingeEmbedding {
    /// How far apart is far enough; PyTorch's default is 1.
    pub margin: f64,
    /// What becomes of the losses of the elements.
    pub reduction: Reduction,
}

impl HingeEmbedding {
    /// The mean.
    pub fn new(margin: f64) -> Self {
        HingeEmbedding { margin, reduction: Reduction::Mean }
    }

    /// Sets [`reduction`](Self::reduction).
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// The loss. The target gets no gradient.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) unless both shapes are the same, [`Error::Argument`](crate::Error::Argument) for a target that
    /// is neither -1 nor 1, or a margin that is NaN.
    pub fn forward<T: Float>(&self, x: &Tensor<T>, target: &Tensor<T>) -> Result<Tensor<T>> {
        const OP: &str = "hinge_embedding";
        check_setting(OP, "the margin", self.margin, true, "a number")?;
        same_shape(OP, x, target)?;
        check_signs(OP, target)?;
        pointwise(Distance(T::of(self.margin)), self.reduction, x, target)
    }
}

/// Logistic loss of scores x and targets t of -1 or 1: ln(1 + e^(-t x)), the smooth sibling of the hinge.
///
/// ```
/// use gradus::prelude::*;
/// let (x, t): (Tensor, Tensor) = (Tensor::from([0.0, 500.0]), Tensor::from([1.0, -1.0]));
/// assert_eq!(SoftMargin::new().reduction(Reduction::None).forward(&x, &t)?.to_vec(), [2f32.ln(), 500.0]);
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "SoftMarginLoss")]
#[derive(Clone, Copy, Debug, Default)]
pub struct SoftMargin {
    /// What becomes of the losses of the elements.
    pub reduction: Reduction,
}

impl SoftMargin {
    /// The mean.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`reduction`](Self::reduction).
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// The loss.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) unless both shapes are the same, [`Error::Argument`](crate::Error::Argument) for a target that
    /// is neither -1 nor 1.
    pub fn forward<T: Float>(&self, x: &Tensor<T>, target: &Tensor<T>) -> Result<Tensor<T>> {
        const OP: &str = "soft_margin";
        same_shape(OP, x, target)?;
        check_signs(OP, target)?;
        pointwise(Logistic, self.reduction, x, target)
    }
}

/// The hinge to this power.
#[derive(Clone, Copy)]
struct Hinge<T>(T);

impl<T: Float> Hinge<T> {
    /// The derivative by t x.
    #[inline(always)]
    fn d(self, product: T) -> T {
        let short = T::ONE - product;
        let d = if self.0 == T::ONE {
            T::ONE
        } else if self.0 == T::of(2.0) {
            short + short
        } else {
            self.0 * num_traits::Float::powf(short, self.0 - T::ONE)
        };
        let d = if short.is_nan() { short } else { -d };
        if short <= T::ZERO { T::ZERO } else { d }
    }

    /// The derivative by t x, by tensor operations; it is constant at power 1.
    fn slope(self, x: &Tensor<T>, t: &Tensor<T>) -> Result<Tensor<T>> {
        if self.0 == T::ONE {
            return zip("binary_hinge", Inside(self), x, t);
        }
        let short = x.try_mul(t)?.rsub_scalar(T::ONE).relu();
        Ok(short.powf(self.0 - T::ONE).mul_scalar(-self.0))
    }
}

impl<T: Float> Pointwise<T> for Hinge<T> {
    const NAME: &'static str = "binary_hinge";
    #[inline(always)]
    fn f<const FMA: bool>(self, x: T, t: T) -> T {
        let short = T::ONE - t * x;
        let short = if short < T::ZERO { T::ZERO } else { short };
        if self.0 == T::ONE {
            short
        } else if self.0 == T::of(2.0) {
            short * short
        } else {
            num_traits::Float::powf(short, self.0)
        }
    }
    #[inline(always)]
    fn dx<const FMA: bool>(self, x: T, t: T) -> T {
        t * self.d(t * x)
    }
    #[inline(always)]
    fn dt<const FMA: bool>(self, x: T, t: T) -> T {
        x * self.d(t * x)
    }
    fn slope(self, x: &Tensor<T>, t: &Tensor<T>) -> Result<Tensor<T>> {
        Hinge::slope(self, x, t)?.try_mul(t)
    }
    fn target_slope(self, x: &Tensor<T>, t: &Tensor<T>) -> Result<Tensor<T>> {
        Hinge::slope(self, x, t)?.try_mul(x)
    }
}

/// The derivative by t x, from x and t.
#[derive(Clone, Copy)]
struct Inside<T>(Hinge<T>);
impl<T: Float> Zip<T, T, T> for Inside<T> {
    #[inline(always)]
    fn at<const FMA: bool>(self, x: T, t: T) -> T {
        self.0.d(t * x)
    }
}

/// The distance, or what it lacks to the margin.
#[derive(Clone, Copy)]
struct Distance<T>(T);

impl<T: Float> Pointwise<T> for Distance<T> {
    const NAME: &'static str = "hinge_embedding";
    #[inline(always)]
    fn f<const FMA: bool>(self, x: T, t: T) -> T {
        let short = self.0 - x;
        let short = if short < T::ZERO { T::ZERO } else { short };
        if t > T::ZERO { x } else { short }
    }
    #[inline(always)]
    fn dx<const FMA: bool>(self, x: T, t: T) -> T {
        let apart = if x < self.0 { -T::ONE } else { T::ZERO };
        if t > T::ZERO { T::ONE } else { apart }
    }
    #[inline(always)]
    fn dt<const FMA: bool>(self, _: T, _: T) -> T {
        T::ZERO
    }
    fn slope(self, x: &Tensor<T>, t: &Tensor<T>) -> Result<Tensor<T>> {
        constant_slope::<T, Self, false>(self, x, t)
    }
    fn target_slope(self, x: &Tensor<T>, t: &Tensor<T>) -> Result<Tensor<T>> {
        constant_slope::<T, Self, true>(self, x, t)
    }
}

#[derive(Clone, Copy)]
struct Logistic;

impl<T: Float> Pointwise<T> for Logistic {
    const NAME: &'static str = "soft_margin";
    const NS: f64 = 1.0;
    #[inline(always)]
    fn f<const FMA: bool>(self, x: T, t: T) -> T {
        let z = -t * x;
        let high = if z < T::ZERO { T::ZERO } else { z };
        high + (-z.magnitude()).vexp::<FMA>().vln1p_unit::<FMA>()
    }
    #[inline(always)]
    fn dx<const FMA: bool>(self, x: T, t: T) -> T {
        -t * (-t * x).vsigmoid::<FMA>()
    }
    #[inline(always)]
    fn dt<const FMA: bool>(self, x: T, t: T) -> T {
        -x * (-t * x).vsigmoid::<FMA>()
    }
    fn slope(self, x: &Tensor<T>, t: &Tensor<T>) -> Result<Tensor<T>> {
        x.try_mul(t)?.neg().sigmoid().try_mul(&t.neg())
    }
    fn target_slope(self, x: &Tensor<T>, t: &Tensor<T>) -> Result<Tensor<T>> {
        x.try_mul(t)?.neg().sigmoid().try_mul(&x.neg())
    }
}

#[cfg(test)]
mod tests {
    use super::super::pointwise::tests::check_all;
    use super::*;
    use crate::error::Error;

    #[test]
    fn gradients_away_from_the_kinks() {
        let x = Tensor::from_fn([4, 3], |i| (i * 5 % 7) as f64 * 0.45 - 1.4).unwrap();
        let t = Tensor::from_fn([4, 3], |i| if i % 3 == 0 { 1.0 } else { -1.0 }).unwrap();
        for power in [1.0, 2.0, 2.5, 3.0] {
            check_all(Hinge(power), &x, &t);
        }
        check_all(Distance(0.83), &x, &t);
        check_all(Logistic, &x, &t);
    }

    #[test]
    fn at_the_margin() {
        let x = Tensor::from([1.0f32, 0.0, f32::NAN]);
        let t = Tensor::from([1.0, 1.0, 1.0]);
        for (power, want) in [(1.0, [0.0, -1.0]), (2.0, [0.0, -2.0]), (1.5, [0.0, -1.5])] {
            let tape = crate::Tape::new(0);
            let leaf = tape.leaf(&x);
            let loss = BinaryHinge::new().power(power).reduction(Reduction::Sum);
            let y = loss.forward(&leaf, &t).unwrap();
            assert!(y.item().unwrap().is_nan());
            let g = y.backward().unwrap();
            let g = g.wrt(&leaf).unwrap().to_vec();
            assert_eq!(g[..2], want);
            assert!(g[2].is_nan());
        }
    }

    #[test]
    fn targets_must_be_signs() {
        let (x, t) = (Tensor::from([1.0f32, 2.0]), Tensor::from([1.0f32, 0.0]));
        let argument = |y: Result<Tensor>| matches!(y, Err(Error::Argument { .. }));
        assert!(argument(BinaryHinge::new().forward(&x, &t)));
        assert!(argument(HingeEmbedding::new(1.0).forward(&x, &t)));
        assert!(argument(SoftMargin::new().forward(&x, &t)));
        assert!(argument(BinaryHinge::new().power(0.5).forward(&x, &x)));
        assert!(argument(HingeEmbedding::new(f64::NAN).forward(&x, &x)));
    }
}
