//! A tensor of either float type, for the places where a tape holds both.

use crate::error::{Error, Result};
use crate::float::Float;
use crate::tensor::Tensor;

/// A tensor of a float type that is known at run time.
#[derive(Clone, Debug)]
pub(crate) enum AnyTensor {
    F32(Tensor<f32>),
    F64(Tensor<f64>),
}

/// Runs the same expression on the tensor inside, whichever type it has.
macro_rules! with_any {
    ($any:expr, $t:ident => $body:expr) => {
        match $any {
            $crate::autograd::AnyTensor::F32($t) => $body,
            $crate::autograd::AnyTensor::F64($t) => $body,
        }
    };
}
pub(crate) use with_any;

impl AnyTensor {
    pub(crate) fn new<T: Float>(t: Tensor<T>) -> Self {
        T::into_any(t)
    }

    pub(crate) fn get<T: Float>(&self) -> Option<&Tensor<T>> {
        T::any_ref(self)
    }

    pub(crate) fn get_mut<T: Float>(&mut self) -> Option<&mut Tensor<T>> {
        T::any_mut(self)
    }

    /// The sum of two gradients of one tensor, recorded if they are.
    pub(crate) fn plus(self, op: &'static str, other: &AnyTensor) -> Result<Self> {
        match (&self, other) {
            (AnyTensor::F32(a), AnyTensor::F32(b)) => a.try_add(b).map(AnyTensor::F32),
            (AnyTensor::F64(a), AnyTensor::F64(b)) => a.try_add(b).map(AnyTensor::F64),
            _ => Err(Error::shape(op, "two gradients of one tensor differ in float type")),
        }
    }

    pub(crate) fn take<T: Float>(self) -> Option<Tensor<T>> {
        T::any_take(self)
    }
}

/// The bridge between a float type and its variant of `AnyTensor`.
pub trait InAny: crate::element::Element {
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn into_any(t: Tensor<Self>) -> AnyTensor;
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn any_ref(a: &AnyTensor) -> Option<&Tensor<Self>>;
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn any_mut(a: &mut AnyTensor) -> Option<&mut Tensor<Self>>;
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn any_take(a: AnyTensor) -> Option<Tensor<Self>>;
}

macro_rules! in_any {
    ($t:ty, $variant:ident) => {
        #[allow(private_interfaces)]
        impl InAny for $t {
            fn into_any(t: Tensor<Self>) -> AnyTensor {
                AnyTensor::$variant(t)
            }
            fn any_ref(a: &AnyTensor) -> Option<&Tensor<Self>> {
                match a {
                    AnyTensor::$variant(t) => Some(t),
                    _ => None,
                }
            }
            fn any_mut(a: &mut AnyTensor) -> Option<&mut Tensor<Self>> {
                match a {
                    AnyTensor::$variant(t) => Some(t),
                    _ => None,
                }
            }
            fn any_take(a: AnyTensor) -> Option<Tensor<Self>> {
                match a {
                    AnyTensor::$variant(t) => Some(t),
                    _ => None,
                }
            }
        }
    };
}
in_any!(f32, F32);
in_any!(f64, F64);
