//! A tensor lent under another link, without counting a reference.
//!
//! An operation sees its inputs marked as its inputs ([`Link::Input`]) and not as the nodes of a tape that they are. To clone them for
//! that would cost two atomic operations each, which is a good part of the time of a small operation.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;

use super::{Link, Tensor};
use crate::element::Element;

/// The elements and the layout of a tensor that is borrowed for `'a`, with another link.
pub(crate) struct Lent<'a, T: Element> {
    tensor: ManuallyDrop<Tensor<T>>,
    owner: PhantomData<&'a Tensor<T>>,
}

impl<'a, T: Element> Lent<'a, T> {
    /// `link` must be no node: nothing would count it back.
    #[inline]
    pub(crate) fn new(x: &'a Tensor<T>, link: Link) -> Self {
        debug_assert!(!link.is_node());
        // SAFETY: `x` is borrowed for as long as this lives, so what the copied fields point to stays alive and is not written; the copies are
        // never dropped (`ManuallyDrop`) and never handed out but by shared reference, so nobody takes them for owners.
        let (storage, layout) = unsafe { (std::ptr::read(&x.storage), std::ptr::read(&x.layout)) };
        Lent { tensor: ManuallyDrop::new(Tensor { storage, layout, link }), owner: PhantomData }
    }
}

impl<T: Element> Deref for Lent<'_, T> {
    type Target = Tensor<T>;
    #[inline]
    fn deref(&self) -> &Tensor<T> {
        &self.tensor
    }
}
