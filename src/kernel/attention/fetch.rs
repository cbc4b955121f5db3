//! What a unit reads and writes is asked for before its time.
//!
//! A head's rows are short and far apart, so the hardware fetches nothing ahead, and what a projection wrote no longer lies in the second cache. So while a
//! unit is computed, strip by strip, it asks for a share of the rows that the next one reads, and of those that it will write itself. The
//! second cache is where they go: the first one is full of the strip's own. Units that would fill it are left to themselves; with long sequences there
//! is time enough for what each block waits for.

use std::ops::Range;

use super::backward::Sinks;
use super::{Problem, Sink, Units};
use crate::float::Float;

/// Bytes of a unit's queries and keys up to which the next one is fetched: with values, gradients and output four times as many, half of the
/// smallest second cache in use.
const MOST: usize = 64 << 10;
/// Queries below which there are no strips to share it out among.
const FEWEST: usize = 32;

/// Asks for `rows` rows of `bytes` bytes, `step` bytes apart, which need not be anybody's.
fn ask(first: *const u8, rows: usize, step: isize, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        const LINE: usize = 64;
        for row in 0..rows as isize {
            let at = first.wrapping_offset(row * step);
            let before = at as usize % LINE;
            for i in (0..before + bytes).step_by(LINE) {
                // SAFETY: the instruction is in the baseline and changes nothing that a program can see, whatever the address.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(i).cast()) };
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (first, rows, step, bytes);
}

/// The `i`-th of `count` shares of `rows` rows.
fn share(rows: usize, (i, count): (usize, usize)) -> Range<usize> {
    rows * i / count..rows * (i + 1) / count
}

impl<T> Units<'_, T> {
    /// Asks for a share of the first `rows` rows of a unit, if there is such a unit.
    pub(super) fn fetch(&self, unit: usize, rows: usize, width: usize, part: (usize, usize)) {
        if self.cs == 1 && unit < self.at.len() {
            let (rows, size) = (share(rows, part), size_of::<T>());
            let first = self.data.as_ptr().wrapping_add(self.index(unit, rows.start));
            ask(first.cast(), rows.len(), self.rs * size as isize, width * size);
        }
    }
}

impl<T> Problem<'_, T> {
    /// Whether units are fetched at all.
    pub(super) fn fetches(&self) -> bool {
        let ([queries, keys], [width, value]) = (self.size, self.width);
        queries >= FEWEST && (queries + keys) * width.max(value) * size_of::<T>() <= MOST
    }

    /// Asks for a share of a unit's queries, keys and values.
    pub(super) fn fetch(&self, unit: usize, part: (usize, usize)) {
        let ([queries, keys], [width, value], kv) = (self.size, self.width, unit / self.group);
        self.q.fetch(unit, queries, width, part);
        self.k.fetch(kv, keys, width, part);
        self.v.fetch(kv, keys, value, part);
    }
}

impl<T: Float> Sink<'_, T> {
    /// Asks for a share of the first `rows` rows of a unit.
    pub(super) fn fetch(&self, unit: usize, rows: usize, width: usize, part: (usize, usize)) {
        let (rows, size, place) = (share(rows, part), size_of::<T>(), self.place);
        let first = self.to.get().wrapping_add(place.at[unit] + rows.start * place.rs);
        ask(first.cast(), rows.len(), (place.rs * size) as isize, width * size);
    }
}

impl<T: Float> Sinks<'_, T> {
    /// Asks for a share of where the gradients of a unit go.
    pub(super) fn fetch(&self, p: &Problem<'_, T>, unit: usize, part: (usize, usize)) {
        let ([queries, keys], [width, value], kv) = (p.size, p.width, unit / p.group);
        if let Some(q) = &self.q {
            q.fetch(unit, queries, width, part);
        }
        if let Some(k) = &self.k {
            k.fetch(kv, keys, width, part);
        }
        if let Some(v) = &self.v {
            v.fetch(kv, keys, value, part);
        }
    }
}
