//! From polylines in pixels to an image: a pen of varying width and blackness, soft edges, noise.

use rand::{Rng, RngExt};
use rand_distr::StandardNormal;

use super::SIDE;
use super::strokes::Point;

/// Draws the strokes and writes the image to `pixels` (`SIDE` × `SIDE`, 0 is paper and 255 full ink).
pub(super) fn draw(strokes: &[Vec<Point>], pixels: &mut [u8], rng: &mut impl Rng) {
    let pen = Pen::random(rng);
    let mut ink = [0.0; SIDE * SIDE];
    for stroke in strokes {
        let phase = rng.random_range(0.0..std::f32::consts::TAU);
        for (i, ends) in stroke.windows(2).enumerate() {
            let pressure = 1.0 + pen.unsteadiness * (phase + 0.25 * i as f32).sin();
            pen.segment(&mut ink, [ends[0], ends[1]], pen.radius * pressure);
        }
    }
    let noise: f32 = rng.random_range(0.0..0.06);
    for (pixel, ink) in pixels.iter_mut().zip(ink) {
        let value = pen.blackness * ink + noise * rng.sample::<f32, _>(StandardNormal);
        *pixel = (255.0 * value.clamp(0.0, 1.0)).round() as u8;
    }
}

struct Pen {
    /// Half the width of a line, in pixels.
    radius: f32,
    /// Width of the soft edge, in pixels.
    softness: f32,
    /// How much the pressure changes the width along a stroke.
    unsteadiness: f32,
    blackness: f32,
}

impl Pen {
    fn random(rng: &mut impl Rng) -> Self {
        Pen {
            radius: rng.random_range(0.8..1.7),
            softness: rng.random_range(0.8..1.5),
            unsteadiness: rng.random_range(0.0..0.3),
            blackness: rng.random_range(0.7..1.1),
        }
    }

    /// Inks every pixel near the segment by how far inside the line's edge its centre lies.
    fn segment(&self, ink: &mut [f32; SIDE * SIDE], [a, b]: [Point; 2], radius: f32) {
        let reach = radius + self.softness;
        let [columns, rows] = [0, 1].map(|d| {
            let low = (a[d].min(b[d]) - reach).max(0.0) as usize;
            let high = (a[d].max(b[d]) + reach).max(0.0) as usize + 1;
            low.min(SIDE)..high.min(SIDE)
        });
        let along = [b[0] - a[0], b[1] - a[1]];
        let length2 = (along[0] * along[0] + along[1] * along[1]).max(1e-9);
        for row in rows {
            for column in columns.clone() {
                let from_a = [column as f32 + 0.5 - a[0], row as f32 + 0.5 - a[1]];
                let t = (from_a[0] * along[0] + from_a[1] * along[1]) / length2;
                let t = t.clamp(0.0, 1.0);
                let (dx, dy) = (from_a[0] - t * along[0], from_a[1] - t * along[1]);
                let inside = radius - (dx * dx + dy * dy).sqrt();
                let coverage = (inside / self.softness + 0.5).clamp(0.0, 1.0);
                let pixel = &mut ink[row * SIDE + column];
                *pixel = pixel.max(coverage);
            }
        }
    }
}
