//! Attention and transformers.

use gradus::nn::{
    Activation, Attend, Attention, ItemMut, MultiHeadAttention, ParamMut, TransformerBuilder,
    TransformerDecoderLayer, TransformerEncoderLayer, VisitorMut,
};
use gradus::prelude::*;
use serde_json::Value;

use crate::case::{Case, Inputs, Output, Outputs};

/// `None` if gradus has no such operator.
pub fn run<T: Float>(case: &Case, i: &Inputs<T>) -> Option<Result<Outputs<T>>> {
    match &*case.op {
        "sdpa" => Some(sdpa(&case.attrs, i)),
        "multi_head_attention" => Some(multi_head_attention(&case.attrs, i)),
        "transformer_encoder_layer" => Some(encoder_layer(&case.attrs, i)),
        "transformer_decoder_layer" => Some(decoder_layer(&case.attrs, i)),
        _ => None,
    }
}

fn one<T: Float>(y: Tensor<T>) -> Outputs<T> {
    vec![("y".to_string(), Output::Float(y))]
}

fn size(a: &Value, key: &str) -> Option<usize> {
    a[key].as_u64().map(|n| n as usize)
}

/// The layer with the recorded inputs for parameters.
fn with_inputs<T: Float, M: Module>(mut m: M, i: &Inputs<T>) -> M {
    VisitorMut::walk(&mut m, &mut |path, item| {
        if let ItemMut::Param(p) = item {
            let value = i.get(path);
            match p {
                ParamMut::F32(p) => *p = Param::computed(value.cast()),
                ParamMut::F64(p) => *p = Param::computed(value.cast()),
            }
        }
    });
    m
}

fn sdpa<T: Float>(a: &Value, i: &Inputs<T>) -> Result<Outputs<T>> {
    let mut options = Attention::new();
    if let Some(scale) = a["scale"].as_f64() {
        options = options.scale(scale);
    }
    if a["is_causal"] == true {
        options = options.causal();
    }
    if let Some(mask) = i.bools.get("bool_mask") {
        options = options.mask(mask);
    }
    if let Some(mask) = i.maybe("add_mask") {
        options = options.mask(mask);
    }
    Ok(one(i.get("q").scaled_dot_product_attention(i.get("k"), i.get("v"), &options)?))
}

fn multi_head_attention<T: Float>(a: &Value, i: &Inputs<T>) -> Result<Outputs<T>> {
    let size = |key| size(a, key);
    let mut m =
        MultiHeadAttention::<T>::new(size("embed_dim").unwrap(), size("num_heads").unwrap())
            .bias(a["bias"] == true)
            .batch_first(a["batch_first"] == true);
    if let Some(n) = size("kdim") {
        m = m.kdim(n);
    }
    if let Some(n) = size("vdim") {
        m = m.vdim(n);
    }
    let m = with_inputs(m.build(&mut gradus::rng(0))?, i);
    let query = i.get("query");
    let key = i.maybe("key").unwrap_or(query);
    let value = i.maybe("value").unwrap_or(key);
    let options = attend(i, a["causal"] == true, "attn_mask", "key_padding_mask");
    let average = a["average_attn_weights"] == true;
    let (y, weights) = m.attend_with_weights(query, key, value, &options, average)?;
    // The path without weights is another one: its value must be the same.
    let plain = m.attend(query, key, value, &options)?;
    assert!((plain.detach() - y.detach()).abs().iter().all(|d| d.as_f64() < 1e-5));
    Ok(vec![("y".into(), Output::Float(y)), ("weights".into(), Output::Float(weights))])
}

/// Masks of these names, of either kind.
fn attend<T: Float>(i: &Inputs<T>, causal: bool, mask: &str, padding: &str) -> Attend<T> {
    let mut attend = Attend::new().causal(causal);
    if let Some(m) = i.bools.get(mask) {
        attend = attend.attn_mask(m);
    }
    if let Some(m) = i.maybe(mask) {
        attend = attend.attn_mask(m);
    }
    if let Some(m) = i.bools.get(padding) {
        attend = attend.key_padding_mask(m);
    }
    if let Some(m) = i.maybe(padding) {
        attend = attend.key_padding_mask(m);
    }
    attend
}

fn options<L>(b: TransformerBuilder<L>, a: &Value) -> TransformerBuilder<L> {
    let activation = match a["activation"].as_str() {
        Some("gelu") => Activation::GELU,
        _ => Activation::ReLU,
    };
    b.dim_feedforward(size(a, "dim_feedforward").unwrap())
        .dropout(0.0)
        .activation(activation)
        .layer_norm_eps(a["layer_norm_eps"].as_f64().unwrap())
        .batch_first(a["batch_first"] == true)
        .norm_first(a["norm_first"] == true)
}

fn encoder_layer<T: Float>(a: &Value, i: &Inputs<T>) -> Result<Outputs<T>> {
    let (width, heads) = (size(a, "d_model").unwrap(), size(a, "nhead").unwrap());
    let b = options(TransformerEncoderLayer::<T>::new(width, heads), a);
    let layer = with_inputs(b.build(&mut gradus::rng(0))?, i);
    let masks = attend(i, a["causal"] == true, "src_mask", "src_key_padding_mask");
    Ok(one(layer.forward_with(i.get("x"), &masks)?))
}

fn decoder_layer<T: Float>(a: &Value, i: &Inputs<T>) -> Result<Outputs<T>> {
    let (width, heads) = (size(a, "d_model").unwrap(), size(a, "nhead").unwrap());
    let b = options(TransformerDecoderLayer::<T>::new(width, heads), a);
    let layer = with_inputs(b.build(&mut gradus::rng(0))?, i);
    let itself = attend(i, a["causal"] == true, "tgt_mask", "tgt_key_padding_mask");
    let memory = attend(i, false, "memory_mask", "memory_key_padding_mask");
    Ok(one(layer.forward_with(i.get("x"), i.get("memory"), &itself, &memory)?))
}
