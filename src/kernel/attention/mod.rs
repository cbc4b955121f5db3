//! Attention by tiles: softmax(scale Q·Kᵀ + mask)·V without ever holding the whole matrix of weights (Dao et al., 2022,
//! "FlashAttention").
//!
//! ```text
//! forward, for a block of keys (256 at most), K scaled, transposed and packed:    with m = -∞, l = 0, O = 0
//!   for each strip of queries (8, or as many rows as a tile of the micro-kernel has):
//!     S = Q·(scale K)ᵀ + mask                        stays in L1
//!     m' = max(m, row max S);  P = e^(S-m')          rows share their maximum so far
//!     O = e^(m-m') O + drop(P)·V;  l = e^(m-m') l + row sum P;  m = m'
//! then O = O / l;  L = m + ln l                      L is all that backward needs of the weights
//!
//! backward, with g the gradient of O and D = row sum (g ∘ O), for a block of keys, K and V packed, and a block of queries (144 at most):
//!   for each strip of queries:
//!     P = e^(S-L);  dS = P ∘ (drop(g·Vᵀ) - D)        one pass over both products; kept, for the whole block of queries
//!     dQ += scale dS·K
//!   for each strip of keys:
//!     dV += drop(P)ᵀ·g;  dK += scale dSᵀ·Q
//! ```
//!
//! - A *unit* is one head of one sequence. With grouped queries, `group` units in a row share the unit of K and V.
//! - Under a causal mask a strip of queries stops at the last key that one of them sees, and a strip of keys starts at the first query that sees one of them.
//! - A row that may attend to nothing has l = 0. Its output is 0, and L = ∞ makes its weights, so all its gradients, 0.
//! - Parts of the parallel loops are blocks of queries (forward) and units of K and V (backward; blocks of keys, then of queries, where there are few
//!   units). Sums run over the same blocks in ascending order whatever the parts are: the bits follow from the shapes.
//! - Dropout acts on element (unit, query, key) by number, as on the whole matrix, so both ways to compute agree.
//! - So few queries that to transpose K would be most of the work take the general product, which reads K in place.
#![allow(unsafe_code)]

mod backward;
mod fetch;
mod forward;

use std::cell::Cell;
use std::ops::Range;

use super::gemm::pack::Scratch;
use super::gemm::{Columns, MatRef, Strips};
use super::keep::Keep;
use super::par::SyncPtr;
use super::simd::{Kernel, dispatch};
use super::softmax::W;
use super::vector;
use crate::float::Float;

pub(crate) use backward::{Sinks, backward};
pub(crate) use forward::forward;

/// Keys of a block: a strip of scores is 8 KiB, and the packed keys of a head of 64 numbers 64 KiB.
const COLS: usize = 256;
/// Floating-point operations per nanosecond that the products reach, roughly; for the estimate of what to hand over.
const RATE: f64 = 80.0;

/// The matrices of Q, K, V or a gradient: element (i, j) of unit `u` is `data[at[u] + i*rs + j*cs]`.
pub(crate) struct Units<'a, T> {
    pub data: &'a [T],
    pub at: Vec<usize>,
    pub rs: isize,
    pub cs: isize,
}

impl<'a, T> Units<'a, T> {
    /// From row `row` of a unit on.
    fn from(&self, unit: usize, row: usize) -> MatRef<'a, T> {
        MatRef::new(self.data, self.index(unit, row), self.rs, self.cs)
    }

    #[inline(always)]
    fn index(&self, unit: usize, row: usize) -> usize {
        (self.at[unit] as isize + row as isize * self.rs) as usize
    }
}

/// A part of a row of a mask.
enum Row<'a, T> {
    /// The same for all keys.
    Same(T),
    Each(&'a [T]),
}

impl<T: Copy> Units<'_, T> {
    /// Columns `cols` of a row; columns lie side by side or are all the same.
    #[inline(always)]
    fn row(&self, unit: usize, row: usize, cols: &Range<usize>) -> Row<'_, T> {
        let at = self.index(unit, row);
        match self.cs {
            0 => Row::Same(self.data[at]),
            _ => Row::Each(&self.data[at + cols.start..at + cols.end]),
        }
    }
}

/// What is done to the scores before the softmax.
pub(crate) enum Mask<'a, T> {
    /// -∞ where it says false.
    Allow(Units<'a, bool>),
    /// Added.
    Add(Units<'a, T>),
}

/// All that both passes share. Masks have a column stride of 0 or 1.
pub(crate) struct Problem<'a, T> {
    pub q: Units<'a, T>,
    pub k: Units<'a, T>,
    pub v: Units<'a, T>,
    pub masks: Vec<Mask<'a, T>>,
    /// Queries, keys.
    pub size: [usize; 2],
    /// Width of a query and of a key, and of a value.
    pub width: [usize; 2],
    /// Units of Q for each of K and V.
    pub group: usize,
    pub scale: T,
    /// Query i sees keys up to i + this.
    pub causal: Option<usize>,
    pub keep: Option<Keep<T>>,
}

/// Where the matrix of each unit goes: element (i, j) of unit `u` to `at[u] + i*rs + j`, a place of its own.
pub(crate) struct Place {
    pub at: Vec<usize>,
    pub rs: usize,
}

/// Output for several threads, with where each unit goes.
#[derive(Clone, Copy)]
pub(crate) struct Sink<'a, T> {
    to: SyncPtr<T>,
    len: usize,
    place: &'a Place,
}

impl<'a, T: Float> Sink<'a, T> {
    pub(crate) fn new(out: &'a mut [T], place: &'a Place) -> Self {
        Sink { to: SyncPtr(out.as_mut_ptr()), len: out.len(), place }
    }

    /// Three outputs in one array, where they have no place in common.
    pub(crate) fn three(out: &'a mut [T], places: &'a [Place; 3]) -> [Self; 3] {
        let (to, len) = (SyncPtr(out.as_mut_ptr()), out.len());
        places.each_ref().map(|place| Sink { to, len, place })
    }

    /// One row of a unit.
    ///
    /// # Safety
    /// The slice is still borrowed mutably by whoever made this, and nobody else writes this row.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    unsafe fn row(&self, unit: usize, row: usize, width: usize) -> &mut [T] {
        if width == 0 {
            return &mut [];
        }
        let at = self.place.at[unit] + row * self.place.rs;
        assert!(at + width <= self.len, "attention: a row leaves its output");
        // SAFETY: within the slice by the assertion, and ours alone by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.to.get().add(at), width) }
    }
}

impl<T: Float> Problem<'_, T> {
    pub(crate) fn units(&self) -> usize {
        self.q.at.len()
    }

    /// Keys that some query of `rows` sees.
    fn keys_for(&self, rows: &Range<usize>) -> usize {
        self.causal.map_or(self.size[1], |offset| (rows.end + offset).min(self.size[1]))
    }

    /// Estimated nanoseconds of a product for `rows` queries and all keys.
    fn ns(&self, rows: usize) -> f64 {
        let share = if self.causal.is_some() { 0.6 } else { 1.0 };
        2.0 * share * (rows * self.size[1] * self.width[0].max(self.width[1])) as f64 / RATE
    }

    /// How many of the keys `cols` a strip of queries has to do with: in whole strips of keys, so that those find what they read.
    fn seen(&self, queries: &Range<usize>, cols: &Range<usize>, strip: usize) -> usize {
        let seen = self.keys_for(queries).saturating_sub(cols.start);
        seen.next_multiple_of(strip).min(cols.len())
    }

    /// A block of the keys, transposed, packed and scaled.
    fn packed<'a>(
        &self,
        strips: &Strips<T>,
        kv: usize,
        cols: &Range<usize>,
        to: &'a mut [T],
    ) -> Columns<'a, T> {
        let (width, keys) = (self.width[0], self.k.from(kv, cols.start).t());
        let panels = strips.pack(width, cols.len(), keys, to);
        vector::scale(panels, self.scale);
        strips.columns(width, panels)
    }

    /// Masks a row of scores, and fills it up to whole chunks with keys that nobody sees.
    #[inline(always)]
    fn mask(&self, unit: usize, row: usize, cols: &Range<usize>, s: &mut [T]) {
        let hidden = T::neg_infinity();
        let all = &mut s[..cols.len().next_multiple_of(W)];
        for mask in &self.masks {
            let s = &mut all[..cols.len()];
            match mask {
                Mask::Allow(mask) => match mask.row(unit, row, cols) {
                    Row::Same(true) => {}
                    Row::Same(false) => s.fill(hidden),
                    Row::Each(mask) => {
                        for (x, &allowed) in s.iter_mut().zip(mask) {
                            *x = if allowed { *x } else { hidden };
                        }
                    }
                },
                Mask::Add(mask) => match mask.row(unit, row, cols) {
                    Row::Same(add) => s.iter_mut().for_each(|x| *x += add),
                    Row::Each(mask) => {
                        for (x, &add) in s.iter_mut().zip(mask) {
                            *x += add;
                        }
                    }
                },
            }
        }
        let seen = self.causal.map_or(cols.len(), |offset| {
            (row + offset + 1).saturating_sub(cols.start).min(cols.len())
        });
        // What is hidden by whole chunks: the few numbers that it may be would be a loop of their own.
        let chunks = all.as_chunks_mut::<W>().0.iter_mut().enumerate();
        for (i, chunk) in chunks.skip(seen / W) {
            let first = seen.saturating_sub(i * W) as u32;
            for (j, x) in (0..).zip(chunk) {
                *x = if j < first { *x } else { hidden };
            }
        }
    }

    /// The number of a weight in the whole tensor of weights.
    #[inline(always)]
    fn number(&self, unit: usize, row: usize, col: usize) -> usize {
        (unit * self.size[0] + row) * self.size[1] + col
    }
}

/// Rows `rows` of a unit of some width, laid side by side: what a product reads again and again must not lie at a distance that leaves it a few
/// sets of the cache.
fn gather<'a, T: Float>(
    from: &Units<'_, T>,
    unit: usize,
    rows: &Range<usize>,
    width: usize,
    to: &'a mut [T],
) -> &'a [T] {
    let to = &mut to[..rows.len() * width];
    dispatch(Gather { from, unit, rows, width, to });
    to
}

struct Gather<'a, 'b, T> {
    from: &'a Units<'b, T>,
    unit: usize,
    rows: &'a Range<usize>,
    width: usize,
    to: &'a mut [T],
}

impl<T: Float> Kernel for Gather<'_, '_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Gather { from, unit, rows, width, to } = self;
        for (to, row) in to.chunks_exact_mut(width.max(1)).zip(rows.clone()) {
            let at = from.index(unit, row);
            if from.cs == 1 {
                for (to, &x) in to.iter_mut().zip(&from.data[at..at + width]) {
                    *to = x;
                }
            } else {
                for (j, to) in to.iter_mut().enumerate() {
                    *to = from.data[(at as isize + j as isize * from.cs) as usize];
                }
            }
        }
    }
}

/// Distance between rows of scores: whole chunks, and one more, so that rows do not all fall into the same few sets of the cache.
fn stride(keys: usize) -> usize {
    COLS.min(keys).next_multiple_of(W) + W
}

/// `0..len` in blocks of at most `size`.
fn blocks(len: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(size).map(move |start| start..len.min(start + size))
}

thread_local! {
    static SCRATCH: Cell<Scratch> = const { Cell::new(Scratch::new()) };
}

/// Runs `f` with buffers of these lengths, which this thread keeps. They hold anything, and begin with a cache line.
fn with_buffers<T: Float, const N: usize>(lens: [usize; N], f: impl FnOnce([&mut [T]; N])) {
    let mut scratch = SCRATCH.take();
    let mut rest = scratch.get::<T>(lens.iter().map(|len| len.next_multiple_of(W)).sum());
    f(lens.map(|len| {
        let (buffer, after) = std::mem::take(&mut rest).split_at_mut(len.next_multiple_of(W));
        rest = after;
        &mut buffer[..len]
    }));
    SCRATCH.set(scratch);
}
