//! From within a name to the end of its value, where the name decides on that.
//!
//! What an automaton of names knows is the nearest name, but another one may have the nearer value. So the
//! nearest end of a value is searched for, by A*: it is no nearer than the nearest name and the
//! cheapest value together. What was found is remembered.
//!
//! Source: as of [`crate::regex::product`].

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use foldhash::HashMap;
use smallvec::SmallVec;

use crate::alphabet::told_apart;
use crate::json::automaton::Automaton;
use crate::json::frame::{Members, Other};
use crate::json::machine::Parser;
use crate::json::members::{NamePlace, object_automaton, step_other};
use crate::json::shape::{NEVER, NodeId, Others, ShapeId};
use crate::json::text::BOUNDARY;
use crate::regex::dfa::DfaState;

/// Distances that are remembered.
const MAX_KNOWN: usize = 1 << 16;
/// States that a search comes to before it takes the nearest name, whatever that one's value.
const MAX_REACHED: usize = 1 << 12;
/// Bytes up to which a name is followed along one that has come.
const MAX_ALONG: usize = 256;

/// Fewest bytes to the end of a value, from states of the automata of objects' names.
#[derive(Debug, Default)]
pub(crate) struct NearestValues(HashMap<(ShapeId, DfaState), usize>);

impl NearestValues {
    /// Heap bytes.
    pub(crate) fn n_bytes(&self) -> usize {
        self.0.capacity() * size_of::<((ShapeId, DfaState), usize)>()
    }
}

/// The names of an object that is searched.
struct Search<'a> {
    shape: ShapeId,
    automaton: &'a mut Automaton,
    /// Fewest bytes of the value of a name that ends in a state, if one may.
    value: &'a dyn Fn(&Automaton, DfaState) -> Option<usize>,
    /// The same of the cheapest and the dearest value.
    values: (usize, usize),
    known: &'a mut NearestValues,
}

impl Search<'_> {
    fn run(&mut self, start: DfaState) -> usize {
        let (least, most) = self.values;
        if let Some(&known) = self.known.0.get(&(self.shape, start)) {
            return known;
        }
        if let Some(value) = (self.value)(self.automaton, start).filter(|&value| value <= least + 1)
        {
            return value;
        }
        let bytes = told_apart(|byte| self.automaton.class(byte));
        // Of each state, how far it is from the first, and which is before it.
        let mut reached = HashMap::from_iter([(start, (0, start))]);
        // In all, so far, to a state or to the end of the value from there.
        let mut queue = BinaryHeap::from([(Reverse(0), 0, start, false)]);
        while let Some((Reverse(total), depth, state, ends)) = queue.pop() {
            if ends {
                self.settle(&reached, state, total);
                return total;
            }
            if reached[&state].0 < depth {
                continue;
            }
            if reached.len() > MAX_REACHED {
                break;
            }
            let known = self.known.0.get(&(self.shape, state)).copied();
            if let Some(known) = known.or_else(|| (self.value)(self.automaton, state)) {
                queue.push((Reverse(depth + known), depth, state, true));
            }
            if known.is_some() {
                continue;
            }
            for &byte in &bytes {
                let Ok(Some(next)) = self.automaton.step(state, byte) else {
                    continue;
                };
                let depth = depth + 1;
                if reached.get(&next).is_none_or(|&(before, _)| depth < before) {
                    reached.insert(next, (depth, state));
                    let total = depth + self.automaton.distance(next) + least;
                    queue.push((Reverse(total), depth, next, false));
                }
            }
        }
        self.automaton.distance(start).saturating_add(most)
    }

    /// Notes how far the end is on the way to `state`, in all so many bytes.
    fn settle(
        &mut self,
        reached: &HashMap<DfaState, (usize, DfaState)>,
        mut state: DfaState,
        total: usize,
    ) {
        if self.known.0.len() + reached.len() > MAX_KNOWN {
            self.known.0.clear();
        }
        loop {
            let (depth, before) = reached[&state];
            self.known.0.insert((self.shape, state), total - depth);
            if depth == 0 {
                return;
            }
            state = before;
        }
    }
}

impl Parser {
    /// From within a name that is not declared to the end of its value, the quote and the colon aside.
    fn nearest_value(&mut self, shape: ShapeId, other: Other) -> usize {
        let tables = &self.tables;
        let Others::Matching {
            automaton,
            places,
            values,
            ..
        } = &tables.object(shape).others
        else {
            return match tables.object(shape).others {
                Others::Any(node) => tables.cost(node).saturating_add(other.text.distance()),
                _ => NEVER,
            };
        };
        let automaton = &mut self.verdicts.patterns.automata[*automaton as usize];
        if values.0 == values.1 {
            return automaton.distance(other.state).saturating_add(values.0);
        }
        let value = |automaton: &Automaton, state| {
            let is_name = automaton.is_accepting(state);
            let place: Option<&NodeId> = is_name.then(|| places.get(&automaton.marks(state)))?;
            Some(tables.cost(*place?))
        };
        let mut search = Search {
            shape,
            automaton,
            value: &value,
            values: *values,
            known: &mut self.nearest,
        };
        search.run(other.state)
    }

    /// The same by a name that has not come and is not declared: from `at`, after what is `written`. Where it is `most` bytes
    /// or more, it may be less than that.
    pub(crate) fn nearest_free(
        &mut self,
        members: &Members,
        written: &mut SmallVec<[u8; 24]>,
        at: NamePlace,
        most: usize,
    ) -> usize {
        let (declared, Some(other)) = at else {
            return NEVER;
        };
        let least = self.nearest_value(members.shape, other);
        let is_along = declared.is_some() || members.begun(written).next().is_some();
        if !is_along || least >= most || written.len() > MAX_ALONG {
            return least;
        }
        let object = self.tables.object(members.shape);
        let is_declared = declared
            .and_then(|node| object.names.literal(node))
            .is_some();
        let ends = other.text == BOUNDARY && !is_declared && !members.came(written);
        let place = ends
            .then(|| self.other_value(&object.others, other.state))
            .flatten();
        let mut nearest = place.map_or(NEVER, |place| self.tables.cost(place));
        let automaton = object_automaton(&object.others);
        for byte in 0..=u8::MAX {
            if nearest == least {
                break;
            }
            let automata = self.verdicts.patterns.automata.as_mut_slice();
            let Ok(Some(next)) = step_other(automaton, automata, other, byte) else {
                continue;
            };
            let names = &self.tables.object(members.shape).names;
            let declared = declared.and_then(|node| names.child(node, byte));
            written.push(byte);
            let most = most.min(nearest).saturating_sub(1);
            let longer = self.nearest_free(members, written, (declared, Some(next)), most);
            written.pop();
            nearest = nearest.min(longer.saturating_add(1));
        }
        nearest
    }
}
