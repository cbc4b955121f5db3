//! Normalisation layers.

mod batch;
mod group;
mod instance;
mod layer;

pub use batch::{BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d, BatchNormBuilder};
pub use group::{GroupNorm, GroupNormBuilder};
pub use instance::{
    InstanceNorm, InstanceNorm1d, InstanceNorm2d, InstanceNorm3d, InstanceNormBuilder,
};
pub use layer::{LayerNorm, LayerNormBuilder, RMSNorm, RMSNormBuilder};

use super::{Buffer, Param};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::tensor::Tensor;

/// A weight of ones or a bias of zeros, if there is to be one.
fn param<T: Float>(there: bool, shape: &[usize], value: f64) -> Result<Option<Param<T>>> {
    match there {
        true => Ok(Some(Param::new(Tensor::full(shape, T::of(value))?))),
        false => Ok(None),
    }
}

/// Runs what a layer computes at its place in its model, which any of its parameters knows.
fn within<T: Float, R>(
    params: [&Option<Param<T>>; 2],
    run: impl FnOnce() -> Result<R>,
) -> Result<R> {
    match params.into_iter().flatten().next() {
        Some(p) => p.within(run),
        None => run(),
    }
}

/// running ← (1 - factor) running + factor · new
fn move_towards<T: Float>(running: &Buffer<T>, new: &Tensor<T>, factor: f64) {
    let mut value = running.get();
    let (keep, take) = (T::of(1.0 - factor), T::of(factor));
    for (r, n) in value.make_mut().iter_mut().zip(new.iter()) {
        *r = keep * *r + take * n;
    }
    running.set(value);
}

/// Refuses an epsilon or a momentum that makes no sense.
fn check(layer: &'static str, eps: f64, momentum: Option<f64>) -> Result<()> {
    if eps.is_nan() || eps < 0.0 {
        return Err(Error::argument(layer, format!("eps is {eps}; it must be at least 0")));
    }
    match momentum {
        Some(m) if !(0.0..=1.0).contains(&m) => Err(Error::argument(
            layer,
            format!("the momentum is {m}; it must be from 0 to 1, or None for the mean of all"),
        )),
        _ => Ok(()),
    }
}
