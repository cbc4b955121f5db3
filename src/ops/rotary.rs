//! Rotary position embedding (Su et al., 2021, "RoFormer").
//!
//! At position p, pair i of a vector is turned by the angle p·base^(-2i/width): the product of two turned vectors depends on the distance of their
//! positions alone. Backward turns the gradient back.

use std::sync::{Arc, Mutex, PoisonError};

use crate::autograd::{Op, apply};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::rotary::Rotation;
use crate::tensor::{Dims, Layout, Tensor};

/// Rotary positions: pair i of a query or key at position p is turned by the angle p·base^(-2i/width) (Su et al., 2021).
///
/// Pairs are made of a number of the first half and its counterpart of the second (as in GPT-NeoX and Llama), or of
/// [neighbours](Self::interleaved) (as in the paper and GPT-J). Vectors wider than `width` keep what is beyond it.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::Rotary;
/// let rotary = Rotary::new(4)?.interleaved(true);
/// let x = Tensor::from([[1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0]]);
/// let y = rotary.forward_at(&x, 0)?;                      // positions 0 and 1
/// assert_eq!(y.to_vec()[..4], [1.0, 0.0, 1.0, 0.0]);
/// assert!((y.get([1, 0])? - 1f32.cos()).abs() < 1e-6 && (y.get([1, 1])? - 1f32.sin()).abs() < 1e-6);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Rotary {
    width: usize,
    base: f64,
    interleaved: bool,
    /// Cosines and sines of the positions asked for so far, position by position: computed once for all layers that share it.
    known: Arc<Mutex<Vec<f64>>>,
}

impl Rotary {
    /// Turns the first `width` numbers of each vector, with base 10000.
    ///
    /// # Errors
    /// [`Error::Argument`] if `width` is odd.
    pub fn new(width: usize) -> Result<Self> {
        if !width.is_multiple_of(2) {
            let message = format!("the width is {width}; pairs need an even one");
            return Err(Error::argument("Rotary", message));
        }
        Ok(Rotary { width, base: 10_000.0, interleaved: false, known: Arc::default() })
    }

    /// The base of the angles, 10000 unless said otherwise; larger ones for longer sequences.
    ///
    /// # Errors
    /// [`Error::Argument`] unless it is positive and finite.
    pub fn base(self, base: f64) -> Result<Self> {
        if !(base > 0.0 && base.is_finite()) {
            let message = format!("the base is {base}; it must be positive and finite");
            return Err(Error::argument("Rotary", message));
        }
        Ok(Rotary { base, known: Arc::default(), ..self })
    }

    /// Whether neighbours are a pair, instead of a number of each half.
    pub fn interleaved(mut self, interleaved: bool) -> Self {
        self.interleaved = interleaved;
        self
    }

    /// How many numbers of a vector are turned.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Vectors \[.., positions, d\] turned; the first stands at position `start`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` has less than two axes or d is less than the width.
    pub fn forward_at<T: Float>(&self, x: &Tensor<T>, start: usize) -> Result<Tensor<T>> {
        let ok = matches!(x.shape(), [.., _, d] if *d >= self.width);
        if !ok {
            let message = format!(
                "the vectors have shape {:?}; expected [.., positions, d] with d of at least {}",
                x.shape(),
                self.width
            );
            return Err(Error::shape("Rotary", message));
        }
        let count = x.shape()[x.rank() - 2];
        if self.width == 0 || x.is_empty() {
            return Ok(x.clone());
        }
        let table = self.table(start, count);
        apply(Turn { rotary: self.clone(), table, back: false }, [x])
    }

    fn table<T: Float>(&self, start: usize, count: usize) -> Arc<Vec<T>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let half = self.width / 2;
        for p in known.len() / self.width..start + count {
            let angle = |i: usize| p as f64 * self.base.powf(-2.0 * i as f64 / self.width as f64);
            known.extend((0..half).map(|i| angle(i).cos()));
            known.extend((0..half).map(|i| angle(i).sin()));
        }
        let part = &known[start * self.width..(start + count) * self.width];
        Arc::new(part.iter().map(|&v| T::of(v)).collect())
    }
}

struct Turn<T> {
    rotary: Rotary,
    table: Arc<Vec<T>>,
    back: bool,
}

impl<T: Float> Op<T, 1> for Turn<T> {
    type Saved = ();
    const COMPOSED: bool = true;

    fn name(&self) -> &'static str {
        "Rotary"
    }

    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, ())> {
        // Rows in the order in which they lie, so that heads that alternate stay so.
        let to = x.layout().order_for(x.shape());
        let mut order: Dims = (0..x.rank()).collect();
        order.sort_by_key(|&a| std::cmp::Reverse(to.strides[a]));
        let last = x.rank() - 1;
        order.retain(|a| *a != last);
        order.push(last);
        let rows = x.with_layout(x.layout().permute(&order)).dense();
        let at = order.iter().position(|&a| a == last - 1).unwrap_or(0);
        let rotation = Rotation {
            table: &self.table,
            width: x.shape()[last],
            turned: self.rotary.width,
            positions: x.shape()[last - 1],
            inner: rows.shape()[at + 1..last].iter().product(),
            interleaved: self.rotary.interleaved,
            back: self.back,
        };
        let y = Tensor::build(rows.shape(), |out| {
            rotation.run(rows.as_slice().unwrap_or(&[]), out);
        });
        let mut back: Dims = order.clone();
        order.iter().enumerate().for_each(|(i, &a)| back[a] = i);
        Ok((y.with_layout(Layout::dense(y.shape()).permute(&back)), ()))
    }

    fn vjp(&self, (): (), g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        let op = Turn { rotary: self.rotary.clone(), table: self.table.clone(), back: !self.back };
        Ok([Some(apply(op, [&g])?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    fn wave(shape: &[usize]) -> Tensor<f64> {
        Tensor::from_fn(shape, |i| (i * 37 % 23) as f64 / 11.0 - 1.0).unwrap()
    }

    /// The formula, number by number.
    fn slow(x: &Tensor<f64>, r: &Rotary, start: usize) -> Vec<f64> {
        let (n, d) = (x.shape()[x.rank() - 2], x.shape()[x.rank() - 1]);
        let mut out = x.to_vec();
        for (row, v) in out.chunks_exact_mut(d).enumerate() {
            let old = v.to_vec();
            for i in 0..r.width / 2 {
                let angle =
                    (start + row % n) as f64 * r.base.powf(-2.0 * i as f64 / r.width as f64);
                let (a, b) = if r.interleaved { (2 * i, 2 * i + 1) } else { (i, i + r.width / 2) };
                v[a] = old[a] * angle.cos() - old[b] * angle.sin();
                v[b] = old[a] * angle.sin() + old[b] * angle.cos();
            }
        }
        out
    }

    #[test]
    fn both_forms_on_every_layout() {
        for interleaved in [false, true] {
            for (width, base) in [(6, 10_000.0), (4, 500.0), (0, 10_000.0)] {
                let r = Rotary::new(width).unwrap().base(base).unwrap().interleaved(interleaved);
                let x = wave(&[2, 3, 5, 6]);
                let t = wave(&[2, 5, 3, 6]);
                let t = t.with_layout(t.layout().permute(&[0, 2, 1, 3]));
                let f = x.with_layout(x.layout().slice(2, 4, 3, -2));
                for x in [x, t, f] {
                    let y = r.forward_at(&x, 3).unwrap();
                    for (a, b) in y.iter().zip(slow(&x, &r, 3)) {
                        assert!((a - b).abs() < 1e-14);
                    }
                    gradcheck(|[x]| r.forward_at(x, 1), [&x]).unwrap();
                }
            }
        }
    }

    #[test]
    fn products_depend_on_the_distance_alone() {
        let r = Rotary::new(8).unwrap();
        let (q, k) = (wave(&[1, 8]), wave(&[1, 8]) * 0.5 + 0.1);
        let dot = |a: usize, b: usize| {
            let (q, k) = (r.forward_at(&q, a).unwrap(), r.forward_at(&k, b).unwrap());
            q.try_mul(&k).unwrap().sum().item().unwrap()
        };
        assert!((dot(5, 2) - dot(103, 100)).abs() < 1e-12);
        assert!((dot(5, 2) - dot(5, 3)).abs() > 1e-3);
    }

    #[test]
    fn empty_and_wrong() {
        let r = Rotary::new(4).unwrap();
        assert_eq!(r.forward_at(&wave(&[2, 0, 4]), 0).unwrap().shape(), [2, 0, 4]);
        assert_eq!(
            r.forward_at(&wave(&[3, 2]), 0).unwrap_err().to_string(),
            "Rotary: the vectors have shape [3, 2]; expected [.., positions, d] with d of at least 4"
        );
        assert!(Rotary::new(3).unwrap_err().to_string().contains("even"));
        assert!(Rotary::new(2).unwrap().base(0.0).is_err());
    }
}
