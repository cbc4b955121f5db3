//! Writes into part of a larger array.

use crate::element::Element;
use crate::tensor::Layout;

/// Copies the elements that `from` shows of `data` to the places that `to` shows of `out`; the shapes are equal.
pub(crate) fn place<T: Element>(data: &[T], from: &Layout, out: &mut [T], to: &Layout) {
    debug_assert_eq!(from.shape, to.shape);
    if to.is_dense() {
        // The places are one run, as for the first axis of a concatenation: the fast copy knows how to fill it.
        let n = to.len();
        let start = if n == 0 { 0 } else { to.offset };
        return super::copy::to_dense(data, from, &mut out[start..start + n]);
    }
    let Some((&run, outer)) = from.shape.split_last() else {
        out[to.offset] = data[from.offset];
        return;
    };
    if run == 0 {
        return;
    }
    let (step_in, step_out) = (from.strides[outer.len()], to.strides[outer.len()]);
    let rows = |l: &Layout| Layout {
        shape: outer.into(),
        strides: l.strides[..outer.len()].into(),
        offset: l.offset,
    };
    for (i, o) in rows(from).offsets().zip(rows(to).offsets()) {
        if step_in == 1 && step_out == 1 {
            out[o..o + run].copy_from_slice(&data[i..i + run]);
            continue;
        }
        let (mut i, mut o) = (i as isize, o as isize);
        for _ in 0..run {
            out[o as usize] = data[i as usize];
            i += step_in;
            o += step_out;
        }
    }
}
