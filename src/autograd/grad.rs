//! Gradients on a live tape: recorded themselves, so that they can be part of a loss.
//!
//! The walk is that of `backward`, but the tape stays as it is, only what lies between the output and the asked-for inputs is visited, and
//! every rule is computed by recorded operations.

use smallvec::SmallVec;

use super::any::AnyTensor;
use super::op::Place;
use super::tape::{NOWHERE, TapeCore};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::profile::{self, Phase};
use crate::tensor::Tensor;

/// The gradients of a number with respect to some of the tensors that it was computed from (leaves, watched parameters or intermediate results). They
/// are recorded on the same tape, which stays alive: compute with them and call `backward`, or `grad` again.
///
/// A gradient penalty, as in Gulrajani et al. (2017):
///
/// ```
/// use gradus::prelude::*;
/// use gradus::autograd::grad;
/// let critic: Dense = Dense::new(3, 1).build(&mut gradus::rng(0))?;
/// let tape = Tape::new(0);
/// let net = tape.watch(&critic);
/// let x = tape.leaf(&Tensor::ones([4, 3])?);
/// let y = net.forward(&x)?.sum();
/// let slope = &grad(&y, &[&x])?[0];                                // [4, 3], recorded
/// let penalty = (slope.square().sum_axes(1, false)?.sqrt() - 1.0).square().mean();
/// let grads = penalty.backward()?;
/// assert!(grads.get(&critic.weight).is_some());
/// # Ok::<(), Error>(())
/// ```
///
/// An input that the number does not depend on gets zeros.
///
/// # Errors
/// [`Error::NotScalar`] if `y` is not a single number, [`Error::NotRecorded`] if no tape recorded it, [`Error::TapeConsumed`] after a
/// `backward`, [`Error::Argument`] if an input is not on the same tape.
/// [`Error::OnceDifferentiable`] names an operation whose gradient cannot be differentiated, when that is attempted.
pub fn grad<T: Float>(y: &Tensor<T>, inputs: &[&Tensor<T>]) -> Result<Vec<Tensor<T>>> {
    const OP: &str = "grad";
    if y.len() != 1 {
        return Err(Error::NotScalar { op: OP, shape: y.shape().to_vec() });
    }
    gradients(OP, y, inputs, y.ones_like(), true)
}

/// [`grad`] for an output of any shape: the gradients of `sum(y * cotangent)`, the vector-Jacobian product. The cotangent may be recorded too.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::autograd::grad_with;
/// let tape = Tape::new(0);
/// let x = tape.leaf(&Tensor::from([1.0f64, -2.0]));
/// let y = x.powi(3);
/// let dx = &grad_with(&y, &[&x], &Tensor::from([1.0, 10.0]))?[0];     // 3 x² times the cotangent
/// assert_eq!(dx.to_vec(), [3.0, 120.0]);
/// assert_eq!(dx.sum().backward()?.wrt(&x).unwrap().to_vec(), [6.0, -120.0]);
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// As [`grad`] but `NotScalar`; [`Error::Shape`] if the cotangent's shape is not that of `y`, [`Error::TapesMixed`] if it stands on another tape.
pub fn grad_with<T: Float>(
    y: &Tensor<T>,
    inputs: &[&Tensor<T>],
    cotangent: &Tensor<T>,
) -> Result<Vec<Tensor<T>>> {
    const OP: &str = "grad_with";
    if cotangent.shape() != y.shape() {
        let message =
            format!("the cotangent has shape {:?}, the output {:?}", cotangent.shape(), y.shape());
        return Err(Error::shape(OP, message));
    }
    gradients(OP, y, inputs, cotangent.clone(), true)
}

/// The gradients with respect to `inputs`, recorded or not; the tape is left as it is.
pub(super) fn gradients<T: Float>(
    op: &'static str,
    y: &Tensor<T>,
    inputs: &[&Tensor<T>],
    seed: Tensor<T>,
    record: bool,
) -> Result<Vec<Tensor<T>>> {
    let tape = y.tape().ok_or(Error::NotRecorded { op })?;
    let root = TapeCore::id_of(y.link());
    if tape.lock().consumed || root == NOWHERE {
        return Err(Error::TapeConsumed { op });
    }
    if seed.tape().is_some_and(|t| !t.same(&tape)) {
        return Err(Error::TapesMixed { op });
    }
    let targets: Vec<u32> = inputs
        .iter()
        .enumerate()
        .map(|(i, x)| match x.tape() {
            Some(t) if t.same(&tape) && TapeCore::id_of(x.link()) != NOWHERE => {
                Ok(TapeCore::id_of(x.link()))
            }
            _ => Err(Error::argument(
                op,
                format!(
                    "input {i} is not recorded on the tape of the output; take it from tape.leaf(&x), from the watched copy of the model, or from what was computed with them"
                ),
            )),
        })
        .collect::<Result<_>>()?;
    let seed = if record { seed } else { seed.detach() };
    let found = walk(&tape, root, AnyTensor::new(seed), &targets, record)?;
    Ok(found
        .into_iter()
        .zip(inputs)
        .map(|(g, x)| g.and_then(AnyTensor::take).unwrap_or_else(|| x.zeros_like()))
        .collect())
}

/// Which places up to `root` depend on one of the targets.
fn dependents(tape: &TapeCore, root: u32, targets: &[u32]) -> Vec<bool> {
    let mut depends = vec![false; root as usize + 1];
    let state = tape.lock();
    for (id, node) in state.nodes.iter().enumerate().take(depends.len()) {
        depends[id] = targets.contains(&(id as u32))
            || node.inputs().iter().any(|&i| depends.get(i as usize) == Some(&true));
    }
    depends
}

/// Walks from `root` back to the targets and returns the gradient of each, `None` for what is not reached.
fn walk(
    tape: &TapeCore,
    root: u32,
    seed: AnyTensor,
    targets: &[u32],
    record: bool,
) -> Result<Vec<Option<AnyTensor>>> {
    let depends = dependents(tape, root, targets);
    let mut grads: Vec<Option<AnyTensor>> = Vec::new();
    grads.resize_with(depends.len(), || None);
    grads[root as usize] = Some(seed);
    let mut found: Vec<Option<AnyTensor>> = vec![None; targets.len()];
    let first = targets.iter().copied().min().unwrap_or(root);
    let _phase = profile::phase(Phase::Backward);
    for id in (first..=root).rev() {
        let Some(g) = grads[id as usize].take().filter(|_| depends[id as usize]) else { continue };
        for (found, _) in found.iter_mut().zip(targets).filter(|(_, t)| **t == id) {
            *found = Some(g.clone());
        }
        let Some((inputs, op)) = tape.operation(id) else { continue };
        let name = op.name();
        if profile::on() {
            profile::set_layer(tape.layer_at(id));
        }
        let needs: SmallVec<[bool; 8]> =
            inputs.iter().map(|&i| i != NOWHERE && depends[i as usize]).collect();
        if !needs.contains(&true) {
            continue;
        }
        let mut sum_error = None;
        let mut sink = |k: usize, d: AnyTensor| {
            let slot = &mut grads[inputs[k] as usize];
            match slot.take().map_or(Ok(d.clone()), |mine| mine.plus(name, &d)) {
                Ok(sum) => *slot = Some(sum),
                Err(e) => sum_error = Some(e),
            }
        };
        if record {
            let at = Place { tape, inputs: &inputs, output: id };
            op.backward_recorded(&at, g, &needs, &mut sink)?;
        } else {
            op.backward(g, &needs, &mut sink)?;
        }
        if let Some(e) = sum_error {
            return Err(e);
        }
    }
    Ok(found)
}
