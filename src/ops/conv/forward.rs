//! A convolution over two axes: the kernels of `kernel::conv` as an operation.

use super::transposed::Transposed;
use super::weight::{WeightGradient, bias_recorded, slice, weight_and_bias};
use crate::autograd::{Op, apply};
use crate::error::Result;
use crate::float::Float;
use crate::kernel::conv::{self, Conv};
use crate::tensor::{Dims, Tensor};

/// A convolution, checked.
#[derive(Clone)]
pub(super) struct Convolve {
    pub name: &'static str,
    pub conv: Conv,
    pub out: Dims,
    /// Whether ReLU follows: only where nothing is recorded.
    pub relu: bool,
}

impl Convolve {
    fn output<T: Float>(
        &self,
        x: &Tensor<T>,
        w: &Tensor<T>,
        bias: Option<&Tensor<T>>,
    ) -> Result<Tensor<T>> {
        let (x, w, bias) = (x.dense(), w.dense(), bias.map(Tensor::dense));
        Tensor::try_build(self.name, &self.out, |y| {
            let bias = bias.as_ref().map(|b| slice(b));
            conv::forward(&self.conv, slice(&x), slice(&w), bias, self.relu, y);
        })
    }

    fn gradients<T: Float>(
        &self,
        (x, w): (Tensor<T>, Tensor<T>),
        g: &Tensor<T>,
        needs: [bool; 3],
    ) -> [Option<Tensor<T>>; 3] {
        let c = &self.conv;
        let g = g.dense();
        let dx = needs[0].then(|| {
            let w = w.dense();
            Tensor::build(x.shape(), |dx| conv::input_grad(c, slice(&g), slice(&w), dx))
        });
        let (dw, db) = weight_and_bias(c, &x, &g, &w, [needs[1], needs[2]]);
        [dx, dw, db]
    }

    fn gradients_recorded<T: Float>(
        &self,
        (x, w): (Tensor<T>, Tensor<T>),
        g: &Tensor<T>,
        needs: [bool; 3],
    ) -> Result<[Option<Tensor<T>>; 3]> {
        let c = &self.conv;
        let mut d = [None, None, None];
        if needs[0] {
            d[0] = Some(apply(
                Transposed { name: "convolution (gradient)", conv: *c, out: x.shape().into() },
                [g, &w],
            )?);
        }
        if needs[1] {
            let op = WeightGradient { conv: *c, weight: w.shape().into() };
            d[1] = Some(apply(op, [&x, g])?);
        }
        if needs[2] {
            d[2] = Some(bias_recorded(g, c.batch, c.groups * c.c_out)?);
        }
        Ok(d)
    }
}

impl<T: Float> Op<T, 2> for Convolve {
    type Saved = (Tensor<T>, Tensor<T>);
    fn name(&self) -> &'static str {
        self.name
    }
    fn forward(&self, [x, w]: [&Tensor<T>; 2]) -> Result<(Tensor<T>, Self::Saved)> {
        Ok((self.output(x, w, None)?, (x.clone(), w.clone())))
    }
    fn vjp(
        &self,
        saved: Self::Saved,
        g: Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        let [dx, dw, _] = self.gradients(saved, &g, [needs[0], needs[1], false]);
        Ok([dx, dw])
    }
    fn vjp_recorded(
        &self,
        saved: Self::Saved,
        g: Tensor<T>,
        needs: [bool; 2],
    ) -> Result<[Option<Tensor<T>>; 2]> {
        let [dx, dw, _] = self.gradients_recorded(saved, &g, [needs[0], needs[1], false])?;
        Ok([dx, dw])
    }
    fn flops(&self, _: [&[usize]; 2]) -> u64 {
        self.conv.flop() as u64
    }
}

impl<T: Float> Op<T, 3> for Convolve {
    type Saved = (Tensor<T>, Tensor<T>);
    fn name(&self) -> &'static str {
        self.name
    }
    fn forward(&self, [x, w, b]: [&Tensor<T>; 3]) -> Result<(Tensor<T>, Self::Saved)> {
        Ok((self.output(x, w, Some(b))?, (x.clone(), w.clone())))
    }
    fn vjp(
        &self,
        saved: Self::Saved,
        g: Tensor<T>,
        needs: [bool; 3],
    ) -> Result<[Option<Tensor<T>>; 3]> {
        Ok(self.gradients(saved, &g, needs))
    }
    fn vjp_recorded(
        &self,
        saved: Self::Saved,
        g: Tensor<T>,
        needs: [bool; 3],
    ) -> Result<[Option<Tensor<T>>; 3]> {
        self.gradients_recorded(saved, &g, needs)
    }
    fn flops(&self, _: [&[usize]; 3]) -> u64 {
        self.conv.flop() as u64
    }
    fn vjp_flops(&self, _: [&[usize]; 3], [dx, dw, _]: [bool; 3]) -> u64 {
        self.conv.flop() as u64 * (u64::from(dx) + u64::from(dw))
    }
}
