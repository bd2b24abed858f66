//! The GGUF block formats that products take as they are, and what each is made of.
//!
//! Whatever the format, 32 weights are codes of a few bits, one or two scales and perhaps a minimum. K formats have blocks of
//! 256, whose scales and minimums are themselves small whole numbers times a number of the block.
//!
//! Source: ggml's `block_q4_0` to `block_q6_K` (ggml-common.h) and how they are taken apart (ggml-quants.c).

use std::ops::Range;

use half::f16;

/// Weights that a product takes together.
pub const BLOCK_LEN: usize = 32;

/// Weights of a block of a K format.
const K_BLOCK_LEN: usize = 256;

/// A quantised format. A weight is its code less an offset, times a scale, plus perhaps a minimum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockFormat {
    /// Four bits less 8; a scale.
    Q4_0,
    /// Four bits; a scale and a minimum.
    Q4_1,
    /// Five bits less 16; a scale.
    Q5_0,
    /// Five bits; a scale and a minimum.
    Q5_1,
    /// Eight bits less 128; a scale.
    Q8_0,
    /// As Q4_1, eight times, with scales and minimums of six bits each.
    Q4K,
    /// As Q5_1, eight times, with scales and minimums of six bits each.
    Q5K,
    /// Six bits less 32, sixteen times sixteen of them, with a scale of eight bits each.
    Q6K,
}

/// What a format is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coding {
    /// Weights of a block, and its bytes in a file.
    block: (usize, usize),
    /// Bits of a code.
    pub(crate) n_bits: usize,
    /// What is subtracted from a code before it is scaled.
    pub(crate) offset: i32,
    /// Scales of 32 weights: one, or one for each half of them.
    pub(crate) n_scales: usize,
    /// Whether there is a minimum.
    pub(crate) has_minimum: bool,
}

/// 32 weights taken apart: weight `i` is `scales[i / 16] * (codes[i] - offset) + minimum`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    /// The same twice where the format has one.
    pub(crate) scales: [f32; 2],
    /// Zero where the format has none.
    pub(crate) minimum: f32,
    /// Unsigned, so that they go into a u8 x i8 product as they are.
    pub(crate) codes: [u8; BLOCK_LEN],
}

impl BlockFormat {
    /// All formats.
    pub const ALL: [BlockFormat; 8] = [
        BlockFormat::Q4_0,
        BlockFormat::Q4_1,
        BlockFormat::Q5_0,
        BlockFormat::Q5_1,
        BlockFormat::Q8_0,
        BlockFormat::Q4K,
        BlockFormat::Q5K,
        BlockFormat::Q6K,
    ];

    pub(crate) const fn coding(self) -> Coding {
        let (block, n_bits, offset, n_scales, has_minimum) = match self {
            BlockFormat::Q4_0 => ((BLOCK_LEN, 18), 4, 8, 1, false),
            BlockFormat::Q4_1 => ((BLOCK_LEN, 20), 4, 0, 1, true),
            BlockFormat::Q5_0 => ((BLOCK_LEN, 22), 5, 16, 1, false),
            BlockFormat::Q5_1 => ((BLOCK_LEN, 24), 5, 0, 1, true),
            BlockFormat::Q8_0 => ((BLOCK_LEN, 34), 8, 128, 1, false),
            BlockFormat::Q4K => ((K_BLOCK_LEN, 144), 4, 0, 1, true),
            BlockFormat::Q5K => ((K_BLOCK_LEN, 176), 5, 0, 1, true),
            BlockFormat::Q6K => ((K_BLOCK_LEN, 210), 6, 32, 2, false),
        };
        Coding {
            block,
            n_bits,
            offset,
            n_scales,
            has_minimum,
        }
    }

    /// Weights of a block.
    #[must_use]
    pub const fn block_len(self) -> usize {
        self.coding().block.0
    }

    /// Bytes of a block.
    #[must_use]
    pub const fn block_bytes(self) -> usize {
        self.coding().block.1
    }

    /// Where in a block of a file its scales and minimums lie.
    pub(crate) const fn scale_bytes(self) -> Range<usize> {
        match self {
            BlockFormat::Q4_0 | BlockFormat::Q5_0 | BlockFormat::Q8_0 => 0..2,
            BlockFormat::Q4_1 | BlockFormat::Q5_1 => 0..4,
            BlockFormat::Q4K | BlockFormat::Q5K => 0..16,
            BlockFormat::Q6K => 192..210,
        }
    }

    /// Hands out the weights of `bytes`, which are whole blocks, 32 at a time.
    pub(crate) fn unpack(self, bytes: &[u8], mut each: impl FnMut(&Block)) {
        debug_assert!(bytes.len().is_multiple_of(self.block_bytes()));
        for bytes in bytes.chunks_exact(self.block_bytes()) {
            for i in 0..self.block_len() / BLOCK_LEN {
                each(&match self {
                    BlockFormat::Q4K | BlockFormat::Q5K => self.with_small_scales(bytes, i),
                    BlockFormat::Q6K => q6_k(bytes, i),
                    _ => self.simple(bytes),
                });
            }
        }
    }

    /// A block of 32.
    fn simple(self, bytes: &[u8]) -> Block {
        let coding = self.coding();
        let codes_at = if coding.has_minimum { 4 } else { 2 };
        let minimum = if coding.has_minimum {
            half_at(bytes, 2)
        } else {
            0.0
        };
        let (high, low) = bytes[codes_at..].split_at(if coding.n_bits == 5 { 4 } else { 0 });
        let codes = std::array::from_fn(|i| match coding.n_bits {
            8 => low[i] ^ 0x80, // int8 + 128
            4 => nibble(low, i),
            _ => nibble(low, i) | bit(high[i / 8], i % 8) << 4,
        });
        Block {
            scales: [half_at(bytes, 0); 2],
            minimum,
            codes,
        }
    }

    /// The part `i` of a Q4_K or Q5_K block: two f16, the parts' scales and minimums in six bits each, perhaps fifth bits,
    /// nibbles.
    fn with_small_scales(self, bytes: &[u8], i: usize) -> Block {
        let (scale, minimum) = small_scale(&bytes[4..16], i);
        let has_fifth = self == BlockFormat::Q5K;
        let (fifth, low) = bytes[16..].split_at(if has_fifth { BLOCK_LEN } else { 0 });
        // Two parts share 32 bytes.
        let low = &low[i / 2 * BLOCK_LEN..][..BLOCK_LEN];
        Block {
            scales: [half_at(bytes, 0) * f32::from(scale); 2],
            minimum: -(half_at(bytes, 2) * f32::from(minimum)),
            codes: std::array::from_fn(|j| {
                let high = fifth.get(j).map_or(0, |&byte| bit(byte, i) << 4);
                low[j] >> (4 * (i % 2)) & 15 | high
            }),
        }
    }

    /// The plain values of `bytes`, which are whole blocks.
    pub(crate) fn dequantise(self, bytes: &[u8], out: &mut Vec<f32>) {
        self.unpack(bytes, |block| {
            let codes = block.codes.iter().enumerate();
            out.extend(codes.map(|(i, &code)| {
                let code = (i32::from(code) - self.coding().offset) as f32;
                block.scales[i / (BLOCK_LEN / 2)] * code + block.minimum
            }));
        });
    }
}

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Value `i` of 32, of which the first sixteen are in the low halves of sixteen bytes.
fn nibble(bytes: &[u8], i: usize) -> u8 {
    bytes[i % (BLOCK_LEN / 2)] >> (i / (BLOCK_LEN / 2) * 4) & 15
}

fn bit(byte: u8, i: usize) -> u8 {
    byte >> i & 1
}

/// Scale and minimum `i` of eight, packed in twelve bytes: the first four whole in six bits, of the others the low four
/// bits in the last four bytes and the high two above the first.
fn small_scale(bytes: &[u8], i: usize) -> (u8, u8) {
    if i < 4 {
        return (bytes[i] & 63, bytes[i + 4] & 63);
    }
    let low = bytes[i + 4];
    (
        low & 15 | bytes[i - 4] >> 6 << 4,
        low >> 4 | bytes[i] >> 6 << 4,
    )
}

/// The 32 weights `i` of a Q6_K block: 128 bytes of low nibbles, 64 of high pairs of bits, sixteen scales, a f16. Each half of the
/// block has four such parts, two in the low and two in the high nibbles of 64 bytes.
fn q6_k(bytes: &[u8], i: usize) -> Block {
    let (half, part) = (i / 4, i % 4);
    let low = &bytes[half * 64 + part % 2 * BLOCK_LEN..][..BLOCK_LEN];
    let high = &bytes[128 + half * BLOCK_LEN..][..BLOCK_LEN];
    let scale = half_at(bytes, 208);
    let small = |which: usize| f32::from(bytes[192 + 2 * i + which].cast_signed());
    Block {
        scales: [scale * small(0), scale * small(1)],
        minimum: 0.0,
        codes: std::array::from_fn(|j| {
            low[j] >> (part / 2 * 4) & 15 | (high[j] >> (2 * part) & 3) << 4
        }),
    }
}

/// Quantises rows of plain values to Q8_0 blocks.
///
/// # Panics
/// If the number of values is no multiple of [`BLOCK_LEN`].
#[must_use]
pub fn quantise_q8_0(values: &[f32]) -> Vec<u8> {
    let (blocks, rest) = values.as_chunks::<BLOCK_LEN>();
    assert!(
        rest.is_empty(),
        "{} values are not whole blocks",
        values.len()
    );
    let mut bytes = Vec::with_capacity(blocks.len() * BlockFormat::Q8_0.block_bytes());
    for block in blocks {
        let largest = block
            .iter()
            .fold(0.0f32, |largest, value| largest.max(value.abs()));
        let scale = f16::from_f32(largest / 127.0);
        let inverse = if scale.to_f32() > 0.0 {
            1.0 / scale.to_f32()
        } else {
            0.0
        };
        bytes.extend_from_slice(&scale.to_le_bytes());
        bytes.extend(block.iter().map(|value| {
            let code = (value * inverse).round_ties_even().clamp(-127.0, 127.0) as i8;
            code.to_le_bytes()[0]
        }));
    }
    bytes
}
