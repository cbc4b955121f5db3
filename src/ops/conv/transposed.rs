//! A transposed convolution over two axes: the gradient of a convolution's input as an operation.

use super::forward::Convolve;
use super::weight::{WeightGradient, bias_recorded, slice, weight_and_bias};
use crate::autograd::{Op, apply};
use crate::error::Result;
use crate::float::Float;
use crate::kernel::conv::{self, Conv};
use crate::tensor::{Dims, Tensor};

/// A transposed convolution: `conv` has this one's output as its input.
#[derive(Clone)]
pub(super) struct Transposed {
    pub name: &'static str,
    pub conv: Conv,
    pub out: Dims,
}

impl Transposed {
    fn output<T: Float>(
        &self,
        x: &Tensor<T>,
        w: &Tensor<T>,
        bias: Option<&Tensor<T>>,
    ) -> Result<Tensor<T>> {
        let (x, w) = (x.dense(), w.dense());
        Tensor::try_build(self.name, &self.out, |y| {
            conv::input_grad(&self.conv, slice(&x), slice(&w), y);
            if let Some(bias) = bias {
                let plane = self.conv.input[0] * self.conv.input[1];
                let bias: Vec<T> = bias.to_vec();
                for (y, &b) in y.chunks_exact_mut(plane).zip(bias.iter().cycle()) {
                    y.iter_mut().for_each(|y| *y += b);
                }
            }
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
            Tensor::build(x.shape(), |dx| conv::forward(c, slice(&g), slice(&w), None, false, dx))
        });
        let (dw, _) = weight_and_bias(c, &g, &x.dense(), &w, [needs[1], false]);
        let db = needs[2].then(|| {
            let (plane, filters) = (c.input[0] * c.input[1], c.groups * c.c_in);
            Tensor::build(&[filters], |db| {
                db.fill(T::ZERO);
                for (i, g) in slice(&g).chunks_exact(plane).enumerate() {
                    db[i % filters] += g.iter().copied().sum::<T>();
                }
            })
        });
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
            let (name, out) = ("transposed convolution (gradient)", x.shape().into());
            d[0] = Some(apply(Convolve { name, conv: *c, out, relu: false }, [g, &w])?);
        }
        if needs[1] {
            let op = WeightGradient { conv: *c, weight: w.shape().into() };
            d[1] = Some(apply(op, [g, &x])?);
        }
        if needs[2] {
            d[2] = Some(bias_recorded(g, c.batch, c.groups * c.c_in)?);
        }
        Ok(d)
    }
}

impl<T: Float> Op<T, 2> for Transposed {
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

impl<T: Float> Op<T, 3> for Transposed {
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
