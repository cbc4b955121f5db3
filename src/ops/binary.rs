//! The larger and the smaller of two tensors, and one tensor to the power of another. All broadcast.
//!
//! Of two equal elements each gets half the gradient; a NaN wins.

use super::broadcast::sum_to;
use super::elementwise::{zip, zip3};
use crate::autograd::{Op, apply};
use crate::error::Result;
use crate::float::Float;
use crate::kernel::map::{Zip, Zip3};
use crate::tensor::Tensor;

/// A function of two variables and its derivatives, whose rule keeps both inputs.
trait Binary<T: Float>: Copy + Send + Sync + 'static {
    const NAME: &'static str;
    const NS: f64;
    fn f(self, a: T, b: T) -> T;
    fn da(self, g: T, a: T, b: T) -> T;
    fn db(self, g: T, a: T, b: T) -> T;
    /// Both derivatives by tensor operations, in the shape of `g`.
    fn gradients(self, a: &Tensor<T>, b: &Tensor<T>, g: &Tensor<T>) -> Result<[Tensor<T>; 2]>;
}

#[derive(Clone, Copy)]
struct F<B>(B);
impl<T: Float, B: Binary<T>> Zip<T, T, T> for F<B> {
    const NS: f64 = B::NS;
    #[inline(always)]
    fn at<const FMA: bool>(self, a: T, b: T) -> T {
        self.0.f(a, b)
    }
}
#[derive(Clone, Copy)]
struct Da<B>(B);
impl<T: Float, B: Binary<T>> Zip3<T, T, T, T> for Da<B> {
    const NS: f64 = B::NS;
    #[inline(always)]
    fn at<const FMA: bool>(self, g: T, a: T, b: T) -> T {
        self.0.da(g, a, b)
    }
}
#[derive(Clone, Copy)]
struct Db<B>(B);
impl<T: Float, B: Binary<T>> Zip3<T, T, T, T> for Db<B> {
    const NS: f64 = B::NS;
    #[inline(always)]
    fn at<const FMA: bool>(self, g: T, a: T, b: T) -> T {
        self.0.db(g, a, b)
    }
}

struct Rule<B>(B);
impl<T: Float, B: Binary<T>> Op<T, 2> for Rule<B> {
    type Saved = (Tensor<T>, Tensor<T>);
    fn name(&self) -> &'static str {
        B::NAME
    }
    fn forward(&self, [a, b]: [&Tensor<T>; 2]) -> Result<(Tensor<T>, Self::Saved)> {
        Ok((zip(B::NAME, F(self.0), a, b)?, (a.clone(), b.clone())))
    }
    fn vjp(
        &self,
        (a, b): Self::Saved,
        g: Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        let mut d = [None, None];
        if needs[0] {
            d[0] = Some(sum_to(&zip3(B::NAME, Da(self.0), &g, &a, &b)?, a.shape()));
        }
        if needs[1] {
            d[1] = Some(sum_to(&zip3(B::NAME, Db(self.0), &g, &a, &b)?, b.shape()));
        }
        Ok(d)
    }
    fn vjp_recorded(
        &self,
        (a, b): Self::Saved,
        g: Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        let [da, db] = self.0.gradients(&a, &b, &g)?;
        Ok([needs[0].then(|| sum_to(&da, a.shape())), needs[1].then(|| sum_to(&db, b.shape()))])
    }
}

macro_rules! binary {
    ($op:ident $name:literal $ns:literal |$a:ident, $b:ident, $g:ident| $f:expr, $da:expr, $db:expr, $gradients:expr) => {
        #[derive(Clone, Copy)]
        struct $op;
        #[allow(unused_variables)]
        impl<T: Float> Binary<T> for $op {
            const NAME: &'static str = $name;
            const NS: f64 = $ns;
            #[inline(always)]
            fn f(self, $a: T, $b: T) -> T {
                $f
            }
            #[inline(always)]
            fn da(self, $g: T, $a: T, $b: T) -> T {
                $da
            }
            #[inline(always)]
            fn db(self, $g: T, $a: T, $b: T) -> T {
                $db
            }
            fn gradients(
                self,
                a: &Tensor<T>,
                b: &Tensor<T>,
                g: &Tensor<T>,
            ) -> Result<[Tensor<T>; 2]> {
                $gradients(self, a, b, g)
            }
        }
    };
}

/// `g`, half of it for a tie, or nothing for the loser.
#[inline(always)]
fn share<T: Float>(g: T, tie: bool, lost: bool) -> T {
    let g = if tie { g * T::of(0.5) } else { g };
    if lost { T::ZERO } else { g }
}

binary!(Maximum "maximum" 0.3 |a, b, g|
    if a > b || a.is_not_a_number() { a } else { b }, share(g, a == b, a < b), share(g, a == b, b < a), by_pieces);
binary!(Minimum "minimum" 0.3 |a, b, g|
    if a < b || a.is_not_a_number() { a } else { b }, share(g, a == b, a > b), share(g, a == b, b > a), by_pieces);
binary!(Pow "pow" 20.0 |a, b, g|
num_traits::Float::powf(a, b),
if b == T::ZERO { T::ZERO } else { g * (b * num_traits::Float::powf(a, b - T::ONE)) },
if a == T::ZERO && b >= T::ZERO { T::ZERO } else {
    g * (num_traits::Float::powf(a, b) * num_traits::Float::ln(a))
},
pow_gradients);

/// The gradients of a function whose slopes are constant in pieces.
fn by_pieces<T: Float, B: Binary<T>>(
    f: B,
    a: &Tensor<T>,
    b: &Tensor<T>,
    g: &Tensor<T>,
) -> Result<[Tensor<T>; 2]> {
    let (one, a, b) = (g.ones_like(), a.detach(), b.detach());
    let (da, db) = (zip3(B::NAME, Da(f), &one, &a, &b)?, zip3(B::NAME, Db(f), &one, &a, &b)?);
    Ok([g.try_mul(&da)?, g.try_mul(&db)?])
}

/// g b a^(b-1) and g a^b ln a; where the rule says 0, the arguments are replaced by 1 first, so that nothing infinite is multiplied by that 0.
fn pow_gradients<T: Float>(
    _: Pow,
    a: &Tensor<T>,
    b: &Tensor<T>,
    g: &Tensor<T>,
) -> Result<[Tensor<T>; 2]> {
    let (one, zero) = (Tensor::scalar(T::ONE), Tensor::scalar(T::ZERO));
    let flat = b.eq_scalar(T::ZERO);
    let safe = flat.select_where(&one, a)?;
    let da = g.try_mul(&b.try_mul(&safe.pow(&(b - T::ONE))?)?)?;
    let still = a.eq_scalar(T::ZERO).logical_and(&b.ge_scalar(T::ZERO))?;
    let safe = still.select_where(&one, a)?;
    let db = g.try_mul(&safe.pow(b)?.try_mul(&safe.ln())?)?;
    Ok([flat.select_where(&zero, &da)?, still.select_where(&zero, &db)?])
}

impl<T: Float> Tensor<T> {
    /// The larger of both at each place, broadcast; NaN where either is.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x = Tensor::from([1.0f32, 5.0]).maximum(&Tensor::scalar(3.0))?;
    /// assert_eq!(x.to_vec(), [3.0, 5.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the shapes do not broadcast.
    pub fn maximum(&self, other: &Tensor<T>) -> Result<Tensor<T>> {
        apply(Rule(Maximum), [self, other])
    }

    /// The smaller of both at each place, broadcast; NaN where either is.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x = Tensor::from([1.0f32, 5.0]).minimum(&Tensor::scalar(3.0))?;
    /// assert_eq!(x.to_vec(), [1.0, 3.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the shapes do not broadcast.
    pub fn minimum(&self, other: &Tensor<T>) -> Result<Tensor<T>> {
        apply(Rule(Minimum), [self, other])
    }

    /// `self` to the power of `exponent`, broadcast. The derivatives are b a^(b-1), 0 for b = 0, and a^b ln a, 0 for a = 0 ≤ b.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x = Tensor::from([2.0f32, 3.0]).pow(&Tensor::from([3.0, 2.0]))?;
    /// assert_eq!(x.to_vec(), [8.0, 9.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the shapes do not broadcast.
    pub fn pow(&self, exponent: &Tensor<T>) -> Result<Tensor<T>> {
        apply(Rule(Pow), [self, exponent])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    #[test]
    fn gradients_broadcast() -> Result<()> {
        let a = Tensor::from([[0.5f64, 2.0, 1.5], [3.0, 0.3, 1.0]]);
        let b = Tensor::from([1.1f64, 0.7, 2.2]);
        for (a, b) in [(&a, &b), (&b, &a), (&a, &Tensor::scalar(1.3)), (&a, &a.copy())] {
            gradcheck(|[a, b]| a.pow(b), [a, b])?;
        }
        gradcheck(|[a, b]| a.maximum(b), [&a, &b])?;
        gradcheck(|[a, b]| a.minimum(b), [&b, &a])?;
        Ok(())
    }

    #[test]
    fn ties_share_and_nan_wins() -> Result<()> {
        let tape = crate::Tape::new(0);
        let (a, b) = (tape.leaf(&Tensor::from([1.0f64, 2.0])), Tensor::from([1.0f64, 3.0]));
        let g = a.maximum(&b)?.backward_with(&Tensor::from([1.0, 1.0]))?;
        assert_eq!(g.wrt(&a).unwrap().to_vec(), [0.5, 0.0]);
        let nan = Tensor::from([f64::NAN, 1.0]);
        assert!(b.maximum(&nan)?.get([0])?.is_nan() && nan.minimum(&b)?.get([0])?.is_nan());
        Ok(())
    }
}
