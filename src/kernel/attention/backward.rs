//! The backward pass.

use std::ops::Range;

use super::{COLS, Place, Problem, Sink, Units, blocks, multiply, with_buffers};
use crate::float::Float;
use crate::kernel::gemm::MatRef;
use crate::kernel::par;
use crate::kernel::simd::{Kernel, dispatch};
use crate::kernel::softmax::row_dot;

/// The gradients of Q, K and V that are asked for, with where they go.
pub(crate) struct Grads<'a, T> {
    pub q: Option<(&'a mut [T], &'a Place)>,
    pub k: Option<(&'a mut [T], &'a Place)>,
    pub v: Option<(&'a mut [T], &'a Place)>,
}

/// What the forward pass left, and the gradient that comes in. The columns of `out` and `g` lie side by side.
struct Known<'a, T> {
    g: &'a Units<'a, T>,
    out: &'a Units<'a, T>,
    lse: &'a [T],
}

#[derive(Clone, Copy)]
struct Sinks<'a, T> {
    q: Option<Sink<'a, T>>,
    k: Option<Sink<'a, T>>,
    v: Option<Sink<'a, T>>,
}

/// Writes the gradients.
pub(crate) fn backward<T: Float>(
    p: &Problem<'_, T>,
    g: &Units<'_, T>,
    out: &Units<'_, T>,
    lse: &[T],
    grads: Grads<'_, T>,
) {
    let known = Known { g, out, lse };
    let sinks = Sinks {
        q: grads.q.map(|(out, place)| Sink::new(out, place)),
        k: grads.k.map(|(out, place)| Sink::new(out, place)),
        v: grads.v.map(|(out, place)| Sink::new(out, place)),
    };
    let (units, [queries, keys]) = (p.k.at.len(), p.size);
    let all = p.ns(queries * p.group);
    // Five products in one go, a unit a part; or seven in smaller parts where threads would have nothing to do. Sums run over the same blocks in the
    // same order either way, so the bits are the same.
    let threads = par::num_threads();
    if threads == 1 || 5 * units.div_ceil(threads) * threads <= 7 * units {
        par::for_each(units, 5.0 * all + 200.0, |u| shared(p, &known, u, 0..keys, sinks));
        return;
    }
    let (mut of_keys, mut of_queries) = (sinks, sinks);
    of_keys.q = None;
    (of_queries.k, of_queries.v) = (None, None);
    if of_keys.k.is_some() || of_keys.v.is_some() {
        let parts = keys.div_ceil(COLS);
        par::for_each(units * parts, 4.0 * all / parts.max(1) as f64 + 200.0, |i| {
            let start = i % parts * COLS;
            shared(p, &known, i / parts, start..keys.min(start + COLS), of_keys);
        });
    }
    if of_queries.q.is_some() {
        let tile = p.rows();
        let parts = queries.div_ceil(tile);
        par::for_each(p.units() * parts, 3.0 * p.ns(queries.min(tile)) + 200.0, |i| {
            let start = i % parts * tile;
            of_block(p, &known, i / parts, start..queries.min(start + tile), of_queries);
        });
    }
}

/// The gradient of a block of queries.
fn of_block<T: Float>(
    p: &Problem<'_, T>,
    known: &Known<'_, T>,
    unit: usize,
    rows: Range<usize>,
    sinks: Sinks<'_, T>,
) {
    let ([width, value], m) = (p.width, rows.len());
    let keys = p.keys_for(&rows);
    let tile = m * COLS.min(keys);
    with_buffers([tile, tile, m * width, m], |[s, t, dq, delta]| {
        dq.fill(T::ZERO);
        dispatch(Delta { known, unit, rows: &rows, width: value, delta });
        for cols in blocks(keys, COLS) {
            let n = cols.len();
            let (s, t) = (&mut s[..m * n], &mut t[..m * n]);
            let kv = unit / p.group;
            let (v, k) = (p.v.from(kv, cols.start), p.k.from(kv, cols.start));
            p.products(unit, &rows, &cols, s);
            dispatch(Again { p, known, unit, rows: &rows, cols: &cols, s });
            multiply([m, value, n], known.g.from(unit, rows.start), v.t(), t, false);
            dispatch(ScoreGrad { p, unit, rows: &rows, cols: &cols, delta, s, t });
            multiply([m, n, width], MatRef::rows(t, n), k, dq, true);
        }
        put(sinks.q, unit, rows.start, dq, width, p.scale);
    });
}

/// The gradients of the keys in a range of a unit of K and V, and for all keys those of the units of Q that share it.
fn shared<T: Float>(
    p: &Problem<'_, T>,
    known: &Known<'_, T>,
    kv: usize,
    keys: Range<usize>,
    sinks: Sinks<'_, T>,
) {
    let (queries, [width, value]) = (p.size[0], p.width);
    let heads = kv * p.group..(kv + 1) * p.group;
    let block = COLS.min(keys.len());
    let tile = p.rows().min(queries) * block;
    let all = if sinks.q.is_some() { p.group * queries * width } else { 0 };
    let lens = [tile, tile, block * width, block * value, all, p.group * queries];
    with_buffers(lens, |[s, t, dk, dv, dq, delta]| {
        dq.fill(T::ZERO);
        for (unit, delta) in heads.clone().zip(delta.chunks_exact_mut(queries.max(1))) {
            dispatch(Delta { known, unit, rows: &(0..queries), width: value, delta });
        }
        for cols in blocks(keys.len(), COLS) {
            let cols = cols.start + keys.start..cols.end + keys.start;
            let (dk, dv) = (&mut dk[..cols.len() * width], &mut dv[..cols.len() * value]);
            dk.fill(T::ZERO);
            dv.fill(T::ZERO);
            for unit in heads.clone() {
                let (v, k) = (p.v.from(kv, cols.start), p.k.from(kv, cols.start));
                for rows in blocks(queries, p.rows()) {
                    // The keys that these queries see; the gradients of the others stay as they are.
                    let cols = cols.start..cols.end.min(p.keys_for(&rows));
                    if cols.is_empty() {
                        continue;
                    }
                    let (m, n) = (rows.len(), cols.len());
                    let (dk, dv) = (&mut dk[..n * width], &mut dv[..n * value]);
                    let (s, t) = (&mut s[..m * n], &mut t[..m * n]);
                    let g = known.g.from(unit, rows.start);
                    p.products(unit, &rows, &cols, s);
                    dispatch(Again { p, known, unit, rows: &rows, cols: &cols, s });
                    if sinks.v.is_some() {
                        let weights = match p.keep {
                            Some(_) => {
                                dispatch(Dropped { p, unit, rows: &rows, cols: &cols, s, t });
                                &*t
                            }
                            None => &*s,
                        };
                        multiply([n, m, value], MatRef::cols(weights, n), g, dv, true);
                    }
                    if sinks.q.is_none() && sinks.k.is_none() {
                        continue;
                    }
                    multiply([m, value, n], g, v.t(), t, false);
                    let at = (unit - heads.start) * queries + rows.start;
                    let delta = &delta[at..at + m];
                    dispatch(ScoreGrad { p, unit, rows: &rows, cols: &cols, delta, s, t });
                    if sinks.q.is_some() {
                        let dq = &mut dq[at * width..][..m * width];
                        multiply([m, n, width], MatRef::rows(t, n), k, dq, true);
                    }
                    if sinks.k.is_some() {
                        let q = p.q.from(unit, rows.start);
                        multiply([n, m, width], MatRef::cols(t, n), q, dk, true);
                    }
                }
            }
            // The scale of the scores was left out of dS.
            put(sinks.k, kv, cols.start, dk, width, p.scale);
            put(sinks.v, kv, cols.start, dv, value, T::ONE);
        }
        for (i, unit) in heads.clone().enumerate() {
            let len = if all == 0 { 0 } else { queries * width };
            put(sinks.q, unit, 0, &dq[i * len..][..len], width, p.scale);
        }
    });
}

/// Writes rows, scaled, from row `start` of a unit on.
fn put<T: Float>(
    sink: Option<Sink<'_, T>>,
    unit: usize,
    start: usize,
    rows: &[T],
    width: usize,
    scale: T,
) {
    let Some(sink) = sink.filter(|_| width > 0) else { return };
    for (i, row) in rows.chunks_exact(width).enumerate() {
        // SAFETY: the rows of a unit belong to one part, and the output outlives the loop over parts.
        let out = unsafe { sink.row(unit, start + i, width) };
        for (o, &x) in out.iter_mut().zip(row) {
            *o = x * scale;
        }
    }
}

/// D = row sum (g ∘ O) for some queries of a unit.
struct Delta<'a, 'b, T> {
    known: &'a Known<'b, T>,
    unit: usize,
    rows: &'a Range<usize>,
    width: usize,
    delta: &'a mut [T],
}

impl<T: Float> Kernel for Delta<'_, '_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Known { g, out, .. } = self.known;
        if self.width == 0 {
            return self.delta.fill(T::ZERO);
        }
        for (d, row) in self.delta.iter_mut().zip(self.rows.clone()) {
            let g = &g.data[g.index(self.unit, row)..][..self.width];
            let out = &out.data[out.index(self.unit, row)..][..self.width];
            *d = row_dot::<T, FMA>(g, out);
        }
    }
}

/// The weights of a tile once more: P = e^(S-L).
struct Again<'a, 'b, T> {
    p: &'a Problem<'b, T>,
    known: &'a Known<'b, T>,
    unit: usize,
    rows: &'a Range<usize>,
    cols: &'a Range<usize>,
    s: &'a mut [T],
}

impl<T: Float> Kernel for Again<'_, '_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (i, s) in self.s.chunks_exact_mut(self.cols.len()).enumerate() {
            let row = self.rows.start + i;
            self.p.finish(self.unit, row, self.cols, s);
            let lse = self.known.lse[self.unit * self.p.size[0] + row];
            for x in s {
                *x = (*x - lse).vexp::<FMA>();
            }
        }
    }
}

/// t = drop(P).
struct Dropped<'a, 'b, T> {
    p: &'a Problem<'b, T>,
    unit: usize,
    rows: &'a Range<usize>,
    cols: &'a Range<usize>,
    s: &'a [T],
    t: &'a mut [T],
}

impl<T: Float> Kernel for Dropped<'_, '_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Some(keep) = self.p.keep else { return };
        let n = self.cols.len();
        for (i, (s, t)) in self.s.chunks_exact(n).zip(self.t.chunks_exact_mut(n)).enumerate() {
            let from = self.p.number(self.unit, self.rows.start + i, self.cols.start);
            for (j, (t, &s)) in t.iter_mut().zip(s).enumerate() {
                *t = keep.apply(from + j, s);
            }
        }
    }
}

/// t = P ∘ (drop(t) - D).
struct ScoreGrad<'a, 'b, T> {
    p: &'a Problem<'b, T>,
    unit: usize,
    rows: &'a Range<usize>,
    cols: &'a Range<usize>,
    delta: &'a [T],
    s: &'a [T],
    t: &'a mut [T],
}

impl<T: Float> Kernel for ScoreGrad<'_, '_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let n = self.cols.len();
        for (i, (s, t)) in self.s.chunks_exact(n).zip(self.t.chunks_exact_mut(n)).enumerate() {
            if let Some(keep) = self.p.keep {
                let from = self.p.number(self.unit, self.rows.start + i, self.cols.start);
                for (j, t) in t.iter_mut().enumerate() {
                    *t = keep.apply(from + j, *t);
                }
            }
            let d = self.delta[i];
            for (t, &s) in t.iter_mut().zip(s) {
                *t = s * (*t - d);
            }
        }
    }
}
