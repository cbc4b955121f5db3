use super::*;
use crate::autograd::gradcheck;

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
            let (w, out) = pool.windows("max_pool2d", &shape).unwrap();
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
