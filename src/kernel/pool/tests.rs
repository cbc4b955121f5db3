//! Rows of windows against windows one by one.

use super::*;

fn numbers(n: usize) -> Vec<f32> {
    // With ties, infinities and a NaN now and then.
    let odd = [f32::NEG_INFINITY, f32::INFINITY, f32::NAN, -0.0];
    let at = |i: usize| (i * 7919 + i / 13) % 1009;
    (0..n).map(|i| if at(i) < 40 { odd[at(i) % 4] } else { (at(i) % 23) as f32 - 11.0 }).collect()
}

/// All windows of some kernels, strides, paddings and dilations over planes of some sizes.
fn windows() -> Vec<Windows> {
    let mut all = vec![];
    for input in [[1, 1], [5, 4], [7, 19], [9, 40], [3, 67]] {
        for kernel in [[1, 1], [2, 2], [3, 3], [2, 5], [5, 5]] {
            for (stride, dilation) in
                [([1, 1], [1, 1]), ([2, 2], [1, 1]), ([1, 3], [2, 2]), ([3, 2], [1, 4])]
            {
                for ceil in [0, 1] {
                    let pad = kernel.map(|k| k / 2);
                    let out = |a: usize| {
                        let size: usize = input[a] + 2 * pad[a];
                        let room = size.checked_sub(dilation[a] * (kernel[a] - 1) + 1)?;
                        Some((room + ceil * (stride[a] - 1)) / stride[a] + 1)
                    };
                    if let (Some(rows), Some(cols)) = (out(0), out(1)) {
                        let out = [rows, cols];
                        all.push(Windows { planes: 2, input, kernel, stride, pad, dilation, out });
                    }
                }
            }
        }
    }
    all
}

fn plain_max(w: &Windows, x: &[f32], y: &mut [f32], places: &mut [i64]) {
    let [kh, kw] = w.kernel;
    for (j, (y, place)) in y.iter_mut().zip(places).enumerate() {
        let (plane, oy, ox) = (j / w.out_plane(), j % w.out_plane() / w.out[1], j % w.out[1]);
        let (mut best, mut at, mut first) = (f32::NEG_INFINITY, 0, true);
        for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
            let (Some(r), Some(c)) = (w.place(0, oy, ky), w.place(1, ox, kx)) else { continue };
            let v = x[plane * w.in_plane() + r * w.input[1] + c];
            if first || v > best || v.is_nan() {
                (best, at, first) = (v, (ky * kw + kx) as i64, false);
            }
        }
        (*y, *place) = (best, at);
    }
}

#[test]
fn maxima_and_their_gradients() {
    let same =
        |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| a == b || a.is_nan() && b.is_nan());
    for w in windows() {
        let x = numbers(2 * w.in_plane());
        let m = 2 * w.out_plane();
        let (mut want, mut at) = (vec![0.0; m], vec![0i64; m]);
        plain_max(&w, &x, &mut want, &mut at);
        let (mut y, mut long, mut short) = (vec![0.5; m], vec![7i64; m], vec![7u8; m]);
        max::<f32, u8>(&w, &x, &mut y, None);
        assert!(same(&y, &want), "{w:?}");
        max(&w, &x, &mut y, Some(&mut long));
        assert!(same(&y, &want) && long == at, "{w:?}");
        y.fill(0.5);
        max(&w, &x, &mut y, Some(&mut short));
        assert!(same(&y, &want) && short.iter().zip(&at).all(|(&a, &b)| a as i64 == b), "{w:?}");
        // Whole numbers: their sums are exact in any order.
        let g: Vec<f32> = (0..m).map(|i| (i % 7) as f32 - 3.0).collect();
        let mut dx = vec![f32::NAN; x.len()];
        max_grad(&w, &g, &short, &mut dx);
        let mut plain = vec![0.0; x.len()];
        for (j, (&g, &at)) in g.iter().zip(&at).enumerate() {
            let (plane, oy, ox) = (j / w.out_plane(), j % w.out_plane() / w.out[1], j % w.out[1]);
            let (ky, kx) = (at as usize / w.kernel[1], at as usize % w.kernel[1]);
            if let (Some(r), Some(c)) = (w.place(0, oy, ky), w.place(1, ox, kx)) {
                plain[plane * w.in_plane() + r * w.input[1] + c] += g;
            }
        }
        assert_eq!(dx, plain, "{w:?}");
    }
}

#[test]
fn means_and_their_gradients() {
    for w in windows().into_iter().filter(|w| w.dilation == [1, 1]) {
        let stretches = |a: usize| -> Vec<Stretch> {
            (0..w.out[a])
                .map(|o| {
                    let place = |p: usize| p.saturating_sub(w.pad[a]).min(w.input[a]);
                    let (start, end) =
                        (place(o * w.stride[a]), place(o * w.stride[a] + w.kernel[a]));
                    Stretch { start, end: end.max(start), count: (end.max(start) - start).max(1) }
                })
                .collect()
        };
        let m = Means {
            planes: 2,
            input: w.input,
            rows: stretches(0),
            cols: stretches(1),
            divisor: None,
        };
        let x: Vec<f64> = (0..2 * w.in_plane()).map(|i| (i * 31 % 17) as f64).collect();
        let g: Vec<f64> = (0..2 * w.out_plane()).map(|i| (i * 13 % 11) as f64 - 5.0).collect();
        let (mut y, mut dx) = (vec![f64::NAN; g.len()], vec![f64::NAN; x.len()]);
        mean(&m, &x, &mut y);
        mean_grad(&m, &g, &mut dx);
        let (mut want, mut back) = (vec![0.0; g.len()], vec![0.0; x.len()]);
        for (j, want) in want.iter_mut().enumerate() {
            let plane = j / w.out_plane() * w.in_plane();
            let (row, col) = (&m.rows[j % w.out_plane() / w.out[1]], &m.cols[j % w.out[1]]);
            for r in row.start..row.end {
                for c in col.start..col.end {
                    let share = 1.0 / (row.count * col.count) as f64;
                    *want += x[plane + r * w.input[1] + c] * share;
                    back[plane + r * w.input[1] + c] += g[j] * share;
                }
            }
        }
        let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(close(&y, &want) && close(&dx, &back), "{w:?}");
    }
}
