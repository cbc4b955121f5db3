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

mod backward;
mod composed;
mod forward;

use std::sync::Arc;

use smallvec::SmallVec;

use crate::autograd::{OpMany, Saved, SavedTensor, apply_many, grad_with};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::gemm::MatRef;
pub(crate) use crate::kernel::recurrent::Cell;
use crate::kernel::recurrent::Sizes;
use crate::tensor::{Layout, Tensor, numel};
#[cfg(test)]
pub(crate) use composed::Composed;

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
    /// All inputs, as they came.
    inputs: SmallVec<[Tensor<T>; 6]>,
    /// The output, if it holds the states.
    y: Option<Tensor<T>>,
    directions: SmallVec<[Kept<T>; 2]>,
}

impl<T: Float> Saved for KeptAll<T> {
    // Only the inputs have a place on a tape.
    #[allow(private_interfaces)]
    fn visit(&mut self, f: &mut dyn FnMut(&mut dyn SavedTensor)) {
        self.inputs.iter_mut().for_each(|t| f(t));
    }
}

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

    /// Floating-point operations of the product with the input.
    fn input_flops(&self) -> u64 {
        let Sizes { cell, steps, batch, hidden, directions, .. } = self.sizes;
        2 * (directions * steps * batch * cell.gates() * hidden * self.inputs) as u64
    }

    /// Those of the products with the state, and of the projection.
    fn state_flops(&self) -> u64 {
        let Sizes { cell, steps, batch, hidden, state, directions } = self.sizes;
        let products = cell.gates() + usize::from(self.projected);
        2 * (directions * steps * batch * products * hidden * state) as u64
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

    /// The projection among a direction's weights.
    fn projection<'a, X>(&self, w: &'a [X]) -> Option<&'a X> {
        w.last().filter(|_| self.projected)
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

impl<T: Float> OpMany<T> for Recurrent<T> {
    type Saved = KeptAll<T>;
    type Gradients = Vec<Option<Tensor<T>>>;

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
        Ok(self.back(saved, g, needs))
    }

    fn vjp_recorded(
        &self,
        saved: KeptAll<T>,
        g: Tensor<T>,
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor<T>>>> {
        // New places on the tape, so that what one input was computed from another does not count.
        let inputs: Vec<Tensor<T>> = saved
            .inputs
            .iter()
            .zip(needs)
            .map(|(x, &n)| if n { x.mul_scalar(T::ONE) } else { x.detach() })
            .collect();
        let y = composed::row(self, &inputs)?;
        let all = inputs.iter().zip(needs);
        let wanted: Vec<&Tensor<T>> = all.filter(|(_, n)| **n).map(|(x, _)| x).collect();
        let places = self.places();
        let first = if self.plain() { places.y } else { 0 };
        let g = g.narrow(0, first, places.end - first)?;
        let mut found = grad_with(&y, &wanted, &g)?.into_iter();
        Ok(needs.iter().map(|&n| if n { found.next() } else { None }).collect())
    }

    fn flops(&self, _: &[&[usize]]) -> u64 {
        self.input_flops() + self.state_flops()
    }

    /// Each product has two gradients; that of the input may be nobody's.
    fn vjp_flops(&self, _: &[&[usize]], needs: &[bool]) -> u64 {
        self.input_flops() * (1 + u64::from(needs[0])) + 2 * self.state_flops()
    }
}
