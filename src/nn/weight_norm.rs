//! Layers whose weight is computed from other numbers: weight normalisation and spectral normalisation.

use rand::Rng;

use super::module::{Visitor, VisitorMut};
use super::{Buffer, Conv2d, Dense, Layer, Mode, Module, Param};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::ops::linear;
use crate::tensor::Tensor;

/// A layer with a weight, whose first axis counts the outputs, that also works with another weight in its place.
pub trait Weighted<T: Float = f32>: Layer<T> {
    /// Its weight.
    fn weight(&self) -> &Param<T>;

    /// The output with another weight of the same shape.
    ///
    /// # Errors
    /// As its `forward`.
    fn forward_with(&self, weight: &Tensor<T>, x: &Tensor<T>) -> Result<Tensor<T>>;
}

impl<T: Float> Weighted<T> for Dense<T> {
    fn weight(&self) -> &Param<T> {
        &self.weight
    }
    fn forward_with(&self, weight: &Tensor<T>, x: &Tensor<T>) -> Result<Tensor<T>> {
        self.weight.within(|| linear::linear("Dense", x, weight, self.bias.as_deref()))
    }
}

impl<T: Float> Weighted<T> for Conv2d<T> {
    fn weight(&self) -> &Param<T> {
        &self.weight
    }
    fn forward_with(&self, weight: &Tensor<T>, x: &Tensor<T>) -> Result<Tensor<T>> {
        self.weight.within(|| x.conv2d(weight, self.bias.as_deref(), self.params()))
    }
}

/// The weight as a matrix, a row for each output.
fn matrix<T: Float>(w: &Tensor<T>) -> Result<Tensor<T>> {
    let rows = w.shape().first().copied().unwrap_or(1);
    w.reshape([rows, w.len() / rows.max(1)])
}

/// Weight normalisation (Salimans and Kingma 2016): w = g v / ‖v‖ for each output, so that length and direction are learnt apart. The inner layer's
/// `weight` holds v, and `weight_g` the lengths.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::WeightNorm;
/// let dense: Dense = Dense::new(8, 4).build(&mut gradus::rng(0))?;
/// let layer = WeightNorm::new(dense.clone())?;
/// assert_eq!(layer.param_paths(), ["weight_g", "weight", "bias"]);
/// let x = Tensor::ones([2, 8])?;
/// let off = layer.forward(&x)?.try_sub(&dense.forward(&x)?)?.abs().max()?.item()?;
/// assert!(off < 1e-6);                                  // it starts as the same function
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct WeightNorm<L, T: Float = f32> {
    /// g: \[outputs, 1, ..\], with as many axes as the weight.
    pub weight_g: Param<T>,
    /// The layer, with v for its weight.
    pub inner: L,
}

impl<L: Module, T: Float> Module for WeightNorm<L, T> {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.field("weight_g", &self.weight_g);
        self.inner.visit(v);
    }
    fn visit_mut(&mut self, v: &mut VisitorMut<'_>) {
        v.field("weight_g", &mut self.weight_g);
        self.inner.visit_mut(v);
    }
}

/// ‖v‖ of each output, in the shape \[outputs, 1, ..\].
fn lengths<T: Float>(v: &Tensor<T>) -> Result<Tensor<T>> {
    v.norm_axes((1..v.rank()).collect::<Vec<_>>(), true)
}

impl<T: Float, L: Weighted<T>> WeightNorm<L, T> {
    /// Normalises the weight of this layer; the lengths start as they are.
    ///
    /// # Errors
    /// [`Error::Axis`] for a weight without axes.
    pub fn new(inner: L) -> Result<Self> {
        let weight_g = Param::new(lengths(inner.weight())?);
        Ok(WeightNorm { weight_g, inner })
    }
}

impl<T: Float, L: Weighted<T>> Layer<T> for WeightNorm<L, T> {
    /// # Errors
    /// As the inner layer.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let v = self.inner.weight();
        let scale = self.weight_g.try_div(&lengths(v)?)?;
        self.inner.forward_with(&v.try_mul(&scale)?, x)
    }
}

/// Spectral normalisation (Miyato et al. 2018): the weight divided by its largest singular value σ = uᵀ W v. The vectors u and v are found by power
/// iteration, a step of it at each forward pass while training.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::SpectralNorm;
/// let mut rng = gradus::rng(0);
/// let dense: Dense = Dense::new(8, 4).bias(false).build(&mut rng)?;
/// let layer = SpectralNorm::new(dense, &mut rng)?;
/// let x = Tensor::randn([100, 8], &mut rng)?;
/// let y = layer.forward(&x)?;                           // no vector becomes longer
/// let longer = y.norm_axes(1, false)?.try_gt(&x.norm_axes(1, false)?.mul_scalar(1.001))?;
/// assert!(!longer.any());
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SpectralNorm<L, T: Float = f32> {
    /// u: \[outputs\].
    pub weight_u: Buffer<T>,
    /// v: \[inputs of an output\].
    pub weight_v: Buffer<T>,
    /// The layer, with the weight that is learnt.
    pub inner: L,
    iterations: usize,
    eps: f64,
    mode: Mode,
}

impl<L: Module, T: Float> Module for SpectralNorm<L, T> {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.field("weight_u", &self.weight_u);
        v.field("weight_v", &self.weight_v);
        v.field("mode", &self.mode);
        self.inner.visit(v);
    }
    fn visit_mut(&mut self, v: &mut VisitorMut<'_>) {
        v.field("weight_u", &mut self.weight_u);
        v.field("weight_v", &mut self.weight_v);
        v.field("mode", &mut self.mode);
        self.inner.visit_mut(v);
    }
}

/// x / max(‖x‖, ε)
fn unit<T: Float>(x: &Tensor<T>, eps: f64) -> Result<Tensor<T>> {
    let length = x.norm().item()?;
    Ok(x.mul_scalar(T::ONE / if length > T::of(eps) { length } else { T::of(eps) }))
}

impl<T: Float, L: Weighted<T>> SpectralNorm<L, T> {
    /// Normalises the weight of this layer. u and v are drawn from `rng` and go through 15 steps of power iteration.
    ///
    /// # Errors
    /// [`Error::Argument`] for a weight without elements.
    pub fn new(inner: L, rng: &mut (impl Rng + ?Sized)) -> Result<Self> {
        let w = matrix(inner.weight())?;
        if w.is_empty() {
            let message = format!("the weight of shape {:?} is empty", inner.weight().shape());
            return Err(Error::argument("SpectralNorm", message));
        }
        let draw = |n: usize, rng: &mut _| Ok(Buffer::new(unit(&Tensor::randn([n], rng)?, 1e-12)?));
        let (weight_u, weight_v) = (draw(w.shape()[0], rng)?, draw(w.shape()[1], rng)?);
        let layer = SpectralNorm {
            weight_u,
            weight_v,
            inner,
            iterations: 1,
            eps: 1e-12,
            mode: Mode::new(),
        };
        layer.iterate(15)?;
        Ok(layer)
    }

    /// The same layer with so many steps of power iteration at each forward pass while training; 1 unless said otherwise.
    pub fn iterations(mut self, n: usize) -> Self {
        self.iterations = n;
        self
    }

    /// u ← W v, v ← Wᵀ u, each brought to length 1.
    fn iterate(&self, steps: usize) -> Result<()> {
        let w = matrix(self.inner.weight())?.detach();
        for _ in 0..steps {
            let u = unit(&w.matmul(&self.weight_v.get())?, self.eps)?;
            self.weight_v.set(unit(&w.t()?.matmul(&u)?, self.eps)?);
            self.weight_u.set(u);
        }
        Ok(())
    }
}

impl<T: Float, L: Weighted<T>> Layer<T> for SpectralNorm<L, T> {
    /// # Errors
    /// As the inner layer.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        if self.mode.is_training() {
            self.iterate(self.iterations)?;
        }
        let w = self.inner.weight();
        let sigma = matrix(w)?.matmul(&self.weight_v.get())?.try_mul(&self.weight_u.get())?.sum();
        self.inner.forward_with(&w.try_div(&sigma)?, x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::autograd::gradcheck;

    #[test]
    fn weight_norm_has_the_lengths_it_is_given() {
        let dense = Dense::<f64>::new(2, 2).bias(false).build(&mut crate::rng(0)).unwrap();
        let mut layer = WeightNorm::new(dense).unwrap();
        layer.inner.weight.set(Tensor::from([[3.0, 4.0], [0.0, 2.0]]));
        layer.weight_g.set(Tensor::from([[10.0], [1.0]]));
        let y = layer.forward(&Tensor::from([[1.0, 0.0], [0.0, 1.0]])).unwrap();
        let want = [6.0, 0.0, 8.0, 1.0];
        assert!(y.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12), "{y}");
        let x = Tensor::from([[0.3, -0.7]]);
        gradcheck(
            |[g, v]| {
                let mut layer = layer.clone();
                *layer.weight_g.value_mut() = g.clone();
                *layer.inner.weight.value_mut() = v.clone();
                layer.forward(&x)
            },
            [&layer.weight_g, &layer.inner.weight],
        )
        .unwrap();
        let conv = Conv2d::<f64>::new(2, 3, 3).build(&mut crate::rng(0)).unwrap();
        let x = Tensor::ones([1, 2, 4, 4]).unwrap();
        let same = WeightNorm::new(conv.clone()).unwrap().forward(&x).unwrap();
        let want = conv.forward(&x).unwrap();
        assert!(same.iter().zip(want.iter()).all(|(a, b)| (a - b).abs() < 1e-12));
    }

    #[test]
    fn spectral_norm_finds_the_largest_singular_value() {
        let mut dense = Dense::<f64>::new(2, 2).bias(false).build(&mut crate::rng(0)).unwrap();
        dense.weight.set(Tensor::from([[3.0, 0.0], [0.0, -5.0]]));
        let layer = SpectralNorm::new(dense, &mut crate::rng(1)).unwrap().iterations(30);
        let x = Tensor::from([[1.0, 0.0], [0.0, 1.0]]);
        let tape = Tape::new(0);
        let y = tape.watch(&layer).forward(&x).unwrap();
        let want = [0.6, 0.0, 0.0, -1.0];
        assert!(y.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-9), "{y}");
        let eval = layer.forward(&x).unwrap();
        assert_eq!(eval.to_vec(), y.to_vec());
        // y = W / σ: along W itself the gradient is 0, as the length does not matter.
        let g = y.backward_with(&y.detach()).unwrap();
        let g = g.get(&layer.inner.weight).unwrap();
        let along = g.try_mul(&layer.inner.weight.detach()).unwrap().sum().item().unwrap();
        assert!(along.abs() < 1e-9, "{along}");
        assert_eq!(layer.param_paths(), ["weight"]);
        let conv = Conv2d::<f64>::new(2, 3, 3).build(&mut crate::rng(0)).unwrap();
        let conv = SpectralNorm::new(conv, &mut crate::rng(1)).unwrap();
        assert_eq!(
            conv.forward(&Tensor::ones([1, 2, 4, 4]).unwrap()).unwrap().shape(),
            [1, 3, 2, 2]
        );
        let none = Dense::<f64>::new(0, 2).build(&mut crate::rng(0)).unwrap();
        assert!(SpectralNorm::new(none, &mut crate::rng(0)).is_err());
    }
}
