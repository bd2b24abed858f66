//! Open values of the output, and the stacks they form.
//!
//! A stack is a value: its top frame inline, the rest a shared graph that is never changed. So a
//! matcher's history and the walk of a trie may hold stacks for the price of a reference.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use crate::json::number::Number;
use crate::json::shape::{GuardId, NodeId, ShapeId};
use crate::json::string::Body;
use crate::json::text::{BOUNDARY, Text};
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
        /// Apart, for most frames are none.
        name: Box<Name>,
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

impl Frame {
    /// The object of a name that may be a declared one, and where it stands among these.
    pub(crate) fn as_declared_name(&self) -> Option<(&Members, LiteralNode)> {
        match self {
            Self::Name { members, name } => Some((members, name.declared?)),
            _ => None,
        }
    }

    /// Whether it is a name that may be none of the declared ones.
    pub(crate) fn is_other_name(&self) -> bool {
        matches!(self, Self::Name { name, .. } if name.other.is_some())
    }

    /// Whether the end of a value within this one depends on the value's text.
    pub(crate) fn asks_for_text(&self) -> bool {
        match self {
            Self::Guard { .. } => true,
            Self::Array(items) => items.different.is_some(),
            _ => false,
        }
    }
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
    /// Whether the exception that one of them must be came.
    pub(crate) excepted: bool,
    /// The names beyond the declared ones, if any.
    pub(crate) used: Option<Used>,
}

/// Names that came.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Used {
    /// As they are spelled, ascending.
    pub(crate) names: Arc<[Arc<[u8]>]>,
    /// Whether one of them is *final*, the beginning of no other: then not even its last byte may come again.
    pub(crate) any_final: bool,
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

impl Name {
    /// A declared name as far as a node.
    pub(crate) fn declared(node: LiteralNode) -> Self {
        Self {
            declared: Some(node),
            other: None,
            written: SmallVec::new(),
        }
    }
}

/// A name that is not declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Other {
    pub(crate) text: Text,
    /// Of the automaton of names, if there is one.
    pub(crate) state: DfaState,
}

impl Other {
    /// Before its first byte, in the first state of the automaton.
    pub(crate) fn at(start: DfaState) -> Self {
        Self {
            text: BOUNDARY,
            state: start,
        }
    }
}

/// What is open around a value: in one way or, where parses agree on all that is above, in several.
///
/// So the parses of an output are a graph-structured stack (Tomita, Efficient Parsing for Natural
/// Language, 1985): what is above is followed once, however many ways there are below.
#[derive(Debug)]
pub(crate) struct Outer {
    /// Never none; ascending by their frames' hashes, all frames different.
    pub(crate) links: SmallVec<[Link; 1]>,
    /// Fewest bytes from the end of the value above to the end of the text.
    pub(crate) cost: usize,
    /// Arrays and objects that are open: as many in each way.
    pub(crate) depth: u32,
    /// Whether in some way a value is open that is judged when it is whole.
    is_judged: bool,
    hash: u64,
}

/// One value that may be open around another.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) frame: Frame,
    /// What is around it; `None` around the whole text.
    pub(crate) outer: Option<Arc<Outer>>,
    /// Fewest bytes to the end of the text.
    pub(crate) cost: usize,
    frame_hash: u64,
}

/// What some outer graphs have become together. One is made for each step with parses to unite, and a seed of its own would
/// cost as much as what it is for.
type United = HashMap<SmallVec<[*const Outer; 2]>, Arc<Outer>, FixedState>;

impl Outer {
    /// Around a whole text.
    pub(crate) fn end() -> Arc<Self> {
        Self::one(Frame::Done, None, 0)
    }

    /// One value, whose own end is `own_cost` bytes away.
    pub(crate) fn one(frame: Frame, outer: Option<Arc<Self>>, own_cost: usize) -> Arc<Self> {
        let link = Link {
            frame_hash: FixedState::default().hash_one(&frame),
            cost: own_cost.saturating_add(outer.as_ref().map_or(0, |outer| outer.cost)),
            frame,
            outer,
        };
        Self::of(SmallVec::from_buf([link]))
    }

    /// Some values side by side.
    pub(crate) fn of(links: SmallVec<[Link; 1]>) -> Arc<Self> {
        let mut hasher = FixedState::default().build_hasher();
        for link in &links {
            link.frame_hash.hash(&mut hasher);
            link.outer
                .as_ref()
                .map(|outer| outer.hash)
                .hash(&mut hasher);
        }
        debug_assert!(links.iter().all(|link| link.depth() == links[0].depth()));
        Arc::new(Self {
            cost: links
                .iter()
                .map(|link| link.cost)
                .min()
                .unwrap_or(usize::MAX),
            depth: links.first().map_or(0, Link::depth),
            is_judged: links.iter().any(Link::is_judged),
            hash: hasher.finish(),
            links,
        })
    }

    /// All ways of some. What they share stays shared.
    fn union(mut all: SmallVec<[Arc<Self>; 2]>, united: &mut United) -> Arc<Self> {
        all.sort_unstable_by_key(|outer| outer.hash);
        all.dedup();
        if all.len() == 1 {
            return all.remove(0);
        }
        let key: SmallVec<[*const Self; 2]> = all.iter().map(Arc::as_ptr).collect();
        if let Some(known) = united.get(&key) {
            return Arc::clone(known);
        }
        let mut links: SmallVec<[&Link; 4]> = all.iter().flat_map(|outer| &outer.links).collect();
        links.sort_by_key(|link| link.frame_hash);
        let mut ways = SmallVec::with_capacity(links.len());
        for alike in links.chunk_by(|a, b| a.frame_hash == b.frame_hash) {
            if let [only] = alike {
                ways.push(Link::clone(only));
                continue;
            }
            let mut rest: SmallVec<[&Link; 4]> = SmallVec::from_slice(alike);
            while let Some(&first) = rest.first() {
                let is_same = |link: &&Link| link.frame == first.frame;
                let (same, others) = rest.into_iter().partition::<SmallVec<_>, _>(is_same);
                ways.push(Link::union(&same, united));
                rest = others;
            }
        }
        let union = Self::of(ways);
        united.insert(key, Arc::clone(&union));
        union
    }
}

impl Link {
    /// The stack once the value within has ended.
    pub(crate) fn as_stack(&self) -> Stack {
        Stack {
            top: self.frame.clone(),
            outer: self.outer.clone(),
        }
    }

    fn depth(&self) -> u32 {
        let around = self.outer.as_ref().map_or(0, |outer| outer.depth);
        match self.frame {
            Frame::Guard { .. } | Frame::Done => around,
            _ => around + 1,
        }
    }

    fn is_judged(&self) -> bool {
        let around = self.outer.as_ref().is_some_and(|outer| outer.is_judged);
        around || self.frame.asks_for_text()
    }

    /// The ways of some with equal frames.
    fn union(all: &[&Self], united: &mut United) -> Self {
        let link = all[0].clone();
        if all.len() == 1 {
            return link;
        }
        let outers: SmallVec<_> = all.iter().filter_map(|link| link.outer.clone()).collect();
        let costs = all.iter().map(|link| link.cost);
        Self {
            cost: costs.min().unwrap_or(link.cost),
            outer: (!outers.is_empty()).then(|| Outer::union(outers, united)),
            ..link
        }
    }
}

impl PartialEq for Outer {
    fn eq(&self, other: &Self) -> bool {
        are_equal(self, other, &mut Compared::default())
    }
}

impl Eq for Outer {}

/// Pairs of nodes.
type Compared = HashSet<(*const Outer, *const Outer), FixedState>;

/// Compares each pair of nodes once: paths may be many more.
fn are_equal(left: &Outer, right: &Outer, seen: &mut Compared) -> bool {
    std::ptr::eq(left, right)
        || left.hash == right.hash
            && left.links.len() == right.links.len()
            && (!seen.insert((left, right))
                || left.links.iter().zip(&right.links).all(|(a, b)| {
                    a.frame == b.frame
                        && match (&a.outer, &b.outer) {
                            (Some(a), Some(b)) => are_equal(a, b, seen),
                            (a, b) => a.is_none() && b.is_none(),
                        }
                }))
}

/// Parses of the output so far that agree on the top value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stack {
    pub(crate) top: Frame,
    /// `None` after the whole text.
    pub(crate) outer: Option<Arc<Outer>>,
}

impl Stack {
    /// Fewest bytes from the end of the top value to the end of the text.
    pub(crate) fn outer_cost(&self) -> usize {
        self.outer.as_ref().map_or(0, |outer| outer.cost)
    }

    /// Whether no open value is judged when it is whole: only such a value can lead to where nothing may follow.
    pub(crate) fn is_settled(&self) -> bool {
        !self.outer.as_ref().is_some_and(|outer| outer.is_judged)
    }

    /// Adds the parses of other stacks with this top.
    pub(crate) fn unite(&mut self, others: impl Iterator<Item = Self>) {
        let own = self.outer.take();
        let all: SmallVec<_> = own
            .into_iter()
            .chain(others.filter_map(|stack| stack.outer))
            .collect();
        self.outer = (!all.is_empty()).then(|| Outer::union(all, &mut United::default()));
    }
}

impl Hash for Stack {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.top.hash(state);
        self.outer.as_ref().map(|outer| outer.hash).hash(state);
    }
}
