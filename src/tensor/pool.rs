//! Where tensors get their memory: blocks in size classes, kept for reuse.
//!
//! A training step asks for the same sizes over and over, and a fresh page costs more than the arithmetic done on it,
//! so a freed block goes to a free list of its class instead of back to the system. Small classes are four to a power of two, large
//! ones sixteen (at most 6 % slack). Small blocks live in a list of the thread, without a lock; large ones in one list behind a mutex.
//!
//! What is kept is bounded: live and kept bytes together stay at or below the highest amount that was ever live, plus
//! [`SLACK`], plus what was learned. Learned is this: a step may need classes A and B one after the other, so that keeping both takes more
//! than was ever live at once. When a class is asked of the system again after a block of it was given back for the bound's sake, the bound
//! grows by that block, up to twice the highest amount. So a program that repeats itself soon asks the system for nothing,
//! and one whose sizes wander does not pile up memory. What does not fit goes back to the system, largest blocks first.
//!
//! Memory is zeroed when it comes from the system and is handed out again as it was left, so every byte of a block is initialised, but
//! its value means nothing.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc};
use std::cell::RefCell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::huge;

/// Alignment of every block: a cache line, and a whole AVX-512 register.
pub(crate) const ALIGN: usize = 64;
/// Blocks up to this size are kept by the thread that frees them.
const SMALL: usize = 32 << 10;
/// How many small blocks of one class a thread keeps.
const SMALL_KEEP: usize = 32;
/// Bytes that may be kept beyond the highest amount ever live.
const SLACK: usize = 1 << 20;
/// How far a thread's own account of small blocks may drift from the common one: an atomic operation costs as much as the rest of handing
/// out such a block.
const LOT: isize = 64 << 10;
/// Classes to a power of two, for small and for large blocks, as powers of two themselves.
const LOG_STEPS: [u32; 2] = [2, 4];
const SMALL_CLASSES: usize = 16 << LOG_STEPS[0];
const CLASSES: usize = SMALL_CLASSES + (64 << LOG_STEPS[1]);

/// Class for a request, so that [`size_of_class`] is at least `bytes`; `None` when the size does not fit the address range.
fn class_of(bytes: usize) -> Option<usize> {
    let bytes = bytes.max(ALIGN);
    if bytes > isize::MAX as usize / 2 {
        return None;
    }
    let (first, log) =
        if bytes <= SMALL { (0, LOG_STEPS[0]) } else { (SMALL_CLASSES, LOG_STEPS[1]) };
    // The power of two at or below (at least ALIGN), then the steps above it; a full set of steps is the next power.
    let p = bytes.ilog2();
    let step = (bytes - (1 << p) + (1 << (p - log)) - 1) >> (p - log);
    Some(first + ((p as usize) << log) + step)
}

/// The bytes of a block of a class.
fn size_of_class(class: usize) -> usize {
    let (first, log) =
        if class < SMALL_CLASSES { (0, LOG_STEPS[0]) } else { (SMALL_CLASSES, LOG_STEPS[1]) };
    let (p, step) = ((class - first) >> log, (class - first) & ((1 << log) - 1));
    ((1usize << p) + ((step << p) >> log)).next_multiple_of(ALIGN)
}

struct Ptr(NonNull<u8>);
// SAFETY: a free block is plain memory that nothing refers to; whoever takes the pointer out of a list owns it.
unsafe impl Send for Ptr {}

struct Shared {
    lists: [Vec<Ptr>; CLASSES],
    /// How many blocks of a class were given back to keep the bound, and not missed since.
    returned: [u32; CLASSES],
    /// What the bound has grown by.
    learned: usize,
}

impl Shared {
    fn bound(&self) -> usize {
        PEAK.load(Relaxed) + SLACK + self.learned
    }
}

/// Bytes in blocks that are alive and in blocks that are kept. Threads add to both in lots, so either may be below zero for a while.
struct Account {
    live: AtomicIsize,
    kept: AtomicIsize,
}

impl Account {
    fn add(&self, live: isize, kept: isize) {
        if kept != 0 {
            self.kept.fetch_add(kept, Relaxed);
        }
        let live = (self.live.fetch_add(live, Relaxed) + live).max(0) as usize;
        if live > PEAK.load(Relaxed) {
            PEAK.fetch_max(live, Relaxed);
        }
        super::peak::note(live);
    }

    fn live(&self) -> usize {
        self.live.load(Relaxed).max(0) as usize
    }

    fn kept(&self) -> usize {
        self.kept.load(Relaxed).max(0) as usize
    }
}

static SHARED: Mutex<Shared> = Mutex::new(Shared {
    lists: [const { Vec::new() }; CLASSES],
    returned: [0; CLASSES],
    learned: 0,
});
static ACCOUNT: Account = Account { live: AtomicIsize::new(0), kept: AtomicIsize::new(0) };
static PEAK: AtomicUsize = AtomicUsize::new(0);
static FRESH: AtomicUsize = AtomicUsize::new(0);

struct Local {
    lists: [Vec<Ptr>; SMALL_CLASSES + 1],
    /// What the common account does not know yet.
    live: isize,
    kept: isize,
}

impl Local {
    fn add(&mut self, live: isize, kept: isize) {
        self.live += live;
        self.kept += kept;
        if self.live.abs() > LOT || self.kept.abs() > LOT {
            self.settle();
        }
    }

    /// A kept block of a small class.
    fn take(&mut self, class: usize) -> Option<NonNull<u8>> {
        let p = self.lists[class].pop()?;
        let bytes = size_of_class(class) as isize;
        self.add(bytes, -bytes);
        Some(p.0)
    }

    /// Keeps a block of a small class, if there is room.
    fn keep(&mut self, class: usize, p: NonNull<u8>) -> bool {
        let list = &mut self.lists[class];
        if list.len() == SMALL_KEEP {
            return false;
        }
        list.push(Ptr(p));
        let bytes = size_of_class(class) as isize;
        self.add(-bytes, bytes);
        true
    }

    fn settle(&mut self) {
        ACCOUNT.add(std::mem::take(&mut self.live), std::mem::take(&mut self.kept));
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.settle();
        for (class, list) in self.lists.iter_mut().enumerate() {
            for p in list.drain(..) {
                free_to_system(p, size_of_class(class));
            }
        }
    }
}

thread_local! {
    static LOCAL: RefCell<Local> =
        const { RefCell::new(Local { lists: [const { Vec::new() }; SMALL_CLASSES + 1], live: 0, kept: 0 }) };
}

/// Gives a kept block back to the system.
fn free_to_system(p: Ptr, size: usize) {
    ACCOUNT.add(0, -(size as isize));
    let Some(layout) = layout(size) else { unreachable!("the block was allocated") };
    // SAFETY: the block came from `alloc` with this layout (the class fixes it), and `p` was its only owner.
    unsafe { dealloc(p.0.as_ptr(), layout) }
}

/// A block of at least `bytes` bytes, all initialised with unspecified values; its class goes back to [`give`].
pub(crate) fn take(bytes: usize) -> Option<(NonNull<u8>, usize)> {
    let class = class_of(bytes)?;
    let size = size_of_class(class);
    let kept = if size <= SMALL {
        if let Ok(Some(p)) = LOCAL.try_with(|l| l.borrow_mut().take(class)) {
            return Some((p, class));
        }
        None
    } else {
        shared().lists[class].pop()
    };
    let bytes = size as isize;
    let (p, from_kept) = match kept {
        Some(p) => (p.0, -bytes),
        None => (fresh(class, size)?, 0),
    };
    ACCOUNT.add(bytes, from_kept);
    Some((p, class))
}

/// The lists of large blocks. A panic while they were locked cannot have left them half changed: each change is one push or pop.
fn shared() -> MutexGuard<'static, Shared> {
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// New memory from the system, after giving back what is kept beyond the bound.
fn fresh(class: usize, size: usize) -> Option<NonNull<u8>> {
    if size > SMALL {
        let mut shared = shared();
        if shared.returned[class] > 0 {
            shared.returned[class] -= 1;
            shared.learned = (shared.learned + size).min(PEAK.load(Relaxed));
        }
        trim(&mut shared, size);
    }
    FRESH.fetch_add(1, Relaxed);
    // SAFETY: the layout has a non-zero size, since classes begin at ALIGN bytes.
    let block = NonNull::new(unsafe { alloc(layout(size)?) })?;
    huge::ask_for(block, size);
    // SAFETY: `alloc` gave `size` bytes, which nobody else knows of.
    unsafe { block.write_bytes(0, size) };
    Some(block)
}

/// How a block of a class's size is allocated.
fn layout(size: usize) -> Option<Layout> {
    Layout::from_size_align(size, huge::alignment(size, ALIGN)).ok()
}

/// Gives kept large blocks back until `more` new bytes fit under the bound, the largest first.
fn trim(shared: &mut Shared, more: usize) {
    // Live bytes that grow past the highest amount so far raise the bound themselves.
    let bound = shared.bound().max(ACCOUNT.live() + more + SLACK);
    for class in (SMALL_CLASSES..CLASSES).rev() {
        while ACCOUNT.live() + ACCOUNT.kept() + more > bound {
            let Some(p) = shared.lists[class].pop() else { break };
            shared.returned[class] += 1;
            free_to_system(p, size_of_class(class));
        }
    }
}

/// Takes a block back.
///
/// # Safety
/// `p` and `class` come from one call of [`take`], and nothing refers to the block any more.
pub(crate) unsafe fn give(p: NonNull<u8>, class: usize) {
    let size = size_of_class(class);
    if size <= SMALL && LOCAL.try_with(|l| l.borrow_mut().keep(class, p)) == Ok(true) {
        return;
    }
    let (p, bytes) = (Ptr(p), size as isize);
    ACCOUNT.add(-bytes, bytes);
    if size <= SMALL {
        return free_to_system(p, size);
    }
    let mut shared = shared();
    if ACCOUNT.live() + ACCOUNT.kept() > shared.bound() {
        shared.returned[class] += 1;
        drop(shared);
        free_to_system(p, size);
    } else {
        shared.lists[class].push(p);
    }
}

/// How much memory tensors use, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// In buffers of tensors that are alive.
    pub live: usize,
    /// In freed buffers that are kept for reuse.
    pub kept: usize,
    /// The most that was ever live at once.
    pub peak: usize,
    /// How many times memory was asked of the system, since the program began.
    pub system_allocations: usize,
}

/// Reads the counters of the buffer pool. Other threads may change them meanwhile, and each tells of its buffers below 32 KiB in lots of
/// 64 KiB.
///
/// ```
/// use gradus::prelude::*;
/// let x: Tensor = Tensor::zeros([1024, 1024])?;
/// assert!(gradus::memory::stats().live >= 4 << 20);
/// # drop(x);
/// # Ok::<(), Error>(())
/// ```
pub fn stats() -> MemoryStats {
    let _ = LOCAL.try_with(|l| l.borrow_mut().settle());
    MemoryStats {
        live: ACCOUNT.live(),
        kept: ACCOUNT.kept(),
        peak: PEAK.load(Relaxed),
        system_allocations: FRESH.load(Relaxed),
    }
}

/// Gives the kept buffers of all threads (the small ones of this thread only) back to the system, and
/// lets the highest amount ever live begin anew.
pub fn clear_cache() {
    let mut shared = shared();
    for class in 0..CLASSES {
        for p in shared.lists[class].drain(..) {
            free_to_system(p, size_of_class(class));
        }
        shared.returned[class] = 0;
    }
    shared.learned = 0;
    drop(shared);
    let _ = LOCAL.try_with(|l| {
        let mut l = l.borrow_mut();
        l.settle();
        for (class, list) in l.lists.iter_mut().enumerate() {
            for p in list.drain(..) {
                free_to_system(p, size_of_class(class));
            }
        }
    });
    PEAK.store(ACCOUNT.live(), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_cover_their_requests_with_little_slack() {
        for bytes in (1..70_000).step_by(7).chain([
            SMALL,
            SMALL + 1,
            1 << 20,
            (1 << 20) + 1,
            3 << 21,
            11_075_584,
        ]) {
            let size = size_of_class(class_of(bytes).unwrap());
            assert!(size >= bytes && size.is_multiple_of(ALIGN));
            let slack = if bytes <= SMALL { bytes / 4 } else { bytes / 16 };
            assert!(size <= bytes + slack + ALIGN, "{bytes} → {size}");
        }
        assert!(class_of(usize::MAX).is_none());
    }

    #[test]
    fn a_freed_block_is_handed_out_again() {
        let (p, class) = take(100 << 10).unwrap();
        // SAFETY: `p` came from `take` with this class and is not used again.
        unsafe { give(p, class) };
        let before = stats().system_allocations;
        let (q, class) = take(100 << 10).unwrap();
        assert!(q == p || stats().system_allocations > before);
        // SAFETY: as above.
        unsafe { give(q, class) };
    }
}
