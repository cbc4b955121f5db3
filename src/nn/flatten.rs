//! From images to vectors.

use super::Layer;
use crate::Module;
use crate::error::Result;
use crate::float::Float;
use crate::tensor::Tensor;

/// Merges all axes but the first, the batch: \[n, c, h, w\] to \[n, c·h·w\]. A view wherever the layout allows.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::Flatten;
/// let x: Tensor = Tensor::zeros([8, 3, 4, 4])?;
/// assert_eq!(Flatten.forward(&x)?.shape(), [8, 48]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flatten;

impl<T: Float> Layer<T> for Flatten {
    /// # Errors
    /// [`Error::Axis`](crate::Error::Axis) for a single number, which has no batch axis.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        x.flatten(1..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_single_and_ordinary() {
        let shape = |s: &[usize]| {
            Flatten.forward(&Tensor::<f32>::zeros(s).unwrap()).unwrap().shape().to_vec()
        };
        assert_eq!(shape(&[0, 2, 3]), [0, 6]);
        assert_eq!(shape(&[4, 0, 3]), [4, 0]);
        assert_eq!(shape(&[1]), [1, 1]);
        assert_eq!(shape(&[2, 3]), [2, 3]);
        assert_eq!(shape(&[2, 3, 4, 5]), [2, 60]);
        assert!(Flatten.forward(&Tensor::<f32>::scalar(1.0)).is_err());
    }
}
