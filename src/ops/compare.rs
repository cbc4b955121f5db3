//! Comparisons, truth values, and choosing by them; conversions between element types.

use std::marker::PhantomData;
use std::sync::Arc;

use super::broadcast::sum_to;
use super::elementwise::{map, zip, zip_owned, zip3};
use super::float_only::{is, record_if_float, same_type};
use crate::autograd::{AnyTensor, Node, Op, Place, Recorded, TapeCore};
use crate::element::{Element, Num};
use crate::error::Result;
use crate::float::Float;
use crate::kernel::map::{Map, Zip, Zip3};
use crate::tensor::{Dims, Tensor};

macro_rules! comparisons {
    ($($(#[$doc:meta])* $op:ident $name:ident $name_scalar:ident $symbol:tt;)*) => {
        $(
            #[derive(Clone, Copy)]
            struct $op;
            impl<T: Element> Zip<T, T, bool> for $op {
                #[inline(always)]
                fn at<const FMA: bool>(self, a: T, b: T) -> bool {
                    a $symbol b
                }
            }
            impl<T: Element> Map<T, bool> for Against<$op, T> {
                #[inline(always)]
                fn at<const FMA: bool>(self, a: T) -> bool {
                    a $symbol self.1
                }
            }
        )*
        impl<T: Element> Tensor<T> {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// [`Error::Shape`](crate::Error::Shape) if the shapes do not broadcast.
                pub fn $name(&self, other: &Tensor<T>) -> Result<Tensor<bool>> {
                    zip(stringify!($name), $op, self, other)
                }

                /// The same comparison with one value.
                pub fn $name_scalar(&self, value: T) -> Tensor<bool> {
                    map(Against($op, value), self)
                }
            )*
        }
    };
}

/// A comparison and its right operand.
#[derive(Clone, Copy)]
struct Against<F, T>(F, T);

comparisons! {
    /// Where `self = other`, element by element, broadcast. (`==` on tensors is a single truth value.)
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x = Tensor::from([1i64, 2, 3]);
    /// assert_eq!(x.try_eq(&Tensor::from([2i64]))?.to_vec(), [false, true, false]);
    /// assert_eq!(x.gt_scalar(1).to_vec(), [false, true, true]);
    /// # Ok::<(), Error>(())
    /// ```
    Eq try_eq eq_scalar ==;
    /// Where `self ≠ other`, broadcast; a NaN differs from everything.
    Ne try_ne ne_scalar !=;
    /// Where `self < other`, broadcast.
    Lt try_lt lt_scalar <;
    /// Where `self ≤ other`, broadcast.
    Le try_le le_scalar <=;
    /// Where `self > other`, broadcast.
    Gt try_gt gt_scalar >;
    /// Where `self ≥ other`, broadcast.
    Ge try_ge ge_scalar >=;
}

#[derive(Clone, Copy)]
struct And;
impl Zip<bool, bool, bool> for And {
    #[inline(always)]
    fn at<const FMA: bool>(self, a: bool, b: bool) -> bool {
        a & b
    }
}
#[derive(Clone, Copy)]
struct Or;
impl Zip<bool, bool, bool> for Or {
    #[inline(always)]
    fn at<const FMA: bool>(self, a: bool, b: bool) -> bool {
        a | b
    }
}
#[derive(Clone, Copy)]
struct Not;
impl Map<bool, bool> for Not {
    #[inline(always)]
    fn at<const FMA: bool>(self, a: bool) -> bool {
        !a
    }
}

impl Tensor<bool> {
    /// Where both are true, broadcast.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x = Tensor::from([1i64, 2, 3]);
    /// assert_eq!(x.gt_scalar(1).logical_and(&x.lt_scalar(3))?.to_vec(), [false, true, false]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the shapes do not broadcast.
    pub fn logical_and(&self, other: &Tensor<bool>) -> Result<Tensor<bool>> {
        zip("logical_and", And, self, other)
    }

    /// Where one or both are true, broadcast.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x = Tensor::from([1i64, 2, 3]);
    /// assert_eq!(x.lt_scalar(2).logical_or(&x.gt_scalar(2))?.to_vec(), [true, false, true]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the shapes do not broadcast.
    pub fn logical_or(&self, other: &Tensor<bool>) -> Result<Tensor<bool>> {
        zip("logical_or", Or, self, other)
    }

    /// Where this is false.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([true, false]).logical_not().to_vec(), [false, true]);
    /// ```
    pub fn logical_not(&self) -> Tensor<bool> {
        map(Not, self)
    }

    /// Whether any element is true; false if there is none.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert!(Tensor::from([false, true]).any());
    /// ```
    pub fn any(&self) -> bool {
        self.iter().any(|v| v)
    }

    /// Whether every element is true; true if there is none.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x = Tensor::from([1.0f32, 2.0]).gt_scalar(1.5);
    /// assert_eq!((x.any(), x.all(), x.count_true()), (true, false, 1));
    /// ```
    pub fn all(&self) -> bool {
        self.iter().all(|v| v)
    }

    /// How many elements are true.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([true, false, true]).count_true(), 2);
    /// ```
    pub fn count_true(&self) -> usize {
        self.iter().filter(|&v| v).count()
    }

    /// `a` where this is true, `b` elsewhere; all three broadcast. The gradient goes to the one that was taken.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x = Tensor::from([-1.0f32, 4.0]);
    /// let y = x.gt_scalar(0.0).select_where(&x, &Tensor::scalar(0.5))?;
    /// assert_eq!(y.to_vec(), [0.5, 4.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the shapes do not broadcast.
    pub fn select_where<T: Element>(&self, a: &Tensor<T>, b: &Tensor<T>) -> Result<Tensor<T>> {
        let plain = |[a, b]: [&Tensor<T>; 2]| zip3("select_where", Choose, self, a, b);
        record_if_float(Select(self.clone()), [a, b], plain)
    }
}

#[derive(Clone, Copy)]
struct Choose;
impl<T: Element> Zip3<bool, T, T, T> for Choose {
    #[inline(always)]
    fn at<const FMA: bool>(self, cond: bool, a: T, b: T) -> T {
        if cond { a } else { b }
    }
}

/// `g` where the condition is as it should be, 0 elsewhere.
#[derive(Clone, Copy)]
struct Where(bool);
impl<T: Element> Zip<T, bool, T> for Where {
    #[inline(always)]
    fn at<const FMA: bool>(self, g: T, cond: bool) -> T {
        if cond == self.0 { g } else { T::ZERO }
    }
}

/// y = a or b; da = g where the condition is true, db where it is false.
struct Select(Tensor<bool>);
impl<T: Float> Op<T, 2> for Select {
    type Saved = (Dims, Dims);
    fn name(&self) -> &'static str {
        "select_where"
    }
    fn forward(&self, [a, b]: [&Tensor<T>; 2]) -> Result<(Tensor<T>, Self::Saved)> {
        Ok((zip3("select_where", Choose, &self.0, a, b)?, (a.shape().into(), b.shape().into())))
    }
    fn vjp(
        &self,
        (a, b): Self::Saved,
        g: Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        let db = match needs[1] {
            true => Some(sum_to(&zip("select_where", Where(false), &g, &self.0)?, &b)),
            false => None,
        };
        let da = match needs[0] {
            true => Some(sum_to(&zip_owned("select_where", Where(true), g, &self.0)?, &a)),
            false => None,
        };
        Ok([da, db])
    }
    fn vjp_recorded(
        &self,
        (a, b): Self::Saved,
        g: Tensor<T>,
        _: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        let zero = Tensor::scalar(T::ZERO);
        let da = sum_to(&self.0.select_where(&g, &zero)?, &a);
        Ok([Some(da), Some(sum_to(&self.0.select_where(&zero, &g)?, &b))])
    }
}

impl<T: Element> Tensor<T> {
    /// `value` where `mask` is true, this tensor elsewhere; broadcast. No gradient flows where the mask is true.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x = Tensor::from([1.0f32, 2.0]).masked_fill(&Tensor::from([true, false]), 9.0)?;
    /// assert_eq!(x.to_vec(), [9.0, 2.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the shapes do not broadcast.
    pub fn masked_fill(&self, mask: &Tensor<bool>, value: T) -> Result<Tensor<T>> {
        mask.select_where(&Tensor::scalar(value), self)
    }

    /// The elements as another type, like `as`: floats to integers truncate and saturate, numbers to `bool` are `x ≠ 0`.
    /// Recorded between floats.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([1.7f32, -0.2]).cast::<i64>().to_vec(), [1, 0]);
    /// ```
    pub fn cast<U: Element>(&self) -> Tensor<U> {
        if is::<T, U>() {
            return same_type::<T, U>(self).clone();
        }
        let y = map(As, self);
        let back: Option<Arc<dyn Recorded>> = match (is::<T, f32>(), is::<U, f32>()) {
            (true, _) if is::<U, f64>() => Some(Arc::new(CastBack::<f32, f64>(PhantomData))),
            (_, true) if is::<T, f64>() => Some(Arc::new(CastBack::<f64, f32>(PhantomData))),
            _ => None,
        };
        match (self.tape(), back) {
            (Some(tape), Some(op)) => {
                let inputs = std::iter::once(TapeCore::id_of(self.link())).collect();
                let link = TapeCore::push(&tape, Node::Op { inputs, op });
                y.with_link(link)
            }
            _ => y,
        }
    }
}

/// The backward rule of a cast from `T` to `U`: the gradient is cast back.
struct CastBack<T, U>(PhantomData<(T, U)>);
impl<T: Float, U: Float> Recorded for CastBack<T, U> {
    fn name(&self) -> &'static str {
        "cast"
    }
    fn backward(
        self: Arc<Self>,
        g: AnyTensor,
        _: &[bool],
        sink: &mut dyn FnMut(usize, AnyTensor),
    ) -> Result<()> {
        if let Some(g) = g.take::<U>() {
            sink(0, AnyTensor::new(g.cast::<T>()));
        }
        Ok(())
    }
    fn backward_recorded(
        self: Arc<Self>,
        _: &Place<'_>,
        g: AnyTensor,
        needs: &[bool],
        sink: &mut dyn FnMut(usize, AnyTensor),
    ) -> Result<()> {
        self.backward(g, needs, sink)
    }
}

#[derive(Clone, Copy)]
struct As;
impl<T: Element, U: Element> Map<T, U> for As {
    #[inline(always)]
    fn at<const FMA: bool>(self, x: T) -> U {
        x.cast()
    }
}

#[derive(Clone, Copy)]
struct IsNan;
impl<T: Num> Map<T, bool> for IsNan {
    #[inline(always)]
    fn at<const FMA: bool>(self, x: T) -> bool {
        x.is_not_a_number()
    }
}
#[derive(Clone, Copy)]
struct IsFinite;
impl<T: Num> Map<T, bool> for IsFinite {
    #[inline(always)]
    fn at<const FMA: bool>(self, x: T) -> bool {
        // ∞ - ∞ is NaN.
        !x.minus(x).is_not_a_number()
    }
}

impl<T: Num> Tensor<T> {
    /// Where an element is NaN; nowhere for integers.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([1.0, f32::NAN]).is_nan().to_vec(), [false, true]);
    /// ```
    pub fn is_nan(&self) -> Tensor<bool> {
        map(IsNan, self)
    }

    /// Where an element is neither infinite nor NaN.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([1.0, f32::INFINITY]).is_finite().to_vec(), [true, false]);
    /// ```
    pub fn is_finite(&self) -> Tensor<bool> {
        map(IsFinite, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    #[test]
    fn comparisons_broadcast_and_know_nan() -> Result<()> {
        let x = Tensor::from([[1.0f32, f32::NAN], [3.0, -1.0]]);
        let y = Tensor::from([1.0f32, 2.0]);
        assert_eq!(x.try_eq(&y)?.to_vec(), [true, false, false, false]);
        assert_eq!(x.try_ne(&y)?.to_vec(), [false, true, true, true]);
        assert_eq!(y.try_lt(&x)?.to_vec(), [false, false, true, false]);
        assert_eq!(x.ge_scalar(1.0).to_vec(), [true, false, true, false]);
        assert_eq!(x.is_nan().count_true(), 1);
        assert_eq!(Tensor::from([f64::INFINITY, 1.0]).is_finite().to_vec(), [false, true]);
        assert!(x.try_le(&Tensor::from([0.0f32; 3])).is_err());
        let (t, f) = (Tensor::from([true, false]), Tensor::from([[true], [false]]));
        assert_eq!(t.logical_and(&f)?.to_vec(), [true, false, false, false]);
        assert_eq!(t.logical_or(&f)?.logical_not().to_vec(), [false, false, false, true]);
        Ok(())
    }

    #[test]
    fn selecting_sends_the_gradient_to_the_one_taken() -> Result<()> {
        let cond = Tensor::from([[true], [false], [true]]);
        let a = Tensor::from([[1.0f64, 2.0, 3.0, 4.0]]);
        let b = Tensor::scalar(5.0);
        let y = cond.select_where(&a, &b)?;
        assert_eq!(y.get([1, 2])?, 5.0);
        gradcheck(|[a, b]| cond.select_where(a, b), [&a, &b])?;
        gradcheck(|[a]| a.masked_fill(&cond, f64::NEG_INFINITY)?.masked_fill(&cond, 0.0), [&a])?;
        assert_eq!(
            cond.select_where(&Tensor::from([1i64]), &Tensor::from([2]))?.to_vec(),
            [1, 2, 1]
        );
        Ok(())
    }

    #[test]
    fn casts_between_floats_are_recorded() -> Result<()> {
        let tape = crate::Tape::new(0);
        let x = tape.leaf(&Tensor::from([1.5f32, -2.0]));
        let wide = x.cast::<f64>();
        let y = wide.try_mul(&wide)?.cast::<f32>();
        let g = y.backward_with(&Tensor::from([1.0f32, 1.0]))?;
        assert_eq!(g.wrt(&x).unwrap().to_vec(), [3.0, -4.0]);
        assert_eq!(Tensor::from([300i64, -1]).cast::<u8>().to_vec(), [44, 255]);
        assert_eq!(Tensor::from([2.0f32, 0.0]).cast::<bool>().to_vec(), [true, false]);
        Ok(())
    }
}
