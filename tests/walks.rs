//! Random outputs of schemas against an independent validator, and mutated schemas against everything that must not happen.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use jsonschema::Validator;
use lmrun::grammar_suite::{Case, Cases, FREE_TOKENS, Random, Source, walk};
use lmrun_grammar::{
    Constraint, GrammarError, JsonOptions, KeyOrder, Limits, Matcher, NumberSpelling, TokenMask,
    Vocabulary, Whitespace,
};
use serde_json::{Map, Value, json};

use crate::support::smollm2;

/// Failures that are printed.
const N_SHOWN: usize = 20;
/// Masks found of each mutated schema.
const N_MASKS: usize = 20;
/// What a schema and its masks may take.
const PATIENCE: Duration = Duration::from_millis(250);

pub fn vocabulary() -> &'static Arc<Vocabulary> {
    static VOCABULARY: OnceLock<Arc<Vocabulary>> = OnceLock::new();
    VOCABULARY.get_or_init(|| lmrun_engine::open_vocabulary(&smollm2()).expect("the default model"))
}

/// The grammar crate's own schemas, each with its name.
pub fn own_schemas() -> Vec<(String, Value)> {
    include_str!("../grammar/tests/data/schemas.jsonl")
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            let mut case: Value = serde_json::from_str(line).expect(line);
            (case["name"].to_string(), case["schema"].take())
        })
        .collect()
}

/// About `n` of the schemas in `maskbench/*.jsonl` of the folder that `LMRUN_DATA` names, evenly spread.
pub fn schemas_of_data(n: usize) -> Vec<(String, Value)> {
    let data = std::env::var_os("LMRUN_DATA").expect("LMRUN_DATA names a folder of test data");
    let folder = PathBuf::from(data).join("maskbench");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder holds maskbench/")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"))
        .collect();
    paths.sort();
    let schemas: Vec<(String, Value)> = paths
        .iter()
        .flat_map(|path| Cases::open(path).expect("a file of cases"))
        .filter_map(|case| match case.expect("a case") {
            Case {
                name,
                source: Source::Schema(schema),
                ..
            } => Some((name, schema)),
            _ => None,
        })
        .collect();
    assert!(!schemas.is_empty(), "no schema in {}", folder.display());
    let every = (schemas.len() / n).max(1);
    schemas.into_iter().step_by(every).take(n).collect()
}

/// What walking schemas came to.
#[derive(Debug, Default)]
struct Walks {
    n_walked: usize,
    n_refused: usize,
    n_without_oracle: usize,
    failures: Vec<String>,
}

impl Walks {
    /// So many walks of the strictest spelling, and as many of the freest.
    fn take(&mut self, name: &str, schema: &Value, n_walks: usize, random: &mut Random) {
        // Formats that the validator does not know, it does not look at.
        let oracle = jsonschema::options()
            .should_validate_formats(true)
            .build(schema);
        let Ok(oracle) = oracle else {
            self.n_without_oracle += 1;
            return;
        };
        let freest = JsonOptions {
            key_order: KeyOrder::Any,
            whitespace: Whitespace::Spaced,
            numbers: NumberSpelling::Any,
            ..JsonOptions::default()
        };
        for options in [JsonOptions::default(), freest] {
            match Constraint::json_schema_with(schema, &options, &Limits::default()) {
                Ok(constraint) => self.walk(name, &constraint, &oracle, n_walks, random),
                Err(_) => self.n_refused += 1,
            }
        }
    }

    fn walk(
        &mut self,
        name: &str,
        constraint: &Constraint,
        oracle: &Validator,
        n_walks: usize,
        random: &mut Random,
    ) {
        for _ in 0..n_walks {
            self.n_walked += 1;
            let walked = Matcher::new(constraint.clone(), Arc::clone(vocabulary())).and_then(
                |mut matcher| walk(&mut matcher, vocabulary(), FREE_TOKENS, None, random),
            );
            let wrong = match walked {
                Err(error) => Some(error.to_string()),
                Ok(bytes) => wrong(oracle, &bytes),
            };
            self.failures
                .extend(wrong.map(|wrong| format!("{name}: {wrong}")));
        }
    }

    fn summary(&self) -> String {
        format!(
            "{} walks, {} compilations refused, {} schemas not understood by the validator, {}",
            self.n_walked,
            self.n_refused,
            self.n_without_oracle,
            listed(&self.failures)
        )
    }
}

/// How many failures, and the first of them, one a line.
pub fn listed(failures: &[String]) -> String {
    let mut text = format!("{} failures", failures.len());
    for failure in failures.iter().take(N_SHOWN) {
        text.push('\n');
        text.extend(failure.chars().take(2_000));
    }
    text
}

/// What is wrong with an output.
pub fn wrong(oracle: &Validator, output: &[u8]) -> Option<String> {
    let text = match str::from_utf8(output) {
        Ok(text) => text,
        Err(error) => return Some(format!("{error}: {output:?}")),
    };
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => return Some(format!("{error}: {text}")),
    };
    let error = oracle.validate(&value).err()?;
    Some(format!("{error} at {}: {text}", error.instance_path()))
}

#[test]
fn walks_over_real_tokens_end_in_valid_instances() {
    let mut walks = Walks::default();
    let mut random = Random::new(1);
    for (name, schema) in own_schemas() {
        walks.take(&name, &schema, 2, &mut random);
    }
    assert!(walks.n_walked >= 150, "{}", walks.summary());
    assert!(walks.failures.is_empty(), "{}", walks.summary());
}

/// See docs/constraints.md.
#[test]
#[ignore = "slow: twenty walks of each of a thousand schemas"]
fn walks_end_in_valid_instances() {
    let mut walks = Walks::default();
    let mut random = Random::new(2);
    for (name, schema) in schemas_of_data(1_000) {
        walks.take(&name, &schema, 10, &mut random);
    }
    println!("{}", walks.summary());
    assert!(walks.n_walked > 0 && walks.failures.is_empty());
}

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
fn mutate(schema: &mut Value, random: &mut Random) {
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

/// Compiles and takes random tokens; a refusal of either is fine.
fn try_out(schema: &Value, random: &mut Random) -> Result<(), GrammarError> {
    let constraint = Constraint::json_schema(schema, &Limits::default())?;
    let mut matcher = Matcher::new(constraint, Arc::clone(vocabulary()))?;
    let mut mask = TokenMask::new(vocabulary().n_tokens());
    for _ in 0..N_MASKS {
        matcher.mask(&mut mask)?;
        let token = mask.iter().nth(random.below(mask.n_allowed()));
        let token = token.expect("an index below the count");
        if vocabulary().end_tokens().contains(&token) {
            break;
        }
        matcher.accept(token)?;
    }
    Ok(())
}

/// What mutated schemas came to.
#[derive(Debug, Default)]
struct Mutations {
    n_tried: usize,
    /// Those of which every mask was found.
    n_supported: usize,
    failures: Vec<String>,
}

impl Mutations {
    fn take(&mut self, name: &str, schema: &Value, random: &mut Random, patience: Duration) {
        self.n_tried += 1;
        let mut shortest = Duration::MAX;
        // What takes too long may be the machine's fault, but not thrice.
        for _ in 0..3 {
            let started = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| try_out(schema, random)));
            shortest = shortest.min(started.elapsed());
            let wrong = match &outcome {
                Err(_) => Some("it panics".to_owned()),
                Ok(Err(error @ (GrammarError::IllegalToken { .. } | GrammarError::NoToken))) => {
                    Some(error.to_string())
                }
                Ok(_) => None,
            };
            if wrong.is_some() || shortest <= patience {
                self.n_supported += usize::from(matches!(outcome, Ok(Ok(()))));
                self.failures
                    .extend(wrong.map(|wrong| format!("{name}: {wrong}: {schema}")));
                return;
            }
        }
        self.failures
            .push(format!("{name}: it takes {shortest:?}: {schema}"));
    }

    fn summary(&self) -> String {
        format!(
            "{} mutated schemas, {} supported, {}",
            self.n_tried,
            self.n_supported,
            listed(&self.failures)
        )
    }

    fn check(&self) {
        // Were nearly all of them refused, nothing would have been tried.
        assert!(20 * self.n_supported >= self.n_tried, "{}", self.summary());
        assert!(self.failures.is_empty(), "{}", self.summary());
    }
}

fn mutations(schemas: &[(String, Value)], n: usize, patience: Duration) -> Mutations {
    let mut random = Random::new(3);
    let mut mutations = Mutations::default();
    for _ in 0..n {
        let (name, schema) = &schemas[random.below(schemas.len())];
        let mut schema = schema.clone();
        for _ in 0..=random.below(4) {
            mutate(&mut schema, &mut random);
        }
        mutations.take(name, &schema, &mut random, patience);
    }
    mutations
}

#[test]
fn mutated_schemas_are_answered() {
    // Thrice the time for a machine that runs the other tests too.
    mutations(&own_schemas(), 200, 3 * PATIENCE).check();
}

/// See docs/constraints.md.
#[test]
#[ignore = "slow: ten thousand mutated schemas"]
fn ten_thousand_mutated_schemas_are_answered() {
    let mutations = mutations(&schemas_of_data(2_000), 10_000, PATIENCE);
    println!("{}", mutations.summary());
    mutations.check();
}
