//! Slices in the manner of NumPy: ranges with steps, negative indices, several axes at once.

use std::ops::{Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

use crate::element::Element;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

use super::apply_view;
use super::view::View;

/// Which elements of an axis: from `start` up to but not including `end`, every `step`-th. Negative positions count from the end, a negative step
/// walks backwards, and positions outside the axis are cut to it, all as in NumPy's `start:end:step`.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::Slice;
/// let x = Tensor::<i64>::arange(0, 10, 1)?;
/// assert_eq!(x.slice(Slice::from(1..8).step(3))?.to_vec(), [1, 4, 7]);
/// assert_eq!(x.slice(Slice::from(-3..))?.to_vec(), [7, 8, 9]);
/// assert_eq!(x.slice(Slice::all().step(-4))?.to_vec(), [9, 5, 1]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    start: Option<isize>,
    end: Option<isize>,
    step: isize,
}

impl Slice {
    /// The whole axis.
    pub fn all() -> Self {
        Slice { start: None, end: None, step: 1 }
    }

    /// From `start` up to but not including `end`. The same as `Slice::from(start..end)`, for literal ends of unlike sign, where the range
    /// would look empty to clippy.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::Slice;
    /// let x = Tensor::<i64>::arange(0, 5, 1)?;
    /// assert_eq!(x.slice(Slice::new(1, -1))?.to_vec(), [1, 2, 3]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn new(start: isize, end: isize) -> Self {
        Slice { start: Some(start), end: Some(end), step: 1 }
    }

    /// With another step.
    pub fn step(self, step: isize) -> Self {
        Slice { step, ..self }
    }

    /// First element, count and step for an axis of `size` elements.
    fn resolve(self, size: usize) -> Result<(usize, usize, isize)> {
        if self.step == 0 {
            return Err(Error::argument("slice", "the step is 0; it must be positive or negative"));
        }
        let n = size as isize;
        let (low, high) = if self.step > 0 { (0, n) } else { (-1, n - 1) };
        let place = |p: isize| (if p < 0 { p.saturating_add(n) } else { p }).clamp(low, high);
        let start = self.start.map_or(if self.step > 0 { low } else { high }, place);
        let end = self.end.map_or(if self.step > 0 { high } else { low }, place);
        let distance = if self.step > 0 { end - start } else { start - end };
        let count =
            if distance <= 0 { 0 } else { (distance as usize).div_ceil(self.step.unsigned_abs()) };
        Ok((if count == 0 { 0 } else { start as usize }, count, self.step))
    }
}

macro_rules! slice_from {
    ($($t:ty),*) => {$(
        impl From<Range<$t>> for Slice {
            fn from(r: Range<$t>) -> Self {
                Slice { start: Some(r.start as isize), end: Some(r.end as isize), step: 1 }
            }
        }
        impl From<RangeInclusive<$t>> for Slice {
            fn from(r: RangeInclusive<$t>) -> Self {
                let end = *r.end() as isize;
                // `..=-1` ends with the last element, which no exclusive end but "none" can say.
                Slice { start: Some(*r.start() as isize), end: (end != -1).then_some(end + 1), step: 1 }
            }
        }
        impl From<RangeFrom<$t>> for Slice {
            fn from(r: RangeFrom<$t>) -> Self {
                Slice { start: Some(r.start as isize), end: None, step: 1 }
            }
        }
        impl From<RangeTo<$t>> for Slice {
            fn from(r: RangeTo<$t>) -> Self {
                Slice { start: None, end: Some(r.end as isize), step: 1 }
            }
        }
        impl From<RangeToInclusive<$t>> for Slice {
            fn from(r: RangeToInclusive<$t>) -> Self {
                let end = r.end as isize;
                Slice { start: None, end: (end != -1).then_some(end + 1), step: 1 }
            }
        }
        impl From<$t> for Index {
            fn from(i: $t) -> Self {
                Index::At(i as isize)
            }
        }
        impl From<Range<$t>> for Index {
            fn from(r: Range<$t>) -> Self {
                Index::Slice(r.into())
            }
        }
        impl From<RangeInclusive<$t>> for Index {
            fn from(r: RangeInclusive<$t>) -> Self {
                Index::Slice(r.into())
            }
        }
        impl From<RangeFrom<$t>> for Index {
            fn from(r: RangeFrom<$t>) -> Self {
                Index::Slice(r.into())
            }
        }
        impl From<RangeTo<$t>> for Index {
            fn from(r: RangeTo<$t>) -> Self {
                Index::Slice(r.into())
            }
        }
        impl From<RangeToInclusive<$t>> for Index {
            fn from(r: RangeToInclusive<$t>) -> Self {
                Index::Slice(r.into())
            }
        }
    )*};
}
slice_from!(i32, isize, usize);

impl From<RangeFull> for Slice {
    fn from(_: RangeFull) -> Self {
        Slice::all()
    }
}

/// What stands for one axis in [`Tensor::slice`]: a range, or one index whose axis goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    /// One element; its axis goes away.
    At(isize),
    /// A range of elements.
    Slice(Slice),
}

impl From<Slice> for Index {
    fn from(s: Slice) -> Self {
        Index::Slice(s)
    }
}
impl From<RangeFull> for Index {
    fn from(_: RangeFull) -> Self {
        Index::Slice(Slice::all())
    }
}

/// One index or range for each of the first axes: a single one, a tuple, a slice or a `Vec`.
pub trait IntoIndices {
    /// As a list.
    fn indices(self) -> Vec<Index>;
}

impl<I: Into<Index>> IntoIndices for I {
    fn indices(self) -> Vec<Index> {
        vec![self.into()]
    }
}
impl IntoIndices for &[Index] {
    fn indices(self) -> Vec<Index> {
        self.to_vec()
    }
}
impl IntoIndices for Vec<Index> {
    fn indices(self) -> Vec<Index> {
        self
    }
}

macro_rules! indices_tuple {
    ($($a:ident $i:tt),*) => {
        impl<$($a: Into<Index>),*> IntoIndices for ($($a,)*) {
            fn indices(self) -> Vec<Index> {
                vec![$(self.$i.into()),*]
            }
        }
    };
}
indices_tuple!(A 0);
indices_tuple!(A 0, B 1);
indices_tuple!(A 0, B 1, C 2);
indices_tuple!(A 0, B 1, C 2, D 3);
indices_tuple!(A 0, B 1, C 2, D 3, E 4);
indices_tuple!(A 0, B 1, C 2, D 3, E 4, F 5);

impl<T: Element> Tensor<T> {
    /// Part of a tensor, one index or range per axis; axes not named stay whole. A view.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x = Tensor::<i64>::arange(0, 12, 1)?.reshape([3, 4])?;
    /// assert_eq!(x.slice((1.., ..2))?.to_vec(), [4, 5, 8, 9]);
    /// assert_eq!(x.slice((.., -1))?.to_vec(), [3, 7, 11]);
    /// assert_eq!(x.slice(0)?.shape(), [4]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if more axes are named than there are, [`Error::Index`] for an index out of range, [`Error::Argument`] for a step of 0.
    pub fn slice(&self, indices: impl IntoIndices) -> Result<Self> {
        let indices = indices.indices();
        if indices.len() > self.rank() {
            return Err(Error::shape(
                "slice",
                format!("{} axes are indexed but the shape is {:?}", indices.len(), self.shape()),
            ));
        }
        let mut y = self.clone();
        let mut axis = 0;
        for index in indices {
            match index {
                Index::At(i) => y = y.select(axis as isize, i)?,
                Index::Slice(s) => {
                    y = y.slice_axis(axis as isize, s)?;
                    axis += 1;
                }
            }
        }
        Ok(y)
    }

    /// A range of one axis. A view.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x = Tensor::from([[1i64, 2, 3], [4, 5, 6]]);
    /// assert_eq!(x.slice_axis(-1, 1..)?, Tensor::from([[2, 3], [5, 6]]));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`] if the axis does not exist, [`Error::Argument`] for a step of 0.
    pub fn slice_axis(&self, axis: isize, s: impl Into<Slice>) -> Result<Self> {
        let a = crate::tensor::axis("slice", axis, self.rank())?;
        let size = self.shape()[a];
        let (start, count, step) = s.into().resolve(size)?;
        if (start, count, step) == (0, size, 1) {
            return Ok(self.clone());
        }
        Ok(apply_view(View::Slice(a, start, count, step), self))
    }
}
