//! Windows of poolings, and the passes over two axes at a time that they come to.

use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::kernel::pool::{Stretch, Windows};
use crate::ops::window::{Sizes, batched, check_most, check_sizes, extent};
use crate::tensor::Dims;

/// Windows of a pooling over `D` axes: their size, and how they move. A number alone, or one for each axis, is a window of that size that
/// moves by its size.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::Pool2d;
/// let x: Tensor = Tensor::ones([1, 3, 11, 11])?;
/// assert_eq!(x.max_pool2d(2)?.shape(), [1, 3, 5, 5]);
/// assert_eq!(x.max_pool2d(Pool2d::new(3).stride(2).padding(1))?.shape(), [1, 3, 6, 6]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pool<const D: usize> {
    /// The window.
    pub kernel: [usize; D],
    /// Step between windows; the window's size by default.
    pub stride: Option<[usize; D]>,
    /// What is added on each side, at most half a window; 0 by default.
    pub padding: [usize; D],
    /// Distance between the taps of a window; 1 by default. Only for the maximum.
    pub dilation: [usize; D],
    /// Whether a last window that reaches beyond the edge counts; not by default.
    pub ceil_mode: bool,
    /// Whether a mean counts the padding as zeros; it does by default.
    pub count_include_pad: bool,
    /// What a mean divides by instead of the number of elements.
    pub divisor_override: Option<usize>,
}

/// Windows along a length.
pub type Pool1d = Pool<1>;
/// Windows over height and width.
pub type Pool2d = Pool<2>;
/// Windows over depth, height and width.
pub type Pool3d = Pool<3>;

impl<const D: usize> Pool<D> {
    /// A window of this size that moves by its size.
    pub fn new(kernel: impl Into<Sizes<D>>) -> Self {
        Pool {
            kernel: kernel.into().0,
            stride: None,
            padding: [0; D],
            dilation: [1; D],
            ceil_mode: false,
            count_include_pad: true,
            divisor_override: None,
        }
    }
    /// Sets the step between windows.
    pub fn stride(mut self, stride: impl Into<Sizes<D>>) -> Self {
        self.stride = Some(stride.into().0);
        self
    }
    /// Sets the padding.
    pub fn padding(mut self, padding: impl Into<Sizes<D>>) -> Self {
        self.padding = padding.into().0;
        self
    }
    /// Sets the distance between the taps of a window.
    pub fn dilation(mut self, dilation: impl Into<Sizes<D>>) -> Self {
        self.dilation = dilation.into().0;
        self
    }
    /// Sets whether a last window that reaches beyond the edge counts.
    pub fn ceil_mode(mut self, ceil: bool) -> Self {
        self.ceil_mode = ceil;
        self
    }
    /// Sets whether a mean counts the padding as zeros.
    pub fn count_include_pad(mut self, include: bool) -> Self {
        self.count_include_pad = include;
        self
    }
    /// Sets what a mean divides by.
    pub fn divisor_override(mut self, divisor: usize) -> Self {
        self.divisor_override = Some(divisor);
        self
    }

    /// The number of windows along each axis.
    fn outputs(&self, op: &'static str, x: &[usize], input: [usize; D]) -> Result<[usize; D]> {
        let stride = self.stride.unwrap_or(self.kernel);
        check_sizes(
            op,
            &[("kernel", &self.kernel), ("stride", &stride), ("dilation", &self.dilation)],
        )?;
        check_most(op, "input size", &input)?;
        check_most(op, "padding", &self.padding)?;
        let mut out = [0; D];
        for i in 0..D {
            let extent = extent(self.kernel[i], self.dilation[i]);
            if self.padding[i] > extent / 2 {
                return Err(Error::argument(
                    op,
                    format!(
                        "padding {:?} must be at most half of the window {:?}",
                        self.padding, self.kernel
                    ),
                ));
            }
            let padded = input[i] + 2 * self.padding[i];
            if extent > padded {
                return Err(Error::shape(
                    op,
                    format!(
                        "the window {:?} (dilation {:?}) is larger than the input {x:?} with padding {:?}; use a smaller one",
                        self.kernel, self.dilation, self.padding
                    ),
                ));
            }
            let room = padded - extent;
            out[i] = if self.ceil_mode { room.div_ceil(stride[i]) } else { room / stride[i] } + 1;
            // A window that would start in the padding behind the input is none.
            if self.ceil_mode && (out[i] - 1) * stride[i] >= input[i] + self.padding[i] {
                out[i] -= 1;
            }
        }
        Ok(out)
    }

    /// The pooling of an input of this shape, as passes over two axes each.
    pub(super) fn passes(&self, op: &'static str, x: &[usize]) -> Result<Passes> {
        let input = spatial::<D>(op, x)?;
        let out = self.outputs(op, x, input)?;
        let stride = self.stride.unwrap_or(self.kernel);
        Ok(passes(x, out)
            .into_iter()
            .map(|p| {
                let of = |all: &[usize; D], none: usize| p.axes.map(|a| a.map_or(none, |a| all[a]));
                let windows = Windows {
                    planes: p.planes,
                    input: p.input,
                    kernel: of(&self.kernel, 1),
                    stride: of(&stride, 1),
                    pad: of(&self.padding, 0),
                    dilation: of(&self.dilation, 1),
                    out: p.out,
                };
                (windows, p.shape)
            })
            .collect())
    }

    /// The stretches of the means along an axis of a pass.
    pub(super) fn stretches(&self, w: &Windows, axis: usize) -> Vec<Stretch> {
        (0..w.out[axis])
            .map(|o| {
                let (size, pad) = (w.input[axis], w.pad[axis]);
                let first = o * w.stride[axis];
                // Counted from the start of the padding; behind the padding nothing counts.
                let last = (first + w.kernel[axis]).min(size + 2 * pad);
                let (start, end) =
                    (first.saturating_sub(pad).min(size), last.saturating_sub(pad).min(size));
                let count =
                    if self.count_include_pad { last - first } else { end.saturating_sub(start) };
                Stretch { start, end: end.max(start), count: count.max(1) }
            })
            .collect()
    }
}

impl<const D: usize, P: Into<Sizes<D>>> From<P> for Pool<D> {
    fn from(kernel: P) -> Self {
        Pool::new(kernel)
    }
}

/// The sizes of the last `D` axes.
pub(super) fn spatial<const D: usize>(op: &'static str, x: &[usize]) -> Result<[usize; D]> {
    let lead = 1 + batched(op, x, D)? as usize;
    Ok(std::array::from_fn(|i| x[lead + i]))
}

/// A pooling over two axes, one of many planes.
pub(super) struct Pass {
    pub planes: usize,
    pub input: [usize; 2],
    pub out: [usize; 2],
    /// Which of the `D` axes each of the two is; none where nothing moves.
    pub axes: [Option<usize>; 2],
    /// The whole shape after this pass.
    pub shape: Dims,
}

/// Windows of two axes with the shape that follows.
pub(super) type Passes = SmallVec<[(Windows, Dims); 2]>;

/// A pooling of `D` axes to the sizes `out`: first over the last two, then over each axis before them, from the last to the first. Maxima
/// and means of boxes may be taken axis by axis, and the first maximum in row-major order stays the first.
pub(super) fn passes<const D: usize>(x: &[usize], out: [usize; D]) -> SmallVec<[Pass; 2]> {
    let lead = x.len() - D;
    let mut shape: Dims = x.into();
    let mut all = SmallVec::new();
    let whole: usize = x[..lead].iter().product();
    let last = D.saturating_sub(2);
    for i in (0..=last).rev() {
        let planes = whole * x[lead..lead + i].iter().product::<usize>();
        let (input, to, axes) = if i == last && D >= 2 {
            ([x[lead + i], x[lead + i + 1]], [out[i], out[i + 1]], [Some(i), Some(i + 1)])
        } else if D == 1 {
            ([1, x[lead]], [1, out[0]], [None, Some(0)])
        } else {
            let behind = out[i + 1..].iter().product();
            ([x[lead + i], behind], [out[i], behind], [Some(i), None])
        };
        for a in axes.into_iter().flatten() {
            shape[lead + a] = out[a];
        }
        all.push(Pass { planes, input, out: to, axes, shape: shape.clone() });
    }
    all
}
