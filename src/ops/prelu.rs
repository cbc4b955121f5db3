//! PReLU: y = x for x > 0, else w x, with one w or one for each channel.
//!
//! dx = g for x > 0, else w g; dw = Σ g x over the places with x ≤ 0 that share the w.

use super::elementwise::{zip, zip3};
use crate::autograd::{Op, apply};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::map::{Zip, Zip3};
use crate::tensor::{Dims, Tensor};

/// With a weight for each place; sharing is the business of the expansion, whose gradient adds up.
struct PRelu;

#[derive(Clone, Copy)]
struct Value;
impl<T: Float> Zip<T, T, T> for Value {
    #[inline(always)]
    fn at<const FMA: bool>(self, x: T, w: T) -> T {
        if x > T::ZERO { x } else { w * x }
    }
}

#[derive(Clone, Copy)]
struct Slope;
impl<T: Float> Zip3<T, T, T, T> for Slope {
    #[inline(always)]
    fn at<const FMA: bool>(self, x: T, w: T, g: T) -> T {
        if x > T::ZERO { g } else { w * g }
    }
}

#[derive(Clone, Copy)]
struct Weight;
impl<T: Float> Zip<T, T, T> for Weight {
    #[inline(always)]
    fn at<const FMA: bool>(self, x: T, g: T) -> T {
        if x > T::ZERO { T::ZERO } else { g * x }
    }
}

impl<T: Float> Op<T, 2> for PRelu {
    type Saved = (Tensor<T>, Tensor<T>);
    fn name(&self) -> &'static str {
        "prelu"
    }
    fn forward(&self, [x, w]: [&Tensor<T>; 2]) -> Result<(Tensor<T>, Self::Saved)> {
        Ok((zip("prelu", Value, x, w)?, (x.clone(), w.clone())))
    }
    fn vjp(
        &self,
        (x, w): Self::Saved,
        g: Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        let dx = if needs[0] { Some(zip3("prelu", Slope, &x, &w, &g)?) } else { None };
        let dw = if needs[1] { Some(zip("prelu", Weight, &x, &g)?) } else { None };
        Ok([dx, dw])
    }
    fn vjp_recorded(
        &self,
        (x, w): Self::Saved,
        g: Tensor<T>,
        _: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        let above = x.gt_scalar(T::ZERO);
        let dx = above.select_where(&g, &g.try_mul(&w)?)?;
        let dw = above.select_where(&g.zeros_like(), &g.try_mul(&x)?)?;
        Ok([Some(dx), Some(dw)])
    }
}

/// [`Tensor::prelu`] under another name in errors.
pub(crate) fn prelu<T: Float>(
    name: &'static str,
    x: &Tensor<T>,
    weight: &Tensor<T>,
) -> Result<Tensor<T>> {
    let channels = x.shape().get(1).copied().unwrap_or(1);
    let n = weight.len();
    if weight.rank() > 1 || (n != 1 && n != channels) {
        let message = format!(
            "the weight has shape {:?}; it must be one number or one for each of the {channels} channels of the input {:?}",
            weight.shape(),
            x.shape()
        );
        return Err(Error::shape(name, message));
    }
    let at = |a: usize| if a == 1 { n } else { 1 };
    let shape: Dims = match n {
        1 => Dims::from_elem(1, x.rank()),
        _ => (0..x.rank()).map(at).collect(),
    };
    apply(PRelu, [x, &weight.reshape(&shape)?.expand(x.shape())?])
}

impl<T: Float> Tensor<T> {
    /// x, or w x for x ≤ 0 (He et al., 2015), with a weight of one number, or one for each index of axis 1. The gradient at 0 is that of w x.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[-2.0, -2.0], [1.0, 4.0]]);
    /// assert_eq!(x.prelu(&Tensor::from([0.5, 0.25]))?.to_vec(), [-1.0, -0.5, 1.0, 4.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the weight is neither one number nor one for each channel.
    pub fn prelu(&self, weight: &Tensor<T>) -> Result<Tensor<T>> {
        prelu("prelu", self, weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::{gradcheck, gradgradcheck};

    #[test]
    fn gradients_shared_and_per_channel() {
        let x = Tensor::from_fn([3, 4, 2], |i| (i as f64 * 1.7 + 0.3).sin()).unwrap();
        let turned = x.with_layout(x.layout().permute(&[0, 2, 1]).slice(2, 3, 2, -2));
        for x in [&x, &turned] {
            let c = x.shape()[1];
            let each = Tensor::from_fn([c], |i| 0.2 * i as f64 - 0.3).unwrap();
            for w in [&each, &Tensor::from([0.25]), &Tensor::scalar(0.25)] {
                gradcheck(|[x, w]| x.prelu(w), [x, w]).unwrap();
            }
            gradgradcheck(|[x, w]| x.prelu(w), [x, &each]).unwrap();
        }
        gradcheck(|[x, w]| x.prelu(w), [&Tensor::scalar(-1.0), &Tensor::from([0.5])]).unwrap();
        gradcheck(
            |[x, w]| x.prelu(w),
            [&Tensor::zeros([0, 3]).unwrap(), &Tensor::ones([3]).unwrap()],
        )
        .unwrap();
    }

    #[test]
    fn at_zero_nan_and_what_does_not_fit() {
        let tape = crate::Tape::new(0);
        let x = tape.leaf(&Tensor::from([0.0f64, f64::NAN]));
        let y = x.prelu(&Tensor::from([0.25])).unwrap();
        assert!(y.get([1]).unwrap().is_nan());
        assert_eq!(y.sum().backward().unwrap().wrt(&x).unwrap().to_vec(), [0.25; 2]);
        assert_eq!(
            Tensor::<f32>::ones([2, 3])
                .unwrap()
                .prelu(&Tensor::from([1.0, 2.0]))
                .unwrap_err()
                .to_string(),
            "prelu: the weight has shape [2]; it must be one number or one for each of the 3 channels of the input [2, 3]"
        );
    }
}
