//! The largest element of each window and its place.
//!
//! ```text
//! for each row of windows:  y = -∞, place = the first tap inside
//!   for each tap (ky, kx), row-major:  v = that tap of each window;  where v > y or v is no number:  y = v, place = tap
//! ```
//!
//! So the first of equals wins, as a later one is not greater, and a NaN wins over all.
#![allow(unsafe_code)]

use smallvec::SmallVec;

use super::{Chunks, Place, Windows};
#[cfg(target_arch = "x86_64")]
use super::{same, same_mut, two};
use crate::float::Float;
use crate::kernel::par;
#[cfg(target_arch = "x86_64")]
use crate::kernel::simd::isa;
use crate::kernel::simd::{Kernel, dispatch};

/// Nanoseconds for a tap of a window.
const NS: f64 = 0.15;
/// With more taps than this, it costs less to look at each window's winner alone than at all of its taps.
const FEW: usize = 16;

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
    par::for_each(w.planes, m as f64 * (w.kernel[0] * w.kernel[1]) as f64 * NS, |i| {
        let x = &x[i * n..(i + 1) * n];
        // SAFETY: part `i` runs once, and takes chunk `i` alone.
        let (y, places) = unsafe { (y.get(i), places.as_ref().map(|p| p.get(i))) };
        match places {
            Some(places) => dispatch(Plane::<T, P, true> { w, x, y, places }),
            None => dispatch(Plane::<T, P, false> { w, x, y, places: &mut [] }),
        }
    });
}

struct Plane<'a, T, P, const PLACES: bool> {
    w: &'a Windows,
    x: &'a [T],
    y: &'a mut [T],
    places: &'a mut [P],
}

impl<T: Float, P: Place, const PLACES: bool> Kernel for Plane<'_, T, P, PLACES> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Plane { w, x, y, places } = self;
        let ([kh, kw], width, cols) = (w.kernel, w.input[1], w.out[1]);
        for (oy, y) in y.chunks_exact_mut(cols).enumerate() {
            let places = if PLACES { &mut places[oy * cols..][..cols] } else { &mut *places };
            y.fill(T::neg_infinity());
            if PLACES {
                first_taps(w, oy, places);
            }
            for ky in 0..kh {
                let Some(r) = w.place(0, oy, ky) else { continue };
                for kx in 0..kw {
                    let (low, high, from) = w.span(kx);
                    let x = &x[r * width..][from..width];
                    let (y, tap) = (&mut y[low..high], P::of(ky * kw + kx));
                    let places = if PLACES { &mut places[low..high] } else { &mut *places };
                    match (PLACES, w.stride[1]) {
                        (true, 1) => update::<T, P, 1>(x, y, places, tap),
                        (true, 2) => update::<T, P, 2>(x, y, places, tap),
                        (false, 1) => update_values::<T, 1>(x, y),
                        (false, 2) => update_values::<T, 2>(x, y),
                        (_, step) => {
                            for (i, (y, &x)) in y.iter_mut().zip(x.iter().step_by(step)).enumerate()
                            {
                                if wins(x, *y) {
                                    *y = x;
                                    places.iter_mut().skip(i).take(1).for_each(|p| *p = tap);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The number of the first tap that is inside, for each window of a row; 0 where none is.
#[inline(always)]
fn first_taps<P: Place>(w: &Windows, oy: usize, places: &mut [P]) {
    let [stride, pad, width] = [w.stride[1], w.pad[1], w.input[1]];
    let Some(ky) = (0..w.kernel[0]).find(|&ky| w.place(0, oy, ky).is_some()) else {
        return places.fill(P::of(0));
    };
    let row = ky * w.kernel[1];
    places.fill(P::of(row));
    let at = |ox: usize| {
        let kx = (0..w.kernel[1]).find(|&kx| w.place(1, ox, kx).is_some());
        P::of(kx.map_or(0, |kx| row + kx))
    };
    // Only windows that begin outside have another first tap than their first.
    let left = pad.div_ceil(stride).min(places.len());
    let right = (width + pad).div_ceil(stride).clamp(left, places.len());
    for ox in (0..left).chain(right..places.len()) {
        places[ox] = at(ox);
    }
}

#[allow(clippy::eq_op)] // x != x is the test for NaN that compiles to one comparison
#[inline(always)]
fn wins<T: Float>(x: T, best: T) -> bool {
    (x > best) | (x != x)
}

/// Tap number `tap` of each window, `STEP` apart in `x`.
#[inline(always)]
fn update<T: Float, P: Place, const STEP: usize>(x: &[T], y: &mut [T], places: &mut [P], tap: P) {
    let (steps, last) = x.as_chunks::<STEP>();
    let n = steps.len().min(y.len());
    for ((y, place), x) in y[..n].iter_mut().zip(&mut places[..n]).zip(steps) {
        let x = x[0];
        let wins = wins(x, *y);
        *y = if wins { x } else { *y };
        *place = if wins { tap } else { *place };
    }
    if n < y.len() && wins(last[0], y[n]) {
        (y[n], places[n]) = (last[0], tap);
    }
}

/// [`update`] without the places.
#[inline(always)]
fn update_values<T: Float, const STEP: usize>(x: &[T], y: &mut [T]) {
    let (steps, last) = x.as_chunks::<STEP>();
    let n = steps.len().min(y.len());
    for (y, x) in y[..n].iter_mut().zip(steps) {
        let x = x[0];
        *y = if wins(x, *y) { x } else { *y };
    }
    if n < y.len() && wins(last[0], y[n]) {
        y[n] = last[0];
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
    let taps = w.kernel[0] * w.kernel[1];
    par::for_each(w.planes, n as f64 * 0.1 + m as f64 * 1.5, |i| {
        // SAFETY: part `i` runs once, and takes chunk `i` alone.
        let dx = unsafe { dx.get(i) };
        let (g, places) = (&g[i * m..(i + 1) * m], &places[i * m..(i + 1) * m]);
        dx.fill(T::ZERO);
        if w.stride[1] == 1 && taps <= FEW {
            dispatch(Gradient { w, g, places, dx });
        } else {
            scatter(w, g, places, dx);
        }
    });
}

/// Tap by tap, each for a whole row of windows: for windows one next to the other.
struct Gradient<'a, T, P> {
    w: &'a Windows,
    g: &'a [T],
    places: &'a [P],
    dx: &'a mut [T],
}

impl<T: Float, P: Place> Kernel for Gradient<'_, T, P> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Gradient { w, g, places, dx } = self;
        let ([kh, kw], width, cols) = (w.kernel, w.input[1], w.out[1]);
        for (oy, (g, places)) in g.chunks_exact(cols).zip(places.chunks_exact(cols)).enumerate() {
            for ky in 0..kh {
                let Some(r) = w.place(0, oy, ky) else { continue };
                for kx in 0..kw {
                    let (low, high, from) = w.span(kx);
                    let dx = &mut dx[r * width..][from..][..high - low];
                    let tap = P::of(ky * kw + kx);
                    for ((d, &g), &p) in dx.iter_mut().zip(&g[low..high]).zip(&places[low..high]) {
                        *d += if p == tap { g } else { T::ZERO };
                    }
                }
            }
        }
    }
}

/// Window by window.
fn scatter<T: Float, P: Place>(w: &Windows, g: &[T], places: &[P], dx: &mut [T]) {
    // Row and column of each tap; a table, as a division for each window would cost more than all the rest.
    let [kh, kw] = w.kernel;
    let taps: SmallVec<[(usize, usize); 64]> =
        (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))).collect();
    for oy in 0..w.out[0] {
        for ox in 0..w.out[1] {
            let j = oy * w.out[1] + ox;
            let (ky, kx) = taps[places[j].get()];
            if let (Some(r), Some(c)) = (w.place(0, oy, ky), w.place(1, ox, kx)) {
                dx[r * w.input[1] + c] += g[j];
            }
        }
    }
}
