//! Convolutions by windows of 3 by 3 without stride, in 4 multiplications per pixel and channel instead of 9.
//!
//! Winograd's F(2×2, 3×3) (Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015):
//!
//! ```text
//! for each tile of 2 by 2 pixels of output, and the 4 by 4 pixels d of input that they see:
//!     U = G w Gᵀ     of each window                        16 numbers from 9
//!     V = Bᵀ d B     of each tile and input channel        16 numbers from 16, by additions only
//!     M = Σ U · V    over input channels, elementwise      16 products, each of them a matrix product over all tiles
//!     y = Aᵀ M A     of each tile and output channel       4 numbers from 16, by additions only
//! ```
//!
//! A block of tiles is transformed, lies in the second-level cache, and meets one micro-kernel's rows of output channels after the other:
//! the 16 products of such a tile of C stay in the first-level cache until they have become pixels. Nothing else is kept.
//!
//! Sums over channels run in ascending order whatever the blocks, so blocks change no bit.

mod filters;
pub(super) mod pixels;
pub(super) mod tiles;
mod weight_grad;

use std::ops::Range;

use super::Conv;
use super::routines::Routines;
use super::scratch::{PLANES, RESULT, WEIGHT, with};
use crate::float::Float;
use crate::kernel::gemm::tile::{BRows, Family, Tile};
use crate::kernel::par::{self, SyncPtr};
use crate::kernel::simd::isa;
use crate::tensor::Block;
pub(super) use filters::Filters;
use tiles::{AHEAD, POINTS, TilesIn, TilesOut, line};
pub(super) use weight_grad::weight_grad;

/// Fewer channels than this, on either side, and the transforms cost more than they save.
const CHANNELS: usize = 24;
/// Fewer tiles than this, and the transform of the weight does.
const TILES: usize = 40;
/// Bytes of a block of transformed tiles: about half of a second-level cache.
const BLOCK: usize = 1 << 20;
/// Up to so many panels of tiles, it costs less to transform the weight for each block of them than to write it to memory and read it again.
const FEW: usize = 4;

/// Whether this is the way to compute a convolution, or a gradient of one, whose result (or whose output) has this size.
fn suits(c: &Conv, output: [usize; 2]) -> bool {
    c.kernel == [3, 3]
        && c.stride == [1, 1]
        && c.dilation == [1, 1]
        && c.c_in.min(c.c_out) >= CHANNELS
        && c.batch * output[0].div_ceil(2) * output[1].div_ceil(2) >= TILES
}

/// The weight of a group.
enum Weight<'a, T> {
    /// As [`Winograd::transform`] left it.
    Transformed(&'a [T]),
    Plain(Filters<'a, T>),
}

/// A convolution of one group, in whichever direction.
pub(super) struct Winograd<T: Float> {
    /// Channels that are summed, and channels of output.
    columns: usize,
    rows: usize,
    batch: usize,
    groups: usize,
    input: [usize; 2],
    before: [isize; 2],
    output: [usize; 2],
    /// Tiles below and beside each other.
    tiles: [usize; 2],
    /// Registers of a panel's rows.
    registers: usize,
    family: &'static Family<T>,
    routines: &'static Routines<T>,
}

impl<T: Float> Winograd<T> {
    /// The forward pass, if this is the way to go.
    pub(super) fn forward(c: &Conv) -> Option<Self> {
        let before = [c.pad[0][0] as isize, c.pad[1][0] as isize];
        Self::new(c, [c.c_in, c.c_out], c.input, before, c.output())
    }

    /// The gradient of the input: the same with the window turned around.
    pub(super) fn input_grad(c: &Conv) -> Option<Self> {
        let before = [2 - c.pad[0][0] as isize, 2 - c.pad[1][0] as isize];
        Self::new(c, [c.c_out, c.c_in], c.output(), before, c.input)
    }

    fn new(
        c: &Conv,
        [columns, rows]: [usize; 2],
        input: [usize; 2],
        before: [isize; 2],
        output: [usize; 2],
    ) -> Option<Self> {
        let tiles = output.map(|n| n.div_ceil(2));
        let family = T::family(isa());
        // Panels of nearly equal width: those of 64 tiles have two registers of 16, not three and one.
        let registers = (c.batch * tiles[0] * tiles[1]).div_ceil(family.lanes);
        let registers = registers.div_ceil(registers.div_ceil(family.registers).max(1));
        suits(c, output).then(|| Self {
            columns,
            rows,
            batch: c.batch,
            groups: c.groups,
            input,
            before,
            output,
            tiles,
            registers,
            family,
            routines: T::routines(isa()),
        })
    }

    /// Tiles of an image.
    fn per_image(&self) -> usize {
        self.tiles[0] * self.tiles[1]
    }

    /// Tiles that a panel holds: the columns of a micro-kernel.
    fn width(&self) -> usize {
        self.registers * self.family.lanes
    }

    /// Panels of all tiles of a group.
    fn panels(&self) -> usize {
        (self.batch * self.per_image()).div_ceil(self.width())
    }

    /// Distance between the points of a panel: not a power of two, so that they do not compete for lines of the cache.
    fn point(&self) -> usize {
        self.columns * self.width() + self.family.lanes
    }

    /// Distance between rows of the transformed weight.
    fn step(&self) -> usize {
        self.columns.next_multiple_of(filters::LANES)
    }

    /// Tiles of rows.
    fn strips(&self) -> usize {
        self.rows.div_ceil(self.family.rows)
    }

    /// The first row of a strip.
    fn strip(&self, i: usize) -> usize {
        self.rows * i / self.strips()
    }

    /// Time of the products of one panel, in nanoseconds.
    fn panel_ns(&self) -> f64 {
        let products = (POINTS * self.rows * self.columns * self.width()) as f64;
        2.0 * products / self.family.rate
    }

    /// Computes everything. `filters` are those of all groups, `group` apart.
    pub(super) fn run(
        &self,
        x: &[T],
        filters: Filters<T>,
        group: usize,
        bias: Option<&[T]>,
        relu: bool,
        y: &mut [T],
    ) {
        let x_unit = self.columns * self.input[0] * self.input[1];
        let y_unit = self.rows * self.output[0] * self.output[1];
        assert_eq!(x.len(), self.batch * self.groups * x_unit);
        assert_eq!(y.len(), self.batch * self.groups * y_unit);
        let panels = self.panels();
        let most = (BLOCK / (POINTS * self.point() * size_of::<T>())).max(1);
        let few = panels <= FEW;
        let mut weight = Block::<T>::stale(if few { 0 } else { POINTS * self.step() * self.rows });
        let y = SyncPtr(y.as_mut_ptr());
        for g in 0..self.groups {
            let filters = Filters { weight: &filters.weight[g * group..], ..filters };
            let bias = bias.map(|b| &b[g * self.rows..(g + 1) * self.rows]);
            // Blocks that fit the cache, and strips where there are few of them.
            let (blocks, splits) = if few {
                // Each part transforms its tiles for itself: no more of them than there are threads. A little beyond the cache does
                // no harm.
                (panels.div_ceil(2 * most), par::threads_here().min(self.strips()))
            } else {
                self.transform(filters, &mut weight);
                let blocks = panels.div_ceil(most).max(panels.min(8));
                (blocks, (8 / blocks).clamp(1, self.strips()))
            };
            let weight = if few { Weight::Plain(filters) } else { Weight::Transformed(&weight) };
            let parts = blocks * splits;
            let ns = self.panel_ns() * panels as f64 / parts as f64;
            par::for_each(parts, ns, |i| {
                let (block, split) = (i / splits, i % splits);
                let panels = panels * block / blocks..panels * (block + 1) / blocks;
                let strips = self.strips() * split / splits..self.strips() * (split + 1) / splits;
                // SAFETY: parts have tiles or rows of their own, and with them pixels of the output, which the assertion found to be
                // of the right size.
                unsafe { self.block(x, g, &weight, (bias, relu), panels, strips, y.get()) };
            });
        }
    }

    /// The weight of a group: for each strip, each point's panel.
    fn transform(&self, filters: Filters<T>, to: &mut [T]) {
        let each = POINTS * self.step();
        let to = SyncPtr(to.as_mut_ptr());
        par::for_each(self.strips(), 4.0 * (self.columns * self.family.rows) as f64, |i| {
            let (first, end) = (self.strip(i), self.strip(i + 1));
            // SAFETY: strips are disjoint, and `to` has `each` elements for each row.
            let to = unsafe {
                std::slice::from_raw_parts_mut(to.get().add(first * each), (end - first) * each)
            };
            filters.transform(first..end, self.columns, to);
        });
    }

    /// # Safety
    /// `y` is the whole output, and nobody else touches these rows of these panels.
    unsafe fn block(
        &self,
        x: &[T],
        group: usize,
        weight: &Weight<T>,
        (bias, relu): (Option<&[T]>, bool),
        panels: Range<usize>,
        strips: Range<usize>,
        y: *mut T,
    ) {
        let size = POINTS * self.point();
        with(&PLANES, |scratch| {
            // Behind the last point, room for the rows of the image.
            let lines = line(self.tiles[1], self.family.lanes) * self.line_count();
            let all = scratch.get::<T>(panels.len() * size + lines);
            let (v, lines) = all.split_at_mut(panels.len() * size);
            for (to, panel) in v.chunks_exact_mut(size).zip(panels.clone()) {
                self.fill(x, group, panel, to, lines.as_mut_ptr());
            }
            for strip in strips {
                let (first, end) = (self.strip(strip), self.strip(strip + 1));
                let each = POINTS * self.step();
                let all = first * each..end * each;
                let bias = bias.map_or(std::ptr::null(), |b| b[first..end].as_ptr());
                let multiply = |u: &[T]| {
                    for (v, panel) in v.chunks_exact(size).zip(panels.clone()) {
                        // SAFETY: the caller's promise.
                        unsafe { self.multiply(group, first..end, panel, u, v, (bias, relu), y) };
                    }
                };
                match weight {
                    Weight::Transformed(weight) => multiply(&weight[all]),
                    Weight::Plain(filters) => with(&WEIGHT, |scratch| {
                        let u = scratch.get::<T>(all.len());
                        filters.transform(first..end, self.columns, u);
                        multiply(u);
                    }),
                }
            }
        });
    }

    /// Some rows of one panel: the products `u · v` of all points, and the pixels that they make.
    ///
    /// # Safety
    /// As [`block`](Self::block).
    unsafe fn multiply(
        &self,
        group: usize,
        of: Range<usize>,
        panel: usize,
        u: &[T],
        v: &[T],
        after: (*const T, bool),
        y: *mut T,
    ) {
        let (point, rows) = (self.point(), of.len());
        assert!(u.len() >= POINTS * self.step() * rows && v.len() >= POINTS * point);
        with(&RESULT, |scratch| {
            let m = scratch.get::<T>(POINTS * rows * self.width() + self.family.lanes);
            let tiles = self.panel_tiles(panel);
            let registers = tiles.len().div_ceil(self.family.lanes);
            let kernel = self.family.kernel(rows, registers, BRows::Strided, true);
            for f in 0..POINTS {
                let tile = Tile {
                    k: self.columns,
                    a: u[f * self.step() * rows..].as_ptr(),
                    a_rs: self.step() as isize,
                    a_cs: 1,
                    b: v[f * point..].as_ptr(),
                    b_rs: self.width() as isize,
                    offs: std::ptr::null(),
                    c: m[f * rows * self.width()..].as_mut_ptr(),
                    c_rs: self.width() as isize,
                    last: self.family.lanes,
                    accumulate: false,
                    bias_col: std::ptr::null(),
                    bias_row: std::ptr::null(),
                    relu: false,
                    next: std::ptr::null(),
                    next_step: 0,
                };
                // SAFETY: the panels of the weight and of the tiles have `columns` rows each, of whole registers, and so
                // has the buffer of products. The family was chosen by a detected instruction set.
                unsafe { kernel(&tile) };
            }
            // SAFETY: the caller's promise.
            unsafe { self.finish(group, of, tiles, m, after, y) };
        });
    }

    /// The tiles of a panel.
    fn panel_tiles(&self, panel: usize) -> Range<usize> {
        let all = self.batch * self.per_image();
        panel * self.width()..all.min((panel + 1) * self.width())
    }

    /// The images of which a range has tiles: which, and the tiles within each.
    fn images(&self, tiles: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
        let per = self.per_image();
        (tiles.start / per..=(tiles.end - 1) / per).map(move |n| {
            let start = n * per;
            (n, tiles.start.max(start) - start..tiles.end.min(start + per) - start)
        })
    }

    /// Rows of padded planes that are held while a panel's tiles of one image are transformed, at most.
    fn line_count(&self) -> usize {
        let rows = (self.width().div_ceil(self.tiles[1]) + 1).min(self.tiles[0]);
        AHEAD * (2 * rows + 2)
    }

    /// Transforms the tiles of a panel.
    fn fill(&self, x: &[T], group: usize, panel: usize, to: &mut [T], lines: *mut T) {
        let unit = self.columns * self.input[0] * self.input[1];
        assert!(to.len() >= POINTS * self.point());
        let mut lane = 0;
        for (n, part) in self.images(self.panel_tiles(panel)) {
            let image = n * self.groups + group;
            let job = TilesIn {
                planes: x[image * unit..(image + 1) * unit].as_ptr(),
                channels: self.columns,
                size: self.input,
                before: self.before,
                per_row: self.tiles[1],
                tiles: [part.start, part.end],
                points: to[lane..].as_mut_ptr(),
                point: self.point(),
                channel: self.width(),
                lines,
            };
            // SAFETY: the planes were sliced; a panel's rows have a lane for each of its tiles, and `lines` has `line_count` lines.
            unsafe { (self.routines.winograd_in)(&job) };
            lane += part.len();
        }
    }

    /// Turns products into pixels.
    ///
    /// # Safety
    /// As [`block`](Self::block); `m` holds the products of these rows and tiles.
    unsafe fn finish(
        &self,
        group: usize,
        rows: Range<usize>,
        tiles: Range<usize>,
        m: &[T],
        after: (*const T, bool),
        y: *mut T,
    ) {
        let [height, width] = self.output;
        let mut lane = 0;
        for (n, part) in self.images(tiles) {
            let image = ((n * self.groups + group) * self.rows + rows.start) * height * width;
            let mut tile = part.start;
            while tile < part.end {
                let (ty, tx) = (tile / self.tiles[1], tile % self.tiles[1]);
                let count = (part.end - tile).min(self.tiles[1] - tx);
                let job = TilesOut {
                    products: m[lane..].as_ptr(),
                    point: rows.len() * self.width(),
                    channel: self.width(),
                    channels: rows.len(),
                    count,
                    bias: after.0,
                    relu: after.1,
                    to: y.wrapping_add(image + 2 * ty * width + 2 * tx),
                    to_row: width,
                    to_channel: height * width,
                    width: (width - 2 * tx).min(2 * count),
                    height: (height - 2 * ty).min(2),
                };
                // SAFETY: the pixels of these tiles are inside the image, and belong to this call alone; a register behind the last
                // product is still inside `m`.
                unsafe { (self.routines.winograd_out)(&job) };
                tile += count;
                lane += count;
            }
        }
    }
}
