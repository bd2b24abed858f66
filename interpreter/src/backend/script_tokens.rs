//! The tokens of a script: one for every byte, the special ones of ChatML, and words that were asked for.

use lmrun_grammar::Vocabulary;

use super::{TokenId, Tokens};

/// Special tokens, which follow the 256 bytes.
const SPECIALS: [&str; 3] = ["<|begin|>", "<|im_start|>", "<|im_end|>"];
const BEGIN: TokenId = 256;
const END: TokenId = 258;

/// Bytes, special tokens, words.
pub(super) struct ScriptTokens {
    /// The bytes of each token; a special one's are its name. [n_tokens]
    texts: Vec<Vec<u8>>,
}

impl Default for ScriptTokens {
    fn default() -> Self {
        Self::with_words(&[])
    }
}

impl ScriptTokens {
    pub(super) fn with_words(words: &[&str]) -> Self {
        let bytes = (0..=u8::MAX).map(|byte| vec![byte]);
        let specials = SPECIALS.iter().map(|special| special.as_bytes().to_vec());
        let words = words.iter().map(|word| word.as_bytes().to_vec());
        Self {
            texts: bytes.chain(specials).chain(words).collect(),
        }
    }

    pub(super) fn vocabulary(&self) -> Vocabulary {
        let ids = 0..self.texts.len() as TokenId;
        Vocabulary::new(
            ids.map(|id| self.bytes(id).map(Box::from)).collect(),
            vec![END],
        )
    }

    /// The text of tokens without a last incomplete character.
    pub(super) fn decode_whole(&self, tokens: &[TokenId]) -> String {
        let bytes = self.join(tokens);
        match std::str::from_utf8(&bytes) {
            Ok(text) => text.to_owned(),
            Err(error) => String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned(),
        }
    }

    fn join(&self, tokens: &[TokenId]) -> Vec<u8> {
        let texts = tokens
            .iter()
            .filter_map(|&token| self.texts.get(token as usize));
        texts.flatten().copied().collect()
    }

    /// The longest word at the start of `bytes`, else its first byte.
    fn next(&self, bytes: &[u8]) -> TokenId {
        let words = self.texts.iter().enumerate().skip(256 + SPECIALS.len());
        let fits = words.filter(|(_, word)| bytes.starts_with(word));
        let longest = fits.max_by_key(|(_, word)| word.len());
        longest.map_or(TokenId::from(bytes[0]), |(id, _)| id as TokenId)
    }
}

impl Tokens for ScriptTokens {
    fn encode(&self, text: &str) -> Vec<TokenId> {
        let mut rest = text.as_bytes();
        let mut tokens = Vec::new();
        while !rest.is_empty() {
            let token = self.next(rest);
            rest = &rest[self.texts[token as usize].len()..];
            tokens.push(token);
        }
        tokens
    }

    fn encode_template(&self, text: &str) -> Vec<TokenId> {
        let specials = SPECIALS.iter().zip(BEGIN..);
        let found = specials.filter_map(|(special, id)| Some((text.find(special)?, special, id)));
        match found.min_by_key(|&(at, ..)| at) {
            None => self.encode(text),
            Some((at, special, id)) => {
                let mut tokens = self.encode(&text[..at]);
                tokens.push(id);
                tokens.extend(self.encode_template(&text[at + special.len()..]));
                tokens
            }
        }
    }

    fn decode(&self, tokens: &[TokenId]) -> String {
        String::from_utf8_lossy(&self.join(tokens)).into_owned()
    }

    fn bytes(&self, token: TokenId) -> Option<&[u8]> {
        if (BEGIN..=END).contains(&token) {
            return None;
        }
        self.texts.get(token as usize).map(Vec::as_slice)
    }

    fn extends(&self, bytes: &[u8]) -> bool {
        let words = self.texts.iter().skip(256 + SPECIALS.len());
        words
            .into_iter()
            .any(|word| word.len() > bytes.len() && word.starts_with(bytes))
    }

    fn is_end(&self, token: TokenId) -> bool {
        token == END
    }

    fn begin(&self) -> Option<TokenId> {
        Some(BEGIN)
    }
}
