//! The two-dimensional convolution as a layer.

use std::marker::PhantomData;

use rand::Rng;

use super::init::{Fans, Init};
use super::{Layer, Param};
use crate::Module;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::ops::{Conv2dParams, Padding, Pair};
use crate::tensor::Tensor;

/// Two-dimensional convolution: \[batch, inputs, height, width\] to \[batch, outputs, height', width'\]; see [`Tensor::conv2d`].
///
/// ```
/// use gradus::prelude::*;
/// let layer: Conv2d = Conv2d::new(1, 32, 3).build(&mut gradus::rng(0))?;
/// let y = layer.forward(&Tensor::ones([8, 1, 28, 28])?)?;
/// assert_eq!(y.shape(), [8, 32, 26, 26]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Conv2d<T: Float = f32> {
    /// \[outputs, inputs / groups, kernel height, kernel width\].
    pub weight: Param<T>,
    /// \[outputs\].
    pub bias: Option<Param<T>>,
    params: Conv2dParams,
}

impl<T: Float> Module for Conv2d<T> {
    fn visit(&self, v: &mut super::Visitor<'_>) {
        v.field("weight", &self.weight);
        v.field("bias", &self.bias);
    }
    fn visit_mut(&mut self, v: &mut super::VisitorMut<'_>) {
        v.field("weight", &mut self.weight);
        v.field("bias", &mut self.bias);
    }
}

impl<T: Float> Conv2d<T> {
    /// Starts a layer with a kernel of this size (a number, or height and width); [`build`](Conv2dBuilder::build) draws its parameters.
    #[allow(clippy::new_ret_no_self)] // A layer cannot be made before the generator is there.
    pub fn new(inputs: usize, outputs: usize, kernel: impl Into<Pair>) -> Conv2dBuilder<T> {
        Conv2dBuilder {
            inputs,
            outputs,
            kernel: kernel.into().0,
            params: Conv2dParams::new(),
            bias: true,
            init: Init::Default,
            bias_init: Init::Default,
            element: PhantomData,
        }
    }

    /// Stride, padding, dilation and groups.
    pub fn params(&self) -> Conv2dParams {
        self.params
    }
}

impl<T: Float> Layer<T> for Conv2d<T> {
    /// # Errors
    /// As [`Tensor::conv2d`].
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        x.conv2d(&self.weight, self.bias.as_deref(), self.params).map_err(|e| self.weight.locate(e))
    }
}

/// What a [`Conv2d`] will be.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::Padding;
/// let layer: Conv2d =
///     Conv2d::new(16, 32, (3, 5)).stride(2).padding(Padding::Same).groups(4).bias(false).build(&mut gradus::rng(0))?;
/// assert_eq!(layer.weight.shape(), [32, 4, 3, 5]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "call build(rng) to get the layer"]
pub struct Conv2dBuilder<T: Float = f32> {
    inputs: usize,
    outputs: usize,
    kernel: [usize; 2],
    params: Conv2dParams,
    bias: bool,
    init: Init,
    bias_init: Init,
    element: PhantomData<T>,
}

impl<T: Float> Conv2dBuilder<T> {
    /// The step between output pixels, a number or a pair; 1 unless said otherwise.
    pub fn stride(mut self, stride: impl Into<Pair>) -> Self {
        self.params = self.params.stride(stride);
        self
    }

    /// The zeros around the image: a number, a pair, or [`Padding::Same`]; none unless said otherwise.
    pub fn padding(mut self, padding: impl Into<Padding>) -> Self {
        self.params = self.params.padding(padding);
        self
    }

    /// The distance between the taps of the window, a number or a pair; 1 unless said otherwise.
    pub fn dilation(mut self, dilation: impl Into<Pair>) -> Self {
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

    /// How the weight starts: uniform in ±1/√fan-in unless said otherwise.
    pub fn init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }

    /// How the bias starts: uniform in ±1/√fan-in unless said otherwise.
    pub fn bias_init(mut self, init: Init) -> Self {
        self.bias_init = init;
        self
    }

    /// The layer, its parameters drawn from `rng`: first the weight, then the bias.
    ///
    /// # Errors
    /// [`Error::Argument`] for channels that the groups do not divide, a stride, dilation or kernel of 0, or from an initialiser;
    /// [`Error::Overflow`] if the weight does not fit in memory.
    pub fn build(self, rng: &mut (impl Rng + ?Sized)) -> Result<Conv2d<T>> {
        let Conv2dBuilder { inputs, outputs, kernel: [kh, kw], params, .. } = self;
        let groups = params.groups;
        if groups == 0 || !inputs.is_multiple_of(groups) || !outputs.is_multiple_of(groups) {
            return Err(Error::argument(
                "Conv2d",
                format!(
                    "groups={groups} must divide the {inputs} inputs and the {outputs} outputs"
                ),
            ));
        }
        for (name, pair) in
            [("kernel", [kh, kw]), ("stride", params.stride), ("dilation", params.dilation)]
        {
            if pair.contains(&0) {
                return Err(Error::argument(
                    "Conv2d",
                    format!("{name} {pair:?} must be at least 1 on each axis"),
                ));
            }
        }
        let shape = [outputs, inputs / groups, kh, kw];
        let fans = Fans::of(&shape)?;
        let weight = self.init.tensor_with(shape, fans, rng)?;
        let bias = match self.bias {
            true => Some(Param::new(self.bias_init.tensor_with([outputs], fans, rng)?)),
            false => None,
        };
        Ok(Conv2d { weight: Param::new(weight), bias, params })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;

    #[test]
    fn empty_and_single() {
        let mut rng = crate::rng(0);
        let layer: Conv2d = Conv2d::new(2, 3, 3).padding(1).build(&mut rng).unwrap();
        let y = layer.forward(&Tensor::zeros([0, 2, 4, 4]).unwrap()).unwrap();
        assert_eq!(y.shape(), [0, 3, 4, 4]);
        let one = Conv2d::<f64>::new(1, 1, 1).init(Init::Constant(3.0)).bias_init(Init::Ones);
        let y = one.build(&mut rng).unwrap().forward(&Tensor::from([[[2.0]]])).unwrap();
        assert_eq!(y.to_vec(), [7.0]);
    }

    #[test]
    fn parameters_have_names_bounds_and_gradients() {
        let layer: Conv2d = Conv2d::new(4, 6, (3, 2)).groups(2).build(&mut crate::rng(3)).unwrap();
        assert_eq!(layer.param_paths(), ["weight", "bias"]);
        assert_eq!(layer.num_params(), 6 * 2 * 6 + 6);
        let bound = 1.0 / 12f32.sqrt();
        assert!(
            layer
                .weight
                .iter()
                .chain(layer.bias.as_ref().unwrap().iter())
                .all(|v| v.abs() <= bound)
        );
        let tape = Tape::new(0);
        let net = tape.watch(&layer);
        let x = Tensor::ones([2, 4, 5, 5]).unwrap();
        let y = net.forward(&x).unwrap();
        let ones = Tensor::ones(y.shape()).unwrap();
        let grads = y.backward_with(&ones).unwrap();
        assert_eq!(grads.get(layer.bias.as_ref().unwrap()).unwrap().to_vec(), [24.0; 6]);
        assert_eq!(grads.get(&layer.weight).unwrap().to_vec(), [24.0; 72]);
    }

    #[test]
    fn what_is_refused() {
        let said = |b: Conv2dBuilder| b.build(&mut crate::rng(0)).unwrap_err().to_string();
        assert_eq!(
            said(Conv2d::new(3, 4, 3).groups(2)),
            "Conv2d: groups=2 must divide the 3 inputs and the 4 outputs"
        );
        assert_eq!(
            said(Conv2d::new(3, 4, 0)),
            "Conv2d: kernel [0, 0] must be at least 1 on each axis"
        );
        assert_eq!(
            said(Conv2d::new(3, 4, 1).stride((1, 0))),
            "Conv2d: stride [1, 0] must be at least 1 on each axis"
        );
    }
}
