//! The loops around the micro-kernel.
//!
//! ```text
//! region: for each part of C's rows and columns:
//!     for each block of columns (its packed B stays in L2, or L3):
//!         for each block of KC of k:
//!             [pack B's panels]                  if B is worth packing, or its rows are not contiguous
//!             for each block of rows:
//!                 [pack A's panels]              if they are read more than a few times
//!                 for each tile: micro-kernel
//! ```
//!
//! - A part packs for itself what it needs: two parts of the same columns pack them twice. That costs a few per cent at worst
//!   ([`Plan::parts`] weighs it), and there is one region per product, without a barrier in it.
//! - Which operand stays in L1 while the other one streams through it from L2 depends on the tile's shape: see [`Family::stays`].
//! - Tiles have even sizes rather than full ones and a remainder: 64 rows at most 14 a time are 13+13+13+13+12.
//! - What is packed, and how C is split over threads, changes no bit of the result; only `KC` does.

use super::cuts::{Cuts, part, pieces};
use super::drive::Problem;
use super::pack::{SLACK, panels, with_scratch_a, with_scratch_b, with_scratch_c};
use super::tile::{BRows, Family, Stays, Tile};
use super::{GemmElement, KC, turned};
use crate::kernel::par;
use crate::kernel::simd::Isa;
use std::ops::Range;

/// Rows of A packed at a time: with `KC` and f32 an eighth of the smallest L2 cache in use.
const MC: usize = 64;
/// Columns of B packed at a time: with `KC` and f32 3/4 MiB, which leaves room for A and C in an L2 cache of 1 MiB and more; smaller
/// ones come with an L3 cache that is fast enough for a panel per block of rows.
const NC: usize = 768;
/// A part of a region should take about this long, in nanoseconds.
pub(super) const PART_NS: f64 = 8_000.0;
/// What it costs a part to fetch or pack an element of an operand, in nanoseconds.
const READ_NS: f64 = 0.08;

/// How a product is carried out.
pub(super) struct Plan<'a, T: GemmElement> {
    p: &'a Problem<T>,
    family: &'static Family<T>,
    rows: Cuts,
    cols: Cuts,
    pack_a: bool,
    pack_b: bool,
    /// Whether rows of B that are read in place come from beyond L2, with too little work on them to hide it.
    far: bool,
    isa: Isa,
}

/// The panels of B for a block of k: packed, or B itself.
#[derive(Clone, Copy)]
struct Panels<T> {
    packed: Option<*const T>,
    /// The column of the first packed panel.
    first: usize,
}

/// What a block of tiles needs beside its ranges.
struct Block<T> {
    k: Range<usize>,
    b: Panels<T>,
    /// The packed rows, and the first of them.
    a: Option<(*const T, usize)>,
    /// Room for a tile, where C is written transposed.
    sums: Option<*mut T>,
}

impl<'a, T: GemmElement> Plan<'a, T> {
    pub(super) fn new(isa: Isa, family: &'static Family<T>, p: &'a Problem<T>) -> Self {
        let rows = Cuts::new(p.m, family.rows);
        let cols = Cuts::new(p.n.div_ceil(family.lanes), family.registers);
        // Rows of B in place are free until they are read many times, sooner if each read touches two cache lines.
        let line = 64 / size_of::<T>();
        let aligned = (p.b as usize).is_multiple_of(64) && p.b_rs % line as isize == 0;
        let most = if aligned { family.b_in_place } else { family.b_in_place.min(12) };
        let bytes_b = p.k * p.n * size_of::<T>();
        let pack_b = p.b_cs != 1 || (rows.tiles > most && bytes_b > 32 << 10);
        let far = bytes_b > 1 << 20 && rows.tiles <= 2;
        // A is read by single elements, so any strides will do; what counts is how many cache lines they come from.
        let pack_a = cols.tiles > if p.a_cs == 1 { family.a_in_place } else { 2 } && rows.tiles > 1;
        Self { p, family, rows, cols, pack_a, pack_b, far, isa }
    }

    /// The columns of all tiles, which are whole registers.
    fn width(&self) -> usize {
        self.col(self.cols.tiles)
    }

    /// The first column of a tile.
    #[inline(always)]
    fn col(&self, tile: usize) -> usize {
        self.cols.start(tile) * self.family.lanes
    }

    /// The blocks of k: at least one, so that an empty sum is written as well.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<T> {
        let k = self.p.k;
        let count = if k <= KC { 1 } else { k.div_ceil(KC) };
        (0..count).map(move |i| part(&(0..k), count, i))
    }

    /// How many elements all of B occupies when it is packed.
    pub(super) fn packed_len(&self) -> usize {
        self.width() * self.p.k + SLACK
    }

    /// Packs all of B.
    ///
    /// # Safety
    /// B is readable, and `packed` has room for [`packed_len`](Self::packed_len) elements.
    pub(super) unsafe fn pack_whole(&self, packed: *mut T) {
        for k in self.blocks() {
            // SAFETY: the caller's promise; panels of a block lie behind those of the ones before, in ascending order.
            unsafe {
                self.pack_columns(&k, &(0..self.cols.tiles), packed.add(k.start * self.width()))
            };
        }
    }

    /// Into how many parts rows and columns are cut.
    fn parts(&self) -> (usize, usize, f64) {
        let (m, k, width) = (self.p.m as f64, self.p.k as f64, self.width() as f64);
        let total = 2.0 * m * width * k / self.family.rate + 20.0;
        let threads = par::threads_here();
        let wanted = threads * ((total / (PART_NS * threads as f64)) as usize).min(4);
        if threads == 1 || wanted == 0 {
            return (1, 1, total);
        }
        let share = |tiles: usize, parts: usize| tiles.div_ceil(parts) as f64 / tiles as f64;
        // The time that the busiest thread takes.
        let cost = |rows: usize, cols: usize| {
            let (r, c) = (share(self.rows.tiles, rows), share(self.cols.tiles, cols));
            let (a, b) = (r * m * k * READ_NS, c * width * k * READ_NS);
            (rows * cols).div_ceil(threads) as f64 * (r * c * total + a + b)
        };
        let of = |rows: usize| (rows, wanted.div_ceil(rows).min(self.cols.tiles));
        let all = (1..=wanted.min(self.rows.tiles)).map(of);
        let best = all.min_by(|x, y| cost(x.0, x.1).total_cmp(&cost(y.0, y.1)));
        let (rows, cols) = best.unwrap_or((1, 1));
        (rows, cols, total / (rows * cols) as f64)
    }

    /// Computes the product, with a B that [`pack_whole`](Self::pack_whole) packed or from B itself.
    ///
    /// # Safety
    /// As [`batched`](super::drive::batched), for the plan's problem; `packed`, if any, is what a plan for the same `k`, `n` and
    /// instruction set packed, and B is then not read.
    pub(super) unsafe fn run(&self, packed: Option<&[T]>) {
        let (row_parts, col_parts, ns) = self.parts();
        let (rows, cols) = (0..self.rows.tiles, 0..self.cols.tiles);
        par::for_each(row_parts * col_parts, ns, |i| {
            let (rows, cols) =
                (part(&rows, row_parts, i / col_parts), part(&cols, col_parts, i % col_parts));
            // SAFETY: the caller's promise; the parts cover disjoint rows and columns of C.
            unsafe { self.compute_part(rows, cols, packed) };
        });
    }

    /// Computes the tiles of `rows` by `cols`, on this thread.
    ///
    /// # Safety
    /// As [`run`](Self::run), and nobody else touches these tiles of C.
    unsafe fn compute_part(&self, rows: Range<usize>, cols: Range<usize>, packed: Option<&[T]>) {
        let width = self.family.registers * self.family.lanes;
        for cols in pieces(&cols, NC / width) {
            for k in self.blocks() {
                // SAFETY: the caller's promise; the packed columns are this thread's own, and there is room for them.
                unsafe {
                    if let Some(packed) = packed {
                        let packed = Some(packed.as_ptr().wrapping_add(k.start * self.width()));
                        self.compute_rows(&rows, &cols, k, Panels { packed, first: 0 });
                    } else if self.pack_b {
                        with_scratch_b(|scratch| {
                            let first = self.col(cols.start);
                            let len = (self.col(cols.end) - first) * k.len() + SLACK;
                            let to = scratch.get::<T>(len).as_mut_ptr();
                            self.pack_columns(&k, &cols, to);
                            let packed = Some(to.cast_const());
                            self.compute_rows(&rows, &cols, k, Panels { packed, first });
                        });
                    } else {
                        self.compute_rows(&rows, &cols, k, Panels { packed: None, first: 0 });
                    }
                }
            }
        }
    }

    /// Packs columns of B for a block of k: a panel per tile.
    ///
    /// # Safety
    /// B is readable, and `packed` has room for the columns in whole registers, and the slack.
    unsafe fn pack_columns(&self, k: &Range<usize>, cols: &Range<usize>, packed: *mut T) {
        let p = self.p;
        let first = self.col(cols.start);
        for tiles in self.cols.runs(cols).into_iter().filter(|tiles| !tiles.is_empty()) {
            let (start, end) = (self.col(tiles.start), self.col(tiles.end));
            let width = (end - start) / tiles.len();
            let src = p.b.wrapping_offset(k.start as isize * p.b_rs + start as isize * p.b_cs);
            let count = end.min(p.n) - start;
            // SAFETY: the caller's promise. Columns beyond `n` are not read. Panels are written in ascending order, so what one
            // writes into its slack belongs to a panel that is written later.
            unsafe {
                let dst = packed.add((start - first) * k.len());
                panels(self.isa, k.len(), src, p.b_rs, p.b_cs, count, width, dst);
            }
        }
    }

    /// Packs rows of A, a panel per tile.
    ///
    /// # Safety
    /// A is readable, and `to` has room for the rows and the slack.
    unsafe fn pack_rows(&self, rows: &Range<usize>, k: &Range<usize>, to: *mut T) {
        let p = self.p;
        let first = self.rows.start(rows.start);
        for tiles in self.rows.runs(rows).into_iter().filter(|tiles| !tiles.is_empty()) {
            let (start, end) = (self.rows.start(tiles.start), self.rows.start(tiles.end));
            let src = p.a.wrapping_offset(start as isize * p.a_rs + k.start as isize * p.a_cs);
            // SAFETY: as in `pack_columns`.
            unsafe {
                let dst = to.add((start - first) * k.len());
                let height = (end - start) / tiles.len();
                panels(self.isa, k.len(), src, p.a_cs, p.a_rs, end - start, height, dst);
            }
        }
    }

    /// All tiles of `rows` by `cols` for one block of k.
    ///
    /// # Safety
    /// As [`compute_part`](Self::compute_part); `b`, if packed, holds these columns for this block.
    unsafe fn compute_rows(
        &self,
        rows: &Range<usize>,
        cols: &Range<usize>,
        k: Range<usize>,
        b: Panels<T>,
    ) {
        for rows in pieces(rows, MC / self.family.rows) {
            let mut block = Block { k: k.clone(), b, a: None, sums: None };
            // SAFETY: the caller's promise; what is packed, and the tile, are this thread's own.
            unsafe {
                if self.pack_a {
                    with_scratch_a(|scratch| {
                        let first = self.rows.start(rows.start);
                        let total = self.rows.start(rows.end) - first;
                        let to = scratch.get::<T>(total * k.len() + SLACK).as_mut_ptr();
                        self.pack_rows(&rows, &k, to);
                        block.a = Some((to.cast_const(), first));
                        self.compute_block(&rows, cols, &mut block);
                    });
                } else {
                    self.compute_block(&rows, cols, &mut block);
                }
            }
        }
    }

    /// # Safety
    /// As [`compute_rows`](Self::compute_rows); what the block holds is for these rows and columns.
    unsafe fn compute_block(&self, rows: &Range<usize>, cols: &Range<usize>, block: &mut Block<T>) {
        if self.p.c_cs != 1 {
            return with_scratch_c(|scratch| {
                let len = turned::room(self.family);
                block.sums = Some(scratch.get::<T>(len).as_mut_ptr());
                // SAFETY: the caller's promise.
                unsafe { self.compute_tiles(rows, cols, block) }
            });
        }
        // SAFETY: the caller's promise.
        unsafe { self.compute_tiles(rows, cols, block) }
    }

    /// # Safety
    /// As [`compute_block`](Self::compute_block).
    #[inline]
    unsafe fn compute_tiles(&self, rows: &Range<usize>, cols: &Range<usize>, block: &Block<T>) {
        // SAFETY: the caller's promise, tile by tile.
        unsafe {
            match self.family.stays {
                Stays::A => {
                    for i in rows.clone() {
                        cols.clone().for_each(|j| self.compute_tile(i, j, block));
                    }
                }
                Stays::B => {
                    for j in cols.clone() {
                        rows.clone().for_each(|i| self.compute_tile(i, j, block));
                    }
                }
            }
        }
    }

    /// One tile for one block of k.
    ///
    /// # Safety
    /// As [`compute_block`](Self::compute_block), for this tile.
    #[inline(always)]
    unsafe fn compute_tile(&self, i: usize, j: usize, block: &Block<T>) {
        let (p, lanes, k) = (self.p, self.family.lanes, &block.k);
        let (row, row_end) = (self.rows.start(i), self.rows.start(i + 1));
        let (col, col_end) = (self.col(j), self.col(j + 1));
        let (rows, last) = (row_end - row, lanes - (col_end - p.n.min(col_end)));
        let (a, a_rs, a_cs) = match block.a {
            Some((a, first)) => (a.wrapping_add((row - first) * k.len()), 1, rows as isize),
            None => {
                let at = row as isize * p.a_rs + k.start as isize * p.a_cs;
                (p.a.wrapping_offset(at), p.a_rs, p.a_cs)
            }
        };
        let (b, b_rs) = match block.b.packed {
            Some(b) => (b.wrapping_add((col - block.b.first) * k.len()), (col_end - col) as isize),
            None => (p.b.wrapping_offset(k.start as isize * p.b_rs + col as isize), p.b_rs),
        };
        let full = block.b.packed.is_some() || last == lanes;
        let place = match block.b.packed {
            None if self.far => BRows::Far,
            _ => BRows::Strided,
        };
        let kernel = self.family.kernel(rows, (col_end - col) / lanes, place, full);
        let (more, end) = (p.accumulate || k.start > 0, k.end == p.k);
        let plain = Tile {
            k: k.len(),
            a,
            a_rs,
            a_cs,
            b,
            b_rs,
            offs: std::ptr::null(),
            c: p.c.wrapping_add(row * p.c_rs + col * p.c_cs),
            c_rs: p.c_rs as isize,
            last,
            accumulate: more,
            bias_col: std::ptr::null(),
            bias_row: std::ptr::null(),
            relu: false,
        };
        // SAFETY: the tile lies within C, its rows of A and columns of B within the operands or their packed copies (in whole
        // registers), and the family was chosen by a detected instruction set. Where C is transposed, the sums are this
        // thread's and have room for a tile in whole registers.
        unsafe {
            match block.sums {
                None if end => kernel(&Tile {
                    bias_col: offset(p.bias_col, col),
                    bias_row: offset(p.bias_row, row),
                    relu: p.relu,
                    ..plain
                }),
                None => kernel(&plain),
                Some(sums) => {
                    let width = col_end - col;
                    let c_rs = width as isize;
                    kernel(&Tile { c: sums, c_rs, last: lanes, accumulate: false, ..plain });
                    turned::write(
                        self.isa,
                        p,
                        sums,
                        width,
                        row..row_end,
                        col..col_end.min(p.n),
                        more,
                        end,
                    );
                }
            }
        }
    }
}

/// `p + n`, or null for null.
fn offset<T>(p: *const T, n: usize) -> *const T {
    if p.is_null() { p } else { p.wrapping_add(n) }
}
