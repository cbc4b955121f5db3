//! The most bytes that were live at once since somebody began to watch.
//!
//! The pool's own highest amount is never lowered, because the bound of what it keeps follows from it. A profile asks about one step, so there is a
//! second mark. While nobody watches it stands at the largest number, and what an allocation pays for it is one comparison.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::pool::stats;

const NOBODY: usize = usize::MAX;
static MARK: AtomicUsize = AtomicUsize::new(NOBODY);
static WATCHES: Mutex<Vec<Arc<AtomicUsize>>> = Mutex::new(Vec::new());

/// Called by the pool with the bytes that are live after an allocation.
#[inline]
pub(super) fn note(live: usize) {
    if live > MARK.load(Relaxed) {
        MARK.fetch_max(live, Relaxed);
    }
}

/// Somebody who watches. Several may at the same time, each since a moment of its own.
pub(crate) struct PeakWatch(Arc<AtomicUsize>);

impl PeakWatch {
    pub(crate) fn start() -> Self {
        let mut watches = collect();
        let own = Arc::new(AtomicUsize::new(stats().live));
        watches.push(own.clone());
        PeakWatch(own)
    }

    /// The most since the last call, or since the start.
    pub(crate) fn restart(&mut self) -> usize {
        let _watches = collect();
        self.0.swap(stats().live, Relaxed)
    }
}

impl Drop for PeakWatch {
    fn drop(&mut self) {
        let mut watches = collect();
        watches.retain(|w| !Arc::ptr_eq(w, &self.0));
        if watches.is_empty() {
            MARK.store(NOBODY, Relaxed);
        }
    }
}

/// Tells all who watch what the mark says, and lets it begin anew.
fn collect() -> MutexGuard<'static, Vec<Arc<AtomicUsize>>> {
    // A panic while the list was locked cannot have left it half changed.
    let watches = WATCHES.lock().unwrap_or_else(PoisonError::into_inner);
    let mark = MARK.swap(stats().live, Relaxed);
    if mark != NOBODY {
        watches.iter().for_each(|w| _ = w.fetch_max(mark, Relaxed));
    }
    watches
}
