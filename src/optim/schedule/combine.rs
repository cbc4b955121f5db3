//! Schedules made of schedules.

use super::Schedule;

/// A schedule with a beginning in a straight line; see [`Schedule::warmup`].
#[derive(Clone, Debug)]
pub struct Warmup<S> {
    pub(super) schedule: S,
    pub(super) start: f64,
    pub(super) steps: usize,
}

impl<S: Schedule> Schedule for Warmup<S> {
    fn lr(&self, step: usize) -> f64 {
        if step >= self.steps {
            return self.schedule.lr(step - self.steps);
        }
        let part = step as f64 / self.steps as f64;
        (self.start + (1.0 - self.start) * part) * self.schedule.lr(0)
    }
}

/// One schedule after another; see [`Schedule::then`].
#[derive(Clone, Debug)]
pub struct Then<A, B> {
    pub(super) first: A,
    pub(super) milestone: usize,
    pub(super) next: B,
}

impl<A: Schedule, B: Schedule> Schedule for Then<A, B> {
    fn lr(&self, step: usize) -> f64 {
        match step.checked_sub(self.milestone) {
            None => self.first.lr(step),
            Some(step) => self.next.lr(step),
        }
    }
}

/// The product of two schedules; see [`Schedule::times`].
#[derive(Clone, Debug)]
pub struct Times<A, B> {
    pub(super) schedule: A,
    pub(super) factor: B,
}

impl<A: Schedule, B: Schedule> Schedule for Times<A, B> {
    fn lr(&self, step: usize) -> f64 {
        self.schedule.lr(step) * self.factor.lr(step)
    }
}

/// A schedule that stops changing; see [`Schedule::until`].
#[derive(Clone, Debug)]
pub struct Held<S> {
    pub(super) schedule: S,
    pub(super) last: usize,
}

impl<S: Schedule> Schedule for Held<S> {
    fn lr(&self, step: usize) -> f64 {
        self.schedule.lr(step.min(self.last))
    }
}
