//! Which instruction set this process computes with, chosen once at run time.
//!
//! Users install from a registry without `RUSTFLAGS`, so the crate is compiled for the baseline of the target. A loop that
//! is worth vectorising is written once, as the [`Kernel::run`] of a small struct, and [`dispatch`] calls it inside a
//! function compiled for the widest instruction set that this processor has:
//!
//! ```text
//! struct Axpy<'a> { a: f32, x: &'a [f32], y: &'a mut [f32] }
//! impl Kernel for Axpy<'_> {
//!     type Out = ();
//!     #[inline(always)] // or the loop is compiled for the baseline only
//!     fn run<const FMA: bool>(self) {
//!         for (y, x) in self.y.iter_mut().zip(self.x) { *y = fma::<FMA>(self.a, *x, *y); }
//!     }
//! }
//! dispatch(Axpy { a: 2.0, x: &x, y: &mut y });
//! ```
//!
//! The environment variable `GRADUS_ISA` (`scalar`, `avx2`, `avx512`, `amx`, `neon`) forces a lower path than the best one; a path
//! that the processor lacks is never taken.
#![allow(unsafe_code)]

use std::sync::OnceLock;

/// An instruction set, from the narrowest to the widest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// What the target guarantees: SSE2 on x86-64. No fused multiply-add.
    Scalar,
    /// 128-bit vectors of AArch64, with fused multiply-add; part of that target's baseline.
    Neon,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// 512-bit vectors.
    Avx512,
    /// The same, and tile registers that multiply bf16.
    Amx,
}

/// A loop to be compiled once for each instruction set.
pub(crate) trait Kernel {
    /// What the loop returns.
    type Out;
    /// The loop. It must be `#[inline(always)]`, and so must what it calls; `FMA` says whether `mul_add` is one instruction
    /// (without it, `mul_add` is a call into the C library, a hundred times slower).
    fn run<const FMA: bool>(self) -> Self::Out;
}

/// `a * b + c`: fused where the instruction exists, two roundings elsewhere.
#[inline(always)]
pub(crate) fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `a * b + c` in double precision; see [`fma`].
#[inline(always)]
pub(crate) fn fma64<const FMA: bool>(a: f64, b: f64, c: f64) -> f64 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Asks for `count` elements of `x` from `from` on, if there are so many, to be brought into the first cache. For kernels that work on
/// a run several times: while the last pass computes, memory can fetch the next run.
#[inline(always)]
pub(crate) fn prefetch<T>(x: &[T], from: usize, count: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(x) = x.get(from..from + count) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let line = (64 / size_of::<T>()).max(1);
        // By number, which is known where `count` is, so that the loop is unrolled.
        for i in 0..count.div_ceil(line) {
            // SAFETY: the instruction is in the baseline, changes nothing that a program can see, and the address is that of an element.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(x.as_ptr().add(i * line).cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (x, from, count);
}

/// The instruction set in use.
#[inline]
pub(crate) fn isa() -> Isa {
    static ISA: OnceLock<Isa> = OnceLock::new();
    *ISA.get_or_init(|| choose(std::env::var("GRADUS_ISA").ok().as_deref()))
}

/// The best instruction set of this processor that is not above the one asked for; unknown names ask for nothing.
fn choose(asked: Option<&str>) -> Isa {
    let limit = match asked {
        Some("scalar") => Isa::Scalar,
        Some("neon") => Isa::Neon,
        Some("avx2") => Isa::Avx2,
        Some("avx512") => Isa::Avx512,
        _ => Isa::Amx,
    };
    *available().iter().rev().find(|&&isa| isa <= limit).unwrap_or(&Isa::Scalar)
}

/// What this processor has, narrowest first. Never empty.
pub(crate) fn available() -> &'static [Isa] {
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let avx512 = avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw");
        const ALL: [Isa; 4] = [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Amx];
        let has = [true, avx2, avx512, avx512 && tiles()];
        &ALL[..has.into_iter().take_while(|&has| has).count()]
    }
    #[cfg(target_arch = "aarch64")]
    {
        &[Isa::Scalar, Isa::Neon]
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        &[Isa::Scalar]
    }
}

/// Whether the processor has tile registers for bf16, and the system lets this process use them: they make the state of a thread larger by
/// 8 KiB, so Linux wants to be asked.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn tiles() -> bool {
    use std::arch::{asm, x86_64::__cpuid_count};
    const ARCH_PRCTL: isize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const TILE_DATA: usize = 18;
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    *ALLOWED.get_or_init(|| {
        let (bf16, tile) = (1 << 22, 1 << 24);
        let features = __cpuid_count(7, 0).edx;
        if features & bf16 == 0 || features & tile == 0 {
            return false;
        }
        let mut result = ARCH_PRCTL;
        // SAFETY: a system call that grants a permission to the threads of this process, and touches none of its memory.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") result,
                in("rdi") ARCH_REQ_XCOMP_PERM,
                in("rsi") TILE_DATA,
                out("rcx") _,
                out("r11") _,
                options(nostack),
            );
        }
        result == 0
    })
}

/// Other systems have other ways, or none.
#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn tiles() -> bool {
    false
}

/// Runs the kernel compiled for the instruction set in use.
#[inline]
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Out {
    dispatch_on(isa(), kernel)
}

/// Runs the kernel compiled for `isa`, or for the baseline when this processor lacks it.
#[inline]
pub(crate) fn dispatch_on<K: Kernel>(isa: Isa, kernel: K) -> K::Out {
    debug_assert!(available().contains(&isa), "{isa:?} is not available on this processor");
    match isa {
        // SAFETY: `isa` comes from `isa()` or `available()`, which name a set only after detecting each of its features.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Amx => unsafe { run_avx512(isa, kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { run_avx2(kernel) },
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => {
            trace(Isa::Neon);
            kernel.run::<true>()
        }
        _ => {
            trace(Isa::Scalar);
            kernel.run::<false>()
        }
    }
}

/// # Safety
/// The processor must have the features named.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
unsafe fn run_avx512<K: Kernel>(_isa: Isa, kernel: K) -> K::Out {
    trace(_isa);
    kernel.run::<true>()
}

/// # Safety
/// The processor must have the features named.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2<K: Kernel>(kernel: K) -> K::Out {
    trace(Isa::Avx2);
    kernel.run::<true>()
}

/// Remembers, in tests, which path ran last on this thread.
#[inline(always)]
pub(crate) fn trace(_isa: Isa) {
    #[cfg(test)]
    LAST.with(|last| last.set(Some(_isa)));
}

#[cfg(test)]
thread_local! {
    /// The path that ran last on this thread.
    pub(crate) static LAST: std::cell::Cell<Option<Isa>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dot<'a>(&'a [f32], &'a [f32]);
    impl Kernel for Dot<'_> {
        type Out = f32;
        #[inline(always)]
        fn run<const FMA: bool>(self) -> f32 {
            self.0.iter().zip(self.1).fold(0.0, |s, (&a, &b)| fma::<FMA>(a, b, s))
        }
    }

    #[test]
    fn every_path_runs_and_computes() {
        let x: Vec<f32> = (0..100).map(|i| i as f32).collect();
        for &isa in available() {
            assert_eq!(dispatch_on(isa, Dot(&x, &x)), 328_350.0);
            assert_eq!(LAST.get(), Some(isa));
        }
    }

    #[test]
    fn a_forced_path_is_never_above_what_was_asked() {
        assert_eq!(choose(Some("scalar")), Isa::Scalar);
        assert_eq!(choose(None), *available().last().unwrap());
        assert_eq!(choose(Some("nonsense")), choose(None));
        if available().contains(&Isa::Avx2) {
            assert_eq!(choose(Some("avx2")), Isa::Avx2);
        }
    }

    /// Prints the path that `dispatch` took; the test below runs it in processes of its own.
    #[test]
    fn report() {
        dispatch(Dot(&[], &[]));
        println!("path: {:?};", LAST.get().unwrap());
    }

    #[test]
    fn the_environment_forces_the_path() {
        const NAMES: [(&str, Isa); 5] = [
            ("scalar", Isa::Scalar),
            ("neon", Isa::Neon),
            ("avx2", Isa::Avx2),
            ("avx512", Isa::Avx512),
            ("amx", Isa::Amx),
        ];
        for (name, isa) in NAMES {
            if !available().contains(&isa) {
                continue;
            }
            let output = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "kernel::simd::tests::report", "--nocapture"])
                .env("GRADUS_ISA", name)
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains(&format!("path: {isa:?};")), "GRADUS_ISA={name}: {text}");
        }
    }
}
