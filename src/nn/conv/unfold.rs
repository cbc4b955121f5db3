//! Windows as columns, and back, as layers.

use crate::Module;
use crate::error::Result;
use crate::float::Float;
use crate::nn::{Layer, Visitor, VisitorMut};
use crate::ops::{Pair, Unfold};
use crate::tensor::Tensor;

impl Module for Unfold {
    fn visit(&self, _: &mut Visitor<'_>) {}
    fn visit_mut(&mut self, _: &mut VisitorMut<'_>) {}
}

impl<T: Float> Layer<T> for Unfold {
    /// [`Tensor::unfold`].
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        x.unfold(*self)
    }
}

/// Columns added up to an image; see [`Tensor::fold`].
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::{Fold, Unfold};
/// let windows = Unfold::new(2).stride(2);
/// let x: Tensor = Tensor::arange(0.0, 16.0, 1.0)?.reshape([1, 1, 4, 4])?;
/// assert_eq!(Fold::new(4, windows).forward(&windows.forward(&x)?)?, x);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Fold {
    /// Height and width of the image.
    pub size: [usize; 2],
    /// The windows.
    pub windows: Unfold,
}

impl Fold {
    /// To an image of this size.
    pub fn new(size: impl Into<Pair>, windows: impl Into<Unfold>) -> Self {
        Fold { size: size.into().0, windows: windows.into() }
    }
}

impl Module for Fold {
    fn visit(&self, _: &mut Visitor<'_>) {}
    fn visit_mut(&mut self, _: &mut VisitorMut<'_>) {}
}

impl<T: Float> Layer<T> for Fold {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        x.fold(self.size, self.windows)
    }
}
