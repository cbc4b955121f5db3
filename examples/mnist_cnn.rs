//! A convolutional network learns to read digits: MNIST, or Fashion-MNIST, or digits that the program draws itself.
//!
//!     cargo run --release --example mnist_cnn
//!     cargo run --release --example mnist_cnn -- --epochs 10 --save cnn.safetensors
//!     cargo run --release --example mnist_cnn -- --load cnn.safetensors --predict digit.png
//!     cargo run --release --example mnist_cnn -- --epochs 1 --profile

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Parser;
use gradus::data::Dataset;
use gradus::data::mnist::{self, Kind, Source};
use gradus::prelude::*;
use gradus::profile::Profile;
use indicatif::{ProgressBar, ProgressStyle};

#[derive(Parser)]
#[command(about = "A convolutional network learns MNIST")]
struct Args {
    /// Folder with the four files of MNIST or Fashion-MNIST; else GRADUS_MNIST_DIR or GRADUS_FASHION_MNIST_DIR names it. Without
    /// either: the cache folder, a download, or digits drawn by the program.
    #[arg(long)]
    data: Option<PathBuf>,
    #[arg(long, default_value_t = 3)]
    epochs: usize,
    #[arg(long, default_value_t = 64)]
    batch_size: usize,
    /// Learning rate of Adam.
    #[arg(long, default_value_t = 1e-3)]
    lr: f64,
    /// Fixes the weights, the order of the images and everything else that is random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads to compute with; 0 for one per core. The result does not depend on it.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Let the learning rate fall along a half cosine to zero: better at the end of longer runs.
    #[arg(long)]
    cosine: bool,
    /// Save the trained model here.
    #[arg(long)]
    save: Option<PathBuf>,
    /// Start from a saved model.
    #[arg(long)]
    load: Option<PathBuf>,
    /// Tell what the model sees on this PNG, then end. Needs --load.
    #[arg(long, requires = "load")]
    predict: Option<PathBuf>,
    /// Clothes instead of digits.
    #[arg(long)]
    fashion: bool,
    /// After training, tell where the time goes in a few more steps, whose updates are thrown away.
    #[arg(long)]
    profile: bool,
    /// Use only the first images of both sets, for a quick look.
    #[arg(long)]
    limit: Option<usize>,
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

    /// Images [n, 1, 28, 28] to logits [n, 10].
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.conv1.forward(x)?.relu().max_pool2d(2)?;
        let x = self.conv2.forward(&x)?.relu().max_pool2d(2)?;
        let x = self.fc1.forward(&x.flatten(1..)?)?.relu();
        self.fc2.forward(&x)
    }
}

/// How many of the logits' largest are at the label.
fn hits(logits: &Tensor, labels: &Tensor<i64>) -> Result<usize> {
    let best = logits.argmax(1, false)?;
    Ok(best.iter().zip(labels.iter()).filter(|(a, b)| a == b).count())
}

fn train(model: &mut Cnn, data: &Dataset, args: &Args) -> Result<()> {
    let mut adam = Adam::new(args.lr);
    let steps = args.epochs * data.len().div_ceil(args.batch_size.max(1));
    let mut step = 0;
    for epoch in 0..args.epochs {
        let bar = ProgressBar::new(data.len() as u64).with_style(style());
        bar.set_prefix(format!("epoch {}/{}", epoch + 1, args.epochs));
        let (mut seen, mut right, mut loss_sum, start) = (0, 0, 0.0, Instant::now());
        for batch in data.try_batches(args.batch_size)?.shuffled(args.seed ^ ((epoch as u64) << 32))
        {
            if args.cosine {
                adam.set_lr(
                    args.lr
                        * 0.5
                        * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos()),
                );
            }
            let tape = Tape::new(step);
            let net = tape.watch(model);
            let logits = net.forward(&batch.inputs)?;
            let loss = logits.cross_entropy(&batch.labels)?;
            let grads = loss.backward()?;
            adam.step(model, &grads)?;

            step += 1;
            let n = batch.labels.len();
            seen += n;
            right += hits(&logits.detach(), &batch.labels)?;
            loss_sum += loss.item()? as f64 * n as f64;
            bar.inc(n as u64);
            if step % 10 == 0 {
                bar.set_message(progress(loss_sum, right, seen, start));
            }
        }
        bar.finish_and_clear();
        println!("epoch {}/{}: {}", epoch + 1, args.epochs, progress(loss_sum, right, seen, start));
    }
    Ok(())
}

/// Ten steps of a copy of the model, the first one unseen.
fn profile(model: &Cnn, data: &Dataset, args: &Args) -> Result<gradus::profile::Report> {
    let (mut model, mut adam) = (model.clone(), Adam::new(args.lr));
    let mut seen: Option<Profile> = None;
    for (step, batch) in data.try_batches(args.batch_size)?.take(11).enumerate() {
        let net = Tape::new(step as u64).watch(&model);
        let loss = net.forward(&batch.inputs)?.cross_entropy(&batch.labels)?;
        adam.step(&mut model, &loss.backward()?)?;
        match &mut seen {
            None => seen = Some(Profile::start()),
            Some(profile) => profile.step(),
        }
    }
    Ok(seen.unwrap_or_else(Profile::start).finish())
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {msg} eta {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn progress(loss_sum: f64, right: usize, seen: usize, start: Instant) -> String {
    let n = seen.max(1) as f64;
    let seconds = start.elapsed().as_secs_f64();
    format!(
        "loss {:.4}, accuracy {:.2} %, {:.0} images/s, {seconds:.1} s",
        loss_sum / n,
        100.0 * right as f64 / n,
        n / seconds
    )
}

/// Rows are true classes, columns what the model said. Returns the matrix.
fn confusion(model: &Cnn, data: &Dataset) -> Result<Vec<Vec<usize>>> {
    let classes = data.num_classes();
    let mut table = vec![vec![0; classes]; classes];
    for batch in data.try_batches(500)? {
        let said = model.forward(&batch.inputs)?.argmax(1, false)?;
        for (truth, said) in batch.labels.iter().zip(said.iter()) {
            table[truth as usize][said as usize] += 1;
        }
    }
    Ok(table)
}

fn print_confusion(table: &[Vec<usize>], names: &[&str]) {
    let width = names.iter().map(|n| n.chars().count()).max().unwrap_or(1);
    println!("confusion matrix (rows: truth, columns: answer):");
    print!("{:>width$}", "");
    (0..names.len()).for_each(|i| print!(" {i:>5}"));
    println!("   right");
    for (i, row) in table.iter().enumerate() {
        print!("{:>width$}", names[i]);
        row.iter().for_each(|n| print!(" {n:>5}"));
        let total: usize = row.iter().sum();
        println!("  {:5.1} %", 100.0 * row[i] as f64 / total.max(1) as f64);
    }
}

/// A PNG as an input of the network: grey, 28×28, bright strokes on black as in MNIST.
fn read_png(path: &Path) -> std::result::Result<Tensor, Box<dyn std::error::Error>> {
    let mut decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(path)?));
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info()?;
    let size = reader.output_buffer_size().ok_or("the picture is too large")?;
    let mut bytes = vec![0; size];
    let info = reader.next_frame(&mut bytes)?;
    let (w, h) = (info.width as usize, info.height as usize);
    if w == 0 || h == 0 {
        return Err("the picture is empty".into());
    }
    let per = info.color_type.samples();
    let grey = |x: usize, y: usize| {
        let p = &bytes[(y * w + x) * per..][..per];
        let colours = if per >= 3 { 3 } else { 1 };
        let light = p[..colours].iter().map(|&v| v as f32).sum::<f32>() / (255.0 * colours as f32);
        // Transparent counts as background, which is white on paper.
        if per == 2 || per == 4 { 1.0 + (light - 1.0) * p[per - 1] as f32 / 255.0 } else { light }
    };
    // Each of the 28×28 places is the mean of the pixels it covers.
    let mut image = Tensor::from_fn([1, 1, 28, 28], |i| {
        let (row, col) = (i / 28, i % 28);
        let span = |k: usize, n: usize| (k * n / 28, ((k + 1) * n / 28).max(k * n / 28 + 1));
        let ((y0, y1), (x0, x1)) = (span(row, h), span(col, w));
        let sum: f32 =
            (y0..y1).flat_map(|y| (x0..x1).map(move |x| (x, y))).map(|(x, y)| grey(x, y)).sum();
        sum / ((y1 - y0) * (x1 - x0)) as f32
    })?;
    // Ink on paper becomes light on black.
    let border = [(0, 0), (0, w - 1), (h - 1, 0), (h - 1, w - 1)]
        .iter()
        .map(|&(y, x)| grey(x, y))
        .sum::<f32>()
        / 4.0;
    if border > 0.5 {
        image = 1.0 - image;
    }
    Ok(image)
}

fn predict(
    model: &Cnn,
    path: &Path,
    names: &[&str],
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let image = read_png(path).map_err(|e| format!("{}: {e}", path.display()))?;
    for row in image.to_vec().chunks(28) {
        println!(
            "{}",
            row.iter()
                .map(|v| [' ', '.', ':', '+', '#', '@'][(v * 5.99) as usize])
                .collect::<String>()
        );
    }
    let probabilities = model.forward(&image)?.softmax(1)?.to_vec();
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
    for &i in &order[..3] {
        println!("{:6.2} %  {}", 100.0 * probabilities[i], names[i]);
    }
    Ok(())
}

fn main() {
    if let Err(e) = run(&Args::parse()) {
        eprintln!("error: {e}");
        std::process::exit(1);
    }
}

fn run(args: &Args) -> std::result::Result<(), Box<dyn std::error::Error>> {
    gradus::set_num_threads(args.threads);
    let kind = if args.fashion { Kind::Fashion } else { Kind::Mnist };
    let mut names = kind.class_names();
    let mut model = Cnn::new(&mut gradus::rng(args.seed))?;
    if let Some(path) = &args.load {
        model.load(path)?;
    }
    if let Some(path) = &args.predict {
        return predict(&model, path, &names);
    }
    let variable = if args.fashion { "GRADUS_FASHION_MNIST_DIR" } else { "GRADUS_MNIST_DIR" };
    let dir = args.data.clone().or_else(|| std::env::var_os(variable).map(PathBuf::from));
    let (mut data, source) = mnist::find(kind, dir.as_deref(), args.seed)?;
    if matches!(source, Source::Drawn { .. }) {
        // The program draws digits, never clothes.
        names = Kind::Mnist.class_names();
    }
    if let Some(n) = args.limit {
        data.train = data.train.take(n.min(data.train.len()))?;
        data.test = data.test.take(n.min(data.test.len()))?;
    }
    println!("{source}: {} images to learn from, {} to test on", data.train.len(), data.test.len());
    if let Some(folder) = args
        .save
        .as_ref()
        .and_then(|p| p.parent())
        .filter(|f| !f.as_os_str().is_empty() && !f.is_dir())
    {
        // Better told now than after the training.
        return Err(format!("--save: there is no folder {}", folder.display()).into());
    }
    println!("{} parameters, {} threads", model.num_params(), gradus::num_threads());
    train(&mut model, &data.train, args)?;
    if args.profile {
        println!("{}", profile(&model, &data.train, args)?);
    }
    if let Some(path) = &args.save {
        model.save(path)?;
        println!("saved to {}", path.display());
    }
    let table = confusion(&model, &data.test)?;
    print_confusion(&table, &names);
    let right: usize = (0..table.len()).map(|i| table[i][i]).sum();
    println!("test accuracy: {:.2} %", 100.0 * right as f64 / data.test.len() as f64);
    Ok(())
}
