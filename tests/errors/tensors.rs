//! Mistakes with tensors: shapes, axes, indices, sizes.

use gradus::prelude::*;
use gradus::{Index, Slice};

use crate::{Table, panics_with};

fn zeros<const N: usize>(shape: [usize; N]) -> Tensor {
    Tensor::zeros(shape).expect("a small shape")
}

#[test]
fn creation() {
    let mut t = Table::default();
    t.says(
        || Tensor::<f32>::zeros([usize::MAX, 2]),
        "zeros: the shape [18446744073709551615, 2] does not fit in memory",
    );
    t.says(
        || Tensor::<f32>::ones([1 << 40, 1 << 40]),
        "ones: the shape [1099511627776, 1099511627776] does not fit in memory",
    );
    t.says(
        || Tensor::<f32>::full([1 << 62], 1.0),
        "full: the shape [4611686018427387904] does not fit in memory",
    );
    t.says(
        || Tensor::<f64>::eye(1 << 40),
        "eye: the shape [1099511627776, 1099511627776] does not fit in memory",
    );
    t.says(
        || Tensor::from_vec(vec![1.0f32, 2.0, 3.0], [2, 2]),
        "from_vec: 3 elements do not fill the shape [2, 2], which has 4",
    );
    t.says(
        || Tensor::from_vec(vec![1.0f32], [usize::MAX, 2]),
        "from_vec: the shape [18446744073709551615, 2] does not fit in memory",
    );
    t.says(
        || Tensor::<f32>::arange(0.0, 1.0, 0.0),
        "arange: start 0, end 1, step 0: all must be finite and the step not 0",
    );
    t.says(
        || Tensor::<f32>::arange(0.0, f32::INFINITY, 1.0),
        "arange: start 0, end inf, step 1: all must be finite and the step not 0",
    );
    t.says(
        || Tensor::<f32>::arange(0.0, 1e30, 1.0),
        "arange: the shape [18446744073709551615] does not fit in memory",
    );
    t.says(
        || Tensor::<i64>::arange(0, i64::MAX, 1),
        "arange: the shape [9223372036854775808] does not fit in memory",
    );
    t.says(
        || Tensor::<f32>::linspace(0.0, 1.0, usize::MAX),
        "linspace: the shape [18446744073709551615] does not fit in memory",
    );
    t.says(
        || Tensor::<f32>::normal([2], 0.0, -1.0, &mut gradus::rng(0)),
        "normal: mean 0, standard deviation -1: both must be finite, the second not negative",
    );
    t.says(
        || Tensor::<f32>::uniform([2], 1.0, 0.0, &mut gradus::rng(0)),
        "uniform: from 1 to 0: both must be finite and in this order",
    );
    t.says(
        || Tensor::<f32>::uniform([2], 0.0, f32::NAN, &mut gradus::rng(0)),
        "uniform: from 0 to NaN: both must be finite and in this order",
    );
}

#[test]
fn views() {
    let mut t = Table::default();
    let x = zeros([2, 3, 4]);
    t.says(|| x.reshape([5, 5]), "reshape: [2, 3, 4] to [5, 5]: 24 elements do not fill 25 places");
    t.says(
        || x.reshape([-1, 5]),
        "reshape: [2, 3, 4] to [-1, 5]: 24 elements are not a multiple of 5",
    );
    t.says(|| x.reshape([-1, -1]), "reshape: [2, 3, 4] to [-1, -1]: more than one size is -1");
    t.says(
        || x.reshape([-2, 12]),
        "reshape: [2, 3, 4] to [-2, 12]: a size is negative; only -1 (work it out) may be",
    );
    t.says(
        || zeros([0, 3]).reshape([-1, 0]),
        "reshape: [0, 3] to [-1, 0]: -1 cannot be worked out beside a size of 0",
    );
    t.says(|| x.reshape([usize::MAX, 2]), "reshape: [2, 3, 4] to [9223372036854775807, 2]: 24 elements do not fill 18446744073709551614 places");
    t.says(
        || x.transpose(0, 3),
        "transpose: axis 3 is out of range for a tensor of rank 3 (valid: -3..=2)",
    );
    t.says(
        || x.transpose(-4, 0),
        "transpose: axis -4 is out of range for a tensor of rank 3 (valid: -3..=2)",
    );
    t.says(
        || x.permute([0, 1]),
        "permute: 2 axes given for a tensor of shape [2, 3, 4]; name each once",
    );
    t.says(|| x.permute([0, 0, 1]), "permute: axis 0 is given twice");
    t.says(
        || Tensor::<f32>::zeros([1])?.expand([1 << 42]),
        "expand: the shape [4398046511104] does not fit in memory",
    );
    t.says(
        || x.expand([3, 3, 4]),
        "expand: [2, 3, 4] to [3, 3, 4]: only axes of size 1 and new leading axes can be repeated",
    );
    t.says(
        || x.expand([3]),
        "expand: [2, 3, 4] to [3]: only axes of size 1 and new leading axes can be repeated",
    );
    t.says(
        || x.squeeze(0),
        "squeeze: axis 0 of shape [2, 3, 4] has size 2; only axes of size 1 can go",
    );
    t.says(|| x.squeeze([0, 0]), "squeeze: axis 0 is given twice");
    t.says(
        || x.unsqueeze(4),
        "unsqueeze: axis 4 is out of range for a tensor of rank 4 (valid: -4..=3)",
    );
    t.says(|| x.flip(3), "flip: axis 3 is out of range for a tensor of rank 3 (valid: -3..=2)");
    t.says(
        || x.flatten(2..5),
        "flatten: axis 5 is out of range for a tensor of rank 3 (valid: -3..=2)",
    );
    #[allow(clippy::reversed_empty_ranges)]
    t.says(
        || x.flatten(2..1),
        "flatten: axis 2 is out of range for a tensor of rank 3 (valid: -3..=2)",
    );
    t.says(|| x.narrow(1, 2, 2), "narrow: index 3 is out of range for axis 1 of size 3");
    t.says(
        || x.narrow(1, usize::MAX, 2),
        "narrow: index 9223372036854775807 is out of range for axis 1 of size 3",
    );
    t.says(|| x.select(1, 3), "select: index 3 is out of range for axis 1 of size 3");
    t.says(|| x.select(1, -4), "select: index -4 is out of range for axis 1 of size 3");
    t.says(|| x.slice((0, 0, 0, 0)), "slice: 4 axes are indexed but the shape is [2, 3, 4]");
    t.says(|| x.slice((2, ..)), "select: index 2 is out of range for axis 0 of size 2");
    t.says(
        || x.slice(Slice::from(..).step(0)),
        "slice: the step is 0; it must be positive or negative",
    );
    t.says(
        || x.slice(vec![Index::from(-3)]),
        "select: index -3 is out of range for axis 0 of size 2",
    );
    t.says(|| x.get([0, 0]), "get: index [0, 0] has 2 numbers for shape [2, 3, 4]");
    t.says(|| x.get([0, 0, 4]), "get: index 4 is out of range for axis 2 of size 4");
    t.says(|| x.clone().set([2, 0, 0], 1.0), "set: index 2 is out of range for axis 0 of size 2");
    t.says(|| x.item(), "item: the tensor has 24 elements, shape [2, 3, 4]; item() reads the only one. Use get([..]) for one of several, to_vec() for all");
}

#[test]
fn joining_and_picking() {
    let mut t = Table::default();
    let x = zeros([2, 3]);
    t.says(|| Tensor::<f32>::concat(&[], 0), "concat: there is no tensor to join");
    t.says(|| Tensor::concat(&[&x, &zeros([2, 4])], 0), "concat: tensor 1 has shape [2, 4], the first [2, 3]; only axis 0, along which they are joined, may differ");
    t.says(|| Tensor::concat(&[&x, &zeros([2])], 0), "concat: tensor 1 has shape [2], the first [2, 3]; only axis 0, along which they are joined, may differ");
    t.says(
        || Tensor::stack(&[&x, &zeros([3, 2])], 0),
        "stack: tensor 1 has shape [3, 2], the first [2, 3]; all must be the same",
    );
    t.says(|| Tensor::<f32>::stack(&[], 0), "stack: there is no tensor to stack");
    t.says(|| x.split(&[1, 1], 1), "split: sizes [1, 1] do not add up to axis 1 of shape [2, 3]");
    t.says(
        || x.split(&[usize::MAX, 4], 1),
        "split: sizes [18446744073709551615, 4] do not add up to axis 1 of shape [2, 3]",
    );
    t.says(|| x.chunks(0, 1), "chunks: the size of a part is 0; it must be at least 1");
    t.says(|| x.repeat(&[2]), "repeat: [2] has fewer counts than shape [2, 3] has axes");
    t.says(
        || x.repeat(&[usize::MAX, 2]),
        "repeat: the shape [18446744073709551615, 2] does not fit in memory",
    );
    t.says(
        || x.pad(&[(-3, -3), (0, 0)], 0.0),
        "pad: (-3, -3) on axis 0 of shape [2, 3] leaves less than nothing",
    );
    t.says(|| x.pad(&[(0, 0); 3], 0.0), "pad: 3 pairs for shape [2, 3]; give one per axis");
    t.says(
        || x.pad(&[(isize::MAX, isize::MAX)], 0.0),
        "pad: 1 pairs for shape [2, 3]; give one per axis",
    );
    t.says(|| x.roll(1, 2), "roll: axis 2 is out of range for a tensor of rank 2 (valid: -2..=1)");
    t.says(|| zeros([3]).tril(0), "tril: needs a matrix, or a batch of them, but the shape is [3]");
    t.says(
        || x.index_select(0, &Tensor::from([0i64, 2])),
        "index_select: index 2 is out of range for axis 0 of size 2",
    );
    t.says(
        || x.index_select(0, &Tensor::from([[0i64], [1]])),
        "index_select: the index has shape [2, 1]; it must have one axis",
    );
    t.says(
        || x.gather(1, &Tensor::from([[3i64], [0]])),
        "gather: index 3 is out of range for axis 1 of size 3",
    );
    t.says(|| x.gather(1, &Tensor::from([0i64])), "gather: the index has shape [1], the tensor [2, 3]; the ranks must agree, and no axis but 1 of the index may be larger");
    t.says(
        || x.scatter_add(1, &Tensor::from([[0i64], [0]]), &zeros([3, 1])),
        "scatter_add: the index has shape [2, 1], the source [3, 1]; they must be the same",
    );
    t.says(|| zeros([2]).eq_scalar(0.0).select_where(&zeros([2]), &zeros([3])), "select_where: shapes do not broadcast: [2] and [3] (2 ≠ 3 on axis 0 of the result, and neither is 1)");
    t.says(|| x.masked_fill(&zeros([4]).eq_scalar(0.0), 1.0), "select_where: shapes do not broadcast: [4] and [2, 3] (4 ≠ 3 on axis 1 of the result, and neither is 1)");
}

#[test]
fn arithmetic_and_reductions() {
    let mut t = Table::default();
    let (x, y) = (zeros([2, 3]), zeros([4, 3]));
    t.says(|| x.try_add(&y), "add: shapes do not broadcast: [2, 3] and [4, 3] (2 ≠ 4 on axis 0 of the result, and neither is 1)");
    t.says(|| x.maximum(&y), "maximum: shapes do not broadcast: [2, 3] and [4, 3] (2 ≠ 4 on axis 0 of the result, and neither is 1)");
    t.says(|| x.try_lt(&y), "try_lt: shapes do not broadcast: [2, 3] and [4, 3] (2 ≠ 4 on axis 0 of the result, and neither is 1)");
    t.says(
        || Tensor::from([1i64, 2]).try_div(&Tensor::from([1i64, 0])),
        "div: an integer divisor is 0",
    );
    t.says(|| Tensor::from([1i64, 2]).try_div_scalar(0), "div: an integer divisor is 0");
    t.says(
        || x.sum_axes(2, false),
        "sum_axes: axis 2 is out of range for a tensor of rank 2 (valid: -2..=1)",
    );
    t.says(|| x.mean_axes([0, 0], false), "mean_axes: axis 0 is given twice");
    t.says(|| zeros([0]).max(), "max: shape [0] has no elements along the axes [0] to choose from");
    t.says(
        || zeros([0, 3]).amax(0, false),
        "amax: shape [0, 3] has no elements along the axes [0] to choose from",
    );
    t.says(
        || zeros([3, 0]).argmax(1, false),
        "argmax: shape [3, 0] has no elements along the axes [1] to choose from",
    );
    t.says(
        || x.softmax(2),
        "softmax: axis 2 is out of range for a tensor of rank 2 (valid: -2..=1)",
    );
    t.says(
        || x.cumsum(-3),
        "cumsum: axis -3 is out of range for a tensor of rank 2 (valid: -2..=1)",
    );
    t.says(|| x.matmul(&y), "matmul: inner dimensions differ: [2, 3] × [4, 3] (3 ≠ 4)");
    t.says(
        || x.matmul(&Tensor::scalar(1.0)),
        "matmul: [2, 3] × []: a single number has no axes; multiply with *",
    );
    t.says(
        || zeros([2, 2, 3]).matmul(&zeros([3, 3, 2])),
        "matmul: the axes before the matrices do not broadcast: [2, 2, 3] × [3, 3, 2]",
    );
    t.says(|| x.dropout(1.5, 0), "dropout: the probability is 1.5; it must be from 0 to 1");
    t.says(|| x.dropout(f64::NAN, 0), "dropout: the probability is NaN; it must be from 0 to 1");
    t.says(
        || x.linear(&y.t()?, None),
        "linear: input [.., 3] does not fit: expected a last axis of 4 (weight [3, 4])",
    );
    t.says(
        || x.linear(&y, Some(&zeros([3]))),
        "linear: the bias has shape [3]; expected [4] (weight [4, 3])",
    );
    t.says(|| x.mse(&y), "mse: the prediction has shape [2, 3], the target [4, 3]; they must be the same, for example by reshaping one of them");
    t.says(|| zeros([32]).mse(&zeros([32, 1])), "mse: the prediction has shape [32], the target [32, 1]; they must be the same, for example by reshaping one of them");
    let huge = |shape: [usize; 2]| zeros([1]).expand(shape);
    t.says(|| huge([1 << 40, 1]), "expand: the shape [1099511627776, 1] does not fit in memory");
    t.says(
        || huge([1 << 36, 1])?.try_add(&huge([1, 1 << 36])?),
        "add: the shape [68719476736, 68719476736] does not fit in memory",
    );
    t.says(
        || huge([1 << 36, 1])?.matmul(&huge([1, 1 << 36])?),
        "matmul: the shape [68719476736, 68719476736] does not fit in memory",
    );
    assert_eq!(
        panics_with(|| &x + &y),
        "add: shapes do not broadcast: [2, 3] and [4, 3] (2 ≠ 4 on axis 0 of the result, and neither is 1)"
    );
    assert_eq!(panics_with(|| Tensor::from([1i64]) / 0), "div: an integer divisor is 0");
}
