//! The inputs of a dataset: examples of one shape in memory, made into `f32` tensors a batch at a time.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::kernel::par;
use crate::tensor::Tensor;

/// Images as bytes, or numbers as `f32`, the first axis counting the examples.
///
/// Bytes stay bytes in memory, a quarter of the size, and become `f32` in 0..1 when a batch is taken.
#[derive(Clone)]
pub(super) struct Inputs {
    values: Values,
    len: usize,
    example_shape: Vec<usize>,
    /// What normalises a batch: nothing, or one for all channels, or one for each.
    normals: Vec<Normal>,
}

#[derive(Clone)]
enum Values {
    Bytes(Arc<Vec<u8>>),
    Floats(Arc<Vec<f32>>),
}

#[derive(Clone, Copy)]
struct Normal {
    mean: f32,
    std: f32,
}

impl Inputs {
    pub fn floats(t: &Tensor) -> Self {
        Inputs::new(Values::Floats(Arc::new(t.to_vec())), t.shape())
    }

    /// Bytes that are already in a `Vec`, which is kept and not copied.
    pub fn bytes(op: &'static str, bytes: Vec<u8>, shape: &[usize]) -> Result<Self> {
        let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if elements != Some(bytes.len()) {
            let message = format!("{} bytes do not fill the shape {shape:?}", bytes.len());
            return Err(Error::shape(op, message));
        }
        Ok(Inputs::new(Values::Bytes(Arc::new(bytes)), shape))
    }

    /// A rank-0 tensor counts as one example.
    fn new(values: Values, shape: &[usize]) -> Self {
        let (len, example_shape) = match shape {
            [] => (1, vec![]),
            [n, rest @ ..] => (*n, rest.to_vec()),
        };
        Inputs { values, len, example_shape, normals: vec![] }
    }

    /// The number of examples.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The shape of one example.
    pub fn example_shape(&self) -> &[usize] {
        &self.example_shape
    }

    /// The number of channels of an example: its first dimension, or 1.
    fn channels(&self) -> usize {
        self.example_shape.first().copied().unwrap_or(1)
    }

    /// The same inputs, from which every batch then has (x − mean) / std.
    pub fn normalized(&self, mean: &[f32], std: &[f32]) -> Result<Self> {
        const OP: &str = "normalized";
        let channels = self.channels();
        for (what, given) in [("means", mean), ("standard deviations", std)] {
            if given.len() != 1 && given.len() != channels {
                return Err(Error::shape(
                    OP,
                    format!(
                        "{} {what} for examples of shape {:?}: expected 1 or {channels}",
                        given.len(),
                        self.example_shape
                    ),
                ));
            }
        }
        if let Some(m) = mean.iter().find(|m| !m.is_finite()) {
            return Err(Error::argument(OP, format!("mean {m}: expected a finite number")));
        }
        if let Some(s) = std.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
            return Err(Error::argument(
                OP,
                format!("standard deviation {s}: expected a finite number above 0"),
            ));
        }
        let count = mean.len().max(std.len());
        let pairs = mean.iter().cycle().zip(std.iter().cycle()).take(count);
        let normals = pairs.map(|(&mean, &std)| Normal { mean, std }).collect();
        Ok(Inputs { normals, ..self.clone() })
    }

    /// Mean and standard deviation of each channel over the given rows, of the values before any normalisation.
    pub fn mean_std(&self, rows: impl Iterator<Item = usize> + Clone) -> (Vec<f32>, Vec<f32>) {
        let example: usize = self.example_shape.iter().product();
        let channel: usize = self.example_shape.iter().skip(1).product();
        let channels = self.channels();
        let count = (rows.clone().count() * channel).max(1) as f64;
        // The sum of f(c, x) over the elements x of channel c. Two passes, so that nothing cancels.
        let sums = |f: &dyn Fn(usize, f64) -> f64| -> Vec<f64> {
            let mut sums = vec![0.0; channels];
            for row in rows.clone() {
                for (c, sum) in sums.iter_mut().enumerate() {
                    let start = row * example + c * channel;
                    let range = start..start + channel;
                    *sum += match &self.values {
                        Values::Bytes(v) => {
                            v[range].iter().map(|&b| f(c, f64::from(b) / 255.0)).sum::<f64>()
                        }
                        Values::Floats(v) => {
                            v[range].iter().map(|&x| f(c, f64::from(x))).sum::<f64>()
                        }
                    };
                }
            }
            sums.into_iter().map(|s| s / count).collect()
        };
        let mean = sums(&|_, x| x);
        let variance = sums(&|c, x| (x - mean[c]) * (x - mean[c]));
        (
            mean.into_iter().map(|m| m as f32).collect(),
            variance.into_iter().map(|v| v.sqrt() as f32).collect(),
        )
    }

    /// The rows that `row(0)`, `row(1)`, … `row(n - 1)` name, as a tensor `[n, example…]`.
    pub fn gather(&self, n: usize, row: impl Fn(usize) -> usize + Sync) -> Tensor {
        /// Measured on one thread, mostly waiting for examples that lie far apart.
        const NS_PER_ELEMENT: f64 = 0.9;
        let example: usize = self.example_shape.iter().product();
        let shape: Vec<usize> = [&[n], &self.example_shape[..]].concat();
        Tensor::build(&shape, |out| {
            par::for_each_chunk_mut(out, example, NS_PER_ELEMENT, |i, out| {
                let from = row(i) * example..(row(i) + 1) * example;
                match &self.values {
                    Values::Bytes(v) => self.convert(&v[from], out, |b| f32::from(b) / 255.0),
                    Values::Floats(v) => self.convert(&v[from], out, |x| x),
                }
            });
        })
    }

    /// One example: `f`, then each channel's normalisation.
    fn convert<T: Copy>(&self, from: &[T], out: &mut [f32], f: impl Fn(T) -> f32) {
        if self.normals.is_empty() {
            out.iter_mut().zip(from).for_each(|(o, &x)| *o = f(x));
            return;
        }
        let size = (out.len() / self.normals.len()).max(1);
        for ((out, from), n) in out.chunks_mut(size).zip(from.chunks(size)).zip(&self.normals) {
            out.iter_mut().zip(from).for_each(|(o, &x)| *o = (f(x) - n.mean) / n.std);
        }
    }
}
