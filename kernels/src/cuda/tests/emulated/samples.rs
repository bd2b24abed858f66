//! Choices of tokens: the very ones of the scalar loop, whatever the row, the mask and the settings.

use proptest::prelude::*;

use super::{bits, buffer};
use crate::{
    Adjustment, Allowed, Cuda, Device, Draw, Element, Sampler, choose, emulated, log_sum_exp,
    logprob,
};

/// One row and how it is drawn from.
#[derive(Debug, Clone)]
struct Row {
    logits: Vec<f32>,
    n_tokens: usize,
    mask: Option<Vec<u64>>,
    banned: Vec<u32>,
    adjustments: Vec<Adjustment>,
    sampler: Sampler,
    random: f64,
    wants_logprob: bool,
}

impl Row {
    fn allowed(&self) -> Allowed<'_> {
        Allowed {
            n_tokens: self.n_tokens,
            mask: self.mask.as_deref(),
            banned: &self.banned,
        }
    }

    fn draw(&self, row_idx: usize) -> Draw<'_> {
        Draw {
            row_idx,
            adjustments: &self.adjustments,
            allowed: self.allowed(),
            sampler: self.sampler,
            random: self.random,
            wants_logprob: self.wants_logprob,
        }
    }

    fn adjusted(&self) -> Vec<f32> {
        let mut row = self.logits.clone();
        self.adjustments.iter().for_each(|a| a.apply(&mut row));
        row
    }

    fn expected(&self) -> Option<u32> {
        choose(&self.adjusted(), self.sampler, self.allowed(), self.random)
    }
}

/// Logits as models have them, in few steps so that many are equal, and as no model should.
fn logits(n_vocab: usize) -> impl Strategy<Value = Vec<f32>> {
    let smooth = proptest::collection::vec(-12.0f32..12.0, n_vocab);
    let stepped = proptest::collection::vec((-9..9i32).prop_map(|step| step as f32 / 4.0), n_vocab);
    let strange = prop_oneof![
        4 => -3.0f32..3.0,
        1 => prop_oneof![Just(f32::NAN), Just(f32::NEG_INFINITY), Just(-0.0), Just(1e-40), -3e38f32..3e38],
    ];
    let strange = proptest::collection::vec(strange, n_vocab);
    let infinite = prop_oneof![Just(f32::NAN), Just(f32::NEG_INFINITY), Just(f32::INFINITY)];
    let infinite = proptest::collection::vec(infinite, n_vocab);
    prop_oneof![6 => smooth, 4 => stepped, 3 => strange, 1 => infinite]
}

/// A mask of most tokens, of few, of one, of none, or none.
fn mask(n_vocab: usize) -> impl Strategy<Value = Option<Vec<u64>>> {
    let n_words = n_vocab.div_ceil(64);
    let most = proptest::collection::vec(any::<u64>(), n_words);
    let few = proptest::collection::vec(
        prop_oneof![3 => Just(0u64), 1 => (0..64u32).prop_map(|bit| 1 << bit)],
        n_words,
    );
    let one = (0..n_vocab).prop_map(move |token| {
        let mut words = vec![0; n_words];
        words[token / 64] = 1 << (token % 64);
        words
    });
    let none = Just(vec![0; n_words]);
    let short = proptest::collection::vec(any::<u64>(), n_words / 2);
    prop_oneof![
        4 => Just(None),
        4 => most.prop_map(Some),
        2 => few.prop_map(Some),
        1 => one.prop_map(Some),
        1 => none.prop_map(Some),
        1 => short.prop_map(Some),
    ]
}

fn sampler(n_vocab: usize) -> impl Strategy<Value = Sampler> {
    let temperature =
        prop_oneof![1 => Just(0.0f32), 1 => Just(1.0), 4 => 0.05f32..3.0, 1 => 1e-30f32..1e-3];
    let top_k = prop_oneof![2 => Just(0usize), 1 => Just(1), 2 => 2..20usize, 1 => 2..=2 * n_vocab];
    let top_p =
        prop_oneof![2 => Just(1.0f32), 3 => 0.01f32..1.0, 1 => Just(0.0), 1 => Just(0.999_999_9)];
    let min_p = prop_oneof![2 => Just(0.0f32), 1 => 1e-4f32..1.0, 1 => Just(1.0)];
    (temperature, top_k, top_p, min_p).prop_map(|(temperature, top_k, top_p, min_p)| Sampler {
        temperature,
        top_k,
        top_p,
        min_p,
    })
}

/// At most one a token, some of them beyond the vocabulary.
fn adjustments(n_vocab: usize) -> impl Strategy<Value = Vec<Adjustment>> {
    let repetition = prop_oneof![Just(1.0f32), 0.5f32..2.0];
    let others = (repetition, -2.0f32..2.0, -4.0f32..4.0);
    let entries =
        proptest::collection::btree_map(0..n_vocab as u32 + 3, others, 0..n_vocab.min(40));
    entries.prop_map(|entries| {
        let adjustment = |(token, (repetition, less, more))| Adjustment {
            token,
            repetition,
            less,
            more,
        };
        entries.into_iter().map(adjustment).collect()
    })
}

fn row(n_vocab: usize) -> impl Strategy<Value = Row> {
    let random = prop_oneof![4 => 0.0f64..1.0, 1 => Just(0.0), 1 => Just(1.0 - f64::EPSILON / 2.0)];
    let n_tokens = prop_oneof![3 => Just(usize::MAX), 1 => 0..=n_vocab];
    let banned = proptest::collection::vec(0..n_vocab as u32 + 3, 0..3);
    let adjustments = prop_oneof![Just(Vec::new()), adjustments(n_vocab)];
    let limits = (mask(n_vocab), n_tokens, banned);
    let how = (sampler(n_vocab), random, any::<bool>());
    (logits(n_vocab), limits, adjustments, how).prop_map(
        |(logits, (mask, n_tokens, banned), adjustments, (sampler, random, wants_logprob))| Row {
            logits,
            n_tokens,
            mask,
            banned,
            adjustments,
            sampler,
            random,
            wants_logprob,
        },
    )
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let n_vocab = prop_oneof![2 => 1..80usize, 3 => 400..1500usize, 1 => Just(4096usize)];
    n_vocab.prop_flat_map(|n_vocab| proptest::collection::vec(row(n_vocab), 1..5))
}

fn check(device: &mut Cuda, rows: &[Row]) {
    let n_vocab = rows[0].logits.len();
    let values: Vec<f32> = rows.iter().flat_map(|row| row.logits.clone()).collect();
    let mut logits = buffer(device, n_vocab, &values);
    // The last row first, and a row that nobody draws from.
    let draws: Vec<Draw<'_>> = rows
        .iter()
        .enumerate()
        .skip(usize::from(rows.len() > 2))
        .map(|(row_idx, row)| row.draw(row_idx))
        .rev()
        .collect();
    let drawn = device.sample(&mut logits, &draws);
    assert_eq!(drawn.len(), draws.len());
    for (draw, drawn) in draws.iter().zip(drawn) {
        let row = &rows[draw.row_idx];
        assert_eq!(drawn.token, row.expected(), "row {}", draw.row_idx);
        match drawn.token.filter(|_| row.wants_logprob) {
            None => assert!(drawn.logprob.is_nan()),
            Some(token) => {
                let (expected, given) = (
                    logprob(row.logits[token as usize], log_sum_exp(&row.logits)),
                    drawn.logprob,
                );
                let largest = row.logits.iter().copied().fold(1.0, f32::max);
                // Two units in the last place of what is subtracted.
                let is_near = (expected - given).abs() <= 2e-6 + 3e-7 * largest.min(f32::MAX);
                assert!(is_near || expected == given, "{given} for {expected}");
            }
        }
    }
    // A NaN is a NaN, of whatever bits.
    let canonical = |row: &[f32]| {
        let numbers = row.iter().map(|x| if x.is_nan() { f32::NAN } else { *x });
        bits(&numbers.collect::<Vec<f32>>())
    };
    let left = device.read(&logits);
    assert_eq!(
        canonical(&left),
        canonical(&values),
        "the rows are left as they were"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn choices_are_those_of_the_scalar_loop(rows in rows(), seed in 0..4u64) {
        let Some(mut device) = emulated(Element::Bf16, seed) else { return Ok(()) };
        check(&mut device, &rows);
    }
}

/// A plain row, for what is changed in it.
fn plain(logits: Vec<f32>) -> Row {
    Row {
        logits,
        n_tokens: usize::MAX,
        mask: None,
        banned: Vec::new(),
        adjustments: Vec::new(),
        sampler: Sampler {
            temperature: 1.0,
            ..Sampler::default()
        },
        random: 0.5,
        wants_logprob: true,
    }
}

/// What the device draws of one row.
fn token_of(device: &mut Cuda, row: &Row) -> Option<u32> {
    let mut logits = buffer(device, row.logits.len(), &row.logits);
    device.sample(&mut logits, &[row.draw(0)])[0].token
}

#[test]
fn what_is_strange_is_as_by_hand() {
    let Some(mut device) = emulated(Element::Bf16, 1) else {
        return;
    };
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    for temperature in [0.0, 1.0] {
        let sampler = Sampler {
            temperature,
            ..Sampler::default()
        };
        let row = |logits: &[f32]| Row {
            sampler,
            ..plain(logits.to_vec())
        };
        let mut token = |logits: &[f32]| token_of(&mut device, &row(logits));
        assert_eq!(token(&[nan, 1.0, nan]), Some(1));
        assert_eq!(token(&[0.0, inf, 5.0]), Some(1));
        assert_eq!(token(&[-inf, -inf, 0.0]), Some(2));
        assert_eq!(token(&[nan, -inf]), Some(0));
        let one = Row {
            mask: Some(vec![4]),
            ..row(&[9.0, 9.0, -inf])
        };
        assert_eq!(token_of(&mut device, &one), Some(2));
        let banned = Row {
            banned: vec![0],
            ..row(&[9.0, -inf])
        };
        assert_eq!(token_of(&mut device, &banned), Some(1));
        let nothing = Row {
            mask: Some(vec![0]),
            ..row(&[1.0, 2.0])
        };
        assert_eq!(token_of(&mut device, &nothing), None);
    }
}

/// Each token is drawn on its own share of [0, 1), in the order of ids.
#[test]
fn shares_are_in_the_order_of_ids() {
    let Some(mut device) = emulated(Element::Bf16, 2) else {
        return;
    };
    // Probabilities of 1, 2, 4 and 1 in 8.
    let row = plain([1.0f32, 2.0, 4.0, 1.0].map(f32::ln).to_vec());
    let shares = [
        (0.06, 0),
        (0.2, 1),
        (0.36, 1),
        (0.4, 2),
        (0.87, 2),
        (0.89, 3),
    ];
    for (random, token) in shares {
        assert_eq!(
            token_of(
                &mut device,
                &Row {
                    random,
                    ..row.clone()
                }
            ),
            Some(token)
        );
    }
    let mut logits = buffer(&mut device, 4, &row.logits);
    let drawn = device.sample(&mut logits, &[row.draw(0)]);
    assert!((drawn[0].logprob - 0.5f32.ln()).abs() < 1e-6);
}

#[test]
#[should_panic(expected = "row 0 is drawn from twice")]
fn a_row_is_drawn_from_once() {
    let Some(mut device) = emulated(Element::Bf16, 0) else {
        panic!("row 0 is drawn from twice");
    };
    let row = plain(vec![1.0, 2.0]);
    let mut logits = buffer(&mut device, 2, &row.logits);
    let _ = device.sample(&mut logits, &[row.draw(0), row.draw(0)]);
}
