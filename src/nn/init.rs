//! How parameters start: initialisers as values.

use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::error::{Error, Result};
use crate::float::Float;
use crate::tensor::{IntoShape, Tensor};

const OP: &str = "init";

/// The values that a parameter starts with.
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::Init;
/// let mut rng = gradus::rng(0);
/// let w: Tensor = Init::xavier_uniform().tensor([128, 784], &mut rng)?;
/// let bound = (6.0f32 / (128.0 + 784.0)).sqrt();
/// assert!(w.iter().all(|v| v.abs() <= bound));
/// let layer: Dense = Dense::new(784, 128).init(Init::kaiming_normal()).bias_init(Init::Zeros).build(&mut rng)?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Init {
    /// Uniform in ±1/√`fan_in`, for the weight and the bias alike: what PyTorch's linear and convolutional layers start with.
    #[default]
    Default,
    /// Zeros.
    Zeros,
    /// Ones.
    Ones,
    /// One number everywhere.
    Constant(f64),
    /// Normal draws.
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        std: f64,
    },
    /// Normal draws, those further than two standard deviations from the mean drawn again.
    TruncatedNormal {
        /// Mean.
        mean: f64,
        /// Standard deviation before the cut; after it, it is 0.88 times that.
        std: f64,
    },
    /// Uniform draws from `[low, high)`.
    Uniform {
        /// The lower bound.
        low: f64,
        /// The upper bound.
        high: f64,
    },
    /// Uniform in ±`gain`·√(6 / (`fan_in` + `fan_out`)): keeps the variance of signals and gradients (Glorot & Bengio 2010, eq. 16).
    XavierUniform {
        /// A factor for the nonlinearity that follows; see [`Nonlinearity::gain`].
        gain: f64,
    },
    /// Normal with standard deviation `gain`·√(2 / (`fan_in` + `fan_out`)) (Glorot & Bengio 2010, eq. 12).
    XavierNormal {
        /// A factor for the nonlinearity that follows; see [`Nonlinearity::gain`].
        gain: f64,
    },
    /// Uniform in ±gain·√(3 / fan) (He et al. 2015, eq. 10 and 14).
    KaimingUniform {
        /// Whether the variance is kept on the way forward or backward.
        fan: Fan,
        /// What follows; it fixes the gain.
        nonlinearity: Nonlinearity,
    },
    /// Normal with standard deviation gain / √fan (He et al. 2015, eq. 10 and 14).
    KaimingNormal {
        /// Whether the variance is kept on the way forward or backward.
        fan: Fan,
        /// What follows; it fixes the gain.
        nonlinearity: Nonlinearity,
    },
    /// Orthonormal rows or columns (whichever are fewer) times `gain`, of the weight taken as a matrix with as many rows as its first
    /// axis (Saxe, McClelland & Ganguli 2014).
    Orthogonal {
        /// The factor.
        gain: f64,
    },
}

/// Which of the two fans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fan {
    /// The number of inputs of one output: keeps the variance of signals.
    #[default]
    In,
    /// The number of outputs of one input: keeps the variance of gradients.
    Out,
}

/// The nonlinearity that follows a layer, for the factor that makes up for what it does to the variance.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Nonlinearity {
    /// None, or a sigmoid: 1.
    Linear,
    /// Tanh: 5/3.
    Tanh,
    /// ReLU: √2.
    ReLU,
    /// Leaky ReLU with this slope a for negative inputs: √(2 / (1 + a²)).
    LeakyReLU(f64),
    /// SELU: 3/4.
    SELU,
}

impl Nonlinearity {
    /// The factor, as PyTorch's `calculate_gain` gives it.
    ///
    /// ```
    /// use gradus::nn::Nonlinearity;
    /// assert_eq!(Nonlinearity::ReLU.gain(), 2f64.sqrt());
    /// assert_eq!(Nonlinearity::LeakyReLU(1.0).gain(), 1.0);
    /// ```
    pub fn gain(self) -> f64 {
        match self {
            Nonlinearity::Linear => 1.0,
            Nonlinearity::Tanh => 5.0 / 3.0,
            Nonlinearity::ReLU => 2f64.sqrt(),
            Nonlinearity::LeakyReLU(a) => (2.0 / (1.0 + a * a)).sqrt(),
            Nonlinearity::SELU => 0.75,
        }
    }
}

/// How many inputs one output of a layer has, and how many outputs one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fans {
    /// Inputs per output.
    pub fan_in: usize,
    /// Outputs per input.
    pub fan_out: usize,
}

impl Fans {
    /// Those of a weight \[outputs, inputs\] or \[outputs, inputs per group, kernel…\]: the product of the kernel's sizes multiplies both.
    ///
    /// ```
    /// use gradus::nn::Fans;
    /// assert_eq!(Fans::of(&[128, 784])?, Fans { fan_in: 784, fan_out: 128 });
    /// assert_eq!(Fans::of(&[64, 32, 3, 3])?, Fans { fan_in: 288, fan_out: 576 });
    /// # Ok::<(), gradus::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] for less than two axes, [`Error::Overflow`] if the shape does not fit in memory.
    pub fn of(shape: &[usize]) -> Result<Fans> {
        crate::tensor::numel(OP, shape)?;
        let &[outputs, inputs, ref kernel @ ..] = shape else {
            return Err(Error::shape(
                OP,
                format!(
                    "a tensor of shape {shape:?} has no fan-in and fan-out; they take two axes or more. Use an initialiser without fans, or tensor_with"
                ),
            ));
        };
        let kernel: usize = kernel.iter().product();
        let fan = |n: usize| n.saturating_mul(kernel);
        Ok(Fans { fan_in: fan(inputs), fan_out: fan(outputs) })
    }

    fn get(self, fan: Fan) -> f64 {
        match fan {
            Fan::In => self.fan_in as f64,
            Fan::Out => self.fan_out as f64,
        }
    }
}

/// `a / b`, and 0 for a fan of 0: there is nothing to fill then but a bias.
fn ratio(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { a / b }
}

impl Init {
    /// Xavier uniform with gain 1.
    pub const fn xavier_uniform() -> Self {
        Init::XavierUniform { gain: 1.0 }
    }

    /// Xavier normal with gain 1.
    pub const fn xavier_normal() -> Self {
        Init::XavierNormal { gain: 1.0 }
    }

    /// Kaiming uniform for a ReLU, by fan-in.
    pub const fn kaiming_uniform() -> Self {
        Init::KaimingUniform { fan: Fan::In, nonlinearity: Nonlinearity::ReLU }
    }

    /// Kaiming normal for a ReLU, by fan-in.
    pub const fn kaiming_normal() -> Self {
        Init::KaimingNormal { fan: Fan::In, nonlinearity: Nonlinearity::ReLU }
    }

    /// Orthogonal with gain 1.
    pub const fn orthogonal() -> Self {
        Init::Orthogonal { gain: 1.0 }
    }

    /// A tensor of this shape; the fans, if they matter, are those of the shape.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let w: Tensor = Init::kaiming_normal().tensor([128, 784], &mut gradus::rng(0))?;
    /// assert!((w.std().item()? - (2.0f32 / 784.0).sqrt()).abs() < 1e-3);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] for numbers outside their domain (a negative standard deviation), [`Error::Shape`] if fans are needed and the shape
    /// has less than two axes, [`Error::Overflow`] if it does not fit in memory.
    pub fn tensor<T: Float>(
        self,
        shape: impl IntoShape,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<Tensor<T>> {
        let shape = shape.into_shape();
        let fans = match self.needs_fans() {
            true => Fans::of(&shape)?,
            false => Fans { fan_in: 1, fan_out: 1 },
        };
        self.tensor_with(shape, fans, rng)
    }

    /// A tensor of this shape with given fans: for a bias, those of the weight beside it.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor), but for the fans.
    pub fn tensor_with<T: Float>(
        self,
        shape: impl IntoShape,
        fans: Fans,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<Tensor<T>> {
        self.check()?;
        let shape = shape.into_shape();
        let both = fans.fan_in as f64 + fans.fan_out as f64;
        match self {
            Init::Zeros => Tensor::full(shape, T::ZERO),
            Init::Ones => Tensor::full(shape, T::ONE),
            Init::Constant(v) => Tensor::full(shape, T::of(v)),
            Init::Normal { mean, std } => Tensor::normal(shape, T::of(mean), T::of(std), rng),
            Init::TruncatedNormal { mean, std } => truncated(shape, mean, std, rng),
            Init::Uniform { low, high } => Tensor::uniform(shape, T::of(low), T::of(high), rng),
            Init::Default => within(shape, ratio(1.0, fans.fan_in as f64).sqrt(), rng),
            Init::XavierUniform { gain } => within(shape, gain * ratio(6.0, both).sqrt(), rng),
            Init::XavierNormal { gain } => {
                Tensor::normal(shape, T::ZERO, T::of(gain * ratio(2.0, both).sqrt()), rng)
            }
            Init::KaimingUniform { fan, nonlinearity } => {
                within(shape, nonlinearity.gain() * ratio(3.0, fans.get(fan)).sqrt(), rng)
            }
            Init::KaimingNormal { fan, nonlinearity } => {
                let std = nonlinearity.gain() * ratio(1.0, fans.get(fan)).sqrt();
                Tensor::normal(shape, T::ZERO, T::of(std), rng)
            }
            Init::Orthogonal { gain } => orthogonal(&shape, gain, rng),
        }
    }

    fn needs_fans(self) -> bool {
        matches!(
            self,
            Init::Default
                | Init::XavierUniform { .. }
                | Init::XavierNormal { .. }
                | Init::KaimingUniform { .. }
                | Init::KaimingNormal { .. }
        )
    }

    fn check(self) -> Result<()> {
        let (fits, domain) = match self {
            Init::Default | Init::Zeros | Init::Ones => (true, ""),
            Init::Constant(v) => (v.is_finite(), "the value must be finite"),
            Init::Normal { mean, std } | Init::TruncatedNormal { mean, std } => (
                mean.is_finite() && std.is_finite() && std >= 0.0,
                "mean and std must be finite, std not negative",
            ),
            Init::Uniform { low, high } => (
                low.is_finite() && high.is_finite() && low <= high,
                "low and high must be finite and in this order",
            ),
            Init::XavierUniform { gain }
            | Init::XavierNormal { gain }
            | Init::Orthogonal { gain } => {
                (gain.is_finite() && gain >= 0.0, "the gain must be finite and not negative")
            }
            Init::KaimingUniform { nonlinearity, .. }
            | Init::KaimingNormal { nonlinearity, .. } => {
                (nonlinearity.gain().is_finite(), "the slope must be a number")
            }
        };
        if fits { Ok(()) } else { Err(Error::argument(OP, format!("{self:?}: {domain}"))) }
    }
}

/// Uniform in ±bound.
fn within<T: Float>(
    shape: impl IntoShape,
    bound: f64,
    rng: &mut (impl Rng + ?Sized),
) -> Result<Tensor<T>> {
    Tensor::uniform(shape, T::of(-bound), T::of(bound), rng)
}

fn truncated<T: Float>(
    shape: impl IntoShape,
    mean: f64,
    std: f64,
    rng: &mut (impl Rng + ?Sized),
) -> Result<Tensor<T>> {
    Tensor::from_fn(shape, |_| {
        loop {
            let z: f64 = StandardNormal.sample(rng);
            if z.abs() <= 2.0 {
                return T::of(mean + std * z);
            }
        }
    })
}

/// Normal draws made orthonormal one after the other: each loses its part along those before it (twice, because the first time leaves
/// a rounding error as large as what was removed is large), and is scaled to length 1.
fn orthogonal<T: Float>(
    shape: &[usize],
    gain: f64,
    rng: &mut (impl Rng + ?Sized),
) -> Result<Tensor<T>> {
    let len = crate::tensor::numel(OP, shape)?;
    if shape.len() < 2 {
        return Err(Error::shape(
            OP,
            format!("an orthogonal start takes two axes or more, the shape is {shape:?}"),
        ));
    }
    let rows = shape[0];
    let cols = len.checked_div(rows).unwrap_or(0);
    let (count, length) = (rows.min(cols), rows.max(cols));
    let mut basis: Vec<Vec<f64>> = Vec::new();
    while basis.len() < count {
        let mut v: Vec<f64> = (0..length).map(|_| StandardNormal.sample(rng)).collect();
        for _ in 0..2 {
            for b in &basis {
                let along = dot(&v, b);
                v.iter_mut().zip(b).for_each(|(v, b)| *v -= along * b);
            }
        }
        let norm = dot(&v, &v).sqrt();
        // A draw that lies in the span of the others to rounding is drawn again.
        if norm > 1e-8 {
            v.iter_mut().for_each(|v| *v /= norm);
            basis.push(v);
        }
    }
    Tensor::from_fn(shape, |i| {
        let (r, c) = (i / cols, i % cols);
        T::of(gain * if rows <= cols { basis[r][c] } else { basis[c][r] })
    })
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(init: Init, shape: &[usize]) -> Tensor<f64> {
        init.tensor(shape, &mut crate::rng(1)).unwrap()
    }

    fn moments(x: &Tensor<f64>) -> (f64, f64) {
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        (mean, (x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt())
    }

    #[test]
    fn empty_and_single() {
        let all = [
            Init::Default,
            Init::Zeros,
            Init::Constant(2.0),
            Init::TruncatedNormal { mean: 0.0, std: 1.0 },
            Init::xavier_uniform(),
            Init::xavier_normal(),
            Init::kaiming_uniform(),
            Init::kaiming_normal(),
            Init::orthogonal(),
        ];
        for init in all {
            for shape in [[0, 3], [3, 0], [0, 0], [1, 1]] {
                let x = draw(init, &shape);
                assert_eq!(x.shape(), shape, "{init:?}");
                assert!(x.iter().all(f64::is_finite), "{init:?}");
            }
        }
    }

    /// The fans of [50, 20, 5, 4] are 400 and 1000; 20,000 draws, so a standard deviation is known to about half a percent.
    #[test]
    fn moments_and_bounds() {
        let shape = [50, 20, 5, 4];
        let normal = |init: Init, std: f64| {
            let (m, s) = moments(&draw(init, &shape));
            assert!(
                m.abs() < 0.03 * std && (s / std - 1.0).abs() < 0.02,
                "{init:?}: {m} {s} {std}"
            );
        };
        let uniform = |init: Init, bound: f64| {
            let x = draw(init, &shape);
            let most = x.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            assert!(most <= bound && most > 0.995 * bound, "{init:?}: {most} {bound}");
            normal(init, bound / 3f64.sqrt());
        };
        normal(Init::xavier_normal(), (2.0f64 / 1400.0).sqrt());
        normal(Init::XavierNormal { gain: 3.0 }, 3.0 * (2.0f64 / 1400.0).sqrt());
        normal(Init::kaiming_normal(), (2.0f64 / 400.0).sqrt());
        let out = Init::KaimingNormal { fan: Fan::Out, nonlinearity: Nonlinearity::Tanh };
        normal(out, 5.0 / 3.0 / 1000f64.sqrt());
        normal(Init::Normal { mean: 0.0, std: 2.0 }, 2.0);
        normal(Init::TruncatedNormal { mean: 0.0, std: 1.0 }, 0.8796);
        uniform(Init::xavier_uniform(), (6.0f64 / 1400.0).sqrt());
        uniform(Init::kaiming_uniform(), (6.0f64 / 400.0).sqrt());
        uniform(Init::Default, 0.05);
        uniform(Init::Uniform { low: -2.0, high: 2.0 }, 2.0);
        let cut = draw(Init::TruncatedNormal { mean: 1.0, std: 0.5 }, &shape);
        assert!(cut.iter().all(|v| (0.0..=2.0).contains(&v)));
    }

    #[test]
    fn rows_or_columns_are_orthonormal() {
        for (shape, rows) in [([3usize, 8], true), ([8, 3], false), ([4, 4], true)] {
            let q = draw(Init::Orthogonal { gain: 2.0 }, &shape);
            let n = shape[0].min(shape[1]) as isize;
            let at = |i: isize, k: isize| q.get(if rows { [i, k] } else { [k, i] }).unwrap();
            for i in 0..n {
                for j in 0..n {
                    let d: f64 =
                        (0..shape[0].max(shape[1]) as isize).map(|k| at(i, k) * at(j, k)).sum();
                    let want = if i == j { 4.0 } else { 0.0 };
                    assert!((d - want).abs() < 1e-12, "{shape:?} {i} {j}: {d}");
                }
            }
        }
    }

    #[test]
    fn a_bias_takes_the_fans_of_its_weight() {
        let fans = Fans { fan_in: 400, fan_out: 1 };
        let b: Tensor = Init::Default.tensor_with([5000], fans, &mut crate::rng(0)).unwrap();
        assert!(b.iter().all(|v| v.abs() <= 0.05) && b.iter().any(|v| v.abs() > 0.049));
    }

    #[test]
    fn what_is_refused() {
        let said = |init: Init, shape: &[usize]| {
            init.tensor::<f32>(shape, &mut crate::rng(0)).unwrap_err().to_string()
        };
        assert_eq!(
            said(Init::Normal { mean: 0.0, std: -1.0 }, &[2]),
            "init: Normal { mean: 0.0, std: -1.0 }: mean and std must be finite, std not negative"
        );
        assert_eq!(
            said(Init::XavierUniform { gain: -1.0 }, &[2, 2]),
            "init: XavierUniform { gain: -1.0 }: the gain must be finite and not negative"
        );
        assert!(said(Init::Uniform { low: 1.0, high: 0.0 }, &[2]).contains("in this order"));
        assert!(said(Init::Constant(f64::NAN), &[2]).contains("must be finite"));
        assert!(said(Init::Default, &[2]).contains("has no fan-in and fan-out"));
        assert!(said(Init::orthogonal(), &[2]).contains("two axes or more"));
        assert!(said(Init::Zeros, &[usize::MAX, 2]).contains("does not fit in memory"));
        assert!(said(Init::Default, &[usize::MAX, 2]).contains("does not fit in memory"));
    }
}
