//! Plain weights to blocks of four bits. For eight see [`quantise_q8_0`](crate::quantise_q8_0).
//!
//! Source: ggml's `quantize_row_q4_0_ref` (ggml-quants.c).

use half::f16;

use crate::{BLOCK_LEN, BlockFormat};

/// Quantises rows of plain values to Q4_0 blocks: of a block, the value farthest from zero has the code 0, which is -8
/// scales, so that one end is met exactly.
///
/// # Panics
/// If the number of values is no multiple of [`BLOCK_LEN`].
#[must_use]
pub fn quantise_q4_0(values: &[f32]) -> Vec<u8> {
    let (blocks, rest) = values.as_chunks::<BLOCK_LEN>();
    assert!(
        rest.is_empty(),
        "{} values are not whole blocks",
        values.len()
    );
    let mut bytes = Vec::with_capacity(blocks.len() * BlockFormat::Q4_0.block_bytes());
    for block in blocks {
        let farthest = block.iter().fold(0.0f32, |farthest, &value| {
            if value.abs() > farthest.abs() {
                value
            } else {
                farthest
            }
        });
        let scale = farthest / -8.0;
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        bytes.extend_from_slice(&f16::from_f32(scale).to_le_bytes());
        let code = |value: f32| ((value * inverse + 8.5) as u8).min(15);
        let (low, high) = block.split_at(BLOCK_LEN / 2);
        let pairs = low.iter().zip(high);
        bytes.extend(pairs.map(|(&low, &high)| code(low) | code(high) << 4));
    }
    bytes
}
