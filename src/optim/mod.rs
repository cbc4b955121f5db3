//! Optimizers: rules that change parameters by their gradients.
//!
//! A [`Rule`] knows hyper-parameters and the arithmetic for one array. An [`Optimizer`] holds a rule and its state, and walks the
//! model: it finds each parameter's gradient, leaves frozen parameters alone, and reports forgotten ones.
//!
//! Beside them: [`schedule`]s of learning rates and batch sizes, [averages](Ema) of weights, [penalties](Penalty), [`Lbfgs`], and [`search`] without
//! gradients.

mod average;
mod export;
mod flat;
mod formula;
mod group;
mod inspect;
mod lbfgs;
mod max_norm;
mod penalty;
mod rule;
mod rules;
pub mod schedule;
pub mod search;
mod state;
mod step;
mod wolfe;

pub use average::{Ema, Swa, refresh_statistics};
pub use export::Stateful;
pub(crate) use export::{Named, PREFIX, Saved};
pub use flat::{flatten_gradients, flatten_params, set_flat_params};
pub use lbfgs::Lbfgs;
pub use max_norm::MaxNorm;
pub use penalty::{ElasticNet, L1, L2, Penalty, PenaltySum};
pub use rule::{Hyper, Rule, Update};
pub use rules::*;
pub use schedule::Schedule;
pub use step::Optimizer;

#[cfg(test)]
mod rules_tests;
#[cfg(test)]
mod tests;
