//! Why a constraint was refused, or a step of a matcher was.

use crate::TokenId;

/// Everything that can go wrong in this crate. Places are byte offsets in a regex and JSON pointers
/// in a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrammarError {
    /// The regex is malformed, or uses what is not supported.
    #[error("regex, byte {offset}: {message}")]
    Regex {
        /// Byte offset into the pattern.
        offset: usize,
        /// What is wrong there.
        message: String,
    },
    /// The schema is malformed, or uses what is not supported.
    #[error("{pointer}: {message}")]
    Schema {
        /// JSON pointer from the schema's root, as a URI fragment: `#/properties/a`.
        pointer: String,
        /// What is wrong there.
        message: String,
    },
    /// The grammar is malformed, or uses what is not supported.
    #[error("grammar, line {line}, column {column}: {message}")]
    Grammar {
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// Structural tags do not fit together.
    #[error("structural tags: {message}")]
    Tags {
        /// What is wrong.
        message: String,
    },
    /// A limit was passed.
    #[error("{what} passes the limit `{limit}` of {allowed}")]
    Limit {
        /// What passed it: the pattern, the schema's place, the output.
        what: String,
        /// Field of [`crate::Limits`].
        limit: &'static str,
        /// The value of that field.
        allowed: usize,
    },
    /// No output satisfies the constraint.
    #[error("no output satisfies the constraint: {reason}")]
    Empty {
        /// Why, where it is known.
        reason: String,
    },
    /// A token that is not legal here was offered.
    #[error("token {token} is not legal after {n_accepted} accepted tokens")]
    IllegalToken {
        /// The token.
        token: TokenId,
        /// Tokens accepted before it.
        n_accepted: usize,
    },
    /// A mask belongs to a vocabulary of another size.
    #[error("the mask holds {given} tokens, the vocabulary {expected}")]
    MaskSize {
        /// Tokens of the mask.
        given: usize,
        /// Tokens of the vocabulary.
        expected: usize,
    },
    /// The vocabulary lacks the bytes that must come next.
    #[error("no token of the vocabulary can come next; a token for every byte would prevent this")]
    NoToken,
    /// The output cannot be completed within the budget.
    #[error("completion needs {needed} tokens, the budget is {budget}")]
    Budget {
        /// Tokens that a completion may need.
        needed: usize,
        /// Tokens that were left.
        budget: usize,
    },
}
