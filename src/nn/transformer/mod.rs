//! Transformers: layers of attention and of a small network for each position (Vaswani et al., 2017).
//!
//! | file | subject |
//! | --- | --- |
//! | `mod.rs` | the options, which all of them share |
//! | `encoder.rs` | a layer and a stack that look at themselves alone |
//! | `decoder.rs` | a layer and a stack that also look at a memory |
//! | `both.rs` | an encoder whose result is the memory of a decoder |

mod both;
mod decoder;
mod encoder;
#[cfg(test)]
mod tests;

pub use both::Transformer;
pub use decoder::{DecoderCache, TransformerDecoder, TransformerDecoderLayer};
pub use encoder::{TransformerEncoder, TransformerEncoderLayer};

use std::marker::PhantomData;

use rand::Rng;

use super::{Dense, Dropout, Layer, LayerNorm, MultiHeadAttention};
use crate::error::Result;
use crate::float::Float;
use crate::tensor::Tensor;

/// What stands between the two linear layers of a transformer's feed-forward part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// max(0, x), as in the paper.
    #[default]
    ReLU,
    /// x Φ(x), as in BERT.
    GELU,
    /// Its approximation by tanh, as in GPT-2.
    GELUTanh,
    /// x σ(x).
    SiLU,
}

impl Activation {
    fn apply<T: Float>(self, x: &Tensor<T>) -> Tensor<T> {
        match self {
            Activation::ReLU => x.relu(),
            Activation::GELU => x.gelu(),
            Activation::GELUTanh => x.gelu_tanh(),
            Activation::SiLU => x.silu(),
        }
    }
}

/// What a transformer, or a layer of one, will be. The defaults are PyTorch's, but for the batch, which is the first axis here.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::{Activation, TransformerEncoder};
/// // A small language model's trunk, as in GPT-2.
/// let trunk: TransformerEncoder = TransformerEncoder::new(32, 4, 2)
///     .dim_feedforward(128)
///     .activation(Activation::GELUTanh)
///     .norm_first(true)
///     .final_norm(true)
///     .dropout(0.0)
///     .build(&mut gradus::rng(0))?;
/// let y = trunk.forward_with(&Tensor::ones([3, 10, 32])?, &Attend::new().causal(true))?;
/// assert_eq!(y.shape(), [3, 10, 32]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "call build(rng) to get the layer"]
pub struct TransformerBuilder<L> {
    d_model: usize,
    nhead: usize,
    /// Layers of the encoder and of the decoder, for stacks.
    layers: [usize; 2],
    dim_feedforward: usize,
    dropout: f64,
    activation: Activation,
    layer_norm_eps: f64,
    batch_first: bool,
    norm_first: bool,
    bias: bool,
    final_norm: bool,
    made: PhantomData<L>,
}

impl<L> TransformerBuilder<L> {
    fn new(d_model: usize, nhead: usize, layers: [usize; 2]) -> Self {
        TransformerBuilder {
            d_model,
            nhead,
            layers,
            dim_feedforward: 2048,
            dropout: 0.1,
            activation: Activation::ReLU,
            layer_norm_eps: 1e-5,
            batch_first: true,
            norm_first: false,
            bias: true,
            final_norm: false,
            made: PhantomData,
        }
    }

    /// The same options for something else.
    fn to<M>(&self) -> TransformerBuilder<M> {
        TransformerBuilder {
            d_model: self.d_model,
            nhead: self.nhead,
            layers: self.layers,
            dim_feedforward: self.dim_feedforward,
            dropout: self.dropout,
            activation: self.activation,
            layer_norm_eps: self.layer_norm_eps,
            batch_first: self.batch_first,
            norm_first: self.norm_first,
            bias: self.bias,
            final_norm: self.final_norm,
            made: PhantomData,
        }
    }

    /// The width between the two linear layers, 2048 unless said otherwise.
    pub fn dim_feedforward(mut self, width: usize) -> Self {
        self.dim_feedforward = width;
        self
    }

    /// The probability of dropout while training, 0.1 unless said otherwise: of weights of attention, between the two linear layers, and of what each
    /// part adds.
    pub fn dropout(mut self, p: f64) -> Self {
        self.dropout = p;
        self
    }

    /// What stands between the two linear layers, ReLU unless said otherwise.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// What normalisation adds to the variance, 1e-5 unless said otherwise.
    pub fn layer_norm_eps(mut self, eps: f64) -> Self {
        self.layer_norm_eps = eps;
        self
    }

    /// Whether inputs are \[batch, positions, width\], as they are unless said otherwise, or \[positions, batch, width\] (PyTorch's default).
    pub fn batch_first(mut self, first: bool) -> Self {
        self.batch_first = first;
        self
    }

    /// Whether each part normalises its input, x + f(norm(x)), which trains more easily (Xiong et al., 2020), instead of the sum, norm(x + f(x)).
    pub fn norm_first(mut self, first: bool) -> Self {
        self.norm_first = first;
        self
    }

    /// Whether linear layers and normalisations have biases; they have unless said otherwise.
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// Whether a stack ends with a normalisation, which stacks that [`norm_first`](Self::norm_first) want. Not unless said otherwise, but always in a
    /// [`Transformer`].
    pub fn final_norm(mut self, norm: bool) -> Self {
        self.final_norm = norm;
        self
    }

    fn attention<T: Float>(&self, rng: &mut (impl Rng + ?Sized)) -> Result<MultiHeadAttention<T>> {
        MultiHeadAttention::new(self.d_model, self.nhead)
            .bias(self.bias)
            .dropout(self.dropout)
            .batch_first(self.batch_first)
            .build(rng)
    }

    /// The two linear layers.
    fn linear<T: Float>(&self, rng: &mut (impl Rng + ?Sized)) -> Result<(Dense<T>, Dense<T>)> {
        let (outer, inner) = (self.d_model, self.dim_feedforward);
        Ok((
            Dense::new(outer, inner).bias(self.bias).build(&mut *rng)?,
            Dense::new(inner, outer).bias(self.bias).build(rng)?,
        ))
    }

    fn norm<T: Float>(&self) -> Result<LayerNorm<T>> {
        LayerNorm::new(self.d_model).eps(self.layer_norm_eps).bias(self.bias).build()
    }

    fn last_norm<T: Float>(&self) -> Result<Option<LayerNorm<T>>> {
        if self.final_norm { self.norm().map(Some) } else { Ok(None) }
    }
}

/// One part of a layer: x + drop(f(x)), normalised before or after.
fn part<T: Float>(
    x: &Tensor<T>,
    norm: &LayerNorm<T>,
    norm_first: bool,
    dropout: &Dropout,
    f: impl FnOnce(&Tensor<T>) -> Result<Tensor<T>>,
) -> Result<Tensor<T>> {
    if norm_first {
        let y = dropout.forward(&f(&norm.forward(x)?)?)?;
        return x.try_add(&y);
    }
    let y = dropout.forward(&f(x)?)?;
    norm.forward(&x.try_add(&y)?)
}

/// The network of each position: W₂ drop(act(W₁ x + b₁)) + b₂.
fn feed_forward<T: Float>(
    x: &Tensor<T>,
    [linear1, linear2]: [&Dense<T>; 2],
    activation: Activation,
    dropout: &Dropout,
) -> Result<Tensor<T>> {
    let inner = activation.apply(&linear1.forward(x)?);
    linear2.forward(&dropout.forward(&inner)?)
}
