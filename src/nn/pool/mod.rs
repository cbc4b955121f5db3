//! Poolings as layers.

mod adaptive;
mod window;

pub use adaptive::{
    AdaptiveAvgPool, AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d, AdaptiveMaxPool,
    AdaptiveMaxPool1d, AdaptiveMaxPool2d, AdaptiveMaxPool3d, GlobalAvgPool, GlobalMaxPool,
};
pub use window::{
    AvgPool, AvgPool1d, AvgPool2d, AvgPool3d, LPPool, LPPool1d, LPPool2d, LPPool3d, MaxPool,
    MaxPool1d, MaxPool2d, MaxPool3d,
};
