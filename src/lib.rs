//! Deep learning for Rust.
#![deny(unsafe_code)]

// The code that #[derive(Module)] writes says ::gradus, inside this crate as well.
extern crate self as gradus;

pub mod autograd;
pub mod data;
pub mod element;
pub mod error;
mod float;
pub mod io;
mod kernel;
pub mod nn;
mod ops;
pub mod optim;
mod tensor;

pub use autograd::{Gradients, ParamId, Tape};
pub use element::{DType, Element, Num};
pub use error::{Error, Result};
pub use float::Float;
pub use gradus_derive::Module;
pub use kernel::par::{num_threads, set_num_threads};
pub use nn::{Buffer, Layer, Mode, Module, Param};
pub use ops::{Index, IntoIndices, Slice};
pub use tensor::{Dims, IntoAxes, IntoReshape, IntoShape, Iter, Tensor};

/// The memory of tensors: how much there is, and giving it back.
pub mod memory {
    pub use crate::tensor::{MemoryStats, clear_cache, stats};
}

/// The generator of random numbers that gradus' own programs use: seeded, fast, and the same on every platform.
///
/// Any other generator of the crate rand does as well.
pub fn rng(seed: u64) -> rand::rngs::Xoshiro256PlusPlus {
    rand::SeedableRng::seed_from_u64(seed)
}

/// What most programs need: `use gradus::prelude::*;`.
pub mod prelude {
    pub use crate::autograd::{Gradients, Tape};
    pub use crate::data::{Batch, Dataset};
    pub use crate::element::{DType, Element, Num};
    pub use crate::error::{Error, Result};
    pub use crate::float::Float;
    pub use crate::io::Checkpoint;
    pub use crate::nn::{
        AdaptiveAvgPool2d, AvgPool2d, Buffer, Conv2d, CrossEntropy, Dense, Dropout, ELU, Flatten,
        GELU, GELUTanh, Init, Layer, LeakyReLU, LogSoftmax, MaxPool2d, Mode, Module, Mse, Padding,
        Param, Pool2d, ReLU, Reduction, Sequential, Sigmoid, Softmax, Tanh,
    };
    pub use crate::optim::{Adam, AdamW, ElasticNet, L1, L2, Penalty, Sgd};
    pub use crate::tensor::Tensor;
    pub use gradus_derive::Module;
    pub use rand::Rng;
}

#[doc(hidden)]
pub use kernel::bench_api;
