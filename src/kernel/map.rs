//! Elementwise loops: one value at each place from the values at the same place of one, two or three inputs.
//!
//! An operation is a small struct with an inlined function of scalars ([`Map`], [`Zip`], [`Zip3`]). It is compiled into one loop
//! over dense slices per instruction set, and that is all that is compiled for each operation. Layouts are the business of
//! [`source`](super::source), which knows elements but no operations. An operation in place reads its own output through a block in
//! the first cache, so that it needs no loop of its own either.
//!
//! Each place is computed alone by the same instructions wherever it stands, so how the work is cut never shows in the bits.

use super::par;
use super::simd::{Kernel, dispatch};
pub(crate) use super::source::View;
use super::source::{BLOCK, Source};
use crate::element::Element;

/// Nanoseconds for an element where memory is the limit.
pub(crate) const CHEAP: f64 = 0.25;

/// A function of one value.
pub(crate) trait Map<A, O>: Copy + Sync {
    /// Estimated nanoseconds for an element, which decides whether threads are worth it.
    const NS: f64 = CHEAP;
    /// The value. Must be `#[inline(always)]`.
    fn at<const FMA: bool>(self, a: A) -> O;
    /// The values of a run, by a faster way than one by one; `false`, and nothing done, where there is none.
    #[inline(always)]
    fn run(self, _a: &[A], _out: &mut [O]) -> bool {
        false
    }
    /// Whether there are values that [`at`](Self::at) cannot take, for whose sake it would be slower for all, or no loop of vectors.
    const RARE: bool = false;
    /// Whether this is one. Must be `#[inline(always)]`.
    #[inline(always)]
    fn is_rare(self, _a: A) -> bool {
        false
    }
    /// The value for such a one, which replaces what [`at`](Self::at) gave. Must be `#[inline(always)]`.
    #[inline(always)]
    fn rare<const FMA: bool>(self, a: A) -> O {
        self.at::<FMA>(a)
    }
}

/// A function of two values.
pub(crate) trait Zip<A, B, O>: Copy + Sync {
    /// As [`Map::NS`].
    const NS: f64 = CHEAP;
    /// The value. Must be `#[inline(always)]`.
    fn at<const FMA: bool>(self, a: A, b: B) -> O;
    /// As [`Map::RARE`].
    const RARE: bool = false;
    /// As [`Map::is_rare`].
    #[inline(always)]
    fn is_rare(self, _a: A, _b: B) -> bool {
        false
    }
    /// As [`Map::rare`].
    #[inline(always)]
    fn rare<const FMA: bool>(self, a: A, b: B) -> O {
        self.at::<FMA>(a, b)
    }
}

/// A function of three values.
pub(crate) trait Zip3<A, B, C, O>: Copy + Sync {
    /// As [`Map::NS`].
    const NS: f64 = CHEAP;
    /// The value. Must be `#[inline(always)]`.
    fn at<const FMA: bool>(self, a: A, b: B, c: C) -> O;
}

struct MapLoop<'a, M, A, O>(M, &'a [A], &'a mut [O]);
impl<A: Copy, O, M: Map<A, O>> Kernel for MapLoop<'_, M, A, O> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let MapLoop(op, a, out) = self;
        let mut rare = false;
        for (o, &a) in out.iter_mut().zip(a) {
            *o = op.at::<FMA>(a);
            rare |= op.is_rare(a);
        }
        if M::RARE && rare {
            for (o, &a) in out.iter_mut().zip(a) {
                if op.is_rare(a) {
                    *o = op.rare::<FMA>(a);
                }
            }
        }
    }
}

struct ZipLoop<'a, M, A, B, O>(M, &'a [A], &'a [B], &'a mut [O]);
impl<A: Copy, B: Copy, O, M: Zip<A, B, O>> Kernel for ZipLoop<'_, M, A, B, O> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let ZipLoop(op, a, b, out) = self;
        let mut rare = false;
        for (o, (&a, &b)) in out.iter_mut().zip(a.iter().zip(b)) {
            *o = op.at::<FMA>(a, b);
            rare |= op.is_rare(a, b);
        }
        if M::RARE && rare {
            for (o, (&a, &b)) in out.iter_mut().zip(a.iter().zip(b)) {
                if op.is_rare(a, b) {
                    *o = op.rare::<FMA>(a, b);
                }
            }
        }
    }
}

struct Zip3Loop<'a, M, A, B, C, O>(M, &'a [A], &'a [B], &'a [C], &'a mut [O]);
impl<A: Copy, B: Copy, C: Copy, O, M: Zip3<A, B, C, O>> Kernel for Zip3Loop<'_, M, A, B, C, O> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let op = self.0;
        let inputs = self.1.iter().zip(self.2).zip(self.3);
        for (o, ((&a, &b), &c)) in self.4.iter_mut().zip(inputs) {
            *o = op.at::<FMA>(a, b, c);
        }
    }
}

/// `out = op(a)` for a run.
#[inline]
fn map_run<A: Copy, O, M: Map<A, O>>(op: M, a: &[A], out: &mut [O]) {
    if !op.run(a, out) {
        dispatch(MapLoop(op, a, out));
    }
}

/// `out = op(a)`, in row-major order.
pub(crate) fn map<A: Element, O: Element, M: Map<A, O>>(op: M, a: View<'_, A>, out: &mut [O]) {
    let each = |a: &[A], out: &mut [O]| map_run(op, a, out);
    match a.dense(out.len()) {
        Some(a) if out.len() <= grain(M::NS) => each(a, out),
        _ => map_any(&each, a, out, M::NS),
    }
}

/// `a = op(a)`.
pub(crate) fn map_assign<A: Element, M: Map<A, A>>(op: M, a: &mut [A]) {
    let each = |a: &[A], out: &mut [A]| map_run(op, a, out);
    map_assign_any(&each, a, M::NS);
}

/// `out = op(a, b)`, in row-major order; the layouts have one shape.
pub(crate) fn zip<A: Element, B: Element, O: Element, M: Zip<A, B, O>>(
    op: M,
    a: View<'_, A>,
    b: View<'_, B>,
    out: &mut [O],
) {
    let each = |a: &[A], b: &[B], out: &mut [O]| dispatch(ZipLoop(op, a, b, out));
    match (a.dense(out.len()), b.dense(out.len())) {
        (Some(a), Some(b)) if out.len() <= grain(M::NS) => each(a, b, out),
        _ => zip_any(&each, a, b, out, M::NS),
    }
}

/// `a = op(a, b)`; `a` stands in row-major order, and the layout of `b` has its shape.
pub(crate) fn zip_assign<A: Element, B: Element, M: Zip<A, B, A>>(
    op: M,
    a: &mut [A],
    b: View<'_, B>,
) {
    let each = |a: &[A], b: &[B], out: &mut [A]| dispatch(ZipLoop(op, a, b, out));
    zip_assign_any(&each, a, b, M::NS);
}

/// `out = op(a, b, c)`, in row-major order; the layouts have one shape.
pub(crate) fn zip3<A: Element, B: Element, C: Element, O: Element, M: Zip3<A, B, C, O>>(
    op: M,
    a: View<'_, A>,
    b: View<'_, B>,
    c: View<'_, C>,
    out: &mut [O],
) {
    let each = |a: &[A], b: &[B], c: &[C], out: &mut [O]| dispatch(Zip3Loop(op, a, b, c, out));
    match (a.dense(out.len()), b.dense(out.len()), c.dense(out.len())) {
        (Some(a), Some(b), Some(c)) if out.len() <= grain(M::NS) => each(a, b, c, out),
        _ => zip3_any(&each, a, b, c, out, M::NS),
    }
}

/// How many elements one part of a parallel loop has: about ten microseconds' worth, and whole cache lines.
fn grain(ns: f64) -> usize {
    ((10_000.0 / ns) as usize).clamp(1 << 10, 1 << 16) & !63
}

/// Runs `part` with the parts of `out` and where they begin.
fn parts<O: Element>(out: &mut [O], ns: f64, part: impl Fn(usize, &mut [O]) + Sync) {
    let grain = grain(ns);
    par::for_each_chunk_mut(out, grain, ns, |i, out| part(i * grain, out));
}

/// Cuts the first `n` elements off.
fn cut<'a, O>(out: &mut &'a mut [O], n: usize) -> &'a mut [O] {
    let (now, rest) = std::mem::take(out).split_at_mut(n);
    *out = rest;
    now
}

/// A loop over dense slices, its operation erased: what follows is compiled once for all operations on the same types.
type Loop1<'a, A, O> = &'a (dyn Fn(&[A], &mut [O]) + Sync);
type Loop2<'a, A, B, O> = &'a (dyn Fn(&[A], &[B], &mut [O]) + Sync);
type Loop3<'a, A, B, C, O> = &'a (dyn Fn(&[A], &[B], &[C], &mut [O]) + Sync);

fn map_any<A: Element, O: Element>(each: Loop1<'_, A, O>, a: View<'_, A>, out: &mut [O], ns: f64) {
    let a = Source::new(a, out.len());
    parts(out, ns, |start, mut out| {
        let mut a = a.reader(start);
        while !out.is_empty() {
            let n = a.limit(out.len());
            each(a.take(n), cut(&mut out, n));
        }
    });
}

fn map_assign_any<A: Element>(each: Loop1<'_, A, A>, a: &mut [A], ns: f64) {
    parts(a, ns, |_, part| {
        let mut before = [A::ZERO; BLOCK];
        for a in part.chunks_mut(BLOCK) {
            let before = &mut before[..a.len()];
            before.copy_from_slice(a);
            each(before, a);
        }
    });
}

fn zip_any<A: Element, B: Element, O: Element>(
    each: Loop2<'_, A, B, O>,
    a: View<'_, A>,
    b: View<'_, B>,
    out: &mut [O],
    ns: f64,
) {
    let (a, b) = (Source::new(a, out.len()), Source::new(b, out.len()));
    parts(out, ns, |start, mut out| {
        let (mut a, mut b) = (a.reader(start), b.reader(start));
        while !out.is_empty() {
            let n = b.limit(a.limit(out.len()));
            each(a.take(n), b.take(n), cut(&mut out, n));
        }
    });
}

fn zip_assign_any<A: Element, B: Element>(
    each: Loop2<'_, A, B, A>,
    a: &mut [A],
    b: View<'_, B>,
    ns: f64,
) {
    let b = Source::new(b, a.len());
    parts(a, ns, |start, mut a| {
        let mut b = b.reader(start);
        let mut before = [A::ZERO; BLOCK];
        while !a.is_empty() {
            let n = b.limit(a.len().min(BLOCK));
            let a = cut(&mut a, n);
            before[..n].copy_from_slice(a);
            each(&before[..n], b.take(n), a);
        }
    });
}

fn zip3_any<A: Element, B: Element, C: Element, O: Element>(
    each: Loop3<'_, A, B, C, O>,
    a: View<'_, A>,
    b: View<'_, B>,
    c: View<'_, C>,
    out: &mut [O],
    ns: f64,
) {
    let n = out.len();
    let (a, b, c) = (Source::new(a, n), Source::new(b, n), Source::new(c, n));
    parts(out, ns, |start, mut out| {
        let (mut a, mut b, mut c) = (a.reader(start), b.reader(start), c.reader(start));
        while !out.is_empty() {
            let n = c.limit(b.limit(a.limit(out.len())));
            each(a.take(n), b.take(n), c.take(n), cut(&mut out, n));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Layout;

    #[derive(Clone, Copy)]
    struct Mix;
    impl Map<f32, f32> for Mix {
        fn at<const FMA: bool>(self, a: f32) -> f32 {
            a * 2.0 + 1.0
        }
    }
    impl Zip<f32, f32, f32> for Mix {
        fn at<const FMA: bool>(self, a: f32, b: f32) -> f32 {
            a - 3.0 * b
        }
    }
    impl Zip3<f32, f32, f32, f32> for Mix {
        fn at<const FMA: bool>(self, a: f32, b: f32, c: f32) -> f32 {
            a + 2.0 * b - c
        }
    }

    /// Layouts of one shape that between them take every path of a source, and a buffer long enough for each.
    fn layouts(shape: &[usize]) -> Vec<Layout> {
        let mut all = vec![Layout::dense(shape)];
        let rank = shape.len();
        for axis in 0..rank {
            let mut ones = shape.to_vec();
            ones[axis] = 1;
            all.push(Layout::dense(&ones).expand(shape));
            all.push(Layout::dense(&shape[axis..]).expand(shape));
            let mut wide = shape.to_vec();
            wide[axis] = 2 * shape[axis] + 1;
            all.push(Layout::dense(&wide).slice(axis, 1, shape[axis], 2));
            all.push(Layout::dense(&wide).slice(axis, 2 * shape[axis], shape[axis], -2));
            all.push(Layout::dense(&wide).slice(axis, 1, shape[axis], 1));
        }
        all.push(Layout::dense(&[]).expand(shape));
        let reversed: Vec<usize> = (0..rank).rev().collect();
        let other: Vec<usize> = reversed.iter().map(|&a| shape[a]).collect();
        all.push(Layout::dense(&other).permute(&reversed));
        all
    }

    #[test]
    fn every_layout_gives_what_indices_give() {
        let shapes: [&[usize]; 9] = [
            &[],
            &[1],
            &[7],
            &[0, 3],
            &[5, 70],
            &[33, 2, 3],
            &[2, 300, 5],
            &[40, 513],
            &[9, 41, 65],
        ];
        for shape in shapes {
            let len: usize = shape.iter().product();
            let size = 4 * shape.iter().map(|&d| d + 1).product::<usize>();
            let data: Vec<f32> = (0..size).map(|i| (i % 1013) as f32).collect();
            let values = |l: &Layout| -> Vec<f32> { l.offsets().map(|p| data[p]).collect() };
            let all = layouts(shape);
            for (i, la) in all.iter().enumerate() {
                let a = View { data: &data, layout: la };
                let va = values(la);
                let mut out = vec![f32::NAN; len];
                map(Mix, a, &mut out);
                assert!(out.iter().zip(&va).all(|(o, a)| *o == a * 2.0 + 1.0), "{la:?}");
                super::super::copy::to_dense(&data, la, &mut out);
                assert_eq!(out, va, "{la:?}");
                let lb = &all[(i * 7 + 3) % all.len()];
                let vb = values(lb);
                let b = View { data: &data, layout: lb };
                zip(Mix, a, b, &mut out);
                let want: Vec<f32> = va.iter().zip(&vb).map(|(a, b)| a - 3.0 * b).collect();
                assert_eq!(out, want, "{la:?} {lb:?}");
                out.copy_from_slice(&va);
                zip_assign(Mix, &mut out, b);
                assert_eq!(out, want, "{la:?} {lb:?}");
                out.copy_from_slice(&va);
                map_assign(Mix, &mut out);
                assert!(out.iter().zip(&va).all(|(o, a)| *o == a * 2.0 + 1.0), "{la:?}");
                let lc = &all[(i * 5 + 1) % all.len()];
                zip3(Mix, a, b, View { data: &data, layout: lc }, &mut out);
                let vc = values(lc);
                let inputs = va.iter().zip(&vb).zip(&vc);
                assert!(out.iter().zip(inputs).all(|(o, ((a, b), c))| *o == a + 2.0 * b - c));
            }
        }
    }
}
