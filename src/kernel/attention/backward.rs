//! The backward pass.

use std::ops::Range;

use super::{COLS, Problem, Sink, Units, blocks, gather, stride, with_buffers};
use crate::float::Float;
use crate::kernel::gemm::{Columns, MatRef, Strips};
use crate::kernel::par;
use crate::kernel::simd::{Kernel, dispatch};
use crate::kernel::softmax::{W, total};

/// Queries of a block: with 256 keys, two tiles of 157 KiB, which stay in L2. A multiple of all strips.
const ROWS: usize = 144;

/// The problem, what the forward pass left of it, and the gradient that comes in. The columns of `out` and `g` lie side by side.
struct Pass<'a, T: 'static> {
    p: &'a Problem<'a, T>,
    g: &'a Units<'a, T>,
    out: &'a Units<'a, T>,
    lse: &'a [T],
    strips: Strips<T>,
}

/// Where the gradients of Q, K and V go that are asked for.
#[derive(Clone, Copy)]
pub(crate) struct Sinks<'a, T> {
    pub q: Option<Sink<'a, T>>,
    pub k: Option<Sink<'a, T>>,
    pub v: Option<Sink<'a, T>>,
}

/// Writes the gradients.
pub(crate) fn backward<T: Float>(
    p: &Problem<'_, T>,
    g: &Units<'_, T>,
    out: &Units<'_, T>,
    lse: &[T],
    sinks: Sinks<'_, T>,
) {
    let pass = Pass { p, g, out, lse, strips: Strips::new() };
    let (units, [queries, keys]) = (p.k.at.len(), p.size);
    let all = p.ns(queries * p.group);
    // Five products in one go, a unit a part; or seven in smaller parts where threads would have nothing to do. Sums run over the same blocks in the
    // same order either way, so the bits are the same.
    let threads = par::num_threads();
    if threads == 1 || 5 * units.div_ceil(threads) * threads <= 7 * units {
        par::for_each(units, 5.0 * all + 200.0, |u| pass.keys(u, 0..keys, sinks));
        return;
    }
    let (mut of_keys, mut of_queries) = (sinks, sinks);
    of_keys.q = None;
    (of_queries.k, of_queries.v) = (None, None);
    if of_keys.k.is_some() || of_keys.v.is_some() {
        let parts = keys.div_ceil(COLS);
        par::for_each(units * parts, 4.0 * all / parts.max(1) as f64 + 200.0, |i| {
            let start = i % parts * COLS;
            pass.keys(i / parts, start..keys.min(start + COLS), of_keys);
        });
    }
    if of_queries.q.is_some() {
        let parts = queries.div_ceil(ROWS);
        par::for_each(p.units() * parts, 3.0 * p.ns(queries.min(ROWS)) + 200.0, |i| {
            let start = i % parts * ROWS;
            pass.queries(i / parts, start..queries.min(start + ROWS), of_queries);
        });
    }
}

/// A block of K and V, transposed and packed; and the rows of K.
#[derive(Clone, Copy)]
struct Keys<'a, T> {
    kt: Columns<'a, T>,
    vt: Columns<'a, T>,
    k: &'a [T],
}

/// The rows of a block of Q and of the gradient of its output, and D.
#[derive(Clone, Copy)]
struct Queries<'a, T> {
    q: &'a [T],
    g: &'a [T],
    delta: &'a [T],
}

/// The weights of a block of queries and a block of keys, and the gradients of their scores, rows `ld` apart.
struct Tile<'a, T> {
    p: &'a mut [T],
    ds: &'a mut [T],
    ld: usize,
}

impl<T: Float> Pass<'_, T> {
    /// The gradient of a block of queries.
    fn queries(&self, unit: usize, rows: Range<usize>, sinks: Sinks<'_, T>) {
        let p = self.p;
        let ([width, value], m, kv) = (p.width, rows.len(), unit / p.group);
        let keys = p.keys_for(&rows);
        let ld = stride(keys);
        let [kt, vt, k] = self.room_for_keys(keys);
        let lens = [kt, vt, k, m * width, m * value, m * ld, m * ld, m * width, m];
        with_buffers(lens, |[kt, vt, k, q, g, weights, ds, dq, delta]| {
            dispatch(Delta { of: self, unit, rows: &rows, width: value, delta });
            if keys == 0 {
                dq.fill(T::ZERO);
            }
            let queries = self.load_queries(unit, &rows, delta, [q, g]);
            let mut tile = Tile { p: weights, ds, ld };
            for cols in blocks(keys, COLS) {
                let keys = self.load_keys(kv, &cols, [kt, vt, k]);
                self.tile(unit, &rows, &cols, keys, queries, &mut tile, Some(dq), None);
            }
            put(sinks.q, unit, rows.start, dq, width, p.scale);
        });
    }

    /// The gradients of the keys in a range of a unit of K and V, and for all keys those of the units of Q that share it.
    fn keys(&self, kv: usize, range: Range<usize>, sinks: Sinks<'_, T>) {
        let p = self.p;
        let (queries, [width, value]) = (p.size[0], p.width);
        let heads = kv * p.group..(kv + 1) * p.group;
        let (n, m, ld) = (COLS.min(range.len()), ROWS.min(queries), stride(range.len()));
        let all = if sinks.q.is_some() { p.group * queries * width } else { 0 };
        let [kt, vt, k] = self.room_for_keys(range.len());
        let (q, g) = (m * width, m * value);
        let (dk, dv, delta) = (n * width, n * value, p.group * queries);
        let lens = [kt, vt, k, q, g, m * ld, m * ld, dk, dv, all, delta];
        with_buffers(lens, |[kt, vt, k, q, g, weights, ds, dk, dv, dq, delta]| {
            for (unit, delta) in heads.clone().zip(delta.chunks_exact_mut(queries.max(1))) {
                dispatch(Delta { of: self, unit, rows: &(0..queries), width: value, delta });
            }
            if range.is_empty() {
                dq.fill(T::ZERO);
            }
            let mut tile = Tile { p: weights, ds, ld };
            for cols in blocks(range.len(), COLS) {
                let cols = cols.start + range.start..cols.end + range.start;
                let (dk, dv) = (&mut dk[..cols.len() * width], &mut dv[..cols.len() * value]);
                if queries == 0 {
                    dk.fill(T::ZERO);
                    dv.fill(T::ZERO);
                }
                let keys = self.load_keys(kv, &cols, [kt, vt, k]);
                for unit in heads.clone() {
                    for rows in blocks(queries, ROWS) {
                        let at = (unit - heads.start) * queries + rows.start;
                        let delta = &delta[at..at + rows.len()];
                        let queries = self.load_queries(unit, &rows, delta, [q, g]);
                        let dq = sinks.q.map(|_| &mut dq[at * width..][..rows.len() * width]);
                        let first = cols.start == 0 && range.len() == p.size[1];
                        let ahead = (first && p.fetches()).then_some(sinks);
                        self.tile(unit, &rows, &cols, keys, queries, &mut tile, dq, ahead);
                        let more = unit > heads.start || rows.start > 0;
                        if sinks.v.is_some() {
                            let of = (&*tile.p, ld);
                            self.add_columns(&rows, &cols, of, queries.g, value, dv, more);
                        }
                        if sinks.k.is_some() {
                            let of = (&*tile.ds, ld);
                            self.add_columns(&rows, &cols, of, queries.q, width, dk, more);
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

    fn room_for_keys(&self, keys: usize) -> [usize; 3] {
        let ([width, value], n) = (self.p.width, COLS.min(keys));
        [self.strips.packed_len(width, n), self.strips.packed_len(value, n), n * width]
    }

    fn load_keys<'a>(
        &self,
        kv: usize,
        cols: &Range<usize>,
        [kt, vt, k]: [&'a mut [T]; 3],
    ) -> Keys<'a, T> {
        let (p, strips, [width, value]) = (self.p, self.strips, self.p.width);
        let values = strips.pack(value, cols.len(), p.v.from(kv, cols.start).t(), vt);
        Keys {
            kt: p.packed(&strips, kv, cols, kt),
            vt: strips.columns(value, values),
            k: gather(&p.k, kv, cols, width, k),
        }
    }

    fn load_queries<'a>(
        &self,
        unit: usize,
        rows: &Range<usize>,
        delta: &'a [T],
        [q, g]: [&'a mut [T]; 2],
    ) -> Queries<'a, T> {
        let [width, value] = self.p.width;
        Queries {
            q: gather(&self.p.q, unit, rows, width, q),
            g: gather(self.g, unit, rows, value, g),
            delta,
        }
    }

    /// Asks for a share of what the next unit reads, and of where the gradients of this one go.
    fn fetch(&self, unit: usize, part: (usize, usize), sinks: Sinks<'_, T>) {
        let (p, queries, value) = (self.p, self.p.size[0], self.p.width[1]);
        p.fetch(unit + 1, part);
        self.g.fetch(unit + 1, queries, value, part);
        self.out.fetch(unit + 1, queries, value, part);
        sinks.fetch(p, unit, part);
    }

    /// Computes a tile strip by strip, and adds to the gradient of its queries. Meanwhile fetches what comes `ahead`.
    #[allow(clippy::too_many_arguments)]
    fn tile(
        &self,
        unit: usize,
        rows: &Range<usize>,
        cols: &Range<usize>,
        keys: Keys<'_, T>,
        queries: Queries<'_, T>,
        tile: &mut Tile<'_, T>,
        mut dq: Option<&mut [T]>,
        ahead: Option<Sinks<'_, T>>,
    ) {
        let Pass { p, strips, .. } = self;
        let ([width, value], ld) = (p.width, tile.ld);
        for strip in blocks(rows.len(), strips.rows()) {
            if let Some(sinks) = ahead {
                let at = (rows.start + strip.start) / strips.rows();
                self.fetch(unit, (at, p.size[0].div_ceil(strips.rows())), sinks);
            }
            let own = rows.start + strip.start..rows.start + strip.end;
            let (m, n) = (strip.len(), p.seen(&own, cols, strips.rows()));
            if n == 0 {
                continue;
            }
            let s = &mut tile.p[strip.start * ld..strip.end * ld];
            let t = &mut tile.ds[strip.start * ld..strip.end * ld];
            let q = MatRef::rows(&queries.q[strip.start * width..], width);
            let g = MatRef::rows(&queries.g[strip.start * value..], value);
            strips.with_packed(m, q, keys.kt, n, s, ld);
            strips.with_packed(m, g, keys.vt, n, t, ld);
            let seen = cols.start..cols.start + n;
            let delta = &queries.delta[strip.clone()];
            dispatch(ScoreGrads { of: self, unit, queries: own, cols: &seen, delta, s, t, ld });
            if let Some(dq) = &mut dq {
                let dq = &mut dq[strip.start * width..strip.end * width];
                let (t, k) = (MatRef::rows(t, ld), MatRef::rows(keys.k, width));
                strips.product([m, n, width], t, k, dq, width, cols.start > 0);
            }
        }
    }

    /// The transpose of a tile times rows of its queries: what it adds to the gradients of its keys or values.
    #[allow(clippy::too_many_arguments)]
    fn add_columns(
        &self,
        rows: &Range<usize>,
        cols: &Range<usize>,
        (tile, ld): (&[T], usize),
        right: &[T],
        width: usize,
        out: &mut [T],
        accumulate: bool,
    ) {
        let Pass { p, strips, .. } = self;
        let step = strips.rows();
        // The first query whose strip sees one of the keys.
        let mut from = 0;
        for keys in blocks(cols.len(), step) {
            while from < rows.len() {
                let strip = rows.start + from..rows.end.min(rows.start + from + step);
                if p.seen(&strip, cols, step) > keys.start {
                    break;
                }
                from = (from + step).min(rows.len());
            }
            let (m, k) = (keys.len(), rows.len() - from);
            if k == 0 && accumulate {
                return;
            }
            let left = MatRef::new(tile, from * ld + keys.start, 1, ld as isize);
            let right = MatRef::rows(&right[from * width..], width);
            let out = &mut out[keys.start * width..keys.end * width];
            strips.product([m, k, width], left, right, out, width, accumulate);
        }
    }
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
    if let Some(sink) = sink.filter(|_| width > 0) {
        dispatch(Put { sink, unit, start, rows, width, scale });
    }
}

struct Put<'a, 'b, T> {
    sink: Sink<'b, T>,
    unit: usize,
    start: usize,
    rows: &'a [T],
    width: usize,
    scale: T,
}

impl<T: Float> Kernel for Put<'_, '_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Put { sink, unit, start, rows, width, scale } = self;
        for (i, row) in rows.chunks_exact(width).enumerate() {
            // SAFETY: the rows of a unit belong to one part, and the output outlives the loop over parts.
            let out = unsafe { sink.row(unit, start + i, width) };
            for (o, &x) in out.iter_mut().zip(row) {
                *o = x * scale;
            }
        }
    }
}

/// D = row sum (g ∘ O) for some queries of a unit.
struct Delta<'a, 'b, T: 'static> {
    of: &'a Pass<'b, T>,
    unit: usize,
    rows: &'a Range<usize>,
    width: usize,
    delta: &'a mut [T],
}

impl<T: Float> Kernel for Delta<'_, '_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Pass { out, g, .. } = self.of;
        if self.width == 0 {
            return self.delta.fill(T::ZERO);
        }
        for (d, row) in self.delta.iter_mut().zip(self.rows.clone()) {
            let g = &g.data[g.index(self.unit, row)..][..self.width];
            let out = &out.data[out.index(self.unit, row)..][..self.width];
            let ((gs, g_tail), (outs, out_tail)) = (g.as_chunks::<W>(), out.as_chunks::<W>());
            let mut acc = [T::ZERO; W];
            for (g, out) in gs.iter().zip(outs) {
                for ((a, &g), &o) in acc.iter_mut().zip(g).zip(out) {
                    *a = g.vfma::<FMA>(o, *a);
                }
            }
            let tail = g_tail.iter().zip(out_tail);
            *d = tail.fold(total(acc), |sum, (&g, &o)| g.vfma::<FMA>(o, sum));
        }
    }
}

/// For a strip of queries, s = Q·(scale K)ᵀ and t = g·Vᵀ: the weights P = e^(S-L) once more, t = P ∘ (drop(t) - D) and s = drop(P).
struct ScoreGrads<'a, 'b, T: 'static> {
    of: &'a Pass<'b, T>,
    unit: usize,
    queries: Range<usize>,
    cols: &'a Range<usize>,
    delta: &'a [T],
    s: &'a mut [T],
    t: &'a mut [T],
    ld: usize,
}

impl<T: Float> Kernel for ScoreGrads<'_, '_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let ScoreGrads { of, unit, queries, cols, delta, s, t, ld } = self;
        let (p, n) = (of.p, cols.len());
        let lse = &of.lse[unit * p.size[0]..][queries.clone()];
        let rows = s.chunks_exact_mut(ld).zip(t.chunks_exact_mut(ld));
        for (i, (((s, t), &lse), &d)) in rows.zip(lse).zip(delta).enumerate() {
            let row = queries.start + i;
            p.mask(unit, row, cols, s);
            let from = p.number(unit, row, cols.start);
            if let Some(keep) = p.keep {
                for (j, t) in t[..n].iter_mut().enumerate() {
                    *t = keep.apply(from + j, *t);
                }
            }
            let chunks = s.as_chunks_mut::<W>().0.iter_mut().zip(t.as_chunks_mut::<W>().0);
            for (s, t) in chunks.take(n.div_ceil(W)) {
                for (s, t) in s.iter_mut().zip(t) {
                    *s = (*s - lse).vexp_neg::<FMA>();
                    *t = *s * (*t - d);
                }
            }
            if let Some(keep) = p.keep {
                for (j, s) in s[..n].iter_mut().enumerate() {
                    *s = keep.apply(from + j, *s);
                }
            }
        }
    }
}
