//! Tests of the checker.

use super::*;

fn findings(source: &str) -> Vec<(&'static str, String)> {
    let checked = check("test.lmp", source, &NoHost);
    assert_eq!(
        checked.program.is_none(),
        checked.diagnostics.iter().any(Diagnostic::is_error)
    );
    checked
        .diagnostics
        .into_iter()
        .map(|found| (found.code, found.message))
        .collect()
}

#[test]
fn example_programs_are_clean() {
    for entry in std::fs::read_dir("../examples").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "lmp") {
            let found = findings(&std::fs::read_to_string(&path).unwrap());
            assert_eq!(found, Vec::new(), "{}", path.display());
        }
    }
}

/// Programs in which nothing is wrong: every construct, and what the checker could take for a mistake.
const RIGHT: [&str; 8] = [
    r#"
input a: string = "x"
input n: int(1..9) = 3
user "Hi ${a}"
assistant {
  gen(reply, max_tokens=5)
  " and then "
  select(sure: ["yes", "no"])
}
match sure {
  "yes" => { user "y" }
  "no" => user "n"
}
match reply { "a" => user "x" else => {} }
let xs = [1, 2, 3]
let m = max(xs) + n * 2 - len(a)
let b = { "k": a, n: m, deep: { list: [1.5, 2] } }
assert b.n > 2 && b["k"] != "" || b.deep.list[0] < 2, "msg ${m}"
return { p: scores(sure).yes, q: logprob(reply), m: mass(sure), t: top(scores(sure)) }
"#,
    r#"
input q: string = "?"
var last = null
user q
attempt 3 {
  assistant gen(sql: /SELECT [^;]+;/)
  assert len(sql) > 3, "too short"
} retry e {
  user "No: ${e.message}"
} else {
  return last
}
last = sql
return last ?? "none"
"#,
    r#"
type Leaf { value: int(0..9) }
type Node { left: Tree right: Tree }
type Tree = Leaf | Node
fn total(tree: Tree) -> int {
  match tree {
    Leaf leaf => return leaf.value
    Node node => return total(node.left) + total(node.right)
  }
}
user "A tree: ${format(Tree)}"
assistant gen(tree: Tree, max_tokens=200)
return total(tree)
"#,
    r#"
model "m" with (template="none", temperature=0.7, heal="auto")
budget (tokens=2k, time=90s)
part ask(question: string, shots: json[] = []) {
  for shot in shots { "Q: ${shot.q}\nA: ${shot.a}\n" }
  "Q: ${question}\nA:"
  gen(reply, max_tokens=20, stop=["\n", "Q:"])
}
ask("one")
ask("two", shots=[{ q: "a", a: "b" }])
gen(rest, max_tokens=5)
return rest
"#,
    r#"
part rules(tone: string = "kind") {
  system { "Be " tone_of(tone) }
}
part tone_of(tone: string) { "${tone}." }
rules()
pin "rules"
input names: string[](1..5) = ["Ada"]
var seen = []
for name in names {
  if name in seen { continue }
  user "Hello ${name}"
  assistant gen(reply, max_tokens=9)
  seen += [name]
  if len(seen) > 3 { break }
}
loop max 3 {
  assistant gen(more, max_tokens=5)
  if more matches /done.*/ { break }
}
return { seen: seen, more: more }
"#,
    r#"
input topics: string[](..9) = ["a", "b"]
user "Think."
let notes = fork topic in topics with (limit=4, timeout=20s, on_error="null") {
  user topic
  assistant gen(note, max_tokens=9)
  if len(note) > 3 { yield note }
  yield null
}
let numbers = fork 3 { yield 1 }
let first = fork s in ["x", "y"] with (first=1) { user s assistant gen(a, max_tokens=3) yield a }
let kept = [note ?? "-" for note in notes if note != null]
best 3 by logprob(answer) / len(answer) {
  assistant gen(answer, max_tokens=9)
}
return { kept: join(kept, ", "), sum: sum(numbers) + 0.5, answer: answer, first: first[0] }
"#,
    r#"
input deep: bool = false
user "Q"
if deep {
  assistant gen(answer, max_tokens=50)
} else if len("x") == 1 {
  assistant gen(answer, max_tokens=5)
} else {
  fail "never"
}
return answer
"#,
    r#"
type Verdict { reason: string(..80) score: int(1..5) }
fn judge(text: string, strict: bool = true) -> Verdict? {
  if text == "" { return null }
  system "Judge. ${format(Verdict)}"
  user { "Text: " "${text}" if strict { "\nBe strict." } }
  assistant gen(verdict: Verdict)
  return verdict
}
let verdicts = [judge(text) for text in ["a", "b"]]
let strictest = judge("c", strict=false)
assert strictest != null
return [round(v.score * 2) for v in verdicts if v != null && v.score >= 2]
"#,
];

#[test]
fn right_programs_have_no_findings() {
    for source in RIGHT {
        assert_eq!(findings(source), Vec::new(), "{source}");
    }
}

#[test]
fn warnings_do_not_crowd_out_errors() {
    let unused: String = (0..MAX_FINDINGS * 2)
        .map(|n| format!("let a{n} = {n}\n"))
        .collect();
    let found = findings(&format!("{unused}if true {{\n{unused}}}\nuser nothing\n"));
    assert!(found.iter().any(|(code, _)| *code == "E101"));
    assert!(found.len() <= 2 * MAX_FINDINGS);
}

/// Sources made to be slow to check. A quadratic or exponential search would keep this test from ending.
#[test]
fn hostile_sources_end() {
    let numbered = |n: usize, line: &dyn Fn(usize) -> String| (0..n).map(line).collect::<String>();
    for source in [
        numbered(10_000, &|i| format!("let a{i} = b{i}\n")),
        numbered(1_000, &|i| {
            format!(
                "type T{i} = T{} | {{ a: T{} }}\n",
                (i + 1) % 1_000,
                (i * 7) % 1_000
            )
        }),
        numbered(60, &|i| format!("type T{i} {{ a: T{0} b: T{0} }}\n", i + 1))
            + "type T60 = int\ninput x: T0",
        "let x0 = { a: 1 }\n".to_owned()
            + &numbered(200, &|i| {
                format!(
                    "let x{0} = {{ a: x{i}, b: x{i} }}\nassert x{i} == x{0}\n",
                    i + 1
                )
            }),
        numbered(50_000, &|i| format!("part p{i}() {{ p{}() }}\n", i + 1))
            + "part p50000() { \"x\" p0() }",
        numbered(5_000, &|_| "let = 3\n".to_owned()),
        numbered(5_000, &|_| "user \"a\n".to_owned()),
        numbered(5_000, &|i| {
            format!("if true {{ assistant gen(b{i}, max_tokens=5) }}\n")
        }),
        format!("user \"{}\"", "{{x".repeat(20_000)),
    ] {
        let checked = check("hostile.lmp", &source, &NoHost);
        assert!(checked.diagnostics.len() <= 3 * MAX_FINDINGS);
    }
}
