//! Reading a tensor's elements: one, all, in order.

use super::Tensor;
use super::layout::Offsets;
use crate::element::Element;
use crate::error::{Error, Result};

impl<T: Element> Tensor<T> {
    /// The elements in row-major order.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x = Tensor::from([[1i64, 2], [3, 4]]);
    /// assert_eq!(x.t()?.to_vec(), [1, 3, 2, 4]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn to_vec(&self) -> Vec<T> {
        match self.as_slice() {
            Some(s) => s.to_vec(),
            None => self.dense().as_slice().map(<[T]>::to_vec).unwrap_or_default(),
        }
    }

    /// The only element.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([[2.5f32]]).item()?, 2.5);
    /// assert!(Tensor::from([1.0f32, 2.0]).item().is_err());
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if there is more or less than one.
    pub fn item(&self) -> Result<T> {
        if self.len() == 1 {
            Ok(self.buffer()[self.layout().offset])
        } else {
            Err(Error::shape(
                "item",
                format!(
                    "the tensor has {} elements, shape {:?}; item() reads the only one. Use get([..]) for one of several, to_vec() for all",
                    self.len(),
                    self.shape()
                ),
            ))
        }
    }

    /// The element at an index; negative ones count from the end.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 2.0], [3.0, 4.0]]);
    /// assert_eq!(x.get([0, -1])?, 2.0);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the index has not one number per axis, [`Error::Index`] if one is out of range.
    pub fn get<const N: usize>(&self, index: [isize; N]) -> Result<T> {
        self.place("get", &index).map(|p| self.buffer()[p])
    }

    /// Writes the element at an index; copies first if the elements are shared. Not on any tape afterwards.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let mut x = Tensor::from([[1i64, 2], [3, 4]]);
    /// x.set([0, -1], 9)?;
    /// assert_eq!(x.to_vec(), [1, 9, 3, 4]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn set<const N: usize>(&mut self, index: [isize; N], value: T) -> Result<()> {
        self.place("set", &index)?;
        let mut at = 0;
        for (&i, &d) in index.iter().zip(self.shape()) {
            at = at * d + if i < 0 { i + d as isize } else { i } as usize;
        }
        self.make_mut()[at] = value;
        Ok(())
    }

    fn place(&self, op: &'static str, index: &[isize]) -> Result<usize> {
        if index.len() != self.rank() {
            return Err(Error::shape(
                op,
                format!("index {index:?} has {} numbers for shape {:?}", index.len(), self.shape()),
            ));
        }
        let mut at = self.layout().offset as isize;
        for (axis, (&i, &d)) in index.iter().zip(self.shape()).enumerate() {
            let j = if i < 0 { i + d as isize } else { i };
            if j < 0 || j >= d as isize {
                return Err(Error::Index {
                    op,
                    index: i as i64,
                    what: format!("axis {axis}"),
                    size: d,
                });
            }
            at += j * self.strides()[axis];
        }
        Ok(at as usize)
    }

    /// The elements in row-major order, one by one, whatever the layout.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x = Tensor::from([[1i64, 2], [3, 4]]);
    /// assert_eq!(x.iter().map(|v| v * v).sum::<i64>(), 30);
    /// ```
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { data: self.buffer(), places: self.layout().offsets() }
    }
}

/// Iterator over a tensor's elements; see [`Tensor::iter`].
pub struct Iter<'a, T> {
    data: &'a [T],
    places: Offsets,
}

impl<T: Copy> Iterator for Iter<'_, T> {
    type Item = T;
    fn next(&mut self) -> Option<T> {
        self.places.next().map(|p| self.data[p])
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.places.size_hint()
    }
}

impl<T: Copy> ExactSizeIterator for Iter<'_, T> {}

impl<'a, T: Element> IntoIterator for &'a Tensor<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;
    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

/// Equal shapes and equal elements; a NaN equals nothing.
impl<T: Element> PartialEq for Tensor<T> {
    fn eq(&self, other: &Self) -> bool {
        self.shape() == other.shape() && self.iter().eq(other.iter())
    }
}
