//! Kernels by name for the benches, which see only what is public. Not part of the crate's interface.
#![allow(missing_docs)]

use super::gemm::{Epilogue, GemmElement, MatRef, gemm};
pub use super::par::{num_threads, set_num_threads};

/// `C (m x n) = A (m x k) · B (k x n)`, each operand row-major or (`at`, `bt`) the transpose of a row-major matrix.
#[allow(clippy::too_many_arguments)]
pub fn matmul<T: GemmElement>(
    m: usize,
    k: usize,
    n: usize,
    a: &[T],
    at: bool,
    b: &[T],
    bt: bool,
    c: &mut [T],
) {
    let a = if at { MatRef::cols(a, m) } else { MatRef::rows(a, k) };
    let b = if bt { MatRef::cols(b, k) } else { MatRef::rows(b, n) };
    gemm(m, k, n, a, b, c, n, false, Epilogue::NONE);
}

/// Multiply-adds in registers alone, so many in each chain, and how many operations those were: what a product is measured against.
pub fn multiply_adds(rounds: usize) -> u64 {
    super::gemm::peak::multiply_adds(rounds)
}

/// The parallel loop.
pub fn for_each(parts: usize, ns_per_part: f64, f: impl Fn(usize) + Sync) {
    super::par::for_each(parts, ns_per_part, f);
}

/// The instruction set in use.
pub fn isa() -> String {
    format!("{:?}", super::simd::isa())
}

/// Images, input channels, size of an image, output channels, size of the window, zeros around the image: a convolution of squares.
pub type ConvShape = [usize; 6];

/// A convolution's output, or the gradient of its input or of its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvPass {
    Forward,
    Input,
    Weight,
}

/// One pass of a convolution on operands of its own, ready to be repeated, and its number of floating-point operations.
pub fn conv(shape: ConvShape, pass: ConvPass) -> (impl FnMut(), u64) {
    use super::conv::{Conv, forward, input_grad, weight_grad};
    let [batch, c_in, size, c_out, kernel, pad] = shape;
    let c = Conv {
        batch,
        groups: 1,
        c_in,
        c_out,
        input: [size; 2],
        kernel: [kernel; 2],
        stride: [1; 2],
        dilation: [1; 2],
        pad: [[pad; 2]; 2],
    };
    let numbers = |n: usize| (0..n).map(|i| (i % 13) as f32 - 6.0).collect::<Vec<_>>();
    let (mut x, mut w, mut y) = (numbers(c.x_len()), numbers(c.w_len()), numbers(c.y_len()));
    let mut b = numbers(c_out);
    let flop = 2 * (c.y_len() * c_in * c.taps()) as u64;
    let run = move || match pass {
        ConvPass::Forward => forward(&c, &x, &w, Some(&b), false, &mut y),
        ConvPass::Input => input_grad(&c, &y, &w, &mut x),
        ConvPass::Weight => weight_grad(&c, &x, &y, Some(&mut w), Some(&mut b)),
    };
    (run, flop)
}
