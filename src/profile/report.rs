//! What a profile says: data, and the two tables that it prints.

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

/// In which part of a training step something was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Outside of the two others: forward passes, and whatever a program computes with tensors.
    Forward,
    /// In `backward`, or in `grad`.
    Backward,
    /// In an optimizer's step.
    Update,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Phase::Forward => "forward",
            Phase::Backward => "backward",
            Phase::Update => "update",
        }
    }
}

/// What some operations took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cost {
    /// How many there were.
    pub calls: u64,
    /// How long they took.
    pub time: Duration,
    /// Floating-point operations of products: of matrices, convolutions, attention, recurrent layers, and whatever says so in
    /// [`Op::flops`](crate::autograd::Op::flops). The others count 0.
    pub flops: u64,
    /// Bytes that had to be read and written at least: each input once, the output once; backward also what was kept.
    pub bytes: u64,
}

impl Cost {
    /// 10⁹ floating-point operations in a second.
    pub fn gflops(&self) -> f64 {
        per_nanosecond(self.flops, self.time)
    }

    /// 10⁹ bytes in a second.
    pub fn gigabytes(&self) -> f64 {
        per_nanosecond(self.bytes, self.time)
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        self.calls += other.calls;
        self.time += other.time;
        self.flops += other.flops;
        self.bytes += other.bytes;
    }
}

fn per_nanosecond(n: u64, time: Duration) -> f64 {
    match time.as_nanos() {
        0 => 0.0,
        ns => n as f64 / ns as f64,
    }
}

/// What an operation took in one of the phases.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OpCost {
    /// The name that its errors have, too.
    pub name: &'static str,
    /// The phase.
    pub phase: Phase,
    /// The sum over its calls.
    pub cost: Cost,
}

/// What a layer's operations took.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LayerCost {
    /// Where it stands in the model, such as `blocks.0.ln1`; see [the module](super) for what is no layer's.
    pub path: String,
    /// Forward.
    pub forward: Cost,
    /// Backward.
    pub backward: Cost,
    /// The optimizer's step.
    pub update: Cost,
}

impl LayerCost {
    /// The path of what belongs to no layer.
    pub(super) const NONE: &str = "(no layer)";

    pub(super) fn new(path: &str) -> Self {
        let [forward, backward, update] = [Cost::default(); 3];
        LayerCost { path: path.into(), forward, backward, update }
    }

    pub(super) fn of_mut(&mut self, phase: Phase) -> &mut Cost {
        match phase {
            Phase::Forward => &mut self.forward,
            Phase::Backward => &mut self.backward,
            Phase::Update => &mut self.update,
        }
    }

    /// All three phases.
    pub fn all(&self) -> Cost {
        let mut sum = self.forward;
        sum += self.backward;
        sum += self.update;
        sum
    }
}

/// One step of a profile.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Step {
    /// How long it took.
    pub time: Duration,
    /// The most bytes that were live in tensors at once, on all threads.
    pub peak: usize,
}

/// What a [`Profile`](super::Profile) has seen.
///
/// It prints as two tables, of at most 30 rows each; `{:.5}` prints at most 5.
#[derive(Clone, Debug)]
pub struct Report {
    pub(super) ops: Vec<OpCost>,
    pub(super) layers: Vec<LayerCost>,
    pub(super) steps: Vec<Step>,
    pub(super) total: Duration,
    pub(super) inside: Duration,
}

impl Report {
    /// A row for each operation and phase, the slowest first.
    pub fn ops(&self) -> &[OpCost] {
        &self.ops
    }

    /// What an operation took in a phase; nothing if it was not there.
    pub fn op(&self, name: &str, phase: Phase) -> Cost {
        let found = self.ops.iter().find(|op| op.name == name && op.phase == phase);
        found.map_or(Cost::default(), |op| op.cost)
    }

    /// A row for each layer, the slowest first.
    pub fn layers(&self) -> &[LayerCost] {
        &self.layers
    }

    /// The steps; the whole time as one if none were told.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// From the beginning to the end.
    pub fn total(&self) -> Duration {
        self.total
    }

    /// What of [`total`](Self::total) was not spent in operations: the program's own code, reading and creating tensors, the tape's
    /// bookkeeping, walking the model.
    pub fn outside(&self) -> Duration {
        self.total.saturating_sub(self.inside)
    }

    /// The most bytes that were live in tensors at once, in any step, on all threads.
    pub fn peak(&self) -> usize {
        self.steps.iter().map(|s| s.peak).max().unwrap_or(0)
    }
}

fn ms(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64() * 1e3)
}

/// A rate, or nothing where there is nothing to measure.
fn rate(value: f64) -> String {
    if value > 0.0 { format!("{value:.1}") } else { String::new() }
}

impl Report {
    fn share(&self, time: Duration) -> String {
        let share = time.as_secs_f64() / self.total.as_secs_f64().max(f64::MIN_POSITIVE);
        format!("{:.1} %", 100.0 * share)
    }

    fn op_rows(&self) -> Vec<[String; 7]> {
        let row = |op: &OpCost| {
            let Cost { calls, time, .. } = op.cost;
            [
                op.name.into(),
                op.phase.name().into(),
                calls.to_string(),
                ms(time),
                self.share(time),
                rate(op.cost.gflops()),
                rate(op.cost.gigabytes()),
            ]
        };
        self.ops.iter().map(row).collect()
    }

    fn layer_rows(&self) -> Vec<[String; 8]> {
        let row = |layer: &LayerCost| {
            let all = layer.all();
            [
                layer.path.clone(),
                all.calls.to_string(),
                ms(layer.forward.time),
                ms(layer.backward.time),
                ms(layer.update.time),
                self.share(all.time),
                rate(all.gflops()),
                rate(all.gigabytes()),
            ]
        };
        self.layers.iter().map(row).collect()
    }
}

/// Columns as wide as they must be, the first `left` of them to the left; rows beyond `most` are only counted.
fn table<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    left: usize,
    most: usize,
    head: [&str; N],
    rows: &[[String; N]],
) -> fmt::Result {
    let shown = &rows[..rows.len().min(most)];
    let width = |i: usize| {
        let widest = shown.iter().map(|r| r[i].chars().count()).max().unwrap_or(0);
        widest.max(head[i].len())
    };
    let head = head.map(String::from);
    for row in std::iter::once(&head).chain(shown) {
        for (i, cell) in row.iter().enumerate() {
            let gap = if i == 0 { "" } else { "  " };
            match i < left {
                true => write!(f, "{gap}{cell:<0$}", width(i))?,
                false => write!(f, "{gap}{cell:>0$}", width(i))?,
            }
        }
        writeln!(f)?;
    }
    match rows.len() - shown.len() {
        0 => Ok(()),
        more => writeln!(f, "and {more} more"),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = f.precision().unwrap_or(30);
        let mut ops = self.op_rows();
        let whole = |name: &str, time| {
            let none = String::new;
            [name.into(), none(), none(), ms(time), self.share(time), none(), none()]
        };
        let last = [whole("outside of operations", self.outside()), whole("total", self.total)];
        let more = ops.len().saturating_sub(most);
        ops.truncate(most);
        if more > 0 {
            ops.push(whole(
                &format!("{more} more"),
                self.ops[most..].iter().map(|o| o.cost.time).sum(),
            ));
        }
        ops.extend(last);
        let head = ["operation", "phase", "calls", "ms", "share", "GFLOP/s", "GB/s"];
        table(f, 2, ops.len(), head, &ops)?;
        writeln!(f)?;
        let head = [
            "layer",
            "calls",
            "forward ms",
            "backward ms",
            "update ms",
            "share",
            "GFLOP/s",
            "GB/s",
        ];
        table(f, 1, most, head, &self.layer_rows())?;
        let mib = self.peak() as f64 / f64::from(1 << 20);
        let times = || self.steps.iter().map(|s| s.time);
        let (least, longest) =
            (times().min().unwrap_or_default(), times().max().unwrap_or_default());
        let count = self.steps.len();
        let steps = if count == 1 { "step" } else { "steps" };
        writeln!(
            f,
            "\n{count} {steps} of {} to {} ms, at most {mib:.2} MiB live in a step",
            ms(least),
            ms(longest)
        )
    }
}
