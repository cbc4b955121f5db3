//! Differentiable operations, a family a file: formula, rule, method and tests side by side.

mod accumulate;
mod arith;
mod axes;
pub(crate) mod broadcast;
mod cross_entropy;
pub(crate) mod elementwise;
pub(crate) mod float_only;
mod index;
pub(crate) mod linear;
mod matmul;
mod operators;
mod rule;
mod shape;
mod sum;
mod unary;

pub use cross_entropy::{CrossEntropy, Reduction, Targets};
pub use shape::{Index, IntoIndices, Slice};
