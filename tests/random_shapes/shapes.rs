//! Views, joins, indices and scattering.

use super::check;
use super::draw::*;
use gradus::Slice;
use gradus::nn::PadMode;
use gradus::prelude::*;

/// Three places along an axis of this size, one of them perhaps twice; none along an empty one.
fn places(size: usize, k: usize) -> Tensor<i64> {
    let n = if size == 0 { 0 } else { 3 };
    Tensor::from_fn([n], |i| ((i * (1 + k % 2) + k) % size) as i64).unwrap()
}

/// For each place of `x`, but three along the chosen axis, a place along that axis.
fn index(x: &X, k: usize) -> Tensor<i64> {
    let size = along(x, k);
    let mut shape = x.shape().to_vec();
    shape[k % x.rank()] = if size == 0 { 0 } else { 3 };
    Tensor::from_fn(&shape[..], |i| ((i * 5 + k) % size.max(1)) as i64).unwrap()
}

#[test]
fn views() {
    let all = [
        row("reshape", every, |[x], _| x.reshape([x.len()])),
        row("flatten", axes, |[x], _| x.flatten(..)),
        row("permute", every, |[x], _| x.permute((0..x.rank() as isize).rev().collect::<Vec<_>>())),
        row("transpose", axes, |[x], k| x.transpose(axis(x, k), axis(x, k + 1))),
        row("t", matrices, |[x], _| x.t()),
        row("expand", every, |[x], k| x.expand([&[k % 3], x.shape()].concat())),
        row("unsqueeze", every, |[x], k| x.unsqueeze((k % (x.rank() + 1)) as isize)),
        row("squeeze", every, |[x], _| x.unsqueeze(0)?.squeeze(0)),
        row("flip", axes, |[x], k| x.flip(axis(x, k))),
        row("narrow", full, |[x], k| x.narrow(axis(x, k), 0, along(x, k).div_ceil(2))),
        row("select", full, |[x], k| x.select(axis(x, k), -1)),
        row("slice_axis", axes, |[x], k| {
            x.slice_axis(axis(x, k), Slice::all().step([2, -1, -2, 3][k % 4]))
        }),
        row("slice", full, |[x], k| match x.rank() {
            1 => x.slice(Slice::all().step([2, -1][k % 2])),
            2 => x.slice((.., -1)),
            _ => x.slice((Slice::all().step(-2), 0, ..x.shape()[2] as isize / 2)),
        }),
        row("diagonal", matrices, |[x], k| x.diagonal(k as isize % 5 - 2, 0, -1)),
        row("trace", matrices, |[x], _| x.trace()),
        row("repeat", every, |[x], k| {
            x.repeat(&(0..=x.rank()).map(|i| (i + k) % 3).collect::<Vec<_>>())
        }),
        row("pad", every, |[x], k| {
            let pads: Vec<_> =
                (0..x.rank()).map(|i| ((i % 2) as isize, (k % 3) as isize)).collect();
            x.pad(&pads, 0.5)
        }),
        row("pad that cuts", full, |[x], k| {
            x.pad(&(0..x.rank()).map(|i| (-1, 1 + (i + k) as isize % 2)).collect::<Vec<_>>(), 0.5)
        }),
        row("pad_mode", several, |[x], k| {
            let mode = [PadMode::Reflect, PadMode::Replicate, PadMode::Circular][k % 3];
            x.pad_mode(
                &(0..x.rank()).map(|i| (1, (i + k) as isize % 3 - 1)).collect::<Vec<_>>(),
                mode,
            )
        }),
        row("roll", axes, |[x], k| x.roll(k as isize - 4, axis(x, k))),
        row("tril", matrices, |[x], k| x.tril(k as isize % 4 - 2)),
        row("triu", matrices, |[x], k| x.triu(k as isize % 4 - 2)),
        row("split", axes, |[x], k| {
            let n = along(x, k);
            let parts = x.split(&[n / 2, n - n / 2], axis(x, k))?;
            Tensor::concat(&[&parts[1], &parts[0], &parts[1]], axis(x, k))
        }),
        row("chunks", full, |[x], k| Ok(x.chunks(2, axis(x, k))?.remove(0))),
        row("concat", axes, |[x], k| Tensor::concat(&[x, &x.square(), x], axis(x, k))),
        row("stack", every, |[x], k| Tensor::stack(&[x, x], (k % (x.rank() + 1)) as isize)),
        row("index_select", axes, |[x], k| x.index_select(axis(x, k), &places(along(x, k), k))),
        row("gather", axes, |[x], k| x.gather(axis(x, k), &index(x, k))),
        row("masked_select", every, |[x], _| x.masked_select(&x.gt_scalar(0.25))),
        row("embedding", tables, |[x], k| {
            let ids = places(x.shape()[0], k);
            x.embedding(&Tensor::stack(&[&ids, &ids], 0)?, None)
        }),
    ];
    check(&all.map(|row| row.same_bits()));
}

fn tables(rng: &mut R) -> [Shape; 1] {
    [vec![size(1, rng), size(0, rng)]]
}

/// A shape, and the same with three along the first axis (none if that is empty).
fn slices(rng: &mut R) -> [Shape; 2] {
    let [x] = axes(rng);
    let mut s = x.clone();
    s[0] = if x[0] == 0 { 0 } else { 3 };
    [x, s]
}

#[test]
fn joins_and_scattering() {
    let all = [
        row("concat of two", slices, |[x, s], _| Tensor::concat(&[x, s, x], 0)),
        row("stack of two", twice, |[a, b], k| {
            Tensor::stack(&[a, b, a], (k % (a.rank() + 1)) as isize)
        }),
        row("scatter", slices, |[x, s], _| x.scatter(0, &index(x, 0), s)),
        row("scatter_add", slices, |[x, s], _| x.scatter_add(0, &index(x, 0), s)),
        row("index_add", slices, |[x, s], k| x.index_add(0, &places(x.shape()[0], k), s)),
        row("index_copy", slices, |[x, s], k| x.index_copy(0, &places(x.shape()[0], k), s)),
    ];
    check(&all.map(|row| row.same_bits()));
}
