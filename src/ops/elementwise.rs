//! From tensors to the elementwise loops and back: shapes, views, and whose buffer is written.

use crate::element::Element;
use crate::error::Result;
use crate::kernel::map::{self, Map, View, Zip, Zip3};
use crate::tensor::{Link, Tensor, broadcast};

pub(crate) fn view<T: Element>(x: &Tensor<T>) -> View<'_, T> {
    View { data: x.buffer(), layout: x.layout() }
}

/// `f(x)` at each place. Not recorded, as everything here.
pub(crate) fn map<A: Element, O: Element>(f: impl Map<A, O>, x: &Tensor<A>) -> Tensor<O> {
    Tensor::build(x.shape(), |out| map::map(f, view(x), out))
}

/// [`map`](fn@map) in the buffer of `x` where nobody else holds it.
pub(crate) fn map_owned<T: Element>(f: impl Map<T, T>, mut x: Tensor<T>) -> Tensor<T> {
    match x.unique_dense() {
        Some(values) => map::map_assign(f, values),
        None => x = map(f, &x),
    }
    x.with_link(Link::None)
}

/// `f(a, b)` at each place of the shape that both broadcast to.
pub(crate) fn zip<A: Element, B: Element, O: Element>(
    op: &'static str,
    f: impl Zip<A, B, O>,
    a: &Tensor<A>,
    b: &Tensor<B>,
) -> Result<Tensor<O>> {
    if a.shape() == b.shape() {
        return Ok(Tensor::build(a.shape(), |out| map::zip(f, view(a), view(b), out)));
    }
    let shape = broadcast(op, a.shape(), b.shape())?;
    let (la, lb) = (a.layout().expand(&shape), b.layout().expand(&shape));
    Tensor::try_build(op, &shape, |out| {
        let (a, b) =
            (View { data: a.buffer(), layout: &la }, View { data: b.buffer(), layout: &lb });
        map::zip(f, a, b, out);
    })
}

/// `a = f(a, b)` if nobody else holds the elements of `a` and the shape stays; whether that was so.
pub(crate) fn zip_assign<A: Element, B: Element>(
    op: &'static str,
    f: impl Zip<A, B, A>,
    a: &mut Tensor<A>,
    b: &Tensor<B>,
) -> Result<bool> {
    if a.shape() == b.shape() {
        let Some(values) = a.unique_dense() else { return Ok(false) };
        map::zip_assign(f, values, view(b));
        return Ok(true);
    }
    if broadcast(op, a.shape(), b.shape())?[..] != *a.shape() {
        return Ok(false);
    }
    let layout = b.layout().expand(a.shape());
    let Some(values) = a.unique_dense() else { return Ok(false) };
    map::zip_assign(f, values, View { data: b.buffer(), layout: &layout });
    Ok(true)
}

/// [`zip`](fn@zip) in the buffer of `a` where nobody else holds it and the shape stays.
pub(crate) fn zip_owned<A: Element, B: Element>(
    op: &'static str,
    f: impl Zip<A, B, A>,
    mut a: Tensor<A>,
    b: &Tensor<B>,
) -> Result<Tensor<A>> {
    if zip_assign(op, f, &mut a, b)? { Ok(a.with_link(Link::None)) } else { zip(op, f, &a, b) }
}

/// `f(a, b, c)` at each place of the shape that all broadcast to.
pub(crate) fn zip3<A: Element, B: Element, C: Element, O: Element>(
    op: &'static str,
    f: impl Zip3<A, B, C, O>,
    a: &Tensor<A>,
    b: &Tensor<B>,
    c: &Tensor<C>,
) -> Result<Tensor<O>> {
    if a.shape() == b.shape() && b.shape() == c.shape() {
        return Ok(Tensor::build(a.shape(), |out| map::zip3(f, view(a), view(b), view(c), out)));
    }
    let shape = broadcast(op, &broadcast(op, a.shape(), b.shape())?, c.shape())?;
    let (la, lb, lc) =
        (a.layout().expand(&shape), b.layout().expand(&shape), c.layout().expand(&shape));
    Tensor::try_build(op, &shape, |out| {
        map::zip3(
            f,
            View { data: a.buffer(), layout: &la },
            View { data: b.buffer(), layout: &lb },
            View { data: c.buffer(), layout: &lc },
            out,
        );
    })
}

/// The result of an operation that refuses nothing.
pub(crate) fn infallible<T: Element>(op: &'static str, y: Result<Tensor<T>>) -> Tensor<T> {
    match y {
        Ok(y) => y,
        Err(e) => unreachable!("{op} takes every tensor, but said: {e}"),
    }
}
