//! Rectified linear unit. y = max(x, 0); backward: dx = g where x > 0, else 0.
//!
//! What is kept is one bit per element, so the output (or the input) of a large activation need not stay alive for it.

use super::rule::unrecorded;
use crate::autograd::{Op, apply_total};
use crate::error::Result;
use crate::float::Float;
use crate::kernel::map::Map;
use crate::kernel::relu;
use crate::tensor::Tensor;

struct Relu;

impl<T: Float> Op<T, 1> for Relu {
    /// The bits.
    type Saved = Tensor<u8>;
    fn name(&self) -> &'static str {
        "relu"
    }
    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, Tensor<u8>)> {
        let x = x.dense();
        let values = x.as_slice().unwrap_or(&[]);
        let mut y = Tensor::build(x.shape(), |_| {});
        let mask = Tensor::build(&[relu::mask_len(x.len())], |mask| {
            if let Some(y) = y.unique_dense() {
                relu::forward(values, y, mask);
            }
        });
        Ok((y, mask))
    }
    fn vjp(
        &self,
        mask: Tensor<u8>,
        mut g: Tensor<T>,
        _: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        let Some(mask) = mask.as_slice() else { return Ok([Some(g)]) };
        if let Some(g) = g.unique_dense() {
            relu::backward(None, g, mask);
        } else {
            let from = g.dense();
            g = Tensor::build(from.shape(), |out| relu::backward(from.as_slice(), out, mask));
        }
        Ok([Some(g)])
    }
    fn vjp_recorded(
        &self,
        mask: Tensor<u8>,
        g: Tensor<T>,
        needs: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        let [slope] = self.vjp(mask, g.ones_like(), needs)?;
        Ok([slope.map(|s| g.try_mul(&s)).transpose()?])
    }
}

/// The function alone, for what is not recorded.
#[derive(Clone, Copy)]
struct Rectify;

impl<T: Float> Map<T, T> for Rectify {
    const NS: f64 = 0.25;
    #[inline(always)]
    fn at<const FMA: bool>(self, x: T) -> T {
        if x < T::ZERO { T::ZERO } else { x }
    }
}

impl<T: Float> Tensor<T> {
    /// Rectified linear unit: max(x, 0). The derivative at 0 is 0.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([-1.0f32, 0.0, 2.0]).relu().to_vec(), [0.0, 0.0, 2.0]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn relu(&self) -> Tensor<T> {
        if self.is_recorded() { apply_total(Relu, self) } else { unrecorded("relu", Rectify, self) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::autograd::gradcheck;

    #[test]
    fn recorded_and_not_agree_on_any_layout_and_the_gradient_passes() {
        let x = Tensor::from_fn([7, 9], |i| ((i * 37) % 63) as f64 / 10.0 - 3.05).unwrap();
        let stepped = x.slice_axis(1, crate::Slice::all().step(-2)).unwrap();
        for x in
            [&x, &x.t().unwrap(), &stepped, &Tensor::scalar(-1.5), &Tensor::zeros([0, 3]).unwrap()]
        {
            assert_eq!(Tape::new(0).leaf(x).relu().to_vec(), x.relu().to_vec());
            gradcheck(|[x]| Ok(x.relu()), [x]).unwrap();
        }
    }

    #[test]
    fn the_gradient_of_another_holder_is_left_alone() {
        let tape = Tape::new(0);
        let x = tape.leaf(&Tensor::from([-1.0f32, 2.0]));
        // The sum hands one gradient to both of its inputs.
        let y = x.relu().try_add(&x).unwrap();
        assert_eq!(
            y.backward_with(&Tensor::ones([2]).unwrap()).unwrap().wrt(&x).unwrap().to_vec(),
            [1.0, 2.0]
        );
    }
}
