//! Optimizers: rules that change parameters by their gradients.
//!
//! A [`Rule`] knows hyper-parameters and the arithmetic for one array. An [`Optimizer`] holds a rule and its state, and walks the
//! model: it finds each parameter's gradient, leaves frozen parameters alone, and reports forgotten ones.

mod adam;
mod inspect;
mod penalty;
mod rule;
mod sgd;
mod step;

pub use adam::{Adam, AdamRule, AdamW};
pub use penalty::{ElasticNet, L1, L2, Penalty, PenaltySum};
pub use rule::{Rule, Update};
pub use sgd::{Sgd, SgdRule};
pub use step::Optimizer;

#[cfg(test)]
mod tests;
