//! Maxima put back in their places: the partial inverse of a maximum.
//!
//! ```text
//! y[plane, index[plane, i]] = x[plane, i], 0 elsewhere;      dx[plane, i] = g[plane, index[plane, i]], 0 if a later one took the place
//! ```

use super::slice;
use crate::autograd::{Op, apply};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::tensor::{Dims, Tensor, numel};

impl<T: Float> Tensor<T> {
    /// Maxima put back in their places, with zeros elsewhere: what [`max_pool2d_with_indices`](Self::max_pool2d_with_indices) and its like return goes
    /// back to planes of this size (one, two or three axes). Where windows overlapped and an index repeats, the last one counts.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[[1.0, 2.0], [4.0, 3.0]]]);
    /// let (y, index) = x.max_pool2d_with_indices(2)?;
    /// assert_eq!(y.max_unpool(&index, &[2, 2])?.to_vec(), [0.0, 0.0, 4.0, 0.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if index and input differ in shape or the size has another number of axes, [`Error::Index`] for an index beyond the plane.
    pub fn max_unpool(&self, index: &Tensor<i64>, size: &[usize]) -> Result<Tensor<T>> {
        let op = "max_unpool";
        if index.shape() != self.shape() {
            return Err(Error::shape(
                op,
                format!(
                    "the index has shape {:?}, the input {:?}; they must be the same",
                    index.shape(),
                    self.shape()
                ),
            ));
        }
        let lead = match self.rank().checked_sub(size.len()) {
            Some(lead @ 1..=2) if !size.is_empty() => lead,
            _ => {
                return Err(Error::shape(
                    op,
                    format!(
                        "the input {:?} does not fit planes of size {size:?}; it must be [batch, channels, ..] or [channels, ..] with as many axes behind",
                        self.shape()
                    ),
                ));
            }
        };
        let plane = numel(op, size)?;
        if let Some(i) = index.iter().find(|&i| i < 0 || i as usize >= plane) {
            let what = format!("planes of {size:?}");
            return Err(Error::Index { op, index: i, what, size: plane });
        }
        let out: Dims = self.shape()[..lead].iter().chain(size).copied().collect();
        numel(op, &out)?;
        let planes: usize = self.shape()[..lead].iter().product();
        let windows: usize = self.shape()[lead..].iter().product();
        let index = index.dense().reshape([planes, windows])?;
        let mut last = vec![usize::MAX; planes * plane];
        let place = |i: usize, at: i64| i / windows.max(1) * plane + at as usize;
        for (i, &at) in slice(&index).iter().enumerate() {
            last[place(i, at)] = i;
        }
        let counts = |(i, &at): (usize, &i64)| T::of((last[place(i, at)] == i) as u8 as f64);
        let counts: Vec<T> = slice(&index).iter().enumerate().map(counts).collect();
        let counts = match counts.contains(&T::ZERO) {
            true => Some(Tensor::from_vec(counts, [planes, windows])?),
            false => None,
        };
        apply(Unpool { index, counts, plane, out }, [self])
    }
}

struct Unpool<T: Float> {
    /// \[planes, windows\]
    index: Tensor<i64>,
    /// 0 where a later window took the place, 1 elsewhere; none if all count.
    counts: Option<Tensor<T>>,
    plane: usize,
    out: Dims,
}

impl<T: Float> Op<T, 1> for Unpool<T> {
    type Saved = Dims;
    const COMPOSED: bool = true;

    fn name(&self) -> &'static str {
        "max_unpool"
    }

    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, Dims)> {
        let dense = x.dense();
        let y = Tensor::try_build("max_unpool", &self.out, |y| {
            y.fill(T::ZERO);
            let windows = self.index.shape()[1].max(1);
            for (i, (&at, &x)) in slice(&self.index).iter().zip(slice(&dense)).enumerate() {
                y[i / windows * self.plane + at as usize] = x;
            }
        })?;
        Ok((y, x.shape().into()))
    }

    fn vjp(&self, from: Dims, g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        let planes = self.index.shape()[0];
        let mut dx = g.reshape([planes, self.plane])?.gather(1, &self.index)?;
        if let Some(counts) = &self.counts {
            dx = dx.try_mul(counts)?;
        }
        Ok([Some(dx.reshape(&from)?)])
    }
}
