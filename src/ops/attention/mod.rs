//! Scaled dot-product attention.
//!
//! Y = softmax(scale Q·Kᵀ + mask)·V, the softmax over the keys (Vaswani et al., 2017, "Attention Is All You Need").
//!
//! | file | subject |
//! | --- | --- |
//! | `mod.rs` | the options, the method, what it checks |
//! | `fused.rs` | the recorded operation, by the tiled kernels |
//! | `packed.rs` | the same of the parts of one tensor |
//! | `composed.rs` | the same from single operations: where the weights or the gradient of a mask are wanted |

mod composed;
mod fused;
mod packed;
#[cfg(test)]
mod tests;

pub(crate) use packed::{Packing, packed_attention, split_heads};

use crate::element::Element;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::tensor::{Dims, Tensor, broadcast};

const NAME: &str = "scaled_dot_product_attention";

/// What a query may attend to. Its shape broadcasts to \[.., heads, queries, keys\].
#[derive(Clone, Debug)]
pub enum AttentionMask<T: Float = f32> {
    /// True where the query may attend to the key.
    Allow(Tensor<bool>),
    /// Added to the scaled scores: -∞ forbids.
    Add(Tensor<T>),
}

impl<T: Float> From<Tensor<bool>> for AttentionMask<T> {
    fn from(mask: Tensor<bool>) -> Self {
        AttentionMask::Allow(mask)
    }
}

impl<T: Float> From<&Tensor<bool>> for AttentionMask<T> {
    fn from(mask: &Tensor<bool>) -> Self {
        AttentionMask::Allow(mask.clone())
    }
}

impl<T: Float> From<Tensor<T>> for AttentionMask<T> {
    fn from(mask: Tensor<T>) -> Self {
        AttentionMask::Add(mask)
    }
}

impl<T: Float> From<&Tensor<T>> for AttentionMask<T> {
    fn from(mask: &Tensor<T>) -> Self {
        AttentionMask::Add(mask.clone())
    }
}

impl<T: Float> AttentionMask<T> {
    fn shape(&self) -> &[usize] {
        match self {
            AttentionMask::Allow(m) => m.shape(),
            AttentionMask::Add(m) => m.shape(),
        }
    }
}

/// Options of [`Tensor::scaled_dot_product_attention`]: no mask, no dropout, scale 1/√d unless said otherwise.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::Attention;
/// let x: Tensor = Tensor::randn([2, 4, 10, 8], &mut gradus::rng(0))?;
/// let y = x.scaled_dot_product_attention(&x, &x, &Attention::new().causal())?;
/// // The first position sees itself alone.
/// let (first, own) = (y.narrow(2, 0, 1)?, x.narrow(2, 0, 1)?);
/// assert!((first - own).abs().max()?.item()? < 1e-6);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Attention<T: Float = f32> {
    scale: Option<f64>,
    causal: Option<usize>,
    masks: Vec<AttentionMask<T>>,
    dropout: Option<(f64, u64)>,
}

impl<T: Float> Attention<T> {
    /// The defaults.
    pub fn new() -> Self {
        Attention { scale: None, causal: None, masks: Vec::new(), dropout: None }
    }

    /// What the scores are multiplied by, instead of 1/√d.
    pub fn scale(mut self, scale: f64) -> Self {
        self.scale = Some(scale);
        self
    }

    /// Query i attends to keys 0 to i alone.
    pub fn causal(self) -> Self {
        self.causal_from(0)
    }

    /// Query i, which stands at position `start` + i, attends to keys 0 to `start` + i alone: for queries that continue a sequence
    /// whose first `start` keys are known already.
    pub fn causal_from(mut self, start: usize) -> Self {
        self.causal = Some(start);
        self
    }

    /// A mask: of `bool`, true where the query may attend to the key, or of floats, which are added to the scaled scores. Several masks all apply.
    ///
    /// A query that may attend to nothing gets 0, as in PyTorch.
    pub fn mask(mut self, mask: impl Into<AttentionMask<T>>) -> Self {
        self.masks.push(mask.into());
        self
    }

    /// Sets weights to 0 with probability `p` and divides the others by 1 - `p`; the seed fixes which. In models
    /// [`MultiHeadAttention`](crate::nn::MultiHeadAttention) does this while it trains, with the seeds of the tape.
    pub fn dropout(mut self, p: f64, seed: u64) -> Self {
        self.dropout = Some((p, seed));
        self
    }

    /// The factor of the scores for queries of width `d`; of no width, whose scores are all 0, any will do.
    fn factor(&self, d: usize) -> f64 {
        self.scale.unwrap_or(1.0 / (d.max(1) as f64).sqrt())
    }

    /// What is to be dropped, if anything is.
    fn drops(&self) -> Option<(f64, u64)> {
        self.dropout.filter(|d| d.0 > 0.0)
    }

    /// Whether a gradient for a mask is asked for.
    fn learns_mask(&self) -> bool {
        self.masks.iter().any(|m| matches!(m, AttentionMask::Add(m) if m.is_recorded()))
    }
}

/// The operands after checking and broadcasting: the axes before the heads agree, K and V have 1/`group` of the heads of Q.
struct Operands<T: Float> {
    q: Tensor<T>,
    k: Tensor<T>,
    v: Tensor<T>,
    group: usize,
}

impl<T: Float> Operands<T> {
    fn new(
        q: &Tensor<T>,
        k: &Tensor<T>,
        v: &Tensor<T>,
        options: &Attention<T>,
    ) -> Result<Operands<T>> {
        let wrong = |what: String| {
            let shapes = format!("q {:?}, k {:?}, v {:?}", q.shape(), k.shape(), v.shape());
            Err(Error::shape(NAME, format!("{shapes}: {what}")))
        };
        let ([qo @ .., _, dq], [ko @ .., keys, dk], [vo @ .., values, _]) =
            (q.shape(), k.shape(), v.shape())
        else {
            return wrong("each must be [.., heads, positions, width]".into());
        };
        if dq != dk {
            return wrong(format!("queries and keys differ in width ({dq} ≠ {dk})"));
        }
        if keys != values {
            return wrong(format!("there are {keys} keys and {values} values"));
        }
        let group = match (qo.last(), ko.last(), vo.last()) {
            (Some(&h), Some(&hk), Some(&hv)) if hk == hv && hk > 0 && h.is_multiple_of(hk) => {
                h / hk
            }
            _ => 1,
        };
        // With fewer heads in K and V only the axes before the heads have to agree.
        let (qb, kb, vb) = match group {
            1 => (qo, ko, vo),
            _ => (&qo[..qo.len() - 1], &ko[..ko.len() - 1], &vo[..vo.len() - 1]),
        };
        let Ok(outer) = broadcast(NAME, kb, vb).and_then(|kv| broadcast(NAME, qb, &kv)) else {
            return wrong(
                "the axes before the positions neither broadcast, nor are the heads of q a multiple of those of k and v"
                    .into(),
            );
        };
        let full = |x: &Tensor<T>, own: usize| -> Result<Tensor<T>> {
            let mut shape = outer.clone();
            shape.extend_from_slice(&x.shape()[own..]);
            if shape[..] == *x.shape() { Ok(x.clone()) } else { x.expand(&shape) }
        };
        let all =
            Operands { q: full(q, qb.len())?, k: full(k, kb.len())?, v: full(v, vb.len())?, group };
        let mut scores: Dims = all.q.shape()[..all.q.rank() - 1].into();
        scores.push(*keys);
        for mask in &options.masks {
            if broadcast(NAME, mask.shape(), &scores).ok().as_ref() != Some(&scores) {
                return Err(Error::shape(
                    NAME,
                    format!(
                        "the mask {:?} does not broadcast to [.., queries, keys], which is {:?} here",
                        mask.shape(),
                        &scores[..]
                    ),
                ));
            }
        }
        if let Some((p, _)) = options.dropout
            && !(0.0..=1.0).contains(&p)
        {
            let message = format!("the probability of dropout is {p}; it must be from 0 to 1");
            return Err(Error::argument(NAME, message));
        }
        Ok(all)
    }
}

/// The sizes of a tensor's axes before the last two.
fn outer<T: Element>(x: &Tensor<T>) -> &[usize] {
    &x.shape()[..x.rank() - 2]
}

impl<T: Float> Tensor<T> {
    /// Attention of these queries to keys and values: softmax(scale Q·Kᵀ + mask)·V (Vaswani et al., 2017).
    ///
    /// Queries \[.., heads, S, d\], keys \[.., heads, K, d\], values \[.., heads, K, v\], result \[.., heads, S, v\]. The axes before the heads
    /// broadcast; K and V may have fewer heads than Q if their number divides that of Q, then each is shared by as many in a row
    /// (grouped-query attention, Ainslie et al., 2023).
    ///
    /// The weights are never held as a whole, neither here nor backward: memory grows with S + K, not with S·K. (A float mask that is
    /// itself recorded is the exception.)
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::Attention;
    /// let mut rng = gradus::rng(0);
    /// let q: Tensor = Tensor::randn([2, 8, 5, 16], &mut rng)?;
    /// let (k, v) = (Tensor::randn([2, 2, 7, 16], &mut rng)?, Tensor::ones([2, 2, 7, 3])?);
    /// let odd = Tensor::from_fn([7], |j| j as f32)?.gt_scalar(2.0);
    /// let y = q.scaled_dot_product_attention(&k, &v, &Attention::new().mask(odd))?;
    /// assert_eq!(y.shape(), [2, 8, 5, 3]);
    /// assert!((y - 1.0).abs().max()?.item()? < 1e-6);      // weights add up to 1
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the operands do not fit each other or a mask does not broadcast to \[.., heads, S, K\], [`Error::Argument`] for a
    /// probability of dropout outside 0 to 1.
    pub fn scaled_dot_product_attention(
        &self,
        k: &Self,
        v: &Self,
        options: &Attention<T>,
    ) -> Result<Self> {
        let all = Operands::new(self, k, v, options)?;
        if options.learns_mask() {
            return Ok(composed::attention(&all, options)?.0);
        }
        fused::attention(&all, options)
    }

    /// [`scaled_dot_product_attention`](Self::scaled_dot_product_attention), and its weights \[.., heads, S, K\], after dropout if there
    /// is any. Slower, and the weights are held as a whole: for looking at them.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::Attention;
    /// let x: Tensor = Tensor::zeros([1, 2, 4])?;
    /// let (_, weights) = x.attention_with_weights(&x, &x, &Attention::new().causal())?;
    /// assert_eq!(weights.to_vec(), [1.0, 0.0, 0.5, 0.5]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`scaled_dot_product_attention`](Self::scaled_dot_product_attention).
    pub fn attention_with_weights(
        &self,
        k: &Self,
        v: &Self,
        options: &Attention<T>,
    ) -> Result<(Self, Self)> {
        composed::attention(&Operands::new(self, k, v, options)?, options)
    }
}
