//! The taps of a window along one axis, laid out one after another (im2col along that axis), and the sum back.
//!
//! ```text
//! lay:  y[n, o, c, k, ..] = x[n, c, o·stride + k·dilation - pad, ..], 0 outside
//! add:  x[n, c, z, ..]    = Σ y[n, o, c, k, ..] over the (o, k) that lie at z, k by k
//! ```

use crate::float::Float;
use crate::kernel::par;

/// The windows along an axis of x \[images, channels, size, plane\]; y is \[images, windows, channels, kernel, plane\]. Whoever makes one has checked
/// that no product overflows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub images: usize,
    pub channels: usize,
    pub size: usize,
    pub windows: usize,
    pub kernel: usize,
    pub stride: usize,
    pub dilation: usize,
    /// Zeros before the axis.
    pub pad: usize,
    /// Elements behind the axis, which move as one.
    pub plane: usize,
}

impl Line {
    fn whole_len(&self) -> usize {
        self.images * self.channels * self.size * self.plane
    }

    fn laid_len(&self) -> usize {
        self.images * self.windows * self.channels * self.kernel * self.plane
    }

    /// Where tap `k` of window `o` lies, if inside.
    #[inline(always)]
    fn place(&self, o: usize, k: usize) -> Option<usize> {
        (o * self.stride + k * self.dilation).checked_sub(self.pad).filter(|&z| z < self.size)
    }
}

/// Estimated nanoseconds to move an element.
const NS: f64 = 0.3;

/// Lays the taps out.
pub(crate) fn lay<T: Float>(l: &Line, x: &[T], y: &mut [T]) {
    assert!(x.len() == l.whole_len() && y.len() == l.laid_len());
    // One window of one image is a part.
    par::for_each_chunk_mut(y, l.channels * l.kernel * l.plane, NS, |part, y| {
        let (n, o) = (part / l.windows, part % l.windows);
        for c in 0..l.channels {
            for k in 0..l.kernel {
                let y = &mut y[(c * l.kernel + k) * l.plane..][..l.plane];
                match l.place(o, k) {
                    Some(z) => {
                        let at = ((n * l.channels + c) * l.size + z) * l.plane;
                        y.copy_from_slice(&x[at..at + l.plane]);
                    }
                    None => y.fill(T::ZERO),
                }
            }
        }
    });
}

/// Adds the taps up.
pub(crate) fn add<T: Float>(l: &Line, y: &[T], x: &mut [T]) {
    assert!(x.len() == l.whole_len() && y.len() == l.laid_len());
    // One channel of one image is a part, so that no two parts add to one element.
    let ns = NS * (1.0 + (l.windows * l.kernel) as f64 / l.size.max(1) as f64);
    par::for_each_chunk_mut(x, l.size * l.plane, ns, |part, x| {
        x.fill(T::ZERO);
        let (n, c) = (part / l.channels, part % l.channels);
        for k in 0..l.kernel {
            for o in 0..l.windows {
                let Some(z) = l.place(o, k) else { continue };
                let at = (((n * l.windows + o) * l.channels + c) * l.kernel + k) * l.plane;
                let x = &mut x[z * l.plane..][..l.plane];
                x.iter_mut().zip(&y[at..at + l.plane]).for_each(|(x, &y)| *x += y);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_by_hand_and_the_way_back() {
        let l = Line {
            images: 1,
            channels: 1,
            size: 3,
            windows: 2,
            kernel: 2,
            stride: 1,
            dilation: 2,
            pad: 1,
            plane: 2,
        };
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let mut y = [f64::NAN; 8];
        lay(&l, &x, &mut y);
        assert_eq!(y, [0.0, 0.0, 3.0, 4.0, 1.0, 2.0, 5.0, 6.0]);
        let mut back = [f64::NAN; 6];
        add(&l, &y, &mut back);
        assert_eq!(back, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn nothing_is_no_work() {
        let l = Line {
            images: 0,
            channels: 2,
            size: 3,
            windows: 2,
            kernel: 2,
            stride: 1,
            dilation: 1,
            pad: 0,
            plane: 4,
        };
        lay::<f32>(&l, &[], &mut []);
        add::<f32>(&l, &[], &mut []);
    }
}
