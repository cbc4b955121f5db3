//! Diagonals. y[.., i] = x[.., i, i]; backward: zeros, with g on the diagonal.

use crate::autograd::{Op, apply};
use crate::element::{Element, Num};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::ops::float_only::record_if_float;
use crate::tensor::{Dims, Layout, Tensor, axis};

/// Which diagonal of which shape: along axes `a` and `b`, starting at row `row` and column `col`, of so many elements.
#[derive(Clone)]
struct Diagonal {
    from: Dims,
    a: usize,
    b: usize,
    row: usize,
    col: usize,
    count: usize,
}

impl Diagonal {
    /// The diagonal of a layout of shape `from`, as a last axis.
    fn of(&self, l: &Layout) -> Layout {
        let start = if self.count == 0 {
            0
        } else {
            self.row as isize * l.strides[self.a] + self.col as isize * l.strides[self.b]
        };
        let rest = |i: &usize| *i != self.a && *i != self.b;
        let mut shape: Dims = (0..l.rank()).filter(rest).map(|i| l.shape[i]).collect();
        let mut strides: smallvec::SmallVec<_> =
            (0..l.rank()).filter(rest).map(|i| l.strides[i]).collect();
        shape.push(self.count);
        strides.push(l.strides[self.a] + l.strides[self.b]);
        Layout { shape, strides, offset: (l.offset as isize + start) as usize }
    }
}

impl<T: Float> Op<T, 1> for Diagonal {
    type Saved = ();
    const COMPOSED: bool = true;
    fn name(&self) -> &'static str {
        "diagonal"
    }
    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, ())> {
        Ok((x.with_layout(self.of(x.layout())), ()))
    }
    fn vjp(&self, (): (), g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        Ok([Some(apply(Put(self.clone()), [&g])?)])
    }
}

/// The gradient of a diagonal, whose own gradient is the diagonal.
struct Put(Diagonal);

impl<T: Float> Op<T, 1> for Put {
    type Saved = ();
    const COMPOSED: bool = true;
    fn name(&self) -> &'static str {
        "diagonal (gradient)"
    }
    fn forward(&self, [g]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, ())> {
        let y = Tensor::build(&self.0.from, |out| {
            out.fill(T::ZERO);
            let to = self.0.of(&Layout::dense(&self.0.from));
            crate::kernel::place::place(g.buffer(), g.layout(), out, &to);
        });
        Ok((y, ()))
    }
    fn vjp(&self, (): (), h: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        Ok([Some(apply(self.0.clone(), [&h])?)])
    }
}

impl<T: Element> Tensor<T> {
    /// The elements x\[.., i, .., i + `offset`, ..\] of two axes, as a new last axis. A view.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    /// assert_eq!(x.diagonal(0, 0, 1)?.to_vec(), [1.0, 5.0]);
    /// assert_eq!(x.diagonal(1, 0, 1)?.to_vec(), [2.0, 6.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`] for an axis that does not exist, [`Error::Argument`] if both are the same.
    pub fn diagonal(&self, offset: isize, first: isize, second: isize) -> Result<Self> {
        const OP: &str = "diagonal";
        let (a, b) = (axis(OP, first, self.rank())?, axis(OP, second, self.rank())?);
        if a == b {
            return Err(Error::argument(OP, format!("both axes are axis {a}; they must differ")));
        }
        let apart = offset.unsigned_abs();
        let (row, col) = if offset < 0 { (apart, 0) } else { (0, apart) };
        let count = self.shape()[a].saturating_sub(row).min(self.shape()[b].saturating_sub(col));
        let d = Diagonal { from: self.shape().into(), a, b, row, col, count };
        record_if_float(d.clone(), [self], |[x]| Ok(x.with_layout(d.of(x.layout()))))
    }
}

impl<T: Num> Tensor<T> {
    /// The sum of the diagonal of a matrix, or of each of a batch of matrices (the last two axes).
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([[1.0, 2.0], [3.0, 4.0]]).trace()?.item()?, 5.0);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`] for fewer than two axes.
    pub fn trace(&self) -> Result<Self> {
        self.diagonal(0, -2, -1)?.sum_axes(-1, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::{gradcheck, gradgradcheck};

    #[test]
    fn by_hand_and_gradients() -> Result<()> {
        let x = Tensor::from_fn([2, 3, 4], |i| i as f64 * 0.5)?;
        assert_eq!(x.diagonal(0, 1, 2)?.shape(), [2, 3]);
        assert_eq!(x.diagonal(-1, 1, 2)?.to_vec(), [2.0, 4.5, 8.0, 10.5]);
        assert_eq!(x.diagonal(1, 2, 0)?.to_vec(), [6.0, 8.0, 10.0]);
        assert_eq!(x.diagonal(9, 0, 1)?.shape(), [4, 0]);
        assert_eq!(x.diagonal(isize::MIN, 0, 1)?.shape(), [4, 0]);
        assert_eq!(x.trace()?.to_vec(), [7.5, 25.5]);
        let t = x.permute([2, 0, 1])?.flip(0)?;
        for x in [&x, &t] {
            for (o, a, b) in [(0, 0, 1), (1, -1, 0), (-1, 0, 2), (5, 1, 2)] {
                gradcheck(|[x]| x.diagonal(o, a, b), [x])?;
                gradgradcheck(|[x]| Ok(x.square().diagonal(o, a, b)?.square()), [x])?;
            }
        }
        assert_eq!(
            x.diagonal(0, 1, -2).unwrap_err().to_string(),
            "diagonal: both axes are axis 1; they must differ"
        );
        Ok(())
    }
}
