//! What a mask depends on: the top frame, and as much of the values open around it as was looked at.
//!
//! The tokens that may come next are found by walking a trie of tokens, and most walks never leave
//! the value they start in: the mask of a member's name is the same in every item of an array, of a
//! number the same in every object that may go on after it. So a walk notes how far outward it
//! looked and what it asked there ([`Reads`]), and its mask is remembered for every stack that
//! agrees on that much. A stack that agrees would have made the same walk.
//!
//! The names beyond the declared ones that came are left out of it: what they forbid is taken from
//! the mask afterwards, unless a token holds one of them whole.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use smallvec::SmallVec;

use crate::json::frame::{Frame, Items, Members, Name, Other, Outer, Stack, Used};
use crate::json::machine::Parser;
use crate::json::shape::{NodeId, ShapeId, Tables};
use crate::json::string::InteriorKey;
use crate::literals::LiteralNode;
use crate::memo::Reach;
use crate::trie::TokenTrie;
use crate::{TokenId, Vocabulary};

/// Bytes of bookkeeping an entry, beside its mask.
const ENTRY_BYTES: usize = 256;

/// The most masks of a memo: a table of three times as many takes a millisecond and more to grow.
const MAX_MASKS: usize = 3584;

/// Values around a stack up to which its masks are remembered.
const MAX_AROUND: usize = 128;

/// Declared names up to which a name's key lists those that it may become.
const MAX_LISTED: usize = 8;

/// How far outward a walk looked, and whether it asked for the text of the output, on which no mask
/// that is remembered may depend. The places of a stack are counted from the outermost value, 1; 0
/// is the end of the text. Guards have none: a walk that asks one depends on the text.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reads {
    /// The place of the top frame that the walk began with.
    base: u32,
    /// The outermost place looked at.
    lowest: u32,
    /// Whether an object around was asked for more than its [`Outlook`], and the same of the object that
    /// the walk began in.
    members: bool,
    own_members: bool,
    /// Whether the walk began after a name, or in one: the member that it makes is counted beforehand.
    counted: Counted,
    /// Names that came in the object of the name that the walk began in.
    n_names: Option<usize>,
    /// Whether a name was compared with those that came in the object that the walk began in.
    own_names: bool,
    /// Whether the text so far was asked.
    text: bool,
}

/// The member that a walk's first name at the place of its top makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Counted {
    #[default]
    None,
    /// The name is open.
    Open,
    /// The walk began after it.
    Closed,
}

impl Reads {
    /// Before a walk from a stack.
    pub(crate) fn begin(&mut self, stack: &Stack) {
        let n_names = match &stack.top {
            Frame::Name { members, .. } => Some(members.used_names().len()),
            _ => None,
        };
        *self = Self {
            base: place(stack.outer.as_ref()),
            lowest: u32::MAX,
            members: false,
            own_members: false,
            counted: match stack.top {
                Frame::Name { .. } => Counted::Open,
                Frame::Colon { .. } => Counted::Closed,
                _ => Counted::None,
            },
            n_names,
            own_names: false,
            text: false,
        };
    }

    /// Adds what a walk looked at that went on from `stack`: in the object that this one began in, or in the
    /// value around that.
    pub(crate) fn add(&mut self, further: &Self, stack: &Stack) {
        let base = place(stack.outer.as_ref());
        if further.lowest != u32::MAX {
            self.lowest = self.lowest.min(base + further.lowest - further.base);
        }
        self.members |= further.members;
        // A member that the other walk knew beforehand, and this one does not.
        if further.counted == Counted::Closed && further.lowest <= further.base {
            self.asked_member(base);
        }
        match base == self.base {
            true => {
                self.own_members |= further.own_members;
                self.own_names |= further.own_names;
            }
            false => self.members |= further.own_members,
        }
    }

    /// Whether a name was compared with those that came in the object that the walk began in.
    pub(crate) fn own_names(&self) -> bool {
        self.own_names
    }

    /// The text so far was asked, or the names that came.
    pub(crate) fn text(&mut self) {
        self.text = true;
    }

    /// Whether the text was asked since this was asked last.
    pub(crate) fn take_text(&mut self) -> bool {
        std::mem::take(&mut self.text)
    }

    /// A value has ended, and what is around it matters.
    pub(crate) fn ended_into(&mut self, outer: Option<&Arc<Outer>>) {
        self.lowest = self.lowest.min(place(outer) - 1);
    }

    /// The object at `place` was asked for a declared name.
    pub(crate) fn members(&mut self, place: u32) {
        self.members |= place < self.base;
        self.own_members |= place == self.base;
    }

    /// A name was closed in the object at `place`: its member counts once the value begins, and then
    /// that object's outlook is another.
    pub(crate) fn closed_name(&mut self, place: u32) {
        let is_first = match self.counted {
            Counted::None => return,
            Counted::Open => self.lowest > self.base,
            Counted::Closed => false,
        };
        self.own_members |= place == self.base && !is_first;
    }

    /// The value of a name in the object at `place` begins, or it was asked whether a declared name may
    /// come there. What begins in the name knows.
    pub(crate) fn asked_member(&mut self, place: u32) {
        if self.counted == Counted::None || place != self.base {
            self.members(place);
        }
    }

    /// A name was compared with those that came in the object at `place`. If the one that the walk
    /// began in is among them, only the text tells which that is.
    pub(crate) fn name(&mut self, place: u32, members: &Members) {
        self.own_names |= place == self.base;
        let is_own =
            place == self.base && self.n_names.is_some_and(|n| members.used_names().len() > n);
        self.text |= is_own;
    }
}

/// The place of a value within `outer`.
pub(crate) fn place(outer: Option<&Arc<Outer>>) -> u32 {
    outer.map_or(0, |outer| outer.depth) + 1
}

/// The part of a stack that every walk from it depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Top {
    Frame(Frame),
    /// A string: what its inside depends on, and the code points still due.
    String {
        interior: InteriorKey,
        shape: ShapeId,
        due: u32,
    },
    /// After a name.
    Colon(NodeId),
    /// After a member, or, with or without a space, after a comma.
    Object {
        outlook: Outlook,
        due: Option<bool>,
    },
    /// A name, without the members that it does not speak of.
    Name {
        shape: ShapeId,
        declared: Option<LiteralNode>,
        other: Option<Other>,
        came: Came,
    },
}

/// Which declared names may still be meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Came {
    /// These.
    Open(SmallVec<[u32; MAX_LISTED]>),
    /// Those that have not come.
    Not(Members),
}

/// What most walks ask of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Outlook {
    may_close: bool,
    /// The shapes as which one more member may come, and whether its name may be none of the declared ones.
    ways: SmallVec<[(ShapeId, bool); 2]>,
    /// Names that came, where tokens may depend on them.
    used: Option<Used>,
}

/// What a walk may have asked a value around the top.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Around {
    /// Nothing: the end of the text.
    End,
    Array(Items),
    Object(Outlook),
    Members(Members),
    /// A guard, and whatever it is in.
    Guard,
    /// Another value that may be the one so many places outward from the top.
    Or(usize),
    /// How much further from the end of the text the value before it is than the nearest: distances
    /// depend on it.
    Further(usize),
}

/// The values around a stack, from the innermost outward.
type Surroundings = SmallVec<[Around; 2]>;

/// What a walk found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) reach: Reach,
    /// Tokens that it did not follow to their ends, for the text of the output was asked.
    pub(crate) undecided: Vec<TokenId>,
}

impl Found {
    /// Nothing yet, with distances if they are `measured`.
    pub(crate) fn new(vocabulary: &Vocabulary, measured: bool) -> Self {
        Self {
            reach: Reach::new(vocabulary, measured),
            undecided: Vec::new(),
        }
    }

    /// What another walk found, which looked for no distances.
    pub(crate) fn from(known: &Known) -> Self {
        let undecided = known.undecided.as_ref();
        Self {
            reach: Reach {
                mask: known.reach.mask.clone(),
                ..*known.reach
            },
            undecided: undecided.map_or_else(Vec::new, |trie| trie.tokens().to_vec()),
        }
    }

    /// Adds what another walk found.
    pub(crate) fn add(&mut self, known: &Known) {
        self.reach.mask.union(&known.reach.mask);
        let undecided = known.undecided.iter();
        self.undecided
            .extend(undecided.flat_map(|trie| trie.tokens()));
    }

    /// Takes a token out again.
    pub(crate) fn forbid(&mut self, token: TokenId) {
        self.reach.mask.forbid(token);
        self.undecided.retain(|&other| other != token);
    }
}

/// A vocabulary, whether distances are measured, and a top.
type TopKey = (u64, bool, Top);

/// Masks by what they depend on. When full it forgets the oldest: see [`crate::memo::MaskMemo`].
#[derive(Debug)]
pub(crate) struct ContextMemo {
    entries: HashMap<TopKey, Entry>,
    /// The keys of the masks, oldest first.
    order: VecDeque<(TopKey, Surroundings)>,
    n_bytes: usize,
    max_bytes: usize,
}

/// The masks of one top.
#[derive(Debug, Default)]
struct Entry {
    /// How many of the values around any walk looked at.
    n_around: usize,
    /// Whether any walk from a name came back to its own object.
    own: bool,
    /// Whether any walk asked for the members of its own object, and of an object around.
    own_members: bool,
    members: bool,
    masks: HashMap<Surroundings, Known>,
}

/// A mask, and what the values around cost in the stack that it was found for.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    reach: Arc<Reach>,
    /// The tokens that depend on the text of the output, too.
    undecided: Option<Arc<TokenTrie>>,
    reads: Reads,
    outer_cost: usize,
}

impl Known {
    pub(crate) fn new(found: Found, vocabulary: &Vocabulary, stack: &Stack, reads: Reads) -> Self {
        let Found {
            mut reach,
            undecided,
        } = found;
        reach.mask.share();
        let undecided = (!undecided.is_empty()).then(|| Arc::new(vocabulary.trie_of(&undecided)));
        Self {
            undecided,
            ..Self::of(Arc::new(reach), stack, reads)
        }
    }

    /// Where nothing is undecided.
    pub(crate) fn of(reach: Arc<Reach>, stack: &Stack, reads: Reads) -> Self {
        Self {
            reach,
            undecided: None,
            reads,
            outer_cost: stack.outer_cost(),
        }
    }

    pub(crate) fn undecided(&self) -> Option<&Arc<TokenTrie>> {
        self.undecided.as_ref()
    }

    /// What the walk looked at.
    pub(crate) fn reads(&self) -> &Reads {
        &self.reads
    }

    pub(crate) fn reach(&self) -> &Arc<Reach> {
        &self.reach
    }

    /// Fewest bytes to completion after the best token, in another stack.
    pub(crate) fn nearest(&self, stack: &Stack) -> usize {
        self.moved(self.reach.nearest, stack)
    }

    /// The same after the worst of them.
    pub(crate) fn furthest(&self, stack: &Stack) -> usize {
        self.moved(self.reach.furthest, stack)
    }

    fn moved(&self, distance: usize, stack: &Stack) -> usize {
        match distance {
            usize::MAX => usize::MAX,
            distance => (distance + stack.outer_cost()).saturating_sub(self.outer_cost),
        }
    }
}

impl ContextMemo {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            entries: HashMap::new(),
            order: VecDeque::new(),
            n_bytes: 0,
            max_bytes,
        }
    }

    /// Heap bytes.
    pub(crate) fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// The mask of a stack, with distances if they are `measured`.
    pub(crate) fn get(
        &self,
        vocabulary: &Vocabulary,
        measured: bool,
        stack: &Stack,
        parser: &Parser,
    ) -> Option<Known> {
        let top = Top::of(stack, measured, parser, vocabulary);
        let entry = self.entries.get(&(vocabulary.id(), measured, top))?;
        let around = entry.around(stack, &parser.tables, vocabulary, measured)?;
        entry.masks.get(&around).cloned()
    }

    /// Remembers a mask that a walk found.
    pub(crate) fn insert(
        &mut self,
        vocabulary: &Vocabulary,
        stack: &Stack,
        parser: &Parser,
        known: &Known,
    ) {
        let reads = known.reads;
        let measured = known.reach.measured;
        let top = Top::of(stack, measured, parser, vocabulary);
        let key = (vocabulary.id(), measured, top);
        let entry = self.entries.entry(key.clone()).or_default();
        entry.n_around = entry
            .n_around
            .max(reads.base.saturating_sub(reads.lowest) as usize);
        entry.own |= reads.lowest <= reads.base;
        entry.own_members |= reads.own_members || measured;
        entry.members |= reads.members || measured;
        let Some(around) = entry.around(stack, &parser.tables, vocabulary, measured) else {
            if entry.masks.is_empty() {
                self.entries.remove(&key);
            }
            return;
        };
        self.n_bytes += entry_bytes(&around, known);
        match entry.masks.insert(around.clone(), known.clone()) {
            Some(before) => self.n_bytes -= entry_bytes(&around, &before),
            None => self.order.push_back((key, around)),
        }
        self.shrink();
    }

    /// Forgets the oldest masks until the limits are kept, and tops without any.
    fn shrink(&mut self) {
        while self.n_bytes > self.max_bytes || self.order.len() > MAX_MASKS {
            let (key, around) = self.order.pop_front().expect("what counts bytes is listed");
            let entry = self
                .entries
                .get_mut(&key)
                .expect("a top has its entry while it has masks");
            let forgotten = entry
                .masks
                .remove(&around)
                .expect("what is listed is there");
            self.n_bytes -= entry_bytes(&around, &forgotten);
            if entry.masks.is_empty() {
                self.entries.remove(&key);
            }
        }
    }
}

fn entry_bytes(around: &[Around], known: &Known) -> usize {
    let keys = 2 * (size_of::<TopKey>() + size_of_val(around));
    known.reach.mask.n_bytes() + keys + ENTRY_BYTES
}

impl Top {
    /// Distances depend on all of the top frame; tokens on less.
    fn of(stack: &Stack, measured: bool, parser: &Parser, vocabulary: &Vocabulary) -> Self {
        let tables = &parser.tables;
        match &stack.top {
            Frame::Array(items) => {
                Self::Frame(Frame::Array(tables.array(items.shape).relevant(items)))
            }
            top if measured => Self::Frame(top.clone()),
            Frame::String { shape, body } => {
                let strings = tables.string(*shape);
                let longest = vocabulary.longest();
                let automata = &parser.verdicts.patterns.automata;
                Self::String {
                    interior: strings.interior_key(*shape, body, longest, automata),
                    shape: *shape,
                    due: strings.min.saturating_sub(body.count).min(longest as u32),
                }
            }
            Frame::Colon { value, .. } => Self::Colon(*value),
            Frame::Object(members) => Self::Object {
                outlook: Outlook::of(members, tables),
                due: None,
            },
            Frame::MemberDue { members, space } => Self::Object {
                outlook: Outlook::due(members, tables),
                due: Some(*space),
            },
            Frame::Name { members, name } if members.used.is_none() => {
                Self::name(members, name, tables)
            }
            top => Self::Frame(top.clone()),
        }
    }

    fn name(members: &Members, name: &Name, tables: &Tables) -> Self {
        let object = tables.object(members.shape);
        let came = match name.declared {
            None => Came::Open(SmallVec::new()),
            Some(node) if object.names.below(node).len() <= MAX_LISTED => {
                Came::Open(object.reachable(node, members).collect())
            }
            Some(_) => Came::Not(members.clone()),
        };
        Self::Name {
            shape: members.shape,
            declared: name.declared,
            other: name.other,
            came,
        }
    }
}

impl Members {
    /// Without the names that came, if they are [no matter](Self::asks_for_used).
    fn relevant(&self, vocabulary: &Vocabulary) -> Self {
        Self {
            used: self.relevant_used(vocabulary),
            ..self.clone()
        }
    }

    /// The names that came; if they are no matter, only whether one is final, for then names are compared with them as they
    /// are begun.
    fn relevant_used(&self, vocabulary: &Vocabulary) -> Option<Used> {
        let is_asked = self.asks_for_used(vocabulary);
        let used = self.used.as_ref();
        let used = used.filter(|used| is_asked || used.any_final).cloned();
        used.map(|used| Used {
            names: if is_asked { used.names } else { Arc::from([]) },
            any_final: used.any_final,
        })
    }

    /// Whether tokens that come to a name, and do not begin in it, may depend on the names that came: if
    /// one holds any of them whole, or a final one up to its last byte.
    fn asks_for_used(&self, vocabulary: &Vocabulary) -> bool {
        self.used.as_ref().is_some_and(|used| match used.any_final {
            true => vocabulary.begins_name(&used.names),
            false => vocabulary.holds_name(&used.names),
        })
    }
}

impl Outlook {
    fn of(members: &Members, tables: &Tables) -> Self {
        let way = |shape| (shape, tables.object(shape).allows_other(members));
        Self {
            may_close: tables.object(members.shape).may_close(members),
            ways: tables.ways_on(members).map(way).collect(),
            used: members.used.clone(),
        }
    }

    /// After a comma: what was asked before it is settled.
    fn due(members: &Members, tables: &Tables) -> Self {
        let allows_other = tables.object(members.shape).allows_other(members);
        Self {
            may_close: false,
            ways: SmallVec::from_slice(&[(members.shape, allows_other)]),
            used: members.used.clone(),
        }
    }
}

impl Stack {
    /// The stack with a name at its top that may yet be a declared one or another, as if it were none of
    /// the declared ones.
    pub(crate) fn as_other_name(&self) -> Option<Self> {
        let Frame::Name { members, name } = &self.top else {
            return None;
        };
        (name.other.is_some() && name.declared.is_some()).then(|| Self {
            top: Frame::Name {
                members: members.clone(),
                name: Box::new(Name {
                    declared: None,
                    ..Name::clone(name)
                }),
            },
            outer: self.outer.clone(),
        })
    }

    /// The stack as if no names beyond the declared ones had come in the object at its top: it lets
    /// more tokens come only if they end the name that is being written. `None` if there were none,
    /// or they matter to other tokens, too.
    pub(crate) fn without_used(&self, vocabulary: &Vocabulary) -> Option<Self> {
        let mut top = self.top.clone();
        let (Frame::Object(members)
        | Frame::MemberDue { members, .. }
        | Frame::Name { members, .. }) = &mut top
        else {
            return None;
        };
        if members.asks_for_used(vocabulary) {
            return None;
        }
        members.used.take()?;
        let outer = self.outer.clone();
        Some(Self { top, outer })
    }

    /// The same, or the stack as it is.
    pub(crate) fn relevant(self, vocabulary: &Vocabulary) -> Self {
        self.without_used(vocabulary).unwrap_or(self)
    }
}

impl Entry {
    /// What walks from this top depend on, of the values around it; `None` if that is much.
    fn around(
        &self,
        stack: &Stack,
        tables: &Tables,
        vocabulary: &Vocabulary,
        measured: bool,
    ) -> Option<Surroundings> {
        let mut key = Key {
            entry: self,
            tables,
            vocabulary,
            measured,
            around: SmallVec::new(),
        };
        match &stack.top {
            Frame::Colon { members, .. } if self.own && !self.own_members => {
                key.around.push(key.outlook(members));
            }
            Frame::Name { members, name } if self.own && !self.own_members => {
                key.after_name(members, name);
            }
            Frame::Name { members, .. } | Frame::Colon { members, .. } if self.own => {
                let members = members.relevant(vocabulary);
                key.around.push(Around::Members(members));
            }
            Frame::Object(members) | Frame::MemberDue { members, .. } if self.own_members => {
                key.around.push(Around::Members(members.clone()));
            }
            _ => {}
        }
        if let Some(outer) = &stack.outer {
            key.add(outer, 0)?;
        }
        Some(key.around)
    }
}

/// The values around a stack, as far outward as walks from its top look.
struct Key<'a> {
    entry: &'a Entry,
    tables: &'a Tables,
    vocabulary: &'a Vocabulary,
    measured: bool,
    around: Surroundings,
}

impl Key<'_> {
    /// Adds what is so many places outward, and what is around that; `None` if it is too much.
    fn add(&mut self, outer: &Outer, n_outward: usize) -> Option<()> {
        if n_outward == self.entry.n_around {
            return Some(());
        }
        for (idx, link) in outer.links.iter().enumerate() {
            if self.around.len() > MAX_AROUND {
                return None;
            }
            if idx > 0 {
                self.around.push(Around::Or(n_outward));
            }
            self.around.push(self.value(&link.frame));
            if self.measured && outer.links.len() > 1 {
                let further = link.cost.saturating_sub(outer.cost);
                self.around.push(Around::Further(further));
            }
            if let (Frame::Object(_) | Frame::Array(_), Some(outer)) = (&link.frame, &link.outer) {
                self.add(outer, n_outward + 1)?;
            }
        }
        Some(())
    }

    /// Adds what the object of an open name may be once that has its value.
    fn after_name(&mut self, members: &Members, name: &Name) {
        let object = self.tables.object(members.shape);
        let (whole, before) = self.tables.one_more(members);
        if name.other.is_some() {
            let after = self.outlook(&whole.counted_with_other(&before));
            self.around.push(after);
        }
        let Some(node) = name.declared else { return };
        if object.names.below(node).len() > MAX_LISTED {
            // Its top lists the members.
            return;
        }
        for idx in object.reachable(node, members) {
            let after = self.outlook(&whole.with(&before, idx));
            self.around.push(after);
        }
    }

    fn outlook(&self, members: &Members) -> Around {
        Around::Object(Outlook {
            used: members.relevant_used(self.vocabulary),
            ..Outlook::of(members, self.tables)
        })
    }

    fn value(&self, frame: &Frame) -> Around {
        match frame {
            Frame::Object(members) if self.entry.members => {
                Around::Members(members.relevant(self.vocabulary))
            }
            Frame::Object(members) => self.outlook(members),
            Frame::Array(items) => Around::Array(self.tables.array(items.shape).relevant(items)),
            Frame::Done => Around::End,
            _ => Around::Guard,
        }
    }
}
