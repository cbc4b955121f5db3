//! Convolutions as layers.

use std::marker::PhantomData;

use rand::Rng;

use super::{NAMES, check_groups, check_windows};
use crate::Module;
use crate::error::Result;
use crate::float::Float;
use crate::nn::init::{Fans, Init};
use crate::nn::{Layer, Param, Visitor, VisitorMut};
use crate::ops::conv::conv;
use crate::ops::{ConvParams, PadMode, Padding, Sizes};
use crate::tensor::Tensor;

/// Convolution over `D` axes: \[batch, inputs, sizes …\] to \[batch, outputs, sizes' …\], with or without a batch; see
/// [`Tensor::conv2d`].
///
/// ```
/// use gradus::prelude::*;
/// let layer: Conv2d = Conv2d::new(1, 32, 3).build(&mut gradus::rng(0))?;
/// let y = layer.forward(&Tensor::ones([8, 1, 28, 28])?)?;
/// assert_eq!(y.shape(), [8, 32, 26, 26]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Conv<const D: usize, T: Float = f32> {
    /// \[outputs, inputs / groups, kernel sizes …\].
    pub weight: Param<T>,
    /// \[outputs\].
    pub bias: Option<Param<T>>,
    params: ConvParams<D>,
    mode: PadMode,
    relu: bool,
}

/// Convolution along a length: \[batch, inputs, length\] to \[batch, outputs, length'\]; see [`Tensor::conv1d`].
pub type Conv1d<T = f32> = Conv<1, T>;
/// Convolution over an image: \[batch, inputs, height, width\] to \[batch, outputs, height', width'\]; see [`Tensor::conv2d`].
pub type Conv2d<T = f32> = Conv<2, T>;
/// Convolution over a volume: \[batch, inputs, depth, height, width\] to \[batch, outputs, depth', height', width'\]; see [`Tensor::conv3d`].
pub type Conv3d<T = f32> = Conv<3, T>;

impl<const D: usize, T: Float> Module for Conv<D, T> {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.field("weight", &self.weight);
        v.field("bias", &self.bias);
    }
    fn visit_mut(&mut self, v: &mut VisitorMut<'_>) {
        v.field("weight", &mut self.weight);
        v.field("bias", &mut self.bias);
    }
}

impl<const D: usize, T: Float> Conv<D, T> {
    /// The names of the layer and of its operation in errors.
    const NAME: [&str; 2] = NAMES[if D < 4 { D } else { 0 }];

    /// Starts a layer with a kernel of this size (a number, or one for each axis); [`build`](ConvBuilder::build) draws its parameters.
    #[allow(clippy::new_ret_no_self)] // A layer cannot be made before the generator is there.
    pub fn new(inputs: usize, outputs: usize, kernel: impl Into<Sizes<D>>) -> ConvBuilder<D, T> {
        ConvBuilder {
            inputs,
            outputs,
            kernel: kernel.into().0,
            params: ConvParams::new(),
            mode: PadMode::Zeros,
            bias: true,
            relu: false,
            init: Init::Default,
            bias_init: Init::Default,
            element: PhantomData,
        }
    }

    /// Stride, padding, dilation and groups.
    pub fn params(&self) -> ConvParams<D> {
        self.params
    }

    /// What the padding consists of.
    pub fn padding_mode(&self) -> PadMode {
        self.mode
    }

    fn run(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let bias = self.bias.as_deref();
        let params = &self.params;
        let lead = x.rank().checked_sub(D).filter(|lead| (1..=2).contains(lead));
        let kernel = self.weight.shape().get(2..).filter(|k| k.len() == D && !k.contains(&0));
        let (PadMode::Reflect | PadMode::Replicate | PadMode::Circular, Some(lead), Some(kernel)) =
            (self.mode, lead, kernel)
        else {
            return conv(Self::NAME[1], x, &self.weight, bias, params, self.relu);
        };
        let sides =
            params.padding.sides(&x.shape()[lead..], kernel, &params.stride, &params.dilation);
        let side = |n: usize| isize::try_from(n).unwrap_or(isize::MAX);
        let mut pads = vec![(0, 0); lead];
        pads.extend(sides.map(|[a, b]| (side(a), side(b))));
        let x = x.pad_mode(&pads, self.mode)?;
        let params = params.padding(Padding::Valid);
        conv(Self::NAME[1], &x, &self.weight, bias, &params, self.relu)
    }
}

impl<const D: usize, T: Float> Layer<T> for Conv<D, T> {
    /// # Errors
    /// As [`Tensor::conv2d`], and as [`Tensor::pad_mode`] where the padding is not of zeros.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        self.weight.within(|| self.run(x))
    }
}

/// What a [`Conv`] will be.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::{PadMode, Padding};
/// let layer: Conv2d =
///     Conv2d::new(16, 32, (3, 5)).stride(2).padding(Padding::Same).groups(4).bias(false).build(&mut gradus::rng(0))?;
/// assert_eq!(layer.weight.shape(), [32, 4, 3, 5]);
/// let around: Conv2d = Conv2d::new(3, 8, 3).padding(1).padding_mode(PadMode::Circular).build(&mut gradus::rng(0))?;
/// assert_eq!(around.forward(&Tensor::ones([1, 3, 6, 6])?)?.shape(), [1, 8, 6, 6]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "call build(rng) to get the layer"]
pub struct ConvBuilder<const D: usize, T: Float = f32> {
    inputs: usize,
    outputs: usize,
    kernel: [usize; D],
    params: ConvParams<D>,
    mode: PadMode,
    bias: bool,
    relu: bool,
    init: Init,
    bias_init: Init,
    element: PhantomData<T>,
}

/// What a [`Conv1d`] will be.
pub type Conv1dBuilder<T = f32> = ConvBuilder<1, T>;
/// What a [`Conv2d`] will be.
pub type Conv2dBuilder<T = f32> = ConvBuilder<2, T>;
/// What a [`Conv3d`] will be.
pub type Conv3dBuilder<T = f32> = ConvBuilder<3, T>;

impl<const D: usize, T: Float> ConvBuilder<D, T> {
    /// The step between output pixels, a number or one for each axis; 1 unless said otherwise.
    pub fn stride(mut self, stride: impl Into<Sizes<D>>) -> Self {
        self.params = self.params.stride(stride);
        self
    }

    /// What is added around the input: a number, one for each axis, or [`Padding::Same`]; none unless said otherwise.
    pub fn padding(mut self, padding: impl Into<Padding<D>>) -> Self {
        self.params = self.params.padding(padding);
        self
    }

    /// What the padding consists of; zeros unless said otherwise.
    pub fn padding_mode(mut self, mode: PadMode) -> Self {
        self.mode = mode;
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

    /// Whether ReLU follows: max(0, y); it does not unless said otherwise. The same numbers as of a layer of its own, and where nothing is
    /// recorded without another pass over memory.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::{Conv1d, Init};
    /// let layer: Conv1d = Conv1d::new(1, 1, 1).init(Init::Ones).bias(false).relu(true).build(&mut gradus::rng(0))?;
    /// assert_eq!(layer.forward(&Tensor::from([[[1.0, -2.0]]]))?.to_vec(), [1.0, 0.0]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn relu(mut self, relu: bool) -> Self {
        self.relu = relu;
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
    /// [`Error::Argument`](crate::Error::Argument) for channels that the groups do not divide, a stride, dilation or kernel of 0, or from an
    /// initialiser; [`Error::Overflow`](crate::Error::Overflow) if the weight does not fit in memory.
    pub fn build(self, rng: &mut (impl Rng + ?Sized)) -> Result<Conv<D, T>> {
        let ConvBuilder { inputs, outputs, kernel, params, .. } = self;
        let [name, _] = Conv::<D, T>::NAME;
        check_groups(name, params.groups, inputs, outputs)?;
        check_windows(name, &kernel, &params.stride, &params.dilation)?;
        let shape: Vec<usize> =
            [outputs, inputs / params.groups].into_iter().chain(kernel).collect();
        let fans = Fans::of(&shape)?;
        let weight = self.init.tensor_with(&shape[..], fans, rng)?;
        let bias = match self.bias {
            true => Some(Param::new(self.bias_init.tensor_with([outputs], fans, rng)?)),
            false => None,
        };
        Ok(Conv { weight: Param::new(weight), bias, params, mode: self.mode, relu: self.relu })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::nn::Conv2dBuilder;

    #[test]
    fn relu_is_that_of_a_layer_of_its_own() {
        let mut rng = crate::rng(3);
        let x = Tensor::<f64>::uniform([2, 3, 6, 5], -1.0, 1.0, &mut rng).unwrap();
        let plain = Conv2d::<f64>::new(3, 4, 3).padding(1).build(&mut rng).unwrap();
        let fused = Conv { relu: true, ..plain.clone() };
        assert_eq!(fused.forward(&x).unwrap().to_vec(), plain.forward(&x).unwrap().relu().to_vec());
        let trained = |net: &Conv2d<f64>, apart: bool| {
            let y = Tape::new(0).watch(net).forward(&x).unwrap();
            let y = if apart { y.relu() } else { y };
            let g = y.square().sum().backward().unwrap();
            (y.to_vec(), g.get(&net.weight).unwrap().to_vec())
        };
        assert_eq!(trained(&fused, false), trained(&plain, true));
    }

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

    #[test]
    fn one_and_three_axes_and_other_paddings() {
        let mut rng = crate::rng(1);
        let line: Conv<1, f64> = Conv::new(2, 3, 3).padding(1).build(&mut rng).unwrap();
        assert_eq!(line.weight.shape(), [3, 2, 3]);
        assert_eq!(line.forward(&Tensor::ones([2, 2, 7]).unwrap()).unwrap().shape(), [2, 3, 7]);
        let volume: Conv<3, f64> = Conv::new(2, 4, (1, 2, 3)).stride(2).build(&mut rng).unwrap();
        let x = Tensor::ones([2, 5, 5, 5]).unwrap();
        assert_eq!(volume.forward(&x).unwrap().shape(), [4, 3, 2, 2]);
        // A mean over three neighbours, with what each mode puts beyond the edges.
        let x = Tensor::from([[1.0, 2.0, 4.0, 8.0]]);
        for (mode, want) in [
            (PadMode::Zeros, [3.0, 7.0, 14.0, 12.0]),
            (PadMode::Reflect, [5.0, 7.0, 14.0, 16.0]),
            (PadMode::Replicate, [4.0, 7.0, 14.0, 20.0]),
            (PadMode::Circular, [11.0, 7.0, 14.0, 13.0]),
        ] {
            for padding in [1.into(), Padding::Same] {
                let layer = Conv::<1, f64>::new(1, 1, 3).init(Init::Ones).bias(false);
                let layer = layer.padding(padding).padding_mode(mode).build(&mut rng).unwrap();
                assert_eq!(layer.forward(&x).unwrap().to_vec(), want);
            }
        }
        let layer: Conv1d =
            Conv1d::new(1, 1, 3).padding(4).padding_mode(PadMode::Reflect).build(&mut rng).unwrap();
        let net = Tape::new(0).watch(&Two { first: layer });
        let said = |x: Tensor| net.first.forward(&x).unwrap_err().to_string();
        assert_eq!(
            said(Tensor::ones([1, 4]).unwrap()),
            "pad_mode: axis 1 of [1, 4] has size 4, but the padding is (4, 4): the padding must be smaller than the size to reflect [at first]"
        );
        assert_eq!(
            said(Tensor::ones([4]).unwrap()),
            "conv1d: the input has shape [4], but must be [batch, channels, length] or [channels, length] [at first]"
        );
    }

    #[derive(Module, Clone)]
    struct Two {
        first: Conv1d,
    }
}
