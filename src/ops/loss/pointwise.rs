//! Losses that are a function of one prediction and one target, at each place: y = f(x, t), then the mean, the sum, or all of them.
//!
//! One pass forward (with a reduction nothing is stored but the sum), and one pass backward for each side that asks:
//! dx = g f_x(x, t), with g/n for the mean.

use super::{reduce, same_shape};
use crate::autograd::{Op, apply};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::map::{CHEAP, Zip, Zip3};
use crate::kernel::pair;
use crate::ops::cross_entropy::Reduction;
use crate::ops::elementwise::{zip, zip3};
use crate::tensor::Tensor;

/// A loss of one prediction and one target. The functions of numbers must be `#[inline(always)]`.
pub(crate) trait Pointwise<T: Float>: Copy + Send + Sync + 'static {
    /// The name in errors.
    const NAME: &'static str;
    /// Estimated nanoseconds for an element.
    const NS: f64 = CHEAP;
    /// f(x, t)
    fn f<const FMA: bool>(self, x: T, t: T) -> T;
    /// ∂f/∂x
    fn dx<const FMA: bool>(self, x: T, t: T) -> T;
    /// ∂f/∂t
    fn dt<const FMA: bool>(self, x: T, t: T) -> T;

    /// ∂f/∂x by tensor operations, so that it can be differentiated again.
    ///
    /// # Errors
    /// [`Error::OnceDifferentiable`] unless the loss says otherwise.
    fn slope(self, _x: &Tensor<T>, _t: &Tensor<T>) -> Result<Tensor<T>> {
        Err(Error::OnceDifferentiable { op: Self::NAME })
    }
    /// ∂f/∂t by tensor operations.
    ///
    /// # Errors
    /// As [`slope`](Self::slope).
    fn target_slope(self, _x: &Tensor<T>, _t: &Tensor<T>) -> Result<Tensor<T>> {
        Err(Error::OnceDifferentiable { op: Self::NAME })
    }
}

/// ∂f/∂x, or ∂f/∂t, as a constant: the slope of a loss of straight pieces.
pub(crate) fn constant_slope<T: Float, F: Pointwise<T>, const TARGET: bool>(
    f: F,
    x: &Tensor<T>,
    t: &Tensor<T>,
) -> Result<Tensor<T>> {
    zip(F::NAME, Scaled::<F, T, TARGET>(f, T::ONE), x, t)
}

/// The loss, reduced.
///
/// # Errors
/// [`Error::Shape`] unless both shapes are the same.
pub(crate) fn pointwise<T: Float, F: Pointwise<T>>(
    f: F,
    reduction: Reduction,
    x: &Tensor<T>,
    t: &Tensor<T>,
) -> Result<Tensor<T>> {
    same_shape(F::NAME, x, t)?;
    apply(Loss { f, reduction }, [x, t])
}

/// The loss, each element times its weight, reduced. The mean divides by the number of elements, whatever the weights.
///
/// # Errors
/// [`Error::Shape`] unless both shapes are the same and the weight broadcasts to them.
pub(crate) fn weighted_pointwise<T: Float, F: Pointwise<T>>(
    f: F,
    weight: Option<&Tensor<T>>,
    reduction: Reduction,
    x: &Tensor<T>,
    t: &Tensor<T>,
) -> Result<Tensor<T>> {
    let Some(weight) = weight else { return pointwise(f, reduction, x, t) };
    let y = pointwise(f, Reduction::None, x, t)?;
    super::check_broadcast(F::NAME, "weight", weight, x.shape())?;
    Ok(reduce(y.try_mul(weight)?, reduction))
}

#[derive(Clone, Copy)]
struct Value<F>(F);
impl<T: Float, F: Pointwise<T>> Zip<T, T, T> for Value<F> {
    const NS: f64 = F::NS;
    #[inline(always)]
    fn at<const FMA: bool>(self, x: T, t: T) -> T {
        self.0.f::<FMA>(x, t)
    }
}

/// A derivative times one number.
#[derive(Clone, Copy)]
struct Scaled<F, T, const TARGET: bool>(F, T);
impl<T: Float, F: Pointwise<T>, const TARGET: bool> Zip<T, T, T> for Scaled<F, T, TARGET> {
    const NS: f64 = F::NS;
    #[inline(always)]
    fn at<const FMA: bool>(self, x: T, t: T) -> T {
        self.1 * if TARGET { self.0.dt::<FMA>(x, t) } else { self.0.dx::<FMA>(x, t) }
    }
}

/// A derivative times the gradient of its place.
#[derive(Clone, Copy)]
struct Each<F, const TARGET: bool>(F);
impl<T: Float, F: Pointwise<T>, const TARGET: bool> Zip3<T, T, T, T> for Each<F, TARGET> {
    const NS: f64 = F::NS;
    #[inline(always)]
    fn at<const FMA: bool>(self, g: T, x: T, t: T) -> T {
        g * if TARGET { self.0.dt::<FMA>(x, t) } else { self.0.dx::<FMA>(x, t) }
    }
}

struct Loss<F> {
    f: F,
    reduction: Reduction,
}

impl<F> Loss<F> {
    /// What every derivative is multiplied with, the gradient of the result aside.
    fn factor<T: Float>(&self, elements: usize) -> T {
        match self.reduction {
            Reduction::Mean => T::ONE / T::of(elements as f64),
            _ => T::ONE,
        }
    }

    fn side<T: Float, const TARGET: bool>(
        &self,
        g: &Tensor<T>,
        x: &Tensor<T>,
        t: &Tensor<T>,
    ) -> Result<Tensor<T>>
    where
        F: Pointwise<T>,
    {
        if self.reduction == Reduction::None {
            return zip3(F::NAME, Each::<F, TARGET>(self.f), g, x, t);
        }
        let k = g.item()? * self.factor(x.len());
        zip(F::NAME, Scaled::<F, T, TARGET>(self.f, k), x, t)
    }
}

impl<T: Float, F: Pointwise<T>> Op<T, 2> for Loss<F> {
    type Saved = (Tensor<T>, Tensor<T>);
    fn name(&self) -> &'static str {
        F::NAME
    }
    fn forward(&self, [x, t]: [&Tensor<T>; 2]) -> Result<(Tensor<T>, Self::Saved)> {
        let kept = (x.clone(), t.clone());
        if self.reduction == Reduction::None {
            return Ok((zip(F::NAME, Value(self.f), x, t)?, kept));
        }
        let mut copies = [None, None];
        let [a, b] = &mut copies;
        let sum = pair::sum(Value(self.f), x.elements(a), t.elements(b));
        let y = match self.reduction {
            Reduction::Mean => sum / T::of(x.len() as f64),
            _ => sum,
        };
        Ok((Tensor::scalar(y), kept))
    }
    fn vjp(
        &self,
        (x, t): Self::Saved,
        g: Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        let dx = needs[0].then(|| self.side::<T, false>(&g, &x, &t)).transpose()?;
        let dt = needs[1].then(|| self.side::<T, true>(&g, &x, &t)).transpose()?;
        Ok([dx, dt])
    }
    fn vjp_recorded(
        &self,
        (x, t): Self::Saved,
        g: Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        let g = g.mul_scalar(self.factor(x.len()));
        let times = |slope: Result<Tensor<T>>| slope?.try_mul(&g);
        let dx = needs[0].then(|| times(self.f.slope(&x, &t))).transpose()?;
        let dt = needs[1].then(|| times(self.f.target_slope(&x, &t))).transpose()?;
        Ok([dx, dt])
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    /// Gradients of both sides against finite differences, on a dense, a transposed, a stepped, a small and an empty pair; the recorded
    /// rule against the plain one, and its own derivative. `x` and `t` are `[4, 3]`, away from kinks.
    pub(crate) fn check_all<F: Pointwise<f64>>(f: F, x: &Tensor<f64>, t: &Tensor<f64>) {
        let turn = |x: &Tensor<f64>| x.copy().with_layout(x.layout().permute(&[1, 0]));
        let step = |x: &Tensor<f64>| x.with_layout(x.layout().slice(0, 3, 2, -2));
        let one = |x: &Tensor<f64>| x.with_layout(x.layout().slice(0, 1, 1, 1).slice(1, 2, 1, 1));
        let none = |x: &Tensor<f64>| x.with_layout(x.layout().slice(0, 0, 0, 1));
        let pairs = [
            (x.clone(), t.clone()),
            (turn(x), turn(t)),
            (turn(&turn(x).copy()), t.clone()),
            (step(x), step(t)),
            (one(x), one(t)),
            (none(x), none(t)),
        ];
        for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
            for (x, t) in &pairs {
                let loss = |[x, t]: [&Tensor<f64>; 2]| pointwise(f, reduction, x, t);
                if x.is_empty() && reduction == Reduction::Mean {
                    assert!(loss([x, t]).unwrap().item().unwrap().is_nan());
                    continue;
                }
                gradcheck(loss, [x, t]).unwrap();
                recorded(f, reduction, x, t);
            }
        }
    }

    fn recorded<F: Pointwise<f64>>(f: F, reduction: Reduction, x: &Tensor<f64>, t: &Tensor<f64>) {
        let op = Loss { f, reduction };
        let shape = if reduction == Reduction::None { x.shape() } else { &[] };
        let g = Tensor::from_fn(shape, |i| 0.7 + 0.1 * i as f64).unwrap();
        let kept = (x.clone(), t.clone());
        let plain = op.vjp(kept.clone(), g.clone(), [true; 2]).unwrap();
        let again = op.vjp_recorded(kept, g.clone(), [true; 2]);
        if matches!(again, Err(Error::OnceDifferentiable { .. })) {
            return;
        }
        for (a, b) in plain.into_iter().zip(again.unwrap()) {
            let (a, b) = (a.unwrap(), b.unwrap());
            assert_eq!(a.shape(), b.shape());
            let close = |(a, b): (f64, f64)| (a - b).abs() <= 1e-12 * (1.0 + a.abs());
            assert!(a.iter().zip(b.iter()).all(close), "{}: {a} {b}", F::NAME);
        }
        for side in [0, 1] {
            let rule = |[x, t, g]: [&Tensor<f64>; 3]| {
                let both = op.vjp_recorded((x.clone(), t.clone()), g.clone(), [true; 2])?;
                Ok(both[side].clone().unwrap())
            };
            gradcheck(rule, [x, t, &g]).unwrap();
        }
    }
}
