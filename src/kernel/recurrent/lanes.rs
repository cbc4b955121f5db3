//! Rows worked on in chunks of [`W`] numbers that live in registers: the loops over them have a fixed length, which the compiler turns
//! into vectors, however many rows a formula reads and writes. The tail of a row runs through the same code, padded with zeros.

use crate::float::Float;

/// Numbers in a chunk: one vector of 16 `f32`, or two, or four.
pub(super) const W: usize = 16;

/// `W` numbers of a row.
pub(super) type Lanes<T> = [T; W];

/// The numbers from `at` on; zeros after the row's end. (So an empty row is a row of zeros.)
#[inline(always)]
pub(super) fn load<T: Float>(row: &[T], at: usize) -> Lanes<T> {
    let rest = row.get(at..).unwrap_or(&[]);
    match rest.first_chunk::<W>() {
        Some(chunk) => *chunk,
        None => {
            let mut tail = [T::ZERO; W];
            tail[..rest.len()].copy_from_slice(rest);
            tail
        }
    }
}

/// Writes the numbers that belong to the row.
#[inline(always)]
pub(super) fn store<T: Float>(row: &mut [T], at: usize, v: &Lanes<T>) {
    let rest = &mut row[at..];
    match rest.first_chunk_mut::<W>() {
        Some(chunk) => *chunk = *v,
        None => {
            let n = rest.len();
            rest.copy_from_slice(&v[..n]);
        }
    }
}

/// `f` of each number.
#[inline(always)]
pub(super) fn each<T: Float>(a: &Lanes<T>, f: impl Fn(T) -> T) -> Lanes<T> {
    let mut out = [T::ZERO; W];
    for j in 0..W {
        out[j] = f(a[j]);
    }
    out
}

/// `f` of two.
#[inline(always)]
pub(super) fn both<T: Float>(a: &Lanes<T>, b: &Lanes<T>, f: impl Fn(T, T) -> T) -> Lanes<T> {
    let mut out = [T::ZERO; W];
    for j in 0..W {
        out[j] = f(a[j], b[j]);
    }
    out
}

/// `f` of three.
#[inline(always)]
pub(super) fn three<T: Float>(
    a: &Lanes<T>,
    b: &Lanes<T>,
    c: &Lanes<T>,
    f: impl Fn(T, T, T) -> T,
) -> Lanes<T> {
    let mut out = [T::ZERO; W];
    for j in 0..W {
        out[j] = f(a[j], b[j], c[j]);
    }
    out
}

/// A row of `N` gates of `h` numbers each, gate by gate.
#[inline(always)]
pub(super) fn gates<T, const N: usize>(row: &mut [T], h: usize) -> [&mut [T]; N] {
    let mut rest = row;
    std::array::from_fn(|_| {
        let (gate, tail) = std::mem::take(&mut rest).split_at_mut(h);
        rest = tail;
        gate
    })
}
