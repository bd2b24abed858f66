//! A DFA built while it is walked: a state is an interned set of NFA states, made when first
//! entered.
//!
//! regex-automata supplies the Thompson NFA and its byte classes. Its own lazy DFA forgets state
//! ids when its cache is cleared, and knows no dead states; here an id lives as long as the
//! constraint, and a set from which no match is reachable is never a state at all.
//!
//! Source: K. Thompson, "Regular expression search algorithm", CACM 11(6), 1968; the subset
//! construction.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use regex_automata::nfa::thompson::State;
use regex_automata::util::look::Look;
use regex_automata::util::primitives::StateID;
use regex_syntax::hir::Hir;

use crate::regex::program::Program;
use crate::regex::reach::UNREACHABLE;
use crate::{GrammarError, Limits};

/// A live state of a [`Dfa`].
pub(crate) type DfaState = u32;

const DEAD: u32 = u32::MAX;
const UNKNOWN: u32 = u32::MAX - 1;

/// Whole-match automaton of one pattern.
#[derive(Debug)]
pub(crate) struct Dfa {
    program: Arc<Program>,
    /// Successor by state and class, `DEAD` or `UNKNOWN`. [n_states, n_classes]
    table: Vec<u32>,
    states: Vec<DfaInfo>,
    ids: HashMap<Arc<[u32]>, DfaState>,
    stack: Vec<StateID>,
    /// What the byte that was followed last led to, and the state that this is: bytes are mostly asked for one after the
    /// other, and most of them lead to the same.
    led_to: Vec<StateID>,
    last: Option<DfaState>,
    /// The states of the last closure, each once.
    seen: Vec<StateID>,
    /// What the state that is looked for is made of.
    live: Vec<u32>,
    /// The closure that last saw each NFA state. [n_nfa_states]
    seen_in: Vec<u32>,
    closure: u32,
    n_bytes: usize,
    max_states: usize,
    max_bytes: usize,
    /// NFA states visited since the last call of [`Dfa::refuel`].
    n_visited: usize,
    max_visited: usize,
}

#[derive(Debug)]
struct DfaInfo {
    /// Byte-consuming live NFA states, ascending; behind them `MATCH`, if the string that led here is in the
    /// language.
    key: Arc<[u32]>,
    /// A bit of each of these, by its last digits: see [`Dfa::covers`].
    digest: u64,
    distance: u32,
    accepting: bool,
    is_total: bool,
}

const MATCH: u32 = u32::MAX;

impl Dfa {
    /// The automaton of `hir`, and its first state; an error where nothing matches or a limit is
    /// passed.
    pub(crate) fn new(hir: &Hir, limits: &Limits) -> Result<(Self, DfaState), GrammarError> {
        Self::of(Arc::new(Program::new(hir, limits)?), limits)
    }

    /// The automaton of a compiled pattern, likewise.
    pub(crate) fn of(
        program: Arc<Program>,
        limits: &Limits,
    ) -> Result<(Self, DfaState), GrammarError> {
        let mut dfa = Self {
            table: Vec::new(),
            states: Vec::new(),
            ids: HashMap::new(),
            stack: Vec::new(),
            led_to: Vec::new(),
            last: None,
            seen: Vec::new(),
            live: Vec::new(),
            seen_in: vec![0; program.nfa.states().len()],
            closure: 0,
            n_bytes: 0,
            max_states: limits.dfa_states,
            max_bytes: limits.dfa_bytes,
            n_visited: 0,
            max_visited: limits.mask_steps,
            program,
        };
        let start = dfa.program.nfa.start_anchored();
        dfa.stack.push(start);
        dfa.close(true, true);
        let accepting = dfa
            .seen
            .iter()
            .any(|&id| matches!(dfa.program.nfa.state(id), State::Match { .. }));
        dfa.stack.push(start);
        dfa.close(true, false);
        let nothing = GrammarError::Empty {
            reason: "the regex matches nothing".into(),
        };
        let start = dfa.intern(accepting)?.ok_or(nothing)?;
        Ok((dfa, start))
    }

    /// The state after `byte`, or `None` where no match can follow.
    #[inline]
    pub(crate) fn step(
        &mut self,
        state: DfaState,
        byte: u8,
    ) -> Result<Option<DfaState>, GrammarError> {
        let class = usize::from(self.program.classes[usize::from(byte)]);
        let cell = state as usize * self.program.n_classes + class;
        match self.table[cell] {
            DEAD => Ok(None),
            UNKNOWN => {
                let next = self.successor(state, byte)?;
                self.table[cell] = next.unwrap_or(DEAD);
                Ok(next)
            }
            next => Ok(Some(next)),
        }
    }

    /// Bytes of one class lead to the same states, from every state.
    pub(crate) fn class(&self, byte: u8) -> u8 {
        self.program.classes[usize::from(byte)]
    }

    /// Grants the work of one operation: `Limits::mask_steps` visits of NFA states.
    pub(crate) fn refuel(&mut self) {
        self.n_visited = 0;
    }

    /// Heap bytes of the NFA and what is known of it.
    pub(crate) fn fixed_bytes(&self) -> usize {
        self.program.n_bytes()
    }

    /// Heap bytes, as far as it was built.
    pub(crate) fn n_bytes(&self) -> usize {
        self.built_bytes() + self.fixed_bytes()
    }

    /// Heap bytes of the states built so far.
    pub(crate) fn built_bytes(&self) -> usize {
        self.n_bytes
    }

    /// The NFA states that `state` stands for: those of them that take a byte.
    pub(crate) fn nfa_states(&self, state: DfaState) -> &[u32] {
        let DfaInfo { key, accepting, .. } = &self.states[state as usize];
        &key[..key.len() - usize::from(*accepting)]
    }

    /// The compiled pattern.
    pub(crate) fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// Whether the bytes that led to `state` match as a whole.
    pub(crate) fn is_accepting(&self, state: DfaState) -> bool {
        self.states[state as usize].accepting
    }

    /// Whether every text that may follow matches.
    pub(crate) fn is_total(&self, state: DfaState) -> bool {
        self.states[state as usize].is_total
    }

    /// Whether all that may follow `other` plainly may follow `state`: its NFA states are among this
    /// one's. A state that does not cover another may lead to as much all the same.
    pub(crate) fn covers(&self, state: DfaState, other: DfaState) -> bool {
        let [state, other] = [state, other].map(|state| &self.states[state as usize]);
        other.digest & !state.digest == 0 && is_subset(&other.key, &state.key)
    }

    /// Fewest bytes from `state` to a match.
    pub(crate) fn distance(&self, state: DfaState) -> usize {
        self.states[state as usize].distance as usize
    }

    /// A byte after which a match is nearer, if one does not match here.
    pub(crate) fn nearer_byte(&self, state: DfaState) -> Option<u8> {
        let distances = &self.program.distances;
        let before = self.states[state as usize].distance.checked_sub(1)?;
        let is_nearer = |next: StateID| distances[next.as_usize()] == before;
        self.nfa_states(state).iter().find_map(|&id| {
            match self.program.nfa.state(StateID::new_unchecked(id as usize)) {
                State::ByteRange { trans } => is_nearer(trans.next).then_some(trans.start),
                State::Sparse(sparse) => {
                    let nearer = sparse
                        .transitions
                        .iter()
                        .find(|trans| is_nearer(trans.next));
                    nearer.map(|trans| trans.start)
                }
                _ => None,
            }
        })
    }

    fn successor(&mut self, state: DfaState, byte: u8) -> Result<Option<DfaState>, GrammarError> {
        let set = Arc::clone(&self.states[state as usize].key);
        self.n_visited += set.len();
        for &id in set.iter().filter(|id| **id != MATCH) {
            let from = self.program.nfa.state(StateID::new_unchecked(id as usize));
            self.stack.extend(successor(from, byte));
        }
        if self.stack == self.led_to {
            self.stack.clear();
            return Ok(self.last);
        }
        let mut led_to = std::mem::take(&mut self.led_to);
        led_to.clone_from(&self.stack);
        // What nothing leads to is dead: that is what is known if this fails.
        self.last = None;
        let next = self.follow_stack()?;
        (self.led_to, self.last) = (led_to, next);
        Ok(next)
    }

    /// The state for what the NFA states on the stack reach, `None` if it is dead.
    fn follow_stack(&mut self) -> Result<Option<DfaState>, GrammarError> {
        self.close(false, false);
        self.check(
            self.n_visited <= self.max_visited,
            "mask_steps",
            self.max_visited,
        )?;
        let accepting = self
            .seen
            .iter()
            .any(|id| self.program.distances[id.as_usize()] == 0);
        self.intern(accepting)
    }

    /// Fills `seen` with what the states on the stack reach without a byte.
    fn close(&mut self, at_start: bool, at_end: bool) {
        self.seen.clear();
        self.closure = self.closure.checked_add(1).unwrap_or_else(|| {
            self.seen_in.fill(0);
            1
        });
        while let Some(id) = self.stack.pop() {
            if self.seen_in[id.as_usize()] == self.closure {
                continue;
            }
            self.seen_in[id.as_usize()] = self.closure;
            self.seen.push(id);
            self.n_visited += 1;
            match self.program.nfa.state(id) {
                State::Look {
                    look: Look::Start,
                    next,
                } if at_start => self.stack.push(*next),
                State::Look {
                    look: Look::End,
                    next,
                } if at_end => self.stack.push(*next),
                State::Union { alternates } => self.stack.extend(alternates.iter()),
                State::BinaryUnion { alt1, alt2 } => self.stack.extend([*alt1, *alt2]),
                State::Capture { next, .. } => self.stack.push(*next),
                _ => {}
            }
        }
    }

    /// The state for what `seen` holds, made if it is new; `None` if it is dead. Whatever is beside the
    /// NFA state that every text matches from adds nothing to it, and so is left out.
    fn intern(&mut self, accepting: bool) -> Result<Option<DfaState>, GrammarError> {
        let total = self.program.total;
        let total = total.filter(|id| self.seen_in[id.as_usize()] == self.closure);
        if let Some(total) = total {
            self.stack.push(total);
            self.close(false, false);
        }
        let accepting = accepting || total.is_some();
        let takes_bytes = |id: &&StateID| self.program.takes_bytes[id.as_usize()];
        self.live.clear();
        self.live
            .extend(self.seen.iter().filter(takes_bytes).map(|id| id.as_u32()));
        self.live.sort_unstable();
        let nearest = self
            .live
            .iter()
            .map(|&id| self.program.distances[id as usize])
            .min();
        self.live.extend(accepting.then_some(MATCH));
        if self.live.is_empty() {
            return Ok(None);
        }
        if let Some(&state) = self.ids.get(&*self.live) {
            return Ok(Some(state));
        }
        let state = self.states.len();
        let state_bytes = size_of_val(&*self.live) + size_of::<DfaInfo>() * 2;
        self.n_bytes += state_bytes + self.program.n_classes * size_of::<u32>();
        self.check(state < self.max_states, "dfa_states", self.max_states)?;
        self.check(self.n_bytes <= self.max_bytes, "dfa_bytes", self.max_bytes)?;
        self.table
            .resize(self.table.len() + self.program.n_classes, UNKNOWN);
        let key: Arc<[u32]> = self.live.as_slice().into();
        let bits = key.iter().map(|id| 1 << (id % u64::BITS));
        self.ids.insert(Arc::clone(&key), state as DfaState);
        self.states.push(DfaInfo {
            digest: bits.fold(0, |digest, bit: u64| digest | bit),
            key,
            distance: match accepting {
                true => 0,
                false => nearest.unwrap_or(UNREACHABLE),
            },
            accepting,
            is_total: total.is_some(),
        });
        Ok(Some(state as DfaState))
    }

    fn check(&self, holds: bool, limit: &'static str, allowed: usize) -> Result<(), GrammarError> {
        if holds {
            return Ok(());
        }
        Err(GrammarError::Limit {
            what: "the regex's automaton".into(),
            limit,
            allowed,
        })
    }
}

/// Whether all of `few` are among `many`, both sorted.
fn is_subset(few: &[u32], many: &[u32]) -> bool {
    let mut many = many.iter();
    few.len() <= many.len() && few.iter().all(|one| many.any(|other| one == other))
}

/// Where an NFA state that takes bytes goes on `byte`.
pub(crate) fn successor(state: &State, byte: u8) -> Option<StateID> {
    match state {
        State::ByteRange { trans } if trans.matches_byte(byte) => Some(trans.next),
        State::Sparse(sparse) => sparse.matches_byte(byte),
        State::Dense(dense) => dense.matches_byte(byte),
        _ => None,
    }
}
