use super::*;

/// n examples [i, −i], their labels i mod 3.
fn numbered(n: usize) -> Dataset {
    let x = Tensor::from_vec((0..n).flat_map(|i| [i as f32, -(i as f32)]).collect(), [n, 2]);
    let labels = Tensor::from_vec((0..n).map(|i| (i % 3) as i64).collect(), [n]);
    Dataset::new(&x.unwrap(), &labels.unwrap(), 3).unwrap()
}

/// The first number of each example of a batch: its place in `numbered`.
fn places(batch: &Batch) -> Vec<usize> {
    batch.inputs.to_vec().chunks(2).map(|x| x[0] as usize).collect()
}

fn check_pairs(batch: &Batch) {
    let labels = batch.labels.to_vec();
    assert_eq!(batch.inputs.shape(), [labels.len(), 2]);
    for ((x, place), label) in batch.inputs.to_vec().chunks(2).zip(places(batch)).zip(labels) {
        assert_eq!((x[1], label), (-x[0], (place % 3) as i64));
    }
}

#[test]
fn batches_come_in_order_and_the_short_one_last() {
    let data = numbered(10);
    let all: Vec<Vec<usize>> = data.batches(4).map(|b| places(&b)).collect();
    assert_eq!(all, [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
    let full: Vec<Vec<usize>> = data.batches(4).drop_last().map(|b| places(&b)).collect();
    assert_eq!(full, [vec![0, 1, 2, 3], vec![4, 5, 6, 7]]);
    data.batches(4).for_each(|b| check_pairs(&b));
    for (size, kept, dropped) in
        [(1, 10, 10), (5, 2, 2), (10, 1, 1), (11, 1, 0), (usize::MAX, 1, 0)]
    {
        assert_eq!(data.batches(size).len(), kept, "size {size}");
        assert_eq!(data.batches(size).count(), kept, "size {size}");
        assert_eq!(data.batches(size).drop_last().len(), dropped, "size {size}");
        assert_eq!(data.batches(size).drop_last().count(), dropped, "size {size}");
    }
}

#[test]
fn shuffling_visits_each_example_once_and_the_seed_decides_the_order() {
    let data = numbered(100);
    let order = |seed| -> Vec<usize> {
        data.batches(7).shuffled(seed).inspect(check_pairs).flat_map(|b| places(&b)).collect()
    };
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
    assert_ne!(order(1), (0..100).collect::<Vec<_>>());
    let mut sorted = order(1);
    sorted.sort();
    assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    // Shuffled and dropping: a different tail is left out each time, whichever is said first.
    let a: Vec<usize> = data.batches(7).shuffled(1).drop_last().flat_map(|b| places(&b)).collect();
    let b: Vec<usize> = data.batches(7).drop_last().shuffled(1).flat_map(|b| places(&b)).collect();
    assert_eq!((a.len(), &a[..]), (98, &order(1)[..98]));
    assert_eq!(a, b);
}

#[test]
fn a_batch_size_of_zero_is_an_error_and_a_panic_with_the_same_words() {
    let data = numbered(3);
    let e = data.try_batches(0).unwrap_err();
    assert!(matches!(e, Error::Argument { op: "batches", .. }));
    assert_eq!(e.to_string(), "batches: a batch size of 0: expected at least 1");
    let panic = std::panic::catch_unwind(|| data.batches(0).count()).unwrap_err();
    assert_eq!(panic.downcast_ref::<String>(), Some(&e.to_string()));
}

#[test]
fn what_does_not_fit_is_refused() {
    let x = |n: usize| -> Tensor { Tensor::zeros([n, 2]).unwrap() };
    let labels = |l: &[i64]| Tensor::from_slice(l, [l.len()]).unwrap();
    let e = Dataset::new(&x(0), &labels(&[]), 3).unwrap_err();
    assert!(matches!(e, Error::Argument { .. }) && e.to_string().contains("empty dataset"), "{e}");
    let e = Dataset::new(&x(3), &labels(&[0, 1]), 3).unwrap_err();
    assert_eq!(e.to_string(), "Dataset::new: 3 inputs and 2 labels: expected one label per input");
    assert!(matches!(e, Error::Shape { .. }));
    for bad in [3, -1, i64::MAX] {
        let e = Dataset::new(&x(3), &labels(&[0, bad, 1]), 3).unwrap_err();
        assert!(matches!(e, Error::Index { index, size: 3, .. } if index == bad), "{e:?}");
        assert!(e.to_string().contains("label of example 1"), "{e}");
    }
    let matrix = Tensor::from_slice(&[0i64, 1], [2, 1]).unwrap();
    let e = Dataset::new(&x(2), &matrix, 3).unwrap_err();
    assert!(e.to_string().contains("[2, 1]"), "{e}");

    let targets = |n: usize| -> Tensor { Tensor::zeros([n, 2]).unwrap() };
    assert!(matches!(Dataset::regression(&x(3), &targets(2)), Err(Error::Shape { .. })));
    assert!(matches!(Dataset::regression(&x(0), &targets(0)), Err(Error::Argument { .. })));
    let scalar = Tensor::scalar(1.0f32);
    assert!(matches!(Dataset::regression(&x(1), &scalar), Err(Error::Shape { .. })));

    let images = |n, shape: [usize; 2]| Dataset::images(vec![0; n], shape, &labels(&[0, 1]), 2);
    let e = images(5, [2, 3]).unwrap_err();
    assert_eq!(e.to_string(), "Dataset::images: 5 bytes do not fill the shape [2, 3]");
    assert!(matches!(images(0, [usize::MAX, 2]), Err(Error::Shape { .. })));
    assert!(images(0, [2, 0]).is_ok());
    assert!(matches!(images(6, [3, 2]), Err(Error::Shape { .. })));
}

#[test]
fn parts_share_the_data_and_keep_pairs_together() {
    let data = numbered(10);
    let (a, b) = data.split(7).unwrap();
    assert_eq!((places(&a.all()), places(&b.all())), ((0..7).collect(), vec![7, 8, 9]));
    let (c, d) = data.shuffled(3).split(4).unwrap();
    let mut both = [places(&c.all()), places(&d.all())].concat();
    [&c, &d].iter().for_each(|part| check_pairs(&part.all()));
    both.sort();
    assert_eq!(both, (0..10).collect::<Vec<_>>());
    let odd = b.subset(&[2, 0, 2]).unwrap();
    assert_eq!(places(&odd.all()), [9, 7, 9]);
    check_pairs(&odd.all());
    assert_eq!(places(&odd.take(2).unwrap().all()), [9, 7]);
    assert_eq!(places(&odd.gather(&[1]).unwrap()), [7]);
    assert_eq!(odd.class_counts(), [2, 1, 0]);
    assert_eq!(data.take(99).unwrap().len(), 10);
    assert!(Arc::ptr_eq(&data.labels, &odd.labels));

    for bad in [0, 10, 11] {
        assert!(matches!(data.split(bad), Err(Error::Argument { op: "split", .. })));
    }
    assert!(matches!(data.take(0), Err(Error::Argument { op: "take", .. })));
    assert!(matches!(data.subset(&[]), Err(Error::Argument { op: "subset", .. })));
    assert!(matches!(b.subset(&[0, 3]), Err(Error::Index { index: 3, size: 3, .. })));
    assert!(matches!(b.gather(&[3]), Err(Error::Index { op: "gather", .. })));
}

#[test]
fn bytes_become_numbers_from_zero_to_one() {
    let labels = Tensor::from_slice(&[0i64, 1], [2]).unwrap();
    let data = Dataset::images((0..=255).collect(), [2, 2, 8, 8], &labels, 2).unwrap();
    let all = data.all();
    assert_eq!(all.inputs.shape(), [2, 2, 8, 8]);
    for (i, x) in all.inputs.to_vec().into_iter().enumerate() {
        assert_eq!(x, i as f32 / 255.0);
    }
}

#[test]
fn debug_output_is_short() {
    let text = format!("{:?}", numbered(1000));
    assert_eq!(text, "Dataset { len: 1000, example_shape: [2], label_shape: [], classes: 3 }");
}

#[test]
fn a_view_is_read_in_its_own_order() {
    let x = Tensor::from_vec(vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3]).unwrap();
    let transposed = x.with_layout(x.layout().permute(&[1, 0]));
    let data = Dataset::regression(&transposed, &Tensor::zeros([3]).unwrap()).unwrap();
    assert_eq!(data.all().inputs.to_vec(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
}

#[test]
fn normalisation_per_channel_and_for_all() {
    let pixels = vec![0, 255, 51, 51, 255, 0, 51, 51];
    let data = Dataset::images(pixels, [2, 2, 2], &Tensor::zeros([2]).unwrap(), 1).unwrap();
    let (mean, std) = data.mean_std();
    assert_eq!(mean, [0.5, 0.2]);
    assert_eq!(std[0], 0.5);
    assert!(std[1] < 1e-7, "a constant channel, up to rounding: {}", std[1]);
    let x = data.normalized(&[0.5, 0.2], &[0.5, 0.1]).unwrap().all().inputs.to_vec();
    assert_eq!(x, [-1.0, 1.0, 0.0, 0.0, 1.0, -1.0, 0.0, 0.0]);
    let x = data.normalized(&[0.5], &[2.0]).unwrap().all().inputs.to_vec();
    assert_eq!(x[..3], [-0.25, 0.25, (0.2 - 0.5) / 2.0]);
    let x = data.normalized(&[0.5], &[0.5, 0.1]).unwrap().all().inputs.to_vec();
    assert_eq!(x[..3], [-1.0, 1.0, (0.2 - 0.5) / 0.1]);
    // Statistics are of the values themselves, and of the subset's rows only.
    let first = data.normalized(&[9.0], &[9.0]).unwrap().take(1).unwrap();
    assert_eq!(first.mean_std().0, [0.5, 0.2]);

    for (mean, std) in [(&[0.0, 0.0, 0.0][..], &[1.0][..]), (&[0.0], &[]), (&[], &[1.0])] {
        assert!(matches!(data.normalized(mean, std), Err(Error::Shape { .. })));
    }
    for (mean, std) in
        [(f32::NAN, 1.0), (0.0, 0.0), (0.0, -1.0), (0.0, f32::INFINITY), (0.0, f32::NAN)]
    {
        assert!(
            matches!(data.normalized(&[mean], &[std]), Err(Error::Argument { .. })),
            "{mean} {std}"
        );
    }
}

#[test]
fn a_table_of_numbers_with_targets_of_any_shape() {
    let x = Tensor::from_vec(vec![1.0f32, 2.0, 3.0], [3]).unwrap();
    let y = Tensor::from_vec((0..6).map(|i| i as f32).collect(), [3, 2, 1]).unwrap();
    let data = Dataset::regression(&x, &y).unwrap();
    let last = data.batches(2).nth(1).unwrap();
    assert_eq!((last.inputs.shape(), last.inputs.to_vec()), (&[1][..], vec![3.0]));
    assert_eq!((last.labels.shape(), last.labels.to_vec()), (&[1, 2, 1][..], vec![4.0, 5.0]));
    let x = data.normalized(&[2.0], &[0.5]).unwrap();
    assert_eq!(x.all().inputs.to_vec(), [-2.0, 0.0, 2.0]);
    // Examples without any elements are still counted.
    let empty = Dataset::regression(&Tensor::zeros([3, 0]).unwrap(), &y).unwrap();
    assert_eq!(empty.all().inputs.shape(), [3, 0]);
    assert_eq!(empty.normalized(&[1.0], &[1.0]).unwrap().batches(2).count(), 2);
}
