//! The decoder: attention of a sequence to itself and to a memory.

use rand::Rng;

use super::{Activation, TransformerBuilder, feed_forward, part};
use crate::Module;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::nn::check_layers;
use crate::nn::{
    Attend, Dense, Dropout, KvCache, Layer, LayerNorm, MemoryCache, MultiHeadAttention,
};
use crate::tensor::Tensor;

/// What a decoder layer keeps from step to step: keys and values of the positions so far and of the memory.
#[derive(Clone, Debug)]
pub struct DecoderCache<T: Float = f32> {
    /// Of the sequence itself.
    pub itself: KvCache<T>,
    /// Of the memory.
    pub memory: MemoryCache<T>,
}

impl<T: Float> DecoderCache<T> {
    /// An empty one.
    pub fn new() -> Self {
        DecoderCache { itself: KvCache::new(), memory: MemoryCache::new() }
    }
}

impl<T: Float> Default for DecoderCache<T> {
    fn default() -> Self {
        DecoderCache::new()
    }
}

/// A layer of a decoder: x = norm1(x + attention(x)), x = norm2(x + attention(x, memory)), then norm3(x + W₂ act(W₁ x)), or with the
/// normalisations first.
///
/// Input and result \[batch, positions, d_model\], memory \[batch, positions of the memory, d_model\]. Parameters have PyTorch's names.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::TransformerDecoderLayer;
/// let layer: TransformerDecoderLayer =
///     TransformerDecoderLayer::new(16, 4).dim_feedforward(32).build(&mut gradus::rng(0))?;
/// let (x, memory) = (Tensor::ones([2, 5, 16])?, Tensor::ones([2, 7, 16])?);
/// let y = layer.forward_with(&x, &memory, &Attend::new().causal(true), &Attend::new())?;
/// assert_eq!(y.shape(), [2, 5, 16]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct TransformerDecoderLayer<T: Float = f32> {
    /// The attention to the sequence itself.
    pub self_attn: MultiHeadAttention<T>,
    /// The attention to the memory.
    pub multihead_attn: MultiHeadAttention<T>,
    /// From `d_model` to `dim_feedforward`.
    pub linear1: Dense<T>,
    /// And back.
    pub linear2: Dense<T>,
    /// Of the attention to itself.
    pub norm1: LayerNorm<T>,
    /// Of the attention to the memory.
    pub norm2: LayerNorm<T>,
    /// Of the feed-forward part.
    pub norm3: LayerNorm<T>,
    dropout: Dropout,
    norm_first: bool,
    #[module(skip)]
    activation: Activation,
}

impl<T: Float> TransformerDecoderLayer<T> {
    /// Starts a layer of this width and number of heads.
    #[allow(clippy::new_ret_no_self)] // A layer cannot be made before the generator is there.
    pub fn new(d_model: usize, nhead: usize) -> TransformerBuilder<Self> {
        TransformerBuilder::new(d_model, nhead, [0, 0])
    }

    /// The result for a sequence and a memory. `itself` says what the sequence may not see of itself (PyTorch's `tgt_mask` and `tgt_key_padding_mask`),
    /// `of_memory` what of the memory (`memory_mask` and `memory_key_padding_mask`).
    ///
    /// # Errors
    /// [`Error::Shape`] if an input or a mask does not fit.
    pub fn forward_with(
        &self,
        x: &Tensor<T>,
        memory: &Tensor<T>,
        itself: &Attend<T>,
        of_memory: &Attend<T>,
    ) -> Result<Tensor<T>> {
        self.run(
            x,
            |x| self.self_attn.attend(x, x, x, itself),
            |x| self.multihead_attn.attend(x, memory, memory, of_memory),
        )
    }

    /// Positions that continue those in the cache, see [`MultiHeadAttention::continued`], with the memory's keys and values computed at the first step
    /// alone.
    ///
    /// # Errors
    /// As there.
    pub fn continued(
        &self,
        x: &Tensor<T>,
        memory: &Tensor<T>,
        cache: &mut DecoderCache<T>,
        of_memory: &Attend<T>,
    ) -> Result<Tensor<T>> {
        self.run(
            x,
            |x| self.self_attn.continued(x, &mut cache.itself),
            |x| self.multihead_attn.attend_memory(x, memory, of_memory, &mut cache.memory),
        )
    }

    fn run(
        &self,
        x: &Tensor<T>,
        attention: impl FnOnce(&Tensor<T>) -> Result<Tensor<T>>,
        of_memory: impl FnOnce(&Tensor<T>) -> Result<Tensor<T>>,
    ) -> Result<Tensor<T>> {
        let (first, drop) = (self.norm_first, &self.dropout);
        let x = part(x, &self.norm1, first, drop, attention)?;
        let x = part(&x, &self.norm2, first, drop, of_memory)?;
        part(&x, &self.norm3, first, drop, |x| {
            feed_forward(x, [&self.linear1, &self.linear2], self.activation, drop)
        })
    }
}

impl<T: Float> TransformerBuilder<TransformerDecoderLayer<T>> {
    /// The layer, its parameters drawn from `rng`.
    ///
    /// # Errors
    /// [`Error::Argument`] if `d_model` is no positive multiple of `nhead`, or a number is outside its domain.
    pub fn build(&self, rng: &mut (impl Rng + ?Sized)) -> Result<TransformerDecoderLayer<T>> {
        let self_attn = self.attention(&mut *rng)?;
        let multihead_attn = self.attention(&mut *rng)?;
        let (linear1, linear2) = self.linear(rng)?;
        Ok(TransformerDecoderLayer {
            self_attn,
            multihead_attn,
            linear1,
            linear2,
            norm1: self.norm()?,
            norm2: self.norm()?,
            norm3: self.norm()?,
            dropout: Dropout::new(self.dropout)?,
            norm_first: self.norm_first,
            activation: self.activation,
        })
    }
}

/// A stack of decoder layers, each on the result of the one before and on the same memory, and a normalisation at the end if asked for.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::TransformerDecoder;
/// let decoder: TransformerDecoder =
///     TransformerDecoder::new(16, 4, 2).dim_feedforward(32).build(&mut gradus::rng(0))?;
/// let (x, memory) = (Tensor::ones([2, 5, 16])?, Tensor::ones([2, 7, 16])?);
/// let y = decoder.forward_with(&x, &memory, &Attend::new().causal(true), &Attend::new())?;
/// assert_eq!(y.shape(), [2, 5, 16]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct TransformerDecoder<T: Float = f32> {
    /// The layers, first to last.
    pub layers: Vec<TransformerDecoderLayer<T>>,
    /// What normalises the result.
    pub norm: Option<LayerNorm<T>>,
}

impl<T: Float> TransformerDecoder<T> {
    /// Starts a stack of `layers` layers of this width and number of heads.
    #[allow(clippy::new_ret_no_self)] // A layer cannot be made before the generator is there.
    pub fn new(d_model: usize, nhead: usize, layers: usize) -> TransformerBuilder<Self> {
        TransformerBuilder::new(d_model, nhead, [0, layers])
    }

    /// The result for a sequence and a memory, see [`TransformerDecoderLayer::forward_with`].
    ///
    /// # Errors
    /// [`Error::Shape`] if an input or a mask does not fit.
    pub fn forward_with(
        &self,
        x: &Tensor<T>,
        memory: &Tensor<T>,
        itself: &Attend<T>,
        of_memory: &Attend<T>,
    ) -> Result<Tensor<T>> {
        let mut x = x.clone();
        for layer in &self.layers {
            x = layer.forward_with(&x, memory, itself, of_memory)?;
        }
        self.last(x)
    }

    /// Empty caches for [`continued`](Self::continued), one for each layer.
    pub fn caches(&self) -> Vec<DecoderCache<T>> {
        self.layers.iter().map(|_| DecoderCache::new()).collect()
    }

    /// Positions that continue those in the caches: what a causal mask gives for the whole sequence, step by step. The memory's keys and values are
    /// computed at the first step alone.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::TransformerDecoder;
    /// let mut rng = gradus::rng(0);
    /// let model: TransformerDecoder = TransformerDecoder::new(8, 2, 2).dim_feedforward(16).build(&mut rng)?;
    /// let (x, memory) = (Tensor::randn([1, 3, 8], &mut rng)?, Tensor::randn([1, 6, 8], &mut rng)?);
    /// let whole = model.forward_with(&x, &memory, &Attend::new().causal(true), &Attend::new())?;
    /// let mut caches = model.caches();
    /// for i in 0..3 {
    ///     let y = model.continued(&x.narrow(1, i, 1)?, &memory, &mut caches, &Attend::new())?;
    ///     assert!((y - whole.narrow(1, i, 1)?).abs().max()?.item()? < 1e-5);
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if there is not a cache for each layer; otherwise as [`MultiHeadAttention::continued`].
    pub fn continued(
        &self,
        x: &Tensor<T>,
        memory: &Tensor<T>,
        caches: &mut [DecoderCache<T>],
        of_memory: &Attend<T>,
    ) -> Result<Tensor<T>> {
        if caches.len() != self.layers.len() {
            return Err(Error::argument(
                "TransformerDecoder",
                format!("{} caches for {} layers", caches.len(), self.layers.len()),
            ));
        }
        let mut x = x.clone();
        for (layer, cache) in self.layers.iter().zip(caches) {
            x = layer.continued(&x, memory, cache, of_memory)?;
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

impl<T: Float> TransformerBuilder<TransformerDecoder<T>> {
    /// The stack, its parameters drawn from `rng` layer by layer.
    ///
    /// # Errors
    /// As for a layer.
    pub fn build(&self, rng: &mut (impl Rng + ?Sized)) -> Result<TransformerDecoder<T>> {
        let one = self.to::<TransformerDecoderLayer<T>>();
        check_layers("TransformerDecoder", self.layers[1])?;
        let layers = (0..self.layers[1]).map(|_| one.build(&mut *rng)).collect::<Result<_>>()?;
        Ok(TransformerDecoder { layers, norm: self.last_norm()? })
    }
}
