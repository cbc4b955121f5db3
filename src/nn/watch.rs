//! Putting a model on a tape.

use super::module::{AnyBuffer, Item, ItemMut, Module, Visitor, VisitorMut};
use super::param::{Mode, ParamMut};
use crate::autograd::{ParamId, Tape};

impl Tape {
    /// A copy of a model (reference counts, no data) whose parameters are leaves of this tape, whose layers train,
    /// and whose buffers are the model's own. What is computed from the copy is recorded, what is computed from the model is not.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let model: Dense = Dense::new(2, 1).build(&mut gradus::rng(0))?;
    /// let tape = Tape::new(0);
    /// let net = tape.watch(&model);
    /// let x = Tensor::ones([1, 2])?;
    /// assert!(net.forward(&x)?.is_recorded());
    /// assert!(!model.forward(&x)?.is_recorded());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn watch<M: Module + Clone>(&self, model: &M) -> M {
        self.watch_where(model, |_| true)
    }

    /// Like [`watch`](Tape::watch), but only parameters whose path `which` accepts are leaves; the others are frozen.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let mut rng = gradus::rng(0);
    /// let model: (Dense, Dense) = (Dense::new(2, 2).build(&mut rng)?, Dense::new(2, 1).build(&mut rng)?);
    /// let tape = Tape::new(0);
    /// let net = tape.watch_where(&model, |path| path.starts_with("1."));
    /// let loss = net.1.forward(&net.0.forward(&Tensor::ones([1, 2])?)?)?.sum();
    /// let grads = loss.backward()?;
    /// assert!(grads.get(&model.0.weight).is_none() && grads.get(&model.1.weight).is_some());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn watch_where<M: Module + Clone>(&self, model: &M, which: impl Fn(&str) -> bool) -> M {
        self.watch_those(model, &|path, _| which(path))
    }

    /// [`watch_where`](Self::watch_where) by what a parameter is.
    pub(super) fn watch_those<M: Module + Clone>(
        &self,
        model: &M,
        which: &dyn Fn(&str, ParamId) -> bool,
    ) -> M {
        let tape = self.core();
        let mut copy = model.clone();
        let mut buffers: Vec<Box<dyn AnyBuffer>> = Vec::new();
        Visitor::walk_unnamed(model, &mut |_, item| {
            if let Item::Buffer(b) = item {
                buffers.push(b.share_any());
            }
        });
        let mut buffers = buffers.into_iter();
        VisitorMut::walk(&mut copy, &mut |path, item| match item {
            ItemMut::Param(ParamMut::F32(p)) if which(path, p.id()) => p.put_on(tape),
            ItemMut::Param(ParamMut::F64(p)) if which(path, p.id()) => p.put_on(tape),
            // A frozen parameter of a copy that another tape watched must not stay a leaf there.
            ItemMut::Param(ParamMut::F32(p)) => *p.value_mut() = p.detach(),
            ItemMut::Param(ParamMut::F64(p)) => *p.value_mut() = p.detach(),
            ItemMut::Buffer(b) => {
                if let Some(original) = buffers.next() {
                    b.become_shared(&*original);
                }
            }
            ItemMut::Mode(m) => *m = Mode::train_on(tape),
        });
        copy
    }
}
