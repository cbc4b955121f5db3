//! The transform of the weight, and what it needs to be undone for the weight's gradient.

use std::array::from_fn;
use std::ops::Range;

use super::tiles::POINTS;
use crate::float::Float;
use crate::kernel::conv::scratch::{RESULT, with};
use crate::kernel::gemm::pack::{SLACK, pack};
use crate::kernel::simd::{Kernel, dispatch, isa};

/// Input channels that are transformed at a time; their number is rounded up to a multiple of it.
pub(super) const LANES: usize = 16;

/// Which 3 by 3 windows of a weight a product multiplies with.
#[derive(Clone, Copy)]
pub(in crate::kernel::conv) struct Filters<'a, T> {
    pub weight: &'a [T],
    /// Distance between the windows of output channels, and of input channels.
    pub row: usize,
    pub column: usize,
    /// Turned around, for the gradient of the input.
    pub turned: bool,
}

impl<T: Float> Filters<'_, T> {
    /// Writes `U = G w Gᵀ` of these rows of windows, for `columns` input channels: element `(point, row, column)`, rows of `columns` rounded up.
    ///
    /// ```text
    /// G = ⎡  1    0    0  ⎤
    ///     ⎢ 1/2  1/2  1/2 ⎥
    ///     ⎢ 1/2 -1/2  1/2 ⎥
    ///     ⎣  0    0    1  ⎦
    /// ```
    ///
    /// A row's windows are first laid out tap by tap, so that registers hold channels.
    pub(super) fn transform(&self, rows: Range<usize>, columns: usize, to: &mut [T]) {
        let step = columns.next_multiple_of(LANES);
        assert!(to.len() >= POINTS * rows.len() * step && columns > 0);
        let last = (rows.end - 1) * self.row + (columns - 1) * self.column;
        assert!(last + 9 <= self.weight.len());
        with(&RESULT, |scratch| {
            let taps = scratch.get::<T>(9 * step + SLACK);
            for (i, row) in rows.clone().enumerate() {
                let from = self.weight[row * self.row..].as_ptr();
                let across = self.column as isize;
                // SAFETY: the windows are inside the weight by the assertion, and there is room for nine rows and the slack.
                unsafe { pack(isa(), 9, from, 1, across, columns, step, taps.as_mut_ptr()) };
                let point = rows.len() * step;
                dispatch(Widen { taps, turned: self.turned, step, point, to: &mut to[i * step..] });
            }
        });
    }
}

/// `G w Gᵀ` of a row of windows, laid out tap by tap.
struct Widen<'a, T> {
    taps: &'a [T],
    turned: bool,
    /// Distance between taps.
    step: usize,
    /// Distance between points.
    point: usize,
    to: &'a mut [T],
}

impl<T: Float> Kernel for Widen<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for c in (0..self.step).step_by(LANES) {
            let w: [[T; LANES]; 9] = from_fn(|t| {
                let t = if self.turned { 8 - t } else { t };
                let taps = &self.taps[t * self.step + c..][..LANES];
                from_fn(|lane| taps[lane])
            });
            let mut across = [[[T::ZERO; LANES]; 4]; 3];
            for (across, w) in across.iter_mut().zip(w.chunks_exact(3)) {
                *across = widen(&w[0], &w[1], &w[2]);
            }
            for k in 0..4 {
                let column = widen(&across[0][k], &across[1][k], &across[2][k]);
                for (i, u) in column.iter().enumerate() {
                    self.to[(4 * i + k) * self.point + c..][..LANES].copy_from_slice(u);
                }
            }
        }
    }
}

/// `G` times a column of three.
#[inline(always)]
fn widen<T: Float>(a: &[T; LANES], b: &[T; LANES], c: &[T; LANES]) -> [[T; LANES]; 4] {
    let half = T::of(0.5);
    let sum = |sign: T| from_fn(|i| (a[i] + c[i] + sign * b[i]) * half);
    [*a, sum(T::ONE), sum(-T::ONE), *c]
}
