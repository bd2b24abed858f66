//! Masks on a real vocabulary against brute force, every token tried by itself from a copy of the same state.
//!
//! By default the regexes and schemas are the data files of the grammar crate, whose own tests do the same on a small
//! vocabulary with every token tried byte by byte. Here each is walked with real tokens; where it is checked, the mask
//! must agree with what `accept` says of each of the tens of thousands of tokens. See docs/constraints.md for the soak.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use lmrun::grammar_suite::Random;
use lmrun_grammar::{Constraint, GrammarError, Limits, Matcher, TokenMask};
use serde_json::Value;

use crate::support::constraints::{own_schemas, schemas_of_data, vocabulary};

/// The next mask, checked against `accept` token by token.
fn checked_mask(matcher: &mut Matcher, name: &str) -> Result<TokenMask, GrammarError> {
    let n_tokens = vocabulary().n_tokens();
    let mut mask = TokenMask::new(n_tokens);
    matcher.mask(&mut mask)?;
    for token in 0..u32::try_from(n_tokens).expect("ids are u32") {
        let outcome = matcher.accept(token);
        if let Err(error @ GrammarError::Limit { .. }) = outcome {
            return Err(error);
        }
        let bytes = vocabulary().bytes(token);
        assert_eq!(
            mask.is_allowed(token),
            outcome.is_ok(),
            "{name}: token {token}, {bytes:?}"
        );
        if outcome.is_ok() {
            matcher.rollback(1);
        }
    }
    Ok(mask)
}

/// Follows an output for some tokens, at each of which it goes on as it likes or nearer to the end; then checks so many
/// masks, one token after another. How many were checked, the output's end being one.
fn check(
    constraint: &Constraint,
    name: &str,
    (n_before, n_checked): (usize, usize),
    random: &mut Random,
) -> Result<usize, GrammarError> {
    let mut matcher = Matcher::new(constraint.clone(), Arc::clone(vocabulary()))?;
    let mut mask = TokenMask::new(vocabulary().n_tokens());
    for n_taken in 0..n_before + n_checked {
        let budget = match random.below(2) {
            0 => usize::MAX,
            _ => matcher.min_tokens_to_accept(),
        };
        if n_taken >= n_before {
            mask = checked_mask(&mut matcher, name)?;
        } else {
            matcher.mask_toward_end(&mut mask, budget)?;
        }
        let chosen = random.below(mask.n_allowed());
        let token = mask.iter().nth(chosen).expect("an index below the count");
        if vocabulary().end_tokens().contains(&token) {
            checked_mask(&mut matcher, name)?;
            return Ok(1 + n_taken.saturating_sub(n_before));
        }
        matcher.accept(token)?;
    }
    Ok(n_checked)
}

/// What checking constraints came to.
#[derive(Debug, Default)]
struct Checks {
    n_constraints: usize,
    n_refused: usize,
    n_masks: usize,
    /// Outputs that could not be followed as far as was asked, by what was said: a limit, or a place where nothing may
    /// follow.
    cut: BTreeMap<String, usize>,
}

impl Checks {
    /// Three outputs of a constraint: from their start, from early on and from later on.
    fn take(
        &mut self,
        name: &str,
        constraint: Result<Constraint, GrammarError>,
        random: &mut Random,
    ) {
        let Ok(constraint) = constraint else {
            self.n_refused += 1;
            return;
        };
        self.n_constraints += 1;
        for n_before in [0, 1 + random.below(10), 10 + random.below(50)] {
            match check(&constraint, name, (n_before, 2), random) {
                Ok(n_masks) => self.n_masks += n_masks,
                Err(error) => *self.cut.entry(error.to_string()).or_default() += 1,
            }
        }
    }

    /// Fails if too little was checked to mean something.
    fn check(&self, n_constraints: usize) {
        assert!(self.n_constraints >= n_constraints, "{self:?}");
        assert!(self.n_masks >= 3 * self.n_constraints, "{self:?}");
    }
}

/// The regexes of the grammar crate.
fn own_regexes() -> Vec<String> {
    let lines = include_str!("../grammar/tests/data/regexes.txt").lines();
    let regexes = lines.filter(|line| !line.is_empty());
    regexes.map(str::to_owned).collect()
}

/// The grammars of the grammar crate: dialect and name, then the source.
fn own_grammars() -> Vec<(String, String)> {
    let mut grammars: Vec<(String, String)> = Vec::new();
    for line in include_str!("../grammar/tests/data/grammars.txt").lines() {
        if let Some(name) = line.strip_prefix("== ") {
            grammars.push((name.to_owned(), String::new()));
        } else if !line.starts_with("++ ") && !line.starts_with("-- ") {
            let (_, source) = grammars.last_mut().expect("a name comes first");
            writeln!(source, "{line}").expect("a string can be written to");
        }
    }
    grammars
}

fn compile_grammar(name: &str, source: &str) -> Result<Constraint, GrammarError> {
    match name.starts_with("lark") {
        true => Constraint::lark(source, &Limits::default()),
        false => Constraint::gbnf(source, &Limits::default()),
    }
}

/// The patterns within a schema: of strings and of names.
fn patterns(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            for (name, member) in members {
                match (name.as_str(), member) {
                    ("pattern", Value::String(pattern)) => {
                        found.insert(pattern.clone());
                    }
                    ("patternProperties", Value::Object(members)) => {
                        found.extend(members.keys().cloned());
                    }
                    _ => {}
                }
                patterns(member, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| patterns(item, found)),
        _ => {}
    }
}

/// A random regex: atoms, repeated, in sequences, in alternatives.
fn regex(depth: usize, random: &mut Random) -> String {
    const ATOMS: [&str; 12] = [
        "a",
        "the",
        "[a-z]",
        "[^\"\\\\]",
        "\\d",
        "\\w",
        "\\s",
        ".",
        "é",
        "[^a-cé]",
        "\\p{L}",
        "(?!ab)",
    ];
    const COUNTS: [&str; 7] = ["", "", "*", "+", "?", "{2,4}", "{0,30}"];
    let mut alternatives = Vec::new();
    for _ in 0..=random.below(2) {
        let mut sequence = String::new();
        for _ in 0..=random.below(4) {
            let atom = match depth > 0 && random.below(3) == 0 {
                true => format!("(?:{})", regex(depth - 1, random)),
                false => ATOMS[random.below(ATOMS.len())].to_owned(),
            };
            let count = match atom.starts_with("(?!") {
                true => "",
                false => COUNTS[random.below(COUNTS.len())],
            };
            sequence.push_str(&atom);
            sequence.push_str(count);
        }
        alternatives.push(sequence);
    }
    alternatives.join("|")
}

/// A random grammar of five rules, each of which can end.
fn grammar(random: &mut Random) -> String {
    const TERMINALS: [&str; 8] = [
        "\"a\"",
        "\"the \"",
        "\"(\"",
        "\")\"",
        "/[a-z]+/",
        "/[0-9]{1,3}/",
        "WORD",
        "\",\"",
    ];
    const COUNTS: [&str; 6] = ["", "", "", "?", "*", "~1..3"];
    const N_RULES: usize = 5;
    let mut source = String::from("start: r0\nWORD: /\\w+/ | \"-\"\n%ignore \" \"\n");
    for rule in 0..N_RULES {
        let end = TERMINALS[random.below(TERMINALS.len())];
        write!(source, "r{rule}: {end}").expect("a string can be written to");
        for _ in 0..=random.below(3) {
            source.push_str(" | ");
            for _ in 0..=random.below(3) {
                let part = match random.below(2) {
                    0 => format!("r{}", random.below(N_RULES)),
                    _ => TERMINALS[random.below(TERMINALS.len())].to_owned(),
                };
                let count = COUNTS[random.below(COUNTS.len())];
                write!(source, "{part}{count} ").expect("a string can be written to");
            }
        }
        source.push('\n');
    }
    source
}

#[test]
fn masks_of_a_hundred_regexes_equal_brute_force() {
    let mut random = Random::new(1);
    let regexes = own_regexes();
    assert!(regexes.len() >= 100, "{} regexes", regexes.len());
    for pattern in regexes {
        let constraint = Constraint::regex(&pattern, &Limits::default()).expect(&pattern);
        check(&constraint, &pattern, (0, 3), &mut random).expect(&pattern);
    }
}

#[test]
fn masks_of_fifty_schemas_equal_brute_force() {
    let mut random = Random::new(2);
    let schemas = own_schemas();
    assert!(schemas.len() >= 50, "{} schemas", schemas.len());
    for (name, schema) in schemas {
        let constraint = Constraint::json_schema(&schema, &Limits::default()).expect(&name);
        check(&constraint, &name, (0, 3), &mut random).expect(&name);
    }
}

#[test]
fn masks_of_grammars_equal_brute_force() {
    let mut random = Random::new(3);
    for (name, source) in own_grammars().iter().step_by(4) {
        let constraint = compile_grammar(name, source).expect(name);
        check(&constraint, name, (random.below(6), 1), &mut random).expect(name);
    }
}

#[test]
#[ignore = "slow: three outputs of each of 500 schemas"]
fn soak_masks_of_schemas_equal_brute_force() {
    let mut random = Random::new(4);
    let mut checks = Checks::default();
    for (name, schema) in schemas_of_data(500) {
        let constraint = Constraint::json_schema(&schema, &Limits::default());
        checks.take(&name, constraint, &mut random);
    }
    println!("{checks:?}");
    checks.check(480);
}

#[test]
#[ignore = "slow: three outputs of each of 280 regexes"]
fn soak_masks_of_regexes_equal_brute_force() {
    let mut random = Random::new(5);
    let mut found = BTreeSet::new();
    for (_, schema) in schemas_of_data(6_000) {
        patterns(&schema, &mut found);
    }
    let every = (found.len() / 180).max(1);
    let mut regexes: Vec<String> = found.into_iter().step_by(every).take(180).collect();
    regexes.extend((0..100).map(|_| regex(2, &mut random)));
    let mut checks = Checks::default();
    for pattern in regexes {
        let constraint = Constraint::regex(&pattern, &Limits::default());
        checks.take(&pattern, constraint, &mut random);
    }
    println!("{checks:?}");
    checks.check(200);
}

#[test]
#[ignore = "slow: three outputs of each of a hundred grammars"]
fn soak_masks_of_grammars_equal_brute_force() {
    let mut random = Random::new(6);
    let mut grammars = own_grammars();
    grammars.extend((0..50).map(|_| ("lark, random".to_owned(), grammar(&mut random))));
    let mut checks = Checks::default();
    for (name, source) in grammars {
        let constraint = compile_grammar(&name, &source);
        checks.take(&format!("{name}\n{source}"), constraint, &mut random);
    }
    println!("{checks:?}");
    checks.check(90);
}
