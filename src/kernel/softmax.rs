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
//! A row is worked on in chunks of [`W`]; its tail is padded with what adds nothing, so that it runs through the same vector code.

use super::lanes::tree_of_16;
use super::par;
use super::simd::{Kernel, dispatch, prefetch};
use crate::float::Float;

/// Elements of a chunk: one vector of 16 `f32`, or two, or four.
pub(crate) const W: usize = 16;
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

/// The tail of a row, padded.
#[inline(always)]
pub(crate) fn padded<T: Float>(x: &[T], pad: T) -> [T; W] {
    let mut tail = [pad; W];
    tail[..x.len()].copy_from_slice(x);
    tail
}

/// Sum of lanes as a tree.
#[inline(always)]
pub(crate) fn total<T: Float>(acc: [T; W]) -> T {
    tree_of_16(acc, |a, b| a + b)
}

#[inline(always)]
fn larger<T: Float>(a: T, x: T) -> T {
    if x > a { x } else { a }
}

/// The largest element; a NaN may be passed over.
#[inline(always)]
pub(crate) fn row_max<T: Float>(x: &[T]) -> T {
    // Four chunks side by side, so that no comparison waits for the one before.
    let mut wide = [T::neg_infinity(); 4 * W];
    let (blocks, x) = x.as_chunks::<{ 4 * W }>();
    for block in blocks {
        for (a, &x) in wide.iter_mut().zip(block) {
            *a = larger(*a, x);
        }
    }
    let mut acc = [T::neg_infinity(); W];
    for (j, a) in acc.iter_mut().enumerate() {
        *a = larger(larger(wide[j], wide[j + 2 * W]), larger(wide[j + W], wide[j + 3 * W]));
    }
    let (chunks, tail) = x.as_chunks::<W>();
    for chunk in chunks.iter().chain([&padded(tail, T::neg_infinity())]) {
        for (a, &x) in acc.iter_mut().zip(chunk) {
            *a = larger(*a, x);
        }
    }
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
fn row_sum_exp<T: Float, const FMA: bool>(x: &[T], m: T) -> T {
    let mut sum = T::ZERO;
    for block in x.chunks(BLOCK) {
        let mut acc = [T::ZERO; W];
        let (chunks, tail) = block.as_chunks::<W>();
        for chunk in chunks {
            let e = exps::<T, FMA>(chunk, m);
            for (a, e) in acc.iter_mut().zip(e) {
                *a += e;
            }
        }
        if !tail.is_empty() {
            let e = exps::<T, FMA>(&padded(tail, T::neg_infinity()), m);
            for (a, e) in acc.iter_mut().zip(e) {
                *a += e;
            }
        }
        sum += total(acc);
    }
    sum
}

/// ln Σ e^x, right for infinite elements too: -∞ for nothing or for -∞ alone, ∞ for an ∞ among them.
#[inline(always)]
pub(crate) fn row_log_sum_exp<T: Float, const FMA: bool>(x: &[T]) -> T {
    let m = row_max(x);
    if num_traits::Float::is_infinite(m) {
        // It is the answer, unless there is a NaN; the exponent would be ∞ - ∞.
        return x.iter().fold(m, |m, &x| if x.is_not_a_number() { x } else { m });
    }
    m + row_sum_exp::<T, FMA>(x, m).vln::<FMA>()
}

/// Writes e^(x-m) and returns the sum; asks for what lies `ahead` meanwhile.
#[inline(always)]
fn row_exp<T: Float, const FMA: bool>(x: &[T], m: T, ahead: &[T], out: &mut [T]) -> T {
    let ahead = if x.len() <= AHEAD { &ahead[..x.len().min(ahead.len())] } else { &[] };
    let mut sum = T::ZERO;
    for (i, (x, out)) in x.chunks(BLOCK).zip(out.chunks_mut(BLOCK)).enumerate() {
        let mut acc = [T::ZERO; W];
        let (xs, x_tail) = x.as_chunks::<W>();
        let (outs, out_tail) = out.as_chunks_mut::<W>();
        for (k, (x, out)) in xs.iter().zip(outs).enumerate() {
            prefetch(ahead, i * BLOCK + k * W, W);
            let e = exps::<T, FMA>(x, m);
            *out = e;
            for (a, e) in acc.iter_mut().zip(e) {
                *a += e;
            }
        }
        if !x_tail.is_empty() {
            let e = exps::<T, FMA>(&padded(x_tail, T::neg_infinity()), m);
            out_tail.copy_from_slice(&e[..x_tail.len()]);
            for (a, e) in acc.iter_mut().zip(e) {
                *a += e;
            }
        }
        sum += total(acc);
    }
    sum
}

/// Writes `f` of each chunk of `x` and of `y` to `out`.
#[inline(always)]
pub(crate) fn row_map<T: Float>(x: &[T], y: &[T], out: &mut [T], f: impl Fn(T, T) -> T) {
    let n = out.len();
    let (x, y) = (&x[..n], &y[..n]);
    let (xs, x_tail) = x.as_chunks::<W>();
    let (ys, y_tail) = y.as_chunks::<W>();
    let (outs, out_tail) = out.as_chunks_mut::<W>();
    for ((o, x), y) in outs.iter_mut().zip(xs).zip(ys) {
        for ((o, &x), &y) in o.iter_mut().zip(x).zip(y) {
            *o = f(x, y);
        }
    }
    if !out_tail.is_empty() {
        let (x, y) = (padded(x_tail, T::ZERO), padded(y_tail, T::ZERO));
        let mut o = [T::ZERO; W];
        for ((o, &x), &y) in o.iter_mut().zip(&x).zip(&y) {
            *o = f(x, y);
        }
        out_tail.copy_from_slice(&o[..out_tail.len()]);
    }
}

/// Σ x y, or Σ x when `y` is empty.
#[inline(always)]
pub(crate) fn row_dot<T: Float, const FMA: bool>(x: &[T], y: &[T]) -> T {
    let mut sum = T::ZERO;
    for (i, block) in x.chunks(BLOCK).enumerate() {
        let other = if y.is_empty() { y } else { &y[i * BLOCK..][..block.len()] };
        let mut acc = [T::ZERO; W];
        let (xs, x_tail) = block.as_chunks::<W>();
        let x_tail = padded(x_tail, T::ZERO);
        if y.is_empty() {
            for x in xs.iter().chain([&x_tail]) {
                for (a, &x) in acc.iter_mut().zip(x) {
                    *a += x;
                }
            }
        } else {
            let (ys, y_tail) = other.as_chunks::<W>();
            let y_tail = padded(y_tail, T::ZERO);
            for (x, y) in xs.iter().chain([&x_tail]).zip(ys.iter().chain([&y_tail])) {
                for ((a, &x), &y) in acc.iter_mut().zip(x).zip(y) {
                    *a = x.vfma::<FMA>(y, *a);
                }
            }
        }
        sum += total(acc);
    }
    sum
}

/// One of the functions above: what it computes for a row of each input.
trait RowFn<T: Float>: Copy + Sync {
    /// `ahead` is what stands behind this row of the first input.
    fn row<const FMA: bool>(self, a: &[T], b: &[T], ahead: &[T], out: &mut [T]);
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
        let n = self.n;
        for (i, out) in self.out.chunks_exact_mut(n).enumerate() {
            let (a, ahead) = self.a[i * n..].split_at(n);
            self.f.row::<FMA>(a, &self.b[i * n..][..n], ahead, out);
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
    ($name:ident, $fma:ident, |$a:ident, $b:ident, $ahead:ident, $out:ident| $body:block) => {
        #[derive(Clone, Copy)]
        struct $name;
        impl<T: Float> RowFn<T> for $name {
            #[inline(always)]
            fn row<const $fma: bool>(self, $a: &[T], $b: &[T], $ahead: &[T], $out: &mut [T]) $body
        }
    };
}

row_fn!(Softmax, FMA, |x, _unused, ahead, out| {
    let scale = T::ONE / row_exp::<T, FMA>(x, row_max(x), ahead, out);
    out.iter_mut().for_each(|v| *v *= scale);
});
row_fn!(LogSoftmax, FMA, |x, _unused, _ahead, out| {
    let m = row_max(x);
    let log = row_sum_exp::<T, FMA>(x, m).vln::<FMA>();
    for (o, &x) in out.iter_mut().zip(x) {
        *o = x - m - log;
    }
});
row_fn!(SoftmaxBack, FMA, |y, g, _ahead, out| {
    let dot = row_dot::<T, FMA>(g, y);
    for ((o, &y), &g) in out.iter_mut().zip(y).zip(g) {
        *o = y * (g - dot);
    }
});
row_fn!(LogSoftmaxBack, FMA, |y, g, _ahead, out| {
    let sum = row_dot::<T, FMA>(g, &[]);
    row_map(y, g, out, |y, g| g - y.vexp_neg::<FMA>() * sum);
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
                *o = row_log_sum_exp::<T, FMA>(&self.0[i * self.1..][..self.1]);
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
            for (i, o) in out.chunks_exact_mut(n).enumerate() {
                let x = &x[i * n..][..n];
                let (y, g) = (y[i], g[i]);
                // A row of -∞ has no direction to grow in; its gradient is 0.
                let y = if y == T::neg_infinity() { T::ZERO } else { y };
                row_map(x, x, o, |x, _| g * (x - y).vexp_neg::<FMA>());
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
