//! Layers: plain structs of parameters, walked by one visitor.

mod activation;
mod attention;
mod conv;
mod dense;
mod dropout;
mod dropout_more;
mod embedding;
mod embedding_bag;
mod flatten;
mod init;
mod module;
mod norm;
mod pad;
mod param;
mod pool;
mod prelu;
mod recompute;
mod recurrent;
mod residual;
mod sequential;
mod summary;
mod thresholds;
mod transformer;
mod upsample;
mod watch;
mod weight_norm;

pub use crate::ops::BatchStats;
pub use crate::ops::{Attention, AttentionMask, Rotary};
pub use crate::ops::{
    Bce, BceWithLogits, BinaryHinge, CosineEmbedding, CrossEntropy, CtcLoss, DiceLoss, FocalLoss,
    GaussianNll, HingeEmbedding, Huber, KlDiv, Mae, MarginRanking, Mse, MultiMargin, NllLoss,
    PoissonNll, Reduction, SmoothL1, SoftMargin, Targets, TripletMargin,
};
pub use crate::ops::{
    Conv1dParams, Conv2dParams, Conv3dParams, ConvParams, ConvTranspose1dParams,
    ConvTranspose2dParams, ConvTranspose3dParams, ConvTransposeParams, PadMode, Padding, Pair,
    Pool, Pool1d, Pool2d, Pool3d, Sizes, Unfold,
};
pub use crate::ops::{Interpolate, Interpolation};
pub use activation::{
    CELU, ELU, GEGLU, GELU, GELUTanh, GLU, Hardshrink, Hardsigmoid, Hardswish, LeakyReLU,
    LogSigmoid, LogSoftmax, Mish, ReLU, ReLU6, SELU, SiLU, Sigmoid, Softmax, Softmin, Softshrink,
    Softsign, SwiGLU, Tanh, Tanhshrink,
};
pub use attention::{
    Alibi, Attend, Blocked, KvCache, LearnedPositions, LearnedPositionsBuilder, MemoryCache,
    MultiHeadAttention, MultiHeadAttentionBuilder, SinusoidalPositions,
};
pub use conv::{
    Conv, Conv1d, Conv1dBuilder, Conv2d, Conv2dBuilder, Conv3d, Conv3dBuilder, ConvBuilder,
    ConvTranspose, ConvTranspose1d, ConvTranspose1dBuilder, ConvTranspose2d,
    ConvTranspose2dBuilder, ConvTranspose3d, ConvTranspose3dBuilder, ConvTransposeBuilder, Fold,
};
pub use dense::{Dense, DenseBuilder};
pub use dropout::Dropout;
pub use dropout_more::{
    AlphaDropout, ChannelDropout, DropConnect, DropPath, Dropout1d, Dropout2d, Dropout3d,
    FeatureAlphaDropout, VariationalDropout,
};
pub use embedding::{Embedding, EmbeddingBuilder};
pub use embedding_bag::{BagMode, EmbeddingBag};
pub use flatten::Flatten;
pub use init::{Fan, Fans, Init, Nonlinearity};
pub use module::{AnyBuffer, Item, ItemMut, Layer, Module, Visitor, VisitorMut};
pub use norm::{
    BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d, BatchNormBuilder, GroupNorm,
    GroupNormBuilder, InstanceNorm, InstanceNorm1d, InstanceNorm2d, InstanceNorm3d,
    InstanceNormBuilder, LayerNorm, LayerNormBuilder, RMSNorm, RMSNormBuilder,
};
pub use pad::{
    CircularPad, CircularPad1d, CircularPad2d, CircularPad3d, ConstantPad, ConstantPad1d,
    ConstantPad2d, ConstantPad3d, Pads, ReflectionPad, ReflectionPad1d, ReflectionPad2d,
    ReflectionPad3d, ReplicationPad, ReplicationPad1d, ReplicationPad2d, ReplicationPad3d, ZeroPad,
    ZeroPad1d, ZeroPad2d, ZeroPad3d,
};
pub(crate) use param::with_param;
pub use param::{Buffer, Mode, Param, ParamMut, ParamRef};
pub use pool::{
    AdaptiveAvgPool, AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d, AdaptiveMaxPool,
    AdaptiveMaxPool1d, AdaptiveMaxPool2d, AdaptiveMaxPool3d, AvgPool, AvgPool1d, AvgPool2d,
    AvgPool3d, GlobalAvgPool, GlobalMaxPool, LPPool, LPPool1d, LPPool2d, LPPool3d, MaxPool,
    MaxPool1d, MaxPool2d, MaxPool3d,
};
pub use prelu::PReLU;
pub use recompute::recompute;
pub use recurrent::{CellBuilder, GRU, GRUCell, LSTM, LSTMCell, RNN, RNNCell};
pub use recurrent::{RecurrentBuilder, RecurrentWeights};
pub use residual::Residual;
pub use sequential::{BoxedLayer, Sequential};
pub use thresholds::{Hardtanh, Identity, Softmax2d, Softplus, Threshold};
pub use transformer::{
    Activation, DecoderCache, Transformer, TransformerBuilder, TransformerDecoder,
    TransformerDecoderLayer, TransformerEncoder, TransformerEncoderLayer,
};
pub use upsample::{PixelShuffle, PixelUnshuffle, Upsample};
pub use weight_norm::{SpectralNorm, WeightNorm, Weighted};

/// More layers than anybody stacks. A larger number is a slip, and building them all would end the process.
const MOST_LAYERS: usize = 1 << 16;

/// Refuses a number of layers that must be a slip.
fn check_layers(name: &'static str, layers: usize) -> crate::Result<()> {
    if layers > MOST_LAYERS {
        let message = format!("{layers} layers are too many; at most {MOST_LAYERS} can be stacked");
        return Err(crate::Error::argument(name, message));
    }
    Ok(())
}
