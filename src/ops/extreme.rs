//! Largest and smallest elements.
//!
//! amax, amin, max, min: y = max x; the gradient is shared evenly by all elements that equal y.
//! max_axis, min_axis: the gradient goes to the one element whose index is returned, the first.
//! A NaN among the elements is the answer.

use super::axes::Reduced;
use super::float_only::record_if_float;
use crate::autograd::Op;
use crate::element::Num;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::{extreme, reduce};
use crate::tensor::{IntoAxes, Tensor};

fn slice<T: Num>(x: &Tensor<T>) -> &[T] {
    x.as_slice().unwrap_or(&[])
}

/// Refuses a reduction that has results but nothing to choose from.
fn check(op: &'static str, r: &Reduced) -> Result<()> {
    if r.count() == 0 && !r.out_shape().contains(&0) {
        let message = format!(
            "shape {:?} has no elements along the axes {:?} to choose from",
            &r.shape[..],
            &r.axes[..]
        );
        return Err(Error::argument(op, message));
    }
    Ok(())
}

fn extreme_of<T: Num, const MAX: bool>(x: &Tensor<T>, r: &Reduced) -> Tensor<T> {
    // What is filled in for nothing is never seen: there are no results then.
    if MAX {
        super::sum::fold(reduce::Max, x, r, T::ZERO)
    } else {
        super::sum::fold(reduce::Min, x, r, T::ZERO)
    }
}

struct Extreme<const MAX: bool>(Reduced);

impl<T: Float, const MAX: bool> Op<T, 1> for Extreme<MAX> {
    /// Input and output.
    type Saved = (Tensor<T>, Tensor<T>);
    fn name(&self) -> &'static str {
        if MAX { "amax" } else { "amin" }
    }
    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, Self::Saved)> {
        let y = extreme_of::<T, MAX>(x, &self.0);
        Ok((y.clone(), (x.clone(), y)))
    }
    fn vjp(
        &self,
        (x, y): Self::Saved,
        g: Tensor<T>,
        _: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        let (x, g) = (self.0.rows(&x), g.dense());
        let n = self.0.count().max(1);
        let d = Tensor::build(x.shape(), |out| {
            let rows = out.chunks_exact_mut(n).zip(slice(&x).chunks_exact(n));
            for ((out, x), (&y, &g)) in rows.zip(slice(&y).iter().zip(slice(&g))) {
                let hit = |v: T| v == y || (v.is_not_a_number() && y.is_not_a_number());
                let share = g / T::of(x.iter().filter(|&&v| hit(v)).count() as f64);
                for (o, &v) in out.iter_mut().zip(x) {
                    *o = if hit(v) { share } else { T::ZERO };
                }
            }
        });
        Ok([Some(self.0.unrows(&d))])
    }
    fn vjp_recorded(
        &self,
        saved: Self::Saved,
        g: Tensor<T>,
        needs: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        shared_out(&self.0, &g, self.vjp(saved, g.ones_like(), needs)?)
    }
}

/// g times the constant share of each element.
fn shared_out<T: Float>(
    r: &Reduced,
    g: &Tensor<T>,
    [share]: [Option<Tensor<T>>; 1],
) -> Result<[Option<Tensor<T>>; 1]> {
    let share = share.map(|s| r.expand_recorded(g)?.try_mul(&s.detach()));
    Ok([share.transpose()?])
}

/// The element with a given index in each row.
struct Pick {
    reduced: Reduced,
    index: Tensor<i64>,
    name: &'static str,
}

fn pick<T: Num>(x: &Tensor<T>, r: &Reduced, index: &Tensor<i64>) -> Tensor<T> {
    let (x, n) = (r.rows(x), r.count());
    Tensor::build(&r.out_shape(), |out| {
        for (row, (o, &i)) in out.iter_mut().zip(slice(index)).enumerate() {
            *o = slice(&x)[row * n + i as usize];
        }
    })
}

impl<T: Float> Op<T, 1> for Pick {
    type Saved = ();
    fn name(&self) -> &'static str {
        self.name
    }
    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, ())> {
        Ok((pick(x, &self.reduced, &self.index), ()))
    }
    fn vjp(&self, _: (), g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        let (g, n) = (g.dense(), self.reduced.count());
        let len: usize = self.reduced.shape.iter().product();
        let d = Tensor::build(&[len], |out| {
            out.fill(T::ZERO);
            for (row, (&g, &i)) in slice(&g).iter().zip(slice(&self.index)).enumerate() {
                out[row * n + i as usize] = g;
            }
        });
        Ok([Some(self.reduced.unrows(&d))])
    }
    fn vjp_recorded(
        &self,
        (): (),
        g: Tensor<T>,
        needs: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        shared_out(&self.reduced, &g, self.vjp((), g.ones_like(), needs)?)
    }
}

fn arg<T: Num, const MAX: bool>(
    op: &'static str,
    x: &Tensor<T>,
    r: &Reduced,
) -> Result<Tensor<i64>> {
    check(op, r)?;
    let x = r.rows(x);
    Ok(Tensor::build(&r.out_shape(), |out| {
        extreme::first_extreme::<T, MAX>(slice(&x), r.count(), out);
    }))
}

fn with_index<T: Num, const MAX: bool>(
    name: &'static str,
    x: &Tensor<T>,
    axis: isize,
    keepdim: bool,
) -> Result<(Tensor<T>, Tensor<i64>)> {
    let reduced = Reduced::new(name, x.shape(), axis, keepdim)?;
    let index = arg::<T, MAX>(name, x, &reduced)?;
    let op = Pick { reduced: reduced.clone(), index: index.clone(), name };
    let y = record_if_float(op, [x], |[x]| Ok(pick(x, &reduced, &index)))?;
    Ok((y, index))
}

fn extreme<T: Num, const MAX: bool>(
    op: &'static str,
    x: &Tensor<T>,
    r: Reduced,
) -> Result<Tensor<T>> {
    check(op, &r)?;
    record_if_float(Extreme::<MAX>(r.clone()), [x], |[x]| Ok(extreme_of::<T, MAX>(x, &r)))
}

impl<T: Num> Tensor<T> {
    /// The largest of all elements, of shape `[]`; NaN if there is one. Equal ones share the gradient.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([3i64, 9, -2]).max()?.item()?, 9);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if there are no elements.
    pub fn max(&self) -> Result<Tensor<T>> {
        extreme::<T, true>("max", self, Reduced::all(self.shape()))
    }

    /// The smallest of all elements, of shape `[]`; NaN if there is one. Equal ones share the gradient.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([3i64, 9, -2]).min()?.item()?, -2);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if there are no elements.
    pub fn min(&self) -> Result<Tensor<T>> {
        extreme::<T, false>("min", self, Reduced::all(self.shape()))
    }

    /// The largest elements along some axes, which `keepdim` keeps with size 1. Equal ones share the gradient evenly.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 5.0], [7.0, 2.0]]);
    /// assert_eq!(x.amax(1, false)?.to_vec(), [5.0, 7.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if there is nothing to choose from or an axis comes twice, [`Error::Axis`] for one that does not exist.
    pub fn amax(&self, axes: impl IntoAxes, keepdim: bool) -> Result<Tensor<T>> {
        extreme::<T, true>("amax", self, Reduced::new("amax", self.shape(), axes, keepdim)?)
    }

    /// The smallest elements along some axes; see [`amax`](Self::amax).
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 5.0], [7.0, 2.0]]);
    /// assert_eq!(x.amin(1, false)?.to_vec(), [1.0, 2.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`amax`](Self::amax).
    pub fn amin(&self, axes: impl IntoAxes, keepdim: bool) -> Result<Tensor<T>> {
        extreme::<T, false>("amin", self, Reduced::new("amin", self.shape(), axes, keepdim)?)
    }

    /// The largest elements along an axis and their indices, the first of equal ones; it alone gets the gradient.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let (values, indices) = Tensor::from([[1.0f32, 5.0], [7.0, 7.0]]).max_axis(1, false)?;
    /// assert_eq!((values.to_vec(), indices.to_vec()), (vec![5.0, 7.0], vec![1, 0]));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if there is nothing to choose from, [`Error::Axis`] if there is no such axis.
    pub fn max_axis(&self, axis: isize, keepdim: bool) -> Result<(Tensor<T>, Tensor<i64>)> {
        with_index::<T, true>("max_axis", self, axis, keepdim)
    }

    /// The smallest elements along an axis and their indices; see [`max_axis`](Self::max_axis).
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let (values, indices) = Tensor::from([[1.0f32, 5.0], [7.0, 2.0]]).min_axis(1, false)?;
    /// assert_eq!((values.to_vec(), indices.to_vec()), (vec![1.0, 2.0], vec![0, 1]));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`max_axis`](Self::max_axis).
    pub fn min_axis(&self, axis: isize, keepdim: bool) -> Result<(Tensor<T>, Tensor<i64>)> {
        with_index::<T, false>("min_axis", self, axis, keepdim)
    }

    /// The index of the largest element along an axis, the first of equal ones; of the first NaN if there is one. Over several axes, or
    /// all (`..`), the index counts their elements in row-major order.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 5.0], [7.0, 2.0]]);
    /// assert_eq!(x.argmax(-1, false)?.to_vec(), [1, 0]);
    /// assert_eq!(x.argmax(.., false)?.item()?, 2);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if there is nothing to choose from, [`Error::Axis`] for an axis that does not exist.
    pub fn argmax(&self, axes: impl IntoAxes, keepdim: bool) -> Result<Tensor<i64>> {
        arg::<T, true>("argmax", self, &Reduced::new("argmax", self.shape(), axes, keepdim)?)
    }

    /// The index of the smallest element along an axis; see [`argmax`](Self::argmax).
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 5.0], [7.0, 2.0]]);
    /// assert_eq!(x.argmin(-1, false)?.to_vec(), [0, 1]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`argmax`](Self::argmax).
    pub fn argmin(&self, axes: impl IntoAxes, keepdim: bool) -> Result<Tensor<i64>> {
        arg::<T, false>("argmin", self, &Reduced::new("argmin", self.shape(), axes, keepdim)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::autograd::gradcheck;

    #[test]
    fn by_hand() {
        let x = Tensor::from([[3i32, 1, 3], [0, 9, -4]]);
        assert_eq!((x.max().unwrap().item().unwrap(), x.min().unwrap().item().unwrap()), (9, -4));
        assert_eq!(x.amin(0, true).unwrap(), Tensor::from([[0, 1, -4]]));
        assert_eq!(x.argmax(1, true).unwrap(), Tensor::from([[0i64], [1]]));
        assert_eq!(x.argmin(.., false).unwrap().item().unwrap(), 5);
        let (v, i) = x.min_axis(0, false).unwrap();
        assert_eq!((v.to_vec(), i.to_vec()), (vec![0, 1, -4], vec![1, 0, 1]));
    }

    #[test]
    fn ties_share_or_the_first_takes_all() {
        let tape = Tape::new(0);
        let x = tape.leaf(&Tensor::from([[2.0f64, 5.0, 5.0], [1.0, 1.0, 1.0]]));
        let g = x.amax(1, false).unwrap().sum().backward().unwrap();
        let third = 1.0 / 3.0;
        assert_eq!(g.wrt(&x).unwrap().to_vec(), [0.0, 0.5, 0.5, third, third, third]);
        let tape = Tape::new(0);
        let x = tape.leaf(&x.detach());
        let g = x.max_axis(1, false).unwrap().0.sum().backward().unwrap();
        assert_eq!(g.wrt(&x).unwrap().to_vec(), [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn gradients_on_every_layout() {
        let x = Tensor::from_fn([2, 3, 5], |i| (i * 17 % 31) as f64).unwrap();
        let t = x.with_layout(x.layout().permute(&[2, 0, 1]).slice(0, 4, 3, -2));
        for x in [&x, &t] {
            gradcheck(|[x]| x.max(), [x]).unwrap();
            gradcheck(|[x]| x.amin([0, 2], true), [x]).unwrap();
            gradcheck(|[x]| Ok(x.min_axis(0, false)?.0), [x]).unwrap();
            gradcheck(|[x]| Ok(x.max_axis(-1, true)?.0), [x]).unwrap();
        }
    }

    #[test]
    fn nan_is_the_answer_and_nothing_an_error() {
        let x = Tensor::from([1.0f32, f32::NAN, 7.0]);
        assert!(x.max().unwrap().item().unwrap().is_nan());
        assert_eq!(x.argmin(0, false).unwrap().item().unwrap(), 1);
        let empty = Tensor::<f32>::zeros([0, 3]).unwrap();
        assert!(matches!(empty.max(), Err(Error::Argument { op: "max", .. })));
        assert!(matches!(empty.argmax(0, false), Err(Error::Argument { .. })));
        assert_eq!(empty.amax(1, false).unwrap().shape(), [0]);
        assert_eq!(empty.argmax(1, false).unwrap().shape(), [0]);
        assert_eq!(empty.max_axis(1, false).unwrap().0.shape(), [0]);
        assert_eq!(Tensor::scalar(2u8).max().unwrap().item().unwrap(), 2);
    }

    #[test]
    fn the_first_of_many() {
        for n in [1, 63, 64, 65, 5000] {
            for at in [0, n / 2, n - 1] {
                let mut v = vec![0.0f32; n];
                v[at..].fill(1.0);
                assert_eq!(Tensor::from(v).argmax(0, false).unwrap().item().unwrap(), at as i64);
            }
        }
    }
}
