//! A model's parameters as a table.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use super::Module;
use crate::autograd::{ParamId, Tape};
use crate::error::Result;

/// See [`Module::summary`].
pub(super) fn table(model: &impl Module) -> String {
    let mut rows = vec![["parameter", "shape", "numbers"].map(String::from)];
    let mut seen = HashSet::new();
    model.for_each_param(|path, p| {
        let count = if seen.insert(p.id()) { grouped(p.len()) } else { "tied".into() };
        rows.push([path.into(), format!("{:?}", p.shape()), count]);
    });
    rows.push(["total".into(), String::new(), grouped(model.num_params())]);
    columns(&rows)
}

/// Three columns, the last one to the right.
fn columns(rows: &[[String; 3]]) -> String {
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
    let [a, b, c] = [0, 1, 2].map(width);
    let mut text = String::new();
    for [path, shape, count] in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{path:<a$}  {shape:<b$}  {count:>c$}");
    }
    text
}

/// See [`Module::summary_of`].
pub(super) fn with_outputs<M: Module + Clone, R>(
    model: &M,
    run: impl FnOnce(&M) -> Result<R>,
) -> Result<String> {
    let tape = Tape::new(0);
    tape.core().take_notes();
    // A deep copy: the trial must not move running statistics.
    run(&tape.watch(&model.clone()))?;
    let shapes: HashMap<ParamId, Vec<usize>> = tape.core().uses().into_iter().collect();
    // Parameters of one layer stand side by side in the walk.
    let mut rows: Vec<(String, Option<Vec<usize>>, usize, bool)> = Vec::new();
    let mut seen = HashSet::new();
    model.for_each_param(|path, p| {
        let layer = path.rsplit_once('.').map_or("", |(layer, _)| layer);
        let fresh = seen.insert(p.id());
        if rows.last().is_none_or(|r| r.0 != layer) {
            rows.push((layer.into(), None, 0, true));
        }
        if let Some(row) = rows.last_mut() {
            row.1 = row.1.take().or_else(|| shapes.get(&p.id()).cloned());
            row.2 += if fresh { p.len() } else { 0 };
            row.3 &= !fresh;
        }
    });
    let mut lines = vec![["layer", "output", "numbers"].map(String::from)];
    for (layer, shape, numbers, tied) in rows {
        let name = if layer.is_empty() { "(the model itself)".into() } else { layer };
        let shape = shape.map_or("not used".into(), |s| format!("{s:?}"));
        lines.push([name, shape, if tied { "tied".into() } else { grouped(numbers) }]);
    }
    lines.push(["total".into(), String::new(), grouped(model.num_params())]);
    Ok(columns(&lines))
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
    use crate::nn::{BatchNorm2d, Conv2d, Dense, LSTM, Layer, Sequential};
    use crate::{Param, Tensor};

    #[test]
    fn outputs_of_a_trial_that_leaves_no_trace() {
        let mut rng = crate::rng(0);
        let model: Sequential = Sequential::new()
            .add(Conv2d::new(1, 4, 3).build(&mut rng).unwrap())
            .add(BatchNorm2d::new(4).build().unwrap())
            .add_fn(|x| x.relu().flatten(1..))
            .add(Dense::new(4 * 36, 10).build(&mut rng).unwrap());
        let lstm = LSTM::<f64>::new(3, 5).bidirectional(true).build(&mut rng).unwrap();
        let text = lstm.summary_of(|m| m.forward(&Tensor::ones([7, 2, 3]).unwrap())).unwrap();
        assert!(text.contains("(the model itself)  [7, 2, 10]"), "{text}");
        let norm = || model.get::<BatchNorm2d>(1).unwrap().clone();
        let before = format!("{:?}", norm());
        let x = Tensor::ones([2, 1, 8, 8]).unwrap();
        let text = model.summary_of(|m| m.forward(&x)).unwrap();
        assert_eq!(
            text,
            "layer  output        numbers\n\
             0      [2, 4, 6, 6]       40\n\
             1      [2, 4, 6, 6]        8\n\
             3      [2, 10]         1,450\n\
             total                  1,498\n"
        );
        assert_eq!(format!("{:?}", norm()), before);
        assert!(model.summary_of(|m| m.forward(&Tensor::ones([3]).unwrap())).is_err());
        let unused = model.summary_of(|_| Ok(())).unwrap();
        assert!(unused.contains("not used"), "{unused}");
    }

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
