//! All parameters of a model as one vector of numbers.

use std::collections::HashSet;

use crate::autograd::Gradients;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::nn::{ItemMut, Module, Param, VisitorMut, with_param};
use crate::tensor::Tensor;

/// All parameters of a model as one vector, in the order of the walk; tied ones count once.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::{flatten_params, set_flat_params};
/// let mut model: (Param, Param) = (Param::new(Tensor::from([[1.0, 2.0]])), Param::new(Tensor::from([3.0])));
/// assert_eq!(flatten_params(&model), [1.0, 2.0, 3.0]);
/// set_flat_params(&mut model, &[4.0, 5.0, 6.0])?;
/// assert_eq!((model.0.to_vec(), model.1.to_vec()), (vec![4.0, 5.0], vec![6.0]));
/// # Ok::<(), Error>(())
/// ```
pub fn flatten_params(model: &impl Module) -> Vec<f64> {
    let mut flat = Vec::with_capacity(model.num_params());
    let mut seen = HashSet::new();
    model.for_each_param(|_, p| {
        if seen.insert(p.id()) {
            with_param!(ParamRef, p, p => flat.extend(p.iter().map(|v| v.as_f64())));
        }
    });
    flat
}

/// Sets all parameters of a model to the numbers of one vector, in the order of [`flatten_params`].
///
/// # Errors
/// [`Error::Shape`] if there are more or fewer numbers than parameters, [`Error::Argument`] if this is a watched copy; nothing is changed.
pub fn set_flat_params(model: &mut impl Module, values: &[f64]) -> Result<()> {
    const OP: &str = "set_flat_params";
    let n = model.num_params();
    if n != values.len() {
        let message = format!("{} numbers for a model of {n}", values.len());
        return Err(Error::shape(OP, message));
    }
    let mut recorded = false;
    model.for_each_param(|_, p| recorded |= with_param!(ParamRef, p, p => p.is_recorded()));
    if recorded {
        let message = "this model is the copy that tape.watch returned; set the model itself";
        return Err(Error::argument(OP, message));
    }
    let mut places = std::collections::HashMap::new();
    let mut at = 0;
    VisitorMut::walk(model, &mut |_, item| {
        if let ItemMut::Param(p) = item {
            with_param!(ParamMut, p, p => {
                let begin = *places.entry(p.id()).or_insert_with(|| {
                    at += p.len();
                    at - p.len()
                });
                let values = values.get(begin..begin + p.len()).unwrap_or(&[]);
                set(p, values);
            });
        }
    });
    Ok(())
}

fn set<T: Float>(p: &mut Param<T>, values: &[f64]) {
    let shape = p.shape().to_vec();
    p.set(Tensor::build(&shape, |out| {
        out.iter_mut().zip(values).for_each(|(o, &v)| *o = T::of(v));
    }));
}

/// The gradients of all parameters of a model as one vector, in the order of [`flatten_params`]; 0 for those without one.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::flatten_gradients;
/// let w: Param = Param::new(Tensor::from([1.0, 2.0]));
/// let grads = Tape::new(0).watch(&w).square().sum().backward()?;
/// assert_eq!(flatten_gradients(&w, &grads)?, [2.0, 4.0]);
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// [`Error::ForeignGradients`] if none of the model's parameters was watched on the gradients' tape.
pub fn flatten_gradients(model: &impl Module, grads: &Gradients) -> Result<Vec<f64>> {
    let mut flat = Vec::new();
    let (mut seen, mut watched) = (HashSet::new(), 0);
    model.for_each_param(|_, p| {
        if !seen.insert(p.id()) {
            return;
        }
        watched += grads.watched(p.id()) as usize;
        with_param!(ParamRef, p, p => match grads.get(p) {
            Some(g) => flat.extend(g.iter().map(|v| v.as_f64())),
            None => flat.extend(std::iter::repeat_n(0.0, p.len())),
        });
    });
    if watched == 0 && !seen.is_empty() {
        return Err(Error::ForeignGradients { op: "flatten_gradients", parameters: seen.len() });
    }
    Ok(flat)
}
