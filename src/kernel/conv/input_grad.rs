//! The gradient of a convolution's input: a convolution of the output's gradient with the weight turned around.
//!
//! Padded input coordinate `r = q*s + phase` of an axis is met by tap `k` of output `o` where `o*s + k*d = r`. So only taps with
//! `k*d ≡ phase (mod s)` meet it, and then `o = q - e(k)` with `e(k) = (k*d - phase) / s`: for each phase of the input, a
//! convolution of stride 1 with some of the taps. Without stride there is one phase, with all of them.

use super::Conv;
use super::forward::MANY;
use super::panels::{Place, for_images};
use super::planes::Planes;
use super::pointwise;
use super::scratch::{PHASES, PLANES, with};
use super::shifted::{Shifted, with_packed};
use super::winograd::{Filters, Winograd};
use crate::float::Float;
use crate::kernel::par::{self, SyncPtr};
use crate::kernel::simd::isa;

/// One axis of one phase of the input.
struct Phase {
    /// The first coordinate of the input, from which it goes on in steps of the stride.
    first: usize,
    /// How many coordinates.
    count: usize,
    /// The first `q`.
    q: usize,
    /// The taps that meet it: which, and how far back the output lies.
    taps: Vec<(usize, usize)>,
}

/// The phases of an axis that any coordinate of the input has.
fn phases(c: &Conv, axis: usize) -> Vec<Phase> {
    let (s, d, before, size) = (c.stride[axis], c.dilation[axis], c.pad[axis][0], c.input[axis]);
    let phase = |r: usize| {
        // q*s + r >= before, q*s + r < before + size
        let q = before.saturating_sub(r).div_ceil(s);
        let end = (before + size).saturating_sub(r).div_ceil(s);
        let taps = (0..c.kernel[axis])
            .filter(|k| k * d >= r && (k * d - r).is_multiple_of(s))
            .map(|k| (k, (k * d - r) / s))
            .collect();
        Phase { first: q * s + r - before, count: end.saturating_sub(q), q, taps }
    };
    (0..s).map(phase).filter(|p| p.count > 0).collect()
}

/// Zeros before and after the output's gradient, so that every tap of every phase finds something.
fn padding(c: &Conv, axis: usize, phases: &[Phase]) -> [isize; 2] {
    let size = c.output()[axis] as isize;
    let (mut before, mut after) = (isize::MIN, isize::MIN);
    for p in phases {
        for &(_, e) in &p.taps {
            before = before.max(e as isize - p.q as isize);
            after = after.max((p.q + p.count - 1) as isize - e as isize - (size - 1));
        }
    }
    // No tap at all: nothing is read.
    if before == isize::MIN { [0, 0] } else { [before, after] }
}

/// Writes the gradient of the input for dense operands: `g` in the shape of the output.
pub(crate) fn input_grad<T: Float>(c: &Conv, g: &[T], w: &[T], dx: &mut [T]) {
    assert_eq!((dx.len(), w.len(), g.len()), (c.x_len(), c.w_len(), c.y_len()));
    if dx.is_empty() {
        return;
    }
    if g.is_empty() {
        return dx.fill(T::ZERO);
    }
    if let Some(job) = Winograd::input_grad(c) {
        let filters = Filters { weight: w, row: 9, column: 9 * c.c_in, turned: true };
        return job.run(g, filters, 9 * c.c_in * c.c_out, None, false, dx);
    }
    if pointwise::suits::<T>(c) {
        return pointwise::input_grad(c, g, w, dx);
    }
    let axes = [phases(c, 0), phases(c, 1)];
    let pad = [padding(c, 0, &axes[0]), padding(c, 1, &axes[1])];
    let planes = Planes::new(c.output(), pad, [1, 1]);
    let pairs: Vec<(&Phase, &Phase)> =
        axes[0].iter().flat_map(|y| axes[1].iter().map(move |x| (y, x))).collect();
    let jobs: Vec<Shifted<T>> = pairs.iter().map(|&(y, x)| job(c, &planes, pad, y, x)).collect();
    let weights: usize = jobs.iter().map(Shifted::packed_len).sum();
    with_packed(c.groups * weights, |packed| {
        let mut at = 0;
        for group in 0..c.groups {
            for (job, &(y, x)) in jobs.iter().zip(&pairs) {
                pack(c, job, group, y, x, w, &mut packed[at..]);
                at += job.packed_len();
            }
        }
        let packed = &*packed;
        let (x_unit, y_unit) = (c.c_in * c.x_plane(), c.c_out * c.y_plane());
        let dx = SyncPtr(dx.as_mut_ptr());
        if jobs.iter().all(|job| job.gathers(2)) {
            let ns = c.batch as f64 * jobs.iter().map(Shifted::ns).sum::<f64>();
            let out = [axes[0][0].count, axes[1][0].count];
            return for_images(c, out, &planes, (g, c.c_out), ns, |group, source, parallel| {
                let mut a = &packed[group * weights..];
                let image = dx.get().wrapping_add((source.first * c.groups + group) * x_unit);
                for (job, &(y, x)) in jobs.iter().zip(&pairs) {
                    let (mine, next) = a.split_at(job.packed_len());
                    a = next;
                    let place = Place {
                        to: image.wrapping_add(y.first * c.input[1] + x.first),
                        image: c.groups * x_unit,
                        channel: c.x_plane(),
                        row: c.stride[0] * c.input[1],
                        column: c.stride[1],
                    };
                    // SAFETY: the planes hold every pixel that a tap meets (`padding`); each pixel of these images is in one phase, at
                    // `first + i * stride` on both axes, below the input's size.
                    unsafe {
                        job.panels(&source, false).run(mine, None, source.planes, place, parallel)
                    };
                }
            });
        }
        let unit = |i: usize, parallel: bool| {
            let out = dx.get().wrapping_add(i * x_unit);
            let mut a = &packed[i % c.groups * weights..];
            let image = &g[i * y_unit..(i + 1) * y_unit];
            let mut run = |planes: &[T]| {
                for (job, &(y, x)) in jobs.iter().zip(&pairs) {
                    let (mine, next) = a.split_at(job.packed_len());
                    a = next;
                    // SAFETY: the planes hold every pixel that a tap meets (`padding`), and unit `i` owns its `x_unit` elements.
                    unsafe { phase(c, job, y, x, mine, planes, out, parallel) };
                }
            };
            if planes.as_is {
                return run(&g[i * y_unit..]);
            }
            with(&PLANES, |scratch| {
                let buffer = scratch.get::<T>(planes.len(c.c_out));
                planes.fill(T::routines(isa()), image, c.c_out, buffer);
                run(buffer);
            });
        };
        let units = c.batch * c.groups;
        if units < MANY {
            (0..units).for_each(|i| unit(i, true));
        } else {
            par::for_each(units, jobs.iter().map(Shifted::ns).sum(), |i| unit(i, false));
        }
    });
}

/// The product of one phase.
fn job<T: Float>(
    c: &Conv,
    planes: &Planes,
    pad: [[isize; 2]; 2],
    y: &Phase,
    x: &Phase,
) -> Shifted<T> {
    let place =
        |axis: usize, p: &Phase, e: usize| (p.q as isize - e as isize + pad[axis][0]) as usize;
    let mut offs = Vec::with_capacity(c.c_out * y.taps.len() * x.taps.len());
    for o in 0..c.c_out {
        // Taps in descending order read the planes in ascending order.
        for &(_, ey) in y.taps.iter().rev() {
            for &(_, ex) in x.taps.iter().rev() {
                let at = planes.at(place(0, y, ey), place(1, x, ex));
                offs.push((o * planes.channel + at) as isize);
            }
        }
    }
    Shifted::new(c.c_in, offs, [y.count, x.count], planes.row)
}

/// Packs the taps of one phase, input channels as rows.
fn pack<T: Float>(
    c: &Conv,
    job: &Shifted<T>,
    group: usize,
    y: &Phase,
    x: &Phase,
    w: &[T],
    to: &mut [T],
) {
    let taps: Vec<usize> = y
        .taps
        .iter()
        .rev()
        .flat_map(|&(ky, _)| x.taps.iter().rev().map(move |&(kx, _)| ky * c.kernel[1] + kx))
        .collect();
    if taps.is_empty() {
        return;
    }
    let w = &w[group * c.c_out * c.c_in * c.taps()..];
    // Row of the weight and tap for each p, without a division per element.
    let places: Vec<usize> =
        (0..c.c_out).flat_map(|o| taps.iter().map(move |t| o * c.c_in * c.taps() + t)).collect();
    job.pack(to, |i, p| w[places[p] + i * c.taps()]);
}

/// Computes one phase of one image's gradient.
///
/// # Safety
/// As [`Shifted::run`]; `out` has room for the image, which nobody else touches.
unsafe fn phase<T: Float>(
    c: &Conv,
    job: &Shifted<T>,
    y: &Phase,
    x: &Phase,
    a: &[T],
    planes: &[T],
    out: *mut T,
    parallel: bool,
) {
    let run = |out: *mut T| {
        // SAFETY: the caller's promise.
        unsafe {
            if parallel {
                job.run_parallel(a, None, planes, out)
            } else {
                job.run(a, None, planes, out)
            }
        }
    };
    if c.stride == [1, 1] {
        return run(out);
    }
    with(&PHASES, |scratch| {
        let plane = y.count * x.count;
        let sums = scratch.get::<T>(c.c_in * plane);
        run(sums.as_mut_ptr());
        for ci in 0..c.c_in {
            for yy in 0..y.count {
                let row = ci * c.x_plane() + (y.first + yy * c.stride[0]) * c.input[1] + x.first;
                let from = &sums[ci * plane + yy * x.count..][..x.count];
                for (xx, &v) in from.iter().enumerate() {
                    // SAFETY: `first + (count - 1) * stride` is below the input's size on both axes (`phases`).
                    unsafe { *out.add(row + xx * c.stride[1]) = v };
                }
            }
        }
    });
}
