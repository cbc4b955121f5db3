//! Gated linear units: one half of an axis multiplied by a function of the other.

use crate::error::{Error, Result};
use crate::float::Float;
use crate::tensor::{Tensor, axis};

/// Both halves of an axis.
fn halves<T: Float>(op: &'static str, x: &Tensor<T>, along: isize) -> Result<[Tensor<T>; 2]> {
    let a = axis(op, along, x.rank())?;
    let n = x.shape()[a];
    if !n.is_multiple_of(2) {
        let message =
            format!("axis {along} of {:?} has odd size {n}; it must have two halves", x.shape());
        return Err(Error::shape(op, message));
    }
    let half = |k: usize| x.narrow(a as isize, k * n / 2, n / 2);
    Ok([half(0)?, half(1)?])
}

impl<T: Float> Tensor<T> {
    /// Gated linear unit (Dauphin et al., 2017): a · σ(b), where a and b are the halves of an axis. The second half is the gate, as in PyTorch.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([4.0f32, 6.0, 0.0, 0.0]).glu(-1)?.to_vec(), [2.0, 3.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`] if there is no such axis, [`Error::Shape`] if its size is odd.
    pub fn glu(&self, axis: isize) -> Result<Tensor<T>> {
        let [a, b] = halves("glu", self, axis)?;
        a.try_mul(&b.sigmoid())
    }

    /// SwiGLU (Shazeer, 2020): silu(a) · b, where a and b are the halves of an axis. The first half is the gate, as in the paper's formula.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let y = Tensor::from([1.0f64, 2.0]).swiglu(0)?.item()?;
    /// assert!((y - 2.0 * 0.731_058_578_630_005).abs() < 1e-12);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`glu`](Self::glu).
    pub fn swiglu(&self, axis: isize) -> Result<Tensor<T>> {
        let [a, b] = halves("swiglu", self, axis)?;
        a.silu().try_mul(&b)
    }

    /// GEGLU (Shazeer, 2020): gelu(a) · b, where a and b are the halves of an axis. The first half is the gate, as in the paper's formula.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let y = Tensor::from([1.0f64, 2.0]).geglu(0)?.item()?;
    /// assert!((y - 2.0 * 0.841_344_746_068_543).abs() < 1e-12);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`glu`](Self::glu).
    pub fn geglu(&self, axis: isize) -> Result<Tensor<T>> {
        let [a, b] = halves("geglu", self, axis)?;
        a.gelu().try_mul(&b)
    }

    /// Softmin along an axis: the softmax of -x.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let y = Tensor::from([0.0f64, 3f64.ln()]).softmin(0)?;
    /// assert!((y.get([0])? - 0.75).abs() < 1e-12);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`] if there is no such axis.
    pub fn softmin(&self, axis: isize) -> Result<Tensor<T>> {
        self.neg().softmax(axis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    #[test]
    fn gradients_and_what_does_not_fit() {
        let x = Tensor::from_fn([4, 6], |i| (i as f64 * 0.9).sin()).unwrap();
        let turned = x.with_layout(x.layout().permute(&[1, 0]));
        for x in [&x, &turned] {
            for axis in [0, 1] {
                gradcheck(|[x]| x.glu(axis), [x]).unwrap();
                gradcheck(|[x]| x.swiglu(axis), [x]).unwrap();
                gradcheck(|[x]| x.geglu(axis), [x]).unwrap();
                gradcheck(|[x]| x.softmin(axis), [x]).unwrap();
            }
        }
        assert_eq!(Tensor::<f32>::zeros([3, 0]).unwrap().glu(1).unwrap().shape(), [3, 0]);
        assert_eq!(
            Tensor::<f32>::zeros([2, 3]).unwrap().glu(-1).unwrap_err().to_string(),
            "glu: axis -1 of [2, 3] has odd size 3; it must have two halves"
        );
        assert!(matches!(x.swiglu(2), Err(Error::Axis { op: "swiglu", .. })));
    }
}
