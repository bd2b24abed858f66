//! Attention over pages: right, and the same bits whatever shares a batch, a chunk or a prefix.

use proptest::prelude::*;

use super::{bits, buffer, error, query_key_value};
use crate::cuda::emulator::HEADS;
use crate::{
    AttentionLayer, AttentionSpan, Cuda, CudaKv, Device, Element, Heads, KvFormat, KvShape,
    Reference, Slot, emulated,
};

const FORMATS: [KvFormat; 4] = [
    KvFormat::Plain,
    KvFormat::F16,
    KvFormat::Int8,
    KvFormat::E4m3,
];

/// Sequences that begin with the same `n_shared` positions.
#[derive(Debug, Clone)]
struct Case {
    kv_format: KvFormat,
    head_dim: usize,
    page_size: usize,
    n_kv_heads: usize,
    group_len: usize,
    n_shared: usize,
    /// Positions of each sequence after the shared ones.
    n_own: Vec<usize>,
    softcap: Option<f32>,
    window: Option<usize>,
    /// Rows of the shared positions, then of each sequence.
    x: Vec<f32>,
    seed: u64,
}

/// Rows to compute at once: of sequence, from, to.
type Step = Vec<(usize, usize, usize)>;

impl Case {
    fn heads(&self) -> [Heads; 3] {
        query_key_value(self.group_len, self.n_kv_heads, self.head_dim)
    }

    fn layer(&self) -> AttentionLayer {
        AttentionLayer {
            idx: 1,
            scale: 1.0 / (self.head_dim as f32).sqrt(),
            softcap: self.softcap,
            window: self.window,
        }
    }

    fn width(&self) -> usize {
        self.heads()[2].end()
    }

    fn len(&self, sequence: usize) -> usize {
        self.n_shared + self.n_own[sequence]
    }

    /// Where the row of a position lies among all rows.
    fn row(&self, sequence: usize, position: usize) -> usize {
        if position < self.n_shared {
            position
        } else {
            self.n_shared + self.n_own[..sequence].iter().sum::<usize>() + position - self.n_shared
        }
    }

    /// Block tables: the whole pages of the shared positions are the same, in descending order; the rest are each its own.
    fn tables(&self) -> (Vec<Vec<u32>>, usize) {
        let n_shared = self.n_shared / self.page_size;
        let mut n_pages = n_shared;
        let tables = (0..self.n_own.len()).map(|sequence| {
            let n_own = self.len(sequence).div_ceil(self.page_size) - n_shared;
            let own = (n_pages..n_pages + n_own).map(|page| page as u32);
            n_pages += n_own;
            (0..n_shared as u32).rev().chain(own).collect()
        });
        (tables.collect(), n_pages)
    }

    fn row_values(&self, sequence: usize, positions: std::ops::Range<usize>) -> Vec<f32> {
        let width = self.width();
        let rows = positions.map(|position| self.row(sequence, position) * width);
        rows.flat_map(|start| self.x[start..start + width].to_vec())
            .collect()
    }

    /// Writes keys and values of all positions first, then computes each step's rows at once; rows by sequence.
    fn run<D: Device>(&self, device: &mut D, steps: &[Step]) -> Vec<Vec<f32>> {
        let (tables, n_pages) = self.tables();
        let shape = KvShape {
            n_layers: 2,
            n_pages,
            page_size: self.page_size,
            n_kv_heads: self.n_kv_heads,
            head_dim: self.head_dim,
        };
        let mut kv = device.kv(shape).unwrap();
        let [queries, keys, values] = self.heads();
        for (sequence, table) in tables.iter().enumerate() {
            let len = self.len(sequence);
            let x = buffer(device, self.width(), &self.row_values(sequence, 0..len));
            let slots: Vec<Slot> = (0..len)
                .map(|position| Slot {
                    page: table[position / self.page_size],
                    offset: (position % self.page_size) as u32,
                })
                .collect();
            device.kv_scatter(&mut kv, 1, &x, keys, values, &slots);
        }
        let mut attended = vec![Vec::new(); tables.len()];
        for step in steps {
            let mut rows = Vec::new();
            let mut spans = Vec::new();
            for &(sequence, start, end) in step {
                let first_row = rows.len() / self.width();
                rows.extend(self.row_values(sequence, start..end));
                let pages = &tables[sequence];
                spans.push(AttentionSpan {
                    first_row,
                    n_rows: end - start,
                    start,
                    pages,
                });
            }
            let x = buffer(device, self.width(), &rows);
            let mut out = device.buffer(queries.end());
            device.attention(&kv, self.layer(), &x, queries, &spans, &mut out);
            let given = device.read(&out);
            for (span, &(sequence, ..)) in spans.iter().zip(step) {
                let range =
                    span.first_row * queries.end()..(span.first_row + span.n_rows) * queries.end();
                attended[sequence].extend_from_slice(&given[range]);
            }
        }
        attended
    }

    /// As this, with the keys and values that are left once they were stored.
    fn stored(&self) -> Self {
        let [queries, _, values] = self.heads();
        let mut stored = self.clone();
        for row in stored.x.chunks_exact_mut(self.width()) {
            let heads = row[queries.end()..values.end()].chunks_exact_mut(self.head_dim);
            heads.for_each(|head| head.copy_from_slice(&as_stored(head, self.kv_format)));
        }
        stored
    }

    /// All sequences at once, `chunk` positions a step.
    fn chunks(&self, chunk: usize) -> Vec<Step> {
        let longest = (0..self.n_own.len())
            .map(|sequence| self.len(sequence))
            .max()
            .unwrap_or(0);
        let step_from = |start: usize| {
            let spans = (0..self.n_own.len()).map(|s| (s, start, self.len(s).min(start + chunk)));
            spans.filter(|(_, start, end)| start < end).collect()
        };
        (0..longest).step_by(chunk).map(step_from).collect()
    }

    /// Every position alone, of the last `n_last` of each sequence.
    fn singly(&self, n_last: usize) -> Vec<Step> {
        let of = |s: usize| {
            (self.len(s).saturating_sub(n_last)..self.len(s)).map(move |p| vec![(s, p, p + 1)])
        };
        (0..self.n_own.len()).flat_map(of).collect()
    }

    /// As [`Case::singly`], but a position of each sequence in every step.
    fn abreast(&self, n_last: usize) -> Vec<Step> {
        let step = |back: usize| {
            let of = |s: usize| self.len(s).checked_sub(back).map(|p| (s, p, p + 1));
            (0..self.n_own.len()).filter_map(of).collect()
        };
        (1..=n_last).rev().map(step).collect()
    }
}

fn case(n_positions: std::ops::Range<usize>) -> impl Strategy<Value = Case> {
    let page_size = prop_oneof![Just(1usize), Just(5), Just(16), Just(32), Just(150)];
    let shape = (0..HEADS.len(), page_size, 1..3usize, 1..6usize, 0..4u64);
    let lengths = (n_positions, proptest::collection::vec(1..60usize, 1..5));
    let softcap = proptest::option::of(0.2f32..5.0);
    // Less than a tile, about as much, and more.
    let window = proptest::option::of(prop_oneof![1..10usize, 60..70usize, 100..300usize]);
    (shape, lengths, softcap, window).prop_flat_map(
        |(
            (variant, page_size, n_kv_heads, group_len, seed),
            (n_shared, n_own),
            softcap,
            window,
        )| {
            let (head_dim, kv_format) = HEADS[variant];
            let n_rows = n_shared + n_own.iter().sum::<usize>();
            let width = (group_len + 2) * n_kv_heads * head_dim;
            any::<u64>().prop_map(move |values| Case {
                kv_format,
                head_dim,
                page_size,
                n_kv_heads,
                group_len,
                n_shared,
                n_own: n_own.clone(),
                softcap,
                window,
                x: noise(values, n_rows * width),
                seed,
            })
        },
    )
}

/// Numbers from -1 to 1.
fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed | 1;
    let number = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(number).collect()
}

fn open(case: &Case) -> Option<Cuda> {
    opened(case, case.seed)
}

fn opened(case: &Case, seed: u64) -> Option<Cuda> {
    let device = emulated(Element::Bf16, seed)?;
    Some(device.with_kv_format(case.kv_format).unwrap())
}

/// What is left of the numbers of a key or value after they were stored, in f64 and by the formats' definitions.
fn as_stored(head: &[f32], format: KvFormat) -> Vec<f32> {
    let greatest = head
        .iter()
        .fold(0.0f32, |greatest, x| greatest.max(x.abs()));
    let nearest = |x: f32, codes: &[f64]| {
        let scale = f64::from(greatest) / codes.last().unwrap();
        let distance = |code: &f64| (f64::from(x.abs()) - code * scale).abs();
        let nearest = codes
            .iter()
            .copied()
            .min_by(|a, b| distance(a).total_cmp(&distance(b)));
        (nearest.unwrap() * scale) as f32 * x.signum()
    };
    let whole: Vec<f64> = (0..=127).map(f64::from).collect();
    // A mantissa of three bits: below eight denormals, then eight steps a power of two; of the last, the greatest is no number.
    let floating = (0..127).map(|code: i32| match code / 8 {
        0 => f64::from(code % 8) / 512.0,
        exponent => f64::from(8 + code % 8) / 8.0 * f64::from(exponent - 7).exp2(),
    });
    let floating: Vec<f64> = floating.collect();
    head.iter()
        .map(|&x| match format {
            KvFormat::Plain | KvFormat::F16 | KvFormat::F32 => x,
            KvFormat::Int8 => nearest(x, &whole),
            KvFormat::E4m3 => nearest(x, &floating),
        })
        .collect()
}

fn all_bits(rows: &[Vec<f32>]) -> Vec<Vec<u32>> {
    rows.iter().map(|rows| bits(rows)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn agrees_with_the_reference(case in case(0..300usize), chunk in 1..200usize) {
        let Some(mut device) = open(&case) else { return Ok(()) };
        let expected = case.stored().run(&mut Reference::new(1), &case.chunks(chunk));
        let given = case.run(&mut device, &case.chunks(chunk));
        // Queries, keys, weights and values have eight bits in bf16, eleven in f16.
        let limit = if case.kv_format == KvFormat::F16 { 2e-3 } else { 1.6e-2 };
        for (expected, given) in expected.iter().zip(&given) {
            prop_assert!(error(expected, given) < limit, "{}", error(expected, given));
        }
    }

    #[test]
    fn chunks_do_not_matter(case in case(0..200usize), chunk in 1..70usize, other in 0..4u64) {
        let Some(mut device) = open(&case) else { return Ok(()) };
        let whole = case.run(&mut device, &case.chunks(1000));
        let Some(mut device) = opened(&case, other) else { return Ok(()) };
        prop_assert_eq!(all_bits(&whole), all_bits(&case.run(&mut device, &case.chunks(chunk))));
    }

    /// A cascade over the shared pages, decodes alone, and prefills give the same bits.
    #[test]
    fn neighbours_and_shared_prefixes_do_not_matter(case in case(200..700usize)) {
        let Some(mut device) = open(&case) else { return Ok(()) };
        let alone = case.run(&mut device, &case.singly(2));
        let abreast = case.run(&mut device, &case.abreast(2));
        prop_assert_eq!(all_bits(&alone), all_bits(&abreast));
        let prefill: Step = (0..case.n_own.len()).map(|s| (s, case.len(s) - 20, case.len(s))).collect();
        let prefilled = case.run(&mut device, &[prefill]);
        for (alone, prefilled) in alone.iter().zip(&prefilled) {
            let last = &prefilled[prefilled.len() - alone.len()..];
            prop_assert_eq!(bits(alone), bits(last));
        }
    }
}

/// Keys are equal: attention is the mean of the values that are seen, which are exact in bf16.
fn average(softcap: Option<f32>, window: Option<usize>) {
    let row = |position: usize| [[1.0; 16], [0.5; 16], [position as f32; 16]].concat();
    let case = Case {
        kv_format: KvFormat::Plain,
        head_dim: 16,
        page_size: 4,
        n_kv_heads: 1,
        group_len: 1,
        n_shared: 0,
        n_own: vec![200],
        softcap,
        window,
        x: (0..200).flat_map(row).collect(),
        seed: 0,
    };
    let Some(mut device) = open(&case) else {
        return;
    };
    for steps in [case.chunks(64), case.singly(200)] {
        let given = case.run(&mut device, &steps);
        for (position, row) in given[0].chunks_exact(16).enumerate() {
            let first = window.map_or(0, |window| (position + 1).saturating_sub(window));
            let expected = (first + position) as f32 / 2.0;
            assert!(
                row.iter().all(|x| (x - expected).abs() < 1e-3),
                "{position}: {row:?}"
            );
        }
    }
}

#[test]
fn equal_keys_average_the_values() {
    average(None, None);
}

#[test]
fn equal_keys_average_the_values_of_a_window() {
    average(Some(1.0), Some(5));
    average(None, Some(64));
}

/// Two heads of 64, one query head each.
const COPIED: [Heads; 3] = [heads_from(0), heads_from(128), heads_from(256)];
const COPIED_WIDTH: usize = 384;

const fn heads_from(first: usize) -> Heads {
    Heads {
        first,
        n_heads: 2,
        head_dim: 64,
    }
}

/// What a query sees of the first `n_positions` positions of a page.
fn seen(
    device: &mut Cuda,
    kv: &CudaKv,
    layer_idx: usize,
    page: u32,
    n_positions: usize,
) -> Vec<u32> {
    let mut out = device.buffer(COPIED[0].end());
    let span = AttentionSpan {
        first_row: 0,
        n_rows: 1,
        start: n_positions - 1,
        pages: &[page],
    };
    let x = buffer(device, COPIED_WIDTH, &noise(3, COPIED_WIDTH));
    let layer = AttentionLayer {
        idx: layer_idx,
        scale: 0.125,
        softcap: None,
        window: None,
    };
    device.attention(kv, layer, &x, COPIED[0], &[span], &mut out);
    bits(&device.read(&out))
}

#[test]
fn a_copied_page_is_read_like_the_first() {
    for format in FORMATS {
        let device = emulated(Element::Bf16, 1);
        if let Some(device) = device {
            copies_in(device.with_kv_format(format).unwrap());
        }
    }
}

fn copies_in(mut device: Cuda) {
    let shape = KvShape {
        n_layers: 3,
        n_pages: 3,
        page_size: 8,
        n_kv_heads: 2,
        head_dim: 64,
    };
    let mut kv = device.kv(shape).unwrap();
    let [_, keys, values] = COPIED;
    for (page, seed) in [(0, 1), (2, 2)] {
        let slots: Vec<_> = (0..8).map(|offset| Slot { page, offset }).collect();
        let x = buffer(&mut device, COPIED_WIDTH, &noise(seed, 8 * COPIED_WIDTH));
        for layer_idx in 0..3 {
            device.kv_scatter(&mut kv, layer_idx, &x, keys, values, &slots);
        }
    }
    let before = seen(&mut device, &kv, 2, 2, 8);
    device.copy_page(&mut kv, 0, 2, 5);
    for layer_idx in 0..3 {
        let source = seen(&mut device, &kv, layer_idx, 0, 5);
        assert_eq!(
            source,
            seen(&mut device, &kv, layer_idx, 2, 5),
            "layer {layer_idx}"
        );
    }
    let after = seen(&mut device, &kv, 2, 2, 8);
    assert_ne!(before, after, "five of eight slots are new");
    assert_ne!(seen(&mut device, &kv, 2, 0, 8), after, "three are not");
}

/// What a single position's value comes back as: attention to it alone is the value itself.
fn stored_value(head: &[f32], format: KvFormat) -> Option<Vec<f32>> {
    let mut device = emulated(Element::Bf16, 0)?.with_kv_format(format).unwrap();
    let shape = KvShape {
        n_layers: 1,
        n_pages: 1,
        page_size: 1,
        n_kv_heads: 1,
        head_dim: 64,
    };
    let mut kv = device.kv(shape).unwrap();
    let [queries, keys, values] = query_key_value(1, 1, 64);
    let x = buffer(&mut device, 192, &[&[0.0; 128], head].concat());
    let slot = Slot { page: 0, offset: 0 };
    device.kv_scatter(&mut kv, 0, &x, keys, values, &[slot]);
    let layer = AttentionLayer {
        idx: 0,
        scale: 0.125,
        softcap: None,
        window: None,
    };
    let span = AttentionSpan {
        first_row: 0,
        n_rows: 1,
        start: 0,
        pages: &[0],
    };
    let mut out = device.buffer(64);
    device.attention(&kv, layer, &x, queries, &[span], &mut out);
    Some(device.read(&out))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Of any size, and with what is far below the greatest.
    #[test]
    fn codes_are_near_what_was_stored(
        head in proptest::collection::vec(prop_oneof![4 => -1.0f32..1.0, 1 => -0.01f32..0.01, 1 => Just(0.0)], 64),
        exponent in -100..100i32,
    ) {
        let head: Vec<f32> = head.iter().map(|x| x * (exponent as f32).exp2()).collect();
        let greatest = head.iter().fold(0.0f32, |greatest, x| greatest.max(x.abs()));
        for format in FORMATS {
            let Some(given) = stored_value(&head, format) else { return Ok(()) };
            for (x, given) in head.iter().zip(given) {
                // Half a step, and a rounding of the scale, a weight of 1, to bf16.
                let limit = match format {
                    KvFormat::Plain | KvFormat::F32 => x.abs() / 256.0,
                    // Below 2^-14 in steps of 2^-24; what is too great becomes the greatest.
                    KvFormat::F16 if x.abs() > 65_504.0 => x.abs() - 65_504.0,
                    KvFormat::F16 => x.abs() / 2048.0 + 2f32.powi(-25),
                    KvFormat::Int8 => greatest / 254.0 + x.abs() / 250.0,
                    KvFormat::E4m3 => x.abs() / 16.0 + greatest / 448.0 / 1024.0 + x.abs() / 250.0,
                };
                prop_assert!((x - given).abs() <= limit, "{:?}: {} for {}", format, given, x);
            }
        }
    }
}

#[test]
fn zeros_and_the_strange_are_stored_as_numbers() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    for format in [KvFormat::Int8, KvFormat::E4m3] {
        for strange in [
            [0.0, 0.0],
            [nan, 1.0],
            [inf, -1.0],
            [1e-44, -1e-45],
            [f32::MAX, -inf],
        ] {
            let head: Vec<f32> = strange.into_iter().cycle().take(64).collect();
            let Some(given) = stored_value(&head, format) else {
                return;
            };
            // The greatest of all may be rounded up to infinity with its scale.
            let is_plain = head.iter().all(|x| x.is_nan() || x.abs() < 1e9);
            assert!(
                !is_plain || given.iter().all(|x| x.is_finite()),
                "{format:?} {strange:?}"
            );
        }
    }
}
