//! Dropout.

use super::{Layer, Mode};
use crate::Module;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::tensor::Tensor;

/// While training, each number is zero with probability p, and the others are multiplied by 1 / (1 - p), so that the mean stays
/// (Srivastava et al. 2014). While evaluating, the identity.
///
/// It trains in the copy that [`Tape::watch`](crate::Tape::watch) returns and nowhere else; which numbers are dropped follows from the tape's seed.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::Dropout;
/// let drop = Dropout::new(0.5)?;
/// let x: Tensor = Tensor::ones([1000])?;
/// assert_eq!(drop.forward(&x)?, x);
/// let tape = Tape::new(7);
/// let y = tape.watch(&drop).forward(&x)?;
/// assert!(y.iter().all(|v| v == 0.0 || v == 2.0));
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct Dropout {
    p: f64,
    mode: Mode,
}

impl Dropout {
    /// Drops with probability `p`.
    ///
    /// # Errors
    /// [`Error::Argument`] unless 0 ≤ p ≤ 1.
    pub fn new(p: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&p) {
            return Err(Error::argument(
                "Dropout",
                format!("the probability is {p}; it must be between 0 and 1"),
            ));
        }
        Ok(Dropout { p, mode: Mode::new() })
    }

    /// The probability.
    pub fn p(&self) -> f64 {
        self.p
    }
}

impl<T: Float> Layer<T> for Dropout {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        match self.mode.next_seed() {
            Some(seed) if self.p > 0.0 => x.dropout(self.p, seed),
            _ => Ok(x.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;

    fn train(p: f64, seed: u64, x: &Tensor<f64>) -> Tensor<f64> {
        Tape::new(seed).watch(&Dropout::new(p).unwrap()).forward(x).unwrap()
    }

    #[test]
    fn empty_and_single() {
        assert_eq!(train(0.5, 0, &Tensor::zeros([0, 3]).unwrap()).shape(), [0, 3]);
        let one = train(0.5, 0, &Tensor::scalar(3.0)).item().unwrap();
        assert!(one == 0.0 || one == 6.0);
    }

    #[test]
    fn all_or_nothing() {
        let x = Tensor::ones([100]).unwrap();
        assert_eq!(train(0.0, 1, &x), x);
        assert_eq!(train(1.0, 1, &x), x.zeros_like());
    }

    #[test]
    fn the_share_that_is_dropped_and_the_scale() {
        let y = train(0.3, 1, &Tensor::ones([100_000]).unwrap());
        let zeros = y.iter().filter(|&v| v == 0.0).count() as f64 / 1e5;
        // Four standard deviations of the share are 0.006.
        assert!((zeros - 0.3).abs() < 0.006, "{zeros}");
        assert!(y.iter().all(|v| v == 0.0 || (v - 1.0 / 0.7).abs() < 1e-12));
    }

    #[test]
    fn the_seed_fixes_it_and_each_call_differs() {
        let x = Tensor::ones([64]).unwrap();
        assert_eq!(train(0.5, 1, &x), train(0.5, 1, &x));
        assert_ne!(train(0.5, 1, &x), train(0.5, 2, &x));
        let net = Tape::new(1).watch(&Dropout::new(0.5).unwrap());
        assert_ne!(net.forward(&x).unwrap(), net.forward(&x).unwrap());
    }

    #[test]
    fn the_gradient_is_that_of_the_kept_ones() {
        let tape = Tape::new(3);
        let net = tape.watch(&Dropout::new(0.5).unwrap());
        let x = tape.leaf(&Tensor::<f64>::ones([64]).unwrap());
        let y = net.forward(&x).unwrap();
        let grads = y.backward_with(&y.ones_like()).unwrap();
        assert_eq!(grads.wrt(&x).unwrap(), &y.detach());
    }

    #[test]
    fn what_is_no_probability() {
        for p in [-0.1, 1.5, f64::NAN] {
            assert_eq!(
                Dropout::new(p).unwrap_err().to_string(),
                format!("Dropout: the probability is {p}; it must be between 0 and 1")
            );
        }
    }
}
