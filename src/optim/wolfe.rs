//! The line search of L-BFGS: a step length that fulfils the strong Wolfe conditions.
//!
//! ```text
//! f(t) ≤ f(0) + c₁·t·f'(0)     (enough descent)        |f'(t)| ≤ -c₂·f'(0)     (flat enough)
//! ```
//!
//! First the step grows until an interval is known to hold such a point, then cubic interpolation narrows it (Nocedal and Wright, "Numerical
//! Optimization", algorithms 3.5 and 3.6, with the safeguards of PyTorch, so that both take the same path).

use crate::error::Result;

const C1: f64 = 1e-4;
const C2: f64 = 0.9;

/// A point along the direction.
#[derive(Clone, Debug)]
pub(super) struct Point {
    /// How far.
    pub(super) t: f64,
    /// The loss there.
    pub(super) f: f64,
    /// The loss's derivative along the direction.
    pub(super) slope: f64,
    /// The gradient.
    pub(super) g: Vec<f64>,
}

/// The point where the search ends. `first` is the step that is tried first, `length` the largest element of the direction.
pub(super) fn strong_wolfe(
    mut at: impl FnMut(f64) -> Result<Point>,
    start: Point,
    first: f64,
    length: f64,
    tolerance: f64,
    most: usize,
) -> Result<Point> {
    let (f0, slope0) = (start.f, start.slope);
    let steep = |p: &Point| p.f > f0 + C1 * p.t * slope0;
    let flat = |p: &Point| p.slope.abs() <= -C2 * slope0;
    let mut before = start.clone();
    let mut now = at(first)?;
    let mut tries = 0;
    // The interval, once it is known.
    let mut bracket = None;
    while tries < most {
        if steep(&now) || (tries > 1 && now.f >= before.f) {
            bracket = Some([before.clone(), now.clone()]);
            break;
        }
        if flat(&now) {
            return Ok(now);
        }
        if now.slope >= 0.0 {
            bracket = Some([before.clone(), now.clone()]);
            break;
        }
        let (low, high) = (now.t + 0.01 * (now.t - before.t), now.t * 10.0);
        let t = cubic(&before, &now, Some((low, high)));
        before = std::mem::replace(&mut now, at(t)?);
        tries += 1;
    }
    let mut bracket = bracket.unwrap_or([start, now]);
    let order = |b: &[Point; 2]| if b[0].f <= b[1].f { (0, 1) } else { (1, 0) };
    let (mut low, mut high) = order(&bracket);
    let mut slow = false;
    while tries < most {
        if (bracket[1].t - bracket[0].t).abs() * length < tolerance {
            break;
        }
        let t = cubic(&bracket[0], &bracket[1], None);
        let (left, right) = (bracket[0].t.min(bracket[1].t), bracket[0].t.max(bracket[1].t));
        let t = away_from_the_ends(t, left, right, &mut slow);
        let new = at(t)?;
        tries += 1;
        if steep(&new) || new.f >= bracket[low].f {
            bracket[high] = new;
            (low, high) = order(&bracket);
            continue;
        }
        let done = flat(&new);
        if !done && new.slope * (bracket[high].t - bracket[low].t) >= 0.0 {
            bracket[high] = bracket[low].clone();
        }
        bracket[low] = new;
        if done {
            break;
        }
    }
    let [a, b] = bracket;
    Ok(if low == 0 { a } else { b })
}

/// Keeps a trial point a tenth of the interval away from its ends, when it comes too close for the second time in a row or lies outside.
fn away_from_the_ends(t: f64, left: f64, right: f64, slow: &mut bool) -> f64 {
    let margin = 0.1 * (right - left);
    if (right - t).min(t - left) >= margin {
        *slow = false;
        return t;
    }
    if !*slow && t < right && t > left {
        *slow = true;
        return t;
    }
    *slow = false;
    if (t - right).abs() < (t - left).abs() { right - margin } else { left + margin }
}

/// The minimum of the cubic through two points with their slopes, within bounds; the middle of the bounds if it has none.
fn cubic(a: &Point, b: &Point, bounds: Option<(f64, f64)>) -> f64 {
    let (low, high) = bounds.unwrap_or((a.t.min(b.t), a.t.max(b.t)));
    let d1 = a.slope + b.slope - 3.0 * (a.f - b.f) / (a.t - b.t);
    let square = d1 * d1 - a.slope * b.slope;
    if square.is_nan() || square < 0.0 {
        return (low + high) / 2.0;
    }
    let d2 = square.sqrt();
    let t = if a.t <= b.t {
        b.t - (b.t - a.t) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2.0 * d2))
    } else {
        a.t - (a.t - b.t) * ((a.slope + d2 - d1) / (a.slope - b.slope + 2.0 * d2))
    };
    t.max(low).min(high)
}
