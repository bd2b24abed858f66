//! The one decoder: a Llama-shaped transformer on any device.
//!
//! Source: Touvron et al. 2023 (Llama), Ainslie et al. 2023 (grouped queries), the Qwen 2 and 3
//! reports for biases and head norms, the Gemma 2 and 3 reports for windows, caps and norms behind a
//! sublayer. Each family is a set of switches of [`Config`].

use std::cell::RefCell;

use lmrun_kernels::{
    AttentionLayer, AttentionSpan, Device, Draw, Drawn, Grain, Heads, KvShape, Norm, Slot,
};

use crate::config::rope_frequencies;
use crate::weights::{LayerWeight, Listener, Loader, Progress, Source, Weight};
use crate::{Batch, Config, Decoder, DecoderOptions, Logits, ModelError, Pick, Rope, TokenId};

/// One layer's weights.
struct Layer<D: Device> {
    attention_norm: D::Vector,
    /// Queries, keys and values: `[(n_heads + 2 * n_kv_heads) * head_dim, hidden]`.
    qkv: D::Matrix,
    qkv_bias: Option<D::Vector>,
    /// Norms of query and key heads, `[head_dim]` each.
    head_norms: Option<(D::Vector, D::Vector)>,
    output: D::Matrix,
    output_bias: Option<D::Vector>,
    ff_norm: D::Vector,
    /// `[2 * ff, hidden]`.
    gate_up: D::Matrix,
    down: D::Matrix,
    /// Norms of what attention and feed-forward add, `[hidden]` each.
    post_norms: Option<(D::Vector, D::Vector)>,
}

/// One of the configuration's rotations.
struct Rotation<D: Device> {
    /// `[n_rotated / 2]`
    frequencies: D::Vector,
    scale: f32,
    /// Cosines and sines of each token's position, `[n_tokens, n_rotated]`.
    angles: D::Buffer,
}

impl<D: Device> Rotation<D> {
    fn new(device: &D, rope: &Rope) -> Self {
        Self {
            frequencies: device.vector(&rope_frequencies(rope)),
            scale: rope.scale,
            angles: device.buffer(rope.n_rotated),
        }
    }
}

/// Activations that live from one step to the next, so that a step allocates nothing.
struct Buffers<D: Device> {
    /// The residual stream, `[n_tokens, hidden]`.
    x: D::Buffer,
    qkv: D::Buffer,
    attended: D::Buffer,
    activated: D::Buffer,
    /// What is normalised before it is added to the stream, `[n_tokens, hidden]`.
    added: D::Buffer,
    /// The rows of `x` and `attended` that lead to logits.
    last_x: D::Buffer,
    last_attended: D::Buffer,
    /// The rows of `last_x` that one kind of head product is for, where there are two.
    head_x: D::Buffer,
    /// The rows of which all logits are computed.
    logits: D::Buffer,
    /// Those of them that are read, where others are held.
    read_logits: D::Buffer,
}

impl<D: Device> Buffers<D> {
    /// Empty ones.
    fn new(device: &D, config: &Config) -> Self {
        let (n_query, n_kv) = (
            config.query_heads().end(),
            config.n_kv_heads * config.head_dim,
        );
        Self {
            x: device.buffer(config.hidden),
            qkv: device.buffer(n_query + 2 * n_kv),
            attended: device.buffer(n_query),
            activated: device.buffer(config.ff),
            added: device.buffer(config.hidden),
            last_x: device.buffer(config.hidden),
            last_attended: device.buffer(n_query),
            head_x: device.buffer(config.hidden),
            logits: device.buffer(config.n_vocab),
            read_logits: device.buffer(config.n_vocab),
        }
    }
}

/// A decoder on a device.
pub(crate) struct DeviceDecoder<D: Device> {
    device: D,
    config: Config,
    page_size: usize,
    n_pages: usize,
    kv: D::Kv,
    embedding: D::Matrix,
    layers: Vec<Layer<D>>,
    final_norm: D::Vector,
    /// `None`: the embedding is the head.
    head: Option<D::Matrix>,
    rotations: Vec<Rotation<D>>,
    buffers: Buffers<D>,
    /// Where in `buffers.logits` the last forward pass holds each of its rows.
    held: Vec<Option<usize>>,
}

impl Config {
    fn query_heads(&self) -> Heads {
        Heads {
            first: 0,
            n_heads: self.n_heads,
            head_dim: self.head_dim,
        }
    }

    fn key_heads(&self) -> Heads {
        let first = self.query_heads().end();
        Heads {
            first,
            n_heads: self.n_kv_heads,
            head_dim: self.head_dim,
        }
    }

    fn value_heads(&self) -> Heads {
        Heads {
            first: self.key_heads().end(),
            ..self.key_heads()
        }
    }
}

fn load_layer<D: Device>(
    loader: &Loader<'_, D>,
    config: &Config,
    layer_idx: usize,
) -> Result<Layer<D>, ModelError> {
    use LayerWeight as L;
    let Config {
        hidden,
        ff,
        head_dim,
        ..
    } = *config;
    let (n_query, n_kv) = (config.n_heads * head_dim, config.n_kv_heads * head_dim);
    let weight = |weight| Weight::Layer(layer_idx, weight);
    let qkv = [
        (weight(L::Query), n_query),
        (weight(L::Key), n_kv),
        (weight(L::Value), n_kv),
    ];
    let gate_up = [(weight(L::Gate), ff), (weight(L::Up), ff)];
    let several = |fused, parts: &[(Weight, usize)]| {
        if config.is_fused {
            let n_rows: Vec<usize> = parts.iter().map(|(_, n_rows)| *n_rows).collect();
            loader.split_matrix(hidden, weight(fused), &n_rows, Grain::ThirtyTwo)
        } else {
            loader.matrix(hidden, parts, Grain::ThirtyTwo)
        }
    };
    let qkv_bias = [
        (weight(L::QueryBias), n_query),
        (weight(L::KeyBias), n_kv),
        (weight(L::ValueBias), n_kv),
    ];
    let norms = |first, second, len| -> Result<_, ModelError> {
        let first = loader.norm(weight(first), len)?;
        Ok((first, loader.norm(weight(second), len)?))
    };
    let head_norms = || norms(L::QueryNorm, L::KeyNorm, head_dim);
    let post_norms = || norms(L::PostAttentionNorm, L::PostFfNorm, hidden);
    Ok(Layer {
        attention_norm: loader.norm(weight(L::AttentionNorm), hidden)?,
        qkv: several(L::QueryKeyValue, &qkv)?,
        qkv_bias: config
            .qkv_bias
            .then(|| loader.vectors(&qkv_bias))
            .transpose()?,
        head_norms: config.qk_norm.then(head_norms).transpose()?,
        output: loader.matrix(n_query, &[(weight(L::Output), hidden)], Grain::ThirtyTwo)?,
        output_bias: config
            .output_bias
            .then(|| loader.vector(weight(L::OutputBias), hidden))
            .transpose()?,
        ff_norm: loader.norm(weight(L::FfNorm), hidden)?,
        gate_up: several(L::GateUp, &gate_up)?,
        // Its inputs are products: a few large among many small.
        down: loader.matrix(ff, &[(weight(L::Down), hidden)], Grain::Sixteen)?,
        post_norms: config.post_norms.then(post_norms).transpose()?,
    })
}

impl<D: Device> DeviceDecoder<D> {
    /// Loads all weights of a checkpoint, and tells how far it is.
    pub(crate) fn load(
        device: D,
        (source, listener): (&dyn Source, Option<&Listener>),
        config: &Config,
        options: &DecoderOptions,
    ) -> Result<Self, ModelError> {
        let kv_shape = KvShape {
            n_layers: config.layers.len(),
            n_pages: options.n_pages,
            page_size: options.page_size,
            n_kv_heads: config.n_kv_heads,
            head_dim: config.head_dim,
        };
        let kv = device
            .kv(kv_shape)
            .map_err(|error| ModelError::Options(error.to_string()))?;
        let loader = Loader {
            device: &device,
            source,
            options,
            norm_offset: config.norm_offset,
            asked: RefCell::default(),
            progress: Progress::new(source, listener),
        };
        let vocabulary = |weight| [(weight, config.n_vocab)];
        // Nothing comes after the head that could even out its error, and few rows go through it.
        let head = |weight| loader.matrix(config.hidden, &vocabulary(weight), Grain::Whole);
        let embedding = head(Weight::Embedding)?;
        let head = (!config.tied_head)
            .then(|| head(Weight::Head))
            .transpose()?;
        let layers = (0..config.layers.len())
            .map(|layer_idx| load_layer(&loader, config, layer_idx))
            .collect::<Result<_, _>>()?;
        let final_norm = loader.norm(Weight::FinalNorm, config.hidden)?;
        loader.check_all_used()?;
        loader.progress.finish();
        let rotation = |rope| Rotation::new(&device, rope);
        Ok(Self {
            rotations: config.ropes.iter().map(rotation).collect(),
            buffers: Buffers::new(&device, config),
            device,
            config: config.clone(),
            page_size: options.page_size,
            n_pages: options.n_pages,
            kv,
            embedding,
            layers,
            final_norm,
            head,
            held: Vec::new(),
        })
    }

    fn check(&self, batch: &Batch<'_>) -> Result<(), ModelError> {
        for (span_idx, span) in batch.spans.iter().enumerate() {
            let refused = |what: String| Err(ModelError::Batch(format!("span {span_idx}: {what}")));
            let end = span.start.saturating_add(span.tokens.len());
            if end > self.config.context_length {
                let limit = self.config.context_length;
                return refused(format!("{end} tokens, the context holds {limit}"));
            }
            if end.div_ceil(self.page_size) > span.pages.len() {
                let n_pages = span.pages.len();
                return refused(format!(
                    "{end} tokens in {n_pages} pages of {}",
                    self.page_size
                ));
            }
            if let Some(page) = span
                .pages
                .iter()
                .find(|page| **page as usize >= self.n_pages)
            {
                return refused(format!("page {page}, the pool has {}", self.n_pages));
            }
            let n_vocab = self.config.n_vocab;
            if let Some(token) = span.tokens.iter().find(|token| **token as usize >= n_vocab) {
                return refused(format!("token {token}, the vocabulary has {n_vocab}"));
            }
        }
        Ok(())
    }

    /// Runs the layers; `last_x` is then the residual stream of the rows that want logits.
    fn run_layers(&mut self, rows: &Rows<'_>) {
        let n_layers = self.layers.len();
        for layer_idx in 0..n_layers {
            self.attend(layer_idx, rows);
            let (device, buffers) = (&mut self.device, &mut self.buffers);
            let layer = &self.layers[layer_idx];
            let is_last = layer_idx + 1 == n_layers;
            if is_last {
                // Only keys and values of the other rows were still wanted.
                device.select_rows(&buffers.x, &rows.outputs, &mut buffers.last_x);
                device.select_rows(&buffers.attended, &rows.outputs, &mut buffers.last_attended);
            }
            let (x, attended) = if is_last {
                (&mut buffers.last_x, &buffers.last_attended)
            } else {
                (&mut buffers.x, &buffers.attended)
            };
            let (bias, activation) = (layer.output_bias.as_ref(), self.config.activation);
            let norm = |weight| Norm {
                weight,
                eps: self.config.norm_eps,
            };
            let (added, activated) = (&mut buffers.added, &mut buffers.activated);
            if let Some((post_attention, _)) = &layer.post_norms {
                device.matmul(&layer.output, bias, attended, None, added);
                device.norm_add(added, norm(post_attention), x);
            } else {
                device.matmul_add(&layer.output, bias, attended, x);
            }
            let before = Some(norm(&layer.ff_norm));
            device.gated(&layer.gate_up, activation, x, before, activated);
            if let Some((_, post_ff)) = &layer.post_norms {
                device.matmul(&layer.down, None, activated, None, added);
                device.norm_add(added, norm(post_ff), x);
            } else {
                device.matmul_add(&layer.down, None, activated, x);
            }
        }
    }

    /// The picked logits of the rows of `last_x`, those that are held excepted.
    fn logits(&mut self, picks: &[Pick<'_>]) -> Logits {
        // Rows of `last_x` that need all logits, and those among them that are read.
        let (mut whole, mut read) = (Vec::new(), Vec::new());
        let mut picked = Vec::new();
        self.held = vec![None; picks.len()];
        for (row_idx, pick) in picks.iter().enumerate() {
            match pick {
                Pick::All => {
                    read.push(whole.len());
                    whole.push(row_idx);
                }
                Pick::Held => {
                    self.held[row_idx] = Some(whole.len());
                    whole.push(row_idx);
                }
                Pick::Tokens([]) => {}
                Pick::Tokens(tokens) => picked.push((row_idx, *tokens)),
            }
        }
        self.compute_whole(&whole, picks.len());
        let of_whole = self.read_whole(&read, whole.len());
        if read.len() == picks.len() {
            return Logits::new(of_whole, self.config.n_vocab);
        }
        let of_picked = self.compute_picked(picked);
        let (mut of_whole, mut of_picked) = (of_whole.as_slice(), of_picked.as_slice());
        Logits::of_rows(picks.iter().map(|pick| {
            let (source, len) = match pick {
                Pick::All => (&mut of_whole, self.config.n_vocab),
                Pick::Held => (&mut of_whole, 0),
                Pick::Tokens(tokens) => (&mut of_picked, tokens.len()),
            };
            source
                .split_off(..len)
                .expect("a row has what was picked of it")
        }))
    }

    /// All logits of some of the `n_rows` of `last_x`.
    fn compute_whole(&mut self, rows: &[usize], n_rows: usize) {
        if rows.is_empty() {
            return;
        }
        let (device, buffers) = (&mut self.device, &mut self.buffers);
        let x = if rows.len() == n_rows {
            &buffers.last_x
        } else {
            device.select_rows(&buffers.last_x, rows, &mut buffers.head_x);
            &buffers.head_x
        };
        let norm = Norm {
            weight: &self.final_norm,
            eps: self.config.norm_eps,
        };
        let head = self.head.as_ref().unwrap_or(&self.embedding);
        device.matmul(head, None, x, Some(norm), &mut buffers.logits);
        if let Some(cap) = self.config.logit_softcap {
            device.softcap(&mut buffers.logits, cap);
        }
    }

    /// Some of the `n_rows` that [`Self::compute_whole`] has computed.
    fn read_whole(&mut self, rows: &[usize], n_rows: usize) -> Vec<f32> {
        let (device, buffers) = (&mut self.device, &mut self.buffers);
        if rows.is_empty() {
            return Vec::new();
        }
        if rows.len() == n_rows {
            return device.read(&buffers.logits);
        }
        device.select_rows(&buffers.logits, rows, &mut buffers.read_logits);
        device.read(&buffers.read_logits)
    }

    /// Some logits of some rows of `last_x`, one row after another.
    fn compute_picked(&mut self, picked: Vec<(usize, &[TokenId])>) -> Vec<f32> {
        if picked.is_empty() {
            return Vec::new();
        }
        let (rows, tokens): (Vec<usize>, Vec<&[TokenId]>) = picked.into_iter().unzip();
        let (device, buffers) = (&mut self.device, &mut self.buffers);
        let norm = Norm {
            weight: &self.final_norm,
            eps: self.config.norm_eps,
        };
        let head = self.head.as_ref().unwrap_or(&self.embedding);
        device.select_rows(&buffers.last_x, &rows, &mut buffers.head_x);
        let logits = device.matmul_picked(head, &buffers.head_x, Some(norm), &tokens);
        let Some(cap) = self.config.logit_softcap else {
            return logits;
        };
        let mut capped = device.buffer(1);
        device.write(&mut capped, &logits);
        device.softcap(&mut capped, cap);
        device.read(&capped)
    }

    fn check_picks(&self, picks: &[Pick<'_>], n_rows: usize) -> Result<(), ModelError> {
        if picks.len() != n_rows {
            let n_picks = picks.len();
            return Err(ModelError::Batch(format!(
                "{n_picks} picks for {n_rows} rows of logits"
            )));
        }
        let n_vocab = self.config.n_vocab;
        let mut picked = picks.iter().filter_map(|pick| match pick {
            Pick::All | Pick::Held => None,
            Pick::Tokens(tokens) => tokens.last(),
        });
        match picked.find(|token| **token as usize >= n_vocab) {
            None => Ok(()),
            Some(token) => Err(ModelError::Batch(format!(
                "token {token} is picked, the vocabulary has {n_vocab}"
            ))),
        }
    }

    /// A layer's attention up to its output product: fills `attended`.
    fn attend(&mut self, layer_idx: usize, rows: &Rows<'_>) {
        let (config, layer) = (&self.config, &self.layers[layer_idx]);
        let (device, buffers) = (&mut self.device, &mut self.buffers);
        let (queries, keys, values) = (
            config.query_heads(),
            config.key_heads(),
            config.value_heads(),
        );
        let (eps, kind) = (config.norm_eps, &config.layers[layer_idx]);
        let norm = Norm {
            weight: &layer.attention_norm,
            eps,
        };
        let bias = layer.qkv_bias.as_ref();
        device.matmul(&layer.qkv, bias, &buffers.x, Some(norm), &mut buffers.qkv);
        if let Some((query_norm, key_norm)) = &layer.head_norms {
            device.head_norm(&mut buffers.qkv, queries, query_norm, eps);
            device.head_norm(&mut buffers.qkv, keys, key_norm, eps);
        }
        if let Some(rope_idx) = kind.rope {
            let rotated = Heads {
                n_heads: config.n_heads + config.n_kv_heads,
                ..queries
            };
            let (layout, angles) = (
                config.ropes[rope_idx].layout,
                &self.rotations[rope_idx].angles,
            );
            device.rope(&mut buffers.qkv, rotated, layout, angles);
        }
        device.kv_scatter(
            &mut self.kv,
            layer_idx,
            &buffers.qkv,
            keys,
            values,
            &rows.slots,
        );
        let attended = &mut buffers.attended;
        let how = AttentionLayer {
            idx: layer_idx,
            scale: config.attention_scale,
            softcap: config.score_softcap,
            window: kind.window,
        };
        device.attention(&self.kv, how, &buffers.qkv, queries, &rows.spans, attended);
    }
}

/// A batch, row by row.
struct Rows<'a> {
    tokens: Vec<TokenId>,
    positions: Vec<u32>,
    slots: Vec<Slot>,
    spans: Vec<AttentionSpan<'a>>,
    /// Rows that want logits.
    outputs: Vec<usize>,
}

impl<'a> Rows<'a> {
    fn of(batch: &Batch<'a>, page_size: usize) -> Self {
        let n_tokens = batch.spans.iter().map(|span| span.tokens.len()).sum();
        let mut rows = Self {
            tokens: Vec::with_capacity(n_tokens),
            positions: Vec::with_capacity(n_tokens),
            slots: Vec::with_capacity(n_tokens),
            spans: Vec::with_capacity(batch.spans.len()),
            outputs: Vec::new(),
        };
        for span in &batch.spans {
            let first_row = rows.tokens.len();
            let (n_rows, start, pages) = (span.tokens.len(), span.start, span.pages);
            rows.tokens.extend_from_slice(span.tokens);
            for position in start..start + n_rows {
                rows.positions.push(position as u32);
                rows.slots.push(Slot {
                    page: pages[position / page_size],
                    offset: (position % page_size) as u32,
                });
            }
            rows.spans.push(AttentionSpan {
                first_row,
                n_rows,
                start,
                pages,
            });
            rows.outputs.extend(
                span.outputs
                    .offsets(n_rows)
                    .map(|offset| first_row + offset),
            );
        }
        rows
    }
}

impl<D: Device> Decoder for DeviceDecoder<D> {
    fn config(&self) -> &Config {
        &self.config
    }

    fn page_size(&self) -> usize {
        self.page_size
    }

    fn n_pages(&self) -> usize {
        self.n_pages
    }

    fn forward_picked(
        &mut self,
        batch: &Batch<'_>,
        picks: &[Pick<'_>],
    ) -> Result<Logits, ModelError> {
        self.check(batch)?;
        let rows = Rows::of(batch, self.page_size);
        self.check_picks(picks, rows.outputs.len())?;
        if rows.tokens.is_empty() {
            self.held.clear();
            return Ok(Logits::new(Vec::new(), self.config.n_vocab));
        }
        self.device
            .gather(&self.embedding, &rows.tokens, &mut self.buffers.x);
        if self.config.embedding_scale != 1.0 {
            self.device
                .scale(&mut self.buffers.x, self.config.embedding_scale);
        }
        for rotation in &mut self.rotations {
            let (frequencies, angles) = (&rotation.frequencies, &mut rotation.angles);
            self.device
                .rope_angles(frequencies, rotation.scale, &rows.positions, angles);
        }
        self.run_layers(&rows);
        Ok(self.logits(picks))
    }

    fn draw(&mut self, draws: &[Draw<'_>]) -> Vec<Drawn> {
        let draws: Vec<Draw<'_>> = draws
            .iter()
            .map(|draw| Draw {
                row_idx: self.held[draw.row_idx].expect("only held rows are drawn from"),
                ..*draw
            })
            .collect();
        self.device.sample(&mut self.buffers.logits, &draws)
    }

    fn copy_page(&mut self, from: u32, to: u32, n_tokens: usize) {
        self.device.copy_page(&mut self.kv, from, to, n_tokens);
    }
}
