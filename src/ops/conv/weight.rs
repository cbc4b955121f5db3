//! The gradients of weights and biases, shared by both directions.

use super::forward::Convolve;
use super::transposed::Transposed;
use crate::autograd::{Op, apply};
use crate::error::Result;
use crate::float::Float;
use crate::kernel::conv::{self, Conv};
use crate::tensor::{Dims, Tensor};

/// A dense tensor's elements.
pub(super) fn slice<T: Float>(t: &Tensor<T>) -> &[T] {
    t.as_slice().unwrap_or(&[])
}

/// The gradients of weight and bias that are asked for.
pub(super) fn weight_and_bias<T: Float>(
    c: &Conv,
    x: &Tensor<T>,
    g: &Tensor<T>,
    w: &Tensor<T>,
    needs: [bool; 2],
) -> (Option<Tensor<T>>, Option<Tensor<T>>) {
    let x = x.dense();
    let filters = [c.groups * c.c_out];
    let mut db = None;
    let mut both = |dw: Option<&mut [T]>| {
        db = match needs[1] {
            true => Some(Tensor::build(&filters, |db| {
                conv::weight_grad(c, slice(&x), slice(g), dw, Some(db))
            })),
            false => {
                conv::weight_grad(c, slice(&x), slice(g), dw, None);
                None
            }
        };
    };
    let dw = match needs[0] {
        true => Some(Tensor::build(w.shape(), |dw| both(Some(dw)))),
        false => {
            both(None);
            None
        }
    };
    (dw, db)
}

/// The gradient of a weight, linear in x and in g: its own gradients are a transposed convolution of g and a convolution of x, both
/// with the incoming gradient as the weight.
pub(super) struct WeightGradient {
    pub conv: Conv,
    pub weight: Dims,
}

impl<T: Float> Op<T, 2> for WeightGradient {
    type Saved = (Tensor<T>, Tensor<T>);
    const COMPOSED: bool = true;
    fn name(&self) -> &'static str {
        "convolution (gradient of the weight)"
    }
    fn forward(&self, [x, g]: [&Tensor<T>; 2]) -> Result<(Tensor<T>, Self::Saved)> {
        let (dense_x, dense_g) = (x.dense(), g.dense());
        let dw = Tensor::build(&self.weight, |dw| {
            conv::weight_grad(&self.conv, slice(&dense_x), slice(&dense_g), Some(dw), None);
        });
        Ok((dw, (x.clone(), g.clone())))
    }
    fn vjp(
        &self,
        (x, g): Self::Saved,
        h: Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        let c = self.conv;
        let name = Op::<T, 2>::name(self);
        let dx = match needs[0] {
            true => Some(apply(Transposed { name, conv: c, out: x.shape().into() }, [&g, &h])?),
            false => None,
        };
        let dg = match needs[1] {
            true => Some(apply(
                Convolve { name, conv: c, out: g.shape().into(), relu: false },
                [&x, &h],
            )?),
            false => None,
        };
        Ok([dx, dg])
    }
    fn flops(&self, _: [&[usize]; 2]) -> u64 {
        self.conv.flop() as u64
    }
}

/// The sum over all pixels of each of `filters` planes, recorded.
pub(super) fn bias_recorded<T: Float>(
    g: &Tensor<T>,
    batch: usize,
    filters: usize,
) -> Result<Tensor<T>> {
    let plane = if g.is_empty() { 0 } else { g.len() / (batch * filters) };
    g.reshape([batch, filters, plane])?.sum_axes([0, 2], false)
}
