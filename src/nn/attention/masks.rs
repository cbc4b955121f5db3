//! What a query may not attend to, and how the layer's masks become those of the operation.

use super::NAME;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::ops::Attention;
use crate::tensor::{IntoShape, Tensor};

/// A mask as layers take it, with PyTorch's meaning: of `bool`, true where a query may *not* attend, or of floats, which are added to the
/// scores. (The operation itself, [`Attention::mask`], takes true where it may.)
#[derive(Clone, Debug)]
pub enum Blocked<T: Float = f32> {
    /// True where a query may not attend to the key.
    Where(Tensor<bool>),
    /// Added to the scaled scores: -∞ forbids.
    Add(Tensor<T>),
}

impl<T: Float> From<Tensor<bool>> for Blocked<T> {
    fn from(mask: Tensor<bool>) -> Self {
        Blocked::Where(mask)
    }
}

impl<T: Float> From<&Tensor<bool>> for Blocked<T> {
    fn from(mask: &Tensor<bool>) -> Self {
        Blocked::Where(mask.clone())
    }
}

impl<T: Float> From<Tensor<T>> for Blocked<T> {
    fn from(mask: Tensor<T>) -> Self {
        Blocked::Add(mask)
    }
}

impl<T: Float> From<&Tensor<T>> for Blocked<T> {
    fn from(mask: &Tensor<T>) -> Self {
        Blocked::Add(mask.clone())
    }
}

impl<T: Float> Blocked<T> {
    pub(crate) fn shape(&self) -> &[usize] {
        match self {
            Blocked::Where(m) => m.shape(),
            Blocked::Add(m) => m.shape(),
        }
    }

    /// In another shape of as many elements, or of more by repetition; behind its columns, `extra` ones that everybody sees.
    fn fitted(&self, shape: &[usize], keys: usize, extra: usize) -> Result<Self> {
        fn fit<M: Element>(
            m: &Tensor<M>,
            shape: &[usize],
            keys: usize,
            extra: usize,
            free: M,
        ) -> Result<Tensor<M>> {
            let m = m.reshape(shape)?;
            if extra == 0 {
                return Ok(m);
            }
            let mut full = m.shape().to_vec();
            full.pop();
            full.push(keys);
            let mut pads = vec![(0, 0); full.len()];
            pads[full.len() - 1] = (0, extra as isize);
            m.expand(full)?.pad(&pads, free)
        }
        Ok(match self {
            Blocked::Where(m) => Blocked::Where(fit(m, shape, keys, extra, false)?),
            Blocked::Add(m) => Blocked::Add(fit(m, shape, keys, extra, T::ZERO)?),
        })
    }

    fn put(self, attention: Attention<T>) -> Attention<T> {
        match self {
            Blocked::Where(m) => attention.mask(m.logical_not()),
            Blocked::Add(m) => attention.mask(m),
        }
    }
}

/// What [`MultiHeadAttention::attend`](super::MultiHeadAttention::attend) is to leave out: nothing unless said otherwise. All of it holds
/// together.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::{Attend, MultiHeadAttention};
/// let mha: MultiHeadAttention = MultiHeadAttention::new(4, 2).build(&mut gradus::rng(0))?;
/// let x = Tensor::ones([1, 3, 4])?;
/// let own = Tensor::<f32>::eye(3)?.eq_scalar(1.0);               // not to oneself
/// let (_, w) = mha.attend_with_weights(&x, &x, &x, &Attend::new().attn_mask(&own), true)?;
/// assert_eq!(w.get([0, 1, 1])?, 0.0);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Attend<T: Float = f32> {
    attn_mask: Option<Blocked<T>>,
    key_padding_mask: Option<Blocked<T>>,
    causal: bool,
}

impl<T: Float> Default for Attend<T> {
    fn default() -> Self {
        Attend { attn_mask: None, key_padding_mask: None, causal: false }
    }
}

impl<T: Float> Attend<T> {
    /// Every query attends to every key.
    pub fn new() -> Self {
        Attend::default()
    }

    /// A query attends to keys at its own and earlier positions alone.
    pub fn causal(mut self, causal: bool) -> Self {
        self.causal = causal;
        self
    }

    /// For each query and key, \[S, K\], or for each head of each sequence, \[batch·heads, S, K\] (as in PyTorch) or what broadcasts to \[batch, heads, S, K\]: true
    /// where the query may not attend, or numbers to be added.
    pub fn attn_mask(mut self, mask: impl Into<Blocked<T>>) -> Self {
        self.attn_mask = Some(mask.into());
        self
    }

    /// For each key, \[batch, K\] (or \[K\] for one sequence): true where it is padding, or numbers to be added.
    pub fn key_padding_mask(mut self, mask: impl Into<Blocked<T>>) -> Self {
        self.key_padding_mask = Some(mask.into());
        self
    }

    pub(crate) fn is_causal(&self) -> bool {
        self.causal
    }

    /// The masks of the operation, for \[batch, heads, queries, keys\] and inputs of `rank` axes. `extra` keys are added behind those.
    pub(super) fn masks(
        &self,
        [batch, heads, queries, keys]: [usize; 4],
        rank: usize,
        extra: usize,
    ) -> Result<Attention<T>> {
        let mut attention = Attention::new();
        if let Some(mask) = &self.attn_mask {
            let shape = match *mask.shape() {
                [q, k] if (q, k) == (queries, keys) => vec![q, k],
                [n, q, k] if (n, q, k) == (batch * heads, queries, keys) => {
                    vec![batch, heads, q, k]
                }
                [b, h, q, k]
                    if [(b, batch), (h, heads), (q, queries), (k, keys)]
                        .iter()
                        .all(|&(m, n)| m == n || m == 1) =>
                {
                    vec![b, h, q, k]
                }
                _ => {
                    return Err(Error::shape(
                        NAME,
                        format!(
                            "attn_mask has shape {:?}; expected [{queries}, {keys}] (queries, keys), [{}, {queries}, {keys}] \
                             (batch·heads before them) or [{batch}, {heads}, {queries}, {keys}]",
                            mask.shape(),
                            batch * heads
                        ),
                    ));
                }
            };
            attention = mask.fitted(&shape, keys, extra)?.put(attention);
        }
        if let Some(mask) = &self.key_padding_mask {
            let fits = match rank {
                2 => [keys].into_shape(),
                _ => [batch, keys].into_shape(),
            };
            if *mask.shape() != fits[..] {
                return Err(Error::shape(
                    NAME,
                    format!(
                        "key_padding_mask has shape {:?}; expected {:?}, a number for each key",
                        mask.shape(),
                        &fits[..]
                    ),
                ));
            }
            attention = mask.fitted(&[batch, 1, 1, keys], keys, extra)?.put(attention);
        }
        Ok(attention)
    }
}

/// True where query `i`, at position `start` + i, may attend to key `j`: up to its own position, and to the `extra` keys behind all.
pub(super) fn causal(
    queries: usize,
    keys: usize,
    start: usize,
    extra: usize,
) -> Result<Tensor<bool>> {
    let all = keys + extra;
    let seen = (0..queries * all).map(|n| {
        let (i, j) = (n / all, n % all);
        j <= start + i || j >= keys
    });
    Tensor::from_vec(seen.collect(), [queries, all])
}
