//! Tests of scopes.

use serde_json::json;

use super::*;

#[test]
fn an_inner_block_hides_and_gives_back() {
    let mut scope = Scope::over(None);
    scope.bind("x", json!(1), false);
    scope.enter();
    scope.bind("x", json!(2), false);
    assert_eq!(*scope.find("x").unwrap().value, json!(2));
    scope.leave_to(1);
    assert_eq!(*scope.find("x").unwrap().value, json!(1));
}

#[test]
fn a_generation_outlives_its_block() {
    let record = GenRecord {
        value: json!("v"),
        text: "v".into(),
        tokens: 1,
        logprob: 0.0,
        finish: "end",
        scores: None,
        mass: None,
    };
    let mut scope = Scope::over(None);
    scope.enter();
    scope.bind_generation("g", record);
    scope.leave_to(1);
    assert!(scope.find("g").unwrap().record.is_some());
}

#[test]
fn what_is_frozen_is_read_only_until_it_thaws() {
    let mut scope = Scope::over(None);
    scope.bind("v", json!(1), true);
    let frozen = scope.freeze();
    let mut branch = Scope::over(Some(Arc::clone(&frozen)));
    assert_eq!(*branch.find("v").unwrap().value, json!(1));
    assert_eq!(branch.variable("v").unwrap_err(), AssignError::Outer);
    branch.bind("w", json!(2), true);
    assert!(branch.variable("w").is_ok());
    drop((branch, frozen));
    scope.thaw();
    *scope.variable("v").unwrap() = Arc::new(json!(3));
    assert_eq!(*scope.find("v").unwrap().value, json!(3));
}

#[test]
fn only_a_var_is_written() {
    let mut scope = Scope::over(None);
    scope.bind("l", json!(1), false);
    assert_eq!(scope.variable("l").unwrap_err(), AssignError::Immutable);
    assert_eq!(scope.variable("none").unwrap_err(), AssignError::Undefined);
}

#[test]
fn a_thaw_with_a_branch_still_there_copies() {
    let mut scope = Scope::over(None);
    scope.bind("v", json!(1), true);
    let held = scope.freeze();
    scope.thaw();
    *scope.variable("v").unwrap() = Arc::new(json!(2));
    assert_eq!(*Scope::over(Some(held)).find("v").unwrap().value, json!(1));
}
