//! Batch, group and instance normalisation: x \[N, C, ..\] with a weight and a bias for each channel, and statistics of each channel over the
//! batch, of groups of channels of each sample, or given ones.
//!
//! What is one number for each channel or plane is computed in f64, so that f32 loses nothing where the mean is far from 0: with m rounded to f32,
//! (x - m) a + b is corrected by the rest of m in b.

use super::composed::{Affine, Sharing, present};
use super::slice;
use crate::autograd::{OpMany, apply_many};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::norm::columns::{self, Columns};
use crate::kernel::norm::{merge, planes};
use crate::tensor::{Dims, Layout, Tensor};

/// Planes shorter than this are worked on as columns.
pub(super) const SHORT: usize = 32;

/// Which elements share their statistics.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Share {
    /// Those of a channel.
    Batch,
    /// Nobody: a mean and a variance for each channel are given.
    Given,
    /// Those of so many groups of channels, each sample by itself.
    Groups(usize),
}

/// The input as its loops see it.
pub(super) struct Arranged<T: Float> {
    x: Tensor<T>,
    /// Samples, channels, elements of a plane.
    dims: [usize; 3],
    /// Whether the channels stand last in memory, and `x` with them.
    last: bool,
    columns: bool,
}

/// Axis 1 moved to the end.
fn channels_last(layout: &Layout) -> Layout {
    let axes: Dims = [0].into_iter().chain(2..layout.rank()).chain([1]).collect();
    layout.permute(&axes)
}

/// Whether the loops are those over columns, and whether the channels stand last.
fn order<T: Float>(x: &Tensor<T>, share: Share) -> (bool, bool) {
    let by_channel = !matches!(share, Share::Groups(_));
    let last = !x.layout().is_dense() && channels_last(x.layout()).is_dense();
    let short = x.shape()[2..].iter().product::<usize>() < SHORT;
    (by_channel && (last || short), by_channel && last)
}

impl<T: Float> Arranged<T> {
    /// Without a copy where the elements stand in order, with the channels second or, unless there are groups, last.
    pub(super) fn new(x: &Tensor<T>, share: Share) -> Self {
        let (n, c, s) = (x.shape()[0], x.shape()[1], x.shape()[2..].iter().product());
        let (columns, last) = order(x, share);
        if last {
            let x = x.with_layout(channels_last(x.layout()));
            return Arranged { x, dims: [n * s, c, 1], last, columns };
        }
        Arranged { x: x.dense(), dims: [n, c, s], last, columns }
    }

    /// Another tensor of the same shape in the same order.
    fn same_order(&self, g: Tensor<T>) -> Tensor<T> {
        if self.last { g.with_layout(channels_last(g.layout())).dense() } else { g.dense() }
    }

    /// A tensor that `fill` writes in this order, in the shape of the input.
    fn build(&self, fill: impl FnOnce(&mut [T])) -> Tensor<T> {
        let y = Tensor::build(self.x.shape(), fill);
        if !self.last {
            return y;
        }
        let rank = y.rank();
        let back: Dims = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
        y.with_layout(y.layout().permute(&back))
    }

    /// The runs that the loops give sums of: how many, and the elements of each.
    fn runs(&self) -> (usize, usize) {
        let [n, c, s] = self.dims;
        if self.columns { (c * s, n) } else { (n * c, s) }
    }

    /// The channel of a run.
    fn channel(&self, run: usize) -> usize {
        if self.columns { run / self.dims[2] } else { run % self.dims[1] }
    }

    /// Whose statistics a run shares.
    fn stat(&self, share: Share, run: usize) -> usize {
        match share {
            Share::Groups(g) => run / (self.dims[1] / g),
            _ => self.channel(run),
        }
    }

    /// Mean and variance (divided by n) of all that share them, and n.
    pub(super) fn statistics(&self, share: Share) -> (Vec<[f64; 2]>, usize) {
        let [n, c, s] = self.dims;
        let (stats, count) = match share {
            Share::Groups(g) => (n * g, c / g * s),
            _ => (c, n * s),
        };
        let of = slice(&self.x);
        let runs = if self.columns { columns::moments(of, c * s) } else { planes::moments(of, s) };
        let each = self.runs().1 as f64;
        let mut total = vec![(0.0, [0.0; 2]); stats];
        for (i, run) in runs.into_iter().enumerate() {
            let t = &mut total[self.stat(share, i)];
            *t = merge(*t, (each, run));
        }
        (total.into_iter().map(|(n, [m, s])| [m, s / n]).collect(), count)
    }
}

/// The operation, once the statistics are known.
pub(super) struct PlaneNorm {
    pub(super) name: &'static str,
    pub(super) share: Share,
    pub(super) eps: f64,
    pub(super) affine: Affine,
    /// Mean and variance of all that share them.
    pub(super) stats: Vec<[f64; 2]>,
    /// Whether something is added then, which is the last input, and whether ReLU follows, with bits for the backward pass or without.
    /// Both only for planes.
    pub(super) plus: bool,
    pub(super) relu: Relu,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Relu {
    No,
    Unrecorded,
    Recorded,
}

/// What follows a normalisation: y + plus, then max(0, y).
#[derive(Clone, Copy, Default)]
pub(crate) struct Then<'a, T: Float> {
    pub(crate) plus: Option<&'a Tensor<T>>,
    pub(crate) relu: bool,
}

/// The numbers of an optional tensor; `otherwise` where there is none.
fn numbers<T: Float>(t: Option<&Tensor<T>>, otherwise: f64) -> impl Fn(usize) -> f64 + Sync {
    let all: Option<Vec<f64>> = t.map(|t| slice(&t.dense()).iter().map(|v| v.as_f64()).collect());
    move |i| all.as_ref().map_or(otherwise, |v| v[i])
}

impl PlaneNorm {
    /// The mean rounded to `T`, what it lacks, and 1 / √(v + ε).
    fn stat<T: Float>(&self, i: usize) -> (T, f64, f64) {
        let [mean, var] = self.stats[i];
        let m = T::of(mean);
        // Without ε there is no number to divide by where all are equal; the gradient of the loss is as undefined.
        (m, m.as_f64() - mean, 1.0 / (var + self.eps).sqrt())
    }

    pub(super) fn sharing(&self, shape: &[usize]) -> Sharing {
        let (n, c, s) = (shape[0], shape[1], shape[2..].iter().product());
        let view = Dims::from_slice(&[n, c, s]);
        let stat = match self.share {
            Share::Groups(g) => {
                (Dims::from_slice(&[n, g, c / g.max(1) * s]), Dims::from_slice(&[2]))
            }
            _ => (view.clone(), Dims::from_slice(&[0, 2])),
        };
        let view = (view, Dims::from_slice(&[1, c, 1]));
        Sharing { stat, view, centre: true, eps: self.eps }
    }

    fn columns<T: Float, const N: usize>(
        runs: usize,
        of: impl Fn(usize) -> [T; N],
    ) -> Columns<T, N> {
        let all: Vec<[T; N]> = (0..runs).map(of).collect();
        Columns(std::array::from_fn(|k| all.iter().map(|v| v[k]).collect()))
    }

    /// Σ g and Σ g (x - m) of each run, `g` behind ReLU if there is a mask.
    fn dots<T: Float>(
        &self,
        x: &Arranged<T>,
        g: &mut Tensor<T>,
        mask: Option<&Tensor<u8>>,
    ) -> Vec<[f64; 2]> {
        let mean = |run: usize| self.stat::<T>(x.stat(self.share, run)).0;
        let s = x.dims[2];
        let mut sums = if x.columns {
            let mean: Vec<T> = (0..x.runs().0).map(mean).collect();
            columns::dots(slice(&x.x), slice(g), &mean)
        } else if let Some(mask) = mask {
            planes::dots_behind_relu(slice(&x.x), g.make_mut(), slice(mask), s, mean)
        } else {
            planes::dots(slice(&x.x), slice(g), s, mean)
        };
        for (run, s) in sums.iter_mut().enumerate() {
            s[1] += s[0] * self.stat::<T>(x.stat(self.share, run)).1;
        }
        sums
    }

    /// The gradients of the inputs before what is added.
    fn gradients<T: Float>(&self, d: [Tensor<T>; 3], plus: Tensor<T>) -> Vec<Option<Tensor<T>>> {
        let mut all = self.affine.gradients(d);
        all.extend(self.plus.then_some(Some(plus)));
        all
    }
}

impl<T: Float> OpMany<T> for PlaneNorm {
    /// Input, weight, and the bits of ReLU.
    type Saved = (Tensor<T>, Option<Tensor<T>>, Option<Tensor<u8>>);
    type Gradients = Vec<Option<Tensor<T>>>;
    fn name(&self) -> &'static str {
        self.name
    }

    fn forward(&self, x: &[&Tensor<T>]) -> Result<(Tensor<T>, Self::Saved)> {
        let (weight, bias) = (self.affine.weight(x), self.affine.bias(x));
        let (w, b) = (numbers(weight, 1.0), numbers(bias, 0.0));
        let plus = x.last().filter(|_| self.plus).map(|p| p.dense());
        let a = Arranged::new(x[0], self.share);
        let of = |run: usize| {
            let (m, rest, r) = self.stat::<T>(a.stat(self.share, run));
            let c = a.channel(run);
            let scale = r * w(c);
            [m, T::of(scale), T::of(b(c) + rest * scale)]
        };
        let (from, s) = (slice(&a.x), a.dims[2]);
        let plus = plus.as_ref().map(slice);
        let mut mask = None;
        let y = a.build(|out| match a.columns {
            true if out.is_empty() => {}
            true => columns::affine(from, &Self::columns(a.runs().0, of), out),
            false if self.relu == Relu::Recorded => {
                let len = planes::mask_len(a.runs().0, s);
                let fill = |mask: &mut [u8]| planes::affine_relu(from, s, of, plus, out, mask);
                mask = Some(Tensor::build(&[len], fill));
            }
            false => planes::affine(from, s, of, plus, self.relu != Relu::No, out),
        });
        Ok((y, (x[0].clone(), weight.cloned(), mask)))
    }

    fn vjp(
        &self,
        (x, weight, mask): Self::Saved,
        g: Tensor<T>,
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor<T>>>> {
        let mut a = Arranged::new(&x, self.share);
        // It may be the last owner, whose buffer serves for the gradient.
        drop(x);
        let mut g = a.same_order(g);
        let (w, c) = (numbers(weight.as_ref(), 1.0), a.dims[1]);
        let sums = self.dots(&a, &mut g, mask.as_ref());
        // Of each channel Σ g x̂ and Σ g; of all that share statistics A and B.
        let (mut dw, mut db) = (vec![0.0; c], vec![0.0; c]);
        let mut shared = vec![[0.0; 2]; self.stats.len()];
        let count = a.x.len() as f64 / self.stats.len().max(1) as f64;
        for (run, s) in sums.into_iter().enumerate() {
            let (c, stat) = (a.channel(run), a.stat(self.share, run));
            let r = self.stat::<T>(stat).2;
            db[c] += s[0];
            dw[c] += s[1] * r;
            if self.share != Share::Given {
                shared[stat][0] += w(c) * s[0] / count;
                shared[stat][1] += w(c) * s[1] * (r * r) / count;
            }
        }
        let of = |run: usize| {
            let stat = a.stat(self.share, run);
            let ((m, rest, r), [p, q]) = (self.stat::<T>(stat), shared[stat]);
            [m, T::of(r * w(a.channel(run))), T::of(-r * q), T::of(-r * p - r * q * rest)]
        };
        let plus = if self.plus { g.clone() } else { Tensor::build(&[0], |_| ()) };
        let dx = match needs[0] {
            false => Tensor::build(&[0], |_| ()),
            true if a.columns => a.build(|out| {
                if !out.is_empty() {
                    columns::back(slice(&a.x), slice(&g), &Self::columns(a.runs().0, of), out);
                }
            }),
            true => {
                let of: Vec<[T; 4]> = (0..a.runs().0).map(of).collect();
                let (of, s) = (|run: usize| of[run], a.dims[2]);
                // Written over what is not needed any more.
                if g.unique_dense().is_none() && a.x.unique_dense().is_some() {
                    planes::back::<T, true>(slice(&g), s, of, a.x.make_mut());
                    a.x
                } else {
                    planes::back::<T, false>(slice(&a.x), s, of, g.make_mut());
                    g
                }
            }
        };
        let channel = |d: Vec<f64>| {
            Tensor::build(&[c], |o| o.iter_mut().zip(d).for_each(|(o, d)| *o = T::of(d)))
        };
        let mut all = self.gradients([dx, channel(dw), channel(db)], plus);
        if !needs[0] {
            all[0] = None;
        }
        Ok(all)
    }

    fn vjp_recorded(
        &self,
        (x, weight, mask): Self::Saved,
        g: Tensor<T>,
        _: &[bool],
    ) -> Result<Vec<Option<Tensor<T>>>> {
        let c = x.shape()[1];
        let stat = |f: &dyn Fn(usize) -> f64| Tensor::from_fn([c], |i| T::of(f(i)));
        let given = match self.share {
            Share::Given => Some((stat(&|i| self.stats[i][0])?, stat(&|i| self.stat::<T>(i).2)?)),
            _ => None,
        };
        let given = given.as_ref().map(|(m, r)| (m, r));
        let g = match mask {
            Some(mask) => g.try_mul(&slopes(x.shape(), slice(&mask)))?,
            None => g,
        };
        let sharing = self.sharing(x.shape());
        let d = sharing.gradients(&x, weight.as_ref(), given, &g, &[c])?;
        Ok(self.gradients(d, g))
    }
}

/// The derivative of ReLU from its bits.
fn slopes<T: Float>(shape: &[usize], mask: &[u8]) -> Tensor<T> {
    let s = shape[2..].iter().product::<usize>().max(1);
    Tensor::build(shape, |out| {
        for (plane, bits) in out.chunks_mut(s).zip(mask.chunks(s.div_ceil(8))) {
            for (i, o) in plane.iter_mut().enumerate() {
                *o = if bits[i / 8] >> (i % 8) & 1 == 1 { T::ONE } else { T::ZERO };
            }
        }
    })
}

/// Normalises with these statistics.
pub(super) fn plane_norm<T: Float>(
    name: &'static str,
    x: &Tensor<T>,
    [weight, bias]: [Option<&Tensor<T>>; 2],
    share: Share,
    stats: Vec<[f64; 2]>,
    eps: f64,
    then: Then<T>,
) -> Result<Tensor<T>> {
    if let Some(plus) = then.plus.filter(|p| p.shape() != x.shape()) {
        let message =
            format!("what is added has shape {:?}; expected {:?}", plus.shape(), x.shape());
        return Err(Error::shape(name, message));
    }
    let columns = order(x, share).0;
    let mut inputs = present(x, weight, bias);
    inputs.extend(then.plus.filter(|_| !columns));
    let relu = match inputs.iter().any(|t| t.is_recorded()) {
        _ if columns || !then.relu => Relu::No,
        true => Relu::Recorded,
        false => Relu::Unrecorded,
    };
    let (affine, plus) = (Affine::of(weight, bias), then.plus.is_some() && !columns);
    let y = apply_many(PlaneNorm { name, share, eps, affine, stats, plus, relu }, &inputs)?;
    // Columns are short or far apart: what follows is for other loops.
    let y = match then.plus.filter(|_| columns) {
        Some(plus) => y.try_add(plus)?,
        None => y,
    };
    Ok(if columns && then.relu { y.relu() } else { y })
}
