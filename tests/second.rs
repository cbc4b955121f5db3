//! Gradients of gradients of every operation that offers them, against differences of the gradient.

use gradus::autograd::{grad, gradgradcheck, hessian, hvp, jacobian};
use gradus::nn::{Conv2dParams, ConvTranspose2dParams};
use gradus::prelude::*;

type X = Tensor<f64>;
type Unary = (&'static str, fn(&X) -> Result<X>);

fn numbers(shape: &[usize], seed: u64) -> X {
    Tensor::uniform(shape, -2.0, 2.0, &mut gradus::rng(seed)).unwrap()
}

/// Of one shape: dense, transposed, stepped and flipped, of size 1, of size 0.
fn layouts() -> Vec<X> {
    let wide = numbers(&[3, 8], 1);
    vec![
        numbers(&[3, 4], 0),
        numbers(&[4, 3], 2).t().unwrap(),
        wide.slice_axis(1, gradus::Slice::all().step(2)).unwrap(),
        wide.slice_axis(1, gradus::Slice::all().step(-2)).unwrap(),
        numbers(&[1, 1], 3),
        numbers(&[0, 4], 4),
    ]
}

#[test]
fn functions_of_one_variable() {
    let all: &[Unary] = &[
        ("exp", |x| Ok(x.exp())),
        ("exp_m1", |x| Ok(x.exp_m1())),
        ("ln", |x| Ok((x.abs() + 0.1).ln())),
        ("ln_1p", |x| Ok((x.abs() + 0.1).ln_1p())),
        ("sqrt", |x| Ok((x.abs() + 0.1).sqrt())),
        ("rsqrt", |x| Ok((x.abs() + 0.3).rsqrt())),
        ("reciprocal", |x| Ok((x.abs() + 0.3).reciprocal())),
        ("square", |x| Ok(x.square())),
        ("sin", |x| Ok(x.sin())),
        ("cos", |x| Ok(x.cos())),
        ("tan", |x| Ok((x * 0.5).tan())),
        ("tanh", |x| Ok(x.tanh())),
        ("sigmoid", |x| Ok(x.sigmoid())),
        ("log_sigmoid", |x| Ok(x.log_sigmoid())),
        ("erf", |x| Ok(x.erf())),
        ("relu", |x| Ok(x.relu().square())),
        ("relu6", |x| Ok((x * 5.0).relu6().square())),
        ("gelu", |x| Ok(x.gelu())),
        ("gelu_tanh", |x| Ok(x.gelu_tanh())),
        ("silu", |x| Ok(x.silu())),
        ("mish", |x| Ok(x.mish())),
        ("hardswish", |x| Ok((x * 2.0).hardswish())),
        ("hardsigmoid", |x| Ok((x * 2.0).hardsigmoid().square())),
        ("selu", |x| Ok(x.selu())),
        ("softsign", |x| Ok(x.softsign())),
        ("abs", |x| Ok(x.abs().square())),
        ("leaky_relu", |x| Ok(x.leaky_relu(0.1).square())),
        ("elu", |x| Ok(x.elu(0.7))),
        ("softplus", |x| Ok(x.softplus(2.0, 1.5))),
        ("clamp", |x| Ok(x.clamp(-1.0, 0.8).square())),
        ("powf", |x| Ok((x.abs() + 0.2).powf(2.7))),
        ("powi 3", |x| Ok(x.powi(3))),
        ("powf 0", |x| x.powf(0.0).try_mul(x)),
        ("neg", |x| Ok((-x).square())),
        ("scalars", |x| Ok(((x + 1.0) * 3.0 - 0.5).square() / 2.0)),
        ("rsub", |x| Ok(x.rsub_scalar(2.0).square())),
        ("rdiv", |x| Ok((x.abs() + 0.5).rdiv_scalar(2.0))),
    ];
    for (name, f) in all {
        for x in layouts() {
            gradgradcheck(|[x]| f(x), [&x])
                .unwrap_or_else(|e| panic!("{name} {:?}: {e}", x.shape()));
        }
    }
}

#[test]
fn functions_of_shape_and_reductions() {
    let all: &[Unary] = &[
        ("sum", |x| Ok(x.square().sum())),
        ("sum_axes", |x| x.square().sum_axes(1, true)?.square().sum_axes(0, false)),
        ("mean_axes", |x| Ok(x.square().mean_axes(1, false)?.square())),
        ("var", |x| x.var_axes(1, 0, false)),
        ("std", |x| x.var_axes(1, 0, true).and_then(|_| x.std_axes(0, 0, false))),
        ("norm", |x| x.norm_axes(1, true)),
        ("prod", |x| x.prod_axes(1, false)),
        ("prod of all axes", |x| Ok(x.prod())),
        ("cumsum", |x| Ok(x.square().cumsum(1)?.square())),
        ("amax", |x| Ok(x.square().amax(1, false)?.square())),
        ("max_axis", |x| Ok(x.square().max_axis(1, false)?.0.square())),
        ("softmax", |x| x.softmax(1)),
        ("softmax of the first axis", |x| x.softmax(0)),
        ("log_softmax", |x| x.log_softmax(1)),
        ("log_softmax of the first axis", |x| x.log_softmax(0)),
        ("logsumexp", |x| x.logsumexp(1, false)),
        ("logsumexp of all", |x| x.logsumexp(.., true)),
        ("reshape", |x| Ok(x.square().reshape([-1])?.square())),
        ("permute", |x| Ok(x.square().t()?.square())),
        ("expand", |x| {
            Ok(x.square().unsqueeze(0)?.expand([2, x.shape()[0], x.shape()[1]])?.square())
        }),
        ("slice", |x| Ok(x.square().slice_axis(1, gradus::Slice::all().step(-1))?.square())),
        ("narrow", |x| Ok(x.square().narrow(1, 0, 1)?.square())),
        ("concat", |x| Ok(Tensor::concat(&[&x.square(), x], 1)?.square())),
        ("pad", |x| Ok(x.square().pad(&[(1, 0), (0, 2)], 0.5)?.square())),
        ("triu", |x| Ok(x.square().triu(0)?.square())),
        ("where", |x| Ok(x.gt_scalar(0.0).select_where(&x.square(), x)?.square())),
        ("masked_fill", |x| Ok(x.square().masked_fill(&x.gt_scalar(0.5), 2.0)?.square())),
        ("cast", |x| Ok(x.square().cast::<f64>().square())),
        ("dropout", |x| Ok(x.square().dropout(0.4, 3)?.square())),
    ];
    for (name, f) in all {
        for x in layouts() {
            if x.is_empty() && ["amax", "max_axis", "narrow"].contains(name) {
                continue;
            }
            gradgradcheck(|[x]| f(x), [&x])
                .unwrap_or_else(|e| panic!("{name} {:?}: {e}", x.shape()));
        }
    }
}

#[test]
fn zeros_in_a_product_and_still_spreads() {
    let x = Tensor::from([[0.0f64, 2.0, 3.0], [0.0, 0.0, 1.5], [1.0, 2.0, 3.0]]);
    gradgradcheck(|[x]| x.prod_axes(1, true), [&x]).unwrap();
    gradgradcheck(|[x]| x.prod_axes(0, false), [&x]).unwrap();
    let tape = Tape::new(0);
    let flat = tape.leaf(&Tensor::from([2.0f64, 2.0]));
    let d = &grad(&flat.std_axes(0, 1, false).unwrap(), &[&flat]).unwrap()[0];
    assert_eq!(d.to_vec(), [0.0, 0.0]);
}

#[test]
fn functions_of_two_variables() {
    type Binary = (&'static str, fn(&X, &X) -> Result<X>);
    let all: &[Binary] = &[
        ("add", |a, b| Ok(a.try_add(b)?.square())),
        ("sub", |a, b| Ok(a.try_sub(b)?.square())),
        ("mul", |a, b| a.try_mul(b)),
        ("div", |a, b| a.try_div(&(b.abs() + 0.5))),
        ("pow", |a, b| (a.abs() + 0.5).pow(b)),
        ("maximum", |a, b| Ok(a.maximum(b)?.square())),
        ("minimum", |a, b| Ok(a.minimum(b)?.square())),
    ];
    let shapes: [(&[usize], &[usize]); 6] = [
        (&[2, 3], &[2, 3]),
        (&[2, 3], &[3]),
        (&[1, 3], &[2, 1]),
        (&[], &[2, 2]),
        (&[0, 3], &[3]),
        (&[2, 1, 3], &[4, 1]),
    ];
    for (name, f) in all {
        for (s, t) in shapes {
            gradgradcheck(|[a, b]| f(a, b), [&numbers(s, 5), &numbers(t, 6)])
                .unwrap_or_else(|e| panic!("{name} {s:?} {t:?}: {e}"));
        }
    }
}

#[test]
fn products_and_indices() {
    let (a, b) = (numbers(&[2, 3], 1), numbers(&[4, 3], 2).t().unwrap());
    gradgradcheck(|[a, b]| a.matmul(b), [&a, &b]).unwrap();
    gradgradcheck(|[a, b]| a.matmul(b), [&numbers(&[2, 1, 2, 3], 1), &numbers(&[3, 3, 2], 2)])
        .unwrap();
    gradgradcheck(|[a, b]| a.matmul(b), [&numbers(&[3], 1), &numbers(&[3, 2], 2)]).unwrap();
    gradgradcheck(
        |[x, w, c]| Ok(x.linear(w, Some(c))?.square()),
        [&numbers(&[2, 2, 3], 1), &numbers(&[4, 3], 2), &numbers(&[4], 3)],
    )
    .unwrap();
    let index = Tensor::from([2i64, 0, 2]);
    gradgradcheck(|[x]| Ok(x.square().index_select(0, &index)?.square()), [&numbers(&[3, 2], 1)])
        .unwrap();
    let index = Tensor::from([[0i64, 1], [1, 1]]);
    gradgradcheck(|[x]| Ok(x.square().gather(0, &index)?.square()), [&numbers(&[3, 2], 1)])
        .unwrap();
    gradgradcheck(
        |[x, s]| Ok(x.scatter_add(0, &index, s)?.powi(3)),
        [&numbers(&[3, 2], 1), &numbers(&[2, 2], 2)],
    )
    .unwrap();
}

#[test]
fn convolutions_and_pools() {
    let x = numbers(&[2, 4, 5, 6], 1);
    for (p, w) in [
        (Conv2dParams::new(), numbers(&[2, 4, 3, 3], 2)),
        (Conv2dParams::new().stride(2).padding(1).groups(2), numbers(&[4, 2, 3, 2], 2)),
        (Conv2dParams::new().dilation((1, 2)).padding((0, 1)), numbers(&[2, 4, 1, 3], 2)),
    ] {
        gradgradcheck(|[x, w]| x.conv2d(w, None, p), [&x, &w]).unwrap();
        let b = numbers(&[w.shape()[0]], 3);
        gradgradcheck(|[x, w, b]| Ok(x.conv2d(w, Some(b), p)?.square()), [&x, &w, &b]).unwrap();
    }
    let x3 = numbers(&[4, 5, 6], 1);
    let (w, b) = (numbers(&[2, 4, 3, 3], 2), numbers(&[2], 3));
    gradgradcheck(
        |[x, w, b]| Ok(x.conv2d(w, Some(b), Conv2dParams::new())?.square()),
        [&x3, &w, &b],
    )
    .unwrap();
    let p = ConvTranspose2dParams::new().stride(2).padding(1);
    let (x, w, b) = (numbers(&[2, 4, 3, 3], 1), numbers(&[4, 3, 3, 2], 2), numbers(&[3], 3));
    gradgradcheck(|[x, w]| x.conv_transpose2d(w, None, p), [&x, &w]).unwrap();
    gradgradcheck(|[x, w, b]| Ok(x.conv_transpose2d(w, Some(b), p)?.square()), [&x, &w, &b])
        .unwrap();
    let x = numbers(&[2, 2, 5, 6], 1);
    gradgradcheck(|[x]| Ok(x.square().max_pool2d(2)?.square()), [&x]).unwrap();
    gradgradcheck(
        |[x]| Ok(x.square().max_pool2d(Pool2d::new(3).stride(2).padding(1))?.square()),
        [&x],
    )
    .unwrap();
    gradgradcheck(
        |[x]| Ok(x.square().avg_pool2d(Pool2d::new(3).stride(2).padding(1))?.square()),
        [&x],
    )
    .unwrap();
}

#[test]
fn third_derivatives() {
    let tape = Tape::new(0);
    let x = tape.leaf(&Tensor::scalar(0.7f64));
    let first = grad(&x.sin(), &[&x]).unwrap().remove(0);
    let second = grad(&first, &[&x]).unwrap().remove(0);
    let third = grad(&second, &[&x]).unwrap().remove(0);
    assert!((third.item().unwrap() + 0.7f64.cos()).abs() < 1e-12);
    assert!(
        (second.backward().unwrap().wrt(&x).unwrap().item().unwrap() + 0.7f64.cos()).abs() < 1e-12
    );
}

#[test]
fn nested_functions_agree() {
    let f = |x: &X| x.powi(3).sum().try_mul(&x.exp().sum());
    let x = numbers(&[4], 1);
    let h = hessian(f, &x).unwrap();
    let v = numbers(&[4], 2);
    let [hv] = hvp(|[x]| f(x), [&x], [&v]).unwrap();
    let by_matrix = h.matmul(&v).unwrap();
    let [j] =
        jacobian(|[x]| gradus::autograd::value_and_grad(|[x]| f(x), [x]).map(|(_, [d])| d), [&x])
            .unwrap();
    for i in 0..4 {
        assert!((hv.get([i]).unwrap() - by_matrix.get([i]).unwrap()).abs() < 1e-9);
        for k in 0..4 {
            assert!((h.get([i, k]).unwrap() - j.get([i, k]).unwrap()).abs() < 1e-9);
        }
    }
}

/// y = x³, whose derivative is not composed of recorded operations; `WRONG` claims that it is.
struct Cube<const WRONG: bool>;

impl<const WRONG: bool> gradus::autograd::Op<f64, 1> for Cube<WRONG> {
    type Saved = X;
    fn name(&self) -> &'static str {
        "cube"
    }
    fn forward(&self, [x]: [&X; 1]) -> Result<(X, X)> {
        Ok((x * x * x, x.clone()))
    }
    fn vjp(&self, x: X, g: X, _: [bool; 1]) -> Result<[Option<X>; 1]> {
        Ok([Some(g * x.detach().square() * 3.0)])
    }
    const COMPOSED: bool = WRONG;
}

#[test]
fn once_differentiable_is_said_by_name_and_a_wrong_rule_is_caught() {
    let x = numbers(&[3], 1);
    let y = |[x]: [&X; 1]| gradus::autograd::apply(Cube::<false>, [x]);
    let e = gradgradcheck(y, [&x]).unwrap_err();
    assert!(matches!(e, Error::OnceDifferentiable { op: "cube" }), "{e}");
    // The gradient itself is there; only its own gradient is not, by either way.
    let tape = Tape::new(0);
    let leaf = tape.leaf(&x);
    let d = grad(&y([&leaf]).unwrap().sum(), &[&leaf]).unwrap().remove(0);
    assert_eq!(d.to_vec(), (x.square() * 3.0).to_vec());
    assert!(matches!(grad(&d.sum(), &[&leaf]), Err(Error::OnceDifferentiable { op: "cube" })));
    let e = d.sum().backward().unwrap_err();
    assert_eq!(
        e.to_string(),
        "cube: its gradient cannot be differentiated again; compose it from elementary operations where gradients of gradients are needed"
    );
    let y = |[x]: [&X; 1]| gradus::autograd::apply(Cube::<true>, [x]);
    let e = gradgradcheck(y, [&x]).unwrap_err();
    assert!(e.to_string().contains("the finite difference"), "{e}");
}

#[test]
fn what_grad_refuses_and_what_it_does_not_reach() {
    let tape = Tape::new(0);
    let (x, other) = (tape.leaf(&numbers(&[2], 1)), tape.leaf(&numbers(&[3], 2)));
    let y = x.square().sum();
    assert_eq!(grad(&y, &[&other]).unwrap()[0].to_vec(), [0.0; 3]);
    assert!(matches!(grad(&x.square(), &[&x]), Err(Error::NotScalar { .. })));
    assert!(matches!(grad(&numbers(&[], 1), &[&x]), Err(Error::NotRecorded { .. })));
    let e = grad(&y, &[&numbers(&[2], 1)]).unwrap_err().to_string();
    assert!(e.starts_with("grad: input 0 is not recorded on the tape of the output"), "{e}");
    assert!(matches!(
        gradus::autograd::grad_with(&x.square(), &[&x], &numbers(&[3], 1)),
        Err(Error::Shape { .. })
    ));
    // Intermediate results may be asked for, and the tape still does its backward.
    let middle = x.square();
    let y = middle.exp().sum();
    assert_eq!(grad(&y, &[&middle]).unwrap()[0].to_vec(), middle.exp().to_vec());
    let grads = y.backward().unwrap();
    assert!(grads.wrt(&x).is_some());
    assert!(matches!(grad(&y, &[&x]), Err(Error::TapeConsumed { .. })));
}

#[test]
fn losses() {
    let (x, t) = (numbers(&[3, 4], 10), numbers(&[3, 4], 11));
    let (p, labels) = (t.softmax(1).unwrap(), Tensor::from([2i64, 0, 3]));
    gradgradcheck(|[x, t]| x.mse(t), [&x, &t]).unwrap();
    gradgradcheck(|[x, t]| x.mae(t), [&x, &t]).unwrap();
    gradgradcheck(|[x, t]| x.huber(t, 0.7), [&x, &t]).unwrap();
    gradgradcheck(|[x, p]| x.bce_with_logits(p), [&x, &p]).unwrap();
    gradgradcheck(|[x, p]| x.sigmoid().bce(p), [&x, &p]).unwrap();
    gradgradcheck(|[x, p]| x.log_softmax(1)?.kl_div(p), [&x, &p]).unwrap();
    gradgradcheck(|[x, p]| x.cross_entropy(p), [&x, &p]).unwrap();
    let smooth = CrossEntropy::new().label_smoothing(0.2).reduction(Reduction::None);
    gradgradcheck(|[x]| smooth.forward(x, &labels), [&numbers(&[4, 3], 13).t().unwrap()]).unwrap();
    gradgradcheck(|[x]| x.log_softmax(1)?.nll_loss(&labels), [&x]).unwrap();
    gradgradcheck(|[x]| FocalLoss::new(2.0).forward(x, &labels), [&x]).unwrap();
    gradgradcheck(|[x]| MultiMargin::new().p(2).forward(x, &labels), [&x]).unwrap();
    let triplet = TripletMargin::new(2.0).p(3.0);
    gradgradcheck(|[a, p]| triplet.forward(a, p, &numbers(&[3, 4], 12)), [&x, &t]).unwrap();
    let ctc = |x: &X| x.log_softmax(1)?.ctc_loss(&Tensor::from([1i64]), &[3], &[1]);
    let e = gradgradcheck(|[x]| ctc(x), [&x]).unwrap_err();
    assert!(matches!(e, Error::OnceDifferentiable { op: "ctc_loss" }), "{e}");
}
