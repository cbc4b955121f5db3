//! What a model is made of: parameters, buffers and modes.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

use crate::autograd::{Gradients, ParamId, TapeCore};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::profile;
use crate::tensor::Tensor;

/// A tensor that is trained. It derefs to its [`Tensor`].
///
/// It has an identity that clones share, so the gradients of a watched copy find their parameter, and a parameter that
/// stands twice in one model (tied weights) is one leaf with one gradient and one update.
///
/// ```
/// use gradus::prelude::*;
/// let w = Param::new(Tensor::from([1.0, 2.0]));
/// assert_eq!(w.shape(), [2]);
/// assert_eq!(w.id(), w.clone().id());
/// assert_ne!(w.id(), Param::new(Tensor::from([1.0, 2.0])).id());
/// ```
#[derive(Clone)]
pub struct Param<T: Float = f32> {
    id: ParamId,
    value: Tensor<T>,
    path: Arc<Path>,
}

/// Where a parameter stands, as far as walks have told.
#[derive(Default)]
struct Path {
    text: RwLock<Box<str>>,
    /// The length of the text, so that the many walks that find nothing new need not lock.
    len: AtomicUsize,
}

impl Path {
    fn read(&self) -> Option<String> {
        let text = self.text.read().unwrap_or_else(PoisonError::into_inner);
        (!text.is_empty()).then(|| text.to_string())
    }

    /// Takes a path if it is longer than the one that is there.
    fn improve(&self, path: &str) {
        if path.len() <= self.len.load(Relaxed) {
            return;
        }
        let mut text = self.text.write().unwrap_or_else(PoisonError::into_inner);
        if path.len() > text.len() {
            *text = path.into();
            self.len.store(path.len(), Relaxed);
        }
    }
}

impl<T: Float> Param<T> {
    /// A new parameter with these values.
    pub fn new(value: Tensor<T>) -> Self {
        Param { id: ParamId::fresh(), value: value.detach(), path: Arc::default() }
    }

    /// A parameter whose values are computed from something else and stay recorded: weights that another network makes, or that a step of
    /// learning has changed (meta-learning). Gradients flow on to what they were computed from; the parameter itself is none of an
    /// optimizer's.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let tape = Tape::new(0);
    /// let w = tape.leaf(&Tensor::from([[2.0]]));
    /// let layer = Dense { weight: Param::computed(&w * 3.0), bias: None };
    /// let grads = layer.forward(&Tensor::from([[5.0]]))?.sum().backward()?;
    /// assert_eq!(grads.wrt(&w).unwrap().to_vec(), [15.0]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn computed(value: Tensor<T>) -> Self {
        Param { value: value.clone(), ..Param::new(value) }
    }

    /// Where it stands in its model, for example `"conv1.weight"`: the longest path under which a walk met it (watching, saving, a summary);
    /// `None` before any.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let model: (Dense, Dense) = {
    ///     let mut rng = gradus::rng(0);
    ///     (Dense::new(2, 2).build(&mut rng)?, Dense::new(2, 1).build(&mut rng)?)
    /// };
    /// let net = Tape::new(0).watch(&model);
    /// assert_eq!(net.1.weight.path().as_deref(), Some("1.weight"));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn path(&self) -> Option<String> {
        self.path.read()
    }

    /// Remembers where a walk met it. The longest path is the one from the root: a part of a model may be walked by itself.
    pub(super) fn met_at(&self, path: &str) {
        self.path.improve(path);
    }

    /// Tells a summary what the layer of this parameter gives, where that is more than one operation.
    pub(super) fn gives(&self, y: &Tensor<T>) {
        if let Some(tape) = self.value.tape() {
            tape.note(TapeCore::id_of(self.value.link()), y.shape());
        }
    }

    /// The error with the place in the model of the layer that this parameter belongs to, for layers of your own: say it of every error
    /// that a wrong input causes.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let model: (Dense, Dense) = {
    ///     let mut rng = gradus::rng(0);
    ///     (Dense::new(2, 3).build(&mut rng)?, Dense::new(4, 1).build(&mut rng)?)
    /// };
    /// let net = Tape::new(0).watch(&model);
    /// let e = net.forward(&Tensor::ones([5, 2])?).unwrap_err();
    /// assert_eq!(e.to_string(), "Dense: input [.., 3] does not fit: expected a last axis of 4 (weight [1, 4]) [at 1]");
    /// # Ok::<(), Error>(())
    /// ```
    pub fn locate(&self, mut e: Error) -> Error {
        if let Some((layer, _)) = self.path().as_deref().and_then(|p| p.rsplit_once('.')) {
            e.add_place(format_args!("at {layer}"));
        }
        e
    }

    /// Runs what the layer of this parameter computes, for layers of your own: an error says where in the model it came from
    /// ([`locate`](Self::locate)), and a [profile](crate::profile) counts the operations for this layer.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// #[derive(Module, Clone)]
    /// struct Scale { factor: Param }
    /// impl Layer for Scale {
    ///     fn forward(&self, x: &Tensor) -> Result<Tensor> {
    ///         self.factor.within(|| x.try_mul(&self.factor))
    ///     }
    /// }
    /// let model = (Scale { factor: Param::new(Tensor::from([2.0, 3.0])) },);
    /// let net = Tape::new(0).watch(&model);
    /// let (_, report) = gradus::profile::record(|| net.forward(&Tensor::ones([5, 2])?))?;
    /// assert_eq!(report.layers()[0].path, "0");
    /// let e = net.forward(&Tensor::ones([5, 3])?).unwrap_err();
    /// assert!(e.to_string().ends_with("[at 0]"));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of `run`.
    pub fn within<R>(&self, run: impl FnOnce() -> Result<R>) -> Result<R> {
        let _layer = self.enter_layer();
        run().map_err(|e| self.locate(e))
    }

    /// For a profile: what is computed next belongs to the layer of this parameter.
    pub(crate) fn enter_layer(&self) -> profile::Scope {
        profile::enter(|| match self.path().as_deref() {
            None => "(unnamed)".into(),
            Some(path) => match path.rsplit_once('.') {
                None => "(the model itself)".into(),
                Some((layer, _)) => layer.into(),
            },
        })
    }

    /// The identity.
    pub fn id(&self) -> ParamId {
        self.id
    }

    /// The values.
    pub fn tensor(&self) -> &Tensor<T> {
        &self.value
    }

    /// Replaces the values, and keeps the identity.
    pub fn set(&mut self, value: Tensor<T>) {
        self.value = value.detach();
    }

    pub(crate) fn value_mut(&mut self) -> &mut Tensor<T> {
        &mut self.value
    }

    /// Makes it a leaf of a tape.
    pub(crate) fn put_on(&mut self, tape: &TapeCore) {
        *self.value.link_slot() = tape.param_leaf(self.id);
    }
}

impl<T: Float> Deref for Param<T> {
    type Target = Tensor<T>;
    fn deref(&self) -> &Tensor<T> {
        &self.value
    }
}

impl<T: Float> fmt::Debug for Param<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Param({:?})", self.value)
    }
}

impl Gradients {
    /// The gradient of a parameter (of the model or of its watched copy); `None` if the loss does not depend on it or it was not watched.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let w: Param = Param::new(Tensor::from([1.0, 2.0]));
    /// let grads = Tape::new(0).watch(&w).square().sum().backward()?;
    /// assert_eq!(grads.get(&w).unwrap().to_vec(), [2.0, 4.0]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn get<T: Float>(&self, p: &Param<T>) -> Option<&Tensor<T>> {
        self.by_id(p.id())
    }

    /// Sets the gradient of a parameter, for gradients that come from elsewhere: another machine, a rule of your own.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if its shape is not the parameter's.
    pub fn set<T: Float>(&mut self, p: &Param<T>, g: Tensor<T>) -> crate::Result<()> {
        if g.shape() != p.shape() {
            return Err(crate::Error::shape(
                "Gradients::set",
                format!("the gradient has shape {:?}, the parameter {:?}", g.shape(), p.shape()),
            ));
        }
        self.replace(p.id(), g.detach());
        Ok(())
    }
}

/// State that is saved with a model but not trained, such as running statistics.
///
/// [`Clone`] copies it, so a cloned model has statistics of its own; [`Tape::watch`](crate::Tape::watch) shares it, so what the watched copy
/// updates while it trains is seen by the model.
///
/// ```
/// use gradus::prelude::*;
/// let mean: Buffer = Buffer::new(Tensor::from([0.0]));
/// mean.set(Tensor::from([0.5]));
/// assert_eq!(mean.get().to_vec(), [0.5]);
/// ```
pub struct Buffer<T: Element = f32> {
    cell: Arc<RwLock<Tensor<T>>>,
}

impl<T: Element> Buffer<T> {
    /// A new buffer with these values.
    pub fn new(value: Tensor<T>) -> Self {
        Buffer { cell: Arc::new(RwLock::new(value.detach())) }
    }

    /// The values now.
    pub fn get(&self) -> Tensor<T> {
        self.cell.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the values.
    pub fn set(&self, value: Tensor<T>) {
        *self.cell.write().unwrap_or_else(PoisonError::into_inner) = value.detach();
    }

    /// Another handle on the same state.
    pub(crate) fn share(&self) -> Self {
        Buffer { cell: self.cell.clone() }
    }
}

impl<T: Element> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        Buffer::new(self.get())
    }
}

impl<T: Element> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({:?})", self.get())
    }
}

/// Whether a layer trains or evaluates. A layer that behaves differently in training (dropout, batch normalisation) has one as a
/// field; it says "evaluate" until [`Tape::watch`](crate::Tape::watch) makes it say "train" in the watched copy.
#[derive(Clone, Default)]
pub struct Mode {
    tape: Option<TapeCore>,
}

impl Mode {
    /// Evaluating.
    pub fn new() -> Self {
        Mode::default()
    }

    /// Whether this is a watched copy.
    pub fn is_training(&self) -> bool {
        self.tape.is_some()
    }

    /// While training, a seed from the tape's own generator, another one each time; `None` while evaluating.
    pub fn next_seed(&self) -> Option<u64> {
        self.tape.as_ref().map(TapeCore::next_seed)
    }

    pub(crate) fn train_on(tape: &TapeCore) -> Self {
        Mode { tape: Some(tape.clone()) }
    }
}

impl fmt::Debug for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_training() { "Mode(train)" } else { "Mode(evaluate)" })
    }
}

/// A parameter of either float type.
#[derive(Clone, Copy, Debug)]
pub enum ParamRef<'a> {
    /// Of `f32`.
    F32(&'a Param<f32>),
    /// Of `f64`.
    F64(&'a Param<f64>),
}

/// A parameter of either float type, for changing.
#[derive(Debug)]
pub enum ParamMut<'a> {
    /// Of `f32`.
    F32(&'a mut Param<f32>),
    /// Of `f64`.
    F64(&'a mut Param<f64>),
}

/// Runs the same expression on the parameter inside, whichever type it has.
macro_rules! with_param {
    ($kind:ident, $p:expr, $name:ident => $body:expr) => {
        match $p {
            $crate::nn::$kind::F32($name) => $body,
            $crate::nn::$kind::F64($name) => $body,
        }
    };
}
pub(crate) use with_param;

impl<'a> ParamRef<'a> {
    /// The variant for this parameter's float type.
    pub fn of<T: Float>(p: &'a Param<T>) -> Self {
        let any: &dyn Any = p;
        match (any.downcast_ref(), any.downcast_ref()) {
            (Some(p), _) => ParamRef::F32(p),
            (_, Some(p)) => ParamRef::F64(p),
            _ => unreachable!("the trait Float is sealed: {} is no type of it", T::DTYPE),
        }
    }
}

impl<'a> ParamMut<'a> {
    /// The variant for this parameter's float type.
    pub fn of<T: Float>(p: &'a mut Param<T>) -> Self {
        let any: &mut dyn Any = p;
        if any.is::<Param<f32>>() {
            any.downcast_mut().map(ParamMut::F32)
        } else {
            any.downcast_mut().map(ParamMut::F64)
        }
        .unwrap_or_else(|| unreachable!("the trait Float is sealed: {} is no type of it", T::DTYPE))
    }
}

impl ParamRef<'_> {
    /// The identity.
    pub fn id(&self) -> ParamId {
        with_param!(ParamRef, self, p => p.id())
    }

    /// The size of each axis.
    pub fn shape(&self) -> &[usize] {
        with_param!(ParamRef, self, p => p.shape())
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        with_param!(ParamRef, self, p => p.len())
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
