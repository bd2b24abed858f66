//! Tokenisation of the default model's GGUF file against an independent, slow implementation, and streaming text.
//!
//! The oracle reads the vocabulary and the merges through candle-core and follows the definitions: digits stand alone, the
//! rest is cut by GPT-2's pattern (Radford et al. 2019), each piece is merged pair by pair, lowest rank first (Sennrich
//! et al. 2016). It shares no code with the tokenizer under test.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use candle_core::quantized::gguf_file::{Content, Value};
use lmrun_model::{Checkpoint, Specials, TextStream, Tokenizer};
use regex::Regex;

use crate::support::{random::Random, smollm2};

/// Byte-pair merging over the byte alphabet of GPT-2, by definition.
struct Oracle {
    ids: HashMap<String, u32>,
    ranks: HashMap<(String, String), usize>,
    alphabet: Vec<char>,
    word: Regex,
}

impl Oracle {
    fn open() -> Self {
        let mut file = File::open(smollm2()).expect("the file opens");
        let content = Content::read(&mut file).expect("a GGUF file");
        let strings = |key: &str| -> Vec<String> {
            let values = content.metadata[key].to_vec().expect("an array");
            values
                .iter()
                .map(|v: &Value| v.to_string().expect("a string").clone())
                .collect()
        };
        let ids = (0..)
            .zip(strings("tokenizer.ggml.tokens"))
            .map(|(id, text)| (text, id))
            .collect();
        let ranks = strings("tokenizer.ggml.merges")
            .iter()
            .enumerate()
            .map(|(rank, merge)| {
                let (left, right) = merge.split_once(' ').expect("two parts");
                ((left.to_owned(), right.to_owned()), rank)
            })
            .collect();
        let word = r"^(?:'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+)";
        let word = Regex::new(word).expect("a pattern");
        Self {
            ids,
            ranks,
            alphabet: byte_alphabet(),
            word,
        }
    }

    fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        for part in split_digits(text) {
            let mut rest = part;
            while !rest.is_empty() {
                let length = self.next_piece(rest);
                ids.extend(self.merge(&rest[..length]));
                rest = &rest[length..];
            }
        }
        ids
    }

    /// The length in bytes of the first piece. White space before a word leaves it its last character.
    fn next_piece(&self, text: &str) -> usize {
        if let Some(found) = self.word.find(text) {
            return found.end();
        }
        let spaces: Vec<char> = text.chars().take_while(|c| c.is_whitespace()).collect();
        let all: usize = spaces.iter().map(|c| c.len_utf8()).sum();
        let last = spaces
            .last()
            .expect("what is no word is white space")
            .len_utf8();
        if all < text.len() && spaces.len() > 1 {
            all - last
        } else {
            all
        }
    }

    fn merge(&self, piece: &str) -> Vec<u32> {
        let mut parts: Vec<String> = piece
            .bytes()
            .map(|byte| self.alphabet[usize::from(byte)].to_string())
            .collect();
        loop {
            let ranked = parts.windows(2).enumerate().filter_map(|(at, pair)| {
                let rank = self.ranks.get(&(pair[0].clone(), pair[1].clone()))?;
                Some((*rank, at))
            });
            let Some((_, at)) = ranked.min() else { break };
            let right = parts.remove(at + 1);
            parts[at].push_str(&right);
        }
        // A byte that the vocabulary cannot spell is left out, as the checkpoint's own tokenizer does.
        parts
            .iter()
            .filter_map(|part| self.ids.get(part).copied())
            .collect()
    }

    /// Whether the vocabulary has a token for every byte of the text.
    fn can_spell(&self, text: &str) -> bool {
        text.bytes().all(|byte| {
            self.ids
                .contains_key(self.alphabet[usize::from(byte)].encode_utf8(&mut [0; 4]) as &str)
        })
    }
}

/// GPT-2's printable stand-ins for the 256 bytes.
fn byte_alphabet() -> Vec<char> {
    let printable = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut next = 256;
    (0..256)
        .map(|byte| {
            let code = if printable(byte) {
                byte
            } else {
                next += 1;
                next - 1
            };
            char::from_u32(code).expect("a character")
        })
        .collect()
}

/// Every numeric character alone, everything between them together.
fn split_digits(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, character) in text.char_indices() {
        if character.is_numeric() {
            if start < at {
                parts.push(&text[start..at]);
            }
            start = at + character.len_utf8();
            parts.push(&text[at..start]);
        }
    }
    if start < text.len() {
        parts.push(&text[start..]);
    }
    parts
}

/// What the lines are made of.
const PIECES: &[&str] = &[
    "the",
    "Lighthouse",
    "don't",
    "we'll",
    "I'VE",
    "x86_64",
    "3.14159",
    "2026",
    "½",
    "Ⅷ",
    "٣",
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\r\n",
    "\u{a0}",
    "\u{2003}",
    "\u{200b}",
    "naïve",
    "Straße",
    "日本語",
    "中文字",
    "한국어",
    "العربية",
    "हिन्दी",
    "e\u{301}",
    "👍",
    "👩‍👩‍👧‍👦",
    "🇫🇷",
    "🏳️‍🌈",
    "🤖",
    "<|im_start|>",
    "<|endoftext|>",
    "{\"a\": [1, 2]}",
    "=>",
    "...",
    "—",
    "“q”",
    "$5",
    "#tag",
    "C:\\dir",
    "\u{0}",
    "\u{7f}",
    "\u{feff}",
    "\u{10ffff}",
    "'s",
    "''",
    "ſ",
    "ﬁ",
    "𝒳",
    "aaaaaaaaaaaa",
    "!!!!!",
];

/// A line of words, numbers, emoji, several scripts, odd spaces and what looks like special tokens.
fn mixed_line(random: &mut Random) -> String {
    let mut line = String::new();
    for _ in 0..1 + random.below(14) {
        if random.below(12) == 0 {
            let code = u32::try_from(random.below(0x11_0000)).expect("a code point");
            line.extend(char::from_u32(code));
        }
        if random.below(3) > 0 {
            line.push(' ');
        }
        line.push_str(PIECES[random.below(PIECES.len())]);
    }
    line
}

fn tokenizer() -> Arc<Tokenizer> {
    Checkpoint::open(&smollm2())
        .expect("the default model opens")
        .tokenizer
}

#[test]
fn ten_thousand_mixed_lines_equal_the_oracle_and_come_back() {
    let (oracle, tokenizer) = (Oracle::open(), tokenizer());
    let mut random = Random::new(3);
    let mut n_spelled = 0;
    for _ in 0..10_000 {
        let line = mixed_line(&mut random);
        let ids = tokenizer.encode(&line, Specials::AsText);
        assert_eq!(ids, oracle.encode(&line), "{line:?}");
        let bytes: Vec<u8> = ids
            .iter()
            .flat_map(|&id| {
                tokenizer
                    .token_bytes(id)
                    .expect("an ordinary token")
                    .to_vec()
            })
            .collect();
        if oracle.can_spell(&line) {
            n_spelled += 1;
            assert_eq!(bytes, line.as_bytes(), "{line:?}");
        }
    }
    assert!(n_spelled > 5_000, "most lines can be spelled: {n_spelled}");
}

#[test]
fn streamed_text_never_splits_a_character() {
    let (oracle, tokenizer) = (Oracle::open(), tokenizer());
    let mut random = Random::new(4);
    let mut n_held = 0;
    for line in (0..4_000)
        .map(|_| mixed_line(&mut random))
        .filter(|line| oracle.can_spell(line))
    {
        let mut stream = TextStream::new(Arc::clone(&tokenizer));
        let mut text = String::new();
        for id in tokenizer.encode(&line, Specials::AsText) {
            let piece = stream.push(id);
            n_held += usize::from(piece.is_empty());
            assert!(!piece.contains('\u{fffd}'), "{line:?}: {piece:?}");
            text.push_str(&piece);
        }
        text.push_str(&stream.finish());
        assert_eq!(text, line);
    }
    assert!(
        n_held > 1_000,
        "the lines hold characters of several tokens: {n_held}"
    );
}

#[test]
fn special_tokens_are_parsed_only_when_asked() {
    let tokenizer = tokenizer();
    let start = tokenizer
        .special_id("<|im_start|>")
        .expect("the model has chat tokens");
    assert_eq!(tokenizer.encode("<|im_start|>", Specials::Parse), [start]);
    let as_text = tokenizer.encode("<|im_start|>", Specials::AsText);
    assert!(as_text.len() > 1 && as_text.iter().all(|&id| !tokenizer.is_special(id)));
}
