//! Matrix products beside what the multipliers can do at most: a table of shapes, GFLOP/s and per cent of the peak.
//!
//!     cargo bench --bench products -- --threads 1,2 --only sq256,64x784x256
//!
//! The clock of a processor follows its load and its neighbours, so the peak (multiply-adds in registers alone) is measured again beside each
//! round of a product, and the per cent are the median of the rounds' own. `GRADUS_ISA` chooses the instruction set. With AMX, products in
//! pieces do not go through these multipliers, and reach more than 100 %; `GRADUS_ISA=avx512` shows those that do.

use clap::Parser;
use gradus::bench_api::{for_each, isa, matmul, multiply_adds, set_num_threads};
use std::hint::black_box;
use std::sync::Mutex;
use std::time::{Duration, Instant};

#[derive(Parser)]
#[command(about = "Matrix products, in per cent of the processor's peak")]
struct Args {
    /// Numbers of threads, one column each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    threads: Vec<usize>,
    /// Only shapes whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How long to measure each.
    #[arg(long, default_value_t = 0.1)]
    seconds: f64,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Square products.
const SQUARES: [usize; 13] = [32, 64, 96, 100, 128, 192, 256, 333, 384, 512, 768, 1024, 2048];
/// Products of layers, as [m, k, n]: forward with the weight as it lies and as its transpose, then the two of the backward pass.
const LAYERS: [[usize; 3]; 13] = [
    [64, 784, 256],
    [128, 1600, 128],
    [1024, 128, 512],
    [2048, 128, 128],
    [2048, 512, 128],
    [32, 256, 1024],
    [32, 320, 1024],
    [64, 576, 784],
    [32, 9, 676],
    [128, 9216, 128],
    [128, 768, 3072],
    [16, 512, 512],
    [1, 768, 3072],
];

/// A product: its name, m, k, n, and whether A and B are transposes.
type Case = (String, [usize; 3], bool, bool);

fn cases() -> Vec<Case> {
    let forms = [("NN", false, false), ("NT", false, true), ("TN", true, false)];
    let squares = SQUARES
        .iter()
        .flat_map(|&s| forms.map(|(form, at, bt)| (format!("sq{s} {form}"), [s; 3], at, bt)));
    let layers = LAYERS.iter().flat_map(|&[m, k, n]| {
        [
            (format!("{m}x{k}x{n} NN"), [m, k, n], false, false),
            (format!("{m}x{k}x{n} NT"), [m, k, n], false, true),
            (format!("{m}x{k}x{n} dA:NT"), [m, n, k], false, true),
            (format!("{m}x{k}x{n} dB:TN"), [k, m, n], true, false),
        ]
    });
    squares.chain(layers).collect()
}

/// Numbers that begin at a cache line, as those of a tensor do.
struct Aligned(Vec<f32>, usize);

impl Aligned {
    fn new(n: usize) -> Self {
        let v: Vec<f32> = (0..n + 16).map(|i| (i * 7919 % 1000) as f32 / 1000.0 - 0.5).collect();
        let start = v.as_ptr().align_offset(64);
        Self(v, start)
    }

    fn get(&mut self) -> &mut [f32] {
        &mut self.0[self.1..]
    }
}

/// Operations per nanosecond of so many threads that do nothing but multiply and add.
fn peak(threads: usize) -> f64 {
    let sum = Mutex::new(0.0);
    for_each(threads, 1e6, |_| {
        let start = Instant::now();
        let operations = multiply_adds(10_000) as f64;
        let rate = operations / start.elapsed().as_nanos() as f64;
        *sum.lock().unwrap() += rate;
    });
    sum.into_inner().unwrap()
}

fn median(mut x: Vec<f64>) -> f64 {
    x.sort_by(f64::total_cmp);
    x[x.len() / 2]
}

/// The median time in microseconds, rate in GFLOP/s and part of the peak.
fn measure(case: &Case, threads: usize, time: Duration) -> (f64, f64, f64) {
    let (_, [m, k, n], at, bt) = *case;
    let (mut a, mut b, mut c) = (Aligned::new(m * k), Aligned::new(k * n), Aligned::new(m * n));
    let operations = 2.0 * (m * k * n) as f64;
    // A round takes some ten microseconds at least, or the clock would be what is measured.
    let calls = (3e6 / operations) as usize + 1;
    let mut round = || {
        let start = Instant::now();
        for _ in 0..calls {
            matmul(m, k, n, black_box(a.get()), at, b.get(), bt, &mut c.get()[..m * n]);
        }
        operations * calls as f64 / start.elapsed().as_nanos() as f64
    };
    set_num_threads(threads);
    (0..3).for_each(|_| _ = round());
    let (mut rates, mut parts) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while start.elapsed() < time || rates.len() < 7 {
        let peak = peak(threads);
        let rate = round();
        rates.push(rate);
        parts.push(rate / peak);
    }
    let rate = median(rates);
    (operations / rate / 1e3, rate, median(parts))
}

fn main() {
    let args = Args::parse();
    let time = Duration::from_secs_f64(args.seconds.max(0.0));
    println!("{}, peak of one thread now: {:.0} GFLOP/s", isa(), peak(1));
    println!(
        "| product | {} |",
        args.threads
            .iter()
            .map(|t| format!("{t} T: µs | GFLOP/s | of peak"))
            .collect::<Vec<_>>()
            .join(" | ")
    );
    println!("| --- |{}", " ---: | ---: | ---: |".repeat(args.threads.len()));
    for case in cases() {
        if !args.only.is_empty() && !args.only.iter().any(|only| case.0.contains(only.as_str())) {
            continue;
        }
        print!("| {} |", case.0);
        for &threads in &args.threads {
            let (us, rate, part) = measure(&case, threads.max(1), time);
            print!(" {us:.2} | {rate:.0} | {:.0} % |", 100.0 * part);
        }
        println!();
    }
}
