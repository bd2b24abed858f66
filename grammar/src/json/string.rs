//! Strings under a pattern and length bounds.
//!
//! A pattern alone is an automaton, lengths alone are a counter. Together they need more: whether a
//! match of the right length is still reachable, which a [`LengthTable`] knows.

use smallvec::SmallVec;

use crate::GrammarError;
use crate::alphabet::Targets;
use crate::json::automaton::Automaton;
use crate::json::lengths::LengthTable;
use crate::json::text::{BOUNDARY, Text};
use crate::regex::dfa::DfaState;
use crate::runs::{ENDLESS, MAX_FOLLOWED};

/// The strings of a schema: index of the pattern's automaton, and lengths in code points.
#[derive(Clone, Debug)]
pub(crate) struct StringShape {
    pub(crate) pattern: Option<(u32, DfaState)>,
    pub(crate) min: u32,
    pub(crate) max: Option<u32>,
    table: Option<LengthTable>,
    /// Whether every text is the beginning of one of them, whatever came before it.
    goes_on: bool,
}

/// Strings that nothing is asked of.
static ANY: StringShape = StringShape {
    pattern: None,
    min: 0,
    max: None,
    table: None,
    goes_on: true,
};

/// A string in the making, after its opening quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Body {
    pub(crate) text: Text,
    pub(crate) state: DfaState,
    /// Code points begun; without a `max` it stops at `min`.
    pub(crate) count: u32,
}

impl Body {
    /// Just after the opening quote.
    pub(crate) fn open(state: DfaState) -> Self {
        Self {
            text: BOUNDARY,
            state,
            count: 0,
        }
    }
}

/// What decides which bytes may follow within a string, whatever surrounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct InteriorKey {
    pattern: u32,
    state: DfaState,
    text: Text,
    left: u32,
    /// The shape, where its table matters, and the code points still due.
    table: (u32, u32),
}

const NONE: u32 = u32::MAX;

/// Beside the longest way so far: more code points than that and a token take.
const FAR: u32 = 1 << 31;

impl InteriorKey {
    /// Whether it speaks of no pattern, and so means the same in every constraint.
    pub(crate) fn is_common(&self) -> bool {
        self.pattern == NONE
    }
}

impl StringShape {
    /// `None` if no string satisfies it. Pass the automaton that `pattern` names, what is known of its
    /// lengths, and whether every text is the beginning of a string.
    pub(crate) fn new(
        mut pattern: Option<(u32, &mut Automaton, DfaState)>,
        (min, max): (u32, Option<u32>),
        table: Option<LengthTable>,
        goes_on: bool,
    ) -> Result<Option<Self>, GrammarError> {
        if max.is_some_and(|max| max < min) {
            return Ok(None);
        }
        let is_live = match (&mut pattern, &table) {
            (Some((_, automaton, start)), Some(table)) => {
                table.is_live(&Body::open(*start), automaton)?
            }
            _ => true,
        };
        Ok(is_live.then_some(Self {
            pattern: pattern.map(|(id, _, start)| (id, start)),
            min,
            max,
            table,
            goes_on,
        }))
    }

    /// Heap bytes of its table.
    pub(crate) fn n_bytes(&self) -> usize {
        self.table.as_ref().map_or(0, LengthTable::n_bytes)
    }

    /// Just after the opening quote.
    pub(crate) fn open(&self) -> Body {
        Body::open(self.pattern.map_or(0, |(_, start)| start))
    }

    /// After one more byte of the body. Pass all patterns' automata.
    #[inline]
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
        let Some((pattern, _)) = self.pattern else {
            return Ok(Some(Body {
                text,
                state: 0,
                count,
            }));
        };
        let automaton = &mut dfas[pattern as usize];
        let Some(state) = automaton.step(body.state, byte)? else {
            return Ok(None);
        };
        let next = Body { text, state, count };
        let is_live = match &self.table {
            Some(table) => table.is_live(&next, automaton)?,
            None => true,
        };
        Ok(is_live.then_some(next))
    }

    /// Where one more character leads from a boundary, by where it leads from the pattern's state.
    pub(crate) fn after_character(
        &self,
        body: &Body,
        of_state: &Targets<DfaState>,
        mut automaton: Option<&mut Automaton>,
    ) -> Result<Targets<Body>, GrammarError> {
        let count = match self.max {
            None => (body.count + 1).min(self.min),
            Some(_) => body.count + 1,
        };
        let mut targets = Targets {
            list: SmallVec::new(),
            dead: of_state.dead,
            alive: 0,
        };
        if self.max.is_none_or(|max| count <= max) {
            targets.alive = of_state.alive;
        }
        for &(state, groups) in &of_state.list {
            let next = Body {
                text: BOUNDARY,
                state,
                count,
            };
            let is_live = match (&self.table, &mut automaton) {
                _ if targets.alive == 0 => false,
                (Some(table), Some(automaton)) => table.is_live(&next, automaton)?,
                _ => true,
            };
            if is_live {
                targets.list.push((next, groups));
            } else {
                targets.dead |= groups;
            }
        }
        Ok(targets)
    }

    /// The code points that may still come, if there is a bound.
    pub(crate) fn n_left(&self, body: &Body) -> Option<u32> {
        self.max.map(|max| max - body.count)
    }

    /// Whether any text may stand from here to the closing quote.
    pub(crate) fn is_free(&self, body: &Body) -> bool {
        let is_bound = self.pattern.is_some() || self.max.is_some() || body.count < self.min;
        !is_bound && body.text == BOUNDARY
    }

    /// Whether any text may go on from here, if not to the closing quote.
    pub(crate) fn takes_any(&self, body: &Body) -> bool {
        self.goes_on && body.text == BOUNDARY
    }

    /// What decides which texts stay inside, and where in it this place is: if all do, and no distance is asked for (`measured`), it
    /// is a string that nothing is asked of.
    pub(crate) fn inside(&self, body: &Body, measured: bool) -> (&Self, Body) {
        match self.goes_on && !measured {
            true => (
                &ANY,
                Body {
                    text: body.text,
                    ..ANY.open()
                },
            ),
            false => (self, *body),
        }
    }

    /// For how many characters the pattern's state alone decides what may follow; 0 if lengths soon do, too.
    pub(crate) fn n_without_lengths(&self, body: &Body, automaton: Option<&Automaton>) -> u8 {
        let longest = match (&self.table, automaton) {
            (Some(_), _) if body.count < self.min => return 0,
            (Some(table), Some(automaton)) => table.longest(body, automaton),
            _ => 0,
        };
        let n_free = match self.n_left(body) {
            None => ENDLESS,
            Some(n_left) => n_left.saturating_sub(longest).min(u32::from(ENDLESS - 1)) as u8,
        };
        if n_free >= MAX_FOLLOWED { n_free } else { 0 }
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
            (Some(table), Some((pattern, _))) => {
                table.distance(body, &dfas[pattern as usize]) as usize
            }
            (None, Some((pattern, _))) => dfas[pattern as usize].distance(body.state),
            (_, None) => body.text.distance() + self.min.saturating_sub(body.count) as usize,
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
    pub(crate) fn interior_key(
        &self,
        shape: u32,
        body: &Body,
        longest: usize,
        automata: &[Automaton],
    ) -> InteriorKey {
        let left = self
            .n_left(body)
            .map_or(NONE, |n_left| n_left.min(longest as u32));
        match (&self.table, self.pattern) {
            (Some(table), Some((pattern, _))) => {
                // Beyond what any token and the longest way take, what is left makes no difference, as long as no
                // longer way is met.
                let way = table.longest(body, &automata[pattern as usize]);
                let left = self.n_left(body).map_or(NONE, |n_left| {
                    match n_left >= way.saturating_add(longest as u32) {
                        true => FAR + way,
                        false => n_left,
                    }
                });
                let due = self.min.saturating_sub(body.count);
                InteriorKey {
                    pattern,
                    state: body.state,
                    text: body.text,
                    left,
                    table: (shape, due),
                }
            }
            (_, pattern) => InteriorKey {
                pattern: pattern.map_or(NONE, |(pattern, _)| pattern),
                state: body.state,
                text: body.text,
                left,
                table: (NONE, 0),
            },
        }
    }
}
