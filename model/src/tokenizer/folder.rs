//! A tokenizer from a Hugging Face folder's `tokenizer.json`.

use std::path::Path;

use serde_json::Value;

use super::byte_level::ByteAlphabet;
use super::gguf::byte_of_name;
use super::{Added, Encoder, Token, Tokenizer};
use crate::{ModelError, TokenId};

/// How a vocabulary spells bytes, which its decoder tells.
enum Spelling {
    ByteLevel(ByteAlphabet),
    /// U+2581 for a space, `<0x0A>` for a byte.
    SentencePiece,
}

/// Reads `tokenizer.json`; `end_tokens` come from the folder's other files.
pub(crate) fn read(path: &Path, end_tokens: Vec<TokenId>) -> Result<Tokenizer, ModelError> {
    let invalid = |reason: String| ModelError::Invalid {
        path: path.to_owned(),
        reason,
    };
    let unsupported = |what: &str| ModelError::Unsupported {
        path: path.to_owned(),
        what: what.into(),
    };
    let text = std::fs::read(path).map_err(|source| ModelError::Io {
        path: path.to_owned(),
        source,
    })?;
    let mut json: Value = serde_json::from_slice(&text).map_err(|e| invalid(e.to_string()))?;
    let parse = tokenizers::Tokenizer::from_bytes(&text).map_err(|e| invalid(e.to_string()))?;
    json["added_tokens"] = Value::Array(Vec::new());
    // The post-processor names added tokens, which this one does not have; it is never run.
    json["post_processor"] = Value::Null;
    let plain: tokenizers::Tokenizer =
        serde_json::from_value(json.clone()).map_err(|e| invalid(e.to_string()))?;
    let spelling = spelling(&json["decoder"])
        .ok_or_else(|| unsupported("a tokenizer that is neither byte-level nor SentencePiece"))?;
    let tokens = tokens(&parse, &spelling).map_err(invalid)?;
    if let Some(token) = end_tokens
        .iter()
        .find(|token| **token as usize >= tokens.len())
    {
        let n_tokens = tokens.len();
        return Err(invalid(format!(
            "end token {token}, there are {n_tokens} tokens"
        )));
    }
    let opening = parse.encode("", true).map_err(|e| invalid(e.to_string()))?;
    let bos = opening
        .get_ids()
        .first()
        .copied()
        .filter(|token| !end_tokens.contains(token));
    let space = plain
        .encode("a", false)
        .map_err(|e| invalid(e.to_string()))?;
    let adds_space = space
        .get_tokens()
        .first()
        .is_some_and(|token| token.starts_with('\u{2581}'));
    Ok(Tokenizer {
        tokens,
        encoder: Encoder::Crate(Box::new(plain)),
        added: Added::Crate(Box::new(parse)),
        end_tokens,
        bos,
        adds_space,
    })
}

fn spelling(decoder: &Value) -> Option<Spelling> {
    match decoder["type"].as_str()? {
        "ByteLevel" => Some(Spelling::ByteLevel(ByteAlphabet::new())),
        "ByteFallback" | "Metaspace" => Some(Spelling::SentencePiece),
        "Sequence" => decoder["decoders"].as_array()?.iter().find_map(spelling),
        _ => None,
    }
}

/// The most ids a vocabulary may have: some eight times the largest in use.
const MAX_TOKENS: usize = 1 << 21;

fn tokens(tokenizer: &tokenizers::Tokenizer, spelling: &Spelling) -> Result<Vec<Token>, String> {
    let vocabulary = tokenizer.get_vocab(true);
    let added = tokenizer.get_added_tokens_decoder();
    let n_tokens = vocabulary
        .values()
        .max()
        .map_or(0, |last| *last as usize + 1);
    if n_tokens == 0 || n_tokens > MAX_TOKENS {
        return Err(format!("{n_tokens} tokens, expected 1 to {MAX_TOKENS}"));
    }
    // An id that no entry has stays a special token without a name.
    let mut tokens = vec![
        Token {
            text: String::new(),
            bytes: None
        };
        n_tokens
    ];
    for (text, id) in vocabulary {
        let bytes = match (added.get(&id), spelling) {
            (Some(added), _) if added.special => None,
            (Some(added), _) => Some(added.content.clone().into_bytes()),
            (None, Spelling::ByteLevel(alphabet)) => {
                alphabet.decode(&text).or(Some(text.as_bytes().to_vec()))
            }
            (None, Spelling::SentencePiece) => match byte_of_name(&text) {
                Some(byte) => Some(vec![byte]),
                None => Some(text.replace('\u{2581}', " ").into_bytes()),
            },
        };
        tokens[id as usize] = Token { text, bytes };
    }
    Ok(tokens)
}
