//! The same normalisations from elementary operations: the recorded form of their gradients, and what the tests compare the loops with.

use super::slice;
use crate::error::Result;
use crate::float::Float;
use crate::tensor::{Dims, Tensor};

/// How elements share statistics and weights, whichever normalisation it is.
pub(super) struct Sharing {
    /// The input's shape for the statistics, and the axes that they are taken over.
    pub(super) stat: (Dims, Dims),
    /// The input's shape for the weights, and theirs in it: sizes of 1 where they repeat.
    pub(super) view: (Dims, Dims),
    /// Whether the mean is subtracted.
    pub(super) centre: bool,
    pub(super) eps: f64,
}

impl Sharing {
    /// The axes along which a weight repeats.
    fn repeats(&self) -> Dims {
        (0..self.view.1.len()).filter(|&a| self.view.1[a] == 1).collect()
    }

    /// x̂ and r, in the shape of the statistics.
    fn normal<T: Float>(&self, x: &Tensor<T>) -> Result<(Tensor<T>, Tensor<T>)> {
        let (shape, axes) = (&self.stat.0, &self.stat.1[..]);
        let x = x.reshape(shape)?;
        let x = if self.centre { x.try_sub(&x.mean_axes(axes, true)?)? } else { x };
        let r = x.square().mean_axes(axes, true)?.add_scalar(T::of(self.eps)).rsqrt();
        Ok((x.try_mul(&r)?, r))
    }

    /// y = x̂ w + b
    #[cfg(test)]
    pub(super) fn forward<T: Float>(
        &self,
        x: &Tensor<T>,
        weight: Option<&Tensor<T>>,
        bias: Option<&Tensor<T>>,
    ) -> Result<Tensor<T>> {
        let mut y = self.normal(x)?.0.reshape(&self.view.0)?;
        if let Some(w) = weight {
            y = y.try_mul(&w.reshape(&self.view.1)?)?;
        }
        if let Some(b) = bias {
            y = y.try_add(&b.reshape(&self.view.1)?)?;
        }
        y.reshape(x.shape())
    }

    /// dx, dw and db; statistics are constants if they are given.
    pub(super) fn gradients<T: Float>(
        &self,
        x: &Tensor<T>,
        weight: Option<&Tensor<T>>,
        given: Option<(&Tensor<T>, &Tensor<T>)>,
        g: &Tensor<T>,
        affine: &[usize],
    ) -> Result<[Tensor<T>; 3]> {
        let (normal, r) = match given {
            Some((mean, r)) => {
                let shape = &self.view.1;
                let r = r.reshape(shape)?;
                let x = x.reshape(&self.view.0)?;
                (x.try_sub(&mean.reshape(shape)?)?.try_mul(&r)?, r)
            }
            None => self.normal(x)?,
        };
        let g = g.reshape(&self.view.0)?;
        let h = match weight {
            Some(w) => g.try_mul(&w.reshape(&self.view.1)?)?,
            None => g.clone(),
        };
        let mut dx = if given.is_some() { h } else { h.reshape(&self.stat.0)? };
        if given.is_none() {
            let axes = &self.stat.1[..];
            let along = normal.try_mul(&dx.try_mul(&normal)?.mean_axes(axes, true)?)?;
            if self.centre {
                dx = dx.try_sub(&dx.mean_axes(axes, true)?)?;
            }
            dx = dx.try_sub(&along)?;
        }
        let dx = dx.try_mul(&r)?.reshape(x.shape())?;
        let repeats = &self.repeats()[..];
        let sum = |t: Tensor<T>| t.sum_axes(repeats, false)?.reshape(affine);
        let dw = sum(g.try_mul(&normal.reshape(&self.view.0)?)?)?;
        Ok([dx, dw, sum(g)?])
    }
}

/// The optional weight and bias of a call, by which of them is there.
pub(super) fn present<'a, T: Float>(
    x: &'a Tensor<T>,
    weight: Option<&'a Tensor<T>>,
    bias: Option<&'a Tensor<T>>,
) -> Vec<&'a Tensor<T>> {
    [Some(x), weight, bias].into_iter().flatten().collect()
}

/// Which of the inputs after x is the weight and which the bias, and the gradients in that order.
#[derive(Clone, Copy)]
pub(super) struct Affine {
    pub(super) weight: bool,
    pub(super) bias: bool,
}

impl Affine {
    pub(super) fn of<T: Float>(weight: Option<&Tensor<T>>, bias: Option<&Tensor<T>>) -> Self {
        Affine { weight: weight.is_some(), bias: bias.is_some() }
    }
    pub(super) fn weight<'a, T: Float>(&self, x: &[&'a Tensor<T>]) -> Option<&'a Tensor<T>> {
        x.get(1).copied().filter(|_| self.weight)
    }
    pub(super) fn bias<'a, T: Float>(&self, x: &[&'a Tensor<T>]) -> Option<&'a Tensor<T>> {
        x.get(1 + usize::from(self.weight)).copied().filter(|_| self.bias)
    }
    pub(super) fn gradients<T: Float>(
        &self,
        [dx, dw, db]: [Tensor<T>; 3],
    ) -> Vec<Option<Tensor<T>>> {
        let maybe = |there: bool, d: Tensor<T>| there.then_some(Some(d));
        [Some(Some(dx)), maybe(self.weight, dw), maybe(self.bias, db)]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// Dense copies of an optional tensor's elements.
pub(super) fn dense<T: Float>(t: Option<&Tensor<T>>) -> Option<Tensor<T>> {
    t.map(Tensor::dense)
}

/// The elements of an optional dense tensor.
pub(super) fn elements<T: Float>(t: &Option<Tensor<T>>) -> Option<&[T]> {
    t.as_ref().map(slice)
}
