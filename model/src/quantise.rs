//! Plain weights that become blocks while they are loaded.

use std::thread;

use candle_core::quantized::GgmlDType;
use lmrun_kernels::{BlockFormat, quantise_q4_0, quantise_q8_0};

use crate::weights::{RawTensor, Weight, plain};

/// What matrices of plain weights are quantised to. Norms and biases stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantisation {
    /// Blocks of 32 codes of eight bits.
    Q8_0,
    /// Blocks of 32 codes of four bits; embedding and head, which few rows go through and nothing comes after, in Q8_0.
    Q4_0,
}

impl Quantisation {
    /// Its name in ggml.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Quantisation::Q8_0 => "Q8_0",
            Quantisation::Q4_0 => "Q4_0",
        }
    }

    /// What a weight becomes.
    pub(crate) fn format(self, weight: Weight) -> BlockFormat {
        match (self, weight) {
            (Quantisation::Q8_0, _) | (_, Weight::Embedding | Weight::Head) => BlockFormat::Q8_0,
            (Quantisation::Q4_0, _) => BlockFormat::Q4_0,
        }
    }

    /// The blocks of a weight's matrix, rows shared out among threads.
    pub(crate) fn blocks(
        self,
        weight: Weight,
        tensor: &RawTensor<'_>,
        n_threads: usize,
    ) -> Result<Vec<u8>, candle_core::Error> {
        let quantise = match self.format(weight) {
            BlockFormat::Q4_0 => quantise_q4_0,
            _ => quantise_q8_0,
        };
        let n_rows = tensor.shape[0];
        let n_each = n_rows.div_ceil(n_threads).max(1);
        let parts: Vec<_> = thread::scope(|scope| {
            let starts = (0..n_rows).step_by(n_each);
            let threads: Vec<_> = starts
                .map(|start| {
                    let rows = start..n_rows.min(start + n_each);
                    scope.spawn(move || Ok(quantise(&plain(&tensor.rows(rows))?)))
                })
                .collect();
            let parts = threads.into_iter().map(|thread| match thread.join() {
                Ok(part) => part,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            parts.collect::<Result<_, candle_core::Error>>()
        })?;
        Ok(parts.concat())
    }
}

/// Whether a tensor's values are stored one by one.
pub(crate) fn is_plain(dtype: GgmlDType) -> bool {
    matches!(dtype, GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16)
}
