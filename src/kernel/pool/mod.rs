//! Pooling: the largest or the mean of each window of a plane, and how gradients go back.

#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod two;

use std::marker::PhantomData;

use crate::element::Element;
use crate::float::Float;
use crate::kernel::par::{self, SyncPtr};
#[cfg(target_arch = "x86_64")]
use crate::kernel::simd::isa;

/// Windows along the two axes of planes that lie one after another. Whoever makes one has checked that nothing overflows, that
/// kernel, stride and dilation are at least 1, and that `out` follows from the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Windows {
    /// How many planes.
    pub planes: usize,
    /// Height and width of a plane.
    pub input: [usize; 2],
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    /// Places outside the plane before its first row and column. They never win.
    pub pad: [usize; 2],
    pub dilation: [usize; 2],
    /// Windows per axis.
    pub out: [usize; 2],
}

impl Windows {
    fn in_plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    fn out_plane(&self) -> usize {
        self.out[0] * self.out[1]
    }

    /// Coordinate of tap `k` of window `o`, if it is inside.
    #[inline(always)]
    pub(crate) fn place(&self, axis: usize, o: usize, k: usize) -> Option<usize> {
        (o * self.stride[axis] + k * self.dilation[axis])
            .checked_sub(self.pad[axis])
            .filter(|&p| p < self.input[axis])
    }
}

/// A slice of `A`, which is `B` under another name.
#[cfg(target_arch = "x86_64")]
fn same<A: Element, B: Element>(a: &[A]) -> &[B] {
    assert_eq!(A::DTYPE, B::DTYPE);
    // SAFETY: each element type has a name of its own, so `A` and `B` are the same type.
    unsafe { std::slice::from_raw_parts(a.as_ptr().cast(), a.len()) }
}

/// As [`same`], for writing.
#[cfg(target_arch = "x86_64")]
fn same_mut<A: Element, B: Element>(a: &mut [A]) -> &mut [B] {
    assert_eq!(A::DTYPE, B::DTYPE);
    // SAFETY: as in `same`; the borrow is exclusive.
    unsafe { std::slice::from_raw_parts_mut(a.as_mut_ptr().cast(), a.len()) }
}

/// Where in its window the largest element stands: row-major, in as few bytes as the window allows.
pub(crate) trait Place: Element {
    fn of(i: usize) -> Self;
    fn get(self) -> usize;
}

impl Place for u8 {
    #[inline(always)]
    fn of(i: usize) -> u8 {
        i as u8
    }
    #[inline(always)]
    fn get(self) -> usize {
        self as usize
    }
}

impl Place for i64 {
    #[inline(always)]
    fn of(i: usize) -> i64 {
        i as i64
    }
    #[inline(always)]
    fn get(self) -> usize {
        self as usize
    }
}

/// A slice cut into chunks of one length, each for one part of a parallel loop.
struct Chunks<'a, T> {
    base: SyncPtr<T>,
    len: usize,
    count: usize,
    owner: PhantomData<&'a mut [T]>,
}

impl<'a, T: Send> Chunks<'a, T> {
    fn new(data: &'a mut [T], len: usize) -> Self {
        Chunks {
            base: SyncPtr(data.as_mut_ptr()),
            len,
            count: data.len() / len.max(1),
            owner: PhantomData,
        }
    }

    /// Chunk `i`.
    ///
    /// # Safety
    /// Nobody else has chunk `i`.
    #[allow(clippy::mut_from_ref)]
    unsafe fn get(&self, i: usize) -> &mut [T] {
        assert!(i < self.count || self.len == 0);
        // SAFETY: the chunk lies within the slice, which is borrowed mutably as long as `self` lives, and is the caller's alone.
        unsafe { std::slice::from_raw_parts_mut(self.base.get().add(i * self.len), self.len) }
    }
}

/// The largest element of each window, and where it stands if `places` is given. The first of equals wins, a NaN wins over all,
/// and a window without any element (only possible with dilation) is -inf.
pub(crate) fn max<T: Float, P: Place>(w: &Windows, x: &[T], y: &mut [T], places: Option<&mut [P]>) {
    let (n, m) = (w.in_plane(), w.out_plane());
    assert!(x.len() == w.planes * n && y.len() == w.planes * m);
    assert!(places.as_ref().is_none_or(|p| p.len() == y.len()));
    if y.is_empty() {
        return;
    }
    let places = places.map(|p| Chunks::new(p, m));
    let y = Chunks::new(y, m);
    #[cfg(target_arch = "x86_64")]
    if two::fits::<T, P>(w) {
        return par::for_each(w.planes, m as f64 * 0.25, |i| {
            let x = &x[i * n..(i + 1) * n];
            // SAFETY: part `i` runs once, and takes chunk `i` alone.
            let (y, places) = unsafe { (y.get(i), places.as_ref().map(|p| p.get(i))) };
            two::max(isa(), w, same(x), same_mut(y), places.map_or(&mut [], same_mut));
        });
    }
    let ns = m as f64 * (w.kernel[0] * w.kernel[1]) as f64 * 0.7;
    par::for_each(w.planes, ns, |i| {
        let x = &x[i * n..(i + 1) * n];
        // SAFETY: part `i` runs once, and takes chunk `i` alone.
        let (y, places) = unsafe { (y.get(i), places.as_ref().map(|p| p.get(i))) };
        max_plane(w, x, y, places);
    });
}

fn max_plane<T: Float, P: Place>(w: &Windows, x: &[T], y: &mut [T], mut places: Option<&mut [P]>) {
    let [kh, kw] = w.kernel;
    for oy in 0..w.out[0] {
        for ox in 0..w.out[1] {
            let (mut best, mut at) = (T::neg_infinity(), 0);
            let mut first = true;
            for ky in 0..kh {
                let Some(r) = w.place(0, oy, ky) else { continue };
                for kx in 0..kw {
                    let Some(c) = w.place(1, ox, kx) else { continue };
                    let v = x[r * w.input[1] + c];
                    if first || v > best || v.is_not_a_number() {
                        (best, at, first) = (v, ky * kw + kx, false);
                    }
                }
            }
            y[oy * w.out[1] + ox] = best;
            if let Some(p) = places.as_deref_mut() {
                p[oy * w.out[1] + ox] = P::of(at);
            }
        }
    }
}

/// The gradient of [`max`]: each window's goes to the element that won.
pub(crate) fn max_grad<T: Float, P: Place>(w: &Windows, g: &[T], places: &[P], dx: &mut [T]) {
    let (n, m) = (w.in_plane(), w.out_plane());
    assert!(dx.len() == w.planes * n && g.len() == w.planes * m && places.len() == g.len());
    if dx.is_empty() {
        return;
    }
    let dx = Chunks::new(dx, n);
    #[cfg(target_arch = "x86_64")]
    if two::fits::<T, P>(w) {
        return par::for_each(w.planes, n as f64 * 0.1, |i| {
            let (g, places) = (&g[i * m..(i + 1) * m], &places[i * m..(i + 1) * m]);
            // SAFETY: part `i` runs once, and takes chunk `i` alone.
            two::grad(isa(), w, same(g), same(places), same_mut(unsafe { dx.get(i) }));
        });
    }
    par::for_each(w.planes, n as f64 * 0.3 + m as f64 * 1.5, |i| {
        // SAFETY: part `i` runs once, and takes chunk `i` alone.
        let dx = unsafe { dx.get(i) };
        dx.fill(T::ZERO);
        let (g, places) = (&g[i * m..(i + 1) * m], &places[i * m..(i + 1) * m]);
        for oy in 0..w.out[0] {
            for ox in 0..w.out[1] {
                let j = oy * w.out[1] + ox;
                let (ky, kx) = (places[j].get() / w.kernel[1], places[j].get() % w.kernel[1]);
                if let (Some(r), Some(c)) = (w.place(0, oy, ky), w.place(1, ox, kx)) {
                    dx[r * w.input[1] + c] += g[j];
                }
            }
        }
    });
}

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
        rows as f64 * cols as f64 * 0.7
    }
}

/// The mean of each window.
pub(crate) fn mean<T: Float>(m: &Means, x: &[T], y: &mut [T]) {
    let (n, o) = (m.input[0] * m.input[1], m.rows.len() * m.cols.len());
    assert!(x.len() == m.planes * n && y.len() == m.planes * o);
    if y.is_empty() {
        return;
    }
    let y = Chunks::new(y, o);
    par::for_each(m.planes, m.ns(), |i| {
        // SAFETY: part `i` runs once, and takes chunk `i` alone.
        let (x, mut y) = (&x[i * n..(i + 1) * n], unsafe { y.get(i) }.iter_mut());
        for row in &m.rows {
            for (col, y) in m.cols.iter().zip(&mut y) {
                let mut sum = T::ZERO;
                for r in row.start..row.end {
                    let x = &x[r * m.input[1]..][col.start..col.end];
                    sum += x.iter().copied().sum::<T>();
                }
                *y = sum * m.scale::<T>(row, col);
            }
        }
    });
}

/// The gradient of [`mean`].
pub(crate) fn mean_grad<T: Float>(m: &Means, g: &[T], dx: &mut [T]) {
    let (n, o) = (m.input[0] * m.input[1], m.rows.len() * m.cols.len());
    assert!(dx.len() == m.planes * n && g.len() == m.planes * o);
    if dx.is_empty() {
        return;
    }
    let dx = Chunks::new(dx, n);
    par::for_each(m.planes, m.ns() + 0.2 * n as f64, |i| {
        // SAFETY: part `i` runs once, and takes chunk `i` alone.
        let (dx, mut g) = (unsafe { dx.get(i) }, g[i * o..(i + 1) * o].iter());
        dx.fill(T::ZERO);
        for row in &m.rows {
            for (col, &g) in m.cols.iter().zip(&mut g) {
                let share = g * m.scale::<T>(row, col);
                for r in row.start..row.end {
                    let dx = &mut dx[r * m.input[1]..][col.start..col.end];
                    dx.iter_mut().for_each(|d| *d += share);
                }
            }
        }
    });
}

/// Where in its plane the first largest element of each window stands. A NaN wins over all.
pub(crate) fn max_of<T: Float>(m: &Means, x: &[T], index: &mut [i64]) {
    let (n, o) = (m.input[0] * m.input[1], m.rows.len() * m.cols.len());
    assert!(x.len() == m.planes * n && index.len() == m.planes * o);
    if o == 0 {
        return;
    }
    par::for_each_chunk_mut(index, o, m.ns() / o as f64, |plane, index| {
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
