//! The tape: what recording means, how gradients flow back, and how to check them.

pub(crate) mod any;
mod backward;
mod check;
mod functional;
mod grad;
mod gradients;
mod op;
mod tape;

pub(crate) use any::AnyTensor;
pub use any::InAny;
pub use check::{GradCheck, gradcheck, gradgradcheck};
pub use functional::{hessian, hvp, jacobian, value_and_grad};
pub use grad::{grad, grad_with};
pub(crate) use gradients::sum_of_squares;
pub use gradients::{Gradients, ParamId};
pub use op::{Op, Saved, SavedTensor, apply};
pub(crate) use op::{OpMany, Place, Recorded, apply_array, apply_many, apply_total};
pub use tape::Tape;
pub(crate) use tape::{Node, TapeCore};
