//! The alphabet of byte-level BPE: each byte as one printable character.
//!
//! Source: `bytes_to_unicode` of GPT-2's encoder.py. Printable Latin-1 bytes stand for themselves; the
//! other bytes, in order, are U+0100, U+0101 and so on.

/// The character that stands for a byte.
pub(crate) fn char_of_byte(byte: u8) -> char {
    let is_plain = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if is_plain(byte) {
        return char::from(byte);
    }
    let n_before = (0..byte).filter(|other| !is_plain(*other)).count();
    char::from_u32(0x100 + n_before as u32).expect("at most 256 characters from U+0100")
}

/// From characters back to bytes.
pub(crate) struct ByteAlphabet {
    /// Indexed by code point; all lie below U+0200.
    bytes: Vec<Option<u8>>,
}

impl ByteAlphabet {
    pub(crate) fn new() -> Self {
        let mut bytes = vec![None; 0x200];
        for byte in 0..=u8::MAX {
            bytes[char_of_byte(byte) as usize] = Some(byte);
        }
        Self { bytes }
    }

    /// The bytes that a token's characters stand for, or `None` if one is not of the alphabet.
    pub(crate) fn decode(&self, token: &str) -> Option<Vec<u8>> {
        token
            .chars()
            .map(|c| self.bytes.get(c as usize).copied().flatten())
            .collect()
    }
}
