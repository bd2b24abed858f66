//! Shapes whose places are not pruned yet: one kind of value under assertions that all hold.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use foldhash::HashMap;
use serde_json::Value;

use crate::GrammarError;
use crate::json::compile::{Compiler, Literal, NameId, Names};
use crate::json::decimal::OnGrid;
use crate::json::form::{Bounds, Form, FormId, Members, TRUE, types};
use crate::json::number::{NumberRules, NumberShape};
use crate::json::patterns::{AutomatonId, PatternId, Test};
use crate::json::schema::Schemas;
use crate::json::shape::NodeId;
use crate::regex::dfa::DfaState;

/// `contains` of one array that are followed while it is written; more are looked at at its end.
const MAX_CONTAINS: usize = 2;
/// Patterns of names of one object of which every set has a place, whether some name matches it or
/// not.
const FEW_NAME_PATTERNS: usize = 2;
/// Patterns of names of one object that are followed while a name is written.
const MAX_NAME_PATTERNS: usize = 60;
/// Characters up to which the length of names is bounded while they are written.
const MAX_NAME_LENGTH: u32 = 256;

/// A shape in the making.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Draft {
    Literals(Vec<Literal>),
    String {
        automaton: Option<(AutomatonId, DfaState)>,
        bounds: Bounds,
    },
    Number(NumberShape),
    Array {
        /// [n_prefix, n_sets]
        prefix: Vec<Vec<NodeId>>,
        /// [n_sets]
        rest: Vec<NodeId>,
        bounds: Bounds,
        contains: Vec<Bounds>,
        different: bool,
    },
    Object {
        members: Vec<DraftMember>,
        others: DraftOthers,
        bounds: Bounds,
    },
}

/// A declared property in the making.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DraftMember {
    pub(crate) name: NameId,
    pub(crate) node: NodeId,
    pub(crate) required: bool,
    /// Members that must come with it.
    pub(crate) needs: Vec<u32>,
}

/// Names beyond the declared ones, in the making.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum DraftOthers {
    None,
    Any(NodeId),
    Matching {
        patterns: Vec<PatternId>,
        /// The place for each set of patterns that a name can match, as bits.
        places: Vec<(u64, NodeId)>,
        /// Whether no name matches another set.
        complete: bool,
        /// Tests of names: all of some list must pass.
        names: Option<Vec<Vec<Test>>>,
    },
}

/// What a string must pass, and its length; `None` if no string does.
pub(crate) type StringRules = (Vec<Test>, Bounds);

/// Strings that pass all of some list.
pub(crate) fn strings(
    schemas: &mut Schemas<'_>,
    lists: &[Vec<Test>],
    bounds: Bounds,
) -> Result<Option<Draft>, GrammarError> {
    let automaton = match lists {
        lists if lists.iter().any(Vec::is_empty) => None,
        lists => match schemas.patterns.combine(lists, "")? {
            Some(automaton) => Some(automaton),
            None => return Ok(None),
        },
    };
    Ok(Some(Draft::String { automaton, bounds }))
}

pub(crate) fn string_tests(schemas: &mut Schemas<'_>, parts: &[Arc<Form>]) -> Option<StringRules> {
    let mut bounds = Bounds::default();
    let mut tests = Vec::new();
    for part in parts {
        match &**part {
            Form::Length(these) => bounds = bounds.and(*these),
            Form::Text { pattern, negated } => tests.push((*pattern, *negated)),
            Form::Format(pattern) => tests.push((*pattern, false)),
            Form::Values {
                values,
                negated: true,
            } => {
                let texts: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
                if !texts.is_empty() {
                    tests.push((schemas.patterns.literals(&texts), true));
                }
            }
            _ => {}
        }
    }
    tests.sort_unstable();
    tests.dedup();
    let is_short = |&(pattern, negated): &Test| {
        let longest = schemas.patterns.longest(pattern).filter(|_| !negated);
        longest.is_some_and(|longest| longest < bounds.min as usize)
    };
    let is_empty = bounds.is_empty() || tests.iter().any(is_short);
    (!is_empty).then_some((tests, bounds))
}

/// Numbers of the types in `allowed`.
pub(crate) fn number(
    schemas: &Schemas<'_>,
    parts: &[Arc<Form>],
    integer: bool,
    allowed: u8,
) -> Draft {
    let mut rules = NumberRules {
        integer,
        any_spelling: schemas.any_number(),
        ..NumberRules::default()
    };
    if allowed & types::NUMBER == types::FRACTION {
        rules.not_multiples.push(OnGrid::ONE);
    }
    for part in parts {
        match &**part {
            Form::Range { lowest, highest } => {
                rules.lowest = rules.lowest.max(*lowest);
                rules.highest = match (rules.highest, *highest) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (highest, None) | (None, highest) => highest,
                };
            }
            Form::Unpointed => rules.any_spelling = false,
            Form::Multiple { of, negated: false } => rules.multiples.push(*of),
            Form::Multiple { of, negated: true } => rules.not_multiples.push(*of),
            Form::Values {
                values,
                negated: true,
            } => {
                let numbers = values.iter().filter_map(|value| match value {
                    Value::Number(number) => OnGrid::new(number).exact(),
                    _ => None,
                });
                rules.excluded.extend(numbers);
            }
            _ => {}
        }
    }
    rules.excluded.sort_unstable();
    Draft::Number(NumberShape::new(rules))
}

/// Arrays, and what is left to look at at their end.
pub(crate) fn array(compiler: &mut Compiler<'_>, parts: &[Arc<Form>]) -> (Draft, Vec<FormId>) {
    let mut bounds = Bounds::default();
    let mut n_prefix = 0;
    let mut contains: Vec<(FormId, Bounds)> = Vec::new();
    let mut guards = Vec::new();
    let mut different = false;
    for part in parts {
        match &**part {
            Form::NItems(these) => bounds = bounds.and(*these),
            Form::Items { prefix, .. } => n_prefix = n_prefix.max(prefix.len()),
            Form::Contains { form, bounds } if contains.len() < MAX_CONTAINS => {
                contains.push((*form, *bounds));
            }
            Form::Contains { .. } => {
                guards.push(compiler.schemas.forms.add(Form::clone(part)));
            }
            Form::Unique => different = true,
            _ => {}
        }
    }
    if let Some(max) = bounds.max {
        n_prefix = n_prefix.min(max as usize);
    }
    let at = |idx: Option<usize>| -> Vec<FormId> {
        let here = |part: &Arc<Form>| match &**part {
            Form::Items { prefix, rest } => idx.and_then(|idx| prefix.get(idx).copied()).or(*rest),
            _ => None,
        };
        parts.iter().filter_map(here).collect()
    };
    let places = |compiler: &mut Compiler<'_>, forms: Vec<FormId>| -> Vec<NodeId> {
        let sets = 0..1_usize << contains.len();
        sets.map(|set| {
            let mut forms = forms.clone();
            for (idx, (form, bounds)) in contains.iter().enumerate() {
                if set >> idx & 1 == 1 {
                    forms.push(*form);
                } else if bounds.max.is_some() {
                    forms.push(compiler.schemas.forms.not(*form));
                }
            }
            compiler.place(forms)
        })
        .collect()
    };
    let prefix = (0..n_prefix)
        .map(|idx| places(compiler, at(Some(idx))))
        .collect();
    let rest = places(compiler, at(None));
    let draft = Draft::Array {
        prefix,
        rest,
        bounds,
        contains: contains.iter().map(|(_, bounds)| *bounds).collect(),
        different,
    };
    (draft, guards)
}

/// What a `properties` declares.
#[derive(Debug)]
pub(crate) struct Declared {
    names: Vec<NameId>,
    forms: HashMap<NameId, FormId>,
}

impl Declared {
    pub(crate) fn new(members: &Members, names: &mut Names) -> Self {
        let each = members.names.iter();
        let each: Vec<(NameId, FormId)> =
            each.map(|(name, form)| (names.add(name), *form)).collect();
        Self {
            names: each.iter().map(|&(name, _)| name).collect(),
            forms: each.into_iter().collect(),
        }
    }
}

/// What an object's assertions say of its members.
#[derive(Default)]
struct Gathered<'p> {
    order: Vec<NameId>,
    required: HashMap<NameId, bool>,
    members: Vec<(&'p Members, Arc<Declared>)>,
    /// Each with what must come with it.
    dependents: Vec<(NameId, Vec<NameId>)>,
    names: Vec<FormId>,
    bounds: Bounds,
}

impl<'p> Gathered<'p> {
    fn new(compiler: &mut Compiler<'_>, conjunction: &[FormId], parts: &'p [Arc<Form>]) -> Self {
        let mut gathered = Self::default();
        for (&id, part) in conjunction.iter().zip(parts) {
            match &**part {
                Form::Members(members) => {
                    let declared = compiler.declared(id, members);
                    declared
                        .names
                        .iter()
                        .for_each(|&name| gathered.declare(name));
                    gathered.members.push((members, declared));
                }
                Form::NMembers(bounds) => gathered.bounds = gathered.bounds.and(*bounds),
                Form::Names(form) => gathered.names.push(*form),
                _ => {}
            }
        }
        for part in parts {
            match &**part {
                Form::Required(names) => {
                    for name in names {
                        let name = compiler.names.add(name);
                        gathered.declare(name);
                        gathered.required.insert(name, true);
                    }
                }
                Form::Dependent { name, needs } => {
                    let name = compiler.names.add(name);
                    let needs = needs.iter().map(|need| compiler.names.add(need));
                    let needs: Vec<NameId> = needs.collect();
                    gathered.declare(name);
                    needs.iter().for_each(|&need| gathered.declare(need));
                    gathered.dependents.push((name, needs));
                }
                _ => {}
            }
        }
        gathered
    }

    fn declare(&mut self, name: NameId) {
        if let Entry::Vacant(vacant) = self.required.entry(name) {
            vacant.insert(false);
            self.order.push(name);
        }
    }

    /// Indices of what each name needs with it, transitively.
    fn needs(&self) -> Vec<Vec<u32>> {
        let mut needs: Vec<Vec<u32>> = vec![Vec::new(); self.order.len()];
        if self.dependents.is_empty() {
            return needs;
        }
        let index = |name: &NameId| {
            let found = self.order.iter().position(|other| other == name);
            found.expect("both sides of a dependency are declared") as u32
        };
        for (name, these) in &self.dependents {
            needs[index(name) as usize].extend(these.iter().map(index));
        }
        loop {
            let before = needs.clone();
            for each in &mut needs {
                for &need in &each.clone() {
                    each.extend(&before[need as usize]);
                }
                each.sort_unstable();
                each.dedup();
            }
            if needs == before {
                return needs;
            }
        }
    }
}

/// Objects, and what is left to look at at their end; `None` if there are none.
pub(crate) fn object(
    compiler: &mut Compiler<'_>,
    conjunction: &[FormId],
    parts: &[Arc<Form>],
) -> Result<Option<(Draft, Vec<FormId>)>, GrammarError> {
    let mut gathered = Gathered::new(compiler, conjunction, parts);
    if gathered.bounds.is_empty() {
        return Ok(None);
    }
    let mut guards = Vec::new();
    let names = tests_of_names(
        compiler,
        &gathered.names.clone(),
        &mut gathered,
        &mut guards,
    )?;
    let needs = gathered.needs();
    let mut members = Vec::with_capacity(gathered.order.len());
    for (&name, needs) in gathered.order.iter().zip(needs) {
        let forms = forms_of(compiler, &gathered, name)?;
        members.push(DraftMember {
            name,
            node: compiler.place(forms),
            required: gathered.required[&name],
            needs,
        });
    }
    let others = others(compiler, &gathered, names, &mut guards)?;
    let draft = Draft::Object {
        members,
        others,
        bounds: gathered.bounds,
    };
    Ok(Some((draft, guards)))
}

/// What holds of the value of a declared name.
fn forms_of(
    compiler: &mut Compiler<'_>,
    gathered: &Gathered<'_>,
    name: NameId,
) -> Result<Vec<FormId>, GrammarError> {
    let mut forms = Vec::new();
    if !gathered.names.is_empty() {
        let value = Value::from(&*compiler.names.text(name));
        if !compiler.holds(&gathered.names, &value)? {
            return Ok(vec![crate::json::form::FALSE]);
        }
    }
    for (members, declared) in &gathered.members {
        let mut is_known = false;
        if let Some(&form) = declared.forms.get(&name) {
            forms.push(form);
            is_known = true;
        }
        for &(pattern, form) in &members.patterns {
            let text = compiler.names.text(name);
            if compiler.schemas.patterns.matches(pattern, &text)? {
                forms.push(form);
                is_known = true;
            }
        }
        if let Some(rest) = members.rest.filter(|_| !is_known) {
            forms.push(rest);
        }
    }
    Ok(forms)
}

/// What was said of names that are not declared.
enum NameTests {
    /// Nothing.
    Free,
    /// All of some list must pass.
    Tests(Vec<Vec<Test>>),
    /// All that there may be were declared.
    Listed,
}

fn tests_of_names(
    compiler: &mut Compiler<'_>,
    names: &[FormId],
    gathered: &mut Gathered<'_>,
    guards: &mut Vec<FormId>,
) -> Result<NameTests, GrammarError> {
    if names.is_empty() {
        return Ok(NameTests::Free);
    }
    let string = compiler.schemas.forms.types(types::STRING);
    let forms: Vec<FormId> = names.iter().copied().chain([string]).collect();
    let mut lists = Vec::new();
    let mut listed = Vec::new();
    for conjunction in compiler.expand(&forms)? {
        let parts: Vec<Arc<Form>> = conjunction
            .iter()
            .map(|&id| compiler.schemas.forms.shared(id))
            .collect();
        let values = parts.iter().find_map(|part| match &**part {
            Form::Values {
                values,
                negated: false,
            } => Some(Arc::clone(values)),
            _ => None,
        });
        if let Some(values) = values {
            for value in values.iter().filter(|value| value.is_string()) {
                if compiler.holds(&conjunction, value)? {
                    listed.extend(value.as_str().map(Arc::<str>::from));
                }
            }
            continue;
        }
        let is_guard = |part: &Arc<Form>| matches!(**part, Form::Guard { .. });
        let Some((mut tests, bounds)) = string_tests(&mut compiler.schemas, &parts) else {
            continue;
        };
        if bounds != Bounds::default() {
            let max = bounds.max.filter(|&max| max <= MAX_NAME_LENGTH);
            if bounds.min > MAX_NAME_LENGTH || max != bounds.max || parts.iter().any(is_guard) {
                guards.extend(
                    names
                        .iter()
                        .map(|&form| compiler.schemas.forms.add(Form::Names(form))),
                );
            }
            let length = compiler
                .schemas
                .patterns
                .length(bounds.min.min(MAX_NAME_LENGTH), max);
            tests.push((length, false));
        }
        tests.sort_unstable();
        lists.push(tests);
    }
    // Listed names are declared, with whatever holds of others.
    for name in &listed {
        gathered.declare(compiler.names.add(name));
    }
    if lists.is_empty() {
        return Ok(NameTests::Listed);
    }
    Ok(NameTests::Tests(lists))
}

fn others(
    compiler: &mut Compiler<'_>,
    gathered: &Gathered<'_>,
    names: NameTests,
    guards: &mut Vec<FormId>,
) -> Result<DraftOthers, GrammarError> {
    let tests = match names {
        NameTests::Listed => return Ok(DraftOthers::None),
        NameTests::Free => None,
        NameTests::Tests(lists) if lists.iter().any(Vec::is_empty) => None,
        NameTests::Tests(lists) => Some(lists),
    };
    let mut patterns: Vec<PatternId> = Vec::new();
    for (members, _) in &gathered.members {
        patterns.extend(members.patterns.iter().map(|(pattern, _)| *pattern));
    }
    patterns.sort_unstable();
    patterns.dedup();
    let sets = match patterns.len() {
        n if n <= FEW_NAME_PATTERNS => Some((0..1 << n).collect()),
        n if n <= MAX_NAME_PATTERNS => compiler.schemas.patterns.sets(&patterns)?,
        _ => None,
    };
    let complete = sets.is_some();
    let sets: Vec<u64> = sets.unwrap_or_else(|| {
        // One pattern a name, and the rest looked at at the end.
        patterns.truncate(MAX_NAME_PATTERNS);
        let all = gathered.members.iter();
        let forms = all.map(|&(members, _)| Form::Members(members.clone()));
        guards.extend(forms.map(|form| compiler.schemas.forms.add(form)));
        [0].into_iter()
            .chain((0..patterns.len()).map(|idx| 1 << idx))
            .collect()
    });
    let mut place = |set: u64| {
        let mut forms = Vec::new();
        for (members, _) in &gathered.members {
            let is_known = |pattern: &PatternId| {
                let idx = patterns.binary_search(pattern);
                idx.is_ok_and(|idx| set >> idx & 1 == 1)
            };
            let before = forms.len();
            let known = members.patterns.iter().filter(|(p, _)| is_known(p));
            forms.extend(known.map(|(_, form)| *form));
            if forms.len() == before {
                forms.push(members.rest.unwrap_or(TRUE));
            }
        }
        compiler.place(forms)
    };
    if patterns.is_empty() && tests.is_none() {
        return Ok(DraftOthers::Any(place(0)));
    }
    let places = sets.iter().map(|&set| (set, place(set))).collect();
    Ok(DraftOthers::Matching {
        patterns,
        places,
        complete,
        names: tests,
    })
}
