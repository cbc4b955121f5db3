//! The convolutions as methods, and what they have in common.

use super::forward::Convolve;
use super::params::{
    Conv1dParams, Conv2dParams, Conv3dParams, ConvParams, ConvTranspose1dParams,
    ConvTranspose2dParams, ConvTranspose3dParams, ConvTransposeParams,
};
use super::plan::{Plan, plan, plan_transposed};
use super::taps::Taps;
use super::transposed::Transposed;
use crate::autograd::{Op, apply};
use crate::error::Result;
use crate::float::Float;
use crate::kernel::conv::taps::Line;
use crate::tensor::{Dims, Tensor};

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
    /// [`Error::Shape`](crate::Error::Shape) for ranks, channels or sizes that do not fit each other, [`Error::Argument`](crate::Error::Argument)
    /// for a stride, dilation or number of groups of 0, [`Error::Overflow`](crate::Error::Overflow).
    pub fn conv2d(
        &self,
        weight: &Tensor<T>,
        bias: Option<&Tensor<T>>,
        params: Conv2dParams,
    ) -> Result<Tensor<T>> {
        conv("conv2d", self, weight, bias, &params, false)
    }

    /// One-dimensional convolution: the input \[batch, channels, length\] or \[channels, length\], the weight \[filters, channels / groups,
    /// kernel\].
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
        params: Conv1dParams,
    ) -> Result<Tensor<T>> {
        conv("conv1d", self, weight, bias, &params, false)
    }

    /// Three-dimensional convolution: the input \[batch, channels, depth, height, width\] or \[channels, depth, height, width\], the weight
    /// \[filters, channels / groups, kernel depth, kernel height, kernel width\].
    ///
    /// The taps along the depth are laid beside the channels, which takes as many copies of the input as the kernel is deep (divided by the
    /// stride); the rest is a convolution of images.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::Conv3dParams;
    /// let x: Tensor = Tensor::ones([1, 2, 4, 5, 5])?;
    /// let w = Tensor::ones([3, 2, 3, 3, 3])?;
    /// let y = x.conv3d(&w, None, Conv3dParams::new().padding((1, 0, 0)))?;
    /// assert_eq!(y.shape(), [1, 3, 4, 3, 3]);
    /// assert_eq!(y.get([0, 0, 1, 0, 0])?, 54.0);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`conv2d`](Self::conv2d).
    pub fn conv3d(
        &self,
        weight: &Tensor<T>,
        bias: Option<&Tensor<T>>,
        params: Conv3dParams,
    ) -> Result<Tensor<T>> {
        conv("conv3d", self, weight, bias, &params, false)
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
        conv_transpose("conv_transpose2d", self, weight, bias, &params)
    }

    /// Transposed one-dimensional convolution: the input \[batch, channels, length\] or \[channels, length\], the weight \[channels,
    /// filters / groups, kernel\].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::ConvTranspose1dParams;
    /// let x: Tensor = Tensor::from([[1.0, 2.0]]);
    /// let w = Tensor::from([1.0, 10.0, 100.0]).reshape([1, 1, 3])?;
    /// let y = x.conv_transpose1d(&w, None, ConvTranspose1dParams::new().stride(2))?;
    /// assert_eq!(y.to_vec(), [1.0, 10.0, 102.0, 20.0, 200.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`conv2d`](Self::conv2d).
    pub fn conv_transpose1d(
        &self,
        weight: &Tensor<T>,
        bias: Option<&Tensor<T>>,
        params: ConvTranspose1dParams,
    ) -> Result<Tensor<T>> {
        conv_transpose("conv_transpose1d", self, weight, bias, &params)
    }

    /// Transposed three-dimensional convolution: the input \[batch, channels, depth, height, width\] or \[channels, depth, height, width\], the
    /// weight \[channels, filters / groups, kernel depth, kernel height, kernel width\].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::ConvTranspose3dParams;
    /// let x: Tensor = Tensor::ones([1, 4, 2, 3, 3])?;
    /// let w = Tensor::ones([4, 5, 2, 2, 2])?;
    /// let y = x.conv_transpose3d(&w, None, ConvTranspose3dParams::new().stride(2))?;
    /// assert_eq!(y.shape(), [1, 5, 4, 6, 6]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`conv2d`](Self::conv2d).
    pub fn conv_transpose3d(
        &self,
        weight: &Tensor<T>,
        bias: Option<&Tensor<T>>,
        params: ConvTranspose3dParams,
    ) -> Result<Tensor<T>> {
        conv_transpose("conv_transpose3d", self, weight, bias, &params)
    }
}

/// With the bias if there is one.
fn with_bias<T: Float, O: Op<T, 2> + Op<T, 3>>(
    op: O,
    x: &Tensor<T>,
    weight: &Tensor<T>,
    bias: Option<&Tensor<T>>,
) -> Result<Tensor<T>> {
    match bias {
        None => apply(op, [x, weight]),
        Some(bias) => apply(op, [x, weight, bias]),
    }
}

/// The taps along axis `i` of the input, where the axes before it count as images of the batch and the taps along them as channels.
fn taps<const D: usize>(name: &'static str, plan: &Plan<D>, i: usize) -> Taps {
    let lead: usize = plan.kernel[..i].iter().product();
    let line = Line {
        images: plan.batch * plan.output[..i].iter().product::<usize>(),
        channels: plan.groups * plan.c_in * lead,
        size: plan.input[i],
        windows: plan.output[i],
        kernel: plan.kernel[i],
        stride: plan.stride[i],
        dilation: plan.dilation[i],
        pad: plan.pad[i][0],
        plane: plan.input[i + 1..].iter().product(),
    };
    Taps { name, line }
}

/// The sizes of the first `lead` axes.
fn sizes(lead: usize, of: &[usize]) -> impl Iterator<Item = usize> + '_ {
    of[..lead].iter().copied()
}

/// The weight as that of images: the taps along the first axes are channels, without a copy of a dense weight.
fn flat_weight<T: Float, const D: usize>(w: &Tensor<T>, plan: &Plan<D>) -> Result<Tensor<T>> {
    let Plan { c_in, kernel, .. } = plan;
    let lead: usize = kernel[..D - 2].iter().product();
    w.reshape([w.shape()[0], c_in * lead, kernel[D - 2], kernel[D - 1]])
}

/// A convolution over `D` axes, and then ReLU or not.
pub(crate) fn conv<T: Float, const D: usize>(
    name: &'static str,
    x: &Tensor<T>,
    weight: &Tensor<T>,
    bias: Option<&Tensor<T>>,
    params: &ConvParams<D>,
    relu: bool,
) -> Result<Tensor<T>> {
    let recorded = [Some(x), Some(weight), bias].into_iter().flatten().any(Tensor::is_recorded);
    let then = |y: Tensor<T>| if relu && recorded { y.relu() } else { y };
    let relu = relu && !recorded;
    let plan = plan(name, x.shape(), weight.shape(), bias.map(|b| b.shape()), params)?;
    let conv = plan.plane();
    if D <= 2 {
        return Ok(then(with_bias(Convolve { name, conv, out: plan.out, relu }, x, weight, bias)?));
    }
    let mut x = x.clone();
    for i in 0..D - 2 {
        x = apply(taps(name, &plan, i).lay(), [&x])?;
    }
    let (filters, [h, w]) = (plan.groups * plan.c_out, conv.output());
    let out: Dims = [conv.batch, filters, h, w].into_iter().collect();
    let y = with_bias(Convolve { name, conv, out, relu }, &x, &flat_weight(weight, &plan)?, bias)?;
    // [batch, depth, filters, height, width], and the filters go before the depth.
    let lead = D - 2;
    let apart: Dims =
        [plan.batch].into_iter().chain(sizes(lead, &plan.output)).chain([filters, h, w]).collect();
    let order: Vec<isize> = [0, lead + 1]
        .into_iter()
        .chain(1..lead + 1)
        .chain([lead + 2, lead + 3])
        .map(|i| i as isize)
        .collect();
    Ok(then(y.reshape(&apart)?.permute(order)?.reshape(&plan.out)?))
}

/// A transposed convolution over `D` axes.
pub(crate) fn conv_transpose<T: Float, const D: usize>(
    name: &'static str,
    x: &Tensor<T>,
    weight: &Tensor<T>,
    bias: Option<&Tensor<T>>,
    params: &ConvTransposeParams<D>,
) -> Result<Tensor<T>> {
    let plan = plan_transposed(name, x.shape(), weight.shape(), bias.map(|b| b.shape()), params)?;
    let conv = plan.plane();
    let tail = plan.tail.iter().any(|&t| t > 0);
    if D <= 2 && !tail {
        return with_bias(Transposed { name, conv, out: plan.out }, x, weight, bias);
    }
    let y = if D <= 2 {
        apply(Transposed { name, conv, out: plan.out.clone() }, [x, weight])?
    } else {
        let lead = D - 2;
        let channels = plan.groups * plan.c_out;
        // The channels go behind the depth, which then counts as images of the batch.
        let whole: Dims = [plan.batch, channels].into_iter().chain(plan.output).collect();
        let order: Vec<isize> = [0]
            .into_iter()
            .chain(2..lead + 2)
            .chain([1, lead + 2, lead + 3])
            .map(|i| i as isize)
            .collect();
        let x = x.reshape(&whole)?.permute(order)?.reshape([
            conv.batch,
            channels,
            plan.output[D - 2],
            plan.output[D - 1],
        ])?;
        let out: Dims = [conv.batch, conv.groups * conv.c_in, conv.input[0], conv.input[1]]
            .into_iter()
            .collect();
        let mut y = apply(Transposed { name, conv, out }, [&x, &flat_weight(weight, &plan)?])?;
        for i in (0..lead).rev() {
            y = apply(taps(name, &plan, i).add(), [&y])?;
        }
        y.reshape(&plan.out)?
    };
    let y = match tail {
        true => {
            let before = y.rank() - D;
            let pads: Vec<(isize, isize)> = (0..y.rank())
                .map(|i| (0, i.checked_sub(before).map_or(0, |i| plan.tail[i]) as isize))
                .collect();
            y.pad(&pads, T::ZERO)?
        }
        false => y,
    };
    match bias {
        None => Ok(y),
        Some(bias) => {
            let each: Vec<usize> = [bias.len()].into_iter().chain([1; D]).collect();
            y.try_add(&bias.reshape(&each[..])?)
        }
    }
}
