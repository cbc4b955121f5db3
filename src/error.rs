//! The one error type of the crate.

use std::path::PathBuf;

/// What the fallible functions of gradus return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in words that name the operation, what it got and the mend.
///
/// Match on the variant to react to a kind of mistake; print it (`{}`) to tell a person.
///
/// ```
/// use gradus::prelude::*;
/// let a: Tensor = Tensor::zeros([64, 784])?;
/// let b = Tensor::zeros([800, 128])?;
/// let e = a.matmul(&b).unwrap_err();
/// assert!(matches!(e, Error::Shape { op: "matmul", .. }));
/// assert_eq!(e.to_string(), "matmul: inner dimensions differ: [64, 784] × [800, 128] (784 ≠ 800)");
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Shapes, ranks or lengths that do not fit each other or the operation.
    #[error("{op}: {message}")]
    Shape {
        /// The operation that refused.
        op: &'static str,
        /// The shapes it got and what it expected.
        message: String,
    },
    /// An argument outside its domain, for example a dropout probability of 1.5 or a batch size of 0.
    #[error("{op}: {message}")]
    Argument {
        /// The operation that refused.
        op: &'static str,
        /// The value it got and the values it takes.
        message: String,
    },
    /// An axis that the tensor does not have.
    #[error("{op}: axis {axis} is out of range for a tensor of rank {rank}{}", axis_range(*rank))]
    Axis {
        /// The operation that refused.
        op: &'static str,
        /// The axis as it was given; negative ones count from the end.
        axis: isize,
        /// The rank of the tensor.
        rank: usize,
    },
    /// An index, class or token id that is not below the size it indexes.
    #[error("{op}: index {index} is out of range for {}", of_size(what, *size))]
    Index {
        /// The operation that refused.
        op: &'static str,
        /// The offending index.
        index: i64,
        /// What is being indexed, for example `"axis 1"` or `"the classes"`.
        what: String,
        /// The number of valid indices.
        size: usize,
    },
    /// A label that is not a class.
    #[error("{op}: label {label}{} is not a class: there are {classes} classes{}", label_place(place), class_range(*classes))]
    Label {
        /// The operation that refused.
        op: &'static str,
        /// The label.
        label: i64,
        /// Where it stands among the labels: an index for each of their axes.
        place: Vec<usize>,
        /// How many classes there are; they are counted from 0.
        classes: usize,
    },
    /// A shape whose element count or byte size does not fit in memory's address range.
    #[error("{op}: the shape {shape:?} does not fit in memory")]
    Overflow {
        /// The operation that refused.
        op: &'static str,
        /// The shape.
        shape: Vec<usize>,
    },
    /// `backward` on a tensor that no tape recorded.
    #[error(
        "{op}: the loss was not recorded; compute it from the copy that tape.watch(&model) returned"
    )]
    NotRecorded {
        /// The operation that refused.
        op: &'static str,
    },
    /// `backward` on a tensor with more or fewer elements than one.
    #[error(
        "{op}: the loss must be a single number, but its shape is {shape:?}; reduce it first, for example with .mean() or .sum()"
    )]
    NotScalar {
        /// The operation that refused.
        op: &'static str,
        /// The shape of the tensor.
        shape: Vec<usize>,
    },
    /// A tape used again after `backward` consumed its recording.
    #[error(
        "{op}: this tape was consumed by an earlier backward; make a new one for the next step: let tape = Tape::new(seed)"
    )]
    TapeConsumed {
        /// The operation that refused.
        op: &'static str,
    },
    /// An operation whose gradient is a fused kernel met where that gradient was to be differentiated.
    #[error(
        "{op}: its gradient cannot be differentiated again; compose it from elementary operations where gradients of gradients are needed"
    )]
    OnceDifferentiable {
        /// The operation.
        op: &'static str,
    },
    /// Tensors recorded on different tapes met in one operation.
    #[error(
        "{op}: the inputs were recorded on two different tapes; watch everything that takes part on one tape, or detach one side"
    )]
    TapesMixed {
        /// The operation that refused.
        op: &'static str,
    },
    /// Watched parameters that the loss does not depend on.
    #[error(
        "{op}: no gradient for {} of the watched parameters: {}; did the forward pass leave them out? To update only the others, call {op}_partial",
        paths.len(),
        paths.join(", ")
    )]
    MissingGradient {
        /// The operation that refused.
        op: &'static str,
        /// The dotted path of each such parameter.
        paths: Vec<String>,
    },
    /// None of a model's parameters was watched on the tape that the gradients come from.
    #[error(
        "{op}: these gradients are not of this model: none of its {parameters} parameters was watched on their tape"
    )]
    ForeignGradients {
        /// The operation that refused.
        op: &'static str,
        /// How many parameters the model has.
        parameters: usize,
    },
    /// A NaN or an infinity where only finite numbers make sense.
    #[error("{op}: {message}")]
    NonFinite {
        /// The operation that refused.
        op: &'static str,
        /// Where the value stands, for example the path of a parameter.
        message: String,
    },
    /// A file whose content is not what its format says.
    #[error("{}: {message}", path.display())]
    Format {
        /// The file, or a name for the stream.
        path: PathBuf,
        /// What is wrong with it, and where.
        message: String,
    },
    /// A checkpoint whose names or shapes are not those of the model. The model was left as it was.
    #[error("{}: not a checkpoint of this model{}", path.display(), checkpoint_lists(missing, unexpected, mismatched))]
    Checkpoint {
        /// The file, or a name for the stream.
        path: PathBuf,
        /// Names that the model has and the file lacks.
        missing: Vec<String>,
        /// Names that the file has and the model lacks.
        unexpected: Vec<String>,
        /// Names that both have, with a different shape or element type: one line of words each.
        mismatched: Vec<String>,
    },
    /// The operating system refused to read or write.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Its words.
        source: std::io::Error,
    },
    /// A download that did not arrive, or arrived with another content than it should have.
    #[error("{url}: {message}")]
    Download {
        /// The address.
        url: String,
        /// What happened.
        message: String,
    },
}

fn axis_range(rank: usize) -> String {
    match rank {
        0 => " (a rank-0 tensor has no axes)".into(),
        r => format!(" (valid: -{r}..={})", r - 1),
    }
}

/// The place of an example among a batch's, in words.
pub(crate) fn label_place(place: &[usize]) -> String {
    match place {
        [] => String::new(),
        [row] => format!(" of row {row}"),
        deep => format!(" at {deep:?}"),
    }
}

fn class_range(classes: usize) -> String {
    match classes {
        0 => String::new(),
        n => format!(" (0..={})", n - 1),
    }
}

/// The size behind what it is the size of, and the place in a model behind both.
fn of_size(what: &str, size: usize) -> String {
    match what.rsplit_once(" [at ") {
        Some((what, place)) => format!("{what} of size {size} [at {place}"),
        None => format!("{what} of size {size}"),
    }
}

fn checkpoint_lists(missing: &[String], unexpected: &[String], mismatched: &[String]) -> String {
    let mut s = String::new();
    for (what, names) in
        [("missing", missing), ("unexpected", unexpected), ("different", mismatched)]
    {
        if !names.is_empty() {
            s += &format!("; {what}: {}", names.join(", "));
        }
    }
    s
}

/// Shorthand for the two commonest variants, so that a check reads as one line.
impl Error {
    pub(crate) fn shape(op: &'static str, message: impl Into<String>) -> Self {
        Error::Shape { op, message: message.into() }
    }

    /// Says where in a model it happened, unless a layer further inside has said so.
    pub(crate) fn add_place(&mut self, place: std::fmt::Arguments<'_>) {
        let text = match self {
            Error::Shape { message, .. } | Error::Argument { message, .. } => message,
            Error::NonFinite { message, .. } => message,
            Error::Index { what, .. } => what,
            _ => return,
        };
        if !text.ends_with(']') || !text.contains(" [at ") {
            text.push_str(&format!(" [{place}]"));
        }
    }

    pub(crate) fn argument(op: &'static str, message: impl Into<String>) -> Self {
        Error::Argument { op, message: message.into() }
    }
}
