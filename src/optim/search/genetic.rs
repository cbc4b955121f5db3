//! A genetic algorithm.

use rand::{Rng, RngExt};

use super::{Best, Score, Search, Space, Trials, normal, require};
use crate::error::Result;

/// A genetic algorithm on real vectors (Holland 1975; Eshelman and Schaffer 1993 for the crossover): the better of a population have children that mix
/// their coordinates and mutate.
///
/// ```text
/// parents     the best of `tournament` drawn at random, twice
/// crossover   each coordinate anywhere between the parents' and half as far beyond (BLX-½), or else one parent's
/// mutation    each coordinate, with a probability, plus σ·N(0, 1); σ falls to a hundredth in the last generation
/// elite       the best few live on as they are
/// ```
///
/// ```
/// use gradus::optim::search::{GeneticAlgorithm, Search, Space};
/// let sphere = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>();
/// let best = GeneticAlgorithm::new().minimize(&Space::cube(3, -5.0, 5.0)?, sphere, &mut gradus::rng(1))?;
/// assert!(best.value < 1e-2);
/// # Ok::<(), gradus::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GeneticAlgorithm {
    population: usize,
    generations: usize,
    tournament: usize,
    elite: usize,
    crossover: f64,
    mutation: Option<f64>,
    sigma: f64,
}

impl Default for GeneticAlgorithm {
    fn default() -> Self {
        Self::new()
    }
}

impl GeneticAlgorithm {
    /// 60 individuals, 100 generations, tournaments of 3, an elite of 2, crossover for 9 of 10 children, on average one mutation a child with σ = 0.1.
    pub fn new() -> Self {
        GeneticAlgorithm {
            population: 60,
            generations: 100,
            tournament: 3,
            elite: 2,
            crossover: 0.9,
            mutation: None,
            sigma: 0.1,
        }
    }

    /// How many individuals there are.
    pub fn population(mut self, n: usize) -> Self {
        self.population = n;
        self
    }

    /// How many generations follow the first.
    pub fn generations(mut self, n: usize) -> Self {
        self.generations = n;
        self
    }

    /// How many compete to be a parent.
    pub fn tournament(mut self, n: usize) -> Self {
        self.tournament = n;
        self
    }

    /// How many of the best live on.
    pub fn elite(mut self, n: usize) -> Self {
        self.elite = n;
        self
    }

    /// The probability that a child has two parents.
    pub fn crossover(mut self, probability: f64) -> Self {
        self.crossover = probability;
        self
    }

    /// The probability that a coordinate mutates, and by how much, as a part of the range.
    pub fn mutation(mut self, probability: f64, sigma: f64) -> Self {
        (self.mutation, self.sigma) = (Some(probability), sigma);
        self
    }

    fn check(&self) -> Result<()> {
        const OP: &str = "GeneticAlgorithm";
        let (n, part) = (self.population, 0.0..=1.0);
        require(OP, n >= 2, "the population", n as f64, "at least 2")?;
        let t = self.tournament;
        require(OP, (1..=n).contains(&t), "the tournament", t as f64, "from 1 to the population")?;
        require(OP, self.elite < n, "the elite", self.elite as f64, "below the population")?;
        let c = self.crossover;
        require(OP, part.contains(&c), "the crossover probability", c, "from 0 to 1")?;
        let m = self.mutation.unwrap_or(0.0);
        require(OP, part.contains(&m), "the mutation probability", m, "from 0 to 1")?;
        let ok = self.sigma >= 0.0 && self.sigma.is_finite();
        require(OP, ok, "the mutation's σ", self.sigma, "finite and not negative")
    }

    fn child(&self, all: &[Individual], sigma: f64, rng: &mut (impl Rng + ?Sized)) -> Vec<f64> {
        let parent = |rng: &mut _| tournament(all, self.tournament, rng);
        let (a, b) = (parent(rng), parent(rng));
        let mut child = a.clone();
        if rng.random::<f64>() < self.crossover {
            for (x, y) in child.iter_mut().zip(b) {
                *x += (rng.random::<f64>() * 2.0 - 0.5) * (y - *x);
            }
        }
        let rate = self.mutation.unwrap_or(1.0 / child.len() as f64);
        for x in &mut child {
            if rng.random::<f64>() < rate {
                *x += sigma * normal(rng);
            }
            *x = x.clamp(0.0, 1.0);
        }
        child
    }
}

struct Individual {
    u: Vec<f64>,
    value: f64,
}

/// The best of some that are drawn at random.
fn tournament<'a>(
    all: &'a [Individual],
    size: usize,
    rng: &mut (impl Rng + ?Sized),
) -> &'a Vec<f64> {
    // They are sorted, so the best has the lowest number.
    let mut best = all.len() - 1;
    for _ in 0..size {
        best = best.min(rng.random_range(0..all.len()));
    }
    &all[best].u
}

impl Search for GeneticAlgorithm {
    fn minimize<V: Score>(
        &self,
        space: &Space,
        f: impl FnMut(&[f64]) -> V,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<Best> {
        self.check()?;
        let mut trials = Trials::new(space, f)?;
        let mut all = Vec::with_capacity(self.population);
        for u in space.first(self.population, rng) {
            all.push(Individual { value: trials.value(&u)?, u });
        }
        for generation in 0..self.generations {
            all.sort_by(|a, b| a.value.total_cmp(&b.value));
            let part = generation as f64 / self.generations as f64;
            let sigma = self.sigma * 0.01f64.powf(part);
            let mut next = Vec::with_capacity(self.population);
            while next.len() + self.elite < self.population {
                let u = self.child(&all, sigma, rng);
                next.push(Individual { value: trials.value(&u)?, u });
            }
            all.truncate(self.elite);
            all.extend(next);
        }
        trials.finish()
    }
}
