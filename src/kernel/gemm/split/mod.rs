//! Products of f32 on tile registers that multiply numbers of eight bits (bf16): three such pieces make a float.
//!
//! A float has 24 significant bits, so it is exactly `x = x₁ + x₂ + x₃`, each piece with eight of them and each at most 2⁻⁸ of the one
//! before. A product of two floats is nine products of pieces, each exact in f32; the three smallest are below half a unit in the last
//! place of the whole and are left out. Tile registers multiply sixteen times as many pieces a cycle as vector registers do floats: six products
//! are 2.7 times as fast by count, about 1.6 times by the clock, and the sums are closer to the truth: 32 products of pieces are added to each
//! other before they meet what was added before.
//!
//! ```text
//! for each block of k:
//!     for each block of the factor with fewer lines (rows of A, columns of B), packed so that it stays in L2:
//!         for each panel of 32 lines of the other one:
//!             for each panel of the block: 32 x 32 results; meanwhile the next panel is packed
//! ```
//!
//! - Each result is the same chain of additions wherever it lies: blocks of k and the order of the six products are all that it depends on.
//! - Infinities and NaN have no pieces, nor do numbers that round to infinity: a result that is not finite is computed again by
//!   multiply-adds. Pieces below the smallest normal number count as zero, so factors below 2⁻¹⁰³ (10⁻³¹) lose digits.
//! - It takes more work to split than to copy, and results come in multiples of sixteen: small products are faster without, see
//!   [`Split::suits`].

mod finish;
mod pack;
mod pass;
mod tile;

#[cfg(test)]
mod tests;

use super::cuts::{part, pieces_of};
use super::drive::Problem;
use super::pack::{Held, new_region, with_scratch_a, with_scratch_b};
use crate::kernel::par;
use pack::{Factor, Lines, PANEL, Packing, STEP, packed_len};
use pass::Pass;
use std::ops::Range;
use tile::{Configured, SIDE, Sums};

/// Steps of k of a block, at most: of even length, so that 1024 are two of 512.
const STEPS: usize = 16;
/// Pairs of a packed block that stays in L2, with two panels of the other: half of the 2 MiB of the processors in question.
const KEPT: usize = (1 << 20) / 4;
/// Flop per nanosecond, for estimates of time.
const RATE: f64 = 300.0;
/// What it takes to split a number, and to write a result, in nanoseconds.
const SPLIT_NS: f64 = 0.12;
const WRITE_NS: f64 = 0.06;
/// To configure the registers, and until they are up to speed.
const START_NS: f64 = 600.0;
/// A panel of one tile takes as long as one of so many lines: its sums are too few to hide the latency of an addition.
const ALONE: usize = 26;
/// Estimates of the time with multiply-adds are upper bounds: it should be by so much shorter.
const SHORTER: f64 = 0.8;
/// A part of a region should take about this long, in nanoseconds.
const PART_NS: f64 = 4_000.0;

/// How a product is carried out.
pub(super) struct Split<'a> {
    p: &'a Problem<f32>,
    /// The factor whose packed lines stay in the cache, while those of the other stream past them.
    keep: Factor,
    /// Lines of that factor, and of the other.
    kept: usize,
    streamed: usize,
    /// Blocks of k.
    blocks: usize,
    /// Into how many parts both are cut.
    parts: (usize, usize),
    /// B, if it was packed before.
    packed: Option<*const u32>,
}

// SAFETY: a bundle of addresses; each access through them is `unsafe` and carries its own argument.
unsafe impl Sync for Split<'_> {}

impl<'a> Split<'a> {
    /// A plan for the product, if it is faster this way than `ns`, the time that it takes with multiply-adds.
    pub(super) fn suits(p: &'a Problem<f32>, ns: f64) -> Option<Self> {
        let (keep, kept, streamed) =
            if p.m <= p.n { (Factor::A, p.m, p.n) } else { (Factor::B, p.n, p.m) };
        Self::new(p, keep, kept, streamed).suited(ns)
    }

    /// A plan for a product with a B that is packed for it, if that is faster than `ns`.
    pub(super) fn suits_packed(p: &'a Problem<f32>, ns: f64) -> Option<Self> {
        Split { packed: Some(std::ptr::null()), ..Self::new(p, Factor::A, p.m, p.n) }.suited(ns)
    }

    /// A plan for a product with the B that [`pack_whole`](Self::pack_whole) packed.
    ///
    /// # Safety
    /// It did, and from the problem's own B: results that are not finite are computed from that.
    pub(super) unsafe fn with_packed(p: &'a Problem<f32>, packed: *const u32) -> Self {
        let plan = Split { packed: Some(packed), ..Self::new(p, Factor::A, p.m, p.n) };
        Split { parts: plan.choose_parts(), ..plan }
    }

    fn new(p: &'a Problem<f32>, keep: Factor, kept: usize, streamed: usize) -> Self {
        let blocks = p.k.div_ceil(STEP).div_ceil(STEPS);
        Split { p, keep, kept, streamed, blocks, parts: (1, 1), packed: None }
    }

    fn suited(self, ns: f64) -> Option<Self> {
        let p = self.p;
        let possible = p.m >= SIDE && p.n >= SIDE && p.k >= SIDE && p.c_cs == 1;
        (possible && self.estimate(1, 1) < SHORTER * ns)
            .then(|| Split { parts: self.choose_parts(), ..self })
    }

    /// Pairs of a B that is packed as a whole.
    pub(super) fn packed_whole_len(&self) -> usize {
        packed_len(self.p.n, self.p.k.next_multiple_of(STEP))
    }

    /// Packs all of B: for each block of k all panels.
    ///
    /// # Safety
    /// B is readable, there is room for [`packed_whole_len`](Self::packed_whole_len) pairs, and the processor has AVX-512.
    pub(super) unsafe fn pack_whole(&self, to: *mut u32) {
        for block in 0..self.blocks {
            let k = self.block(block);
            // SAFETY: the caller's promise.
            unsafe {
                let to = to.add(packed_len(self.p.n, k.start));
                self.packing(Factor::B, &(0..self.p.n.div_ceil(PANEL)), &k, to).finish();
            }
        }
    }

    /// How long the busiest thread takes, in nanoseconds, if both factors are cut into so many parts and there are as many threads.
    fn estimate(&self, kept_parts: usize, streamed_parts: usize) -> f64 {
        let depth = self.p.k.next_multiple_of(STEP) as f64;
        let share = |lines: usize, parts: usize| {
            let lines = lines.min(lines.div_ceil(PANEL).div_ceil(parts) * PANEL);
            let rest = [0, ALONE, PANEL][(lines % PANEL).div_ceil(SIDE)];
            lines / PANEL * PANEL + rest
        };
        let (kept, streamed) = (share(self.kept, kept_parts), share(self.streamed, streamed_parts));
        let per_block = PANEL * (KEPT / packed_len(PANEL, self.p.k.min(STEPS * STEP))).max(1);
        let times = kept.div_ceil(per_block);
        let (kept, streamed) = (kept as f64, streamed as f64);
        START_NS
            + 2.0 * kept * streamed * depth / RATE
            + SPLIT_NS
                * depth
                * (kept + if self.packed.is_some() { 0.0 } else { streamed * times as f64 })
            + WRITE_NS * kept * streamed * self.blocks as f64
    }

    fn choose_parts(&self) -> (usize, usize) {
        let threads = par::threads_here();
        let total = self.estimate(1, 1);
        if threads == 1 || total < 2.0 * PART_NS {
            return (1, 1);
        }
        let (kept, streamed) = (self.kept.div_ceil(PANEL), self.streamed.div_ceil(PANEL));
        let mut best = ((1, 1), total);
        for rows in (1..=threads.min(kept)).filter(|rows| threads.is_multiple_of(*rows)) {
            let parts = (rows, threads / rows);
            let ns = self.estimate(parts.0, parts.1);
            if parts.1 <= streamed && ns < best.1 {
                best = (parts, ns);
            }
        }
        // Some more than there are threads, should one be held up: unless each would pack the kept factor again.
        let (parts, ns) = best;
        let kept = self.kept.div_ceil(parts.0);
        let once = self.blocks == 1 && packed_len(kept, self.p.k) <= KEPT;
        let most = if once { 4 } else { 1 };
        let more = ((ns / PART_NS) as usize).min(streamed / parts.1).clamp(1, most);
        (parts.0, parts.1 * more)
    }

    /// Computes the product.
    ///
    /// # Safety
    /// As [`batched`](super::drive::batched), for the plan's problem; the processor has the tile registers and this process may use them.
    pub(super) unsafe fn run(&self) {
        let (kept_parts, streamed_parts) = self.parts;
        let parts = kept_parts * streamed_parts;
        let region = new_region();
        let (kept, streamed) = (0..self.kept.div_ceil(PANEL), 0..self.streamed.div_ceil(PANEL));
        par::for_each(parts, self.estimate(kept_parts, streamed_parts), |i| {
            let kept = part(&kept, kept_parts, i / streamed_parts);
            let streamed = part(&streamed, streamed_parts, i % streamed_parts);
            // SAFETY: the caller's promise; the parts cover disjoint rows and columns of C.
            unsafe { self.compute_part(kept, streamed, region) };
        });
    }

    /// The results of some panels of both factors.
    ///
    /// # Safety
    /// As [`run`](Self::run), and nobody else touches these results.
    unsafe fn compute_part(&self, kept: Range<usize>, streamed: Range<usize>, region: u64) {
        // SAFETY: the caller's promise.
        let _configured = unsafe { Configured::new() };
        let mut sums = [const { Sums([0.0; PANEL * PANEL]) }; 2];
        for block in 0..self.blocks {
            let k = self.block(block);
            let per_panel = packed_len(PANEL, k.len());
            let count = (kept.len() * per_panel).div_ceil(KEPT);
            for kept in pieces_of(&kept, count) {
                let mut pass = Pass::new(self, k.clone(), &mut sums);
                with_scratch_a(|scratch| {
                    let what = Held { region, k: k.start, first: kept.start };
                    let len = kept.len() * per_panel;
                    let packed_kept = scratch.panels::<f32>(what, len, |to| {
                        // SAFETY: the caller's promise, and there is room for so many panels.
                        unsafe { self.packing(self.keep, &kept, &k, to.cast()).finish() }
                    });
                    let kept = (kept, packed_kept.cast());
                    // SAFETY: the caller's promise; what is packed is this thread's own.
                    unsafe {
                        match self.packed {
                            Some(packed) => {
                                let first =
                                    packed_len(self.p.n, k.start) + streamed.start * per_panel;
                                pass.over_packed(&kept, &streamed, packed.add(first));
                            }
                            None => with_scratch_b(|scratch| {
                                let to = scratch.get::<f32>(2 * per_panel).as_mut_ptr().cast();
                                pass.over(&kept, &streamed, to);
                            }),
                        }
                    }
                });
                // SAFETY: the caller's promise.
                unsafe { pass.write() };
            }
        }
    }

    /// The range of a block of k: whole steps but for the last.
    fn block(&self, i: usize) -> Range<usize> {
        let steps = part(&(0..self.p.k.div_ceil(STEP)), self.blocks, i);
        steps.start * STEP..(steps.end * STEP).min(self.p.k)
    }

    /// The lines of some panels.
    fn lines(&self, factor: Factor, panels: &Range<usize>) -> Range<usize> {
        let count = if factor == Factor::A { self.p.m } else { self.p.n };
        panels.start * PANEL..(panels.end * PANEL).min(count)
    }

    /// Where a factor's lines lie.
    fn factor(&self, factor: Factor) -> Lines {
        let p = self.p;
        match factor {
            Factor::A => Lines { at: p.a, along: p.a_cs, across: p.a_rs },
            Factor::B => Lines { at: p.b, along: p.b_rs, across: p.b_cs },
        }
    }

    /// Panels of a factor for a stretch of k, to be packed.
    fn packing(
        &self,
        factor: Factor,
        panels: &Range<usize>,
        k: &Range<usize>,
        to: *mut u32,
    ) -> Packing {
        let lines = self.lines(factor, panels);
        let from = self.factor(factor).from(lines.start, k.start);
        Packing::new(factor, from, lines.len(), k.len(), to)
    }
}

impl Factor {
    fn other(self) -> Self {
        match self {
            Factor::A => Factor::B,
            Factor::B => Factor::A,
        }
    }
}
