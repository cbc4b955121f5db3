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
pub use crate::ops::{Conv2dParams, ConvTranspose2dParams, Padding, Pair, Pool2d};
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
pub use conv::{Conv2d, Conv2dBuilder};
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
pub(crate) use param::with_param;
pub use param::{Buffer, Mode, Param, ParamMut, ParamRef};
pub use pool::{AdaptiveAvgPool2d, AvgPool2d, MaxPool2d};
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
