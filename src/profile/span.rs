//! What operations, layers and the tape call: nothing happens here unless a profile runs, and finding that out is one relaxed load.
//!
//! Each thread has a stack of the profiles that see it; the last one is told. An operation that others call inside of itself is one
//! operation: what is computed while a [`Span`] is open belongs to it.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::report::{Cost, Phase};
use super::table::{Key, Table};
use crate::element::Element;
use crate::tensor::Tensor;

/// How many profiles run, on all threads.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Whether any profile runs.
#[inline(always)]
pub(crate) fn on() -> bool {
    RUNNING.load(Relaxed) != 0
}

/// A table that a profile and the threads it sees write to.
#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Table>>);

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic while it was locked can have left out one operation at most.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A profile as a thread that it sees knows it.
struct Seen {
    table: Shared,
    /// Whether this is the thread that began the profile.
    own: bool,
    phase: Phase,
    layer: Option<Arc<str>>,
    /// Whether a span is open.
    busy: bool,
}

thread_local! {
    static SEEN: RefCell<Vec<Seen>> = const { RefCell::new(Vec::new()) };
}

/// The profile of this thread, if there is one.
fn here<R>(f: impl FnOnce(&mut Seen) -> R) -> Option<R> {
    SEEN.try_with(|s| s.borrow_mut().last_mut().map(f)).ok().flatten()
}

/// From now on, this thread's operations go to the table.
pub(super) fn join(table: &Shared, own: bool) {
    RUNNING.fetch_add(1, Relaxed);
    let _ = SEEN.try_with(|s| {
        let mut s = s.borrow_mut();
        // A handle may come back to the thread that it is from.
        let own = own || s.iter().any(|seen| seen.own && Arc::ptr_eq(&seen.table.0, &table.0));
        s.push(Seen { table: table.clone(), own, phase: Phase::Forward, layer: None, busy: false });
    });
}

/// The end of [`join`]. What an inner profile saw is part of what the outer one sees.
pub(super) fn leave(table: &Shared, own: bool) {
    RUNNING.fetch_sub(1, Relaxed);
    let outer = SEEN.try_with(|s| {
        let mut s = s.borrow_mut();
        let at = s.iter().rposition(|seen| Arc::ptr_eq(&seen.table.0, &table.0))?;
        s.remove(at);
        at.checked_sub(1).and_then(|at| s.get(at)).map(|outer| outer.table.clone())
    });
    // The same table twice is a handle that was used on the profile's own thread.
    if let Some(outer) =
        outer.ok().flatten().filter(|outer| own && !Arc::ptr_eq(&outer.0, &table.0))
    {
        let inner = table.lock();
        outer.lock().extend(&inner);
    }
}

/// An operation that runs.
pub(crate) struct Span {
    start: Instant,
    read: u64,
}

impl Span {
    /// Begins an operation; `None` if nobody wants to know of it.
    #[inline(always)]
    pub(crate) fn open() -> Option<Span> {
        if on() { Span::begin() } else { None }
    }

    #[cold]
    #[inline(never)]
    fn begin() -> Option<Span> {
        let free = here(|seen| !std::mem::replace(&mut seen.busy, true))?;
        free.then(|| Span { start: Instant::now(), read: 0 })
    }

    /// [`open`](Self::open) for an operation that may write its result over these.
    #[inline(always)]
    pub(crate) fn reading<A: Element, const N: usize>(x: [&Tensor<A>; N]) -> Option<Span> {
        if !on() {
            return None;
        }
        let mut span = Span::begin()?;
        span.read = x.iter().map(|x| bytes(x)).sum();
        Some(span)
    }

    /// The end of an operation that was told what it reads.
    #[inline(always)]
    pub(crate) fn wrote<O: Element>(span: Option<Span>, name: &'static str, y: &Tensor<O>) {
        if let Some(span) = span {
            let read = span.read;
            span.close(name, || [0, read + bytes(y)]);
        }
    }

    /// The end of an operation that moves data and computes little.
    #[inline(always)]
    pub(crate) fn moved<A: Element, O: Element>(
        span: Option<Span>,
        name: &'static str,
        x: &[&Tensor<A>],
        y: &Tensor<O>,
    ) {
        if let Some(span) = span {
            span.close(name, || [0, traffic(x, y)]);
        }
    }

    /// The end of an operation, and how many floating-point operations and bytes it took.
    #[cold]
    #[inline(never)]
    pub(crate) fn close(self, name: &'static str, work: impl FnOnce() -> [u64; 2]) {
        let time = self.start.elapsed();
        let [flops, bytes] = work();
        let cost = Cost { calls: 1, time, flops, bytes };
        here(|seen| {
            let key = Key { name, phase: seen.phase, layer: seen.layer.clone() };
            seen.table.lock().add(key, cost, seen.own);
        });
    }
}

/// After an operation that failed as well.
impl Drop for Span {
    fn drop(&mut self) {
        here(|seen| seen.busy = false);
    }
}

/// What reading or writing a tensor once moves; elements along an expanded axis are one element.
pub(crate) fn bytes<T: Element>(x: &Tensor<T>) -> u64 {
    let axes = x.shape().iter().zip(x.strides());
    let elements: usize =
        axes.map(|(&n, &stride)| if stride == 0 { n.min(1) } else { n }).product();
    (elements * size_of::<T>()) as u64
}

/// What an operation that changes none of its inputs must at least read and write: nothing where it only gives another view.
pub(crate) fn traffic<A: Element, O: Element>(x: &[&Tensor<A>], y: &Tensor<O>) -> u64 {
    let at = y.buffer().as_ptr().cast::<u8>();
    if x.iter().any(|x| std::ptr::eq(x.buffer().as_ptr().cast(), at)) {
        return 0;
    }
    x.iter().map(|x| bytes(x)).sum::<u64>() + bytes(y)
}

/// Until it is dropped, operations count for another phase or layer.
#[must_use]
pub(crate) struct Scope(Option<(Phase, Option<Arc<str>>)>);

/// What is computed next belongs to this phase.
#[inline(always)]
pub(crate) fn phase(phase: Phase) -> Scope {
    scope(|seen| seen.phase = phase)
}

/// What is computed next belongs to this layer.
#[inline(always)]
pub(crate) fn enter(layer: impl FnOnce() -> Arc<str>) -> Scope {
    scope(|seen| seen.layer = Some(layer()))
}

#[inline(always)]
fn scope(change: impl FnOnce(&mut Seen)) -> Scope {
    if on() { changed(change) } else { Scope(None) }
}

#[cold]
#[inline(never)]
fn changed(change: impl FnOnce(&mut Seen)) -> Scope {
    Scope(here(|seen| {
        let before = (seen.phase, seen.layer.clone());
        change(seen);
        before
    }))
}

impl Drop for Scope {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(before) = self.0.take() {
            restore(before);
        }
    }
}

#[cold]
#[inline(never)]
fn restore((phase, layer): (Phase, Option<Arc<str>>)) {
    here(|seen| (seen.phase, seen.layer) = (phase, layer));
}

/// The layer that computes now.
#[cold]
pub(crate) fn layer() -> Option<Arc<str>> {
    here(|seen| seen.layer.clone()).flatten()
}

/// Makes this the layer that computes now, inside a [`Scope`].
#[cold]
pub(crate) fn set_layer(layer: Option<Arc<str>>) {
    here(|seen| seen.layer = layer);
}
