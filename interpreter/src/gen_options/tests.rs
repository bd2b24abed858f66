//! Tests of generations' options.

use serde_json::json;

use super::*;

#[test]
fn every_option_of_the_language_can_be_set() {
    use lmrun_lang::{OptionValue, Place, options_of};
    for spec in options_of(Place::Gen) {
        let value = match spec.value {
            OptionValue::Int(low, _) | OptionValue::BoolOrInt(low, _) => json!(low),
            OptionValue::Float(low, _) => json!(low),
            OptionValue::Duration => json!(1000),
            OptionValue::Word(words) => json!(words[0]),
            OptionValue::Strings => json!("x"),
        };
        assert_eq!(
            GenOptions::default().set(spec.name, &value),
            Ok(()),
            "{}",
            spec.name
        );
    }
}

#[test]
fn a_value_out_of_range_names_both_sides() {
    let set = |name: &str, value| GenOptions::default().set(name, &value).unwrap_err();
    assert_eq!(
        set("top_p", json!(1.5)),
        "`top_p` is a number from 0 to 1, given 1.5"
    );
    assert_eq!(
        set("max_tokens", json!(0)),
        "`max_tokens` is a whole number from 1 to 16777216, given 0"
    );
    assert!(set("stop", json!(["a", ""])).contains("none empty"));
    assert!(set("stop", json!(["a", 1])).contains("none empty"));
    assert!(set("heal", json!("maybe")).contains("\"auto\" or \"off\""));
    assert!(set("stop_regex", json!("a")).contains("no option"));
}
