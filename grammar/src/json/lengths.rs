//! How far a match of a length within bounds is.
//!
//! A *position* is a state of a pattern's NFA; a state of the automaton stands for some of them, and
//! its nearest match is the nearest of theirs. So the table needs no determinised states. A *place* is a
//! position at a state of the string's text. For each number of code points still due and each place
//! there is the least number of code points that leads to a match, and the bytes of such a way. A
//! maximum is then a comparison, so only the minimum costs cells. A product of patterns has no table:
//! its matches are searched for ([`crate::json::search`]).
//!
//! Source: E. Dijkstra, "A note on two problems in connexion with graphs", Numerische Mathematik 1,
//! 1959, from the matches backwards.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use foldhash::HashMap;
use regex_automata::nfa::thompson::{State, Transition};
use regex_automata::util::primitives::StateID;

use crate::alphabet::told_apart;
use crate::json::automaton::Automaton;
use crate::json::patterns::AutomatonId;
use crate::json::search::{Fewest, Place};
use crate::json::string::Body;
use crate::json::text::{BOUNDARY, N_TEXTS, Text};
use crate::regex::dfa::{Dfa, DfaState, successor};
use crate::regex::program::Program;
use crate::regex::reach::{Edges, UNREACHABLE};
use crate::{GrammarError, Limits};

const NONE: u32 = u32::MAX;

/// Bytes of a code point in its longest spelling, a pair of `\uXXXX`.
const MAX_CODE_POINT_BYTES: usize = 12;
/// Places of a pattern beyond which lengths are only counted.
const MAX_PLACES: usize = 1 << 17;

/// Code points, then bytes; `NONE` where there is no match.
pub(crate) type Way = (u32, u32);

pub(crate) const NO_WAY: Way = (NONE, NONE);

/// The ways of one pattern.
#[derive(Debug)]
pub(crate) struct Ways {
    places: Arc<Places>,
    /// For each number of code points due, up to one from which on each further one makes every way
    /// longer by itself and its one byte. [n_rows, n_places]
    ways: Vec<Way>,
    /// The most code points of a way.
    longest: u32,
}

/// What is known of the matches of one automaton with lengths within bounds.
#[derive(Clone, Debug)]
pub(crate) struct LengthTable {
    /// `None` where they are searched for.
    ways: Option<Arc<Ways>>,
    min: u32,
    max: Option<u32>,
}

/// The tables of a schema in the making: those of one automaton share their places, and their ways
/// if the same minimum matters.
#[derive(Default)]
pub(crate) struct LengthTables {
    /// `None` for what is too large.
    known: HashMap<AutomatonId, Option<Known>>,
}

struct Known {
    graph: Graph,
    /// Fewest code points of a match.
    shortest: u32,
    /// By their minimum.
    ways: HashMap<u32, Arc<Ways>>,
}

impl LengthTables {
    /// The table of an automaton from its first state on; `None` where all matches are within the
    /// bounds, and where it would be too large to see the end coming: then lengths are only counted.
    pub(crate) fn table(
        &mut self,
        (id, start): (AutomatonId, DfaState),
        automaton: &mut Automaton,
        (min, max): (u32, Option<u32>),
        limits: &mut Limits,
    ) -> Option<LengthTable> {
        let n_least = automaton.distance(start).div_ceil(MAX_CODE_POINT_BYTES);
        if n_least >= min as usize && max.is_none() {
            return None;
        }
        let (ways, min) = match automaton {
            // Where no match is shorter a minimum says nothing.
            Automaton::Product(product, search) => {
                search.prepare(product, start, limits);
                let is_due = search.shortest(product, start) < min;
                (None, if is_due { min } else { 0 })
            }
            Automaton::One(dfa) => {
                let known = self.known.entry(id);
                let known = known
                    .or_insert_with(|| Known::new(dfa, start, limits))
                    .as_mut()?;
                let min = if known.shortest < min { min } else { 0 };
                (Some(known.with_minimum(min, limits)?), min)
            }
        };
        (min > 0 || max.is_some()).then_some(LengthTable { ways, min, max })
    }
}

impl Known {
    /// `None` if there are too many places.
    fn new(dfa: &Dfa, start: DfaState, limits: &mut Limits) -> Option<Self> {
        let positions = dfa.nfa_states(start);
        let graph = Graph::new(dfa.program(), positions, limits)?;
        let ways = Ways::of_any_length(&graph, limits);
        let shortest = match dfa.is_accepting(start) {
            true => 0,
            false => ways.nearest(positions, BOUNDARY, 0).0,
        };
        Some(Self {
            graph,
            shortest,
            ways: HashMap::from_iter([(0, Arc::new(ways))]),
        })
    }

    fn with_minimum(&mut self, min: u32, limits: &mut Limits) -> Option<Arc<Ways>> {
        if let Some(known) = self.ways.get(&min) {
            return Some(Arc::clone(known));
        }
        let without = &self.ways[&0];
        let n_places = without.ways.len();
        if n_places * (min as usize + 1) > limits.length_cells {
            return None;
        }
        let mut ways = without.ways.clone();
        let mut n_more = min;
        while n_more > 0 {
            let before = &ways[ways.len() - n_places..];
            let row = self.graph.ways(min - n_more + 1, before);
            // A row follows from the one before alone, so that then all others grow alike.
            if before
                .iter()
                .zip(&row)
                .all(|(&way, &next)| longer(way, 1) == next)
            {
                break;
            }
            ways.extend(row);
            n_more -= 1;
        }
        limits.length_cells -= ways.len();
        let ways = Arc::new(Ways {
            places: Arc::clone(&self.graph.places),
            longest: longest(&ways) + n_more,
            ways,
        });
        self.ways.insert(min, Arc::clone(&ways));
        Some(ways)
    }
}

/// The way with `n` more code points before it, of one byte each.
fn longer((n_points, n_bytes): Way, n: u32) -> Way {
    match n_points {
        NONE => NO_WAY,
        _ => (n_points + n, n_bytes + n),
    }
}

fn longest(ways: &[Way]) -> u32 {
    let lengths = ways.iter().map(|way| way.0).filter(|&n| n != NONE);
    lengths.max().unwrap_or(0)
}

impl Ways {
    /// The ways to matches of whatever length.
    pub(crate) fn of_any_length(graph: &Graph, limits: &mut Limits) -> Self {
        let ways = graph.ways(0, &[]);
        limits.length_cells -= ways.len();
        Self {
            places: Arc::clone(&graph.places),
            longest: longest(&ways),
            ways,
        }
    }

    /// The shortest way of those from some positions of which none is at the end.
    pub(crate) fn nearest(&self, positions: &[u32], text: Text, n_due: u32) -> Way {
        let n_places = self.places.texts.len();
        let row = (n_due as usize).min(
            self.ways
                .len()
                .checked_div(n_places)
                .map_or(0, |n_rows| n_rows - 1),
        );
        let places = positions.iter();
        let places = places.filter_map(|&position| self.places.find(position, text));
        let ways = places.map(|place| self.ways[row * n_places + place as usize]);
        longer(ways.min().unwrap_or(NO_WAY), n_due - row as u32)
    }

    /// Heap bytes; those of one pattern share them.
    pub(crate) fn n_bytes(&self) -> usize {
        size_of_val(&*self.ways) + self.places.n_bytes()
    }
}

impl LengthTable {
    /// The most code points that a way takes from any state that was met so far; `NONE` if that is not known.
    pub(crate) fn longest(&self, body: &Body, automaton: &Automaton) -> u32 {
        match (&self.ways, automaton) {
            (Some(ways), _) => ways.longest,
            // Of as many as there are bytes to the nearest match, while none is due.
            (None, Automaton::Product(product, _)) if body.count >= self.min => product.furthest(),
            (None, _) => NONE,
        }
    }

    /// Heap bytes; tables of one automaton share them.
    pub(crate) fn n_bytes(&self) -> usize {
        self.ways.as_ref().map_or(0, |ways| ways.n_bytes())
    }

    /// Whether a match of a length within the bounds can follow. Of a product's state it must be known
    /// that a match can.
    pub(crate) fn is_live(
        &self,
        body: &Body,
        automaton: &mut Automaton,
    ) -> Result<bool, GrammarError> {
        if body.count >= self.min && self.fits(body, self.longest(body, automaton)) {
            return Ok(true);
        }
        if let Automaton::Product(product, search) = &mut *automaton {
            let place = self.place(body);
            search.find(product, place, Fewest::Bytes)?;
            let (n_points, _) = search.known(product, place, Fewest::Bytes);
            if !self.fits(body, n_points) && n_points != NONE {
                search.find(product, place, Fewest::CodePoints)?;
            }
        }
        Ok(self.distance(body, automaton) != NONE)
    }

    /// Fewest bytes to such a match; `NONE` if there is none.
    pub(crate) fn distance(&self, body: &Body, automaton: &Automaton) -> u32 {
        let place = self.place(body);
        let (n_points, n_bytes) = match (&self.ways, automaton) {
            (Some(ways), Automaton::One(dfa)) => {
                let is_end = place.due == 0 && place.text == BOUNDARY;
                match is_end && dfa.is_accepting(body.state) {
                    true => (0, 0),
                    false => ways.nearest(dfa.nfa_states(body.state), place.text, place.due),
                }
            }
            (_, Automaton::Product(product, search)) => {
                let nearest = search.known(product, place, Fewest::Bytes);
                match self.fits(body, nearest.0) {
                    true => nearest,
                    false => search.known(product, place, Fewest::CodePoints),
                }
            }
            (None, Automaton::One(_)) => unreachable!("a pattern by itself has a table"),
        };
        match self.fits(body, n_points) {
            true => n_bytes,
            false => NONE,
        }
    }

    /// Whether so many more code points are not too many.
    fn fits(&self, body: &Body, n_points: u32) -> bool {
        n_points != NONE && self.max.is_none_or(|max| n_points <= max - body.count)
    }

    fn place(&self, body: &Body) -> Place {
        Place {
            state: body.state,
            text: body.text,
            due: self.min.saturating_sub(body.count),
        }
    }
}

/// Positions at states of the text.
#[derive(Clone, Debug, Default)]
struct Places {
    /// The place that was found last of each position, `NONE` if there is none.
    last: Vec<u32>,
    /// The text of each place. [n_places]
    texts: Vec<Text>,
    /// The place of the same position that was found before. [n_places]
    before: Vec<u32>,
}

impl Places {
    fn n_bytes(&self) -> usize {
        size_of_val(&*self.last) + size_of_val(&*self.texts) + size_of_val(&*self.before)
    }

    fn find(&self, position: u32, text: Text) -> Option<u32> {
        let mut place = self.last.get(position as usize).copied()?;
        while place != NONE && self.texts[place as usize] != text {
            place = self.before[place as usize];
        }
        (place != NONE).then_some(place)
    }

    /// The place, and whether it is new.
    fn add(&mut self, position: u32, text: Text) -> (u32, bool) {
        if let Some(place) = self.find(position, text) {
            return (place, false);
        }
        if self.last.len() <= position as usize {
            self.last.resize(position as usize + 1, NONE);
        }
        let place = self.texts.len() as u32;
        let last = &mut self.last[position as usize];
        self.before.push(std::mem::replace(last, place));
        self.texts.push(text);
        (place, true)
    }
}

/// Places, and how they lead to each other.
pub(crate) struct Graph {
    places: Arc<Places>,
    free: Edges,
    by_byte: Edges,
    /// Places at the end of a match.
    matching: Vec<u32>,
}

/// A place whose steps are still to be looked at.
#[derive(Clone, Copy)]
struct Open {
    place: u32,
    position: u32,
    text: Text,
}

/// A graph in the making.
struct Search {
    places: Places,
    free: Edges,
    by_byte: Edges,
    matching: Vec<u32>,
    /// Places whose steps are still to be looked at.
    open: Vec<Open>,
}

impl Graph {
    /// The places that a pattern's `positions` lead to; `None` if there are too many.
    pub(crate) fn new(program: &Program, positions: &[u32], limits: &Limits) -> Option<Self> {
        let mut search = Search {
            places: Places::default(),
            free: Edges::new(0),
            by_byte: Edges::new(0),
            matching: Vec::new(),
            open: Vec::new(),
        };
        let bytes = told_apart(|byte| program.classes[usize::from(byte)].into());
        let after: [Vec<(u8, Text)>; N_TEXTS] = std::array::from_fn(|text| {
            let text = Text::nth(text as u8);
            let steps = bytes.iter().map(|&byte| (byte, text.step(byte)));
            steps
                .filter_map(|(byte, text)| Some((byte, text?)))
                .collect()
        });
        for &position in positions {
            search.reach(position, BOUNDARY);
        }
        while let Some(from) = search.open.pop() {
            if search.places.texts.len() > MAX_PLACES.min(limits.length_cells) {
                return None;
            }
            search.step(program, from, &after[from.text.index()]);
        }
        Some(Self {
            places: Arc::new(search.places),
            free: search.free,
            by_byte: search.by_byte,
            matching: search.matching,
        })
    }

    /// The ways from each place when `n_due` code points are still due, given those for one less.
    fn ways(&self, n_due: u32, fewer: &[Way]) -> Vec<Way> {
        let texts = &self.places.texts;
        let mut ways = vec![NO_WAY; texts.len()];
        let mut queue = BinaryHeap::new();
        if n_due == 0 {
            for &place in &self.matching {
                ways[place as usize] = (0, 0);
                queue.push(Reverse(((0, 0), place)));
            }
        }
        // A code point's first byte leads to where one less is due.
        for (place, &(n_points, n_bytes)) in fewer.iter().enumerate() {
            if n_points != NONE {
                for from in self.by_byte.leading_to(place as u32) {
                    let way = (n_points + 1, n_bytes + 1);
                    if texts[from as usize] == BOUNDARY && way < ways[from as usize] {
                        ways[from as usize] = way;
                        queue.push(Reverse((way, from)));
                    }
                }
            }
        }
        let mut open = Vec::new();
        while let Some(Reverse((way, place))) = queue.pop() {
            if ways[place as usize] != way {
                continue;
            }
            // What is within one code point is few steps away and needs no order.
            open.push(place);
            while let Some(place) = open.pop() {
                let (n_points, n_bytes) = ways[place as usize];
                for from in self.free.leading_to(place) {
                    if (n_points, n_bytes) < ways[from as usize] {
                        ways[from as usize] = (n_points, n_bytes);
                        open.push(from);
                    }
                }
                for from in self.by_byte.leading_to(place) {
                    let begins = texts[from as usize] == BOUNDARY;
                    let way = (n_points + u32::from(begins), n_bytes + 1);
                    if begins && n_due > 0 || way >= ways[from as usize] {
                        continue;
                    }
                    ways[from as usize] = way;
                    match begins {
                        true => queue.push(Reverse((way, from))),
                        false => open.push(from),
                    }
                }
            }
        }
        ways
    }
}

impl Search {
    fn step(&mut self, program: &Program, from: Open, after: &[(u8, Text)]) {
        if from.text == BOUNDARY && program.distances[from.position as usize] == 0 {
            self.matching.push(from.place);
        }
        let mut lead = |next: &StateID| {
            if program.distances[next.as_usize()] != UNREACHABLE {
                let to = self.reach(next.as_u32(), from.text);
                self.free.add(from.place, to);
            }
        };
        let state = StateID::new_unchecked(from.position as usize);
        match program.nfa.state(state) {
            State::Union { alternates } => alternates.iter().for_each(lead),
            State::BinaryUnion { alt1, alt2 } => [alt1, alt2].into_iter().for_each(lead),
            State::Capture { next, .. } => lead(next),
            State::ByteRange { trans } => self.follow(program, from, after, trans),
            State::Sparse(sparse) => {
                let each = sparse.transitions.iter();
                each.for_each(|trans| self.follow(program, from, after, trans));
            }
            state => {
                for &(byte, text) in after {
                    if let Some(next) = successor(state, byte) {
                        self.lead(program, from, (next, text));
                    }
                }
            }
        }
    }

    /// Takes those of the bytes that a transition does.
    fn follow(
        &mut self,
        program: &Program,
        from: Open,
        after: &[(u8, Text)],
        transition: &Transition,
    ) {
        let first = after.partition_point(|step| step.0 < transition.start);
        let taken = after[first..].iter();
        for &(_, text) in taken.take_while(|step| step.0 <= transition.end) {
            self.lead(program, from, (transition.next, text));
        }
    }

    fn lead(&mut self, program: &Program, from: Open, (next, text): (StateID, Text)) {
        if program.distances[next.as_usize()] != UNREACHABLE {
            let to = self.reach(next.as_u32(), text);
            self.by_byte.add(from.place, to);
        }
    }

    /// The place, whose steps are looked at later if it is new.
    fn reach(&mut self, position: u32, text: Text) -> u32 {
        let (place, is_new) = self.places.add(position, text);
        if is_new {
            self.open.push(Open {
                place,
                position,
                text,
            });
        }
        place
    }
}
