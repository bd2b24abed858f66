//! Whole weights: how they are found, and their products against plain sums.

use proptest::prelude::*;

use super::*;
use crate::{Activation, Grain, MatrixData, MatrixPart};

/// A row of Q4_0, two blocks of 32 codes, of scales -2 and 1.25.
#[test]
fn weights_are_whole_numbers_of_a_unit_and_a_minimum_a_block() {
    let codes: Vec<u8> = (0..16).map(|i| i | (15 - i) << 4).collect();
    let block = |scale: f32| [&half::f16::from_f32(scale).to_le_bytes()[..], &codes].concat();
    let row = [block(-2.0), block(1.25)].concat();
    let part = MatrixPart {
        n_rows: 1,
        data: MatrixData::Blocks(BlockFormat::Q4_0, &row),
    };
    for mut device in with_unit(1) {
        let matrix = device.matrix(64, &[part], Grain::Sixteen).unwrap();
        let mut given = device.buffer(64);
        device.gather(&matrix, &[0], &mut given);
        // The greatest scale is 255 sixteenths of a unit. Scales -2 and 1.25 are factors 255 and 159 (159.4), and a negative one's codes count
        // from above.
        let unit = 2.0 * 16.0 / 255.0;
        let weights = |factor: u32, exact: [f32; 32], codes: [u32; 32]| {
            let whole = codes.map(|code| unit * (factor * code / 16) as f32);
            let mean = |of: [f32; 32]| of.iter().sum::<f32>() / 32.0;
            let minimum = mean(exact) - mean(whole);
            whole.map(|whole| whole + minimum)
        };
        let code = |i: usize| if i < 16 { i as u32 } else { 31 - i as u32 };
        let codes: [u32; 32] = std::array::from_fn(code);
        let exact = |scale: f32| codes.map(|code| scale * (code as f32 - 8.0));
        let expected = [
            weights(255, exact(-2.0), codes.map(|code| 15 - code)),
            weights(159, exact(1.25), codes),
        ];
        for (given, expected) in given.values().iter().zip(expected.as_flattened()) {
            // A minimum is rounded to 256ths of a unit.
            let limit = unit / 512.0 + 1e-5;
            assert!((given - expected).abs() <= limit, "{given} {expected}");
        }
    }
}

/// A row of Q8_0, two blocks of 32 codes, of scales 0.5 and 2: what is between its least and its greatest weight has 255 units.
#[test]
fn weights_of_eight_bits_are_whole_numbers_of_a_unit_over_the_least() {
    let block = |scale: f32, codes: [i8; 32]| {
        let codes = codes.map(|code| code.cast_unsigned());
        [&half::f16::from_f32(scale).to_le_bytes()[..], &codes].concat()
    };
    let codes: [i8; 32] = std::array::from_fn(|i| (8 * i as i16 - 127) as i8);
    let row = [block(0.5, codes), block(2.0, codes.map(|code| code / 4))].concat();
    let part = MatrixPart {
        n_rows: 1,
        data: MatrixData::Blocks(BlockFormat::Q8_0, &row),
    };
    let exact = [
        codes.map(|code| 0.5 * f32::from(code)),
        codes.map(|code| 2.0 * f32::from(code / 4)),
    ];
    let exact = exact.as_flattened();
    let (least, greatest) = (-63.5, 60.5);
    assert!(exact.contains(&least) && exact.contains(&greatest));
    let unit = (greatest - least) / 255.0;
    for mut device in with_unit(1) {
        let matrix = device.matrix(64, &[part], Grain::Whole).unwrap();
        let mut given = device.buffer(64);
        device.gather(&matrix, &[0], &mut given);
        for (given, exact) in given.values().iter().zip(exact) {
            let units = (given - least) / unit;
            assert!((units - units.round()).abs() < 1e-3, "{units}");
            assert!((given - exact).abs() <= 0.501 * unit, "{given} {exact}");
        }
    }
}

/// Rows of blocks of four or eight bits, and columns.
fn case() -> impl Strategy<Value = (BlockFormat, usize, Vec<u8>, Vec<f32>)> {
    let formats = vec![
        BlockFormat::Q4_0,
        BlockFormat::Q4_1,
        BlockFormat::Q4K,
        BlockFormat::Q8_0,
    ];
    let sizes = (
        proptest::sample::select(formats),
        1..7usize,
        1..40usize,
        1..40usize,
    );
    sizes.prop_flat_map(|(format, n_steps, n_rows, n_columns)| {
        let n_cols = n_steps * if is_k(format) { 256 } else { 64 };
        let n_bytes = n_rows * n_cols / format.block_len() * format.block_bytes();
        let blocks = proptest::collection::vec(any::<u8>(), n_bytes).prop_map(move |mut bytes| {
            shrink_scales(format, &mut bytes);
            bytes
        });
        (
            Just(format),
            Just(n_cols),
            blocks,
            values(n_cols * n_columns),
        )
    })
}

/// What may be lost of a minimum times the sum of a block: half a row's unit at least, from its blocks. A unit is 16 255ths of the greatest scale, or a
/// 253th of what lies between two minimums, which are lower by fifteen scales where those are negative. Weights of eight bits have no minimums.
fn half_unit(format: BlockFormat, row: &[u8]) -> f64 {
    if format == BlockFormat::Q8_0 {
        return 0.0;
    }
    let (mut scales, mut minimums) = (0.0f32, [f32::INFINITY, f32::NEG_INFINITY]);
    format.unpack(row, |block| {
        let scale = block.scales[0];
        let minimum = block.minimum - 8.0 * scale;
        for minimum in [minimum - 15.0 * scale.abs(), minimum + 15.0 * scale.abs()] {
            minimums = [minimums[0].min(minimum), minimums[1].max(minimum)];
        }
        scales = scales.max(scale.abs());
    });
    f64::from((scales * 16.0 / 255.0).max((minimums[1] - minimums[0]) / 253.0)) / 2.0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Products are those of the weights that are read and of activations in whole 32,639ths of a column's greatest, or of the greatest sum of
    /// a block; of what the 256ths of a minimum are multiplied by, a 256th of that sum, half may be lost.
    #[test]
    fn products_are_exact_but_for_activations_of_sixteen_bits((format, n_cols, blocks, x) in case()) {
        let row_len = n_cols / format.block_len() * format.block_bytes();
        let rows: Vec<&[u8]> = blocks.chunks_exact(row_len).collect();
        let part = MatrixPart { n_rows: rows.len(), data: MatrixData::Blocks(format, &blocks) };
        let all: Vec<u32> = (0..rows.len() as u32).collect();
        for mut device in with_unit(2) {
            let matrix = device.matrix(n_cols, &[part], Grain::Whole).unwrap();
            let (mut weights, mut out) = (device.buffer(n_cols), device.buffer(rows.len()));
            device.gather(&matrix, &all, &mut weights);
            device.matmul(&matrix, None, &buffer(n_cols, &x), None, &mut out);
            for (x, out) in x.chunks_exact(n_cols).zip(out.rows()) {
                let values = x.iter().fold(0.0f32, |a, b| a.max(b.abs()));
                let sums = x.chunks(32).map(|block| block.iter().sum::<f32>().abs()).fold(0.0, f32::max);
                let scale = f64::from(values.max(sums * (32_639.0 / 32_607.0))) / 32_639.0;
                for ((weights, row), given) in weights.rows().zip(&rows).zip(out) {
                    let lost = half_unit(format, row) * (n_cols / 32) as f64;
                    let (mut expected, mut limit) = (0.0, lost * 255.0 * scale);
                    for (w, x) in weights.iter().zip(x).map(|(&w, &x)| (f64::from(w), f64::from(x))) {
                        let steps = if scale > 0.0 { x / scale } else { 0.0 };
                        expected += w * steps.round() * scale;
                        // What is halfway between two numbers may be rounded either way.
                        let is_halfway = (steps.abs().fract() - 0.5).abs() < 0.01;
                        limit += 1e-5 * (w * x).abs() + if is_halfway { w.abs() * scale } else { 0.0 };
                    }
                    prop_assert!((expected - f64::from(*given)).abs() <= limit, "{expected} {given}");
                }
            }
        }
    }
}

/// More pairs than are multiplied together, and columns that are no whole sixteens.
#[test]
fn columns_of_many_pairs_are_those_of_each_alone() {
    for format in [BlockFormat::Q4_1, BlockFormat::Q8_0] {
        check_many_pairs(format);
    }
}

fn check_many_pairs(format: BlockFormat) {
    let (n_cols, n_rows, n_columns) = (64, 1100, 50);
    let number = |i: usize| (i as u32).wrapping_mul(2_654_435_761) >> 24;
    let n_bytes = n_rows * n_cols / 32 * format.block_bytes();
    let mut blocks: Vec<u8> = (0..n_bytes).map(|i| number(i) as u8).collect();
    shrink_scales(format, &mut blocks);
    let part = MatrixPart {
        n_rows,
        data: MatrixData::Blocks(format, &blocks),
    };
    let x: Vec<f32> = (0..n_cols * n_columns)
        .map(|i| number(i + n_bytes) as f32 / 64.0 - 2.0)
        .collect();
    for mut device in with_unit(1).into_iter().chain(with_unit(2)) {
        let matrix = device.matrix(n_cols, &[part], Grain::Whole).unwrap();
        let gates = [part, part];
        let gated = device.matrix(n_cols, &gates, Grain::Whole).unwrap();
        let mut products = |x: &[f32]| {
            let x = buffer(n_cols, x);
            let [mut plain, mut added, mut activated] = [(); 3].map(|()| device.buffer(n_rows));
            device.matmul(&matrix, None, &x, None, &mut plain);
            added.assign(plain.values());
            device.matmul_add(&matrix, None, &x, &mut added);
            device.gated(&gated, Activation::Silu, &x, None, &mut activated);
            [plain, added, activated]
        };
        let together = products(&x);
        for (column, x) in x.chunks_exact(n_cols).enumerate() {
            let alone = products(x);
            for (together, alone) in together.iter().zip(&alone) {
                assert_eq!(bits(together.row(column)), bits(alone.values()));
            }
        }
    }
}
