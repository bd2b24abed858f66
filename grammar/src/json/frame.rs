//! Open values of the output, and the stacks they form.
//!
//! A stack is a value: its top frame inline, the rest a shared list that is never changed. So a
//! matcher's history, the walk of a trie and a memo's keys may all hold stacks for the price of a
//! reference.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::json::number::Number;
use crate::json::shape::{NodeId, ShapeId};
use crate::json::string::Body;
use crate::json::text::Text;
use crate::literals::LiteralNode;

/// A value in the making.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Frame {
    /// Before a value's first byte.
    Start(NodeId),
    Literal {
        shape: ShapeId,
        node: LiteralNode,
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
    ArrayOpen(ShapeId),
    /// After an item, or while one is open above.
    Array {
        shape: ShapeId,
        n_items: u32,
    },
    /// After `{`.
    ObjectOpen(ShapeId),
    /// After a comma.
    MemberDue(Members),
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
    /// After the whole text.
    Done,
}

/// What an object holds so far.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Members {
    pub(crate) shape: ShapeId,
    /// The first declared property that may still come.
    pub(crate) next: u32,
    /// Hashes of the names beyond the declared ones.
    pub(crate) used: Option<Arc<[u64]>>,
}

/// A member's name in the making, after its opening quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    /// Where it stands among the declared names; `None` once it is none of them.
    pub(crate) declared: Option<LiteralNode>,
    /// Where it stands as a name of its own; `None` once it cannot be one.
    pub(crate) text: Option<Text>,
    /// Of its bytes. Two names with equal hashes count as equal, which refuses a name wrongly, if
    /// ever, and never lets one repeat.
    pub(crate) hash: u64,
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
        let mut hasher = DefaultHasher::new();
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
