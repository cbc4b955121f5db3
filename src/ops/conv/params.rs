//! How the windows of convolutions move.

use crate::ops::window::{Padding, Sizes};

/// How the window of a convolution over `D` axes moves. One number stands for all axes.
///
/// ```
/// use gradus::nn::{Conv2dParams, Padding};
/// let same = Conv2dParams::new().padding(Padding::Same);
/// let strided = Conv2dParams::new().stride(2).padding((1, 0)).groups(4);
/// # let _ = (same, strided);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConvParams<const D: usize> {
    /// Step between output pixels; 1 by default.
    pub stride: [usize; D],
    /// Zeros around the input; none by default.
    pub padding: Padding<D>,
    /// Distance between the taps of the window; 1 by default.
    pub dilation: [usize; D],
    /// Groups of channels that do not see each other; 1 by default. As many as input channels: a depthwise convolution.
    pub groups: usize,
}

/// How the window of a convolution over a length moves.
pub type Conv1dParams = ConvParams<1>;
/// How the window of a convolution over height and width moves.
pub type Conv2dParams = ConvParams<2>;
/// How the window of a convolution over depth, height and width moves.
pub type Conv3dParams = ConvParams<3>;

impl<const D: usize> Default for ConvParams<D> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const D: usize> ConvParams<D> {
    /// Stride 1, no padding, no dilation, one group.
    pub const fn new() -> Self {
        Self { stride: [1; D], padding: Padding::Valid, dilation: [1; D], groups: 1 }
    }
    /// Sets the stride.
    pub fn stride(mut self, stride: impl Into<Sizes<D>>) -> Self {
        self.stride = stride.into().0;
        self
    }
    /// Sets the padding.
    pub fn padding(mut self, padding: impl Into<Padding<D>>) -> Self {
        self.padding = padding.into();
        self
    }
    /// Sets the dilation.
    pub fn dilation(mut self, dilation: impl Into<Sizes<D>>) -> Self {
        self.dilation = dilation.into().0;
        self
    }
    /// Sets the number of groups.
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }
}

/// How the window of a transposed convolution over `D` axes moves. One number stands for all axes.
///
/// ```
/// use gradus::nn::ConvTranspose2dParams;
/// let double = ConvTranspose2dParams::new().stride(2).padding(1).output_padding(1);
/// assert_eq!(double.stride, [2, 2]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConvTransposeParams<const D: usize> {
    /// Distance between the places where neighbouring inputs' windows are added; 1 by default.
    pub stride: [usize; D],
    /// Rows and columns cut off the output on each side; 0 by default.
    pub padding: [usize; D],
    /// Rows and columns added to the output behind (below and to the right), less than the stride or the dilation; 0 by default.
    pub output_padding: [usize; D],
    /// Distance between the taps of the window; 1 by default.
    pub dilation: [usize; D],
    /// Groups of channels that do not see each other; 1 by default.
    pub groups: usize,
}

/// How the window of a transposed convolution over a length moves.
pub type ConvTranspose1dParams = ConvTransposeParams<1>;
/// How the window of a transposed convolution over height and width moves.
pub type ConvTranspose2dParams = ConvTransposeParams<2>;
/// How the window of a transposed convolution over depth, height and width moves.
pub type ConvTranspose3dParams = ConvTransposeParams<3>;

impl<const D: usize> Default for ConvTransposeParams<D> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const D: usize> ConvTransposeParams<D> {
    /// Stride 1, nothing cut off or added, no dilation, one group.
    pub const fn new() -> Self {
        Self {
            stride: [1; D],
            padding: [0; D],
            output_padding: [0; D],
            dilation: [1; D],
            groups: 1,
        }
    }
    /// Sets the stride.
    pub fn stride(mut self, stride: impl Into<Sizes<D>>) -> Self {
        self.stride = stride.into().0;
        self
    }
    /// Sets the padding.
    pub fn padding(mut self, padding: impl Into<Sizes<D>>) -> Self {
        self.padding = padding.into().0;
        self
    }
    /// Sets the output padding.
    pub fn output_padding(mut self, padding: impl Into<Sizes<D>>) -> Self {
        self.output_padding = padding.into().0;
        self
    }
    /// Sets the dilation.
    pub fn dilation(mut self, dilation: impl Into<Sizes<D>>) -> Self {
        self.dilation = dilation.into().0;
        self
    }
    /// Sets the number of groups.
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }
}
