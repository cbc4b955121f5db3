//! Differentiable operations, a family a file: formula, rule, method and tests side by side.

mod accumulate;
pub(crate) mod float_only;
