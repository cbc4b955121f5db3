//! Self-attention whose queries, keys and values are the parts of one projection. Their gradients are written into one array, where
//! slices of it would each have theirs put together with the others'.

use super::fused::{Fused, place};
use super::{Attention, NAME, Operands, composed};
use crate::autograd::{Op, apply};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::attention::{Sink, Sinks};
use crate::tensor::{Dims, Tensor};

/// How a projection holds queries, keys and values: side by side, in this order, the heads of each one after another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packing {
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of the keys, and of the values.
    pub kv_heads: usize,
    /// Whether the axes are \[batch, positions, width\], or \[positions, batch, width\].
    pub batch_first: bool,
}

impl Packing {
    /// Queries, keys and values \[batch, heads, positions, d\], as views.
    pub(crate) fn parts<T: Float>(&self, x: &Tensor<T>) -> Result<[Tensor<T>; 3]> {
        let width = x.shape().last().copied().unwrap_or(0);
        let d = width / (self.heads + 2 * self.kv_heads);
        let (own, shared) = (self.heads * d, self.kv_heads * d);
        let part = |start, heads: usize| {
            split_heads(&x.narrow(-1, start, heads * d)?, heads, self.batch_first)
        };
        Ok([part(0, self.heads)?, part(own, self.kv_heads)?, part(own + shared, self.kv_heads)?])
    }

    /// The adjoint of [`parts`](Self::parts).
    fn whole<T: Float>(&self, parts: [Tensor<T>; 3], shape: &[usize]) -> Result<Tensor<T>> {
        let joined = |x: Tensor<T>| {
            let [_, heads, _, d] = *x.shape() else { return Ok(x) };
            let order = match (shape.len(), self.batch_first) {
                (3, false) => [2, 0, 1, 3],
                _ => [0, 2, 1, 3],
            };
            let mut own: Dims = shape.into();
            own[shape.len() - 1] = heads * d;
            x.permute(order)?.reshape(&own)
        };
        let [q, k, v] = parts;
        Tensor::concat(&[&joined(q)?, &joined(k)?, &joined(v)?], -1)
    }
}

/// \[batch, positions, heads·d\], or \[positions, batch, heads·d\] if not `batch_first`, to \[batch, heads, positions, d\]; \[positions, heads·d\] is a batch of one.
pub(crate) fn split_heads<T: Float>(
    x: &Tensor<T>,
    heads: usize,
    batch_first: bool,
) -> Result<Tensor<T>> {
    let d = x.shape().last().copied().unwrap_or(0) / heads.max(1);
    match *x.shape() {
        [n, _] => x.reshape([n, heads, d])?.permute([1, 0, 2])?.unsqueeze(0),
        [a, b, _] => {
            let order = if batch_first { [0, 2, 1, 3] } else { [1, 2, 0, 3] };
            x.reshape([a, b, heads, d])?.permute(order)
        }
        _ => Err(Error::shape(NAME, format!("{:?} has no heads", x.shape()))),
    }
}

/// [`scaled_dot_product_attention`](Tensor::scaled_dot_product_attention) of the parts of `x`.
pub(crate) fn packed_attention<T: Float>(
    x: &Tensor<T>,
    packing: Packing,
    options: &Attention<T>,
) -> Result<Tensor<T>> {
    let [q, k, v] = packing.parts(&x.detach())?;
    let parts = Operands::new(&q, &k, &v, options)?;
    if options.learns_mask() {
        let [q, k, v] = packing.parts(x)?;
        return q.scaled_dot_product_attention(&k, &v, options);
    }
    apply(Packed { packing, of: Fused::new(options, parts.group) }, [x])
}

struct Packed<T: Float> {
    packing: Packing,
    of: Fused<T>,
}

impl<T: Float> Op<T, 1> for Packed<T> {
    /// The input, the output, and the logarithms of the sums of exponentials.
    type Saved = (Tensor<T>, Tensor<T>, Tensor<T>);

    fn name(&self) -> &'static str {
        NAME
    }

    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, Self::Saved)> {
        let [q, k, v] = self.packing.parts(&x.detach())?;
        let (y, (.., lse)) = self.of.forward([&q, &k, &v])?;
        Ok((y.clone(), (x.clone(), y, lse)))
    }

    fn vjp(
        &self,
        (x, y, lse): Self::Saved,
        g: Tensor<T>,
        _: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        let [q, k, v] = self.packing.parts(&x.detach())?;
        let mut dx = Tensor::build(x.shape(), |_| {});
        let places = self.packing.parts(&dx)?.map(|part| place(part.layout()));
        let [dq, dk, dv] = Sink::three(dx.make_mut(), &places).map(Some);
        self.of.gradients([&q, &k, &v], &g, &y, &lse, Sinks { q: dq, k: dk, v: dv });
        Ok([Some(dx)])
    }

    fn vjp_recorded(
        &self,
        (x, ..): Self::Saved,
        g: Tensor<T>,
        _: [bool; 1],
    ) -> Result<[Option<Tensor<T>>; 1]> {
        let [q, k, v] = self.packing.parts(&x)?;
        let parts = Operands { q, k, v, group: self.of.group };
        let [Some(dq), Some(dk), Some(dv)] = composed::gradients(&parts, &g, &self.of.options)?
        else {
            return Ok([None]);
        };
        Ok([Some(self.packing.whole([dq, dk, dv], x.shape())?)])
    }

    fn flops(&self, [x]: [&[usize]; 1]) -> u64 {
        let [q, v] = self.shapes(x);
        self.of.flops([&q, &v, &v])
    }

    fn vjp_flops(&self, [x]: [&[usize]; 1], _: [bool; 1]) -> u64 {
        let [q, v] = self.shapes(x);
        self.of.vjp_flops([&q, &v, &v], [true; 3])
    }
}

impl<T: Float> Packed<T> {
    /// The shapes of the queries and of the values.
    fn shapes(&self, x: &[usize]) -> [[usize; 4]; 2] {
        let Packing { heads, kv_heads, batch_first } = self.packing;
        let (batch, positions, width) = match *x {
            [a, b, width] if batch_first => (a, b, width),
            [a, b, width] => (b, a, width),
            [n, width] => (1, n, width),
            _ => (0, 0, 0),
        };
        let d = width / (heads + 2 * kv_heads);
        [[batch, heads, positions, d], [batch, kv_heads, positions, d]]
    }
}
