//! Simulated annealing.

use std::f64::consts::PI;

use rand::{Rng, RngExt};

use super::{Best, Score, Search, Space, Trials, require};
use crate::error::Result;

/// Simulated annealing (Kirkpatrick, Gelatt and Vecchi 1983): one point walks at random; a step that makes the value worse by Δ is taken with
/// probability e^(-Δ/T), and the temperature T falls geometrically. Steps get shorter with it, but are drawn from Cauchy's distribution (Szu and Hartley 1987), whose
/// rare long jumps lead out of a wrong valley even late.
///
/// ```
/// use gradus::optim::search::{Search, SimulatedAnnealing, Space};
/// let sphere = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>();
/// let best = SimulatedAnnealing::new().minimize(&Space::cube(3, -5.0, 5.0)?, sphere, &mut gradus::rng(1))?;
/// assert!(best.value < 1e-4);
/// # Ok::<(), gradus::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SimulatedAnnealing {
    steps: usize,
    temperatures: Option<(f64, f64)>,
    step: f64,
}

/// Random points that tell how widely values differ, where no temperature is given.
const PROBES: usize = 20;

impl Default for SimulatedAnnealing {
    fn default() -> Self {
        Self::new()
    }
}

impl SimulatedAnnealing {
    /// 10 000 steps, at first mostly within a twentieth of the range. The temperature falls from the spread of the values of 20 random points to 10⁻⁸ of that.
    pub fn new() -> Self {
        SimulatedAnnealing { steps: 10_000, temperatures: None, step: 0.05 }
    }

    /// How many steps are tried.
    pub fn steps(mut self, n: usize) -> Self {
        self.steps = n;
        self
    }

    /// The temperature at the start and at the end, in units of the function's value.
    pub fn temperatures(mut self, start: f64, end: f64) -> Self {
        self.temperatures = Some((start, end));
        self
    }

    /// The scale of a coordinate's first steps, as a part of its range.
    pub fn step(mut self, sigma: f64) -> Self {
        self.step = sigma;
        self
    }
}

impl Search for SimulatedAnnealing {
    fn minimize<V: Score>(
        &self,
        space: &Space,
        f: impl FnMut(&[f64]) -> V,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<Best> {
        const OP: &str = "SimulatedAnnealing";
        for (name, t) in self.temperatures.iter().flat_map(|t| [("first", t.0), ("last", t.1)]) {
            let name = format!("the {name} temperature");
            require(OP, t > 0.0 && t.is_finite(), &name, t, "finite and above 0")?;
        }
        let ok = self.step > 0.0 && self.step.is_finite();
        require(OP, ok, "the step", self.step, "finite and above 0")?;
        let mut trials = Trials::new(space, f)?;
        let mut first = space.first(1, rng);
        let mut x = first.pop().unwrap_or_default();
        let mut value = trials.value(&x)?;
        let (start, end) = match self.temperatures {
            Some(given) => given,
            None => {
                let mut values = vec![value];
                for _ in 0..PROBES {
                    let u: Vec<f64> = x.iter().map(|_| rng.random()).collect();
                    let new = trials.value(&u)?;
                    values.push(new);
                    // Without a start of the user's, the best of the random points is one.
                    if space.start.is_none() && new < value {
                        (x, value) = (u, new);
                    }
                }
                let spread = spread(&values);
                (spread, spread * 1e-8)
            }
        };
        for k in 0..self.steps {
            let part = k as f64 / self.steps as f64;
            let t = start * (end / start).powf(part);
            let sigma = self.step * (t / start).powf(0.5);
            let mut u = x.clone();
            // One coordinate more often than all: high dimensions would refuse nearly every step otherwise.
            let only = (rng.random::<f64>() < 0.75).then(|| rng.random_range(0..u.len()));
            for (i, u) in u.iter_mut().enumerate() {
                if only.is_none_or(|only| only == i) {
                    let luck: f64 = rng.random();
                    let to = *u + sigma * (PI * (luck - 0.5)).tan();
                    // Past a bound, anywhere: at the bounds themselves steps would pile up.
                    *u = if (0.0..=1.0).contains(&to) { to } else { rng.random() };
                }
            }
            let new = trials.value(&u)?;
            let luck: f64 = rng.random();
            if new <= value || luck < ((value - new) / t).exp() {
                (x, value) = (u, new);
            }
        }
        trials.finish()
    }
}

/// The standard deviation of those values that are finite; 1 if there is none.
fn spread(values: &[f64]) -> f64 {
    let finite: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    let n = finite.len().max(1) as f64;
    let mean = finite.iter().sum::<f64>() / n;
    let deviation = (finite.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    if deviation > 0.0 && deviation.is_finite() { deviation } else { 1.0 }
}
