//! Classes of refusals.

use super::*;

#[test]
fn a_class_has_no_place_and_no_numbers() {
    let refusal = |pointer: &str, message: &str| {
        Refusal::Grammar(GrammarError::Schema {
            pointer: pointer.into(),
            message: message.into(),
        })
    };
    let class = refusal("#/a/1", "`not` within 12 levels of 3").class();
    assert_eq!(class, "`not` within N levels of N");
    assert_eq!(
        class,
        refusal("#/b", "`not` within 7 levels of 440").class()
    );
}

#[test]
fn limits_are_counted_by_their_name() {
    let refusal = Refusal::Grammar(GrammarError::Limit {
        what: "#/properties/a".into(),
        limit: "depth",
        allowed: 128,
    });
    assert_eq!(refusal.class(), "limit `depth`");
}

#[test]
fn a_place_is_a_member_of_its_own() {
    let refusal = Refusal::Grammar(GrammarError::Regex {
        offset: 3,
        message: "no".into(),
    });
    assert_eq!(refusal.to_json(), json!({"message": "no", "offset": 3}));
}
