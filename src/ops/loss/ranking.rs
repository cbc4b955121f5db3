//! Losses that compare two inputs under a target of -1 or 1: which of two scores is higher, whether two vectors point the same way.

use super::{broadcast_all, check_setting, check_signs, reduce};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::ops::cross_entropy::Reduction;
use crate::tensor::Tensor;

/// For pairs of scores of which the first should be higher (t = 1) or the second (t = -1) by a margin: max(0, -t (x1 - x2) + margin).
///
/// ```
/// use gradus::prelude::*;
/// let (a, b): (Tensor, Tensor) = (Tensor::from([3.0, 1.0]), Tensor::from([1.0, 1.5]));
/// let loss = MarginRanking::new(0.5).reduction(Reduction::None);
/// assert_eq!(loss.forward(&a, &b, &Tensor::from([1.0, 1.0]))?.to_vec(), [0.0, 1.0]);
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "MarginRankingLoss")]
#[derive(Clone, Copy, Debug, Default)]
pub struct MarginRanking {
    /// By how much the right score must be higher; PyTorch's default is 0.
    pub margin: f64,
    /// What becomes of the losses of the pairs.
    pub reduction: Reduction,
}

impl MarginRanking {
    /// The mean.
    pub fn new(margin: f64) -> Self {
        MarginRanking { margin, reduction: Reduction::Mean }
    }

    /// Sets [`reduction`](Self::reduction).
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// The loss of two inputs and a target, of one rank, whose sizes are the same or 1.
    ///
    /// # Errors
    /// [`Error::Shape`] if the ranks differ or the sizes do not broadcast, [`Error::Argument`] for a target that is neither -1 nor 1, or a
    /// margin that is NaN.
    pub fn forward<T: Float>(
        &self,
        x1: &Tensor<T>,
        x2: &Tensor<T>,
        target: &Tensor<T>,
    ) -> Result<Tensor<T>> {
        const OP: &str = "margin_ranking";
        check_setting(OP, "the margin", self.margin, true, "a number")?;
        broadcast_all(OP, [("first input", x1), ("second input", x2), ("target", target)])?;
        check_signs(OP, target)?;
        let lead = x1.try_sub(x2)?.try_mul(target)?;
        Ok(reduce(lead.rsub_scalar(T::of(self.margin)).relu(), self.reduction))
    }
}

/// For pairs of vectors that should point the same way (t = 1) or not (t = -1), by the cosine c of the angle between them: 1 - c, or
/// max(0, c - margin).
///
/// c = x1·x2 / √((x1·x1 + ε) (x2·x2 + ε)) with ε = 1e-12, so that it is 0 with a vector of zeros.
///
/// ```
/// use gradus::prelude::*;
/// let a: Tensor = Tensor::from([[1.0, 0.0], [1.0, 0.0]]);
/// let b = Tensor::from([[0.0, 2.0], [3.0, 0.0]]);
/// let loss = CosineEmbedding::new(0.25).reduction(Reduction::None);
/// assert_eq!(loss.forward(&a, &b, &Tensor::from([1.0, -1.0]))?.to_vec(), [1.0, 0.75]);
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "CosineEmbeddingLoss")]
#[derive(Clone, Copy, Debug, Default)]
pub struct CosineEmbedding {
    /// The cosine that vectors apart may have, from -1 to 1; PyTorch's default is 0.
    pub margin: f64,
    /// What becomes of the losses of the pairs.
    pub reduction: Reduction,
}

impl CosineEmbedding {
    /// The mean.
    pub fn new(margin: f64) -> Self {
        CosineEmbedding { margin, reduction: Reduction::Mean }
    }

    /// Sets [`reduction`](Self::reduction).
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// The loss of vectors `[n, d]` and targets `[n]`, or of two vectors `[d]` and a single target `[]`. The target gets no gradient.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not fit, [`Error::Argument`] for a target that is neither -1 nor 1, or a margin that is NaN.
    pub fn forward<T: Float>(
        &self,
        x1: &Tensor<T>,
        x2: &Tensor<T>,
        target: &Tensor<T>,
    ) -> Result<Tensor<T>> {
        const OP: &str = "cosine_embedding";
        check_setting(OP, "the margin", self.margin, true, "a number")?;
        let fits = x1.shape() == x2.shape()
            && matches!(x1.rank(), 1 | 2)
            && target.shape() == &x1.shape()[..x1.rank() - 1];
        if !fits {
            return Err(Error::shape(
                OP,
                format!(
                    "the inputs have shapes {:?} and {:?}, the target {:?}; expected [n, d] twice and [n], or [d] twice and []",
                    x1.shape(),
                    x2.shape(),
                    target.shape()
                ),
            ));
        }
        check_signs(OP, target)?;
        let dot = |a: &Tensor<T>, b: &Tensor<T>| a.try_mul(b)?.sum_axes(-1, false);
        let size = |a: &Tensor<T>| Ok(dot(a, a)?.add_scalar(T::of(1e-12)));
        let cosine = dot(x1, x2)?.try_div(&size(x1)?.try_mul(&size(x2)?)?.sqrt())?;
        let together = cosine.rsub_scalar(T::ONE);
        let apart = cosine.sub_scalar(T::of(self.margin)).relu();
        let y = target.gt_scalar(T::ZERO).select_where(&together, &apart)?;
        Ok(reduce(y, self.reduction))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    const REDUCTIONS: [Reduction; 3] = [Reduction::Mean, Reduction::Sum, Reduction::None];

    #[test]
    fn which_is_higher() {
        let a = Tensor::from_fn([4, 3], |i| (i * 5 % 7) as f64 * 0.45).unwrap();
        let turned = Tensor::from_fn([3, 4], |i| (i * 3 % 8) as f64 * 0.41).unwrap();
        let b = turned.t().unwrap();
        let t = Tensor::from([[1.0], [-1.0], [-1.0], [1.0]]);
        for reduction in REDUCTIONS {
            let loss = MarginRanking { margin: 0.333, reduction };
            gradcheck(|[a, b]| loss.forward(a, b, &t), [&a, &b]).unwrap();
        }
        let none = Tensor::<f32>::zeros([0, 3]).unwrap();
        let sum = MarginRanking::new(1.0).reduction(Reduction::Sum);
        assert_eq!(sum.forward(&none, &none, &none).unwrap().item().unwrap(), 0.0);
    }

    #[test]
    fn the_same_way() {
        let a = Tensor::from_fn([4, 3], |i| (i * 5 % 7) as f64 * 0.45 - 1.0).unwrap();
        let turned = Tensor::from_fn([3, 4], |i| (i * 3 % 8) as f64 * 0.41 - 0.7).unwrap();
        let b = turned.t().unwrap();
        let t = Tensor::from([1.0, -1.0, -1.0, 1.0]);
        for reduction in REDUCTIONS {
            let loss = CosineEmbedding { margin: 0.1, reduction };
            gradcheck(|[a, b]| loss.forward(a, b, &t), [&a, &b]).unwrap();
        }
        let (x, zero) = (Tensor::from([1.0, 2.0]), Tensor::from([0.0, 0.0]));
        let y = CosineEmbedding::new(0.0).forward(&x, &zero, &Tensor::scalar(1.0)).unwrap();
        assert_eq!(y.item().unwrap(), 1.0);
        gradcheck(
            |[x]| CosineEmbedding::new(0.0).forward(x, &x.rsub_scalar(1.0), &Tensor::scalar(1.0)),
            [&x],
        )
        .unwrap();
    }

    #[test]
    fn mistakes() {
        let x = Tensor::<f32>::ones([4, 3]).unwrap();
        let shape = |y: Result<Tensor>| matches!(y, Err(Error::Shape { .. }));
        let ranking = MarginRanking::new(0.0);
        assert!(shape(ranking.forward(&x, &x, &Tensor::ones([4]).unwrap())));
        assert!(shape(ranking.forward(&x, &Tensor::ones([2, 3]).unwrap(), &x)));
        let cosine = CosineEmbedding::new(0.0);
        assert!(shape(cosine.forward(&x, &x, &Tensor::ones([4, 1]).unwrap())));
        assert!(shape(cosine.forward(
            &x,
            &Tensor::ones([1, 3]).unwrap(),
            &Tensor::ones([4]).unwrap()
        )));
        let zero = cosine.forward(&x, &x, &Tensor::zeros([4]).unwrap());
        assert!(matches!(zero, Err(Error::Argument { .. })));
    }
}
