//! The forward pass.

use std::ops::Range;

use super::{COLS, Problem, Sink, blocks, gather, stride, with_buffers};
use crate::float::Float;
use crate::kernel::gemm::{Epilogue, MatRef, Strips, gemm};
use crate::kernel::lanes::tree_of_16;
use crate::kernel::par::{self, SyncPtr};
use crate::kernel::simd::{Kernel, dispatch};
use crate::kernel::softmax::{W, total};

/// Queries of a part: many, so that the packed keys serve many, or fewer, where threads would have nothing to do. Multiples of all strips.
const PART: usize = 288;
const SHORT_PART: usize = 48;

/// Up to so many queries, K is not packed.
const FEW: usize = 8;

/// Writes the output, and for each unit and query the logarithm of the sum of its exponentials.
pub(crate) fn forward<T: Float>(p: &Problem<'_, T>, out: Sink<'_, T>, lse: &mut [T]) {
    let [queries, _] = p.size;
    if queries == 0 {
        return;
    }
    assert_eq!(lse.len(), p.units() * queries);
    let threads = par::threads_here();
    let most = if threads == 1 || p.units() >= 4 * threads { PART } else { SHORT_PART };
    let parts = queries.div_ceil(most);
    let units = if parts == 1 && p.fetches() { p.units() } else { 0 };
    let lse = SyncPtr(lse.as_mut_ptr());
    par::for_each(p.units() * parts, 2.0 * p.ns(queries.min(most)) + 100.0, |i| {
        let (unit, start) = (i / parts, i % parts * most);
        let rows = start..queries.min(start + most);
        // SAFETY: `lse` has a number for each unit and query, it is borrowed until the loop has ended, and this part alone writes these.
        let lse = unsafe {
            std::slice::from_raw_parts_mut(lse.get().add(unit * queries + start), rows.len())
        };
        let next = Some(unit + 1).filter(|&next| next < units);
        block(p, unit, rows, next, out, lse);
    });
}

/// The output of a block of queries; meanwhile, the unit that is computed next is fetched.
fn block<T: Float>(
    p: &Problem<'_, T>,
    unit: usize,
    rows: Range<usize>,
    next: Option<usize>,
    out: Sink<'_, T>,
    lse: &mut [T],
) {
    let strips = Strips::<T>::new();
    let (n, value, keys) = (rows.len(), p.width[1], p.keys_for(&rows));
    let (kv, ld, step) = (unit / p.group, stride(keys), strips.rows());
    let few = p.size[0] <= FEW;
    let room = if few { 0 } else { strips.packed_len(p.width[0], COLS.min(keys)) };
    let lens = [room, COLS.min(keys) * value, step * ld, n * value, n, n];
    with_buffers(lens, |[packed, v, s, acc, max, sum]| {
        max.fill(T::neg_infinity());
        sum.fill(T::ZERO);
        if keys == 0 {
            acc.fill(T::ZERO);
        }
        for cols in blocks(keys, COLS) {
            let first = cols.start == 0;
            let packed = (!few).then(|| p.packed(&strips, kv, &cols, packed));
            let v = gather(&p.v, kv, &cols, value, v);
            for strip in blocks(n, step) {
                let queries = rows.start + strip.start..rows.start + strip.end;
                let seen = p.seen(&queries, &cols, step);
                if seen == 0 {
                    continue;
                }
                if let Some(next) = next.filter(|_| first) {
                    let part = (strip.start / step, n.div_ceil(step));
                    p.fetch(next, part);
                    out.fetch(unit, n, value, part);
                }
                let m = strip.len();
                let q = p.q.from(unit, queries.start);
                match packed {
                    Some(packed) => strips.with_packed(m, q, packed, seen, s, ld),
                    None => in_place(p, m, q, p.k.from(kv, cols.start), seen, s, ld),
                }
                let cols = cols.start..cols.start + seen;
                let acc = &mut acc[strip.start * value..strip.end * value];
                let (max, sum) = (&mut max[strip.clone()], &mut sum[strip]);
                let start = queries.start;
                dispatch(Weights { p, unit, start, cols: &cols, s, ld, acc, max, sum, first });
                let (s, v) = (MatRef::rows(s, ld), MatRef::rows(v, value));
                strips.product([m, seen, value], s, v, acc, value, !first);
            }
        }
        dispatch(Finish { unit, start: rows.start, width: value, acc, max, sum, out, lse });
    });
}

/// The scores of a strip by the general product, which reads keys that lie along k where they are.
fn in_place<T: Float>(
    p: &Problem<'_, T>,
    m: usize,
    q: MatRef<'_, T>,
    k: MatRef<'_, T>,
    n: usize,
    s: &mut [T],
    ld: usize,
) {
    gemm(m, p.width[0], n, q, k.t(), s, ld, false, Epilogue::NONE);
    for s in s.chunks_mut(ld).take(m) {
        s[..n].iter_mut().for_each(|x| *x *= p.scale);
    }
}

/// Turns a strip of scores into weights, and brings the sums so far under the new maximum.
struct Weights<'a, 'b, T> {
    p: &'a Problem<'b, T>,
    unit: usize,
    /// The first query.
    start: usize,
    cols: &'a Range<usize>,
    s: &'a mut [T],
    ld: usize,
    acc: &'a mut [T],
    max: &'a mut [T],
    sum: &'a mut [T],
    first: bool,
}

impl<T: Float> Kernel for Weights<'_, '_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Weights { p, unit, start, cols, s, ld, acc, max, sum, first } = self;
        let width = p.width[1];
        let (m, n) = (max.len(), cols.len());
        // All maxima first: a row's exponentials would wait for its own.
        for (i, s) in s.chunks_exact_mut(ld).take(m).enumerate() {
            p.mask(unit, start + i, cols, s);
            let (largest, before) = (largest(&s.as_chunks::<W>().0[..n.div_ceil(W)]), max[i]);
            max[i] = if largest > before { largest } else { before };
            if !first {
                let shrink = (before - shift(max[i])).vexp::<FMA>();
                sum[i] *= shrink;
                if shrink != T::ONE {
                    acc[i * width..][..width].iter_mut().for_each(|a| *a *= shrink);
                }
            }
        }
        for (i, s) in s.chunks_exact_mut(ld).take(m).enumerate() {
            let chunks = &mut s.as_chunks_mut::<W>().0[..n.div_ceil(W)];
            sum[i] += exponentials::<T, FMA>(chunks, shift(max[i]));
            if let Some(keep) = p.keep {
                let from = p.number(unit, start + i, cols.start);
                for (j, x) in s[..n].iter_mut().enumerate() {
                    *x = keep.apply(from + j, *x);
                }
            }
        }
    }
}

/// What is subtracted in front of the exponential, for a maximum: an infinite one would make ∞ - ∞ of the exponent.
#[inline(always)]
fn shift<T: Float>(max: T) -> T {
    if max == T::neg_infinity() { T::ZERO } else { max }
}

/// The largest number; a NaN may be passed over.
#[inline(always)]
fn largest<T: Float>(chunks: &[[T; W]]) -> T {
    let larger = |a: T, x: T| if x > a { x } else { a };
    // One after the other: it is other rows that fill the time in which a comparison waits for the one before.
    let mut acc = [T::neg_infinity(); W];
    for chunk in chunks {
        for (a, &x) in acc.iter_mut().zip(chunk) {
            *a = larger(*a, x);
        }
    }
    tree_of_16(acc, larger)
}

/// x = e^(x-m) where no x is above m; returns the sum.
#[inline(always)]
fn exponentials<T: Float, const FMA: bool>(chunks: &mut [[T; W]], m: T) -> T {
    let mut acc = [T::ZERO; W];
    for chunk in chunks {
        for (a, x) in acc.iter_mut().zip(chunk) {
            *x = (*x - m).vexp_neg::<FMA>();
            *a += *x;
        }
    }
    total(acc)
}

/// Writes O / l and m + ln l for a block of queries.
struct Finish<'a, 'b, T> {
    unit: usize,
    /// The first query.
    start: usize,
    width: usize,
    acc: &'a [T],
    max: &'a [T],
    sum: &'a [T],
    out: Sink<'b, T>,
    lse: &'a mut [T],
}

impl<T: Float> Kernel for Finish<'_, '_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Finish { unit, start, width, acc, max, sum, out, lse } = self;
        for (i, &sum) in sum.iter().enumerate() {
            // Nothing was added up where nothing may be attended to.
            let empty = sum == T::ZERO;
            let scale = if empty { T::ZERO } else { T::ONE / sum };
            // SAFETY: each row belongs to one part, and the output outlives the loop over parts.
            let out = unsafe { out.row(unit, start + i, width) };
            for (o, &a) in out.iter_mut().zip(&acc[i * width..][..width]) {
                *o = if empty { T::ZERO } else { a * scale };
            }
        }
        for ((lse, &max), &sum) in lse.iter_mut().zip(max).zip(sum) {
            *lse = if sum == T::ZERO { T::infinity() } else { max + sum.vln::<FMA>() };
        }
    }
}
