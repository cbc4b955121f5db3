//! Rows of any length in whole vectors.
//!
//! Rows stand one behind the other, and most are no multiple of a vector long. A loop over what is left of each, number by number or through a copy on
//! the stack, costs as much as the rest of a short row. So the last chunk of a row is read whole, with what stands behind the row, and
//! what is not of the row is replaced; and it is written whole: rows are computed in order, and the next one overwrites what went too
//! far. Only at the end of the memory is it put together element by element.
//!
//! What is here takes slices that begin with a row and may go on behind it, and the row's length `n`. The bodies of loops are written out for
//! the whole chunks and for the last one, by a macro where they are long: a closure that is called in two places might not be inlined, and
//! then it would be compiled for the baseline and not for the kernel around it.

use super::lanes::tree_of_16;
use super::simd::prefetch;
use crate::element::Num;

/// Elements of a chunk: one vector of 16 `f32`, or two, or four.
pub(crate) const W: usize = 16;

/// The first `n` elements of `x`, at most [`W`], and `pad` behind them.
#[inline(always)]
pub(crate) fn padded<T: Copy>(x: &[T], n: usize, pad: T) -> [T; W] {
    let mut chunk = match x.first_chunk::<W>() {
        Some(chunk) => *chunk,
        None => {
            let mut chunk = [pad; W];
            chunk[..n].copy_from_slice(&x[..n]);
            chunk
        }
    };
    for (j, v) in chunk.iter_mut().enumerate() {
        *v = if j < n { *v } else { pad };
    }
    chunk
}

/// Writes the first `n` elements of a chunk to `out`, and the others behind them if there is room.
#[inline(always)]
pub(crate) fn put<T: Copy>(out: &mut [T], n: usize, chunk: [T; W]) {
    match out.first_chunk_mut::<W>() {
        Some(out) => *out = chunk,
        None => out[..n].copy_from_slice(&chunk[..n]),
    }
}

/// Runs the body for each chunk of a row, the last one padded.
macro_rules! for_chunks {
    ($x:expr, $n:expr, $pad:expr, |$chunk:ident| $body:expr) => {{
        let (x, n) = ($x, $n);
        let (chunks, tail) = x[..n].as_chunks::<{ $crate::kernel::chunks::W }>();
        for $chunk in chunks {
            $body
        }
        if !tail.is_empty() {
            let at = n - tail.len();
            let $chunk = &$crate::kernel::chunks::padded(&x[at..], tail.len(), $pad);
            $body
        }
    }};
}
pub(crate) use for_chunks;

/// Writes `f` of each place of two rows to `out`.
#[inline(always)]
pub(crate) fn row_map<T: Num>(x: &[T], y: &[T], n: usize, out: &mut [T], f: impl Fn(T, T) -> T) {
    let at = n / W * W;
    for ((o, &x), &y) in out[..at].iter_mut().zip(&x[..at]).zip(&y[..at]) {
        *o = f(x, y);
    }
    if at < n {
        let (x, y) = (padded(&x[at..], n - at, T::ZERO), padded(&y[at..], n - at, T::ZERO));
        let mut o = [T::ZERO; W];
        for j in 0..W {
            o[j] = f(x[j], y[j]);
        }
        put(&mut out[at..], n - at, o);
    }
}

/// Writes `f` of each place of three rows to `out`, and asks for as much of what lies `ahead`.
#[inline(always)]
pub(crate) fn row_map3<T: Num>(
    [x, y, z]: [&[T]; 3],
    ahead: [&[T]; 2],
    n: usize,
    out: &mut [T],
    f: impl Fn(T, T, T) -> T,
) {
    let (xs, tail) = x[..n].as_chunks::<W>();
    let (ys, zs) = (y[..n].as_chunks::<W>().0, z[..n].as_chunks::<W>().0);
    let outs = out[..n].as_chunks_mut::<W>().0;
    for (i, (((out, x), y), z)) in outs.iter_mut().zip(xs).zip(ys).zip(zs).enumerate() {
        prefetch(ahead[0], i * W, W);
        prefetch(ahead[1], i * W, W);
        // Complete before it is written: whether the output overlaps the inputs is then nothing to test for.
        let mut o = [T::ZERO; W];
        for j in 0..W {
            o[j] = f(x[j], y[j], z[j]);
        }
        *out = o;
    }
    if !tail.is_empty() {
        let (at, n) = (n - tail.len(), tail.len());
        let (x, y) = (padded(&x[at..], n, T::ZERO), padded(&y[at..], n, T::ZERO));
        let z = padded(&z[at..], n, T::ZERO);
        let mut o = [T::ZERO; W];
        for j in 0..W {
            o[j] = f(x[j], y[j], z[j]);
        }
        put(&mut out[at..], n, o);
    }
}

/// Changes each place of `sums`, which has whole chunks, by two rows. `f` must be able to take 0 for both.
#[inline(always)]
pub(crate) fn row_add<T: Num>(
    x: &[T],
    y: &[T],
    n: usize,
    sums: &mut [T],
    f: impl Fn(T, T, T) -> T,
) {
    let at = n / W * W;
    for ((s, &x), &y) in sums[..at].iter_mut().zip(&x[..at]).zip(&y[..at]) {
        *s = f(*s, x, y);
    }
    if at < n {
        let (x, y) = (padded(&x[at..], n - at, T::ZERO), padded(&y[at..], n - at, T::ZERO));
        let mut s = padded(&sums[at..], W, T::ZERO);
        for j in 0..W {
            s[j] = f(s[j], x[j], y[j]);
        }
        put(&mut sums[at..], W, s);
    }
}

/// Changes each element of a row.
#[inline(always)]
pub(crate) fn row_update<T: Num>(x: &mut [T], n: usize, f: impl Fn(T) -> T) {
    let at = n / W * W;
    for v in &mut x[..at] {
        *v = f(*v);
    }
    if at < n {
        let mut chunk = padded(&x[at..], n - at, T::ZERO);
        chunk.iter_mut().for_each(|v| *v = f(*v));
        put(&mut x[at..], n - at, chunk);
    }
}

/// Sum of lanes as a tree.
#[inline(always)]
pub(crate) fn total<T: Num>(acc: [T; W]) -> T {
    tree_of_16(acc, |a, b| a.plus(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_all_that_is_read_and_in_the_end_all_that_is_written() {
        for n in [1, 2, 15, 16, 17, 40] {
            for rows in [1, 3] {
                let x: Vec<f32> = (0..rows * n).map(|i| i as f32 + 1.0).collect();
                let mut out = vec![f32::NAN; rows * n];
                for at in (0..rows * n).step_by(n) {
                    let mut seen = Vec::new();
                    for_chunks!(&x[at..], n, -1.0, |c| seen.extend_from_slice(c));
                    assert_eq!(seen[..n], x[at..at + n]);
                    assert!(
                        seen.len() == n.next_multiple_of(W) && seen[n..].iter().all(|&v| v == -1.0)
                    );
                    row_map(&x[at..], &x[at..], n, &mut out[at..], |x, y| x * y);
                    row_update(&mut out[at..], n, |v| v + 0.5);
                }
                let want: Vec<f32> = x.iter().map(|x| x * x + 0.5).collect();
                assert_eq!(out, want, "{rows} x {n}");
            }
        }
    }
}
