//! Writes into part of a larger array.
#![allow(unsafe_code)]

use super::par::{self, SyncPtr};
use super::simd::{Kernel, dispatch};
use crate::element::{Element, Num};
use crate::tensor::Layout;

/// Nanoseconds for an element, as an estimate for sharing the work.
const NS: f64 = 0.4;
/// Elements of one part of the parallel loop, at least.
const GRAIN: usize = 1 << 14;

/// Copies the elements that `from` shows of `data` to the places that `to` shows of `out`; the shapes are equal, and no two places of
/// `to` are the same.
pub(crate) fn place<T: Element>(data: &[T], from: &Layout, out: &mut [T], to: &Layout) {
    if to.is_dense() {
        // The places are one run, as for the first axis of a concatenation: the fast copy knows how to fill it.
        let n = to.len();
        let start = if n == 0 { 0 } else { to.offset };
        return super::copy::to_dense(data, from, &mut out[start..start + n]);
    }
    by_rows(data, from, out, to, |row| match row {
        Row::Together(x, out) => out.copy_from_slice(x),
        Row::Single(x, out) => *out = x,
    });
}

/// As [`place`], but adds to what is there.
pub(crate) fn add<T: Num>(data: &[T], from: &Layout, out: &mut [T], to: &Layout) {
    by_rows(data, from, out, to, |row| match row {
        Row::Together(x, out) => dispatch(Add { x, out }),
        Row::Single(x, out) => *out = out.plus(x),
    });
}

struct Add<'a, T> {
    x: &'a [T],
    out: &'a mut [T],
}

impl<T: Num> Kernel for Add<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        self.out.iter_mut().zip(self.x).for_each(|(out, &x)| *out = out.plus(x));
    }
}

/// What goes where: a row whose elements lie side by side on both sides, or a single element.
enum Row<'a, T> {
    Together(&'a [T], &'a mut [T]),
    Single(T, &'a mut T),
}

/// Hands each row, or each element, to `f`; several threads at once if there are many.
fn by_rows<T: Element>(
    data: &[T],
    from: &Layout,
    out: &mut [T],
    to: &Layout,
    f: impl Fn(Row<'_, T>) + Sync,
) {
    assert_eq!(from.shape, to.shape, "place: what is written and where differ in shape");
    if to.len() == 0 {
        return;
    }
    let last = from.shape.len().saturating_sub(1);
    let run = from.shape.last().copied().unwrap_or(1);
    let step = |l: &Layout| l.strides.last().copied().unwrap_or(1);
    let (step_in, step_out) = (step(from), step(to));
    let (base, len) = (SyncPtr(out.as_mut_ptr()), out.len());
    let rows = to.len() / run;
    par::for_each_range(rows, GRAIN.div_ceil(run), NS * run as f64, |range| {
        for row in range {
            let (i, o) = (start(from, last, row), start(to, last, row));
            if step_in == 1 && step_out == 1 {
                assert!(o + run <= len, "place: a row leaves the array");
                // SAFETY: within `out` by the assertion; rows of `to` share no place, by this module's contract, each is handled by one part, and
                // `out` is borrowed mutably until all parts are done.
                let out = unsafe { std::slice::from_raw_parts_mut(base.get().add(o), run) };
                f(Row::Together(&data[i..i + run], out));
                continue;
            }
            for k in 0..run as isize {
                let (i, o) = (i as isize + k * step_in, o as isize + k * step_out);
                assert!((o as usize) < len, "place: an element leaves the array");
                // SAFETY: as above, for one element.
                f(Row::Single(data[i as usize], unsafe { &mut *base.get().offset(o) }));
            }
        }
    });
}

/// Where row `number`, counted over the first `axes` axes, starts.
fn start(layout: &Layout, axes: usize, number: usize) -> usize {
    let (mut rest, mut at) = (number, layout.offset as isize);
    for (&size, &stride) in layout.shape[..axes].iter().zip(&layout.strides[..axes]).rev() {
        at += (rest % size) as isize * stride;
        rest /= size;
    }
    at as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows, steps and a flip, small and large enough for several parts, against the plain loop over places.
    #[test]
    fn agrees_with_the_plain_loop() {
        for (rows, columns) in [(1, 1), (3, 5), (7, 64), (500, 70)] {
            let data: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
            let from = Layout::dense(&[rows, columns]);
            let whole = Layout::dense(&[rows, 3 * columns]);
            for to in [
                whole.slice(1, columns, columns, 1),
                whole.slice(1, 1, columns, 2),
                whole.slice(1, 3 * columns - 1, columns, -1),
            ] {
                let before: Vec<f32> = (0..whole.len()).map(|i| (i % 7) as f32).collect();
                let (mut placed, mut added) = (before.clone(), before.clone());
                place(&data, &from, &mut placed, &to);
                add(&data, &from, &mut added, &to);
                let (mut want, mut sum) = (before.clone(), before);
                for (x, at) in data.iter().zip(to.offsets()) {
                    want[at] = *x;
                    sum[at] += x;
                }
                assert!(placed == want && added == sum, "{rows} x {columns}");
            }
        }
    }
}
