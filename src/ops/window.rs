//! What convolution and pooling say about their windows: pairs of sizes, and padding.

use crate::error::{Error, Result};

/// A size for height and width: one number for both, or two.
///
/// ```
/// use gradus::nn::Pair;
/// assert_eq!(Pair::from(3), Pair::from([3, 3]));
/// assert_eq!(Pair::from((3, 5)), Pair([3, 5]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair(pub [usize; 2]);

impl From<usize> for Pair {
    fn from(n: usize) -> Self {
        Pair([n; 2])
    }
}
impl From<[usize; 2]> for Pair {
    fn from(p: [usize; 2]) -> Self {
        Pair(p)
    }
}
impl From<(usize, usize)> for Pair {
    fn from((h, w): (usize, usize)) -> Self {
        Pair([h, w])
    }
}

/// Zeros around an image before a window moves over it. A number or a pair (height, width) pads both sides alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Padding {
    /// None: the window stays inside.
    #[default]
    Valid,
    /// As many as make the output ⌈input / stride⌉ large; an odd one goes below and to the right.
    Same,
    /// `[[top, bottom], [left, right]]`.
    Explicit([[usize; 2]; 2]),
}

impl From<usize> for Padding {
    fn from(n: usize) -> Self {
        Padding::Explicit([[n; 2]; 2])
    }
}
impl From<[usize; 2]> for Padding {
    fn from([h, w]: [usize; 2]) -> Self {
        Padding::Explicit([[h; 2], [w; 2]])
    }
}
impl From<(usize, usize)> for Padding {
    fn from((h, w): (usize, usize)) -> Self {
        Padding::Explicit([[h; 2], [w; 2]])
    }
}
impl From<[[usize; 2]; 2]> for Padding {
    fn from(pads: [[usize; 2]; 2]) -> Self {
        Padding::Explicit(pads)
    }
}

/// No size of a window, and no input with its padding, is larger than this, so that sums and products of two of them do not overflow.
pub(super) const MOST: usize = 1 << 31;

/// Refuses zeros and sizes beyond all reason.
pub(super) fn check_sizes(op: &'static str, sizes: &[(&str, [usize; 2])]) -> Result<()> {
    for (name, pair) in sizes {
        if pair.contains(&0) {
            return Err(Error::argument(
                op,
                format!("{name} {pair:?} must be at least 1 on each axis"),
            ));
        }
        check_most(op, name, *pair)?;
    }
    Ok(())
}

/// Refuses sizes beyond all reason.
pub(super) fn check_most(op: &'static str, name: &str, pair: [usize; 2]) -> Result<()> {
    if pair.iter().any(|&v| v >= MOST) {
        return Err(Error::argument(
            op,
            format!("{name} {pair:?} is too large; sizes must be below 2^31"),
        ));
    }
    Ok(())
}

/// The number of elements from a window's first tap to its last.
pub(super) fn extent(kernel: usize, dilation: usize) -> usize {
    // Both below 2^31, and at least 1.
    dilation * (kernel - 1) + 1
}
