//! One method for every element type that is recorded where the type has gradients.
//!
//! Methods such as `add` or `reshape` exist for all element types under one name, but only floats can be recorded. Stable Rust has no
//! specialisation, so the choice is made by comparing type ids, which the compiler knows: what remains in the compiled code
//! is the one branch of the type at hand, and `plain` alone for integers and `bool`.

use std::any::{Any, TypeId};

use crate::autograd::{Op, OpMany, apply, apply_many};
use crate::element::Element;
use crate::error::Result;
use crate::profile::Span;
use crate::tensor::Tensor;

/// Computes `op` and records it if `T` is a float and an input is recorded; otherwise `plain`, which must give what `op`'s forward
/// rule gives.
pub(crate) fn record_if_float<T: Element, const N: usize, O: Op<f32, N> + Op<f64, N>>(
    op: O,
    x: [&Tensor<T>; N],
    plain: impl FnOnce([&Tensor<T>; N]) -> Result<Tensor<T>>,
) -> Result<Tensor<T>> {
    if x.iter().any(|t| t.is_recorded()) {
        if is::<T, f32>() {
            return apply::<f32, N, O>(op, x.map(same_type)).map(same_type_owned);
        }
        if is::<T, f64>() {
            return apply::<f64, N, O>(op, x.map(same_type)).map(same_type_owned);
        }
    }
    let span = Span::open();
    let y = plain(x)?;
    Span::moved(span, Op::<f32, N>::name(&op), &x, &y);
    Ok(y)
}

/// [`record_if_float`] for any number of inputs.
pub(crate) fn record_many_if_float<T: Element, O: OpMany<f32> + OpMany<f64>>(
    op: O,
    x: &[&Tensor<T>],
    plain: impl FnOnce(&[&Tensor<T>]) -> Result<Tensor<T>>,
) -> Result<Tensor<T>> {
    if x.iter().any(|t| t.is_recorded()) {
        if is::<T, f32>() {
            let x: Vec<&Tensor<f32>> = x.iter().map(|&t| same_type(t)).collect();
            return apply_many(op, &x).map(same_type_owned);
        }
        if is::<T, f64>() {
            let x: Vec<&Tensor<f64>> = x.iter().map(|&t| same_type(t)).collect();
            return apply_many(op, &x).map(same_type_owned);
        }
    }
    let span = Span::open();
    let y = plain(x)?;
    Span::moved(span, OpMany::<f32>::name(&op), x, &y);
    Ok(y)
}

/// Whether both are the same type.
#[inline(always)]
pub(crate) fn is<T: Element, U: Element>() -> bool {
    TypeId::of::<T>() == TypeId::of::<U>()
}

/// A tensor under the other name of its type; only to be called where [`is`] has said so.
#[inline(always)]
pub(crate) fn same_type<T: Element, U: Element>(x: &Tensor<T>) -> &Tensor<U> {
    match (x as &dyn Any).downcast_ref() {
        Some(x) => x,
        None => unreachable!("{} is not {}", T::DTYPE, U::DTYPE),
    }
}

/// [`same_type`] by value.
#[inline(always)]
pub(crate) fn same_type_owned<T: Element, U: Element>(x: Tensor<T>) -> Tensor<U> {
    let mut slot = Some(x);
    match (&mut slot as &mut dyn Any).downcast_mut::<Option<Tensor<U>>>().and_then(Option::take) {
        Some(x) => x,
        None => unreachable!("{} is not {}", T::DTYPE, U::DTYPE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::float::Float;

    /// y = x; dx = g
    struct Same;
    impl<T: Float> Op<T, 1> for Same {
        type Saved = ();
        fn name(&self) -> &'static str {
            "same"
        }
        fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, ())> {
            Ok((x.clone(), ()))
        }
        fn vjp(&self, _: (), g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
            Ok([Some(g)])
        }
    }

    fn same<T: Element>(x: &Tensor<T>) -> Tensor<T> {
        record_if_float(Same, [x], |[x]| Ok(x.clone())).unwrap()
    }

    #[test]
    fn floats_are_recorded_and_the_rest_is_not() {
        let tape = Tape::new(0);
        let y = same(&tape.leaf(&Tensor::from([1.0f32, 2.0])));
        assert!(y.is_recorded());
        assert!(same(&tape.leaf(&Tensor::from([1.0f64]))).is_recorded());
        assert!(!same(&Tensor::from([1.0f32])).is_recorded());
        assert_eq!(same(&Tensor::from([true, false])).to_vec(), [true, false]);
        assert_eq!(same(&Tensor::from([3i64])).to_vec(), [3]);
    }
}
