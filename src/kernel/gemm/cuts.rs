//! Ranges cut into pieces of nearly equal length.

use std::ops::Range;

/// C's columns or rows cut into tiles of nearly equal size, in units of whole registers (or single rows).
#[derive(Clone, Copy)]
pub(super) struct Cuts {
    pub(super) tiles: usize,
    /// Units of each tile; the first `longer` ones have one more.
    size: usize,
    longer: usize,
}

impl Cuts {
    pub(super) fn new(units: usize, most: usize) -> Self {
        let tiles = units.div_ceil(most);
        Self { tiles, size: units / tiles, longer: units % tiles }
    }

    /// A range of tiles as two, each of equal tiles.
    pub(super) fn runs(&self, tiles: &Range<usize>) -> [Range<usize>; 2] {
        let middle = self.longer.clamp(tiles.start, tiles.end);
        [tiles.start..middle, middle..tiles.end]
    }

    /// Where tile `i` starts, in units; `i == tiles` is the end.
    #[inline(always)]
    pub(super) fn start(&self, i: usize) -> usize {
        self.size * i + self.longer.min(i)
    }
}

/// Part `i` of `parts` of a range of tiles.
pub(super) fn part(range: &Range<usize>, parts: usize, i: usize) -> Range<usize> {
    range.start + range.len() * i / parts..range.start + range.len() * (i + 1) / parts
}

/// A range in pieces of nearly equal length, at most `most`.
pub(super) fn pieces(
    range: &Range<usize>,
    most: usize,
) -> impl Iterator<Item = Range<usize>> + use<> {
    let range = range.clone();
    let count = if range.len() <= most { 1 } else { range.len().div_ceil(most.max(1)) };
    (0..count).map(move |i| if count == 1 { range.clone() } else { part(&range, count, i) })
}
