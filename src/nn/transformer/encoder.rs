//! The encoder: attention of a sequence to itself.

use rand::Rng;

use super::{Activation, TransformerBuilder, feed_forward, part};
use crate::Module;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::nn::check_layers;
use crate::nn::{Attend, Dense, Dropout, KvCache, Layer, LayerNorm, MultiHeadAttention};
use crate::tensor::Tensor;

/// A layer of an encoder: x = norm1(x + attention(x)), then norm2(x + W₂ act(W₁ x)), or with the normalisations first. With a causal mask it is
/// a layer of a language model such as GPT.
///
/// Input and result \[batch, positions, d_model\]. Parameters have PyTorch's names.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::TransformerEncoderLayer;
/// let layer: TransformerEncoderLayer =
///     TransformerEncoderLayer::new(16, 4).dim_feedforward(32).build(&mut gradus::rng(0))?;
/// assert_eq!(layer.forward(&Tensor::ones([2, 5, 16])?)?.shape(), [2, 5, 16]);
/// assert_eq!(layer.param_paths()[..2], ["self_attn.in_proj_weight", "self_attn.in_proj_bias"]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct TransformerEncoderLayer<T: Float = f32> {
    /// The attention.
    pub self_attn: MultiHeadAttention<T>,
    /// From `d_model` to `dim_feedforward`.
    pub linear1: Dense<T>,
    /// And back.
    pub linear2: Dense<T>,
    /// Of the attention.
    pub norm1: LayerNorm<T>,
    /// Of the feed-forward part.
    pub norm2: LayerNorm<T>,
    dropout: Dropout,
    norm_first: bool,
    #[module(skip)]
    activation: Activation,
}

impl<T: Float> TransformerEncoderLayer<T> {
    /// Starts a layer of this width and number of heads.
    #[allow(clippy::new_ret_no_self)] // A layer cannot be made before the generator is there.
    pub fn new(d_model: usize, nhead: usize) -> TransformerBuilder<Self> {
        TransformerBuilder::new(d_model, nhead, [0, 0])
    }

    /// [`forward`](Layer::forward) with masks: PyTorch's `src_mask` is [`Attend::attn_mask`], its `src_key_padding_mask` is
    /// [`Attend::key_padding_mask`].
    ///
    /// # Errors
    /// [`Error::Shape`] if the input or a mask does not fit.
    pub fn forward_with(&self, x: &Tensor<T>, attend: &Attend<T>) -> Result<Tensor<T>> {
        self.run(x, |x| self.self_attn.attend(x, x, x, attend))
    }

    /// Positions that continue those in the cache, see [`MultiHeadAttention::continued`].
    ///
    /// # Errors
    /// As there.
    pub fn continued(&self, x: &Tensor<T>, cache: &mut KvCache<T>) -> Result<Tensor<T>> {
        self.run(x, |x| self.self_attn.continued(x, cache))
    }

    fn run(
        &self,
        x: &Tensor<T>,
        attention: impl FnOnce(&Tensor<T>) -> Result<Tensor<T>>,
    ) -> Result<Tensor<T>> {
        let x = part(x, &self.norm1, self.norm_first, &self.dropout, attention)?;
        part(&x, &self.norm2, self.norm_first, &self.dropout, |x| {
            feed_forward(x, [&self.linear1, &self.linear2], self.activation, &self.dropout)
        })
    }
}

impl<T: Float> Layer<T> for TransformerEncoderLayer<T> {
    /// # Errors
    /// [`Error::Shape`] if the input does not fit.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        self.forward_with(x, &Attend::new())
    }
}

impl<T: Float> TransformerBuilder<TransformerEncoderLayer<T>> {
    /// The layer, its parameters drawn from `rng`.
    ///
    /// # Errors
    /// [`Error::Argument`] if `d_model` is no positive multiple of `nhead`, or a number is outside its domain.
    pub fn build(&self, rng: &mut (impl Rng + ?Sized)) -> Result<TransformerEncoderLayer<T>> {
        let self_attn = self.attention(&mut *rng)?;
        let (linear1, linear2) = self.linear(rng)?;
        Ok(TransformerEncoderLayer {
            self_attn,
            linear1,
            linear2,
            norm1: self.norm()?,
            norm2: self.norm()?,
            dropout: Dropout::new(self.dropout)?,
            norm_first: self.norm_first,
            activation: self.activation,
        })
    }
}

/// A stack of encoder layers, each on the result of the one before, and a normalisation at the end if asked for.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::TransformerEncoder;
/// let encoder: TransformerEncoder =
///     TransformerEncoder::new(16, 4, 2).dim_feedforward(32).build(&mut gradus::rng(0))?;
/// // The second sequence has three positions; the rest is padding.
/// let padding = Tensor::from([[false; 5], [false, false, false, true, true]]);
/// let y = encoder.forward_with(&Tensor::ones([2, 5, 16])?, &Attend::new().key_padding_mask(padding))?;
/// assert_eq!(y.shape(), [2, 5, 16]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct TransformerEncoder<T: Float = f32> {
    /// The layers, first to last.
    pub layers: Vec<TransformerEncoderLayer<T>>,
    /// What normalises the result.
    pub norm: Option<LayerNorm<T>>,
}

impl<T: Float> TransformerEncoder<T> {
    /// Starts a stack of `layers` layers of this width and number of heads.
    #[allow(clippy::new_ret_no_self)] // A layer cannot be made before the generator is there.
    pub fn new(d_model: usize, nhead: usize, layers: usize) -> TransformerBuilder<Self> {
        TransformerBuilder::new(d_model, nhead, [layers, 0])
    }

    /// [`forward`](Layer::forward) with masks, the same for each layer; see [`TransformerEncoderLayer::forward_with`].
    ///
    /// # Errors
    /// [`Error::Shape`] if the input or a mask does not fit.
    pub fn forward_with(&self, x: &Tensor<T>, attend: &Attend<T>) -> Result<Tensor<T>> {
        let mut x = x.clone();
        for layer in &self.layers {
            x = layer.forward_with(&x, attend)?;
        }
        self.last(x)
    }

    /// Empty caches for [`continued`](Self::continued), one for each layer.
    pub fn caches(&self) -> Vec<KvCache<T>> {
        self.layers.iter().map(|_| KvCache::new()).collect()
    }

    /// Positions that continue those in the caches: what a causal mask gives for the whole sequence, step by step.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::TransformerEncoder;
    /// let mut rng = gradus::rng(0);
    /// let model: TransformerEncoder = TransformerEncoder::new(8, 2, 2).dim_feedforward(16).build(&mut rng)?;
    /// let x = Tensor::randn([1, 3, 8], &mut rng)?;
    /// let whole = model.forward_with(&x, &Attend::new().causal(true))?;
    /// let mut caches = model.caches();
    /// for i in 0..3 {
    ///     let y = model.continued(&x.narrow(1, i, 1)?, &mut caches)?;
    ///     assert!((y - whole.narrow(1, i, 1)?).abs().max()?.item()? < 1e-5);
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if there is not a cache for each layer; otherwise as [`MultiHeadAttention::continued`].
    pub fn continued(&self, x: &Tensor<T>, caches: &mut [KvCache<T>]) -> Result<Tensor<T>> {
        if caches.len() != self.layers.len() {
            return Err(Error::argument(
                "TransformerEncoder",
                format!("{} caches for {} layers", caches.len(), self.layers.len()),
            ));
        }
        let mut x = x.clone();
        for (layer, cache) in self.layers.iter().zip(caches) {
            x = layer.continued(&x, cache)?;
        }
        self.last(x)
    }

    fn last(&self, x: Tensor<T>) -> Result<Tensor<T>> {
        match &self.norm {
            Some(norm) => norm.forward(&x),
            None => Ok(x),
        }
    }
}

impl<T: Float> Layer<T> for TransformerEncoder<T> {
    /// # Errors
    /// [`Error::Shape`] if the input does not fit.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        self.forward_with(x, &Attend::new())
    }
}

impl<T: Float> TransformerBuilder<TransformerEncoder<T>> {
    /// The stack, its parameters drawn from `rng` layer by layer.
    ///
    /// # Errors
    /// As for a layer.
    pub fn build(&self, rng: &mut (impl Rng + ?Sized)) -> Result<TransformerEncoder<T>> {
        let one = self.to::<TransformerEncoderLayer<T>>();
        check_layers("TransformerEncoder", self.layers[0])?;
        let layers = (0..self.layers[0]).map(|_| one.build(&mut *rng)).collect::<Result<_>>()?;
        Ok(TransformerEncoder { layers, norm: self.last_norm()? })
    }
}
