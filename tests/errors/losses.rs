//! Mistakes with losses beyond those of shapes and labels in `layers`.

use gradus::prelude::*;

use crate::Table;

fn zeros<const N: usize>(shape: [usize; N]) -> Tensor {
    Tensor::zeros(shape).expect("small")
}

fn full<const N: usize>(shape: [usize; N], value: f32) -> Tensor {
    Tensor::full(shape, value).expect("small")
}

#[test]
fn labels_weights_and_probabilities() {
    let mut t = Table::default();
    let (logits, labels) = (zeros([2, 3]), Tensor::from([0i64, 1]));
    t.says(
        || zeros([2, 3, 4]).cross_entropy(&Tensor::full([2, 4], 7i64)?),
        "cross_entropy: label 7 at [0, 0] is not a class: there are 3 classes (0..=2)",
    );
    t.says(
        || zeros([3]).cross_entropy(&Tensor::scalar(3i64)),
        "cross_entropy: label 3 is not a class: there are 3 classes (0..=2)",
    );
    for (bad, words) in [(-1.0, "-1"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let w = Tensor::from([1.0, bad, 1.0]);
        t.says(
            || CrossEntropy::new().class_weights(w.clone()).forward(&logits, &labels),
            &format!(
                "cross_entropy: the weight of class 1 is {words}; it must be finite and 0 or more"
            ),
        );
        t.says(
            || NllLoss::new().class_weights(w.clone()).forward(&logits, &labels),
            &format!("nll_loss: the weight of class 1 is {words}; it must be finite and 0 or more"),
        );
    }
    t.says(
        || logits.cross_entropy(&Tensor::from([[0.5, 0.5, 0.0], [0.5, 0.6, -0.1]])),
        "cross_entropy: the target probability of class 2 of row 1 is -0.1; probabilities are 0 or more",
    );
    t.says(
        || logits.cross_entropy(&Tensor::from([[0.5, 0.5, 0.0], [0.5, 0.25, 0.0]])),
        "cross_entropy: the target probabilities of row 1 sum to 0.75, not 1; divide them by their sum, or take the softmax of scores",
    );
    t.says(
        || logits.nll_loss(&zeros([2])),
        "nll_loss: the targets are floats, but labels are integers: a Tensor<i64>, such as targets.cast::<i64>()",
    );
    t.says(
        || FocalLoss::new(2.0).forward(&logits, &Tensor::from([0i64, 5])),
        "focal: label 5 of row 1 is not a class: there are 3 classes (0..=2)",
    );
    t.says(
        || FocalLoss::new(2.0).alpha(0.25).forward(&logits, &labels),
        "focal: alpha is for yes-no questions; labels have class_weights",
    );
    t.says(
        || MultiMargin::new().p(3).forward(&logits, &labels),
        "multi_margin: p is 3; it must be 1 or 2",
    );
}

#[test]
fn numbers_outside_their_range() {
    let mut t = Table::default();
    let (x, y) = (Tensor::from([[0.25, 0.5]]), Tensor::from([[1.0, 2.0]]));
    t.says(
        || y.bce(&x),
        "bce: the prediction 2 at [0, 1] is not between 0 and 1; for logits, see bce_with_logits",
    );
    t.says(|| x.bce(&y), "bce: the target 2 at [0, 1] is not between 0 and 1");
    t.says(
        || x.bce_with_logits(&full([1, 2], f32::NAN)),
        "bce_with_logits: the target NaN at [0, 0] is not between 0 and 1",
    );
    t.says(
        || BceWithLogits::new().pos_weight(Tensor::from([1.0, -3.0])).forward(&x, &x),
        "bce_with_logits: the weight of positives -3 at [1] is not finite and 0 or more",
    );
    t.says(
        || Bce::new().weight(zeros([3])).forward(&x, &x),
        "bce: the weight has shape [3], which does not broadcast to the [1, 2] of the prediction",
    );
    t.says(
        || x.kl_div(&full([1, 2], -0.5)),
        "kl_div: the target -0.5 at [0, 0] is not 0 or more; for logarithms of probabilities, see log_target",
    );
    t.says(
        || BinaryHinge::new().forward(&x, &Tensor::from([[1.0, 0.0]])),
        "binary_hinge: the target 0 at [0, 1] is neither -1 nor 1; of targets 0 and 1, take 2 t - 1",
    );
    t.says(|| x.huber(&y, 0.0), "huber: delta is 0; it must be above 0");
    t.says(|| x.smooth_l1(&y, -1.0), "smooth_l1: beta is -1; it must be 0 or more");
    t.says(
        || TripletMargin::new(f64::NAN).forward(&x, &x, &x),
        "triplet_margin: the margin is NaN; it must be above 0",
    );
    t.says(
        || TripletMargin::new(1.0).forward(&x, &x, &zeros([2])),
        "triplet_margin: the anchor has shape [1, 2], the positive has shape [1, 2], the negative has shape [2]; they need the same number of axes, and sizes that are the same or 1",
    );
    t.says(
        || CosineEmbedding::new(0.0).forward(&x, &x, &x),
        "cosine_embedding: the inputs have shapes [1, 2] and [1, 2], the target [1, 2]; expected [n, d] twice and [n], or [d] twice and []",
    );
    t.says(
        || DiceLoss::new().forward(&y, &x),
        "dice: the prediction 2 at [0, 1] is not between 0 and 1; of logits, take the sigmoid or the softmax",
    );
}

#[test]
fn ctc() {
    let mut t = Table::default();
    let x = zeros([4, 2, 3]);
    let y = Tensor::from([[1i64, 2], [2, 1]]);
    t.says(
        || x.ctc_loss(&y, &[4, 0], &[2, 2]),
        "ctc_loss: the input length of example 1 is 0; it must be from 1 to the number of frames, 4",
    );
    t.says(
        || x.ctc_loss(&y, &[5, 4], &[2, 2]),
        "ctc_loss: the input length of example 0 is 5; it must be from 1 to the number of frames, 4",
    );
    t.says(
        || x.ctc_loss(&y, &[4], &[2, 2]),
        "ctc_loss: there are 1 input lengths for a batch of 2",
    );
    t.says(
        || x.ctc_loss(&y, &[4, 4], &[2, 3]),
        "ctc_loss: the targets have shape [2, 2]; target lengths of [2, 3] need [2, 3 or more] or, one after another, [5]",
    );
    t.says(
        || x.ctc_loss(&Tensor::from([[1i64, 2], [2, 3]]), &[4, 4], &[2, 2]),
        "ctc_loss: label 3 at [1, 1] is not a class: there are 3 classes (0..=2)",
    );
    t.says(
        || x.ctc_loss(&Tensor::from([[1i64, 0], [2, 1]]), &[4, 4], &[2, 2]),
        "ctc_loss: the target of example 0 has the blank (0) at place 1; leave blanks out, the loss puts them between labels",
    );
    t.says(
        || CtcLoss::new().blank(3).forward(&x, &y, &[4, 4], &[2, 2]),
        "ctc_loss: the blank is 3, but there are 3 classes",
    );
    t.says(
        || zeros([4]).ctc_loss(&y, &[4, 4], &[2, 2]),
        "ctc_loss: the log-probabilities have shape [4]; expected [frames, n, classes] or [frames, classes]",
    );
}
