//! The elements of any layout in row-major order, a slice at a time.
//!
//! What an elementwise loop needs to know of a layout is how to get the next few elements as a slice. A [`Source`] finds out once
//! which of five ways that is, and each part of a parallel loop walks it with a [`Reader`] of its own:
//!
//! - dense elements are handed out where they stand, as many as are asked for;
//! - a short pattern that repeats (a scalar, a bias row) is written into a block in the first cache once, and that is handed out;
//! - long rows without gaps are handed out row by row;
//! - long rows of one number each (a column, a channel's bias) are a short piece written once for each row and handed out again and again;
//! - anything else is gathered into the block.

use smallvec::SmallVec;

use super::copy;
use crate::element::Element;
use crate::tensor::{Block, Layout};

/// Elements of the block that a reader gathers into.
pub(super) const BLOCK: usize = 1024;
/// A repeating pattern up to this long is kept in the block.
const PATTERN: usize = 256;
/// Rows at least this long are handed out where they stand.
const LONG_ROW: usize = 64;
/// Elements of the piece of a row of one number.
const PIECE: usize = 256;
/// Elements of a transposed layout from this many on are brought into order first, tile by tile: gathering them row by row would
/// fetch each cache line several times.
const MANY: usize = 1 << 14;

/// The elements that a layout shows of a buffer.
#[derive(Clone, Copy)]
pub(crate) struct View<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) layout: &'a Layout,
}

impl<'a, T: Element> View<'a, T> {
    /// The elements as one slice, if they stand in row-major order.
    #[inline]
    pub(crate) fn dense(&self, len: usize) -> Option<&'a [T]> {
        if len == 0 {
            return Some(&[]);
        }
        self.layout.is_dense().then(|| &self.data[self.layout.offset..self.layout.offset + len])
    }
}

/// One axis: how many steps of how many elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    pub(super) size: usize,
    pub(super) stride: isize,
}

/// The axes of a layout, outermost first, without those of size 1, and with those merged that are one run in memory.
pub(super) fn merged(layout: &Layout) -> SmallVec<[Axis; 6]> {
    let mut axes: SmallVec<[Axis; 6]> = SmallVec::new();
    for (&size, &stride) in layout.shape.iter().zip(&layout.strides) {
        match axes.last_mut() {
            _ if size == 1 => {}
            Some(outer) if outer.stride == stride * size as isize => {
                *outer = Axis { size: outer.size * size, stride };
            }
            _ => axes.push(Axis { size, stride }),
        }
    }
    axes
}

enum Kind<'a, T: Element> {
    Dense(&'a [T]),
    /// Brought into order beforehand.
    Straightened(Block<T>),
    /// The first so many elements, again and again.
    Pattern(usize),
    /// Rows without gaps.
    Rows,
    /// Rows of one number each.
    Constant,
    Gather,
}

/// The elements of a view; at least one.
pub(super) struct Source<'a, T: Element> {
    data: &'a [T],
    offset: usize,
    /// Outermost first; never empty unless the kind is dense.
    axes: SmallVec<[Axis; 6]>,
    kind: Kind<'a, T>,
}

impl<'a, T: Element> Source<'a, T> {
    pub(super) fn new(view: View<'a, T>, len: usize) -> Self {
        let axes = merged(view.layout);
        let kind = if let Some(data) = view.dense(len) {
            Kind::Dense(data)
        } else if len >= MANY && copy::is_transposed(&axes) {
            let mut block = Block::stale(len);
            copy::to_dense(view.data, view.layout, &mut block);
            Kind::Straightened(block)
        } else {
            let period: usize = axes[1..].iter().map(|a| a.size).product();
            let inner = axes[axes.len() - 1];
            if axes[0].stride == 0 && period <= PATTERN {
                Kind::Pattern(period)
            } else if inner.stride == 1 && inner.size >= LONG_ROW {
                Kind::Rows
            } else if inner.stride == 0 && inner.size >= LONG_ROW {
                Kind::Constant
            } else {
                Kind::Gather
            }
        };
        Source { data: view.data, offset: view.layout.offset, axes, kind }
    }

    /// A reader that begins at element `start`.
    pub(super) fn reader(&self, start: usize) -> Reader<'_, T> {
        let mut walk = Walk::new(self, start);
        match &self.kind {
            Kind::Dense(data) => Reader::Dense(&data[start..]),
            Kind::Straightened(block) => Reader::Dense(&block[start..]),
            &Kind::Pattern(period) => {
                let mut block = [T::ZERO; BLOCK];
                let tile = BLOCK / period * period;
                walk = Walk::new(self, 0);
                walk.gather(&mut block[..period]);
                for at in period..tile {
                    block[at] = block[at - period];
                }
                Reader::Pattern { block, tile, period, phase: start % period }
            }
            Kind::Rows => Reader::Rows(walk),
            Kind::Constant => Reader::Constant { walk, filled: None, block: [T::ZERO; PIECE] },
            Kind::Gather => Reader::Gather { walk, block: [T::ZERO; BLOCK] },
        }
    }
}

/// A place in a source, kept as an index per axis so that the next row is found without a division.
pub(super) struct Walk<'a, T> {
    data: &'a [T],
    outer: &'a [Axis],
    row: Axis,
    index: SmallVec<[usize; 6]>,
    /// Where the row begins in the buffer.
    base: isize,
    /// How far into the row.
    column: usize,
}

impl<'a, T: Element> Walk<'a, T> {
    fn new(source: &'a Source<'_, T>, start: usize) -> Self {
        let (outer, row) = match source.axes.split_last() {
            Some((&row, outer)) => (outer, row),
            None => (&source.axes[..], Axis { size: 1, stride: 0 }),
        };
        let mut index: SmallVec<[usize; 6]> = SmallVec::from_elem(0, outer.len());
        let mut base = source.offset as isize;
        let (mut rest, column) = (start / row.size, start % row.size);
        for (i, axis) in index.iter_mut().zip(outer).rev() {
            *i = rest % axis.size;
            rest /= axis.size;
            base += *i as isize * axis.stride;
        }
        Walk { data: source.data, outer, row, index, base, column }
    }

    fn left_in_row(&self) -> usize {
        self.row.size - self.column
    }

    /// Goes on by `n` elements, at most to the end of the row.
    fn advance(&mut self, n: usize) {
        self.column += n;
        if self.column < self.row.size {
            return;
        }
        self.column = 0;
        for (i, axis) in self.index.iter_mut().zip(self.outer).rev() {
            *i += 1;
            self.base += axis.stride;
            if *i < axis.size {
                return;
            }
            self.base -= axis.stride * axis.size as isize;
            *i = 0;
        }
    }

    fn place(&self) -> isize {
        self.base + self.column as isize * self.row.stride
    }

    /// The next `n` elements of a row without gaps.
    fn slice(&mut self, n: usize) -> &'a [T] {
        let at = self.place() as usize;
        self.advance(n);
        &self.data[at..at + n]
    }

    fn gather(&mut self, mut out: &mut [T]) {
        while !out.is_empty() {
            let n = out.len().min(self.left_in_row());
            let (now, rest) = out.split_at_mut(n);
            let at = self.place();
            match self.row.stride {
                0 => now.fill(self.data[at as usize]),
                1 => now.copy_from_slice(&self.data[at as usize..at as usize + n]),
                s if s > 0 => {
                    let from = self.data[at as usize..].iter().step_by(s as usize);
                    now.iter_mut().zip(from).for_each(|(o, &v)| *o = v);
                }
                s => {
                    for (i, o) in now.iter_mut().enumerate() {
                        *o = self.data[(at + i as isize * s) as usize];
                    }
                }
            }
            self.advance(n);
            out = rest;
        }
    }
}

/// Reads a source from some place on.
#[allow(clippy::large_enum_variant)] // lives on the stack for the time of one loop
pub(super) enum Reader<'a, T> {
    Dense(&'a [T]),
    Pattern {
        block: [T; BLOCK],
        tile: usize,
        period: usize,
        phase: usize,
    },
    Rows(Walk<'a, T>),
    /// `filled` is the place whose number the block holds.
    Constant {
        walk: Walk<'a, T>,
        filled: Option<isize>,
        block: [T; PIECE],
    },
    Gather {
        walk: Walk<'a, T>,
        block: [T; BLOCK],
    },
}

impl<T: Element> Reader<'_, T> {
    /// How many of `n` elements the next [`take`](Self::take) can give.
    #[inline]
    pub(super) fn limit(&self, n: usize) -> usize {
        match self {
            Reader::Dense(_) => n,
            Reader::Pattern { tile, phase, .. } => n.min(tile - phase),
            Reader::Rows(walk) => n.min(walk.left_in_row()),
            Reader::Constant { walk, .. } => n.min(walk.left_in_row()).min(PIECE),
            Reader::Gather { .. } => n.min(BLOCK),
        }
    }

    /// The next `n` elements.
    #[inline]
    pub(super) fn take(&mut self, n: usize) -> &[T] {
        match self {
            Reader::Dense(data) => {
                let (now, rest) = data.split_at(n);
                *data = rest;
                now
            }
            Reader::Pattern { block, period, phase, .. } => {
                let at = *phase;
                *phase = (at + n) % *period;
                &block[at..at + n]
            }
            Reader::Rows(walk) => walk.slice(n),
            Reader::Constant { walk, filled, block } => {
                if *filled != Some(walk.base) {
                    *filled = Some(walk.base);
                    block.fill(walk.data[walk.base as usize]);
                }
                walk.advance(n);
                &block[..n]
            }
            Reader::Gather { walk, block } => {
                walk.gather(&mut block[..n]);
                &block[..n]
            }
        }
    }
}
