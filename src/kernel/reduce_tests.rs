use super::*;
use crate::tensor::Dims;

/// One element at a time, in f64.
fn plain(data: &[f64], layout: &Layout, reduced: &[usize]) -> Vec<f64> {
    let kept: Dims = (0..layout.rank()).filter(|a| !reduced.contains(a)).collect();
    let order: Dims = kept.iter().chain(reduced).copied().collect();
    let p = layout.permute(&order);
    let n: usize = reduced.iter().map(|&a| layout.shape[a]).product();
    let places: Vec<usize> = p.offsets().collect();
    places.chunks(n.max(1)).map(|c| c.iter().map(|&i| data[i]).sum()).collect()
}

fn check(layout: &Layout, reduced: &[usize]) {
    let len = layout.bounds().map_or(0, |b| b.1 + 1);
    let data: Vec<f64> = (0..len).map(|i| ((i * 7919 + 13) % 1009) as f64 - 500.0).collect();
    let want = plain(&data, layout, reduced);
    let mut out = vec![f64::NAN; want.len()];
    fold(Sum, &data, layout, reduced, &mut out);
    assert_eq!(out, want, "{layout:?} over {reduced:?}");
    let ints: Vec<i64> = data.iter().map(|&v| v as i64).collect();
    let mut got = vec![0i64; want.len()];
    fold(Max, &ints, layout, reduced, &mut got);
    let mut negated = vec![0i64; want.len()];
    let mirrored: Vec<i64> = ints.iter().map(|v| -v).collect();
    fold(Min, &mirrored, layout, reduced, &mut negated);
    assert!(got.iter().zip(&negated).all(|(a, b)| *a == -b));
}

#[test]
fn every_set_of_axes_of_every_order() {
    let orders =
        [[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2], [0, 2, 3, 1], [0, 3, 1, 2], [2, 0, 1, 3]];
    for shape in [[2, 3, 4, 5], [3, 1, 9, 2], [1, 40, 1, 67], [2, 2, 2, 130]] {
        for order in orders {
            let base = Layout::dense(&shape).permute(&order);
            let stepped = base.slice(1, base.shape[1] - 1, base.shape[1].div_ceil(2), -2);
            let repeated = base.insert(2).expand(&[
                base.shape[0],
                base.shape[1],
                3,
                base.shape[2],
                base.shape[3],
            ]);
            for l in [base, stepped, repeated] {
                for set in 0..1usize << l.rank() {
                    let axes: Dims = (0..l.rank()).filter(|a| set >> a & 1 == 1).collect();
                    check(&l, &axes);
                }
            }
        }
    }
}

#[test]
fn extremes_on_the_far_side_of_zero() {
    for n in [1, 7, 64, 2047, 2048, 2049, 4096, 6144, 8192, 131_072, 262_144] {
        let x: Vec<f32> = (0..n).map(|i| -1.0 - (i % 7) as f32).collect();
        let y: Vec<f32> = x.iter().map(|x| -x).collect();
        let (mut high, mut low) = ([0.0], [0.0]);
        fold(Max, &x, &Layout::dense(&[n]), &[0], &mut high);
        fold(Min, &y, &Layout::dense(&[n]), &[0], &mut low);
        assert_eq!((high, low), ([-1.0], [1.0]), "{n}");
    }
}

#[test]
fn lengths_around_every_boundary() {
    for n in [1, 7, 8, 9, 63, 64, 65, 2047, 2048, 2049, 4096, 6145, 131_072, 140_001] {
        check(&Layout::dense(&[n]), &[0]);
        check(&Layout::dense(&[2, n]), &[1]);
        check(&Layout::dense(&[n, 3]), &[0]);
    }
    for n in [31, 32, 33, 1023, 1024, 1025, 32_768, 32_801] {
        for w in [1, 5, 16] {
            check(&Layout::dense(&[n, w]), &[0]);
        }
    }
    check(&Layout::dense(&[70, 513]), &[0]);
    check(&Layout::dense(&[2, 33, 1030]), &[1]);
}

#[test]
fn a_long_f32_sum_is_accurate() {
    let x: Vec<f32> = (0..5_000_000).map(|i| 0.1 + (i % 97) as f32 * 1e-3).collect();
    let want: f64 = x.iter().map(|&v| v as f64).sum();
    let mut got = [0.0f32];
    fold(Sum, &x, &Layout::dense(&[x.len()]), &[0], &mut got);
    assert!((got[0] as f64 / want - 1.0).abs() < 2e-7, "{} {want}", got[0]);
    let mut got = [0.0f32; 2];
    fold(Sum, &x, &Layout::dense(&[x.len() / 2, 2]), &[0], &mut got);
    assert!(((got[0] + got[1]) as f64 / want - 1.0).abs() < 3e-7, "{got:?} {want}");
}

#[test]
fn nan_wins_every_comparison() {
    for at in [0, 3, 70, 99] {
        let mut x = vec![1.0f32; 100];
        x[at] = f32::NAN;
        for l in [Layout::dense(&[100]), Layout::dense(&[100, 1])] {
            let mut out = [0.0f32; 2];
            fold(Max, &x, &l, &[0], &mut out[..1]);
            fold(Min, &x, &l, &[0], &mut out[1..]);
            assert!(out[0].is_nan() && out[1].is_nan());
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let x: Vec<f32> = (0..300_000).map(|i| ((i * 31) % 1001) as f32 * 0.37).collect();
    for (shape, axes) in [
        (&[300_000][..], &[0][..]),
        (&[2, 150_000], &[1]),
        (&[100_000, 3], &[0]),
        (&[300, 1000], &[0]),
        (&[1000, 300], &[1]),
        (&[10, 30, 1000], &[0, 2]),
    ] {
        let layout = Layout::dense(shape);
        let n: usize = (0..shape.len()).filter(|a| !axes.contains(a)).map(|a| shape[a]).product();
        let with = |threads| {
            par::tests::with_threads(threads, || {
                let mut out = vec![0.0f32; n];
                fold(Sum, &x, &layout, axes, &mut out);
                out
            })
        };
        assert_eq!(with(1), with(3));
    }
}
