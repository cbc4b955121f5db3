//! Named tensors of any element type.

use std::any::Any;
use std::collections::BTreeMap;

use super::bytes;
use crate::element::{DType, Element};
use crate::tensor::Tensor;

/// A tensor whose element type is known at run time. Make one from a tensor with `into()`.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum Value {
    F32(Tensor<f32>),
    F64(Tensor<f64>),
    I64(Tensor<i64>),
    I32(Tensor<i32>),
    U8(Tensor<u8>),
    Bool(Tensor<bool>),
}

macro_rules! with_value {
    ($value:expr, $t:ident => $body:expr) => {
        match $value {
            Value::F32($t) => $body,
            Value::F64($t) => $body,
            Value::I64($t) => $body,
            Value::I32($t) => $body,
            Value::U8($t) => $body,
            Value::Bool($t) => $body,
        }
    };
}

macro_rules! value_from {
    ($($t:ty: $variant:ident),*) => {$(
        impl From<Tensor<$t>> for Value {
            fn from(t: Tensor<$t>) -> Self {
                Value::$variant(t.detach())
            }
        }
    )*};
}
value_from!(f32: F32, f64: F64, i64: I64, i32: I32, u8: U8, bool: Bool);

impl Value {
    /// The element type.
    pub fn dtype(&self) -> DType {
        with_value!(self, t => t.dtype())
    }

    /// The size of each axis.
    pub fn shape(&self) -> &[usize] {
        with_value!(self, t => t.shape())
    }

    /// The tensor, if its elements have this type.
    pub fn get<T: Element>(&self) -> Option<&Tensor<T>> {
        with_value!(self, t => (t as &dyn Any).downcast_ref())
    }

    pub(super) fn write_to(&self, w: &mut dyn std::io::Write) -> std::io::Result<()> {
        with_value!(self, t => bytes::write(w, t))
    }
}

/// Named tensors, in the order of their names, with words about them.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::io::safetensors::TensorMap;
/// let mut map = TensorMap::new();
/// map.insert("weight", Tensor::from([1.0f32, 2.0]));
/// assert_eq!(map.get::<f32>("weight").unwrap().shape(), [2]);
/// assert!(map.get::<f64>("weight").is_none());
/// ```
#[derive(Clone, Debug, Default)]
pub struct TensorMap {
    tensors: BTreeMap<String, Value>,
    /// Free text by key; stands in the file's header.
    pub metadata: BTreeMap<String, String>,
}

impl TensorMap {
    /// No tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tensor; returns the one that had this name before.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<Value>) -> Option<Value> {
        self.tensors.insert(name.into(), value.into())
    }

    /// The tensor of this name, if there is one and its elements have this type.
    pub fn get<T: Element>(&self, name: &str) -> Option<&Tensor<T>> {
        self.value(name)?.get()
    }

    /// The tensor of this name, of whatever type.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.tensors.get(name)
    }

    /// Takes a tensor out.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        self.tensors.remove(name)
    }

    /// All names and tensors.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.tensors.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }
}
