//! A convolution as a matrix product over shifted planes (see [`Planes`](super::planes::Planes)), by the micro-kernel of
//! [`gemm`](crate::kernel::gemm::tile) with its table of offsets: no im2col.
//!
//! ```text
//! out[i][y*width + x] = bias[i] + sum over p of  a[i][p] * planes[offs[p] + y*row + x]
//! ```
//!
//! How columns are cut into registers is chosen by what wastes least ([`Columns`]): all pixels as one flat row of `row` elements per
//! output row, of which the last `row - width` are computed for nothing and dropped, or each output row by itself, its last
//! register partly empty. Where `row == width` the flat row is the output itself.

use std::ops::Range;

use super::panels::{Panels, Source};
use super::routines::{Routines, Rows};
use super::scratch::{RESULT, WEIGHT, with};
use crate::float::Float;
use crate::kernel::gemm::pack::{SLACK as PACK_SLACK, pack};
use crate::kernel::gemm::tile::{BRows, Family, Tile};
use crate::kernel::par::{self, SyncPtr};
use crate::kernel::simd::isa;

/// How columns are cut into registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Columns {
    /// One flat row that is the output.
    Direct,
    /// One flat row, from which the output's rows are picked.
    Picked,
    /// Row by row.
    Rows,
}

/// Elements of the planes that a block of columns may touch: a quarter of a second-level cache.
const BLOCK: usize = 64 << 10;

/// A unit of work: the product for one image and group.
pub(super) struct Shifted<T: Float> {
    m: usize,
    /// `k` offsets.
    offs: Vec<isize>,
    /// Height and width of the output.
    pub out: [usize; 2],
    /// Distance between rows in the planes.
    row: usize,
    family: &'static Family<T>,
    routines: &'static Routines<T>,
    columns: Columns,
    /// Whether the results are max(0, out).
    pub relu: bool,
    /// The largest offset.
    reach: usize,
    /// Registers that an image takes.
    registers: usize,
}

impl<T: Float> Shifted<T> {
    pub(super) fn new(m: usize, offs: Vec<isize>, out: [usize; 2], row: usize) -> Self {
        let family = T::family(isa());
        let k = offs.len() as f64;
        let flat = ((out[0].max(1) - 1) * row + out[1]).div_ceil(family.lanes) as f64;
        let by_row = (out[0] * out[1].div_ceil(family.lanes)) as f64;
        // A row of one register leaves half of the multipliers waiting; picking costs a few loads and stores.
        let by_row = by_row * (0.5 * k + 1.0) * if out[1] <= family.lanes { 1.3 } else { 1.0 };
        let columns = match row == out[1] {
            true => Columns::Direct,
            false if flat * (0.5 * k + 4.0) <= by_row => Columns::Picked,
            false => Columns::Rows,
        };
        let routines = T::routines(isa());
        let reach = offs.iter().max().map_or(0, |&o| o as usize);
        let registers = match columns {
            Columns::Rows => out[0] * out[1].div_ceil(family.lanes),
            _ => flat as usize,
        };
        Self { m, offs, out, row, family, routines, columns, relu: false, reach, registers }
    }

    /// Tiles of rows.
    fn tiles(&self) -> usize {
        self.m.div_ceil(self.family.rows)
    }

    /// The first row of a tile.
    fn tile_start(&self, tile: usize) -> usize {
        self.m * tile / self.tiles()
    }

    /// Room for [`pack`](Self::pack).
    pub(super) fn packed_len(&self) -> usize {
        self.m * self.offs.len()
    }

    /// Packs the left matrix, whose element `(i, p)` is `a(i, p)`: a panel per tile.
    pub(super) fn pack(&self, to: &mut [T], a: impl Fn(usize, usize) -> T) {
        let k = self.offs.len();
        for tile in 0..self.tiles() {
            let (start, end) = (self.tile_start(tile), self.tile_start(tile + 1));
            let panel = &mut to[start * k..end * k];
            for (p, to) in panel.chunks_exact_mut(end - start).enumerate() {
                for (i, to) in to.iter_mut().enumerate() {
                    *to = a(start + i, p);
                }
            }
        }
    }

    /// [`pack`](Self::pack) of a matrix that lies row after row. Up to [`PACK_SLACK`] elements behind it are overwritten.
    pub(super) fn pack_rows(&self, to: &mut [T], a: &[T]) {
        let k = self.offs.len();
        assert!(to.len() >= self.packed_len() + PACK_SLACK && a.len() >= self.m * k);
        for tile in 0..self.tiles() {
            let (start, end) = (self.tile_start(tile), self.tile_start(tile + 1));
            let (rows, from) = (end - start, a[start * k..].as_ptr());
            let to = to[start * k..].as_mut_ptr();
            // SAFETY: rows `start..end` are in `a`, and their panel in `to`, with slack behind the last one; panels are written in ascending
            // order.
            unsafe { pack(isa(), k, from, 1, k as isize, rows, rows, to) };
        }
    }

    /// Adds an offset to the sums.
    pub(super) fn also(&mut self, off: usize) {
        self.offs.push(off as isize);
        self.reach = self.reach.max(off);
    }

    /// Whether it is faster to copy pixels of so many images together than to read them where they lie.
    pub(super) fn gathers(&self, images: usize) -> bool {
        // Cycles for each register of pixels: half of one for each row and offset, a tenth more where registers straddle two lines
        // of the cache; a few for each offset to fill a panel, and for each row to empty it, where it is not the output itself.
        let (m, k) = (self.m as f64, self.offs.len() as f64);
        let pixels = (self.out[0] * self.out[1]) as f64 / self.family.lanes as f64;
        let emptied = if self.columns == Columns::Picked { 3.0 } else { 0.0 };
        let put = if images == 1 { 0.5 } else { 5.0 };
        let shifted = self.registers as f64 * m * (0.55 * k + emptied);
        pixels * (m * (0.5 * k + put) + 2.5 * k) < shifted
    }

    /// The same product by panels.
    pub(super) fn panels<'a>(&'a self, source: &Source<T>, in_place: bool) -> Panels<'a, T> {
        Panels {
            m: self.m,
            offs: &self.offs,
            out: self.out,
            row: self.row,
            image: source.image,
            images: source.images,
            in_place,
            relu: self.relu,
            family: self.family,
            routines: self.routines,
        }
    }

    /// Estimate of the time that the whole product takes, in nanoseconds.
    pub(super) fn ns(&self) -> f64 {
        let pixels = (self.out[0] * self.out[1]) as f64;
        2.0 * (self.m * self.offs.len()) as f64 * pixels / self.family.rate
            + 0.1 * self.m as f64 * pixels
            + 50.0
    }

    /// Computes everything on this thread.
    ///
    /// # Safety
    /// `planes` is the slice's start, at which every offset plus every pixel lies inside it; `out` has room for `m` planes, which
    /// nobody else touches.
    pub(super) unsafe fn run(&self, a: &[T], bias: Option<&[T]>, planes: &[T], out: *mut T) {
        let step = self.block_rows();
        for y in (0..self.out[0]).step_by(step) {
            let rows = y..self.out[0].min(y + step);
            // SAFETY: the caller's promise.
            unsafe { self.block(a, bias, planes, out, 0..self.tiles(), rows) };
        }
    }

    /// Rows of output whose share of the planes stays in the cache.
    fn block_rows(&self) -> usize {
        let channels = self.offs.len().div_ceil(4).max(1);
        (BLOCK / (channels * self.row).max(1)).clamp(1, self.out[0].max(1)).max(8)
    }

    /// Computes everything, shared among threads: for few but large images.
    ///
    /// # Safety
    /// As [`run`](Self::run).
    pub(super) unsafe fn run_parallel(
        &self,
        a: &[T],
        bias: Option<&[T]>,
        planes: &[T],
        out: *mut T,
    ) {
        let (ns, tiles) = (self.ns(), self.tiles());
        let parts = ((ns / 4_000.0) as usize).clamp(1, 32);
        let row_parts = tiles.min(parts);
        let y_parts =
            self.out[0].div_ceil(self.block_rows()).max(parts.div_ceil(row_parts)).min(self.out[0]);
        let out = SyncPtr(out);
        par::for_each(row_parts * y_parts, ns / (row_parts * y_parts) as f64, |i| {
            let (ty, tr) = (i % y_parts, i / y_parts);
            let rows = self.out[0] * ty / y_parts..self.out[0] * (ty + 1) / y_parts;
            let tiles = tiles * tr / row_parts..tiles * (tr + 1) / row_parts;
            // SAFETY: the caller's promise, and parts write different rows of tiles or of pixels.
            unsafe { self.block(a, bias, planes, out.get(), tiles, rows) };
        });
    }

    /// # Safety
    /// As [`run`](Self::run), for these tiles of rows and these rows of pixels.
    unsafe fn block(
        &self,
        a: &[T],
        bias: Option<&[T]>,
        planes: &[T],
        out: *mut T,
        tiles: Range<usize>,
        ys: Range<usize>,
    ) {
        let (k, width, lanes) = (self.offs.len(), self.out[1], self.family.lanes);
        if ys.is_empty() || width == 0 {
            return;
        }
        let plane = self.out[0] * width;
        let flat = (ys.len() - 1) * self.row + width;
        for tile in tiles {
            let (start, end) = (self.tile_start(tile), self.tile_start(tile + 1));
            let panel = &a[start * k..end * k];
            let bias = bias.map_or(std::ptr::null(), |b| b[start..end].as_ptr());
            let to = out.wrapping_add(start * plane + ys.start * width);
            let at = ys.start * self.row;
            // SAFETY: the tile's rows and these pixels belong to this call alone, by the caller's promise.
            unsafe {
                match self.columns {
                    Columns::Direct => {
                        self.strip((panel, end - start), bias, planes, at, flat, to, plane)
                    }
                    Columns::Rows => {
                        for y in 0..ys.len() {
                            let (at, to) = (at + y * self.row, to.wrapping_add(y * width));
                            self.strip((panel, end - start), bias, planes, at, width, to, plane);
                        }
                    }
                    Columns::Picked => with(&RESULT, |scratch| {
                        let wide = flat.next_multiple_of(lanes);
                        let sums = scratch.get::<T>((end - start) * wide + lanes).as_mut_ptr();
                        self.strip((panel, end - start), bias, planes, at, flat, sums, wide);
                        let job = Rows {
                            from: sums.cast_const(),
                            from_row: self.row,
                            to,
                            from_plane: wide,
                            to_row: width,
                            to_plane: plane,
                            len: width,
                            count: ys.len(),
                            planes: end - start,
                            lead: 0,
                            tail: 0,
                            end: to.wrapping_add(ys.len() * width),
                            end_plane: plane,
                        };
                        (self.routines.rows)(&job);
                    }),
                }
            }
        }
    }

    /// One tile of rows by `len` pixels that stand one after another, from `at` in the planes on.
    ///
    /// # Safety
    /// `to` has room for the tile's rows, `to_row` apart, and nobody else touches them.
    unsafe fn strip(
        &self,
        (panel, rows): (&[T], usize),
        bias: *const T,
        planes: &[T],
        at: usize,
        len: usize,
        to: *mut T,
        to_row: usize,
    ) {
        let (k, lanes) = (self.offs.len(), self.family.lanes);
        let registers = len.div_ceil(lanes);
        let tiles = registers.div_ceil(self.family.registers);
        for j in 0..tiles {
            let (first, end) = (registers * j / tiles, registers * (j + 1) / tiles);
            let col = first * lanes;
            let last = lanes - (end * lanes).saturating_sub(len);
            // A whole register may be read where it ends inside the slice.
            let full = last == lanes || at + self.reach + end * lanes <= planes.len();
            let tile = Tile {
                k,
                a: panel.as_ptr(),
                a_rs: 1,
                a_cs: rows as isize,
                b: planes.as_ptr().wrapping_add(at + col),
                b_rs: 0,
                offs: self.offs.as_ptr(),
                c: to.wrapping_add(col),
                c_rs: to_row as isize,
                last,
                accumulate: false,
                bias_col: std::ptr::null(),
                bias_row: bias,
                relu: self.relu,
                next: std::ptr::null(),
                next_step: 0,
            };
            debug_assert!(k == 0 || at + self.reach + len <= planes.len());
            // SAFETY: offsets plus pixels lie inside `planes`, by the caller's promise, and beyond the last one only if `full` was
            // found true; C is the caller's to give. The family was chosen by a detected instruction set.
            unsafe { self.family.kernel(rows, end - first, BRows::Table, full)(&tile) };
        }
    }
}

/// Runs `f` with a buffer for packed weights and the slack behind them, on the calling thread.
pub(super) fn with_packed<T: Float, R>(len: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
    with(&WEIGHT, |scratch| f(scratch.get::<T>(len + PACK_SLACK)))
}
