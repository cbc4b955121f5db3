use super::*;
use crate::autograd::gradcheck;

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
    let p = p.stride(2).padding(1);
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
    assert!(said(x, &[4, 3, 3, 3], p.padding(1 << 30)).contains("more elements than memory"));
    let bias = Tensor::<f32>::zeros([3]).unwrap();
    let e = Tensor::zeros(x).unwrap().conv2d(&Tensor::zeros([4, 3, 3, 3]).unwrap(), Some(&bias), p);
    assert_eq!(
        e.unwrap_err().to_string(),
        "conv2d: the bias has shape [3], but the weight [4, 3, 3, 3] expects [4]"
    );
}
