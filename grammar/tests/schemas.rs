//! The schemas of `data/schemas.jsonl`: masks against brute force, outputs and instances against
//! the `jsonschema` crate.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use common::{
    Random, accepts, assert_masks_equal_brute_force, brute_force_mask, byte_token, random_output,
    vocabulary,
};
use lmrun_grammar::{
    Constraint, GrammarError, JsonOptions, KeyOrder, Limits, Matcher, TokenMask, Vocabulary,
};
use serde_json::{Value, json};

struct Case {
    name: String,
    schema: Value,
    valid: Vec<Value>,
    invalid: Vec<Value>,
}

fn cases() -> Vec<Case> {
    let read = |line: &str| {
        let case: Value = serde_json::from_str(line).unwrap();
        let list = |key: &str| case[key].as_array().unwrap().clone();
        Case {
            name: case["name"].as_str().unwrap().to_owned(),
            schema: case["schema"].clone(),
            valid: list("valid"),
            invalid: list("invalid"),
        }
    };
    include_str!("data/schemas.jsonl")
        .lines()
        .map(read)
        .collect()
}

fn compile(schema: &Value) -> Constraint {
    Constraint::json_schema(schema, &Limits::default()).unwrap()
}

fn refusal(schema: &Value) -> String {
    Constraint::json_schema(schema, &Limits::default())
        .unwrap_err()
        .to_string()
}

#[test]
fn masks_equal_brute_force() {
    let vocabulary = vocabulary();
    let mut random = Random(3);
    for case in cases() {
        println!("{}", case.name);
        let constraint = compile(&case.schema);
        for _ in 0..4 {
            let mut matcher = Matcher::new(constraint.clone(), Arc::clone(&vocabulary)).unwrap();
            assert_masks_equal_brute_force(&mut matcher, &vocabulary, &mut random, 10, &case.name);
        }
    }
}

/// Follows a text, byte by byte as far as it is legal: each mask is brute force's.
fn check_masks(constraint: &Constraint, vocabulary: &Arc<Vocabulary>, text: &str, schema: &Value) {
    let mut matcher = Matcher::new(constraint.clone(), Arc::clone(vocabulary)).unwrap();
    let mut mask = TokenMask::new(vocabulary.n_tokens());
    for &byte in text.as_bytes() {
        matcher.mask(&mut mask).unwrap();
        let expected = brute_force_mask(&matcher, vocabulary);
        assert_eq!(mask, expected, "{schema} {text}");
        if matcher.accept(byte_token(byte)).is_err() {
            break;
        }
    }
}

/// Masks are remembered by less than all that came, so one constraint follows outputs that differ in what
/// came, byte by byte.
#[test]
fn masks_are_right_whichever_members_came() {
    let string = json!({"type": "string"});
    let member = json!({"properties": {"a": string, "b": {"type": "integer"}}, "required": ["a"]});
    let mut closed = member.clone();
    closed["additionalProperties"] = json!(false);
    let mut bounded = member.clone();
    bounded["maxProperties"] = json!(2);
    let mut dependent = member.clone();
    dependent["dependentRequired"] = json!({"b": ["c"]});
    let one_letter = json!({"patternProperties": {"^[abc]$": {}}, "additionalProperties": false});
    // A name of two characters that came is begun by no token, and ended by none that begins it again.
    let short = json!({"propertyNames": {"maxLength": 2}});
    // Some member whose name matches is a number: it may come among others that are none, as often as there is
    // room, and of names that are used up.
    let some_number = |pattern: &str| json!({"not": {"patternProperties": {pattern: {"not": {"type": "number"}}}}});
    let mut excepted = some_number("^[abc]");
    excepted["properties"] = member["properties"].clone();
    excepted["maxProperties"] = json!(2);
    let mut excepted_letter = some_number("^[bc]$");
    excepted_letter["patternProperties"] = json!({"^[abc]$": {}});
    excepted_letter["additionalProperties"] = json!(false);
    let texts = [
        r#"{":[":1,"a":"",":":2}"#,
        r#"{"ab":1,"bb":1,"ac":1}"#,
        r#"{"bb":1,"ab":1}"#,
        r#"{"a":"","b":1,"c":[]}"#,
        r#"{"b":12,"a":"x y","c":{"a":""}}"#,
        r#"{"c":"","a":"","b":7}"#,
        r#"{"c":{"b":0,"a":"c"},"b":2,"a":""}"#,
        r#"{"name":3,"a":"","age":true}"#,
        r#"{"a":"","b":2}"#,
        r#"{"b":2,"a":""}"#,
    ];
    let vocabulary = vocabulary();
    let options = JsonOptions {
        key_order: KeyOrder::Any,
        ..JsonOptions::default()
    };
    let letter_excepted = some_number("^[abc]$");
    let open = [member, closed, bounded, dependent, one_letter, short];
    let excepted = [excepted, excepted_letter, letter_excepted];
    for mut schema in open.into_iter().chain(excepted) {
        schema["type"] = json!("object");
        let nested = json!({"anyOf": [{"type": "array", "items": schema}, schema]});
        let limits = Limits::default();
        let constraint = Constraint::json_schema_with(&nested, &options, &limits).unwrap();
        for text in texts.iter().chain(&texts) {
            check_masks(
                &constraint,
                &vocabulary,
                &format!("[{text},{text}]"),
                &schema,
            );
        }
    }
}

/// Of words that are counted characters are told apart within escapes alone.
#[test]
fn masks_of_counted_words_equal_brute_force() {
    let words = |n: usize| json!({"pattern": format!(r"^(?:\S+\s+){{0,{n}}}\S+$")});
    let mut short = words(30);
    short["maxLength"] = json!(9);
    let names = json!({"patternProperties": {words(20)["pattern"].as_str().unwrap(): {}}, "additionalProperties": false});
    let vocabulary = vocabulary();
    for schema in [words(40), words(2), short, names] {
        let constraint = compile(&schema);
        for text in [
            r#""one two \n \u00e9\ud83d\ude00é 日""#,
            r#""a b c ""#,
            r#""{ \\x\" y z!""#,
            r#"{"a b":{"c é\" ":1}}"#,
        ] {
            check_masks(&constraint, &vocabulary, text, &schema);
        }
    }
}

/// Tokens that complete a word that may not come beside another one are few among those that need not be followed.
#[test]
fn masks_of_words_searched_for_equal_brute_force() {
    let list = |words: &[&str]| -> Vec<Value> {
        let pattern = |word: &&str| json!({ "pattern": word });
        words.iter().map(pattern).collect()
    };
    let words = ["abc", "cde|name", "red", "fal", "(?:x|aa)bcd?e"];
    let one = json!({"type": "string", "oneOf": list(&words)});
    let mut long = one.clone();
    long["minLength"] = json!(8);
    let without = json!({
        "type": "string",
        "anyOf": list(&words[..3]),
        "not": {"anyOf": list(&words[3..])},
    });
    let vocabulary = vocabulary();
    for schema in [one, long, without] {
        let constraint = compile(&schema);
        for text in [
            r#""ab red-""#,
            r#""nam\u0065 aa""#,
            r#""xb fa abcf""#,
            r#""\u0061bc rere n""#,
            r#""aabc faaab""#,
        ] {
            check_masks(&constraint, &vocabulary, text, &schema);
        }
    }
}

/// Of a name that is as long as names may be, a token that ends it and begins it again comes to nothing. A mask that was
/// found within another name does not say so.
#[test]
fn masks_of_names_that_run_out_depend_on_what_is_written() {
    let schema = json!({"type": "object", "propertyNames": {"maxLength": 2}, "minProperties": 1});
    let vocabulary = vocabulary();
    let mut mask = TokenMask::new(vocabulary.n_tokens());
    for seed in 1..=4 {
        let constraint = compile(&schema);
        let mut random = Random(seed);
        for _ in 0..10 {
            let mut matcher = Matcher::new(constraint.clone(), Arc::clone(&vocabulary)).unwrap();
            for _ in 0..12 {
                matcher.mask(&mut mask).unwrap();
                let allowed: Vec<_> = mask.iter().collect();
                for &token in &allowed {
                    matcher.accept(token).unwrap();
                    matcher.rollback(1);
                }
                let token = allowed[random.below(allowed.len())];
                if token == common::END {
                    break;
                }
                matcher.accept(token).unwrap();
            }
        }
    }
}

/// Each level has two ways, and which it was is never told.
#[test]
fn ways_are_followed_side_by_side_and_not_multiplied() {
    let level = |other: &str| {
        json!({
            "properties": {"a": {"$ref": "#"}, "b": {"type": other}},
            "additionalProperties": false,
            "type": "object",
        })
    };
    let schema = json!({"anyOf": [level("integer"), level("string"), level("null")]});
    let depth = 100;
    let nested = |end: &str| format!("{}{end}{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    let constraint = compile(&schema);
    for (end, is_valid) in [
        (r#"{"b":1}"#, true),
        (r#"{"b":"x"}"#, true),
        (r#"{"b":true}"#, false),
    ] {
        let text = nested(end);
        assert_eq!(
            accepts(&constraint, &vocabulary(), text.as_bytes()),
            is_valid,
            "{end}"
        );
    }
}

/// Alternatives that say the same of all members but one, or are covered by another, are one parse.
#[test]
fn alternatives_that_differ_in_one_member_are_one() {
    let any_of = |name: &str| {
        let is = |value: Value| json!({"properties": {name: value}, "required": [name]});
        let absent = json!({"properties": {name: false}});
        json!({"anyOf": [is(json!({"type": "integer"})), is(json!({"enum": ["x"]})), is(json!({"enum": ["y"]})), absent]})
    };
    let names = ["a", "b", "c"];
    let multiplied = json!({"type": "object", "allOf": names.map(any_of), "properties": {"a": true, "b": true, "c": true}});
    let of = |a: Value, b: Value| json!({"properties": {"a": a, "b": b}});
    let covered = json!({"type": "object", "anyOf": [
        of(json!({"type": "integer"}), json!({"type": "integer"})),
        of(json!({"type": ["integer", "string"]}), json!({"type": ["integer", "string"]})),
        of(json!({"type": "string"}), json!({"type": "integer"})),
    ]});
    let all = [
        (&multiplied, r#"{"a":1,"b":"y","c":2,"d":0}"#, true),
        (&multiplied, r#"{"a":"y","c":"x"}"#, true),
        (&multiplied, r#"{"b":"z"}"#, false),
        (&multiplied, r#"{"a":1,"c":null}"#, false),
        (&covered, r#"{"a":"s","b":1}"#, true),
        (&covered, r#"{"a":"s","b":null}"#, false),
        (&covered, r#"{"a":null}"#, false),
        (&covered, r#"{"b":"y"}"#, true),
    ];
    for key_order in [KeyOrder::Declared, KeyOrder::Any] {
        let options = JsonOptions {
            key_order,
            ..JsonOptions::default()
        };
        let limits = Limits {
            parses: 2,
            ..Limits::default()
        };
        for (schema, text, expected) in all {
            let constraint = Constraint::json_schema_with(schema, &options, &limits).unwrap();
            let given = accepts(&constraint, &vocabulary(), text.as_bytes());
            assert_eq!(given, expected, "{key_order:?}, {schema}: {text}");
        }
    }
}

/// Values of two members that go together stay together.
#[test]
fn alternatives_that_differ_in_more_are_told_apart() {
    let of = |a: &str, b: &str| json!({"properties": {"a": {"enum": [a]}, "b": {"enum": [b]}}, "required": ["a"]});
    let schema = json!({"type": "object", "anyOf": [of("x", "x"), of("y", "y"), of("x", "z")]});
    check_texts(
        &schema,
        &[
            (r#"{"a":"x","b":"x"}"#, true),
            (r#"{"a":"x","b":"z"}"#, true),
            (r#"{"a":"y","b":"y"}"#, true),
            (r#"{"a":"y","b":"z"}"#, false),
            (r#"{"a":"x","b":"y"}"#, false),
            (r#"{"b":"x"}"#, false),
        ],
    );
}

/// What is excluded has an end, so any text goes on; whether it may end is another matter.
#[test]
fn strings_that_exclude_words_take_any_text() {
    for excluded in [
        json!({"enum": ["a", "ab", "\u{e9}", 1]}),
        json!({"pattern": "^(a|foo)?$"}),
        json!({"anyOf": [{"const": "a\"b"}, {"pattern": "^.{0,2}$"}]}),
    ] {
        for schema in [
            json!({"type": "string", "not": excluded}),
            json!({"type": "string", "not": excluded, "minLength": 2}),
            json!({"type": "string", "not": excluded, "maxLength": 3}),
            json!({"anyOf": [{"type": "string", "not": excluded}, {"pattern": "^b*$"}]}),
        ] {
            for text in ["\"", r#""a"#, r#""\u0"#, r#""aaa"#, "\"\u{e9}"] {
                let constraint = compile(&schema);
                check_masks(&constraint, &vocabulary(), text, &schema);
            }
        }
    }
}

/// A lead byte's characters may all be taken, none of them, or some.
#[test]
fn characters_beyond_ascii_are_told_apart() {
    for pattern in [
        "^[a-f\u{a3}]+$",
        "^[\u{c0}-\u{ff}]*x?$",
        "^[^\\s,]+(,[^\\s,]+)*$",
        "^[\\u4e00-\\u9fff]{1,3}-?$",
        "^\\p{L}{1,20}$",
        "^(\u{65e5}|\u{1f600}.)*\u{df}",
        "^[\u{400}-\u{4ff}a-z]*[^\u{65e5}]$",
    ] {
        let schema = json!({"pattern": pattern, "type": "string"});
        let vocabulary = vocabulary();
        for text in [
            "\"\u{e9}a",
            "\"\u{65e5}\u{672c}-",
            "\"\u{1f600}\u{df}",
            "\"ab,\u{a3}",
        ] {
            check_masks(&compile(&schema), &vocabulary, text, &schema);
        }
    }
}

/// A repetition of some characters that is bound on both sides is a length.
#[test]
fn characters_are_counted() {
    let counted = json!({"type": "string", "pattern": "^[a-c\u{e9}]{2,18}$"});
    let all = |more: Value| json!({"allOf": [counted, more]});
    for schema in [
        counted.clone(),
        all(json!({"minLength": 3, "maxLength": 17})),
        all(json!({"pattern": "^[b-d]{1,40}$"})),
        all(json!({"not": {"pattern": "^[ab]{3,20}$"}})),
        all(json!({"pattern": "ab"})),
        json!({"anyOf": [counted, {"pattern": "^[a-b]{20,21}$", "type": "string"}]}),
    ] {
        let constraint = compile(&schema);
        for character in ["a", "b", "c", "\u{e9}", "ab"] {
            for n in [0, 1, 2, 3, 8, 9, 10, 17, 18, 19, 20, 21, 22] {
                let value = json!(character.repeat(n));
                let is_output = accepts(&constraint, &vocabulary(), value.to_string().as_bytes());
                assert_eq!(
                    is_output,
                    jsonschema::is_valid(&schema, &value),
                    "{schema} {value}"
                );
            }
        }
        check_masks(
            &constraint,
            &vocabulary(),
            "\"abababababababababababab",
            &schema,
        );
    }
    for schema in [
        all(json!({"minLength": 19})),
        all(json!({"maxLength": 1})),
        all(json!({"pattern": "^[a-c]{19,30}$"})),
    ] {
        let error = Constraint::json_schema(&schema, &Limits::default()).unwrap_err();
        assert!(
            matches!(error, GrammarError::Empty { .. }),
            "{schema}: {error}"
        );
    }
}

/// No branch need say of another one that it does not hold.
#[test]
fn branches_are_told_apart_by_what_is_required_beside_them() {
    let kinds: Vec<String> = (0..20).map(|kind| format!("k{kind}")).collect();
    let branch = |kind: &String| json!({"properties": {"kind": {"enum": [kind]}, "value": {"minLength": kind.len()}}});
    let branches: Vec<Value> = kinds.iter().map(branch).collect();
    let limits = Limits {
        parses: kinds.len(),
        ..Limits::default()
    };
    for schema in [
        json!({"required": ["kind"], "oneOf": branches}),
        json!({"allOf": [{"type": "object", "required": ["kind"]}, {"oneOf": branches}]}),
    ] {
        let constraint = Constraint::json_schema(&schema, &limits).unwrap();
        for (text, expected) in [
            (r#"{"kind":"k7","value":"abcd"}"#, true),
            (r#"{"kind":"k17","value":"abc"}"#, true),
            (r#"{"kind":"k17","value":"ab"}"#, false),
            (r#"{"value":"abc"}"#, false),
            ("17", false),
        ] {
            let given = accepts(&constraint, &vocabulary(), text.as_bytes());
            assert_eq!(given, expected, "{schema}: {text}");
        }
    }
}

/// What is required beside branches for names is said of the object, and not of the names.
#[test]
fn branches_of_names_are_told_apart_by_themselves() {
    let names = json!({"oneOf": [{"pattern": "a"}, {"pattern": "b"}]});
    let schema = json!({"type": "object", "required": ["a"], "not": {"propertyNames": names}});
    check_texts(
        &schema,
        &[
            (r#"{"a":1,"ab":1}"#, true),
            (r#"{"a":1,"b":0,"c":1}"#, true),
            (r#"{"a":1,"b":1}"#, false),
            (r#"{"a":1}"#, false),
        ],
    );
}

/// `\/` spells a slash, too, but names have one spelling.
#[test]
fn a_name_begins_only_with_what_it_can_go_on_from() {
    let schema = json!({
        "type": "object",
        "patternProperties": {"^/": {}},
        "additionalProperties": false,
        "minProperties": 1,
    });
    let constraint = compile(&schema);
    let mut matcher = Matcher::new(constraint, vocabulary()).unwrap();
    for &byte in br#"{""# {
        matcher.accept(common::byte_token(byte)).unwrap();
    }
    assert_eq!(matcher.forced_bytes_within(1), b"/");
}

#[test]
fn what_is_forced_is_judged_by_its_text() {
    let item = json!({"properties": {"a": {"const": "x"}}, "required": ["a"], "type": "object"});
    let constraint = compile(&json!({"type": "array", "uniqueItems": true, "items": item}));
    let mut matcher = Matcher::new(constraint, vocabulary()).unwrap();
    for &byte in b"[{" {
        matcher.accept(byte_token(byte)).unwrap();
    }
    assert_eq!(matcher.forced_bytes(), br#""a":"x""#);
}

#[test]
fn no_member_is_begun_when_all_have_come() {
    let schema = json!({
        "properties": {"line1": {"type": "integer"}},
        "patternProperties": {"^line[1-3]$": {"type": "integer"}},
        "additionalProperties": false,
        "type": "object",
    });
    let options = JsonOptions {
        key_order: KeyOrder::Any,
        ..JsonOptions::default()
    };
    let constraint = Constraint::json_schema_with(&schema, &options, &Limits::default()).unwrap();
    let mut matcher = Matcher::new(constraint, vocabulary()).unwrap();
    for &byte in br#"{"line3":3,"line1":1,"line2":22"# {
        matcher.accept(common::byte_token(byte)).unwrap();
    }
    assert!(matcher.accept(common::byte_token(b',')).is_err());
    matcher.accept(common::byte_token(b'}')).unwrap();
}

#[test]
fn random_outputs_satisfy_their_schema() {
    let vocabulary = vocabulary();
    let mut random = Random(5);
    for case in cases() {
        println!("{}", case.name);
        let constraint = compile(&case.schema);
        let oracle = jsonschema::validator_for(&case.schema).unwrap();
        for n_free in 0..40 {
            let mut matcher = Matcher::new(constraint.clone(), Arc::clone(&vocabulary)).unwrap();
            let output = random_output(&mut matcher, &vocabulary, &mut random, n_free);
            let text = String::from_utf8(output).unwrap();
            let value: Value = serde_json::from_str(&text)
                .unwrap_or_else(|error| panic!("{}: {text}: {error}", case.name));
            assert!(oracle.is_valid(&value), "{}: {text}", case.name);
        }
    }
}

#[test]
fn instances_are_told_apart() {
    let vocabulary = vocabulary();
    for case in cases() {
        let constraint = compile(&case.schema);
        let oracle = jsonschema::validator_for(&case.schema).unwrap();
        for (instances, expected) in [(&case.valid, true), (&case.invalid, false)] {
            for instance in instances {
                assert_eq!(
                    oracle.is_valid(instance),
                    expected,
                    "{}: {instance}",
                    case.name
                );
                let given = accepts(&constraint, &vocabulary, instance.to_string().as_bytes());
                assert_eq!(given, expected, "{}: {instance}", case.name);
            }
        }
    }
}

fn check_texts(schema: &Value, texts: &[(&str, bool)]) {
    let vocabulary = vocabulary();
    let constraint = compile(schema);
    for &(text, expected) in texts {
        let given = accepts(&constraint, &vocabulary, text.as_bytes());
        assert_eq!(given, expected, "{schema}: {text}");
    }
}

#[test]
fn number_texts_are_told_apart() {
    check_texts(
        &json!({"type": "integer"}),
        &[
            ("-0", false),
            ("01", false),
            ("+1", false),
            ("1.0", false),
            ("999999999999999999", true),
            ("1000000000000000000", false),
        ],
    );
    check_texts(
        &json!({"type": "number"}),
        &[
            ("-0", true),
            ("1.", false),
            (".5", false),
            ("1e5", true),
            ("1E-05", true),
            ("1e100", true),
            ("1e307", true),
            ("123456789012345678e290", true),
            ("123456789012345678e291", false),
            ("1e308", false),
            ("0.5E+0307", false),
            ("1e-999", true),
            ("1e-1000", false),
            ("1.5e+10", true),
            ("1e", false),
        ],
    );
}

#[test]
fn numbers_off_the_grid_are_multiples_or_none() {
    check_texts(
        &json!({"type": "array", "not": {"prefixItems": [true], "items": {"multipleOf": 2}}}),
        &[
            ("[0,3]", true),
            ("[0,4]", false),
            ("[0,4,0.5]", true),
            ("[0,1e-20]", true),
            ("[0,1e30]", false),
            ("[0,-2e30]", false),
        ],
    );
}

#[test]
fn string_texts_are_told_apart() {
    check_texts(
        &json!({"type": "string", "maxLength": 1}),
        &[
            (r#""\u00e9""#, true),
            (r#""\ud83d\ude00""#, true),
            (r#""\ud83d""#, false),
            (r#""\ude00""#, false),
            (r#""\ud83d\u0041""#, false),
            (r#""\/""#, true),
            (r#""\x""#, false),
            ("\"\n\"", false),
            ("\"\u{7f}\"", true),
        ],
    );
    check_texts(
        &json!({"type": "string", "pattern": "^[é-ü]$"}),
        &[
            (r#""é""#, true),
            (r#""\u00e9""#, true),
            (r#""\u00FC""#, true),
            (r#""\u00fd""#, false),
            (r#""e""#, false),
        ],
    );
    check_texts(
        &json!({"type": "string", "pattern": "^😀$"}),
        &[
            (r#""\ud83d\ude00""#, true),
            (r#""\uD83D\uDE00""#, true),
            (r#""\ud83d\ude01""#, false),
        ],
    );
}

#[test]
fn object_texts_are_told_apart() {
    check_texts(
        &json!({"type": "object", "additionalProperties": {"type": "integer"}}),
        &[
            (r#"{"a":1,"b":2}"#, true),
            (r#"{"a":1,"a":2}"#, false),
            (r#"{"\u0061":1}"#, false),
            (r#"{"a\nb":1}"#, true),
            (r#"{"a":1,}"#, false),
            (r#"{ "a":1}"#, false),
            (r#"{"a": 1}"#, false),
        ],
    );
    check_texts(
        &json!({"properties": {"a": {}, "b": {}}}),
        &[
            (r#"{"a":1,"b":2,"c":3}"#, true),
            (r#"{"b":2,"a":1}"#, false),
            (r#"{"c":2,"b":1}"#, false),
            (r#"{"b":1,"b":1}"#, false),
        ],
    );
}

#[test]
fn a_raw_string_is_valid_utf8() {
    let vocabulary = vocabulary();
    let constraint = compile(&json!({"type": "string"}));
    for bytes in [
        &b"\"\xff\""[..],
        b"\"\xc3\"",
        b"\"\xc0\x80\"",
        b"\"\xed\xa0\x80\"",
        b"\"\xf4\x90\x80\x80\"",
    ] {
        assert!(!accepts(&constraint, &vocabulary, bytes), "{bytes:?}");
    }
}

#[test]
fn refusals_name_the_place() {
    let check = |schema: Value, expected: &str| assert_eq!(refusal(&schema), expected);
    check(
        json!({"properties": {"a": {"oneOf": []}}}),
        "#/properties/a/oneOf: an array of at least one schema is needed",
    );
    check(
        json!({"items": {"oneof": [true]}}),
        "#/items/oneof: keyword `oneof` is not known; `oneOf` is",
    );
    check(
        json!({"type": "stsring"}),
        "#/type: `stsring` is not a JSON type",
    );
    check(json!({"format": 3}), "#/format: `format` is a string");
    check(
        json!({"uniqueItems": "yes"}),
        "#/uniqueItems: `uniqueItems` is a boolean",
    );
    check(
        json!({"items": 3}),
        "#/items: a schema is an object or a boolean",
    );
    check(
        json!({"$ref": "other.json"}),
        "#/$ref: nothing is known at `other.json`",
    );
    check(
        json!({"$ref": "#/$defs/x"}),
        "#/$ref: nothing is known at `#/$defs/x`",
    );
    check(
        json!({"minLength": -1}),
        "#/minLength: a whole number is needed",
    );
    check(
        json!({"multipleOf": 0}),
        "#/multipleOf: a number above 0 is needed",
    );
    check(
        json!({"required": "a"}),
        "#/required: an array of property names is needed",
    );
    let error = refusal(&json!({"properties": {"a/b": {"pattern": "(a)\\1"}}}));
    assert!(
        error.starts_with("#/properties/a~1b/pattern: regex, byte 3: "),
        "{error}"
    );
    assert!(matches!(
        Constraint::json_schema(&json!("x"), &Limits::default()),
        Err(GrammarError::Schema { pointer, .. }) if pointer == "#"
    ));
}

#[test]
fn what_nothing_satisfies_is_refused() {
    for schema in [
        json!(false),
        json!({"$ref": "#"}),
        json!({"anyOf": [{"$ref": "#"}]}),
        json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
        json!({"type": "array", "items": {"$ref": "#"}, "minItems": 1}),
        json!({"type": "integer", "minimum": 3, "maximum": 2}),
        json!({"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 4}),
        json!({"type": "integer", "multipleOf": 10, "minimum": 11, "maximum": 19}),
        json!({"type": "string", "minLength": 3, "maxLength": 2}),
        json!({"type": "string", "pattern": "^(abc)*$", "minLength": 4, "maxLength": 5}),
        json!({"type": "string", "pattern": "^a$", "minLength": 2}),
        json!({"type": "array", "minItems": 2, "maxItems": 1}),
        json!({"type": "array", "prefixItems": [false], "minItems": 1}),
        json!({"type": "object", "required": ["a"], "additionalProperties": false}),
        json!({"type": "object", "minProperties": 1, "propertyNames": {"allOf": [{"pattern": "^a"}, {"pattern": "^b"}]}}),
        json!({"propertyNames": {"pattern": "^a"}, "not": {"propertyNames": {"not": {"pattern": "^b"}}}}),
        json!({"enum": []}),
        json!({"enum": [1, 2], "type": "string"}),
        json!({"allOf": [{"type": "string"}, {"type": "null"}]}),
    ] {
        let error = Constraint::json_schema(&schema, &Limits::default()).unwrap_err();
        assert!(
            matches!(error, GrammarError::Empty { .. }),
            "{schema}: {error}"
        );
    }
}

#[test]
fn unused_definitions_may_hold_anything() {
    compile(&json!({"$defs": {"x": {"oneOf": 3}}, "type": "null"}));
}
