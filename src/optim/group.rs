//! Parameter groups: hyper-parameters by path.

use std::fmt;
use std::sync::Arc;

use super::rule::Rule;
use super::step::Optimizer;
use crate::error::{Error, Result};

/// What an optimizer does around its rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// The factor of the L1 penalty.
    pub(super) l1: f64,
    /// The largest norm of a row; infinite without the constraint.
    pub(super) max_norm: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { l1: 0.0, max_norm: f64::INFINITY }
    }
}

/// A test of paths.
type Which = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Hyper-parameters of the parameters whose path is accepted.
#[derive(Clone)]
pub(super) struct Group<R> {
    pub(super) which: Which,
    pub(super) rule: R,
    pub(super) settings: Settings,
    /// Its learning rate over the optimizer's; not finite if the optimizer's was 0, and then the rate is left alone.
    pub(super) ratio: f64,
}

impl<R: fmt::Debug> fmt::Debug for Group<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("rule", &self.rule).field("settings", &self.settings).finish()
    }
}

/// What keeps the ratio of two rates: equal rates stay equal, even if both are 0.
fn ratio(of: f64, to: f64) -> f64 {
    if of == to { 1.0 } else { of / to }
}

/// Groups and learning rates.
impl<R: Rule> Optimizer<R> {
    /// Hyper-parameters of their own for the parameters whose path `which` accepts. `change` gets the present settings to build on.
    ///
    /// A parameter belongs to the first group that accepts it, and to the optimizer itself if none does. Settings made after this call
    /// are the optimizer's alone; but [`set_lr`](Self::set_lr) reaches all groups, whose rates keep their ratio to the optimizer's.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let mut model: (Param, Param) = (Param::new(Tensor::from([1.0])), Param::new(Tensor::from([1.0])));
    /// let mut sgd = Sgd::new(0.5).group(|path| path == "1", |o| o.with_lr(0.25));
    /// let tape = Tape::new(0);
    /// let net = tape.watch(&model);
    /// let grads = (&*net.0 + &*net.1).sum().backward()?;
    /// sgd.step(&mut model, &grads)?;
    /// assert_eq!((model.0.to_vec(), model.1.to_vec()), (vec![0.5], vec![0.75]));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn group(
        mut self,
        which: impl Fn(&str) -> bool + Send + Sync + 'static,
        change: impl FnOnce(Self) -> Self,
    ) -> Self {
        let mut start = Optimizer::with(self.rule.clone());
        start.settings = self.settings;
        let made = change(start);
        let which: Which = Arc::new(which);
        let base = self.rule.lr();
        // Groups that were made within: both tests must accept.
        for inner in made.groups {
            let (outer, own) = (which.clone(), inner.which.clone());
            let which: Which = Arc::new(move |path: &str| outer(path) && own(path));
            self.groups.push(Group { which, ratio: ratio(inner.rule.lr(), base), ..inner });
        }
        let (rule, settings) = (made.rule, made.settings);
        let ratio = ratio(rule.lr(), base);
        self.groups.push(Group { which, rule, settings, ratio });
        self
    }

    /// The learning rate, of the parameters that are in no group.
    pub fn lr(&self) -> f64 {
        self.rule.lr()
    }

    /// Sets the learning rate, for a schedule; those of groups keep their ratio to it. The state stays.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let mut sgd = Sgd::new(0.1);
    /// sgd.set_lr(sgd.lr() * 0.5);
    /// assert_eq!(sgd.lr(), 0.05);
    /// ```
    pub fn set_lr(&mut self, lr: f64) {
        self.rule.set_lr(lr);
        for g in self.groups.iter_mut().filter(|g| g.ratio.is_finite()) {
            g.rule.set_lr(lr * g.ratio);
        }
    }

    /// [`set_lr`](Self::set_lr) while building.
    pub fn with_lr(mut self, lr: f64) -> Self {
        self.set_lr(lr);
        self
    }

    /// How many groups there are.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// The group that the parameter of a path belongs to.
    pub fn group_of(&self, path: &str) -> Option<usize> {
        self.groups.iter().position(|g| (g.which)(path))
    }

    /// The rule of a group.
    pub fn group_rule(&self, group: usize) -> Option<&R> {
        self.groups.get(group).map(|g| &g.rule)
    }

    /// The learning rate of a group, in the order of the calls of [`group`](Self::group).
    pub fn group_lr(&self, group: usize) -> Option<f64> {
        self.groups.get(group).map(|g| g.rule.lr())
    }

    /// Sets the learning rate of one group, and with it its ratio to the optimizer's.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let mut sgd = Sgd::new(0.1).group(|path| path.ends_with("bias"), |o| o);
    /// sgd.set_group_lr(0, 0.2)?;
    /// sgd.set_lr(1.0);
    /// assert_eq!(sgd.group_lr(0), Some(2.0));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Index`] if there is no such group.
    pub fn set_group_lr(&mut self, group: usize, lr: f64) -> Result<()> {
        let (base, size) = (self.rule.lr(), self.groups.len());
        let Some(g) = self.groups.get_mut(group) else {
            let what = "the groups of the optimizer".to_string();
            return Err(Error::Index { op: "set_group_lr", index: group as i64, what, size });
        };
        g.rule.set_lr(lr);
        g.ratio = ratio(lr, base);
        Ok(())
    }

    /// Sets the momentum (β₁ for the rules of Adam's family) everywhere, for schedules that cycle it.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let mut adam = Adam::new(0.1);
    /// adam.set_momentum(0.85)?;
    /// assert_eq!(adam.rule().beta1, 0.85);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if the rule has no momentum.
    pub fn set_momentum(&mut self, momentum: f64) -> Result<()> {
        for rule in
            std::iter::once(&mut self.rule).chain(self.groups.iter_mut().map(|g| &mut g.rule))
        {
            let Some(m) = rule.momentum() else {
                return Err(Error::argument(
                    "set_momentum",
                    format!("{} has no momentum", R::NAME),
                ));
            };
            *m = momentum;
        }
        Ok(())
    }

    /// The rule and settings of the optimizer and then of each group.
    pub(super) fn all(&self) -> impl Iterator<Item = (&R, &Settings)> {
        let groups = self.groups.iter().map(|g| (&g.rule, &g.settings));
        std::iter::once((&self.rule, &self.settings)).chain(groups)
    }

    /// The rule of a group, or of the parameters in none.
    pub(super) fn rule_of(&self, group: Option<usize>) -> &R {
        group.and_then(|i| self.groups.get(i)).map_or(&self.rule, |g| &g.rule)
    }
}
