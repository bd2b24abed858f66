//! Why a constraint was not compiled, and the class of the reason that refusals are counted by.

use lmrun_grammar::GrammarError;
use serde_json::{Value, json};

/// Characters of a class; what follows is the single case's own.
const CLASS_CHARS: usize = 100;

/// A constraint that was not compiled.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The grammar crate refused it.
    #[error(transparent)]
    Grammar(#[from] GrammarError),
}

impl Refusal {
    /// Whether it is an answer rather than a refusal: nothing satisfies the constraint, so no instance is valid.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Grammar(GrammarError::Empty { .. }))
    }

    /// The class it is counted by: its message without places and numbers.
    pub fn class(&self) -> String {
        match self {
            Self::Grammar(GrammarError::Schema { message, .. }) => without_numbers(message),
            Self::Grammar(GrammarError::Regex { message, .. }) => {
                without_numbers(&format!("regex: {message}"))
            }
            Self::Grammar(GrammarError::Limit { limit, .. }) => format!("limit `{limit}`"),
            Self::Grammar(other) => without_numbers(&other.to_string()),
        }
    }

    /// As JSON: `message`, and `pointer` or `offset` where the place is known.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Grammar(GrammarError::Schema { pointer, message }) => {
                json!({"message": message, "pointer": pointer})
            }
            Self::Grammar(GrammarError::Regex { offset, message }) => {
                json!({"message": message, "offset": offset})
            }
            other => json!({"message": other.to_string()}),
        }
    }
}

/// The first line with every number as `N`.
fn without_numbers(message: &str) -> String {
    let mut class = String::new();
    let mut in_number = false;
    let line = message.lines().next().unwrap_or_default();
    for character in line.chars().take(CLASS_CHARS) {
        let is_digit = character.is_ascii_digit();
        match (is_digit, in_number) {
            (false, _) => class.push(character),
            (true, false) => class.push('N'),
            (true, true) => {}
        }
        in_number = is_digit;
    }
    class
}

#[cfg(test)]
mod tests;
