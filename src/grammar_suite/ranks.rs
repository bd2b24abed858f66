//! A vocabulary from a file in tiktoken's format: on each line a token's bytes in base64 (RFC 4648), a space, its id.

use std::path::Path;
use std::sync::Arc;

use lmrun_grammar::Vocabulary;

use super::InputError;
use super::source::read_text;

const MAX_BYTES: u64 = 64 << 20;
/// Ids are below this, so that a wrong file does not ask for gigabytes.
const MAX_TOKENS: usize = 1 << 22;
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Reads the vocabulary. The format has no special tokens; one end token is added after the last id.
///
/// # Errors
/// If the file cannot be read, is too long, or a line is not of this format.
pub fn read_vocabulary(path: &Path) -> Result<Arc<Vocabulary>, InputError> {
    let text = read_text(path, MAX_BYTES)?;
    let mut tokens: Vec<Option<Box<[u8]>>> = Vec::new();
    for (line_idx, line) in text.lines().enumerate() {
        if line.is_empty() {
            continue;
        }
        let (bytes, id) = parse(line).map_err(|message| InputError::Line {
            path: path.into(),
            line: line_idx + 1,
            message,
        })?;
        if id >= tokens.len() {
            tokens.resize(id + 1, None);
        }
        tokens[id] = Some(bytes.into());
    }
    let end = tokens.len() as u32;
    tokens.push(None);
    Ok(Arc::new(Vocabulary::new(tokens, vec![end])))
}

fn parse(line: &str) -> Result<(Vec<u8>, usize), String> {
    let (encoded, id) = line
        .split_once(' ')
        .ok_or("expected a token in base64, a space and its id")?;
    let bytes = decode(encoded.as_bytes()).ok_or_else(|| format!("`{encoded}` is not base64"))?;
    match id.parse() {
        Ok(id) if id < MAX_TOKENS => Ok((bytes, id)),
        _ => Err(format!("`{id}` is not an id below {MAX_TOKENS}")),
    }
}

fn decode(encoded: &[u8]) -> Option<Vec<u8>> {
    if !encoded.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::new();
    let mut groups = encoded.chunks_exact(4).peekable();
    while let Some(group) = groups.next() {
        let is_last = groups.peek().is_none();
        let n_padding = group.iter().rev().take_while(|&&byte| byte == b'=').count();
        if n_padding > 2 || (n_padding > 0 && !is_last) {
            return None;
        }
        let mut bits = 0_u32;
        for &byte in &group[..4 - n_padding] {
            let digit = DIGITS.iter().position(|&digit| digit == byte)?;
            bits = bits << 6 | digit as u32;
        }
        bits <<= 6 * n_padding;
        bytes.extend_from_slice(&bits.to_be_bytes()[1..4 - n_padding]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
