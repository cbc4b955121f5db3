//! The safetensors format: named tensors of any element type in one file (<https://github.com/huggingface/safetensors>).
//!
//! ```text
//! 8 bytes     n, the length of the header, little-endian
//! n bytes     the header: JSON with the dtype, shape and place of every tensor
//! the rest    the elements of all tensors, little-endian, row-major, without gaps
//! ```
//!
//! Reading is strict, and safe with files of any origin: everything that the header says is checked against the file's real size
//! before memory is taken for it.
//!
//! ```
//! use gradus::io::safetensors::{self, TensorMap};
//! use gradus::prelude::*;
//!
//! let mut map = TensorMap::new();
//! map.insert("x", Tensor::from([[1.0f32, 2.0], [3.0, 4.0]]));
//! map.insert("ids", Tensor::from([3i64, 1]));
//! map.metadata.insert("author".into(), "Ada".into());
//! let bytes = safetensors::to_bytes(&map)?;
//!
//! let back = safetensors::from_bytes(&bytes)?;
//! assert_eq!(back.get::<f32>("x").unwrap().shape(), [2, 2]);
//! assert_eq!(back.get::<i64>("ids").unwrap().to_vec(), [3, 1]);
//! assert_eq!(back.metadata["author"], "Ada");
//! # Ok::<(), Error>(())
//! ```

mod bytes;
mod header;
mod map;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use crate::error::{Error, Result};
use bytes::with_element;
use header::Entry;
pub use map::{TensorMap, Value};

/// The longest header that is read, as in the format's reference implementation.
const LONGEST_HEADER: u64 = 100_000_000;

/// Reads all tensors of a file.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, [`Error::Format`] if it is not a safetensors file of known element types.
pub fn read(path: impl AsRef<Path>) -> Result<TensorMap> {
    let path = path.as_ref();
    let io = |source| Error::Io { path: path.to_path_buf(), source };
    let file = File::open(path).map_err(io)?;
    let meta = file.metadata().map_err(io)?;
    if meta.is_dir() {
        return Err(io(std::io::Error::new(std::io::ErrorKind::InvalidInput, "this is a folder")));
    }
    read_from(&mut BufReader::new(file), meta.len(), path)
}

/// Reads all tensors from the content of a file.
///
/// # Errors
/// [`Error::Format`] if it is not that of a safetensors file of known element types.
pub fn from_bytes(bytes: &[u8]) -> Result<TensorMap> {
    read_from(&mut &bytes[..], bytes.len() as u64, Path::new("(bytes)"))
}

/// Writes a file. A file of that name is replaced as a whole, or not at all.
///
/// # Errors
/// [`Error::Io`] if it cannot be written, [`Error::Argument`] if a tensor has the reserved name `__metadata__`.
pub fn write(path: impl AsRef<Path>, map: &TensorMap) -> Result<()> {
    let (entries, header) = layout(map)?;
    super::atomic::write(path.as_ref(), |w| write_to(w, map, &entries, &header))
}

/// The content of a file.
///
/// # Errors
/// [`Error::Argument`] if a tensor has the reserved name `__metadata__`.
pub fn to_bytes(map: &TensorMap) -> Result<Vec<u8>> {
    let (entries, header) = layout(map)?;
    let data = entries.last().map_or(0, |e| e.end as usize);
    let mut out = Vec::with_capacity(8 + header.len() + data);
    let written = write_to(&mut out, map, &entries, &header);
    written.map_err(|source| Error::Io { path: "(bytes)".into(), source })?;
    Ok(out)
}

/// The places of the tensors: wide elements first, so that all are aligned, and then by name.
fn layout(map: &TensorMap) -> Result<(Vec<Entry>, String)> {
    if let Some((name, _)) = map.iter().find(|(name, _)| header::is_reserved(name)) {
        let message = format!("no tensor can be called {name}: the format uses that name itself");
        return Err(Error::argument("safetensors", message));
    }
    let mut entries: Vec<Entry> = map
        .iter()
        .map(|(name, v)| {
            let (dtype, shape) = (v.dtype(), v.shape().to_vec());
            Entry { name: name.to_string(), dtype, shape, begin: 0, end: 0 }
        })
        .collect();
    entries.sort_by_key(|e| std::cmp::Reverse(header::size_of(e.dtype)));
    let mut at = 0;
    for e in &mut entries {
        e.begin = at;
        at += e.shape.iter().product::<usize>() as u64 * header::size_of(e.dtype);
        e.end = at;
    }
    let header = header::format(&entries, &map.metadata);
    Ok((entries, header))
}

fn write_to(
    w: &mut dyn Write,
    map: &TensorMap,
    entries: &[Entry],
    header: &str,
) -> std::io::Result<()> {
    w.write_all(&(header.len() as u64).to_le_bytes())?;
    w.write_all(header.as_bytes())?;
    for e in entries {
        if let Some(value) = map.value(&e.name) {
            value.write_to(w)?;
        }
    }
    Ok(())
}

/// Reads a stream of `len` bytes; `path` is for messages.
fn read_from(r: &mut impl Read, len: u64, path: &Path) -> Result<TensorMap> {
    let wrong = |message: String| Error::Format { path: path.to_path_buf(), message };
    let io = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            wrong("the file became shorter while it was read".into())
        }
        _ => Error::Io { path: path.to_path_buf(), source },
    };
    if len < 8 {
        return Err(wrong(format!("{len} bytes are too few for a safetensors file")));
    }
    let mut n = [0; 8];
    r.read_exact(&mut n).map_err(io)?;
    let n = u64::from_le_bytes(n);
    if n > LONGEST_HEADER {
        return Err(wrong(format!(
            "not a safetensors file, or a damaged one: its header would have {n} bytes, more than the {LONGEST_HEADER} allowed"
        )));
    }
    if n > len - 8 {
        return Err(wrong(format!("the header has {n} bytes, but the file only {} more", len - 8)));
    }
    let mut header = vec![0; n as usize];
    r.read_exact(&mut header).map_err(io)?;
    let (entries, metadata) = header::parse(&header, len - 8 - n).map_err(wrong)?;
    let mut map = TensorMap::new();
    map.metadata = metadata;
    for e in entries {
        let value = with_element!(e.dtype, T => Value::from(bytes::read::<T>(r, &e.shape, &e.name, path).map_err(|e| e.or(io))?));
        map.insert(e.name, value);
    }
    Ok(map)
}
