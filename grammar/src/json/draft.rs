//! Shapes whose places are not pruned yet: one kind of value under assertions that all hold.

use std::sync::Arc;

use serde_json::Value;

use crate::GrammarError;
use crate::json::compile::{Compiler, Literal, NameId};
use crate::json::decimal::OnGrid;
use crate::json::expand::Conjunction;
use crate::json::form::{Bounds, Form, FormId, types};
use crate::json::number::{NumberRules, NumberShape};
use crate::json::patterns::{AutomatonId, PatternId, Test};
use crate::json::schema::Schemas;
use crate::json::shape::NodeId;
use crate::regex::dfa::DfaState;

/// `contains` of one array that are followed while it is written; more are looked at at its end.
const MAX_CONTAINS: usize = 2;
const NO_ITEM: Bounds = Bounds {
    min: 0,
    max: Some(0),
};
/// Characters up to which the length of names is bounded while they are written.
pub(crate) const MAX_NAME_LENGTH: u32 = 256;

/// A shape in the making.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Draft {
    Literals(Vec<Literal>),
    String {
        automaton: Option<(AutomatonId, DfaState)>,
        bounds: Bounds,
        /// Whether every text is the beginning of one.
        goes_on: bool,
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
    Object(DraftObject),
}

impl Draft {
    /// The places of what is within.
    pub(crate) fn each_place(&self, mut each: impl FnMut(NodeId)) {
        match self {
            Self::Literals(_) | Self::String { .. } | Self::Number(_) => {}
            Self::Array { prefix, rest, .. } => {
                prefix.iter().flatten().chain(rest).copied().for_each(each);
            }
            Self::Object(object) => {
                object.members.iter().for_each(|member| each(member.node));
                object.others.each_place(&mut each);
                if let Some(exception) = &object.exception {
                    exception.nodes.iter().copied().for_each(&mut each);
                    exception.others.each_place(&mut each);
                }
            }
        }
    }
}

/// An object in the making.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DraftObject {
    pub(crate) members: Vec<DraftMember>,
    pub(crate) others: DraftOthers,
    pub(crate) bounds: Bounds,
    pub(crate) exception: Option<DraftException>,
}

/// A member that must come, in the making: the places of values that make a member it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DraftException {
    /// Of the declared properties. [n_members]
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) others: DraftOthers,
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
        /// One for each set of patterns that a name can match.
        sets: Vec<DraftSet>,
        /// Whether no name matches another set.
        complete: bool,
        /// Tests of names: all of some list must pass.
        names: Option<Vec<Vec<Test>>>,
    },
}

impl DraftOthers {
    fn each_place(&self, each: &mut impl FnMut(NodeId)) {
        match self {
            Self::None => {}
            Self::Any(node) => each(*node),
            Self::Matching { sets, .. } => sets.iter().for_each(|set| each(set.node)),
        }
    }
}

/// The names that match some patterns, and none of the others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DraftSet {
    /// As bits.
    pub(crate) matched: u64,
    /// The place of the values.
    pub(crate) node: NodeId,
    /// Fewest bytes of a name, where an object may need one; else 0.
    pub(crate) n_name_bytes: usize,
}

/// What a string must pass, and its length; `None` if no string does.
pub(crate) type StringRules = (Vec<Test>, Bounds);

/// Strings that pass all of some list.
pub(crate) fn strings(
    schemas: &mut Schemas<'_>,
    lists: &[Vec<Test>],
    bounds: Bounds,
) -> Result<Option<Draft>, GrammarError> {
    let (lists, bounds) = schemas.patterns.with_lengths(lists, bounds);
    let automaton = match &*lists {
        lists if lists.iter().any(Vec::is_empty) => None,
        lists => match schemas.patterns.combine(lists, "")? {
            Some(automaton) => Some(automaton),
            None => return Ok(None),
        },
    };
    Ok(Some(Draft::String {
        automaton,
        bounds,
        goes_on: bounds.max.is_none() && schemas.patterns.exclude_few(&lists),
    }))
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

/// What is said of the items at an index, or of those past all indices.
fn said_of_item(parts: &[Arc<Form>], idx: Option<usize>) -> impl Iterator<Item = FormId> {
    parts.iter().filter_map(move |part| match &**part {
        Form::Items { prefix, rest } => idx.and_then(|idx| prefix.get(idx).copied()).or(*rest),
        _ => None,
    })
}

/// Arrays, and what is left to look at at their end.
pub(crate) fn array(compiler: &mut Compiler<'_>, parts: &[Arc<Form>]) -> (Draft, Vec<FormId>) {
    let mut bounds = Bounds::default();
    let mut n_prefix = 0;
    let mut contains: Vec<(FormId, Bounds)> = Vec::new();
    let mut guards = Vec::new();
    let mut different = false;
    let mut excluded = Vec::new();
    for part in parts {
        match &**part {
            // Items of which none may be something are each not it.
            Form::Contains {
                form,
                bounds: NO_ITEM,
            } => {
                excluded.push(compiler.schemas.forms.not(*form));
            }
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
    let at = |idx: Option<usize>| {
        let said = said_of_item(parts, idx);
        said.chain(excluded.iter().copied()).collect()
    };
    let places = |compiler: &mut Compiler<'_>, forms: Conjunction| -> Vec<NodeId> {
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
