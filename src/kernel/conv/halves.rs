//! Rows of a padded plane, and their even and odd elements: what strides of two and tiles of two by two read.

use super::pairs::Pairs;

/// Writes row `r` of a plane with `before` zeros above and to the left (or cut off, if negative), and zeros after it: `total` elements, and
/// up to a register behind them.
///
/// # Safety
/// The processor has the instruction set of `V`. The plane is readable, `to` writable as said.
#[inline(always)]
pub(super) unsafe fn padded_row<V: Pairs>(
    plane: *const V::Elem,
    [height, width]: [usize; 2],
    before: [isize; 2],
    r: isize,
    total: usize,
    to: *mut V::Elem,
) {
    let row = r - before[0];
    let inside = row >= 0 && (row as usize) < height;
    let skip = (-before[1]).max(0) as usize;
    let left = if inside { (before[1].max(0) as usize).min(total) } else { total };
    let len = width.saturating_sub(skip).min(total - left);
    // SAFETY: `skip + len` elements of the row are inside the plane; what is written ends within a register behind `total`.
    unsafe {
        let mut j = 0;
        while j < left {
            V::zero().store(to.add(j));
            j += V::LANES;
        }
        let from = plane.wrapping_offset(row * width as isize).wrapping_add(skip);
        let to = to.add(left);
        let mut j = 0;
        while j < total - left {
            let have = len.saturating_sub(j);
            let v = if have >= V::LANES {
                V::load(from.add(j))
            } else if have == 0 {
                V::zero()
            } else {
                V::load_part(from.add(j), V::mask(have))
            };
            v.store(to.add(j));
            j += V::LANES;
        }
    }
}

/// A plane taken apart into its phases, for strides of two along the width.
pub(super) struct Halves<T> {
    pub plane: *const T,
    pub size: [usize; 2],
    /// Zeros above and to the left.
    pub before: [isize; 2],
    /// Stride along the height, and how many of its phases are wanted.
    pub stride: usize,
    pub wanted: [usize; 2],
    /// Rows of a phase, and elements of a row.
    pub rows: usize,
    pub row: usize,
    /// Phase `(y, x)` goes to `to + (2 * y + x) * phase`.
    pub to: *mut T,
    pub phase: usize,
    /// Room for [`AHEAD`] lines of [`line`] elements.
    pub lines: *mut T,
}

/// Rows that are padded before the first of them is taken apart: what has just been written is slow to read.
const AHEAD: usize = 4;

/// Elements for the lines of [`Halves`].
pub(super) fn lines(row: usize, lanes: usize) -> usize {
    AHEAD * line(row, lanes)
}

/// Elements of a line: whole pairs of registers are read from its even places.
fn line(row: usize, lanes: usize) -> usize {
    2 * row + 3 * lanes
}

/// # Safety
/// The processor has the instruction set of `V`. The plane is readable, rows of the wanted phases and the lines are writable.
#[inline(always)]
pub(super) unsafe fn halves<V: Pairs>(a: &Halves<V::Elem>) {
    let line = line(a.row, V::LANES);
    for y in 0..a.wanted[0] {
        let mut q = 0;
        while q < a.rows {
            let ahead = (a.rows - q).min(AHEAD);
            // SAFETY: the caller's promise; a line is longer than what is written, and read from `2 t < 2 row` on for two registers.
            unsafe {
                for i in 0..ahead {
                    let r = ((q + i) * a.stride + y) as isize;
                    let to = a.lines.add(i * line);
                    padded_row::<V>(a.plane, a.size, a.before, r, 2 * a.row, to);
                }
                for i in 0..ahead {
                    let from = a.lines.add(i * line);
                    let to = a.to.add(2 * y * a.phase + (q + i) * a.row);
                    let mut t = 0;
                    while t < a.row {
                        let at = from.add(2 * t);
                        let (even, odd) = V::load(at).split(V::load(at.add(V::LANES)));
                        let mask = V::mask((a.row - t).min(V::LANES));
                        even.store_part(to.add(t), mask);
                        if a.wanted[1] == 2 {
                            odd.store_part(to.add(a.phase + t), mask);
                        }
                        t += V::LANES;
                    }
                }
            }
            q += ahead;
        }
    }
}
