//! Copies between layouts.

use crate::element::Element;
use crate::tensor::Layout;

/// Writes the elements that `layout` shows of `data` into `out`, in row-major order.
pub(crate) fn to_dense<T: Element>(data: &[T], layout: &Layout, out: &mut [T]) {
    if out.is_empty() {
        return;
    }
    if layout.is_dense() {
        out.copy_from_slice(&data[layout.offset..layout.offset + out.len()]);
        return;
    }
    for (o, p) in out.iter_mut().zip(layout.offsets()) {
        *o = data[p];
    }
}
