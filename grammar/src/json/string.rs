//! Strings under a pattern and length bounds.
//!
//! A pattern alone is an automaton, lengths alone are a counter. Together they need more: whether a
//! match of the right length is still reachable. [`LengthTable`] answers it for each count and each
//! state, found backwards from the end.

use std::collections::HashMap;

use crate::json::text::{BOUNDARY, Text};
use crate::regex::dfa::DfaState;
use crate::regex::product::Automaton;
use crate::{GrammarError, Limits};

/// The strings of a schema: index of the pattern's automaton, and lengths in code points.
#[derive(Clone, Debug)]
pub(crate) struct StringShape {
    pub(crate) pattern: Option<(u32, DfaState)>,
    pub(crate) min: u32,
    pub(crate) max: Option<u32>,
    table: Option<LengthTable>,
}

/// A string in the making, after its opening quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Body {
    pub(crate) text: Text,
    pub(crate) state: DfaState,
    /// Code points begun; without a `max` it stops at `min`.
    pub(crate) count: u32,
}

/// What decides which bytes may follow within a string, whatever surrounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct InteriorKey {
    pattern: u32,
    state: DfaState,
    text: Text,
    left: u32,
    /// The shape, where its table matters.
    table: u32,
}

const NONE: u32 = u32::MAX;

impl InteriorKey {
    /// Whether it speaks of no pattern, and so means the same in every constraint.
    pub(crate) fn is_common(&self) -> bool {
        self.pattern == NONE
    }
}

impl StringShape {
    /// `None` if no string satisfies it. Pass the automaton that `pattern` names.
    pub(crate) fn new(
        pattern: Option<(u32, DfaState)>,
        dfa: Option<&mut Automaton>,
        (min, max): (u32, Option<u32>),
        limits: &Limits,
    ) -> Result<Option<Self>, GrammarError> {
        if max.is_some_and(|max| max < min) {
            return Ok(None);
        }
        let table = match (pattern, dfa) {
            (Some((_, start)), Some(dfa)) if min > 0 || max.is_some() => {
                Some(LengthTable::new(dfa, start, (min, max), limits)?)
            }
            _ => None,
        };
        let shape = Self {
            pattern,
            min,
            max,
            table,
        };
        let live = shape
            .table
            .as_ref()
            .is_none_or(|table| table.distance(&shape.open()) != NONE);
        Ok(live.then_some(shape))
    }

    /// Cells of its table.
    pub(crate) fn n_cells(&self) -> usize {
        self.table.as_ref().map_or(0, |table| table.distances.len())
    }

    /// Just after the opening quote.
    pub(crate) fn open(&self) -> Body {
        let state = self.pattern.map_or(0, |(_, start)| start);
        Body {
            text: BOUNDARY,
            state,
            count: 0,
        }
    }

    /// After one more byte of the body. Pass all patterns' automata.
    pub(crate) fn step(
        &self,
        body: Body,
        byte: u8,
        dfas: &mut [Automaton],
    ) -> Result<Option<Body>, GrammarError> {
        let Some(text) = body.text.step(byte) else {
            return Ok(None);
        };
        let mut count = body.count + u32::from(body.text == BOUNDARY);
        match self.max {
            Some(max) if count > max => return Ok(None),
            Some(_) => {}
            None => count = count.min(self.min),
        }
        let state = match self.pattern {
            None => 0,
            Some((pattern, _)) => match dfas[pattern as usize].step(body.state, byte)? {
                Some(state) => state,
                None => return Ok(None),
            },
        };
        let next = Body { text, state, count };
        let live = self
            .table
            .as_ref()
            .is_none_or(|table| table.distance(&next) != NONE);
        Ok(live.then_some(next))
    }

    /// Whether the closing quote may follow.
    pub(crate) fn can_close(&self, body: &Body, dfas: &[Automaton]) -> bool {
        body.text == BOUNDARY
            && body.count >= self.min
            && self
                .pattern
                .is_none_or(|(pattern, _)| dfas[pattern as usize].is_accepting(body.state))
    }

    /// Fewest bytes to where it can close, without the quote.
    pub(crate) fn distance(&self, body: &Body, dfas: &[Automaton]) -> usize {
        match (&self.table, self.pattern) {
            (Some(table), _) => table.distance(body) as usize,
            (None, Some((pattern, _))) => dfas[pattern as usize].distance(body.state),
            (None, None) => body.text.distance() + self.min.saturating_sub(body.count) as usize,
        }
    }

    /// The distance to a closing quote as far as [`InteriorKey`] tells: all but a minimal length
    /// without a pattern.
    pub(crate) fn interior_distance(&self, body: &Body, dfas: &[Automaton]) -> usize {
        match self.pattern {
            None => body.text.distance(),
            Some(_) => self.distance(body, dfas),
        }
    }

    /// What a token leaves to the end of the string beyond [`StringShape::interior_distance`]: at
    /// least, at most.
    pub(crate) fn interior_offsets(&self, body: &Body, longest: usize) -> (usize, usize) {
        let due = match self.pattern {
            None => self.min.saturating_sub(body.count) as usize,
            Some(_) => 0,
        };
        (due.saturating_sub(longest) + 1, due + 1)
    }

    /// The key of the interior's mask; code points left beyond `longest` bytes of a token make no
    /// difference.
    pub(crate) fn interior_key(&self, shape: u32, body: &Body, longest: usize) -> InteriorKey {
        let left = self
            .max
            .map_or(NONE, |max| (max - body.count).min(longest as u32));
        match (&self.table, self.pattern) {
            (Some(_), Some((pattern, _))) => {
                let (state, text) = (body.state, body.text);
                InteriorKey {
                    pattern,
                    state,
                    text,
                    left: body.count,
                    table: shape,
                }
            }
            (_, pattern) => InteriorKey {
                pattern: pattern.map_or(NONE, |(pattern, _)| pattern),
                state: body.state,
                text: body.text,
                left,
                table: NONE,
            },
        }
    }
}

/// Fewest bytes to a match of a length within bounds, by code points begun and by state.
#[derive(Clone, Debug)]
struct LengthTable {
    places: HashMap<(DfaState, Text), u32>,
    /// `NONE` where no match of a right length follows. [n_levels, n_places]
    distances: Vec<u32>,
    n_levels: u32,
}

/// Where a place's bytes lead, without repetition.
struct Place {
    state: DfaState,
    text: Text,
    next: Vec<u32>,
}

impl LengthTable {
    fn new(
        dfa: &mut Automaton,
        start: DfaState,
        (min, max): (u32, Option<u32>),
        limits: &Limits,
    ) -> Result<Self, GrammarError> {
        let n_levels = max.unwrap_or(min).saturating_add(1);
        let max_places = limits.length_cells / n_levels as usize;
        let too_large = || GrammarError::Limit {
            what: "a pattern with length bounds".into(),
            limit: "length_cells",
            allowed: limits.length_cells,
        };
        let mut places = HashMap::from([((start, BOUNDARY), 0)]);
        let mut graph = vec![Place {
            state: start,
            text: BOUNDARY,
            next: Vec::new(),
        }];
        let mut n_done = 0;
        while n_done < graph.len() {
            if graph.len() > max_places {
                return Err(too_large());
            }
            for byte in 0..=u8::MAX {
                let Place { state, text, .. } = graph[n_done];
                let Some(text) = text.step(byte) else {
                    continue;
                };
                let Some(state) = dfa.step(state, byte)? else {
                    continue;
                };
                let place = *places.entry((state, text)).or_insert_with(|| {
                    graph.push(Place {
                        state,
                        text,
                        next: Vec::new(),
                    });
                    graph.len() as u32 - 1
                });
                if !graph[n_done].next.contains(&place) {
                    graph[n_done].next.push(place);
                }
            }
            n_done += 1;
        }
        let mut table = Self {
            places,
            distances: vec![NONE; n_levels as usize * graph.len()],
            n_levels,
        };
        table.fill(dfa, &graph, min, max.is_some());
        Ok(table)
    }

    /// From the last level down: within a level, places in the order of what is left of their code
    /// point.
    fn fill(&mut self, dfa: &Automaton, graph: &[Place], min: u32, bounded: bool) {
        let mut order: Vec<usize> = (0..graph.len()).collect();
        order.sort_by_key(|&place| graph[place].text.rank());
        for level in (0..self.n_levels).rev() {
            let is_last = level + 1 == self.n_levels;
            let here = level as usize * graph.len();
            for &place in &order {
                let Place { state, text, next } = &graph[place];
                let at_boundary = *text == BOUNDARY;
                self.distances[here + place] = if is_last && !bounded {
                    dfa.distance(*state) as u32
                } else if at_boundary && level >= min && dfa.is_accepting(*state) {
                    0
                } else if at_boundary && is_last {
                    NONE
                } else {
                    let row = if at_boundary {
                        here + graph.len()
                    } else {
                        here
                    };
                    let nearest = next.iter().map(|&next| self.distances[row + next as usize]);
                    nearest.min().unwrap_or(NONE).saturating_add(1)
                };
            }
        }
    }

    fn distance(&self, body: &Body) -> u32 {
        let level = body.count.min(self.n_levels - 1) as usize;
        let place = self.places.get(&(body.state, body.text));
        place.map_or(NONE, |&place| {
            self.distances[level * self.places.len() + place as usize]
        })
    }
}
