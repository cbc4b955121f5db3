//! Normalisation by mean and standard deviation, with a weight and a bias. The formulas stand in [`kernel::norm`](crate::kernel::norm).

mod batch;
mod composed;
mod group;
mod planes;
mod rows;

pub use batch::BatchStats;
pub(crate) use batch::{batch_norm, batch_norm_with};
pub(crate) use group::{group_norm, instance_norm, instance_stats};
pub(crate) use planes::Then;
pub(crate) use rows::{layer_norm, rms_norm};

use crate::element::Element;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::tensor::Tensor;

/// The elements of a dense tensor.
fn slice<T: Element>(x: &Tensor<T>) -> &[T] {
    x.as_slice().unwrap_or(&[])
}

/// Refuses a weight or a bias of another shape than `expected`, and an epsilon that is negative or NaN.
fn check<T: Float>(
    op: &'static str,
    [weight, bias]: [Option<&Tensor<T>>; 2],
    expected: &[usize],
    eps: f64,
) -> Result<()> {
    for (what, t) in [("weight", weight), ("bias", bias)] {
        if let Some(t) = t.filter(|t| t.shape() != expected) {
            let message = format!("the {what} has shape {:?}; expected {expected:?}", t.shape());
            return Err(Error::shape(op, message));
        }
    }
    if eps.is_nan() || eps < 0.0 {
        return Err(Error::argument(op, format!("eps is {eps}; it must be at least 0")));
    }
    Ok(())
}
