//! Functions at each place: of one tensor, and of two that broadcast.

use super::check;
use super::draw::*;
use gradus::prelude::*;

#[test]
fn of_one() {
    let all = [
        row("exp", every, |[x], _| Ok(x.exp())),
        row("exp_m1", every, |[x], _| Ok(x.exp_m1())),
        row("exp2", every, |[x], _| Ok(x.exp2())),
        row("ln", every, |[x], _| Ok(x.ln())).on([positive]),
        row("ln_1p", every, |[x], _| Ok(x.ln_1p())).on([positive]),
        row("log2", every, |[x], _| Ok(x.log2())).on([positive]),
        row("log10", every, |[x], _| Ok(x.log10())).on([positive]),
        row("sqrt", every, |[x], _| Ok(x.sqrt())).on([positive]),
        row("rsqrt", every, |[x], _| Ok(x.rsqrt())).on([positive]),
        row("reciprocal", every, |[x], _| Ok(x.reciprocal())).on([positive]),
        row("square", every, |[x], _| Ok(x.square())),
        row("abs", every, |[x], _| Ok(x.abs())),
        row("neg", every, |[x], _| Ok(x.neg())),
        row("sin", every, |[x], _| Ok(x.sin())),
        row("cos", every, |[x], _| Ok(x.cos())),
        row("tan", every, |[x], _| Ok(x.tan())).on([inside]),
        row("asin", every, |[x], _| Ok(x.asin())).on([inside]),
        row("acos", every, |[x], _| Ok(x.acos())).on([inside]),
        row("atan", every, |[x], _| Ok(x.atan())),
        row("sinh", every, |[x], _| Ok(x.sinh())),
        row("cosh", every, |[x], _| Ok(x.cosh())),
        row("tanh", every, |[x], _| Ok(x.tanh())),
        row("asinh", every, |[x], _| Ok(x.asinh())),
        row("acosh", every, |[x], _| Ok(x.acosh())).on([above_one]),
        row("atanh", every, |[x], _| Ok(x.atanh())).on([inside]),
        row("floor", every, |[x], _| Ok(x.floor())),
        row("ceil", every, |[x], _| Ok(x.ceil())),
        row("round", every, |[x], _| Ok(x.round())),
        row("trunc", every, |[x], _| Ok(x.trunc())),
        row("sign", every, |[x], _| Ok(x.sign())),
        row("sigmoid", every, |[x], _| Ok(x.sigmoid())).on([wide]),
        row("log_sigmoid", every, |[x], _| Ok(x.log_sigmoid())).on([wide]),
        row("erf", every, |[x], _| Ok(x.erf())),
        row("relu", every, |[x], _| Ok(x.relu())),
        row("relu6", every, |[x], _| Ok(x.relu6())).on([wide]),
        row("gelu", every, |[x], _| Ok(x.gelu())),
        row("gelu_tanh", every, |[x], _| Ok(x.gelu_tanh())),
        row("silu", every, |[x], _| Ok(x.silu())).on([wide]),
        row("mish", every, |[x], _| Ok(x.mish())),
        row("hardswish", every, |[x], _| Ok(x.hardswish())).on([wide]),
        row("hardsigmoid", every, |[x], _| Ok(x.hardsigmoid())).on([wide]),
        row("selu", every, |[x], _| Ok(x.selu())),
        row("softsign", every, |[x], _| Ok(x.softsign())),
        row("tanhshrink", every, |[x], _| Ok(x.tanhshrink())),
        row("softshrink", every, |[x], _| Ok(x.softshrink(0.5))),
        row("hardshrink", every, |[x], _| Ok(x.hardshrink(0.5))),
        row("threshold", every, |[x], _| Ok(x.threshold(0.25, 7.0))),
        row("hardtanh", every, |[x], _| Ok(x.hardtanh(-0.5, 1.0))),
        row("clamp", every, |[x], _| Ok(x.clamp(-1.0, 0.75))),
        row("celu", every, |[x], _| Ok(x.celu(1.5))),
        row("elu", every, |[x], _| Ok(x.elu(0.7))),
        row("leaky_relu", every, |[x], _| Ok(x.leaky_relu(0.1))),
        row("softplus", every, |[x], k| Ok(x.softplus(1.0 + (k % 2) as f64, 1.5))),
        row("powf", every, |[x], _| Ok(x.powf(2.7))).on([positive]),
        row("powi", every, |[x], k| Ok(x.powi(k as i32 % 5))),
        row("powi, negative", every, |[x], k| Ok(x.powi(-1 - k as i32 % 3))).on([positive]),
        row("add_scalar", every, |[x], _| Ok(x.add_scalar(1.5))),
        row("sub_scalar", every, |[x], _| Ok(x.sub_scalar(1.5))),
        row("rsub_scalar", every, |[x], _| Ok(x.rsub_scalar(1.5))),
        row("mul_scalar", every, |[x], _| Ok(x.mul_scalar(-3.0))),
        row("div_scalar", every, |[x], _| Ok(x.div_scalar(-3.0))),
        row("rdiv_scalar", every, |[x], _| Ok(x.rdiv_scalar(2.0))).on([positive]),
        row("dropout", every, |[x], k| x.dropout(0.4, k as u64)),
        row("cast", every, |[x], _| Ok(x.cast::<f64>())),
        row("masked_fill", every, |[x], _| x.masked_fill(&x.gt_scalar(0.5), 2.0)),
        row("select_where", every, |[x], _| {
            x.lt_scalar(0.25).select_where(x, &Tensor::scalar(3.0))
        }),
    ];
    check(&all.map(|row| row.same_bits()));
}

#[test]
fn of_two() {
    check(&[
        row("add", pair, |[a, b], _| a.try_add(b)),
        row("sub", pair, |[a, b], _| a.try_sub(b)),
        row("mul", pair, |[a, b], _| a.try_mul(b)),
        row("div", pair, |[a, b], _| a.try_div(b)).on([any, positive]),
        row("the operators", pair, |[a, b], _| Ok(a + b * 2.0 - a * b / (b + 1.0)))
            .on([any, positive]),
        row("a tensor and itself", pair, |[a, b], _| a.try_mul(a)?.try_add(&b.try_mul(a)?)),
        row("pow", pair, |[a, b], _| a.pow(b)).on([positive, any]),
        row("maximum", pair, |[a, b], _| a.maximum(b)),
        row("minimum", pair, |[a, b], _| a.minimum(b)),
        row("select_where of two", pair, |[a, b], _| a.gt_scalar(0.25).select_where(a, b)),
    ]);
    check(&[row("prelu", channels, |[x, w], _| x.prelu(w))]);
}

/// \[n, c, ..\] and one weight for each channel or for all.
fn channels(rng: &mut R) -> [Shape; 2] {
    let c = size(1, rng);
    let w = if size(0, rng) < 2 { 1 } else { c };
    [vec![size(0, rng), c, size(1, rng)], vec![w]]
}
