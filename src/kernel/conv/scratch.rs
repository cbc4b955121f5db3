//! Buffers that each thread keeps, so that nothing large is allocated in steady state.

use std::cell::Cell;
use std::thread::LocalKey;

use crate::kernel::gemm::pack::Scratch;

/// A place for one buffer per thread.
pub(super) type Place = LocalKey<Cell<Scratch>>;

thread_local! {
    /// The packed weight of a call.
    pub(super) static WEIGHT: Cell<Scratch> = Cell::default();
    /// An image as shifted planes.
    pub(super) static PLANES: Cell<Scratch> = Cell::default();
    /// A few padded rows of an image.
    pub(super) static LINE: Cell<Scratch> = Cell::default();
    /// Panels copied together from planes.
    pub(super) static PANELS: Cell<Scratch> = Cell::default();
    /// Results on their way to their place.
    pub(super) static RESULT: Cell<Scratch> = Cell::default();
    /// One phase of an image.
    pub(super) static PHASES: Cell<Scratch> = Cell::default();
    /// Both factors of products whose sums run over tiles.
    pub(super) static FACTORS: Cell<Scratch> = Cell::default();
    /// Partial sums of a call.
    pub(super) static SUMS: Cell<Scratch> = Cell::default();
}

/// Runs `f` with this thread's buffer. (It is taken out of its place meanwhile, so that even a nested use is sound.)
pub(super) fn with<R>(place: &'static Place, f: impl FnOnce(&mut Scratch) -> R) -> R {
    let mut scratch = place.take();
    let result = f(&mut scratch);
    place.set(scratch);
    result
}
