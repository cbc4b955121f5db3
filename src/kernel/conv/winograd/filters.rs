//! The transform of the weight, and what it needs to be undone for the weight's gradient.

use crate::float::Float;
use crate::kernel::simd::Kernel;

use super::tiles::POINTS;

/// Most rows of a micro-kernel's tile.
const MOST: usize = 16;

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

/// Writes `U = G w Gᵀ` of `rows` windows from `first` on, for `columns` input channels: element `(point, column, row)`.
///
/// ```text
/// G = ⎡  1    0    0  ⎤
///     ⎢ 1/2  1/2  1/2 ⎥
///     ⎢ 1/2 -1/2  1/2 ⎥
///     ⎣  0    0    1  ⎦
/// ```
pub(super) struct Transform<'a, T> {
    pub filters: Filters<'a, T>,
    pub first: usize,
    pub rows: usize,
    pub columns: usize,
    pub to: &'a mut [T],
}

impl<T: Float> Kernel for Transform<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Transform { filters: f, first, rows, columns, to } = self;
        assert!(rows <= MOST && to.len() >= POINTS * columns * rows);
        for c in 0..columns {
            let mut w = [[T::ZERO; MOST]; 9];
            for i in 0..rows {
                let from: &[T; 9] = f.weight[(first + i) * f.row + c * f.column..][..9]
                    .try_into()
                    .expect("a window has nine elements");
                for (t, &v) in from.iter().enumerate() {
                    w[if f.turned { 8 - t } else { t }][i] = v;
                }
            }
            let mut across = [[[T::ZERO; MOST]; 4]; 3];
            for (across, w) in across.iter_mut().zip(w.chunks_exact(3)) {
                *across = widen(&w[0], &w[1], &w[2]);
            }
            for k in 0..4 {
                let column = widen(&across[0][k], &across[1][k], &across[2][k]);
                for (i, u) in column.iter().enumerate() {
                    let at = ((4 * i + k) * columns + c) * rows;
                    to[at..at + rows].copy_from_slice(&u[..rows]);
                }
            }
        }
    }
}

/// `G` times a column of three.
#[inline(always)]
fn widen<T: Float>(a: &[T; MOST], b: &[T; MOST], c: &[T; MOST]) -> [[T; MOST]; 4] {
    let half = T::of(0.5);
    let sum = |sign: T| std::array::from_fn(|i| (a[i] + c[i] + sign * b[i]) * half);
    [*a, sum(T::ONE), sum(-T::ONE), *c]
}
