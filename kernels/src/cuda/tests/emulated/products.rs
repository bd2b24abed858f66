//! Products: right, and the same bits in any company.

use std::collections::BTreeSet;

use half::{bf16, f16};
use proptest::prelude::*;

use super::{bits, buffer, error};
use crate::cuda::matrix::round;
use crate::tests::shrink_scales;
use crate::{
    Activation, BlockFormat, Cuda, Device, Element, Grain, MatrixData, MatrixPart, Norm, Reference,
    emulated,
};

/// Rows of one format.
#[derive(Debug, Clone)]
struct Part {
    n_rows: usize,
    format: Option<BlockFormat>,
    bytes: Vec<u8>,
    values: Vec<f32>,
}

impl Part {
    fn part(&self) -> MatrixPart<'_> {
        let data = match self.format {
            None => MatrixData::F32(&self.values),
            Some(format) => MatrixData::Blocks(format, &self.bytes),
        };
        MatrixPart {
            n_rows: self.n_rows,
            data,
        }
    }
}

/// Rows of random blocks.
fn blocks(format: BlockFormat, (n_rows, n_cols): (usize, usize), seed: u64) -> Part {
    let mut state = seed | 1;
    let mut byte = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    let n_bytes = n_rows * n_cols / format.block_len() * format.block_bytes();
    let mut bytes: Vec<u8> = (0..n_bytes).map(|_| byte()).collect();
    shrink_scales(format, &mut bytes);
    let mut values = Vec::new();
    format.dequantise(&bytes, &mut values);
    Part {
        n_rows,
        format: Some(format),
        bytes,
        values,
    }
}

fn part(n_rows: usize, n_cols: usize) -> impl Strategy<Value = Part> {
    let plain = proptest::collection::vec(-1.0f32..1.0, n_rows * n_cols);
    let whole = |format: &BlockFormat| n_cols.is_multiple_of(format.block_len());
    let formats: Vec<_> = std::iter::once(None)
        .chain(BlockFormat::ALL.into_iter().filter(whole).map(Some))
        .collect();
    let format = proptest::sample::select(formats);
    (format, plain, any::<u64>()).prop_map(move |(format, values, seed)| match format {
        Some(format) => blocks(format, (n_rows, n_cols), seed),
        None => Part {
            n_rows,
            format: None,
            bytes: Vec::new(),
            values,
        },
    })
}

#[derive(Debug, Clone)]
struct Case {
    n_cols: usize,
    parts: Vec<Part>,
    x: Vec<f32>,
    bias: Vec<f32>,
    element: Element,
    seed: u64,
}

impl Case {
    fn n_rows(&self) -> usize {
        self.parts.iter().map(|part| part.n_rows).sum()
    }

    fn matrix<D: Device>(&self, device: &D) -> D::Matrix {
        let parts: Vec<_> = self.parts.iter().map(Part::part).collect();
        device
            .matrix(self.n_cols, &parts, Grain::ThirtyTwo)
            .unwrap()
    }

    /// The product with `x`, added to `into` if there is one.
    fn product<D: Device>(&self, device: &mut D, x: &[f32], into: Option<&[f32]>) -> Vec<f32> {
        let (matrix, bias) = (self.matrix(device), device.vector(&self.bias));
        let x = buffer(device, self.n_cols, x);
        let mut out = device.buffer(self.n_rows());
        match into {
            None => device.matmul(&matrix, Some(&bias), &x, None, &mut out),
            Some(values) => {
                device.write(&mut out, values);
                device.matmul_add(&matrix, Some(&bias), &x, &mut out);
            }
        }
        device.read(&out)
    }

    /// The product in f64 of what is left after rounding, and the sum of the sizes of what it adds.
    fn exact(&self) -> Vec<(f64, f64)> {
        let element = |value: f32| f64::from(rounded(value, self.element));
        let weights: Vec<f32> = self
            .parts
            .iter()
            .flat_map(|part| part.values.clone())
            .collect();
        let mut out = Vec::new();
        for x in self.x.chunks_exact(self.n_cols) {
            for (row, bias) in weights.chunks_exact(self.n_cols).zip(&self.bias) {
                let products = row.iter().zip(x).map(|(w, x)| element(*w) * element(*x));
                let bias = f64::from(*bias);
                let sums = products.fold((bias, bias.abs()), |(a, b), p| (a + p, b + p.abs()));
                out.push(sums);
            }
        }
        out
    }
}

fn rounded(value: f32, element: Element) -> f32 {
    let bits = round(value, element);
    match element {
        Element::Bf16 => bf16::from_bits(bits).to_f32(),
        Element::F16 => f16::from_bits(bits).to_f32(),
    }
}

fn case(n_tokens: impl Strategy<Value = usize>) -> impl Strategy<Value = Case> {
    let n_cols = prop_oneof![
        2 => (1..12usize).prop_map(|n| 32 * n),
        2 => (1..3usize).prop_map(|n| 256 * n),
        1 => 1..200usize,
    ];
    let element = prop_oneof![Just(Element::Bf16), Just(Element::F16)];
    (n_cols, 1..40usize, 0..30usize, n_tokens, element, 0..4u64).prop_flat_map(
        |(n_cols, first, second, n_tokens, element, seed)| {
            let x = proptest::collection::vec(-2.0f32..2.0, n_cols * n_tokens);
            let bias = proptest::collection::vec(-1.0f32..1.0, first + second);
            (part(first, n_cols), part(second, n_cols), x, bias).prop_map(
                move |(first, second, x, bias)| Case {
                    n_cols,
                    parts: vec![first, second],
                    x,
                    bias,
                    element,
                    seed,
                },
            )
        },
    )
}

/// The activations in f64 as their papers have them: SiLU, and GELU by its tangent.
fn activated(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
    }
}

/// Whether a product is that of the rounded factors, `size` being the sum of the sizes of what it adds: an f32 sum of at most
/// 512 products.
fn is_near(given: f32, expected: f64, size: f64) -> bool {
    (f64::from(given) - expected).abs() <= 2e-5 * size + 1e-12
}

/// What random cases may leave out: every format, in every kernel.
#[test]
fn every_format_is_right() {
    let (n_rows, n_cols) = (19, 512);
    let Some(mut device) = emulated(Element::Bf16, 3) else {
        return;
    };
    for format in BlockFormat::ALL {
        let n_tokens = 67;
        let x = (0..n_tokens * n_cols).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0);
        let case = Case {
            n_cols,
            parts: vec![blocks(format, (n_rows, n_cols), 11)],
            x: x.collect(),
            bias: vec![0.5; n_rows],
            element: Element::Bf16,
            seed: 3,
        };
        let matrix = case.matrix(&device);
        let mut rows = device.buffer(n_cols);
        device.gather(&matrix, &[18, 0, 7], &mut rows);
        let expected = [18, 0, 7].map(|row| &case.parts[0].values[row * n_cols..][..n_cols]);
        assert_eq!(device.read(&rows), expected.concat(), "{format:?}");
        let exact = case.exact();
        for n_tokens in [1, 20, n_tokens] {
            let given = case.product(&mut device, &case.x[..n_tokens * n_cols], None);
            assert_eq!(given.len(), n_tokens * n_rows);
            for (given, (expected, size)) in given.iter().zip(&exact) {
                assert!(
                    is_near(*given, *expected, *size),
                    "{format:?}: {given} {expected}"
                );
            }
        }
    }
}

fn open(case: &Case) -> Option<Cuda> {
    emulated(case.element, case.seed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn products_are_right(case in case(1..90usize)) {
        let Some(mut device) = open(&case) else { return Ok(()) };
        let given = case.product(&mut device, &case.x, None);
        for (given, (expected, size)) in given.iter().zip(case.exact()) {
            prop_assert!(is_near(*given, expected, size), "{given} {expected}");
        }
    }

    /// One token, eight, thirty-two and more take different kernels.
    #[test]
    fn a_token_is_the_same_in_any_company(case in case(1..90usize), other in 0..4u64) {
        let Some(mut device) = open(&case) else { return Ok(()) };
        let together = case.product(&mut device, &case.x, None);
        let Some(mut device) = emulated(case.element, other) else { return Ok(()) };
        for n_tokens in [1, 5, 20] {
            let tokens = case.x.chunks(n_tokens * case.n_cols);
            let apart: Vec<f32> = tokens.flat_map(|x| case.product(&mut device, x, None)).collect();
            prop_assert_eq!(bits(&together), bits(&apart), "{} at a time", n_tokens);
        }
    }

    #[test]
    fn adding_is_storing_and_an_addition(case in case(1..70usize)) {
        let Some(mut device) = open(&case) else { return Ok(()) };
        let product = case.product(&mut device, &case.x, None);
        let before: Vec<f32> = (0..product.len()).map(|i| i as f32 / 8.0).collect();
        let given = case.product(&mut device, &case.x, Some(&before));
        let expected: Vec<f32> = before.iter().zip(&product).map(|(a, b)| a + b).collect();
        prop_assert_eq!(bits(&expected), bits(&given));
    }

    #[test]
    fn gating_is_two_products_and_an_activation(case in case(1..70usize), is_mixed in any::<bool>(), is_gelu in any::<bool>()) {
        let Some(mut device) = open(&case) else { return Ok(()) };
        let gate = case.parts[0].clone();
        // A gate and an up of one format are taken by one kernel, others are not.
        let up = if is_mixed { Part { format: None, ..gate.clone() } } else { gate.clone() };
        let bias = vec![0.0; 2 * gate.n_rows];
        let width = gate.n_rows;
        let case = Case { parts: vec![gate, up], bias, ..case };
        let both = case.product(&mut device, &case.x, None);
        let matrix = case.matrix(&device);
        let x = buffer(&mut device, case.n_cols, &case.x);
        let mut out = device.buffer(width);
        let activation = if is_gelu { Activation::GeluTanh } else { Activation::Silu };
        device.gated(&matrix, activation, &x, None, &mut out);
        let given = device.read(&out);
        let pairs = both.chunks_exact(2 * width).flat_map(|row| row[..width].iter().zip(&row[width..]));
        for (given, (gate, up)) in given.iter().zip(pairs) {
            let expected = activated(activation, f64::from(*gate)) * f64::from(*up);
            // A gate far below 0 is what is left of 1 - 1 in f32.
            let size = f64::from((gate * up).abs());
            prop_assert!((f64::from(*given) - expected).abs() <= 1e-6 * size + 1e-30, "{given} {expected}");
        }
    }

    /// Rows of one product and of every other one, few and many, of one stretch and of both.
    #[test]
    fn picked_products_are_those_of_the_whole(
        case in case(1..90usize),
        picks in proptest::collection::vec(proptest::collection::btree_set(0..70u32, 0..30), 90),
        is_normed in any::<bool>(),
    ) {
        let Some(mut device) = open(&case) else { return Ok(()) };
        let n_rows = case.n_rows();
        let of_row = |picks: &BTreeSet<u32>| -> Vec<u32> {
            picks.iter().copied().filter(|&pick| (pick as usize) < n_rows).collect()
        };
        let picks: Vec<Vec<u32>> = picks[..case.x.len() / case.n_cols].iter().map(of_row).collect();
        let weight = device.vector(&vec![0.75; case.n_cols]);
        let norm = || is_normed.then_some(Norm { weight: &weight, eps: 1e-5 });
        let (matrix, x) = (case.matrix(&device), buffer(&mut device, case.n_cols, &case.x));
        let mut out = device.buffer(n_rows);
        device.matmul(&matrix, None, &x, norm(), &mut out);
        let whole = device.read(&out);
        let rows = whole.chunks_exact(n_rows).zip(&picks);
        let expected: Vec<f32> = rows.flat_map(|(row, picks)| picks.iter().map(|&pick| row[pick as usize])).collect();
        let slices: Vec<&[u32]> = picks.iter().map(Vec::as_slice).collect();
        let given = device.matmul_picked(&matrix, &x, norm(), &slices);
        prop_assert_eq!(bits(&expected), bits(&given));
    }

    #[test]
    fn rows_of_weights_are_exact(case in case(Just(1usize)), picks in proptest::collection::vec(any::<u32>(), 1..20)) {
        let Some(mut device) = open(&case) else { return Ok(()) };
        let mut case = case;
        for part in case.parts.iter_mut().filter(|part| part.format.is_none()) {
            for value in &mut part.values {
                *value = rounded(*value, case.element);
            }
        }
        let rows: Vec<u32> = picks.iter().map(|pick| pick % case.n_rows() as u32).collect();
        let weights: Vec<f32> = case.parts.iter().flat_map(|part| part.values.clone()).collect();
        let row = |&row: &u32| &weights[row as usize * case.n_cols..][..case.n_cols];
        let expected: Vec<f32> = rows.iter().flat_map(row).copied().collect();
        let mut given = device.buffer(case.n_cols);
        let table = case.matrix(&device);
        device.gather(&table, &rows, &mut given);
        // As numbers: a zero may have either sign.
        prop_assert_eq!(expected, device.read(&given));
    }

    /// The norm's own sum is in another order than the reference's, so an input may round to the next element.
    #[test]
    fn norms_before_products_agree_with_the_reference(case in case(1..40usize)) {
        let Some(mut device) = open(&case) else { return Ok(()) };
        let weight: Vec<f32> = (0..case.n_cols).map(|i| 0.5 + (i % 7) as f32 / 7.0).collect();
        fn run<D: Device>(device: &mut D, case: &Case, weight: &[f32]) -> Vec<f32> {
            let (matrix, weight) = (case.matrix(device), device.vector(weight));
            let x = buffer(device, case.n_cols, &case.x);
            let mut out = device.buffer(case.n_rows());
            device.matmul(&matrix, None, &x, Some(Norm { weight: &weight, eps: 1e-5 }), &mut out);
            device.read(&out)
        }
        let expected = run(&mut Reference::new(1), &case, &weight);
        let given = run(&mut device, &case, &weight);
        prop_assert!(error(&expected, &given) < 1e-2, "{}", error(&expected, &given));
    }
}
