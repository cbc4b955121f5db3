//! The losses.

use gradus::prelude::*;
use serde_json::Value;

use crate::case::{Case, Inputs, Outputs};
use crate::dispatch::{int, number};

fn reduction(a: &Value) -> Reduction {
    match a["reduction"].as_str().unwrap() {
        "mean" => Reduction::Mean,
        "sum" => Reduction::Sum,
        _ => Reduction::None,
    }
}

/// `None` if gradus has no such loss.
pub fn run<T: Float>(case: &Case, i: &Inputs<T>) -> Option<Result<Outputs<T>>> {
    if case.family != "losses" {
        return None;
    }
    let y = loss(case, i)?;
    Some(y.map(|y| vec![("y".to_string(), y.into())]))
}

fn loss<T: Float>(case: &Case, i: &Inputs<T>) -> Option<Result<Tensor<T>>> {
    let a = &case.attrs;
    let reduction = reduction(a);
    let of = |k: &str| number(&a[k]);
    let flag = |k: &str| a[k].as_bool().unwrap();
    let floats = || (i.get("x"), i.get("target"));
    let weight = || i.maybe("weight").cloned();
    Some(match &*case.op {
        "mse_loss"
        | "l1_loss"
        | "huber_loss"
        | "smooth_l1_loss"
        | "hinge_embedding_loss"
        | "binary_hinge_loss"
        | "soft_margin_loss" => {
            let (x, t) = floats();
            match &*case.op {
                "mse_loss" => Mse { reduction }.forward(x, t),
                "l1_loss" => Mae { reduction }.forward(x, t),
                "huber_loss" => Huber { delta: of("delta"), reduction }.forward(x, t),
                "smooth_l1_loss" => SmoothL1 { beta: of("beta"), reduction }.forward(x, t),
                "soft_margin_loss" => SoftMargin { reduction }.forward(x, t),
                "binary_hinge_loss" => BinaryHinge { power: of("power"), reduction }.forward(x, t),
                _ => HingeEmbedding { margin: of("margin"), reduction }.forward(x, t),
            }
        }
        "bce_loss" => Bce { weight: weight(), reduction }.forward(floats().0, floats().1),
        "bce_with_logits" => {
            let pos_weight = i.maybe("pos_weight").cloned();
            let (x, t) = floats();
            BceWithLogits { weight: weight(), pos_weight, reduction }.forward(x, t)
        }
        "kl_div" => {
            let batch_mean = a["reduction"] == "batchmean";
            let (x, t) = floats();
            KlDiv { log_target: flag("log_target"), batch_mean, reduction }.forward(x, t)
        }
        "cross_entropy" => {
            let loss = CrossEntropy {
                label_smoothing: of("label_smoothing"),
                ignore_index: Some(int(&a["ignore_index"]) as i64),
                class_weights: weight(),
                reduction,
            };
            match i.ints.get("target") {
                Some(t) => loss.forward(i.get("x"), t),
                None => loss.forward(i.get("x"), i.get("target")),
            }
        }
        "nll_loss" => {
            let ignore_index = Some(int(&a["ignore_index"]) as i64);
            let loss = NllLoss { ignore_index, class_weights: weight(), reduction };
            loss.forward(i.get("x"), &i.ints["target"])
        }
        "multi_margin_loss" => {
            let p = a["p"].as_u64().unwrap() as usize;
            let loss = MultiMargin { p, margin: of("margin"), class_weights: weight(), reduction };
            loss.forward(i.get("x"), &i.ints["target"])
        }
        "margin_ranking_loss" => MarginRanking { margin: of("margin"), reduction }.forward(
            i.get("x1"),
            i.get("x2"),
            i.get("target"),
        ),
        "cosine_embedding_loss" => CosineEmbedding { margin: of("margin"), reduction }.forward(
            i.get("x1"),
            i.get("x2"),
            i.get("target"),
        ),
        "triplet_margin_loss" => {
            let (margin, p, eps) = (of("margin"), of("p"), of("eps"));
            TripletMargin { margin, p, eps, swap: flag("swap"), reduction }.forward(
                i.get("anchor"),
                i.get("positive"),
                i.get("negative"),
            )
        }
        "ctc_loss_from_logits" => {
            let lengths =
                |name: &str| -> Vec<usize> { i.ints[name].iter().map(|n| n as usize).collect() };
            let blank = int(&a["blank"]) as usize;
            let loss = CtcLoss { blank, zero_infinity: flag("zero_infinity"), reduction };
            let (frames, labels) = (lengths("input_lengths"), lengths("target_lengths"));
            i.get("logits")
                .log_softmax(-1)
                .and_then(|x| loss.forward(&x, &i.ints["targets"], &frames, &labels))
        }
        _ => return None,
    })
}
