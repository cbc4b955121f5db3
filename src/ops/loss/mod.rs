//! Losses between predictions and targets. Those of one number per element are rows of [`pointwise`]; the rest are compositions of
//! operations, but for CTC.

mod bce;
mod ctc;
mod dice;
mod focal;
mod hinge;
mod kl_div;
mod likelihood;
mod multi_margin;
pub(crate) mod pointwise;
mod ranking;
mod regression;
mod triplet;

pub use bce::{Bce, BceWithLogits};
pub use ctc::CtcLoss;
pub use dice::DiceLoss;
pub use focal::FocalLoss;
pub use hinge::{BinaryHinge, HingeEmbedding, SoftMargin};
pub use kl_div::KlDiv;
pub use likelihood::{GaussianNll, PoissonNll};
pub use multi_margin::MultiMargin;
pub use ranking::{CosineEmbedding, MarginRanking};
pub use regression::{Huber, Mae, SmoothL1};
pub use triplet::TripletMargin;

use super::cross_entropy::{Reduction, place};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::map::Map;
use crate::kernel::pair;
use crate::tensor::{Tensor, broadcast};

/// The losses of a batch, reduced.
pub(crate) fn reduce<T: Float>(y: Tensor<T>, reduction: Reduction) -> Tensor<T> {
    match reduction {
        Reduction::Mean => y.mean(),
        Reduction::Sum => y.sum(),
        Reduction::None => y,
    }
}

/// # Errors
/// [`Error::Shape`] unless both shapes are the same: `[32]` against `[32, 1]` would silently compare all with all.
pub(crate) fn same_shape<T: Float>(op: &'static str, x: &Tensor<T>, t: &Tensor<T>) -> Result<()> {
    if x.shape() == t.shape() {
        return Ok(());
    }
    Err(Error::shape(
        op,
        format!(
            "the prediction has shape {:?}, the target {:?}; they must be the same, for example by reshaping one of them",
            x.shape(),
            t.shape()
        ),
    ))
}

/// # Errors
/// [`Error::Shape`] unless the weight can be broadcast to the shape of the prediction.
fn check_broadcast<T: Float>(
    op: &'static str,
    what: &str,
    weight: &Tensor<T>,
    shape: &[usize],
) -> Result<()> {
    match broadcast(op, weight.shape(), shape) {
        Ok(out) if out[..] == *shape => Ok(()),
        _ => Err(Error::shape(
            op,
            format!(
                "the {what} has shape {:?}, which does not broadcast to the {shape:?} of the prediction",
                weight.shape()
            ),
        )),
    }
}

/// # Errors
/// [`Error::Shape`] unless the three have one rank, and sizes that are the same or 1.
fn broadcast_all<T: Float>(op: &'static str, x: [(&str, &Tensor<T>); 3]) -> Result<()> {
    let [a, b, c] = x.map(|(_, x)| x.shape());
    let one_rank = a.len() == b.len() && b.len() == c.len();
    if one_rank && broadcast(op, a, b).and_then(|ab| broadcast(op, &ab, c)).is_ok() {
        return Ok(());
    }
    let each = x.map(|(name, x)| format!("the {name} has shape {:?}", x.shape())).join(", ");
    Err(Error::shape(
        op,
        format!("{each}; they need the same number of axes, and sizes that are the same or 1"),
    ))
}

/// `low <= x <= high`; not so for NaN.
#[derive(Clone, Copy)]
pub(crate) struct Within<T>(pub(crate) T, pub(crate) T);
impl<T: Float> Map<T, bool> for Within<T> {
    #[inline(always)]
    fn at<const FMA: bool>(self, x: T) -> bool {
        (x >= self.0) & (x <= self.1)
    }
}

/// Whether an element is -1 or 1.
#[derive(Clone, Copy)]
struct Sign;
impl<T: Float> Map<T, bool> for Sign {
    #[inline(always)]
    fn at<const FMA: bool>(self, x: T) -> bool {
        (x == T::ONE) | (x == -T::ONE)
    }
}

/// # Errors
/// [`Error::Argument`] that begins with `what` and the first element that fails the test, and ends with `rule`.
fn check<T: Float>(
    op: &'static str,
    what: &str,
    x: &Tensor<T>,
    test: impl Map<T, bool>,
    rule: &str,
) -> Result<()> {
    let dense = x.dense();
    let values = dense.as_slice().unwrap_or(&[]);
    match pair::first_failing(test, values) {
        None => Ok(()),
        Some(i) => {
            let at = if x.rank() == 0 {
                String::new()
            } else {
                format!(" at {:?}", place(x.shape(), i))
            };
            Err(Error::argument(op, format!("the {what} {}{at} {rule}", values[i])))
        }
    }
}

/// # Errors
/// [`Error::Argument`] for a probability outside 0 to 1, or NaN.
fn check_probabilities<T: Float>(
    op: &'static str,
    what: &str,
    x: &Tensor<T>,
    mend: &str,
) -> Result<()> {
    check(op, what, x, Within(T::ZERO, T::ONE), &format!("is not between 0 and 1{mend}"))
}

/// # Errors
/// [`Error::Argument`] for a target that is neither -1 nor 1.
fn check_signs<T: Float>(op: &'static str, t: &Tensor<T>) -> Result<()> {
    check(op, "target", t, Sign, "is neither -1 nor 1; of targets 0 and 1, take 2 t - 1")
}

/// # Errors
/// [`Error::Argument`] for a setting that is NaN or not above its bound.
fn check_setting(op: &'static str, what: &str, value: f64, fits: bool, rule: &str) -> Result<()> {
    if fits && !value.is_nan() {
        return Ok(());
    }
    Err(Error::argument(op, format!("{what} is {value}; it must be {rule}")))
}
