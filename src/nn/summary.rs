//! A model's parameters as a table.

use std::collections::HashSet;
use std::fmt::Write;

use super::Module;

/// See [`Module::summary`].
pub(super) fn table(model: &impl Module) -> String {
    let mut rows = vec![["parameter", "shape", "numbers"].map(String::from)];
    let mut seen = HashSet::new();
    model.for_each_param(|path, p| {
        let count = if seen.insert(p.id()) { grouped(p.len()) } else { "tied".into() };
        rows.push([path.into(), format!("{:?}", p.shape()), count]);
    });
    rows.push(["total".into(), String::new(), grouped(model.num_params())]);
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
    let [a, b, c] = [0, 1, 2].map(width);
    let mut text = String::new();
    for [path, shape, count] in &rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{path:<a$}  {shape:<b$}  {count:>c$}");
    }
    text
}

/// A number with its digits in groups of three.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(d);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Param, Tensor};

    #[test]
    fn digits_in_groups() {
        assert_eq!([0, 12, 999, 1000, 1234567].map(grouped).join(" "), "0 12 999 1,000 1,234,567");
    }

    #[test]
    fn empty_and_tied() {
        assert_eq!(().summary(), "parameter  shape  numbers\ntotal                   0\n");
        let p: Param = Param::new(Tensor::zeros([2]).unwrap());
        let text = (p.clone(), p).summary();
        assert_eq!(
            text,
            "parameter  shape  numbers\n0          [2]          2\n1          [2]       tied\ntotal                   2\n"
        );
    }
}
