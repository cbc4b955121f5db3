//! Broadcasting undone, in one place: the gradient of an input that was repeated is the sum over its repetitions.

use crate::float::Float;
use crate::tensor::{Layout, Tensor};

/// The sum of `g` over the axes along which `shape` was broadcast to reach the shape of `g`. In row-major order, so deterministic.
pub(crate) fn sum_to<T: Float>(g: &Tensor<T>, shape: &[usize]) -> Tensor<T> {
    if g.shape() == shape {
        return g.clone();
    }
    let pad = g.rank() - shape.len();
    let dense = Layout::dense(shape);
    let stride = |i: usize| if i < pad || shape[i - pad] == 1 { 0 } else { dense.strides[i - pad] };
    let places =
        Layout { shape: g.shape().into(), strides: (0..g.rank()).map(stride).collect(), offset: 0 };
    Tensor::build(shape, |out| {
        out.fill(T::ZERO);
        places.offsets().zip(g.iter()).for_each(|(p, v)| out[p] += v);
    })
}
