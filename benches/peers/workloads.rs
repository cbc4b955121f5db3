//! Training steps and inference calls by name.

use std::time::Instant;

use gradus::prelude::*;

use crate::models::{Bert, Cnn, Gpt2, GptChar, LstmChar, MhaBlock, Mlp, ResNet18, ResNet50};
use crate::numbers::{init, ints, signed, unit};

/// What one call gives back: a loss, or an output to be checked.
pub enum Out {
    Loss(f32),
    Output(Tensor),
}

/// More fields for the result, from the number of untimed calls.
type Report = Box<dyn Fn(usize) -> Vec<(&'static str, String)>>;

pub struct Work {
    pub items: usize,
    pub unit: &'static str,
    pub steps: usize,
    pub warmup: usize,
    pub params: usize,
    pub call: Box<dyn FnMut() -> Result<Out>>,
    pub report: Option<Report>,
}

pub const WORKLOADS: &[&str] = &[
    "linreg",
    "mlp_mnist",
    "cnn_mnist_b32",
    "cnn_mnist_b128",
    "lstm_char",
    "gpt_char",
    "mha_block",
    "resnet_cifar",
    "infer_cnn_b1",
    "infer_gpt2_small",
    "infer_resnet50_b1",
    "infer_bert_base_s128_b1",
];

/// A training loop over one batch: `loss` from the watched copy, `step` with the gradients.
fn training<M: Module + Clone + 'static>(
    mut model: M,
    items: usize,
    unit: &'static str,
    (steps, warmup): (usize, usize),
    loss: impl Fn(&M) -> Result<Tensor> + 'static,
    mut step: impl FnMut(&mut M, &Gradients) -> Result<()> + 'static,
) -> Work {
    init(&mut model);
    let params = model.num_params();
    let mut seed = 0;
    let call = move || {
        seed += 1;
        let tape = Tape::new(seed);
        let loss = loss(&tape.watch(&model))?;
        let grads = loss.backward()?;
        step(&mut model, &grads)?;
        Ok(Out::Loss(loss.item()?))
    };
    Work { items, unit, steps, warmup, params, call: Box::new(call), report: None }
}

/// One call after the other on the same input.
fn inference<M: Module + 'static>(
    mut model: M,
    unit: &'static str,
    (steps, warmup): (usize, usize),
    forward: impl Fn(&M) -> Result<Tensor> + 'static,
) -> Work {
    init(&mut model);
    let params = model.num_params();
    let call = move || Ok(Out::Output(forward(&model)?));
    Work { items: 1, unit, steps, warmup, params, call: Box::new(call), report: None }
}

/// Greedy decoding: 32 tokens of prompt, 64 new ones.
fn gpt2(mut model: Gpt2) -> Result<Work> {
    let (new, vocabulary) = (64, Gpt2::VOCABULARY as u64);
    init(&mut model);
    let params = model.num_params();
    let prompt = ints(1, vocabulary, &[1, 32])?;
    let mut caches = model.caches(32 + new);
    let log = std::rc::Rc::new(std::cell::RefCell::new((Vec::new(), Vec::new(), Vec::new())));
    let seen = log.clone();
    let call = move || {
        let start = Instant::now();
        caches.iter_mut().for_each(|c| c.truncate(0));
        let mut logits = model.next(&prompt, &mut caches)?;
        let mut ids = logits.argmax(-1, true)?;
        let mut tokens = vec![ids.item()?];
        let prompt_done = Instant::now();
        while tokens.len() < new {
            logits = model.next(&ids, &mut caches)?;
            ids = logits.argmax(-1, true)?;
            tokens.push(ids.item()?);
        }
        let (prefill, decode, last) = &mut *seen.borrow_mut();
        prefill.push(prompt_done.duration_since(start).as_secs_f64());
        decode.push(prompt_done.elapsed().as_secs_f64());
        *last = tokens;
        Ok(Out::Output(logits))
    };
    let report = move |warmup: usize| {
        let (prefill, decode, tokens) = &*log.borrow();
        let median = |all: &[f64]| {
            let mut all = all[warmup..].to_vec();
            all.sort_by(f64::total_cmp);
            crate::percentile(&all, 0.5)
        };
        vec![
            ("prefill_ms", format!("{:.4}", 1e3 * median(prefill))),
            ("decode_tokens_per_s", format!("{:.3}", (new - 1) as f64 / median(decode))),
            ("tokens", format!("{tokens:?}")),
        ]
    };
    let (call, report) = (Box::new(call), Some(Box::new(report) as Report));
    Ok(Work { items: new, unit: "tokens", steps: 8, warmup: 2, params, call, report })
}

fn adam<M: Module>() -> impl FnMut(&mut M, &Gradients) -> Result<()> {
    let mut adam = Adam::new(1e-3);
    move |m, g| adam.step(m, g)
}

/// Ids and, shifted by one, what is to be predicted at each of them.
fn text(batch: usize, len: usize) -> Result<(Tensor<i64>, Tensor<i64>)> {
    let s = ints(1, 65, &[batch, len + 1])?;
    Ok((s.narrow(1, 0, len)?, s.narrow(1, 1, len)?.flatten(..)?))
}

/// The workload of this name, if there is one.
pub fn workload(name: &str) -> Result<Option<Work>> {
    let rng = &mut gradus::rng(0);
    Ok(Some(match name {
        "linreg" => {
            let x = signed(1, &[32, 1], 1.0)?;
            let y = &x * 3.0 + 2.0;
            let mut sgd = Sgd::new(0.01);
            let model: Dense = Dense::new(1, 1).build(rng)?;
            let loss = move |m: &Dense| m.forward(&x)?.mse(&y);
            training(model, 32, "samples", (5000, 200), loss, move |m, g| sgd.step(m, g))
        }
        "mlp_mnist" => {
            let (x, y) = (unit(1, &[64, 784])?, ints(2, 10, &[64])?);
            let loss = move |m: &Mlp| m.forward(&x)?.cross_entropy(&y);
            training(Mlp::new(rng)?, 64, "samples", (1000, 50), loss, adam())
        }
        "cnn_mnist_b32" | "cnn_mnist_b128" => {
            let (n, steps) = if name == "cnn_mnist_b32" { (32, 200) } else { (128, 60) };
            let (x, y) = (unit(1, &[n, 1, 28, 28])?, ints(2, 10, &[n])?);
            let loss = move |m: &Cnn| m.forward(&x)?.cross_entropy(&y);
            training(Cnn::new(rng)?, n, "images", (steps, 10), loss, adam())
        }
        "lstm_char" => {
            let (x, y) = text(32, 64)?;
            let loss = move |m: &LstmChar| m.forward(&x)?.flatten(..2)?.cross_entropy(&y);
            training(LstmChar::new(rng)?, 2048, "tokens", (50, 5), loss, adam())
        }
        "gpt_char" => {
            let (x, y) = text(16, 128)?;
            let loss = move |m: &GptChar| m.forward(&x)?.flatten(..2)?.cross_entropy(&y);
            let mut adamw = AdamW::new(1e-3).weight_decay(0.1);
            let step = move |m: &mut GptChar, g: &Gradients| adamw.step(m, g);
            training(GptChar::new(rng)?, 2048, "tokens", (50, 5), loss, step)
        }
        "mha_block" => {
            let shape = [8, 256, 256];
            let (x, y) = (signed(1, &shape, 1.0)?, signed(2, &shape, 1.0)?);
            let loss = move |m: &MhaBlock| m.forward(&x)?.mse(&y);
            let mut sgd = Sgd::new(1.0);
            let step = move |m: &mut MhaBlock, g: &Gradients| sgd.step(m, g);
            training(MhaBlock::new(rng)?, 2048, "tokens", (100, 10), loss, step)
        }
        "resnet_cifar" => {
            let (x, y) = (signed(1, &[32, 3, 32, 32], 1.0)?, ints(2, 10, &[32])?);
            let loss = move |m: &ResNet18| m.forward(&x)?.cross_entropy(&y);
            let mut sgd = Sgd::new(0.01).momentum(0.9);
            let step = move |m: &mut ResNet18, g: &Gradients| sgd.step(m, g);
            training(ResNet18::new(rng)?, 32, "images", (12, 3), loss, step)
        }
        "infer_cnn_b1" => {
            let x = unit(1, &[1, 1, 28, 28])?;
            inference(Cnn::new(rng)?, "images", (2000, 100), move |m| m.forward(&x))
        }
        "infer_gpt2_small" => gpt2(Gpt2::new(rng)?)?,
        "infer_resnet50_b1" => {
            let x = signed(1, &[1, 3, 224, 224], 1.0)?;
            inference(ResNet50::new(rng)?, "images", (40, 5), move |m| m.forward(&x))
        }
        "infer_bert_base_s128_b1" => {
            let x = ints(1, Bert::VOCABULARY as u64, &[1, 128])?;
            inference(Bert::new(rng)?, "sequences", (20, 3), move |m| m.forward(&x))
        }
        _ => return Ok(None),
    }))
}
