//! Making tensors: from data, from a rule, from a random generator.

use rand::Rng;
use rand_distr::{Distribution, StandardNormal, StandardUniform};

use super::layout::{self, Layout};
use super::{Block, IntoShape, Link, Tensor};
use crate::element::{Element, Num};
use crate::error::{Error, Result};
use crate::float::Float;

impl<T: Element> Tensor<T> {
    /// A dense tensor that `fill` writes, for a shape that a user gave.
    pub(crate) fn try_build(
        op: &'static str,
        shape: &[usize],
        fill: impl FnOnce(&mut [T]),
    ) -> Result<Self> {
        let len = layout::numel(op, shape)?;
        let mut block =
            Block::try_stale(len).ok_or_else(|| Error::Overflow { op, shape: shape.to_vec() })?;
        fill(&mut block);
        Ok(Tensor::from_block(block, shape))
    }

    /// The elements of `data`, in row-major order, in a tensor of `shape`.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x = Tensor::from_vec(vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3])?;
    /// assert_eq!(x.get([1, 0])?, 4.0);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the number of elements is not the product of the sizes.
    pub fn from_vec(data: Vec<T>, shape: impl IntoShape) -> Result<Self> {
        Self::from_slice(&data, shape)
    }

    /// Like [`from_vec`](Self::from_vec), from borrowed data, which is copied.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x = Tensor::from_slice(&[1.0f32, 2.0], [2, 1])?;
    /// assert_eq!(x.shape(), [2, 1]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the number of elements is not the product of the sizes.
    pub fn from_slice(data: &[T], shape: impl IntoShape) -> Result<Self> {
        let shape = shape.into_shape();
        let len = layout::numel("from_vec", &shape)?;
        if len != data.len() {
            return Err(Error::shape(
                "from_vec",
                format!(
                    "{} elements do not fill the shape {:?}, which has {len}",
                    data.len(),
                    &shape[..]
                ),
            ));
        }
        Ok(Self::from_block(Block::from_slice(data), &shape))
    }

    /// A single number, of shape `[]`.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::scalar(2.5f32).rank(), 0);
    /// ```
    pub fn scalar(value: T) -> Self {
        Self::build(&[], |out| out[0] = value)
    }

    /// Every element `value`.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::full([2], 7i64)?.to_vec(), [7, 7]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Overflow`] if the shape does not fit in memory.
    pub fn full(shape: impl IntoShape, value: T) -> Result<Self> {
        Self::try_build("full", &shape.into_shape(), |out| out.fill(value))
    }

    /// Every element zero (or false).
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::<f32>::zeros([2])?.to_vec(), [0.0, 0.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Overflow`] if the shape does not fit in memory.
    pub fn zeros(shape: impl IntoShape) -> Result<Self> {
        Self::try_build("zeros", &shape.into_shape(), |out| out.fill(T::ZERO))
    }

    /// Every element one (or true).
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::<f32>::ones([2])?.to_vec(), [1.0, 1.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Overflow`] if the shape does not fit in memory.
    pub fn ones(shape: impl IntoShape) -> Result<Self> {
        Self::try_build("ones", &shape.into_shape(), |out| out.fill(T::ONE))
    }

    /// Zeros in the shape of this tensor.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([1i64, 2]).zeros_like().to_vec(), [0, 0]);
    /// ```
    pub fn zeros_like(&self) -> Self {
        Self::build(self.shape(), |out| out.fill(T::ZERO))
    }

    /// Ones in the shape of this tensor.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([1i64, 2]).ones_like().to_vec(), [1, 1]);
    /// ```
    pub fn ones_like(&self) -> Self {
        Self::build(self.shape(), |out| out.fill(T::ONE))
    }

    /// `value` in the shape of this tensor.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::from([1i64, 2]).full_like(9).to_vec(), [9, 9]);
    /// ```
    pub fn full_like(&self, value: T) -> Self {
        Self::build(self.shape(), |out| out.fill(value))
    }

    /// The `n`×`n` identity matrix.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::<f32>::eye(2)?, Tensor::from([[1.0, 0.0], [0.0, 1.0]]));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Overflow`] if it does not fit in memory.
    pub fn eye(n: usize) -> Result<Self> {
        Self::try_build("eye", &[n, n], |out| {
            out.fill(T::ZERO);
            out.iter_mut().step_by(n + 1).for_each(|v| *v = T::ONE);
        })
    }

    /// The element that `f` gives for each place in row-major order.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x = Tensor::from_fn([2, 2], |i| i as f32 * 10.0)?;
    /// assert_eq!(x.to_vec(), [0.0, 10.0, 20.0, 30.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Overflow`] if the shape does not fit in memory.
    pub fn from_fn(shape: impl IntoShape, mut f: impl FnMut(usize) -> T) -> Result<Self> {
        Self::try_build("from_fn", &shape.into_shape(), |out| {
            out.iter_mut().enumerate().for_each(|(i, v)| *v = f(i));
        })
    }

    /// Independent draws from a distribution of rand or `rand_distr`, in row-major order.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let mut rng = gradus::rng(7);
    /// let x: Tensor = Tensor::sample([3, 4], &rand_distr::Exp::new(2.0f32).unwrap(), &mut rng)?;
    /// assert_eq!(x.shape(), [3, 4]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Overflow`] if the shape does not fit in memory.
    pub fn sample(
        shape: impl IntoShape,
        distribution: &impl Distribution<T>,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<Self> {
        Self::try_build("sample", &shape.into_shape(), |out| {
            out.iter_mut().for_each(|v| *v = distribution.sample(rng));
        })
    }
}

impl<T: Num> Tensor<T> {
    /// `start`, `start + step`, … up to but not including `end`; of floats too, where rounding decides about the last one.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::<i64>::arange(5, 0, -2)?.to_vec(), [5, 3, 1]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if `step` is 0 or not finite.
    pub fn arange(start: T, end: T, step: T) -> Result<Self> {
        let as_f64 = |v: T| v.cast::<f64>();
        let (a, b, s) = (as_f64(start), as_f64(end), as_f64(step));
        if s == 0.0 || ![a, b, s].iter().all(|v| v.is_finite()) {
            return Err(Error::argument(
                "arange",
                format!(
                    "start {start}, end {end}, step {step}: all must be finite and the step not 0"
                ),
            ));
        }
        let n = ((b - a) / s).ceil().max(0.0) as usize;
        let mut v = start;
        Self::try_build("arange", &[n], |out| {
            for (i, o) in out.iter_mut().enumerate() {
                *o = if T::IS_FLOAT { (a + i as f64 * s).cast() } else { v };
                v = v.plus(step);
            }
        })
    }
}

impl<T: Float> Tensor<T> {
    /// `n` numbers at equal distances, the first `start`, the last `end`.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// assert_eq!(Tensor::<f32>::linspace(0.0, 1.0, 3)?.to_vec(), [0.0, 0.5, 1.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Overflow`] if `n` does not fit in memory.
    pub fn linspace(start: T, end: T, n: usize) -> Result<Self> {
        let (a, b): (f64, f64) = (start.cast(), end.cast());
        let last = n.saturating_sub(1).max(1) as f64;
        Self::try_build("linspace", &[n], |out| {
            for (i, v) in out.iter_mut().enumerate() {
                // From the nearer end, so that the last is `end` exactly.
                let x = if i * 2 < n {
                    a + (b - a) * (i as f64 / last)
                } else {
                    b - (b - a) * ((n - 1 - i) as f64 / last)
                };
                *v = x.cast();
            }
        })
    }

    /// Normal draws with the given mean and standard deviation.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::normal([1000], 5.0, 0.1, &mut gradus::rng(0))?;
    /// assert!((x.mean().item()? - 5.0).abs() < 0.02);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if the standard deviation is negative or either number is not finite.
    pub fn normal(
        shape: impl IntoShape,
        mean: T,
        std: T,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<Self> {
        if !(mean.is_finite() && std.is_finite() && std >= T::ZERO) {
            return Err(Error::argument(
                "normal",
                format!(
                    "mean {mean}, standard deviation {std}: both must be finite, the second not negative"
                ),
            ));
        }
        Self::try_build("normal", &shape.into_shape(), |out| {
            for v in out {
                let z: f64 = StandardNormal.sample(rng);
                *v = mean + std * z.cast();
            }
        })
    }

    /// Standard normal draws.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::randn([2, 3], &mut gradus::rng(0))?;
    /// assert_eq!(x, Tensor::randn([2, 3], &mut gradus::rng(0))?);      // the seed fixes them
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Overflow`] if the shape does not fit in memory.
    pub fn randn(shape: impl IntoShape, rng: &mut (impl Rng + ?Sized)) -> Result<Self> {
        Self::normal(shape, T::ZERO, T::ONE, rng)
    }

    /// Uniform draws from `[low, high)`.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::uniform([1000], -1.0, 1.0, &mut gradus::rng(0))?;
    /// assert!(x.iter().all(|v| (-1.0..1.0).contains(&v)));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] unless both are finite and `low <= high`.
    pub fn uniform(
        shape: impl IntoShape,
        low: T,
        high: T,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<Self> {
        if !(low.is_finite() && high.is_finite() && low <= high) {
            return Err(Error::argument(
                "uniform",
                format!("from {low} to {high}: both must be finite and in this order"),
            ));
        }
        Self::try_build("uniform", &shape.into_shape(), |out| {
            for v in out {
                let u: f64 = StandardUniform.sample(rng);
                let x = low + (high - low) * u.cast();
                // Rounding can land on `high` itself.
                *v = if x >= high && low < high { low } else { x };
            }
        })
    }

    /// Uniform draws from `[0, 1)`.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x: Tensor = Tensor::rand([1000], &mut gradus::rng(0))?;
    /// assert!(x.iter().all(|v| (0.0..1.0).contains(&v)));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Overflow`] if the shape does not fit in memory.
    pub fn rand(shape: impl IntoShape, rng: &mut (impl Rng + ?Sized)) -> Result<Self> {
        Self::uniform(shape, T::ZERO, T::ONE, rng)
    }
}

impl<T: Element> From<T> for Tensor<T> {
    fn from(value: T) -> Self {
        Tensor::scalar(value)
    }
}

impl<T: Element> From<Vec<T>> for Tensor<T> {
    fn from(data: Vec<T>) -> Self {
        let n = data.len();
        Tensor::from_block(Block::from_slice(&data), &[n])
    }
}

impl<T: Element> From<&[T]> for Tensor<T> {
    fn from(data: &[T]) -> Self {
        Tensor::from_block(Block::from_slice(data), &[data.len()])
    }
}

impl<T: Element, const N: usize> From<[T; N]> for Tensor<T> {
    fn from(data: [T; N]) -> Self {
        Tensor::from_block(Block::from_slice(&data), &[N])
    }
}

impl<T: Element, const N: usize, const M: usize> From<[[T; M]; N]> for Tensor<T> {
    fn from(data: [[T; M]; N]) -> Self {
        Tensor::from_block(Block::from_slice(data.as_flattened()), &[N, M])
    }
}

impl<T: Element, const N: usize, const M: usize, const K: usize> From<[[[T; K]; M]; N]>
    for Tensor<T>
{
    fn from(data: [[[T; K]; M]; N]) -> Self {
        Tensor::from_block(Block::from_slice(data.as_flattened().as_flattened()), &[N, M, K])
    }
}

impl<T: Element, const N: usize, const M: usize, const K: usize, const L: usize>
    From<[[[[T; L]; K]; M]; N]> for Tensor<T>
{
    fn from(data: [[[[T; L]; K]; M]; N]) -> Self {
        let flat = data.as_flattened().as_flattened().as_flattened();
        Tensor::from_block(Block::from_slice(flat), &[N, M, K, L])
    }
}

impl<T: Element> Default for Tensor<T> {
    /// A single zero.
    fn default() -> Self {
        Tensor {
            storage: Block::from_slice(&[T::ZERO]).into(),
            layout: Layout::dense(&[]),
            link: Link::None,
        }
    }
}
