//! The list of what was computed, in order.

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use super::gradients::ParamId;
use super::op::Recorded;
use crate::element::Element;
use crate::float::Float;
use crate::profile;
use crate::tensor::{Link, Tensor};

/// No place on the tape: an input that is a constant.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// One entry of a tape.
pub(crate) enum Node {
    /// A parameter or an input: gradients end here.
    Leaf,
    /// An operation and the places of its inputs ([`NOWHERE`] for constants).
    Op { inputs: SmallVec<[u32; 4]>, op: Arc<dyn Recorded> },
}

/// The places of an operation's inputs, and the operation.
type Operation = (SmallVec<[u32; 4]>, Arc<dyn Recorded>);

impl Node {
    /// The places of the inputs.
    pub(crate) fn inputs(&self) -> &[u32] {
        match self {
            Node::Leaf => &[],
            Node::Op { inputs, .. } => inputs,
        }
    }
}

pub(crate) struct State {
    pub(crate) nodes: Vec<Node>,
    /// Each watched parameter and its leaf, in order of identity. Models are mostly watched in the order in which they were built, so
    /// a new one mostly goes to the end.
    pub(crate) params: Vec<(ParamId, u32)>,
    /// Set by `backward`, which takes the nodes.
    pub(crate) consumed: bool,
    /// How many seeds were drawn.
    draws: u64,
    /// For a summary, if one asked: the shapes of what was computed, by the places of its inputs, and of what layers of several operations say
    /// that they gave, by the leaf of one of their parameters.
    notes: Option<Vec<(u32, Vec<usize>)>>,
    /// For a profile, if one runs: the layers that operations stand in, by their places, in order.
    pub(crate) layers: Vec<(u32, Arc<str>)>,
}

struct Inner {
    seed: u64,
    state: Mutex<State>,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held can leave nothing half done: every change is one push.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a node whose output has this shape and returns its place; a summary that asked for notes gets one for each input.
    fn push(&self, node: Node, shape: &[usize]) -> u32 {
        let mut state = self.lock();
        let id = if state.consumed { NOWHERE } else { state.nodes.len() as u32 };
        if let Some(notes) = &mut state.notes {
            notes.extend(node.inputs().iter().map(|&i| (i, shape.to_vec())));
        }
        if id != NOWHERE {
            state.nodes.push(node);
            if profile::on() {
                state.layers.extend(profile::current_layer().map(|layer| (id, layer)));
            }
        }
        id
    }
}

/// The tape that a tensor stands on, seen through the tensor's link: an operation looks at it for each input, and counting
/// references would cost more than looking.
#[derive(Clone, Copy)]
pub(crate) struct Standing<'a> {
    tape: &'a Arc<dyn Any + Send + Sync>,
    inner: &'a Inner,
}

impl<'a> Standing<'a> {
    #[inline]
    pub(crate) fn of(link: &'a Link) -> Option<Self> {
        match link {
            Link::Node { tape, .. } => Some(Standing { tape, inner: tape.downcast_ref()? }),
            _ => None,
        }
    }

    pub(crate) fn same(&self, other: &Self) -> bool {
        std::ptr::eq(self.inner, other.inner)
    }

    /// Appends the node of an operation whose output has this shape, and returns the link to it; as [`TapeCore::push`].
    pub(crate) fn push(&self, node: Node, shape: &[usize]) -> Link {
        let id = self.inner.push(node, shape);
        Link::Node { tape: self.tape.clone(), id }
    }
}

/// A shared handle to the list; tensors hold it in their link.
#[derive(Clone)]
pub(crate) struct TapeCore(Arc<Inner>);

impl TapeCore {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    pub(crate) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The tape that a tensor stands on.
    pub(crate) fn of(link: &Link) -> Option<TapeCore> {
        match link {
            Link::Node { tape, .. } => tape.clone().downcast::<Inner>().ok().map(TapeCore),
            _ => None,
        }
    }

    pub(crate) fn id_of(link: &Link) -> u32 {
        match link {
            Link::Node { id, .. } => *id,
            _ => NOWHERE,
        }
    }

    /// Appends a node and returns the link to it. On a consumed tape nothing is kept: the link leads nowhere, and
    /// `backward` says so.
    pub(crate) fn push(tape: &TapeCore, node: Node) -> Link {
        tape.link(tape.0.push(node, &[]))
    }

    /// The operation at a place and its inputs; `None` for a leaf.
    pub(crate) fn operation(&self, id: u32) -> Option<Operation> {
        match self.lock().nodes.get(id as usize)? {
            Node::Leaf => None,
            Node::Op { inputs, op } => Some((inputs.clone(), op.clone())),
        }
    }

    /// The layer that the operation at a place stands in, if a profile saw that.
    pub(crate) fn layer_at(&self, id: u32) -> Option<Arc<str>> {
        let state = self.lock();
        let at = state.layers.binary_search_by_key(&id, |l| l.0).ok()?;
        Some(state.layers[at].1.clone())
    }

    /// For each noted operation that takes a parameter's leaf itself, in order: the parameter and the operation's output shape.
    pub(crate) fn uses(&self) -> Vec<(ParamId, Vec<usize>)> {
        let state = self.lock();
        let owner = |leaf: u32| state.params.iter().find(|(_, place)| *place == leaf);
        let noted = state.notes.iter().flatten();
        noted.filter_map(|(leaf, shape)| Some((owner(*leaf)?.0, shape.clone()))).collect()
    }

    /// From now on, layers' notes are kept.
    pub(crate) fn take_notes(&self) {
        self.lock().notes = Some(Vec::new());
    }

    /// Notes the shape that a layer gives, if anybody asked for it.
    pub(crate) fn note(&self, leaf: u32, shape: &[usize]) {
        if let Some(notes) = &mut self.lock().notes {
            notes.push((leaf, shape.to_vec()));
        }
    }

    /// A leaf without a parameter.
    pub(crate) fn leaf<T: Float>(&self, x: &Tensor<T>) -> Tensor<T> {
        x.detach().with_link(TapeCore::push(self, Node::Leaf))
    }

    /// The link of a parameter's leaf; the same one each time it is watched.
    pub(crate) fn param_leaf(&self, id: ParamId) -> Link {
        let mut state = self.lock();
        if state.consumed {
            return self.link(NOWHERE);
        }
        let place = match state.params.binary_search_by_key(&id, |p| p.0) {
            Ok(i) => state.params[i].1,
            Err(i) => {
                let place = state.nodes.len() as u32;
                state.nodes.push(Node::Leaf);
                state.params.insert(i, (id, place));
                place
            }
        };
        self.link(place)
    }

    pub(crate) fn link(&self, id: u32) -> Link {
        Link::Node { tape: self.0.clone(), id }
    }

    /// A seed that no other call on this tape gets: what dropout draws from.
    pub(crate) fn next_seed(&self) -> u64 {
        let mut state = self.lock();
        state.draws += 1;
        splitmix64(self.0.seed ^ splitmix64(state.draws))
    }
}

fn splitmix64(x: u64) -> u64 {
    let z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The recording of one training step.
///
/// Nothing is recorded unless it is computed from something that a tape handed out: the copy of a model that
/// [`watch`](Tape::watch) returns, or a tensor from [`leaf`](Tape::leaf).
/// [`backward`](Tensor::backward) consumes the recording. A tape that is dropped without it just frees what it holds.
///
/// ```
/// use gradus::prelude::*;
/// let tape = Tape::new(0);
/// let x = tape.leaf(&Tensor::from([1.0, 2.0, 3.0]));
/// let loss = (&x * &x).sum();
/// let grads = loss.backward()?;
/// assert_eq!(grads.wrt(&x).unwrap().to_vec(), [2.0, 4.0, 6.0]);
/// # Ok::<(), Error>(())
/// ```
pub struct Tape {
    core: TapeCore,
}

impl Tape {
    /// An empty tape. The seed fixes what is random in the forward pass (dropout); give each step another one,
    /// for example its number.
    pub fn new(seed: u64) -> Self {
        let state = State {
            nodes: Vec::with_capacity(16),
            params: Vec::new(),
            consumed: false,
            draws: 0,
            notes: None,
            layers: Vec::new(),
        };
        Tape { core: TapeCore(Arc::new(Inner { seed, state: Mutex::new(state) })) }
    }

    /// This tensor as an input that gets a gradient: ask for it with [`Gradients::wrt`](super::Gradients::wrt).
    pub fn leaf<T: Float>(&self, x: &Tensor<T>) -> Tensor<T> {
        self.core.leaf(x)
    }

    /// How many operations and leaves are recorded.
    pub fn len(&self) -> usize {
        self.core.lock().nodes.len()
    }

    /// Whether nothing is recorded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn core(&self) -> &TapeCore {
        &self.core
    }
}

impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.core.lock();
        write!(f, "Tape {{ nodes: {}, consumed: {} }}", state.nodes.len(), state.consumed)
    }
}

impl<T: Element> Tensor<T> {
    /// A seed from the tape that this tensor stands on.
    pub(crate) fn tape(&self) -> Option<TapeCore> {
        TapeCore::of(self.link())
    }
}
