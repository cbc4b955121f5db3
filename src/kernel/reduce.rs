//! Reductions of a strided layout over any of its axes: sums, products, extremes.
//!
//! Every layout is brought to one of two shapes, after axes that are one run in memory have been merged:
//!
//! ```text
//! rows:     the elements to be folded stand side by side        [outer][n], fold n
//! columns:  the results stand side by side                      [outer][n][w], fold n, w at a time
//! ```
//!
//! Several runs to fold are folded one after the other, the shortest step first; what fits neither shape is copied into the first.
//!
//! The order of additions depends on the layout alone. Runs are folded in [`LANES`] lanes, blocks of [`BLOCK`] elements are merged as a
//! binary tree, so the rounding error of a sum grows with the logarithm of its length.

use smallvec::SmallVec;

use super::chunks::{W, for_chunks};
use super::lanes::{tree_of, tree_of_8, tree_of_16};
use super::par;
use super::simd::{Kernel, dispatch, prefetch};
use crate::element::Num;
use crate::tensor::{Block, Layout};

/// How elements combine. Commutative and associative up to rounding.
pub(crate) trait Fold<T: Num>: Copy + Sync {
    /// The fold of partial results of this one.
    type Rest: Fold<T, Rest = Self::Rest>;
    /// That fold.
    fn rest(self) -> Self::Rest;
    /// What a fold that will see `first` starts from: the neutral element, or `first` where seeing it twice does no harm.
    fn start(self, first: T) -> T;
    /// One more element.
    fn step(self, acc: T, x: T) -> T;
    /// Two partial results.
    fn merge(self, a: T, b: T) -> T;
    /// An element that changes no fold that has seen `first`.
    #[inline(always)]
    fn nothing(self, first: T) -> T {
        self.start(first)
    }
}

macro_rules! fold {
    ($(#[$doc:meta])* $name:ident, |$first:ident| $start:expr, |$acc:ident, $x:ident| $step:expr, |$a:ident, $b:ident| $merge:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name;
        impl<T: Num> Fold<T> for $name {
            type Rest = Merge<Self>;
            fn rest(self) -> Merge<Self> {
                Merge(self)
            }
            #[inline(always)]
            fn start(self, $first: T) -> T { $start }
            #[inline(always)]
            fn step(self, $acc: T, $x: T) -> T { $step }
            #[inline(always)]
            fn merge(self, $a: T, $b: T) -> T { $merge }
        }
    };
}
fold!(
    /// Σ x
    Sum, |_x| T::ZERO, |acc, x| acc.plus(x), |a, b| a.plus(b));
fold!(
    /// Σ |x|
    SumAbs, |_x| T::ZERO, |acc, x| acc.plus(x.magnitude()), |a, b| a.plus(b));
fold!(
    /// Σ x²
    SumSquares, |_x| T::ZERO, |acc, x| acc.plus(x.times(x)), |a, b| a.plus(b));
fold!(
    /// Π x
    Product, |_x| T::ONE, |acc, x| acc.times(x), |a, b| a.times(b));
fold!(
    /// The largest; NaN if there is one.
    Max, |x| x, |acc, x| larger(acc, x), |a, b| larger(a, b));
fold!(
    /// The smallest; NaN if there is one.
    Min, |x| x, |acc, x| smaller(acc, x), |a, b| smaller(a, b));

#[allow(clippy::eq_op)] // x != x is the test for NaN that compiles to one comparison
#[inline(always)]
fn larger<T: Num>(a: T, b: T) -> T {
    if (b > a) | (b != b) { b } else { a }
}

#[allow(clippy::eq_op)]
#[inline(always)]
fn smaller<T: Num>(a: T, b: T) -> T {
    if (b < a) | (b != b) { b } else { a }
}

/// Σ (x - centre)²
#[derive(Clone, Copy)]
pub(crate) struct SquaresAround<T>(pub T);

impl<T: Num> Fold<T> for SquaresAround<T> {
    type Rest = Merge<Self>;
    fn rest(self) -> Merge<Self> {
        Merge(self)
    }
    #[inline(always)]
    fn start(self, _: T) -> T {
        T::ZERO
    }
    #[inline(always)]
    fn step(self, acc: T, x: T) -> T {
        let d = x.minus(self.0);
        acc.plus(d.times(d))
    }
    #[inline(always)]
    fn nothing(self, _: T) -> T {
        self.0
    }
    #[inline(always)]
    fn merge(self, a: T, b: T) -> T {
        a.plus(b)
    }
}

/// Folds partial results of another fold.
#[derive(Clone, Copy)]
pub(crate) struct Merge<F>(F);

impl<T: Num, F: Fold<T>> Fold<T> for Merge<F> {
    type Rest = Self;
    fn rest(self) -> Self {
        self
    }
    #[inline(always)]
    fn start(self, first: T) -> T {
        self.0.start(first)
    }
    #[inline(always)]
    fn step(self, acc: T, x: T) -> T {
        self.0.merge(acc, x)
    }
    #[inline(always)]
    fn merge(self, a: T, b: T) -> T {
        self.0.merge(a, b)
    }
}

/// Partial results of one block: enough for the additions of consecutive vectors not to wait for each other.
const LANES: usize = 64;
/// Elements folded in lanes before they become a leaf of the binary tree.
const BLOCK: usize = 2048;
/// Below this length, runs are folded chunk by chunk; neighbouring runs fill the time that an addition takes.
const SHORT: usize = 256;
/// Elements of one run that make a part of their own.
const PART: usize = 1 << 16;
/// Columns folded at a time; their partial results stay in the first-level cache.
const COLUMNS: usize = 512;
/// Rows of columns folded one by one before their result goes up a level.
const ROWS: usize = 32;
/// A guess of the time per element in nanoseconds, for the decision about threads.
const NS: f64 = 0.06;

/// An axis: its size and its step.
type Axis = (usize, isize);
type Axes = SmallVec<[Axis; 6]>;

/// The place of element number `i` of these axes, relative to their first.
#[inline(always)]
fn place(axes: &[Axis], mut i: usize) -> isize {
    if let [(_, step)] = axes {
        return i as isize * step;
    }
    let mut at = 0;
    for &(size, step) in axes.iter().rev() {
        at += (i % size) as isize * step;
        i /= size;
    }
    at
}

/// Axes of size 1 dropped, neighbours that are one run merged.
fn merged(axes: impl Iterator<Item = Axis>) -> Axes {
    let mut out = Axes::new();
    for (size, step) in axes.filter(|a| a.0 != 1) {
        match out.last_mut() {
            Some(last) if last.1 == step * size as isize => *last = (last.0 * size, step),
            _ => out.push((size, step)),
        }
    }
    out
}

/// Folds `data` under `layout` over the axes `reduced`; `out` gets a result for each index of the other axes, in row-major order.
/// There is at least one element to fold for each result.
pub(crate) fn fold<T: Num, F: Fold<T>>(
    f: F,
    data: &[T],
    layout: &Layout,
    reduced: &[usize],
    out: &mut [T],
) {
    if out.is_empty() {
        return;
    }
    let axis = |a: usize| (layout.shape[a], layout.strides[a]);
    let kept = merged((0..layout.rank()).filter(|a| !reduced.contains(a)).map(axis));
    let mut offset = layout.offset as isize;
    // The order of what is folded is free: forwards, and the longest step first.
    let mut run: Axes = reduced.iter().map(|&a| axis(a)).collect();
    for (size, step) in run.iter_mut().filter(|a| a.1 < 0) {
        offset += *step * (*size as isize - 1);
        *step = -*step;
    }
    run.sort_by_key(|a| std::cmp::Reverse(a.1));
    let mut run = merged(run.into_iter());
    let base = offset as usize;
    let last = run.pop().unwrap_or((1, 1));
    if last.1 == 1 || last.0 == 1 {
        if run.is_empty() {
            return rows(f, data, base, &kept, last.0, out);
        }
        let outer: Axes = kept.iter().chain(&run).copied().collect();
        let mut part = Block::stale(outer.iter().map(|a| a.0).product());
        rows(f, data, base, &outer, last.0, &mut part);
        return fold_rest(f, &part, &kept, &run, &[], out);
    }
    if let Some((&(width, 1), outer_kept)) = kept.split_last() {
        if run.is_empty() {
            return columns(f, data, base, outer_kept, last, out, width);
        }
        let outer: Axes = outer_kept.iter().chain(&run).copied().collect();
        let mut part = Block::stale(width * outer.iter().map(|a| a.0).product::<usize>());
        columns(f, data, base, &outer, last, &mut part, width);
        return fold_rest(f, &part, outer_kept, &run, &[(width, 1)], out);
    }
    run.push(last);
    let all = || kept.iter().chain(&run);
    let permuted = Layout {
        shape: all().map(|a| a.0).collect(),
        strides: all().map(|a| a.1).collect(),
        offset: base,
    };
    let mut dense = Block::stale(permuted.len());
    super::copy::to_dense(data, &permuted, &mut dense);
    let n = run.iter().map(|a| a.0).product();
    rows(f, &dense, 0, &[(out.len(), n as isize)], n, out)
}

/// Folds the partial results, dense in the order `outer`, `run`, `inner`, over `run`.
fn fold_rest<T: Num, F: Fold<T>>(
    f: F,
    part: &[T],
    outer: &[Axis],
    run: &[Axis],
    inner: &[Axis],
    out: &mut [T],
) {
    let size = |axes: &[Axis]| axes.iter().map(|a| a.0).product::<usize>();
    let layout = Layout::dense(&[size(outer), size(run), size(inner)]);
    fold(f.rest(), part, &layout, &[1], out)
}

/// Each result from one run of `n` elements; the runs start at `base` plus the places of `outer`.
fn rows<T: Num, F: Fold<T>>(
    f: F,
    data: &[T],
    base: usize,
    outer: &[Axis],
    n: usize,
    out: &mut [T],
) {
    let parts = n / PART;
    if parts >= 2 {
        // Long runs: each is cut into parts by its length, whatever the number of threads.
        let len = n.div_ceil(parts);
        let mut part = Block::stale(parts * out.len());
        par::for_each_chunk_mut(&mut part, 1, NS * len as f64, |i, o| {
            let start = (base as isize + place(outer, i / parts)) as usize;
            let (from, to) = (i % parts * len, ((i % parts + 1) * len).min(n));
            dispatch(Rows {
                f,
                data,
                base: start + from,
                outer: &[],
                n: to - from,
                first: 0,
                out: o,
            });
        });
        let outer = [(out.len(), parts as isize)];
        return dispatch(Rows {
            f: f.rest(),
            data: &part,
            base: 0,
            outer: &outer,
            n: parts,
            first: 0,
            out,
        });
    }
    let grain = (PART / n.max(1)).max(1);
    let ns = NS * n as f64 + 2.0;
    par::for_each_chunk_mut(out, grain, ns, |i, out| {
        dispatch(Rows { f, data, base, outer, n, first: i * grain, out });
    });
}

struct Rows<'a, T, F> {
    f: F,
    data: &'a [T],
    base: usize,
    outer: &'a [Axis],
    n: usize,
    /// The number of the first result among all.
    first: usize,
    out: &'a mut [T],
}

impl<T: Num, F: Fold<T>> Kernel for Rows<'_, T, F> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (i, o) in self.out.iter_mut().enumerate() {
            let at = (self.base as isize + place(self.outer, self.first + i)) as usize;
            // The next row is mostly the next one in memory. Its beginning is often that of a page, where the processor's own fetching stops.
            prefetch(self.data, at + self.n, LANES);
            *o = match self.n {
                W..SHORT => short_run(self.f, &self.data[at..], self.n),
                n => run_of(self.f, &self.data[at..at + n]),
            };
        }
    }
}

/// Folds the first `n` elements of `x`, at least one and fewer than [`SHORT`].
#[inline(always)]
fn short_run<T: Num, F: Fold<T>>(f: F, x: &[T], n: usize) -> T {
    let mut acc = [f.start(x[0]); W];
    for_chunks!(x, n, f.nothing(x[0]), |chunk| {
        for (a, &x) in acc.iter_mut().zip(chunk) {
            *a = f.step(*a, x);
        }
    });
    tree_of_16(acc, |a, b| f.merge(a, b))
}

/// Σ (x - centre)² of each row of `n` elements, with a centre for each.
pub(crate) fn squares_around<T: Num>(x: &[T], n: usize, centres: &[T], out: &mut [T]) {
    struct Around<'a, T>(&'a [T], usize, &'a [T], &'a mut [T]);
    impl<T: Num> Kernel for Around<'_, T> {
        type Out = ();
        #[inline(always)]
        fn run<const FMA: bool>(self) {
            let Around(x, n, centres, out) = self;
            for (i, (o, &c)) in out.iter_mut().zip(centres).enumerate() {
                *o = run_of(SquaresAround(c), &x[i * n..][..n]);
            }
        }
    }
    if n >= 2 * PART {
        for (i, (o, &c)) in out.chunks_exact_mut(1).zip(centres).enumerate() {
            rows(SquaresAround(c), x, i * n, &[], n, o);
        }
        return;
    }
    let grain = (PART / n.max(1)).max(1);
    par::for_each_chunk_mut(out, grain, NS * n as f64 + 2.0, |i, out| {
        let first = i * grain;
        let centres = &centres[first..][..out.len()];
        dispatch(Around(&x[first * n..][..out.len() * n], n, centres, out));
    });
}

/// Folds a run of elements: blocks in lanes, blocks among each other as a binary tree.
#[inline(always)]
pub(crate) fn run_of<T: Num, F: Fold<T>>(f: F, mut x: &[T]) -> T {
    // tree[k] holds the result of 2^k blocks wherever bit k of the number of blocks so far is set.
    let mut tree = [T::ZERO; 48];
    let mut count = 0usize;
    // One place that calls `block`, and not another one for what is left: it is large.
    loop {
        let (now, rest) = x.split_at(x.len().min(BLOCK));
        let mut v = block(f, now);
        let mut k = 0;
        if rest.is_empty() {
            while count >> k != 0 {
                if count >> k & 1 == 1 {
                    v = f.merge(tree[k], v);
                }
                k += 1;
            }
            return v;
        }
        while count >> k & 1 == 1 {
            v = f.merge(tree[k], v);
            k += 1;
        }
        tree[k] = v;
        count += 1;
        x = rest;
    }
}

#[inline(always)]
fn block<T: Num, F: Fold<T>>(f: F, x: &[T]) -> T {
    let Some(&first) = x.first() else { return f.start(T::ZERO) };
    let merge = |a, b| f.merge(a, b);
    let mut total = f.start(first);
    let (wide, x) = x.as_chunks::<LANES>();
    if !wide.is_empty() {
        // In two halves, and elements by value: a loop over this many lanes is unrolled, and the lanes stay in registers.
        let mut acc = ([f.start(first); LANES / 2], [f.start(first); LANES / 2]);
        for &c in wide {
            for j in 0..LANES / 2 {
                (acc.0[j], acc.1[j]) = (f.step(acc.0[j], c[j]), f.step(acc.1[j], c[j + LANES / 2]));
            }
        }
        let (mut low, high) = acc;
        for (a, b) in low.iter_mut().zip(high) {
            *a = f.merge(*a, b);
        }
        total = tree_of(low, merge);
    }
    let (narrow, x) = x.as_chunks::<8>();
    if !narrow.is_empty() {
        let mut acc = [f.start(first); 8];
        for c in narrow {
            for (a, &x) in acc.iter_mut().zip(c) {
                *a = f.step(*a, x);
            }
        }
        total = f.merge(total, tree_of_8(acc, merge));
    }
    for &x in x {
        total = f.step(total, x);
    }
    total
}

/// Results side by side: `width` of them for each place of `outer`, each from `run.0` elements `run.1` apart.
fn columns<T: Num, F: Fold<T>>(
    f: F,
    data: &[T],
    base: usize,
    outer: &[Axis],
    run: Axis,
    out: &mut [T],
    width: usize,
) {
    let (n, step) = (run.0, run.1 as usize);
    // Rows of one part. Only few and long columns are cut.
    let rows = (PART / width).max(8 * ROWS);
    let parts = if out.len() <= 4 * COLUMNS { n / rows } else { 1 };
    if parts >= 2 {
        let len = n.div_ceil(parts);
        let mut part = Block::stale(parts * out.len());
        par::for_each_chunk_mut(&mut part, width, NS * len as f64, |i, out| {
            let at = (base as isize + place(outer, i / parts)) as usize;
            let (from, to) = (i % parts * len, ((i % parts + 1) * len).min(n));
            strip(f, data, at + from * step, (to - from, step), out);
        });
        let outer = [(out.len() / width, (parts * width) as isize)];
        return columns(f.rest(), &part, 0, &outer, (parts, width as isize), out, width);
    }
    // A part is a strip of one outer index; narrow ones go several to a part.
    let per_outer = width.div_ceil(COLUMNS);
    let (grain, many) = if per_outer > 1 { (0, 1) } else { (width, (PART / (n * width)).max(1)) };
    if grain == 0 {
        for (i, out) in out.chunks_exact_mut(width).enumerate() {
            let at = (base as isize + place(outer, i)) as usize;
            par::for_each_chunk_mut(out, COLUMNS, NS * n as f64, |j, out| {
                strip(f, data, at + j * COLUMNS, (n, step), out);
            });
        }
        return;
    }
    par::for_each_chunk_mut(out, grain * many, NS * n as f64, |i, out| {
        for (j, out) in out.chunks_exact_mut(width).enumerate() {
            let at = (base as isize + place(outer, i * many + j)) as usize;
            strip(f, data, at, (n, step), out);
        }
    });
}

fn strip<T: Num, F: Fold<T>>(f: F, data: &[T], base: usize, run: (usize, usize), out: &mut [T]) {
    for (j, out) in out.chunks_mut(COLUMNS).enumerate() {
        dispatch(Strip { f, data, base: base + j * COLUMNS, n: run.0, step: run.1, out });
    }
}

/// At most [`COLUMNS`] columns.
struct Strip<'a, T, F> {
    f: F,
    data: &'a [T],
    base: usize,
    n: usize,
    step: usize,
    out: &'a mut [T],
}

impl<T: Num, F: Fold<T>> Kernel for Strip<'_, T, F> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Strip { f, data, base, n, step, out } = self;
        let w = out.len();
        let row = |i: usize| &data[base + i * step..][..w];
        let start = |acc: &mut [T]| {
            for (a, &x) in acc.iter_mut().zip(row(0)) {
                *a = f.start(x);
            }
        };
        start(out);
        if n <= ROWS {
            return fold_rows(f, out, 0, n, row);
        }
        // Level 0 folds rows, level k + 1 folds ROWS results of level k; `out` is the level above the last.
        let mut levels = [[T::ZERO; COLUMNS]; 3];
        levels.iter_mut().for_each(|l| start(&mut l[..w]));
        let mut done = 0;
        let mut count = 0usize;
        while done < n {
            let to = (done + ROWS).min(n);
            fold_rows(f, &mut levels[0][..w], done, to, row);
            done = to;
            count += 1;
            let mut full = 1;
            for k in 0..3 {
                if done < n && !count.is_multiple_of(full) {
                    break;
                }
                let (lower, upper) = levels.split_at_mut(k + 1);
                let upper = upper.first_mut().map_or(&mut *out, |u| &mut u[..w]);
                for (u, &l) in upper.iter_mut().zip(&lower[k][..w]) {
                    *u = f.merge(*u, l);
                }
                start(&mut lower[k][..w]);
                full *= ROWS;
            }
        }
    }
}

/// Folds rows `from..to` into `acc`, four at a time, to save loads and stores of `acc`.
#[inline(always)]
fn fold_rows<'a, T: Num, F: Fold<T>>(
    f: F,
    acc: &mut [T],
    from: usize,
    to: usize,
    row: impl Fn(usize) -> &'a [T],
) {
    let mut i = from;
    while i + 4 <= to {
        let w = acc.len();
        let (r0, r1, r2, r3) = (&row(i)[..w], &row(i + 1)[..w], &row(i + 2)[..w], &row(i + 3)[..w]);
        for j in 0..w {
            acc[j] = f.step(f.step(f.step(f.step(acc[j], r0[j]), r1[j]), r2[j]), r3[j]);
        }
        i += 4;
    }
    for i in i..to {
        for (a, &x) in acc.iter_mut().zip(row(i)) {
            *a = f.step(*a, x);
        }
    }
}

#[cfg(test)]
#[path = "reduce_tests.rs"]
mod tests;
