//! An image laid out so that each tap of a convolution's window is a constant offset.
//!
//! Padded coordinate `(r, c)` of a channel stands at `phase(r % sh, c % sw) + (r / sh) * row + c / sw`. With the window's taps at
//! `(ky*dh, kx*dw)` and output pixel `(oy, ox)` reading padded coordinate `(oy*sh + ky*dh, ox*sw + kx*dw)`, the element it reads is
//! at `offset(ky, kx) + oy*row + ox`: stride, dilation and padding are gone, and the convolution is a matrix product whose rows of
//! B are shifted views of one buffer.
//!
//! Without stride along the width, the zeros to the right of a row are also those to the left of the next: a row takes `w +
//! max(left, right)` elements. The gradient of an unpadded 3x3 convolution then has exactly the output's width per row.

use std::array::from_fn;

use super::halves::{self, Halves};
use super::routines::{Routines, Rows};
use super::scratch::{LINE, PHASES, with};
use crate::kernel::simd::{Isa, isa};

/// Elements after the last plane that may be read: a register's worth.
pub(super) const SLACK: usize = 64;

/// Where the elements of a channel's padded image stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planes {
    source: [usize; 2],
    /// Rows and columns at the start of the source that nobody reads.
    skip: [usize; 2],
    /// Height and width of the part that is read.
    inner: [usize; 2],
    /// Zeros before it.
    before: [usize; 2],
    stride: [usize; 2],
    /// Rows of a phase.
    rows: usize,
    /// Distance between the rows of a phase.
    pub row: usize,
    /// Distance between phases.
    phase: usize,
    /// Distance between channels.
    pub channel: usize,
    /// Phases that are read, along the height and along the width: the first one or all.
    wanted: [usize; 2],
    /// Whether this is the source itself.
    pub as_is: bool,
}

impl Planes {
    /// For sources of this size with `pad` rows and columns before and after, negative to crop; what is padded and cropped must
    /// leave at least one row and column.
    pub(super) fn new(source: [usize; 2], pad: [[isize; 2]; 2], stride: [usize; 2]) -> Self {
        let skip: [usize; 2] = from_fn(|i| ((-pad[i][0]).max(0) as usize).min(source[i]));
        let inner: [usize; 2] =
            from_fn(|i| (source[i] - skip[i]).saturating_sub((-pad[i][1]).max(0) as usize));
        let before: [usize; 2] = from_fn(|i| pad[i][0].max(0) as usize);
        let after: [usize; 2] = from_fn(|i| pad[i][1].max(0) as usize);
        let padded: [usize; 2] = from_fn(|i| before[i] + inner[i] + after[i]);
        let rows = padded[0].div_ceil(stride[0]);
        let row = match stride[1] {
            1 => inner[1] + before[1].max(after[1]),
            s => padded[1].div_ceil(s),
        };
        let as_is = pad == [[0; 2]; 2] && stride == [1, 1];
        // The last row's zeros to the right, where there is no next row to share them with.
        let phase = rows * row + padded[1].div_ceil(stride[1]).saturating_sub(row);
        let mut channel = phase * stride[0] * stride[1];
        if !as_is && channel.is_multiple_of(128) {
            // Channels a power of two apart would compete for the same lines of the cache.
            channel += 16;
        }
        let wanted = stride;
        Self { source, skip, inner, before, stride, rows, row, phase, channel, wanted, as_is }
    }

    /// The same for a window of this size: of one with a single tap along an axis, only the first phase is laid out.
    pub(super) fn for_window(self, kernel: [usize; 2]) -> Self {
        Self { wanted: from_fn(|i| if kernel[i] == 1 { 1 } else { self.stride[i] }), ..self }
    }

    /// Where padded coordinate `(r, c)` stands in its channel.
    pub(super) fn at(&self, r: usize, c: usize) -> usize {
        let [sh, sw] = self.stride;
        ((r % sh) * sw + c % sw) * self.phase + (r / sh) * self.row + c / sw
    }

    /// Elements of the buffer for so many channels.
    pub(super) fn len(&self, channels: usize) -> usize {
        channels * self.channel + SLACK
    }

    /// Lays out channels that stand one after another in `src`. All of `dst` is written but the slack.
    pub(super) fn fill<T: crate::kernel::gemm::GemmElement>(
        &self,
        routines: &Routines<T>,
        src: &[T],
        channels: usize,
        dst: &mut [T],
    ) {
        let plane = self.source[0] * self.source[1];
        assert!(src.len() >= channels * plane && dst.len() >= self.len(channels));
        let end = dst.as_mut_ptr_range().end;
        if self.stride == [1, 1] {
            return self.fill_phase(routines, src, [0, 0], channels, dst, end);
        }
        let whole = self.skip == [0, 0] && self.inner == self.source;
        if self.stride[1] == 2 && whole && channels > 0 {
            return with(&LINE, |scratch| {
                let lines = scratch.get::<T>(halves::lines(self.row, routines.lanes)).as_mut_ptr();
                for c in 0..channels {
                    let job = Halves {
                        plane: src[c * plane..].as_ptr(),
                        size: self.source,
                        before: self.before.map(|b| b as isize),
                        stride: self.stride[0],
                        wanted: self.wanted,
                        rows: self.rows,
                        row: self.row,
                        to: dst[c * self.channel..].as_mut_ptr(),
                        phase: self.phase,
                        lines,
                    };
                    // SAFETY: the planes are inside `src` and, with all their phases, inside `dst`, by the assertion. The table was
                    // chosen by a detected instruction set.
                    unsafe { (routines.halves)(&job) };
                }
            });
        }
        for c in 0..channels {
            let (src, dst) = (&src[c * plane..], &mut dst[c * self.channel..]);
            for py in 0..self.stride[0] {
                for px in 0..self.stride[1] {
                    let phase = (py * self.stride[1] + px) * self.phase;
                    self.fill_phase(routines, src, [py, px], 1, &mut dst[phase..], end);
                }
            }
        }
    }

    /// The rows of a phase that hold rows of the source: those in between, and how many lie above.
    fn inner_rows(&self, py: usize) -> (usize, usize) {
        let sh = self.stride[0];
        let first = self.before[0].saturating_sub(py).div_ceil(sh).min(self.rows);
        let last = (self.before[0] + self.inner[0]).saturating_sub(py).div_ceil(sh).min(self.rows);
        (first, last.max(first))
    }

    fn fill_phase<T: crate::kernel::gemm::GemmElement>(
        &self,
        routines: &Routines<T>,
        src: &[T],
        [py, px]: [usize; 2],
        channels: usize,
        dst: &mut [T],
        end: *mut T,
    ) {
        let (first, last) = self.inner_rows(py);
        let (row, width) = (self.row, self.source[1]);
        let source_row =
            |q: usize| (q * self.stride[0] + py - self.before[0] + self.skip[0]) * width;
        if self.stride[1] == 1 {
            let plane = self.source[0] * self.source[1];
            if last == first || self.inner[1] == 0 {
                for c in 0..channels {
                    dst[c * self.channel..][..self.phase].fill(T::ZERO);
                }
                return;
            }
            // Rows are written from their first element up to the next one's: its zeros on the left are this one's on the right.
            let lead = first * row + self.before[1];
            let behind = last * row + self.before[1];
            let (from, step) = (source_row(first) + self.skip[1], self.stride[0] * width);
            if channels == 0 {
                return;
            }
            assert!(
                (channels - 1) * plane + from + (last - first - 1) * step + self.inner[1]
                    <= src.len()
            );
            assert!((channels - 1) * self.channel + self.phase <= dst.len());
            let job = Rows {
                from: src[from..].as_ptr(),
                from_row: step,
                from_plane: plane,
                to: dst[lead..].as_mut_ptr(),
                to_row: row,
                to_plane: self.channel,
                len: self.inner[1],
                count: last - first,
                planes: channels,
                lead,
                tail: self.phase.saturating_sub(behind),
                end,
                end_plane: 0,
            };
            // SAFETY: rows `first..last` hold rows of the source, `inner[1]` elements from `skip[1]` on, inside `src` by the assertion;
            // they are written in ascending order into the mutable `dst`, which reaches to `end`; what is written behind a
            // phase belongs to phases and channels that are written later, or to the slack. The table was chosen by a detected
            // instruction set.
            unsafe { (routines.rows)(&job) };
            return;
        }
        for q in 0..self.rows {
            let to = &mut dst[q * row..(q + 1) * row];
            if q < first || q >= last {
                to.fill(T::ZERO);
                continue;
            }
            let from = &src[source_row(q)..];
            for (i, to) in to.iter_mut().enumerate() {
                let c = i * self.stride[1] + px;
                let inside = c >= self.before[1] && c - self.before[1] < self.inner[1];
                *to = if inside { from[c - self.before[1] + self.skip[1]] } else { T::ZERO };
            }
        }
    }

    /// Lays out one source with its channels innermost: element `(at(r, c)) * channels + channel`. All of `dst` is written but the slack.
    pub(super) fn fill_transposed<T: crate::kernel::gemm::GemmElement>(
        &self,
        routines: &Routines<T>,
        src: &[T],
        channels: usize,
        dst: &mut [T],
    ) {
        let plane = self.source[0] * self.source[1];
        assert!(src.len() >= channels * plane);
        assert!(dst.len() >= self.channel * channels + SLACK);
        let (count, to) = (self.channel, dst.as_mut_ptr());
        if self.as_is {
            // SAFETY: `channels` planes are inside `src`, by the assertion; at most 8 elements behind what is asked for are
            // written, which the slack has room for.
            return unsafe { transpose(isa(), count, src.as_ptr(), plane, channels, to) };
        }
        with(&PHASES, |scratch| {
            let planes = scratch.get::<T>(self.len(channels));
            self.fill(routines, src, channels, planes);
            // SAFETY: as above, for the planes just laid out.
            unsafe { transpose(isa(), count, planes.as_ptr(), self.channel, channels, to) };
        });
    }
}

/// `dst[i * channels + c] = src[i + c * plane]`.
///
/// # Safety
/// The elements named are readable, and `dst` writable with 8 elements more.
pub(super) unsafe fn transpose<T: crate::kernel::gemm::GemmElement>(
    isa: Isa,
    count: usize,
    src: *const T,
    plane: usize,
    channels: usize,
    dst: *mut T,
) {
    use crate::kernel::gemm::pack::pack;
    // SAFETY: the caller's promise; `pack`'s slack is 8 elements.
    unsafe { pack(isa, count, src, 1, plane as isize, channels, channels, dst) }
}
