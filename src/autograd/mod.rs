//! The tape: what recording means, how gradients flow back, and how to check them.

pub(crate) mod any;
mod backward;
mod check;
mod gradients;
mod op;
mod tape;

pub(crate) use any::AnyTensor;
pub use any::InAny;
pub use check::{GradCheck, gradcheck};
pub(crate) use gradients::sum_of_squares;
pub use gradients::{Gradients, ParamId};
pub use op::{Op, Saved, SavedTensor, apply};
pub(crate) use op::{OpMany, Recorded, apply_many, apply_total};
pub use tape::Tape;
pub(crate) use tape::{Node, TapeCore};
