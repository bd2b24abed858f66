//! The inside of a JSON string as a small automaton: valid UTF-8, no raw control characters, legal
//! escapes only, and surrogates only in pairs. It knows where each code point begins, which is what
//! `minLength` and `maxLength` count.
//!
//! Source: RFC 8259, section 7; RFC 3629, section 4.

use std::sync::LazyLock;

/// A state within a string's body. Every state can go on to `BOUNDARY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Text(u8);

/// How many states there are.
pub(crate) const N_TEXTS: usize = 20;

/// Between code points: where the string may close.
pub(crate) const BOUNDARY: Text = Text(0);

const ONE_LEFT: u8 = 1;
const TWO_LEFT: u8 = 2;
const THREE_LEFT: u8 = 3;
const AFTER_E0: u8 = 4;
const AFTER_ED: u8 = 5;
const AFTER_F0: u8 = 6;
const AFTER_F4: u8 = 7;
const ESCAPE: u8 = 8;
const HEX: u8 = 9;
const HEX_AFTER_D: u8 = 10;
const HEX_THREE_LEFT: u8 = 11;
const HEX_TWO_LEFT: u8 = 12;
const HEX_ONE_LEFT: u8 = 13;
const HIGH_TWO_LEFT: u8 = 14;
const HIGH_ONE_LEFT: u8 = 15;
const LOW_ESCAPE: u8 = 16;
const LOW_U: u8 = 17;
const LOW_HEX: u8 = 18;
const LOW_AFTER_D: u8 = 19;

/// Fewest bytes from each state to the boundary, the code point's last byte included.
const DISTANCES: [u8; N_TEXTS] = [0, 1, 2, 3, 2, 2, 3, 3, 1, 4, 3, 3, 2, 1, 8, 7, 6, 5, 4, 3];

/// The kind of the bytes that stand for themselves.
pub(crate) const PLAIN: u16 = 3;

/// What a byte is at a boundary: bytes of one kind lead to the same state. Those of code points
/// beyond ASCII are told apart by UTF-8 alone.
pub(crate) fn kind(byte: u8) -> u16 {
    match byte {
        0..=0x1F => 0,
        b'"' => 1,
        b'\\' => 2,
        _ => PLAIN,
    }
}

/// For each byte the first that no state tells from it.
pub(crate) static CLASSES: LazyLock<[u8; 256]> = LazyLock::new(|| {
    let texts = || (0..DISTANCES.len() as u8).map(Text);
    let after = |byte: u8| texts().map(move |text| (text.step(byte), text.step_canonical(byte)));
    let first = |byte: u8| (0..=byte).find(|&other| after(other).eq(after(byte)));
    std::array::from_fn(|byte| first(byte as u8).expect("a byte is like itself"))
});

/// No state: an illegal byte.
const ILLEGAL: u8 = u8::MAX;

/// The state after each byte, by state.
static STEPS: [[u8; 256]; N_TEXTS] = {
    let mut steps = [[ILLEGAL; 256]; N_TEXTS];
    let mut idx = 0;
    while idx < N_TEXTS * 256 {
        steps[idx / 256][idx % 256] = after((idx / 256) as u8, (idx % 256) as u8);
        idx += 1;
    }
    steps
};

const fn after(state: u8, byte: u8) -> u8 {
    let is_hex = byte.is_ascii_hexdigit();
    match (state, byte) {
        (0, b'\\') => ESCAPE,
        (0, b'"' | 0..=0x1F) => ILLEGAL,
        (0, 0x20..=0x7F) => 0,
        (0, 0xC2..=0xDF) => ONE_LEFT,
        (0, 0xE0) => AFTER_E0,
        (0, 0xED) => AFTER_ED,
        (0, 0xE1..=0xEF) => TWO_LEFT,
        (0, 0xF0) => AFTER_F0,
        (0, 0xF4) => AFTER_F4,
        (0, 0xF1..=0xF3) => THREE_LEFT,
        (ONE_LEFT, 0x80..=0xBF) => 0,
        (TWO_LEFT, 0x80..=0xBF) | (AFTER_E0, 0xA0..=0xBF) | (AFTER_ED, 0x80..=0x9F) => ONE_LEFT,
        (THREE_LEFT, 0x80..=0xBF) | (AFTER_F0, 0x90..=0xBF) | (AFTER_F4, 0x80..=0x8F) => TWO_LEFT,
        (ESCAPE, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 0,
        (ESCAPE, b'u') => HEX,
        (HEX, b'd' | b'D') => HEX_AFTER_D,
        (HEX, _) if is_hex => HEX_THREE_LEFT,
        (HEX_AFTER_D, b'0'..=b'7') => HEX_TWO_LEFT,
        (HEX_AFTER_D, b'8' | b'9' | b'a' | b'b' | b'A' | b'B') => HIGH_TWO_LEFT,
        (HEX_THREE_LEFT, _) if is_hex => HEX_TWO_LEFT,
        (HEX_TWO_LEFT, _) if is_hex => HEX_ONE_LEFT,
        (HEX_ONE_LEFT, _) if is_hex => 0,
        (HIGH_TWO_LEFT, _) if is_hex => HIGH_ONE_LEFT,
        (HIGH_ONE_LEFT, _) if is_hex => LOW_ESCAPE,
        (LOW_ESCAPE, b'\\') => LOW_U,
        (LOW_U, b'u') => LOW_HEX,
        (LOW_HEX, b'd' | b'D') => LOW_AFTER_D,
        (LOW_AFTER_D, b'c'..=b'f' | b'C'..=b'F') => HEX_TWO_LEFT,
        _ => ILLEGAL,
    }
}

impl Text {
    /// The state whose index is `idx`.
    pub(crate) fn nth(idx: u8) -> Self {
        Self(idx)
    }

    /// Below [`N_TEXTS`].
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The state after a byte of the body; `None` for an illegal one, and for `"`, which is not of
    /// the body.
    #[inline]
    pub(crate) fn step(self, byte: u8) -> Option<Self> {
        match STEPS[usize::from(self.0)][usize::from(byte)] {
            ILLEGAL => None,
            next => Some(Self(next)),
        }
    }

    /// The state after a byte of a property name that the schema does not declare. One spelling a
    /// name, so that equal names have equal bytes: the short escapes a JSON writer uses, and no
    /// others.
    pub(crate) fn step_canonical(self, byte: u8) -> Option<Self> {
        match (self.0, byte) {
            (ESCAPE, b'u' | b'/') => None,
            _ => self.step(byte),
        }
    }

    /// Whether a `"` would be of the body.
    pub(crate) fn takes_quote(self) -> bool {
        self.0 == ESCAPE
    }

    /// Fewest bytes to the end of the code point; 0 at a boundary.
    pub(crate) fn distance(self) -> usize {
        usize::from(DISTANCES[usize::from(self.0)])
    }
}
