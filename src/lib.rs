//! Deep learning for Rust.
#![deny(unsafe_code)]

pub mod element;
pub mod error;
pub mod kernel;

pub use element::{DType, Element, Num};
pub use error::{Error, Result};
