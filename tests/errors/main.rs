//! What a user is told about each mistake: the operation, what it got, what it expected, and the mend. The words are the interface.

mod data;
mod files;
mod layers;
mod losses;
mod tensors;
mod training;

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Mistakes and the words of the errors that they give.
#[derive(Default)]
pub(crate) struct Table {
    wrong: Vec<String>,
}

impl Table {
    /// The mistake must be answered with exactly these words.
    #[track_caller]
    pub(crate) fn says<T>(&mut self, mistake: impl FnOnce() -> gradus::Result<T>, words: &str) {
        let line = std::panic::Location::caller().line();
        let got = catch_unwind(AssertUnwindSafe(mistake));
        let got = match got {
            Ok(Ok(_)) => "nothing: it went through".to_string(),
            Ok(Err(e)) => e.to_string(),
            Err(p) => format!("a panic: {}", panic_words(&*p)),
        };
        if got != words {
            self.wrong.push(format!("line {line}\n  expected {words}\n  got      {got}"));
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if !self.wrong.is_empty() && !std::thread::panicking() {
            panic!("{} messages differ:\n{}", self.wrong.len(), self.wrong.join("\n"));
        }
    }
}

fn panic_words(p: &dyn std::any::Any) -> String {
    let text = p.downcast_ref::<String>().cloned();
    text.or_else(|| p.downcast_ref::<&str>().map(|s| (*s).to_string())).unwrap_or_default()
}

/// The words of a panic and the file of its place, for the few functions that may panic.
pub(crate) fn panics_with<T>(f: impl FnOnce() -> T) -> String {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => "no panic".into(),
        Err(p) => panic_words(&*p),
    }
}

/// A folder of its own for a test, removed at the end.
pub(crate) struct Folder(pub std::path::PathBuf);

impl Folder {
    pub(crate) fn new(name: impl Display) -> Self {
        let path =
            std::env::temp_dir().join(format!("gradus-errors-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder for temporary files");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
