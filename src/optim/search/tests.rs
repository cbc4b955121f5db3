use super::*;
use crate::optim::{flatten_params, set_flat_params};
use crate::prelude::*;

fn sphere(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum()
}

fn rosenbrock(x: &[f64]) -> f64 {
    x.windows(2).map(|w| 100.0 * (w[1] - w[0] * w[0]).powi(2) + (1.0 - w[0]).powi(2)).sum()
}

fn rastrigin(x: &[f64]) -> f64 {
    let wave = |x: &f64| x * x - 10.0 * (2.0 * std::f64::consts::PI * x).cos() + 10.0;
    x.iter().map(wave).sum()
}

/// A generic check on every search.
macro_rules! for_every_search {
    ($check:ident) => {{
        $check("genetic", GeneticAlgorithm::new());
        $check("swarm", ParticleSwarm::new());
        $check("annealing", SimulatedAnnealing::new());
    }};
}

#[test]
fn known_minima_are_found() {
    fn check(name: &str, s: impl Search) {
        let space = |n| Space::cube(n, -5.0, 5.0).unwrap();
        let found = |f: fn(&[f64]) -> f64, n| s.minimize(&space(n), f, &mut crate::rng(3)).unwrap();
        let best = found(sphere, 4);
        assert!(best.value < 1e-2, "{name}: sphere {best:?}");
        assert_eq!(best.value, sphere(&best.x));
        let best = found(rosenbrock, 2);
        assert!(best.value < 0.1, "{name}: Rosenbrock {best:?}");
        let best = found(rastrigin, 2);
        assert!(best.value < 0.1, "{name}: Rastrigin {best:?}");
    }
    for_every_search!(check);
}

#[test]
fn the_same_seed_finds_the_same() {
    fn check(name: &str, s: impl Search) {
        let space = Space::new().log(1e-4, 1.0).unwrap().integer(-3, 3).unwrap();
        let run = |seed| {
            let mut seen = Vec::new();
            let f = |x: &[f64]| {
                assert!((1e-4..=1.0).contains(&x[0]) && (-3.0..=3.0).contains(&x[1]));
                assert_eq!(x[1], x[1].round());
                seen.push(x.to_vec());
                (x[0] - 0.01).abs() + x[1].abs()
            };
            let best = s.minimize(&space, f, &mut crate::rng(seed)).unwrap();
            assert_eq!(best.evaluations, seen.len(), "{name}");
            (best, seen)
        };
        let (a, b) = (run(1), run(1));
        assert!(a == b, "{name}");
        assert!(a.1 != run(2).1, "{name}");
        assert_eq!(a.0.x[1], 0.0, "{name}");
        let whole = a.1.iter().map(|x| x[1] as i64).collect::<std::collections::HashSet<_>>();
        assert_eq!(whole.len(), 7, "{name}: both bounds are met");
    }
    for_every_search!(check);
}

#[test]
fn what_is_not_a_number_is_worst_and_errors_end_the_search() {
    fn check(name: &str, s: impl Search) {
        let space = Space::cube(2, -1.0, 1.0).unwrap();
        let half = |x: &[f64]| if x[0] < 0.0 { f64::NAN } else { x[0] };
        let best = s.minimize(&space, half, &mut crate::rng(0)).unwrap();
        assert!(best.x[0] >= 0.0 && best.value < 0.1, "{name}: {best:?}");
        let best = s.minimize(&space, |_: &[f64]| f64::NAN, &mut crate::rng(0)).unwrap();
        assert_eq!(best.value, f64::INFINITY);
        let fails = |_: &[f64]| -> Result<f64> { Err(Error::argument("f", "no")) };
        let e = s.minimize(&space, fails, &mut crate::rng(0)).unwrap_err();
        assert_eq!(e.to_string(), "f: no");
        let e = s.minimize(&Space::new(), sphere, &mut crate::rng(0)).unwrap_err();
        assert_eq!(e.to_string(), "Space: a search needs at least one coordinate");
    }
    for_every_search!(check);
}

#[test]
fn a_start_is_tried_first() {
    fn check(name: &str, s: impl Search) {
        let space = Space::cube(2, -4.0, 4.0).unwrap().start(&[1.0, 9.0]).unwrap();
        let mut first = None;
        let f = |x: &[f64]| {
            first.get_or_insert(x.to_vec());
            sphere(x)
        };
        s.minimize(&space, f, &mut crate::rng(0)).unwrap();
        assert_eq!(first.unwrap(), [1.0, 4.0], "{name}");
    }
    for_every_search!(check);
}

#[test]
fn bad_bounds_and_settings_are_named() {
    let text = |r: Result<Space>| r.unwrap_err().to_string();
    assert_eq!(
        text(Space::cube(2, 1.0, 0.0)),
        "Space: the bounds are 1 and 0; they must be finite, in order"
    );
    assert!(text(Space::new().real(f64::NAN, 1.0)).contains("NaN"));
    assert!(text(Space::new().real(0.0, f64::INFINITY)).contains("inf"));
    assert!(text(Space::new().log(0.0, 1.0)).contains("above 0 on a logarithmic scale"));
    assert!(text(Space::new().integer(2, 1)).contains("2 and 1"));
    let space = || Space::cube(2, 0.0, 1.0).unwrap();
    assert!(matches!(space().start(&[0.5]), Err(Error::Shape { .. })));
    assert!(text(space().start(&[0.5, f64::NAN])).contains("coordinate 1 of the start is NaN"));
    let run = |s: Result<Best>| s.unwrap_err().to_string();
    let mut rng = crate::rng(0);
    let g = GeneticAlgorithm::new;
    for s in [
        g().population(1),
        g().tournament(0),
        g().elite(60),
        g().crossover(1.5),
        g().mutation(f64::NAN, 0.1),
        g().mutation(0.1, -1.0),
    ] {
        assert!(run(s.minimize(&space(), sphere, &mut rng)).starts_with("GeneticAlgorithm: the "));
    }
    let s = ParticleSwarm::new().particles(0);
    assert!(run(s.minimize(&space(), sphere, &mut rng)).contains("the number of particles is 0"));
    let s = ParticleSwarm::new().inertia(f64::NAN);
    assert!(run(s.minimize(&space(), sphere, &mut rng)).contains("the inertia is NaN"));
    let s = SimulatedAnnealing::new().temperatures(1.0, 0.0);
    assert!(run(s.minimize(&space(), sphere, &mut rng)).contains("the last temperature is 0"));
    let s = SimulatedAnnealing::new().step(0.0);
    assert!(run(s.minimize(&space(), sphere, &mut rng)).contains("the step is 0"));
}

/// The weights of a small network that computes XOR, without a gradient.
#[test]
fn a_network_learns_xor() {
    let mut rng = crate::rng(5);
    let dense = |a, b, rng: &mut _| Dense::<f64>::new(a, b).build(rng).unwrap();
    let mut model = (dense(2, 3, &mut rng), dense(3, 1, &mut rng));
    let x = Tensor::from([[0.0f64, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]);
    let y = Tensor::from([[0.0f64], [1.0], [1.0], [0.0]]);
    let space = Space::cube(model.num_params(), -8.0, 8.0).unwrap();
    let space = space.start(&flatten_params(&model)).unwrap();
    let loss = |v: &[f64]| -> Result<f64> {
        set_flat_params(&mut model, v)?;
        model.1.forward(&model.0.forward(&x)?.tanh())?.mse(&y)?.item()
    };
    let best = ParticleSwarm::new().minimize(&space, loss, &mut rng).unwrap();
    assert!(best.value < 0.01, "{best:?}");
    set_flat_params(&mut model, &best.x).unwrap();
    let out = model.1.forward(&model.0.forward(&x).unwrap().tanh()).unwrap().to_vec();
    assert!(out.iter().zip(y.iter()).all(|(o, y)| (o - y).abs() < 0.5), "{out:?}");
    assert!(set_flat_params(&mut model, &[1.0]).is_err());
}
