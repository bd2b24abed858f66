//! What forms plainly say of a value, and whether members of an object plainly contradict.
//!
//! Alternatives that contradict are dropped as soon as they are made. So this is asked very often,
//! and what was found of a form is remembered.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use foldhash::HashMap;
use serde_json::Value;
use smallvec::SmallVec;

use crate::GrammarError;
use crate::json::form::{Form, FormId, Members, TRUE, types};
use crate::json::schema::Schemas;
use crate::json::values::{Values, type_of};

/// Forms within each other that are looked at.
const MAX_DEPTH: usize = 4;
/// Declared names up to which one is looked for among all.
const FEW_NAMES: usize = 16;

/// What is known of the forms of one schema.
#[derive(Debug, Default)]
pub(crate) struct PlainForms {
    plain: HashMap<FormId, Arc<Plain>>,
    /// The declared names of each `properties` with more than a few.
    declared: HashMap<FormId, HashMap<Arc<str>, FormId>>,
}

/// What a form plainly says.
#[derive(Clone, Debug)]
struct Plain {
    types: u8,
    /// Lists of which the value is in each.
    allowed: Vec<Arc<Values>>,
    /// Lists of which it is in none.
    excluded: Vec<Arc<Values>>,
}

impl Plain {
    const ANYTHING: Self = Self {
        types: types::ALL,
        allowed: Vec::new(),
        excluded: Vec::new(),
    };
}

/// Whether no value can be as all of these say.
fn are_empty(all: &[Arc<Plain>]) -> bool {
    let types = all
        .iter()
        .fold(types::ALL, |types, plain| types & plain.types);
    let mut allowed = all.iter().flat_map(|plain| &plain.allowed);
    let Some(first) = allowed.next() else {
        return types == 0;
    };
    let is_excluded = |hash: u64| {
        let mut excluded = all.iter().flat_map(|plain| &plain.excluded);
        excluded.any(|these| these.contains_hash(hash))
    };
    let fits = |&(ref value, hash): &(Value, u64)| {
        type_of(value) & types != 0
            && allowed.clone().all(|these| these.contains_hash(hash))
            && !is_excluded(hash)
    };
    !first.with_hashes().iter().any(fits)
}

impl PlainForms {
    /// Whether a member that must be there can plainly have no value.
    pub(crate) fn contradict(
        &mut self,
        schemas: &mut Schemas<'_>,
        conjunction: &[FormId],
    ) -> Result<bool, GrammarError> {
        let is_required = |&id: &FormId| matches!(schemas.forms.get(id), Form::Required(_));
        if !conjunction.iter().any(is_required) {
            return Ok(false);
        }
        let (mut required, mut said_of): (SmallVec<[Arc<Form>; 4]>, SmallVec<[_; 4]>) =
            (SmallVec::new(), SmallVec::new());
        for &id in conjunction {
            match schemas.forms.get(id) {
                Form::Required(_) => required.push(schemas.forms.shared(id)),
                Form::Members(_) => said_of.push((id, schemas.forms.shared(id))),
                _ => {}
            }
        }
        let required = required.iter().flat_map(|form| match &**form {
            Form::Required(names) => names.as_slice(),
            _ => &[],
        });
        for name in required {
            let mut said: SmallVec<[Arc<Plain>; 4]> = SmallVec::new();
            for (id, form) in &said_of {
                let Form::Members(members) = &**form else {
                    continue;
                };
                let form = self.member(*id, members, name);
                if form != TRUE {
                    said.push(self.plain(schemas, form)?);
                }
            }
            if are_empty(&said) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What holds of a member by its name, as far as is plain.
    fn member(&mut self, id: FormId, members: &Members, name: &Arc<str>) -> FormId {
        let declared = if members.names.len() <= FEW_NAMES {
            let mut names = members.names.iter();
            names.find(|(other, _)| other == name).map(|(_, form)| form)
        } else {
            let known = self.declared.entry(id);
            let known = known.or_insert_with(|| members.names.iter().rev().cloned().collect());
            known.get(name)
        };
        match declared {
            Some(&form) => form,
            None if members.patterns.is_empty() => members.rest.unwrap_or(TRUE),
            None => TRUE,
        }
    }

    fn plain(
        &mut self,
        schemas: &mut Schemas<'_>,
        form: FormId,
    ) -> Result<Arc<Plain>, GrammarError> {
        match self.plain.entry(form) {
            Entry::Occupied(known) => Ok(Arc::clone(known.get())),
            Entry::Vacant(vacant) => {
                let mut plain = Plain::ANYTHING;
                look(schemas, form, MAX_DEPTH, &mut plain)?;
                Ok(Arc::clone(vacant.insert(Arc::new(plain))))
            }
        }
    }
}

/// Adds what a form plainly says.
fn look(
    schemas: &mut Schemas<'_>,
    id: FormId,
    depth: usize,
    plain: &mut Plain,
) -> Result<(), GrammarError> {
    if depth == 0 {
        return Ok(());
    }
    match &*schemas.forms.shared(id) {
        Form::False => plain.types = 0,
        Form::Types(types) => plain.types &= types,
        Form::Only(values) => plain.allowed.push(Arc::clone(values)),
        Form::Values { values, negated } => match negated {
            false => plain.allowed.push(Arc::clone(values)),
            true => plain.excluded.push(Arc::clone(values)),
        },
        Form::And(parts) => {
            for &part in parts {
                look(schemas, part, depth - 1, plain)?;
            }
        }
        Form::Mute(form) => look(schemas, *form, depth - 1, plain)?,
        Form::Schema(schema) => {
            let form = schemas.form(*schema)?;
            look(schemas, form, depth - 1, plain)?;
        }
        _ => {}
    }
    Ok(())
}
