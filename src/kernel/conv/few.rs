//! Convolutions with few pixels of output and long sums: dot products of the weight's rows, where they lie, and the pixels' windows.
//!
//! ```text
//! y[o][pixel] = bias[o] + sum over p of  w[o][p] * windows[pixel][p]        p: (channel, ky, kx)
//! ```
//!
//! The 49 pixels of a 7 by 7 image are three registers of 16 and one lane more, so a micro-kernel with pixels in its lanes would waste a
//! good part of them. Here lanes run along `p`, and the partial sums of a tile of rows by pixels are added up at the end. The windows are small
//! and stay in the second-level cache; the weight, which does not, is read once, in order, and asked for in advance.

use super::forward::offsets;
use super::panels::{Gather, Run};
use super::planes::Planes;
use super::routines::{DOT_COLS, Dots, Totals};
use super::scratch::{PANELS, PHASES, PLANES, RESULT, with};
use super::{Conv, planes};
use crate::float::Float;
use crate::kernel::gemm::pack::{SLACK, pack};
use crate::kernel::par::{self, SyncPtr};
use crate::kernel::simd::isa;

/// Most pixels: their windows and the rows' partial sums stay in the second-level cache.
const PIXELS: usize = 64;
/// Shorter sums do not pay for adding up the lanes.
const LENGTH: usize = 256;
/// Fewer rows do not pay for laying out the windows.
const ROWS: usize = 64;
/// Elements of a row of the weight that meet all pixels before the next ones do: eight rows take a third of the first-level cache.
const BLOCK: usize = 512;
/// About what a part of the parallel loop takes, in nanoseconds.
const PART_NS: f64 = 20_000.0;

/// Whether this is the way to compute a convolution.
pub(super) fn suits(c: &Conv) -> bool {
    c.batch * c.y_plane() <= PIXELS && c.c_in * c.taps() >= LENGTH && c.c_out >= ROWS
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
    let pad = c.pad.map(|p| p.map(|v| v as isize));
    let planes = Planes::new(c.input, pad, c.stride).for_window(c.kernel);
    let product = Product { c, offs: offsets(c, &planes), pixels: c.batch * c.y_plane(), relu };
    let k = product.offs.len();
    let y = SyncPtr(y.as_mut_ptr());
    for g in 0..c.groups {
        let w = &w[g * c.c_out * k..(g + 1) * c.c_out * k];
        let bias = bias.map(|b| &b[g * c.c_out..(g + 1) * c.c_out]);
        with(&PANELS, |scratch| {
            let windows = scratch.get::<T>(product.blocks() * product.block_len());
            product.lay_out(&planes, x, g, windows);
            // SAFETY: `y` has `c_out` planes for each image and group, by the assertion of `forward`.
            unsafe { product.run(w, windows, bias, g, y) };
        });
    }
}

struct Product<'a> {
    c: &'a Conv,
    /// Where the elements of a window stand in the planes.
    offs: Vec<isize>,
    pixels: usize,
    relu: bool,
}

impl Product<'_> {
    fn blocks(&self) -> usize {
        self.offs.len().div_ceil(BLOCK)
    }

    /// Elements of a block of windows, and what its layout may overwrite.
    fn block_len(&self) -> usize {
        self.pixels * BLOCK + SLACK
    }

    /// The part of the sum in block `b`.
    fn range(&self, b: usize) -> std::ops::Range<usize> {
        b * BLOCK..self.offs.len().min((b + 1) * BLOCK)
    }

    /// Writes the windows of all pixels, one after another, block by block of the sum.
    fn lay_out<T: Float>(&self, planes: &Planes, x: &[T], group: usize, windows: &mut [T]) {
        let c = self.c;
        let unit = c.c_in * c.x_plane();
        let image = |n: usize| &x[(n * c.groups + group) * unit..];
        if planes.as_is {
            return self.windows(image(0), c.groups * unit, planes.row, windows);
        }
        with(&PLANES, |scratch| {
            let each = planes.len(c.c_in);
            let all = scratch.get::<T>(c.batch * each);
            for (n, to) in all.chunks_exact_mut(each).enumerate() {
                planes.fill(T::routines(isa()), &image(n)[..unit], c.c_in, to);
            }
            self.windows(all, each, planes.row, windows);
        });
    }

    /// The same from planes whose images are `image` apart and whose rows are `row`.
    fn windows<T: Float>(&self, planes: &[T], image: usize, row: usize, windows: &mut [T]) {
        let routines = T::routines(isa());
        let [height, width] = self.c.output();
        let runs: Vec<Run> = (0..self.c.batch * height)
            .map(|i| Run {
                from: i / height * image + i % height * row,
                lane: i * width,
                len: width,
            })
            .collect();
        let across = self.pixels.next_multiple_of(routines.lanes);
        let len = self.block_len();
        par::for_each_chunk_mut(windows, len, 0.3, |b, to| {
            let offs = &self.offs[self.range(b)];
            let count = offs.len();
            assert!(to.len() >= self.pixels * count + SLACK);
            with(&PHASES, |scratch| {
                let columns = scratch.get::<T>(count * across + planes::SLACK);
                let gather = Gather {
                    planes: planes.as_ptr(),
                    end: planes.as_ptr_range().end,
                    offs,
                    runs: &runs,
                    to: columns.as_mut_ptr(),
                    width: across,
                };
                // SAFETY: every pixel at every offset is inside the planes (`Planes`); a register behind the last column is inside the
                // buffer, and so are `count` columns of `across` elements, which are then read by rows. What `pack` writes behind the
                // last window is the block's slack.
                unsafe {
                    (routines.gather)(&gather);
                    let (from, to) = (columns.as_ptr(), to.as_mut_ptr());
                    pack(isa(), self.pixels, from, 1, across as isize, count, count, to);
                }
            });
        });
    }

    /// All rows, shared among threads.
    ///
    /// # Safety
    /// `y` is the whole output, and nobody else touches this group's part of it.
    unsafe fn run<T: Float>(
        &self,
        w: &[T],
        windows: &[T],
        bias: Option<&[T]>,
        group: usize,
        y: SyncPtr<T>,
    ) {
        let most = T::routines(isa()).dot_rows;
        let ns = self.c.batch as f64 * self.c.unit_flop() / T::family(isa()).rate;
        let grain = (PART_NS * self.c.c_out as f64 / ns) as usize;
        let grain = grain.next_multiple_of(most).max(most);
        par::for_each_range(self.c.c_out, grain, ns / self.c.c_out as f64, |rows| {
            let mut row = rows.start;
            while row < rows.end {
                let log = (rows.end - row).min(most).ilog2() as usize;
                // SAFETY: the caller's promise; ranges of rows are disjoint.
                unsafe { self.rows(w, windows, bias, group, row, log, y.get()) };
                row += 1 << log;
            }
        });
    }

    /// `1 << log` rows.
    ///
    /// # Safety
    /// As [`run`](Self::run), for these rows.
    unsafe fn rows<T: Float>(
        &self,
        w: &[T],
        windows: &[T],
        bias: Option<&[T]>,
        group: usize,
        row: usize,
        log: usize,
        y: *mut T,
    ) {
        let routines = T::routines(isa());
        let (k, rows, lanes) = (self.offs.len(), 1 << log, routines.lanes);
        assert!(w.len() >= (row + rows) * k);
        with(&RESULT, |scratch| {
            let acc_row = self.pixels * lanes;
            let acc = scratch.get::<T>(rows * acc_row);
            acc.fill(T::ZERO);
            for b in 0..self.blocks() {
                let range = self.range(b);
                let x = &windows[b * self.block_len()..][..self.pixels * range.len()];
                let here = row * k + range.start;
                // What comes after these elements of these rows; behind the last ones any address will do.
                let next = if range.end < k { here + BLOCK } else { (row + rows) * k };
                for (i, t) in (0..self.pixels).step_by(DOT_COLS).enumerate() {
                    let cols = DOT_COLS.min(self.pixels - t);
                    let job = Dots {
                        g: w[here..].as_ptr(),
                        g_row: k,
                        x: x[t * range.len()..].as_ptr(),
                        x_row: range.len(),
                        len: range.len(),
                        acc: acc[t * lanes..].as_mut_ptr(),
                        acc_row,
                        next: w.as_ptr().wrapping_add(next + i % rows * k),
                    };
                    // SAFETY: the rows are inside `w` by the assertion, the windows were sliced, and each has a register of `acc`.
                    unsafe { (routines.dots[log][cols - 1])(&job) };
                }
            }
            let (c, plane) = (self.c, self.c.y_plane());
            for i in 0..rows {
                for n in 0..c.batch {
                    let at = ((n * c.groups + group) * c.c_out + row + i) * plane;
                    let job = Totals {
                        from: acc[i * acc_row + n * plane * lanes..][..plane * lanes].as_ptr(),
                        count: plane,
                        plus: bias.map_or(T::ZERO, |b| b[row + i]),
                        relu: self.relu,
                        to: y.wrapping_add(at),
                    };
                    // SAFETY: a register for each pixel was sliced; the pixels of this plane are the caller's to give.
                    unsafe { (routines.totals)(&job) };
                }
            }
        });
    }
}
