//! The one-way rule: a floor of the house uses only the floors below it. Read from the `use` lines and paths of the sources.

use std::path::{Path, PathBuf};

/// Floors from the ground up; what is not listed (`error`, `element`, `float`) is the ground itself.
const FLOORS: &[(&str, u32)] = &[
    ("tensor", 1),
    ("kernel", 1),
    ("profile", 1),
    ("autograd", 2),
    ("ops", 3),
    ("nn", 4),
    ("optim", 5),
    ("io", 5),
    ("data", 6),
];

/// Arrows that point up on purpose, each with its reason.
const ALLOWED: &[(&str, &str)] = &[
    // The tape adds two gradients of one tensor; that loop is an operation on tensors.
    ("autograd", "ops"),
];

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            all.push(path);
        }
    }
    all
}

fn floor(name: &str) -> Option<u32> {
    FLOORS.iter().find(|(n, _)| *n == name).map(|(_, f)| *f)
}

/// The modules that a file names as `crate::NAME` outside of comments and tests.
fn used(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or(text);
    let lines = code.lines().map(str::trim_start).filter(|l| !l.starts_with("//"));
    let mut names = Vec::new();
    for line in lines {
        for part in line.split("crate::").skip(1) {
            names.push(part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    names
}

#[test]
fn no_arrow_points_up() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (name, own) in FLOORS {
        for file in sources(&src.join(name)) {
            if file.to_string_lossy().contains("test") {
                continue;
            }
            seen += 1;
            for other in used(&std::fs::read_to_string(&file).unwrap()) {
                let up = floor(&other).is_some_and(|f| f > *own);
                if up && !ALLOWED.contains(&(name, &other)) {
                    wrong.push(format!("{} uses crate::{other}", file.display()));
                }
            }
        }
    }
    assert!(seen > 50, "only {seen} files found");
    assert!(wrong.is_empty(), "arrows that point up:\n{}", wrong.join("\n"));
}
