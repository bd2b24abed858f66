//! A tokenizer from a Hugging Face folder: `tokenizer.json` and what other files say about it.

use serde_json::Value;

use super::byte_level::ByteAlphabet;
use super::gguf::byte_of_name;
use super::{Added, Encoder, Token, Tokenizer};
use crate::folder::Folder;
use crate::{ModelError, TokenId};

/// How a vocabulary spells bytes, which its decoder tells.
enum Spelling {
    ByteLevel(ByteAlphabet),
    /// U+2581 for a space, `<0x0A>` for a byte.
    SentencePiece,
}

/// What the folder's other files say about its tokens.
pub(crate) struct Settings {
    end_ids: Vec<u64>,
    /// `bos_token` and the like, with their texts.
    pub(crate) special_tokens: Vec<(String, String)>,
    pub(crate) chat_template: Option<String>,
}

impl Settings {
    /// Reads `generation_config.json`, `config.json`, `tokenizer_config.json` and
    /// `chat_template.jinja`, as far as they are there.
    pub(crate) fn read(folder: &Folder) -> Result<Self, ModelError> {
        let json = |name: &str| folder.json(name).map(Option::unwrap_or_default);
        let (generation, config) = (json("generation_config.json")?, json("config.json")?);
        let tokenizer = json("tokenizer_config.json")?;
        let ids = |value: &Value| match value {
            Value::Array(ids) => ids.iter().filter_map(Value::as_u64).collect(),
            value => value.as_u64().into_iter().collect::<Vec<_>>(),
        };
        let mut end_ids = ids(&generation["eos_token_id"]);
        end_ids.extend(ids(&config["eos_token_id"]));
        let mut special_tokens = Vec::new();
        for name in ["bos_token", "eos_token", "unk_token", "pad_token"] {
            let value = &tokenizer[name];
            let text = value.as_str().or(value["content"].as_str());
            special_tokens.extend(text.map(|text| (name.to_owned(), text.to_owned())));
        }
        let chat_template = match folder.text("chat_template.jinja")? {
            Some(text) => Some(text),
            None => default_template(&tokenizer["chat_template"]).map(str::to_owned),
        };
        Ok(Self {
            end_ids,
            special_tokens,
            chat_template,
        })
    }

    /// Every end token, by id and by name.
    fn end_tokens(&self, tokens: &[Token]) -> Result<Vec<TokenId>, String> {
        let mut end_tokens = Vec::new();
        for &id in &self.end_ids {
            if id >= tokens.len() as u64 {
                return Err(format!("end token {id}, there are {} tokens", tokens.len()));
            }
            end_tokens.push(id as TokenId);
        }
        for (_, text) in self
            .special_tokens
            .iter()
            .filter(|(name, _)| name == "eos_token")
        {
            let is_it = |token: &Token| token.text == *text;
            end_tokens.extend(tokens.iter().position(is_it).map(|idx| idx as TokenId));
        }
        end_tokens.sort_unstable();
        end_tokens.dedup();
        Ok(end_tokens)
    }
}

/// The template, or of several the one named default.
fn default_template(value: &Value) -> Option<&str> {
    let named = || {
        value
            .as_array()?
            .iter()
            .find(|entry| entry["name"] == "default")
    };
    value.as_str().or_else(|| named()?["template"].as_str())
}

/// The tokenizer's file.
const FILE: &str = "tokenizer.json";

/// Reads `tokenizer.json`.
pub(crate) fn read(folder: &Folder, settings: &Settings) -> Result<Tokenizer, ModelError> {
    let invalid = |reason: String| ModelError::Invalid {
        path: folder.file(FILE),
        reason,
    };
    let unsupported = |what: &str| ModelError::Unsupported {
        path: folder.file(FILE),
        what: what.into(),
    };
    let mut json = folder
        .json(FILE)?
        .ok_or_else(|| invalid("the file is missing".into()))?;
    if !json.is_object() {
        return Err(invalid("not an object".into()));
    }
    // Cutting and padding are for batches of equal length.
    json["truncation"] = Value::Null;
    json["padding"] = Value::Null;
    let build = |json: &Value| -> Result<tokenizers::Tokenizer, ModelError> {
        tokenizers::Tokenizer::from_bytes(json.to_string()).map_err(|e| invalid(e.to_string()))
    };
    let parse = build(&json)?;
    json["added_tokens"] = Value::Array(Vec::new());
    // The post-processor names added tokens, which this one does not have; it is never run.
    json["post_processor"] = Value::Null;
    let plain = build(&json)?;
    let spelling = spelling(&json["decoder"])
        .ok_or_else(|| unsupported("a tokenizer that is neither byte-level nor SentencePiece"))?;
    let tokens = tokens(&parse, &spelling).map_err(invalid)?;
    let end_tokens = settings.end_tokens(&tokens).map_err(invalid)?;
    let opening = parse.encode("", true).map_err(|e| invalid(e.to_string()))?;
    let bos = opening
        .get_ids()
        .first()
        .copied()
        .filter(|token| !end_tokens.contains(token));
    let letter = plain
        .encode("a", false)
        .map_err(|e| invalid(e.to_string()))?;
    let adds_space = letter
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
