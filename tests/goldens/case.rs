//! One reference case: reading it, laying its inputs out in memory, comparing what came out.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::rc::Rc;

use gradus::prelude::*;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::dispatch;

/// A stored tensor, dense row-major.
#[derive(Clone)]
pub enum Stored {
    F64(Vec<usize>, Vec<f64>),
    I64(Vec<usize>, Vec<i64>),
    Bool(Vec<usize>, Vec<bool>),
}

pub struct Case {
    pub id: String,
    pub family: String,
    pub op: String,
    pub attrs: Value,
    tags: Vec<String>,
    inputs: Vec<Value>,
    outputs: Vec<Value>,
    tensors: Rc<HashMap<String, Stored>>,
}

pub enum Outcome {
    Agrees,
    Missing,
    Differs(String),
}

/// What an operator takes.
pub struct Inputs<T: Float> {
    pub floats: BTreeMap<String, Tensor<T>>,
    pub ints: BTreeMap<String, Tensor<i64>>,
    pub bools: BTreeMap<String, Tensor<bool>>,
}

impl<T: Float> Inputs<T> {
    pub fn get(&self, name: &str) -> &Tensor<T> {
        self.floats.get(name).unwrap_or_else(|| panic!("no input {name}"))
    }
    pub fn maybe(&self, name: &str) -> Option<&Tensor<T>> {
        self.floats.get(name)
    }
    /// All inputs whose name begins so, in the order of their names.
    pub fn all(&self, prefix: &str) -> Vec<&Tensor<T>> {
        self.floats.iter().filter(|(k, _)| k.starts_with(prefix)).map(|(_, v)| v).collect()
    }
}

/// What an operator gives.
pub enum Output<T: Float> {
    Float(Tensor<T>),
    Int(Tensor<i64>),
}

impl<T: Float> From<Tensor<T>> for Output<T> {
    fn from(t: Tensor<T>) -> Self {
        Output::Float(t)
    }
}

pub type Outputs<T> = Vec<(String, Output<T>)>;

fn read_file(path: &Path) -> HashMap<String, Stored> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let eight = |c: &[u8]| -> [u8; 8] { c.try_into().unwrap() };
    file.tensors()
        .into_iter()
        .map(|(name, t)| {
            let shape = t.shape().to_vec();
            let stored = match t.dtype() {
                Dtype::F64 => Stored::F64(
                    shape,
                    t.data().chunks_exact(8).map(|c| f64::from_le_bytes(eight(c))).collect(),
                ),
                Dtype::I64 => Stored::I64(
                    shape,
                    t.data().chunks_exact(8).map(|c| i64::from_le_bytes(eight(c))).collect(),
                ),
                Dtype::BOOL => Stored::Bool(shape, t.data().iter().map(|&b| b != 0).collect()),
                other => panic!("{name}: {other:?}"),
            };
            (name, stored)
        })
        .collect()
}

pub fn load(dir: &Path) -> Vec<Case> {
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(dir.join("manifest.json")).unwrap()).unwrap();
    let mut files: HashMap<String, Rc<HashMap<String, Stored>>> = HashMap::new();
    let text = |v: &Value| v.as_str().unwrap().to_string();
    let list = |v: &Value| v.as_array().unwrap().clone();
    list(&manifest["cases"])
        .iter()
        .map(|c| {
            let file = text(&c["file"]);
            let tensors = files
                .entry(file.clone())
                .or_insert_with(|| Rc::new(read_file(&dir.join(&file))))
                .clone();
            Case {
                id: text(&c["id"]),
                family: text(&c["family"]),
                op: text(&c["op"]),
                attrs: c["attrs"].clone(),
                tags: list(&c["tags"]).iter().map(text).collect(),
                inputs: list(&c["inputs"]),
                outputs: list(&c["outputs"]),
                tensors,
            }
        })
        .collect()
}

/// The same values in the memory layout that the manifest names.
fn lay_out<T: Element>(x: Tensor<T>, layout: Option<&str>) -> Tensor<T> {
    let rank = x.rank() as isize;
    let dense = |t: Tensor<T>| Tensor::from_vec(t.to_vec(), t.shape()).unwrap();
    match layout {
        None => x,
        Some("transposed") => dense(x.t().unwrap()).t().unwrap(),
        Some("reversed") => {
            let axes: Vec<isize> = (0..rank).rev().collect();
            dense(x.permute(axes.clone()).unwrap()).permute(axes).unwrap()
        }
        Some("strided") => {
            let pairs = Tensor::stack(&[&x, &x.zeros_like()], -1).unwrap();
            let mut wide = x.shape().to_vec();
            *wide.last_mut().unwrap() *= 2;
            dense(pairs.reshape(wide).unwrap())
                .slice_axis(-1, gradus::Slice::all().step(2))
                .unwrap()
        }
        Some("offset") => {
            let mut pads = vec![(0, 0); x.rank()];
            pads[0] = (1, 1);
            let n = x.shape()[0];
            x.pad(&pads, T::ZERO).unwrap().narrow(0, 1, n).unwrap()
        }
        Some("channels_last") => {
            dense(x.permute([0, 2, 3, 1]).unwrap()).permute([0, 3, 1, 2]).unwrap()
        }
        Some(other) => panic!("layout {other}"),
    }
}

fn float<T: Float>(s: &Stored) -> Tensor<T> {
    match s {
        Stored::F64(shape, v) => {
            Tensor::from_vec(v.iter().map(|&v| T::of(v)).collect(), shape).unwrap()
        }
        _ => panic!("not a float tensor"),
    }
}

impl Case {
    pub fn tagged(&self, tag: &str) -> bool {
        self.tags.iter().any(|t| t == tag)
    }

    fn stored(&self, key: &Value) -> Option<&Stored> {
        key.as_str()
            .map(|k| self.tensors.get(k).unwrap_or_else(|| panic!("{}: no tensor {k}", self.id)))
    }

    /// Row `s` of a recorded output.
    pub fn recorded<T: Float>(&self, name: &str, s: isize) -> Result<Tensor<T>> {
        let o = self.outputs.iter().find(|o| o["name"] == name).unwrap();
        float::<T>(self.stored(&o["tensor"]).unwrap()).select(0, s)
    }

    /// An error unless `got` is row `s` of a recorded output.
    pub fn expect<T: Float>(&self, name: &str, s: isize, got: &Tensor<T>) -> Result<()> {
        let want: Vec<f64> = self.recorded::<f64>(name, s)?.to_vec();
        let (rtol, atol) = if T::DTYPE == DType::F64 { crate::F64 } else { crate::F32 };
        close(&format!("replayed {name}[{s}]"), got, got.shape(), &want, rtol, atol)
            .map_err(|message| Error::Argument { op: "replay", message })
    }

    /// The numbers of an input, as they are stored.
    pub fn input_f64(&self, name: &str) -> Vec<f64> {
        let i = self.inputs.iter().find(|i| i["name"] == name).unwrap();
        float::<f64>(self.stored(&i["tensor"]).unwrap()).to_vec()
    }

    fn inputs<T: Float>(&self, tape: &Tape) -> Inputs<T> {
        let mut all =
            Inputs { floats: BTreeMap::new(), ints: BTreeMap::new(), bools: BTreeMap::new() };
        for i in &self.inputs {
            let name = i["name"].as_str().unwrap().to_string();
            let layout = i["layout"].as_str();
            match self.stored(&i["tensor"]).unwrap() {
                s @ Stored::F64(..) => {
                    let x = lay_out(float::<T>(s), layout);
                    let x = if i["grad"].is_null() { x } else { tape.leaf(&x) };
                    all.floats.insert(name, x);
                }
                Stored::I64(shape, v) => {
                    all.ints.insert(name, lay_out(Tensor::from_slice(v, shape).unwrap(), layout));
                }
                Stored::Bool(shape, v) => {
                    all.bools.insert(name, lay_out(Tensor::from_slice(v, shape).unwrap(), layout));
                }
            }
        }
        all
    }

    pub fn run<T: Float>(&self, rtol: f64, atol: f64) -> Outcome {
        let tape = Tape::new(0);
        let inputs = self.inputs::<T>(&tape);
        let outputs = match dispatch::run(self, &inputs) {
            None => return Outcome::Missing,
            Some(Err(e)) => return Outcome::Differs(e.to_string()),
            Some(Ok(o)) => o,
        };
        match self.compare(&tape, &inputs, outputs, rtol, atol) {
            Ok(()) => Outcome::Agrees,
            Err(why) => Outcome::Differs(why),
        }
    }

    fn compare<T: Float>(
        &self,
        _tape: &Tape,
        inputs: &Inputs<T>,
        outputs: Outputs<T>,
        rtol: f64,
        atol: f64,
    ) -> std::result::Result<(), String> {
        let mut total: Option<Tensor<T>> = None;
        for want in &self.outputs {
            let name = want["name"].as_str().unwrap();
            let (_, got) =
                outputs.iter().find(|(n, _)| n == name).ok_or(format!("no output {name}"))?;
            match (got, self.stored(&want["tensor"]).unwrap()) {
                (Output::Float(got), Stored::F64(shape, v)) => {
                    close(name, got, shape, v, rtol, atol)?;
                    if let Some(cot) = self.stored(&want["cotangent"]) {
                        let part = got.try_mul(&float(cot)).map_err(|e| e.to_string())?.sum();
                        total = Some(match total {
                            None => part,
                            Some(t) => t.try_add(&part).map_err(|e| e.to_string())?,
                        });
                    }
                }
                (Output::Int(got), Stored::I64(shape, v)) => {
                    if got.shape() != &shape[..] || got.to_vec() != *v {
                        return Err(format!("{name}: {got} is not {v:?} of shape {shape:?}"));
                    }
                }
                _ => return Err(format!("{name} has another element type")),
            }
        }
        let grads = match total {
            Some(t) if t.is_recorded() => Some(t.backward().map_err(|e| e.to_string())?),
            _ => None,
        };
        for i in &self.inputs {
            let Some(Stored::F64(shape, want)) = self.stored(&i["grad"]) else { continue };
            let name = i["name"].as_str().unwrap();
            let zero = Tensor::zeros(shape).unwrap();
            let got = grads.as_ref().and_then(|g| g.wrt(inputs.get(name))).unwrap_or(&zero);
            close(&format!("gradient of {name}"), got, shape, want, rtol, atol)?;
        }
        Ok(())
    }
}

pub fn close<T: Float>(
    what: &str,
    got: &Tensor<T>,
    shape: &[usize],
    want: &[f64],
    rtol: f64,
    atol: f64,
) -> std::result::Result<(), String> {
    if got.shape() != shape {
        return Err(format!("{what} has shape {:?}, not {shape:?}", got.shape()));
    }
    for (i, (g, &w)) in got.iter().map(|g| g.as_f64()).zip(want).enumerate() {
        // In f32 the wanted value may be past the largest float.
        let w = T::of(w).as_f64();
        if !(g == w || (g.is_nan() && w.is_nan()) || (g - w).abs() <= atol + rtol * w.abs()) {
            return Err(format!("{what}[{i}] is {g}, not {w}"));
        }
    }
    Ok(())
}
