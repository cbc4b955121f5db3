//! A particle swarm.

use rand::{Rng, RngExt};

use super::{Best, Score, Search, Space, Trials, require};
use crate::error::Result;

/// Particle swarm (Kennedy and Eberhart 1995, with the constriction of Clerc and Kennedy 2002): particles fly on, drawn to the best place they have seen
/// themselves and to the best place of all.
///
/// ```text
/// v  =  w·v + c₁·r₁·(own best - x) + c₂·r₂·(best - x)        r₁, r₂: random in [0, 1) for each coordinate
/// x  =  x + v                                                stops at the bounds
/// ```
///
/// ```
/// use gradus::optim::search::{ParticleSwarm, Search, Space};
/// let sphere = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>();
/// let best = ParticleSwarm::new().minimize(&Space::cube(3, -5.0, 5.0)?, sphere, &mut gradus::rng(1))?;
/// assert!(best.value < 1e-9);
/// # Ok::<(), gradus::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ParticleSwarm {
    particles: usize,
    iterations: usize,
    inertia: f64,
    own: f64,
    common: f64,
}

impl Default for ParticleSwarm {
    fn default() -> Self {
        Self::new()
    }
}

impl ParticleSwarm {
    /// 40 particles, 200 iterations, w = 0.7298, c₁ = c₂ = 1.49618.
    pub fn new() -> Self {
        ParticleSwarm {
            particles: 40,
            iterations: 200,
            inertia: 0.7298,
            own: 1.49618,
            common: 1.49618,
        }
    }

    /// How many particles there are.
    pub fn particles(mut self, n: usize) -> Self {
        self.particles = n;
        self
    }

    /// How often they move.
    pub fn iterations(mut self, n: usize) -> Self {
        self.iterations = n;
        self
    }

    /// How much of its velocity a particle keeps: w.
    pub fn inertia(mut self, w: f64) -> Self {
        self.inertia = w;
        self
    }

    /// How strongly a particle is drawn to its own best place and to the best of all: c₁ and c₂.
    pub fn pulls(mut self, own: f64, common: f64) -> Self {
        (self.own, self.common) = (own, common);
        self
    }

    fn check(&self) -> Result<()> {
        const OP: &str = "ParticleSwarm";
        let n = self.particles;
        require(OP, n > 0, "the number of particles", n as f64, "at least 1")?;
        for (name, v) in [("the inertia", self.inertia), ("c₁", self.own), ("c₂", self.common)]
        {
            require(OP, v >= 0.0 && v.is_finite(), name, v, "finite and not negative")?;
        }
        Ok(())
    }
}

struct Particle {
    x: Vec<f64>,
    v: Vec<f64>,
    best: Vec<f64>,
    value: f64,
}

impl Search for ParticleSwarm {
    fn minimize<V: Score>(
        &self,
        space: &Space,
        f: impl FnMut(&[f64]) -> V,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<Best> {
        self.check()?;
        let mut trials = Trials::new(space, f)?;
        let mut swarm = Vec::with_capacity(self.particles);
        let (mut best, mut least) = (Vec::new(), f64::INFINITY);
        for x in space.first(self.particles, rng) {
            let value = trials.value(&x)?;
            if value < least || best.is_empty() {
                (best, least) = (x.clone(), value);
            }
            // Half the way to another random place.
            let v = x.iter().map(|x| 0.5 * (rng.random::<f64>() - x)).collect();
            swarm.push(Particle { v, best: x.clone(), x, value });
        }
        for _ in 0..self.iterations {
            for p in &mut swarm {
                let pulls = p.best.iter().zip(&best);
                for ((x, v), (own, common)) in p.x.iter_mut().zip(&mut p.v).zip(pulls) {
                    let (r1, r2): (f64, f64) = (rng.random(), rng.random());
                    *v = self.inertia * *v
                        + self.own * r1 * (own - *x)
                        + self.common * r2 * (common - *x);
                    let to = *x + *v;
                    *x = to.clamp(0.0, 1.0);
                    if *x != to {
                        *v = 0.0;
                    }
                }
                let value = trials.value(&p.x)?;
                if value < p.value {
                    p.value = value;
                    p.best.clone_from(&p.x);
                }
                if value < least {
                    least = value;
                    best.clone_from(&p.x);
                }
            }
        }
        trials.finish()
    }
}
