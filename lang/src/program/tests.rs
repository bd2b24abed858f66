//! Tests of what a checked program answers.

use serde_json::json;

use super::*;

fn program(source: &str) -> Program {
    let (ast, found) = crate::parse(source);
    assert_eq!(found, Vec::new());
    Program::new("test.lmp", source, ast)
}

const PERSON: &str = r#"
type Person {
  /// Name exactly as written
  name: string(1..80)
  age: int(0..150)
  born?: /\d{4}/
  mood: "calm" | "angry"
  langs: string[](..5)
  boss: Person?
}
type Point { x: float y: float }
type Either = Point | null | json
"#;

#[test]
fn schemas_keep_order_bounds_and_recursion() {
    let program = program(PERSON);
    let person = Type {
        kind: TypeKind::Named(
            Name {
                text: "Person".into(),
                span: Default::default(),
            },
            None,
        ),
        span: Default::default(),
    };
    let schema = program.json_schema(&person);
    assert_eq!(schema["$ref"], "#/$defs/Person");
    let definition = &schema["$defs"]["Person"];
    assert_eq!(
        definition["properties"],
        json!({
            "name": { "type": "string", "minLength": 1, "maxLength": 80, "description": "Name exactly as written" },
            "age": { "type": "integer", "minimum": 0, "maximum": 150 },
            "born": { "type": "string", "pattern": "^(?:\\d{4})$" },
            "mood": { "enum": ["calm", "angry"] },
            "langs": { "type": "array", "items": { "type": "string" }, "maxItems": 5 },
            "boss": { "anyOf": [{ "$ref": "#/$defs/Person" }, { "type": "null" }] },
        })
    );
    assert_eq!(
        definition["required"],
        json!(["name", "age", "mood", "langs", "boss"])
    );
    assert_eq!(definition["additionalProperties"], json!(false));
    let keys: Vec<&String> = definition["properties"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert_eq!(keys, ["name", "age", "born", "mood", "langs", "boss"]);
    let either = program.type_of_name("Either").unwrap();
    assert_eq!(
        program.json_schema(either)["anyOf"][1],
        json!({ "const": null })
    );
    assert_eq!(program.json_schema(either)["anyOf"][2], json!({}));
}

#[test]
fn descriptions_show_docs_and_bounds() {
    let program = program(PERSON);
    assert_eq!(
        program.describe(program.type_of_name("Point").unwrap()),
        r#"{ "x": number, "y": number }"#
    );
    assert_eq!(
        program.describe(program.type_of_name("Person").unwrap()),
        r#"{
  // Name exactly as written
  "name": string, // 1 to 80 characters
  "age": int, // 0 to 150
  "born"?: string, // matches /\d{4}/
  "mood": "calm" | "angry",
  "langs": string[], // at most 5 items
  "boss": Person | null
}
Person = {
  // Name exactly as written
  "name": string, // 1 to 80 characters
  "age": int, // 0 to 150
  "born"?: string, // matches /\d{4}/
  "mood": "calm" | "angry",
  "langs": string[], // at most 5 items
  "boss": Person | null
}"#
    );
}
