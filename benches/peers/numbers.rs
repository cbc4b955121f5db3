//! Inputs and weights that any library can reproduce: splitmix64, 24 bits a number.

use gradus::nn::{ItemMut, ParamMut, VisitorMut};
use gradus::prelude::*;

/// 24 random bits: element `i` of the stream with seed `s`.
fn bits(s: u64, i: u64) -> u64 {
    let z = s.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) >> 40
}

/// The number in [0, 1) that the bits stand for.
fn fraction(seed: u64, i: usize) -> f32 {
    bits(seed, i as u64) as f32 * (0.5f32).powi(24)
}

/// Uniform in [0, 1).
pub fn unit(seed: u64, shape: &[usize]) -> Result<Tensor> {
    Tensor::from_fn(shape, |i| fraction(seed, i))
}

/// Uniform in [-bound, bound).
pub fn signed(seed: u64, shape: &[usize], bound: f64) -> Result<Tensor> {
    Tensor::from_fn(shape, |i| (2.0 * fraction(seed, i) - 1.0) * bound as f32)
}

/// Uniform in 0 .. n-1.
pub fn ints(seed: u64, n: u64, shape: &[usize]) -> Result<Tensor<i64>> {
    Tensor::from_fn(shape, |i| ((bits(seed, i as u64) * n) >> 24) as i64)
}

/// Parameter `k` from seed 1000 + k: two or more axes uniform in ±1/√(product of the axes after the first), the weights of norms 1, biases 0.
pub fn init<M: Module>(model: &mut M) {
    let mut seed = 1000;
    VisitorMut::walk(model, &mut |path, item| {
        if let ItemMut::Param(ParamMut::F32(p)) = item {
            // Taken out and filled where it lies: a second copy of a large table would be the peak of the process' memory.
            let mut value = p.tensor().detach();
            p.set(Tensor::scalar(0.0));
            let fan: usize = value.shape().iter().skip(1).product();
            let (rank, bound) = (value.rank(), (1.0 / (fan as f64).sqrt()) as f32);
            for (i, x) in value.make_mut().iter_mut().enumerate() {
                *x = match rank {
                    0 | 1 => f32::from(path.ends_with("weight")),
                    _ => (2.0 * fraction(seed, i) - 1.0) * bound,
                };
            }
            p.set(value);
            seed += 1;
        }
    });
}
