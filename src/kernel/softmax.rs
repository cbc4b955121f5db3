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

use super::par;
use super::simd::{Kernel, dispatch};
use crate::float::Float;

/// Elements of a chunk: one vector of 16 `f32`, or two, or four.
pub(crate) const W: usize = 16;
/// Chunks whose sums are added in lanes before they are added to the row's.
const BLOCK: usize = 1024;
/// Elements that make a part of their own.
const PART: usize = 1 << 14;

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
pub(crate) fn total<T: Float>(mut acc: [T; W]) -> T {
    for half in [8, 4, 2, 1] {
        for j in 0..half {
            acc[j] += acc[j + half];
        }
    }
    acc[0]
}

/// The largest element; a NaN may be passed over.
#[inline(always)]
pub(crate) fn row_max<T: Float>(x: &[T]) -> T {
    let mut acc = [T::neg_infinity(); W];
    let mut take = |c: &[T; W]| {
        for (a, &x) in acc.iter_mut().zip(c) {
            *a = if x > *a { x } else { *a };
        }
    };
    let (chunks, tail) = x.as_chunks::<W>();
    chunks.iter().for_each(&mut take);
    if !tail.is_empty() {
        take(&padded(tail, T::neg_infinity()));
    }
    acc.into_iter().fold(T::neg_infinity(), |m, x| if x > m { x } else { m })
}

/// Σ e^(x-m).
#[inline(always)]
pub(crate) fn row_sum_exp<T: Float, const FMA: bool>(x: &[T], m: T) -> T {
    let mut sum = T::ZERO;
    for block in x.chunks(BLOCK) {
        let mut acc = [T::ZERO; W];
        let mut take = |c: &[T; W]| {
            for (a, &x) in acc.iter_mut().zip(c) {
                *a += (x - m).vexp::<FMA>();
            }
        };
        let (chunks, tail) = block.as_chunks::<W>();
        chunks.iter().for_each(&mut take);
        if !tail.is_empty() {
            take(&padded(tail, T::neg_infinity()));
        }
        sum += total(acc);
    }
    sum
}

/// ln Σ e^x, right for infinite elements too: -∞ for nothing or for -∞ alone, ∞ for an ∞ among them.
#[inline(always)]
pub(crate) fn row_log_sum_exp<T: Float, const FMA: bool>(x: &[T]) -> T {
    let m = row_max(x);
    // An infinite maximum would make ∞ - ∞ of the exponent.
    let m = if num_traits::Float::is_infinite(m) { T::ZERO } else { m };
    m + num_traits::Float::ln(row_sum_exp::<T, FMA>(x, m))
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
    fn row<const FMA: bool>(self, a: &[T], b: &[T], out: &mut [T]);
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
            self.f.row::<FMA>(&self.a[i * n..][..n], &self.b[i * n..][..n], out);
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
    ($name:ident, $fma:ident, |$a:ident, $b:ident, $out:ident| $body:block) => {
        #[derive(Clone, Copy)]
        struct $name;
        impl<T: Float> RowFn<T> for $name {
            #[inline(always)]
            fn row<const $fma: bool>(self, $a: &[T], $b: &[T], $out: &mut [T]) $body
        }
    };
}

row_fn!(Softmax, FMA, |x, _unused, out| {
    let m = row_max(x);
    row_map(x, x, out, |x, _| (x - m).vexp::<FMA>());
    let scale = T::ONE / row_dot::<T, FMA>(out, &[]);
    out.iter_mut().for_each(|v| *v *= scale);
});
row_fn!(LogSoftmax, FMA, |x, _unused, out| {
    let m = row_max(x);
    let log = num_traits::Float::ln(row_sum_exp::<T, FMA>(x, m));
    for (o, &x) in out.iter_mut().zip(x) {
        *o = x - m - log;
    }
});
row_fn!(SoftmaxBack, FMA, |y, g, out| {
    let dot = row_dot::<T, FMA>(g, y);
    for ((o, &y), &g) in out.iter_mut().zip(y).zip(g) {
        *o = y * (g - dot);
    }
});
row_fn!(LogSoftmaxBack, FMA, |y, g, out| {
    let sum = row_dot::<T, FMA>(g, &[]);
    row_map(y, g, out, |y, g| g - y.vexp::<FMA>() * sum);
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
                row_map(x, x, o, |x, _| g * (x - y).vexp::<FMA>());
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
