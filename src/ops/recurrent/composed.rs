//! The same layer step by step from tensor operations: for gradients of gradients, and what the tests compare the loops with.

use super::{Cell, Recurrent, Weights};
use crate::error::Result;
use crate::float::Float;
use crate::tensor::{Dims, Tensor};

/// One direction.
pub(crate) struct Composed<'a, T: Float> {
    pub cell: Cell,
    pub reverse: bool,
    pub lengths: Option<&'a [usize]>,
    /// \[batch, state\]
    pub mask: Option<Tensor<T>>,
    pub weights: Weights<'a, T>,
}

impl<T: Float> Composed<'_, T> {
    /// Output \[steps, batch, state\], final state, final cell.
    pub(crate) fn run(
        &self,
        x: &Tensor<T>,
        mut h: Tensor<T>,
        mut c: Tensor<T>,
    ) -> Result<[Tensor<T>; 3]> {
        let (steps, batch) = (x.shape()[0], x.shape()[1]);
        let mut y = vec![None; steps];
        for s in 0..steps {
            let t = if self.reverse { steps - 1 - s } else { s };
            let (mut new, mut new_c) = self.step(&x.select(0, t as isize)?, &h, &c)?;
            let mut out = new.clone();
            if let Some(lengths) = self.lengths {
                // 1 for those that have this step, 0 for those that have ended and carry on what they have.
                let on = |b: usize| if t < lengths[b] { T::ONE } else { T::ZERO };
                let on = Tensor::from_fn([batch, 1], on)?;
                let off = on.rsub_scalar(T::ONE);
                out = new.try_mul(&on)?;
                new = out.try_add(&h.try_mul(&off)?)?;
                new_c = new_c.try_mul(&on)?.try_add(&c.try_mul(&off)?)?;
            }
            y[t] = Some(out);
            (h, c) = (new, new_c);
        }
        let y: Vec<Tensor<T>> = y.into_iter().flatten().collect();
        Ok([Tensor::stack(&y.iter().collect::<Vec<_>>(), 0)?, h, c])
    }

    /// One step: the new state and cell.
    fn step(&self, x: &Tensor<T>, h: &Tensor<T>, c: &Tensor<T>) -> Result<(Tensor<T>, Tensor<T>)> {
        let w = &self.weights;
        let into = match &self.mask {
            Some(m) => h.try_mul(m)?,
            None => h.clone(),
        };
        let a = x.linear(w.w_ih, w.biases.map(|b| b.0))?;
        let b = into.linear(w.w_hh, w.biases.map(|b| b.1))?;
        let n = a.shape()[1] / self.cell.gates();
        let gate = |s: &Tensor<T>, i: usize| s.narrow(1, i * n, n);
        let sum = |i: usize| gate(&a, i)?.try_add(&gate(&b, i)?);
        Ok(match self.cell {
            Cell::Tanh => (sum(0)?.tanh(), c.clone()),
            Cell::Relu => (sum(0)?.relu(), c.clone()),
            Cell::Gru => {
                let (r, z) = (sum(0)?.sigmoid(), sum(1)?.sigmoid());
                let new = gate(&a, 2)?.try_add(&r.try_mul(&gate(&b, 2)?)?)?.tanh();
                (z.rsub_scalar(T::ONE).try_mul(&new)?.try_add(&z.try_mul(h)?)?, c.clone())
            }
            Cell::Lstm => {
                let (i, f) = (sum(0)?.sigmoid(), sum(1)?.sigmoid());
                let (g, o) = (sum(2)?.tanh(), sum(3)?.sigmoid());
                let c = f.try_mul(c)?.try_add(&i.try_mul(&g)?)?;
                let h = o.try_mul(&c.tanh())?;
                match w.w_hr {
                    Some(w) => (h.linear(w, None)?, c),
                    None => (h, c),
                }
            }
        })
    }
}

/// The whole operation: output, final states and final cells in a row.
pub(super) fn row<T: Float>(op: &Recurrent<T>, inputs: &[Tensor<T>]) -> Result<Tensor<T>> {
    let s = op.sizes;
    let (x, h0, c0, weights) = op.split(inputs);
    // Where a sequence has ended, whatever stood there must not count: not even a NaN.
    let x = match &op.lengths {
        None => x.clone(),
        Some(lengths) => {
            let ended =
                Tensor::from_fn([s.steps, s.batch, 1], |i| i / s.batch >= lengths[i % s.batch])?;
            x.masked_fill(&ended, T::ZERO)?
        }
    };
    let first = |given: Option<&Tensor<T>>, d: usize, n: usize| match given {
        Some(t) => t.select(0, d as isize),
        None => Tensor::zeros([s.batch, n]),
    };
    let (mut ys, mut hs, mut cs) = (Vec::new(), Vec::new(), Vec::new());
    for (d, w) in weights.chunks_exact(op.arity()).enumerate() {
        let weights = Weights {
            w_ih: &w[0],
            w_hh: &w[1],
            biases: op.biased.then(|| (&w[2], &w[3])),
            w_hr: op.projection(w),
        };
        let mask = op.mask.as_ref().map(|m| m.select(0, d as isize)).transpose()?;
        let (cell, lengths) = (s.cell, op.lengths.as_deref());
        let way = Composed { cell, reverse: d == 1, lengths, mask, weights };
        let [y, h, c] = way.run(&x, first(h0, d, s.state)?, first(c0, d, s.hidden)?)?;
        ys.push(y);
        hs.push(h);
        cs.push(c);
    }
    let y = Tensor::concat(&ys.iter().collect::<Vec<_>>(), 2)?;
    let mut parts = vec![y];
    parts.extend(hs);
    if s.cell == Cell::Lstm {
        parts.extend(cs);
    }
    let flat = |t: &Tensor<T>| t.reshape(&[t.len()].as_slice().into() as &Dims);
    let parts = parts.iter().map(flat).collect::<Result<Vec<_>>>()?;
    Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)
}
