//! Differentiable operations, a family a file: formula, rule, method and tests side by side.

mod accumulate;
mod arith;
pub(crate) mod attention;
mod axes;
mod binary;
pub(crate) mod broadcast;
mod compare;
pub(crate) mod conv;
mod cross_entropy;
mod dropout;
mod einsum;
pub(crate) mod elementwise;
pub(crate) mod embedding;
mod extreme;
pub(crate) mod float_only;
mod gated;
mod index;
mod interpolate;
pub(crate) mod linear;
mod loss;
mod matmul;
mod mse;
mod nll;
pub(crate) mod norm;
mod operators;
pub(crate) mod pool;
pub(crate) mod prelu;
mod product;
pub(crate) mod recurrent;
mod relu;
mod rotary;
mod rule;
mod scatter;
mod shape;
mod shrink;
mod softmax;
mod sort;
mod spread;
mod sum;
mod trigonometry;
mod unary;
pub(crate) mod window;

pub use attention::{Attention, AttentionMask};
pub use conv::{
    Conv1dParams, Conv2dParams, Conv3dParams, ConvParams, ConvTranspose1dParams,
    ConvTranspose2dParams, ConvTranspose3dParams, ConvTransposeParams, Unfold,
};
pub use cross_entropy::{CrossEntropy, Reduction, Targets};
pub use interpolate::{Interpolate, Interpolation};
pub use loss::{
    Bce, BceWithLogits, BinaryHinge, CosineEmbedding, CtcLoss, DiceLoss, FocalLoss, GaussianNll,
    HingeEmbedding, Huber, KlDiv, Mae, MarginRanking, MultiMargin, PoissonNll, SmoothL1,
    SoftMargin, TripletMargin,
};
pub use mse::Mse;
pub use nll::NllLoss;
pub use norm::BatchStats;
pub use pool::{Pool, Pool1d, Pool2d, Pool3d};
pub use rotary::Rotary;
pub use shape::{Index, IntoIndices, PadMode, Slice};
pub use window::{Padding, Pair, Sizes};
