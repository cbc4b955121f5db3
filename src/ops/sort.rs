//! Order: sort, argsort, topk, kthvalue, median. The order is found in integers; the values are gathered by it, and so are gradients.
//!
//! A NaN counts as larger than every number, and equal elements keep their order.

use std::cmp::Ordering;

use super::axes::Reduced;
use crate::element::Num;
use crate::error::{Error, Result};
use crate::kernel::par;
use crate::tensor::{Tensor, axis};

/// Nanoseconds for one comparison and exchange.
const NS: f64 = 4.0;

fn ascending<T: Num>(a: T, b: T) -> Ordering {
    match (a.is_not_a_number(), b.is_not_a_number()) {
        (false, false) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
        (a, b) => a.cmp(&b),
    }
}

/// The indices of the `k` first elements of each row along an axis, in order; `k` is at most the axis' size.
fn order<T: Num>(x: &Tensor<T>, axis: usize, k: usize, descending: bool) -> Result<Tensor<i64>> {
    let along = axis as isize;
    let reduced = Reduced::new("sort", x.shape(), along, true)?;
    let rows = reduced.rows(x);
    let rows = rows.as_slice().unwrap_or(&[]);
    let n = reduced.count();
    let mut shape: crate::tensor::Dims = x.shape().into();
    shape[axis] = k;
    // The rows stand side by side, their axis last.
    let mut sorted: Vec<isize> = (0..x.rank() as isize).filter(|&a| a != along).collect();
    sorted.push(along);
    let wide: Vec<usize> = sorted.iter().map(|&a| shape[a as usize]).collect();
    let order = Tensor::try_build("sort", &wide, |out| {
        if k == 0 || out.is_empty() {
            return;
        }
        let ns = NS * n as f64 * (n as f64).log2().max(1.0) / k as f64;
        par::for_each_chunk_mut(out, k, ns, |r, out| {
            let row = &rows[r * n..(r + 1) * n];
            let by = |&a: &i64, &b: &i64| {
                let values = ascending(row[a as usize], row[b as usize]);
                (if descending { values.reverse() } else { values }).then(a.cmp(&b))
            };
            let mut all: Vec<i64> = (0..n as i64).collect();
            if k < n {
                all.select_nth_unstable_by(k, by);
                all.truncate(k);
            }
            all.sort_unstable_by(by);
            out.copy_from_slice(&all);
        });
    })?;
    let mut back = vec![0isize; sorted.len()];
    sorted.iter().enumerate().for_each(|(i, &a)| back[a as usize] = i as isize);
    order.permute(&back[..])
}

/// The axis and how many of its elements, checked.
fn part(op: &'static str, shape: &[usize], along: isize, k: usize) -> Result<usize> {
    let axis = axis(op, along, shape.len())?;
    if k > shape[axis] {
        let message = format!(
            "k is {k}; it must be at most {}, the size of axis {axis} of shape {shape:?}",
            shape[axis]
        );
        return Err(Error::argument(op, message));
    }
    Ok(axis)
}

impl<T: Num> Tensor<T> {
    /// The elements in order along an axis, and the index that each had. Stable: equal elements keep their order; NaN counts as the largest.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let (y, index) = Tensor::from([3.0f32, 1.0, 2.0]).sort(0, true)?;
    /// assert_eq!((y.to_vec(), index.to_vec()), (vec![3.0, 2.0, 1.0], vec![0, 2, 1]));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`] if there is no such axis.
    pub fn sort(&self, along: isize, descending: bool) -> Result<(Tensor<T>, Tensor<i64>)> {
        let index = self.argsort(along, descending)?;
        Ok((self.gather(along, &index)?, index))
    }

    /// The indices that put an axis in order, as [`sort`](Self::sort) does.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([30i64, 10, 20]).argsort(0, false)?.to_vec(), [1, 2, 0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`] if there is no such axis.
    pub fn argsort(&self, along: isize, descending: bool) -> Result<Tensor<i64>> {
        let axis = axis("argsort", along, self.rank())?;
        order(self, axis, self.shape()[axis], descending)
    }

    /// The `k` largest elements along an axis (or the smallest), the most extreme first, and their indices; of equal ones those with the lower index.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let (y, index) = Tensor::from([3.0f32, 9.0, 2.0, 5.0]).topk(2, 0, true)?;
    /// assert_eq!((y.to_vec(), index.to_vec()), (vec![9.0, 5.0], vec![1, 3]));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`] if there is no such axis, [`Error::Argument`] if it is shorter than `k`.
    pub fn topk(&self, k: usize, along: isize, largest: bool) -> Result<(Tensor<T>, Tensor<i64>)> {
        let axis = part("topk", self.shape(), along, k)?;
        let index = order(self, axis, k, largest)?;
        Ok((self.gather(along, &index)?, index))
    }

    /// The `k`-th smallest element along an axis (1 is the smallest), and its index. The axis is gone unless `keepdim`.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let (y, index) = Tensor::from([3.0f32, 9.0, 2.0]).kthvalue(2, 0, false)?;
    /// assert_eq!((y.item()?, index.item()?), (3.0, 0));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`] if there is no such axis, [`Error::Argument`] unless `k` is between 1 and its size.
    pub fn kthvalue(
        &self,
        k: usize,
        along: isize,
        keepdim: bool,
    ) -> Result<(Tensor<T>, Tensor<i64>)> {
        if k == 0 {
            return Err(Error::argument("kthvalue", "k is 0; the smallest element has k = 1"));
        }
        let axis = part("kthvalue", self.shape(), along, k)?;
        let index = order(self, axis, k, false)?.narrow(along, k - 1, 1)?;
        let y = self.gather(along, &index)?;
        Ok(if keepdim { (y, index) } else { (y.squeeze(along)?, index.squeeze(along)?) })
    }

    /// The median along an axis, the lower one of the two in the middle of an even number, and its index.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([4.0f32, 1.0, 3.0, 2.0]).median(0, false)?.0.item()?, 2.0);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`] if there is no such axis, [`Error::Argument`] if it is empty.
    pub fn median(&self, along: isize, keepdim: bool) -> Result<(Tensor<T>, Tensor<i64>)> {
        let size = self.shape()[axis("median", along, self.rank())?];
        if size == 0 {
            let message = format!("axis {along} of shape {:?} is empty", self.shape());
            return Err(Error::argument("median", message));
        }
        self.kthvalue(size.div_ceil(2), along, keepdim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::{gradcheck, gradgradcheck};

    #[test]
    fn every_axis_and_layout() -> Result<()> {
        let x = Tensor::from_fn([3, 4, 5], |i| ((i * 37) % 23) as i64)?;
        for x in [&x, &x.permute([2, 0, 1])?, &x.flip(1)?] {
            for axis in 0..3 {
                for descending in [false, true] {
                    let (y, index) = x.sort(axis, descending)?;
                    assert_eq!(y, x.gather(axis, &index)?);
                    let n = y.shape()[axis as usize];
                    let (a, b) = (y.narrow(axis, 0, n - 1)?, y.narrow(axis, 1, n - 1)?);
                    assert!(if descending { a.try_ge(&b)?.all() } else { a.try_le(&b)?.all() });
                    // Equal ones keep their order.
                    let same = a.try_eq(&b)?;
                    let (i, j) = (index.narrow(axis, 0, n - 1)?, index.narrow(axis, 1, n - 1)?);
                    assert!(same.logical_not().logical_or(&i.try_lt(&j)?)?.all());
                    let (top, at) = x.topk(2, axis, descending)?;
                    assert_eq!((top, at), (y.narrow(axis, 0, 2)?, index.narrow(axis, 0, 2)?));
                }
            }
        }
        Ok(())
    }

    #[test]
    fn nan_is_largest_and_gradients_follow() -> Result<()> {
        let nan = f64::NAN;
        let x = Tensor::from([2.0, nan, -1.0, f64::INFINITY, nan]);
        assert_eq!(x.argsort(0, false)?.to_vec(), [2, 0, 3, 1, 4]);
        assert_eq!(x.topk(3, 0, true)?.1.to_vec(), [1, 4, 3]);
        let x = Tensor::from([[0.3f64, -1.0, 2.0, 0.7], [1.5, 0.2, 0.1, -0.4]]);
        for x in [&x, &x.t()?] {
            gradcheck(|[x]| Ok(x.sort(0, true)?.0), [x])?;
            gradcheck(|[x]| Ok(x.topk(2, 1, false)?.0), [x])?;
            gradcheck(|[x]| Ok(x.median(-1, true)?.0), [x])?;
            gradgradcheck(|[x]| Ok(x.square().kthvalue(2, 0, false)?.0.square()), [x])?;
        }
        Ok(())
    }

    #[test]
    fn nothing_to_sort_and_too_much_asked() -> Result<()> {
        let x = Tensor::<f32>::zeros([0, 3])?;
        assert_eq!(x.sort(0, false)?.0.shape(), [0, 3]);
        assert_eq!(x.sort(1, false)?.0.shape(), [0, 3]);
        assert_eq!(x.topk(0, 1, true)?.0.shape(), [0, 0]);
        assert!(x.median(0, false).is_err() && Tensor::scalar(1.0f32).sort(0, false).is_err());
        let e = x.topk(4, 1, true).unwrap_err().to_string();
        assert_eq!(e, "topk: k is 4; it must be at most 3, the size of axis 1 of shape [0, 3]");
        let e = x.kthvalue(0, 1, true).unwrap_err().to_string();
        assert_eq!(e, "kthvalue: k is 0; the smallest element has k = 1");
        Ok(())
    }
}
