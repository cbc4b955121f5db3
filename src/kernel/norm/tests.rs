//! The loops against sums written out, at lengths around the widths, and far from 0.

use super::*;

fn numbers(n: usize, mean: f64) -> Vec<f64> {
    (0..n).map(|i| mean + ((i * 7919) % 1009) as f64 / 504.5 - 1.0).collect()
}

fn plain(x: &[f64]) -> [f64; 2] {
    let m = x.iter().sum::<f64>() / x.len() as f64;
    [m, x.iter().map(|v| (v - m) * (v - m)).sum()]
}

fn close(a: [f64; 2], b: [f64; 2]) -> bool {
    a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-10 * b.abs().max(1.0))
}

#[test]
fn moments_of_planes_and_columns() {
    for s in [1, 2, 7, 8, 31, 32, 33, 2049, 4096, 4097, 9000] {
        let x = numbers(3 * s, 5.0);
        for (got, plane) in planes::moments(&x, s).into_iter().zip(x.chunks(s)) {
            assert!(close(got, plain(plane)), "{s}");
        }
    }
    for (n, d) in [(1, 1), (1, 5), (7, 3), (300, 17), (600, 2)] {
        let x = numbers(n * d, -2.0);
        for (j, got) in columns::moments(&x, d).into_iter().enumerate() {
            let column: Vec<f64> = x[j..].iter().step_by(d).copied().collect();
            assert!(close(got, plain(&column)), "{n} {d}");
        }
    }
}

/// A mean a million times the deviation: the sum of squares minus the square of the sum would have no digit left in f32.
#[test]
fn variances_far_from_zero() {
    let x: Vec<f32> = (0..5000).map(|i| 1e5 + (i % 2) as f32).collect();
    for [m, s] in planes::moments(&x, 5000).into_iter().chain(columns::moments(&x, 1)) {
        assert!((m - 100_000.5).abs() < 1e-3 && (s - 1250.0).abs() < 0.1, "{m} {s}");
    }
    let x: Vec<f64> = (0..5000).map(|i| 1e9 + (i % 2) as f64).collect();
    let [_, s] = planes::moments(&x, 5000)[0];
    assert!((s - 1250.0).abs() < 1e-9, "{s}");
}

#[test]
fn merging_is_the_same_as_together() {
    let x = numbers(100, 3.0);
    let (n, both) = merge((30.0, plain(&x[..30])), (70.0, plain(&x[30..])));
    assert!(n == 100.0 && close(both, plain(&x)));
    assert_eq!(merge((0.0, [0.0; 2]), (0.0, [0.0; 2])), (0.0, [0.0; 2]));
}
