//! Who does which part of a loop.
//!
//! Each thread has a stretch of neighbouring parts of its own, the same in each loop of as many parts: what a thread wrote in one loop is
//! then in its cache when it reads it in the next. Whoever is done with its own takes from the far end of another's.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// 128 bytes: neighbouring cache lines are fetched in pairs.
#[repr(align(128))]
pub(super) struct Line<T>(pub(super) T);

impl<T> std::ops::Deref for Line<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// The parts that nobody has claimed yet: a stretch for each thread, as its start and, in the high half, its end.
pub(super) struct Claims(Box<[Line<AtomicU64>]>);

fn pack(start: usize, end: usize) -> u64 {
    start as u64 | (end as u64) << 32
}

fn unpack(x: u64) -> (usize, usize) {
    (x as u32 as usize, (x >> 32) as usize)
}

impl Claims {
    /// The most parts of a loop.
    pub(super) const MOST: usize = u32::MAX as usize;

    pub(super) fn new(threads: usize) -> Self {
        Self((0..threads.max(1)).map(|_| Line(AtomicU64::new(0))).collect())
    }

    /// Offers `parts`, at most [`MOST`](Self::MOST). Nobody may be claiming meanwhile, and who claims later must know of it by other means.
    pub(super) fn offer(&self, parts: usize) {
        debug_assert!(parts <= Self::MOST);
        let threads = self.0.len() as u64;
        let start = |i: usize| (parts as u64 * i as u64 / threads) as usize;
        for (i, stretch) in self.0.iter().enumerate() {
            stretch.store(pack(start(i), start(i + 1)), Relaxed);
        }
    }

    /// Up to `most` parts for a thread: from the start of its own stretch, or else from the end of another one's.
    pub(super) fn claim(&self, thread: usize, most: usize) -> Option<Range<usize>> {
        let own = thread % self.0.len();
        let take = |i: usize| {
            let mut seen = self.0[i].load(Relaxed);
            loop {
                let (start, end) = unpack(seen);
                if start >= end {
                    return None;
                }
                let n = most.min(end - start);
                let (taken, left) = if i == own {
                    (start..start + n, pack(start + n, end))
                } else {
                    (end - n..end, pack(start, end - n))
                };
                match self.0[i].compare_exchange_weak(seen, left, Relaxed, Relaxed) {
                    Ok(_) => return Some(taken),
                    Err(now) => seen = now,
                }
            }
        };
        (own..self.0.len()).chain(0..own).find_map(take)
    }

    /// Takes back what nobody has claimed.
    pub(super) fn withdraw(&self) {
        self.0.iter().for_each(|stretch| stretch.store(0, Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_claimed_once_whoever_claims() {
        for threads in [1, 2, 3, 8] {
            for parts in [0, 1, 2, 7, 100] {
                for most in [1, 3, 1000] {
                    let claims = Claims::new(threads);
                    claims.offer(parts);
                    let mut seen = vec![0; parts];
                    let mut thread = 0;
                    while let Some(range) = claims.claim(thread, most) {
                        assert!(!range.is_empty() && range.len() <= most);
                        range.for_each(|i| seen[i] += 1);
                        thread = (thread * 7 + 3) % 11;
                    }
                    assert!(seen.iter().all(|&n| n == 1), "{threads} {parts} {most}: {seen:?}");
                }
            }
        }
    }

    #[test]
    fn a_thread_begins_with_its_own_stretch() {
        let claims = Claims::new(2);
        claims.offer(10);
        assert_eq!(claims.claim(1, 2), Some(5..7));
        assert_eq!(claims.claim(0, 4), Some(0..4));
        assert_eq!(claims.claim(0, 4), Some(4..5));
        assert_eq!(claims.claim(0, 2), Some(8..10));
        assert_eq!(claims.claim(1, 2), Some(7..8));
        assert_eq!(claims.claim(1, 2), None);
        claims.offer(3);
        claims.withdraw();
        assert_eq!(claims.claim(0, 1), None);
    }
}
