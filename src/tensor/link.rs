//! The handle that ties a tensor to its place on a tape. What a tape is, only the floor above knows.

use std::any::Any;
use std::sync::Arc;

/// Where a tensor stands with respect to a tape.
#[derive(Clone)]
pub(crate) enum Link {
    /// A plain value.
    None,
    /// Input number `n` of the operation that is being computed; kept in what the operation saves, so that a later
    /// pass can tell which saved tensor is which input. Computes like `None`.
    Input(u32),
    /// The output of the operation that saved it. Computes like `None`.
    Output,
    /// Node `id` of a tape.
    Node { tape: Arc<dyn Any + Send + Sync>, id: u32 },
}

impl Link {
    /// Input number `i`.
    pub(crate) fn input(i: usize) -> Self {
        Link::Input(i as u32)
    }

    pub(crate) fn is_node(&self) -> bool {
        matches!(self, Link::Node { .. })
    }

    /// Whether both are the same node, or neither is one.
    pub(crate) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Link::Node { tape: a, id: i }, Link::Node { tape: b, id: j }) => {
                Arc::ptr_eq(a, b) && i == j
            }
            _ => !self.is_node() && !other.is_node(),
        }
    }
}
