//! Rows of a table by number, and the way back.

use super::par;
use super::simd::{Kernel, dispatch};
use crate::float::Float;

/// Elements that make a part of their own.
const PART: usize = 1 << 14;
/// At most so many parts of the table look through the ids.
const MAX_PARTS: usize = 16;

/// Row `ids[k]` of `table`, of `width` elements each, as row `k` of `out`; zeros for the id `skip`.
pub(crate) fn gather<T: Float>(
    table: &[T],
    width: usize,
    ids: &[usize],
    skip: Option<usize>,
    out: &mut [T],
) {
    if width == 0 {
        return;
    }
    let rows = (PART / width).max(1);
    par::for_each_chunk_mut(out, rows * width, 0.2, |i, out| {
        for (&id, out) in ids[i * rows..].iter().zip(out.chunks_exact_mut(width)) {
            match Some(id) == skip {
                true => out.fill(T::ZERO),
                false => out.copy_from_slice(&table[id * width..][..width]),
            }
        }
    });
}

struct AddRows<'a, T> {
    g: &'a [T],
    width: usize,
    ids: &'a [usize],
    skip: Option<usize>,
    first: usize,
    out: &'a mut [T],
}

impl<T: Float> Kernel for AddRows<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let AddRows { g, width, ids, skip, first, out } = self;
        out.fill(T::ZERO);
        let rows = out.len() / width;
        for (&id, g) in ids.iter().zip(g.chunks_exact(width)) {
            let row = id.wrapping_sub(first);
            if row < rows && Some(id) != skip {
                for (o, &g) in out[row * width..][..width].iter_mut().zip(g) {
                    *o += g;
                }
            }
        }
    }
}

/// `out`, a table, gets zeros plus each row `k` of `g` at row `ids[k]`, in the order of k; those of the id `skip` are left out. Each part of the
/// table looks through all ids for its own, so that no two threads add to one row.
pub(crate) fn add_rows<T: Float>(
    g: &[T],
    width: usize,
    ids: &[usize],
    skip: Option<usize>,
    out: &mut [T],
) {
    if width == 0 {
        return;
    }
    let rows = out.len() / width;
    let each = rows.div_ceil(MAX_PARTS).max(PART / width).max(1);
    let parts = rows.div_ceil(each).max(1) as f64;
    let ns = 0.2 + 0.3 * g.len() as f64 / parts / (each * width) as f64;
    par::for_each_chunk_mut(out, each * width, ns, |i, out| {
        dispatch(AddRows { g, width, ids, skip, first: i * each, out });
    });
}
