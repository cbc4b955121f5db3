//! Dropout: y = m x / (1 - p), where each m is 0 with probability p and 1 otherwise; dx = m g / (1 - p).
//!
//! The mask is a function of the seed and of the element's number alone, so it does not depend on threads and need not be kept: the
//! backward pass computes it again.

use crate::autograd::{Op, apply};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::keep::Keep;
use crate::kernel::par;
use crate::tensor::Tensor;

/// Elements of one part of the parallel loop.
const GRAIN: usize = 1 << 13;
/// Nanoseconds for an element.
const NS: f64 = 1.0;

struct Dropout {
    p: f64,
    seed: u64,
}

impl Dropout {
    /// The mask times `x`, scaled.
    fn masked<T: Float>(&self, x: &Tensor<T>) -> Tensor<T> {
        let x = x.dense();
        let values = x.as_slice().unwrap_or(&[]);
        let keep = Keep::new(self.p, self.seed);
        Tensor::build(x.shape(), |out| {
            par::for_each_chunk_mut(out, GRAIN, NS, |part, out| {
                let start = part * GRAIN;
                for (i, (o, &v)) in out.iter_mut().zip(&values[start..]).enumerate() {
                    *o = keep.apply(start + i, v);
                }
            });
        })
    }
}

impl<T: Float> Op<T, 1> for Dropout {
    type Saved = ();
    fn name(&self) -> &'static str {
        "dropout"
    }
    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, ())> {
        Ok((self.masked(x), ()))
    }
    fn vjp(&self, (): (), g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        Ok([Some(self.masked(&g))])
    }
    fn vjp_recorded(&self, (): (), g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        Ok([Some(apply(Dropout { ..*self }, [&g])?)])
    }
}

impl<T: Float> Tensor<T> {
    /// Each element set to 0 with probability `p`, the others divided by 1 - `p`. The seed fixes which (Srivastava et al., 2014).
    ///
    /// This always drops: in models, the layer of the same name decides whether it does and draws the seed.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let y: Tensor = Tensor::ones([1000])?.dropout(0.25, 7)?;
    /// assert!((y.mean().item()? - 1.0).abs() < 0.1);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] unless 0 ≤ `p` ≤ 1.
    pub fn dropout(&self, p: f64, seed: u64) -> Result<Tensor<T>> {
        if !(0.0..=1.0).contains(&p) {
            return Err(Error::argument(
                "dropout",
                format!("the probability is {p}; it must be from 0 to 1"),
            ));
        }
        if p == 0.0 {
            return Ok(self.clone());
        }
        apply(Dropout { p, seed }, [self])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    #[test]
    fn the_share_is_right_and_the_rest_is_scaled() -> Result<()> {
        let x = Tensor::<f32>::ones([100_000])?;
        let y = x.dropout(0.3, 1)?;
        let dropped = y.iter().filter(|&v| v == 0.0).count();
        assert!((29_000..31_000).contains(&dropped), "{dropped}");
        assert!(y.iter().all(|v| v == 0.0 || (v - 1.0 / 0.7).abs() < 1e-6));
        assert_eq!(y, x.dropout(0.3, 1)?);
        assert_ne!(y, x.dropout(0.3, 2)?);
        Ok(())
    }

    #[test]
    fn the_ends_and_nonsense() -> Result<()> {
        let x = Tensor::from([1.0f64, 2.0, f64::INFINITY]);
        assert_eq!(x.dropout(0.0, 1)?, x);
        assert_eq!(x.dropout(1.0, 1)?.to_vec(), [0.0; 3]);
        for p in [-0.1, 1.5, f64::NAN] {
            assert!(matches!(x.dropout(p, 1), Err(Error::Argument { op: "dropout", .. })));
        }
        assert_eq!(Tensor::<f32>::zeros([0, 3])?.dropout(0.5, 1)?.shape(), [0, 3]);
        Ok(())
    }

    #[test]
    fn the_gradient_has_the_same_mask() -> Result<()> {
        let x = Tensor::from_fn([4, 5], |i| i as f64 + 1.0)?;
        gradcheck(|[x]| x.dropout(0.4, 3), [&x])?;
        let t = x.with_layout(x.layout().permute(&[1, 0]));
        gradcheck(|[x]| x.dropout(0.4, 3), [&t])
    }
}
