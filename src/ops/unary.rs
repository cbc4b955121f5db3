//! Functions of one variable, at each place. One row each: the name, what the derivative needs, y = f(x), and dx.

use super::rule::{Keep, Unary, unary};
use crate::float::Float;
use crate::tensor::Tensor;

/// Declares functions without parameters: documentation, method, what is kept, nanoseconds, `f`, and `df` of what is kept and g.
macro_rules! functions {
    ($($(#[$doc:meta])* $method:ident $op:ident $keep:ident $ns:literal: |$x:ident| $f:expr, |$k:ident, $g:ident| $df:expr;)*) => {
        $(
            #[derive(Clone, Copy)]
            struct $op;
            impl<T: Float> Unary<T> for $op {
                const NAME: &'static str = stringify!($method);
                const KEEP: Keep = Keep::$keep;
                const NS: f64 = $ns;
                #[inline(always)]
                fn f<const FMA: bool>(self, $x: T) -> T {
                    $f
                }
                #[inline(always)]
                fn df<const FMA: bool>(self, $k: T, $g: T) -> T {
                    $df
                }
            }
        )*
        impl<T: Float> Tensor<T> {
            $($(#[$doc])* pub fn $method(&self) -> Tensor<T> {
                unary($op, self)
            })*
        }
    };
}

functions! {
    /// max(x, 0); the derivative at 0 is 0.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([-1.0f32, 0.0, 2.0]).relu().to_vec(), [0.0, 0.0, 2.0]);
    /// ```
    relu Relu Output 0.25:
        |x| if x < T::ZERO { T::ZERO } else { x },
        |y, g| if y <= T::ZERO { T::ZERO } else { g };
}
