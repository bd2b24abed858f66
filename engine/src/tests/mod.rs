//! The engine over a decoder that is nothing but hashes.
//!
//! The fake's KV of a position is a hash of all tokens up to it, read from the page before; its logits are a hash of
//! that. A wrong page, a stale tail or a missing copy therefore changes every logit after it, and an entry at the wrong
//! position panics.

mod constrained;
mod devices;
mod exactness;
mod forcing;
mod order;
mod scoring;
mod threads;
mod trouble;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use lmrun_grammar::Vocabulary;
use lmrun_kernels::{Draw, Drawn};
use lmrun_model::{
    Activation, Architecture, Batch, Config, Decoder, LayerConfig, Logits, ModelError, Pick,
};

use crate::draft::Drafter;
use crate::scheduler::Limits;
use crate::step::Core;
use crate::validate::RequestLimits;
use crate::{Event, Finished, Generate, Request, RequestError, RequestId, Sink, TokenId, Work};

pub(crate) const N_VOCAB: usize = 264;
pub(crate) const END: TokenId = 260;
const CONTEXT_LENGTH: usize = 400;

/// Every byte, a few longer tokens, an end token, a special token; two more rows of logits are padding.
pub(crate) fn vocabulary() -> Arc<Vocabulary> {
    let mut tokens: Vec<Option<Box<[u8]>>> = (0..=255u8).map(|byte| Some([byte].into())).collect();
    for text in ["ab", "bca", "cc", "é"] {
        tokens.push(Some(text.as_bytes().into()));
    }
    tokens.extend([None, None]);
    Arc::new(Vocabulary::new(tokens, vec![END]))
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

fn next_hash(before: u64, token: TokenId) -> u64 {
    mix(before
        .wrapping_mul(31)
        .wrapping_add(u64::from(token) + 0x9E37_79B9))
}

fn logits_of(hash: u64) -> Vec<f32> {
    let logit = |token: usize| {
        let noise = mix(hash ^ (token as u64).wrapping_mul(0x1234_5678_9ABC_DEF1)) % 4096;
        let favour = match token {
            97..=100 => 4.0,
            256..=259 => 3.0,
            260 => 1.5,
            _ => 0.0,
        };
        noise as f32 / 512.0 + favour
    };
    (0..N_VOCAB).map(logit).collect()
}

/// The logits that the fake must give after these tokens.
pub(crate) fn logits_after(tokens: &[TokenId]) -> Vec<f32> {
    logits_of(tokens.iter().fold(0, |hash, &token| next_hash(hash, token)))
}

#[derive(Clone, Copy)]
struct Entry {
    position: usize,
    hash: u64,
}

/// See the module.
pub(crate) struct FakeDecoder {
    config: Config,
    page_size: usize,
    pages: Vec<Vec<Option<Entry>>>,
    n_forwards: usize,
    /// Panics in this forward pass.
    panics_at: Option<usize>,
    /// Fails in this one.
    fails_at: Option<usize>,
    /// The rows that the last forward pass held.
    held: Vec<Option<Vec<f32>>>,
}

/// The fake's configuration.
pub(crate) fn config() -> Config {
    Config {
        name: "fake".into(),
        architecture: Architecture::Llama,
        layers: vec![LayerConfig {
            window: None,
            rope: None,
        }],
        n_heads: 1,
        n_kv_heads: 1,
        head_dim: 2,
        hidden: 2,
        ff: 2,
        n_vocab: N_VOCAB,
        context_length: CONTEXT_LENGTH,
        norm_eps: 1e-5,
        ropes: Vec::new(),
        attention_scale: 1.0,
        score_softcap: None,
        logit_softcap: None,
        embedding_scale: 1.0,
        activation: Activation::Silu,
        norm_offset: 0.0,
        post_norms: false,
        is_fused: false,
        tied_head: true,
        qkv_bias: false,
        output_bias: false,
        qk_norm: false,
    }
}

impl FakeDecoder {
    pub(crate) fn new(n_pages: usize, page_size: usize) -> Self {
        let pages = vec![vec![None; page_size]; n_pages];
        Self {
            config: config(),
            page_size,
            pages,
            n_forwards: 0,
            panics_at: None,
            fails_at: None,
            held: Vec::new(),
        }
    }

    fn entry(&self, pages: &[u32], position: usize) -> Entry {
        let page = pages[position / self.page_size] as usize;
        let entry = self.pages[page][position % self.page_size].expect("KV that was computed");
        assert_eq!(entry.position, position, "KV of another position");
        entry
    }
}

impl Decoder for FakeDecoder {
    fn config(&self) -> &Config {
        &self.config
    }

    fn page_size(&self) -> usize {
        self.page_size
    }

    fn n_pages(&self) -> usize {
        self.pages.len()
    }

    fn forward_picked(
        &mut self,
        batch: &Batch<'_>,
        picks: &[Pick<'_>],
    ) -> Result<Logits, ModelError> {
        self.n_forwards += 1;
        if self.fails_at == Some(self.n_forwards) {
            return Err(ModelError::Batch("as the test wants it".into()));
        }
        let mut written = BTreeSet::new();
        let mut values = Vec::new();
        for (span_idx, span) in batch.spans.iter().enumerate() {
            assert!(!span.tokens.is_empty());
            let mut hash = match span.start {
                0 => 0,
                start => self.entry(span.pages, start - 1).hash,
            };
            for position in 0..span.start {
                let page = span.pages[position / self.page_size];
                let slot = (page, position % self.page_size);
                assert!(
                    !written.contains(&slot),
                    "a span reads what the step writes"
                );
                self.entry(span.pages, position);
            }
            let rows = span.outputs.offsets(span.tokens.len());
            for (offset, &token) in span.tokens.iter().enumerate() {
                let position = span.start + offset;
                let page = span.pages[position / self.page_size];
                let slot = position % self.page_size;
                assert!(written.insert((page, slot)), "two spans write one slot");
                hash = next_hash(hash, token);
                self.pages[page as usize][slot] = Some(Entry { position, hash });
                if rows.contains(&offset) {
                    values.extend(logits_of(hash));
                }
            }
            if self.panics_at == Some(self.n_forwards) && span_idx == 0 {
                panic!("as the test wants it");
            }
        }
        let whole = Logits::new(values, N_VOCAB);
        assert_eq!(whole.n_rows(), picks.len(), "a pick for each row");
        self.held = vec![None; picks.len()];
        let rows: Vec<Vec<f32>> = picks
            .iter()
            .enumerate()
            .map(|(row_idx, pick)| match pick {
                Pick::All => whole.row(row_idx).to_vec(),
                Pick::Held => {
                    self.held[row_idx] = Some(whole.row(row_idx).to_vec());
                    Vec::new()
                }
                Pick::Tokens(tokens) => {
                    let row = whole.row(row_idx);
                    tokens.iter().map(|&token| row[token as usize]).collect()
                }
            })
            .collect();
        Ok(Logits::of_rows(rows.iter().map(Vec::as_slice)))
    }

    fn draw(&mut self, draws: &[Draw<'_>]) -> Vec<Drawn> {
        let drawn = draws.iter().map(|draw| {
            let row = self.held[draw.row_idx].as_mut();
            draw.of(row.expect("a row that was held"))
        });
        drawn.collect()
    }

    fn copy_page(&mut self, from: u32, to: u32, n_tokens: usize) {
        assert_ne!(from, to);
        let (from, to) = (from as usize, to as usize);
        let copied = self.pages[from][..n_tokens].to_vec();
        self.pages[to].fill(None);
        self.pages[to][..n_tokens].copy_from_slice(&copied);
    }
}

/// Takes the longest tokens for the model's own.
pub(crate) fn drafter() -> Drafter {
    let cut = |text: &str| vocabulary().cut(text.as_bytes()).unwrap_or_default();
    Drafter::new(Box::new(cut), vocabulary())
}

/// How a test's engine differs from the usual one.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) n_pages: usize,
    pub(crate) page_size: usize,
    pub(crate) max_batch_tokens: usize,
    pub(crate) max_running: usize,
    pub(crate) prefix_cache: bool,
    pub(crate) forcing: bool,
    pub(crate) panics_at: Option<usize>,
    pub(crate) fails_at: Option<usize>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            n_pages: 400,
            page_size: 16,
            max_batch_tokens: 64,
            max_running: 32,
            prefix_cache: true,
            forcing: true,
            panics_at: None,
            fails_at: None,
        }
    }
}

/// Events of one request.
pub(crate) type Record = Arc<Mutex<Vec<Event>>>;

/// A core without a thread, and what it has told.
pub(crate) struct Bench {
    pub(crate) core: Core,
    limits: RequestLimits,
    records: Vec<Record>,
}

/// A sink that keeps the events and listens to `n_heard` of them.
pub(crate) fn listener(record: &Record, n_heard: usize) -> Sink {
    let record = Arc::clone(record);
    Box::new(move |event| {
        let mut events = record.lock().unwrap();
        events.push(event);
        if events.len() < n_heard {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })
}

impl Bench {
    pub(crate) fn new(setting: Setting) -> Self {
        let mut decoder = FakeDecoder::new(setting.n_pages, setting.page_size);
        (decoder.panics_at, decoder.fails_at) = (setting.panics_at, setting.fails_at);
        Self::over(Box::new(decoder), setting)
    }

    /// A bench over a decoder of the fake's vocabulary.
    pub(crate) fn over(decoder: Box<dyn Decoder>, setting: Setting) -> Self {
        let limits = Limits {
            max_batch_tokens: setting.max_batch_tokens,
            max_running: setting.max_running,
        };
        Self {
            core: Core::new(decoder, limits, setting.prefix_cache),
            limits: RequestLimits {
                context_length: CONTEXT_LENGTH,
                page_size: setting.page_size,
                n_pages: setting.n_pages,
                n_logits: N_VOCAB,
                vocabulary: vocabulary(),
                drafter: setting.forcing.then(|| Arc::new(drafter())),
            },
            records: Vec::new(),
        }
    }

    pub(crate) fn submit(&mut self, request: Request) -> Result<RequestId, RequestError> {
        self.submit_heard(request, usize::MAX)
    }

    /// Like `submit`, with a sink that says `Break` to its event number `n_heard`.
    pub(crate) fn submit_heard(
        &mut self,
        request: Request,
        n_heard: usize,
    ) -> Result<RequestId, RequestError> {
        let prepared = self.limits.prepare(request)?;
        let id = RequestId(self.records.len() as u64);
        let record = Record::default();
        self.core.add(id, prepared, listener(&record, n_heard));
        self.records.push(record);
        Ok(id)
    }

    pub(crate) fn generate(&mut self, prompt: &[TokenId], generate: Generate) -> RequestId {
        self.submit(generation(prompt, generate)).unwrap()
    }

    pub(crate) fn step(&mut self) {
        self.core.step();
        self.core.deliver();
    }

    pub(crate) fn cancel(&mut self, id: RequestId) {
        self.core.cancel(id);
        self.core.deliver();
    }

    /// Steps until nothing is left.
    pub(crate) fn run(&mut self) {
        let mut n_steps = 0;
        while !self.core.is_idle() {
            self.step();
            n_steps += 1;
            assert!(n_steps < 200_000, "the engine hangs");
        }
        self.assert_nothing_leaks();
    }

    pub(crate) fn assert_nothing_leaks(&self) {
        let stats = self.core.stats();
        assert_eq!(stats.n_pages_held, 0, "ended requests hold no pages");
        assert_eq!(
            stats.n_pages_free + stats.n_pages_cached,
            stats.n_pages_total
        );
        assert_eq!((stats.n_running, stats.n_waiting), (0, 0));
        assert_eq!(stats.n_ended, stats.n_requests);
    }

    pub(crate) fn events(&self, id: RequestId) -> Vec<Event> {
        self.records[id.0 as usize].lock().unwrap().clone()
    }

    /// The end of a request that ran to it; checks the order of its events on the way.
    pub(crate) fn finished(&self, id: RequestId) -> Finished {
        let mut events = self.events(id);
        let Some(Event::Finished(finished)) = events.pop() else {
            panic!("{id:?} did not finish: {:?}", self.events(id));
        };
        assert!(
            matches!(events[0], Event::Started { .. }),
            "first it starts"
        );
        let is_token = |event: &Event| matches!(event, Event::Token(_));
        assert!(events[1..].iter().all(is_token), "then its tokens come");
        finished
    }

    /// All text told: the tokens', then what was held back.
    pub(crate) fn text(&self, id: RequestId) -> String {
        let events = self.events(id);
        let texts = events.iter().map(|event| match event {
            Event::Token(token) => token.text.as_str(),
            Event::Finished(finished) => finished.text.as_str(),
            _ => "",
        });
        texts.collect()
    }
}

pub(crate) fn generation(prompt: &[TokenId], generate: Generate) -> Request {
    let work = Work::Generate(Box::new(generate));
    Request {
        prompt: prompt.to_vec(),
        namespace: 0,
        work,
    }
}

pub(crate) fn at_most(n_tokens: usize) -> Generate {
    Generate {
        max_tokens: Some(n_tokens),
        ..Generate::default()
    }
}

/// A prompt of `n_tokens`, the same for the same seed; prompts of one family share their first half.
pub(crate) fn prompt(family: u64, seed: u64, n_tokens: usize) -> Vec<TokenId> {
    let token = |idx: usize| {
        let seed = if idx < n_tokens / 2 {
            family
        } else {
            seed + 1000
        };
        (mix(seed.wrapping_mul(7919) + idx as u64 + 1) % 256) as TokenId
    };
    (0..n_tokens).map(token).collect()
}

/// Greedy generation by the definition: the most probable token after all before it, again and again.
pub(crate) fn greedy_reference(prompt: &[TokenId], n_tokens: usize) -> Vec<TokenId> {
    let mut tokens = prompt.to_vec();
    while tokens.len() < prompt.len() + n_tokens {
        let logits = logits_after(&tokens);
        let n_real = vocabulary().n_tokens();
        let best = (0..n_real)
            .rev()
            .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
            .unwrap();
        if best as TokenId == END {
            break;
        }
        tokens.push(best as TokenId);
    }
    tokens.split_off(prompt.len())
}

/// Log-probabilities by the definition, in f64.
pub(crate) fn reference_logprob(before: &[TokenId], token: TokenId) -> f32 {
    let logits = logits_after(before);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
    (f64::from(logits[token as usize]) - sum.ln()) as f32
}
