//! How the ten digits are written: for each a few hands, each hand a few pen strokes.
//!
//! A stroke is a list of points that a smooth curve runs through, in percent of the digit's height, x to the right and y down.
//! A point that stands twice is a corner: the pen turns there without smoothing.

use rand::{Rng, RngExt};
use rand_distr::StandardNormal;

/// A point or a displacement, x to the right and y down.
pub(super) type Point = [f32; 2];
type Stroke = &'static [[i8; 2]];
type Hand = &'static [Stroke];

/// `HANDS[digit]`: its ways of being written.
#[rustfmt::skip]
static HANDS: [&[Hand]; 10] = [
    &[
        &[&[[52, 2], [25, 15], [14, 50], [25, 86], [50, 98], [76, 85], [86, 50], [74, 14], [48, 3]]],
        &[&[[60, 2], [35, 20], [24, 55], [32, 88], [48, 98], [66, 82], [76, 45], [70, 14], [56, 4]]],
        &[&[[40, 10], [20, 35], [17, 65], [35, 95], [65, 94], [84, 65], [80, 30], [60, 5], [38, 8], [30, 18]]],
    ],
    &[
        &[&[[50, 2], [50, 50], [50, 98]]],
        &[&[[62, 2], [50, 50], [38, 98]]],
        &[&[[28, 25], [45, 13], [54, 2], [54, 2], [54, 50], [53, 98]]],
        &[&[[32, 22], [44, 14], [52, 2], [52, 2], [52, 50], [52, 97]], &[[30, 98], [74, 97]]],
    ],
    &[
        &[&[[20, 25], [32, 6], [58, 3], [76, 20], [70, 42], [45, 70], [18, 96], [18, 96], [50, 95], [84, 96]]],
        &[&[[20, 22], [38, 4], [66, 6], [74, 28], [58, 58], [34, 86], [18, 92], [16, 81], [30, 78], [50, 90], [68, 97], [86, 90]]],
        &[&[[20, 10], [45, 4], [74, 8], [70, 28], [46, 60], [18, 95], [18, 95], [50, 93], [82, 94]]],
        &[&[[22, 30], [26, 10], [50, 2], [72, 12], [72, 36], [50, 64], [24, 90], [30, 92], [54, 90], [80, 98]]],
    ],
    &[
        &[&[[22, 14], [45, 2], [70, 10], [70, 32], [44, 46], [44, 46], [74, 58], [78, 82], [52, 98], [20, 88]]],
        &[&[[22, 5], [48, 6], [75, 5], [75, 5], [46, 42], [46, 42], [74, 55], [78, 80], [52, 97], [20, 88]]],
        &[&[[22, 16], [48, 2], [72, 18], [60, 42], [40, 48], [42, 43], [60, 48], [78, 68], [64, 94], [36, 98], [18, 84]]],
    ],
    &[
        &[&[[30, 4], [22, 32], [16, 58], [16, 58], [50, 58], [86, 56]], &[[66, 10], [64, 55], [62, 98]]],
        &[&[[64, 98], [64, 50], [64, 2], [64, 2], [38, 34], [12, 68], [12, 68], [50, 68], [90, 66]]],
        &[&[[24, 6], [20, 36], [30, 54], [52, 54], [74, 40]], &[[78, 4], [72, 50], [68, 98]]],
        &[&[[34, 2], [24, 28], [14, 52], [14, 52], [44, 50], [76, 48]], &[[58, 30], [52, 64], [44, 98]]],
    ],
    &[
        &[&[[34, 5], [28, 44], [28, 44], [52, 36], [76, 48], [80, 74], [58, 96], [20, 92]], &[[34, 5], [56, 5], [80, 3]]],
        &[&[[76, 6], [42, 7], [28, 26], [44, 42], [68, 54], [76, 76], [56, 96], [22, 92]]],
        &[&[[76, 4], [52, 5], [30, 6], [30, 6], [26, 46], [26, 46], [60, 42], [80, 64], [66, 92], [24, 96]]],
    ],
    &[
        &[&[[66, 4], [38, 28], [20, 62], [28, 92], [56, 98], [78, 80], [70, 58], [46, 54], [24, 70]]],
        &[&[[44, 2], [28, 40], [22, 76], [40, 97], [66, 92], [70, 70], [48, 60], [26, 74]]],
        &[&[[78, 14], [56, 3], [32, 20], [18, 56], [26, 90], [54, 99], [80, 84], [78, 60], [52, 50], [24, 64]]],
    ],
    &[
        &[&[[16, 8], [48, 7], [80, 6], [80, 6], [58, 48], [40, 98]]],
        &[&[[16, 8], [48, 7], [80, 6], [80, 6], [58, 48], [42, 98]], &[[32, 52], [72, 48]]],
        &[&[[16, 22], [20, 6], [20, 6], [50, 8], [82, 4], [82, 4], [56, 40], [46, 98]]],
        &[&[[16, 14], [40, 4], [76, 8], [72, 34], [52, 64], [42, 98]]],
    ],
    &[
        &[&[[70, 14], [46, 2], [26, 16], [36, 38], [62, 56], [76, 78], [54, 98], [26, 84], [34, 60], [60, 40], [74, 22], [62, 4]]],
        &[&[[50, 2], [30, 12], [30, 36], [50, 47], [70, 36], [70, 12], [50, 2]],
          &[[50, 47], [24, 60], [22, 86], [50, 98], [78, 86], [76, 60], [50, 47]]],
        &[&[[64, 6], [38, 5], [28, 26], [54, 50], [70, 76], [48, 98], [24, 80], [44, 52], [70, 28], [66, 8]]],
    ],
    &[
        &[&[[74, 24], [54, 4], [28, 12], [22, 36], [42, 52], [66, 42], [76, 20], [76, 20], [74, 60], [70, 98]]],
        &[&[[72, 28], [56, 4], [30, 10], [22, 34], [40, 50], [64, 42], [74, 22], [76, 56], [62, 90], [28, 95]]],
        &[&[[72, 16], [48, 3], [26, 18], [30, 44], [56, 48], [74, 22], [74, 22], [62, 60], [44, 98]]],
    ],
];

/// How far a point strays from its place, as a part of the digit's height (standard deviation).
const WOBBLE: f32 = 0.028;
/// Straight pieces that a curve is drawn with between two of its points.
const PIECES: usize = 6;

/// One way to write `digit`, its points moved at random: polylines around the origin, of height about 1.
pub(super) fn write(digit: u8, rng: &mut impl Rng) -> Vec<Vec<Point>> {
    let hands = HANDS[digit as usize];
    let hand = hands[rng.random_range(0..hands.len())];
    hand.iter().map(|stroke| polyline(&wobbly(stroke, rng))).collect()
}

fn wobbly(stroke: Stroke, rng: &mut impl Rng) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::with_capacity(stroke.len());
    for (i, p) in stroke.iter().enumerate() {
        // Both mentions of a corner stay together.
        let moved = if i > 0 && stroke[i - 1] == *p {
            points[i - 1]
        } else {
            p.map(|x| f32::from(x) / 100.0 - 0.5 + WOBBLE * rng.sample::<f32, _>(StandardNormal))
        };
        points.push(moved);
    }
    points
}

/// A Catmull-Rom spline through the points, broken at corners.
fn polyline(points: &[Point]) -> Vec<Point> {
    let last = points.len() - 1;
    let mut line = vec![points[0]];
    for i in 0..last {
        let (a, b) = (points[i], points[i + 1]);
        if a == b {
            continue;
        }
        // Beside an end or a corner the neighbour is the point itself, which makes the curve leave it straight.
        let (before, after) = (points[i.saturating_sub(1)], points[(i + 2).min(last)]);
        for piece in 1..=PIECES {
            let t = piece as f32 / PIECES as f32;
            line.push([0, 1].map(|d| catmull_rom(before[d], a[d], b[d], after[d], t)));
        }
    }
    line
}

/// The cubic through `b` (t = 0) and `c` (t = 1) whose slopes there are those of the chords a–c and b–d.
fn catmull_rom(a: f32, b: f32, c: f32, d: f32, t: f32) -> f32 {
    let linear = c - a;
    let square = 2.0 * a - 5.0 * b + 4.0 * c - d;
    let cube = 3.0 * (b - c) + d - a;
    b + 0.5 * t * (linear + t * (square + t * cube))
}
