//! Mistakes with layers and losses.

use gradus::nn::{Conv2dParams, NllLoss};
use gradus::prelude::*;

use crate::Table;

fn zeros<const N: usize>(shape: [usize; N]) -> Tensor {
    Tensor::zeros(shape).expect("a small shape")
}

#[test]
fn layers() {
    let mut t = Table::default();
    let mut rng = gradus::rng(0);
    let dense: Dense = Dense::new(3, 4).build(&mut rng).expect("a layer");
    t.says(
        || dense.forward(&zeros([2, 4])),
        "Dense: input [.., 4] does not fit: expected a last axis of 3 (weight [4, 3])",
    );
    t.says(
        || dense.forward(&Tensor::scalar(1.0)),
        "Dense: input [] (a single number) does not fit: expected a last axis of 3 (weight [4, 3])",
    );
    t.says(
        || Dense::<f32>::new(usize::MAX, 4).build(&mut gradus::rng(0)),
        "uniform: the shape [4, 18446744073709551615] does not fit in memory",
    );
    t.says(
        || {
            Dense::<f32>::new(3, 4)
                .init(Init::Normal { mean: 0.0, std: -1.0 })
                .build(&mut gradus::rng(0))
        },
        "init: Normal { mean: 0.0, std: -1.0 }: mean and std must be finite, std not negative",
    );
    let conv: Conv2d = Conv2d::new(1, 8, 3).build(&mut rng).expect("a layer");
    t.says(
        || conv.forward(&zeros([2, 3, 28, 28])),
        "conv2d: input has 3 channels but the weight [8, 1, 3, 3] with groups=1 expects 1",
    );
    t.says(|| conv.forward(&zeros([28, 28])), "conv2d: the input has shape [28, 28], but must be [batch, channels, height, width] or [channels, height, width]");
    t.says(|| conv.forward(&zeros([2, 784])), "conv2d: the input has shape [2, 784], but must be [batch, channels, height, width] or [channels, height, width]");
    t.says(|| conv.forward(&zeros([2, 1, 2, 2])), "conv2d: the window is larger than the padded input: height 3 of the weight [8, 1, 3, 3] covers 3, the input [2, 1, 2, 2] with its padding has 2; pad more or use a smaller kernel");
    let build = |b: gradus::nn::Conv2dBuilder| b.build(&mut gradus::rng(0));
    t.says(
        || build(Conv2d::new(1, 8, 3).stride(0)),
        "Conv2d: stride [0, 0] must be at least 1 on each axis",
    );
    t.says(
        || build(Conv2d::new(1, 8, 3).dilation(0)),
        "Conv2d: dilation [0, 0] must be at least 1 on each axis",
    );
    t.says(
        || build(Conv2d::new(3, 8, 3).groups(2)),
        "Conv2d: groups=2 must divide the 3 inputs and the 8 outputs",
    );
    t.says(
        || build(Conv2d::new(4, 9, 3).groups(2)),
        "Conv2d: groups=2 must divide the 4 inputs and the 9 outputs",
    );
    t.says(
        || build(Conv2d::new(4, 8, 3).groups(0)),
        "Conv2d: groups=0 must divide the 4 inputs and the 8 outputs",
    );
    t.says(|| build(Conv2d::new(4, 8, 0)), "Conv2d: kernel [0, 0] must be at least 1 on each axis");
    t.says(|| build(Conv2d::new(1, 8, 3).padding(usize::MAX))?.forward(&zeros([1, 1, 4, 4])), "conv2d: padding [18446744073709551615, 18446744073709551615] is too large; sizes must be below 2^31");
    t.says(|| build(Conv2d::new(1, 8, 3).dilation(usize::MAX))?.forward(&zeros([1, 1, 4, 4])), "conv2d: dilation [18446744073709551615, 18446744073709551615] is too large; sizes must be below 2^31");
    t.says(
        || zeros([1, 1, 4, 4]).conv2d(&zeros([1, 1, 3, 3]), None, Conv2dParams::new().stride(0)),
        "conv2d: stride [0, 0] must be at least 1 on each axis",
    );
    t.says(
        || zeros([1, 1, 4, 4]).conv2d(&zeros([1, 1, 3, 3]), Some(&zeros([2])), Conv2dParams::new()),
        "conv2d: the bias has shape [2], but the weight [1, 1, 3, 3] expects [1]",
    );
    t.says(|| zeros([1, 1, 4, 4]).conv2d(&zeros([3, 3]), None, Conv2dParams::new()), "conv2d: the weight has shape [3, 3], but must be [filters, channels / groups, kernel height, kernel width]");
    t.says(
        || zeros([1, 1, 4, 4]).max_pool2d(0),
        "max_pool2d: kernel [0, 0] must be at least 1 on each axis",
    );
    t.says(|| zeros([1, 1, 4, 4]).max_pool2d(5), "max_pool2d: the window [5, 5] (dilation [1, 1]) is larger than the input [1, 1, 4, 4] with padding [0, 0]; use a smaller one");
    t.says(|| zeros([4]).max_pool2d(2), "max_pool2d: the input has shape [4], but must be [batch, channels, height, width] or [channels, height, width]");
    t.says(
        || MaxPool2d::new(gradus::nn::Pool2d::new(2).stride(0)).forward(&zeros([1, 1, 4, 4])),
        "max_pool2d: stride [0, 0] must be at least 1 on each axis",
    );
    t.says(
        || MaxPool2d::new(gradus::nn::Pool2d::new(2).padding(2)).forward(&zeros([1, 1, 4, 4])),
        "max_pool2d: padding [2, 2] must be at most half of the window [2, 2]",
    );
    t.says(
        || AvgPool2d::new(0).forward(&zeros([1, 1, 4, 4])),
        "avg_pool2d: kernel [0, 0] must be at least 1 on each axis",
    );
    t.says(
        || zeros([1, 1, 4, 4]).adaptive_avg_pool2d(0),
        "adaptive_avg_pool2d: output size [0, 0] must be at least 1 on each axis",
    );
    t.says(|| Dropout::new(1.5), "Dropout: the probability is 1.5; it must be between 0 and 1");
    t.says(
        || Flatten.forward(&Tensor::<f32>::scalar(1.0)),
        "flatten: axis 1 is out of range for a tensor of rank 0 (a rank-0 tensor has no axes)",
    );
    let seq: Sequential = Sequential::new().add(ReLU).add(dense);
    t.says(|| seq.forward(&zeros([2, 784])), "Dense: input [.., 784] does not fit: expected a last axis of 3 (weight [4, 3]) [at layer 1 of a Sequential]");
}

#[test]
fn losses() {
    let mut t = Table::default();
    let logits = zeros([4, 3]);
    t.says(
        || logits.cross_entropy(&Tensor::from([0i64, 1, 2, 3])),
        "cross_entropy: label 3 of row 3 is not a class: there are 3 classes (0..=2)",
    );
    t.says(
        || logits.cross_entropy(&Tensor::from([0i64, 1, 2, -1])),
        "cross_entropy: label -1 of row 3 is not a class: there are 3 classes (0..=2)",
    );
    t.says(|| logits.cross_entropy(&Tensor::from([0i64, 1, 2])), "cross_entropy: logits of shape [4, 3] (classes on axis 1) need labels of shape [4], not [3]");
    t.says(|| logits.cross_entropy(&Tensor::from([[0i64], [1], [2], [0]])), "cross_entropy: logits of shape [4, 3] (classes on axis 1) need labels of shape [4], not [4, 1]");
    t.says(|| logits.cross_entropy(&zeros([4])), "cross_entropy: logits of shape [4, 3] need target probabilities of the same shape, not [4]; if these are labels, make them integers, a Tensor<i64>: targets.cast::<i64>()");
    t.says(|| logits.cross_entropy(&zeros([4, 2])), "cross_entropy: logits of shape [4, 3] need target probabilities of the same shape, not [4, 2]");
    t.says(|| Tensor::<f32>::scalar(0.0).cross_entropy(&Tensor::<i64>::scalar(0)), "cross_entropy: the logits are a single number; they need an axis of classes: [classes], [n, classes] or [n, classes, …]");
    let labels = Tensor::from([0i64, 1, 2, 0]);
    let ce = || CrossEntropy::new();
    t.says(
        || ce().class_weights(zeros([2])).forward(&logits, &labels),
        "cross_entropy: class weights of shape [2] for 3 classes; expected [3]",
    );
    t.says(
        || ce().label_smoothing(2.0).forward(&logits, &labels),
        "cross_entropy: label smoothing 2 is not between 0 and 1",
    );
    t.says(
        || ce().label_smoothing(f64::NAN).forward(&logits, &labels),
        "cross_entropy: label smoothing NaN is not between 0 and 1",
    );
    t.says(
        || NllLoss::new().forward(&logits, &Tensor::from([0i64, 1, 2, 5])),
        "nll_loss: label 5 of row 3 is not a class: there are 3 classes (0..=2)",
    );
    t.says(|| zeros([4, 3]).mse(&zeros([4])), "mse: the prediction has shape [4, 3], the target [4]; they must be the same, for example by reshaping one of them");
    t.says(|| Mse::new().forward(&zeros([4, 1]), &zeros([4])), "mse: the prediction has shape [4, 1], the target [4]; they must be the same, for example by reshaping one of them");
}

#[test]
fn numbers_that_must_be_slips() {
    use gradus::nn::{LSTM, MultiHeadAttention, TransformerDecoder, TransformerEncoder};
    let mut t = Table::default();
    let rng = || gradus::rng(0);
    t.says(
        || LSTM::<f32>::new(1, 1).layers(usize::MAX).build(&mut rng()),
        "LSTM: 18446744073709551615 layers are too many; at most 65536 can be stacked",
    );
    t.says(
        || TransformerEncoder::<f32>::new(8, 2, 100_000).build(&mut rng()),
        "TransformerEncoder: 100000 layers are too many; at most 65536 can be stacked",
    );
    t.says(
        || TransformerDecoder::<f32>::new(8, 2, 100_000).build(&mut rng()),
        "TransformerDecoder: 100000 layers are too many; at most 65536 can be stacked",
    );
    let wide = MultiHeadAttention::<f32>::new(usize::MAX / 2, 1).build(&mut rng());
    assert!(matches!(wide, Err(Error::Overflow { .. })));
}
