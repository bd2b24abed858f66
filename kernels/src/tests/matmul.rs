//! Matrix products: the layout, the tiers, and the order of sums.

use proptest::prelude::*;

use super::plain::Plain;
use super::*;
use crate::{
    Activation, Grain, KernelError, MatrixData, MatrixPart, Norm, Reference, quantise_q8_0,
};

/// Random blocks whose scales and minimums are small numbers.
fn blocks(format: BlockFormat, n_blocks: usize) -> impl Strategy<Value = Vec<u8>> {
    let n_bytes = n_blocks * format.block_bytes();
    proptest::collection::vec(any::<u8>(), n_bytes).prop_map(move |mut bytes| {
        shrink_scales(format, &mut bytes);
        bytes
    })
}

/// A quantised part, a plain part, and activations for both.
#[derive(Debug, Clone)]
struct Case {
    grain: Grain,
    format: BlockFormat,
    n_cols: usize,
    n_block_rows: usize,
    blocks: Vec<u8>,
    n_plain_rows: usize,
    plain: Plain,
    bias: Vec<f32>,
    n_columns: usize,
    x: Vec<f32>,
}

impl Case {
    fn parts(&self) -> [MatrixPart<'_>; 2] {
        let quantised = MatrixData::Blocks(self.format, &self.blocks);
        [
            MatrixPart {
                n_rows: self.n_block_rows,
                data: quantised,
            },
            MatrixPart {
                n_rows: self.n_plain_rows,
                data: self.plain.data(),
            },
        ]
    }

    fn run<D>(&self, device: &mut D, first: usize, n_columns: usize) -> Vec<f32>
    where
        D: Device<Buffer = Buffer>,
    {
        let matrix = device
            .matrix(self.n_cols, &self.parts(), self.grain)
            .unwrap();
        let bias = device.vector(&self.bias);
        let x = &self.x[first * self.n_cols..(first + n_columns) * self.n_cols];
        let mut out = device.buffer(self.n_block_rows + self.n_plain_rows);
        device.matmul(
            &matrix,
            Some(&bias),
            &buffer(self.n_cols, x),
            None,
            &mut out,
        );
        device.read(&out)
    }
}

fn case() -> impl Strategy<Value = Case> {
    let grain = prop_oneof![
        Just(Grain::Sixteen),
        Just(Grain::ThirtyTwo),
        Just(Grain::Whole)
    ];
    let formats = (proptest::sample::select(&BlockFormat::ALL[..]), 0..3usize);
    let sizes = (formats, 1..5usize, 1..70usize, 1..40usize, 1..120usize);
    (grain, sizes).prop_flat_map(
        |(grain, ((format, plain), n_blocks, n_block_rows, n_plain_rows, n_columns))| {
            let n_blocks = if is_k(format) {
                n_blocks.div_ceil(3)
            } else {
                n_blocks
            };
            let n_cols = n_blocks * format.block_len();
            (
                blocks(format, n_blocks * n_block_rows),
                Plain::any(plain, n_cols * n_plain_rows),
                values(n_block_rows + n_plain_rows),
                values(n_cols * n_columns),
            )
                .prop_map(move |(blocks, plain, bias, x)| Case {
                    grain,
                    format,
                    n_cols,
                    n_block_rows,
                    blocks,
                    n_plain_rows,
                    plain,
                    bias,
                    n_columns,
                    x,
                })
        },
    )
}

/// Whether the device keeps the case's blocks as whole weights.
fn is_whole(case: &Case, device: &Cpu) -> bool {
    let is_possible = match case.format.coding().n_bits {
        4 => true,
        n_bits => n_bits == 8 && case.grain == Grain::Whole,
    };
    device.tier() == Tier::Amx && is_possible && case.n_cols.is_multiple_of(64)
}

/// How far a row's weights may be off: where scales and minimums are rounded to f16 by 2^-11 of what is rounded, or 2^-25; where they are
/// whole numbers of eight bits by half a unit, of four by what rounding down and the rounding of factors make of one and a half units, and by
/// the minimum's rounding.
fn limits(case: &Case, row: usize, is_whole: bool) -> Vec<f32> {
    let row_bytes = case.blocks.len() / case.n_block_rows;
    let blocks = &case.blocks[row * row_bytes..][..row_bytes];
    let rounding = |value: f32| (value.abs() / 2048.0).max(2.0f32.powi(-25));
    let offset = case.format.coding().offset;
    let mut largest = 0.0f32;
    case.format
        .unpack(blocks, |block| largest = largest.max(block.scales[0].abs()));
    if is_whole && case.format.coding().n_bits == 8 {
        let mut weights = Vec::new();
        case.format.dequantise(blocks, &mut weights);
        let least = weights.iter().copied().fold(f32::INFINITY, f32::min);
        let greatest = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        return vec![0.501 * (greatest - least) / 255.0 + 1e-6 * least.abs(); weights.len()];
    }
    let mut limits = Vec::new();
    case.format.unpack(blocks, |block| {
        if is_whole {
            let minimum = block.minimum.abs() + 16.0 * block.scales[0].abs() + 2.0 * largest / 16.0;
            limits.extend([1.5 * largest * 16.0 / 255.0 + rounding(minimum); 32]);
            return;
        }
        limits.extend(block.codes.iter().enumerate().map(|(i, &code)| {
            let steps = (i32::from(code) - offset).abs() as f32;
            let limit = steps * rounding(block.scales[i / 16]) + rounding(block.minimum);
            // And the sum's own rounding.
            1.001 * limit + 1e-6 * block.minimum.abs()
        }));
    });
    limits
}

/// What that makes of a product with activations, whose own rounding adds less than a hundredth to their sizes.
fn rounding_of_products(case: &Case, row: usize, is_whole: bool, x: &[f32]) -> f32 {
    let largest = x.iter().fold(0.0f32, |a, b| a.max(b.abs()));
    let products = limits(case, row, is_whole).into_iter().zip(x);
    products
        .map(|(limit, x)| limit * (x.abs() + largest / 127.0))
        .sum()
}

fn check_picked<D>(
    device: &mut D,
    case: &Case,
    x: &Buffer,
    rows: &[&[u32]],
) -> Result<(), TestCaseError>
where
    D: Device<Buffer = Buffer>,
{
    let matrix = device
        .matrix(case.n_cols, &case.parts(), case.grain)
        .unwrap();
    let weight: Vec<f32> = (0..case.n_cols).map(|i| 0.5 + i as f32 / 64.0).collect();
    let weight = device.vector(&weight);
    for has_norm in [false, true] {
        let norm = || {
            has_norm.then_some(Norm {
                weight: &weight,
                eps: 1e-5,
            })
        };
        let mut whole = device.buffer(case.bias.len());
        device.matmul(&matrix, None, x, norm(), &mut whole);
        let picked = device.matmul_picked(&matrix, x, norm(), rows);
        let expected: Vec<f32> = whole
            .rows()
            .zip(rows)
            .flat_map(|(row, picked)| picked.iter().map(|&i| row[i as usize]))
            .collect();
        prop_assert_eq!(bits(&expected), bits(&picked));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_tier_gives_the_same_bits(case in case()) {
        for tier in TIERS {
            for n_threads in [1, 3] {
                let mut device = Cpu::with_tier(n_threads, tier);
                let expected = case.run(&mut yardstick(&device), 0, case.n_columns);
                let given = case.run(&mut device, 0, case.n_columns);
                prop_assert_eq!(bits(&expected), bits(&given), "{:?}, {} threads", tier, n_threads);
            }
        }
    }

    #[test]
    fn a_column_is_the_same_alone(case in case()) {
        for mut device in [Cpu::new(1), Cpu::with_scalar_unit(1)] {
            let together = case.run(&mut device, 0, case.n_columns);
            let alone: Vec<f32> =
                (0..case.n_columns).flat_map(|column| case.run(&mut device, column, 1)).collect();
            prop_assert_eq!(bits(&together), bits(&alone));
        }
    }

    /// Picked outputs have the bits that they have among all, on every tier and with any norm.
    #[test]
    fn picked_outputs_are_those_of_the_whole(case in case(), seed in any::<u64>()) {
        let n_rows = case.n_block_rows + case.n_plain_rows;
        let is_picked = |column: usize, row: usize| {
            (seed ^ (column * n_rows + row) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 62 == 0
        };
        let rows: Vec<Vec<u32>> = (0..case.n_columns)
            .map(|column| (0..n_rows).filter(|&row| is_picked(column, row)).map(|row| row as u32).collect())
            .collect();
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let x = buffer(case.n_cols, &case.x);
        for tier in TIERS {
            let mut device = Cpu::with_tier(2, tier);
            check_picked(&mut device, &case, &x, &rows)?;
        }
        check_picked(&mut Reference::new(2), &case, &x, &rows)?;
    }

    /// Sums that are added to are those that are stored, plus what was there.
    #[test]
    fn adding_is_storing_and_an_addition(case in case()) {
        let mut device = Cpu::new(2);
        let product = case.run(&mut device, 0, case.n_columns);
        let matrix = device.matrix(case.n_cols, &case.parts(), case.grain).unwrap();
        let mut out = buffer(case.bias.len(), &vec![0.5; product.len()]);
        let bias = device.vector(&case.bias);
        device.matmul_add(&matrix, Some(&bias), &buffer(case.n_cols, &case.x), &mut out);
        let expected: Vec<f32> = product.iter().map(|product| 0.5 + product).collect();
        prop_assert_eq!(bits(&expected), bits(&device.read(&out)));
    }

    /// Gates and ups that are taken together are what they are apart.
    #[test]
    fn gating_is_two_products_and_an_activation(case in case()) {
        let quantised = MatrixData::Blocks(case.format, &case.blocks);
        let gate = MatrixPart { n_rows: case.n_block_rows, data: quantised };
        let mut values = Vec::new();
        case.format.dequantise(&case.blocks, &mut values);
        let plain = MatrixPart { n_rows: case.n_block_rows, data: MatrixData::F32(&values) };
        let x = buffer(case.n_cols, &case.x);
        for up in [gate, plain] {
            let mut given = Vec::new();
            for mut device in TIERS.map(|tier| Cpu::with_tier(2, tier)).into_iter().chain(with_unit(2)) {
                let matrix = device.matrix(case.n_cols, &[gate, up], case.grain).unwrap();
                let (mut both, mut out) = (device.buffer(2 * gate.n_rows), device.buffer(gate.n_rows));
                device.matmul(&matrix, None, &x, None, &mut both);
                device.gated(&matrix, Activation::Silu, &x, None, &mut out);
                for (both, out) in both.rows().zip(out.rows()) {
                    for (i, out) in out.iter().enumerate() {
                        let (gate, up) = (both[i], both[gate.n_rows + i]);
                        let expected = gate / (1.0 + (-gate).exp()) * up;
                        prop_assert!((out - expected).abs() <= 1e-6 * expected.abs() + 1e-30, "{out} {expected}");
                    }
                }
                given.push((device.tier() == Tier::Amx, bits(out.values())));
            }
            let (by_unit, others): (Vec<_>, Vec<_>) = given.into_iter().partition(|(by_unit, _)| *by_unit);
            prop_assert!([by_unit, others].iter().all(|alike| alike.windows(2).all(|pair| pair[0] == pair[1])));
        }
    }

    /// A rounded activation is off by at most half its scale, so a product is off by at most the sum of
    /// half the scales times the weights' sizes.
    #[test]
    fn products_are_within_rounding_of_the_reference(case in case()) {
        let expected = case.run(&mut Reference::new(1), 0, case.n_columns);
        let mut device = if case.n_columns.is_multiple_of(2) { Cpu::new(1) } else { Cpu::with_scalar_unit(1) };
        let given = case.run(&mut device, 0, case.n_columns);
        let is_whole = is_whole(&case, &device);
        let mut weights = Vec::new();
        case.format.dequantise(&case.blocks, &mut weights);
        weights.extend(case.plain.values());
        let n_rows = case.n_block_rows + case.n_plain_rows;
        for (column, x) in case.x.chunks_exact(case.n_cols).enumerate() {
            for (row, weights) in weights.chunks_exact(case.n_cols).enumerate() {
                let products = x.iter().zip(weights).map(|(x, w)| (x * w).abs()).sum::<f32>();
                let is_fine = case.grain != Grain::ThirtyTwo || case.format == BlockFormat::Q6K;
                let n = if is_fine { 16 } else { 32 };
                let sharing = x.chunks_exact(n).zip(weights.chunks_exact(n));
                let rounding: f32 = sharing
                    .map(|(x, w)| {
                        let largest = x.iter().fold(0.0f32, |a, b| a.max(b.abs()));
                        // Sixteen bits and one scale a column are finer than that.
                        0.5 * largest / 127.0 * w.iter().map(|w| w.abs()).sum::<f32>()
                    })
                    .sum();
                // Scales and minimums that are rounded to f16.
                let is_rounded = (is_k(case.format) || is_whole) && row < case.n_block_rows;
                let of_weights = if is_rounded { rounding_of_products(&case, row, is_whole, x) } else { 0.0 };
                let rounding = match &case.plain {
                    _ if row < case.n_block_rows => rounding,
                    // Activations are rounded to eight bits.
                    Plain::Bf16(_) => products / 256.0,
                    _ => 0.0,
                };
                let rounding = rounding + of_weights;
                let at = column * n_rows + row;
                let off = (expected[at] - given[at]).abs();
                prop_assert!(off <= 1.001 * rounding + 1e-5 * (products + 40.0), "{off} > {rounding}");
            }
        }
    }

    /// Two parts of one shape and format lie in turn, like a gate and its up, and are what one part of all rows is.
    #[test]
    fn parts_that_lie_in_turn_are_rows_like_others(case in case()) {
        let n_half = case.n_block_rows / 2;
        prop_assume!(n_half > 0);
        let (first, rest) = case.blocks.split_at(case.blocks.len() / case.n_block_rows * n_half);
        let part = |n_rows, bytes| MatrixPart { n_rows, data: MatrixData::Blocks(case.format, bytes) };
        let whole = part(2 * n_half, &case.blocks[..2 * first.len()]);
        let halves = [part(n_half, first), part(n_half, &rest[..first.len()])];
        let x = buffer(case.n_cols, &case.x);
        let all: Vec<u32> = (0..2 * n_half as u32).collect();
        let mut device = Cpu::new(2);
        let [expected, given] = [&[whole][..], &halves].map(|parts| {
            let matrix = device.matrix(case.n_cols, parts, case.grain).unwrap();
            let (mut out, mut rows) = (device.buffer(2 * n_half), device.buffer(case.n_cols));
            device.matmul(&matrix, None, &x, None, &mut out);
            device.gather(&matrix, &all, &mut rows);
            let picked = device.matmul_picked(&matrix, &x, None, &vec![&all[..]; case.n_columns]);
            [bits(out.values()), bits(rows.values()), bits(&picked)]
        });
        prop_assert_eq!(&expected[0], &expected[2]);
        prop_assert_eq!(expected, given);
    }

    #[test]
    fn tiles_hold_every_weight_exactly(case in case(), n_threads in 1..6usize) {
        let (mut cpu, mut reference) = (Cpu::new(n_threads), Reference::new(1));
        let is_whole = is_whole(&case, &cpu);
        let rows: Vec<u32> = (0..(case.n_block_rows + case.n_plain_rows) as u32).rev().collect();
        let (mut given, mut expected) = (cpu.buffer(case.n_cols), reference.buffer(case.n_cols));
        let matrix = cpu.matrix(case.n_cols, &case.parts(), case.grain).unwrap();
        cpu.gather(&matrix, &rows, &mut given);
        let matrix = reference.matrix(case.n_cols, &case.parts(), case.grain).unwrap();
        reference.gather(&matrix, &rows, &mut expected);
        if !is_k(case.format) && !is_whole {
            prop_assert_eq!(bits(given.values()), bits(expected.values()));
        }
        for (&row, (given, expected)) in rows.iter().zip(given.rows().zip(expected.rows())) {
            let is_quantised = (row as usize) < case.n_block_rows;
            let limits = if is_quantised { limits(&case, row as usize, is_whole) } else { vec![0.0; case.n_cols] };
            for ((given, expected), limit) in given.iter().zip(expected).zip(limits) {
                prop_assert!((given - expected).abs() <= limit, "{given} {expected}");
            }
        }
    }

    #[test]
    fn q8_0_is_within_half_a_step(values in values(64)) {
        let mut given = Vec::new();
        BlockFormat::Q8_0.dequantise(&quantise_q8_0(&values), &mut given);
        for (block, given) in values.chunks(32).zip(given.chunks(32)) {
            let largest = block.iter().fold(0.0f32, |a, b| a.max(b.abs()));
            for (value, given) in block.iter().zip(given) {
                // The scale itself is rounded to f16: 127 steps of it may fall short of the largest.
                prop_assert!((value - given).abs() <= largest * (0.5 / 127.0 + 1.0 / 1024.0));
            }
        }
    }
}

/// The layout of ggml's blocks, written down by hand from ggml-common.h.
#[test]
fn blocks_are_read_as_ggml_writes_them() {
    let one = half::f16::from_f32(1.0).to_le_bytes();
    let half = half::f16::from_f32(0.5).to_le_bytes();
    let nibbles: Vec<u8> = (0..16).map(|i| i | (15 - i) << 4).collect();
    let mut given = Vec::new();
    BlockFormat::Q4_0.dequantise(&[&one[..], &nibbles].concat(), &mut given);
    let expected = (0..16)
        .map(|i| i as f32 - 8.0)
        .chain((0..16).map(|i| 7.0 - i as f32));
    assert_eq!(given, expected.collect::<Vec<_>>());
    given.clear();
    BlockFormat::Q4_1.dequantise(&[&half[..], &one[..], &nibbles].concat(), &mut given);
    let expected = (0..16).map(|i| 0.5 * i as f32 + 1.0);
    assert_eq!(given[..16], expected.collect::<Vec<_>>());
    given.clear();
    let bytes: Vec<u8> = (0..32u8).map(|i| i.wrapping_sub(16)).collect();
    BlockFormat::Q8_0.dequantise(&[&half[..], &bytes].concat(), &mut given);
    assert_eq!(
        given,
        (0..32).map(|i| 0.5 * (i as f32 - 16.0)).collect::<Vec<_>>()
    );
}

/// The layout of blocks of five and of six bits, likewise: single bits set where the formats have them.
#[test]
fn bits_above_nibbles_are_read_as_ggml_writes_them() {
    let one = half::f16::from_f32(1.0).to_le_bytes();
    let two = half::f16::from_f32(2.0).to_le_bytes();
    let dequantised = |format: BlockFormat, parts: &[&[u8]]| {
        let mut given = Vec::new();
        format.dequantise(&parts.concat(), &mut given);
        given
    };
    // Values 3 and 17 have their fifth bit, value 3 also the nibble 2, value 19 the nibble 5.
    let mut nibbles = [0; 16];
    nibbles[3] = 0x52;
    let fifth = [0b1000, 0, 0b10, 0];
    let mut expected = [0.0f32; 32];
    (expected[3], expected[17], expected[19]) = (18.0, 16.0, 5.0);
    let given = dequantised(BlockFormat::Q5_0, &[&two, &fifth, &nibbles]);
    assert_eq!(given, expected.map(|x| 2.0 * (x - 16.0)));
    let given = dequantised(BlockFormat::Q5_1, &[&two, &one, &fifth, &nibbles]);
    assert_eq!(given, expected.map(|x| 2.0 * x + 1.0));
    // Scales 1 to 8 with minimums of 32 to 39: of six bits each, the last four of both in pieces.
    let scales: [u8; 12] = [
        1,
        2,
        3,
        4,
        0x80 | 32,
        0x80 | 33,
        0x80 | 34,
        0x80 | 35,
        0x45,
        0x56,
        0x67,
        0x78,
    ];
    // Value 32 * 5 + 7 has the nibble 9 (the high one of byte 2 * 32 + 7) and, in Q5_K, bit 5 of byte 7.
    let mut nibbles = [0; 128];
    nibbles[2 * 32 + 7] = 0x90;
    let mut fifth = [0; 32];
    fifth[7] = 1 << 5;
    let minimums = (0..256).map(|i| -[32.0, 33.0, 34.0, 35.0, 36.0, 37.0, 38.0, 39.0f32][i / 32]);
    let mut expected: Vec<f32> = minimums.collect();
    expected[32 * 5 + 7] += 2.0 * 6.0 * 9.0;
    let given = dequantised(BlockFormat::Q4K, &[&two, &one, &scales, &nibbles]);
    assert_eq!(given, expected);
    expected[32 * 5 + 7] += 2.0 * 6.0 * 16.0;
    let given = dequantised(BlockFormat::Q5K, &[&two, &one, &scales, &fifth, &nibbles]);
    assert_eq!(given, expected);
    // Value 128 + 64 + 20 of Q6_K has the nibble 7 (the high one of byte 64 + 20) and the third pair of bits of byte 52.
    let (mut low, mut high, mut scales) = ([0; 128], [0; 64], [1; 16]);
    low[64 + 20] = 0x70;
    high[32 + 20] = 0b11 << 4;
    scales[8 + 4 + 1] = 0xfe;
    let given = dequantised(BlockFormat::Q6K, &[&low, &high, &scales, &two]);
    let mut expected = [-64.0; 256];
    expected[208..224].fill(128.0);
    expected[128 + 64 + 20] = 2.0 * -2.0 * (48.0 + 7.0 - 32.0);
    assert_eq!(given, expected);
}

/// The smallest and the largest codes, scales and activations, whose sums of integers are as large as they come.
#[test]
fn extremes_are_the_same_on_every_tier() {
    let (n_rows, n_cols) = (17, 512);
    for (format, grain) in BlockFormat::ALL
        .into_iter()
        .flat_map(|format| [(format, Grain::Sixteen), (format, Grain::ThirtyTwo)])
    {
        for (fill, scale) in [
            (0x00, 1000.0),
            (0xff, 1000.0),
            (0xff, -6e-8),
            (0x80, 6.1e-5),
        ] {
            let mut bytes = vec![fill; n_rows * n_cols / format.block_len() * format.block_bytes()];
            for block in bytes.chunks_exact_mut(format.block_bytes()) {
                for at in halves_of(format) {
                    block[at..at + 2].copy_from_slice(&half::f16::from_f32(scale).to_le_bytes());
                }
            }
            let part = MatrixPart {
                n_rows,
                data: MatrixData::Blocks(format, &bytes),
            };
            let x: Vec<f32> = [1e30f32, -1e30, 0.0, 1e-20, -3.0, 127.0, 1e-45]
                .into_iter()
                .flat_map(|x| vec![x; n_cols])
                .collect();
            let product = |mut device: Cpu| {
                let matrix = device.matrix(n_cols, &[part], grain).unwrap();
                let mut out = device.buffer(n_rows);
                device.matmul(&matrix, None, &buffer(n_cols, &x), None, &mut out);
                bits(out.values())
            };
            for device in TIERS.map(|tier| Cpu::with_tier(1, tier)) {
                let (expected, tier) = (product(yardstick(&device)), device.tier());
                let given = product(device);
                assert_eq!(
                    expected, given,
                    "{format:?} {grain:?} {fill} {scale} {tier:?}"
                );
            }
        }
    }
}

proptest! {
    /// A dot of whole numbers times a scale is rounded once, and a minimum's product and both together once, on every tier.
    #[test]
    fn dots_are_scaled_exactly(
        (format, bytes, mut activations) in proptest::sample::select(&BlockFormat::ALL[..5]).prop_flat_map(|format| (
            Just(format),
            prop_oneof![blocks(format, 16), Just(vec![0xbb; 16 * format.block_bytes()])],
            proptest::collection::vec(prop_oneof![Just(127i8), Just(-127), -127..=127i8], 32),
        )),
    ) {
        // Then the scale of the activations is one.
        activations[0] = 127;
        let x: Vec<f32> = activations.iter().map(|&x| f32::from(x)).collect();
        let offset = format.coding().offset;
        let mut expected = Vec::new();
        format.unpack(&bytes, |block| {
            let codes = block.codes.iter().map(|&code| i32::from(code) - offset);
            let dot: i32 = codes.zip(&activations).map(|(code, &x)| code * i32::from(x)).sum();
            let total: f32 = x.iter().sum();
            // The sum begins with zero, so that no zero has a sign.
            expected.push(block.minimum.mul_add(total, dot as f32 * block.scales[0]) + 0.0);
        });
        let part = MatrixPart { n_rows: 16, data: MatrixData::Blocks(format, &bytes) };
        for tier in TIERS {
            let mut device = Cpu::with_tier(1, tier);
            let matrix = device.matrix(32, &[part], Grain::ThirtyTwo).unwrap();
            let mut out = device.buffer(16);
            device.matmul(&matrix, None, &buffer(32, &x), None, &mut out);
            prop_assert_eq!(bits(out.values()), bits(&expected), "{:?}", tier);
        }
    }
}

#[test]
fn misshapen_matrices_are_refused() {
    let device = Cpu::new(1);
    let short = MatrixPart {
        n_rows: 2,
        data: MatrixData::F32(&[0.0; 63]),
    };
    assert!(matches!(
        device.matrix(32, &[short], Grain::Sixteen),
        Err(KernelError::Shape { given: 63, .. })
    ));
    let ragged = MatrixPart {
        n_rows: 1,
        data: MatrixData::Blocks(BlockFormat::Q8_0, &[0; 34]),
    };
    assert!(matches!(
        device.matrix(48, &[ragged], Grain::Sixteen),
        Err(KernelError::RaggedRow { n_cols: 48, .. })
    ));
    let short_of_k = MatrixPart {
        n_rows: 1,
        data: MatrixData::Blocks(BlockFormat::Q4K, &[0; 144]),
    };
    assert!(matches!(
        device.matrix(128, &[short_of_k], Grain::Sixteen),
        Err(KernelError::RaggedRow {
            n_cols: 128,
            block_len: 256
        })
    ));
}

#[test]
fn activations_that_are_no_numbers_do_not_panic() {
    let blocks = vec![0x22; 34];
    let part = MatrixPart {
        n_rows: 1,
        data: MatrixData::Blocks(BlockFormat::Q8_0, &blocks),
    };
    for tier in TIERS {
        let mut device = Cpu::with_tier(1, tier);
        let matrix = device.matrix(32, &[part], Grain::ThirtyTwo).unwrap();
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-45] {
            let mut out = device.buffer(1);
            device.matmul(&matrix, None, &buffer(32, &[value; 32]), None, &mut out);
            assert_eq!(out.n_rows(), 1);
        }
    }
}
