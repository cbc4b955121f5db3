//! Every differentiable operation on shapes and layouts drawn at random: gradients against finite differences, gradients of gradients,
//! and the same numbers of a strided input as of its dense copy.

mod draw;
mod elementwise;
mod losses;
mod products;
mod recurrent;
mod reductions;
mod shapes;

use draw::{R, Row, X};
use gradus::autograd::{gradcheck, gradgradcheck};
use gradus::prelude::*;

const DRAWS: usize = 20;
const SECOND: usize = 4;

/// The seed of a row, so that a new row changes no other.
fn seeded(name: &str) -> R {
    gradus::rng(name.bytes().fold(7, |s: u64, b| s.wrapping_mul(31).wrapping_add(u64::from(b))))
}

/// Checks all rows, and then tells all that failed.
fn check<const N: usize>(rows: &[Row<N>]) {
    let mut failed = Vec::new();
    for row in rows {
        let mut rng = seeded(row.name);
        for k in 0..DRAWS {
            let inputs = row.draw(&mut rng);
            let each = inputs.each_ref();
            let mut result = gradcheck(|x| (row.f)(x, k), each).and_then(|()| same(row, k, each));
            if result.is_ok() && k < SECOND {
                let second = gradgradcheck(|x| Ok((row.f)(x, k)?.square()), each);
                result = match second {
                    Err(Error::OnceDifferentiable { .. }) if row.once => Ok(()),
                    Ok(()) if row.once && each.iter().all(|x| !x.is_empty()) => Err(twice()),
                    other => other,
                };
            }
            if let Err(e) = result {
                let seen = each.map(|x| (x.shape().to_vec(), x.strides().to_vec()));
                failed.push(format!("{} draw {k}, (shape, strides) {seen:?}: {e}", row.name));
                break;
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// What is said of a row marked as `once` without a reason.
fn twice() -> Error {
    let message = "it is marked as differentiable once, but has a second derivative".into();
    Error::Argument { op: "check", message }
}

#[test]
#[should_panic(expected = "square with half a gradient")]
fn a_wrong_gradient_is_caught() {
    check(&[draw::row("square with half a gradient", draw::every, |[x], _| {
        x.try_mul(&x.detach())
    })]);
}

#[test]
#[should_panic(expected = "element 0")]
fn a_layout_that_changes_the_result_is_caught() {
    check(&[draw::row("the first stride", draw::axes, |[x], _| {
        Ok(x * (1.0 + 1e-9 * x.strides()[0] as f64))
    })]);
}

/// The value and the gradients.
fn run<const N: usize>(row: &Row<N>, k: usize, inputs: [&X; N]) -> Result<(X, [Vec<f64>; N])> {
    let tape = Tape::new(0);
    let leaves = inputs.map(|x| tape.leaf(x));
    let y = (row.f)(leaves.each_ref(), k)?;
    let weights = Tensor::from_fn(y.shape(), |i| 1.0 + 0.1 * (i % 7) as f64)?;
    let grads = y.backward_with(&weights)?;
    let none = |i: usize| vec![0.0; inputs[i].len()];
    Ok((y, std::array::from_fn(|i| grads.wrt(&leaves[i]).map_or(none(i), |g| g.to_vec()))))
}

/// Whether the strided inputs give what their dense copies give.
fn same<const N: usize>(row: &Row<N>, k: usize, inputs: [&X; N]) -> Result<()> {
    let dense = inputs.map(|x| Tensor::from_vec(x.to_vec(), x.shape()).unwrap());
    let (y, dx) = run(row, k, inputs)?;
    let (want, dwant) = run(row, k, dense.each_ref())?;
    assert_eq!(y.shape(), want.shape(), "{}", row.name);
    let pairs = std::iter::once((y.to_vec(), want.to_vec())).chain(dx.into_iter().zip(dwant));
    for (what, (got, want)) in pairs.enumerate() {
        for (i, (a, b)) in got.iter().zip(&want).enumerate() {
            // A sum of a few dozen numbers around 1 in another order is off by some 1e-15.
            let near = (a - b).abs() <= 1e-12 * b.abs().max(1.0) && !row.same_bits;
            if a.to_bits() != b.to_bits() && !near {
                let what = ["the value", "gradient 0", "gradient 1", "gradient 2"][what];
                let problem = format!("{what}, element {i}: {a} strided, {b} dense");
                return Err(Error::Argument { op: "same", message: problem });
            }
        }
    }
    Ok(())
}
