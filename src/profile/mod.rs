//! Where the time goes: time, calls, rates of arithmetic and of memory for each operation and each layer, and the memory of a step.
//!
//! ```
//! use gradus::prelude::*;
//! use gradus::profile::{self, Phase};
//!
//! let mut rng = gradus::rng(0);
//! let mut model: (Dense, Dense) = (Dense::new(64, 32).build(&mut rng)?, Dense::new(32, 4).build(&mut rng)?);
//! let (x, y) = (Tensor::ones([16, 64])?, Tensor::zeros([16, 4])?);
//! let mut adam = Adam::new(1e-3);
//! let mut train = || {
//!     let net = Tape::new(0).watch(&model);
//!     let loss = net.1.forward(&net.0.forward(&x)?.relu())?.mse(&y)?;
//!     adam.step(&mut model, &loss.backward()?)
//! };
//! train()?;                                            // the first step asks the system for memory and wakes the threads
//! let ((), report) = profile::record(train)?;
//! println!("{report}");
//! assert_eq!(report.op("Dense", Phase::Forward).flops, 2 * 16 * (64 * 32 + 32 * 4));
//! assert_eq!(report.layers().iter().filter(|l| l.path == "0").count(), 1);
//! # Ok::<(), Error>(())
//! ```
//!
//! For a loop, keep a [`Profile`] and tell it where a step ends:
//!
//! ```
//! use gradus::prelude::*;
//! use gradus::profile::Profile;
//! let x: Tensor = Tensor::ones([100, 100])?;
//! let mut profile = Profile::start();
//! for _ in 0..3 {
//!     x.matmul(&x)?.relu();
//!     profile.step();
//! }
//! let report = profile.finish();
//! assert_eq!(report.steps().len(), 3);
//! # Ok::<(), Error>(())
//! ```
//!
//! # Finding what is slow
//!
//! 1. Profile a few steps after the first ones, in release mode, with the threads that the program will have.
//! 2. Look at the share of the time *outside of operations*. Where it is large, the program itself is slow: loading data, reading results with
//!    `item` or `to_vec`, or operations so small that bookkeeping outweighs them (then a larger batch helps).
//! 3. Take the first rows of the table of operations. One with a number under GFLOP/s is limited by arithmetic if that comes near what the processor
//!    can do, which a large `matmul` shows. The others are limited by memory if GB/s comes near what copying a large tensor reaches; fewer
//!    of them, or a fused one (`gelu`, `layer_norm`, `cross_entropy` instead of their parts), is what helps there. A row that
//!    is near neither has small, skinny or strided operands: the table of layers says where.
//! 4. If memory is what is short, [`nn::recompute`](crate::nn::recompute) trades it for time; [`Report::steps`] tells what it saved.
//!
//! # What is counted
//!
//! - *Operations* are those that a tape can record, recorded or not: those in an inference are seen too. What an operation calls inside of itself is
//!   part of it, so that no time counts twice. Creating tensors, reading them, comparing and searching (`argmax`, `sort`), and
//!   the tape's bookkeeping are time outside of operations.
//! - *Floating-point operations* are those of the textbook's algorithm: 2 m k n for a matrix product, whatever the kernel does. Backward counts a product for
//!   each gradient that somebody asks for; attention counts five products backward, since its weights are computed again. Operations that
//!   are no products count 0.
//! - *Bytes* are what must be moved at least: inputs and output once, backward also what was kept; not what copies, packing or a cache
//!   that is too small add. A view moves nothing.
//! - *Layers*: an operation belongs to the innermost layer whose `forward` it runs in, and its backward rule to the same. A layer is known by the path of its
//!   parameters ([`Param::path`](crate::Param::path)): what has none (an activation, pooling) belongs to what it is called from, often to `(no layer)`. Layers of your own
//!   say so with [`Param::within`](crate::Param::within), or [`layer`] gives any part of a program a name. A parameter learns its path when
//!   the model is watched, saved, loaded or summarised; before that its layer is `(unnamed)`, and the parameters of the root belong
//!   to `(the model itself)`.
//! - A profile sees the *thread* that it was started on (and the threads that kernels work with); others join by [`Profile::handle`].
//!   A profile inside another one is part of it. Memory is that of all threads.
//! - Each operation costs about a quarter of a microsecond more while a profile runs, and nothing that can be measured otherwise.

mod report;
mod span;
mod table;

use std::marker::PhantomData;
use std::time::Instant;

pub use report::{Cost, LayerCost, OpCost, Phase, Report, Step};
pub(crate) use span::{
    Scope, Span, bytes, enter, layer as current_layer, on, phase, set_layer, traffic,
};
use span::{Shared, join, leave};

use crate::error::Result;
use crate::tensor::PeakWatch;

/// Runs something, and reports what it computed.
///
/// ```
/// use gradus::prelude::*;
/// let x: Tensor = Tensor::ones([8, 8])?;
/// let (y, report) = gradus::profile::record(|| x.matmul(&x))?;
/// assert_eq!(report.ops()[0].cost.flops, 2 * 8 * 8 * 8);
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// Those of `run`.
pub fn record<R>(run: impl FnOnce() -> Result<R>) -> Result<(R, Report)> {
    let profile = Profile::start();
    let value = run()?;
    Ok((value, profile.finish()))
}

/// What `run` computes belongs to a layer of this name, as far as layers inside of it do not say otherwise.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::profile::{layer, record};
/// let x: Tensor = Tensor::ones([8, 8])?;
/// let (_, report) = record(|| Ok(layer("activation", || x.gelu())))?;
/// assert_eq!(report.layers()[0].path, "activation");
/// # Ok::<(), Error>(())
/// ```
pub fn layer<R>(name: &str, run: impl FnOnce() -> R) -> R {
    let _layer = enter(|| name.into());
    run()
}

/// A profile that runs, from [`start`](Self::start) to [`finish`](Self::finish); see [the module](self).
pub struct Profile {
    table: Shared,
    start: Instant,
    /// The end of the last step.
    last: Instant,
    steps: Vec<Step>,
    peak: PeakWatch,
    /// It belongs to the thread that it was started on.
    thread: PhantomData<*const ()>,
}

impl Profile {
    /// Begins.
    pub fn start() -> Self {
        let (table, start) = (Shared::default(), Instant::now());
        join(&table, true);
        let (steps, peak) = (Vec::new(), PeakWatch::start());
        Profile { table, start, last: start, steps, peak, thread: PhantomData }
    }

    /// The end of a step, and the beginning of the next.
    pub fn step(&mut self) {
        let now = Instant::now();
        self.steps.push(Step { time: now - self.last, peak: self.peak.restart() });
        self.last = now;
    }

    /// For other threads that are to be seen too: [`Handle::run`]. Their time adds to that of the operations, which can then be more
    /// than the time that passed.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::profile::{Phase, Profile};
    /// let x: Tensor = Tensor::ones([8, 8])?;
    /// let profile = Profile::start();
    /// std::thread::scope(|s| {
    ///     let handle = profile.handle();
    ///     s.spawn(move || handle.run(|| x.relu()));
    /// });
    /// assert_eq!(profile.finish().op("relu", Phase::Forward).calls, 1);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn handle(&self) -> Handle {
        Handle(self.table.clone())
    }

    /// Ends.
    pub fn finish(mut self) -> Report {
        if self.steps.is_empty() {
            self.step();
        }
        let total = self.start.elapsed();
        let table = self.table.lock();
        Report {
            ops: table.ops(),
            layers: table.layers(),
            steps: self.steps.clone(),
            total,
            inside: table.own,
        }
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        leave(&self.table, true);
    }
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Profile {{ {:?} so far, steps: {} }}", self.start.elapsed(), self.steps.len())
    }
}

/// Lets another thread be seen by a profile; see [`Profile::handle`].
#[derive(Clone)]
pub struct Handle(Shared);

impl Handle {
    /// Runs something on this thread for the profile.
    pub fn run<R>(&self, run: impl FnOnce() -> R) -> R {
        struct Joined<'a>(&'a Shared);
        impl Drop for Joined<'_> {
            fn drop(&mut self) {
                leave(self.0, false);
            }
        }
        join(&self.0, false);
        let _joined = Joined(&self.0);
        run()
    }
}
