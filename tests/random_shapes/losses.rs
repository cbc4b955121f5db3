//! Losses, with every reduction.

use super::check;
use super::draw::*;
use gradus::prelude::*;

fn reduced(k: usize) -> Reduction {
    [Reduction::Mean, Reduction::Sum, Reduction::None][k % 3]
}

/// Targets of -1 and 1.
fn signs(shape: &[usize], k: usize) -> X {
    Tensor::from_fn(shape, |i| if (i * 3 + k) % 5 < 2 { -1.0 } else { 1.0 }).unwrap()
}

/// A class for each of the first axis.
fn labels(x: &X, k: usize) -> Tensor<i64> {
    Tensor::from_fn([x.shape()[0]], |i| ((i * 3 + k) % x.shape()[1]) as i64).unwrap()
}

/// Scores \[n, classes\].
fn scores(rng: &mut R) -> [Shape; 1] {
    [vec![size(0, rng), size(2, rng)]]
}

fn two_scores(rng: &mut R) -> [Shape; 2] {
    let [s] = scores(rng);
    [s.clone(), s]
}

/// Scores \[n, classes, pixels\].
fn pixels(rng: &mut R) -> [Shape; 1] {
    [vec![size(0, rng), size(2, rng), size(1, rng)]]
}

/// \[frames, n, classes\]
fn frames(rng: &mut R) -> [Shape; 1] {
    [vec![4 + size(0, rng), size(1, rng), 3 + size(0, rng)]]
}

#[test]
fn of_two_tensors() {
    check(&[
        row("mse", twice, |[x, t], k| Mse::new().reduction(reduced(k)).forward(x, t)),
        row("mae", twice, |[x, t], k| Mae::new().reduction(reduced(k)).forward(x, t)),
        row("huber", twice, |[x, t], k| Huber::new(0.5).reduction(reduced(k)).forward(x, t)),
        row("smooth_l1", twice, |[x, t], k| SmoothL1::new(0.5).reduction(reduced(k)).forward(x, t)),
        row("bce", twice, |[x, t], k| Bce::new().reduction(reduced(k)).forward(x, t))
            .on([probability, probability]),
        row("bce_with_logits", twice, |[x, t], k| {
            BceWithLogits::new().reduction(reduced(k)).forward(x, t)
        })
        .on([wide, probability]),
        row("bce_with_logits and weights", two_scores, |[x, t], k| {
            let weights = Tensor::from_fn([x.shape()[1]], |i| 0.5 + i as f64)?;
            let loss = BceWithLogits::new().weight(weights.clone()).pos_weight(weights + 0.5);
            loss.reduction(reduced(k)).forward(x, t)
        })
        .on([wide, probability]),
        row("kl_div", twice, |[x, t], k| KlDiv::new().reduction(reduced(k)).forward(x, t))
            .on([any, positive]),
        row("kl_div of logarithms", twice, |[x, t], k| {
            KlDiv::new().log_target().reduction(reduced(k)).forward(x, t)
        }),
        row("poisson_nll", twice, |[x, t], k| {
            PoissonNll::new().full().reduction(reduced(k)).forward(x, t)
        })
        .on([any, positive]),
        row("poisson_nll of rates", twice, |[x, t], k| {
            PoissonNll::new().log_input(false).reduction(reduced(k)).forward(x, t)
        })
        .on([positive, positive]),
        row("dice", two_scores, |[x, t], k| DiceLoss::new().reduction(reduced(k)).forward(x, t))
            .on([probability, probability]),
        row("margin_ranking", twice, |[a, b], k| {
            MarginRanking::new(0.25).reduction(reduced(k)).forward(a, b, &signs(a.shape(), k))
        }),
        row("cosine_embedding", two_scores, |[a, b], k| {
            let t = signs(&a.shape()[..1], k);
            CosineEmbedding::new(-0.1234).reduction(reduced(k)).forward(a, b, &t)
        }),
        row("cross_entropy of probabilities", two_scores, |[x, t], k| {
            let loss = CrossEntropy::new().reduction(reduced(k)).label_smoothing(0.1);
            loss.forward(x, &t.softmax(1)?)
        }),
    ]);
}

#[test]
fn of_one_tensor_and_what_is_told() {
    check(&[
        row("binary_hinge", every, |[x], k| {
            let loss = BinaryHinge::new().power(1.0 + (k % 2) as f64).reduction(reduced(k));
            loss.forward(x, &signs(x.shape(), k))
        }),
        row("hinge_embedding", every, |[x], k| {
            HingeEmbedding::new(1.0).reduction(reduced(k)).forward(x, &signs(x.shape(), k))
        }),
        row("soft_margin", every, |[x], k| {
            SoftMargin::new().reduction(reduced(k)).forward(x, &signs(x.shape(), k))
        }),
        row("cross_entropy", scores, |[x], k| {
            CrossEntropy::new().reduction(reduced(k)).forward(x, &labels(x, k))
        }),
        row("cross_entropy with all options", scores, |[x], k| {
            let weights = Tensor::from_fn([x.shape()[1]], |i| 0.5 + i as f64)?;
            let loss = CrossEntropy::new().label_smoothing(0.1).class_weights(weights);
            loss.ignore_index(1).reduction(reduced(k)).forward(x, &labels(x, 0))
        }),
        row("cross_entropy of pixels", pixels, |[x], k| {
            let s = x.shape();
            let label = |i: usize| ((i * 3 + k) % s[1]) as i64;
            let labels: Tensor<i64> = Tensor::from_fn([s[0], s[2]], label)?;
            CrossEntropy::new().label_smoothing(0.1).reduction(reduced(k)).forward(x, &labels)
        }),
        row("nll_loss", scores, |[x], k| {
            NllLoss::new().reduction(reduced(k)).forward(x, &labels(x, k))
        }),
        row("focal", scores, |[x], k| {
            FocalLoss::new(2.0).reduction(reduced(k)).forward(x, &labels(x, k))
        }),
        // A margin of no binary fraction, so that no score lies just at the kink.
        row("multi_margin", scores, |[x], k| {
            let loss = MultiMargin::new().margin(0.3137).p(1 + k % 2);
            loss.reduction(reduced(k)).forward(x, &labels(x, k))
        }),
        row("ctc_loss", frames, |[x], k| {
            let n = x.shape()[1];
            let targets: Tensor<i64> = Tensor::from_fn([n, 2], |i| 1 + (i + k) as i64 % 2)?;
            let lengths = (vec![x.shape()[0]; n], vec![1 + k % 2; n]);
            let loss = CtcLoss::new().reduction(reduced(k));
            loss.forward(&x.log_softmax(-1)?, &targets, &lengths.0, &lengths.1)
        })
        .once(),
    ]);
}

#[test]
fn of_three_tensors() {
    check(&[
        row("gaussian_nll", thrice, |[x, t, v], k| {
            GaussianNll::new().full().reduction(reduced(k)).forward(x, t, v)
        })
        .on([any, any, positive]),
        row("triplet_margin", thrice, |[a, p, n], k| {
            let loss = TripletMargin::new(0.7).p([2.0, 3.0, 1.0][k % 3]).reduction(reduced(k / 3));
            loss.forward(a, p, n)
        }),
        row("triplet_margin with swap", thrice, |[a, p, n], k| {
            TripletMargin::new(0.7).swap().reduction(reduced(k)).forward(a, p, n)
        }),
    ]);
}
