//! Which elements dropout keeps: a function of a seed and of the element's number alone, so that it depends on no thread and need not be
//! stored; a backward pass computes it again.

use crate::float::Float;

/// Elements dropped with some probability, the others multiplied by `scale`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep<T> {
    seed: u64,
    /// Dropped where a 32-bit random number is below this.
    limit: u64,
    scale: T,
}

/// A 32-bit random number for each element: two rounds of multiplication and shifts over the counter (the finaliser of SplitMix64).
#[inline(always)]
fn random(seed: u64, i: u64) -> u32 {
    let z = seed.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 32) as u32
}

impl<T: Float> Keep<T> {
    /// Drops with probability `p` in [0, 1]; for p = 1 everywhere.
    pub(crate) fn new(p: f64, seed: u64) -> Self {
        let limit = (p * 4_294_967_296.0).round() as u64;
        Keep { seed, limit, scale: T::of(1.0 / (1.0 - p)) }
    }

    /// `x` scaled, or 0 where element `i` is dropped.
    #[inline(always)]
    pub(crate) fn apply(&self, i: usize, x: T) -> T {
        let drops = (random(self.seed, i as u64) as u64) < self.limit;
        if drops { T::ZERO } else { x * self.scale }
    }
}
