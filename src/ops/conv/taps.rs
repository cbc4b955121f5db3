//! The taps of a window along one axis, laid out one after another, and the sum back.
//!
//! ```text
//! lay:  y[n, o, c, k, ..] = x[n, c, o·stride + k·dilation - pad, ..], 0 outside          x [images, channels, size, plane]
//! add:  x[n, c, z, ..]    = Σ y[n, o, c, k, ..] over the (o, k) that lie at z             y [images, windows, channels, kernel, plane]
//! ```
//!
//! Both are linear, and each is the other's gradient.

use super::weight::slice;
use crate::autograd::{Op, apply};
use crate::error::Result;
use crate::float::Float;
use crate::kernel::conv::taps::{self, Line};
use crate::tensor::{Dims, Tensor};

/// The windows along an axis, and the operation they belong to.
#[derive(Clone, Copy)]
pub(super) struct Taps {
    pub name: &'static str,
    pub line: Line,
}

impl Taps {
    /// Images, channels, size, plane.
    fn whole(&self) -> Dims {
        let l = &self.line;
        [l.images, l.channels, l.size, l.plane].into_iter().collect()
    }

    /// Images and windows, channels and taps, plane.
    fn laid(&self) -> Dims {
        let l = &self.line;
        [l.images * l.windows, l.channels * l.kernel, l.plane].into_iter().collect()
    }

    /// Lays the taps out.
    pub(super) fn lay(self) -> Lay {
        Lay { taps: self, from: None }
    }

    /// Adds them up.
    pub(super) fn add(self) -> Add {
        Add { taps: self, from: None }
    }
}

/// The taps laid out: \[images·windows, channels·kernel, plane\], from any shape with as many elements.
pub(super) struct Lay {
    taps: Taps,
    /// The shape of the answer, if another.
    from: Option<Dims>,
}

/// The taps added up: \[images, channels, size, plane\], from any shape with as many elements.
pub(super) struct Add {
    taps: Taps,
    from: Option<Dims>,
}

impl<T: Float> Op<T, 1> for Lay {
    type Saved = Dims;
    const COMPOSED: bool = true;

    fn name(&self) -> &'static str {
        self.taps.name
    }

    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, Dims)> {
        let shape = self.from.clone().unwrap_or_else(|| self.taps.laid());
        let dense = x.dense();
        let y = Tensor::try_build(self.taps.name, &shape, |y| {
            taps::lay(&self.taps.line, slice(&dense), y);
        })?;
        Ok((y, x.shape().into()))
    }

    fn vjp(&self, from: Dims, g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        Ok([Some(apply(Add { taps: self.taps, from: Some(from) }, [&g])?)])
    }
}

impl<T: Float> Op<T, 1> for Add {
    type Saved = Dims;
    const COMPOSED: bool = true;

    fn name(&self) -> &'static str {
        self.taps.name
    }

    fn forward(&self, [y]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, Dims)> {
        let shape = self.from.clone().unwrap_or_else(|| self.taps.whole());
        let dense = y.dense();
        let x = Tensor::try_build(self.taps.name, &shape, |x| {
            taps::add(&self.taps.line, slice(&dense), x);
        })?;
        Ok((x, y.shape().into()))
    }

    fn vjp(&self, from: Dims, g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        Ok([Some(apply(Lay { taps: self.taps, from: Some(from) }, [&g])?)])
    }
}
