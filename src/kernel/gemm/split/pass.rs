//! One block of k for some lines of both factors: tile after tile, and what is done while the tile registers work.

use super::Split;
use super::finish::{Place, check, write};
use super::pack::{Factor, PANEL, Packing, STEP, packed_len};
use super::tile::{Sums, multiply};
use std::ops::Range;

/// Packed panels: which, and where the first lies.
type Panels = (Range<usize>, *const u32);

/// What a part works on while it looks at one block of k.
pub(super) struct Pass<'a> {
    split: &'a Split<'a>,
    k: Range<usize>,
    /// For the tile at work, and for the one before, which is written meanwhile.
    sums: &'a mut [Sums; 2],
    /// Where the sums of the tile before belong, and which of the two they are.
    pending: Option<(Place, usize)>,
    /// The next panel, and how much of it to pack with each step of a tile, in 256ths.
    next: Option<Packing>,
    rate: usize,
    due: usize,
}

impl<'a> Pass<'a> {
    pub(super) fn new(split: &'a Split<'a>, k: Range<usize>, sums: &'a mut [Sums; 2]) -> Self {
        Pass { split, k, sums, pending: None, next: None, rate: 0, due: 0 }
    }

    fn steps(&self) -> usize {
        self.k.len().div_ceil(STEP)
    }

    /// The results of the kept panels and some streamed ones, which are packed on the way: `to` has room for two.
    ///
    /// # Safety
    /// As [`Split::compute_part`], for these results; the kept panels are packed.
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
    pub(super) unsafe fn over(&mut self, kept: &Panels, streamed: &Range<usize>, to: *mut u32) {
        let (split, k) = (self.split, self.k.clone());
        let places = [to, to.wrapping_add(packed_len(PANEL, k.len()))];
        let packing =
            |panel: usize, to| split.packing(split.keep.other(), &(panel..panel + 1), &k, to);
        // SAFETY: the caller's promise: the panels are readable, and there is room for one in each place.
        unsafe {
            packing(streamed.start, places[0]).finish();
            for panel in streamed.clone() {
                let turn = (panel - streamed.start) % 2;
                self.next =
                    (panel + 1 < streamed.end).then(|| packing(panel + 1, places[1 - turn]));
                self.due = 0;
                self.rate = self.next.as_ref().map_or(0, |next| {
                    (256 * next.quarters()).div_ceil(kept.0.len() * self.steps())
                });
                self.row(kept, panel, places[turn]);
                if let Some(next) = self.next.take() {
                    next.finish();
                }
            }
        }
    }

    /// [`over`](Self::over) with streamed panels that are packed one after another from `at` on.
    ///
    /// # Safety
    /// As there.
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
    pub(super) unsafe fn over_packed(
        &mut self,
        kept: &Panels,
        streamed: &Range<usize>,
        at: *const u32,
    ) {
        let per_panel = packed_len(PANEL, self.k.len());
        for (i, panel) in streamed.clone().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { self.row(kept, panel, at.add(i * per_panel)) };
        }
    }

    /// The results of all kept panels and one streamed one.
    ///
    /// # Safety
    /// As [`over`](Self::over); the streamed panel is packed, too.
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
    unsafe fn row(&mut self, (kept, at): &Panels, panel: usize, to: *const u32) {
        let per_panel = packed_len(PANEL, self.k.len());
        for (i, kept) in kept.clone().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { self.tile(kept, at.add(i * per_panel), panel, to) };
        }
    }

    /// The results of two panels. Those of the two before are written meanwhile.
    ///
    /// # Safety
    /// As [`row`](Self::row).
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
    unsafe fn tile(&mut self, kept: usize, at: *const u32, streamed: usize, to: *const u32) {
        let (split, steps) = (self.split, self.steps());
        let (kept, streamed) = (kept..kept + 1, streamed..streamed + 1);
        let (rows, cols, a, b) = match split.keep {
            Factor::A => (kept, streamed, at, to),
            Factor::B => (streamed, kept, to, at),
        };
        let place =
            Place { rows: split.lines(Factor::A, &rows), cols: split.lines(Factor::B, &cols) };
        let before = self.pending.take();
        let turn = before.as_ref().map_or(0, |(_, turn)| 1 - turn);
        let [even, odd] = &mut *self.sums;
        let (now, last) = if turn == 0 { (even, odd) } else { (odd, even) };
        // Not in the first step, if there are more: the sums are still on their way then.
        let wait = 1.min(steps - 1);
        let per_step = PANEL.div_ceil(steps - wait);
        let meanwhile = |step: usize| {
            // SAFETY: the caller's promise. What is packed and written does not use tile registers.
            unsafe {
                if step >= wait
                    && let Some((place, _)) = &before
                {
                    if step == wait {
                        check(split.p, &self.k, place, last);
                    }
                    write(split.p, &self.k, place, last, (step - wait) * per_step, per_step);
                }
                place.ask(split.p, step * per_step, per_step);
                if let Some(next) = &mut self.next {
                    self.due += self.rate;
                    while self.due >= 256 {
                        self.due -= 256;
                        next.next();
                    }
                }
            }
        };
        // SAFETY: the caller's promise.
        unsafe { multiply(place.tiles(), a, b, steps, now, meanwhile) };
        self.pending = Some((place, turn));
    }

    /// Writes what waits.
    ///
    /// # Safety
    /// As [`tile`](Self::tile), for the results that wait.
    pub(super) unsafe fn write(&mut self) {
        if let Some((place, turn)) = self.pending.take() {
            // SAFETY: the caller's promise.
            unsafe {
                check(self.split.p, &self.k, &place, &mut self.sums[turn]);
                write(self.split.p, &self.k, &place, &self.sums[turn], 0, PANEL);
            }
        }
    }
}
