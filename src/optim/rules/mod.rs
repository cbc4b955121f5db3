//! The rules, one a file: hyper-parameters with their defaults, and the arithmetic of one step.

mod adadelta;
mod adagrad;
mod adam;
mod adamax;
mod asgd;
mod lamb;
mod lion;
mod nadam;
mod options;
mod radam;
mod rmsprop;
mod rprop;
mod sgd;

pub use adadelta::{Adadelta, AdadeltaRule};
pub use adagrad::{AdaGrad, AdaGradRule};
pub use adam::{Adam, AdamRule, AdamW};
pub use adamax::{Adamax, AdamaxRule};
pub use asgd::{Asgd, AsgdRule};
pub use lamb::{Lamb, LambRule};
pub use lion::{Lion, LionRule};
pub use nadam::{NAdam, NAdamRule};
pub use radam::{RAdam, RAdamRule};
pub use rmsprop::{RmsProp, RmsPropRule};
pub use rprop::{Rprop, RpropRule};
pub use sgd::{Sgd, SgdRule};

use options::options;
