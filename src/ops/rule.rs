//! The rule of an elementwise function of one variable: `f`, its derivative, and what the derivative is computed from.

use super::elementwise::{infallible, map, map_owned, zip, zip_owned};
use crate::autograd::{Op, apply_total};
use crate::error::Result;
use crate::float::Float;
use crate::kernel::map::{CHEAP, Map, Zip};
use crate::profile::Span;
use crate::tensor::Tensor;

/// What a derivative is computed from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// The gradient alone.
    Nothing,
    /// x
    Input,
    /// y
    Output,
}

/// A function of one variable and its derivative. Both must be `#[inline(always)]`.
pub(crate) trait Unary<T: Float>: Copy + Send + Sync + 'static {
    /// The name in errors.
    const NAME: &'static str;
    /// What [`df`](Self::df) gets.
    const KEEP: Keep;
    /// Estimated nanoseconds for an element.
    const NS: f64 = CHEAP;
    /// y = f(x)
    fn f<const FMA: bool>(self, x: T) -> T;
    /// As [`Map::run`].
    #[inline(always)]
    fn run(self, _x: &[T], _y: &mut [T]) -> bool {
        false
    }
    /// Whether there are places that [`f`](Self::f) or [`df`](Self::df) cannot compute; see [`Map::RARE`].
    const RARE: bool = false;
    /// Whether this is one.
    #[inline(always)]
    fn is_rare(self, _x: T) -> bool {
        false
    }
    /// f(x) at such a place.
    #[inline(always)]
    fn rare_f<const FMA: bool>(self, x: T) -> T {
        self.f::<FMA>(x)
    }
    /// dx there.
    #[inline(always)]
    fn rare_df<const FMA: bool>(self, kept: T, g: T) -> T {
        self.df::<FMA>(kept, g)
    }
    /// dx = g f'(x), from what is kept. Where f' is 0 the gradient is 0 even if a factor of it overflows.
    fn df<const FMA: bool>(self, kept: T, g: T) -> T;
    /// The same as [`df`](Self::df) by tensor operations, for gradients that are recorded.
    fn gradient(self, kept: &Tensor<T>, g: &Tensor<T>) -> Tensor<T>;
}

/// The gradient of a function whose slope is constant in pieces: `g` times that slope, which has no derivative of its own.
pub(crate) fn by_pieces<T: Float, U: Unary<T>>(f: U, kept: &Tensor<T>, g: &Tensor<T>) -> Tensor<T> {
    let slope = zip(U::NAME, Backward(f), &g.ones_like(), &kept.detach());
    g * infallible(U::NAME, slope)
}

/// The function as a loop.
#[derive(Clone, Copy)]
pub(crate) struct Forward<U>(pub(crate) U);
impl<T: Float, U: Unary<T>> Map<T, T> for Forward<U> {
    const NS: f64 = U::NS;
    #[inline(always)]
    fn at<const FMA: bool>(self, x: T) -> T {
        self.0.f::<FMA>(x)
    }
    #[inline(always)]
    fn run(self, x: &[T], y: &mut [T]) -> bool {
        self.0.run(x, y)
    }
    const RARE: bool = U::RARE;
    #[inline(always)]
    fn is_rare(self, x: T) -> bool {
        self.0.is_rare(x)
    }
    #[inline(always)]
    fn rare<const FMA: bool>(self, x: T) -> T {
        self.0.rare_f::<FMA>(x)
    }
}

/// The derivative as a loop over the gradient and what is kept.
#[derive(Clone, Copy)]
struct Backward<U>(U);
impl<T: Float, U: Unary<T>> Zip<T, T, T> for Backward<U> {
    const NS: f64 = U::NS;
    #[inline(always)]
    fn at<const FMA: bool>(self, g: T, kept: T) -> T {
        self.0.df::<FMA>(kept, g)
    }
    const RARE: bool = U::RARE;
    #[inline(always)]
    fn is_rare(self, _: T, kept: T) -> bool {
        self.0.is_rare(kept)
    }
    #[inline(always)]
    fn rare<const FMA: bool>(self, g: T, kept: T) -> T {
        self.0.rare_df::<FMA>(kept, g)
    }
}
impl<T: Float, U: Unary<T>> Map<T, T> for Backward<U> {
    const NS: f64 = U::NS;
    #[inline(always)]
    fn at<const FMA: bool>(self, g: T) -> T {
        self.0.df::<FMA>(T::ZERO, g)
    }
}

/// The recorded operation.
pub(crate) struct Rule<U>(pub(crate) U);

impl<T: Float, U: Unary<T>> Op<T, 1> for Rule<U> {
    type Saved = Option<Tensor<T>>;

    fn name(&self) -> &'static str {
        U::NAME
    }

    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, Self::Saved)> {
        let y = map(Forward(self.0), x);
        let kept = match U::KEEP {
            Keep::Nothing => None,
            Keep::Input => Some(x.clone()),
            Keep::Output => Some(y.clone()),
        };
        Ok((y, kept))
    }

    fn vjp(&self, kept: Self::Saved, g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        Ok([Some(match kept {
            Some(kept) => zip_owned(U::NAME, Backward(self.0), g, &kept)?,
            None => map_owned(Backward(self.0), g),
        })])
    }

    fn vjp_recorded(
        &self,
        kept: Self::Saved,
        g: Tensor<T>,
        _: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        Ok([Some(self.0.gradient(kept.as_ref().unwrap_or(&g), &g))])
    }
}

/// y = f(x), recorded if x is.
pub(crate) fn unary<T: Float, U: Unary<T>>(f: U, x: &Tensor<T>) -> Tensor<T> {
    if x.is_recorded() { apply_total(Rule(f), x) } else { unrecorded(U::NAME, Forward(f), x) }
}

/// `f(x)` at each place, for an operation that has a loop of its own for what no tape sees.
pub(crate) fn unrecorded<T: Float>(
    name: &'static str,
    f: impl Map<T, T>,
    x: &Tensor<T>,
) -> Tensor<T> {
    let span = Span::open();
    let y = map(f, x);
    Span::moved(span, name, &[x], &y);
    y
}
