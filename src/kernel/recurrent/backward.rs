//! The way back.

use std::ops::Range;

use smallvec::SmallVec;

use super::cell;
use super::{Backward, Cell, Factor, NS, Shared, Sizes, Way, deal, grain, part};
use crate::float::Float;
use crate::kernel::gemm::{Epilogue, MatRef, gemm};
use crate::kernel::par;
use crate::kernel::simd::{Kernel, dispatch};
use crate::tensor::Block;

struct BackwardWay<'a, T: Float> {
    way: Way<'a>,
    weight: &'a Factor<'a, T>,
    projection: Option<&'a Factor<'a, T>>,
    mask: Option<&'a [T]>,
    sums: Shared<T>,
    states: Shared<T>,
    cells: Shared<T>,
    d_state: Shared<T>,
    d_cell: Shared<T>,
    d_projected: Shared<T>,
    d_bias: Shared<T>,
    /// With a mask: the gradient before it, \[batch, state\].
    unmasked: Shared<T>,
    /// With a projection: the gradient before it, \[batch, hidden\].
    d_raw: Shared<T>,
    gy: &'a [T],
    direction: usize,
}

/// The steps back through time, for the gradient `gy` of the output, \[steps, batch, directions * state\].
pub(crate) fn backward<T: Float>(
    sizes: Sizes,
    lengths: Option<&[usize]>,
    directions: &mut [Backward<'_, T>],
    gy: &[T],
) {
    let masked = directions.iter().any(|d| d.mask.is_some());
    let projected = directions.iter().any(|d| d.projection.is_some());
    let unmasked = if masked { sizes.batch * sizes.state } else { 0 };
    let d_raw = if projected { sizes.batch * sizes.hidden } else { 0 };
    let mut scratch = Block::<T>::stale((unmasked + d_raw) * directions.len());
    let all = Shared::new(&mut scratch);
    let ways: SmallVec<[BackwardWay<'_, T>; 2]> = directions
        .iter_mut()
        .enumerate()
        .map(|(direction, d)| {
            let own = all.at.wrapping_add(direction * (unmasked + d_raw));
            BackwardWay {
                way: Way { sizes, reverse: direction == 1, lengths },
                weight: &d.weight,
                projection: d.projection.as_ref(),
                mask: d.mask,
                sums: Shared::new(d.sums),
                states: Shared::reading(d.states),
                cells: Shared::reading(d.cells),
                d_state: Shared::new(d.d_state),
                d_cell: Shared::new(d.d_cell),
                d_projected: Shared::new(d.d_projected),
                d_bias: Shared::new(d.d_bias),
                unmasked: Shared { at: own, len: unmasked },
                d_raw: Shared { at: own.wrapping_add(unmasked), len: d_raw },
                gy,
                direction,
            }
        })
        .collect();
    // SAFETY: parts are disjoint in direction or sequences, each is run once, and all arrays stay borrowed until `deal` has returned.
    deal(&sizes, |direction, rows| unsafe { ways[direction].run(rows) });
}

impl<T: Float> BackwardWay<'_, T> {
    /// All steps of some sequences, the last first.
    ///
    /// # Safety
    /// Nobody else touches these sequences' rows of this direction's arrays.
    unsafe fn run(&self, rows: Range<usize>) {
        let Sizes { cell, steps, batch, hidden, state, .. } = self.way.sizes;
        let m = rows.len();
        if m == 0 {
            return;
        }
        let (gates, kept) = (cell.gates() * hidden, cell.kept() * hidden);
        for s in (0..steps).rev() {
            let (t, old, new) = self.way.step(s);
            let next = (s > 0).then(|| self.way.step(s - 1));
            let at = |block, width| part(block, batch, &rows, width);
            if let Some(projection) = self.projection {
                for b in rows.clone() {
                    // SAFETY: a row of this part.
                    unsafe { self.gather(t, b) };
                }
                // SAFETY: rows of this part, of two arrays.
                unsafe {
                    let d = self.d_projected.get(at(t, state));
                    projection.product(m, d, self.d_raw.get_mut(at(0, hidden)), false, None);
                }
            }
            let ns = NS * (cell.kept() * hidden) as f64;
            par::for_each_range(m, grain(hidden), ns, |r| {
                let rows = rows.start + r.start..rows.start + r.end;
                dispatch(BackwardRows { of: self, t, old, new, next, rows });
            });
            // SAFETY: rows of this part, of different arrays.
            unsafe {
                let sums = self.sums.get(at(t, kept));
                let d = self.d_state.get_mut(at(0, state));
                match self.mask {
                    None => self.product(m, sums, gates, d, true),
                    Some(mask) => {
                        let before = self.unmasked.get_mut(at(0, state));
                        self.product(m, sums, gates, before, false);
                        let mask = &mask[at(0, state)];
                        d.iter_mut()
                            .zip(before)
                            .zip(mask)
                            .for_each(|((d, &mut g), &m)| *d += g * m);
                    }
                }
            }
        }
    }

    /// The gradients of the sums over the state times the weight.
    fn product(&self, m: usize, sums: &[T], gates: usize, out: &mut [T], accumulate: bool) {
        let Sizes { cell, hidden, .. } = self.way.sizes;
        let (kept, first) = (cell.kept() * hidden, cell.state_block() * hidden);
        let a = MatRef::new(sums, first, kept as isize, 1);
        match *self.weight {
            Factor::Packed(ref b) => b.product(m, a, out, accumulate, None),
            Factor::Once(b, _, n) => gemm(m, gates, n, a, b, out, n, accumulate, Epilogue::NONE),
        }
    }

    /// Before a projection: the whole gradient of a state, which its own array keeps for the projection's weight.
    ///
    /// # Safety
    /// As [`run`](Self::run), for sequence `b`.
    unsafe fn gather(&self, t: usize, b: usize) {
        let Sizes { batch, state, .. } = self.way.sizes;
        let at = |block, width| part(block, batch, &(b..b + 1), width);
        // SAFETY: a row of this sequence, of two arrays.
        let (d, all) =
            unsafe { (self.d_state.get_mut(at(0, state)), self.d_projected.get_mut(at(t, state))) };
        if !self.way.active(t, b) {
            return all.fill(T::ZERO);
        }
        for ((o, d), &g) in all.iter_mut().zip(d).zip(self.gy(t, b)) {
            *o = *d + g;
            *d = T::ZERO;
        }
    }

    /// The gradient of this direction's output.
    fn gy(&self, t: usize, b: usize) -> &[T] {
        let Sizes { batch, state, directions, .. } = self.way.sizes;
        &self.gy[((t * batch + b) * directions + self.direction) * state..][..state]
    }
}

/// The gates of some sequences in one step, backward.
struct BackwardRows<'a, T: Float> {
    of: &'a BackwardWay<'a, T>,
    t: usize,
    old: usize,
    new: usize,
    /// The step that follows, if any.
    next: Option<(usize, usize, usize)>,
    rows: Range<usize>,
}

impl<T: Float> BackwardRows<'_, T> {
    /// What will be read after sequence `b`: a row of the sums, of the older states or cells, of the output's gradient.
    ///
    /// # Safety
    /// As for the rows themselves.
    #[inline(always)]
    unsafe fn ahead(&self, b: usize) -> [&[T]; 3] {
        let Sizes { cell, batch, hidden, .. } = self.of.way.sizes;
        let (t, old, b) = match self.next {
            _ if b + 1 < self.rows.end => (self.t, self.old, b + 1),
            Some((t, old, _)) => (t, old, self.rows.start),
            None => return [&[]; 3],
        };
        let older = if cell == Cell::Lstm { &self.of.cells } else { &self.of.states };
        // SAFETY: rows of the same sequences that nobody writes now: another sequence's, or another step's.
        unsafe {
            let sums = self.of.sums.get(part(t, batch, &(b..b + 1), cell.kept() * hidden));
            [sums, older.get(part(old, batch, &(b..b + 1), hidden)), self.of.gy(t, b)]
        }
    }
}

impl<T: Float> Kernel for BackwardRows<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let BackwardRows { of, t, old, new, .. } = self;
        let Sizes { cell, batch, hidden, state, .. } = of.way.sizes;
        for b in self.rows.clone() {
            let at = |block, width| part(block, batch, &(b..b + 1), width);
            // SAFETY: whoever dispatches this vouches for these rows.
            let a = unsafe { of.sums.get_mut(at(t, cell.kept() * hidden)) };
            if !of.way.active(t, b) {
                // Carried on as it was: the gradients stay where they are, and nothing flows into the gates.
                a.fill(T::ZERO);
                continue;
            }
            // SAFETY: as above; states and cells are only read.
            unsafe {
                let (d, gy): (&mut [T], &[T]) = match of.projection {
                    Some(_) => (of.d_raw.get_mut(at(0, hidden)), &[]),
                    None => (of.d_state.get_mut(at(0, state)), of.gy(t, b)),
                };
                match cell {
                    Cell::Tanh | Cell::Relu => {
                        let y = of.states.get(at(new, state));
                        cell::plain_back::<T>(cell == Cell::Relu, a, y, d, gy);
                    }
                    Cell::Gru => {
                        let old = of.states.get(at(old, state));
                        cell::gru_back::<T>(a, old, d, gy, self.ahead(b));
                    }
                    Cell::Lstm => {
                        let (c_old, c) =
                            (of.cells.get(at(old, hidden)), of.cells.get(at(new, hidden)));
                        let dc = of.d_cell.get_mut(at(0, hidden));
                        cell::lstm_back::<T, FMA>(a, [c_old, c], [d, dc], gy, self.ahead(b));
                    }
                }
                if !of.d_bias.is_empty() {
                    let sums = of.d_bias.get_mut(at(0, cell.kept() * hidden));
                    sums.iter_mut().zip(a).for_each(|(sum, &mut a)| *sum += a);
                }
            }
        }
    }
}
