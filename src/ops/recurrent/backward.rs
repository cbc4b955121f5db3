//! The way back: the steps, then large products for the input and the weights.

use smallvec::SmallVec;

use super::{Cell, Kept, KeptAll, Recurrent, elements, matrix};
use crate::float::Float;
use crate::kernel::gemm::{Epilogue, MatRef, gemm};
use crate::kernel::recurrent::{self as kernel, Factor, Sizes};
use crate::tensor::Tensor;

impl<T: Float> Recurrent<T> {
    /// The gradients of one direction's parameters and its share of the input's, from the gradients of its sums.
    fn products(
        &self,
        k: &Kept<T>,
        x: &Tensor<T>,
        (sums, older, d_projected): (&[T], MatRef<'_, T>, &[T]),
        d_bias: &[T],
        needs: &[bool],
        dx: Option<(&mut [T], &Tensor<T>, bool)>,
    ) -> SmallVec<[Option<Tensor<T>>; 5]> {
        let Sizes { cell, steps, batch, hidden, state, .. } = self.sizes;
        let (n, rows, ld) = (steps * batch, cell.gates() * hidden, cell.kept() * hidden);
        // Columns of the gradients of the sums, from a gate on.
        let from = |gate: usize| MatRef::new(sums, gate * hidden, ld as isize, 1);
        let one = [T::ONE];
        let ones = MatRef::new(&one, 0, 0, 0);
        let blocks = cell.input_blocks();
        // A gradient whose rows stand as the weight's do, for sums over the input.
        let by_blocks = |shape: &[usize], width: usize, right: MatRef<'_, T>| {
            Tensor::build(shape, |out| {
                for (at, r) in blocks {
                    let out = &mut out[r.start * hidden * width..];
                    let m = r.len() * hidden;
                    gemm(m, n, width, from(*at).t(), right, out, width, false, Epilogue::NONE);
                }
            })
        };
        // Sums over sequences as a product with ones.
        let column_sums = |gate: usize, m: usize, out: &mut [T]| {
            let columns = MatRef::new(d_bias, gate * hidden, ld as isize, 1);
            gemm(1, batch, m, ones, columns, out, m, false, Epilogue::NONE);
        };
        if let Some((out, w, more)) = dx {
            for (i, (at, r)) in blocks.iter().enumerate() {
                let part =
                    w.with_layout(w.layout().slice(0, r.start * hidden, r.len() * hidden, 1));
                let depth = r.len() * hidden;
                let width = self.inputs;
                gemm(
                    n,
                    depth,
                    width,
                    from(*at),
                    matrix(&part),
                    out,
                    width,
                    more || i > 0,
                    Epilogue::NONE,
                );
            }
        }
        let mut all = SmallVec::new();
        all.push(needs[0].then(|| by_blocks(&[rows, self.inputs], self.inputs, matrix(x))));
        all.push(needs[1].then(|| {
            Tensor::build(&[rows, state], |out| {
                let left = from(cell.state_block()).t();
                gemm(rows, n, state, left, older, out, state, false, Epilogue::NONE);
            })
        }));
        if self.biased {
            let both = needs[2] || needs[3];
            let ih = (needs[2] || both && cell != Cell::Gru).then(|| {
                Tensor::build(&[rows], |out| {
                    for (at, r) in blocks {
                        let m = r.len() * hidden;
                        column_sums(*at, m, &mut out[r.start * hidden..][..m]);
                    }
                })
            });
            let hh = match cell {
                Cell::Gru => needs[3].then(|| {
                    Tensor::build(&[rows], |out| column_sums(cell.state_block(), rows, out))
                }),
                _ => ih.clone(),
            };
            all.extend([ih, hh]);
        }
        if let (Some(raw), true) = (&k.unprojected, self.projected) {
            all.push(needs[self.arity() - 1].then(|| {
                let left = MatRef::cols(d_projected, state);
                let right = MatRef::rows(elements(raw), hidden);
                Tensor::build(&[state, hidden], |out| {
                    gemm(state, n, hidden, left, right, out, hidden, false, Epilogue::NONE);
                })
            }));
        }
        all
    }

    /// The gradients of all inputs, from that of the output; zeros where a place in it was never shown.
    pub(super) fn back(
        &self,
        saved: KeptAll<T>,
        g: Tensor<T>,
        needs: &[bool],
    ) -> Vec<Option<Tensor<T>>> {
        let Sizes { cell, steps, batch, hidden, state, directions } = self.sizes;
        let KeptAll { inputs, y, directions: mut kept } = saved;
        let inputs: SmallVec<[&Tensor<T>; 6]> = inputs.iter().collect();
        let (x, _, _, weights) = self.split(&inputs);
        let x = self.rows(x);
        let (g, places) = (g.dense(), self.places());
        let g = elements(&g);
        let copy_of = |from: usize, n: usize| {
            Tensor::build(&[directions, batch, n], |out| {
                out.copy_from_slice(&g[from..][..out.len()]);
            })
        };
        let mut d_state = copy_of(places.h, state);
        let mut d_cell = (cell == Cell::Lstm).then(|| copy_of(places.c, hidden));
        let kept_row = cell.kept() * hidden;
        let gates = cell.gates() * hidden;
        let mut d_projected: SmallVec<[Option<Tensor<T>>; 2]> = SmallVec::new();
        let first_weight = 1 + self.h0 as usize + self.c0 as usize;
        let needs_of = |d: usize| &needs[first_weight + d * self.arity()..];
        let mut d_bias: SmallVec<[Option<Tensor<T>>; 2]> = SmallVec::new();
        for (d, k) in kept.iter_mut().enumerate() {
            let asked = self.biased && (needs_of(d)[2] || needs_of(d)[3]);
            let room = asked.then(|| Tensor::build(&[batch, kept_row], |sums| sums.fill(T::ZERO)));
            d_bias.push(room);
            // A plain cell's gradients need a place; the others' replace what was kept.
            k.sums.get_or_insert_with(|| Tensor::build(&[steps, batch, kept_row], |_| {}));
            let room = self.projected.then(|| Tensor::build(&[steps, batch, state], |_| {}));
            d_projected.push(room);
        }
        {
            let mut d_states = d_state.make_mut().chunks_mut((batch * state).max(1));
            let mut d_cells = d_cell
                .as_mut()
                .map_or(&mut [][..], Tensor::make_mut)
                .chunks_mut((batch * hidden).max(1));
            let mut ways: SmallVec<[kernel::Backward<'_, T>; 2]> = SmallVec::new();
            let weights = weights.chunks_exact(self.arity());
            let all = kept.iter_mut().zip(&mut d_projected).zip(&mut d_bias).zip(weights);
            for (d, (((k, d_projected), d_bias), w)) in all.enumerate() {
                ways.push(kernel::Backward {
                    weight: Factor::new(steps, batch, gates, state, matrix(w[1])),
                    projection: self
                        .projection(w)
                        .map(|w| Factor::new(steps, batch, state, hidden, matrix(w))),
                    mask: self.mask_of(d),
                    sums: k.sums.as_mut().map_or(&mut [], Tensor::make_mut),
                    states: k.states.as_ref().or(y.as_ref()).map_or(&[], elements),
                    cells: k.cells.as_ref().map_or(&[], elements),
                    d_state: d_states.next().unwrap_or(&mut []),
                    d_cell: d_cells.next().unwrap_or(&mut []),
                    d_projected: d_projected.as_mut().map_or(&mut [], Tensor::make_mut),
                    d_bias: d_bias.as_mut().map_or(&mut [], Tensor::make_mut),
                });
            }
            let gy = &g[places.y..places.h];
            kernel::backward(self.sizes, self.lengths.as_deref(), &mut ways, gy);
        }
        let mut dx = needs[0].then(|| Tensor::build(&[steps, batch, self.inputs], |_| {}));
        let mut of_weights: SmallVec<[Option<Tensor<T>>; 12]> = SmallVec::new();
        let weights = weights.chunks_exact(self.arity());
        let all = kept.iter().zip(&d_projected).zip(&d_bias).zip(weights);
        for (d, (((k, projected), d_bias), w)) in all.enumerate() {
            let sums = k.sums.as_ref().map_or(&[][..], elements);
            let states = k.states.as_ref().or(y.as_ref()).map_or(&[][..], elements);
            // The states before their steps, in the order of time.
            let older = match &k.masked {
                Some(masked) => MatRef::rows(elements(masked), state),
                None => MatRef::new(states, d * batch * state, state as isize, 1),
            };
            let projected = projected.as_ref().map_or(&[][..], elements);
            let dx = dx.as_mut().map(|t| (t.make_mut(), w[0], d > 0));
            let (needs, d_bias) = (needs_of(d), d_bias.as_ref().map_or(&[][..], elements));
            of_weights.extend(self.products(k, &x, (sums, older, projected), d_bias, needs, dx));
        }
        let mut all = vec![dx];
        all.extend(self.h0.then_some(Some(d_state)));
        all.extend(self.c0.then_some(d_cell));
        all.extend(of_weights);
        all
    }
}
