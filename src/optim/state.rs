//! What an optimizer remembers of every parameter.

use std::collections::HashMap;

use smallvec::SmallVec;

use super::rule::Rule;
use super::step::Optimizer;
use crate::autograd::{AnyTensor, ParamId};
use crate::float::Float;
use crate::nn::Param;
use crate::tensor::Tensor;

/// The state of every parameter that was ever updated, in the order of the first walk.
#[derive(Clone, Debug, Default)]
pub(super) struct States {
    pub(super) list: Vec<State>,
    pub(super) place: HashMap<ParamId, usize>,
    /// Where the next parameter probably stands: walks repeat themselves.
    pub(super) next: usize,
}

#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) id: ParamId,
    /// How often the parameter was updated.
    pub(super) t: u64,
    /// The optimizer's step that updated it last: a tied parameter comes again in the same walk.
    pub(super) stamp: u64,
    /// The group that it belonged to at that step.
    pub(super) group: Option<usize>,
    pub(super) arrays: SmallVec<[AnyTensor; 3]>,
    pub(super) numbers: SmallVec<[f64; 1]>,
}

impl State {
    pub(super) fn new(id: ParamId) -> Self {
        let (arrays, numbers) = (SmallVec::new(), SmallVec::new());
        State { id, t: 0, stamp: 0, group: None, arrays, numbers }
    }

    /// Sees to it that the arrays and numbers of the rule are there: as they are at first where there were none, or where the parameter
    /// was given another shape or the rule other options.
    pub(super) fn prepare<T: Float>(&mut self, rule: &impl Rule, shape: &[usize]) {
        let (arrays, numbers) = (rule.arrays(), rule.numbers());
        let fits = |a: &AnyTensor| a.get::<T>().is_some_and(|a| a.shape() == shape);
        if self.arrays.len() == arrays.len()
            && self.numbers.len() == numbers.len()
            && self.arrays.iter().all(fits)
            && self.t > 1
        {
            return;
        }
        let first =
            |k| AnyTensor::new(Tensor::<T>::build(shape, |s| s.fill(T::of(rule.initial(k)))));
        self.arrays = (0..arrays.len()).map(first).collect();
        self.numbers = numbers.iter().map(|(_, first)| *first).collect();
        self.t = 1;
    }
}

impl States {
    pub(super) fn get(&mut self, id: ParamId) -> &mut State {
        let list = &mut self.list;
        let i = if list.get(self.next).is_some_and(|s| s.id == id) {
            self.next
        } else {
            *self.place.entry(id).or_insert_with(|| {
                list.push(State::new(id));
                list.len() - 1
            })
        };
        self.next = i + 1;
        &mut self.list[i]
    }

    pub(super) fn add(&mut self, state: State) {
        self.place.insert(state.id, self.list.len());
        self.list.push(state);
    }

    pub(super) fn find(&self, id: ParamId) -> Option<&State> {
        self.place.get(&id).map(|&i| &self.list[i])
    }
}

impl<R: Rule> Optimizer<R> {
    /// An array of state that stands beside a parameter, by its name in [`Rule::arrays`]; `None` before the parameter's first update.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let mut w: Param = Param::new(Tensor::from([1.0]));
    /// let mut sgd = Sgd::new(0.1).momentum(0.9);
    /// let grads = Tape::new(0).watch(&w).square().sum().backward()?;
    /// sgd.step(&mut w, &grads)?;
    /// assert_eq!(sgd.state(&w, "momentum_buffer").unwrap().to_vec(), [2.0]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn state<T: Float>(&self, p: &Param<T>, name: &str) -> Option<&Tensor<T>> {
        let state = self.states.find(p.id())?;
        let k = self.rule_of(state.group).arrays().iter().position(|n| *n == name)?;
        state.arrays.get(k)?.get()
    }
}
