//! The transforms of images: input into what is multiplied, and products into output. Registers hold neighbouring tiles of a row.

use crate::kernel::conv::halves::padded_row;
use crate::kernel::conv::pairs::Pairs;

/// Products of a tile: its patch has 4 by 4 pixels.
pub(super) const POINTS: usize = 16;

/// Channels whose rows are padded before the first of them is transformed: what has just been written is slow to read.
pub(super) const AHEAD: usize = 4;

/// `tiles` of the channels of one image, taken to `points`.
pub(in crate::kernel::conv) struct TilesIn<T> {
    /// The first channel's plane; the others' follow it.
    pub planes: *const T,
    pub channels: usize,
    /// Height and width of a plane.
    pub size: [usize; 2],
    /// Zeros above and to the left of it, or how much is cut off if negative.
    pub before: [isize; 2],
    /// Tiles of a row.
    pub per_row: usize,
    /// The first of them and the one behind the last, counted row by row.
    pub tiles: [usize; 2],
    /// Where the first one's first point goes; the other tiles' follow it.
    pub points: *mut T,
    /// Distance between the points of a tile.
    pub point: usize,
    /// Distance between channels in the points.
    pub channel: usize,
    /// Room for the rows of [`AHEAD`] padded planes that the tiles read, [`line`] elements each.
    pub lines: *mut T,
}

/// Elements of a padded row with so many tiles: whole registers may be read from any tile's start, twice, and written behind the zeros
/// on the right.
pub(super) fn line(per_row: usize, lanes: usize) -> usize {
    2 * per_row + 2 + 4 * lanes
}

/// ```text
/// V = Bᵀ d B,    Bᵀ = ⎡ 1  0 -1  0 ⎤    d: the 4 by 4 pixels that the tile's 2 by 2 pixels of output see
///                     ⎢ 0  1  1  0 ⎥
///                     ⎢ 0 -1  1  0 ⎥
///                     ⎣ 0  1  0 -1 ⎦
/// ```
///
/// # Safety
/// The processor has the instruction set of `V`. The planes are readable, each point's tiles and the lines are writable.
#[inline(always)]
pub(in crate::kernel::conv) unsafe fn input<V: Pairs>(a: &TilesIn<V::Elem>) {
    let [first, end] = a.tiles;
    let (top, bottom) = (first / a.per_row, (end - 1) / a.per_row);
    let line = line(a.per_row, V::LANES);
    let rows = 2 * (bottom - top) + 4;
    let inside = |r: usize| (r as isize - a.before[0]).clamp(0, a.size[0] as isize) as usize;
    let read = inside(2 * top) * a.size[1]..inside(2 * top + rows) * a.size[1];
    let mut c = 0;
    while c < a.channels {
        let ahead = (a.channels - c).min(AHEAD);
        // SAFETY: each of the `ahead` channels has `rows` lines, and is one of those of the caller's promise.
        unsafe {
            for i in 0..ahead {
                let plane = a.planes.add((c + i) * a.size[0] * a.size[1]);
                // A few rows of each plane are too short a run for the processor to foresee.
                let next = plane.wrapping_add(AHEAD * a.size[0] * a.size[1]);
                for at in read.clone().step_by(64 / size_of::<V::Elem>()) {
                    prefetch(next.wrapping_add(at));
                }
                for r in 0..rows {
                    let to = a.lines.add((i * rows + r) * line);
                    let r = (2 * top + r) as isize;
                    padded_row::<V>(plane, a.size, a.before, r, 2 * a.per_row + 2, to);
                }
            }
            for i in 0..ahead {
                let points = a.points.add((c + i) * a.channel);
                channel::<V>(a, a.lines.add(i * rows * line), points);
            }
        }
        c += ahead;
    }
}

/// Asks for a line of memory that will be read; any address will do.
#[inline(always)]
fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program could see, and does not fault.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast())
    };
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// One channel, whose padded rows are at `lines`.
///
/// # Safety
/// As [`input`].
#[inline(always)]
unsafe fn channel<V: Pairs>(a: &TilesIn<V::Elem>, lines: *const V::Elem, points: *mut V::Elem) {
    let [first, end] = a.tiles;
    let line = line(a.per_row, V::LANES);
    let (mut ty, mut tx) = (0, first % a.per_row);
    let mut tile = first;
    // SAFETY: what is read of a line begins at `2 tx <= 2 per_row` and ends within 4 registers. Only the lanes of tiles are written.
    unsafe {
        while tile < end {
            let count = (end - tile).min(a.per_row - tx).min(V::LANES);
            let d = lines.add(2 * ty * line + 2 * tx);
            // Bᵀ d B, first along the rows.
            let mut across = [[V::zero(); 4]; 4];
            for (i, across) in across.iter_mut().enumerate() {
                let d = d.add(i * line);
                let (d0, d1) = V::load(d).split(V::load(d.add(V::LANES)));
                let (d2, d3) = V::load(d.add(2)).split(V::load(d.add(2 + V::LANES)));
                *across = [d0.sub(d2), d1.add(d2), d2.sub(d1), d1.sub(d3)];
            }
            let to = points.add(tile - first);
            let mask = V::mask(count);
            for k in 0..4 {
                let [d0, d1, d2, d3] = [across[0][k], across[1][k], across[2][k], across[3][k]];
                let column = [d0.sub(d2), d1.add(d2), d2.sub(d1), d1.sub(d3)];
                for (i, v) in column.into_iter().enumerate() {
                    let to = to.add((4 * i + k) * a.point);
                    if count == V::LANES { v.store(to) } else { v.store_part(to, mask) }
                }
            }
            tile += count;
            tx += count;
            if tx == a.per_row {
                (ty, tx) = (ty + 1, 0);
            }
        }
    }
}

/// Products of `count` neighbouring tiles of a row, for some channels of output.
pub(in crate::kernel::conv) struct TilesOut<T> {
    pub products: *const T,
    /// Distance between the points of a tile.
    pub point: usize,
    /// Distance between channels.
    pub channel: usize,
    pub channels: usize,
    pub count: usize,
    /// What is added to each channel, or null.
    pub bias: *const T,
    /// Whether ReLU follows.
    pub relu: bool,
    /// The output's upper left pixel.
    pub to: *mut T,
    pub to_row: usize,
    pub to_channel: usize,
    /// Pixels of a row, at most twice the tiles.
    pub width: usize,
    /// Rows, 1 or 2.
    pub height: usize,
}

/// ```text
/// Y = Aᵀ M A,    Aᵀ = ⎡ 1  1  1  0 ⎤
///                     ⎣ 0  1 -1 -1 ⎦
/// ```
///
/// # Safety
/// The processor has the instruction set of `V`. Whole registers of products are readable, `width` by `height` pixels of each channel
/// writable.
#[inline(always)]
pub(in crate::kernel::conv) unsafe fn output<V: Pairs>(a: &TilesOut<V::Elem>) {
    // SAFETY: the caller's promise; of the last register, only the lanes that are pixels are stored.
    unsafe {
        for c in 0..a.channels {
            let bias = if a.bias.is_null() { V::zero() } else { V::splat(*a.bias.add(c)) };
            let mut j = 0;
            while j < a.count {
                let m = a.products.add(c * a.channel + j);
                let mut rows = [[V::zero(); 4]; 2];
                for k in 0..4 {
                    let m = |i: usize| V::load(m.add((4 * i + k) * a.point));
                    let (m1, m2) = (m(1), m(2));
                    rows[0][k] = m(0).add(m1).add(m2);
                    rows[1][k] = m1.sub(m2).sub(m(3));
                }
                let pixels = a.width - 2 * j;
                for (r, [m0, m1, m2, m3]) in rows.into_iter().enumerate().take(a.height) {
                    let even = m0.add(m1).add(m2).add(bias);
                    let odd = m1.sub(m2).sub(m3).add(bias);
                    let (even, odd) = if a.relu { (even.relu(), odd.relu()) } else { (even, odd) };
                    let (low, high) = even.merge(odd);
                    let to = a.to.add(c * a.to_channel + r * a.to_row + 2 * j);
                    if pixels >= 2 * V::LANES {
                        low.store(to);
                        high.store(to.add(V::LANES));
                    } else if pixels > V::LANES {
                        low.store(to);
                        high.store_part(to.add(V::LANES), V::mask(pixels - V::LANES));
                    } else {
                        low.store_part(to, V::mask(pixels));
                    }
                }
                j += V::LANES;
            }
        }
    }
}
