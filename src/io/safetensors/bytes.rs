//! Elements to bytes and back, little-endian on every machine.

use std::io::{Read, Write};
use std::path::Path;

use crate::element::Element;
use crate::error::Error;
use crate::tensor::Tensor;

/// An element that can be written as bytes.
pub(super) trait Bytes: Element {
    fn put(self, out: &mut [u8]);
    /// `None` if the bytes are no value of the type.
    fn take(bytes: &[u8]) -> Option<Self>;
}

macro_rules! bytes {
    ($($t:ty),*) => {$(
        impl Bytes for $t {
            #[inline(always)]
            fn put(self, out: &mut [u8]) {
                out.copy_from_slice(&self.to_le_bytes());
            }
            #[inline(always)]
            fn take(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(<$t>::from_le_bytes)
            }
        }
    )*};
}
bytes!(f32, f64, i64, i32, u8);

impl Bytes for bool {
    fn put(self, out: &mut [u8]) {
        out[0] = self as u8;
    }
    fn take(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}

/// Runs an expression with `$t` as the element type of a name known at run time.
macro_rules! with_element {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::element::DType::F32 => {
                type $t = f32;
                $body
            }
            $crate::element::DType::F64 => {
                type $t = f64;
                $body
            }
            $crate::element::DType::I64 => {
                type $t = i64;
                $body
            }
            $crate::element::DType::I32 => {
                type $t = i32;
                $body
            }
            $crate::element::DType::U8 => {
                type $t = u8;
                $body
            }
            $crate::element::DType::Bool => {
                type $t = bool;
                $body
            }
        }
    };
}
pub(super) use with_element;

/// Elements that are converted at a time.
const BLOCK: usize = 4096;

/// What can go wrong while elements are read: the stream, or what is in it.
pub(super) enum Failed {
    Io(std::io::Error),
    Content(Error),
}

impl Failed {
    pub(super) fn or(self, io: impl FnOnce(std::io::Error) -> Error) -> Error {
        match self {
            Failed::Io(e) => io(e),
            Failed::Content(e) => e,
        }
    }
}

/// A tensor whose size was checked against the stream's.
pub(super) fn read<T: Bytes>(
    r: &mut impl Read,
    shape: &[usize],
    name: &str,
    path: &Path,
) -> Result<Tensor<T>, Failed> {
    let mut result = Ok(());
    let tensor = Tensor::try_build("safetensors", shape, |out| result = fill(r, out, name, path));
    result?;
    tensor.map_err(Failed::Content)
}

fn fill<T: Bytes>(r: &mut impl Read, out: &mut [T], name: &str, path: &Path) -> Result<(), Failed> {
    let mut buffer = vec![0; BLOCK.min(out.len()) * size_of::<T>()];
    for block in out.chunks_mut(BLOCK) {
        let bytes = &mut buffer[..size_of_val(block)];
        r.read_exact(bytes).map_err(Failed::Io)?;
        for (v, b) in block.iter_mut().zip(bytes.chunks_exact(size_of::<T>())) {
            *v = T::take(b).ok_or_else(|| {
                Failed::Content(Error::Format {
                    path: path.to_path_buf(),
                    message: format!(
                        "the tensor {name:?} has an element that is no {}: {b:?}",
                        T::DTYPE
                    ),
                })
            })?;
        }
    }
    Ok(())
}

pub(super) fn write<T: Bytes>(w: &mut dyn Write, t: &Tensor<T>) -> std::io::Result<()> {
    let t = t.dense();
    let values = t.as_slice().unwrap_or(&[]);
    let mut buffer = vec![0; BLOCK.min(values.len()) * size_of::<T>()];
    for block in values.chunks(BLOCK) {
        let bytes = &mut buffer[..size_of_val(block)];
        for (v, b) in block.iter().zip(bytes.chunks_exact_mut(size_of::<T>())) {
            v.put(b);
        }
        w.write_all(bytes)?;
    }
    Ok(())
}
