//! Expected texts were written down from Python's and Jinja's documented behaviour.

use serde_json::{Value, json};

use super::python::strftime;
use super::*;

fn render(source: &str, messages: &Value) -> String {
    let tokens = vec![("bos_token".to_owned(), "<s>".to_owned())];
    ChatTemplate::new(source, tokens)
        .unwrap()
        .render(messages, None, true)
        .unwrap()
}

#[test]
fn chat_ml_prompts() {
    let source = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + \
                  message['content'] + '<|im_end|>' + '\n'}}{% endfor %}\
                  {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    let messages = json!([{"role": "user", "content": "Hi <b>you</b>"}]);
    assert_eq!(
        render(source, &messages),
        "<|im_start|>user\nHi <b>you</b><|im_end|>\n<|im_start|>assistant\n"
    );
}

#[test]
fn blocks_are_trimmed_and_stripped() {
    let source =
        "{% for m in messages %}\n    {% if true %}\n{{ m }}\n    {% endif %}\n{% endfor %}\n";
    assert_eq!(render(source, &json!(["a", "b"])), "a\nb\n");
}

#[test]
fn loops_can_break_and_continue() {
    let source = "{% for m in messages %}{% if m == 2 %}{% continue %}{% endif %}\
                  {% if m == 4 %}{% break %}{% endif %}{{ m }}{% endfor %}";
    assert_eq!(render(source, &json!([1, 2, 3, 4, 5])), "13");
}

#[test]
fn python_methods_work() {
    let source = "{{ messages[0].get('role').upper() }} {{ ' x '.strip() }} \
                  {% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}\
                  {{ 'a,b'.split(',')[1] }}{{ 'abc'.startswith('ab') }}";
    assert_eq!(
        render(source, &json!([{"role": "user", "x": 1}])),
        "USER x role=user;x=1;bTrue"
    );
}

#[test]
fn values_print_as_python_prints_them() {
    let messages =
        json!([null, true, 1.0, 1e16, 1e-5, "it's", {"a": ["b", 'c'.to_string(), false]}]);
    let source = "{% for m in messages %}{{ m }}|{% endfor %}{{ messages[5:] }}";
    assert_eq!(
        render(source, &messages),
        "None|True|1.0|1e+16|1e-05|it's|{'a': ['b', 'c', False]}|[\"it's\", {'a': ['b', 'c', False]}]"
    );
}

#[test]
fn to_json_is_python_s_dumps() {
    let value = json!([{"name": "f", "b": [1, 2.0, null], "a": "<ü&\"\u{7}>", "e": {}, "l": []}]);
    assert_eq!(
        render("{{ messages | tojson }}", &value),
        r#"[{"name": "f", "b": [1, 2.0, null], "a": "<ü&\"\u0007>", "e": {}, "l": []}]"#
    );
    assert_eq!(
        render("{{ messages[0].b | tojson(indent=2) }}", &value),
        "[\n  1,\n  2.0,\n  null\n]"
    );
    assert_eq!(
        render(
            "{{ messages | tojson(separators=(',', ':'), sort_keys=true, ensure_ascii=true) }}",
            &value
        ),
        r#"[{"a":"<\u00fc&\"\u0007>","b":[1,2.0,null],"e":{},"l":[],"name":"f"}]"#
    );
}

#[test]
fn special_tokens_and_absent_tools() {
    assert_eq!(
        render(
            "{{ bos_token }}{{ tools is none }}{% if tools %}x{% endif %}",
            &json!([])
        ),
        "<s>True"
    );
}

#[test]
fn raised_exceptions_keep_their_words() {
    let template =
        ChatTemplate::new("{{ raise_exception('Roles must alternate') }}", vec![]).unwrap();
    let error = template.render(&json!([]), None, false).unwrap_err();
    assert!(matches!(&error, ModelError::TemplateRaised(text) if text == "Roles must alternate"));
}

#[test]
fn generation_tags_are_transparent() {
    let source =
        "a {%- generation -%} b {%- endgeneration %} c{% generation %}\nd{% endgeneration %}";
    assert_eq!(render(source, &json!([])), "ab cd");
}

#[test]
fn endless_and_huge_templates_are_refused() {
    let counts = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
    let prints = "{% for a in range(99999) %}{{ messages[0] }}{% endfor %}";
    for source in [counts, prints] {
        let template = ChatTemplate::new(source, vec![]).unwrap();
        let error = template
            .render(&json!(["x".repeat(10_000)]), None, false)
            .unwrap_err();
        assert!(matches!(error, ModelError::Template(_)), "{error}");
    }
}

#[test]
fn what_does_not_parse_names_its_line() {
    let error = ChatTemplate::new("a\n{% if %}", vec![]).err().unwrap();
    assert!(error.to_string().contains("line 2"), "{error}");
}

#[test]
fn dates_of_known_days() {
    for (seconds, expected) in [
        (0, "01 Jan 1970 Thursday 00:00:00"),
        (951_782_400, "29 Feb 2000 Tuesday 00:00:00"),
        (1_735_689_599, "31 Dec 2024 Tuesday 23:59:59"),
        (4_107_542_400, "01 Mar 2100 Monday 00:00:00"),
    ] {
        assert_eq!(strftime("%d %b %Y %A %H:%M:%S", seconds).unwrap(), expected);
    }
    assert!(strftime("%Q", 0).is_err());
}

/// The constructs of each family's template, in small ones of our own: what Transformers' renderer makes of them, as
/// `tests/peers/chat_templates.py` has written it down.
#[test]
fn templates_of_the_families_render_as_in_transformers() {
    for line in include_str!("../tests/data/templates.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| case[key].as_str().unwrap();
        let tokens = [("bos_token", "<s>"), ("eos_token", "</s>")];
        let tokens = tokens.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let template = ChatTemplate::new(text("template"), tokens.to_vec()).unwrap();
        let tools = Some(&case["tools"]).filter(|tools| !tools.is_null());
        let is_open = case["add_generation_prompt"] == json!(true);
        let given = template.render(&case["messages"], tools, is_open);
        assert_eq!(given.unwrap(), text("expected"), "{}", text("name"));
    }
}
