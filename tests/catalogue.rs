//! The catalogue names everything that the source has, and nothing else.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).into()
}

fn sources(dir: &Path, all: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|e| e == "rs") {
            all.push(path);
        }
    }
}

fn word(s: &str) -> String {
    s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The public methods of tensors in `src/ops`: written out, or rows of the tables of functions and comparisons.
fn methods() -> BTreeSet<String> {
    let mut files = Vec::new();
    sources(&root().join("src/ops"), &mut files);
    let mut names = BTreeSet::new();
    for file in files.iter().filter(|f| !f.to_string_lossy().contains("test")) {
        let text = std::fs::read_to_string(file).unwrap();
        let mut of_tensors = false;
        for line in text.lines().take_while(|l| *l != "mod tests {") {
            if line.starts_with("impl") {
                of_tensors = !line.contains(" for ")
                    && (line.contains("> Tensor<") || line.contains("impl Tensor<"));
            }
            if let Some(rest) = line.strip_prefix("    pub fn ").filter(|_| of_tensors) {
                names.insert(word(rest));
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let row = line.starts_with("    ") && !line.starts_with("     ");
            let upper = |w: &str| w.starts_with(char::is_uppercase);
            match words[..] {
                [name, op, keep, ..]
                    if row && upper(op) && ["Input", "Output", "Nothing"].contains(&keep) =>
                {
                    names.insert(name.into());
                }
                [op, a, b, sign]
                    if row && upper(op) && sign.ends_with(';') && b.ends_with("_scalar") =>
                {
                    names.extend([a.to_string(), b.to_string()]);
                }
                _ => {}
            }
        }
    }
    names
}

/// What a module exports by `pub use`.
fn exports(file: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join(file)).unwrap();
    let mut names = BTreeSet::new();
    for part in text.split("pub use ").skip(1) {
        let list = part.split(';').next().unwrap();
        let list = list.rsplit("::").next().unwrap().trim_matches(['{', '}', ' ', '\n']);
        names.extend(list.split(',').map(|n| n.trim().to_string()).filter(|n| !n.is_empty()));
    }
    names
}

/// What stands in code style in the page: in the first column of the tables, and anywhere.
fn page() -> (BTreeSet<String>, BTreeSet<String>) {
    let text = std::fs::read_to_string(root().join("docs/catalogue.md")).unwrap();
    let code =
        |s: &str| -> Vec<String> { s.split('`').skip(1).step_by(2).map(String::from).collect() };
    let rows = text.lines().filter(|l| l.starts_with("| `"));
    let first = rows.flat_map(|l| code(l.split('|').nth(1).unwrap())).collect();
    (first, text.lines().flat_map(code).collect())
}

/// Exports that are no layers, losses or schedules: traits, options, state, and the types behind aliases.
fn is_plumbing(name: &str) -> bool {
    const PLUMBING: &[&str] = &[
        "Activation",
        "AdaptiveAvgPool",
        "AdaptiveMaxPool",
        "AnyBuffer",
        "Attend",
        "Attention",
        "AttentionMask",
        "AvgPool",
        "BagMode",
        "BatchNorm",
        "BatchSize",
        "BatchStats",
        "Blocked",
        "BoxedLayer",
        "Buffer",
        "ChannelDropout",
        "CircularPad",
        "ConstantPad",
        "Conv",
        "ConvTranspose",
        "CyclicMode",
        "Fan",
        "Fans",
        "InstanceNorm",
        "Interpolate",
        "Interpolation",
        "Item",
        "ItemMut",
        "LPPool",
        "Layer",
        "MaxPool",
        "Mode",
        "Module",
        "Nonlinearity",
        "PadMode",
        "Padding",
        "Pads",
        "Pair",
        "Param",
        "ParamMut",
        "ParamRef",
        "PlateauMode",
        "Pool",
        "Pool1d",
        "Pool2d",
        "Pool3d",
        "RecurrentWeights",
        "Reduction",
        "ReflectionPad",
        "ReplicationPad",
        "Sizes",
        "Targets",
        "Unfold",
        "Visitor",
        "VisitorMut",
        "Weighted",
        "ZeroPad",
        "with_param",
    ];
    PLUMBING.contains(&name)
        || name.ends_with("Builder")
        || name.ends_with("Params")
        || name.ends_with("Rule")
}

#[test]
fn nothing_is_missing_and_nothing_is_made_up() {
    let (rows, anywhere) = page();
    let mut source = methods();
    assert!(
        source.len() > 200 && source.contains("exp") && source.contains("try_eq"),
        "{source:?}"
    );
    for file in [
        "src/nn/mod.rs",
        "src/optim/rules/mod.rs",
        "src/optim/schedule/mod.rs",
        "src/optim/search/mod.rs",
        "src/autograd/mod.rs",
    ] {
        let names = exports(file);
        assert!(names.len() >= 3, "{file}: {names:?}");
        source.extend(names);
    }
    source.extend(["Lbfgs", "Ema", "Swa", "MaxNorm"].map(String::from));
    const OF_THE_TAPE: &[&str] = &[
        "any",
        "AnyTensor",
        "InAny",
        "GradCheck",
        "Gradients",
        "ParamId",
        "sum_of_squares",
        "Op",
        "Saved",
        "SavedTensor",
        "apply",
        "OpMany",
        "Place",
        "Recorded",
        "apply_many",
        "apply_total",
        "Tape",
        "Node",
        "TapeCore",
    ];
    let missing: Vec<&String> = source
        .iter()
        .filter(|n| !anywhere.contains(*n) && !is_plumbing(n) && !OF_THE_TAPE.contains(&&***n))
        .collect();
    assert!(missing.is_empty(), "not in docs/catalogue.md: {missing:?}");
    let invented: Vec<&String> = rows.iter().filter(|n| !source.contains(*n)).collect();
    assert!(invented.is_empty(), "in docs/catalogue.md, but not in the source: {invented:?}");
}
