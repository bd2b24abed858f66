//! Strings under a pattern and length bounds.
//!
//! A pattern alone is an automaton, lengths alone are a counter. Together they need more: whether a
//! match of the right length is still reachable. [`LengthTable`] answers it for each count and each
//! state, found backwards from the end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use foldhash::{HashMap, HashSet, HashSetExt};

use crate::json::text::{BOUNDARY, CLASSES, Text};
use crate::regex::dfa::DfaState;
use crate::regex::product::Automaton;
use crate::runs::MAX_FOLLOWED;
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
    /// The shape, where its table matters, and the code points still due.
    table: (u32, u32),
}

const NONE: u32 = u32::MAX;

/// Places of a pattern beyond which lengths are only counted.
const MAX_PLACES: usize = 4096;

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
                match LengthTable::new(dfa, start, (min, max), limits) {
                    // Too large to see the end coming: lengths are only counted.
                    Err(GrammarError::Limit { .. }) => None,
                    table => Some(table?),
                }
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

    /// Heap bytes of its table.
    pub(crate) fn n_bytes(&self) -> usize {
        self.table.as_ref().map_or(0, |table| {
            table.ways.len() * size_of::<Way>() + table.places.len() * 24
        })
    }

    /// Cells of its table.
    pub(crate) fn n_cells(&self) -> usize {
        self.table.as_ref().map_or(0, |table| table.ways.len())
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

    /// The pattern's state, if it alone decides on the next [`MAX_FOLLOWED`] characters.
    pub(crate) fn without_lengths(&self, body: &Body) -> Option<DfaState> {
        let longest = match &self.table {
            Some(_) if body.count < self.min => return None,
            Some(table) => table.longest,
            None => 0,
        };
        let most = u32::from(MAX_FOLLOWED) + longest;
        let is_free = self.max.is_none_or(|max| max - body.count >= most);
        is_free.then_some(body.state)
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
            (Some(table), Some((pattern, _))) => {
                // Beyond what any token and the longest way take, what is left makes no difference.
                let most = longest as u32 + table.longest;
                let left = self.max.map_or(NONE, |max| (max - body.count).min(most));
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

/// How far a match of a length within bounds is.
///
/// For each number of code points still due and each place there is the least number of code
/// points that leads to a match, and the bytes of such a way. A maximum is then a comparison, so
/// only the minimum costs cells.
#[derive(Clone, Debug)]
struct LengthTable {
    places: HashMap<(DfaState, Text), u32>,
    /// [n_due, n_places]
    ways: Vec<Way>,
    max: Option<u32>,
    min: u32,
    /// The most code points of a way.
    longest: u32,
}

/// Code points, then bytes; `NONE` where there is no match.
type Way = (u32, u32);

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
        let n_levels = min as usize + 1;
        let most = (limits.length_cells / n_levels).min(MAX_PLACES);
        let (places, graph) = places(dfa, start, most, limits)?;
        let mut ways = vec![(NONE, NONE); n_levels * graph.len()];
        fill_without_minimum(dfa, &graph, &mut ways);
        let mut order: Vec<usize> = (0..graph.len()).collect();
        order.sort_by_key(|&place| graph[place].text.rank());
        for n_due in 1..n_levels {
            let here = n_due * graph.len();
            for &place in &order {
                let Place { text, next, .. } = &graph[place];
                let (row, more) = if *text == BOUNDARY {
                    (here - graph.len(), 1)
                } else {
                    (here, 0)
                };
                let nearest = next.iter().map(|&next| ways[row + next as usize]).min();
                ways[here + place] = longer(nearest.unwrap_or((NONE, NONE)), more);
            }
        }
        let longest = ways.iter().map(|way| way.0).filter(|&n| n != NONE).max();
        Ok(Self {
            places,
            ways,
            max,
            min,
            longest: longest.unwrap_or(0),
        })
    }

    fn distance(&self, body: &Body) -> u32 {
        let n_due = self.min.saturating_sub(body.count) as usize;
        let Some(&place) = self.places.get(&(body.state, body.text)) else {
            return NONE;
        };
        let (n_points, n_bytes) = self.ways[n_due * self.places.len() + place as usize];
        match self.max {
            Some(max) if n_points > max - body.count => NONE,
            _ => n_bytes,
        }
    }
}

/// One byte further from a match, and perhaps one code point.
fn longer((n_points, n_bytes): Way, more: u32) -> Way {
    match n_points {
        NONE => (NONE, NONE),
        _ => (n_points + more, n_bytes + 1),
    }
}

/// All places of a pattern's texts.
#[allow(clippy::type_complexity, reason = "a map and a graph over its values")]
fn places(
    dfa: &mut Automaton,
    start: DfaState,
    max_places: usize,
    limits: &Limits,
) -> Result<(HashMap<(DfaState, Text), u32>, Vec<Place>), GrammarError> {
    let place = |state, text| Place {
        state,
        text,
        next: Vec::new(),
    };
    let class = |byte: u8| (dfa.class(byte), CLASSES[usize::from(byte)]);
    let mut told_apart = HashSet::new();
    let bytes: Vec<u8> = (0..=u8::MAX)
        .filter(|&byte| told_apart.insert(class(byte)))
        .collect();
    let mut places = HashMap::from_iter([((start, BOUNDARY), 0)]);
    let mut graph = vec![place(start, BOUNDARY)];
    let mut n_done = 0;
    while n_done < graph.len() {
        if graph.len() > max_places {
            return Err(GrammarError::Limit {
                what: "a pattern with length bounds".into(),
                limit: "length_cells",
                allowed: limits.length_cells,
            });
        }
        for &byte in &bytes {
            let Place { state, text, .. } = graph[n_done];
            let Some(text) = text.step(byte) else {
                continue;
            };
            let Some(state) = dfa.step(state, byte)? else {
                continue;
            };
            let next = *places.entry((state, text)).or_insert_with(|| {
                graph.push(place(state, text));
                graph.len() as u32 - 1
            });
            if !graph[n_done].next.contains(&next) {
                graph[n_done].next.push(next);
            }
        }
        n_done += 1;
    }
    Ok((places, graph))
}

/// The nearest match of each place where no more code points are due: Dijkstra's algorithm, from the
/// matches backwards.
fn fill_without_minimum(dfa: &Automaton, graph: &[Place], ways: &mut [Way]) {
    let mut before: Vec<Vec<u32>> = vec![Vec::new(); graph.len()];
    let mut queue = BinaryHeap::new();
    for (idx, place) in graph.iter().enumerate() {
        for &next in &place.next {
            before[next as usize].push(idx as u32);
        }
        if place.text == BOUNDARY && dfa.is_accepting(place.state) {
            ways[idx] = (0, 0);
            queue.push(Reverse(((0, 0), idx as u32)));
        }
    }
    while let Some(Reverse((way, place))) = queue.pop() {
        if ways[place as usize] != way {
            continue;
        }
        for &from in &before[place as usize] {
            let more = u32::from(graph[from as usize].text == BOUNDARY);
            let found = longer(way, more);
            if found < ways[from as usize] {
                ways[from as usize] = found;
                queue.push(Reverse((found, from)));
            }
        }
    }
}
