//! Which axes an operation reduces, and the way back from its result to the shape of its input.

use crate::element::Element;
use crate::error::Result;
use crate::tensor::{Dims, IntoAxes, Layout, Tensor};

/// The axes of an input that an operation reduces.
#[derive(Clone, Debug)]
pub(crate) struct Reduced {
    /// The shape of the input.
    pub(crate) shape: Dims,
    /// The reduced axes in ascending order.
    pub(crate) axes: Dims,
    /// Whether they stay as axes of size 1.
    pub(crate) keepdim: bool,
}

impl Reduced {
    /// # Errors
    /// [`Error::Axis`](crate::Error::Axis) and [`Error::Argument`](crate::Error::Argument) of [`IntoAxes`].
    pub(crate) fn new(
        op: &'static str,
        shape: &[usize],
        axes: impl IntoAxes,
        keepdim: bool,
    ) -> Result<Self> {
        let mut axes = axes.axes(op, shape.len())?;
        axes.sort_unstable();
        Ok(Reduced { shape: shape.into(), axes, keepdim })
    }

    /// Every axis, to a single number.
    pub(crate) fn all(shape: &[usize]) -> Self {
        Reduced { shape: shape.into(), axes: (0..shape.len()).collect(), keepdim: false }
    }

    /// How many elements become one.
    pub(crate) fn count(&self) -> usize {
        self.axes.iter().map(|&a| self.shape[a]).product()
    }

    /// The shape of the result.
    pub(crate) fn out_shape(&self) -> Dims {
        let size = |a: usize| if self.axes.contains(&a) { 1 } else { self.shape[a] };
        (0..self.shape.len()).filter(|a| self.keepdim || !self.axes.contains(a)).map(size).collect()
    }

    /// A tensor in the shape of the result, seen in the shape of the input: repeated along the reduced axes. A view.
    pub(crate) fn expand<T: Element>(&self, y: &Tensor<T>) -> Tensor<T> {
        let mut from = y.strides().iter();
        let strides = (0..self.shape.len())
            .map(|a| {
                let reduced = self.axes.contains(&a);
                let step = if reduced && !self.keepdim { None } else { from.next() };
                step.filter(|_| !reduced).copied().unwrap_or(0)
            })
            .collect();
        y.with_layout(Layout { shape: self.shape.clone(), strides, offset: y.layout().offset })
    }

    /// [`expand`](Self::expand) as a recorded operation.
    pub(crate) fn expand_recorded<T: Element>(&self, y: &Tensor<T>) -> Result<Tensor<T>> {
        let kept = Reduced { keepdim: true, ..self.clone() };
        y.reshape(&kept.out_shape()[..])?.expand(&self.shape[..])
    }

    /// The axes as the methods of tensors take them.
    pub(crate) fn signed(&self) -> Vec<isize> {
        self.axes.iter().map(|&a| a as isize).collect()
    }

    /// The order of axes that puts the reduced ones last.
    pub(crate) fn order(&self) -> Dims {
        (0..self.shape.len())
            .filter(|a| !self.axes.contains(a))
            .chain(self.axes.iter().copied())
            .collect()
    }

    /// The input with the elements of each result side by side, in row-major order: so many rows of [`count`](Self::count).
    /// Copies only where they do not stand so.
    pub(crate) fn rows<T: Element>(&self, x: &Tensor<T>) -> Tensor<T> {
        x.with_layout(x.layout().permute(&self.order())).dense()
    }

    /// The way back from [`rows`](Self::rows): a dense tensor in that order, seen in the shape of the input. A view.
    pub(crate) fn unrows<T: Element>(&self, rows: &Tensor<T>) -> Tensor<T> {
        let order = self.order();
        let mut back: Dims = order.clone();
        for (i, &a) in order.iter().enumerate() {
            back[a] = i;
        }
        let shape: Dims = order.iter().map(|&a| self.shape[a]).collect();
        let dense = Layout { offset: rows.layout().offset, ..Layout::dense(&shape) };
        rows.with_layout(dense.permute(&back))
    }
}
