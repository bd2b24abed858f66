//! What a loaded model is, for listings and checks.

use lmrun_model::Config;

use crate::Place;

/// A loaded model in numbers and names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// The checkpoint's own name, else its file or folder name.
    pub name: String,
    /// The family, by its name in GGUF files: `llama`, `gemma3`.
    pub architecture: String,
    /// Decoder layers.
    pub n_layers: usize,
    /// Query heads of a layer.
    pub n_heads: usize,
    /// Key and value heads of a layer.
    pub n_kv_heads: usize,
    /// Elements of the residual stream.
    pub hidden: usize,
    /// Token ids.
    pub n_vocab: usize,
    /// The longest sequence, in tokens.
    pub context_length: usize,
    /// How most weights are stored: `Q4_1`, `BF16`.
    pub weight_type: String,
    /// Weights, embeddings among them, as the shapes imply.
    pub n_parameters: u64,
    /// Tokens that the KV pool holds.
    pub kv_tokens: usize,
    /// Where it computes.
    pub place: Place,
}

impl ModelInfo {
    /// From the checkpoint's configuration.
    pub(crate) fn new(
        config: &Config,
        weight_type: String,
        kv_tokens: usize,
        place: Place,
    ) -> Self {
        Self {
            name: config.name.clone(),
            architecture: config.architecture.name().into(),
            n_layers: config.layers.len(),
            n_heads: config.n_heads,
            n_kv_heads: config.n_kv_heads,
            hidden: config.hidden,
            n_vocab: config.n_vocab,
            context_length: config.context_length,
            weight_type,
            n_parameters: n_parameters(config),
            kv_tokens,
            place,
        }
    }
}

/// Matrices and norms; biases are counted where the configuration has them.
fn n_parameters(config: &Config) -> u64 {
    let (query, key) = (
        config.n_heads * config.head_dim,
        config.n_kv_heads * config.head_dim,
    );
    let attention = config.hidden * (2 * query + 2 * key);
    let biases = usize::from(config.qkv_bias) * (query + 2 * key)
        + usize::from(config.output_bias) * config.hidden;
    let norms = (2 + 2 * usize::from(config.post_norms)) * config.hidden
        + usize::from(config.qk_norm) * 2 * config.head_dim;
    let layer = attention + biases + norms + 3 * config.hidden * config.ff;
    let embedding = config.n_vocab * config.hidden;
    let head = if config.tied_head { 0 } else { embedding };
    (embedding + head + config.layers.len() * layer + config.hidden) as u64
}
