//! Shape, strides and offset: how the indices of a tensor map to places in its buffer. Integers only, no data.
//!
//! Index `[i0, i1, …]` stands at `offset + i0 * strides[0] + i1 * strides[1] + …`. A stride may be 0 (an expanded axis) or negative
//! (a flipped one). Every index inside the shape lies inside the buffer; that is checked where a layout is made and kept by
//! every method here.
#![allow(unsafe_code)]

use smallvec::SmallVec;

use crate::error::{Error, Result};

/// How many axes a tensor has room for without the heap. With four a tensor stays below 128 bytes, and moving one stays a few instructions.
const INLINE: usize = 4;
/// Sizes of axes; up to four without the heap.
pub type Dims = SmallVec<[usize; INLINE]>;
/// Steps of axes, in elements.
pub(crate) type Strides = SmallVec<[isize; INLINE]>;

/// A short list from a slice. Written out by length, because a copy of unknown length is a call, which every small operation would make
/// a dozen times.
#[inline]
pub(crate) fn short<T: Copy + Default>(s: &[T]) -> SmallVec<[T; INLINE]> {
    let o = T::default();
    match *s {
        [] => SmallVec::new(),
        [a] => SmallVec::from_buf_and_len([a, o, o, o], 1),
        [a, b] => SmallVec::from_buf_and_len([a, b, o, o], 2),
        [a, b, c] => SmallVec::from_buf_and_len([a, b, c, o], 3),
        [a, b, c, d] => SmallVec::from_buf_and_len([a, b, c, d], 4),
        _ => SmallVec::from_slice(s),
    }
}

/// How the indices of a tensor map to places in its buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) shape: Dims,
    pub(crate) strides: Strides,
    pub(crate) offset: usize,
}

impl Clone for Layout {
    #[inline]
    fn clone(&self) -> Self {
        if self.shape.spilled() || self.strides.spilled() {
            return Layout {
                shape: short(&self.shape),
                strides: short(&self.strides),
                offset: self.offset,
            };
        }
        // SAFETY: a list that has not spilled is plain integers inside the struct and owns no memory, so that a copy of its bytes is a
        // clone; and so is the offset.
        unsafe { std::ptr::read(self) }
    }
}

/// The number of elements of a shape, or the error that says it overflows.
pub(crate) fn numel(op: &'static str, shape: &[usize]) -> Result<usize> {
    // A zero anywhere makes the product zero, however large the rest.
    if shape.contains(&0) {
        return Ok(0);
    }
    shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .filter(|&n| n <= isize::MAX as usize / 16)
        .ok_or_else(|| Error::Overflow { op, shape: shape.to_vec() })
}

/// Row-major strides. A size-1 or size-0 axis gets the stride it would have in the dense array.
#[inline]
fn dense_strides(shape: &[usize]) -> Strides {
    let times = |step: isize, d: usize| step.wrapping_mul(d.max(1) as isize);
    // Written out by rank for the reason given at `short`.
    match *shape {
        [] => SmallVec::new(),
        [_] => SmallVec::from_buf_and_len([1, 0, 0, 0], 1),
        [_, b] => SmallVec::from_buf_and_len([times(1, b), 1, 0, 0], 2),
        [_, b, c] => {
            let step = times(1, c);
            SmallVec::from_buf_and_len([times(step, b), step, 1, 0], 3)
        }
        [_, b, c, d] => {
            let inner = times(1, d);
            let step = times(inner, c);
            SmallVec::from_buf_and_len([times(step, b), step, inner, 1], 4)
        }
        _ => {
            let mut strides: Strides = SmallVec::from_elem(1, shape.len());
            for i in (0..shape.len() - 1).rev() {
                strides[i] = times(strides[i + 1], shape[i + 1]);
            }
            strides
        }
    }
}

/// Turns an axis that may count from the end into an index.
pub(crate) fn axis(op: &'static str, axis: isize, rank: usize) -> Result<usize> {
    let a = if axis < 0 { axis + rank as isize } else { axis };
    if a < 0 || a >= rank as isize { Err(Error::Axis { op, axis, rank }) } else { Ok(a as usize) }
}

/// The shape that both broadcast to, by NumPy's rule: align at the right, sizes equal or one of them 1.
pub(crate) fn broadcast(op: &'static str, a: &[usize], b: &[usize]) -> Result<Dims> {
    if a == b {
        return Ok(short(a));
    }
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| {
        let pad = rank - s.len();
        if i < pad { 1 } else { s[i - pad] }
    };
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            (x, y) => Err(Error::shape(
                op,
                format!(
                    "shapes do not broadcast: {a:?} and {b:?} ({x} ≠ {y} on axis {i} of the result, and neither is 1)"
                ),
            )),
        })
        .collect()
}

impl Layout {
    /// The row-major layout of a shape.
    pub(crate) fn dense(shape: &[usize]) -> Self {
        Layout { shape: short(shape), strides: dense_strides(shape), offset: 0 }
    }

    pub(crate) fn rank(&self) -> usize {
        self.shape.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the elements stand in row-major order without gaps; axes of size 1 do not matter.
    pub(crate) fn is_dense(&self) -> bool {
        let mut step = 1isize;
        for (&d, &s) in self.shape.iter().zip(&self.strides).rev() {
            if d == 0 {
                return true;
            }
            if d != 1 {
                if s != step {
                    return false;
                }
                step *= d as isize;
            }
        }
        true
    }

    /// The strides that give the elements another shape without a copy, if there are any.
    pub(crate) fn reshape(&self, shape: &[usize]) -> Option<Layout> {
        if self.is_dense() || self.len() == 0 {
            return Some(Layout {
                shape: short(shape),
                strides: dense_strides(shape),
                offset: self.offset,
            });
        }
        // Merge old axes that are one run in memory; each new axis must split such a run.
        let mut strides: Strides = SmallVec::from_elem(0, shape.len());
        let (mut new, mut old) = (0, 0);
        while old < self.rank() {
            if self.shape[old] == 1 {
                old += 1;
                continue;
            }
            // The run old..end, of `count` elements with innermost stride `step`.
            let mut end = old + 1;
            let mut count = self.shape[old];
            let mut step = self.strides[old];
            while end < self.rank()
                && (self.shape[end] == 1 || step == self.strides[end] * self.shape[end] as isize)
            {
                count *= self.shape[end];
                if self.shape[end] != 1 {
                    step = self.strides[end];
                }
                end += 1;
            }
            // Take new axes until they hold `count` elements.
            let first = new;
            let mut taken = 1;
            while new < shape.len() && (taken < count || shape[new] == 1) {
                taken *= shape[new];
                new += 1;
            }
            if taken != count {
                return None;
            }
            let mut s = step;
            for i in (first..new).rev() {
                strides[i] = s;
                s *= shape[i] as isize;
            }
            old = end;
        }
        Some(Layout { shape: short(shape), strides, offset: self.offset })
    }

    pub(crate) fn permute(&self, axes: &[usize]) -> Layout {
        Layout {
            shape: axes.iter().map(|&a| self.shape[a]).collect(),
            strides: axes.iter().map(|&a| self.strides[a]).collect(),
            offset: self.offset,
        }
    }

    /// What [`permute`](Self::permute) made this of.
    pub(crate) fn permute_back(&self, axes: &[usize]) -> Layout {
        let mut back: Dims = SmallVec::from_elem(0, axes.len());
        axes.iter().enumerate().for_each(|(i, &a)| back[a] = i);
        self.permute(&back)
    }

    /// A layout without gaps for a new tensor of this shape whose axes, but for the last, follow each other in memory as they do here. What comes
    /// from a tensor whose axes were swapped can then be swapped back and reshaped without a copy.
    pub(crate) fn order_for(&self, shape: &[usize]) -> Layout {
        debug_assert_eq!(shape.len(), self.rank());
        let order = self.memory_order();
        let memory: Dims = order.iter().map(|&a| shape[a]).collect();
        Layout::dense(&memory).permute_back(&order)
    }

    /// The axes, but for the last, in the order in which they follow each other in memory, and then the last.
    pub(crate) fn memory_order(&self) -> Dims {
        let mut order: Dims = (0..self.rank()).collect();
        if let Some((_, axes)) = order.split_last_mut() {
            axes.sort_by_key(|&a| std::cmp::Reverse(self.strides[a].unsigned_abs()));
        }
        order
    }

    /// Elements `start`, `start + step`, … (`count` of them) of one axis; the caller has checked that they exist.
    pub(crate) fn slice(&self, axis: usize, start: usize, count: usize, step: isize) -> Layout {
        let mut l = self.clone();
        if count > 0 {
            l.offset = (l.offset as isize + start as isize * l.strides[axis]) as usize;
        }
        l.strides[axis] *= step;
        l.shape[axis] = count;
        l
    }

    /// Repeats axes of size 1 (and new leading axes) by stride 0. The shapes are known to fit.
    pub(crate) fn expand(&self, shape: &[usize]) -> Layout {
        let pad = shape.len() - self.rank();
        let strides =
            (0..shape.len())
                .map(|i| {
                    if i < pad || self.shape[i - pad] != shape[i] {
                        0
                    } else {
                        self.strides[i - pad]
                    }
                })
                .collect();
        Layout { shape: short(shape), strides, offset: self.offset }
    }

    /// Without the axis.
    pub(crate) fn remove(&self, axis: usize) -> Layout {
        let mut l = self.clone();
        l.shape.remove(axis);
        l.strides.remove(axis);
        l
    }

    /// With a new axis of size 1.
    pub(crate) fn insert(&self, axis: usize) -> Layout {
        let mut l = self.clone();
        let step = l.shape[axis..].iter().map(|&d| d.max(1)).product::<usize>() as isize;
        l.shape.insert(axis, 1);
        l.strides.insert(axis, step);
        l
    }

    /// The place in the buffer of every index, in row-major order.
    pub(crate) fn offsets(&self) -> Offsets {
        Offsets {
            shape: self.shape.clone(),
            strides: self.strides.clone(),
            index: SmallVec::from_elem(0, self.rank()),
            at: self.offset as isize,
            left: self.len(),
        }
    }

    /// The smallest and the largest place in the buffer that an index maps to; `None` for an empty tensor.
    pub(crate) fn bounds(&self) -> Option<(usize, usize)> {
        if self.len() == 0 {
            return None;
        }
        let (mut lo, mut hi) = (self.offset as isize, self.offset as isize);
        for (&d, &s) in self.shape.iter().zip(&self.strides) {
            let reach = s * (d as isize - 1);
            if reach < 0 { lo += reach } else { hi += reach }
        }
        Some((lo as usize, hi as usize))
    }
}

/// Iterator over buffer places; see [`Layout::offsets`].
pub(crate) struct Offsets {
    shape: Dims,
    strides: Strides,
    index: Dims,
    at: isize,
    left: usize,
}

impl Iterator for Offsets {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.left == 0 {
            return None;
        }
        let here = self.at as usize;
        self.left -= 1;
        for i in (0..self.shape.len()).rev() {
            self.index[i] += 1;
            self.at += self.strides[i];
            if self.index[i] < self.shape[i] {
                break;
            }
            self.at -= self.strides[i] * self.shape[i] as isize;
            self.index[i] = 0;
        }
        Some(here)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Offsets {}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(l: &Layout) -> Vec<usize> {
        l.offsets().collect()
    }

    #[test]
    fn offsets_follow_the_strides() {
        let l = Layout::dense(&[2, 3]);
        assert_eq!(places(&l), [0, 1, 2, 3, 4, 5]);
        assert_eq!(places(&l.permute(&[1, 0])), [0, 3, 1, 4, 2, 5]);
        assert_eq!(places(&l.slice(1, 2, 2, -2)), [2, 0, 5, 3]);
        assert_eq!(places(&Layout::dense(&[])), [0]);
        assert_eq!(places(&Layout::dense(&[2, 0, 3])), Vec::<usize>::new());
        assert_eq!(places(&Layout::dense(&[3]).expand(&[2, 3])), [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn reshape_without_a_copy_where_runs_allow_it() {
        let l = Layout::dense(&[2, 3, 4]).permute(&[1, 0, 2]); // [3, 2, 4]
        assert_eq!(l.reshape(&[3, 2, 2, 2]).map(|r| places(&r)), Some(places(&l)));
        assert!(l.reshape(&[6, 4]).is_none());
        let s = Layout::dense(&[4, 7]).slice(1, 0, 3, 2); // every second column
        assert_eq!(s.reshape(&[2, 2, 3]).map(|r| places(&r)), Some(places(&s)));
        assert_eq!(s.reshape(&[12]).map(|r| places(&r)), None);
        let rows = Layout::dense(&[8, 3]).slice(0, 1, 4, 2);
        assert_eq!(rows.reshape(&[2, 2, 1, 3]).map(|r| places(&r)), Some(places(&rows)));
        let e = Layout::dense(&[1]).expand(&[4]);
        assert_eq!(e.reshape(&[2, 2]).map(|r| places(&r)), Some(vec![0; 4]));
    }

    #[test]
    fn broadcasting_aligns_at_the_right() {
        assert_eq!(&broadcast("add", &[3, 1], &[4]).unwrap()[..], [3, 4]);
        assert_eq!(&broadcast("add", &[], &[2, 0]).unwrap()[..], [2, 0]);
        assert_eq!(&broadcast("add", &[1], &[0]).unwrap()[..], [0]);
        let e = broadcast("add", &[2, 3], &[4, 3]).unwrap_err().to_string();
        assert_eq!(
            e,
            "add: shapes do not broadcast: [2, 3] and [4, 3] (2 ≠ 4 on axis 0 of the result, and neither is 1)"
        );
    }

    #[test]
    fn a_product_that_overflows_is_an_error_and_a_zero_saves_it() {
        assert!(matches!(numel("zeros", &[1 << 40, 1 << 40]), Err(Error::Overflow { .. })));
        assert_eq!(numel("zeros", &[1 << 40, 1 << 40, 0]).unwrap(), 0);
        assert_eq!(numel("zeros", &[]).unwrap(), 1);
    }

    #[test]
    fn bounds_hold_every_offset() {
        let l = Layout::dense(&[3, 4]).slice(0, 2, 3, -1).slice(1, 3, 2, -3);
        let p = places(&l);
        assert_eq!(l.bounds(), Some((*p.iter().min().unwrap(), *p.iter().max().unwrap())));
    }
}
