//! The Dice loss of soft masks: y = 1 - (2 Σ x t + s) / (Σ x + Σ t + s), over the pixels of each mask.

use super::{check_probabilities, check_setting, reduce, same_shape};
use crate::error::Result;
use crate::float::Float;
use crate::ops::cross_entropy::Reduction;
use crate::tensor::Tensor;

const OP: &str = "dice";

/// How little a predicted mask overlaps with the true one: 1 - (2 Σ x t + s) / (Σ x + Σ t + s), 0 for a perfect overlap. Unlike
/// [`Bce`](crate::nn::Bce) it does not care how many pixels are background.
///
/// The sums are over the pixels of one mask: over the axes after the second of `[n, classes, d1, …]`, the second of `[n, d]`, the only one
/// of `[d]`.
///
/// Source: Milletari, Navab and Ahmadi, "V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image Segmentation" (2016),
/// whose denominator has squares: [`squared`](Self::squared).
///
/// ```
/// use gradus::prelude::*;
/// let t: Tensor = Tensor::from([[1.0, 1.0, 0.0, 0.0]]);
/// let x = Tensor::from([[1.0, 0.0, 0.0, 0.0]]);
/// let loss = DiceLoss::new().smooth(0.0).forward(&x, &t)?;
/// assert!((loss.item()? - (1.0 - 2.0 / 3.0)).abs() < 1e-6);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct DiceLoss {
    /// The s of the formula, which makes two empty masks a perfect match; 1 unless set.
    pub smooth: f64,
    /// Whether the denominator is Σ x² + Σ t² + s.
    pub squared: bool,
    /// What becomes of the losses of the masks.
    pub reduction: Reduction,
}

impl Default for DiceLoss {
    fn default() -> Self {
        DiceLoss { smooth: 1.0, squared: false, reduction: Reduction::Mean }
    }
}

impl DiceLoss {
    /// The mean over masks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`smooth`](Self::smooth).
    pub fn smooth(mut self, smooth: f64) -> Self {
        self.smooth = smooth;
        self
    }

    /// Sets [`squared`](Self::squared).
    pub fn squared(mut self) -> Self {
        self.squared = true;
        self
    }

    /// Sets [`reduction`](Self::reduction).
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// The loss of probabilities and targets of one shape, all between 0 and 1.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the shapes differ, [`Error::Argument`](crate::Error::Argument) for a probability or a
    /// target that is not between 0 and 1, or a negative `smooth`.
    pub fn forward<T: Float>(&self, x: &Tensor<T>, target: &Tensor<T>) -> Result<Tensor<T>> {
        same_shape(OP, x, target)?;
        check_setting(OP, "smooth", self.smooth, self.smooth >= 0.0, "0 or more")?;
        check_probabilities(OP, "prediction", x, "; of logits, take the sigmoid or the softmax")?;
        check_probabilities(OP, "target", target, "")?;
        let rank = x.rank() as isize;
        let pixels: Vec<isize> = (2.min(rank - 1).max(0)..rank).collect();
        let sum = |x: &Tensor<T>| x.sum_axes(&pixels[..], false);
        let size = |x: &Tensor<T>| if self.squared { sum(&x.square()) } else { sum(x) };
        let smooth = T::of(self.smooth);
        let overlap = sum(&x.try_mul(target)?)?.mul_scalar(T::of(2.0)).add_scalar(smooth);
        let all = size(x)?.try_add(&size(target)?)?.add_scalar(smooth);
        Ok(reduce(overlap.try_div(&all)?.rsub_scalar(T::ONE), self.reduction))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;
    use crate::error::Error;

    #[test]
    fn gradients_and_shapes() {
        let cases: [(&[usize], &[usize]); 5] = [
            (&[2, 3, 2, 4], &[2, 3]),
            (&[2, 3, 5], &[2, 3]),
            (&[3, 5], &[3]),
            (&[5], &[]),
            (&[], &[]),
        ];
        for (shape, out) in cases {
            let x = Tensor::from_fn(shape, |i| 0.05 + (i * 5 % 7) as f64 * 0.13).unwrap();
            let t = Tensor::from_fn(shape, |i| 0.05 + (i % 4) as f64 * 0.3).unwrap();
            for squared in [false, true] {
                let each = DiceLoss { smooth: 0.5, squared, reduction: Reduction::None };
                assert_eq!(each.forward(&x, &t).unwrap().shape(), out);
                gradcheck(|[x, t]| each.forward(x, t), [&x, &t]).unwrap();
                gradcheck(|[x]| each.reduction(Reduction::Mean).forward(x, &t), [&x]).unwrap();
            }
        }
    }

    #[test]
    fn empty_masks_match() {
        let none = Tensor::<f32>::zeros([2, 1, 3, 3]).unwrap();
        assert_eq!(DiceLoss::new().forward(&none, &none).unwrap().item().unwrap(), 0.0);
        let two = none.full_like(2.0);
        assert!(matches!(DiceLoss::new().forward(&two, &none), Err(Error::Argument { .. })));
        assert!(matches!(DiceLoss::new().forward(&none, &two), Err(Error::Argument { .. })));
    }
}
