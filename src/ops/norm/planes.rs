//! Batch, group and instance normalisation: x \[N, C, ..\] with a weight and a bias for each channel, and statistics of each channel over the
//! batch, of groups of channels of each sample, or given ones.
//!
//! What is one number for each channel or plane is computed in f64, so that f32 loses nothing where the mean is far from 0: with m rounded to f32,
//! (x - m) a + b is corrected by the rest of m in b.

use super::composed::{Affine, Sharing, present};
use super::slice;
use crate::autograd::{OpMany, apply_many};
use crate::error::Result;
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

impl<T: Float> Arranged<T> {
    /// Without a copy where the elements stand in order, with the channels second or, unless there are groups, last.
    pub(super) fn new(x: &Tensor<T>, share: Share) -> Self {
        let (n, c, s) = (x.shape()[0], x.shape()[1], x.shape()[2..].iter().product());
        let last = channels_last(x.layout());
        if share_is_by_channel(share) && !x.layout().is_dense() && last.is_dense() {
            let x = x.with_layout(last);
            return Arranged { x, dims: [n * s, c, 1], last: true, columns: true };
        }
        let columns = share_is_by_channel(share) && s < SHORT;
        Arranged { x: x.dense(), dims: [n, c, s], last: false, columns }
    }

    /// Another tensor of the same shape in the same order.
    fn same_order(&self, g: &Tensor<T>) -> Tensor<T> {
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

fn share_is_by_channel(share: Share) -> bool {
    !matches!(share, Share::Groups(_))
}

/// The operation, once the statistics are known.
pub(super) struct PlaneNorm {
    pub(super) name: &'static str,
    pub(super) share: Share,
    pub(super) eps: f64,
    pub(super) affine: Affine,
    /// Mean and variance of all that share them.
    pub(super) stats: Vec<[f64; 2]>,
}

/// The numbers of an optional tensor; `otherwise` where there is none.
fn numbers<T: Float>(t: Option<&Tensor<T>>, otherwise: f64) -> impl Fn(usize) -> f64 + Sync {
    let all: Option<Vec<f64>> = t.map(|t| t.iter().map(T::as_f64).collect());
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

    /// Σ g and Σ g (x - m) of each run.
    fn dots<T: Float>(&self, x: &Arranged<T>, g: &Tensor<T>) -> Vec<[f64; 2]> {
        let mean = |run: usize| self.stat::<T>(x.stat(self.share, run)).0;
        let mut sums = if x.columns {
            let mean: Vec<T> = (0..x.runs().0).map(mean).collect();
            columns::dots(slice(&x.x), slice(g), &mean)
        } else {
            planes::dots(slice(&x.x), slice(g), x.dims[2], mean)
        };
        for (run, s) in sums.iter_mut().enumerate() {
            s[1] += s[0] * self.stat::<T>(x.stat(self.share, run)).1;
        }
        sums
    }
}

impl<T: Float> OpMany<T> for PlaneNorm {
    /// Input and weight.
    type Saved = (Tensor<T>, Option<Tensor<T>>);
    type Gradients = Vec<Option<Tensor<T>>>;
    fn name(&self) -> &'static str {
        self.name
    }

    fn forward(&self, x: &[&Tensor<T>]) -> Result<(Tensor<T>, Self::Saved)> {
        let (weight, bias) = (self.affine.weight(x), self.affine.bias(x));
        let (w, b) = (numbers(weight, 1.0), numbers(bias, 0.0));
        let a = Arranged::new(x[0], self.share);
        let of = |run: usize| {
            let (m, rest, r) = self.stat::<T>(a.stat(self.share, run));
            let c = a.channel(run);
            let scale = r * w(c);
            [m, T::of(scale), T::of(b(c) + rest * scale)]
        };
        let y = a.build(|out| match a.columns {
            true if out.is_empty() => {}
            true => columns::affine(slice(&a.x), &Self::columns(a.runs().0, of), out),
            false => planes::affine(slice(&a.x), a.dims[2], of, out),
        });
        Ok((y, (x[0].clone(), weight.cloned())))
    }

    fn vjp(
        &self,
        (x, weight): Self::Saved,
        g: Tensor<T>,
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor<T>>>> {
        let a = Arranged::new(&x, self.share);
        let (g, w, c) = (a.same_order(&g), numbers(weight.as_ref(), 1.0), a.dims[1]);
        let sums = self.dots(&a, &g);
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
        let dx = match needs[0] {
            false => Tensor::build(&[0], |_| ()),
            true => a.build(|out| match a.columns {
                true if out.is_empty() => {}
                true => {
                    columns::back(slice(&a.x), slice(&g), &Self::columns(a.runs().0, of), out);
                }
                false => planes::back(slice(&a.x), slice(&g), a.dims[2], of, out),
            }),
        };
        let channel = |d: Vec<f64>| {
            Tensor::build(&[c], |o| o.iter_mut().zip(d).for_each(|(o, d)| *o = T::of(d)))
        };
        let mut all = self.affine.gradients([dx, channel(dw), channel(db)]);
        if !needs[0] {
            all[0] = None;
        }
        Ok(all)
    }

    fn vjp_recorded(
        &self,
        (x, weight): Self::Saved,
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
        let sharing = self.sharing(x.shape());
        Ok(self.affine.gradients(sharing.gradients(&x, weight.as_ref(), given, &g, &[c])?))
    }
}

/// Normalises with these statistics.
pub(super) fn plane_norm<T: Float>(
    name: &'static str,
    x: &Tensor<T>,
    [weight, bias]: [Option<&Tensor<T>>; 2],
    share: Share,
    stats: Vec<[f64; 2]>,
    eps: f64,
) -> Result<Tensor<T>> {
    let affine = Affine::of(weight, bias);
    apply_many(PlaneNorm { name, share, eps, affine, stats }, &present(x, weight, bias))
}
