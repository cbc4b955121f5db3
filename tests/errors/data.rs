//! Mistakes with datasets.

use gradus::prelude::*;

use crate::{Table, panics_with};

#[test]
fn datasets() {
    let mut t = Table::default();
    let x: Tensor = Tensor::zeros([4, 2]).expect("small");
    let labels = Tensor::from([0i64, 1, 0, 1]);
    t.says(
        || Dataset::new(&x, &Tensor::from([0i64, 1]), 2),
        "Dataset::new: 4 inputs and 2 labels: expected one label per input",
    );
    t.says(|| Dataset::new(&x, &Tensor::from([0i64, 1, 2, 0]), 2), "Dataset::new: index 2 is out of range for the classes (it is the label of example 2) of size 2");
    t.says(|| Dataset::new(&x, &Tensor::from([0i64, 1, -1, 0]), 2), "Dataset::new: index -1 is out of range for the classes (it is the label of example 2) of size 2");
    t.says(
        || Dataset::new(&x, &Tensor::from([[0i64], [1], [0], [1]]), 2),
        "Dataset::new: labels of shape [4, 1]: expected one class index per example, [n]",
    );
    t.says(|| Dataset::new(&x, &labels, 0), "Dataset::new: index 0 is out of range for the classes (it is the label of example 0) of size 0");
    t.says(
        || Dataset::new(&Tensor::zeros([0, 2])?, &Tensor::zeros([0])?, 2),
        "Dataset::new: an empty dataset: expected at least one example",
    );
    t.says(
        || Dataset::new(&Tensor::scalar(1.0), &labels, 2),
        "Dataset::new: 1 inputs and 4 labels: expected one label per input",
    );
    t.says(
        || Dataset::regression(&x, &Tensor::zeros([3])?),
        "Dataset::regression: 4 inputs and 3 labels: expected one label per input",
    );
    t.says(
        || Dataset::regression(&x, &Tensor::scalar(0.0)),
        "Dataset::regression: a single target: expected [n] or [n, …], one per example",
    );
    t.says(
        || Dataset::regression(&Tensor::zeros([0, 2])?, &Tensor::zeros([0])?),
        "Dataset::regression: an empty dataset: expected at least one example",
    );
    t.says(
        || Dataset::images(vec![0; 5], [2, 1, 2, 2], &Tensor::from([0i64, 1]), 2),
        "Dataset::images: 5 bytes do not fill the shape [2, 1, 2, 2]",
    );
    t.says(
        || Dataset::images(vec![0; 5], [usize::MAX, 2], &Tensor::from([0i64, 1]), 2),
        "Dataset::images: 5 bytes do not fill the shape [18446744073709551615, 2]",
    );
    t.says(
        || Dataset::images(vec![0; 8], [2, 1, 2, 2], &Tensor::from([0i64]), 2),
        "Dataset::images: 2 inputs and 1 labels: expected one label per input",
    );
    let data = Dataset::new(&x, &labels, 2).expect("a dataset");
    t.says(|| data.try_batches(0), "batches: a batch size of 0: expected at least 1");
    t.says(|| data.take(0), "take: 0 examples: expected at least 1");
    t.says(
        || data.split(4),
        "split: at 4 of 4 examples: expected 1 to 3, so that no part is empty",
    );
    t.says(
        || data.split(0),
        "split: at 0 of 4 examples: expected 1 to 3, so that no part is empty",
    );
    t.says(
        || data.take(1)?.split(1),
        "split: at 1 of 1 examples: expected 1 to 0, so that no part is empty",
    );
    t.says(|| data.subset(&[4]), "subset: index 4 is out of range for the dataset of size 4");
    t.says(|| data.subset(&[]), "subset: no places: expected at least one");
    t.says(
        || data.gather(&[usize::MAX]),
        "gather: index 9223372036854775807 is out of range for the dataset of size 4",
    );
    t.says(
        || data.normalized(&[0.0], &[0.0]),
        "normalized: standard deviation 0: expected a finite number above 0",
    );
    t.says(
        || data.normalized(&[0.0, 0.0, 0.0], &[1.0]),
        "normalized: 3 means for examples of shape [2]: expected 1 or 2",
    );
    t.says(
        || data.normalized(&[f32::NAN], &[1.0]),
        "normalized: mean NaN: expected a finite number",
    );
    assert_eq!(
        panics_with(|| data.batches(0).count()),
        "batches: a batch size of 0: expected at least 1"
    );
}
