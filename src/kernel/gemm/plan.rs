//! The loops around the micro-kernel.
//!
//! ```text
//! region: for each part of C's rows and columns:
//!     for each stretch of k, each block of columns (its packed B stays in L2, or L3):
//!         [pack B's panels]                      if B is worth packing, or its rows are not contiguous
//!         for each block of rows, each block of KC of k:
//!             [pack A's panels]                  if they are read more than a few times
//!             for each tile: micro-kernel
//! ```
//!
//! - A thread packs for itself what its parts need, once for neighbouring parts of the same columns: two threads that share columns pack
//!   them twice. That costs a few per cent at worst ([`Plan::parts`] weighs it), and there is one region per product, without a barrier
//!   in it.
//! - While tiles are computed, what will be read next is fetched: [`Ahead`].
//! - Which operand stays in L1 while the other one streams through it from L2 depends on the tile's shape: see [`Family::stays`].
//! - Tiles have even sizes rather than full ones and a remainder: 64 rows at most 14 a time are 13+13+13+13+12.
//! - What is packed, and how C is split over threads, changes no bit of the result; only `KC` does.

use super::ahead::Ahead;
use super::cuts::{Cuts, part, pieces, pieces_of};
use super::drive::Problem;
use super::pack::{
    Held, SLACK, new_region, panels, with_scratch_a, with_scratch_b, with_scratch_c,
};
use super::tile::{Family, Stays};
use super::tiles::{Block, Panels, Sums};
use super::{GemmElement, KC, turned};
use crate::kernel::par;
use crate::kernel::simd::Isa;
use std::ops::Range;

/// Rows of A packed at a time: with `KC` and f32 an eighth of the smallest L2 cache in use.
const MC: usize = 64;
/// Bytes of B packed at a time, which leaves room for A and C in an L2 cache of 1 MiB and more; smaller ones come with an L3 cache that
/// is fast enough for a panel per block of rows.
const PACKED: usize = 768 << 10;
/// Blocks of k packed at a time: B is fetched from memory in runs as long as these, by hardware that needs some lines to see a run.
const STRETCH: usize = 6;
/// With more tiles of rows than this, the next of them are fetched while tiles are computed, and with fewer the columns that are packed
/// next.
const MANY_TILES: usize = 64;
/// A part of a region should take about this long, in nanoseconds.
pub(super) const PART_NS: f64 = 4_000.0;
/// What it costs a part to fetch or pack an element of an operand, in nanoseconds.
const READ_NS: f64 = 0.08;
/// For how much of a part's time a thread is expected to be held up by other programs.
const HELD_UP: f64 = 0.1;

/// How a product is carried out.
pub(super) struct Plan<'a, T: GemmElement> {
    pub(super) p: &'a Problem<T>,
    pub(super) family: &'static Family<T>,
    pub(super) rows: Cuts,
    pub(super) cols: Cuts,
    /// Into how many parts rows and columns are cut.
    parts: (usize, usize),
    pack_a: bool,
    pack_b: bool,
    /// Whether rows of B that are read in place come from beyond L2, with too little work on them to hide it.
    pub(super) far: bool,
    pub(super) isa: Isa,
}

impl<'a, T: GemmElement> Plan<'a, T> {
    /// A plan for a B that will be packed once for products of any number of rows.
    pub(super) fn whole(isa: Isa, family: &'static Family<T>, p: &'a Problem<T>) -> Self {
        Self::with_parts(isa, family, p, (1, 1))
    }

    pub(super) fn new(isa: Isa, family: &'static Family<T>, p: &'a Problem<T>) -> Self {
        let plan = Self::with_parts(isa, family, p, (1, 1));
        match plan.parts() {
            (1, 1) => plan,
            parts => Self::with_parts(isa, family, p, parts),
        }
    }

    fn with_parts(
        isa: Isa,
        family: &'static Family<T>,
        p: &'a Problem<T>,
        parts: (usize, usize),
    ) -> Self {
        let rows = Cuts::new(p.m, family.rows, parts.0);
        let cols = Cuts::new(p.n.div_ceil(family.lanes), family.registers, parts.1);
        // Rows of B in place are free until they are read many times, sooner if each read touches two cache lines, or if they come from
        // beyond L2: what is packed next is fetched while tiles are computed, rows in place are not.
        let line = 64 / size_of::<T>();
        let bytes_b = p.k * p.n * size_of::<T>();
        let aligned = (p.b as usize).is_multiple_of(64) && p.b_rs % line as isize == 0;
        let most = match (bytes_b > 1 << 20, aligned) {
            (true, _) => 2,
            (false, true) => family.b_in_place,
            (false, false) => family.b_in_place.min(12),
        };
        let pack_b = p.b_cs != 1 || (rows.tiles > most && bytes_b > 32 << 10);
        let far = bytes_b > 1 << 20 && rows.tiles <= 2;
        // A is read by single elements, so any strides will do; what counts is how many cache lines they come from.
        let pack_a = cols.tiles > if p.a_cs == 1 { family.a_in_place } else { 2 } && rows.tiles > 1;
        Self { p, family, rows, cols, parts, pack_a, pack_b, far, isa }
    }

    /// The columns of all tiles, which are whole registers.
    fn width(&self) -> usize {
        self.col(self.cols.tiles)
    }

    /// The first column of a tile.
    #[inline(always)]
    pub(super) fn col(&self, tile: usize) -> usize {
        self.cols.start(tile) * self.family.lanes
    }

    /// The number of blocks of k: at least one, so that an empty sum is written as well.
    fn blocks(&self) -> usize {
        if self.p.k <= KC { 1 } else { self.p.k.div_ceil(KC) }
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
        // SAFETY: the caller's promise.
        unsafe { self.pack_columns(&(0..self.p.k), &(0..self.cols.tiles), packed) };
    }

    /// Into how many parts rows and columns are cut.
    fn parts(&self) -> (usize, usize) {
        let (m, k, width) = (self.p.m as f64, self.p.k as f64, self.width() as f64);
        let total = self.estimate();
        let threads = par::threads_here();
        let most = threads * ((total / (PART_NS * threads as f64)) as usize).min(4);
        if threads == 1 || most == 0 {
            return (1, 1);
        }
        let registers = self.cols.units();
        let share = |units: usize, parts: usize| units.div_ceil(parts) as f64 / units as f64;
        // The time that the busiest thread takes, if each is held up by some other program now and then for a part of a part.
        let cost = |&(rows, cols): &(usize, usize)| {
            let (r, c) = (share(self.rows.tiles, rows), share(registers, cols));
            let (a, b) = (r * m * k * READ_NS, c * width * k * READ_NS);
            ((rows * cols).div_ceil(threads) as f64 + HELD_UP) * (r * c * total + a + b)
        };
        let mut best = ((1, 1), f64::INFINITY);
        for count in [threads, 2 * threads, 4 * threads].into_iter().filter(|&n| n <= most) {
            for rows in (1..=count.min(self.rows.tiles)).filter(|rows| count % rows == 0) {
                let parts = (rows, count / rows);
                if parts.1 <= registers && cost(&parts) < best.1 {
                    best = (parts, cost(&parts));
                }
            }
        }
        best.0
    }

    /// About how long the product takes on one thread, in nanoseconds.
    fn estimate(&self) -> f64 {
        2.0 * (self.p.m * self.width()) as f64 * self.p.k as f64 / self.family.rate + 20.0
    }

    /// Computes the product, with a B that [`pack_whole`](Self::pack_whole) packed or from B itself.
    ///
    /// # Safety
    /// As [`batched`](super::drive::batched), for the plan's problem; `packed`, if any, is what a plan for the same `k`, `n` and
    /// instruction set packed, this plan is [`whole`](Self::whole) then, and B is not read.
    pub(super) unsafe fn run(&self, packed: Option<&[T]>) {
        let (row_parts, col_parts) = if packed.is_some() { self.parts() } else { self.parts };
        let (rows, cols) = (0..self.rows.tiles, 0..self.cols.tiles);
        let ns = self.estimate() / (row_parts * col_parts) as f64;
        let region = new_region();
        // Neighbours, which the same thread takes, have the same columns.
        par::for_each(row_parts * col_parts, ns, |i| {
            let (rows, cols) =
                (part(&rows, row_parts, i % row_parts), part(&cols, col_parts, i / row_parts));
            // SAFETY: the caller's promise; the parts cover disjoint rows and columns of C.
            unsafe { self.compute_part(rows, cols, packed, region) };
        });
    }

    /// Computes the tiles of `rows` by `cols`, on this thread.
    ///
    /// # Safety
    /// As [`run`](Self::run), and nobody else touches these tiles of C.
    unsafe fn compute_part(
        &self,
        rows: Range<usize>,
        cols: Range<usize>,
        packed: Option<&[T]>,
        region: u64,
    ) {
        let count = self.blocks();
        if let Some(packed) = packed {
            let b = Panels { packed: Some(packed.as_ptr()), first: 0, start: 0, len: self.p.k };
            // SAFETY: the caller's promise.
            return unsafe { self.compute_rows(&rows, &cols, &(0..count), b, None) };
        }
        let bytes = (self.col(cols.end) - self.col(cols.start)) * size_of::<T>();
        // Columns along k are worth long runs, unless A is to be packed again for each block of columns. C that is written transposed
        // wants all columns at once: the rows on its left are read again for each block of them.
        let stretch = match (self.p.b_rs == 1 && !self.pack_a, self.p.c_cs) {
            (false, _) => 1,
            (true, 1) => STRETCH,
            _ => (PACKED / (KC * bytes)).clamp(1, STRETCH),
        };
        let steps = || {
            pieces(&(0..count), stretch).flat_map(|blocks| {
                let k = self.block(blocks.start).start..self.block(blocks.end - 1).end;
                let columns = pieces_of(&cols, (k.len() * bytes).div_ceil(PACKED));
                columns.map(move |cols| (blocks.clone(), k.clone(), cols))
            })
        };
        let mut following = steps().skip(1);
        for (blocks, k, cols) in steps() {
            // Rows that are many take longer to read than B.
            let few = self.pack_b && !self.pack_a && self.p.c_cs == 1 && rows.len() <= MANY_TILES;
            let next = following.next().filter(|_| few).and_then(|(_, k, after)| {
                self.columns(&k, &after, rows.len() * cols.len() * blocks.len())
            });
            let b =
                Panels { packed: None, first: self.col(cols.start), start: k.start, len: k.len() };
            // SAFETY: the caller's promise; the packed columns are this thread's own, and there is room for them.
            unsafe {
                if self.pack_b {
                    with_scratch_b(|scratch| {
                        let len = (self.col(cols.end) - b.first) * b.len + SLACK;
                        let what = Held { region, k: k.start, first: b.first };
                        let packed =
                            scratch.panels(what, len, |to| self.pack_columns(&k, &cols, to));
                        let b = Panels { packed: Some(packed), ..b };
                        self.compute_rows(&rows, &cols, &blocks, b, next.as_ref());
                    });
                } else {
                    self.compute_rows(&rows, &cols, &blocks, b, next.as_ref());
                }
            }
        }
    }

    /// Packs columns of B for a stretch of k: a panel per tile.
    ///
    /// # Safety
    /// B is readable, and `packed` has room for the columns in whole registers, and the slack.
    unsafe fn pack_columns(&self, k: &Range<usize>, cols: &Range<usize>, packed: *mut T) {
        let p = self.p;
        let first = self.col(cols.start);
        for tile in cols.clone() {
            let (start, end) = (self.col(tile), self.col(tile + 1));
            let src = p.b.wrapping_offset(k.start as isize * p.b_rs + start as isize * p.b_cs);
            let count = end.min(p.n) - start;
            // SAFETY: the caller's promise. Columns beyond `n` are not read. Panels are written in ascending order, so what one
            // writes into its slack belongs to a panel that is written later.
            unsafe {
                let dst = packed.add((start - first) * k.len());
                panels(self.isa, k.len(), src, p.b_rs, p.b_cs, count, end - start, dst);
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
        for tiles in self.rows.runs(rows) {
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

    /// All tiles of `rows` by `cols` for some blocks of k.
    ///
    /// # Safety
    /// As [`compute_part`](Self::compute_part); `b`, if packed, holds these columns for these blocks.
    unsafe fn compute_rows(
        &self,
        rows: &Range<usize>,
        cols: &Range<usize>,
        blocks: &Range<usize>,
        b: Panels<T>,
        next: Option<&Ahead>,
    ) {
        if self.p.c_cs != 1 {
            // SAFETY: the caller's promise.
            return unsafe { self.compute_turned(rows, cols, blocks, b) };
        }
        // Rows that are not packed are read in runs as long as the stretch.
        let most = match self.family.stays {
            Stays::A if !self.pack_a => 1,
            _ => MC / self.family.rows,
        };
        let end_row = rows.end;
        for rows in pieces(rows, most) {
            let after = match next {
                Some(_) => None,
                None => self.rows_after(&rows, end_row, cols, blocks),
            };
            let next = next.or(after.as_ref());
            for block in blocks.clone() {
                let mut block = Block { k: self.block(block), b, a: None, sums: None, next };
                // SAFETY: the caller's promise; what is packed is this thread's own.
                unsafe {
                    if self.pack_a {
                        with_scratch_a(|scratch| {
                            let first = self.rows.start(rows.start);
                            let total = self.rows.start(rows.end) - first;
                            let to = scratch.get::<T>(total * block.k.len() + SLACK).as_mut_ptr();
                            self.pack_rows(&rows, &block.k, to);
                            block.a = Some((to.cast_const(), first));
                            self.compute_tiles(&rows, cols, &block);
                        });
                    } else {
                        self.compute_tiles(&rows, cols, &block);
                    }
                }
            }
        }
    }

    /// [`compute_rows`](Self::compute_rows) where C is written transposed: its elements are collected until they are complete.
    ///
    /// # Safety
    /// As [`compute_rows`](Self::compute_rows).
    unsafe fn compute_turned(
        &self,
        rows: &Range<usize>,
        cols: &Range<usize>,
        blocks: &Range<usize>,
        b: Panels<T>,
    ) {
        let (first, end) = (self.col(cols.start), self.col(cols.end));
        let width = end - first;
        let end_row = rows.end;
        // Two tiles, so that C is written in whole cache lines.
        for rows in pieces(rows, 2) {
            let (row, row_end) = (self.rows.start(rows.start), self.rows.start(rows.end));
            with_scratch_c(|scratch| {
                let at = scratch.get::<T>(turned::room(row_end - row, width)).as_mut_ptr();
                let next = self.rows_after(&rows, end_row, cols, blocks);
                let more = self.p.accumulate || blocks.start > 0;
                let (p, whole) = (self.p, first..end.min(self.p.n));
                if more {
                    // SAFETY: the caller's promise: a C to be added to is readable, or was written by the blocks before.
                    unsafe { turned::read(self.isa, p, at, width, row..row_end, whole.clone()) };
                }
                for block in blocks.clone() {
                    if block + 1 == blocks.end {
                        // Lines as far apart as rows of C: asked for before they are needed, all at once.
                        turned::ask(p, row, whole.clone());
                    }
                    let (sums, next) = (Some(Sums { at, row, first, width, more }), next.as_ref());
                    let block = Block { k: self.block(block), b, a: None, sums, next };
                    // SAFETY: the caller's promise; the sums are this thread's own, and there is room for these tiles.
                    unsafe { self.compute_tiles(&rows, cols, &block) };
                }
                let last = blocks.end == self.blocks();
                // SAFETY: the caller's promise; all sums were written by the first block.
                unsafe { turned::write(self.isa, p, at, width, row..row_end, whole, last) };
            });
        }
    }

    /// The rows of A after these, up to `end`, for as many tiles as there are before they are read.
    fn rows_after(
        &self,
        rows: &Range<usize>,
        end: usize,
        cols: &Range<usize>,
        blocks: &Range<usize>,
    ) -> Option<Ahead> {
        let p = self.p;
        let after = self.rows.start(rows.end)..self.rows.start((rows.end + rows.len()).min(end));
        let k = self.block(blocks.start).start..self.block(blocks.end - 1).end;
        let at = p.a.wrapping_offset(after.start as isize * p.a_rs + k.start as isize * p.a_cs);
        let (tiles, depth) = (rows.len() * cols.len() * blocks.len(), k.len() / blocks.len());
        let in_runs = !after.is_empty() && p.a_cs == 1 && !self.pack_a;
        in_runs.then(|| Ahead::new(at, after.len(), k.len(), p.a_rs, tiles, depth))
    }

    /// Columns of B for a stretch of k, for so many tiles.
    fn columns(&self, k: &Range<usize>, cols: &Range<usize>, tiles: usize) -> Option<Ahead> {
        let p = self.p;
        let cols = self.col(cols.start)..self.col(cols.end).min(p.n);
        let at = p.b.wrapping_offset(k.start as isize * p.b_rs + cols.start as isize * p.b_cs);
        let depth = k.len().min(KC);
        if p.b_rs == 1 {
            Some(Ahead::new(at, cols.len(), k.len(), p.b_cs, tiles, depth))
        } else if p.b_cs == 1 {
            Some(Ahead::new(at, k.len(), cols.len(), p.b_rs, tiles, depth))
        } else {
            None
        }
    }

    /// The range of a block of k.
    #[inline]
    fn block(&self, i: usize) -> Range<usize> {
        part(&(0..self.p.k), self.blocks(), i)
    }
}
