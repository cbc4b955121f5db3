//! Averages of weights over training: exponential moving averages and stochastic weight averaging.

use std::any::Any;

use super::formula::toward;
use crate::autograd::AnyTensor;
use crate::element::{DType, Element};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::simd::{Kernel, dispatch};
use crate::kernel::update::for_each_piece;
use crate::nn::{AnyBuffer, Buffer, Item, ItemMut, Module, Visitor, VisitorMut, with_param};
use crate::tensor::Tensor;

/// An exponential moving average of a model's weights (Polyak and Juditsky 1992): a = d·a + (1 - d)·w at each update. It often predicts better than the
/// weights themselves, which jump about.
///
/// The average is a model of its own, to evaluate or to save. Its buffers are copies of the model's latest, unless
/// [`average_buffers`](Self::average_buffers) says that they are averaged as well.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::Ema;
/// let mut model: Param = Param::new(Tensor::from([0.0]));
/// let mut ema = Ema::new(&model, 0.75)?;
/// model.set(Tensor::from([4.0]));                     // a training step
/// ema.update(&model)?;
/// assert_eq!(ema.model().to_vec(), [1.0]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Ema<M> {
    average: Average<M>,
    decay: f64,
    warmup: bool,
    corrected: bool,
}

impl<M: Module + Clone> Ema<M> {
    /// An average that begins as the model is now, with decay `d`.
    ///
    /// # Errors
    /// [`Error::Argument`] unless the decay is from 0 to 1.
    pub fn new(model: &M, decay: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&decay) {
            let message = format!("the decay is {decay}; it must be from 0 to 1");
            return Err(Error::argument("Ema", message));
        }
        Ok(Ema { average: Average::new(model), decay, warmup: false, corrected: false })
    }

    /// Forgets faster at first: the decay of update t (from 0) is min(d, (1 + t)/(10 + t)).
    pub fn warmup(mut self) -> Self {
        self.warmup = true;
        self
    }

    /// Leaves the weights at the beginning out: a/(1 - d·d·…), as Adam corrects its means. The first update makes the average the model's weights.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::optim::Ema;
    /// let mut w: Param = Param::new(Tensor::from([100.0]));
    /// let mut ema = Ema::new(&w, 0.5)?.bias_corrected();
    /// for value in [3.0, 6.0] {
    ///     w.set(Tensor::from([value]));
    ///     ema.update(&w)?;
    /// }
    /// assert_eq!(ema.model().to_vec(), [5.0]);        // (0.5·0.5·3 + 0.5·6) / (1 - 0.5²)
    /// # Ok::<(), Error>(())
    /// ```
    pub fn bias_corrected(mut self) -> Self {
        self.corrected = true;
        self
    }

    /// Averages the float buffers, too, instead of copying them.
    pub fn average_buffers(mut self) -> Self {
        self.average.buffers = true;
        self
    }

    /// Takes the model's weights into the average, after a training step.
    ///
    /// # Errors
    /// [`Error::Shape`] if the model's parameters are not those of the one that the average began with.
    pub fn update(&mut self, model: &M) -> Result<()> {
        let t = self.average.updates as f64;
        let decay = if self.warmup { self.decay.min((1.0 + t) / (10.0 + t)) } else { self.decay };
        let kept = self.average.kept * decay;
        let share =
            if self.corrected && kept < 1.0 { (1.0 - decay) / (1.0 - kept) } else { 1.0 - decay };
        self.average.update(model, share)?;
        self.average.kept = kept;
        Ok(())
    }

    /// The averaged model.
    pub fn model(&self) -> &M {
        &self.average.model
    }

    /// How many updates there were.
    pub fn updates(&self) -> u64 {
        self.average.updates
    }
}

/// Stochastic weight averaging: the plain mean of the weights at several points late in training, taken with a high or cyclic learning rate. Source: Izmailov et al.
/// 2018, <https://arxiv.org/abs/1803.05407>.
///
/// Running statistics of batch normalisation do not fit averaged weights; [`refresh_statistics`] computes new ones.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::Swa;
/// let mut w: Param = Param::new(Tensor::from([9.0]));
/// let mut swa = Swa::new(&w);
/// for value in [1.0, 2.0, 6.0] {
///     w.set(Tensor::from([value]));
///     swa.update(&w)?;
/// }
/// assert_eq!(swa.model().to_vec(), [3.0]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Swa<M> {
    average: Average<M>,
}

impl<M: Module + Clone> Swa<M> {
    /// No points yet; until the first, the average is the model as it is now.
    pub fn new(model: &M) -> Self {
        Swa { average: Average::new(model) }
    }

    /// Averages the float buffers, too, instead of copying them.
    pub fn average_buffers(mut self) -> Self {
        self.average.buffers = true;
        self
    }

    /// Takes a point into the mean, for example at the end of each epoch.
    ///
    /// # Errors
    /// [`Error::Shape`] if the model's parameters are not those of the one that the average began with.
    pub fn update(&mut self, model: &M) -> Result<()> {
        let share = 1.0 / (self.average.updates + 1) as f64;
        self.average.update(model, share)
    }

    /// The averaged model.
    pub fn model(&self) -> &M {
        &self.average.model
    }

    /// How many points there are.
    pub fn updates(&self) -> u64 {
        self.average.updates
    }
}

#[derive(Clone, Debug)]
struct Average<M> {
    model: M,
    buffers: bool,
    updates: u64,
    /// The product of all decays.
    kept: f64,
}

impl<M: Module + Clone> Average<M> {
    fn new(model: &M) -> Self {
        let mut copy = model.clone();
        // A watched copy must not keep its tape alive.
        VisitorMut::walk_unnamed(&mut copy, &mut |_, item| {
            if let ItemMut::Param(p) = item {
                with_param!(ParamMut, p, p => *p.value_mut() = p.detach());
            }
        });
        Average { model: copy, buffers: false, updates: 0, kept: 1.0 }
    }

    /// a += share·(w - a) everywhere.
    fn update(&mut self, model: &M, share: f64) -> Result<()> {
        let (mine, its) = (shapes(&self.model), shapes(model));
        if mine != its {
            let (m, i) = (mine.len(), its.len());
            let at = mine.iter().zip(&its).find(|(a, b)| a != b);
            let message = match at {
                Some(((path, shape), other)) => {
                    format!("the average has {path} of shape {shape:?}, the model {other:?}")
                }
                None => format!("the average has {m} parameters, the model {i}"),
            };
            return Err(Error::shape("update", message));
        }
        let (mut values, mut buffers) = (Vec::new(), Vec::new());
        Visitor::walk_unnamed(model, &mut |_, item| match item {
            Item::Param(p) => {
                values.push(with_param!(ParamRef, p, p => AnyTensor::new(p.detach())));
            }
            Item::Buffer(b) => buffers.push(b.share_any()),
            Item::Mode(_) => {}
        });
        let (mut values, mut buffers) = (values.into_iter(), buffers.into_iter());
        let average_buffers = self.buffers;
        VisitorMut::walk_unnamed(&mut self.model, &mut |_, item| match item {
            ItemMut::Param(p) => {
                let Some(new) = values.next() else { return };
                with_param!(ParamMut, p, p => {
                    if let Some(new) = new.take() {
                        *p.value_mut() = mean(p.tensor(), &new, share);
                    }
                });
            }
            ItemMut::Buffer(b) => {
                let Some(new) = buffers.next() else { return };
                match b.dtype() {
                    DType::F32 => take_float::<f32>(b, &*new, share, average_buffers),
                    DType::F64 => take_float::<f64>(b, &*new, share, average_buffers),
                    DType::I64 => copy::<i64>(b, &*new),
                    DType::I32 => copy::<i32>(b, &*new),
                    DType::U8 => copy::<u8>(b, &*new),
                    DType::Bool => copy::<bool>(b, &*new),
                }
            }
            ItemMut::Mode(_) => {}
        });
        self.updates += 1;
        Ok(())
    }
}

fn shapes(model: &impl Module) -> Vec<(String, Vec<usize>)> {
    let mut shapes = Vec::new();
    model.for_each_param(|path, p| shapes.push((path.to_string(), p.shape().to_vec())));
    shapes
}

fn buffer<T: Element>(b: &dyn AnyBuffer) -> Option<&Buffer<T>> {
    (b.as_any() as &dyn Any).downcast_ref()
}

fn copy<T: Element>(mine: &dyn AnyBuffer, new: &dyn AnyBuffer) {
    if let (Some(mine), Some(new)) = (buffer::<T>(mine), buffer::<T>(new)) {
        mine.set(new.get());
    }
}

fn take_float<T: Float>(mine: &dyn AnyBuffer, new: &dyn AnyBuffer, share: f64, average: bool) {
    if let (Some(mine), Some(new)) = (buffer::<T>(mine), buffer::<T>(new)) {
        let (old, new) = (mine.get(), new.get());
        let fits = average && old.shape() == new.shape();
        mine.set(if fits { mean(&old, &new, share) } else { new });
    }
}

/// a + share·(w - a), and w itself for a share of 1.
fn mean<T: Float>(a: &Tensor<T>, w: &Tensor<T>, share: f64) -> Tensor<T> {
    if share == 1.0 {
        return w.clone();
    }
    let (a, w) = (a.dense(), w.dense());
    let (old, new) = (a.as_slice(), w.as_slice().unwrap_or(&[]));
    Tensor::build(a.shape(), |out| {
        let share = T::of(share);
        for_each_piece(old, out, [], new, 0.5, |a, [], w| dispatch(Toward { a, w, share }));
    })
}

struct Toward<'a, T> {
    a: &'a mut [T],
    w: &'a [T],
    share: T,
}

impl<T: Float> Kernel for Toward<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (a, &w) in self.a.iter_mut().zip(self.w) {
            *a = toward::<T, FMA>(*a, w, self.share);
        }
    }
}

/// Running statistics of batch normalisation anew, for weights that were not trained with the present ones: after averaging (Izmailov et al. 2018, section 3.2), or
/// after any edit of weights. Each becomes the mean over all batches of the batch's own statistic, as in PyTorch's `update_bn`.
///
/// `forward` runs the model, which is in training mode, on one batch. The statistics are the buffers named `running_mean` and `running_var`. The first
/// batch runs twice, to learn from two starting values how far a layer moves towards a batch.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::refresh_statistics;
/// use gradus::nn::BatchNorm1d;
/// let norm: BatchNorm1d = BatchNorm1d::new(1).build()?;
/// let batches = [Tensor::from([[1.0], [3.0]]), Tensor::from([[5.0], [7.0]])];
/// refresh_statistics(&norm, &batches, |net, batch| net.forward(batch).map(|_| ()))?;
/// let mean = norm.running_mean.as_ref().unwrap().get();
/// assert!((mean.item()? - 4.0).abs() < 1e-5);
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// What `forward` says; the statistics are then as they were.
pub fn refresh_statistics<M: Module + Clone, B>(
    model: &M,
    batches: impl IntoIterator<Item = B>,
    mut forward: impl FnMut(&M, &B) -> Result<()>,
) -> Result<()> {
    let (mut floats, mut counts) = (Statistics::default(), Vec::new());
    Visitor::walk(model, &mut |path, item| {
        let Item::Buffer(b) = item else { return };
        let name = path.rsplit('.').next().unwrap_or(path);
        if name == "running_mean" || name == "running_var" {
            floats.f32.extend(buffer::<f32>(b).map(Buffer::share));
            floats.f64.extend(buffer::<f64>(b).map(Buffer::share));
        } else if name == "num_batches_tracked" {
            counts.extend(buffer::<i64>(b).map(Buffer::share));
        }
    });
    let before = (floats.read(), counts.iter().map(Buffer::get).collect::<Vec<_>>());
    let mut statistics = |start: f64, seed: i64, batch: &B| -> Result<Vec<Vec<f64>>> {
        floats.fill(start);
        counts.iter().for_each(|c| c.set(c.get().zeros_like()));
        forward(&crate::Tape::new(seed as u64).watch(model), batch)?;
        Ok(floats.read())
    };
    let mut sums: Vec<Vec<f64>> = Vec::new();
    let mut shares: Vec<f64> = Vec::new();
    let mut n = 0i64;
    let run = || -> Result<()> {
        for batch in batches {
            let from_0 = statistics(0.0, n, &batch)?;
            if n == 0 {
                // From s, a layer with momentum m gets to (1 - m)·s + m·x; the difference of two starts tells m.
                let from_1 = statistics(1.0, n, &batch)?;
                let share = |(a, b): (&Vec<f64>, &Vec<f64>)| match (a.first(), b.first()) {
                    (Some(a), Some(b)) => 1.0 - (b - a),
                    _ => 1.0,
                };
                shares = from_0.iter().zip(&from_1).map(share).collect();
                sums = from_0.iter().map(|s| vec![0.0; s.len()]).collect();
            }
            for ((sum, new), share) in sums.iter_mut().zip(&from_0).zip(&shares) {
                sum.iter_mut().zip(new).for_each(|(s, x)| *s += x / share);
            }
            n += 1;
        }
        Ok(())
    };
    let done = run();
    if done.is_err() || n == 0 {
        floats.write(&before.0);
        counts.iter().zip(before.1).for_each(|(c, old)| c.set(old));
        return done;
    }
    sums.iter_mut().flatten().for_each(|s| *s /= n as f64);
    // A layer with momentum 0 learns nothing, and one that did not run neither.
    for ((sum, old), share) in sums.iter_mut().zip(&before.0).zip(&shares) {
        if share.abs() < 1e-6 {
            sum.clone_from(old);
        }
    }
    floats.write(&sums);
    counts.iter().for_each(|c| c.set(c.get().full_like(n)));
    Ok(())
}

/// Handles on buffers of floats.
#[derive(Default)]
struct Statistics {
    f32: Vec<Buffer<f32>>,
    f64: Vec<Buffer<f64>>,
}

impl Statistics {
    fn read(&self) -> Vec<Vec<f64>> {
        let singles = self.f32.iter().map(|b| b.get().iter().map(|v| v as f64).collect());
        let doubles = self.f64.iter().map(|b| b.get().to_vec());
        singles.chain(doubles).collect()
    }

    fn fill(&self, value: f64) {
        self.f32.iter().for_each(|b| b.set(b.get().full_like(value as f32)));
        self.f64.iter().for_each(|b| b.set(b.get().full_like(value)));
    }

    fn write(&self, values: &[Vec<f64>]) {
        fn put<T: Float>(b: &Buffer<T>, v: &[f64]) {
            let shape = b.get().shape().to_vec();
            b.set(Tensor::build(&shape, |out| {
                out.iter_mut().zip(v).for_each(|(o, &v)| *o = T::of(v));
            }));
        }
        self.f32.iter().zip(values).for_each(|(b, v)| put(b, v));
        self.f64.iter().zip(values.iter().skip(self.f32.len())).for_each(|(b, v)| put(b, v));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{BatchNorm1d, Param};
    use crate::prelude::Dense;
    use crate::prelude::Layer;

    #[test]
    fn decay_that_warms_up() {
        let mut w = Param::new(Tensor::from([0.0f64]));
        let mut ema = Ema::new(&w, 0.5).unwrap().warmup();
        w.set(Tensor::from([10.0]));
        ema.update(&w).unwrap(); // decay 0.1
        assert_eq!(ema.model().to_vec(), [9.0]);
        assert_eq!((ema.updates(), w.to_vec()), (1, vec![10.0]));
        for bad in [-0.1, 1.1, f64::NAN] {
            assert!(Ema::new(&w, bad).is_err());
        }
        let other = Param::new(Tensor::from([1.0f64, 2.0]));
        let e = ema.update(&other).unwrap_err();
        assert!(matches!(e, Error::Shape { .. }), "{e}");
    }

    #[test]
    fn buffers_are_copied_or_averaged_and_never_shared() {
        let model = (Buffer::new(Tensor::from([0.0f32])), Buffer::new(Tensor::scalar(1i64)));
        let (mut copied, mut averaged) = (Swa::new(&model), Swa::new(&model).average_buffers());
        for (v, n) in [(2.0, 5), (4.0, 6)] {
            model.0.set(Tensor::from([v]));
            model.1.set(Tensor::scalar(n));
            copied.update(&model).unwrap();
            averaged.update(&model).unwrap();
        }
        model.0.set(Tensor::from([100.0]));
        assert_eq!(copied.model().0.get().to_vec(), [4.0]);
        assert_eq!(averaged.model().0.get().to_vec(), [3.0]);
        assert_eq!(averaged.model().1.get().to_vec(), [6]);
    }

    #[test]
    fn statistics_are_means_over_batches_whatever_the_momentum() {
        let batches = [[1.0f64, 3.0], [5.0, 11.0], [0.0, 1.0]];
        for momentum in [Some(0.1), Some(0.7), Some(1.0), None] {
            let norm: BatchNorm1d<f64> = BatchNorm1d::new(1).momentum(momentum).build().unwrap();
            let model = (norm, Dense::<f64>::new(1, 1).build(&mut crate::rng(0)).unwrap());
            let data = batches.map(|b| Tensor::from(b).reshape([2, 1]).unwrap());
            refresh_statistics(&model, &data, |net, x| net.0.forward(x).map(|_| ())).unwrap();
            let get = |b: &Option<Buffer<f64>>| b.as_ref().unwrap().get().to_vec()[0];
            assert!((get(&model.0.running_mean) - (2.0 + 8.0 + 0.5) / 3.0).abs() < 1e-12);
            assert!((get(&model.0.running_var) - (2.0 + 18.0 + 0.5) / 3.0).abs() < 1e-12);
            let count = model.0.num_batches_tracked.as_ref().unwrap().get().to_vec();
            assert_eq!(count, [3]);
            let fails = |_: &_, _: &_| Err(Error::argument("forward", "no"));
            assert!(refresh_statistics(&model, &data, fails).is_err());
            assert!((get(&model.0.running_mean) - 3.5).abs() < 1e-12);
            refresh_statistics(&model, &[] as &[Tensor<f64>], |_, _| Ok(())).unwrap();
            assert!((get(&model.0.running_mean) - 3.5).abs() < 1e-12);
        }
    }
}
