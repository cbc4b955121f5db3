//! Pooling over the last two axes: the largest element or the mean of each window.
//!
//! ```text
//! max:  y = x[p*],  p* = the first largest of the window;   dx[p*] += g
//! mean: y = Σ x / count;                                     dx += g / count over the window
//! ```

use super::window::{Pair, check_most, check_sizes, extent};
use crate::autograd::{Op, apply};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::pool::{self, Means, Stretch, Windows};
use crate::tensor::{Dims, Tensor};

/// Windows of a pooling: their size, and how they move. A number or a pair alone is a window of that size that moves by its size.
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
pub struct Pool2d {
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Step between windows; the window's size by default.
    pub stride: Option<[usize; 2]>,
    /// Rows and columns added on each side, at most half a window; 0 by default.
    pub padding: [usize; 2],
    /// Distance between the taps of a window; 1 by default. Only for the maximum.
    pub dilation: [usize; 2],
    /// Whether a last window that reaches beyond the edge counts; not by default.
    pub ceil_mode: bool,
    /// Whether a mean counts the padding as zeros; it does by default.
    pub count_include_pad: bool,
    /// What a mean divides by instead of the number of elements.
    pub divisor_override: Option<usize>,
}

impl Pool2d {
    /// A window of this size that moves by its size.
    pub fn new(kernel: impl Into<Pair>) -> Self {
        Pool2d {
            kernel: kernel.into().0,
            stride: None,
            padding: [0; 2],
            dilation: [1; 2],
            ceil_mode: false,
            count_include_pad: true,
            divisor_override: None,
        }
    }
    /// Sets the step between windows.
    pub fn stride(mut self, stride: impl Into<Pair>) -> Self {
        self.stride = Some(stride.into().0);
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

    /// The windows over an input of this shape, and the output's shape.
    fn windows(&self, op: &'static str, x: &[usize]) -> Result<(Windows, Dims)> {
        let (planes, input) = planes(op, x)?;
        let stride = self.stride.unwrap_or(self.kernel);
        check_sizes(
            op,
            &[("kernel", self.kernel), ("stride", stride), ("dilation", self.dilation)],
        )?;
        check_most(op, "input size", input)?;
        check_most(op, "padding", self.padding)?;
        let mut out = [0; 2];
        for i in 0..2 {
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
        let windows = Windows {
            planes,
            input,
            kernel: self.kernel,
            stride,
            pad: self.padding,
            dilation: self.dilation,
            out,
        };
        Ok((windows, with_size(x, out)))
    }

    /// The stretches of the means along an axis.
    fn stretches(&self, w: &Windows, axis: usize) -> Vec<Stretch> {
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

impl<P: Into<Pair>> From<P> for Pool2d {
    fn from(kernel: P) -> Self {
        Pool2d::new(kernel)
    }
}

/// The number of planes, and their height and width.
fn planes(op: &'static str, x: &[usize]) -> Result<(usize, [usize; 2])> {
    match x {
        [lead @ .., h, w] if lead.len() == 1 || lead.len() == 2 => {
            Ok((lead.iter().product(), [*h, *w]))
        }
        _ => Err(Error::shape(
            op,
            format!(
                "the input has shape {x:?}, but must be [batch, channels, height, width] or [channels, height, width]"
            ),
        )),
    }
}

fn with_size(x: &[usize], out: [usize; 2]) -> Dims {
    let mut shape: Dims = x.into();
    let n = shape.len();
    shape[n - 2..].copy_from_slice(&out);
    shape
}

impl<T: Float> Tensor<T> {
    /// The largest element of each window of the last two axes: \[batch, channels, height, width\] or \[channels, height, width\] to the same
    /// with ⌊(size + 2·padding - dilation·(kernel - 1) - 1) / stride⌋ + 1 along each axis. Padding never wins; of equals, the first
    /// in row-major order gets the gradient; a NaN wins over everything.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[[1.0, 2.0, 0.0, 1.0], [3.0, 0.0, 5.0, 1.0]]]);
    /// assert_eq!(x.max_pool2d(2)?, Tensor::from([[[3.0, 5.0]]]));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] for another rank or a window larger than the padded input, [`Error::Argument`] for zeros or padding of more than half
    /// a window.
    pub fn max_pool2d(&self, pool: impl Into<Pool2d>) -> Result<Tensor<T>> {
        let (windows, out) = pool.into().windows("max_pool2d", self.shape())?;
        let op = MaxPool { windows, out, shape: self.shape().into() };
        if self.is_recorded() {
            return apply(op, [self]);
        }
        // Nobody will ask where the largest elements stood.
        let x = self.dense();
        Tensor::try_build("max_pool2d", &op.out, |y| {
            pool::max::<T, u8>(&windows, slice(&x), y, None)
        })
    }

    /// The mean of each window of the last two axes. See [`Pool2d`] for what counts at the edges.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[[1.0, 2.0], [3.0, 6.0]]]);
    /// assert_eq!(x.avg_pool2d(2)?.to_vec(), [3.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`max_pool2d`](Self::max_pool2d); [`Error::Argument`] also for a dilation or a divisor of 0.
    pub fn avg_pool2d(&self, pool: impl Into<Pool2d>) -> Result<Tensor<T>> {
        let op = "avg_pool2d";
        let pool = pool.into();
        if pool.dilation != [1, 1] {
            return Err(Error::argument(
                op,
                format!("a mean has no dilation, got {:?}", pool.dilation),
            ));
        }
        if pool.divisor_override == Some(0) {
            return Err(Error::argument(op, "the divisor must be at least 1, got 0"));
        }
        let (w, out) = pool.windows(op, self.shape())?;
        let means = Means {
            planes: w.planes,
            input: w.input,
            rows: pool.stretches(&w, 0),
            cols: pool.stretches(&w, 1),
            divisor: pool.divisor_override,
        };
        apply(MeanPool { name: op, means, out, shape: self.shape().into() }, [self])
    }

    /// The means of as many windows as are asked for (a number or a pair: height, width), as equal as possible: window `i` of `n` covers
    /// ⌊i·size/n⌋ to ⌈(i+1)·size/n⌉.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[[1.0, 2.0, 6.0]]]);
    /// assert_eq!(x.adaptive_avg_pool2d((1, 2))?.to_vec(), [1.5, 4.0]);
    /// assert_eq!(x.adaptive_avg_pool2d(1)?.to_vec(), [3.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] for another rank or an input without pixels, [`Error::Argument`] for a size of 0.
    pub fn adaptive_avg_pool2d(&self, size: impl Into<Pair>) -> Result<Tensor<T>> {
        let op = "adaptive_avg_pool2d";
        let Pair(size) = size.into();
        let (planes, input) = planes(op, self.shape())?;
        check_sizes(op, &[("output size", size)])?;
        if input.contains(&0) {
            return Err(Error::shape(
                op,
                format!("the input {:?} has no pixels to take a mean of", self.shape()),
            ));
        }
        check_most(op, "input size", input)?;
        let out = with_size(self.shape(), size);
        crate::tensor::numel(op, &out)?;
        let stretches = |i: usize| -> Vec<Stretch> {
            let stretch = |o: usize| {
                let (start, end) = (o * input[i] / size[i], ((o + 1) * input[i]).div_ceil(size[i]));
                Stretch { start, end, count: end - start }
            };
            (0..size[i]).map(stretch).collect()
        };
        let means = Means { planes, input, rows: stretches(0), cols: stretches(1), divisor: None };
        apply(MeanPool { name: op, means, out, shape: self.shape().into() }, [self])
    }
}

/// A dense tensor's elements.
fn slice<T: crate::element::Element>(t: &Tensor<T>) -> &[T] {
    t.as_slice().unwrap_or(&[])
}

#[derive(Clone)]
struct MaxPool {
    windows: Windows,
    out: Dims,
    shape: Dims,
}

impl MaxPool {
    /// Whether a place in the window fits a byte.
    fn small(&self) -> bool {
        self.windows.kernel[0] * self.windows.kernel[1] <= 256
    }

    /// The number of the pixel, among all of the input, that each output was taken from.
    fn indices(&self, (bytes, words): &(Option<Tensor<u8>>, Option<Tensor<i64>>)) -> Tensor<i64> {
        let w = &self.windows;
        let tap: Vec<usize> = match (bytes, words) {
            (Some(p), _) => p.iter().map(usize::from).collect(),
            (_, Some(p)) => p.iter().map(|p| p as usize).collect(),
            _ => Vec::new(),
        };
        let per_plane = (w.out[0] * w.out[1]).max(1);
        let pixel = |(o, k): (usize, usize)| {
            let (plane, o) = (o / per_plane, o % per_plane);
            let row = w.place(0, o / w.out[1], k / w.kernel[1]).unwrap_or(0);
            let col = w.place(1, o % w.out[1], k % w.kernel[1]).unwrap_or(0);
            ((plane * w.input[0] + row) * w.input[1] + col) as i64
        };
        let all: Vec<i64> = tap.into_iter().enumerate().map(pixel).collect();
        Tensor::build(&[all.len()], |out| out.copy_from_slice(&all))
    }
}

impl<T: Float> Op<T, 1> for MaxPool {
    /// Where in its window each largest element stands, in a byte if that is enough.
    type Saved = (Option<Tensor<u8>>, Option<Tensor<i64>>);

    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, Self::Saved)> {
        let x = x.dense();
        let w = &self.windows;
        let (mut bytes, mut words) = (None, None);
        let y = Tensor::try_build("max_pool2d", &self.out, |y| {
            if self.small() {
                bytes = Some(Tensor::build(&self.out, |p| pool::max(w, slice(&x), y, Some(p))));
            } else {
                words = Some(Tensor::build(&self.out, |p| pool::max(w, slice(&x), y, Some(p))));
            }
        })?;
        Ok((y, (bytes, words)))
    }

    fn vjp(
        &self,
        saved: Self::Saved,
        g: Tensor<T>,
        _: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        let g = g.dense();
        let w = &self.windows;
        Ok([Some(Tensor::build(&self.shape, |dx| match &saved {
            (Some(p), _) => pool::max_grad(w, slice(&g), slice(p), dx),
            (_, Some(p)) => pool::max_grad(w, slice(&g), slice(p), dx),
            _ => dx.fill(T::ZERO),
        }))])
    }

    fn vjp_recorded(
        &self,
        saved: Self::Saved,
        g: Tensor<T>,
        _: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        let op = MaxPoolBack { pool: self.clone(), places: saved };
        Ok([Some(apply(op, [&g])?)])
    }
}

/// The gradient of [`MaxPool`], a linear function of g: its own gradient picks the same places out of h.
struct MaxPoolBack {
    pool: MaxPool,
    places: (Option<Tensor<u8>>, Option<Tensor<i64>>),
}

impl<T: Float> Op<T, 1> for MaxPoolBack {
    type Saved = ();
    const COMPOSED: bool = true;

    fn name(&self) -> &'static str {
        "max_pool2d (gradient)"
    }

    fn forward(&self, [g]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, ())> {
        let [dx] = self.pool.vjp(self.places.clone(), g.detach(), [true])?;
        Ok((dx.unwrap_or_else(|| g.clone()), ()))
    }

    fn vjp(&self, (): (), h: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        let whole: usize = self.pool.shape.iter().product();
        let index = self.pool.indices(&self.places);
        let h = h.reshape([whole])?.index_select(0, &index)?;
        Ok([Some(h.reshape(&self.pool.out[..])?)])
    }
}

#[derive(Clone)]
struct MeanPool {
    name: &'static str,
    means: Means,
    out: Dims,
    shape: Dims,
}

impl<T: Float> Op<T, 1> for MeanPool {
    type Saved = ();

    fn name(&self) -> &'static str {
        self.name
    }

    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, ())> {
        let x = x.dense();
        let y = Tensor::try_build(self.name, &self.out, |y| pool::mean(&self.means, slice(&x), y))?;
        Ok((y, ()))
    }

    fn vjp(&self, _: (), g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        let g = g.dense();
        Ok([Some(Tensor::build(&self.shape, |dx| pool::mean_grad(&self.means, slice(&g), dx)))])
    }

    fn vjp_recorded(&self, (): (), g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        Ok([Some(apply(MeanPoolBack(self.clone()), [&g])?)])
    }
}

/// The gradient of [`MeanPool`], a linear function of g, whose own gradient is the pooling.
struct MeanPoolBack(MeanPool);

impl<T: Float> Op<T, 1> for MeanPoolBack {
    type Saved = ();
    const COMPOSED: bool = true;

    fn name(&self) -> &'static str {
        self.0.name
    }

    fn forward(&self, [g]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, ())> {
        let [dx] = self.0.vjp((), g.detach(), [true])?;
        Ok((dx.unwrap_or_else(|| g.clone()), ()))
    }

    fn vjp(&self, (): (), h: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        Ok([Some(apply(self.0.clone(), [&h])?)])
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
