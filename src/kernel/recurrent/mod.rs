//! Recurrent layers: the steps through time, after one large product has brought the input to all gates of all steps.
//!
//! ```text
//! forward,  for each step:      sums += state · W_hhᵀ  ->  gates, cell, state  [-> · W_hrᵀ]  -> output
//! backward, for each step back: gradient of state, cell  [· W_hr]  ->  gradients of the sums, in place  -> · W_hh -> older state
//! ```
//!
//! - The recurrent weight is packed once for all steps ([`Packed`]).
//! - Sequences do not see each other, nor do the two directions. Where there are enough of them they are dealt out to the threads once, for
//!   all steps; otherwise each step's loops are split. The bits are the same: a product's rows do not depend on each other.
//! - A state past a sequence's length is carried on unchanged, in either direction, so that what stands at the end is the state after the last
//!   valid step, and the backward direction starts there with the initial one.
//!
//! Arrays are by step, then sequence, then feature. States and cells have one block more than there are steps: block `t` is older than step `t` of
//! the forward direction and block `t + 1` newer, the other way round in the other direction.
#![allow(unsafe_code)]

mod backward;
mod cell;
mod forward;
mod lanes;

pub(crate) use backward::backward;
pub(crate) use forward::forward;

use std::ops::Range;

use super::gemm::{Bias, Epilogue, MatRef, Packed, gemm};
use super::par;
use crate::float::Float;

/// What a step computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Tanh,
    Relu,
    Gru,
    Lstm,
}

impl Cell {
    /// How many times the hidden size the weights have rows.
    pub(crate) fn gates(self) -> usize {
        match self {
            Cell::Tanh | Cell::Relu => 1,
            Cell::Gru => 3,
            Cell::Lstm => 4,
        }
    }

    /// How many times the hidden size is kept of a step: the GRU needs the state's part of its new value apart.
    pub(crate) fn kept(self) -> usize {
        if self == Cell::Gru { 4 } else { self.gates() }
    }

    /// Where in the kept row, and for which rows of the weight, the sums over the input stand; in units of the hidden size.
    pub(crate) fn input_blocks(self) -> &'static [(usize, Range<usize>)] {
        match self {
            Cell::Tanh | Cell::Relu => &[(0, 0..1)],
            Cell::Gru => &[(0, 2..3), (1, 0..2)],
            Cell::Lstm => &[(0, 0..4)],
        }
    }

    /// Where in the kept row the gradients of the sums over the state begin; in units of the hidden size.
    pub(crate) fn state_block(self) -> usize {
        if self == Cell::Gru { 1 } else { 0 }
    }
}

/// The sizes of a layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub cell: Cell,
    pub steps: usize,
    pub batch: usize,
    /// Of a gate.
    pub hidden: usize,
    /// Of the state: the hidden size, or that of the projection.
    pub state: usize,
    pub directions: usize,
}

/// A weight that meets every step.
pub(crate) enum Factor<'a, T: Float> {
    Once(MatRef<'a, T>, usize, usize),
    Packed(Packed<'a, T>),
}

impl<'a, T: Float> Factor<'a, T> {
    /// The right factor of products of `m` rows, in so many steps. Packing pays from the second on.
    pub(crate) fn new(steps: usize, m: usize, k: usize, n: usize, b: MatRef<'a, T>) -> Self {
        if steps > 1 { Factor::Packed(Packed::new(m, k, n, b)) } else { Factor::Once(b, k, n) }
    }

    fn product(&self, m: usize, a: &[T], c: &mut [T], accumulate: bool, bias: Option<&[T]>) {
        match *self {
            Factor::Packed(ref b) => {
                b.product(m, MatRef::rows(a, a.len() / m), c, accumulate, bias)
            }
            Factor::Once(b, k, n) => {
                let epilogue = Epilogue { bias: bias.map_or(Bias::None, Bias::Col), relu: false };
                gemm(m, k, n, MatRef::rows(a, k), b, c, n, accumulate, epilogue);
            }
        }
    }
}

/// One direction's arrays on the way forward. What a cell or an option does not have is empty.
pub(crate) struct Forward<'a, T: Float> {
    /// `state` x gates.
    pub weight: Factor<'a, T>,
    /// Of the sums over the state, where they are kept apart (GRU).
    pub bias: Option<&'a [T]>,
    /// Hidden x state, if there is a projection.
    pub projection: Option<Factor<'a, T>>,
    /// A factor for the state on its way into the sums: \[batch, state\].
    pub mask: Option<&'a [T]>,
    /// In: the sums over the input; out: what the backward pass needs. \[steps, batch, kept\].
    pub sums: &'a mut [T],
    /// The block before the first step holds the initial state.
    pub states: &'a mut [T],
    /// The same of the cells (LSTM).
    pub cells: &'a mut [T],
    /// The states times the mask: \[steps, batch, state\].
    pub masked: &'a mut [T],
    /// The states before their projection: \[steps, batch, hidden\].
    pub unprojected: &'a mut [T],
}

/// One direction's arrays on the way back.
pub(crate) struct Backward<'a, T: Float> {
    /// Gates x state.
    pub weight: Factor<'a, T>,
    /// State x hidden.
    pub projection: Option<Factor<'a, T>>,
    /// As on the way forward.
    pub mask: Option<&'a [T]>,
    /// In: what the forward pass left; out: the gradients of the sums.
    pub sums: &'a mut [T],
    /// As the forward pass left them.
    pub states: &'a [T],
    /// As the forward pass left them.
    pub cells: &'a [T],
    /// In: the gradient of the final state; out: of the initial one.
    pub d_state: &'a mut [T],
    /// The same of the cell.
    pub d_cell: &'a mut [T],
    /// With a projection: the gradients of all states, \[steps, batch, state\].
    pub d_projected: &'a mut [T],
    /// In: zeros; out: the sums over time of the gradients of the sums, \[batch, kept\]. Empty if nobody asks.
    pub d_bias: &'a mut [T],
}

/// An array that threads share, each for rows of its own.
#[derive(Clone, Copy)]
struct Shared<T> {
    at: *mut T,
    len: usize,
}

// SAFETY: an address; each access through it is `unsafe` and carries its own argument.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    fn new(data: &mut [T]) -> Self {
        Shared { at: data.as_mut_ptr(), len: data.len() }
    }

    /// For reading only.
    fn reading(data: &[T]) -> Self {
        Shared { at: data.as_ptr().cast_mut(), len: data.len() }
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// # Safety
    /// Nobody writes to these elements while the slice lives, and the array outlives it.
    unsafe fn get<'s>(&self, range: Range<usize>) -> &'s [T] {
        assert!(range.start <= range.end && range.end <= self.len, "recurrent: out of range");
        // SAFETY: within the array; the caller promises the rest.
        unsafe { std::slice::from_raw_parts(self.at.add(range.start), range.len()) }
    }

    /// # Safety
    /// Nobody else refers to these elements while the slice lives; the array outlives it and was borrowed mutably.
    unsafe fn get_mut<'s>(&self, range: Range<usize>) -> &'s mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "recurrent: out of range");
        // SAFETY: within the array; the caller promises the rest.
        unsafe { std::slice::from_raw_parts_mut(self.at.add(range.start), range.len()) }
    }
}

/// The part of an array that belongs to some sequences in one block.
fn part(block: usize, batch: usize, rows: &Range<usize>, width: usize) -> Range<usize> {
    (block * batch + rows.start) * width..(block * batch + rows.end) * width
}

/// Sequences of a part of a step's loop.
fn grain(hidden: usize) -> usize {
    (2048 / hidden.max(1)).max(1)
}

/// Nanoseconds for a gate's number, forward or backward.
const NS: f64 = 1.0;

/// What both ways have in common for one direction.
struct Way<'a> {
    sizes: Sizes,
    reverse: bool,
    lengths: Option<&'a [usize]>,
}

impl Way<'_> {
    /// Time, block of the older and block of the newer state of the `s`-th step.
    fn step(&self, s: usize) -> (usize, usize, usize) {
        let t = if self.reverse { self.sizes.steps - 1 - s } else { s };
        if self.reverse { (t, t + 1, t) } else { (t, t, t + 1) }
    }

    /// Whether sequence `b` has a step `t`.
    #[inline(always)]
    fn active(&self, t: usize, b: usize) -> bool {
        self.lengths.is_none_or(|l| t < l[b])
    }
}

/// Deals directions and groups of sequences out to threads, if there are enough of them; else one after the other.
fn deal(sizes: &Sizes, run: impl Fn(usize, Range<usize>) + Sync) {
    let threads = par::num_threads();
    // A product of fewer rows would be bound by reading the weight.
    let groups = if sizes.batch >= 8 * threads { threads } else { 1 };
    let parts = sizes.directions * groups;
    let one = |i: usize| {
        let (direction, g) = (i / groups, i % groups);
        run(direction, sizes.batch * g / groups..sizes.batch * (g + 1) / groups);
    };
    let flop = 2.0 * (sizes.steps * sizes.batch * sizes.hidden) as f64;
    let ns = flop * (sizes.cell.gates() * sizes.state + 10) as f64 / (50.0 * groups as f64);
    if parts >= threads { par::for_each(parts, ns, one) } else { (0..parts).for_each(one) }
}
