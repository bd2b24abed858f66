//! The oracle of truth: a Llama forward pass in f32, of candle-core's plain tensor operations.
//!
//! It shares nothing with the product but the file: candle reads and dequantises the tensors, and the
//! whole sequence runs at once, without a cache.

use std::fs::File;
use std::path::Path;

use candle_core::quantized::gguf_file::Content;
use candle_core::{D, DType, Device, Result, Tensor};

/// One layer's weights, f32.
struct Layer {
    attention_norm: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    ff_norm: Tensor,
    gate: Tensor,
    up: Tensor,
    down: Tensor,
}

/// A GGUF file of the llama architecture with a tied head, dequantised.
pub struct Oracle {
    n_heads: usize,
    n_kv_heads: usize,
    eps: f64,
    theta: f32,
    embedding: Tensor,
    layers: Vec<Layer>,
    final_norm: Tensor,
}

impl Oracle {
    /// Reads and dequantises the whole file.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path)?;
        let content = Content::read(&mut file)?;
        let mut tensor = |name: &str| -> Result<Tensor> {
            content
                .tensor(&mut file, name, &Device::Cpu)?
                .dequantize(&Device::Cpu)
        };
        let uint = |key: &str| content.metadata[key].to_u32().map(|value| value as usize);
        let float = |key: &str| content.metadata[key].to_f32();
        let layers = (0..uint("llama.block_count")?)
            .map(|layer_idx| {
                let mut weight = |name: &str| tensor(&format!("blk.{layer_idx}.{name}.weight"));
                Ok(Layer {
                    attention_norm: weight("attn_norm")?,
                    query: weight("attn_q")?,
                    key: weight("attn_k")?,
                    value: weight("attn_v")?,
                    output: weight("attn_output")?,
                    ff_norm: weight("ffn_norm")?,
                    gate: weight("ffn_gate")?,
                    up: weight("ffn_up")?,
                    down: weight("ffn_down")?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            n_heads: uint("llama.attention.head_count")?,
            n_kv_heads: uint("llama.attention.head_count_kv")?,
            eps: f64::from(float("llama.attention.layer_norm_rms_epsilon")?),
            theta: float("llama.rope.freq_base")?,
            embedding: tensor("token_embd.weight")?,
            layers,
            final_norm: tensor("output_norm.weight")?,
        })
    }

    /// The logits of every position of `tokens`, `[n_tokens][n_vocab]`.
    pub fn logits(&self, tokens: &[u32]) -> Result<Vec<Vec<f32>>> {
        let n_tokens = tokens.len();
        let mut x = self
            .embedding
            .index_select(&Tensor::new(tokens, &Device::Cpu)?, 0)?;
        let mask = Tensor::tril2(n_tokens, DType::F32, &Device::Cpu)?.log()?;
        for layer in &self.layers {
            let normed = self.norm(&x, &layer.attention_norm)?;
            let queries = self.rotate(&self.heads(&normed, &layer.query, self.n_heads)?)?;
            let keys = self.rotate(&self.heads(&normed, &layer.key, self.n_kv_heads)?)?;
            let values = self.heads(&normed, &layer.value, self.n_kv_heads)?;
            let (keys, values) = (self.repeat(&keys)?, self.repeat(&values)?);
            let scale = 1.0 / (queries.dim(D::Minus1)? as f64).sqrt();
            let scores =
                (queries.matmul(&keys.t()?.contiguous()?)? * scale)?.broadcast_add(&mask)?;
            let weights = scores
                .broadcast_sub(&scores.max_keepdim(D::Minus1)?)?
                .exp()?;
            let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
            let attended = weights.matmul(&values)?.transpose(0, 1)?.flatten_from(1)?;
            x = (x + attended.matmul(&layer.output.t()?)?)?;
            let normed = self.norm(&x, &layer.ff_norm)?;
            let gate = normed.matmul(&layer.gate.t()?)?.silu()?;
            let up = normed.matmul(&layer.up.t()?)?;
            x = (x + (gate * up)?.matmul(&layer.down.t()?)?)?;
        }
        self.norm(&x, &self.final_norm)?
            .matmul(&self.embedding.t()?)?
            .to_vec2()
    }

    fn norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let mean = (x.sqr()?.sum_keepdim(D::Minus1)? / x.dim(D::Minus1)? as f64)?;
        x.broadcast_div(&(mean + self.eps)?.sqrt()?)?
            .broadcast_mul(weight)
    }

    /// `[n_heads, n_tokens, head_dim]`
    fn heads(&self, x: &Tensor, weight: &Tensor, n_heads: usize) -> Result<Tensor> {
        let rows = x.matmul(&weight.t()?)?;
        let (n_tokens, width) = rows.dims2()?;
        rows.reshape((n_tokens, n_heads, width / n_heads))?
            .transpose(0, 1)?
            .contiguous()
    }

    /// Each key head once for every query head that reads it.
    fn repeat(&self, x: &Tensor) -> Result<Tensor> {
        let (n_kv_heads, n_tokens, head_dim) = x.dims3()?;
        let n_times = self.n_heads / n_kv_heads;
        x.unsqueeze(1)?
            .broadcast_as((n_kv_heads, n_times, n_tokens, head_dim))?
            .reshape((self.n_heads, n_tokens, head_dim))
    }

    /// Rotates neighbouring elements, as GGUF files of the llama architecture are permuted for.
    fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        let (n_heads, n_tokens, head_dim) = x.dims3()?;
        let n_pairs = head_dim / 2;
        let frequencies: Vec<f32> = (0..n_pairs)
            .map(|i| self.theta.powf(-(2.0 * i as f32) / head_dim as f32))
            .collect();
        let frequencies = Tensor::from_vec(frequencies, (1, n_pairs), &Device::Cpu)?;
        let positions = Tensor::arange(0u32, n_tokens as u32, &Device::Cpu)?;
        let positions = positions.to_dtype(DType::F32)?.reshape((n_tokens, 1))?;
        let angles = positions.matmul(&frequencies)?;
        let (cosines, sines) = (angles.cos()?.unsqueeze(2)?, angles.sin()?.unsqueeze(2)?);
        let pairs = x.reshape((n_heads, n_tokens, n_pairs, 2))?;
        let (a, b) = (pairs.narrow(3, 0, 1)?, pairs.narrow(3, 1, 1)?);
        let first = (a.broadcast_mul(&cosines)? - b.broadcast_mul(&sines)?)?;
        let second = (a.broadcast_mul(&sines)? + b.broadcast_mul(&cosines)?)?;
        Tensor::cat(&[first, second], 3)?.reshape((n_heads, n_tokens, head_dim))
    }
}
