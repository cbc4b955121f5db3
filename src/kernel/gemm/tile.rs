//! The micro-kernel: one tile of C held in registers while k runs.
//!
//! ```text
//! C[i][j]  (+)=  sum over p of  A[i][p] * B[p][j],      i < rows <= MR,  j < columns <= NV registers
//!
//! acc = 0
//! for p in 0..k:
//!     b[0..nv]  = NV registers from row p of B
//!     for i in 0..rows:  acc[i][0..nv] += splat(A[i][p]) * b[0..nv]
//! C = acc (+ C) (+ bias) (max 0)
//! ```
//!
//! - `A[i][p]` is at `a + i*a_rs + p*a_cs`: packed (`a_rs = 1`, `a_cs = rows`) or where it lies, at any strides.
//! - Row `p` of B is contiguous, and starts at `b + p*b_rs` ([`BRows::Strided`]) or at `b + offs[p]` ([`BRows::Table`]). The
//!   table makes a convolution a matrix product without im2col: `p` runs over (channel, ky, kx), and `offs[p]` is where in
//!   the padded image the window's element (channel, ky, kx) of output pixel 0 lies; pixel `j` is `j` elements further.
//! - The last register may be partial: [`Tile::last`] of its lanes are stored. With `full` rows of B (packed with
//!   zeros, or memory beyond the row that may be read) its load is a plain one; else only those lanes are read.
//! - Each element of C is one chain of multiply-adds in ascending `p`, whatever the tile's size: how C is cut into tiles
//!   never changes a bit of the result, only how k is cut into blocks does.
//!
//! To use it: take the [`Family`] of the element type (`T::family(isa)`), cut C into tiles of at most `family.rows` by
//! `family.registers * family.lanes`, and call `family.kernel(rows, registers, rows_of_b, full)` on each [`Tile`].

use super::vector::Vector;
use std::array::from_fn;
use std::hint::black_box;
use std::mem::MaybeUninit;

/// How rows of B are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BRows {
    /// At a constant distance.
    Strided,
    /// At the offsets of a table.
    Table,
    /// At a constant distance, and in no cache that is near: they are asked for in advance.
    Far,
}

/// What a micro-kernel computes; see the top of this file.
pub struct Tile<T> {
    /// Length of the sum; may be 0.
    pub k: usize,
    pub a: *const T,
    /// Distance between rows of A, in elements.
    pub a_rs: isize,
    /// Distance between columns of A, in elements.
    pub a_cs: isize,
    pub b: *const T,
    /// Distance between rows of B, in elements; not used with a table.
    pub b_rs: isize,
    /// `k` offsets of rows of B, in elements; not used without a table.
    pub offs: *const isize,
    pub c: *mut T,
    /// Distance between rows of C, in elements.
    pub c_rs: isize,
    /// Lanes of the last register that belong to C: 1 to `LANES`.
    pub last: usize,
    /// Add to what C holds, instead of overwriting it unread.
    pub accumulate: bool,
    /// One number per column of the tile, or null.
    pub bias_col: *const T,
    /// One number per row of the tile, or null.
    pub bias_row: *const T,
    /// Replace negative results with 0.
    pub relu: bool,
    /// What is asked for along the way where B is strided and full, or null: memory that is read after this tile.
    pub next: *const u8,
    /// How far the place asked for moves with each step of k, in bytes.
    pub next_step: usize,
}

/// A micro-kernel.
///
/// # Safety
/// The processor has the family's instruction set, and all that the tile describes for the kernel's number of rows and
/// registers is readable, and C writable, with no overlap of C and the rest.
pub type TileFn<T> = unsafe fn(&Tile<T>);

/// Which operand of a tile stays in L1 from one tile to the next, while the other one streams in from L2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stays {
    /// The rows of A: where a panel of B fills L1 by itself (256 x 48 floats are 48 KiB).
    A,
    /// The panel of B.
    B,
}

/// The micro-kernels of one element type on one instruction set.
pub struct Family<T: 'static> {
    /// Most rows of a tile.
    pub rows: usize,
    /// Most registers of a row of a tile.
    pub registers: usize,
    /// Elements of a register.
    pub lanes: usize,
    /// About how fast it is, in flop per nanosecond and core: for estimates of time.
    pub rate: f64,
    /// What is read again and again from L1.
    pub stays: Stays,
    /// Up to this many tiles of columns, rows of A that lie along k are read in place.
    pub a_in_place: usize,
    /// Up to this many tiles of rows, rows of B are read in place.
    pub b_in_place: usize,
    /// `rows * registers` kernels for each of: strided, strided full, table, table full, far.
    kernels: [&'static [TileFn<T>]; 5],
}

impl<T> Family<T> {
    /// The micro-kernel for tiles of `rows` by `registers`, both at least 1 and at most the family's.
    #[inline]
    pub(crate) fn kernel(&self, rows: usize, registers: usize, b: BRows, full: bool) -> TileFn<T> {
        self.row(rows, b, full)[registers - 1]
    }

    /// The micro-kernels for tiles of so many rows, by registers.
    #[inline]
    pub(crate) fn row(&self, rows: usize, b: BRows, full: bool) -> &'static [TileFn<T>] {
        debug_assert!(rows >= 1 && rows <= self.rows);
        let form = match b {
            BRows::Strided => full as usize,
            BRows::Table => 2 + full as usize,
            BRows::Far => 4,
        };
        &self.kernels[form][(rows - 1) * self.registers..rows * self.registers]
    }
}

/// So many rows of B are asked for in advance.
const AHEAD: isize = 12;

/// # Safety
/// As [`TileFn`], for `R` rows and `NV` registers.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // indices of both factors, as in the formula
unsafe fn tile<
    V: Vector,
    const R: usize,
    const NV: usize,
    const TABLE: bool,
    const FULL: bool,
    const FAR: bool,
>(
    t: &Tile<V::Elem>,
) {
    // SAFETY: all accesses are to the rows and columns that the caller vouches for: `R` rows at `a`, `k` rows of
    // `NV` registers at `b` (the last one only in its first `last` lanes unless full), and `R` rows of C likewise. Pointers are
    // advanced with wrapping arithmetic, as the one after the last row may lie outside the operand.
    unsafe {
        let mask = V::mask(t.last);
        let c_at = |i: usize, v: usize| {
            t.c.wrapping_offset(i as isize * t.c_rs).wrapping_add(v * V::LANES)
        };
        if t.accumulate {
            (0..R).for_each(|i| (0..NV).for_each(|v| V::prefetch(c_at(i, v))));
        }
        let mut acc = [[V::zero(); NV]; R];
        // One base per row and a common index. Left to itself the compiler finds each row from the one before, and that chain of
        // additions takes longer than the multiplications of a narrow tile.
        let rows: [_; R] = from_fn(|i| black_box(t.a.wrapping_offset(i as isize * t.a_rs)));
        let (mut a, mut b) = (0, t.b);
        // (Some line that is near where nothing is asked for.)
        let mut next = if t.next.is_null() { t.a.cast() } else { t.next };
        for p in 0..t.k {
            let row = if TABLE { t.b.wrapping_offset(*t.offs.add(p)) } else { b };
            let mut bv = [V::zero(); NV];
            for v in 0..NV {
                let at = row.wrapping_add(v * V::LANES);
                if FAR {
                    V::prefetch(at.wrapping_offset(AHEAD * t.b_rs));
                }
                bv[v] = if FULL || v + 1 < NV { V::load(at) } else { V::load_part(at, mask) };
            }
            if FULL && !TABLE {
                V::prefetch_far(next);
                next = next.wrapping_add(t.next_step);
            }
            for i in 0..R {
                let x = V::splat(*rows[i].wrapping_offset(a));
                for v in 0..NV {
                    acc[i][v] = x.fma(bv[v], acc[i][v]);
                }
            }
            a += t.a_cs;
            if !TABLE {
                b = b.wrapping_offset(t.b_rs);
            }
        }
        let whole = t.last == V::LANES;
        // The two commonest endings are short enough to be unrolled, so that sums go from register to C. The general one is
        // not: it would turn `acc` into memory and each multiply-add above into a store as well, hence the copy.
        if !t.accumulate && t.bias_col.is_null() && t.bias_row.is_null() && !t.relu {
            if whole {
                for i in 0..R {
                    for v in 0..NV {
                        acc[i][v].store(c_at(i, v));
                    }
                }
                return;
            }
            for i in 0..R {
                for v in 0..NV - 1 {
                    acc[i][v].store(c_at(i, v));
                }
                acc[i][NV - 1].store_part(c_at(i, NV - 1), mask);
            }
            return;
        }
        let mut sums = [MaybeUninit::<V>::uninit(); 24];
        const { assert!(R * NV <= 24) };
        for i in 0..R {
            for v in 0..NV {
                sums[i * NV + v].write(acc[i][v]);
            }
        }
        for i in 0..R {
            let bias_row =
                if t.bias_row.is_null() { V::zero() } else { V::splat(*t.bias_row.add(i)) };
            for v in 0..NV {
                let mut x = sums[i * NV + v].assume_init();
                let c = c_at(i, v);
                let plain = v + 1 < NV || whole;
                if t.accumulate {
                    x = x.add(if plain { V::load(c) } else { V::load_part(c, mask) });
                }
                if !t.bias_col.is_null() {
                    let bias = t.bias_col.wrapping_add(v * V::LANES);
                    x = x.add(if plain { V::load(bias) } else { V::load_part(bias, mask) });
                }
                if !t.bias_row.is_null() {
                    x = x.add(bias_row);
                }
                if t.relu {
                    x = x.relu();
                }
                if plain { x.store(c) } else { x.store_part(c, mask) }
            }
        }
    }
}

/// Defines the kernels of one instruction set: a wrapper compiled for it, and the tables of its instances.
macro_rules! family {
    ($wrapper:ident, $table:ident, $(#[$feature:meta])? rows $rows:literal [$($r:literal)*], registers $nv:tt) => {
        /// # Safety
        /// As [`TileFn`].
        $(#[$feature])?
        unsafe fn $wrapper<V: Vector, const R: usize, const NV: usize, const TABLE: bool, const FULL: bool, const FAR: bool>(t: &Tile<V::Elem>) {
            // SAFETY: the caller's promise, passed on.
            unsafe { tile::<V, R, NV, TABLE, FULL, FAR>(t) }
        }
        struct $table<V, const TABLE: bool, const FULL: bool, const FAR: bool>(V);
        impl<V: Vector + 'static, const TABLE: bool, const FULL: bool, const FAR: bool> $table<V, TABLE, FULL, FAR> {
            const KERNELS: &'static [TileFn<V::Elem>] = family!(@rows $wrapper, $nv, [$($r)*]);
        }
    };
    (@rows $wrapper:ident, 2, [$($r:literal)*]) => {
        &[$($wrapper::<V, $r, 1, TABLE, FULL, FAR>, $wrapper::<V, $r, 2, TABLE, FULL, FAR>,)*]
    };
    (@rows $wrapper:ident, 3, [$($r:literal)*]) => {
        &[$($wrapper::<V, $r, 1, TABLE, FULL, FAR>, $wrapper::<V, $r, 2, TABLE, FULL, FAR>, $wrapper::<V, $r, 3, TABLE, FULL, FAR>,)*]
    };
}

/// The family made of the tables of one instruction set for one register type.
macro_rules! make {
    ($table:ident, $v:ty, rows $rows:literal, registers $nv:literal, rate $rate:literal, stays $stays:ident, in place $a:literal by $b:literal) => {
        Family {
            rows: $rows,
            registers: $nv,
            lanes: <$v as Vector>::LANES,
            rate: $rate,
            stays: Stays::$stays,
            a_in_place: $a,
            b_in_place: $b,
            kernels: [
                $table::<$v, false, false, false>::KERNELS,
                $table::<$v, false, true, false>::KERNELS,
                $table::<$v, true, false, false>::KERNELS,
                $table::<$v, true, true, false>::KERNELS,
                $table::<$v, false, false, true>::KERNELS,
            ],
        }
    };
}

// The portable tile leaves half of SSE2's sixteen registers for B, the splat and temporaries.
family!(portable, Portable, rows 4 [1 2 3 4], registers 2);
pub(crate) static PORTABLE_F32: Family<f32> = make!(Portable, super::vector::Lanes<f32, 4>, rows 4, registers 2, rate 10.0, stays B, in place 24 by 16);
pub(crate) static PORTABLE_F64: Family<f64> = make!(Portable, super::vector::Lanes<f64, 2>, rows 4, registers 2, rate 5.0, stays B, in place 24 by 16);

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    use super::*;
    use std::arch::x86_64::*;

    // 12 of 16 registers accumulate, 2 hold B, 1 the splat.
    family!(avx2, Avx2, #[target_feature(enable = "avx2,fma")] rows 6 [1 2 3 4 5 6], registers 2);
    pub(crate) static AVX2_F32: Family<f32> =
        make!(Avx2, __m256, rows 6, registers 2, rate 80.0, stays B, in place 24 by 16);
    pub(crate) static AVX2_F64: Family<f64> =
        make!(Avx2, __m256d, rows 6, registers 2, rate 40.0, stays B, in place 24 by 16);

    // 24 of 32 registers accumulate, 3 hold B, 1 the splat.
    family!(avx512, Avx512, #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")] rows 8 [1 2 3 4 5 6 7 8], registers 3);
    pub(crate) static AVX512_F32: Family<f32> =
        make!(Avx512, __m512, rows 8, registers 3, rate 120.0, stays A, in place 100 by 48);
    pub(crate) static AVX512_F64: Family<f64> =
        make!(Avx512, __m512d, rows 8, registers 3, rate 60.0, stays A, in place 100 by 48);
}

#[cfg(target_arch = "aarch64")]
pub(crate) mod neon {
    use super::*;
    use std::arch::aarch64::*;

    // 24 of 32 registers accumulate, 3 hold B, 1 the splat. The rate is that of two multiply-adds in each of 2.5 cycles a nanosecond: not measured.
    family!(neon, Neon, rows 8 [1 2 3 4 5 6 7 8], registers 3);
    pub(crate) static NEON_F32: Family<f32> =
        make!(Neon, float32x4_t, rows 8, registers 3, rate 40.0, stays B, in place 24 by 16);
    pub(crate) static NEON_F64: Family<f64> =
        make!(Neon, float64x2_t, rows 8, registers 3, rate 20.0, stays B, in place 24 by 16);
}
