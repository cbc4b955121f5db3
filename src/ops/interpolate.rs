//! Interpolation: the axes behind the channels brought to another size, one axis after the other.
//!
//! Along an axis of n elements brought to m, output i stands at the input's coordinate s = (i + ½) n/m - ½, or with aligned corners at i (n-1)/(m-1).
//!
//! ```text
//! nearest   the element ⌊i n/m⌋ (exact: ⌊(i + ½) n/m⌋)
//! linear    the elements ⌊s⌋ and ⌊s⌋+1, weighted by 1-t and t with t = s - ⌊s⌋; s at least 0
//! cubic     ⌊s⌋-1 … ⌊s⌋+2, weighted by the cubic convolution with a = -¾ (Keys, 1981)
//! ```
//!
//! Beyond the ends stands the last element. The map is linear: backward is its transpose.

use std::sync::Arc;

use crate::autograd::{Op, apply};
use crate::error::{Error, Result};
use crate::float::Float;
use crate::kernel::resample::{Taps, along, transposed};
use crate::tensor::{Dims, IntoShape, Tensor};

/// How values between elements are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Interpolation {
    /// The element below, as PyTorch's "nearest".
    #[default]
    Nearest,
    /// The nearest element, as PyTorch's "nearest-exact".
    NearestExact,
    /// Between two elements along each axis: linear, bilinear, trilinear.
    Linear,
    /// Between four elements along each axis: bicubic.
    Cubic,
}

/// The new size.
#[derive(Clone, Debug, PartialEq)]
enum Size {
    To(Dims),
    By(Vec<f64>),
}

/// Another size for the axes behind the channels; see [`Tensor::interpolate`].
///
/// ```
/// use gradus::prelude::*;
/// use gradus::nn::{Interpolate, Interpolation};
/// let x: Tensor = Tensor::from([[[[1.0, 3.0]]]]);
/// let double = Interpolate::by([1.0, 2.0]).mode(Interpolation::Linear);
/// assert_eq!(x.interpolate(&double)?.to_vec(), [1.0, 1.5, 2.5, 3.0]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Interpolate {
    size: Size,
    mode: Interpolation,
    align_corners: bool,
}

impl Interpolate {
    /// To these sizes, one for each axis behind the channels (or one for all), by the nearest element unless said otherwise.
    pub fn to(sizes: impl IntoShape) -> Self {
        Interpolate {
            size: Size::To(sizes.into_shape()),
            mode: Interpolation::Nearest,
            align_corners: false,
        }
    }

    /// By these factors, one for each axis behind the channels (or one for all): sizes become ⌊size · factor⌋.
    pub fn by<const N: usize>(factors: [f64; N]) -> Self {
        Interpolate { size: Size::By(factors.to_vec()), ..Self::to(1) }
    }

    /// How values between elements are found.
    pub fn mode(mut self, mode: Interpolation) -> Self {
        self.mode = mode;
        self
    }

    /// Whether the first and the last elements stay where they are; they do not unless said otherwise. For linear and cubic interpolation.
    pub fn align_corners(mut self, align: bool) -> Self {
        self.align_corners = align;
        self
    }

    /// The size of an axis of `n` afterwards, and the input's elements for each of the output.
    fn axis(&self, axis: usize, n: usize) -> (usize, f64) {
        fn pick<V: Copy>(all: &[V], axis: usize) -> V {
            all[if all.len() == 1 { 0 } else { axis }]
        }
        match &self.size {
            Size::To(sizes) => {
                let m = pick(sizes, axis);
                (m, n as f64 / m.max(1) as f64)
            }
            Size::By(factors) => {
                let f = pick(factors, axis);
                ((n as f64 * f).floor() as usize, 1.0 / f)
            }
        }
    }

    fn taps(&self, n: usize, m: usize, scale: f64) -> Taps {
        let cubic = self.mode == Interpolation::Cubic;
        let last = n - 1;
        let aligned = if m > 1 { last as f64 / (m - 1) as f64 } else { 0.0 };
        let at = |i: usize| match self.align_corners {
            true => i as f64 * aligned,
            false => (i as f64 + 0.5) * scale - 0.5,
        };
        // In f32, as the reference computes it: which element is meant can hang on the last digit.
        let nearest = |i: f32| vec![(((i * scale as f32).floor() as usize).min(last), 1.0)];
        let row = |i: usize| match self.mode {
            Interpolation::Nearest => nearest(i as f32),
            Interpolation::NearestExact => nearest(i as f32 + 0.5),
            Interpolation::Linear | Interpolation::Cubic => {
                let s = if cubic { at(i) } else { at(i).max(0.0) };
                let t = s - s.floor();
                let element = |k: i64| (s.floor() as i64 + k).clamp(0, last as i64) as usize;
                match cubic {
                    true => (-1..3).zip(cubic_weights(t)).map(|(k, w)| (element(k), w)).collect(),
                    false => vec![(element(0), 1.0 - t), (element(1), t)],
                }
            }
        };
        (0..m).map(row).collect()
    }
}

/// The weights of the elements at -1, 0, 1 and 2 for a place `t` behind 0.
fn cubic_weights(t: f64) -> [f64; 4] {
    const A: f64 = -0.75;
    let near = |d: f64| ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0;
    let far = |d: f64| ((A * d - 5.0 * A) * d + 8.0 * A) * d - 4.0 * A;
    [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)]
}

/// A sparse matrix along an axis.
#[derive(Clone)]
struct Resample {
    axis: usize,
    from: usize,
    taps: Arc<Taps>,
}

impl<T: Float> Op<T, 1> for Resample {
    type Saved = ();
    fn name(&self) -> &'static str {
        "interpolate"
    }
    fn forward(&self, [x]: [&Tensor<T>; 1]) -> Result<(Tensor<T>, ())> {
        let mut shape = Dims::from_slice(x.shape());
        let inner = shape[self.axis + 1..].iter().product();
        shape[self.axis] = self.taps.len();
        let x = x.dense();
        let y = Tensor::try_build("interpolate", &shape, |out| {
            along(x.as_slice().unwrap_or(&[]), self.from, inner, &self.taps, out);
        })?;
        Ok((y, ()))
    }
    fn vjp(&self, (): (), g: Tensor<T>, _: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        let taps = Arc::new(transposed(&self.taps, self.from));
        Ok([Some(apply(Resample { axis: self.axis, from: self.taps.len(), taps }, [&g])?)])
    }
    fn vjp_recorded(&self, s: (), g: Tensor<T>, n: [bool; 1]) -> Result<[Option<Tensor<T>>; 1]> {
        self.vjp(s, g, n)
    }
}

impl<T: Float> Tensor<T> {
    /// \[batch, channels, ..\] with the axes behind the channels brought to another size, by the nearest element, linear or cubic interpolation.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// use gradus::nn::Interpolate;
    /// let x: Tensor = Tensor::zeros([8, 3, 20, 20])?;
    /// assert_eq!(x.interpolate(&Interpolate::to([64, 48]))?.shape(), [8, 3, 64, 48]);
    /// assert_eq!(x.interpolate(&Interpolate::by([2.0]))?.shape(), [8, 3, 40, 40]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if there are no axes behind the channels, they are not as many as the sizes, or one is empty; [`Error::Argument`] for a
    /// factor that is not positive.
    pub fn interpolate(&self, to: &Interpolate) -> Result<Tensor<T>> {
        let axes = self.rank().saturating_sub(2);
        let given = match &to.size {
            Size::To(s) => s.len(),
            Size::By(f) => f.len(),
        };
        if axes == 0 || (given != 1 && given != axes) || self.shape()[2..].contains(&0) {
            let message = format!(
                "the input has shape {:?}, but must be [batch, channels, ..] with {} behind, none of them empty",
                self.shape(),
                if given == 1 { "axes".into() } else { format!("{given} axes") }
            );
            return Err(Error::shape("interpolate", message));
        }
        if let Size::By(f) = &to.size
            && f.iter().any(|&f| !f.is_finite() || f <= 0.0)
        {
            return Err(Error::argument(
                "interpolate",
                format!("the factors {f:?} must be positive"),
            ));
        }
        let mut y = self.clone();
        for axis in 0..axes {
            let from = self.shape()[axis + 2];
            let (size, scale) = to.axis(axis, from);
            if size != from || scale != 1.0 {
                let taps = Arc::new(to.taps(from, size, scale));
                y = apply(Resample { axis: axis + 2, from, taps }, [&y])?;
            }
        }
        Ok(y)
    }

    /// Channels to pixels (Shi et al., 2016): \[.., c r², h, w\] to \[.., c, h r, w r\].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x = Tensor::from([[[1.0f32]], [[2.0]], [[3.0]], [[4.0]]]);       // [4, 1, 1]
    /// assert_eq!(x.pixel_shuffle(2)?, Tensor::from([[[1.0, 2.0], [3.0, 4.0]]]));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] for fewer than three axes or channels that r² does not divide.
    pub fn pixel_shuffle(&self, r: usize) -> Result<Tensor<T>> {
        let (lead, [c, h, w]) = image("pixel_shuffle", self)?;
        if !r.checked_mul(r).is_some_and(|rr| rr > 0 && c.is_multiple_of(rr)) {
            let message = format!("{c} channels of {:?} are not divided by {r}²", self.shape());
            return Err(Error::shape("pixel_shuffle", message));
        }
        let n = lead.iter().product();
        let y = self.reshape([n, c / (r * r), r, r, h, w])?.permute([0, 1, 4, 2, 5, 3])?;
        let shape: Dims = lead.into_iter().chain([c / (r * r), h * r, w * r]).collect();
        y.reshape(&shape)
    }

    /// Pixels to channels, the inverse of [`pixel_shuffle`](Self::pixel_shuffle): \[.., c, h r, w r\] to \[.., c r², h, w\].
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let x = Tensor::from([[[1.0f32, 2.0], [3.0, 4.0]]]);
    /// assert_eq!(x.pixel_unshuffle(2)?.shape(), [4, 1, 1]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] for fewer than three axes or a height or width that r does not divide.
    pub fn pixel_unshuffle(&self, r: usize) -> Result<Tensor<T>> {
        let (lead, [c, h, w]) = image("pixel_unshuffle", self)?;
        let fits = r.checked_mul(r).and_then(|rr| c.checked_mul(rr)).is_some();
        if r == 0 || !fits || h % r != 0 || w % r != 0 {
            let message = format!("height and width of {:?} are not divided by {r}", self.shape());
            return Err(Error::shape("pixel_unshuffle", message));
        }
        let n = lead.iter().product();
        let y = self.reshape([n, c, h / r, r, w / r, r])?.permute([0, 1, 3, 5, 2, 4])?;
        let shape: Dims = lead.into_iter().chain([c * r * r, h / r, w / r]).collect();
        y.reshape(&shape)
    }
}

/// The leading axes, and channels, height and width.
fn image<T: Float>(op: &'static str, x: &Tensor<T>) -> Result<(Dims, [usize; 3])> {
    match x.shape() {
        [lead @ .., c, h, w] => Ok((lead.into(), [*c, *h, *w])),
        shape => Err(Error::shape(
            op,
            format!("the input has shape {shape:?}, but must be [.., channels, height, width]"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    const MODES: [Interpolation; 4] = [
        Interpolation::Nearest,
        Interpolation::NearestExact,
        Interpolation::Linear,
        Interpolation::Cubic,
    ];

    #[test]
    fn gradients_up_and_down() {
        let x = Tensor::from_fn([2, 2, 3, 4], |i| (i as f64 * 1.3).sin()).unwrap();
        let turned = x.with_layout(x.layout().permute(&[0, 1, 3, 2]).slice(2, 3, 2, -2));
        for mode in MODES {
            for align in [false, true] {
                for to in [Interpolate::to([5, 2]), Interpolate::by([1.7]), Interpolate::to(1)] {
                    let to = to.mode(mode).align_corners(align);
                    for x in [&x, &turned] {
                        gradcheck(|[x]| x.interpolate(&to), [x]).unwrap();
                    }
                }
            }
        }
        gradcheck(|[x]| x.pixel_shuffle(1), [&x]).unwrap();
        gradcheck(|[x]| x.pixel_unshuffle(1), [&x]).unwrap();
    }

    #[test]
    fn shuffling_there_and_back() {
        let x = Tensor::from_fn([2, 8, 3, 5], |i| i as f32).unwrap();
        let y = x.pixel_shuffle(2).unwrap();
        assert_eq!(y.shape(), [2, 2, 6, 10]);
        assert_eq!(y.get([0, 0, 0, 1]).unwrap(), x.get([0, 1, 0, 0]).unwrap());
        assert_eq!(y.pixel_unshuffle(2).unwrap(), x);
        assert!(x.pixel_shuffle(3).is_err() && x.pixel_unshuffle(2).is_err());
    }

    /// Numbers from PyTorch 2.15.
    #[test]
    fn the_same_as_the_reference() {
        let x = Tensor::from([[[1.0f64, 4.0, 2.0, 8.0]]]);
        let same = |to: Interpolate, want: &[f64]| {
            let x = match &to.size {
                Size::To(s) if s.len() == 2 => x.unsqueeze(2).unwrap(),
                _ => x.clone(),
            };
            let y = x.interpolate(&to).unwrap().to_vec();
            assert_eq!(y.len(), want.len());
            y.iter().zip(want).for_each(|(a, b)| assert!((a - b).abs() < 1e-9, "{y:?} {want:?}"));
        };
        same(Interpolate::to(7), &[1.0, 1.0, 4.0, 4.0, 2.0, 2.0, 8.0]);
        same(
            Interpolate::to(7).mode(Interpolation::NearestExact),
            &[1.0, 1.0, 4.0, 2.0, 2.0, 8.0, 8.0],
        );
        same(
            Interpolate::to(7).mode(Interpolation::Linear).align_corners(false),
            &[
                1.0,
                2.071428571428571,
                3.7857142857142856,
                3.0,
                2.428571428571427,
                5.857142857142857,
                8.0,
            ],
        );
        same(
            Interpolate::to([1, 7]).mode(Interpolation::Cubic).align_corners(false),
            &[
                0.7023505830903787,
                2.1452259475218645,
                3.9207361516034984,
                2.71875,
                2.2509110787171998,
                5.832543731778424,
                8.595298833819246,
            ],
        );
        same(
            Interpolate::to(7).mode(Interpolation::Linear).align_corners(true),
            &[1.0, 2.5, 4.0, 3.0, 2.0, 5.0, 8.0],
        );
        same(
            Interpolate::to([1, 7]).mode(Interpolation::Cubic).align_corners(true),
            &[1.0, 2.6875, 4.0, 2.71875, 2.0, 4.8125, 8.0],
        );
        same(Interpolate::to(3), &[1.0, 4.0, 2.0]);
        same(Interpolate::to(3).mode(Interpolation::NearestExact), &[1.0, 2.0, 8.0]);
        same(
            Interpolate::to(3).mode(Interpolation::Linear).align_corners(false),
            &[1.5, 3.0, 6.999999999999998],
        );
        same(
            Interpolate::to([1, 3]).mode(Interpolation::Cubic).align_corners(false),
            &[1.4652777777777786, 2.71875, 7.104166666666666],
        );
        same(Interpolate::to(3).mode(Interpolation::Linear).align_corners(true), &[1.0, 3.0, 8.0]);
        same(
            Interpolate::to([1, 3]).mode(Interpolation::Cubic).align_corners(true),
            &[1.0, 2.71875, 8.0],
        );
        same(
            Interpolate::by([1.7]).mode(Interpolation::Linear),
            &[
                1.0,
                2.147058823529412,
                3.9117647058823533,
                2.8823529411764706,
                2.88235294117647,
                6.411764705882353,
            ],
        );
        same(Interpolate::by([0.7]), &[1.0, 4.0]);
    }

    #[test]
    fn what_does_not_fit() {
        let x = Tensor::<f32>::zeros([2, 3, 4, 4]).unwrap();
        assert!(x.interpolate(&Interpolate::to([2, 2, 2])).is_err());
        assert!(x.interpolate(&Interpolate::by([-1.0])).is_err());
        assert!(x.reshape([24, 4]).unwrap().interpolate(&Interpolate::to(2)).is_err());
        assert_eq!(x.interpolate(&Interpolate::to([0, 2])).unwrap().shape(), [2, 3, 0, 2]);
        let none = Tensor::<f32>::zeros([0, 3, 4, 4]).unwrap();
        assert_eq!(none.interpolate(&Interpolate::to(2)).unwrap().shape(), [0, 3, 2, 2]);
    }
}
