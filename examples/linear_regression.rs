//! A line, and a table of houses, fitted by gradient descent and compared with the closed-form answer.
//!
//!     cargo run --release --example linear_regression
//!     cargo run --release --example linear_regression -- --table california-housing.csv --target median_house_value

use std::path::{Path, PathBuf};

use clap::Parser;
use gradus::prelude::*;

#[derive(Parser)]
#[command(about = "Linear regression by gradient descent, against the closed-form answer")]
struct Args {
    /// A table of numbers as CSV, with or without a header. Columns that are not numbers are left out.
    #[arg(long, env = "GRADUS_TABLE")]
    table: Option<PathBuf>,
    /// The column to predict, by its name in the header or its number from 0; the last numeric one if not given.
    #[arg(long)]
    target: Option<String>,
    /// Passes over the table.
    #[arg(long, default_value_t = 2000)]
    epochs: u64,
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Points along y = 3 x + 2, with a little noise.
fn made_up(args: &Args) -> Result<()> {
    println!("made-up points, y = 3 x + 2 + noise:");
    let mut rng = gradus::rng(args.seed);
    let x = Tensor::uniform([200, 1], -1.0, 1.0, &mut rng)?;
    let y = &x * 3.0 + 2.0 + Tensor::normal([200, 1], 0.0, 0.1, &mut rng)?;
    let mut model: Dense = Dense::new(1, 1).build(&mut rng)?;
    let mut sgd = Sgd::new(0.1);
    for step in 0..args.epochs {
        let tape = Tape::new(step);
        let loss = tape.watch(&model).forward(&x)?.mse(&y)?;
        let grads = loss.backward()?;
        sgd.step(&mut model, &grads)?;
    }
    let exact = closed_form(&x.cast(), &y.cast())?;
    let bias = model.bias.as_ref().map_or(Ok(0.0), |b| b.get([0]))?;
    println!("  learned: y = {:.4} x + {:.4}", model.weight.get([0, 0])?, bias);
    println!("  exact:   y = {:.4} x + {:.4}", exact[0], exact[1]);
    Ok(())
}

/// The least-squares coefficients of the columns of `x`, then the constant, from the normal equations (XᵀX) w = Xᵀy.
fn closed_form(x: &Tensor<f64>, y: &Tensor<f64>) -> Result<Vec<f64>> {
    let n = x.shape()[0];
    let x = Tensor::concat(&[x, &Tensor::ones([n, 1])?], 1)?;
    let (a, b) = (x.t()?.matmul(&x)?, x.t()?.matmul(y)?);
    Ok(solve(a, b.to_vec()))
}

/// Gaussian elimination with pivots.
fn solve(a: Tensor<f64>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    let mut rows: Vec<Vec<f64>> = a.to_vec().chunks(n).map(<[f64]>::to_vec).collect();
    for k in 0..n {
        let pivot =
            (k..n).max_by(|&i, &j| rows[i][k].abs().total_cmp(&rows[j][k].abs())).unwrap_or(k);
        rows.swap(k, pivot);
        b.swap(k, pivot);
        for i in k + 1..n {
            let f = rows[i][k] / rows[k][k];
            let (above, below) = rows.split_at_mut(i);
            for (v, p) in below[0][k..].iter_mut().zip(&above[k][k..]) {
                *v -= f * p;
            }
            b[i] -= f * b[k];
        }
    }
    for k in (0..n).rev() {
        let known: f64 = (k + 1..n).map(|j| rows[k][j] * b[j]).sum();
        b[k] = (b[k] - known) / rows[k][k];
    }
    b
}

/// Names and columns of a table, rows with a missing number left out.
struct Table {
    names: Vec<String>,
    rows: Vec<Vec<f64>>,
}

fn read_table(path: &Path) -> std::result::Result<Table, Box<dyn std::error::Error>> {
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).trim(csv::Trim::All).from_path(path)?;
    let records: Vec<csv::StringRecord> =
        reader.records().collect::<std::result::Result<_, _>>()?;
    let number = |s: &str| s.parse::<f64>().ok().filter(|v| v.is_finite());
    let first = records.first().ok_or("the table is empty")?;
    let has_header = first.iter().all(|s| number(s).is_none());
    let body = &records[has_header as usize..];
    let sample = body.first().ok_or("the table has no rows")?;
    let numeric: Vec<usize> = (0..sample.len()).filter(|&c| number(&sample[c]).is_some()).collect();
    let names = numeric
        .iter()
        .map(|&c| if has_header { first[c].to_string() } else { c.to_string() })
        .collect();
    let row = |r: &csv::StringRecord| {
        numeric.iter().map(|&c| r.get(c).and_then(number)).collect::<Option<Vec<_>>>()
    };
    Ok(Table { names, rows: body.iter().filter_map(row).collect() })
}

fn from_table(path: &Path, args: &Args) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let table = read_table(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let target = match &args.target {
        None => table.names.len() - 1,
        Some(name) => table.names.iter().position(|n| n == name).ok_or_else(|| {
            format!("no numeric column {name}; there are {}", table.names.join(", "))
        })?,
    };
    let (n, columns) = (table.rows.len(), table.names.len());
    println!("{}: {n} rows, predicting {}", path.display(), table.names[target]);
    let all = Tensor::from_vec(table.rows.concat(), [n, columns])?;
    // Columns on one scale: gradient descent needs it, the closed form does not mind.
    let mean = all.mean_axes(0, true)?;
    let std = all.var_axes(0, 0, true)?.sqrt().maximum(&Tensor::scalar(1e-12))?;
    let scaled = (&all - &mean) / &std;
    let inputs: Vec<i64> = (0..columns).filter(|&c| c != target).map(|c| c as i64).collect();
    let (x, y) =
        (scaled.index_select(1, &Tensor::from(inputs.clone()))?, scaled.narrow(1, target, 1)?);

    let mut model: Dense<f64> =
        Dense::<f64>::new(inputs.len(), 1).build(&mut gradus::rng(args.seed))?;
    let mut adam = Adam::new(0.02);
    for step in 0..args.epochs {
        adam.set_lr(0.02 * (1.0 - step as f64 / args.epochs as f64));
        let tape = Tape::new(step);
        let loss = tape.watch(&model).forward(&x)?.mse(&y)?;
        let grads = loss.backward()?;
        adam.step(&mut model, &grads)?;
    }
    let exact = closed_form(&x, &y)?;
    let learned = model.weight.to_vec();
    println!("  {:24} {:>10} {:>10}", "coefficient (scaled)", "learned", "exact");
    for (i, &c) in inputs.iter().enumerate() {
        println!("  {:24} {:>10.4} {:>10.4}", table.names[c as usize], learned[i], exact[i]);
    }
    let r2 = |p: &Tensor<f64>| -> Result<f64> { Ok(1.0 - p.mse(&y)?.item()?) };
    let best = x.matmul(&Tensor::from_vec(exact[..inputs.len()].to_vec(), [inputs.len(), 1])?)?;
    println!("  R²: learned {:.6}, exact {:.6}", r2(&model.forward(&x)?)?, r2(&best)?);
    Ok(())
}

fn main() {
    let args = Args::parse();
    let run = || -> std::result::Result<(), Box<dyn std::error::Error>> {
        made_up(&args)?;
        match &args.table {
            Some(path) => from_table(path, &args),
            None => {
                println!("give --table FILE.csv to fit a real table as well");
                Ok(())
            }
        }
    };
    if let Err(e) = run() {
        eprintln!("error: {e}");
        std::process::exit(1);
    }
}
