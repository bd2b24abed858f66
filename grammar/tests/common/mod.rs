//! A vocabulary like a model's in small: every byte, words, pieces of JSON, and cut UTF-8.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::sync::Arc;

use lmrun_grammar::{Constraint, Matcher, TokenId, TokenMask, Vocabulary};

/// The end token of [`vocabulary`].
pub(crate) const END: TokenId = 0;

const PIECES: &str = r#"a b c ab abc aa aaa aaaa aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa xyz the The hello Hello world foo bar baz qux name age city street id value
items type true false null tru fals nul ue lse ll 0 1 2 10 100 123 999 2024 -1 0.5 .5 .0 1.5 3.14 e5 E+1 e-3 00 000
{ } [ ] : , " {" "} ": ":" "," ",  ": ":{" ":[ "], "}, }, ], [" [{ }] ]} [] {} {"name {"name": "name": ,"age": :1
\" \\ \n \t \u \u00 \u0041 \ud83d \ude00 \/ / // :// http https .com @ @example .org www - -- _ + * ( ) ? ! . .. ...
":1,"a ":1,"ab ":1,"bb ,"ab red green blue RED Mon Tue 12:30 T12 Z 2020-01-01 ID- AB AB12 x1 x2 user admin é ü ñ 日 本 日本 😀 naïve café ß "é é" 
January true, false} null] 1, 2] 3} 42 42, 42} 7, 0, -, 1.  "a "b "c a" b" "a": "b":2 "" """ "\ \"a a\" ok yes no yes"
on off on" /a/b a/b x=y k:v #fff #0a0B1c 0x1F 1e3 ABCDEF abcdef A B C D E F Z z y w q I IV VII MMXX 555-1234 +1-
"#;

/// Every byte, the pieces above with and without a space before, and UTF-8 cut at every place.
pub(crate) fn vocabulary() -> Arc<Vocabulary> {
    let mut tokens: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
    for piece in PIECES.split_whitespace() {
        tokens.push(piece.as_bytes().to_vec());
        tokens.push(format!(" {piece}").into_bytes());
        if !piece.is_ascii() {
            tokens.extend((1..piece.len()).map(|cut| piece.as_bytes()[..cut].to_vec()));
            tokens.extend((1..piece.len()).map(|cut| piece.as_bytes()[cut..].to_vec()));
        }
    }
    let ends = [None, None];
    let tokens = ends
        .into_iter()
        .chain(tokens.into_iter().map(|t| Some(t.into_boxed_slice())));
    Arc::new(Vocabulary::new(tokens.collect(), vec![END]))
}

/// Whether an output may begin with `bytes`, found one single-byte token after another.
pub(crate) fn accepts_prefix(matcher: &Matcher, bytes: &[u8]) -> bool {
    let mut matcher = matcher.clone();
    bytes
        .iter()
        .all(|&byte| matcher.accept(byte_token(byte)).is_ok())
}

/// Whether `bytes` is an output of the constraint.
pub(crate) fn accepts(constraint: &Constraint, vocabulary: &Arc<Vocabulary>, bytes: &[u8]) -> bool {
    let mut matcher = Matcher::new(constraint.clone(), Arc::clone(vocabulary)).unwrap();
    bytes
        .iter()
        .all(|&byte| matcher.accept(byte_token(byte)).is_ok())
        && matcher.is_complete()
}

/// The single-byte token of [`vocabulary`].
pub(crate) fn byte_token(byte: u8) -> TokenId {
    2 + TokenId::from(byte)
}

/// The mask by the slow way: each token tried on a clone, byte by byte.
pub(crate) fn brute_force_mask(matcher: &Matcher, vocabulary: &Vocabulary) -> TokenMask {
    let mut mask = TokenMask::new(vocabulary.n_tokens());
    for token in 0..vocabulary.n_tokens() as TokenId {
        if vocabulary
            .bytes(token)
            .is_some_and(|bytes| accepts_prefix(matcher, bytes))
        {
            mask.allow(token);
        }
    }
    if matcher.is_complete() {
        mask.allow(END);
    }
    mask
}

/// Follows an output for `n_tokens` random legal tokens; before each the mask equals brute force.
pub(crate) fn assert_masks_equal_brute_force(
    matcher: &mut Matcher,
    vocabulary: &Vocabulary,
    random: &mut Random,
    n_tokens: usize,
    what: &str,
) {
    let mut mask = TokenMask::new(vocabulary.n_tokens());
    for _ in 0..n_tokens {
        matcher.mask(&mut mask).unwrap();
        assert_eq!(mask, brute_force_mask(matcher, vocabulary), "{what}");
        let allowed: Vec<_> = mask.iter().collect();
        matcher
            .accept(allowed[random.below(allowed.len())])
            .unwrap();
    }
}

/// A small generator of its own (xorshift64*), so that walks are the same on every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }
}

/// A random output: free for `n_free` tokens, then steered to its end. Checks on the way that no
/// mask is empty and that steering keeps its promise.
pub(crate) fn random_output(
    matcher: &mut Matcher,
    vocabulary: &Vocabulary,
    random: &mut Random,
    n_free: usize,
) -> Vec<u8> {
    let mut output = Vec::new();
    let mut mask = TokenMask::new(vocabulary.n_tokens());
    let mut take = |matcher: &mut Matcher, mask: &TokenMask, random: &mut Random| {
        let allowed: Vec<TokenId> = mask.iter().collect();
        let token = allowed[random.below(allowed.len())];
        matcher.accept(token).unwrap();
        output.extend_from_slice(vocabulary.bytes(token).unwrap_or_default());
        token == END
    };
    for _ in 0..n_free {
        matcher.mask(&mut mask).unwrap();
        if take(matcher, &mask, random) {
            return output;
        }
    }
    let mut budget = matcher.min_tokens_to_accept();
    while !matcher.is_complete() {
        matcher.mask_toward_end(&mut mask, budget).unwrap();
        take(matcher, &mask, random);
        budget -= 1;
        assert!(matcher.min_tokens_to_accept() <= budget);
    }
    output
}
