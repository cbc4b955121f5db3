//! Encoder and decoder together.

use rand::Rng;

use super::{TransformerBuilder, TransformerDecoder, TransformerEncoder};
use crate::Module;
use crate::error::Result;
use crate::float::Float;
use crate::nn::{Attend, Init, ItemMut, ParamMut, VisitorMut};
use crate::tensor::Tensor;

/// The transformer of the paper: what the encoder makes of the source is the memory of the decoder of the target (Vaswani et al., 2017). Both end with
/// a normalisation.
///
/// Source \[batch, S, d_model\], target and result \[batch, T, d_model\]; embeddings and positions come before, a linear layer after it. Parameters have PyTorch's
/// names.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::Transformer;
/// let model: Transformer =
///     Transformer::new(16, 4, 2, 2).dim_feedforward(32).build(&mut gradus::rng(0))?;
/// let (source, target) = (Tensor::ones([2, 7, 16])?, Tensor::ones([2, 5, 16])?);
/// let causal = Attend::new().causal(true);
/// let y = model.forward_with(&source, &target, &Attend::new(), &causal, &Attend::new())?;
/// assert_eq!(y.shape(), [2, 5, 16]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct Transformer<T: Float = f32> {
    /// Reads the source.
    pub encoder: TransformerEncoder<T>,
    /// Reads the target and the memory.
    pub decoder: TransformerDecoder<T>,
}

impl<T: Float> Transformer<T> {
    /// Starts a transformer of this width and number of heads, with so many layers on each side. The paper's has width 512, 8 heads and 6 layers.
    #[allow(clippy::new_ret_no_self)] // A layer cannot be made before the generator is there.
    pub fn new(
        d_model: usize,
        nhead: usize,
        encoder_layers: usize,
        decoder_layers: usize,
    ) -> TransformerBuilder<Self> {
        TransformerBuilder::new(d_model, nhead, [encoder_layers, decoder_layers]).final_norm(true)
    }

    /// The result without any mask: every position of the target sees all of it.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if an input does not fit.
    pub fn forward(&self, source: &Tensor<T>, target: &Tensor<T>) -> Result<Tensor<T>> {
        let all = Attend::new();
        self.forward_with(source, target, &all, &all, &all)
    }

    /// The result with masks: for the source of itself, for the target of itself, and for the target of the memory.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if an input or a mask does not fit.
    pub fn forward_with(
        &self,
        source: &Tensor<T>,
        target: &Tensor<T>,
        of_source: &Attend<T>,
        of_target: &Attend<T>,
        of_memory: &Attend<T>,
    ) -> Result<Tensor<T>> {
        let memory = self.encoder.forward_with(source, of_source)?;
        self.decoder.forward_with(target, &memory, of_target, of_memory)
    }
}

impl<T: Float> TransformerBuilder<Transformer<T>> {
    /// The transformer; all matrices are drawn Xavier-uniform from `rng`, as in PyTorch.
    ///
    /// # Errors
    /// As for a layer.
    pub fn build(&self, rng: &mut (impl Rng + ?Sized)) -> Result<Transformer<T>> {
        let mut model = Transformer {
            encoder: self.to::<TransformerEncoder<T>>().build(&mut *rng)?,
            decoder: self.to::<TransformerDecoder<T>>().build(&mut *rng)?,
        };
        let mut done = Ok(());
        VisitorMut::walk(&mut model, &mut |_, item| {
            let ItemMut::Param(p) = item else { return };
            let redrawn = match p {
                ParamMut::F32(p) if p.rank() > 1 => {
                    Init::xavier_uniform().tensor(p.shape(), &mut *rng).map(|w| p.set(w))
                }
                ParamMut::F64(p) if p.rank() > 1 => {
                    Init::xavier_uniform().tensor(p.shape(), &mut *rng).map(|w| p.set(w))
                }
                _ => Ok(()),
            };
            if let Err(e) = redrawn {
                done = Err(e);
            }
        });
        done.map(|()| model)
    }
}
