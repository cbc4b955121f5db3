//! The distortions between a written digit and its place in the image: affine, then elastic.

use rand::{Rng, RngExt};
use rand_distr::StandardNormal;

use super::SIDE;
use super::strokes::Point;

/// Free pixels that stay around the ink.
const MARGIN: f32 = 1.5;

/// Moves a digit of height 1 around the origin to pixels: size, slant, rotation, elastic distortion, place.
pub(super) fn warp(strokes: &mut [Vec<Point>], rng: &mut impl Rng) {
    let affine = Affine::random(rng);
    let field = Field::random(rng);
    let mut points: Vec<&mut Point> = strokes.iter_mut().flatten().collect();
    for p in &mut points {
        let q = affine.apply(**p);
        let d = field.at(q);
        **p = [q[0] + d[0], q[1] + d[1]];
    }
    for axis in 0..2 {
        let shift: f32 = rng.random_range(-2.3..2.3);
        fit(&mut points, axis, shift);
    }
}

/// Moves the points along one axis by `shift`, and further (or shrinks them) where that would leave the image.
fn fit(points: &mut [&mut Point], axis: usize, shift: f32) {
    let (low, high) = (MARGIN, SIDE as f32 - MARGIN);
    let (min, max) = points
        .iter()
        .fold((f32::MAX, f32::MIN), |(min, max), p| (min.min(p[axis]), max.max(p[axis])));
    let scale = ((high - low) / (max - min).max(1e-3)).min(1.0);
    let start =
        (min + (max - min) * (1.0 - scale) / 2.0 + shift).clamp(low, high - scale * (max - min));
    for p in points {
        p[axis] = start + scale * (p[axis] - min);
    }
}

/// p ↦ A p + centre.
struct Affine([[f32; 2]; 2]);

impl Affine {
    fn random(rng: &mut impl Rng) -> Self {
        let mut normal = |sigma: f32, most: f32| {
            (sigma * rng.sample::<f32, _>(StandardNormal)).clamp(-most, most)
        };
        let angle = normal(7.5, 18.0).to_radians();
        // Most hands lean to the right.
        let slant = 0.12 + normal(0.17, 0.36);
        let height: f32 = rng.random_range(16.0..21.5);
        let width = height * rng.random_range(0.75..1.1);
        let (sin, cos) = angle.sin_cos();
        // Rotation · slant · size.
        let [a, b, d] = [width, -slant * height, height];
        Affine([[cos * a, cos * b - sin * d], [sin * a, sin * b + cos * d]])
    }

    fn apply(&self, [x, y]: Point) -> Point {
        let centre = SIDE as f32 / 2.0;
        self.0.map(|[a, b]| a * x + b * y + centre)
    }
}

/// Cells of the displacement field per side; one is two pixels.
const CELLS: usize = SIDE / 2;

/// A smooth random displacement of every place of the image: white noise under a Gaussian blur, as in P. Simard, D. Steinkraus,
/// J. Platt, "Best practices for convolutional neural networks applied to visual document analysis", 2003.
///
/// The blur's width is 4 pixels as there; the noise lives on every second pixel, which the blur makes no difference to.
struct Field {
    cells: [[Point; CELLS]; CELLS],
}

impl Field {
    fn random(rng: &mut impl Rng) -> Self {
        /// Standard deviation of the blur, in cells.
        const SIGMA: f32 = 2.0;
        const REACH: usize = 5;
        let kernel: [f32; 2 * REACH + 1] = std::array::from_fn(|i| {
            let x = i as f32 - REACH as f32;
            (-x * x / (2.0 * SIGMA * SIGMA)).exp() / (SIGMA * (2.0 * std::f32::consts::PI).sqrt())
        });
        // Uniform noise on -1..1 has the deviation 1/√3, and this blur divides it by 2 σ √π; the rest is pixels.
        let pixels: f32 = rng.random_range(0.3..1.1);
        let alpha = pixels * 3f32.sqrt() * 2.0 * SIGMA * std::f32::consts::PI.sqrt();

        let mut cells = [[[0.0; 2]; CELLS]; CELLS];
        for cell in cells.as_flattened_mut() {
            *cell = [0; 2].map(|_| alpha * rng.random_range(-1.0..1.0));
        }
        let blur = |line: [Point; CELLS]| -> [Point; CELLS] {
            std::array::from_fn(|i| {
                let mut sum = [0.0; 2];
                for j in i.saturating_sub(REACH)..CELLS.min(i + REACH + 1) {
                    let weight = kernel[j + REACH - i];
                    sum = [sum[0] + weight * line[j][0], sum[1] + weight * line[j][1]];
                }
                sum
            })
        };
        for _ in 0..2 {
            // Blur the rows and transpose; twice makes both directions.
            let rows = cells.map(blur);
            cells = std::array::from_fn(|i| std::array::from_fn(|j| rows[j][i]));
        }
        Field { cells }
    }

    /// The displacement at a place, in pixels, interpolated between the four cells around it.
    fn at(&self, p: Point) -> Point {
        let place = p.map(|x| (x / 2.0 - 0.5).clamp(0.0, CELLS as f32 - 1.001));
        let [(x, u), (y, v)] = place.map(|x| (x as usize, x.fract()));
        [0, 1].map(|d| {
            let row = |y: usize| self.cells[y][x][d] * (1.0 - u) + self.cells[y][x + 1][d] * u;
            row(y) * (1.0 - v) + row(y + 1) * v
        })
    }
}
