//! Adding one gradient to another, in place where memory allows.

use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::vector;
use crate::tensor::Tensor;

impl<T: Float> Tensor<T> {
    /// `self += other` for equal shapes; in place if this tensor alone holds its elements. Not recorded.
    pub(crate) fn add_assign_same(&mut self, op: &'static str, other: &Tensor<T>) -> Result<()> {
        if self.shape() != other.shape() {
            return Err(Error::shape(
                op,
                format!(
                    "two gradients of one tensor differ in shape: {:?} and {:?}",
                    self.shape(),
                    other.shape()
                ),
            ));
        }
        let other = other.dense();
        let b = other.as_slice().unwrap_or(&[]);
        if let Some(a) = self.unique_dense() {
            vector::add(None, a, b);
            return Ok(());
        }
        let mine = self.dense();
        *self = Tensor::build(self.shape(), |out| vector::add(mine.as_slice(), out, b));
        Ok(())
    }
}
