use super::*;
use crate::Tape;
use crate::autograd::{gradcheck, gradgradcheck};
use crate::tensor::Layout;

fn wave(shape: &[usize], seed: usize) -> Tensor<f64> {
    let n = shape.iter().product::<usize>().max(1);
    Tensor::from_fn(shape, |i| {
        ((i * 37 + seed * 101) % (n + 13)) as f64 / (n + 13) as f64 * 3.0 - 1.5
    })
    .unwrap()
}

/// The same values with heads and positions swapped in memory, as after a projection.
fn alternating(x: &Tensor<f64>) -> Tensor<f64> {
    let l = Layout::dense(x.shape());
    let rank = l.rank();
    let mut order: Vec<usize> = (0..rank).collect();
    order.swap(rank - 3, rank - 2);
    let copy = x.with_layout(x.layout().permute(&order)).copy();
    copy.with_layout(copy.layout().permute(&order))
}

/// Value and gradients of the fused and of the composed form agree. The sums have up to 600 terms of size one: errors of 1e-13.
fn agree(q: &Tensor<f64>, k: &Tensor<f64>, v: &Tensor<f64>, options: &Attention<f64>) {
    let run = |fused: bool| {
        let tape = Tape::new(0);
        let [q, k, v] = [q, k, v].map(|x| tape.leaf(x));
        let y = if fused {
            q.scaled_dot_product_attention(&k, &v, options).unwrap()
        } else {
            q.attention_with_weights(&k, &v, options).unwrap().0
        };
        let g = wave(y.shape(), 7);
        let grads = y.backward_with(&g).unwrap();
        let d = [&q, &k, &v].map(|x| grads.wrt(x).unwrap().clone());
        (y.detach(), d)
    };
    let ((y, d), (y2, d2)) = (run(true), run(false));
    let near = |a: &Tensor<f64>, b: &Tensor<f64>, what: &str| {
        assert_eq!(a.shape(), b.shape(), "{what}");
        for (i, (a, b)) in a.iter().zip(b.iter()).enumerate() {
            assert!((a - b).abs() < 1e-12, "{what}[{i}]: {a} {b} ({:?})", y.shape());
        }
    };
    near(&y, &y2, "y");
    for (i, what) in ["dq", "dk", "dv"].iter().enumerate() {
        near(&d[i], &d2[i], what);
    }
}

fn checkerboard(shape: &[usize]) -> Tensor<bool> {
    let keys = shape[shape.len() - 1];
    Tensor::from_vec(
        (0..shape.iter().product()).map(|i| (i / keys + i % keys) % 3 != 1).collect(),
        shape,
    )
    .unwrap()
}

#[test]
fn by_hand() {
    // Two keys; the scores are 0 and ln 3, so the weights 1/4 and 3/4.
    let q = Tensor::from([[1.0f64]]);
    let k = Tensor::from([[0.0], [3f64.ln()]]);
    let v = Tensor::from([[4.0, 0.0], [8.0, 4.0]]);
    let y = q.scaled_dot_product_attention(&k, &v, &Attention::new()).unwrap();
    assert!((y.get([0, 0]).unwrap() - 7.0).abs() < 1e-14);
    assert!((y.get([0, 1]).unwrap() - 3.0).abs() < 1e-14);
    let y = q.scaled_dot_product_attention(&k, &v, &Attention::new().causal()).unwrap();
    assert_eq!(y.to_vec(), [4.0, 0.0]);
    let y = q.scaled_dot_product_attention(&k, &v, &Attention::new().causal_from(1)).unwrap();
    assert!((y.get([0, 0]).unwrap() - 7.0).abs() < 1e-14);
    let add = Tensor::from([3f64.ln(), 0.0]);
    let y = q.scaled_dot_product_attention(&k, &v, &Attention::new().mask(add)).unwrap();
    assert!((y.get([0, 0]).unwrap() - 6.0).abs() < 1e-14);
}

#[test]
fn fused_is_composed_at_sizes_around_the_tiles() {
    for (queries, keys) in
        [(1, 1), (1, 300), (3, 17), (128, 256), (129, 257), (127, 255), (260, 30), (300, 600)]
    {
        let (q, k) = (wave(&[2, queries, 5], 1), wave(&[2, keys, 5], 2));
        let v = wave(&[2, keys, 3], 3);
        agree(&q, &k, &v, &Attention::new());
        agree(&q, &k, &v, &Attention::new().causal().scale(0.3));
        agree(&q, &k, &v, &Attention::new().causal_from(keys.saturating_sub(queries)));
        agree(&q, &k, &v, &Attention::new().mask(checkerboard(&[queries, keys])));
        agree(&q, &k, &v, &Attention::new().mask(wave(&[2, 1, keys], 5)).dropout(0.3, 9));
    }
}

#[test]
fn grouped_heads_broadcast_batches_and_odd_layouts() {
    let (q, k, v) = (wave(&[2, 6, 20, 4], 1), wave(&[2, 3, 9, 4], 2), wave(&[2, 3, 9, 5], 3));
    let masks = Attention::new().mask(checkerboard(&[2, 1, 1, 9])).mask(wave(&[20, 1], 4));
    let all = [Attention::new(), Attention::new().causal().dropout(0.2, 3), masks];
    for options in &all {
        agree(&q, &k, &v, options);
        agree(&alternating(&q), &alternating(&k), &alternating(&v), options);
        // Keys stepped and reversed, values transposed in memory.
        let k2 = wave(&[2, 3, 18, 4], 2);
        let k2 = k2.with_layout(k2.layout().slice(2, 17, 9, -2));
        let v2 = wave(&[2, 3, 5, 9], 3);
        let v2 = v2.with_layout(v2.layout().permute(&[0, 1, 3, 2]));
        let q2 = wave(&[2, 6, 4, 20], 3);
        let q2 = q2.with_layout(q2.layout().permute(&[0, 1, 3, 2]));
        agree(&q2, &k2, &v2, options);
    }
    // One head of keys for all, one sequence of keys for the batch, no axis of heads at all.
    agree(&q, &wave(&[2, 1, 9, 4], 2), &wave(&[2, 1, 9, 5], 3), &Attention::new());
    agree(&q, &wave(&[3, 9, 4], 2), &wave(&[1, 3, 9, 5], 3), &Attention::new());
    agree(&wave(&[20, 4], 1), &wave(&[6, 9, 4], 2), &wave(&[9, 5], 3), &Attention::new());
    agree(&wave(&[20, 4], 1), &wave(&[9, 4], 2), &wave(&[9, 5], 3), &Attention::new().causal());
    // A mask whose columns lie apart, and one that is the same for all keys.
    let mask = checkerboard(&[9, 20]);
    let mask = mask.with_layout(mask.layout().permute(&[1, 0]));
    agree(&q, &k, &v, &Attention::new().mask(mask));
    agree(&q, &k, &v, &Attention::new().mask(checkerboard(&[20, 1])));
}

#[test]
fn gradients_by_finite_differences() {
    let (q, k, v) = (wave(&[2, 4, 3], 1), wave(&[2, 5, 3], 2), wave(&[2, 5, 2], 3));
    let attend = |o: Attention<f64>| {
        move |[q, k, v]: [&Tensor<f64>; 3]| q.scaled_dot_product_attention(k, v, &o)
    };
    gradcheck(attend(Attention::new()), [&q, &k, &v]).unwrap();
    gradcheck(attend(Attention::new().causal().dropout(0.4, 1)), [&q, &k, &v]).unwrap();
    let (k1, v1) = (wave(&[1, 5, 3], 2), wave(&[1, 5, 2], 3));
    gradcheck(attend(Attention::new().mask(checkerboard(&[4, 5]))), [&q, &k1, &v1]).unwrap();
    gradgradcheck(attend(Attention::new().causal().dropout(0.4, 1)), [&q, &k, &v]).unwrap();
    gradgradcheck(attend(Attention::new().scale(0.8)), [&q, &k1, &v1]).unwrap();
    // A recorded mask has a gradient as well.
    let mask = wave(&[4, 5], 4);
    gradcheck(
        |[q, k, v, m]| q.scaled_dot_product_attention(k, v, &Attention::new().mask(m)),
        [&q, &k, &v, &mask],
    )
    .unwrap();
}

#[test]
fn the_recorded_gradient_is_the_fused_one() {
    use crate::autograd::Op;
    let (q, k, v) = (wave(&[2, 4, 7, 3], 1), wave(&[2, 2, 5, 3], 2), wave(&[2, 2, 5, 2], 3));
    for options in [Attention::new().causal(), Attention::new().dropout(0.3, 4).scale(0.7)] {
        let x = Operands::new(&q, &k, &v, &options).unwrap();
        let op = fused::Fused { options: options.clone(), group: x.group };
        let (y, saved) = op.forward([&q, &k, &v]).unwrap();
        let g = wave(y.shape(), 5);
        let a = op.vjp(saved.clone(), g.clone(), [true; 3]).unwrap();
        let b = op.vjp_recorded(saved, g, [true; 3]).unwrap();
        for (a, b) in a.into_iter().zip(b) {
            let (a, b) = (a.unwrap(), b.unwrap());
            assert!(a.try_sub(&b).unwrap().abs().max().unwrap().item().unwrap() < 1e-13);
        }
    }
}

#[test]
fn parts_of_one_tensor_are_tensors() {
    let options = Attention::new().causal().dropout(0.2, 5);
    for (shape, batch_first) in [(&[2, 7, 24][..], true), (&[7, 2, 24], false), (&[7, 24], true)] {
        let x = wave(shape, 1);
        let packing = Packing { heads: 4, kv_heads: 2, batch_first };
        let packed = |x: &Tensor<f64>| packed_attention(x, packing, &options);
        let apart = |x: &Tensor<f64>| {
            let [q, k, v] = packing.parts(x)?;
            q.scaled_dot_product_attention(&k, &v, &options)
        };
        let run = |f: &dyn Fn(&Tensor<f64>) -> Result<Tensor<f64>>| {
            let tape = Tape::new(0);
            let leaf = tape.leaf(&x);
            let y = f(&leaf).unwrap();
            let grads = y.backward_with(&wave(y.shape(), 7)).unwrap();
            (y.to_vec(), grads.wrt(&leaf).unwrap().to_vec())
        };
        assert!(run(&packed) == run(&apart), "{shape:?}");
        gradgradcheck(|[x]: [&Tensor<f64>; 1]| packed(x), [&x]).unwrap();
    }
    // A recorded mask has a gradient.
    let (x, mask) = (wave(&[3, 6], 1), wave(&[3, 3], 2));
    let packing = Packing { heads: 1, kv_heads: 1, batch_first: true };
    gradcheck(
        |[x, m]: [&Tensor<f64>; 2]| packed_attention(x, packing, &Attention::new().mask(m)),
        [&x, &mask],
    )
    .unwrap();
}

#[test]
fn only_the_gradients_that_are_asked_for() {
    let (q, k, v) = (wave(&[2, 4, 3], 1), wave(&[2, 5, 3], 2), wave(&[2, 5, 2], 3));
    let all = {
        let tape = Tape::new(0);
        let [q, k, v] = [&q, &k, &v].map(|x| tape.leaf(x));
        let y = q.scaled_dot_product_attention(&k, &v, &Attention::new()).unwrap();
        let grads = y.sum().backward().unwrap();
        [&q, &k, &v].map(|x| grads.wrt(x).unwrap().to_vec())
    };
    for (i, want) in all.iter().enumerate() {
        let tape = Tape::new(0);
        let mut x = [q.clone(), k.clone(), v.clone()];
        x[i] = tape.leaf(&x[i]);
        let y = x[0].scaled_dot_product_attention(&x[1], &x[2], &Attention::new()).unwrap();
        assert_eq!(y.sum().backward().unwrap().wrt(&x[i]).unwrap().to_vec(), *want);
    }
}

#[test]
fn a_query_that_sees_nothing_gets_zero() {
    let (q, k, v) = (wave(&[1, 3, 2], 1), wave(&[1, 2, 2], 2), wave(&[1, 2, 2], 3));
    let allow = Tensor::from([[true, true], [false, false], [true, false]]);
    let inf = f64::NEG_INFINITY;
    let add = Tensor::from([[0.0, 0.0], [inf, inf], [0.0, inf]]);
    for options in [Attention::new().mask(allow), Attention::new().mask(add)] {
        agree(&q, &k, &v, &options);
        let y = q.scaled_dot_product_attention(&k, &v, &options).unwrap();
        assert_eq!(y.to_vec()[2..4], [0.0, 0.0]);
        assert_eq!(y.to_vec()[4..], v.to_vec()[..2]);
        let (_, w) = q.attention_with_weights(&k, &v, &options).unwrap();
        assert_eq!(w.to_vec()[2..4], [0.0, 0.0]);
    }
    // No keys at all.
    let none = Tensor::<f64>::zeros([1, 0, 2]).unwrap();
    agree(&q, &none, &none, &Attention::new());
    let y = q.scaled_dot_product_attention(&none, &none, &Attention::new()).unwrap();
    assert_eq!(y.to_vec(), [0.0; 6]);
}

#[test]
fn sizes_of_zero_and_nan() {
    for (q, k) in [([2, 0, 4], [2, 3, 4]), ([0, 2, 4], [0, 3, 4])] {
        agree(&wave(&q, 1), &wave(&k, 2), &wave(&k, 3), &Attention::new().causal());
    }
    let y = wave(&[2, 3, 4], 1).scaled_dot_product_attention(
        &wave(&[2, 3, 4], 2),
        &wave(&[2, 3, 0], 3),
        &Attention::new(),
    );
    assert_eq!(y.unwrap().shape(), [2, 3, 0]);
    let nan = Tensor::from([[f64::NAN], [1.0]]);
    let one = Tensor::from([[1.0], [2.0]]);
    let y = nan.scaled_dot_product_attention(&one, &one, &Attention::new()).unwrap().to_vec();
    assert!(y[0].is_nan() && y[1] > 1.0);
    let y = one.scaled_dot_product_attention(&nan, &one, &Attention::new()).unwrap();
    assert!(y.iter().all(f64::is_nan));
}

#[test]
fn large_scores_do_not_overflow() {
    let big = Tensor::from([[300.0f32], [-300.0]]);
    let v = Tensor::from([[1.0f32], [2.0]]);
    let y = big.scaled_dot_product_attention(&big, &v, &Attention::new()).unwrap();
    assert_eq!(y.to_vec(), [1.0, 2.0]);
}

#[test]
fn dropout_follows_the_seed() {
    let x = wave(&[1, 30, 4], 1);
    let run = |seed| {
        x.scaled_dot_product_attention(&x, &x, &Attention::new().dropout(0.5, seed)).unwrap()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    let all = x.scaled_dot_product_attention(&x, &x, &Attention::new().dropout(1.0, 1)).unwrap();
    assert_eq!(all.to_vec(), vec![0.0; 120]);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    use crate::kernel::par::tests::with_threads;
    let mut rng = crate::rng(1);
    // With four units of keys and values two threads have a unit each, three or eight share them.
    let make = |rng: &mut _, heads| Tensor::<f32>::randn([2, heads, 300, 16], rng).unwrap();
    let (q, k, v) = (make(&mut rng, 4), make(&mut rng, 2), make(&mut rng, 2));
    let run = |threads| {
        let mut bits = Vec::new();
        with_threads(threads, || {
            let tape = Tape::new(0);
            let [q, k, v] = [&q, &k, &v].map(|x| tape.leaf(x));
            let y = q.scaled_dot_product_attention(&k, &v, &Attention::new().causal()).unwrap();
            bits.extend(y.to_vec());
            let grads = y.square().sum().backward().unwrap();
            for x in [&q, &k, &v] {
                bits.extend(grads.wrt(x).unwrap().to_vec());
            }
        });
        bits
    };
    let one = run(1);
    assert!(one == run(2) && one == run(3) && one == run(8));
}

#[test]
fn what_does_not_fit() {
    let x = |shape: &[usize]| Tensor::<f32>::zeros(shape).unwrap();
    let say = |q: &[usize], k: &[usize], v: &[usize], o: Attention| {
        x(q).scaled_dot_product_attention(&x(k), &x(v), &o).unwrap_err().to_string()
    };
    let plain = Attention::new;
    assert_eq!(
        say(&[2, 3, 4], &[2, 3, 5], &[2, 3, 4], plain()),
        "scaled_dot_product_attention: q [2, 3, 4], k [2, 3, 5], v [2, 3, 4]: queries and keys differ in width (4 ≠ 5)"
    );
    assert_eq!(
        say(&[2, 3, 4], &[2, 3, 4], &[2, 5, 4], plain()),
        "scaled_dot_product_attention: q [2, 3, 4], k [2, 3, 4], v [2, 5, 4]: there are 3 keys and 5 values"
    );
    assert!(say(&[4], &[2, 4], &[2, 4], plain()).contains("[.., heads, positions, width]"));
    assert!(say(&[6, 3, 4], &[4, 3, 4], &[4, 3, 4], plain()).contains("heads of q"));
    assert!(say(&[2, 4, 3, 4], &[3, 2, 3, 4], &[3, 2, 3, 4], plain()).contains("broadcast"));
    assert_eq!(
        say(&[2, 3, 4], &[2, 5, 4], &[2, 5, 4], plain().mask(Tensor::from([true, false]))),
        "scaled_dot_product_attention: the mask [2] does not broadcast to [.., queries, keys], which is [2, 3, 5] here"
    );
    assert!(say(&[2, 4], &[2, 4], &[2, 4], plain().dropout(1.5, 0)).contains("is 1.5"));
}
