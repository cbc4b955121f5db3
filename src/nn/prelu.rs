//! PReLU as a layer.

use super::{Layer, Param};
use crate::Module;
use crate::error::Result;
use crate::float::Float;
use crate::ops::prelu::prelu;
use crate::tensor::Tensor;

/// x, or w x for x ≤ 0, with a w that is learnt, one or one for each channel (He et al. 2015), see [`Tensor::prelu`].
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::PReLU;
/// let layer: PReLU = PReLU::new(1, 0.25)?;
/// assert_eq!(layer.forward(&Tensor::from([-4.0, 3.0]))?.to_vec(), [-1.0, 3.0]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct PReLU<T: Float = f32> {
    /// w: \[1\] or \[channels\].
    pub weight: Param<T>,
}

impl<T: Float> PReLU<T> {
    /// So many weights (1, or one for each index of axis 1) that start as `init`; PyTorch's defaults are 1 and 0.25.
    ///
    /// # Errors
    /// [`Error::Overflow`](crate::Error::Overflow) if they do not fit in memory.
    pub fn new(weights: usize, init: f64) -> Result<Self> {
        Ok(PReLU { weight: Param::new(Tensor::full([weights], T::of(init))?) })
    }
}

impl<T: Float> Layer<T> for PReLU<T> {
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if there is neither one weight nor one for each channel.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        self.weight.within(|| prelu("PReLU", x, &self.weight))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;

    #[test]
    fn the_weight_learns() {
        let layer = PReLU::<f64>::new(2, 0.25).unwrap();
        let x = Tensor::from([[-1.0, 2.0], [-3.0, -4.0]]);
        let y = Tape::new(0).watch(&layer).forward(&x).unwrap();
        assert_eq!(y.to_vec(), [-0.25, 2.0, -0.75, -1.0]);
        let g = y.backward_with(&y.ones_like()).unwrap();
        assert_eq!(g.get(&layer.weight).unwrap().to_vec(), [-4.0, -4.0]);
        let e = layer.forward(&Tensor::zeros([2, 3]).unwrap()).unwrap_err().to_string();
        assert!(
            e.starts_with("PReLU: the weight has shape [2]; it must be one number or one"),
            "{e}"
        );
    }
}
