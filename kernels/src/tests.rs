//! Every device against the reference, every tier against the others, on random inputs.

mod attention;
mod matmul;
mod plain;
mod rowwise;
mod vectors;
mod whole;

use proptest::prelude::*;

use crate::{
    AttentionSpan, BLOCK_LEN, BlockFormat, Buffer, Cpu, Device, Heads, KvShape, Slot, Tier,
};

#[cfg(target_arch = "aarch64")]
pub(crate) const TIERS: [Tier; 4] = [
    Tier::Portable,
    Tier::Neon,
    Tier::NeonDotProd,
    Tier::NeonI8mm,
];
#[cfg(not(target_arch = "aarch64"))]
pub(crate) const TIERS: [Tier; 5] = [
    Tier::Portable,
    Tier::Avx2,
    Tier::AvxVnni,
    Tier::Avx512,
    Tier::Amx,
];

/// A device that computes in plain loops what `device` does: with AMX weights of four bits are whole, and sums have another order.
fn yardstick(device: &Cpu) -> Cpu {
    if device.tier() == Tier::Amx {
        Cpu::with_scalar_unit(1)
    } else {
        Cpu::with_tier(1, Tier::Portable)
    }
}

/// Devices with a unit for squares: in plain loops, and the machine's own if it has one.
fn with_unit(n_threads: usize) -> Vec<Cpu> {
    let mut all = vec![Cpu::with_scalar_unit(n_threads)];
    all.extend(Some(Cpu::new(n_threads)).filter(|device| device.tier() == Tier::Amx));
    all
}

/// Values as activations have them: most near zero, a few large.
pub(crate) fn values(len: usize) -> impl Strategy<Value = Vec<f32>> {
    let value = prop_oneof![9 => -2.0f32..2.0, 1 => -40.0f32..40.0, 1 => Just(0.0f32)];
    proptest::collection::vec(value, len)
}

fn buffer(width: usize, values: &[f32]) -> Buffer {
    let mut buffer = Buffer::new(width);
    buffer.assign(values);
    buffer
}

/// Whether scales are products.
fn is_k(format: BlockFormat) -> bool {
    format.block_len() > BLOCK_LEN
}

/// Where a block's f16 are.
fn halves_of(format: BlockFormat) -> Vec<usize> {
    match format {
        BlockFormat::Q6K => vec![208],
        _ if format.coding().has_minimum => vec![0, 2],
        _ => vec![0],
    }
}

/// Makes the scales and minimums of random blocks small numbers.
pub(crate) fn shrink_scales(format: BlockFormat, bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        // An f16 exponent of 8 to 11: about 0.01 to 0.1; of 4 to 7 where whole numbers multiply it.
        let exponent = if is_k(format) { 0x10 } else { 0x20 };
        for at in halves_of(format) {
            block[at + 1] = block[at + 1] & 0x8f | exponent;
        }
    }
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The largest difference, in units of the largest expected value.
pub(crate) fn error(expected: &[f32], given: &[f32]) -> f32 {
    assert_eq!(expected.len(), given.len());
    let largest = expected
        .iter()
        .fold(1e-6f32, |largest, value| largest.max(value.abs()));
    let differences = expected.iter().zip(given).map(|(a, b)| {
        // No number is as far from any as can be.
        let difference = (a - b).abs();
        if difference.is_nan() {
            f32::INFINITY
        } else {
            difference
        }
    });
    differences.fold(0.0, f32::max) / largest
}

/// The heads of rows that hold queries, then keys, then values.
pub(crate) fn query_key_value(group_len: usize, n_kv_heads: usize, head_dim: usize) -> [Heads; 3] {
    let queries = Heads {
        first: 0,
        n_heads: n_kv_heads * group_len,
        head_dim,
    };
    let keys = Heads {
        first: queries.end(),
        n_heads: n_kv_heads,
        head_dim,
    };
    let values = Heads {
        first: keys.end(),
        ..keys
    };
    [queries, keys, values]
}
