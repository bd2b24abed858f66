//! Negative lookarounds anywhere in a pattern that texts match as a whole.
//!
//! Each lookaround is replaced by a mark, a byte that no UTF-8 text holds. The marked pattern is
//! plain; a marked text is wrong where a mark stands before (or behind) what its lookaround
//! forbids, which is a plain pattern too. So the marked texts that match and are not wrong are an
//! automaton, and reading its marks as nothing gives that of the texts.
//!
//! A positive lookaround of one character is the negative one of all others and the text's border;
//! a word boundary is a choice of such. Longer positive ones are refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use regex_syntax::hir::{Dot, Hir, Repetition};
use smallvec::SmallVec;

use crate::regex::dfa::Dfa;
use crate::regex::node::{Around, Node};
use crate::regex::set::{complement, word};
use crate::regex::table::{NONE, Table, Transitions};
use crate::{GrammarError, Limits};

/// The first of the bytes used as marks; none of them, up to 255, stands in UTF-8.
const FIRST_MARK: u8 = 0xF8;
const MAX_MARKS: usize = 8;
/// What a step counts for, in the visits of an NFA's states that `Limits::mask_steps` counts.
const STEP_COST: usize = 32;

/// The states of the marked pattern and of what is wrong, `NONE` for one that cannot match.
type States = SmallVec<[u32; 4]>;

/// The texts that `node` matches as a whole; `None` where it holds what is not supported here.
pub(crate) fn table(node: &Node, limits: &Limits) -> Result<Option<Table>, GrammarError> {
    // The pattern's own borders are the text's.
    let mut parts = match node {
        Node::Concat(parts) => parts.as_slice(),
        node => std::slice::from_ref(node),
    };
    while let [Node::Start, rest @ ..] | [rest @ .., Node::End] = parts {
        parts = rest;
    }
    let mut marking = Marking::default();
    let Some(marked) = marking.mark(&Node::Concat(parts.to_vec())) else {
        return Ok(None);
    };
    let Some(pattern) = dfa(&marked, limits)? else {
        return Ok(None);
    };
    let mut automaton = Automaton {
        regexes: vec![pattern],
        n_marks: marking.wrong.len() as u8,
        limits,
    };
    for wrong in &marking.wrong {
        // What matches nothing forbids nothing.
        automaton.regexes.extend(dfa(wrong, limits)?);
    }
    automaton.build().map(Some)
}

fn dfa(hir: &Hir, limits: &Limits) -> Result<Option<(Dfa, u32)>, GrammarError> {
    match Dfa::new(hir, limits) {
        Ok(regex) => Ok(Some(regex)),
        Err(GrammarError::Empty { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn star(sub: Hir) -> Hir {
    Hir::repetition(Repetition {
        min: 0,
        max: None,
        greedy: true,
        sub: Box::new(sub),
    })
}

#[derive(Default)]
struct Marking {
    /// The lookarounds met so far, each with its mark's place in the order.
    known: Vec<Around>,
    /// The marked texts that each mark makes wrong.
    wrong: Vec<Hir>,
}

impl Marking {
    /// The pattern with marks in place of its lookarounds.
    fn mark(&mut self, node: &Node) -> Option<Hir> {
        Some(match node {
            Node::Class(_) => node.to_hir(),
            // Marks may stand between it and the text's border.
            Node::Start | Node::End => return None,
            Node::Concat(parts) => {
                let parts: Option<Vec<Hir>> = parts.iter().map(|part| self.mark(part)).collect();
                Hir::concat(parts?)
            }
            Node::Alternation(options) => {
                let options: Option<Vec<Hir>> =
                    options.iter().map(|part| self.mark(part)).collect();
                Hir::alternation(options?)
            }
            Node::Repeat { body, min, max } => Hir::repetition(Repetition {
                min: *min,
                max: *max,
                greedy: true,
                sub: Box::new(self.mark(body)?),
            }),
            Node::Boundary { negated, offset } => {
                let mut side = |is_ahead: bool, is_word: bool| {
                    self.around(&Around {
                        is_ahead,
                        negated: !is_word,
                        body: Box::new(Node::Class(word())),
                        offset: *offset,
                    })
                };
                let like = !negated;
                let after_word = [side(false, true)?, side(true, !like)?];
                let after_other = [side(false, false)?, side(true, like)?];
                Hir::alternation(vec![
                    Hir::concat(after_word.to_vec()),
                    Hir::concat(after_other.to_vec()),
                ])
            }
            Node::Around(around) => self.around(around)?,
        })
    }

    fn around(&mut self, around: &Around) -> Option<Hir> {
        let around = Around {
            offset: 0,
            ..around.clone()
        };
        if let Some(idx) = self.known.iter().position(|known| *known == around) {
            return Some(Hir::literal(vec![FIRST_MARK + idx as u8]));
        }
        let idx = self.known.len();
        if idx == MAX_MARKS {
            return None;
        }
        let mark = FIRST_MARK + idx as u8;
        let mut forbidden = (*around.body).clone();
        // The mark stands between these and the text's border.
        let hidden = if around.is_ahead {
            Node::Start
        } else {
            Node::End
        };
        if forbidden.contains(&hidden) {
            return None;
        }
        if !around.negated {
            let Node::Class(allowed) = forbidden else {
                return None;
            };
            let border = if around.is_ahead {
                Node::End
            } else {
                Node::Start
            };
            let other = Node::Class(complement(allowed));
            forbidden = Node::Alternation(vec![other, border]);
        }
        let forbidden = interspersed(&forbidden)?;
        let mark = Hir::literal(vec![mark]);
        let any = || star(Hir::dot(Dot::AnyByte));
        self.wrong.push(Hir::concat(match around.is_ahead {
            true => vec![any(), mark.clone(), forbidden, any()],
            false => vec![any(), forbidden, mark.clone(), any()],
        }));
        self.known.push(around);
        Some(mark)
    }
}

/// The pattern with marks allowed around every character.
fn interspersed(node: &Node) -> Option<Hir> {
    let mark = (FIRST_MARK..=u8::MAX).map(|mark| Hir::literal(vec![mark]));
    let marks = star(Hir::alternation(mark.collect()));
    let all = |parts: &[Node]| parts.iter().map(interspersed).collect::<Option<Vec<Hir>>>();
    Some(match node {
        Node::Class(_) | Node::Start | Node::End => {
            Hir::concat(vec![marks.clone(), node.to_hir(), marks])
        }
        Node::Concat(parts) => Hir::concat(all(parts)?),
        Node::Alternation(options) => Hir::alternation(all(options)?),
        Node::Repeat { body, min, max } => Hir::repetition(Repetition {
            min: *min,
            max: *max,
            greedy: true,
            sub: Box::new(interspersed(body)?),
        }),
        Node::Boundary { .. } | Node::Around(_) => return None,
    })
}

/// The marked pattern, then what is wrong.
struct Automaton<'a> {
    regexes: Vec<(Dfa, u32)>,
    n_marks: u8,
    limits: &'a Limits,
}

impl Automaton<'_> {
    fn build(mut self) -> Result<Table, GrammarError> {
        let (classes, representatives) = self.classes();
        let start: States = self.regexes.iter().map(|(_, start)| *start).collect();
        let start = self.closed(vec![start])?;
        let mut ids = HashMap::from_iter([(start.clone(), 0)]);
        let mut sets = vec![start];
        let mut accepts = Vec::new();
        let mut next = Vec::new();
        let (mut done, mut n_steps) = (0, 0);
        while let Some(set) = sets.get(done).cloned() {
            done += 1;
            accepts.push(set.iter().any(|states| self.accepts(states)));
            for &byte in &representatives {
                let mut stepped = Vec::new();
                for states in set.iter() {
                    stepped.extend(self.step(states, byte)?);
                }
                n_steps += set.len() * self.regexes.len();
                let to = self.closed(stepped)?;
                if to.is_empty() {
                    next.push(NONE);
                    continue;
                }
                let new = sets.len() as u32;
                let id = *ids.entry(Arc::clone(&to)).or_insert(new);
                if id == new {
                    sets.push(to);
                }
                next.push(id);
            }
            self.check(sets.len(), next.len(), n_steps)?;
        }
        let transitions = Arc::new(Transitions {
            classes,
            n_classes: representatives.len(),
            next,
        });
        Ok(Table::new(transitions, |state| accepts[state]))
    }

    /// With what marks lead to, in order.
    fn closed(&mut self, mut stack: Vec<States>) -> Result<Arc<[States]>, GrammarError> {
        let mut all: BTreeSet<States> = BTreeSet::new();
        while let Some(states) = stack.pop() {
            if !all.contains(&states) {
                for mark in 0..self.n_marks {
                    stack.extend(self.step(&states, FIRST_MARK + mark)?);
                }
                all.insert(states);
            }
        }
        Ok(all.into_iter().collect())
    }

    fn step(&mut self, from: &States, byte: u8) -> Result<Option<States>, GrammarError> {
        let mut to = States::new();
        for ((dfa, _), &state) in self.regexes.iter_mut().zip(from) {
            let next = if state == NONE {
                None
            } else {
                dfa.step(state, byte)?
            };
            to.push(next.unwrap_or(NONE));
        }
        Ok((to[0] != NONE).then_some(to))
    }

    fn accepts(&self, states: &States) -> bool {
        let mut holds = self
            .regexes
            .iter()
            .zip(states)
            .map(|((dfa, _), &state)| state != NONE && dfa.is_accepting(state));
        holds.next() == Some(true) && holds.all(|is_wrong| !is_wrong)
    }

    fn check(&self, n_states: usize, n_cells: usize, n_steps: usize) -> Result<(), GrammarError> {
        let limits = self.limits;
        let (limit, allowed) = if n_states > limits.table_states {
            ("table_states", limits.table_states)
        } else if n_cells * size_of::<u32>() > limits.dfa_bytes {
            ("dfa_bytes", limits.dfa_bytes)
        } else if STEP_COST * n_steps > limits.mask_steps {
            ("mask_steps", limits.mask_steps)
        } else {
            return Ok(());
        };
        Err(GrammarError::Limit {
            what: "the regex's automaton".into(),
            limit,
            allowed,
        })
    }

    /// Classes of bytes that no regex tells apart, and a byte of each.
    fn classes(&self) -> ([u8; 256], Vec<u8>) {
        let mut classes = [0; 256];
        let mut representatives = Vec::new();
        let mut known: HashMap<SmallVec<[u8; 8]>, u8> = HashMap::new();
        for byte in 0..=u8::MAX {
            // Neither marks nor 0xF5 stand in a text.
            let like = if byte >= FIRST_MARK { 0xF5 } else { byte };
            let key = self
                .regexes
                .iter()
                .map(|(dfa, _)| dfa.class(like))
                .collect();
            let new = representatives.len() as u8;
            let class = *known.entry(key).or_insert(new);
            if class == new && representatives.len() == usize::from(new) {
                representatives.push(like);
            }
            classes[usize::from(byte)] = class;
        }
        (classes, representatives)
    }
}
