//! Random compositions of the keywords of draft 2020-12, nested: what is accepted is what the
//! `jsonschema` crate finds valid, and random outputs are valid and come to an end.
//!
//! References in place lead to assertions only and others lead downward, so that every schema says
//! something: `{"$ref": "#"}` alone has no meaning to compare.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use common::{END, Random, byte_token, vocabulary};
use jsonschema::Validator;
use lmrun_grammar::{
    Constraint, GrammarError, JsonOptions, KeyOrder, Limits, Matcher, NumberSpelling, TokenMask,
    Vocabulary, Whitespace,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value, json};

const NAMES: [&str; 4] = ["a", "b", "ab", "c1"];
const TEXTS: [&str; 8] = ["", "a", "b", "ab", "aab", "b1", "é", "c c"];
const PATTERNS: [&str; 7] = [
    "^a",
    "b$",
    "^(ab|c)*$",
    "[0-9]",
    "^.{1,2}$",
    "^(?!ab)",
    "a|é",
];
const TYPES: [&str; 7] = [
    "null", "boolean", "integer", "number", "string", "array", "object",
];

fn number() -> impl Strategy<Value = Value> {
    select(vec![
        json!(-2),
        json!(0),
        json!(1),
        json!(1.0),
        json!(2),
        json!(3),
        json!(0.5),
        json!(2.25),
    ])
}

fn name() -> impl Strategy<Value = &'static str> {
    select(&NAMES[..])
}

/// A small JSON value.
fn instance() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::Bool),
        3 => number(),
        3 => select(&TEXTS[..]).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::Array),
            vec((name(), inner), 0..4).prop_map(object),
        ]
    })
}

fn object(members: Vec<(&'static str, Value)>) -> Value {
    Value::Object(Map::from_iter(
        members
            .into_iter()
            .map(|(name, value)| (name.into(), value)),
    ))
}

/// `keyword: value`
fn keyword<S>(keyword: &'static str, values: S) -> BoxedStrategy<Value>
where
    S: Strategy + 'static,
    S::Value: Into<Value>,
{
    values
        .prop_map(move |value| Value::Object(Map::from_iter([(keyword.into(), value.into())])))
        .boxed()
}

/// One keyword that says something of a value by itself.
fn assertion() -> impl Strategy<Value = Value> {
    let bound = || 0u64..4;
    let names = || vec(name(), 0..3).prop_map(distinct);
    let of_values = prop_oneof![
        4 => keyword("type", select(&TYPES[..])),
        2 => keyword("type", vec(select(&TYPES[..]), 1..4).prop_map(distinct)),
        1 => keyword("const", instance()),
        2 => keyword("enum", vec(instance(), 1..5)),
    ];
    let of_scalars = prop_oneof![
        keyword("minimum", number()),
        keyword("maximum", number()),
        keyword("exclusiveMinimum", number()),
        keyword("exclusiveMaximum", number()),
        keyword(
            "multipleOf",
            select(vec![json!(2), json!(0.5), json!(0.75), json!(3)])
        ),
        keyword("minLength", bound()),
        keyword("maxLength", bound()),
        keyword("pattern", select(&PATTERNS[..])),
    ];
    let of_collections = prop_oneof![
        keyword("minItems", bound()),
        keyword("maxItems", bound()),
        keyword("uniqueItems", any::<bool>()),
        keyword("minProperties", bound()),
        keyword("maxProperties", bound()),
        keyword("required", names()),
        keyword(
            "dependentRequired",
            (name(), names()).prop_map(|(name, names)| json!({name: names}))
        ),
        keyword("$ref", select(vec!["#leaf", "#/$defs/leaf"])),
    ];
    prop_oneof![3 => of_values, 3 => of_scalars, 3 => of_collections]
}

fn distinct(mut names: Vec<&'static str>) -> Vec<Value> {
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(Value::from).collect()
}

/// One or several keywords that apply `inner`.
fn applicator(inner: &BoxedStrategy<Value>) -> impl Strategy<Value = Value> + use<> {
    // Below the value at hand a schema may come back to the whole of it.
    let below = prop_oneof![
        6 => inner.clone(),
        1 => select(vec![
            json!({"$ref": "#"}),
            json!({"$dynamicRef": "#node"}),
            json!({"$ref": "#/$defs/tree"}),
        ]),
    ]
    .boxed();
    let list = || vec(inner.clone(), 1..4);
    let members = || vec((name(), below.clone()), 1..4).prop_map(object);
    let in_place = prop_oneof![
        2 => keyword("allOf", list()),
        3 => keyword("anyOf", list()),
        3 => keyword("oneOf", list()),
        2 => keyword("not", inner.clone()),
        2 => conditional(inner),
        1 => keyword("dependentSchemas", vec((name(), inner.clone()), 1..3).prop_map(object)),
    ];
    let of_objects = prop_oneof![
        4 => keyword("properties", members()),
        2 => keyword("patternProperties", patterns(&below)),
        2 => keyword("additionalProperties", below.clone()),
        1 => keyword("propertyNames", inner.clone()),
        2 => keyword("unevaluatedProperties", below.clone()),
    ];
    let of_arrays = prop_oneof![
        2 => keyword("items", below.clone()),
        2 => keyword("prefixItems", vec(below.clone(), 1..3)),
        2 => contains(&below),
        2 => keyword("unevaluatedItems", below.clone()),
    ];
    prop_oneof![in_place, of_objects, of_arrays]
}

fn conditional(inner: &BoxedStrategy<Value>) -> impl Strategy<Value = Value> + use<> {
    let branch = || proptest::option::of(inner.clone());
    (inner.clone(), branch(), branch()).prop_map(|(condition, then, otherwise)| {
        let mut schema = json!({ "if": condition });
        for (keyword, branch) in [("then", then), ("else", otherwise)] {
            if let Some(branch) = branch {
                schema[keyword] = branch;
            }
        }
        schema
    })
}

fn patterns(below: &BoxedStrategy<Value>) -> impl Strategy<Value = Value> + use<> {
    vec((select(&PATTERNS[..]), below.clone()), 1..3).prop_map(object)
}

fn contains(below: &BoxedStrategy<Value>) -> impl Strategy<Value = Value> + use<> {
    let bound = || proptest::option::of(0u64..3);
    (below.clone(), bound(), bound()).prop_map(|(items, min, max)| {
        let mut schema = json!({ "contains": items });
        for (keyword, bound) in [("minContains", min), ("maxContains", max)] {
            if let Some(bound) = bound {
                schema[keyword] = bound.into();
            }
        }
        schema
    })
}

/// Several of `parts` side by side; of a keyword that comes twice the last one counts.
fn merged(
    parts: impl Strategy<Value = Value>,
    n_parts: Range<usize>,
) -> impl Strategy<Value = Value> {
    vec(parts, n_parts).prop_map(|parts| {
        let members = parts.into_iter().flat_map(|part| match part {
            Value::Object(members) => members,
            other => unreachable!("{other} is no object"),
        });
        Value::Object(members.collect())
    })
}

/// A schema, not yet closed: what it refers to lies at the root.
fn open_schema() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        1 => any::<bool>().prop_map(Value::Bool),
        9 => merged(assertion(), 1..3),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        merged(
            prop_oneof![3 => applicator(&inner.boxed()), 2 => assertion()],
            1..4,
        )
    })
    .boxed()
}

/// A document: a schema and the definitions it refers to.
fn document() -> impl Strategy<Value = Value> {
    let leaf = merged(assertion(), 1..3).prop_map(|mut leaf| {
        // Nothing leads from a leaf to itself.
        leaf.as_object_mut().unwrap().remove("$ref");
        leaf["$anchor"] = "leaf".into();
        leaf
    });
    let root = merged(
        prop_oneof![3 => applicator(&open_schema()), 2 => assertion()],
        1..5,
    );
    (root, leaf, open_schema()).prop_map(|(mut root, leaf, tree)| {
        root["$dynamicAnchor"] = "node".into();
        root["$defs"] = json!({ "leaf": leaf, "tree": tree });
        root
    })
}

/// What the compositions came to.
#[derive(Debug, Default)]
struct Tally {
    n_schemas: usize,
    /// Those that nothing satisfies.
    n_empty: usize,
    /// Those that pass a limit.
    n_limited: usize,
    n_instances: usize,
    n_valid: usize,
    n_walks: usize,
    /// Walks whose output the validator can read.
    n_judged: usize,
    /// Walks that came to a place where nothing may follow.
    n_dead_ends: usize,
    /// Walks that found no shorter way to their end, though one was promised.
    n_lost: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            n_schemas,
            n_empty,
            n_limited,
            n_instances,
            n_valid,
            n_walks,
            n_judged,
            n_dead_ends,
            n_lost,
        } = self;
        write!(
            f,
            "{n_schemas} schemas, {n_empty} satisfied by nothing, {n_limited} beyond a limit; {n_instances} instances, \
             {n_valid} valid; {n_walks} walks, {n_judged} judged, {n_dead_ends} dead ends, {n_lost} lost"
        )
    }
}

fn options() -> JsonOptions {
    JsonOptions {
        key_order: KeyOrder::Any,
        whitespace: Whitespace::Compact,
        numbers: NumberSpelling::Any,
        ..JsonOptions::default()
    }
}

fn compile(schema: &Value) -> Result<Constraint, GrammarError> {
    Constraint::json_schema_with(schema, &options(), &Limits::default())
}

/// Whether the text is an output; an error if a limit is passed on the way.
fn accepts(
    constraint: &Constraint,
    vocabulary: &Arc<Vocabulary>,
    text: &str,
) -> Result<bool, GrammarError> {
    let mut matcher = Matcher::new(constraint.clone(), Arc::clone(vocabulary))?;
    for &byte in text.as_bytes() {
        match matcher.accept(byte_token(byte)) {
            Ok(()) => {}
            Err(GrammarError::IllegalToken { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(matcher.is_complete())
}

/// Whether a double holds every number of a text that is JSON: the validator knows no others, while
/// ours are decimals. Doubles hold 15 digits (`DBL_DIG`).
fn numbers_are_exact(text: &str) -> bool {
    let digits = |text: &str| text.bytes().filter(u8::is_ascii_digit).count();
    text.split(|c: char| !c.is_ascii_digit() && c != '.')
        .all(|number| digits(number) <= 15)
}

/// A random output: free for `n_free` tokens, then the shortest way.
fn walk(
    constraint: &Constraint,
    vocabulary: &Arc<Vocabulary>,
    random: &mut Random,
    n_free: usize,
) -> Result<String, GrammarError> {
    let mut matcher = Matcher::new(constraint.clone(), Arc::clone(vocabulary))?;
    let mut mask = TokenMask::new(vocabulary.n_tokens());
    let mut output = Vec::new();
    for n_taken in 0.. {
        if n_taken < n_free {
            matcher.mask(&mut mask)?;
        } else if matcher.is_complete() {
            break;
        } else {
            matcher.mask_toward_end(&mut mask, matcher.clone().min_tokens_to_accept())?;
        }
        let allowed: Vec<_> = mask.iter().collect();
        let token = allowed[random.below(allowed.len())];
        if token == END {
            break;
        }
        matcher.accept(token)?;
        output.extend_from_slice(vocabulary.bytes(token).unwrap());
    }
    Ok(String::from_utf8(output).unwrap())
}

/// One composition: its instances, then a walk for each of the lengths.
fn check(
    (schema, instances, seed): &(Value, Vec<Value>, u64),
    vocabulary: &Arc<Vocabulary>,
    tally: &mut Tally,
) -> Result<(), TestCaseError> {
    let oracle = jsonschema::validator_for(schema).unwrap();
    tally.n_schemas += 1;
    let constraint = match compile(schema) {
        Ok(constraint) => constraint,
        Err(GrammarError::Empty { .. }) => {
            tally.n_empty += 1;
            let valid = instances.iter().find(|instance| oracle.is_valid(instance));
            prop_assert_eq!(valid, None, "{} is said to hold for nothing", schema);
            return Ok(());
        }
        Err(GrammarError::Limit { .. }) => {
            tally.n_limited += 1;
            return Ok(());
        }
        Err(error) => return Err(TestCaseError::fail(format!("{schema}: {error}"))),
    };
    for instance in instances {
        check_instance(schema, instance, &constraint, &oracle, vocabulary, tally)?;
    }
    let mut random = Random(*seed);
    for n_free in [0, 4, 12, 40] {
        tally.n_walks += 1;
        let text = match walk(&constraint, vocabulary, &mut random, n_free) {
            Ok(text) => text,
            Err(GrammarError::NoToken) => {
                tally.n_dead_ends += 1;
                continue;
            }
            Err(GrammarError::Budget { .. }) => {
                tally.n_lost += 1;
                continue;
            }
            Err(GrammarError::Limit { .. }) => {
                tally.n_limited += 1;
                break;
            }
            Err(error) => return Err(TestCaseError::fail(format!("{schema}: {error}"))),
        };
        let value: Value = serde_json::from_str(&text).unwrap();
        let is_judged = numbers_are_exact(&text);
        tally.n_judged += usize::from(is_judged);
        prop_assert!(
            !is_judged || oracle.is_valid(&value),
            "{} made {}",
            schema,
            text
        );
    }
    Ok(())
}

fn check_instance(
    schema: &Value,
    instance: &Value,
    constraint: &Constraint,
    oracle: &Validator,
    vocabulary: &Arc<Vocabulary>,
    tally: &mut Tally,
) -> Result<(), TestCaseError> {
    let expected = oracle.is_valid(instance);
    let given = match accepts(constraint, vocabulary, &instance.to_string()) {
        Ok(given) => given,
        Err(GrammarError::Limit { .. }) => return Ok(()),
        Err(error) => return Err(TestCaseError::fail(format!("{schema}: {error}"))),
    };
    tally.n_instances += 1;
    tally.n_valid += usize::from(expected);
    prop_assert_eq!(given, expected, "{} on {}", schema, instance);
    Ok(())
}

/// So many compositions, the same on every run.
fn run(n_schemas: u32) -> Tally {
    let config = ProptestConfig {
        cases: n_schemas,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let cases = (document(), vec(instance(), 30), 1u64..);
    let vocabulary = vocabulary();
    let tally = RefCell::new(Tally::default());
    let outcome = TestRunner::new_with_rng(config, random).run(&cases, |case| {
        check(&case, &vocabulary, &mut tally.borrow_mut())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    tally.into_inner()
}

fn check_tally(tally: &Tally) {
    // A test of nothing but refusals or of invalid instances alone would prove little.
    assert!(50 * tally.n_limited <= tally.n_schemas, "{tally}");
    assert!(2 * tally.n_empty <= tally.n_schemas, "{tally}");
    assert!(5 * tally.n_valid >= tally.n_instances, "{tally}");
    assert!(10 * tally.n_judged >= 9 * tally.n_walks, "{tally}");
    assert!(100 * tally.n_dead_ends <= tally.n_walks, "{tally}");
}

#[test]
fn acceptance_is_validity() {
    check_tally(&run(1_000));
}

/// See docs/constraints.md.
#[test]
#[ignore = "slow: twenty thousand compositions"]
fn acceptance_is_validity_at_length() {
    let tally = run(20_000);
    println!("{tally}");
    check_tally(&tally);
}
