//! Penalties on weights: L1, L2, elastic net, and sums of them.
//!
//! All are a Σ |w| + b Σ w², so all are one operation; its gradient is g (a sign w + 2 b w), with sign 0 = 0.

use std::collections::HashSet;

use super::formula::{mul_add, sign};
use crate::autograd::{OpMany, apply_many};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::reduce::{self, SumAbs, SumSquares};
use crate::kernel::simd::{Kernel, dispatch};
use crate::kernel::update::for_each_piece;
use crate::nn::{Module, ParamRef};
use crate::ops::float_only::{is, same_type};
use crate::tensor::Tensor;

const OP: &str = "penalty";

/// The two numbers that make up a penalty, and what it can be computed of.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::{L1, L2, Penalty};
/// let model: Dense = Dense::new(2, 1).build(&mut gradus::rng(0))?;
/// let tape = Tape::new(0);
/// let net = tape.watch(&model);
/// let error = net.forward(&Tensor::ones([4, 2])?)?.mse(&Tensor::zeros([4, 1])?)?;
/// let both = L1::new(1e-4).plus(L2::new(1e-3));
/// let loss = error + both.penalty_where(&net, |path| path.ends_with("weight"))?;
/// assert!(loss.backward()?.get(&model.weight).is_some());
/// # Ok::<(), Error>(())
/// ```
pub trait Penalty {
    /// `a` and `b` of a Σ |w| + b Σ w².
    fn coefficients(&self) -> (f64, f64);

    /// Whether the factors make sense; asked before anything is computed.
    ///
    /// # Errors
    /// [`Error::Argument`] with the factor as it was given and the values it may have.
    fn check(&self) -> Result<()> {
        let (a, b) = self.coefficients();
        require("the factor of Σ|w|", a, a >= 0.0)?;
        require("the factor of Σw²", b, b >= 0.0)
    }

    /// The penalty of some tensors, a number to add to the loss; recorded if one of them is.
    ///
    /// # Errors
    /// [`Error::Argument`] for coefficients that are negative or not finite.
    fn of<T: Float>(&self, weights: &[&Tensor<T>]) -> Result<Tensor<T>>
    where
        Self: Sized,
    {
        self.check()?;
        let (a, b) = self.coefficients();
        apply_many(Weighted { a, b }, weights)
    }

    /// The penalty of all parameters of a (watched) model. Tied ones count once.
    ///
    /// # Errors
    /// As [`penalty_where`](Self::penalty_where).
    fn penalty<T: Float>(&self, model: &impl Module) -> Result<Tensor<T>>
    where
        Self: Sized,
    {
        self.penalty_where(model, |_| true)
    }

    /// The penalty of those parameters of a (watched) model whose path `which` accepts. Tied ones count once.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no such parameter, if one is of another float type, or for coefficients that are negative or
    /// not finite.
    fn penalty_where<T: Float>(
        &self,
        model: &impl Module,
        which: impl Fn(&str) -> bool,
    ) -> Result<Tensor<T>>
    where
        Self: Sized,
    {
        let mut seen = HashSet::new();
        let mut weights: Vec<Tensor<T>> = Vec::new();
        let mut foreign = None;
        model.for_each_param(|path, p| {
            if !which(path) || !seen.insert(p.id()) {
                return;
            }
            match p {
                ParamRef::F32(p) if is::<T, f32>() => weights.push(same_type(p.tensor()).clone()),
                ParamRef::F64(p) if is::<T, f64>() => weights.push(same_type(p.tensor()).clone()),
                _ => foreign = Some(path.to_string()),
            }
        });
        if let Some(path) = foreign {
            return Err(Error::argument(OP, format!("the parameter {path} is not {}", T::DTYPE)));
        }
        if weights.is_empty() {
            return Err(Error::argument(
                OP,
                "no parameter to penalise: the model has none whose path is accepted",
            ));
        }
        self.of(&weights.iter().collect::<Vec<_>>())
    }

    /// The sum of this penalty and another.
    fn plus(self, other: impl Penalty) -> PenaltySum
    where
        Self: Sized,
    {
        let ((a, b), (c, d)) = (self.coefficients(), other.coefficients());
        PenaltySum { a: a + c, b: b + d }
    }
}

fn require(name: &str, value: f64, ok: bool) -> Result<()> {
    if ok && value.is_finite() {
        return Ok(());
    }
    let message = format!("{name} is {value}; it must be finite and not negative");
    Err(Error::argument(OP, message))
}

/// λ Σ |w|, which drives weights to exactly 0. Source: Tibshirani, "Regression Shrinkage and Selection via the Lasso" (1996).
#[derive(Clone, Copy, Debug)]
pub struct L1 {
    /// The factor λ.
    pub lambda: f64,
}

impl L1 {
    /// λ Σ |w|.
    pub fn new(lambda: f64) -> Self {
        L1 { lambda }
    }
}

impl Penalty for L1 {
    fn coefficients(&self) -> (f64, f64) {
        (self.lambda, 0.0)
    }

    fn check(&self) -> Result<()> {
        require("L1: λ", self.lambda, self.lambda >= 0.0)
    }
}

/// λ Σ w², also known as ridge or Tikhonov regularisation. Source: Hoerl and Kennard, "Ridge Regression" (1970).
#[derive(Clone, Copy, Debug)]
pub struct L2 {
    /// The factor λ.
    pub lambda: f64,
}

impl L2 {
    /// λ Σ w². For the convention λ/2 Σ w², give half.
    pub fn new(lambda: f64) -> Self {
        L2 { lambda }
    }
}

impl Penalty for L2 {
    fn coefficients(&self) -> (f64, f64) {
        (0.0, self.lambda)
    }

    fn check(&self) -> Result<()> {
        require("L2: λ", self.lambda, self.lambda >= 0.0)
    }
}

/// λ (r Σ |w| + (1-r)/2 Σ w²). Source: Zou and Hastie, "Regularization and Variable Selection via the Elastic Net" (2005).
#[derive(Clone, Copy, Debug)]
pub struct ElasticNet {
    /// The factor λ.
    pub lambda: f64,
    /// The share r of the first sum, from 0 to 1.
    pub ratio: f64,
}

impl ElasticNet {
    /// λ (r Σ |w| + (1-r)/2 Σ w²).
    pub fn new(lambda: f64, ratio: f64) -> Self {
        ElasticNet { lambda, ratio }
    }
}

impl Penalty for ElasticNet {
    fn coefficients(&self) -> (f64, f64) {
        (self.lambda * self.ratio, self.lambda * (1.0 - self.ratio) / 2.0)
    }

    fn check(&self) -> Result<()> {
        require("ElasticNet: λ", self.lambda, self.lambda >= 0.0)?;
        if !(0.0..=1.0).contains(&self.ratio) {
            let message =
                format!("ElasticNet: the ratio is {}; it must be from 0 to 1", self.ratio);
            return Err(Error::argument(OP, message));
        }
        Ok(())
    }
}

/// A sum of penalties; see [`Penalty::plus`].
#[derive(Clone, Copy, Debug)]
pub struct PenaltySum {
    a: f64,
    b: f64,
}

impl Penalty for PenaltySum {
    fn coefficients(&self) -> (f64, f64) {
        (self.a, self.b)
    }
}

/// g + λ sign(w), the gradient with that of an L1 penalty; all dense, of one shape.
pub(super) fn add_signs<T: Float>(g: &Tensor<T>, w: &Tensor<T>, lambda: T) -> Tensor<T> {
    let (old, w) = (g.as_slice(), w.as_slice().unwrap_or(&[]));
    Tensor::build(g.shape(), |sum| {
        for_each_piece(old, sum, [], w, 0.5, |sum, [], w| dispatch(AddSigns { sum, w, lambda }));
    })
}

struct AddSigns<'a, T> {
    sum: &'a mut [T],
    w: &'a [T],
    lambda: T,
}

impl<T: Float> Kernel for AddSigns<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (s, &w) in self.sum.iter_mut().zip(self.w) {
            *s = mul_add::<T, FMA>(self.lambda, sign(w), *s);
        }
    }
}

/// a Σ |w| + b Σ w² over all inputs.
struct Weighted {
    a: f64,
    b: f64,
}

impl<T: Float> OpMany<T> for Weighted {
    /// The inputs.
    type Saved = Vec<Tensor<T>>;
    type Gradients = Vec<Option<Tensor<T>>>;
    fn name(&self) -> &'static str {
        OP
    }
    fn forward(&self, x: &[&Tensor<T>]) -> Result<(Tensor<T>, Self::Saved)> {
        let mut sum = 0.0;
        for x in x.iter().filter(|x| !x.is_empty()) {
            let axes: Vec<usize> = (0..x.rank()).collect();
            let mut y = [T::ZERO];
            if self.a != 0.0 {
                reduce::fold(SumAbs, x.buffer(), x.layout(), &axes, &mut y);
                sum += self.a * y[0].as_f64();
            }
            if self.b != 0.0 {
                reduce::fold(SumSquares, x.buffer(), x.layout(), &axes, &mut y);
                sum += self.b * y[0].as_f64();
            }
        }
        Ok((Tensor::scalar(T::of(sum)), x.iter().map(|&x| x.clone()).collect()))
    }
    fn vjp(
        &self,
        saved: Self::Saved,
        g: Tensor<T>,
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor<T>>>> {
        let g = g.item()?;
        let (a, b) = (T::of(self.a) * g, T::of(2.0 * self.b) * g);
        let gradient = |x: Tensor<T>| {
            let x = x.dense();
            Tensor::build(x.shape(), |out| {
                for (o, &x) in out.iter_mut().zip(x.as_slice().unwrap_or(&[])) {
                    let sign = if x == T::ZERO { T::ZERO } else { x.signum() };
                    *o = a * sign + b * x;
                }
            })
        };
        Ok(saved.into_iter().zip(needs).map(|(x, &need)| need.then(|| gradient(x))).collect())
    }
    fn vjp_recorded(
        &self,
        saved: Self::Saved,
        g: Tensor<T>,
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor<T>>>> {
        let (a, b) = (T::of(self.a), T::of(2.0 * self.b));
        let gradient = |x: Tensor<T>| (x.sign() * a).try_add(&(&x * b))?.try_mul(&g);
        saved
            .into_iter()
            .zip(needs)
            .map(|(x, &need)| need.then(|| gradient(x)).transpose())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::autograd::gradcheck;
    use crate::nn::Param;

    #[test]
    fn by_hand() {
        let w = Tensor::from([1.0f64, -2.0, 0.0]);
        let value = |p: &dyn Fn() -> Result<Tensor<f64>>| p().unwrap().item().unwrap();
        assert_eq!(value(&|| L1::new(0.5).of(&[&w])), 1.5);
        assert_eq!(value(&|| L2::new(0.5).of(&[&w, &w])), 5.0);
        assert_eq!(value(&|| ElasticNet::new(2.0, 0.25).of(&[&w])), 2.0 * (0.75 + 0.375 * 5.0));
        assert_eq!(value(&|| L1::new(1.0).plus(L2::new(1.0)).of(&[&w])), 8.0);
        let tape = Tape::new(0);
        let x = tape.leaf(&w);
        let g = L1::new(0.5).of(&[&x]).unwrap().backward().unwrap();
        assert_eq!(g.wrt(&x).unwrap().to_vec(), [0.5, -0.5, 0.0]);
    }

    #[test]
    fn gradients_on_every_layout() {
        let a = Tensor::from_fn([3, 4], |i| i as f64 - 5.5).unwrap();
        let t = a.with_layout(a.layout().permute(&[1, 0]).slice(0, 3, 2, -2));
        gradcheck(|[a, t]| ElasticNet::new(0.7, 0.3).of(&[a, t]), [&a, &t]).unwrap();
    }

    #[test]
    fn models_paths_ties_and_mistakes() {
        let w = Param::new(Tensor::from([1.0f32, 2.0]));
        let model = (w.clone(), Param::new(Tensor::from([3.0f32])), w);
        let tape = Tape::new(0);
        let net = tape.watch(&model);
        let y: Tensor = L2::new(1.0).penalty(&net).unwrap();
        assert_eq!(y.item().unwrap(), 14.0);
        assert_eq!(y.backward().unwrap().get(&model.0).unwrap().to_vec(), [2.0, 4.0]);
        let one: Tensor = L1::new(1.0).penalty_where(&model, |p| p == "1").unwrap();
        assert_eq!(one.item().unwrap(), 3.0);
        assert!(L1::new(1.0).penalty_where::<f32>(&model, |_| false).is_err());
        assert!(L1::new(1.0).penalty::<f64>(&model).is_err());
        let text = |p: Result<Tensor>| p.unwrap_err().to_string();
        let e = text(L1::new(-1.0).penalty(&model));
        assert_eq!(e, "penalty: L1: λ is -1; it must be finite and not negative");
        let e = text(ElasticNet::new(1.0, 1.5).penalty(&model));
        assert_eq!(e, "penalty: ElasticNet: the ratio is 1.5; it must be from 0 to 1");
        let e = text(ElasticNet::new(f64::NAN, 0.5).penalty(&model));
        assert_eq!(e, "penalty: ElasticNet: λ is NaN; it must be finite and not negative");
    }
}
