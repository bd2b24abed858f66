//! Products of plain weights, bit for bit what their definition says.

use half::{bf16, f16};
use proptest::prelude::*;

use super::*;
use crate::{Activation, Grain, MatrixData, MatrixPart, Reference};

/// Plain weights of one format.
#[derive(Debug, Clone)]
pub(super) enum Plain {
    F32(Vec<f32>),
    F16(Vec<[u8; 2]>),
    Bf16(Vec<[u8; 2]>),
}

impl Plain {
    /// Those nearest to some values, in format `i` of three.
    fn of(i: usize, values: &[f32]) -> Self {
        match i {
            0 => Plain::F32(values.to_vec()),
            1 => Plain::F16(
                values
                    .iter()
                    .map(|&x| f16::from_f32(x).to_le_bytes())
                    .collect(),
            ),
            _ => Plain::Bf16(
                values
                    .iter()
                    .map(|&x| bf16::from_f32(x).to_le_bytes())
                    .collect(),
            ),
        }
    }

    pub(super) fn any(i: usize, len: usize) -> impl Strategy<Value = Self> {
        values(len).prop_map(move |values| Plain::of(i, &values))
    }

    pub(super) fn data(&self) -> MatrixData<'_> {
        match self {
            Plain::F32(values) => MatrixData::F32(values),
            Plain::F16(values) => MatrixData::F16(values),
            Plain::Bf16(values) => MatrixData::Bf16(values),
        }
    }

    /// What is stored.
    pub(super) fn values(&self) -> Vec<f32> {
        match self {
            Plain::F32(values) => values.clone(),
            Plain::F16(values) => values
                .iter()
                .map(|x| f16::from_le_bytes(*x).to_f32())
                .collect(),
            Plain::Bf16(values) => values
                .iter()
                .map(|x| bf16::from_le_bytes(*x).to_f32())
                .collect(),
        }
    }

    /// One output, by definition: inputs in ascending order, each product added with one rounding. Bf16 has activations in bf16,
    /// of each two inputs the second first, and numbers below 2^-56 as zero.
    fn product(&self, weights: &[f32], x: &[f32]) -> f32 {
        if !matches!(self, Plain::Bf16(_)) {
            let terms = weights.iter().zip(x);
            return terms.fold(0.0, |sum, (w, x)| w.mul_add(*x, sum));
        }
        let x: Vec<f32> = x
            .iter()
            .map(|&x| {
                let limit = bf16::MAX.to_f32();
                without_tiny(bf16::from_f32(x).to_f32().clamp(-limit, limit))
            })
            .collect();
        let pairs = weights.chunks(2).zip(x.chunks(2));
        pairs.fold(0.0, |sum, (weights, x)| {
            let terms = weights.iter().zip(x).rev();
            terms.fold(sum, |sum, (w, x)| without_tiny(*w).mul_add(*x, sum))
        })
    }
}

fn without_tiny(x: f32) -> f32 {
    if x.abs() < 2.0f32.powi(-56) { 0.0 } else { x }
}

/// A matrix and activations.
#[derive(Debug, Clone)]
struct Case {
    n_cols: usize,
    n_rows: usize,
    weights: Plain,
    x: Vec<f32>,
}

impl Case {
    fn part(&self) -> MatrixPart<'_> {
        MatrixPart {
            n_rows: self.n_rows,
            data: self.weights.data(),
        }
    }

    fn expected(&self) -> Vec<f32> {
        let weights = self.weights.values();
        let columns = self.x.chunks_exact(self.n_cols);
        columns
            .flat_map(|x| {
                let rows = weights.chunks_exact(self.n_cols);
                rows.map(|row| self.weights.product(row, x))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    fn run(&self, device: &mut Cpu) -> Vec<f32> {
        let matrix = device
            .matrix(self.n_cols, &[self.part()], Grain::Sixteen)
            .unwrap();
        let mut out = device.buffer(self.n_rows);
        device.matmul(&matrix, None, &buffer(self.n_cols, &self.x), None, &mut out);
        device.read(&out)
    }
}

fn case() -> impl Strategy<Value = Case> {
    let n_columns = prop_oneof![1..8usize, 40..120usize];
    (0..3usize, 1..140usize, 1..70usize, n_columns).prop_flat_map(
        |(format, n_cols, n_rows, n_columns)| {
            let weights = Plain::any(format, n_cols * n_rows);
            let x = values(n_cols * n_columns);
            (weights, x).prop_map(move |(weights, x)| Case {
                n_cols,
                n_rows,
                weights,
                x,
            })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_tier_computes_the_definition(case in case(), n_threads in 1..4usize) {
        let expected = bits(&case.expected());
        for tier in TIERS {
            let given = case.run(&mut Cpu::with_tier(n_threads, tier));
            prop_assert_eq!(&expected, &bits(&given), "{:?}", tier);
        }
    }

    /// Rows are read as they were stored; a gate and its up, which lie in turn, are rows like others; so are picked ones.
    #[test]
    fn tiles_hold_every_weight_where_it_is_asked_for(case in case(), n_threads in 1..4usize) {
        let (mut cpu, mut reference) = (Cpu::new(n_threads), Reference::new(1));
        let parts = [case.part(); 2];
        let rows: Vec<u32> = (0..2 * case.n_rows as u32).collect();
        let matrix = cpu.matrix(case.n_cols, &parts, Grain::Sixteen).unwrap();
        let (mut given, mut expected) = (cpu.buffer(case.n_cols), cpu.buffer(case.n_cols));
        cpu.gather(&matrix, &rows, &mut given);
        reference.gather(&reference.matrix(case.n_cols, &parts, Grain::Sixteen).unwrap(), &rows, &mut expected);
        prop_assert_eq!(bits(given.values()), bits(expected.values()));

        let x = buffer(case.n_cols, &case.x);
        let single = case.expected();
        let twice: Vec<f32> =
            single.chunks_exact(case.n_rows).flat_map(|row| [row, row].concat()).collect();
        let picked = cpu.matmul_picked(&matrix, &x, None, &vec![&rows[..]; x.n_rows()]);
        prop_assert_eq!(bits(&twice), bits(&picked));
        let mut gated = cpu.buffer(case.n_rows);
        cpu.gated(&matrix, Activation::Silu, &x, None, &mut gated);
        for (product, gated) in single.iter().zip(gated.values()) {
            let expected = product / (1.0 + (-product).exp()) * product;
            prop_assert!((gated - expected).abs() <= 1e-6 * expected.abs() + 1e-30, "{gated} {expected}");
        }
    }
}

/// The greatest and the least numbers of each format, infinities among activations, products and sums that leave the range of f32
/// or fall below its normal numbers. Of one sign each, so that none is no number.
#[test]
fn extremes_are_by_definition_on_every_tier() {
    let sizes = [
        f32::MAX,
        65504.0,
        1.0,
        1e-6,
        6e-8,
        1.5e-17,
        1.3e-17,
        1e-37,
        1e-40,
        1e-45,
    ];
    let n_cols = 2 * sizes.len() + 1;
    let cycled = |n: usize| sizes.iter().cycle().skip(n).take(n_cols);
    let weights: Vec<f32> = (0..17).flat_map(cycled).copied().collect();
    let activations = [1.0, -1.0, 1e30, -1e-30, f32::MAX, f32::INFINITY, 1e-44];
    let x: Vec<f32> = activations
        .iter()
        .flat_map(|&by| (0..5).flat_map(move |n| cycled(n).map(move |x| x.max(1e-30) * by)))
        .collect();
    for format in 0..3 {
        // An f16 that is infinite would meet zeros.
        let limit = if format == 1 { 65504.0 } else { f32::MAX };
        let weights: Vec<f32> = weights.iter().map(|x| x.min(limit)).collect();
        let weights = match Plain::of(format, &weights) {
            Plain::Bf16(halves) => Plain::Bf16(
                halves
                    .into_iter()
                    .map(|x| bf16::from_le_bytes(x).min(bf16::MAX).to_le_bytes())
                    .collect(),
            ),
            weights => weights,
        };
        let case = Case {
            n_cols,
            n_rows: 17,
            weights,
            x: x.clone(),
        };
        let expected = case.expected();
        let is_number = |i: &usize| !expected[*i].is_nan();
        let numbers: Vec<usize> = (0..expected.len()).filter(is_number).collect();
        assert!(2 * numbers.len() > expected.len());
        for tier in TIERS {
            let given = case.run(&mut Cpu::with_tier(1, tier));
            for &i in &numbers {
                assert_eq!(
                    expected[i].to_bits(),
                    given[i].to_bits(),
                    "{format} {tier:?} {i}"
                );
            }
        }
    }
}
