//! Batch, group and instance normalisation: loops against the composition, gradients, layouts, errors.

use crate::autograd::{OpMany, gradcheck, gradgradcheck};
use crate::error::Error;
use crate::ops::norm::composed::{Affine, present};
use crate::ops::norm::planes::{Arranged, PlaneNorm, Relu, Share};
use crate::tensor::Tensor;

fn grid(shape: &[usize]) -> Tensor<f64> {
    Tensor::from_fn(shape, |i| ((i * 37 + 11) % 64) as f64 * 0.07 - 2.0).unwrap()
}

fn near(a: &Tensor<f64>, b: &Tensor<f64>) {
    assert_eq!(a.shape(), b.shape());
    a.iter().zip(b.iter()).for_each(|(a, b)| assert!((a - b).abs() < 1e-10, "{a} {b}"));
}

/// Value and every gradient of the loops against the composition.
fn agree(x: &Tensor<f64>, share: Share, weight: bool, bias: bool) {
    let c = x.shape()[1];
    let (w, b) = (grid(&[c]), grid(&[c]).mul_scalar(0.5));
    let (w, b) = (weight.then_some(&w), bias.then_some(&b));
    let inputs = present(x, w, b);
    let stats = match share {
        Share::Given => (0..c).map(|i| [0.1 * i as f64, 1.0 + i as f64]).collect(),
        share => Arranged::new(x, share).statistics(share).0,
    };
    let (affine, plus, relu) = (Affine { weight, bias }, false, Relu::No);
    let op = PlaneNorm { name: "test", share, eps: 1e-3, affine, stats, plus, relu };
    let (y, saved) = OpMany::forward(&op, &inputs).unwrap();
    if share != Share::Given {
        near(&y, &op.sharing(x.shape()).forward(x, w, b).unwrap());
    }
    let g = grid(x.shape()).sin();
    let needs = [true; 3];
    let fused = op.vjp(saved.clone(), g.clone(), &needs[..inputs.len()]).unwrap();
    let slow = op.vjp_recorded(saved, g, &needs[..inputs.len()]).unwrap();
    assert_eq!(fused.len(), inputs.len());
    for (a, b) in fused.into_iter().zip(slow) {
        near(&a.unwrap(), &b.unwrap());
    }
}

#[test]
fn the_loops_and_the_composition_agree() {
    for shape in [
        &[6, 3][..],
        &[2, 1],
        &[2, 3, 7],
        &[3, 4, 5, 5],
        &[2, 4, 8, 9],
        &[1, 2, 3, 40, 50],
        &[2, 2, 5000],
        &[1, 2, 40000],
        &[700, 3],
    ] {
        let x = grid(shape);
        for k in 0..4 {
            agree(&x, Share::Batch, k & 1 == 1, k & 2 == 2);
            agree(&x, Share::Given, k & 1 == 1, k & 2 == 2);
            agree(&x, Share::Groups(1), k & 1 == 1, k & 2 == 2);
            agree(&x, Share::Groups(x.shape()[1]), k & 1 == 1, k & 2 == 2);
        }
    }
    let x = grid(&[3, 5, 6, 4]);
    let last = x.with_layout(x.layout().permute(&[0, 3, 1, 2]));
    let turned = x.with_layout(x.layout().permute(&[2, 3, 0, 1]));
    let stepped = x.with_layout(x.layout().slice(2, 5, 3, -2));
    for x in [&last, &turned, &stepped] {
        agree(x, Share::Batch, true, true);
        agree(x, Share::Given, true, false);
        agree(x, Share::Groups(1), true, true);
    }
}

#[test]
fn gradients_are_those_of_differences() {
    let x = grid(&[4, 2, 3]);
    let last = x.with_layout(x.layout().permute(&[0, 2, 1]));
    let wide = grid(&[2, 2, 40]);
    for x in [&x, &last, &wide, &grid(&[5, 4])] {
        let c = x.shape()[1];
        let (w, b) = (grid(&[c]), grid(&[c]).sin());
        gradcheck(|[x, w, b]| Ok(x.batch_norm(Some(w), Some(b), 1e-2)?.0), [x, &w, &b]).unwrap();
        gradcheck(|[x, w, b]| x.group_norm(1, Some(w), Some(b), 1e-2), [x, &w, &b]).unwrap();
        let given = (grid(&[c]), grid(&[c]).square());
        gradcheck(|[x, w]| x.batch_norm_with(&given.0, &given.1, Some(w), None, 1e-2), [x, &w])
            .unwrap();
        gradgradcheck(|[x, w]| Ok(x.batch_norm(Some(w), None, 1e-1)?.0), [x, &w]).unwrap();
        gradgradcheck(|[x, w]| x.group_norm(c, Some(w), Some(&b), 1e-1), [x, &w]).unwrap();
        gradgradcheck(|[x, w]| x.batch_norm_with(&given.0, &given.1, Some(w), None, 1e-1), [x, &w])
            .unwrap();
        if x.rank() > 2 {
            gradcheck(|[x, b]| x.instance_norm(None, Some(b), 1e-2), [x, &b]).unwrap();
            gradcheck(|[x, w]| x.group_norm(c, Some(w), None, 1e-2), [x, &w]).unwrap();
        }
    }
}

#[test]
fn statistics_far_from_zero() {
    let x = Tensor::from_fn([4, 2, 50], |i| 1e6f32 + (i % 2) as f32).unwrap();
    let (y, stats) = x.batch_norm(None, None, 0.0).unwrap();
    assert_eq!(stats.var.to_vec(), [0.25; 2]);
    assert!(y.iter().all(|v| (v.abs() - 1.0).abs() < 1e-6));
    let (y, stats) = x.reshape([200, 2]).unwrap().batch_norm(None, None, 1e-5).unwrap();
    assert_eq!((stats.count, stats.var.to_vec()), (200, vec![0.0; 2]));
    assert_eq!(y.to_vec(), vec![0.0; 400]);
    assert_eq!(stats.var_unbiased().to_vec(), [0.0; 2]);
}

#[test]
fn empty_batches() {
    let x = Tensor::<f32>::zeros([0, 3, 2]).unwrap();
    assert_eq!(x.batch_norm(None, None, 1e-5).unwrap().0.shape(), [0, 3, 2]);
    assert_eq!(x.group_norm(3, None, None, 1e-5).unwrap().shape(), [0, 3, 2]);
    let one = Tensor::<f32>::ones([3]).unwrap();
    assert_eq!(x.batch_norm_with(&one, &one, None, None, 1e-5).unwrap().shape(), [0, 3, 2]);
    let none = Tensor::<f32>::zeros([4, 0]).unwrap();
    assert_eq!(none.batch_norm(None, None, 1e-5).unwrap().0.shape(), [4, 0]);
    let flat = Tensor::<f32>::zeros([4, 2, 0]).unwrap();
    assert_eq!(flat.instance_norm(None, None, 1e-5).unwrap().shape(), [4, 2, 0]);
    assert_eq!(flat.batch_norm(None, None, 1e-5).unwrap().0.shape(), [4, 2, 0]);
}

#[test]
fn what_does_not_fit() {
    let says = |e: Error, want: &str| assert_eq!(e.to_string(), want);
    let x = Tensor::<f32>::ones([1, 3]).unwrap();
    says(
        x.batch_norm(None, None, 1e-5).unwrap_err(),
        "batch_norm: more than one value for each channel is needed to train, but the input has shape [1, 3]; use a larger batch",
    );
    says(
        Tensor::<f32>::ones([3]).unwrap().batch_norm(None, None, 1e-5).unwrap_err(),
        "batch_norm: the input has shape [3], but must be [batch, channels, ..]",
    );
    says(
        x.group_norm(2, None, None, 1e-5).unwrap_err(),
        "group_norm: 2 groups do not divide the 3 channels",
    );
    assert!(
        x.group_norm(0, None, None, 1e-5).is_err() && x.group_norm(3, None, None, 0.0).is_err()
    );
    says(
        x.instance_norm(None, None, 1e-5).unwrap_err(),
        "instance_norm: more than one value for each channel of a sample is needed, but the input has shape [1, 3]",
    );
    let two = Tensor::<f32>::ones([2]).unwrap();
    says(
        x.batch_norm_with(&two, &two, None, None, 1e-5).unwrap_err(),
        "batch_norm_with: the mean has shape [2]; expected [3]",
    );
    says(
        x.group_norm(1, None, Some(&two), 1e-5).unwrap_err(),
        "group_norm: the bias has shape [2]; expected [3]",
    );
}
