//! The micro-kernel on tile registers: 32 x 32 results for a stretch of k.

use super::pack::{PANEL, PIECES, TILE};
use std::arch::asm;

/// Rows and columns of a tile of results, and pairs of k of a tile of factors.
pub(super) const SIDE: usize = 16;
/// Results of a micro-kernel, row by row.
#[repr(C, align(64))]
pub(super) struct Sums(pub(super) [f32; PANEL * PANEL]);

/// All tile registers in use: sixteen rows of 64 bytes each.
#[repr(C, align(64))]
struct Config([u8; 64]);

const CONFIG: Config = {
    let mut config = [0; 64];
    config[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        config[16 + 2 * tile] = 64;
        config[48 + tile] = SIDE as u8;
        tile += 1;
    }
    Config(config)
};

/// While it lives, this thread's tile registers have their shape. They belong to the thread, and compiled code does not use them.
pub(super) struct Configured(());

impl Configured {
    /// # Safety
    /// The processor has the registers, and the system lets this process use them.
    pub(super) unsafe fn new() -> Self {
        // SAFETY: the caller's promise; the instruction reads 64 bytes and changes nothing that compiled code uses.
        unsafe { asm!("ldtilecfg [{}]", in(reg) CONFIG.0.as_ptr(), options(nostack, readonly)) };
        Configured(())
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: there was a configuration, so the instruction exists. Registers that are not in use cost nothing in a switch of threads.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// One product of pieces: each tile of A with each of B.
macro_rules! multiply {
    (2, 2) => {
        "tdpbf16ps tmm0, tmm4, tmm6\ntdpbf16ps tmm1, tmm4, tmm7\ntdpbf16ps tmm2, tmm5, tmm6\ntdpbf16ps tmm3, tmm5, tmm7\n"
    };
    (1, 2) => {
        "tdpbf16ps tmm0, tmm4, tmm6\ntdpbf16ps tmm1, tmm4, tmm7\n"
    };
    (2, 1) => {
        "tdpbf16ps tmm0, tmm4, tmm6\ntdpbf16ps tmm2, tmm5, tmm6\n"
    };
    (1, 1) => {
        "tdpbf16ps tmm0, tmm4, tmm6\n"
    };
}

/// Reads a piece of A's or B's one or two tiles: the high, middle or low one.
macro_rules! read {
    (a, 1, high) => {
        "tileloadd tmm4, [{a}+{row}]\n"
    };
    (a, 1, middle) => {
        "tileloadd tmm4, [{a}+{row}+1024]\n"
    };
    (a, 1, low) => {
        "tileloadd tmm4, [{a}+{row}+2048]\n"
    };
    (a, 2, high) => {
        "tileloadd tmm4, [{a}+{row}]\ntileloadd tmm5, [{a}+{row}+1024]\n"
    };
    (a, 2, middle) => {
        "tileloadd tmm4, [{a}+{row}+2048]\ntileloadd tmm5, [{a}+{row}+3072]\n"
    };
    (a, 2, low) => {
        "tileloadd tmm4, [{a}+{row}+4096]\ntileloadd tmm5, [{a}+{row}+5120]\n"
    };
    (b, 1, high) => {
        "tileloadd tmm6, [{b}+{row}]\n"
    };
    (b, 1, middle) => {
        "tileloadd tmm6, [{b}+{row}+1024]\n"
    };
    (b, 1, low) => {
        "tileloadd tmm6, [{b}+{row}+2048]\n"
    };
    (b, 2, high) => {
        "tileloadd tmm6, [{b}+{row}]\ntileloadd tmm7, [{b}+{row}+1024]\n"
    };
    (b, 2, middle) => {
        "tileloadd tmm6, [{b}+{row}+2048]\ntileloadd tmm7, [{b}+{row}+3072]\n"
    };
    (b, 2, low) => {
        "tileloadd tmm6, [{b}+{row}+4096]\ntileloadd tmm7, [{b}+{row}+5120]\n"
    };
}

/// A micro-kernel for so many tiles of A and B. The order of the six products is such that each reads one new piece, but for the last.
macro_rules! kernel {
    ($name:ident, $a:tt, $b:tt) => {
        /// # Safety
        /// As [`multiply`].
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        unsafe fn $name(a: *const u32, b: *const u32, steps: usize, meanwhile: &mut impl FnMut(usize)) {
            for step in 0..steps {
                // SAFETY: the caller's promise: as many groups of pieces. The sums stay in registers that compiled code does not use,
                // from one step to the next.
                unsafe {
                    asm!(
                        read!(a, $a, low), read!(b, $b, high), multiply!($a, $b),
                        read!(a, $a, middle), multiply!($a, $b),
                        read!(b, $b, middle), multiply!($a, $b),
                        read!(a, $a, high), multiply!($a, $b),
                        read!(b, $b, low), multiply!($a, $b),
                        read!(b, $b, high), multiply!($a, $b),
                        a = in(reg) a.add(step * $a * PIECES * TILE),
                        b = in(reg) b.add(step * $b * PIECES * TILE),
                        row = in(reg) 64usize,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack, readonly, preserves_flags),
                    );
                }
                meanwhile(step);
            }
        }
    };
}

kernel!(two_by_two, 2, 2);
kernel!(two_by_one, 2, 1);
kernel!(one_by_two, 1, 2);
kernel!(one_by_one, 1, 1);

/// The products of one or two tiles of A's rows with one or two of B's columns, over `steps` of k. After each step is issued, `meanwhile` runs: the
/// tile registers work for hundreds of cycles on it, in which vector registers can do something else.
///
/// # Safety
/// `a` and `b` hold that many tiles of all pieces for at least one step each, as [`pack`](super::pack::pack) leaves them; the tile registers are configured,
/// and `meanwhile` leaves them alone. The processor has AVX-512.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
pub(super) unsafe fn multiply(
    tiles: (usize, usize),
    a: *const u32,
    b: *const u32,
    steps: usize,
    sums: &mut Sums,
    mut meanwhile: impl FnMut(usize),
) {
    // SAFETY: the caller's promise; sums are written in whole tiles.
    unsafe {
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            options(nostack, nomem, preserves_flags),
        );
        match tiles {
            (2, 2) => two_by_two(a, b, steps, &mut meanwhile),
            (2, _) => two_by_one(a, b, steps, &mut meanwhile),
            (_, 2) => one_by_two(a, b, steps, &mut meanwhile),
            _ => one_by_one(a, b, steps, &mut meanwhile),
        }
        asm!(
            "tilestored [{sums}+{row}], tmm0", "tilestored [{sums}+{row}+64], tmm1",
            "tilestored [{sums}+{row}+2048], tmm2", "tilestored [{sums}+{row}+2112], tmm3",
            sums = in(reg) sums.0.as_mut_ptr(), row = in(reg) PANEL * 4,
            options(nostack, preserves_flags),
        );
    }
}
