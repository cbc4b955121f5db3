//! Differentiable operations, a family a file: formula, rule, method and tests side by side.

mod accumulate;
mod axes;
pub(crate) mod broadcast;
mod cross_entropy;
pub(crate) mod float_only;
mod index;
pub(crate) mod linear;
mod matmul;
mod shape;
mod sum;

pub use cross_entropy::{CrossEntropy, Reduction, Targets};
pub use shape::{Index, IntoIndices, Slice};
