//! Transposed convolutions as layers.

use std::marker::PhantomData;

use rand::Rng;

use super::{TRANSPOSED, check_groups, check_windows};
use crate::Module;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::nn::init::{Fans, Init};
use crate::nn::{Layer, Param, Visitor, VisitorMut};
use crate::ops::conv::conv_transpose;
use crate::ops::{ConvTransposeParams, Sizes};
use crate::tensor::Tensor;

/// Transposed convolution over `D` axes, which enlarges by its stride: \[batch, inputs, sizes …\] to \[batch, outputs, sizes' …\], with or
/// without a batch; see [`Tensor::conv_transpose2d`].
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::ConvTranspose2d;
/// let layer: ConvTranspose2d = ConvTranspose2d::new(16, 8, 4).stride(2).padding(1).build(&mut gradus::rng(0))?;
/// let y = layer.forward(&Tensor::ones([2, 16, 7, 7])?)?;
/// assert_eq!(y.shape(), [2, 8, 14, 14]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ConvTranspose<const D: usize, T: Float = f32> {
    /// \[inputs, outputs / groups, kernel sizes …\].
    pub weight: Param<T>,
    /// \[outputs\].
    pub bias: Option<Param<T>>,
    params: ConvTransposeParams<D>,
}

/// Transposed convolution along a length; see [`Tensor::conv_transpose1d`].
pub type ConvTranspose1d<T = f32> = ConvTranspose<1, T>;
/// Transposed convolution over an image; see [`Tensor::conv_transpose2d`].
pub type ConvTranspose2d<T = f32> = ConvTranspose<2, T>;
/// Transposed convolution over a volume; see [`Tensor::conv_transpose3d`].
pub type ConvTranspose3d<T = f32> = ConvTranspose<3, T>;

impl<const D: usize, T: Float> Module for ConvTranspose<D, T> {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.field("weight", &self.weight);
        v.field("bias", &self.bias);
    }
    fn visit_mut(&mut self, v: &mut VisitorMut<'_>) {
        v.field("weight", &mut self.weight);
        v.field("bias", &mut self.bias);
    }
}

impl<const D: usize, T: Float> ConvTranspose<D, T> {
    /// The names of the layer and of its operation in errors.
    const NAME: [&str; 2] = TRANSPOSED[if D < 4 { D } else { 0 }];

    /// Starts a layer with a kernel of this size (a number, or one for each axis); [`build`](ConvTransposeBuilder::build) draws its
    /// parameters.
    #[allow(clippy::new_ret_no_self)] // A layer cannot be made before the generator is there.
    pub fn new(
        inputs: usize,
        outputs: usize,
        kernel: impl Into<Sizes<D>>,
    ) -> ConvTransposeBuilder<D, T> {
        ConvTransposeBuilder {
            inputs,
            outputs,
            kernel: kernel.into().0,
            params: ConvTransposeParams::new(),
            bias: true,
            init: Init::Default,
            bias_init: Init::Default,
            element: PhantomData,
        }
    }

    /// Stride, padding, output padding, dilation and groups.
    pub fn params(&self) -> ConvTransposeParams<D> {
        self.params
    }

    /// [`forward`](Layer::forward) to an output of this size, which several sizes of an input of a strided convolution lead to: it takes
    /// the place of the output padding.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::ConvTranspose2d;
    /// let mut rng = gradus::rng(0);
    /// let down: Conv2d = Conv2d::new(3, 8, 3).stride(2).padding(1).build(&mut rng)?;
    /// let up: ConvTranspose2d = ConvTranspose2d::new(8, 3, 3).stride(2).padding(1).build(&mut rng)?;
    /// let x = Tensor::ones([1, 3, 12, 15])?;
    /// let y = up.forward_to(&down.forward(&x)?, (12, 15))?;
    /// assert_eq!(y.shape(), x.shape());
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`forward`](Layer::forward), and [`Error::Argument`] for a size that the input cannot lead to.
    pub fn forward_to(&self, x: &Tensor<T>, output_size: impl Into<Sizes<D>>) -> Result<Tensor<T>> {
        self.weight.within(|| self.sized(x, output_size.into().0))
    }

    fn sized(&self, x: &Tensor<T>, size: [usize; D]) -> Result<Tensor<T>> {
        let [name, op] = Self::NAME;
        let mut params = self.params.output_padding(0);
        let kernel = self.weight.shape().get(2..).filter(|k| k.len() == D);
        let lead = x.rank().checked_sub(D).filter(|lead| (1..=2).contains(lead));
        if let (Some(kernel), Some(lead)) = (kernel, lead) {
            for (i, &n) in x.shape()[lead..].iter().enumerate() {
                // In wide integers, as the sizes have not been checked yet.
                let wide = |n: usize| n as i128;
                let least = (wide(n) - 1) * wide(params.stride[i]) - 2 * wide(params.padding[i])
                    + wide(params.dilation[i]) * (wide(kernel[i]) - 1)
                    + 1;
                let extra = wide(size[i]) - least;
                let most = wide(params.stride[i].max(params.dilation[i])) - 1;
                if !(0..=most).contains(&extra) {
                    return Err(Error::argument(
                        name,
                        format!(
                            "the input {:?} leads to a size between {least} and {} on axis {i} of the output, not to {size:?}",
                            x.shape(),
                            least + most
                        ),
                    ));
                }
                params.output_padding[i] = extra as usize;
            }
        }
        conv_transpose(op, x, &self.weight, self.bias.as_deref(), &params)
    }
}

impl<const D: usize, T: Float> Layer<T> for ConvTranspose<D, T> {
    /// # Errors
    /// As [`Tensor::conv_transpose2d`].
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        self.weight.within(|| {
            conv_transpose(Self::NAME[1], x, &self.weight, self.bias.as_deref(), &self.params)
        })
    }
}

/// What a [`ConvTranspose`] will be.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::ConvTranspose1d;
/// let layer: ConvTranspose1d =
///     ConvTranspose1d::new(8, 4, 5).stride(3).output_padding(1).groups(2).build(&mut gradus::rng(0))?;
/// assert_eq!(layer.weight.shape(), [8, 2, 5]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "call build(rng) to get the layer"]
pub struct ConvTransposeBuilder<const D: usize, T: Float = f32> {
    inputs: usize,
    outputs: usize,
    kernel: [usize; D],
    params: ConvTransposeParams<D>,
    bias: bool,
    init: Init,
    bias_init: Init,
    element: PhantomData<T>,
}

/// What a [`ConvTranspose1d`] will be.
pub type ConvTranspose1dBuilder<T = f32> = ConvTransposeBuilder<1, T>;
/// What a [`ConvTranspose2d`] will be.
pub type ConvTranspose2dBuilder<T = f32> = ConvTransposeBuilder<2, T>;
/// What a [`ConvTranspose3d`] will be.
pub type ConvTranspose3dBuilder<T = f32> = ConvTransposeBuilder<3, T>;

impl<const D: usize, T: Float> ConvTransposeBuilder<D, T> {
    /// The distance between the windows of neighbouring inputs, a number or one for each axis; 1 unless said otherwise.
    pub fn stride(mut self, stride: impl Into<Sizes<D>>) -> Self {
        self.params = self.params.stride(stride);
        self
    }

    /// What is cut off the output on each side, a number or one for each axis; none unless said otherwise.
    pub fn padding(mut self, padding: impl Into<Sizes<D>>) -> Self {
        self.params = self.params.padding(padding);
        self
    }

    /// What is added to the output behind each axis, less than the stride or the dilation; none unless said otherwise.
    pub fn output_padding(mut self, padding: impl Into<Sizes<D>>) -> Self {
        self.params = self.params.output_padding(padding);
        self
    }

    /// The distance between the taps of the window, a number or one for each axis; 1 unless said otherwise.
    pub fn dilation(mut self, dilation: impl Into<Sizes<D>>) -> Self {
        self.params = self.params.dilation(dilation);
        self
    }

    /// Groups of channels that do not see each other; 1 unless said otherwise.
    pub fn groups(mut self, groups: usize) -> Self {
        self.params = self.params.groups(groups);
        self
    }

    /// Whether there is a bias; there is unless said otherwise.
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// How the weight starts: uniform in ±1/√(outputs / groups · kernel) unless said otherwise, as in PyTorch.
    pub fn init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }

    /// How the bias starts: uniform within the bounds of the weight unless said otherwise.
    pub fn bias_init(mut self, init: Init) -> Self {
        self.bias_init = init;
        self
    }

    /// The layer, its parameters drawn from `rng`: first the weight, then the bias.
    ///
    /// # Errors
    /// [`Error::Argument`] for channels that the groups do not divide, a stride, dilation or kernel of 0, an output padding that is not smaller than
    /// the stride or the dilation, or from an initialiser; [`Error::Overflow`] if the weight does not fit in memory.
    pub fn build(self, rng: &mut (impl Rng + ?Sized)) -> Result<ConvTranspose<D, T>> {
        let ConvTransposeBuilder { inputs, outputs, kernel, params, .. } = self;
        let [name, _] = ConvTranspose::<D, T>::NAME;
        check_groups(name, params.groups, inputs, outputs)?;
        check_windows(name, &kernel, &params.stride, &params.dilation)?;
        if (0..D).any(|i| params.output_padding[i] >= params.stride[i].max(params.dilation[i])) {
            return Err(Error::argument(
                name,
                format!(
                    "output padding {:?} must be smaller than the stride {:?} or the dilation {:?} on each axis",
                    params.output_padding, params.stride, params.dilation
                ),
            ));
        }
        let shape: Vec<usize> =
            [inputs, outputs / params.groups].into_iter().chain(kernel).collect();
        let fans = Fans::of(&shape)?;
        let weight = self.init.tensor_with(&shape[..], fans, rng)?;
        let bias = match self.bias {
            true => Some(Param::new(self.bias_init.tensor_with([outputs], fans, rng)?)),
            false => None,
        };
        Ok(ConvTranspose { weight: Param::new(weight), bias, params })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;

    #[test]
    fn empty_and_single() {
        let mut rng = crate::rng(0);
        let layer: ConvTranspose2d = ConvTranspose2d::new(2, 3, 3).build(&mut rng).unwrap();
        let y = layer.forward(&Tensor::zeros([0, 2, 4, 4]).unwrap()).unwrap();
        assert_eq!(y.shape(), [0, 3, 6, 6]);
        let one = ConvTranspose::<1, f64>::new(1, 1, 1).init(Init::Constant(3.0));
        let one = one.bias_init(Init::Ones).build(&mut rng).unwrap();
        assert_eq!(one.forward(&Tensor::from([[2.0]])).unwrap().to_vec(), [7.0]);
        let volume: ConvTranspose3d =
            ConvTranspose3d::new(2, 4, 2).stride(2).groups(2).build(&mut rng).unwrap();
        assert_eq!(volume.weight.shape(), [2, 2, 2, 2, 2]);
        let y = volume.forward(&Tensor::ones([1, 2, 3, 2, 1]).unwrap()).unwrap();
        assert_eq!(y.shape(), [1, 4, 6, 4, 2]);
    }

    #[test]
    fn every_parameter_gets_a_gradient() {
        let layer: ConvTranspose1d =
            ConvTranspose1d::new(2, 3, 3).stride(2).build(&mut crate::rng(0)).unwrap();
        assert_eq!(layer.param_paths(), ["weight", "bias"]);
        let tape = Tape::new(0);
        let net = tape.watch(&layer);
        let y = net.forward(&Tensor::ones([2, 2, 4]).unwrap()).unwrap();
        let g = y.sum().backward().unwrap();
        assert_eq!(g.get(&layer.weight).unwrap().to_vec(), [8.0; 18]);
        assert_eq!(g.get(layer.bias.as_ref().unwrap()).unwrap().to_vec(), [18.0; 3]);
    }

    #[test]
    fn what_is_refused() {
        let said = |b: ConvTranspose1dBuilder| b.build(&mut crate::rng(0)).unwrap_err().to_string();
        assert_eq!(
            said(ConvTranspose1d::new(3, 4, 3).groups(2)),
            "ConvTranspose1d: groups=2 must divide the 3 inputs and the 4 outputs"
        );
        assert_eq!(
            said(ConvTranspose1d::new(3, 4, 3).stride(2).output_padding(2)),
            "ConvTranspose1d: output padding [2] must be smaller than the stride [2] or the dilation [1] on each axis"
        );
        let layer: ConvTranspose1d =
            ConvTranspose1d::new(1, 1, 3).stride(2).padding(1).build(&mut crate::rng(0)).unwrap();
        let x = Tensor::ones([1, 4]).unwrap();
        assert_eq!(layer.forward_to(&x, 8).unwrap().shape(), [1, 8]);
        assert_eq!(
            layer.forward_to(&x, 9).unwrap_err().to_string(),
            "ConvTranspose1d: the input [1, 4] leads to a size between 7 and 8 on axis 0 of the output, not to [9]"
        );
        assert!(layer.forward_to(&x, usize::MAX).is_err());
    }
}
