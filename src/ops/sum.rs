//! Sums and means.
//!
//! sum: y = Σ x, dx = g repeated; mean: y = Σ x / n, dx = g / n repeated. The gradient is a view: nothing is written for it.

use super::axes::Reduced;
use super::float_only::record_if_float;
use crate::autograd::{Op, apply, apply_total};
use crate::element::Num;
use crate::error::Result;
use crate::float::Float;
use crate::kernel::reduce::{self, Fold};
use crate::tensor::{IntoAxes, Tensor};

/// Folds over the axes; `empty` where there is nothing to fold. Not recorded.
pub(crate) fn fold<T: Num, F: Fold<T>>(f: F, x: &Tensor<T>, r: &Reduced, empty: T) -> Tensor<T> {
    Tensor::build(&r.out_shape(), |out| {
        if x.is_empty() {
            out.fill(empty);
        } else {
            reduce::fold(f, x.buffer(), x.layout(), &r.axes, out);
        }
    })
}

struct Sum(Reduced);

impl<T: Float> Op<T, 1> for Sum {
    type Saved = ();
    fn name(&self) -> &'static str {
        "sum"
    }
    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, ())> {
        Ok((fold(reduce::Sum, x, &self.0, T::ZERO), ()))
    }
    fn vjp(&self, _: (), g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        Ok([Some(self.0.expand(&g))])
    }
    fn vjp_recorded(&self, (): (), g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        Ok([Some(self.0.expand_recorded(&g)?)])
    }
}

struct Mean(Reduced);

impl Mean {
    fn over<T: Float>(&self) -> T {
        T::of(1.0 / self.0.count() as f64)
    }
}

impl<T: Float> Op<T, 1> for Mean {
    type Saved = ();
    fn name(&self) -> &'static str {
        "mean"
    }
    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, ())> {
        let mut y = fold(reduce::Sum, x, &self.0, T::ZERO);
        let n = T::of(self.0.count() as f64);
        y.make_mut().iter_mut().for_each(|v| *v /= n);
        Ok((y, ()))
    }
    fn vjp(&self, _: (), mut g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        let scale = self.over::<T>();
        g.make_mut().iter_mut().for_each(|v| *v *= scale);
        Ok([Some(self.0.expand(&g))])
    }
    fn vjp_recorded(&self, (): (), g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        Ok([Some(self.0.expand_recorded(&(g * self.over::<T>()))?)])
    }
}

impl<T: Num> Tensor<T> {
    /// The sum of all elements, of shape `[]`: y = Σ x. 0 for an empty tensor.
    ///
    /// The additions form a tree, so that the rounding error hardly grows with the number of elements. Integers wrap around:
    /// [`cast`](Self::cast) narrow ones first.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 2.0], [3.0, 4.0]]);
    /// assert_eq!(x.sum().item()?, 10.0);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn sum(&self) -> Tensor<T> {
        sum(self, Reduced::all(self.shape())).unwrap_or_else(|e| unreachable!("{e}"))
    }

    /// The sums over some axes, which `keepdim` keeps with size 1. `..` stands for all axes; negative ones count from the end.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 2.0], [3.0, 4.0]]);
    /// assert_eq!(x.sum_axes(0, false)?.to_vec(), [4.0, 6.0]);
    /// assert_eq!(x.sum_axes([-1], true)?, Tensor::from([[3.0], [7.0]]));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`](crate::Error::Axis) for an axis that does not exist, [`Error::Argument`](crate::Error::Argument) for one that
    /// comes twice.
    pub fn sum_axes(&self, axes: impl IntoAxes, keepdim: bool) -> Result<Tensor<T>> {
        sum(self, Reduced::new("sum_axes", self.shape(), axes, keepdim)?)
    }
}

fn sum<T: Num>(x: &Tensor<T>, r: Reduced) -> Result<Tensor<T>> {
    record_if_float(Sum(r.clone()), [x], |[x]| Ok(fold(reduce::Sum, x, &r, T::ZERO)))
}

impl<T: Float> Tensor<T> {
    /// The mean of all elements, of shape `[]`: y = Σ x / n. NaN for an empty tensor.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([1.0, 2.0, 6.0]).mean().item()?, 3.0);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn mean(&self) -> Tensor<T> {
        apply_total(Mean(Reduced::all(self.shape())), self)
    }

    /// The means over some axes, which `keepdim` keeps with size 1. NaN where there is nothing to average.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 2.0], [3.0, 4.0]]);
    /// assert_eq!(x.mean_axes(0, false)?.to_vec(), [2.0, 3.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`](crate::Error::Axis) for an axis that does not exist, [`Error::Argument`](crate::Error::Argument) for one that
    /// comes twice.
    pub fn mean_axes(&self, axes: impl IntoAxes, keepdim: bool) -> Result<Tensor<T>> {
        apply(Mean(Reduced::new("mean_axes", self.shape(), axes, keepdim)?), [self])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;
    use crate::error::Error;
    use crate::tensor::Layout;

    fn grid() -> Tensor<f64> {
        Tensor::from_fn([2, 3, 4], |i| (i * i % 7) as f64 - 2.0).unwrap()
    }

    #[test]
    fn by_hand() {
        let x = Tensor::from([[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]]);
        assert_eq!(x.sum().item().unwrap(), 21.0);
        assert_eq!(x.sum_axes([0], true).unwrap(), Tensor::from([[5.0, 7.0, 9.0]]));
        assert_eq!(x.sum_axes([1, 0], false).unwrap(), Tensor::scalar(21.0));
        assert_eq!(x.sum_axes([0i32; 0], false).unwrap(), x);
        assert_eq!(x.mean_axes(-1, false).unwrap().to_vec(), [2.0, 5.0]);
        assert_eq!(Tensor::from([3i64, -5]).sum().item().unwrap(), -2);
        assert_eq!(Tensor::scalar(4.0f32).sum().item().unwrap(), 4.0);
        assert!(Tensor::from([1.0f32, f32::NAN]).sum().item().unwrap().is_nan());
    }

    #[test]
    fn nothing_sums_to_zero_and_averages_to_nan() {
        let x = Tensor::<f32>::zeros([0, 3]).unwrap();
        assert_eq!(x.sum().item().unwrap(), 0.0);
        assert_eq!(x.sum_axes(0, false).unwrap().to_vec(), [0.0; 3]);
        assert_eq!(x.sum_axes(1, false).unwrap().shape(), [0]);
        assert!(x.mean().item().unwrap().is_nan());
        let tape = crate::Tape::new(0);
        let leaf = tape.leaf(&x);
        let g = leaf.mean().backward().unwrap();
        assert_eq!(g.wrt(&leaf).unwrap().shape(), [0, 3]);
    }

    #[test]
    fn gradients_on_every_layout() {
        let x = grid();
        let views = [
            x.clone(),
            x.with_layout(x.layout().permute(&[2, 0, 1])),
            x.with_layout(x.layout().slice(2, 3, 2, -2)),
        ];
        for v in &views {
            gradcheck(|[x]| Ok(x.sum()), [v]).unwrap();
            gradcheck(|[x]| Ok(x.mean()), [v]).unwrap();
            gradcheck(|[x]| x.sum_axes([0, 2], true), [v]).unwrap();
            gradcheck(|[x]| x.mean_axes([1], false), [v]).unwrap();
        }
        let one = Tensor::from([2.0f64]);
        let wide =
            one.with_layout(Layout { strides: [0].as_slice().into(), ..Layout::dense(&[3]) });
        assert_eq!(wide.sum().item().unwrap(), 6.0);
    }

    #[test]
    fn wrong_axes_are_named() {
        let x = grid();
        assert!(matches!(
            x.sum_axes(3, false),
            Err(Error::Axis { op: "sum_axes", axis: 3, rank: 3 })
        ));
        assert!(matches!(x.mean_axes([1, -2], false), Err(Error::Argument { .. })));
    }
}
