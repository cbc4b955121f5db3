//! What may stand where a shape, a reshape or a set of axes is asked for.

use std::ops::RangeFull;

use smallvec::SmallVec;

use super::layout::{self, Dims};
use crate::error::{Error, Result};

/// A shape: an array, slice or `Vec` of sizes, one size, or `()` for a single number.
///
/// ```
/// use gradus::prelude::*;
/// let x: Tensor = Tensor::zeros([2, 3])?;
/// let sizes = vec![2, 3];
/// assert_eq!(x, Tensor::zeros(&sizes)?);
/// assert_eq!((Tensor::<f32>::zeros(4)?.shape(), Tensor::<f32>::zeros(())?.shape()), (&[4][..], &[][..]));
/// # Ok::<(), Error>(())
/// ```
pub trait IntoShape {
    /// The sizes.
    fn into_shape(self) -> Dims;
}

impl<const N: usize> IntoShape for [usize; N] {
    fn into_shape(self) -> Dims {
        layout::short(&self)
    }
}
impl<const N: usize> IntoShape for &[usize; N] {
    fn into_shape(self) -> Dims {
        layout::short(self)
    }
}
impl IntoShape for &[usize] {
    fn into_shape(self) -> Dims {
        layout::short(self)
    }
}
impl IntoShape for Vec<usize> {
    fn into_shape(self) -> Dims {
        SmallVec::from_vec(self)
    }
}
impl IntoShape for &Vec<usize> {
    fn into_shape(self) -> Dims {
        layout::short(self)
    }
}
impl IntoShape for Dims {
    fn into_shape(self) -> Dims {
        self
    }
}
impl IntoShape for &Dims {
    fn into_shape(self) -> Dims {
        self.clone()
    }
}
impl IntoShape for usize {
    fn into_shape(self) -> Dims {
        layout::short(&[self])
    }
}
impl IntoShape for () {
    fn into_shape(self) -> Dims {
        Dims::new()
    }
}

/// A shape in which one size may be -1, to be worked out from the rest.
pub trait IntoReshape {
    /// The sizes for `len` elements of shape `from`.
    fn resolve(self, from: &[usize]) -> Result<Dims>;
}

fn resolve(from: &[usize], to: &[isize]) -> Result<Dims> {
    let len: usize = from.iter().product();
    let refuse = |why: &str| Err(Error::shape("reshape", format!("{from:?} to {to:?}: {why}")));
    if to.iter().any(|&d| d < -1) {
        return refuse("a size is negative; only -1 (work it out) may be");
    }
    let known =
        match to.iter().filter(|&&d| d >= 0).try_fold(1usize, |n, &d| n.checked_mul(d as usize)) {
            Some(n) => n,
            // A zero elsewhere in the shape would make it fit, but an overflow is never what was meant.
            None => return refuse("the sizes multiply to more than memory can address"),
        };
    match to.iter().filter(|&&d| d == -1).count() {
        0 if known != len => refuse(&format!("{len} elements do not fill {known} places")),
        0 => Ok(to.iter().map(|&d| d as usize).collect()),
        1 if known == 0 => refuse("-1 cannot be worked out beside a size of 0"),
        1 if !len.is_multiple_of(known) => {
            refuse(&format!("{len} elements are not a multiple of {known}"))
        }
        1 => Ok(to.iter().map(|&d| if d == -1 { len / known } else { d as usize }).collect()),
        _ => refuse("more than one size is -1"),
    }
}

macro_rules! reshape_signed {
    ($($t:ty),*) => {$(
        impl<const N: usize> IntoReshape for [$t; N] {
            fn resolve(self, from: &[usize]) -> Result<Dims> {
                resolve(from, &self.map(|d| d as isize))
            }
        }
    )*};
}
reshape_signed!(isize, i32, i64);

fn resolve_usize(from: &[usize], to: &[usize]) -> Result<Dims> {
    let signed: SmallVec<[isize; 6]> =
        to.iter().map(|&d| d.min(isize::MAX as usize) as isize).collect();
    resolve(from, &signed)
}
impl<const N: usize> IntoReshape for [usize; N] {
    fn resolve(self, from: &[usize]) -> Result<Dims> {
        resolve_usize(from, &self)
    }
}
impl IntoReshape for &[usize] {
    fn resolve(self, from: &[usize]) -> Result<Dims> {
        resolve_usize(from, self)
    }
}
impl IntoReshape for Vec<usize> {
    fn resolve(self, from: &[usize]) -> Result<Dims> {
        resolve_usize(from, &self)
    }
}
impl IntoReshape for &Dims {
    fn resolve(self, from: &[usize]) -> Result<Dims> {
        resolve_usize(from, self)
    }
}
impl IntoReshape for &[isize] {
    fn resolve(self, from: &[usize]) -> Result<Dims> {
        resolve(from, self)
    }
}

/// Axes to reduce over or permute: one number, an array, slice or `Vec` of them, or `..` for all. Negative ones count from the end.
pub trait IntoAxes {
    /// The axes as indices, in the order given, each once.
    ///
    /// # Errors
    /// [`Error::Axis`] for one that does not exist, [`Error::Argument`] for one that comes twice.
    fn axes(self, op: &'static str, rank: usize) -> Result<Dims>;
}

fn axes(op: &'static str, rank: usize, given: impl Iterator<Item = isize>) -> Result<Dims> {
    let mut out = Dims::new();
    for a in given {
        let i = layout::axis(op, a, rank)?;
        if out.contains(&i) {
            return Err(Error::argument(op, format!("axis {a} is given twice")));
        }
        out.push(i);
    }
    Ok(out)
}

macro_rules! axes_of {
    ($($t:ty),*) => {$(
        impl IntoAxes for $t {
            fn axes(self, op: &'static str, rank: usize) -> Result<Dims> {
                axes(op, rank, std::iter::once(self as isize))
            }
        }
        impl<const N: usize> IntoAxes for [$t; N] {
            fn axes(self, op: &'static str, rank: usize) -> Result<Dims> {
                axes(op, rank, self.into_iter().map(|a| a as isize))
            }
        }
        impl IntoAxes for &[$t] {
            fn axes(self, op: &'static str, rank: usize) -> Result<Dims> {
                axes(op, rank, self.iter().map(|&a| a as isize))
            }
        }
        impl IntoAxes for Vec<$t> {
            fn axes(self, op: &'static str, rank: usize) -> Result<Dims> {
                axes(op, rank, self.into_iter().map(|a| a as isize))
            }
        }
    )*};
}
axes_of!(i32, isize, usize, i64);

impl IntoAxes for RangeFull {
    fn axes(self, _: &'static str, rank: usize) -> Result<Dims> {
        Ok((0..rank).collect())
    }
}
