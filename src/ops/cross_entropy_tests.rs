use super::*;
use crate::autograd::gradcheck;

fn logits(shape: &[usize]) -> Tensor<f64> {
    Tensor::from_fn(shape, |i| ((i * 37 % 19) as f64 - 9.0) * 0.3).unwrap()
}

/// The definition, one number at a time.
fn plain(x: &[f64], q: &[f64]) -> f64 {
    let sum: f64 = x.iter().map(|v| v.exp()).sum();
    x.iter().zip(q).map(|(x, q)| -q * (x.exp() / sum).ln()).sum()
}

#[test]
fn by_hand() {
    let x = Tensor::from([[0.0f64, 0.0], [3f64.ln(), 0.0]]);
    let y = Tensor::from([1i64, 0]);
    let want = (2f64.ln() + (4.0f64 / 3.0).ln()) / 2.0;
    assert!((x.cross_entropy(&y).unwrap().item().unwrap() - want).abs() < 1e-12);
    let tape = crate::Tape::new(0);
    let leaf = tape.leaf(&x);
    let grads = leaf.cross_entropy(&y).unwrap().backward().unwrap();
    let got = grads.wrt(&leaf).unwrap().to_vec();
    let close = got.iter().zip([0.25, -0.25, -0.125, 0.125]).all(|(a, b)| (a - b).abs() < 1e-12);
    assert!(close, "{got:?}");
}

#[test]
fn rows_longer_than_a_block_and_of_every_tail() {
    for c in [1, 2, 10, 15, 16, 17, 33, 1023, 1024, 1025, 3000] {
        let x = logits(&[2, c]);
        let y = Tensor::from([0i64, c as i64 - 1]);
        let each: CrossEntropy<f64> = CrossEntropy::new().reduction(Reduction::None);
        let got = each.forward(&x, &y).unwrap().to_vec();
        for (row, t) in [(0, 0), (1, c - 1)] {
            let mut q = vec![0.0; c];
            q[t] = 1.0;
            let want = plain(&x.to_vec()[row * c..][..c], &q);
            assert!((got[row] - want).abs() < 1e-10, "{c}: {got:?} {want}");
        }
        gradcheck(|[x]| x.cross_entropy(&y), [&x]).unwrap();
    }
}

#[test]
fn gradients_with_every_option() {
    let weights = Tensor::from([0.5f64, 1.5, 1.0, 2.0, 0.25]);
    for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
        for smoothing in [0.0, 0.3, 1.0] {
            for w in [None, Some(weights.clone())] {
                let loss = CrossEntropy {
                    label_smoothing: smoothing,
                    ignore_index: Some(3),
                    class_weights: w,
                    reduction,
                };
                let y = Tensor::from([4i32, 3, 0, 1]);
                gradcheck(|[x]| loss.forward(x, &y), [&logits(&[4, 5])]).unwrap();
                let p = logits(&[4, 5]).softmax(1).unwrap();
                gradcheck(|[x, p]| loss.forward(x, p), [&logits(&[4, 5]), &p]).unwrap();
                let deep =
                    Tensor::from_vec((0..12).map(|i| i * 5 % 4).collect::<Vec<i64>>(), [2, 3, 2]);
                gradcheck(|[x]| loss.forward(x, deep.as_ref().unwrap()), [&logits(&[2, 5, 3, 2])])
                    .unwrap();
            }
        }
    }
}

#[test]
fn strided_logits_and_labels() {
    let x = logits(&[5, 8]);
    let t = x.with_layout(x.layout().permute(&[1, 0]).slice(0, 7, 4, -2));
    let y = Tensor::from([1i64, 0, 4, 2, 3, 0, 1, 2]);
    let every_other = y.with_layout(y.layout().slice(0, 1, 4, 2));
    let want = t.copy().cross_entropy(&every_other.copy()).unwrap();
    assert_eq!(t.cross_entropy(&every_other).unwrap(), want);
    gradcheck(|[x]| x.cross_entropy(&every_other), [&t]).unwrap();
    gradcheck(|[x]| x.cross_entropy(&Tensor::from(3u8)), [&logits(&[5])]).unwrap();
}

#[test]
fn nothing_and_everything_ignored() {
    let x = Tensor::<f64>::zeros([0, 3]).unwrap();
    let y = Tensor::<i64>::zeros([0]).unwrap();
    assert!(x.cross_entropy(&y).unwrap().item().unwrap().is_nan());
    let sum = CrossEntropy::new().reduction(Reduction::Sum);
    assert_eq!(sum.forward(&x, &y).unwrap().item().unwrap(), 0.0);
    let x = logits(&[2, 3]);
    let y = Tensor::from([-100i64, -100]);
    assert!(x.cross_entropy(&y).unwrap().item().unwrap().is_nan());
    assert_eq!(sum.forward(&x, &y).unwrap().item().unwrap(), 0.0);
}

#[test]
fn large_and_infinite_logits() {
    let x = Tensor::from([[1e4f32, -1e4, 0.0], [0.0, f32::NEG_INFINITY, 0.0]]);
    let y = Tensor::from([1i64, 0]);
    let each = CrossEntropy::new().reduction(Reduction::None).forward(&x, &y).unwrap().to_vec();
    assert_eq!(each[0], 2e4);
    assert!((each[1] - 2f32.ln()).abs() < 1e-6);
    let x = Tensor::from([[0.0f32, f32::NAN]]);
    assert!(x.cross_entropy(&Tensor::from([0i64])).unwrap().item().unwrap().is_nan());
}

#[test]
fn mistakes_are_named() {
    let x = logits(&[2, 3]);
    let e = x.cross_entropy(&Tensor::from([1i64, 3])).unwrap_err();
    assert_eq!(
        e.to_string(),
        "cross_entropy: label 3 of row 1 is not a class: there are 3 classes (0..=2)"
    );
    assert!(matches!(
        x.cross_entropy(&Tensor::from([-1i64, 0])),
        Err(Error::Label { label: -1, .. })
    ));
    assert!(matches!(x.cross_entropy(&Tensor::from([1i64])), Err(Error::Shape { .. })));
    assert!(matches!(x.cross_entropy(&logits(&[3, 2])), Err(Error::Shape { .. })));
    assert!(matches!(
        Tensor::scalar(1.0f32).cross_entropy(&Tensor::scalar(0i64)),
        Err(Error::Shape { .. })
    ));
    let y = Tensor::from([0i64, 1]);
    let smooth = CrossEntropy::new().label_smoothing(1.5);
    assert!(matches!(smooth.forward(&x, &y), Err(Error::Argument { .. })));
    let nan = CrossEntropy::new().label_smoothing(f64::NAN);
    assert!(matches!(nan.forward(&x, &y), Err(Error::Argument { .. })));
    let weights = CrossEntropy::new().class_weights(Tensor::from([1.0; 4]));
    assert!(matches!(weights.forward(&x, &y), Err(Error::Shape { .. })));
}

/// The rule for second derivatives against the plain one, and its own derivative.
#[test]
fn the_gradient_has_a_gradient() {
    let w = Tensor::from([0.5f64, 1.5, 1.0, 2.0, 0.25]);
    let x = logits(&[2, 5, 3]);
    let turned = x.permute([1, 2, 0]).unwrap().copy().permute([2, 0, 1]).unwrap();
    let p = logits(&[3, 5, 2]).transpose(0, 2).unwrap().softmax(1).unwrap();
    let labels = Tensor::from([[4i64, -100, 0], [1, 1, 2]]);
    for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
        for (smoothing, weights) in [(0.0, None), (0.3, Some(w.clone()))] {
            let axis = class_axis(OP, &x).unwrap();
            let labels = check_labels(OP, &labels, &x, axis, Some(-100)).unwrap();
            let make = |labels: Option<Tensor<i64>>| Loss {
                rows: Reduced::new(OP, x.shape(), axis, false).unwrap(),
                denominator: labels.as_ref().map_or(6.0, |l| counted(l, weights.as_ref())),
                labels,
                weights: weights.clone(),
                smoothing,
                reduction,
            };
            let shape: &[usize] = if reduction == Reduction::None { &[2, 3] } else { &[] };
            let g = Tensor::from_fn(shape, |i| 0.7 + 0.1 * i as f64).unwrap();
            let close = |a: &Tensor<f64>, b: &Tensor<f64>| {
                assert_eq!(a.shape(), b.shape());
                assert!(a.iter().zip(b.iter()).all(|(a, b)| (a - b).abs() < 1e-12), "{a} {b}");
            };
            for x in [&x, &turned] {
                let op = make(Some(labels.clone()));
                let kept = || Op::<f64, 1>::forward(&op, [x]).unwrap().1;
                let [plain] = op.vjp(kept(), g.clone(), [true]).unwrap();
                let again = |x: &Tensor<f64>, g: &Tensor<f64>| {
                    let (_, rows, stats) = kept();
                    let [d] = op.vjp_recorded((x.clone(), rows, stats), g.clone(), [true])?;
                    Ok(d.unwrap())
                };
                close(&again(x, &g).unwrap(), &plain.unwrap());
                gradcheck(|[x, g]| again(x, g), [x, &g]).unwrap();

                let op = make(None);
                let kept = || Op::<f64, 2>::forward(&op, [x, &p]).unwrap().1;
                let plain = op.vjp(kept(), g.clone(), [true; 2]).unwrap();
                for side in [0, 1] {
                    let again = |x: &Tensor<f64>, p: &Tensor<f64>, g: &Tensor<f64>| {
                        let kept = ((x.clone(), p.clone()), kept().1);
                        let both = op.vjp_recorded(kept, g.clone(), [true; 2])?;
                        Ok(both[side].clone().unwrap())
                    };
                    close(&again(x, &p, &g).unwrap(), plain[side].as_ref().unwrap());
                    gradcheck(|[x, p, g]| again(x, p, g), [x, &p, &g]).unwrap();
                }
            }
        }
    }
}

#[test]
fn weights_and_probabilities_are_checked() {
    let x = logits(&[2, 3]);
    let y = Tensor::from([0i64, 1]);
    let argument = |y: Result<Tensor<f64>>| matches!(y, Err(Error::Argument { .. }));
    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        let loss = CrossEntropy::new().class_weights(Tensor::from([1.0, bad, 0.0]));
        assert!(argument(loss.forward(&x, &y)));
        assert!(argument(x.cross_entropy(&Tensor::from([[0.2, 0.8, 0.0], [1.0, bad, 1.0]]))));
    }
    // Rounded to half precision, the sum may be a little off; by a tenth is a mistake.
    assert!(x.cross_entropy(&Tensor::from([[0.333, 0.333, 0.333], [0.0, 1.0, 0.0]])).is_ok());
    assert!(argument(x.cross_entropy(&Tensor::from([[0.3, 0.3, 0.3], [0.0, 1.0, 0.0]]))));
    assert!(argument(x.cross_entropy(&Tensor::from([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))));
    let none = Tensor::<f64>::zeros([0, 3]).unwrap();
    assert!(none.cross_entropy(&none).unwrap().item().unwrap().is_nan());
}
