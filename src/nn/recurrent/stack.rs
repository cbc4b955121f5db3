//! What the recurrent layers have in common: their parameters, and the way of a batch of sequences through the layers.

use std::sync::Arc;

use crate::Module;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::nn::{Mode, Param, Visitor, VisitorMut};
use crate::ops::recurrent::{Cell, Given, Weights, recurrent};
use crate::tensor::{Dims, Tensor};

/// The parameters of one direction of one layer; the gates stand one below the other in the rows: i, f, g, o in an LSTM, r, z, n in a GRU.
///
/// In a model's paths their names end in the layer's number and `_reverse` for the backward direction, as in PyTorch: `weight_ih_l0`,
/// `weight_hh_l0_reverse`.
#[derive(Clone, Debug)]
pub struct RecurrentWeights<T: Float = f32> {
    /// From the input: \[gates * hidden, inputs\]; from the second layer on the inputs are the states of all directions.
    pub weight_ih: Param<T>,
    /// From the state before: \[gates * hidden, state\].
    pub weight_hh: Param<T>,
    /// Added to the first sum: \[gates * hidden\].
    pub bias_ih: Option<Param<T>>,
    /// Added to the second.
    pub bias_hh: Option<Param<T>>,
    /// The projection of an LSTM's state, if there is one: \[state, hidden\].
    pub weight_hr: Option<Param<T>>,
}

impl<T: Float> RecurrentWeights<T> {
    pub(super) fn of_op(&self) -> Weights<'_, T> {
        Weights {
            w_ih: &self.weight_ih,
            w_hh: &self.weight_hh,
            biases: self.bias_ih.as_deref().zip(self.bias_hh.as_deref()),
            w_hr: self.weight_hr.as_deref(),
        }
    }
}

/// How a recurrent layer is built and run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Config {
    pub name: &'static str,
    pub cell: Cell,
    pub inputs: usize,
    pub hidden: usize,
    pub layers: usize,
    pub bias: bool,
    pub bidirectional: bool,
    pub batch_first: bool,
    pub dropout: f64,
    pub variational: f64,
    /// 0 for none.
    pub projection: usize,
}

impl Config {
    pub fn directions(&self) -> usize {
        if self.bidirectional { 2 } else { 1 }
    }

    pub fn state(&self) -> usize {
        if self.projection > 0 { self.projection } else { self.hidden }
    }
}

/// Layers of recurrent cells.
#[derive(Clone, Debug)]
pub(super) struct Stack<T: Float> {
    pub config: Config,
    /// Layer by layer, in each the forward direction first.
    pub weights: Vec<RecurrentWeights<T>>,
    pub mode: Mode,
}

/// Calls `v.field` for every parameter, named as in PyTorch.
macro_rules! walk {
    ($self:ident, $v:ident, $iter:ident, $($and:tt)+) => {{
        let directions = $self.config.directions();
        for (i, w) in $self.weights.$iter().enumerate() {
            let way = format!("{}{}", i / directions, ["", "_reverse"][i % directions]);
            $v.field(format_args!("weight_ih_l{way}"), $($and)+ w.weight_ih);
            $v.field(format_args!("weight_hh_l{way}"), $($and)+ w.weight_hh);
            $v.field(format_args!("bias_ih_l{way}"), $($and)+ w.bias_ih);
            $v.field(format_args!("bias_hh_l{way}"), $($and)+ w.bias_hh);
            $v.field(format_args!("weight_hr_l{way}"), $($and)+ w.weight_hr);
        }
        $v.field("mode", $($and)+ $self.mode);
    }};
}

impl<T: Float> Module for Stack<T> {
    fn visit(&self, v: &mut Visitor<'_>) {
        walk!(self, v, iter, &);
    }
    fn visit_mut(&mut self, v: &mut VisitorMut<'_>) {
        walk!(self, v, iter_mut, &mut);
    }
}

/// Output, final state, final cell.
pub(super) type StackOutputs<T> = (Tensor<T>, Tensor<T>, Option<Tensor<T>>);

impl<T: Float> Stack<T> {
    /// Runs all layers; errors say where in the model the layer stands.
    pub fn run(
        &self,
        x: &Tensor<T>,
        h0: Option<&Tensor<T>>,
        c0: Option<&Tensor<T>>,
        lengths: Option<&[usize]>,
    ) -> Result<StackOutputs<T>> {
        let Some(first) = self.weights.first().map(|w| &w.weight_ih) else {
            return self.run_here(x, h0, c0, lengths);
        };
        let run = first.within(|| self.run_here(x, h0, c0, lengths));
        run.inspect(|(y, ..)| first.gives(y))
    }

    fn run_here(
        &self,
        x: &Tensor<T>,
        h0: Option<&Tensor<T>>,
        c0: Option<&Tensor<T>>,
        lengths: Option<&[usize]>,
    ) -> Result<StackOutputs<T>> {
        let batched = self.check_input(x)?;
        let c = &self.config;
        // By step, then sequence, from here on.
        let mut x = match (batched, c.batch_first) {
            (false, _) => x.unsqueeze(1)?,
            (true, true) => x.transpose(0, 1)?,
            (true, false) => x.clone(),
        };
        let (steps, batch) = (x.shape()[0], x.shape()[1]);
        let lengths = lengths.map(|l| self.check_lengths(l, steps, batch)).transpose()?;
        let h0 = self.state("the initial state", h0, c.state(), batch, batched)?;
        let c0 = self.state("the initial cell", c0, c.hidden, batch, batched)?;
        let directions = c.directions();
        let (mut states, mut cells) = (Vec::new(), Vec::new());
        for (l, weights) in self.weights.chunks(directions).enumerate() {
            if l > 0 {
                x = self.drop(x, c.dropout, None)?;
            }
            let shape: Dims = [batch, x.shape()[2]].as_slice().into();
            x = self.drop(x, c.variational, Some(&shape))?;
            let part = |s: &Option<Tensor<T>>| {
                s.as_ref().map(|s| s.narrow(0, l * directions, directions)).transpose()
            };
            let (h, cell) = (part(&h0)?, part(&c0)?);
            let ways: Vec<Weights<'_, T>> = weights.iter().map(RecurrentWeights::of_op).collect();
            let given = Given {
                name: c.name,
                cell: c.cell,
                hidden: c.hidden,
                h0: h.as_ref(),
                c0: cell.as_ref(),
                lengths: lengths.clone(),
                mask: self.mask(c.variational, &[directions, batch, c.state()])?,
            };
            let (y, h, cell) = recurrent(given, &x, &ways)?;
            x = y;
            states.push(h);
            cells.extend(cell);
        }
        let y = match (batched, c.batch_first) {
            (false, _) => x.squeeze(1)?,
            (true, true) => x.transpose(0, 1)?,
            (true, false) => x,
        };
        let all = |parts: Vec<Tensor<T>>| -> Result<Option<Tensor<T>>> {
            let whole = match &parts[..] {
                [] => return Ok(None),
                [one] => one.clone(),
                many => Tensor::concat(&many.iter().collect::<Vec<_>>(), 0)?,
            };
            Ok(Some(if batched { whole } else { whole.squeeze(1)? }))
        };
        match all(states)? {
            Some(h) => Ok((y, h, all(cells)?)),
            None => Err(Error::argument(c.name, "there are no layers")),
        }
    }

    /// Whether the input is a batch.
    fn check_input(&self, x: &Tensor<T>) -> Result<bool> {
        let c = &self.config;
        let axes = if c.batch_first { "[batch, steps, inputs]" } else { "[steps, batch, inputs]" };
        if !(2..=3).contains(&x.rank()) {
            let message = format!(
                "input {:?} has rank {}; expected {axes} or, for one sequence, [steps, inputs]",
                x.shape(),
                x.rank()
            );
            return Err(Error::shape(c.name, message));
        }
        let expected = self.weights.first().and_then(|w| w.weight_ih.shape().last().copied());
        if let Some(k) = expected
            && x.shape().last() != Some(&k)
        {
            let message = format!(
                "input {:?} does not fit: expected a last axis of {k} (weight_ih_l0 {:?})",
                x.shape(),
                self.weights[0].weight_ih.shape()
            );
            return Err(Error::shape(c.name, message));
        }
        Ok(x.rank() == 3)
    }

    fn check_lengths(&self, lengths: &[usize], steps: usize, batch: usize) -> Result<Arc<[usize]>> {
        let name = self.config.name;
        if lengths.len() != batch {
            let message = format!(
                "{} lengths for a batch of {batch}; expected one for each sequence",
                lengths.len()
            );
            return Err(Error::shape(name, message));
        }
        for (b, &l) in lengths.iter().enumerate() {
            if l == 0 || l > steps {
                let message =
                    format!("the length of sequence {b} is {l}; it must be from 1 to {steps}");
                return Err(Error::argument(name, message));
            }
        }
        Ok(lengths.into())
    }

    /// A state that the caller gave, as a batch.
    fn state(
        &self,
        what: &str,
        s: Option<&Tensor<T>>,
        width: usize,
        batch: usize,
        batched: bool,
    ) -> Result<Option<Tensor<T>>> {
        let Some(s) = s else { return Ok(None) };
        let rows = self.weights.len();
        let expected: Dims = if batched {
            [rows, batch, width].as_slice().into()
        } else {
            [rows, width].as_slice().into()
        };
        if s.shape() != &expected[..] {
            let message = format!(
                "{what} has shape {:?}; expected {:?} ({})",
                s.shape(),
                &expected[..],
                if batched {
                    "layers * directions, batch, size"
                } else {
                    "layers * directions, size"
                }
            );
            return Err(Error::shape(self.config.name, message));
        }
        Ok(Some(if batched { s.clone() } else { s.unsqueeze(1)? }))
    }

    /// While training, dropout: of each number or, with a mask of `shape`, the same at every step.
    fn drop(&self, x: Tensor<T>, p: f64, shape: Option<&Dims>) -> Result<Tensor<T>> {
        match (shape, self.mode.is_training() && p > 0.0) {
            (_, false) => Ok(x),
            (Some(shape), true) => match self.mask(p, shape)? {
                Some(mask) => x.try_mul(&mask),
                None => Ok(x),
            },
            (None, true) => match self.mode.next_seed() {
                Some(seed) => x.dropout(p, seed),
                None => Ok(x),
            },
        }
    }

    /// While training, a factor that is 0 with probability `p` and 1 / (1 - p) otherwise.
    fn mask(&self, p: f64, shape: &[usize]) -> Result<Option<Tensor<T>>> {
        if p == 0.0 {
            return Ok(None);
        }
        self.mode.next_seed().map(|seed| Tensor::ones(shape)?.dropout(p, seed)).transpose()
    }
}
