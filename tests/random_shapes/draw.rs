//! Shapes, numbers and layouts drawn at random, and the table's row.

use gradus::Slice;
use gradus::prelude::*;
use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

pub type X = Tensor<f64>;
pub type R = Xoshiro256PlusPlus;
pub type Shape = Vec<usize>;

/// What is known of an operation on `N` tensors.
pub struct Row<const N: usize> {
    pub name: &'static str,
    pub f: fn([&X; N], usize) -> Result<X>,
    pub shapes: fn(&mut R) -> [Shape; N],
    pub domains: [fn(f64) -> f64; N],
    pub distinct: bool,
    pub same_bits: bool,
    pub once: bool,
}

/// A row: `f` is given its inputs and a number that chooses the axis, the option, the reduction.
pub const fn row<const N: usize>(
    name: &'static str,
    shapes: fn(&mut R) -> [Shape; N],
    f: fn([&X; N], usize) -> Result<X>,
) -> Row<N> {
    let domains = [any as fn(f64) -> f64; N];
    Row { name, f, shapes, domains, distinct: false, same_bits: false, once: false }
}

impl<const N: usize> Row<N> {
    /// What the numbers between -2 and 2 become first, for each input.
    pub const fn on(mut self, domains: [fn(f64) -> f64; N]) -> Self {
        self.domains = domains;
        self
    }

    /// No two elements of an input are equal, since there would be a kink: no input is expanded.
    pub const fn distinct(mut self) -> Self {
        self.distinct = true;
        self
    }

    /// Value and gradient of a strided input have the bits of those of its dense copy.
    pub const fn same_bits(mut self) -> Self {
        self.same_bits = true;
        self
    }

    /// There is no second derivative.
    pub const fn once(mut self) -> Self {
        self.once = true;
        self
    }

    /// Inputs of one draw.
    pub fn draw(&self, rng: &mut R) -> [X; N] {
        let mut shapes = (self.shapes)(rng).into_iter();
        std::array::from_fn(|i| {
            let mut fill = numbers(i, self.domains[i], rng.random());
            let depth = rng.random_range(0..4);
            layout(&shapes.next().unwrap(), depth, !self.distinct, &mut fill, rng)
        })
    }
}

/// The numbers themselves.
pub fn any(v: f64) -> f64 {
    v
}
/// 0.3 to 2.3.
pub fn positive(v: f64) -> f64 {
    v.abs() + 0.3
}
/// 1.2 to 3.2.
pub fn above_one(v: f64) -> f64 {
    v.abs() + 1.2
}
/// -0.9 to 0.9.
pub fn inside(v: f64) -> f64 {
    v * 0.45
}
/// -8 to 8.
pub fn wide(v: f64) -> f64 {
    v * 4.0
}
/// 0.1 to 0.9.
pub fn probability(v: f64) -> f64 {
    v * 0.2 + 0.5
}

/// Fills shapes with numbers between -2 and 2 in an order of their own: odd multiples of 1/2048, and for each further input a little more.
/// So multiples of 1/1024, where the kinks are, stay far off, the elements of an input differ, and those of two inputs do not differ
/// by a multiple of 1/1024 either.
fn numbers(input: usize, domain: fn(f64) -> f64, start: u64) -> impl FnMut(&[usize]) -> X {
    let shift = input as f64 / 8192.0;
    move |shape| {
        // 1557 is prime to 4096, so that the places come in a mixed order.
        let at = |i: usize| ((start % 4096) as usize + i * 1557) % 4096;
        let v = |i: usize| domain((2.0 * at(i) as f64 - 4095.0) / 2048.0 + shift);
        Tensor::from_fn(shape, v).unwrap()
    }
}

/// A tensor of this shape behind `depth` views: transposed, flipped, stepped forwards or backwards, a part of a larger one, expanded.
fn layout(
    shape: &[usize],
    depth: usize,
    expand: bool,
    fill: &mut dyn FnMut(&[usize]) -> X,
    rng: &mut R,
) -> X {
    if depth == 0 || shape.is_empty() {
        return fill(shape);
    }
    let (a, b) = (rng.random_range(0..shape.len()), rng.random_range(0..shape.len()));
    let (axis, mut from) = (a as isize, shape.to_vec());
    let step = match rng.random_range(0..if expand { 6 } else { 5 }) {
        0 => {
            from.swap(a, b);
            return layout(&from, depth - 1, expand, fill, rng)
                .transpose(axis, b as isize)
                .unwrap();
        }
        1 => -1,
        2 => 2,
        3 => -3,
        4 => {
            from[a] += 2;
            return layout(&from, depth - 1, expand, fill, rng).narrow(axis, 1, shape[a]).unwrap();
        }
        _ => {
            from[a] = 1;
            return layout(&from, depth - 1, expand, fill, rng).expand(shape).unwrap();
        }
    };
    from[a] *= isize::unsigned_abs(step);
    let x = layout(&from, depth - 1, expand, fill, rng);
    x.slice_axis(axis, Slice::all().step(step)).unwrap()
}

/// A size: now and then 0 (unless `least` is more) or 1, now and then long enough for the wide steps of the kernels and what is left.
pub fn size(least: usize, rng: &mut R) -> usize {
    match rng.random_range(0..10) {
        0 => least,
        1 => least.max(1),
        2 | 3 => rng.random_range(9..40),
        _ => rng.random_range(least.max(2)..least.max(2) + 4),
    }
}

fn shape(ranks: std::ops::Range<usize>, least: usize, rng: &mut R) -> Shape {
    let mut s: Shape = (0..rng.random_range(ranks)).map(|_| size(least, rng)).collect();
    // One long axis is enough.
    for i in 1..s.len() {
        if s[..i].iter().any(|&d| d > 8) {
            s[i] = s[i].min(4);
        }
    }
    s
}

/// One shape of 0 to 3 axes.
pub fn every(rng: &mut R) -> [Shape; 1] {
    [shape(0..4, 0, rng)]
}
/// One to three axes.
pub fn axes(rng: &mut R) -> [Shape; 1] {
    [shape(1..4, 0, rng)]
}
/// One to three axes, none empty.
pub fn full(rng: &mut R) -> [Shape; 1] {
    [shape(1..4, 1, rng)]
}
/// Two or three axes, perhaps empty.
pub fn matrices(rng: &mut R) -> [Shape; 1] {
    [shape(2..4, 0, rng)]
}
/// One to three axes of two elements or more.
pub fn several(rng: &mut R) -> [Shape; 1] {
    [shape(1..4, 2, rng)]
}
/// One to three axes of even size.
pub fn even(rng: &mut R) -> [Shape; 1] {
    [shape(1..4, 0, rng).into_iter().map(|d| d * 2).collect()]
}
/// Twice the same shape.
pub fn twice(rng: &mut R) -> [Shape; 2] {
    let s = shape(0..4, 0, rng);
    [s.clone(), s]
}
/// Three times the same shape, of one axis or more.
pub fn thrice(rng: &mut R) -> [Shape; 3] {
    let s = shape(1..4, 1, rng);
    [s.clone(), s.clone(), s]
}
/// Two shapes that broadcast.
pub fn pair(rng: &mut R) -> [Shape; 2] {
    let whole = shape(0..4, 0, rng);
    let mut part = || -> Shape {
        let left: Shape = match rng.random_range(0..3) {
            0 => whole[rng.random_range(0..=whole.len())..].to_vec(),
            _ => whole.clone(),
        };
        left.iter().map(|&d| if rng.random_range(0..3) == 0 { 1 } else { d }).collect()
    };
    [part(), part()]
}

/// The axis that `k` chooses, from the front or from the end.
pub fn axis(x: &X, k: usize) -> isize {
    let rank = x.rank().max(1);
    (k % rank) as isize - if k / rank % 2 == 1 { rank as isize } else { 0 }
}

/// The size along [`axis`].
pub fn along(x: &X, k: usize) -> usize {
    x.shape()[k % x.rank().max(1)]
}
