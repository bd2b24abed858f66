//! Names that patterns tell apart: which sets of patterns a name can match, and the automata of the
//! names that may come.

use foldhash::HashSet;

use crate::alphabet::told_apart;
use crate::json::automaton::Automaton;
use crate::json::patterns::{AutomatonId, Parts, PatternId, Patterns, Test};
use crate::json::programs::{Regex, Spelling};
use crate::json::text::BOUNDARY;
use crate::regex::dfa::{Dfa, DfaState};
use crate::regex::product::{Formula, Product};
use crate::{GrammarError, Limits};

/// Sets of patterns that names may match, of which each gets a place.
const MAX_SETS: usize = 256;
/// States of an automaton of names that are looked at for one that nothing follows.
const MAX_NAME_STATES: usize = 256;

/// Bytes of the shortest name where it is too much to find.
const SHORT_NAME_BYTES: usize = 24;

/// Some patterns, sets of these, and tests.
pub(super) type SetsKey = (Vec<PatternId>, Vec<u64>, Vec<Vec<Test>>);

/// The sets of patterns that names may match, and what else is asked of names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NameSets {
    pub(crate) patterns: Vec<PatternId>,
    /// Those whose members have values, as bits.
    pub(crate) live: Vec<u64>,
    /// The others, if no name matches a set that is in neither list.
    pub(crate) dead: Option<Vec<u64>>,
    /// Whether it makes a difference which set is matched.
    pub(crate) told_apart: bool,
    /// All of some list must pass.
    pub(crate) tests: Option<Vec<Vec<Test>>>,
}

/// An automaton of names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NameAutomaton {
    pub(crate) id: AutomatonId,
    pub(crate) start: DfaState,
    /// Whether a name is the beginning of no other.
    pub(crate) runs_out: bool,
}

impl Patterns {
    /// The automaton of names that match one of the `sets`, and pass their tests; `None` if there are
    /// none. Its marks are the patterns, if those make a difference.
    pub(crate) fn names(&mut self, sets: &NameSets) -> Result<Option<NameAutomaton>, GrammarError> {
        if let Some(&known) = self.named.get(sets) {
            return Ok(known);
        }
        let found = match self.automaton_of(sets)? {
            None => None,
            Some((id, start)) => {
                let goes_on = self.always_go_on(sets)?;
                let automaton = &mut self.automata[id as usize];
                Some(NameAutomaton {
                    id,
                    start,
                    runs_out: !goes_on && runs_out(automaton, start)?,
                })
            }
        };
        self.named.insert(sets.clone(), found);
        Ok(found)
    }

    fn automaton_of(
        &mut self,
        sets: &NameSets,
    ) -> Result<Option<(AutomatonId, DfaState)>, GrammarError> {
        let (mut parts, mut accept) = self.any_name(sets.tests.as_deref())?;
        let mut marks = Vec::new();
        if sets.told_apart || sets.dead.as_deref() != Some(&[]) {
            marks = self.marks(&sets.patterns, &mut parts)?;
        }
        match sets.dead.as_deref() {
            Some([]) => {}
            Some([0]) => accept.push(Formula::Or(marks.clone())),
            _ => {
                let each = sets.live.iter().map(|&set| exactly(&marks, set));
                accept.push(Formula::Or(each.collect()));
            }
        }
        if !sets.told_apart {
            marks.clear();
        }
        self.automaton(parts, Formula::And(accept), marks)
    }

    /// What all names are, and those that pass `tests`: the parts, and formulas of which all are to hold.
    fn any_name(
        &mut self,
        tests: Option<&[Vec<Test>]>,
    ) -> Result<(Parts, Vec<Formula>), GrammarError> {
        let mut parts = Parts::new(Spelling::Name);
        let anything = Spelling::Name.anything();
        parts.dfas.push(Dfa::of(anything, &self.limits)?);
        let mut accept = vec![Formula::Part(0)];
        if let Some(tests) = tests {
            accept.push(self.tests(tests, &mut parts)?);
        }
        Ok((parts, accept))
    }

    /// That a text matches each of some patterns.
    fn marks(
        &mut self,
        patterns: &[PatternId],
        parts: &mut Parts,
    ) -> Result<Vec<Formula>, GrammarError> {
        let each = patterns.iter().map(|&pattern| self.part(pattern, parts));
        each.collect()
    }

    /// Whether it is plain that each name of the sets is the beginning of another one.
    fn always_go_on(&mut self, sets: &NameSets) -> Result<bool, GrammarError> {
        if sets.tests.is_some() {
            return Ok(false);
        }
        let mut ends = sets
            .patterns
            .iter()
            .map(|&id| self.patterns[id as usize].ends);
        match sets.dead.as_deref() {
            Some([]) => Ok(true),
            Some([0]) if ends.any(|ends| ends.before && ends.after) => Ok(true),
            Some([0]) => {
                for &pattern in &sets.patterns {
                    if !self.goes_on(pattern)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Whether it is plain that each name that matches a pattern is the beginning of another one.
    fn goes_on(&mut self, pattern: PatternId) -> Result<bool, GrammarError> {
        let found = &mut self.patterns[pattern as usize];
        if found.ends.after {
            return Ok(true);
        }
        let ([regex @ Regex::Search(..)], Some(_)) =
            (found.regexes.as_mut_slice(), found.formula.as_part())
        else {
            return Ok(false);
        };
        let program = regex.program(Spelling::Name, &mut self.limits)?;
        match Dfa::of(program, &self.limits) {
            Ok((dfa, start)) => Ok(!runs_out(&mut Automaton::One(Box::new(dfa)), start)?),
            Err(GrammarError::Empty { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The sets of `patterns` that a text may match, as bits; `None` if finding them costs too much.
    /// Some of them may be matched only together with more patterns.
    pub(crate) fn sets(
        &mut self,
        patterns: &[PatternId],
    ) -> Result<Option<Vec<u64>>, GrammarError> {
        let mut limits = self.limits.clone();
        // The patterns that each one may be matched with.
        let mut beside = vec![0_u64; patterns.len()];
        let mut sets = vec![0_u64];
        let mut n_done = 0;
        while let Some(&set) = sets.get(n_done) {
            n_done += 1;
            // Those after the last of the set, so that each set is grown once.
            let n_before = u64::BITS - set.leading_zeros();
            for (idx, beside) in beside.iter_mut().enumerate().skip(n_before as usize) {
                if set.count_ones() > 1 && *beside & set != set {
                    continue;
                }
                let larger = set | 1 << idx;
                let members = (0..patterns.len()).filter(|idx| larger >> idx & 1 == 1);
                let members: Vec<PatternId> = members.map(|idx| patterns[idx]).collect();
                match self.may_match(&members, &mut limits) {
                    Ok(true) if sets.len() == MAX_SETS => return Ok(None),
                    Ok(true) => sets.push(larger),
                    Ok(false) => continue,
                    Err(GrammarError::Limit { .. }) => return Ok(None),
                    Err(error) => return Err(error),
                }
                if set.count_ones() == 1 {
                    *beside |= set;
                }
            }
        }
        Ok(Some(sets))
    }

    /// Fewest bytes of a name that passes `tests` and matches just one of the `sets`, for each of these; `None` where there
    /// is no such name. Where that is too much to find, it is [`SHORT_NAME_BYTES`].
    pub(crate) fn shortest_names(
        &mut self,
        patterns: &[PatternId],
        sets: &[u64],
        tests: &[Vec<Test>],
    ) -> Result<Vec<Option<usize>>, GrammarError> {
        let key = (patterns.to_vec(), sets.to_vec(), tests.to_vec());
        if let Some(known) = self.shortest.get(&key) {
            return Ok(known.clone());
        }
        let mut limits = self.limits.clone();
        let mut each = Vec::with_capacity(sets.len());
        let mut known = None;
        for &set in sets {
            let names = match known.take() {
                Some(known) => Ok(known),
                None => self.marked_names(patterns, tests),
            };
            let found = names.and_then(|names| names.shortest(set, &mut limits));
            each.push(match found {
                Ok((found, names)) => {
                    known = Some(names);
                    found
                }
                Err(GrammarError::Limit { .. }) => Some(SHORT_NAME_BYTES),
                Err(error) => return Err(error),
            });
        }
        self.shortest.insert(key, each.clone());
        Ok(each)
    }

    /// The names that pass `tests`, told apart by patterns.
    fn marked_names(
        &mut self,
        patterns: &[PatternId],
        tests: &[Vec<Test>],
    ) -> Result<MarkedNames, GrammarError> {
        let (mut parts, accept) = self.any_name(Some(tests))?;
        let marks = self.marks(patterns, &mut parts)?;
        Ok(MarkedNames {
            dfas: parts.dfas,
            accept,
            marks,
        })
    }

    /// Whether some text matches all of `patterns`. Steps are taken from the limit.
    fn may_match(
        &mut self,
        patterns: &[PatternId],
        limits: &mut Limits,
    ) -> Result<bool, GrammarError> {
        // What stands anywhere can stand beside one that leaves room.
        let ends = patterns.iter().map(|&id| self.patterns[id as usize].ends);
        let mut bound = ends.filter(|ends| !(ends.before && ends.after));
        if bound.next().is_none_or(|ends| ends.before || ends.after) && bound.next().is_none() {
            return Ok(true);
        }
        let mut parts = Parts::new(Spelling::Name);
        let accept = Formula::And(self.marks(patterns, &mut parts)?);
        Ok(nearest(parts.dfas, accept, limits)?.0.is_some())
    }
}

/// Automata, each with its first state.
type Dfas = Vec<(Dfa, DfaState)>;

/// Names that are asked for set by set. Their automata keep the states that were made for one set for the next.
struct MarkedNames {
    dfas: Dfas,
    /// All of these hold of every name.
    accept: Vec<Formula>,
    /// That a name matches each pattern.
    marks: Vec<Formula>,
}

impl MarkedNames {
    /// Bytes of the shortest name that matches just one set of patterns, if there is one. Steps are taken from the limit.
    fn shortest(
        self,
        set: u64,
        limits: &mut Limits,
    ) -> Result<(Option<usize>, Self), GrammarError> {
        let mut all = self.accept.clone();
        all.push(exactly(&self.marks, set));
        let (found, dfas) = nearest(self.dfas, Formula::And(all), limits)?;
        Ok((found, Self { dfas, ..self }))
    }
}

/// Bytes of the shortest text of a formula, if there is one, and its parts again. Steps are taken from the limit.
fn nearest(
    parts: Dfas,
    accept: Formula,
    limits: &mut Limits,
) -> Result<(Option<usize>, Dfas), GrammarError> {
    let starts: Vec<DfaState> = parts.iter().map(|&(_, start)| start).collect();
    let (product, start) = Product::new(parts, accept, Vec::new(), limits)?;
    limits.compile_steps = limits.compile_steps.saturating_sub(product.n_visited());
    let found = start.map(|start| product.distance(start));
    Ok((
        found,
        product.into_parts().into_iter().zip(starts).collect(),
    ))
}

/// That these marks hold, as bits, and no others.
fn exactly(marks: &[Formula], set: u64) -> Formula {
    let each = marks
        .iter()
        .enumerate()
        .map(|(idx, mark)| match set >> idx & 1 {
            1 => mark.clone(),
            _ => Formula::Not(Box::new(mark.clone())),
        });
    Formula::And(each.collect())
}

/// Whether a name of the automaton is the beginning of no other. Among very many states it is taken
/// for granted that there is always another name.
fn runs_out(automaton: &mut Automaton, start: DfaState) -> Result<bool, GrammarError> {
    let mut seen = HashSet::from_iter([(BOUNDARY, start)]);
    let mut open = vec![(BOUNDARY, start)];
    let bytes = told_apart(|byte| automaton.class(byte));
    while let Some((text, state)) = open.pop() {
        let mut ends = true;
        for &byte in &bytes {
            let Some(text) = text.step_canonical(byte) else {
                continue;
            };
            if let Some(state) = automaton.step(state, byte)? {
                ends = false;
                if seen.insert((text, state)) {
                    open.push((text, state));
                }
            }
        }
        if ends {
            return Ok(true);
        }
        if seen.len() > MAX_NAME_STATES {
            break;
        }
    }
    Ok(false)
}
