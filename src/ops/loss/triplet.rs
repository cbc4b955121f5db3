//! The triplet loss: an anchor nearer to a positive than to a negative example.

use super::{broadcast_all, check_setting, reduce};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::ops::cross_entropy::Reduction;
use crate::tensor::Tensor;

/// How the distances between an anchor and a positive and a negative example compare: max(0, d(a, p) - d(a, n) + margin), with
/// d(x, y) = ‖x - y + ε‖ₚ over the last axis.
///
/// Source: Balntas et al., "Learning local feature descriptors with triplets and shallow convolutional neural networks" (2016), for
/// [`swap`](Self::swap) too.
///
/// ```
/// use gradus::prelude::*;
/// let a: Tensor = Tensor::from([[0.0, 0.0]]);
/// let (p, n) = (Tensor::from([[3.0, 4.0]]), Tensor::from([[0.0, 5.5]]));
/// let loss = TripletMargin::new(1.0).forward(&a, &p, &n)?;
/// assert!((loss.item()? - 0.5).abs() < 1e-5);
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "TripletMarginLoss")]
#[derive(Clone, Copy, Debug)]
pub struct TripletMargin {
    /// How much farther the negative must be than the positive; PyTorch's default is 1.
    pub margin: f64,
    /// The norm of the distance, above 0, perhaps infinite; 2 unless set.
    pub p: f64,
    /// What is added to each difference, so that the norm has a gradient where the vectors are equal; 1e-6 unless set.
    pub eps: f64,
    /// Whether the negative's distance to the positive counts where it is smaller than the one to the anchor.
    pub swap: bool,
    /// What becomes of the losses of the triplets.
    pub reduction: Reduction,
}

impl TripletMargin {
    /// The mean over triplets, with Euclidean distances.
    pub fn new(margin: f64) -> Self {
        TripletMargin { margin, p: 2.0, eps: 1e-6, swap: false, reduction: Reduction::Mean }
    }

    /// Sets [`p`](Self::p).
    pub fn p(mut self, p: f64) -> Self {
        self.p = p;
        self
    }

    /// Sets [`eps`](Self::eps).
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// Sets [`swap`](Self::swap).
    pub fn swap(mut self) -> Self {
        self.swap = true;
        self
    }

    /// Sets [`reduction`](Self::reduction).
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// The loss of three inputs `[…, d]`, of one rank, whose sizes are the same or 1.
    ///
    /// # Errors
    /// [`Error::Shape`] if the ranks differ or the sizes do not broadcast, [`Error::Argument`] for a margin that is not above 0, a `p` that
    /// is not above 0, or an `eps` that is NaN.
    pub fn forward<T: Float>(
        &self,
        anchor: &Tensor<T>,
        positive: &Tensor<T>,
        negative: &Tensor<T>,
    ) -> Result<Tensor<T>> {
        const OP: &str = "triplet_margin";
        check_setting(OP, "the margin", self.margin, self.margin > 0.0, "above 0")?;
        check_setting(OP, "p", self.p, self.p > 0.0, "above 0, perhaps infinite")?;
        check_setting(OP, "eps", self.eps, self.eps.is_finite(), "finite")?;
        broadcast_all(OP, [("anchor", anchor), ("positive", positive), ("negative", negative)])?;
        if anchor.rank() == 0 {
            return Err(Error::shape(
                OP,
                "the inputs are single numbers; they need an axis of features: […, d]",
            ));
        }
        let near = self.distance(anchor, positive)?;
        let mut far = self.distance(anchor, negative)?;
        if self.swap {
            far = far.minimum(&self.distance(positive, negative)?)?;
        }
        let y = near.try_sub(&far)?.add_scalar(T::of(self.margin)).relu();
        Ok(reduce(y, self.reduction))
    }

    fn distance<T: Float>(&self, a: &Tensor<T>, b: &Tensor<T>) -> Result<Tensor<T>> {
        norm(&a.try_sub(b)?.add_scalar(T::of(self.eps)), self.p)
    }
}

/// (Σ |x|^p)^(1/p) over the last axis; max |x| for an infinite p. Its gradient at 0 is 0.
fn norm<T: Float>(x: &Tensor<T>, p: f64) -> Result<Tensor<T>> {
    if p == 2.0 {
        return x.norm_axes(-1, false);
    }
    if p == 1.0 {
        return x.abs().sum_axes(-1, false);
    }
    if p.is_infinite() {
        return x.abs().amax(-1, false);
    }
    // 0 is put back as a constant, before each power that is steep there: 0^(p-1) is infinite for p < 1, 0^(1/p - 1) for p > 1.
    let power = |x: &Tensor<T>, p: f64| {
        let zero = x.eq_scalar(T::ZERO);
        x.masked_fill(&zero, T::ONE)?.powf(T::of(p)).masked_fill(&zero, T::ZERO)
    };
    power(&power(&x.abs(), p)?.sum_axes(-1, false)?, 1.0 / p)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    #[test]
    fn gradients_with_every_option() {
        let values = |k: usize| Tensor::from_fn([4, 3], |i| (i * k % 11) as f64 * 0.23).unwrap();
        // Far enough from the kink of each difference.
        let (a, p) = (values(5), values(3).add_scalar(0.05));
        let n = Tensor::from_fn([3, 1], |i| 0.07 + i as f64 * 0.29).unwrap().t().unwrap();
        for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
            for power in [0.5, 1.0, 1.5, 2.0, 3.0, f64::INFINITY] {
                for swap in [false, true] {
                    let loss = TripletMargin { margin: 2.0, p: power, eps: 1e-3, swap, reduction };
                    gradcheck(|[a, p, n]| loss.forward(a, p, n), [&a, &p, &n]).unwrap();
                }
            }
        }
    }

    #[test]
    fn equal_vectors_have_a_finite_gradient() {
        for power in [0.5, 1.0, 1.5, 2.0, 3.0, f64::INFINITY] {
            let tape = crate::Tape::new(0);
            let a = tape.leaf(&Tensor::from([[1.0f64, 2.0]]));
            let loss = TripletMargin::new(1.0).eps(0.0).p(power);
            let y = loss.forward(&a, &a.detach(), &a.detach()).unwrap();
            assert_eq!(y.item().unwrap(), 1.0);
            assert_eq!(y.backward().unwrap().wrt(&a).unwrap().to_vec(), [0.0, 0.0], "{power}");
        }
    }

    #[test]
    fn norms_by_hand() {
        let x = Tensor::from([[3.0f64, -4.0, 0.0]]);
        for (p, want) in [(1.0, 7.0), (2.0, 5.0), (3.0, 91f64.cbrt()), (f64::INFINITY, 4.0)] {
            assert!((norm(&x, p).unwrap().item().unwrap() - want).abs() < 1e-12);
        }
    }

    #[test]
    fn mistakes() {
        let x = Tensor::<f32>::ones([4, 3]).unwrap();
        let loss = TripletMargin::new(1.0);
        let wrong = loss.forward(&x, &x, &Tensor::ones([3]).unwrap());
        assert!(matches!(wrong, Err(Error::Shape { .. })));
        let scalar = Tensor::scalar(1.0f32);
        assert!(matches!(loss.forward(&scalar, &scalar, &scalar), Err(Error::Shape { .. })));
        for bad in [TripletMargin::new(0.0), loss.p(0.0), loss.eps(f64::NAN)] {
            assert!(matches!(bad.forward(&x, &x, &x), Err(Error::Argument { .. })));
        }
    }
}
