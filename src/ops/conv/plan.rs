//! The shapes of a convolution, checked, in the terms that both directions share.

use super::params::{ConvParams, ConvTransposeParams};
use crate::error::{Error, Result};
use crate::kernel::conv::Conv;
use crate::ops::window::{axis_name, batched, check_most, check_sizes, extent};
use crate::tensor::{Dims, numel};

/// A convolution whose sizes fit each other. Of a transposed one, the convolution whose input's gradient it is.
pub(super) struct Plan<const D: usize> {
    pub batch: usize,
    pub groups: usize,
    /// Channels of a group, on the side of the convolution's input and on that of its output.
    pub c_in: usize,
    pub c_out: usize,
    pub input: [usize; D],
    pub output: [usize; D],
    pub kernel: [usize; D],
    pub stride: [usize; D],
    pub dilation: [usize; D],
    pub pad: [[usize; 2]; D],
    /// The shape of what the operation returns.
    pub out: Dims,
    /// Of a transposed one: what no window reaches, behind each axis of the output.
    pub tail: [usize; D],
}

impl<const D: usize> Plan<D> {
    /// The convolution over the last two axes. The taps along the axes before them count as channels: see `taps.rs`.
    pub(super) fn plane(&self) -> Conv {
        let lead = D.saturating_sub(2);
        let product =
            |n: usize, s: &[usize; D]| s[..lead].iter().fold(n, |n, &s| n.saturating_mul(s));
        // A length is an image one pixel high.
        let two = |s: &[usize; D], one: usize| match s[..] {
            [.., h, w] => [h, w],
            [w] => [one, w],
            [] => [one, one],
        };
        let (before, after) = (self.pad.map(|p| p[0]), self.pad.map(|p| p[1]));
        let (before, after) = (two(&before, 0), two(&after, 0));
        Conv {
            batch: product(self.batch, &self.output),
            groups: self.groups,
            c_in: product(self.c_in, &self.kernel),
            c_out: self.c_out,
            input: two(&self.input, 1),
            kernel: two(&self.kernel, 1),
            stride: two(&self.stride, 1),
            dilation: two(&self.dilation, 1),
            pad: [[before[0], after[0]], [before[1], after[1]]],
        }
    }

    /// What is taken apart must fit in memory too, and an image with its padding.
    fn check(&self, op: &'static str) -> Result<()> {
        let c = self.plane();
        let channels = c.groups.saturating_mul(c.c_in);
        numel(op, &[c.batch.max(1), channels.max(1), c.input[0].max(1), c.input[1].max(1)])?;
        let padded = |i: usize| {
            c.input[i]
                + c.pad[i][0]
                + c.pad[i][1]
                + c.stride[i]
                + extent(c.kernel[i], c.dilation[i])
        };
        numel(op, &[c.c_in.max(c.c_out).max(1), padded(0), padded(1), 2]).map(|_| ())
    }
}

/// Batch (1 if there is none), channels and sizes of an input.
fn input<const D: usize>(
    op: &'static str,
    x: &[usize],
) -> Result<(bool, usize, usize, [usize; D])> {
    let batched = batched(op, x, D)?;
    let c = batched as usize;
    let size: [usize; D] = std::array::from_fn(|i| x[c + 1 + i]);
    check_most(op, "input size", &size)?;
    Ok((batched, if batched { x[0] } else { 1 }, x[c], size))
}

/// The sizes of the kernel; `rows` are the first two axes of the weight in words.
fn kernel<const D: usize>(op: &'static str, w: &[usize], rows: &str) -> Result<[usize; D]> {
    if w.len() != D + 2 {
        let spatial = match D {
            1 => "kernel",
            2 => "kernel height, kernel width",
            _ => "kernel depth, kernel height, kernel width",
        };
        return Err(Error::shape(
            op,
            format!("the weight has shape {w:?}, but must be [{rows}, {spatial}]"),
        ));
    }
    Ok(std::array::from_fn(|i| w[2 + i]))
}

fn check_bias(op: &'static str, bias: Option<&[usize]>, w: &[usize], filters: usize) -> Result<()> {
    match bias {
        Some(b) if *b != [filters] => Err(Error::shape(
            op,
            format!("the bias has shape {b:?}, but the weight {w:?} expects [{filters}]"),
        )),
        _ => Ok(()),
    }
}

fn check_groups(op: &'static str, groups: usize) -> Result<()> {
    if groups == 0 { Err(Error::argument(op, "groups must be at least 1, got 0")) } else { Ok(()) }
}

/// The output's shape.
fn out_shape(
    op: &'static str,
    batch: Option<usize>,
    channels: usize,
    size: &[usize],
) -> Result<Dims> {
    let out: Dims = batch.into_iter().chain([channels]).chain(size.iter().copied()).collect();
    numel(op, &out)?;
    Ok(out)
}

/// Checks a convolution.
pub(super) fn plan<const D: usize>(
    op: &'static str,
    x: &[usize],
    w: &[usize],
    bias: Option<&[usize]>,
    p: &ConvParams<D>,
) -> Result<Plan<D>> {
    let (batched, batch, channels, input) = input::<D>(op, x)?;
    let kernel = kernel::<D>(op, w, "filters, channels / groups")?;
    let (filters, per_group, groups) = (w[0], w[1], p.groups);
    check_sizes(op, &[("stride", &p.stride), ("dilation", &p.dilation), ("kernel", &kernel)])?;
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
    if let crate::ops::Padding::Explicit(pad) = &p.padding {
        pad.iter().try_for_each(|pad| check_most(op, "padding", pad))?;
    }
    let pad = p.padding.sides(&input, &kernel, &p.stride, &p.dilation);
    let mut output = [0; D];
    for i in 0..D {
        let extent = extent(kernel[i], p.dilation[i]);
        let padded = input[i] + pad[i][0] + pad[i][1];
        if extent > padded {
            let axis = axis_name(D, i);
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
        output[i] = (padded - extent) / p.stride[i] + 1;
    }
    let plan = Plan {
        batch,
        groups,
        c_in: per_group,
        c_out: filters / groups,
        input,
        output,
        kernel,
        stride: p.stride,
        dilation: p.dilation,
        pad,
        out: out_shape(op, batched.then_some(batch), filters, &output)?,
        tail: [0; D],
    };
    plan.check(op)?;
    Ok(plan)
}

/// Checks a transposed convolution.
pub(super) fn plan_transposed<const D: usize>(
    op: &'static str,
    x: &[usize],
    w: &[usize],
    bias: Option<&[usize]>,
    p: &ConvTransposeParams<D>,
) -> Result<Plan<D>> {
    let (batched, batch, channels, size) = input::<D>(op, x)?;
    let kernel = kernel::<D>(op, w, "channels, filters / groups")?;
    let (rows, per_group) = (w[0], w[1]);
    check_sizes(op, &[("stride", &p.stride), ("dilation", &p.dilation), ("kernel", &kernel)])?;
    check_groups(op, p.groups)?;
    check_most(op, "padding", &p.padding)?;
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
    let (mut input, mut pad, mut tail) = ([0; D], [[0; 2]; D], [0; D]);
    for i in 0..D {
        let (extra, cut) = (p.output_padding[i], p.padding[i]);
        if extra >= p.stride[i].max(p.dilation[i]) {
            return Err(Error::argument(
                op,
                format!(
                    "output padding {:?} must be smaller than the stride {:?} or the dilation {:?} on each axis",
                    p.output_padding, p.stride, p.dilation
                ),
            ));
        }
        let whole = (size[i].max(1) - 1) * p.stride[i] + extent(kernel[i], p.dilation[i]) + extra;
        // What is added takes back what is cut off. What goes beyond the last window is the tail, if it is a stride long or longer: the
        // convolution the other way would find room for one more window there.
        pad[i] = [cut, cut.saturating_sub(extra)];
        let beyond = extra.saturating_sub(cut);
        tail[i] = if beyond >= p.stride[i] { beyond } else { 0 };
        input[i] = match whole.checked_sub(2 * cut + tail[i]) {
            Some(n) if n > 0 && size[i] > 0 => n,
            _ => {
                return Err(Error::shape(
                    op,
                    format!(
                        "nothing is left of the output: {whole} pixels of the input {x:?}, {} cut off by the padding",
                        2 * cut
                    ),
                ));
            }
        };
    }
    let plan = Plan {
        batch,
        groups: p.groups,
        c_in: per_group,
        c_out: channels / p.groups,
        input,
        output: size,
        kernel,
        stride: p.stride,
        dilation: p.dilation,
        pad,
        out: out_shape(op, batched.then_some(batch), filters, &input)?,
        tail,
    };
    plan.check(op)?;
    debug_assert!(plan.batch == 0 || D > 2 || plan.plane().output()[1] == size[D - 1]);
    let whole: Dims = plan.input.iter().zip(tail).map(|(n, t)| n + t).collect();
    out_shape(op, Some(batch), filters, &whole)?;
    Ok(plan)
}
