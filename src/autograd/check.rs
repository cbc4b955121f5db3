//! Gradients checked against finite differences.

use super::functional::OnTape;
use super::tape::Tape;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// How [`gradcheck`] compares: the step of the differences, the tolerances, the seed of the random directions.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::autograd::GradCheck;
/// let x = Tensor::from([0.3f64, -1.2]);
/// GradCheck { rtol: 1e-6, ..GradCheck::default() }.run(|[x]| Ok(x.tanh()), [&x])?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct GradCheck {
    /// Half the width of the central difference, relative to each direction of length 1.
    pub step: f64,
    /// Relative tolerance.
    pub rtol: f64,
    /// Absolute tolerance.
    pub atol: f64,
    /// Inputs up to this many elements are checked element by element; larger ones along random directions.
    pub exhaustive: usize,
    /// How many random directions.
    pub directions: usize,
    /// Seed of the directions and of the output's weights.
    pub seed: u64,
}

impl Default for GradCheck {
    fn default() -> Self {
        GradCheck { step: 1e-5, rtol: 1e-5, atol: 1e-8, exhaustive: 64, directions: 8, seed: 0 }
    }
}

/// Checks the gradients of `f` at `inputs` against central differences, with the default tolerances of [`GradCheck`].
///
/// The output may have any shape; it is weighted with random numbers. Everything is in f64, where a central difference
/// with step 1e-5 is right to about ten digits.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::autograd::gradcheck;
/// let (a, b) = (Tensor::from([[1.0f64, 2.0]]), Tensor::from([[3.0f64], [4.0]]));
/// gradcheck(|[a, b]| a.matmul(b), [&a, &b])?;
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// [`Error::Argument`] that says which input, where, and both numbers; and whatever `f` returns.
pub fn gradcheck<const N: usize>(
    f: impl Fn([&Tensor<f64>; N]) -> Result<Tensor<f64>>,
    inputs: [&Tensor<f64>; N],
) -> Result<()> {
    GradCheck::default().run(f, inputs)
}

/// Checks the gradients of the gradients of `f` at `inputs`: those of a recorded gradient, weighted with random numbers, against central differences
/// of the gradient as `backward` computes it. So it also checks that both ways to a gradient agree.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::autograd::gradgradcheck;
/// gradgradcheck(|[x]| Ok(x.tanh()), [&Tensor::from([0.3f64, -1.2])])?;
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// As [`gradcheck`], and [`Error::OnceDifferentiable`] with the name of an operation that has no second derivative.
pub fn gradgradcheck<const N: usize>(
    f: impl Fn([&Tensor<f64>; N]) -> Result<Tensor<f64>>,
    inputs: [&Tensor<f64>; N],
) -> Result<()> {
    let settings = GradCheck::default();
    let slope = |x: [&Tensor<f64>; N]| -> Result<Tensor<f64>> {
        let mut rng = crate::rng(settings.seed ^ 0x5eed);
        let at = OnTape::new(x);
        let y = f(at.x.each_ref())?;
        let weights = Tensor::<f64>::uniform(y.shape(), 0.5, 1.5, &mut rng)?;
        let mut total = Tensor::zeros([])?;
        for d in at.grad("gradgradcheck", &y, weights, at.nested)? {
            let weights = Tensor::<f64>::uniform(d.shape(), 0.5, 1.5, &mut rng)?;
            total = total.try_add(&d.try_mul(&weights)?.sum())?;
        }
        Ok(total)
    };
    settings.run(slope, inputs)
}

fn dot(a: &Tensor<f64>, b: &Tensor<f64>) -> f64 {
    a.iter().zip(b.iter()).map(|(x, y)| x * y).sum()
}

impl GradCheck {
    /// As [`gradcheck`], with these settings.
    ///
    /// # Errors
    /// [`Error::Argument`] that says which input, where, and both numbers; and whatever `f` returns.
    pub fn run<const N: usize>(
        &self,
        f: impl Fn([&Tensor<f64>; N]) -> Result<Tensor<f64>>,
        inputs: [&Tensor<f64>; N],
    ) -> Result<()> {
        let mut rng = crate::rng(self.seed);
        let tape = Tape::new(0);
        let leaves = inputs.map(|x| tape.leaf(x));
        let y = f(leaves.each_ref())?;
        let weights = Tensor::<f64>::uniform(y.shape(), 0.5, 1.5, &mut rng)?;
        let grads = if y.is_recorded() { Some(y.backward_with(&weights)?) } else { None };
        for (k, &x) in inputs.iter().enumerate() {
            let zero = x.zeros_like();
            let g = grads.as_ref().and_then(|g| g.wrt(&leaves[k])).unwrap_or(&zero);
            let along = |direction: &Tensor<f64>| -> Result<f64> {
                let at = |t: f64| -> Result<f64> {
                    let moved: Vec<f64> =
                        x.iter().zip(direction.iter()).map(|(x, d)| x + t * d).collect();
                    // The moved input keeps the layout of the original, so that strided paths are the ones checked.
                    let moved = x.with_values(&moved);
                    let all = std::array::from_fn(|i| if i == k { &moved } else { inputs[i] });
                    Ok(dot(&f(all)?, &weights))
                };
                Ok((at(self.step)? - at(-self.step)?) / (2.0 * self.step))
            };
            let compare = |what: String, got: f64, want: f64| {
                if (got - want).abs() <= self.atol + self.rtol * want.abs().max(1.0) {
                    return Ok(());
                }
                Err(Error::argument(
                    "gradcheck",
                    format!(
                        "input {k}, {what}: the gradient is {got}, the finite difference {want}"
                    ),
                ))
            };
            if x.len() <= self.exhaustive {
                for i in 0..x.len() {
                    let unit = Tensor::from_fn(x.shape(), |j| if i == j { 1.0 } else { 0.0 })?;
                    compare(
                        format!("element {i} in row-major order"),
                        dot(g, &unit),
                        along(&unit)?,
                    )?;
                }
            } else {
                for n in 0..self.directions {
                    let d = Tensor::<f64>::randn(x.shape(), &mut rng)?;
                    let length = dot(&d, &d).sqrt();
                    let d = Tensor::from_vec(d.iter().map(|v| v / length).collect(), x.shape())?;
                    compare(format!("random direction {n}"), dot(g, &d), along(&d)?)?;
                }
            }
        }
        Ok(())
    }
}
