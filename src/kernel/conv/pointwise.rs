//! Windows of one pixel, without padding: a convolution is then a product of the weight and the image where it lies.
//!
//! ```text
//! y [c_out, pixels]   =  w [c_out, c_in] · x [c_in, pixels]      for each image
//! dx                  =  wᵀ · g
//! dw                  =  Σ g · xᵀ                                over images
//! ```
//!
//! With a stride, the pixels that are seen are copied together first, and the gradient's spread among zeros afterwards.

use super::Conv;
use super::forward::MANY;
use super::scratch::{PHASES, PLANES, with};
use crate::float::Float;
use crate::kernel::gemm::{Batch, Bias, Epilogue, MatRef, gemm, gemm_batched};
use crate::kernel::par::{self};
use crate::kernel::simd::{Kernel, dispatch, isa};

/// Estimated nanoseconds to pick an element or to put it in its place.
const NS: f64 = 0.3;

/// Whether this is the way to compute a convolution and its gradients: products of one image have to fill registers.
pub(super) fn suits<T: Float>(c: &Conv) -> bool {
    let lanes = T::family(isa()).lanes;
    let pixels = c.y_plane();
    let filled = 8 * pixels >= 7 * pixels.next_multiple_of(lanes);
    c.taps() == 1
        && c.pad == [[0; 2]; 2]
        && (filled || c.batch < MANY)
        && (c.groups == 1 || c.c_in.min(c.c_out) >= lanes)
}

fn strided(c: &Conv) -> bool {
    c.stride != [1, 1]
}

/// The output.
pub(super) fn forward<T: Float>(
    c: &Conv,
    x: &[T],
    w: &[T],
    bias: Option<&[T]>,
    relu: bool,
    y: &mut [T],
) {
    let (m, k, n) = (c.c_out, c.c_in, c.y_plane());
    let weight = |g: usize| MatRef::rows(&w[g * m * k..(g + 1) * m * k], k);
    let epilogue = |g: usize| Epilogue {
        bias: bias.map_or(Bias::None, |b| Bias::Row(&b[g * m..(g + 1) * m])),
        relu,
    };
    if !strided(c) {
        for g in 0..c.groups {
            let batch =
                Batch { count: c.batch, a: 0, b: (c.groups * k * n) as isize, c: c.groups * m * n };
            let (x, y) = (MatRef::rows(&x[g * k * n..], n), &mut y[g * m * n..]);
            gemm_batched(batch, m, k, n, weight(g), x, y, n, false, epilogue(g));
        }
        return;
    }
    for_units(c, y, m * n, |unit, y| {
        let g = unit % c.groups;
        with_seen(c, x, unit, |x| {
            gemm(m, k, n, weight(g), MatRef::rows(x, n), y, n, false, epilogue(g));
        });
    });
}

/// The gradient of the input.
pub(super) fn input_grad<T: Float>(c: &Conv, g: &[T], w: &[T], dx: &mut [T]) {
    let (m, k, n) = (c.c_in, c.c_out, c.y_plane());
    let weight = |i: usize| MatRef::cols(&w[i * m * k..(i + 1) * m * k], m);
    if !strided(c) {
        for i in 0..c.groups {
            let batch =
                Batch { count: c.batch, a: 0, b: (c.groups * k * n) as isize, c: c.groups * m * n };
            let (g, dx) = (MatRef::rows(&g[i * k * n..], n), &mut dx[i * m * n..]);
            gemm_batched(batch, m, k, n, weight(i), g, dx, n, false, Epilogue::NONE);
        }
        return;
    }
    for_units(c, dx, m * c.x_plane(), |unit, dx| {
        let g = MatRef::rows(&g[unit * k * n..(unit + 1) * k * n], n);
        with(&PHASES, |scratch| {
            let seen = scratch.get::<T>(m * n);
            gemm(m, k, n, weight(unit % c.groups), g, seen, n, false, Epilogue::NONE);
            let seen = &*seen;
            par::for_each_chunk_mut(dx, c.x_plane(), NS, |i, dx| {
                dispatch(Spread { c, seen: &seen[i * n..(i + 1) * n], dx });
            });
        });
    });
}

/// The gradient of the weight.
pub(super) fn weight_grad<T: Float>(c: &Conv, x: &[T], g: &[T], dw: &mut [T]) {
    let (m, k, n) = (c.c_out, c.y_plane(), c.c_in);
    for unit in 0..c.batch * c.groups {
        let (image, group) = (unit / c.groups, unit % c.groups);
        let g = MatRef::rows(&g[unit * m * k..(unit + 1) * m * k], k);
        let dw = &mut dw[group * m * n..(group + 1) * m * n];
        with_seen(c, x, unit, |x| {
            gemm(m, k, n, g, MatRef::cols(x, k), dw, n, image > 0, Epilogue::NONE);
        });
    }
}

/// Calls `f` with each image and group of `out`: many of them side by side, few one after another, whose work is then shared.
fn for_units<T: Float>(c: &Conv, out: &mut [T], len: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    let units = c.batch * c.groups;
    if units < MANY {
        return out.chunks_exact_mut(len).enumerate().for_each(|(unit, out)| f(unit, out));
    }
    let ns = c.unit_flop() / T::family(isa()).rate + NS * (c.c_in * c.y_plane()) as f64;
    par::for_each_chunk_mut(out, len, ns / len as f64, f);
}

/// Calls `f` with the pixels of an image and group that the windows see.
fn with_seen<T: Float>(c: &Conv, x: &[T], unit: usize, f: impl FnOnce(&[T])) {
    let (len, n) = (c.c_in * c.x_plane(), c.y_plane());
    let x = &x[unit * len..(unit + 1) * len];
    if !strided(c) {
        return f(x);
    }
    with(&PLANES, |scratch| {
        let seen = scratch.get::<T>(c.c_in * n);
        par::for_each_chunk_mut(seen, n, NS, |i, seen| {
            dispatch(Pick { c, x: &x[i * c.x_plane()..(i + 1) * c.x_plane()], seen });
        });
        f(seen);
    });
}

/// Copies the pixels of a plane that the windows see.
struct Pick<'a, T> {
    c: &'a Conv,
    x: &'a [T],
    seen: &'a mut [T],
}

impl<T: Float> Kernel for Pick<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let ([height, width], [sh, sw]) = (self.c.output(), self.c.stride);
        let rows = self.x.chunks_exact(self.c.input[1]).step_by(sh);
        for (seen, row) in self.seen.chunks_exact_mut(width).zip(rows).take(height) {
            match sw {
                // A distance that the compiler knows makes it registers.
                2 => seen.iter_mut().zip(row.chunks(2)).for_each(|(to, from)| *to = from[0]),
                _ => seen.iter_mut().zip(row.chunks(sw)).for_each(|(to, from)| *to = from[0]),
            }
        }
    }
}

/// Puts the pixels of a plane where the windows see them, and zeros elsewhere.
struct Spread<'a, T> {
    c: &'a Conv,
    seen: &'a [T],
    dx: &'a mut [T],
}

impl<T: Float> Kernel for Spread<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let ([height, width], [sh, sw]) = (self.c.output(), self.c.stride);
        for (y, row) in self.dx.chunks_exact_mut(self.c.input[1]).enumerate() {
            row.fill(T::ZERO);
            if y % sh == 0 && y / sh < height {
                let seen = &self.seen[y / sh * width..(y / sh + 1) * width];
                match sw {
                    2 => row.chunks_mut(2).zip(seen).for_each(|(to, &from)| to[0] = from),
                    _ => row.chunks_mut(sw).zip(seen).for_each(|(to, &from)| to[0] = from),
                }
            }
        }
    }
}
