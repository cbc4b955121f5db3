//! IDX, the file format of MNIST: an array of any rank, plain or packed with gzip.
//!
//! A file is two zero bytes, one byte that names the element type, one for the rank, the dimensions as big-endian `u32`, and the
//! elements in row-major order, big-endian. Format: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of
//! handwritten digits".

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::gzip::{self, GzipReader};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The content of an IDX file.
#[derive(Clone, Debug, PartialEq)]
pub struct Idx {
    /// The dimensions; empty for a single number.
    pub shape: Vec<usize>,
    /// The elements in row-major order.
    pub values: Values,
}

/// The elements of an IDX file, in the type that the file holds them in.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Bytes, code 0x08: images and labels.
    U8(Vec<u8>),
    /// Signed bytes, code 0x09.
    I8(Vec<i8>),
    /// Code 0x0b.
    I16(Vec<i16>),
    /// Code 0x0c.
    I32(Vec<i32>),
    /// Code 0x0d.
    F32(Vec<f32>),
    /// Code 0x0e.
    F64(Vec<f64>),
}

/// What the third byte of a file can say.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    U8 = 0x08,
    I8 = 0x09,
    I16 = 0x0b,
    I32 = 0x0c,
    F32 = 0x0d,
    F64 = 0x0e,
}

impl Kind {
    const ALL: [(Kind, usize, &str); 6] = [
        (Kind::U8, 1, "u8"),
        (Kind::I8, 1, "i8"),
        (Kind::I16, 2, "i16"),
        (Kind::I32, 4, "i32"),
        (Kind::F32, 4, "f32"),
        (Kind::F64, 8, "f64"),
    ];
}

/// Reads an IDX file; one packed with gzip is recognised by its first bytes, whatever its name.
///
/// Nothing in the file is taken on its word: the size that the header states is compared with the file's before memory is
/// allocated, and a packed file is inflated up to the stated size and no further.
///
/// # Errors
/// [`Error::Io`] if the file can't be read; [`Error::Format`] if it isn't an IDX file, is cut short, has bytes left over, states a
/// size that overflows, or is a damaged gzip stream.
///
/// ```
/// use gradus::data::idx::{self, Values};
/// let path = std::env::temp_dir().join(format!("three-{}.idx", std::process::id()));
/// std::fs::write(&path, [0, 0, 8, 1, 0, 0, 0, 3, 10, 20, 30])?;
/// let three = idx::read(&path)?;
/// assert_eq!(three.shape, [3]);
/// assert_eq!(three.values, Values::U8(vec![10, 20, 30]));
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read(path: impl AsRef<Path>) -> Result<Idx> {
    let path = path.as_ref();
    let io_error = |source| Error::Io { path: path.into(), source };
    let file = File::open(path).map_err(io_error)?;
    let meta = file.metadata().map_err(io_error)?;
    // A pipe or device has no length to compare with; it is then read as far as it goes.
    let length = meta.is_file().then_some(meta.len());
    decode(BufReader::with_capacity(1 << 16, file), length, path)
}

/// As [`read`], from bytes in memory; `name` stands for the file in errors.
///
/// # Errors
/// As [`read`].
pub fn parse(bytes: &[u8], name: impl AsRef<Path>) -> Result<Idx> {
    decode(bytes, Some(bytes.len() as u64), name.as_ref())
}

/// Reads a file that must hold bytes, and returns its shape and elements.
pub(crate) fn read_u8(path: &Path) -> Result<(Vec<usize>, Vec<u8>)> {
    let Idx { shape, values } = read(path)?;
    match values {
        Values::U8(bytes) => Ok((shape, bytes)),
        other => {
            Err(format_error(path, format!("holds {}, expected u8 elements", other.type_name())))
        }
    }
}

impl Idx {
    /// The elements as a tensor of the same shape, converted like `as` where the types differ.
    ///
    /// ```
    /// use gradus::data::idx;
    /// let file = [0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 2, 10, 20];
    /// let x = idx::parse(&file, "example")?.to_tensor::<f32>()?;
    /// assert_eq!((x.shape(), x.to_vec()), (&[1, 2][..], vec![10.0, 20.0]));
    /// # Ok::<(), gradus::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if `shape` was changed so that the elements don't fill it.
    pub fn to_tensor<T: Element>(&self) -> Result<Tensor<T>> {
        let values: Vec<T> = match &self.values {
            Values::U8(v) => v.iter().map(|x| x.cast()).collect(),
            Values::I8(v) => v.iter().map(|&x| i32::from(x).cast()).collect(),
            Values::I16(v) => v.iter().map(|&x| i32::from(x).cast()).collect(),
            Values::I32(v) => v.iter().map(|x| x.cast()).collect(),
            Values::F32(v) => v.iter().map(|x| x.cast()).collect(),
            Values::F64(v) => v.iter().map(|x| x.cast()).collect(),
        };
        Tensor::from_vec(values, &self.shape[..])
    }
}

impl Values {
    fn type_name(&self) -> &'static str {
        match self {
            Values::U8(_) => "u8",
            Values::I8(_) => "i8",
            Values::I16(_) => "i16",
            Values::I32(_) => "i32",
            Values::F32(_) => "f32",
            Values::F64(_) => "f64",
        }
    }
}

/// What is known about the number of bytes to come before they are read.
enum Size {
    Exactly(u64),
    AtMost(u64),
    Unknown,
}

fn decode(mut file: impl BufRead, length: Option<u64>, path: &Path) -> Result<Idx> {
    let first = file.fill_buf().map_err(|e| read_error(e, path, ""))?;
    if first.starts_with(&gzip::MAGIC) {
        let most =
            length.map_or(Size::Unknown, |n| Size::AtMost(n.saturating_mul(gzip::MAX_RATIO)));
        decode_plain(GzipReader::new(file), most, path)
    } else {
        decode_plain(file, length.map_or(Size::Unknown, Size::Exactly), path)
    }
}

fn decode_plain(mut file: impl Read, size: Size, path: &Path) -> Result<Idx> {
    let (kind, shape) = header(&mut file, path)?;
    let (_, width, name) = Kind::ALL.into_iter().find(|k| k.0 == kind).expect("ALL has every kind");
    let dims = shape.iter().map(|d| d.to_string()).collect::<Vec<_>>().join(" × ");
    let described = format!("{} of {name}", if dims.is_empty() { "1" } else { &dims });

    let header_len = 4 + 4 * shape.len() as u64;
    let bytes = shape
        .iter()
        .try_fold(width as u64, |n, &d| n.checked_mul(d as u64))
        .filter(|n| n.checked_add(header_len).is_some_and(|n| n <= isize::MAX as u64));
    let Some(bytes) = bytes else {
        return Err(format_error(path, format!("the header states {described}: too many bytes")));
    };
    let total = header_len + bytes;
    let problem = match size {
        Size::Exactly(n) if n < total => Some(format!(
            "cut short: the header states {described}, {total} bytes in all, and the file has {n}"
        )),
        Size::Exactly(n) if n > total => Some(format!(
            "bytes left over: the header states {described}, {total} bytes in all, and the file has {n}"
        )),
        Size::AtMost(n) if n < total => Some(format!(
            "the header states {described}, {total} bytes in all, more than a gzip file of {} bytes can hold",
            n / gzip::MAX_RATIO
        )),
        _ => None,
    };
    if let Some(message) = problem {
        return Err(format_error(path, message));
    }
    let raw = read_payload(&mut file, bytes as usize, &described, path)?;
    let values = match kind {
        Kind::U8 => Values::U8(raw),
        Kind::I8 => Values::I8(raw.into_iter().map(|b| b as i8).collect()),
        Kind::I16 => Values::I16(big_endian(&raw, i16::from_be_bytes)),
        Kind::I32 => Values::I32(big_endian(&raw, i32::from_be_bytes)),
        Kind::F32 => Values::F32(big_endian(&raw, f32::from_be_bytes)),
        Kind::F64 => Values::F64(big_endian(&raw, f64::from_be_bytes)),
    };
    Ok(Idx { shape, values })
}

fn big_endian<const N: usize, T>(raw: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    raw.as_chunks::<N>().0.iter().map(|b| from(*b)).collect()
}

/// Element type and shape.
fn header(file: &mut impl Read, path: &Path) -> Result<(Kind, Vec<usize>)> {
    let [a, b, code, rank] = header_word(file, path)?;
    let kind = Kind::ALL.into_iter().find(|k| k.0 as u8 == code);
    let (0, 0, Some((kind, ..))) = (a, b, kind) else {
        return Err(format_error(
            path,
            format!(
                "not an IDX file: it begins with {a:02x} {b:02x} {code:02x} {rank:02x}, expected 00 00, an element type \
                 (08, 09, 0b, 0c, 0d or 0e) and the rank"
            ),
        ));
    };
    let shape = (0..rank)
        .map(|_| Ok(u32::from_be_bytes(header_word(file, path)?) as usize))
        .collect::<Result<_>>()?;
    Ok((kind, shape))
}

fn header_word(file: &mut impl Read, path: &Path) -> Result<[u8; 4]> {
    let mut word = [0; 4];
    file.read_exact(&mut word).map_err(|e| read_error(e, path, "the IDX header: "))?;
    Ok(word)
}

/// Exactly `wanted` bytes and then the end. Memory grows with what arrives, never ahead of it to more than twice as much.
fn read_payload(
    file: &mut impl Read,
    wanted: usize,
    described: &str,
    path: &Path,
) -> Result<Vec<u8>> {
    const FIRST: usize = 1 << 20;
    let mut data = Vec::with_capacity(wanted.min(FIRST));
    while data.len() < wanted {
        let more = (wanted - data.len()).min(data.len().max(FIRST));
        data.reserve_exact(more);
        let got = file.by_ref().take(more as u64).read_to_end(&mut data).map_err(|e| {
            read_error(e, path, &format!("after {} of {wanted} bytes: ", data.len()))
        })?;
        if got < more {
            return Err(format_error(
                path,
                format!(
                    "cut short: the header states {described}, {wanted} bytes, and only {} follow",
                    data.len()
                ),
            ));
        }
    }
    match file.read(&mut [0]).map_err(|e| read_error(e, path, ""))? {
        0 => Ok(data),
        _ => Err(format_error(
            path,
            format!(
                "bytes left over: the header states {described}, {wanted} bytes, and more follow"
            ),
        )),
    }
}

fn read_error(e: io::Error, path: &Path, at: &str) -> Error {
    match e.kind() {
        io::ErrorKind::UnexpectedEof if e.get_ref().is_none() => {
            format_error(path, format!("{at}cut short"))
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => {
            format_error(path, format!("{at}{e}"))
        }
        _ => Error::Io { path: path.into(), source: e },
    }
}

fn format_error(path: &Path, message: String) -> Error {
    Error::Format { path: path.into(), message }
}

#[cfg(test)]
#[path = "idx_tests.rs"]
mod tests;
