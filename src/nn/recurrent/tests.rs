//! The fused layers against compositions of tensor operations, gradients included.

use super::stack::Stack;
use super::*;
use crate::autograd::{Tape, gradcheck, gradgradcheck};
use crate::error::Error;
use crate::nn::Param;
use crate::ops::recurrent::Composed;

type T64 = Tensor<f64>;

fn random(shape: &[usize], seed: u64) -> T64 {
    Tensor::randn(shape, &mut crate::rng(seed)).unwrap()
}

/// The whole stack, composed; input and output by step, then sequence.
fn composed(
    net: &Stack<f64>,
    x: &T64,
    h0: &T64,
    c0: &T64,
    lengths: &[usize],
) -> Result<(T64, T64, T64)> {
    let c = net.config;
    let dirs = c.directions();
    let batch = lengths.len();
    let seed = |p: f64| if p > 0.0 { net.mode.next_seed() } else { None };
    let (mut x, mut hs, mut cs) = (x.clone(), Vec::new(), Vec::new());
    for (l, weights) in net.weights.chunks(dirs).enumerate() {
        if let Some(s) = if l > 0 { seed(c.dropout) } else { None } {
            x = x.dropout(c.dropout, s)?;
        }
        if let Some(s) = seed(c.variational) {
            let mask = Tensor::ones([batch, x.shape()[2]])?.dropout(c.variational, s)?;
            x = x.try_mul(&mask)?;
        }
        let mask = seed(c.variational)
            .map(|s| Tensor::<f64>::ones([dirs, batch, c.state()])?.dropout(c.variational, s))
            .transpose()?;
        let mut ys = Vec::new();
        for (d, w) in weights.iter().enumerate() {
            let mask = mask.as_ref().map(|m| m.select(0, d as isize)).transpose()?;
            let (cell, lengths, weights) = (c.cell, Some(lengths), w.of_op());
            let way = Composed { cell, reverse: d == 1, lengths, mask, weights };
            let k = (l * dirs + d) as isize;
            let [y, h, cell] = way.run(&x, h0.select(0, k)?, c0.select(0, k)?)?;
            ys.push(y);
            hs.push(h);
            cs.push(cell);
        }
        x = Tensor::concat(&ys.iter().collect::<Vec<_>>(), -1)?;
    }
    let all = |v: Vec<T64>| Tensor::stack(&v.iter().collect::<Vec<_>>(), 0);
    Ok((x, all(hs)?, all(cs)?))
}

/// The sum of `x` times fixed random numbers.
fn weighed(x: &T64, seed: u64) -> T64 {
    x.try_mul(&random(x.shape(), seed)).unwrap().sum()
}

fn close(what: &str, got: &T64, want: &T64) {
    assert_eq!(got.shape(), want.shape(), "{what}");
    // Sums of at most a few hundred products, in another order.
    let worst = got.iter().zip(want.iter()).map(|(a, b)| (a - b).abs() / (1.0 + b.abs()));
    let worst = worst.fold(0.0, |m: f64, d| if d.is_nan() { f64::NAN } else { m.max(d) });
    assert!(worst < 1e-11, "{what}: {worst}");
}

/// Values and the gradients of everything, fused against composed. `x` is by step, then sequence, whatever the layer takes.
fn agrees(what: &str, stack: &Stack<f64>, x: &T64, lengths: Option<&[usize]>) {
    let c = stack.config;
    let batch = x.shape()[1];
    let rows = stack.weights.len();
    // Views, so that no layout is the plain one.
    let h0 = random(&[batch, rows, c.state()], 11);
    let h0 = h0.with_layout(h0.layout().permute(&[1, 0, 2]));
    let c0 = random(&[rows, batch, c.hidden * 2], 12);
    let c0 = c0.with_layout(c0.layout().slice(2, 1, c.hidden, 2));
    let full = vec![x.shape()[0]; batch];
    let run = |fused: bool| {
        let tape = Tape::new(5);
        let net = tape.watch(stack);
        let (x, h0, c0) = (tape.leaf(x), tape.leaf(&h0), tape.leaf(&c0));
        let (y, h, cell) = if fused {
            let x = if c.batch_first { x.transpose(0, 1).unwrap() } else { x.clone() };
            let given_c = (c.cell == Cell::Lstm).then_some(&c0);
            let (y, h, cell) = net.run(&x, Some(&h0), given_c, lengths).unwrap();
            let y = if c.batch_first { y.transpose(0, 1).unwrap() } else { y };
            (y, h, cell.unwrap_or_else(|| c0.clone()))
        } else {
            composed(&net, &x, &h0, &c0, lengths.unwrap_or(&full)).unwrap()
        };
        let loss = weighed(&y, 1).try_add(&weighed(&h, 2)).unwrap();
        let loss = loss.try_add(&weighed(&cell, 3)).unwrap();
        let grads = loss.backward().unwrap();
        let mut all: Vec<(String, T64)> =
            vec![("y".into(), y.detach()), ("h".into(), h.detach()), ("c".into(), cell.detach())];
        for (name, leaf) in [("dx", &x), ("dh0", &h0), ("dc0", &c0)] {
            all.push((name.into(), grads.wrt(leaf).unwrap().clone()));
        }
        stack.for_each_param(|path, p| {
            if let crate::nn::ParamRef::F64(p) = p {
                all.push((path.into(), grads.get(p).unwrap().clone()));
            }
        });
        all
    };
    for ((name, got), (_, want)) in run(true).iter().zip(&run(false)) {
        close(&format!("{what} {name}"), got, want);
    }
}

fn builders(inputs: usize, hidden: usize) -> Vec<(Stack<f64>, &'static str)> {
    let mut rng = crate::rng(3);
    let mut all = Vec::new();
    for options in 0..8 {
        let (both, bias, layers) = (options & 1 > 0, options & 2 == 0, 1 + (options >> 2));
        macro_rules! add {
            ($b:expr, $name:literal) => {
                let b = $b.bidirectional(both).bias(bias).layers(layers).batch_first(both != bias);
                all.push((b.build(&mut rng).unwrap().stack, $name));
            };
        }
        add!(RNN::<f64>::new(inputs, hidden), "tanh");
        add!(RNN::<f64>::new(inputs, hidden).relu(), "relu");
        add!(GRU::<f64>::new(inputs, hidden), "gru");
        add!(LSTM::<f64>::new(inputs, hidden), "lstm");
        if hidden > 1 {
            add!(LSTM::<f64>::new(inputs, hidden).proj_size(hidden / 2), "lstm with projection");
        }
    }
    all
}

#[test]
fn fused_is_composed() {
    for (steps, batch, inputs, hidden) in [(1, 1, 1, 1), (5, 3, 4, 6), (3, 20, 2, 17)] {
        for (stack, name) in builders(inputs, hidden) {
            let x = random(&[steps, batch, inputs], 7);
            agrees(&format!("{name} {:?}", stack.config), &stack, &x, None);
        }
    }
}

#[test]
fn fused_is_composed_for_sequences_of_several_lengths() {
    for (stack, name) in builders(3, 5) {
        let x = random(&[6, 4, 3], 7);
        agrees(&format!("{name} {:?}", stack.config), &stack, &x, Some(&[2, 6, 1, 4]));
    }
}

#[test]
fn fused_is_composed_on_every_layout() {
    let wide = random(&[3, 9, 8], 1);
    let l = wide.layout();
    let (turned, stepped) = (l.permute(&[1, 0, 2]), l.slice(2, 7, 4, -2).slice(1, 1, 4, 2));
    let one = random(&[1, 1, 4], 2);
    let same = one.with_layout(one.layout().expand(&[3, 4, 4]));
    for (inputs, x) in [(8, wide.with_layout(turned)), (4, wide.with_layout(stepped)), (4, same)] {
        for (stack, name) in builders(inputs, 3) {
            agrees(&format!("{name} {:?}", stack.config), &stack, &x, None);
        }
    }
}

#[test]
fn fused_is_composed_with_dropout_of_both_kinds() {
    for (mut stack, name) in builders(3, 6) {
        for (dropout, variational) in [(0.4, 0.0), (0.0, 0.3), (0.4, 0.3)] {
            (stack.config.dropout, stack.config.variational) = (dropout, variational);
            let x = random(&[4, 3, 3], 7);
            let what = format!("{name} {:?}", stack.config);
            agrees(&what, &stack, &x, None);
            agrees(&what, &stack, &x, Some(&[4, 1, 2]));
        }
    }
}

/// Enough sequences for each thread to get some of its own, and sizes beyond a chunk and a tile.
#[test]
fn fused_is_composed_for_a_large_batch() {
    let mut rng = crate::rng(0);
    let gru = GRU::<f64>::new(5, 40).bidirectional(true).build(&mut rng).unwrap();
    agrees("gru", &gru.stack, &random(&[3, 70, 5], 1), None);
    let lstm = LSTM::<f64>::new(5, 40).build(&mut rng).unwrap();
    agrees("lstm", &lstm.stack, &random(&[3, 70, 5], 1), None);
}

#[test]
fn by_hand() {
    let mut cell = LSTMCell::<f64>::new(1, 1).bias(false).build(&mut crate::rng(0)).unwrap();
    cell.weight_ih.set(Tensor::from([[0.0], [0.0], [1.0], [0.0]]));
    cell.weight_hh.set(Tensor::zeros([4, 1]).unwrap());
    let one = Tensor::from([[1.0f64]]);
    let (h, c) = cell.forward(&one, Some((&one, &one))).unwrap();
    // All gates half open: c = (1 + tanh 1) / 2, h = tanh(c) / 2.
    let want = (1.0 + 1f64.tanh()) / 2.0;
    assert!((c.item().unwrap() - want).abs() < 1e-15);
    assert!((h.item().unwrap() - want.tanh() / 2.0).abs() < 1e-15);
}

#[test]
fn finite_differences() {
    let mut rng = crate::rng(1);
    let gru = GRU::<f64>::new(2, 3).bidirectional(true).build(&mut rng).unwrap();
    let lstm = LSTM::<f64>::new(2, 3).proj_size(2).build(&mut rng).unwrap();
    let (x, h2) = (random(&[3, 2, 2], 1), random(&[2, 2, 3], 2));
    gradcheck(|[x, h]| Ok(gru.forward_lengths(x, &[3, 1], Some(h))?.0), [&x, &h2]).unwrap();
    gradcheck(|[x, h]| Ok(gru.forward_with(x, Some(h))?.1), [&x, &h2]).unwrap();
    let (h, c) = (random(&[1, 2, 2], 3), random(&[1, 2, 3], 4));
    gradcheck(|[x, h, c]| Ok(lstm.forward_with(x, Some((h, c)))?.0), [&x, &h, &c]).unwrap();
    gradcheck(|[x, h, c]| Ok(lstm.forward_with(x, Some((h, c)))?.1.1), [&x, &h, &c]).unwrap();
}

#[test]
fn gradients_of_gradients() {
    let mut rng = crate::rng(1);
    let gru = GRU::<f64>::new(2, 3).bidirectional(true).build(&mut rng).unwrap();
    let (x, h) = (random(&[3, 2, 2], 1), random(&[2, 2, 3], 2));
    gradgradcheck(|[x, h]| Ok(gru.forward_lengths(x, &[3, 1], Some(h))?.0), [&x, &h]).unwrap();
    let lstm = LSTM::<f64>::new(2, 3).proj_size(2).build(&mut rng).unwrap();
    let (h, c, w) = (random(&[1, 2, 2], 3), random(&[1, 2, 3], 4), random(&[12, 2], 5));
    let with = |w: &T64| {
        let mut m = lstm.clone();
        m.weights_mut()[0].weight_hh = Param::computed(w.clone());
        m
    };
    // Of the last cell only, so that parts of the output are left out.
    let cell = |[x, h, c, w]: [&T64; 4]| Ok(with(w).forward_with(x, Some((h, c)))?.1.1);
    gradgradcheck(cell, [&x, &h, &c, &w]).unwrap();
    // The state computed from the input: its share must not count twice.
    let from_x = |[x]: [&T64; 1]| {
        let h = x.narrow(0, 0, 1)?;
        Ok(lstm.forward_with(x, Some((&h, &Tensor::zeros([1, 2, 3])?)))?.0)
    };
    gradgradcheck(from_x, [&x]).unwrap();
    let rnn = RNN::<f64>::new(2, 3).layers(2).batch_first(true).build(&mut rng).unwrap();
    gradgradcheck(|[x]| rnn.forward(x), [&random(&[2, 3, 2], 6)]).unwrap();
}

#[test]
fn a_single_sequence_and_no_state() {
    let lstm = LSTM::<f64>::new(2, 3).layers(2).bidirectional(true).batch_first(true);
    let lstm = lstm.build(&mut crate::rng(0)).unwrap();
    let x = random(&[5, 2], 1);
    let (y, (h, c)) = lstm.forward_with(&x, None).unwrap();
    assert_eq!((y.shape(), h.shape(), c.shape()), (&[5, 6][..], &[4, 3][..], &[4, 3][..]));
    let zeros = Tensor::zeros([4, 1, 3]).unwrap();
    let batch = x.unsqueeze(0).unwrap();
    let (y1, (h1, _)) = lstm.forward_with(&batch, Some((&zeros, &zeros))).unwrap();
    assert_eq!((y1.squeeze(0).unwrap(), h1.squeeze(1).unwrap()), (y, h));
    // No sequences at all.
    let (y, (h, _)) = lstm.forward_with(&Tensor::zeros([0, 5, 2]).unwrap(), None).unwrap();
    assert_eq!((y.shape(), h.shape()), (&[0, 5, 6][..], &[4, 0, 3][..]));
    let tape = Tape::new(0);
    let y = tape.watch(&lstm).forward(&Tensor::zeros([0, 5, 2]).unwrap()).unwrap();
    let grads = y.backward_with(&y.zeros_like()).unwrap();
    assert!(grads.get(&lstm.weights()[0].weight_hh).unwrap().iter().all(|g| g == 0.0));
}

#[test]
fn a_cell_is_a_step_of_the_layer() {
    let mut rng = crate::rng(2);
    let gru = GRU::<f64>::new(3, 4).build(&mut rng).unwrap();
    let mut cell = GRUCell::<f64>::new(3, 4).build(&mut rng).unwrap();
    let w = &gru.weights()[0];
    cell.weight_ih.set(w.weight_ih.tensor().clone());
    cell.weight_hh.set(w.weight_hh.tensor().clone());
    cell.bias_ih = w.bias_ih.clone();
    cell.bias_hh = w.bias_hh.clone();
    let x = random(&[5, 2, 3], 1);
    let (y, _) = gru.forward_with(&x, None).unwrap();
    let mut h = None;
    for t in 0..5 {
        let new = cell.forward(&x.select(0, t).unwrap(), h.as_ref()).unwrap();
        close("h", &new, &y.select(0, t).unwrap());
        h = Some(new);
    }
    let rnn = RNNCell::<f64>::new(3, 4).relu().build(&mut rng).unwrap();
    gradcheck(|[x, h]| rnn.forward(x, Some(h)), [&random(&[3], 1), &random(&[4], 2)]).unwrap();
}

#[test]
fn what_stands_in_the_padding_does_not_matter() {
    let gru = GRU::<f64>::new(2, 3).bidirectional(true).build(&mut crate::rng(0)).unwrap();
    let x = random(&[4, 2, 2], 1);
    let mut dirty = x.clone();
    for t in 1..4 {
        dirty.set([t, 1, 0], f64::NAN).unwrap();
        dirty.set([t, 1, 1], f64::INFINITY).unwrap();
    }
    let run = |x: &T64| {
        let tape = Tape::new(0);
        let (net, x) = (tape.watch(&gru), tape.leaf(x));
        let (y, h) = net.forward_lengths(&x, &[4, 1], None).unwrap();
        let grads = weighed(&y, 1).try_add(&weighed(&h, 2)).unwrap().backward().unwrap();
        let dx = grads.wrt(&x).unwrap().clone();
        (y.detach(), h.detach(), dx, grads.get(&gru.weights()[1].weight_ih).unwrap().clone())
    };
    assert_eq!(run(&x), run(&dirty));
    // As if the short sequence stood alone.
    let (y, h) = gru.forward_with(&x.slice((..1, 1..2)).unwrap(), None).unwrap();
    let (all, last) = gru.forward_lengths(&dirty, &[4, 1], None).unwrap();
    close("y", &all.slice((..1, 1..2)).unwrap(), &y);
    close("h", &last.narrow(1, 1, 1).unwrap(), &h);
}

#[test]
fn what_is_not_finite_stays_visible() {
    let mut x = random(&[3, 2, 2], 1);
    x.set([1, 0, 0], f64::NAN).unwrap();
    for (stack, name) in builders(2, 3) {
        let x = if stack.config.batch_first { x.transpose(0, 1).unwrap() } else { x.clone() };
        let (_, h, _) = stack.run(&x, None, None, None).unwrap();
        let h = h.select(1, 0).unwrap();
        assert!(h.iter().any(f64::is_nan), "{name}");
    }
}

#[test]
fn f32_is_near_f64() {
    let mut rng = crate::rng(0);
    let wide = LSTM::<f64>::new(7, 33).layers(2).build(&mut rng).unwrap();
    let mut narrow = LSTM::<f32>::new(7, 33).layers(2).build(&mut rng).unwrap();
    for (n, w) in narrow.weights_mut().iter_mut().zip(wide.weights()) {
        n.weight_ih.set(w.weight_ih.cast());
        n.weight_hh.set(w.weight_hh.cast());
        n.bias_ih.as_mut().unwrap().set(w.bias_ih.as_ref().unwrap().cast());
        n.bias_hh.as_mut().unwrap().set(w.bias_hh.as_ref().unwrap().cast());
    }
    let x = random(&[20, 5, 7], 1);
    let run64 = wide.forward(&x).unwrap();
    let run32 = narrow.forward(&x.cast()).unwrap();
    for (a, b) in run32.iter().zip(run64.iter()) {
        assert!((a as f64 - b).abs() < 2e-6, "{a} {b}");
    }
}

#[test]
fn parameters_start_within_their_bound_and_are_named_as_in_pytorch() {
    let lstm: LSTM = LSTM::new(3, 4)
        .layers(2)
        .bidirectional(true)
        .proj_size(2)
        .build(&mut crate::rng(0))
        .unwrap();
    lstm.for_each_param(|path, p| {
        if let crate::nn::ParamRef::F32(p) = p {
            assert!(p.iter().all(|v| v.abs() <= 0.5), "{path}");
        }
    });
    let paths = lstm.param_paths();
    assert_eq!(
        paths[..5],
        ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_hr_l0"]
    );
    assert_eq!(paths[19], "weight_hr_l1_reverse");
    assert_eq!(lstm.weights()[2].weight_ih.shape(), [16, 4]);
    assert_eq!(lstm.weights()[3].weight_hr.as_ref().unwrap().shape(), [2, 4]);
}

#[test]
fn dropout_trains_in_the_watched_copy_only() {
    let gru: GRU = GRU::new(3, 8).layers(2).dropout(0.5).build(&mut crate::rng(0)).unwrap();
    let x = Tensor::ones([4, 2, 3]).unwrap();
    assert_eq!(gru.forward(&x).unwrap(), gru.forward(&x).unwrap());
    let trained = |seed| Tape::new(seed).watch(&gru).forward(&x).unwrap().detach();
    assert_eq!(trained(1), trained(1));
    assert_ne!(trained(1), trained(2));
    assert_ne!(trained(1), gru.forward(&x).unwrap());
}

/// One mask for all steps: with states that only add up their input, what is dropped at one step is dropped at all.
#[test]
fn the_variational_mask_is_the_same_at_every_step() {
    let mut rnn: RNN = RNN::new(50, 50)
        .relu()
        .bias(false)
        .variational_dropout(0.5)
        .build(&mut crate::rng(0))
        .unwrap();
    rnn.weights_mut()[0].weight_ih.set(Tensor::eye(50).unwrap());
    rnn.weights_mut()[0].weight_hh.set(Tensor::zeros([50, 50]).unwrap());
    let y = Tape::new(3).watch(&rnn).forward(&Tensor::ones([6, 2, 50]).unwrap()).unwrap();
    let first = y.select(0, 0).unwrap();
    assert!(first.iter().all(|v| v == 0.0 || v == 2.0));
    assert!((0.25..0.75).contains(&(first.mean().item().unwrap() / 2.0)));
    assert!((1..6).all(|t| y.select(0, t).unwrap() == first));
    assert_ne!(first.select(0, 0).unwrap(), first.select(0, 1).unwrap());
}

#[test]
fn what_is_refused() {
    let mut rng = crate::rng(0);
    let said = |e: Error| e.to_string();
    let lstm: LSTM = LSTM::new(3, 4).build(&mut rng).unwrap();
    let zeros = |shape: &[usize]| Tensor::<f32>::zeros(shape).unwrap();
    assert_eq!(
        said(lstm.forward(&zeros(&[5, 2, 7])).unwrap_err()),
        "LSTM: input [5, 2, 7] does not fit: expected a last axis of 3 (weight_ih_l0 [16, 3])"
    );
    assert_eq!(
        said(lstm.forward(&zeros(&[3])).unwrap_err()),
        "LSTM: input [3] has rank 1; expected [steps, batch, inputs] or, for one sequence, [steps, inputs]"
    );
    assert_eq!(
        said(lstm.forward(&zeros(&[0, 2, 3])).unwrap_err()),
        "LSTM: input [0, 2, 3] has no steps; a sequence needs one or more"
    );
    let (x, h) = (zeros(&[5, 2, 3]), zeros(&[1, 2, 4]));
    assert_eq!(
        said(lstm.forward_with(&x, Some((&zeros(&[2, 4]), &h))).unwrap_err()),
        "LSTM: the initial state has shape [2, 4]; expected [1, 2, 4] (layers * directions, batch, size)"
    );
    assert_eq!(
        said(lstm.forward_with(&x, Some((&h, &zeros(&[1, 3, 4])))).unwrap_err()),
        "LSTM: the initial cell has shape [1, 3, 4]; expected [1, 2, 4] (layers * directions, batch, size)"
    );
    assert_eq!(
        said(lstm.forward_lengths(&x, &[5], None).unwrap_err()),
        "LSTM: 1 lengths for a batch of 2; expected one for each sequence"
    );
    assert_eq!(
        said(lstm.forward_lengths(&x, &[5, 0], None).unwrap_err()),
        "LSTM: the length of sequence 1 is 0; it must be from 1 to 5"
    );
    assert_eq!(
        said(lstm.forward_lengths(&x, &[6, 1], None).unwrap_err()),
        "LSTM: the length of sequence 0 is 6; it must be from 1 to 5"
    );
    let mut bent = lstm.clone();
    bent.weights_mut()[0].weight_hh.set(zeros(&[16, 5]));
    assert_eq!(
        said(bent.forward(&x).unwrap_err()),
        "LSTM: weight_hh has shape [16, 5]; expected [16, 4]"
    );
    let model = (lstm, GRU::<f32>::new(4, 4).build(&mut rng).unwrap());
    let net = Tape::new(0).watch(&model);
    assert_eq!(
        said(net.1.forward(&x).unwrap_err()),
        "GRU: input [5, 2, 3] does not fit: expected a last axis of 4 (weight_ih_l0 [12, 4]) [at 1]"
    );
    let cell: GRUCell = GRUCell::new(3, 4).build(&mut rng).unwrap();
    assert_eq!(
        said(cell.forward(&zeros(&[2, 3]), Some(&zeros(&[4]))).unwrap_err()),
        "GRUCell: the state has shape [4]; expected [2, 4]"
    );
    assert_eq!(
        said(cell.forward(&zeros(&[2, 5]), None).unwrap_err()),
        "GRUCell: input [.., 5] does not fit: expected a last axis of 3 (weight_ih [12, 3])"
    );
    let build = |b: RecurrentBuilder<LSTM>| said(b.build(&mut crate::rng(0)).unwrap_err());
    assert_eq!(build(LSTM::new(3, 0)), "LSTM: the hidden size is 0; it must be at least 1");
    assert_eq!(
        build(LSTM::new(3, 4).layers(0)),
        "LSTM: the number of layers is 0; it must be at least 1"
    );
    assert_eq!(
        build(LSTM::new(3, 4).dropout(1.5)),
        "LSTM: dropout: the probability is 1.5; it must be between 0 and 1"
    );
    assert_eq!(
        build(LSTM::new(3, 4).proj_size(4)),
        "LSTM: proj_size=4 must be smaller than the hidden size, 4"
    );
}
