//! Convolution over two axes, over one, and transposed.
//!
//! ```text
//! y[n, o, oy, ox] = b[o] + Σ w[o, c, ky, kx] · x[n, c, oy·s + ky·d - top, ox·s + kx·d - left]      (c, ky, kx)
//! dx, dw, db: the kernels of `kernel::conv`. A transposed convolution is the gradient of a convolution's input, and vice versa.
//! ```

use super::window::{Padding, Pair, check_most, check_sizes, extent};
use crate::autograd::{Op, apply};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::conv::{self, Conv};
use crate::tensor::{Dims, Tensor, numel};

/// How the window of a convolution moves. One number stands for both axes.
///
/// ```
/// use gradus::nn::{Conv2dParams, Padding};
/// let same = Conv2dParams::new().padding(Padding::Same);
/// let strided = Conv2dParams::new().stride(2).padding((1, 0)).groups(4);
/// # let _ = (same, strided);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conv2dParams {
    /// Step between output pixels; 1 by default.
    pub stride: [usize; 2],
    /// Zeros around the image; none by default.
    pub padding: Padding,
    /// Distance between the taps of the window; 1 by default.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other; 1 by default. As many as input channels: a depthwise convolution.
    pub groups: usize,
}

impl Default for Conv2dParams {
    fn default() -> Self {
        Self::new()
    }
}

impl Conv2dParams {
    /// Stride 1, no padding, no dilation, one group.
    pub const fn new() -> Self {
        Self { stride: [1; 2], padding: Padding::Valid, dilation: [1; 2], groups: 1 }
    }
    /// Sets the stride.
    pub fn stride(mut self, stride: impl Into<Pair>) -> Self {
        self.stride = stride.into().0;
        self
    }
    /// Sets the padding.
    pub fn padding(mut self, padding: impl Into<Padding>) -> Self {
        self.padding = padding.into();
        self
    }
    /// Sets the dilation.
    pub fn dilation(mut self, dilation: impl Into<Pair>) -> Self {
        self.dilation = dilation.into().0;
        self
    }
    /// Sets the number of groups.
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }
}

/// How the window of a transposed convolution moves. One number stands for both axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConvTranspose2dParams {
    /// Distance between the places where neighbouring inputs' windows are added; 1 by default.
    pub stride: [usize; 2],
    /// Rows and columns cut off the output on each side; 0 by default.
    pub padding: [usize; 2],
    /// Rows and columns added to the output below and to the right, less than the stride; 0 by default.
    pub output_padding: [usize; 2],
    /// Distance between the taps of the window; 1 by default.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other; 1 by default.
    pub groups: usize,
}

impl Default for ConvTranspose2dParams {
    fn default() -> Self {
        Self::new()
    }
}

impl ConvTranspose2dParams {
    /// Stride 1, nothing cut off or added, no dilation, one group.
    pub const fn new() -> Self {
        Self {
            stride: [1; 2],
            padding: [0; 2],
            output_padding: [0; 2],
            dilation: [1; 2],
            groups: 1,
        }
    }
    /// Sets the stride.
    pub fn stride(mut self, stride: impl Into<Pair>) -> Self {
        self.stride = stride.into().0;
        self
    }
    /// Sets the padding.
    pub fn padding(mut self, padding: impl Into<Pair>) -> Self {
        self.padding = padding.into().0;
        self
    }
    /// Sets the output padding.
    pub fn output_padding(mut self, padding: impl Into<Pair>) -> Self {
        self.output_padding = padding.into().0;
        self
    }
    /// Sets the dilation.
    pub fn dilation(mut self, dilation: impl Into<Pair>) -> Self {
        self.dilation = dilation.into().0;
        self
    }
    /// Sets the number of groups.
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }
}

impl<T: Float> Tensor<T> {
    /// Two-dimensional convolution (cross-correlation): the input \[batch, channels, height, width\] or \[channels, height, width\], the weight
    /// \[filters, channels / groups, kernel height, kernel width\], the bias \[filters\]; the output has the filters as channels, and
    /// ⌊(size + padding - dilation·(kernel - 1) - 1) / stride⌋ + 1 pixels along each axis.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::Conv2dParams;
    /// let x: Tensor = Tensor::ones([1, 1, 4, 4])?;
    /// let edge = Tensor::from([1.0, -1.0]).reshape([1, 1, 1, 2])?;
    /// let y = x.conv2d(&edge, None, Conv2dParams::new().padding((0, 1)))?;
    /// assert_eq!(y.shape(), [1, 1, 4, 5]);
    /// assert_eq!(y.to_vec()[..5], [-1.0, 0.0, 0.0, 0.0, 1.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] for ranks, channels or sizes that do not fit each other, [`Error::Argument`] for a stride, dilation or number of
    /// groups of 0, [`Error::Overflow`].
    pub fn conv2d(
        &self,
        weight: &Tensor<T>,
        bias: Option<&Tensor<T>>,
        params: Conv2dParams,
    ) -> Result<Tensor<T>> {
        let (conv, out) = plan("conv2d", self.shape(), weight.shape(), bias, &params, 2)?;
        run(Convolve { name: "conv2d", conv, out }, self, weight, bias)
    }

    /// One-dimensional convolution: the input \[batch, channels, length\] or \[channels, length\], the weight \[filters, channels / groups,
    /// kernel\]. Of the parameters, the second number of each pair counts.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 2.0, 4.0, 8.0]]);
    /// let w = Tensor::from([1.0, 1.0]).reshape([1, 1, 2])?;
    /// assert_eq!(x.conv1d(&w, None, Default::default())?.to_vec(), [3.0, 6.0, 12.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`conv2d`](Self::conv2d).
    pub fn conv1d(
        &self,
        weight: &Tensor<T>,
        bias: Option<&Tensor<T>>,
        params: Conv2dParams,
    ) -> Result<Tensor<T>> {
        let padding = match params.padding {
            Padding::Explicit([_, w]) => Padding::Explicit([[0; 2], w]),
            other => other,
        };
        let one = |p: [usize; 2]| [1, p[1]];
        let params = Conv2dParams {
            stride: one(params.stride),
            dilation: one(params.dilation),
            padding,
            groups: params.groups,
        };
        let (conv, out) = plan("conv1d", self.shape(), weight.shape(), bias, &params, 1)?;
        run(Convolve { name: "conv1d", conv, out }, self, weight, bias)
    }

    /// Transposed two-dimensional convolution, the gradient of a convolution's input: each pixel of the input \[batch, channels, height,
    /// width\] adds its multiple of the window to the output. The weight is \[channels, filters / groups, kernel height, kernel width\], the
    /// bias \[filters\]; the output has (size - 1)·stride - 2·padding + dilation·(kernel - 1) + 1 + output padding pixels along each axis.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::ConvTranspose2dParams;
    /// let x: Tensor = Tensor::from([[[[1.0, 2.0]]]]);
    /// let w = Tensor::ones([1, 1, 2, 2])?;
    /// let y = x.conv_transpose2d(&w, None, ConvTranspose2dParams::new().stride(2))?;
    /// assert_eq!(y.to_vec(), [1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`conv2d`](Self::conv2d).
    pub fn conv_transpose2d(
        &self,
        weight: &Tensor<T>,
        bias: Option<&Tensor<T>>,
        params: ConvTranspose2dParams,
    ) -> Result<Tensor<T>> {
        let (conv, out) = plan_transposed(self.shape(), weight.shape(), bias, &params)?;
        let op = Transposed { conv, out };
        match bias {
            None => apply(op, [self, weight]),
            Some(bias) => apply(op, [self, weight, bias]),
        }
    }
}

fn run<T: Float>(
    op: Convolve,
    x: &Tensor<T>,
    weight: &Tensor<T>,
    bias: Option<&Tensor<T>>,
) -> Result<Tensor<T>> {
    match bias {
        None => apply(op, [x, weight]),
        Some(bias) => apply(op, [x, weight, bias]),
    }
}

/// The parts of an input's shape: batch, channels, height, width. `axes` are spatial.
fn image(op: &'static str, x: &[usize], axes: usize) -> Result<(bool, [usize; 4])> {
    let (batched, shape): (bool, Dims) = match x.len().checked_sub(axes) {
        Some(2) => (true, x.into()),
        Some(1) => (false, std::iter::once(1).chain(x.iter().copied()).collect()),
        _ => {
            let want = [
                "[batch, channels, length] or [channels, length]",
                "[batch, channels, height, width] or [channels, height, width]",
            ];
            return Err(Error::shape(
                op,
                format!("the input has shape {x:?}, but must be {}", want[axes - 1]),
            ));
        }
    };
    let height = if axes == 2 { shape[2] } else { 1 };
    Ok((batched, [shape[0], shape[1], height, shape[shape.len() - 1]]))
}

/// The parts of a weight's shape; `layout` says them in words.
fn window(op: &'static str, w: &[usize], axes: usize, layout: &str) -> Result<[usize; 4]> {
    if w.len() != axes + 2 {
        return Err(Error::shape(op, format!("the weight has shape {w:?}, but must be {layout}")));
    }
    let height = if axes == 2 { w[2] } else { 1 };
    Ok([w[0], w[1], height, w[w.len() - 1]])
}

fn check_bias<T: Float>(
    op: &'static str,
    bias: Option<&Tensor<T>>,
    w: &[usize],
    filters: usize,
) -> Result<()> {
    match bias {
        Some(b) if b.shape() != [filters] => Err(Error::shape(
            op,
            format!("the bias has shape {:?}, but the weight {w:?} expects [{filters}]", b.shape()),
        )),
        _ => Ok(()),
    }
}

/// The output's shape.
fn out_shape(
    op: &'static str,
    batched: bool,
    axes: usize,
    batch: usize,
    channels: usize,
    size: [usize; 2],
) -> Result<Dims> {
    let mut out = Dims::new();
    if batched {
        out.push(batch);
    }
    out.push(channels);
    out.extend_from_slice(&size[2 - axes..]);
    numel(op, &out)?;
    Ok(out)
}

/// Checks a convolution and works out its output's shape.
fn plan<T: Float>(
    op: &'static str,
    x: &[usize],
    w: &[usize],
    bias: Option<&Tensor<T>>,
    p: &Conv2dParams,
    axes: usize,
) -> Result<(Conv, Dims)> {
    let layout = [
        "[filters, channels / groups, kernel]",
        "[filters, channels / groups, kernel height, kernel width]",
    ];
    let (batched, [batch, channels, height, width]) = image(op, x, axes)?;
    let [filters, per_group, kh, kw] = window(op, w, axes, layout[axes - 1])?;
    let groups = p.groups;
    check_sizes(op, &[("stride", p.stride), ("dilation", p.dilation), ("kernel", [kh, kw])])?;
    check_groups(op, groups)?;
    if per_group.checked_mul(groups) != Some(channels) {
        let expected = per_group.saturating_mul(groups);
        return Err(Error::shape(
            op,
            format!(
                "input has {channels} channels but the weight {w:?} with groups={groups} expects {expected}"
            ),
        ));
    }
    if !filters.is_multiple_of(groups) {
        return Err(Error::shape(
            op,
            format!(
                "the {filters} filters of the weight {w:?} are not divisible by groups={groups}"
            ),
        ));
    }
    check_bias(op, bias, w, filters)?;
    let (input, kernel) = ([height, width], [kh, kw]);
    check_most(op, "input size", input)?;
    let mut pad = [[0; 2]; 2];
    for i in 0..2 {
        let extent = extent(kernel[i], p.dilation[i]);
        pad[i] = match p.padding {
            Padding::Valid => [0, 0],
            Padding::Explicit(pad) => pad[i],
            Padding::Same => {
                let out = input[i].div_ceil(p.stride[i]).max(1);
                let total = ((out - 1) * p.stride[i] + extent).saturating_sub(input[i]);
                [total / 2, total - total / 2]
            }
        };
        if !matches!(p.padding, Padding::Same) {
            check_most(op, "padding", pad[i])?;
        }
        let padded = input[i] + pad[i][0] + pad[i][1];
        if extent > padded {
            let axis = if axes == 1 { "length" } else { ["height", "width"][i] };
            let with_dilation = if p.dilation[i] > 1 {
                format!(" (dilated by {})", p.dilation[i])
            } else {
                String::new()
            };
            return Err(Error::shape(
                op,
                format!(
                    "the window is larger than the padded input: {axis} {}{with_dilation} of the weight {w:?} covers {extent}, the input {x:?} with its padding has {padded}; pad more or use a smaller kernel",
                    kernel[i]
                ),
            ));
        }
    }
    let conv = Conv {
        batch,
        groups,
        c_in: per_group,
        c_out: filters / groups,
        input,
        kernel,
        stride: p.stride,
        dilation: p.dilation,
        pad,
    };
    let out = out_shape(op, batched, axes, batch, filters, conv.output())?;
    check_planes(op, &conv)?;
    Ok((conv, out))
}

fn check_groups(op: &'static str, groups: usize) -> Result<()> {
    if groups == 0 { Err(Error::argument(op, "groups must be at least 1, got 0")) } else { Ok(()) }
}

/// An image with its padding must fit in memory too.
fn check_planes(op: &'static str, c: &Conv) -> Result<()> {
    let padded = |i: usize| {
        c.input[i] + c.pad[i][0] + c.pad[i][1] + c.stride[i] + extent(c.kernel[i], c.dilation[i])
    };
    numel(op, &[c.c_in.max(c.c_out).max(1), padded(0), padded(1), 2]).map(|_| ())
}

/// Checks a transposed convolution and works out the convolution whose input's gradient it is.
fn plan_transposed<T: Float>(
    x: &[usize],
    w: &[usize],
    bias: Option<&Tensor<T>>,
    p: &ConvTranspose2dParams,
) -> Result<(Conv, Dims)> {
    let op = "conv_transpose2d";
    let (batched, [batch, channels, height, width]) = image(op, x, 2)?;
    let layout = "[channels, filters / groups, kernel height, kernel width]";
    let [rows, per_group, kh, kw] = window(op, w, 2, layout)?;
    check_sizes(op, &[("stride", p.stride), ("dilation", p.dilation), ("kernel", [kh, kw])])?;
    check_groups(op, p.groups)?;
    check_most(op, "padding", p.padding)?;
    if rows != channels || !channels.is_multiple_of(p.groups) {
        return Err(Error::shape(
            op,
            format!(
                "input has {channels} channels, but the weight {w:?} is for {rows}, in groups={}",
                p.groups
            ),
        ));
    }
    let filters =
        per_group.checked_mul(p.groups).ok_or(Error::Overflow { op, shape: w.to_vec() })?;
    check_bias(op, bias, w, filters)?;
    let (size, kernel) = ([height, width], [kh, kw]);
    check_most(op, "input size", size)?;
    let mut input = [0; 2];
    for i in 0..2 {
        if p.output_padding[i] >= p.stride[i] {
            return Err(Error::argument(
                op,
                format!(
                    "output padding {:?} must be smaller than the stride {:?}",
                    p.output_padding, p.stride
                ),
            ));
        }
        let whole = (size[i].max(1) - 1) * p.stride[i]
            + extent(kernel[i], p.dilation[i])
            + p.output_padding[i];
        input[i] = match whole.checked_sub(2 * p.padding[i]) {
            Some(n) if n > 0 && size[i] > 0 => n,
            _ => {
                return Err(Error::shape(
                    op,
                    format!(
                        "nothing is left of the output: {whole} pixels of the input {x:?}, {} cut off by the padding",
                        2 * p.padding[i]
                    ),
                ));
            }
        };
    }
    let conv = Conv {
        batch,
        groups: p.groups,
        c_in: per_group,
        c_out: channels / p.groups,
        input,
        kernel,
        stride: p.stride,
        dilation: p.dilation,
        pad: p.padding.map(|p| [p, p]),
    };
    debug_assert_eq!(conv.output(), size);
    let out = out_shape(op, batched, 2, batch, filters, input)?;
    check_planes(op, &conv)?;
    Ok((conv, out))
}

/// A dense tensor's elements.
fn slice<T: Float>(t: &Tensor<T>) -> &[T] {
    t.as_slice().unwrap_or(&[])
}

/// A convolution, checked.
#[derive(Clone)]
struct Convolve {
    name: &'static str,
    conv: Conv,
    out: Dims,
}

impl Convolve {
    fn output<T: Float>(
        &self,
        x: &Tensor<T>,
        w: &Tensor<T>,
        bias: Option<&Tensor<T>>,
    ) -> Result<Tensor<T>> {
        let (x, w, bias) = (x.dense(), w.dense(), bias.map(Tensor::dense));
        Tensor::try_build(self.name, &self.out, |y| {
            conv::forward(&self.conv, slice(&x), slice(&w), bias.as_ref().map(|b| slice(b)), y);
        })
    }

    fn gradients<T: Float>(
        &self,
        (x, w): (Tensor<T>, Tensor<T>),
        g: &Tensor<T>,
        needs: [bool; 3],
    ) -> [Option<Tensor<T>>; 3] {
        let c = &self.conv;
        let g = g.dense();
        let dx = needs[0].then(|| {
            let w = w.dense();
            Tensor::build(x.shape(), |dx| conv::input_grad(c, slice(&g), slice(&w), dx))
        });
        let (dw, db) = weight_and_bias(c, &x, &g, &w, [needs[1], needs[2]]);
        [dx, dw, db]
    }
}

impl Convolve {
    fn gradients_recorded<T: Float>(
        &self,
        (x, w): (Tensor<T>, Tensor<T>),
        g: &Tensor<T>,
        needs: [bool; 3],
    ) -> Result<[Option<Tensor<T>>; 3]> {
        let c = &self.conv;
        let mut d = [None, None, None];
        if needs[0] {
            d[0] = Some(apply(Transposed { conv: c.clone(), out: x.shape().into() }, [g, &w])?);
        }
        if needs[1] {
            let op = WeightGradient { conv: c.clone(), weight: w.shape().into() };
            d[1] = Some(apply(op, [&x, g])?);
        }
        if needs[2] {
            d[2] = Some(bias_recorded(g, c.batch, c.groups * c.c_out)?);
        }
        Ok(d)
    }
}

/// The gradients of weight and bias that are asked for.
fn weight_and_bias<T: Float>(
    c: &Conv,
    x: &Tensor<T>,
    g: &Tensor<T>,
    w: &Tensor<T>,
    needs: [bool; 2],
) -> (Option<Tensor<T>>, Option<Tensor<T>>) {
    let x = x.dense();
    let filters = [c.groups * c.c_out];
    let mut db = None;
    let mut both = |dw: Option<&mut [T]>| {
        db = match needs[1] {
            true => Some(Tensor::build(&filters, |db| {
                conv::weight_grad(c, slice(&x), slice(g), dw, Some(db))
            })),
            false => {
                conv::weight_grad(c, slice(&x), slice(g), dw, None);
                None
            }
        };
    };
    let dw = match needs[0] {
        true => Some(Tensor::build(w.shape(), |dw| both(Some(dw)))),
        false => {
            both(None);
            None
        }
    };
    (dw, db)
}

impl<T: Float> Op<T, 2> for Convolve {
    type Saved = (Tensor<T>, Tensor<T>);
    fn name(&self) -> &'static str {
        self.name
    }
    fn forward(&self, [x, w]: [&Tensor<T>; 2]) -> Result<(Tensor<T>, Self::Saved)> {
        Ok((self.output(x, w, None)?, (x.clone(), w.clone())))
    }
    fn vjp(
        &self,
        saved: Self::Saved,
        g: Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        let [dx, dw, _] = self.gradients(saved, &g, [needs[0], needs[1], false]);
        Ok([dx, dw])
    }
    fn vjp_recorded(
        &self,
        saved: Self::Saved,
        g: Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        let [dx, dw, _] = self.gradients_recorded(saved, &g, [needs[0], needs[1], false])?;
        Ok([dx, dw])
    }
}

impl<T: Float> Op<T, 3> for Convolve {
    type Saved = (Tensor<T>, Tensor<T>);
    fn name(&self) -> &'static str {
        self.name
    }
    fn forward(&self, [x, w, b]: [&Tensor<T>; 3]) -> Result<(Tensor<T>, Self::Saved)> {
        Ok((self.output(x, w, Some(b))?, (x.clone(), w.clone())))
    }
    fn vjp(
        &self,
        saved: Self::Saved,
        g: Tensor<T>,
        needs: [bool; 3],
    ) -> Result<[Option<Tensor<T>>; 3]> {
        Ok(self.gradients(saved, &g, needs))
    }
    fn vjp_recorded(
        &self,
        saved: Self::Saved,
        g: Tensor<T>,
        needs: [bool; 3],
    ) -> Result<[Option<Tensor<T>>; 3]> {
        self.gradients_recorded(saved, &g, needs)
    }
}

/// The gradient of a weight, linear in x and in g: its own gradients are a transposed convolution of g and a convolution of x, both
/// with the incoming gradient as the weight.
struct WeightGradient {
    conv: Conv,
    weight: Dims,
}

impl<T: Float> Op<T, 2> for WeightGradient {
    type Saved = (Tensor<T>, Tensor<T>);
    const COMPOSED: bool = true;
    fn name(&self) -> &'static str {
        "convolution (gradient of the weight)"
    }
    fn forward(&self, [x, g]: [&Tensor<T>; 2]) -> Result<(Tensor<T>, Self::Saved)> {
        let (dense_x, dense_g) = (x.dense(), g.dense());
        let dw = Tensor::build(&self.weight, |dw| {
            conv::weight_grad(&self.conv, slice(&dense_x), slice(&dense_g), Some(dw), None);
        });
        Ok((dw, (x.clone(), g.clone())))
    }
    fn vjp(
        &self,
        (x, g): Self::Saved,
        h: Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        let c = &self.conv;
        let dx = match needs[0] {
            true => Some(apply(Transposed { conv: c.clone(), out: x.shape().into() }, [&g, &h])?),
            false => None,
        };
        let name = Op::<T, 2>::name(self);
        let dg = match needs[1] {
            true => {
                Some(apply(Convolve { name, conv: c.clone(), out: g.shape().into() }, [&x, &h])?)
            }
            false => None,
        };
        Ok([dx, dg])
    }
}

/// The sum over all pixels of each of `filters` planes, recorded.
fn bias_recorded<T: Float>(g: &Tensor<T>, batch: usize, filters: usize) -> Result<Tensor<T>> {
    let plane = if g.is_empty() { 0 } else { g.len() / (batch * filters) };
    g.reshape([batch, filters, plane])?.sum_axes([0, 2], false)
}

/// A transposed convolution: `conv` has this one's output as its input.
#[derive(Clone)]
struct Transposed {
    conv: Conv,
    out: Dims,
}

impl Transposed {
    fn output<T: Float>(
        &self,
        x: &Tensor<T>,
        w: &Tensor<T>,
        bias: Option<&Tensor<T>>,
    ) -> Result<Tensor<T>> {
        let (x, w) = (x.dense(), w.dense());
        Tensor::try_build("conv_transpose2d", &self.out, |y| {
            conv::input_grad(&self.conv, slice(&x), slice(&w), y);
            if let Some(bias) = bias {
                let plane = self.conv.input[0] * self.conv.input[1];
                let bias: Vec<T> = bias.to_vec();
                for (y, &b) in y.chunks_exact_mut(plane).zip(bias.iter().cycle()) {
                    y.iter_mut().for_each(|y| *y += b);
                }
            }
        })
    }

    fn gradients<T: Float>(
        &self,
        (x, w): (Tensor<T>, Tensor<T>),
        g: &Tensor<T>,
        needs: [bool; 3],
    ) -> [Option<Tensor<T>>; 3] {
        let c = &self.conv;
        let g = g.dense();
        let dx = needs[0].then(|| {
            let w = w.dense();
            Tensor::build(x.shape(), |dx| conv::forward(c, slice(&g), slice(&w), None, dx))
        });
        let (dw, _) = weight_and_bias(c, &g, &x.dense(), &w, [needs[1], false]);
        let db = needs[2].then(|| {
            let (plane, filters) = (c.input[0] * c.input[1], c.groups * c.c_in);
            Tensor::build(&[filters], |db| {
                db.fill(T::ZERO);
                for (i, g) in slice(&g).chunks_exact(plane).enumerate() {
                    db[i % filters] += g.iter().copied().sum::<T>();
                }
            })
        });
        [dx, dw, db]
    }
}

impl Transposed {
    fn gradients_recorded<T: Float>(
        &self,
        (x, w): (Tensor<T>, Tensor<T>),
        g: &Tensor<T>,
        needs: [bool; 3],
    ) -> Result<[Option<Tensor<T>>; 3]> {
        let c = &self.conv;
        let mut d = [None, None, None];
        if needs[0] {
            let (name, out) = ("conv_transpose2d (gradient)", x.shape().into());
            d[0] = Some(apply(Convolve { name, conv: c.clone(), out }, [g, &w])?);
        }
        if needs[1] {
            let op = WeightGradient { conv: c.clone(), weight: w.shape().into() };
            d[1] = Some(apply(op, [g, &x])?);
        }
        if needs[2] {
            d[2] = Some(bias_recorded(g, c.batch, c.groups * c.c_in)?);
        }
        Ok(d)
    }
}

impl<T: Float> Op<T, 2> for Transposed {
    type Saved = (Tensor<T>, Tensor<T>);
    fn name(&self) -> &'static str {
        "conv_transpose2d"
    }
    fn forward(&self, [x, w]: [&Tensor<T>; 2]) -> Result<(Tensor<T>, Self::Saved)> {
        Ok((self.output(x, w, None)?, (x.clone(), w.clone())))
    }
    fn vjp(
        &self,
        saved: Self::Saved,
        g: Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        let [dx, dw, _] = self.gradients(saved, &g, [needs[0], needs[1], false]);
        Ok([dx, dw])
    }
    fn vjp_recorded(
        &self,
        saved: Self::Saved,
        g: Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        let [dx, dw, _] = self.gradients_recorded(saved, &g, [needs[0], needs[1], false])?;
        Ok([dx, dw])
    }
}

impl<T: Float> Op<T, 3> for Transposed {
    type Saved = (Tensor<T>, Tensor<T>);
    fn name(&self) -> &'static str {
        "conv_transpose2d"
    }
    fn forward(&self, [x, w, b]: [&Tensor<T>; 3]) -> Result<(Tensor<T>, Self::Saved)> {
        Ok((self.output(x, w, Some(b))?, (x.clone(), w.clone())))
    }
    fn vjp(
        &self,
        saved: Self::Saved,
        g: Tensor<T>,
        needs: [bool; 3],
    ) -> Result<[Option<Tensor<T>>; 3]> {
        Ok(self.gradients(saved, &g, needs))
    }
    fn vjp_recorded(
        &self,
        saved: Self::Saved,
        g: Tensor<T>,
        needs: [bool; 3],
    ) -> Result<[Option<Tensor<T>>; 3]> {
        self.gradients_recorded(saved, &g, needs)
    }
}

#[cfg(test)]
#[path = "conv_tests.rs"]
mod tests;
