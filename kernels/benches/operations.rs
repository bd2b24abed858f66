//! The operations of a decoder step, one by one, in the shapes of SmolLM2-135M in Q4_1:
//! `[THREADS=1] [N_RUNS=8] [KV=int8] cargo bench -p lmrun-kernels --bench operations`.
//!
//! All thirty layers are there, so that weights, keys and values come from memory as they do in a step. Of each layer the
//! shortest time of several runs counts; beside the sums are what the machine needs at least, by its own peaks measured
//! just before: for the integer or bf16 products (one 512-bit instruction a cycle) and for reading weights, keys and values.

#![expect(clippy::print_stdout, reason = "it reports to whoever runs it")]

use std::time::Instant;

use lmrun_kernels::{
    Activation, AttentionLayer, AttentionSpan, BlockFormat, Buffer, Cpu, CpuKv, Device, Grain,
    Heads, KvFormat, KvShape, Matrix, MatrixData, MatrixPart, Norm, Peak, RopeLayout, Slot,
};

const N_LAYERS: usize = 30;
const HIDDEN: usize = 576;
const FF: usize = 1536;
const N_VOCAB: usize = 49_152;
const HEAD_DIM: usize = 64;
const N_HEADS: usize = 9;
const N_KV_HEADS: usize = 3;
const PAGE_SIZE: usize = 16;
const N_PAGES: usize = 256;

const QUERIES: Heads = heads(0, N_HEADS);
const KEYS: Heads = heads(HIDDEN, N_KV_HEADS);
const VALUES: Heads = heads(HIDDEN + N_KV_HEADS * HEAD_DIM, N_KV_HEADS);
const ROTATED: Heads = heads(0, N_HEADS + N_KV_HEADS);

const fn heads(first: usize, n_heads: usize) -> Heads {
    Heads {
        first,
        n_heads,
        head_dim: HEAD_DIM,
    }
}

/// What is timed, in the order of a layer; the head comes once.
const NAMES: [&str; 8] = [
    "qkv",
    "rotation",
    "keys, values",
    "attention",
    "output",
    "gate, up",
    "down",
    "head",
];

/// A batch of `n_sequences` that each have `n_before` positions and add `n_rows`.
#[derive(Clone, Copy)]
struct Shape {
    n_sequences: usize,
    n_rows: usize,
    n_before: usize,
}

const SHAPES: [Shape; 6] = [
    shape(1, 1, 160),
    shape(1, 4, 160),
    shape(4, 1, 160),
    shape(16, 1, 160),
    shape(1, 512, 0),
    shape(1, 512, 1536),
];

const fn shape(n_sequences: usize, n_rows: usize, n_before: usize) -> Shape {
    Shape {
        n_sequences,
        n_rows,
        n_before,
    }
}

/// Numbers that follow no pattern (Marsaglia's xorshift).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn values(&mut self, n: usize) -> Vec<f32> {
        (0..n)
            .map(|_| (self.next() % 2000) as f32 / 1000.0 - 1.0)
            .collect()
    }

    fn matrix(
        &mut self,
        device: &Cpu,
        parts: &[usize],
        n_cols: usize,
        (format, grain): (BlockFormat, Grain),
    ) -> Matrix {
        let data: Vec<Vec<u8>> = parts
            .iter()
            .map(|n_rows| {
                let mut bytes = vec![0; n_rows * n_cols / 32 * format.block_bytes()];
                for block in bytes.chunks_exact_mut(format.block_bytes()) {
                    block.fill_with(|| self.next() as u8);
                    // Scales and minimums of 0.01.
                    (block[1], block[3]) = (0x20, block[3] & 0x83 | 0x20);
                }
                bytes
            })
            .collect();
        let parts = parts.iter().zip(&data).map(|(&n_rows, bytes)| MatrixPart {
            n_rows,
            data: MatrixData::Blocks(format, bytes),
        });
        let parts: Vec<MatrixPart<'_>> = parts.collect();
        device.matrix(n_cols, &parts, grain).expect("whole blocks")
    }
}

/// The matrices of a layer: queries, keys and values; output; gate and up; down.
struct Model {
    layers: Vec<[Matrix; 4]>,
    head: Matrix,
    norm: Vec<f32>,
    kv: CpuKv,
}

impl Model {
    fn new(device: &Cpu, noise: &mut Noise) -> Self {
        let n_kv = N_KV_HEADS * HEAD_DIM;
        let layer_like = (BlockFormat::Q4_1, Grain::ThirtyTwo);
        let down_like = (BlockFormat::Q4_1, Grain::Sixteen);
        let head_like = (BlockFormat::Q8_0, Grain::Whole);
        let mut layer = |_| {
            [
                noise.matrix(device, &[HIDDEN, n_kv, n_kv], HIDDEN, layer_like),
                noise.matrix(device, &[HIDDEN], HIDDEN, layer_like),
                noise.matrix(device, &[FF, FF], HIDDEN, layer_like),
                noise.matrix(device, &[HIDDEN], FF, down_like),
            ]
        };
        let kv = device.kv(KvShape {
            n_layers: N_LAYERS,
            n_pages: N_PAGES,
            page_size: PAGE_SIZE,
            n_kv_heads: N_KV_HEADS,
            head_dim: HEAD_DIM,
        });
        Self {
            layers: (0..N_LAYERS).map(&mut layer).collect(),
            head: noise.matrix(device, &[N_VOCAB], HIDDEN, head_like),
            norm: device.vector(&[1.0; HIDDEN]),
            kv: kv.expect("memory for keys and values"),
        }
    }
}

/// Where the tokens of a batch are.
struct Places {
    /// Pages of each sequence, dealt out in turn.
    tables: Vec<Vec<u32>>,
    positions: Vec<u32>,
    slots: Vec<Slot>,
}

impl Places {
    /// Of the positions `range` of each sequence.
    fn new(shape: Shape, range: std::ops::Range<usize>) -> Self {
        let n_pages = (shape.n_before + shape.n_rows).div_ceil(PAGE_SIZE);
        let page = |sequence, page| (page * shape.n_sequences + sequence) as u32;
        let tables: Vec<Vec<u32>> = (0..shape.n_sequences)
            .map(|sequence| (0..n_pages).map(|i| page(sequence, i)).collect())
            .collect();
        let each = tables
            .iter()
            .flat_map(|pages| range.clone().map(move |at| (pages, at)));
        Self {
            positions: each.clone().map(|(_, at)| at as u32).collect(),
            slots: each
                .map(|(pages, at)| Slot {
                    page: pages[at / PAGE_SIZE],
                    offset: (at % PAGE_SIZE) as u32,
                })
                .collect(),
            tables,
        }
    }
}

/// Puts keys and values where a shape has them before it begins.
fn fill(device: &mut Cpu, model: &mut Model, noise: &mut Noise, shape: Shape) {
    let before = Places::new(shape, 0..shape.n_before);
    let mut x = device.buffer(VALUES.end());
    device.write(&mut x, &noise.values(before.slots.len() * VALUES.end()));
    for layer_idx in 0..N_LAYERS {
        device.kv_scatter(&mut model.kv, layer_idx, &x, KEYS, VALUES, &before.slots);
    }
}

/// Activations of a step.
struct Activations {
    x: Buffer,
    qkv: Buffer,
    attended: Buffer,
    activated: Buffer,
    angles: Buffer,
    last: Buffer,
    logits: Buffer,
}

impl Activations {
    fn new(device: &mut Cpu, positions: &[u32]) -> Self {
        let frequencies: Vec<f32> = (0..HEAD_DIM / 2)
            .map(|i| 1e5f32.powf(-(2.0 * i as f32) / HEAD_DIM as f32))
            .collect();
        let mut angles = device.buffer(HEAD_DIM);
        device.rope_angles(&frequencies, 1.0, positions, &mut angles);
        Self {
            x: device.buffer(HIDDEN),
            qkv: device.buffer(VALUES.end()),
            attended: device.buffer(HIDDEN),
            activated: device.buffer(FF),
            angles,
            last: device.buffer(HIDDEN),
            logits: device.buffer(N_VOCAB),
        }
    }
}

/// The shortest milliseconds of each operation, all layers together.
fn measure(device: &mut Cpu, model: &mut Model, noise: &mut Noise, shape: Shape) -> [f64; 8] {
    fill(device, model, noise, shape);
    let places = Places::new(shape, shape.n_before..shape.n_before + shape.n_rows);
    let mut activations = Activations::new(device, &places.positions);
    let values = noise.values(places.slots.len() * HIDDEN);
    let last_rows: Vec<usize> = (1..=shape.n_sequences)
        .map(|i| i * shape.n_rows - 1)
        .collect();
    let mut best = [[f64::INFINITY; NAMES.len()]; N_LAYERS];
    for _ in 0..n_runs() {
        device.write(&mut activations.x, &values);
        for (layer_idx, best) in best.iter_mut().enumerate() {
            run_layer(
                device,
                model,
                layer_idx,
                (shape, &places),
                &mut activations,
                best,
            );
        }
        let Activations {
            x, last, logits, ..
        } = &mut activations;
        device.select_rows(x, &last_rows, last);
        let mut clock = Clock::new(&mut best[0]);
        device.matmul(&model.head, None, last, norm(&model.norm), logits);
        clock.lap(7);
    }
    std::array::from_fn(|i| {
        let times = best.iter().map(|times| times[i]);
        1e3 * times.filter(|time| time.is_finite()).sum::<f64>()
    })
}

fn norm(weight: &Vec<f32>) -> Option<Norm<'_, Vec<f32>>> {
    Some(Norm { weight, eps: 1e-5 })
}

/// One layer, each operation timed.
fn run_layer(
    device: &mut Cpu,
    model: &mut Model,
    layer_idx: usize,
    (shape, places): (Shape, &Places),
    activations: &mut Activations,
    best: &mut [f64; NAMES.len()],
) {
    let layer = AttentionLayer {
        idx: layer_idx,
        scale: 0.125,
        softcap: None,
        window: None,
    };
    let spans: Vec<AttentionSpan<'_>> = (0..shape.n_sequences)
        .map(|i| AttentionSpan {
            first_row: i * shape.n_rows,
            n_rows: shape.n_rows,
            start: shape.n_before,
            pages: &places.tables[i],
        })
        .collect();
    let [to_qkv, to_output, to_gate_up, to_down] = &model.layers[layer_idx];
    let (kv, weight) = (&mut model.kv, &model.norm);
    let Activations {
        x,
        qkv,
        attended,
        activated,
        angles,
        ..
    } = activations;
    let mut clock = Clock::new(best);
    device.matmul(to_qkv, None, x, norm(weight), qkv);
    clock.lap(0);
    device.rope(qkv, ROTATED, RopeLayout::Halves, angles);
    clock.lap(1);
    device.kv_scatter(kv, layer_idx, qkv, KEYS, VALUES, &places.slots);
    clock.lap(2);
    device.attention(kv, layer, qkv, QUERIES, &spans, attended);
    clock.lap(3);
    device.matmul_add(to_output, None, attended, x);
    clock.lap(4);
    device.gated(to_gate_up, Activation::Silu, x, norm(weight), activated);
    clock.lap(5);
    device.matmul_add(to_down, None, activated, x);
    clock.lap(6);
}

fn n_runs() -> usize {
    std::env::var("N_RUNS").map_or(8, |n| n.parse().expect("a number of runs"))
}

/// Times one operation after another.
struct Clock<'a> {
    started: Instant,
    best: &'a mut [f64; NAMES.len()],
}

impl<'a> Clock<'a> {
    fn new(best: &'a mut [f64; NAMES.len()]) -> Self {
        Self {
            started: Instant::now(),
            best,
        }
    }

    fn lap(&mut self, i: usize) {
        self.best[i] = self.best[i].min(self.started.elapsed().as_secs_f64());
        self.started = Instant::now();
    }
}

/// Multiplications of int8 (or twice those of bf16, which take as long) and bytes read, of each operation.
fn work(shape: Shape, kv_format: KvFormat) -> [(f64, f64); 8] {
    let n_columns = (shape.n_sequences * shape.n_rows) as f64;
    let matrix = |n_rows: usize, n_cols: usize, block_bytes: usize| {
        let n_weights = (n_rows * n_cols * N_LAYERS) as f64;
        (n_weights * n_columns, n_weights / 32.0 * block_bytes as f64)
    };
    let n_seen = shape.n_before as f64 + (shape.n_rows as f64 + 1.0) / 2.0;
    let attention = 4.0 * n_columns * n_seen * (N_HEADS * HEAD_DIM * N_LAYERS) as f64;
    let end = (shape.n_before + shape.n_rows) * shape.n_sequences;
    let kv_bytes = (2 * end * N_KV_HEADS * kv_format.head_bytes(HEAD_DIM) * N_LAYERS) as f64;
    let head = (N_VOCAB * HIDDEN) as f64;
    [
        matrix(VALUES.end(), HIDDEN, 20),
        (0.0, 0.0),
        (0.0, 0.0),
        (attention, kv_bytes),
        matrix(HIDDEN, HIDDEN, 20),
        matrix(2 * FF, HIDDEN, 20),
        matrix(HIDDEN, FF, 20),
        (head * shape.n_sequences as f64, head / 32.0 * 34.0),
    ]
}

fn main() {
    let n_threads = std::env::var("THREADS").map_or(2, |n| n.parse().expect("threads"));
    let kv_format = std::env::var("KV").map_or(KvFormat::Plain, |name| {
        let all = [KvFormat::Plain, KvFormat::F32, KvFormat::Int8];
        let found = all.into_iter().find(|format| format.name() == name);
        found.expect("bf16, f32 or int8")
    });
    let device = Cpu::new(n_threads).with_kv_format(kv_format);
    let mut device = device.expect("a format of the CPU");
    let mut noise = Noise(0x9E37_79B9_7F4A_7C15);
    let mut model = Model::new(&device, &mut noise);
    for shape in SHAPES {
        let peak = Peak::measure(n_threads).expect("memory to read");
        let times = measure(&mut device, &mut model, &mut noise, shape);
        println!(
            "{} sequences, {} rows each after {} ({:.2} TOPS of int8, {:.0} GB/s, {n_threads} threads): {:.2} ms",
            shape.n_sequences,
            shape.n_rows,
            shape.n_before,
            peak.int8_tops,
            peak.read_gbs,
            times.iter().sum::<f64>(),
        );
        let work = work(shape, kv_format);
        for ((name, time), (n_products, n_bytes)) in NAMES.iter().zip(times).zip(work) {
            let multiplying = 2.0 * n_products / peak.int8_tops / 1e9;
            let reading = n_bytes / peak.read_gbs / 1e6;
            println!(
                "  {name:13} {time:8.3} ms; multiplying {multiplying:8.3}, reading {reading:8.3}"
            );
        }
    }
}
