//! What a tensor can hold: the element types and the traits that say what can be done with each.

use std::fmt;

/// The name of an element type at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// 64-bit signed integer.
    I64,
    /// 32-bit signed integer.
    I32,
    /// 8-bit unsigned integer.
    U8,
    /// Truth value, one byte.
    Bool,
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::I64 => "i64",
            DType::I32 => "i32",
            DType::U8 => "u8",
            DType::Bool => "bool",
        })
    }
}

/// One value of any element type; the step between two types in a cast.
#[derive(Clone, Copy, Debug, PartialEq)]
#[doc(hidden)]
pub enum Scalar {
    F32(f32),
    F64(f64),
    I64(i64),
    I32(i32),
    U8(u8),
    Bool(bool),
}

mod sealed {
    pub trait Sealed {}
}
use sealed::Sealed;

/// A type that a [`Tensor`](crate::Tensor) can hold: `f32`, `f64`, `i64`, `i32`, `u8` or `bool`.
pub trait Element:
    Copy + Send + Sync + PartialEq + PartialOrd + Default + fmt::Debug + fmt::Display + Sealed + 'static
{
    /// The type's name at run time.
    const DTYPE: DType;
    /// Zero, or false.
    const ZERO: Self;
    /// One, or true.
    const ONE: Self;
    #[doc(hidden)]
    fn to_scalar(self) -> Scalar;
    #[doc(hidden)]
    fn from_scalar(s: Scalar) -> Self;

    /// Converts like `as`: floats to integers truncate and saturate, numbers to `bool` are `x != 0`.
    #[inline(always)]
    fn cast<U: Element>(self) -> U {
        U::from_scalar(self.to_scalar())
    }
}

macro_rules! element {
    ($t:ty, $variant:ident, $zero:expr, $one:expr) => {
        impl Sealed for $t {}
        impl Element for $t {
            const DTYPE: DType = DType::$variant;
            const ZERO: Self = $zero;
            const ONE: Self = $one;
            #[inline(always)]
            fn to_scalar(self) -> Scalar {
                Scalar::$variant(self)
            }
            #[inline(always)]
            fn from_scalar(s: Scalar) -> Self {
                match s {
                    Scalar::F32(v) => v as $t,
                    Scalar::F64(v) => v as $t,
                    Scalar::I64(v) => v as $t,
                    Scalar::I32(v) => v as $t,
                    Scalar::U8(v) => v as $t,
                    Scalar::Bool(v) => v as u8 as $t,
                }
            }
        }
    };
}
element!(f32, F32, 0.0, 1.0);
element!(f64, F64, 0.0, 1.0);
element!(i64, I64, 0, 1);
element!(i32, I32, 0, 1);
element!(u8, U8, 0, 1);

impl Sealed for bool {}
impl Element for bool {
    const DTYPE: DType = DType::Bool;
    const ZERO: Self = false;
    const ONE: Self = true;
    #[inline(always)]
    fn to_scalar(self) -> Scalar {
        Scalar::Bool(self)
    }
    #[inline(always)]
    fn from_scalar(s: Scalar) -> Self {
        match s {
            Scalar::F32(v) => v != 0.0,
            Scalar::F64(v) => v != 0.0,
            Scalar::I64(v) => v != 0,
            Scalar::I32(v) => v != 0,
            Scalar::U8(v) => v != 0,
            Scalar::Bool(v) => v,
        }
    }
}

/// An element with arithmetic: every type but `bool`. Integer arithmetic wraps around, as in PyTorch and NumPy.
pub trait Num: Element {
    /// Whether the type is a float.
    const IS_FLOAT: bool;
    /// self + o
    fn plus(self, o: Self) -> Self;
    /// self - o
    fn minus(self, o: Self) -> Self;
    /// self · o
    fn times(self, o: Self) -> Self;
    /// Quotient; of integers truncated towards zero, and 0 for a zero divisor (callers check for it first).
    fn over(self, o: Self) -> Self;
    /// -self
    fn negated(self) -> Self;
    /// |self|
    fn magnitude(self) -> Self;
    /// Whether this is a NaN; never so for integers.
    fn is_not_a_number(self) -> bool;
}

macro_rules! num_int {
    ($($t:ty: $abs:expr),*) => {$(
        impl Num for $t {
            const IS_FLOAT: bool = false;
            #[inline(always)] fn plus(self, o: Self) -> Self { self.wrapping_add(o) }
            #[inline(always)] fn minus(self, o: Self) -> Self { self.wrapping_sub(o) }
            #[inline(always)] fn times(self, o: Self) -> Self { self.wrapping_mul(o) }
            #[inline(always)] fn over(self, o: Self) -> Self { if o == 0 { 0 } else { self.wrapping_div(o) } }
            #[inline(always)] fn negated(self) -> Self { self.wrapping_neg() }
            #[inline(always)] fn magnitude(self) -> Self { let f: fn($t) -> $t = $abs; f(self) }
            #[inline(always)] fn is_not_a_number(self) -> bool { false }
        }
    )*};
}
num_int!(i64: i64::wrapping_abs, i32: i32::wrapping_abs, u8: |v| v);

macro_rules! num_float {
    ($($t:ty),*) => {$(
        impl Num for $t {
            const IS_FLOAT: bool = true;
            #[inline(always)] fn plus(self, o: Self) -> Self { self + o }
            #[inline(always)] fn minus(self, o: Self) -> Self { self - o }
            #[inline(always)] fn times(self, o: Self) -> Self { self * o }
            #[inline(always)] fn over(self, o: Self) -> Self { self / o }
            #[inline(always)] fn negated(self) -> Self { -self }
            #[inline(always)] fn magnitude(self) -> Self { <$t>::abs(self) }
            #[inline(always)] fn is_not_a_number(self) -> bool { <$t>::is_nan(self) }
        }
    )*};
}
num_float!(f32, f64);
