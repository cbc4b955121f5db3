//! The gradients of a convolution's weight and bias: products over positions.
//!
//! ```text
//! dw[o, c, ky, kx] = sum over n, oy, ox of  g[n, o, oy, ox] * x[n, c, oy*sh + ky*dh - top, ox*sw + kx*dw - left]
//! db[o]            = sum over n, oy, ox of  g[n, o, oy, ox]
//! ```
//!
//! Three ways, by what fills the registers:
//!
//! - *wide*: the image with its channels innermost. For a row `ky` of the window, `(kx, c)` are then neighbours in memory, so the product of
//!   `g [o, position]` and the shifted image `[position, (kx, c)]` is one for the micro-kernel with its table of offsets.
//! - *narrow*, for few channels: the taps of the window as rows of positions (im2col of some output rows at a time), and dot products
//!   along positions, whose registers are added up only at the very end.
//!
//! - *single*, for one output channel in a group: the same dot products with the taps where they lie, a register of sums for each.
//!
//! Images are cut into a number of groups that depends on the shape only. Each group has sums of its own, added up in order.

use std::ops::Range;

use super::Conv;
use super::planes::{Planes, SLACK};
use super::pointwise;
use super::routines::{Correlate, DOT_COLS, Dots, MOST_TAPS, Rows};
use super::scratch::{PLANES, RESULT, SUMS, with};
use super::winograd;
use crate::float::Float;
use crate::kernel::gemm::tile::{BRows, Tile};
use crate::kernel::par::{self, SyncPtr};
use crate::kernel::simd::isa;

/// Below this many columns, registers would be mostly empty the wide way.
const WIDE: usize = 16;
/// Positions that a block of dot products takes.
const DOT_BLOCK: usize = 1024;
/// Positions that a block of products takes: its columns of the image stay in the first-level cache.
const TILE_BLOCK: usize = 160;
/// Multiply-adds that make a group of images worth its own sums.
const GROUP_WORK: f64 = 1e6;
/// Most groups of images.
const MAX_GROUPS: usize = 8;
/// Channels whose sums are added up at a time.
const ADDED: usize = 64;
/// Most elements of all sums together.
const MAX_SUMS: usize = 2 << 20;

/// Writes the gradients that are asked for, for dense operands: `g` in the shape of the output.
pub(crate) fn weight_grad<T: Float>(
    c: &Conv,
    x: &[T],
    g: &[T],
    dw: Option<&mut [T]>,
    db: Option<&mut [T]>,
) {
    assert_eq!((x.len(), g.len()), (c.x_len(), c.y_len()));
    let dw = dw.filter(|d| !d.is_empty());
    let db = db.filter(|d| !d.is_empty());
    assert!(dw.as_ref().is_none_or(|d| d.len() == c.w_len()));
    assert!(db.as_ref().is_none_or(|d| d.len() == c.groups * c.c_out));
    if g.is_empty() {
        dw.into_iter().chain(db).for_each(|d| d.fill(T::ZERO));
        return;
    }
    let dw = match dw {
        Some(dw) if pointwise::suits::<T>(c) => {
            pointwise::weight_grad(c, x, g, dw);
            None
        }
        Some(dw) => (!winograd::weight_grad(c, x, g, dw)).then_some(dw),
        None => None,
    };
    if dw.is_none() && db.is_none() {
        return;
    }
    let plan = Plan::<T>::new(c, dw.is_some(), db.is_some());
    with(&SUMS, |scratch| {
        let sums = scratch.get::<T>(plan.parts * c.groups * plan.unit);
        let base = SyncPtr(sums.as_mut_ptr());
        let images = c.batch as f64 / plan.parts as f64;
        let ns = images * c.unit_flop() / T::family(isa()).rate + 200.0;
        par::for_each(plan.parts * c.groups * plan.splits, ns / plan.splits as f64, |i| {
            let (split, unit) = (i % plan.splits, i / plan.splits);
            let (group, part) = (unit % c.groups, unit / c.groups);
            let images = c.batch * part / plan.parts..c.batch * (part + 1) / plan.parts;
            let rows = c.c_out * split / plan.splits..c.c_out * (split + 1) / plan.splits;
            // SAFETY: each unit has `plan.unit` elements of the sums, and each split of it rows of its own.
            unsafe { plan.part(x, g, group, images, rows, base.get().add(unit * plan.unit)) };
        });
        if let Some(dw) = dw {
            let per_row = c.c_in * c.taps();
            par::for_each_chunk_mut(dw, per_row, plan.parts as f64, |row, to| {
                plan.add_up(sums, row, to)
            });
        }
        if let Some(db) = db {
            for (row, to) in db.iter_mut().enumerate() {
                *to = plan.add_up_bias(sums, row);
            }
        }
    });
}

/// How the gradients of a shape are computed.
struct Plan<'a, T: Float> {
    c: &'a Conv,
    planes: Planes,
    kind: Kind,
    weight: bool,
    bias: bool,
    /// Groups of images.
    parts: usize,
    /// Parts of the output channels.
    splits: usize,
    /// Elements of one unit's sums: those of the weight, then a register per row for the bias.
    unit: usize,
    weights: usize,
    lanes: usize,
    ones: Vec<T>,
}

enum Kind {
    /// Offsets of the window's rows (or taps, where they are not neighbours), columns of each, and the table of positions.
    Wide { bases: Vec<usize>, cols: usize, table: Vec<isize> },
    /// Offsets of the taps.
    Narrow { taps: Vec<usize> },
}

impl<'a, T: Float> Plan<'a, T> {
    fn new(c: &'a Conv, weight: bool, bias: bool) -> Self {
        let planes = Planes::new(c.input, c.pad.map(|p| p.map(|v| v as isize)), c.stride);
        let lanes = T::routines(isa()).lanes;
        let [oh, ow] = c.output();
        let [kh, kw] = c.kernel;
        let neighbours = c.stride[1] == 1 && c.dilation[1] == 1;
        let cols = if neighbours { kw * c.c_in } else { c.c_in };
        let at = |ky: usize, kx: usize| planes.at(ky * c.dilation[0], kx * c.dilation[1]);
        let taps = || (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx)));
        let (kind, weights) = if c.c_in > 4 && cols >= WIDE {
            let bases = match neighbours {
                true => (0..kh).map(|ky| at(ky, 0) * c.c_in).collect(),
                false => taps().map(|(ky, kx)| at(ky, kx) * c.c_in).collect(),
            };
            let place = |y: usize, x: usize| ((y * planes.row + x) * c.c_in) as isize;
            let table = (0..oh).flat_map(|y| (0..ow).map(move |x| place(y, x))).collect();
            (Kind::Wide { bases, cols, table }, c.c_out * c.c_in * c.taps())
        } else {
            let taps = (0..c.c_in)
                .flat_map(|ci| taps().map(move |(ky, kx)| ci * planes.channel + at(ky, kx)))
                .collect();
            (Kind::Narrow { taps }, c.c_out * c.c_in * c.taps() * lanes)
        };
        let unit = weights + c.c_out * lanes;
        let work = c.batch as f64 * c.unit_flop() / 2.0 * c.groups as f64;
        let parts = ((work / GROUP_WORK) as usize)
            .min(MAX_GROUPS)
            .min(MAX_SUMS / (c.groups * unit).max(1))
            .clamp(1, c.batch);
        // Few images: the output channels are split as well, if they are many.
        let splits = (MAX_GROUPS / (parts * c.groups).max(1)).min(c.c_out / 32).max(1);
        let block = DOT_BLOCK.max(ow);
        let ones = vec![T::ONE; if bias { block } else { 0 }];
        Self { c, planes, kind, weight, bias, parts, splits, unit, weights, lanes, ones }
    }

    /// One group of images, some rows.
    ///
    /// # Safety
    /// `sums` has room for a unit, and nobody else touches these rows of it.
    unsafe fn part(
        &self,
        x: &[T],
        g: &[T],
        group: usize,
        images: Range<usize>,
        rows: Range<usize>,
        sums: *mut T,
    ) {
        let c = self.c;
        let plane = c.y_plane();
        // SAFETY: the caller's promise; rows of the bias are registers of their own.
        unsafe {
            let bias = sums.add(self.weights);
            if self.bias {
                std::slice::from_raw_parts_mut(
                    bias.add(rows.start * self.lanes),
                    rows.len() * self.lanes,
                )
                .fill(T::ZERO);
            }
            if let Kind::Narrow { taps } = &self.kind {
                let row = taps.len() * self.lanes;
                std::slice::from_raw_parts_mut(sums.add(rows.start * row), rows.len() * row)
                    .fill(T::ZERO);
            }
            for n in images.clone() {
                let unit = n * c.groups + group;
                let g = &g[unit * c.c_out * plane..(unit + 1) * c.c_out * plane];
                if self.weight {
                    let x = &x[unit * c.c_in * c.x_plane()..];
                    match &self.kind {
                        Kind::Wide { bases, cols, table } => {
                            self.wide(x, g, &rows, bases, *cols, table, n == images.start, sums);
                        }
                        Kind::Narrow { taps } => self.narrow(x, g, &rows, taps, sums),
                    }
                }
                if self.bias {
                    for p in (0..plane).step_by(self.ones.len()) {
                        let len = self.ones.len().min(plane - p);
                        self.dots(
                            g,
                            plane,
                            p,
                            len,
                            &rows,
                            (self.ones.as_ptr(), 0, 1),
                            (bias, self.lanes),
                        );
                    }
                }
            }
        }
    }

    /// # Safety
    /// As [`part`](Self::part).
    unsafe fn wide(
        &self,
        x: &[T],
        g: &[T],
        rows: &Range<usize>,
        bases: &[usize],
        cols: usize,
        table: &[isize],
        first: bool,
        sums: *mut T,
    ) {
        let (c, family) = (self.c, T::family(isa()));
        let plane = c.y_plane();
        let width = c.output()[1];
        let block = (TILE_BLOCK / width).max(1) * width;
        let row_tiles = rows.len().div_ceil(family.rows);
        let registers = cols.div_ceil(family.lanes);
        let col_tiles = registers.div_ceil(family.registers);
        with(&PLANES, |scratch| {
            let image = scratch.get::<T>(self.planes.channel * c.c_in + SLACK);
            self.planes.fill_transposed(T::routines(isa()), x, c.c_in, image);
            for p in (0..plane).step_by(block) {
                let offs = &table[p..plane.min(p + block)];
                for (i, &base) in bases.iter().enumerate() {
                    for j in 0..col_tiles {
                        let (r0, r1) = (registers * j / col_tiles, registers * (j + 1) / col_tiles);
                        let (col, end) = (r0 * family.lanes, r1 * family.lanes);
                        for t in 0..row_tiles {
                            let row = rows.start + rows.len() * t / row_tiles;
                            let row_end = rows.start + rows.len() * (t + 1) / row_tiles;
                            let tile = Tile {
                                k: offs.len(),
                                a: g[row * plane + p..].as_ptr(),
                                a_rs: plane as isize,
                                a_cs: 1,
                                b: image[base + col..].as_ptr(),
                                b_rs: 0,
                                offs: offs.as_ptr(),
                                // SAFETY: inside the unit's sums.
                                c: unsafe { sums.add((i * c.c_out + row) * cols + col) },
                                c_rs: cols as isize,
                                last: family.lanes - end.saturating_sub(cols),
                                accumulate: !(first && p == 0),
                                bias_col: std::ptr::null(),
                                bias_row: std::ptr::null(),
                                relu: false,
                                next: std::ptr::null(),
                                next_step: 0,
                            };
                            let kernel = family.kernel(row_end - row, r1 - r0, BRows::Table, true);
                            // SAFETY: positions of `g` are below `plane`; every tap of every position lies inside the image's planes,
                            // and registers of columns reach at most a register beyond, into the slack. The rows of
                            // the sums are this call's alone.
                            unsafe { kernel(&tile) };
                        }
                    }
                }
            }
        });
    }

    /// # Safety
    /// As [`part`](Self::part).
    unsafe fn narrow(&self, x: &[T], g: &[T], rows: &Range<usize>, taps: &[usize], sums: *mut T) {
        let c = self.c;
        let routines = T::routines(isa());
        if self.planes.as_is {
            // SAFETY: the caller's promise.
            return unsafe { self.narrow_planes(x, g, rows, taps, sums) };
        }
        with(&PLANES, |scratch| {
            let buffer = scratch.get::<T>(self.planes.len(c.c_in));
            self.planes.fill(routines, x, c.c_in, buffer);
            // SAFETY: the caller's promise.
            unsafe { self.narrow_planes(buffer, g, rows, taps, sums) };
        });
    }

    /// # Safety
    /// As [`part`](Self::part); `planes` is the image laid out.
    unsafe fn narrow_planes(
        &self,
        planes: &[T],
        g: &[T],
        rows: &Range<usize>,
        taps: &[usize],
        sums: *mut T,
    ) {
        let plane = self.c.y_plane();
        let [height, width] = self.c.output();
        let step = (DOT_BLOCK / width).max(1);
        let routines = T::routines(isa());
        if self.c.c_out == 1 {
            for (t, taps) in taps.chunks(MOST_TAPS).enumerate() {
                let job = Correlate {
                    g: g.as_ptr(),
                    size: [height, width],
                    planes: planes.as_ptr(),
                    row: self.planes.row,
                    taps: taps.as_ptr(),
                    // SAFETY: a register for each tap is this unit's alone.
                    sums: unsafe { sums.add(t * MOST_TAPS * self.lanes) },
                };
                // SAFETY: every pixel at every tap is inside the planes. The table was chosen by a detected instruction set.
                unsafe { (routines.correlate[taps.len() - 1])(&job) };
            }
            return;
        }
        for y in (0..height).step_by(step) {
            let count = step.min(height - y);
            let len = count * width;
            with(&RESULT, |scratch| {
                let buffer = scratch.get::<T>(taps.len() * len + SLACK);
                let end = buffer.as_mut_ptr_range().end;
                for (t, &tap) in taps.iter().enumerate() {
                    let job = Rows {
                        from: planes[tap + y * self.planes.row..].as_ptr(),
                        from_row: self.planes.row,
                        to: buffer[t * len..].as_mut_ptr(),
                        from_plane: 0,
                        to_row: width,
                        to_plane: 0,
                        len: width,
                        count,
                        planes: 1,
                        lead: 0,
                        tail: 0,
                        end,
                        end_plane: 0,
                    };
                    // SAFETY: a tap's pixels lie inside the planes; rows are written in ascending order up to the buffer's end.
                    unsafe { (routines.rows)(&job) };
                }
                let acc_row = taps.len() * self.lanes;
                let x = (buffer.as_ptr(), len, taps.len());
                // SAFETY: the caller's promise.
                unsafe { self.dots(g, plane, y * width, len, rows, x, (sums, acc_row)) };
            });
        }
    }

    /// Dot products of rows of `g` from position `p` on with the rows of `x` (pointer, distance, how many).
    ///
    /// # Safety
    /// `len` elements are readable in each row of `x`, and a register per row and column is writable in `acc` (pointer, distance).
    unsafe fn dots(
        &self,
        g: &[T],
        plane: usize,
        p: usize,
        len: usize,
        rows: &Range<usize>,
        (x, x_row, count): (*const T, usize, usize),
        (acc, acc_row): (*mut T, usize),
    ) {
        let routines = T::routines(isa());
        let mut row = rows.start;
        while row < rows.end {
            let log = (rows.end - row).min(routines.dot_rows).ilog2() as usize;
            let g = g[row * plane + p..][..((1 << log) - 1) * plane + len].as_ptr();
            for t in (0..count).step_by(DOT_COLS) {
                let cols = DOT_COLS.min(count - t);
                // SAFETY: `1 << log` rows of g are inside its slice; the rest is the caller's promise.
                unsafe {
                    let job = Dots {
                        g,
                        g_row: plane,
                        x: x.add(t * x_row),
                        x_row,
                        len,
                        acc: acc.add(row * acc_row + t * self.lanes),
                        acc_row,
                        next: g,
                    };
                    (routines.dots[log][cols - 1])(&job);
                }
            }
            row += 1 << log;
        }
    }

    /// The sums of all groups of images for row `row` of the weight's gradient.
    fn add_up(&self, sums: &[T], row: usize, to: &mut [T]) {
        let c = self.c;
        let (group, o) = (row / c.c_out, row % c.c_out);
        let parts =
            (0..self.parts).map(|p| &sums[(p * c.groups + group) * self.unit..][..self.unit]);
        match &self.kind {
            Kind::Narrow { taps } => {
                for (t, to) in to.iter_mut().enumerate() {
                    let at = (o * taps.len() + t) * self.lanes;
                    *to = parts
                        .clone()
                        .map(|p| total(&p[at..at + self.lanes]))
                        .fold(T::ZERO, |a, b| a + b);
                }
            }
            Kind::Wide { bases, cols, .. } => {
                let taps = c.taps();
                for i in 0..bases.len() {
                    let at = (i * c.c_out + o) * cols;
                    // Tap of the first column; `c_in` columns on, the next one.
                    let first = i * (cols / c.c_in);
                    for k in 0..cols / c.c_in {
                        for ci in (0..c.c_in).step_by(ADDED) {
                            let count = ADDED.min(c.c_in - ci);
                            let mut all = [T::ZERO; ADDED];
                            for part in parts.clone() {
                                let part = &part[at + k * c.c_in + ci..][..count];
                                all.iter_mut().zip(part).for_each(|(all, &v)| *all += v);
                            }
                            for (j, &v) in all[..count].iter().enumerate() {
                                to[(ci + j) * taps + first + k] = v;
                            }
                        }
                    }
                }
            }
        }
    }

    /// The same for the bias.
    fn add_up_bias(&self, sums: &[T], row: usize) -> T {
        let c = self.c;
        let (group, o) = (row / c.c_out, row % c.c_out);
        (0..self.parts)
            .map(|p| {
                let at = (p * c.groups + group) * self.unit + self.weights + o * self.lanes;
                total(&sums[at..at + self.lanes])
            })
            .fold(T::ZERO, |a, b| a + b)
    }
}

/// The sum of a register's lanes, in pairs.
fn total<T: Float>(lanes: &[T]) -> T {
    match lanes {
        [one] => *one,
        _ => {
            let (a, b) = lanes.split_at(lanes.len() / 2);
            total(a) + total(b)
        }
    }
}
