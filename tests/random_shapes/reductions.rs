//! Sums, extremes, orders, softmax, norms: along axes of one tensor, and with weights.

use super::check;
use super::draw::*;

#[test]
fn along_axes() {
    check(&[
        row("sum", every, |[x], _| Ok(x.sum())),
        row("sum_axes", axes, |[x], k| x.sum_axes(axis(x, k), k % 2 == 0)),
        row("sum_axes of two", matrices, |[x], k| x.sum_axes([0, -1], k % 2 == 0)),
        row("mean", full, |[x], _| Ok(x.mean())),
        row("mean_axes", full, |[x], k| x.mean_axes(axis(x, k), k % 2 == 0)),
        row("mean_axes of all", full, |[x], k| x.mean_axes(.., k % 2 == 0)),
        row("var", several, |[x], _| Ok(x.var())),
        row("std", several, |[x], _| Ok(x.std())).distinct(),
        row("var_axes", several, |[x], k| x.var_axes(axis(x, k), k % 2, k % 3 == 0)),
        row("std_axes", several, |[x], k| x.std_axes(axis(x, k), k % 2, k % 3 == 0)).distinct(),
        row("norm", every, |[x], _| Ok(x.norm())),
        row("norm_axes", axes, |[x], k| x.norm_axes(axis(x, k), k % 2 == 0)),
        row("prod", every, |[x], _| Ok(x.prod())).on([probability]),
        row("prod_axes", axes, |[x], k| x.prod_axes(axis(x, k), k % 2 == 0)),
        row("cumsum", axes, |[x], k| x.cumsum(axis(x, k))),
        row("cumprod", axes, |[x], k| x.cumprod(axis(x, k))).once(),
        row("softmax", axes, |[x], k| x.softmax(axis(x, k))),
        row("softmin", axes, |[x], k| x.softmin(axis(x, k))),
        row("log_softmax", axes, |[x], k| x.log_softmax(axis(x, k))),
        row("logsumexp", full, |[x], k| x.logsumexp(axis(x, k), k % 2 == 0)),
        row("logsumexp of all", full, |[x], k| x.logsumexp(.., k % 2 == 0)),
        row("glu", even, |[x], k| x.glu(axis(x, k))),
        row("swiglu", even, |[x], k| x.swiglu(axis(x, k))),
        row("geglu", even, |[x], k| x.geglu(axis(x, k))),
    ]);
}

#[test]
fn extremes_and_orders() {
    let all = [
        row("max", full, |[x], _| x.max()),
        row("min", full, |[x], _| x.min()),
        row("amax", full, |[x], k| x.amax(axis(x, k), k % 2 == 0)),
        row("amin", full, |[x], k| x.amin(axis(x, k), k % 2 == 0)),
        row("amax of all", full, |[x], k| x.amax(.., k % 2 == 0)),
        row("max_axis", full, |[x], k| Ok(x.max_axis(axis(x, k), k % 2 == 0)?.0)),
        row("min_axis", full, |[x], k| Ok(x.min_axis(axis(x, k), k % 2 == 0)?.0)),
        row("sort", axes, |[x], k| Ok(x.sort(axis(x, k), k % 2 == 0)?.0)),
        row("topk", full, |[x], k| Ok(x.topk(1 + k % along(x, k), axis(x, k), k % 2 == 0)?.0)),
        row("kthvalue", full, |[x], k| {
            Ok(x.kthvalue(1 + k % along(x, k), axis(x, k), k % 2 == 0)?.0)
        }),
        row("median", full, |[x], k| Ok(x.median(axis(x, k), k % 2 == 0)?.0)),
    ];
    check(&all.map(|row| row.distinct().same_bits()));
}

/// \[.., a, b\] and twice \[b\].
fn rows(rng: &mut R) -> [Shape; 3] {
    let b = size(2, rng);
    [vec![size(0, rng), size(1, rng), b], vec![b], vec![b]]
}

/// \[n, 2 g, l\] and twice \[2 g\].
fn groups(rng: &mut R) -> [Shape; 3] {
    let c = 2 * size(1, rng).min(2);
    [vec![size(2, rng), c, size(2, rng)], vec![c], vec![c]]
}

#[test]
fn normalisations() {
    check(&[
        row("layer_norm", rows, |[x, w, b], _| {
            x.layer_norm([x.shape()[2]], Some(w), Some(b), 1e-2)
        }),
        row("layer_norm of two axes", rows, |[x, w, b], k| {
            let wide = |w: &X| w.expand([x.shape()[1], x.shape()[2]]);
            let b = if k % 2 == 0 { Some(wide(b)?) } else { None };
            x.layer_norm([x.shape()[1], x.shape()[2]], Some(&wide(w)?), b.as_ref(), 1e-2)
        }),
        row("rms_norm", rows, |[x, w, b], _| x.rms_norm([x.shape()[2]], Some(w), 1e-2)?.try_add(b)),
        row("group_norm", groups, |[x, w, b], k| x.group_norm(1 + k % 2, Some(w), Some(b), 1e-2)),
        row("instance_norm", groups, |[x, w, b], _| x.instance_norm(Some(w), Some(b), 1e-2)),
        row("batch_norm", groups, |[x, w, b], _| Ok(x.batch_norm(Some(w), Some(b), 1e-2)?.0)),
        row("batch_norm_with", groups, |[x, w, b], _| {
            let (mean, var) = (w.zeros_like(), w.full_like(0.7));
            x.batch_norm_with(&mean, &var, Some(w), Some(b), 1e-2)
        }),
    ]);
}
