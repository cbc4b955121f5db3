use super::*;
use crate::autograd::gradcheck;

fn log_probs(shape: &[usize]) -> Tensor<f64> {
    let x = Tensor::from_fn(shape, |i| ((i * 37 % 19) as f64 - 9.0) * 0.2).unwrap();
    x.log_softmax(-1).unwrap()
}

/// The sum over every sequence of classes that spells the target.
fn plain(x: &[Vec<f64>], target: &[usize], blank: usize) -> f64 {
    let classes = x[0].len();
    let mut total = 0.0;
    for code in 0..classes.pow(x.len() as u32) {
        let path: Vec<usize> =
            (0..x.len()).map(|t| code / classes.pow(t as u32) % classes).collect();
        let mut spelt = path.clone();
        spelt.dedup();
        spelt.retain(|&c| c != blank);
        if spelt == target {
            total += path.iter().zip(x).map(|(&c, row)| row[c]).sum::<f64>().exp();
        }
    }
    -total.ln()
}

fn example(x: &Tensor<f64>, i: usize, frames: usize) -> Vec<Vec<f64>> {
    let x = x.select(1, i as isize).unwrap();
    (0..frames).map(|t| x.select(0, t as isize).unwrap().to_vec()).collect()
}

#[test]
fn as_all_alignments_one_by_one() {
    let x = log_probs(&[5, 4, 4]);
    let padded = Tensor::from([[1i64, 1, 9], [3, 2, 3], [0, 0, 0], [3, -7, 99]]);
    let joined = Tensor::from([1i32, 1, 3, 2, 3, 3]);
    let targets: [&[usize]; 4] = [&[1, 1], &[3, 2, 3], &[], &[3]];
    let (frames, lengths) = ([5, 4, 3, 1], [2, 3, 0, 1]);
    let each = CtcLoss::new().reduction(Reduction::None);
    let y = each.forward(&x, &padded, &frames, &lengths).unwrap();
    assert_eq!(each.forward(&x, &joined, &frames, &lengths).unwrap(), y);
    for i in 0..4 {
        let want = plain(&example(&x, i, frames[i]), targets[i], 0);
        assert!((y.get([i as isize]).unwrap() - want).abs() < 1e-12, "{i}: {y} {want}");
    }
    let mean = x.ctc_loss(&padded, &frames, &lengths).unwrap().item().unwrap();
    let want: f64 = y.iter().zip(lengths).map(|(l, s)| l / s.max(1) as f64).sum::<f64>() / 4.0;
    assert!((mean - want).abs() < 1e-12);
    // One example without a batch, and another blank.
    let one = x.select(1, 1).unwrap();
    let y = each.blank(1).forward(&one, &Tensor::from([3u8, 0, 3]), &[5], &[3]).unwrap();
    assert_eq!(y.shape(), [0usize; 0]);
    assert!((y.item().unwrap() - plain(&example(&x, 1, 5), &[3, 0, 3], 1)).abs() < 1e-12);
}

#[test]
fn gradients() {
    let targets = Tensor::from([[1i64, 1, 2], [3, 2, 3], [0, 0, 0]]);
    let x = log_probs(&[6, 3, 4]);
    let other = log_probs(&[4, 3, 6]);
    let other = other.transpose(0, 2).unwrap();
    for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
        let loss = CtcLoss::new().reduction(reduction);
        for x in [&x, &other] {
            gradcheck(|[x]| loss.forward(x, &targets, &[6, 3, 2], &[3, 3, 0]), [x]).unwrap();
        }
        let one = x.select(1, 2).unwrap();
        gradcheck(|[x]| loss.forward(x, &Tensor::from([2i64]), &[4], &[1]), [&one]).unwrap();
    }
}

#[test]
fn targets_that_do_not_fit() {
    let x = log_probs(&[4, 2, 3]);
    // Two equal labels need a blank between them, so three frames.
    let targets = Tensor::from([[1i64, 1], [1, 2]]);
    for zero_infinity in [false, true] {
        let tape = crate::Tape::new(0);
        let leaf = tape.leaf(&x);
        let each = CtcLoss { zero_infinity, reduction: Reduction::None, ..CtcLoss::new() };
        let y = each.forward(&leaf, &targets, &[2, 2], &[2, 2]).unwrap();
        assert_eq!(y.get([0]).unwrap(), if zero_infinity { 0.0 } else { f64::INFINITY });
        let g = y.backward_with(&Tensor::from([1.0, 1.0])).unwrap();
        let g = g.wrt(&leaf).unwrap();
        let first = g.select(1, 0).unwrap().to_vec();
        let lost = |v: &f64| if zero_infinity { *v == 0.0 } else { v.is_nan() };
        assert!(first[..6].iter().all(lost), "{first:?}");
        assert!(first[6..].iter().all(|&v| v == 0.0), "{first:?}");
        assert!(g.select(1, 1).unwrap().iter().all(|v| v.is_finite()));
    }
}

#[test]
fn long_inputs_keep_their_digits_in_f32() {
    let (frames, n) = (2000, 300);
    let x = log_probs(&[frames, 1, 30]);
    let targets = Tensor::from_fn([1, n], |i| 1 + (i * 11 % 29) as i64).unwrap();
    let gradient = |x: &Tensor<f64>| {
        let tape = crate::Tape::new(0);
        let leaf = tape.leaf(x);
        let y = leaf.ctc_loss(&targets, &[frames], &[n]).unwrap();
        (y.item().unwrap(), y.backward().unwrap().wrt(&leaf).unwrap().clone())
    };
    let tape = crate::Tape::new(0);
    let leaf = tape.leaf(&x.cast::<f32>());
    let y = leaf.ctc_loss(&targets, &[frames], &[n]).unwrap();
    let (want, d) = gradient(&x);
    assert!((f64::from(y.item().unwrap()) / want - 1.0).abs() < 1e-6);
    let got = y.backward().unwrap().wrt(&leaf).unwrap().cast::<f64>();
    let scale = 1.0 / n as f64;
    let far = got.iter().zip(d.iter()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(far < 1e-4 * scale, "{far}");
    // At every frame one label is used.
    for row in d.sum_axes(-1, false).unwrap().iter() {
        assert!((row + scale).abs() < 1e-12);
    }
}

#[test]
fn nothing_and_nan() {
    let none = Tensor::<f32>::zeros([3, 0, 4]).unwrap();
    let targets = Tensor::<i64>::zeros([0, 2]).unwrap();
    let sum = CtcLoss::new().reduction(Reduction::Sum);
    assert_eq!(sum.forward(&none, &targets, &[], &[]).unwrap().item().unwrap(), 0.0);
    assert!(none.ctc_loss(&targets, &[], &[]).unwrap().item().unwrap().is_nan());
    let mut x = log_probs(&[3, 1, 3]);
    x.set([1, 0, 1], f64::NAN).unwrap();
    let y = x.ctc_loss(&Tensor::from([[1i64]]), &[3], &[1]).unwrap();
    assert!(y.item().unwrap().is_nan());
}

#[test]
fn mistakes() {
    let x = log_probs(&[4, 2, 3]);
    let y = Tensor::from([[1i64, 2], [2, 1]]);
    let loss = |y: &Tensor<i64>, t: &[usize], s: &[usize]| x.ctc_loss(y, t, s);
    assert!(matches!(loss(&y, &[4], &[2, 2]), Err(Error::Shape { .. })));
    assert!(matches!(loss(&y, &[4, 4], &[2]), Err(Error::Shape { .. })));
    assert!(matches!(loss(&y, &[4, 4], &[2, 3]), Err(Error::Shape { .. })));
    assert!(matches!(loss(&Tensor::from([1i64]), &[4, 4], &[1, 1]), Err(Error::Shape { .. })));
    for bad in [0, 5] {
        assert!(matches!(loss(&y, &[4, bad], &[2, 2]), Err(Error::Argument { .. })));
    }
    let high = Tensor::from([[1i64, 2], [2, 3]]);
    assert!(matches!(loss(&high, &[4, 4], &[2, 2]), Err(Error::Label { label: 3, .. })));
    assert!(loss(&high, &[4, 4], &[2, 1]).is_ok());
    let blank = Tensor::from([[1i64, 0], [2, 1]]);
    assert!(matches!(loss(&blank, &[4, 4], &[2, 2]), Err(Error::Argument { .. })));
    let far = CtcLoss::new().blank(3).forward(&x, &y, &[4, 4], &[2, 2]);
    assert!(matches!(far, Err(Error::Argument { .. })));
    let floats = x.ctc_loss(&Tensor::from([[1.0f64]]), &[4, 4], &[1, 1]);
    assert!(matches!(floats, Err(Error::Argument { .. })));
    let flat = x.flatten(..).unwrap().ctc_loss(&y, &[4, 4], &[2, 2]);
    assert!(matches!(flat, Err(Error::Shape { .. })));
}
