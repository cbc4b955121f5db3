//! The loops around the micro-kernel.
//!
//! ```text
//! for each super-block of k, for each block of columns that fits the shared buffer:
//!     [region: pack B's panels]                      if B is worth packing, or its rows are not contiguous
//!     region: for each part of C's rows and columns:
//!         for each block of rows (its packed A stays in L2):
//!             for each block of KC of k:
//!                 [pack A's panels]                  if they are read more than a few times
//!                 for each tile of columns (its panel of B stays in L1), for each tile of rows: micro-kernel
//! ```
//!
//! Tiles have even sizes rather than full ones and a remainder: 64 rows at most 14 a time are 13+13+13+13+12.
//! What is packed, and how C is split over threads, changes no bit of the result; only `KC` does.

use super::pack::{SLACK, pack, with_scratch_a, with_scratch_b};
use super::tile::{BRows, Family, Tile};
use super::{Batch, GemmElement, KC, dot};
use crate::kernel::par::{self, SyncPtr};
use crate::kernel::simd::Isa;
use std::ops::Range;

/// A checked product, by pointers. Validity of the memory is a promise of whoever passes it to an `unsafe fn`.
#[derive(Clone, Copy)]
pub(super) struct Problem<T> {
    pub m: usize,
    pub k: usize,
    pub n: usize,
    pub a: *const T,
    pub a_rs: isize,
    pub a_cs: isize,
    pub b: *const T,
    pub b_rs: isize,
    pub b_cs: isize,
    pub c: *mut T,
    pub c_rs: usize,
    pub accumulate: bool,
    pub bias_col: *const T,
    pub bias_row: *const T,
    pub relu: bool,
}

// SAFETY: a bundle of addresses; each access through them is `unsafe` and carries its own argument.
unsafe impl<T: Send + Sync> Sync for Problem<T> {}

/// Rows of A packed at a time: with `KC` and f32 a quarter of the smallest L2 cache in use.
const MC: usize = 128;
/// Elements of the shared buffer of packed B.
const SHARED: usize = 1 << 20;
/// Blocks of k per super-block.
const KS: usize = 16 * KC;
/// A part of a region should take about this long, in nanoseconds.
const PART_NS: f64 = 8_000.0;

/// Runs a stack of products.
///
/// # Safety
/// For each of the `batch`: A, B, the bias are readable and C writable at the sizes and strides given, C overlaps none of
/// them nor another C, and the processor has `isa`.
pub(super) unsafe fn batched<T: GemmElement>(isa: Isa, batch: Batch, p: &Problem<T>) {
    let family = T::family(isa);
    let at = |i: usize| Problem {
        a: p.a.wrapping_offset(i as isize * batch.a),
        b: p.b.wrapping_offset(i as isize * batch.b),
        c: p.c.wrapping_add(i * batch.c),
        ..*p
    };
    let stacked = batch.b == 0
        && batch.a == p.m as isize * p.a_rs
        && batch.c == p.m * p.c_rs
        && p.bias_row.is_null();
    let ns = 2.0 * (p.m * p.n) as f64 * p.k as f64 / family.rate + 50.0;
    // SAFETY: each product is one of those that the caller vouches for.
    unsafe {
        if batch.count == 1 || stacked {
            product(isa, family, &Problem { m: p.m * batch.count, ..*p });
        } else if batch.count < 8 && ns > 2.0 * PART_NS {
            (0..batch.count).for_each(|i| product(isa, family, &at(i)));
        } else {
            par::for_each(batch.count, ns, |i| product(isa, family, &at(i)));
        }
    }
}

impl<T: GemmElement> Problem<T> {
    /// Writes one finished sum to C, through the epilogue.
    ///
    /// # Safety
    /// The element exists, and nobody else touches it.
    #[inline(always)]
    pub(super) unsafe fn finish(&self, i: usize, j: usize, sum: T) {
        // SAFETY: the caller's promise; a bias that is not null has an element for each column, or row.
        unsafe {
            let c = self.c.add(i * self.c_rs + j);
            let mut x = sum;
            if self.accumulate {
                x = x.plus(*c);
            }
            if !self.bias_col.is_null() {
                x = x.plus(*self.bias_col.add(j));
            }
            if !self.bias_row.is_null() {
                x = x.plus(*self.bias_row.add(i));
            }
            *c = if self.relu && x < T::ZERO { T::ZERO } else { x };
        }
    }
}

/// C's columns or rows cut into tiles of nearly equal size, in units of whole registers (or single rows).
#[derive(Clone, Copy)]
struct Cuts {
    tiles: usize,
    /// Units of each tile; the first `longer` ones have one more.
    size: usize,
    longer: usize,
}

impl Cuts {
    fn new(units: usize, most: usize) -> Self {
        let tiles = units.div_ceil(most);
        Self { tiles, size: units / tiles, longer: units % tiles }
    }

    /// Where tile `i` starts, in units; `i == tiles` is the end.
    #[inline(always)]
    fn start(&self, i: usize) -> usize {
        self.size * i + self.longer.min(i)
    }
}

/// Part `i` of `parts` of a range of tiles.
fn part(range: &Range<usize>, parts: usize, i: usize) -> Range<usize> {
    range.start + range.len() * i / parts..range.start + range.len() * (i + 1) / parts
}

/// One product.
///
/// # Safety
/// As [`batched`], for one.
unsafe fn product<T: GemmElement>(isa: Isa, family: &'static Family<T>, p: &Problem<T>) {
    if p.n == 1 && p.m > 1 && p.c_rs == 1 {
        // A column that lies contiguously is a row: C' = B'·A'.
        let swapped = Problem {
            m: 1,
            n: p.m,
            a: p.b,
            a_rs: p.b_cs,
            a_cs: p.b_rs,
            b: p.a,
            b_rs: p.a_cs,
            b_cs: p.a_rs,
            c_rs: p.m,
            bias_col: p.bias_row,
            bias_row: p.bias_col,
            ..*p
        };
        // SAFETY: the same operands, read as their transposes.
        return unsafe { product(isa, family, &swapped) };
    }
    if dot::suits(p, family.lanes) {
        // SAFETY: the caller's promise, and what `suits` found.
        return unsafe { dot::run(p, T::dots(isa), family.rate) };
    }
    // SAFETY: the caller's promise, passed on.
    unsafe { Plan::new(isa, family, p).run() }
}

/// How a product is carried out.
pub(super) struct Plan<'a, T: GemmElement> {
    p: &'a Problem<T>,
    family: &'static Family<T>,
    rows: Cuts,
    cols: Cuts,
    pack_a: bool,
    pack_b: bool,
    /// Whether packing may use AVX2.
    avx2: bool,
}

impl<'a, T: GemmElement> Plan<'a, T> {
    pub(super) fn new(isa: Isa, family: &'static Family<T>, p: &'a Problem<T>) -> Self {
        let rows = Cuts::new(p.m, family.rows);
        let cols = Cuts::new(p.n.div_ceil(family.lanes), family.registers);
        // Rows of B in place are free until they are read many times from far apart.
        let bytes_b = p.k * p.n * size_of::<T>();
        let pack_b = p.b_cs != 1 || (rows.tiles > 16 && bytes_b > 32 << 10);
        let pack_a = cols.tiles > 2 && rows.tiles > 1;
        Self { p, family, rows, cols, pack_a, pack_b, avx2: isa >= Isa::Avx2 }
    }

    fn ns(&self, elements: f64) -> f64 {
        2.0 * elements / self.family.rate
    }

    /// # Safety
    /// As [`batched`], for the plan's problem.
    unsafe fn run(&self) {
        let p = self.p;
        // At least one round, so that an empty sum is written as well.
        for ks in (0..p.k.max(1)).step_by(KS) {
            let kr = ks..p.k.min(ks + KS);
            if !self.pack_b {
                // SAFETY: the caller's promise; B is read in place.
                unsafe { self.compute(&kr, 0..self.cols.tiles, None) };
                continue;
            }
            let width = self.family.registers * self.family.lanes;
            let tiles = (SHARED / (kr.len().max(1) * width)).max(1);
            for jc in (0..self.cols.tiles).step_by(tiles) {
                let cols = jc..self.cols.tiles.min(jc + tiles);
                with_scratch_b(|scratch| {
                    let total = self.col(cols.end) - self.col(cols.start);
                    let packed = scratch.get::<T>(total * kr.len() + SLACK).as_mut_ptr();
                    // SAFETY: the caller's promise; `packed` has room for these columns of B and is used by nothing else.
                    unsafe {
                        self.pack_columns(&kr, &cols, packed);
                        self.compute(&kr, cols, Some(packed));
                    }
                });
            }
        }
    }

    /// The super-blocks of k, each with the place of its panels in a buffer that holds all of B.
    fn super_blocks(&self) -> impl Iterator<Item = (Range<usize>, usize)> {
        let (k, width) = (self.p.k, self.col(self.cols.tiles));
        (0..k.max(1)).step_by(KS).map(move |ks| (ks..k.min(ks + KS), ks * width))
    }

    /// How many elements all of B occupies when it is packed.
    pub(super) fn packed_len(&self) -> usize {
        self.col(self.cols.tiles) * self.p.k + SLACK
    }

    /// Packs all of B.
    ///
    /// # Safety
    /// B is readable, and `packed` has room for [`packed_len`](Self::packed_len) elements.
    pub(super) unsafe fn pack_whole(&self, packed: *mut T) {
        for (kr, at) in self.super_blocks() {
            // SAFETY: the caller's promise; panels of a super-block lie behind those of the ones before, in ascending order.
            unsafe { self.pack_columns(&kr, &(0..self.cols.tiles), packed.add(at)) };
        }
    }

    /// Computes the product with a B that [`pack_whole`](Self::pack_whole) packed.
    ///
    /// # Safety
    /// As [`batched`], but for B; `packed` is what a plan for the same `k`, `n` and instruction set packed.
    pub(super) unsafe fn run_packed(&self, packed: *mut T) {
        for (kr, at) in self.super_blocks() {
            // SAFETY: the caller's promise.
            unsafe { self.compute(&kr, 0..self.cols.tiles, Some(packed.wrapping_add(at))) };
        }
    }

    /// The first column of a tile, counted in whole registers.
    #[inline(always)]
    fn col(&self, tile: usize) -> usize {
        self.cols.start(tile) * self.family.lanes
    }

    /// Where the panel of a tile and a block of k lies in the packed columns.
    #[inline(always)]
    fn panel(
        &self,
        kr: &Range<usize>,
        cols: &Range<usize>,
        k0: usize,
        kc: usize,
        tile: usize,
    ) -> usize {
        let first = self.col(cols.start);
        (k0 - kr.start) * (self.col(cols.end) - first) + (self.col(tile) - first) * kc
    }

    /// Packs a block of columns of B: for each block of k, a panel per tile.
    ///
    /// # Safety
    /// B is readable, and `packed` has room for the columns in whole registers.
    unsafe fn pack_columns(&self, kr: &Range<usize>, cols: &Range<usize>, packed: *mut T) {
        let p = self.p;
        let packed = SyncPtr(packed);
        let blocks = kr.len().div_ceil(KC);
        let elements = (KC.min(kr.len()) * self.family.registers * self.family.lanes) as f64;
        par::for_each(blocks * cols.len(), elements * 0.2, |i| {
            let (block, tile) = (i / cols.len(), cols.start + i % cols.len());
            let k0 = kr.start + block * KC;
            let kc = (kr.end - k0).min(KC);
            let (start, end) = (self.col(tile), self.col(tile + 1));
            // SAFETY: panels are disjoint and within the buffer, and `end - start` is a whole number of registers of at
            // least 4 elements, of which `pack` writes no more than the panel unless the width is below 8; those
            // (the portable ones) are not packed by AVX2. Columns beyond `n` are not read.
            unsafe {
                let src = p.b.wrapping_offset(k0 as isize * p.b_rs + start as isize * p.b_cs);
                let dst = packed.get().add(self.panel(kr, cols, k0, kc, tile));
                pack(self.avx2, kc, src, p.b_rs, p.b_cs, end.min(p.n) - start, end - start, dst);
            }
        });
    }

    /// Computes a block of columns for a super-block of k, in parallel parts.
    ///
    /// # Safety
    /// As [`Plan::run`]; `packed`, if any, holds these columns for these k.
    unsafe fn compute(&self, kr: &Range<usize>, cols: Range<usize>, packed: Option<*mut T>) {
        let width = self.col(cols.end) - self.col(cols.start);
        let total = self.ns((self.p.m * width) as f64 * kr.len() as f64) + 20.0;
        let threads = par::threads_here();
        let wanted =
            if threads == 1 { 1 } else { ((total / PART_NS) as usize).clamp(1, 4 * threads) };
        // Rows first: each part then packs rows of its own.
        let row_parts = wanted.min(self.rows.tiles.div_ceil(2));
        let col_parts = wanted.div_ceil(row_parts).min(cols.len());
        let packed = packed.map(SyncPtr);
        let rows = 0..self.rows.tiles;
        par::for_each(row_parts * col_parts, total / (row_parts * col_parts) as f64, |i| {
            let rows = part(&rows, row_parts, i / col_parts);
            let mine = part(&cols, col_parts, i % col_parts);
            // SAFETY: the parts cover disjoint rows and columns of C.
            unsafe { self.compute_part(kr, &cols, packed.map(|p| p.get()), rows, mine) };
        });
    }

    /// Computes the tiles of `rows` by `mine`, on this thread.
    ///
    /// # Safety
    /// As [`Plan::compute`], and nobody else touches these tiles of C.
    unsafe fn compute_part(
        &self,
        kr: &Range<usize>,
        cols: &Range<usize>,
        packed: Option<*mut T>,
        rows: Range<usize>,
        mine: Range<usize>,
    ) {
        let tiles = (MC / self.family.rows).max(1);
        for k0 in (kr.start..kr.end.max(kr.start + 1)).step_by(KC) {
            let k = k0..kr.end.min(k0 + KC);
            for i0 in rows.clone().step_by(tiles) {
                let rows = i0..rows.end.min(i0 + tiles);
                // SAFETY: the caller's promise; the packed rows are this thread's own.
                unsafe {
                    if !self.pack_a {
                        self.compute_block(kr, cols, packed, &rows, &mine, k.clone(), None);
                        continue;
                    }
                    with_scratch_a(|scratch| {
                        let total = self.rows.start(rows.end) - self.rows.start(rows.start);
                        let a = scratch.get::<T>(total * k.len() + SLACK).as_mut_ptr();
                        self.pack_rows(&rows, &k, a);
                        self.compute_block(kr, cols, packed, &rows, &mine, k.clone(), Some(a));
                    });
                }
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
        for tile in rows.clone() {
            let (start, end) = (self.rows.start(tile), self.rows.start(tile + 1));
            let src = p.a.wrapping_offset(start as isize * p.a_rs + k.start as isize * p.a_cs);
            // SAFETY: the caller's promise. Panels are written in ascending order, so what one writes into its slack
            // belongs to a panel that is written later.
            unsafe {
                let dst = to.add((start - first) * k.len());
                pack(self.avx2, k.len(), src, p.a_cs, p.a_rs, end - start, end - start, dst);
            }
        }
    }

    /// All tiles of `rows` by `mine` for one block of k.
    ///
    /// # Safety
    /// As [`Plan::compute_part`]; `a`, if any, holds these rows for this block.
    unsafe fn compute_block(
        &self,
        kr: &Range<usize>,
        cols: &Range<usize>,
        packed: Option<*mut T>,
        rows: &Range<usize>,
        mine: &Range<usize>,
        k: Range<usize>,
        a: Option<*mut T>,
    ) {
        let (p, lanes) = (self.p, self.family.lanes);
        let last_block = k.end == p.k;
        let first = self.rows.start(rows.start);
        for j in mine.clone() {
            let (col, col_end) = (self.col(j), self.col(j + 1));
            let registers = (col_end - col) / lanes;
            let last = lanes - (col_end - p.n.min(col_end));
            let (b, b_rs) = match packed {
                Some(packed) => (
                    packed.wrapping_add(self.panel(kr, cols, k.start, k.len(), j)).cast_const(),
                    (col_end - col) as isize,
                ),
                None => (p.b.wrapping_offset(k.start as isize * p.b_rs + col as isize), p.b_rs),
            };
            let full = packed.is_some() || last == lanes;
            for i in rows.clone() {
                let (row, row_end) = (self.rows.start(i), self.rows.start(i + 1));
                let (a, a_rs, a_cs) = match a {
                    Some(a) => (
                        a.wrapping_add((row - first) * k.len()).cast_const(),
                        1,
                        (row_end - row) as isize,
                    ),
                    None => (
                        p.a.wrapping_offset(row as isize * p.a_rs + k.start as isize * p.a_cs),
                        p.a_rs,
                        p.a_cs,
                    ),
                };
                let tile = Tile {
                    k: k.len(),
                    a,
                    a_rs,
                    a_cs,
                    b,
                    b_rs,
                    offs: std::ptr::null(),
                    c: p.c.wrapping_add(row * p.c_rs + col),
                    c_rs: p.c_rs as isize,
                    last,
                    accumulate: p.accumulate || k.start > 0,
                    bias_col: if last_block { offset(p.bias_col, col) } else { std::ptr::null() },
                    bias_row: if last_block { offset(p.bias_row, row) } else { std::ptr::null() },
                    relu: p.relu && last_block,
                };
                let kernel = self.family.kernel(row_end - row, registers, BRows::Strided, full);
                // SAFETY: the tile lies within C, its rows of A and columns of B within the operands or their packed
                // copies (in whole registers), and the family was chosen by a detected instruction set.
                unsafe { kernel(&tile) };
            }
        }
    }
}

/// `p + n`, or null for null.
fn offset<T>(p: *const T, n: usize) -> *const T {
    if p.is_null() { p } else { p.wrapping_add(n) }
}
