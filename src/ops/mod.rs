//! Differentiable operations, a family a file: formula, rule, method and tests side by side.

mod accumulate;
mod arith;
mod axes;
mod binary;
pub(crate) mod broadcast;
mod compare;
mod conv;
mod cross_entropy;
mod dropout;
pub(crate) mod elementwise;
mod extreme;
pub(crate) mod float_only;
mod index;
pub(crate) mod linear;
mod matmul;
mod mse;
mod nll;
mod operators;
mod pool;
mod product;
mod relu;
mod rule;
mod shape;
mod softmax;
mod spread;
mod sum;
mod unary;
mod window;

pub use conv::{Conv2dParams, ConvTranspose2dParams};
pub use cross_entropy::{CrossEntropy, Reduction, Targets};
pub use mse::Mse;
pub use nll::NllLoss;
pub use pool::Pool2d;
pub use shape::{Index, IntoIndices, Slice};
pub use window::{Padding, Pair};
