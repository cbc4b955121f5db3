//! The tensor: shared elements, a layout that says how indices map to them, and perhaps a place on a tape.
//!
//! A [`Tensor`] is cheap to clone (a reference count and some integers). Views, such as a transpose or a slice, share the elements
//! of what they view and change only the layout. An in-place edit copies first if anyone else holds the
//! elements, so no alias ever sees it.

mod block;
mod create;
mod display;
mod huge;
mod layout;
mod lent;
mod link;
mod peak;
mod pool;
mod read;
mod shape_arg;

pub(crate) use block::{Block, Storage};
pub use layout::Dims;
pub(crate) use layout::{Layout, axis, broadcast, numel, short};
pub(crate) use lent::Lent;
pub(crate) use link::Link;
pub(crate) use peak::PeakWatch;
pub use pool::{MemoryStats, clear_cache, stats};
pub use read::Iter;
pub use shape_arg::{IntoAxes, IntoReshape, IntoShape};

use crate::element::{DType, Element};
use crate::kernel;

/// An array of any rank, of elements of type `T`.
///
/// ```
/// use gradus::prelude::*;
/// let x: Tensor = Tensor::from([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
/// assert_eq!(x.shape(), [2, 3]);
/// let t = x.t()?;                       // a view: no element is copied
/// assert_eq!(t.to_vec(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct Tensor<T: Element = f32> {
    storage: Storage<T>,
    layout: Layout,
    link: Link,
}

impl<T: Element> Tensor<T> {
    /// A dense tensor over a filled block; the caller vouches that the lengths agree.
    pub(crate) fn from_block(block: Block<T>, shape: &[usize]) -> Self {
        debug_assert_eq!(block.len(), shape.iter().product::<usize>());
        Tensor { storage: block.into(), layout: Layout::dense(shape), link: Link::None }
    }

    /// A dense tensor whose elements `fill` writes, all of them: they start out as anything.
    pub(crate) fn build(shape: &[usize], fill: impl FnOnce(&mut [T])) -> Self {
        let mut block = Block::stale(shape.iter().product());
        fill(&mut block);
        Self::from_block(block, shape)
    }

    /// The same elements under another layout, whose every index the caller knows to be inside the buffer. Not on any tape.
    pub(crate) fn with_layout(&self, layout: Layout) -> Self {
        debug_assert!(layout.bounds().is_none_or(|(_, hi)| hi < self.storage.slice().len()));
        Tensor { storage: self.storage.clone(), layout, link: Link::None }
    }

    pub(crate) fn with_link(mut self, link: Link) -> Self {
        self.link = link;
        self
    }

    pub(crate) fn link_slot(&mut self) -> &mut Link {
        &mut self.link
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The whole buffer, to be read through the layout.
    pub(crate) fn buffer(&self) -> &[T] {
        self.storage.slice()
    }

    /// Whether this and `other` are the same elements under the same layout, and stand in the same place on the tape.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.same(other) && self.link.same(&other.link)
    }

    /// Whether this and `other` are the same elements under the same layout.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.storage.same(&other.storage) && self.layout == other.layout
    }

    /// The size of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.layout.shape
    }

    /// The step of each axis in the buffer, in elements: 0 along an expanded axis, negative along a flipped one.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::zeros([2, 3])?;
    /// assert_eq!((x.strides(), x.t()?.strides()), (&[3, 1][..], &[1, 3][..]));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn strides(&self) -> &[isize] {
        &self.layout.strides
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.layout.rank()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.layout.len()
    }

    /// Whether there are no elements, because some axis has size 0.
    pub fn is_empty(&self) -> bool {
        self.shape().contains(&0)
    }

    /// The name of the element type.
    pub fn dtype(&self) -> DType {
        T::DTYPE
    }

    /// The elements in row-major order, if they stand so in memory. Every operation takes any layout;
    /// this is for code of your own that wants a slice.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::from([[1.0, 2.0], [3.0, 4.0]]);
    /// assert_eq!(x.as_slice(), Some(&[1.0, 2.0, 3.0, 4.0][..]));
    /// assert_eq!(x.t()?.as_slice(), None);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn as_slice(&self) -> Option<&[T]> {
        let n = self.len();
        if n == 0 {
            return Some(&[]);
        }
        self.layout.is_dense().then(|| &self.buffer()[self.layout.offset..self.layout.offset + n])
    }

    /// The elements in row-major order, for editing. Copies first if the elements are shared or strided, so
    /// no other tensor sees the edit. The result is not on any tape.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let mut x: Tensor = Tensor::zeros([3])?;
    /// let before = x.clone();
    /// x.make_mut()[1] = 5.0;
    /// assert_eq!((x.to_vec(), before.to_vec()), (vec![0.0, 5.0, 0.0], vec![0.0; 3]));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn make_mut(&mut self) -> &mut [T] {
        let n = self.len();
        if !(self.layout.is_dense() && self.storage.unique().is_some()) {
            *self = self.copy();
        }
        self.link = Link::None;
        let at = if n == 0 { 0 } else { self.layout.offset };
        // Either it was unique or `copy` has just made it so.
        self.storage.unique().map_or(&mut [], |s| &mut s[at..at + n])
    }

    /// The elements for writing over, if this tensor alone holds them and they are dense: an output buffer for free.
    pub(crate) fn unique_dense(&mut self) -> Option<&mut [T]> {
        if !self.layout.is_dense() {
            return None;
        }
        let (n, at) = (self.len(), self.layout.offset);
        self.storage.unique().map(|s| if n == 0 { &mut s[..0] } else { &mut s[at..at + n] })
    }

    /// A dense copy in a buffer of its own, not on any tape.
    pub(crate) fn copy(&self) -> Self {
        Self::build(self.shape(), |out| kernel::copy::to_dense(self.buffer(), &self.layout, out))
    }

    /// This tensor if it is dense, else a dense copy. Not on any tape.
    pub(crate) fn dense(&self) -> Self {
        if self.layout.is_dense() { self.detach() } else { self.copy() }
    }

    /// The elements in row-major order: where they do not stand so, those of a copy that is put in `copy`.
    pub(crate) fn elements<'a>(&'a self, copy: &'a mut Option<Self>) -> &'a [T] {
        let dense = if self.layout.is_dense() { self } else { copy.insert(self.copy()) };
        dense.as_slice().unwrap_or(&[])
    }

    /// The same elements, not on any tape: gradients stop here.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let tape = Tape::new(0);
    /// let x = tape.leaf(&Tensor::from([3.0]));
    /// let y = (&x * &x.detach()).sum();           // x is a constant in the second factor
    /// assert_eq!(y.backward()?.wrt(&x).unwrap().to_vec(), [3.0]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn detach(&self) -> Self {
        Tensor { storage: self.storage.clone(), layout: self.layout.clone(), link: Link::None }
    }

    /// Whether a tape records what is computed from this tensor.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x = Tensor::from([1.0f32]);
    /// let leaf = Tape::new(0).leaf(&x);
    /// assert!((&leaf * 2.0).is_recorded() && !(&x * 2.0).is_recorded());
    /// ```
    pub fn is_recorded(&self) -> bool {
        self.link.is_node()
    }
}

impl<T: Element> Tensor<T> {
    /// Other values (in row-major order) in a buffer of the same size under the same layout. Indices that share a place,
    /// as in an expanded tensor, would overwrite each other, so such a tensor becomes dense.
    pub(crate) fn with_values(&self, values: &[T]) -> Self {
        let overlapping =
            self.layout.strides.iter().zip(self.shape()).any(|(&s, &d)| s == 0 && d > 1);
        if overlapping || self.is_empty() {
            return Self::from_block(Block::from_slice(values), self.shape());
        }
        let mut block = Block::from_slice(self.buffer());
        for (p, &v) in self.layout.offsets().zip(values) {
            block[p] = v;
        }
        Tensor { storage: block.into(), layout: self.layout.clone(), link: Link::None }
    }
}
