//! Multi-head attention and what belongs to it.

mod build;
mod cache;
mod masks;
mod positions;
#[cfg(test)]
mod tests;

pub use build::MultiHeadAttentionBuilder;
pub use cache::{KvCache, MemoryCache};
pub use masks::{Attend, Blocked};
pub use positions::{Alibi, LearnedPositions, LearnedPositionsBuilder, SinusoidalPositions};

use super::{Dense, Layer, Mode, Param};
use crate::Module;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::ops::attention::{Packing, packed_attention, split_heads};
use crate::ops::linear::linear;
use crate::ops::{Attention, Rotary};
use crate::tensor::Tensor;

const NAME: &str = "MultiHeadAttention";

/// Attention by several heads side by side, each on its own projection of queries, keys and values (Vaswani et al., 2017):
///
/// head_h = softmax(q_h k_hᵀ / √d) v_h,  y = concat(heads)·Wᵒᵀ + bᵒ,  with d = embed_dim / heads.
///
/// Queries \[batch, S, embed_dim\], keys \[batch, K, kdim\], values \[batch, K, vdim\], result \[batch, S, embed_dim\]; without the axis of the batch for one
/// sequence, and with positions before the batch after [`batch_first(false)`](MultiHeadAttentionBuilder::batch_first).
/// As a [`Layer`] it is self-attention. Parameters have PyTorch's names, so that its state dicts fit.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::{Attend, MultiHeadAttention};
/// let mut rng = gradus::rng(0);
/// let mha: MultiHeadAttention = MultiHeadAttention::new(16, 4).build(&mut rng)?;
/// let (x, memory) = (Tensor::randn([2, 5, 16], &mut rng)?, Tensor::randn([2, 7, 16], &mut rng)?);
/// assert_eq!(mha.forward(&x)?.shape(), [2, 5, 16]);
/// // The last two positions of the second memory are padding.
/// let padding = Tensor::from_fn([2, 7], |i| (i >= 12) as u8 as f32)?.gt_scalar(0.0);
/// let attend = Attend::new().key_padding_mask(&padding);
/// let (y, weights) = mha.attend_with_weights(&x, &memory, &memory, &attend, true)?;
/// assert_eq!((y.shape(), weights.shape()), (&[2, 5, 16][..], &[2, 5, 7][..]));
/// assert_eq!(weights.get([1, 0, 6])?, 0.0);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct MultiHeadAttention<T: Float = f32> {
    /// The projections of queries, keys and values one below the other: \[3·embed_dim, embed_dim\]. There unless keys or values
    /// have a width of their own.
    pub in_proj_weight: Option<Param<T>>,
    /// The projection of queries alone: \[embed_dim, embed_dim\].
    pub q_proj_weight: Option<Param<T>>,
    /// The projection of keys alone: \[kv_heads·d, kdim\].
    pub k_proj_weight: Option<Param<T>>,
    /// The projection of values alone: \[kv_heads·d, vdim\].
    pub v_proj_weight: Option<Param<T>>,
    /// The biases of the three projections, one after the other.
    pub in_proj_bias: Option<Param<T>>,
    /// A key that stands behind all others: \[1, 1, kv_heads·d\].
    pub bias_k: Option<Param<T>>,
    /// Its value.
    pub bias_v: Option<Param<T>>,
    /// The projection of the result.
    pub out_proj: Dense<T>,
    num_heads: usize,
    kv_heads: usize,
    dropout: f64,
    causal: bool,
    add_zero_attn: bool,
    batch_first: bool,
    #[module(skip)]
    rotary: Option<Rotary>,
    mode: Mode,
}

/// Queries, keys and values by heads: \[batch, heads, positions, d\].
struct Heads<T: Float> {
    q: Tensor<T>,
    k: Tensor<T>,
    v: Tensor<T>,
}

impl<T: Float> MultiHeadAttention<T> {
    /// Starts a layer of this width and number of heads; [`build`](MultiHeadAttentionBuilder::build) draws its parameters.
    #[allow(clippy::new_ret_no_self)] // A layer cannot be made before the generator is there.
    pub fn new(embed_dim: usize, num_heads: usize) -> MultiHeadAttentionBuilder<T> {
        MultiHeadAttentionBuilder::new(embed_dim, num_heads)
    }

    /// The width of queries and results.
    pub fn embed_dim(&self) -> usize {
        self.out_proj.outputs()
    }

    /// The number of heads.
    pub fn num_heads(&self) -> usize {
        self.num_heads
    }

    /// The number of heads of keys and values; fewer than [`num_heads`](Self::num_heads) if they are shared.
    pub fn kv_heads(&self) -> usize {
        self.kv_heads
    }

    /// The width of a head.
    pub fn head_dim(&self) -> usize {
        self.embed_dim() / self.num_heads
    }

    /// What these queries find among these keys and values.
    ///
    /// # Errors
    /// [`Error::Shape`] if an input or a mask does not fit.
    pub fn attend(
        &self,
        query: &Tensor<T>,
        key: &Tensor<T>,
        value: &Tensor<T>,
        options: &Attend<T>,
    ) -> Result<Tensor<T>> {
        let run = || {
            if query.is(key)
                && query.is(value)
                && self.extra() == 0
                && self.rotary.is_none()
                && let Some(w) = &self.in_proj_weight
            {
                self.check(query, key, value)?;
                let all = linear(NAME, query, w, self.in_proj_bias.as_deref())?;
                let packing = self.packing();
                let [q, k, v] = packing.parts(&all.detach())?;
                let options = self.options(&Heads { q, k, v }, options, query.rank())?;
                return self.joined(&packed_attention(&all, packing, &options)?, query.rank());
            }
            let x = self.heads(query, key, value, 0)?;
            let options = self.options(&x, options, query.rank())?;
            let (k, v) = self.with_extra(&x)?;
            let y = x.q.scaled_dot_product_attention(&k, &v, &options)?;
            self.joined(&y, query.rank())
        };
        self.within(run).inspect(|y| self.gives(y))
    }

    /// [`attend`](Self::attend), and the weights: \[batch, S, K\], the mean over the heads, or with `average` false each of them, \[batch, heads, S, K\]. While
    /// training, after dropout. Slower, for looking at them.
    ///
    /// # Errors
    /// As [`attend`](Self::attend).
    pub fn attend_with_weights(
        &self,
        query: &Tensor<T>,
        key: &Tensor<T>,
        value: &Tensor<T>,
        options: &Attend<T>,
        average: bool,
    ) -> Result<(Tensor<T>, Tensor<T>)> {
        let run = || {
            let x = self.heads(query, key, value, 0)?;
            let options = self.options(&x, options, query.rank())?;
            let (k, v) = self.with_extra(&x)?;
            let (y, mut w) = x.q.attention_with_weights(&k, &v, &options)?;
            if average {
                w = w.mean_axes(1, false)?;
            }
            if query.rank() == 2 {
                w = w.squeeze(0)?;
            }
            Ok((self.joined(&y, query.rank())?, w))
        };
        self.within(run)
    }

    /// Self-attention of positions that continue those in the cache, which they join: every position sees itself and all before it. Step by
    /// step it gives what the whole sequence gives at once with a causal mask.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::{KvCache, MultiHeadAttention};
    /// let mut rng = gradus::rng(0);
    /// let mha: MultiHeadAttention = MultiHeadAttention::new(8, 2).causal(true).build(&mut rng)?;
    /// let x = Tensor::randn([1, 5, 8], &mut rng)?;
    /// let mut cache = KvCache::new();
    /// mha.continued(&x.narrow(1, 0, 4)?, &mut cache)?;
    /// let last = mha.continued(&x.narrow(1, 4, 1)?, &mut cache)?;
    /// assert_eq!(cache.len(), 5);
    /// assert!((last - mha.forward(&x)?.narrow(1, 4, 1)?).abs().max()?.item()? < 1e-5);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` fits neither the layer nor what is in the cache, [`Error::Argument`] in a watched copy: what a cache
    /// holds has no gradient.
    pub fn continued(&self, x: &Tensor<T>, cache: &mut KvCache<T>) -> Result<Tensor<T>> {
        let run = || {
            self.check_no_gradients(x)?;
            let start = cache.len();
            let new = self.heads(x, x, x, start)?;
            let (k, v) = cache.extend(&new.k, &new.v)?;
            let x_heads = Heads { q: new.q, k, v };
            let options = self.masked(&x_heads, &Attend::new(), x.rank(), Some(start))?;
            let (k, v) = self.with_extra(&x_heads)?;
            let y = x_heads.q.scaled_dot_product_attention(&k, &v, &options)?;
            self.joined(&y, x.rank())
        };
        self.within(run)
    }

    /// [`attend`](Self::attend) to a memory that stays the same from step to step: its keys and values are computed once.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::{MemoryCache, MultiHeadAttention};
    /// let mut rng = gradus::rng(0);
    /// let mha: MultiHeadAttention = MultiHeadAttention::new(8, 2).build(&mut rng)?;
    /// let (x, memory) = (Tensor::randn([1, 1, 8], &mut rng)?, Tensor::randn([1, 20, 8], &mut rng)?);
    /// let mut cache = MemoryCache::new();
    /// let y = mha.attend_memory(&x, &memory, &Attend::new(), &mut cache)?;
    /// assert_eq!(y, mha.attend(&x, &memory, &memory, &Attend::new())?);
    /// assert_eq!(y, mha.attend_memory(&x, &memory, &Attend::new(), &mut cache)?);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`attend`](Self::attend), and [`Error::Argument`] in a watched copy: what a cache holds has no gradient.
    pub fn attend_memory(
        &self,
        query: &Tensor<T>,
        memory: &Tensor<T>,
        options: &Attend<T>,
        cache: &mut MemoryCache<T>,
    ) -> Result<Tensor<T>> {
        let run = || {
            self.check_no_gradients(query)?;
            self.check(query, memory, memory)?;
            let (k, v) = cache.of(memory, || {
                let k = self.turned(self.split(&self.project(1, memory)?, self.kv_heads)?, 0)?;
                Ok((k, self.split(&self.project(2, memory)?, self.kv_heads)?))
            })?;
            let q = self.turned(self.split(&self.project(0, query)?, self.num_heads)?, 0)?;
            let x = Heads { q, k, v };
            let options = self.options(&x, options, query.rank())?;
            let (k, v) = self.with_extra(&x)?;
            let y = x.q.scaled_dot_product_attention(&k, &v, &options)?;
            self.joined(&y, query.rank())
        };
        self.within(run)
    }

    fn check_no_gradients(&self, x: &Tensor<T>) -> Result<()> {
        if self.mode.is_training() || x.is_recorded() {
            return Err(Error::argument(
                NAME,
                "a cache holds no gradients: use it with the model, not with the copy that tape.watch returned",
            ));
        }
        Ok(())
    }

    /// Queries or keys turned by their positions, the first of which is `start`, if the layer does so.
    fn turned(&self, x: Tensor<T>, start: usize) -> Result<Tensor<T>> {
        match &self.rotary {
            Some(r) => r.forward_at(&x, start),
            None => Ok(x),
        }
    }

    /// Projects and splits into heads; the first position of all three is `start`, for rotary positions.
    fn heads(
        &self,
        query: &Tensor<T>,
        key: &Tensor<T>,
        value: &Tensor<T>,
        start: usize,
    ) -> Result<Heads<T>> {
        self.check(query, key, value)?;
        let [q, k, v] = self.projections(query, key, value)?;
        let q = self.split(&q, self.num_heads)?;
        let k = self.split(&k, self.kv_heads)?;
        let v = self.split(&v, self.kv_heads)?;
        let (q, k) = (self.turned(q, start)?, self.turned(k, start)?);
        Ok(Heads { q, k, v })
    }

    fn check(&self, query: &Tensor<T>, key: &Tensor<T>, value: &Tensor<T>) -> Result<()> {
        let shapes = || {
            format!("query {:?}, key {:?}, value {:?}", query.shape(), key.shape(), value.shape())
        };
        let rank = query.rank();
        if !(rank == 2 || rank == 3) || key.rank() != rank || value.rank() != rank {
            let expected = if self.batch_first { "[batch, positions" } else { "[positions, batch" };
            return Err(Error::shape(
                NAME,
                format!("{}: expected {expected}, width], or [positions, width] for all", shapes()),
            ));
        }
        let widths = [self.embed_dim(), self.width_of(1), self.width_of(2)];
        for ((name, x), width) in
            [("query", query), ("key", key), ("value", value)].into_iter().zip(widths)
        {
            if x.shape()[rank - 1] != width {
                return Err(Error::shape(
                    NAME,
                    format!(
                        "the {name} has shape {:?}; expected a last axis of {width}",
                        x.shape()
                    ),
                ));
            }
        }
        if key.shape()[..rank - 1] != value.shape()[..rank - 1] {
            return Err(Error::shape(
                NAME,
                format!("{}: there must be a value for each key", shapes()),
            ));
        }
        let batch = if self.batch_first { 0 } else { 1 };
        if rank == 3 && query.shape()[batch] != key.shape()[batch] {
            return Err(Error::shape(NAME, format!("{}: the batches differ", shapes())));
        }
        Ok(())
    }

    /// The width of the query (0), the key (1) or the value (2).
    fn width_of(&self, which: usize) -> usize {
        let own = [&self.q_proj_weight, &self.k_proj_weight, &self.v_proj_weight];
        own.get(which).copied().and_then(Option::as_ref).map_or(self.embed_dim(), |w| w.shape()[1])
    }

    /// All three projections. Self-attention computes them as one product, of which they are parts.
    fn projections(
        &self,
        query: &Tensor<T>,
        key: &Tensor<T>,
        value: &Tensor<T>,
    ) -> Result<[Tensor<T>; 3]> {
        match &self.in_proj_weight {
            Some(w) if query.is(key) && query.is(value) => {
                let all = linear(NAME, query, w, self.in_proj_bias.as_deref())?;
                let (own, shared) = (self.embed_dim(), self.kv_heads * self.head_dim());
                let part = |start, len| all.narrow(-1, start, len);
                Ok([part(0, own)?, part(own, shared)?, part(own + shared, shared)?])
            }
            _ => Ok([self.project(0, query)?, self.project(1, key)?, self.project(2, value)?]),
        }
    }

    /// The projection of the query (0), the key (1) or the value (2).
    fn project(&self, which: usize, x: &Tensor<T>) -> Result<Tensor<T>> {
        let (all, shared) = (self.embed_dim(), self.kv_heads * self.head_dim());
        let (from, len) = [(0, all), (all, shared), (all + shared, shared)][which];
        let bias = match &self.in_proj_bias {
            Some(b) => Some(b.narrow(0, from, len)?),
            None => None,
        };
        let own = [&self.q_proj_weight, &self.k_proj_weight, &self.v_proj_weight][which];
        match (own, &self.in_proj_weight) {
            (Some(w), _) => linear(NAME, x, w, bias.as_ref()),
            // A part of the weight rather than of the product: its gradient is put back into the smaller of the two.
            (_, Some(w)) => linear(NAME, x, &w.narrow(0, from, len)?, bias.as_ref()),
            (None, None) => Err(Error::argument(
                NAME,
                "there is neither in_proj_weight nor a weight for each projection",
            )),
        }
    }

    /// \[batch, positions, heads·d\] (in the order of the layer) to \[batch, heads, positions, d\].
    fn split(&self, x: &Tensor<T>, heads: usize) -> Result<Tensor<T>> {
        split_heads(x, heads, self.batch_first)
    }

    /// The way back: heads side by side, and the last projection.
    fn joined(&self, y: &Tensor<T>, rank: usize) -> Result<Tensor<T>> {
        let (batch, positions, width) = (y.shape()[0], y.shape()[2], self.embed_dim());
        let y = if rank == 2 {
            y.squeeze(0)?.permute([1, 0, 2])?.reshape([positions, width])?
        } else if self.batch_first {
            y.permute([0, 2, 1, 3])?.reshape([batch, positions, width])?
        } else {
            y.permute([2, 0, 1, 3])?.reshape([positions, batch, width])?
        };
        self.out_proj.forward(&y)
    }

    /// For summaries.
    fn gives(&self, y: &Tensor<T>) {
        if let Some(w) = self.in_proj_weight.as_ref().or(self.q_proj_weight.as_ref()) {
            w.gives(y);
        }
    }

    /// Runs what this layer computes, at its place in the model.
    fn within<R>(&self, run: impl FnOnce() -> Result<R>) -> Result<R> {
        match self.in_proj_weight.as_ref().or(self.q_proj_weight.as_ref()) {
            Some(w) => w.within(run),
            None => run(),
        }
    }

    /// How many keys `bias_k` and `add_zero_attn` put behind the others.
    fn extra(&self) -> usize {
        self.bias_k.is_some() as usize + self.add_zero_attn as usize
    }

    /// Keys and values with those that the layer adds.
    fn with_extra(&self, x: &Heads<T>) -> Result<(Tensor<T>, Tensor<T>)> {
        let add = |x: &Tensor<T>, bias: &Option<Param<T>>| -> Result<Tensor<T>> {
            let [batch, heads, _, d] = *x.shape() else { return Ok(x.clone()) };
            let mut all = vec![x.clone()];
            if let Some(bias) = bias {
                all.push(bias.reshape([1, heads, 1, d])?.expand([batch, heads, 1, d])?);
            }
            if self.add_zero_attn {
                all.push(Tensor::zeros([batch, heads, 1, d])?);
            }
            Tensor::concat(&all.iter().collect::<Vec<_>>(), 2)
        };
        match self.extra() {
            0 => Ok((x.k.clone(), x.v.clone())),
            _ => Ok((add(&x.k, &self.bias_k)?, add(&x.v, &self.bias_v)?)),
        }
    }

    /// How a projection by `in_proj_weight` is cut.
    fn packing(&self) -> Packing {
        Packing { heads: self.num_heads, kv_heads: self.kv_heads, batch_first: self.batch_first }
    }

    /// What [`attend`](Self::attend) asks of the attention.
    fn options(&self, x: &Heads<T>, options: &Attend<T>, rank: usize) -> Result<Attention<T>> {
        let causal = (self.causal || options.is_causal()).then_some(0);
        self.masked(x, options, rank, causal)
    }

    /// The masks as the attention takes them, and dropout while training.
    fn masked(
        &self,
        x: &Heads<T>,
        options: &Attend<T>,
        rank: usize,
        causal: Option<usize>,
    ) -> Result<Attention<T>> {
        let sizes = [x.q.shape()[0], self.num_heads, x.q.shape()[2], x.k.shape()[2]];
        let mut attention = options.masks(sizes, rank, self.extra())?;
        if let Some(start) = causal {
            attention = match self.extra() {
                0 => attention.causal_from(start),
                // What the layer adds is seen by all.
                extra => attention.mask(masks::causal(sizes[2], sizes[3], start, extra)?),
            };
        }
        if self.dropout > 0.0
            && let Some(seed) = self.mode.next_seed()
        {
            attention = attention.dropout(self.dropout, seed);
        }
        Ok(attention)
    }
}

impl<T: Float> Layer<T> for MultiHeadAttention<T> {
    /// Self-attention.
    ///
    /// # Errors
    /// As [`attend`](MultiHeadAttention::attend).
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        self.attend(x, x, x, &Attend::new())
    }
}
