//! One list of all rules, and what must hold for each of them.

use super::*;
use crate::prelude::*;

/// Runs a generic check on every rule, with its usual options and with the others.
macro_rules! for_every_rule {
    ($check:ident) => {{
        $check("sgd", || Sgd::new(0.01));
        $check("sgd momentum", || Sgd::new(0.01).momentum(0.9).dampening(0.1).weight_decay(0.1));
        $check("sgd nesterov", || Sgd::new(0.01).momentum(0.9).nesterov());
        $check("adam", || Adam::new(0.01));
        $check("adam amsgrad", || Adam::new(0.01).amsgrad().weight_decay(0.1));
        $check("adamw", || AdamW::new(0.01));
        $check("adagrad", || AdaGrad::new(0.1).lr_decay(0.01).initial_accumulator(0.5));
        $check("rmsprop", || RmsProp::new(0.01));
        $check("rmsprop momentum", || RmsProp::new(0.01).momentum(0.5));
        $check("rmsprop centered", || RmsProp::new(0.01).centered());
        $check("rmsprop both", || RmsProp::new(0.01).centered().momentum(0.5));
        $check("adadelta", || Adadelta::new(1.0));
        $check("adamax", || Adamax::new(0.01));
        $check("nadam", || NAdam::new(0.01));
        $check("nadam decoupled", || NAdam::new(0.01).weight_decay(0.1).decoupled());
        $check("radam", || RAdam::new(0.01).betas(0.9, 0.9));
        $check("radam decoupled", || RAdam::new(0.01).weight_decay(0.1).decoupled());
        $check("lamb", || Lamb::new(0.01).weight_decay(0.1));
        $check("lion", || Lion::new(0.01).weight_decay(0.1));
        $check("rprop", || Rprop::new(0.01));
        $check("asgd", || Asgd::new(0.01).t0(1.0));
        $check("with penalties", || Adam::new(0.01).l1(0.1).max_norm(1.0));
    }};
}

fn slope<T: Float, M: Module + Clone>(model: &M, f: impl Fn(&M) -> Tensor<T>) -> Gradients {
    f(&Tape::new(0).watch(model)).backward().unwrap()
}

fn bits<T: Float>(t: &Tensor<T>) -> Vec<u64> {
    t.iter().map(|v| v.as_f64().to_bits()).collect()
}

#[test]
fn every_rule_descends_and_its_opposite_climbs() {
    fn check<R: Rule>(name: &str, make: impl Fn() -> Optimizer<R>) {
        let mut w = Param::new(Tensor::from([3.0f64, -2.0, 1.0, 0.5]));
        let mut o = make();
        let f = |w: &Param<f64>| w.square().sum();
        let before = f(&w).item().unwrap();
        for _ in 0..50 {
            let g = slope(&w, f);
            o.step(&mut w, &g).unwrap();
        }
        let after = f(&w).item().unwrap();
        assert!(after < 0.999 * before, "{name}: {before} -> {after}");
        let mut o = make();
        let mut maximize = None;
        for (what, value) in o.rule.hyper() {
            if let (Hyper::Flag(flag), "maximize") = (value, what) {
                *flag = true;
                maximize = Some(());
            }
        }
        assert_eq!(maximize, Some(()), "{name} cannot climb");
        assert!(o.rule.maximizes());
        let mut up = Param::new(Tensor::from([3.0f64, -2.0]));
        let g = slope(&up, f);
        o.settings = Default::default();
        o.step(&mut up, &g).unwrap();
        assert!(f(&up).item().unwrap() > 13.0, "{name}: {up:?}");
    }
    for_every_rule!(check);
}

#[test]
fn state_has_the_shape_of_its_parameter_and_there_may_be_no_elements() {
    fn check<R: Rule>(name: &str, make: impl Fn() -> Optimizer<R>) {
        let zeros = |s: &[usize]| Param::new(Tensor::<f32>::ones(s).unwrap());
        let mut model = (zeros(&[2, 3]), zeros(&[0, 4]), zeros(&[]), zeros(&[1]));
        let g = slope(&model, |m: &(Param, Param, Param, Param)| {
            &m.0.sum() + &m.1.sum() + m.2.sum() + m.3.sum()
        });
        let mut o = make();
        for _ in 0..2 {
            o.step(&mut model, &g).unwrap();
        }
        for array in o.rule().arrays() {
            assert_eq!(o.state(&model.0, array).unwrap().shape(), [2, 3], "{name} {array}");
            assert_eq!(o.state(&model.1, array).unwrap().shape(), [0, 4], "{name} {array}");
            assert_eq!(o.state(&model.2, array).unwrap().rank(), 0, "{name} {array}");
        }
        assert!(o.state(&model.0, "nothing").is_none());
        assert!(model.0.iter().all(|v| v.is_finite() && v < 1.0), "{name}: {:?}", model.0);
        assert_eq!(model.1.shape(), [0, 4]);
    }
    for_every_rule!(check);
}

#[test]
fn the_same_bits_in_and_out_of_place_for_any_layout_and_number_of_threads() {
    fn check<R: Rule>(name: &str, make: impl Fn() -> Optimizer<R>) {
        let n = 70_000;
        let x = Tensor::<f32>::from_fn([2, n / 2], |i| (i as f32 * 0.7).sin()).unwrap();
        let g = Tensor::<f32>::from_fn([2, n / 2], |i| (i as f32 * 0.3).cos()).unwrap();
        let run = |threads: usize, shared: bool, turned: bool| {
            crate::set_num_threads(threads);
            let start = if turned { x.t().unwrap().dense().t().unwrap() } else { x.clone() };
            let mut w = Param::new(start);
            let grads = Tape::new(0).watch(&w).backward_with(&g).unwrap();
            let mut o = make();
            for _ in 0..3 {
                let _held = shared.then(|| w.tensor().clone());
                o.step(&mut w, &grads).unwrap();
            }
            bits(&w)
        };
        let one = run(1, false, false);
        for (threads, shared, turned) in [(2, false, false), (4, true, false), (1, true, true)] {
            let other = run(threads, shared, turned);
            assert!(one == other, "{name}: {threads} threads, {shared} {turned}");
        }
    }
    let before = crate::num_threads();
    for_every_rule!(check);
    crate::set_num_threads(before);
}

#[test]
fn tied_parameters_move_once_under_every_rule() {
    fn check<R: Rule>(name: &str, make: impl Fn() -> Optimizer<R>) {
        let w = Param::new(Tensor::from([1.0f64, -2.0]));
        let mut tied = (w.clone(), w.clone());
        let mut alone = Param::new(w.tensor().clone());
        let (mut a, mut b) = (make(), make());
        for _ in 0..3 {
            let g = slope(&tied, |m: &(Param<f64>, Param<f64>)| (&*m.0 * &*m.1).sum());
            a.step(&mut tied, &g).unwrap();
            let g = slope(&alone, |w: &Param<f64>| w.square().sum());
            b.step(&mut alone, &g).unwrap();
        }
        assert_eq!(bits(&tied.0), bits(&alone), "{name}");
        assert_eq!(bits(&tied.0), bits(&tied.1), "{name}");
    }
    for_every_rule!(check);
}

#[test]
fn bad_hyper_parameters_are_refused_by_name_and_change_nothing() {
    fn check<R: Rule>(name: &str, make: impl Fn() -> Optimizer<R>) {
        let mut w = Param::new(Tensor::from([1.0f64]));
        let g = slope(&w, |w: &Param<f64>| w.sum());
        let numbers = make().rule.hyper().len();
        for bad in [f64::NAN, -1.0, f64::NEG_INFINITY] {
            let e = make().with_lr(bad).step(&mut w, &g).unwrap_err();
            assert!(e.to_string().contains("the learning rate is"), "{name}: {e}");
            let e = make().group(|_| true, |o| o.with_lr(bad)).step(&mut w, &g).unwrap_err();
            assert!(e.to_string().contains(R::NAME), "{name}: {e}");
            let e = make().l1(bad).step(&mut w, &g).unwrap_err();
            assert!(e.to_string().contains("the L1 penalty is"), "{name}: {e}");
            let e = make().max_norm(bad).step(&mut w, &g).unwrap_err();
            assert!(e.to_string().contains("the largest norm is"), "{name}: {e}");
        }
        for k in 0..numbers {
            let mut o = make();
            if let Some((what, Hyper::Number(v))) = o.rule.hyper().into_iter().nth(k) {
                *v = f64::NAN;
                let e = o.step(&mut w, &g).unwrap_err();
                assert!(matches!(e, Error::Argument { op: "step", .. }), "{name} {what}: {e}");
                assert!(e.to_string().contains("NaN"), "{name} {what}: {e}");
            }
        }
        assert_eq!(w.to_vec(), [1.0]);
    }
    for_every_rule!(check);
}

#[test]
fn a_gradient_that_is_not_a_number_stays_visible() {
    fn check<R: Rule>(name: &str, make: impl Fn() -> Optimizer<R>) {
        let mut w = Param::new(Tensor::from([1.0f64, 2.0]));
        let g = Tape::new(0).watch(&w).backward_with(&Tensor::from([f64::NAN, 0.1])).unwrap();
        let mut o = make();
        o.step(&mut w, &g).unwrap();
        assert!(w.to_vec()[0].is_nan(), "{name}: {w:?}");
    }
    for_every_rule!(check);
}

/// Values that PyTorch 2.15 gives for seven steps on one function.
#[test]
fn options_that_the_reference_cases_leave_out() {
    fn run<R: Rule>(mut o: Optimizer<R>, want: [f64; 3]) -> (Param<f64>, Optimizer<R>) {
        let mut p = Param::new(Tensor::from([1.0f64, -2.0, 0.5]));
        let x = Tensor::from([0.3f64, -0.7, 1.1]);
        for _ in 0..7 {
            let g = slope(&p, |p: &Param<f64>| {
                let p = p.tensor();
                let a = (p.square() * &x).sum().square() * 0.1;
                a + p.square().square().sum() * 0.05 + p.sum() * 0.2
            });
            o.step(&mut p, &g).unwrap();
        }
        for (got, want) in p.iter().zip(want) {
            assert!((got - want).abs() <= 1e-11 + 1e-9 * want.abs(), "{}: {got} {want}", R::NAME);
        }
        (p, o)
    }
    run(Rprop::new(0.1), [-0.2915903999999998, -1.007008, 0.8467199999999999]);
    let o = Rprop::new(0.3).etas(0.4, 1.5).step_sizes(0.05, 0.5).maximize();
    run(o, [4.25, -5.25, 0.09200000000000005]);
    let o = Asgd::new(0.1).lambda(0.05).alpha(0.6).t0(2.0).weight_decay(0.1);
    let (p, o) = run(o, [0.7494637884775456, -1.1410362987902785, 0.45761025885920054]);
    let mean = [0.8039153259562121, -1.2252764388721067, 0.48207189542664464];
    for (got, want) in o.state(&p, "ax").unwrap().iter().zip(mean) {
        assert!((got - want).abs() < 1e-12);
    }
    let o = Asgd::new(0.1).maximize();
    run(o, [-3.2653588947875765, -2450.0056048532506, 6.531096851204998]);
    let o = AdaGrad::new(0.1).weight_decay(0.3).maximize();
    run(o, [0.5709695357624669, -2.4649825129497334, 0.16155010986483623]);
    let o = RmsProp::new(0.01).weight_decay(0.3).centered().momentum(0.5).maximize();
    run(o, [0.2666431193579878, -2.893358606126325, 0.05395543694557625]);
    let o = Adadelta::new(1.0).weight_decay(0.3).maximize();
    run(o, [0.9762345157668205, -2.023664708727319, 0.4767757919743484]);
    let o = Adamax::new(0.05).weight_decay(0.3).maximize();
    run(o, [0.6764190062345145, -2.3107724202992896, 0.18509528421971339]);
    let o = NAdam::new(0.05).weight_decay(0.3).decoupled().maximize();
    run(o, [1.1748067682667926, -2.07277478251223, 0.2331160415733932]);
    let o = RAdam::new(0.05).weight_decay(0.3).decoupled().maximize();
    run(o, [0.9184947929980724, -2.5833795327298694, 0.3708527943739252]);
    let o = Adam::new(0.05).weight_decay(0.3).decoupled().maximize();
    run(o, [1.2355840158165814, -2.135561946114251, 0.14122771899063427]);
}

#[test]
fn lion_by_hand() {
    let mut w = Param::new(Tensor::from([1.0f64, 1.0, 1.0]));
    let mut o = Lion::new(0.1).weight_decay(0.5).betas(0.5, 0.75);
    let g = |v: [f64; 3]| Tape::new(0).watch(&w.clone()).backward_with(&Tensor::from(v)).unwrap();
    let (first, second) = (g([4.0, -2.0, 0.0]), g([-0.5, -2.0, 0.0]));
    o.step(&mut w, &first).unwrap();
    let at = [0.95 - 0.1, 0.95 + 0.1, 0.95];
    assert!(w.iter().zip(at).all(|(w, a)| (w - a).abs() < 1e-15), "{w:?}");
    assert_eq!(o.state(&w, "exp_avg").unwrap().to_vec(), [1.0, -0.5, 0.0]);
    o.step(&mut w, &second).unwrap(); // c = 0.5·1 - 0.5·0.5 > 0
    let at = at.map(|a| a * 0.95);
    let at = [at[0] - 0.1, at[1] + 0.1, at[2]];
    assert!(w.iter().zip(at).all(|(w, a)| (w - a).abs() < 1e-15), "{w:?}");
}

type Two = (Param<f64>, Param<f64>);
type Four = (Two, Two);

#[test]
fn groups_have_settings_of_their_own_and_keep_the_ratio_of_their_rates() {
    let param = |v: f64| Param::new(Tensor::from([v]));
    let mut model = ((param(1.0), param(1.0)), (param(1.0), param(1.0)));
    let mut sgd = Sgd::new(0.5)
        .group(|p| p.ends_with('1'), |o| o.with_lr(0.25).weight_decay(1.0))
        .group(|p| p == "1.0", |_| Sgd::new(0.125))
        .weight_decay(0.0);
    let names = ["0.0", "0.1", "1.0", "1.1"];
    assert_eq!(names.map(|p| sgd.group_of(p)), [None, Some(0), Some(1), Some(0)]);
    let g = slope(&model, |m: &Four| &m.0.0.sum() + &m.0.1.sum() + m.1.0.sum() + m.1.1.sum());
    sgd.step(&mut model, &g).unwrap();
    let values = |m: &Four| [&m.0.0, &m.0.1, &m.1.0, &m.1.1].map(|p| p.item().unwrap());
    assert_eq!(values(&model), [0.5, 0.5, 0.875, 0.5]);
    sgd.set_lr(0.05);
    assert_eq!((sgd.lr(), sgd.groups()), (0.05, 2));
    assert!((sgd.group_lr(0).unwrap() - 0.025).abs() < 1e-15);
    assert_eq!(sgd.group_lr(2), None);
    // A rate of 0 for a while, as in a warm-up, loses no ratio.
    sgd.set_lr(0.0);
    sgd.set_lr(0.5);
    assert_eq!((sgd.group_lr(0), sgd.group_lr(1)), (Some(0.25), Some(0.125)));
    let e = sgd.set_group_lr(2, 0.1).unwrap_err();
    assert_eq!(
        e.to_string(),
        "set_group_lr: index 2 is out of range for the groups of the optimizer of size 2"
    );
    // From a rate of 0 there is no ratio: the group's own rate stays.
    let mut sgd = Sgd::new(0.0).group(|_| true, |o| o.with_lr(0.1));
    sgd.set_lr(1.0);
    assert_eq!(sgd.group_lr(0), Some(0.1));
    // A group within a group needs both tests.
    let sgd = Sgd::new(1.0).group(|p| p.starts_with('a'), |o| o.group(|p| p.ends_with('b'), |o| o));
    assert_eq!(["ab", "ac", "b"].map(|p| sgd.group_of(p)), [Some(0), Some(1), None]);
}

#[test]
fn momentum_for_schedules() {
    let mut o = Sgd::new(0.1).momentum(0.9).group(|_| true, |o| o);
    o.set_momentum(0.5).unwrap();
    assert_eq!((o.rule().momentum, o.group_rule(0).unwrap().momentum), (0.5, 0.5));
    let e = AdaGrad::new(0.1).set_momentum(0.5).unwrap_err();
    assert_eq!(e.to_string(), "set_momentum: AdaGrad has no momentum");
}

#[test]
fn max_norm_along_any_axis() {
    let w = Tensor::from([[3.0f64, 0.1], [4.0, 0.2]]);
    let mut model = (Param::new(w.clone()), Param::new(Tensor::from([10.0f64])));
    MaxNorm::new(1.0).unwrap().axis(-1).apply(&mut model).unwrap();
    let want = [0.6, 0.1, 0.8, 0.2];
    assert!(model.0.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-15), "{:?}", model.0);
    assert_eq!(model.1.to_vec(), [10.0]);
    model.0.set(w.t().unwrap());
    MaxNorm::new(1.0).unwrap().apply(&mut model).unwrap();
    let want = [0.6, 0.8, 0.1, 0.2];
    assert!(model.0.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-15), "{:?}", model.0);
    let e = MaxNorm::new(1.0).unwrap().axis(2).apply(&mut model).unwrap_err();
    assert_eq!(e.to_string(), "MaxNorm: the parameter 0 has no axis 2: its rank is 2");
    assert!(MaxNorm::new(0.0).is_err() && MaxNorm::new(f64::NAN).is_err());
    let mut empty = Param::new(Tensor::<f32>::zeros([0, 3]).unwrap());
    MaxNorm::new(1.0).unwrap().apply(&mut empty).unwrap();
    let mut net = Tape::new(0).watch(&model);
    assert!(MaxNorm::new(1.0).unwrap().apply(&mut net).is_err());
}

#[test]
fn gradients_of_another_model_are_not_checked_in_silence() {
    let (a, b) = (Param::new(Tensor::from([1.0f64])), Param::new(Tensor::from([1.0f64])));
    let g = slope(&a, |w: &Param<f64>| w.sum());
    assert!(g.check_finite(&a).is_ok());
    let e = g.check_finite(&b).unwrap_err();
    assert!(matches!(e, Error::ForeignGradients { op: "check_finite", parameters: 1 }));
}
