//! Views, joins, indexing and products against index-by-index loops, over shapes and layouts drawn at random.

use gradus::Slice;
use gradus::autograd::gradcheck;
use gradus::prelude::*;
use rand::RngExt;

type T64 = Tensor<f64>;

/// Numbers 0, 1, 2, … so that every element can be told apart.
fn counted(shape: &[usize]) -> T64 {
    Tensor::from_fn(shape, |i| i as f64).unwrap()
}

/// A tensor of a random shape behind a random chain of views.
fn random_view(rng: &mut impl Rng) -> T64 {
    let rank = rng.random_range(1..5);
    let shape: Vec<usize> = (0..rank).map(|_| rng.random_range(1..5)).collect();
    let mut x = counted(&shape);
    for _ in 0..rng.random_range(0..4) {
        let axis = rng.random_range(0..x.rank()) as isize;
        x = match rng.random_range(0..5) {
            0 => x.transpose(axis, rng.random_range(0..x.rank()) as isize).unwrap(),
            1 => x.flip(axis).unwrap(),
            2 => x.slice_axis(axis, Slice::all().step(2)).unwrap(),
            3 => x.slice_axis(axis, Slice::from(1..)).unwrap(),
            _ => {
                let mut wide = x.shape().to_vec();
                wide.insert(0, rng.random_range(1..3));
                x.expand(wide).unwrap()
            }
        };
    }
    x
}

fn at(x: &T64, index: &[usize]) -> f64 {
    let mut y = x.clone();
    for &i in index {
        y = y.select(0, i as isize).unwrap();
    }
    y.item().unwrap()
}

fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    shape.iter().fold(vec![vec![]], |all, &d| {
        all.into_iter()
            .flat_map(|p: Vec<usize>| (0..d).map(move |i| [&p[..], &[i]].concat()))
            .collect()
    })
}

#[test]
fn reading_in_order_agrees_with_reading_by_index() {
    let mut rng = gradus::rng(1);
    for _ in 0..300 {
        let x = random_view(&mut rng);
        let by_index: Vec<f64> = indices(x.shape()).iter().map(|i| at(&x, i)).collect();
        assert_eq!(x.to_vec(), by_index, "{x:?}");
        assert_eq!(x.iter().collect::<Vec<_>>(), by_index);
        assert_eq!(x.reshape([x.len()]).unwrap().to_vec(), by_index);
    }
}

#[test]
fn reshape_keeps_the_order_of_any_layout() {
    let mut rng = gradus::rng(2);
    for _ in 0..300 {
        let x = random_view(&mut rng);
        let n = x.len();
        let divisors: Vec<usize> = (1..=n).filter(|d| n.is_multiple_of(*d)).collect();
        if divisors.is_empty() {
            continue;
        }
        let d = divisors[rng.random_range(0..divisors.len())];
        let y = x.reshape([d as isize, -1]).unwrap();
        assert_eq!(y.to_vec(), x.to_vec());
        assert_eq!(y.shape(), [d, n / d]);
    }
}

#[test]
// The ends of a slice count from either side, so a range that looks reversed need not be empty.
#[allow(clippy::reversed_empty_ranges)]
fn slices_follow_numpy() {
    let x = counted(&[7]);
    let s = |s: Slice| x.slice(s).unwrap().to_vec();
    assert_eq!(s(Slice::from(2..5)), [2., 3., 4.]);
    assert_eq!(s(Slice::from(-2..)), [5., 6.]);
    assert_eq!(s(Slice::from(..-5)), [0., 1.]);
    assert_eq!(s(Slice::from(1..=3)), [1., 2., 3.]);
    assert_eq!(s(Slice::from(4..=-1)), [4., 5., 6.]);
    assert_eq!(s(Slice::new(4, -1)), [4., 5.]);
    assert_eq!(s(Slice::from(5..2)), Vec::<f64>::new());
    assert_eq!(s(Slice::from(-100..100).step(3)), [0., 3., 6.]);
    assert_eq!(s(Slice::all().step(-1)), [6., 5., 4., 3., 2., 1., 0.]);
    assert_eq!(s(Slice::from(5..1).step(-2)), [5., 3.]);
    assert_eq!(s(Slice::from(isize::MIN..isize::MAX)).len(), 7);
    assert_eq!(counted(&[3, 4]).slice((1.., ..2)).unwrap().to_vec(), [4., 5., 8., 9.]);
    assert_eq!(counted(&[3, 4]).slice((-1, 1)).unwrap().item().unwrap(), 9.0);
    assert!(matches!(x.slice(7), Err(Error::Index { .. })));
    assert!(matches!(x.slice((1, 1)), Err(Error::Shape { .. })));
    assert!(matches!(x.slice(Slice::all().step(0)), Err(Error::Argument { .. })));
}

#[test]
fn an_edit_of_one_alias_is_seen_by_no_other() {
    let mut x = counted(&[2, 3]);
    let view = x.t().unwrap();
    let row = x.select(0, 1).unwrap();
    x.set([1, 0], 100.0).unwrap();
    assert_eq!(x.get([1, 0]).unwrap(), 100.0);
    assert_eq!(view.to_vec(), [0., 3., 1., 4., 2., 5.]);
    assert_eq!(row.to_vec(), [3., 4., 5.]);
    let mut view = view;
    view.make_mut()[0] = -1.0;
    assert_eq!(x.get([0, 0]).unwrap(), 0.0);
}

#[test]
fn joins_and_splits_undo_each_other() {
    let mut rng = gradus::rng(3);
    for _ in 0..100 {
        let x = random_view(&mut rng);
        let axis = rng.random_range(0..x.rank());
        let n = x.shape()[axis];
        let cut = rng.random_range(0..=n);
        let parts = x.split(&[cut, n - cut], axis as isize).unwrap();
        assert_eq!(Tensor::concat(&[&parts[0], &parts[1]], axis as isize).unwrap(), x);
        if n > 0 {
            let chunks = x.chunks(2, axis as isize).unwrap();
            assert_eq!(
                Tensor::concat(&chunks.iter().collect::<Vec<_>>(), axis as isize).unwrap(),
                x
            );
        }
        let pair = Tensor::stack(&[&x, &x], axis as isize).unwrap();
        assert_eq!(pair.select(axis as isize, 1).unwrap(), x);
        assert_eq!(x.roll(3, axis as isize).unwrap().roll(-3, axis as isize).unwrap(), x);
        let pads: Vec<(isize, isize)> = (0..x.rank())
            .map(|_| (rng.random_range(0..3i32) as isize, rng.random_range(0..3i32) as isize))
            .collect();
        let back: Vec<_> = pads.iter().map(|&(a, b)| (-a, -b)).collect();
        assert_eq!(x.pad(&pads, 7.0).unwrap().pad(&back, 0.0).unwrap(), x);
    }
}

#[test]
fn gather_select_and_scatter_agree_with_loops() {
    let x = counted(&[3, 4]);
    let i = Tensor::from([[0i64, -1, 1], [2, 2, 0]]);
    assert_eq!(x.gather(1, &i).unwrap().to_vec(), [0., 3., 1., 6., 6., 4.]);
    let i = Tensor::from([[2i64, 0, 1, 1]]);
    assert_eq!(x.gather(0, &i).unwrap().to_vec(), [8., 1., 6., 7.]);
    let y = x.index_select(1, &Tensor::from([3i64, 0])).unwrap();
    assert_eq!(y.to_vec(), [3., 0., 7., 4., 11., 8.]);
    let z = T64::zeros([2, 2]).unwrap();
    let i = Tensor::from([[0i64, 0], [1, 0]]);
    let s = z.scatter_add(1, &i, &Tensor::from([[1.0, 2.0], [3.0, 4.0]])).unwrap();
    assert_eq!(s.to_vec(), [3., 0., 4., 3.]);
    assert!(matches!(
        x.gather(1, &Tensor::from([[4i64]])),
        Err(Error::Index { index: 4, size: 4, .. })
    ));
    assert!(matches!(x.index_select(0, &Tensor::from([-4i64])), Err(Error::Index { .. })));
}

#[test]
fn matmul_agrees_with_a_loop_on_every_combination_of_ranks() {
    let mut rng = gradus::rng(4);
    let shapes: &[(&[usize], &[usize], &[usize])] = &[
        (&[3], &[3], &[]),
        (&[3], &[3, 2], &[2]),
        (&[4, 3], &[3], &[4]),
        (&[4, 3], &[3, 2], &[4, 2]),
        (&[5, 4, 3], &[3, 2], &[5, 4, 2]),
        (&[4, 3], &[5, 3, 2], &[5, 4, 2]),
        (&[2, 1, 4, 3], &[5, 3, 2], &[2, 5, 4, 2]),
        (&[3], &[5, 3, 2], &[5, 2]),
        (&[5, 4, 3], &[3], &[5, 4]),
        (&[0, 3], &[3, 2], &[0, 2]),
        (&[2, 0], &[0, 3], &[2, 3]),
        (&[0, 2, 3], &[3, 1], &[0, 2, 1]),
    ];
    for (a, b, want) in shapes {
        let a = T64::randn(*a, &mut rng).unwrap();
        let b = T64::randn(*b, &mut rng).unwrap();
        let y = a.matmul(&b).unwrap();
        assert_eq!(y.shape(), *want);
        gradcheck(|[a, b]| a.matmul(b), [&a, &b]).unwrap();
        if a.rank() < 2 || b.rank() < 2 {
            continue;
        }
        // The same through transposed memory.
        let turned = |t: &T64| {
            let t = t.t().unwrap();
            Tensor::from_vec(t.to_vec(), t.shape()).unwrap().t().unwrap()
        };
        let z = turned(&a).matmul(&turned(&b)).unwrap();
        for (p, q) in y.iter().zip(z.iter()) {
            assert!((p - q).abs() < 1e-12);
        }
        // Every element by hand.
        let (ba, bb) = (&want[..want.len() - 2], want.len() - 2);
        let full = |t: &T64| {
            let shape = [ba, &t.shape()[t.rank() - 2..]].concat();
            t.expand(shape).unwrap()
        };
        let (fa, fb) = (full(&a), full(&b));
        for i in indices(want) {
            let k = a.shape()[a.rank() - 1];
            let sum: f64 = (0..k)
                .map(|p| {
                    let row = [&i[..bb], &[i[bb], p]].concat();
                    let col = [&i[..bb], &[p, i[bb + 1]]].concat();
                    at(&fa, &row) * at(&fb, &col)
                })
                .sum();
            assert!((at(&y, &i) - sum).abs() < 1e-12);
        }
    }
}

#[test]
fn every_view_has_its_gradient() {
    let x = Tensor::from_fn([2, 3, 4], |i| (i as f64).sin()).unwrap();
    let xt = Tensor::from_fn([4, 3, 2], |i| (i as f64).sin()).unwrap().transpose(0, 2).unwrap();
    for x in [&x, &xt] {
        gradcheck(|[x]| x.reshape([4, -1]), [x]).unwrap();
        gradcheck(|[x]| x.permute([1, 2, 0]), [x]).unwrap();
        gradcheck(|[x]| x.flatten(1..), [x]).unwrap();
        gradcheck(|[x]| x.slice((1.., Slice::all().step(-2), ..1)), [x]).unwrap();
        gradcheck(|[x]| x.flip([0, 2]), [x]).unwrap();
        gradcheck(|[x]| x.select(1, 1)?.unsqueeze(-1), [x]).unwrap();
        gradcheck(|[x]| x.unsqueeze(0)?.expand([2, 2, 3, 4]), [x]).unwrap();
        gradcheck(|[x]| x.pad(&[(1, 0), (-1, 2), (0, -1)], 0.5), [x]).unwrap();
        gradcheck(|[x]| x.roll(1, -1)?.tril(0)?.triu(-1), [x]).unwrap();
        gradcheck(|[x]| x.repeat(&[2, 1, 3]), [x]).unwrap();
        gradcheck(|[x]| Tensor::concat(&[x, &x.flip(1)?, x], 1), [x]).unwrap();
        gradcheck(|[x]| x.index_select(1, &Tensor::from([2, 0, 2])), [x]).unwrap();
        gradcheck(|[x]| x.gather(2, &Tensor::from([[[1, 1], [0, 1], [0, 0]]])), [x]).unwrap();
        let source = Tensor::from([[[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]]);
        let index = Tensor::from([[[1, 1], [0, 1], [0, 0]]]);
        gradcheck(|[x, s]| x.scatter_add(0, &index, s), [x, &source]).unwrap();
    }
}

#[test]
fn views_work_on_every_element_type() {
    let b = Tensor::from([[true, false], [true, true]]);
    assert_eq!(b.t().unwrap().to_vec(), [true, true, false, true]);
    let i = Tensor::<i32>::arange(0, 6, 1).unwrap().reshape([2, 3]).unwrap();
    let joined = Tensor::concat(&[&i, &i.flip(0).unwrap()], 0).unwrap();
    assert_eq!(joined.to_vec(), [0, 1, 2, 3, 4, 5, 3, 4, 5, 0, 1, 2]);
    assert_eq!(Tensor::from([1u8, 2]).pad(&[(1, 1)], 9).unwrap().to_vec(), [9, 1, 2, 9]);
}

#[test]
fn messages_name_the_operation_the_shapes_and_the_mend() {
    let x = counted(&[2, 3]);
    let said = |e: Result<T64>| e.unwrap_err().to_string();
    assert_eq!(
        said(x.reshape([4, -1])),
        "reshape: [2, 3] to [4, -1]: 6 elements are not a multiple of 4"
    );
    assert_eq!(said(x.reshape([5])), "reshape: [2, 3] to [5]: 6 elements do not fill 5 places");
    assert_eq!(
        said(x.transpose(0, 2)),
        "transpose: axis 2 is out of range for a tensor of rank 2 (valid: -2..=1)"
    );
    assert_eq!(said(x.matmul(&x)), "matmul: inner dimensions differ: [2, 3] × [2, 3] (3 ≠ 2)");
    assert_eq!(
        said(x.expand([2, 4])),
        "expand: [2, 3] to [2, 4]: only axes of size 1 and new leading axes can be repeated"
    );
    assert_eq!(
        said(Tensor::concat(&[&x, &counted(&[3, 3])], 1)),
        "concat: tensor 1 has shape [3, 3], the first [2, 3]; only axis 1, along which they are joined, may differ"
    );
    assert_eq!(
        said(x.squeeze(0)),
        "squeeze: axis 0 of shape [2, 3] has size 2; only axes of size 1 can go"
    );
}
