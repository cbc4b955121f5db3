//! The definition, as plain loops: slow, and the measure of everything else. Sums in f64.

use super::Conv;
use crate::float::Float;

/// Calls `f(x index, weight index, y index)` for every product in the convolution.
pub(crate) fn for_each_product(c: &Conv, mut f: impl FnMut(usize, usize, usize)) {
    let [h, w] = c.input;
    let [oh, ow] = c.output();
    let [kh, kw] = c.kernel;
    for n in 0..c.batch {
        for g in 0..c.groups {
            for o in 0..c.c_out {
                for ci in 0..c.c_in {
                    for (oy, ox) in (0..oh).flat_map(|y| (0..ow).map(move |x| (y, x))) {
                        for (ky, kx) in (0..kh).flat_map(|y| (0..kw).map(move |x| (y, x))) {
                            let y = oy * c.stride[0] + ky * c.dilation[0];
                            let x = ox * c.stride[1] + kx * c.dilation[1];
                            let (top, left) = (c.pad[0][0], c.pad[1][0]);
                            if y < top || y >= top + h || x < left || x >= left + w {
                                continue;
                            }
                            let channel = (n * c.groups + g) * c.c_in + ci;
                            let filter = g * c.c_out + o;
                            f(
                                (channel * h + y - top) * w + x - left,
                                ((filter * c.c_in + ci) * kh + ky) * kw + kx,
                                ((n * c.groups * c.c_out + filter) * oh + oy) * ow + ox,
                            );
                        }
                    }
                }
            }
        }
    }
}

/// The output.
pub(crate) fn forward<T: Float>(c: &Conv, x: &[T], w: &[T], bias: Option<&[T]>) -> Vec<f64> {
    let (plane, channels) = (c.output()[0] * c.output()[1], c.groups * c.c_out);
    let mut y: Vec<f64> =
        (0..c.y_len()).map(|i| bias.map_or(0.0, |b| b[i / plane % channels].as_f64())).collect();
    for_each_product(c, |i, j, k| y[k] += x[i].as_f64() * w[j].as_f64());
    y
}

/// The gradient of the input.
pub(crate) fn input_grad<T: Float>(c: &Conv, g: &[T], w: &[T]) -> Vec<f64> {
    let mut dx = vec![0.0; c.x_len()];
    for_each_product(c, |i, j, k| dx[i] += g[k].as_f64() * w[j].as_f64());
    dx
}

/// The gradient of the weight.
pub(crate) fn weight_grad<T: Float>(c: &Conv, x: &[T], g: &[T]) -> Vec<f64> {
    let mut dw = vec![0.0; c.w_len()];
    for_each_product(c, |i, j, k| dw[j] += g[k].as_f64() * x[i].as_f64());
    dw
}

/// The gradient of the bias.
pub(crate) fn bias_grad<T: Float>(c: &Conv, g: &[T]) -> Vec<f64> {
    let (plane, channels) = (c.output()[0] * c.output()[1], c.groups * c.c_out);
    let mut db = vec![0.0; channels];
    for (i, g) in g.iter().enumerate() {
        db[i / plane % channels] += g.as_f64();
    }
    db
}
