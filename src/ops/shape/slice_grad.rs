//! The gradient of a slice: zeros, with the slice's gradient in its place.

use crate::autograd::{Op, apply};
use crate::error::Result;
use crate::float::Float;
use crate::tensor::{Dims, Layout, Tensor};

use super::apply_view;
use super::view::View;

/// Puts `g` into zeros of shape `into`. Its own gradient is the slice again.
struct PutSlice {
    into: Dims,
    axis: usize,
    start: usize,
    step: isize,
    count: usize,
}

impl<T: Float> Op<T, 1> for PutSlice {
    type Saved = ();
    const COMPOSED: bool = true;
    fn name(&self) -> &'static str {
        "slice (gradient)"
    }
    fn forward(&self, [g]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, ())> {
        let y = Tensor::build(&self.into, |out| {
            out.fill(T::ZERO);
            let at = Layout::dense(&self.into).slice(self.axis, self.start, self.count, self.step);
            crate::kernel::place::place(g.buffer(), g.layout(), out, &at);
        });
        Ok((y, ()))
    }
    fn vjp(&self, (): (), h: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        Ok([Some(apply_view(View::Slice(self.axis, self.start, self.count, self.step), &h))])
    }
}

pub(super) fn put_slice<T: Float>(
    g: &Tensor<T>,
    into: &[usize],
    axis: usize,
    start: usize,
    step: isize,
) -> Result<Tensor<T>> {
    apply(PutSlice { into: into.into(), axis, start, step, count: g.shape()[axis] }, [g])
}
