//! Losses of real numbers beside the squared error, with d = x - t:
//!
//! ```text
//! mae        |d|                                              dx = sign d, 0 at d = 0
//! huber      d²/2 if |d| <= δ, else δ (|d| - δ/2)             dx = d between -δ and δ, cut off there
//! smooth_l1  d²/(2β) if |d| < β, else |d| - β/2               dx = d/β between -1 and 1, cut off there
//! ```

use super::check_setting;
use super::pointwise::{Pointwise, constant_slope, pointwise};
use crate::error::Result;
use crate::float::Float;
use crate::ops::cross_entropy::Reduction;
use crate::tensor::Tensor;

/// Mean absolute error, |x - t|: less led by outliers than [`Mse`](crate::nn::Mse). PyTorch's `L1Loss`.
///
/// ```
/// use gradus::prelude::*;
/// let (y, target) = (Tensor::from([1.0f32, 2.0]), Tensor::from([1.0, 4.0]));
/// assert_eq!(Mae::new().forward(&y, &target)?.item()?, 1.0);
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "L1Loss")]
#[doc(alias = "l1_loss")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Mae {
    /// What becomes of the differences.
    pub reduction: Reduction,
}

impl Mae {
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
    /// [`Error::Shape`](crate::Error::Shape) unless both shapes are the same.
    pub fn forward<T: Float>(&self, pred: &Tensor<T>, target: &Tensor<T>) -> Result<Tensor<T>> {
        pointwise(Absolute, self.reduction, pred, target)
    }
}

/// Huber's loss: squared near the target, straight beyond `delta`: d²/2 for |d| ≤ δ, else δ (|d| - δ/2), with d = x - t.
///
/// Source: Huber, "Robust Estimation of a Location Parameter" (1964).
///
/// ```
/// use gradus::prelude::*;
/// let (y, target) = (Tensor::from([0.5f32, 3.0]), Tensor::from([0.0, 0.0]));
/// assert_eq!(Huber::new(1.0).reduction(Reduction::None).forward(&y, &target)?.to_vec(), [0.125, 2.5]);
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "HuberLoss")]
#[derive(Clone, Copy, Debug)]
pub struct Huber {
    /// Where the parabola turns into a straight line, above 0; PyTorch's default is 1.
    pub delta: f64,
    /// What becomes of the losses of the elements.
    pub reduction: Reduction,
}

impl Huber {
    /// The mean.
    pub fn new(delta: f64) -> Self {
        Huber { delta, reduction: Reduction::Mean }
    }

    /// Sets [`reduction`](Self::reduction).
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// The loss.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) unless both shapes are the same, [`Error::Argument`](crate::Error::Argument) for a `delta`
    /// that is not above 0.
    pub fn forward<T: Float>(&self, pred: &Tensor<T>, target: &Tensor<T>) -> Result<Tensor<T>> {
        check_setting("huber", "delta", self.delta, self.delta > 0.0, "above 0")?;
        let f = Bent::<T, false> { width: T::of(self.delta), height: T::of(self.delta) };
        pointwise(f, self.reduction, pred, target)
    }
}

/// Smooth L1: [`Huber`] divided by `beta`, so that it nears the absolute error as `beta` nears 0: d²/(2β) for |d| < β, else |d| - β/2.
///
/// Source: Girshick, "Fast R-CNN" (2015).
///
/// ```
/// use gradus::prelude::*;
/// let (y, target) = (Tensor::from([0.5f32, 3.0]), Tensor::from([0.0, 0.0]));
/// assert_eq!(SmoothL1::new(2.0).reduction(Reduction::None).forward(&y, &target)?.to_vec(), [0.0625, 2.0]);
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "SmoothL1Loss")]
#[derive(Clone, Copy, Debug)]
pub struct SmoothL1 {
    /// Where the parabola turns into a straight line; 0 is the absolute error. PyTorch's default is 1.
    pub beta: f64,
    /// What becomes of the losses of the elements.
    pub reduction: Reduction,
}

impl SmoothL1 {
    /// The mean.
    pub fn new(beta: f64) -> Self {
        SmoothL1 { beta, reduction: Reduction::Mean }
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
    /// `beta`.
    pub fn forward<T: Float>(&self, pred: &Tensor<T>, target: &Tensor<T>) -> Result<Tensor<T>> {
        check_setting("smooth_l1", "beta", self.beta, self.beta >= 0.0, "0 or more")?;
        let f = Bent::<T, true> { width: T::of(self.beta), height: T::ONE };
        pointwise(f, self.reduction, pred, target)
    }
}

#[derive(Clone, Copy)]
struct Absolute;

/// The sign of x, 0 at 0, NaN of NaN.
#[inline(always)]
fn sign<T: Float>(x: T) -> T {
    // x itself where it is 0 or NaN.
    let low = if x < T::ZERO { -T::ONE } else { x };
    if x > T::ZERO { T::ONE } else { low }
}

impl<T: Float> Pointwise<T> for Absolute {
    const NAME: &'static str = "mae";
    #[inline(always)]
    fn f<const FMA: bool>(self, x: T, t: T) -> T {
        (x - t).magnitude()
    }
    #[inline(always)]
    fn dx<const FMA: bool>(self, x: T, t: T) -> T {
        sign(x - t)
    }
    #[inline(always)]
    fn dt<const FMA: bool>(self, x: T, t: T) -> T {
        sign(t - x)
    }
    fn slope(self, x: &Tensor<T>, t: &Tensor<T>) -> Result<Tensor<T>> {
        constant_slope::<T, Self, false>(self, x, t)
    }
    fn target_slope(self, x: &Tensor<T>, t: &Tensor<T>) -> Result<Tensor<T>> {
        constant_slope::<T, Self, true>(self, x, t)
    }
}

/// A parabola up to |d| = width, where its slope has reached ±height, and straight from there.
#[derive(Clone, Copy)]
struct Bent<T, const SMOOTH_L1: bool> {
    width: T,
    height: T,
}

impl<T: Float, const SMOOTH_L1: bool> Pointwise<T> for Bent<T, SMOOTH_L1> {
    const NAME: &'static str = if SMOOTH_L1 { "smooth_l1" } else { "huber" };
    #[inline(always)]
    fn f<const FMA: bool>(self, x: T, t: T) -> T {
        let (d, half) = ((x - t).magnitude(), T::of(0.5));
        let curve = if SMOOTH_L1 { half * d * d / self.width } else { half * d * d };
        if d < self.width { curve } else { self.height * (d - half * self.width) }
    }
    #[inline(always)]
    fn dx<const FMA: bool>(self, x: T, t: T) -> T {
        let d = x - t;
        let curve = if SMOOTH_L1 { d / self.width } else { d };
        if d.magnitude() < self.width { curve } else { self.height * sign(d) }
    }
    #[inline(always)]
    fn dt<const FMA: bool>(self, x: T, t: T) -> T {
        self.dx::<FMA>(t, x)
    }
    fn slope(self, x: &Tensor<T>, t: &Tensor<T>) -> Result<Tensor<T>> {
        if self.width == T::ZERO {
            return constant_slope::<T, Self, false>(self, x, t);
        }
        let d = x.try_sub(t)?;
        let d = if SMOOTH_L1 { d.mul_scalar(T::ONE / self.width) } else { d };
        Ok(d.clamp(-self.height, self.height))
    }
    fn target_slope(self, x: &Tensor<T>, t: &Tensor<T>) -> Result<Tensor<T>> {
        self.slope(t, x)
    }
}

impl<T: Float> Tensor<T> {
    /// The mean absolute error of this prediction: y = Σ |x - target| / n. For the sum see [`Mae`](crate::nn::Mae).
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let loss = Tensor::from([1.0f32, 4.0]).mae(&Tensor::from([1.0, 2.0]))?;
    /// assert_eq!(loss.item()?, 1.0);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) unless both shapes are the same.
    pub fn mae(&self, target: &Tensor<T>) -> Result<Tensor<T>> {
        Mae::new().forward(self, target)
    }

    /// The mean of Huber's loss of this prediction, squared up to a difference of `delta` and straight beyond; see
    /// [`Huber`](crate::nn::Huber).
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let loss = Tensor::from([0.0f32, 4.0]).huber(&Tensor::from([1.0, 1.0]), 1.0)?;
    /// assert_eq!(loss.item()?, (0.5 + 2.5) / 2.0);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Huber::forward`](crate::nn::Huber::forward).
    pub fn huber(&self, target: &Tensor<T>, delta: f64) -> Result<Tensor<T>> {
        Huber::new(delta).forward(self, target)
    }

    /// The mean of the smooth L1 loss of this prediction; see [`SmoothL1`](crate::nn::SmoothL1).
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let loss = Tensor::from([0.0f32, 4.0]).smooth_l1(&Tensor::from([1.0, 1.0]), 2.0)?;
    /// assert_eq!(loss.item()?, (0.25 + 2.0) / 2.0);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`SmoothL1::forward`](crate::nn::SmoothL1::forward).
    pub fn smooth_l1(&self, target: &Tensor<T>, beta: f64) -> Result<Tensor<T>> {
        SmoothL1::new(beta).forward(self, target)
    }
}

#[cfg(test)]
mod tests {
    use super::super::pointwise::tests::check_all;
    use super::*;
    use crate::error::Error;

    #[test]
    fn gradients_away_from_the_kinks() {
        let x = Tensor::from_fn([4, 3], |i| (i * 5 % 7) as f64 - 2.95).unwrap();
        let t = Tensor::from_fn([4, 3], |i| (i % 3) as f64 * 0.31).unwrap();
        check_all(Absolute, &x, &t);
        check_all(Bent::<f64, false> { width: 1.3, height: 1.3 }, &x, &t);
        check_all(Bent::<f64, true> { width: 1.3, height: 1.0 }, &x, &t);
        check_all(Bent::<f64, true> { width: 0.0, height: 1.0 }, &x, &t);
    }

    #[test]
    fn kinks_and_what_is_not_finite() {
        let (x, inf, nan) = (Tensor::from([0.0f32, 1.0, -1.0, 3.0]), f32::INFINITY, f32::NAN);
        let tape = crate::Tape::new(0);
        let leaf = tape.leaf(&x);
        let zero = x.zeros_like();
        let loss = leaf.mae(&zero).unwrap();
        let loss = loss.try_add(&leaf.huber(&zero, 1.0).unwrap()).unwrap();
        let g = loss.try_add(&leaf.smooth_l1(&zero, 0.0).unwrap()).unwrap().backward().unwrap();
        assert_eq!(g.wrt(&leaf).unwrap().to_vec(), [0.0, 0.75, -0.75, 0.75]);
        let x = Tensor::from([inf, -inf, nan]);
        let zero = x.zeros_like();
        let each = Reduction::None;
        for y in [
            Mae { reduction: each }.forward(&x, &zero),
            Huber { delta: 1.0, reduction: each }.forward(&x, &zero),
            SmoothL1 { beta: 1.0, reduction: each }.forward(&x, &zero),
        ] {
            let y = y.unwrap().to_vec();
            assert!(y[0] == inf && y[1] == inf && y[2].is_nan(), "{y:?}");
        }
    }

    #[test]
    fn mistakes() {
        let x = Tensor::<f32>::zeros([3]).unwrap();
        let wide = Tensor::zeros([3, 1]).unwrap();
        assert!(matches!(x.mae(&wide), Err(Error::Shape { op: "mae", .. })));
        assert!(matches!(x.huber(&wide, 1.0), Err(Error::Shape { op: "huber", .. })));
        for bad in [0.0, -1.0, f64::NAN] {
            assert!(matches!(x.huber(&x, bad), Err(Error::Argument { .. })));
        }
        for bad in [-1.0, f64::NAN] {
            assert!(matches!(x.smooth_l1(&x, bad), Err(Error::Argument { .. })));
        }
    }
}
