//! Elements by index tensors: index_select, gather and their gradients, which add where an index repeats.

use crate::autograd::{Op, apply};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::embedding;
use crate::ops::float_only::record_if_float;
use crate::tensor::{Dims, Layout, Tensor, axis};

/// The indices as places below `size`, checked; negative ones count from the end.
pub(super) fn checked(
    op: &'static str,
    index: &Tensor<i64>,
    along: usize,
    size: usize,
) -> Result<Vec<usize>> {
    let dense = index.dense();
    let place = |&i: &i64| {
        let j = if i < 0 { i.saturating_add(size as i64) } else { i };
        if j < 0 || j >= size as i64 {
            return Err(Error::Index { op, index: i, what: format!("axis {along}"), size });
        }
        Ok(j as usize)
    };
    dense.as_slice().unwrap_or(&[]).iter().map(place).collect()
}

/// Whole slices along an axis: y[.., k, ..] = x[.., rows[k], ..]; backward: add g's slices to their rows.
#[derive(Clone)]
struct Select {
    axis: usize,
    rows: std::sync::Arc<Vec<usize>>,
    from: Dims,
}

impl Select {
    /// Sizes before the axis, of the axis, and behind it.
    fn parts(&self) -> (usize, usize, usize) {
        let (a, s) = (self.axis, &self.from);
        (s[..a].iter().product(), s[a], s[a + 1..].iter().product())
    }

    fn plain<T: Element>(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let mut shape = self.from.clone();
        shape[self.axis] = self.rows.len();
        let x = x.dense();
        let x = x.as_slice().unwrap_or(&[]);
        let (_, size, run) = self.parts();
        Tensor::try_build("index_select", &shape, |out| {
            embedding::gather(x, [size, run], &self.rows, None, out);
        })
    }

    /// Zeros with the slices of `g` added to their rows, in order.
    fn add_back<T: Float>(&self, g: &Tensor<T>) -> Tensor<T> {
        let g = g.dense();
        let g = g.as_slice().unwrap_or(&[]);
        let (_, size, run) = self.parts();
        let width = self.rows.len() * run;
        Tensor::build(&self.from, |out| {
            if width == 0 || size == 0 {
                return out.fill(T::ZERO);
            }
            for (out, g) in out.chunks_mut(size * run).zip(g.chunks(width)) {
                embedding::add_rows(g, run, &self.rows, None, out);
            }
        })
    }
}

impl<T: Float> Op<T, 1> for Select {
    type Saved = ();
    const COMPOSED: bool = true;
    fn name(&self) -> &'static str {
        "index_select"
    }
    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, ())> {
        Ok((self.plain(x)?, ()))
    }
    fn vjp(&self, (): (), g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        Ok([Some(apply(SelectBack(self.clone()), [&g])?)])
    }
}

/// The gradient of [`Select`], whose own gradient is the selection.
struct SelectBack(Select);

impl<T: Float> Op<T, 1> for SelectBack {
    type Saved = ();
    const COMPOSED: bool = true;
    fn name(&self) -> &'static str {
        "index_select (gradient)"
    }
    fn forward(&self, [g]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, ())> {
        Ok((self.0.add_back(g), ()))
    }
    fn vjp(&self, (): (), h: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        Ok([Some(apply(self.0.clone(), [&h])?)])
    }
}

/// Single elements: y[i] = x[places[i]]; backward: add g to those places.
#[derive(Clone)]
struct Gather {
    places: std::sync::Arc<Vec<usize>>,
    from: Dims,
    to: Dims,
}

impl Gather {
    fn plain<T: Element>(&self, x: &Tensor<T>) -> Tensor<T> {
        let x = x.dense();
        let x = x.as_slice().unwrap_or(&[]);
        Tensor::build(&self.to, |out| {
            out.iter_mut().zip(self.places.iter()).for_each(|(o, &p)| *o = x[p])
        })
    }
}

impl<T: Float> Op<T, 1> for Gather {
    type Saved = ();
    const COMPOSED: bool = true;
    fn name(&self) -> &'static str {
        "gather"
    }
    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, ())> {
        Ok((self.plain(x), ()))
    }
    fn vjp(&self, (): (), g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        let zeros = Tensor::build(&self.from, |out| out.fill(T::ZERO));
        Ok([Some(apply(ScatterAdd(self.clone()), [&zeros, &g])?)])
    }
}

/// y = base, with `src[i]` added at `places[i]`; backward: g for the base, g gathered for the source.
struct ScatterAdd(Gather);

impl<T: Float> Op<T, 2> for ScatterAdd {
    type Saved = ();
    const COMPOSED: bool = true;
    fn name(&self) -> &'static str {
        "scatter_add"
    }
    fn forward(&self, [base, src]: [&Tensor<T>; 2]) -> Result<(Tensor<T>, ())> {
        let mut y = base.copy();
        let src = src.dense();
        let out = y.make_mut();
        for (&p, &s) in self.0.places.iter().zip(src.as_slice().unwrap_or(&[])) {
            out[p] += s;
        }
        Ok((y, ()))
    }
    fn vjp(&self, (): (), g: Tensor<T>, needs: [bool; 2]) -> Result<[Option<Tensor<T>>; 2]> {
        let src = if needs[1] { Some(apply(self.0.clone(), [&g])?) } else { None };
        Ok([Some(g), src])
    }
}

/// Where in a dense array of shape `from` the elements `[.., index, ..]` stand.
pub(super) fn places(
    op: &'static str,
    from: &[usize],
    along: usize,
    index: &Tensor<i64>,
) -> Result<Vec<usize>> {
    let fits = index.rank() == from.len()
        && (0..from.len()).all(|a| a == along || index.shape()[a] <= from[a] || index.is_empty());
    if !fits {
        return Err(Error::shape(
            op,
            format!(
                "the index has shape {:?}, the tensor {from:?}; the ranks must agree, and no axis but {along} of the index may be larger",
                index.shape()
            ),
        ));
    }
    let rows = checked(op, index, along, from[along])?;
    // The place of [i, j, …] with axis `along` at 0, plus the row times that axis' stride.
    let dense = Layout::dense(from);
    let step = dense.strides[along] as usize;
    let mut strides = dense.strides.clone();
    strides[along] = 0;
    let base = Layout { shape: index.shape().into(), strides, offset: 0 };
    Ok(base.offsets().zip(rows).map(|(b, r)| b + r * step).collect())
}

impl<T: Element> Tensor<T> {
    /// The slices `index[0]`, `index[1]`, … of an axis. The gradient of a slice taken twice is the sum.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 2.0], [3.0, 4.0]]);
    /// assert_eq!(x.index_select(0, &Tensor::from([1, 1, 0]))?.to_vec(), [3.0, 4.0, 3.0, 4.0, 1.0, 2.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] unless the index has one axis, [`Error::Index`] for an index out of range.
    pub fn index_select(&self, along: isize, index: &Tensor<i64>) -> Result<Self> {
        let axis = axis("index_select", along, self.rank())?;
        if index.rank() != 1 {
            return Err(Error::shape(
                "index_select",
                format!("the index has shape {:?}; it must have one axis", index.shape()),
            ));
        }
        let rows = checked("index_select", index, axis, self.shape()[axis])?;
        let op = Select { axis, rows: rows.into(), from: self.shape().into() };
        record_if_float(op.clone(), [self], |[x]| op.plain(x))
    }

    /// One element of an axis for each place of the index: `y[i, j] = x[index[i, j], j]` for axis 0 of a matrix.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 2.0], [3.0, 4.0]]);
    /// assert_eq!(x.gather(1, &Tensor::from([[1], [0]]))?.to_vec(), [2.0, 3.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the ranks differ or the index is larger on another axis, [`Error::Index`] for an index out of range.
    pub fn gather(&self, along: isize, index: &Tensor<i64>) -> Result<Self> {
        let axis = axis("gather", along, self.rank())?;
        let places = places("gather", self.shape(), axis, index)?;
        let op =
            Gather { places: places.into(), from: self.shape().into(), to: index.shape().into() };
        record_if_float(op.clone(), [self], |[x]| Ok(op.plain(x)))
    }
}

impl<T: Float> Tensor<T> {
    /// This tensor with `source[i, j]` added at `[index[i, j], j]` (for axis 0 of a matrix), also where an index repeats.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x = Tensor::from([1.0f32, 2.0]);
    /// let y = x.scatter_add(0, &Tensor::from([1, 1, 0]), &Tensor::from([10.0, 20.0, 5.0]))?;
    /// assert_eq!(y.to_vec(), [6.0, 32.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if index and source differ in shape or do not fit, [`Error::Index`] for an index out of range.
    pub fn scatter_add(&self, along: isize, index: &Tensor<i64>, source: &Self) -> Result<Self> {
        let axis = axis("scatter_add", along, self.rank())?;
        if index.shape() != source.shape() {
            return Err(Error::shape(
                "scatter_add",
                format!(
                    "the index has shape {:?}, the source {:?}; they must be the same",
                    index.shape(),
                    source.shape()
                ),
            ));
        }
        let places = places("scatter_add", self.shape(), axis, index)?;
        let op =
            Gather { places: places.into(), from: self.shape().into(), to: index.shape().into() };
        apply(ScatterAdd(op), [self, source])
    }
}
