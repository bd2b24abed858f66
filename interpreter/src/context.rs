//! What the model has seen: token ids that are fixed, and text that is not yet tokenised.
//!
//! Literals and interpolations between two boundaries are one *run*, tokenised once, so that splitting a template never
//! changes its tokens. Boundaries are the start and the end of a generation, the template's text between turns, and
//! fork points. Generated tokens stay the ids they were.

use std::sync::Arc;

use lmrun_lang::ast::Role;

use crate::backend::{Backend, TokenId, Tokens};
use crate::turns::Chat;

/// The context of one branch. A clone is a fork: it shares what it can.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    tokens: Arc<Vec<TokenId>>,
    /// Text of the program, not yet tokenised.
    run: String,
    /// How many of the last fixed tokens came from one run of program text: what healing may give back.
    n_healable: usize,
    /// The chat; none for plain completion.
    chat: Option<Chat>,
    /// The open turn.
    turn: Option<Role>,
}

impl Context {
    /// An empty context: a chat, or plain text.
    pub(crate) fn new(chat: bool) -> Self {
        Self {
            tokens: Arc::default(),
            run: String::new(),
            n_healable: 0,
            chat: chat.then(Chat::default),
            turn: None,
        }
    }

    /// Whether text in statement position belongs to the context here: in a turn, or anywhere in plain text.
    pub(crate) fn takes_text(&self) -> bool {
        self.chat.is_none() || self.turn.is_some()
    }

    /// The open turn.
    pub(crate) fn turn(&self) -> Option<Role> {
        self.turn
    }

    /// Opens a turn. The turn before is closed by the same piece of template text.
    ///
    /// # Errors
    /// Why there can be no such turn here.
    pub(crate) fn open_turn(&mut self, role: Role, backend: &dyn Backend) -> Result<(), String> {
        if self.turn.is_some() {
            return Err("a turn cannot stand inside another".into());
        }
        let Some(chat) = &mut self.chat else {
            return Err("the model is used without a template: there are no roles".into());
        };
        let gap = chat.open(role, backend)?;
        self.flush(backend.tokens());
        let gap = backend.tokens().encode_template(&gap);
        Arc::make_mut(&mut self.tokens).extend(gap);
        self.n_healable = 0;
        self.turn = Some(role);
        Ok(())
    }

    /// Ends the open turn. Its closing text follows with the next turn's opening.
    pub(crate) fn close_turn(&mut self) {
        self.turn = None;
    }

    /// Goes back to the turn that was open before a fault.
    pub(crate) fn set_turn(&mut self, turn: Option<Role>) {
        self.turn = turn;
    }

    /// The token with which the model itself would end the open turn.
    pub(crate) fn end_of_turn(&self, backend: &dyn Backend) -> Option<TokenId> {
        let closing = self.chat.as_ref()?.closing(backend).ok()?;
        let first = *backend.tokens().encode_template(&closing).first()?;
        backend.tokens().is_end(first).then_some(first)
    }

    /// Appends text of the program.
    pub(crate) fn push_text(&mut self, text: &str) {
        self.run.push_str(text);
    }

    /// Bytes of text not yet tokenised.
    pub(crate) fn n_pending_bytes(&self) -> usize {
        self.run.len()
    }

    /// Tokenises the run: a boundary.
    pub(crate) fn flush(&mut self, tokens: &dyn Tokens) {
        if self.run.is_empty() {
            return;
        }
        let fixed = Arc::make_mut(&mut self.tokens);
        if fixed.is_empty() && self.chat.is_none() {
            fixed.extend(tokens.begin());
        }
        let run = tokens.encode(&std::mem::take(&mut self.run));
        self.n_healable = run.len();
        fixed.extend(run);
    }

    /// Healing: takes back the last token of the run if the vocabulary could have gone on from it, and says which text
    /// must therefore begin what follows. Text that could run into one of `stops` is left where it is, and so are the
    /// only token of a context and a token that ends within a character.
    pub(crate) fn give_back(&mut self, tokens: &dyn Tokens, stops: &[String]) -> Option<String> {
        debug_assert!(
            self.run.is_empty(),
            "a run is tokenised before it is healed"
        );
        if self.n_healable == 0 || self.tokens.len() < 2 {
            return None;
        }
        let text = std::str::from_utf8(tokens.bytes(*self.tokens.last()?)?).ok()?;
        if text.is_empty() || !tokens.extends(text.as_bytes()) {
            return None;
        }
        if stops.iter().any(|stop| touches(text, stop)) {
            return None;
        }
        Arc::make_mut(&mut self.tokens).pop();
        self.n_healable = 0;
        Some(text.to_owned())
    }

    /// Appends generated tokens.
    pub(crate) fn push_tokens(&mut self, tokens: &[TokenId]) {
        Arc::make_mut(&mut self.tokens).extend_from_slice(tokens);
        self.n_healable = 0;
    }

    /// The fixed tokens.
    pub(crate) fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }
}

/// Whether `stop` could be found in text that begins with `text` and reach into it.
fn touches(text: &str, stop: &str) -> bool {
    text.contains(stop)
        || text
            .char_indices()
            .any(|(start, _)| stop.starts_with(&text[start..]))
}

#[cfg(test)]
mod tests;
