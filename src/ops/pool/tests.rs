use super::*;
use crate::autograd::{gradcheck, gradgradcheck};
use crate::kernel::pool::Windows;
use crate::tensor::Tensor;

/// Different numbers in a mixed order, so that no two are close.
fn mixed(shape: &[usize]) -> Tensor<f64> {
    let n: usize = shape.iter().product();
    Tensor::from_fn(shape, |i| ((i * 7919) % n.max(1)) as f64 / 1024.0 - 1.0).unwrap()
}

fn single(x: &Tensor<f64>) -> Tensor {
    Tensor::from_vec(x.iter().map(|v| v as f32).collect(), x.shape()).unwrap()
}

fn double(x: &Tensor) -> Tensor<f64> {
    Tensor::from_vec(x.iter().map(f64::from).collect(), x.shape()).unwrap()
}

/// The maximum by its definition: value and place in the plane.
fn naive_max(x: &[f64], w: &Windows) -> Vec<f64> {
    let mut y = Vec::new();
    for p in 0..w.planes {
        for (oy, ox) in (0..w.out[0]).flat_map(|y| (0..w.out[1]).map(move |x| (y, x))) {
            let mut best = f64::NEG_INFINITY;
            for (ky, kx) in (0..w.kernel[0]).flat_map(|y| (0..w.kernel[1]).map(move |x| (y, x))) {
                let r = (oy * w.stride[0] + ky * w.dilation[0]) as isize - w.pad[0] as isize;
                let c = (ox * w.stride[1] + kx * w.dilation[1]) as isize - w.pad[1] as isize;
                if (0..w.input[0] as isize).contains(&r) && (0..w.input[1] as isize).contains(&c) {
                    best = best.max(x[(p * w.input[0] + r as usize) * w.input[1] + c as usize]);
                }
            }
            y.push(best);
        }
    }
    y
}

fn pools() -> Vec<Pool2d> {
    let p = |k: usize| Pool2d::new(k);
    vec![
        p(2),
        p(3),
        p(2).stride(1),
        p(2).stride(3),
        p(2).stride((2, 1)),
        p(3).stride(2).padding(1),
        p(3).stride(2).ceil_mode(true),
        p(2).ceil_mode(true),
        p(2).padding(1),
        p(2).stride(3).padding(1).ceil_mode(true),
        Pool2d::new((2, 3)).stride((2, 1)).padding((1, 1)).dilation((3, 2)),
        p(1),
    ]
}

#[test]
fn maximum_and_its_gradient() {
    for shape in [[2, 3, 6, 6], [1, 2, 11, 11], [1, 1, 7, 9], [2, 1, 5, 18], [1, 2, 26, 35]] {
        let x = mixed(&shape);
        let dense: Vec<f64> = x.to_vec();
        for pool in pools() {
            let (w, out) = pool.passes("max_pool2d", &shape).unwrap().remove(0);
            let want = Tensor::from_vec(naive_max(&dense, &w), &out).unwrap();
            assert_eq!(x.max_pool2d(pool).unwrap(), want, "{shape:?} {pool:?}");
            let y32 = single(&x).max_pool2d(pool).unwrap();
            assert_eq!(double(&y32), want, "{shape:?} {pool:?}");
            gradcheck(|[x]| x.max_pool2d(pool), [&x]).unwrap();
            // The same in f32, whose fast paths differ.
            let g = Tensor::from_fn(&out, |i| (i % 13) as f64 + 1.0).unwrap();
            let (tape, tape32) = (crate::Tape::new(0), crate::Tape::new(0));
            let (leaf, leaf32) = (tape.leaf(&x), tape32.leaf(&single(&x)));
            let recorded = leaf32.max_pool2d(pool).unwrap();
            assert_eq!(recorded.detach(), y32);
            let dx = leaf.max_pool2d(pool).unwrap().backward_with(&g).unwrap();
            let dx32 = recorded.backward_with(&single(&g)).unwrap();
            let (dx, dx32) = (dx.wrt(&leaf).unwrap(), dx32.wrt(&leaf32).unwrap());
            assert_eq!(dx.to_vec(), double(dx32).to_vec(), "{shape:?} {pool:?}");
        }
    }
}

fn max_and_dx(x: &Tensor, pool: Pool2d) -> (Tensor, Tensor) {
    let tape = crate::Tape::new(0);
    let leaf = tape.leaf(x);
    let y = leaf.max_pool2d(pool).unwrap();
    let dx = y.backward_with(&Tensor::ones(y.shape()).unwrap()).unwrap();
    (y.detach(), dx.wrt(&leaf).unwrap().clone())
}

#[test]
fn the_first_of_equals_wins_and_nan_over_all() {
    for width in [2, 40] {
        let x = Tensor::zeros([1, 2, width]).unwrap();
        let (_, dx) = max_and_dx(&x, Pool2d::new(2));
        let want: Vec<f32> =
            (0..2 * width).map(|i| (i < width && i % 2 == 0) as u8 as f32).collect();
        assert_eq!(dx.to_vec(), want);
    }
    for at in 0..4 {
        let mut x = Tensor::from([[[1.0, 2.0], [3.0, 4.0]]]);
        x.make_mut()[at] = f32::NAN;
        let (y, dx) = max_and_dx(&x, Pool2d::new(2));
        assert!(y.to_vec()[0].is_nan());
        assert_eq!(dx.to_vec()[at], 1.0);
        assert!(x.max_pool2d(2).unwrap().to_vec()[0].is_nan());
    }
    let (y, dx) = max_and_dx(&Tensor::full([1, 2, 2], f32::NEG_INFINITY).unwrap(), Pool2d::new(2));
    assert_eq!((y.to_vec(), dx.to_vec()), (vec![f32::NEG_INFINITY], vec![1.0, 0.0, 0.0, 0.0]));
}

#[test]
fn large_windows_keep_wide_places() {
    let x = mixed(&[1, 20, 20]);
    gradcheck(|[x]| x.max_pool2d(17), [&x]).unwrap();
    gradcheck(|[x]| x.max_pool2d(16), [&x]).unwrap();
}

#[test]
fn means_and_their_gradients() {
    for shape in [[2, 3, 6, 6], [1, 2, 8, 7]] {
        let x = mixed(&shape);
        for pool in pools().into_iter().filter(|p| p.dilation == [1, 1]) {
            for pool in [pool, pool.count_include_pad(false), pool.divisor_override(5)] {
                gradcheck(|[x]| x.avg_pool2d(pool), [&x]).unwrap();
            }
        }
        for size in [(1, 1), (3, 2), (6, 7), (9, 9)] {
            gradcheck(|[x]| x.adaptive_avg_pool2d(size), [&x]).unwrap();
        }
    }
    let x: Tensor = Tensor::from([[[1.0, 2.0, 3.0]]]);
    let p = Pool2d::new((1, 2)).padding((0, 1));
    assert_eq!(x.avg_pool2d(p).unwrap().to_vec(), [0.5, 2.5]);
    assert_eq!(x.avg_pool2d(p.count_include_pad(false)).unwrap().to_vec(), [1.0, 2.5]);
    assert_eq!(x.avg_pool2d(p.divisor_override(4)).unwrap().to_vec(), [0.25, 1.25]);
}

#[test]
fn any_layout_and_no_elements() {
    let x = mixed(&[2, 6, 5, 3]).permute([0, 3, 1, 2]).unwrap();
    let dense = Tensor::from_vec(x.to_vec(), x.shape()).unwrap();
    assert_eq!(x.max_pool2d(2).unwrap(), dense.max_pool2d(2).unwrap());
    assert_eq!(x.avg_pool2d(2).unwrap(), dense.avg_pool2d(2).unwrap());
    gradcheck(|[x]| x.max_pool2d(2), [&x]).unwrap();
    let none: Tensor = Tensor::zeros([0, 2, 4, 4]).unwrap();
    assert_eq!(none.max_pool2d(2).unwrap().shape(), [0, 2, 2, 2]);
    assert_eq!(none.adaptive_avg_pool2d(3).unwrap().shape(), [0, 2, 3, 3]);
    assert_eq!(max_and_dx(&none, Pool2d::new(2)).1.shape(), [0, 2, 4, 4]);
}

#[test]
fn what_is_refused() {
    let x: Tensor = Tensor::zeros([1, 3, 4, 4]).unwrap();
    let said = |p: Pool2d| x.max_pool2d(p).unwrap_err().to_string();
    assert!(said(Pool2d::new(5)).starts_with(
        "max_pool2d: the window [5, 5] (dilation [1, 1]) is larger than the input [1, 3, 4, 4]"
    ));
    assert_eq!(said(Pool2d::new(0)), "max_pool2d: kernel [0, 0] must be at least 1 on each axis");
    assert_eq!(
        said(Pool2d::new(2).stride(0)),
        "max_pool2d: stride [0, 0] must be at least 1 on each axis"
    );
    assert_eq!(
        said(Pool2d::new(2).padding(2)),
        "max_pool2d: padding [2, 2] must be at most half of the window [2, 2]"
    );
    let flat: Tensor = Tensor::zeros([4, 4]).unwrap();
    assert!(
        flat.max_pool2d(2)
            .unwrap_err()
            .to_string()
            .contains("the input has shape [4, 4], but must be")
    );
    assert!(x.avg_pool2d(Pool2d::new(2).dilation(2)).is_err());
    assert!(x.avg_pool2d(Pool2d::new(2).divisor_override(0)).is_err());
    assert!(x.adaptive_avg_pool2d(0).is_err());
    assert!(x.adaptive_avg_pool2d(usize::MAX).is_err());
}

/// The windows of a volume by their definition: the place of each maximum, and sum and count of each mean.
fn naive3(x: &Tensor<f64>, p: &Pool3d, out: &[usize]) -> Vec<(f64, usize, f64, usize, usize)> {
    let size = &x.shape()[x.rank() - 3..];
    let values = x.to_vec();
    let plane: usize = size.iter().product();
    let stride = p.stride.unwrap_or(p.kernel);
    let mut all = Vec::new();
    for n in 0..values.len() / plane {
        for o in 0..out.iter().product() {
            let o = [o / (out[1] * out[2]), o / out[2] % out[1], o % out[2]];
            let (mut best, mut at, mut sum, mut inside, mut padded) =
                (f64::NEG_INFINITY, 0, 0.0, 0, 0);
            for t in 0..p.kernel.iter().product() {
                let k = [
                    t / (p.kernel[1] * p.kernel[2]),
                    t / p.kernel[2] % p.kernel[1],
                    t % p.kernel[2],
                ];
                let c: Vec<usize> =
                    (0..3).map(|i| o[i] * stride[i] + k[i] * p.dilation[i]).collect();
                padded += (0..3).all(|i| c[i] < size[i] + 2 * p.padding[i]) as usize;
                if (0..3).all(|i| c[i] >= p.padding[i] && c[i] - p.padding[i] < size[i]) {
                    let z: Vec<usize> = (0..3).map(|i| c[i] - p.padding[i]).collect();
                    let i = (z[0] * size[1] + z[1]) * size[2] + z[2];
                    let v = values[n * plane + i];
                    if inside == 0 || v > best {
                        (best, at) = (v, i);
                    }
                    sum += v;
                    inside += 1;
                }
            }
            all.push((best, at, sum, inside, padded));
        }
    }
    all
}

fn close(a: &Tensor<f64>, b: impl IntoIterator<Item = f64>) {
    a.iter().zip(b).for_each(|(a, b)| assert!((a - b).abs() < 1e-12, "{a} is not {b}"));
}

#[test]
fn volumes() {
    for shape in [&[2, 2, 4, 5, 6][..], &[1, 3, 6, 4]] {
        let x = mixed(shape);
        // Ties: the first of equals.
        let tied = Tensor::from_fn(shape, |i| (i * 7919 % 5) as f64).unwrap();
        for p in [
            Pool3d::new(2),
            Pool3d::new((1, 2, 3)).stride((2, 1, 2)),
            Pool3d::new(3).padding(1).stride(2),
            Pool3d::new((3, 2, 3)).stride(2).ceil_mode(true),
            Pool3d::new(2).stride(1).dilation((1, 2, 1)),
        ] {
            for x in [&x, &tied] {
                let (y, index) = x.max_pool3d_with_indices(p).unwrap();
                let want = naive3(x, &p, &y.shape()[y.rank() - 3..]);
                assert_eq!(y.to_vec(), want.iter().map(|w| w.0).collect::<Vec<_>>(), "{p:?}");
                assert_eq!(index.to_vec(), want.iter().map(|w| w.1 as i64).collect::<Vec<_>>());
                assert_eq!(x.max_pool3d(p).unwrap(), y);
                let tape = crate::Tape::new(0);
                let leaf = tape.leaf(x);
                let again = leaf.max_pool3d_with_indices(p).unwrap();
                assert_eq!((again.0.detach(), &again.1), (y, &index));
                let dx = again.0.sum().backward().unwrap().wrt(&leaf).unwrap().clone();
                let plane: usize = shape[shape.len() - 3..].iter().product();
                let mut counts = vec![0.0; x.len()];
                let windows = want.len() / (x.len() / plane);
                want.iter().enumerate().for_each(|(i, w)| counts[i / windows * plane + w.1] += 1.0);
                assert_eq!(dx.to_vec(), counts, "{p:?}");
            }
            gradgradcheck(|[x]| Ok(x.max_pool3d(p)?.square()), [&x]).unwrap();
            if p.dilation == [1; 3] {
                let y = x.avg_pool3d(p).unwrap();
                let want = naive3(&x, &p, &y.shape()[y.rank() - 3..]);
                close(&y, want.iter().map(|w| w.2 / w.4 as f64));
                close(
                    &x.avg_pool3d(p.count_include_pad(false)).unwrap(),
                    want.iter().map(|w| w.2 / w.3 as f64),
                );
                close(
                    &x.avg_pool3d(p.divisor_override(3)).unwrap(),
                    want.iter().map(|w| w.2 / 3.0),
                );
                gradgradcheck(|[x]| Ok(x.avg_pool3d(p)?.square()), [&x]).unwrap();
                let pos = x.abs().add_scalar(0.5);
                gradcheck(|[x]| x.lp_pool3d(3.0, p), [&pos]).unwrap();
            }
        }
        for size in [(1, 1, 1), (2, 3, 2), (4, 4, 4)] {
            gradgradcheck(|[x]| Ok(x.adaptive_avg_pool3d(size)?.square()), [&x]).unwrap();
            gradgradcheck(|[x]| Ok(x.adaptive_max_pool3d(size)?.0.square()), [&x]).unwrap();
        }
        close(&x.adaptive_avg_pool3d(1).unwrap(), x.mean_axes([-3, -2, -1], true).unwrap().iter());
    }
}

#[test]
fn lengths() {
    let x = mixed(&[2, 3, 9]);
    for p in [
        Pool1d::new(2),
        Pool1d::new(3).stride(2).padding(1),
        Pool1d::new(2).stride(3).ceil_mode(true),
    ] {
        let wide = Pool2d::new((1, p.kernel[0]))
            .stride((1, p.stride.unwrap_or(p.kernel)[0]))
            .padding((0, p.padding[0]))
            .ceil_mode(p.ceil_mode);
        let image = x.unsqueeze(2).unwrap();
        let line = |y: Tensor<f64>| y.squeeze(2).unwrap();
        assert_eq!(x.max_pool1d(p).unwrap(), line(image.max_pool2d(wide).unwrap()));
        assert_eq!(x.avg_pool1d(p).unwrap(), line(image.avg_pool2d(wide).unwrap()));
        gradgradcheck(|[x]| Ok(x.max_pool1d(p)?.square()), [&x]).unwrap();
        gradgradcheck(|[x]| Ok(x.avg_pool1d(p)?.square()), [&x]).unwrap();
        gradgradcheck(|[x]| x.square().add_scalar(0.5).lp_pool1d(2.0, p), [&x]).unwrap();
        let (y, index) = x.max_pool1d_with_indices(p).unwrap();
        let picked = x.gather(2, &index).unwrap();
        assert_eq!(picked, y);
        gradgradcheck(|[y]| Ok(y.max_unpool(&index, &[9])?.square()), [&y]).unwrap();
    }
    assert_eq!(
        x.avg_pool1d(10).unwrap_err().to_string(),
        "avg_pool1d: the window [10] (dilation [1]) is larger than the input [2, 3, 9] with padding [0]; use a smaller one"
    );
    assert!(
        x.adaptive_max_pool1d(0).is_err()
            && x.max_pool3d(1).is_err()
            && x.lp_pool1d(0.0, 2).is_err()
    );
}

#[test]
fn adaptive_maxima() {
    for shape in [[2, 3, 6, 6], [1, 2, 8, 7]] {
        let x = mixed(&shape);
        for size in [(1, 1), (3, 2), (6, 7), (9, 9)] {
            let (y, index) = x.adaptive_max_pool2d(size).unwrap();
            let planes = shape[0] * shape[1];
            let flat = x.reshape([planes, shape[2] * shape[3]]).unwrap();
            let at = index.reshape([planes, size.0 * size.1]).unwrap();
            assert_eq!(flat.gather(1, &at).unwrap().to_vec(), y.to_vec());
            gradcheck(|[x]| Ok(x.adaptive_max_pool2d(size)?.0), [&x]).unwrap();
        }
        assert_eq!(
            x.adaptive_max_pool2d((2, 1)).unwrap().0,
            x.max_pool2d((shape[2] / 2, shape[3])).unwrap()
        );
    }
    let x: Tensor = Tensor::from([[1.0, f32::NAN, 2.0, 2.0]]);
    let (y, index) = x.adaptive_max_pool1d(2).unwrap();
    assert!(y.to_vec()[0].is_nan());
    assert_eq!(index.to_vec(), [1, 2]);
}

#[test]
fn what_unpooling_refuses() {
    let x: Tensor = Tensor::ones([1, 2]).unwrap();
    let said = |i: Tensor<i64>, size: &[usize]| x.max_unpool(&i, size).unwrap_err().to_string();
    assert_eq!(
        said(Tensor::from([[0, 4]]), &[4]),
        "max_unpool: index 4 is out of range for planes of [4] of size 4"
    );
    assert_eq!(
        said(Tensor::from([0]), &[4]),
        "max_unpool: the index has shape [1], the input [1, 2]; they must be the same"
    );
    assert!(said(Tensor::from([[0, 1]]), &[2, 2]).contains("does not fit planes of size [2, 2]"));
    let none: Tensor = Tensor::zeros([0, 2, 3]).unwrap();
    let index = Tensor::zeros([0, 2, 3]).unwrap();
    assert_eq!(none.max_unpool(&index, &[6]).unwrap().shape(), [0, 2, 6]);
}
