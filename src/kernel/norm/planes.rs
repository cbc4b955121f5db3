//! Loops over planes: runs of `s` elements that share a mean and a weight. What is one number for each plane is computed in f64 by the caller.

use super::{NS, PART, mean_and_squares, merge, two_sums};
use crate::float::Float;
use crate::kernel::par;
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

/// Σ g and Σ g (x - m) of each plane.
pub(crate) fn dots<T: Float>(
    x: &[T],
    g: &[T],
    s: usize,
    mean: impl Fn(usize) -> T + Sync,
) -> Vec<[f64; 2]> {
    let (each, parts) = pieces(x, s, |plane, r| dispatch(Dots(&x[r.clone()], &g[r], mean(plane))));
    let plane = |p: &[[f64; 2]]| p.iter().fold([0.0; 2], |a, b| [a[0] + b[0], a[1] + b[1]]);
    if each == 1 { parts } else { parts.chunks_exact(each).map(plane).collect() }
}

/// Calls `f(plane, place, out)` for every plane, or for parts of long ones.
fn for_planes<T: Float>(out: &mut [T], s: usize, f: impl Fn(usize, usize, &mut [T]) + Sync) {
    if s >= 2 * PART {
        for (plane, out) in out.chunks_exact_mut(s).enumerate() {
            par::for_each_chunk_mut(out, PART, NS, |i, out| f(plane, plane * s + i * PART, out));
        }
        return;
    }
    let planes = (PART / s.max(1)).max(1);
    par::for_each_chunk_mut(out, planes * s, NS + 5.0 / s as f64, |i, out| {
        for (k, out) in out.chunks_exact_mut(s).enumerate() {
            f(i * planes + k, (i * planes + k) * s, out);
        }
    });
}

struct Affine<'a, T>(&'a [T], [T; 3], &'a mut [T]);
impl<T: Float> Kernel for Affine<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Affine(x, [m, a, b], out) = self;
        for (o, &x) in out.iter_mut().zip(x) {
            *o = (x - m).vfma::<FMA>(a, b);
        }
    }
}

/// out = (x - m) a + b, with `[m, a, b]` for each plane.
pub(crate) fn affine<T: Float>(
    x: &[T],
    s: usize,
    of: impl Fn(usize) -> [T; 3] + Sync,
    out: &mut [T],
) {
    for_planes(out, s, |plane, at, out| dispatch(Affine(&x[at..][..out.len()], of(plane), out)));
}

struct Back<'a, T>(&'a [T], &'a [T], [T; 4], &'a mut [T]);
impl<T: Float> Kernel for Back<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Back(x, g, [m, a, k, c], out) = self;
        for ((o, &x), &g) in out.iter_mut().zip(x).zip(g) {
            *o = a.vfma::<FMA>(g, (x - m).vfma::<FMA>(k, c));
        }
    }
}

/// out = a g + (x - m) k + c, with `[m, a, k, c]` for each plane.
pub(crate) fn back<T: Float>(
    x: &[T],
    g: &[T],
    s: usize,
    of: impl Fn(usize) -> [T; 4] + Sync,
    out: &mut [T],
) {
    for_planes(out, s, |plane, at, out| {
        let n = out.len();
        dispatch(Back(&x[at..][..n], &g[at..][..n], of(plane), out));
    });
}
