//! A run of elements in pooled memory, and the storage that tensors share.
#![allow(unsafe_code)]

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use super::pool;
use crate::element::{DType, Element};

/// `len` elements, 64-byte aligned, taken from the pool and given back on drop.
pub(crate) struct Block<T: Element> {
    ptr: NonNull<T>,
    len: usize,
    class: usize,
}

// SAFETY: a block owns its memory alone, like a Vec, and `T` is `Send + Sync` plain data.
unsafe impl<T: Element> Send for Block<T> {}
// SAFETY: as above; shared access only reads.
unsafe impl<T: Element> Sync for Block<T> {}

impl<T: Element> Block<T> {
    /// Elements with unspecified values; whoever takes them writes all of them before anyone reads.
    /// `None` when the memory is not to be had.
    pub(crate) fn try_stale(len: usize) -> Option<Self> {
        if len == 0 {
            return Some(Block { ptr: NonNull::dangling(), len: 0, class: 0 });
        }
        let bytes = len.checked_mul(size_of::<T>())?;
        let (ptr, class) = pool::take(bytes)?;
        let ptr = ptr.cast::<T>();
        if T::DTYPE == DType::Bool {
            // SAFETY: the block has at least `bytes` bytes; a recycled byte may be no valid bool, so all become false.
            unsafe { std::ptr::write_bytes(ptr.as_ptr(), 0, len) };
        }
        let block = Block { ptr, len, class };
        #[cfg(debug_assertions)]
        let block = {
            let mut block = block;
            // A kernel that reads what it should only write is caught by this in debug builds.
            if T::DTYPE == DType::F32 || T::DTYPE == DType::F64 {
                block.fill(T::from_scalar(crate::element::Scalar::F64(f64::NAN)));
            }
            block
        };
        Some(block)
    }

    /// Like [`try_stale`](Self::try_stale), for sizes that exist already in some other tensor.
    pub(crate) fn stale(len: usize) -> Self {
        Self::try_stale(len).unwrap_or_else(|| {
            let bytes = len.saturating_mul(size_of::<T>()).min(isize::MAX as usize / 2);
            match std::alloc::Layout::from_size_align(bytes.max(1), pool::ALIGN) {
                Ok(layout) => std::alloc::handle_alloc_error(layout),
                Err(_) => panic!("out of memory: {len} elements"),
            }
        })
    }

    pub(crate) fn from_slice(data: &[T]) -> Self {
        let mut b = Self::stale(data.len());
        b.copy_from_slice(data);
        b
    }
}

impl<T: Element> Drop for Block<T> {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: `ptr` and `class` come from one `take`, and the block is its only owner.
            unsafe { pool::give(self.ptr.cast(), self.class) }
        }
    }
}

impl<T: Element> Deref for Block<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `ptr` is valid for `len` elements, and the pool's memory is always initialised; every bit pattern
        // is a valid number, and bools were cleared when the block was taken.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl<T: Element> DerefMut for Block<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

/// Where a tensor's elements are. An accelerator becomes a second variant.
#[derive(Clone)]
pub(crate) enum Storage<T: Element> {
    Cpu(Arc<Block<T>>),
}

impl<T: Element> Storage<T> {
    pub(crate) fn slice(&self) -> &[T] {
        match self {
            Storage::Cpu(b) => b,
        }
    }

    /// The elements for writing, if nobody else holds them.
    pub(crate) fn unique(&mut self) -> Option<&mut [T]> {
        match self {
            Storage::Cpu(b) => Arc::get_mut(b).map(|b| &mut **b),
        }
    }

    /// Whether both are the same memory.
    pub(crate) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Storage::Cpu(a), Storage::Cpu(b)) => Arc::ptr_eq(a, b),
        }
    }
}

impl<T: Element> From<Block<T>> for Storage<T> {
    fn from(b: Block<T>) -> Self {
        Storage::Cpu(Arc::new(b))
    }
}
