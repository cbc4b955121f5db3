//! Optimizers saved and loaded, so that training goes on as if it had never stopped.

use std::path::Path;

use super::safetensors::{self, TensorMap, Value};
use crate::autograd::AnyTensor;
use crate::error::Result;
use crate::nn::Module;
use crate::optim::{Named, PREFIX, Saved, Stateful};

/// Saving and loading the state of an optimizer: its step counts, its hyper-parameters with those of its groups, and what it remembers of each parameter, by the
/// parameter's path. After a load, training goes on bit for bit as it would have without the interruption.
///
/// [`Checkpoint::save_with`](super::Checkpoint::save_with) writes a model and its optimizer to one file.
///
/// ```
/// use gradus::prelude::*;
/// let path = std::env::temp_dir().join(format!("gradus-doc-opt-{}.safetensors", std::process::id()));
/// let mut model: Dense = Dense::new(2, 1).build(&mut gradus::rng(0))?;
/// let mut adam = Adam::new(1e-3);
/// let step = |model: &mut Dense, adam: &mut Adam| -> Result<()> {
///     let grads = Tape::new(0).watch(&*model).forward(&Tensor::ones([1, 2])?)?.sum().backward()?;
///     adam.step(model, &grads)
/// };
/// step(&mut model, &mut adam)?;
/// adam.save(&model, &path)?;
///
/// let mut other = Adam::new(0.5);
/// other.load(&model, &path)?;
/// assert_eq!((other.lr(), other.steps()), (1e-3, 1));
/// assert!(Sgd::new(0.1).load(&model, &path).is_err());
/// # std::fs::remove_file(&path).ok();
/// # Ok::<(), Error>(())
/// ```
pub trait OptimizerCheckpoint: Stateful + Sized {
    /// Writes what the optimizer knows about a model's parameters. A file of that name is replaced as a whole, or not at all.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the file cannot be written.
    fn save(&self, model: &impl Module, path: impl AsRef<Path>) -> Result<()> {
        safetensors::write(path, &self.to_map(model))
    }

    /// Takes over what a file of [`save`](Self::save) or [`save_with`](super::Checkpoint::save_with) says. The optimizer must have the same rule and as many
    /// groups; its hyper-parameters become those of the file. Nothing is changed unless all fits.
    ///
    /// # Errors
    /// [`Error::Checkpoint`](crate::Error::Checkpoint) with every name that is missing in the file, unexpected there, or different in shape, type or range;
    /// [`Error::Format`](crate::Error::Format) if the file is damaged; [`Error::Io`](crate::Error::Io) if it cannot be read.
    fn load(&mut self, model: &impl Module, path: impl AsRef<Path>) -> Result<()> {
        let map = safetensors::read(path.as_ref())?;
        self.import(model, &named(&map), path.as_ref())
    }

    /// What [`save`](Self::save) would write.
    fn to_map(&self, model: &impl Module) -> TensorMap {
        let mut map = TensorMap::new();
        for (name, value) in self.export(model) {
            let value: Value = match value {
                Saved::Tensor(AnyTensor::F32(t)) => t.into(),
                Saved::Tensor(AnyTensor::F64(t)) => t.into(),
                Saved::Count(n) => crate::tensor::Tensor::scalar(n).into(),
                Saved::Other(_) => continue,
            };
            map.insert(name, value);
        }
        map
    }

    /// Like [`load`](Self::load), from tensors by their names.
    ///
    /// # Errors
    /// As `load`.
    fn load_map(&mut self, model: &impl Module, map: &TensorMap) -> Result<()> {
        self.import(model, &named(map), Path::new("(tensors)"))
    }
}

impl<O: Stateful> OptimizerCheckpoint for O {}

/// Whether a name is that of an optimizer's value.
pub(super) fn is_optimizers(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// The optimizer's values of a file.
pub(super) fn named(map: &TensorMap) -> Named {
    let mine = map.iter().filter(|(name, _)| is_optimizers(name));
    mine.map(|(name, value)| (name.to_string(), saved(value))).collect()
}

fn saved(value: &Value) -> Saved {
    match value {
        Value::F32(t) => Saved::Tensor(AnyTensor::F32(t.clone())),
        Value::F64(t) => Saved::Tensor(AnyTensor::F64(t.clone())),
        Value::I64(t) if t.rank() == 0 => t.iter().next().map_or(Saved::Count(-1), Saved::Count),
        other => Saved::Other(format!("{} {:?}", other.dtype(), other.shape())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::{Lbfgs, NAdam, Rule};
    use crate::prelude::*;

    type Net = (Dense, Dropout, Dense);

    fn net(seed: u64) -> Net {
        let mut rng = crate::rng(seed);
        let dense = |a, b, rng: &mut _| Dense::new(a, b).build(rng).unwrap();
        (dense(3, 8, &mut rng), Dropout::new(0.3).unwrap(), dense(8, 2, &mut rng))
    }

    fn train<R: Rule>(
        net: &mut Net,
        o: &mut crate::optim::Optimizer<R>,
        steps: std::ops::Range<u64>,
    ) {
        for step in steps {
            let x = Tensor::randn([4, 3], &mut crate::rng(step)).unwrap();
            let watched = Tape::new(step).watch(&*net);
            let y = watched.0.forward(&x).unwrap().tanh();
            let y = watched.2.forward(&watched.1.forward(&y).unwrap()).unwrap();
            let grads = y.square().mean().backward().unwrap();
            o.step(net, &grads).unwrap();
        }
    }

    fn bits(net: &Net) -> Vec<u32> {
        let mut bits = Vec::new();
        net.for_each_param(|_, p| {
            if let crate::nn::ParamRef::F32(p) = p {
                bits.extend(p.iter().map(f32::to_bits));
            }
        });
        bits
    }

    #[test]
    fn training_goes_on_bit_for_bit() {
        fn check<R: Rule>(make: impl Fn() -> crate::optim::Optimizer<R>) {
            let file = std::env::temp_dir().join(format!(
                "gradus-resume-{}-{}.safetensors",
                R::NAME,
                std::process::id()
            ));
            let (mut whole, mut o) = (net(1), make());
            train(&mut whole, &mut o, 0..9);
            let (mut first, mut o) = (net(1), make());
            train(&mut first, &mut o, 0..4);
            first.save_with(&o, &file).unwrap();
            // Another start, and other hyper-parameters: the file's count.
            let (mut second, mut o) = (net(2), make().with_lr(0.5));
            second.load_with(&mut o, &file).unwrap();
            assert_eq!(o.steps(), 4);
            train(&mut second, &mut o, 4..9);
            assert_eq!(bits(&whole), bits(&second), "{}", R::NAME);
            // The model alone can be loaded from it, too.
            net(3).load(&file).unwrap();
            std::fs::remove_file(file).unwrap();
        }
        check(|| Sgd::new(0.1).momentum(0.9));
        check(|| Adam::new(0.1).amsgrad().l1(1e-3).max_norm(1.0));
        check(|| NAdam::new(0.01).group(|p| p.ends_with("bias"), |o| o.with_lr(0.1).eps(1e-3)));
        check(|| RmsProp::new(0.01).centered().momentum(0.5));
    }

    #[test]
    fn all_that_does_not_fit_is_named_and_nothing_changes() {
        let (mut model, mut adam) = (net(1), Adam::new(0.1));
        train(&mut model, &mut adam, 0..2);
        let good = adam.to_map(&model);
        let mut fresh = Adam::new(0.7);
        fresh.load_map(&model, &good).unwrap();
        let refused = |change: &dyn Fn(&mut TensorMap), words: &[&str]| {
            let mut map = good.clone();
            change(&mut map);
            let mut o = Adam::new(0.7);
            let e = o.load_map(&model, &map).unwrap_err();
            assert!(matches!(e, Error::Checkpoint { .. }), "{e}");
            assert!(words.iter().all(|w| e.to_string().contains(w)), "{e}");
            assert_eq!((o.lr(), o.steps()), (0.7, 0));
        };
        refused(
            &|m| drop(m.remove("optimizer/state/exp_avg/0.weight")),
            &["missing: optimizer/state/exp_avg/0.weight"],
        );
        refused(
            &|m| drop(m.insert("optimizer/state/exp_avg/0.weight", Tensor::from([1.0f32]))),
            &["optimizer/state/exp_avg/0.weight: the optimizer has f32 [8, 3], the file f32 [1]"],
        );
        refused(
            &|m| drop(m.insert("optimizer/updates/9.weight", Tensor::scalar(1i64))),
            &["unexpected: optimizer/updates/9.weight"],
        );
        refused(
            &|m| drop(m.insert("optimizer/updates/0.bias", Tensor::scalar(-1i64))),
            &[
                "optimizer/updates/0.bias: the optimizer has a number of steps, the file the number -1",
            ],
        );
        refused(
            &|m| drop(m.insert("optimizer/steps", Tensor::from([true]))),
            &["optimizer/steps", "bool [1]"],
        );
        refused(
            &|m| drop(m.insert("optimizer/settings/0/beta1", Tensor::scalar(f64::NAN))),
            &["β₁ is NaN"],
        );
        refused(
            &|m| drop(m.insert("optimizer/settings/0/lr", Tensor::scalar(-1.0f64))),
            &["the learning rate is -1"],
        );
        refused(
            &|m| drop(m.insert("optimizer/settings/0/amsgrad", Tensor::scalar(0.5f64))),
            &["optimizer/settings/0/amsgrad: 0.5 is neither 0 nor 1"],
        );
        // With AMSGrad switched on by the file, a third array must be there.
        refused(
            &|m| drop(m.insert("optimizer/settings/0/amsgrad", Tensor::scalar(1.0f64))),
            &["missing: optimizer/state/max_exp_avg_sq/0.weight"],
        );
        let e = Sgd::new(0.1).load_map(&model, &good).unwrap_err().to_string();
        assert!(e.contains("missing: optimizer/rule/Sgd"), "{e}");
        assert!(e.contains("optimizer/rule/Adam"), "{e}");
        let mut grouped = Adam::new(0.1).group(|_| true, |o| o);
        let e = grouped.load_map(&model, &good).unwrap_err().to_string();
        assert!(e.contains("optimizer/settings/1/lr"), "{e}");
    }

    #[test]
    fn a_model_that_does_not_fit_leaves_the_optimizer_alone() {
        let (mut model, mut adam) = (net(1), Adam::new(0.1));
        train(&mut model, &mut adam, 0..1);
        let file =
            std::env::temp_dir().join(format!("gradus-unfit-{}.safetensors", std::process::id()));
        model.save_with(&adam, &file).unwrap();
        let mut other: Dense = Dense::new(3, 8).build(&mut crate::rng(0)).unwrap();
        let mut o = Adam::new(0.7);
        assert!(matches!(other.load_with(&mut o, &file), Err(Error::Checkpoint { .. })));
        assert_eq!((o.lr(), o.steps()), (0.7, 0));
        let before = bits(&model);
        let e = model.load_with(&mut Sgd::new(0.7), &file).unwrap_err();
        assert!(e.to_string().contains("optimizer/rule/Sgd"), "{e}");
        assert_eq!(bits(&model), before);
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn lbfgs_goes_on_bit_for_bit() {
        let loss = |w: &Param<f64>| {
            let w = Tape::new(0).watch(w);
            let loss = (w.tensor() - &Tensor::from([1.0, -2.0, 3.0])).square().square().sum();
            Ok((loss.item()?, loss.backward()?))
        };
        let start = || Param::new(Tensor::from([0.0f64, 0.0, 0.0]));
        let make = || Lbfgs::new(1.0).max_iter(2).strong_wolfe();
        let (mut whole, mut o) = (start(), make());
        for _ in 0..4 {
            o.step(&mut whole, loss).unwrap();
        }
        let (mut part, mut o) = (start(), make());
        for _ in 0..2 {
            o.step(&mut part, loss).unwrap();
        }
        let map = o.to_map(&part);
        let mut o = make();
        o.load_map(&part, &map).unwrap();
        for _ in 0..2 {
            o.step(&mut part, loss).unwrap();
        }
        assert_eq!(whole.to_vec(), part.to_vec());
        let other = Param::new(Tensor::from([0.0f64]));
        let e = o.load_map(&other, &map).unwrap_err().to_string();
        assert!(
            e.contains("optimizer/state/d: the optimizer has f64 [1], the file f64 [3]"),
            "{e}"
        );
    }
}
