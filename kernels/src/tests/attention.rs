//! Attention: against the reference, and against itself cut up in other ways.

use proptest::prelude::*;

use std::fmt::Debug;

use half::bf16;

use super::*;
use crate::kv::{KvElement, PutSlot};
use crate::pool::Pool;
use crate::simd::{Portable, Simd};
use crate::{AttentionLayer, KernelError, KvFormat, KvPool, Reference};

/// What the CPU has.
const FORMATS: [KvFormat; 3] = [KvFormat::Plain, KvFormat::F32, KvFormat::Int8];

fn cpu(n_threads: usize, format: KvFormat) -> Cpu {
    Cpu::new(n_threads).with_kv_format(format).unwrap()
}

/// What is left of a key or value after it was stored as whole numbers of eight bits.
fn as_codes(head: &mut [f32]) {
    let greatest = head.iter().map(|x| x.abs()).fold(0.0, f32::max);
    let scale = greatest / 127.0;
    for x in head.iter_mut().filter(|_| scale > 0.0) {
        *x = (*x / scale).round_ties_even() * scale;
    }
}

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

    /// As this, with the keys and values that are left of codes.
    fn as_codes(&self) -> Self {
        let [queries, ..] = self.heads();
        let mut coded = self.clone();
        for row in coded.x.chunks_exact_mut(self.width()) {
            let heads = row[queries.end()..].chunks_exact_mut(self.head_dim);
            heads.for_each(as_codes);
        }
        coded
    }

    /// All positions, `chunk` rows a step.
    fn run<D: Device<Buffer = Buffer>>(&self, device: &mut D, chunk: usize) -> Vec<f32> {
        self.run_over(device, chunk, 0.0)
    }

    /// As [`Case::run`], over pages that are full of something.
    fn run_over<D: Device<Buffer = Buffer>>(
        &self,
        device: &mut D,
        chunk: usize,
        stale: f32,
    ) -> Vec<f32> {
        let shape = KvShape {
            n_layers: 2,
            n_pages: self.pages.len(),
            page_size: self.page_size,
            n_kv_heads: self.n_kv_heads,
            head_dim: self.head_dim,
        };
        let mut kv = device.kv(shape).unwrap();
        let [queries, keys, values] = self.heads();
        let all = (0..self.pages.len() as u32)
            .flat_map(|page| (0..self.page_size as u32).map(move |offset| Slot { page, offset }));
        let all: Vec<Slot> = all.collect();
        let x = buffer(self.width(), &vec![stale; all.len() * self.width()]);
        device.kv_scatter(&mut kv, 1, &x, keys, values, &all);
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

/// Heads and pages that no unit for squares is used for.
fn case() -> impl Strategy<Value = Case> {
    case_of(
        &[1, 5, 16, 32, 150],
        &[16, 32],
        (1..3usize, 1..5usize, 1..300usize),
    )
}

/// Those that one is used for.
fn case_of_squares() -> impl Strategy<Value = Case> {
    case_of(
        &[16, 32, 48],
        &[64, 128],
        (1..3usize, 1..4usize, 1..300usize),
    )
}

fn case_of(
    page_sizes: &'static [usize],
    head_dims: &'static [usize],
    rest: impl Strategy<Value = (usize, usize, usize)>,
) -> impl Strategy<Value = Case> {
    let sizes = (
        proptest::sample::select(page_sizes),
        proptest::sample::select(head_dims),
    );
    let window = prop_oneof![1 => Just(None), 1 => (1..200usize).prop_map(Some)];
    let softcap = prop_oneof![2 => Just(None), 1 => (0.5f32..4.0).prop_map(Some)];
    (sizes, rest, window, softcap).prop_flat_map(
        |((page_size, head_dim), (n_kv_heads, group_len, n_positions), window, softcap)| {
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
        for (format, limit) in [
            // bf16 has eight bits: weights and values are off by 2^-9 each, and so is each factor of a score.
            (KvFormat::Plain, 1.6e-2),
            // The exponential is within 8e-6.
            (KvFormat::F32, 3e-5),
            // Queries and weights are off by 2^-16 of their greatest.
            (KvFormat::Int8, 5e-4),
        ] {
            let stored = if format == KvFormat::Int8 { case.as_codes() } else { case.clone() };
            let expected = stored.run(&mut Reference::new(1), case.n_positions);
            let error = error(&expected, &case.run(&mut cpu(1, format), case.n_positions));
            prop_assert!(error < limit, "{format:?}: {error}");
        }
    }

    #[test]
    fn every_tier_chunk_and_thread_count_gives_the_same_bits(case in case(), chunk in 1..40usize) {
        for format in FORMATS {
            let with_tier = |n_threads, tier| {
                Cpu::with_tier(n_threads, tier).with_kv_format(format).unwrap()
            };
            let expected = case.run(&mut with_tier(1, Tier::Portable), case.n_positions);
            for tier in TIERS {
                let whole = case.run(&mut with_tier(3, tier), case.n_positions);
                prop_assert_eq!(bits(&expected), bits(&whole), "{:?} {:?}", format, tier);
            }
            for stale in [0.0, 1e30, f32::NAN] {
                let chunked = case.run_over(&mut cpu(2, format), chunk, stale);
                prop_assert_eq!(
                    bits(&expected), bits(&chunked), "{:?}, chunks of {} over {}", format, chunk, stale
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn squares_agree_with_the_reference(mut case in case_of_squares()) {
        for x in &mut case.x {
            *x = (*x / 8.0).clamp(-1.0, 1.0);
        }
        let expected = case.run(&mut Reference::new(1), case.n_positions);
        for mut device in with_unit(1) {
            let error = error(&expected, &case.run(&mut device, case.n_positions));
            // As without squares.
            prop_assert!(error < 1.6e-2, "{error}");
        }
    }

    #[test]
    fn squares_give_the_same_bits_however_rows_are_cut(case in case_of_squares(), chunk in 1..40usize) {
        let expected = case.run(&mut Cpu::with_scalar_unit(1), case.n_positions);
        for mut device in with_unit(3) {
            let whole = case.run(&mut device, case.n_positions);
            prop_assert_eq!(bits(&expected), bits(&whole), "{:?}", device.tier());
            for stale in [0.0, f32::NAN] {
                let chunked = case.run_over(&mut device, chunk, stale);
                prop_assert_eq!(
                    bits(&expected), bits(&chunked), "{:?}, chunks of {} over {}", device.tier(), chunk, stale
                );
            }
        }
    }
}

/// Values are exact in every format, keys are equal: attention is the mean of the values that are seen.
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
        let mut all = vec![(case.run(&mut Reference::new(1), 9), 1e-5)];
        all.extend(FORMATS.map(|format| {
            // Weighted values are rounded to a 65,536th of the greatest, which is 8.
            let limit = if format == KvFormat::Int8 {
                8.0 / 65_536.0
            } else {
                1e-5
            };
            (case.run(&mut cpu(1, format), 9), limit)
        }));
        for (given, limit) in all {
            for (position, row) in given.chunks_exact(16).enumerate() {
                let n_seen = window.map_or(position + 1, |window| window.min(position + 1));
                let mean = position as f32 - (n_seen - 1) as f32 / 2.0;
                assert!(
                    row.iter().all(|x| (x - mean).abs() < limit),
                    "{position} of {window:?}: {row:?}"
                );
            }
        }
    }
}

/// Scores that are the same in a stride and greater in the next: sums are rescaled where they grow by more than eight powers of two.
#[test]
fn scores_grow_from_stride_to_stride() {
    let n_positions = 300;
    for growth in [2.0f32, 7.0, 30.0, 200.0] {
        // Sixty-four products, an eighth of which is the score.
        let key = |position: usize| if position < 256 { 0.0 } else { growth / 8.0 };
        let row = |position| {
            [
                [1.0; 64],
                [key(position); 64],
                [position as f32 / 300.0; 64],
            ]
            .concat()
        };
        let case = Case {
            page_size: 16,
            n_kv_heads: 1,
            group_len: 1,
            head_dim: 64,
            n_positions,
            window: None,
            softcap: None,
            pages: (0..19).rev().collect(),
            x: (0..n_positions).flat_map(row).collect(),
        };
        let expected = case.run(&mut Reference::new(1), n_positions);
        let check = |name: &str, given: &[f32], limit| {
            let error = error(&expected, given);
            assert!(error < limit, "{name}, by {growth}: {error}");
        };
        for (format, limit) in [
            (KvFormat::Plain, 8e-3),
            (KvFormat::F32, 3e-5),
            (KvFormat::Int8, 8e-3),
        ] {
            let given = case.run(&mut cpu(1, format), n_positions);
            check(&format!("{format:?}"), &given, limit);
        }
        for mut device in with_unit(1) {
            check("squares", &case.run(&mut device, n_positions), 8e-3);
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
        (case.run(&mut cpu(1, KvFormat::Plain), 2), 4e-3),
        (case.run(&mut cpu(1, KvFormat::F32), 2), 3e-5),
        (case.run(&mut cpu(1, KvFormat::Int8), 2), 5e-5),
    ] {
        assert!(
            (given[16] - expected).abs() < limit,
            "{} {expected}",
            given[16]
        );
    }
}

fn portably<T: KvElement>(slot: PutSlot<'_, T>) {
    Portable.run(slot);
}

/// Pages of every slot's own numbers; one is copied to another in part.
fn check_copies<T: KvElement + PartialEq + Debug>() {
    let shape = KvShape {
        n_layers: 2,
        n_pages: 3,
        page_size: 6,
        n_kv_heads: 2,
        head_dim: 16,
    };
    let [_, keys, values] = query_key_value(0, 2, 16);
    let mut kv = KvPool::<T>::new(shape).unwrap();
    let mut pool = Pool::new(1);
    for layer_idx in 0..2 {
        for (page, offset) in (0..3).flat_map(|page| (0..6).map(move |offset| (page, offset))) {
            let row: Vec<f32> = (0..64)
                .map(|i| (page * 1000 + offset * 100 + i) as f32 / 7.0)
                .collect();
            let slot = Slot { page, offset };
            kv.put(
                &mut pool,
                layer_idx,
                &[slot],
                |_| &row,
                (keys, values),
                portably,
            );
        }
    }
    // A slot's key, value and their scales.
    let slot_of = |kv: &KvPool<T>, layer_idx, page, head_idx, slot| {
        let (keys, values) = (
            kv.keys(layer_idx, page, head_idx),
            kv.values(layer_idx, page, head_idx),
        );
        let key = (0..16).map(|element| keys[shape.key_at::<T>(slot, element)]);
        let value = (0..16).map(|element| values[shape.value_at::<T>(slot, element)]);
        let scales = kv.scales(layer_idx, page, head_idx);
        let scales = scales.map(|scales| scales.get(slot).copied());
        (key.chain(value).collect::<Vec<T>>(), scales)
    };
    let places = || (0..2).flat_map(|layer_idx| (0..2).map(move |head_idx| (layer_idx, head_idx)));
    let all = |kv: &KvPool<T>, page: u32| -> Vec<_> {
        let slots = places().flat_map(|(l, h)| (0..6).map(move |slot| (l, h, slot)));
        slots
            .map(|(l, h, slot)| slot_of(kv, l, page, h, slot))
            .collect()
    };
    let (source, before) = (all(&kv, 0), all(&kv, 2));
    assert_ne!(source, before);
    kv.copy_page(0, 2, 4);
    let after = all(&kv, 2);
    for (idx, slot) in after.iter().enumerate() {
        // The slots beyond those copied are untouched.
        let expected = if idx % 6 < 4 { &source } else { &before };
        assert_eq!(*slot, expected[idx], "slot {idx}");
    }
}

#[test]
fn a_copied_page_holds_the_same_bits() {
    check_copies::<bf16>();
    check_copies::<f32>();
    check_copies::<i8>();
}

/// Of each head its own scale, as f32 and in the order of slots.
#[test]
fn codes_are_followed_by_their_scales() {
    let shape = KvShape {
        n_layers: 1,
        n_pages: 2,
        page_size: 5,
        n_kv_heads: 2,
        head_dim: 16,
    };
    let [_, keys, values] = query_key_value(0, 2, 16);
    let mut kv = KvPool::<i8>::new(shape).unwrap();
    let slot = Slot { page: 1, offset: 3 };
    // Heads whose greatest number is 127, 254, 381 and 508.
    let row: Vec<f32> = (0..64)
        .map(|i| (i / 16 + 1) as f32 * if i % 16 == 5 { -127.0 } else { 1.0 })
        .collect();
    kv.put(
        &mut Pool::new(1),
        0,
        &[slot],
        |_| &row,
        (keys, values),
        portably,
    );
    for (head_idx, expected) in [[1.0, 3.0], [2.0, 4.0]].into_iter().enumerate() {
        assert_eq!(kv.scales(0, 1, head_idx).map(|scales| scales[3]), expected);
        let code = |element| kv.keys(0, 1, head_idx)[shape.key_at::<i8>(3, element)];
        assert_eq!((code(5), code(6)), (-127, 1));
    }
}

/// Also where pages come in turn, so that two threads could have slots of each.
#[test]
fn every_slot_has_its_row_whichever_thread_writes_it() {
    let shape = KvShape {
        n_layers: 1,
        n_pages: 2,
        page_size: 16,
        n_kv_heads: 2,
        head_dim: 16,
    };
    let [_, keys, values] = query_key_value(0, 2, 16);
    let rows: Vec<Vec<f32>> = (0..32)
        .map(|row| (0..64).map(|i| (row * 64 + i) as f32).collect())
        .collect();
    let slot = |page, offset| Slot { page, offset };
    let in_turn = |i: u32| slot(i % 2, i / 2);
    let in_order = |i: u32| slot(i / 16, i % 16);
    for slots in [
        (0..32).map(in_turn).collect(),
        Vec::from_iter((0..32).map(in_order)),
    ] {
        let mut kv = KvPool::<f32>::new(shape).unwrap();
        kv.put(
            &mut Pool::new(3),
            0,
            &slots,
            |i| &rows[i],
            (keys, values),
            portably,
        );
        for (slot, row) in slots.iter().zip(&rows) {
            let offset = slot.offset as usize;
            for head_idx in 0..2 {
                let keys = kv.keys(0, slot.page, head_idx);
                let values = kv.values(0, slot.page, head_idx);
                let key = (0..16).map(|i| keys[shape.key_at::<f32>(offset, i)]);
                let value = (0..16).map(|i| values[shape.value_at::<f32>(offset, i)]);
                let first = 16 * head_idx;
                assert!(key.eq(row[first..first + 16].iter().copied()));
                assert!(value.eq(row[32 + first..48 + first].iter().copied()));
            }
        }
    }
}

#[test]
fn formats_and_shapes_that_the_cpu_has_not_are_refused() {
    let Err(refused) = Cpu::new(1).with_kv_format(KvFormat::E4m3) else {
        panic!("fp8 on the CPU");
    };
    assert_eq!(
        refused.to_string(),
        "the CPU keeps keys and values in bf16, f32 and int8, not in fp8"
    );
    let shape = |head_dim, page_size| KvShape {
        n_layers: 1,
        n_pages: 1,
        page_size,
        n_kv_heads: 1,
        head_dim,
    };
    let codes = cpu(1, KvFormat::Int8);
    assert!(codes.kv(shape(512, 256)).is_ok());
    for (shape, given) in [(shape(528, 16), 528), (shape(64, 257), 257)] {
        let refused = codes.kv(shape).unwrap_err();
        assert!(matches!(refused, KernelError::KvCodes { given: g, .. } if g == given));
        assert!(cpu(1, KvFormat::F32).kv(shape).is_ok());
    }
}

/// The greatest factors and codes there can be, over the most elements and positions: no sum overflows.
#[test]
fn sums_of_codes_hold_the_greatest_products() {
    let case = Case {
        page_size: 256,
        n_kv_heads: 1,
        group_len: 1,
        head_dim: 512,
        n_positions: 256,
        window: None,
        softcap: None,
        pages: vec![0],
        x: [1.0, 1.0, 3.0].map(|x| vec![x; 512]).concat().repeat(256),
    };
    let given = case.run(&mut cpu(1, KvFormat::Int8), 256);
    assert!(given.iter().all(|x| (x - 3.0).abs() < 1e-4));
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
fn stored_numbers_are_the_nearest_ones_without_infinities_and_tiny_ones() {
    let limit = bf16::MAX.to_f32();
    let edges = [0, 0x7fff, 0x8000, 0x8001, 0xffff, 0x1_7fff, 0x1_8000];
    // Every exponent and sign, with mantissas about the ties.
    let all = (0..512u32).flat_map(|high| edges.map(|low| f32::from_bits(high << 23 | low)));
    for value in all {
        let stored = bf16::round(value, 1.0);
        if value.is_nan() {
            assert!(stored.is_nan(), "{value:e}");
            continue;
        }
        let kept = if value.abs() < 2f32.powi(-56) {
            0.0
        } else {
            value
        };
        let expected = bf16::from_f32(kept.clamp(-limit, limit)).to_f32();
        assert_eq!(stored.to_f32(), expected, "{value:e}");
        assert!(kept != 0.0 || stored.to_bits() == 0, "{value:e}");
    }
}
