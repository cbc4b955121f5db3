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
use gradus::nn::{ItemMut, ParamMut, VisitorMut};
use gradus::prelude::*;

mod ops;

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
    /// Print the names of the workloads.
    #[arg(long)]
    list: bool,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

// ---------------------------------------------------------------- numbers ---

/// 24 random bits: element `i` of the stream with seed `s`.
fn bits(s: u64, i: u64) -> u64 {
    let z = s.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) >> 40
}

/// Uniform in [0, 1).
fn unit(seed: u64, shape: &[usize]) -> Result<Tensor> {
    Tensor::from_fn(shape, |i| bits(seed, i as u64) as f32 * (0.5f32).powi(24))
}

/// Uniform in [-bound, bound).
fn signed(seed: u64, shape: &[usize], bound: f64) -> Result<Tensor> {
    let bound = bound as f32;
    Tensor::from_fn(shape, |i| {
        (2.0 * (bits(seed, i as u64) as f32 * (0.5f32).powi(24)) - 1.0) * bound
    })
}

/// Uniform in 0 .. n-1.
fn ints(seed: u64, n: u64, shape: &[usize]) -> Result<Tensor<i64>> {
    Tensor::from_fn(shape, |i| ((bits(seed, i as u64) * n) >> 24) as i64)
}

/// Parameter `k` from seed 1000 + k: two or more axes uniform in ±1/√(product of the axes after the first), biases 0.
fn init<M: Module>(model: &mut M) -> Result<()> {
    let mut k = 0;
    let mut failed = Ok(());
    VisitorMut::walk(model, &mut |_, item| {
        if let ItemMut::Param(ParamMut::F32(p)) = item {
            let shape = p.shape().to_vec();
            let fan: usize = shape[1..].iter().product();
            let value = match shape.len() {
                0 | 1 => Tensor::zeros(&shape),
                _ => signed(1000 + k, &shape, 1.0 / (fan as f64).sqrt()),
            };
            match value {
                Ok(v) => p.set(v),
                Err(e) => failed = Err(e),
            }
            k += 1;
        }
    });
    failed
}

// ----------------------------------------------------------------- models ---

#[derive(Module, Clone)]
struct Mlp {
    fc1: Dense,
    fc2: Dense,
    fc3: Dense,
}

impl Mlp {
    fn new(rng: &mut impl Rng) -> Result<Self> {
        Ok(Mlp {
            fc1: Dense::new(784, 256).build(rng)?,
            fc2: Dense::new(256, 128).build(rng)?,
            fc3: Dense::new(128, 10).build(rng)?,
        })
    }
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.fc1.forward(x)?.relu();
        let x = self.fc2.forward(&x)?.relu();
        self.fc3.forward(&x)
    }
}

#[derive(Module, Clone)]
struct Cnn {
    conv1: Conv2d,
    conv2: Conv2d,
    fc1: Dense,
    fc2: Dense,
}

impl Cnn {
    fn new(rng: &mut impl Rng) -> Result<Self> {
        Ok(Self {
            conv1: Conv2d::new(1, 32, 3).build(rng)?,
            conv2: Conv2d::new(32, 64, 3).build(rng)?,
            fc1: Dense::new(1600, 128).build(rng)?,
            fc2: Dense::new(128, 10).build(rng)?,
        })
    }
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.conv1.forward(x)?.relu().max_pool2d(2)?;
        let x = self.conv2.forward(&x)?.relu().max_pool2d(2)?;
        let x = self.fc1.forward(&x.flatten(1..)?)?.relu();
        self.fc2.forward(&x)
    }
}

#[derive(Module, Clone)]
struct LstmChar {
    emb: Embedding,
    lstm: LSTM,
    head: Dense,
}

impl LstmChar {
    fn new(rng: &mut impl Rng) -> Result<Self> {
        Ok(Self {
            emb: Embedding::new(65, 64).build(rng)?,
            lstm: LSTM::new(64, 256).layers(2).batch_first(true).build(rng)?,
            head: Dense::new(256, 65).build(rng)?,
        })
    }
    fn forward(&self, x: &Tensor<i64>) -> Result<Tensor> {
        self.head.forward(&self.lstm.forward(&self.emb.forward(x)?)?)
    }
}

// -------------------------------------------------------------- workloads ---

/// What one call gives back: a loss, or an output to be checked.
enum Out {
    Loss(f32),
    Output(Tensor),
}

struct Work {
    items: usize,
    unit: &'static str,
    steps: usize,
    warmup: usize,
    params: usize,
    call: Box<dyn FnMut() -> Result<Out>>,
}

const WORKLOADS: &[&str] =
    &["linreg", "mlp_mnist", "cnn_mnist_b32", "cnn_mnist_b128", "lstm_char", "infer_cnn_b1"];

/// A training loop over one batch: `loss` from the watched copy, `step` with the gradients.
fn training<M: Module + Clone + 'static>(
    mut model: M,
    items: usize,
    unit: &'static str,
    (steps, warmup): (usize, usize),
    loss: impl Fn(&M) -> Result<Tensor> + 'static,
    mut step: impl FnMut(&mut M, &Gradients) -> Result<()> + 'static,
) -> Result<Work> {
    init(&mut model)?;
    let params = model.num_params();
    let mut seed = 0;
    let call = move || {
        seed += 1;
        let tape = Tape::new(seed);
        let net = tape.watch(&model);
        let loss = loss(&net)?;
        let grads = loss.backward()?;
        step(&mut model, &grads)?;
        Ok(Out::Loss(loss.item()?))
    };
    Ok(Work { items, unit, steps, warmup, params, call: Box::new(call) })
}

fn adam<M: Module>() -> impl FnMut(&mut M, &Gradients) -> Result<()> {
    let mut adam = Adam::new(1e-3);
    move |m, g| adam.step(m, g)
}

fn workload(name: &str) -> Result<Option<Work>> {
    let rng = &mut gradus::rng(0);
    Ok(Some(match name {
        "linreg" => {
            let x = signed(1, &[32, 1], 1.0)?;
            let y = &x * 3.0 + 2.0;
            let mut sgd = Sgd::new(0.01);
            let model: Dense = Dense::new(1, 1).build(rng)?;
            training(
                model,
                32,
                "samples",
                (5000, 200),
                move |m| m.forward(&x)?.mse(&y),
                move |m, g| sgd.step(m, g),
            )?
        }
        "mlp_mnist" => {
            let (x, y) = (unit(1, &[64, 784])?, ints(2, 10, &[64])?);
            let loss = move |m: &Mlp| m.forward(&x)?.cross_entropy(&y);
            training(Mlp::new(rng)?, 64, "samples", (1000, 50), loss, adam())?
        }
        "cnn_mnist_b32" | "cnn_mnist_b128" => {
            let (n, steps) = if name == "cnn_mnist_b32" { (32, 200) } else { (128, 60) };
            let (x, y) = (unit(1, &[n, 1, 28, 28])?, ints(2, 10, &[n])?);
            let loss = move |m: &Cnn| m.forward(&x)?.cross_entropy(&y);
            training(Cnn::new(rng)?, n, "images", (steps, 10), loss, adam())?
        }
        "lstm_char" => {
            let s = ints(1, 65, &[32, 65])?;
            let x = s.narrow(1, 0, 64)?;
            let y = s.narrow(1, 1, 64)?.flatten(..)?;
            let loss = move |m: &LstmChar| m.forward(&x)?.flatten(..2)?.cross_entropy(&y);
            training(LstmChar::new(rng)?, 2048, "tokens", (50, 5), loss, adam())?
        }
        "infer_cnn_b1" => {
            let mut model = Cnn::new(rng)?;
            init(&mut model)?;
            let x = unit(1, &[1, 1, 28, 28])?;
            let params = model.num_params();
            let call = move || Ok(Out::Output(model.forward(&x)?));
            Work {
                items: 1,
                unit: "images",
                steps: 2000,
                warmup: 100,
                params,
                call: Box::new(call),
            }
        }
        _ => return Ok(None),
    }))
}

// ------------------------------------------------------------------ driver ---

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
fn percentile(sorted: &[f64], q: f64) -> f64 {
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
    emit(args, &args.workload, &times, work.items, extra);
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
