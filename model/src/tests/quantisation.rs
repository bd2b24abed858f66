//! Plain checkpoints quantised while they are loaded: as if their files had held the blocks.

use candle_core::quantized::{GgmlDType, QTensor};
use half::{bf16, f16};

use super::decoding::{run, whole};
use super::synthetic::{GgufFile, Model, Random, TempDir, write_folder};
use crate::{Checkpoint, Decoder, DecoderOptions, ModelError, Precision, Quantisation};

/// ggml's numbers of the types that matrices are stored as.
const F32: u32 = 0;
const F16: u32 = 1;
const Q4_0: u32 = 2;
const Q8_0: u32 = 8;
const BF16: u32 = 30;

fn options(n_threads: usize, quantisation: Option<Quantisation>) -> DecoderOptions {
    DecoderOptions {
        n_threads,
        n_pages: 4,
        quantisation,
        ..DecoderOptions::default()
    }
}

fn bits_of(decoder: &mut dyn Decoder) -> Vec<u32> {
    let tokens: Vec<u32> = (0..23).map(|i| (i * 37 + 5) % 256).collect();
    let logits = run(decoder, vec![whole(&tokens, &[0, 1])]);
    let rows = (0..logits.n_rows()).flat_map(|row_idx| logits.row(row_idx).to_vec());
    rows.map(f32::to_bits).collect()
}

/// Blocks of Q8_0 by their definition: the nearest codes in units of a scale of f16, which makes the greatest 127.
fn q8_0(values: &[f32]) -> Vec<u8> {
    let block = |block: &[f32]| {
        let greatest = block.iter().map(|x| x.abs()).fold(0.0, f32::max);
        let scale = f16::from_f32(greatest / 127.0);
        let inverse = if scale > f16::ZERO {
            1.0 / scale.to_f32()
        } else {
            0.0
        };
        let code = |x: &f32| (x * inverse).round_ties_even().clamp(-127.0, 127.0) as i8;
        let codes = block.iter().map(|x| code(x).to_le_bytes()[0]);
        scale
            .to_le_bytes()
            .into_iter()
            .chain(codes)
            .collect::<Vec<u8>>()
    };
    values.chunks(32).flat_map(block).collect()
}

/// Blocks of Q4_0 as candle-core makes them, after ggml.
fn q4_0(values: &[f32]) -> Vec<u8> {
    let cpu = candle_core::Device::Cpu;
    let tensor = candle_core::Tensor::from_slice(values, values.len(), &cpu).unwrap();
    let quantised = QTensor::quantize(&tensor, GgmlDType::Q4_0).unwrap();
    quantised.data().unwrap().into_owned()
}

/// A file whose matrices are of a plain type, and the same with the blocks that they are quantised to.
fn files(model: &Model, kind: u32, quantisation: Quantisation) -> [Vec<u8>; 2] {
    let (mut plain, mut blocks) = (GgufFile::of(model), GgufFile::of(model));
    for (plain, blocks) in plain.tensors.iter_mut().zip(&mut blocks.tensors) {
        let (name, shape, stored, bytes) = plain;
        if shape.len() != 2 {
            continue;
        }
        assert_eq!(*stored, F16);
        let halves = bytes.as_chunks::<2>().0.iter();
        let values = halves.map(|&half| f16::from_le_bytes(half).to_f32());
        let stored_as = |x: f32| match kind {
            F32 => x.to_le_bytes().to_vec(),
            F16 => f16::from_f32(x).to_le_bytes().to_vec(),
            _ => bf16::from_f32(x).to_le_bytes().to_vec(),
        };
        let kept = |x: f32| {
            if kind == BF16 {
                bf16::from_f32(x).to_f32()
            } else {
                x
            }
        };
        let values: Vec<f32> = values.map(kept).collect();
        (*stored, *bytes) = (kind, values.iter().flat_map(|&x| stored_as(x)).collect());
        let is_head = ["token_embd.weight", "output.weight"].contains(&name.as_str());
        (blocks.2, blocks.3) = match quantisation {
            Quantisation::Q4_0 if !is_head => (Q4_0, q4_0(&values)),
            _ => (Q8_0, q8_0(&values)),
        };
    }
    [plain.bytes(), blocks.bytes()]
}

#[test]
fn blocks_are_those_of_the_definitions() {
    let mut random = Random(7);
    let mut values: Vec<f32> = (0..32 * 200).map(|_| random.value()).collect();
    // A block of zeros, one whose ends are as far from zero, one of tiny numbers.
    values[..32].fill(0.0);
    (values[40], values[50]) = (3.0, -3.0);
    values[64..96].fill(1e-30);
    assert!(lmrun_kernels::quantise_q4_0(&values) == q4_0(&values));
    assert!(lmrun_kernels::quantise_q8_0(&values) == q8_0(&values));
}

#[test]
fn quantised_at_load_is_as_if_the_file_were_quantised() {
    let dir = TempDir::new("quantisation");
    for (kind, quantisation, tied) in [
        (F16, Quantisation::Q4_0, false),
        (F32, Quantisation::Q8_0, true),
        (BF16, Quantisation::Q4_0, true),
    ] {
        let files = files(&Model::new("qwen2", tied), kind, quantisation);
        let [plain, blocks] = [("plain.gguf", &files[0]), ("blocks.gguf", &files[1])]
            .map(|(name, bytes)| Checkpoint::open(&dir.write(name, bytes)).unwrap());
        for precision in [Precision::Reference, Precision::Quantised] {
            let with = |n_threads, quantisation| DecoderOptions {
                precision,
                ..options(n_threads, quantisation)
            };
            let expected = bits_of(&mut *blocks.decoder(&with(1, None)).unwrap());
            for n_threads in [1, 3] {
                let options = with(n_threads, Some(quantisation));
                let given = bits_of(&mut *plain.decoder(&options).unwrap());
                assert!(
                    given == expected,
                    "{kind} to {quantisation:?}, {precision:?}"
                );
            }
            // It is not what the plain weights come to.
            assert!(bits_of(&mut *plain.decoder(&with(1, None)).unwrap()) != expected);
        }
    }
}

#[test]
fn folders_are_quantised_too() {
    let dir = TempDir::new("quantisation-folder");
    write_folder(&dir, &Model::new("llama", false));
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let logits = |quantisation| {
        let mut decoder = checkpoint.decoder(&options(2, quantisation)).unwrap();
        bits_of(&mut *decoder)
    };
    let [exact, eight, four] =
        [None, Some(Quantisation::Q8_0), Some(Quantisation::Q4_0)].map(logits);
    let distance = |other: &[u32]| -> f32 {
        let pairs = exact.iter().zip(other);
        pairs
            .map(|(a, b)| (f32::from_bits(*a) - f32::from_bits(*b)).powi(2))
            .sum()
    };
    assert!(distance(&eight) > 0.0 && distance(&four) > 10.0 * distance(&eight));
}

#[test]
fn what_is_quantised_already_is_refused() {
    let dir = TempDir::new("quantisation-refused");
    let [_, blocks] = files(&Model::new("llama", true), F16, Quantisation::Q4_0);
    let checkpoint = Checkpoint::open(&dir.write("model.gguf", blocks)).unwrap();
    let refused = checkpoint.decoder(&options(1, Some(Quantisation::Q8_0)));
    let Err(ModelError::Options(said)) = refused else {
        panic!("blocks were quantised again");
    };
    assert!(said.contains("token_embd.weight is Q8_0 already"), "{said}");
    assert!(said.contains("only F32, F16 and BF16"), "{said}");
}
