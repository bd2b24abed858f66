//! Boolean combinations of automata: states are tuples of the parts' states, made when entered.
//!
//! A part that can no longer match stays in the tuple as dead, for its complement may still hold. So
//! unlike a [`Dfa`]'s, a tuple says nothing of what can follow. The parts' own distances bound it
//! from below: a tuple is never made where no part that must match still can. Where the bound is not
//! exact, the nearest accepting tuple is searched for when a tuple is first entered, and remembered.
//!
//! Source: P. Hart, N. Nilsson, B. Raphael, "A formal basis for the heuristic determination of
//! minimum cost paths", IEEE Transactions on Systems Science and Cybernetics 4(2), 1968.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use smallvec::SmallVec;

use crate::regex::dfa::{Dfa, DfaState};
use crate::regex::program::Program;
use crate::{GrammarError, Limits};

/// When a tuple accepts: a formula over which of its parts do.
#[derive(Clone, Debug)]
pub(crate) enum Formula {
    Part(usize),
    And(Vec<Formula>),
    Or(Vec<Formula>),
    Not(Box<Formula>),
}

impl Formula {
    pub(crate) fn holds(&self, accepting: u64) -> bool {
        match self {
            Self::Part(idx) => accepting >> idx & 1 == 1,
            Self::And(all) => all.iter().all(|f| f.holds(accepting)),
            Self::Or(any) => any.iter().any(|f| f.holds(accepting)),
            Self::Not(f) => !f.holds(accepting),
        }
    }

    /// The part that it is about, if it says nothing else.
    pub(crate) fn as_part(&self) -> Option<usize> {
        match self {
            Self::Part(idx) => Some(*idx),
            Self::And(parts) | Self::Or(parts) => match parts.as_slice() {
                [single] => single.as_part(),
                _ => None,
            },
            Self::Not(_) => None,
        }
    }

    /// Whether it holds whatever comes.
    fn always(&self, parts: &[Outlook]) -> bool {
        match self {
            Self::Part(idx) => parts[*idx].is_total,
            Self::And(all) => all.iter().all(|f| f.always(parts)),
            Self::Or(any) => any.iter().any(|f| f.always(parts)),
            Self::Not(f) => f.bound(parts).least == NEVER,
        }
    }

    /// How far it is from where it can hold, given what is known of each part.
    fn bound(&self, outlooks: &[Outlook]) -> Bound {
        match self {
            Self::Part(idx) => Bound {
                least: outlooks[*idx].distance,
                total: outlooks[*idx].distance,
                exact: true,
            },
            Self::And(parts) => {
                let mut all = Bound {
                    least: 0,
                    total: 0,
                    exact: parts.len() <= 1,
                };
                for part in parts {
                    let part = part.bound(outlooks);
                    if part.least == NEVER {
                        return Bound::NEVER;
                    }
                    all.least = all.least.max(part.least);
                    all.total = all.total.saturating_add(part.total);
                    all.exact &= part.exact;
                }
                all
            }
            Self::Or(parts) => {
                let mut nearest = Bound::NEVER;
                for part in parts {
                    let part = part.bound(outlooks);
                    // Of bounds alike, an exact one.
                    if (part.least, !part.exact) < (nearest.least, !nearest.exact) {
                        nearest = part;
                    }
                }
                nearest
            }
            Self::Not(part) if part.always(outlooks) => Bound::NEVER,
            Self::Not(_) => Bound {
                least: 0,
                total: 0,
                exact: false,
            },
        }
    }

    /// The parts of which it asks that they match, and those of which it asks that they do not, as
    /// bits: it holds as well with more of the former, and with fewer of the latter.
    fn asks(&self) -> (u64, u64) {
        match self {
            Self::Part(idx) => (1 << idx, 0),
            Self::And(parts) | Self::Or(parts) => parts
                .iter()
                .map(Self::asks)
                .fold((0, 0), |(matched, unmatched), (more, less)| {
                    (matched | more, unmatched | less)
                }),
            Self::Not(part) => {
                let (matched, unmatched) = part.asks();
                (unmatched, matched)
            }
        }
    }

    /// How often it names a part.
    fn n_leaves(&self) -> usize {
        match self {
            Self::Part(_) => 1,
            Self::And(parts) | Self::Or(parts) => parts.iter().map(Self::n_leaves).sum(),
            Self::Not(part) => part.n_leaves(),
        }
    }

    /// The formula with another in place of one part.
    pub(crate) fn with_part(&self, part: usize, other: &Self) -> Self {
        let each = |list: &[Self]| list.iter().map(|f| f.with_part(part, other)).collect();
        match self {
            Self::Part(idx) if *idx == part => other.clone(),
            Self::Part(idx) => Self::Part(*idx),
            Self::And(all) => Self::And(each(all)),
            Self::Or(any) => Self::Or(each(any)),
            Self::Not(f) => Self::Not(Box::new(f.with_part(part, other))),
        }
    }

    /// The formula over parts that begin at `offset`.
    pub(crate) fn shifted(&self, offset: usize) -> Self {
        let shift = |list: &[Self]| list.iter().map(|f| f.shifted(offset)).collect();
        match self {
            Self::Part(idx) => Self::Part(idx + offset),
            Self::And(all) => Self::And(shift(all)),
            Self::Or(any) => Self::Or(shift(any)),
            Self::Not(f) => Self::Not(Box::new(f.shifted(offset))),
        }
    }
}

/// What is known of a part in some state.
#[derive(Clone, Copy)]
struct Outlook {
    /// How far a match is, `NEVER` if there is none.
    distance: u64,
    /// Whether every text matches.
    is_total: bool,
}

/// How far a formula is from where it can hold, in bytes or what else distances are counted in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    /// At least so far.
    pub(crate) least: u64,
    /// How far the parts that must match are, one after the other: what is left to do.
    pub(crate) total: u64,
    /// Whether it is as near as that.
    pub(crate) exact: bool,
}

impl Outlook {
    /// Of a part that can no longer match.
    const DEAD: Self = Self {
        distance: NEVER,
        is_total: false,
    };
}

impl Bound {
    const NEVER: Self = Self {
        least: NEVER,
        total: NEVER,
        exact: true,
    };

    /// Of what is known.
    pub(crate) fn exactly(distance: u64) -> Self {
        Self {
            least: distance,
            total: 0,
            exact: true,
        }
    }
}

/// The distance of what cannot match.
pub(crate) const NEVER: u64 = u64::MAX;

/// The most parts of a product: the bits of a set.
pub(crate) const MAX_PARTS: usize = 64;

/// Leaves of a formula that are looked at in the time of an automaton's step.
const LEAVES_A_STEP: usize = 8;

const DEAD: u32 = u32::MAX;
const UNKNOWN: u32 = u32::MAX - 1;

/// A combination of automata.
#[derive(Debug)]
pub(crate) struct Product {
    parts: Vec<Dfa>,
    accept: Formula,
    n_leaves: usize,
    asks: (u64, u64),
    /// Asked for beside whether a tuple accepts.
    marks: Vec<Formula>,
    /// Byte to class, as fine as every part needs. [256]
    classes: Box<[u16; 256]>,
    /// A byte of each class.
    representatives: Vec<u8>,
    /// Successor by state and class, live or not. [n_states, n_classes]
    table: Vec<u32>,
    states: Vec<Tuple>,
    ids: HashMap<Box<[u32]>, DfaState>,
    /// The tuple that is looked for, the one before, and the state of that.
    looked_for: Vec<u32>,
    last: (Vec<u32>, u32),
    /// Whether nothing matches once no part can: most bytes that a pattern does not take lead there.
    needs_a_part: bool,
    max_states: usize,
    n_searches: u32,
    /// The longest of the distances found so far.
    furthest: u32,
    n_visited: usize,
    max_visited: usize,
}

/// A tuple that a search is to go on from: the order in which that is its turn, how far it is from the start, and whether
/// what lies straight ahead was reached before.
type Open = (Reverse<(u32, u64)>, u32, DfaState, bool);

/// Words that have not come.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    pub(crate) words: Vec<Box<[u8]>>,
    /// What is left to write of those that are half written.
    pub(crate) ends: Vec<Box<[u8]>>,
}

#[derive(Debug)]
struct Tuple {
    parts: Box<[u32]>,
    accepting: bool,
    bound: Bound,
    /// The same exactly; `UNKNOWN` until asked, `DEAD` for never.
    distance: u32,
    /// The search that last found it, how far from its start, and from which tuple.
    search: u32,
    depth: u32,
    from: DfaState,
}

impl Product {
    /// The combination and its first state; no state if it matches nothing.
    pub(crate) fn new(
        parts: Vec<(Dfa, DfaState)>,
        accept: Formula,
        marks: Vec<Formula>,
        limits: &Limits,
    ) -> Result<(Self, Option<DfaState>), GrammarError> {
        if parts.len() > MAX_PARTS {
            return Err(over("parts", MAX_PARTS));
        }
        let (parts, starts): (Vec<Dfa>, Vec<u32>) = parts.into_iter().unzip();
        let (classes, representatives) = classes(&parts);
        let none = vec![Outlook::DEAD; parts.len()];
        let mut product = Self {
            needs_a_part: accept.bound(&none).least == NEVER,
            looked_for: Vec::new(),
            last: (Vec::new(), DEAD),
            parts,
            n_leaves: accept.n_leaves(),
            asks: accept.asks(),
            accept,
            marks,
            classes,
            representatives,
            table: Vec::new(),
            states: Vec::new(),
            ids: HashMap::new(),
            max_states: limits.dfa_states,
            n_searches: 0,
            furthest: 0,
            n_visited: 0,
            max_visited: limits.compile_steps,
        };
        let start = product.intern(&starts)?;
        let is_live = start != DEAD && product.find_distance(start)? != DEAD;
        Ok((product, is_live.then_some(start)))
    }

    /// The automata that it is made of, with the work of a new operation granted.
    pub(crate) fn into_parts(mut self) -> Vec<Dfa> {
        self.refuel();
        self.parts
    }

    /// Steps of automata taken since the last call of [`Product::refuel`].
    pub(crate) fn n_visited(&self) -> usize {
        self.n_visited
    }

    /// The state after `byte`, or `None` where no match can follow.
    #[inline]
    pub(crate) fn step(
        &mut self,
        state: DfaState,
        byte: u8,
    ) -> Result<Option<DfaState>, GrammarError> {
        let next = self.successor(state, usize::from(self.classes[usize::from(byte)]))?;
        if next == DEAD {
            return Ok(None);
        }
        let distance = match self.states[next as usize].distance {
            UNKNOWN => self.find_distance(next)?,
            known => known,
        };
        Ok((distance != DEAD).then_some(next))
    }

    /// The tuple after `byte`, whether or not a match can follow; `None` where it is known that none
    /// can.
    pub(crate) fn enter(
        &mut self,
        state: DfaState,
        byte: u8,
    ) -> Result<Option<DfaState>, GrammarError> {
        let next = self.successor(state, usize::from(self.classes[usize::from(byte)]))?;
        let is_dead = |next: u32| next == DEAD || self.states[next as usize].distance == DEAD;
        Ok((!is_dead(next)).then_some(next))
    }

    pub(crate) fn refuel(&mut self) {
        self.n_visited = 0;
        self.parts.iter_mut().for_each(Dfa::refuel);
    }

    pub(crate) fn is_accepting(&self, state: DfaState) -> bool {
        self.states[state as usize].accepting
    }

    /// Whether all that may follow `other` plainly may follow `state`, too; see [`Dfa::covers`].
    pub(crate) fn covers(&self, state: DfaState, other: DfaState) -> bool {
        let [state, other] = [state, other].map(|state| &self.states[state as usize].parts);
        let (matched, unmatched) = self.asks;
        let parts = self.parts.iter().zip(state.iter().zip(other)).enumerate();
        parts.into_iter().all(|(idx, (part, (&state, &other)))| {
            let covers = |a, b| a == b || b == DEAD || a != DEAD && part.covers(a, b);
            (matched >> idx & 1 == 0 || covers(state, other))
                && (unmatched >> idx & 1 == 0 || covers(other, state))
        })
    }

    /// Whether its parts have many states, and tell no visible characters apart.
    pub(crate) fn is_of_words(&self) -> bool {
        self.parts.iter().all(|part| part.program().is_of_words)
    }

    /// The words that have not come, if all parts search for words and for nothing else.
    pub(crate) fn missing_words(
        &mut self,
        state: DfaState,
    ) -> Result<Option<Missing>, GrammarError> {
        let mut missing = Missing::default();
        for (part, &state) in self
            .parts
            .iter_mut()
            .zip(&self.states[state as usize].parts)
        {
            let program = Arc::clone(part.program());
            let Some(words) = program.words.as_ref().filter(|_| state != DEAD) else {
                return Ok(None);
            };
            if part.is_accepting(state) {
                continue;
            }
            for word in words {
                for end in (1..word.len()).map(|start| &word[start..]) {
                    let mut after = Some(state);
                    for &byte in end {
                        after = match after {
                            Some(state) => part.step(state, byte)?,
                            None => break,
                        };
                    }
                    if after.is_some_and(|state| part.is_accepting(state)) {
                        missing.ends.push(end.into());
                    }
                }
            }
            missing.words.extend(words.iter().cloned());
        }
        Ok(Some(missing))
    }

    /// Which of the marks hold, as bits.
    pub(crate) fn marks(&self, state: DfaState) -> u64 {
        let accepting = accepting(&self.parts, &self.states[state as usize].parts);
        let held = self
            .marks
            .iter()
            .enumerate()
            .filter(|(_, mark)| mark.holds(accepting));
        held.fold(0, |bits, (idx, _)| bits | 1 << idx)
    }

    /// Fewest bytes to a match, of a state that [`Product::step`] returned.
    pub(crate) fn distance(&self, state: DfaState) -> usize {
        self.states[state as usize].distance as usize
    }

    /// How far a match is in bytes, as far as it is known.
    pub(crate) fn outlook(&self, state: DfaState) -> Bound {
        let tuple = &self.states[state as usize];
        match tuple.distance {
            UNKNOWN => tuple.bound,
            DEAD => Bound::NEVER,
            known => Bound {
                least: known.into(),
                exact: true,
                ..tuple.bound
            },
        }
    }

    /// No more bytes lie between any state that was returned so far and its nearest match.
    pub(crate) fn furthest(&self) -> u32 {
        self.furthest
    }

    /// The compiled pattern of each part, the states of its NFA that a tuple stands for, and whether it is asked that it
    /// match.
    pub(crate) fn parts(&self, state: DfaState) -> impl Iterator<Item = (&Program, &[u32], bool)> {
        let each = self.parts.iter().zip(&self.states[state as usize].parts);
        each.enumerate().map(|(idx, (part, &state))| {
            let positions = match state {
                DEAD => &[],
                state => part.nfa_states(state),
            };
            (&**part.program(), positions, self.asks.0 >> idx & 1 == 1)
        })
    }

    /// How far a match is at least, given how far it is for each part, of which the NFA states are passed.
    pub(crate) fn bound(
        &self,
        state: DfaState,
        of_part: impl Fn(usize, &[u32], bool) -> u64,
    ) -> Bound {
        let each = self.parts.iter().zip(&self.states[state as usize].parts);
        let outlooks: SmallVec<[Outlook; 16]> = each
            .enumerate()
            .map(|(idx, (part, &state))| match state {
                DEAD => Outlook::DEAD,
                state => Outlook {
                    distance: of_part(idx, part.nfa_states(state), part.is_accepting(state)),
                    is_total: part.is_total(state),
                },
            })
            .collect();
        self.accept.bound(&outlooks)
    }

    /// Bytes of one class lead to the same states, from every state.
    pub(crate) fn class(&self, byte: u8) -> u16 {
        self.classes[usize::from(byte)]
    }

    /// Heap bytes, as far as it was built.
    pub(crate) fn n_bytes(&self) -> usize {
        let tuple_bytes = 2 * self.parts.len() * size_of::<u32>() + size_of::<Tuple>();
        let parts: usize = self.parts.iter().map(Dfa::n_bytes).sum();
        parts + self.table.len() * size_of::<u32>() + self.states.len() * tuple_bytes
    }

    #[inline]
    fn successor(&mut self, state: DfaState, class: usize) -> Result<u32, GrammarError> {
        let cell = state as usize * self.representatives.len() + class;
        match self.table[cell] {
            UNKNOWN => self.make_successor(state, class, cell),
            known => Ok(known),
        }
    }

    #[cold]
    fn make_successor(
        &mut self,
        state: DfaState,
        class: usize,
        cell: usize,
    ) -> Result<u32, GrammarError> {
        self.visit(self.parts.len())?;
        let byte = self.representatives[class];
        self.looked_for.clear();
        let parts = self
            .parts
            .iter_mut()
            .zip(&self.states[state as usize].parts);
        for (part, &state) in parts {
            self.looked_for.push(match state {
                DEAD => DEAD,
                state => part.step(state, byte)?.unwrap_or(DEAD),
            });
        }
        if self.looked_for != self.last.0 {
            let tuple = std::mem::take(&mut self.looked_for);
            let next = self.intern(&tuple)?;
            self.looked_for = std::mem::replace(&mut self.last, (tuple, next)).0;
        }
        self.table[cell] = self.last.1;
        Ok(self.last.1)
    }

    /// Whether half of the work of one operation is done.
    pub(crate) fn is_half_spent(&self) -> bool {
        self.n_visited > self.max_visited / 2
    }

    /// Takes steps from the work of one operation.
    pub(crate) fn visit(&mut self, n_steps: usize) -> Result<(), GrammarError> {
        self.n_visited += n_steps;
        match self.n_visited > self.max_visited {
            true => Err(over("compile_steps", self.max_visited)),
            false => Ok(()),
        }
    }

    /// The state for a tuple, made if it is new; `DEAD` where plainly no match can follow.
    fn intern(&mut self, parts: &[u32]) -> Result<u32, GrammarError> {
        if self.needs_a_part && parts.iter().all(|&state| state == DEAD) {
            return Ok(DEAD);
        }
        if let Some(&known) = self.ids.get(parts) {
            return Ok(known);
        }
        self.visit(self.n_leaves / LEAVES_A_STEP)?;
        let each = self.parts.iter().zip(parts);
        let outlooks: SmallVec<[Outlook; 16]> = each
            .map(|(part, &state)| match state {
                DEAD => Outlook::DEAD,
                state => Outlook {
                    distance: part.distance(state) as u64,
                    is_total: part.is_total(state),
                },
            })
            .collect();
        let bound = self.accept.bound(&outlooks);
        if bound.least == NEVER {
            return Ok(DEAD);
        }
        let id = self.states.len();
        if id >= self.max_states {
            return Err(over("dfa_states", self.max_states));
        }
        let cells = self.table.len() + self.representatives.len();
        self.table.resize(cells, UNKNOWN);
        let accepting = self.accept.holds(accepting(&self.parts, parts));
        let distance = match (accepting, bound.exact) {
            (true, _) => 0,
            (false, true) => bound.least as u32,
            (false, false) => UNKNOWN,
        };
        if distance != UNKNOWN {
            self.furthest = self.furthest.max(distance);
        }
        self.ids.insert(parts.into(), id as DfaState);
        self.states.push(Tuple {
            parts: parts.into(),
            accepting,
            bound,
            distance,
            search: 0,
            depth: 0,
            from: 0,
        });
        Ok(id as DfaState)
    }

    /// Searches forward from `start` for the nearest accepting tuple. What lies on the way to it
    /// learns its own distance; where there is none, everything that was seen is dead.
    pub(crate) fn find_distance(&mut self, start: DfaState) -> Result<u32, GrammarError> {
        let known = self.states[start as usize].distance;
        if known != UNKNOWN {
            return Ok(known);
        }
        self.n_searches += 1;
        let tuple = &mut self.states[start as usize];
        (tuple.search, tuple.depth) = (self.n_searches, 0);
        let mut found = Vec::new();
        // The least bytes in all come first, of these where the least is left to do: what must match
        // beside something long is so written early. Where a byte that a part waits for leads no further away than was
        // thought, the others wait until no tuple is nearer (partial expansion: Yoshizumi, Miura, Ishida, AAAI 2000).
        let mut queue = BinaryHeap::from([(Reverse((0, 0)), 0_u32, start, false)]);
        while let Some((order, depth, state, is_part_done)) = queue.pop() {
            if self.states[state as usize].distance != UNKNOWN {
                self.settle(start, state);
                return Ok(self.states[start as usize].distance);
            }
            if depth > self.states[state as usize].depth {
                continue;
            }
            if !is_part_done {
                found.push(state);
                let toward = self.toward_matches(state);
                self.visit(toward.len())?;
                let before = order.0;
                let mut is_nearer = false;
                for class in toward {
                    let next = self.reach(state, class, depth + 1)?;
                    is_nearer |= next.is_some_and(|next| next.0.0 <= before);
                    queue.extend(next);
                }
                if is_nearer {
                    queue.push((order, depth, state, true));
                    continue;
                }
            }
            self.visit(self.representatives.len())?;
            for class in 0..self.representatives.len() {
                let next = self.reach(state, class, depth + 1)?;
                queue.extend(next);
            }
        }
        for state in found {
            self.states[state as usize].distance = DEAD;
        }
        Ok(DEAD)
    }

    /// Goes on from a tuple in the search under way, to one at a depth, if that is nearer than before.
    fn reach(
        &mut self,
        state: DfaState,
        class: usize,
        depth: u32,
    ) -> Result<Option<Open>, GrammarError> {
        let next = self.successor(state, class)?;
        if next == DEAD {
            return Ok(None);
        }
        let tuple = &mut self.states[next as usize];
        let is_known = tuple.search == self.n_searches;
        if tuple.distance == DEAD || is_known && tuple.depth <= depth {
            return Ok(None);
        }
        (tuple.search, tuple.depth, tuple.from) = (self.n_searches, depth, state);
        let least = match tuple.distance {
            UNKNOWN => tuple.bound.least as u32,
            known => known,
        };
        let order = Reverse((depth + least, tuple.bound.total));
        Ok(Some((order, depth, next, false)))
    }

    /// Classes of bytes that bring some part nearer to a match that is asked for.
    fn toward_matches(&self, state: DfaState) -> SmallVec<[usize; 4]> {
        let each = self.parts.iter().zip(&self.states[state as usize].parts);
        let mut classes = SmallVec::new();
        for (idx, (part, &state)) in each.enumerate() {
            if self.asks.0 >> idx & 1 == 0 || state == DEAD {
                continue;
            }
            let class = part.nearer_byte(state);
            let class = class.map(|byte| usize::from(self.class(byte)));
            classes.extend(class.filter(|class| !classes.contains(class)));
        }
        classes
    }

    /// Notes the distances on the way from `start` to `end`, whose own is known.
    fn settle(&mut self, start: DfaState, end: DfaState) {
        let (mut state, mut distance) = (end, self.states[end as usize].distance);
        while state != start {
            state = self.states[state as usize].from;
            distance += 1;
            self.states[state as usize].distance = distance;
        }
        self.furthest = self.furthest.max(distance);
    }
}

/// Classes of bytes that no part tells apart, and a byte of each.
pub(crate) fn classes(parts: &[Dfa]) -> (Box<[u16; 256]>, Vec<u8>) {
    let mut classes = Box::new([0_u16; 256]);
    for part in parts {
        let mut known: HashMap<(u16, u8), u16> = HashMap::new();
        for byte in 0..=u8::MAX {
            let class = &mut classes[usize::from(byte)];
            let new = known.len() as u16;
            *class = *known.entry((*class, part.class(byte))).or_insert(new);
        }
    }
    let mut representatives = Vec::new();
    for byte in 0..=u8::MAX {
        if usize::from(classes[usize::from(byte)]) == representatives.len() {
            representatives.push(byte);
        }
    }
    (classes, representatives)
}

fn accepting(parts: &[Dfa], states: &[u32]) -> u64 {
    let bits = parts.iter().zip(states).enumerate();
    bits.filter(|(_, (part, state))| **state != DEAD && part.is_accepting(**state))
        .fold(0, |bits, (idx, _)| bits | 1 << idx)
}

fn over(limit: &'static str, allowed: usize) -> GrammarError {
    GrammarError::Limit {
        what: "the combination of patterns".into(),
        limit,
        allowed,
    }
}
