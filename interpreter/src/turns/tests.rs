//! Tests of turns.

use lmrun_lang::ast::Role;
use serde_json::Value;

use super::*;
use crate::backend::{Capabilities, Cost, Generate, Generated, Prompt, Token, TokenId, Tokens};
use crate::{BackendError, ScriptBackend};

/// A backend that is nothing but a template.
struct Template<F>(F, ScriptBackend);

#[async_trait::async_trait]
impl<F> Backend for Template<F>
where
    F: Fn(&[(&str, &str)], bool) -> Result<String, String> + Send + Sync,
{
    fn capabilities(&self) -> Capabilities {
        self.1.capabilities()
    }
    fn tokens(&self) -> &dyn Tokens {
        self.1.tokens()
    }
    fn render_chat(&self, messages: &Value, prompt: bool) -> Result<String, String> {
        let messages: Vec<(&str, &str)> = messages
            .as_array()
            .unwrap()
            .iter()
            .map(|message| {
                (
                    message["role"].as_str().unwrap(),
                    message["content"].as_str().unwrap(),
                )
            })
            .collect();
        (self.0)(&messages, prompt)
    }
    async fn generate(
        &self,
        _: Prompt,
        _: Generate,
        _: &mut (dyn for<'t> FnMut(&'t Token) + Send),
    ) -> Result<Generated, BackendError> {
        unreachable!("only the template is asked")
    }
    async fn score(
        &self,
        _: Prompt,
        _: Vec<Vec<TokenId>>,
    ) -> Result<(Vec<Vec<f32>>, Cost), BackendError> {
        unreachable!("only the template is asked")
    }
    async fn publish(&self, _: Prompt) -> Result<Cost, BackendError> {
        unreachable!("only the template is asked")
    }
}

fn gaps(
    roles: &[Role],
    template: impl Fn(&[(&str, &str)], bool) -> Result<String, String> + Send + Sync,
) -> Result<Vec<String>, String> {
    let backend = Template(template, ScriptBackend::new());
    let mut chat = Chat::default();
    roles
        .iter()
        .map(|&role| chat.open(role, &backend))
        .collect()
}

/// ChatML with a default system prompt, as SmolLM2 has it.
fn smol(messages: &[(&str, &str)], prompt: bool) -> Result<String, String> {
    let mut text = String::new();
    if messages.first().is_some_and(|(role, _)| *role != "system") {
        text += "<s>system\nDefault.</s>\n";
    }
    for (role, content) in messages {
        text += &format!("<s>{role}\n{content}</s>\n");
    }
    Ok(text + if prompt { "<s>assistant\n" } else { "" })
}

/// `[INST]` turns, where the answer follows a space that the model generates itself.
fn inst(messages: &[(&str, &str)], _prompt: bool) -> Result<String, String> {
    let mut text = "<bos>".to_owned();
    for (idx, (role, content)) in messages.iter().enumerate() {
        match (*role, idx % 2) {
            ("user", 0) => text += &format!("[INST] {} [/INST]", content.trim()),
            ("assistant", 1) => text += &format!(" {}</s>", content.trim()),
            _ => return Err("roles must alternate".into()),
        }
    }
    Ok(text)
}

/// Drops what an earlier assistant turn was opened with, as thinking templates do.
fn rewriting(messages: &[(&str, &str)], prompt: bool) -> Result<String, String> {
    let mut text = String::new();
    for (idx, (role, content)) in messages.iter().enumerate() {
        let thought = if idx + 1 == messages.len() && *role == "user" {
            "(new)"
        } else {
            ""
        };
        text += &format!("<{role}>{thought}{content}");
    }
    Ok(text + if prompt { "<assistant>" } else { "" })
}

#[test]
fn gaps_are_what_the_template_writes_between_contents() {
    let roles = [Role::User, Role::Assistant, Role::User, Role::Assistant];
    assert_eq!(
        gaps(&roles, smol).unwrap(),
        [
            "<s>system\nDefault.</s>\n<s>user\n",
            "</s>\n<s>assistant\n",
            "</s>\n<s>user\n",
            "</s>\n<s>assistant\n"
        ]
    );
    assert_eq!(
        gaps(&[Role::System, Role::User], smol).unwrap(),
        ["<s>system\n", "</s>\n<s>user\n"]
    );
}

#[test]
fn the_space_before_an_answer_may_be_the_models_own() {
    let roles = [Role::User, Role::Assistant, Role::User];
    assert_eq!(
        gaps(&roles, inst).unwrap(),
        ["<bos>[INST] ", " [/INST]", "</s>[INST] "]
    );
}

#[test]
fn a_template_that_refuses_a_turn_is_quoted() {
    assert_eq!(
        gaps(&[Role::User, Role::User], inst),
        Err("roles must alternate".into())
    );
}

#[test]
fn a_template_that_rewrites_its_past_is_refused() {
    let error = gaps(&[Role::User, Role::Assistant, Role::User], rewriting).unwrap_err();
    assert!(error.contains("cannot be extended turn by turn"), "{error}");
}

#[test]
fn observe_is_a_tool_where_the_template_knows_tools() {
    assert_eq!(
        gaps(&[Role::User, Role::Observe], smol).unwrap()[1],
        "</s>\n<s>tool\n"
    );
    let toolless = |messages: &[(&str, &str)], prompt| {
        if messages.iter().any(|(role, _)| *role == "tool") {
            return Err("what is a tool?".into());
        }
        smol(messages, prompt)
    };
    assert_eq!(
        gaps(&[Role::User, Role::Observe], toolless).unwrap()[1],
        "</s>\n<s>user\n"
    );
}

#[test]
fn a_template_that_swallows_a_turn_is_refused() {
    let systemless = |messages: &[(&str, &str)], prompt| {
        let kept: Vec<_> = messages
            .iter()
            .copied()
            .filter(|(role, _)| *role != "system")
            .collect();
        smol(&kept, prompt)
    };
    let error = gaps(&[Role::System], systemless).unwrap_err();
    assert!(
        error.contains("leaves out the content of turn 1"),
        "{error}"
    );
}

#[test]
fn the_closing_is_what_follows_the_last_content() {
    let backend = Template(smol, ScriptBackend::new());
    let mut chat = Chat::default();
    chat.open(Role::User, &backend).unwrap();
    chat.open(Role::Assistant, &backend).unwrap();
    assert_eq!(chat.closing(&backend).unwrap(), "</s>\n");
}

#[test]
fn many_turns_keep_their_sentinels_apart() {
    let roles: Vec<Role> = (0..120)
        .map(|idx| {
            if idx % 2 == 0 {
                Role::User
            } else {
                Role::Assistant
            }
        })
        .collect();
    let gaps = gaps(&roles, smol).unwrap();
    assert!(gaps[1..].iter().all(|gap| gap.starts_with("</s>\n<s>")));
}
