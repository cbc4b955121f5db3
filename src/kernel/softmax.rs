//! Softmax and its relatives, over rows that stand side by side.
//!
//! With m = max x, which keeps every exponent at or below 0:
//!
//! ```text
//! softmax      y = e^(x-m) / Σ e^(x-m)             dx = y (g - Σ g y)
//! log-softmax  y = x - m - ln Σ e^(x-m)            dx = g - e^y Σ g
//! logsumexp    y = m + ln Σ e^(x-m)                dx = g e^(x-y)
//! ```
//!
//! A row is worked on in [`chunks`](super::chunks).

pub(crate) use super::chunks::{W, total};
use super::chunks::{for_chunks, padded, put, row_map, row_update};
use super::lanes::tree_of_16;
use super::par;
use super::simd::{Kernel, dispatch, prefetch};
use crate::float::Float;

/// Chunks whose sums are added in lanes before they are added to the row's.
const BLOCK: usize = 1024;
/// Elements that make a part of their own.
const PART: usize = 1 << 14;
/// Up to this length, the next row is fetched while this one is computed; a longer one would drive this one out of the first cache.
const AHEAD: usize = 4096;

/// The rows of a part, for rows of `n` elements.
pub(crate) fn grain(n: usize) -> usize {
    (PART / n.max(1)).max(1)
}

#[inline(always)]
fn larger<T: Float>(a: T, x: T) -> T {
    if x > a { x } else { a }
}

/// The largest element of a row; a NaN may be passed over.
#[inline(always)]
pub(crate) fn row_max<T: Float>(x: &[T], n: usize) -> T {
    // Four chunks side by side, so that no comparison waits for the one before.
    let mut wide = [T::neg_infinity(); 4 * W];
    let (blocks, rest) = x[..n].as_chunks::<{ 4 * W }>();
    for block in blocks {
        for (a, &x) in wide.iter_mut().zip(block) {
            *a = larger(*a, x);
        }
    }
    let mut acc = [T::neg_infinity(); W];
    for (j, a) in acc.iter_mut().enumerate() {
        *a = larger(larger(wide[j], wide[j + 2 * W]), larger(wide[j + W], wide[j + 3 * W]));
    }
    for_chunks!(&x[n - rest.len()..], rest.len(), T::neg_infinity(), |chunk| {
        for (a, &x) in acc.iter_mut().zip(chunk) {
            *a = larger(*a, x);
        }
    });
    tree_of_16(acc, larger)
}

/// e^(x-m) of a chunk, where no element is above m.
#[inline(always)]
fn exps<T: Float, const FMA: bool>(x: &[T; W], m: T) -> [T; W] {
    let mut e = [T::ZERO; W];
    for (e, &x) in e.iter_mut().zip(x) {
        *e = (x - m).vexp_neg::<FMA>();
    }
    e
}

/// Σ e^(x-m), with m the largest.
#[inline(always)]
fn row_sum_exp<T: Float, const FMA: bool>(x: &[T], n: usize, m: T) -> T {
    let mut sum = T::ZERO;
    for at in (0..n).step_by(BLOCK) {
        let mut acc = [T::ZERO; W];
        for_chunks!(&x[at..], BLOCK.min(n - at), T::neg_infinity(), |chunk| {
            let e = exps::<T, FMA>(chunk, m);
            for (a, e) in acc.iter_mut().zip(e) {
                *a += e;
            }
        });
        sum += total(acc);
    }
    sum
}

/// ln Σ e^x, right for infinite elements too: -∞ for nothing or for -∞ alone, ∞ for an ∞ among them.
#[inline(always)]
pub(crate) fn row_log_sum_exp<T: Float, const FMA: bool>(x: &[T], n: usize) -> T {
    let m = row_max(x, n);
    if num_traits::Float::is_infinite(m) {
        // It is the answer, unless there is a NaN; the exponent would be ∞ - ∞.
        return x[..n].iter().fold(m, |m, &x| if x.is_not_a_number() { x } else { m });
    }
    m + row_sum_exp::<T, FMA>(x, n, m).vln::<FMA>()
}

/// Writes e^(x-m) and returns the sum; asks for the next row of `x` meanwhile.
#[inline(always)]
fn row_exp<T: Float, const FMA: bool>(x: &[T], n: usize, m: T, out: &mut [T]) -> T {
    let ahead = if n <= AHEAD { &x[n..x.len().min(2 * n)] } else { &[] };
    let mut sum = T::ZERO;
    for at in (0..n).step_by(BLOCK) {
        let mut acc = [T::ZERO; W];
        let end = n.min(at + BLOCK);
        let (xs, tail) = x[at..end].as_chunks::<W>();
        let (outs, _) = out[at..end].as_chunks_mut::<W>();
        for (k, (x, out)) in xs.iter().zip(outs).enumerate() {
            prefetch(ahead, at + k * W, W);
            let e = exps::<T, FMA>(x, m);
            *out = e;
            for (a, e) in acc.iter_mut().zip(e) {
                *a += e;
            }
        }
        if !tail.is_empty() {
            let (at, n) = (end - tail.len(), tail.len());
            prefetch(ahead, at, n);
            let e = exps::<T, FMA>(&padded(&x[at..], n, T::neg_infinity()), m);
            put(&mut out[at..], n, e);
            for (a, e) in acc.iter_mut().zip(e) {
                *a += e;
            }
        }
        sum += total(acc);
    }
    sum
}

/// Σ x y
#[inline(always)]
fn row_dot<T: Float, const FMA: bool>(x: &[T], y: &[T], n: usize) -> T {
    let mut sum = T::ZERO;
    for at in (0..n).step_by(BLOCK) {
        let mut acc = [T::ZERO; W];
        let end = n.min(at + BLOCK);
        let (xs, tail) = x[at..end].as_chunks::<W>();
        let (ys, _) = y[at..end].as_chunks::<W>();
        for (x, y) in xs.iter().zip(ys) {
            for ((a, &x), &y) in acc.iter_mut().zip(x).zip(y) {
                *a = x.vfma::<FMA>(y, *a);
            }
        }
        if !tail.is_empty() {
            let (at, n) = (end - tail.len(), tail.len());
            let (x, y) = (padded(&x[at..], n, T::ZERO), padded(&y[at..], n, T::ZERO));
            for ((a, &x), &y) in acc.iter_mut().zip(&x).zip(&y) {
                *a = x.vfma::<FMA>(y, *a);
            }
        }
        sum += total(acc);
    }
    sum
}

/// Σ x
#[inline(always)]
fn row_sum<T: Float>(x: &[T], n: usize) -> T {
    let mut sum = T::ZERO;
    for at in (0..n).step_by(BLOCK) {
        let mut acc = [T::ZERO; W];
        for_chunks!(&x[at..], BLOCK.min(n - at), T::ZERO, |chunk| {
            for (a, &x) in acc.iter_mut().zip(chunk) {
                *a += x;
            }
        });
        sum += total(acc);
    }
    sum
}

/// One of the functions above: what it computes for a row of each input.
trait RowFn<T: Float>: Copy + Sync {
    fn row<const FMA: bool>(self, a: &[T], b: &[T], n: usize, out: &mut [T]);
}

struct Rows<'a, T, F> {
    f: F,
    a: &'a [T],
    b: &'a [T],
    n: usize,
    out: &'a mut [T],
}

impl<T: Float, F: RowFn<T>> Kernel for Rows<'_, T, F> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for at in (0..self.out.len()).step_by(self.n) {
            self.f.row::<FMA>(&self.a[at..], &self.b[at..], self.n, &mut self.out[at..]);
        }
    }
}

fn for_rows<T: Float, F: RowFn<T>>(f: F, a: &[T], b: &[T], n: usize, out: &mut [T]) {
    if out.is_empty() {
        return;
    }
    let len = grain(n) * n;
    par::for_each_chunk_mut(out, len, 0.5, |i, out| {
        let part = i * len..i * len + out.len();
        dispatch(Rows { f, a: &a[part.clone()], b: &b[part], n, out });
    });
}

macro_rules! row_fn {
    ($name:ident, $fma:ident, |$a:ident, $b:ident, $n:ident, $out:ident| $body:block) => {
        #[derive(Clone, Copy)]
        struct $name;
        impl<T: Float> RowFn<T> for $name {
            #[inline(always)]
            fn row<const $fma: bool>(self, $a: &[T], $b: &[T], $n: usize, $out: &mut [T]) $body
        }
    };
}

row_fn!(Softmax, FMA, |x, _unused, n, out| {
    let scale = T::ONE / row_exp::<T, FMA>(x, n, row_max(x, n), out);
    row_update(out, n, |v| v * scale);
});
row_fn!(LogSoftmax, FMA, |x, _unused, n, out| {
    let m = row_max(x, n);
    let log = row_sum_exp::<T, FMA>(x, n, m).vln::<FMA>();
    row_map(x, x, n, out, |x, _| x - m - log);
});
row_fn!(SoftmaxBack, FMA, |y, g, n, out| {
    let dot = row_dot::<T, FMA>(g, y, n);
    row_map(y, g, n, out, |y, g| y * (g - dot));
});
row_fn!(LogSoftmaxBack, FMA, |y, g, n, out| {
    let sum = row_sum(g, n);
    row_map(y, g, n, out, |y, g| g - y.vexp_neg::<FMA>() * sum);
});

/// Softmax of each row of `n` elements.
pub(crate) fn softmax<T: Float>(x: &[T], n: usize, out: &mut [T]) {
    for_rows(Softmax, x, x, n, out);
}

/// Log-softmax of each row.
pub(crate) fn log_softmax<T: Float>(x: &[T], n: usize, out: &mut [T]) {
    for_rows(LogSoftmax, x, x, n, out);
}

/// The gradient of [`softmax`] from its output `y` and the gradient `g` of that.
pub(crate) fn softmax_back<T: Float>(y: &[T], g: &[T], n: usize, out: &mut [T]) {
    for_rows(SoftmaxBack, y, g, n, out);
}

/// The gradient of [`log_softmax`] from its output `y` and the gradient `g` of that.
pub(crate) fn log_softmax_back<T: Float>(y: &[T], g: &[T], n: usize, out: &mut [T]) {
    for_rows(LogSoftmaxBack, y, g, n, out);
}

/// ln Σ e^x of each row.
pub(crate) fn log_sum_exp<T: Float>(x: &[T], n: usize, out: &mut [T]) {
    struct LogSumExp<'a, T>(&'a [T], usize, &'a mut [T]);
    impl<T: Float> Kernel for LogSumExp<'_, T> {
        type Out = ();
        #[inline(always)]
        fn run<const FMA: bool>(self) {
            for (i, o) in self.2.iter_mut().enumerate() {
                *o = row_log_sum_exp::<T, FMA>(&self.0[i * self.1..], self.1);
            }
        }
    }
    let rows = grain(n);
    par::for_each_chunk_mut(out, rows, 0.5 * n as f64 + 10.0, |i, out| {
        dispatch(LogSumExp(&x[i * rows * n..][..out.len() * n], n, out));
    });
}

/// The gradient of [`log_sum_exp`]: g e^(x-y), with `y` and `g` one number for each row.
pub(crate) fn log_sum_exp_back<T: Float>(x: &[T], y: &[T], g: &[T], n: usize, out: &mut [T]) {
    struct Back<'a, T>(&'a [T], &'a [T], &'a [T], usize, &'a mut [T]);
    impl<T: Float> Kernel for Back<'_, T> {
        type Out = ();
        #[inline(always)]
        fn run<const FMA: bool>(self) {
            let Back(x, y, g, n, out) = self;
            for (i, (&y, &g)) in y.iter().zip(g).enumerate() {
                // A row of -∞ has no direction to grow in; its gradient is 0.
                let y = if y == T::neg_infinity() { T::ZERO } else { y };
                let x = &x[i * n..];
                row_map(x, x, n, &mut out[i * n..], |x, _| g * (x - y).vexp_neg::<FMA>());
            }
        }
    }
    if out.is_empty() {
        return;
    }
    let rows = grain(n);
    par::for_each_chunk_mut(out, rows * n, 0.5, |i, out| {
        let (from, count) = (i * rows, out.len() / n);
        let stats = from..from + count;
        dispatch(Back(&x[from * n..][..out.len()], &y[stats.clone()], &g[stats], n, out));
    });
}
