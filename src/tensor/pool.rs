//! Where tensors get their memory: blocks in size classes, kept for reuse.
//!
//! A training step asks for the same sizes over and over, and a fresh page costs more than the arithmetic done on it,
//! so a freed block goes to a free list of its class instead of back to the system. Classes are four to a power of two (at most
//! 25 % slack). Small blocks live in a list of the thread, without a lock; large ones in one list behind a mutex.
//!
//! The lists never make the process larger than it was at its busiest: what is live plus what is kept stays at or below the highest
//! amount that was ever live (plus [`SLACK`]). What does not fit goes back to the system, largest blocks first.
//!
//! Memory comes zeroed from the system and is handed out again as it was left, so every byte of a block is initialised, but
//! its value means nothing.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::RefCell;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Alignment of every block: a cache line, and a whole AVX-512 register.
pub(crate) const ALIGN: usize = 64;
/// Blocks up to this size are kept by the thread that frees them.
const SMALL: usize = 32 << 10;
/// How many small blocks of one class a thread keeps.
const SMALL_KEEP: usize = 32;
/// Bytes that may be kept beyond the highest amount ever live.
const SLACK: usize = 1 << 20;
const CLASSES: usize = 4 * 64;

/// Class and byte size for a request; `None` when the size does not fit the address range.
fn class_of(bytes: usize) -> Option<(usize, usize)> {
    let bytes = bytes.max(ALIGN);
    if bytes > isize::MAX as usize / 2 {
        return None;
    }
    // The power of two at or below, then the quarter steps above it.
    let p = bytes.ilog2() as usize;
    let step = (1usize << p) / 4;
    let quarter = (bytes - (1 << p)).div_ceil(step);
    let (p, quarter) = if quarter == 4 { (p + 1, 0) } else { (p, quarter) };
    let size = (1usize << p) + quarter * ((1usize << p) / 4);
    Some((4 * p + quarter, size.next_multiple_of(ALIGN)))
}

struct Ptr(NonNull<u8>);
// SAFETY: a free block is plain memory that nothing refers to; whoever takes the pointer out of a list owns it.
unsafe impl Send for Ptr {}

struct Shared {
    lists: [Vec<Ptr>; CLASSES],
}

static SHARED: Mutex<Shared> = Mutex::new(Shared { lists: [const { Vec::new() }; CLASSES] });
static LIVE: AtomicUsize = AtomicUsize::new(0);
static KEPT: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static FRESH: AtomicUsize = AtomicUsize::new(0);

struct Local {
    lists: [Vec<Ptr>; CLASSES],
}

impl Drop for Local {
    fn drop(&mut self) {
        for (class, list) in self.lists.iter_mut().enumerate() {
            for p in list.drain(..) {
                free_to_system(p, size_of_class(class));
            }
        }
    }
}

thread_local! {
    static LOCAL: RefCell<Local> = const { RefCell::new(Local { lists: [const { Vec::new() }; CLASSES] }) };
}

fn size_of_class(class: usize) -> usize {
    let p = class / 4;
    ((1usize << p) + (class % 4) * ((1usize << p) / 4)).next_multiple_of(ALIGN)
}

fn free_to_system(p: Ptr, size: usize) {
    KEPT.fetch_sub(size, Relaxed);
    // SAFETY: the block came from `alloc_zeroed` with this size (the class fixes it) and this alignment, and
    // `p` was its only owner.
    unsafe { dealloc(p.0.as_ptr(), Layout::from_size_align_unchecked(size, ALIGN)) }
}

/// A block of at least `bytes` bytes, all initialised with unspecified values; its class goes back to [`give`].
pub(crate) fn take(bytes: usize) -> Option<(NonNull<u8>, usize)> {
    let (class, size) = class_of(bytes)?;
    let kept = if size <= SMALL {
        LOCAL.try_with(|l| l.borrow_mut().lists[class].pop()).ok().flatten()
    } else {
        SHARED.lock().ok().and_then(|mut s| s.lists[class].pop())
    };
    let p = match kept {
        Some(p) => {
            KEPT.fetch_sub(size, Relaxed);
            p.0
        }
        None => fresh(size)?,
    };
    let live = LIVE.fetch_add(size, Relaxed) + size;
    if live > PEAK.load(Relaxed) {
        PEAK.fetch_max(live, Relaxed);
    }
    Some((p, class))
}

/// New memory from the system, after giving back what is kept beyond the limit.
fn fresh(size: usize) -> Option<NonNull<u8>> {
    if size > SMALL {
        trim(size);
    }
    FRESH.fetch_add(1, Relaxed);
    let layout = Layout::from_size_align(size, ALIGN).ok()?;
    // SAFETY: `layout` has a non-zero size, since classes begin at ALIGN bytes.
    NonNull::new(unsafe { alloc_zeroed(layout) })
}

/// Gives kept large blocks back until `more` new bytes fit under the limit, the largest first.
fn trim(more: usize) {
    let limit = PEAK.load(Relaxed) + SLACK;
    let Ok(mut shared) = SHARED.lock() else { return };
    for class in (0..CLASSES).rev() {
        while LIVE.load(Relaxed) + KEPT.load(Relaxed) + more > limit {
            let Some(p) = shared.lists[class].pop() else { break };
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
    let live = LIVE.fetch_sub(size, Relaxed) - size;
    let kept = KEPT.fetch_add(size, Relaxed) + size;
    let p = Ptr(p);
    if size <= SMALL {
        let mut p = Some(p);
        let _ = LOCAL.try_with(|l| {
            let list = &mut l.borrow_mut().lists[class];
            if list.len() < SMALL_KEEP {
                list.extend(p.take());
            }
        });
        if let Some(p) = p {
            free_to_system(p, size);
        }
    } else if live + kept > PEAK.load(Relaxed) + SLACK {
        free_to_system(p, size);
    } else {
        match SHARED.lock() {
            Ok(mut s) => s.lists[class].push(p),
            Err(_) => free_to_system(p, size),
        }
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

/// Reads the counters of the buffer pool; other threads may change them meanwhile.
///
/// ```
/// use gradus::prelude::*;
/// let x: Tensor = Tensor::zeros([1024, 1024])?;
/// assert!(gradus::memory::stats().live >= 4 << 20);
/// # drop(x);
/// # Ok::<(), Error>(())
/// ```
pub fn stats() -> MemoryStats {
    MemoryStats {
        live: LIVE.load(Relaxed),
        kept: KEPT.load(Relaxed),
        peak: PEAK.load(Relaxed),
        system_allocations: FRESH.load(Relaxed),
    }
}

/// Gives the kept buffers of all threads (the small ones of this thread only) back to the system, and
/// lets the highest amount ever live begin anew.
pub fn clear_cache() {
    if let Ok(mut s) = SHARED.lock() {
        for class in 0..CLASSES {
            for p in s.lists[class].drain(..) {
                free_to_system(p, size_of_class(class));
            }
        }
    }
    let _ = LOCAL.try_with(|l| {
        for (class, list) in l.borrow_mut().lists.iter_mut().enumerate() {
            for p in list.drain(..) {
                free_to_system(p, size_of_class(class));
            }
        }
    });
    PEAK.store(LIVE.load(Relaxed), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_cover_their_requests_with_little_slack() {
        for bytes in (1..5000).chain([1 << 20, (1 << 20) + 1, 3 << 21, 11_075_584]) {
            let (class, size) = class_of(bytes).unwrap();
            assert!(size >= bytes && size % ALIGN == 0);
            assert_eq!(size, size_of_class(class), "{bytes}");
            assert!(bytes < 512 || size <= bytes + bytes / 4 + ALIGN, "{bytes} → {size}");
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
