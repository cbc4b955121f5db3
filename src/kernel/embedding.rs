//! Rows of a table by number, and the way back.

use super::par;
use super::simd::{Kernel, dispatch, prefetch};
use crate::element::Element;
use crate::float::Float;

/// Elements that make a part of their own.
const PART: usize = 1 << 14;
/// Elements at the beginning of a row that are asked for ahead.
const BEGINNING: usize = 128;
/// At most so many parts of the table look through the ids.
const MAX_PARTS: usize = 16;

/// Row `ids[k]` of `table`, of `width` elements each, as row `k` of `out`; zeros for the id `skip`. Of several tables of `size` rows one after the
/// other, these rows of each.
pub(crate) fn gather<T: Element>(
    table: &[T],
    [size, width]: [usize; 2],
    ids: &[usize],
    skip: Option<usize>,
    out: &mut [T],
) {
    if out.is_empty() {
        return;
    }
    let rows = (PART / width).max(1);
    par::for_each_chunk_mut(out, rows * width, 0.2, |i, mut out| {
        let mut at = i * rows;
        while !out.is_empty() {
            let (number, first) = (at / ids.len(), at % ids.len());
            let count = (ids.len() - first).min(out.len() / width);
            let (now, rest) = out.split_at_mut(count * width);
            let table = &table[number * size * width..][..size * width];
            let ids = &ids[first..first + count];
            match width {
                1 => dispatch(Numbers { table, ids, skip, out: now }),
                _ => gather_rows(table, ids, skip, width, now),
            }
            (at, out) = (at + count, rest);
        }
    });
}

fn gather_rows<T: Element>(
    table: &[T],
    ids: &[usize],
    skip: Option<usize>,
    width: usize,
    out: &mut [T],
) {
    for (k, (&id, out)) in ids.iter().zip(out.chunks_exact_mut(width)).enumerate() {
        // The processor finds out only after some lines that a new row is being read; the first ones are asked for beforehand.
        if let Some(next) = ids.get(k + 1) {
            prefetch(table, next * width, BEGINNING.min(width));
        }
        match Some(id) == skip {
            true => out.fill(T::ZERO),
            false => out.copy_from_slice(&table[id * width..][..width]),
        }
    }
}

/// Rows of one number.
struct Numbers<'a, T> {
    table: &'a [T],
    ids: &'a [usize],
    skip: Option<usize>,
    out: &'a mut [T],
}

impl<T: Element> Kernel for Numbers<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (o, &id) in self.out.iter_mut().zip(self.ids) {
            *o = if Some(id) == self.skip { T::ZERO } else { self.table[id] };
        }
    }
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
