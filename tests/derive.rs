//! `#[derive(Module)]` on every form of struct and enum: which fields are walked, and under which path.

use std::marker::PhantomData;

use gradus::nn::{Item, Visitor};
use gradus::prelude::*;

fn param(n: usize) -> Param {
    Param::new(Tensor::zeros([n]).unwrap())
}

#[derive(Module, Clone)]
struct Named {
    weight: Param,
    width: usize,
    name: String,
    bias: Option<Param>,
    table: Tensor<i64>,
    r#type: Param,
}

fn named(bias: bool) -> Named {
    Named {
        weight: param(2),
        width: 2,
        name: "n".into(),
        bias: bias.then(|| param(1)),
        table: Tensor::zeros([1]).unwrap(),
        r#type: param(1),
    }
}

#[derive(Module, Clone)]
struct Pair(Named, Param<f64>);

#[derive(Module, Clone)]
struct Unit;

#[derive(Module, Clone)]
struct Empty {}

/// As the layers of the crate: the float type is a parameter, and no bound but `Float` is needed to use it.
#[derive(Module, Clone)]
struct Floats<T: Float = f32> {
    weight: Param<T>,
    slope: T,
    limits: Vec<T>,
    statistics: Buffer<T>,
    mode: Mode,
}

impl<T: Float> Layer<T> for Floats<T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        Ok(x.clone())
    }
}

fn floats<T: Float>() -> Floats<T> {
    Floats {
        weight: Param::new(Tensor::zeros([1]).unwrap()),
        slope: T::of(0.5),
        limits: vec![T::of(0.0)],
        statistics: Buffer::new(Tensor::zeros([1]).unwrap()),
        mode: Mode::new(),
    }
}

#[derive(Module, Clone)]
struct Wrap<M, const N: usize> {
    inner: M,
    others: [M; N],
    marker: PhantomData<fn(M)>,
}

#[derive(Module, Clone)]
struct Tree<M> {
    own: M,
    rest: Vec<Tree<M>>,
}

#[derive(Module, Clone)]
enum Choice<M> {
    Nothing,
    Dense(Param),
    Both { first: M, second: Param },
}

#[derive(Module)]
enum Never {}

/// Neither a module nor cloneable.
struct Foreign;

#[derive(Module)]
struct Attributes {
    #[module(skip)]
    _foreign: Foreign,
    #[module(rename = "gamma")]
    weight: Param,
    #[module(rename = "weight")]
    other: Param,
}

fn items(m: &impl Module) -> Vec<String> {
    let mut all = Vec::new();
    Visitor::walk(m, &mut |path, item| {
        let kind = match item {
            Item::Param(p) => format!("param {:?}", p.shape()),
            Item::Buffer(_) => "buffer".into(),
            Item::Mode(_) => "mode".into(),
        };
        all.push(format!("{path}: {kind}"));
    });
    all
}

#[test]
fn named_fields_by_name_and_configuration_passed_over() {
    assert_eq!(named(true).param_paths(), ["weight", "bias", "type"]);
    assert_eq!(named(false).param_paths(), ["weight", "type"]);
    let n = named(true);
    assert_eq!((n.width, n.name.as_str(), n.table.len()), (2, "n", 1));
}

#[test]
fn tuple_fields_by_number_and_empty_ones_not_at_all() {
    let p = Pair(named(false), Param::new(Tensor::zeros([3]).unwrap()));
    assert_eq!(p.param_paths(), ["0.weight", "0.type", "1"]);
    assert_eq!(p.num_params(), 6);
    assert!(Unit.param_paths().is_empty() && Empty {}.param_paths().is_empty());
}

#[test]
fn a_float_parameter_needs_no_bound() {
    fn through<T: Float>() -> Vec<String> {
        let layer = floats::<T>();
        assert_eq!(layer.forward(&Tensor::zeros([2]).unwrap()).unwrap().shape(), [2]);
        items(&layer)
    }
    assert_eq!(through::<f32>(), ["weight: param [1]", "statistics: buffer", "mode: mode"]);
    assert_eq!(through::<f64>(), through::<f32>());
    let layer: Floats = floats();
    assert_eq!((layer.slope, layer.limits.len()), (0.5, 1));
}

#[test]
fn module_parameters_and_recursion() {
    let w = Wrap { inner: param(1), others: [param(1), param(1)], marker: PhantomData };
    assert_eq!(w.param_paths(), ["inner", "others.0", "others.1"]);
    let leaf = Tree { own: param(1), rest: vec![] };
    let t = Tree { own: param(2), rest: vec![leaf.clone(), leaf] };
    assert_eq!(t.param_paths(), ["own", "rest.0.own", "rest.1.own"]);
    assert_eq!(t.num_params(), 3, "the clone shares its identity, so it counts once");
}

#[test]
fn of_an_enum_the_active_variant() {
    assert!(Choice::<Param>::Nothing.param_paths().is_empty());
    assert_eq!(Choice::<Param>::Dense(param(1)).param_paths(), ["0"]);
    let mut both = Choice::Both { first: named(false), second: param(3) };
    assert_eq!(both.param_paths(), ["first.weight", "first.type", "second"]);
    let mut seen = Vec::new();
    gradus::nn::VisitorMut::walk(&mut both, &mut |path, _| seen.push(path.to_string()));
    assert_eq!(seen, both.param_paths());
    let none: Vec<Never> = Vec::new();
    assert!(none.param_paths().is_empty());
}

#[test]
fn skipped_and_renamed() {
    let a = Attributes { _foreign: Foreign, weight: param(1), other: param(2) };
    let mut sizes = Vec::new();
    a.for_each_param(|path, p| sizes.push((path.to_string(), p.len())));
    assert_eq!(sizes, [("gamma".to_string(), 1), ("weight".to_string(), 2)]);
}

#[test]
fn a_derived_module_is_watched() {
    let model = Pair(named(true), Param::new(Tensor::zeros([3]).unwrap()));
    let tape = Tape::new(0);
    let net = tape.watch(&model);
    assert!(net.0.weight.is_recorded() && net.1.is_recorded() && !model.1.is_recorded());
    assert_eq!(tape.len(), 4);
}

/// Structs that come out of a macro have names with another hygiene.
macro_rules! from_macro {
    ($name:ident, $ty:ty) => {
        #[derive(Module, Clone)]
        struct $name {
            field: $ty,
        }
    };
}
from_macro!(Made, Vec<Param>);

#[test]
fn inside_a_macro() {
    assert_eq!(Made { field: vec![param(1)] }.param_paths(), ["field.0"]);
}
