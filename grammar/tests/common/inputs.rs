//! The inputs made to hurt that stopped other engines or took seconds of them, each with the answer it must get.

use lmrun_grammar::{Constraint, GrammarError, Limits, StructuralTag, StructuralTags};
use serde_json::{Map, Value, json};

/// What a constraint comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is compiled, and its masks are found.
    Works,
    /// It passes this limit.
    Limit(&'static str),
    /// It is not what it should be; the error says where.
    Malformed,
    /// Nothing satisfies it.
    Empty,
}

/// An input and its answer.
pub(crate) struct Input {
    pub(crate) name: &'static str,
    pub(crate) source: Source,
    pub(crate) answer: Answer,
}

/// What is compiled.
pub(crate) enum Source {
    Regex(String),
    Schema(Value),
    Lark(String),
    Tags(StructuralTags),
}

impl Source {
    pub(crate) fn compile(&self) -> Result<Constraint, GrammarError> {
        let limits = Limits::default();
        match self {
            Self::Regex(pattern) => Constraint::regex(pattern, &limits),
            Self::Schema(schema) => Constraint::json_schema(schema, &limits),
            Self::Lark(source) => Constraint::lark(source, &limits),
            Self::Tags(tags) => Constraint::structural_tags(tags, &limits),
        }
    }
}

/// The answer that an outcome is; none for an error that no hostile input should get.
pub(crate) fn answer<T>(outcome: &Result<T, GrammarError>) -> Option<Answer> {
    match outcome {
        Ok(_) => Some(Answer::Works),
        Err(GrammarError::Limit { limit, .. }) => Some(Answer::Limit(limit)),
        Err(GrammarError::Empty { .. }) => Some(Answer::Empty),
        Err(
            GrammarError::Regex { .. } | GrammarError::Schema { .. } | GrammarError::Grammar { .. },
        ) => Some(Answer::Malformed),
        Err(_) => None,
    }
}

/// All of them.
pub(crate) fn inputs() -> Vec<Input> {
    let mut inputs = Vec::new();
    let mut add = |name, source, answer| {
        inputs.push(Input {
            name,
            source,
            answer,
        });
    };
    for (name, schema, answer) in schemas() {
        add(name, Source::Schema(schema), answer);
    }
    for (name, pattern, answer) in regexes() {
        add(name, Source::Regex(pattern), answer);
    }
    add(
        "a chain of 5,000 rules",
        Source::Lark(rule_chain(5_000)),
        Answer::Works,
    );
    add(
        "rules that repeat five to ten times, four deep",
        Source::Lark(
            "start: a~5..10\na: b~5..10\nb: c~5..10\nc: (\"(\" start \")\" | \"x\")~5..10".into(),
        ),
        Answer::Works,
    );
    add(
        "marker text inside a string",
        Source::Tags(marked()),
        Answer::Works,
    );
    inputs
}

fn schemas() -> Vec<(&'static str, Value, Answer)> {
    use Answer::{Empty, Limit, Malformed, Works};
    let deep = (0..800).fold(json!(true), |deep, _| json!({ "items": deep }));
    let lists = (0..6).fold(
        json!({"type": "integer"}),
        |items, _| json!({"type": "array", "items": items, "minItems": 5, "maxItems": 10}),
    );
    vec![
        ("a schema that is itself", json!({"$ref": "#"}), Empty),
        (
            "10,000 values behind eight references",
            enumeration(),
            Works,
        ),
        ("`items` 800 deep", deep, Limit("depth")),
        (
            "a chain of 5,000 references",
            reference_chain(),
            Limit("references"),
        ),
        (
            "a multiple of 999,983",
            json!({"type": "integer", "multipleOf": 999_983}),
            Works,
        ),
        (
            "a type that is none",
            json!({"properties": {"x": {"type": "stsring"}}}),
            Malformed,
        ),
        (
            "a pattern that is none",
            json!({"properties": {"x": {"pattern": "[a"}}}),
            Malformed,
        ),
        ("an empty text for a schema", json!(""), Malformed),
        ("lists of five to ten, six deep", lists, Works),
        (
            "100,000 characters",
            json!({"type": "string", "maxLength": 100_000}),
            Works,
        ),
        (
            "a pattern with a length beside it",
            json!({"type": "string", "pattern": "^[a-z]+(-[a-z0-9]+)*$", "minLength": 5, "maxLength": 4_000}),
            Works,
        ),
    ]
}

fn regexes() -> Vec<(&'static str, String, Answer)> {
    use Answer::{Limit, Malformed};
    let nested = |n| "(".repeat(n) + &")".repeat(n);
    vec![
        ("30,000 nested parentheses", nested(30_000), Limit("depth")),
        ("60,000 nested parentheses", nested(60_000), Limit("depth")),
        (
            "a quantifier with nothing to repeat",
            "a|*b".into(),
            Malformed,
        ),
        (
            "repetitions of five to ten, eight deep",
            format!("{}a{}", "(".repeat(8), "){5,10}".repeat(8)),
            Limit("nfa_bytes"),
        ),
    ]
}

fn enumeration() -> Value {
    let values: Vec<String> = (0..10_000).map(|n| format!("value number {n}")).collect();
    let mut definitions = Map::new();
    definitions.insert("e0".into(), json!({ "enum": values }));
    for n in 1..=8 {
        let previous = format!("#/$defs/e{}", n - 1);
        definitions.insert(format!("e{n}"), json!({ "$ref": previous }));
    }
    json!({"$ref": "#/$defs/e8", "$defs": definitions})
}

fn reference_chain() -> Value {
    let mut definitions = Map::new();
    for n in 0..5_000 {
        let next = format!("#/$defs/r{}", n + 1);
        definitions.insert(format!("r{n}"), json!({ "$ref": next }));
    }
    definitions.insert("r5000".into(), json!({"type": "null"}));
    json!({"$ref": "#/$defs/r0", "$defs": definitions})
}

fn rule_chain(n: usize) -> String {
    let links: String = (0..n)
        .map(|idx| format!("r{idx}: \"a\" r{} | \"(\" start \")\"\n", idx + 1))
        .collect();
    format!("start: r0\n{links}r{n}: \"x\"\n")
}

/// The text that begins a tag, and the one that ends it, are also in the strings between.
fn marked() -> StructuralTags {
    let schema = json!({"type": "object", "properties": {"text": {"const": "</call><call>"}}, "required": ["text"]});
    let content = Constraint::json_schema(&schema, &Limits::default()).expect("a small schema");
    StructuralTags {
        triggers: vec!["<call>".into()],
        tags: vec![StructuralTag {
            begin: "<call>".into(),
            content,
            end: "</call>".into(),
        }],
        ..StructuralTags::default()
    }
}
