//! Codes, scales and sums against their definition, on every tier, of as many blocks as fill batches and leave some over.

use proptest::prelude::*;

use super::{Block, Quantise};
use crate::cpu::run_on;
use crate::tests::{TIERS, values};
use crate::{BLOCK_LEN, Grain};

/// What rounding 32 values gives: codes, scales, sums, and the bits of the total.
type Rounded = (Vec<i8>, [u32; 2], [i32; 2], u32);

fn given(block: &Block) -> Rounded {
    let codes = block.codes.iter().flat_map(|group| group.to_le_bytes());
    (
        codes.map(u8::cast_signed).collect(),
        block.scales.map(f32::to_bits),
        block.sums,
        block.total.to_bits(),
    )
}

/// The definition: of the values that share a scale the greatest becomes 127, and each the nearest whole number, ties to even.
fn expected(values: &[f32], part_len: usize) -> Rounded {
    let (mut codes, mut scales, mut sums, mut total) = (vec![], vec![], vec![], 0.0);
    for part in values.chunks(part_len) {
        let largest = part.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        // The product of two f32 is exact in f64.
        let rounded = part.iter().map(|&x| f64::from(x) * f64::from(inverse));
        let rounded: Vec<i8> = rounded.map(|x| x.round_ties_even() as i8).collect();
        let sum: i32 = rounded.iter().map(|&code| i32::from(code)).sum();
        scales.push(largest / 127.0);
        sums.push(sum);
        total += largest / 127.0 * sum as f32;
        codes.extend(rounded);
    }
    let second = if part_len == BLOCK_LEN { 0 } else { sums[1] };
    let last = scales[scales.len() - 1];
    (
        codes,
        [scales[0], last].map(f32::to_bits),
        [sums[0], second],
        f32::to_bits(total),
    )
}

proptest! {
    #[test]
    fn blocks_are_rounded_as_defined(values in (1..40usize).prop_flat_map(|n| values(n * BLOCK_LEN))) {
        for (grain, part_len) in [(Grain::ThirtyTwo, BLOCK_LEN), (Grain::Sixteen, BLOCK_LEN / 2)] {
            for tier in TIERS {
                let mut blocks = vec![Block::default(); values.len() / BLOCK_LEN];
                let quantise = Quantise { values: &values, grain, blocks: &mut blocks };
                run_on(tier, quantise);
                for (block, values) in blocks.iter().zip(values.chunks(BLOCK_LEN)) {
                    prop_assert_eq!(given(block), expected(values, part_len), "{:?} {:?}", tier, grain);
                }
            }
        }
    }
}
