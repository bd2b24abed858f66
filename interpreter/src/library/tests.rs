//! Tests of the library.

use serde_json::json;

use super::*;

fn call(name: &str, args: &Value) -> Answer {
    apply(name, args.as_array().unwrap())
}

#[test]
fn every_function_has_its_example() {
    let examples = [
        ("len", json!(["aé"]), json!(2)),
        ("len", json!([[1, 2, 3]]), json!(3)),
        ("join", json!([["a", 1], "-"]), json!("a-1")),
        ("join", json!([["a", "b"]]), json!("ab")),
        ("split", json!(["a,b,", ","]), json!(["a", "b", ""])),
        ("trim", json!([" a \n"]), json!("a")),
        ("upper", json!(["aß"]), json!("ASS")),
        ("lower", json!(["AÉ"]), json!("aé")),
        ("replace", json!(["aXbX", "X", "-"]), json!("a-b-")),
        ("indent", json!(["a\nb", 2]), json!("a\n  b")),
        ("string", json!([[1, "a"]]), json!(r#"[1,"a"]"#)),
        ("int", json!([" -12 "]), json!(-12)),
        ("int", json!([-2.9]), json!(-2)),
        ("int", json!([true]), json!(1)),
        ("float", json!(["1e3"]), json!(1000.0)),
        ("json", json!([r#"{"a":[1]}"#]), json!({ "a": [1] })),
        ("range", json!([3]), json!([0, 1, 2])),
        ("range", json!([-1, 2]), json!([-1, 0, 1])),
        ("range", json!([5, 2]), json!([])),
        ("keys", json!([{ "b": 1, "a": 2 }]), json!(["b", "a"])),
        ("values", json!([{ "b": 1, "a": 2 }]), json!([1, 2])),
        ("sum", json!([[1, 2.5]]), json!(3.5)),
        ("sum", json!([[]]), json!(0)),
        ("min", json!([[2, 1, 3]]), json!(1)),
        ("max", json!([["a", "c", "b"]]), json!("c")),
        ("mode", json!([["a", "b", "b", "a"]]), json!("a")),
        ("top", json!([{ "a": 0.2, "b": 0.8 }]), json!("b")),
        ("abs", json!([-3]), json!(3)),
        ("round", json!([-2.5]), json!(-3)),
    ];
    for (name, args, expected) in &examples {
        assert_eq!(call(name, args), Ok(expected.clone()), "{name}{args}");
    }
    let apart = ["format", "scores", "mass", "logprob"];
    for signature in lmrun_lang::LIBRARY {
        let known = examples.iter().any(|(name, ..)| *name == signature.name);
        assert!(
            known || apart.contains(&signature.name),
            "{} has no example",
            signature.name
        );
    }
}

#[test]
fn what_has_no_value_says_why() {
    for (name, args, words) in [
        ("int", json!(["1.5"]), "\"1.5\" is not an int"),
        ("int", json!([1e19]), "range of an int"),
        ("float", json!(["inf"]), "not a finite number"),
        ("range", json!([1_000_001]), "at most 1000000"),
        ("range", json!([i64::MIN, i64::MAX]), "at most 1000000"),
        ("split", json!(["a", ""]), "not empty"),
        ("min", json!([[]]), "empty list"),
        ("min", json!([[null]]), "no order"),
        ("max", json!([[1, "a"]]), "have no order"),
        ("sum", json!([["a"]]), "does not apply"),
        ("top", json!([{}]), "empty map"),
        ("indent", json!(["a", 100]), "0 to 64"),
        ("abs", json!([i64::MIN]), "range of an int"),
        ("len", json!([1]), "no length"),
        ("trim", json!([1]), "given an int"),
        ("nothing", json!([]), "no function"),
    ] {
        let error = call(name, &args).expect_err(name);
        assert!(error.contains(words), "{name}{args}: {error}");
    }
}
