//! Differentiable operations, a family a file: formula, rule, method and tests side by side.

mod accumulate;
pub(crate) mod broadcast;
pub(crate) mod float_only;
mod index;
mod matmul;
mod shape;

pub use shape::{Index, IntoIndices, Slice};
pub(crate) mod linear;
