//! Products and running sums.
//!
//! prod: y = Π x, dx_i = g Π_{j≠i} x_j, exact with zeros too, because it divides by nothing.
//! cumsum: y_i = Σ_{j≤i} x_j, dx_i = Σ_{j≥i} g_j.

use super::axes::Reduced;
use super::float_only::record_if_float;
use super::sum::fold;
use crate::autograd::{Op, apply};
use crate::element::{Element, Num};
use crate::error::Result;
use crate::float::Float;
use crate::kernel::reduce;
use crate::tensor::{IntoAxes, Tensor};

fn slice<T: Num>(x: &Tensor<T>) -> &[T] {
    x.as_slice().unwrap_or(&[])
}

struct Product(Reduced);

impl<T: Float> Op<T, 1> for Product {
    type Saved = Tensor<T>;
    fn name(&self) -> &'static str {
        "prod"
    }
    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, Tensor<T>)> {
        Ok((fold(reduce::Product, x, &self.0, T::ONE), x.clone()))
    }
    fn vjp(&self, x: Tensor<T>, g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        let (x, g) = (self.0.rows(&x), g.dense());
        let n = self.0.count().max(1);
        let d = Tensor::build(x.shape(), |out| {
            let rows = out.chunks_exact_mut(n).zip(slice(&x).chunks_exact(n));
            for ((out, x), &g) in rows.zip(slice(&g)) {
                // The product of what stands before, then times that of what stands after.
                let mut before = g;
                for (o, &x) in out.iter_mut().zip(x) {
                    *o = before;
                    before *= x;
                }
                let mut after = T::ONE;
                for (o, &x) in out.iter_mut().zip(x).rev() {
                    *o *= after;
                    after *= x;
                }
            }
        });
        Ok([Some(self.0.unrows(&d))])
    }
    /// Each factor replaced by 1 in turn: n² numbers for n factors, but right with zeros, and as often as one likes.
    fn vjp_recorded(
        &self,
        x: Tensor<T>,
        g: Tensor<T>,
        _: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        let r = &self.0;
        let (order, n) = (r.order(), r.count());
        let signed: Vec<isize> = order.iter().map(|&a| a as isize).collect();
        let sorted = x.permute(&signed[..])?;
        let outer: usize = r.shape.iter().product::<usize>() / n.max(1);
        let rows = sorted.reshape([outer, 1, n])?;
        let own = Tensor::<i64>::eye(n)?.eq_scalar(1);
        let others = own.select_where(&Tensor::scalar(T::ONE), &rows)?.prod_axes(-1, false)?;
        let d = others.reshape(sorted.shape())?;
        let mut back = signed.clone();
        order.iter().enumerate().for_each(|(i, &a)| back[a] = i as isize);
        Ok([Some(r.expand_recorded(&g)?.try_mul(&d.permute(&back[..])?)?)])
    }
}

struct RunningSum {
    reduced: Reduced,
    back: bool,
}

/// Running sums of each row, from its end if `back`. Those of floats are added up in f64.
fn running_sum<T: Num>(x: &Tensor<T>, r: &Reduced, back: bool) -> Tensor<T> {
    let x = r.rows(x);
    let n = r.count().max(1);
    let y = Tensor::build(x.shape(), |out| {
        for (out, x) in out.chunks_exact_mut(n).zip(slice(&x).chunks_exact(n)) {
            let mut float = 0.0f64;
            let mut whole = T::ZERO;
            let mut step = |(o, &x): (&mut T, &T)| {
                if T::IS_FLOAT {
                    float += x.cast::<f64>();
                    *o = float.cast();
                } else {
                    whole = whole.plus(x);
                    *o = whole;
                }
            };
            let pairs = out.iter_mut().zip(x);
            if back { pairs.rev().for_each(&mut step) } else { pairs.for_each(&mut step) }
        }
    });
    r.unrows(&y)
}

impl<T: Float> Op<T, 1> for RunningSum {
    type Saved = ();
    const COMPOSED: bool = true;
    fn name(&self) -> &'static str {
        "cumsum"
    }
    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, ())> {
        Ok((running_sum(x, &self.reduced, self.back), ()))
    }
    fn vjp(&self, _: (), g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        let (reduced, back) = (self.reduced.clone(), !self.back);
        Ok([Some(apply(RunningSum { reduced, back }, [&g])?)])
    }
}

/// Running products of each row.
struct RunningProduct(Reduced);

impl RunningProduct {
    fn plain<T: Num>(&self, x: &Tensor<T>) -> Tensor<T> {
        let x = self.0.rows(x);
        let n = self.0.count().max(1);
        let y = Tensor::build(x.shape(), |out| {
            for (out, x) in out.chunks_exact_mut(n).zip(slice(&x).chunks_exact(n)) {
                let mut product = T::ONE;
                for (o, &x) in out.iter_mut().zip(x) {
                    product = product.times(x);
                    *o = product;
                }
            }
        });
        self.0.unrows(&y)
    }
}

impl<T: Float> Op<T, 1> for RunningProduct {
    type Saved = Tensor<T>;
    fn name(&self) -> &'static str {
        "cumprod"
    }
    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, Tensor<T>)> {
        Ok((self.plain(x), x.clone()))
    }
    /// dx_j = Σ_{i≥j} g_i Π_{k≤i, k≠j} x_k. From the end, with s_j = g_j + x_{j+1} s_{j+1}: dx_j = s_j Π_{k<j} x_k. Nothing is divided by.
    fn vjp(&self, x: Tensor<T>, g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        let (x, g) = (self.0.rows(&x), self.0.rows(&g));
        let n = self.0.count().max(1);
        let d = Tensor::build(x.shape(), |out| {
            let rows = out.chunks_exact_mut(n).zip(slice(&x).chunks_exact(n));
            for ((out, x), g) in rows.zip(slice(&g).chunks_exact(n)) {
                let mut rest = T::ZERO;
                for ((o, &x), &g) in out.iter_mut().zip(x).zip(g).rev() {
                    let s = g + rest;
                    *o = s;
                    rest = x * s;
                }
                let mut before = T::ONE;
                for (o, &x) in out.iter_mut().zip(x) {
                    *o *= before;
                    before *= x;
                }
            }
        });
        Ok([Some(self.0.unrows(&d))])
    }
}

fn product<T: Num>(x: &Tensor<T>, r: Reduced) -> Result<Tensor<T>> {
    record_if_float(Product(r.clone()), [x], |[x]| Ok(fold(reduce::Product, x, &r, T::ONE)))
}

impl<T: Num> Tensor<T> {
    /// The product of all elements, of shape `[]`. 1 for an empty tensor; that of integers wraps around.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([2.0f32, 3.0, 4.0]).prod().item()?, 24.0);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn prod(&self) -> Tensor<T> {
        product(self, Reduced::all(self.shape())).unwrap_or_else(|e| unreachable!("{e}"))
    }

    /// The products over some axes, which `keepdim` keeps with size 1.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 2.0], [3.0, 4.0]]);
    /// assert_eq!(x.prod_axes(0, false)?.to_vec(), [3.0, 8.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`](crate::Error::Axis) for an axis that does not exist, [`Error::Argument`](crate::Error::Argument) for one that
    /// comes twice.
    pub fn prod_axes(&self, axes: impl IntoAxes, keepdim: bool) -> Result<Tensor<T>> {
        product(self, Reduced::new("prod_axes", self.shape(), axes, keepdim)?)
    }

    /// The running sums along an axis: y_i = x_0 + … + x_i.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([1i64, 2, 3]).cumsum(0)?.to_vec(), [1, 3, 6]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`](crate::Error::Axis) if there is no such axis.
    pub fn cumsum(&self, axis: isize) -> Result<Tensor<T>> {
        let r = Reduced::new("cumsum", self.shape(), axis, true)?;
        record_if_float(RunningSum { reduced: r.clone(), back: false }, [self], |[x]| {
            Ok(running_sum(x, &r, false))
        })
    }

    /// Running products along an axis: y_i = Π_{j≤i} x_j. Those of integers wrap around.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([2i64, 3, 4]).cumprod(0)?.to_vec(), [2, 6, 24]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`](crate::Error::Axis) if there is no such axis.
    pub fn cumprod(&self, axis: isize) -> Result<Tensor<T>> {
        let r = Reduced::new("cumprod", self.shape(), axis, true)?;
        record_if_float(RunningProduct(r.clone()), [self], |[x]| Ok(RunningProduct(r).plain(x)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    #[test]
    fn by_hand_and_empty() {
        let x = Tensor::from([[1i64, 2, 3], [4, 5, 6]]);
        assert_eq!(x.prod_axes(0, false).unwrap().to_vec(), [4, 10, 18]);
        assert_eq!(x.cumsum(0).unwrap(), Tensor::from([[1i64, 2, 3], [5, 7, 9]]));
        let empty = Tensor::<f32>::zeros([2, 0]).unwrap();
        assert_eq!(empty.prod().item().unwrap(), 1.0);
        assert_eq!(empty.prod_axes(1, false).unwrap().to_vec(), [1.0, 1.0]);
        assert_eq!(empty.cumsum(1).unwrap().shape(), [2, 0]);
    }

    #[test]
    fn gradients_with_zeros_on_every_layout() {
        let x = Tensor::from_fn([2, 3, 4], |i| (i * 5 % 7) as f64 * 0.5).unwrap();
        let t = x.with_layout(x.layout().permute(&[2, 0, 1]).slice(0, 3, 2, -2));
        for x in [&x, &t] {
            gradcheck(|[x]| x.prod_axes([0, 1], true), [x]).unwrap();
            gradcheck(|[x]| Ok(x.prod()), [x]).unwrap();
            gradcheck(|[x]| x.cumsum(0), [x]).unwrap();
            gradcheck(|[x]| x.cumsum(-1), [x]).unwrap();
            gradcheck(|[x]| x.cumprod(1), [x]).unwrap();
            gradcheck(|[x]| x.cumprod(-1), [x]).unwrap();
        }
    }
}
