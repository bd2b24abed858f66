//! What a schema asks of a string's characters: patterns, formats, literals, and their combinations
//! as automata over the JSON spelling.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use regex_syntax::hir::Hir;

use crate::json::schema::refuse;
use crate::json::{escape, formats};
use crate::regex::dfa::{Dfa, DfaState};
use crate::regex::product::{Automaton, Formula, Marks, Product};
use crate::regex::program::Program;
use crate::regex::syntax::{self, Boolean};
use crate::{GrammarError, Limits};

/// Index of a pattern.
pub(crate) type PatternId = u32;
/// Index of an automaton.
pub(crate) type AutomatonId = u32;

/// A pattern that must match, or, negated, must not.
pub(crate) type Test = (PatternId, bool);

/// An automaton and its first state.
type Part = (Dfa, DfaState);

/// A language of characters.
#[derive(Debug)]
struct Pattern {
    /// Over the JSON spelling.
    regexes: Vec<Regex>,
    formula: Formula,
}

/// A regex, compiled when it is first needed.
#[derive(Debug)]
enum Regex {
    Hir(Hir),
    Program(Arc<Program>),
}

impl Regex {
    /// The compiled regex, whose bytes are taken from the limit the first time.
    fn program(&mut self, limits: &mut Limits) -> Result<Arc<Program>, GrammarError> {
        let program = match self {
            Self::Program(program) => return Ok(Arc::clone(program)),
            Self::Hir(hir) => Arc::new(Program::new(hir, limits)?),
        };
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
        let regexes = hirs.into_iter().map(Regex::Hir).collect();
        self.patterns.push(Pattern { regexes, formula });
        self.ids.insert(key, id);
        Ok(id)
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
        self.add(key, Regex::Hir(escape::whole(&hir)))
    }

    /// Strings of so many characters.
    pub(crate) fn length(&mut self, min: u32, max: Option<u32>) -> PatternId {
        let key = format!("n{min},{max:?}");
        if let Some(&known) = self.ids.get(&key) {
            return known;
        }
        self.add(key, Regex::Hir(escape::any(min, max)))
    }

    fn add(&mut self, key: String, regex: Regex) -> PatternId {
        let id = self.patterns.len() as PatternId;
        self.patterns.push(Pattern {
            regexes: vec![regex],
            formula: Formula::Part(0),
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
        let built = match lists {
            [list] => match list.as_slice() {
                [(pattern, false)] => self.single(*pattern),
                _ => self.product(lists),
            },
            _ => self.product(lists),
        };
        let found = match built {
            Ok(None) | Err(GrammarError::Empty { .. }) => None,
            Ok(Some((automaton, start))) => {
                self.automata.push(automaton);
                Some((self.automata.len() as AutomatonId - 1, start))
            }
            Err(error) => return Err(placed(error, at)),
        };
        self.combined.insert(lists.to_vec(), found);
        Ok(found)
    }

    fn single(
        &mut self,
        pattern: PatternId,
    ) -> Result<Option<(Automaton, DfaState)>, GrammarError> {
        let found = &mut self.patterns[pattern as usize];
        if let (Formula::Part(0), [regex]) = (&found.formula, found.regexes.as_mut_slice()) {
            let (dfa, start) = Dfa::of(regex.program(&mut self.limits)?, &self.limits)?;
            return Ok(Some((Automaton::One(Box::new(dfa)), start)));
        }
        self.product(&[vec![(pattern, false)]])
    }

    fn product(
        &mut self,
        lists: &[Vec<Test>],
    ) -> Result<Option<(Automaton, DfaState)>, GrammarError> {
        let mut patterns: Vec<PatternId> = lists.iter().flatten().map(|test| test.0).collect();
        patterns.sort_unstable();
        patterns.dedup();
        let (parts, formulas) = self.parts(&ANYTHING, &patterns)?;
        let test = |&(pattern, negated): &Test| {
            let idx = patterns.binary_search(&pattern);
            let formula = formulas[idx.expect("all patterns are parts")].clone();
            if negated {
                Formula::Not(Box::new(formula))
            } else {
                formula
            }
        };
        let list = |tests: &Vec<Test>| Formula::And(tests.iter().map(test).collect());
        let any = Formula::Or(lists.iter().map(list).collect());
        let whole = Formula::And(vec![Formula::Part(0), any]);
        let product = Product::new(parts, whole, &self.limits)?;
        Ok(product.map(|(product, start)| (Automaton::Product(Box::new(product)), start)))
    }

    /// The automata of `patterns` behind that of `any` text, and the formula of each over them.
    fn parts(
        &mut self,
        any: &Arc<Program>,
        patterns: &[PatternId],
    ) -> Result<(Vec<Part>, Vec<Formula>), GrammarError> {
        let mut parts = vec![Dfa::of(Arc::clone(any), &self.limits)?];
        let mut formulas = Vec::with_capacity(patterns.len());
        for &pattern in patterns {
            let found = &mut self.patterns[pattern as usize];
            let mut formula = found.formula.shifted(parts.len());
            for regex in &mut found.regexes {
                match Dfa::of(regex.program(&mut self.limits)?, &self.limits) {
                    Ok(part) => parts.push(part),
                    // What matches nothing is a part that never accepts.
                    Err(GrammarError::Empty { .. }) => {
                        let never = Formula::Not(Box::new(Formula::And(Vec::new())));
                        formula = formula.with_part(parts.len(), &never);
                        parts.push(Dfa::of(Arc::clone(&ANYTHING), &self.limits)?);
                    }
                    Err(error) => return Err(error),
                }
            }
            formulas.push(formula);
        }
        Ok((parts, formulas))
    }

    /// An automaton of names. The set of `patterns` that a name matches must be accepted, and all of
    /// some list of `names` must pass.
    pub(crate) fn names(
        &mut self,
        patterns: &[PatternId],
        names: Option<&[Vec<Test>]>,
        accepted: HashSet<u64>,
    ) -> Result<Option<(AutomatonId, DfaState)>, GrammarError> {
        let further = names.unwrap_or_default().iter().flatten();
        let all: Vec<PatternId> = patterns
            .iter()
            .copied()
            .chain(further.map(|&(pattern, _)| pattern))
            .collect();
        let (parts, mut marks) = self.parts(&ANY_NAME, &all)?;
        let mut further = marks.split_off(patterns.len()).into_iter();
        let mut whole = vec![Formula::Part(0)];
        if let Some(names) = names {
            let list = |tests: &Vec<Test>| {
                let each = tests.iter().map(|&(_, negated)| {
                    let formula = further.next().expect("each test has its formula");
                    if negated {
                        Formula::Not(Box::new(formula))
                    } else {
                        formula
                    }
                });
                Formula::And(each.collect())
            };
            whole.push(Formula::Or(names.iter().map(list).collect()));
        }
        let marks = Marks {
            formulas: marks,
            accepted,
        };
        let product = Product::marked(parts, Formula::And(whole), marks, &self.limits)?;
        let Some((product, start)) = product else {
            return Ok(None);
        };
        self.automata.push(Automaton::Product(Box::new(product)));
        Ok(Some((self.automata.len() as AutomatonId - 1, start)))
    }

    /// The sets of `patterns` that some text matches; `None` if finding them costs too much.
    pub(crate) fn sets(
        &mut self,
        patterns: &[PatternId],
    ) -> Result<Option<Vec<u64>>, GrammarError> {
        let (parts, formulas) = self.parts(&ANYTHING, patterns)?;
        let marks = Marks {
            formulas,
            accepted: HashSet::new(),
        };
        Product::sets(parts, marks, &self.limits)
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
            hirs.push(escape::search(hir));
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
