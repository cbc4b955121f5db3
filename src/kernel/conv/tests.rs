//! Every routine against the plain loops.

use super::*;
use crate::float::Float;

fn values<T: Float>(n: usize, seed: u64) -> Vec<T> {
    use rand::RngExt;
    let mut rng = crate::rng(seed);
    (0..n).map(|_| T::of(rng.random_range(-1.0..1.0))).collect()
}

fn close<T: Float>(what: &str, c: &Conv, got: &[T], want: &[f64], tol: f64) {
    assert_eq!(got.len(), want.len());
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let d = (g.as_f64() - w).abs();
        assert!(d <= tol * (1.0 + w.abs()), "{what}[{i}] = {g}, expected {w}, of {c:?}");
    }
}

fn check<T: Float>(c: &Conv, seed: u64, tol: f64) {
    let x: Vec<T> = values(c.x_len(), seed);
    let w: Vec<T> = values(c.w_len(), seed + 1);
    let b: Vec<T> = values(c.groups * c.c_out, seed + 2);
    let g: Vec<T> = values(c.y_len(), seed + 3);
    let nan = |n: usize| vec![T::of(f64::NAN); n];
    let mut y = nan(c.y_len());
    forward(c, &x, &w, Some(&b), false, &mut y);
    close("y", c, &y, &reference::forward(c, &x, &w, Some(&b)), tol);
    let mut rectified = vec![T::of(f64::NAN); y.len()];
    forward(c, &x, &w, Some(&b), true, &mut rectified);
    let same = |(r, y): (&T, &T)| *r == if *y < T::ZERO { T::ZERO } else { *y };
    assert!(rectified.iter().zip(&y).all(same), "{c:?}");
    forward(c, &x, &w, None, false, &mut y);
    close("y", c, &y, &reference::forward(c, &x, &w, None), tol);
    let mut dx = nan(c.x_len());
    input_grad(c, &g, &w, &mut dx);
    close("dx", c, &dx, &reference::input_grad(c, &g, &w), tol);
    let (mut dw, mut db) = (nan(c.w_len()), nan(c.groups * c.c_out));
    weight_grad(c, &x, &g, Some(&mut dw), Some(&mut db));
    close("dw", c, &dw, &reference::weight_grad(c, &x, &g), tol);
    close("db", c, &db, &reference::bias_grad(c, &g), tol);
}

/// A random shape whose window fits.
fn shape(rng: &mut impl rand::Rng, most: usize) -> Conv {
    use rand::RngExt;
    loop {
        let mut pair =
            |lo: usize, hi: usize| [rng.random_range(lo..=hi), rng.random_range(lo..=hi)];
        let (kernel, stride, dilation) = (pair(1, 4), pair(1, 3), pair(1, 3));
        let (input, before, after) = (pair(1, most), pair(0, 4), pair(0, 4));
        let [groups, _] = pair(1, 3);
        let [c_in, c_out] = pair(1, 20);
        let [batch, _] = pair(1, 10);
        let pad = [[before[0], after[0]], [before[1], after[1]]];
        let fits = (0..2).all(|i| input[i] + pad[i][0] + pad[i][1] > dilation[i] * (kernel[i] - 1));
        if fits {
            return Conv { batch, groups, c_in, c_out, input, kernel, stride, dilation, pad };
        }
    }
}

#[test]
fn random_shapes_agree_with_the_plain_loops() {
    let mut rng = crate::rng(1);
    for i in 0..150 {
        let c = shape(&mut rng, 9);
        check::<f64>(&c, i, 1e-12);
        check::<f32>(&c, i, 2e-4);
    }
    for i in 0..15 {
        let c = shape(&mut rng, 40);
        check::<f64>(&c, i, 1e-12);
        check::<f32>(&c, i, 5e-4);
    }
}

fn square(
    batch: usize,
    c_in: usize,
    size: usize,
    c_out: usize,
    k: usize,
    s: usize,
    p: usize,
) -> Conv {
    Conv {
        batch,
        groups: 1,
        c_in,
        c_out,
        input: [size; 2],
        kernel: [k; 2],
        stride: [s; 2],
        dilation: [1; 2],
        pad: [[p; 2]; 2],
    }
}

#[test]
fn common_shapes_agree_with_the_plain_loops() {
    for c in [
        square(9, 1, 28, 32, 3, 1, 0),
        square(9, 32, 13, 64, 3, 1, 0),
        square(2, 16, 28, 17, 3, 1, 1),
        square(8, 3, 32, 16, 3, 1, 1),
        square(2, 3, 30, 8, 7, 2, 3),
        square(3, 20, 14, 24, 1, 1, 0),
        square(3, 20, 14, 24, 1, 2, 0),
        square(9, 20, 15, 24, 1, 3, 0),
        Conv { groups: 2, stride: [1, 2], ..square(2, 17, 16, 19, 1, 1, 0) },
        Conv { groups: 3, ..square(8, 16, 4, 18, 1, 1, 0) },
        square(1, 40, 14, 33, 3, 1, 1),
        square(1, 40, 20, 33, 3, 2, 1),
        square(2, 300, 5, 65, 1, 1, 0),
        square(1, 64, 7, 67, 3, 1, 1),
        Conv { groups: 2, ..square(3, 60, 8, 70, 3, 2, 1) },
        square(2, 24, 14, 12, 3, 2, 1),
        square(1, 70, 8, 130, 3, 1, 1),
        square(1, 24, 16, 31, 3, 1, 1),
        square(30, 33, 4, 25, 3, 1, 1),
        Conv { pad: [[3, 0], [0, 4]], input: [11, 7], ..square(5, 26, 1, 40, 3, 1, 0) },
        Conv { pad: [[0, 5], [4, 1]], input: [3, 90], ..square(1, 25, 1, 24, 3, 1, 0) },
        Conv { groups: 2, ..square(3, 24, 9, 27, 3, 1, 1) },
        Conv { groups: 24, c_in: 1, c_out: 1, ..square(3, 1, 14, 1, 3, 1, 1) },
        Conv { groups: 4, c_in: 2, c_out: 6, ..square(3, 1, 9, 1, 3, 2, 1) },
    ] {
        check::<f32>(&c, 7, 1e-3);
        check::<f64>(&c, 7, 1e-11);
    }
}

#[test]
fn empty_sizes() {
    check::<f32>(&square(0, 2, 5, 3, 3, 1, 0), 1, 1e-5);
    check::<f32>(&square(2, 0, 5, 3, 3, 1, 1), 1, 1e-5);
    check::<f32>(&square(2, 2, 5, 0, 3, 1, 1), 1, 1e-5);
    check::<f64>(&square(2, 2, 0, 3, 3, 1, 2), 1, 1e-5);
}

#[test]
fn values_behind_the_last_image_are_not_read() {
    // The last register of the last image must be read by its lanes: a neighbouring NaN would show in nothing, an invalid
    // page would. What can be seen: an image alone gives the bits that it gives among others.
    let c = square(3, 2, 7, 5, 3, 1, 0);
    let (x, w) = (values::<f32>(c.x_len(), 1), values::<f32>(c.w_len(), 2));
    let mut y = vec![0.0; c.y_len()];
    forward(&c, &x, &w, None, false, &mut y);
    let one = Conv { batch: 1, ..c };
    let mut last = vec![0.0; one.y_len()];
    forward(&one, &x[2 * one.x_len()..], &w, None, false, &mut last);
    assert_eq!(last, y[2 * one.y_len()..]);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for c in [
        square(32, 32, 13, 64, 3, 1, 0),
        square(32, 1, 28, 32, 3, 1, 0),
        square(2, 64, 28, 64, 3, 2, 1),
    ] {
        let x: Vec<f32> = values(c.x_len(), 1);
        let w: Vec<f32> = values(c.w_len(), 2);
        let g: Vec<f32> = values(c.y_len(), 3);
        let all = |threads: usize| {
            crate::set_num_threads(threads);
            let (mut y, mut dx) = (vec![0.0; c.y_len()], vec![0.0; c.x_len()]);
            let (mut dw, mut db) = (vec![0.0; c.w_len()], vec![0.0; c.c_out]);
            forward(&c, &x, &w, None, false, &mut y);
            input_grad(&c, &g, &w, &mut dx);
            weight_grad(&c, &x, &g, Some(&mut dw), Some(&mut db));
            crate::set_num_threads(0);
            (y, dx, dw, db)
        };
        let one = all(1);
        assert_eq!(one, all(2));
        assert_eq!(one, all(4));
    }
}
