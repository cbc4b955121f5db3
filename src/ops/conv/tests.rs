use super::*;
use crate::autograd::{gradcheck, gradgradcheck};
use crate::ops::Padding;
use crate::tensor::Tensor;

fn randn(shape: &[usize], seed: u64) -> Tensor<f64> {
    Tensor::randn(shape, &mut crate::rng(seed)).unwrap()
}

#[test]
fn a_value_by_hand() {
    let x: Tensor = Tensor::from([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]]);
    let w = Tensor::from([[[[1.0, 0.0], [0.0, -1.0]]]]);
    let b = Tensor::from([0.5]);
    let y = x.conv2d(&w, Some(&b), Conv2dParams::new()).unwrap();
    assert_eq!(y, Tensor::from([[[[1.0 - 5.0 + 0.5, 2.0 - 6.0 + 0.5]]]]));
}

#[test]
fn gradients() {
    let p = Conv2dParams::new();
    let cases: [(&[usize], &[usize], Conv2dParams); 8] = [
        (&[2, 3, 5, 4], &[4, 3, 3, 2], p),
        (&[1, 2, 6, 6], &[3, 2, 3, 3], p.padding(1)),
        (&[2, 4, 6, 5], &[6, 2, 3, 3], p.stride(2).padding((2, 1)).groups(2)),
        (&[1, 2, 7, 7], &[2, 2, 2, 3], p.dilation((3, 2)).stride((1, 2))),
        (&[3, 6, 6], &[6, 1, 3, 3], p.groups(3).padding(Padding::Same).groups(1)),
        (&[1, 3, 4, 4], &[3, 1, 2, 2], p.groups(3).padding(Padding::Same)),
        (&[1, 1, 2, 3], &[2, 1, 5, 5], p.padding(3)),
        (&[2, 20, 4, 4], &[17, 20, 3, 3], p.padding([[1, 0], [0, 2]])),
    ];
    for (x, w, p) in cases {
        if x.len() == 3 && w[1] != x[0] {
            continue;
        }
        let (x, w, b) = (randn(x, 1), randn(w, 2), randn(&[w[0]], 3));
        gradcheck(|[x, w, b]| x.conv2d(w, Some(b), p), [&x, &w, &b]).unwrap();
        gradcheck(|[x, w]| x.conv2d(w, None, p), [&x, &w]).unwrap();
    }
    let (x, w) = (randn(&[2, 7], 1), randn(&[3, 2, 3], 2));
    let p = Conv1dParams::new().stride(2).padding(1);
    gradcheck(|[x, w]| x.conv1d(w, None, p), [&x, &w]).unwrap();
    assert_eq!(x.conv1d(&w, None, p).unwrap().shape(), [3, 4]);
}

#[test]
fn gradients_of_the_transposed() {
    let p = ConvTranspose2dParams::new();
    let cases: [(&[usize], &[usize], ConvTranspose2dParams); 4] = [
        (&[2, 3, 4, 5], &[3, 4, 3, 3], p),
        (&[1, 3, 4, 3], &[3, 2, 4, 4], p.stride(2).padding(1)),
        (&[2, 4, 3, 4], &[4, 3, 3, 3], p.stride(3).padding(1).output_padding((2, 1)).groups(2)),
        (&[2, 3, 3], &[2, 2, 3, 2], p.dilation((2, 3)).padding((1, 0))),
    ];
    for (x, w, p) in cases {
        let (x, w, b) = (randn(x, 1), randn(w, 2), randn(&[w[1] * p.groups], 3));
        gradcheck(|[x, w, b]| x.conv_transpose2d(w, Some(b), p), [&x, &w, &b]).unwrap();
        gradcheck(|[x, w]| x.conv_transpose2d(w, None, p), [&x, &w]).unwrap();
    }
}

#[test]
fn any_layout_gives_the_same() {
    let p = Conv2dParams::new().padding(1).stride((1, 2));
    let w = randn(&[3, 2, 3, 3], 2);
    let channels_last = randn(&[2, 6, 5, 2], 1).permute([0, 3, 1, 2]).unwrap();
    let transposed = randn(&[2, 2, 5, 6], 1).permute([0, 1, 3, 2]).unwrap();
    let flipped = randn(&[2, 2, 6, 5], 1).flip([2, 3]).unwrap();
    for x in [channels_last, transposed, flipped] {
        let dense = Tensor::from_vec(x.to_vec(), x.shape()).unwrap();
        assert!(x.as_slice().is_none());
        assert_eq!(x.conv2d(&w, None, p).unwrap(), dense.conv2d(&w, None, p).unwrap());
        gradcheck(|[x, w]| x.conv2d(w, None, p), [&x, &w]).unwrap();
    }
    let turned = randn(&[3, 3, 2, 3], 4).permute([3, 2, 0, 1]).unwrap();
    gradcheck(|[x, w]| x.conv2d(w, None, p), [&randn(&[1, 2, 5, 5], 1), &turned]).unwrap();
}

#[test]
fn padding_is_same() {
    for (size, stride, out) in [(7, 1, 7), (7, 2, 4), (8, 2, 4), (8, 3, 3)] {
        let x: Tensor = Tensor::ones([1, 1, size, size]).unwrap();
        let w = Tensor::ones([1, 1, 4, 3]).unwrap();
        let p = Conv2dParams::new().padding(Padding::Same).stride(stride);
        assert_eq!(x.conv2d(&w, None, p).unwrap().shape(), [1, 1, out, out]);
    }
}

#[test]
fn empty_batches_have_gradients() {
    let tape = crate::Tape::new(0);
    let x = tape.leaf(&Tensor::<f32>::zeros([0, 2, 5, 5]).unwrap());
    let w = tape.leaf(&Tensor::ones([3, 2, 3, 3]).unwrap());
    let y = x.conv2d(&w, None, Conv2dParams::new()).unwrap();
    assert_eq!(y.shape(), [0, 3, 3, 3]);
    let g = y.backward_with(&Tensor::zeros([0, 3, 3, 3]).unwrap()).unwrap();
    assert_eq!(g.wrt(&w).unwrap().to_vec(), [0.0; 54]);
    assert_eq!(g.wrt(&x).unwrap().shape(), [0, 2, 5, 5]);
}

#[test]
fn what_is_refused() {
    let said = |x: &[usize], w: &[usize], p: Conv2dParams| {
        let x: Tensor = Tensor::zeros(x).unwrap();
        x.conv2d(&Tensor::zeros(w).unwrap(), None, p).unwrap_err().to_string()
    };
    let p = Conv2dParams::new();
    let x = &[1, 3, 5, 5][..];
    assert_eq!(
        said(x, &[64, 1, 3, 3], p),
        "conv2d: input has 3 channels but the weight [64, 1, 3, 3] with groups=1 expects 1"
    );
    assert_eq!(
        said(&[5, 5], &[1, 1, 3, 3], p),
        "conv2d: the input has shape [5, 5], but must be [batch, channels, height, width] or [channels, height, width]"
    );
    assert!(
        said(x, &[4, 3, 3], p)
            .contains("the weight has shape [4, 3, 3], but must be [filters, channels / groups")
    );
    assert!(said(x, &[4, 3, 7, 3], p).contains("height 7 of the weight [4, 3, 7, 3] covers 7, the input [1, 3, 5, 5] with its padding has 5"));
    assert!(said(x, &[4, 3, 3, 3], p.dilation(3)).contains("3 (dilated by 3)"));
    assert_eq!(
        said(x, &[4, 3, 3, 3], p.stride((0, 1))),
        "conv2d: stride [0, 1] must be at least 1 on each axis"
    );
    assert_eq!(said(x, &[4, 3, 3, 3], p.groups(0)), "conv2d: groups must be at least 1, got 0");
    assert_eq!(
        said(x, &[4, 1, 3, 3], p.groups(3)),
        "conv2d: the 4 filters of the weight [4, 1, 3, 3] are not divisible by groups=3"
    );
    assert!(said(x, &[4, 3, 3, 3], p.padding(usize::MAX)).contains("too large"));
    assert!(said(x, &[4, 3, 3, 3], p.padding(1 << 30)).contains("does not fit in memory"));
    let bias = Tensor::<f32>::zeros([3]).unwrap();
    let e = Tensor::zeros(x).unwrap().conv2d(&Tensor::zeros([4, 3, 3, 3]).unwrap(), Some(&bias), p);
    assert_eq!(
        e.unwrap_err().to_string(),
        "conv2d: the bias has shape [3], but the weight [4, 3, 3, 3] expects [4]"
    );
}

/// The convolution by its definition, over three axes.
fn naive(x: &Tensor<f64>, w: &Tensor<f64>, p: &Conv3dParams, out: &[usize]) -> Tensor<f64> {
    let (xs, ws) = (x.shape().to_vec(), w.shape().to_vec());
    let Padding::Explicit(pad) = p.padding else { panic!("an explicit padding") };
    let (x, w) = (x.to_vec(), w.to_vec());
    let (per_group, filters) = (ws[1], ws[0] / p.groups);
    Tensor::from_fn(out, |i| {
        let mut at = [0; 5];
        let mut rest = i;
        for k in (0..5).rev() {
            at[k] = rest % out[k];
            rest /= out[k];
        }
        let [n, o, oz, oy, ox] = at;
        let mut sum = 0.0;
        for c in 0..per_group {
            for t in 0..ws[2] * ws[3] * ws[4] {
                let tap = [t / (ws[3] * ws[4]), t / ws[4] % ws[3], t % ws[4]];
                let place: Vec<Option<usize>> = [oz, oy, ox]
                    .iter()
                    .enumerate()
                    .map(|(k, o)| {
                        (o * p.stride[k] + tap[k] * p.dilation[k])
                            .checked_sub(pad[k][0])
                            .filter(|&v| v < xs[2 + k])
                    })
                    .collect();
                if let [Some(z), Some(y), Some(xx)] = place[..] {
                    let channel = o / filters * per_group + c;
                    let from = (((n * xs[1] + channel) * xs[2] + z) * xs[3] + y) * xs[4] + xx;
                    let with = ((o * per_group + c) * ws[2] + tap[0]) * ws[3] * ws[4];
                    sum += x[from] * w[with + tap[1] * ws[4] + tap[2]];
                }
            }
        }
        sum
    })
    .unwrap()
}

fn close(a: &Tensor<f64>, b: &Tensor<f64>) {
    assert_eq!(a.shape(), b.shape());
    a.iter().zip(b.iter()).for_each(|(a, b)| assert!((a - b).abs() < 1e-12, "{a} is not {b}"));
}

#[test]
fn three_axes() {
    let p = Conv3dParams::new();
    let cases: [(&[usize], &[usize], Conv3dParams); 4] = [
        (&[2, 2, 4, 3, 3], &[3, 2, 3, 2, 1], p.padding(0)),
        (&[1, 4, 4, 5, 3], &[6, 2, 2, 3, 3], p.stride((2, 1, 2)).padding((1, 2, 1)).groups(2)),
        (&[1, 2, 6, 4, 5], &[2, 1, 2, 2, 2], p.dilation((3, 1, 2)).groups(2).padding((2, 0, 1))),
        (&[2, 1, 1, 1, 1], &[1, 1, 1, 1, 1], p.padding([[1, 0], [0, 2], [0, 0]])),
    ];
    for (xs, ws, p) in cases {
        let (x, w, b) = (randn(xs, 1), randn(ws, 2), randn(&[ws[0]], 3));
        let y = x.conv3d(&w, None, p).unwrap();
        close(&y, &naive(&x, &w, &p, y.shape()));
        gradgradcheck(|[x, w, b]| Ok(x.conv3d(w, Some(b), p)?.square()), [&x, &w, &b]).unwrap();
        // Without a batch, and in another layout.
        let one = x.select(0, 0).unwrap();
        close(&one.conv3d(&w, None, p).unwrap(), &y.select(0, 0).unwrap());
        let turned = x.permute([4, 0, 3, 1, 2]).unwrap();
        let turned = Tensor::from_vec(turned.to_vec(), turned.shape()).unwrap();
        let turned = turned.permute([1, 3, 4, 2, 0]).unwrap();
        close(&turned.conv3d(&w, None, p).unwrap(), &y);
        gradcheck(|[x, w]| x.conv3d(w, None, p), [&turned, &w]).unwrap();
    }
    let none: Tensor = Tensor::zeros([0, 2, 4, 4, 4]).unwrap();
    let y = none.conv3d(&Tensor::zeros([3, 2, 2, 2, 2]).unwrap(), None, p).unwrap();
    assert_eq!(y.shape(), [0, 3, 3, 3, 3]);
    let e = none.conv3d(&Tensor::zeros([3, 2, 5, 2, 2]).unwrap(), None, p).unwrap_err();
    assert_eq!(
        e.to_string(),
        "conv3d: the window is larger than the padded input: depth 5 of the weight [3, 2, 5, 2, 2] covers 5, the input [0, 2, 4, 4, 4] with its padding has 4; pad more or use a smaller kernel"
    );
    let e = Tensor::<f32>::zeros([2, 4, 4])
        .unwrap()
        .conv3d(&Tensor::zeros([3, 2, 5, 2, 2]).unwrap(), None, p)
        .unwrap_err();
    assert_eq!(
        e.to_string(),
        "conv3d: the input has shape [2, 4, 4], but must be [batch, channels, depth, height, width] or [channels, depth, height, width]"
    );
}

/// Σ y·g = Σ x·z: the transposed convolution z of g is the gradient of x.
#[test]
fn transposed_over_one_and_three_axes() {
    let p = ConvTranspose3dParams::new();
    let cases: [(&[usize], &[usize], ConvTranspose3dParams); 5] = [
        (&[2, 3, 2, 3, 2], &[3, 2, 3, 2, 1], p),
        (&[1, 4, 3, 2, 2], &[4, 3, 2, 3, 3], p.stride((2, 1, 2)).padding((1, 1, 0)).groups(2)),
        (&[1, 2, 2, 2, 3], &[2, 1, 2, 2, 3], p.dilation((3, 1, 2)).padding((1, 0, 2))),
        (&[1, 2, 3, 2, 2], &[2, 2, 3, 3, 3], p.stride(3).padding(1).output_padding((2, 0, 1))),
        // More is added than a stride, which only dilation allows.
        (
            &[1, 2, 2, 3, 2],
            &[2, 2, 2, 2, 1],
            p.dilation(3).output_padding((2, 0, 1)).padding((0, 1, 0)),
        ),
    ];
    for (xs, ws, p) in cases {
        let (x, w, b) = (randn(xs, 1), randn(ws, 2), randn(&[ws[1] * p.groups], 3));
        let y = x.conv_transpose3d(&w, None, p).unwrap();
        let biased = x.conv_transpose3d(&w, Some(&b), p).unwrap();
        close(&biased, &y.try_add(&b.reshape([b.len(), 1, 1, 1]).unwrap()).unwrap());
        let run = |[x, w, b]: [&Tensor<f64>; 3]| x.conv_transpose3d(w, Some(b), p);
        gradgradcheck(|t| Ok(run(t)?.square()), [&x, &w, &b]).unwrap();
        // Against the definition: every input adds its multiple of the window.
        let mut sum = 0.0;
        let g = randn(y.shape(), 4);
        let back = g.conv3d(&w, None, {
            let mut q = Conv3dParams::new().stride(p.stride).dilation(p.dilation);
            q = q.padding(p.padding);
            q.groups(p.groups)
        });
        let back = back.unwrap();
        // With output padding the convolution may see one window more than the input has.
        let mut back = back;
        for k in 0..3 {
            back = back.narrow(2 + k as isize, 0, xs[2 + k]).unwrap();
        }
        sum += x.try_mul(&back).unwrap().sum().item().unwrap();
        let want = y.try_mul(&g).unwrap().sum().item().unwrap();
        assert!((sum - want).abs() < 1e-10 * want.abs().max(1.0), "{sum} is not {want}");
    }
    let p = ConvTranspose1dParams::new();
    for (xs, ws, p) in [
        (&[2, 3, 4][..], &[3, 2, 3][..], p.stride(2).padding(1).output_padding(1)),
        (&[4, 5], &[4, 3, 2], p.groups(2).dilation(2)),
        (&[1, 1, 1], &[1, 1, 1], p.dilation(2).output_padding(1)),
        (&[1, 1, 3], &[1, 1, 2], p.dilation(4).output_padding(3).padding(2)),
    ] {
        let (x, w, b) = (randn(xs, 1), randn(ws, 2), randn(&[ws[1] * p.groups], 3));
        gradgradcheck(|[x, w, b]| Ok(x.conv_transpose1d(w, Some(b), p)?.square()), [&x, &w, &b])
            .unwrap();
        gradcheck(|[x, w]| x.conv_transpose1d(w, None, p), [&x, &w]).unwrap();
    }
    let one: Tensor = Tensor::from([[2.0]]);
    let w = Tensor::from([[[3.0]]]);
    let p = ConvTranspose1dParams::new().dilation(3).output_padding(2);
    let b = Tensor::from([0.5]);
    assert_eq!(one.conv_transpose1d(&w, Some(&b), p).unwrap().to_vec(), [6.5, 0.5, 0.5]);
    let e = one.conv_transpose1d(&w, None, p.dilation(2)).unwrap_err();
    assert_eq!(
        e.to_string(),
        "conv_transpose1d: output padding [2] must be smaller than the stride [1] or the dilation [2] on each axis"
    );
}

#[test]
fn columns_and_back() {
    let x = randn(&[2, 3, 5, 6], 1);
    for u in [
        Unfold::new(2),
        Unfold::new((3, 2)).stride((1, 2)).padding((1, 0)),
        Unfold::new((2, 3)).dilation((3, 2)).padding((0, 1)).stride(2),
    ] {
        gradgradcheck(|[x]| Ok(x.unfold(u)?.square()), [&x]).unwrap();
        let y = x.unfold(u).unwrap();
        gradgradcheck(|[y]| Ok(y.fold((5, 6), u)?.square()), [&y]).unwrap();
        // A convolution is a product with the columns.
        let w = randn(&[4, 3, u.kernel[0], u.kernel[1]], 2);
        let p = Conv2dParams::new().stride(u.stride).padding(u.padding).dilation(u.dilation);
        let want = x.conv2d(&w, None, p).unwrap();
        let rows = w.reshape([4, -1]).unwrap().matmul(&y).unwrap();
        close(&rows.reshape(want.shape()).unwrap(), &want);
        close(&x.select(0, 1).unwrap().unfold(u).unwrap(), &y.select(0, 1).unwrap());
        let one = y.select(0, 1).unwrap().fold((5, 6), u).unwrap();
        close(&one, &y.fold((5, 6), u).unwrap().select(0, 1).unwrap());
    }
    assert_eq!(
        x.unfold(7).unwrap_err().to_string(),
        "unfold: the window [7, 7] (dilation [1, 1]) is larger than the image [5, 6] with padding [0, 0]; use a smaller one"
    );
    let y: Tensor = Tensor::zeros([2, 8, 4]).unwrap();
    assert_eq!(
        y.fold(4, 2).unwrap_err().to_string(),
        "fold: the input has shape [2, 8, 4], but an image of [4, 4] has 3 × 3 windows of 2 × 2: expected a multiple of 4 rows and 9 columns"
    );
    assert!(
        y.fold(3, 0).is_err() && y.select(0, 0).unwrap().select(0, 0).unwrap().fold(3, 2).is_err()
    );
}
