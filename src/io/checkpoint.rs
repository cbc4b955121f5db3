//! Models saved and loaded by the dotted paths of their parameters and buffers.

use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use super::optimizer::{OptimizerCheckpoint, is_optimizers, named};
use super::safetensors::{self, TensorMap, Value};
use crate::autograd::ParamId;
use crate::element::{DType, Element};
use crate::error::{Error, Result};
use crate::nn::{AnyBuffer, Buffer, Item, ItemMut, Module, Visitor, VisitorMut, with_param};
use crate::optim::Stateful;

/// Saving and loading, for every [`Module`].
///
/// A file in the [safetensors](super::safetensors) format holds each parameter and buffer by its path, such as `conv1.weight`. Tied
/// parameters are stored once, under their first path.
///
/// ```
/// use gradus::prelude::*;
/// let path = std::env::temp_dir().join(format!("gradus-doc-{}.safetensors", std::process::id()));
/// let model: Dense = Dense::new(3, 2).build(&mut gradus::rng(0))?;
/// model.save(&path)?;
///
/// let mut other: Dense = Dense::new(3, 2).build(&mut gradus::rng(1))?;
/// other.load(&path)?;
/// assert_eq!(model.weight.to_vec(), other.weight.to_vec());
///
/// let mut wider: Dense = Dense::new(4, 2).build(&mut gradus::rng(1))?;
/// let e = wider.load(&path).unwrap_err();
/// assert!(e.to_string().contains("weight: the model has f32 [2, 4], the file f32 [2, 3]"));
/// # std::fs::remove_file(&path).ok();
/// # Ok::<(), Error>(())
/// ```
pub trait Checkpoint: Module + Sized {
    /// Writes all parameters and buffers to a file. They go to a temporary file in the same folder first, which replaces a
    /// file of that name only when it is complete.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written, [`Error::Argument`] if two parameters have one path.
    fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        safetensors::write(path, &self.to_map()?)
    }

    /// Replaces all parameters and buffers by those of a file. Nothing is changed unless all fits.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] with every path that is missing in the file, unexpected there, or different in shape or element type;
    /// [`Error::Format`] if the file is damaged; [`Error::Io`] if it cannot be read; [`Error::Argument`] if this is a watched copy.
    fn load(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let map = safetensors::read(path.as_ref())?;
        load(self, &map, path.as_ref())
    }

    /// Writes the model and its optimizer to one file, so that training can go on from there bit for bit. [`load`](Self::load) takes the model alone
    /// out of it, [`load_with`](Self::load_with) both.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let path = std::env::temp_dir().join(format!("gradus-doc-with-{}.safetensors", std::process::id()));
    /// let mut model: Dense = Dense::new(2, 1).build(&mut gradus::rng(0))?;
    /// let mut adam = Adam::new(1e-3);
    /// let grads = Tape::new(0).watch(&model).forward(&Tensor::ones([1, 2])?)?.sum().backward()?;
    /// adam.step(&mut model, &grads)?;
    /// model.save_with(&adam, &path)?;
    ///
    /// let mut model: Dense = Dense::new(2, 1).build(&mut gradus::rng(1))?;
    /// let mut adam = Adam::new(1e-3);
    /// model.load_with(&mut adam, &path)?;
    /// assert_eq!(adam.steps(), 1);
    /// # std::fs::remove_file(&path).ok();
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As `save`.
    fn save_with(&self, optimizer: &impl Stateful, path: impl AsRef<Path>) -> Result<()> {
        let mut map = self.to_map()?;
        let state = OptimizerCheckpoint::to_map(optimizer, self);
        for (name, value) in state.iter() {
            map.insert(name, value.clone());
        }
        safetensors::write(path, &map)
    }

    /// Replaces a model and the state of its optimizer by those of a file of [`save_with`](Self::save_with). Nothing is changed unless all fits.
    ///
    /// # Errors
    /// As `load`, and as [`OptimizerCheckpoint::load`].
    fn load_with(&mut self, optimizer: &mut impl Stateful, path: impl AsRef<Path>) -> Result<()> {
        let map = safetensors::read(path.as_ref())?;
        refuse_recorded(self)?;
        compare(&places(self), &map, path.as_ref())?;
        optimizer.import(self, &named(&map), path.as_ref())?;
        load(self, &map, path.as_ref())
    }

    /// What [`save`](Self::save) would write.
    ///
    /// # Errors
    /// [`Error::Argument`] if two parameters have one path.
    fn to_bytes(&self) -> Result<Vec<u8>> {
        safetensors::to_bytes(&self.to_map()?)
    }

    /// Like [`load`](Self::load), from the content of a file.
    ///
    /// # Errors
    /// As `load`.
    fn load_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        load(self, &safetensors::from_bytes(bytes)?, Path::new("(bytes)"))
    }

    /// All parameters and buffers by their paths: to add to them, rename them or convert them before they are written.
    ///
    /// # Errors
    /// [`Error::Argument`] if two parameters have one path.
    fn to_map(&self) -> Result<TensorMap> {
        let mut map = TensorMap::new();
        for place in places(self) {
            if place.first.is_some() {
                continue;
            }
            let path = place.path;
            if map.insert(path.as_str(), place.value).is_some() {
                let message = format!("two parameters or buffers have the path {path}");
                return Err(Error::argument("save", message));
            }
        }
        Ok(map)
    }

    /// Like [`load`](Self::load), from tensors by their paths.
    ///
    /// # Errors
    /// As `load`.
    fn load_map(&mut self, map: &TensorMap) -> Result<()> {
        load(self, map, Path::new("(tensors)"))
    }
}

impl<M: Module> Checkpoint for M {}

/// A parameter or buffer of a model.
struct Place {
    path: String,
    value: Value,
    /// For a tied parameter that was met before: its first path.
    first: Option<String>,
}

/// Every parameter and buffer, in the order of the walk.
fn places(model: &impl Module) -> Vec<Place> {
    let mut places = Vec::new();
    let mut first: HashMap<ParamId, String> = HashMap::new();
    Visitor::walk(model, &mut |path, item| match item {
        Item::Param(p) => {
            let before = first.get(&p.id()).cloned();
            if before.is_none() {
                first.insert(p.id(), path.to_string());
            }
            let value = with_param!(ParamRef, p, p => p.tensor().clone().into());
            places.push(Place { path: path.to_string(), value, first: before });
        }
        Item::Buffer(b) => {
            let value = buffer_value(b);
            places.push(Place { path: path.to_string(), value, first: None });
        }
        Item::Mode(_) => {}
    });
    places
}

/// An error if a model is a watched copy.
fn refuse_recorded(model: &impl Module) -> Result<()> {
    let mut recorded = false;
    Visitor::walk_unnamed(model, &mut |_, item| {
        if let Item::Param(p) = item {
            recorded |= with_param!(ParamRef, p, p => p.is_recorded());
        }
    });
    if recorded {
        let message = "this model is the copy that tape.watch returned; load into the model itself";
        return Err(Error::argument("load", message));
    }
    Ok(())
}

fn load(model: &mut impl Module, map: &TensorMap, path: &Path) -> Result<()> {
    refuse_recorded(model)?;
    let places = places(model);
    let found = compare(&places, map, path)?;
    let mut found = found.into_iter();
    VisitorMut::walk_unnamed(model, &mut |_, item| match item {
        ItemMut::Param(p) => {
            if let Some(value) = found.next() {
                with_param!(ParamMut, p, p => value.get().into_iter().for_each(|t| p.set(t.clone())));
            }
        }
        ItemMut::Buffer(b) => {
            if let Some(value) = found.next() {
                set_buffer(b, value);
            }
        }
        ItemMut::Mode(_) => {}
    });
    Ok(())
}

/// The file's tensor for each place, if all of them fit and nothing is left over.
fn compare<'a>(places: &[Place], map: &'a TensorMap, path: &Path) -> Result<Vec<&'a Value>> {
    let (mut missing, mut mismatched, mut found) = (Vec::new(), Vec::new(), Vec::new());
    // What an optimizer saved beside the model is none of its business.
    let mut unexpected: BTreeSet<&str> = map.names().filter(|n| !is_optimizers(n)).collect();
    // Tied parameters may stand in the file under any of their paths.
    let mut tied: HashMap<&str, &Value> = HashMap::new();
    for p in places {
        if let Some(value) = map.value(&p.path) {
            tied.entry(p.first.as_deref().unwrap_or(&p.path)).or_insert(value);
        }
    }
    for p in places {
        unexpected.remove(p.path.as_str());
        let shared = tied.get(p.first.as_deref().unwrap_or(&p.path)).copied();
        let Some(value) = map.value(&p.path).or(shared) else {
            if p.first.is_none() {
                missing.push(p.path.clone());
            }
            continue;
        };
        let (mine, its) = (&p.value, value);
        if (mine.dtype(), mine.shape()) != (its.dtype(), its.shape()) {
            mismatched.push(format!(
                "{}: the model has {} {:?}, the file {} {:?}",
                p.path,
                mine.dtype(),
                mine.shape(),
                its.dtype(),
                its.shape()
            ));
        } else if let (Some(first), Some(shared)) = (&p.first, shared)
            && !same_bits(value, shared)
        {
            let path = &p.path;
            mismatched
                .push(format!("{path}: tied to {first} in the model, other values in the file"));
        }
        found.push(value);
    }
    if missing.is_empty() && mismatched.is_empty() && unexpected.is_empty() {
        return Ok(found);
    }
    let unexpected = unexpected.into_iter().map(str::to_string).collect();
    Err(Error::Checkpoint { path: path.to_path_buf(), missing, unexpected, mismatched })
}

/// Whether two tensors of float parameters hold the same bits; a NaN is like itself.
fn same_bits(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::F32(a), Value::F32(b)) => a.iter().map(f32::to_bits).eq(b.iter().map(f32::to_bits)),
        (Value::F64(a), Value::F64(b)) => a.iter().map(f64::to_bits).eq(b.iter().map(f64::to_bits)),
        _ => false,
    }
}

fn buffer<T: Element>(b: &dyn AnyBuffer) -> &Buffer<T> {
    match (b.as_any() as &dyn Any).downcast_ref() {
        Some(b) => b,
        None => unreachable!("a buffer says {} and is something else", b.dtype()),
    }
}

fn buffer_value(b: &dyn AnyBuffer) -> Value {
    match b.dtype() {
        DType::F32 => buffer::<f32>(b).get().into(),
        DType::F64 => buffer::<f64>(b).get().into(),
        DType::I64 => buffer::<i64>(b).get().into(),
        DType::I32 => buffer::<i32>(b).get().into(),
        DType::U8 => buffer::<u8>(b).get().into(),
        DType::Bool => buffer::<bool>(b).get().into(),
    }
}

fn set_buffer(b: &dyn AnyBuffer, value: &Value) {
    match value {
        Value::F32(t) => buffer(b).set(t.clone()),
        Value::F64(t) => buffer(b).set(t.clone()),
        Value::I64(t) => buffer(b).set(t.clone()),
        Value::I32(t) => buffer(b).set(t.clone()),
        Value::U8(t) => buffer(b).set(t.clone()),
        Value::Bool(t) => buffer(b).set(t.clone()),
    }
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
