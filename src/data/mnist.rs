//! MNIST and Fashion-MNIST: 70,000 images of 28 × 28 bytes in ten classes, from four IDX files.
//!
//! MNIST: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits". Fashion-MNIST: H. Xiao, K. Rasul,
//! R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms", 2017.
//!
//! [`load`] reads a folder, [`digits()`] draws a set that needs no files, [`find`] takes what there is. With the feature
//! `download`, `download` fetches the files.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::digits::{SIDE, generate};
use super::{Dataset, idx};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

const CLASSES: usize = 10;

/// A training set and a test set of images `[1, 28, 28]` in ten classes.
#[derive(Clone, Debug)]
pub struct Mnist {
    /// What a model learns from; 60,000 images in the originals.
    pub train: Dataset,
    /// What it is judged by; 10,000 images in the originals.
    pub test: Dataset,
}

/// Which of the two data sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Handwritten digits.
    Mnist,
    /// Clothes.
    Fashion,
}

impl Kind {
    /// The names of the ten classes, in the order of their labels.
    pub fn class_names(self) -> [&'static str; CLASSES] {
        match self {
            Kind::Mnist => ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
            Kind::Fashion => [
                "T-shirt/top",
                "Trouser",
                "Pullover",
                "Dress",
                "Coat",
                "Sandal",
                "Shirt",
                "Sneaker",
                "Bag",
                "Ankle boot",
            ],
        }
    }

    /// The name of its folder.
    fn folder(self) -> &'static str {
        match self {
            Kind::Mnist => "mnist",
            Kind::Fashion => "fashion-mnist",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Mnist => "MNIST",
            Kind::Fashion => "Fashion-MNIST",
        })
    }
}

/// The usual names of the files: images and labels for training, images and labels for testing.
pub(super) const FILES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// Reads MNIST or Fashion-MNIST from a folder with the four files of the usual names (`train-images-idx3-ubyte`,
/// `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte`, `t10k-labels-idx1-ubyte`), each with or without `.gz`.
///
/// ```no_run
/// use gradus::data::mnist;
/// let mnist = mnist::load("data/mnist")?;
/// for batch in mnist.train.batches(64).shuffled(0) {
///     assert_eq!(batch.inputs.shape()[1..], [1, 28, 28]);
/// }
/// # Ok::<(), gradus::Error>(())
/// ```
///
/// # Errors
/// [`Error::Io`] if a file is missing or can't be read; [`Error::Format`] if one is not a sound IDX file of bytes, if images aren't
/// 28 × 28, if a label is above 9, or if images and labels differ in number or there are none.
pub fn load(dir: impl AsRef<Path>) -> Result<Mnist> {
    let dir = dir.as_ref();
    let [train_images, train_labels, test_images, test_labels] = FILES;
    Ok(Mnist {
        train: load_part(dir, train_images, train_labels)?,
        test: load_part(dir, test_images, test_labels)?,
    })
}

fn load_part(dir: &Path, images: &str, labels: &str) -> Result<Dataset> {
    let (image_path, label_path) = (locate(dir, images)?, locate(dir, labels)?);
    let format = |path: &Path, message| Err(Error::Format { path: path.into(), message });
    // The small file first: if it is wrong, the large one need not be read.
    let (shape, labels) = idx::read_u8(&label_path)?;
    if shape.len() != 1 {
        return format(
            &label_path,
            format!("holds an array of shape {shape:?}, expected labels [n]"),
        );
    }
    if let Some((i, label)) = labels.iter().enumerate().find(|(_, l)| **l as usize >= CLASSES) {
        return format(&label_path, format!("label {i} is {label}, expected 0 to {}", CLASSES - 1));
    }
    let (shape, pixels) = idx::read_u8(&image_path)?;
    let [n, SIDE, SIDE] = shape[..] else {
        return format(
            &image_path,
            format!("holds an array of shape {shape:?}, expected images [n, {SIDE}, {SIDE}]"),
        );
    };
    if n != labels.len() {
        let images = image_path.display();
        return format(
            &label_path,
            format!("holds {} labels, but {images} holds {n} images", labels.len()),
        );
    }
    if n == 0 {
        return format(&image_path, "holds no images".into());
    }
    dataset(pixels, &labels)
}

/// The path of a file that may be packed or not.
fn locate(dir: &Path, name: &str) -> Result<PathBuf> {
    [dir.join(name), dir.join(format!("{name}.gz"))].into_iter().find(|p| p.is_file()).ok_or_else(
        || Error::Io {
            path: dir.join(name),
            source: io::Error::new(io::ErrorKind::NotFound, "no such file, nor with .gz"),
        },
    )
}

/// Whether a folder has files of all four names.
fn is_complete(dir: &Path) -> bool {
    FILES.iter().all(|name| locate(dir, name).is_ok())
}

fn dataset(pixels: Vec<u8>, labels: &[u8]) -> Result<Dataset> {
    let n = labels.len();
    let labels = Tensor::from_vec(labels.iter().map(|&l| i64::from(l)).collect(), [n])?;
    Dataset::images(pixels, [n, 1, SIDE, SIDE], &labels, CLASSES)
}

/// The same form without any files: digits drawn by [`generate`], training and test set from different streams of the seed.
///
/// ```
/// use gradus::data::mnist;
/// let drawn = mnist::digits(200, 50, 1)?;
/// assert_eq!((drawn.train.len(), drawn.test.len()), (200, 50));
/// assert_eq!(drawn.test.example_shape(), [1, 28, 28]);
/// # Ok::<(), gradus::Error>(())
/// ```
///
/// # Errors
/// [`Error::Argument`] if either number is 0.
pub fn digits(train: usize, test: usize, seed: u64) -> Result<Mnist> {
    let draw = |n, seed| {
        let drawn = generate(n, seed);
        dataset(drawn.images, &drawn.labels)
    };
    // Any seed far away in the scrambled order will do for the test set.
    Ok(Mnist { train: draw(train, seed)?, test: draw(test, !seed)? })
}

/// Where [`find`] looks for files that were downloaded: `gradus/mnist` or `gradus/fashion-mnist` in the user's cache folder, which is
/// `XDG_CACHE_HOME`, else `~/.cache`; on Windows `LOCALAPPDATA`. `None` if no such variable is set.
pub fn cache_dir(kind: Kind) -> Option<PathBuf> {
    cache_in(kind, |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from))
}

fn cache_in(kind: Kind, var: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let base = if cfg!(windows) {
        var("LOCALAPPDATA")
    } else {
        // The XDG specification has relative paths ignored.
        let cache = var("XDG_CACHE_HOME").filter(|p| p.is_absolute());
        cache.or_else(|| var("HOME").map(|home| home.join(".cache")))
    };
    base.map(|base| base.join("gradus").join(kind.folder()))
}

/// Where the data of [`find`] came from. Printed, it is a line for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The folder that was asked for.
    Folder(PathBuf),
    /// The user's cache folder.
    Cache(PathBuf),
    /// Downloaded just now, into the user's cache folder.
    Downloaded(PathBuf),
    /// Drawn by the program, because of what `reason` says.
    Drawn {
        /// Why there were no files.
        reason: String,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Folder(dir) => write!(f, "data from {}", dir.display()),
            Source::Cache(dir) => write!(f, "data from the cache in {}", dir.display()),
            Source::Downloaded(dir) => write!(f, "data downloaded to {}", dir.display()),
            Source::Drawn { reason } => {
                write!(f, "{reason}; using digits drawn by the program instead")
            }
        }
    }
}

/// How many digits [`find`] draws for training and for testing when there are no files.
pub const DRAWN: (usize, usize) = (20_000, 4_000);

/// The data that there is: from `dir` if one is given; else from the cache folder; else, with the feature `download`, fetched into the cache folder; else
/// digits drawn from `seed`, [`DRAWN`] of them (also in place of Fashion-MNIST). Print the [`Source`] to tell the user.
///
/// ```no_run
/// use gradus::data::mnist::{self, Kind};
/// let (mnist, source) = mnist::find(Kind::Mnist, None, 0)?;
/// println!("{source}");
/// # Ok::<(), gradus::Error>(())
/// ```
///
/// # Errors
/// Those of [`load`], for a folder that was given and for a cache folder that has all four files. A download that fails is not an
/// error but a reason to draw.
pub fn find(kind: Kind, dir: Option<&Path>, seed: u64) -> Result<(Mnist, Source)> {
    find_in(kind, dir, cache_dir(kind), seed, fetch)
}

#[cfg(feature = "download")]
fn fetch(kind: Kind, dir: &Path) -> Result<(), String> {
    download(kind, dir, None).map_err(|e| format!("downloading {kind} failed ({e})"))
}

#[cfg(not(feature = "download"))]
fn fetch(kind: Kind, dir: &Path) -> Result<(), String> {
    Err(format!("no {kind} in {}, and built without the feature download", dir.display()))
}

fn find_in(
    kind: Kind,
    dir: Option<&Path>,
    cache: Option<PathBuf>,
    seed: u64,
    fetch: impl Fn(Kind, &Path) -> Result<(), String>,
) -> Result<(Mnist, Source)> {
    if let Some(dir) = dir {
        return Ok((load(dir)?, Source::Folder(dir.into())));
    }
    let reason = match cache {
        Some(cache) if is_complete(&cache) => return Ok((load(&cache)?, Source::Cache(cache))),
        Some(cache) => match fetch(kind, &cache) {
            Ok(()) => return Ok((load(&cache)?, Source::Downloaded(cache))),
            Err(reason) => reason,
        },
        None => format!("no folder given for {kind}, and the user has no cache folder"),
    };
    Ok((digits(DRAWN.0, DRAWN.1, seed)?, Source::Drawn { reason }))
}

#[cfg(feature = "download")]
pub use super::download::download;

#[cfg(test)]
#[path = "mnist_tests.rs"]
mod tests;
