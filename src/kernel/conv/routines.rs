//! Small loops over registers, compiled once per instruction set and reached through a table, as the micro-kernels of the matrix
//! product are.

use super::halves::{self, Halves};
use super::pairs::Pairs;
use super::panels::{Gather, Run};
use super::winograd::pixels::{self, Pixels};
use super::winograd::tiles::{self, TilesIn, TilesOut};
use crate::kernel::gemm::vector::{Lanes, Vector};
use crate::kernel::simd::Isa;

/// The loops for one element type on one instruction set.
pub struct Routines<T: 'static> {
    /// Elements of a register.
    pub lanes: usize,
    /// Most rows of [`Dots`].
    pub dot_rows: usize,
    pub(super) rows: unsafe fn(&Rows<T>),
    /// By rows (1, 2, 4, 8) and columns (1 to 3).
    pub(super) dots: [[DotsFn<T>; DOT_COLS]; 4],
    /// By taps.
    pub(super) correlate: [unsafe fn(&Correlate<T>); MOST_TAPS],
    pub(super) totals: unsafe fn(&Totals<T>),
    pub(super) gather: unsafe fn(&Gather<T>),
    pub(super) halves: unsafe fn(&Halves<T>),
    pub(super) winograd_in: unsafe fn(&TilesIn<T>),
    pub(super) winograd_out: unsafe fn(&TilesOut<T>),
    pub(super) winograd_patch: unsafe fn(&Pixels<T, 16>),
    pub(super) winograd_square: unsafe fn(&Pixels<T, 4>),
}

/// A routine that computes [`Dots`].
type DotsFn<T> = unsafe fn(&Dots<T>);

/// Most columns of [`Dots`].
pub(super) const DOT_COLS: usize = 3;

/// Floats that have them.
pub trait HasRoutines: Sized {
    /// The loops for an instruction set.
    fn routines(isa: Isa) -> &'static Routines<Self>;
}

/// Copies `count` rows of `len` elements, of each of `planes` planes. Behind each row, up to a multiple of the register's length, zeros or
/// whatever are written, but nothing from `end` on: rows must be written in ascending order, and what must survive behind one
/// written later.
///
/// With `to_row` larger than `len`, the gap after a row is filled with zeros; so are `lead` elements before a plane's first row, and `tail`
/// behind its last.
pub(super) struct Rows<T> {
    pub from: *const T,
    pub from_row: usize,
    pub from_plane: usize,
    pub to: *mut T,
    pub to_row: usize,
    pub to_plane: usize,
    pub len: usize,
    pub count: usize,
    pub planes: usize,
    pub lead: usize,
    pub tail: usize,
    pub end: *mut T,
    /// By how much the end moves from plane to plane.
    pub end_plane: usize,
}

/// # Safety
/// The processor has the instruction set of `V`. The rows named are readable and writable, the gaps, `lead` and `tail` too (or lie behind
/// `end`), and everything from the first element written to `end` may be overwritten.
#[inline(always)]
unsafe fn rows<V: Vector>(a: &Rows<V::Elem>) {
    for p in 0..a.planes {
        let from = a.from.wrapping_add(p * a.from_plane);
        let to = a.to.wrapping_add(p * a.to_plane);
        let end = a.end.wrapping_add(p * a.end_plane);
        // SAFETY: the caller's promise, for one plane.
        unsafe {
            row::<V>(from, 0, to.wrapping_sub(a.lead), a.lead, end);
            for r in 0..a.count {
                let (from, to) = (from.wrapping_add(r * a.from_row), to.wrapping_add(r * a.to_row));
                row::<V>(from, a.len, to, a.to_row, end);
            }
            row::<V>(from, 0, to.wrapping_add(a.count * a.to_row), a.tail, end);
        }
    }
}

/// Copies `len` elements and fills up to `total` with zeros.
///
/// # Safety
/// As [`rows`], for one row.
#[inline(always)]
unsafe fn row<V: Vector>(
    from: *const V::Elem,
    len: usize,
    to: *mut V::Elem,
    total: usize,
    end: *mut V::Elem,
) {
    let room = (end as usize).saturating_sub(to as usize) / size_of::<V::Elem>();
    let mut j = 0;
    // SAFETY: reads take `len` elements; a whole register is written only where it ends before `end`, else only the lanes up to it.
    unsafe {
        while j < total.min(room) {
            let have = len.saturating_sub(j).min(V::LANES);
            let v = if have == V::LANES {
                V::load(from.add(j))
            } else if have == 0 {
                V::zero()
            } else {
                V::load_part(from.add(j), V::mask(have))
            };
            if j + V::LANES <= room {
                v.store(to.add(j));
            } else {
                v.store_part(to.add(j), V::mask(room - j));
            }
            j += V::LANES;
        }
    }
}

/// Most taps of [`Correlate`]: their sums and an operand fit sixteen registers.
pub(super) const MOST_TAPS: usize = 9;

/// `sums[t] += sum over y, x of g[y][x] * planes[taps[t] + y*row + x]`, lane by lane.
pub(super) struct Correlate<T> {
    pub g: *const T,
    /// Height and width of `g`.
    pub size: [usize; 2],
    pub planes: *const T,
    pub row: usize,
    pub taps: *const usize,
    /// A register for each tap.
    pub sums: *mut T,
}

/// # Safety
/// The processor has the instruction set of `V`. `g`, every pixel at each of the `N` taps and the sums are readable, the sums writable.
#[inline(always)]
unsafe fn correlate<V: Vector, const N: usize>(a: &Correlate<V::Elem>) {
    let [height, width] = a.size;
    // SAFETY: the caller's promise; the last lanes of a row are read by mask.
    unsafe {
        let taps: [usize; N] = std::array::from_fn(|t| *a.taps.add(t));
        let mut sums: [V; N] = std::array::from_fn(|t| V::load(a.sums.add(t * V::LANES)));
        let whole = width - width % V::LANES;
        let mask = V::mask(width - whole);
        for y in 0..height {
            let (g, x) = (a.g.add(y * width), a.planes.add(y * a.row));
            let mut j = 0;
            while j < whole {
                let v = V::load(g.add(j));
                for t in 0..N {
                    sums[t] = v.fma(V::load(x.add(taps[t] + j)), sums[t]);
                }
                j += V::LANES;
            }
            if whole < width {
                let v = V::load_part(g.add(whole), mask);
                for t in 0..N {
                    sums[t] = v.fma(V::load_part(x.add(taps[t] + whole), mask), sums[t]);
                }
            }
        }
        for t in 0..N {
            sums[t].store(a.sums.add(t * V::LANES));
        }
    }
}

/// Copies runs of each row together. Behind a row's last run, up to a register is overwritten.
///
/// # Safety
/// The processor has the instruction set of `V`. The runs at each offset are readable, the rows of the panel writable with a register
/// behind the last.
#[inline(always)]
unsafe fn gather<V: Vector>(a: &Gather<V::Elem>) {
    // Behind the last register that a run begins.
    let behind = |r: &Run| r.from + r.len.next_multiple_of(V::LANES);
    let reach = a.runs.iter().map(behind).max().unwrap_or(0);
    for (p, &off) in a.offs.iter().enumerate() {
        let to = a.to.wrapping_add(p * a.width);
        let planes = a.planes.wrapping_offset(off);
        if planes.wrapping_add(reach) <= a.end {
            for run in a.runs {
                let (from, to) = (planes.wrapping_add(run.from), to.wrapping_add(run.lane));
                // SAFETY: whole registers may be read from all runs, and written behind them.
                unsafe {
                    V::load(from).store(to);
                    for j in (V::LANES..run.len).step_by(V::LANES) {
                        V::load(from.add(j)).store(to.add(j));
                    }
                }
            }
            continue;
        }
        for run in a.runs {
            let (from, to) = (planes.wrapping_add(run.from), to.wrapping_add(run.lane));
            for j in (0..run.len).step_by(V::LANES) {
                let at = from.wrapping_add(j);
                // SAFETY: at least one element of the run is there to be read, and a whole register only before the end.
                unsafe {
                    let v = if at.wrapping_add(V::LANES) <= a.end {
                        V::load(at)
                    } else {
                        V::load_part(at, V::mask((run.len - j).min(V::LANES)))
                    };
                    v.store(to.add(j));
                }
            }
        }
    }
}

/// `acc[r][t] += sum over j of g[r][j] * x[t][j]`, lane by lane: what is summed over the lanes is left to the end of all calls.
pub(super) struct Dots<T> {
    pub g: *const T,
    pub g_row: usize,
    pub x: *const T,
    pub x_row: usize,
    pub len: usize,
    /// A register for each `r` and `t`.
    pub acc: *mut T,
    /// Distance between the rows of `acc`, in elements.
    pub acc_row: usize,
    /// `len` elements that will be needed soon; any address will do.
    pub next: *const T,
}

/// # Safety
/// The processor has the instruction set of `V`. `R` rows of `len` elements are readable at `g`, `C` rows at `x`, and registers at `acc`
/// are writable, without overlap.
#[inline(always)]
unsafe fn dots<V: Vector, const R: usize, const C: usize>(a: &Dots<V::Elem>) {
    // SAFETY: whole registers are read only below `len`, the last lanes by mask.
    unsafe {
        let mut acc = [[V::zero(); C]; R];
        let whole = a.len - a.len % V::LANES;
        let (mut g, mut x) = (a.g, a.x);
        let mut j = 0;
        while j < whole {
            V::prefetch(a.next.wrapping_add(j));
            let mut xs = [V::zero(); C];
            for t in 0..C {
                xs[t] = V::load(x.wrapping_add(t * a.x_row));
            }
            for r in 0..R {
                let gr = V::load(g.wrapping_add(r * a.g_row));
                for t in 0..C {
                    acc[r][t] = gr.fma(xs[t], acc[r][t]);
                }
            }
            g = g.wrapping_add(V::LANES);
            x = x.wrapping_add(V::LANES);
            j += V::LANES;
        }
        if whole < a.len {
            let mask = V::mask(a.len - whole);
            for t in 0..C {
                let xt = V::load_part(x.wrapping_add(t * a.x_row), mask);
                for r in 0..R {
                    let gr = V::load_part(g.wrapping_add(r * a.g_row), mask);
                    acc[r][t] = gr.fma(xt, acc[r][t]);
                }
            }
        }
        for r in 0..R {
            for t in 0..C {
                let at = a.acc.add(r * a.acc_row + t * V::LANES);
                acc[r][t].add(V::load(at)).store(at);
            }
        }
    }
}

/// `to[i] = plus + the sum of the lanes of register i`, then `max(0, to[i])` with `relu`.
pub(super) struct Totals<T> {
    pub from: *const T,
    pub count: usize,
    pub plus: T,
    pub relu: bool,
    pub to: *mut T,
}

/// Most lanes of a register.
const MOST_LANES: usize = 16;

/// # Safety
/// The processor has the instruction set of `V`. `count` registers are readable at `from`, and as many elements writable at `to`.
#[inline(always)]
unsafe fn totals<V: Pairs>(a: &Totals<V::Elem>) {
    const { assert!(V::LANES <= MOST_LANES) };
    let mut i = 0;
    while i < a.count {
        let count = V::LANES.min(a.count - i);
        // SAFETY: the caller's promise; only the first `count` lanes are stored.
        unsafe {
            let mut sums = [V::zero(); MOST_LANES];
            for (j, sum) in sums.iter_mut().enumerate().take(count) {
                *sum = V::load(a.from.add((i + j) * V::LANES));
            }
            // Sums of neighbours, again and again: of each two registers the first one's are in the lower half.
            let mut n = V::LANES;
            while n > 1 {
                n /= 2;
                for j in 0..n {
                    let (even, odd) = sums[2 * j].split(sums[2 * j + 1]);
                    sums[j] = even.add(odd);
                }
            }
            let all = sums[0].add(V::splat(a.plus));
            let all = if a.relu { all.relu() } else { all };
            if count == V::LANES {
                all.store(a.to.add(i));
            } else {
                all.store_part(a.to.add(i), V::mask(count));
            }
        }
        i += V::LANES;
    }
}

/// The table of one instruction set.
macro_rules! routines {
    ($module:ident, $name:ident, $t:ty, $v:ty, dot rows $dot_rows:literal $(, #[$feature:meta])?) => {
        mod $module {
            use super::*;
            #[cfg(target_arch = "x86_64")]
            #[allow(unused_imports)]
            use std::arch::x86_64::*;
            #[cfg(target_arch = "aarch64")]
            #[allow(unused_imports)]
            use std::arch::aarch64::*;
            $(#[$feature])?
            unsafe fn rows(a: &Rows<$t>) {
                // SAFETY: the caller's promise, passed on.
                unsafe { super::rows::<$v>(a) }
            }
            $(#[$feature])?
            unsafe fn dots<const R: usize, const C: usize>(a: &Dots<$t>) {
                // SAFETY: the caller's promise, passed on.
                unsafe { super::dots::<$v, R, C>(a) }
            }
            $(#[$feature])?
            unsafe fn halves(a: &Halves<$t>) {
                // SAFETY: the caller's promise, passed on.
                unsafe { halves::halves::<$v>(a) }
            }
            $(#[$feature])?
            unsafe fn correlate<const N: usize>(a: &Correlate<$t>) {
                // SAFETY: the caller's promise, passed on.
                unsafe { super::correlate::<$v, N>(a) }
            }
            $(#[$feature])?
            unsafe fn totals(a: &Totals<$t>) {
                // SAFETY: the caller's promise, passed on.
                unsafe { super::totals::<$v>(a) }
            }
            $(#[$feature])?
            unsafe fn gather(a: &Gather<$t>) {
                // SAFETY: the caller's promise, passed on.
                unsafe { super::gather::<$v>(a) }
            }
            $(#[$feature])?
            unsafe fn winograd_in(a: &TilesIn<$t>) {
                // SAFETY: the caller's promise, passed on.
                unsafe { tiles::input::<$v>(a) }
            }
            $(#[$feature])?
            unsafe fn winograd_out(a: &TilesOut<$t>) {
                // SAFETY: the caller's promise, passed on.
                unsafe { tiles::output::<$v>(a) }
            }
            $(#[$feature])?
            unsafe fn winograd_patch(a: &Pixels<$t, 16>) {
                // SAFETY: the caller's promise, passed on.
                unsafe { pixels::patch::<$v>(a) }
            }
            $(#[$feature])?
            unsafe fn winograd_square(a: &Pixels<$t, 4>) {
                // SAFETY: the caller's promise, passed on.
                unsafe { pixels::square::<$v>(a) }
            }
            pub static $name: Routines<$t> = Routines {
                lanes: <$v as Vector>::LANES,
                dot_rows: $dot_rows,
                rows,
                dots: [
                    [dots::<1, 1>, dots::<1, 2>, dots::<1, 3>],
                    [dots::<2, 1>, dots::<2, 2>, dots::<2, 3>],
                    [dots::<4, 1>, dots::<4, 2>, dots::<4, 3>],
                    [dots::<8, 1>, dots::<8, 2>, dots::<8, 3>],
                ],
                correlate: [
                    correlate::<1>,
                    correlate::<2>,
                    correlate::<3>,
                    correlate::<4>,
                    correlate::<5>,
                    correlate::<6>,
                    correlate::<7>,
                    correlate::<8>,
                    correlate::<9>,
                ],
                totals,
                gather,
                halves,
                winograd_in,
                winograd_out,
                winograd_patch,
                winograd_square,
            };
        }
    };
}

routines!(portable_f32, PORTABLE, f32, Lanes<f32, 4>, dot rows 2);
routines!(portable_f64, PORTABLE, f64, Lanes<f64, 2>, dot rows 2);
#[cfg(target_arch = "x86_64")]
routines!(avx2_f32, AVX2, f32, __m256, dot rows 4, #[target_feature(enable = "avx2,fma")]);
#[cfg(target_arch = "x86_64")]
routines!(avx2_f64, AVX2, f64, __m256d, dot rows 4, #[target_feature(enable = "avx2,fma")]);
#[cfg(target_arch = "x86_64")]
routines!(avx512_f32, AVX512, f32, __m512, dot rows 8, #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]);
#[cfg(target_arch = "x86_64")]
routines!(avx512_f64, AVX512, f64, __m512d, dot rows 8, #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]);
#[cfg(target_arch = "aarch64")]
routines!(neon_f32, NEON, f32, float32x4_t, dot rows 8);
#[cfg(target_arch = "aarch64")]
routines!(neon_f64, NEON, f64, float64x2_t, dot rows 8);

impl HasRoutines for f32 {
    fn routines(isa: Isa) -> &'static Routines<f32> {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Amx => &avx512_f32::AVX512,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &avx2_f32::AVX2,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => &neon_f32::NEON,
            _ => &portable_f32::PORTABLE,
        }
    }
}

impl HasRoutines for f64 {
    fn routines(isa: Isa) -> &'static Routines<f64> {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Amx => &avx512_f64::AVX512,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &avx2_f64::AVX2,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => &neon_f64::NEON,
            _ => &portable_f64::PORTABLE,
        }
    }
}
