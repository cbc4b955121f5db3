//! Factors as sums of three numbers of eight bits each, in the order in which tile registers read them.
//!
//! A *line* is a row of A or a column of B. A panel is up to 32 lines, one or two tiles of sixteen; for each step of 32 along k it holds
//! the high pieces of its tiles, then the middle, then the low ones. A tile is sixteen rows of sixteen pairs; the pairs are `k` and `k + 16`
//! of the step, so that to form them takes shifts and masks alone:
//!
//! ```text
//! of A: row i, pair j = line i at k = j, j + 16        of B: row j, pair i = the same
//! ```

use super::super::across::four_columns;
use super::tile::SIDE;
use std::arch::x86_64::*;

/// The pieces of a number.
pub(super) const PIECES: usize = 3;
/// Pairs of a tile.
pub(super) const TILE: usize = SIDE * SIDE;
/// Elements of k of a step.
pub(super) const STEP: usize = 2 * SIDE;
/// Lines of a panel.
pub(super) const PANEL: usize = 2 * SIDE;

/// Of four rows each: so much is packed at a time, between steps of the tile registers, that those do not run dry meanwhile.
const QUARTERS: usize = 4;

/// The factor of a product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Factor {
    A,
    B,
}

/// Where the lines of a factor lie: distances along a line, and between lines.
#[derive(Clone, Copy)]
pub(super) struct Lines {
    pub(super) at: *const f32,
    pub(super) along: isize,
    pub(super) across: isize,
}

impl Lines {
    /// From a line and an element on.
    pub(super) fn from(self, line: usize, k: usize) -> Self {
        let at = self.at.wrapping_offset(line as isize * self.across + k as isize * self.along);
        Lines { at, ..self }
    }
}

/// Pairs that `lines` lines of length `k` occupy.
pub(super) fn packed_len(lines: usize, k: usize) -> usize {
    lines.div_ceil(SIDE) * k.div_ceil(STEP) * PIECES * TILE
}

/// Lines of a factor on their way into panels, a quarter of a tile at a time. Of lines side by side the next tile is that of the next lines, else
/// that of the next step.
pub(super) struct Packing {
    factor: Factor,
    lines: Lines,
    count: usize,
    k: usize,
    to: *mut u32,
    /// Tiles beside each other, and steps.
    tiles: usize,
    steps: usize,
    /// What comes next.
    tile: usize,
    step: usize,
    quarter: usize,
}

impl Packing {
    /// Of `count` lines of length `k`.
    pub(super) fn new(factor: Factor, lines: Lines, count: usize, k: usize, to: *mut u32) -> Self {
        let (tiles, steps) = (count.div_ceil(SIDE), k.div_ceil(STEP));
        Packing { factor, lines, count, k, to, tiles, steps, tile: 0, step: 0, quarter: 0 }
    }

    /// How many quarters there are.
    pub(super) fn quarters(&self) -> usize {
        QUARTERS * self.tiles * self.steps
    }

    /// Packs the next quarter of a tile, if there is one.
    ///
    /// # Safety
    /// The lines are readable in their length, there is room for [`packed_len`] pairs, and the processor has AVX-512.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
    pub(super) unsafe fn next(&mut self) {
        if let Some(tile) = self.tile() {
            // SAFETY: the caller's promise.
            unsafe { tile.pack(self.quarter) };
            self.quarter += 1;
            if self.quarter == QUARTERS {
                self.advance();
            }
        }
    }

    /// The tile that comes next, if there is one. Its lines and elements exist, and so does room for its pieces.
    #[inline(always)]
    fn tile(&self) -> Option<Tile> {
        let Self { lines, k, tile, step, .. } = *self;
        let (line, first) = (tile * SIDE, tile / 2 * PANEL);
        // The last panel may have one tile.
        let in_panel = if first + SIDE < self.count { 2 } else { 1 };
        let at = packed_len(first, k) + (step * in_panel * PIECES + tile % 2) * TILE;
        (tile < self.tiles && step < self.steps).then(|| Tile {
            factor: self.factor,
            lines: lines.from(line, step * STEP),
            count: (self.count - line).min(SIDE),
            depth: (k - step * STEP).min(STEP),
            after: k - step * STEP,
            to: self.to.wrapping_add(at),
            apart: in_panel * TILE,
        })
    }

    #[inline(always)]
    fn advance(&mut self) {
        self.quarter = 0;
        let (inner, outer, most) = if self.lines.across == 1 {
            (&mut self.tile, &mut self.step, self.tiles)
        } else {
            (&mut self.step, &mut self.tile, self.steps)
        };
        *inner += 1;
        if *inner == most {
            *inner = 0;
            *outer += 1;
        }
    }

    /// Packs what is left.
    ///
    /// # Safety
    /// As [`next`](Self::next).
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
    pub(super) unsafe fn finish(mut self) {
        while let Some(tile) = self.tile() {
            for quarter in self.quarter..QUARTERS {
                // SAFETY: the caller's promise.
                unsafe { tile.pack(quarter) };
            }
            self.advance();
        }
    }
}

/// Up to sixteen lines in one step.
struct Tile {
    factor: Factor,
    lines: Lines,
    count: usize,
    /// Elements of the step, and of all from its start.
    depth: usize,
    after: usize,
    /// Where the high pieces go, and pairs from there to the next ones.
    to: *mut u32,
    apart: usize,
}

impl Tile {
    /// The pieces of a quarter.
    ///
    /// # Safety
    /// As [`Packing::next`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
    unsafe fn pack(&self, quarter: usize) {
        let Self { factor, lines, count, depth, to, apart, .. } = *self;
        // Both halves of a step as rows of sixteen: for A a row is a line, for B it is an element of all lines.
        let (row, column) = match factor {
            Factor::A => (lines.across, lines.along),
            Factor::B => (lines.along, lines.across),
        };
        let second = lines.at.wrapping_offset(SIDE as isize * lines.along);
        let whole = count == SIDE && depth == STEP;
        let first_row = quarter * SIDE / QUARTERS;
        // SAFETY: rows and columns that exist are read.
        unsafe {
            if whole && column == 1 {
                for i in first_row..first_row + SIDE / QUARTERS {
                    let at = i as isize * row;
                    let x = _mm512_loadu_ps(lines.at.wrapping_offset(at));
                    let y = _mm512_loadu_ps(second.wrapping_offset(at));
                    split_row(x, y, to.add(i * SIDE), apart);
                }
            } else if whole && row == 1 {
                let x = four_columns(lines.at.wrapping_add(first_row), column);
                let y = four_columns(second.wrapping_add(first_row), column);
                for (i, (x, y)) in x.into_iter().zip(y).enumerate() {
                    split_row(x, y, to.add((first_row + i) * SIDE), apart);
                }
            } else if quarter == 0 {
                pack_edge(factor, lines, count, depth, to, apart);
            }
        }
        if lines.across == 1 && self.after > STEP {
            self.ask(quarter);
        }
    }

    /// Asks for some of what the next step needs of these lines, where they lie side by side: the hardware does not see a pattern in them.
    #[inline]
    fn ask(&self, quarter: usize) {
        let rows = STEP / QUARTERS;
        for k in STEP + quarter * rows..self.after.min(STEP + (quarter + 1) * rows) {
            // SAFETY: a hint, harmless at any address.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(self.lines.from(0, k).at.cast()) };
        }
    }
}

/// [`Tile::pack`] of all quarters, at any strides, by way of a copy with zeros for what does not exist.
///
/// # Safety
/// As there.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
unsafe fn pack_edge(
    factor: Factor,
    lines: Lines,
    count: usize,
    depth: usize,
    to: *mut u32,
    apart: usize,
) {
    let mut halves = [[0.0f32; TILE]; 2];
    for (i, half) in halves.iter_mut().enumerate() {
        let from = lines.from(0, i * SIDE);
        let depth = depth.saturating_sub(i * SIDE).min(SIDE);
        // SAFETY: these lines and elements exist.
        unsafe {
            match factor {
                Factor::A => gather(from.at, from.across, from.along, count, depth, half),
                Factor::B => gather(from.at, from.along, from.across, depth, count, half),
            }
        }
    }
    for (i, (x, y)) in halves[0].chunks_exact(SIDE).zip(halves[1].chunks_exact(SIDE)).enumerate() {
        // SAFETY: sixteen elements each, and the caller's promise of room.
        unsafe {
            let (x, y) = (_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(y.as_ptr()));
            split_row(x, y, to.add(i * SIDE), apart);
        }
    }
}

/// Copies `rows` by `columns` elements into rows of sixteen; the rest of them stays as it is.
///
/// # Safety
/// The elements are readable, at most sixteen by sixteen; the processor has AVX-512.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
unsafe fn gather(
    at: *const f32,
    row: isize,
    column: isize,
    rows: usize,
    columns: usize,
    to: &mut [f32; TILE],
) {
    let mask = |n: usize| ((1u32 << n) - 1) as __mmask16;
    // SAFETY: reads are of elements that exist; a masked read touches nothing else.
    unsafe {
        if column == 1 {
            for (i, to) in to.chunks_exact_mut(SIDE).take(rows).enumerate() {
                let x = _mm512_maskz_loadu_ps(mask(columns), at.wrapping_offset(i as isize * row));
                _mm512_storeu_ps(to.as_mut_ptr(), x);
            }
        } else if row == 1 {
            let mut turned = [0.0f32; TILE];
            for (j, to) in turned.chunks_exact_mut(SIDE).take(columns).enumerate() {
                let x = _mm512_maskz_loadu_ps(mask(rows), at.wrapping_offset(j as isize * column));
                _mm512_storeu_ps(to.as_mut_ptr(), x);
            }
            for i in (0..SIDE).step_by(4) {
                let four = four_columns(turned.as_ptr().add(i), SIDE as isize);
                for (j, x) in four.into_iter().enumerate() {
                    _mm512_storeu_ps(to.as_mut_ptr().add((i + j) * SIDE), x);
                }
            }
        } else {
            for (i, to) in to.chunks_exact_mut(SIDE).take(rows).enumerate() {
                for (j, to) in to.iter_mut().take(columns).enumerate() {
                    *to = *at.wrapping_offset(i as isize * row + j as isize * column);
                }
            }
        }
    }
}

/// Writes the pieces of a row.
///
/// # Safety
/// Sixteen pairs are writable in each of three places; the processor has AVX-512.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn split_row(x: __m512, y: __m512, to: *mut u32, apart: usize) {
    for (piece, (x, y)) in pieces(x).into_iter().zip(pieces(y)).enumerate() {
        // x >> 16 | y & 0xffff0000
        let pair = _mm512_ternarylogic_epi32::<0xf8>(_mm512_srli_epi32::<16>(x), y, upper());
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_si512(to.add(piece * apart).cast(), pair) };
    }
}

/// The bits of a float that its piece keeps: sign, exponent, and seven bits of the fraction.
#[inline]
#[target_feature(enable = "avx512f")]
fn upper() -> __m512i {
    _mm512_set1_epi32(0xffff_0000u32 as i32)
}

/// Numbers as sums of three that have eight significant bits each: the nearest one, the nearest one to what is left, and what is left
/// then. Both differences are exact.
#[inline]
#[target_feature(enable = "avx512f")]
fn pieces(x: __m512) -> [__m512i; PIECES] {
    let nearest = |x: __m512| {
        let half = _mm512_set1_epi32(0x8000);
        _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(x), half), upper())
    };
    let high = nearest(x);
    let rest = _mm512_sub_ps(x, _mm512_castsi512_ps(high));
    let middle = nearest(rest);
    let low = _mm512_sub_ps(rest, _mm512_castsi512_ps(middle));
    [high, middle, _mm512_castps_si512(low)]
}
