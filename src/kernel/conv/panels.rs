//! A convolution as a matrix product whose right side is copied together from planes, a block at a time.
//!
//! ```text
//! out[i][pixel] = bias[i] + sum over p of  a[i][p] * planes[offs[p] + place(pixel)]
//! ```
//!
//! It is the product of [`Shifted`](super::shifted::Shifted), for shapes whose rows of output fill registers badly: pixels of several rows
//! and images stand one after another in the panels that the micro-kernel reads, so all of its lanes have work. The price, a load and a
//! store for each register of a panel, is shared by all rows of the left matrix.

use std::ops::Range;

use smallvec::SmallVec;

use super::Conv;
use super::forward::MANY;
use super::planes::Planes;
use super::routines::Routines;
use super::scratch::{PANELS, PLANES, RESULT, with};
use crate::float::Float;
use crate::kernel::gemm::tile::{BRows, Family, Tile};
use crate::kernel::par::{self, SyncPtr};
use crate::kernel::simd::{Kernel, dispatch, isa};

/// Length of the blocks that the sum is cut into: a panel of them stays in a first-level cache.
const BLOCK: usize = 256;
/// Pixels that meet a tile's rows of the left matrix before the next ones do: their panels take less than half of a second-level cache.
const PIXELS: usize = 768;
/// A left matrix of so many bytes is at hand in a small second-level cache: one panel at a time, which stays in the first-level cache, meets
/// all of it.
const SMALL: usize = 128 << 10;
/// Pixels of several images that are worth a call of their own.
const CALL: usize = 192;

/// Pixels that stand one after another, in the planes and in a panel.
#[derive(Clone, Copy)]
pub(in crate::kernel::conv) struct Run {
    /// Where the first one is in the planes.
    pub from: usize,
    /// Its lane of the panel.
    pub lane: usize,
    pub len: usize,
}

/// Rows of a panel: for each offset, the runs.
pub(in crate::kernel::conv) struct Gather<'a, T> {
    pub planes: *const T,
    /// Whole registers are read before this place only.
    pub end: *const T,
    pub offs: &'a [isize],
    pub runs: &'a [Run],
    pub to: *mut T,
    /// Elements of a row of the panel.
    pub width: usize,
}

/// Where results go: pixel `(y, x)` of image `n` and row `i` of the product to `n * image + i * channel + y * row + x * column`.
#[derive(Clone, Copy)]
pub(super) struct Place<T> {
    pub to: *mut T,
    pub image: usize,
    pub channel: usize,
    pub row: usize,
    pub column: usize,
}

/// The product for some images of a group.
pub(super) struct Panels<'a, T: Float> {
    /// Rows of the product.
    pub m: usize,
    pub offs: &'a [isize],
    /// Height and width of the output.
    pub out: [usize; 2],
    /// Distance between rows in the planes, and between images.
    pub row: usize,
    pub image: usize,
    pub images: usize,
    /// Whether the left matrix lies row after row, instead of packed.
    pub in_place: bool,
    /// Whether the results are max(0, out).
    pub relu: bool,
    pub family: &'static Family<T>,
    pub routines: &'static Routines<T>,
}

/// Images of a group, laid out.
pub(super) struct Source<'a, T> {
    pub planes: &'a [T],
    /// Distance between images in the planes.
    pub image: usize,
    /// The first image, and how many.
    pub first: usize,
    pub images: usize,
}

/// How many images of an output of size `out` are one call.
pub(super) fn images_at_once(batch: usize, out: [usize; 2]) -> usize {
    CALL.div_ceil((out[0] * out[1]).max(1)).min(batch.max(1))
}

/// Calls `f(group, images, parallel)` for all images, as many at a time as make enough pixels of an output of size `out`. `src` has the
/// images, of so many channels in each group. Calls are shared among threads if they are many, or else, `parallel`, their work is.
pub(super) fn for_images<T: Float>(
    c: &Conv,
    out: [usize; 2],
    planes: &Planes,
    (src, channels): (&[T], usize),
    ns: f64,
    f: impl Fn(usize, Source<T>, bool) + Sync,
) {
    let chunks = c.batch.div_ceil(images_at_once(c.batch, out));
    let unit = src.len() / (c.batch * c.groups);
    let call = |i: usize, parallel: bool| {
        let (chunk, group) = (i / c.groups, i % c.groups);
        let (first, end) = (c.batch * chunk / chunks, c.batch * (chunk + 1) / chunks);
        let images = end - first;
        let at = |n: usize| (n * c.groups + group) * unit;
        if planes.as_is {
            let source =
                Source { planes: &src[at(first)..], image: c.groups * unit, first, images };
            return f(group, source, parallel);
        }
        with(&PLANES, |scratch| {
            let image = planes.len(channels);
            let buffer = scratch.get::<T>(images * image);
            for (n, to) in (first..end).zip(buffer.chunks_exact_mut(image)) {
                planes.fill(T::routines(isa()), &src[at(n)..at(n) + unit], channels, to);
            }
            f(group, Source { planes: buffer, image, first, images }, parallel);
        });
    };
    let calls = chunks * c.groups;
    if calls < MANY {
        (0..calls).for_each(|i| call(i, true));
    } else {
        par::for_each(calls, ns / chunks as f64, |i| call(i, false));
    }
}

impl<T: Float> Panels<'_, T> {
    /// Lanes of a panel.
    fn width(&self) -> usize {
        self.family.registers * self.family.lanes
    }

    fn pixels(&self) -> usize {
        self.images * self.out[0] * self.out[1]
    }

    fn strips(&self) -> usize {
        self.m.div_ceil(self.family.rows)
    }

    /// The first row of a strip.
    fn strip(&self, i: usize) -> usize {
        self.m * i / self.strips()
    }

    /// Estimate of the time that everything takes, in nanoseconds.
    pub(super) fn ns(&self) -> f64 {
        let k = self.offs.len() as f64;
        self.pixels() as f64 * (2.0 * self.m as f64 * k / self.family.rate + 0.1 * k) + 100.0
    }

    /// Computes everything on this thread, or shared among threads where it is too much for one and `parallel`.
    ///
    /// # Safety
    /// Every offset plus every pixel's place lies inside `planes`. All places of results are writable, and nobody else touches them. `a` is
    /// packed as by [`Shifted::pack`](super::shifted::Shifted::pack), or not at all if `in_place`.
    pub(super) unsafe fn run(
        &self,
        a: &[T],
        bias: Option<&[T]>,
        planes: &[T],
        place: Place<T>,
        parallel: bool,
    ) {
        assert!(a.len() >= self.m * self.offs.len());
        let to = SyncPtr(place.to);
        let panels = self.panels();
        let small = self.m * self.offs.len() * size_of::<T>() <= SMALL;
        let blocks = if small { panels } else { panels.div_ceil((PIXELS / self.width()).max(1)) };
        // Each split copies the pixels for itself: no more of them than there are threads. Those of a small matrix have whole channels of
        // the output, as loops over it have.
        let splits = match (parallel, small) {
            (false, _) => 1,
            (true, true) => par::threads_here().min(self.strips()),
            (true, false) => par::threads_here().div_ceil(blocks).min(self.strips().div_ceil(4)),
        };
        let part = |i: usize| {
            let (split, block) = (i / blocks, i % blocks);
            let block = panels * block / blocks..panels * (block + 1) / blocks;
            let strips = self.strips() * split / splits..self.strips() * (split + 1) / splits;
            let starts: SmallVec<[usize; 17]> =
                (block.start..=block.end).map(|i| self.panel(i)).collect();
            // SAFETY: the caller's promise; parts have pixels or rows of their own.
            unsafe {
                self.block(a, bias, planes, Place { to: to.get(), ..place }, &starts, strips)
            };
        };
        let parts = blocks * splits;
        match parallel {
            true => par::for_each(parts, self.ns() / parts as f64, part),
            false => (0..parts).for_each(part),
        }
    }

    fn panels(&self) -> usize {
        self.pixels().div_ceil(self.width())
    }

    /// The first pixel of a panel: all have nearly as many registers.
    fn panel(&self, i: usize) -> usize {
        let registers = self.pixels().div_ceil(self.family.lanes);
        self.pixels().min(registers * i / self.panels().max(1) * self.family.lanes)
    }

    /// Whether the pixels of a panel stand one after another in the output too.
    fn direct(&self, place: &Place<T>) -> bool {
        self.images == 1 && place.column == 1 && place.row == self.out[1]
    }

    /// The runs of a panel's pixels, and where the first of each goes.
    fn runs(&self, panel: Range<usize>, place: &Place<T>) -> (Vec<Run>, Vec<usize>) {
        let [height, width] = self.out;
        let mut pixel = panel.start;
        let most = panel.len() / width.max(1) + 2;
        let (mut runs, mut places) = (Vec::with_capacity(most), Vec::with_capacity(most));
        while pixel < panel.end {
            let (y, x) = (pixel / width, pixel % width);
            let (n, y) = (y / height, y % height);
            let len = (width - x).min(panel.end - pixel);
            let from = n * self.image + y * self.row + x;
            runs.push(Run { from, lane: pixel - panel.start, len });
            places.push(n * place.image + y * place.row + x * place.column);
            pixel += len;
        }
        (runs, places)
    }

    /// # Safety
    /// As [`run`](Self::run), for the panels that begin at these pixels, the last of which is behind them, and for these strips.
    unsafe fn block(
        &self,
        a: &[T],
        bias: Option<&[T]>,
        planes: &[T],
        place: Place<T>,
        starts: &[usize],
        strips: Range<usize>,
    ) {
        let (k, width, lanes) = (self.offs.len(), self.width(), self.family.lanes);
        let (top, bottom) = (self.strip(strips.start), self.strip(strips.end));
        let direct = self.direct(&place);
        let sums_len = if direct { 0 } else { (bottom - top) * width };
        let runs: SmallVec<[(Vec<Run>, Vec<usize>); 16]> =
            starts.windows(2).map(|w| self.runs(w[0]..w[1], &place)).collect();
        // Stretches of the sum, of nearly equal length.
        let stretch = k.div_ceil(k.div_ceil(BLOCK).max(1)).max(1);
        let panel_len = stretch * width;
        with(&PANELS, |panel_scratch| {
            with(&RESULT, |scratch| {
                let b = panel_scratch.get::<T>(runs.len() * panel_len + lanes);
                let sums = scratch.get::<T>(runs.len() * sums_len + lanes);
                for k0 in (0..k.max(1)).step_by(stretch) {
                    let offs = &self.offs[k0..k.min(k0 + stretch)];
                    for (i, (runs, _)) in runs.iter().enumerate() {
                        let gather = Gather {
                            planes: planes.as_ptr(),
                            end: planes.as_ptr_range().end,
                            offs,
                            runs,
                            to: b[i * panel_len..].as_mut_ptr(),
                            width,
                        };
                        // SAFETY: offsets and pixels are inside the planes, by the caller's promise. Panels are written in
                        // ascending order, so what is written behind one belongs to a later one, or to the last one's register.
                        unsafe { (self.routines.gather)(&gather) };
                    }
                    for strip in strips.clone() {
                        let (first, end) = (self.strip(strip), self.strip(strip + 1));
                        let rows = end - first;
                        for (i, start) in starts.windows(2).enumerate() {
                            let used = start[1] - start[0];
                            let registers = used.div_ceil(lanes);
                            let (c, c_rs) = if direct {
                                let at = first * place.channel + start[0];
                                (place.to.wrapping_add(at), place.channel)
                            } else {
                                (sums[i * sums_len + (first - top) * width..].as_mut_ptr(), width)
                            };
                            let end_of_sum = direct && k0 + offs.len() == k;
                            let bias_row = bias.filter(|_| end_of_sum);
                            let tile = Tile {
                                k: offs.len(),
                                a: a[first * k + k0 * if self.in_place { 1 } else { rows }..]
                                    .as_ptr(),
                                a_rs: if self.in_place { k as isize } else { 1 },
                                a_cs: if self.in_place { 1 } else { rows as isize },
                                b: b[i * panel_len..].as_ptr(),
                                b_rs: width as isize,
                                offs: std::ptr::null(),
                                c,
                                c_rs: c_rs as isize,
                                last: if direct {
                                    lanes - (registers * lanes - used)
                                } else {
                                    lanes
                                },
                                accumulate: k0 > 0,
                                bias_col: std::ptr::null(),
                                bias_row: bias_row
                                    .map_or(std::ptr::null(), |b| b[first..end].as_ptr()),
                                relu: self.relu && end_of_sum,
                                next: std::ptr::null(),
                                next_step: 0,
                            };
                            // SAFETY: a strip's panel of `a` has `k` columns of `rows`; a panel of `b` has a row of whole registers for
                            // each offset, and the sums for each row, or these pixels of the output are the caller's to give. The
                            // family was chosen by a detected instruction set.
                            unsafe {
                                self.family.kernel(rows, registers, BRows::Strided, true)(&tile)
                            };
                        }
                    }
                }
                if direct {
                    return;
                }
                // The first row's place; that all are writable, which `Put` relies on, is the caller's promise.
                let place = Place { to: place.to.wrapping_add(top * place.channel), ..place };
                let bias = bias.map(|b| &b[top..bottom]);
                for (i, (runs, places)) in runs.iter().enumerate() {
                    let sums = &sums[i * sums_len..(i + 1) * sums_len];
                    let relu = self.relu;
                    dispatch(Put { sums, width, runs, places, bias, relu, place });
                }
            });
        });
    }
}

/// Writes the sums of a panel, rows of `width`, to their places, which whoever makes one has found to be writable.
struct Put<'a, T> {
    sums: &'a [T],
    width: usize,
    runs: &'a [Run],
    /// Where the first pixel of each run goes.
    places: &'a [usize],
    bias: Option<&'a [T]>,
    relu: bool,
    place: Place<T>,
}

impl<T: Float> Kernel for Put<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let place = self.place;
        let value = |sum: T, bias: T| match sum + bias {
            v if self.relu && v < T::ZERO => T::ZERO,
            v => v,
        };
        for (row, sums) in self.sums.chunks_exact(self.width).enumerate() {
            let bias = self.bias.map_or(T::ZERO, |b| b[row]);
            for (run, at) in self.runs.iter().zip(self.places) {
                let sums = &sums[run.lane..run.lane + run.len];
                // SAFETY: the promise of the one who made this.
                unsafe {
                    let to = place.to.add(at + row * place.channel);
                    if place.column == 1 {
                        let to = std::slice::from_raw_parts_mut(to, sums.len());
                        to.iter_mut().zip(sums).for_each(|(to, &sum)| *to = value(sum, bias));
                    } else {
                        for (i, &sum) in sums.iter().enumerate() {
                            *to.add(i * place.column) = value(sum, bias);
                        }
                    }
                }
            }
        }
    }
}
