//! Rotation of pairs of numbers by an angle that depends on their row's position.
//!
//! (a, b) → (a cos - b sin, a sin + b cos)

use super::par;
use super::simd::{Kernel, dispatch};
use crate::float::Float;

/// Rows of a tensor and the angles of their positions.
pub(crate) struct Rotation<'a, T> {
    /// For each position the cosines of its pairs, then the sines.
    pub table: &'a [T],
    /// Numbers of a row, of which the first `turned` are turned.
    pub width: usize,
    pub turned: usize,
    pub positions: usize,
    /// Rows in a row at one position.
    pub inner: usize,
    /// Pairs of neighbours, instead of one number of each half.
    pub interleaved: bool,
    /// Turn the other way.
    pub back: bool,
}

/// Elements of a part.
const PART: usize = 1 << 13;

impl<T: Float> Rotation<'_, T> {
    /// Writes the turned rows of `x`.
    pub(crate) fn run(&self, x: &[T], out: &mut [T]) {
        let rows = (PART / self.width.max(1)).max(1);
        par::for_each_chunk_mut(out, rows * self.width, 0.6, |i, out| {
            let first = i * rows;
            dispatch(Rows { r: self, first, x: &x[first * self.width..][..out.len()], out });
        });
    }
}

struct Rows<'a, 'b, T> {
    r: &'a Rotation<'b, T>,
    first: usize,
    x: &'a [T],
    out: &'a mut [T],
}

impl<T: Float> Kernel for Rows<'_, '_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Rows { r, first, x, out } = self;
        let half = r.turned / 2;
        let sign = if r.back { -T::ONE } else { T::ONE };
        let rows = x.chunks_exact(r.width).zip(out.chunks_exact_mut(r.width));
        for (i, (x, out)) in rows.enumerate() {
            let position = (first + i) / r.inner % r.positions;
            let (cos, sin) = r.table[position * r.turned..][..r.turned].split_at(half);
            out[r.turned..].copy_from_slice(&x[r.turned..]);
            let (x, out) = (&x[..r.turned], &mut out[..r.turned]);
            if r.interleaved {
                let pairs = x.chunks_exact(2).zip(out.chunks_exact_mut(2));
                for ((x, out), (&c, &s)) in pairs.zip(cos.iter().zip(sin)) {
                    let s = s * sign;
                    out[0] = x[0] * c - x[1] * s;
                    out[1] = x[0] * s + x[1] * c;
                }
            } else {
                let ((a, b), (y, z)) = (x.split_at(half), out.split_at_mut(half));
                let (b, z) = (&b[..half], &mut z[..half]);
                for j in 0..half {
                    let (c, s) = (cos[j], sin[j] * sign);
                    y[j] = a[j] * c - b[j] * s;
                    z[j] = a[j] * s + b[j] * c;
                }
            }
        }
    }
}
