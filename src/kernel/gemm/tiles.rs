//! The tiles of a part of C for one block of k: what each needs is computed once for its row, or its column.

use super::GemmElement;
use super::ahead::Ahead;
use super::plan::Plan;
use super::tile::{BRows, Stays, Tile, TileFn};
use std::ops::Range;
use std::ptr::null;

/// Columns of B for a stretch of k: packed, or B itself.
#[derive(Clone, Copy)]
pub(super) struct Panels<T> {
    pub(super) packed: Option<*const T>,
    /// The column of the first packed panel.
    pub(super) first: usize,
    /// The part of k that the panels hold.
    pub(super) start: usize,
    pub(super) len: usize,
}

/// Sums of some rows and columns of C', collected in rows of `width`.
#[derive(Clone, Copy)]
pub(super) struct Sums<T> {
    pub(super) at: *mut T,
    /// The first row and column.
    pub(super) row: usize,
    pub(super) first: usize,
    pub(super) width: usize,
    /// Whether they hold something to add to.
    pub(super) more: bool,
}

/// What a block of tiles needs beside its ranges.
pub(super) struct Block<'a, T> {
    pub(super) k: Range<usize>,
    pub(super) b: Panels<T>,
    /// The packed rows, and the first of them.
    pub(super) a: Option<(*const T, usize)>,
    /// Where C is written transposed: where its elements are collected.
    pub(super) sums: Option<Sums<T>>,
    /// What is fetched meanwhile.
    pub(super) next: Option<&'a Ahead>,
}

/// A row of tiles.
struct Row<T: 'static> {
    row: usize,
    a: *const T,
    a_rs: isize,
    a_cs: isize,
    c: *mut T,
    /// For so many rows, by registers, with whole and with partial last ones.
    full: &'static [TileFn<T>],
    partial: &'static [TileFn<T>],
}

impl<T: GemmElement> Plan<'_, T> {
    /// The tiles of `rows` by `cols` for a block of k.
    ///
    /// # Safety
    /// As [`run`](Self::run); nobody else touches these tiles of C, and what the block holds is for these rows and columns.
    pub(super) unsafe fn compute_tiles(
        &self,
        rows: &Range<usize>,
        cols: &Range<usize>,
        block: &Block<'_, T>,
    ) {
        // SAFETY: the caller's promise, tile by tile.
        unsafe {
            match self.family.stays {
                Stays::A => {
                    for i in rows.clone() {
                        let row = self.row(i, block);
                        cols.clone().for_each(|j| self.compute_tile(&row, j, block));
                    }
                }
                Stays::B => {
                    for j in cols.clone() {
                        rows.clone().for_each(|i| self.compute_tile(&self.row(i, block), j, block));
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn row(&self, i: usize, block: &Block<'_, T>) -> Row<T> {
        let (p, k) = (self.p, &block.k);
        let row = self.rows.start(i);
        let rows = self.rows.start(i + 1) - row;
        let (a, a_rs, a_cs) = match block.a {
            Some((a, first)) => (a.wrapping_add((row - first) * k.len()), 1, rows as isize),
            None => {
                let at = row as isize * p.a_rs + k.start as isize * p.a_cs;
                (p.a.wrapping_offset(at), p.a_rs, p.a_cs)
            }
        };
        let c = match block.sums {
            None => p.c.wrapping_add(row * p.c_rs),
            Some(sums) => sums.at.wrapping_add((row - sums.row) * sums.width),
        };
        let place = match block.b.packed {
            None if self.far => BRows::Far,
            _ => BRows::Strided,
        };
        let (full, partial) =
            (self.family.row(rows, place, true), self.family.row(rows, place, false));
        Row { row, a, a_rs, a_cs, c, full, partial }
    }

    /// One tile for one block of k.
    ///
    /// # Safety
    /// As [`compute_tiles`](Self::compute_tiles), for this tile.
    #[inline(always)]
    unsafe fn compute_tile(&self, row: &Row<T>, j: usize, block: &Block<'_, T>) {
        let (p, lanes, k) = (self.p, self.family.lanes, &block.k);
        let (start, end) = (self.cols.start(j), self.cols.start(j + 1));
        let (registers, col, width) = (end - start, start * lanes, (end - start) * lanes);
        let last = lanes - (end * lanes).saturating_sub(p.n);
        let (b, b_rs, kernels) = match block.b.packed {
            Some(b) => {
                let above = (col - block.b.first) * block.b.len + (k.start - block.b.start) * width;
                (b.wrapping_add(above), width as isize, row.full)
            }
            None => {
                let at = k.start as isize * p.b_rs + col as isize;
                let kernels = if last == lanes { row.full } else { row.partial };
                (p.b.wrapping_offset(at), p.b_rs, kernels)
            }
        };
        let (next, next_step) = block.next.map_or((null(), 0), Ahead::walk);
        let tile = Tile {
            k: k.len(),
            a: row.a,
            a_rs: row.a_rs,
            a_cs: row.a_cs,
            b,
            b_rs,
            offs: null(),
            c: row.c.wrapping_add(col),
            c_rs: p.c_rs as isize,
            last,
            accumulate: p.accumulate || k.start > 0,
            bias_col: null(),
            bias_row: null(),
            relu: false,
            next,
            next_step,
        };
        let kernel = kernels[registers - 1];
        // SAFETY: the tile lies within C, its rows of A and columns of B within the operands or their packed copies (in whole
        // registers), and the family was chosen by a detected instruction set. Where C is transposed, the sums are this
        // thread's and have room for a tile in whole registers.
        unsafe {
            match block.sums {
                None if k.end == p.k => kernel(&Tile {
                    bias_col: offset(p.bias_col, col),
                    bias_row: offset(p.bias_row, row.row),
                    relu: p.relu,
                    ..tile
                }),
                None => kernel(&tile),
                Some(sums) => kernel(&Tile {
                    c: row.c.wrapping_add(col - sums.first),
                    c_rs: sums.width as isize,
                    last: lanes,
                    accumulate: sums.more || k.start > block.b.start,
                    ..tile
                }),
            }
        }
    }
}

/// `p + n`, or null for null.
#[inline(always)]
fn offset<T>(p: *const T, n: usize) -> *const T {
    if p.is_null() { p } else { p.wrapping_add(n) }
}
