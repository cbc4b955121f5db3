//! A product, by pointers: which way it takes.
//!
//! | product | way |
//! | --- | --- |
//! | a few numbers | one by one (`tiny.rs`) |
//! | few rows of A, columns of B along k | dot products (`dot.rs`) |
//! | a few more rows, columns of B along k | tiles of C', see [`reads_b_in_place`] |
//! | a batch of small ones | each by itself, shared among threads |
//! | a batch with a common B, rows of A one after another | one product |
//! | large, f32, on a processor with tile registers | in pieces (`split/`) |
//! | else | tiles of C (`plan.rs`) |

use super::plan::{PART_NS, Plan};
use super::tile::Family;
use super::{Batch, GemmElement, dot, tiny};
use crate::kernel::par;
use crate::kernel::simd::Isa;

/// A checked product, by pointers. Validity of the memory is a promise of whoever passes it to an `unsafe fn`.
#[derive(Clone, Copy)]
pub(super) struct Problem<T> {
    pub m: usize,
    pub k: usize,
    pub n: usize,
    pub a: *const T,
    pub a_rs: isize,
    pub a_cs: isize,
    pub b: *const T,
    pub b_rs: isize,
    pub b_cs: isize,
    pub c: *mut T,
    pub c_rs: usize,
    /// Distance between columns of C; one of its two distances is 1.
    pub c_cs: usize,
    pub accumulate: bool,
    pub bias_col: *const T,
    pub bias_row: *const T,
    pub relu: bool,
}

// SAFETY: a bundle of addresses; each access through them is `unsafe` and carries its own argument.
unsafe impl<T: Send + Sync> Sync for Problem<T> {}

/// Runs a stack of products.
///
/// # Safety
/// For each of the `batch`: A, B, the bias are readable and C writable at the sizes and strides given, C overlaps none of
/// them nor another C, and the processor has `isa`.
pub(super) unsafe fn batched<T: GemmElement>(isa: Isa, batch: Batch, p: &Problem<T>) {
    let family = T::family(isa);
    let at = |i: usize| Problem {
        a: p.a.wrapping_offset(i as isize * batch.a),
        b: p.b.wrapping_offset(i as isize * batch.b),
        c: p.c.wrapping_add(i * batch.c),
        ..*p
    };
    let stacked = batch.b == 0
        && batch.a == p.m as isize * p.a_rs
        && batch.c == p.m * p.c_rs
        && p.bias_row.is_null();
    let ns = 2.0 * (p.m * p.n) as f64 * p.k as f64 / family.rate + 50.0;
    // SAFETY: each product is one of those that the caller vouches for.
    unsafe {
        if batch.count == 1 || stacked {
            product(isa, family, &Problem { m: p.m * batch.count, ..*p });
        } else if batch.count < 8 && ns > 2.0 * PART_NS {
            (0..batch.count).for_each(|i| product(isa, family, &at(i)));
        } else {
            par::for_each(batch.count, ns, |i| product(isa, family, &at(i)));
        }
    }
}

impl<T: GemmElement> Problem<T> {
    /// C' = B'·A'.
    fn transposed(&self) -> Self {
        Self {
            m: self.n,
            n: self.m,
            a: self.b,
            a_rs: self.b_cs,
            a_cs: self.b_rs,
            b: self.a,
            b_rs: self.a_cs,
            b_cs: self.a_rs,
            c_rs: self.c_cs,
            c_cs: self.c_rs,
            bias_col: self.bias_row,
            bias_row: self.bias_col,
            ..*self
        }
    }

    /// Writes one finished sum to C, through the epilogue.
    ///
    /// # Safety
    /// The element exists, and nobody else touches it.
    #[inline(always)]
    pub(super) unsafe fn finish(&self, i: usize, j: usize, sum: T) {
        // SAFETY: the caller's promise; a bias that is not null has an element for each column, or row.
        unsafe {
            let c = self.c.add(i * self.c_rs + j * self.c_cs);
            let mut x = sum;
            if self.accumulate {
                x = x.plus(*c);
            }
            if !self.bias_col.is_null() {
                x = x.plus(*self.bias_col.add(j));
            }
            if !self.bias_row.is_null() {
                x = x.plus(*self.bias_row.add(i));
            }
            *c = if self.relu && x < T::ZERO { T::ZERO } else { x };
        }
    }
}

/// One product.
///
/// # Safety
/// As [`batched`], for one.
unsafe fn product<T: GemmElement>(isa: Isa, family: &'static Family<T>, p: &Problem<T>) {
    if tiny::suits(p) {
        // SAFETY: the caller's promise.
        return unsafe { tiny::run(isa, p) };
    }
    if p.n == 1 && p.m > 1 && p.c_rs == 1 {
        // A column that lies contiguously is a row. SAFETY: the same operands, read as their transposes.
        return unsafe { product(isa, family, &Problem { c_cs: 1, c_rs: p.m, ..p.transposed() }) };
    }
    if dot::suits(p, family.lanes) {
        // SAFETY: the caller's promise, and what `suits` found.
        return unsafe { dot::run(p, T::dots(isa), family.rate) };
    }
    let ns = 2.0 * (p.m * p.n) as f64 * p.k as f64 / family.rate;
    // SAFETY: the caller's promise, passed on; and again as transposes.
    unsafe {
        if T::split(isa, p, ns) {
        } else if reads_b_in_place(p, family) {
            Plan::new(isa, family, &p.transposed()).run(None)
        } else {
            Plan::new(isa, family, p).run(None)
        }
    }
}

/// Whether to compute C' = B'·A' instead: where B's columns lie along k and the rows of A are few, so that to transpose B would cost
/// a good part of the product. Its columns, then rows on the left, are read in place; it is C that is transposed, tile by tile.
fn reads_b_in_place<T: GemmElement>(p: &Problem<T>, family: &Family<T>) -> bool {
    p.b_rs == 1 && p.b_cs != 1 && p.m <= FEW_ROWS && p.k >= DEEP && p.n >= 2 * family.rows
}

/// Up to this many rows of A, and from this length of a sum on, the transposition of C costs less than that of B.
const FEW_ROWS: usize = 160;
const DEEP: usize = 128;
