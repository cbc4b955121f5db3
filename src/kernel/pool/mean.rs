//! The mean of each window, where windows are products of stretches of both axes.
//!
//! The sums are taken along the columns first, which is plain addition of rows, then along the row of sums. There, neighbouring stretches that
//! have one length and stand equally far apart form a [`Run`]: element `t` of all of them is again a run of the sums.
#![allow(unsafe_code)]

use smallvec::SmallVec;

use super::Chunks;
use crate::float::Float;
use crate::kernel::par;
use crate::kernel::reduce::{Sum, run_of};
use crate::kernel::simd::{Kernel, dispatch};
use crate::tensor::Block;

/// The stretch of an axis that a mean is taken of, and by how much the sum is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub start: usize,
    pub end: usize,
    /// Elements that the mean counts along this axis.
    pub count: usize,
}

/// Means over the products of stretches of the two axes.
#[derive(Clone, Debug)]
pub(crate) struct Means {
    pub planes: usize,
    /// Height and width of a plane.
    pub input: [usize; 2],
    pub rows: Vec<Stretch>,
    pub cols: Vec<Stretch>,
    /// Divides every sum by this instead of the count.
    pub divisor: Option<usize>,
}

impl Means {
    fn scale<T: Float>(&self, row: &Stretch, col: &Stretch) -> T {
        T::of(1.0 / self.divisor.unwrap_or(row.count * col.count) as f64)
    }

    fn ns(&self) -> f64 {
        let rows: usize = self.rows.iter().map(|s| s.end - s.start).sum();
        let cols: usize = self.cols.iter().map(|s| s.end - s.start).sum();
        (rows * self.input[1] + self.rows.len() * cols) as f64 * 0.15
    }
}

/// Neighbouring stretches of one length, equally far apart.
struct Run {
    /// The first of them, and how many.
    first: usize,
    n: usize,
    /// Where the first begins, how far the next is from it, and how long each is.
    start: usize,
    step: usize,
    len: usize,
}

fn runs(stretches: &[Stretch]) -> SmallVec<[Run; 4]> {
    let mut runs: SmallVec<[Run; 4]> = SmallVec::new();
    for (i, s) in stretches.iter().enumerate() {
        let len = s.end - s.start;
        if let Some(run) = runs.last_mut()
            && run.len == len
            && stretches[run.first].count == s.count
            && s.start > run.start
            && (run.n == 1 || s.start - run.start == run.n * run.step)
        {
            run.step = if run.n == 1 { s.start - run.start } else { run.step };
            run.n += 1;
            continue;
        }
        runs.push(Run { first: i, n: 1, start: s.start, step: 0, len });
    }
    runs
}

/// The mean of each window.
pub(crate) fn mean<T: Float>(m: &Means, x: &[T], y: &mut [T]) {
    let (n, o) = (m.input[0] * m.input[1], m.rows.len() * m.cols.len());
    assert!(x.len() == m.planes * n && y.len() == m.planes * o);
    if y.is_empty() {
        return;
    }
    let (y, runs) = (Chunks::new(y, o), runs(&m.cols));
    par::for_each(m.planes, m.ns(), |i| {
        // SAFETY: part `i` runs once, and takes chunk `i` alone.
        let y = unsafe { y.get(i) };
        let sums = &mut *Block::stale(m.input[1]);
        dispatch(Forward { m, runs: &runs, x: &x[i * n..(i + 1) * n], sums, y });
    });
}

struct Forward<'a, T> {
    m: &'a Means,
    runs: &'a [Run],
    x: &'a [T],
    /// Room for a row.
    sums: &'a mut [T],
    y: &'a mut [T],
}

impl<T: Float> Kernel for Forward<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Forward { m, runs, x, sums, y } = self;
        let width = m.input[1];
        for (row, y) in m.rows.iter().zip(y.chunks_exact_mut(m.cols.len())) {
            sums.fill(T::ZERO);
            for r in row.start..row.end {
                sums.iter_mut().zip(&x[r * width..]).for_each(|(s, &x)| *s += x);
            }
            for run in runs {
                let y = &mut y[run.first..][..run.n];
                let scale = m.scale::<T>(row, &m.cols[run.first]);
                if run.n == 1 {
                    y[0] = scale * run_of(Sum, &sums[run.start..][..run.len]);
                    continue;
                }
                y.fill(T::ZERO);
                for t in 0..run.len {
                    let sums = &sums[run.start + t..];
                    match run.step {
                        1 => y.iter_mut().zip(sums).for_each(|(y, &s)| *y += s),
                        2 => add_every::<T, 2>(y, sums),
                        step => {
                            y.iter_mut().zip(sums.iter().step_by(step)).for_each(|(y, &s)| *y += s);
                        }
                    }
                }
                y.iter_mut().for_each(|y| *y *= scale);
            }
        }
    }
}

/// Adds every `STEP`-th element of `x`, from the first on.
#[inline(always)]
fn add_every<T: Float, const STEP: usize>(y: &mut [T], x: &[T]) {
    let (steps, last) = x.as_chunks::<STEP>();
    let n = steps.len().min(y.len());
    y[..n].iter_mut().zip(steps).for_each(|(y, x)| *y += x[0]);
    if n < y.len() {
        y[n] += last[0];
    }
}

/// The gradient of [`mean`].
pub(crate) fn mean_grad<T: Float>(m: &Means, g: &[T], dx: &mut [T]) {
    let (n, o) = (m.input[0] * m.input[1], m.rows.len() * m.cols.len());
    assert!(dx.len() == m.planes * n && g.len() == m.planes * o);
    if dx.is_empty() {
        return;
    }
    let (dx, runs) = (Chunks::new(dx, n), runs(&m.cols));
    par::for_each(m.planes, m.ns() + 0.1 * n as f64, |i| {
        // SAFETY: part `i` runs once, and takes chunk `i` alone.
        let dx = unsafe { dx.get(i) };
        let shares = &mut *Block::stale(m.input[1]);
        dispatch(Backward { m, runs: &runs, g: &g[i * o..(i + 1) * o], shares, dx });
    });
}

struct Backward<'a, T> {
    m: &'a Means,
    runs: &'a [Run],
    g: &'a [T],
    /// Room for a row.
    shares: &'a mut [T],
    dx: &'a mut [T],
}

impl<T: Float> Kernel for Backward<'_, T> {
    type Out = ();
    /// What each column gets from a row of windows, and then that for each of the rows.
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Backward { m, runs, g, shares, dx } = self;
        let width = m.input[1];
        dx.fill(T::ZERO);
        if g.is_empty() {
            return;
        }
        for (row, g) in m.rows.iter().zip(g.chunks_exact(m.cols.len())) {
            shares.fill(T::ZERO);
            for run in runs {
                let g = &g[run.first..][..run.n];
                let scale = m.scale::<T>(row, &m.cols[run.first]);
                if run.step == 1 {
                    for t in 0..run.len {
                        let shares = &mut shares[run.start + t..][..run.n];
                        shares.iter_mut().zip(g).for_each(|(s, &g)| *s += scale * g);
                    }
                } else {
                    for (i, &g) in g.iter().enumerate() {
                        let shares = &mut shares[run.start + i * run.step..][..run.len];
                        shares.iter_mut().for_each(|s| *s += scale * g);
                    }
                }
            }
            for r in row.start..row.end {
                dx[r * width..].iter_mut().zip(&*shares).for_each(|(d, &s)| *d += s);
            }
        }
    }
}

/// Where in its plane the first largest element of each window stands. A NaN wins over all.
pub(crate) fn max_of<T: Float>(m: &Means, x: &[T], index: &mut [i64]) {
    let (n, o) = (m.input[0] * m.input[1], m.rows.len() * m.cols.len());
    assert!(x.len() == m.planes * n && index.len() == m.planes * o);
    if o == 0 {
        return;
    }
    par::for_each_chunk_mut(index, o, 4.0 * m.ns() / o as f64, |plane, index| {
        let x = &x[plane * n..(plane + 1) * n];
        let windows = m.rows.iter().flat_map(|row| m.cols.iter().map(move |col| (row, col)));
        for ((row, col), index) in windows.zip(index) {
            let mut at = row.start * m.input[1] + col.start;
            for r in row.start..row.end {
                for i in r * m.input[1] + col.start..r * m.input[1] + col.end {
                    if x[i] > x[at] || x[i].is_not_a_number() {
                        at = i;
                    }
                }
            }
            *index = at as i64;
        }
    });
}
