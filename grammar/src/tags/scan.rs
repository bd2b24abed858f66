//! Text up to the first trigger, as a table.
//!
//! A state is a node of the triggers' trie, the longest of their beginnings that the text ends
//! with, beside the place within a half-written code point. Where a trigger is complete the text
//! ends.
//!
//! Source: A. V. Aho and M. J. Corasick, "Efficient string matching", CACM 18(6), 1975; RFC 3629,
//! section 4.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::literals::{LiteralNode, LiteralTrie};
use crate::regex::table::{NONE, Table, Transitions};
use crate::{GrammarError, Limits};

/// The texts that end where the first of some triggers does, and those without any.
#[derive(Debug)]
pub(crate) struct Scan {
    transitions: Arc<Transitions>,
    /// The triggers that end at each state. [n_states]
    hits: Vec<Vec<usize>>,
    /// Whether each state lies between code points. [n_states]
    at_boundary: Vec<bool>,
}

impl Scan {
    pub(crate) fn new(triggers: &[String], limits: &Limits) -> Result<Self, GrammarError> {
        // Each trigger has a scanner of its own over the states of all.
        let n_bytes: usize = triggers.iter().map(String::len).sum();
        if n_bytes.saturating_mul(triggers.len()) > limits.table_states {
            return Err(GrammarError::Limit {
                what: "the triggers".into(),
                limit: "table_states",
                allowed: limits.table_states,
            });
        }
        let search = Search::new(triggers);
        let (classes, representatives) = classes(triggers);
        let (mut hits, mut at_boundary) = (Vec::new(), Vec::new());
        let mut ids = HashMap::from([((0, 0), 0)]);
        let mut states: Vec<(LiteralNode, u8)> = vec![(0, 0)];
        let mut next = Vec::new();
        let mut done = 0;
        while let Some(&(node, cut)) = states.get(done) {
            done += 1;
            hits.push(search.hits[node as usize].clone());
            at_boundary.push(cut == 0);
            for &byte in &representatives {
                let is_end = !search.hits[node as usize].is_empty();
                let Some(cut) = step_utf8(cut, byte).filter(|_| !is_end) else {
                    next.push(NONE);
                    continue;
                };
                let state = (search.step(node, byte), cut);
                let id = *ids.entry(state).or_insert_with(|| {
                    states.push(state);
                    states.len() as u32 - 1
                });
                next.push(id);
            }
        }
        let transitions = Arc::new(Transitions {
            classes,
            n_classes: representatives.len(),
            next,
        });
        Ok(Self {
            transitions,
            hits,
            at_boundary,
        })
    }

    /// Texts whose first trigger is the one of index `trigger`, at their end.
    pub(crate) fn until(&self, trigger: usize) -> Table {
        self.scanner(|state| self.hits[state].contains(&trigger))
    }

    /// Texts without a trigger.
    pub(crate) fn free(&self) -> Table {
        self.scanner(|state| self.at_boundary[state] && self.hits[state].is_empty())
    }

    fn scanner(&self, accepts: impl Fn(usize) -> bool) -> Table {
        Table::new(Arc::clone(&self.transitions), accepts)
    }
}

/// The triggers' trie with its failure links.
struct Search {
    trie: LiteralTrie,
    /// The longest proper suffix that is a node. [n_nodes]
    fails: Vec<LiteralNode>,
    /// The triggers that are suffixes of each node. [n_nodes]
    hits: Vec<Vec<usize>>,
}

impl Search {
    fn new(triggers: &[String]) -> Self {
        let trie = LiteralTrie::new(triggers);
        let n_nodes = 1 + triggers.iter().map(String::len).sum::<usize>();
        let mut search = Self {
            trie,
            fails: vec![0; n_nodes],
            hits: vec![Vec::new(); n_nodes],
        };
        let mut queue = VecDeque::from([0]);
        while let Some(node) = queue.pop_front() {
            for byte in 0..=u8::MAX {
                let Some(child) = search.trie.child(node, byte) else {
                    continue;
                };
                let fail = match node {
                    0 => 0,
                    _ => search.step(search.fails[node as usize], byte),
                };
                search.fails[child as usize] = fail;
                let own = search.trie.literal(child).map(|idx| idx as usize);
                let mut hits = search.hits[fail as usize].clone();
                hits.extend(own);
                search.hits[child as usize] = hits;
                queue.push_back(child);
            }
        }
        search
    }

    /// The node after `byte`.
    fn step(&self, mut node: LiteralNode, byte: u8) -> LiteralNode {
        loop {
            match self.trie.child(node, byte) {
                Some(child) => return child,
                None if node == 0 => return 0,
                None => node = self.fails[node as usize],
            }
        }
    }
}

/// Bytes that neither the triggers nor UTF-8 tell apart share a class; each class's first byte.
fn classes(triggers: &[String]) -> ([u8; 256], Vec<u8>) {
    let mut is_own = [false; 256];
    for &byte in triggers.iter().flat_map(|trigger| trigger.as_bytes()) {
        is_own[usize::from(byte)] = true;
    }
    let mut classes = [0; 256];
    let mut representatives: Vec<u8> = Vec::new();
    let mut known: HashMap<[Option<u8>; 8], u8> = HashMap::new();
    for byte in 0..=u8::MAX {
        let steps = std::array::from_fn(|cut| step_utf8(cut as u8, byte));
        let new = representatives.len() as u8;
        let class = match is_own[usize::from(byte)] {
            true => new,
            false => *known.entry(steps).or_insert(new),
        };
        if class == new {
            representatives.push(byte);
        }
        classes[usize::from(byte)] = class;
    }
    (classes, representatives)
}

const AFTER_E0: u8 = 4;
const AFTER_ED: u8 = 5;
const AFTER_F0: u8 = 6;
const AFTER_F4: u8 = 7;

/// Within a code point: 0 between two, else the bytes left or what was just read.
fn step_utf8(cut: u8, byte: u8) -> Option<u8> {
    match (cut, byte) {
        (0, 0..=0x7F) => Some(0),
        (0, 0xC2..=0xDF) => Some(1),
        (0, 0xE0) => Some(AFTER_E0),
        (0, 0xED) => Some(AFTER_ED),
        (0, 0xE1..=0xEF) => Some(2),
        (0, 0xF0) => Some(AFTER_F0),
        (0, 0xF4) => Some(AFTER_F4),
        (0, 0xF1..=0xF3) => Some(3),
        (1..=3, 0x80..=0xBF) => Some(cut - 1),
        (AFTER_E0, 0xA0..=0xBF) | (AFTER_ED, 0x80..=0x9F) => Some(1),
        (AFTER_F0, 0x90..=0xBF) | (AFTER_F4, 0x80..=0x8F) => Some(2),
        _ => None,
    }
}
