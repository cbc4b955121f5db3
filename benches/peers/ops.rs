//! The operator suite: one line per operator, every call with a result of its own.

use std::time::Instant;

use gradus::Slice;
use gradus::nn::{Conv2dParams, Param};
use gradus::prelude::*;

use super::numbers::{ints, signed};
use super::{Args, Cpu, emit, number};

/// Calls, arithmetic operations and bytes of a call.
struct Case {
    call: Box<dyn FnMut() -> Result<()>>,
    flops: f64,
    bytes: f64,
}

type Make = Box<dyn Fn() -> Result<Case>>;

fn case(call: impl FnMut() -> Result<()> + 'static, flops: f64, bytes: f64) -> Result<Case> {
    Ok(Case { call: Box::new(call), flops, bytes })
}

/// The result is kept until the call returns, then freed, as in a program.
fn done<T>(_: T) -> Result<()> {
    Ok(())
}

fn matmul(m: usize, k: usize, n: usize) -> Make {
    Box::new(move || {
        let (a, b) = (signed(1, &[m, k], 1.0)?, signed(2, &[k, n], 1.0)?);
        case(move || a.matmul(&b).and_then(done), 2.0 * (m * k * n) as f64, 0.0)
    })
}

struct Conv {
    name: &'static str,
    n: usize,
    c: usize,
    hw: usize,
    o: usize,
    k: usize,
    groups: usize,
}

impl Conv {
    fn data(&self) -> Result<(Tensor, Tensor, Conv2dParams)> {
        let per = self.c / self.groups;
        let bound = 1.0 / ((per * self.k * self.k) as f64).sqrt();
        let x = signed(1, &[self.n, self.c, self.hw, self.hw], 1.0)?;
        let w = signed(2, &[self.o, per, self.k, self.k], bound)?;
        Ok((x, w, Conv2dParams::default().padding(self.k / 2).groups(self.groups)))
    }

    fn macs(&self) -> f64 {
        (self.n * self.o * self.hw * self.hw * (self.c / self.groups) * self.k * self.k) as f64
    }

    fn forward(&self) -> Result<Case> {
        let (x, w, p) = self.data()?;
        case(move || x.conv2d(&w, None, p).and_then(done), 2.0 * self.macs(), 0.0)
    }

    fn both(&self) -> Result<Case> {
        let (x, w, p) = self.data()?;
        let g = signed(3, &[self.n, self.o, self.hw, self.hw], 1.0)?;
        let call = move || {
            let tape = Tape::new(0);
            let (x, w) = (tape.leaf(&x), tape.leaf(&w));
            x.conv2d(&w, None, p)?.backward_with(&g).and_then(done)
        };
        case(call, 6.0 * self.macs(), 0.0)
    }
}

const CONVS: [Conv; 5] = [
    Conv { name: "conv_32x64x28_64_k3", n: 32, c: 64, hw: 28, o: 64, k: 3, groups: 1 },
    Conv { name: "conv_32x3x32_64_k3", n: 32, c: 3, hw: 32, o: 64, k: 3, groups: 1 },
    Conv { name: "conv_8x256x14_256_k3", n: 8, c: 256, hw: 14, o: 256, k: 3, groups: 1 },
    Conv { name: "conv_8x256x14_512_k1", n: 8, c: 256, hw: 14, o: 512, k: 1, groups: 1 },
    Conv { name: "dwconv_8x96x28_k3", n: 8, c: 96, hw: 28, o: 96, k: 3, groups: 96 },
];

const ROWS: usize = 4096;
const COLS: usize = 1024;
const PLANE: f64 = (4 * ROWS * COLS) as f64;

fn unary(f: impl Fn(&Tensor) -> Result<Tensor> + Copy + 'static, bytes: f64) -> Make {
    Box::new(move || {
        let x = signed(1, &[ROWS, COLS], 1.0)?;
        case(move || f(&x).and_then(done), 0.0, bytes)
    })
}

fn binary(f: impl Fn(&Tensor, &Tensor) -> Tensor + Copy + 'static) -> Make {
    Box::new(move || {
        let (a, b) = (signed(1, &[ROWS, COLS], 1.0)?, signed(2, &[ROWS, COLS], 1.0)?);
        case(move || done(f(&a, &b)), 0.0, 3.0 * PLANE)
    })
}

fn maxpool() -> Result<Case> {
    let (x, g) = (signed(1, &[128, 32, 26, 26], 1.0)?, signed(2, &[128, 32, 13, 13], 1.0)?);
    let call = move || {
        let tape = Tape::new(0);
        tape.leaf(&x).max_pool2d(2)?.backward_with(&g).and_then(done)
    };
    case(call, 0.0, 0.0)
}

fn adam() -> Result<Case> {
    const N: usize = 10_000_000;
    let mut p = Param::new(signed(1, &[N], 1.0)?);
    let g = signed(2, &[N], 0.01)?;
    let tape = Tape::new(0);
    let grads = (&*tape.watch(&p) * 1.0).backward_with(&g)?;
    drop(tape);
    let mut adam = Adam::new(1e-3);
    case(move || adam.step(&mut p, &grads), 0.0, 7.0 * 4.0 * N as f64)
}

fn embedding() -> Result<Case> {
    let (w, ids) = (signed(1, &[50257, 768], 1.0)?, ints(2, 50257, &[1024])?);
    case(move || w.index_select(0, &ids).and_then(done), 0.0, 2.0 * 4.0 * 1024.0 * 768.0)
}

fn cross_entropy() -> Result<Case> {
    let (x, y) = (signed(1, &[1024, 50257], 1.0)?, ints(2, 50257, &[1024])?);
    let call = move || Tape::new(0).leaf(&x).cross_entropy(&y)?.backward().and_then(done);
    case(call, 0.0, 0.0)
}

fn cases() -> Vec<(String, Make)> {
    let mut all: Vec<(String, Make)> = Vec::new();
    for n in [64, 128, 256, 512, 1024, 2048] {
        all.push((format!("matmul_{n}"), matmul(n, n, n)));
    }
    all.push(("matmul_64x784x256".into(), matmul(64, 784, 256)));
    let bmm: Make = Box::new(|| {
        let (a, b) = (signed(1, &[64, 128, 64], 1.0)?, signed(2, &[64, 64, 128], 1.0)?);
        case(move || a.matmul(&b).and_then(done), 2.0 * (64 * 128 * 64 * 128) as f64, 0.0)
    });
    all.push(("bmm_64x128x64x128".into(), bmm));
    for c in &CONVS {
        all.push((format!("{}_fwd", c.name), Box::new(|| c.forward())));
        all.push((format!("{}_fwdbwd", c.name), Box::new(|| c.both())));
    }
    all.push(("maxpool2_128x32x26_fwdbwd".into(), Box::new(maxpool)));
    let mut sized = |name: &str, make: Make| all.push((format!("{name}_4096x1024"), make));
    sized("add", binary(|a, b| a + b));
    sized("mul", binary(|a, b| a * b));
    sized("relu", unary(|x| Ok(x.relu()), 2.0 * PLANE));
    sized("exp", unary(|x| Ok(x.exp()), 2.0 * PLANE));
    sized("tanh", unary(|x| Ok(x.tanh()), 2.0 * PLANE));
    sized("gelu_tanh", unary(|x| Ok(x.gelu_tanh()), 2.0 * PLANE));
    sized("gelu_erf", unary(|x| Ok(x.gelu()), 2.0 * PLANE));
    sized("sum_last", unary(|x| x.sum_axes(-1, false), PLANE + 4.0 * ROWS as f64));
    sized("softmax_last", unary(|x| x.softmax(-1), 2.0 * PLANE));
    let norm: Make = Box::new(|| {
        let x = signed(1, &[ROWS, COLS], 1.0)?;
        let (w, b) = (Tensor::ones([COLS])?, Tensor::zeros([COLS])?);
        let call = move || x.layer_norm([COLS], Some(&w), Some(&b), 1e-5).and_then(done);
        case(call, 0.0, 2.0 * PLANE)
    });
    sized("layernorm", norm);
    let transpose: Make = Box::new(|| {
        let x = signed(1, &[2048, 2048], 1.0)?;
        // A sum with an empty slice would not copy; joining one tensor does.
        let call =
            move || Tensor::concat(&[&x.t()?.slice_axis(0, Slice::all())?], 0).and_then(done);
        case(call, 0.0, 2.0 * 4.0 * 2048.0 * 2048.0)
    });
    all.push(("transpose_copy_2048".into(), transpose));
    all.push(("adam_10m".into(), Box::new(adam)));
    all.push(("embedding_50257x768_1024".into(), Box::new(embedding)));
    all.push(("cross_entropy_1024x50257_fwdbwd".into(), Box::new(cross_entropy)));
    all
}

/// Further fields of a line of JSON: what the process spent meanwhile.
type Fields = Vec<(&'static str, String)>;

/// Each sample repeats the call until it lasts about 5 ms.
fn time(case: &mut Case, samples: usize, budget: f64) -> Result<(Vec<f64>, usize, Fields)> {
    for _ in 0..3 {
        (case.call)()?;
    }
    let mut inner = 1usize;
    loop {
        let t = Instant::now();
        for _ in 0..inner {
            (case.call)()?;
        }
        let dt = t.elapsed().as_secs_f64();
        if dt >= 0.005 || inner >= 1 << 16 {
            break;
        }
        inner = (inner * 2).max((inner as f64 * 0.005 / dt.max(1e-7)) as usize);
    }
    let (mut times, start, cpu) = (Vec::new(), Instant::now(), Cpu::start());
    while times.len() < samples && (times.len() < 5 || start.elapsed().as_secs_f64() < budget) {
        let t = Instant::now();
        for _ in 0..inner {
            (case.call)()?;
        }
        times.push(t.elapsed().as_secs_f64() / inner as f64);
    }
    let cpu = cpu.stop(inner * times.len());
    Ok((times, inner, cpu))
}

pub fn run(args: &Args) -> Result<()> {
    for (name, make) in cases() {
        let chosen =
            args.only.as_ref().is_none_or(|o| o.split(',').any(|part| name.contains(part)));
        if !chosen {
            continue;
        }
        let mut case = make()?;
        let (times, inner, cpu) =
            time(&mut case, args.steps.unwrap_or(30), args.max_seconds.min(3.0))?;
        let mut sorted = times.clone();
        sorted.sort_by(f64::total_cmp);
        let median = super::percentile(&sorted, 0.5);
        let mut extra = vec![
            ("loss_first", "null".into()),
            ("loss_last", "null".into()),
            ("items", "\"calls\"".into()),
            ("inner", inner.to_string()),
        ];
        extra.extend(cpu);
        if case.flops > 0.0 {
            extra.push(("gflops", number(Some(case.flops / median / 1e9), 2)));
        }
        if case.bytes > 0.0 {
            extra.push(("gb_per_s", number(Some(case.bytes / median / 1e9), 2)));
        }
        emit(args, &format!("ops/{name}"), &times, 1, extra);
    }
    Ok(())
}
