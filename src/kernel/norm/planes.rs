//! Loops over planes: runs of `s` elements that share a mean and a weight. What is one number for each plane is computed in f64 by the caller.
//!
//! Where ReLU follows and backward will ask for it, one bit of each element is kept as [`relu`] does it, each plane's from a byte of its own
//! on, so that planes may have any length and no two threads write one byte.
#![allow(unsafe_code)]

use super::{NS, PART, mean_and_squares, merge, two_sums};
use crate::float::Float;
use crate::kernel::par::{self, SyncPtr};
use crate::kernel::relu;
use crate::kernel::simd::{Kernel, dispatch};

/// Long planes are summed in pieces of so many elements, which stay in the first cache between the two passes over them.
const PIECE: usize = 4096;

/// Calls `f(plane, piece)` for each piece of each plane and writes what it returns, in order.
fn pieces<T: Float>(
    x: &[T],
    s: usize,
    f: impl Fn(usize, std::ops::Range<usize>) -> [f64; 2] + Sync,
) -> (usize, Vec<[f64; 2]>) {
    let each = s.div_ceil(PIECE).max(1);
    let count = x.len() / s.max(1) * each;
    let mut out = vec![[0.0; 2]; count];
    let len = s.min(PIECE);
    let grain = (PART / len.max(1)).max(1);
    par::for_each_chunk_mut(&mut out, grain, 2.0 * NS * len as f64 + 10.0, |i, out| {
        for (k, o) in out.iter_mut().enumerate() {
            let (plane, piece) = ((i * grain + k) / each, (i * grain + k) % each);
            let from = plane * s + piece * PIECE;
            *o = f(plane, from..(from + PIECE).min((plane + 1) * s));
        }
    });
    (each, out)
}

struct Moments<'a, T>(&'a [T]);
impl<T: Float> Kernel for Moments<'_, T> {
    type Out = [f64; 2];
    #[inline(always)]
    fn run<const FMA: bool>(self) -> [f64; 2] {
        let (m, s) = mean_and_squares::<T, FMA>(self.0);
        [m.as_f64(), s.as_f64()]
    }
}

/// The mean of each plane and Σ (x - mean)².
pub(crate) fn moments<T: Float>(x: &[T], s: usize) -> Vec<[f64; 2]> {
    let (each, parts) = pieces(x, s, |_, range| dispatch(Moments(&x[range])));
    let length = |k: usize| (s - k * PIECE).min(PIECE) as f64;
    let plane = |p: &[[f64; 2]]| {
        let merged = p.iter().enumerate().map(|(k, &m)| (length(k), m)).reduce(merge);
        merged.map_or([0.0; 2], |m| m.1)
    };
    if each == 1 { parts } else { parts.chunks_exact(each).map(plane).collect() }
}

struct Dots<'a, T>(&'a [T], &'a [T], T);
impl<T: Float> Kernel for Dots<'_, T> {
    type Out = [f64; 2];
    #[inline(always)]
    fn run<const FMA: bool>(self) -> [f64; 2] {
        let Dots(x, g, m) = self;
        let (s, t) = two_sums(x, g, g, |(u, v), x, g, _| (u + g, (x - m).vfma::<FMA>(g, v)));
        [s.as_f64(), t.as_f64()]
    }
}

/// Sums of planes from those of their pieces.
fn of_planes((each, parts): (usize, Vec<[f64; 2]>)) -> Vec<[f64; 2]> {
    let plane = |p: &[[f64; 2]]| p.iter().fold([0.0; 2], |a, b| [a[0] + b[0], a[1] + b[1]]);
    if each == 1 { parts } else { parts.chunks_exact(each).map(plane).collect() }
}

/// Σ g and Σ g (x - m) of each plane.
pub(crate) fn dots<T: Float>(
    x: &[T],
    g: &[T],
    s: usize,
    mean: impl Fn(usize) -> T + Sync,
) -> Vec<[f64; 2]> {
    of_planes(pieces(x, s, |plane, r| dispatch(Dots(&x[r.clone()], &g[r], mean(plane)))))
}

/// The same of `g` behind ReLU, which is first set to 0 where the bit is.
pub(crate) fn dots_behind_relu<T: Float>(
    x: &[T],
    g: &mut [T],
    mask: &[u8],
    s: usize,
    mean: impl Fn(usize) -> T + Sync,
) -> Vec<[f64; 2]> {
    assert_eq!(x.len(), g.len());
    let to = SyncPtr(g.as_mut_ptr());
    of_planes(pieces(x, s, |plane, r| {
        // SAFETY: the pieces are disjoint and inside `x`, which is as long as `g`, and `g` is borrowed until all are done.
        let g = unsafe { std::slice::from_raw_parts_mut(to.get().add(r.start), r.len()) };
        relu::backward_part(g, &mask[bits(s, plane, r.start, r.len())]);
        dispatch(Dots(&x[r], g, mean(plane)))
    }))
}

/// How many bytes hold the bits of all `count` planes.
pub(crate) fn mask_len(count: usize, s: usize) -> usize {
    count * relu::mask_len(s)
}

/// The bytes with the bits of `len` elements from `at` on, in a plane. (`at` is a multiple of 8 elements behind the plane's first.)
fn bits(s: usize, plane: usize, at: usize, len: usize) -> std::ops::Range<usize> {
    let first = plane * relu::mask_len(s) + (at - plane * s) / 8;
    first..first + relu::mask_len(len)
}

/// Calls `f(plane, place, out)` for some planes after another, of which `plane` is the first, or for parts of long ones.
fn for_planes<T: Float>(out: &mut [T], s: usize, f: impl Fn(usize, usize, &mut [T]) + Sync) {
    if s >= 2 * PART {
        for (plane, out) in out.chunks_exact_mut(s).enumerate() {
            par::for_each_chunk_mut(out, PART, NS, |i, out| f(plane, plane * s + i * PART, out));
        }
        return;
    }
    let planes = (PART / s.max(1)).max(1);
    par::for_each_chunk_mut(out, planes * s, NS + 5.0 / s as f64, |i, out| {
        f(i * planes, i * planes * s, out);
    });
}

/// The part of the input, the length of a plane, the first plane, what is added, whether ReLU follows.
struct Affine<'a, T, F>(&'a [T], usize, usize, &'a F, Option<&'a [T]>, bool, &'a mut [T]);
impl<T: Float, F: Fn(usize) -> [T; 3]> Kernel for Affine<'_, T, F> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Affine(x, s, plane, of, plus, relu, out) = self;
        let rectified = |y: T| if y < T::ZERO { T::ZERO } else { y };
        for (k, (out, x)) in out.chunks_mut(s).zip(x.chunks(s)).enumerate() {
            let [m, a, b] = of(plane + k);
            let y = |x: T| (x - m).vfma::<FMA>(a, b);
            let plus = plus.map_or(&[][..], |p| &p[k * s..][..out.len()]);
            let alone = out.iter_mut().zip(x);
            match (plus.is_empty(), relu) {
                (true, false) => alone.for_each(|(o, &x)| *o = y(x)),
                (true, true) => alone.for_each(|(o, &x)| *o = rectified(y(x))),
                (false, false) => alone.zip(plus).for_each(|((o, &x), &p)| *o = y(x) + p),
                (false, true) => alone.zip(plus).for_each(|((o, &x), &p)| *o = rectified(y(x) + p)),
            }
        }
    }
}

/// out = (x - m) a + b, with `[m, a, b]` for each plane; then `plus` is added, and ReLU follows.
pub(crate) fn affine<T: Float>(
    x: &[T],
    s: usize,
    of: impl Fn(usize) -> [T; 3] + Sync,
    plus: Option<&[T]>,
    relu: bool,
    out: &mut [T],
) {
    for_planes(out, s, |plane, at, out| {
        let n = out.len();
        let plus = plus.map(|p| &p[at..][..n]);
        dispatch(Affine(&x[at..][..n], s, plane, &of, plus, relu, out));
    });
}

/// [`affine`] with ReLU, which writes all of its bits.
pub(crate) fn affine_relu<T: Float>(
    x: &[T],
    s: usize,
    of: impl Fn(usize) -> [T; 3] + Sync,
    plus: Option<&[T]>,
    out: &mut [T],
    mask: &mut [u8],
) {
    /// Elements that stay in the first cache between the two.
    const BLOCK: usize = 1 << 10;
    assert_eq!(mask.len(), mask_len(x.len() / s.max(1), s));
    let (len, mask) = (mask.len(), SyncPtr(mask.as_mut_ptr()));
    for_planes(out, s, |first, start, out| {
        for (k, out) in out.chunks_mut(s).enumerate() {
            for (i, out) in out.chunks_mut(BLOCK).enumerate() {
                let (plane, at, n) = (first + k, start + k * s + i * BLOCK, out.len());
                let mut y = [T::ZERO; BLOCK];
                let plus = plus.map(|p| &p[at..][..n]);
                dispatch(Affine(&x[at..][..n], s, plane, &of, plus, false, &mut y[..n]));
                let bits = bits(s, plane, at, n);
                assert!(bits.end <= len);
                // SAFETY: these bytes are inside `mask`, which is borrowed until the loop has ended, and belong to elements that only
                // this call has: planes have bytes of their own, and the parts of a plane begin at multiples of 8 elements.
                let mask = unsafe {
                    std::slice::from_raw_parts_mut(mask.get().add(bits.start), bits.len())
                };
                relu::forward_part(&y[..n], out, mask);
            }
        }
    });
}

/// The length of a plane, the first plane; the last array holds x if `X`, else g.
struct Back<'a, T, F, const X: bool>(&'a [T], usize, usize, &'a F, &'a mut [T]);
impl<T: Float, F: Fn(usize) -> [T; 4], const X: bool> Kernel for Back<'_, T, F, X> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Back(from, s, plane, of, to) = self;
        for (i, (to, from)) in to.chunks_mut(s).zip(from.chunks(s)).enumerate() {
            let [m, a, k, c] = of(plane + i);
            for (to, &from) in to.iter_mut().zip(from) {
                let (x, g) = if X { (*to, from) } else { (from, *to) };
                *to = a.vfma::<FMA>(g, (x - m).vfma::<FMA>(k, c));
            }
        }
    }
}

/// to = a g + (x - m) k + c, with `[m, a, k, c]` for each plane, where `to` holds x and `from` is g (if `X`), or the other way round.
pub(crate) fn back<T: Float, const X: bool>(
    from: &[T],
    s: usize,
    of: impl Fn(usize) -> [T; 4] + Sync,
    to: &mut [T],
) {
    for_planes(to, s, |plane, at, to| {
        dispatch(Back::<_, _, X>(&from[at..][..to.len()], s, plane, &of, to));
    });
}
