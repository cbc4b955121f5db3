//! Products of a few rows at a time, by the micro-kernel alone: for loops that go on with the results while they are in the first
//! cache, and know themselves what to pack and where to start.

use super::pack::{SLACK, panels};
use super::tile::{BRows, Family, Tile};
use super::{GemmElement, MatRef};
use crate::kernel::simd::{Isa, isa};

/// The micro-kernels in use.
#[derive(Clone, Copy)]
pub(crate) struct Strips<T: 'static> {
    isa: Isa,
    family: &'static Family<T>,
}

/// Columns of a right factor in the order in which the micro-kernel reads them.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a, T> {
    k: usize,
    panels: &'a [T],
}

/// A tile of nothing, without epilogue.
fn bare<T>(accumulate: bool) -> Tile<T> {
    Tile {
        k: 0,
        a: std::ptr::null(),
        a_rs: 0,
        a_cs: 0,
        b: std::ptr::null(),
        b_rs: 0,
        offs: std::ptr::null(),
        c: std::ptr::null_mut(),
        c_rs: 0,
        last: 0,
        accumulate,
        bias_col: std::ptr::null(),
        bias_row: std::ptr::null(),
        relu: false,
        next: std::ptr::null(),
        next_step: 0,
    }
}

impl<T: GemmElement> Strips<T> {
    /// For the instruction set in use.
    pub(crate) fn new() -> Self {
        Self::on(isa())
    }

    /// For a given one.
    fn on(isa: Isa) -> Self {
        Strips { isa, family: T::family(isa) }
    }

    /// Rows of a strip, at most.
    pub(crate) fn rows(&self) -> usize {
        self.family.rows
    }

    /// Columns of a panel: those of the largest tile.
    fn panel(&self) -> usize {
        self.family.registers * self.family.lanes
    }

    /// Elements that `n` packed columns of length `k` occupy.
    pub(crate) fn packed_len(&self, k: usize, n: usize) -> usize {
        n.div_ceil(self.panel()) * self.panel() * k + SLACK
    }

    /// Packs `b`, of size k x n; returns the packed elements.
    pub(crate) fn pack<'a>(
        &self,
        k: usize,
        n: usize,
        b: MatRef<'_, T>,
        to: &'a mut [T],
    ) -> &'a mut [T] {
        assert!(to.len() >= self.packed_len(k, n), "strips: no room for {k} x {n}");
        if k > 0 {
            let src = b.checked((1, 0), k, n);
            // SAFETY: B was checked just now, and there is room for it and the slack.
            unsafe { panels(self.isa, k, src, b.rs, b.cs, n, self.panel(), to.as_mut_ptr()) };
        }
        &mut to[..n.div_ceil(self.panel()) * self.panel() * k]
    }

    /// What [`pack`](Self::pack) left.
    pub(crate) fn columns<'a>(&self, k: usize, panels: &'a [T]) -> Columns<'a, T> {
        Columns { k, panels }
    }

    /// C = A·B for `m` rows, at most [`rows`](Self::rows), and the first `n` columns of a packed B. Rows of C are `ldc` apart. Whole registers are
    /// written: what follows the `n`-th column in the last one is overwritten.
    pub(crate) fn with_packed(
        &self,
        m: usize,
        a: MatRef<'_, T>,
        b: Columns<'_, T>,
        n: usize,
        c: &mut [T],
        ldc: usize,
    ) {
        let (k, lanes, panel) = (b.k, self.family.lanes, self.panel());
        let registers = n.div_ceil(lanes);
        if m == 0 || n == 0 {
            return;
        }
        assert!(m <= self.rows() && b.panels.len() >= n.div_ceil(panel) * panel * k);
        assert!(registers * lanes <= ldc && c.len() >= (m - 1) * ldc + registers * lanes);
        let a_at = a.checked((1, 0), m, k);
        for (i, first) in (0..registers).step_by(self.family.registers).enumerate() {
            let count = self.family.registers.min(registers - first);
            let tile = Tile {
                k,
                a: a_at,
                a_rs: a.rs,
                a_cs: a.cs,
                b: b.panels.as_ptr().wrapping_add(i * panel * k),
                b_rs: panel as isize,
                c: c.as_mut_ptr().wrapping_add(first * lanes),
                c_rs: ldc as isize,
                last: lanes,
                ..bare(false)
            };
            // SAFETY: rows of A were checked, the panel and the registers of C lie within their slices by the assertions; the family
            // is that of a detected instruction set.
            unsafe { self.family.kernel(m, count, BRows::Strided, true)(&tile) };
        }
    }

    /// `C (+)= A·B` for at most [`rows`](Self::rows) rows; sizes \[m, k\] and \[k, n\]. The columns of B lie side by side, the rows of C are `ldc` apart.
    pub(crate) fn product(
        &self,
        [m, k, n]: [usize; 3],
        a: MatRef<'_, T>,
        b: MatRef<'_, T>,
        c: &mut [T],
        ldc: usize,
        accumulate: bool,
    ) {
        if m == 0 || n == 0 {
            return;
        }
        assert!(m <= self.rows() && n <= ldc && c.len() >= (m - 1) * ldc + n);
        assert!(b.cs == 1 || n == 1, "strips: columns of B lie side by side");
        let (a_at, b_at) = (a.checked((1, 0), m, k), b.checked((1, 0), k, n));
        let lanes = self.family.lanes;
        let registers = n.div_ceil(lanes);
        // Tiles of even width.
        let width = registers.div_ceil(registers.div_ceil(self.family.registers));
        for first in (0..registers).step_by(width) {
            let count = width.min(registers - first);
            let last = (n - first * lanes).min(count * lanes) - (count - 1) * lanes;
            let tile = Tile {
                k,
                a: a_at,
                a_rs: a.rs,
                a_cs: a.cs,
                b: b_at.wrapping_add(first * lanes),
                b_rs: b.rs,
                c: c.as_mut_ptr().wrapping_add(first * lanes),
                c_rs: ldc as isize,
                last,
                ..bare(accumulate)
            };
            let kernel = self.family.kernel(m, count, BRows::Strided, last == lanes);
            // SAFETY: both factors were checked, C has the rows and columns by the assertion; the family is that of a detected instruction set.
            unsafe { kernel(&tile) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::gemm::{Epilogue, gemm_on};
    use crate::kernel::simd::available;

    /// Bit for bit the general product: both are one chain of multiply-adds for each element.
    #[test]
    fn agrees_with_the_general_product() {
        fn check<T: GemmElement + crate::Float>() {
            let wave = |n: usize| (0..n).map(|i| T::of((i as f64 * 0.7).sin())).collect::<Vec<T>>();
            for &isa in available() {
                let strips = Strips::<T>::on(isa);
                for (m, k, n) in [(1, 1, 1), (2, 0, 3), (3, 5, 7), (4, 64, 33), (8, 17, 100)] {
                    let m = m.min(strips.rows());
                    let (a, b) = (wave(m * k), wave(k * n));
                    let (rows, ld) = (MatRef::rows(&a, k), n + 16);
                    for accumulate in [false, true] {
                        let (mut got, mut want) = (wave(m * ld), wave(m * ld));
                        let b = MatRef::rows(&b, n);
                        strips.product([m, k, n], rows, b, &mut got, ld, accumulate);
                        let none = Epilogue::NONE;
                        gemm_on(isa, m, k, n, rows, b, &mut want, ld, accumulate, none);
                        assert!(got == want, "{isa:?} {m} {k} {n} {accumulate}");
                    }
                    for b in [MatRef::rows(&b, n), MatRef::cols(&b, k)] {
                        let mut packed = vec![T::ZERO; strips.packed_len(k, n)];
                        let packed = strips.pack(k, n, b, &mut packed);
                        let (mut got, mut want) = (wave(m * ld), wave(m * ld));
                        let tall = MatRef::new(&a, 0, k as isize, 1);
                        let columns = strips.columns(k, packed);
                        strips.with_packed(m, tall, columns, n, &mut got, ld);
                        let many = vec![T::ZERO; (9 - m) * k];
                        // Nine rows: fewer would go through dot products.
                        let a: Vec<T> = a.iter().chain(&many).copied().collect();
                        let mut nine = vec![T::ZERO; 9 * ld];
                        let rows = MatRef::rows(&a, k);
                        gemm_on(isa, 9, k, n, rows, b, &mut nine, ld, false, Epilogue::NONE);
                        for (i, row) in want.chunks_mut(ld).enumerate() {
                            row[..n].copy_from_slice(&nine[i * ld..][..n]);
                        }
                        for (got, want) in got.chunks(ld).zip(want.chunks(ld)) {
                            assert!(got[..n] == want[..n], "{isa:?} {m} {k} {n}");
                        }
                    }
                }
            }
        }
        check::<f32>();
        check::<f64>();
    }
}
