//! Keys and values of the positions so far, for decoding step by step.

use crate::error::{Error, Result};
use crate::float::Float;
use crate::tensor::Tensor;

/// The keys and values of the positions that an attention layer has seen, so that the next step computes those of new positions alone
/// ([`MultiHeadAttention::continued`](super::MultiHeadAttention::continued)). One for each layer and sequence (or batch of sequences).
///
/// Room doubles when it runs out, so a step copies what it adds and nothing else.
#[derive(Clone, Debug)]
pub struct KvCache<T: Float = f32> {
    /// Keys and values: \[batch, heads, room, d\].
    stored: Option<(Tensor<T>, Tensor<T>)>,
    len: usize,
    /// Room to begin with.
    capacity: usize,
}

impl<T: Float> Default for KvCache<T> {
    fn default() -> Self {
        KvCache { stored: None, len: 0, capacity: 0 }
    }
}

impl<T: Float> KvCache<T> {
    /// An empty one.
    pub fn new() -> Self {
        KvCache::default()
    }

    /// An empty one that makes room for so many positions at once, if that is how long the sequence will be: it then neither grows nor copies.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::{KvCache, MultiHeadAttention};
    /// let mha: MultiHeadAttention = MultiHeadAttention::new(8, 2).build(&mut gradus::rng(0))?;
    /// let mut cache = KvCache::with_capacity(96);
    /// mha.continued(&Tensor::ones([1, 32, 8])?, &mut cache)?;
    /// assert_eq!(cache.len(), 32);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn with_capacity(positions: usize) -> Self {
        KvCache { capacity: positions, ..KvCache::default() }
    }

    /// The number of positions in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all positions, and may then take another batch.
    pub fn clear(&mut self) {
        *self = KvCache::with_capacity(self.capacity);
    }

    /// Forgets the positions from `len` on, to go another way from there. Nothing happens if there are no more than that.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Appends keys and values \[batch, heads, n, d\] and returns all there are, as views.
    pub(super) fn extend(
        &mut self,
        keys: &Tensor<T>,
        values: &Tensor<T>,
    ) -> Result<(Tensor<T>, Tensor<T>)> {
        let n = keys.shape()[2];
        let end = self.len + n;
        let (mut k, mut v) = match self.stored.take() {
            Some(stored) => stored,
            None => (room_for(keys, self.capacity)?, room_for(values, self.capacity)?),
        };
        let fits = |old: &Tensor<T>, new: &Tensor<T>| {
            old.shape()[..2] == new.shape()[..2] && old.shape()[3] == new.shape()[3]
        };
        if !(fits(&k, keys) && fits(&v, values)) {
            let (have, got) = (k.shape().to_vec(), keys.shape().to_vec());
            self.stored = Some((k, v));
            return Err(Error::shape(
                "KvCache",
                format!(
                    "keys of shape {got:?} do not continue those of {:?} (batch, heads, positions, width); clear() starts anew",
                    [have[0], have[1], self.len, have[3]]
                ),
            ));
        }
        if end > k.shape()[2] {
            let room = end.max(2 * k.shape()[2]).max(16);
            k = grown(&k, self.len, room)?;
            v = grown(&v, self.len, room)?;
        }
        put(&mut k, self.len, keys);
        put(&mut v, self.len, values);
        self.len = end;
        let views = (k.narrow(2, 0, end)?, v.narrow(2, 0, end)?);
        self.stored = Some((k, v));
        Ok(views)
    }
}

/// The keys and values of a memory that an attention layer looks at in every step: computed at the first, and again when another memory comes. It is
/// of one layer as it is now: start a new one when the parameters have changed.
#[derive(Clone, Debug)]
pub struct MemoryCache<T: Float = f32> {
    /// The memory, held so that its buffer stays its own, and its keys and values: \[batch, heads, positions, d\].
    known: Option<[Tensor<T>; 3]>,
}

impl<T: Float> Default for MemoryCache<T> {
    fn default() -> Self {
        MemoryCache { known: None }
    }
}

impl<T: Float> MemoryCache<T> {
    /// An empty one.
    pub fn new() -> Self {
        MemoryCache::default()
    }

    /// The keys and values of this memory; `project` computes them if they are not known.
    pub(super) fn of(
        &mut self,
        memory: &Tensor<T>,
        project: impl FnOnce() -> Result<(Tensor<T>, Tensor<T>)>,
    ) -> Result<(Tensor<T>, Tensor<T>)> {
        if let Some([known, k, v]) = &self.known
            && known.same(memory)
        {
            return Ok((k.clone(), v.clone()));
        }
        let (k, v) = project()?;
        self.known = Some([memory.detach(), k.clone(), v.clone()]);
        Ok((k, v))
    }
}

/// Zeros for `room` positions like these.
fn room_for<T: Float>(like: &Tensor<T>, room: usize) -> Result<Tensor<T>> {
    let s = like.shape();
    Tensor::zeros([s[0], s[1], room, s[3]])
}

fn grown<T: Float>(old: &Tensor<T>, len: usize, room: usize) -> Result<Tensor<T>> {
    let mut new = room_for(old, room)?;
    put(&mut new, 0, &old.narrow(2, 0, len)?);
    Ok(new)
}

/// Writes positions from `start` on.
fn put<T: Float>(to: &mut Tensor<T>, start: usize, from: &Tensor<T>) {
    let [_, _, room, d] = *to.shape() else { return };
    let (n, from) = (from.shape()[2], from.dense());
    if n * d == 0 {
        return;
    }
    let (to, from) = (to.make_mut(), from.as_slice().unwrap_or(&[]));
    for (to, from) in to.chunks_exact_mut(room * d).zip(from.chunks_exact(n * d)) {
        to[start * d..(start + n) * d].copy_from_slice(from);
    }
}
