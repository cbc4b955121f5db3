//! The gradient of the weight, whose sums run over tiles.
//!
//! ```text
//! dM = Σ (A g Aᵀ) · (Bᵀ d B)    over tiles, elementwise: 16 matrix products of output by input channels
//! dw = Gᵀ dM G
//! ```
//!
//! Both factors of a block of tiles are laid out with channels innermost; the products go through [`gemm`](crate::kernel::gemm) and are added
//! to those of the blocks before.

use std::array::from_fn;
use std::ops::Range;

use super::pixels::Pixels;
use super::tiles::POINTS;
use super::{Conv, suits};
use crate::float::Float;
use crate::kernel::conv::planes::transpose;
use crate::kernel::conv::routines::Routines;
use crate::kernel::conv::scratch::{FACTORS, PLANES, with};
use crate::kernel::gemm::{Batch, Epilogue, MatRef, gemm_batched};
use crate::kernel::par::{self, SyncPtr};
use crate::kernel::simd::{Kernel, dispatch, isa};
use crate::tensor::Block;

/// Bytes of both factors of a block of tiles: most of a second-level cache.
const BLOCK: usize = 3 << 19;
/// Bytes of a piece of an image and its gradient: half of a small second-level cache.
const PIECE: usize = 256 << 10;
/// Groups of images with sums of their own, one for each thread at least.
const PARTS: usize = 8;
/// Bytes of all of their sums; where there would be more, threads share the work on each block instead.
const SUMS: usize = 8 << 20;

/// Some rows of tiles of one image.
struct Piece {
    image: usize,
    /// The first row of tiles and the one behind the last.
    rows: [usize; 2],
    /// How many tiles of its block come before.
    at: usize,
}

struct Job<'a, T: Float> {
    c: &'a Conv,
    /// Tiles below and beside each other.
    tiles: [usize; 2],
    /// Distance between tiles in the factors, in elements: input and output channels, rounded up, and not a power of two.
    steps: [usize; 2],
    routines: &'static Routines<T>,
}

/// Writes the gradient if this is the way to compute it, else returns `false`.
pub(in crate::kernel::conv) fn weight_grad<T: Float>(
    c: &Conv,
    x: &[T],
    g: &[T],
    dw: &mut [T],
) -> bool {
    if !suits(c, c.output()) {
        return false;
    }
    let routines = T::routines(isa());
    let step = |channels: usize| channels.next_multiple_of(routines.lanes) + 16;
    let tiles = c.output().map(|n| n.div_ceil(2));
    let job = Job { c, tiles, steps: [step(c.c_in), step(c.c_out)], routines };
    let each = POINTS * c.c_out * c.c_in;
    let apart = c.batch >= PARTS && PARTS * each * size_of::<T>() <= SUMS;
    let parts = if apart { PARTS } else { 1 };
    // One block of tiles keeps its factors, so that the sums of some output channels after the others' do.
    let one = !apart && job.blocks(0..c.batch).len() == 1;
    let most = if one { (SUMS / 2 / (POINTS * c.c_in * size_of::<T>())).max(1) } else { c.c_out };
    let mut sums = Block::<T>::stale(parts * POINTS * most.min(c.c_out) * c.c_in);
    for (group, dw) in dw.chunks_exact_mut(9 * c.c_out * c.c_in).enumerate() {
        if one {
            job.one_block(x, g, group, most, &mut sums, dw);
            continue;
        }
        let flop = c.batch as f64 * c.unit_flop() / (2.25 * parts as f64);
        let ns = flop / T::family(isa()).rate / each as f64;
        par::for_each_chunk_mut(&mut sums, each, ns, |part, sums| {
            let images = c.batch * part / parts..c.batch * (part + 1) / parts;
            job.part(x, g, group, images, sums);
        });
        narrow_rows(c, &sums, c.c_out * c.c_in, parts, dw);
    }
    true
}

/// `dw = Gᵀ dM G` of some output channels, from the sums of `parts`, whose points are `point` apart.
fn narrow_rows<T: Float>(c: &Conv, sums: &[T], point: usize, parts: usize, dw: &mut [T]) {
    par::for_each_chunk_mut(dw, 9 * c.c_in, parts as f64, |row, to| {
        dispatch(Narrow { sums: &sums[row * c.c_in..], point, parts, to });
    });
}

impl<T: Float> Job<'_, T> {
    /// Writes the gradient of a group whose tiles are one block, `most` output channels at a time.
    fn one_block(&self, x: &[T], g: &[T], group: usize, most: usize, sums: &mut [T], dw: &mut [T]) {
        let c = self.c;
        let blocks = self.blocks(0..c.batch);
        let count = self.count(&blocks[0]);
        with(&FACTORS, |scratch| {
            let [first, second] = self.steps.map(|step| POINTS * count * step);
            let (v, u) = scratch.get::<T>(first + second).split_at_mut(first);
            self.transform(x, g, group, &blocks[0], count, [&mut *v, &mut *u]);
            for (i, dw) in dw.chunks_mut(most * 9 * c.c_in).enumerate() {
                let rows = dw.len() / (9 * c.c_in);
                self.multiply(count, [v, &u[i * most..]], rows, sums, false);
                narrow_rows(c, sums, rows * c.c_in, 1, dw);
            }
        });
    }

    /// The products of both factors, for so many output channels.
    fn multiply(&self, count: usize, [v, u]: [&[T]; 2], rows: usize, sums: &mut [T], add: bool) {
        let batch = Batch {
            count: POINTS,
            a: (count * self.steps[1]) as isize,
            b: (count * self.steps[0]) as isize,
            c: rows * self.c.c_in,
        };
        let (a, b) = (MatRef::cols(u, self.steps[1]), MatRef::rows(v, self.steps[0]));
        let n = self.c.c_in;
        gemm_batched(batch, rows, count, n, a, b, sums, n, add, Epilogue::NONE);
    }

    /// Writes the products' sums over some images.
    fn part(&self, x: &[T], g: &[T], group: usize, images: Range<usize>, sums: &mut [T]) {
        let c = self.c;
        let blocks = self.blocks(images);
        let most = blocks.iter().map(|b| self.count(b)).max().unwrap_or(0);
        // Each thread keeps its own: how many are in use at a time is a matter of chance.
        with(&FACTORS, |scratch| {
            let [first, second] = self.steps.map(|step| POINTS * most * step);
            let (v, u) = scratch.get::<T>(first + second).split_at_mut(first);
            for (i, block) in blocks.iter().enumerate() {
                let count = self.count(block);
                self.transform(x, g, group, block, count, [&mut *v, &mut *u]);
                self.multiply(count, [v, u], c.c_out, sums, i > 0);
            }
        });
    }

    /// All pieces of some images, in blocks.
    fn blocks(&self, images: Range<usize>) -> Vec<Vec<Piece>> {
        let per_tile = POINTS * (self.steps[0] + self.steps[1]) * size_of::<T>();
        // What does not fit the cache anyway is made so long that the sums are not the greater part of what is moved.
        let balance = 2 * self.c.c_in * self.c.c_out / (self.c.c_in + self.c.c_out);
        let most = (BLOCK / per_tile).max(balance);
        let row = (self.c.c_in * self.c.input[1] + self.c.c_out * self.c.output()[1]) * 2;
        let rows = (PIECE / (row * size_of::<T>()).max(1)).clamp(1, self.tiles[0]);
        let rows = rows.min((most / self.tiles[1]).max(1));
        let mut blocks = vec![Vec::new()];
        let mut at = 0;
        for image in images {
            for first in (0..self.tiles[0]).step_by(rows) {
                let end = self.tiles[0].min(first + rows);
                let count = (end - first) * self.tiles[1];
                if at + count > most && at > 0 {
                    blocks.push(Vec::new());
                    at = 0;
                }
                if let Some(block) = blocks.last_mut() {
                    block.push(Piece { image, rows: [first, end], at });
                }
                at += count;
            }
        }
        blocks
    }

    /// Tiles of a block.
    fn count(&self, block: &[Piece]) -> usize {
        block.last().map_or(0, |p| p.at + (p.rows[1] - p.rows[0]) * self.tiles[1])
    }

    /// Both factors of a block: element `(point, tile, channel)`.
    fn transform(
        &self,
        x: &[T],
        g: &[T],
        group: usize,
        block: &[Piece],
        count: usize,
        [v, u]: [&mut [T]; 2],
    ) {
        let (c, [h, w], [oh, ow]) = (self.c, self.c.input, self.c.output());
        let points = self.steps.map(|step| count * step);
        assert!(v.len() >= POINTS * points[0] && u.len() >= POINTS * points[1]);
        let (v, u) = (SyncPtr(v.as_mut_ptr()), SyncPtr(u.as_mut_ptr()));
        let ns = (self.steps[0] + self.steps[1]) as f64 * 4.0 * count as f64 / block.len() as f64;
        par::for_each(block.len(), ns, |i| {
            let p = &block[i];
            let unit = p.image * c.groups + group;
            let x = &x[unit * c.c_in * h * w..(unit + 1) * c.c_in * h * w];
            let g = &g[unit * c.c_out * oh * ow..(unit + 1) * c.c_out * oh * ow];
            let top = 2 * p.rows[0];
            let before = [c.pad[0][0] as isize, c.pad[1][0] as isize];
            let input = View {
                size: [h, w],
                channels: c.c_in,
                before,
                rows: [top as isize - before[0], (2 * p.rows[1] + 2) as isize - before[0]]
                    .map(|r| r.clamp(0, h as isize) as usize),
            };
            let output = View {
                size: [oh, ow],
                channels: c.c_out,
                before: [0; 2],
                rows: [top, (2 * p.rows[1]).min(oh)],
            };
            with(&PLANES, |scratch| {
                let room = [&input, &output].map(|view| view.len(self.routines.lanes));
                let (d, e) = scratch.get::<T>(room[0] + room[1]).split_at_mut(room[0]);
                input.lay_out(x, d);
                output.lay_out(g, e);
                let mut tile = p.at;
                for ty in p.rows[0]..p.rows[1] {
                    let rows = (input.places(0, 2 * ty), output.places(0, 2 * ty));
                    for tx in 0..self.tiles[1] {
                        let columns = (input.places(1, 2 * tx), output.places(1, 2 * tx));
                        let (v, u) = (v.get(), u.get());
                        // SAFETY: pixels are inside what was laid out, a register behind them inside the room; tiles belong to one
                        // piece, and a register behind a tile's channels is inside its step.
                        unsafe {
                            (self.routines.winograd_patch)(&Pixels {
                                from: input.pixels::<T, 4, 16>(d, &rows.0, &columns.0),
                                channels: c.c_in,
                                to: v.add(tile * self.steps[0]),
                                point: points[0],
                            });
                            (self.routines.winograd_square)(&Pixels {
                                from: output.pixels::<T, 2, 4>(e, &rows.1, &columns.1),
                                channels: c.c_out,
                                to: u.add(tile * self.steps[1]),
                                point: points[1],
                            });
                        }
                        tile += 1;
                    }
                }
            });
        });
    }
}

/// Some rows of an image, pixel by pixel with its channels innermost, and behind them a pixel of zeros.
struct View {
    size: [usize; 2],
    channels: usize,
    /// Zeros above the image and to its left.
    before: [isize; 2],
    rows: [usize; 2],
}

impl View {
    /// Pixels that are laid out.
    fn count(&self) -> usize {
        (self.rows[1].max(self.rows[0]) - self.rows[0]) * self.size[1]
    }

    /// Elements, with a register behind the last.
    fn len(&self, lanes: usize) -> usize {
        (self.count() + 1) * self.channels + lanes.max(8)
    }

    fn lay_out<T: Float>(&self, image: &[T], to: &mut [T]) {
        let (plane, count) = (self.size[0] * self.size[1], self.count());
        assert!(image.len() >= self.channels * plane && to.len() >= self.len(8));
        let from = image.as_ptr().wrapping_add(self.rows[0] * self.size[1]);
        // SAFETY: these rows are inside each of the planes, and `to` has room for them and a register.
        unsafe { transpose(isa(), count, from, plane, self.channels, to.as_mut_ptr()) };
        to[count * self.channels..].fill(T::ZERO);
    }

    /// Where rows of pixels begin, and columns: `None` for zeros.
    fn places<const SIDE: usize>(&self, axis: usize, at: usize) -> [Option<usize>; SIDE] {
        let [first, end] = if axis == 0 { self.rows } else { [0, self.size[1]] };
        let step = if axis == 0 { self.size[1] * self.channels } else { self.channels };
        from_fn(|i| {
            let place = (at + i).wrapping_add_signed(-self.before[axis]);
            (place >= first && place < end).then(|| (place - first) * step)
        })
    }

    /// The pixels at these rows and columns.
    #[inline(always)]
    fn pixels<T, const SIDE: usize, const N: usize>(
        &self,
        laid_out: &[T],
        rows: &[Option<usize>; SIDE],
        columns: &[Option<usize>; SIDE],
    ) -> [*const T; N] {
        let zeros = self.count() * self.channels;
        from_fn(|i| {
            let at = match (rows[i / SIDE], columns[i % SIDE]) {
                (Some(y), Some(x)) => y + x,
                _ => zeros,
            };
            laid_out.as_ptr().wrapping_add(at)
        })
    }
}

/// Channels that are taken back at a time.
const LANES: usize = 16;

/// `dw = Gᵀ dM G` of one output channel; see [`Filters::transform`](super::Filters::transform) for G.
struct Narrow<'a, T> {
    sums: &'a [T],
    point: usize,
    parts: usize,
    to: &'a mut [T],
}

impl<T: Float> Kernel for Narrow<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (i, to) in self.to.chunks_mut(9 * LANES).enumerate() {
            let count = to.len() / 9;
            let mut m = [[T::ZERO; LANES]; POINTS];
            for part in 0..self.parts {
                for (f, m) in m.iter_mut().enumerate() {
                    let at = (part * POINTS + f) * self.point + i * LANES;
                    for (m, &sum) in m.iter_mut().zip(&self.sums[at..at + count]) {
                        *m += sum;
                    }
                }
            }
            let mut across = [[[T::ZERO; LANES]; 3]; 4];
            for (across, m) in across.iter_mut().zip(m.chunks_exact(4)) {
                *across = narrow(&m[0], &m[1], &m[2], &m[3]);
            }
            for k in 0..3 {
                let w = narrow(&across[0][k], &across[1][k], &across[2][k], &across[3][k]);
                for (j, w) in w.iter().enumerate() {
                    for (l, &w) in w[..count].iter().enumerate() {
                        to[9 * l + 3 * j + k] = w;
                    }
                }
            }
        }
    }
}

/// `Gᵀ` times a column of four.
#[inline(always)]
fn narrow<T: Float>(
    a: &[T; LANES],
    b: &[T; LANES],
    c: &[T; LANES],
    d: &[T; LANES],
) -> [[T; LANES]; 3] {
    let half = T::of(0.5);
    [
        from_fn(|i| a[i] + half * (b[i] + c[i])),
        from_fn(|i| half * (b[i] - c[i])),
        from_fn(|i| half * (b[i] + c[i]) + d[i]),
    ]
}
