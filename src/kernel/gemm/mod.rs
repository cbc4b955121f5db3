//! Matrix products at arbitrary strides: `C = A·B (+ C) (+ bias) (then ReLU)`.
//!
//! | file | subject |
//! | --- | --- |
//! | `mod.rs` | the safe functions, and what they check |
//! | `drive.rs` | which way a product takes |
//! | `plan.rs` | how C is cut into tiles and k into blocks, what is packed, what runs in parallel |
//! | `turned.rs` | tiles of C' written to C |
//! | `cuts.rs` | ranges in pieces of nearly equal length |
//! | `pack.rs` | copies in the micro-kernel's order, and the buffers that hold them |
//! | `across.rs` | such copies of what lies along k, transposed in registers |
//! | `ahead.rs` | fetching what is read next |
//! | `packed.rs` | a B that is packed once for many products |
//! | `split/` | products of f32 on tile registers, in pieces of eight bits |
//! | `strips.rs` | products of a few rows for callers that pack and cut themselves |
//! | `tiny.rs` | a few numbers |
//! | `dot.rs` | few rows against columns that lie along k |
//! | `tiles.rs` | all tiles of a block of k |
//! | `tile.rs` | the micro-kernel, its form for convolutions included |
//! | `peak.rs` | what the multipliers can do at most |
//! | `vector.rs` | one register, per instruction set |
//!
//! Each element of C is a chain of multiply-adds in ascending k, within blocks of [`KC`] (in pieces: of sums of 32 terms): the result depends
//! neither on the number of threads nor on the tile's size.
#![allow(unsafe_code)]
// A product has sizes, strides and pointers; bundling them for the count's sake would hide which is which.
#![allow(clippy::too_many_arguments)]

mod across;
mod ahead;
mod cuts;
mod dot;
mod drive;
pub(crate) mod pack;
mod packed;
pub(crate) mod peak;
mod plan;
#[cfg(target_arch = "x86_64")]
mod split;
mod strips;
pub(crate) mod tile;
mod tiles;
mod tiny;
mod turned;
pub(crate) mod vector;

#[cfg(test)]
mod tests;

use crate::element::Num;
use crate::kernel::simd::{Isa, isa};
use crate::tensor::Block;
pub(crate) use packed::Packed;
pub(crate) use strips::{Columns, Strips};
use tile::Family;

/// k is cut into blocks of even length, at most this: a panel of 16 columns is 20 KiB, and 256 or 1024 are a multiple of 256 still.
/// Part of what the result's bits depend on, so the same everywhere.
pub(crate) const KC: usize = 320;

/// The floats that have micro-kernels.
pub trait GemmElement: Num {
    /// The micro-kernels for an instruction set.
    fn family(isa: Isa) -> &'static Family<Self>;
    /// The dot products for an instruction set.
    #[allow(private_interfaces)]
    fn dots(isa: Isa) -> dot::DotFn<Self>;
    /// `self * b + c`, with one rounding if `FUSED`.
    fn mul_add_if<const FUSED: bool>(self, b: Self, c: Self) -> Self;
    /// Computes a product another way, if there is one that is faster than `ns` nanoseconds; `false` if nothing was done.
    ///
    /// # Safety
    /// As [`drive::batched`], for one product.
    #[allow(private_interfaces)]
    unsafe fn split(_isa: Isa, _p: &drive::Problem<Self>, _ns: f64) -> bool {
        false
    }
    /// B packed for [`split_with`](Self::split_with), if products of the problem's size are faster that way than `ns` nanoseconds.
    ///
    /// # Safety
    /// B is readable, and the processor has `isa`.
    #[allow(private_interfaces)]
    unsafe fn split_whole(_isa: Isa, _p: &drive::Problem<Self>, _ns: f64) -> Option<Block<Self>> {
        None
    }
    /// A product with a B that [`split_whole`](Self::split_whole) packed.
    ///
    /// # Safety
    /// As [`drive::batched`], for one product; `packed` is the same B.
    #[allow(private_interfaces)]
    unsafe fn split_with(_p: &drive::Problem<Self>, _packed: &[Self]) {}
    /// [`pack::pack`] of columns along k in registers; `false` if there is no such code and nothing was done.
    ///
    /// # Safety
    /// As [`pack::pack`].
    unsafe fn transpose(
        isa: Isa,
        k: usize,
        src: *const Self,
        across: isize,
        count: usize,
        width: usize,
        dst: *mut Self,
    ) -> bool;
}

impl GemmElement for f32 {
    #[inline]
    fn family(isa: Isa) -> &'static Family<f32> {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Amx => &tile::x86::AVX512_F32,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &tile::x86::AVX2_F32,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => &tile::neon::NEON_F32,
            _ => &tile::PORTABLE_F32,
        }
    }
    #[inline]
    #[allow(private_interfaces)]
    fn dots(isa: Isa) -> dot::DotFn<f32> {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Amx => dot::avx512::<std::arch::x86_64::__m512>,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => dot::avx2::<std::arch::x86_64::__m256>,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => dot::neon::<std::arch::aarch64::float32x4_t>,
            _ => dot::portable::<vector::Lanes<f32, 4>>,
        }
    }
    #[inline(always)]
    fn mul_add_if<const FUSED: bool>(self, b: f32, c: f32) -> f32 {
        if FUSED { self.mul_add(b, c) } else { self * b + c }
    }
    #[cfg(target_arch = "x86_64")]
    #[allow(private_interfaces)]
    unsafe fn split(isa: Isa, p: &drive::Problem<f32>, ns: f64) -> bool {
        let plan = if isa == Isa::Amx { split::Split::suits(p, ns) } else { None };
        if let Some(plan) = &plan {
            // SAFETY: the caller's promise; the processor has what was detected.
            unsafe { plan.run() };
        }
        plan.is_some()
    }
    #[cfg(target_arch = "x86_64")]
    #[allow(private_interfaces)]
    unsafe fn split_whole(isa: Isa, p: &drive::Problem<f32>, ns: f64) -> Option<Block<f32>> {
        let plan = if isa == Isa::Amx { split::Split::suits_packed(p, ns) } else { None }?;
        let mut packed: Block<f32> = Block::stale(plan.packed_whole_len());
        // SAFETY: the caller's promise, and a pair is as large as a float.
        unsafe { plan.pack_whole(packed.as_mut_ptr().cast()) };
        Some(packed)
    }
    #[cfg(target_arch = "x86_64")]
    #[allow(private_interfaces)]
    unsafe fn split_with(p: &drive::Problem<f32>, packed: &[f32]) {
        // SAFETY: the caller's promise; what was packed was packed for a processor that has the registers.
        unsafe { split::Split::with_packed(p, packed.as_ptr().cast()).run() };
    }
    #[inline]
    unsafe fn transpose(
        isa: Isa,
        k: usize,
        src: *const f32,
        across: isize,
        count: usize,
        width: usize,
        dst: *mut f32,
    ) -> bool {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's promise, passed on; the processor has the instruction set that is asked for.
        unsafe {
            if isa >= Isa::Avx512 && width.is_multiple_of(16) {
                across::by_sixteen(k, src, across, count, width, dst);
                return true;
            }
            if isa >= Isa::Avx2 && (width < 8 || width.is_multiple_of(8)) {
                across::by_eight(k, src, across, count, width, dst);
                return true;
            }
        }
        let _ = (isa, k, src, across, count, width, dst);
        false
    }
}

impl GemmElement for f64 {
    #[inline]
    fn family(isa: Isa) -> &'static Family<f64> {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Amx => &tile::x86::AVX512_F64,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &tile::x86::AVX2_F64,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => &tile::neon::NEON_F64,
            _ => &tile::PORTABLE_F64,
        }
    }
    #[inline]
    #[allow(private_interfaces)]
    fn dots(isa: Isa) -> dot::DotFn<f64> {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Amx => dot::avx512::<std::arch::x86_64::__m512d>,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => dot::avx2::<std::arch::x86_64::__m256d>,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => dot::neon::<std::arch::aarch64::float64x2_t>,
            _ => dot::portable::<vector::Lanes<f64, 2>>,
        }
    }
    #[inline(always)]
    fn mul_add_if<const FUSED: bool>(self, b: f64, c: f64) -> f64 {
        if FUSED { self.mul_add(b, c) } else { self * b + c }
    }
    #[inline]
    unsafe fn transpose(
        _isa: Isa,
        _k: usize,
        _src: *const f64,
        _across: isize,
        _count: usize,
        _width: usize,
        _dst: *mut f64,
    ) -> bool {
        false
    }
}

/// A matrix in a slice: element `(i, j)` is `data[offset + i*rs + j*cs]`. Strides may be zero or negative.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MatRef<'a, T> {
    data: &'a [T],
    offset: usize,
    rs: isize,
    cs: isize,
}

impl<'a, T> MatRef<'a, T> {
    /// The matrix whose element `(0, 0)` is `data[offset]`. That the others exist too is checked where the size is known.
    pub(crate) fn new(data: &'a [T], offset: usize, rs: isize, cs: isize) -> Self {
        Self { data, offset, rs, cs }
    }

    /// Row-major, with rows `ld` apart.
    pub(crate) fn rows(data: &'a [T], ld: usize) -> Self {
        Self::new(data, 0, ld as isize, 1)
    }

    /// The transpose of a row-major matrix whose rows are `ld` apart.
    pub(crate) fn cols(data: &'a [T], ld: usize) -> Self {
        Self::new(data, 0, 1, ld as isize)
    }

    /// The transpose: a view.
    pub(crate) fn t(self) -> Self {
        Self { rs: self.cs, cs: self.rs, ..self }
    }

    /// Pointer to element `(0, 0)`, after checking that a stack of `batch` matrices of `rows` by `cols` lies within the data.
    fn checked(&self, batch: (usize, isize), rows: usize, cols: usize) -> *const T {
        let axes = [batch, (rows, self.rs), (cols, self.cs)];
        if axes.iter().all(|&(n, _)| n > 0) {
            let (mut low, mut high) = (self.offset as i128, self.offset as i128);
            for (n, stride) in axes {
                let end = (n - 1) as i128 * stride as i128;
                if end < 0 { low += end } else { high += end }
            }
            assert!(
                low >= 0 && high < self.data.len() as i128,
                "gemm: a {rows} x {cols} operand with strides {}, {} at {} leaves its {} elements",
                self.rs,
                self.cs,
                self.offset,
                self.data.len()
            );
        }
        self.data.as_ptr().wrapping_add(self.offset)
    }
}

/// What is added to a product as a constant.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bias<'a, T> {
    /// Nothing.
    None,
    /// One number per column of C.
    Col(&'a [T]),
    /// One number per row of C.
    #[allow(
        dead_code,
        reason = "the micro-kernels have it and are tested with it; no operation needs it yet"
    )]
    Row(&'a [T]),
}

/// What happens to an element of C after its sum is complete: plus bias, then `max(0, ·)` if `relu`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epilogue<'a, T> {
    /// The constant added.
    pub bias: Bias<'a, T>,
    /// Whether negative results become 0.
    pub relu: bool,
}

impl<T> Epilogue<'_, T> {
    /// The sum as it is.
    pub(crate) const NONE: Self = Self { bias: Bias::None, relu: false };
}

/// `C (m x n) = A (m x k) · B (k x n)`, plus C if `accumulate`, then the epilogue.
///
/// C is row-major, its rows `ldc` apart; if not accumulating it is never read. `k == 0` is a sum of nothing: zeros.
///
/// # Panics
/// If an operand is shorter than its size and strides say: callers check shapes first.
pub(crate) fn gemm<T: GemmElement>(
    m: usize,
    k: usize,
    n: usize,
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    c: &mut [T],
    ldc: usize,
    accumulate: bool,
    epilogue: Epilogue<'_, T>,
) {
    gemm_on(isa(), m, k, n, a, b, c, ldc, accumulate, epilogue);
}

/// [`gemm`] on a given instruction set.
pub(crate) fn gemm_on<T: GemmElement>(
    isa: Isa,
    m: usize,
    k: usize,
    n: usize,
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    c: &mut [T],
    ldc: usize,
    accumulate: bool,
    epilogue: Epilogue<'_, T>,
) {
    let batch = Batch { count: 1, a: 0, b: 0, c: 0 };
    run(isa, batch, m, k, n, a, b, c, ldc, accumulate, epilogue);
}

/// How many products, and how far apart their operands are in elements; 0 shares an operand among all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    /// The number of products.
    pub count: usize,
    /// Distance between the matrices A.
    pub a: isize,
    /// Distance between the matrices B.
    pub b: isize,
    /// Distance between the matrices C, at least the size of one.
    pub c: usize,
}

/// `batch.count` products of the same size, see [`gemm`]; the epilogue is the same for all.
///
/// # Panics
/// As [`gemm`].
pub(crate) fn gemm_batched<T: GemmElement>(
    batch: Batch,
    m: usize,
    k: usize,
    n: usize,
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    c: &mut [T],
    ldc: usize,
    accumulate: bool,
    epilogue: Epilogue<'_, T>,
) {
    run(isa(), batch, m, k, n, a, b, c, ldc, accumulate, epilogue);
}

/// Checks everything that the unsafe code below relies on, and hands over to it.
fn run<T: GemmElement>(
    isa: Isa,
    batch: Batch,
    m: usize,
    k: usize,
    n: usize,
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    c: &mut [T],
    ldc: usize,
    accumulate: bool,
    epilogue: Epilogue<'_, T>,
) {
    if m == 0 || n == 0 || batch.count == 0 {
        return;
    }
    let one = (m - 1).checked_mul(ldc).and_then(|x| x.checked_add(n));
    let all = one.and_then(|x| (batch.count - 1).checked_mul(batch.c)?.checked_add(x));
    assert!(m == 1 || ldc >= n, "gemm: rows of C overlap: {n} columns, {ldc} apart");
    assert!(batch.count == 1 || one.is_some_and(|x| batch.c >= x), "gemm: the matrices C overlap");
    assert!(
        all.is_some_and(|x| x <= c.len()),
        "gemm: {m} x {n} results do not fit in {} elements",
        c.len()
    );
    let (mut bias_col, mut bias_row) = (std::ptr::null(), std::ptr::null());
    match epilogue.bias {
        Bias::None => {}
        Bias::Col(bias) => {
            assert_eq!(bias.len(), n, "gemm: one bias per column");
            bias_col = bias.as_ptr();
        }
        Bias::Row(bias) => {
            assert_eq!(bias.len(), m, "gemm: one bias per row");
            bias_row = bias.as_ptr();
        }
    }
    let problem = drive::Problem {
        m,
        k,
        n,
        a: a.checked((batch.count, batch.a), m, k),
        a_rs: a.rs,
        a_cs: a.cs,
        b: b.checked((batch.count, batch.b), k, n),
        b_rs: b.rs,
        b_cs: b.cs,
        c: c.as_mut_ptr(),
        c_rs: ldc,
        c_cs: 1,
        accumulate,
        bias_col,
        bias_row,
        relu: epilogue.relu,
    };
    // SAFETY: the operands were checked above, `c` is borrowed mutably so it overlaps none of them, and `isa` was detected.
    unsafe { drive::batched(isa, batch, &problem) };
}
