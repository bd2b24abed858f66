//! Schemas read keyword by keyword. What is malformed or not supported is refused with its JSON
//! pointer.
//!
//! A schema is read when it is first reached, so an unused definition costs nothing and may hold
//! anything.
//!
//! Source: JSON Schema draft 2020-12, Core and Validation.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::json::decimal::OnGrid;
use crate::{GrammarError, Limits};

/// Index of a schema that was reached.
pub(crate) type SchemaId = u32;

/// JSON types as bits. `number` is `INTEGER | FRACTION`.
pub(crate) mod types {
    pub(crate) const NULL: u8 = 1;
    pub(crate) const BOOLEAN: u8 = 2;
    pub(crate) const OBJECT: u8 = 4;
    pub(crate) const ARRAY: u8 = 8;
    pub(crate) const STRING: u8 = 16;
    pub(crate) const INTEGER: u8 = 32;
    pub(crate) const FRACTION: u8 = 64;
    pub(crate) const ALL: u8 = 127;
}

/// One schema's own keywords.
#[derive(Debug)]
pub(crate) struct Schema {
    /// Without the leading `#`.
    pub(crate) pointer: String,
    pub(crate) types: u8,
    pub(crate) values: Option<Values>,
    pub(crate) properties: Vec<(String, SchemaId)>,
    pub(crate) required: Vec<String>,
    pub(crate) additional: Option<SchemaId>,
    pub(crate) prefix_items: Vec<SchemaId>,
    pub(crate) items: Option<SchemaId>,
    pub(crate) n_items: Bounds,
    pub(crate) length: Bounds,
    /// In units of the number grid.
    pub(crate) lowest: Option<i128>,
    pub(crate) highest: Option<i128>,
    pub(crate) multiples: Vec<i128>,
    pub(crate) pattern: Option<String>,
    pub(crate) any_of: Option<Vec<SchemaId>>,
    pub(crate) all_of: Vec<SchemaId>,
    pub(crate) reference: Option<SchemaId>,
    /// Whether any keyword asserts something by itself, `$ref`, `anyOf` and `allOf` aside.
    pub(crate) asserts: bool,
}

/// The values of `enum` and `const`: in their order, and hashed.
#[derive(Debug)]
pub(crate) struct Values {
    list: Vec<Value>,
    set: HashSet<Value>,
}

impl Values {
    fn new(list: Vec<Value>) -> Self {
        Self {
            set: list.iter().cloned().collect(),
            list,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Value> {
        self.list.iter()
    }

    pub(crate) fn contains(&self, value: &Value) -> bool {
        self.set.contains(value)
    }
}

/// Inclusive bounds of a count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) min: u32,
    pub(crate) max: Option<u32>,
}

impl Bounds {
    /// What both allow.
    pub(crate) fn and(self, other: Self) -> Self {
        let max = match (self.max, other.max) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (max, None) | (None, max) => max,
        };
        Self {
            min: self.min.max(other.min),
            max,
        }
    }

    pub(crate) fn contains(self, n: usize) -> bool {
        n >= self.min as usize && self.max.is_none_or(|max| n <= max as usize)
    }
}

/// The schemas reached so far, within one document.
#[derive(Debug)]
pub(crate) struct Schemas<'a> {
    root: &'a Value,
    schemas: Vec<Schema>,
    /// Pointers of `schemas` and of those still to be read, in the order of their ids.
    pointers: Vec<String>,
    ids: HashMap<String, SchemaId>,
}

impl<'a> Schemas<'a> {
    /// Checks the document's size and reads its root, which gets id 0, and whatever it reaches.
    pub(crate) fn new(root: &'a Value, limits: &Limits) -> Result<Self, GrammarError> {
        check_size(root, limits)?;
        let mut schemas = Self {
            root,
            schemas: Vec::new(),
            pointers: Vec::new(),
            ids: HashMap::new(),
        };
        schemas.id(String::new());
        while schemas.schemas.len() < schemas.pointers.len() {
            let pointer = schemas.pointers[schemas.schemas.len()].clone();
            let schema = schemas.read(pointer)?;
            schemas.schemas.push(schema);
        }
        Ok(schemas)
    }

    /// The schema of an id.
    pub(crate) fn get(&self, id: SchemaId) -> &Schema {
        &self.schemas[id as usize]
    }

    fn id(&mut self, pointer: String) -> SchemaId {
        if let Some(&id) = self.ids.get(&pointer) {
            return id;
        }
        let id = self.pointers.len() as SchemaId;
        self.ids.insert(pointer.clone(), id);
        self.pointers.push(pointer);
        id
    }

    fn read(&mut self, pointer: String) -> Result<Schema, GrammarError> {
        let root = self.root;
        let value = root
            .pointer(&pointer)
            .expect("ids are given to pointers that resolve");
        let mut schema = Schema {
            types: types::ALL,
            values: None,
            properties: Vec::new(),
            required: Vec::new(),
            additional: None,
            prefix_items: Vec::new(),
            items: None,
            n_items: Bounds::default(),
            length: Bounds::default(),
            lowest: None,
            highest: None,
            multiples: Vec::new(),
            pattern: None,
            any_of: None,
            all_of: Vec::new(),
            reference: None,
            asserts: false,
            pointer,
        };
        match value {
            Value::Bool(true) => {}
            Value::Bool(false) => {
                schema.types = 0;
                schema.asserts = true;
            }
            Value::Object(keywords) => {
                for (keyword, value) in keywords {
                    self.keyword(&mut schema, keyword, value)?;
                }
            }
            _ => {
                return Err(refuse(
                    &schema.pointer,
                    "a schema is an object or a boolean",
                ));
            }
        }
        Ok(schema)
    }

    /// Reads one keyword into `schema`.
    fn keyword(
        &mut self,
        schema: &mut Schema,
        keyword: &str,
        value: &Value,
    ) -> Result<(), GrammarError> {
        let at = child(&schema.pointer, keyword);
        match keyword {
            "$schema" | "$defs" | "definitions" | "title" | "description" | "default"
            | "examples" | "$comment" | "deprecated" | "readOnly" | "writeOnly" => return Ok(()),
            "$id" if schema.pointer.is_empty() => return Ok(()),
            "$ref" => schema.reference = Some(self.reference(&at, value)?),
            "anyOf" => schema.any_of = Some(self.schema_list(&at, value)?),
            "allOf" => schema.all_of = self.schema_list(&at, value)?,
            "type" => schema.types &= read_types(&at, value)?,
            "enum" => {
                let values = value
                    .as_array()
                    .ok_or_else(|| refuse(&at, "`enum` is an array"))?;
                restrict(&mut schema.values, values);
            }
            "const" => restrict(&mut schema.values, std::slice::from_ref(value)),
            "properties" => {
                for name in map(&at, value)?.keys() {
                    let property = self.schema(child(&at, name));
                    schema.properties.push((name.clone(), property));
                }
            }
            "required" => schema.required = read_names(&at, value)?,
            "additionalProperties" => schema.additional = Some(self.schema(at)),
            "prefixItems" => schema.prefix_items = self.schema_list(&at, value)?,
            "items" if value.is_array() => {
                return Err(refuse(
                    &at,
                    "an array of `items` is not supported; use `prefixItems`",
                ));
            }
            "items" => schema.items = Some(self.schema(at)),
            "minItems" => schema.n_items.min = read_count(&at, value)?,
            "maxItems" => schema.n_items.max = Some(read_count(&at, value)?),
            "minLength" => schema.length.min = read_count(&at, value)?,
            "maxLength" => schema.length.max = Some(read_count(&at, value)?),
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => {
                read_number(schema, keyword, &at, value)?;
            }
            "pattern" => {
                let pattern = value
                    .as_str()
                    .ok_or_else(|| refuse(&at, "`pattern` is a string"))?;
                schema.pattern = Some(pattern.to_owned());
            }
            _ => {
                return Err(refuse(
                    &at,
                    &format!("keyword `{keyword}` is not supported"),
                ));
            }
        }
        schema.asserts |= !matches!(keyword, "$ref" | "anyOf" | "allOf");
        Ok(())
    }

    fn schema(&mut self, pointer: String) -> SchemaId {
        self.id(pointer)
    }

    fn schema_list(&mut self, at: &str, value: &Value) -> Result<Vec<SchemaId>, GrammarError> {
        match value.as_array() {
            Some(list) if !list.is_empty() => Ok((0..list.len())
                .map(|idx| self.schema(format!("{at}/{idx}")))
                .collect()),
            _ => Err(refuse(at, "an array of at least one schema is needed")),
        }
    }

    fn reference(&mut self, at: &str, value: &Value) -> Result<SchemaId, GrammarError> {
        let text = value
            .as_str()
            .ok_or_else(|| refuse(at, "`$ref` is a string"))?;
        let Some(pointer) = text
            .strip_prefix('#')
            .filter(|p| p.is_empty() || p.starts_with('/'))
        else {
            return Err(refuse(
                at,
                "only references within the schema (`#/...`) are supported",
            ));
        };
        let pointer = percent_decoded(pointer)
            .filter(|pointer| self.root.pointer(pointer).is_some())
            .ok_or_else(|| refuse(at, &format!("nothing is at `{text}`")))?;
        Ok(self.schema(pointer))
    }
}

/// A refusal at a place.
pub(crate) fn refuse(pointer: &str, message: &str) -> GrammarError {
    GrammarError::Schema {
        pointer: format!("#{pointer}"),
        message: message.to_owned(),
    }
}

fn child(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn map<'v>(at: &str, value: &'v Value) -> Result<&'v Map<String, Value>, GrammarError> {
    value
        .as_object()
        .ok_or_else(|| refuse(at, "an object of schemas is needed"))
}

fn restrict(values: &mut Option<Values>, allowed: &[Value]) {
    let both = allowed
        .iter()
        .filter(|&value| values.as_ref().is_none_or(|v| v.contains(value)));
    *values = Some(Values::new(both.cloned().collect()));
}

fn read_types(at: &str, value: &Value) -> Result<u8, GrammarError> {
    let names = match value {
        Value::Array(names) if !names.is_empty() => names.as_slice(),
        single => std::slice::from_ref(single),
    };
    let mut union = 0;
    for name in names {
        union |= match name.as_str() {
            Some("null") => types::NULL,
            Some("boolean") => types::BOOLEAN,
            Some("object") => types::OBJECT,
            Some("array") => types::ARRAY,
            Some("string") => types::STRING,
            Some("integer") => types::INTEGER,
            Some("number") => types::INTEGER | types::FRACTION,
            Some(other) => return Err(refuse(at, &format!("`{other}` is not a JSON type"))),
            None => return Err(refuse(at, "`type` is the name of a JSON type, or several")),
        };
    }
    Ok(union)
}

fn read_names(at: &str, value: &Value) -> Result<Vec<String>, GrammarError> {
    let names = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let read: Option<Vec<String>> = names
        .iter()
        .map(|v| v.as_str().map(str::to_owned))
        .collect();
    match read {
        Some(read) if value.is_array() => Ok(read),
        _ => Err(refuse(at, "an array of property names is needed")),
    }
}

/// A count; one beyond `u32` is no bound that an output could meet, and stays the largest.
fn read_count(at: &str, value: &Value) -> Result<u32, GrammarError> {
    let whole = value
        .as_f64()
        .filter(|count| *count >= 0.0 && count.fract() == 0.0);
    whole
        .map(|count| count as u32)
        .ok_or_else(|| refuse(at, "a whole number is needed"))
}

fn read_number(
    schema: &mut Schema,
    keyword: &str,
    at: &str,
    value: &Value,
) -> Result<(), GrammarError> {
    let Value::Number(number) = value else {
        return Err(refuse(at, "a number is needed"));
    };
    let value = OnGrid::new(number);
    match keyword {
        "minimum" => schema.lowest = schema.lowest.max(Some(value.ceil)),
        "exclusiveMinimum" => schema.lowest = schema.lowest.max(Some(value.floor + 1)),
        "maximum" => {
            schema.highest = Some(schema.highest.map_or(value.floor, |h| h.min(value.floor)));
        }
        "exclusiveMaximum" => {
            let below = value.ceil - 1;
            schema.highest = Some(schema.highest.map_or(below, |highest| highest.min(below)));
        }
        _ => match value.exact() {
            Some(multiple) if multiple > 0 => schema.multiples.push(multiple),
            Some(_) => return Err(refuse(at, "a number above 0 is needed")),
            None => {
                let message = "at most 18 digits before the point and 17 after it are supported";
                return Err(refuse(at, message));
            }
        },
    }
    Ok(())
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                bytes.push((digit(high)? * 16 + digit(low)?) as u8);
                rest = tail;
            }
            (b'%', _) => return None,
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

/// Depth first, so that nothing recursive meets a document that is too deep.
fn check_size(root: &Value, limits: &Limits) -> Result<(), GrammarError> {
    let limit = |limit, allowed| GrammarError::Limit {
        what: "the schema".into(),
        limit,
        allowed,
    };
    let mut n_values = 0;
    let mut open = vec![(root, 1)];
    while let Some((value, depth)) = open.pop() {
        n_values += 1;
        if depth > limits.depth {
            return Err(limit("depth", limits.depth));
        }
        if n_values > limits.schema_nodes {
            return Err(limit("schema_nodes", limits.schema_nodes));
        }
        match value {
            Value::Array(values) => open.extend(values.iter().map(|value| (value, depth + 1))),
            Value::Object(map) => open.extend(map.values().map(|value| (value, depth + 1))),
            _ => {}
        }
    }
    if root.to_string().len() > limits.source_bytes {
        return Err(limit("source_bytes", limits.source_bytes));
    }
    Ok(())
}
