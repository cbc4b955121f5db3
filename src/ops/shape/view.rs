//! Views: the same elements under another layout. Forward changes integers; backward is the view undone.

use crate::element::Element;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::copy::to_dense;
use crate::ops::broadcast::sum_to;
use crate::tensor::{Dims, IntoAxes, IntoReshape, IntoShape, Layout, Tensor, axis};
use std::ops::{Bound, RangeBounds};

use super::{apply_view, try_view};

/// Bytes that an expanded tensor may stand for: more than memory holds anywhere, so that what computes with it would end the process.
const LARGEST_VIEW: usize = 1 << 40;

/// What a view does to the layout. Each knows its way back for a gradient.
#[derive(Clone)]
pub(super) enum View {
    /// To another shape with as many elements; a copy where the layout does not allow a view.
    Reshape(Dims),
    Permute(Dims),
    /// Axis, first element, count, step.
    Slice(usize, usize, usize, isize),
    Expand(Dims),
}

impl View {
    pub(super) fn name(&self) -> &'static str {
        match self {
            View::Reshape(_) => "reshape",
            View::Permute(_) => "permute",
            View::Slice(..) => "slice",
            View::Expand(_) => "expand",
        }
    }

    pub(super) fn forward<T: Element>(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let layout = match self {
            View::Reshape(shape) => match x.layout().reshape(shape) {
                Some(layout) => layout,
                None => {
                    return Tensor::try_build(self.name(), shape, |out| {
                        to_dense(x.buffer(), x.layout(), out)
                    });
                }
            },
            View::Permute(axes) => x.layout().permute(axes),
            View::Slice(axis, start, count, step) => x.layout().slice(*axis, *start, *count, *step),
            View::Expand(shape) => x.layout().expand(shape),
        };
        Ok(x.with_layout(layout))
    }

    /// The places of what it shows in a dense array of shape `from`, if that is part of it.
    pub(super) fn part(&self, from: &[usize]) -> Option<Layout> {
        match self {
            &View::Slice(axis, start, count, step) => {
                Some(Layout::dense(from).slice(axis, start, count, step))
            }
            _ => None,
        }
    }

    /// The gradient of an input of shape `from`.
    pub(super) fn vjp<T: Float>(&self, from: &[usize], g: &Tensor<T>) -> Result<Tensor<T>> {
        match self {
            View::Reshape(_) => g.reshape(from),
            View::Permute(axes) => {
                let mut inverse: Dims = axes.clone();
                axes.iter().enumerate().for_each(|(i, &a)| inverse[a] = i);
                Ok(apply_view(View::Permute(inverse), g))
            }
            &View::Slice(axis, start, count, step) => {
                if count == from[axis] && step == -1 {
                    return Ok(apply_view(View::Slice(axis, start, count, step), g));
                }
                super::slice_grad::put_slice(g, from, axis, start, step)
            }
            View::Expand(_) => Ok(sum_to(g, from)),
        }
    }
}

impl<T: Element> Tensor<T> {
    /// The elements in row-major order in another shape; one size may be -1. A view where the layout allows it, else a copy.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    /// assert_eq!(x.reshape([3, -1])?.shape(), [3, 2]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the numbers of elements differ, [`Error::Overflow`] if it must be copied and memory is lacking.
    pub fn reshape(&self, shape: impl IntoReshape) -> Result<Self> {
        let shape = shape.resolve(self.shape())?;
        if shape[..] == *self.shape() {
            return Ok(self.clone());
        }
        try_view(View::Reshape(shape), self)
    }

    /// Merges a range of axes into one: `x.flatten(1..)` keeps the batch, `x.flatten(..)` makes a vector.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::zeros([2, 3, 4])?;
    /// assert_eq!(x.flatten(1..)?.shape(), [2, 12]);
    /// assert_eq!(x.flatten(..)?.shape(), [24]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`] if the range leaves the axes.
    pub fn flatten(&self, axes: impl RangeBounds<usize>) -> Result<Self> {
        let rank = self.rank();
        let start = match axes.start_bound() {
            Bound::Included(&s) => s,
            Bound::Excluded(&s) => s.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match axes.end_bound() {
            Bound::Included(&e) => e.saturating_add(1),
            Bound::Excluded(&e) => e,
            Bound::Unbounded => rank,
        };
        if start > end || end > rank {
            return Err(Error::Axis { op: "flatten", axis: start.max(end) as isize, rank });
        }
        let mut shape: Dims = self.shape()[..start].into();
        // Merging no axes inserts one of size 1, so that a single number flattens to a vector.
        shape.push(self.shape()[start..end].iter().product());
        shape.extend_from_slice(&self.shape()[end..]);
        self.reshape(&shape)
    }

    /// The axes in another order. A view.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::zeros([2, 3, 4])?;
    /// assert_eq!(x.permute([2, 0, 1])?.shape(), [4, 2, 3]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`] or [`Error::Argument`] unless each axis comes once.
    pub fn permute(&self, axes: impl IntoAxes) -> Result<Self> {
        let axes = axes.axes("permute", self.rank())?;
        if axes.len() != self.rank() {
            return Err(Error::argument(
                "permute",
                format!(
                    "{} axes given for a tensor of shape {:?}; name each once",
                    axes.len(),
                    self.shape()
                ),
            ));
        }
        Ok(apply_view(View::Permute(axes), self))
    }

    /// Two axes exchanged; negative ones count from the end. A view.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::zeros([2, 3, 4])?;
    /// assert_eq!(x.transpose(0, -1)?.shape(), [4, 3, 2]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`] if one does not exist.
    pub fn transpose(&self, a: isize, b: isize) -> Result<Self> {
        let (a, b) = (axis("transpose", a, self.rank())?, axis("transpose", b, self.rank())?);
        let mut axes: Dims = (0..self.rank()).collect();
        axes.swap(a, b);
        Ok(apply_view(View::Permute(axes), self))
    }

    /// The last two axes exchanged: the matrix transpose, of each matrix of a batch. A view.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([[1i64, 2], [3, 4]]).t()?, Tensor::from([[1, 3], [2, 4]]));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if there are fewer than two axes.
    pub fn t(&self) -> Result<Self> {
        if self.rank() < 2 {
            return Err(Error::shape(
                "t",
                format!("shape {:?} has no two axes to exchange", self.shape()),
            ));
        }
        self.transpose(-2, -1)
    }

    /// Repeats axes of size 1, and adds leading axes, to reach `shape`. A view: nothing is copied.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0], [2.0]]);
    /// assert_eq!(x.expand([2, 3])?.to_vec(), [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if a size that is not 1 would change, [`Error::Overflow`] if the elements, written out, were more than a TiB.
    pub fn expand(&self, shape: impl IntoShape) -> Result<Self> {
        let shape = shape.into_shape();
        // Nothing is written here, but the next operation writes it all, and most of those cannot fail.
        let bytes = crate::tensor::numel("expand", &shape)?.saturating_mul(size_of::<T>());
        if bytes > LARGEST_VIEW {
            return Err(Error::Overflow { op: "expand", shape: shape.to_vec() });
        }
        let pad = shape.len().checked_sub(self.rank());
        let fits = pad
            .is_some_and(|p| self.shape().iter().zip(&shape[p..]).all(|(&a, &b)| a == b || a == 1));
        if !fits {
            return Err(Error::shape(
                "expand",
                format!(
                    "{:?} to {:?}: only axes of size 1 and new leading axes can be repeated",
                    self.shape(),
                    &shape[..]
                ),
            ));
        }
        if shape[..] == *self.shape() {
            return Ok(self.clone());
        }
        Ok(apply_view(View::Expand(shape), self))
    }

    /// Without the given axes, which must be of size 1; `..` drops every axis of size 1. A view.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::zeros([1, 3, 1])?;
    /// assert_eq!(x.squeeze(0)?.shape(), [3, 1]);
    /// assert_eq!(x.squeeze(..)?.shape(), [3]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if a named axis has another size, [`Error::Axis`] if it does not exist.
    pub fn squeeze(&self, axes: impl IntoAxes + 'static) -> Result<Self> {
        let all = std::any::Any::type_id(&axes) == std::any::TypeId::of::<std::ops::RangeFull>();
        let axes = axes.axes("squeeze", self.rank())?;
        let mut shape = Dims::new();
        for (i, &d) in self.shape().iter().enumerate() {
            if !axes.contains(&i) || (all && d != 1) {
                shape.push(d);
            } else if d != 1 {
                return Err(Error::shape(
                    "squeeze",
                    format!(
                        "axis {i} of shape {:?} has size {d}; only axes of size 1 can go",
                        self.shape()
                    ),
                ));
            }
        }
        self.reshape(&shape)
    }

    /// With a new axis of size 1 before the given one; -1 is behind the last. A view.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::zeros([3])?;
    /// assert_eq!(x.unsqueeze(0)?.shape(), [1, 3]);
    /// assert_eq!(x.unsqueeze(-1)?.shape(), [3, 1]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`] if the place does not exist.
    pub fn unsqueeze(&self, at: isize) -> Result<Self> {
        let at = axis("unsqueeze", at, self.rank() + 1)?;
        let mut shape: Dims = self.shape().into();
        shape.insert(at, 1);
        // Through the layout, so that it is a view whatever the strides.
        if self.is_recorded() {
            return Ok(apply_view(View::Reshape(shape), self));
        }
        Ok(self.with_layout(self.layout().insert(at)))
    }

    /// The elements along the given axes in reverse order. A view.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([1i64, 2, 3]).flip(0)?.to_vec(), [3, 2, 1]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`] if one does not exist.
    pub fn flip(&self, axes: impl IntoAxes) -> Result<Self> {
        let mut y = self.clone();
        for a in axes.axes("flip", self.rank())? {
            let n = y.shape()[a];
            if n > 0 {
                y = apply_view(View::Slice(a, n - 1, n, -1), &y);
            }
        }
        Ok(y)
    }

    /// `len` elements of one axis from `start`. A view.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([1i64, 2, 3, 4]).narrow(0, 1, 2)?.to_vec(), [2, 3]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Index`] if they do not all exist.
    pub fn narrow(&self, axis: isize, start: usize, len: usize) -> Result<Self> {
        let a = crate::tensor::axis("narrow", axis, self.rank())?;
        let size = self.shape()[a];
        if start.checked_add(len).is_none_or(|end| end > size) {
            return Err(Error::Index {
                op: "narrow",
                index: i64::try_from(start.saturating_add(len).saturating_sub(1))
                    .unwrap_or(i64::MAX),
                what: format!("axis {a}"),
                size,
            });
        }
        Ok(apply_view(View::Slice(a, start, len, 1), self))
    }

    /// One element of an axis, which goes away; negative indices count from the end. A view.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 2.0], [3.0, 4.0]]);
    /// assert_eq!(x.select(0, -1)?.to_vec(), [3.0, 4.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`] or [`Error::Index`] if it does not exist.
    pub fn select(&self, axis: isize, index: isize) -> Result<Self> {
        let a = crate::tensor::axis("select", axis, self.rank())?;
        let size = self.shape()[a];
        let i = if index < 0 { index + size as isize } else { index };
        if i < 0 || i >= size as isize {
            return Err(Error::Index {
                op: "select",
                index: index as i64,
                what: format!("axis {a}"),
                size,
            });
        }
        let mut shape: Dims = self.shape().into();
        shape.remove(a);
        let one = apply_view(View::Slice(a, i as usize, 1, 1), self);
        if one.is_recorded() {
            return Ok(apply_view(View::Reshape(shape), &one));
        }
        Ok(one.with_layout(one.layout().remove(a)))
    }
}
