//! Tiles of C' written to C: where the columns of C are the rows on the left, see [`drive`](super::drive).

use super::GemmElement;
use super::drive::Problem;
use super::pack::{SLACK, pack};
use crate::kernel::simd::{Isa, Kernel, dispatch_on};
use std::ops::Range;

/// Elements that the sums of so many rows and columns, and their transpose, need.
pub(super) fn room(rows: usize, width: usize) -> usize {
    2 * rows * width + SLACK
}

/// Asks for the cache lines of C from row `row` of C' on, to be written.
pub(super) fn ask<T>(p: &Problem<T>, row: usize, cols: Range<usize>) {
    for _j in cols {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint, harmless at any address.
        unsafe {
            use std::arch::x86_64::*;
            _mm_prefetch::<_MM_HINT_ET0>(p.c.wrapping_add(row + _j * p.c_cs).cast());
        }
    }
    let _ = (p, row);
}

/// Reads what C holds into the sums, for more to be added.
///
/// # Safety
/// As [`write`], for elements that are readable.
pub(super) unsafe fn read<T: GemmElement>(
    isa: Isa,
    p: &Problem<T>,
    sums: *mut T,
    width: usize,
    rows: Range<usize>,
    cols: Range<usize>,
) {
    let count = rows.len();
    // SAFETY: there is as much room behind the sums; each line is `count` elements of a column of C', and the sums are
    // written in whole registers.
    unsafe {
        let lines = sums.add(count * width);
        for (i, j) in cols.clone().enumerate() {
            let c = p.c.add(rows.start + j * p.c_cs);
            std::ptr::copy_nonoverlapping(c, lines.add(i * count), count);
        }
        pack(isa, count, lines, 1, count as isize, cols.len(), width, sums);
    }
}

/// Writes the sums of `rows` by `cols` of C', `width` columns in whole registers, to C, through the epilogue if `end`.
///
/// # Safety
/// The sums have [`room`]; rows and columns are not empty; these elements of C (element (i, j) at `i + j * c_cs`) are writable, and
/// nobody else touches them; the problem's biases are null or of its sizes; the processor has `isa`.
pub(super) unsafe fn write<T: GemmElement>(
    isa: Isa,
    p: &Problem<T>,
    sums: *mut T,
    width: usize,
    rows: Range<usize>,
    cols: Range<usize>,
    end: bool,
) {
    let count = rows.len();
    // SAFETY: there are `count * width` sums, and as much room and the slack behind them.
    let lines = unsafe {
        let to = sums.add(count * width);
        pack(isa, width, sums, 1, width as isize, count, count, to);
        std::slice::from_raw_parts(to.cast_const(), count * width)
    };
    dispatch_on(isa, Lines { p, lines, rows, cols, end });
}

/// The rows of C: `lines` holds them one after another.
struct Lines<'a, T> {
    p: &'a Problem<T>,
    lines: &'a [T],
    rows: Range<usize>,
    cols: Range<usize>,
    end: bool,
}

impl<T: GemmElement> Kernel for Lines<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        // By far the commonest, which let a line be a register.
        match self.rows.len() {
            16 => self.write(16),
            8 => self.write(8),
            n => self.write(n),
        }
    }
}

impl<T: GemmElement> Lines<'_, T> {
    #[inline(always)]
    fn write(&self, count: usize) {
        let (p, row) = (self.p, self.rows.start);
        let bias = self.end && !p.bias_row.is_null();
        for (j, sums) in self.cols.clone().zip(self.lines.chunks_exact(count)) {
            // SAFETY: `count` elements of column `j` of C', which is a row of C, by the promise of `write`.
            let c = unsafe { std::slice::from_raw_parts_mut(p.c.add(row + j * p.c_cs), count) };
            c.copy_from_slice(sums);
            if self.end && !p.bias_col.is_null() {
                // SAFETY: an element for each column.
                let bias = unsafe { *p.bias_col.add(j) };
                c.iter_mut().for_each(|c| *c = c.plus(bias));
            }
            if bias {
                // SAFETY: an element for each row.
                let bias = unsafe { std::slice::from_raw_parts(p.bias_row.add(row), count) };
                c.iter_mut().zip(bias).for_each(|(c, &b)| *c = c.plus(b));
            }
            if self.end && p.relu {
                c.iter_mut().for_each(|c| *c = if *c < T::ZERO { T::ZERO } else { *c });
            }
        }
    }
}
