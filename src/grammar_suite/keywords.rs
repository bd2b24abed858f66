//! Which keywords a schema uses, and how often: a walk over its subschemas (JSON Schema 2020-12 and draft 7).

use std::collections::BTreeMap;

use serde_json::Value;

/// Keywords whose value is a schema or a list of them.
const SCHEMAS: &[&str] = &[
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "oneOf",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];
/// Keywords whose value has a schema for each of its names.
const NAMED_SCHEMAS: &[&str] = &[
    "$defs",
    "definitions",
    "dependencies",
    "dependentSchemas",
    "patternProperties",
    "properties",
];

/// Every keyword of a schema and its subschemas, with how many of them use it.
pub fn keywords(schema: &Value) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    // A stack of its own: a schema may be nested deeper than the thread's.
    let mut open = vec![schema];
    while let Some(schema) = open.pop() {
        let Value::Object(members) = schema else {
            continue;
        };
        for (keyword, value) in members {
            *counts.entry(keyword.as_str()).or_default() += 1;
            match value {
                Value::Array(items) if SCHEMAS.contains(&keyword.as_str()) => open.extend(items),
                value if SCHEMAS.contains(&keyword.as_str()) => open.push(value),
                Value::Object(named) if NAMED_SCHEMAS.contains(&keyword.as_str()) => {
                    open.extend(named.values());
                }
                _ => {}
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests;
