//! A chat, turn by turn, out of a template that only renders whole chats.
//!
//! The template is rendered with a unique *sentinel* in place of each turn's content. What stands between two sentinels
//! is a *gap*: the end of one turn and the opening of the next, and before the first sentinel the template's own
//! preamble (a begin token, a default system prompt). A gap once sent cannot be taken back, so every later render must
//! repeat the earlier gaps; a template that rewrites its past is refused. Contents never pass through the template: the
//! text of a program is sent as it is.

use lmrun_lang::ast::Role;
use serde_json::{Value, json};

use crate::backend::Backend;

/// The turns so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chat {
    turns: Vec<Turn>,
}

#[derive(Debug, Clone)]
struct Turn {
    /// The role as the template knows it.
    role: &'static str,
    /// What was sent before the turn's content.
    gap: String,
}

impl Chat {
    /// Opens a turn: the template text to send before its content.
    ///
    /// # Errors
    /// Why the template cannot render the turn, or cannot be extended by it.
    pub(crate) fn open(&mut self, role: Role, backend: &dyn Backend) -> Result<String, String> {
        let (role, gap) = match role {
            Role::System => ("system", self.gap("system", backend)?),
            Role::User => ("user", self.gap("user", backend)?),
            Role::Assistant => ("assistant", self.generation_gap(backend)?),
            Role::Observe => match self.gap("tool", backend) {
                Ok(gap) => ("tool", gap),
                Err(_) => ("user", self.gap("user", backend)?),
            },
        };
        self.turns.push(Turn {
            role,
            gap: gap.clone(),
        });
        Ok(gap)
    }

    /// What the template writes after the content of the open turn.
    ///
    /// # Errors
    /// Why the template cannot render the chat.
    pub(crate) fn closing(&self, backend: &dyn Backend) -> Result<String, String> {
        let rendered = backend.render_chat(&self.messages(None), false)?;
        let mut gaps = self.split(&rendered, self.turns.len())?;
        Ok(gaps.pop().unwrap_or_default())
    }

    /// The gap before a turn of `role`.
    fn gap(&self, role: &'static str, backend: &dyn Backend) -> Result<String, String> {
        let rendered = backend.render_chat(&self.messages(Some(role)), false)?;
        let gaps = self.split(&rendered, self.turns.len() + 1)?;
        Ok(gaps.into_iter().nth(self.turns.len()).unwrap_or_default())
    }

    /// The gap before an assistant's turn, as the template opens one for the model.
    fn generation_gap(&self, backend: &dyn Backend) -> Result<String, String> {
        let rendered = backend.render_chat(&self.messages(None), true)?;
        let mut gaps = self.split(&rendered, self.turns.len())?;
        Ok(gaps.pop().unwrap_or_default())
    }

    fn messages(&self, next: Option<&str>) -> Value {
        let roles = self.turns.iter().map(|turn| turn.role).chain(next);
        let message = |(idx, role)| json!({ "role": role, "content": sentinel(idx) });
        Value::Array(roles.enumerate().map(message).collect())
    }

    /// The gaps before each of `n_contents` sentinels and the text after the last. The gaps that were sent must be the
    /// same again; before an assistant's content white space may differ, since some templates write there what the
    /// model itself generates.
    fn split(&self, rendered: &str, n_contents: usize) -> Result<Vec<String>, String> {
        let mut gaps = Vec::with_capacity(n_contents + 1);
        let mut rest = rendered;
        for idx in 0..n_contents {
            let mark = sentinel(idx);
            let (gap, after) = rest.split_once(&mark).ok_or_else(|| {
                format!(
                    "the chat template leaves out the content of turn {}",
                    idx + 1
                )
            })?;
            gaps.push(gap.to_owned());
            rest = after;
        }
        gaps.push(rest.to_owned());
        for (turn, gap) in self.turns.iter().zip(&gaps) {
            let same = match turn.role {
                "assistant" => turn.gap.trim_end() == gap.trim_end(),
                _ => turn.gap == *gap,
            };
            if !same {
                return Err(format!(
                    "this chat template cannot be extended turn by turn: it rewrites earlier text ({:?} became {:?})",
                    turn.gap, gap
                ));
            }
        }
        Ok(gaps)
    }
}

/// A content that no template knows; the closing bar keeps 1 from being found in 10.
fn sentinel(idx: usize) -> String {
    format!("LMRUN|CONTENT|{idx}|")
}

#[cfg(test)]
mod tests;
