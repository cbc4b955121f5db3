//! An operation: a forward rule, a backward rule, and what the second needs from the first.
//!
//! [`apply`] is the one door between values and the tape: it computes the forward rule on plain values, and if an input is recorded, puts
//! a node on that tape with the inputs' places and what the operation saved. With nothing recorded it stores nothing.

use std::sync::Arc;

use smallvec::SmallVec;

use super::any::AnyTensor;
use super::tape::{Node, Standing, TapeCore};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::profile::{self, Span};
use crate::tensor::{Dims, Layout, Lent, Link, Tensor, short};

/// A differentiable operation with `N` inputs and one output.
///
/// An operation of your own with its own backward rule:
///
/// ```
/// use gradus::prelude::*;
/// use gradus::autograd::{Op, apply, gradcheck};
///
/// /// y = x³; dx = 3 x² g
/// struct Cube;
/// impl Op<f64, 1> for Cube {
///     type Saved = Tensor<f64>;
///     fn name(&self) -> &'static str { "cube" }
///     fn forward(&self, [x]: [&Tensor<f64>; 1]) -> Result<(Tensor<f64>, Tensor<f64>)> {
///         Ok((x * x * x, x.clone()))
///     }
///     fn vjp(&self, x: Tensor<f64>, g: Tensor<f64>, _: [bool; 1]) -> Result<[Option<Tensor<f64>>; 1]> {
///         Ok([Some(g * (&x * &x) * 3.0)])
///     }
/// }
///
/// let x = Tensor::from([1.0f64, -2.0, 0.5]);
/// gradcheck(|[x]| apply(Cube, [x]), [&x])?;
/// # Ok::<(), Error>(())
/// ```
pub trait Op<T: Float, const N: usize>: Send + Sync + 'static {
    /// What is kept alive for the backward pass: `()`, the input, the output, or a tuple of tensors.
    type Saved: Saved;

    /// Whether [`vjp`](Self::vjp) consists of tensor operations alone (methods of [`Tensor`], [`apply`]), so that a gradient can
    /// itself be recorded by the same rule.
    const COMPOSED: bool = false;

    /// The name that errors and profiles show.
    fn name(&self) -> &'static str;

    /// The output for these inputs, and what [`vjp`](Self::vjp) will need. Nothing computed in here is recorded.
    ///
    /// # Errors
    /// Whatever is wrong with the inputs.
    fn forward(&self, x: [&Tensor<T>; N]) -> Result<(Tensor<T>, Self::Saved)>;

    /// For an operation that hands on part of its only input: where that part stands in a dense array of the input's shape. A gradient
    /// that is there already is then added to in that place, instead of an array that is zero everywhere else.
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn part(&self) -> Option<Layout> {
        None
    }

    /// The gradient of each input, given the gradient `g` of the output (the vector-Jacobian product). `needs[i]` tells whether anybody
    /// asks for the one of input `i`; `None` means zero. A gradient has its input's shape.
    ///
    /// # Errors
    /// Whatever cannot be computed.
    fn vjp(
        &self,
        saved: Self::Saved,
        g: Tensor<T>,
        needs: [bool; N],
    ) -> Result<[Option<Tensor<T>>; N]>;

    /// [`vjp`](Self::vjp) for a gradient that is itself to be differentiated (see [`grad`](super::grad)): the same value, computed by tensor
    /// operations alone. What was saved of the inputs, or is the output, stands in its place on the tape then, and so does `g`; a view or a copy
    /// of either does not. Where the rule is [`COMPOSED`](Self::COMPOSED), this calls it.
    ///
    /// # Errors
    /// [`Error::OnceDifferentiable`] unless the operation says otherwise. The gradient is then computed by `vjp`, and the error
    /// comes when somebody differentiates it.
    fn vjp_recorded(
        &self,
        saved: Self::Saved,
        g: Tensor<T>,
        needs: [bool; N],
    ) -> Result<[Option<Tensor<T>>; N]> {
        if Self::COMPOSED {
            return self.vjp(saved, g, needs);
        }
        Err(Error::OnceDifferentiable { op: self.name() })
    }

    /// How many floating-point operations [`forward`](Self::forward) takes for inputs of these shapes, for [profiles](crate::profile). 0, as it is
    /// unless said otherwise, means that the time is in moving the numbers.
    fn flops(&self, x: [&[usize]; N]) -> u64 {
        let _ = x;
        0
    }

    /// The same of [`vjp`](Self::vjp): those of `forward` for each gradient that is asked for, as in a product.
    fn vjp_flops(&self, x: [&[usize]; N], needs: [bool; N]) -> u64 {
        self.flops(x) * needs.iter().filter(|n| **n).count() as u64
    }
}

/// What an operation may keep for its backward pass. Its tensors can be visited, so that a later pass can put them back
/// in their place on the tape.
pub trait Saved: Clone + Send + Sync + 'static {
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn visit(&mut self, f: &mut dyn FnMut(&mut dyn SavedTensor)) {
        let _ = f;
    }
}

/// A tensor inside [`Saved`], of any element type.
#[doc(hidden)]
pub trait SavedTensor {
    #[allow(private_interfaces)]
    fn link_mut(&mut self) -> &mut Link;
    /// Whether this is the very buffer and layout of `other`.
    #[allow(private_interfaces)]
    fn is_same(&self, other: &dyn std::any::Any) -> bool;
    /// What reading it once moves.
    fn bytes(&self) -> u64;
}

impl<T: crate::element::Element> SavedTensor for Tensor<T> {
    #[allow(private_interfaces)]
    fn link_mut(&mut self) -> &mut Link {
        self.link_slot()
    }
    #[allow(private_interfaces)]
    fn is_same(&self, other: &dyn std::any::Any) -> bool {
        other.downcast_ref::<Tensor<T>>().is_some_and(|o| self.same(o))
    }
    fn bytes(&self) -> u64 {
        profile::bytes(self)
    }
}

impl Saved for () {}

impl Saved for crate::tensor::Dims {}

impl<T: crate::element::Element> Saved for Tensor<T> {
    fn visit(&mut self, f: &mut dyn FnMut(&mut dyn SavedTensor)) {
        f(self);
    }
}

impl<S: Saved> Saved for Option<S> {
    fn visit(&mut self, f: &mut dyn FnMut(&mut dyn SavedTensor)) {
        self.iter_mut().for_each(|s| s.visit(f));
    }
}

impl<S: Saved> Saved for Vec<S> {
    fn visit(&mut self, f: &mut dyn FnMut(&mut dyn SavedTensor)) {
        self.iter_mut().for_each(|s| s.visit(f));
    }
}

macro_rules! saved_tuple {
    ($($s:ident $i:tt),*) => {
        impl<$($s: Saved),*> Saved for ($($s,)*) {
            fn visit(&mut self, f: &mut dyn FnMut(&mut dyn SavedTensor)) {
                $(self.$i.visit(f);)*
            }
        }
    };
}
saved_tuple!(A 0, B 1);
saved_tuple!(A 0, B 1, C 2);
saved_tuple!(A 0, B 1, C 2, D 3);
saved_tuple!(A 0, B 1, C 2, D 3, E 4);

/// A recorded operation with its types erased, as the tape holds it.
pub(crate) trait Recorded: Send + Sync {
    fn name(&self) -> &'static str;
    /// Turns the output's gradient into the inputs', and hands each that is wanted to `sink` with its input's number.
    fn backward(
        self: Arc<Self>,
        g: AnyTensor,
        needs: &[bool],
        sink: &mut dyn FnMut(usize, AnyTensor),
    ) -> Result<()>;
    /// Adds the gradient of the only input to the one that is there, if the operation hands on part of its input and this can be done in
    /// place; otherwise nothing happens and it says `false`.
    fn add_part(&self, g: &AnyTensor, there: &mut AnyTensor) -> bool {
        let _ = (g, there);
        false
    }
    /// The same by recorded operations.
    fn backward_recorded(
        self: Arc<Self>,
        at: &Place<'_>,
        g: AnyTensor,
        needs: &[bool],
        sink: &mut dyn FnMut(usize, AnyTensor),
    ) -> Result<()>;
}

/// Where on a tape an operation stands.
pub(crate) struct Place<'a> {
    pub(crate) tape: &'a TapeCore,
    pub(crate) inputs: &'a [u32],
    pub(crate) output: u32,
}

/// An operation with any number of inputs, such as a concatenation. Otherwise as [`Op`].
pub(crate) trait OpMany<T: Float>: Send + Sync + 'static {
    type Saved: Saved;
    /// The list of gradients: an array where the number of inputs is known, a vector where it is not.
    type Gradients: AsRef<[Option<Tensor<T>>]> + IntoIterator<Item = Option<Tensor<T>>>;
    /// Whether a profile sees the operations inside of this one instead of itself.
    const TRANSPARENT: bool = false;
    /// As [`Op::COMPOSED`].
    const COMPOSED: bool = false;
    fn name(&self) -> &'static str;
    /// As [`Op::part`].
    fn part(&self) -> Option<Layout> {
        None
    }
    fn forward(&self, x: &[&Tensor<T>]) -> Result<(Tensor<T>, Self::Saved)>;
    fn vjp(&self, saved: Self::Saved, g: Tensor<T>, needs: &[bool]) -> Result<Self::Gradients>;
    /// As [`Op::vjp_recorded`].
    fn vjp_recorded(
        &self,
        saved: Self::Saved,
        g: Tensor<T>,
        needs: &[bool],
    ) -> Result<Self::Gradients> {
        if Self::COMPOSED {
            return self.vjp(saved, g, needs);
        }
        Err(Error::OnceDifferentiable { op: self.name() })
    }
    /// As [`Op::flops`].
    fn flops(&self, x: &[&[usize]]) -> u64 {
        let _ = x;
        0
    }
    /// As [`Op::vjp_flops`], but nothing unless said otherwise.
    fn vjp_flops(&self, x: &[&[usize]], needs: &[bool]) -> u64 {
        let _ = (x, needs);
        0
    }
}

/// An [`Op`] seen as an operation on slices.
struct Fixed<O, const N: usize>(O);

impl<T: Float, const N: usize, O: Op<T, N>> OpMany<T> for Fixed<O, N> {
    type Saved = O::Saved;
    type Gradients = [Option<Tensor<T>>; N];
    const COMPOSED: bool = O::COMPOSED;
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn part(&self) -> Option<Layout> {
        self.0.part()
    }
    fn forward(&self, x: &[&Tensor<T>]) -> Result<(Tensor<T>, O::Saved)> {
        self.0.forward(std::array::from_fn(|i| x[i]))
    }
    fn vjp(&self, saved: O::Saved, g: Tensor<T>, needs: &[bool]) -> Result<Self::Gradients> {
        self.0.vjp(saved, g, std::array::from_fn(|i| needs[i]))
    }
    fn vjp_recorded(
        &self,
        saved: O::Saved,
        g: Tensor<T>,
        needs: &[bool],
    ) -> Result<Self::Gradients> {
        self.0.vjp_recorded(saved, g, std::array::from_fn(|i| needs[i]))
    }
    fn flops(&self, x: &[&[usize]]) -> u64 {
        self.0.flops(std::array::from_fn(|i| x[i]))
    }
    fn vjp_flops(&self, x: &[&[usize]], needs: &[bool]) -> u64 {
        self.0.vjp_flops(std::array::from_fn(|i| x[i]), std::array::from_fn(|i| needs[i]))
    }
}

struct Record<T: Float, O: OpMany<T>> {
    op: O,
    saved: O::Saved,
    shapes: SmallVec<[Dims; 3]>,
}

impl<T: Float, O: OpMany<T>> Record<T, O> {
    /// The gradient in the type that the operation has.
    fn take(&self, g: AnyTensor) -> Result<Tensor<T>> {
        let wrong =
            || Error::argument(self.op.name(), "its gradient came back in another float type");
        g.take::<T>().ok_or_else(wrong)
    }
}

/// Hands on the gradients that are wanted, their shapes checked.
#[inline]
fn hand_on<T: Float>(
    name: &'static str,
    shapes: &[Dims],
    gradients: impl IntoIterator<Item = Option<Tensor<T>>>,
    needs: &[bool],
    sink: &mut dyn FnMut(usize, AnyTensor),
) -> Result<()> {
    for (i, d) in gradients.into_iter().enumerate() {
        let Some(d) = d else { continue };
        let expected = &shapes[i][..];
        if d.shape() != expected {
            let message = format!(
                "its backward rule gave a gradient of shape {:?} for input {i} of shape {expected:?}",
                d.shape()
            );
            return Err(Error::shape(name, message));
        }
        if needs[i] {
            sink(i, AnyTensor::new(d));
        }
    }
    Ok(())
}

/// The forward rule, which a profile may want to see.
#[inline(always)]
fn forward<T: Float, O: OpMany<T>>(op: &O, x: &[&Tensor<T>]) -> Result<(Tensor<T>, O::Saved)> {
    if O::TRANSPARENT || !profile::on() { op.forward(x) } else { forward_seen(op, x) }
}

#[cold]
#[inline(never)]
fn forward_seen<T: Float, O: OpMany<T>>(op: &O, x: &[&Tensor<T>]) -> Result<(Tensor<T>, O::Saved)> {
    let span = Span::open();
    let (y, saved) = op.forward(x)?;
    if let Some(span) = span {
        span.close(op.name(), || {
            let shapes: SmallVec<[&[usize]; 4]> = x.iter().map(|x| x.shape()).collect();
            [op.flops(&shapes), profile::traffic(x, &y)]
        });
    }
    Ok((y, saved))
}

/// The backward rule, which a profile may want to see.
#[inline(always)]
fn vjp<T: Float, O: OpMany<T>>(
    op: &O,
    saved: O::Saved,
    g: Tensor<T>,
    needs: &[bool],
    shapes: &[Dims],
) -> Result<O::Gradients> {
    if O::TRANSPARENT || !profile::on() {
        op.vjp(saved, g, needs)
    } else {
        vjp_seen(op, saved, g, needs, shapes)
    }
}

#[cold]
#[inline(never)]
fn vjp_seen<T: Float, O: OpMany<T>>(
    op: &O,
    mut saved: O::Saved,
    g: Tensor<T>,
    needs: &[bool],
    shapes: &[Dims],
) -> Result<O::Gradients> {
    let (from, mut bytes) = (g.buffer().as_ptr(), profile::bytes(&g));
    saved.visit(&mut |t| bytes += t.bytes());
    let span = Span::open();
    let d = op.vjp(saved, g, needs)?;
    if let Some(span) = span {
        span.close(op.name(), || {
            let shapes: SmallVec<[&[usize]; 4]> = shapes.iter().map(|s| &s[..]).collect();
            let is_view = |d: &Tensor<T>| O::COMPOSED && std::ptr::eq(d.buffer().as_ptr(), from);
            let moved = match d.as_ref().iter().flatten().all(is_view) {
                true => 0,
                false => bytes + d.as_ref().iter().flatten().map(profile::bytes).sum::<u64>(),
            };
            [op.vjp_flops(&shapes, needs), moved]
        });
    }
    Ok(d)
}

impl<T: Float, O: OpMany<T>> Recorded for Record<T, O> {
    fn name(&self) -> &'static str {
        self.op.name()
    }

    fn backward(
        self: Arc<Self>,
        g: AnyTensor,
        needs: &[bool],
        sink: &mut dyn FnMut(usize, AnyTensor),
    ) -> Result<()> {
        let g = self.take(g)?;
        let detached = |d: O::Gradients| d.into_iter().map(|d| Some(d?.with_link(Link::None)));
        // The last owner gives away what was saved, so that a rule may reuse its buffers.
        match Arc::try_unwrap(self) {
            Ok(Record { op, saved, shapes }) => {
                let d = vjp(&op, saved, g, needs, &shapes)?;
                hand_on(op.name(), &shapes, detached(d), needs, sink)
            }
            Err(shared) => {
                let d = vjp(&shared.op, shared.saved.clone(), g, needs, &shared.shapes)?;
                hand_on(shared.op.name(), &shared.shapes, detached(d), needs, sink)
            }
        }
    }

    fn add_part(&self, g: &AnyTensor, there: &mut AnyTensor) -> bool {
        let (Some(part), Some(g), Some(there)) =
            (self.op.part(), g.get::<T>(), there.get_mut::<T>())
        else {
            return false;
        };
        let fits = there.shape() == &self.shapes[0][..] && g.shape() == &part.shape[..];
        match there.unique_dense() {
            Some(there) if fits => {
                let span = Span::open();
                crate::kernel::place::add(g.buffer(), g.layout(), there, &part);
                if let Some(span) = span {
                    // Both are read, one is written.
                    span.close(self.op.name(), || [0, 3 * profile::bytes(g)]);
                }
                true
            }
            _ => false,
        }
    }

    fn backward_recorded(
        self: Arc<Self>,
        at: &Place<'_>,
        g: AnyTensor,
        needs: &[bool],
        sink: &mut dyn FnMut(usize, AnyTensor),
    ) -> Result<()> {
        let g = self.take(g)?;
        let mut saved = self.saved.clone();
        saved.visit(&mut |t| {
            let link = t.link_mut();
            *link = match *link {
                Link::Input(i) => at.tape.link_to(at.inputs.get(i as usize).copied()),
                Link::Output => at.tape.link_to(Some(at.output)),
                _ => Link::None,
            };
        });
        let name = self.op.name();
        match self.op.vjp_recorded(saved, g.clone(), needs) {
            // Known once, but not as a function: whoever differentiates it hears of that.
            Err(Error::OnceDifferentiable { op }) => {
                let place = TapeCore::id_of(g.link());
                let d = vjp(&self.op, self.saved.clone(), g.detach(), needs, &self.shapes)?;
                let from: SmallVec<[u32; 4]> = at.inputs.iter().copied().chain([place]).collect();
                let d = d.into_iter().map(|d| Some(d?.with_link(at.tape.once(op, &from))));
                hand_on(name, &self.shapes, d, needs, sink)
            }
            d => hand_on(name, &self.shapes, d?, needs, sink),
        }
    }
}

/// The place of a gradient that was computed by a fused kernel: what it depends on is known, its derivative is not.
struct Once(&'static str);

impl Recorded for Once {
    fn name(&self) -> &'static str {
        self.0
    }
    fn backward(
        self: Arc<Self>,
        _: AnyTensor,
        _: &[bool],
        _: &mut dyn FnMut(usize, AnyTensor),
    ) -> Result<()> {
        Err(Error::OnceDifferentiable { op: self.0 })
    }
    fn backward_recorded(
        self: Arc<Self>,
        _: &Place<'_>,
        _: AnyTensor,
        _: &[bool],
        _: &mut dyn FnMut(usize, AnyTensor),
    ) -> Result<()> {
        Err(Error::OnceDifferentiable { op: self.0 })
    }
}

impl TapeCore {
    /// The link to a place, or to none.
    fn link_to(&self, place: Option<u32>) -> Link {
        match place {
            Some(id) if id != super::tape::NOWHERE => self.link(id),
            _ => Link::None,
        }
    }

    /// A place for a gradient that cannot be differentiated.
    fn once(&self, op: &'static str, from: &[u32]) -> Link {
        TapeCore::push(self, Node::Op { inputs: from.into(), op: Arc::new(Once(op)) })
    }
}

/// Computes an operation, and records it if an input is recorded.
///
/// # Errors
/// What the operation's forward rule returns, and [`Error::TapesMixed`] if the inputs stand on two tapes.
pub fn apply<T: Float, const N: usize, O: Op<T, N>>(
    op: O,
    x: [&Tensor<T>; N],
) -> Result<Tensor<T>> {
    apply_array(Fixed::<O, N>(op), x)
}

/// [`apply`] for an operation that takes several numbers of inputs, where this call knows how many.
pub(crate) fn apply_array<T: Float, const N: usize, O: OpMany<T>>(
    op: O,
    x: [&Tensor<T>; N],
) -> Result<Tensor<T>> {
    let Some(on) = common_tape(op.name(), &x)? else { return unrecorded(&op, &x) };
    let lent: [Lent<'_, T>; N] = std::array::from_fn(|i| Lent::new(x[i], Link::input(i)));
    let (y, saved) = forward(&op, &lent.each_ref().map(|x| &**x))?;
    Ok(record(on, op, &x, y, saved))
}

/// [`apply`] for any number of inputs.
pub(crate) fn apply_many<T: Float, O: OpMany<T>>(op: O, x: &[&Tensor<T>]) -> Result<Tensor<T>> {
    let Some(on) = common_tape(op.name(), x)? else { return unrecorded(&op, x) };
    let lent: SmallVec<[Lent<'_, T>; 4]> =
        x.iter().enumerate().map(|(i, x)| Lent::new(x, Link::input(i))).collect();
    let borrowed: SmallVec<[&Tensor<T>; 4]> = lent.iter().map(|x| &**x).collect();
    let (y, saved) = forward(&op, &borrowed)?;
    Ok(record(on, op, x, y, saved))
}

fn unrecorded<T: Float, O: OpMany<T>>(op: &O, x: &[&Tensor<T>]) -> Result<Tensor<T>> {
    let (y, _) = forward(op, x)?;
    Ok(y.with_link(Link::None))
}

/// Puts on the tape what was computed, and `y` in its place there.
fn record<T: Float, O: OpMany<T>>(
    on: Standing<'_>,
    op: O,
    x: &[&Tensor<T>],
    mut y: Tensor<T>,
    mut saved: O::Saved,
) -> Tensor<T> {
    *y.link_slot() = Link::None;
    mark_output(&mut saved, &y);
    let (mut inputs, mut shapes) = (SmallVec::new(), SmallVec::new());
    for x in x {
        inputs.push(TapeCore::id_of(x.link()));
        shapes.push(short(x.shape()));
    }
    let node = Node::Op { inputs, op: Arc::new(Record { op, saved, shapes }) };
    let link = on.push(node, y.shape());
    y.with_link(link)
}

/// [`apply`] for an operation of one input whose forward rule accepts every tensor.
pub(crate) fn apply_total<T: Float, O: Op<T, 1>>(op: O, x: &Tensor<T>) -> Tensor<T> {
    let name = op.name();
    match apply(op, [x]) {
        Ok(y) => y,
        Err(e) => unreachable!("{name} takes every tensor, but said: {e}"),
    }
}

/// The saved tensor that is the output itself keeps a mark of that.
fn mark_output<S: Saved, T: Float>(saved: &mut S, y: &Tensor<T>) {
    saved.visit(&mut |t| {
        if t.is_same(y) && matches!(t.link_mut(), Link::None) {
            *t.link_mut() = Link::Output;
        }
    });
}

/// The tape that the recorded inputs share; `None` if no input is recorded.
#[inline]
fn common_tape<'a, T: Float>(
    op: &'static str,
    x: &[&'a Tensor<T>],
) -> Result<Option<Standing<'a>>> {
    let mut found: Option<Standing<'a>> = None;
    for t in x {
        if let Some(on) = Standing::of(t.link()) {
            match &found {
                None => found = Some(on),
                Some(f) if f.same(&on) => {}
                Some(_) => return Err(Error::TapesMixed { op }),
            }
        }
    }
    Ok(found)
}
