//! Boolean combinations of automata: states are tuples of the parts' states, made when entered.
//!
//! A part that can no longer match stays in the tuple as dead, for its complement may still hold. So
//! unlike a [`Dfa`]'s, a tuple says nothing of what can follow: whether some accepting tuple is
//! reachable is found by a search forward when a tuple is first entered, and remembered.

use std::collections::VecDeque;

use foldhash::{HashMap, HashMapExt, HashSet};

use crate::regex::dfa::{Dfa, DfaState};
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

/// Formulas asked for beside whether a tuple accepts; those that hold decide on it too.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    pub(crate) formulas: Vec<Formula>,
    /// Sets of formulas, as bits: a tuple accepts only if exactly one of these holds.
    pub(crate) accepted: HashSet<u64>,
}

impl Marks {
    fn held(&self, accepting: u64) -> u64 {
        let each = self.formulas.iter().enumerate();
        each.filter(|(_, formula)| formula.holds(accepting))
            .fold(0, |bits, (idx, _)| bits | 1 << idx)
    }
}

/// The most parts of a product: the bits of a set.
pub(crate) const MAX_PARTS: usize = 64;

const DEAD: u32 = u32::MAX;
const UNKNOWN: u32 = u32::MAX - 1;

/// A combination of automata.
#[derive(Debug)]
pub(crate) struct Product {
    parts: Vec<Dfa>,
    accept: Formula,
    marks: Option<Marks>,
    /// Byte to class, as fine as every part needs. [256]
    classes: Box<[u16; 256]>,
    /// A byte of each class.
    representatives: Vec<u8>,
    /// Successor by state and class, live or not. [n_states, n_classes]
    table: Vec<u32>,
    states: Vec<Tuple>,
    ids: HashMap<Box<[u32]>, DfaState>,
    max_states: usize,
    n_visited: usize,
    max_visited: usize,
}

#[derive(Debug)]
struct Tuple {
    parts: Box<[u32]>,
    accepting: bool,
    /// Fewest bytes to an accepting tuple; `UNKNOWN` until asked, `DEAD` for never.
    distance: u32,
}

impl Product {
    /// The combination and its first state; `None` if it matches nothing. The first part must be live in
    /// every live tuple, which bounds what is searched.
    pub(crate) fn new(
        parts: Vec<(Dfa, DfaState)>,
        accept: Formula,
        limits: &Limits,
    ) -> Result<Option<(Self, DfaState)>, GrammarError> {
        Self::unsearched(parts, accept, None, limits)?.searched()
    }

    /// The same, of tuples that `marks` accept too.
    pub(crate) fn marked(
        parts: Vec<(Dfa, DfaState)>,
        accept: Formula,
        marks: Marks,
        limits: &Limits,
    ) -> Result<Option<(Self, DfaState)>, GrammarError> {
        Self::unsearched(parts, accept, Some(marks), limits)?.searched()
    }

    /// The sets of marks that hold of some text of the first part; `None` if finding them costs
    /// more than a limit.
    pub(crate) fn sets(
        parts: Vec<(Dfa, DfaState)>,
        marks: Marks,
        limits: &Limits,
    ) -> Result<Option<Vec<u64>>, GrammarError> {
        let mut product = Self::unsearched(parts, Formula::Part(0), Some(marks), limits)?;
        let mut state = 0;
        while state < product.states.len() {
            for class in 0..product.representatives.len() {
                match product.successor(state as DfaState, class) {
                    Ok(_) => {}
                    Err(GrammarError::Limit { .. }) => return Ok(None),
                    Err(error) => return Err(error),
                }
            }
            state += 1;
        }
        let mut sets: Vec<u64> = (0..product.states.len() as u32)
            .filter(|&state| product.parts[0].is_accepting(product.states[state as usize].parts[0]))
            .map(|state| product.marks(state))
            .collect();
        sets.sort_unstable();
        sets.dedup();
        Ok(Some(sets))
    }

    fn searched(mut self) -> Result<Option<(Self, DfaState)>, GrammarError> {
        Ok((self.find_distance(0)? != DEAD).then_some((self, 0)))
    }

    fn unsearched(
        parts: Vec<(Dfa, DfaState)>,
        accept: Formula,
        marks: Option<Marks>,
        limits: &Limits,
    ) -> Result<Self, GrammarError> {
        if parts.len() > MAX_PARTS {
            return Err(over("parts", MAX_PARTS));
        }
        let (parts, starts): (Vec<Dfa>, Vec<u32>) = parts.into_iter().unzip();
        let mut classes = Box::new([0; 256]);
        let mut representatives = Vec::new();
        let mut known: HashMap<Vec<u8>, u16> = HashMap::new();
        for byte in 0..=u8::MAX {
            let key: Vec<u8> = parts.iter().map(|part| part.class(byte)).collect();
            let class = *known.entry(key).or_insert_with(|| {
                representatives.push(byte);
                representatives.len() as u16 - 1
            });
            classes[usize::from(byte)] = class;
        }
        let mut product = Self {
            parts,
            accept,
            marks,
            classes,
            representatives,
            table: Vec::new(),
            states: Vec::new(),
            ids: HashMap::new(),
            max_states: limits.dfa_states,
            n_visited: 0,
            max_visited: limits.compile_steps,
        };
        product.intern(starts.into())?;
        Ok(product)
    }

    /// The state after `byte`, or `None` where no match can follow.
    pub(crate) fn step(
        &mut self,
        state: DfaState,
        byte: u8,
    ) -> Result<Option<DfaState>, GrammarError> {
        let next = self.successor(state, usize::from(self.classes[usize::from(byte)]))?;
        if next == DEAD || self.find_distance(next)? == DEAD {
            return Ok(None);
        }
        Ok(Some(next))
    }

    pub(crate) fn refuel(&mut self) {
        self.n_visited = 0;
        self.parts.iter_mut().for_each(Dfa::refuel);
    }

    pub(crate) fn is_accepting(&self, state: DfaState) -> bool {
        self.states[state as usize].accepting
    }

    /// Which of the marks hold, as bits.
    pub(crate) fn marks(&self, state: DfaState) -> u64 {
        let accepting = accepting(&self.parts, &self.states[state as usize].parts);
        self.marks.as_ref().map_or(0, |marks| marks.held(accepting))
    }

    /// Fewest bytes to a match, of a state that [`Product::step`] returned.
    pub(crate) fn distance(&self, state: DfaState) -> usize {
        self.states[state as usize].distance as usize
    }

    fn n_bytes(&self) -> usize {
        let tuple_bytes = 2 * self.parts.len() * size_of::<u32>() + size_of::<Tuple>();
        let parts: usize = self.parts.iter().map(Dfa::n_bytes).sum();
        parts + self.table.len() * size_of::<u32>() + self.states.len() * tuple_bytes
    }

    fn successor(&mut self, state: DfaState, class: usize) -> Result<u32, GrammarError> {
        let cell = state as usize * self.representatives.len() + class;
        if self.table[cell] != UNKNOWN {
            return Ok(self.table[cell]);
        }
        self.n_visited += self.parts.len();
        if self.n_visited > self.max_visited {
            return Err(over("compile_steps", self.max_visited));
        }
        let byte = self.representatives[class];
        let mut next = self.states[state as usize].parts.clone();
        let mut any = false;
        for (part, state) in self.parts.iter_mut().zip(&mut next) {
            if *state != DEAD {
                *state = part.step(*state, byte)?.unwrap_or(DEAD);
                any |= *state != DEAD;
            }
        }
        // The first part is what every match must be, a whole text of some kind.
        let next = if any && next[0] != DEAD {
            self.intern(next)?
        } else {
            DEAD
        };
        self.table[cell] = next;
        Ok(next)
    }

    fn intern(&mut self, parts: Box<[u32]>) -> Result<DfaState, GrammarError> {
        if let Some(&known) = self.ids.get(&parts) {
            return Ok(known);
        }
        let id = self.states.len();
        if id >= self.max_states {
            return Err(over("dfa_states", self.max_states));
        }
        let cells = self.table.len() + self.representatives.len();
        self.table.resize(cells, UNKNOWN);
        let held = accepting(&self.parts, &parts);
        let marked = |marks: &Marks| marks.accepted.contains(&marks.held(held));
        let accepting = self.accept.holds(held) && self.marks.as_ref().is_none_or(marked);
        self.ids.insert(parts.clone(), id as DfaState);
        self.states.push(Tuple {
            parts,
            accepting,
            distance: if accepting { 0 } else { UNKNOWN },
        });
        Ok(id as DfaState)
    }

    /// Searches forward from `start` for the nearest accepting tuple. What lies on the way to it
    /// learns its own distance; where there is none, everything that was seen is dead.
    fn find_distance(&mut self, start: DfaState) -> Result<u32, GrammarError> {
        let known = self.states[start as usize].distance;
        if known != UNKNOWN {
            return Ok(known);
        }
        // Each tuple found, with the index of the one it was found from and its depth.
        let mut found = vec![(start, 0, 0_u32)];
        let mut seen = HashSet::from_iter([start]);
        let mut queue = VecDeque::from([0]);
        let mut best: Option<(usize, u32)> = None;
        while let Some(idx) = queue.pop_front() {
            let (state, _, depth) = found[idx];
            if best.is_some_and(|(_, total)| depth >= total) {
                break;
            }
            match self.states[state as usize].distance {
                DEAD => continue,
                UNKNOWN => {}
                distance => {
                    let total = depth + distance;
                    if best.is_none_or(|(_, least)| total < least) {
                        best = Some((idx, total));
                    }
                    continue;
                }
            }
            for class in 0..self.representatives.len() {
                let next = self.successor(state, class)?;
                if next != DEAD && seen.insert(next) {
                    queue.push_back(found.len());
                    found.push((next, idx, depth + 1));
                }
            }
        }
        let Some((mut idx, total)) = best else {
            for &(state, ..) in &found {
                self.states[state as usize].distance = DEAD;
            }
            return Ok(DEAD);
        };
        while found[idx].2 > 0 {
            let (state, from, depth) = found[idx];
            self.states[state as usize].distance = total - depth;
            idx = from;
        }
        self.states[start as usize].distance = total;
        Ok(total)
    }
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

/// One automaton or a combination of some.
#[derive(Debug)]
pub(crate) enum Automaton {
    One(Box<Dfa>),
    Product(Box<Product>),
}

impl Automaton {
    /// The state after `byte`, or `None` where no match can follow.
    pub(crate) fn step(
        &mut self,
        state: DfaState,
        byte: u8,
    ) -> Result<Option<DfaState>, GrammarError> {
        match self {
            Self::One(dfa) => dfa.step(state, byte),
            Self::Product(product) => product.step(state, byte),
        }
    }

    /// Whether the bytes that led to `state` match as a whole.
    pub(crate) fn is_accepting(&self, state: DfaState) -> bool {
        match self {
            Self::One(dfa) => dfa.is_accepting(state),
            Self::Product(product) => product.is_accepting(state),
        }
    }

    /// Fewest bytes from `state` to a match.
    pub(crate) fn distance(&self, state: DfaState) -> usize {
        match self {
            Self::One(dfa) => dfa.distance(state),
            Self::Product(product) => product.distance(state),
        }
    }

    /// Bytes of one class lead to the same states, from every state.
    pub(crate) fn class(&self, byte: u8) -> u16 {
        match self {
            Self::One(dfa) => dfa.class(byte).into(),
            Self::Product(product) => product.classes[usize::from(byte)],
        }
    }

    /// Which of a product's marks hold, as bits.
    pub(crate) fn marks(&self, state: DfaState) -> u64 {
        match self {
            Self::One(_) => 0,
            Self::Product(product) => product.marks(state),
        }
    }

    /// Heap bytes, as far as it was built.
    pub(crate) fn n_bytes(&self) -> usize {
        match self {
            Self::One(dfa) => dfa.n_bytes(),
            Self::Product(product) => product.n_bytes(),
        }
    }

    /// Grants the work of one operation.
    pub(crate) fn refuel(&mut self) {
        match self {
            Self::One(dfa) => dfa.refuel(),
            Self::Product(product) => product.refuel(),
        }
    }
}
