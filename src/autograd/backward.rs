//! The backward pass: a loop over the tape from its end to its beginning.

use smallvec::SmallVec;

use super::any::AnyTensor;
use super::gradients::{Gradients, ParamGrad, add_to};
use super::tape::{NOWHERE, Node, TapeCore};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::profile::{self, Phase};
use crate::tensor::Tensor;

impl<T: Float> Tensor<T> {
    /// The gradients of this number with respect to everything watched. Consumes the recording of its tape, and frees what it
    /// held while it goes.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let tape = Tape::new(0);
    /// let x = tape.leaf(&Tensor::from([1.0f32, -2.0]));
    /// let grads = x.square().sum().backward()?;
    /// assert_eq!(grads.wrt(&x).unwrap().to_vec(), [2.0, -4.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotScalar`] if this is not a single number, [`Error::NotRecorded`] if no tape recorded it,
    /// [`Error::TapeConsumed`] if a `backward` came before.
    pub fn backward(&self) -> Result<Gradients> {
        const OP: &str = "backward";
        if self.len() != 1 {
            return Err(Error::NotScalar { op: OP, shape: self.shape().to_vec() });
        }
        self.backward_from(OP, self.ones_like())
    }

    /// Like [`backward`](Self::backward) for an output of any shape: the gradients of `sum(self * cotangent)`.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let tape = Tape::new(0);
    /// let x = tape.leaf(&Tensor::from([1.0f32, -2.0]));
    /// let grads = x.square().backward_with(&Tensor::from([1.0, 10.0]))?;
    /// assert_eq!(grads.wrt(&x).unwrap().to_vec(), [2.0, -40.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes differ, and those of `backward` but `NotScalar`.
    pub fn backward_with(&self, cotangent: &Tensor<T>) -> Result<Gradients> {
        const OP: &str = "backward_with";
        if cotangent.shape() != self.shape() {
            return Err(Error::shape(
                OP,
                format!(
                    "the cotangent has shape {:?}, the output {:?}",
                    cotangent.shape(),
                    self.shape()
                ),
            ));
        }
        self.backward_from(OP, cotangent.detach())
    }

    fn backward_from(&self, op: &'static str, seed: Tensor<T>) -> Result<Gradients> {
        let tape = self.tape().ok_or(Error::NotRecorded { op })?;
        let root = TapeCore::id_of(self.link());
        let (nodes, params) = {
            let mut state = tape.lock();
            if state.consumed || root == NOWHERE {
                return Err(Error::TapeConsumed { op });
            }
            state.consumed = true;
            (std::mem::take(&mut state.nodes), std::mem::take(&mut state.params))
        };
        let _phase = profile::phase(Phase::Backward);
        let mut leaves = propagate(&tape, nodes, root, AnyTensor::new(seed))?;
        let params = params
            .into_iter()
            .map(|(id, leaf)| {
                // Moved, not shared: whoever scales or adds to a gradient then works in place.
                let found = leaves.iter().position(|(l, _)| *l == leaf);
                ParamGrad { id, leaf, grad: found.map(|i| leaves.swap_remove(i).1) }
            })
            .collect();
        Ok(Gradients::new(params, leaves, tape))
    }
}

/// Walks from `root` to the leaves and returns the gradients of the leaves it reached.
fn propagate(
    tape: &TapeCore,
    mut nodes: Vec<Node>,
    root: u32,
    seed: AnyTensor,
) -> Result<Vec<(u32, AnyTensor)>> {
    let root = root as usize;
    // What came after the root cannot influence it; dropping it first frees its memory early.
    nodes.truncate(root + 1);
    let mut grads: Vec<Option<AnyTensor>> = Vec::with_capacity(root + 1);
    grads.resize_with(root + 1, || None);
    grads[root] = Some(seed);
    let mut leaves = Vec::new();
    while let Some(node) = nodes.pop() {
        let id = nodes.len();
        let Some(g) = grads[id].take() else { continue };
        match node {
            Node::Leaf => {
                leaves.push((id as u32, g));
            }
            Node::Op { inputs, op } => {
                if profile::on() {
                    profile::set_layer(tape.layer_at(id as u32));
                }
                if let [input] = inputs[..]
                    && let Some(Some(there)) = grads.get_mut(input as usize)
                    && op.add_part(&g, there)
                {
                    continue;
                }
                let name = op.name();
                let needs: SmallVec<[bool; 8]> = inputs.iter().map(|&i| i != NOWHERE).collect();
                let mut sum_error = None;
                op.backward(g, &needs, &mut |k, d| {
                    let slot = &mut grads[inputs[k] as usize];
                    match slot {
                        None => *slot = Some(d),
                        Some(mine) => {
                            if let Err(e) = add_to(name, mine, &d) {
                                sum_error = Some(e);
                            }
                        }
                    }
                })?;
                if let Some(e) = sum_error {
                    return Err(e);
                }
            }
        }
    }
    Ok(leaves)
}
