//! The models. Parameters come in the order in which the definition of the benchmark lists them, because their seeds follow from it.

mod residual;
mod small;
mod transformer;

pub use residual::{ResNet18, ResNet50};
pub use small::{Cnn, LstmChar, Mlp};
pub use transformer::{Bert, Gpt2, GptChar, MhaBlock};
