use super::*;
use crate::nn::Attend;
use crate::{Module, Tape};

fn wave(shape: &[usize], seed: usize) -> Tensor<f64> {
    let n = shape.iter().product::<usize>() + 13;
    Tensor::from_fn(shape, |i| ((i * 37 + seed * 101) % n) as f64 / n as f64 * 2.0 - 1.0).unwrap()
}

fn near(a: &Tensor<f64>, b: &Tensor<f64>) {
    assert_eq!(a.shape(), b.shape());
    assert!(a.iter().zip(b.iter()).all(|(a, b)| (a - b).abs() < 1e-12), "{a} {b}");
}

#[test]
fn the_stack_is_its_layers() {
    for norm_first in [false, true] {
        let stack = TransformerEncoder::<f64>::new(8, 2, 3)
            .dim_feedforward(12)
            .norm_first(norm_first)
            .final_norm(norm_first)
            .activation(Activation::GELU)
            .build(&mut crate::rng(0))
            .unwrap();
        let x = wave(&[2, 4, 8], 1);
        let mut y = x.clone();
        for layer in &stack.layers {
            y = layer.forward(&y).unwrap();
        }
        if let Some(norm) = &stack.norm {
            y = norm.forward(&y).unwrap();
        }
        near(&stack.forward(&x).unwrap(), &y);
        assert_eq!(stack.norm.is_some(), norm_first);
    }
}

#[test]
fn names_as_in_pytorch() {
    let t =
        Transformer::<f32>::new(4, 2, 1, 1).dim_feedforward(8).build(&mut crate::rng(0)).unwrap();
    let paths = t.param_paths();
    for path in [
        "encoder.layers.0.self_attn.in_proj_weight",
        "encoder.layers.0.self_attn.out_proj.bias",
        "encoder.layers.0.linear1.weight",
        "encoder.layers.0.norm2.bias",
        "encoder.norm.weight",
        "decoder.layers.0.multihead_attn.in_proj_bias",
        "decoder.layers.0.norm3.weight",
        "decoder.norm.bias",
    ] {
        assert!(paths.iter().any(|p| p == path), "{path}: {paths:?}");
    }
    assert_eq!(paths.len(), 12 + 2 + 18 + 2);
    // Without biases half of them are gone.
    let t =
        TransformerDecoderLayer::<f32>::new(4, 2).bias(false).build(&mut crate::rng(0)).unwrap();
    assert_eq!(
        t.param_paths(),
        [
            "self_attn.in_proj_weight",
            "self_attn.out_proj.weight",
            "multihead_attn.in_proj_weight",
            "multihead_attn.out_proj.weight",
            "linear1.weight",
            "linear2.weight",
            "norm1.weight",
            "norm2.weight",
            "norm3.weight"
        ]
    );
}

#[test]
fn every_parameter_has_a_gradient_and_positions_do_not_look_ahead() {
    let model = Transformer::<f64>::new(8, 2, 1, 2)
        .dim_feedforward(16)
        .norm_first(true)
        .build(&mut crate::rng(0))
        .unwrap();
    let (source, target) = (wave(&[2, 5, 8], 1), wave(&[2, 4, 8], 2));
    let (all, causal) = (Attend::new(), Attend::new().causal(true));
    let run = |m: &Transformer<f64>, target: &Tensor<f64>| {
        m.forward_with(&source, target, &all, &causal, &all).unwrap()
    };
    let y = run(&Tape::new(1).watch(&model), &target);
    let grads = y.try_mul(&wave(y.shape(), 3)).unwrap().sum().backward().unwrap();
    model.for_each_param(|path, p| {
        if let crate::nn::ParamRef::F64(p) = p {
            assert!(grads.get(p).unwrap().norm().item().unwrap() > 0.0, "{path}");
        }
    });
    let mut other = target.clone();
    other.set([0, 3, 0], 5.0).unwrap();
    let (a, b) = (run(&model, &target), run(&model, &other));
    near(&a.narrow(1, 0, 3).unwrap(), &b.narrow(1, 0, 3).unwrap());
    assert!(a.get([0, 3, 0]).unwrap() != b.get([0, 3, 0]).unwrap());
}

#[test]
fn step_by_step_is_all_at_once() {
    let (memory, x) = (wave(&[2, 5, 8], 1), wave(&[2, 6, 8], 2));
    let (all, causal) = (Attend::new(), Attend::new().causal(true));
    let decoder = TransformerDecoder::<f64>::new(8, 2, 2)
        .dim_feedforward(12)
        .final_norm(true)
        .build(&mut crate::rng(0))
        .unwrap();
    let whole = decoder.forward_with(&x, &memory, &causal, &all).unwrap();
    let mut caches = decoder.caches();
    for (at, n) in [(0, 3), (3, 1), (4, 2)] {
        let y =
            decoder.continued(&x.narrow(1, at, n).unwrap(), &memory, &mut caches, &all).unwrap();
        near(&y, &whole.narrow(1, at, n).unwrap());
    }
    // Another memory is noticed.
    let memory = wave(&[2, 3, 8], 4);
    let whole = decoder.forward_with(&x, &memory, &causal, &all).unwrap();
    caches.iter_mut().for_each(|c| c.itself.clear());
    near(&decoder.continued(&x, &memory, &mut caches, &all).unwrap(), &whole);
    let e = decoder.continued(&x, &memory, &mut caches[..1], &all).unwrap_err().to_string();
    assert_eq!(e, "TransformerDecoder: 1 caches for 2 layers");
}

#[test]
fn dropout_while_training_alone() {
    let layer = TransformerEncoderLayer::<f64>::new(8, 2).build(&mut crate::rng(0)).unwrap();
    let x = wave(&[1, 3, 8], 1);
    assert_eq!(layer.forward(&x).unwrap(), layer.forward(&x).unwrap());
    let train = |seed| Tape::new(seed).watch(&layer).forward(&x).unwrap().detach();
    assert_eq!(train(1), train(1));
    assert_ne!(train(1), train(2));
}

#[test]
fn errors_name_the_place() {
    let model = TransformerEncoder::<f64>::new(8, 2, 2).build(&mut crate::rng(0)).unwrap();
    let e = Tape::new(0).watch(&model).forward(&wave(&[1, 3, 7], 1)).unwrap_err().to_string();
    assert_eq!(
        e,
        "MultiHeadAttention: the query has shape [1, 3, 7]; expected a last axis of 8 [at layers.0.self_attn]"
    );
    let e = TransformerEncoderLayer::<f64>::new(8, 3).build(&mut crate::rng(0)).unwrap_err();
    assert!(e.to_string().contains("8 does not divide into 3 heads"));
    assert!(
        TransformerEncoderLayer::<f64>::new(8, 2).dropout(2.0).build(&mut crate::rng(0)).is_err()
    );
}
