//! The workloads of the peer benchmark: training steps, inference and single operators, defined so that any library can run the very same
//! ones. Weights and inputs come from splitmix64 (seeds and bounds below), so `loss_first` and the checks agree between libraries to
//! about 1e-4. One process measures one workload; each result is one JSON line.
//!
//!     cargo bench --bench peers -- --workload cnn_mnist_b32 --threads 1
//!     cargo bench --bench peers -- --workload ops --only matmul,conv --threads 2 --json out.jsonl
//!
//! A training step is everything: tape, forward, loss, backward, optimizer and reading the loss as a number.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::Parser;
use gradus::prelude::*;

mod models;
mod numbers;
mod ops;
mod workloads;

use workloads::{Out, WORKLOADS, Work, workload};

#[derive(Parser)]
#[command(about = "The workloads of the peer benchmark, in gradus")]
struct Args {
    /// One name, see --list.
    #[arg(long, default_value = "cnn_mnist_b32")]
    workload: String,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Timed steps (for ops: samples); each workload has its own default.
    #[arg(long)]
    steps: Option<usize>,
    /// Untimed steps, at least 1.
    #[arg(long)]
    warmup: Option<usize>,
    /// File to append the JSON line to.
    #[arg(long)]
    json: Option<String>,
    /// Stop the timed loop after this long (3 steps at least).
    #[arg(long, default_value_t = 1e9)]
    max_seconds: f64,
    /// ops: comma-separated parts of operator names.
    #[arg(long)]
    only: Option<String>,
    /// After the timed steps, profile as many again (ten at most) and print the tables to standard error.
    #[arg(long)]
    profile: bool,
    /// Print the names of the workloads.
    #[arg(long)]
    list: bool,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// CPU time and forced context switches of this process, where the system tells them.
struct Cpu {
    start: Instant,
    ticks: Option<f64>,
    preempted: Option<u64>,
}

/// A number from a line `name: value` of the process' status.
fn status(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|l| l.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    let main: f64 = text.split_whitespace().next()?.parse().ok()?;
    // The other threads of the process.
    let mut total = main;
    for task in std::fs::read_dir("/proc/self/task").ok()?.flatten() {
        let path = task.path().join("schedstat");
        if task.file_name().to_string_lossy() != std::process::id().to_string() {
            let text = std::fs::read_to_string(path).ok()?;
            total += text.split_whitespace().next()?.parse::<f64>().ok()?;
        }
    }
    Some(total / 1e9)
}

impl Cpu {
    fn start() -> Self {
        Cpu {
            ticks: cpu_seconds(),
            preempted: status("nonvoluntary_ctxt_switches:"),
            start: Instant::now(),
        }
    }

    fn stop(&self, calls: usize) -> Vec<(&'static str, String)> {
        let wall = self.start.elapsed().as_secs_f64();
        let cpu = self.ticks.zip(cpu_seconds()).map(|(a, b)| b - a);
        let switches =
            self.preempted.zip(status("nonvoluntary_ctxt_switches:")).map(|(a, b)| b - a);
        vec![
            ("cpu_ms", number(cpu.map(|c| 1e3 * c / calls as f64), 6)),
            ("cpu_share", number(cpu.map(|c| c / wall), 3)),
            ("preempted", switches.map_or("null".into(), |s| s.to_string())),
        ]
    }
}

fn number(v: Option<f64>, digits: usize) -> String {
    v.filter(|v| v.is_finite()).map_or("null".into(), |v| format!("{v:.digits$}"))
}

fn text(s: &str) -> String {
    format!("\"{s}\"")
}

/// Percentile with linear interpolation.
pub fn percentile(sorted: &[f64], q: f64) -> f64 {
    let i = (sorted.len() - 1) as f64 * q;
    let lo = i as usize;
    let hi = (lo + 1).min(sorted.len() - 1);
    sorted[lo] + (sorted[hi] - sorted[lo]) * (i - lo as f64)
}

/// One JSON line, printed and appended to the file.
fn emit(args: &Args, name: &str, times: &[f64], items: usize, extra: Vec<(&'static str, String)>) {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let ms = |v: f64| number(Some(1e3 * v), 6);
    let median = percentile(&sorted, 0.5);
    let peak = status("VmHWM:").map(|kib| kib as f64 / 1024.0);
    let mut fields = vec![
        ("workload", text(name)),
        ("impl", text("gradus")),
        ("threads", args.threads.to_string()),
        ("median_ms", ms(median)),
        ("p10_ms", ms(percentile(&sorted, 0.1))),
        ("p90_ms", ms(percentile(&sorted, 0.9))),
        ("min_ms", ms(sorted[0])),
        ("steps", times.len().to_string()),
        ("items_per_s", number(Some(items as f64 / median), 3)),
        ("peak_rss_mb", number(peak, 1)),
        ("import_rss_mb", "null".into()),
    ];
    fields.extend(extra);
    fields.push(("version", text(env!("CARGO_PKG_VERSION"))));
    let body: Vec<String> = fields.iter().map(|(k, v)| format!("\"{k}\": {v}")).collect();
    let line = format!("{{{}}}", body.join(", "));
    println!("{line}");
    if let Some(path) = &args.json {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        if let Err(e) = file.and_then(|mut f| writeln!(f, "{line}")) {
            eprintln!("{path}: {e}");
        }
    }
}

fn run(args: &Args, mut work: Work) -> Result<()> {
    let steps = args.steps.unwrap_or(work.steps).max(1);
    let warmup = args.warmup.unwrap_or(work.warmup).max(1);
    let start = Instant::now();
    let first = (work.call)()?;
    let first_s = start.elapsed().as_secs_f64();
    for _ in 1..warmup {
        (work.call)()?;
    }
    let mut times = Vec::with_capacity(steps);
    let end = Instant::now()
        + Duration::try_from_secs_f64(args.max_seconds).unwrap_or(Duration::from_secs(1 << 30));
    let allocations = gradus::memory::stats().system_allocations;
    let cpu = Cpu::start();
    let mut last = None;
    while times.len() < steps && (times.len() < 3 || Instant::now() < end) {
        let t = Instant::now();
        last = Some((work.call)()?);
        times.push(t.elapsed().as_secs_f64());
    }
    let cpu = cpu.stop(times.len());
    let mut extra = match (first, last) {
        (Out::Loss(a), Some(Out::Loss(b))) => {
            vec![("loss_first", format!("{a:.6}")), ("loss_last", format!("{b:.6}"))]
        }
        (_, Some(Out::Output(y))) => {
            let sum: f64 = y.iter().map(f64::from).sum();
            let abs: f64 = y.iter().map(|v| f64::from(v.abs())).sum();
            vec![
                ("loss_first", "null".into()),
                ("loss_last", "null".into()),
                ("check_sum", format!("{sum:.5}")),
                ("check_abs", format!("{abs:.5}")),
            ]
        }
        _ => vec![],
    };
    extra.push(("items", text(work.unit)));
    extra.extend(cpu);
    extra.push(("warmup", warmup.to_string()));
    extra.push(("first_step_s", format!("{first_s:.4}")));
    extra.push(("params", work.params.to_string()));
    let asked = gradus::memory::stats().system_allocations - allocations;
    extra.push(("system_allocations", asked.to_string()));
    if let Some(report) = &work.report {
        extra.extend(report(warmup));
    }
    emit(args, &args.workload, &times, work.items, extra);
    if args.profile {
        let mut profile = gradus::profile::Profile::start();
        for _ in 0..steps.min(10) {
            (work.call)()?;
            profile.step();
        }
        eprintln!("{}", profile.finish());
    }
    Ok(())
}

fn main() -> Result<()> {
    let args = Args::parse();
    if args.list {
        WORKLOADS.iter().chain(&["ops"]).for_each(|w| println!("{w}"));
        return Ok(());
    }
    gradus::set_num_threads(args.threads);
    if args.workload == "ops" {
        return ops::run(&args);
    }
    match workload(&args.workload)? {
        Some(work) => run(&args, work),
        None => {
            eprintln!("unknown workload {}; see --list", args.workload);
            std::process::exit(2);
        }
    }
}
