//! Padding by what is already there: mirrored, repeated or from the other end.
//!
//! ```text
//! y[j] = x[m(j - before)],   m(i) for an axis of size n:
//! reflect:   |i|, then 2(n-1) - i beyond the end       2 1 | 0 1 2 3 | 2 1
//! replicate: the nearest of 0 and n-1                  0 0 | 0 1 2 3 | 3 3
//! circular:  i mod n                                   2 3 | 0 1 2 3 | 0 1
//! ```
//!
//! Axis by axis a selection of slices, whose gradient adds where a slice was taken twice.

use crate::element::Element;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// What lies beyond the edges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PadMode {
    /// Zeros.
    #[default]
    Zeros,
    /// The mirror image, without the edge itself: `2 1 | 0 1 2 3 | 2 1`.
    Reflect,
    /// The edge: `0 0 | 0 1 2 3 | 3 3`.
    Replicate,
    /// The other end: `2 3 | 0 1 2 3 | 0 1`.
    Circular,
}

impl PadMode {
    /// The elements of an axis of size `n` from `-before` to `n + after`.
    fn places(self, n: isize, before: isize, after: isize) -> Vec<i64> {
        let place = |i: isize| match self {
            PadMode::Reflect if i < 0 => -i,
            PadMode::Reflect if i >= n => 2 * (n - 1) - i,
            PadMode::Circular => i.rem_euclid(n.max(1)),
            _ => i.clamp(0, (n - 1).max(0)),
        };
        (-before..n + after).map(|i| place(i) as i64).collect()
    }
}

impl<T: Element> Tensor<T> {
    /// With `before` and `after` elements added on each axis, one pair per axis from the first, as the mode says; negative numbers cut.
    /// [`pad`](Self::pad) does it with a value.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::PadMode;
    /// let x: Tensor = Tensor::from([0.0, 1.0, 2.0, 3.0]);
    /// assert_eq!(x.pad_mode(&[(2, 1)], PadMode::Reflect)?.to_vec(), [2.0, 1.0, 0.0, 1.0, 2.0, 3.0, 2.0]);
    /// assert_eq!(x.pad_mode(&[(2, 1)], PadMode::Replicate)?.to_vec(), [0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 3.0]);
    /// assert_eq!(x.pad_mode(&[(2, 1)], PadMode::Circular)?.to_vec(), [2.0, 3.0, 0.0, 1.0, 2.0, 3.0, 0.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not one pair per axis, less than nothing is left, or an axis is too short: to reflect, it must be longer than
    /// the padding; to go on at the other end, at least as long; to repeat the edge, not empty.
    pub fn pad_mode(&self, pads: &[(isize, isize)], mode: PadMode) -> Result<Self> {
        let op = "pad_mode";
        if pads.len() != self.rank() {
            return Err(Error::shape(
                op,
                format!("{} pairs for shape {:?}; give one per axis", pads.len(), self.shape()),
            ));
        }
        if mode == PadMode::Zeros {
            return self.pad(pads, T::ZERO);
        }
        let shape = self.shape();
        let whole = |(&n, &(a, b)): (&usize, &(isize, isize))| {
            (n as isize).checked_add(a)?.checked_add(b).map(|n| n.max(0) as usize)
        };
        let out: Option<Vec<usize>> = shape.iter().zip(pads).map(whole).collect();
        let overflow = || Error::Overflow { op, shape: shape.to_vec() };
        crate::tensor::numel(op, &out.ok_or_else(overflow)?)?;
        let mut y = self.clone();
        for (axis, &(before, after)) in pads.iter().enumerate() {
            // What is cut off goes first where the other end continues; elsewhere the order does not matter.
            let size = shape[axis] as isize;
            let (cut, behind) = (before.min(0).saturating_neg(), after.min(0).saturating_neg());
            let cropped = mode == PadMode::Circular && (cut > 0 || behind > 0);
            let n = if cropped { size - cut.saturating_add(behind).min(size) } else { size };
            let most = before.max(after);
            let too_short = match mode {
                PadMode::Reflect => most > 0 && most >= n,
                PadMode::Circular => most > n,
                _ => most > 0 && n == 0,
            };
            if too_short || size.saturating_add(before).saturating_add(after) < 0 {
                let needs = match mode {
                    _ if !too_short => "less than nothing would be left",
                    PadMode::Reflect => "the padding must be smaller than the size to reflect",
                    PadMode::Circular => "the padding must be at most the size to go around",
                    _ => "there is no edge to repeat",
                };
                return Err(Error::shape(
                    op,
                    format!(
                        "axis {axis} of {shape:?} has size {n}, but the padding is ({before}, {after}): {needs}"
                    ),
                ));
            }
            if (before, after) == (0, 0) {
                continue;
            }
            let (before, after) = match cropped {
                true => {
                    y = y.narrow(axis as isize, cut as usize, n as usize)?;
                    (before.max(0), after.max(0))
                }
                false => (before, after),
            };
            let places = mode.places(n, before, after);
            let index = Tensor::build(&[places.len()], |i| i.copy_from_slice(&places));
            y = y.index_select(axis as isize, &index)?;
        }
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradgradcheck;

    fn line(n: usize) -> Tensor<f64> {
        Tensor::from_fn([n], |i| i as f64).unwrap()
    }

    #[test]
    fn cuts_and_sides() {
        let p = |pads, mode| line(4).pad_mode(&[pads], mode).unwrap().to_vec();
        assert_eq!(p((3, 3), PadMode::Reflect), [3.0, 2.0, 1.0, 0.0, 1.0, 2.0, 3.0, 2.0, 1.0, 0.0]);
        assert_eq!(p((-1, 2), PadMode::Reflect), [1.0, 2.0, 3.0, 2.0, 1.0]);
        assert_eq!(p((1, -1), PadMode::Replicate), [0.0, 0.0, 1.0, 2.0]);
        assert_eq!(p((1, -1), PadMode::Circular), [2.0, 0.0, 1.0, 2.0]);
        assert_eq!(p((4, 4), PadMode::Circular)[..5], [0.0, 1.0, 2.0, 3.0, 0.0]);
        assert_eq!(p((-2, -2), PadMode::Reflect), [0.0; 0]);
        assert_eq!(p((1, 0), PadMode::Zeros), [0.0, 0.0, 1.0, 2.0, 3.0]);
        let ints = Tensor::from([[1i64, 2], [3, 4]]);
        let y = ints.pad_mode(&[(0, 1), (1, 0)], PadMode::Reflect).unwrap();
        assert_eq!(y.to_vec(), [2, 1, 2, 4, 3, 4, 2, 1, 2]);
    }

    #[test]
    fn gradients_of_gradients() {
        let x: Tensor<f64> = Tensor::randn([2, 3, 4], &mut crate::rng(0)).unwrap();
        let turned = x.permute([2, 0, 1]).unwrap();
        for mode in [PadMode::Zeros, PadMode::Reflect, PadMode::Replicate, PadMode::Circular] {
            for pads in [[(0, 0), (1, 2), (3, 1)], [(1, 0), (-1, 2), (2, -1)]] {
                gradgradcheck(|[x]| Ok(x.pad_mode(&pads, mode)?.powi(3)), [&x]).unwrap();
            }
            let pads = [(2, 1), (1, 0), (0, 2)];
            gradgradcheck(|[x]| Ok(x.pad_mode(&pads, mode)?.square()), [&turned]).unwrap();
            let none: Tensor<f64> = Tensor::zeros([0, 3]).unwrap();
            let y = none.pad_mode(&[(0, 0), (1, 1)], mode).unwrap();
            assert_eq!(y.shape(), [0, 5]);
        }
    }

    #[test]
    fn what_is_refused() {
        let said =
            |pads: &[(isize, isize)], mode| line(3).pad_mode(pads, mode).unwrap_err().to_string();
        assert_eq!(
            said(&[(3, 0)], PadMode::Reflect),
            "pad_mode: axis 0 of [3] has size 3, but the padding is (3, 0): the padding must be smaller than the size to reflect"
        );
        assert_eq!(
            said(&[(0, 4)], PadMode::Circular),
            "pad_mode: axis 0 of [3] has size 3, but the padding is (0, 4): the padding must be at most the size to go around"
        );
        assert_eq!(
            said(&[], PadMode::Reflect),
            "pad_mode: 0 pairs for shape [3]; give one per axis"
        );
        assert!(said(&[(-2, -2)], PadMode::Replicate).ends_with("less than nothing would be left"));
        assert!(said(&[(-2, -2)], PadMode::Circular).ends_with("less than nothing would be left"));
        let none: Tensor = Tensor::zeros([0]).unwrap();
        assert!(none.pad_mode(&[(1, 0)], PadMode::Replicate).is_err());
        assert!(none.pad_mode(&[(isize::MAX, isize::MAX)], PadMode::Replicate).is_err());
        assert!(line(3).pad_mode(&[(isize::MAX, 0)], PadMode::Replicate).is_err());
        assert!(line(3).pad_mode(&[(isize::MIN, isize::MIN)], PadMode::Circular).is_err());
    }
}
