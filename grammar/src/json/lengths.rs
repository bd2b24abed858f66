//! How far a match of a length within bounds is.
//!
//! A *position* is a state of a pattern's NFA, or of a product of patterns; a state of the automaton
//! stands for some of them, and its nearest match is the nearest of theirs. So the table needs no
//! determinised states. A *place* is a position at a state of the string's text. For each number of
//! code points still due and each place there is the least number of code points that leads to a
//! match, and the bytes of such a way. A maximum is then a comparison, so only the minimum costs
//! cells.
//!
//! Source: E. Dijkstra, "A note on two problems in connexion with graphs", Numerische Mathematik 1,
//! 1959, from the matches backwards.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use foldhash::{HashMap, HashSet, HashSetExt};
use regex_automata::nfa::thompson::State;
use regex_automata::util::primitives::StateID;

use crate::json::patterns::AutomatonId;
use crate::json::string::Body;
use crate::json::text::{BOUNDARY, CLASSES, N_TEXTS, Text};
use crate::regex::dfa::{DfaState, successor};
use crate::regex::product::{Automaton, Product};
use crate::regex::program::Program;
use crate::regex::reach::{Edges, UNREACHABLE};
use crate::{GrammarError, Limits};

const NONE: u32 = u32::MAX;

/// Places of a pattern, and tuples of a product of some, beyond which lengths are only counted.
const MAX_PLACES: usize = 1 << 17;
const MAX_TUPLES: usize = 4096;

/// Code points, then bytes; `NONE` where there is no match.
type Way = (u32, u32);

const NO_WAY: Way = (NONE, NONE);

/// The ways of one automaton.
#[derive(Debug)]
struct Ways {
    places: Arc<Places>,
    /// For each number of code points due, up to one from which on each further one makes every way
    /// longer by itself and its one byte. [n_rows, n_places]
    ways: Vec<Way>,
    /// The most code points that can be due.
    min: u32,
    /// The most code points of a way.
    longest: u32,
    /// Whether each state of the automaton can go on to a match of some length.
    all_live: bool,
}

/// What is known of the matches of one automaton with lengths within bounds.
#[derive(Clone, Debug)]
pub(crate) struct LengthTable {
    ways: Arc<Ways>,
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
    ) -> Result<Option<LengthTable>, GrammarError> {
        let known = match self.known.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(vacant) => vacant.insert(Known::new(automaton, start, limits)?),
        };
        let Some(known) = known else {
            return Ok(None);
        };
        // Where no match is shorter a minimum says nothing.
        let min = if known.shortest < min { min } else { 0 };
        let ways = known.with_minimum(min, limits);
        let table = ways.map(|ways| LengthTable { ways, max });
        Ok(table.filter(|table| min > 0 || max.is_some() || !table.ways.all_live))
    }
}

impl Known {
    /// `None` if there are too many places.
    fn new(
        automaton: &mut Automaton,
        start: DfaState,
        limits: &mut Limits,
    ) -> Result<Option<Self>, GrammarError> {
        let Some(graph) = Graph::new(automaton, start, limits)? else {
            return Ok(None);
        };
        let ways = graph.ways(0, &[]);
        limits.length_cells -= ways.len();
        let ways = Ways {
            places: Arc::clone(&graph.places),
            longest: longest(&ways),
            ways,
            min: 0,
            all_live: matches!(automaton, Automaton::One(_)),
        };
        Ok(Some(Self {
            graph,
            shortest: ways.nearest(&Body::open(start), automaton).0,
            ways: HashMap::from_iter([(0, Arc::new(ways))]),
        }))
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
            min,
            all_live: without.all_live,
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
    fn nearest(&self, body: &Body, automaton: &Automaton) -> Way {
        let n_due = self.min.saturating_sub(body.count);
        if n_due == 0 && body.text == BOUNDARY && automaton.is_accepting(body.state) {
            return (0, 0);
        }
        let n_places = self.places.texts.len();
        let row = (n_due as usize).min(
            self.ways
                .len()
                .checked_div(n_places)
                .map_or(0, |n_rows| n_rows - 1),
        );
        let positions = automaton.positions(&body.state).iter();
        let places = positions.filter_map(|&position| self.places.find(position, body.text));
        let ways = places.map(|place| self.ways[row * n_places + place as usize]);
        longer(ways.min().unwrap_or(NO_WAY), n_due - row as u32)
    }
}

impl LengthTable {
    /// The most code points that a way takes.
    pub(crate) fn longest(&self) -> u32 {
        self.ways.longest
    }

    /// Heap bytes; tables of one automaton share them.
    pub(crate) fn n_bytes(&self) -> usize {
        size_of_val(&*self.ways.ways) + self.ways.places.n_bytes()
    }

    /// Whether a match of a length within the bounds can follow.
    pub(crate) fn is_live(&self, body: &Body, automaton: &Automaton) -> bool {
        let Ways {
            longest,
            min,
            all_live,
            ..
        } = *self.ways;
        let fits = body.count >= min && self.max.is_none_or(|max| max - body.count >= longest);
        fits && all_live || self.distance(body, automaton) != NONE
    }

    /// Fewest bytes to such a match; `NONE` if there is none.
    pub(crate) fn distance(&self, body: &Body, automaton: &Automaton) -> u32 {
        let (n_points, n_bytes) = self.ways.nearest(body, automaton);
        match self.max {
            Some(max) if n_points > max - body.count => NONE,
            _ => n_bytes,
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
struct Graph {
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
    /// The places that `start` leads to; `None` if there are too many.
    fn new(
        automaton: &mut Automaton,
        start: DfaState,
        limits: &Limits,
    ) -> Result<Option<Self>, GrammarError> {
        let mut search = Search {
            places: Places::default(),
            free: Edges::new(0),
            by_byte: Edges::new(0),
            matching: Vec::new(),
            open: Vec::new(),
        };
        let bytes = told_apart(automaton);
        let after: [Vec<(u8, Text)>; N_TEXTS] = std::array::from_fn(|text| {
            let text = Text::nth(text as u8);
            let steps = bytes.iter().map(|&byte| (byte, text.step(byte)));
            steps
                .filter_map(|(byte, text)| Some((byte, text?)))
                .collect()
        });
        for &position in automaton.positions(&start) {
            search.reach(position, BOUNDARY);
        }
        let max_places = match automaton {
            Automaton::One(_) => MAX_PLACES,
            Automaton::Product(_) => MAX_TUPLES,
        };
        while let Some(from) = search.open.pop() {
            if search.places.texts.len() > max_places.min(limits.length_cells) {
                return Ok(None);
            }
            let after = &after[from.text.index()];
            match automaton {
                Automaton::One(dfa) => search.step_nfa(dfa.program(), from, after),
                Automaton::Product(product) => search.step_product(product, from, after)?,
            }
        }
        Ok(Some(Self {
            places: Arc::new(search.places),
            free: search.free,
            by_byte: search.by_byte,
            matching: search.matching,
        }))
    }

    /// The ways from each place when `n_due` code points are still due, given those for one less.
    fn ways(&self, n_due: u32, fewer: &[Way]) -> Vec<Way> {
        let texts = &self.places.texts;
        let mut ways = vec![NO_WAY; texts.len()];
        let mut queue = BinaryHeap::new();
        let relax = |ways: &mut [Way], queue: &mut BinaryHeap<_>, place: u32, way: Way| {
            if way < ways[place as usize] {
                ways[place as usize] = way;
                queue.push(Reverse((way, place)));
            }
        };
        if n_due == 0 {
            for &place in &self.matching {
                relax(&mut ways, &mut queue, place, (0, 0));
            }
        }
        // A code point's first byte leads to where one less is due.
        for (place, &(n_points, n_bytes)) in fewer.iter().enumerate() {
            if n_points != NONE {
                for from in self.by_byte.leading_to(place as u32) {
                    if texts[from as usize] == BOUNDARY {
                        relax(&mut ways, &mut queue, from, (n_points + 1, n_bytes + 1));
                    }
                }
            }
        }
        while let Some(Reverse((way, place))) = queue.pop() {
            if ways[place as usize] != way {
                continue;
            }
            for from in self.free.leading_to(place) {
                relax(&mut ways, &mut queue, from, way);
            }
            for from in self.by_byte.leading_to(place) {
                let begins = texts[from as usize] == BOUNDARY;
                if !begins || n_due == 0 {
                    let longer = (way.0 + u32::from(begins), way.1 + 1);
                    relax(&mut ways, &mut queue, from, longer);
                }
            }
        }
        ways
    }
}

impl Search {
    fn step_product(
        &mut self,
        product: &mut Product,
        from: Open,
        after: &[(u8, Text)],
    ) -> Result<(), GrammarError> {
        if from.text == BOUNDARY && product.is_accepting(from.position) {
            self.matching.push(from.place);
        }
        for &(byte, text) in after {
            if let Some(next) = product.enter(from.position, byte)? {
                let to = self.reach(next, text);
                self.by_byte.add(from.place, to);
            }
        }
        Ok(())
    }

    fn step_nfa(&mut self, program: &Program, from: Open, after: &[(u8, Text)]) {
        let can_match = |next: &StateID| program.distances[next.as_usize()] != UNREACHABLE;
        if from.text == BOUNDARY && program.distances[from.position as usize] == 0 {
            self.matching.push(from.place);
        }
        let mut lead = |next: &StateID| {
            if can_match(next) {
                let to = self.reach(next.as_u32(), from.text);
                self.free.add(from.place, to);
            }
        };
        let state = StateID::new_unchecked(from.position as usize);
        match program.nfa.state(state) {
            State::Union { alternates } => alternates.iter().for_each(lead),
            State::BinaryUnion { alt1, alt2 } => [alt1, alt2].into_iter().for_each(lead),
            State::Capture { next, .. } => lead(next),
            state => {
                for &(byte, text) in after {
                    let next = successor(state, byte);
                    if let Some(next) = next.filter(can_match) {
                        let to = self.reach(next.as_u32(), text);
                        self.by_byte.add(from.place, to);
                    }
                }
            }
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

/// A byte of each class of those that neither the automaton nor the text tells apart.
pub(crate) fn told_apart(automaton: &Automaton) -> Vec<u8> {
    let mut seen = HashSet::new();
    let class = |byte: u8| (automaton.class(byte), CLASSES[usize::from(byte)]);
    (0..=u8::MAX)
        .filter(|&byte| seen.insert(class(byte)))
        .collect()
}
