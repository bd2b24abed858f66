//! A GPU's trial: the first layer of a checkpoint there and on the CPU, before a GPU that nobody asked for is trusted.
//!
//! Kernels are compiled where they run, by a compiler, for a card and under a driver that may never have met before. A
//! prompt longer than a tile of attention and then steps of one token, of which the second can be captured as a graph and
//! the third be one, go through the kernels that the checkpoint's own shapes and formats call for. What is asked is
//! agreement to rounding: it tells a broken kernel, not an inexact one, which is the tests' business.

use std::panic::{AssertUnwindSafe, catch_unwind};

use lmrun_kernels::{Allowed, Cuda, Draw, KvFormat, Sampler};

use crate::checkpoint::{on_cpu, on_gpu};
use crate::weights::{RawTensor, Source, Weight};
use crate::{
    Batch, Checkpoint, Config, Decoder, DecoderOptions, ModelError, Outputs, Pick, Span, TokenId,
};

/// More than the 64 positions of a tile of attention.
const N_PROMPT: usize = 70;
const N_STEPS: usize = 3;
/// How far the logits of a layer may be apart, in percent: root mean square of the differences over that of the CPU's.
/// Activations in eight bits here and in sixteen there, and keys and values in codes, come to a few; what is wrong, to 100.
const LIMIT: f64 = 10.0;

impl Checkpoint {
    /// Runs the first layer on `gpu` and on the CPU.
    ///
    /// # Errors
    /// [`ModelError::Trial`] if they differ or the GPU fails; else as [`Checkpoint::decoder_on_gpu`].
    pub fn try_gpu(&self, gpu: Cuda, options: &DecoderOptions) -> Result<(), ModelError> {
        let mut config = self.config.clone();
        config.layers.truncate(1);
        let excerpt = Excerpt(self.source());
        let options = DecoderOptions {
            n_pages: (N_PROMPT + N_STEPS).div_ceil(options.page_size.max(1)),
            ..*options
        };
        let cpu_options = DecoderOptions {
            kv_format: KvFormat::Plain,
            ..options
        };
        let mut expected = on_cpu((&excerpt, None), &config, &cpu_options)?;
        let on_gpu = || {
            let mut given = on_gpu(gpu, (&excerpt, None), &config, &options)?;
            compare(&mut *expected, &mut *given)
        };
        // A GPU that fails in the middle of an operation panics.
        catch_unwind(AssertUnwindSafe(on_gpu))
            .unwrap_or_else(|_| Err(ModelError::Trial("it failed".into())))
    }
}

/// A checkpoint of which a part is loaded.
struct Excerpt<'a>(&'a dyn Source);

impl Source for Excerpt<'_> {
    fn name(&self, weight: Weight) -> String {
        self.0.name(weight)
    }

    /// None: nothing is missed that is left over.
    fn names(&self) -> Vec<&str> {
        Vec::new()
    }

    fn tensor(&self, name: &str) -> Result<Option<RawTensor<'_>>, ModelError> {
        self.0.tensor(name)
    }

    fn invalid(&self, reason: String) -> ModelError {
        self.0.invalid(reason)
    }

    fn unsupported(&self, what: String) -> ModelError {
        self.0.unsupported(what)
    }
}

/// That two decoders of one configuration give the same logits, to rounding, and that `given` draws from its own as the
/// scalar loop does.
pub(crate) fn compare(
    expected: &mut dyn Decoder,
    given: &mut dyn Decoder,
) -> Result<(), ModelError> {
    let Config {
        n_vocab,
        context_length,
        ..
    } = *given.config();
    let n_tokens = (N_PROMPT + N_STEPS).min(context_length);
    // From all over the vocabulary.
    let token = |idx| (idx * n_vocab / n_tokens) as TokenId;
    let tokens: Vec<TokenId> = (0..n_tokens).map(token).collect();
    let n_prompt = n_tokens.saturating_sub(N_STEPS).max(1);
    let steps = (n_prompt..n_tokens).map(|start| start..start + 1);
    let (mut off, mut size, mut draws_alike) = (0.0, 0.0, true);
    for range in std::iter::once(0..n_prompt).chain(steps) {
        let (tokens, start) = (&tokens[range.clone()], range.start);
        let logits = run(expected, tokens, start, Pick::All)?;
        let mut others = run(given, tokens, start, Pick::All)?;
        for (logit, other) in logits.iter().zip(&others) {
            off += f64::from(logit - other).powi(2);
            size += f64::from(*logit).powi(2);
        }
        // What is written a second time is the same.
        run(given, tokens, start, Pick::Held)?;
        let draw = draw(n_vocab);
        draws_alike &= given.draw(&[draw])[0].token == draw.of(&mut others).token;
    }
    let percent = 100.0 * (off / size).sqrt();
    let failed = |reason: String| Err(ModelError::Trial(reason));
    if percent.is_nan() {
        failed("logits of one layer are not numbers".into())
    } else if percent > LIMIT {
        failed(format!(
            "logits of one layer are {percent:.0} % off the CPU's"
        ))
    } else if draws_alike {
        Ok(())
    } else {
        failed("it draws other tokens than the CPU from the same logits".into())
    }
}

/// Runs tokens of the one sequence that has all pages; the last one's logits.
fn run(
    decoder: &mut dyn Decoder,
    tokens: &[TokenId],
    start: usize,
    pick: Pick<'_>,
) -> Result<Vec<f32>, ModelError> {
    let pages: Vec<u32> = (0..decoder.n_pages() as u32).collect();
    let span = Span {
        tokens,
        start,
        pages: &pages,
        outputs: Outputs::Last,
    };
    let logits = decoder.forward_picked(&Batch { spans: vec![span] }, &[pick])?;
    Ok(logits.row(0).to_vec())
}

/// A choice among some of many, from the first row.
fn draw(n_tokens: usize) -> Draw<'static> {
    Draw {
        row_idx: 0,
        adjustments: &[],
        allowed: Allowed {
            n_tokens,
            mask: None,
            banned: &[],
        },
        sampler: Sampler {
            temperature: 0.8,
            top_p: 0.95,
            ..Sampler::default()
        },
        random: 0.4,
        wants_logprob: false,
    }
}
