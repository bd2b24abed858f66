//! The GGUF block formats that stay quantised: 32 weights and their f16 scale, as ggml lays them out.
//!
//! Source: ggml's `block_q4_0`, `block_q4_1` and `block_q8_0` (ggml-common.h). In the 4-bit formats,
//! byte `i` of a block holds value `i` in its low and value `i + 16` in its high nibble.

use half::f16;

/// Weights of a block.
pub const BLOCK_LEN: usize = 32;

/// A quantised format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockFormat {
    /// `scale * (nibble - 8)`.
    Q4_0,
    /// `scale * nibble + minimum`.
    Q4_1,
    /// `scale * int8`.
    Q8_0,
}

/// One block taken apart: weight `i` is `scale * (codes[i] - offset) + minimum`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    pub(crate) scale: f16,
    /// Zero where the format has none.
    pub(crate) minimum: f16,
    /// Unsigned, so that they go into a u8 x i8 product as they are.
    pub(crate) codes: [u8; BLOCK_LEN],
}

impl BlockFormat {
    /// Bytes of a block.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        match self {
            BlockFormat::Q4_0 => 18,
            BlockFormat::Q4_1 => 20,
            BlockFormat::Q8_0 => 34,
        }
    }

    /// What is subtracted from a code before it is scaled.
    pub(crate) const fn offset(self) -> i32 {
        match self {
            BlockFormat::Q4_0 => 8,
            BlockFormat::Q4_1 => 0,
            BlockFormat::Q8_0 => 128,
        }
    }

    /// Takes one block of exactly [`BlockFormat::block_bytes`] bytes apart.
    pub(crate) fn unpack(self, bytes: &[u8]) -> Block {
        debug_assert_eq!(bytes.len(), self.block_bytes());
        let half_at = |at: usize| f16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let mut codes = [0; BLOCK_LEN];
        let nibbles_from = |codes: &mut [u8; BLOCK_LEN], at: usize| {
            for (i, &byte) in bytes[at..at + BLOCK_LEN / 2].iter().enumerate() {
                codes[i] = byte & 15;
                codes[i + BLOCK_LEN / 2] = byte >> 4;
            }
        };
        let minimum = match self {
            BlockFormat::Q4_0 => {
                nibbles_from(&mut codes, 2);
                f16::ZERO
            }
            BlockFormat::Q4_1 => {
                nibbles_from(&mut codes, 4);
                half_at(2)
            }
            BlockFormat::Q8_0 => {
                for (code, &byte) in codes.iter_mut().zip(&bytes[2..]) {
                    *code = byte ^ 0x80; // int8 + 128
                }
                f16::ZERO
            }
        };
        Block {
            scale: half_at(0),
            minimum,
            codes,
        }
    }

    /// The plain values of `bytes`, which are whole blocks.
    pub(crate) fn dequantise(self, bytes: &[u8], out: &mut Vec<f32>) {
        for block in bytes.chunks_exact(self.block_bytes()) {
            let block = self.unpack(block);
            let (scale, minimum) = (block.scale.to_f32(), block.minimum.to_f32());
            out.extend(
                block
                    .codes
                    .iter()
                    .map(|&code| scale * (i32::from(code) - self.offset()) as f32 + minimum),
            );
        }
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
