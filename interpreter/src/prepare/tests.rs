//! Tests of what is prepared before a run.

use std::sync::Arc;

use super::*;

const ALL: Capabilities = Capabilities {
    constraints: true,
    logprobs: true,
    chat: true,
    context_length: 4096,
};

fn program(source: &str) -> Arc<Program> {
    let checked = crate::check("test.lmp", source);
    Arc::new(
        checked
            .program
            .unwrap_or_else(|| panic!("{:?}", checked.diagnostics)),
    )
}

#[test]
fn defaults_and_budgets_are_read_before_the_run() {
    let source = "model \"m\" with (temperature=0.5, stop=[\"a\", \"b\"], template=\"none\")\n\
                  budget (tokens=2k, time=1.5s)\n\"x\"\ngen(a)";
    let prepared = prepare(&program(source), ALL).ok().unwrap();
    assert!(prepared.plain);
    assert!((prepared.defaults.sampling.temperature - 0.5).abs() < 1e-6);
    assert_eq!(prepared.defaults.stop, ["a", "b"]);
    assert_eq!(prepared.max_tokens, Some(2000));
    assert_eq!(prepared.time, Some(Duration::from_millis(1500)));
}

#[test]
fn every_generated_type_is_compiled() {
    let source = "fn f() -> int { user \"x\" assistant gen(a: int) return a }\n\
                  user \"x\"\nassistant gen(b: /x+/)\nreturn [f(), b]";
    assert_eq!(prepare(&program(source), ALL).ok().unwrap().shapes.len(), 2);
}

#[test]
fn selects_that_can_end_their_turn_are_known() {
    let source = r#"
        let hot = true
        user "x"
        assistant {
            "It "
            if hot { select(a: ["x", "y"]) } else { select(b: ["x", "y"]) "." }
        }
        user select_of()
        fn select_of() -> string { user "x" assistant "A ${select(c: ["x", "y"])}" return c }
    "#;
    let program = program(source);
    let prepared = prepare(&program, ALL).ok().unwrap();
    let mut found: Vec<&str> = prepared
        .ends
        .iter()
        .map(|span| &program.source[span.start..span.end])
        .collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [r#"select(a: ["x", "y"])"#, r#"select(c: ["x", "y"])"#]
    );
}

#[test]
fn elements_that_call_functions_alone_run_apart() {
    let source = "fn f(x: int) -> int { return x }\nlet a = [f(x) for x in [1]]\n\
                  let b = [len(x) for x in [\"1\"]]\nreturn [a, b]";
    let program = program(source);
    let mut apart = Vec::new();
    walk::file(&program.ast, &mut |node| {
        if let Node::Expr(Expr {
            kind: ExprKind::Comprehension { element, .. },
            ..
        }) = node
        {
            apart.push(runs_apart(&program, element));
        }
    });
    assert_eq!(apart, [true, false]);
}
