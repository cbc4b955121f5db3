//! In-place updates of several arrays at once: the loops of an optimizer.
#![allow(unsafe_code)]

use super::par::{self, SyncPtr};
use crate::element::Element;

/// Elements that one thread takes at a time.
const PART: usize = 16 << 10;
/// Elements that are copied, then updated: few enough that they are still in the first-level cache.
const BLOCK: usize = 1 << 10;

/// Runs `f(new, state, grad)` over the whole arrays, cut into pieces at the same places, on several threads where that pays.
/// All arrays have one length. With `old`, `new` is filled from it piece by piece just before `f` sees it, so that
/// writing to another buffer costs no second pass through memory.
///
/// # Panics
/// If the lengths differ.
pub(crate) fn for_each_piece<T: Element, const N: usize>(
    old: Option<&[T]>,
    new: &mut [T],
    state: [&mut [T]; N],
    grad: &[T],
    ns_per_item: f64,
    f: impl Fn(&mut [T], [&mut [T]; N], &[T]) + Sync,
) {
    let len = new.len();
    assert!(grad.len() == len && state.iter().all(|s| s.len() == len), "lengths differ");
    assert!(old.is_none_or(|o| o.len() == len), "lengths differ");
    let new = SyncPtr(new.as_mut_ptr());
    let state = state.map(|s| SyncPtr(s.as_mut_ptr()));
    let block = if old.is_some() { BLOCK } else { PART };
    par::for_each_range(len, PART, ns_per_item, |part| {
        for at in part.clone().step_by(block) {
            let n = block.min(part.end - at);
            let piece = |p: SyncPtr<T>| {
                // SAFETY: `at + n <= len`, the length of every array (asserted above); parts and the blocks in them are
                // disjoint and visited once; and the arrays are borrowed mutably until `for_each_range` has returned.
                unsafe { std::slice::from_raw_parts_mut(p.get().add(at), n) }
            };
            let new = piece(new);
            if let Some(old) = old {
                new.copy_from_slice(&old[at..at + n]);
            }
            f(new, state.map(piece), &grad[at..at + n]);
        }
    });
}

/// Runs `f(values, state, grad)` over the pieces of arrays of one length and adds up the numbers that it gives, first within and then over the
/// parts, so that the order follows from the length alone.
///
/// # Panics
/// If the lengths differ.
pub(crate) fn sum_pieces<T: Element, const N: usize, const S: usize>(
    values: &[T],
    state: [&mut [T]; N],
    grad: &[T],
    ns_per_item: f64,
    f: impl Fn(&[T], [&mut [T]; N], &[T]) -> [f64; S] + Sync,
) -> [f64; S] {
    let len = values.len();
    assert!(grad.len() == len && state.iter().all(|s| s.len() == len), "lengths differ");
    let state = state.map(|s| SyncPtr(s.as_mut_ptr()));
    let mut sums = vec![[0.0; S]; len.div_ceil(PART)];
    par::for_each_chunk_mut(&mut sums, 1, ns_per_item * PART as f64, |i, sum| {
        let part = i * PART..len.min((i + 1) * PART);
        let piece = |p: SyncPtr<T>| {
            // SAFETY: `part` lies within `len`, the length of every array (asserted above); the parts are disjoint and visited
            // once; and the arrays are borrowed mutably until `for_each_chunk_mut` has returned.
            unsafe { std::slice::from_raw_parts_mut(p.get().add(part.start), part.len()) }
        };
        sum[0] = f(&values[part.clone()], state.map(piece), &grad[part.clone()]);
    });
    sums.iter().fold([0.0; S], |total, sum| std::array::from_fn(|k| total[k] + sum[k]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_updated_once() {
        for len in [0, 1, 2, BLOCK - 1, BLOCK + 1, PART, 3 * PART + 5] {
            let old: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let grad = vec![1.0f32; len];
            for in_place in [true, false] {
                let mut new = if in_place { old.clone() } else { vec![f32::NAN; len] };
                let (mut a, mut b) = (vec![10.0f32; len], old.clone());
                let from = (!in_place).then_some(&old[..]);
                for_each_piece(from, &mut new, [&mut a, &mut b], &grad, 10.0, |p, [a, b], g| {
                    for i in 0..p.len() {
                        a[i] += g[i];
                        b[i] += p[i];
                        p[i] += a[i];
                    }
                });
                assert!(new.iter().zip(&old).all(|(n, o)| *n == o + 11.0), "{len} {in_place}");
                assert!(a.iter().all(|&a| a == 11.0));
                assert!(b.iter().zip(&old).all(|(b, o)| *b == 2.0 * o));
            }
        }
    }

    #[test]
    fn sums_over_all_pieces() {
        for len in [0, 1, PART - 1, PART + 1, 3 * PART + 5] {
            let values: Vec<f64> = (0..len).map(|i| i as f64).collect();
            let mut state = vec![1.0; len];
            let [a, b] = sum_pieces(&values, [&mut state], &values, 10.0, |p, [s], g| {
                s.iter_mut().for_each(|s| *s += 1.0);
                [p.iter().sum(), g.len() as f64]
            });
            assert_eq!((a, b), (values.iter().sum(), len as f64));
            assert!(state.iter().all(|&s| s == 2.0));
        }
    }

    #[test]
    #[should_panic(expected = "lengths differ")]
    fn lengths_must_agree() {
        for_each_piece(None, &mut [1.0f32, 2.0], [], &[1.0], 1.0, |_, [], _| {});
    }
}
