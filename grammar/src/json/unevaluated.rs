//! `unevaluatedProperties` and `unevaluatedItems`: what the rest of a schema evaluates is found for
//! each way in which it can hold, and what is left is bound for that way.
//!
//! The more branches of an `anyOf` hold, the more is evaluated and the less is bound. So it is
//! enough to let every set of branches hold, whatever the others do.
//!
//! Source: JSON Schema draft 2020-12, Core, section 11.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::GrammarError;
use crate::json::form::{Form, FormId, Members, SchemaId, TRUE};
use crate::json::patterns::PatternId;
use crate::json::schema::Schemas;

/// Branches of an `anyOf` of which every set is tried; of more, single ones and all together.
const MAX_BRANCHES: usize = 6;
/// Ways in which the rest of the schema may hold.
const MAX_WAYS: usize = 256;

/// What was evaluated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    names: BTreeSet<Arc<str>>,
    patterns: BTreeSet<PatternId>,
    all_members: bool,
    n_items: usize,
    all_items: bool,
    /// Items that satisfy one of these.
    contained: BTreeSet<FormId>,
}

/// One way in which a form can hold.
#[derive(Clone, Debug, Default)]
struct Way {
    parts: Vec<FormId>,
    told: Told,
}

impl Way {
    fn and(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.parts.extend(&other.parts);
        both.told.names.extend(other.told.names.iter().cloned());
        both.told.patterns.extend(&other.told.patterns);
        both.told.all_members |= other.told.all_members;
        both.told.n_items = both.told.n_items.max(other.told.n_items);
        both.told.all_items |= other.told.all_items;
        both.told.contained.extend(&other.told.contained);
        both
    }
}

/// `form`, and what it leaves unevaluated bound by `members` and `items`.
pub(crate) fn bound(
    schemas: &mut Schemas<'_>,
    form: FormId,
    members: Option<FormId>,
    items: Option<FormId>,
    at: &str,
) -> Result<FormId, GrammarError> {
    let mut finder = Finder {
        schemas,
        path: Vec::new(),
        at,
    };
    let ways = finder.ways(form)?;
    let forms = &mut schemas.forms;
    let mut any = Vec::new();
    for Way { mut parts, told } in ways {
        if let Some(rest) = members.filter(|_| !told.all_members) {
            parts.push(forms.add(Form::Members(Members {
                names: told.names.into_iter().map(|name| (name, TRUE)).collect(),
                patterns: told.patterns.into_iter().map(|p| (p, TRUE)).collect(),
                rest: Some(rest),
            })));
        }
        if let Some(rest) = items.filter(|_| !told.all_items) {
            let rest = forms.or(told.contained.into_iter().chain([rest]));
            parts.push(forms.add(Form::Items {
                prefix: vec![TRUE; told.n_items],
                rest: Some(rest),
            }));
        }
        any.push(forms.and(parts));
    }
    Ok(forms.or(any))
}

struct Finder<'s, 'a> {
    schemas: &'s mut Schemas<'a>,
    path: Vec<SchemaId>,
    at: &'s str,
}

impl Finder<'_, '_> {
    fn ways(&mut self, id: FormId) -> Result<Vec<Way>, GrammarError> {
        let ways = self.found(id)?;
        if ways.len() > MAX_WAYS {
            return Err(self.too_many());
        }
        if ways.iter().any(|way| way.told != Told::default()) {
            return Ok(ways);
        }
        // Nothing is told, so how it holds makes no difference.
        let parts = vec![id];
        let told = Told::default();
        Ok(vec![Way { parts, told }])
    }

    fn too_many(&self) -> GrammarError {
        GrammarError::Limit {
            what: format!("#{}", self.at),
            limit: "alternatives",
            allowed: MAX_WAYS,
        }
    }

    fn found(&mut self, id: FormId) -> Result<Vec<Way>, GrammarError> {
        let form = self.schemas.forms.get(id).clone();
        match form {
            Form::And(parts) => {
                let mut ways = vec![Way::default()];
                for part in parts {
                    let part = self.ways(part)?;
                    ways = self.both(&ways, &part)?;
                }
                Ok(ways)
            }
            Form::Or(parts) => {
                let mut ways = Vec::new();
                for part in parts {
                    ways.extend(self.ways(part)?);
                }
                Ok(ways)
            }
            Form::Any(parts) => self.any(&parts),
            Form::One(parts) => {
                let mut ways = Vec::new();
                for (idx, &part) in parts.iter().enumerate() {
                    let others = parts.iter().enumerate().filter(|&(other, _)| other != idx);
                    let others: Vec<FormId> = others.map(|(_, &other)| other).collect();
                    let not: Vec<FormId> = others
                        .iter()
                        .map(|&other| self.schemas.forms.not(other))
                        .collect();
                    for mut way in self.ways(part)? {
                        way.parts.extend(&not);
                        ways.push(way);
                    }
                }
                Ok(ways)
            }
            Form::Schema(schema) if !self.path.contains(&schema) => {
                self.path.push(schema);
                let form = self.schemas.form(schema)?;
                let ways = self.ways(form);
                self.path.pop();
                ways
            }
            form => {
                let parts = vec![id];
                let told = told(form);
                Ok(vec![Way { parts, told }])
            }
        }
    }

    fn any(&mut self, parts: &[FormId]) -> Result<Vec<Way>, GrammarError> {
        let branches = parts.iter().map(|&part| self.ways(part));
        let branches = branches.collect::<Result<Vec<_>, _>>()?;
        let n = branches.len();
        let sets: Vec<u64> = if n <= MAX_BRANCHES {
            (1..1 << n).collect()
        } else {
            (0..n.min(63)).map(|idx| 1 << idx).collect()
        };
        let mut ways = Vec::new();
        for set in sets {
            let mut held = vec![Way::default()];
            for (idx, branch) in branches.iter().enumerate() {
                if set >> idx & 1 == 1 {
                    held = self.both(&held, branch)?;
                }
            }
            ways.extend(held);
        }
        Ok(ways)
    }

    fn both(&self, left: &[Way], right: &[Way]) -> Result<Vec<Way>, GrammarError> {
        if left.len() * right.len() > MAX_WAYS {
            return Err(self.too_many());
        }
        let pairs = left
            .iter()
            .flat_map(|a| right.iter().map(move |b| a.and(b)));
        Ok(pairs.collect())
    }
}

fn told(form: Form) -> Told {
    let mut told = Told::default();
    match form {
        Form::Members(members) => {
            told.all_members = members.rest.is_some();
            told.names = members.names.into_iter().map(|(name, _)| name).collect();
            told.patterns = members.patterns.into_iter().map(|(p, _)| p).collect();
        }
        Form::Items { prefix, rest } => {
            told.n_items = prefix.len();
            told.all_items = rest.is_some();
        }
        Form::Contains { form, .. } => {
            told.contained.insert(form);
        }
        _ => {}
    }
    told
}
