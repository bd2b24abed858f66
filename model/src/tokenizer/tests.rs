//! Tokenizers of made-up vocabularies, against slow and plain ones written here.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::TextStream;
use crate::gguf::Gguf;
use crate::tests::synthetic::{GgufFile, Meta, TempDir};
use byte_level::char_of_byte;

fn open(name: &str, file: &GgufFile) -> Tokenizer {
    let dir = TempDir::new(&format!("tokenizer-{name}"));
    let path = dir.write("vocabulary.gguf", file.bytes());
    gguf::read(&Gguf::open(&path).unwrap()).unwrap()
}

/// Two special tokens, the bytes, and a merge for each of `merges`, in order.
fn byte_level(pre: &str, merges: &[(&str, &str)]) -> GgufFile {
    let mut texts = vec!["<|a|>".to_owned(), "<|ab|>".to_owned()];
    texts.extend((0..=u8::MAX).map(|byte| char_of_byte(byte).to_string()));
    texts.extend(merges.iter().map(|(left, right)| format!("{left}{right}")));
    let mut types = vec![1; texts.len()];
    types[..2].fill(3);
    let mut file = GgufFile::with_vocabulary(pre);
    file.set("tokenizer.ggml.tokens", Meta::Texts(texts));
    file.set("tokenizer.ggml.token_type", Meta::I32s(types));
    let merges = merges
        .iter()
        .map(|(left, right)| format!("{left} {right}"))
        .collect();
    file.set("tokenizer.ggml.merges", Meta::Texts(merges));
    file
}

/// Merges that compete with one another; U+0120 stands for a space.
const MERGES: [(&str, &str); 10] = [
    ("a", "b"),
    ("b", "c"),
    ("\u{120}", "a"),
    ("ab", "c"),
    ("\u{120}a", "bc"),
    ("c", "c"),
    ("cc", "cc"),
    ("\u{c3}", "\u{a9}"), // the two bytes of é
    ("1", "2"),
    ("\u{120}", "\u{120}"),
];

/// Byte pair merges as they are defined: again and again the pair of least rank, leftmost first.
fn slow_merges(word: &str) -> Vec<String> {
    let mut parts: Vec<String> = word
        .bytes()
        .map(|byte| char_of_byte(byte).to_string())
        .collect();
    let rank = |pair: &[String]| {
        MERGES
            .iter()
            .position(|(l, r)| pair[0] == *l && pair[1] == *r)
    };
    while let Some((_, at)) = parts
        .windows(2)
        .enumerate()
        .filter_map(|(at, pair)| Some((rank(pair)?, at)))
        .min()
    {
        let right = parts.remove(at + 1);
        parts[at].push_str(&right);
    }
    parts
}

fn names(tokenizer: &Tokenizer, tokens: &[TokenId]) -> Vec<String> {
    tokens
        .iter()
        .map(|token| tokenizer.token_name(*token).unwrap().to_owned())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A run of letters is one word to every pre-tokenizer, with or without a space before it.
    #[test]
    fn merges_are_those_of_the_definition(word in " ?[abcé]{1,24}") {
        for pre in ["smollm", "gpt-2", "qwen2"] {
            let tokenizer = &TOKENIZERS.with(|all| all(pre));
            let tokens = tokenizer.encode(&word, Specials::AsText);
            prop_assert_eq!(names(tokenizer, &tokens), slow_merges(&word), "{}", pre);
        }
    }

    #[test]
    fn any_text_comes_back(text in any::<String>()) {
        for pre in ["smollm", "gpt-2", "llama-bpe"] {
            let tokenizer = &TOKENIZERS.with(|all| all(pre));
            for specials in [Specials::Parse, Specials::AsText] {
                let tokens = tokenizer.encode(&text, specials);
                prop_assert_eq!(tokenizer.decode(&tokens), text.clone());
            }
        }
    }

    #[test]
    fn a_stream_gives_the_text_in_whole_characters(text in any::<String>()) {
        let tokenizer = TOKENIZERS.with(|all| all("smollm"));
        let mut stream = TextStream::new(Arc::clone(&tokenizer));
        let tokens = tokenizer.encode(&text, Specials::AsText);
        let mut given: String = tokens.iter().map(|token| stream.push(*token)).collect();
        given.push_str(&stream.finish());
        prop_assert_eq!(given, text);
    }

    #[test]
    fn pieces_are_those_of_the_definition(text in "[abc é]{0,24}") {
        let tokenizer = open_pieces();
        let tokens = tokenizer.encode(&text, Specials::AsText);
        prop_assert_eq!(names(&tokenizer, &tokens), slow_pieces(&text));
        prop_assert_eq!(tokenizer.decode(&tokens), text);
    }
}

type Opener = Box<dyn Fn(&str) -> Arc<Tokenizer>>;

thread_local! {
    /// One tokenizer of each kind for all cases of a test.
    static TOKENIZERS: Opener = {
        let opened = std::cell::RefCell::new(std::collections::HashMap::new());
        Box::new(move |pre: &str| {
            let mut opened = opened.borrow_mut();
            let tokenizer: &mut Arc<Tokenizer> = opened.entry(pre.to_owned()).or_insert_with(|| {
                Arc::new(open(&format!("{pre}-{:?}", std::thread::current().id()), &byte_level(pre, &MERGES)))
            });
            Arc::clone(tokenizer)
        })
    };
}

#[test]
fn special_tokens_are_parsed_only_where_asked_for() {
    let tokenizer = open("specials", &byte_level("smollm", &MERGES));
    // The longer name wins where both begin.
    let parsed = tokenizer.encode("x<|a|><|ab|><|", Specials::Parse);
    assert_eq!(
        names(&tokenizer, &parsed),
        ["x", "<|a|>", "<|ab|>", "<", "|"]
    );
    let plain = tokenizer.encode("x<|a|>", Specials::AsText);
    assert_eq!(names(&tokenizer, &plain), ["x", "<", "|", "a", "|", ">"]);
    assert_eq!(tokenizer.decode(&parsed), "x<|a|><|ab|><|");
    assert_eq!(tokenizer.special_id("<|ab|>"), Some(1));
    assert_eq!(tokenizer.special_id("a"), None);
    assert!(tokenizer.is_special(0) && !tokenizer.is_special(2) && !tokenizer.is_special(9999));
    assert_eq!(tokenizer.token_bytes(0), None);
    assert_eq!(tokenizer.token_bytes(2 + 0x0a), Some(&b"\n"[..]));
    assert_eq!(tokenizer.end_tokens(), [0]);
    assert_eq!(tokenizer.bos(), None);
    assert_eq!(tokenizer.decode(&[9999]), "");
}

/// Words that tell the pre-tokenizers apart, and how their patterns cut them.
const CUTS: &[(&str, &str, &[&str])] = &[
    ("gpt-2", "123", &["123"]),
    ("smollm", "123", &["1", "2", "3"]),
    ("qwen2", "123", &["1", "2", "3"]),
    ("llama-bpe", "1231", &["123", "1"]),
    ("gpt-2", " don't", &[" don", "'t"]),
    ("gpt-2", " 78", &[" 78"]),
    ("smollm", " 78", &[" ", "7", "8"]),
    ("llama-bpe", " 78", &[" ", "7", "8"]),
    ("llama-bpe", "'T", &["'T"]),
    ("gpt-2", "'T", &["'", "T"]),
    ("qwen2", "!\n", &["!\n"]),
    ("gpt-2", "!\n", &["!", "\n"]),
    ("llama-bpe", "HelloWorld", &["HelloWorld"]),
    ("tekken", "HelloWorld", &["Hello", "World"]),
    ("gpt-4o", "HelloWorld", &["Hello", "World"]),
    ("tekken", "123", &["1", "2", "3"]),
    ("gpt-4o", "1231", &["123", "1"]),
    ("tekken", "I'll", &["I", "'ll"]),
    ("gpt-4o", "I'll", &["I'll"]),
    ("llama-bpe", "!\n/", &["!\n", "/"]),
    ("tekken", "!\n/", &["!\n/"]),
    ("smaug-bpe", "1231", &["123", "1"]),
    ("dbrx", " 78", &[" ", "7", "8"]),
];

#[test]
fn pre_tokenizers_cut_where_their_patterns_say() {
    let every_pair = |text: &str| -> Vec<(String, String)> {
        let parts: Vec<String> = text
            .bytes()
            .map(|byte| char_of_byte(byte).to_string())
            .collect();
        (1..parts.len())
            .map(|i| (parts[..i].concat(), parts[i].clone()))
            .collect()
    };
    // With these merges each word that the pre-tokenizer leaves whole is one token.
    let words = [
        "123",
        " don",
        "'t",
        "'T",
        " 78",
        "!\n",
        " \n",
        "  ",
        "HelloWorld",
        "World",
        "I'll",
        "'ll",
        "!\n/",
    ];
    let mut merges: Vec<(String, String)> =
        words.iter().flat_map(|word| every_pair(word)).collect();
    let mut seen = std::collections::HashSet::new();
    merges.retain(|pair| seen.insert(pair.clone()));
    let merges: Vec<(&str, &str)> = merges
        .iter()
        .map(|(l, r)| (l.as_str(), r.as_str()))
        .collect();
    for (pre, text, expected) in CUTS.iter().copied() {
        let tokenizer = open("patterns", &byte_level(pre, &merges));
        let tokens = tokenizer.encode(text, Specials::AsText);
        let given: Vec<String> = tokens
            .iter()
            .map(|token| tokenizer.decode(&[*token]))
            .collect();
        assert_eq!(given, expected, "{pre} of {text:?}");
    }
}

/// Pieces and their scores; U+2581 stands for a space. Some scores are equal.
const PIECES: [(&str, f32); 10] = [
    ("\u{2581}", -5.0),
    ("a", -5.0),
    ("b", -5.0),
    ("ab", -2.0),
    ("ba", -2.0),
    ("\u{2581}a", -1.0),
    ("aba", -3.0),
    ("\u{2581}ab", -2.5),
    ("\u{2581}\u{2581}", -4.0),
    ("aa", -2.0),
];

fn open_pieces() -> Tokenizer {
    let mut texts = vec!["<unk>".to_owned(), "<s>".to_owned(), "</s>".to_owned()];
    texts.extend((0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>")));
    texts.extend(PIECES.iter().map(|(text, _)| (*text).to_owned()));
    let (n_tokens, n_pieces) = (texts.len(), PIECES.len());
    let mut types = vec![6; n_tokens];
    types[..3].copy_from_slice(&[2, 3, 3]);
    types[n_tokens - n_pieces..].fill(1);
    let mut scores = vec![0.0; n_tokens - n_pieces];
    scores.extend(PIECES.iter().map(|(_, score)| *score));
    let mut file = GgufFile::with_vocabulary("default");
    file.set("tokenizer.ggml.model", Meta::Text("llama".into()));
    file.set("tokenizer.ggml.tokens", Meta::Texts(texts));
    file.set("tokenizer.ggml.token_type", Meta::I32s(types));
    file.set("tokenizer.ggml.scores", Meta::F32s(scores));
    file.set("tokenizer.ggml.add_bos_token", Meta::Bool(true));
    open(&format!("pieces-{:?}", std::thread::current().id()), &file)
}

/// SentencePiece's rule as it is stated: the best-scoring pair of neighbours, leftmost first.
fn slow_pieces(text: &str) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    let spaced = format!(" {text}").replace(' ', "\u{2581}");
    let mut parts: Vec<String> = spaced.chars().map(String::from).collect();
    let score = |text: &str| {
        PIECES
            .iter()
            .find(|(piece, _)| *piece == text)
            .map(|(_, s)| *s)
    };
    loop {
        let mut best: Option<(f32, usize)> = None;
        for (at, pair) in parts.windows(2).enumerate() {
            if let Some(score) = score(&pair.concat())
                && best.is_none_or(|(best, _)| score > best)
            {
                best = Some((score, at));
            }
        }
        let Some((_, at)) = best else { break };
        let right = parts.remove(at + 1);
        parts[at].push_str(&right);
    }
    let bytes = |part: &String| part.bytes().map(|byte| format!("<0x{byte:02X}>")).collect();
    let names = parts.iter().map(|part| match score(part) {
        Some(_) => vec![part.clone()],
        None => bytes(part),
    });
    names.flatten().collect()
}

#[test]
fn sentence_piece_tokens_stand_for_exact_bytes() {
    let tokenizer = open_pieces();
    assert_eq!(tokenizer.bos(), Some(1));
    assert!(tokenizer.is_special(0) && tokenizer.is_special(2));
    assert_eq!(tokenizer.token_bytes(3 + 0x0a), Some(&b"\n"[..]));
    let piece = 3 + 256 + 7;
    assert_eq!(tokenizer.token_bytes(piece), Some(&b" ab"[..]));
    let tokens = tokenizer.encode("é</s>ab", Specials::Parse);
    assert_eq!(
        names(&tokenizer, &tokens)[1..],
        ["<0xC3>", "<0xA9>", "</s>", "ab"]
    );
    assert_eq!(tokenizer.decode(&tokens), "é</s>ab");
}

#[test]
fn long_runs_take_no_quadratic_time() {
    let tokenizer = open("runs", &byte_level("smollm", &MERGES));
    for text in [
        " ".repeat(200_000),
        "a".repeat(200_000),
        "ab ".repeat(100_000),
    ] {
        assert_eq!(
            tokenizer.decode(&tokenizer.encode(&text, Specials::AsText)),
            text
        );
    }
    let text = "ab ".repeat(100_000);
    let tokenizer = open_pieces();
    assert_eq!(
        tokenizer.decode(&tokenizer.encode(&text, Specials::AsText)),
        text
    );
}

#[test]
fn broken_characters_become_replacement_characters() {
    let tokenizer = Arc::new(open("broken", &byte_level("smollm", &MERGES)));
    let byte = |byte: u8| 2 + u32::from(byte);
    let mut stream = TextStream::new(Arc::clone(&tokenizer));
    assert_eq!(stream.push(byte(0xe2)), "");
    assert_eq!(stream.push(byte(0x82)), "");
    assert_eq!(stream.push(byte(0xac)), "€");
    assert_eq!(stream.push(byte(0xff)), "\u{fffd}");
    assert_eq!(stream.push(byte(0xe2)), "");
    assert_eq!(stream.push(byte(b'x')), "\u{fffd}x");
    assert_eq!(stream.push(0), "", "special tokens have no text");
    assert_eq!(stream.push(byte(0xf0)), "");
    assert_eq!(stream.finish(), "\u{fffd}");
    assert_eq!(stream.finish(), "");
}

/// Symbols that a SentencePiece vocabulary defines are single tokens wherever they stand, with special tokens or
/// without: leftmost, longest, spaces as they are written.
#[test]
fn user_defined_symbols_are_found_in_text() {
    let mut texts: Vec<String> = ["<unk>", "<s>", "<table>", "  ", "    ", "\n\n"]
        .map(str::to_owned)
        .to_vec();
    let mut types = vec![2, 3, 4, 4, 4, 4];
    texts.extend((0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>")));
    types.extend([6; 256]);
    let pieces = ["\u{2581}", "a", "b", "ab", "\u{2581}a", "\n"];
    texts.extend(pieces.map(str::to_owned));
    types.extend([1; 6]);
    let scores = (0..texts.len()).map(|idx| -(idx as f32)).collect();
    let mut file = GgufFile::with_vocabulary("default");
    file.set("tokenizer.ggml.model", Meta::Text("llama".into()));
    file.set("tokenizer.ggml.token_type", Meta::I32s(types));
    file.set("tokenizer.ggml.scores", Meta::F32s(scores));
    file.set("tokenizer.ggml.tokens", Meta::Texts(texts.clone()));
    file.set("tokenizer.ggml.add_space_prefix", Meta::Bool(false));
    let tokenizer = open("symbols", &file);
    for (text, expected) in [
        ("ab<table>ab", vec!["ab", "<table>", "ab"]),
        ("a  b", vec!["a", "  ", "b"]),
        // Three spaces and the one before a word: the longest symbol takes all it can.
        ("a    a", vec!["a", "    ", "a"]),
        ("   a", vec!["  ", "\u{2581}a"]),
        (" a\n\n\nb", vec!["\u{2581}a", "\n\n", "\n", "b"]),
    ] {
        for specials in [Specials::Parse, Specials::AsText] {
            let tokens = tokenizer.encode(text, specials);
            let given: Vec<&str> = tokens
                .iter()
                .filter_map(|token| tokenizer.token_name(*token))
                .collect();
            assert_eq!(given, expected, "{text:?}");
            assert_eq!(tokenizer.decode(&tokens), text);
        }
    }
    let typed = tokenizer.encode("<s><table>", Specials::AsText);
    assert!(typed.iter().all(|token| !tokenizer.is_special(*token)));
    assert_eq!(typed.last(), Some(&2));
}
