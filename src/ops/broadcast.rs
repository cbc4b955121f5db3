//! Broadcasting undone: the gradient of an input that was repeated is the sum over its repetitions. No other file sums for that reason.

use super::elementwise::infallible;
use crate::float::Float;
use crate::kernel::reduce;
use crate::tensor::{Dims, Tensor};

/// Sums `g` over the axes along which a tensor of `shape` was repeated to get `g`'s shape. Recorded if `g` is.
pub(crate) fn sum_to<T: Float>(g: &Tensor<T>, shape: &[usize]) -> Tensor<T> {
    if g.shape() == shape {
        return g.clone();
    }
    let pad = g.rank() - shape.len();
    let repeated: Dims = (0..g.rank()).filter(|&i| i < pad || shape[i - pad] == 1).collect();
    if g.is_recorded() {
        let axes: Vec<isize> = repeated.iter().map(|&a| a as isize).collect();
        let sum = g.sum_axes(&axes[..], true).and_then(|s| s.reshape(shape));
        return infallible("sum over what was broadcast", sum);
    }
    Tensor::build(shape, |out| {
        if g.is_empty() {
            out.fill(T::ZERO);
        } else {
            reduce::fold(reduce::Sum, g.buffer(), g.layout(), &repeated, out);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_axes_are_summed_and_others_kept() {
        let g = Tensor::from([[1.0f64, 2.0, 3.0], [4.0, 5.0, 6.0]]);
        assert_eq!(sum_to(&g, &[2, 3]), g);
        assert_eq!(sum_to(&g, &[3]).to_vec(), [5.0, 7.0, 9.0]);
        assert_eq!(sum_to(&g, &[1, 3]).to_vec(), [5.0, 7.0, 9.0]);
        assert_eq!(sum_to(&g, &[2, 1]).to_vec(), [6.0, 15.0]);
        assert_eq!(sum_to(&g, &[]).to_vec(), [21.0]);
        assert_eq!(sum_to(&g, &[1, 1]).to_vec(), [21.0]);
        let empty = Tensor::<f64>::zeros([0, 3]).unwrap();
        assert_eq!(sum_to(&empty, &[1, 3]).to_vec(), [0.0; 3]);
        assert_eq!(sum_to(&empty, &[]).to_vec(), [0.0]);
    }

    #[test]
    fn long_sums_are_exact_where_they_can_be() {
        let g = Tensor::<f32>::ones([1000, 37]).unwrap();
        assert_eq!(sum_to(&g, &[37]).to_vec(), [1000.0; 37]);
        assert_eq!(sum_to(&g, &[1000, 1]).to_vec(), [37.0; 1000]);
        assert_eq!(sum_to(&g, &[]).to_vec(), [37000.0]);
    }
}
