//! The focal loss: cross-entropy with less weight on what is already told right.
//!
//! ```text
//! one yes-no question per logit   α_t q^γ c   c = binary cross-entropy of x and t, q = σ(x) (1-t) + σ(-x) t, α_t = α t + (1-α) (1-t)
//! one class of several            w_t q^γ c   c = cross-entropy, q = 1 - e^-c
//! ```
//!
//! q is how wrong the prediction is. With s = σ(x): dx = α_t q^γ (γ c s (1-s) (1-2t) / q + s - t); with classes, dc = q^γ (γ e^-c c / q + 1).
//! Where q rounds to 0, so do q^γ and the gradient (γ > 0): c / q is at most 1 + c there.

use super::bce::OfLogit;
use super::pointwise::{Pointwise, pointwise};
use super::{check_probabilities, check_setting, same_shape};
use crate::error::Result;
use crate::float::Float;
use crate::ops::cross_entropy::{
    CrossEntropy, Kind, Reduction, Targets, check_labels, check_weights, class_axis,
};
use crate::ops::rule::{Keep, Unary, unary};
use crate::tensor::Tensor;

const OP: &str = "focal";

/// Cross-entropy times (1 - p)^γ, with p the probability of the right answer: examples that are already told right count little, so that
/// a flood of easy ones does not drown the rest.
///
/// - Targets that are floats of the logits' shape, from 0 to 1: each logit answers a yes-no question. α weighs yes, 1 - α no.
/// - Targets that are labels: one of several classes, as in [`CrossEntropy`], with the same shapes, ignored label and class weights. The
///   mean divides by the number of labels that count, whatever the weights.
///
/// Source: Lin et al., "Focal Loss for Dense Object Detection" (2017).
///
/// ```
/// use gradus::prelude::*;
/// let x: Tensor = Tensor::from([[0.0, 0.0], [3.0, 0.0]]);
/// let each = FocalLoss::new(2.0).reduction(Reduction::None).forward(&x, &Tensor::from([0i64, 0]))?;
/// assert!((each.get([0])? - 0.25 * 2f32.ln()).abs() < 1e-6);
/// assert!(each.get([1])? < 1e-3);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct FocalLoss<T: Float = f32> {
    /// The exponent γ, 0 or more; 0 is plain cross-entropy, 2 the paper's choice.
    pub gamma: f64,
    /// The weight of yes in yes-no questions, from 0 to 1; that of no is 1 - α. The paper's choice is 0.25.
    pub alpha: Option<f64>,
    /// A weight for each class.
    pub class_weights: Option<Tensor<T>>,
    /// The label of examples that do not count; -100 unless set.
    pub ignore_index: Option<i64>,
    /// What becomes of the losses.
    pub reduction: Reduction,
}

impl<T: Float> FocalLoss<T> {
    /// The mean, without weights.
    pub fn new(gamma: f64) -> Self {
        FocalLoss {
            gamma,
            alpha: None,
            class_weights: None,
            ignore_index: Some(-100),
            reduction: Reduction::Mean,
        }
    }

    /// Sets [`alpha`](Self::alpha).
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.alpha = Some(alpha);
        self
    }

    /// Sets [`class_weights`](Self::class_weights).
    pub fn class_weights(mut self, weights: Tensor<T>) -> Self {
        self.class_weights = Some(weights);
        self
    }

    /// Sets [`ignore_index`](Self::ignore_index).
    pub fn ignore_index(mut self, label: i64) -> Self {
        self.ignore_index = Some(label);
        self
    }

    /// Sets [`reduction`](Self::reduction).
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// The loss.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the shapes do not fit, [`Error::Label`](crate::Error::Label) for a label that is no class,
    /// [`Error::Argument`](crate::Error::Argument) for a negative γ, an α or a float target outside 0 to 1, a class weight that is
    /// negative or not finite, or a weight of the other kind of targets.
    pub fn forward<Y: Targets<T> + ?Sized>(
        &self,
        logits: &Tensor<T>,
        targets: &Y,
    ) -> Result<Tensor<T>> {
        let gamma = self.gamma;
        check_setting(OP, "gamma", gamma, gamma >= 0.0 && gamma.is_finite(), "0 or more")?;
        let other = |what, of| Err(crate::Error::argument(OP, format!("{what} for {of}")));
        match targets.kind() {
            Kind::Labels(labels) => {
                if self.alpha.is_some() {
                    return other("alpha is", "yes-no questions; labels have class_weights");
                }
                self.of_classes(logits, &labels)
            }
            Kind::Probabilities(t) => {
                if self.class_weights.is_some() {
                    return other("class_weights are", "labels; yes-no questions have alpha");
                }
                let alpha = self.alpha.unwrap_or(0.5);
                let fits = (0.0..=1.0).contains(&alpha);
                check_setting(OP, "alpha", alpha, fits, "between 0 and 1")?;
                same_shape(OP, logits, t)?;
                check_probabilities(OP, "target", t, "")?;
                // Without α both weights are 1.
                let scale = if self.alpha.is_some() { 1.0 } else { 2.0 };
                let f = Focal {
                    gamma: T::of(gamma),
                    no: T::of(scale * (1.0 - alpha)),
                    more: T::of(scale * (2.0 * alpha - 1.0)),
                };
                pointwise(f, self.reduction, logits, t)
            }
        }
    }

    fn of_classes(&self, logits: &Tensor<T>, labels: &Tensor<i64>) -> Result<Tensor<T>> {
        // So that a wrong label is told under this name.
        let axis = class_axis(OP, logits)?;
        check_labels(OP, labels, logits, axis, self.ignore_index)?;
        let each = CrossEntropy::<T> {
            ignore_index: self.ignore_index,
            reduction: Reduction::None,
            ..CrossEntropy::new()
        };
        let c = each.forward(logits, labels)?;
        let mut y = unary(Easy { gamma: T::of(self.gamma) }, &c);
        let classes = logits.shape()[axis];
        let counts = |label: i64| Some(label) != self.ignore_index;
        if let Some(w) = check_weights(OP, self.class_weights.as_ref(), classes)? {
            let w = w.as_slice().unwrap_or(&[]);
            let of = |label| if counts(label) { w[label as usize] } else { T::ZERO };
            y = y.try_mul(&Tensor::build(labels.shape(), |out| {
                out.iter_mut().zip(labels.iter()).for_each(|(o, label)| *o = of(label));
            }))?;
        }
        Ok(match self.reduction {
            Reduction::None => y,
            Reduction::Sum => y.sum(),
            Reduction::Mean => {
                let n = labels.iter().filter(|&label| counts(label)).count();
                y.sum().div_scalar(T::of(n as f64))
            }
        })
    }
}

/// Yes-no questions; α_t = no + more t.
#[derive(Clone, Copy)]
struct Focal<T> {
    gamma: T,
    no: T,
    more: T,
}

impl<T: Float> Focal<T> {
    /// q, q^γ, σ(x)
    #[inline(always)]
    fn wrong<const FMA: bool>(self, x: T, t: T) -> (T, T, T) {
        let s = x.vsigmoid::<FMA>();
        let q = s * (T::ONE - t) + (-x).vsigmoid::<FMA>() * t;
        (q, power(q, self.gamma), s)
    }
}

/// q^γ, fast for the γ that people take.
#[inline(always)]
fn power<T: Float>(q: T, gamma: T) -> T {
    if gamma == T::of(2.0) {
        q * q
    } else if gamma == T::ONE {
        q
    } else {
        num_traits::Float::powf(q, gamma)
    }
}

impl<T: Float> Pointwise<T> for Focal<T> {
    const NAME: &'static str = OP;
    const NS: f64 = 2.5;
    #[inline(always)]
    fn f<const FMA: bool>(self, x: T, t: T) -> T {
        let (_, power, _) = self.wrong::<FMA>(x, t);
        (self.no + self.more * t) * power * OfLogit.f::<FMA>(x, t)
    }
    #[inline(always)]
    fn dx<const FMA: bool>(self, x: T, t: T) -> T {
        let (q, power, s) = self.wrong::<FMA>(x, t);
        let c = OfLogit.f::<FMA>(x, t);
        let slope = s * (-x).vsigmoid::<FMA>() * (T::ONE - t - t);
        let focus = if q == T::ZERO { T::ZERO } else { self.gamma * c * slope / q };
        (self.no + self.more * t) * power * (focus + s - t)
    }
    #[inline(always)]
    fn dt<const FMA: bool>(self, x: T, t: T) -> T {
        let (q, power, s) = self.wrong::<FMA>(x, t);
        let c = OfLogit.f::<FMA>(x, t);
        let focus = if q == T::ZERO { T::ZERO } else { self.gamma * c * (T::ONE - s - s) / q };
        power * (self.more * c + (self.no + self.more * t) * (focus - x))
    }
}

/// q^γ c with q = 1 - e^-c, of the cross-entropy c of one example.
#[derive(Clone, Copy)]
struct Easy<T> {
    gamma: T,
}

impl<T: Float> Unary<T> for Easy<T> {
    const NAME: &'static str = OP;
    const KEEP: Keep = Keep::Input;
    const NS: f64 = 2.0;
    #[inline(always)]
    fn f<const FMA: bool>(self, c: T) -> T {
        power(-(-c).vexpm1::<FMA>(), self.gamma) * c
    }
    #[inline(always)]
    fn df<const FMA: bool>(self, c: T, g: T) -> T {
        let q = -(-c).vexpm1::<FMA>();
        // c / q is 1 at 0, and an infinite c has e^-c = 0.
        let ratio = if q == T::ZERO { T::ONE } else { c / q };
        let rest = (-c).vexp::<FMA>();
        let focus = if rest == T::ZERO { T::ZERO } else { self.gamma * rest * ratio };
        g * power(q, self.gamma) * (focus + T::ONE)
    }
    fn gradient(self, c: &Tensor<T>, g: &Tensor<T>) -> Tensor<T> {
        let rest = c.neg().exp();
        let q = c.neg().exp_m1().neg();
        // (q + [q = 0]) keeps the ratio finite at 0, where it is 0 in place of 1: only its product with q^γ counts.
        let ratio = c / (&q + q.eq_scalar(T::ZERO).cast::<T>());
        let focus = (ratio * rest).mul_scalar(self.gamma).add_scalar(T::ONE);
        let power = if self.gamma == T::ZERO { q.ones_like() } else { q.powf(self.gamma) };
        g * power * focus
    }
}

#[cfg(test)]
mod tests {
    use super::super::pointwise::tests::check_all;
    use super::*;
    use crate::autograd::gradcheck;
    use crate::error::Error;

    #[test]
    fn yes_and_no() {
        let x = Tensor::from_fn([4, 3], |i| (i * 5 % 12) as f64 * 0.4 - 2.1).unwrap();
        let t = Tensor::from_fn([4, 3], |i| (i % 5) as f64 * 0.25).unwrap();
        for gamma in [0.0, 0.5, 1.0, 2.0, 3.5] {
            for (no, more) in [(1.0, 0.0), (0.75, -0.5)] {
                check_all(Focal { gamma, no, more }, &x, &t);
            }
        }
        // By the definition.
        let loss = FocalLoss::new(2.0).alpha(0.25).reduction(Reduction::None);
        for (x, t) in [(0.7f64, 1.0), (0.7, 0.0), (-2.0, 1.0)] {
            let s = 1.0 / (1.0 + (-x).exp());
            let (p, a) = if t == 1.0 { (s, 0.25) } else { (1.0 - s, 0.75) };
            let want = -a * (1.0 - p).powi(2) * p.ln();
            let y = loss.forward(&Tensor::from([x]), &Tensor::from([t])).unwrap();
            assert!((y.item().unwrap() - want).abs() < 1e-12);
        }
    }

    #[test]
    fn without_focus_it_is_cross_entropy() {
        let x = Tensor::from_fn([4, 3], |i| (i * 5 % 12) as f64 * 0.4 - 2.1).unwrap();
        let t = Tensor::from_fn([4, 3], |i| (i % 2) as f64).unwrap();
        let same =
            |a: Tensor<f64>, b: Tensor<f64>| (a.item().unwrap() - b.item().unwrap()).abs() < 1e-12;
        let plain = FocalLoss::new(0.0);
        assert!(same(plain.forward(&x, &t).unwrap(), x.bce_with_logits(&t).unwrap()));
        let labels = Tensor::from([0i64, 2, -100, 1]);
        assert!(same(plain.forward(&x, &labels).unwrap(), x.cross_entropy(&labels).unwrap()));
    }

    #[test]
    fn classes() {
        let x = Tensor::from_fn([2, 5, 3], |i| (i * 7 % 11) as f64 * 0.3).unwrap();
        let labels = Tensor::from([[0i64, 4, 2], [-100, 1, 1]]);
        let w = Tensor::from([0.5, 1.0, 2.0, 3.0, 0.0]);
        for gamma in [0.0, 0.5, 1.0, 2.0, 3.5] {
            for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
                let loss = FocalLoss::new(gamma).class_weights(w.clone()).reduction(reduction);
                gradcheck(|[x]| loss.forward(x, &labels), [&x]).unwrap();
            }
        }
    }

    #[test]
    fn certain_and_right_has_no_gradient() {
        for gamma in [0.5, 2.0] {
            let tape = crate::Tape::new(0);
            let x = tape.leaf(&Tensor::from([[200.0f32, 0.0], [0.0, 200.0]]));
            let y = FocalLoss::new(gamma).forward(&x, &Tensor::from([0i64, 0])).unwrap();
            assert_eq!(y.item().unwrap(), 100.0);
            let g = y.backward().unwrap().wrt(&x).unwrap().to_vec();
            assert_eq!(g, [0.0, 0.0, -0.5, 0.5]);
            let tape = crate::Tape::new(0);
            let x = tape.leaf(&Tensor::from([200.0f32, -200.0, 200.0]));
            let t = Tensor::from([1.0, 0.0, 0.0]);
            let loss = FocalLoss::new(gamma).reduction(Reduction::Sum);
            let y = loss.forward(&x, &t).unwrap();
            assert_eq!(y.item().unwrap(), 200.0);
            assert_eq!(y.backward().unwrap().wrt(&x).unwrap().to_vec(), [0.0, 0.0, 1.0]);
        }
    }

    #[test]
    fn mistakes() {
        let x = Tensor::<f32>::zeros([2, 3]).unwrap();
        let labels = Tensor::from([0i64, 3]);
        let argument = |y: Result<Tensor>| matches!(y, Err(Error::Argument { .. }));
        assert!(matches!(
            FocalLoss::new(2.0).forward(&x, &labels),
            Err(Error::Label { label: 3, .. })
        ));
        assert!(argument(FocalLoss::new(-1.0).forward(&x, &x)));
        assert!(argument(FocalLoss::new(2.0).alpha(1.5).forward(&x, &x)));
        assert!(argument(FocalLoss::new(2.0).alpha(0.5).forward(&x, &labels)));
        assert!(argument(FocalLoss::new(2.0).forward(&x, &x.full_like(2.0))));
        let weights = FocalLoss::new(2.0).class_weights(Tensor::ones([3]).unwrap());
        assert!(argument(weights.forward(&x, &x)));
    }
}
