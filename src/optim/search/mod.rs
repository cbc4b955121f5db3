//! Minimising without gradients: a genetic algorithm, a particle swarm and simulated annealing behind one interface.
//!
//! A [`Search`] minimises any function of a vector over a [`Space`]: hyper-parameters within bounds, or all weights of a model through
//! [`flatten_params`](super::flatten_params) and [`set_flat_params`](super::set_flat_params). The same seed gives the same answer.
//!
//! ```
//! use gradus::prelude::*;
//! use gradus::optim::search::{ParticleSwarm, Search, Space};
//! let space = Space::new().log(1e-5, 1e-1)?.integer(1, 8)?;                // a learning rate and a number of layers
//! let score = |x: &[f64]| (x[0].log10() + 3.0).powi(2) + (x[1] - 5.0).powi(2);
//! let best = ParticleSwarm::new().minimize(&space, score, &mut gradus::rng(0))?;
//! assert!((best.x[0].log10() + 3.0).abs() < 0.05 && best.x[1] == 5.0);
//! # Ok::<(), Error>(())
//! ```

mod annealing;
mod genetic;
mod swarm;
#[cfg(test)]
mod tests;

pub use annealing::SimulatedAnnealing;
pub use genetic::GeneticAlgorithm;
pub use swarm::ParticleSwarm;

use rand::{Rng, RngExt};

use crate::error::{Error, Result};

/// A way to minimise a function without its gradient.
pub trait Search {
    /// Looks for the point of the space where `f` is smallest. `f` gives a number or a `Result` of one; a value that is not a number counts as the worst
    /// there is.
    ///
    /// # Errors
    /// [`Error::Argument`] if the space is empty or a setting is out of its range, and the first error of `f`.
    fn minimize<V: Score>(
        &self,
        space: &Space,
        f: impl FnMut(&[f64]) -> V,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<Best>;
}

/// What a [`Search`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Best {
    /// The point.
    pub x: Vec<f64>,
    /// The value there; infinite if no point had one.
    pub value: f64,
    /// How often the function was evaluated.
    pub evaluations: usize,
}

/// What a function under search gives: a number, or a `Result` of one.
pub trait Score {
    /// The number.
    ///
    /// # Errors
    /// The function's own.
    fn score(self) -> Result<f64>;
}

impl Score for f64 {
    fn score(self) -> Result<f64> {
        Ok(self)
    }
}

impl Score for f32 {
    fn score(self) -> Result<f64> {
        Ok(self.into())
    }
}

impl<S: Score> Score for Result<S> {
    fn score(self) -> Result<f64> {
        self?.score()
    }
}

/// Where a search looks: bounds for every coordinate, and perhaps a point to begin with.
#[derive(Clone, Debug, Default)]
pub struct Space {
    axes: Vec<Axis>,
    start: Option<Vec<f64>>,
}

#[derive(Clone, Copy, Debug)]
enum Axis {
    Real(f64, f64),
    Log(f64, f64),
    Integer(f64, f64),
}

const OP: &str = "Space";

fn bounds(low: f64, high: f64, ok: bool, must: &str) -> Result<()> {
    if ok && low.is_finite() && high.is_finite() && (high - low).is_finite() && low <= high {
        return Ok(());
    }
    Err(Error::argument(
        OP,
        format!("the bounds are {low} and {high}; they must be finite, in order{must}"),
    ))
}

impl Space {
    /// No coordinates yet.
    pub fn new() -> Self {
        Space::default()
    }

    /// `n` coordinates with the same bounds.
    ///
    /// # Errors
    /// As [`real`](Self::real).
    pub fn cube(n: usize, low: f64, high: f64) -> Result<Self> {
        bounds(low, high, true, "")?;
        Ok(Space { axes: vec![Axis::Real(low, high); n], start: None })
    }

    /// One more coordinate, from `low` to `high`.
    ///
    /// # Errors
    /// [`Error::Argument`] unless the bounds are finite and in order.
    pub fn real(mut self, low: f64, high: f64) -> Result<Self> {
        bounds(low, high, true, "")?;
        self.axes.push(Axis::Real(low, high));
        Ok(self)
    }

    /// One more coordinate, on a logarithmic scale: for rates and penalties.
    ///
    /// # Errors
    /// [`Error::Argument`] unless the bounds are finite, in order and above 0.
    pub fn log(mut self, low: f64, high: f64) -> Result<Self> {
        bounds(low, high, low > 0.0, " and above 0 on a logarithmic scale")?;
        self.axes.push(Axis::Log(low, high));
        Ok(self)
    }

    /// One more coordinate, of whole numbers, both bounds included.
    ///
    /// # Errors
    /// [`Error::Argument`] unless the bounds are in order.
    pub fn integer(mut self, low: i64, high: i64) -> Result<Self> {
        let (low, high) = (low as f64, high as f64);
        bounds(low, high, true, "")?;
        self.axes.push(Axis::Integer(low, high));
        Ok(self)
    }

    /// A point to begin with, beside random ones; what lies outside the bounds is moved to them.
    ///
    /// # Errors
    /// [`Error::Shape`] if it has another number of coordinates, [`Error::Argument`] if one is not a number.
    pub fn start(mut self, x: &[f64]) -> Result<Self> {
        if x.len() != self.axes.len() {
            let message =
                format!("a start of {} coordinates in a space of {}", x.len(), self.len());
            return Err(Error::shape(OP, message));
        }
        if let Some(i) = x.iter().position(|x| x.is_nan()) {
            return Err(Error::argument(OP, format!("coordinate {i} of the start is NaN")));
        }
        self.start = Some(self.axes.iter().zip(x).map(|(a, &x)| a.encode(x)).collect());
        Ok(self)
    }

    /// How many coordinates there are.
    pub fn len(&self) -> usize {
        self.axes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.axes.is_empty()
    }

    /// A point from coordinates between 0 and 1.
    fn decode(&self, u: &[f64]) -> Vec<f64> {
        self.axes.iter().zip(u).map(|(a, &u)| a.decode(u)).collect()
    }

    /// The first points of a search, in coordinates between 0 and 1: the start if there is one, then random ones.
    fn first(&self, n: usize, rng: &mut (impl Rng + ?Sized)) -> Vec<Vec<f64>> {
        let mut points: Vec<Vec<f64>> = self.start.clone().into_iter().collect();
        while points.len() < n {
            points.push((0..self.len()).map(|_| rng.random()).collect());
        }
        points
    }
}

impl Axis {
    fn decode(self, u: f64) -> f64 {
        match self {
            Axis::Real(low, high) => (low + u * (high - low)).clamp(low, high),
            Axis::Log(low, high) => (low.ln() + u * (high.ln() - low.ln())).exp().clamp(low, high),
            Axis::Integer(low, high) => (low + u * (high - low + 1.0)).floor().clamp(low, high),
        }
    }

    fn encode(self, x: f64) -> f64 {
        let part = |x: f64, low: f64, high: f64| {
            if high > low { ((x - low) / (high - low)).clamp(0.0, 1.0) } else { 0.5 }
        };
        match self {
            Axis::Real(low, high) => part(x, low, high),
            Axis::Log(low, high) => part(x.clamp(low, high).ln(), low.ln(), high.ln()),
            Axis::Integer(low, high) => part(x.clamp(low, high).round() + 0.5, low, high + 1.0),
        }
    }
}

/// A function under search: counts, and remembers the best.
struct Trials<'a, F> {
    space: &'a Space,
    f: F,
    best: Option<Best>,
    evaluations: usize,
}

impl<'a, V: Score, F: FnMut(&[f64]) -> V> Trials<'a, F> {
    fn new(space: &'a Space, f: F) -> Result<Self> {
        if space.is_empty() {
            return Err(Error::argument(OP, "a search needs at least one coordinate"));
        }
        Ok(Trials { space, f, best: None, evaluations: 0 })
    }

    fn value(&mut self, u: &[f64]) -> Result<f64> {
        let x = self.space.decode(u);
        let value = (self.f)(&x).score()?;
        let value = if value.is_nan() { f64::INFINITY } else { value };
        self.evaluations += 1;
        if self.best.as_ref().is_none_or(|b| value < b.value) {
            self.best = Some(Best { x, value, evaluations: 0 });
        }
        Ok(value)
    }

    fn finish(self) -> Result<Best> {
        let Some(best) = self.best else {
            return Err(Error::argument(OP, "the search evaluated nothing"));
        };
        Ok(Best { evaluations: self.evaluations, ..best })
    }
}

/// `Ok` if `ok`, else an error that names the setting, its value and what it must be.
fn require(op: &'static str, ok: bool, name: &str, value: f64, must: &str) -> Result<()> {
    if ok {
        return Ok(());
    }
    Err(Error::argument(op, format!("{name} is {value}; it must be {must}")))
}

/// A sample of the standard normal distribution.
fn normal(rng: &mut (impl Rng + ?Sized)) -> f64 {
    rng.sample(rand_distr::StandardNormal)
}
