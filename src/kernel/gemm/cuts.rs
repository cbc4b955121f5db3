//! Ranges cut into pieces of nearly equal length.

use std::ops::Range;

/// C's columns or rows cut into tiles of nearly equal size, in units of whole registers (or single rows). The larger ones are spread
/// evenly, so that parts of as many tiles are of equal size, too.
#[derive(Clone, Copy)]
pub(super) struct Cuts {
    pub(super) tiles: usize,
    units: usize,
    /// `units / tiles` in units of 2^-32, rounded up; 0 if that were not exact enough.
    step: u64,
}

impl Cuts {
    /// Tiles of at most `most` units, so many that each of the `parts` has as many of them.
    pub(super) fn new(units: usize, most: usize, parts: usize) -> Self {
        let tiles = units.div_ceil(most).next_multiple_of(parts).min(units);
        // Rounding adds less than tiles / 2^32 to `start`, which must stay below 1 / tiles to change nothing.
        let exact = tiles < 1 << 16 && units < 1 << 31;
        let step = if exact { ((units as u64) << 32).div_ceil(tiles as u64) } else { 0 };
        Self { tiles, units, step }
    }

    pub(super) fn units(&self) -> usize {
        self.units
    }

    /// A range of tiles in runs of equal ones.
    pub(super) fn runs(self, tiles: &Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let mut tiles = tiles.clone();
        std::iter::from_fn(move || {
            let start = tiles.start;
            let size = |i: usize| self.start(i + 1) - self.start(i);
            let run = tiles.clone().take_while(|&i| size(i) == size(start)).count();
            tiles.start += run;
            (run > 0).then_some(start..start + run)
        })
    }

    /// Where tile `i` starts, in units; `i == tiles` is the end.
    #[inline(always)]
    pub(super) fn start(&self, i: usize) -> usize {
        if self.step == 0 {
            self.units * i / self.tiles
        } else {
            ((self.step * i as u64) >> 32) as usize
        }
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
    pieces_of(range, if range.len() <= most { 1 } else { range.len().div_ceil(most.max(1)) })
}

/// A range in so many pieces of nearly equal length, but in no empty ones.
pub(super) fn pieces_of(
    range: &Range<usize>,
    count: usize,
) -> impl Iterator<Item = Range<usize>> + use<> {
    let range = range.clone();
    let count = count.clamp(1, range.len().max(1));
    (0..count).map(move |i| if count == 1 { range.clone() } else { part(&range, count, i) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_even_and_cover_all() {
        for units in (1..200).chain([1000, 4096, 65535, 65536, 1 << 20, (1 << 31) + 7]) {
            for (most, parts) in [(1, 1), (3, 1), (3, 2), (3, 8), (8, 1), (8, 3), (40, 4)] {
                let cuts = Cuts::new(units, most, parts);
                assert!(cuts.tiles >= 1 && (cuts.tiles <= units), "{units} {most} {parts}");
                let some = (0..cuts.tiles).step_by(1 + cuts.tiles / 997);
                for i in some.chain([cuts.tiles]) {
                    assert_eq!(
                        cuts.start(i),
                        (units as u128 * i as u128 / cuts.tiles as u128) as usize
                    );
                }
                assert!(units.div_ceil(cuts.tiles) <= most);
            }
            let cuts = Cuts::new(units.min(5000), 3, 2);
            let runs: Vec<_> = cuts.runs(&(0..cuts.tiles)).collect();
            assert_eq!(runs.iter().map(ExactSizeIterator::len).sum::<usize>(), cuts.tiles);
            assert!(runs.windows(2).all(|r| r[0].end == r[1].start));
        }
    }
}
