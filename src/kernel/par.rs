//! Threads: one parallel loop, whose hand-over is cheap enough for the small operations of a training step.
//!
//! [`for_each`] splits nothing by itself: the caller says how many parts there are, from the data's shape and never from the
//! number of threads, so that results have the same bits whatever that number is.
//!
//! How a region runs:
//!
//! ```text
//! caller:   take the team -> publish the job, open -> claim parts until none is left -> close -> wait for helpers inside
//! helper:   wait (bounded) for an open job -> enter -> claim parts until none is left -> leave -> wait again ...
//! ```
//!
//! - The caller is one of the workers. It waits only for helpers that are inside, never for one that has not come: a helper
//!   that the operating system is slow to wake costs nothing but its help.
//! - A helper that has finished watches for the next region for [`SPIN`], then leaves; its thread then sleeps in rayon,
//!   and the next region wakes it again. Waking takes tens of microseconds, watching less than one: within a
//!   training step, regions follow each other quickly and helpers stay awake; between steps they cost nothing.
//! - Regions never nest, and a second user thread that comes while the team is busy runs its loop alone.
#![allow(unsafe_code)]

use super::claims::{Claims, Line};
use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::hint::spin_loop;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, OnceLock, TryLockError};
use std::time::{Duration, Instant};

/// How long a helper watches for the next region before it goes to sleep.
const SPIN: Duration = Duration::from_micros(100);
/// Work below this many nanoseconds is not worth handing over to a helper that is awake.
const HANDOVER_NS: f64 = 3_000.0;
/// Work below this many nanoseconds is not worth waking a helper that sleeps.
const WAKE_NS: f64 = 15_000.0;
/// Parts shorter than this are claimed several at a time: a claim costs a cache line's journey between cores.
const CLAIM_NS: f64 = 500.0;

/// Threads asked for by [`set_num_threads`]; 0 stands for the default.
static ASKED: AtomicUsize = AtomicUsize::new(0);
/// The helpers and the place where they meet the caller. Whoever holds the lock runs the region.
static TEAM: Mutex<Option<Team>> = Mutex::new(None);

thread_local! {
    /// Whether this thread is running a part of a region.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// The number of threads that computations use: what [`set_num_threads`] asked for, else the environment variable
/// `GRADUS_NUM_THREADS`, else the number of processors.
pub fn num_threads() -> usize {
    match ASKED.load(Relaxed) {
        0 => default_threads(),
        n => n,
    }
}

/// Sets the number of threads for the whole process; 0 restores the default. Results do not depend on it.
pub fn set_num_threads(n: usize) {
    ASKED.store(n.min(MAX_THREADS), Relaxed);
}

/// A bound on nonsense; also what fits the counter of helpers in [`Shared::state`].
const MAX_THREADS: usize = 1024;

fn default_threads() -> usize {
    static DEFAULT: OnceLock<usize> = OnceLock::new();
    *DEFAULT.get_or_init(|| {
        let asked = std::env::var("GRADUS_NUM_THREADS").ok().and_then(|s| s.trim().parse().ok());
        asked.filter(|&n| n > 0).unwrap_or_else(processors).min(MAX_THREADS)
    })
}

fn processors() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(|| std::thread::available_parallelism().map_or(1, |n| n.get()))
}

/// How many threads a loop that starts here can have: one inside of another loop, where a finer cut would only cost.
pub(crate) fn threads_here() -> usize {
    if INSIDE.get() { 1 } else { num_threads() }
}

/// Runs `f(0)`, `f(1)`, … `f(parts - 1)`, each exactly once, on up to [`num_threads`] threads in no particular order.
///
/// `ns_per_part` estimates how long a part takes; what is too short to be worth sharing runs right here, in order, and so
/// does a loop inside another one. A panic in a part is passed on to the caller, after the parts in progress have ended.
pub(crate) fn for_each(parts: usize, ns_per_part: f64, f: impl Fn(usize) + Sync) {
    let total = ns_per_part * parts as f64;
    if parts > 1 && parts <= Claims::MOST && total >= HANDOVER_NS && !INSIDE.get() {
        let threads = num_threads();
        if threads > 1 {
            let mut team = match TEAM.try_lock() {
                Ok(team) => Some(team),
                Err(TryLockError::Poisoned(team)) => Some(team.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            };
            if let Some(team) = team.as_mut().and_then(|slot| Team::with_threads(slot, threads))
                && team.enlist(parts, total)
            {
                return team.run(parts, ns_per_part, &f);
            }
        }
    }
    (0..parts).for_each(f);
}

/// Runs `f` over `0..len` cut into ranges of `grain` (the last may be shorter).
pub(crate) fn for_each_range(
    len: usize,
    grain: usize,
    ns_per_item: f64,
    f: impl Fn(Range<usize>) + Sync,
) {
    let grain = grain.max(1);
    let ns_per_part = ns_per_item * grain.min(len) as f64;
    for_each(len.div_ceil(grain), ns_per_part, |part| {
        let start = part * grain;
        f(start..len.min(start.saturating_add(grain)));
    });
}

/// Runs `f(i, chunk)` over the chunks of `data`, each `chunk_len` long (the last may be shorter).
pub(crate) fn for_each_chunk_mut<T: Send>(
    data: &mut [T],
    chunk_len: usize,
    ns_per_item: f64,
    f: impl Fn(usize, &mut [T]) + Sync,
) {
    let base = SyncPtr(data.as_mut_ptr());
    let chunk_len = chunk_len.max(1);
    for_each_range(data.len(), chunk_len, ns_per_item, |range| {
        // SAFETY: the ranges lie within `data` and are disjoint, each is visited once, and `data` is borrowed mutably
        // until `for_each_range` has returned, so nothing else refers to these elements.
        let chunk =
            unsafe { std::slice::from_raw_parts_mut(base.get().add(range.start), range.len()) };
        f(range.start / chunk_len, chunk);
    });
}

/// Runs `f(i, a, b)` over the chunks of two arrays in step: chunk `i` of `a_len` elements with chunk `i` of `b_len`. There are as many
/// parts as `a` has chunks; `b` must have as many (or chunks of length 0).
pub(crate) fn for_each_two_chunks_mut<A: Send, B: Send>(
    (a, a_len): (&mut [A], usize),
    (b, b_len): (&mut [B], usize),
    ns_per_part: f64,
    f: impl Fn(usize, &mut [A], &mut [B]) + Sync,
) {
    let a_len = a_len.max(1);
    let parts = a.len().div_ceil(a_len);
    let range = |i: usize, step: usize, len: usize| (i * step).min(len)..((i + 1) * step).min(len);
    let (base_a, base_b, len_a, len_b) =
        (SyncPtr(a.as_mut_ptr()), SyncPtr(b.as_mut_ptr()), a.len(), b.len());
    for_each(parts, ns_per_part, |i| {
        let (ra, rb) = (range(i, a_len, len_a), range(i, b_len, len_b));
        // SAFETY: `range` cuts each array into disjoint ranges within it, one per part, each part runs once, and both arrays are
        // borrowed mutably until `for_each` has returned, so nothing else refers to these elements.
        let (a, b) = unsafe {
            (
                std::slice::from_raw_parts_mut(base_a.get().add(ra.start), ra.len()),
                std::slice::from_raw_parts_mut(base_b.get().add(rb.start), rb.len()),
            )
        };
        f(i, a, b);
    });
}

/// A pointer that parts on several threads may share; what they do with it is up to their own safety arguments.
#[derive(Clone, Copy)]
pub(crate) struct SyncPtr<T>(pub *mut T);

impl<T> SyncPtr<T> {
    /// The pointer. (A method, so that a closure captures the wrapper and not the bare field.)
    #[inline(always)]
    pub(crate) fn get(&self) -> *mut T {
        self.0
    }
}

// SAFETY: sending the address of a `T: Send` is harmless; each use is `unsafe` and carries its own argument.
unsafe impl<T: Send> Send for SyncPtr<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SyncPtr<T> {}

/// The threads that help, and where they meet the caller.
struct Team {
    /// Including the caller, who is no thread of the pool.
    threads: usize,
    pool: rayon::ThreadPool,
    shared: Arc<Shared>,
}

impl Team {
    /// The team in `slot`, made anew when the number of threads has changed; `None` if the system gives no threads.
    fn with_threads(slot: &mut Option<Team>, threads: usize) -> Option<&mut Team> {
        if slot.as_ref().is_none_or(|team| team.threads != threads) {
            // Helpers of the old team hold their own reference to the old meeting place, find it closed, and end.
            *slot = rayon::ThreadPoolBuilder::new()
                .num_threads(threads - 1)
                .thread_name(|i| format!("gradus-{i}"))
                .build()
                .ok()
                .map(|pool| Team { threads, pool, shared: Arc::new(Shared::new(threads)) });
        }
        slot.as_mut()
    }

    /// Whether help is to be had that is worth its price. Wakes helpers if so.
    fn enlist(&self, parts: usize, total_ns: f64) -> bool {
        let wanted = (self.threads - 1).min(parts - 1);
        let awake = self.shared.awake.load(SeqCst);
        if awake < wanted && total_ns >= WAKE_NS {
            for _ in awake..wanted {
                let shared = self.shared.clone();
                shared.awake.fetch_add(1, SeqCst);
                self.pool.spawn(move || shared.help());
            }
            return true;
        }
        awake > 0
    }

    /// Runs a region on this thread and whatever helpers come.
    fn run<F: Fn(usize) + Sync>(&self, parts: usize, ns_per_part: f64, f: &F) {
        let share = (parts / (4 * self.threads)).max(1);
        let claim = ((CLAIM_NS / ns_per_part) as usize).clamp(1, share);
        let job = Job { call: call::<F>, f: (f as *const F).cast(), parts, claim };
        let shared = &*self.shared;
        shared.open(job);
        shared.work(&job, 0);
        shared.close();
        let panic = shared.panic.lock().unwrap_or_else(|e| e.into_inner()).take();
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }
}

/// One region's loop, its type erased.
#[derive(Clone, Copy)]
struct Job {
    call: unsafe fn(*const (), usize),
    f: *const (),
    parts: usize,
    /// How many parts to claim at a time.
    claim: usize,
}

/// # Safety
/// `f` must point to an `F` that outlives the call.
unsafe fn call<F: Fn(usize) + Sync>(f: *const (), part: usize) {
    // SAFETY: by this function's contract.
    unsafe { (*f.cast::<F>())(part) }
}

/// Where the caller and the helpers meet. The hot words have a cache line each.
struct Shared {
    /// Number of the region (from bit [`EPOCH`] up), whether it is open ([`OPEN`]), helpers inside (the low bits).
    state: Line<AtomicU64>,
    /// The parts that nobody has claimed.
    claims: Claims,
    /// Helpers that are on the way, working or watching.
    awake: Line<AtomicUsize>,
    job: UnsafeCell<Job>,
    /// The first panic of a region.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// More threads than processors: whoever waits must make room for whom it waits for.
    crowded: bool,
}

const OPEN: u64 = 1 << 16;
const INSIDE_MASK: u64 = OPEN - 1;
const EPOCH: u32 = 17;

// SAFETY: `job` is written only by the caller that holds the team's lock, while the state is closed with nobody inside
// (`open`), and read by helpers only between entering and leaving (`help`), which `close` waits for. The job's pointer
// is to a closure that is `Sync`. Everything else is atomic or locked.
unsafe impl Sync for Shared {}
// SAFETY: as above; nothing in it belongs to a particular thread.
unsafe impl Send for Shared {}

impl Shared {
    fn new(threads: usize) -> Self {
        unsafe fn nothing(_: *const (), _: usize) {}
        Self {
            state: Line(AtomicU64::new(0)),
            claims: Claims::new(threads),
            awake: Line(AtomicUsize::new(0)),
            job: UnsafeCell::new(Job { call: nothing, f: std::ptr::null(), parts: 0, claim: 1 }),
            panic: Mutex::new(None),
            crowded: threads > processors(),
        }
    }

    /// Publishes a job. The caller holds the team's lock, and has closed the region before.
    fn open(&self, job: Job) {
        let state = self.state.load(Relaxed);
        debug_assert_eq!(state & (OPEN | INSIDE_MASK), 0, "the last region is still open");
        // SAFETY: the state is closed and nobody is inside, and only the holder of the team's lock, which is this
        // thread, can open it: no one else reads or writes the job now.
        unsafe { *self.job.get() = job };
        self.claims.offer(job.parts);
        // Release: who sees the region open sees its job and its parts.
        self.state.store((((state >> EPOCH) + 1) << EPOCH) | OPEN, SeqCst);
    }

    /// Ends the region: from here nobody enters, and when this returns nobody is inside.
    ///
    /// That is why no helper touches the closure after `for_each` has returned: it reads the job only after it has added
    /// itself to the state by a compare-and-swap that requires the region to be open, and the bits it added leave the state
    /// only when it is done with the job.
    fn close(&self) {
        let mut state = self.state.fetch_and(!OPEN, AcqRel);
        let mut spins = 0u32;
        while state & INSIDE_MASK != 0 {
            pause(&mut spins, self.crowded);
            // Acquire: what the helpers wrote is visible to who called `for_each`.
            state = self.state.load(Acquire);
        }
    }

    /// Claims and runs parts until none is left, as thread number `worker`. Called by the caller, and by helpers between entering and leaving.
    fn work(&self, job: &Job, worker: usize) {
        INSIDE.set(true);
        let result = catch_unwind(AssertUnwindSafe(|| {
            while let Some(parts) = self.claims.claim(worker, job.claim) {
                for part in parts {
                    // SAFETY: `f` is the closure borrowed by the `Team::run` that opened this region, which does not
                    // return before `close`, and `close` not while a helper is inside.
                    unsafe { (job.call)(job.f, part) };
                }
            }
        }));
        INSIDE.set(false);
        if let Err(payload) = result {
            // Parts that nobody has begun are given up.
            self.claims.withdraw();
            self.panic.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(payload);
        }
    }

    /// The life of a helper from waking to sleeping.
    fn help(&self) {
        // The caller is the first.
        let worker = 1 + rayon::current_thread_index().unwrap_or(0);
        let mut seen = u64::MAX;
        loop {
            while let Some(epoch) = self.watch(seen) {
                if self.enter(epoch) {
                    // SAFETY: this helper is inside, so the job stays published until it leaves.
                    let job = unsafe { *self.job.get() };
                    self.work(&job, worker);
                    // Release: pairs with the load in `close`.
                    self.state.fetch_sub(1, Release);
                }
                seen = epoch;
            }
            self.awake.fetch_sub(1, SeqCst);
            // A caller that opened before that still counted on this helper: look once more.
            let state = self.state.load(SeqCst);
            if state & OPEN == 0 || state >> EPOCH == seen {
                return;
            }
            self.awake.fetch_add(1, SeqCst);
        }
    }

    /// Waits for an open region other than `seen` and returns its number, or `None` after [`SPIN`].
    fn watch(&self, seen: u64) -> Option<u64> {
        let mut spins = 0u32;
        let mut deadline = None;
        loop {
            let state = self.state.load(Relaxed);
            if state & OPEN != 0 && state >> EPOCH != seen {
                return Some(state >> EPOCH);
            }
            pause(&mut spins, self.crowded);
            if spins.is_multiple_of(16) || self.crowded {
                let now = Instant::now();
                if now >= *deadline.get_or_insert_with(|| now + SPIN) {
                    return None;
                }
            }
        }
    }

    /// Enters region `epoch` if it is still open. From then on it cannot end before this helper leaves.
    fn enter(&self, epoch: u64) -> bool {
        let mut state = self.state.load(Relaxed);
        while state & OPEN != 0 && state >> EPOCH == epoch {
            // Acquire: pairs with the store in `open`.
            match self.state.compare_exchange_weak(state, state + 1, AcqRel, Relaxed) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }
}

/// One turn of waiting: mostly a hint to the processor, now and then an offer of this core to another thread.
#[inline]
fn pause(spins: &mut u32, crowded: bool) {
    *spins = spins.wrapping_add(1);
    if crowded || spins.is_multiple_of(256) {
        std::thread::yield_now();
    } else {
        spin_loop();
    }
}

#[cfg(test)]
#[path = "par_tests.rs"]
pub(crate) mod tests;
