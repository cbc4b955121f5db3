//! Shape: views, slices, joining and splitting.

mod diagonal;
mod join;
mod pad;
mod slice;
mod slice_grad;
mod view;

pub use pad::PadMode;
pub use slice::{Index, IntoIndices, Slice};

use crate::autograd::Op;
use crate::element::Element;
use crate::error::Result;
use crate::float::Float;
use crate::ops::float_only::record_if_float;
use crate::profile::Span;
use crate::tensor::{Dims, Layout, Tensor};
use view::View;

/// A view as an operation on the tape.
struct ViewOp {
    view: View,
    from: Dims,
}

impl<T: Float> Op<T, 1> for ViewOp {
    type Saved = ();
    const COMPOSED: bool = true;
    fn name(&self) -> &'static str {
        self.view.name()
    }
    #[allow(private_interfaces)]
    fn part(&self) -> Option<Layout> {
        self.view.part(&self.from)
    }
    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, ())> {
        Ok((self.view.forward(x)?, ()))
    }
    fn vjp(&self, (): (), g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        Ok([Some(self.view.vjp(&self.from, &g)?)])
    }
}

/// Views a tensor of any element type, recorded if the tensor is. Only a reshape that must copy can fail, for want of memory.
fn try_view<T: Element>(view: View, x: &Tensor<T>) -> Result<Tensor<T>> {
    if !x.is_recorded() {
        let span = Span::open();
        let y = view.forward(x)?;
        Span::moved(span, view.name(), &[x], &y);
        return Ok(y);
    }
    let op = ViewOp { from: x.shape().into(), view: view.clone() };
    record_if_float(op, [x], |[x]| view.forward(x))
}

/// [`try_view`] for views that copy nothing.
fn apply_view<T: Element>(view: View, x: &Tensor<T>) -> Tensor<T> {
    match try_view(view, x) {
        Ok(y) => y,
        Err(e) => unreachable!("a view that copies nothing cannot fail, but said: {e}"),
    }
}
