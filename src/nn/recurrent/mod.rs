//! Recurrent layers over whole sequences, and single steps of them.

mod builder;
mod cells;
mod stack;
#[cfg(test)]
mod tests;

pub use builder::RecurrentBuilder;
pub use cells::{CellBuilder, GRUCell, LSTMCell, RNNCell};
pub use stack::RecurrentWeights;

use super::{Layer, Visitor, VisitorMut};
use crate::Module;
use crate::error::Result;
use crate::float::Float;
use crate::ops::recurrent::Cell;
use crate::tensor::Tensor;
use stack::Stack;

/// The plain recurrent network of Elman (1990): `h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)`, or with max(0, ·) in place of tanh.
///
/// Sequences are \[steps, batch, inputs\], with [`batch_first`](RecurrentBuilder::batch_first) \[batch, steps, inputs\], or a single one
/// \[steps, inputs\]. The output has the states of the last layer at every step, \[.., directions * hidden\]; states are
/// \[layers * directions, batch, hidden\], or without the batch for a single sequence. Parameters are named as in PyTorch (`weight_ih_l0`, …) and start
/// uniform in ±1/√hidden.
///
/// ```
/// use gradus::prelude::*;
/// let rnn: RNN = RNN::new(3, 8).build(&mut gradus::rng(0))?;
/// let x = Tensor::ones([5, 2, 3])?;                        // 5 steps of 2 sequences
/// let (y, h) = rnn.forward_with(&x, None)?;
/// assert_eq!((y.shape(), h.shape()), (&[5, 2, 8][..], &[1, 2, 8][..]));
/// let (z, _) = rnn.forward_with(&x, Some(&h))?;            // goes on where the first call ended
/// assert_eq!(z.shape(), [5, 2, 8]);
/// assert_eq!(rnn.param_paths(), ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RNN<T: Float = f32> {
    stack: Stack<T>,
}

/// Gated recurrent units (Cho et al. 2014), with the reset gate applied after the product, as in PyTorch:
///
/// ```text
/// r = σ(W_ir x + b_ir + W_hr h + b_hr)       n = tanh(W_in x + b_in + r * (W_hn h + b_hn))
/// z = σ(W_iz x + b_iz + W_hz h + b_hz)       h' = (1 - z) * n + z * h
/// ```
///
/// The gates stand in the rows of the weights in the order r, z, n. Shapes, names and initialisation as for [`RNN`].
///
/// ```
/// use gradus::prelude::*;
/// let gru: GRU = GRU::new(3, 8).layers(2).batch_first(true).build(&mut gradus::rng(0))?;
/// let x = Tensor::ones([2, 5, 3])?;
/// // The second sequence has only 3 steps; what comes after them is padding.
/// let (y, h) = gru.forward_lengths(&x, &[5, 3], None)?;
/// assert_eq!(y.select(0, 1)?.select(0, 3)?.to_vec(), [0.0; 8]);
/// assert_eq!(h.select(0, 1)?.select(0, 1)?, y.select(0, 1)?.select(0, 2)?);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GRU<T: Float = f32> {
    stack: Stack<T>,
}

/// Long short-term memory (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000):
///
/// ```text
/// i = σ(W_ii x + b_ii + W_hi h + b_hi)       g = tanh(W_ig x + b_ig + W_hg h + b_hg)
/// f = σ(W_if x + b_if + W_hf h + b_hf)       c' = f * c + i * g
/// o = σ(W_io x + b_io + W_ho h + b_ho)       h' = o * tanh(c')
/// ```
///
/// The gates stand in the rows of the weights in the order i, f, g, o. Shapes, names and initialisation as for [`RNN`]; the cell c is
/// \[layers * directions, batch, hidden\]. With [`proj_size`](RecurrentBuilder::proj_size) the state is `W_hr` (o * tanh(c')).
///
/// ```
/// use gradus::prelude::*;
/// let lstm: LSTM = LSTM::new(3, 8).bidirectional(true).build(&mut gradus::rng(0))?;
/// let (y, (h, c)) = lstm.forward_with(&Tensor::ones([5, 2, 3])?, None)?;
/// assert_eq!((y.shape(), h.shape(), c.shape()), (&[5, 2, 16][..], &[2, 2, 8][..], &[2, 2, 8][..]));
/// assert!(lstm.param_paths().contains(&"weight_hh_l0_reverse".to_string()));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LSTM<T: Float = f32> {
    stack: Stack<T>,
}

/// What all three have.
macro_rules! recurrent_layer {
    ($name:ident, $text:literal, $cell:expr) => {
        impl<T: Float> $name<T> {
            /// Starts a layer for inputs and states of these sizes; [`build`](RecurrentBuilder::build) draws its parameters.
            #[allow(clippy::new_ret_no_self)] // A layer cannot be made before the generator is there.
            pub fn new(inputs: usize, hidden: usize) -> RecurrentBuilder<Self> {
                RecurrentBuilder::new($text, $cell, inputs, hidden)
            }

            /// The parameters, layer by layer, in each the forward direction first.
            pub fn weights(&self) -> &[RecurrentWeights<T>] {
                &self.stack.weights
            }

            /// The parameters, for changing.
            pub fn weights_mut(&mut self) -> &mut [RecurrentWeights<T>] {
                &mut self.stack.weights
            }

            /// The size of the input's last axis.
            pub fn inputs(&self) -> usize {
                self.stack.config.inputs
            }

            /// The hidden size.
            pub fn hidden(&self) -> usize {
                self.stack.config.hidden
            }

            /// The number of layers.
            pub fn layers(&self) -> usize {
                self.stack.config.layers
            }
        }

        impl<T: Float> Module for $name<T> {
            fn visit(&self, v: &mut Visitor<'_>) {
                self.stack.visit(v);
            }
            fn visit_mut(&mut self, v: &mut VisitorMut<'_>) {
                self.stack.visit_mut(v);
            }
        }

        /// The output of every step, from a state of zeros.
        impl<T: Float> Layer<T> for $name<T> {
            /// # Errors
            /// [`Error::Shape`](crate::Error::Shape) if the input has another rank or size than the layer takes, or no steps.
            fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
                Ok(self.stack.run(x, None, None, None)?.0)
            }
        }
    };
}
recurrent_layer!(RNN, "RNN", Cell::Tanh);
recurrent_layer!(GRU, "GRU", Cell::Gru);
recurrent_layer!(LSTM, "LSTM", Cell::Lstm);

/// What those without a cell have.
macro_rules! with_state {
    ($name:ident) => {
        impl<T: Float> $name<T> {
            /// The output of every step and the final state, from an initial one (zeros if there is none).
            ///
            /// # Errors
            /// [`Error::Shape`](crate::Error::Shape) if the input or the state has another shape than the layer takes.
            pub fn forward_with(
                &self,
                x: &Tensor<T>,
                h0: Option<&Tensor<T>>,
            ) -> Result<(Tensor<T>, Tensor<T>)> {
                self.stack.run(x, h0, None, None).map(|(y, h, _)| (y, h))
            }

            /// As [`forward_with`](Self::forward_with) for sequences of different lengths, padded to the longest with whatever there is: the output
            /// is 0 beyond a sequence's length, the final state is that after its last valid step, and the backward direction begins there.
            ///
            /// # Errors
            /// As `forward_with`; [`Error::Shape`](crate::Error::Shape) if there is not one length for each sequence,
            /// [`Error::Argument`](crate::Error::Argument) for a length of 0 or beyond the steps of the input.
            pub fn forward_lengths(
                &self,
                x: &Tensor<T>,
                lengths: &[usize],
                h0: Option<&Tensor<T>>,
            ) -> Result<(Tensor<T>, Tensor<T>)> {
                self.stack.run(x, h0, None, Some(lengths)).map(|(y, h, _)| (y, h))
            }
        }
    };
}
with_state!(RNN);
with_state!(GRU);

/// What an LSTM returns: the output of every step, and the final state and cell.
type WithCell<T> = (Tensor<T>, (Tensor<T>, Tensor<T>));

impl<T: Float> LSTM<T> {
    /// The output of every step and the final state and cell, from initial ones (zeros if there are none).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the input, the state or the cell has another shape than the layer takes.
    pub fn forward_with(
        &self,
        x: &Tensor<T>,
        state: Option<(&Tensor<T>, &Tensor<T>)>,
    ) -> Result<WithCell<T>> {
        self.run(x, state, None)
    }

    /// As [`forward_with`](Self::forward_with) for sequences of different lengths, padded to the longest with whatever there is: the output is 0
    /// beyond a sequence's length, the final state and cell are those after its last valid step, and the backward direction begins there.
    ///
    /// # Errors
    /// As `forward_with`; [`Error::Shape`](crate::Error::Shape) if there is not one length for each sequence,
    /// [`Error::Argument`](crate::Error::Argument) for a length of 0 or beyond the steps of the input.
    pub fn forward_lengths(
        &self,
        x: &Tensor<T>,
        lengths: &[usize],
        state: Option<(&Tensor<T>, &Tensor<T>)>,
    ) -> Result<WithCell<T>> {
        self.run(x, state, Some(lengths))
    }

    fn run(
        &self,
        x: &Tensor<T>,
        state: Option<(&Tensor<T>, &Tensor<T>)>,
        lengths: Option<&[usize]>,
    ) -> Result<WithCell<T>> {
        let (h0, c0) = state.unzip();
        let (y, h, c) = self.stack.run(x, h0, c0, lengths)?;
        // An LSTM's layers all have cells.
        let c = c.map_or_else(|| Tensor::zeros([0]), Ok)?;
        Ok((y, (h, c)))
    }
}
