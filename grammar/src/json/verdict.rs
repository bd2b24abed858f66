//! What decides on whole values while outputs are written: the forms of all guards, read to the
//! end, so that no document is needed any more.

use foldhash::HashSetExt;
use serde_json::Value;

use crate::GrammarError;
use crate::json::form::{Form, FormId, Forms, SchemaId};
use crate::json::judge::{Judge, Reader};
use crate::json::patterns::Patterns;
use crate::json::schema::Schemas;

/// Judges the values of guards.
#[derive(Debug)]
pub(crate) struct Verdicts {
    pub(crate) patterns: Patterns,
    forms: Forms,
    /// What each schema says, where a guard may ask. [n_schemas]
    read: Vec<Option<FormId>>,
}

impl Verdicts {
    /// Reads all that `guards` may ask.
    pub(crate) fn new(
        mut schemas: Schemas<'_>,
        guards: &[Vec<FormId>],
    ) -> Result<Self, GrammarError> {
        let mut open: Vec<FormId> = guards.iter().flatten().copied().collect();
        let mut seen = foldhash::HashSet::new();
        while let Some(form) = open.pop() {
            if !seen.insert(form) {
                continue;
            }
            match schemas.forms.get(form).clone() {
                Form::Schema(schema) | Form::NotSchema(schema) => open.push(schemas.form(schema)?),
                form => open.extend(within(&form)),
            }
        }
        let (forms, patterns, read) = schemas.into_parts();
        Ok(Self {
            patterns,
            forms,
            read,
        })
    }

    /// Whether the text is a value that satisfies all forms.
    pub(crate) fn hold(&mut self, forms: &[FormId], text: &[u8]) -> Result<bool, GrammarError> {
        let Ok(value) = serde_json::from_slice::<Value>(text) else {
            return Ok(false);
        };
        for &form in forms {
            if !Judge::new(self).holds(form, &value)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Reader for Verdicts {
    fn forms(&self) -> &Forms {
        &self.forms
    }

    fn patterns(&mut self) -> &mut Patterns {
        &mut self.patterns
    }

    fn read(&mut self, schema: SchemaId) -> Result<FormId, GrammarError> {
        Ok(self.read[schema as usize].expect("all that a guard may ask was read"))
    }
}

/// The forms within a form.
fn within(form: &Form) -> Vec<FormId> {
    match form {
        Form::Members(members) | Form::Exception(members) => {
            let names = members.names.iter().map(|(_, form)| *form);
            let patterns = members.patterns.iter().map(|(_, form)| *form);
            names.chain(patterns).chain(members.rest).collect()
        }
        Form::Names(form)
        | Form::Contains { form, .. }
        | Form::Guard { form, .. }
        | Form::Mute(form) => vec![*form],
        Form::Items { prefix, rest } => prefix.iter().copied().chain(*rest).collect(),
        Form::And(parts)
        | Form::Or(parts)
        | Form::Any(parts)
        | Form::One(parts)
        | Form::NotOne(parts) => parts.clone(),
        _ => Vec::new(),
    }
}
