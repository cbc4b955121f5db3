//! The forward pass.

use std::ops::Range;

use super::{COLS, Place, Problem, Sink, blocks, multiply, with_buffers};
use crate::float::Float;
use crate::kernel::gemm::MatRef;
use crate::kernel::par::{self, SyncPtr};
use crate::kernel::simd::{Kernel, dispatch};
use crate::kernel::softmax::{W, padded, row_max, total};

/// Writes the output, and for each unit and query the logarithm of the sum of its exponentials.
pub(crate) fn forward<T: Float>(p: &Problem<'_, T>, out: &mut [T], place: &Place, lse: &mut [T]) {
    let [queries, _] = p.size;
    if queries == 0 {
        return;
    }
    assert_eq!(lse.len(), p.units() * queries);
    let tile = p.rows();
    let parts = queries.div_ceil(tile);
    let (out, lse) = (Sink::new(out, place), SyncPtr(lse.as_mut_ptr()));
    par::for_each(p.units() * parts, 2.0 * p.ns(queries.min(tile)) + 100.0, |i| {
        let (unit, start) = (i / parts, i % parts * tile);
        let rows = start..queries.min(start + tile);
        // SAFETY: `lse` has a number for each unit and query, it is borrowed until the loop has ended, and this part alone writes these.
        let lse = unsafe {
            std::slice::from_raw_parts_mut(lse.get().add(unit * queries + start), rows.len())
        };
        block(p, unit, rows, out, lse);
    });
}

/// The output of a block of queries.
fn block<T: Float>(
    p: &Problem<'_, T>,
    unit: usize,
    rows: Range<usize>,
    out: Sink<'_, T>,
    lse: &mut [T],
) {
    let (n, width) = (rows.len(), p.width[1]);
    let keys = p.keys_for(&rows);
    with_buffers([n * COLS.min(keys), n * width, n, n], |[s, acc, max, sum]| {
        max.fill(T::neg_infinity());
        sum.fill(T::ZERO);
        if keys == 0 {
            acc.fill(T::ZERO);
        }
        for cols in blocks(keys, COLS) {
            let s = &mut s[..n * cols.len()];
            p.products(unit, &rows, &cols, s);
            let first = cols.start == 0;
            dispatch(Weights { p, unit, rows: &rows, cols: &cols, s, acc, max, sum, first });
            let v = p.v.from(unit / p.group, cols.start);
            multiply([n, cols.len(), width], MatRef::rows(s, cols.len()), v, acc, !first);
        }
        for i in 0..n {
            // Nothing was added up where nothing may be attended to.
            let empty = sum[i] == T::ZERO;
            let scale = if empty { T::ZERO } else { T::ONE / sum[i] };
            // SAFETY: each row belongs to one part, and the output outlives the loop over parts.
            let out = unsafe { out.row(unit, rows.start + i, width) };
            for (o, &a) in out.iter_mut().zip(&acc[i * width..][..width]) {
                *o = if empty { T::ZERO } else { a * scale };
            }
            lse[i] = if empty { T::infinity() } else { max[i] + num_traits::Float::ln(sum[i]) };
        }
    });
}

/// Turns a tile of products into weights, and brings the sums so far under the new maximum.
struct Weights<'a, 'b, T> {
    p: &'a Problem<'b, T>,
    unit: usize,
    rows: &'a Range<usize>,
    cols: &'a Range<usize>,
    s: &'a mut [T],
    acc: &'a mut [T],
    max: &'a mut [T],
    sum: &'a mut [T],
    first: bool,
}

impl<T: Float> Kernel for Weights<'_, '_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Weights { p, unit, rows, cols, s, acc, max, sum, first } = self;
        let width = p.width[1];
        for (i, s) in s.chunks_exact_mut(cols.len()).enumerate() {
            let row = rows.start + i;
            p.finish(unit, row, cols, s);
            let (m, before) = (row_max(s), max[i]);
            let m = if m > before { m } else { before };
            // An infinite maximum would make ∞ - ∞ of the exponent.
            let shift = if m == T::neg_infinity() { T::ZERO } else { m };
            let now = exp_row::<T, FMA>(s, shift);
            if first {
                sum[i] = now;
            } else {
                let shrink = (before - shift).vexp::<FMA>();
                sum[i] = sum[i] * shrink + now;
                if shrink != T::ONE {
                    acc[i * width..][..width].iter_mut().for_each(|a| *a *= shrink);
                }
            }
            max[i] = m;
            if let Some(keep) = p.keep {
                let from = p.number(unit, row, cols.start);
                for (j, x) in s.iter_mut().enumerate() {
                    *x = keep.apply(from + j, *x);
                }
            }
        }
    }
}

/// x = e^(x-m); returns the sum.
#[inline(always)]
fn exp_row<T: Float, const FMA: bool>(x: &mut [T], m: T) -> T {
    let mut acc = [T::ZERO; W];
    let mut take = |c: &mut [T; W]| {
        for (a, x) in acc.iter_mut().zip(c) {
            *x = (*x - m).vexp::<FMA>();
            *a += *x;
        }
    };
    let (chunks, tail) = x.as_chunks_mut::<W>();
    chunks.iter_mut().for_each(&mut take);
    if !tail.is_empty() {
        let mut last = padded(tail, T::neg_infinity());
        take(&mut last);
        tail.copy_from_slice(&last[..tail.len()]);
    }
    total(acc)
}
