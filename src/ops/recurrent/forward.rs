//! The way forward: one product for the sums over the input, then the steps.

use smallvec::SmallVec;

use super::{Cell, Kept, KeptAll, Recurrent, elements, initial, matrix};
use crate::float::Float;
use crate::kernel::gemm::{Bias, Epilogue, gemm};
use crate::kernel::recurrent::{self as kernel, Factor, Sizes};
use crate::tensor::Tensor;

impl<T: Float> Recurrent<T> {
    /// The sums over the input, at their places in the kept rows.
    fn input_sums(
        &self,
        x: &Tensor<T>,
        w: &Tensor<T>,
        biases: Option<(&Tensor<T>, &Tensor<T>)>,
    ) -> Tensor<T> {
        let Sizes { cell, steps, batch, hidden, .. } = self.sizes;
        let ld = cell.kept() * hidden;
        let bias = biases.map(|(ih, hh)| {
            let mut sum = ih.copy();
            if cell != Cell::Gru {
                let add = hh.dense();
                sum.make_mut().iter_mut().zip(elements(&add)).for_each(|(a, &b)| *a += b);
            }
            sum
        });
        let m = steps * batch;
        Tensor::build(&[steps, batch, ld], |out| {
            if out.is_empty() {
                return;
            }
            for (at, rows) in cell.input_blocks() {
                let (from, n) = (rows.start * hidden, rows.len() * hidden);
                let bias =
                    bias.as_ref().map_or(Bias::None, |b| Bias::Col(&elements(b)[from..][..n]));
                let part = w.with_layout(w.layout().slice(0, from, n, 1));
                let epilogue = Epilogue { bias, relu: false };
                let out = &mut out[at * hidden..];
                gemm(m, self.inputs, n, matrix(x), matrix(&part).t(), out, ld, false, epilogue);
            }
        })
    }

    /// Runs the directions; `states` are the plain layer's, in the output.
    pub(super) fn run(&self, x: &[&Tensor<T>], y: &mut [T]) -> KeptAll<T> {
        let Sizes { cell, steps, batch, hidden, state, directions } = self.sizes;
        let (input, h0, c0, weights) = self.split(x);
        let input = self.rows(input);
        let places = self.places();
        let blocks = |n: usize| Tensor::build(&[steps + 1, batch, n], |_| {});
        let mut kept: SmallVec<[Kept<T>; 2]> = SmallVec::new();
        let mut bias_hh: SmallVec<[Option<Tensor<T>>; 2]> = SmallVec::new();
        for (d, w) in weights.chunks_exact(self.arity()).enumerate() {
            let biases = self.biased.then(|| (w[2], w[3]));
            let (first, _) = self.ends(d);
            let mut states = (!self.plain()).then(|| blocks(state));
            let into = match &mut states {
                Some(states) => states.make_mut(),
                None => &mut *y,
            };
            initial(h0.copied(), d, &mut into[first * batch * state..][..batch * state]);
            let cells = (cell == Cell::Lstm).then(|| {
                let mut cells = blocks(hidden);
                let n = batch * hidden;
                initial(c0.copied(), d, &mut cells.make_mut()[first * n..][..n]);
                cells
            });
            let by_step = |n: usize| Tensor::build(&[steps, batch, n], |_| {});
            kept.push(Kept {
                sums: Some(self.input_sums(&input, w[0], biases)),
                states,
                cells,
                masked: self.mask.as_ref().map(|_| by_step(state)),
                unprojected: self.projected.then(|| by_step(hidden)),
            });
            bias_hh.push(biases.filter(|_| cell == Cell::Gru).map(|(_, hh)| hh.dense()));
        }
        {
            let (plain_states, out) = y.split_at_mut(if self.plain() { places.h } else { 0 });
            let mut plain_states = Some(plain_states);
            let gates = cell.gates() * hidden;
            let mut ways: SmallVec<[kernel::Forward<'_, T>; 2]> = SmallVec::new();
            let weights = weights.chunks_exact(self.arity());
            for (d, ((k, bias), w)) in kept.iter_mut().zip(&bias_hh).zip(weights).enumerate() {
                let states = match &mut k.states {
                    Some(states) => states.make_mut(),
                    None => plain_states.take().unwrap_or(&mut []),
                };
                ways.push(kernel::Forward {
                    weight: Factor::new(steps, batch, state, gates, matrix(w[1]).t()),
                    bias: bias.as_ref().map(elements),
                    projection: self
                        .projection(w)
                        .map(|w| Factor::new(steps, batch, hidden, state, matrix(w).t())),
                    mask: self.mask_of(d),
                    sums: k.sums.as_mut().map_or(&mut [], Tensor::make_mut),
                    states,
                    cells: k.cells.as_mut().map_or(&mut [], Tensor::make_mut),
                    masked: k.masked.as_mut().map_or(&mut [], Tensor::make_mut),
                    unprojected: k.unprojected.as_mut().map_or(&mut [], Tensor::make_mut),
                });
            }
            let out = if self.plain() { &mut [] } else { &mut out[..places.h] };
            kernel::forward(self.sizes, self.lengths.as_deref(), &mut ways, out);
        }
        // The final states and cells, behind the output.
        let (before, last) = y.split_at_mut(places.h);
        let (last_states, last_cells) = last.split_at_mut(places.c - places.h);
        for (d, k) in kept.iter_mut().enumerate().take(directions) {
            let (_, end) = self.ends(d);
            let copy = |from: &[T], to: &mut [T], n: usize| {
                to[d * n..][..n].copy_from_slice(&from[end * n..][..n]);
            };
            copy(k.states.as_ref().map_or(&*before, elements), last_states, batch * state);
            if let Some(cells) = &k.cells {
                copy(elements(cells), last_cells, batch * hidden);
            }
            if matches!(cell, Cell::Tanh | Cell::Relu) {
                k.sums = None;
            }
        }
        let inputs = x.iter().map(|&t| t.clone()).collect();
        KeptAll { inputs, y: None, directions: kept }
    }
}
