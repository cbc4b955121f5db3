//! Writing by index: scatter, index_add, index_copy; choosing by a mask; one-hot rows.
//!
//! scatter: y = x, with `source[i]` at `places[i]`; of two sources for one place the later one stays. dx = g, 0 at those places;
//! d source = g at its place, 0 for a source that was overwritten.

use std::sync::Arc;

use super::float_only::record_if_float;
use super::index::{checked, places};
use crate::autograd::Op;
use crate::element::{Element, Num};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::tensor::{Tensor, axis};

/// Where in the dense tensor each source goes; `None` for one that a later source overwrites.
#[derive(Clone)]
struct Scatter(Arc<Vec<Option<usize>>>);

impl Scatter {
    fn new(places: Vec<usize>, len: usize) -> Self {
        let mut taken = vec![false; len];
        let mut kept: Vec<Option<usize>> = places
            .into_iter()
            .rev()
            .map(|p| (!std::mem::replace(&mut taken[p], true)).then_some(p))
            .collect();
        kept.reverse();
        Scatter(Arc::new(kept))
    }

    fn plain<T: Element>(&self, x: &Tensor<T>, source: &Tensor<T>) -> Tensor<T> {
        let mut y = x.copy();
        let source = source.dense();
        let out = y.make_mut();
        for (p, &s) in self.0.iter().zip(source.as_slice().unwrap_or(&[])) {
            if let &Some(p) = p {
                out[p] = s;
            }
        }
        y
    }

    /// Whether each element of the result is one of `x`'s, and whether each source got through: both as factors.
    fn factors<T: Float>(&self, x: &[usize], source: &[usize]) -> (Tensor<T>, Tensor<T>) {
        let of_x = Tensor::build(x, |out| {
            out.fill(T::ONE);
            self.0.iter().flatten().for_each(|&p| out[p] = T::ZERO);
        });
        let of_source = Tensor::build(source, |out| {
            for (o, p) in out.iter_mut().zip(self.0.iter()) {
                *o = if p.is_some() { T::ONE } else { T::ZERO };
            }
        });
        (of_x, of_source)
    }
}

/// A scatter and how to read back what it wrote.
#[derive(Clone)]
struct ScatterOp {
    scatter: Scatter,
    along: isize,
    index: Tensor<i64>,
    shape: crate::tensor::Dims,
}

impl<T: Float> Op<T, 2> for ScatterOp {
    type Saved = ();
    const COMPOSED: bool = true;
    fn name(&self) -> &'static str {
        "scatter"
    }
    fn forward(&self, [x, source]: [&Tensor<T>; 2]) -> Result<(Tensor<T>, ())> {
        Ok((self.scatter.plain(x, source), ()))
    }
    fn vjp(&self, (): (), g: Tensor<T>, needs: [bool; 2]) -> Result<[Option<Tensor<T>>; 2]> {
        let (of_x, of_source) = self.scatter.factors::<T>(&self.shape, self.index.shape());
        let dx = if needs[0] { Some(g.try_mul(&of_x)?) } else { None };
        let ds = match needs[1] {
            true => Some(g.gather(self.along, &self.index)?.try_mul(&of_source)?),
            false => None,
        };
        Ok([dx, ds])
    }
}

/// The index of whole slices as the index of their elements: repeated over all axes but one.
fn spread(
    op: &'static str,
    shape: &[usize],
    axis: usize,
    index: &Tensor<i64>,
    source: &[usize],
) -> Result<Tensor<i64>> {
    let &[n] = index.shape() else {
        let message = format!("the index has shape {:?}; it must have one axis", index.shape());
        return Err(Error::shape(op, message));
    };
    let mut expected = shape.to_vec();
    expected[axis] = n;
    if source != expected {
        let message = format!(
            "the source has shape {source:?}; expected {expected:?}, for {n} slices along axis {axis} of shape {shape:?}"
        );
        return Err(Error::shape(op, message));
    }
    checked(op, index, axis, shape[axis])?;
    let mut column = vec![1; shape.len()];
    column[axis] = n;
    index.reshape(&column[..])?.expand(&expected[..])
}

impl<T: Element> Tensor<T> {
    /// This tensor with `source[i, j]` at `[index[i, j], j]` (for axis 0 of a matrix). Where an index repeats, the last one in row-major order stays, and only it
    /// gets a gradient.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x = Tensor::from([1.0f32, 2.0, 3.0]);
    /// let y = x.scatter(0, &Tensor::from([2, 0]), &Tensor::from([10.0, 20.0]))?;
    /// assert_eq!(y.to_vec(), [20.0, 2.0, 10.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if index and source differ in shape or do not fit, [`Error::Index`] for an index out of range.
    pub fn scatter(&self, along: isize, index: &Tensor<i64>, source: &Self) -> Result<Self> {
        const OP: &str = "scatter";
        let axis = axis(OP, along, self.rank())?;
        if index.shape() != source.shape() {
            let (i, s) = (index.shape(), source.shape());
            let message =
                format!("the index has shape {i:?}, the source {s:?}; they must be the same");
            return Err(Error::shape(OP, message));
        }
        let scatter = Scatter::new(places(OP, self.shape(), axis, index)?, self.len());
        let op = ScatterOp {
            scatter: scatter.clone(),
            along: axis as isize,
            index: index.clone(),
            shape: self.shape().into(),
        };
        record_if_float(op, [self, source], |[x, s]| Ok(scatter.plain(x, s)))
    }

    /// This tensor with the slices of `source` in place of the slices `index[0]`, `index[1]`, … of an axis.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::zeros([3, 2])?;
    /// let y = x.index_copy(0, &Tensor::from([2]), &Tensor::from([[5.0, 6.0]]))?;
    /// assert_eq!(y.to_vec(), [0.0, 0.0, 0.0, 0.0, 5.0, 6.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the index has not one axis or the source not that many slices, [`Error::Index`] for an index out of range.
    pub fn index_copy(&self, along: isize, index: &Tensor<i64>, source: &Self) -> Result<Self> {
        let axis = axis("index_copy", along, self.rank())?;
        let wide = spread("index_copy", self.shape(), axis, index, source.shape())?;
        self.scatter(along, &wide, source)
    }

    /// The elements where the mask is true, in row-major order: of rank 1. The mask broadcasts to this tensor's shape.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x = Tensor::from([[1.0f32, -2.0], [3.0, -4.0]]);
    /// assert_eq!(x.masked_select(&x.gt_scalar(0.0))?.to_vec(), [1.0, 3.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the mask does not broadcast to this shape.
    pub fn masked_select(&self, mask: &Tensor<bool>) -> Result<Self> {
        let mask = mask.expand(self.shape())?;
        let index: Vec<i64> =
            mask.iter().enumerate().filter(|(_, m)| *m).map(|(i, _)| i as i64).collect();
        let n = index.len();
        self.reshape([self.len()])?.index_select(0, &Tensor::from_vec(index, [n])?)
    }
}

impl<T: Float> Tensor<T> {
    /// This tensor with the slices of `source` added to the slices `index[0]`, `index[1]`, … of an axis, also where an index repeats.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::ones([3])?;
    /// let y = x.index_add(0, &Tensor::from([0, 0, 2]), &Tensor::from([1.0, 2.0, 5.0]))?;
    /// assert_eq!(y.to_vec(), [4.0, 1.0, 6.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the index has not one axis or the source not that many slices, [`Error::Index`] for an index out of range.
    pub fn index_add(&self, along: isize, index: &Tensor<i64>, source: &Self) -> Result<Self> {
        let axis = axis("index_add", along, self.rank())?;
        let wide = spread("index_add", self.shape(), axis, index, source.shape())?;
        self.scatter_add(along, &wide, source)
    }
}

impl<T: Num> Tensor<T> {
    /// The indices of the elements that are not 0, a row for each: \[n, rank\].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x = Tensor::from([[0.0f32, 7.0], [8.0, 0.0]]);
    /// assert_eq!(x.nonzero(), Tensor::from([[0i64, 1], [1, 0]]));
    /// ```
    pub fn nonzero(&self) -> Tensor<i64> {
        let mut rows: Vec<i64> = Vec::new();
        for (i, _) in self.iter().enumerate().filter(|(_, v)| *v != T::ZERO) {
            let at = rows.len();
            let mut rest = i;
            for &n in self.shape().iter().rev() {
                rows.insert(at, (rest % n) as i64);
                rest /= n;
            }
        }
        let n = self.iter().filter(|v| *v != T::ZERO).count();
        Tensor::build(&[n, self.rank()], |out| out.copy_from_slice(&rows))
    }
}

impl Tensor<i64> {
    /// Rows of zeros with a one at each class, of shape \[.., classes\].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let y: Tensor = Tensor::from([2i64, 0]).one_hot(3)?;
    /// assert_eq!(y, Tensor::from([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Index`] for a class that is negative or not below `classes`, [`Error::Overflow`] if the result does not fit in memory.
    pub fn one_hot<T: Num>(&self, classes: usize) -> Result<Tensor<T>> {
        const OP: &str = "one_hot";
        for (i, c) in self.iter().enumerate() {
            if c < 0 || c as usize >= classes {
                let what = format!("the classes (element {i})");
                return Err(Error::Index { op: OP, index: c, what, size: classes });
            }
        }
        let mut shape = self.shape().to_vec();
        shape.push(classes);
        Tensor::try_build(OP, &shape, |out| {
            out.fill(T::ZERO);
            if classes > 0 {
                out.chunks_mut(classes).zip(self.iter()).for_each(|(o, c)| o[c as usize] = T::ONE);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::{gradcheck, gradgradcheck};

    fn f64s(shape: &[usize]) -> Tensor<f64> {
        Tensor::from_fn(shape, |i| i as f64 * 0.7 - 2.0).unwrap()
    }

    #[test]
    fn scatter_with_repeats() -> Result<()> {
        let index = Tensor::from([[1i64, 0, 1], [1, 1, -1]]);
        let (x, s) = (f64s(&[2, 3]), f64s(&[2, 3]) + 10.0);
        let y = x.scatter(0, &index, &s)?;
        // Column 0: rows 1, 1; column 1: rows 0, 1; column 2: rows 1, -1.
        let want = [
            x.get([0, 0])?,
            s.get([0, 1])?,
            x.get([0, 2])?,
            s.get([1, 0])?,
            s.get([1, 1])?,
            s.get([1, 2])?,
        ];
        assert_eq!(y.to_vec(), want);
        for (x, s) in [(&x, &s), (&f64s(&[3, 2]).t()?, &f64s(&[3, 2]).t()?)] {
            gradcheck(|[x, s]| x.scatter(0, &index, s), [x, s])?;
            gradgradcheck(
                |[x, s]| Ok(x.square().scatter(0, &index, &s.square())?.square()),
                [x, s],
            )?;
        }
        assert_eq!(
            Tensor::from([1i64, 2]).scatter(0, &Tensor::from([0]), &Tensor::from([9i64]))?.to_vec(),
            [9, 2]
        );
        Ok(())
    }

    #[test]
    fn slices() -> Result<()> {
        let index = Tensor::from([2i64, 0, 2]);
        let (x, s) = (f64s(&[2, 3]), f64s(&[3, 2]).t()?);
        gradcheck(|[x, s]| x.index_add(1, &index, s), [&x, &s])?;
        gradcheck(|[x, s]| x.index_copy(1, &index, s), [&x, &s])?;
        gradgradcheck(|[x, s]| Ok(x.index_add(1, &index, s)?.powi(3)), [&x, &s])?;
        let e = x.index_add(0, &index, &s).unwrap_err().to_string();
        assert_eq!(
            e,
            "index_add: the source has shape [2, 3]; expected [3, 3], for 3 slices along axis 0 of shape [2, 3]"
        );
        assert!(matches!(
            x.index_copy(1, &Tensor::from([3i64]), &f64s(&[2, 1])),
            Err(Error::Index { .. })
        ));
        Ok(())
    }

    #[test]
    fn masks_and_one_hot() -> Result<()> {
        let x = Tensor::from_fn([3, 2], |i| i as f64 * 0.5 - 2.0)?.t()?;
        let mask = Tensor::from([true, false, true]);
        assert_eq!(x.masked_select(&mask)?.to_vec(), [-2.0, 0.0, -1.5, 0.5]);
        gradcheck(|[x]| x.masked_select(&mask), [&x])?;
        assert_eq!(x.masked_select(&Tensor::from([false]))?.shape(), [0]);
        assert_eq!(Tensor::<f32>::zeros([0, 2])?.nonzero().shape(), [0, 2]);
        assert_eq!(Tensor::scalar(1i64).nonzero().shape(), [1, 0]);
        assert_eq!(Tensor::<i64>::zeros([0])?.one_hot::<f32>(3)?.shape(), [0, 3]);
        let e = Tensor::from([1i64, 3]).one_hot::<f32>(3).unwrap_err().to_string();
        assert_eq!(e, "one_hot: index 3 is out of range for the classes (element 1) of size 3");
        Ok(())
    }
}
