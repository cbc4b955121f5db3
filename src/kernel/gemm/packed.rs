//! A matrix B that many products share, packed once: the recurrent weight of a sequence, which meets every step.

use super::drive::Problem;
use super::plan::Plan;
use super::{Bias, Epilogue, GemmElement, MatRef};
use crate::kernel::simd::{Isa, isa};
use crate::tensor::Block;

/// A matrix (k x n) in the order in which the micro-kernel reads it.
pub(crate) struct Packed<'a, T: GemmElement> {
    isa: Isa,
    k: usize,
    n: usize,
    /// The matrix as it lies: what is not finite has no pieces, so such results are computed from it.
    b: MatRef<'a, T>,
    /// Whether the panels hold pieces of numbers, see [`split`](GemmElement::split_whole).
    split: bool,
    panels: Block<T>,
}

/// A product of `m` rows; the pointers are for the caller to fill in.
fn problem<T>(m: usize, k: usize, n: usize) -> Problem<T> {
    Problem {
        m,
        k,
        n,
        a: std::ptr::null(),
        a_rs: 0,
        a_cs: 0,
        b: std::ptr::null(),
        b_rs: 0,
        b_cs: 0,
        c: std::ptr::null_mut(),
        c_rs: n,
        c_cs: 1,
        accumulate: false,
        bias_col: std::ptr::null(),
        bias_row: std::ptr::null(),
        relu: false,
    }
}

impl<'a, T: GemmElement> Packed<'a, T> {
    /// Packs `b`, of size k x n, for products of about `m` rows.
    ///
    /// # Panics
    /// If `b` is shorter than its size and strides say: callers check shapes first.
    pub(crate) fn new(m: usize, k: usize, n: usize, b: MatRef<'a, T>) -> Self {
        Self::new_on(isa(), m, k, n, b)
    }

    /// [`new`](Self::new) for a given instruction set.
    pub(super) fn new_on(isa: Isa, m: usize, k: usize, n: usize, b: MatRef<'a, T>) -> Self {
        if k == 0 || n == 0 {
            return Packed { isa, k, n, b, split: false, panels: Block::stale(0) };
        }
        let p = Problem {
            b: b.checked((1, 0), k, n),
            b_rs: b.rs,
            b_cs: b.cs,
            ..problem(m.max(1), k, n)
        };
        let ns = 2.0 * (m * n) as f64 * k as f64 / T::family(isa).rate;
        // SAFETY: B was checked above, and `isa` was detected.
        if let Some(panels) = unsafe { T::split_whole(isa, &p, ns) } {
            return Packed { isa, k, n, b, split: true, panels };
        }
        let plan = Plan::whole(isa, T::family(isa), &p);
        let mut panels = Block::stale(plan.packed_len());
        // SAFETY: B was checked above, the buffer has the length that the plan asked for, and `isa` was detected.
        unsafe { plan.pack_whole(panels.as_mut_ptr()) };
        Packed { isa, k, n, b, split: false, panels }
    }

    /// `C (m x n) = A (m x k) · B`, plus C if `accumulate`, plus one number for each column. C is row-major, its rows n apart.
    ///
    /// # Panics
    /// If A, C or the bias is shorter than its size says.
    pub(crate) fn product(
        &self,
        m: usize,
        a: MatRef<'_, T>,
        c: &mut [T],
        accumulate: bool,
        bias: Option<&[T]>,
    ) {
        let (k, n) = (self.k, self.n);
        if m == 0 || n == 0 {
            return;
        }
        if k == 0 {
            let bias = bias.map_or(Bias::None, Bias::Col);
            let nothing = MatRef::new(&[], 0, 0, 0);
            let epilogue = Epilogue { bias, relu: false };
            return super::gemm(m, 0, n, nothing, nothing, c, n, accumulate, epilogue);
        }
        assert!(c.len() >= m * n, "gemm: {m} x {n} results do not fit in {} elements", c.len());
        assert!(bias.is_none_or(|b| b.len() == n), "gemm: one bias per column");
        let p = Problem {
            a: a.checked((1, 0), m, k),
            a_rs: a.rs,
            a_cs: a.cs,
            b: self.b.checked((1, 0), k, n),
            b_rs: self.b.rs,
            b_cs: self.b.cs,
            c: c.as_mut_ptr(),
            accumulate,
            bias_col: bias.map_or(std::ptr::null(), <[T]>::as_ptr),
            ..problem(m, k, n)
        };
        if self.split {
            // SAFETY: as below; the panels were packed for this k and n.
            return unsafe { T::split_with(&p, &self.panels) };
        }
        let plan = Plan::whole(self.isa, T::family(self.isa), &p);
        // SAFETY: the operands were checked above, C is borrowed mutably so it overlaps none of them, and the panels are those of
        // a plan of the same k, n and (detected) instruction set; they are only read.
        unsafe { plan.run(Some(&self.panels)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::gemm::gemm_on;
    use crate::kernel::simd::available;

    /// Bit for bit the product that packs anew, for operands that it reads by tiles too.
    #[test]
    fn agrees_with_the_product_that_packs_each_time() {
        fn check<T: GemmElement + crate::Float>() {
            let wave = |n: usize| (0..n).map(|i| T::of((i as f64 * 0.7).sin())).collect::<Vec<T>>();
            for &isa in available() {
                for (m, k, n) in
                    [(1, 1, 1), (3, 5, 7), (9, 16, 33), (16, 300, 100), (31, 4100, 40), (2, 0, 3)]
                {
                    let (a, b, bias) = (wave(m * k), wave(k * n), wave(n));
                    for (b, transposed) in
                        [(MatRef::rows(&b, n), false), (MatRef::cols(&b, k), true)]
                    {
                        let packed = Packed::new_on(isa, m, k, n, b);
                        for accumulate in [false, true] {
                            let (mut got, mut want) = (wave(m * n), wave(m * n));
                            let a = MatRef::rows(&a, k);
                            packed.product(m, a, &mut got, accumulate, Some(&bias));
                            let epilogue = Epilogue { bias: Bias::Col(&bias), relu: false };
                            gemm_on(isa, m, k, n, a, b, &mut want, n, accumulate, epilogue);
                            for (g, w) in got.iter().zip(&want) {
                                let d = (g.as_f64() - w.as_f64()).abs();
                                // Where the other takes the path of dot products it adds in another order.
                                // So do products in pieces, which it may choose for other sizes.
                                let pieces = isa == Isa::Amx && m >= 16 && k >= 16 && n >= 16;
                                let exact = (m > 8 || !transposed) && !pieces;
                                let bound = if exact { 0.0 } else { 1e-4 };
                                assert!(d <= bound, "{isa:?} {m} {k} {n} {accumulate}: {g} {w}");
                            }
                        }
                    }
                }
            }
        }
        check::<f32>();
        check::<f64>();
    }

    /// Results that are not finite are computed from B itself where its panels hold pieces.
    #[test]
    fn what_is_not_finite_gets_through() {
        let (m, k, n) = (64, 256, 256);
        for &isa in available() {
            let (mut a, mut b) = (vec![1.0f32; m * k], vec![1.0f32; k * n]);
            (a[3 * k], a[5 * k + 255], b[7 * n + 9]) = (f32::INFINITY, f32::NAN, f32::NEG_INFINITY);
            let packed = Packed::new_on(isa, m, k, n, MatRef::rows(&b, n));
            assert_eq!(packed.split, isa == Isa::Amx);
            let mut c = vec![0.0; m * n];
            packed.product(m, MatRef::rows(&a, k), &mut c, false, None);
            assert!(c[0] == k as f32 && c[9] == f32::NEG_INFINITY && c[3 * n] == f32::INFINITY);
            assert!(c[3 * n + 9].is_nan() && c[5 * n..6 * n].iter().all(|x| x.is_nan()), "{isa:?}");
        }
    }
}
