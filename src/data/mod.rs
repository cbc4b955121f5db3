//! Data: from files, or drawn by the program, into batches of tensors.
//!
//! - [`Dataset`]: inputs and labels in memory, split, normalised, shuffled and taken in batches.
//! - [`idx`] and [`gzip`]: the file formats of MNIST, read safely.
//! - [`mnist`]: MNIST and Fashion-MNIST, from a folder, the network or the drawing program.
//! - [`digits`]: handwritten digits drawn by the program, for when there is no file.

mod batches;
mod dataset;
pub mod digits;
#[cfg(feature = "download")]
mod download;
pub mod gzip;
pub mod idx;
mod inputs;
pub mod mnist;
#[cfg(test)]
mod temp;

pub use batches::Batches;
pub use dataset::{Batch, Dataset};
