//! Mutations of a schema: a keyword put in, a place replaced, taken away or wrapped.

use lmrun::grammar_suite::Random;
use serde_json::{Map, Value, json};

/// Every place of a value, as JSON pointers.
fn places(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), value)];
    while let Some((pointer, value)) = open.pop() {
        match value {
            Value::Object(members) => open.extend(members.iter().map(|(name, member)| {
                let name = name.replace('~', "~0").replace('/', "~1");
                (format!("{pointer}/{name}"), member)
            })),
            Value::Array(items) => open.extend(
                items
                    .iter()
                    .enumerate()
                    .map(|(item_idx, item)| (format!("{pointer}/{item_idx}"), item)),
            ),
            _ => {}
        }
        found.push(pointer);
    }
    found
}

const KEYWORDS: &[&str] = &[
    "$ref",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "contains",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "enum",
    "exclusiveMaximum",
    "format",
    "if",
    "items",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "oneOf",
    "pattern",
    "patternProperties",
    "prefixItems",
    "properties",
    "propertyNames",
    "required",
    "then",
    "type",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
];

/// One of a JSON array.
fn one_of(mut choices: Value, random: &mut Random) -> Value {
    let n_choices = choices.as_array().map_or(0, Vec::len);
    choices[random.below(n_choices)].take()
}

/// A value that some keyword will not like.
fn odd(random: &mut Random) -> Value {
    let odd = json!([
        null, true, false, 0, -1, 1, 3, 255, 4294967296_u64, 1e300, -0.5, 1e-9, 999983, "", "#", "#/$defs/none", "string",
        "integer", "object", "(a|b)*c", "^(?:[^\"]{0,999}x){9}$", "(?=a)b", "\\u0000", "date-time", {}, [], [{}], [[]],
        {"a": {}}, {"$ref": "#"}, {"not": {}}, {"type": ["null", "array"]}, [true, false], ["a", "a"],
        {"enum": [1, 1.0, "1"]}, {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
    ]);
    one_of(odd, random)
}

/// A value that the keyword may have, and that does not make the others beside it idle.
fn fitting(keyword: &str, random: &mut Random) -> Value {
    let schemas = json!([
        {}, true, {"type": "string", "maxLength": 4}, {"type": "integer", "minimum": -3}, {"enum": ["a", 1, null]},
        {"type": ["array", "null"], "items": {"type": "boolean"}}, {"pattern": "^[ab]*$"}, {"maxProperties": 2},
        {"$ref": "#"}, {"anyOf": [{"type": "number"}, {"minItems": 1}]},
    ]);
    let mut schema = || one_of(schemas.clone(), random);
    match keyword {
        "$ref" => json!("#"),
        "allOf" | "anyOf" | "oneOf" | "prefixItems" => json!([schema(), schema()]),
        "properties" | "dependentSchemas" => json!({"a": schema(), "id": schema()}),
        "patternProperties" => json!({"^a": schema(), "[0-9]$": schema()}),
        "required" => json!(["id"]),
        "dependentRequired" => json!({"id": ["a"]}),
        "enum" => json!([schema(), "a", 2]),
        "type" => one_of(
            json!(["string", "array", "object", ["number", "string"], "null"]),
            random,
        ),
        "pattern" => one_of(json!(["[a-z]+", "^x?[0-9]{2,}$", "(ab|c)*$"]), random),
        "format" => one_of(json!(["date", "uuid", "ipv4", "something"]), random),
        "multipleOf" => one_of(json!([0.5, 3, 0.01, 7]), random),
        "uniqueItems" => json!(true),
        bound if bound.contains("in") && bound.starts_with('m') => one_of(json!([0, 1, 2]), random),
        bound if bound.starts_with("max") => one_of(json!([1, 5, 60]), random),
        "exclusiveMaximum" => one_of(json!([1, 2.5, 1e6]), random),
        _ => schema(),
    }
}

/// Changes one place: replaced by something odd or by another place, taken away, wrapped, or a keyword put in.
pub fn mutate(schema: &mut Value, random: &mut Random) {
    let places = places(schema);
    let pick = |random: &mut Random| places[random.below(places.len())].as_str();
    let other = schema.pointer(pick(random)).cloned().unwrap_or_default();
    let place = pick(random);
    let keyword = KEYWORDS[random.below(KEYWORDS.len())];
    let new = match random.below(6) {
        0 => other,
        1 => odd(random),
        _ => fitting(keyword, random),
    };
    let target = schema.pointer_mut(place).expect("a place of this schema");
    match (random.below(6), target) {
        (0..=3, Value::Object(members)) => {
            members.insert(keyword.into(), new);
        }
        (4, Value::Object(members)) if !members.is_empty() => {
            let name = members.keys().nth(random.below(members.len())).cloned();
            members.remove(&name.expect("an index below the count"));
        }
        (5, target) => {
            let inner = target.take();
            let inner = if random.below(2) == 0 {
                inner
            } else {
                json!([inner])
            };
            *target = Value::Object(Map::from_iter([(keyword.to_owned(), inner)]));
        }
        (_, target) => *target = new,
    }
}
