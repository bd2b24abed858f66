//! Whether a given value satisfies a schema: used on the values of `enum` and `const` alone.

use serde_json::Value;

use crate::GrammarError;
use crate::json::compile::Patterns;
use crate::json::decimal::OnGrid;
use crate::json::schema::{Schema, SchemaId, Schemas, types};

/// References followed within each other without entering the value; a longer chain is a cycle.
const MAX_REFERENCES: usize = 256;

/// Checks values against the schemas of one document.
pub(crate) struct Validator<'a, 'p> {
    schemas: &'a Schemas<'a>,
    patterns: &'p mut Patterns,
    n_references: usize,
}

impl<'a, 'p> Validator<'a, 'p> {
    pub(crate) fn new(schemas: &'a Schemas<'a>, patterns: &'p mut Patterns) -> Self {
        Self {
            schemas,
            patterns,
            n_references: 0,
        }
    }

    /// Whether the value satisfies each schema's own keywords; `$ref`, `anyOf` and `allOf` at this
    /// place are resolved already.
    pub(crate) fn all(&mut self, value: &Value, ids: &[SchemaId]) -> Result<bool, GrammarError> {
        for &id in ids {
            if !self.own(value, self.schemas.get(id))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A schema within the value, with all its keywords.
    fn whole(&mut self, value: &Value, id: SchemaId) -> Result<bool, GrammarError> {
        if self.n_references > MAX_REFERENCES {
            return Ok(false);
        }
        let schema = self.schemas.get(id);
        self.n_references += 1;
        let mut holds = true;
        for &part in schema.reference.iter().chain(&schema.all_of) {
            holds = holds && self.whole(value, part)?;
        }
        if let Some(branches) = &schema.any_of {
            let mut any = false;
            for &branch in branches {
                any = any || self.whole(value, branch)?;
            }
            holds &= any;
        }
        self.n_references -= 1;
        Ok(holds && self.own(value, schema)?)
    }

    fn own(&mut self, value: &Value, schema: &Schema) -> Result<bool, GrammarError> {
        let n_references = std::mem::take(&mut self.n_references);
        let holds = schema.types & type_of(value) != 0
            && schema
                .values
                .as_ref()
                .is_none_or(|values| values.contains(value))
            && match value {
                Value::Number(number) => number_holds(OnGrid::new(number), schema),
                Value::String(text) => self.string_holds(text, schema)?,
                Value::Array(items) => self.array_holds(items, schema)?,
                Value::Object(_) => self.object_holds(value, schema)?,
                Value::Null | Value::Bool(_) => true,
            };
        self.n_references = n_references;
        Ok(holds)
    }

    fn string_holds(&mut self, text: &str, schema: &Schema) -> Result<bool, GrammarError> {
        if !schema.length.contains(text.chars().count()) {
            return Ok(false);
        }
        let Some(pattern) = &schema.pattern else {
            return Ok(true);
        };
        let Some((pattern, mut state)) = self.patterns.get(pattern, &schema.pointer)? else {
            return Ok(false);
        };
        let dfa = &mut self.patterns.dfas[pattern as usize];
        let quoted = Value::from(text).to_string();
        for &byte in &quoted.as_bytes()[1..quoted.len() - 1] {
            match dfa.step(state, byte)? {
                Some(next) => state = next,
                None => return Ok(false),
            }
        }
        Ok(dfa.is_accepting(state))
    }

    fn array_holds(&mut self, items: &[Value], schema: &Schema) -> Result<bool, GrammarError> {
        if !schema.n_items.contains(items.len()) {
            return Ok(false);
        }
        for (idx, item) in items.iter().enumerate() {
            let place = schema.prefix_items.get(idx).copied().or(schema.items);
            if let Some(id) = place
                && !self.whole(item, id)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn object_holds(&mut self, value: &Value, schema: &Schema) -> Result<bool, GrammarError> {
        let Value::Object(members) = value else {
            return Ok(true);
        };
        if !schema
            .required
            .iter()
            .all(|name| members.contains_key(name))
        {
            return Ok(false);
        }
        for (name, member) in members {
            let declared = schema
                .properties
                .iter()
                .find(|(declared, _)| declared == name);
            if let Some(id) = declared.map(|(_, id)| *id).or(schema.additional)
                && !self.whole(member, id)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn type_of(value: &Value) -> u8 {
    match value {
        Value::Null => types::NULL,
        Value::Bool(_) => types::BOOLEAN,
        Value::Object(_) => types::OBJECT,
        Value::Array(_) => types::ARRAY,
        Value::String(_) => types::STRING,
        Value::Number(number) => match number.as_f64() {
            Some(value) if value.fract() == 0.0 => types::INTEGER,
            _ => types::FRACTION,
        },
    }
}

fn number_holds(value: OnGrid, schema: &Schema) -> bool {
    schema.lowest.is_none_or(|lowest| value.floor >= lowest)
        && schema.highest.is_none_or(|highest| value.ceil <= highest)
        && schema
            .multiples
            .iter()
            .all(|multiple| value.exact().is_some_and(|value| value % multiple == 0))
}
