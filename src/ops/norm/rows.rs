//! Layer normalisation and RMS normalisation, over the last axes.

use super::composed::{Affine, Sharing, dense, elements, present};
use super::{check, slice};
use crate::autograd::{OpMany, apply_many};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::norm::rows as kernel;
use crate::tensor::{Dims, IntoShape, Tensor};

/// Rows of `n` elements, each by itself; `CENTRE` for layer, else RMS normalisation.
struct RowNorm<const CENTRE: bool> {
    name: &'static str,
    /// The shape that is normalised, at the end of the input's.
    over: Dims,
    eps: f64,
    affine: Affine,
}

impl<const CENTRE: bool> RowNorm<CENTRE> {
    fn count(&self) -> usize {
        self.over.iter().product()
    }

    fn sharing(&self, shape: &[usize]) -> Sharing {
        let n = self.count();
        let rows = shape[..shape.len() - self.over.len()].iter().product();
        let flat = Dims::from_slice(&[rows, n]);
        Sharing {
            stat: (flat.clone(), Dims::from_slice(&[1])),
            view: (flat, Dims::from_slice(&[1, n])),
            centre: CENTRE,
            eps: self.eps,
        }
    }
}

impl<T: Float, const CENTRE: bool> OpMany<T> for RowNorm<CENTRE> {
    /// Input, weight, and mean and 1 / √(v + ε) of each row.
    type Saved = (Tensor<T>, Option<Tensor<T>>, Tensor<T>);
    type Gradients = Vec<Option<Tensor<T>>>;
    fn name(&self) -> &'static str {
        self.name
    }
    fn forward(&self, x: &[&Tensor<T>]) -> Result<(Tensor<T>, Self::Saved)> {
        let (weight, bias) = (self.affine.weight(x), self.affine.bias(x));
        let (w, b, n) = (dense(weight), dense(bias), self.count());
        let rows = x[0].dense();
        let mut stats = Tensor::build(&[rows.len() / n.max(1), 2], |_| ());
        let y = Tensor::build(rows.shape(), |out| {
            let affine = (elements(&w), elements(&b));
            let (stats, _) = stats.make_mut().as_chunks_mut::<2>();
            kernel::forward::<T, CENTRE>(slice(&rows), affine, n, T::of(self.eps), out, stats);
        });
        Ok((y, (x[0].clone(), weight.cloned(), stats)))
    }
    fn vjp(
        &self,
        (x, weight, stats): Self::Saved,
        g: Tensor<T>,
        _: &[bool],
    ) -> Result<Vec<Option<Tensor<T>>>> {
        let (x, g, w, n) = (x.dense(), g.dense(), dense(weight.as_ref()), self.count());
        let some = self.affine.weight || self.affine.bias;
        let mut sums = vec![T::ZERO; if some { 2 * n } else { 0 }];
        let dx = Tensor::build(x.shape(), |dx| {
            let (stats, _) = slice(&stats).as_chunks::<2>();
            let inputs = (slice(&x), slice(&g), elements(&w));
            kernel::backward::<T, CENTRE>(inputs, n, stats, dx, &mut sums);
        });
        let half = |at: usize| match some {
            true => Tensor::build(&self.over, |d| d.copy_from_slice(&sums[at..at + n])),
            false => Tensor::build(&[0], |_| ()),
        };
        Ok(self.affine.gradients([dx, half(0), half(n)]))
    }
    fn vjp_recorded(
        &self,
        (x, weight, _): Self::Saved,
        g: Tensor<T>,
        _: &[bool],
    ) -> Result<Vec<Option<Tensor<T>>>> {
        let sharing = self.sharing(x.shape());
        let d = sharing.gradients(&x, weight.as_ref(), None, &g, &self.over)?;
        Ok(self.affine.gradients(d))
    }
}

fn row_norm<T: Float, const CENTRE: bool>(
    op: &'static str,
    x: &Tensor<T>,
    over: Dims,
    [weight, bias]: [Option<&Tensor<T>>; 2],
    eps: f64,
) -> Result<Tensor<T>> {
    if over.is_empty() || !x.shape().ends_with(&over) {
        let message = format!(
            "the input has shape {:?}, but it must end with the normalised shape {:?}, which has at least one axis",
            x.shape(),
            &over[..]
        );
        return Err(Error::shape(op, message));
    }
    check(op, [weight, bias], &over, eps)?;
    let affine = Affine::of(weight, bias);
    apply_many(RowNorm::<CENTRE> { name: op, over, eps, affine }, &present(x, weight, bias))
}

/// [`Tensor::layer_norm`] under another name in errors.
pub(crate) fn layer_norm<T: Float>(
    op: &'static str,
    x: &Tensor<T>,
    over: &[usize],
    affine: [Option<&Tensor<T>>; 2],
    eps: f64,
) -> Result<Tensor<T>> {
    row_norm::<T, true>(op, x, over.into(), affine, eps)
}

/// [`Tensor::rms_norm`] under another name in errors.
pub(crate) fn rms_norm<T: Float>(
    op: &'static str,
    x: &Tensor<T>,
    over: &[usize],
    weight: Option<&Tensor<T>>,
    eps: f64,
) -> Result<Tensor<T>> {
    row_norm::<T, false>(op, x, over.into(), [weight, None], eps)
}

impl<T: Float> Tensor<T> {
    /// Layer normalisation over the last axes (Ba et al., 2016): y = (x - m) / √(v + ε) · w + b, with the mean m and the variance v (divided by n)
    /// of the elements of each index of the leading axes.
    ///
    /// `shape` is that of the axes that are normalised, the end of the tensor's own shape; weight and bias have it too.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 3.0], [10.0, 30.0]]);
    /// let y = x.layer_norm(2, None, None, 0.0)?;
    /// assert_eq!(y.to_vec(), [-1.0, 1.0, -1.0, 1.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not fit, [`Error::Argument`] for a negative `eps`.
    pub fn layer_norm(
        &self,
        shape: impl IntoShape,
        weight: Option<&Tensor<T>>,
        bias: Option<&Tensor<T>>,
        eps: f64,
    ) -> Result<Tensor<T>> {
        layer_norm("layer_norm", self, &shape.into_shape(), [weight, bias], eps)
    }

    /// Root mean square normalisation over the last axes (Zhang and Sennrich, 2019): y = x / √(Σ x² / n + ε) · w.
    ///
    /// `shape` is that of the axes that are normalised, the end of the tensor's own shape; the weight has it too.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 7.0], [5.0, -5.0]]);
    /// let y = x.rms_norm(2, Some(&Tensor::from([5.0, 10.0])), 0.0)?;
    /// assert!((y.get([0, 1])? - 14.0).abs() < 1e-5 && y.get([1, 0])? == 5.0);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not fit, [`Error::Argument`] for a negative `eps`.
    pub fn rms_norm(
        &self,
        shape: impl IntoShape,
        weight: Option<&Tensor<T>>,
        eps: f64,
    ) -> Result<Tensor<T>> {
        rms_norm("rms_norm", self, &shape.into_shape(), weight, eps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::{gradcheck, gradgradcheck};

    fn grid(shape: &[usize]) -> Tensor<f64> {
        Tensor::from_fn(shape, |i| ((i * 37 + 11) % 64) as f64 * 0.07 - 2.0).unwrap()
    }

    fn op<const CENTRE: bool>(over: &[usize], affine: Affine) -> RowNorm<CENTRE> {
        RowNorm { name: "test", over: over.into(), eps: 1e-3, affine }
    }

    /// A row of one number is its own mean: its gradient is 0, not what rounding leaves of a difference times 1 / √ε.
    #[test]
    fn rows_of_one_number_have_no_gradient() {
        let tape = crate::Tape::new(0);
        let x = tape.leaf(&Tensor::from_fn([33, 1], |i| 50.0 + i as f32 * 0.37).unwrap());
        let (w, g) = (Tensor::from([0.7f32]), Tensor::from_fn([33, 1], |i| 0.1 + i as f32 * 0.3));
        let y = x.layer_norm([1], Some(&w), None, 1e-5).unwrap();
        let grads = y.backward_with(&g.unwrap()).unwrap();
        assert!(grads.wrt(&x).unwrap().iter().all(|d| d == 0.0));
    }

    /// Value and every gradient of the loops against the composition, to the last digits that a different order of additions leaves.
    fn agree<const CENTRE: bool>(x: &Tensor<f64>, over: &[usize], weight: bool, bias: bool) {
        let (w, b) = (grid(over), grid(over).mul_scalar(0.5));
        let affine = Affine { weight, bias };
        let inputs = present(x, weight.then_some(&w), bias.then_some(&b));
        let op = op::<CENTRE>(over, affine);
        let (y, saved) = OpMany::forward(&op, &inputs).unwrap();
        let want =
            op.sharing(x.shape()).forward(x, weight.then_some(&w), bias.then_some(&b)).unwrap();
        let near = |a: &Tensor<f64>, b: &Tensor<f64>| {
            assert_eq!(a.shape(), b.shape());
            a.iter().zip(b.iter()).for_each(|(a, b)| assert!((a - b).abs() < 1e-10, "{a} {b}"));
        };
        near(&y, &want);
        let g = grid(x.shape()).sin();
        let needs = [true; 3];
        let fused = op.vjp(saved.clone(), g.clone(), &needs[..inputs.len()]).unwrap();
        let slow = op.vjp_recorded(saved, g, &needs[..inputs.len()]).unwrap();
        assert_eq!(fused.len(), inputs.len());
        for (a, b) in fused.into_iter().zip(slow) {
            near(&a.unwrap(), &b.unwrap());
        }
    }

    #[test]
    fn the_loops_and_the_composition_agree() {
        for (shape, over) in [
            (&[3, 1][..], &[1][..]),
            (&[7], &[7]),
            (&[4, 5], &[5]),
            (&[2, 3, 4], &[3, 4]),
            (&[3, 100], &[100]),
            (&[700, 33], &[33]),
            (&[2, 5000], &[5000]),
            (&[0, 4], &[4]),
        ] {
            for k in 0..4 {
                agree::<true>(&grid(shape), over, k & 1 == 1, k & 2 == 2);
                agree::<false>(&grid(shape), over, k & 1 == 1, k & 2 == 2);
            }
        }
        let x = grid(&[6, 4, 10]);
        let t = x.with_layout(x.layout().permute(&[2, 0, 1]));
        let s = x.with_layout(x.layout().slice(2, 9, 5, -2));
        agree::<true>(&t, &[6, 4], true, true);
        agree::<true>(&s, &[5], true, true);
        agree::<false>(&t, &[4], true, false);
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let x = grid(&[4, 6]);
        let t = x.with_layout(x.layout().permute(&[1, 0]).slice(1, 3, 2, -2));
        for x in [&x, &t] {
            let n = *x.shape().last().unwrap();
            let (w, b) = (grid(&[n]), grid(&[n]));
            gradcheck(|[x, w, b]| x.layer_norm(n, Some(w), Some(b), 1e-2), [x, &w, &b]).unwrap();
            gradcheck(|[x, b]| x.layer_norm(n, None, Some(b), 1e-2), [x, &b]).unwrap();
            gradcheck(|[x, w]| x.rms_norm(n, Some(w), 1e-2), [x, &w]).unwrap();
            gradcheck(|[x]| x.rms_norm(x.shape(), None, 1e-2), [x]).unwrap();
            gradgradcheck(|[x, w]| x.layer_norm(n, Some(w), None, 1e-1), [x, &w]).unwrap();
            gradgradcheck(|[x, w]| x.rms_norm(n, Some(w), 1e-1), [x, &w]).unwrap();
        }
        let wide = grid(&[1, 3]).expand([4, 3]).unwrap();
        gradcheck(|[x]| x.layer_norm([4, 3], None, None, 1e-2), [&wide]).unwrap();
    }

    #[test]
    fn far_from_zero_constant_and_empty() {
        let x = Tensor::from([[1e9f64, 1e9 + 1.0, 1e9 + 2.0]]);
        let y = x.layer_norm(3, None, None, 0.0).unwrap().to_vec();
        assert!((y[0] + 1.5f64.sqrt()).abs() < 1e-12 && y[1] == 0.0, "{y:?}");
        let same = Tensor::from([[3.0f32; 4]]).layer_norm(4, None, None, 1e-5).unwrap();
        assert_eq!(same.to_vec(), [0.0; 4]);
        let none = Tensor::<f32>::zeros([3, 0]).unwrap().layer_norm(0, None, None, 1e-5).unwrap();
        assert_eq!(none.shape(), [3, 0]);
        let odd = Tensor::from([[1.0f32, f32::NAN], [1.0, 3.0]]);
        let y = odd.layer_norm(2, None, None, 0.0).unwrap().to_vec();
        assert!(y[..2].iter().all(|v| v.is_nan()) && y[2..] == [-1.0, 1.0]);
    }

    #[test]
    fn what_does_not_fit() {
        let x = grid(&[2, 3]);
        let e = x.layer_norm(4, None, None, 1e-5).unwrap_err().to_string();
        assert_eq!(
            e,
            "layer_norm: the input has shape [2, 3], but it must end with the normalised shape [4], which has at least one axis"
        );
        let e = x.rms_norm(3, Some(&grid(&[2])), 1e-5).unwrap_err().to_string();
        assert_eq!(e, "rms_norm: the weight has shape [2]; expected [3]");
        assert!(x.layer_norm((), None, None, 1e-5).is_err());
        let e = x.layer_norm(3, None, None, -1.0).unwrap_err().to_string();
        assert_eq!(e, "layer_norm: eps is -1; it must be at least 0");
    }
}
