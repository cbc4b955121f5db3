//! Products of a few numbers: to plan tiles takes longer than to compute them one by one.

use super::GemmElement;
use super::drive::Problem;
use crate::kernel::simd::{Isa, Kernel, dispatch_on};

/// Most multiply-adds.
const MOST: usize = 256;
/// Longest sum: each is a chain, and a few long chains keep the processor waiting.
const LONGEST: usize = 64;

/// Whether the problem is one for this path.
pub(super) fn suits<T>(p: &Problem<T>) -> bool {
    p.k <= LONGEST && p.m <= MOST && p.n <= MOST && p.m * p.n * p.k.max(1) <= MOST
}

/// Computes the product, with the same bits as by tiles.
///
/// # Safety
/// As [`batched`](super::drive::batched), for one.
pub(super) unsafe fn run<T: GemmElement>(isa: Isa, p: &Problem<T>) {
    dispatch_on(isa, Tiny(p));
}

/// Made by [`run`] only, whose caller vouches for the operands.
struct Tiny<'a, T>(&'a Problem<T>);

impl<T: GemmElement> Kernel for Tiny<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        // A copy: of what is behind the reference, writes to C might change something for all that the compiler knows.
        let p = *self.0;
        for i in 0..p.m {
            let a = p.a.wrapping_offset(i as isize * p.a_rs);
            for j in 0..p.n {
                let b = p.b.wrapping_offset(j as isize * p.b_cs);
                let mut sum = T::ZERO;
                for q in 0..p.k as isize {
                    // SAFETY: elements (i, q) of A and (q, j) of B, which the caller of `super::run` vouched for.
                    let (a, b) =
                        unsafe { (*a.wrapping_offset(q * p.a_cs), *b.wrapping_offset(q * p.b_rs)) };
                    sum = a.mul_add_if::<FMA>(b, sum);
                }
                // SAFETY: an element of C, likewise.
                unsafe { p.finish(i, j, sum) };
            }
        }
    }
}
