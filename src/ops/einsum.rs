//! Einstein summation: products and sums of tensors, said by naming their axes.
//!
//! Each tensor's axes get labels; a label that is not in the result is summed over. Two tensors at a time become one batched matrix product
//!
//!   \[batch, own of a, summed\] · \[batch, summed, own of b\] = \[batch, own of a, own of b\]
//!
//! or, where nothing is summed, a product that broadcasts. Gradients come from those.

use crate::error::{Error, Result};
use crate::float::Float;
use crate::tensor::Tensor;

const OP: &str = "einsum";

/// The name of an axis: a letter, or the place of an axis that an ellipsis stands for, counted from the end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Label {
    Hidden(usize),
    Letter(char),
}

/// A tensor and the names of its axes.
struct Named<T: Float> {
    x: Tensor<T>,
    labels: Vec<Label>,
}

/// The letters of one term and where its ellipsis stands.
struct Term {
    before: Vec<char>,
    after: Option<Vec<char>>,
}

impl Term {
    fn parse(equation: &str, text: &str) -> Result<Self> {
        let bad = |what: &str| Error::argument(OP, format!("\"{equation}\": {what}"));
        let letters = |s: &str| -> Result<Vec<char>> {
            let s = s.chars().filter(|c| !c.is_whitespace());
            s.map(|c| match c.is_ascii_alphabetic() {
                true => Ok(c),
                false => Err(bad(&format!(
                    "{c:?} is no label; labels are the letters a to z and A to Z"
                ))),
            })
            .collect()
        };
        let mut parts = text.split("...");
        let before = letters(parts.next().unwrap_or(""))?;
        let after = parts.next().map(letters).transpose()?;
        match parts.next() {
            Some(_) => Err(bad("a term has two ellipses")),
            None => Ok(Term { before, after }),
        }
    }

    fn letters(&self) -> impl Iterator<Item = char> {
        self.before.iter().chain(self.after.iter().flatten()).copied()
    }

    /// The labels, of which an ellipsis gives `hidden`.
    fn labels(&self, hidden: usize) -> Vec<Label> {
        let hidden = if self.after.is_some() { hidden } else { 0 };
        let letter = |&c: &char| Label::Letter(c);
        let mut all: Vec<Label> = self.before.iter().map(letter).collect();
        all.extend((0..hidden).rev().map(Label::Hidden));
        all.extend(self.after.iter().flatten().map(letter));
        all
    }
}

impl<T: Float> Named<T> {
    fn size(&self, l: Label) -> Option<usize> {
        self.labels.iter().position(|&m| m == l).map(|i| self.x.shape()[i])
    }

    /// A label that comes twice is the diagonal of those axes.
    fn diagonals(mut self) -> Result<Self> {
        while let Some((i, j)) = twice(&self.labels) {
            let (n, m) = (self.x.shape()[i], self.x.shape()[j]);
            if n != m {
                let (shape, l) = (self.x.shape(), text(&self.labels[i..=i]));
                let message =
                    format!("the label {l} stands for axes of size {n} and {m} of shape {shape:?}");
                return Err(Error::shape(OP, message));
            }
            let label = self.labels[i];
            self.x = self.x.diagonal(0, i as isize, j as isize)?;
            self.labels.remove(j);
            self.labels.remove(i);
            self.labels.push(label);
        }
        Ok(self)
    }

    /// Sums over the axes whose labels `keep` does not name.
    fn summed(mut self, keep: impl Fn(Label) -> bool) -> Result<Self> {
        let gone = |l: &Label| !keep(*l);
        let axes: Vec<isize> =
            (0..self.labels.len()).filter(|&i| gone(&self.labels[i])).map(|i| i as isize).collect();
        if !axes.is_empty() {
            self.x = self.x.sum_axes(&axes[..], false)?;
            self.labels.retain(|l| keep(*l));
        }
        Ok(self)
    }

    /// The axes in this order; a label that is not there becomes an axis of size 1.
    fn ordered(&self, order: &[Label]) -> Result<Tensor<T>> {
        let here: Vec<isize> = order
            .iter()
            .filter_map(|l| self.labels.iter().position(|m| m == l))
            .map(|i| i as isize)
            .collect();
        let mut x = self.x.permute(&here[..])?;
        for (i, l) in order.iter().enumerate() {
            if !self.labels.contains(l) {
                x = x.unsqueeze(i as isize)?;
            }
        }
        Ok(x)
    }

    /// The product with another, summed over what `keep` does not name.
    fn times(self, other: Self, keep: impl Fn(Label) -> bool) -> Result<Self> {
        // What only one of them has is summed before anything is multiplied.
        let a_labels = self.labels.clone();
        let a = self.summed(|l| keep(l) || other.labels.contains(&l))?;
        let b = other.summed(|l| keep(l) || a_labels.contains(&l))?;
        let both = |l: &Label| b.labels.contains(l);
        let (shared, own_a): (Vec<Label>, Vec<Label>) = a.labels.iter().partition(|l| both(l));
        let (batch, summed): (Vec<Label>, Vec<Label>) = shared.iter().partition(|l| keep(**l));
        let own_b: Vec<Label> =
            b.labels.iter().copied().filter(|l| !a.labels.contains(l)).collect();
        let labels = [&batch[..], &own_a, &own_b].concat();
        if summed.is_empty() {
            return Ok(Named { x: a.ordered(&labels)?.try_mul(&b.ordered(&labels)?)?, labels });
        }
        let size =
            |l: &Label| a.size(*l).into_iter().chain(b.size(*l)).find(|&n| n != 1).unwrap_or(1);
        let sizes = |ls: &[Label]| -> Vec<usize> { ls.iter().map(size).collect() };
        let number = |ls: &[Label]| -> usize { ls.iter().map(size).product() };
        let (m, k, n) = (number(&own_a), number(&summed), number(&own_b));
        // One batch axis; an axis of size 1 that the other has longer is repeated first.
        let shaped = |t: &Self, order: &[&[Label]], shape: [usize; 3]| -> Result<Tensor<T>> {
            let order = order.concat();
            t.ordered(&order)?.expand(sizes(&order))?.reshape(shape)
        };
        let a = shaped(&a, &[&batch, &own_a, &summed], [number(&batch), m, k])?;
        let b = shaped(&b, &[&batch, &summed, &own_b], [number(&batch), k, n])?;
        Ok(Named { x: a.matmul(&b)?.reshape(&sizes(&labels)[..])?, labels })
    }
}

/// The first label that comes twice.
fn twice(labels: &[Label]) -> Option<(usize, usize)> {
    (0..labels.len()).find_map(|i| {
        let j = labels[i + 1..].iter().position(|l| *l == labels[i])?;
        Some((i, i + 1 + j))
    })
}

fn text(labels: &[Label]) -> String {
    let name = |l: &Label| match l {
        Label::Letter(c) => c.to_string(),
        Label::Hidden(_) => "...".into(),
    };
    labels.iter().map(name).collect()
}

/// The labels of every input and of the output.
fn read<T: Float>(equation: &str, x: &[&Tensor<T>]) -> Result<(Vec<Vec<Label>>, Vec<Label>)> {
    let bad = |what: String| Error::argument(OP, format!("\"{equation}\": {what}"));
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation, None),
    };
    let terms: Vec<Term> =
        left.split(',').map(|t| Term::parse(equation, t)).collect::<Result<_>>()?;
    if terms.len() != x.len() {
        return Err(bad(format!("it has {} terms for {} tensors", terms.len(), x.len())));
    }
    let mut inputs = Vec::with_capacity(x.len());
    let mut widest = 0;
    for (i, (term, x)) in terms.iter().zip(x).enumerate() {
        let named = term.letters().count();
        let fits = if term.after.is_some() { x.rank() >= named } else { x.rank() == named };
        if !fits {
            let message = format!(
                "\"{equation}\": term {i} names {named} axes, but its tensor has shape {:?}",
                x.shape()
            );
            return Err(Error::shape(OP, message));
        }
        let hidden = x.rank() - named;
        widest = widest.max(hidden);
        inputs.push(term.labels(hidden));
    }
    let output = match right {
        Some(right) => Term::parse(equation, right)?.labels(widest),
        // Without an arrow: what comes once, in alphabetical order, behind what the ellipses stand for.
        None => {
            let mut once: Vec<char> = terms.iter().flat_map(Term::letters).collect();
            let all = once.clone();
            once.retain(|c| all.iter().filter(|d| *d == c).count() == 1);
            once.sort_unstable();
            let hidden = (0..widest).rev().map(Label::Hidden);
            hidden.chain(once.into_iter().map(Label::Letter)).collect()
        }
    };
    if let Some((i, _)) = twice(&output) {
        return Err(bad(format!("the label {} comes twice in the result", text(&output[i..=i]))));
    }
    if let Some(l) = output.iter().find(|l| !inputs.iter().flatten().any(|m| m == *l)) {
        return Err(bad(format!("the label {} of the result is in no term", text(&[*l]))));
    }
    Ok((inputs, output))
}

/// Refuses a label that stands for different sizes (1 broadcasts).
fn check_sizes<T: Float>(equation: &str, all: &[Named<T>]) -> Result<()> {
    for (i, a) in all.iter().enumerate() {
        for (&l, &n) in a.labels.iter().zip(a.x.shape()) {
            let other =
                all[..i].iter().filter_map(|b| b.size(l)).find(|&m| m != n && m != 1 && n != 1);
            if let Some(m) = other {
                let message = format!(
                    "\"{equation}\": the label {} stands for sizes {m} and {n}",
                    text(&[l])
                );
                return Err(Error::shape(OP, message));
            }
        }
    }
    Ok(())
}

impl<T: Float> Tensor<T> {
    /// Einstein summation, with the notation of NumPy and PyTorch: axes are named by letters, and what the result does not name is summed over.
    ///
    /// `ij,jk->ik` is a matrix product, `bhqd,bhkd->bhqk` the scores of attention, `ii->i` a diagonal, `ij->` a sum; `...` stands for any
    /// number of axes that broadcast. Without an arrow the result has the letters that come once, in alphabetical order. More
    /// than two tensors are multiplied pair by pair, the cheapest pair first.
    ///
    /// ```
    /// use gradus::prelude::*;
    /// let a: Tensor = Tensor::from([[1.0, 2.0], [3.0, 4.0]]);
    /// let b = Tensor::from([10.0, 1.0]);
    /// assert_eq!(Tensor::einsum("ij,j->i", &[&a, &b])?.to_vec(), [12.0, 34.0]);
    /// assert_eq!(Tensor::einsum("ij->ji", &[&a])?, a.t()?);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] for an equation that is malformed or has another number of terms than there are tensors, [`Error::Shape`] if a term does not
    /// have as many labels as its tensor has axes, or a label stands for different sizes.
    pub fn einsum(equation: &str, tensors: &[&Tensor<T>]) -> Result<Tensor<T>> {
        let (labels, output) = read(equation, tensors)?;
        let mut all = Vec::with_capacity(tensors.len());
        for (x, labels) in tensors.iter().zip(labels) {
            all.push(Named { x: (*x).clone(), labels }.diagonals()?);
        }
        check_sizes(equation, &all)?;
        while all.len() > 1 {
            let (i, j) = cheapest(&all);
            let (b, a) = (all.remove(j), all.remove(i));
            let kept = |l: Label| output.contains(&l) || all.iter().any(|t| t.labels.contains(&l));
            let product = a.times(b, kept)?;
            all.push(product);
        }
        match all.pop() {
            Some(last) => last.summed(|l| output.contains(&l))?.ordered(&output),
            None => Err(Error::argument(OP, format!("\"{equation}\": there is no tensor"))),
        }
    }
}

/// The pair whose product takes the fewest multiplications; the first of equals.
fn cheapest<T: Float>(all: &[Named<T>]) -> (usize, usize) {
    let cost = |a: &Named<T>, b: &Named<T>| -> f64 {
        let own: f64 = a.x.shape().iter().map(|&n| n as f64).product();
        let rest = b.labels.iter().zip(b.x.shape()).filter(|(l, _)| !a.labels.contains(l));
        own * rest.map(|(_, &n)| n as f64).product::<f64>()
    };
    let mut best = (0, 1);
    let mut least = f64::INFINITY;
    for i in 0..all.len() {
        for j in i + 1..all.len() {
            let c = cost(&all[i], &all[j]);
            if c < least {
                (best, least) = ((i, j), c);
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::{gradcheck, gradgradcheck};

    fn t(shape: &[usize]) -> Tensor<f64> {
        let n: usize = shape.iter().product();
        Tensor::from_fn(shape, |i| ((i * 7 + 3) % (n + 2)) as f64 * 0.25 - 1.0).unwrap()
    }

    /// By definition: a sum over every assignment of numbers to labels.
    fn naive(equation: &str, x: &[&Tensor<f64>]) -> Vec<f64> {
        let (labels, out) = read(equation, x).unwrap();
        let mut sizes: Vec<(Label, usize)> = out.iter().map(|&l| (l, 1)).collect();
        for (ls, x) in labels.iter().zip(x) {
            for (&l, &n) in ls.iter().zip(x.shape()) {
                match sizes.iter_mut().find(|(m, _)| *m == l) {
                    Some((_, m)) => *m = if *m == 1 { n } else { *m },
                    None => sizes.push((l, n)),
                }
            }
        }
        let out_len: usize = sizes[..out.len()].iter().map(|s| s.1).product();
        let all: usize = sizes.iter().map(|s| s.1).product();
        let mut y = vec![0.0; out_len];
        for i in 0..all {
            let mut rest = i;
            let mut at = vec![0; sizes.len()];
            for (a, s) in at.iter_mut().zip(&sizes).rev() {
                *a = rest % s.1;
                rest /= s.1;
            }
            let value = |l: &Label| at[sizes.iter().position(|s| s.0 == *l).unwrap()];
            let product: f64 = labels
                .iter()
                .zip(x)
                .map(|(ls, x)| {
                    let place = ls
                        .iter()
                        .zip(x.shape())
                        .fold(0, |p, (l, &n)| p * n + if n == 1 { 0 } else { value(l) });
                    x.to_vec()[place]
                })
                .product();
            let place = sizes[..out.len()].iter().zip(&at).fold(0, |p, (s, &a)| p * s.1 + a);
            y[place] += product;
        }
        y
    }

    #[test]
    fn agrees_with_the_definition() {
        let cases: &[(&str, &[&[usize]])] = &[
            ("ij,jk->ik", &[&[2, 3], &[3, 4]]),
            ("ij,jk", &[&[2, 3], &[3, 4]]),
            ("ba", &[&[2, 3]]),
            ("bij,bjk->bik", &[&[2, 3, 4], &[2, 4, 5]]),
            ("bhqd,bhkd->bhqk", &[&[2, 2, 3, 4], &[2, 2, 5, 4]]),
            (" i , j -> j i ", &[&[3], &[4]]),
            ("ijk->j", &[&[2, 3, 4]]),
            ("ii->i", &[&[3, 3]]),
            ("ii", &[&[3, 3]]),
            ("iji->j", &[&[3, 2, 3]]),
            ("ij,ij->", &[&[3, 4], &[3, 4]]),
            ("...ij,...jk->...ik", &[&[2, 1, 3, 4], &[5, 4, 2]]),
            ("...ij->...ji", &[&[2, 2, 3]]),
            ("i...,i...", &[&[3, 2], &[3, 4, 2]]),
            ("ij,jk,kl->il", &[&[2, 3], &[3, 4], &[4, 2]]),
            ("a,b,c,abc->", &[&[2], &[3], &[2], &[2, 3, 2]]),
            ("ij,ij->ij", &[&[2, 1], &[2, 3]]),
            ("bi,bj->ij", &[&[1, 2], &[4, 3]]),
            ("ij,k->i", &[&[2, 3], &[4]]),
            (",->", &[&[], &[]]),
        ];
        for (equation, shapes) in cases {
            let x: Vec<Tensor<f64>> = shapes.iter().map(|s| t(s)).collect();
            let x: Vec<&Tensor<f64>> = x.iter().collect();
            let y = Tensor::einsum(equation, &x).unwrap().to_vec();
            let want = naive(equation, &x);
            assert_eq!(y.len(), want.len(), "{equation}");
            assert!(
                y.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-12),
                "{equation}: {y:?} {want:?}"
            );
        }
    }

    #[test]
    fn gradients() {
        let (a, b) = (t(&[2, 3]), t(&[4, 3]).t().unwrap());
        gradcheck(|[a, b]| Tensor::einsum("ij,jk->ki", &[a, b]), [&a, &b]).unwrap();
        gradgradcheck(|[a, b]| Tensor::einsum("ij,jk->ki", &[a, b]), [&a, &b]).unwrap();
        gradcheck(|[a]| Tensor::einsum("ii->i", &[a]), [&t(&[3, 3])]).unwrap();
        gradcheck(|[a, b, c]| Tensor::einsum("ij,jk,ik->j", &[a, b, c]), [&a, &b, &t(&[2, 4])])
            .unwrap();
        gradcheck(
            |[a, b]| Tensor::einsum("...i,...i->...", &[a, b]),
            [&t(&[2, 1, 3]), &t(&[4, 3])],
        )
        .unwrap();
        gradcheck(|[a, b]| Tensor::einsum("ij,j->i", &[a, b]), [&t(&[0, 3]), &t(&[3])]).unwrap();
        gradcheck(|[a, b]| Tensor::einsum("ij,j->i", &[a, b]), [&t(&[2, 0]), &t(&[0])]).unwrap();
    }

    #[test]
    fn what_does_not_fit() {
        let (a, b) = (t(&[2, 3]), t(&[4, 2]));
        let says = |equation: &str, x: &[&Tensor<f64>], want: &str| {
            assert_eq!(
                Tensor::einsum(equation, x).unwrap_err().to_string(),
                format!("einsum: {want}")
            );
        };
        says("ij,jk->ik", &[&a, &b], "\"ij,jk->ik\": the label j stands for sizes 3 and 4");
        says("ij->ik", &[&a], "\"ij->ik\": the label k of the result is in no term");
        says("ij->ii", &[&a], "\"ij->ii\": the label i comes twice in the result");
        says("ij,jk->ik", &[&a], "\"ij,jk->ik\": it has 2 terms for 1 tensors");
        says("ijk->i", &[&a], "\"ijk->i\": term 0 names 3 axes, but its tensor has shape [2, 3]");
        says(
            "i1->i",
            &[&a],
            "\"i1->i\": '1' is no label; labels are the letters a to z and A to Z",
        );
        says("......->", &[&a], "\"......->\": a term has two ellipses");
        says("ii->i", &[&a], "the label i stands for axes of size 2 and 3 of shape [2, 3]");
        says("", &[], "\"\": it has 1 terms for 0 tensors");
    }
}
