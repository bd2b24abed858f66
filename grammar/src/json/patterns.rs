//! What a schema asks of a string's characters: patterns, formats, literals, and their combinations
//! as automata over the JSON spelling.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use regex_syntax::hir::{Hir, HirKind, Look, Repetition};

use crate::json::automaton::Automaton;
use crate::json::escape;
use crate::json::form::Bounds;
use crate::json::naming::{NameAutomaton, NameSets, SetsKey};
use crate::json::programs::{Regex, Spelling, format_program};
use crate::json::schema::refuse;
use crate::json::search::LengthSearch;
use crate::regex::dfa::{Dfa, DfaState};
use crate::regex::product::{Formula, Product};
use crate::regex::syntax::{self, Boolean};
use crate::regex::words::words;
use crate::{GrammarError, Limits};

/// Characters up to which a pattern's states may count them.
const MIN_COUNTED: u32 = 16;

/// Index of a pattern.
pub(crate) type PatternId = u32;
/// Index of an automaton.
pub(crate) type AutomatonId = u32;

/// A pattern that must match, or, negated, must not.
pub(crate) type Test = (PatternId, bool);

/// The automata that a formula is about.
pub(super) struct Parts {
    spelling: Spelling,
    /// Each with its first state.
    pub(super) dfas: Vec<(Dfa, DfaState)>,
    /// Of patterns.
    formulas: HashMap<PatternId, Formula>,
}

impl Parts {
    pub(super) fn new(spelling: Spelling) -> Self {
        Self {
            spelling,
            dfas: Vec::new(),
            formulas: HashMap::new(),
        }
    }
}

/// A language of characters.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) regexes: Vec<Regex>,
    pub(super) formula: Formula,
    pub(super) ends: Ends,
    /// All strings of the language, if they are few and it is a regex's.
    words: Option<Arc<[String]>>,
    /// The most characters of a string of the language, if that is plain.
    longest: Option<usize>,
    /// Where the language is that of all strings of some characters within bounds of length.
    counted: Option<Counted>,
}

/// All strings of some characters, of whatever length, and bounds of their length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    pub(super) pattern: PatternId,
    pub(super) bounds: Bounds,
}

/// On which side of a match any text may stand.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ends {
    pub(super) before: bool,
    pub(super) after: bool,
}

impl Ends {
    fn of(condition: &Boolean) -> Self {
        let Boolean::Hir(hir) = condition else {
            return Self::default();
        };
        let looks = hir.properties().look_set();
        Self {
            before: !looks.contains(Look::Start),
            after: !looks.contains(Look::End),
        }
    }
}

/// The patterns of a schema and the automata of those combinations that it needs.
#[derive(Debug)]
pub(crate) struct Patterns {
    pub(super) limits: Limits,
    pub(super) patterns: Vec<Pattern>,
    ids: HashMap<String, PatternId>,
    pub(crate) automata: Vec<Automaton>,
    /// `None` for a combination that no string matches.
    combined: HashMap<Vec<Vec<Test>>, Option<(AutomatonId, DfaState)>>,
    /// The same of the texts that a regex is found in, by whether they are spelled as names.
    searchers: HashMap<(PatternId, bool), Option<(AutomatonId, DfaState)>>,
    pub(super) named: HashMap<NameSets, Option<NameAutomaton>>,
    /// Fewest bytes of the names of each set.
    pub(super) shortest: HashMap<SetsKey, Vec<Option<usize>>>,
}

impl Patterns {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            limits: limits.clone(),
            patterns: Vec::new(),
            ids: HashMap::new(),
            automata: Vec::new(),
            combined: HashMap::new(),
            searchers: HashMap::new(),
            named: HashMap::new(),
            shortest: HashMap::new(),
        }
    }

    /// The strings with a match of a regex, which stands at `at`.
    pub(crate) fn regex(&mut self, source: &str, at: &str) -> Result<PatternId, GrammarError> {
        let key = format!("/{source}");
        if let Some(&known) = self.ids.get(&key) {
            return Ok(known);
        }
        let condition = syntax::parse_boolean(source, &self.limits);
        let condition = condition.map_err(|error| placed(error, at))?;
        let mut hirs = Vec::new();
        let formula = formula(&condition, &mut hirs);
        let ends = Ends::of(&condition);
        let (words, counted) = match &condition {
            Boolean::Hir(hir) => (words(hir), self.counted(hir)),
            _ => (None, None),
        };
        let id = self.patterns.len() as PatternId;
        self.patterns.push(Pattern {
            regexes: hirs
                .into_iter()
                .map(|hir| Regex::Search(hir, [None, None, None]))
                .collect(),
            formula,
            ends,
            words: words.map(Arc::from),
            longest: longest(&condition),
            counted,
        });
        self.ids.insert(key, id);
        Ok(id)
    }

    /// Reads `^[..]{m,n}$`. A length costs nothing, a repetition as many states.
    fn counted(&mut self, hir: &Hir) -> Option<Counted> {
        let HirKind::Concat(parts) = hir.kind() else {
            return None;
        };
        let [start, repeated, end] = parts.as_slice() else {
            return None;
        };
        let is_whole =
            *start.kind() == HirKind::Look(Look::Start) && *end.kind() == HirKind::Look(Look::End);
        let HirKind::Repetition(Repetition {
            min,
            max: Some(max),
            sub,
            ..
        }) = repeated.kind()
        else {
            return None;
        };
        if !is_whole || *max < MIN_COUNTED || !matches!(sub.kind(), HirKind::Class(_)) {
            return None;
        }
        let key = format!("c{sub:?}");
        let pattern = match self.ids.get(&key) {
            Some(&known) => known,
            None => {
                let any = Hir::repetition(Repetition {
                    min: 0,
                    max: None,
                    greedy: true,
                    sub: sub.clone(),
                });
                let parts = vec![start.clone(), any, end.clone()];
                self.add(key, Regex::Search(Hir::concat(parts), [None, None, None]))
            }
        };
        let (min, max) = (*min, Some(*max));
        Some(Counted {
            pattern,
            bounds: Bounds { min, max },
        })
    }

    /// The same lists of tests and bounds of the length: of a single list, some tests as bounds.
    pub(crate) fn with_lengths(
        &self,
        lists: &[Vec<Test>],
        mut bounds: Bounds,
    ) -> (Vec<Vec<Test>>, Bounds) {
        let [tests] = lists else {
            return (lists.to_vec(), bounds);
        };
        let test = |&(pattern, negated): &Test| match self.patterns[pattern as usize].counted {
            Some(counted) if !negated => {
                bounds = bounds.and(counted.bounds);
                (counted.pattern, false)
            }
            _ => (pattern, negated),
        };
        let mut tests: Vec<Test> = tests.iter().map(test).collect();
        tests.sort_unstable();
        tests.dedup();
        (vec![tests], bounds)
    }

    /// All strings that match a regex, if they are few.
    pub(crate) fn words(&self, regex: PatternId) -> Option<Arc<[String]>> {
        self.patterns[regex as usize].words.clone()
    }

    /// The most characters of a string that matches a regex, if that is plain.
    pub(crate) fn longest(&self, regex: PatternId) -> Option<usize> {
        self.patterns[regex as usize].longest
    }

    /// Whether every text goes on to some that passes all of one of these lists of tests: all that this one excludes is of
    /// bounded length.
    pub(crate) fn exclude_few(&self, lists: &[Vec<Test>]) -> bool {
        let excludes_few = |&(pattern, negated): &Test| negated && self.longest(pattern).is_some();
        lists.iter().any(|list| list.iter().all(excludes_few))
    }

    /// Whether a text is a regex.
    pub(crate) fn is_regex(&self, text: &str) -> bool {
        syntax::is_boolean(text, &self.limits)
    }

    /// The strings of a format; `None` if it is not one of the standard's.
    pub(crate) fn format(&mut self, name: &str) -> Option<PatternId> {
        let key = format!("f{name}");
        if let Some(&known) = self.ids.get(&key) {
            return Some(known);
        }
        let program = format_program(name)?;
        Some(self.add(key, Regex::Program(program)))
    }

    /// Some literal strings.
    pub(crate) fn literals(&mut self, literals: &[&str]) -> PatternId {
        let key = format!("l{literals:?}");
        if let Some(&known) = self.ids.get(&key) {
            return known;
        }
        let hirs = literals.iter().map(|text| Hir::literal(text.as_bytes()));
        let hir = Hir::alternation(hirs.collect());
        let id = self.add(key, Regex::Spelled(escape::whole(&hir)));
        let lengths = literals.iter().map(|text| text.chars().count());
        self.patterns[id as usize].longest = lengths.max();
        id
    }

    /// Strings of so many characters.
    pub(crate) fn length(&mut self, min: u32, max: Option<u32>) -> PatternId {
        let key = format!("n{min},{max:?}");
        if let Some(&known) = self.ids.get(&key) {
            return known;
        }
        self.add(key, Regex::Spelled(escape::any(min, max)))
    }

    /// The strings that pass all of some list of tests.
    pub(crate) fn any_of(&mut self, lists: &[Vec<Test>]) -> PatternId {
        let key = format!("a{lists:?}");
        if let Some(&known) = self.ids.get(&key) {
            return known;
        }
        let mut regexes = Vec::new();
        let mut part = |&(pattern, negated): &Test| {
            let Pattern {
                regexes: these,
                formula,
                ..
            } = &self.patterns[pattern as usize];
            let formula = formula.shifted(regexes.len());
            regexes.extend(these.iter().cloned());
            match negated {
                true => Formula::Not(Box::new(formula)),
                false => formula,
            }
        };
        let all = |list: &Vec<Test>| Formula::And(list.iter().map(&mut part).collect());
        let formula = Formula::Or(lists.iter().map(all).collect());
        let id = self.patterns.len() as PatternId;
        self.patterns.push(Pattern {
            regexes,
            formula,
            ends: Ends::default(),
            words: None,
            longest: None,
            counted: None,
        });
        self.ids.insert(key, id);
        id
    }

    fn add(&mut self, key: String, regex: Regex) -> PatternId {
        let id = self.patterns.len() as PatternId;
        self.patterns.push(Pattern {
            regexes: vec![regex],
            formula: Formula::Part(0),
            ends: Ends::default(),
            words: None,
            longest: None,
            counted: None,
        });
        self.ids.insert(key, id);
        id
    }

    /// The strings that pass all of some list of tests; `None` if there are none. Lists are sorted
    /// and without repetition.
    pub(crate) fn combine(
        &mut self,
        lists: &[Vec<Test>],
        at: &str,
    ) -> Result<Option<(AutomatonId, DfaState)>, GrammarError> {
        if let Some(&known) = self.combined.get(lists) {
            return Ok(known);
        }
        let mut parts = Parts::new(Spelling::Json);
        let accept = self.tests(lists, &mut parts);
        let built = accept.and_then(|accept| self.automaton(parts, accept, Vec::new()));
        let found = built.map_err(|error| placed(error, at))?;
        self.combined.insert(lists.to_vec(), found);
        Ok(found)
    }

    /// The formula of some list of tests all passing, and the parts that it is about.
    pub(super) fn tests(
        &mut self,
        lists: &[Vec<Test>],
        parts: &mut Parts,
    ) -> Result<Formula, GrammarError> {
        let mut any = Vec::with_capacity(lists.len());
        for list in lists {
            let mut all = Vec::with_capacity(list.len());
            for &(pattern, negated) in list {
                let formula = self.part(pattern, parts)?;
                all.push(match negated {
                    true => Formula::Not(Box::new(formula)),
                    false => formula,
                });
            }
            any.push(Formula::And(all));
        }
        Ok(Formula::Or(any))
    }

    /// The formula of a pattern over `parts`, to which its automata are added.
    pub(super) fn part(
        &mut self,
        pattern: PatternId,
        parts: &mut Parts,
    ) -> Result<Formula, GrammarError> {
        if let Some(known) = parts.formulas.get(&pattern) {
            return Ok(known.clone());
        }
        let found = &mut self.patterns[pattern as usize];
        let mut formula = found.formula.shifted(parts.dfas.len());
        for regex in &mut found.regexes {
            let program = regex.program(parts.spelling, &mut self.limits)?;
            match Dfa::of(program, &self.limits) {
                Ok(part) => parts.dfas.push(part),
                // What matches nothing is a part that never accepts.
                Err(GrammarError::Empty { .. }) => {
                    formula = formula.with_part(parts.dfas.len(), &Formula::Or(Vec::new()));
                    let anything = parts.spelling.anything();
                    parts.dfas.push(Dfa::of(anything, &self.limits)?);
                }
                Err(error) => return Err(error),
            }
        }
        parts.formulas.insert(pattern, formula.clone());
        Ok(formula)
    }

    /// The texts of a formula as an automaton that tells which of `marks` hold; `None` if there are
    /// none.
    pub(super) fn automaton(
        &mut self,
        Parts {
            mut dfas, spelling, ..
        }: Parts,
        accept: Formula,
        marks: Vec<Formula>,
    ) -> Result<Option<(AutomatonId, DfaState)>, GrammarError> {
        let single = matches!((accept.as_part(), dfas.len()), (Some(0), 1)) && marks.is_empty();
        let found = match dfas.pop_if(|_| single) {
            Some((dfa, start)) => Some((Automaton::One(Box::new(dfa)), start)),
            None => self.product(dfas, spelling, accept, marks)?,
        };
        Ok(found.map(|(automaton, start)| {
            self.automata.push(automaton);
            (self.automata.len() as AutomatonId - 1, start)
        }))
    }

    fn product(
        &self,
        mut dfas: Vec<(Dfa, DfaState)>,
        spelling: Spelling,
        mut accept: Formula,
        marks: Vec<Formula>,
    ) -> Result<Option<(Automaton, DfaState)>, GrammarError> {
        // What matches no part must still be text.
        if accept.holds(0) {
            accept = Formula::And(vec![Formula::Part(dfas.len()), accept]);
            dfas.push(Dfa::of(spelling.anything(), &self.limits)?);
        }
        let (product, start) = Product::new(dfas, accept, marks, &self.limits)?;
        let automaton = Automaton::Product(Box::new(product), LengthSearch::default());
        Ok(start.map(|start| (automaton, start)))
    }

    /// Whether a text passes a test.
    pub(crate) fn matches(&mut self, pattern: PatternId, text: &str) -> Result<bool, GrammarError> {
        let regexes = &self.patterns[pattern as usize].regexes;
        let is_searched = regexes
            .iter()
            .all(|regex| matches!(regex, Regex::Search(..)));
        // Most texts are spelled like names, whose automata are needed anyway.
        let (found, is_spelled) = match (is_searched, text.contains(char::is_control)) {
            (true, has_controls) => (self.searcher(pattern, !has_controls)?, !has_controls),
            (false, _) => (self.combine(&[vec![(pattern, false)]], "")?, true),
        };
        if !is_spelled {
            return self.leads_to_match(found, text.as_bytes());
        }
        let quoted = serde_json::Value::from(text).to_string();
        self.leads_to_match(found, &quoted.as_bytes()[1..quoted.len() - 1])
    }

    /// The automaton of the texts that a regex is found in, spelled as names or as they are.
    fn searcher(
        &mut self,
        regex: PatternId,
        is_spelled: bool,
    ) -> Result<Option<(AutomatonId, DfaState)>, GrammarError> {
        if let Some(&known) = self.searchers.get(&(regex, is_spelled)) {
            return Ok(known);
        }
        let mut parts = Parts::new(match is_spelled {
            true => Spelling::Name,
            false => Spelling::Text,
        });
        let accept = self.part(regex, &mut parts)?;
        let found = self.automaton(parts, accept, Vec::new())?;
        self.searchers.insert((regex, is_spelled), found);
        Ok(found)
    }

    fn leads_to_match(
        &mut self,
        automaton: Option<(AutomatonId, DfaState)>,
        bytes: &[u8],
    ) -> Result<bool, GrammarError> {
        let Some((automaton, mut state)) = automaton else {
            return Ok(false);
        };
        let automaton = &mut self.automata[automaton as usize];
        for &byte in bytes {
            match automaton.step(state, byte)? {
                Some(next) => state = next,
                None => return Ok(false),
            }
        }
        Ok(automaton.is_accepting(state))
    }
}

/// The most characters of a text that a regex is found in, of one that is bound on both sides.
fn longest(condition: &Boolean) -> Option<usize> {
    let Boolean::Hir(hir) = condition else {
        return None;
    };
    let properties = hir.properties();
    let is_bound = properties.look_set_prefix().contains(Look::Start)
        && properties.look_set_suffix().contains(Look::End);
    // Bytes, of which a character has one at least.
    properties.maximum_len().filter(|_| is_bound)
}

/// A condition over the regexes that are searched for, which are added to `hirs`.
fn formula(condition: &Boolean, hirs: &mut Vec<Hir>) -> Formula {
    let mut each = |parts: &[Boolean]| parts.iter().map(|part| formula(part, hirs)).collect();
    match condition {
        Boolean::And(parts) => Formula::And(each(parts)),
        Boolean::Or(parts) => Formula::Or(each(parts)),
        Boolean::Not(part) => Formula::Not(Box::new(formula(part, hirs))),
        Boolean::Hir(hir) => {
            hirs.push(hir.clone());
            Formula::Part(hirs.len() - 1)
        }
    }
}

/// An error about a pattern, with its place in the schema.
fn placed(error: GrammarError, at: &str) -> GrammarError {
    match error {
        GrammarError::Limit { limit, allowed, .. } => GrammarError::Limit {
            what: format!("#{at}"),
            limit,
            allowed,
        },
        error @ GrammarError::Regex { .. } => refuse(at, &error.to_string()),
        error => error,
    }
}
