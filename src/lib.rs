//! Deep learning in Rust: strided tensors, reverse-mode automatic differentiation on an explicit tape, layers, optimizers, and
//! vectorised, threaded kernels for the CPU. No C++ toolchain, no Python, nothing downloaded at build time.
//!
//! ```
//! use gradus::prelude::*;
//!
//! // y = 3 x + 2, to be learnt from 64 points.
//! let mut rng = gradus::rng(0);
//! let x: Tensor = Tensor::uniform([64, 1], -1.0, 1.0, &mut rng)?;
//! let y = &x * 3.0 + 2.0;
//!
//! let mut model: Dense = Dense::new(1, 1).build(&mut rng)?;
//! let mut sgd = Sgd::new(0.1);
//! for step in 0..400 {
//!     let tape = Tape::new(step);                 // the recording of this step
//!     let net = tape.watch(&model);               // the model, recorded: no data is copied
//!     let loss = net.forward(&x)?.mse(&y)?;
//!     sgd.step(&mut model, &loss.backward()?)?;   // a gradient is a value
//! }
//! assert!((model.weight.item()? - 3.0).abs() < 1e-3);
//! # Ok::<(), Error>(())
//! ```
//!
//! # Five ideas
//!
//! 1. **One tensor type**, [`Tensor`]: shared elements, a shape, strides and an offset. Views copy nothing; an edit copies first if
//!    the elements are shared, so no alias ever sees another's edit. Every operation takes every layout.
//! 2. **The tape is explicit, and the model is plain data.** [`Tape::watch`] returns a copy of a model (reference counts, no data) whose
//!    parameters are recorded. What is computed from the model itself never is. Freezing a part means not watching it.
//! 3. **The watched copy trains, the model itself evaluates.** Dropout learns from `watch` that it trains, and draws from the seed of
//!    the tape.
//! 4. **A gradient is a value**, [`Gradients`]: add it up, scale it, clip it, look at it, then hand it to an optimizer.
//! 5. **Same seed, same bits**, whatever the number of threads.
//!
//! # Where things are
//!
//! | | |
//! | --- | --- |
//! | [`prelude`] | what most programs need |
//! | [`Tensor`] | creation, views, reading, and all operations, as methods |
//! | [`autograd`] | the tape, gradients, [`gradcheck`](autograd::gradcheck), operations of one's own ([`Op`](autograd::Op)) |
//! | [`nn`] | [`Module`] and its parameters, layers, losses, initialisers |
//! | [`optim`] | optimizers and penalties |
//! | [`io`] | [saving and loading](io::Checkpoint) models in the safetensors format |
//! | [`data`] | datasets and batches; MNIST and its file formats; digits drawn by the program |
//! | [`memory`] | what tensors occupy |
//! | [`profile`] | where the time goes: operations, layers, the memory of a step |
//! | [`element`], [`error`] | the types of elements; the one [`Error`] |
//!
//! Operations on shapes that may not fit return a [`Result`]. The operators `+ - * /` panic instead, with the words that the checked
//! methods ([`try_add`](Tensor::try_add) and so on) return as an error.
//!
//! # Features and environment
//!
//! - Feature `download` (off by default): [`data::mnist`] can fetch its files over HTTPS.
//! - `GRADUS_NUM_THREADS`: how many threads compute, unless [`set_num_threads`] says so; all processors by default.
//! - `GRADUS_ISA`: `scalar`, `neon`, `avx2` or `avx512` forces a lower instruction set than the processor has, for tests. By default the best
//!   is found at run time, so no compiler flags are needed.
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
pub mod profile;
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
    pub use crate::io::{Checkpoint, OptimizerCheckpoint};
    pub use crate::nn::{
        AdaptiveAvgPool1d, AdaptiveMaxPool2d, AvgPool1d, AvgPool3d, Conv1d, Conv3d,
        ConvTranspose1d, ConvTranspose2d, ConvTranspose3d, GlobalAvgPool, GlobalMaxPool, MaxPool1d,
        MaxPool3d, PadMode, Unfold,
    };
    pub use crate::nn::{
        AdaptiveAvgPool2d, Attend, Attention, AvgPool2d, BatchNorm1d, BatchNorm2d, Buffer, Conv2d,
        CrossEntropy, Dense, Dropout, ELU, Embedding, Flatten, GELU, GELUTanh, GroupNorm, Init,
        KvCache, Layer, LayerNorm, LeakyReLU, LogSoftmax, MaxPool2d, Mode, Module, Mse,
        MultiHeadAttention, Padding, Param, Pool2d, RMSNorm, ReLU, Reduction, Sequential, Sigmoid,
        Softmax, Tanh, TransformerDecoder, TransformerEncoder,
    };
    pub use crate::nn::{
        Bce, BceWithLogits, BinaryHinge, CosineEmbedding, CtcLoss, DiceLoss, FocalLoss,
        GaussianNll, HingeEmbedding, Huber, KlDiv, Mae, MarginRanking, MultiMargin, NllLoss,
        PoissonNll, SmoothL1, SoftMargin, TripletMargin,
    };
    pub use crate::nn::{GRU, GRUCell, LSTM, LSTMCell, RNN, RNNCell};
    pub use crate::optim::{
        AdaGrad, Adam, AdamW, ElasticNet, L1, L2, Penalty, RmsProp, Schedule, Sgd,
    };
    pub use crate::tensor::Tensor;
    pub use gradus_derive::Module;
    pub use rand::Rng;
}

#[doc(hidden)]
pub use kernel::bench_api;

/// The programs of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
