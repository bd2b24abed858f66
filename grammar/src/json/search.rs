//! The lengths of a product's matches, found as they are asked for.
//!
//! A product has more states than could be listed beforehand. So the nearest match from a *place* is
//! searched for when lengths matter, and remembered: that of the fewest bytes with as many code points as
//! are due, and, where this one has too many, that of the fewest code points. What the parts need by
//! themselves bounds both from below, as in [`Product`] itself. A search that takes too much, and any
//! when too much is remembered, gives that bound: then a string may come to its maximal length before
//! its match.
//!
//! Source: as of [`crate::regex::product`].

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use foldhash::HashMap;

use crate::alphabet::told_apart;
use crate::json::lengths::{Graph, NO_WAY, Way, Ways};
use crate::json::text::{BOUNDARY, Text};
use crate::regex::dfa::DfaState;
use crate::regex::product::{Bound, NEVER, Product};
use crate::{GrammarError, Limits};

/// Places that are remembered.
const MAX_KNOWN: usize = 1 << 16;

/// A state of a product and one of the text, with the code points still due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) state: DfaState,
    pub(crate) text: Text,
    pub(crate) due: u32,
}

/// What is to be least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fewest {
    Bytes,
    CodePoints,
}

/// What was found of the lengths of one product's matches. Ways are counted as one number: what is to be
/// least, then the other.
#[derive(Debug, Default)]
pub(crate) struct LengthSearch {
    /// The ways of each part that must match, but for too large ones. [n_parts]
    parts: Vec<Option<Arc<Ways>>>,
    /// Whether there is a part that is too large.
    has_large: bool,
    /// A byte of each class of those that neither the product nor the text tells apart.
    bytes: Vec<u8>,
    /// By [`Fewest`].
    known: [HashMap<Place, u64>; 2],
}

/// What a search came to, and what is to be looked at next: where the least lies ahead in all, of these
/// where the least is left to do.
#[derive(Default)]
struct Frontier {
    found: Vec<Found>,
    ids: HashMap<Place, u32>,
    queue: BinaryHeap<Next>,
}

/// How far it is in all, and what is left to do; the depth; which place.
type Next = (Reverse<(u64, u64)>, u64, u32);

/// A place that a search came to.
#[derive(Clone, Copy)]
struct Found {
    place: Place,
    depth: u64,
    /// The place before it.
    from: u32,
    outlook: Bound,
}

impl LengthSearch {
    /// Gets ready for a product that begins at `start`.
    pub(crate) fn prepare(&mut self, product: &Product, start: DfaState, limits: &mut Limits) {
        if !self.bytes.is_empty() {
            return;
        }
        self.bytes = told_apart(|byte| product.class(byte));
        for (program, positions, is_asked) in product.parts(start) {
            let graph = is_asked.then(|| Graph::new(program, positions, limits));
            let graph = graph.flatten();
            self.has_large |= is_asked && graph.is_none();
            let ways = graph.map(|graph| Arc::new(Ways::of_any_length(&graph, limits)));
            self.parts.push(ways);
        }
    }

    /// Heap bytes.
    pub(crate) fn n_bytes(&self) -> usize {
        let parts: usize = self.parts.iter().flatten().map(|ways| ways.n_bytes()).sum();
        let n_known: usize = self.known.iter().map(HashMap::capacity).sum();
        parts + n_known * size_of::<(Place, u64)>()
    }

    /// At least so many code points has a match from the beginning.
    pub(crate) fn shortest(&self, product: &Product, state: DfaState) -> u32 {
        let (text, due) = (BOUNDARY, 0);
        let place = Place { state, text, due };
        self.known(product, place, Fewest::CodePoints).0
    }

    /// Searches for the nearest match from a place, if it is not known.
    pub(crate) fn find(
        &mut self,
        product: &mut Product,
        place: Place,
        fewest: Fewest,
    ) -> Result<(), GrammarError> {
        let outlook = self.outlook(product, place, fewest);
        if !outlook.exact && self.known[fewest as usize].len() < MAX_KNOWN {
            let way = self.search(product, (place, outlook), fewest)?;
            self.known[fewest as usize].insert(place, way);
        }
        Ok(())
    }

    /// The nearest match from a place as far as it is known.
    pub(crate) fn known(&self, product: &Product, place: Place, fewest: Fewest) -> Way {
        fewest.as_way(self.outlook(product, place, fewest).least)
    }

    fn outlook(&self, product: &Product, place: Place, fewest: Fewest) -> Bound {
        if let Some(&known) = self.known[fewest as usize].get(&place) {
            return Bound::exactly(known);
        }
        let Place { state, text, due } = place;
        let due_ways = fewest.as_number((due, due));
        if due == 0 && text == BOUNDARY && product.is_accepting(state) {
            return Bound::exactly(0);
        }
        let bound = match fewest {
            Fewest::CodePoints => product.bound(state, |part, positions, is_accepting| {
                match (&self.parts[part], is_accepting) {
                    (Some(ways), false) => fewest.as_number(ways.nearest(positions, text, 0)),
                    _ => 0,
                }
            }),
            Fewest::Bytes => {
                let bound = product.outlook(state);
                let n_bytes = bound.least as u32;
                Bound {
                    // No match has more code points than bytes.
                    least: if bound.least == NEVER {
                        NEVER
                    } else {
                        fewest.as_number((n_bytes, n_bytes))
                    },
                    ..bound
                }
            }
        };
        let is_known = match fewest {
            Fewest::CodePoints => !self.has_large && bound.least >= due_ways,
            Fewest::Bytes => due == 0,
        };
        Bound {
            least: bound.least.max(due_ways),
            exact: bound.least == NEVER || bound.exact && is_known,
            ..bound
        }
    }

    /// Searches forward from a place. What lies on the way that is found learns its own; where there is
    /// none, everything that was seen is remembered as dead.
    fn search(
        &mut self,
        product: &mut Product,
        (start, outlook): (Place, Bound),
        fewest: Fewest,
    ) -> Result<u64, GrammarError> {
        let mut frontier = Frontier::default();
        frontier.reach(start, (0, 0), || outlook);
        while let Some((Reverse((least, _)), depth, id)) = frontier.queue.pop() {
            let Found {
                place,
                mut outlook,
                depth: shortest,
                ..
            } = frontier.found[id as usize];
            if depth > shortest {
                continue;
            }
            if fewest == Fewest::Bytes && !outlook.exact {
                product.find_distance(place.state)?;
                outlook = self.outlook(product, place, fewest);
                frontier.found[id as usize].outlook = outlook;
                if outlook.least == NEVER || depth + outlook.least > least {
                    frontier.push(id);
                    continue;
                }
            }
            if outlook.exact {
                return Ok(self.settle(&frontier.found, id, fewest));
            }
            let n_known = self.known[fewest as usize].len() + frontier.found.len();
            if product.is_half_spent() || n_known > MAX_KNOWN {
                return Ok(frontier.found[0].outlook.least);
            }
            product.visit(self.bytes.len())?;
            for &byte in &self.bytes {
                let Some(text) = place.text.step(byte) else {
                    continue;
                };
                let Some(state) = product.enter(place.state, byte)? else {
                    continue;
                };
                let begins = u32::from(place.text == BOUNDARY);
                let due = place.due.saturating_sub(begins);
                let next = Place { state, text, due };
                let depth = depth + fewest.as_number((begins, 1));
                frontier.reach(next, (depth, id), || self.outlook(product, next, fewest));
            }
        }
        let dead = frontier.found.iter().map(|found| (found.place, NEVER));
        self.known[fewest as usize].extend(dead);
        Ok(NEVER)
    }

    /// Notes the ways on the way to `end`, whose own is known, and returns that from the first place.
    fn settle(&mut self, found: &[Found], end: u32, fewest: Fewest) -> u64 {
        let end = &found[end as usize];
        let total = end.depth + end.outlook.least;
        let mut step = end;
        loop {
            self.known[fewest as usize].insert(step.place, total - step.depth);
            if step.depth == 0 {
                return total;
            }
            step = &found[step.from as usize];
        }
    }
}

impl Frontier {
    /// Comes to a place at a depth, from another place.
    fn reach(&mut self, place: Place, (depth, from): (u64, u32), outlook: impl FnOnce() -> Bound) {
        let id = *self.ids.entry(place).or_insert_with(|| {
            self.found.push(Found {
                place,
                depth: NEVER,
                from,
                outlook: outlook(),
            });
            self.found.len() as u32 - 1
        });
        let found = &mut self.found[id as usize];
        if depth < found.depth {
            (found.depth, found.from) = (depth, from);
            self.push(id);
        }
    }

    /// Looks at a place later, if a match can follow it.
    fn push(&mut self, id: u32) {
        let Found { depth, outlook, .. } = self.found[id as usize];
        if outlook.least != NEVER {
            let order = Reverse((depth + outlook.least, outlook.total));
            self.queue.push((order, depth, id));
        }
    }
}

impl Fewest {
    fn as_number(self, way: Way) -> u64 {
        let (first, second) = match (self, way) {
            (_, NO_WAY) => return NEVER,
            (Self::Bytes, (n_points, n_bytes)) => (n_bytes, n_points),
            (Self::CodePoints, way) => way,
        };
        u64::from(first) << 32 | u64::from(second)
    }

    fn as_way(self, number: u64) -> Way {
        let (first, second) = ((number >> 32) as u32, number as u32);
        match self {
            _ if number == NEVER => NO_WAY,
            Self::Bytes => (second, first),
            Self::CodePoints => (first, second),
        }
    }
}
