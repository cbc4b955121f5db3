//! One layer of a recurrent network over whole sequences, both directions: plain, GRU, LSTM, LSTM with projection.
//!
//! For inputs x \[steps, batch, inputs\], with the gates' formulas in `kernel/recurrent/cell.rs`:
//!
//! ```text
//! sums_t = x_t · W_ihᵀ + b_ih + b_hh         one product for all steps
//!        + h_{t-1} · W_hhᵀ                   step by step, with the gates
//! h_t    = cell(sums_t), in an LSTM with projection · W_hrᵀ
//!
//! backward: dsums step by step, then         dx = dsums · W_ih,  dW_ih = dsumsᵀ · x,  dW_hh = dsumsᵀ · h_before,  db = Σ dsums
//! ```
//!
//! An operation has one output, so it is a row of numbers of which the caller shows views:
//! `[initial state, output of every step, final states, final cells]`. The first is there only where the states are the output (one direction, all
//! sequences of full length), so that states with the initial one in front are one array, which the gradient of `W_hh` multiplies as a whole.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::autograd::{OpMany, Saved, apply_many};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::gemm::{Bias, Epilogue, MatRef, gemm};
pub(crate) use crate::kernel::recurrent::Cell;
use crate::kernel::recurrent::{self as kernel, Factor, Sizes};
use crate::tensor::{Layout, Tensor, numel};

/// The parameters of one direction.
#[derive(Clone, Copy)]
pub(crate) struct Weights<'a, T: Float> {
    /// \[gates * hidden, inputs\]
    pub w_ih: &'a Tensor<T>,
    /// \[gates * hidden, state\]
    pub w_hh: &'a Tensor<T>,
    /// \[gates * hidden\] each
    pub biases: Option<(&'a Tensor<T>, &'a Tensor<T>)>,
    /// \[state, hidden\]
    pub w_hr: Option<&'a Tensor<T>>,
}

/// What else a layer is told.
#[derive(Clone)]
pub(crate) struct Given<'a, T: Float> {
    /// Who is asking, for the errors.
    pub name: &'static str,
    pub cell: Cell,
    pub hidden: usize,
    /// \[directions, batch, state\]
    pub h0: Option<&'a Tensor<T>>,
    /// \[directions, batch, hidden\]
    pub c0: Option<&'a Tensor<T>>,
    /// Valid steps of each sequence, each from 1 to the number of steps.
    pub lengths: Option<Arc<[usize]>>,
    /// A factor for the state on its way into the gates, \[directions, batch, state\].
    pub mask: Option<Tensor<T>>,
}

/// Output of every step \[steps, batch, directions * state\], final states \[directions, batch, state\], final cells \[directions, batch, hidden\].
pub(crate) type Outputs<T> = (Tensor<T>, Tensor<T>, Option<Tensor<T>>);

/// Runs one layer.
pub(crate) fn recurrent<T: Float>(
    given: Given<'_, T>,
    x: &Tensor<T>,
    directions: &[Weights<'_, T>],
) -> Result<Outputs<T>> {
    let op = Recurrent::new(&given, x, directions)?;
    let mut inputs: SmallVec<[&Tensor<T>; 12]> = SmallVec::new();
    inputs.push(x);
    inputs.extend(given.h0);
    inputs.extend(given.c0);
    for d in directions {
        inputs.extend([d.w_ih, d.w_hh]);
        inputs.extend(d.biases.into_iter().flat_map(|(a, b)| [a, b]));
        inputs.extend(d.w_hr);
    }
    let (s, places) = (op.sizes, op.places());
    let all = apply_many(op, &inputs)?;
    let y = all.narrow(0, places.y, places.h - places.y)?;
    let h = all.narrow(0, places.h, places.c - places.h)?;
    let y = y.reshape([s.steps, s.batch, s.directions * s.state])?;
    let h = h.reshape([s.directions, s.batch, s.state])?;
    let c = match s.cell {
        Cell::Lstm => Some(all.narrow(0, places.c, places.end - places.c)?.reshape([
            s.directions,
            s.batch,
            s.hidden,
        ])?),
        _ => None,
    };
    Ok((y, h, c))
}

struct Recurrent<T: Float> {
    sizes: Sizes,
    inputs: usize,
    h0: bool,
    c0: bool,
    biased: bool,
    projected: bool,
    lengths: Option<Arc<[usize]>>,
    mask: Option<Tensor<T>>,
}

/// Where the parts of the output begin.
struct Places {
    y: usize,
    h: usize,
    c: usize,
    end: usize,
}

/// What a direction keeps for its way back. Nothing is kept twice: see the top of the file.
#[derive(Clone)]
struct Kept<T: Float> {
    w_ih: Tensor<T>,
    w_hh: Tensor<T>,
    w_hr: Option<Tensor<T>>,
    /// \[steps, batch, kept\]; a plain cell needs none.
    sums: Option<Tensor<T>>,
    /// \[steps + 1, batch, state\], unless the output serves.
    states: Option<Tensor<T>>,
    /// \[steps + 1, batch, hidden\]
    cells: Option<Tensor<T>>,
    masked: Option<Tensor<T>>,
    unprojected: Option<Tensor<T>>,
}

#[derive(Clone)]
struct KeptAll<T: Float> {
    x: Tensor<T>,
    /// The output, if it holds the states.
    y: Option<Tensor<T>>,
    directions: SmallVec<[Kept<T>; 2]>,
}

impl<T: Float> Saved for KeptAll<T> {}

impl<T: Float> Recurrent<T> {
    /// Checks everything, so that what follows need not.
    fn new(given: &Given<'_, T>, x: &Tensor<T>, directions: &[Weights<'_, T>]) -> Result<Self> {
        let name = given.name;
        let &[steps, batch, inputs] = x.shape() else {
            let message = format!("input {:?}: expected [steps, batch, inputs]", x.shape());
            return Err(Error::shape(name, message));
        };
        if steps == 0 {
            let message =
                format!("input {:?} has no steps; a sequence needs one or more", x.shape());
            return Err(Error::shape(name, message));
        }
        let (hidden, rows) = (given.hidden, given.cell.gates() * given.hidden);
        let first = directions.first();
        let projected = first.is_some_and(|d| d.w_hr.is_some());
        let state =
            first.and_then(|d| d.w_hr).map_or(hidden, |w| w.shape().first().copied().unwrap_or(0));
        let directed = directions.len();
        let expect = |what: &str, t: &Tensor<T>, shape: &[usize]| {
            if t.shape() == shape {
                return Ok(());
            }
            Err(Error::shape(name, format!("{what} has shape {:?}; expected {shape:?}", t.shape())))
        };
        for (d, way) in directions.iter().zip(["", "_reverse"]) {
            if let [_, k] = *d.w_ih.shape()
                && k != inputs
            {
                let message = format!(
                    "input [.., {inputs}] does not fit: expected a last axis of {k} (weight_ih{way} {:?})",
                    d.w_ih.shape()
                );
                return Err(Error::shape(name, message));
            }
            expect(&format!("weight_ih{way}"), d.w_ih, &[rows, inputs])?;
            expect(&format!("weight_hh{way}"), d.w_hh, &[rows, state])?;
            if let Some((ih, hh)) = d.biases {
                expect(&format!("bias_ih{way}"), ih, &[rows])?;
                expect(&format!("bias_hh{way}"), hh, &[rows])?;
            }
            if let Some(w) = d.w_hr {
                expect(&format!("weight_hr{way}"), w, &[state, hidden])?;
            }
        }
        if let Some(h0) = given.h0 {
            expect("the initial state", h0, &[directed, batch, state])?;
        }
        if let Some(c0) = given.c0 {
            expect("the initial cell", c0, &[directed, batch, hidden])?;
        }
        let kept = given.cell.kept();
        numel(name, &[steps + 1, batch, directed.max(1), hidden.max(state).max(inputs), kept + 2])?;
        Ok(Recurrent {
            sizes: Sizes { cell: given.cell, steps, batch, hidden, state, directions: directed },
            inputs,
            h0: given.h0.is_some(),
            c0: given.c0.is_some(),
            biased: first.is_some_and(|d| d.biases.is_some()),
            projected,
            lengths: given.lengths.clone(),
            mask: given.mask.clone(),
        })
    }

    /// Whether the states are the output.
    fn plain(&self) -> bool {
        self.sizes.directions == 1 && self.lengths.is_none()
    }

    fn places(&self) -> Places {
        let s = self.sizes;
        let y = if self.plain() { s.batch * s.state } else { 0 };
        let h = y + s.steps * s.batch * s.directions * s.state;
        let c = h + s.directions * s.batch * s.state;
        let cells = if s.cell == Cell::Lstm { s.directions * s.batch * s.hidden } else { 0 };
        Places { y, h, c, end: c + cells }
    }

    /// The inputs by their roles.
    fn split<'a, X>(&self, x: &'a [X]) -> (&'a X, Option<&'a X>, Option<&'a X>, &'a [X]) {
        let (h0, c0) = (self.h0 as usize, self.c0 as usize);
        (
            &x[0],
            x[1..].first().filter(|_| self.h0),
            x[1..].get(h0).filter(|_| self.c0),
            &x[1 + h0 + c0..],
        )
    }

    /// How many inputs a direction has.
    fn arity(&self) -> usize {
        2 + 2 * self.biased as usize + self.projected as usize
    }

    /// The input as a matrix of all steps' rows; zeros where a sequence has ended, whatever stood there.
    fn rows(&self, x: &Tensor<T>) -> Tensor<T> {
        let shape = [self.sizes.steps * self.sizes.batch, self.inputs];
        let Some(lengths) = &self.lengths else {
            return match x.layout().reshape(&shape) {
                Some(layout) => x.with_layout(layout),
                None => x.dense().with_layout(Layout::dense(&shape)),
            };
        };
        let mut x = x.copy();
        let (batch, n) = (self.sizes.batch, self.inputs);
        let data = x.make_mut();
        for t in 0..self.sizes.steps {
            for (b, _) in lengths.iter().enumerate().filter(|(_, l)| t >= **l) {
                data[(t * batch + b) * n..][..n].fill(T::ZERO);
            }
        }
        x.with_layout(Layout::dense(&shape))
    }

    /// The block of the initial and that of the final state.
    fn ends(&self, direction: usize) -> (usize, usize) {
        if direction == 0 { (0, self.sizes.steps) } else { (self.sizes.steps, 0) }
    }

    /// The mask of a direction.
    fn mask_of(&self, direction: usize) -> Option<&[T]> {
        let n = self.sizes.batch * self.sizes.state;
        self.mask.as_ref().and_then(Tensor::as_slice).map(|m| &m[direction * n..][..n])
    }
}

/// A tensor of rank 2 as the matrix product reads it.
fn matrix<T: Float>(x: &Tensor<T>) -> MatRef<'_, T> {
    MatRef::new(x.buffer(), x.layout().offset, x.strides()[0], x.strides()[1])
}

/// The elements of a dense tensor.
fn elements<T: Float>(x: &Tensor<T>) -> &[T] {
    x.as_slice().unwrap_or(&[])
}

/// One block for a direction's states: zeros, or the initial ones.
fn initial<T: Float>(given: Option<&Tensor<T>>, direction: usize, block: &mut [T]) {
    match given {
        None => block.fill(T::ZERO),
        Some(t) => {
            let t = t.dense();
            block.copy_from_slice(&elements(&t)[direction * block.len()..][..block.len()]);
        }
    }
}

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
    fn run(&self, x: &[&Tensor<T>], y: &mut [T]) -> KeptAll<T> {
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
                w_ih: w[0].clone(),
                w_hh: w[1].clone(),
                w_hr: self.projected.then(|| w[self.arity() - 1].clone()),
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
            for (d, (k, bias)) in kept.iter_mut().zip(&bias_hh).enumerate() {
                let states = match &mut k.states {
                    Some(states) => states.make_mut(),
                    None => plain_states.take().unwrap_or(&mut []),
                };
                ways.push(kernel::Forward {
                    weight: Factor::new(steps, state, gates, matrix(&k.w_hh).t()),
                    bias: bias.as_ref().map(elements),
                    projection: k
                        .w_hr
                        .as_ref()
                        .map(|w| Factor::new(steps, hidden, state, matrix(w).t())),
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
        KeptAll { x: input, y: None, directions: kept }
    }

    /// The gradients of one direction's parameters and its share of the input's, from the gradients of its sums.
    fn products(
        &self,
        k: &Kept<T>,
        x: &Tensor<T>,
        (sums, older, d_projected): (&[T], MatRef<'_, T>, &[T]),
        needs: &[bool],
        dx: Option<(&mut [T], bool)>,
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
        // Sums over steps and sequences as a product with ones: in blocks, and on several threads.
        let column_sums = |gate: usize, m: usize, out: &mut [T]| {
            gemm(1, n, m, ones, from(gate), out, m, false, Epilogue::NONE);
        };
        if let Some((out, more)) = dx {
            for (i, (at, r)) in blocks.iter().enumerate() {
                let part = k.w_ih.with_layout(k.w_ih.layout().slice(
                    0,
                    r.start * hidden,
                    r.len() * hidden,
                    1,
                ));
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
}

impl<T: Float> OpMany<T> for Recurrent<T> {
    type Saved = KeptAll<T>;

    fn name(&self) -> &'static str {
        match self.sizes.cell {
            Cell::Tanh | Cell::Relu => "rnn",
            Cell::Gru => "gru",
            Cell::Lstm => "lstm",
        }
    }

    fn forward(&self, x: &[&Tensor<T>]) -> Result<(Tensor<T>, KeptAll<T>)> {
        let mut kept = None;
        let y =
            Tensor::try_build(self.name(), &[self.places().end], |y| kept = Some(self.run(x, y)))?;
        let Some(mut kept) = kept else { unreachable!("the fill was called") };
        kept.y = self.plain().then(|| y.clone());
        Ok((y, kept))
    }

    fn vjp(
        &self,
        saved: KeptAll<T>,
        g: Tensor<T>,
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor<T>>>> {
        let Sizes { cell, steps, batch, hidden, state, directions } = self.sizes;
        let KeptAll { x, y, directions: mut kept } = saved;
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
        for k in &mut kept {
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
            for (d, (k, d_projected)) in kept.iter_mut().zip(&mut d_projected).enumerate() {
                ways.push(kernel::Backward {
                    weight: Factor::new(steps, gates, state, matrix(&k.w_hh)),
                    projection: k
                        .w_hr
                        .as_ref()
                        .map(|w| Factor::new(steps, state, hidden, matrix(w))),
                    mask: self.mask_of(d),
                    sums: k.sums.as_mut().map_or(&mut [], Tensor::make_mut),
                    states: k.states.as_ref().or(y.as_ref()).map_or(&[], elements),
                    cells: k.cells.as_ref().map_or(&[], elements),
                    d_state: d_states.next().unwrap_or(&mut []),
                    d_cell: d_cells.next().unwrap_or(&mut []),
                    d_projected: d_projected.as_mut().map_or(&mut [], Tensor::make_mut),
                });
            }
            let gy = &g[places.y..places.h];
            kernel::backward(self.sizes, self.lengths.as_deref(), &mut ways, gy);
        }
        let mut dx = needs[0].then(|| Tensor::build(&[steps, batch, self.inputs], |_| {}));
        let first_weight = 1 + self.h0 as usize + self.c0 as usize;
        let mut of_weights: SmallVec<[Option<Tensor<T>>; 12]> = SmallVec::new();
        for (d, (k, projected)) in kept.iter().zip(&d_projected).enumerate() {
            let sums = k.sums.as_ref().map_or(&[][..], elements);
            let states = k.states.as_ref().or(y.as_ref()).map_or(&[][..], elements);
            // The states before their steps, in the order of time.
            let older = match &k.masked {
                Some(masked) => MatRef::rows(elements(masked), state),
                None => MatRef::new(states, d * batch * state, state as isize, 1),
            };
            let projected = projected.as_ref().map_or(&[][..], elements);
            let dx = dx.as_mut().map(|t| (t.make_mut(), d > 0));
            let needs = &needs[first_weight + d * self.arity()..];
            of_weights.extend(self.products(k, &x, (sums, older, projected), needs, dx));
        }
        let mut all = vec![dx];
        all.extend(self.h0.then_some(Some(d_state)));
        all.extend(self.c0.then_some(d_cell));
        all.extend(of_weights);
        Ok(all)
    }
}
