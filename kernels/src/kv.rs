//! The pool of key and value pages of a CPU device.
//!
//! One allocation holds all layers: `[n_layers, n_pages, n_kv_heads]` pages of a head, each with its keys
//! `[head_dim / 2, n_lanes, 2]` and then its values `[n_pairs, head_dim, 2]`, where `n_lanes` is the page size rounded up
//! to whole vectors and `n_pairs` half of it rounded up. Keys are transposed so that a vector of scores is 16 positions,
//! which needs no horizontal sum; both are in pairs of what is summed over, elements of a key and positions of a value,
//! as the products of two bf16 want them.

use std::marker::PhantomData;

use half::bf16;

use crate::lines::Lines;
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
        // Without branches, so that loops over it become vectors.
        const INFINITY: u32 = 0x7f80_0000;
        let (sign, size) = (value.to_bits() >> 16 & 0x8000, value.to_bits() & !(1 << 31));
        let is_number = size <= INFINITY;
        // Half of what is left off, less what makes a tie even.
        let nearest = (size.min(INFINITY) + 0x7fff + (size >> 16 & 1)) >> 16;
        let saturated = sign | nearest.min(u32::from(bf16::MAX.to_bits()));
        let bits = if is_number { saturated } else { sign | 0x7fc0 };
        let is_denormal = size < f32::MIN_POSITIVE.to_bits();
        bf16::from_bits(if is_denormal { 0 } else { bits as u16 })
    }
}

/// The pool itself.
#[derive(Debug)]
pub struct KvPool<T> {
    pub(crate) shape: KvShape,
    n_elements: usize,
    lines: Lines,
    element: PhantomData<T>,
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

    /// Bytes of one head's keys and values in a page, as elements of type `T`.
    pub(crate) fn head_bytes<T>(&self) -> usize {
        (self.keys_len() + self.values_len()) * size_of::<T>()
    }

    /// Where a head's keys begin in a page; its values follow.
    fn start(&self, layer_idx: usize, page: u32, head_idx: usize) -> usize {
        let page = page as usize;
        assert!(
            page < self.n_pages && layer_idx < self.n_layers,
            "no page {page}"
        );
        let head_idx = (layer_idx * self.n_pages + page) * self.n_kv_heads + head_idx;
        head_idx * (self.keys_len() + self.values_len())
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
        let n_bytes = n_elements.checked_mul(size_of::<T>());
        let n_bytes = n_bytes.ok_or(refused(usize::MAX))?;
        Ok(Self {
            shape,
            n_elements,
            lines: Lines::alone("the key-value pool", n_bytes)?,
            element: PhantomData,
        })
    }

    fn elements(&self) -> &[T] {
        let start = self.lines.bytes().as_ptr().cast();
        // SAFETY: the lines are as many bytes as these elements, aligned to a cache line and zero at first, which is a
        // valid T; only elements are ever written to them.
        unsafe { std::slice::from_raw_parts(start, self.n_elements) }
    }

    fn elements_mut(&mut self) -> &mut [T] {
        let start = self.lines.bytes_mut().as_mut_ptr().cast();
        // SAFETY: as in `elements`, and the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(start, self.n_elements) }
    }

    /// The keys of one head in a page: `[head_dim / 2, n_lanes, 2]`.
    #[inline]
    pub(crate) fn keys(&self, layer_idx: usize, page: u32, head_idx: usize) -> &[T] {
        let start = self.shape.start(layer_idx, page, head_idx);
        &self.elements()[start..][..self.shape.keys_len()]
    }

    /// The values of one head in a page: `[n_pairs, head_dim, 2]`.
    #[inline]
    pub(crate) fn values(&self, layer_idx: usize, page: u32, head_idx: usize) -> &[T] {
        let start = self.shape.start(layer_idx, page, head_idx) + self.shape.keys_len();
        &self.elements()[start..][..self.shape.values_len()]
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
        for slot in slots {
            let offset = slot.offset as usize;
            assert!(offset < shape.page_size, "no slot {offset}");
        }
        let elements = SharedSlice::new(self.elements_mut());
        // Keys and values of heads are units of their own; a few rows are not worth a second thread.
        let n_worthwhile = if slots.len() < 8 { usize::MAX } else { 2 };
        pool.run_split(2 * shape.n_kv_heads, n_worthwhile, |units| {
            for unit in units {
                let (head_idx, is_value) = (unit / 2, unit % 2 == 1);
                let (heads, offset, len) = if is_value {
                    (values, shape.keys_len(), shape.values_len())
                } else {
                    (keys, 0, shape.keys_len())
                };
                for (i, slot) in slots.iter().enumerate() {
                    let head = &x(i)[heads.first + head_idx * heads.head_dim..][..heads.head_dim];
                    let start = shape.start(layer_idx, slot.page, head_idx) + offset;
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
        for (layer_idx, head_idx) in
            (0..shape.n_layers).flat_map(|i| (0..shape.n_kv_heads).map(move |j| (i, j)))
        {
            let source = shape.start(layer_idx, from, head_idx);
            let target = shape.start(layer_idx, to, head_idx);
            let elements = self.elements_mut();
            for (slot, element) in
                (0..n_tokens).flat_map(|i| (0..shape.head_dim).map(move |j| (i, j)))
            {
                let key = shape.key_at(slot, element);
                let value = shape.keys_len() + shape.value_at(slot, element);
                elements[target + key] = elements[source + key];
                elements[target + value] = elements[source + value];
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
    let mut rounded = [T::from_f32(0.0); LANES];
    for (group_idx, group) in head.as_chunks::<LANES>().0.iter().enumerate() {
        for (rounded, value) in rounded.iter_mut().zip(group) {
            *rounded = T::from_f32(*value);
        }
        let first = first + group_idx * LANES / 2 * stride;
        for (i, pair) in rounded.as_chunks::<2>().0.iter().enumerate() {
            let at = first + i * stride;
            target[at] = pair[0];
            target[at + next] = pair[1];
        }
    }
}
