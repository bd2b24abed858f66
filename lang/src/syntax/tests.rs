//! Tests of the parser.

use super::*;
use crate::ast::*;

mod properties;

fn clean(source: &str) -> File {
    let (file, found) = parse(source);
    assert_eq!(found, Vec::new(), "{source}");
    file
}

/// The first statement's value.
fn value(source: &str) -> Expr {
    let file = clean(source);
    match file.body.stmts.into_iter().next().unwrap().kind {
        StmtKind::Let { value, .. } => value,
        other => panic!("no let: {other:?}"),
    }
}

/// The literal text and holes of `let x = ..`, holes as their source.
fn template(source: &str) -> Vec<String> {
    let ExprKind::Template(template) = value(source).kind else {
        panic!("no string")
    };
    let parts = template.parts.into_iter().map(|part| match part {
        TemplatePart::Text(text, _) => text,
        TemplatePart::Hole(hole) => format!("<{}>", &source[hole.span.start..hole.span.end]),
    });
    parts.collect()
}

/// An expression with every operator in parentheses.
fn grouped(expr: &Expr, source: &str) -> String {
    match &expr.kind {
        ExprKind::Binary(op, left, right) => {
            format!(
                "({} {op:?} {})",
                grouped(left, source),
                grouped(right, source)
            )
        }
        ExprKind::Unary(op, inner) => format!("({op:?} {})", grouped(inner, source)),
        _ => source[expr.span.start..expr.span.end].to_owned(),
    }
}

#[test]
fn tour_programs_parse() {
    for source in properties::TOUR {
        clean(source);
    }
    let file = clean(properties::TOUR[0]);
    let ItemKind::Input { name, ty, default } = &file.items[0].kind else {
        panic!()
    };
    assert_eq!(name.text, "who");
    assert!(matches!(&ty.kind, TypeKind::Named(name, None) if name.text == "string"));
    assert!(default.is_some());
    let StmtKind::Role {
        role: Role::Assistant,
        body,
    } = &file.body.stmts[1].kind
    else {
        panic!()
    };
    let StmtKind::Expr(Expr {
        kind: ExprKind::Gen(generation),
        ..
    }) = &body.stmts[0].kind
    else {
        panic!()
    };
    assert_eq!(generation.name.as_ref().unwrap().text, "reply");
    assert_eq!(generation.options[0].name.text, "max_tokens");
}

#[test]
fn example_programs_parse() {
    for entry in std::fs::read_dir("../examples").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "lmp") {
            let file = clean(&std::fs::read_to_string(path).unwrap());
            assert!(!file.body.stmts.is_empty());
        }
    }
}

#[test]
fn items_keep_docs_fields_and_bounds() {
    let source = "// a comment\n/// First.\n/// Second.\ntype T {\n  /// A field.\n  a?: string(1..), b: int(-5..5)[](..3)?\n  c: /x\\/y/ | \"q\" | -1.5 | true | null\n}";
    let file = clean(source);
    assert_eq!(file.items[0].docs, ["First.", "Second."]);
    let ItemKind::Type {
        ty: Type {
            kind: TypeKind::Record(fields),
            ..
        },
        ..
    } = &file.items[0].kind
    else {
        panic!()
    };
    assert_eq!(fields[0].docs, ["A field."]);
    assert!(fields[0].optional && !fields[1].optional);
    let TypeKind::Named(_, Some(bounds)) = &fields[0].ty.kind else {
        panic!()
    };
    assert_eq!((bounds.low, bounds.high), (Some(Number::Int(1)), None));
    let TypeKind::Optional(list) = &fields[1].ty.kind else {
        panic!()
    };
    let TypeKind::List(element, Some(bounds)) = &list.kind else {
        panic!()
    };
    assert_eq!((bounds.low, bounds.high), (None, Some(Number::Int(3))));
    let TypeKind::Named(_, Some(bounds)) = &element.kind else {
        panic!()
    };
    assert_eq!(bounds.low, Some(Number::Int(-5)));
    let TypeKind::Union(members) = &fields[2].ty.kind else {
        panic!()
    };
    let kinds: Vec<&TypeKind> = members.iter().map(|member| &member.kind).collect();
    assert_eq!(
        kinds,
        [
            &TypeKind::Regex("x/y".into()),
            &TypeKind::Literal(Literal::String("q".into())),
            &TypeKind::Literal(Literal::Number(Number::Float(-1.5))),
            &TypeKind::Literal(Literal::Bool(true)),
            &TypeKind::Literal(Literal::Null),
        ]
    );
}

#[test]
fn strings_are_their_bytes() {
    for (source, parts) in [
        (r#"let x = """#, vec![]),
        (r#"let x = "a\n\t\"\\\$\u{e9}é""#, vec!["a\n\t\"\\$éé"]),
        (
            r#"let x = "$5 {\"a\": {{x}}} $""#,
            vec!["$5 {\"a\": {{x}}} $"],
        ),
        (r#"let x = "$${a} \${b} $$${c}""#, vec!["${a} ${b} $${c}"]),
        (
            r#"let x = "${a}${ b + "in ${c}" } end""#,
            vec!["<a>", "<b + \"in ${c}\">", " end"],
        ),
        (r##"let x = r"\d ${a} ""##, vec!["\\d ${a} "]),
        (
            r###"let x = r#"a "quoted" \n"#"###,
            vec!["a \"quoted\" \\n"],
        ),
        (
            "let x = \"\"\"\n  a\n    b\n\n  c\\n \"q\"\n  \"\"\"",
            vec!["a\n  b\n\nc\\n \"q\""],
        ),
        ("let x = \"\"\"\n\"\"\"", vec![]),
        ("let x = \"\"\"\n\n\"\"\"", vec![]),
        ("let x = \"\"\"\n\n\n\"\"\"", vec!["\n"]),
        (
            "let x = \"\"\"\n  ${a} b\n  $${c}\n  \"\"\"",
            vec!["<a>", " b\n${c}"],
        ),
        ("let x = \"\"\"  \r\n  a\r\n  b\r\n  \"\"\"", vec!["a\nb"]),
        ("let x = \"\"\"\n\ta\n\t\tb\n\t\"\"\"", vec!["a\n\tb"]),
        ("let x = \"\"\"\n  a\n   \n  b \n  \"\"\"", vec!["a\n \nb "]),
    ] {
        assert_eq!(template(source), parts, "{source}");
    }
}

#[test]
fn blocks_that_are_not_laid_out_are_refused() {
    for source in [
        "let x = \"\"\"a\n\"\"\"",
        "let x = \"\"\"\na\"\"\"",
        "let x = \"\"\"\n  a\n b\n  \"\"\"",
        "let x = \"\"\"\n${a}\n  \"\"\"",
        "let x = \"\"\"\n\ta\n  \"\"\"",
        "let x = \"\"\"a\"\"\"",
        "let x = \"\"\"\"\"\"",
    ] {
        let codes: Vec<&str> = parse(source).1.iter().map(|found| found.code).collect();
        assert_eq!(codes, ["E008"], "{source:?}");
    }
}

#[test]
fn numbers_have_suffixes_and_ranges() {
    let int = |value| Literal::Number(Number::Int(value));
    let float = |value| Literal::Number(Number::Float(value));
    for (text, literal) in [
        ("0", int(0)),
        ("1_000", int(1000)),
        ("9223372036854775807", int(i64::MAX)),
        ("1.5", float(1.5)),
        ("2e3", float(2000.0)),
        ("1.5e-3", float(0.0015)),
        ("8k", int(8000)),
        ("2.5k", int(2500)),
        ("3m", int(3_000_000)),
        ("250ms", Literal::Duration(250)),
        ("10s", Literal::Duration(10_000)),
        ("1.5s", Literal::Duration(1500)),
        ("2min", Literal::Duration(120_000)),
    ] {
        assert_eq!(
            value(&format!("let x = {text}")).kind,
            ExprKind::Literal(literal),
            "{text}"
        );
    }
    for text in ["9223372036854775808", "1e999", "5x", "0.5ms", "3h"] {
        let codes: Vec<&str> = parse(&format!("let x = {text}"))
            .1
            .iter()
            .map(|found| found.code)
            .collect();
        assert_eq!(codes, ["E007"], "{text}");
    }
}

#[test]
fn operators_bind_by_level() {
    for (source, tree) in [
        ("a + b * c - d", "((a Add (b Multiply c)) Subtract d)"),
        (
            "a ?? b || c && d == e",
            "(a Coalesce (b Or (c And (d Equal e))))",
        ),
        ("!a && -b < c", "((Not a) And ((Negate b) Less c))"),
        (
            "a in b || c matches /x y/",
            "((a In b) Or (c Matches /x y/))",
        ),
        ("a / b / c", "((a Divide b) Divide c)"),
        ("(a + b) * c", "((a Add b) Multiply c)"),
        ("inner + matched", "(inner Add matched)"),
        ("a.b[0].c % f(1)", "(a.b[0].c Remainder f(1))"),
    ] {
        let source = format!("let x = {source}");
        assert_eq!(grouped(&value(&source), &source), tree, "{source}");
    }
}

#[test]
fn statements_need_no_separators() {
    let file = clean("fork s in [\"a\"] { user s assistant gen(a) yield a } let x = y user \"b\"");
    assert_eq!(file.body.stmts.len(), 3);
    // An index begins on its subject's line, and a list cannot begin a statement.
    assert_eq!(parse("let x = y\n[1]").1[0].span.start, 10);
    assert!(matches!(value("let x = y [1]").kind, ExprKind::Index(..)));
    assert!(matches!(
        value("let x = y\n  .z").kind,
        ExprKind::Member(..)
    ));
}

#[test]
fn a_value_belongs_to_return_on_its_own_line() {
    let file = clean("fn f() { return\n  user \"x\" }\nfn g() { if a { return } return b }");
    let ItemKind::Fn(f) = &file.items[0].kind else {
        panic!()
    };
    assert!(matches!(f.body.stmts[0].kind, StmtKind::Return(None)));
    assert_eq!(f.body.stmts.len(), 2);
    let ItemKind::Fn(g) = &file.items[1].kind else {
        panic!()
    };
    assert!(matches!(g.body.stmts[1].kind, StmtKind::Return(Some(_))));
}

#[test]
fn the_short_role_is_a_block_of_one_emission() {
    let file =
        clean("part rules() { \"x\" }\nuser name\nsystem rules()\nuser f(1)\nassistant gen(a)");
    let kind = |idx: usize| match &file.body.stmts[idx].kind {
        StmtKind::Role { body, .. } => match &body.stmts[0].kind {
            StmtKind::Expr(expr) => &expr.kind,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    assert!(matches!(kind(0), ExprKind::Template(template) if template.parts.len() == 1));
    assert!(matches!(kind(1), ExprKind::Call { .. }));
    assert!(matches!(kind(2), ExprKind::Template(_)));
    assert!(matches!(kind(3), ExprKind::Gen(_)));
}

#[test]
fn assignments_say_whether_they_add() {
    let file = clean("var a = 1\na = 2\na += 3\na == 4");
    assert!(matches!(
        &file.body.stmts[1].kind,
        StmtKind::Assign { add: false, .. }
    ));
    assert!(matches!(
        &file.body.stmts[2].kind,
        StmtKind::Assign { add: true, .. }
    ));
    assert!(matches!(&file.body.stmts[3].kind, StmtKind::Expr(_)));
}

#[test]
fn marks_and_line_ends_do_not_disturb() {
    let file =
        clean("\u{FEFF}#!/usr/bin/env lmrun\r\nuser \"a\" // c\r\n// d\r\nassistant gen(b) // e");
    assert_eq!(file.body.stmts.len(), 2);
    let source = "user \"a\"   // c\n\nassistant gen(b)  \n";
    for stmt in clean(source).body.stmts {
        let text = &source[stmt.span.start..stmt.span.end];
        assert_eq!(text.trim_end(), text);
        assert!(!text.contains("//"));
    }
}

#[test]
fn deep_nesting_is_one_error_and_shallow_nesting_none() {
    let check = |source: &str| crate::check("deep.lmp", source, &crate::NoHost);
    // Chains nest in brackets: the tree would be as deep as both together.
    let chains = format!(
        "let x = {}1{}",
        "(".repeat(120),
        " + 1 + 1 + 1 + 1)".repeat(120)
    );
    assert!(
        check(&chains)
            .diagnostics
            .iter()
            .any(|found| found.code == "E004")
    );
    for (open, close) in [
        ("if true { ", "}"),
        ("loop max 1 { fork 1 { ", "} }"),
        ("match 1 { else => { ", "} }"),
    ] {
        let per = open.matches('{').count();
        let n = (MAX_DEPTH - 2) / per;
        let found = check(&format!(
            "{} user \"a\" {}",
            open.repeat(n),
            close.repeat(n)
        ))
        .diagnostics;
        assert!(found.iter().all(|found| !found.is_error()), "{found:?}");
    }
    for (open, close) in [
        ("[", "]"),
        ("(", ")"),
        ("{a:", "}"),
        ("f(", ")"),
        ("\"${", "}\""),
        ("-fork 2 {yield ", "}"),
    ] {
        // A string with a hole is two levels.
        let per = if open.contains('"') { 2 } else { 1 };
        let nested = |n: usize| format!("let x = {}1{}", open.repeat(n), close.repeat(n));
        clean(&nested(MAX_DEPTH / per - 1));
        check(&nested(MAX_DEPTH / per - 1));
        for n in [MAX_DEPTH / per + 1, 60_000] {
            let codes: Vec<&str> = parse(&nested(n)).1.iter().map(|found| found.code).collect();
            assert_eq!(codes, ["E004"], "{open} {n}");
        }
    }
}

#[test]
fn what_could_recurse_or_backtrack_is_refused() {
    // What the scan takes for other than brackets, the parser does not take for brackets.
    let brackets = "[".repeat(60_000);
    for hidden in [
        format!("let x = by / {brackets} / 2"),
        format!("let x = a.in / {brackets} / 2"),
        format!("let x = a\u{301} / {brackets} / 2"),
        format!("user /\"/ + {brackets} + \"\""),
        format!("loop max /\"/ + {brackets} + \"\" {{}}"),
    ] {
        assert!(!parse(&hidden).1.is_empty());
    }
    // An error at the bottom of nested roles is found without reading any level twice.
    let roles = format!(
        "{} = {}",
        "user { \"${f(fork 1 { ".repeat(25),
        "})}\" }".repeat(25)
    );
    assert!(!parse(&roles).1.is_empty());
    assert!(
        !parse(&format!("let x = {}", "\\/".repeat(500_000)))
            .1
            .is_empty()
    );
    for long in [
        format!("let x = {}1", "-".repeat(100_000)),
        format!("let x = 1{}", " + 1".repeat(100_000)),
        format!("let x = a{}", ".b".repeat(100_000)),
        format!("let x: int{} = 1", "?".repeat(100_000)),
        format!("if a {{}}{}", " else if a {}".repeat(50_000)),
        format!("let x = {}", "fork ".repeat(100_000)),
    ] {
        let found = parse(&long).1;
        assert!(
            found.iter().any(|found| found.code == "E004"),
            "{:?}",
            &found[..found.len().min(2)]
        );
    }
    let codes: Vec<&str> = parse(&" ".repeat(MAX_BYTES + 1))
        .1
        .iter()
        .map(|found| found.code)
        .collect();
    assert_eq!(codes, ["E005"]);
}

#[test]
fn an_error_costs_its_own_statement_only() {
    let source = "user \"a\"\nlet x = = 1\nif c {\n  let y = (\n  user \"b\"\n}\nuser \"c\"\nfn f() {\n  let z 4\n  user \"d\"\n}\n";
    let (file, found) = parse(source);
    assert_eq!(found.len(), 3, "{found:?}");
    let ItemKind::Fn(f) = &file.items[0].kind else {
        panic!()
    };
    assert_eq!(f.body.stmts.len(), 1);
    assert!(file.body.stmts.len() >= 2);
}
