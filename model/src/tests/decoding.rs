//! The decoder: true to the equations, and the same however its work is cut up.

use lmrun_kernels::{Adjustment, Allowed, Draw, Element, KvFormat, Sampler, emulated};

use super::oracle;
use super::synthetic::{GgufFile, Model, N_VOCAB, Random, TempDir, write_folder};
use crate::{
    Batch, Checkpoint, Decoder, DecoderOptions, Logits, ModelError, Outputs, Pick, Precision, Span,
};

const PAGE_SIZE: usize = 4;

/// Where a decoder computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Machine {
    Reference,
    Cpu,
    /// With keys and values in a format of its other ones.
    CpuKv(KvFormat),
    /// The CUDA device, on its emulator.
    Gpu,
    /// The same, all in f16.
    GpuF16,
}

/// All of them; without the GPU where there is no compiler for its emulator, which the skipped test tells.
pub(super) fn machines() -> Vec<Machine> {
    let mut machines = vec![Machine::Reference, Machine::Cpu];
    machines.extend(emulated(Element::Bf16, 0).map(|_| Machine::Gpu));
    machines
}

/// All of them, with keys and values in every format of the CPU.
fn machines_and_formats() -> Vec<Machine> {
    let mut machines = machines();
    machines.extend([KvFormat::F32, KvFormat::Int8].map(Machine::CpuKv));
    machines.extend(machines.contains(&Machine::Gpu).then_some(Machine::GpuF16));
    machines
}

/// A decoder of `n_threads`, or, on the emulator, with its threads in the order of that seed.
pub(super) fn decoder(
    checkpoint: &Checkpoint,
    machine: Machine,
    n_threads: usize,
) -> Box<dyn Decoder> {
    let options = DecoderOptions {
        precision: match machine {
            Machine::Reference => Precision::Reference,
            Machine::Cpu | Machine::CpuKv(_) | Machine::Gpu | Machine::GpuF16 => {
                Precision::Quantised
            }
        },
        n_threads,
        page_size: PAGE_SIZE,
        n_pages: 64,
        kv_format: match machine {
            Machine::CpuKv(format) => format,
            Machine::GpuF16 => KvFormat::F16,
            Machine::Reference | Machine::Cpu | Machine::Gpu => KvFormat::Plain,
        },
        ..DecoderOptions::default()
    };
    match machine {
        Machine::Reference | Machine::Cpu | Machine::CpuKv(_) => {
            checkpoint.decoder(&options).unwrap()
        }
        Machine::Gpu | Machine::GpuF16 => {
            let element = match machine {
                Machine::GpuF16 => Element::F16,
                _ => Element::Bf16,
            };
            let device = emulated(element, n_threads as u64).unwrap();
            checkpoint.decoder_on_gpu(device, &options).unwrap()
        }
    }
}

fn tokens(n_tokens: usize, seed: u64) -> Vec<u32> {
    let mut random = Random(seed);
    (0..n_tokens)
        .map(|_| random.below(N_VOCAB) as u32)
        .collect()
}

fn bits(logits: &Logits) -> Vec<Vec<u32>> {
    let row = |row_idx| logits.row(row_idx).iter().map(|x| x.to_bits()).collect();
    (0..logits.n_rows()).map(row).collect()
}

pub(super) fn run(decoder: &mut dyn Decoder, spans: Vec<Span<'_>>) -> Logits {
    decoder.forward(&Batch { spans }).unwrap()
}

pub(super) fn whole<'a>(tokens: &'a [u32], pages: &'a [u32]) -> Span<'a> {
    Span {
        tokens,
        start: 0,
        pages,
        outputs: Outputs::All,
    }
}

/// Root mean square error over root mean square.
fn relative_error(expected: &[Vec<f64>], given: &Logits) -> f64 {
    let (mut off, mut size) = (0.0, 0.0);
    for (row_idx, expected) in expected.iter().enumerate() {
        for (expected, given) in expected.iter().zip(given.row(row_idx)) {
            off += (expected - f64::from(*given)).powi(2);
            size += expected.powi(2);
        }
    }
    (off / size).sqrt()
}

#[test]
fn every_family_and_container_computes_its_equations() {
    let tokens = tokens(23, 1);
    let pages: Vec<u32> = (0..6).collect();
    for architecture in ["llama", "qwen2", "qwen3"] {
        for tied in [false, true] {
            let model = Model::new(architecture, tied);
            let dir = TempDir::new(&format!("families-{architecture}-{tied}"));
            let file = dir.write("model.gguf", GgufFile::of(&model).bytes());
            write_folder(&dir, &model);
            let expected = oracle::logits(&model, &tokens);
            for path in [&file, dir.path()] {
                let checkpoint = Checkpoint::open(path).unwrap();
                for machine in machines_and_formats() {
                    let limit = match machine {
                        Machine::Reference => 1e-5,
                        // Weights, keys and values are exact, what they meet too; exponentials are within 8e-6.
                        Machine::CpuKv(KvFormat::F32) => 1e-4,
                        // Keys and values are off by a 254th of their greatest.
                        Machine::CpuKv(_) => 4.0 / 254.0,
                        // Plain weights are exact; queries, keys, values and attention's weights are bf16, off by 2^-9 each.
                        Machine::Cpu => 4.0 / 512.0,
                        // Weights and what they meet are bf16 too, in eight products.
                        Machine::Gpu => 8.0 / 512.0,
                        // The same in f16, off by 2^-12 each; weights are exact.
                        Machine::GpuF16 => 8.0 / 4096.0,
                    };
                    let mut decoder = decoder(&checkpoint, machine, 2);
                    let given = run(&mut *decoder, vec![whole(&tokens, &pages)]);
                    let error = relative_error(&expected, &given);
                    assert!(error < limit, "{architecture} {tied} {machine:?}: {error}");
                }
            }
        }
    }
}

/// Checkpoints whose matrices are of all formats that products take as they are, against the same in f32.
#[test]
fn quantised_files_are_close_to_their_own_values() {
    check_quantised((32, 64, 4), &QUANTISED);
    // Blocks of 256.
    check_quantised((256, 256, 16), &K_QUANTISED);
}

fn check_quantised(size: (usize, usize, usize), formats: &[(u32, GgmlDType)]) {
    let mut model = Model::sized("llama", false, size);
    // Sums of more products are no larger: scores that are all at one position would make any rounding a large one.
    let factor = (32.0 / size.0 as f32).sqrt();
    for tensor in model.tensors.values_mut() {
        if tensor.shape.len() == 2 {
            tensor.values.iter_mut().for_each(|value| *value *= factor);
        }
    }
    let mut file = GgufFile::of(&model);
    for (idx, (_, shape, kind, bytes)) in file.tensors.iter_mut().enumerate() {
        if shape.len() == 2 {
            let values: Vec<f32> = bytes
                .as_chunks()
                .0
                .iter()
                .map(|bytes| half::f16::from_le_bytes(*bytes).to_f32())
                .collect();
            let (number, dtype) = formats[idx % formats.len()];
            *bytes = quantise(&values, shape, dtype);
            *kind = number;
        }
    }
    let dir = TempDir::new(&format!("quantised-{}", size.0));
    let checkpoint = Checkpoint::open(&dir.write("model.gguf", file.bytes())).unwrap();
    let n_bytes = file
        .tensors
        .iter()
        .map(|(_, shape, _, bytes)| match shape[..] {
            // Norms, in 32 bits.
            [_] => bytes.len() / 2,
            _ => bytes.len(),
        });
    assert_eq!(checkpoint.n_gpu_bytes(), n_bytes.sum::<usize>() as u64);
    check_near_the_reference(&checkpoint, 0.03);
}

/// Weights of bf16 are exact; what they meet is rounded to bf16, in eight products.
#[test]
fn bf16_files_are_close_to_their_own_values() {
    let file = GgufFile::of(&Model::new("llama", false)).in_bf16();
    let dir = TempDir::new("bf16");
    let checkpoint = Checkpoint::open(&dir.write("model.gguf", file.bytes())).unwrap();
    check_near_the_reference(&checkpoint, 8.0 / 512.0);
}

/// Every machine against the reference, which reads the same file: off by rounding, and by no more than a limit.
fn check_near_the_reference(checkpoint: &Checkpoint, limit: f64) {
    let (tokens, pages) = (tokens(20, 2), [3, 1, 4, 0, 5]);
    let mut reference = decoder(checkpoint, Machine::Reference, 1);
    let expected = run(&mut *reference, vec![whole(&tokens, &pages)]);
    let expected: Vec<Vec<f64>> = (0..expected.n_rows())
        .map(|row_idx| {
            expected
                .row(row_idx)
                .iter()
                .map(|x| f64::from(*x))
                .collect()
        })
        .collect();
    for machine in machines().split_off(1) {
        let mut quantised = decoder(checkpoint, machine, 1);
        let given = run(&mut *quantised, vec![whole(&tokens, &pages)]);
        let error = relative_error(&expected, &given);
        assert!(error > 1e-5 && error < limit, "{machine:?}: {error}");
    }
}

use candle_core::quantized::{GgmlDType, QTensor};

const QUANTISED: [(u32, GgmlDType); 5] = [
    (8, GgmlDType::Q8_0),
    (2, GgmlDType::Q4_0),
    (3, GgmlDType::Q4_1),
    (6, GgmlDType::Q5_0),
    (7, GgmlDType::Q5_1),
];

const K_QUANTISED: [(u32, GgmlDType); 3] = [
    (12, GgmlDType::Q4K),
    (13, GgmlDType::Q5K),
    (14, GgmlDType::Q6K),
];

fn quantise(values: &[f32], shape: &[usize], dtype: GgmlDType) -> Vec<u8> {
    let cpu = candle_core::Device::Cpu;
    let tensor = candle_core::Tensor::from_slice(values, shape, &cpu).unwrap();
    QTensor::quantize(&tensor, dtype)
        .unwrap()
        .data()
        .unwrap()
        .into_owned()
}

/// What a loader makes of those that products do not take, too.
#[test]
fn k_quants_are_read() {
    use crate::weights::{RawTensor, plain};
    let mut random = Random(5);
    let values: Vec<f32> = (0..512).map(|_| random.value()).collect();
    for (dtype, limit) in [
        (GgmlDType::Q2K, 0.4),
        (GgmlDType::Q3K, 0.3),
        (GgmlDType::Q4K, 0.1),
        (GgmlDType::Q5K, 0.05),
        (GgmlDType::Q6K, 0.03),
    ] {
        let bytes = quantise(&values, &[2, 256], dtype).into();
        let tensor = RawTensor {
            shape: vec![2, 256],
            dtype,
            bytes,
        };
        let given = plain(&tensor).unwrap();
        let off = given
            .iter()
            .zip(&values)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(off < limit, "{dtype:?}: {off}");
    }
}

/// The kernels take blocks apart as candle-core does, bit for bit where nothing is rounded on the way.
#[test]
fn kernels_read_blocks_as_candle_does() {
    use crate::weights::{RawTensor, block_format, plain};
    use lmrun_kernels::{Cpu, Device, Grain, MatrixData, MatrixPart, Reference, Tier};
    let (n_rows, n_cols) = (37, 768);
    let mut random = Random(7);
    let values: Vec<f32> = (0..n_rows * n_cols).map(|_| random.value()).collect();
    let all_rows: Vec<u32> = (0..n_rows as u32).collect();
    for dtype in [
        GgmlDType::Q4_0,
        GgmlDType::Q4_1,
        GgmlDType::Q5_0,
        GgmlDType::Q5_1,
        GgmlDType::Q8_0,
        GgmlDType::Q4K,
        GgmlDType::Q5K,
        GgmlDType::Q6K,
    ] {
        let bytes = quantise(&values, &[n_rows, n_cols], dtype);
        let tensor = RawTensor {
            shape: vec![n_rows, n_cols],
            dtype,
            bytes: bytes.as_slice().into(),
        };
        let expected = plain(&tensor).unwrap();
        let part = MatrixPart {
            n_rows,
            data: MatrixData::Blocks(block_format(dtype).unwrap(), &bytes),
        };
        let mut reference = Reference::new(1);
        let matrix = reference.matrix(n_cols, &[part], Grain::ThirtyTwo).unwrap();
        let mut given = reference.buffer(n_cols);
        reference.gather(&matrix, &all_rows, &mut given);
        assert!(reference.read(&given) == expected, "{dtype:?}");
        // With AMX weights of four bits are whole, which the kernels' own tests look at.
        let mut cpu = Cpu::with_tier(1, Tier::Avx512);
        let matrix = cpu.matrix(n_cols, &[part], Grain::ThirtyTwo).unwrap();
        cpu.gather(&matrix, &all_rows, &mut given);
        let is_k = matches!(dtype, GgmlDType::Q4K | GgmlDType::Q5K | GgmlDType::Q6K);
        for (given, expected) in cpu.read(&given).iter().zip(&expected) {
            // Scale and minimum are rounded by 2^-11 each, and either may be as large as twice the largest value.
            let limit = if is_k { 4.0 / 2048.0 } else { 0.0 };
            assert!(
                (given - expected).abs() <= limit,
                "{dtype:?} {given} {expected}"
            );
        }
    }
}

#[test]
fn bits_do_not_depend_on_how_the_work_is_cut() {
    let dir = TempDir::new("exactness");
    let file = || GgufFile::of(&Model::new("llama", true));
    for file in [file(), file().in_bf16()] {
        check_cuts(&Checkpoint::open(&dir.write("model.gguf", file.bytes())).unwrap());
    }
}

fn check_cuts(checkpoint: &Checkpoint) {
    let (first, second) = (tokens(37, 3), tokens(21, 4));
    let first_pages: Vec<u32> = (0..10).collect();
    let second_pages: Vec<u32> = (20..26).rev().collect();
    for machine in machines_and_formats() {
        let mut single = decoder(checkpoint, machine, 1);
        let expected = bits(&run(&mut *single, vec![whole(&first, &first_pages)]));
        let expected_second = bits(&run(&mut *single, vec![whole(&second, &second_pages)]));
        for (n_threads, seed) in [(1, 10), (2, 11), (3, 12)] {
            let mut decoder = decoder(checkpoint, machine, n_threads);
            let mut random = Random(seed);
            let (mut given, mut given_second) = (Vec::new(), Vec::new());
            let (mut at, mut at_second) = (0, 0);
            while at < first.len() || at_second < second.len() {
                let next = first.len().min(at + random.below(9));
                let next_second = second.len().min(at_second + random.below(5));
                let logits = run(
                    &mut *decoder,
                    vec![
                        Span {
                            tokens: &first[at..next],
                            start: at,
                            pages: &first_pages,
                            outputs: Outputs::All,
                        },
                        Span {
                            tokens: &second[at_second..next_second],
                            start: at_second,
                            pages: &second_pages,
                            outputs: Outputs::All,
                        },
                    ],
                );
                let rows = bits(&logits);
                given.extend_from_slice(&rows[..next - at]);
                given_second.extend_from_slice(&rows[next - at..]);
                (at, at_second) = (next, next_second);
            }
            assert!(given == expected, "{machine:?}, {n_threads} threads");
            assert!(
                given_second == expected_second,
                "{machine:?}, {n_threads} threads"
            );
        }
    }
}

#[test]
fn outputs_choose_rows() {
    let dir = TempDir::new("outputs");
    let file = GgufFile::of(&Model::new("llama", true));
    let checkpoint = Checkpoint::open(&dir.write("model.gguf", file.bytes())).unwrap();
    let mut decoder = decoder(&checkpoint, Machine::Cpu, 1);
    let (tokens, pages) = (tokens(8, 5), [0, 1]);
    let all = bits(&run(&mut *decoder, vec![whole(&tokens, &pages)]));
    for (outputs, expected) in [
        (Outputs::None, &all[8..]),
        (Outputs::Last, &all[7..]),
        (Outputs::From(5), &all[5..]),
        (Outputs::From(9), &all[8..]),
    ] {
        let span = Span {
            outputs,
            ..whole(&tokens, &pages)
        };
        assert!(
            bits(&run(&mut *decoder, vec![span])) == expected,
            "{outputs:?}"
        );
    }
    assert_eq!(run(&mut *decoder, vec![]).n_rows(), 0);
}

#[test]
fn picked_logits_are_those_of_the_whole_head() {
    let dir = TempDir::new("picks");
    for tied in [false, true] {
        let file = GgufFile::of(&Model::new("llama", tied));
        let checkpoint = Checkpoint::open(&dir.write("model.gguf", file.bytes())).unwrap();
        let (tokens, pages) = (tokens(6, 7), [0, 1]);
        let spans = || vec![whole(&tokens, &pages)];
        let (last, some) = ([N_VOCAB as u32 - 1], [0, 3, 17]);
        let mixed = [
            Pick::Tokens(&some),
            Pick::All,
            Pick::Tokens(&[]),
            Pick::Tokens(&last),
            Pick::All,
            Pick::Tokens(&some),
        ];
        let held = [
            Pick::Held,
            Pick::All,
            Pick::Tokens(&some),
            Pick::Held,
            Pick::All,
            Pick::Held,
        ];
        for machine in machines() {
            let mut decoder = decoder(&checkpoint, machine, 2);
            let all = bits(&run(&mut *decoder, spans()));
            for picks in [
                mixed,
                held,
                [Pick::Held; 6],
                [Pick::Tokens(&some); 6],
                [Pick::Tokens(&[]); 6],
            ] {
                let batch = Batch { spans: spans() };
                let given = bits(&decoder.forward_picked(&batch, &picks).unwrap());
                for ((pick, all), given) in picks.iter().zip(&all).zip(&given) {
                    let expected: Vec<u32> = match pick {
                        Pick::All => all.clone(),
                        Pick::Held => Vec::new(),
                        Pick::Tokens(tokens) => tokens.iter().map(|&t| all[t as usize]).collect(),
                    };
                    assert!(*given == expected, "{machine:?}, {pick:?}");
                }
                assert_eq!(given.len(), 6);
            }
            let batch = Batch { spans: spans() };
            let beyond = [Pick::Tokens(&[N_VOCAB as u32]); 6];
            for picks in [&beyond[..], &mixed[..5]] {
                let refused = decoder.forward_picked(&batch, picks);
                assert!(matches!(refused, Err(ModelError::Batch(_))), "{picks:?}");
            }
        }
    }
}

/// Rows are drawn from where they are held, in any order, and again under another mask; log-probabilities are of the
/// model's own distribution, adjusted or not.
#[test]
fn held_rows_are_drawn_from_as_if_they_were_read() {
    let dir = TempDir::new("draws");
    let file = GgufFile::of(&Model::new("llama", false));
    let checkpoint = Checkpoint::open(&dir.write("model.gguf", file.bytes())).unwrap();
    let (tokens, pages) = (tokens(5, 8), [2, 0]);
    let batch = || Batch {
        spans: vec![whole(&tokens, &pages)],
    };
    let adjustments = [Adjustment {
        token: 9,
        repetition: 1.5,
        less: 0.5,
        more: 3.0,
    }];
    let mut evens = vec![0x5555_5555_5555_5555; N_VOCAB.div_ceil(64)];
    evens[0] &= !1;
    for machine in machines() {
        let mut decoder = decoder(&checkpoint, machine, 2);
        let all = decoder.forward(&batch()).unwrap();
        let some = [0];
        let picks = [
            Pick::Held,
            Pick::Tokens(&some),
            Pick::Held,
            Pick::All,
            Pick::Held,
        ];
        decoder.forward_picked(&batch(), &picks).unwrap();
        for mask in [None, Some(evens.as_slice())] {
            for temperature in [0.0, 0.8] {
                let draw = |row_idx| Draw {
                    row_idx,
                    adjustments: &adjustments,
                    allowed: Allowed {
                        n_tokens: N_VOCAB,
                        mask,
                        banned: &[7],
                    },
                    sampler: Sampler {
                        temperature,
                        top_p: 0.95,
                        ..Sampler::default()
                    },
                    random: 0.3 + 0.1 * row_idx as f64,
                    wants_logprob: true,
                };
                let draws = [4, 0, 2].map(draw);
                for (draw, drawn) in draws.iter().zip(decoder.draw(&draws)) {
                    let expected = draw.of(&mut all.row(draw.row_idx).to_vec());
                    assert_eq!(drawn.token, expected.token, "{machine:?}, {draw:?}");
                    assert!((drawn.logprob - expected.logprob).abs() < 1e-5, "{drawn:?}");
                }
            }
        }
        let n_drawn = decoder.draw(&[]).len();
        assert_eq!(n_drawn, 0);
    }
}

#[test]
fn a_copied_page_continues_alike() {
    let dir = TempDir::new("copies");
    let file = GgufFile::of(&Model::new("qwen3", true));
    let checkpoint = Checkpoint::open(&dir.write("model.gguf", file.bytes())).unwrap();
    let tokens = tokens(9, 6);
    for machine in machines_and_formats() {
        let mut decoder = decoder(&checkpoint, machine, 1);
        let expected = bits(&run(&mut *decoder, vec![whole(&tokens, &[0, 1, 2])]));
        // Six tokens are kept: the fork shares page 0 and copies two tokens of page 1.
        decoder.copy_page(1, 9, 2);
        let rest = Span {
            tokens: &tokens[6..],
            start: 6,
            pages: &[0, 9, 7],
            outputs: Outputs::All,
        };
        assert!(
            bits(&run(&mut *decoder, vec![rest])) == expected[6..],
            "{machine:?}"
        );
    }
}

#[test]
fn batches_that_break_the_contract_are_refused() {
    let dir = TempDir::new("contract");
    let file = GgufFile::of(&Model::new("llama", true));
    let checkpoint = Checkpoint::open(&dir.write("model.gguf", file.bytes())).unwrap();
    let mut decoder = decoder(&checkpoint, Machine::Cpu, 1);
    let pages: Vec<u32> = (0..64).collect();
    let long = vec![1; 129];
    for (span, expected) in [
        (
            whole(&[N_VOCAB as u32], &[0]),
            "token 261, the vocabulary has 261",
        ),
        (whole(&[1], &[64]), "page 64, the pool has 64"),
        (whole(&[1; 5], &[0]), "5 tokens in 1 pages of 4"),
        (whole(&long, &pages), "129 tokens, the context holds 128"),
        (
            Span {
                start: usize::MAX,
                ..whole(&[1], &pages)
            },
            "the context holds 128",
        ),
    ] {
        let error = decoder.forward(&Batch { spans: vec![span] }).unwrap_err();
        assert!(matches!(error, ModelError::Batch(_)));
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn options_out_of_range_are_refused() {
    let dir = TempDir::new("options");
    let file = GgufFile::of(&Model::new("llama", true));
    let checkpoint = Checkpoint::open(&dir.write("model.gguf", file.bytes())).unwrap();
    let good = DecoderOptions {
        precision: Precision::Quantised,
        n_threads: 1,
        page_size: 16,
        n_pages: 4,
        ..DecoderOptions::default()
    };
    for options in [
        DecoderOptions {
            kv_format: KvFormat::E4m3,
            ..good
        },
        DecoderOptions {
            precision: Precision::Reference,
            kv_format: KvFormat::Int8,
            ..good
        },
        DecoderOptions {
            n_threads: 0,
            ..good
        },
        DecoderOptions {
            n_threads: 1 << 20,
            ..good
        },
        DecoderOptions {
            page_size: 0,
            ..good
        },
        DecoderOptions { n_pages: 0, ..good },
        DecoderOptions {
            n_pages: u32::MAX as usize,
            page_size: 1 << 16,
            ..good
        },
    ] {
        let error = checkpoint.decoder(&options).err().unwrap();
        assert!(matches!(error, ModelError::Options(_)), "{error}");
    }
}
