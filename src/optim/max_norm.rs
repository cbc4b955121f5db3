//! The max-norm constraint.

use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::vector::sum_of_squares;
use crate::nn::{ItemMut, Module, VisitorMut, with_param};
use crate::tensor::Tensor;

const OP: &str = "MaxNorm";

/// Scales the weights of every unit down to a Euclidean norm of at most `c`: w = w · min(1, c/‖w‖). Source: Srivastava et al., "Dropout: A Simple Way to
/// Prevent Neural Networks from Overfitting" (2014), section 5.1, which takes 3 or 4 for `c`.
///
/// The units lie along one axis, by default the first one, that of the outputs of [`Dense`](crate::nn::Dense) and [`Conv2d`](crate::nn::Conv2d); the norm
/// is taken over all other axes. Parameters with fewer than two axes (biases) are left alone. Call it after each step, or give the optimizer
/// [`max_norm`](super::Optimizer::max_norm).
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::MaxNorm;
/// let mut model: Dense = Dense::new(2, 1).build(&mut gradus::rng(0))?;
/// model.weight.set(Tensor::from([[3.0, 4.0]]));
/// MaxNorm::new(1.0)?.apply(&mut model)?;
/// assert_eq!(model.weight.to_vec(), [0.6, 0.8]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct MaxNorm {
    c: f64,
    axis: isize,
}

impl MaxNorm {
    /// Norms of at most `c`, along the first axis.
    ///
    /// # Errors
    /// [`Error::Argument`] unless `c` is above 0.
    pub fn new(c: f64) -> Result<Self> {
        if c.is_nan() || c <= 0.0 {
            return Err(Error::argument(
                OP,
                format!("the largest norm is {c}; it must be above 0"),
            ));
        }
        Ok(MaxNorm { c, axis: 0 })
    }

    /// The axis along which the units lie; negative ones count from the end.
    pub fn axis(mut self, axis: isize) -> Self {
        self.axis = axis;
        self
    }

    /// Constrains all parameters of a model with two axes or more.
    ///
    /// # Errors
    /// As [`apply_where`](Self::apply_where).
    pub fn apply(&self, model: &mut impl Module) -> Result<()> {
        self.apply_where(model, |_| true)
    }

    /// Constrains the parameters with two axes or more whose path `which` accepts.
    ///
    /// # Errors
    /// [`Error::Argument`] with the path of a parameter that lacks the axis, or if this is a watched copy; nothing is changed.
    pub fn apply_where(&self, model: &mut impl Module, which: impl Fn(&str) -> bool) -> Result<()> {
        let mut wrong = None;
        model.for_each_param(|path, p| {
            let rank = p.shape().len();
            if rank < 2 || !which(path) || wrong.is_some() {
                return;
            }
            if with_param!(ParamRef, p, p => p.is_recorded()) {
                wrong = Some(
                    "this model is the copy that tape.watch returned; constrain the model itself"
                        .to_string(),
                );
            } else if axis_of(self.axis, rank).is_none() {
                wrong = Some(format!(
                    "the parameter {path} has no axis {}: its rank is {rank}",
                    self.axis
                ));
            }
        });
        if let Some(message) = wrong {
            return Err(Error::argument(OP, message));
        }
        VisitorMut::walk(model, &mut |path, item| {
            if let ItemMut::Param(p) = item
                && which(path)
            {
                with_param!(ParamMut, p, p => {
                    if let Some(axis) = axis_of(self.axis, p.rank()).filter(|_| p.rank() >= 2) {
                        limit_rows(p.value_mut(), axis, self.c);
                    }
                });
            }
        });
        Ok(())
    }
}

fn axis_of(axis: isize, rank: usize) -> Option<usize> {
    let at = if axis < 0 { axis + rank as isize } else { axis };
    usize::try_from(at).ok().filter(|&a| a < rank)
}

/// Limits the norm of every slice along an axis.
pub(super) fn limit_rows<T: Float>(x: &mut Tensor<T>, axis: usize, c: f64) {
    let shape = x.shape().to_vec();
    let inner: usize = shape[axis + 1..].iter().product();
    let (units, len) = (shape[axis], x.len());
    if len == 0 {
        return;
    }
    let mut squares = vec![0.0; units];
    if axis == 0 && x.as_slice().is_some() {
        let rows = x.as_slice().unwrap_or(&[]).chunks_exact(inner);
        rows.zip(&mut squares).for_each(|(row, s)| *s = sum_of_squares(row));
    } else {
        for (i, v) in x.iter().enumerate() {
            squares[i / inner % units] += v.as_f64() * v.as_f64();
        }
    }
    // A row that is not finite is left as it is, for others to find.
    let factor = |s: f64| if s.sqrt() > c && s.is_finite() { T::of(c / s.sqrt()) } else { T::ONE };
    let factors: Vec<T> = squares.into_iter().map(factor).collect();
    if factors.iter().all(|&f| f == T::ONE) {
        return;
    }
    let values = x.make_mut();
    for (run, values) in values.chunks_exact_mut(inner).enumerate() {
        let f = factors[run % units];
        if f != T::ONE {
            values.iter_mut().for_each(|v| *v *= f);
        }
    }
}
