//! Attention: against the reference, and against itself cut up in other ways.

use proptest::prelude::*;

use super::*;
use crate::{AttentionLayer, KernelError, Reference};

/// One sequence of a model's shape, its pages in a shuffled order.
#[derive(Debug, Clone)]
struct Case {
    page_size: usize,
    n_kv_heads: usize,
    group_len: usize,
    head_dim: usize,
    n_positions: usize,
    window: Option<usize>,
    softcap: Option<f32>,
    pages: Vec<u32>,
    x: Vec<f32>,
}

impl Case {
    fn width(&self) -> usize {
        (self.group_len + 2) * self.n_kv_heads * self.head_dim
    }

    fn heads(&self) -> [Heads; 3] {
        query_key_value(self.group_len, self.n_kv_heads, self.head_dim)
    }

    /// All positions, `chunk` rows a step.
    fn run<D: Device<Buffer = Buffer>>(&self, device: &mut D, chunk: usize) -> Vec<f32> {
        let shape = KvShape {
            n_layers: 2,
            n_pages: self.pages.len(),
            page_size: self.page_size,
            n_kv_heads: self.n_kv_heads,
            head_dim: self.head_dim,
        };
        let mut kv = device.kv(shape).unwrap();
        let [queries, keys, values] = self.heads();
        let mut attended = Vec::new();
        for start in (0..self.n_positions).step_by(chunk) {
            let end = self.n_positions.min(start + chunk);
            let x = buffer(
                self.width(),
                &self.x[start * self.width()..end * self.width()],
            );
            let slots: Vec<Slot> = (start..end)
                .map(|position| Slot {
                    page: self.pages[position / self.page_size],
                    offset: (position % self.page_size) as u32,
                })
                .collect();
            device.kv_scatter(&mut kv, 1, &x, keys, values, &slots);
            let mut out = device.buffer(queries.end());
            let (n_rows, pages) = (end - start, &self.pages);
            let span = AttentionSpan {
                first_row: 0,
                n_rows,
                start,
                pages,
            };
            let layer = AttentionLayer {
                idx: 1,
                scale: 1.0 / (self.head_dim as f32).sqrt(),
                softcap: self.softcap,
                window: self.window,
            };
            device.attention(&kv, layer, &x, queries, &[span], &mut out);
            attended.extend(device.read(&out));
        }
        attended
    }
}

fn case() -> impl Strategy<Value = Case> {
    let page_size = prop_oneof![Just(1usize), Just(5), Just(16), Just(32), Just(150)];
    let window = prop_oneof![1 => Just(None), 1 => (1..200usize).prop_map(Some)];
    let softcap = prop_oneof![2 => Just(None), 1 => (0.5f32..4.0).prop_map(Some)];
    let shape = (page_size, 1..3usize, 1..5usize, 1..3usize, 1..300usize);
    (shape, window, softcap).prop_flat_map(
        |((page_size, n_kv_heads, group_len, n_vectors, n_positions), window, softcap)| {
            let head_dim = 16 * n_vectors;
            let n_pages = n_positions.div_ceil(page_size) as u32;
            let pages = Just((0..n_pages).collect::<Vec<_>>()).prop_shuffle();
            let width = (group_len + 2) * n_kv_heads * head_dim;
            (pages, values(n_positions * width)).prop_map(move |(pages, x)| Case {
                page_size,
                n_kv_heads,
                group_len,
                head_dim,
                n_positions,
                window,
                softcap,
                pages,
                x,
            })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn agrees_with_the_reference(mut case in case()) {
        // Gentle scores: with a sharp softmax, rounded keys alone may choose another position.
        for x in &mut case.x {
            *x = (*x / 8.0).clamp(-1.0, 1.0);
        }
        let expected = case.run(&mut Reference::new(1), case.n_positions);
        let given = case.run(&mut Cpu::new(1), case.n_positions);
        // bf16 has eight bits: weights and values are off by 2^-9 each, and so is each factor of a score.
        prop_assert!(error(&expected, &given) < 1.6e-2, "{}", error(&expected, &given));
    }

    #[test]
    fn every_tier_chunk_and_thread_count_gives_the_same_bits(case in case(), chunk in 1..40usize) {
        let expected = case.run(&mut Cpu::with_tier(1, Tier::Portable), case.n_positions);
        for tier in TIERS {
            let whole = case.run(&mut Cpu::with_tier(3, tier), case.n_positions);
            prop_assert_eq!(bits(&expected), bits(&whole), "{:?}", tier);
        }
        let chunked = case.run(&mut Cpu::new(2), chunk);
        prop_assert_eq!(bits(&expected), bits(&chunked), "chunks of {}", chunk);
    }
}

/// Values are exact in bf16, keys are equal: attention is the mean of the values that are seen.
#[test]
fn equal_keys_average_the_values() {
    for window in [None, Some(1), Some(3), Some(9), Some(40)] {
        let case = Case {
            page_size: 4,
            n_kv_heads: 1,
            group_len: 1,
            head_dim: 16,
            n_positions: 9,
            window,
            softcap: None,
            pages: vec![2, 0, 1],
            x: (0..9)
                .flat_map(|p| [[1.0; 16], [0.5; 16], [p as f32; 16]].concat())
                .collect(),
        };
        for given in [
            case.run(&mut Cpu::new(1), 9),
            case.run(&mut Reference::new(1), 9),
        ] {
            for (position, row) in given.chunks_exact(16).enumerate() {
                let n_seen = window.map_or(position + 1, |window| window.min(position + 1));
                let mean = position as f32 - (n_seen - 1) as f32 / 2.0;
                assert!(
                    row.iter().all(|x| (x - mean).abs() < 1e-5),
                    "{position} of {window:?}: {row:?}"
                );
            }
        }
    }
}

/// Of two positions with scores of 8 and 0, capped at 2: weights e^(2 tanh 4) and 1.
#[test]
fn scores_are_capped_before_they_are_weights() {
    let row = |key: f32, value: f32| [[2.0; 16], [key; 16], [value; 16]].concat();
    let case = Case {
        page_size: 4,
        n_kv_heads: 1,
        group_len: 1,
        head_dim: 16,
        n_positions: 2,
        window: None,
        softcap: Some(2.0),
        pages: vec![0],
        x: [row(1.0, 1.0), row(0.0, 0.0)].concat(),
    };
    let weight = (2.0 * 4.0f32.tanh()).exp();
    let expected = weight / (weight + 1.0);
    for (given, limit) in [
        (case.run(&mut Reference::new(1), 2), 1e-6),
        (case.run(&mut Cpu::new(1), 2), 4e-3),
    ] {
        assert!(
            (given[16] - expected).abs() < limit,
            "{} {expected}",
            given[16]
        );
    }
}

#[test]
fn a_copied_page_holds_the_same_bits() {
    let shape = KvShape {
        n_layers: 2,
        n_pages: 3,
        page_size: 6,
        n_kv_heads: 2,
        head_dim: 16,
    };
    let mut device = Cpu::new(1);
    let mut kv = device.kv(shape).unwrap();
    let (keys, values) = (
        Heads {
            first: 0,
            n_heads: 2,
            head_dim: 16,
        },
        Heads {
            first: 32,
            n_heads: 2,
            head_dim: 16,
        },
    );
    for layer_idx in 0..2 {
        let row = |page: u32, offset: u32| -> Vec<f32> {
            (0..64)
                .map(|i| (page * 1000 + offset * 100 + i) as f32 / 7.0)
                .collect()
        };
        for (page, offset) in (0..3).flat_map(|page| (0..6).map(move |offset| (page, offset))) {
            let slot = Slot { page, offset };
            let x = buffer(64, &row(page, offset));
            device.kv_scatter(&mut kv, layer_idx, &x, keys, values, &[slot]);
        }
    }
    let before = [kv.keys(1, 2, 1).to_vec(), kv.values(1, 2, 1).to_vec()];
    device.copy_page(&mut kv, 0, 2, 4);
    for layer_idx in 0..2 {
        for head_idx in 0..2 {
            let [source, target] = [0, 2].map(|page| kv.keys(layer_idx, page, head_idx));
            let [from, to] = [0, 2].map(|page| kv.values(layer_idx, page, head_idx));
            for (slot, element) in (0..4).flat_map(|slot| (0..16).map(move |e| (slot, e))) {
                let at = shape.key_at(slot, element);
                assert_eq!(source[at], target[at]);
                let at = shape.value_at(slot, element);
                assert_eq!(from[at], to[at]);
            }
        }
    }
    // The slots beyond those copied are untouched.
    for (slot, element) in (4..6).flat_map(|slot| (0..16).map(move |e| (slot, e))) {
        let at = shape.key_at(slot, element);
        assert_eq!(before[0][at], kv.keys(1, 2, 1)[at]);
        let at = shape.value_at(slot, element);
        assert_eq!(before[1][at], kv.values(1, 2, 1)[at]);
    }
}

#[test]
fn a_pool_beyond_all_memory_is_refused() {
    let shape = |n_pages| KvShape {
        n_layers: 99,
        n_pages,
        page_size: 999,
        n_kv_heads: 99,
        head_dim: 128,
    };
    for n_pages in [usize::MAX, usize::MAX / 1000, 1 << 44] {
        let refused = Device::kv(&Reference::new(1), shape(n_pages));
        assert!(
            matches!(refused, Err(KernelError::Memory { .. })),
            "{n_pages} pages"
        );
    }
}

/// What keys and values are rounded to, told by the library that the fast conversion does without.
#[test]
fn stored_numbers_are_the_nearest_ones_without_infinities_and_denormals() {
    let limit = half::bf16::MAX.to_f32();
    let edges = [0, 0x7fff, 0x8000, 0x8001, 0xffff, 0x1_7fff, 0x1_8000];
    // Every exponent and sign, with mantissas about the ties.
    let all = (0..512u32).flat_map(|high| edges.map(|low| f32::from_bits(high << 23 | low)));
    for value in all {
        let stored = <half::bf16 as crate::kv::KvElement>::from_f32(value);
        if value.is_nan() {
            assert!(stored.is_nan(), "{value:e}");
            continue;
        }
        let kept = if value.is_subnormal() { 0.0 } else { value };
        let expected = half::bf16::from_f32(kept.clamp(-limit, limit)).to_f32();
        assert_eq!(stored.to_f32(), expected, "{value:e}");
        assert!(value != 0.0 && !value.is_subnormal() || stored.to_bits() == 0);
    }
}
