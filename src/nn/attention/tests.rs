use super::*;
use crate::Tape;
use crate::nn::{ItemMut, ParamMut, VisitorMut};

fn wave(shape: &[usize], seed: usize) -> Tensor<f64> {
    let n = shape.iter().product::<usize>() + 13;
    Tensor::from_fn(shape, |i| ((i * 37 + seed * 101) % n) as f64 / n as f64 * 2.0 - 1.0).unwrap()
}

/// Parameters that are not 0 anywhere.
fn filled(mut m: MultiHeadAttention<f64>) -> MultiHeadAttention<f64> {
    let mut seed = 0;
    VisitorMut::walk(&mut m, &mut |_, item| {
        if let ItemMut::Param(ParamMut::F64(p)) = item {
            seed += 1;
            p.set(wave(p.shape(), seed));
        }
    });
    m
}

fn make(
    width: usize,
    heads: usize,
    f: impl FnOnce(MultiHeadAttentionBuilder<f64>) -> MultiHeadAttentionBuilder<f64>,
) -> MultiHeadAttention<f64> {
    filled(f(MultiHeadAttention::new(width, heads)).build(&mut crate::rng(0)).unwrap())
}

fn near(a: &Tensor<f64>, b: &Tensor<f64>) {
    assert_eq!(a.shape(), b.shape());
    // Sums of a few dozen terms of size one.
    assert!(a.iter().zip(b.iter()).all(|(a, b)| (a - b).abs() < 1e-12), "{a} {b}");
}

/// The definition, a number at a time, for one sequence.
fn slow(
    m: &MultiHeadAttention<f64>,
    q: &Tensor<f64>,
    k: &Tensor<f64>,
    v: &Tensor<f64>,
) -> Tensor<f64> {
    let (e, d) = (m.embed_dim(), m.head_dim());
    let share = m.num_heads() / m.kv_heads();
    let (q, k, v) = (m.project(0, q).unwrap(), m.project(1, k).unwrap(), m.project(2, v).unwrap());
    let (n, keys) = (q.shape()[0], k.shape()[0]);
    let at = |x: &Tensor<f64>, i: usize, j: usize| x.get([i as isize, j as isize]).unwrap();
    let mut joined = vec![0.0; n * e];
    for h in 0..m.num_heads() {
        let (qh, kh) = (h * d, h / share * d);
        for i in 0..n {
            let score = |j: usize| {
                (0..d).map(|c| at(&q, i, qh + c) * at(&k, j, kh + c)).sum::<f64>()
                    / (d as f64).sqrt()
            };
            let weights: Vec<f64> = (0..keys).map(|j| score(j).exp()).collect();
            let total: f64 = weights.iter().sum();
            for c in 0..d {
                let y: f64 = (0..keys).map(|j| weights[j] / total * at(&v, j, kh + c)).sum();
                joined[i * e + qh + c] = y;
            }
        }
    }
    m.out_proj.forward(&Tensor::from_vec(joined, [n, e]).unwrap()).unwrap()
}

#[test]
fn the_definition() {
    let (q, k, v) = (wave(&[3, 6], 1), wave(&[5, 4], 2), wave(&[5, 7], 3));
    let all = Attend::new();
    let m = make(6, 2, |b| b.kdim(4).vdim(7));
    near(&m.attend(&q, &k, &v, &all).unwrap(), &slow(&m, &q, &k, &v));
    let m = make(6, 3, |b| b.kdim(4).vdim(7).kv_heads(1).bias(false));
    near(&m.attend(&q, &k, &v, &all).unwrap(), &slow(&m, &q, &k, &v));
    let m = make(6, 6, |b| b.kv_heads(3));
    near(&m.forward(&q).unwrap(), &slow(&m, &q, &q, &q));
}

#[test]
fn the_three_orders_of_axes_agree() {
    let first = make(6, 2, |b| b);
    let mut second = first.clone();
    second.batch_first = false;
    let x = wave(&[3, 5, 6], 1);
    let swapped = x.transpose(0, 1).unwrap();
    let mask = Tensor::<f64>::eye(5).unwrap().eq_scalar(1.0);
    for options in [Attend::new(), Attend::new().causal(true), Attend::new().attn_mask(&mask)] {
        let (y, w) = first.attend_with_weights(&x, &x, &x, &options, false).unwrap();
        near(&first.attend(&x, &x, &x, &options).unwrap(), &y);
        let (y2, w2) =
            second.attend_with_weights(&swapped, &swapped, &swapped, &options, false).unwrap();
        near(&y2.transpose(0, 1).unwrap(), &y);
        near(&w2, &w);
        for b in 0..3 {
            let x = x.select(0, b).unwrap();
            for m in [&first, &second] {
                let (y1, w1) = m.attend_with_weights(&x, &x, &x, &options, true).unwrap();
                near(&y1, &y.select(0, b).unwrap());
                near(&w1, &w.select(0, b).unwrap().mean_axes(0, false).unwrap());
            }
        }
    }
}

#[test]
fn the_gradients_reach_every_parameter() {
    let cases = [
        make(6, 2, |b| b),
        make(6, 3, |b| b.kdim(4).vdim(5).add_bias_kv(true).add_zero_attn(true)),
        make(8, 4, |b| b.kv_heads(2).rotary(Rotary::new(2).unwrap()).causal(true)),
    ];
    for m in &cases {
        let (k, v) = (wave(&[2, 4, m.width_of(1)], 2), wave(&[2, 4, m.width_of(2)], 3));
        let q = wave(&[2, 4, m.embed_dim()], 1);
        let loss = |m: &MultiHeadAttention<f64>| {
            let y = m.attend(&q, &k, &v, &Attend::new()).unwrap();
            y.try_mul(&wave(y.shape(), 9)).unwrap().sum()
        };
        let grads = loss(&Tape::new(0).watch(m)).backward().unwrap();
        // Along each parameter's own direction the loss changes as its gradient says; a central difference is right to ten digits.
        let mut paths = m.param_paths();
        paths.reverse();
        for path in paths {
            let moved = |step: f64| {
                let mut m = m.clone();
                VisitorMut::walk(&mut m, &mut |at, item| {
                    if let ItemMut::Param(ParamMut::F64(p)) = item
                        && at == path
                    {
                        p.set(p.tensor() + &(wave(p.shape(), 4) * step));
                    }
                });
                loss(&m).item().unwrap()
            };
            let numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            let mut exact = f64::NAN;
            m.for_each_param(|at, p| {
                if let (crate::nn::ParamRef::F64(p), true) = (p, at == path) {
                    let g = grads.get(p).unwrap();
                    exact = g.try_mul(&wave(p.shape(), 4)).unwrap().sum().item().unwrap();
                }
            });
            assert!(
                (numeric - exact).abs() < 1e-8 * exact.abs().max(1.0),
                "{path}: {numeric} {exact}"
            );
        }
    }
}

#[test]
fn keys_that_the_layer_adds() {
    // With everything else forbidden, the zero key takes all: the result is the last bias.
    let m = make(4, 2, |b| b.add_zero_attn(true));
    let x = wave(&[1, 3, 4], 1);
    let none = Tensor::full([3, 3], true).unwrap();
    let (y, w) = m.attend_with_weights(&x, &x, &x, &Attend::new().attn_mask(&none), true).unwrap();
    assert_eq!(w.shape(), [1, 3, 4]);
    near(&y.select(1, 2).unwrap().squeeze(0).unwrap(), m.out_proj.bias.as_ref().unwrap());
    // Causal masks and padding leave the added keys alone.
    let m = make(4, 2, |b| b.add_zero_attn(true).add_bias_kv(true).causal(true));
    let padding = Tensor::from([[true, false, false]]);
    let options = Attend::new().key_padding_mask(&padding);
    let (y, w) = m.attend_with_weights(&x, &x, &x, &options, true).unwrap();
    assert_eq!(w.slice((0, 0, ..3)).unwrap().to_vec(), [0.0; 3]);
    assert!(w.slice((0, 0, 3..)).unwrap().iter().all(|v| v > 0.0));
    near(&m.attend(&x, &x, &x, &options).unwrap(), &y);
}

#[test]
fn masks_in_all_their_shapes() {
    let m = make(4, 2, |b| b);
    let (x, k) = (wave(&[2, 3, 4], 1), wave(&[2, 5, 4], 2));
    let y = |o: Attend<f64>| m.attend(&x, &k, &k, &o).unwrap();
    let block = Tensor::from_vec((0..15).map(|i| i % 4 == 1).collect(), [3, 5]).unwrap();
    let inf = f64::NEG_INFINITY;
    let add = Tensor::<f64>::zeros([3, 5]).unwrap().masked_fill(&block, inf).unwrap();
    let base = y(Attend::new().attn_mask(&block));
    near(&y(Attend::new().attn_mask(&add)), &base);
    near(&y(Attend::new().attn_mask(block.expand([4, 3, 5]).unwrap())), &base);
    near(&y(Attend::new().attn_mask(block.reshape([1, 1, 3, 5]).unwrap())), &base);
    near(&y(Attend::new().attn_mask(add.expand([2, 2, 3, 5]).unwrap())), &base);
    let pad = Tensor::from([[false, false, true, true, true], [false; 5]]);
    let pad_add = Tensor::<f64>::zeros([2, 5]).unwrap().masked_fill(&pad, inf).unwrap();
    let base = y(Attend::new().key_padding_mask(&pad));
    near(&y(Attend::new().key_padding_mask(&pad_add)), &base);
    // What is forbidden might as well not be there.
    let short = m
        .attend(
            &x.narrow(0, 0, 1).unwrap(),
            &k.slice((..1, ..2)).unwrap(),
            &k.slice((..1, ..2)).unwrap(),
            &Attend::new(),
        )
        .unwrap();
    near(&base.narrow(0, 0, 1).unwrap(), &short);
}

#[test]
fn step_by_step_is_all_at_once() {
    let cases = [
        make(8, 2, |b| b.causal(true)),
        make(8, 4, |b| b.causal(true).kv_heads(2).rotary(Rotary::new(2).unwrap())),
        make(8, 4, |b| b.causal(true).add_bias_kv(true).add_zero_attn(true)),
        make(8, 4, |b| b.causal(true).batch_first(false)),
    ];
    for m in &cases {
        let x = wave(&[40, 40, 8], 1);
        let axis = if m.batch_first { 1 } else { 0 };
        let x = x.narrow(1 - axis, 0, 2).unwrap();
        let whole = m.forward(&x).unwrap();
        let mut cache = KvCache::new();
        let mut at = 0;
        for n in [3, 1, 1, 20, 1, 14] {
            let y = m.continued(&x.narrow(axis, at, n).unwrap(), &mut cache).unwrap();
            near(&y, &whole.narrow(axis, at, n).unwrap());
            at += n;
            assert_eq!(cache.len(), at);
        }
        // Back to the tenth, and another batch after clearing.
        cache.truncate(10);
        let y = m.continued(&x.narrow(axis, 10, 1).unwrap(), &mut cache).unwrap();
        near(&y, &whole.narrow(axis, 10, 1).unwrap());
        let other = x.narrow(1 - axis, 0, 1).unwrap();
        let e = m.continued(&other, &mut cache).unwrap_err().to_string();
        assert!(e.contains("clear() starts anew"), "{e}");
        assert_eq!(cache.len(), 11);
        cache.clear();
        m.continued(&other, &mut cache).unwrap();
    }
    let m = &cases[0];
    let e = Tape::new(0).watch(m).continued(&wave(&[1, 2, 8], 1), &mut KvCache::new());
    assert!(e.unwrap_err().to_string().contains("holds no gradients"));
}

#[test]
fn dropout_while_training_alone() {
    let m = make(4, 2, |b| b.dropout(0.5));
    let x = wave(&[2, 6, 4], 1);
    assert_eq!(m.forward(&x).unwrap(), m.forward(&x).unwrap());
    let train = |seed| Tape::new(seed).watch(&m).forward(&x).unwrap().detach();
    assert_eq!(train(1), train(1));
    assert_ne!(train(1), train(2));
    assert_ne!(train(1), m.forward(&x).unwrap());
}

#[test]
fn empty_inputs() {
    let m = make(4, 2, |b| b);
    assert_eq!(m.forward(&wave(&[0, 3, 4], 1)).unwrap().shape(), [0, 3, 4]);
    assert_eq!(m.forward(&wave(&[2, 0, 4], 1)).unwrap().shape(), [2, 0, 4]);
    // Nothing to attend to: the bias of the last projection is what is left.
    let (x, none) = (wave(&[1, 1, 4], 1), wave(&[1, 0, 4], 1));
    let y = m.attend(&x, &none, &none, &Attend::new()).unwrap();
    near(&y.reshape([4]).unwrap(), m.out_proj.bias.as_ref().unwrap());
}

#[test]
fn how_it_starts() {
    let m =
        MultiHeadAttention::<f32>::new(64, 4).add_bias_kv(true).build(&mut crate::rng(0)).unwrap();
    assert_eq!(
        m.param_paths(),
        ["in_proj_weight", "in_proj_bias", "bias_k", "bias_v", "out_proj.weight", "out_proj.bias"]
    );
    let bound = (6f32 / 256.0).sqrt();
    let w = m.in_proj_weight.as_ref().unwrap();
    assert!(w.iter().all(|v| v.abs() <= bound) && w.iter().any(|v| v.abs() > 0.99 * bound));
    assert!(m.in_proj_bias.as_ref().unwrap().iter().all(|v| v == 0.0));
    assert!(m.out_proj.bias.as_ref().unwrap().iter().all(|v| v == 0.0));
    assert!(m.out_proj.weight.iter().all(|v| v.abs() <= 0.125));
}

#[test]
fn what_does_not_fit() {
    let build = |w, h| MultiHeadAttention::<f32>::new(w, h);
    let say = |b: MultiHeadAttentionBuilder| b.build(&mut crate::rng(0)).unwrap_err().to_string();
    assert_eq!(
        say(build(10, 3)),
        "MultiHeadAttention: a width of 10 does not divide into 3 heads: embed_dim must be a positive multiple of num_heads"
    );
    assert!(say(build(4, 0)).contains("0 heads"));
    assert!(say(build(8, 4).kv_heads(3)).contains("cannot share 3"));
    assert!(say(build(8, 4).dropout(1.5)).contains("1.5"));
    assert!(say(build(8, 4).rotary(Rotary::new(4).unwrap())).contains("heads of width 2"));
    let m = make(4, 2, |b| b);
    let x = wave(&[2, 3, 4], 1);
    let say = |q: &[usize], k: &[usize], v: &[usize]| {
        m.attend(&wave(q, 1), &wave(k, 1), &wave(v, 1), &Attend::new()).unwrap_err().to_string()
    };
    assert_eq!(
        say(&[2, 3, 4], &[2, 3, 5], &[2, 3, 4]),
        "MultiHeadAttention: the key has shape [2, 3, 5]; expected a last axis of 4"
    );
    assert!(say(&[2, 3, 4], &[2, 3, 4], &[2, 4, 4]).contains("a value for each key"));
    assert!(say(&[2, 3, 4], &[1, 3, 4], &[1, 3, 4]).contains("batches differ"));
    assert!(say(&[3, 4], &[1, 3, 4], &[1, 3, 4]).contains("expected [batch, positions, width]"));
    let mask = Attend::new().attn_mask(Tensor::full([2, 3], false).unwrap());
    let e = m.attend(&x, &x, &x, &mask).unwrap_err().to_string();
    assert!(
        e.starts_with("MultiHeadAttention: attn_mask has shape [2, 3]; expected [3, 3]"),
        "{e}"
    );
    let mask = Attend::new().key_padding_mask(Tensor::full([3, 2], false).unwrap());
    assert_eq!(
        m.attend(&x, &x, &x, &mask).unwrap_err().to_string(),
        "MultiHeadAttention: key_padding_mask has shape [3, 2]; expected [2, 3], a number for each key"
    );
}
