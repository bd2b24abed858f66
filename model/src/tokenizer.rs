//! Text to tokens and back.

use crate::TokenId;

/// Whether the text of a special token stands for that token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Specials {
    /// `<|im_start|>` in the text is the special token of that name.
    Parse,
    /// `<|im_start|>` in the text is only characters: what a user typed cannot become control.
    AsText,
}

/// A checkpoint's tokenizer.
pub struct Tokenizer {
    end_tokens: Vec<TokenId>,
}

impl Tokenizer {
    /// The tokens of `text`, without any begin-of-sequence token (see [`Tokenizer::bos`]).
    #[must_use]
    pub fn encode(&self, text: &str, specials: Specials) -> Vec<TokenId> {
        let _ = (text, specials);
        Vec::new()
    }

    /// The text of `tokens`; bytes that are no UTF-8 become U+FFFD, special tokens their names.
    #[must_use]
    pub fn decode(&self, tokens: &[TokenId]) -> String {
        let _ = tokens;
        String::new()
    }

    /// The exact bytes of an ordinary token; `None` for a special or unknown one.
    #[must_use]
    pub fn token_bytes(&self, token: TokenId) -> Option<&[u8]> {
        let _ = token;
        None
    }

    /// The number of token ids; ids run from 0.
    #[must_use]
    pub fn n_vocab(&self) -> usize {
        0
    }

    /// The special token with this exact text.
    #[must_use]
    pub fn special_id(&self, text: &str) -> Option<TokenId> {
        let _ = text;
        None
    }

    /// Whether `token` is a special token.
    #[must_use]
    pub fn is_special(&self, token: TokenId) -> bool {
        let _ = token;
        false
    }

    /// Every token at which the checkpoint says that generation ends.
    #[must_use]
    pub fn end_tokens(&self) -> &[TokenId] {
        &self.end_tokens
    }

    /// The token that the checkpoint puts before every text, if it does.
    #[must_use]
    pub fn bos(&self) -> Option<TokenId> {
        None
    }
}
