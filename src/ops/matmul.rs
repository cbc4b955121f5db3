//! Matrix products of any ranks.
//!
//! Y = A B; backward: dA = g Bᵀ, dB = Aᵀ g, summed over the axes that were broadcast.

use crate::autograd::{Op, apply};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::gemm::{Batch, Epilogue, MatRef, gemm_batched};
use crate::ops::broadcast::sum_to;
use crate::tensor::{Dims, Layout, Tensor, broadcast, numel};

/// Products of matrices in the last two axes, both of rank 2 or more, the axes before them broadcast.
struct Matmul;

impl<T: Float> Op<T, 2> for Matmul {
    type Saved = (Tensor<T>, Tensor<T>);
    const COMPOSED: bool = true;
    fn name(&self) -> &'static str {
        "matmul"
    }
    fn forward(&self, [a, b]: [&Tensor<T>; 2]) -> Result<(Tensor<T>, Self::Saved)> {
        Ok((product(a, b)?, (a.clone(), b.clone())))
    }
    fn vjp(
        &self,
        (a, b): Self::Saved,
        g: Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        let da =
            if needs[0] { Some(sum_to(&apply(Matmul, [&g, &b.t()?])?, a.shape())) } else { None };
        let db =
            if needs[1] { Some(sum_to(&apply(Matmul, [&a.t()?, &g])?, b.shape())) } else { None };
        Ok([da, db])
    }
    fn flops(&self, [a, b]: [&[usize]; 2]) -> u64 {
        let ([.., m, k], [.., n]) = (a, b) else { return 0 };
        let outer = |x: &[usize]| -> Dims { x[..x.len().saturating_sub(2)].into() };
        let batch = broadcast("matmul", &outer(a), &outer(b)).unwrap_or_default();
        2 * (batch.iter().product::<usize>() * m * k * n) as u64
    }
}

/// The batch axes of a layout, expanded to `batch`, as one axis: its stride, if there is one.
fn batch_stride(l: &Layout, batch: &[usize], count: usize) -> Option<isize> {
    let outer = l.rank() - 2;
    let axes =
        Layout { shape: l.shape[..outer].into(), strides: l.strides[..outer].into(), offset: 0 };
    axes.expand(batch).reshape(&[count]).map(|l| l.strides[0])
}

fn product<T: Float>(a: &Tensor<T>, b: &Tensor<T>) -> Result<Tensor<T>> {
    let ([.., m, k], [.., kb, n]) = (a.shape(), b.shape()) else {
        return Err(Error::shape(
            "matmul",
            format!("{:?} × {:?}: needs matrices", a.shape(), b.shape()),
        ));
    };
    let (m, k, kb, n) = (*m, *k, *kb, *n);
    if k != kb {
        return Err(Error::shape(
            "matmul",
            format!("inner dimensions differ: {:?} × {:?} ({k} ≠ {kb})", a.shape(), b.shape()),
        ));
    }
    let outer = |t: &Tensor<T>| -> Dims { t.shape()[..t.rank() - 2].into() };
    let batch = broadcast("matmul", &outer(a), &outer(b)).map_err(|_| {
        Error::shape(
            "matmul",
            format!(
                "the axes before the matrices do not broadcast: {:?} × {:?}",
                a.shape(),
                b.shape()
            ),
        )
    })?;
    let mut shape = batch.clone();
    shape.extend_from_slice(&[m, n]);
    numel("matmul", &shape)?;
    let count: usize = batch.iter().product();
    // A batch whose strides do not merge into one is copied; the matrices themselves never need to be.
    let merged = |t: &Tensor<T>| match batch_stride(t.layout(), &batch, count) {
        Some(s) => (t.detach(), s),
        None => {
            let mut full: Dims = batch.clone();
            full.extend_from_slice(&t.shape()[t.rank() - 2..]);
            (
                t.with_layout(t.layout().expand(&full)).copy(),
                (full[full.len() - 2] * full[full.len() - 1]) as isize,
            )
        }
    };
    let ((a, step_a), (b, step_b)) = (merged(a), merged(b));
    let view = |t: &Tensor<T>| {
        let s = t.strides();
        (t.layout().offset, s[s.len() - 2], s[s.len() - 1])
    };
    let ((ao, ars, acs), (bo, brs, bcs)) = (view(&a), view(&b));
    Tensor::try_build("matmul", &shape, |out| {
        if out.is_empty() {
            return;
        }
        gemm_batched(
            Batch { count, a: step_a, b: step_b, c: m * n },
            m,
            k,
            n,
            MatRef::new(a.buffer(), ao, ars, acs),
            MatRef::new(b.buffer(), bo, brs, bcs),
            out,
            n,
            false,
            Epilogue::NONE,
        );
    })
}

impl<T: Float> Tensor<T> {
    /// The matrix product, as in NumPy and PyTorch: of the last two axes, the axes before them broadcast; a vector counts as a row on the left
    /// and as a column on the right, and that axis is gone from the result. Two vectors give a number.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let a: Tensor = Tensor::from([[1.0, 2.0], [3.0, 4.0]]);
    /// let v = Tensor::from([1.0, -1.0]);
    /// assert_eq!(a.matmul(&a)?.to_vec(), [7.0, 10.0, 15.0, 22.0]);
    /// assert_eq!(a.matmul(&v)?.to_vec(), [-1.0, -1.0]);
    /// assert_eq!(v.matmul(&v)?.item()?, 2.0);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the inner dimensions differ, the other axes do not broadcast, or an input is a single number.
    pub fn matmul(&self, other: &Self) -> Result<Self> {
        let (ra, rb) = (self.rank(), other.rank());
        if ra == 0 || rb == 0 {
            return Err(Error::shape(
                "matmul",
                format!(
                    "{:?} × {:?}: a single number has no axes; multiply with *",
                    self.shape(),
                    other.shape()
                ),
            ));
        }
        let inner = (self.shape()[ra - 1], other.shape()[rb.saturating_sub(2)]);
        if inner.0 != inner.1 {
            return Err(Error::shape(
                "matmul",
                format!(
                    "inner dimensions differ: {:?} × {:?} ({} ≠ {})",
                    self.shape(),
                    other.shape(),
                    inner.0,
                    inner.1
                ),
            ));
        }
        match (ra, rb) {
            (1, 1) => self.unsqueeze(0)?.matmul(&other.unsqueeze(1)?)?.reshape(&Dims::new()),
            (1, _) => {
                let y = self.unsqueeze(0)?.matmul(other)?;
                y.squeeze(-2)
            }
            (_, 1) => self.matmul(&other.unsqueeze(1)?)?.squeeze(-1),
            // One matrix on the right for a whole batch: a single product of all rows.
            (3.., 2) => {
                let (k, n) = (inner.0, other.shape()[1]);
                let rows = self.shape()[..ra - 1].iter().product();
                let mut shape: Dims = self.shape()[..ra - 1].into();
                shape.push(n);
                apply(Matmul, [&self.reshape([rows, k])?, other])?.reshape(&shape)
            }
            _ => apply(Matmul, [self, other]),
        }
    }
}
