//! Broadcasting undone: the gradient of an input that was repeated is the sum over its repetitions. No other file sums for that reason.

use crate::float::Float;
use crate::tensor::Tensor;

/// Sums `g` over the axes along which a tensor of `shape` was repeated to get `g`'s shape. Not recorded.
pub(crate) fn sum_to<T: Float>(g: &Tensor<T>, shape: &[usize]) -> Tensor<T> {
    if g.shape() == shape {
        return g.detach();
    }
    let dense = g.dense();
    let values = dense.as_slice().unwrap_or(&[]);
    let len: usize = shape.iter().product();
    let trimmed = &shape[shape.iter().take_while(|&&d| d == 1).count()..];
    Tensor::build(shape, |out| {
        out.fill(T::ZERO);
        if len == 1 {
            out[0] = sum(values);
        } else if len > 0 && g.shape().ends_with(trimmed) {
            sum_rows(values, out);
        } else {
            let places = crate::tensor::Layout::dense(shape).expand(g.shape());
            for (&v, at) in values.iter().zip(places.offsets()) {
                out[at] += v;
            }
        }
    })
}

/// The sum of the rows of a matrix with `out.len()` columns: blocks of rows first, so that rounding errors grow slowly.
fn sum_rows<T: Float>(values: &[T], out: &mut [T]) {
    const ROWS: usize = 64;
    let n = out.len();
    if values.len() <= ROWS * n {
        for row in values.chunks_exact(n) {
            out.iter_mut().zip(row).for_each(|(o, &v)| *o += v);
        }
        return;
    }
    let mut partial = vec![T::ZERO; n];
    for block in values.chunks(ROWS * n) {
        partial.fill(T::ZERO);
        sum_rows(block, &mut partial);
        out.iter_mut().zip(&partial).for_each(|(o, &v)| *o += v);
    }
}

/// A sum in 16 lanes of short runs, combined in pairs.
fn sum<T: Float>(values: &[T]) -> T {
    const RUN: usize = 2048;
    if values.len() > RUN {
        let half = (values.len() / 2).next_multiple_of(RUN).min(values.len() - 1);
        return sum(&values[..half]) + sum(&values[half..]);
    }
    let mut lanes = [T::ZERO; 16];
    let mut chunks = values.chunks_exact(16);
    for chunk in &mut chunks {
        lanes.iter_mut().zip(chunk).for_each(|(l, &v)| *l += v);
    }
    lanes.iter_mut().zip(chunks.remainder()).for_each(|(l, &v)| *l += v);
    lanes.into_iter().fold(T::ZERO, |s, v| s + v)
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
