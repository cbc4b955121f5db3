//! What convolution and pooling say about their windows: sizes along each axis, and padding.

use crate::error::{Error, Result};

/// A size along each of `D` axes: one number for all of them, or one for each.
///
/// ```
/// use gradus::nn::{Pair, Sizes};
/// assert_eq!(Pair::from(3), Sizes([3, 3]));
/// assert_eq!(Pair::from((3, 5)), Sizes([3, 5]));
/// assert_eq!(Sizes::<3>::from((1, 2, 3)), Sizes([1, 2, 3]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes<const D: usize>(pub [usize; D]);

/// A size for height and width.
pub type Pair = Sizes<2>;

impl<const D: usize> From<usize> for Sizes<D> {
    fn from(n: usize) -> Self {
        Sizes([n; D])
    }
}
impl<const D: usize> From<[usize; D]> for Sizes<D> {
    fn from(p: [usize; D]) -> Self {
        Sizes(p)
    }
}
impl From<(usize, usize)> for Sizes<2> {
    fn from((h, w): (usize, usize)) -> Self {
        Sizes([h, w])
    }
}
impl From<(usize, usize, usize)> for Sizes<3> {
    fn from((d, h, w): (usize, usize, usize)) -> Self {
        Sizes([d, h, w])
    }
}

/// What is added around an input before a window moves over it. A number, or one for each axis, pads both sides alike.
///
/// ```
/// use gradus::nn::Padding;
/// let a: Padding = 1.into();                          // one row or column on every side
/// let b: Padding = (0, 2).into();                     // two columns left and two right
/// assert_eq!(b, Padding::Explicit([[0, 0], [2, 2]]));
/// # let _ = a;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Padding<const D: usize = 2> {
    /// None: the window stays inside.
    #[default]
    Valid,
    /// As many as make the output ⌈input / stride⌉ large; an odd one goes behind (below and to the right).
    Same,
    /// Before and after each axis: `[[top, bottom], [left, right]]` of an image.
    Explicit([[usize; 2]; D]),
}

impl<const D: usize> Padding<D> {
    /// The numbers before and after each axis, for an input of this size.
    pub(crate) fn sides(
        &self,
        input: &[usize],
        kernel: &[usize],
        stride: &[usize],
        dilation: &[usize],
    ) -> [[usize; 2]; D] {
        match *self {
            Padding::Valid => [[0; 2]; D],
            Padding::Explicit(pad) => pad,
            Padding::Same => std::array::from_fn(|i| {
                let out = input[i].div_ceil(stride[i]).max(1);
                let covered = (out - 1) * stride[i] + extent(kernel[i], dilation[i]);
                let total = covered.saturating_sub(input[i]);
                [total / 2, total - total / 2]
            }),
        }
    }
}

impl<const D: usize> From<usize> for Padding<D> {
    fn from(n: usize) -> Self {
        Padding::Explicit([[n; 2]; D])
    }
}
impl<const D: usize> From<[usize; D]> for Padding<D> {
    fn from(p: [usize; D]) -> Self {
        Padding::Explicit(p.map(|n| [n; 2]))
    }
}
impl From<(usize, usize)> for Padding<2> {
    fn from((h, w): (usize, usize)) -> Self {
        [h, w].into()
    }
}
impl From<(usize, usize, usize)> for Padding<3> {
    fn from((d, h, w): (usize, usize, usize)) -> Self {
        [d, h, w].into()
    }
}
impl<const D: usize> From<[[usize; 2]; D]> for Padding<D> {
    fn from(pads: [[usize; 2]; D]) -> Self {
        Padding::Explicit(pads)
    }
}

/// No size of a window, and no input with its padding, is larger than this, so that sums and products of two of them do not overflow.
pub(crate) const MOST: usize = 1 << 31;

/// Refuses zeros and sizes beyond all reason.
pub(crate) fn check_sizes(op: &'static str, sizes: &[(&str, &[usize])]) -> Result<()> {
    for (name, sizes) in sizes {
        if sizes.contains(&0) {
            return Err(Error::argument(
                op,
                format!("{name} {sizes:?} must be at least 1 on each axis"),
            ));
        }
        check_most(op, name, sizes)?;
    }
    Ok(())
}

/// Refuses sizes beyond all reason.
pub(crate) fn check_most(op: &'static str, name: &str, sizes: &[usize]) -> Result<()> {
    if sizes.iter().any(|&v| v >= MOST) {
        return Err(Error::argument(
            op,
            format!("{name} {sizes:?} is too large; sizes must be below 2^31"),
        ));
    }
    Ok(())
}

/// The number of elements from a window's first tap to its last.
pub(crate) fn extent(kernel: usize, dilation: usize) -> usize {
    // Both below 2^31, and at least 1.
    dilation * (kernel - 1) + 1
}

/// The axes that a window moves over, in words: behind batch and channels, or behind channels alone.
pub(crate) fn layout(axes: usize) -> String {
    let spatial = match axes {
        1 => "length".to_string(),
        2 => "height, width".to_string(),
        3 => "depth, height, width".to_string(),
        n => format!("{n} axes"),
    };
    format!("[batch, channels, {spatial}] or [channels, {spatial}]")
}

/// The name of one of those axes.
pub(crate) fn axis_name(axes: usize, i: usize) -> &'static str {
    match (axes, axes - 1 - i) {
        (1, _) => "length",
        (_, 0) => "width",
        (_, 1) => "height",
        (_, 2) => "depth",
        _ => "size",
    }
}

/// Whether there is a batch axis before the channels.
pub(crate) fn batched(op: &'static str, x: &[usize], axes: usize) -> Result<bool> {
    match x.len().checked_sub(axes) {
        Some(2) => Ok(true),
        Some(1) => Ok(false),
        _ => Err(Error::shape(
            op,
            format!("the input has shape {x:?}, but must be {}", layout(axes)),
        )),
    }
}
