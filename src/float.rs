//! The element types that have gradients.

use std::ops::{AddAssign, DivAssign, MulAssign, SubAssign};

use crate::autograd::InAny;
use crate::element::Num;
use crate::kernel::FloatKernels;

/// `f32` or `f64`: an element type with gradients, arithmetic operators and the kernels of layers.
pub trait Float:
    Num
    + num_traits::Float
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + std::iter::Sum
    + FloatKernels
    + InAny
{
    /// The nearest value to a 64-bit float.
    #[inline(always)]
    fn of(v: f64) -> Self {
        crate::element::Element::cast(v)
    }
    /// This value as a 64-bit float.
    #[inline(always)]
    fn as_f64(self) -> f64 {
        self.cast::<f64>()
    }
}

impl Float for f32 {}
impl Float for f64 {}
