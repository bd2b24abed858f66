//! Launches that come again: as graphs or by themselves, the same bits.

use super::{bits, buffer};
use crate::cuda::segments::MAX_GRAPHS;
use crate::{
    AttentionLayer, AttentionSpan, Cuda, Device, Element, Grain, Heads, KvShape, MatrixData,
    MatrixPart, Norm, RopeLayout, Slot, emulated,
};

const HEAD_DIM: usize = 16;
const PAGE_SIZE: usize = 16;
const N_LAYERS: usize = 3;
/// Four heads of queries, one of keys and one of values.
const WIDTH: usize = 6 * HEAD_DIM;

fn heads(first: usize, n_heads: usize) -> Heads {
    Heads {
        first: first * HEAD_DIM,
        n_heads,
        head_dim: HEAD_DIM,
    }
}

/// Numbers that look random, the same for the same seed.
fn values(seed: u32, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / u32::MAX as f32 - 0.5
    };
    std::iter::repeat_with(next).take(n).collect()
}

fn matrix(device: &Cuda, seed: u32, n_rows: usize, n_cols: usize) -> crate::CudaMatrix {
    let values = values(seed, n_rows * n_cols);
    let part = MatrixPart {
        n_rows,
        data: MatrixData::F32(&values),
    };
    device.matrix(n_cols, &[part], Grain::ThirtyTwo).unwrap()
}

/// Decodes two sequences through a small decoder's layers and head, a token a step: what each step leaves, and the launches of
/// the longest graph.
fn decode(device: &mut Cuda, n_steps: usize) -> (Vec<Vec<u32>>, usize) {
    let mut kv = device
        .kv(KvShape {
            n_layers: N_LAYERS,
            n_pages: 40,
            page_size: PAGE_SIZE,
            n_kv_heads: 1,
            head_dim: HEAD_DIM,
        })
        .unwrap();
    let (qkv_matrix, output) = (
        matrix(device, 1, WIDTH, 32),
        matrix(device, 2, 32, 4 * HEAD_DIM),
    );
    let (norm, frequencies) = (
        device.vector(&values(3, 32)),
        device.vector(&values(4, HEAD_DIM / 2)),
    );
    let head = matrix(device, 5, 40, 32);
    let widths = [WIDTH, 4 * HEAD_DIM, HEAD_DIM, 32, 40];
    let mut buffers = widths.map(|width| device.buffer(width));
    let tables: [Vec<u32>; 2] = [(0..20).collect(), (20..40).rev().collect()];
    let mut left = Vec::new();
    for step in 0..n_steps {
        let [qkv, attended, angles, last, logits] = &mut buffers;
        let mut x = buffer(device, 32, &values(10 + step as u32, 2 * 32));
        let positions = [step, step + 5];
        let slots = [0, 1].map(|i| Slot {
            page: tables[i][positions[i] / PAGE_SIZE],
            offset: (positions[i] % PAGE_SIZE) as u32,
        });
        let spans = [0, 1].map(|i| AttentionSpan {
            first_row: i,
            n_rows: 1,
            start: positions[i],
            pages: &tables[i],
        });
        device.rope_angles(&frequencies, 1.0, &positions.map(|p| p as u32), angles);
        for idx in 0..N_LAYERS {
            let norm = Norm {
                weight: &norm,
                eps: 1e-5,
            };
            device.matmul(&qkv_matrix, None, &x, Some(norm), qkv);
            device.rope(qkv, heads(0, 5), RopeLayout::Halves, angles);
            device.kv_scatter(&mut kv, idx, qkv, heads(4, 1), heads(5, 1), &slots);
            let layer = AttentionLayer {
                idx,
                scale: 0.25,
                softcap: None,
                window: None,
            };
            device.attention(&kv, layer, qkv, heads(0, 4), &spans, attended);
            device.matmul_add(&output, None, attended, &mut x);
        }
        device.select_rows(&x, &[0, 1], last);
        device.matmul(&head, None, last, None, logits);
        left.push(bits(&device.read(logits)));
    }
    (left, device.context.longest_graph())
}

/// Past a tile's end at position 64, where the plans of attention grow.
#[test]
fn decoding_by_graphs_gives_the_same_bits() {
    let (Some(mut with), Some(mut without)) =
        (emulated(Element::Bf16, 3), emulated(Element::Bf16, 3))
    else {
        return;
    };
    without.context.without_graphs();
    let n_steps = 70;
    let (given, n_launches) = decode(&mut with, n_steps);
    // Attention and a product are two launches each. The first layer gives both; the others a product, a rotation and a scatter
    // more; the end a selection and a product.
    assert_eq!(n_launches, 4 + 2 * (4 + 4) + 3);
    assert!((given, 0) == decode(&mut without, n_steps));
    assert_eq!(without.context.graph_counts(), (0, 0));
    let (n_graphs, n_replays) = with.context.graph_counts();
    // The pools are gone, and with the kernels of their module all graphs.
    assert_eq!(n_graphs, 0);
    assert!(n_replays > n_steps as u64 / 2, "{n_replays} replays");
}

#[test]
fn graphs_are_bounded_and_what_they_compute_is_right() {
    let Some(mut device) = emulated(Element::Bf16, 1) else {
        return;
    };
    let mut x = buffer(&mut device, 1, &[1.0; 40]);
    let mut power = |factor: f32| {
        device.write(&mut x, &[1.0; 40]);
        for _ in 0..9 {
            device.scale(&mut x, factor);
        }
        let expected = (0..9).fold(1.0, |product, _| product * factor);
        assert_eq!(device.read(&x), [expected; 40], "{factor}");
    };
    for idx in 0..MAX_GRAPHS + 5 {
        let factor = 1.0 + idx as f32 / 64.0;
        (0..3).for_each(|_| power(factor));
        power(0.5);
    }
    let (n_graphs, n_replays) = device.context.graph_counts();
    assert_eq!(n_graphs, MAX_GRAPHS);
    assert_eq!(
        n_replays as usize,
        3 * (MAX_GRAPHS + 5) - 1,
        "all but what comes first"
    );
}
