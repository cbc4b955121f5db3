//! Layers one after the other.

use std::any::{Any, type_name};
use std::fmt;
use std::ops::Index;

use super::module::{Visitor, VisitorMut};
use super::{Layer, Module};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::tensor::Tensor;

/// A layer in a box that can be cloned. Every [`Layer`] that is `Clone` is one: there is nothing to implement.
pub trait BoxedLayer<T: Float>: Layer<T> + Any + Send + Sync {
    #[doc(hidden)]
    fn clone_box(&self) -> Box<dyn BoxedLayer<T>>;
    #[doc(hidden)]
    fn type_name(&self) -> &'static str;
}

impl<T: Float, L: Layer<T> + Clone + Send + Sync + 'static> BoxedLayer<T> for L {
    fn clone_box(&self) -> Box<dyn BoxedLayer<T>> {
        Box::new(self.clone())
    }
    fn type_name(&self) -> &'static str {
        type_name::<L>()
    }
}

/// Layers in order: the output of each is the input of the next. Without layers it is the identity.
///
/// The layers may be of any types, your own included. Parameters have the layer's number in their path.
///
/// ```
/// use gradus::prelude::*;
/// let mut rng = gradus::rng(0);
/// let model: Sequential = Sequential::new()
///     .add_fn(|x| x.flatten(1..))
///     .add(Dense::new(784, 32).build(&mut rng)?)
///     .add(Dense::new(32, 10).build(&mut rng)?);
/// assert_eq!(model.forward(&Tensor::zeros([5, 1, 28, 28])?)?.shape(), [5, 10]);
/// assert_eq!(model.param_paths(), ["1.weight", "1.bias", "2.weight", "2.bias"]);
/// assert_eq!(model.get::<Dense>(2).unwrap().outputs(), 10);
/// # Ok::<(), Error>(())
/// ```
pub struct Sequential<T: Float = f32> {
    layers: Vec<Box<dyn BoxedLayer<T>>>,
}

impl<T: Float> Sequential<T> {
    /// No layers yet.
    pub fn new() -> Self {
        Sequential { layers: Vec::new() }
    }

    /// With one more layer at the end.
    #[must_use = "add returns the longer model; push changes it in place"]
    #[allow(clippy::should_implement_trait)] // It adds a layer, not a number.
    pub fn add(mut self, layer: impl BoxedLayer<T>) -> Self {
        self.push(layer);
        self
    }

    /// With a function as one more layer at the end. It has no parameters: what it captures is not trained.
    #[must_use = "add_fn returns the longer model; push changes it in place"]
    pub fn add_fn(
        self,
        f: impl Fn(&Tensor<T>) -> Result<Tensor<T>> + Clone + Send + Sync + 'static,
    ) -> Self {
        self.add(Function(f))
    }

    /// Appends a layer.
    pub fn push(&mut self, layer: impl BoxedLayer<T>) {
        self.layers.push(Box::new(layer));
    }

    /// The number of layers.
    pub fn len(&self) -> usize {
        self.layers.len()
    }

    /// Whether there are no layers.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// The layers in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &dyn BoxedLayer<T>> {
        self.layers.iter().map(|l| &**l)
    }

    /// Layer `i`, if there is one and it is an `L`.
    pub fn get<L: Layer<T> + 'static>(&self, i: usize) -> Option<&L> {
        let layer: &dyn Any = &**self.layers.get(i)?;
        layer.downcast_ref()
    }

    /// Layer `i`, for changing, if there is one and it is an `L`.
    pub fn get_mut<L: Layer<T> + 'static>(&mut self, i: usize) -> Option<&mut L> {
        let layer: &mut dyn Any = &mut **self.layers.get_mut(i)?;
        layer.downcast_mut()
    }
}

impl<T: Float> Default for Sequential<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Float> Clone for Sequential<T> {
    fn clone(&self) -> Self {
        // Through the box: the box itself is a layer too, and would be boxed again.
        Sequential { layers: self.layers.iter().map(|l| (**l).clone_box()).collect() }
    }
}

impl<T: Float> Module for Sequential<T> {
    fn visit(&self, v: &mut Visitor<'_>) {
        self.layers.iter().enumerate().for_each(|(i, l)| v.field(i, &**l));
    }
    fn visit_mut(&mut self, v: &mut VisitorMut<'_>) {
        self.layers.iter_mut().enumerate().for_each(|(i, l)| v.field(i, &mut **l));
    }
}

impl<T: Float> Layer<T> for Sequential<T> {
    /// # Errors
    /// That of the first layer that refuses its input; the message ends with the layer's number.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let mut x = x.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x).map_err(|e| at_layer(e, i))?;
        }
        Ok(x)
    }
}

/// The error with the number of the layer that it comes from, unless the layer knows its path.
fn at_layer(mut e: Error, i: usize) -> Error {
    e.add_place(format_args!("at layer {i} of a Sequential"));
    e
}

/// Layer `i`; panics if there is none.
impl<T: Float> Index<usize> for Sequential<T> {
    type Output = dyn BoxedLayer<T>;
    #[track_caller]
    fn index(&self, i: usize) -> &Self::Output {
        match self.layers.get(i) {
            Some(layer) => &**layer,
            None => panic!("Sequential: no layer {i}, there are {}", self.len()),
        }
    }
}

impl<T: Float> fmt::Debug for Sequential<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.layers.iter().map(|l| {
            // `gradus::nn::dense::Dense<f32>`: without the path.
            let name = (**l).type_name();
            let generics = name.find('<').unwrap_or(name.len());
            name[..generics].rsplit("::").next().unwrap_or(name)
        });
        f.write_str("Sequential")?;
        f.debug_map().entries(names.map(std::borrow::Cow::from).enumerate()).finish()
    }
}

/// A function as a layer.
#[derive(Clone)]
struct Function<F>(F);

impl<F> Module for Function<F> {
    fn visit(&self, _: &mut Visitor<'_>) {}
    fn visit_mut(&mut self, _: &mut VisitorMut<'_>) {}
}

impl<T: Float, F: Fn(&Tensor<T>) -> Result<Tensor<T>>> Layer<T> for Function<F> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        (self.0)(x)
    }
}

impl<T: Float, L: Layer<T> + ?Sized> Layer<T> for Box<L> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        (**self).forward(x)
    }
}

/// The layer, or the identity.
impl<T: Float, L: Layer<T>> Layer<T> for Option<L> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        match self {
            Some(layer) => layer.forward(x),
            None => Ok(x.clone()),
        }
    }
}

/// One after the other.
impl<T: Float, L: Layer<T>> Layer<T> for Vec<L> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        self.iter().try_fold(x.clone(), |x, layer| layer.forward(&x))
    }
}

/// One after the other.
impl<T: Float, L: Layer<T>, const N: usize> Layer<T> for [L; N] {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        self.iter().try_fold(x.clone(), |x, layer| layer.forward(&x))
    }
}

macro_rules! tuple_layer {
    ($($l:ident $i:tt),*) => {
        /// One after the other.
        impl<T: Float, $($l: Layer<T>),*> Layer<T> for ($($l,)*) {
            fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
                let x = x.clone();
                $(let x = self.$i.forward(&x)?;)*
                Ok(x)
            }
        }
    };
}
tuple_layer!(A 0);
tuple_layer!(A 0, B 1);
tuple_layer!(A 0, B 1, C 2);
tuple_layer!(A 0, B 1, C 2, D 3);
tuple_layer!(A 0, B 1, C 2, D 3, E 4);
tuple_layer!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple_layer!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple_layer!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Dense, Flatten, Mode};
    use crate::{Param, Tape};

    /// A layer as a user writes one.
    #[derive(Clone, crate::Module)]
    struct Shift {
        by: Param<f64>,
        mode: Mode,
    }

    impl Layer<f64> for Shift {
        fn forward(&self, x: &Tensor<f64>) -> Result<Tensor<f64>> {
            let w = Tensor::eye(1)?;
            x.linear(&w, Some(&self.by))
        }
    }

    fn model() -> Sequential<f64> {
        let dense = Dense::new(3, 1).build(&mut crate::rng(0)).unwrap();
        let shift = Shift { by: Param::new(Tensor::from([1.0])), mode: Mode::new() };
        Sequential::new().add(Flatten).add(dense).add(shift)
    }

    #[test]
    fn without_layers_the_identity() {
        let none: Sequential = Sequential::new();
        let x = Tensor::zeros([0, 2]).unwrap();
        assert_eq!(none.forward(&x).unwrap(), x);
        assert!(none.is_empty() && none.param_paths().is_empty());
        assert_eq!(model().forward(&Tensor::zeros([0, 3]).unwrap()).unwrap().shape(), [0, 1]);
    }

    #[test]
    fn layers_of_any_type_by_number() {
        let m = model();
        assert_eq!(m.param_paths(), ["1.weight", "1.bias", "2.by"]);
        assert_eq!(m.len(), 3);
        assert!(m.get::<Dense<f64>>(1).is_some() && m.get::<Dense<f64>>(0).is_none());
        assert!(m.get::<Flatten>(9).is_none());
        let x = Tensor::ones([2, 3]).unwrap();
        let by_hand = m[2].forward(&m[1].forward(&x).unwrap()).unwrap();
        assert_eq!(m.forward(&x).unwrap(), by_hand);
        assert_eq!(format!("{m:?}"), r#"Sequential{0: "Flatten", 1: "Dense", 2: "Shift"}"#);
    }

    #[test]
    fn a_clone_keeps_identities_and_a_watched_copy_trains() {
        let m = model();
        let again = m.clone();
        assert_eq!(again.get::<Shift>(2).unwrap().by.id(), m.get::<Shift>(2).unwrap().by.id());
        let tape = Tape::new(0);
        let net = tape.watch(&m);
        assert!(net.get::<Shift>(2).unwrap().mode.is_training());
        assert!(!m.get::<Shift>(2).unwrap().mode.is_training());
        let grads = net.forward(&Tensor::ones([1, 3]).unwrap()).unwrap().backward().unwrap();
        let dense: &Dense<f64> = m.get(1).unwrap();
        assert_eq!(grads.get(&dense.weight).unwrap().to_vec(), [1.0; 3]);
        assert_eq!(grads.get(&m.get::<Shift>(2).unwrap().by).unwrap().to_vec(), [1.0]);
    }

    #[test]
    fn a_change_of_a_clone_stays_there() {
        let m = model();
        let mut other = m.clone();
        other.get_mut::<Shift>(2).unwrap().by.set(Tensor::from([5.0]));
        assert_eq!(m.get::<Shift>(2).unwrap().by.to_vec(), [1.0]);
    }

    #[test]
    fn an_error_names_the_layer() {
        let e = model().forward(&Tensor::zeros([2, 4]).unwrap()).unwrap_err();
        assert_eq!(
            e.to_string(),
            "Dense: input [.., 4] does not fit: expected a last axis of 3 (weight [1, 3]) [at layer 1 of a Sequential]"
        );
    }

    #[test]
    #[should_panic(expected = "Sequential: no layer 3, there are 3")]
    fn an_index_too_large() {
        let _ = &model()[3];
    }

    #[test]
    fn tuples_vectors_options_and_boxes() {
        let mut rng = crate::rng(1);
        let mut dense = |a, b| Dense::<f64>::new(a, b).build(&mut rng).unwrap();
        let x = Tensor::ones([2, 3]).unwrap();
        let pair = (dense(3, 4), Some(dense(4, 2)));
        let want = pair.1.as_ref().unwrap().forward(&pair.0.forward(&x).unwrap()).unwrap();
        assert_eq!(pair.forward(&x).unwrap(), want);
        assert_eq!((pair.0, None::<Dense<f64>>).forward(&x).unwrap().shape(), [2, 4]);
        assert_eq!(vec![dense(3, 4), dense(4, 5)].forward(&x).unwrap().shape(), [2, 5]);
        assert_eq!([dense(3, 4), dense(4, 6)].forward(&x).unwrap().shape(), [2, 6]);
        let boxed: Box<dyn Layer<f64>> = Box::new(dense(3, 7));
        assert_eq!(boxed.forward(&x).unwrap().shape(), [2, 7]);
    }
}
