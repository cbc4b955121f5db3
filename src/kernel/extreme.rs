//! Where the largest or the smallest element of a row stands.

use super::par;
use super::reduce::{Max, Min, run_of};
use super::simd::{Kernel, dispatch};
use super::softmax::grain;
use crate::element::Num;

struct First<'a, T, const MAX: bool> {
    x: &'a [T],
    n: usize,
    out: &'a mut [i64],
}

impl<T: Num, const MAX: bool> Kernel for First<'_, T, MAX> {
    type Out = ();
    /// Two passes, because both are vector code: one for the value, one for its first place.
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (i, out) in self.out.iter_mut().enumerate() {
            let x = &self.x[i * self.n..][..self.n];
            let m = if MAX { run_of(Max, x) } else { run_of(Min, x) };
            *out = first(x, m) as i64;
        }
    }
}

/// The first place of `m`, or of a NaN if `m` is one.
#[inline(always)]
fn first<T: Num>(x: &[T], m: T) -> usize {
    let nan = m.is_not_a_number();
    let hit = |v: T| (v == m) | (nan & v.is_not_a_number());
    const CHUNK: usize = 64;
    for (i, c) in x.chunks(CHUNK).enumerate() {
        if c.iter().fold(false, |any, &v| any | hit(v)) {
            return i * CHUNK + c.iter().position(|&v| hit(v)).unwrap_or(0);
        }
    }
    0
}

/// The index in each row of `n` (at least one) of its largest element (or smallest), the first of equal ones; of a NaN if there is one.
pub(crate) fn first_extreme<T: Num, const MAX: bool>(x: &[T], n: usize, out: &mut [i64]) {
    let rows = grain(n);
    par::for_each_chunk_mut(out, rows, 0.2 * n as f64 + 5.0, |i, out| {
        dispatch(First::<T, MAX> { x: &x[i * rows * n..][..out.len() * n], n, out });
    });
}
