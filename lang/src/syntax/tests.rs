use super::*;

fn clean(source: &str) -> File {
    let (file, found) = parse(source);
    assert_eq!(found, Vec::new(), "{source}");
    file
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
fn tour_programs_parse() {
    for source in [
        include_str!("tour/hello.lmp"),
        include_str!("tour/extract.lmp"),
        include_str!("tour/review.lmp"),
        include_str!("tour/agent.lmp"),
        include_str!("tour/retry.lmp"),
    ] {
        clean(source);
    }
}

#[test]
fn zz_show() {
    for s in [
        "user \"abc\nlet x = 1\nassistant gen(a, max_tokens: 40)\nlet y = = 3\nif x { let q = ) }\nuser \"${x}\"\n",
        "fn f( {\n user \"a\"\n}\nlet z = [1, 2\nuser \"b\"\n",
        "let x =\nuser \"a\"\nfor i in [1] {\n let = 3\n let b = 4 5\n user b\n}\nelse {}\nmatch x { 1 = 2 }\nuser {{x}}\n",
        "let x = 'abc'\nuser Hello there\nlet gen = 5\nfor x [1] { fn g() {} }\ntype T { a string, b: }\nfn f() -> string { user \"a\" ",
        "let a = \"\\q ${ x y } z\"\nuser \"\"\"\n    a\n  b\n    \"\"\"\nlet n = 99999999999999999999\n",
        "if x \"text\"\nloop 5 { }\nbest 3 { }\ngen(x",
    ] {
        let (f, d) = parse(s);
        println!(
            "-----\n{s}\n=> {} items {} stmts",
            f.items.len(),
            f.body.stmts.len()
        );
        for x in d {
            println!(
                "{} {}..{} {} [{:?}]  {}",
                x.code,
                x.span.start,
                x.span.end,
                x.message,
                &s[x.span.start..x.span.end],
                x.help.unwrap_or_default()
            );
        }
    }
    let deep = "[".repeat(60000);
    let t = std::time::Instant::now();
    println!("{:?}", parse(&deep).1);
    println!("{:?}", t.elapsed());
    for (a, b) in [
        ("[", "]"),
        ("(", ")"),
        ("{a:", "}"),
        ("if x {", "}"),
        ("\"${", "}\""),
        ("f(", ")"),
        ("fork 2 {", "}"),
        ("user {", "}"),
        ("match x { _ => ", "}"),
        ("-fork 2 {yield ", "}"),
    ] {
        for n in [20, 127] {
            let n = if a.contains("match") || a.contains("\"") {
                n / 2
            } else {
                n
            };
            let src = format!(
                "let q = 1\n{}{}1{}\n",
                if a.starts_with("if") || a.starts_with("user") || a.starts_with("match") {
                    ""
                } else {
                    "let y = "
                },
                a.repeat(n),
                b.repeat(n)
            );
            let t = std::time::Instant::now();
            let d = parse(&src).1;
            println!(
                "{a} {n} {:?} {:?}",
                t.elapsed(),
                d.first().map(|x| &x.message)
            );
        }
    }
}
