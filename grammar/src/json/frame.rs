//! Open values of the output, and the stacks they form.
//!
//! A stack is a value: its top frame inline, the rest a shared list that is never changed. So a
//! matcher's history, the walk of a trie and a memo's keys may all hold stacks for the price of a
//! reference.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use crate::json::number::Number;
use crate::json::shape::{GuardId, NodeId, ShapeId};
use crate::json::string::Body;
use crate::json::text::Text;
use crate::literals::LiteralNode;
use crate::regex::dfa::DfaState;

/// A value in the making.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Frame {
    /// Before a value's first byte, with a space perhaps.
    Start {
        node: NodeId,
        space: bool,
    },
    Literal {
        shape: ShapeId,
        node: LiteralNode,
        /// Hashes of values that it must not become.
        used: Option<Arc<[u64]>>,
    },
    String {
        shape: ShapeId,
        body: Body,
    },
    Number {
        shape: ShapeId,
        number: Number,
    },
    /// After `[`.
    ArrayOpen(Items),
    /// After an item, or while one is open above.
    Array(Items),
    /// After `{`.
    ObjectOpen(ShapeId),
    /// After a comma, with a space perhaps.
    MemberDue {
        members: Members,
        space: bool,
    },
    Name {
        members: Members,
        name: Name,
    },
    /// After a name: its value's place, and the members with this one.
    Colon {
        members: Members,
        value: NodeId,
    },
    /// After a member, or while its value is open above.
    Object(Members),
    /// Around a value that is looked at when it is whole: the forms, and where its text begins.
    Guard {
        guard: GuardId,
        start: u32,
    },
    /// After the whole text.
    Done,
}

/// What an array holds so far.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Items {
    pub(crate) shape: ShapeId,
    /// Up to where more make no difference.
    pub(crate) n: u32,
    /// Items that satisfy each `contains`, up to where more make no difference.
    pub(crate) contained: SmallVec<[u32; 2]>,
    /// Of an array of different items: hashes of those, and where the last one's text begins.
    pub(crate) different: Option<(Arc<[u64]>, u32)>,
}

/// What an object holds so far.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Members {
    pub(crate) shape: ShapeId,
    /// In declared order: the first declared property that may still come.
    pub(crate) next: u32,
    /// Declared properties that came, where `next` does not say it.
    pub(crate) seen: Bits,
    /// Up to where more make no difference.
    pub(crate) n: u32,
    /// Declared properties that must still come, and their bytes, each with a comma.
    pub(crate) n_due: u32,
    pub(crate) due_cost: usize,
    /// The names beyond the declared ones as they are spelled, ascending.
    pub(crate) used: Option<Arc<[Arc<[u8]>]>>,
}

/// A set of small numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Bits(SmallVec<[u64; 1]>);

impl Bits {
    pub(crate) fn insert(&mut self, idx: u32) {
        let word = idx as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (idx % 64);
    }

    pub(crate) fn contains(&self, idx: u32) -> bool {
        let word = self.0.get(idx as usize / 64).copied().unwrap_or(0);
        word >> (idx % 64) & 1 == 1
    }
}

/// A member's name in the making, after its opening quote.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    /// Where it stands among the declared names; `None` once it is none of them.
    pub(crate) declared: Option<LiteralNode>,
    /// Where it stands as a name of its own; `None` once it cannot be one.
    pub(crate) other: Option<Other>,
    /// Its bytes, while it may be one of its own.
    pub(crate) written: SmallVec<[u8; 24]>,
}

/// A name that is not declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Other {
    pub(crate) text: Text,
    /// Of the automaton of names, if there is one.
    pub(crate) state: DfaState,
}

/// The values open around the top one.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) frame: Frame,
    pub(crate) outer: Option<Arc<Link>>,
    /// Fewest bytes from the end of the value above to the end of the text.
    pub(crate) cost: usize,
    pub(crate) depth: u32,
    hash: u64,
}

impl Link {
    pub(crate) fn new(frame: Frame, outer: Option<Arc<Link>>, own_cost: usize) -> Self {
        let mut hasher = FixedState::default().build_hasher();
        frame.hash(&mut hasher);
        outer.as_ref().map(|outer| outer.hash).hash(&mut hasher);
        Self {
            cost: own_cost.saturating_add(outer.as_ref().map_or(0, |outer| outer.cost)),
            depth: outer.as_ref().map_or(0, |outer| outer.depth) + 1,
            hash: hasher.finish(),
            frame,
            outer,
        }
    }
}

/// One parse of the output so far.
#[derive(Clone, Debug)]
pub(crate) struct Stack {
    pub(crate) top: Frame,
    pub(crate) outer: Option<Arc<Link>>,
}

impl Stack {
    /// Fewest bytes from the end of the top value to the end of the text.
    pub(crate) fn outer_cost(&self) -> usize {
        self.outer.as_ref().map_or(0, |outer| outer.cost)
    }

    /// Whether no open value is judged when it is whole: only such a value can lead to where nothing may follow.
    pub(crate) fn is_settled(&self) -> bool {
        std::iter::successors(self.outer.as_ref(), |link| link.outer.as_ref()).all(|link| {
            match &link.frame {
                Frame::Guard { .. } => false,
                Frame::Array(items) => items.different.is_none(),
                _ => true,
            }
        })
    }
}

impl PartialEq for Stack {
    fn eq(&self, other: &Self) -> bool {
        self.top == other.top && links_equal(self.outer.as_ref(), other.outer.as_ref())
    }
}

impl Eq for Stack {}

impl Hash for Stack {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.top.hash(state);
        self.outer.as_ref().map(|outer| outer.hash).hash(state);
    }
}

fn links_equal(mut left: Option<&Arc<Link>>, mut right: Option<&Arc<Link>>) -> bool {
    loop {
        match (left, right) {
            (None, None) => return true,
            (Some(a), Some(b)) if Arc::ptr_eq(a, b) => return true,
            (Some(a), Some(b)) if a.hash == b.hash && a.frame == b.frame => {
                (left, right) = (a.outer.as_ref(), b.outer.as_ref());
            }
            _ => return false,
        }
    }
}
