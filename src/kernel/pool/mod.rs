//! Pooling: the largest ([`max`](mod@max)) or the mean ([`mean`](mod@mean)) of each window of a plane, and how gradients go back.
//!
//! Both work on whole rows of outputs: a tap of the window, or a column of it, is a run of the input's row, one element (or `stride`) further
//! for each output, so the inner loops are plain loops over slices that the compiler turns into vectors.

#![allow(unsafe_code)]

mod max;
mod mean;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod two;

use std::marker::PhantomData;

pub(crate) use max::{max, max_grad};
pub(crate) use mean::{Means, Stretch, max_of, mean, mean_grad};

use crate::element::Element;
use crate::kernel::par::SyncPtr;

/// Windows along the two axes of planes that lie one after another. Whoever makes one has checked that nothing overflows, that
/// kernel, stride and dilation are at least 1, and that `out` follows from the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Windows {
    /// How many planes.
    pub planes: usize,
    /// Height and width of a plane.
    pub input: [usize; 2],
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    /// Places outside the plane before its first row and column. They never win.
    pub pad: [usize; 2],
    pub dilation: [usize; 2],
    /// Windows per axis.
    pub out: [usize; 2],
}

impl Windows {
    fn in_plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    fn out_plane(&self) -> usize {
        self.out[0] * self.out[1]
    }

    /// For tap `k` of a row of windows: the first and the last but one window whose tap is inside, and the column of the first.
    fn span(&self, k: usize) -> (usize, usize, usize) {
        let (stride, pad) = (self.stride[1], self.pad[1]);
        let at = k * self.dilation[1];
        let low = pad.saturating_sub(at).div_ceil(stride);
        let high = (self.input[1] + pad).saturating_sub(at).div_ceil(stride).min(self.out[1]);
        if low >= high { (0, 0, 0) } else { (low, high, low * stride + at - pad) }
    }

    /// Coordinate of tap `k` of window `o`, if it is inside.
    #[inline(always)]
    pub(crate) fn place(&self, axis: usize, o: usize, k: usize) -> Option<usize> {
        (o * self.stride[axis] + k * self.dilation[axis])
            .checked_sub(self.pad[axis])
            .filter(|&p| p < self.input[axis])
    }
}

/// A slice of `A`, which is `B` under another name.
#[cfg(target_arch = "x86_64")]
fn same<A: Element, B: Element>(a: &[A]) -> &[B] {
    assert_eq!(A::DTYPE, B::DTYPE);
    // SAFETY: each element type has a name of its own, so `A` and `B` are the same type.
    unsafe { std::slice::from_raw_parts(a.as_ptr().cast(), a.len()) }
}

/// As [`same`], for writing.
#[cfg(target_arch = "x86_64")]
fn same_mut<A: Element, B: Element>(a: &mut [A]) -> &mut [B] {
    assert_eq!(A::DTYPE, B::DTYPE);
    // SAFETY: as in `same`; the borrow is exclusive.
    unsafe { std::slice::from_raw_parts_mut(a.as_mut_ptr().cast(), a.len()) }
}

/// Where in its window the largest element stands: row-major, in as few bytes as the window allows.
pub(crate) trait Place: Element {
    fn of(i: usize) -> Self;
    fn get(self) -> usize;
}

impl Place for u8 {
    #[inline(always)]
    fn of(i: usize) -> u8 {
        i as u8
    }
    #[inline(always)]
    fn get(self) -> usize {
        self as usize
    }
}

impl Place for i64 {
    #[inline(always)]
    fn of(i: usize) -> i64 {
        i as i64
    }
    #[inline(always)]
    fn get(self) -> usize {
        self as usize
    }
}

/// A slice cut into chunks of one length, each for one part of a parallel loop.
struct Chunks<'a, T> {
    base: SyncPtr<T>,
    len: usize,
    count: usize,
    owner: PhantomData<&'a mut [T]>,
}

impl<'a, T: Send> Chunks<'a, T> {
    fn new(data: &'a mut [T], len: usize) -> Self {
        Chunks {
            base: SyncPtr(data.as_mut_ptr()),
            len,
            count: data.len() / len.max(1),
            owner: PhantomData,
        }
    }

    /// Chunk `i`.
    ///
    /// # Safety
    /// Nobody else has chunk `i`.
    #[allow(clippy::mut_from_ref)]
    unsafe fn get(&self, i: usize) -> &mut [T] {
        assert!(i < self.count || self.len == 0);
        // SAFETY: the chunk lies within the slice, which is borrowed mutably as long as `self` lives, and is the caller's alone.
        unsafe { std::slice::from_raw_parts_mut(self.base.get().add(i * self.len), self.len) }
    }
}
