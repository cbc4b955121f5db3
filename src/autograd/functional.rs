//! Derivatives of functions: value and gradient, Jacobian, Hessian, and Hessian-vector product. All are a few lines over [`grad`].
//!
//! An input that is recorded already stays on its tape, and what comes back is recorded there: so these functions nest.

use super::grad::gradients;
use super::tape::{Tape, TapeCore};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::tensor::Tensor;

/// The inputs on one tape: the one that some of them stand on, or a new one.
pub(super) struct OnTape<T: Float, const N: usize> {
    pub(super) x: [Tensor<T>; N],
    /// Whether the caller goes on recording.
    pub(super) nested: bool,
}

impl<T: Float, const N: usize> OnTape<T, N> {
    pub(super) fn new(x: [&Tensor<T>; N]) -> Self {
        let found: Option<TapeCore> = x.iter().find_map(|x| x.tape());
        let nested = found.is_some();
        let tape = found.unwrap_or_else(|| Tape::new(0).core().clone());
        let x = x.map(|x| if x.is_recorded() { x.clone() } else { tape.leaf(x) });
        OnTape { x, nested }
    }

    /// What is handed to the caller: recorded only where they record.
    fn give(&self, t: Tensor<T>) -> Tensor<T> {
        if self.nested { t } else { t.detach() }
    }

    pub(super) fn grad(
        &self,
        op: &'static str,
        y: &Tensor<T>,
        seed: Tensor<T>,
        record: bool,
    ) -> Result<[Tensor<T>; N]> {
        if !y.is_recorded() {
            // A constant.
            return Ok(self.x.each_ref().map(Tensor::zeros_like));
        }
        let inputs: Vec<&Tensor<T>> = self.x.iter().collect();
        let mut all = gradients(op, y, &inputs, seed, record)?.into_iter();
        Ok(self.x.each_ref().map(|x| all.next().unwrap_or_else(|| x.zeros_like())))
    }
}

fn scalar<T: Float>(op: &'static str, y: Tensor<T>) -> Result<Tensor<T>> {
    if y.len() != 1 {
        return Err(Error::NotScalar { op, shape: y.shape().to_vec() });
    }
    Ok(y)
}

/// The value of a function that gives a single number, and its gradient with respect to each input.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::autograd::value_and_grad;
/// let (y, [dx]) = value_and_grad(|[x]| Ok(x.square().sum()), [&Tensor::from([3.0f64, 4.0])])?;
/// assert_eq!((y.item()?, dx.to_vec()), (25.0, vec![6.0, 8.0]));
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// Those of `f`, [`Error::NotScalar`] if it does not give a single number, [`Error::TapesMixed`] if inputs are recorded on two tapes.
pub fn value_and_grad<T: Float, const N: usize>(
    f: impl Fn([&Tensor<T>; N]) -> Result<Tensor<T>>,
    inputs: [&Tensor<T>; N],
) -> Result<(Tensor<T>, [Tensor<T>; N])> {
    const OP: &str = "value_and_grad";
    let at = OnTape::new(inputs);
    let y = scalar(OP, f(at.x.each_ref())?)?;
    let d = at.grad(OP, &y, y.ones_like(), at.nested)?;
    Ok((at.give(y), d))
}

/// The product of the Hessian of a function that gives a single number with a vector of one tensor per input: the derivative of the
/// gradient along that direction (Pearlmutter, 1994). It takes about the time of two gradients, whatever the number of inputs.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::autograd::hvp;
/// let x = Tensor::from([1.0f64, 2.0]);
/// // f = x₀² x₁, whose Hessian is [[2 x₁, 2 x₀], [2 x₀, 0]].
/// let f = |[x]: [&Tensor<f64>; 1]| Ok(x.narrow(0, 0, 1)?.square().try_mul(&x.narrow(0, 1, 1)?)?.sum());
/// let [hv] = hvp(f, [&x], [&Tensor::from([1.0, 10.0])])?;
/// assert_eq!(hv.to_vec(), [24.0, 2.0]);
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// As [`value_and_grad`]; [`Error::Shape`] if a vector differs in shape from its input, [`Error::OnceDifferentiable`] by the name of an operation
/// that has no second derivative.
pub fn hvp<T: Float, const N: usize>(
    f: impl Fn([&Tensor<T>; N]) -> Result<Tensor<T>>,
    inputs: [&Tensor<T>; N],
    vectors: [&Tensor<T>; N],
) -> Result<[Tensor<T>; N]> {
    const OP: &str = "hvp";
    for (i, (x, v)) in inputs.iter().zip(&vectors).enumerate() {
        if x.shape() != v.shape() {
            let message =
                format!("vector {i} has shape {:?}, its input {:?}", v.shape(), x.shape());
            return Err(Error::shape(OP, message));
        }
    }
    let at = OnTape::new(inputs);
    let y = scalar(OP, f(at.x.each_ref())?)?;
    let slopes = at.grad(OP, &y, y.ones_like(), true)?;
    let mut along = Tensor::zeros([])?;
    for (d, v) in slopes.iter().zip(vectors) {
        along = along.try_add(&d.try_mul(v)?.sum())?;
    }
    at.grad(OP, &along, along.ones_like(), at.nested)
}

/// The Jacobian of a function with respect to each input: of shape `[..y, ..x]`, the derivative of every output element by every
/// input element. One backward pass for each output element.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::autograd::jacobian;
/// let [j] = jacobian(|[x]| Ok(x.square()), [&Tensor::from([1.0f64, 2.0])])?;
/// assert_eq!(j, Tensor::from([[2.0, 0.0], [0.0, 4.0]]));
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// Those of `f`, [`Error::TapesMixed`] if inputs are recorded on two tapes.
pub fn jacobian<T: Float, const N: usize>(
    f: impl Fn([&Tensor<T>; N]) -> Result<Tensor<T>>,
    inputs: [&Tensor<T>; N],
) -> Result<[Tensor<T>; N]> {
    const OP: &str = "jacobian";
    let at = OnTape::new(inputs);
    let y = f(at.x.each_ref())?;
    rows(OP, &at, &y, at.nested)
}

/// The Jacobian of `y`, a row at a time.
fn rows<T: Float, const N: usize>(
    op: &'static str,
    at: &OnTape<T, N>,
    y: &Tensor<T>,
    record: bool,
) -> Result<[Tensor<T>; N]> {
    let mut rows: [Vec<Tensor<T>>; N] = std::array::from_fn(|_| Vec::with_capacity(y.len()));
    for k in 0..y.len() {
        let unit = Tensor::from_fn(y.shape(), |i| if i == k { T::ONE } else { T::ZERO })?;
        for (rows, d) in rows.iter_mut().zip(at.grad(op, y, unit, record)?) {
            rows.push(d);
        }
    }
    let mut all = Vec::with_capacity(N);
    for (rows, x) in rows.iter().zip(&at.x) {
        let shape: Vec<usize> = y.shape().iter().chain(x.shape()).copied().collect();
        let whole = match rows.is_empty() {
            true => Tensor::zeros(&shape)?,
            false => Tensor::stack(&rows.iter().collect::<Vec<_>>(), 0)?.reshape(&shape[..])?,
        };
        all.push(whole);
    }
    let mut all = all.into_iter();
    Ok(at.x.each_ref().map(|x| all.next().unwrap_or_else(|| x.zeros_like())))
}

/// The Hessian of a function that gives a single number, with respect to its one input: of shape `[..x, ..x]`.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::autograd::hessian;
/// let h = hessian(|x| Ok(x.powi(3).sum()), &Tensor::from([1.0f64, 2.0]))?;
/// assert_eq!(h, Tensor::from([[6.0, 0.0], [0.0, 12.0]]));
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// As [`hvp`].
pub fn hessian<T: Float>(
    f: impl Fn(&Tensor<T>) -> Result<Tensor<T>>,
    x: &Tensor<T>,
) -> Result<Tensor<T>> {
    const OP: &str = "hessian";
    let at = OnTape::new([x]);
    let y = scalar(OP, f(&at.x[0])?)?;
    let [slope] = at.grad(OP, &y, y.ones_like(), true)?;
    let [h] = rows(OP, &at, &slope, at.nested)?;
    Ok(h)
}
