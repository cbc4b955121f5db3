//! Addition, subtraction, multiplication and division, of tensors that broadcast and of a tensor and a number, for every type of number.
//!
//! | y | da | db |
//! |---|---|---|
//! | a + b | g | g |
//! | a - b | g | -g |
//! | a b | g b | g a |
//! | a / b | g / b | -g a / b² |
//!
//! each summed over the axes along which the input was repeated. The operators `+ - * /` stand in [`operators`](super::operators).

use super::broadcast::sum_to;
use super::elementwise::{infallible, map, map_owned, zip, zip_owned, zip3};
use super::float_only::record_if_float;
use super::rule::{Keep, Rule, Unary};
use crate::autograd::Op;
use crate::element::Num;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::map::{Map, Zip, Zip3};
use crate::tensor::{Dims, Tensor, short};

/// The four operations; each is both the function of two numbers and the recorded operation.
#[derive(Clone, Copy)]
pub(crate) struct Add;
#[derive(Clone, Copy)]
pub(crate) struct Sub;
#[derive(Clone, Copy)]
pub(crate) struct Mul;
#[derive(Clone, Copy)]
pub(crate) struct Div;

macro_rules! zip_of {
    ($($op:ident $f:ident),*) => {$(
        impl<T: Num> Zip<T, T, T> for $op {
            #[inline(always)]
            fn at<const FMA: bool>(self, a: T, b: T) -> T {
                a.$f(b)
            }
        }
        /// With a number on the right.
        impl<T: Num> Map<T, T> for Right<$op, T> {
            #[inline(always)]
            fn at<const FMA: bool>(self, a: T) -> T {
                a.$f(self.1)
            }
        }
        /// With a number on the left.
        impl<T: Num> Map<T, T> for Left<$op, T> {
            #[inline(always)]
            fn at<const FMA: bool>(self, b: T) -> T {
                self.1.$f(b)
            }
        }
    )*};
}
zip_of!(Add plus, Sub minus, Mul times, Div over);

/// An operation and its right operand.
#[derive(Clone, Copy)]
pub(crate) struct Right<F, T>(pub(crate) F, pub(crate) T);
/// An operation and its left operand.
#[derive(Clone, Copy)]
pub(crate) struct Left<F, T>(pub(crate) F, pub(crate) T);

/// -x
#[derive(Clone, Copy)]
pub(crate) struct Negate;
impl<T: Num> Map<T, T> for Negate {
    #[inline(always)]
    fn at<const FMA: bool>(self, x: T) -> T {
        x.negated()
    }
}

/// The gradient of a quotient with respect to its divisor: -g (a / b) / b, which stays finite longer than a / b².
#[derive(Clone, Copy)]
struct DivisorGradient;
impl<T: Float> Zip3<T, T, T, T> for DivisorGradient {
    #[inline(always)]
    fn at<const FMA: bool>(self, g: T, a: T, b: T) -> T {
        -g * ((a / b) / b)
    }
}

impl<T: Float> Op<T, 2> for Add {
    type Saved = (Dims, Dims);
    const COMPOSED: bool = true;
    fn name(&self) -> &'static str {
        "add"
    }
    fn forward(&self, [a, b]: [&Tensor<T>; 2]) -> Result<(Tensor<T>, Self::Saved)> {
        Ok((zip("add", Add, a, b)?, (short(a.shape()), short(b.shape()))))
    }
    fn vjp(
        &self,
        (a, b): (Dims, Dims),
        g: Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        let db = needs[1].then(|| sum_to(&g, &b));
        Ok([needs[0].then(|| sum_to(&g, &a)), db])
    }
}

impl<T: Float> Op<T, 2> for Sub {
    type Saved = (Dims, Dims);
    fn name(&self) -> &'static str {
        "sub"
    }
    fn forward(&self, [a, b]: [&Tensor<T>; 2]) -> Result<(Tensor<T>, Self::Saved)> {
        Ok((zip("sub", Sub, a, b)?, (short(a.shape()), short(b.shape()))))
    }
    fn vjp(
        &self,
        (a, b): (Dims, Dims),
        g: Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        let db = needs[1].then(|| map_owned(Negate, sum_to(&g, &b)));
        Ok([needs[0].then(|| sum_to(&g, &a)), db])
    }
    fn vjp_recorded(
        &self,
        (a, b): (Dims, Dims),
        g: Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        Ok([needs[0].then(|| sum_to(&g, &a)), needs[1].then(|| sum_to(&-&g, &b))])
    }
}

impl<T: Float> Op<T, 2> for Mul {
    type Saved = (Tensor<T>, Tensor<T>);
    fn name(&self) -> &'static str {
        "mul"
    }
    fn forward(&self, [a, b]: [&Tensor<T>; 2]) -> Result<(Tensor<T>, Self::Saved)> {
        Ok((zip("mul", Mul, a, b)?, (a.clone(), b.clone())))
    }
    fn vjp(
        &self,
        (a, b): Self::Saved,
        g: Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        let db = if needs[1] { Some(sum_to(&zip("mul", Mul, &g, &a)?, b.shape())) } else { None };
        let da =
            if needs[0] { Some(sum_to(&zip_owned("mul", Mul, g, &b)?, a.shape())) } else { None };
        Ok([da, db])
    }
    fn vjp_recorded(
        &self,
        (a, b): Self::Saved,
        g: Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        let da = if needs[0] { Some(sum_to(&g.try_mul(&b)?, a.shape())) } else { None };
        let db = if needs[1] { Some(sum_to(&g.try_mul(&a)?, b.shape())) } else { None };
        Ok([da, db])
    }
}

impl<T: Float> Op<T, 2> for Div {
    type Saved = (Tensor<T>, Tensor<T>);
    fn name(&self) -> &'static str {
        "div"
    }
    fn forward(&self, [a, b]: [&Tensor<T>; 2]) -> Result<(Tensor<T>, Self::Saved)> {
        Ok((zip("div", Div, a, b)?, (a.clone(), b.clone())))
    }
    fn vjp(
        &self,
        (a, b): Self::Saved,
        g: Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        let db = if needs[1] {
            Some(sum_to(&zip3("div", DivisorGradient, &g, &a, &b)?, b.shape()))
        } else {
            None
        };
        let da =
            if needs[0] { Some(sum_to(&zip_owned("div", Div, g, &b)?, a.shape())) } else { None };
        Ok([da, db])
    }
    fn vjp_recorded(
        &self,
        (a, b): Self::Saved,
        g: Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        let share = g.try_div(&b)?;
        let db = match needs[1] {
            true => Some(sum_to(&-share.try_mul(&a.try_div(&b)?)?, b.shape())),
            false => None,
        };
        Ok([needs[0].then(|| sum_to(&share, a.shape())), db])
    }
}

/// Refuses integer divisors of zero; floats give infinities and NaN.
fn check_divisor<T: Num>(b: impl IntoIterator<Item = T>) -> Result<()> {
    if !T::IS_FLOAT && b.into_iter().any(|v| v == T::ZERO) {
        return Err(Error::argument("div", "an integer divisor is 0"));
    }
    Ok(())
}

impl<T: Num> Tensor<T> {
    /// `self + other`, broadcast. The checked form of the operator `+`.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let a: Tensor = Tensor::from([[1.0, 2.0], [3.0, 4.0]]);
    /// assert_eq!(a.try_add(&Tensor::from([10.0, 20.0]))?.to_vec(), [11.0, 22.0, 13.0, 24.0]);
    /// assert_eq!((&a + 1.0).to_vec(), [2.0, 3.0, 4.0, 5.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not broadcast.
    pub fn try_add(&self, other: &Tensor<T>) -> Result<Tensor<T>> {
        record_if_float(Add, [self, other], |[a, b]| zip("add", Add, a, b))
    }

    /// `self - other`, broadcast. The checked form of the operator `-`.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let y = Tensor::from([5i64, 6]).try_sub(&Tensor::from([1i64]))?;
    /// assert_eq!(y.to_vec(), [4, 5]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not broadcast.
    pub fn try_sub(&self, other: &Tensor<T>) -> Result<Tensor<T>> {
        record_if_float(Sub, [self, other], |[a, b]| zip("sub", Sub, a, b))
    }

    /// `self * other`, element by element, broadcast. The checked form of the operator `*`.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let column: Tensor = Tensor::from([[1.0], [10.0]]);
    /// assert_eq!(column.try_mul(&Tensor::from([1.0, 2.0]))?.to_vec(), [1.0, 2.0, 10.0, 20.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not broadcast.
    pub fn try_mul(&self, other: &Tensor<T>) -> Result<Tensor<T>> {
        record_if_float(Mul, [self, other], |[a, b]| zip("mul", Mul, a, b))
    }

    /// `self / other`, broadcast; of integers truncated towards zero. The checked form of the operator `/`.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([7i64, -7]).try_div(&Tensor::from([2i64]))?.to_vec(), [3, -3]);
    /// assert!(Tensor::from([7i64]).try_div(&Tensor::from([0i64])).is_err());
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not broadcast, [`Error::Argument`] if an integer divisor is 0.
    pub fn try_div(&self, other: &Tensor<T>) -> Result<Tensor<T>> {
        check_divisor(other)?;
        record_if_float(Div, [self, other], |[a, b]| zip("div", Div, a, b))
    }
}

/// The derivatives of the operations with a number. The number is kept as f64, which holds every f32, so that one type serves both floats.
macro_rules! scalar_rules {
    ($($op:ty, $name:literal, $keep:ident, |$s:ident, $x:ident| $f:expr, |$g:ident| $df:expr,
        |$ts:ident, $tx:ident, $tg:ident| $dt:expr;)*) => {$(
        impl<T: Float> Unary<T> for $op {
            const NAME: &'static str = $name;
            const KEEP: Keep = Keep::$keep;
            #[inline(always)]
            fn f<const FMA: bool>(self, $x: T) -> T {
                let $s = T::of(self.1);
                $f
            }
            #[inline(always)]
            fn df<const FMA: bool>(self, $x: T, $g: T) -> T {
                let $s = T::of(self.1);
                let _ = ($s, $x);
                $df
            }
            fn gradient(self, $tx: &Tensor<T>, $tg: &Tensor<T>) -> Tensor<T> {
                let $ts = T::of(self.1);
                let _ = ($ts, $tx);
                $dt
            }
        }
    )*};
}
scalar_rules! {
    Right<Add, f64>, "add_scalar", Nothing, |s, x| x + s, |g| g, |s, x, g| g.clone();
    Right<Sub, f64>, "sub_scalar", Nothing, |s, x| x - s, |g| g, |s, x, g| g.clone();
    Right<Mul, f64>, "mul_scalar", Nothing, |s, x| x * s, |g| g * s, |s, x, g| g * s;
    Right<Div, f64>, "div_scalar", Nothing, |s, x| x / s, |g| g / s, |s, x, g| g / s;
    Left<Sub, f64>, "rsub_scalar", Nothing, |s, x| s - x, |g| -g, |s, x, g| -g;
    Left<Div, f64>, "rdiv_scalar", Input, |s, x| s / x, |g| -g * ((s / x) / x),
        |s, x, g| -(g * (&x.rdiv_scalar(s) / x));
}

/// `f(x, s)`, recorded as the rule of the same name.
fn right<T: Num, F: Copy>(f: F, x: &Tensor<T>, s: T) -> Tensor<T>
where
    Right<F, T>: Map<T, T>,
    Right<F, f64>: Unary<f32> + Unary<f64>,
{
    let rule = Rule(Right(f, s.cast::<f64>()));
    infallible("arithmetic", record_if_float(rule, [x], |[x]| Ok(map(Right(f, s), x))))
}

/// `f(s, x)`, recorded as the rule of the same name.
fn left<T: Num, F: Copy>(f: F, s: T, x: &Tensor<T>) -> Tensor<T>
where
    Left<F, T>: Map<T, T>,
    Left<F, f64>: Unary<f32> + Unary<f64>,
{
    let rule = Rule(Left(f, s.cast::<f64>()));
    infallible("arithmetic", record_if_float(rule, [x], |[x]| Ok(map(Left(f, s), x))))
}

impl<T: Num> Tensor<T> {
    /// `self + s` at each place, as the operator `+`.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([1i64, 2]).add_scalar(3).to_vec(), [4, 5]);
    /// ```
    pub fn add_scalar(&self, s: T) -> Tensor<T> {
        right(Add, self, s)
    }

    /// `self - s` at each place, as the operator `-`.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([1i64, 2]).sub_scalar(3).to_vec(), [-2, -1]);
    /// ```
    pub fn sub_scalar(&self, s: T) -> Tensor<T> {
        right(Sub, self, s)
    }

    /// `s - self` at each place, as the operator `-` with a number on the left.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([1i64, 2]).rsub_scalar(3).to_vec(), [2, 1]);
    /// ```
    pub fn rsub_scalar(&self, s: T) -> Tensor<T> {
        left(Sub, s, self)
    }

    /// `self * s` at each place, as the operator `*`.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([1i64, 2]).mul_scalar(3).to_vec(), [3, 6]);
    /// ```
    pub fn mul_scalar(&self, s: T) -> Tensor<T> {
        right(Mul, self, s)
    }

    /// `self / s` at each place. The checked form of the operator `/`.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x = Tensor::from([7i64, -7]);
    /// assert_eq!(x.try_div_scalar(2)?.to_vec(), [3, -3]);
    /// assert!(x.try_div_scalar(0).is_err());
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if `s` is the integer 0.
    pub fn try_div_scalar(&self, s: T) -> Result<Tensor<T>> {
        check_divisor([s])?;
        Ok(right(Div, self, s))
    }

    /// `s / self` at each place. The checked form of the operator `/` with a number on the left.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([2i64, 4]).try_rdiv_scalar(8)?.to_vec(), [4, 2]);
    /// assert!(Tensor::from([0i64]).try_rdiv_scalar(8).is_err());
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if an integer in the tensor is 0.
    pub fn try_rdiv_scalar(&self, s: T) -> Result<Tensor<T>> {
        check_divisor(self)?;
        Ok(left(Div, s, self))
    }

    /// `-self`, as the operator `-`. Of integers it wraps around.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([1i64, -2]).neg().to_vec(), [-1, 2]);
    /// ```
    pub fn neg(&self) -> Tensor<T> {
        infallible("neg", record_if_float(Rule(Negate), [self], |[x]| Ok(map(Negate, x))))
    }
}

impl<T: Float> Tensor<T> {
    /// `self / s` at each place, as the operator `/`.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([1.0, 2.0]).div_scalar(4.0).to_vec(), [0.25, 0.5]);
    /// ```
    pub fn div_scalar(&self, s: T) -> Tensor<T> {
        right(Div, self, s)
    }

    /// `s / self` at each place, as the operator `/` with a number on the left.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([1.0, 2.0]).rdiv_scalar(4.0).to_vec(), [4.0, 2.0]);
    /// ```
    pub fn rdiv_scalar(&self, s: T) -> Tensor<T> {
        left(Div, s, self)
    }
}

impl<T: Float> Unary<T> for Negate {
    const NAME: &'static str = "neg";
    const KEEP: Keep = Keep::Nothing;
    #[inline(always)]
    fn f<const FMA: bool>(self, x: T) -> T {
        -x
    }
    #[inline(always)]
    fn df<const FMA: bool>(self, _: T, g: T) -> T {
        -g
    }
    fn gradient(self, _: &Tensor<T>, g: &Tensor<T>) -> Tensor<T> {
        -g
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    fn f64s(shape: &[usize], first: f64) -> Tensor<f64> {
        Tensor::from_fn(shape, |i| first + 0.37 * i as f64).unwrap()
    }

    /// Every way in which two shapes can meet, and layouts that are not dense.
    fn pairs() -> Vec<(Tensor<f64>, Tensor<f64>)> {
        let wide = f64s(&[3, 8], 0.5);
        let stepped = wide.with_layout(wide.layout().slice(1, 1, 4, 2));
        let flipped = wide.with_layout(wide.layout().slice(1, 7, 4, -2));
        let transposed = f64s(&[4, 3], 2.0);
        let transposed = transposed.with_layout(transposed.layout().permute(&[1, 0]));
        vec![
            (f64s(&[3, 4], 0.5), f64s(&[3, 4], 1.5)),
            (f64s(&[3, 4], 0.5), f64s(&[4], 1.5)),
            (f64s(&[4], 0.5), f64s(&[3, 4], 1.5)),
            (f64s(&[3, 1], 0.5), f64s(&[1, 4], 1.5)),
            (f64s(&[], 0.5), f64s(&[2, 3], 1.5)),
            (f64s(&[2, 3, 4], 0.5), f64s(&[3, 1], 1.5)),
            (f64s(&[], 0.5), f64s(&[], 1.5)),
            (f64s(&[2, 0, 3], 0.5), f64s(&[1, 3], 1.5)),
            (f64s(&[0], 0.5), f64s(&[1], 1.5)),
            (stepped.clone(), transposed.clone()),
            (transposed, flipped.clone()),
            (stepped, f64s(&[4], 1.5)),
            (f64s(&[3, 1], 0.7), flipped),
        ]
    }

    /// The slow truth: index by index.
    fn by_index(a: &Tensor<f64>, b: &Tensor<f64>, f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        let shape = crate::tensor::broadcast("test", a.shape(), b.shape()).unwrap();
        let (la, lb) = (a.layout().expand(&shape), b.layout().expand(&shape));
        la.offsets().zip(lb.offsets()).map(|(i, j)| f(a.buffer()[i], b.buffer()[j])).collect()
    }

    #[test]
    fn values_and_gradients_on_every_pair_of_shapes_and_layouts() {
        for (a, b) in &pairs() {
            assert_eq!(a.try_add(b).unwrap().to_vec(), by_index(a, b, |a, b| a + b));
            assert_eq!(a.try_sub(b).unwrap().to_vec(), by_index(a, b, |a, b| a - b));
            assert_eq!(a.try_mul(b).unwrap().to_vec(), by_index(a, b, |a, b| a * b));
            assert_eq!(a.try_div(b).unwrap().to_vec(), by_index(a, b, |a, b| a / b));
            gradcheck(|[a, b]| a.try_add(b), [a, b]).unwrap();
            gradcheck(|[a, b]| a.try_sub(b), [a, b]).unwrap();
            gradcheck(|[a, b]| a.try_mul(b), [a, b]).unwrap();
            gradcheck(|[a, b]| a.try_div(b), [a, b]).unwrap();
        }
    }

    #[test]
    fn one_tensor_on_both_sides_gets_both_gradients() {
        let x = f64s(&[3], 1.0);
        gradcheck(|[x]| x.try_mul(x), [&x]).unwrap();
        gradcheck(|[x]| x.try_div(x), [&x]).unwrap();
        gradcheck(|[x]| x.try_sub(x), [&x]).unwrap();
    }

    #[test]
    fn numbers_on_either_side() {
        let x = Tensor::from([1.0f64, -2.0, 4.0]);
        assert_eq!(x.rsub_scalar(1.0).to_vec(), [0.0, 3.0, -3.0]);
        assert_eq!(x.rdiv_scalar(2.0).to_vec(), [2.0, -1.0, 0.5]);
        for f in [
            |x: &Tensor<f64>| x.add_scalar(0.3),
            |x: &Tensor<f64>| x.sub_scalar(0.3),
            |x: &Tensor<f64>| x.mul_scalar(0.3),
            |x: &Tensor<f64>| x.div_scalar(0.3),
            |x: &Tensor<f64>| x.rsub_scalar(0.3),
            |x: &Tensor<f64>| x.rdiv_scalar(0.3),
            |x: &Tensor<f64>| x.neg(),
        ] {
            gradcheck(|[x]| Ok(f(x)), [&x]).unwrap();
        }
    }

    #[test]
    fn integers_wrap_and_do_not_divide_by_zero() {
        let x = Tensor::from([250u8, 3]);
        assert_eq!(x.try_add(&Tensor::from([10u8])).unwrap().to_vec(), [4, 13]);
        assert_eq!(Tensor::from([i64::MIN]).neg().to_vec(), [i64::MIN]);
        let e = x.try_div(&Tensor::from([1u8, 0])).unwrap_err();
        assert_eq!(e.to_string(), "div: an integer divisor is 0");
        assert!(x.try_div_scalar(0).is_err() && Tensor::from([0i32]).try_rdiv_scalar(1).is_err());
        assert_eq!(Tensor::from([1.0f32]).try_div_scalar(0.0).unwrap().to_vec(), [f32::INFINITY]);
    }

    #[test]
    fn shapes_that_do_not_fit_are_named() {
        let e = f64s(&[2, 3], 0.0).try_mul(&f64s(&[4], 0.0)).unwrap_err().to_string();
        assert!(e.starts_with("mul: shapes do not broadcast: [2, 3] and [4]"), "{e}");
    }

    #[test]
    fn the_shared_gradient_of_a_sum_is_not_overwritten() {
        let tape = crate::Tape::new(0);
        let (a, b) = (tape.leaf(&f64s(&[3], 1.0)), tape.leaf(&f64s(&[3], 2.0)));
        let y = a.try_add(&b).unwrap().try_mul(&a).unwrap();
        let g = y.backward_with(&f64s(&[3], 1.0).ones_like()).unwrap();
        assert_eq!(g.wrt(&b).unwrap().to_vec(), a.to_vec());
    }
}
