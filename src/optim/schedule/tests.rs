use super::*;
use crate::Error;

#[test]
fn bad_arguments_are_named() {
    fn text<S>(s: Result<S>) -> String {
        match s {
            Err(e @ Error::Argument { .. }) => e.to_string(),
            Err(e) => panic!("{e}"),
            Ok(_) => panic!("accepted"),
        }
    }
    for (got, want) in [
        (text(StepDecay::new(0.1, 0, 0.5)), "StepDecay: the step size is 0; it must be at least 1"),
        (
            text(StepDecay::new(f64::NAN, 1, 0.5)),
            "StepDecay: the rate is NaN; it must be finite and not negative",
        ),
        (text(Exponential::new(0.1, -1.0)), "Exponential: γ is -1"),
        (text(MultiStep::new(0.1, [1], f64::INFINITY)), "MultiStep: γ is inf"),
        (text(Linear::new(0.1, -0.5, 1.0, 3)), "Linear: the factor at the start is -0.5"),
        (text(Constant::new(-1.0)), "Constant: the rate is -1"),
        (text(Cosine::new(0.1, 0)), "Cosine: the number of steps is 0"),
        (
            text(CosineRestarts::new(0.1, 1).unwrap().mult(0)),
            "CosineRestarts: the factor of the period is 0",
        ),
        (
            text(OneCycle::new(0.1, 10).unwrap().pct_start(1.5)),
            "OneCycle: pct_start is 1.5; it must be from 0 to 1",
        ),
        (text(OneCycle::new(0.1, 10).unwrap().div_factors(0.0, 1.0)), "OneCycle: div_factor is 0"),
        (text(Cyclic::new(0.1, 0.2, 0)), "Cyclic: the number of steps up is 0"),
        (text(Polynomial::new(0.1, 0, 1.0)), "Polynomial: the number of steps is 0"),
        (text(Noam::new(1.0, 0, 5)), "Noam: the width is 0"),
        (text(InverseSqrt::new(0.1, 0)), "InverseSqrt: the number of warm-up steps is 0"),
        (text(Plateau::new(0.1).unwrap().factor(1.0)), "Plateau: the factor is 1"),
        (text(InSteps::new(0, 1, 2.0)), "InSteps: the first batch size is 0"),
        (text(Linearly::new(1, f64::NAN)), "Linearly: the amount per step is NaN"),
        (text(Exponentially::new(1, 0.0)), "Exponentially: the factor is 0"),
        (text(ByRate::new(1, |_: usize| 0.0)), "ByRate: the first learning rate is 0"),
    ] {
        assert!(got.starts_with(want), "{got}");
    }
}

#[test]
fn far_steps_are_finite_and_quick() {
    let far = usize::MAX;
    let all: Vec<Box<dyn Schedule>> = vec![
        Box::new(Constant::new(0.1).unwrap()),
        Box::new(StepDecay::new(0.1, 1, 0.5).unwrap()),
        Box::new(MultiStep::new(0.1, [5, 9], 0.5).unwrap()),
        Box::new(Exponential::new(0.1, 0.5).unwrap()),
        Box::new(Linear::new(0.1, 0.5, 1.0, 0).unwrap()),
        Box::new(Cosine::new(0.1, 3).unwrap()),
        Box::new(CosineRestarts::new(0.1, 3).unwrap()),
        Box::new(CosineRestarts::new(0.1, 3).unwrap().mult(2).unwrap()),
        Box::new(OneCycle::new(0.1, 10).unwrap()),
        Box::new(OneCycle::new(0.1, 1).unwrap()),
        Box::new(OneCycle::new(0.1, 10).unwrap().pct_start(0.0).unwrap()),
        Box::new(OneCycle::new(0.1, 10).unwrap().pct_start(0.1).unwrap().three_phase()),
        Box::new(OneCycle::new(0.1, 10).unwrap().pct_start(1.0).unwrap().linear()),
        Box::new(Cyclic::new(0.1, 0.2, 3).unwrap()),
        Box::new(Polynomial::new(0.1, 3, 2.0).unwrap()),
        Box::new(Noam::new(1.0, 8, 3).unwrap()),
        Box::new(InverseSqrt::new(0.1, 3).unwrap()),
        Box::new(Constant::new(0.1).unwrap().warmup(0).then(5, |_: usize| 0.2).until(9)),
    ];
    for (i, s) in all.iter().enumerate() {
        for step in (0..40).chain([1000, far]) {
            let lr = s.lr(step);
            assert!((0.0..=1.0).contains(&lr), "schedule {i}, step {step}: {lr}");
        }
    }
}

/// Momenta that PyTorch 2.15 gives.
#[test]
fn momenta_run_against_the_rates() {
    let s = OneCycle::new(0.1, 10).unwrap();
    let want =
        [0.95, 0.8999999999999999, 0.85, 0.854951556604879, 0.8688255099070633, 0.8888739533021843];
    for (t, want) in want.into_iter().enumerate() {
        assert!((s.momentum(t) - want).abs() < 1e-12, "{t}: {}", s.momentum(t));
    }
    let s = Cyclic::new(0.01, 0.1, 4).unwrap().mode(CyclicMode::ExpRange(0.9));
    for t in 0..20usize {
        let x = (t % 8) as f64;
        let triangle = if x <= 4.0 { x / 4.0 } else { 2.0 - x / 4.0 };
        let height = triangle * 0.9f64.powi(t as i32);
        assert!((s.momentum(t) - (0.9 - 0.1 * height)).abs() < 1e-12);
        assert!((s.lr(t) - (0.01 + 0.09 * height)).abs() < 1e-12);
    }
}

#[test]
fn a_plateau_of_what_is_not_a_number_lowers_the_rate() {
    let mut p = Plateau::new(1.0).unwrap().factor(0.5).unwrap().patience(0).min_lr(0.3);
    assert_eq!(p.best(), f64::INFINITY);
    assert_eq!([f64::NAN, 1.0, f64::NAN, 2.0].map(|m| p.step(m)), [0.5, 0.5, 0.3, 0.3]);
    assert_eq!((p.best(), p.lr()), (1.0, 0.3));
    let mut p = Plateau::new(1e-8).unwrap().patience(0);
    p.step(1.0);
    assert_eq!(p.step(1.0), 1e-8, "a fall below eps is not made");
}

#[test]
fn sizes_are_never_0_and_never_above_the_bound() {
    assert_eq!(Linearly::new(3, -1.0).unwrap().size(100), 1);
    assert_eq!(Exponentially::new(3, 2.0).unwrap().size(10_000), usize::MAX);
    assert_eq!(ByRate::new(3, |t: usize| 1.0 - t as f64).unwrap().max(9).unwrap().size(1), 9);
    assert_eq!((|_: usize| 0usize).size(1), 1);
}
