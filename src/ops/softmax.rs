//! Softmax, log-softmax, logsumexp: over any axis, stable for any logits. The formulas stand in the kernel.

use super::axes::Reduced;
use crate::autograd::{Op, apply};
use crate::error::Result;
use crate::float::Float;
use crate::kernel::{softmax as kernel, softmax_columns as columns};
use crate::tensor::{IntoAxes, Tensor};

/// The elements of a dense tensor.
fn slice<T: Float>(x: &Tensor<T>) -> &[T] {
    x.as_slice().unwrap_or(&[])
}

/// Softmax, or its logarithm.
struct Softmax<const LOG: bool>(Reduced);

impl<const LOG: bool> Softmax<LOG> {
    const NAME: &str = if LOG { "log_softmax" } else { "softmax" };

    /// The sizes of the axis and of what is behind it, if its columns are best gone through where they stand.
    fn columns(&self) -> Option<[usize; 2]> {
        let &[axis] = &self.0.axes[..] else { return None };
        let width = self.0.shape[axis + 1..].iter().product();
        columns::serves(width).then(|| [self.0.shape[axis], width])
    }
}

impl<T: Float, const LOG: bool> Op<T, 1> for Softmax<LOG> {
    /// The output.
    type Saved = Tensor<T>;
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, Tensor<T>)> {
        if let Some(size) = self.columns() {
            let x = x.dense();
            let y =
                Tensor::build(x.shape(), |out| columns::softmax::<T, LOG>(slice(&x), size, out));
            return Ok((y.clone(), y));
        }
        let f = if LOG { kernel::log_softmax } else { kernel::softmax };
        let x = self.0.rows(x);
        let y = Tensor::build(x.shape(), |out| f(slice(&x), self.0.count(), out));
        let y = self.0.unrows(&y);
        Ok((y.clone(), y))
    }
    fn vjp(&self, y: Tensor<T>, g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        if let Some(size) = self.columns() {
            let (y, g) = (y.dense(), g.dense());
            let d = Tensor::build(y.shape(), |out| {
                columns::back::<T, LOG>(slice(&y), slice(&g), size, out);
            });
            return Ok([Some(d)]);
        }
        let f = if LOG { kernel::log_softmax_back } else { kernel::softmax_back };
        let (y, g) = (self.0.rows(&y), self.0.rows(&g));
        let d = Tensor::build(y.shape(), |out| f(slice(&y), slice(&g), self.0.count(), out));
        Ok([Some(self.0.unrows(&d))])
    }
    fn vjp_recorded(
        &self,
        y: Tensor<T>,
        g: Tensor<T>,
        _: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        let axes = self.0.signed();
        Ok([Some(match LOG {
            true => g.try_sub(&y.exp().try_mul(&g.sum_axes(&axes[..], true)?)?)?,
            false => y.try_mul(&g.try_sub(&g.try_mul(&y)?.sum_axes(&axes[..], true)?)?)?,
        })])
    }
}

struct LogSumExp(Reduced);

impl<T: Float> Op<T, 1> for LogSumExp {
    /// The input and the output.
    type Saved = (Tensor<T>, Tensor<T>);
    fn name(&self) -> &'static str {
        "logsumexp"
    }
    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, Self::Saved)> {
        let rows = self.0.rows(x);
        let y = Tensor::build(&self.0.out_shape(), |out| {
            kernel::log_sum_exp(slice(&rows), self.0.count(), out);
        });
        Ok((y.clone(), (x.clone(), y)))
    }
    fn vjp(
        &self,
        (x, y): Self::Saved,
        g: Tensor<T>,
        _: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        let (x, g) = (self.0.rows(&x), g.dense());
        let d = Tensor::build(x.shape(), |out| {
            kernel::log_sum_exp_back(slice(&x), slice(&y), slice(&g), self.0.count(), out);
        });
        Ok([Some(self.0.unrows(&d))])
    }
    fn vjp_recorded(
        &self,
        (x, y): Self::Saved,
        g: Tensor<T>,
        _: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        let share = x.try_sub(&self.0.expand_recorded(&y)?)?.exp();
        Ok([Some(self.0.expand_recorded(&g)?.try_mul(&share)?)])
    }
}

impl<T: Float> Tensor<T> {
    /// Softmax along an axis: y_i = e^{x_i} / Σ_j e^{x_j}. Large inputs do not overflow.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let y = Tensor::from([0.0f32, 3f32.ln()]).softmax(-1)?;
    /// assert!((y.get([1])? - 0.75).abs() < 1e-6);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`](crate::Error::Axis) if there is no such axis.
    pub fn softmax(&self, axis: isize) -> Result<Tensor<T>> {
        apply(Softmax::<false>(Reduced::new("softmax", self.shape(), axis, true)?), [self])
    }

    /// The logarithm of the softmax along an axis: y_i = x_i - ln Σ_j e^{x_j}. More accurate than the logarithm of
    /// [`softmax`](Self::softmax), which rounds to 0 first.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let y = Tensor::from([0.0f32, 200.0]).log_softmax(0)?;
    /// assert_eq!(y.to_vec(), [-200.0, 0.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`](crate::Error::Axis) if there is no such axis.
    pub fn log_softmax(&self, axis: isize) -> Result<Tensor<T>> {
        apply(Softmax::<true>(Reduced::new("log_softmax", self.shape(), axis, true)?), [self])
    }

    /// y = ln Σ e^x over some axes, which `keepdim` keeps with size 1; large inputs do not overflow. -∞ where there is nothing to add.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let y = Tensor::from([1000.0f32, 1000.0]).logsumexp(0, false)?;
    /// assert_eq!(y.item()?, 1000.0 + 2f32.ln());
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`](crate::Error::Axis) for an axis that does not exist, [`Error::Argument`](crate::Error::Argument) for one that
    /// comes twice.
    pub fn logsumexp(&self, axes: impl IntoAxes, keepdim: bool) -> Result<Tensor<T>> {
        apply(LogSumExp(Reduced::new("logsumexp", self.shape(), axes, keepdim)?), [self])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;
    use crate::error::Error;

    fn close(a: &[f64], b: &[f64]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12)
    }

    #[test]
    fn by_hand_at_every_length() {
        for n in [1, 2, 5, 15, 16, 17, 40, 1024, 1100, 2500] {
            let x = Tensor::from_fn([3, n], |i| (i * 31 % 17) as f64 * 0.4 - 3.0).unwrap();
            let (y, l) = (x.softmax(1).unwrap(), x.log_softmax(-1).unwrap());
            let s = x.logsumexp(1, false).unwrap().to_vec();
            for r in 0..3 {
                let row = &x.to_vec()[r * n..][..n];
                let sum: f64 = row.iter().map(|v| v.exp()).sum();
                let want: Vec<f64> = row.iter().map(|v| v.exp() / sum).collect();
                assert!(close(&y.to_vec()[r * n..][..n], &want), "{n}");
                let want: Vec<f64> = row.iter().map(|v| v - sum.ln()).collect();
                assert!(close(&l.to_vec()[r * n..][..n], &want), "{n}");
                assert!(close(&s[r..=r], &[sum.ln()]), "{n}");
            }
        }
    }

    #[test]
    fn gradients_along_every_axis() {
        let x = Tensor::from_fn([2, 3, 17], |i| (i * 31 % 17) as f64 * 0.3 - 2.0).unwrap();
        let t = x.with_layout(x.layout().permute(&[2, 0, 1]).slice(0, 16, 6, -3));
        let wide = Tensor::from_fn([3, 2, 20], |i| (i * 37 % 19) as f64 * 0.3 - 2.0).unwrap();
        for x in [&x, &t, &wide] {
            for axis in [0, 1, -1] {
                gradcheck(|[x]| x.softmax(axis), [x]).unwrap();
                gradcheck(|[x]| x.log_softmax(axis), [x]).unwrap();
                gradcheck(|[x]| x.logsumexp(axis, true), [x]).unwrap();
                assert!(close(
                    &x.softmax(axis).unwrap().to_vec(),
                    &x.copy().softmax(axis).unwrap().to_vec()
                ));
            }
            gradcheck(|[x]| x.logsumexp([0, 2], false), [x]).unwrap();
            gradcheck(|[x]| x.logsumexp(.., false), [x]).unwrap();
        }
    }

    #[test]
    fn columns_agree_with_rows() {
        for shape in [[1, 3, 16], [2, 70, 65], [3, 33, 600], [1, 3000, 40]] {
            let at = |i: usize| (i * 31 % 1009) as f64 * 0.02 - 9.0;
            let x = Tensor::from_fn(shape, at).unwrap();
            let g = Tensor::from_fn(shape, |i| (i % 7) as f64 - 3.0).unwrap();
            let turned = |x: &Tensor<f64>| x.with_layout(x.layout().permute(&[0, 2, 1])).copy();
            for f in [Tensor::softmax, Tensor::log_softmax] {
                let along = |x: &Tensor<f64>, g: &Tensor<f64>, axis| {
                    let tape = crate::Tape::new(0);
                    let x = tape.leaf(x);
                    let y = f(&x, axis).unwrap();
                    let grads = y.backward_with(g).unwrap();
                    let d = grads.wrt(&x).unwrap();
                    [y.detach(), d.clone()]
                };
                let columns = along(&x, &g, 1);
                let rows = along(&turned(&x), &turned(&g), 2);
                for (c, r) in columns.iter().zip(&rows) {
                    assert!(close(&turned(c).to_vec(), &r.to_vec()), "{shape:?}");
                }
            }
        }
    }

    #[test]
    fn extremes() {
        let inf = f32::INFINITY;
        let x = Tensor::from([[0.0, -inf, 1e30], [-inf, -inf, 2.0], [-inf, -inf, -inf]]);
        let y = x.softmax(-1).unwrap().to_vec();
        assert_eq!(y[..6], [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
        assert!(y[6..].iter().all(|v| v.is_nan()));
        assert_eq!(x.logsumexp(1, false).unwrap().to_vec(), [1e30, 2.0, -inf]);
        let y = Tensor::from([1.0f32, f32::NAN]).softmax(0).unwrap();
        assert!(y.iter().all(|v| v.is_nan()));
        let empty = Tensor::<f32>::zeros([2, 0]).unwrap();
        assert_eq!(empty.softmax(1).unwrap().shape(), [2, 0]);
        assert_eq!(empty.softmax(0).unwrap().shape(), [2, 0]);
        assert_eq!(empty.logsumexp(1, false).unwrap().to_vec(), [-inf, -inf]);
        assert!(matches!(Tensor::scalar(1.0f32).softmax(0), Err(Error::Axis { .. })));
    }
}
