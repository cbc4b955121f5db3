//! The walk over a model: every parameter, buffer and mode, each with its dotted path.
//!
//! One walk serves everything that looks at a model as a whole: watching, optimizers, saving, loading, counting, freezing.

use super::param::{Buffer, Mode, Param, ParamMut, ParamRef};
use crate::element::{DType, Element};
use crate::error::Result;
use crate::float::Float;
use crate::tensor::Tensor;

/// A model or a part of one: a struct whose parameters can be walked.
///
/// `#[derive(Module)]` writes it for structs and enums. Numbers, strings, `bool` and constant tensors are configuration and are passed over; `Vec`, arrays,
/// `Option`, tuples and `Box` of modules are modules. A field of a foreign type is skipped with `#[module(skip)]`.
///
/// By hand, name the fields that hold modules, the same in both walks and in the same order:
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::{Visitor, VisitorMut};
///
/// #[derive(Clone)]
/// struct Scale { factor: Param, inner: Dense }
///
/// impl Module for Scale {
///     fn visit(&self, v: &mut Visitor<'_>) {
///         v.field("factor", &self.factor);
///         v.field("inner", &self.inner);
///     }
///     fn visit_mut(&mut self, v: &mut VisitorMut<'_>) {
///         v.field("factor", &mut self.factor);
///         v.field("inner", &mut self.inner);
///     }
/// }
///
/// let m = Scale { factor: Param::new(Tensor::scalar(2.0)), inner: Dense::new(3, 2).build(&mut gradus::rng(0))? };
/// assert_eq!(m.param_paths(), ["factor", "inner.weight", "inner.bias"]);
/// assert_eq!(m.num_params(), 1 + 6 + 2);
/// # Ok::<(), Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a module",
    label = "neither a module nor configuration",
    note = "a type of your own becomes one with #[derive(Module)]; a field of a foreign type is passed over with #[module(skip)]"
)]
pub trait Module {
    /// Shows every field that holds a module to the visitor.
    fn visit(&self, v: &mut Visitor<'_>);

    /// The same fields in the same order, for changing.
    fn visit_mut(&mut self, v: &mut VisitorMut<'_>);

    /// Calls `f` with the path of every parameter and the parameter. A tied one comes once per place.
    fn for_each_param(&self, mut f: impl FnMut(&str, ParamRef<'_>))
    where
        Self: Sized,
    {
        Visitor::walk(self, &mut |path, item| {
            if let Item::Param(p) = item {
                f(path, p);
            }
        });
    }

    /// The paths of all parameters, in order.
    fn param_paths(&self) -> Vec<String>
    where
        Self: Sized,
    {
        let mut paths = Vec::new();
        self.for_each_param(|path, _| paths.push(path.to_string()));
        paths
    }

    /// How many numbers are trained; tied parameters count once.
    fn num_params(&self) -> usize
    where
        Self: Sized,
    {
        self.num_params_where(|_| true)
    }

    /// A table of the parameters: path, shape and how many numbers, and their sum. A tied parameter stands at each of its places
    /// and counts at the first.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let mut rng = gradus::rng(0);
    /// let model: (Dense, Dense) = (Dense::new(784, 128).build(&mut rng)?, Dense::new(128, 10).build(&mut rng)?);
    /// assert_eq!(model.summary(), "\
    /// parameter  shape       numbers
    /// 0.weight   [128, 784]  100,352
    /// 0.bias     [128]           128
    /// 1.weight   [10, 128]     1,280
    /// 1.bias     [10]             10
    /// total                  101,770
    /// ");
    /// # Ok::<(), Error>(())
    /// ```
    fn summary(&self) -> String
    where
        Self: Sized,
    {
        super::summary::table(self)
    }

    /// A table of the layers that have parameters: path, the shape of what the layer computed for this input, how many numbers it trains.
    ///
    /// `run` is one forward pass. It runs on a copy, in training mode, and leaves the model as it was.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let mut rng = gradus::rng(0);
    /// let model: (Dense, Dense) = (Dense::new(784, 128).build(&mut rng)?, Dense::new(128, 10).build(&mut rng)?);
    /// assert_eq!(model.summary_of(|m| m.forward(&Tensor::ones([32, 784])?))?, "\
    /// layer  output     numbers
    /// 0      [32, 128]  100,480
    /// 1      [32, 10]     1,290
    /// total             101,770
    /// ");
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of `run`.
    fn summary_of<R>(&self, run: impl FnOnce(&Self) -> Result<R>) -> Result<String>
    where
        Self: Sized + Clone,
    {
        super::summary::with_outputs(self, run)
    }

    /// How many numbers are trained in those parameters whose path `which` accepts; tied ones count once.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let mut rng = gradus::rng(0);
    /// let model: (Dense, Dense) = (Dense::new(784, 128).build(&mut rng)?, Dense::new(128, 10).build(&mut rng)?);
    /// assert_eq!(model.num_params_where(|path| path.starts_with("1.")), 1290);
    /// # Ok::<(), Error>(())
    /// ```
    fn num_params_where(&self, which: impl Fn(&str) -> bool) -> usize
    where
        Self: Sized,
    {
        let mut seen = std::collections::HashSet::new();
        let mut n = 0;
        self.for_each_param(|path, p| {
            if which(path) && seen.insert(p.id()) {
                n += p.len();
            }
        });
        n
    }
}

/// What has one input and one output.
pub trait Layer<T: Float = f32>: Module {
    /// The output for an input.
    ///
    /// # Errors
    /// If the input's shape does not fit the layer.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>>;
}

/// What a walk meets.
pub enum Item<'a> {
    /// A parameter.
    Param(ParamRef<'a>),
    /// A buffer.
    Buffer(&'a dyn AnyBuffer),
    /// A mode.
    Mode(&'a Mode),
}

/// What a changing walk meets.
pub enum ItemMut<'a> {
    /// A parameter.
    Param(ParamMut<'a>),
    /// A buffer.
    Buffer(&'a mut dyn AnyBuffer),
    /// A mode.
    Mode(&'a mut Mode),
}

/// A buffer of any element type.
pub trait AnyBuffer: std::any::Any {
    /// The element type.
    fn dtype(&self) -> DType;
    /// The size of each axis.
    fn shape(&self) -> Vec<usize>;
    /// As `Any`, to get the [`Buffer`] back by downcast.
    fn as_any(&self) -> &dyn std::any::Any;
    #[doc(hidden)]
    fn share_any(&self) -> Box<dyn AnyBuffer>;
    #[doc(hidden)]
    fn become_shared(&mut self, other: &dyn AnyBuffer);
}

impl<T: Element> AnyBuffer for Buffer<T> {
    fn dtype(&self) -> DType {
        T::DTYPE
    }
    fn shape(&self) -> Vec<usize> {
        self.get().shape().to_vec()
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
    fn share_any(&self) -> Box<dyn AnyBuffer> {
        Box::new(self.share())
    }
    fn become_shared(&mut self, other: &dyn AnyBuffer) {
        if let Some(o) = other.as_any().downcast_ref::<Buffer<T>>() {
            *self = o.share();
        }
    }
}

/// The path of the place where a walk stands, grown and cut back as it goes down and up.
#[derive(Default)]
struct Path {
    text: String,
    /// Nobody asks for names: for a model of a few numbers, writing them costs more than its training step.
    unnamed: bool,
}

impl Path {
    fn enter(&mut self, name: &dyn std::fmt::Display) -> usize {
        use std::fmt::Write;
        if self.unnamed {
            return 0;
        }
        let before = self.text.len();
        if before > 0 {
            self.text.push('.');
        }
        let _ = write!(self.text, "{name}");
        before
    }

    fn enter_plain(&mut self, name: &str) -> usize {
        if self.unnamed {
            return 0;
        }
        let before = self.text.len();
        if self.text.capacity() == 0 {
            // Longer than most paths, so that the text is allocated once.
            self.text.reserve(64);
        }
        if before > 0 {
            self.text.push('.');
        }
        self.text.push_str(name);
        before
    }
}

/// A walk that reads; see [`Module::visit`].
pub struct Visitor<'a> {
    path: Path,
    f: &'a mut dyn FnMut(&str, Item<'_>),
}

impl<'a> Visitor<'a> {
    /// Walks a module and calls `f` with the path and each parameter, buffer and mode.
    pub fn walk(m: &(impl Module + ?Sized), f: &'a mut dyn FnMut(&str, Item<'_>)) {
        m.visit(&mut Visitor { path: Path::default(), f });
    }

    /// Like [`walk`](Self::walk) with every path empty: faster.
    pub(crate) fn walk_unnamed(m: &(impl Module + ?Sized), f: &'a mut dyn FnMut(&str, Item<'_>)) {
        let path = Path { unnamed: true, ..Path::default() };
        m.visit(&mut Visitor { path, f });
    }

    /// [`field`](Self::field) for a plain name, without the machinery of formatting.
    #[doc(hidden)]
    pub fn named(&mut self, name: &str, m: &(impl Module + ?Sized)) {
        let before = self.path.enter_plain(name);
        m.visit(self);
        self.path.text.truncate(before);
    }

    /// A field, by name or by index.
    pub fn field(&mut self, name: impl std::fmt::Display, m: &(impl Module + ?Sized)) {
        let before = self.path.enter(&name);
        m.visit(self);
        self.path.text.truncate(before);
    }

    fn item(&mut self, item: Item<'_>) {
        (self.f)(&self.path.text, item);
    }
}

/// A walk that changes; see [`Module::visit_mut`].
pub struct VisitorMut<'a> {
    path: Path,
    f: &'a mut dyn FnMut(&str, ItemMut<'_>),
}

impl<'a> VisitorMut<'a> {
    /// Walks a module and calls `f` with the path and each parameter, buffer and mode.
    pub fn walk(m: &mut (impl Module + ?Sized), f: &'a mut dyn FnMut(&str, ItemMut<'_>)) {
        m.visit_mut(&mut VisitorMut { path: Path::default(), f });
    }

    /// Like [`walk`](Self::walk) with every path empty: faster.
    pub(crate) fn walk_unnamed(
        m: &mut (impl Module + ?Sized),
        f: &'a mut dyn FnMut(&str, ItemMut<'_>),
    ) {
        let path = Path { unnamed: true, ..Path::default() };
        m.visit_mut(&mut VisitorMut { path, f });
    }

    /// [`field`](Self::field) for a plain name, without the machinery of formatting.
    #[doc(hidden)]
    pub fn named(&mut self, name: &str, m: &mut (impl Module + ?Sized)) {
        let before = self.path.enter_plain(name);
        m.visit_mut(self);
        self.path.text.truncate(before);
    }

    /// A field, by name or by index.
    pub fn field(&mut self, name: impl std::fmt::Display, m: &mut (impl Module + ?Sized)) {
        let before = self.path.enter(&name);
        m.visit_mut(self);
        self.path.text.truncate(before);
    }

    fn item(&mut self, item: ItemMut<'_>) {
        (self.f)(&self.path.text, item);
    }
}

impl<T: Float> Module for Param<T> {
    fn visit(&self, v: &mut Visitor<'_>) {
        if !v.path.unnamed {
            self.met_at(&v.path.text);
        }
        v.item(Item::Param(ParamRef::of(self)));
    }
    fn visit_mut(&mut self, v: &mut VisitorMut<'_>) {
        if !v.path.unnamed {
            self.met_at(&v.path.text);
        }
        v.item(ItemMut::Param(ParamMut::of(self)));
    }
}

impl<T: Element> Module for Buffer<T> {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.item(Item::Buffer(self));
    }
    fn visit_mut(&mut self, v: &mut VisitorMut<'_>) {
        v.item(ItemMut::Buffer(self));
    }
}

impl Module for Mode {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.item(Item::Mode(self));
    }
    fn visit_mut(&mut self, v: &mut VisitorMut<'_>) {
        v.item(ItemMut::Mode(self));
    }
}

/// Configuration: nothing to walk.
macro_rules! configuration {
    ($($t:ty),* $(,)?) => {$(
        impl Module for $t {
            fn visit(&self, _: &mut Visitor<'_>) {}
            fn visit_mut(&mut self, _: &mut VisitorMut<'_>) {}
        }
    )*};
}
configuration!(
    (),
    bool,
    char,
    u8,
    u16,
    u32,
    u64,
    u128,
    usize,
    i8,
    i16,
    i32,
    i64,
    i128,
    isize,
    f32,
    f64,
    String,
    &'static str
);

impl<T: Element> Module for Tensor<T> {
    fn visit(&self, _: &mut Visitor<'_>) {}
    fn visit_mut(&mut self, _: &mut VisitorMut<'_>) {}
}

impl<T: ?Sized> Module for std::marker::PhantomData<T> {
    fn visit(&self, _: &mut Visitor<'_>) {}
    fn visit_mut(&mut self, _: &mut VisitorMut<'_>) {}
}

impl<M: Module> Module for Option<M> {
    fn visit(&self, v: &mut Visitor<'_>) {
        if let Some(m) = self {
            m.visit(v);
        }
    }
    fn visit_mut(&mut self, v: &mut VisitorMut<'_>) {
        if let Some(m) = self {
            m.visit_mut(v);
        }
    }
}

impl<M: Module + ?Sized> Module for Box<M> {
    fn visit(&self, v: &mut Visitor<'_>) {
        (**self).visit(v);
    }
    fn visit_mut(&mut self, v: &mut VisitorMut<'_>) {
        (**self).visit_mut(v);
    }
}

impl<M: Module> Module for [M] {
    fn visit(&self, v: &mut Visitor<'_>) {
        self.iter().enumerate().for_each(|(i, m)| v.field(i, m));
    }
    fn visit_mut(&mut self, v: &mut VisitorMut<'_>) {
        self.iter_mut().enumerate().for_each(|(i, m)| v.field(i, m));
    }
}

impl<M: Module> Module for Vec<M> {
    fn visit(&self, v: &mut Visitor<'_>) {
        self.as_slice().visit(v);
    }
    fn visit_mut(&mut self, v: &mut VisitorMut<'_>) {
        self.as_mut_slice().visit_mut(v);
    }
}

impl<M: Module, const N: usize> Module for [M; N] {
    fn visit(&self, v: &mut Visitor<'_>) {
        self.as_slice().visit(v);
    }
    fn visit_mut(&mut self, v: &mut VisitorMut<'_>) {
        self.as_mut_slice().visit_mut(v);
    }
}

macro_rules! tuple_module {
    ($($m:ident $i:tt),*) => {
        impl<$($m: Module),*> Module for ($($m,)*) {
            fn visit(&self, v: &mut Visitor<'_>) {
                $(v.field($i, &self.$i);)*
            }
            fn visit_mut(&mut self, v: &mut VisitorMut<'_>) {
                $(v.field($i, &mut self.$i);)*
            }
        }
    };
}
tuple_module!(A 0);
tuple_module!(A 0, B 1);
tuple_module!(A 0, B 1, C 2);
tuple_module!(A 0, B 1, C 2, D 3);
tuple_module!(A 0, B 1, C 2, D 3, E 4);
tuple_module!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple_module!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple_module!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
