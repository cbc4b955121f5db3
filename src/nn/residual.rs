//! A layer with a path around it.

use super::{Identity, Layer};
use crate::Module;
use crate::error::Result;
use crate::float::Float;
use crate::tensor::Tensor;

/// y = p(x) + f(x), with the identity for p unless there is a projection (He et al. 2016).
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::Residual;
/// let mut rng = gradus::rng(0);
/// let block: Residual<Dense> = Residual::new(Dense::new(8, 8).build(&mut rng)?);
/// assert_eq!(block.forward(&Tensor::zeros([2, 8])?)?.shape(), [2, 8]);
/// // Where sizes differ, the path around needs a projection.
/// let wider: Residual<Dense, Dense> =
///     Residual::new(Dense::new(8, 16).build(&mut rng)?).projection(Dense::new(8, 16).bias(false).build(&mut rng)?);
/// assert_eq!(wider.forward(&Tensor::zeros([2, 8])?)?.shape(), [2, 16]);
/// assert_eq!(wider.param_paths(), ["inner.weight", "inner.bias", "projection.weight"]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct Residual<L, P = Identity> {
    /// f
    pub inner: L,
    /// p
    pub projection: P,
}

impl<L> Residual<L> {
    /// x + f(x)
    pub fn new(inner: L) -> Self {
        Residual { inner, projection: Identity }
    }
}

impl<L, P> Residual<L, P> {
    /// The same with a layer on the path around.
    pub fn projection<Q>(self, projection: Q) -> Residual<L, Q> {
        Residual { inner: self.inner, projection }
    }
}

impl<T: Float, L: Layer<T>, P: Layer<T>> Layer<T> for Residual<L, P> {
    /// # Errors
    /// What the layers return, and [`Error::Shape`](crate::Error::Shape) if their outputs do not fit each other.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        self.projection.forward(x)?.try_add(&self.inner.forward(x)?)
    }
}
