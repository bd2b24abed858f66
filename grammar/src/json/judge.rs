//! Whether a whole value satisfies a form: for the values of `enum`, and for what no automaton
//! decides while the value is written.

use serde_json::Value;

use crate::GrammarError;
use crate::json::decimal::{OnGrid, is_multiple};
use crate::json::form::{Form, FormId, Forms, Members, SchemaId};
use crate::json::patterns::Patterns;
use crate::json::values::{hash, type_of};

/// References followed within each other without entering the value; a longer chain is a cycle.
const MAX_REFERENCES: usize = 256;

/// Finds what a schema says, as far as it was read.
pub(crate) trait Reader {
    fn forms(&self) -> &Forms;
    fn patterns(&mut self) -> &mut Patterns;
    fn read(&mut self, schema: SchemaId) -> Result<FormId, GrammarError>;
}

/// Judges values.
pub(crate) struct Judge<'r, R> {
    reader: &'r mut R,
    n_references: usize,
}

impl<'r, R: Reader> Judge<'r, R> {
    pub(crate) fn new(reader: &'r mut R) -> Self {
        Self {
            reader,
            n_references: 0,
        }
    }

    /// Whether the value satisfies the form.
    pub(crate) fn holds(&mut self, id: FormId, value: &Value) -> Result<bool, GrammarError> {
        let form = self.reader.forms().shared(id);
        Ok(match &*form {
            Form::And(parts) => self.all(parts, value)?,
            Form::Or(parts) | Form::Any(parts) => self.any(parts, value)?,
            Form::One(parts) => self.count_holding(parts, value)? == 1,
            Form::NotOne(parts) => self.count_holding(parts, value)? != 1,
            Form::Mute(form) => self.holds(*form, value)?,
            Form::Guard { form, negated } => self.holds(*form, value)? != *negated,
            Form::Schema(schema) => self.schema(*schema, value)?,
            Form::NotSchema(schema) => !self.schema(*schema, value)?,
            assertion => self.assertion(assertion, value)?,
        })
    }

    fn schema(&mut self, schema: SchemaId, value: &Value) -> Result<bool, GrammarError> {
        if self.n_references >= MAX_REFERENCES {
            return Ok(false);
        }
        let form = self.reader.read(schema)?;
        self.n_references += 1;
        let holds = self.holds(form, value);
        self.n_references -= 1;
        holds
    }

    fn all(&mut self, parts: &[FormId], value: &Value) -> Result<bool, GrammarError> {
        for &part in parts {
            if !self.holds(part, value)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn any(&mut self, parts: &[FormId], value: &Value) -> Result<bool, GrammarError> {
        for &part in parts {
            if self.holds(part, value)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn count_holding(&mut self, parts: &[FormId], value: &Value) -> Result<usize, GrammarError> {
        let mut n = 0;
        for &part in parts {
            n += usize::from(self.holds(part, value)?);
        }
        Ok(n)
    }

    fn assertion(&mut self, form: &Form, value: &Value) -> Result<bool, GrammarError> {
        // A value within this one is reached anew.
        let n_references = std::mem::take(&mut self.n_references);
        let holds = match (form, value) {
            (Form::True, _) => true,
            (Form::False, _) => false,
            (Form::Types(types), _) => types & type_of(value) != 0,
            (Form::Values { values, negated }, _) => values.contains(value) != *negated,
            (Form::Only(values), _) => values.contains(value),
            (Form::Length(bounds), Value::String(text)) => bounds.contains(text.chars().count()),
            (Form::Text { pattern, negated }, Value::String(text)) => {
                self.reader.patterns().matches(*pattern, text)? != *negated
            }
            (Form::Format(pattern), Value::String(text)) => {
                self.reader.patterns().matches(*pattern, text)?
            }
            (Form::Unpointed, Value::Number(number)) => !number.is_f64(),
            (Form::Regex, Value::String(text)) => self.reader.patterns().is_regex(text),
            (Form::Range { lowest, highest }, Value::Number(number)) => {
                let number = OnGrid::new(number);
                lowest.is_none_or(|lowest| number.floor >= lowest)
                    && highest.is_none_or(|highest| number.ceil <= highest)
            }
            (Form::Multiple { of, negated }, Value::Number(number)) => {
                is_multiple(number, *of) != *negated
            }
            (_, Value::Object(members)) => self.object(form, members)?,
            (_, Value::Array(items)) => self.array(form, items)?,
            _ => true,
        };
        self.n_references = n_references;
        Ok(holds)
    }

    fn object(
        &mut self,
        form: &Form,
        members: &serde_json::Map<String, Value>,
    ) -> Result<bool, GrammarError> {
        match form {
            Form::Members(each) => Ok(!self.has_exception(each, members)?),
            Form::Exception(each) => self.has_exception(each, members),
            Form::Names(form) => {
                for name in members.keys() {
                    if !self.holds(*form, &Value::from(name.as_str()))? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Form::Required(names) => Ok(names.iter().all(|name| members.contains_key(&**name))),
            Form::Dependent { name, needs } => Ok(!members.contains_key(&**name)
                || needs.iter().all(|name| members.contains_key(&**name))),
            Form::NMembers(bounds) => Ok(bounds.contains(members.len())),
            _ => Ok(true),
        }
    }

    /// Whether some member is not as `each` says.
    fn has_exception(
        &mut self,
        each: &Members,
        members: &serde_json::Map<String, Value>,
    ) -> Result<bool, GrammarError> {
        for (name, member) in members {
            if !self.member(each, name, member)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn member(&mut self, each: &Members, name: &str, member: &Value) -> Result<bool, GrammarError> {
        let mut is_known = false;
        for (declared, form) in &each.names {
            if **declared == *name {
                is_known = true;
                if !self.holds(*form, member)? {
                    return Ok(false);
                }
            }
        }
        for &(pattern, form) in &each.patterns {
            if self.reader.patterns().matches(pattern, name)? {
                is_known = true;
                if !self.holds(form, member)? {
                    return Ok(false);
                }
            }
        }
        match each.rest {
            Some(rest) if !is_known => self.holds(rest, member),
            _ => Ok(true),
        }
    }

    fn array(&mut self, form: &Form, items: &[Value]) -> Result<bool, GrammarError> {
        match form {
            Form::Items { prefix, rest } => {
                for (idx, item) in items.iter().enumerate() {
                    let form = prefix.get(idx).copied().or(*rest);
                    if let Some(form) = form
                        && !self.holds(form, item)?
                    {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Form::NItems(bounds) => Ok(bounds.contains(items.len())),
            Form::Contains { form, bounds } => {
                let mut n = 0;
                for item in items {
                    n += usize::from(self.holds(*form, item)?);
                }
                Ok(bounds.contains(n))
            }
            Form::Unique => {
                let mut hashes: Vec<u64> = items.iter().map(hash).collect();
                hashes.sort_unstable();
                Ok(hashes.windows(2).all(|pair| pair[0] != pair[1]))
            }
            _ => Ok(true),
        }
    }
}
