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

/// The parallel loop.
pub fn for_each(parts: usize, ns_per_part: f64, f: impl Fn(usize) + Sync) {
    super::par::for_each(parts, ns_per_part, f);
}

/// The instruction set in use.
pub fn isa() -> String {
    format!("{:?}", super::simd::isa())
}
