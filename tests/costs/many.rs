//! Very many schemas, one after another: what is held does not grow.

use std::ops::Range;
use std::sync::Arc;

use lmrun_grammar::{Constraint, Limits, Matcher, TokenMask};
use serde_json::{Value, json};

use super::constraints::vocabulary;
use super::parallel;

/// Bytes that may be held more at the end than a tenth of the way in.
const MAX_GROWTH: i64 = 1 << 20;

/// The `n`th schema, unlike every other: names, bounds, a pattern and an enumeration of its own.
fn schema(n: usize) -> Value {
    json!({
        "type": "object",
        "properties": {
            format!("name_{n}"): {"type": "string", "pattern": format!("^x{n}[a-z]*$")},
            "count": {"type": "integer", "minimum": n},
            "kind": {"enum": [format!("kind {n}"), n, null]},
            "rest": {"type": "array", "items": {"$ref": "#"}, "maxItems": n % 7},
        },
        "required": ["count", format!("name_{n}")],
        "additionalProperties": n.is_multiple_of(2),
    })
}

/// Compiles, finds the masks along a shortest output, lets go.
fn follow(schema: &Value) {
    let constraint = Constraint::json_schema(schema, &Limits::default()).expect("supported");
    let mut matcher = Matcher::new(constraint, Arc::clone(vocabulary())).expect("a matcher");
    let mut mask = TokenMask::new(vocabulary().n_tokens());
    while !matcher.is_complete() {
        let budget = matcher.min_tokens_to_accept();
        matcher.mask(&mut mask).expect("within the limits");
        matcher
            .mask_toward_end(&mut mask, budget)
            .expect("within the limits");
        let token = mask.iter().next().expect("a token");
        matcher.accept(token).expect("the mask holds it");
    }
}

/// Bytes that following so many schemas left behind, and the most that one of them held.
fn held_after(schemas: Range<usize>) -> (i64, u64) {
    // Each thread counts its own; what one allocates and another lets go adds up to nothing.
    let each = parallel::each(schemas.len(), |n| {
        let info = allocation_counter::measure(|| follow(&schema(schemas.start + n)));
        (info.bytes_current, info.bytes_max)
    });
    let left = each.iter().map(|&(left, _)| left).sum();
    (left, each.iter().map(|&(_, most)| most).max().unwrap_or(0))
}

fn check(n_schemas: usize) {
    let (at_first, _) = held_after(0..n_schemas / 10);
    let (growth, most) = held_after(n_schemas / 10..n_schemas);
    println!(
        "{n_schemas} schemas: the first tenth leaves {at_first} bytes, the others {growth}; one holds {most} at most"
    );
    assert!(growth <= MAX_GROWTH, "{growth} bytes are left behind");
    if let Some(resident) = resident() {
        println!("resident at most: {resident}");
    }
}

/// The most memory the process ever had, as Linux tells it (`proc_pid_status(5)`).
fn resident() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Some(line?.trim().to_owned())
}

#[test]
fn memory_stays_flat() {
    check(1_000);
}

#[test]
#[ignore = "slow: a hundred thousand schemas"]
fn memory_stays_flat_at_length() {
    check(100_000);
}
