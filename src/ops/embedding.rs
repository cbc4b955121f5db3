//! Embedding: rows of a table by number.
//!
//! y\[.., j\] = W\[id\[..\], j\]; dW is zeros, with g\[.., j\] added at row id\[..\], but nothing at the row of padding.

use std::sync::Arc;

use crate::autograd::{Op, apply};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::embedding as kernel;
use crate::tensor::{Dims, Tensor};

/// The rows of a table.
#[derive(Clone)]
struct Gather {
    name: &'static str,
    ids: Arc<[usize]>,
    /// The shape of the ids.
    shape: Dims,
    /// Rows and width of the table.
    table: [usize; 2],
    /// The row that learns nothing.
    padding: Option<usize>,
    /// Whether the rows of padding come out as zeros.
    blank: bool,
}

/// The gradient of [`Gather`], whose own gradient is the same selection, without padding.
struct Scatter(Gather);

impl<T: Float> Op<T, 1> for Gather {
    type Saved = ();
    fn name(&self) -> &'static str {
        self.name
    }
    fn forward(&self, [w]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, ())> {
        let mut shape = self.shape.clone();
        shape.push(self.table[1]);
        let w = w.dense();
        let skip = self.padding.filter(|_| self.blank);
        let y = Tensor::try_build(self.name, &shape, |out| {
            kernel::gather(w.as_slice().unwrap_or(&[]), self.table, &self.ids, skip, out);
        })?;
        Ok((y, ()))
    }
    fn vjp(&self, (): (), g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        Ok([Some(apply(Scatter(self.clone()), [&g])?)])
    }
    fn vjp_recorded(
        &self,
        saved: (),
        g: Tensor<T>,
        n: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        self.vjp(saved, g, n)
    }
}

impl<T: Float> Op<T, 1> for Scatter {
    type Saved = ();
    fn name(&self) -> &'static str {
        "embedding (gradient)"
    }
    fn forward(&self, [g]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, ())> {
        let Gather { ids, table, padding, .. } = &self.0;
        let g = g.dense();
        let y = Tensor::build(table, |out| {
            kernel::add_rows(g.as_slice().unwrap_or(&[]), table[1], ids, *padding, out);
        });
        Ok((y, ()))
    }
    fn vjp(&self, (): (), h: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        Ok([Some(apply(Gather { blank: true, ..self.0.clone() }, [&h])?)])
    }
    fn vjp_recorded(
        &self,
        saved: (),
        h: Tensor<T>,
        n: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        self.vjp(saved, h, n)
    }
}

/// The place of element number `i` of a shape.
fn position(shape: &[usize], mut i: usize) -> Dims {
    let mut at: Dims = shape
        .iter()
        .rev()
        .map(|&d| {
            let k = i % d;
            i /= d;
            k
        })
        .collect();
    at.reverse();
    at
}

/// The ids as numbers of rows, checked. Unlike axes they do not count from the end: a negative id is a mistake in the data.
pub(crate) fn checked(op: &'static str, ids: &Tensor<i64>, rows: usize) -> Result<Arc<[usize]>> {
    let dense = ids.dense();
    let values = dense.as_slice().unwrap_or(&[]);
    // Without a branch, so that the loop is vectors; the place is looked for only when there is a mistake.
    if values.iter().fold(true, |all, &id| all & ((id as u64) < rows as u64)) {
        return Ok(values.iter().map(|&id| id as usize).collect());
    }
    let wrong = values.iter().position(|&id| id as u64 >= rows as u64).unwrap_or(0);
    let at = position(ids.shape(), wrong);
    let what = match at.is_empty() {
        true => "the vocabulary".to_string(),
        false => format!("the vocabulary (the id at {:?})", &at[..]),
    };
    Err(Error::Index { op, index: values[wrong], what, size: rows })
}

/// A padding index as a row; negative ones count from the end.
pub(crate) fn padding_row(
    op: &'static str,
    index: Option<isize>,
    rows: usize,
) -> Result<Option<usize>> {
    let Some(i) = index else { return Ok(None) };
    let row = if i < 0 { i + rows as isize } else { i };
    if row < 0 || row >= rows as isize {
        let message = format!("padding_idx {i} is out of range for a vocabulary of size {rows}");
        return Err(Error::argument(op, message));
    }
    Ok(Some(row as usize))
}

/// [`Tensor::embedding`] under another name in errors, with the padding as a row.
pub(crate) fn embedding<T: Float>(
    name: &'static str,
    weight: &Tensor<T>,
    ids: &Tensor<i64>,
    padding: Option<usize>,
) -> Result<Tensor<T>> {
    let &[rows, width] = weight.shape() else {
        let message =
            format!("the table has shape {:?}; it must be [vocabulary, width]", weight.shape());
        return Err(Error::shape(name, message));
    };
    let shape = Dims::from_slice(ids.shape());
    let ids = checked(name, ids, rows)?;
    let op = Gather { name, ids, shape, table: [rows, width], padding, blank: false };
    apply(op, [weight])
}

impl<T: Float> Tensor<T> {
    /// The rows of this table \[vocabulary, width\] that `ids` name: ids of shape \[..\] give \[.., width\].
    ///
    /// The gradient adds up where an id repeats; the row `padding_idx` (negative: from the end) receives none.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let table: Tensor = Tensor::from([[0.0, 0.0], [1.0, 10.0], [2.0, 20.0]]);
    /// let y = table.embedding(&Tensor::from([2i64, 0, 1]), Some(0))?;
    /// assert_eq!(y.to_vec(), [2.0, 20.0, 0.0, 0.0, 1.0, 10.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Index`] for an id that is negative or not below the vocabulary, with its place; [`Error::Shape`] if this is no table;
    /// [`Error::Argument`] if there is no row `padding_idx`.
    pub fn embedding(&self, ids: &Tensor<i64>, padding_idx: Option<isize>) -> Result<Tensor<T>> {
        let rows = self.shape().first().copied().unwrap_or(0);
        let padding = padding_row("embedding", padding_idx, rows)?;
        embedding("embedding", self, ids, padding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    fn table(shape: [usize; 2]) -> Tensor<f64> {
        Tensor::from_fn(shape, |i| (i as f64 * 0.7).sin()).unwrap()
    }

    #[test]
    fn gradients_add_where_ids_repeat_and_padding_learns_nothing() {
        let ids = Tensor::from([[1i64, 0, 1], [2, 1, 2]]);
        let w = table([3, 5]);
        let t = table([5, 3]);
        let t = t.with_layout(t.layout().permute(&[1, 0]));
        let s = table([6, 5]);
        let s = s.with_layout(s.layout().slice(0, 5, 3, -2));
        for w in [&w, &t, &s] {
            gradcheck(|[w]| w.embedding(&ids, None), [w]).unwrap();
        }
        let tape = crate::Tape::new(0);
        let leaf = tape.leaf(&w);
        let y = leaf.embedding(&ids, Some(-2)).unwrap();
        assert_eq!(y.shape(), [2, 3, 5]);
        let g = y.backward_with(&y.ones_like()).unwrap();
        let want = [[1.0; 5], [0.0; 5], [2.0; 5]].concat();
        assert_eq!(g.wrt(&leaf).unwrap().to_vec(), want);
    }

    #[test]
    fn the_gradient_of_the_gradient_is_the_selection() {
        let ids = Tensor::from([1i64, 0, 1, 2]);
        let w = table([3, 2]);
        let op = Gather {
            name: "test",
            ids: checked("test", &ids, 3).unwrap(),
            shape: Dims::from_slice(&[4]),
            table: [3, 2],
            padding: Some(1),
            blank: false,
        };
        gradcheck(|[g]| apply(Scatter(op.clone()), [g]), [&table([4, 2])]).unwrap();
        gradcheck(|[w]| apply(Gather { blank: true, ..op.clone() }, [w]), [&w]).unwrap();
    }

    #[test]
    fn many_rows_by_several_parts() {
        let (rows, width, n) = (5000, 40, 3000);
        let ids = Tensor::from_fn([n], |i| (i * 7919 % 4001) as i64).unwrap();
        let tape = crate::Tape::new(0);
        let w = tape.leaf(&table([rows, width]));
        let y = w.embedding(&ids, None).unwrap();
        let g = Tensor::from_fn([n, width], |i| (i % 13) as f64).unwrap();
        let grads = y.backward_with(&g).unwrap();
        let mut want = vec![0.0; rows * width];
        for (k, id) in ids.iter().enumerate() {
            for j in 0..width {
                want[id as usize * width + j] += g.get([k as isize, j as isize]).unwrap();
            }
        }
        assert_eq!(grads.wrt(&w).unwrap().to_vec(), want);
    }

    #[test]
    fn empty_and_single() {
        let w = table([3, 2]);
        assert_eq!(w.embedding(&Tensor::scalar(2), None).unwrap().shape(), [2]);
        let none = Tensor::<i64>::zeros([0, 4]).unwrap();
        assert_eq!(w.embedding(&none, None).unwrap().shape(), [0, 4, 2]);
        let thin = table([3, 0]);
        gradcheck(|[w]| w.embedding(&Tensor::from([1i64]), None), [&thin]).unwrap();
        assert_eq!(table([0, 2]).embedding(&none, None).unwrap().shape(), [0, 4, 2]);
    }

    #[test]
    fn what_does_not_fit() {
        let w = table([3, 2]);
        let e = w.embedding(&Tensor::from([[0i64, 1], [1, 7]]), None).unwrap_err();
        assert_eq!(
            e.to_string(),
            "embedding: index 7 is out of range for the vocabulary (the id at [1, 1]) of size 3"
        );
        assert!(matches!(
            w.embedding(&Tensor::from([-1i64]), None),
            Err(Error::Index { index: -1, size: 3, .. })
        ));
        let e = w.embedding(&Tensor::from([0i64]), Some(3)).unwrap_err();
        assert_eq!(
            e.to_string(),
            "embedding: padding_idx 3 is out of range for a vocabulary of size 3"
        );
        assert!(Tensor::from([1.0f32]).embedding(&Tensor::from([0i64]), None).is_err());
    }
}
