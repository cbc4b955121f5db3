//! Rows worked on in chunks of [`W`] numbers that live in registers: the loops over them have a fixed length, which the compiler turns
//! into vectors, however many rows a formula reads and writes. The tail of a row runs through the same formula, padded with zeros, but through
//! code of its own: one load for both would copy a number of elements that is not known, through memory.

use std::array::from_fn;

use crate::float::Float;
use crate::kernel::simd::prefetch;

/// Numbers in a chunk: one vector of 16 `f32`, or two, or four.
pub(super) const W: usize = 16;

/// `W` numbers of a row.
pub(super) type Lanes<T> = [T; W];

/// Where a chunk begins, in rows that may end before it does unless it is `WHOLE`.
#[derive(Clone, Copy)]
pub(super) struct At<const WHOLE: bool>(pub usize);

/// Runs a formula for all chunks of rows of `h` numbers.
macro_rules! chunks {
    ($h:expr, |$at:ident| $formula:block) => {{
        let (h, end) = ($h, $h - $h % W);
        for j in (0..end).step_by(W) {
            let $at = At::<true>(j);
            $formula
        }
        if end < h {
            let $at = At::<false>(end);
            $formula
        }
    }};
}
pub(super) use chunks;

impl<const WHOLE: bool> At<WHOLE> {
    /// The chunk of a row; zeros after the row's end. (So an empty row is a row of zeros.)
    #[inline(always)]
    pub(super) fn load<T: Float>(self, row: &[T]) -> Lanes<T> {
        let rest = row.get(self.0..).unwrap_or(&[]);
        let mut lanes = [T::ZERO; W];
        if WHOLE {
            return *rest.first_chunk::<W>().unwrap_or(&lanes);
        }
        lanes[..rest.len()].copy_from_slice(rest);
        lanes
    }

    /// Writes the numbers that belong to the row.
    #[inline(always)]
    pub(super) fn store<T: Float>(self, row: &mut [T], v: &Lanes<T>) {
        let rest = &mut row[self.0..];
        if WHOLE {
            rest[..W].copy_from_slice(v);
        } else {
            rest.copy_from_slice(&v[..rest.len()]);
        }
    }

    /// Asks for the chunk of rows that are needed later; the first holds four gates of `h` numbers.
    #[inline(always)]
    pub(super) fn fetch<T: Float>(self, h: usize, [gates, rows @ ..]: [&[T]; 3]) {
        for gate in 0..4 {
            prefetch(gates, gate * h + self.0, W);
        }
        for row in rows {
            prefetch(row, self.0, W);
        }
    }
}

/// A formula, a function from numbers to numbers, of those side by side in some chunks. One loop over all of it, which is long enough to be
/// turned into vectors as a loop: short ones are unrolled first, and what then becomes of sixteen copies of each number is a matter of luck. A macro,
/// because a function that is passed on may be compiled on its own, for the baseline.
macro_rules! each {
    ($x:expr, $formula:expr) => {{
        let (x, mut out) = ($x, zeros());
        for j in 0..W {
            set(&mut out, j, $formula(get(&x, j)));
        }
        out
    }};
}
pub(super) use each;

#[inline(always)]
pub(super) fn zeros<T: Float, const N: usize>() -> [Lanes<T>; N] {
    [[T::ZERO; W]; N]
}

#[inline(always)]
pub(super) fn get<T: Float, const N: usize>(x: &[Lanes<T>; N], j: usize) -> [T; N] {
    from_fn(|n| x[n][j])
}

#[inline(always)]
pub(super) fn set<T: Float, const N: usize>(x: &mut [Lanes<T>; N], j: usize, y: [T; N]) {
    for (x, y) in x.iter_mut().zip(y) {
        x[j] = y;
    }
}

/// A row of `N` gates of `h` numbers each, gate by gate.
#[inline(always)]
pub(super) fn gates<T, const N: usize>(row: &mut [T], h: usize) -> [&mut [T]; N] {
    let mut rest = row;
    from_fn(|_| {
        let (gate, tail) = std::mem::take(&mut rest).split_at_mut(h);
        rest = tail;
        gate
    })
}
