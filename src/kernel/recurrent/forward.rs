//! The way forward.

use std::ops::Range;

use smallvec::SmallVec;

use super::cell;
use super::{Cell, Factor, Forward, NS, Shared, Sizes, Way, deal, grain, part};
use crate::float::Float;
use crate::kernel::par;
use crate::kernel::simd::{Kernel, dispatch};
use crate::tensor::Block;

struct ForwardWay<'a, T: Float> {
    way: Way<'a>,
    weight: &'a Factor<'a, T>,
    bias: Option<&'a [T]>,
    projection: Option<&'a Factor<'a, T>>,
    mask: Option<&'a [T]>,
    sums: Shared<T>,
    states: Shared<T>,
    cells: Shared<T>,
    masked: Shared<T>,
    unprojected: Shared<T>,
    /// The GRU's sums over the state, \[batch, 3 hidden\].
    scratch: Shared<T>,
    /// All directions side by side, if the states do not serve as output themselves.
    y: Shared<T>,
    direction: usize,
}

/// Runs a layer over its sequences. `y`, \[steps, batch, directions * state\], may be empty if there is one direction and no `lengths`: then
/// the states are the output. The first direction runs forward, the second backward.
pub(crate) fn forward<T: Float>(
    sizes: Sizes,
    lengths: Option<&[usize]>,
    directions: &mut [Forward<'_, T>],
    y: &mut [T],
) {
    let scratch = if sizes.cell == Cell::Gru { sizes.batch * 3 * sizes.hidden } else { 0 };
    let mut scratch = Block::<T>::stale(scratch * directions.len());
    let each = scratch.len() / directions.len().max(1);
    let (y, all) = (Shared::new(y), Shared::new(&mut scratch));
    let ways: SmallVec<[ForwardWay<'_, T>; 2]> = directions
        .iter_mut()
        .enumerate()
        .map(|(direction, d)| ForwardWay {
            way: Way { sizes, reverse: direction == 1, lengths },
            weight: &d.weight,
            bias: d.bias,
            projection: d.projection.as_ref(),
            mask: d.mask,
            sums: Shared::new(d.sums),
            states: Shared::new(d.states),
            cells: Shared::new(d.cells),
            masked: Shared::new(d.masked),
            unprojected: Shared::new(d.unprojected),
            // Its own stretch of the scratch.
            scratch: Shared { at: all.at.wrapping_add(direction * each), len: each },
            y,
            direction,
        })
        .collect();
    // SAFETY: parts are disjoint in direction or sequences, each is run once, and all arrays stay borrowed until `deal` has returned.
    deal(&sizes, |direction, rows| unsafe { ways[direction].run(rows) });
}

impl<T: Float> ForwardWay<'_, T> {
    /// All steps of some sequences.
    ///
    /// # Safety
    /// Nobody else touches these sequences' rows of this direction's arrays.
    unsafe fn run(&self, rows: Range<usize>) {
        let Sizes { cell, steps, batch, hidden, state, .. } = self.way.sizes;
        let m = rows.len();
        if m == 0 {
            return;
        }
        for s in 0..steps {
            let (t, old, new) = self.way.step(s);
            let at = |block, width| part(block, batch, &rows, width);
            // SAFETY: rows of this part. What is read and what is written are different arrays, or different blocks of one: `old` and
            // `new` differ. No slice outlives the statement that uses it.
            unsafe {
                let mut input = self.states.get(at(old, state));
                if let Some(mask) = self.mask {
                    let masked = self.masked.get_mut(at(t, state));
                    let mask = &mask[at(0, state)];
                    masked.iter_mut().zip(input).zip(mask).for_each(|((o, &h), &m)| *o = h * m);
                    input = masked;
                }
                if cell == Cell::Gru {
                    let sums = self.scratch.get_mut(at(0, 3 * hidden));
                    self.weight.product(m, input, sums, false, self.bias);
                } else {
                    let sums = self.sums.get_mut(at(t, cell.kept() * hidden));
                    self.weight.product(m, input, sums, true, self.bias);
                }
            }
            let ns = NS * (cell.kept() * hidden) as f64;
            par::for_each_range(m, grain(hidden), ns, |r| {
                let rows = rows.start + r.start..rows.start + r.end;
                // SAFETY: some of this part's rows, each once.
                unsafe {
                    dispatch(ForwardRows { of: self, t, old, new, rows: rows.clone() });
                    if self.projection.is_none() {
                        self.finish(t, old, new, rows);
                    }
                }
            });
            if let Some(projection) = self.projection {
                // SAFETY: rows of this part, of two arrays.
                unsafe {
                    let raw = self.unprojected.get(at(t, hidden));
                    projection.product(m, raw, self.states.get_mut(at(new, state)), false, None);
                    self.finish(t, old, new, rows.clone());
                }
            }
        }
    }

    /// Carries on the states of sequences that have ended, and writes the output.
    ///
    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn finish(&self, t: usize, old: usize, new: usize, rows: Range<usize>) {
        if self.way.lengths.is_none() && self.y.is_empty() {
            return;
        }
        let Sizes { batch, hidden, state, directions, .. } = self.way.sizes;
        for b in rows {
            let at = |block, width| part(block, batch, &(b..b + 1), width);
            let active = self.way.active(t, b);
            // SAFETY: this sequence's rows, by the caller's promise; `old` and `new` differ; the output's columns are this direction's own.
            unsafe {
                let state_now = self.states.get_mut(at(new, state));
                if !active {
                    state_now.copy_from_slice(self.states.get(at(old, state)));
                    if !self.cells.is_empty() {
                        let cell = self.cells.get_mut(at(new, hidden));
                        cell.copy_from_slice(self.cells.get(at(old, hidden)));
                    }
                }
                if !self.y.is_empty() {
                    let start = ((t * batch + b) * directions + self.direction) * state;
                    let y = self.y.get_mut(start..start + state);
                    if active { y.copy_from_slice(state_now) } else { y.fill(T::ZERO) }
                }
            }
        }
    }
}

/// The gates of some sequences in one step.
struct ForwardRows<'a, T: Float> {
    of: &'a ForwardWay<'a, T>,
    t: usize,
    old: usize,
    new: usize,
    rows: Range<usize>,
}

impl<T: Float> Kernel for ForwardRows<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let ForwardRows { of, t, old, new, rows } = self;
        let Sizes { cell, batch, hidden, state, .. } = of.way.sizes;
        for b in rows {
            let at = |block, width| part(block, batch, &(b..b + 1), width);
            // SAFETY: whoever dispatches this vouches for these rows; `old` and `new` differ.
            unsafe {
                let a = of.sums.get_mut(at(t, cell.kept() * hidden));
                let out = match of.projection {
                    Some(_) => of.unprojected.get_mut(at(t, hidden)),
                    None => of.states.get_mut(at(new, state)),
                };
                match cell {
                    Cell::Tanh => cell::plain::<T, FMA>(false, a, out),
                    Cell::Relu => cell::plain::<T, FMA>(true, a, out),
                    Cell::Gru => {
                        let s = of.scratch.get(at(0, 3 * hidden));
                        cell::gru::<T, FMA>(a, s, of.states.get(at(old, state)), out);
                    }
                    Cell::Lstm => {
                        let c = of.cells.get_mut(at(new, hidden));
                        cell::lstm::<T, FMA>(a, of.cells.get(at(old, hidden)), c, out);
                    }
                }
            }
        }
    }
}
