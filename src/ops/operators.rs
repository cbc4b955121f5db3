//! The operators `+ - * /` and their assigning forms, on tensors owned or borrowed and on numbers at either side.
//!
//! They broadcast, and panic where the checked methods (`try_add` and so on) return an error, with the same words, at the caller's
//! line. An owned left operand that nobody else holds lends its buffer to the result.

use std::ops::{self, AddAssign, DivAssign, MulAssign, SubAssign};

use super::arith;
use super::elementwise::{map_owned, zip_assign, zip_owned};
use crate::element::Num;
use crate::error::{Error, Result};
use crate::kernel::map::{self, Map, Zip};
use crate::profile::Span;
use crate::tensor::Tensor;

/// The value, or a panic with the error's words at the line of the caller.
#[track_caller]
fn checked<T: Num>(y: Result<Tensor<T>>) -> Tensor<T> {
    match y {
        Ok(y) => y,
        Err(e) => panic_with(e),
    }
}

#[track_caller]
fn panic_with(e: Error) -> ! {
    panic!("{e}")
}

/// `a = f(a, b)`, in place if possible, else by the checked method.
fn assign<T: Num>(
    op: &'static str,
    f: impl Zip<T, T, T>,
    a: &mut Tensor<T>,
    b: &Tensor<T>,
    method: impl Fn(&Tensor<T>, &Tensor<T>) -> Result<Tensor<T>>,
) -> Result<()> {
    if plain(a, Some(b), op == "div") {
        let span = Span::reading([a, b]);
        if zip_assign(op, f, a, b)? {
            Span::wrote(span, op, a);
            return Ok(());
        }
    }
    let y = method(a, b)?;
    if y.shape() != a.shape() {
        let message = format!("shape {:?} cannot be assigned to shape {:?}", y.shape(), a.shape());
        return Err(Error::shape(op, message));
    }
    *a = y;
    Ok(())
}

/// Whether computing in place would go unnoticed by any tape; integer division is left to the checked method.
fn plain<T: Num>(a: &Tensor<T>, b: Option<&Tensor<T>>, divides: bool) -> bool {
    !a.is_recorded() && !b.is_some_and(|b| b.is_recorded()) && (T::IS_FLOAT || !divides)
}

/// `f(a, b)` into the buffer of `a` if possible, else by the checked method.
fn in_place<T: Num>(
    op: &'static str,
    f: impl Zip<T, T, T>,
    a: Tensor<T>,
    b: &Tensor<T>,
    method: impl Fn(&Tensor<T>, &Tensor<T>) -> Result<Tensor<T>>,
) -> Result<Tensor<T>> {
    if !plain(&a, Some(b), op == "div") {
        return method(&a, b);
    }
    let span = Span::reading([&a, b]);
    let y = zip_owned(op, f, a, b)?;
    Span::wrote(span, op, &y);
    Ok(y)
}

/// `f(x)` into the buffer of `x` if possible, else by the checked method.
fn scalar_in_place<T: Num>(
    op: &'static str,
    f: impl Map<T, T>,
    x: Tensor<T>,
    method: impl Fn(&Tensor<T>) -> Result<Tensor<T>>,
) -> Result<Tensor<T>> {
    if !plain(&x, None, op == "div") {
        return method(&x);
    }
    let span = Span::reading([&x]);
    let y = map_owned(f, x);
    Span::wrote(span, op, &y);
    Ok(y)
}

macro_rules! operator {
    ($tr:ident $f:ident $name:literal $checked:ident, $assign:ident $assign_f:ident $assign_op:tt,
     |$x:ident, $s:ident| $scalar:expr, $left:expr) => {
        impl<T: Num> ops::$tr<&Tensor<T>> for &Tensor<T> {
            type Output = Tensor<T>;
            #[track_caller]
            fn $f(self, other: &Tensor<T>) -> Tensor<T> {
                checked(self.$checked(other))
            }
        }
        impl<T: Num> ops::$tr<Tensor<T>> for &Tensor<T> {
            type Output = Tensor<T>;
            #[track_caller]
            fn $f(self, other: Tensor<T>) -> Tensor<T> {
                checked(self.$checked(&other))
            }
        }
        impl<T: Num> ops::$tr<&Tensor<T>> for Tensor<T> {
            type Output = Tensor<T>;
            #[track_caller]
            fn $f(self, other: &Tensor<T>) -> Tensor<T> {
                checked(in_place($name, arith::$tr, self, other, Tensor::$checked))
            }
        }
        impl<T: Num> ops::$tr<Tensor<T>> for Tensor<T> {
            type Output = Tensor<T>;
            #[track_caller]
            fn $f(self, other: Tensor<T>) -> Tensor<T> {
                checked(in_place($name, arith::$tr, self, &other, Tensor::$checked))
            }
        }
        impl<T: Num> ops::$tr<T> for &Tensor<T> {
            type Output = Tensor<T>;
            #[track_caller]
            fn $f(self, $s: T) -> Tensor<T> {
                let $x = self;
                checked($scalar)
            }
        }
        impl<T: Num> ops::$tr<T> for Tensor<T> {
            type Output = Tensor<T>;
            #[track_caller]
            fn $f(self, $s: T) -> Tensor<T> {
                let method = |$x: &Tensor<T>| $scalar;
                checked(scalar_in_place($name, arith::Right(arith::$tr, $s), self, method))
            }
        }
        impl<T: Num> $assign<&Tensor<T>> for Tensor<T> {
            #[track_caller]
            fn $assign_f(&mut self, other: &Tensor<T>) {
                if let Err(e) = assign($name, arith::$tr, self, other, Tensor::$checked) {
                    panic_with(e);
                }
            }
        }
        impl<T: Num> $assign<Tensor<T>> for Tensor<T> {
            #[track_caller]
            fn $assign_f(&mut self, other: Tensor<T>) {
                *self $assign_op &other;
            }
        }
        impl<T: Num> $assign<T> for Tensor<T> {
            #[track_caller]
            fn $assign_f(&mut self, s: T) {
                if plain(self, None, $name == "div") {
                    let span = Span::reading([&*self]);
                    if let Some(values) = self.unique_dense() {
                        map::map_assign(arith::Right(arith::$tr, s), values);
                        return Span::wrote(span, $name, self);
                    }
                }
                *self = ops::$tr::$f(&*self, s);
            }
        }
        operator!(@left $tr $f $left; f32 f64 i64 i32 u8);
    };
    (@left $tr:ident $f:ident $left:expr; $($t:ty)*) => {$(
        impl ops::$tr<&Tensor<$t>> for $t {
            type Output = Tensor<$t>;
            #[track_caller]
            fn $f(self, x: &Tensor<$t>) -> Tensor<$t> {
                checked($left(x, self))
            }
        }
        impl ops::$tr<Tensor<$t>> for $t {
            type Output = Tensor<$t>;
            #[track_caller]
            fn $f(self, x: Tensor<$t>) -> Tensor<$t> {
                checked($left(&x, self))
            }
        }
    )*};
}

operator!(Add add "add" try_add, AddAssign add_assign +=,
    |x, s| Ok(x.add_scalar(s)), |x: &Tensor<_>, s| Ok(x.add_scalar(s)));
operator!(Sub sub "sub" try_sub, SubAssign sub_assign -=,
    |x, s| Ok(x.sub_scalar(s)), |x: &Tensor<_>, s| Ok(x.rsub_scalar(s)));
operator!(Mul mul "mul" try_mul, MulAssign mul_assign *=,
    |x, s| Ok(x.mul_scalar(s)), |x: &Tensor<_>, s| Ok(x.mul_scalar(s)));
operator!(Div div "div" try_div, DivAssign div_assign /=,
    |x, s| x.try_div_scalar(s), |x: &Tensor<_>, s| x.try_rdiv_scalar(s));

impl<T: Num> ops::Neg for &Tensor<T> {
    type Output = Tensor<T>;
    fn neg(self) -> Tensor<T> {
        Tensor::neg(self)
    }
}

impl<T: Num> ops::Neg for Tensor<T> {
    type Output = Tensor<T>;
    fn neg(self) -> Tensor<T> {
        checked(scalar_in_place("neg", arith::Negate, self, |x| Ok(Tensor::neg(x))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;

    #[test]
    fn every_combination_of_owned_borrowed_and_number() {
        let a = Tensor::from([1.0f32, 2.0]);
        let b = Tensor::from([4.0f32, 8.0]);
        for y in [&a + &b, a.clone() + &b, &a + b.clone(), a.clone() + b.clone()] {
            assert_eq!(y.to_vec(), [5.0, 10.0]);
        }
        assert_eq!((&a - 1.0).to_vec(), [0.0, 1.0]);
        assert_eq!((1.0 - &a).to_vec(), [0.0, -1.0]);
        assert_eq!((2.0 / a.clone()).to_vec(), [2.0, 1.0]);
        assert_eq!((a.clone() / 2.0).to_vec(), [0.5, 1.0]);
        assert_eq!((-&a).to_vec(), (-a.clone()).to_vec());
        assert_eq!((3i64 * Tensor::from([1i64, 2]) - 1).to_vec(), [2, 5]);
        assert_eq!(a.to_vec(), [1.0, 2.0]);
    }

    #[test]
    fn assigning_edits_in_place_and_no_alias_sees_it() {
        let mut a = Tensor::from([[1.0f64, 2.0], [3.0, 4.0]]);
        let alias = a.clone();
        a += &Tensor::from([10.0, 20.0]);
        a *= 2.0;
        a -= Tensor::from([1.0, 1.0]);
        a /= &Tensor::scalar(1.0);
        assert_eq!(a.to_vec(), [21.0, 43.0, 25.0, 47.0]);
        assert_eq!(alias.to_vec(), [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn an_owned_operand_lends_its_buffer() {
        let a = Tensor::from([1.0f32; 100]);
        let at = a.as_slice().unwrap().as_ptr();
        let y = -((a + &Tensor::scalar(1.0)) * 3.0);
        assert_eq!(y.as_slice().unwrap().as_ptr(), at);
        assert_eq!(y.to_vec(), [-6.0; 100]);
    }

    #[test]
    fn recorded_operands_keep_their_gradients() {
        let tape = Tape::new(0);
        let x = tape.leaf(&Tensor::from([1.0f64, -3.0]));
        let mut y = 2.0 * (x.clone() * &x) + 1.0;
        y += &x;
        y = -y / 2.0 - x.clone();
        let g = y.backward_with(&y.detach().ones_like()).unwrap();
        assert_eq!(g.wrt(&x).unwrap().to_vec(), [-3.5, 4.5]);
    }

    #[test]
    #[should_panic(expected = "add: shapes do not broadcast: [2] and [3]")]
    fn operators_panic_with_the_words_of_the_method() {
        let _ = Tensor::from([1.0f32, 2.0]) + Tensor::from([1.0f32, 2.0, 3.0]);
    }

    #[test]
    #[should_panic(expected = "add: shape [2, 2] cannot be assigned to shape [2]")]
    fn assigning_does_not_grow_a_shape() {
        let mut a = Tensor::from([1.0f32, 2.0]);
        a += Tensor::from([[1.0f32, 2.0], [3.0, 4.0]]);
    }

    #[test]
    #[should_panic(expected = "div: an integer divisor is 0")]
    fn integer_division_by_zero_panics_in_the_operator() {
        let mut a = Tensor::from([1i64, 2]);
        a /= 0;
    }
}
