//! Segments whose intermediate results are computed again for the backward pass instead of kept.

use std::collections::HashSet;

use super::module::{Item, Module, Visitor};
use super::param::{ParamRef, with_param};
use crate::autograd::{OpMany, ParamId, Tape, TapeCore, apply_many};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::ops::float_only::{is, same_type};
use crate::profile::{Phase, phase};
use crate::tensor::Tensor;

/// Runs a part of a model and keeps its inputs only: what lies between is computed a second time when the gradient comes (Chen et al.,
/// "Training Deep Nets with Sublinear Memory Cost", 2016). It costs one more forward pass of the segment, and frees its activations.
///
/// The result and every gradient are those of `f(segment, inputs)`. Dropout draws the same numbers both times, and running statistics
/// are updated once. A parameter must be reached through `segment`: one that `f` captures would be a constant.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::recompute;
/// let mut rng = gradus::rng(0);
/// let model: (Dense, Dense) = (Dense::new(4, 64).build(&mut rng)?, Dense::new(64, 1).build(&mut rng)?);
/// let tape = Tape::new(0);
/// let net = tape.watch(&model);
/// let x = Tensor::ones([8, 4])?;
/// let h = recompute(&net.0, [&x], |layer, [x]| Ok(layer.forward(x)?.tanh()))?;
/// let grads = net.1.forward(&h)?.mean().backward()?;
/// assert!(grads.get(&model.0.weight).is_some());
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// Those of `f`; [`Error::Argument`] if a recorded parameter of the segment has another float type than the inputs.
pub fn recompute<T: Float, M, const N: usize>(
    segment: &M,
    inputs: [&Tensor<T>; N],
    f: impl Fn(&M, [&Tensor<T>; N]) -> Result<Tensor<T>> + Send + Sync + 'static,
) -> Result<Tensor<T>>
where
    M: Module + Clone + Send + Sync + 'static,
{
    let params = recorded(segment)?;
    let mut all: Vec<&Tensor<T>> = inputs.to_vec();
    all.extend(params.iter().map(|(_, p)| p));
    let Some(tape) = all.iter().find_map(|t| t.tape()) else {
        return f(segment, inputs);
    };
    let ids: Vec<ParamId> = params.iter().map(|(id, _)| *id).collect();
    let seed = TapeCore::next_seed(&tape);
    // The operation must not hold tensors of the tape that holds it, or neither would ever be freed.
    let segment = Tape::new(seed).watch_those(segment, &|_, _| false);
    apply_many(Segment { segment, f: Inputs::<_, N>(f), ids, seed }, &all)
}

/// The recorded parameters of a module, each once.
fn recorded<T: Float>(segment: &impl Module) -> Result<Vec<(ParamId, Tensor<T>)>> {
    let (mut seen, mut found, mut foreign) = (HashSet::new(), Vec::new(), None::<String>);
    Visitor::walk(segment, &mut |path, item| {
        let Item::Param(p) = item else { return };
        if !with_param!(ParamRef, p, p => p.is_recorded()) || !seen.insert(p.id()) {
            return;
        }
        match p {
            ParamRef::F32(p) if is::<T, f32>() => {
                found.push((p.id(), same_type(p.tensor()).clone()));
            }
            ParamRef::F64(p) if is::<T, f64>() => {
                found.push((p.id(), same_type(p.tensor()).clone()));
            }
            _ => foreign = foreign.take().or(Some(path.to_string())),
        }
    });
    match foreign {
        Some(path) => Err(Error::argument(
            "recompute",
            format!("the parameter {path} is not {}, as the inputs are", T::DTYPE),
        )),
        None => Ok(found),
    }
}

/// The segment as one operation of its inputs and its recorded parameters.
struct Segment<M, F> {
    /// Training, but not recorded.
    segment: M,
    f: F,
    ids: Vec<ParamId>,
    /// What the segment's random numbers follow from, both times.
    seed: u64,
}

impl<T: Float, M, F, const N: usize> OpMany<T> for Segment<M, Inputs<F, N>>
where
    M: Module + Clone + Send + Sync + 'static,
    F: Fn(&M, [&Tensor<T>; N]) -> Result<Tensor<T>> + Send + Sync + 'static,
{
    type Saved = Vec<Tensor<T>>;
    type Gradients = Vec<Option<Tensor<T>>>;
    const TRANSPARENT: bool = true;

    fn name(&self) -> &'static str {
        "recompute"
    }

    fn forward(&self, x: &[&Tensor<T>]) -> Result<(Tensor<T>, Self::Saved)> {
        let inputs: [Tensor<T>; N] = std::array::from_fn(|i| x[i].detach());
        let y = (self.f.0)(&self.segment, inputs.each_ref())?;
        Ok((y, x[..N].iter().map(|&x| x.clone()).collect()))
    }

    fn vjp(
        &self,
        saved: Self::Saved,
        g: Tensor<T>,
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor<T>>>> {
        let tape = Tape::new(self.seed);
        // A deep copy, so that running statistics are not updated a second time.
        let own = self.segment.clone();
        let leaves: HashSet<ParamId> =
            self.ids.iter().zip(&needs[N..]).filter(|(_, n)| **n).map(|(id, _)| *id).collect();
        let net = tape.watch_those(&own, &|_, id| leaves.contains(&id));
        let inputs: [Tensor<T>; N] = std::array::from_fn(|i| match needs[i] {
            true => tape.leaf(&saved[i]),
            false => saved[i].detach(),
        });
        let y = {
            let _phase = phase(Phase::Forward);
            (self.f.0)(&net, inputs.each_ref())?
        };
        if !y.is_recorded() {
            return Ok(vec![None; needs.len()]);
        }
        let grads = y.backward_with(&g)?;
        let of_inputs = inputs.iter().map(|x| grads.wrt(x).cloned());
        let of_params = self.ids.iter().map(|id| grads.by_id(*id).cloned());
        Ok(of_inputs.chain(of_params).collect())
    }
}

/// A function of a segment and `N` inputs; the number stands in the type, so that the operation knows it.
struct Inputs<F, const N: usize>(F);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::param::Buffer;
    use crate::nn::{Dense, Dropout, Layer, Sequential};

    #[derive(crate::Module, Clone)]
    struct Block {
        fc: Dense<f64>,
        drop: Dropout,
        calls: Buffer<i64>,
    }

    impl Layer<f64> for Block {
        fn forward(&self, x: &Tensor<f64>) -> Result<Tensor<f64>> {
            self.calls.set(self.calls.get().add_scalar(1));
            Ok(self.drop.forward(&self.fc.forward(x)?)?.tanh())
        }
    }

    fn block() -> Block {
        Block {
            fc: Dense::new(3, 3).build(&mut crate::rng(1)).unwrap(),
            drop: Dropout::new(0.5).unwrap(),
            calls: Buffer::new(Tensor::scalar(0)),
        }
    }

    /// The same gradients as without, dropout included, when the segment draws from the same seed.
    #[test]
    fn the_same_as_kept() {
        let block = block();
        let x = Tensor::<f64>::randn([5, 3], &mut crate::rng(2)).unwrap();
        let tape = Tape::new(7);
        let (net, leaf) = (tape.watch(&block), tape.leaf(&x));
        let y = recompute(&net, [&leaf], |b, [x]| b.forward(x)).unwrap();
        assert_eq!(tape.len(), 4, "two parameters, an input, the segment");
        let grads = y.square().sum().backward().unwrap();
        assert_eq!(block.calls.get().item().unwrap(), 1);

        // By hand on a tape with the seed that the segment drew.
        let inner = Tape::new(TapeCore::next_seed(Tape::new(7).core()));
        let (net, leaf2) = (inner.watch(&block), inner.leaf(&x));
        let kept = net.forward(&leaf2).unwrap();
        assert_eq!(kept.to_vec(), y.to_vec());
        assert!(kept.iter().any(|v| v == 0.0), "dropout was on");
        let want = kept.square().sum().backward().unwrap();
        assert_eq!(grads.wrt(&leaf).unwrap(), want.wrt(&leaf2).unwrap());
        assert_eq!(grads.get(&block.fc.weight).unwrap(), want.get(&block.fc.weight).unwrap());
    }

    #[test]
    fn frozen_unrecorded_and_refused() {
        let block = block();
        let x = Tensor::<f64>::ones([2, 3]).unwrap();
        let run = |b: &Block, x: &Tensor<f64>| recompute(b, [x], |b, [x]| b.forward(x));
        assert!(!run(&block, &x).unwrap().is_recorded());
        let tape = Tape::new(0);
        let net = tape.watch_where(&block, |path| path == "fc.bias");
        let grads = run(&net, &x).unwrap().sum().backward().unwrap();
        assert!(grads.get(&block.fc.weight).is_none());
        assert!(grads.get(block.fc.bias.as_ref().unwrap()).is_some());
        assert!(run(&Tape::new(0).watch(&block), &Tensor::ones([2, 4]).unwrap()).is_err());
        let other: Sequential<f32> =
            Sequential::new().add(Dense::<f32>::new(1, 1).build(&mut crate::rng(0)).unwrap());
        let e = recompute(&Tape::new(0).watch(&other), [&x], |_, [x]| Ok(x.clone())).unwrap_err();
        assert!(e.to_string().contains("0.weight is not f64"), "{e}");
    }
}
