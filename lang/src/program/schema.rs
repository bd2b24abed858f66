//! A type as JSON Schema (draft 2020-12): what a generation of it is held to.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::Types;
use crate::ast::{Bounds, Field, Literal, Number, Type, TypeKind};

/// The schema of a type. Named types are written out where they stand; the ones that contain themselves are
/// definitions under `$defs`, each written once.
pub(super) fn of(types: &Types<'_>, ty: &Type) -> Value {
    let mut writer = Writer {
        types,
        wanted: BTreeSet::new(),
    };
    let mut schema = writer.ty(ty);
    let mut written = Map::new();
    while let Some(name) = writer
        .wanted
        .iter()
        .find(|name| !written.contains_key(*name))
        .cloned()
    {
        let definition = types.get(&name).map(|(ty, docs)| {
            let schema = writer.ty(ty);
            described(schema, docs)
        });
        written.insert(name, definition.unwrap_or_else(|| json!({})));
    }
    if let (false, Value::Object(map)) = (written.is_empty(), &mut schema) {
        map.insert("$defs".to_owned(), Value::Object(written));
    }
    schema
}

struct Writer<'t, 'p> {
    types: &'t Types<'p>,
    /// Recursive types referred to.
    wanted: BTreeSet<String>,
}

impl Writer<'_, '_> {
    fn ty(&mut self, ty: &Type) -> Value {
        match &ty.kind {
            TypeKind::Named(name, bounds) => self.named(&name.text, *bounds),
            TypeKind::Regex(pattern) => {
                json!({ "type": "string", "pattern": format!("^(?:{pattern})$") })
            }
            TypeKind::Literal(literal) => json!({ "const": literal_value(literal) }),
            TypeKind::Record(fields) => self.record(fields),
            TypeKind::Union(members) => self.union(members),
            TypeKind::List(element, bounds) => {
                let mut schema = json!({ "type": "array", "items": self.ty(element) });
                insert_bounds(&mut schema, *bounds, ["minItems", "maxItems"]);
                schema
            }
            TypeKind::Optional(inner) => {
                let inner = self.ty(inner);
                json!({ "anyOf": [inner, { "type": "null" }] })
            }
            TypeKind::Schema(text) => serde_json::from_str(text).unwrap_or_else(|_| json!({})),
            TypeKind::Call(_) | TypeKind::Grammar(_) => json!({}),
        }
    }

    fn named(&mut self, name: &str, bounds: Option<Bounds>) -> Value {
        let (kind, keys) = match name {
            "string" => ("string", ["minLength", "maxLength"]),
            "int" => ("integer", ["minimum", "maximum"]),
            "float" => ("number", ["minimum", "maximum"]),
            "bool" => return json!({ "type": "boolean" }),
            "null" => return json!({ "type": "null" }),
            _ => return self.declared(name),
        };
        let mut schema = json!({ "type": kind });
        insert_bounds(&mut schema, bounds, keys);
        schema
    }

    fn declared(&mut self, name: &str) -> Value {
        let Some((ty, docs)) = self.types.get(name) else {
            return json!({});
        };
        if self.types.is_recursive(name) {
            self.wanted.insert(name.to_owned());
            return json!({ "$ref": format!("#/$defs/{name}") });
        }
        let schema = self.ty(ty);
        described(schema, docs)
    }

    fn record(&mut self, fields: &[Field]) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in fields {
            let schema = self.ty(&field.ty);
            properties.insert(field.name.text.clone(), described(schema, &field.docs));
            if !field.optional {
                required.push(field.name.text.clone());
            }
        }
        json!({
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        })
    }

    fn union(&mut self, members: &[Type]) -> Value {
        let literals: Option<Vec<Value>> = members
            .iter()
            .map(|member| match &member.kind {
                TypeKind::Literal(literal) => Some(literal_value(literal)),
                _ => None,
            })
            .collect();
        match literals {
            Some(literals) => json!({ "enum": literals }),
            None => {
                let members: Vec<Value> = members.iter().map(|member| self.ty(member)).collect();
                json!({ "anyOf": members })
            }
        }
    }
}

/// With the doc comment as its description; a field's own wins over its type's.
fn described(mut schema: Value, docs: &[String]) -> Value {
    if let (false, Value::Object(map)) = (docs.is_empty(), &mut schema) {
        map.insert("description".to_owned(), Value::String(docs.join("\n")));
    }
    schema
}

fn insert_bounds(schema: &mut Value, bounds: Option<Bounds>, [low, high]: [&str; 2]) {
    let (Some(bounds), Value::Object(map)) = (bounds, schema) else {
        return;
    };
    for (key, bound) in [(low, bounds.low), (high, bounds.high)] {
        if let Some(bound) = bound {
            map.insert(key.to_owned(), number_value(bound));
        }
    }
}

pub(super) fn number_value(number: Number) -> Value {
    match number {
        Number::Int(value) => json!(value),
        Number::Float(value) => json!(value),
    }
}

/// A literal as JSON; a duration is its milliseconds.
pub(crate) fn literal_value(literal: &Literal) -> Value {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => json!(value),
        Literal::Number(number) => number_value(*number),
        Literal::Duration(milliseconds) => json!(milliseconds),
        Literal::String(text) => json!(text),
    }
}
