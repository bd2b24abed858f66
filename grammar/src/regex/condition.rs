//! Boolean combinations of regexes as one automaton, built whole: only so is it known which of its
//! states are dead.
//!
//! A state is one of each regex's states; texts that are no UTF-8 are left out.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use regex_syntax::hir::{Hir, Look, Repetition};
use smallvec::SmallVec;

use crate::regex::dfa::Dfa;
use crate::regex::node::Node;
use crate::regex::product::{Formula, MAX_PARTS};
use crate::regex::syntax::Boolean;
use crate::regex::table::{NONE, Table, Transitions};
use crate::{GrammarError, Limits};

/// The states of all regexes, `NONE` for one that cannot match any more.
type States = SmallVec<[u32; 6]>;

/// The texts that satisfy `condition`, each of its regexes searched for.
pub(crate) fn table(condition: &Boolean, limits: &Limits) -> Result<Table, GrammarError> {
    let mut product = Product {
        regexes: Vec::new(),
        limits,
    };
    let formula = product.formula(condition)?;
    product.build(&formula)
}

struct Product<'a> {
    /// `None` matches nothing.
    regexes: Vec<Option<(Dfa, u32)>>,
    limits: &'a Limits,
}

fn anything() -> Hir {
    Hir::repetition(Repetition {
        min: 0,
        max: None,
        greedy: true,
        sub: Box::new(Node::any(1).to_hir()),
    })
}

/// The texts with a match anywhere.
pub(crate) fn searched(hir: &Hir) -> Hir {
    surrounded(hir.clone(), anything)
}

/// A match with anything around it. Most patterns are anchored, and what no text can pass is not even compiled.
pub(crate) fn surrounded(hir: Hir, anything: impl Fn() -> Hir) -> Hir {
    let is_bound = hir.properties().look_set_prefix().contains(Look::Start);
    let before = (!is_bound).then(&anything);
    let after = may_go_on(&hir).then(&anything);
    Hir::concat(before.into_iter().chain([hir]).chain(after).collect())
}

/// Whether text may stand behind a match.
pub(crate) fn may_go_on(hir: &Hir) -> bool {
    !hir.properties().look_set_suffix().contains(Look::End)
}

impl Product<'_> {
    fn formula(&mut self, condition: &Boolean) -> Result<Formula, GrammarError> {
        let all = |product: &mut Self, parts: &[Boolean]| {
            let parts = parts.iter().map(|part| product.formula(part));
            parts.collect::<Result<Vec<_>, _>>()
        };
        Ok(match condition {
            Boolean::Hir(hir) => {
                self.add(&searched(hir))?;
                Formula::Part(self.regexes.len() - 1)
            }
            Boolean::And(parts) => Formula::And(all(self, parts)?),
            Boolean::Or(parts) => Formula::Or(all(self, parts)?),
            Boolean::Not(part) => Formula::Not(Box::new(self.formula(part)?)),
        })
    }

    fn add(&mut self, hir: &Hir) -> Result<(), GrammarError> {
        match Dfa::new(hir, self.limits) {
            Ok(regex) => self.regexes.push(Some(regex)),
            Err(GrammarError::Empty { .. }) => self.regexes.push(None),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn build(mut self, formula: &Formula) -> Result<Table, GrammarError> {
        // The last regex is any text: what it refuses is no UTF-8.
        self.add(&anything())?;
        if self.regexes.len() > MAX_PARTS {
            return Err(GrammarError::Limit {
                what: "the regex's lookarounds".into(),
                limit: "parts",
                allowed: MAX_PARTS,
            });
        }
        let (classes, representatives) = self.classes();
        let start: States = self
            .regexes
            .iter()
            .map(|regex| regex.as_ref().map_or(NONE, |(_, start)| *start))
            .collect();
        let mut ids = HashMap::from_iter([(start.clone(), 0)]);
        let mut states = vec![start];
        let mut accepts = Vec::new();
        let mut next = Vec::new();
        let mut done = 0;
        while let Some(from) = states.get(done).cloned() {
            done += 1;
            let is_text = self.accepts(&from, self.regexes.len() - 1);
            accepts.push(is_text && self.holds(formula, &from));
            for &byte in &representatives {
                let to = self.step(&from, byte)?;
                if to.last() == Some(&NONE) {
                    next.push(NONE);
                    continue;
                }
                let new = states.len() as u32;
                let id = *ids.entry(to.clone()).or_insert(new);
                if id == new {
                    states.push(to);
                }
                next.push(id);
            }
            self.check(states.len(), next.len())?;
        }
        let transitions = Arc::new(Transitions {
            classes,
            n_classes: representatives.len(),
            next,
        });
        Ok(Table::new(transitions, |state| accepts[state]))
    }

    fn check(&self, n_states: usize, n_cells: usize) -> Result<(), GrammarError> {
        let limits = self.limits;
        let (limit, allowed) = if n_states > limits.table_states {
            ("table_states", limits.table_states)
        } else if n_cells * size_of::<u32>() > limits.dfa_bytes {
            ("dfa_bytes", limits.dfa_bytes)
        } else if n_cells * self.regexes.len() > limits.mask_steps {
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

    fn step(&mut self, from: &States, byte: u8) -> Result<States, GrammarError> {
        let mut to = States::new();
        for (regex, &state) in self.regexes.iter_mut().zip(from) {
            to.push(match regex {
                Some((dfa, _)) if state != NONE => dfa.step(state, byte)?.unwrap_or(NONE),
                _ => NONE,
            });
        }
        Ok(to)
    }

    fn accepts(&self, states: &States, regex: usize) -> bool {
        let dfa = self.regexes[regex].as_ref();
        dfa.is_some_and(|(dfa, _)| states[regex] != NONE && dfa.is_accepting(states[regex]))
    }

    fn holds(&self, formula: &Formula, states: &States) -> bool {
        let regexes = (0..self.regexes.len()).filter(|&regex| self.accepts(states, regex));
        formula.holds(regexes.fold(0, |bits, regex| bits | 1 << regex))
    }

    /// Classes of bytes that no regex tells apart, and a byte of each.
    fn classes(&self) -> ([u8; 256], Vec<u8>) {
        let mut classes = [0; 256];
        let mut representatives = Vec::new();
        let mut known: HashMap<SmallVec<[u8; 6]>, u8> = HashMap::new();
        for byte in 0..=u8::MAX {
            let key = self
                .regexes
                .iter()
                .flatten()
                .map(|(dfa, _)| dfa.class(byte));
            let new = representatives.len() as u8;
            let class = *known.entry(key.collect()).or_insert(new);
            if class == new && representatives.len() == usize::from(new) {
                representatives.push(byte);
            }
            classes[usize::from(byte)] = class;
        }
        (classes, representatives)
    }
}
