//! The pool of key and value pages of a CPU device.
//!
//! One allocation holds all layers: `[n_layers, n_pages]` pages, each with its keys
//! `[n_kv_heads, head_dim / 2, n_lanes, 2]` and then its values `[n_kv_heads, n_pairs, head_dim, 2]`, where
//! `n_lanes` is the page size rounded up to whole vectors and `n_pairs` half of it rounded up. Keys are
//! transposed so that a vector of scores is 16 positions, which needs no horizontal sum; both are in
//! pairs of what is summed over, elements of a key and positions of a value, as the products of two
//! bf16 want them.

use std::alloc::{Layout, alloc_zeroed};

use half::bf16;

use crate::pool::Pool;
use crate::shared::SharedSlice;
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

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvFormat {
    /// As the device computes with them, in 16 bits where products are quantised.
    #[default]
    Plain,
    /// Whole numbers of eight bits, times a scale a head and token. On a GPU.
    Int8,
    /// Floating-point numbers of eight bits (OCP e4m3), times a scale a head and token. On a GPU.
    E4m3,
}

impl KvFormat {
    /// The bytes of a token's key, or value, of one head, where [`KvFormat::Plain`] is of 16 bits.
    #[must_use]
    pub fn head_bytes(self, head_dim: usize) -> usize {
        match self {
            KvFormat::Plain => 2 * head_dim,
            KvFormat::Int8 | KvFormat::E4m3 => head_dim + size_of::<f32>(),
        }
    }
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

impl KvElement for bf16 {
    /// Saturates, so that no key or value becomes infinite by being stored; denormals become zero, as in the products.
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        if value.abs() < f32::MIN_POSITIVE {
            return bf16::ZERO;
        }
        let limit = bf16::MAX.to_f32_const();
        bf16::from_f32(value.clamp(-limit, limit))
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

    /// Elements of one head's keys in a page.
    fn keys_len(&self) -> usize {
        self.head_dim * self.n_lanes()
    }

    /// Elements of one head's values in a page.
    fn values_len(&self) -> usize {
        self.head_dim * self.page_size.next_multiple_of(2)
    }

    fn page_len(&self) -> usize {
        self.n_kv_heads * (self.keys_len() + self.values_len())
    }

    /// Where an element of a slot's key lies among its head's keys.
    pub(crate) fn key_at(&self, slot: usize, element: usize) -> usize {
        2 * (element / 2 * self.n_lanes() + slot) + element % 2
    }

    /// Where an element of a slot's value lies among its head's values.
    pub(crate) fn value_at(&self, slot: usize, element: usize) -> usize {
        2 * (slot / 2 * self.head_dim + element) + slot % 2
    }

    /// Elements of the whole pool, or `None` if that is no number.
    fn n_elements(&self) -> Option<usize> {
        let lanes = self
            .page_size
            .checked_next_multiple_of(LANES)?
            .checked_add(self.page_size.checked_next_multiple_of(2)?)?;
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

    /// The keys of one head in a page: `[head_dim / 2, n_lanes, 2]`.
    #[inline]
    pub(crate) fn keys(&self, layer_idx: usize, page: u32, head_idx: usize) -> &[T] {
        let start = self.page_start(layer_idx, page) + self.keys_start(head_idx);
        &self.elements[start..][..self.shape.keys_len()]
    }

    /// The values of one head in a page: `[n_pairs, head_dim, 2]`.
    #[inline]
    pub(crate) fn values(&self, layer_idx: usize, page: u32, head_idx: usize) -> &[T] {
        let start = self.page_start(layer_idx, page) + self.values_start(head_idx);
        &self.elements[start..][..self.shape.values_len()]
    }

    /// Where a head's keys begin in a page.
    fn keys_start(&self, head_idx: usize) -> usize {
        head_idx * self.shape.keys_len()
    }

    /// Where a head's values begin in a page.
    fn values_start(&self, head_idx: usize) -> usize {
        self.shape.n_kv_heads * self.shape.keys_len() + head_idx * self.shape.values_len()
    }

    /// Writes tokens' keys and values, all heads of their rows of activations, `x(i)` for `slots[i]`.
    pub(crate) fn put<'x>(
        &mut self,
        pool: &mut Pool,
        layer_idx: usize,
        slots: &[Slot],
        x: impl Fn(usize) -> &'x [f32] + Sync,
        (keys, values): (Heads, Heads),
    ) {
        let shape = self.shape;
        let starts: Vec<usize> = slots
            .iter()
            .map(|slot| self.page_start(layer_idx, slot.page))
            .collect();
        for slot in slots {
            let offset = slot.offset as usize;
            assert!(offset < shape.page_size, "no slot {offset}");
        }
        let parts: Vec<usize> = (0..shape.n_kv_heads)
            .flat_map(|head_idx| [self.keys_start(head_idx), self.values_start(head_idx)])
            .collect();
        let elements = SharedSlice::new(&mut self.elements);
        // Keys and values of heads are units of their own; a few rows are not worth a second thread.
        let n_worthwhile = if slots.len() < 8 { usize::MAX } else { 2 };
        pool.run_split(parts.len(), n_worthwhile, |units| {
            for unit in units {
                let (head_idx, is_value) = (unit / 2, unit % 2 == 1);
                let (heads, len) = if is_value {
                    (values, shape.values_len())
                } else {
                    (keys, shape.keys_len())
                };
                for (i, slot) in slots.iter().enumerate() {
                    let head = &x(i)[heads.first + head_idx * heads.head_dim..][..heads.head_dim];
                    let start = starts[i] + parts[unit];
                    // SAFETY: units are split among the threads, and each has its own part of every page.
                    let target = unsafe { elements.part_mut(start..start + len) };
                    put_head(&shape, target, slot.offset as usize, head, is_value);
                }
            }
        });
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
            for head_idx in 0..shape.n_kv_heads {
                let (keys, values) = (self.keys_start(head_idx), self.values_start(head_idx));
                for slot in 0..n_tokens {
                    for element in 0..shape.head_dim {
                        for at in [
                            keys + shape.key_at(slot, element),
                            values + shape.value_at(slot, element),
                        ] {
                            self.elements[target + at] = self.elements[source + at];
                        }
                    }
                }
            }
        }
    }
}

/// Writes one slot of one head's keys or values.
fn put_head<T: KvElement>(
    shape: &KvShape,
    target: &mut [T],
    slot: usize,
    head: &[f32],
    is_value: bool,
) {
    // From one pair of elements to the next, and within a pair.
    let (first, stride, next) = if is_value {
        (shape.value_at(slot, 0), 4, 2)
    } else {
        (shape.key_at(slot, 0), 2 * shape.n_lanes(), 1)
    };
    for (i, pair) in head.as_chunks::<2>().0.iter().enumerate() {
        let at = first + i * stride;
        target[at] = T::from_f32(pair[0]);
        target[at + next] = T::from_f32(pair[1]);
    }
}
