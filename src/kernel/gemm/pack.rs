//! Packing: copies of A and B in the order in which the micro-kernel reads them, and the buffers that hold them.

use super::GemmElement;
use crate::kernel::simd::{Isa, Kernel, dispatch_on};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A growing 64-byte aligned buffer that each thread keeps, so that nothing is allocated in steady state.
#[derive(Default)]
pub(crate) struct Scratch {
    lines: Vec<CacheLine>,
    held: Option<Held>,
}

/// What a buffer holds: some columns of B for a stretch of k, of a region of parallel work that has a number of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) region: u64,
    pub(super) k: usize,
    pub(super) first: usize,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct CacheLine([u8; 64]);

impl Scratch {
    /// An empty one.
    pub(crate) const fn new() -> Self {
        Scratch { lines: Vec::new(), held: None }
    }

    /// Room for `len` elements, with whatever was there before.
    pub(crate) fn get<T: GemmElement>(&mut self, len: usize) -> &mut [T] {
        self.held = None;
        let lines = (len * size_of::<T>()).div_ceil(64);
        if self.lines.len() < lines {
            // The old content is of no use: free it before the new one is made.
            self.lines = Vec::new();
            self.lines = vec![CacheLine([0; 64]); lines];
        }
        // SAFETY: the vector owns `lines * 64 >= len * size_of::<T>()` initialised bytes, aligned to 64, and any bytes
        // are a valid float (`GemmElement` is f32 and f64 only). The borrow is that of `self`.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), len) }
    }
}

impl Scratch {
    /// The panels that `what` names, `len` elements with the slack: those which the buffer holds from an earlier part of the same region,
    /// or packed by `pack`.
    pub(super) fn panels<T: GemmElement>(
        &mut self,
        what: Held,
        len: usize,
        pack: impl FnOnce(*mut T),
    ) -> *const T {
        if self.held != Some(what) {
            pack(self.get::<T>(len).as_mut_ptr());
            self.held = Some(what);
        }
        self.lines.as_ptr().cast()
    }
}

/// A number that no region had before.
pub(super) fn new_region() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Relaxed)
}

thread_local! {
    static SCRATCH_A: Cell<Scratch> = const { Cell::new(Scratch::new()) };
    static SCRATCH_B: Cell<Scratch> = const { Cell::new(Scratch::new()) };
    static SCRATCH_C: Cell<Scratch> = const { Cell::new(Scratch::new()) };
}

/// Runs `f` with this thread's buffer for a block of A. (Taken out of its place meanwhile, so that even a nested use is sound.)
pub(crate) fn with_scratch_a<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
    with(&SCRATCH_A, f)
}

/// Runs `f` with this thread's buffer for B.
pub(crate) fn with_scratch_b<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
    with(&SCRATCH_B, f)
}

/// Runs `f` with this thread's buffer for a tile of C.
pub(crate) fn with_scratch_c<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
    with(&SCRATCH_C, f)
}

fn with<R>(
    place: &'static std::thread::LocalKey<Cell<Scratch>>,
    f: impl FnOnce(&mut Scratch) -> R,
) -> R {
    let mut scratch = place.take();
    let result = f(&mut scratch);
    place.set(scratch);
    result
}

/// Elements beyond a panel's end that [`pack`] may overwrite.
pub(crate) const SLACK: usize = 8;

/// Writes `dst[p * width + j] = src[p * along + j * across]` for `p < k`, `j < count`, and zeros for `count <= j < width`.
///
/// Both operands are packed by it: of A, `j` is a row and `width` the rows of the tile; of B, `j` is a column and
/// `width` whole registers.
///
/// # Safety
/// The elements of `src` named above are readable; `dst` has room for `k * width + SLACK` elements, is written in its first
/// `k * width` and may be overwritten in the rest; they do not overlap. The processor has `isa`.
pub(crate) unsafe fn pack<T: GemmElement>(
    isa: Isa,
    k: usize,
    src: *const T,
    along: isize,
    across: isize,
    count: usize,
    width: usize,
    dst: *mut T,
) {
    // SAFETY: the caller's promise; each branch accesses only elements named in the contract.
    unsafe {
        if across == 1 {
            for p in 0..k {
                let from = src.wrapping_offset(p as isize * along);
                let to = dst.add(p * width);
                std::ptr::copy_nonoverlapping(from, to, count);
                fill(to.add(count), width - count);
            }
        } else if along == 1 && T::transpose(isa, k, src, across, count, width, dst) {
        } else {
            for p in 0..k {
                let from = src.wrapping_offset(p as isize * along);
                let to = dst.add(p * width);
                for j in 0..count {
                    *to.add(j) = *from.wrapping_offset(j as isize * across);
                }
                fill(to.add(count), width - count);
            }
        }
    }
}

/// [`pack`]s `count` columns (or rows of A) in panels of `width`, one after another.
///
/// # Safety
/// As [`pack`], for each panel; the slack is that of the last.
pub(super) unsafe fn panels<T: GemmElement>(
    isa: Isa,
    k: usize,
    src: *const T,
    along: isize,
    across: isize,
    count: usize,
    width: usize,
    dst: *mut T,
) {
    // SAFETY: the caller's promise, panel by panel.
    unsafe {
        let whole =
            if across == 1 { strips(isa, k, src, along, count / width, width, dst) } else { 0 };
        for start in (whole * width..count).step_by(width) {
            let src = src.wrapping_offset(start as isize * across);
            let count = width.min(count - start);
            pack(isa, k, src, along, across, count, width, dst.add(start * k));
        }
    }
}

/// Packs up to `count` panels whose rows lie contiguously, and says how many: 0 for a width that no micro-kernel has.
///
/// # Safety
/// As [`panels`] with `across == 1` and full panels.
unsafe fn strips<T: GemmElement>(
    isa: Isa,
    k: usize,
    src: *const T,
    along: isize,
    count: usize,
    width: usize,
    dst: *mut T,
) -> usize {
    macro_rules! widths {
        ($($n:literal)*) => {
            match width {
                $($n => dispatch_on(isa, Strips::<T, $n> { k, src, along, count, dst }),)*
                _ => return 0,
            }
        };
    }
    widths!(4 5 6 7 8 12 16 24 32 48);
    count
}

/// Panels of width `N`, taken side by side so that each cache line of the source is read once.
struct Strips<T, const N: usize> {
    k: usize,
    src: *const T,
    along: isize,
    count: usize,
    dst: *mut T,
}

impl<T: GemmElement, const N: usize> Strips<T, N> {
    /// Panels `at..at + G`.
    ///
    /// # Safety
    /// They are among the `count`, and those have the memory that [`panels`] says.
    #[inline(always)]
    unsafe fn group<const G: usize>(&self, at: usize) {
        let Self { k, src, along, dst, .. } = *self;
        for p in 0..k {
            let from = src.wrapping_offset(p as isize * along).wrapping_add(at * N);
            prefetch(from.wrapping_offset(AHEAD * along), G * N);
            for g in 0..G {
                // SAFETY: row `p` of panel `at + g`, read and written once.
                unsafe {
                    let row = from.add(g * N).cast::<[T; N]>().read_unaligned();
                    dst.add((at + g) * N * k + p * N).cast::<[T; N]>().write_unaligned(row);
                }
            }
        }
    }
}

impl<T: GemmElement, const N: usize> Kernel for Strips<T, N> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let mut at = 0;
        // SAFETY: `strips` passes on the promise of its caller, and `at` plus the group is at most the count.
        unsafe {
            while N <= 8 && at + 4 <= self.count {
                self.group::<4>(at);
                at += 4;
            }
            while at < self.count {
                self.group::<1>(at);
                at += 1;
            }
        }
    }
}

/// So many rows are asked for in advance: the hardware does not see a pattern in rows that are pages apart.
const AHEAD: isize = 16;

/// Asks for the cache lines of `n` elements.
#[inline(always)]
pub(super) fn prefetch<T>(_p: *const T, n: usize) {
    for _i in (0..n).step_by(64 / size_of::<T>()) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint, harmless at any address.
        unsafe {
            use std::arch::x86_64::*;
            _mm_prefetch::<_MM_HINT_T0>(_p.wrapping_add(_i).cast());
        }
    }
}

/// # Safety
/// `n` elements are writable at `to`.
#[inline(always)]
unsafe fn fill<T: GemmElement>(to: *mut T, n: usize) {
    for j in 0..n {
        // SAFETY: `j < n`.
        unsafe { *to.add(j) = T::ZERO };
    }
}
