//! Gradients as a value: what `backward` returns and optimizers take.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::any::{AnyTensor, with_any};
use super::tape::TapeCore;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::vector;
use crate::profile::Span;
use crate::tensor::Tensor;

/// The identity of a parameter. Clones of a model keep it, so the gradients of a watched copy find the original.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ParamId(u64);

impl ParamId {
    /// One that no other parameter of this process has.
    pub(crate) fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        ParamId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The gradients of one loss with respect to the watched parameters and the leaves of a tape.
///
/// ```
/// use gradus::prelude::*;
/// let mut rng = gradus::rng(0);
/// let mut model: Dense = Dense::new(3, 1).build(&mut rng)?;
/// let tape = Tape::new(0);
/// let net = tape.watch(&model);
/// let loss = net.forward(&Tensor::ones([4, 3])?)?.sum();
/// let mut grads = loss.backward()?;
/// assert_eq!(grads.get(&model.weight).unwrap().to_vec(), [4.0, 4.0, 4.0]);
/// let norm = grads.clip_norm(1.0)?;                       // the norm before clipping
/// assert!((norm - 64f64.sqrt()).abs() < 1e-6);
/// Sgd::new(0.1).step(&mut model, &grads)?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct Gradients {
    /// In order of identity, so that sums over them have a fixed order.
    params: Vec<ParamGrad>,
    /// Gradients of leaves that are no parameters, in order of their places.
    leaves: Vec<(u32, AnyTensor)>,
    tape: TapeCore,
}

/// A watched parameter, its leaf, and its gradient if the loss depends on it.
#[derive(Clone)]
pub(crate) struct ParamGrad {
    pub(crate) id: ParamId,
    pub(crate) leaf: u32,
    pub(crate) grad: Option<AnyTensor>,
}

impl Gradients {
    pub(crate) fn new(
        mut params: Vec<ParamGrad>,
        leaves: Vec<(u32, AnyTensor)>,
        tape: TapeCore,
    ) -> Self {
        params.sort_unstable_by_key(|p| p.id);
        Gradients { params, leaves, tape }
    }

    fn find(&self, id: ParamId) -> Option<&ParamGrad> {
        self.params.binary_search_by_key(&id, |p| p.id).ok().map(|i| &self.params[i])
    }

    /// The entry of a parameter, made if there is none yet.
    fn entry(&mut self, id: ParamId, leaf: u32) -> &mut ParamGrad {
        let i = match self.params.binary_search_by_key(&id, |p| p.id) {
            Ok(i) => i,
            Err(i) => {
                self.params.insert(i, ParamGrad { id, leaf, grad: None });
                i
            }
        };
        &mut self.params[i]
    }

    /// The gradient with respect to a tensor that [`Tape::leaf`](super::Tape::leaf) returned, or a watched parameter's tensor; `None` if the loss
    /// does not depend on it. Gradients of intermediate results are not kept.
    pub fn wrt<T: Float>(&self, x: &Tensor<T>) -> Option<&Tensor<T>> {
        let tape = x.tape()?;
        if !tape.same(&self.tape) {
            return None;
        }
        let place = TapeCore::id_of(x.link());
        let leaf = self.leaves.iter().find(|(l, _)| *l == place).map(|(_, g)| g);
        let param = || self.params.iter().find(|p| p.leaf == place).and_then(|p| p.grad.as_ref());
        leaf.or_else(param)?.get()
    }

    /// Whether the parameter was watched on the tape that these gradients come from.
    pub(crate) fn watched(&self, id: ParamId) -> bool {
        self.find(id).is_some()
    }

    pub(crate) fn by_id<T: Float>(&self, id: ParamId) -> Option<&Tensor<T>> {
        self.find(id)?.grad.as_ref()?.get()
    }

    /// Sets the gradient of a parameter.
    pub(crate) fn replace<T: Float>(&mut self, id: ParamId, g: Tensor<T>) {
        self.entry(id, super::tape::NOWHERE).grad = Some(AnyTensor::new(g));
    }

    /// Adds the gradients of another step of the same model, for batches larger than memory holds, or to average over workers.
    ///
    /// ```
    /// # use gradus::prelude::*;
    /// # let model: Dense = Dense::new(2, 1).build(&mut gradus::rng(0))?;
    /// # let step = |x: &Tensor| -> Result<Gradients> { Tape::new(0).watch(&model).forward(x)?.mean().backward() };
    /// # let halves = [Tensor::ones([4, 2])?, Tensor::zeros([4, 2])?];
    /// let mut total = step(&halves[0])?;
    /// total.accumulate(&step(&halves[1])?)?;
    /// total.scale(0.5);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if a parameter's two gradients differ in shape or type.
    pub fn accumulate(&mut self, other: &Gradients) -> Result<()> {
        for theirs in &other.params {
            let mine = self.entry(theirs.id, theirs.leaf);
            match (&mut mine.grad, &theirs.grad) {
                (_, None) => {}
                (Some(a), Some(b)) => add_to("accumulate", a, b)?,
                (none, Some(b)) => *none = Some(b.clone()),
            }
        }
        Ok(())
    }

    /// Multiplies every gradient by a number.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let w: Param = Param::new(Tensor::from([1.0, 1.0]));
    /// let mut grads = Tape::new(0).watch(&w).sum().backward()?;
    /// grads.scale(0.5);
    /// assert_eq!(grads.get(&w).unwrap().to_vec(), [0.5, 0.5]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn scale(&mut self, factor: f64) {
        for g in self.every_mut() {
            with_any!(g, t => scale(t, factor));
        }
    }

    /// The Euclidean norm of all parameter gradients taken as one vector.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let w: Param = Param::new(Tensor::from([0.0, 0.0]));
    /// let grads = Tape::new(0).watch(&w).backward_with(&Tensor::from([3.0, 4.0]))?;
    /// assert_eq!(grads.norm(), 5.0);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn norm(&self) -> f64 {
        self.every().map(|g| with_any!(g, t => sum_of_squares(t))).sum::<f64>().sqrt()
    }

    /// The p-norm of all parameter gradients taken as one vector: (Σ |g|ᵖ)^(1/p), or the largest |g| for an infinite p.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let w: Param = Param::new(Tensor::from([0.0, 0.0]));
    /// let grads = Tape::new(0).watch(&w).backward_with(&Tensor::from([3.0, -4.0]))?;
    /// assert_eq!((grads.norm_p(1.0)?, grads.norm_p(f64::INFINITY)?), (7.0, 4.0));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] unless p is above 0.
    pub fn norm_p(&self, p: f64) -> Result<f64> {
        if p.is_nan() || p <= 0.0 {
            return Err(Error::argument(
                "norm_p",
                format!("p is {p}; it must be above 0, perhaps infinite"),
            ));
        }
        if p == 2.0 {
            return Ok(self.norm());
        }
        let numbers = self.every().flat_map(|g| -> Vec<f64> {
            with_any!(g, t => t.iter().map(|v| v.as_f64().abs()).collect())
        });
        if p.is_infinite() {
            // A NaN must come out as one, which `f64::max` would swallow.
            return Ok(numbers.fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a }));
        }
        Ok(numbers.map(|v| v.powf(p)).sum::<f64>().powf(1.0 / p))
    }

    /// Scales all gradients down together so that their global norm is at most `max`, and returns the norm before: they are
    /// multiplied by `min(1, max / (norm + 1e-6))` (Pascanu et al. 2013), as in PyTorch's `clip_grad_norm_`.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let w: Param = Param::new(Tensor::from([0.0, 0.0]));
    /// let mut grads = Tape::new(0).watch(&w).backward_with(&Tensor::from([3.0, 4.0]))?;
    /// assert_eq!(grads.clip_norm(1.0)?, 5.0);
    /// assert!((grads.norm() - 1.0).abs() < 1e-6);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if `max` is negative or not a number, [`Error::NonFinite`] if the norm is infinite or not a number.
    pub fn clip_norm(&mut self, max: f64) -> Result<f64> {
        self.clip_norm_p(max, 2.0)
    }

    /// [`clip_norm`](Self::clip_norm) by the [p-norm](Self::norm_p).
    ///
    /// # Errors
    /// As `clip_norm`, and [`Error::Argument`] unless p is above 0.
    pub fn clip_norm_p(&mut self, max: f64, p: f64) -> Result<f64> {
        if max.is_nan() || max < 0.0 {
            return Err(Error::argument(
                "clip_norm",
                format!("the largest norm is {max}; it must be 0 or more"),
            ));
        }
        let norm = self.norm_p(p)?;
        if !norm.is_finite() {
            return Err(Error::NonFinite {
                op: "clip_norm",
                message: format!(
                    "the norm of the gradients is {norm}; check_finite(&model) tells which parameter it comes from"
                ),
            });
        }
        let factor = max / (norm + 1e-6);
        if factor < 1.0 {
            self.scale(factor);
        }
        Ok(norm)
    }

    /// Limits every single number of the gradients to `[-max, max]`.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let w: Param = Param::new(Tensor::from([0.0, 0.0]));
    /// let mut grads = Tape::new(0).watch(&w).backward_with(&Tensor::from([3.0, -4.0]))?;
    /// grads.clip_value(3.5)?;
    /// assert_eq!(grads.get(&w).unwrap().to_vec(), [3.0, -3.5]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if `max` is negative or not a number.
    pub fn clip_value(&mut self, max: f64) -> Result<()> {
        if max.is_nan() || max < 0.0 {
            return Err(Error::argument(
                "clip_value",
                format!("the largest value is {max}; it must be 0 or more"),
            ));
        }
        for g in self.every_mut() {
            with_any!(g, t => clamp(t, max));
        }
        Ok(())
    }

    fn every(&self) -> impl Iterator<Item = &AnyTensor> {
        self.params.iter().filter_map(|p| p.grad.as_ref())
    }

    fn every_mut(&mut self) -> impl Iterator<Item = &mut AnyTensor> {
        self.params.iter_mut().filter_map(|p| p.grad.as_mut())
    }
}

impl fmt::Debug for Gradients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = self.every().count();
        write!(
            f,
            "Gradients {{ parameters: {with} of {} watched, norm: {} }}",
            self.params.len(),
            self.norm()
        )
    }
}

/// `mine += theirs`, in place where this gradient alone holds its memory.
pub(crate) fn add_to(op: &'static str, mine: &mut AnyTensor, theirs: &AnyTensor) -> Result<()> {
    match (mine, theirs) {
        (AnyTensor::F32(a), AnyTensor::F32(b)) => add_same(op, a, b),
        (AnyTensor::F64(a), AnyTensor::F64(b)) => add_same(op, a, b),
        _ => Err(Error::shape(op, "two gradients of one tensor differ in float type")),
    }
}

fn add_same<T: Float>(op: &'static str, mine: &mut Tensor<T>, theirs: &Tensor<T>) -> Result<()> {
    let span = Span::reading([mine, theirs]);
    mine.add_assign_same(op, theirs)?;
    Span::wrote(span, "sum of gradients", mine);
    Ok(())
}

fn scale<T: Float>(t: &mut Tensor<T>, factor: f64) {
    vector::scale(t.make_mut(), T::of(factor));
}

fn clamp<T: Float>(t: &mut Tensor<T>, max: f64) {
    vector::clamp(t.make_mut(), T::of(max));
}

/// Sum of squares in f64, in a fixed order.
pub(crate) fn sum_of_squares<T: Float>(t: &Tensor<T>) -> f64 {
    match t.as_slice() {
        Some(s) => vector::sum_of_squares(s),
        None => vector::sum_of_squares(t.dense().as_slice().unwrap_or(&[])),
    }
}
