//! The affine map: y = x·Wᵀ + b, for x \[.., k\], W \[n, k\], b \[n\], y \[.., n\].
//!
//! Backward, with all leading axes taken as one of size m: dx = g·W, dW = gᵀ·x, db = the column sums of g.
//! Each is one matrix product that takes its operands at their strides; the bias is added where the product is written. Where leading axes
//! were swapped (sequences first, while a recurrent layer works step by step) the rows are taken in the order of memory, and the output
//! and the gradient of x are laid out as x is: nothing is copied to bring rows into an order that no sum needs.

use crate::autograd::{OpMany, apply_array};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::gemm::{Bias, Epilogue, MatRef, gemm};
use crate::kernel::reduce;
use crate::tensor::{Dims, Tensor};

struct Linear {
    /// Who is asking, for the errors: "linear" or a layer.
    name: &'static str,
}

/// Sizes of the product.
struct Sizes {
    m: usize,
    k: usize,
    n: usize,
}

impl Linear {
    fn check<T: Float>(&self, x: &[&Tensor<T>]) -> Result<Sizes> {
        let (shape, weight) = (x[0].shape(), x[1].shape());
        let &[n, k] = weight else {
            let message = format!("the weight has shape {weight:?}; it must be [outputs, inputs]");
            return Err(Error::shape(self.name, message));
        };
        if shape.last() != Some(&k) {
            let message = format!(
                "input {} does not fit: expected a last axis of {k} (weight {weight:?})",
                last_axis(shape)
            );
            return Err(Error::shape(self.name, message));
        }
        if let Some(b) = x.get(2)
            && b.shape() != [n]
        {
            let message =
                format!("the bias has shape {:?}; expected [{n}] (weight {weight:?})", b.shape());
            return Err(Error::shape(self.name, message));
        }
        Ok(Sizes { m: shape[..shape.len() - 1].iter().product(), k, n })
    }
}

impl Linear {
    /// The output for rows of x.
    fn compute<T: Float>(
        &self,
        rows: &Tensor<T>,
        x: &[&Tensor<T>],
        Sizes { m, k, n }: Sizes,
    ) -> Result<Tensor<T>> {
        let mut shape: Dims = crate::tensor::short(rows.shape());
        if let Some(last) = shape.last_mut() {
            *last = n;
        }
        let mut copies = [None, None];
        let [rows_copy, bias_copy] = &mut copies;
        let rows = flat(rows, m, k, rows_copy);
        let bias = match x.get(2) {
            None => Bias::None,
            Some(b) => Bias::Col(b.elements(bias_copy)),
        };
        Tensor::try_build(self.name, &shape, |out| {
            gemm(m, k, n, rows, matrix(x[1]).t(), out, n, false, Epilogue { bias, relu: false });
        })
    }
}

/// The order of the axes in memory, if rows can be taken in that order but not in that of the axes.
fn swapped<T: Float>(x: &Tensor<T>, &Sizes { m, k, .. }: &Sizes) -> Option<Dims> {
    let l = x.layout();
    if l.is_dense() || l.reshape(&[m, k]).is_some() {
        return None;
    }
    let axes = l.memory_order();
    l.permute(&axes).reshape(&[m, k]).map(|_| axes)
}

fn permuted<T: Float>(x: &Tensor<T>, axes: &[usize]) -> Tensor<T> {
    x.with_layout(x.layout().permute(axes))
}

/// A shape of which only the last axis matters.
fn last_axis(shape: &[usize]) -> String {
    match shape {
        [] => "[] (a single number)".into(),
        [one] => format!("[{one}]"),
        [.., last] => format!("[.., {last}]"),
    }
}

impl<T: Float> OpMany<T> for Linear {
    type Saved = (Tensor<T>, Tensor<T>);
    type Gradients = [Option<Tensor<T>>; 3];

    fn name(&self) -> &'static str {
        self.name
    }

    fn forward(&self, x: &[&Tensor<T>]) -> Result<(Tensor<T>, Self::Saved)> {
        let sizes = self.check(x)?;
        let y = match swapped(x[0], &sizes) {
            None => self.compute(x[0], x, sizes)?,
            Some(axes) => {
                let y = self.compute(&permuted(x[0], &axes), x, sizes)?;
                y.with_layout(y.layout().permute_back(&axes))
            }
        };
        Ok((y, (x[0].clone(), x[1].clone())))
    }

    fn vjp(
        &self,
        (x, weight): Self::Saved,
        g: Tensor<T>,
        needs: &[bool],
    ) -> Result<Self::Gradients> {
        let (n, k) = (weight.shape()[0], weight.shape()[1]);
        let m = x.shape()[..x.rank() - 1].iter().product();
        if let Some(axes) = swapped(&x, &Sizes { m, k, n }) {
            let (x, g) = (permuted(&x, &axes), permuted(&g, &axes));
            let mut d = self.vjp((x, weight), g, needs)?;
            d[0] = d[0].take().map(|dx| dx.with_layout(dx.layout().permute_back(&axes)));
            return Ok(d);
        }
        let mut copies = [None, None];
        let [g_copy, x_copy] = &mut copies;
        let rows = flat(&g, m, n, g_copy);
        let dx = needs[0].then(|| product(rows, matrix(&weight), [m, n, k], x.shape()));
        let dw =
            needs[1].then(|| product(rows.t(), flat(&x, m, k, x_copy), [n, m, k], weight.shape()));
        let db = needs.get(2) == Some(&true);
        let db = db.then(|| column_sums(g_copy.as_ref().unwrap_or(&g), m, n));
        Ok([dx, dw, db])
    }

    fn vjp_recorded(
        &self,
        (x, weight): Self::Saved,
        g: Tensor<T>,
        needs: &[bool],
    ) -> Result<Self::Gradients> {
        let (n, k) = (weight.shape()[0], weight.shape()[1]);
        let m: usize = x.shape()[..x.rank() - 1].iter().product();
        let g = g.reshape([m, n])?;
        let mut d = [const { None }; 3];
        for (i, (d, _)) in d.iter_mut().zip(needs).enumerate().filter(|(_, (_, needed))| **needed) {
            *d = Some(match i {
                0 => g.matmul(&weight)?.reshape(x.shape())?,
                1 => g.t()?.matmul(&x.reshape([m, k])?)?,
                _ => g.sum_axes(0, false)?,
            });
        }
        Ok(d)
    }

    fn flops(&self, x: &[&[usize]]) -> u64 {
        let outputs = x[1].first().copied().unwrap_or(0);
        2 * (x[0].iter().product::<usize>() * outputs) as u64
    }

    fn vjp_flops(&self, x: &[&[usize]], needs: &[bool]) -> u64 {
        OpMany::<T>::flops(self, x) * needs[..2].iter().filter(|n| **n).count() as u64
    }
}

/// A·B, of sizes \[m, k\] and \[k, n\], in a tensor of the given shape.
fn product<T: Float>(
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    [m, k, n]: [usize; 3],
    shape: &[usize],
) -> Tensor<T> {
    Tensor::build(shape, |out| gemm(m, k, n, a, b, out, n, false, Epilogue::NONE))
}

/// All axes but the last as one. Where the layout does not allow that, of a dense copy that is put in `copy`.
fn flat<'a, T: Float>(
    x: &'a Tensor<T>,
    rows: usize,
    cols: usize,
    copy: &'a mut Option<Tensor<T>>,
) -> MatRef<'a, T> {
    let l = x.layout();
    if l.is_dense() {
        return MatRef::new(x.buffer(), l.offset, cols as isize, 1);
    }
    match l.reshape(&[rows, cols]) {
        Some(l) => MatRef::new(x.buffer(), l.offset, l.strides[0], l.strides[1]),
        None => MatRef::new(copy.insert(x.copy()).buffer(), 0, cols as isize, 1),
    }
}

/// A tensor of rank 2 as the matrix product reads it.
fn matrix<T: Float>(x: &Tensor<T>) -> MatRef<'_, T> {
    MatRef::new(x.buffer(), x.layout().offset, x.strides()[0], x.strides()[1])
}

/// The sum of the rows of a tensor that can be seen as a matrix of this size.
fn column_sums<T: Float>(g: &Tensor<T>, rows: usize, cols: usize) -> Tensor<T> {
    Tensor::build(&[cols], |out| match g.layout().reshape(&[rows, cols]) {
        Some(layout) if rows > 0 && cols > 0 => {
            reduce::fold(reduce::Sum, g.buffer(), &layout, &[0], out);
        }
        _ => out.fill(T::ZERO),
    })
}

/// The affine map on behalf of a layer, whose name stands in the errors.
pub(crate) fn linear<T: Float>(
    name: &'static str,
    x: &Tensor<T>,
    weight: &Tensor<T>,
    bias: Option<&Tensor<T>>,
) -> Result<Tensor<T>> {
    match bias {
        Some(bias) => apply_array(Linear { name }, [x, weight, bias]),
        None => apply_array(Linear { name }, [x, weight]),
    }
}

impl<T: Float> Tensor<T> {
    /// The affine map y = x·Wᵀ + b over the last axis: for x \[.., k\], W \[n, k\] and b \[n\] the result is \[.., n\].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 2.0]]);
    /// let w = Tensor::from([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]);
    /// let b = Tensor::from([0.0, 0.0, 10.0]);
    /// assert_eq!(x.linear(&w, Some(&b))?.to_vec(), [1.0, 2.0, 13.0]);
    /// assert_eq!(x.linear(&w, None)?.shape(), [1, 3]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the last axis of x is not k or the bias is not \[n\].
    pub fn linear(&self, weight: &Self, bias: Option<&Self>) -> Result<Self> {
        linear("linear", self, weight, bias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::autograd::gradcheck;

    fn random(shape: &[usize], seed: u64) -> Tensor<f64> {
        Tensor::randn(shape, &mut crate::rng(seed)).unwrap()
    }

    /// The matrix whose memory holds its transpose.
    fn transposed(x: &Tensor<f64>) -> Tensor<f64> {
        let (rows, cols) = (x.shape()[0], x.shape()[1]);
        let t = Tensor::from_fn([cols, rows], |i| {
            x.get([(i % rows) as isize, (i / rows) as isize]).unwrap()
        })
        .unwrap();
        t.with_layout(t.layout().permute(&[1, 0]))
    }

    #[test]
    fn empty_and_single() {
        let (w, b) = (random(&[3, 2], 1), Tensor::from([1.0, 2.0, 3.0]));
        for lead in [&[0usize][..], &[2, 0]] {
            let shape: Vec<usize> = lead.iter().copied().chain([2]).collect();
            let y = Tensor::zeros(shape).unwrap().linear(&w, Some(&b)).unwrap();
            assert_eq!(&y.shape()[..lead.len()], lead);
            assert_eq!(y.shape()[lead.len()], 3);
        }
        // No inputs: the bias alone. No outputs: nothing.
        let x = Tensor::zeros([2, 0]).unwrap();
        let y = x.linear(&Tensor::zeros([3, 0]).unwrap(), Some(&b)).unwrap();
        assert_eq!(y.to_vec(), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
        let none =
            Tensor::<f64>::zeros([4, 2]).unwrap().linear(&Tensor::zeros([0, 2]).unwrap(), None);
        assert_eq!(none.unwrap().shape(), [4, 0]);
        let one = Tensor::from([2.0f64]).linear(&Tensor::from([[3.0]]), Some(&Tensor::from([4.0])));
        assert_eq!(one.unwrap().to_vec(), [10.0]);
    }

    #[test]
    fn gradients_of_empty_inputs_are_zeros() {
        let tape = Tape::new(0);
        let x = tape.leaf(&Tensor::<f64>::zeros([0, 2]).unwrap());
        let w = tape.leaf(&random(&[3, 2], 1));
        let b = tape.leaf(&random(&[3], 2));
        let y = x.linear(&w, Some(&b)).unwrap();
        let g = y.backward_with(&y.zeros_like()).unwrap();
        assert_eq!(g.wrt(&x).unwrap().shape(), [0, 2]);
        assert_eq!(g.wrt(&w).unwrap().to_vec(), [0.0; 6]);
        assert_eq!(g.wrt(&b).unwrap().to_vec(), [0.0; 3]);
    }

    #[test]
    fn gradients_of_every_rank() {
        let (w, b) = (random(&[4, 3], 1), random(&[4], 2));
        for shape in [&[3usize][..], &[1, 3], &[5, 3], &[2, 5, 3], &[2, 1, 2, 3]] {
            let x = random(shape, 3);
            gradcheck(|[x, w, b]| x.linear(w, Some(b)), [&x, &w, &b]).unwrap();
            gradcheck(|[x, w]| x.linear(w, None), [&x, &w]).unwrap();
        }
    }

    #[test]
    fn strided_operands() {
        let (x, w, b) = (random(&[5, 3], 1), random(&[4, 3], 2), random(&[4], 3));
        let want = x.linear(&w, Some(&b)).unwrap().to_vec();
        let (xt, wt) = (transposed(&x), transposed(&w));
        assert_eq!(xt.linear(&wt, Some(&b)).unwrap().to_vec(), want);
        gradcheck(|[x, w, b]| x.linear(w, Some(b)), [&xt, &wt, &b]).unwrap();
        // One row shown five times, through the gradient as well.
        let row = random(&[1, 3], 4);
        let same = row.with_layout(row.layout().expand(&[5, 3]));
        let y = same.linear(&w, None).unwrap();
        assert_eq!(y.to_vec()[..4], y.to_vec()[16..]);
        let g = Tensor::scalar(1.0f64);
        let g = g.with_layout(g.layout().expand(&[5, 4]));
        let tape = Tape::new(0);
        let (wl, bl) = (tape.leaf(&w), tape.leaf(&b));
        let grads = x.linear(&wl, Some(&bl)).unwrap().backward_with(&g).unwrap();
        assert_eq!(grads.wrt(&bl).unwrap().to_vec(), [5.0; 4]);
    }

    #[test]
    fn swapped_axes_stay_as_they_lie() {
        let (w, b, g) = (random(&[4, 3], 2), random(&[4], 3), random(&[2, 5, 4], 4));
        let swapped = random(&[5, 2, 3], 1).permute([1, 0, 2]).unwrap();
        let all = |x: &Tensor<f64>| {
            let tape = Tape::new(0);
            let [x, w, b] = [x, &w, &b].map(|t| tape.leaf(t));
            let y = x.linear(&w, Some(&b)).unwrap();
            let d = y.backward_with(&g).unwrap();
            let [dx, dw, db] = [&x, &w, &b].map(|t| d.wrt(t).unwrap().clone());
            [y.detach(), dx, dw, db]
        };
        let (got, want) = (all(&swapped), all(&swapped.copy()));
        for (got, want) in got.iter().zip(&want) {
            assert_eq!(got.shape(), want.shape());
            for (got, want) in got.to_vec().iter().zip(want.to_vec()) {
                assert!((got - want).abs() < 1e-12);
            }
        }
        for t in &got[..2] {
            assert!(t.permute([1, 0, 2]).unwrap().as_slice().is_some());
        }
    }

    #[test]
    fn a_long_batch_sums_without_much_error() {
        let tape = Tape::new(0);
        let x = Tensor::<f32>::zeros([100_000, 1]).unwrap();
        let w = Tensor::zeros([1, 1]).unwrap();
        let b = tape.leaf(&Tensor::zeros([1]).unwrap());
        let y = x.linear(&w, Some(&b)).unwrap();
        let grads = y.backward_with(&Tensor::full([100_000, 1], 0.1).unwrap()).unwrap();
        let sum = grads.wrt(&b).unwrap().to_vec()[0];
        // Added one by one the sum is 9998.6.
        assert!((sum - 10_000.0).abs() < 0.2, "{sum}");
    }

    #[test]
    fn what_does_not_fit() {
        let (x, w) = (random(&[2, 7], 1), random(&[4, 3], 2));
        let said = |r: Result<Tensor<f64>>| r.unwrap_err().to_string();
        assert_eq!(
            said(x.linear(&w, None)),
            "linear: input [.., 7] does not fit: expected a last axis of 3 (weight [4, 3])"
        );
        assert_eq!(
            said(random(&[2, 3], 1).linear(&w, Some(&random(&[3], 1)))),
            "linear: the bias has shape [3]; expected [4] (weight [4, 3])"
        );
        assert_eq!(
            said(Tensor::scalar(1.0).linear(&w, None)),
            "linear: input [] (a single number) does not fit: expected a last axis of 3 (weight [4, 3])"
        );
        assert_eq!(
            said(x.linear(&random(&[7], 1), None)),
            "linear: the weight has shape [7]; it must be [outputs, inputs]"
        );
    }
}
