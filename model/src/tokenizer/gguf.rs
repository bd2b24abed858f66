//! A tokenizer from a GGUF file's vocabulary.
//!
//! Pre-tokenizers are named, not stored, in GGUF; the names and what they stand for are those of
//! llama.cpp's `llama-vocab.cpp`, spelt as in the checkpoints' own `tokenizer.json`.

use std::collections::{HashMap, HashSet};

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

use super::byte_level::ByteAlphabet;
use super::spm::{SentencePiece, Symbols};
use super::{Added, Encoder, Token, Tokenizer};
use crate::gguf::Gguf;
use crate::{ModelError, TokenId};

/// `tokenizer.ggml.token_type`, as in llama.h.
mod token_type {
    pub(super) const NORMAL: u32 = 1;
    pub(super) const UNKNOWN: u32 = 2;
    pub(super) const CONTROL: u32 = 3;
    pub(super) const USER_DEFINED: u32 = 4;
    pub(super) const UNUSED: u32 = 5;
    pub(super) const BYTE: u32 = 6;
}

const LLAMA_3_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN_PATTERN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT_4O_PATTERN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How text is cut up before the merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PreTokenizer {
    Gpt2,
    Smollm,
    Llama3,
    /// Llama 3's pattern without its habit of taking whole words from the vocabulary: SmolLM 3 and the first Phi 4.
    Cl100k,
    Qwen2,
    /// Mistral from Nemo on.
    Tekken,
    /// GPT-4o's, which Phi 4 mini has.
    Gpt4o,
}

impl PreTokenizer {
    fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "gpt-2" | "gpt2" => Self::Gpt2,
            "smollm" => Self::Smollm,
            "llama-bpe" | "llama3" | "llama-v3" => Self::Llama3,
            "dbrx" | "smaug-bpe" => Self::Cl100k,
            "qwen2" => Self::Qwen2,
            "tekken" => Self::Tekken,
            "gpt-4o" => Self::Gpt4o,
            _ => return None,
        })
    }

    /// Whether a piece that is in the vocabulary is its token, however merges would make it. Their files leave out, too,
    /// that a begin token comes first.
    fn is_whole(self) -> bool {
        matches!(self, Self::Llama3 | Self::Tekken)
    }

    fn steps(self) -> Result<Vec<PreTokenizerWrapper>, tokenizers::Error> {
        let split = |pattern: &str| -> Result<PreTokenizerWrapper, tokenizers::Error> {
            let pattern = SplitPattern::Regex(pattern.to_owned());
            Ok(Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?.into())
        };
        let bytes = |use_regex| ByteLevel::new(false, false, use_regex).into();
        Ok(match self {
            Self::Gpt2 => vec![bytes(true)],
            Self::Smollm => vec![Digits::new(true).into(), bytes(true)],
            Self::Llama3 | Self::Cl100k => vec![split(LLAMA_3_PATTERN)?, bytes(false)],
            Self::Tekken => vec![split(TEKKEN_PATTERN)?, bytes(false)],
            Self::Gpt4o => vec![split(GPT_4O_PATTERN)?, bytes(false)],
            Self::Qwen2 => vec![split(QWEN_2_PATTERN)?, bytes(false)],
        })
    }
}

/// The vocabulary as the file has it.
struct Vocabulary<'a> {
    gguf: &'a Gguf,
    texts: Vec<&'a str>,
    types: Vec<u32>,
}

/// Reads the tokenizer of a GGUF file.
pub(crate) fn read(gguf: &Gguf) -> Result<Tokenizer, ModelError> {
    let invalid = |reason: String| gguf.invalid(reason);
    let model = gguf.string("tokenizer.ggml.model").map_err(invalid)?;
    let model = model.ok_or_else(|| gguf.invalid("tokenizer.ggml.model is missing"))?;
    let texts = gguf.strings("tokenizer.ggml.tokens").map_err(invalid)?;
    let texts = texts.ok_or_else(|| gguf.invalid("tokenizer.ggml.tokens is missing"))?;
    let types = gguf.uints("tokenizer.ggml.token_type").map_err(invalid)?;
    let types = types.unwrap_or_else(|| vec![token_type::NORMAL; texts.len()]);
    if types.len() != texts.len() || texts.is_empty() {
        let (n_texts, n_types) = (texts.len(), types.len());
        return Err(gguf.invalid(format!("{n_texts} tokens, {n_types} token types")));
    }
    let vocabulary = Vocabulary { gguf, texts, types };
    match model {
        "gpt2" => vocabulary.byte_level(),
        "llama" => vocabulary.sentence_piece(),
        _ => Err(gguf.unsupported(format!("tokenizer model {model}; gpt2 and llama are"))),
    }
}

/// The special tokens that a chat template may name: `bos_token` and the like, with their texts.
pub(crate) fn named_tokens(
    gguf: &Gguf,
    tokenizer: &Tokenizer,
) -> Result<Vec<(String, String)>, ModelError> {
    let mut named = Vec::new();
    for (name, key) in [
        ("bos_token", "bos"),
        ("eos_token", "eos"),
        ("unk_token", "unknown"),
        ("pad_token", "padding"),
    ] {
        let token = gguf.uint(&format!("tokenizer.ggml.{key}_token_id"));
        let token = token
            .map_err(|reason| gguf.invalid(reason))?
            .unwrap_or(u64::MAX);
        let text = u32::try_from(token)
            .ok()
            .and_then(|token| tokenizer.token_name(token));
        named.extend(text.map(|text| (name.to_owned(), text.to_owned())));
    }
    Ok(named)
}

impl Vocabulary<'_> {
    fn invalid(&self, reason: impl Into<String>) -> ModelError {
        self.gguf.invalid(reason)
    }

    fn byte_level(self) -> Result<Tokenizer, ModelError> {
        let name = self
            .gguf
            .string("tokenizer.ggml.pre")
            .map_err(|e| self.invalid(e))?;
        let name = name.unwrap_or("default");
        let pre_tokenizer = PreTokenizer::of_name(name)
            .ok_or_else(|| self.gguf.unsupported(format!("pre-tokenizer {name}")))?;
        let alphabet = ByteAlphabet::new();
        let tokens = self.tokens(|text, kind| match kind {
            token_type::USER_DEFINED => Some(text.as_bytes().to_vec()),
            // A token outside the alphabet can never be the result of a merge.
            _ => alphabet.decode(text).or(Some(text.as_bytes().to_vec())),
        });
        let encoder = Encoder::Crate(Box::new(self.bpe(pre_tokenizer)?));
        self.finish(tokens, encoder, pre_tokenizer.is_whole(), false)
    }

    fn bpe(&self, pre_tokenizer: PreTokenizer) -> Result<tokenizers::Tokenizer, ModelError> {
        let broken = |error: tokenizers::Error| self.invalid(format!("tokenizer: {error}"));
        let merges = self
            .gguf
            .strings("tokenizer.ggml.merges")
            .map_err(|e| self.invalid(e))?;
        let merges = merges.ok_or_else(|| self.invalid("tokenizer.ggml.merges is missing"))?;
        let merges: Merges = merges
            .into_iter()
            .map(|merge| {
                let (left, right) = merge.split_once(' ')?;
                Some((left.to_owned(), right.to_owned()))
            })
            .collect::<Option<_>>()
            .ok_or_else(|| self.invalid("tokenizer.ggml.merges has an entry that is no pair"))?;
        let vocab: Vocab = self
            .texts
            .iter()
            .zip(0..)
            .map(|(text, id)| ((*text).to_owned(), id))
            .collect();
        let model = BPE::builder()
            .vocab_and_merges(vocab, merges)
            .ignore_merges(pre_tokenizer.is_whole())
            .build()
            .map_err(broken)?;
        let mut tokenizer = tokenizers::Tokenizer::new(model);
        let steps = Sequence::new(pre_tokenizer.steps().map_err(broken)?);
        tokenizer.with_pre_tokenizer(Some(steps));
        if pre_tokenizer == PreTokenizer::Qwen2 {
            tokenizer.with_normalizer(Some(NFC)).map_err(broken)?;
        }
        Ok(tokenizer)
    }

    fn sentence_piece(self) -> Result<Tokenizer, ModelError> {
        let scores = self
            .gguf
            .floats("tokenizer.ggml.scores")
            .map_err(|e| self.invalid(e))?;
        let scores = scores.ok_or_else(|| self.invalid("tokenizer.ggml.scores is missing"))?;
        if scores.len() != self.texts.len() {
            let (n_texts, n_scores) = (self.texts.len(), scores.len());
            return Err(self.invalid(format!("{n_texts} tokens, {n_scores} scores")));
        }
        let tokens = self.tokens(|text, kind| match kind {
            token_type::BYTE => byte_of_name(text).map(|byte| vec![byte]),
            token_type::USER_DEFINED => Some(text.as_bytes().to_vec()),
            _ => Some(text.replace('\u{2581}', " ").into_bytes()),
        });
        let mut pieces = HashMap::with_capacity(self.texts.len());
        let mut byte_tokens: HashMap<u8, TokenId> = HashMap::new();
        let mut symbols = Vec::new();
        for (id, (text, kind)) in (0..).zip(self.texts.iter().zip(&self.types)) {
            match *kind {
                token_type::NORMAL => {
                    pieces.insert((*text).to_owned(), (id, scores[id as usize]));
                }
                token_type::BYTE => {
                    let byte = byte_of_name(text)
                        .ok_or_else(|| self.invalid(format!("byte token {id} is {text}")))?;
                    byte_tokens.insert(byte, id);
                }
                token_type::USER_DEFINED if !text.is_empty() => symbols.push((*text, id)),
                _ => {}
            }
        }
        let byte_tokens: Option<Vec<TokenId>> = (0..=u8::MAX)
            .map(|byte| byte_tokens.get(&byte).copied())
            .collect();
        let byte_tokens = byte_tokens.ok_or_else(|| {
            self.gguf
                .unsupported("a SentencePiece vocabulary without all bytes")
        })?;
        let adds_space = self
            .gguf
            .bool("tokenizer.ggml.add_space_prefix")
            .map_err(|e| self.invalid(e))?;
        let adds_space = adds_space.unwrap_or(true);
        let symbols = Symbols::new(&symbols)
            .map_err(|error| self.invalid(format!("user-defined tokens: {error}")))?;
        let pieces = SentencePiece::new(pieces, byte_tokens, symbols, adds_space);
        self.finish(tokens, Encoder::SentencePiece(pieces), true, adds_space)
    }

    /// All tokens; `bytes_of` says what an ordinary one stands for.
    fn tokens(&self, bytes_of: impl Fn(&str, u32) -> Option<Vec<u8>>) -> Vec<Token> {
        let tokens = self.texts.iter().zip(&self.types).map(|(text, &kind)| {
            let is_special = matches!(
                kind,
                token_type::CONTROL | token_type::UNKNOWN | token_type::UNUSED
            );
            let bytes = if is_special {
                None
            } else {
                bytes_of(text, kind)
            };
            Token {
                text: (*text).to_owned(),
                bytes,
            }
        });
        tokens.collect()
    }

    fn finish(
        self,
        tokens: Vec<Token>,
        encoder: Encoder,
        adds_bos: bool,
        adds_space: bool,
    ) -> Result<Tokenizer, ModelError> {
        let mut seen = HashSet::new();
        let added = (0..)
            .zip(self.texts.iter().zip(&self.types))
            .filter(|(_, (text, kind))| {
                // SentencePiece finds user-defined symbols by itself.
                let is_added = match **kind {
                    token_type::CONTROL => true,
                    token_type::USER_DEFINED => matches!(encoder, Encoder::Crate(_)),
                    _ => false,
                };
                is_added && !text.is_empty() && seen.insert(**text)
            });
        let (ids, names): (Vec<TokenId>, Vec<&str>) =
            added.map(|(id, (text, _))| (id, *text)).unzip();
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(names)
            .map_err(|error| self.invalid(format!("special tokens: {error}")))?;
        let adds_bos = self
            .gguf
            .bool("tokenizer.ggml.add_bos_token")
            .map_err(|e| self.invalid(e))?
            .unwrap_or(adds_bos);
        let bos = if adds_bos {
            self.token_key("tokenizer.ggml.bos_token_id")?
        } else {
            None
        };
        let mut end_tokens = Vec::new();
        for key in ["eos", "eot", "eom"] {
            let token = self.token_key(&format!("tokenizer.ggml.{key}_token_id"))?;
            end_tokens.extend(token.filter(|token| !end_tokens.contains(token)));
        }
        let added = Added::Exact { finder, ids };
        Ok(Tokenizer {
            tokens,
            encoder,
            added,
            end_tokens,
            bos,
            adds_space,
        })
    }

    /// A metadata entry that is a token id.
    fn token_key(&self, key: &str) -> Result<Option<TokenId>, ModelError> {
        let Some(token) = self.gguf.uint(key).map_err(|e| self.invalid(e))? else {
            return Ok(None);
        };
        let n_tokens = self.texts.len();
        if token >= n_tokens as u64 {
            return Err(self.invalid(format!("{key} is {token}, there are {n_tokens} tokens")));
        }
        Ok(Some(token as TokenId))
    }
}

/// The byte of a byte token's name, as `<0x0A>`.
pub(super) fn byte_of_name(name: &str) -> Option<u8> {
    let digits = name.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 {
        u8::from_str_radix(digits, 16).ok()
    } else {
        None
    }
}
