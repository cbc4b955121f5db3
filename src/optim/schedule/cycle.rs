//! Cycles: one-cycle and triangular schedules, of the learning rate and the momentum.

use super::cosine::half_cosine;
use super::{Schedule, require, require_rate, require_steps};
use crate::error::Result;

/// One cycle: up from `max/div` to `max`, then down to `max/div/final_div`, in a fixed number of steps; the momentum runs the other way. Source: Smith and
/// Topin 2018, <https://arxiv.org/abs/1708.07120>.
///
/// By default the way up takes 30 % of the steps, both ways are half cosines, `div` = 25 and `final_div` = 10⁴, and the momentum goes from 0.95 to 0.85 and
/// back, as in PyTorch. After the last step the rate stays.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::schedule::OneCycle;
/// let cycle = OneCycle::new(0.1, 100)?;
/// let mut sgd = Sgd::new(0.1).momentum(0.9);
/// for step in 0..100 {
///     sgd.set_lr(cycle.lr(step));
///     sgd.set_momentum(cycle.momentum(step))?;
/// }
/// assert_eq!((cycle.lr(29), cycle.momentum(29)), (0.1, 0.85));
/// assert!((cycle.lr(0) - 0.1 / 25.0).abs() < 1e-12);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct OneCycle {
    max: f64,
    steps: usize,
    start: f64,
    div: f64,
    final_div: f64,
    linear: bool,
    three_phase: bool,
    momenta: (f64, f64),
}

impl OneCycle {
    /// The highest rate, and the number of steps of the whole training.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for 0 steps or a rate that is negative or not finite.
    pub fn new(max: f64, steps: usize) -> Result<Self> {
        require_rate("OneCycle", "the highest rate", max)?;
        require_steps("OneCycle", "the number of steps", steps)?;
        Ok(OneCycle {
            max,
            steps,
            start: 0.3,
            div: 25.0,
            final_div: 1e4,
            linear: false,
            three_phase: false,
            momenta: (0.85, 0.95),
        })
    }

    /// The part of the steps that goes up; PyTorch's `pct_start`.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) unless it is from 0 to 1.
    pub fn pct_start(mut self, part: f64) -> Result<Self> {
        require("OneCycle", (0.0..=1.0).contains(&part), "pct_start", part, "from 0 to 1")?;
        self.start = part;
        Ok(self)
    }

    /// The highest rate over the first one, and the first one over the last.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) unless both are finite and above 0.
    pub fn div_factors(mut self, div: f64, final_div: f64) -> Result<Self> {
        for (name, v) in [("div_factor", div), ("final_div_factor", final_div)] {
            require("OneCycle", v > 0.0 && v.is_finite(), name, v, "finite and above 0")?;
        }
        (self.div, self.final_div) = (div, final_div);
        Ok(self)
    }

    /// Straight lines instead of half cosines.
    pub fn linear(mut self) -> Self {
        self.linear = true;
        self
    }

    /// Three phases: up, down to the first rate in as many steps, and from there to the last.
    pub fn three_phase(mut self) -> Self {
        self.three_phase = true;
        self
    }

    /// The lowest and the highest momentum.
    pub fn momenta(mut self, base: f64, max: f64) -> Self {
        self.momenta = (base, max);
        self
    }

    /// The momentum of a step: high where the rate is low.
    pub fn momentum(&self, step: usize) -> f64 {
        let (base, max) = self.momenta;
        let (phase, part) = self.phase(step);
        match phase {
            0 => self.between(max, base, part),
            1 => self.between(base, max, part),
            _ => max,
        }
    }

    /// Which phase a step is in (0: up, 1: down, 2: the end of three), and the part of it that has passed.
    fn phase(&self, step: usize) -> (usize, f64) {
        let last = (self.steps - 1) as f64;
        let up = self.start * self.steps as f64 - 1.0;
        let ends = [up, 2.0 * self.start * self.steps as f64 - 2.0, last];
        let ends = if self.three_phase { &ends[..] } else { &[up, last][..] };
        let step = (step as f64).min(last);
        let mut begin = 0.0;
        for (i, &end) in ends.iter().enumerate() {
            if step <= end || i + 1 == ends.len() {
                // A phase without length is over as soon as it begins.
                let part = if end == begin { 1.0 } else { (step - begin) / (end - begin) };
                return (i, part);
            }
            begin = end;
        }
        (ends.len() - 1, 1.0)
    }

    fn between(&self, a: f64, b: f64, part: f64) -> f64 {
        if self.linear { (b - a) * part + a } else { half_cosine(a, b, part) }
    }
}

impl Schedule for OneCycle {
    fn lr(&self, step: usize) -> f64 {
        let first = self.max / self.div;
        let least = first / self.final_div;
        let (phase, part) = self.phase(step);
        match (phase, self.three_phase) {
            (0, _) => self.between(first, self.max, part),
            (1, false) => self.between(self.max, least, part),
            (1, true) => self.between(self.max, first, part),
            _ => self.between(first, least, part),
        }
    }
}

/// How the height of the triangles of a [`Cyclic`] schedule changes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum CyclicMode {
    /// All are equally high.
    Triangular,
    /// Each is half as high as the one before.
    Triangular2,
    /// The height falls by this factor at every step.
    ExpRange(f64),
}

/// Triangles between a lower and an upper rate; the momentum runs the other way. Source: Smith 2017, <https://arxiv.org/abs/1506.01186>.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::optim::schedule::{Cyclic, CyclicMode};
/// let s = Cyclic::new(0.25, 1.25, 4)?.mode(CyclicMode::Triangular2);
/// assert_eq!([0, 2, 4, 8, 12].map(|t| s.lr(t)), [0.25, 0.75, 1.25, 0.25, 0.75]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cyclic {
    base: f64,
    max: f64,
    up: usize,
    down: usize,
    mode: CyclicMode,
    momenta: (f64, f64),
}

impl Cyclic {
    /// The lower and the upper rate, and the steps of the way up, which are those of the way down as well.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for 0 steps or a rate that is negative or not finite.
    pub fn new(base: f64, max: f64, up: usize) -> Result<Self> {
        require_rate("Cyclic", "the lower rate", base)?;
        require_rate("Cyclic", "the upper rate", max)?;
        require_steps("Cyclic", "the number of steps up", up)?;
        let (mode, momenta) = (CyclicMode::Triangular, (0.8, 0.9));
        Ok(Cyclic { base, max, up, down: up, mode, momenta })
    }

    /// The steps of the way down.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for 0 steps.
    pub fn down(mut self, steps: usize) -> Result<Self> {
        require_steps("Cyclic", "the number of steps down", steps)?;
        self.down = steps;
        Ok(self)
    }

    /// How the height changes; it does not by default.
    pub fn mode(mut self, mode: CyclicMode) -> Self {
        self.mode = mode;
        self
    }

    /// The lowest and the highest momentum; by default 0.8 and 0.9.
    pub fn momenta(mut self, base: f64, max: f64) -> Self {
        self.momenta = (base, max);
        self
    }

    /// The momentum of a step: high where the rate is low.
    pub fn momentum(&self, step: usize) -> f64 {
        let (base, max) = self.momenta;
        max - (max - base) * self.height(step)
    }

    /// From 0 to 1: how high a step is between the two rates.
    fn height(&self, step: usize) -> f64 {
        let (cycle, at) = (step / (self.up + self.down), step % (self.up + self.down));
        let triangle = if at <= self.up {
            at as f64 / self.up as f64
        } else {
            (self.up + self.down - at) as f64 / self.down as f64
        };
        triangle
            * match self.mode {
                CyclicMode::Triangular => 1.0,
                CyclicMode::Triangular2 => 0.5f64.powf(cycle as f64),
                CyclicMode::ExpRange(gamma) => gamma.powf(step as f64),
            }
    }
}

impl Schedule for Cyclic {
    fn lr(&self, step: usize) -> f64 {
        self.base + (self.max - self.base) * self.height(step)
    }
}
