//! Convolutions over one, two and three axes, forward and transposed.
//!
//! ```text
//! y[n, o, oy, ox] = b[o] + Σ w[o, c, ky, kx] · x[n, c, oy·s + ky·d - top, ox·s + kx·d - left]      (c, ky, kx)
//! dx, dw, db: the kernels of `kernel::conv`. A transposed convolution is the gradient of a convolution's input, and vice versa.
//! ```
//!
//! A length is an image one pixel high. Along a depth, the taps are laid beside the channels (`taps.rs`), and what remains is a
//! convolution of images:
//!
//! ```text
//! x[n, c, z, ..]  →  x'[n·oz, c·kz, ..] = x[n, c, oz·s + kz·d - front, ..];     the weight [o, c, kz, ky, kx] is [o, c·kz, ky, kx] as it lies
//! ```
//!
//! | file | subject |
//! | --- | --- |
//! | `params.rs` | strides, paddings, dilations, groups |
//! | `plan.rs` | shapes that fit each other, and the errors where they do not |
//! | `methods.rs` | the methods of a tensor |
//! | `forward.rs`, `transposed.rs`, `weight.rs` | the operations on images and their gradients |
//! | `taps.rs` | taps along one axis, laid out and added back |
//! | `unfold.rs` | windows as columns |

mod forward;
mod methods;
mod params;
mod plan;
mod taps;
mod transposed;
mod unfold;
mod weight;

pub(crate) use methods::{conv, conv_transpose};
pub use params::{
    Conv1dParams, Conv2dParams, Conv3dParams, ConvParams, ConvTranspose1dParams,
    ConvTranspose2dParams, ConvTranspose3dParams, ConvTransposeParams,
};
pub use unfold::Unfold;

#[cfg(test)]
mod tests;
