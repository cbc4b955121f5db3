//! What is read next is fetched into L2 while tiles are computed: copies and first reads are bound by how fast memory delivers, tiles are
//! not. Each tile asks for a few lines on its way, in the order of memory, so that the hardware sees runs and goes on by itself.

use std::cell::Cell;
use std::ptr::null;

/// Memory that is going to be read: runs of bytes at even distances.
pub(super) struct Ahead {
    /// Where the next tile begins to ask, and what is left of that run.
    at: Cell<*const u8>,
    left: Cell<usize>,
    /// Runs that have not been begun.
    runs: Cell<usize>,
    run: usize,
    pitch: isize,
    /// What a tile asks for, and how far it moves with each step.
    share: usize,
    step: usize,
}

impl Ahead {
    /// So many runs of `len` elements, the first elements `pitch` apart, to be fetched by so many tiles of about `depth` steps.
    pub(super) fn new<T>(
        first: *const T,
        runs: usize,
        len: usize,
        pitch: isize,
        tiles: usize,
        depth: usize,
    ) -> Self {
        let size = size_of::<T>();
        let (run, pitch) = (len * size, pitch.wrapping_mul(size as isize));
        // A run ends in the middle of a tile's share, half a share on average, and what is missing there is left over.
        let tiles = tiles.saturating_sub(runs / 2).max(tiles.div_ceil(2)).max(1);
        let share = (run * runs).div_ceil(tiles).next_multiple_of(64);
        let left = if runs == 0 { 0 } else { run };
        Self {
            at: Cell::new(first.cast()),
            left: Cell::new(left),
            runs: Cell::new(runs.saturating_sub(1)),
            run,
            pitch,
            share,
            step: share.div_ceil(depth.max(1)),
        }
    }

    /// Where a tile asks from, and the bytes from one step to the next; null if for nothing.
    #[inline]
    pub(super) fn walk(&self) -> (*const u8, usize) {
        let (at, left) = (self.at.get(), self.left.get());
        if left == 0 {
            return (null(), 0);
        }
        if self.share < left {
            self.at.set(at.wrapping_add(self.share));
            self.left.set(left - self.share);
        } else {
            // From the end of a run to the start of the next.
            let more = self.runs.get() > 0;
            self.left.set(if more { self.run } else { 0 });
            self.runs.set(self.runs.get().saturating_sub(1));
            let back = self.run as isize - left as isize;
            self.at.set(at.wrapping_offset(self.pitch - back));
        }
        (at, self.step)
    }
}
