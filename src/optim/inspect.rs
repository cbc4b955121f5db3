//! Looking at gradients by the names of their parameters.

use crate::autograd::Gradients;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::nn::{Module, Param, with_param};

impl Gradients {
    /// Whether every number of the gradients of a model is finite.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let w: Param = Param::new(Tensor::from([1.0, 2.0]));
    /// let tape = Tape::new(0);
    /// let grads = tape.watch(&w).backward_with(&Tensor::from([1.0, f32::NAN]))?;
    /// assert!(grads.check_finite(&w).is_err());
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NonFinite`] with the path of each parameter whose gradient has infinities or NaNs, and how many;
    /// [`Error::ForeignGradients`] if none of the model's parameters was watched on the gradients' tape.
    pub fn check_finite(&self, model: &impl Module) -> Result<()> {
        let (mut bad, mut parameters, mut watched) = (Vec::new(), 0, 0);
        model.for_each_param(|path, p| {
            parameters += 1;
            watched += self.watched(p.id()) as usize;
            let (of, n) = with_param!(ParamRef, p, p => (p.len(), not_finite(self, p)));
            if n > 0 {
                bad.push(format!("{path} ({n} of {of} values)"));
            }
        });
        if watched == 0 && parameters > 0 {
            return Err(Error::ForeignGradients { op: "check_finite", parameters });
        }
        if bad.is_empty() {
            return Ok(());
        }
        let message =
            format!("the gradients of these parameters are not finite: {}", bad.join(", "));
        Err(Error::NonFinite { op: "check_finite", message })
    }

    /// The path of each parameter of a model that has a gradient, with the Euclidean norm of that gradient.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let model: (Param, Param) = (Param::new(Tensor::from([1.0, 2.0])), Param::new(Tensor::from([0.0])));
    /// let tape = Tape::new(0);
    /// let grads = tape.watch(&model).0.backward_with(&Tensor::from([3.0, 4.0]))?;
    /// assert_eq!(grads.norms(&model), [("0".to_string(), 5.0)]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn norms(&self, model: &impl Module) -> Vec<(String, f64)> {
        let mut norms = Vec::new();
        model.for_each_param(|path, p| {
            if let Some(norm) = with_param!(ParamRef, p, p => norm(self, p)) {
                norms.push((path.to_string(), norm));
            }
        });
        norms
    }
}

fn not_finite<T: Float>(grads: &Gradients, p: &Param<T>) -> usize {
    grads.get(p).map_or(0, |g| g.iter().filter(|v| !v.is_finite()).count())
}

fn norm<T: Float>(grads: &Gradients, p: &Param<T>) -> Option<f64> {
    grads.get(p).map(|g| crate::autograd::sum_of_squares(g).sqrt())
}
