//! Joining and splitting: concat, stack, split, chunk, pad, roll, repeat, and the triangles of matrices.

use crate::autograd::{Op, OpMany};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::place::place;
use crate::ops::float_only::{record_if_float, record_many_if_float};
use crate::tensor::{Dims, Layout, Tensor, axis, numel};

/// y = the inputs one behind the other along an axis; backward: each input's part of g.
struct Concat {
    axis: usize,
    sizes: Vec<usize>,
}

impl Concat {
    fn plain<T: Element>(&self, x: &[&Tensor<T>]) -> Result<Tensor<T>> {
        let mut shape: Dims = x[0].shape().into();
        shape[self.axis] = self.sizes.iter().sum();
        let whole = Layout::dense(&shape);
        Tensor::try_build("concat", &shape, |out| {
            let mut start = 0;
            for t in x {
                let n = t.shape()[self.axis];
                place(t.buffer(), t.layout(), out, &whole.slice(self.axis, start, n, 1));
                start += n;
            }
        })
    }
}

impl<T: Float> OpMany<T> for Concat {
    type Saved = ();
    type Gradients = Vec<Option<Tensor<T>>>;
    const COMPOSED: bool = true;
    fn name(&self) -> &'static str {
        "concat"
    }
    fn forward(&self, x: &[&Tensor<T>]) -> Result<(Tensor<T>, ())> {
        Ok((self.plain(x)?, ()))
    }
    fn vjp(&self, (): (), g: Tensor<T>, needs: &[bool]) -> Result<Vec<Option<Tensor<T>>>> {
        let mut start = 0;
        self.sizes
            .iter()
            .zip(needs)
            .map(|(&n, &needed)| {
                let part = needed.then(|| g.narrow(self.axis as isize, start, n)).transpose();
                start += n;
                part
            })
            .collect()
    }
}

/// y = x with zeros around it (or cut, where a number is negative); backward: the reverse.
struct Pad<T> {
    pads: Vec<(isize, isize)>,
    value: T,
}

impl<T: Element> Pad<T> {
    fn plain(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let mut shape: Dims = x.shape().into();
        let mut from = x.layout().clone();
        for (a, &(before, after)) in self.pads.iter().enumerate() {
            let size = shape[a] as isize;
            let padded =
                size.checked_add(before).and_then(|s| s.checked_add(after)).filter(|&s| s >= 0);
            let Some(padded) = padded else {
                return Err(Error::shape(
                    "pad",
                    format!(
                        "({before}, {after}) on axis {a} of shape {:?} leaves less than nothing",
                        x.shape()
                    ),
                ));
            };
            shape[a] = padded as usize;
            let (cut_front, cut_back) = ((-before).max(0), (-after).max(0));
            let kept = (size - cut_front - cut_back).max(0) as usize;
            from = from.slice(a, cut_front.min(size) as usize, kept, 1);
        }
        numel("pad", &shape)?;
        let mut to = Layout::dense(&shape);
        for (a, &(before, _)) in self.pads.iter().enumerate() {
            to = to.slice(a, before.max(0) as usize, from.shape[a], 1);
        }
        Tensor::try_build("pad", &shape, |out| {
            out.fill(self.value);
            place(x.buffer(), &from, out, &to);
        })
    }
}

impl<T: Float> Op<T, 1> for Pad<f64> {
    type Saved = ();
    const COMPOSED: bool = true;
    fn name(&self) -> &'static str {
        "pad"
    }
    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, ())> {
        Ok((Pad { pads: self.pads.clone(), value: T::of(self.value) }.plain(x)?, ()))
    }
    fn vjp(&self, (): (), g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        let back: Vec<_> = self.pads.iter().map(|&(b, a)| (-b, -a)).collect();
        Ok([Some(g.pad(&back, T::ZERO)?)])
    }
}

/// y = x where the mask is one, else 0, for a fixed mask; backward: the same.
struct Triangle {
    diagonal: isize,
    upper: bool,
}

impl Triangle {
    fn plain<T: Element>(&self, x: &Tensor<T>) -> Tensor<T> {
        let mut y = x.copy();
        let [.., rows, cols] = *x.shape() else { return y };
        if rows * cols > 0 {
            for m in y.make_mut().chunks_mut(rows * cols) {
                for (r, row) in m.chunks_mut(cols).enumerate() {
                    // Column `c` lies on diagonal `c - r`.
                    let split = (r as isize).saturating_add(self.diagonal);
                    if self.upper {
                        row[..split.clamp(0, cols as isize) as usize].fill(T::ZERO);
                    } else {
                        row[split.saturating_add(1).clamp(0, cols as isize) as usize..]
                            .fill(T::ZERO);
                    }
                }
            }
        }
        y
    }

    fn apply<T: Element>(self, op: &'static str, x: &Tensor<T>) -> Result<Tensor<T>> {
        if x.rank() < 2 {
            return Err(Error::shape(
                op,
                format!("needs a matrix, or a batch of them, but the shape is {:?}", x.shape()),
            ));
        }
        let Triangle { diagonal, upper } = self;
        record_if_float(self, [x], |[x]| Ok(Triangle { diagonal, upper }.plain(x)))
    }
}

impl<T: Float> Op<T, 1> for Triangle {
    type Saved = ();
    const COMPOSED: bool = true;
    fn name(&self) -> &'static str {
        if self.upper { "triu" } else { "tril" }
    }
    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, ())> {
        Ok((self.plain(x), ()))
    }
    fn vjp(&self, (): (), g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        Ok([Some(Triangle { ..*self }.apply(Op::<T, 1>::name(self), &g)?)])
    }
}

impl<T: Element> Tensor<T> {
    /// Tensors one behind the other along an axis; their other sizes agree.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let a: Tensor = Tensor::from([[1.0, 2.0]]);
    /// let b = Tensor::from([[3.0, 4.0], [5.0, 6.0]]);
    /// assert_eq!(Tensor::concat(&[&a, &b], 0)?.shape(), [3, 2]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] for no tensors, [`Error::Shape`] if sizes other than the joined one differ.
    pub fn concat(tensors: &[&Self], along: isize) -> Result<Self> {
        let first = tensors
            .first()
            .ok_or_else(|| Error::argument("concat", "there is no tensor to join"))?;
        let axis = axis("concat", along, first.rank())?;
        for (i, t) in tensors.iter().enumerate() {
            let fits = t.rank() == first.rank()
                && (0..t.rank()).all(|a| a == axis || t.shape()[a] == first.shape()[a]);
            if !fits {
                return Err(Error::shape(
                    "concat",
                    format!(
                        "tensor {i} has shape {:?}, the first {:?}; only axis {axis}, along which they are joined, may differ",
                        t.shape(),
                        first.shape()
                    ),
                ));
            }
        }
        let sizes: Vec<usize> = tensors.iter().map(|t| t.shape()[axis]).collect();
        let plain = Concat { axis, sizes: sizes.clone() };
        record_many_if_float(Concat { axis, sizes }, tensors, |x| plain.plain(x))
    }

    /// Tensors of one shape side by side along a new axis.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let (a, b) = (Tensor::from([1i64, 2]), Tensor::from([3i64, 4]));
    /// assert_eq!(Tensor::stack(&[&a, &b], 0)?, Tensor::from([[1, 2], [3, 4]]));
    /// assert_eq!(Tensor::stack(&[&a, &b], 1)?, Tensor::from([[1, 3], [2, 4]]));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] for no tensors, [`Error::Shape`] if the shapes differ, [`Error::Axis`] if the new axis cannot stand there.
    pub fn stack(tensors: &[&Self], at: isize) -> Result<Self> {
        let first = tensors
            .first()
            .ok_or_else(|| Error::argument("stack", "there is no tensor to stack"))?;
        if let Some((i, t)) = tensors.iter().enumerate().find(|(_, t)| t.shape() != first.shape()) {
            return Err(Error::shape(
                "stack",
                format!(
                    "tensor {i} has shape {:?}, the first {:?}; all must be the same",
                    t.shape(),
                    first.shape()
                ),
            ));
        }
        let axis = axis("stack", at, first.rank() + 1)? as isize;
        let parts = tensors.iter().map(|t| t.unsqueeze(axis)).collect::<Result<Vec<_>>>()?;
        Self::concat(&parts.iter().collect::<Vec<_>>(), axis)
    }

    /// Parts of the given sizes along an axis, which they fill. Views.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let parts = Tensor::from([1i64, 2, 3]).split(&[1, 2], 0)?;
    /// assert_eq!((parts[0].to_vec(), parts[1].to_vec()), (vec![1], vec![2, 3]));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the sizes do not add up to the axis.
    pub fn split(&self, sizes: &[usize], along: isize) -> Result<Vec<Self>> {
        let a = axis("split", along, self.rank())?;
        let total = sizes.iter().try_fold(0usize, |n, &s| n.checked_add(s));
        if total != Some(self.shape()[a]) {
            return Err(Error::shape(
                "split",
                format!("sizes {sizes:?} do not add up to axis {a} of shape {:?}", self.shape()),
            ));
        }
        let mut start = 0;
        let part = |&n: &usize| {
            let t = self.narrow(a as isize, start, n);
            start += n;
            t
        };
        sizes.iter().map(part).collect()
    }

    /// Parts of `size` along an axis, the last perhaps smaller. Views.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let parts = Tensor::from([1i64, 2, 3]).chunks(2, 0)?;
    /// assert_eq!((parts[0].to_vec(), parts[1].to_vec()), (vec![1, 2], vec![3]));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if `size` is 0, [`Error::Axis`] if the axis does not exist.
    pub fn chunks(&self, size: usize, along: isize) -> Result<Vec<Self>> {
        let a = axis("chunks", along, self.rank())?;
        if size == 0 {
            return Err(Error::argument(
                "chunks",
                "the size of a part is 0; it must be at least 1",
            ));
        }
        let n = self.shape()[a];
        (0..n).step_by(size).map(|s| self.narrow(a as isize, s, size.min(n - s))).collect()
    }

    /// The tensor repeated so many times along each axis.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x = Tensor::<i64>::from([1, 2]);
    /// assert_eq!(x.repeat(&[2, 2])?.to_vec(), [1, 2, 1, 2, 1, 2, 1, 2]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if fewer counts than axes are given.
    pub fn repeat(&self, counts: &[usize]) -> Result<Self> {
        let Some(pad) = counts.len().checked_sub(self.rank()) else {
            return Err(Error::shape(
                "repeat",
                format!("{counts:?} has fewer counts than shape {:?} has axes", self.shape()),
            ));
        };
        // Each axis as a pair (count, size), the first repeated by stride 0.
        let (mut pairs, mut wide, mut last) = (Dims::new(), Dims::new(), Dims::new());
        for (i, &c) in counts.iter().enumerate() {
            let d = if i < pad { 1 } else { self.shape()[i - pad] };
            pairs.extend_from_slice(&[1, d]);
            wide.extend_from_slice(&[c, d]);
            last.push(
                c.checked_mul(d)
                    .ok_or_else(|| Error::Overflow { op: "repeat", shape: counts.to_vec() })?,
            );
        }
        numel("repeat", &last)?;
        self.reshape(&pairs)?.expand(&wide)?.reshape(&last)
    }

    /// With `before` and `after` elements of `value` added on each axis, one pair per axis from the first; negative numbers cut.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([1.0, 2.0, 3.0]);
    /// assert_eq!(x.pad(&[(1, -1)], 0.0)?.to_vec(), [0.0, 1.0, 2.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not one pair per axis, or less than nothing is left.
    pub fn pad(&self, pads: &[(isize, isize)], value: T) -> Result<Self> {
        if pads.len() != self.rank() {
            return Err(Error::shape(
                "pad",
                format!("{} pairs for shape {:?}; give one per axis", pads.len(), self.shape()),
            ));
        }
        // On a tape the value travels as f64, which holds every f32 exactly.
        let op = Pad { pads: pads.to_vec(), value: value.cast::<f64>() };
        record_if_float(op, [self], |[x]| Pad { pads: pads.to_vec(), value }.plain(x))
    }

    /// The elements of an axis moved `by` places to the right, those that leave at the end coming back at the front.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([1i64, 2, 3]).roll(1, 0)?.to_vec(), [3, 1, 2]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`] if the axis does not exist.
    pub fn roll(&self, by: isize, along: isize) -> Result<Self> {
        let a = axis("roll", along, self.rank())?;
        let n = self.shape()[a];
        if n == 0 {
            return Ok(self.clone());
        }
        let k = by.rem_euclid(n as isize) as usize;
        let (head, tail) = (self.narrow(a as isize, 0, n - k)?, self.narrow(a as isize, n - k, k)?);
        Self::concat(&[&tail, &head], a as isize)
    }

    /// The lower triangle of each matrix: zero above the given diagonal (0 is the main one, 1 the next above).
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([[1i64, 2], [3, 4]]).tril(0)?, Tensor::from([[1, 0], [3, 4]]));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if there are fewer than two axes.
    pub fn tril(&self, diagonal: isize) -> Result<Self> {
        Triangle { diagonal, upper: false }.apply("tril", self)
    }

    /// The upper triangle of each matrix: zero below the given diagonal.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([[1i64, 2], [3, 4]]).triu(1)?, Tensor::from([[0, 2], [0, 0]]));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if there are fewer than two axes.
    pub fn triu(&self, diagonal: isize) -> Result<Self> {
        Triangle { diagonal, upper: true }.apply("triu", self)
    }
}
