//! Text to tokens and back.
//!
//! *Special* tokens steer the model and stand for no text of their own; *ordinary* ones stand for
//! exact bytes. Byte-level BPE runs on the `tokenizers` crate, SentencePiece on [`spm`]; where the
//! vocabulary comes from is the business of [`gguf`] and [`folder`].

pub(crate) mod byte_level;
pub(crate) mod folder;
pub(crate) mod gguf;
mod spm;
#[cfg(test)]
mod tests;

use aho_corasick::AhoCorasick;

use crate::TokenId;
use spm::SentencePiece;

/// Whether the text of a special token stands for that token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Specials {
    /// `<|im_start|>` in the text is the special token of that name.
    Parse,
    /// `<|im_start|>` in the text is only characters: what a user typed cannot become control.
    AsText,
}

/// One token of a vocabulary.
#[derive(Debug, Clone)]
struct Token {
    /// As the checkpoint writes it; of a special token, its name.
    text: String,
    /// What it stands for; `None` for special tokens.
    bytes: Option<Vec<u8>>,
}

/// What turns ordinary text into tokens.
enum Encoder {
    Crate(Box<tokenizers::Tokenizer>),
    SentencePiece(SentencePiece),
}

/// What finds added tokens, special ones among them, in text.
enum Added {
    /// Leftmost, longest first; the text between is encoded on its own.
    Exact {
        finder: AhoCorasick,
        ids: Vec<TokenId>,
    },
    /// The checkpoint's own rules for white space around added tokens, as its `tokenizer.json` has them.
    Crate(Box<tokenizers::Tokenizer>),
}

/// A checkpoint's tokenizer.
pub struct Tokenizer {
    tokens: Vec<Token>,
    encoder: Encoder,
    added: Added,
    end_tokens: Vec<TokenId>,
    bos: Option<TokenId>,
    /// Whether encoding puts a space before a text, which decoding then takes off.
    adds_space: bool,
}

impl Encoder {
    fn encode(&self, text: &str, is_first: bool, tokens: &mut Vec<TokenId>) {
        match self {
            Encoder::Crate(tokenizer) => tokens.extend(encode_with(tokenizer, text)),
            Encoder::SentencePiece(pieces) => pieces.encode(text, is_first, tokens),
        }
    }
}

fn encode_with(tokenizer: &tokenizers::Tokenizer, text: &str) -> Vec<TokenId> {
    let encoding = tokenizer.encode_fast(text, false);
    encoding
        .expect("no step of a supported tokenizer can fail")
        .get_ids()
        .to_vec()
}

impl Tokenizer {
    /// The tokens of `text`, without any begin-of-sequence token (see [`Tokenizer::bos`]).
    #[must_use]
    pub fn encode(&self, text: &str, specials: Specials) -> Vec<TokenId> {
        let mut tokens = Vec::new();
        match (&self.added, specials) {
            (Added::Crate(tokenizer), Specials::Parse) => tokens = encode_with(tokenizer, text),
            (Added::Exact { finder, ids }, Specials::Parse) => {
                let mut end = 0;
                for found in finder.find_iter(text) {
                    self.encode_part(&text[end..found.start()], end == 0, &mut tokens);
                    tokens.push(ids[found.pattern().as_usize()]);
                    end = found.end();
                }
                self.encode_part(&text[end..], end == 0, &mut tokens);
            }
            (_, Specials::AsText) => self.encode_part(text, true, &mut tokens),
        }
        tokens
    }

    fn encode_part(&self, text: &str, is_first: bool, tokens: &mut Vec<TokenId>) {
        if !text.is_empty() {
            self.encoder.encode(text, is_first, tokens);
        }
    }

    /// The text of `tokens`; bytes that are no UTF-8 become U+FFFD, special tokens their names. A space
    /// that encoding would have put before the text is taken off.
    #[must_use]
    pub fn decode(&self, tokens: &[TokenId]) -> String {
        let mut bytes = Vec::new();
        for token in tokens
            .iter()
            .filter_map(|token| self.tokens.get(*token as usize))
        {
            bytes.extend_from_slice(token.bytes.as_deref().unwrap_or(token.text.as_bytes()));
        }
        let bytes = match bytes.strip_prefix(b" ") {
            Some(rest) if self.adds_space => rest,
            _ => &bytes,
        };
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// The exact bytes of an ordinary token; `None` for a special or unknown one.
    #[must_use]
    pub fn token_bytes(&self, token: TokenId) -> Option<&[u8]> {
        self.tokens.get(token as usize)?.bytes.as_deref()
    }

    /// The number of token ids; ids run from 0.
    #[must_use]
    pub fn n_vocab(&self) -> usize {
        self.tokens.len()
    }

    /// The special token with this exact text.
    #[must_use]
    pub fn special_id(&self, text: &str) -> Option<TokenId> {
        let is_it = |token: &Token| token.bytes.is_none() && token.text == text;
        self.tokens.iter().position(is_it).map(|idx| idx as TokenId)
    }

    /// Whether `token` is a special token.
    #[must_use]
    pub fn is_special(&self, token: TokenId) -> bool {
        self.tokens
            .get(token as usize)
            .is_some_and(|token| token.bytes.is_none())
    }

    /// The name of a special token, the vocabulary's own spelling of an ordinary one.
    #[must_use]
    pub fn token_name(&self, token: TokenId) -> Option<&str> {
        self.tokens
            .get(token as usize)
            .map(|token| token.text.as_str())
    }

    /// Every token at which the checkpoint says that generation ends.
    #[must_use]
    pub fn end_tokens(&self) -> &[TokenId] {
        &self.end_tokens
    }

    /// The token that the checkpoint puts before every text, if it does.
    #[must_use]
    pub fn bos(&self) -> Option<TokenId> {
        self.bos
    }
}
