//! Windows of an image as columns, and columns added back to an image.
//!
//! ```text
//! unfold: y[n, (c, ky, kx), (oy, ox)] = x[n, c, oy·s + ky·d - p, ox·s + kx·d - p]        fold is its transpose
//! ```

use super::taps::Taps;
use crate::autograd::apply;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::conv::taps::Line;
use crate::ops::window::{Pair, batched, check_most, check_sizes, extent};
use crate::tensor::{Tensor, numel};

/// The windows that [`Tensor::unfold`] lays out as columns and [`Tensor::fold`] adds up. A number or a pair alone is a window of that
/// size that moves by 1.
///
/// ```
/// use gradus::nn::Unfold;
/// let patches = Unfold::new(16).stride(16);
/// assert_eq!(patches.kernel, [16, 16]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unfold {
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Step between windows; 1 by default.
    pub stride: [usize; 2],
    /// Zeros on each side; 0 by default.
    pub padding: [usize; 2],
    /// Distance between the taps of a window; 1 by default.
    pub dilation: [usize; 2],
}

impl Unfold {
    /// A window of this size that moves by 1.
    pub fn new(kernel: impl Into<Pair>) -> Self {
        Unfold { kernel: kernel.into().0, stride: [1; 2], padding: [0; 2], dilation: [1; 2] }
    }
    /// Sets the step between windows.
    pub fn stride(mut self, stride: impl Into<Pair>) -> Self {
        self.stride = stride.into().0;
        self
    }
    /// Sets the padding.
    pub fn padding(mut self, padding: impl Into<Pair>) -> Self {
        self.padding = padding.into().0;
        self
    }
    /// Sets the distance between the taps of a window.
    pub fn dilation(mut self, dilation: impl Into<Pair>) -> Self {
        self.dilation = dilation.into().0;
        self
    }

    /// The number of windows along each axis of an image of this size.
    fn windows(&self, op: &'static str, size: [usize; 2]) -> Result<[usize; 2]> {
        check_sizes(
            op,
            &[("kernel", &self.kernel), ("stride", &self.stride), ("dilation", &self.dilation)],
        )?;
        check_most(op, "padding", &self.padding)?;
        check_most(op, "image size", &size)?;
        let mut out = [0; 2];
        for i in 0..2 {
            let (extent, padded) =
                (extent(self.kernel[i], self.dilation[i]), size[i] + 2 * self.padding[i]);
            if extent > padded {
                return Err(Error::shape(
                    op,
                    format!(
                        "the window {:?} (dilation {:?}) is larger than the image {size:?} with padding {:?}; use a smaller one",
                        self.kernel, self.dilation, self.padding
                    ),
                ));
            }
            out[i] = (padded - extent) / self.stride[i] + 1;
        }
        Ok(out)
    }

    /// The taps along height and width, for so many planes.
    fn taps(
        &self,
        name: &'static str,
        planes: usize,
        size: [usize; 2],
        out: [usize; 2],
    ) -> [Taps; 2] {
        [0, 1].map(|i| Taps {
            name,
            line: Line {
                images: if i == 0 { planes } else { planes * out[0] * self.kernel[0] },
                channels: 1,
                size: size[i],
                windows: out[i],
                kernel: self.kernel[i],
                stride: self.stride[i],
                dilation: self.dilation[i],
                pad: self.padding[i],
                plane: if i == 0 { size[1] } else { 1 },
            },
        })
    }
}

impl<P: Into<Pair>> From<P> for Unfold {
    fn from(kernel: P) -> Self {
        Unfold::new(kernel)
    }
}

impl<T: Float> Tensor<T> {
    /// The windows of an image as columns (im2col): \[batch, channels, height, width\] to \[batch, channels · kernel height · kernel width,
    /// windows\], the windows in row-major order; the same without a batch.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::Unfold;
    /// let x: Tensor = Tensor::arange(0.0, 16.0, 1.0)?.reshape([1, 4, 4])?;
    /// let patches = x.unfold(Unfold::new(2).stride(2))?;
    /// assert_eq!(patches.shape(), [4, 4]);
    /// assert_eq!(patches.select(1, 0)?.to_vec(), [0.0, 1.0, 4.0, 5.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] for another rank or a window larger than the padded image, [`Error::Argument`] for zeros, [`Error::Overflow`].
    pub fn unfold(&self, windows: impl Into<Unfold>) -> Result<Tensor<T>> {
        let (op, u) = ("unfold", windows.into());
        let c = batched(op, self.shape(), 2)? as usize;
        let (channels, size) = (self.shape()[c], [self.shape()[c + 1], self.shape()[c + 2]]);
        let batch = if c == 1 { self.shape()[0] } else { 1 };
        let [oh, ow] = u.windows(op, size)?;
        let [kh, kw] = u.kernel;
        numel(op, &[batch, channels, oh, kh, ow.max(size[1]), kw])?;
        let [rows, cols] = u.taps(op, batch * channels, size, [oh, ow]);
        let y = apply(cols.lay(), [&apply(rows.lay(), [self])?])?;
        let y = y.reshape([batch, channels, oh, kh, ow, kw])?.permute([0, 1, 3, 5, 2, 4])?;
        let y = y.reshape([batch, channels * kh * kw, oh * ow])?;
        if c == 1 { Ok(y) } else { y.squeeze(0) }
    }

    /// Columns added up to an image of height and width `size` (col2im), the transpose of [`unfold`](Self::unfold): \[batch, channels · kernel
    /// height · kernel width, windows\] to \[batch, channels, height, width\]; the same without a batch.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::Unfold;
    /// let x: Tensor = Tensor::ones([1, 1, 3, 3])?;
    /// let counts = x.unfold(Unfold::new(2))?.fold(3, Unfold::new(2))?;   // in how many windows each pixel lies
    /// assert_eq!(counts.to_vec(), [1.0, 2.0, 1.0, 2.0, 4.0, 2.0, 1.0, 2.0, 1.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`unfold`](Self::unfold), and [`Error::Shape`] if the columns are not those of such an image.
    pub fn fold(&self, size: impl Into<Pair>, windows: impl Into<Unfold>) -> Result<Tensor<T>> {
        let (op, u, size) = ("fold", windows.into(), size.into().0);
        let c = match self.rank() {
            3 => 1,
            2 => 0,
            _ => {
                return Err(Error::shape(
                    op,
                    format!(
                        "the input has shape {:?}, but must be [batch, channels · kernel, windows] or [channels · kernel, windows]",
                        self.shape()
                    ),
                ));
            }
        };
        let [oh, ow] = u.windows(op, size)?;
        let [kh, kw] = u.kernel;
        let (rows, n) = (self.shape()[c], self.shape()[c + 1]);
        let taps = numel(op, &u.kernel)?;
        if !rows.is_multiple_of(taps) || oh.checked_mul(ow) != Some(n) {
            return Err(Error::shape(
                op,
                format!(
                    "the input has shape {:?}, but an image of {size:?} has {oh} × {ow} windows of {kh} × {kw}: expected a multiple of {taps} rows and {} columns",
                    self.shape(),
                    oh.saturating_mul(ow)
                ),
            ));
        }
        let batch = if c == 1 { self.shape()[0] } else { 1 };
        let channels = rows / taps;
        numel(op, &[batch, channels, oh, kh, ow.max(size[1]), kw])?;
        numel(op, &[batch, channels, size[0], size[1]])?;
        let [rows, cols] = u.taps(op, batch * channels, size, [oh, ow]);
        let x = self.reshape([batch, channels, kh, kw, oh, ow])?.permute([0, 1, 4, 2, 5, 3])?;
        let y = apply(rows.add(), [&apply(cols.add(), [&x])?])?;
        match c {
            1 => y.reshape([batch, channels, size[0], size[1]]),
            _ => y.reshape([channels, size[0], size[1]]),
        }
    }
}
