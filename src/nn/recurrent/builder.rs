//! What a recurrent layer will be.

use std::marker::PhantomData;

use rand::Rng;

use super::stack::{Config, RecurrentWeights, Stack};
use super::{GRU, LSTM, RNN};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::nn::init::{Fans, Init};
use crate::nn::{Mode, Param, check_layers};
use crate::ops::recurrent::Cell;

/// What a recurrent layer ([`RNN`], [`GRU`], [`LSTM`]) will be.
///
/// ```
/// use gradus::prelude::*;
/// let rnn: GRU = GRU::new(8, 16).layers(2).bidirectional(true).dropout(0.1).batch_first(true).build(&mut gradus::rng(0))?;
/// let y = rnn.forward(&Tensor::zeros([4, 10, 8])?)?;      // 4 sequences of 10 steps
/// assert_eq!(y.shape(), [4, 10, 32]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "call build(rng) to get the layer"]
pub struct RecurrentBuilder<L> {
    config: Config,
    layer: PhantomData<L>,
}

/// A layer that a [`RecurrentBuilder`] makes.
#[doc(hidden)]
#[allow(private_interfaces)]
pub trait Recurrent {
    type Element: Float;
    fn of(stack: Stack<Self::Element>) -> Self;
}

macro_rules! recurrent {
    ($($layer:ident),*) => {$(
        #[allow(private_interfaces)]
        impl<T: Float> Recurrent for $layer<T> {
            type Element = T;
            fn of(stack: Stack<T>) -> Self {
                $layer { stack }
            }
        }
    )*};
}
recurrent!(RNN, GRU, LSTM);

impl<L> RecurrentBuilder<L> {
    pub(super) fn new(name: &'static str, cell: Cell, inputs: usize, hidden: usize) -> Self {
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
        RecurrentBuilder { config, layer: PhantomData }
    }

    /// How many layers, each fed by the output of the one before; 1 unless said otherwise.
    pub fn layers(mut self, layers: usize) -> Self {
        self.config.layers = layers;
        self
    }

    /// Whether there are biases; there are unless said otherwise.
    pub fn bias(mut self, bias: bool) -> Self {
        self.config.bias = bias;
        self
    }

    /// Whether each layer also runs from the last step to the first. The output of a step then holds the states of both directions, one behind
    /// the other.
    pub fn bidirectional(mut self, both: bool) -> Self {
        self.config.bidirectional = both;
        self
    }

    /// Whether input and output are \[batch, steps, ..\] rather than \[steps, batch, ..\]. States never are.
    pub fn batch_first(mut self, batch_first: bool) -> Self {
        self.config.batch_first = batch_first;
        self
    }

    /// Dropout of each number between the layers, while training. It does nothing in a single layer.
    pub fn dropout(mut self, p: f64) -> Self {
        self.config.dropout = p;
        self
    }

    /// Variational dropout (Gal & Ghahramani 2016), while training: one mask for a whole sequence on the inputs of each layer, and another on the
    /// state on its way into the gates, both with probability `p`.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let lstm: LSTM = LSTM::new(3, 4).variational_dropout(0.25).build(&mut gradus::rng(0))?;
    /// let net = Tape::new(7).watch(&lstm);
    /// let x = Tensor::ones([5, 2, 3])?;
    /// assert_ne!(net.forward(&x)?, lstm.forward(&x)?);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn variational_dropout(mut self, p: f64) -> Self {
        self.config.variational = p;
        self
    }

    fn check(&self) -> Result<()> {
        let c = &self.config;
        check_layers(c.name, c.layers)?;
        for (what, n) in [("hidden size", c.hidden), ("number of layers", c.layers)] {
            if n == 0 {
                return Err(Error::argument(
                    c.name,
                    format!("the {what} is 0; it must be at least 1"),
                ));
            }
        }
        for (what, p) in [("dropout", c.dropout), ("variational_dropout", c.variational)] {
            if !(0.0..=1.0).contains(&p) {
                let message = format!("{what}: the probability is {p}; it must be between 0 and 1");
                return Err(Error::argument(c.name, message));
            }
        }
        if c.projection >= c.hidden {
            let message = format!(
                "proj_size={} must be smaller than the hidden size, {}",
                c.projection, c.hidden
            );
            return Err(Error::argument(c.name, message));
        }
        Ok(())
    }
}

impl<L: Recurrent> RecurrentBuilder<L> {
    /// The layer, its parameters drawn from `rng`, all uniform in ±1/√hidden.
    ///
    /// # Errors
    /// [`Error::Argument`] if the hidden size or the number of layers is 0, a probability is not one, or a projection is not smaller than the
    /// hidden size; [`Error::Overflow`] if a weight does not fit in memory.
    pub fn build(self, rng: &mut (impl Rng + ?Sized)) -> Result<L> {
        self.check()?;
        let c = self.config;
        let (state, directions) = (c.state(), c.directions());
        let rows = c.hidden.checked_mul(c.cell.gates()).ok_or_else(|| Error::Overflow {
            op: c.name,
            shape: vec![c.cell.gates(), c.hidden, c.inputs],
        })?;
        let mut weights = Vec::new();
        for layer in 0..c.layers {
            let inputs = if layer == 0 { c.inputs } else { state * directions };
            for _ in 0..directions {
                weights.push(draw(c, rows, inputs, rng)?);
            }
        }
        Ok(L::of(Stack { config: c, weights, mode: Mode::new() }))
    }
}

/// The parameters of one direction of a layer, in the order of their names in PyTorch.
pub(super) fn draw<T: Float>(
    c: Config,
    rows: usize,
    inputs: usize,
    rng: &mut (impl Rng + ?Sized),
) -> Result<RecurrentWeights<T>> {
    let fans = Fans { fan_in: c.hidden, fan_out: c.hidden };
    let mut param = |shape: &[usize]| -> Result<Param<T>> {
        Ok(Param::new(Init::Default.tensor_with(shape, fans, rng)?))
    };
    Ok(RecurrentWeights {
        weight_ih: param(&[rows, inputs])?,
        weight_hh: param(&[rows, c.state()])?,
        bias_ih: c.bias.then(|| param(&[rows])).transpose()?,
        bias_hh: c.bias.then(|| param(&[rows])).transpose()?,
        weight_hr: (c.projection > 0).then(|| param(&[c.state(), c.hidden])).transpose()?,
    })
}

impl<T: Float> RecurrentBuilder<LSTM<T>> {
    /// A projection of the state to this size, smaller than the hidden one, before it goes to the output and the next step (Sak et al. 2014);
    /// 0, the default, is none.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let lstm: LSTM = LSTM::new(3, 8).proj_size(2).build(&mut gradus::rng(0))?;
    /// let (y, (h, c)) = lstm.forward_with(&Tensor::zeros([5, 4, 3])?, None)?;
    /// assert_eq!((y.shape(), h.shape(), c.shape()), (&[5, 4, 2][..], &[1, 4, 2][..], &[1, 4, 8][..]));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn proj_size(mut self, size: usize) -> Self {
        self.config.projection = size;
        self
    }
}

impl<T: Float> RecurrentBuilder<RNN<T>> {
    /// The rectifier max(0, ·) in place of tanh.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let rnn: RNN = RNN::new(3, 8).relu().build(&mut gradus::rng(0))?;
    /// assert!(rnn.forward(&Tensor::ones([5, 4, 3])?)?.iter().all(|h| h >= 0.0));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn relu(mut self) -> Self {
        self.config.cell = Cell::Relu;
        self
    }
}
