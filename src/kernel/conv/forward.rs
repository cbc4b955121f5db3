//! The output of a convolution.

use smallvec::SmallVec;

use super::panels::{Place, for_images, images_at_once};
use super::planes::Planes;
use super::pointwise;
use super::scratch::{PLANES, with};
use super::shifted::{Shifted, with_packed};
use super::winograd::{Filters, Winograd};
use super::{Conv, few};
use crate::float::Float;
use crate::kernel::par::{self, SyncPtr};
use crate::kernel::simd::isa;

/// Below this many images (times groups), a single one is shared among threads.
pub(super) const MANY: usize = 8;

/// Sums up to this length take the bias as a product.
const SHORT: usize = 48;

/// For so few pixels, packing the weight costs more than it saves.
const FEW: usize = 1024;

/// Writes the output for dense operands: `x [batch, groups*c_in, h, w]`, `w [groups*c_out, c_in, kh, kw]`; `max(0, y)` with `relu`.
pub(crate) fn forward<T: Float>(
    c: &Conv,
    x: &[T],
    w: &[T],
    bias: Option<&[T]>,
    relu: bool,
    y: &mut [T],
) {
    assert_eq!((x.len(), w.len(), y.len()), (c.x_len(), c.w_len(), c.y_len()));
    if y.is_empty() {
        return;
    }
    if let Some(job) = Winograd::forward(c) {
        let filters = Filters { weight: w, row: 9 * c.c_in, column: 9, turned: false };
        return job.run(x, filters, 9 * c.c_in * c.c_out, bias, relu, y);
    }
    if few::suits(c) {
        return few::forward(c, x, w, bias, relu, y);
    }
    if pointwise::suits::<T>(c) {
        return pointwise::forward(c, x, w, bias, relu, y);
    }
    let pad = c.pad.map(|p| p.map(|v| v as isize));
    let planes = Planes::new(c.input, pad, c.stride).for_window(c.kernel);
    let offs = offsets(c, &planes);
    let k = offs.len();
    let mut job = Shifted::new(c.c_out, offs, c.output(), planes.row);
    job.relu = relu;
    let gathers = job.gathers(images_at_once(c.batch, c.output()));
    // Where sums are short, the bias costs less as one more product, with a channel of ones, than at the sums' end.
    let ones = if k <= SHORT && !gathers { bias } else { None };
    let bias = if ones.is_some() { None } else { bias };
    if ones.is_some() {
        job.also(c.c_in * planes.channel);
    }
    let part = |g: usize| bias.map(|b| &b[g * c.c_out..(g + 1) * c.c_out]);
    let len = job.packed_len();
    let (x_unit, y_unit) = (c.c_in * c.x_plane(), c.c_out * c.y_plane());
    let y = SyncPtr(y.as_mut_ptr());
    let by_panels = |a: &[T], in_place: bool| {
        let ns = job.ns() * c.batch as f64;
        for_images(c, job.out, &planes, (x, c.c_in), ns, |g, source, parallel| {
            let a = &a[g * len..(g + 1) * len];
            let place = Place {
                to: y.get().wrapping_add((source.first * c.groups + g) * y_unit),
                image: c.groups * y_unit,
                channel: c.y_plane(),
                row: job.out[1],
                column: 1,
            };
            let product = job.panels(&source, in_place);
            // SAFETY: the planes hold every pixel that a tap meets (`Planes`); these channels of these images are in y, and
            // nobody else's.
            unsafe { product.run(a, part(g), source.planes, place, parallel) }
        });
    };
    if gathers && c.batch * c.y_plane() <= FEW {
        return by_panels(w, true);
    }
    with_packed(c.groups * len, |packed| {
        for g in 0..c.groups {
            let w = &w[g * c.c_out * k..(g + 1) * c.c_out * k];
            match ones {
                None => job.pack_rows(&mut packed[g * len..], w),
                Some(b) => job.pack(&mut packed[g * len..], |i, p| {
                    if p < k { w[i * k + p] } else { b[g * c.c_out + i] }
                }),
            }
        }
        if gathers {
            return by_panels(packed, false);
        }
        let packed = |g: usize| &packed[g * len..(g + 1) * len];
        let unit = |i: usize, parallel: bool| {
            let g = i % c.groups;
            let a = packed(g);
            let out = y.get().wrapping_add(i * y_unit);
            let run = |planes: &[T]| {
                // SAFETY: the planes hold every pixel that a tap meets (`Planes`), and unit `i` owns its `y_unit` elements of y.
                unsafe {
                    if parallel {
                        job.run_parallel(a, part(g), planes, out)
                    } else {
                        job.run(a, part(g), planes, out)
                    }
                }
            };
            let image = &x[i * x_unit..(i + 1) * x_unit];
            if planes.as_is && ones.is_none() {
                return run(&x[i * x_unit..]);
            }
            with(&PLANES, |scratch| {
                let buffer = scratch.get::<T>(planes.len(c.c_in + ones.is_some() as usize));
                planes.fill(T::routines(isa()), image, c.c_in, buffer);
                if ones.is_some() {
                    // After the planes, whose last row may be written beyond its end.
                    buffer[c.c_in * planes.channel..].fill(T::ONE);
                }
                run(buffer);
            });
        };
        let units = c.batch * c.groups;
        if units < MANY {
            (0..units).for_each(|i| unit(i, true));
        } else {
            par::for_each(units, job.ns(), |i| unit(i, false));
        }
    });
}

/// Where each element `(channel, ky, kx)` of the window stands for output pixel 0.
pub(super) fn offsets(c: &Conv, planes: &Planes) -> Vec<isize> {
    let [kh, kw] = c.kernel;
    let tap = |t: usize| planes.at(t / kw * c.dilation[0], t % kw * c.dilation[1]);
    let taps: SmallVec<[usize; 9]> = (0..kh * kw).map(tap).collect();
    let mut offs = Vec::with_capacity(c.c_in * taps.len());
    for channel in 0..c.c_in {
        offs.extend(taps.iter().map(|tap| (channel * planes.channel + tap) as isize));
    }
    offs
}
