//! Single steps of recurrent networks, for loops of one's own.

use std::marker::PhantomData;

use rand::Rng;

use super::builder::draw;
use super::stack::Config;
use crate::Module;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::nn::Param;
use crate::ops::recurrent::{Cell, Given, Weights, recurrent};
use crate::tensor::Tensor;

/// What a single-step cell will be.
///
/// ```
/// use gradus::prelude::*;
/// let cell: GRUCell = GRUCell::new(3, 8).bias(false).build(&mut gradus::rng(0))?;
/// assert_eq!(cell.param_paths(), ["weight_ih", "weight_hh"]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "call build(rng) to get the cell"]
pub struct CellBuilder<L> {
    config: Config,
    layer: PhantomData<L>,
}

impl<L> CellBuilder<L> {
    fn of(name: &'static str, cell: Cell, inputs: usize, hidden: usize) -> Self {
        let config = Config {
            name,
            cell,
            inputs,
            hidden,
            layers: 1,
            bias: true,
            bidirectional: false,
            batch_first: false,
            dropout: 0.0,
            variational: 0.0,
            projection: 0,
        };
        CellBuilder { config, layer: PhantomData }
    }

    /// Whether there are biases; there are unless said otherwise.
    pub fn bias(mut self, bias: bool) -> Self {
        self.config.bias = bias;
        self
    }
}

impl<T: Float> CellBuilder<RNNCell<T>> {
    /// The rectifier max(0, ·) in place of tanh.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let cell: RNNCell = RNNCell::new(3, 8).relu().build(&mut gradus::rng(0))?;
    /// assert!(cell.forward(&Tensor::ones([4, 3])?, None)?.iter().all(|h| h >= 0.0));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn relu(mut self) -> Self {
        self.config.cell = Cell::Relu;
        self
    }
}

/// One step of an [`RNN`](super::RNN): `h' = tanh(W_ih x + b_ih + W_hh h + b_hh)`, or with max(0, ·). x is \[batch, inputs\] or \[inputs\],
/// h \[batch, hidden\] or \[hidden\].
///
/// ```
/// use gradus::prelude::*;
/// let cell: RNNCell = RNNCell::new(3, 8).build(&mut gradus::rng(0))?;
/// let x = Tensor::ones([4, 3])?;
/// let h = cell.forward(&x, None)?;
/// assert_eq!(cell.forward(&x, Some(&h))?.shape(), [4, 8]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct RNNCell<T: Float = f32> {
    /// \[hidden, inputs\]
    pub weight_ih: Param<T>,
    /// \[hidden, hidden\]
    pub weight_hh: Param<T>,
    /// \[hidden\]
    pub bias_ih: Option<Param<T>>,
    /// \[hidden\]
    pub bias_hh: Option<Param<T>>,
    relu: bool,
}

/// One step of a [`GRU`](super::GRU). x is \[batch, inputs\] or \[inputs\], h \[batch, hidden\] or \[hidden\].
///
/// ```
/// use gradus::prelude::*;
/// let cell: GRUCell = GRUCell::new(3, 8).build(&mut gradus::rng(0))?;
/// let h = cell.forward(&Tensor::ones([3])?, None)?;
/// assert_eq!(h.shape(), [8]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct GRUCell<T: Float = f32> {
    /// \[3 * hidden, inputs\]: r, z, n
    pub weight_ih: Param<T>,
    /// \[3 * hidden, hidden\]
    pub weight_hh: Param<T>,
    /// \[3 * hidden\]
    pub bias_ih: Option<Param<T>>,
    /// \[3 * hidden\]
    pub bias_hh: Option<Param<T>>,
}

/// One step of an [`LSTM`](super::LSTM). x is \[batch, inputs\] or \[inputs\], h and c \[batch, hidden\] or \[hidden\].
///
/// ```
/// use gradus::prelude::*;
/// let cell: LSTMCell = LSTMCell::new(3, 8).build(&mut gradus::rng(0))?;
/// let x = Tensor::ones([4, 3])?;
/// let (h, c) = cell.forward(&x, None)?;
/// let (h, c) = cell.forward(&x, Some((&h, &c)))?;
/// assert_eq!((h.shape(), c.shape()), (&[4, 8][..], &[4, 8][..]));
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct LSTMCell<T: Float = f32> {
    /// \[4 * hidden, inputs\]: i, f, g, o
    pub weight_ih: Param<T>,
    /// \[4 * hidden, hidden\]
    pub weight_hh: Param<T>,
    /// \[4 * hidden\]
    pub bias_ih: Option<Param<T>>,
    /// \[4 * hidden\]
    pub bias_hh: Option<Param<T>>,
}

macro_rules! cell {
    ($name:ident, $text:literal, $cell:expr $(, $field:ident = $value:expr)?) => {
        impl<T: Float> $name<T> {
            /// Starts a cell for inputs and states of these sizes; [`build`](CellBuilder::build) draws its parameters.
            #[allow(clippy::new_ret_no_self)] // A cell cannot be made before the generator is there.
            pub fn new(inputs: usize, hidden: usize) -> CellBuilder<Self> {
                CellBuilder::of($text, $cell, inputs, hidden)
            }

            fn weights(&self) -> Weights<'_, T> {
                Weights {
                    w_ih: &self.weight_ih,
                    w_hh: &self.weight_hh,
                    biases: self.bias_ih.as_deref().zip(self.bias_hh.as_deref()),
                    w_hr: None,
                }
            }
        }

        impl<T: Float> CellBuilder<$name<T>> {
            /// The cell, its parameters drawn from `rng`, all uniform in ±1/√hidden.
            ///
            /// # Errors
            /// [`Error::Argument`] if the hidden size is 0; [`Error::Overflow`] if a weight does not fit in memory.
            pub fn build(self, rng: &mut (impl Rng + ?Sized)) -> Result<$name<T>> {
                let c = self.config;
                if c.hidden == 0 {
                    return Err(Error::argument($text, "the hidden size is 0; it must be at least 1"));
                }
                let rows = c.hidden.checked_mul(c.cell.gates()).ok_or_else(|| Error::Overflow {
                    op: $text,
                    shape: vec![c.cell.gates(), c.hidden, c.inputs],
                })?;
                let w = draw(c, rows, c.inputs, rng)?;
                Ok($name {
                    weight_ih: w.weight_ih,
                    weight_hh: w.weight_hh,
                    bias_ih: w.bias_ih,
                    bias_hh: w.bias_hh,
                    $($field: $value(c.cell),)?
                })
            }
        }
    };
}
cell!(RNNCell, "RNNCell", Cell::Tanh, relu = |cell| cell == Cell::Relu);
cell!(GRUCell, "GRUCell", Cell::Gru);
cell!(LSTMCell, "LSTMCell", Cell::Lstm);

/// One step: the new state and cell.
fn step<T: Float>(
    name: &'static str,
    cell: Cell,
    x: &Tensor<T>,
    h: Option<&Tensor<T>>,
    c: Option<&Tensor<T>>,
    weights: Weights<'_, T>,
) -> Result<(Tensor<T>, Option<Tensor<T>>)> {
    let hidden = weights.w_hh.shape().last().copied().unwrap_or(0);
    let batch = match *x.shape() {
        [_] => None,
        [batch, _] => Some(batch),
        _ => {
            let message = format!(
                "input {:?} has rank {}; expected [batch, inputs] or, for one sequence, [inputs]",
                x.shape(),
                x.rank()
            );
            return Err(Error::shape(name, message));
        }
    };
    let x = if batch.is_some() { x.clone() } else { x.unsqueeze(0)? };
    // [1, batch, size] as the whole layer takes it.
    let state = |what: &str, s: Option<&Tensor<T>>| -> Result<Option<Tensor<T>>> {
        let Some(s) = s else { return Ok(None) };
        let fits = match (batch, s.shape()) {
            (None, &[n]) => n == hidden,
            (Some(b), &[rows, n]) => n == hidden && rows == b,
            _ => false,
        };
        if !fits {
            let expected: Vec<usize> = batch.into_iter().chain([hidden]).collect();
            let message = format!("the {what} has shape {:?}; expected {expected:?}", s.shape());
            return Err(Error::shape(name, message));
        }
        Ok(Some(s.reshape([1, batch.unwrap_or(1), hidden])?))
    };
    let (h0, c0) = (state("state", h)?, state("cell", c)?);
    let given =
        Given { name, cell, hidden, h0: h0.as_ref(), c0: c0.as_ref(), lengths: None, mask: None };
    let (_, h, c) = recurrent(given, &x.unsqueeze(0)?, &[weights])?;
    let plain = |s: Tensor<T>| {
        let s = s.squeeze(0)?;
        if batch.is_some() { Ok(s) } else { s.squeeze(0) }
    };
    Ok((plain(h)?, c.map(plain).transpose()?))
}

impl<T: Float> RNNCell<T> {
    /// The new state, from an old one (zeros if there is none).
    ///
    /// # Errors
    /// [`Error::Shape`] if the input or the state has another shape than the cell takes.
    pub fn forward(&self, x: &Tensor<T>, h: Option<&Tensor<T>>) -> Result<Tensor<T>> {
        let cell = if self.relu { Cell::Relu } else { Cell::Tanh };
        let run = || step("RNNCell", cell, x, h, None, self.weights());
        self.weight_ih.within(run).map(|(h, _)| h)
    }
}

impl<T: Float> GRUCell<T> {
    /// The new state, from an old one (zeros if there is none).
    ///
    /// # Errors
    /// [`Error::Shape`] if the input or the state has another shape than the cell takes.
    pub fn forward(&self, x: &Tensor<T>, h: Option<&Tensor<T>>) -> Result<Tensor<T>> {
        let run = || step("GRUCell", Cell::Gru, x, h, None, self.weights());
        self.weight_ih.within(run).map(|(h, _)| h)
    }
}

impl<T: Float> LSTMCell<T> {
    /// The new state and cell, from old ones (zeros if there are none).
    ///
    /// # Errors
    /// [`Error::Shape`] if the input, the state or the cell has another shape than the cell takes.
    pub fn forward(
        &self,
        x: &Tensor<T>,
        state: Option<(&Tensor<T>, &Tensor<T>)>,
    ) -> Result<(Tensor<T>, Tensor<T>)> {
        let (h, c) = state.unzip();
        let run = || step("LSTMCell", Cell::Lstm, x, h, c, self.weights());
        let (h, c) = self.weight_ih.within(run)?;
        // An LSTM always has one.
        let c = c.map_or_else(|| Tensor::zeros([0]), Ok)?;
        Ok((h, c))
    }
}
