//! Printing: `{}` for a person, `{:?}` for someone who looks for a bug.

use std::fmt;

use super::Tensor;
use crate::element::{DType, Element, Scalar};

/// Along an axis longer than twice this, only so many elements at each end are shown.
const EDGE: usize = 3;
/// Tensors up to this many elements are shown whole.
const WHOLE: usize = 200;

/// How all numbers of one tensor are written, so that columns line up.
enum Style {
    /// With this many digits after the point.
    Fixed(usize),
    Exponent(usize),
    Plain,
}

fn as_f64<T: Element>(v: T) -> f64 {
    v.cast::<f64>()
}

impl Style {
    fn of<T: Element>(shown: &[T], precision: Option<usize>) -> Style {
        if T::DTYPE != DType::F32 && T::DTYPE != DType::F64 {
            return Style::Plain;
        }
        let finite = || shown.iter().map(|&v| as_f64(v).abs()).filter(|v| v.is_finite());
        let largest = finite().fold(0.0, f64::max);
        let smallest = finite().filter(|&v| v > 0.0).fold(f64::INFINITY, f64::min);
        if largest >= 1e6
            || (smallest < 1e-4 && smallest.is_finite())
                && largest < 1e3
                && smallest < 1e-4 * largest.max(1.0)
        {
            return Style::Exponent(precision.unwrap_or(4));
        }
        if let Some(p) = precision {
            return Style::Fixed(p);
        }
        // The fewest digits that show every element to 4 places.
        let digits = (0..4).find(|&d| {
            finite().all(|v| format!("{v:.d$}").parse() == format!("{v:.4}").parse::<f64>())
        });
        Style::Fixed(digits.unwrap_or(4).max(1))
    }

    fn write<T: Element>(&self, v: T) -> String {
        match (v.to_scalar(), self) {
            (Scalar::F32(x), _) if !x.is_finite() => x.to_string(),
            (Scalar::F64(x), _) if !x.is_finite() => x.to_string(),
            (_, Style::Fixed(d)) => format!("{:.*}", d, as_f64(v)),
            (_, Style::Exponent(d)) => format!("{:.*e}", d, as_f64(v)),
            (_, Style::Plain) => v.to_string(),
        }
    }
}

/// Which indices of an axis are shown: all, or both ends.
fn shown(size: usize, whole: bool) -> Vec<Option<usize>> {
    if whole || size <= 2 * EDGE {
        (0..size).map(Some).collect()
    } else {
        (0..EDGE).map(Some).chain([None]).chain((size - EDGE..size).map(Some)).collect()
    }
}

struct Printer<'a, T: Element> {
    tensor: &'a Tensor<T>,
    whole: bool,
    cells: Vec<String>,
    width: usize,
    next: usize,
}

impl<T: Element> Printer<'_, T> {
    fn collect(&self, axis: usize, place: isize, out: &mut Vec<T>) {
        if axis == self.tensor.rank() {
            out.push(self.tensor.buffer()[place as usize]);
            return;
        }
        for i in shown(self.tensor.shape()[axis], self.whole).into_iter().flatten() {
            self.collect(axis + 1, place + i as isize * self.tensor.strides()[axis], out);
        }
    }

    fn print(&mut self, f: &mut fmt::Formatter<'_>, axis: usize) -> fmt::Result {
        if axis == self.tensor.rank() {
            let cell = &self.cells[self.next];
            self.next += 1;
            return write!(f, "{cell:>w$}", w = self.width);
        }
        let last = axis + 1 == self.tensor.rank();
        f.write_str("[")?;
        for (k, i) in shown(self.tensor.shape()[axis], self.whole).into_iter().enumerate() {
            if k > 0 {
                if last {
                    f.write_str(", ")?;
                } else {
                    let blank = self.tensor.rank() - axis - 1;
                    write!(f, ",{}{:pad$}", "\n".repeat(blank), "", pad = axis + 1)?;
                }
            }
            match i {
                Some(_) => self.print(f, axis + 1)?,
                None => f.write_str("...")?,
            }
        }
        f.write_str("]")
    }
}

/// The elements in nested brackets, long axes shortened, with shape and type behind; `{:.2}` fixes the digits.
impl<T: Element> fmt::Display for Tensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.len() <= WHOLE;
        let mut p = Printer { tensor: self, whole, cells: vec![], width: 0, next: 0 };
        if self.rank() > 0 {
            if self.is_empty() {
                return write!(f, "[] (shape {:?}, {})", self.shape(), self.dtype());
            }
            let mut values = vec![];
            p.collect(0, self.layout().offset as isize, &mut values);
            let style = Style::of(&values, f.precision());
            p.cells = values.into_iter().map(|v| style.write(v)).collect();
            p.width = p.cells.iter().map(String::len).max().unwrap_or(0);
            p.print(f, 0)?;
            return write!(f, " (shape {:?}, {})", self.shape(), self.dtype());
        }
        let v = self.buffer()[self.layout().offset];
        match f.precision() {
            Some(d) => f.write_str(&Style::of(&[v], Some(d)).write(v)),
            None => write!(f, "{v}"),
        }
    }
}

/// Shape, strides, type, whether it is recorded, and the first elements.
impl<T: Element> fmt::Debug for Tensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Tensor<{}> {{ shape: {:?}, strides: {:?}{}, data: [",
            self.dtype(),
            self.shape(),
            self.strides(),
            if self.is_recorded() { ", recorded" } else { "" }
        )?;
        for (i, v) in self.iter().take(8).enumerate() {
            write!(f, "{}{v:?}", if i > 0 { ", " } else { "" })?;
        }
        f.write_str(if self.len() > 8 { ", …] }" } else { "] }" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_tensors_print_whole_and_aligned() {
        let x: Tensor = Tensor::from([[1.0, -20.5], [3.25, 0.0]]);
        assert_eq!(x.to_string(), "[[  1.00, -20.50],\n [  3.25,   0.00]] (shape [2, 2], f32)");
        assert_eq!(Tensor::<i64>::from([1, 20]).to_string(), "[ 1, 20] (shape [2], i64)");
        assert_eq!(Tensor::<f32>::scalar(2.5).to_string(), "2.5");
        assert_eq!(format!("{:.3}", Tensor::<f32>::scalar(2.0)), "2.000");
        assert_eq!(Tensor::<f32>::zeros([2, 0]).unwrap().to_string(), "[] (shape [2, 0], f32)");
    }

    #[test]
    fn large_tensors_are_shortened() {
        let x = Tensor::<i64>::arange(0, 1000, 1).unwrap();
        assert_eq!(x.to_string(), "[  0,   1,   2, ..., 997, 998, 999] (shape [1000], i64)");
        let m: Tensor = Tensor::zeros([50, 50]).unwrap();
        assert!(m.to_string().lines().count() == 7);
    }

    #[test]
    fn odd_numbers_print() {
        let x: Tensor = Tensor::from([f32::NAN, f32::INFINITY, -1.5]);
        assert_eq!(x.to_string(), "[ NaN,  inf, -1.5] (shape [3], f32)");
        let y: Tensor = Tensor::from([1e-7, 1.0]);
        assert_eq!(y.to_string(), "[1.0000e-7,  1.0000e0] (shape [2], f32)");
    }

    #[test]
    fn debug_tells_shape_and_strides() {
        let x: Tensor = Tensor::from([[1.0, 2.0], [3.0, 4.0]]);
        let d = format!("{x:?}");
        assert_eq!(d, "Tensor<f32> { shape: [2, 2], strides: [2, 1], data: [1.0, 2.0, 3.0, 4.0] }");
    }
}
