//! What an optimizer knows, under names: for checkpoints, which the floor above writes.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use super::rule::{Hyper, Rule};
use super::state::{State, States};
use super::step::Optimizer;
use crate::autograd::AnyTensor;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::nn::{Module, with_param};
use crate::tensor::Tensor;

/// A saved value.
#[derive(Clone, Debug)]
pub(crate) enum Saved {
    /// Of floats.
    Tensor(AnyTensor),
    /// A single whole number.
    Count(i64),
    /// Neither, in words.
    Other(String),
}

pub(crate) type Named = BTreeMap<String, Saved>;

/// An optimizer whose state can be saved and restored: [`Optimizer`] with any rule, and [`Lbfgs`](super::Lbfgs).
pub trait Stateful {
    /// Everything it knows about the parameters of a model, by their paths.
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn export(&self, model: &impl Module) -> Named;

    /// Takes all of it over, or nothing. `path` is for messages.
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn import(&mut self, model: &impl Module, saved: &Named, path: &Path) -> Result<()>;
}

/// What every name begins with, so that no parameter has one of them.
pub(crate) const PREFIX: &str = "optimizer/";

/// Writes values under names.
#[derive(Default)]
pub(super) struct Writer(pub(super) Named);

impl Writer {
    pub(super) fn put(&mut self, name: impl std::fmt::Display, value: Saved) {
        self.0.insert(format!("{PREFIX}{name}"), value);
    }
    pub(super) fn count(&mut self, name: impl std::fmt::Display, n: u64) {
        self.put(name, Saved::Count(i64::try_from(n).unwrap_or(i64::MAX)));
    }
    pub(super) fn number(&mut self, name: impl std::fmt::Display, v: f64) {
        self.put(name, Saved::Tensor(AnyTensor::F64(Tensor::scalar(v))));
    }
}

/// Reads values by their names and takes note of what does not fit.
pub(super) struct Reader<'a> {
    saved: &'a Named,
    unused: BTreeSet<&'a str>,
    missing: Vec<String>,
    mismatched: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(saved: &'a Named) -> Self {
        let unused = saved.keys().map(String::as_str).collect();
        Reader { saved, unused, missing: Vec::new(), mismatched: Vec::new() }
    }

    pub(super) fn has(&self, name: impl std::fmt::Display) -> bool {
        self.saved.contains_key(&format!("{PREFIX}{name}"))
    }

    fn get(&mut self, name: &str) -> Option<&'a Saved> {
        let value = self.saved.get(name);
        self.unused.remove(name);
        if value.is_none() {
            self.missing.push(name.to_string());
        }
        value
    }

    fn wrong(&mut self, name: &str, wanted: &str, value: &Saved) {
        let its = match value {
            Saved::Tensor(AnyTensor::F32(t)) => format!("f32 {:?}", t.shape()),
            Saved::Tensor(AnyTensor::F64(t)) => format!("f64 {:?}", t.shape()),
            Saved::Count(n) => format!("the number {n}"),
            Saved::Other(words) => words.clone(),
        };
        self.refuse(format!("{name}: the optimizer has {wanted}, the file {its}"));
    }

    pub(super) fn refuse(&mut self, message: String) {
        self.mismatched.push(message);
    }

    /// A whole number that is not negative.
    pub(super) fn count(&mut self, name: impl std::fmt::Display) -> Option<u64> {
        let name = format!("{PREFIX}{name}");
        match self.get(&name)? {
            Saved::Count(n) if *n >= 0 => Some(*n as u64),
            other => {
                self.wrong(&name, "a number of steps", other);
                None
            }
        }
    }

    pub(super) fn tensor<T: Float>(
        &mut self,
        name: impl std::fmt::Display,
        shape: &[usize],
    ) -> Option<Tensor<T>> {
        let name = format!("{PREFIX}{name}");
        let value = self.get(&name)?;
        if let Saved::Tensor(t) = value
            && let Some(t) = t.get::<T>()
            && t.shape() == shape
        {
            return Some(t.clone());
        }
        self.wrong(&name, &format!("{} {shape:?}", T::DTYPE), value);
        None
    }

    pub(super) fn number(&mut self, name: impl std::fmt::Display) -> Option<f64> {
        self.tensor::<f64>(name, &[])?.item().ok()
    }

    /// An error with all that does not fit.
    pub(super) fn finish(self, path: &Path) -> Result<()> {
        let Reader { unused, missing, mismatched, .. } = self;
        if unused.is_empty() && missing.is_empty() && mismatched.is_empty() {
            return Ok(());
        }
        let unexpected = unused.into_iter().map(str::to_string).collect();
        Err(Error::Checkpoint { path: path.to_path_buf(), missing, unexpected, mismatched })
    }
}

impl<R: Rule> Stateful for Optimizer<R> {
    #[allow(private_interfaces)]
    fn export(&self, model: &impl Module) -> Named {
        let mut w = Writer::default();
        w.count(format_args!("rule/{}", R::NAME), 1);
        w.count("steps", self.steps);
        for (k, (rule, settings)) in self.all().enumerate() {
            w.number(format_args!("settings/{k}/lr"), rule.lr());
            w.number(format_args!("settings/{k}/l1"), settings.l1);
            w.number(format_args!("settings/{k}/max_norm"), settings.max_norm);
            for (name, value) in rule.clone().hyper() {
                let value = match value {
                    Hyper::Number(v) => *v,
                    Hyper::Flag(on) => *on as u8 as f64,
                };
                w.number(format_args!("settings/{k}/{name}"), value);
            }
        }
        for (k, g) in self.groups.iter().enumerate() {
            w.number(format_args!("settings/{}/ratio", k + 1), g.ratio);
        }
        let mut seen = HashSet::new();
        model.for_each_param(|path, p| {
            let Some(state) = self.states.find(p.id()).filter(|_| seen.insert(p.id())) else {
                return;
            };
            let rule = self.rule_of(state.group);
            let (arrays, numbers) = (rule.arrays(), rule.numbers());
            // A rule whose options changed since the last step begins anew at the next, here as after a load.
            if (arrays.len(), numbers.len()) != (state.arrays.len(), state.numbers.len()) {
                return;
            }
            w.count(format_args!("updates/{path}"), state.t);
            for (name, array) in arrays.iter().zip(&state.arrays) {
                w.put(format_args!("state/{name}/{path}"), Saved::Tensor(array.clone()));
            }
            for ((name, _), v) in numbers.iter().zip(&state.numbers) {
                w.number(format_args!("state/{name}/{path}"), *v);
            }
        });
        w.0
    }

    #[allow(private_interfaces)]
    fn import(&mut self, model: &impl Module, saved: &Named, path: &Path) -> Result<()> {
        let mut r = Reader::new(saved);
        r.count(format_args!("rule/{}", R::NAME));
        let steps = r.count("steps");
        let (mut rule, mut settings, mut groups) =
            (self.rule.clone(), self.settings, self.groups.clone());
        let all = std::iter::once((&mut rule, &mut settings, None));
        let of_groups =
            groups.iter_mut().map(|g| (&mut g.rule, &mut g.settings, Some(&mut g.ratio)));
        for (k, (rule, settings, ratio)) in all.chain(of_groups).enumerate() {
            let of = |name: &str| format!("settings/{k}/{name}");
            let mut into = |name: &str, to: &mut f64| {
                if let Some(v) = r.number(of(name)) {
                    *to = v;
                }
            };
            let mut lr = rule.lr();
            into("lr", &mut lr);
            rule.set_lr(lr);
            into("l1", &mut settings.l1);
            into("max_norm", &mut settings.max_norm);
            if let Some(ratio) = ratio {
                into("ratio", ratio);
            }
            for (name, value) in rule.hyper() {
                let Some(v) = r.number(of(name)) else { continue };
                match value {
                    Hyper::Number(to) => *to = v,
                    Hyper::Flag(to) if v == 0.0 || v == 1.0 => *to = v == 1.0,
                    Hyper::Flag(_) => {
                        r.refuse(format!("{PREFIX}{}: {v} is neither 0 nor 1", of(name)));
                    }
                }
            }
        }
        let mut new = Optimizer {
            rule,
            settings,
            groups,
            states: States::default(),
            steps: steps.unwrap_or(0),
        };
        if let Err(e) = new.check() {
            r.refuse(e.to_string());
        }
        let mut states = States::default();
        model.for_each_param(|path, p| {
            let known = states.find(p.id()).is_some();
            if known || !r.has(format_args!("updates/{path}")) {
                return;
            }
            let mut state = State::new(p.id());
            state.t = r.count(format_args!("updates/{path}")).unwrap_or(0);
            state.group = new.group_of(path);
            let rule = new.rule_of(state.group);
            for name in rule.arrays() {
                let name = format!("state/{name}/{path}");
                let array = with_param!(ParamRef, p, p => read_like(&mut r, &name, p.tensor()));
                state.arrays.extend(array);
            }
            for (name, _) in rule.numbers() {
                state.numbers.extend(r.number(format_args!("state/{name}/{path}")));
            }
            states.add(state);
        });
        r.finish(path)?;
        new.states = states;
        *self = new;
        Ok(())
    }
}

/// An array of the shape and type of a parameter.
fn read_like<T: Float>(r: &mut Reader<'_>, name: &str, p: &Tensor<T>) -> Option<AnyTensor> {
    r.tensor::<T>(name, p.shape()).map(AnyTensor::new)
}
