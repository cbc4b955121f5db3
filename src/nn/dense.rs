//! The fully connected layer.

use std::marker::PhantomData;

use rand::Rng;

use super::init::{Fans, Init};
use super::{Layer, Param};
use crate::Module;
use crate::error::Result;
use crate::float::Float;
use crate::ops::linear;
use crate::tensor::Tensor;

/// A fully connected layer: y = x·Wᵀ + b over the last axis, \[.., inputs\] to \[.., outputs\].
///
/// ```
/// use gradus::prelude::*;
/// let layer: Dense = Dense::new(784, 128).build(&mut gradus::rng(0))?;
/// let y = layer.forward(&Tensor::ones([32, 784])?)?;
/// assert_eq!(y.shape(), [32, 128]);
/// assert_eq!(layer.num_params(), 784 * 128 + 128);
/// # Ok::<(), Error>(())
/// ```
#[derive(Module, Clone, Debug)]
pub struct Dense<T: Float = f32> {
    /// W: \[outputs, inputs\].
    pub weight: Param<T>,
    /// b: \[outputs\].
    pub bias: Option<Param<T>>,
}

impl<T: Float> Dense<T> {
    /// Starts a layer; [`build`](DenseBuilder::build) draws its parameters.
    #[allow(clippy::new_ret_no_self)] // A layer cannot be made before the generator is there.
    pub fn new(inputs: usize, outputs: usize) -> DenseBuilder<T> {
        DenseBuilder {
            inputs,
            outputs,
            bias: true,
            init: Init::Default,
            bias_init: Init::Default,
            element: PhantomData,
        }
    }

    /// The size of the last axis that it takes.
    pub fn inputs(&self) -> usize {
        self.weight.shape()[1]
    }

    /// The size of the last axis that it gives.
    pub fn outputs(&self) -> usize {
        self.weight.shape()[0]
    }
}

impl<T: Float> Layer<T> for Dense<T> {
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the last axis of `x` is not `inputs`.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let run = || linear::linear("Dense", x, &self.weight, self.bias.as_deref());
        self.weight.within(run)
    }
}

/// What a [`Dense`] will be.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::Init;
/// let layer = Dense::<f64>::new(4, 2).bias(false).init(Init::orthogonal()).build(&mut gradus::rng(0))?;
/// assert_eq!(layer.param_paths(), ["weight"]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "call build(rng) to get the layer"]
pub struct DenseBuilder<T: Float = f32> {
    inputs: usize,
    outputs: usize,
    bias: bool,
    init: Init,
    bias_init: Init,
    element: PhantomData<T>,
}

impl<T: Float> DenseBuilder<T> {
    /// Whether there is a bias; there is unless said otherwise.
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// How the weight starts: uniform in ±1/√inputs unless said otherwise.
    pub fn init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }

    /// How the bias starts: uniform in ±1/√inputs unless said otherwise.
    pub fn bias_init(mut self, init: Init) -> Self {
        self.bias_init = init;
        self
    }

    /// The layer, its parameters drawn from `rng`: first the weight, then the bias.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) from an initialiser, [`Error::Overflow`](crate::Error::Overflow) if the weight does not
    /// fit in memory.
    pub fn build(self, rng: &mut (impl Rng + ?Sized)) -> Result<Dense<T>> {
        let fans = Fans { fan_in: self.inputs, fan_out: self.outputs };
        let weight = self.init.tensor_with([self.outputs, self.inputs], fans, rng)?;
        let bias = match self.bias {
            true => Some(Param::new(self.bias_init.tensor_with([self.outputs], fans, rng)?)),
            false => None,
        };
        Ok(Dense { weight: Param::new(weight), bias })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;

    #[test]
    fn empty_and_single() {
        let mut rng = crate::rng(0);
        let none: Dense = Dense::new(0, 2).bias_init(Init::Ones).build(&mut rng).unwrap();
        assert_eq!(none.forward(&Tensor::zeros([3, 0]).unwrap()).unwrap().to_vec(), [1.0; 6]);
        let empty: Dense = Dense::new(2, 0).build(&mut rng).unwrap();
        assert_eq!(empty.forward(&Tensor::zeros([3, 2]).unwrap()).unwrap().shape(), [3, 0]);
        let layer: Dense = Dense::new(2, 3).build(&mut rng).unwrap();
        assert_eq!(layer.forward(&Tensor::zeros([0, 2]).unwrap()).unwrap().shape(), [0, 3]);
        assert_eq!(layer.forward(&Tensor::zeros([2]).unwrap()).unwrap().shape(), [3]);
        let one = Dense::<f64>::new(1, 1).init(Init::Constant(3.0)).bias_init(Init::Ones);
        let y = one.build(&mut rng).unwrap().forward(&Tensor::from([[2.0]])).unwrap();
        assert_eq!(y.to_vec(), [7.0]);
    }

    #[test]
    fn shapes_and_the_same_start_for_the_same_seed() {
        let make = || Dense::<f32>::new(5, 3).build(&mut crate::rng(4)).unwrap();
        let (a, b) = (make(), make());
        assert_eq!((a.inputs(), a.outputs()), (5, 3));
        assert_eq!(
            (a.weight.tensor(), &**a.bias.as_ref().unwrap()),
            (b.weight.tensor(), &**b.bias.as_ref().unwrap())
        );
        assert!(a.weight.iter().all(|v| v.abs() <= 1.0 / 5f32.sqrt()));
    }

    #[test]
    fn the_watched_copy_learns() {
        let model = Dense::<f64>::new(2, 1).build(&mut crate::rng(0)).unwrap();
        let tape = Tape::new(0);
        let y = tape.watch(&model).forward(&Tensor::from([[1.0, 2.0], [3.0, 4.0]])).unwrap();
        let grads = y.backward_with(&Tensor::from([[1.0], [10.0]])).unwrap();
        assert_eq!(grads.get(&model.weight).unwrap().to_vec(), [31.0, 42.0]);
        assert_eq!(grads.get(model.bias.as_ref().unwrap()).unwrap().to_vec(), [11.0]);
    }

    #[test]
    fn what_does_not_fit() {
        let layer: Dense = Dense::new(784, 128).build(&mut crate::rng(0)).unwrap();
        let e = layer.forward(&Tensor::zeros([2, 7]).unwrap()).unwrap_err();
        assert_eq!(
            e.to_string(),
            "Dense: input [.., 7] does not fit: expected a last axis of 784 (weight [128, 784])"
        );
        let e = Dense::<f32>::new(usize::MAX, 2).build(&mut crate::rng(0)).unwrap_err();
        assert!(matches!(e, crate::Error::Overflow { .. }));
    }
}
