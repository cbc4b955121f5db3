//! Attention from single operations. The weights exist as a whole here.

use super::{Attention, AttentionMask, Operands, outer};
use crate::error::Result;
use crate::float::Float;
use crate::tensor::{Dims, Tensor};

/// K or V with each head repeated for the heads of Q that share it.
pub(super) fn repeated<T: Float>(x: &Tensor<T>, group: usize) -> Result<Tensor<T>> {
    if group == 1 {
        return Ok(x.clone());
    }
    let rank = x.rank();
    let mut wide: Dims = x.shape().into();
    wide.insert(rank - 2, group);
    let mut flat: Dims = x.shape().into();
    flat[rank - 3] *= group;
    x.unsqueeze(-3)?.expand(&wide)?.reshape(&flat)
}

/// The adjoint of [`repeated`]: the sum over the heads that share.
pub(super) fn summed<T: Float>(x: &Tensor<T>, group: usize) -> Result<Tensor<T>> {
    if group == 1 {
        return Ok(x.clone());
    }
    let rank = x.rank();
    let mut wide: Dims = x.shape().into();
    wide[rank - 3] /= group;
    wide.insert(rank - 2, group);
    x.reshape(&wide)?.sum_axes(-3, false)
}

/// The weights before dropout, for keys that were repeated.
pub(super) fn weights<T: Float>(
    q: &Tensor<T>,
    k: &Tensor<T>,
    options: &Attention<T>,
) -> Result<Tensor<T>> {
    let hidden = T::neg_infinity();
    let mut scores = q.matmul(&k.t()?)?.mul_scalar(T::of(options.factor(q.shape()[q.rank() - 1])));
    let (queries, keys) = (scores.shape()[scores.rank() - 2], scores.shape()[scores.rank() - 1]);
    for mask in &options.masks {
        scores = match mask {
            AttentionMask::Allow(mask) => scores.masked_fill(&mask.logical_not(), hidden)?,
            AttentionMask::Add(mask) => scores.try_add(mask)?,
        };
    }
    if let Some(start) = options.causal {
        let start = start.min(keys);
        let later = Tensor::from_vec(
            (0..queries * keys).map(|i| i % keys > i / keys + start).collect(),
            [queries, keys],
        )?;
        scores = scores.masked_fill(&later, hidden)?;
    }
    if keys == 0 {
        return Ok(scores);
    }
    // A row that is -∞ throughout would give NaN.
    let blind = scores.detach().amax(-1, true)?.eq_scalar(hidden);
    if !blind.any() {
        return scores.softmax(-1);
    }
    scores.masked_fill(&blind, T::ZERO)?.softmax(-1)?.masked_fill(&blind, T::ZERO)
}

/// The output and the weights.
pub(super) fn attention<T: Float>(
    x: &Operands<T>,
    options: &Attention<T>,
) -> Result<(Tensor<T>, Tensor<T>)> {
    let weights = weights(&x.q, &repeated(&x.k, x.group)?, options)?;
    let weights = match options.drops() {
        Some((p, seed)) => weights.dropout(p, seed)?,
        None => weights,
    };
    debug_assert_eq!(outer(&weights), outer(&x.q));
    Ok((weights.matmul(&repeated(&x.v, x.group)?)?, weights))
}

/// The gradients of q, k and v, by operations that can be recorded:
/// dV = drop(P)ᵀ g, dS = P ∘ (drop(g Vᵀ) - row sum), dQ = scale dS K, dK = scale dSᵀ Q.
pub(super) fn gradients<T: Float>(
    x: &Operands<T>,
    g: &Tensor<T>,
    options: &Attention<T>,
) -> Result<[Option<Tensor<T>>; 3]> {
    let drop = |x: Tensor<T>| match options.drops() {
        Some((p, seed)) => x.dropout(p, seed),
        None => Ok(x),
    };
    let scale = T::of(options.factor(x.q.shape()[x.q.rank() - 1]));
    let (k, v) = (repeated(&x.k, x.group)?, repeated(&x.v, x.group)?);
    let weights = weights(&x.q, &k, options)?;
    let dv = drop(weights.clone())?.t()?.matmul(g)?;
    let dp = weights.try_mul(&drop(g.matmul(&v.t()?)?)?)?;
    let ds = dp.try_sub(&weights.try_mul(&dp.sum_axes(-1, true)?)?)?.mul_scalar(scale);
    let dk = ds.t()?.matmul(&x.q)?;
    Ok([Some(ds.matmul(&k)?), Some(summed(&dk, x.group)?), Some(summed(&dv, x.group)?)])
}
