//! Paddings as layers.

use crate::Module;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::nn::{Layer, Visitor, VisitorMut};
use crate::ops::PadMode;
use crate::tensor::Tensor;

/// What a padding layer adds before and after each of the last `D` axes: a number for all sides, or a pair for each axis, from the first to
/// the last. Negative numbers cut.
///
/// ```
/// use gradus::nn::Pads;
/// assert_eq!(Pads::<2>::from(1), Pads([(1, 1), (1, 1)]));
/// let left = Pads::from([(0, 0), (2, 0)]);                 // nothing above and below, two columns left
/// # let _ = left;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pads<const D: usize>(pub [(isize, isize); D]);

impl<const D: usize> From<isize> for Pads<D> {
    fn from(n: isize) -> Self {
        Pads([(n, n); D])
    }
}
impl<const D: usize> From<[(isize, isize); D]> for Pads<D> {
    fn from(p: [(isize, isize); D]) -> Self {
        Pads(p)
    }
}

impl<const D: usize> Pads<D> {
    /// One pair for every axis of a tensor \[batch, channels, ..\] or \[channels, ..\].
    fn all(&self, op: &'static str, x: &[usize]) -> Result<Vec<(isize, isize)>> {
        match x.len().checked_sub(D) {
            Some(lead @ 1..=2) => Ok([(0, 0)].repeat(lead).into_iter().chain(self.0).collect()),
            _ => Err(Error::shape(
                op,
                format!(
                    "the input has shape {x:?}, but must be [batch, channels, ..] or [channels, ..] with {D} axes behind"
                ),
            )),
        }
    }
}

/// A layer that pads, its names, and how.
macro_rules! paddings {
    ($($(#[$doc:meta])* $name:ident [$($arg:ident: $ty:ty)?], $one:ident $two:ident $three:ident, $what:literal, $pad:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name<const D: usize> {
            /// Before and after each axis.
            pub pads: [(isize, isize); D],
            $(
                /// What is added.
                pub $arg: $ty,
            )?
        }

        #[doc = concat!($what, " along a length.")]
        pub type $one = $name<1>;
        #[doc = concat!($what, " along height and width.")]
        pub type $two = $name<2>;
        #[doc = concat!($what, " along depth, height and width.")]
        pub type $three = $name<3>;

        impl<const D: usize> $name<D> {
            const NAME: &'static str = [
                stringify!($name), stringify!($one), stringify!($two), stringify!($three),
            ][if D < 4 { D } else { 0 }];

            /// Pads by so much: a number, or a pair for each axis from the first to the last.
            pub fn new(pads: impl Into<Pads<D>>$(, $arg: $ty)?) -> Self {
                $name { pads: pads.into().0$(, $arg)? }
            }
        }

        impl<const D: usize> Module for $name<D> {
            fn visit(&self, _: &mut Visitor<'_>) {}
            fn visit_mut(&mut self, _: &mut VisitorMut<'_>) {}
        }

        impl<T: Float, const D: usize> Layer<T> for $name<D> {
            fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
                let pads = Pads(self.pads).all(Self::NAME, x.shape())?;
                let pad: fn(&Tensor<T>, &[(isize, isize)], &Self) -> Result<Tensor<T>> = $pad;
                pad(x, &pads, self)
            }
        }
    )*};
}

paddings! {
    /// Zeros around the last `D` axes of \[batch, channels, ..\] or \[channels, ..\]; see [`Tensor::pad`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::ZeroPad1d;
    /// let x: Tensor = Tensor::from([[1.0, 2.0, 3.0]]);
    /// assert_eq!(ZeroPad1d::new(1).forward(&x)?.to_vec(), [0.0, 1.0, 2.0, 3.0, 0.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ZeroPad [], ZeroPad1d ZeroPad2d ZeroPad3d, "Zeros",
        |x, pads, _| x.pad(pads, T::ZERO);
    /// The mirror image, without the edge itself, around the last `D` axes of \[batch, channels, ..\] or \[channels, ..\]; see [`Tensor::pad_mode`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::ReflectionPad1d;
    /// let x: Tensor = Tensor::from([[1.0, 2.0, 3.0]]);
    /// assert_eq!(ReflectionPad1d::new(1).forward(&x)?.to_vec(), [2.0, 1.0, 2.0, 3.0, 2.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ReflectionPad [], ReflectionPad1d ReflectionPad2d ReflectionPad3d, "The mirror image, without the edge itself,",
        |x, pads, _| x.pad_mode(pads, PadMode::Reflect);
    /// The edge around the last `D` axes of \[batch, channels, ..\] or \[channels, ..\]; see [`Tensor::pad_mode`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::ReplicationPad1d;
    /// let x: Tensor = Tensor::from([[1.0, 2.0, 3.0]]);
    /// assert_eq!(ReplicationPad1d::new(1).forward(&x)?.to_vec(), [1.0, 1.0, 2.0, 3.0, 3.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ReplicationPad [], ReplicationPad1d ReplicationPad2d ReplicationPad3d, "The edge",
        |x, pads, _| x.pad_mode(pads, PadMode::Replicate);
    /// The other end around the last `D` axes of \[batch, channels, ..\] or \[channels, ..\]; see [`Tensor::pad_mode`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::CircularPad1d;
    /// let x: Tensor = Tensor::from([[1.0, 2.0, 3.0]]);
    /// assert_eq!(CircularPad1d::new(1).forward(&x)?.to_vec(), [3.0, 1.0, 2.0, 3.0, 1.0]);
    /// # Ok::<(), Error>(())
    /// ```
    CircularPad [], CircularPad1d CircularPad2d CircularPad3d, "The other end",
        |x, pads, _| x.pad_mode(pads, PadMode::Circular);
    /// A number around the last `D` axes of \[batch, channels, ..\] or \[channels, ..\]; see [`Tensor::pad`].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::ConstantPad1d;
    /// let x: Tensor = Tensor::from([[1.0, 2.0, 3.0]]);
    /// assert_eq!(ConstantPad1d::new(1, 9.0).forward(&x)?.to_vec(), [9.0, 1.0, 2.0, 3.0, 9.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ConstantPad [value: f64], ConstantPad1d ConstantPad2d ConstantPad3d, "A number",
        |x, pads, l| x.pad(pads, T::of(l.value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_and_errors() {
        let x: Tensor = Tensor::from([[[1.0, 2.0], [3.0, 4.0]]]);
        let y = ReflectionPad2d::new([(1, 0), (0, 1)]).forward(&x).unwrap();
        assert_eq!(y, Tensor::from([[[3.0, 4.0, 3.0], [1.0, 2.0, 1.0], [3.0, 4.0, 3.0]]]));
        let y = ReplicationPad2d::new([(0, 1), (-1, 0)]).forward(&x).unwrap();
        assert_eq!(y, Tensor::from([[[2.0], [4.0], [4.0]]]));
        let none: Tensor = Tensor::zeros([0, 2, 3]).unwrap();
        assert_eq!(CircularPad1d::new(2).forward(&none).unwrap().shape(), [0, 2, 7]);
        assert_eq!(
            ZeroPad3d::new(1)
                .forward(&Tensor::<f32>::ones([1, 1, 1, 1]).unwrap())
                .unwrap()
                .sum()
                .item()
                .unwrap(),
            1.0
        );
        let said = |l: &dyn Layer<f32>| l.forward(&x).unwrap_err().to_string();
        assert_eq!(
            said(&ReflectionPad2d::new(2)),
            "pad_mode: axis 1 of [1, 2, 2] has size 2, but the padding is (2, 2): the padding must be smaller than the size to reflect"
        );
        assert_eq!(
            said(&ZeroPad3d::new(2)),
            "ZeroPad3d: the input has shape [1, 2, 2], but must be [batch, channels, ..] or [channels, ..] with 3 axes behind"
        );
    }
}
