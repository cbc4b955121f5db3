//! Values and gradients against reference cases computed by PyTorch in f64 (`data/make_goldens.py` made them and defines every operator).
//!
//! Each case is run in f64 and in f32: the stored inputs, in the memory layout that the manifest asks for, go through the operator, the stored
//! cotangents go backward, outputs and gradients are compared. Operators that the crate does not have are listed by name as not
//! covered; a case that is covered and disagrees fails the test.

mod attention;
mod case;
mod conv;
mod dispatch;
mod losses;
mod norm;
mod optim;
mod rnn;
mod schedulers;

use std::collections::BTreeMap;
use std::path::Path;

use case::{Case, Outcome};
use gradus::Float;

/// |got - want| <= atol + rtol * |want|, the tolerances of the reference kit.
const F64: (f64, f64) = (1e-9, 1e-11);
const F32: (f64, f64) = (1e-4, 1e-5);

#[derive(Default)]
struct Count {
    run: usize,
    tagged: usize,
    missing: BTreeMap<String, usize>,
}

fn run_all<T: Float>((rtol, atol): (f64, f64), single: bool) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/data");
    let cases = case::load(&dir);
    assert!(cases.len() > 900, "the manifest lists {} cases", cases.len());
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    let mut failures = Vec::new();
    for c in &cases {
        let count = counts.entry(c.family.clone()).or_default();
        if single && c.tagged("f64only") {
            count.tagged += 1;
            continue;
        }
        match run_one::<T>(c, rtol, atol) {
            Outcome::Agrees => count.run += 1,
            Outcome::Missing => *count.missing.entry(c.op.clone()).or_default() += 1,
            Outcome::Differs(why) => failures.push(format!("{} {}: {why}", c.id, c.attrs)),
        }
    }
    for (family, n) in &counts {
        let missing: Vec<String> = n.missing.iter().map(|(op, k)| format!("{op} ({k})")).collect();
        let list = if missing.is_empty() {
            String::new()
        } else {
            format!("; not covered: {}", missing.join(", "))
        };
        println!("{family}: {} agree, {} skipped by tag{list}", n.run, n.tagged);
    }
    assert!(failures.is_empty(), "{} cases differ:\n{}", failures.len(), failures.join("\n"));
}

fn run_one<T: Float>(c: &Case, rtol: f64, atol: f64) -> Outcome {
    c.run::<T>(rtol, atol)
}

#[test]
fn goldens_in_f64() {
    run_all::<f64>(F64, false);
}

#[test]
fn goldens_in_f32() {
    run_all::<f32>(F32, true);
}
