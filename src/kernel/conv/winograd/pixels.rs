//! The transforms for the gradient of the weight, where tiles are what is summed over: registers hold channels of a pixel.

use crate::kernel::conv::pairs::Pairs;

/// One tile: where the channels of its pixels stand, and where those of its points go.
pub(in crate::kernel::conv) struct Pixels<T, const N: usize> {
    pub from: [*const T; N],
    pub channels: usize,
    pub to: *mut T,
    /// Distance between points.
    pub point: usize,
}

/// `V = Bᵀ d B`, as in [`tiles::input`](super::tiles::input).
///
/// # Safety
/// The processor has the instruction set of `V`. The channels of each pixel are readable and those of each point writable, in whole
/// registers.
#[inline(always)]
pub(in crate::kernel::conv) unsafe fn patch<V: Pairs>(a: &Pixels<V::Elem, 16>) {
    let mut c = 0;
    while c < a.channels {
        // SAFETY: the caller's promise.
        unsafe {
            let mut across = [[V::zero(); 4]; 4];
            for (i, across) in across.iter_mut().enumerate() {
                let d = |j: usize| V::load(a.from[4 * i + j].add(c));
                let [d0, d1, d2, d3] = [d(0), d(1), d(2), d(3)];
                *across = [d0.sub(d2), d1.add(d2), d2.sub(d1), d1.sub(d3)];
            }
            for k in 0..4 {
                let [d0, d1, d2, d3] = [across[0][k], across[1][k], across[2][k], across[3][k]];
                let column = [d0.sub(d2), d1.add(d2), d2.sub(d1), d1.sub(d3)];
                for (i, v) in column.into_iter().enumerate() {
                    v.store(a.to.add((4 * i + k) * a.point + c));
                }
            }
        }
        c += V::LANES;
    }
}

/// `A g Aᵀ` of the gradient's 2 by 2 pixels, `A` the transpose of what [`tiles::output`](super::tiles::output) multiplies with.
///
/// # Safety
/// As [`patch`].
#[inline(always)]
pub(in crate::kernel::conv) unsafe fn square<V: Pairs>(a: &Pixels<V::Elem, 4>) {
    let mut c = 0;
    while c < a.channels {
        // SAFETY: the caller's promise.
        unsafe {
            let widen = |a: V, b: V| [a, a.add(b), a.sub(b), V::zero().sub(b)];
            let g = |i: usize| V::load(a.from[i].add(c));
            let (upper, lower) = (widen(g(0), g(1)), widen(g(2), g(3)));
            for k in 0..4 {
                for (i, v) in widen(upper[k], lower[k]).into_iter().enumerate() {
                    v.store(a.to.add((4 * i + k) * a.point + c));
                }
            }
        }
        c += V::LANES;
    }
}
