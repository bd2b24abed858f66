//! The pool of key and value pages of a CPU device.
//!
//! One allocation holds all layers: `[n_layers, n_pages]` pages, each with its keys
//! `[n_kv_heads, head_dim, n_lanes]` and then its values `[n_kv_heads, page_size, head_dim]`, where
//! `n_lanes` is the page size rounded up to whole vectors. Keys are transposed so that a vector of
//! scores is 16 positions, which needs no horizontal sum.

use std::alloc::{Layout, alloc_zeroed};

use half::f16;

use crate::{Heads, KernelError, Slot};

/// Positions scored by one vector.
pub(crate) const LANES: usize = 16;

/// The extent of a key-value pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvShape {
    /// Decoder layers.
    pub n_layers: usize,
    /// Pages.
    pub n_pages: usize,
    /// Tokens a page holds.
    pub page_size: usize,
    /// Key heads, as many as value heads.
    pub n_kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
}

/// A number that keys and values are stored as. The all-zero bit pattern is its zero.
pub trait KvElement: Copy + Send + Sync + 'static {
    /// The nearest number.
    fn from_f32(value: f32) -> Self;
}

impl KvElement for f32 {
    fn from_f32(value: f32) -> Self {
        value
    }
}

impl KvElement for f16 {
    /// Saturates, so that no key or value becomes infinite by being stored.
    fn from_f32(value: f32) -> Self {
        f16::from_f32(value.clamp(f16::MIN.to_f32_const(), f16::MAX.to_f32_const()))
    }
}

/// The pool itself.
#[derive(Debug)]
pub struct KvPool<T> {
    pub(crate) shape: KvShape,
    elements: Vec<T>,
}

impl KvShape {
    /// Slots of a page's keys: the page size in whole vectors.
    pub(crate) fn n_lanes(&self) -> usize {
        self.page_size.next_multiple_of(LANES)
    }

    fn keys_len(&self) -> usize {
        self.n_kv_heads * self.head_dim * self.n_lanes()
    }

    fn page_len(&self) -> usize {
        self.keys_len() + self.n_kv_heads * self.head_dim * self.page_size
    }

    /// Elements of the whole pool, or `None` if that is no number.
    fn n_elements(&self) -> Option<usize> {
        let lanes = self
            .page_size
            .checked_next_multiple_of(LANES)?
            .checked_add(self.page_size)?;
        [self.n_kv_heads, self.head_dim, self.n_layers, self.n_pages]
            .into_iter()
            .try_fold(lanes, usize::checked_mul)
    }
}

impl<T: KvElement> KvPool<T> {
    /// A zeroed pool. Memory that is never written is never touched.
    pub(crate) fn new(shape: KvShape) -> Result<Self, KernelError> {
        let refused = |n_bytes| KernelError::Memory {
            what: "the key-value pool",
            n_bytes,
        };
        let n_elements = shape.n_elements().ok_or(refused(usize::MAX))?;
        let layout = Layout::array::<T>(n_elements).map_err(|_| refused(usize::MAX))?;
        if layout.size() == 0 {
            return Ok(Self {
                shape,
                elements: Vec::new(),
            });
        }
        // SAFETY: the layout is not empty. `vec!` would abort where this can be refused.
        let start = unsafe { alloc_zeroed(layout) }.cast::<T>();
        if start.is_null() {
            return Err(refused(layout.size()));
        }
        // SAFETY: `start` was allocated by the global allocator with the layout of `n_elements` T,
        // all zero bytes, which is a valid T.
        let elements = unsafe { Vec::from_raw_parts(start, n_elements, n_elements) };
        Ok(Self { shape, elements })
    }

    fn page_start(&self, layer_idx: usize, page: u32) -> usize {
        let page = page as usize;
        assert!(
            page < self.shape.n_pages && layer_idx < self.shape.n_layers,
            "no page {page}"
        );
        (layer_idx * self.shape.n_pages + page) * self.shape.page_len()
    }

    /// The keys of one head in a page: `[head_dim, n_lanes]`.
    #[inline]
    pub(crate) fn keys(&self, layer_idx: usize, page: u32, head_idx: usize) -> &[T] {
        let len = self.shape.head_dim * self.shape.n_lanes();
        &self.elements[self.page_start(layer_idx, page) + head_idx * len..][..len]
    }

    /// The values of one head in a page: `[page_size, head_dim]`.
    #[inline]
    pub(crate) fn values(&self, layer_idx: usize, page: u32, head_idx: usize) -> &[T] {
        let len = self.shape.head_dim * self.shape.page_size;
        let start = self.page_start(layer_idx, page) + self.shape.keys_len() + head_idx * len;
        &self.elements[start..][..len]
    }

    /// Writes one token's keys and values, all heads of a row of activations.
    pub(crate) fn put(
        &mut self,
        layer_idx: usize,
        slot: Slot,
        row: &[f32],
        keys: Heads,
        values: Heads,
    ) {
        let offset = slot.offset as usize;
        assert!(offset < self.shape.page_size, "no slot {offset}");
        let (n_lanes, keys_len) = (self.shape.n_lanes(), self.shape.keys_len());
        let head_len = self.shape.head_dim * self.shape.page_size;
        let start = self.page_start(layer_idx, slot.page);
        let page = &mut self.elements[start..][..self.shape.page_len()];
        for (idx, &value) in row[keys.first..keys.end()].iter().enumerate() {
            page[idx * n_lanes + offset] = T::from_f32(value);
        }
        for (head_idx, head) in row[values.first..values.end()]
            .chunks_exact(values.head_dim)
            .enumerate()
        {
            let at = keys_len + head_idx * head_len + offset * values.head_dim;
            for (stored, &value) in page[at..at + values.head_dim].iter_mut().zip(head) {
                *stored = T::from_f32(value);
            }
        }
    }

    /// Copies the first `n_tokens` slots of a page to another, in all layers.
    pub(crate) fn copy_page(&mut self, from: u32, to: u32, n_tokens: usize) {
        let shape = self.shape;
        assert!(
            n_tokens <= shape.page_size,
            "{n_tokens} tokens of a page of {}",
            shape.page_size
        );
        for layer_idx in 0..shape.n_layers {
            let (source, target) = (
                self.page_start(layer_idx, from),
                self.page_start(layer_idx, to),
            );
            for row in 0..shape.n_kv_heads * shape.head_dim {
                let at = source + row * shape.n_lanes();
                self.elements
                    .copy_within(at..at + n_tokens, target + row * shape.n_lanes());
            }
            let head_len = shape.page_size * shape.head_dim;
            for head_idx in 0..shape.n_kv_heads {
                let at = shape.keys_len() + head_idx * head_len;
                let copied = source + at..source + at + n_tokens * shape.head_dim;
                self.elements.copy_within(copied, target + at);
            }
        }
    }
}
