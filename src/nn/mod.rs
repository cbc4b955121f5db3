//! Layers: plain structs of parameters, walked by one visitor.

mod module;
mod param;
mod watch;

pub use module::{AnyBuffer, Item, ItemMut, Layer, Module, Visitor, VisitorMut};
pub(crate) use param::with_param;
pub use param::{Buffer, Mode, Param, ParamMut, ParamRef};
