//! Attention by the tiled kernels, forward and backward.

use super::{Attention, AttentionMask, NAME, Operands, composed, outer};
use crate::autograd::{Op, apply};
use crate::element::Element;
use crate::error::Result;
use crate::float::Float;
use crate::kernel::attention::{Mask, Place, Problem, Sink, Sinks, Units, backward, forward};
use crate::kernel::keep::Keep;
use crate::tensor::{Dims, Layout, Tensor, numel};

pub(super) struct Fused<T: Float> {
    pub(super) options: Attention<T>,
    pub(super) group: usize,
}

/// q, k and v where they lie, however that is.
pub(super) fn attention<T: Float>(x: &Operands<T>, options: &Attention<T>) -> Result<Tensor<T>> {
    apply(Fused::new(options, x.group), [&x.q, &x.k, &x.v])
}

fn readable<M: Element>(mask: &Tensor<M>) -> Tensor<M> {
    match mask.strides().last() {
        None | Some(0 | 1) => mask.detach(),
        Some(_) if mask.shape().last() == Some(&1) => mask.detach(),
        Some(_) => mask.copy(),
    }
}

/// The matrices of a tensor, unit by unit.
fn units<'a, M: Element>(x: &'a Tensor<M>, layout: &Layout) -> Units<'a, M> {
    let outer = layout.rank() - 2;
    let axes = Layout {
        shape: layout.shape[..outer].into(),
        strides: layout.strides[..outer].into(),
        offset: layout.offset,
    };
    Units {
        data: x.buffer(),
        at: axes.offsets().collect(),
        rs: layout.strides[outer],
        cs: layout.strides[outer + 1],
    }
}

/// Where the matrices of a tensor go, whose columns lie side by side.
pub(super) fn place(layout: &Layout) -> Place {
    let outer = layout.rank() - 2;
    let axes = Layout {
        shape: layout.shape[..outer].into(),
        strides: layout.strides[..outer].into(),
        offset: layout.offset,
    };
    Place { at: axes.offsets().collect(), rs: layout.strides[outer] as usize }
}

/// A tensor under a layout that covers a buffer without gaps.
fn build<T: Float>(layout: &Layout, fill: impl FnOnce(&mut [T])) -> Tensor<T> {
    Tensor::build(&[layout.len()], fill).with_layout(layout.clone())
}

impl<T: Float> Fused<T> {
    pub(super) fn new(options: &Attention<T>, group: usize) -> Self {
        let mut options = options.clone();
        for mask in &mut options.masks {
            // Neither is ever differentiated here; rows of a mask are read side by side or as one number for all keys.
            match mask {
                AttentionMask::Allow(m) => *m = readable(m),
                AttentionMask::Add(m) => *m = readable(m),
            }
        }
        Fused { options, group }
    }

    /// How many queries look at how many keys, together; other masks than the causal one leave none out.
    fn pairs(&self, q: &[usize], v: &[usize]) -> u64 {
        let (queries, keys) = (q[q.len() - 2], v[v.len() - 2]);
        let pairs: usize = match self.options.causal {
            None => queries * keys,
            Some(start) => (0..queries).map(|i| (start.saturating_add(i + 1)).min(keys)).sum(),
        };
        (q[..q.len() - 2].iter().product::<usize>() * pairs) as u64
    }

    /// Writes the gradients.
    pub(super) fn gradients(
        &self,
        [q, k, v]: [&Tensor<T>; 3],
        g: &Tensor<T>,
        y: &Tensor<T>,
        lse: &Tensor<T>,
        sinks: Sinks<'_, T>,
    ) {
        debug_assert_eq!(outer(g), outer(y));
        let g = columns_together(g);
        let lse = lse.as_slice().unwrap_or(&[]);
        let (g, y) = (units(&g, g.layout()), units(y, y.layout()));
        backward(&self.problem(q, k, v), &g, &y, lse, sinks);
    }

    fn problem<'a>(
        &'a self,
        q: &'a Tensor<T>,
        k: &'a Tensor<T>,
        v: &'a Tensor<T>,
    ) -> Problem<'a, T> {
        let rank = q.rank();
        let ([queries, width], [keys, value]) = (last_two(q), last_two(v));
        let mut scores: Dims = q.shape().into();
        scores[rank - 1] = keys;
        let masks = self.options.masks.iter().map(|mask| match mask {
            AttentionMask::Allow(m) => Mask::Allow(units(m, &m.layout().expand(&scores))),
            AttentionMask::Add(m) => Mask::Add(units(m, &m.layout().expand(&scores))),
        });
        Problem {
            q: units(q, q.layout()),
            k: units(k, k.layout()),
            v: units(v, v.layout()),
            masks: masks.collect(),
            size: [queries, keys],
            width: [width, value],
            group: self.group,
            scale: T::of(self.options.factor(width)),
            causal: self.options.causal.map(|start| start.min(keys)),
            keep: self.options.drops().map(|(p, seed)| Keep::new(p, seed)),
        }
    }
}

fn last_two<T: Float>(x: &Tensor<T>) -> [usize; 2] {
    let s = x.shape();
    [s[s.len() - 2], s[s.len() - 1]]
}

/// With the columns side by side, as the kernels read it.
fn columns_together<T: Float>(x: &Tensor<T>) -> Tensor<T> {
    if x.strides().last() == Some(&1) { x.detach() } else { x.copy() }
}

impl<T: Float> Op<T, 3> for Fused<T> {
    /// The inputs, the output, and the logarithms of the sums of exponentials.
    type Saved = (Tensor<T>, Tensor<T>, Tensor<T>, Tensor<T>, Tensor<T>);

    fn name(&self) -> &'static str {
        NAME
    }

    fn forward(&self, [q, k, v]: [&Tensor<T>; 3]) -> Result<(Tensor<T>, Self::Saved)> {
        let mut shape: Dims = q.shape().into();
        let last = shape.len() - 1;
        shape[last] = last_two(v)[1];
        numel(NAME, &shape)?;
        let problem = self.problem(q, k, v);
        let layout = q.layout().order_for(&shape);
        let mut lse = None;
        let y = build(&layout, |out| {
            lse = Some(Tensor::build(&shape[..last], |lse| {
                forward(&problem, Sink::new(out, &place(&layout)), lse);
            }));
        });
        let lse = lse.unwrap_or_else(|| Tensor::build(&[0], |_| {}));
        Ok((y.clone(), (q.clone(), k.clone(), v.clone(), y, lse)))
    }

    fn vjp(
        &self,
        (q, k, v, y, lse): Self::Saved,
        g: Tensor<T>,
        needs: [bool; 3],
    ) -> Result<[Option<Tensor<T>>; 3]> {
        let layouts = [&q, &k, &v].map(|x| x.layout().order_for(x.shape()));
        let places = layouts.each_ref().map(place);
        // One buffer after the other, empty where nobody asks.
        let len = |i: usize| if needs[i] { layouts[i].len() } else { 0 };
        let buffers = [0, 1, 2].map(|i| Tensor::<T>::build(&[len(i)], |_| {}));
        let [mut dq, mut dk, mut dv] = buffers;
        let sinks = Sinks {
            q: needs[0].then(|| Sink::new(dq.make_mut(), &places[0])),
            k: needs[1].then(|| Sink::new(dk.make_mut(), &places[1])),
            v: needs[2].then(|| Sink::new(dv.make_mut(), &places[2])),
        };
        self.gradients([&q, &k, &v], &g, &y, &lse, sinks);
        let [lq, lk, lv] = layouts;
        Ok([
            needs[0].then(|| dq.with_layout(lq)),
            needs[1].then(|| dk.with_layout(lk)),
            needs[2].then(|| dv.with_layout(lv)),
        ])
    }

    fn vjp_recorded(
        &self,
        (q, k, v, ..): Self::Saved,
        g: Tensor<T>,
        _: [bool; 3],
    ) -> Result<[Option<Tensor<T>>; 3]> {
        composed::gradients(&Operands { q, k, v, group: self.group }, &g, &self.options)
    }

    /// Two products: of queries and keys, of weights and values.
    fn flops(&self, [q, _, v]: [&[usize]; 3]) -> u64 {
        self.pairs(q, v) * 2 * (q[q.len() - 1] + v[v.len() - 1]) as u64
    }

    /// Five: the weights again, and from their gradients those of the scores, queries, keys and values.
    fn vjp_flops(&self, [q, _, v]: [&[usize]; 3], _: [bool; 3]) -> u64 {
        self.pairs(q, v) * 2 * (3 * q[q.len() - 1] + 2 * v[v.len() - 1]) as u64
    }
}
