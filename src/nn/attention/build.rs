//! What a multi-head attention will be.

use std::marker::PhantomData;

use rand::Rng;

use super::{MultiHeadAttention, NAME};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::nn::{Dense, Init, Mode, Param};
use crate::ops::Rotary;
use crate::tensor::Tensor;

/// What a [`MultiHeadAttention`] will be.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::{MultiHeadAttention, Rotary};
/// // As in Llama: eight heads of queries share two of keys and values, rotary positions, no biases.
/// let mha: MultiHeadAttention = MultiHeadAttention::new(64, 8)
///     .kv_heads(2)
///     .rotary(Rotary::new(8)?)
///     .bias(false)
///     .causal(true)
///     .build(&mut gradus::rng(0))?;
/// assert_eq!(mha.param_paths(), ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"]);
/// assert_eq!(mha.forward(&Tensor::ones([3, 10, 64])?)?.shape(), [3, 10, 64]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "call build(rng) to get the layer"]
pub struct MultiHeadAttentionBuilder<T: Float = f32> {
    embed_dim: usize,
    num_heads: usize,
    kv_heads: Option<usize>,
    kdim: Option<usize>,
    vdim: Option<usize>,
    bias: bool,
    add_bias_kv: bool,
    add_zero_attn: bool,
    dropout: f64,
    causal: bool,
    batch_first: bool,
    rotary: Option<Rotary>,
    element: PhantomData<T>,
}

impl<T: Float> MultiHeadAttentionBuilder<T> {
    pub(super) fn new(embed_dim: usize, num_heads: usize) -> Self {
        MultiHeadAttentionBuilder {
            embed_dim,
            num_heads,
            kv_heads: None,
            kdim: None,
            vdim: None,
            bias: true,
            add_bias_kv: false,
            add_zero_attn: false,
            dropout: 0.0,
            causal: false,
            batch_first: true,
            rotary: None,
            element: PhantomData,
        }
    }

    /// Whether the projections have biases; they have unless said otherwise.
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// The width of keys, `embed_dim` unless said otherwise.
    pub fn kdim(mut self, width: usize) -> Self {
        self.kdim = Some(width);
        self
    }

    /// The width of values, `embed_dim` unless said otherwise.
    pub fn vdim(mut self, width: usize) -> Self {
        self.vdim = Some(width);
        self
    }

    /// Heads of keys and values, each shared by as many heads of queries (grouped-query attention, Ainslie et al., 2023); 1 is multi-query attention
    /// (Shazeer, 2019). As many as heads of queries unless said otherwise.
    pub fn kv_heads(mut self, heads: usize) -> Self {
        self.kv_heads = Some(heads);
        self
    }

    /// The probability with which a weight is dropped while training; 0 unless said otherwise.
    pub fn dropout(mut self, p: f64) -> Self {
        self.dropout = p;
        self
    }

    /// Whether every position sees itself and earlier ones alone, always. [`Attend::causal`](super::Attend::causal) says it for one call.
    pub fn causal(mut self, causal: bool) -> Self {
        self.causal = causal;
        self
    }

    /// Whether a key and a value that are learnt stand behind all others.
    pub fn add_bias_kv(mut self, add: bool) -> Self {
        self.add_bias_kv = add;
        self
    }

    /// Whether a key and a value of zeros stand behind all others, so that a query can attend to nothing.
    pub fn add_zero_attn(mut self, add: bool) -> Self {
        self.add_zero_attn = add;
        self
    }

    /// Whether the batch is the first axis, \[batch, positions, width\], as it is unless said otherwise, or the second one,
    /// \[positions, batch, width\] (PyTorch's default).
    pub fn batch_first(mut self, first: bool) -> Self {
        self.batch_first = first;
        self
    }

    /// Turns queries and keys by their positions before they meet.
    pub fn rotary(mut self, rotary: Rotary) -> Self {
        self.rotary = Some(rotary);
        self
    }

    /// What does not fit together, if anything.
    fn check(&self) -> Result<()> {
        let (width, heads, kv) = (self.embed_dim, self.num_heads, self.kv());
        let complain = |message: String| Err(Error::argument(NAME, message));
        if heads == 0 || width == 0 || !width.is_multiple_of(heads) {
            return complain(format!(
                "a width of {width} does not divide into {heads} heads: embed_dim must be a positive multiple of num_heads"
            ));
        }
        if width.checked_mul(3).is_none() {
            return Err(Error::Overflow { op: NAME, shape: vec![3, width, width] });
        }
        if kv == 0 || !heads.is_multiple_of(kv) {
            return complain(format!(
                "{heads} heads of queries cannot share {kv} heads of keys and values: the second number must divide the first"
            ));
        }
        if !(0.0..=1.0).contains(&self.dropout) {
            return complain(format!(
                "the probability of dropout is {}; it must be between 0 and 1",
                self.dropout
            ));
        }
        if let Some(r) = self.rotary.as_ref().filter(|r| r.width() > width / heads) {
            return complain(format!(
                "rotary positions of width {} do not fit heads of width {}",
                r.width(),
                width / heads
            ));
        }
        Ok(())
    }

    fn kv(&self) -> usize {
        self.kv_heads.unwrap_or(self.num_heads)
    }

    /// The layer, its parameters drawn from `rng` as in PyTorch: projections Xavier-uniform, the last one uniform in ±1/√embed_dim, biases 0.
    ///
    /// # Errors
    /// [`Error::Argument`] if `embed_dim` is no positive multiple of `num_heads`, heads cannot be shared as asked, the probability is none, or the
    /// rotary positions are wider than a head.
    pub fn build(self, rng: &mut (impl Rng + ?Sized)) -> Result<MultiHeadAttention<T>> {
        self.check()?;
        let width = self.embed_dim;
        let shared = self.kv() * (width / self.num_heads);
        let (kdim, vdim) = (self.kdim.unwrap_or(width), self.vdim.unwrap_or(width));
        let xavier = |shape: [usize; 2], rng: &mut _| -> Result<Option<Param<T>>> {
            Ok(Some(Param::new(Init::xavier_uniform().tensor(shape, rng)?)))
        };
        let (mut all, mut q, mut k, mut v) = (None, None, None, None);
        if (kdim, vdim, shared) == (width, width, width) {
            all = xavier([3 * width, width], &mut *rng)?;
        } else {
            q = xavier([width, width], &mut *rng)?;
            k = xavier([shared, kdim], &mut *rng)?;
            v = xavier([shared, vdim], &mut *rng)?;
        }
        let out_proj =
            Dense::new(width, width).bias(self.bias).bias_init(Init::Zeros).build(&mut *rng)?;
        let mut extra = || -> Result<Option<Param<T>>> {
            match self.add_bias_kv {
                true => {
                    let x = Init::xavier_normal().tensor([1, 1, shared], &mut *rng)?;
                    Ok(Some(Param::new(x)))
                }
                false => Ok(None),
            }
        };
        let (bias_k, bias_v) = (extra()?, extra()?);
        let in_proj_bias = match self.bias {
            true => Some(Param::new(Tensor::zeros([width + 2 * shared])?)),
            false => None,
        };
        Ok(MultiHeadAttention {
            in_proj_weight: all,
            q_proj_weight: q,
            k_proj_weight: k,
            v_proj_weight: v,
            in_proj_bias,
            bias_k,
            bias_v,
            out_proj,
            num_heads: self.num_heads,
            kv_heads: self.kv(),
            dropout: self.dropout,
            causal: self.causal,
            add_zero_attn: self.add_zero_attn,
            batch_first: self.batch_first,
            rotary: self.rotary,
            mode: Mode::new(),
        })
    }
}
