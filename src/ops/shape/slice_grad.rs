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
            self.clear_rest(out);
            let at = Layout::dense(&self.into).slice(self.axis, self.start, self.count, self.step);
            crate::kernel::place::place(g.buffer(), g.layout(), out, &at);
        });
        Ok((y, ()))
    }
    fn vjp(&self, (): (), h: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        Ok([Some(apply_view(View::Slice(self.axis, self.start, self.count, self.step), &h))])
    }
}

impl PutSlice {
    /// Zeros where the slice is not: what it covers is written only once. (All zeros, if it leaves gaps.)
    fn clear_rest<T: Float>(&self, out: &mut [T]) {
        let inner: usize = self.into[self.axis + 1..].iter().product();
        let row = self.into[self.axis] * inner;
        if self.step != 1 || row == 0 {
            return out.fill(T::ZERO);
        }
        for row in out.chunks_exact_mut(row) {
            row[..self.start * inner].fill(T::ZERO);
            row[(self.start + self.count) * inner..].fill(T::ZERO);
        }
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
