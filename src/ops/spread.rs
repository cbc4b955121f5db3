//! Variance, standard deviation and Euclidean norm.
//!
//! var: y = Σ (x - m)² / (n - c) with the mean m, in two passes;  dx = 2 g (x - m) / (n - c)
//! std: y = √var;                                                 dx = g (x - m) / ((n - c) y), 0 where y is 0
//! norm: y = √(Σ x²);                                             dx = g x / y, 0 where y is 0

use super::axes::Reduced;
use super::sum::fold;
use crate::autograd::{Op, apply, apply_total};
use crate::error::Result;
use crate::float::Float;
use crate::kernel::reduce;
use crate::tensor::{IntoAxes, Tensor};

fn slice<T: Float>(x: &Tensor<T>) -> &[T] {
    x.as_slice().unwrap_or(&[])
}

/// scale (x - centre) for each row, with a number of either for each row.
fn scaled_rows<T: Float>(
    r: &Reduced,
    x: &Tensor<T>,
    centre: impl Fn(usize) -> T,
    scale: impl Fn(usize) -> T,
) -> Tensor<T> {
    let n = r.count().max(1);
    let d = Tensor::build(x.shape(), |out| {
        for (i, (out, x)) in out.chunks_exact_mut(n).zip(slice(x).chunks_exact(n)).enumerate() {
            let (centre, scale) = (centre(i), scale(i));
            for (o, &x) in out.iter_mut().zip(x) {
                *o = scale * (x - centre);
            }
        }
    });
    r.unrows(&d)
}

/// g / y, 0 where y is 0, recorded.
fn divided_by_root<T: Float>(g: &Tensor<T>, y: &Tensor<T>) -> Result<Tensor<T>> {
    let flat = y.eq_scalar(T::ZERO);
    let safe = flat.select_where(&Tensor::scalar(T::ONE), y)?;
    flat.select_where(&Tensor::scalar(T::ZERO), &g.try_div(&safe)?)
}

/// Variance, or its root.
struct Spread<const ROOT: bool> {
    reduced: Reduced,
    correction: usize,
}

impl<const ROOT: bool> Spread<ROOT> {
    /// n - c.
    fn degrees<T: Float>(&self) -> T {
        T::of(self.reduced.count().saturating_sub(self.correction) as f64)
    }
}

impl<T: Float, const ROOT: bool> Op<T, 1> for Spread<ROOT> {
    /// The input, its means, the output.
    type Saved = (Tensor<T>, Tensor<T>, Tensor<T>);
    fn name(&self) -> &'static str {
        if ROOT { "std" } else { "var" }
    }
    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, Self::Saved)> {
        let n = T::of(self.reduced.count() as f64);
        let mut mean = fold(reduce::Sum, x, &self.reduced, T::ZERO);
        mean.make_mut().iter_mut().for_each(|v| *v /= n);
        let rows = self.reduced.rows(x);
        let y = Tensor::build(mean.shape(), |out| {
            reduce::squares_around(slice(&rows), self.reduced.count(), slice(&mean), out);
            for v in out.iter_mut() {
                *v /= self.degrees();
                if ROOT {
                    *v = v.sqrt();
                }
            }
        });
        Ok((y.clone(), (x.clone(), mean, y)))
    }
    fn vjp(
        &self,
        (x, mean, y): Self::Saved,
        g: Tensor<T>,
        _: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        let (x, g) = (self.reduced.rows(&x), g.dense());
        let (mean, y, g) = (slice(&mean), slice(&y), slice(&g));
        let degrees = self.degrees::<T>();
        let scale = |i: usize| match ROOT {
            true if y[i] == T::ZERO => T::ZERO,
            true => g[i] / (degrees * y[i]),
            false => T::of(2.0) * g[i] / degrees,
        };
        Ok([Some(scaled_rows(&self.reduced, &x, |i| mean[i], scale))])
    }
    fn vjp_recorded(
        &self,
        (x, _, y): Self::Saved,
        g: Tensor<T>,
        _: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        let r = &self.reduced;
        let off = x.try_sub(&x.mean_axes(&r.signed()[..], true)?)?;
        let scale = match ROOT {
            true => divided_by_root(&g, &y)? / self.degrees::<T>(),
            false => g * (T::of(2.0) / self.degrees::<T>()),
        };
        Ok([Some(r.expand_recorded(&scale)?.try_mul(&off)?)])
    }
}

struct Norm(Reduced);

impl<T: Float> Op<T, 1> for Norm {
    /// Input and output.
    type Saved = (Tensor<T>, Tensor<T>);
    fn name(&self) -> &'static str {
        "norm"
    }
    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, Self::Saved)> {
        let mut y = fold(reduce::SumSquares, x, &self.0, T::ZERO);
        y.make_mut().iter_mut().for_each(|v| *v = v.sqrt());
        Ok((y.clone(), (x.clone(), y)))
    }
    fn vjp(
        &self,
        (x, y): Self::Saved,
        g: Tensor<T>,
        _: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        let (x, g) = (self.0.rows(&x), g.dense());
        let (y, g) = (slice(&y), slice(&g));
        let scale = |i: usize| if y[i] == T::ZERO { T::ZERO } else { g[i] / y[i] };
        Ok([Some(scaled_rows(&self.0, &x, |_| T::ZERO, scale))])
    }
    fn vjp_recorded(
        &self,
        (x, y): Self::Saved,
        g: Tensor<T>,
        _: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        Ok([Some(self.0.expand_recorded(&divided_by_root(&g, &y)?)?.try_mul(&x)?)])
    }
}

impl<T: Float> Tensor<T> {
    /// The variance of all elements, Σ (x - mean)² / (n - 1). NaN for fewer than two.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([1.0f32, 2.0, 6.0]).var().item()?, 7.0);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn var(&self) -> Tensor<T> {
        apply_total(Spread::<false> { reduced: Reduced::all(self.shape()), correction: 1 }, self)
    }

    /// The standard deviation of all elements, the root of [`var`](Self::var).
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([1.0f64, 3.0, 5.0]).std().item()?, 2.0);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn std(&self) -> Tensor<T> {
        apply_total(Spread::<true> { reduced: Reduced::all(self.shape()), correction: 1 }, self)
    }

    /// The variances over some axes, which `keepdim` keeps with size 1: Σ (x - mean)² / (n - correction). A correction of 1 estimates
    /// the variance of what the elements were drawn from, 0 is that of the elements themselves.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 3.0], [5.0, 5.0]]);
    /// assert_eq!(x.var_axes(1, 0, false)?.to_vec(), [1.0, 0.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`](crate::Error::Axis) for an axis that does not exist, [`Error::Argument`](crate::Error::Argument) for one that
    /// comes twice.
    pub fn var_axes(
        &self,
        axes: impl IntoAxes,
        correction: usize,
        keepdim: bool,
    ) -> Result<Tensor<T>> {
        let reduced = Reduced::new("var_axes", self.shape(), axes, keepdim)?;
        apply(Spread::<false> { reduced, correction }, [self])
    }

    /// The standard deviations over some axes: the roots of [`var_axes`](Self::var_axes). Where one is 0, its gradient is 0.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 3.0], [5.0, 5.0]]);
    /// assert_eq!(x.std_axes(1, 0, false)?.to_vec(), [1.0, 0.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`var_axes`](Self::var_axes).
    pub fn std_axes(
        &self,
        axes: impl IntoAxes,
        correction: usize,
        keepdim: bool,
    ) -> Result<Tensor<T>> {
        let reduced = Reduced::new("std_axes", self.shape(), axes, keepdim)?;
        apply(Spread::<true> { reduced, correction }, [self])
    }

    /// The Euclidean norm of all elements, of shape `[]`: y = √(Σ x²). At 0 its gradient is 0.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([3.0f32, 4.0]).norm().item()?, 5.0);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn norm(&self) -> Tensor<T> {
        apply_total(Norm(Reduced::all(self.shape())), self)
    }

    /// The Euclidean norms over some axes, which `keepdim` keeps with size 1.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[3.0, 4.0], [0.0, 2.0]]);
    /// assert_eq!(x.norm_axes(1, false)?.to_vec(), [5.0, 2.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`](crate::Error::Axis) for an axis that does not exist, [`Error::Argument`](crate::Error::Argument) for one that
    /// comes twice.
    pub fn norm_axes(&self, axes: impl IntoAxes, keepdim: bool) -> Result<Tensor<T>> {
        apply(Norm(Reduced::new("norm_axes", self.shape(), axes, keepdim)?), [self])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    #[test]
    fn gradients_on_every_layout() {
        let x = Tensor::from_fn([2, 3, 5], |i| (i * 17 % 31) as f64 * 0.1).unwrap();
        let t = x.with_layout(x.layout().permute(&[2, 0, 1]).slice(0, 4, 3, -2));
        for x in [&x, &t] {
            gradcheck(|[x]| Ok(x.var()), [x]).unwrap();
            gradcheck(|[x]| Ok(x.std()), [x]).unwrap();
            gradcheck(|[x]| Ok(x.norm()), [x]).unwrap();
            gradcheck(|[x]| x.var_axes([0, 2], 0, true), [x]).unwrap();
            gradcheck(|[x]| x.std_axes(1, 1, false), [x]).unwrap();
            gradcheck(|[x]| x.norm_axes(-1, false), [x]).unwrap();
        }
    }

    #[test]
    fn constants_small_sets_and_a_far_mean() {
        let tape = crate::Tape::new(0);
        let x = tape.leaf(&Tensor::from([2.0f64; 3]));
        let g = x.std().backward().unwrap();
        assert_eq!(g.wrt(&x).unwrap().to_vec(), [0.0; 3]);
        let tape = crate::Tape::new(0);
        let x = tape.leaf(&Tensor::from([0.0f64; 2]));
        let g = x.norm().backward().unwrap();
        assert_eq!(g.wrt(&x).unwrap().to_vec(), [0.0; 2]);
        assert!(Tensor::from([1.0f32]).var().item().unwrap().is_nan());
        assert!(Tensor::<f32>::zeros([0]).unwrap().std().item().unwrap().is_nan());
        assert_eq!(Tensor::<f32>::zeros([0]).unwrap().norm().item().unwrap(), 0.0);
        let x = Tensor::from_fn([200_000], |i| 1e4f32 + (i % 2) as f32).unwrap();
        let v = x.var_axes(.., 0, false).unwrap().item().unwrap();
        assert!((v - 0.25).abs() < 1e-5, "{v}");
    }
}
