//! Tests of contexts.

use super::*;
use crate::ScriptBackend;

fn backend() -> ScriptBackend {
    ScriptBackend::new().with_words(&["ab", "abc", "é", "\n\n"])
}

fn after(text: &str) -> Context {
    let mut context = Context::new(false);
    context.push_text(text);
    context.flush(backend().tokens());
    context
}

fn give_back(context: &mut Context, stops: &[&str]) -> Option<String> {
    let stops: Vec<String> = stops.iter().map(|&stop| stop.to_owned()).collect();
    context.give_back(backend().tokens(), &stops)
}

#[test]
fn a_run_is_tokenised_once() {
    let mut pieces = Context::new(false);
    for piece in ["x", "a", "b", "c"] {
        pieces.push_text(piece);
    }
    pieces.flush(backend().tokens());
    assert_eq!(pieces.tokens(), after("xabc").tokens());
}

#[test]
fn a_boundary_is_kept() {
    let mut context = after("xa");
    context.push_text("b");
    context.flush(backend().tokens());
    assert_ne!(context.tokens(), after("xab").tokens());
    assert_eq!(context.tokens().len(), 4);
}

#[test]
fn only_a_token_that_could_go_on_is_given_back() {
    assert_eq!(give_back(&mut after("xab"), &[]), Some("ab".into()));
    assert_eq!(give_back(&mut after("xa"), &[]), Some("a".into()));
    assert_eq!(give_back(&mut after("xabc"), &[]), None);
    assert_eq!(give_back(&mut after("ax"), &[]), None);
}

#[test]
fn generated_tokens_are_never_given_back() {
    let mut context = after("x");
    context.push_tokens(&[u32::from(b'a')]);
    assert_eq!(give_back(&mut context, &[]), None);
}

#[test]
fn half_a_character_is_never_given_back() {
    // The word "é" goes on from the byte 0xc3, which is no text by itself.
    let mut context = after("x");
    context.push_tokens(&[0xc3]);
    context.n_healable = 1;
    assert_eq!(give_back(&mut context, &[]), None);
}

#[test]
fn text_that_a_stop_could_reach_into_is_kept() {
    assert_eq!(give_back(&mut after("x\n"), &["\n"]), None);
    assert_eq!(give_back(&mut after("x\n"), &["\nA"]), None);
    assert_eq!(give_back(&mut after("x\n"), &["A\n"]), Some("\n".into()));
}

#[test]
fn a_clone_goes_its_own_way() {
    let mut one = after("x");
    let mut two = one.clone();
    one.push_tokens(&[1]);
    two.push_tokens(&[2, 3]);
    assert_eq!((one.tokens().len(), two.tokens().len()), (3, 4));
}

#[test]
fn a_turn_stands_in_no_other() {
    let backend = backend();
    let mut context = Context::new(true);
    context.open_turn(Role::User, &backend).unwrap();
    assert!(context.open_turn(Role::User, &backend).is_err());
    context.close_turn();
    assert!(context.open_turn(Role::User, &backend).is_ok());
}
