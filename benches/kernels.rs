//! The kernels alone: `cargo bench --bench kernels`, or `-- matmul/64x784x256` for one shape.
//!
//! Throughput is printed in elements per second, where an element is one floating-point operation: `Gelem/s` is GFLOP/s.
//! The environment variables `GRADUS_NUM_THREADS` and `GRADUS_ISA` choose the threads and the instruction set.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gradus::bench_api::{ConvPass, ConvShape, conv, for_each, matmul};
use std::hint::black_box;

/// Name, m, k, n, and whether A and B are the transposes of row-major matrices. The named ones are of the networks in the
/// examples: a layer's forward product, then the two of its backward pass.
const PRODUCTS: &[(&str, usize, usize, usize, bool, bool)] = &[
    ("32x32x32", 32, 32, 32, false, false),
    ("64x64x64", 64, 64, 64, false, false),
    ("256x256x256", 256, 256, 256, false, false),
    ("1024x1024x1024", 1024, 1024, 1024, false, false),
    ("64x784x256", 64, 784, 256, false, false),
    ("64x784x256 dA", 64, 256, 784, false, true),
    ("64x784x256 dB", 784, 64, 256, true, false),
    ("128x1600x128", 128, 1600, 128, false, false),
    ("128x1600x128 dA", 128, 128, 1600, false, true),
    ("128x1600x128 dB", 1600, 128, 128, true, false),
    ("32x256x1024", 32, 256, 1024, false, false),
    ("32x256x1024 dA", 32, 1024, 256, false, true),
    ("128x128x10", 128, 128, 10, false, false),
    ("1x768x3072", 1, 768, 3072, false, false),
    ("1x768x3072 transposed", 1, 768, 3072, false, true),
];

fn products(c: &mut Criterion) {
    let mut group = c.benchmark_group("matmul");
    for &(name, m, k, n, at, bt) in PRODUCTS {
        let a: Vec<f32> = (0..m * k).map(|i| (i % 13) as f32 - 6.0).collect();
        let b: Vec<f32> = (0..k * n).map(|i| (i % 7) as f32 - 3.0).collect();
        let mut out = vec![0.0f32; m * n];
        group.throughput(Throughput::Elements(2 * (m * k * n) as u64));
        group.bench_function(name, |bench| {
            bench.iter(|| matmul(m, k, n, black_box(&a), at, &b, bt, black_box(&mut out)));
        });
    }
}

/// Name and shape; the first four are of the network for handwritten digits.
const CONVOLUTIONS: &[(&str, ConvShape)] = &[
    ("mnist1 32x1x28 to 32", [32, 1, 28, 32, 3, 0]),
    ("mnist1 128x1x28 to 32", [128, 1, 28, 32, 3, 0]),
    ("mnist2 32x32x13 to 64", [32, 32, 13, 64, 3, 0]),
    ("mnist2 128x32x13 to 64", [128, 32, 13, 64, 3, 0]),
    ("32x64x28 to 64", [32, 64, 28, 64, 3, 1]),
    ("8x256x14 to 512, 1x1", [8, 256, 14, 512, 1, 0]),
];

fn convolutions(c: &mut Criterion) {
    let mut group = c.benchmark_group("conv");
    for &(name, shape) in CONVOLUTIONS {
        for pass in [ConvPass::Forward, ConvPass::Input, ConvPass::Weight] {
            let (mut run, flop) = conv(shape, pass);
            group.throughput(Throughput::Elements(flop));
            group.bench_function(format!("{name} {pass:?}"), |bench| bench.iter(&mut run));
        }
    }
}

/// What it costs to hand half of a small piece of work to another thread.
fn hand_over(c: &mut Criterion) {
    let mut group = c.benchmark_group("hand-over");
    for ns in [2_600u64, 9_000] {
        group.bench_function(format!("2 x {ns} ns"), |bench| {
            bench.iter(|| for_each(2, ns as f64, |_| work(ns)));
        });
    }
}

/// Keeps this thread busy for so many nanoseconds.
fn work(ns: u64) {
    let start = std::time::Instant::now();
    while start.elapsed().as_nanos() < ns as u128 {
        std::hint::spin_loop();
    }
}

criterion_group!(benches, products, convolutions, hand_over);
criterion_main!(benches);
