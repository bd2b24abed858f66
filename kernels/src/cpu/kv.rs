//! A CPU device's pool of keys and values, in the format that was chosen.

use half::bf16;

use super::attention::{self, Inputs};
use super::upcoming::Upcoming;
use super::{Vectors, attention::Scratch};
use crate::buffer::Buffer;
use crate::kv::{KvPool, Squared};
use crate::pool::Pool;
use crate::{AttentionLayer, AttentionSpan, Heads, KernelError, KvFormat, KvShape, Slot};

/// Pages of keys and values of a [`crate::Cpu`].
#[derive(Debug)]
pub struct CpuKv(Pages);

/// The pool, by what it holds.
#[derive(Debug)]
enum Pages {
    Bf16(KvPool<bf16>),
    Squares(KvPool<Squared>),
    F32(KvPool<f32>),
    Codes(KvPool<i8>),
}

/// Does the same with a pool of any numbers.
macro_rules! with_pool {
    ($pages:expr, $pool:ident => $what:expr) => {
        match $pages {
            Pages::Bf16($pool) => $what,
            Pages::Squares($pool) => $what,
            Pages::F32($pool) => $what,
            Pages::Codes($pool) => $what,
        }
    };
}

/// That the CPU keeps keys and values in a format.
pub(super) fn check(format: KvFormat) -> Result<(), KernelError> {
    match format {
        KvFormat::Plain | KvFormat::F32 | KvFormat::Int8 => Ok(()),
        KvFormat::F16 | KvFormat::E4m3 => Err(KernelError::KvFormat {
            device: "the CPU",
            given: format,
            known: "bf16, f32 and int8",
        }),
    }
}

impl CpuKv {
    /// A zeroed pool in a format that [`check`] has passed, for the same vectors as later calls.
    pub(super) fn new(
        vectors: Vectors,
        format: KvFormat,
        shape: KvShape,
    ) -> Result<Self, KernelError> {
        check(format)?;
        Ok(Self(match format {
            KvFormat::Plain if vectors.has_unit() && attention::are_squares(shape) => {
                Pages::Squares(KvPool::new(shape)?)
            }
            KvFormat::Plain => Pages::Bf16(KvPool::new(shape)?),
            KvFormat::F32 => Pages::F32(KvPool::new(shape)?),
            KvFormat::Int8 | KvFormat::F16 | KvFormat::E4m3 => {
                let [head_dim, page_size] = attention::CODES_LIMITS;
                for (what, given, limit) in [
                    ("elements a head", shape.head_dim, head_dim),
                    ("tokens a page", shape.page_size, page_size),
                ] {
                    if given > limit {
                        return Err(KernelError::KvCodes { what, given, limit });
                    }
                }
                Pages::Codes(KvPool::new(shape)?)
            }
        }))
    }

    /// Writes the rows' keys and values to their slots.
    pub(super) fn put(
        &mut self,
        (pool, vectors): (&mut Pool, Vectors),
        layer_idx: usize,
        slots: &[Slot],
        x: &Buffer,
        heads: (Heads, Heads),
    ) {
        let row = |i| x.row(i);
        with_pool!(&mut self.0, kv => {
            kv.put(pool, layer_idx, slots, row, heads, |slot| vectors.run(slot));
        });
    }

    /// Copies the first `n_tokens` slots of a page to another, in all layers.
    pub(super) fn copy_page(&mut self, from: u32, to: u32, n_tokens: usize) {
        with_pool!(&mut self.0, kv => kv.copy_page(from, to, n_tokens));
    }

    /// Attention over the pages; see [`crate::Device::attention`].
    pub(super) fn attend(
        &self,
        (pool, vectors): (&mut Pool, Vectors),
        memory: (&mut Vec<Scratch>, &mut [Upcoming]),
        layer: AttentionLayer,
        (x, queries): (&Buffer, Heads),
        spans: &[AttentionSpan<'_>],
        out: &mut Buffer,
    ) {
        with_pool!(&self.0, kv => {
            let inputs = Inputs {
                kv,
                layer,
                x,
                queries,
                spans,
            };
            attention::attention(pool, vectors, memory, &inputs, out);
        });
    }
}
