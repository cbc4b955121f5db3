//! Matrix products, attention, convolutions, pooling, interpolation.

use super::check;
use super::draw::*;
use gradus::nn::{
    Conv1dParams, Conv2dParams, Conv3dParams, ConvTranspose1dParams, ConvTranspose2dParams,
    ConvTranspose3dParams, Interpolate, Interpolation, Pool1d, Pool2d, Pool3d, Rotary, Unfold,
};
use gradus::prelude::*;

/// \[.., m, k\] and \[.., k, n\], whose leading axes broadcast.
fn product(rng: &mut R) -> [Shape; 2] {
    let [m, k, n] = [size(0, rng), size(0, rng), size(0, rng)];
    let [mut a, mut b] = pair(rng);
    a.truncate(2);
    b.truncate(2);
    // What is cut off at the end must still broadcast.
    if a.len() != b.len() || a.iter().zip(&b).any(|(&x, &y)| x != y && x != 1 && y != 1) {
        b.clear();
    }
    a.extend([m, k]);
    b.extend([k, n]);
    [a, b]
}

/// A vector with a matrix or a vector.
fn vectors(rng: &mut R) -> [Shape; 2] {
    let [k, n] = [size(0, rng), size(0, rng)];
    [vec![k], if size(0, rng) < 2 { vec![k] } else { vec![k, n] }]
}

fn linear(rng: &mut R) -> [Shape; 3] {
    let [i, o] = [size(1, rng), size(1, rng)];
    let [mut x] = every(rng);
    x.push(i);
    [x, vec![o, i], vec![o]]
}

#[test]
fn matrices_and_einsum() {
    check(&[
        row("matmul", product, |[a, b], _| a.matmul(b)),
        row("matmul of vectors", vectors, |[a, b], _| a.matmul(b)),
        row("a matrix by a vector", vectors, |[a, b], _| match b.rank() {
            1 => b.matmul(a),
            _ => b.t()?.matmul(a),
        }),
        row("einsum", product, |[a, b], k| {
            let equation = ["...ij,...jk->...ik", "...ij,...jk->...ki", "...ij,...jk->...i"][k % 3];
            Tensor::einsum(equation, &[a, b])
        }),
        row("einsum of equal shapes", alike, |[a, b], k| {
            let equation = ["ab,ab->", "ab,ab->ba", "ab,cb->ac", "ab,ac->abc", "ab,cd->bd"][k % 5];
            Tensor::einsum(equation, &[a, b])
        }),
    ]);
    check(&[
        row("linear", linear, |[x, w, b], _| x.linear(w, Some(b))),
        row("linear without a bias", linear, |[x, w, b], _| x.linear(w, None)?.try_mul(b)),
    ]);
    check(&[
        row("einsum of a square", squares, |[x], k| {
            Tensor::einsum(["ii->i", "ii->", "ij->ji", "ij->j"][k % 4], &[x])
        }),
        row("rotary", turned, |[x], k| Rotary::new(4)?.interleaved(k % 2 == 0).forward_at(x, k)),
    ]);
}

fn alike(rng: &mut R) -> [Shape; 2] {
    let s = vec![size(0, rng), size(1, rng)];
    [s.clone(), s]
}

fn squares(rng: &mut R) -> [Shape; 1] {
    let n = size(0, rng);
    [vec![n, n]]
}

fn turned(rng: &mut R) -> [Shape; 1] {
    [vec![size(0, rng), size(1, rng), 4 + size(0, rng)]]
}

/// Queries, keys, values.
fn heads(rng: &mut R) -> [Shape; 3] {
    let [n, t, s, d, e] = [size(0, rng), size(0, rng), size(1, rng), size(1, rng), size(1, rng)];
    [vec![n, 2, t, d], vec![n, 2, s, d], vec![n, 2, s, e]]
}

#[test]
fn attention() {
    check(&[row("attention", heads, |[q, k, v], n| {
        let (t, s) = (q.shape()[2], k.shape()[2]);
        let options = match n % 4 {
            0 => Attention::new(),
            1 => Attention::new().causal(),
            2 => Attention::new().scale(0.3).dropout(0.3, n as u64),
            _ => {
                let near: Tensor<bool> = Tensor::from_fn([t, s], |i| i % 3 != 1)?;
                Attention::new().mask(near)
            }
        };
        match n % 3 {
            0 => Ok(q.attention_with_weights(k, v, &options)?.1),
            _ => q.scaled_dot_product_attention(k, v, &options),
        }
    })]);
}

/// Images, filters in two groups, and their bias. Few images, since the rounding of a difference of larger sums exceeds what is compared.
fn images(rng: &mut R) -> [Shape; 3] {
    let [n, h, w] = [size(0, rng).min(2), 3 + size(0, rng), 3 + size(0, rng)];
    let f = 2 * size(1, rng).min(2);
    [vec![n, 4, h, w], vec![f, 2, size(1, rng).min(3), size(1, rng).min(3)], vec![f]]
}

/// Signals, filters, and their bias.
fn signals(rng: &mut R) -> [Shape; 3] {
    let (c, f) = (size(1, rng), size(1, rng));
    [vec![size(0, rng), c, 5 + size(0, rng)], vec![f, c, size(1, rng).min(3)], vec![f]]
}

/// Volumes, filters, and their bias.
fn volumes(rng: &mut R) -> [Shape; 3] {
    let (c, f, mut d) = (size(1, rng).min(2), size(1, rng).min(2), || size(2, rng).min(3));
    [vec![2, c, d(), d(), d()], vec![f, c, 2, d() - 1, 1], vec![f]]
}

/// What a transposed convolution over `D` axes spreads, its filters, and their bias.
fn spread<const D: usize>(rng: &mut R) -> [Shape; 3] {
    let (c, f) = (size(1, rng).min(3), size(1, rng).min(3));
    let mut some = |most: usize| (0..D).map(|_| size(1, rng).min(most)).collect::<Shape>();
    let (x, w) = (some(3), some(3));
    [[vec![2, c], x].concat(), [vec![c, f], w].concat(), vec![f]]
}

#[test]
fn convolutions() {
    check(&[
        row("conv2d", images, |[x, w, b], k| {
            let p = Conv2dParams::new().groups(2).padding(k % 2).stride((1 + k % 3, 1));
            x.conv2d(w, Some(b), if k % 4 == 0 { p.padding(2).dilation((2, 1)) } else { p })
        }),
        row("conv1d", signals, |[x, w, b], k| {
            x.conv1d(w, Some(b), Conv1dParams::new().padding(k % 2).stride(1 + k % 3))
        }),
        row("conv3d", volumes, |[x, w, b], k| {
            x.conv3d(w, Some(b), Conv3dParams::new().padding(k % 2).stride(1 + k % 3))
        }),
        row("conv_transpose1d", spread::<1>, |[x, w, b], k| {
            x.conv_transpose1d(w, Some(b), ConvTranspose1dParams::new().stride(1 + k % 2))
        }),
        row("conv_transpose2d", spread::<2>, |[x, w, b], k| {
            let p = ConvTranspose2dParams::new().stride(1 + k % 2);
            x.conv_transpose2d(w, Some(b), if k % 3 == 0 { p.dilation((1, 2)) } else { p })
        }),
        row("conv_transpose3d", spread::<3>, |[x, w, b], k| {
            x.conv_transpose3d(w, Some(b), ConvTranspose3dParams::new().stride(1 + k % 2))
        }),
    ]);
}

/// Images, with or without a batch.
fn planes(rng: &mut R) -> [Shape; 1] {
    let [n, c, h, w] = [size(0, rng), size(1, rng), 3 + size(0, rng), 3 + size(0, rng)];
    [if size(0, rng) < 2 { vec![c, h, w] } else { vec![n, c.min(2), h, w] }]
}

/// Batches of images.
fn batches(rng: &mut R) -> [Shape; 1] {
    [vec![size(0, rng), size(1, rng).min(2), 3 + size(0, rng), 3 + size(0, rng)]]
}

fn lines(rng: &mut R) -> [Shape; 1] {
    [vec![size(0, rng), size(1, rng), 3 + size(0, rng)]]
}

fn cubes(rng: &mut R) -> [Shape; 1] {
    let mut d = || 2 + size(0, rng).min(2);
    [vec![d() - 2, 1, d(), d(), d()]]
}

#[test]
fn pools() {
    let largest = [
        row("max_pool1d", lines, |[x], k| {
            x.max_pool1d(Pool1d::new(3).stride(1 + k % 3).padding(1))
        }),
        row("max_pool2d", planes, |[x], k| {
            x.max_pool2d(Pool2d::new(2).stride(1 + k % 2).padding(k % 2).ceil_mode(k % 3 == 0))
        }),
        row("max_pool3d", cubes, |[x], k| x.max_pool3d(Pool3d::new(2).stride(1 + k % 2))),
        row("adaptive_max_pool1d", lines, |[x], k| Ok(x.adaptive_max_pool1d(1 + k % 3)?.0)),
        row("adaptive_max_pool2d", planes, |[x], k| Ok(x.adaptive_max_pool2d((1 + k % 3, 2))?.0)),
        row("adaptive_max_pool3d", cubes, |[x], k| Ok(x.adaptive_max_pool3d(1 + k % 2)?.0)),
        row("max_unpool", planes, |[x], _| {
            let (y, index) = x.max_pool2d_with_indices(2)?;
            y.max_unpool(&index, &x.shape()[x.rank() - 2..])
        }),
    ];
    check(&largest.map(|row| row.distinct()));
    check(&[
        row("avg_pool1d", lines, |[x], k| {
            x.avg_pool1d(Pool1d::new(3).stride(1 + k % 3).padding(1))
        }),
        row("avg_pool2d", planes, |[x], k| {
            let p = Pool2d::new((2, 3)).stride(1 + k % 2).padding(k % 2).ceil_mode(k % 3 == 0);
            x.avg_pool2d(p.count_include_pad(k % 5 < 2))
        }),
        row("avg_pool3d", cubes, |[x], k| x.avg_pool3d(Pool3d::new(2).stride(1 + k % 2))),
        row("adaptive_avg_pool1d", lines, |[x], k| x.adaptive_avg_pool1d(1 + k % 3)),
        row("adaptive_avg_pool2d", planes, |[x], k| x.adaptive_avg_pool2d((1 + k % 3, 2))),
        row("adaptive_avg_pool3d", cubes, |[x], k| x.adaptive_avg_pool3d(1 + k % 2)),
        row("lp_pool1d", lines, |[x], k| x.lp_pool1d(2.0 + (k % 2) as f64, 2)).on([positive]),
        row("lp_pool2d", planes, |[x], k| x.lp_pool2d(2.0 + (k % 2) as f64, 2)).on([positive]),
        row("lp_pool3d", cubes, |[x], k| x.lp_pool3d(2.0 + (k % 2) as f64, 2)).on([positive]),
        row("unfold", batches, |[x], k| x.unfold(windows(k))),
        row("fold", batches, |[x], k| {
            let size = (x.shape()[2], x.shape()[3]);
            x.unfold(windows(k))?.square().fold(size, windows(k))
        }),
    ]);
}

fn windows(k: usize) -> Unfold {
    Unfold::new((2, 3)).stride(1 + k % 2).padding(k % 3)
}

fn blocks(rng: &mut R) -> [Shape; 1] {
    [vec![size(0, rng), 4, 2 * size(1, rng).min(2), 2]]
}

/// To a size, or by a factor.
fn resized(x: &X, mode: Interpolation, k: usize) -> Result<X> {
    let align = k.is_multiple_of(2) && matches!(mode, Interpolation::Linear | Interpolation::Cubic);
    let to = match k % 3 {
        0 => Interpolate::to([2, 7]),
        1 => Interpolate::by([2.0, 0.5]),
        _ => Interpolate::to([5, 3]),
    };
    x.interpolate(&to.mode(mode).align_corners(align))
}

#[test]
fn sizes() {
    check(&[
        row("pixel_shuffle", blocks, |[x], _| x.pixel_shuffle(2)),
        row("pixel_unshuffle", blocks, |[x], _| x.pixel_unshuffle(2)),
        row("nearest", frames, |[x], k| resized(x, Interpolation::Nearest, k)),
        row("nearest exact", frames, |[x], k| resized(x, Interpolation::NearestExact, k)),
        row("linear", frames, |[x], k| resized(x, Interpolation::Linear, k)),
        row("cubic", frames, |[x], k| resized(x, Interpolation::Cubic, k)),
    ]);
}

fn frames(rng: &mut R) -> [Shape; 1] {
    [vec![size(0, rng), size(1, rng).min(2), size(1, rng), 2 + size(0, rng)]]
}
