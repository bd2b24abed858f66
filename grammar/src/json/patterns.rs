//! What a schema asks of a string's characters: patterns, formats, literals, and their combinations
//! as automata over the JSON spelling.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use foldhash::{HashMap, HashMapExt};
use regex_syntax::hir::{Hir, Look};

use crate::json::schema::refuse;
use crate::json::{escape, formats};
use crate::regex::dfa::{Dfa, DfaState};
use crate::regex::product::{Automaton, Formula, Product};
use crate::regex::program::Program;
use crate::regex::syntax::{self, Boolean};
use crate::regex::words::words;
use crate::{GrammarError, Limits};

/// Index of a pattern.
pub(crate) type PatternId = u32;
/// Index of an automaton.
pub(crate) type AutomatonId = u32;

/// A pattern that must match, or, negated, must not.
pub(crate) type Test = (PatternId, bool);

/// The automata that a formula is about.
#[derive(Default)]
struct Parts {
    /// Whether they are over characters, and not over the JSON spelling.
    unspelled: bool,
    /// Each with its first state.
    dfas: Vec<(Dfa, DfaState)>,
    /// Of patterns.
    formulas: HashMap<PatternId, Formula>,
}

/// The sets of patterns that names may match.
pub(crate) struct NameSets<'a> {
    pub(crate) patterns: &'a [PatternId],
    /// Those whose members have values, as bits.
    pub(crate) live: &'a [u64],
    /// The others, if no name matches a set that is in neither list.
    pub(crate) dead: Option<&'a [u64]>,
    /// Whether it makes a difference which set is matched.
    pub(crate) told_apart: bool,
}

/// Sets of patterns that names may match, of which each gets a place.
const MAX_SETS: usize = 256;

/// A language of characters.
#[derive(Debug)]
struct Pattern {
    /// Over the JSON spelling.
    regexes: Vec<Regex>,
    /// The same over the characters themselves, of regexes alone.
    unspelled: Vec<Regex>,
    formula: Formula,
    ends: Ends,
    /// All strings of the language, if they are few and it is a regex's.
    words: Option<Arc<[String]>>,
}

/// On which side of a match any text may stand.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    before: bool,
    after: bool,
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

/// A regex, compiled when it is first needed.
#[derive(Debug)]
enum Regex {
    /// Searched for in the characters.
    Plain(Hir),
    /// Searched for in what the JSON spelling stands for.
    Search(Hir),
    /// Over the JSON spelling already.
    Spelled(Hir),
    Program(Arc<Program>),
}

impl Regex {
    /// The compiled regex, whose bytes are taken from the limit the first time.
    fn program(&mut self, limits: &mut Limits) -> Result<Arc<Program>, GrammarError> {
        let program = match self {
            Self::Program(program) => return Ok(Arc::clone(program)),
            Self::Plain(hir) => Program::ending_in_any_text(&syntax::searched(hir), limits)?,
            Self::Search(hir) => Program::ending_in_any_text(&escape::search(hir), limits)?,
            Self::Spelled(hir) => Program::new(hir, limits)?,
        };
        let program = Arc::new(program);
        limits.nfa_bytes = limits.nfa_bytes.saturating_sub(program.n_bytes());
        *self = Self::Program(Arc::clone(&program));
        Ok(program)
    }
}

/// Every string.
static ANYTHING: LazyLock<Arc<Program>> = LazyLock::new(|| {
    let program = Program::new(&escape::anything(), &Limits::default());
    Arc::new(program.expect("any text is a small regex"))
});

/// Every name that is not declared: names have one spelling, so that equal ones have equal bytes.
static ANY_NAME: LazyLock<Arc<Program>> = LazyLock::new(|| {
    let program = Program::new(&escape::plain(&escape::any_text()), &Limits::default());
    Arc::new(program.expect("any name is a small regex"))
});

/// The formats that some schema has asked for. There are seventeen.
static FORMATS: LazyLock<Mutex<HashMap<String, Arc<Program>>>> = LazyLock::new(Mutex::default);

/// The compiled regex of a format; `None` if it is not one of the standard's.
fn format_program(name: &str) -> Option<Arc<Program>> {
    let mut known = FORMATS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = known.get(name) {
        return Some(Arc::clone(known));
    }
    let hir = escape::plain(&formats::hir(name)?);
    let program = Program::new(&hir, &Limits::default());
    let program = Arc::new(program.expect("a format is a small regex"));
    known.insert(name.to_owned(), Arc::clone(&program));
    Some(program)
}

/// The patterns of a schema and the automata of those combinations that it needs.
#[derive(Debug)]
pub(crate) struct Patterns {
    limits: Limits,
    patterns: Vec<Pattern>,
    ids: HashMap<String, PatternId>,
    pub(crate) automata: Vec<Automaton>,
    /// `None` for a combination that no string matches.
    combined: HashMap<Vec<Vec<Test>>, Option<(AutomatonId, DfaState)>>,
}

impl Patterns {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            limits: limits.clone(),
            patterns: Vec::new(),
            ids: HashMap::new(),
            automata: Vec::new(),
            combined: HashMap::new(),
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
        let id = self.patterns.len() as PatternId;
        let ends = Ends::of(&condition);
        let words = match &condition {
            Boolean::Hir(hir) => words(hir),
            _ => None,
        };
        self.patterns.push(Pattern {
            regexes: hirs.iter().cloned().map(Regex::Search).collect(),
            unspelled: hirs.into_iter().map(Regex::Plain).collect(),
            formula,
            ends,
            words: words.map(Arc::from),
        });
        self.ids.insert(key, id);
        Ok(id)
    }

    /// All strings that match a regex, if they are few.
    pub(crate) fn words(&self, regex: PatternId) -> Option<Arc<[String]>> {
        self.patterns[regex as usize].words.clone()
    }

    /// Whether a text is a regex.
    pub(crate) fn is_regex(&self, text: &str) -> bool {
        syntax::parse_boolean(text, &self.limits).is_ok()
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
        self.add(key, Regex::Spelled(escape::whole(&hir)))
    }

    /// Strings of so many characters.
    pub(crate) fn length(&mut self, min: u32, max: Option<u32>) -> PatternId {
        let key = format!("n{min},{max:?}");
        if let Some(&known) = self.ids.get(&key) {
            return known;
        }
        self.add(key, Regex::Spelled(escape::any(min, max)))
    }

    fn add(&mut self, key: String, regex: Regex) -> PatternId {
        let id = self.patterns.len() as PatternId;
        self.patterns.push(Pattern {
            regexes: vec![regex],
            unspelled: Vec::new(),
            formula: Formula::Part(0),
            ends: Ends::default(),
            words: None,
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
        let mut parts = Parts::default();
        let accept = self.tests(lists, &mut parts);
        let built = accept.and_then(|accept| self.automaton(parts, accept, Vec::new()));
        let found = built.map_err(|error| placed(error, at))?;
        self.combined.insert(lists.to_vec(), found);
        Ok(found)
    }

    /// The formula of some list of tests all passing, and the parts that it is about.
    fn tests(&mut self, lists: &[Vec<Test>], parts: &mut Parts) -> Result<Formula, GrammarError> {
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
    fn part(&mut self, pattern: PatternId, parts: &mut Parts) -> Result<Formula, GrammarError> {
        if let Some(known) = parts.formulas.get(&pattern) {
            return Ok(known.clone());
        }
        let found = &mut self.patterns[pattern as usize];
        let mut formula = found.formula.shifted(parts.dfas.len());
        let regexes = match parts.unspelled {
            true => &mut found.unspelled,
            false => &mut found.regexes,
        };
        for regex in regexes {
            match Dfa::of(regex.program(&mut self.limits)?, &self.limits) {
                Ok(part) => parts.dfas.push(part),
                // What matches nothing is a part that never accepts.
                Err(GrammarError::Empty { .. }) => {
                    formula = formula.with_part(parts.dfas.len(), &Formula::Or(Vec::new()));
                    parts
                        .dfas
                        .push(Dfa::of(Arc::clone(&ANYTHING), &self.limits)?);
                }
                Err(error) => return Err(error),
            }
        }
        parts.formulas.insert(pattern, formula.clone());
        Ok(formula)
    }

    /// The texts of a formula as an automaton that tells which of `marks` hold; `None` if there are
    /// none.
    fn automaton(
        &mut self,
        Parts { mut dfas, .. }: Parts,
        accept: Formula,
        marks: Vec<Formula>,
    ) -> Result<Option<(AutomatonId, DfaState)>, GrammarError> {
        let single = matches!((accept.as_part(), dfas.len()), (Some(0), 1)) && marks.is_empty();
        let found = match dfas.pop_if(|_| single) {
            Some((dfa, start)) => Some((Automaton::One(Box::new(dfa)), start)),
            None => self.product(dfas, accept, marks)?,
        };
        Ok(found.map(|(automaton, start)| {
            self.automata.push(automaton);
            (self.automata.len() as AutomatonId - 1, start)
        }))
    }

    fn product(
        &self,
        mut dfas: Vec<(Dfa, DfaState)>,
        mut accept: Formula,
        marks: Vec<Formula>,
    ) -> Result<Option<(Automaton, DfaState)>, GrammarError> {
        // What matches no part must still be text.
        if accept.holds(0) {
            accept = Formula::And(vec![Formula::Part(dfas.len()), accept]);
            dfas.push(Dfa::of(Arc::clone(&ANYTHING), &self.limits)?);
        }
        let (product, start) = Product::new(dfas, accept, marks, &self.limits)?;
        Ok(start.map(|start| (Automaton::Product(Box::new(product)), start)))
    }

    /// An automaton of names that match one of the `sets`, and pass all of some list of `tests`.
    /// Its marks are the patterns, if those make a difference.
    pub(crate) fn names(
        &mut self,
        sets: &NameSets<'_>,
        tests: Option<&[Vec<Test>]>,
    ) -> Result<Option<(AutomatonId, DfaState)>, GrammarError> {
        let mut parts = Parts::default();
        parts
            .dfas
            .push(Dfa::of(Arc::clone(&ANY_NAME), &self.limits)?);
        let mut accept = vec![Formula::Part(0)];
        if let Some(tests) = tests {
            accept.push(self.tests(tests, &mut parts)?);
        }
        let mut marks = Vec::new();
        if sets.told_apart || sets.dead != Some(&[]) {
            for &pattern in sets.patterns {
                marks.push(self.part(pattern, &mut parts)?);
            }
        }
        let exactly = |&set: &u64| {
            let each = marks
                .iter()
                .enumerate()
                .map(|(idx, mark)| match set >> idx & 1 {
                    1 => mark.clone(),
                    _ => Formula::Not(Box::new(mark.clone())),
                });
            Formula::And(each.collect())
        };
        match sets.dead {
            Some([]) => {}
            Some([0]) => accept.push(Formula::Or(marks.clone())),
            _ => accept.push(Formula::Or(sets.live.iter().map(exactly).collect())),
        }
        if !sets.told_apart {
            marks.clear();
        }
        self.automaton(parts, Formula::And(accept), marks)
    }

    /// Whether it is plain that each name of the sets is the beginning of another one.
    pub(crate) fn always_go_on(&self, sets: &NameSets<'_>) -> bool {
        let mut ends = sets
            .patterns
            .iter()
            .map(|&id| self.patterns[id as usize].ends);
        match sets.dead {
            Some([]) => true,
            Some([0]) => {
                ends.clone().any(|ends| ends.before && ends.after) || ends.all(|ends| ends.after)
            }
            _ => false,
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
        let mut parts = Parts::default();
        let each = patterns
            .iter()
            .map(|&pattern| self.part(pattern, &mut parts));
        let accept = Formula::And(each.collect::<Result<_, _>>()?);
        let (product, start) = Product::new(parts.dfas, accept, Vec::new(), limits)?;
        limits.compile_steps = limits.compile_steps.saturating_sub(product.n_visited());
        Ok(start.is_some())
    }

    /// Whether a text passes a test.
    pub(crate) fn matches(&mut self, pattern: PatternId, text: &str) -> Result<bool, GrammarError> {
        let Some((automaton, mut state)) = self.combine(&[vec![(pattern, false)]], "")? else {
            return Ok(false);
        };
        let automaton = &mut self.automata[automaton as usize];
        let quoted = serde_json::Value::from(text).to_string();
        for &byte in &quoted.as_bytes()[1..quoted.len() - 1] {
            match automaton.step(state, byte)? {
                Some(next) => state = next,
                None => return Ok(false),
            }
        }
        Ok(automaton.is_accepting(state))
    }
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
