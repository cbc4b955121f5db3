//! Files of tensors and models: the safetensors format, and models saved and loaded by the paths of their parameters.

mod atomic;
mod checkpoint;
mod optimizer;
pub mod safetensors;

pub use checkpoint::Checkpoint;
pub use optimizer::OptimizerCheckpoint;
