//! Two-dimensional convolution (cross-correlation, as in all of deep learning): forward, and its three gradients.
//!
//! ```text
//! y[n, o, oy, ox]  =  bias[o] + sum over (c, ky, kx) of  w[o, c, ky, kx] * x[n, c, oy*sh + ky*dh - top, ox*sw + kx*dw - left]
//! ```
//!
//! | file | subject |
//! | --- | --- |
//! | `mod.rs` | the shape of a convolution, the safe functions and what they check |
//! | `planes.rs` | an image laid out so that every tap of the window is a constant offset |
//! | `halves.rs`, `pairs.rs` | even and odd elements of rows |
//! | `shifted.rs` | a convolution as a matrix product over such planes, without im2col |
//! | `panels.rs` | the same, pixels copied together first where rows of them would leave registers half empty |
//! | `few.rs` | few pixels: dot products of the weight where it lies |
//! | `pointwise.rs` | windows of one pixel: products of the image where it lies |
//! | `winograd/` | windows of 3 by 3 in fewer multiplications |
//! | `forward.rs`, `input_grad.rs` | both are that product: the second with the weight turned around |
//! | `weight_grad.rs` | products over positions, summed over groups of images in a fixed order |
//! | `routines.rs` | the small loops that need registers of their own |
//! | `taps.rs` | the taps along one axis, for convolutions over three |
//! | `scratch.rs` | buffers that each thread keeps |
//! | `reference.rs` | the plain loops that all of it is tested against |
//!
//! How work is split depends on the shape only, and each sum has one order: the bits do not depend on the number of threads.
#![allow(unsafe_code)]
// An operand is a pointer, a stride and a length; loops over rows of registers run in step with pointers.
#![allow(clippy::too_many_arguments, clippy::needless_range_loop)]

mod few;
mod forward;
mod halves;
mod input_grad;
mod pairs;
mod panels;
mod planes;
mod pointwise;
#[cfg(test)]
pub(crate) mod reference;
pub(crate) mod routines;
mod scratch;
mod shifted;
pub(crate) mod taps;
#[cfg(test)]
mod tests;
mod weight_grad;
mod winograd;

pub(crate) use forward::forward;
pub(crate) use input_grad::input_grad;
pub(crate) use weight_grad::weight_grad;

/// The shape of a convolution. Whoever makes one has checked that no size overflows, that stride, dilation, kernel and groups are at
/// least 1, and that the window fits the padded input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conv {
    /// Images.
    pub batch: usize,
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Input channels of a group.
    pub c_in: usize,
    /// Output channels of a group.
    pub c_out: usize,
    /// Height and width of an image.
    pub input: [usize; 2],
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Step of the window between output pixels.
    pub stride: [usize; 2],
    /// Distance between the window's taps.
    pub dilation: [usize; 2],
    /// Zeros around the image: before and after, per axis.
    pub pad: [[usize; 2]; 2],
}

impl Conv {
    /// Height and width of the output.
    pub(crate) fn output(&self) -> [usize; 2] {
        std::array::from_fn(|i| {
            let padded = self.input[i] + self.pad[i][0] + self.pad[i][1];
            (padded - self.dilation[i] * (self.kernel[i] - 1) - 1) / self.stride[i] + 1
        })
    }

    /// Elements of the input.
    pub(crate) fn x_len(&self) -> usize {
        self.batch * self.groups * self.c_in * self.input[0] * self.input[1]
    }

    /// Elements of the output.
    pub(crate) fn y_len(&self) -> usize {
        let [h, w] = self.output();
        self.batch * self.groups * self.c_out * h * w
    }

    /// Elements of the weight.
    pub(crate) fn w_len(&self) -> usize {
        self.groups * self.c_out * self.c_in * self.taps()
    }

    /// Elements of the window.
    pub(crate) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Elements of one output plane.
    fn y_plane(&self) -> usize {
        let [h, w] = self.output();
        h * w
    }

    /// Elements of one input plane.
    fn x_plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    /// Floating-point operations of the whole.
    pub(crate) fn flop(&self) -> f64 {
        (self.batch * self.groups) as f64 * self.unit_flop()
    }

    /// Floating-point operations of one image and group.
    fn unit_flop(&self) -> f64 {
        2.0 * (self.c_out * self.c_in * self.taps()) as f64 * self.y_plane() as f64
    }
}
