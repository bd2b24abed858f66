//! The pool of key and value pages of a CPU device.
//!
//! One allocation holds all layers: `[n_layers, n_pages, n_kv_heads]` pages of a head, each with its keys
//! `[head_dim / t, n_lanes, t]` and then its values `[n_runs, head_dim, t]`, where `n_lanes` is the page size rounded up
//! to whole vectors, `t` what a product takes together and `n_runs` the page size in such runs. Keys are transposed so that
//! a vector of scores is 16 positions, which needs no horizontal sum. What lies together is what is summed over, elements
//! of a key and positions of a value: pairs of 16 or eight bits, as the products of two bf16 or of two whole numbers want
//! them, and single numbers of f32. Codes of eight bits are followed by `n_lanes` scales of keys and as many of values.

use std::marker::PhantomData;
use std::ops::Range;

use half::bf16;

use crate::cpu::round::LEAST;
use crate::lines::Lines;
use crate::pool::Pool;
use crate::shared::SharedSlice;
use crate::simd::{Kernel, LANES, Simd};
use crate::{Heads, KernelError, Slot};

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

/// Slots that are worth a second thread.
const N_WORTHWHILE: usize = 8;

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvFormat {
    /// As the device computes with them: bf16, and f32 in the reference.
    #[default]
    Plain,
    /// In f32, and computed with in f32. On the CPU.
    F32,
    /// In f16, and computed with in f16: finer than bf16, and up to 65,504. On a GPU.
    F16,
    /// Whole numbers of eight bits, times a scale a head and token.
    Int8,
    /// Floating-point numbers of eight bits (OCP e4m3), times a scale a head and token. On a GPU.
    E4m3,
}

impl KvFormat {
    /// The name it is asked for by, where [`KvFormat::Plain`] is of 16 bits.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            KvFormat::Plain => "bf16",
            KvFormat::F32 => "f32",
            KvFormat::F16 => "f16",
            KvFormat::Int8 => "int8",
            KvFormat::E4m3 => "fp8",
        }
    }

    /// Whether numbers are codes that a scale multiplies.
    #[must_use]
    pub fn has_scales(self) -> bool {
        match self {
            KvFormat::Plain | KvFormat::F32 | KvFormat::F16 => false,
            KvFormat::Int8 | KvFormat::E4m3 => true,
        }
    }

    /// The bytes of a token's key, or value, of one head, where [`KvFormat::Plain`] is of 16 bits.
    #[must_use]
    pub fn head_bytes(self, head_dim: usize) -> usize {
        match self {
            KvFormat::Plain | KvFormat::F16 => 2 * head_dim,
            KvFormat::F32 => size_of::<f32>() * head_dim,
            KvFormat::Int8 | KvFormat::E4m3 => head_dim + size_of::<f32>(),
        }
    }
}

/// A number that keys and values are stored as. The all-zero bit pattern is its zero.
pub trait KvElement: Copy + Send + Sync + 'static {
    /// Elements of a key, or positions of values, that a product takes together: 1 or 2.
    const N_TOGETHER: usize;
    /// Whether a slot's numbers of a head are codes that a scale multiplies.
    const HAS_SCALES: bool = false;

    /// The scale of a head.
    #[must_use]
    fn scale_of(_head: &[f32]) -> f32 {
        1.0
    }

    /// The nearest number, in units of the scale where there is one.
    #[must_use]
    fn round(value: f32, scale: f32) -> Self;

    /// Writes a scale into the elements in whose place it lies.
    fn put_scale(_scale: f32, _target: &mut [Self]) {}
}

impl KvElement for f32 {
    const N_TOGETHER: usize = 1;

    /// Saturates: a position that a query does not see has a weight of zero, and zero times infinity is no number.
    #[inline(always)]
    fn round(value: f32, _: f32) -> Self {
        value.clamp(f32::MIN, f32::MAX)
    }
}

impl KvElement for bf16 {
    const N_TOGETHER: usize = 2;

    /// Saturates, so that no key or value becomes infinite by being stored; what is too small for the products becomes zero.
    #[inline(always)]
    fn round(value: f32, _: f32) -> Self {
        // Without branches, so that loops over it become vectors.
        const INFINITY: u32 = 0x7f80_0000;
        let (sign, size) = (value.to_bits() >> 16 & 0x8000, value.to_bits() & !(1 << 31));
        let is_number = size <= INFINITY;
        // Half of what is left off, less what makes a tie even.
        let nearest = (size.min(INFINITY) + 0x7fff + (size >> 16 & 1)) >> 16;
        let saturated = sign | nearest.min(u32::from(bf16::MAX.to_bits()));
        let bits = if is_number { saturated } else { sign | 0x7fc0 };
        let is_tiny = size < u32::from(LEAST) << 16;
        bf16::from_bits(if is_tiny { 0 } else { bits as u16 })
    }
}

/// A bf16 that units for squares multiply: its products are added in their order (see `squares`), also without one.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Squared(bf16);

impl Squared {
    pub(crate) fn as_bf16(numbers: &[Self]) -> &[bf16] {
        // SAFETY: one is nothing but the other.
        unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), numbers.len()) }
    }
}

impl KvElement for Squared {
    const N_TOGETHER: usize = bf16::N_TOGETHER;

    #[inline(always)]
    fn round(value: f32, scale: f32) -> Self {
        Self(bf16::round(value, scale))
    }
}

/// The greatest code of eight bits.
const GREATEST_CODE: f32 = 127.0;

impl KvElement for i8 {
    const N_TOGETHER: usize = 2;
    const HAS_SCALES: bool = true;

    /// What makes the head's greatest number the greatest code; no number if the head holds one.
    #[inline(always)]
    fn scale_of(head: &[f32]) -> f32 {
        if head.iter().any(|x| x.is_nan()) {
            return f32::NAN;
        }
        let greatest = head
            .iter()
            .fold(0.0f32, |greatest, x| greatest.max(x.abs()));
        greatest.min(f32::MAX) / GREATEST_CODE
    }

    #[inline(always)]
    fn round(value: f32, scale: f32) -> Self {
        let code = (value / scale).round_ties_even();
        // A head of zeros has a scale of zero.
        if scale > 0.0 {
            code.clamp(-GREATEST_CODE, GREATEST_CODE) as i8
        } else {
            0
        }
    }

    fn put_scale(scale: f32, target: &mut [Self]) {
        target.copy_from_slice(&scale.to_ne_bytes().map(u8::cast_signed));
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
    fn values_len<T: KvElement>(&self) -> usize {
        self.head_dim * self.page_size.next_multiple_of(T::N_TOGETHER)
    }

    /// Elements in whose place the scales of one head's keys, or values, of a page lie.
    fn scales_len<T: KvElement>(&self) -> usize {
        scale_len::<T>() * self.n_lanes()
    }

    /// Elements of one head's keys and values in a page, with their scales.
    fn head_len<T: KvElement>(&self) -> usize {
        self.keys_len() + self.values_len::<T>() + 2 * self.scales_len::<T>()
    }

    /// The bytes of these.
    pub(crate) fn head_bytes<T: KvElement>(&self) -> usize {
        self.head_len::<T>() * size_of::<T>()
    }

    /// Where a head's keys begin in a page; its values follow, then the scales of both.
    fn start<T: KvElement>(&self, layer_idx: usize, page: u32, head_idx: usize) -> usize {
        let page = page as usize;
        assert!(
            page < self.n_pages && layer_idx < self.n_layers,
            "no page {page}"
        );
        let head_idx = (layer_idx * self.n_pages + page) * self.n_kv_heads + head_idx;
        head_idx * self.head_len::<T>()
    }

    /// Where an element of a slot's key lies among its head's keys.
    pub(crate) fn key_at<T: KvElement>(&self, slot: usize, element: usize) -> usize {
        let together = T::N_TOGETHER;
        together * (element / together * self.n_lanes() + slot) + element % together
    }

    /// Where an element of a slot's value lies among its head's values.
    pub(crate) fn value_at<T: KvElement>(&self, slot: usize, element: usize) -> usize {
        let together = T::N_TOGETHER;
        together * (slot / together * self.head_dim + element) + slot % together
    }

    /// Elements of the whole pool, or `None` if that is no number.
    fn n_elements<T: KvElement>(&self) -> Option<usize> {
        let lanes = self.page_size.checked_next_multiple_of(LANES)?;
        let values = self.page_size.checked_next_multiple_of(T::N_TOGETHER)?;
        let of_slots = lanes.checked_add(values)?.checked_mul(self.head_dim)?;
        let of_scales = lanes.checked_mul(2 * scale_len::<T>())?;
        [self.n_kv_heads, self.n_layers, self.n_pages]
            .into_iter()
            .try_fold(of_slots.checked_add(of_scales)?, usize::checked_mul)
    }
}

/// Elements in whose place a scale lies.
fn scale_len<T: KvElement>() -> usize {
    if T::HAS_SCALES {
        size_of::<f32>() / size_of::<T>()
    } else {
        0
    }
}

impl<T: KvElement> KvPool<T> {
    /// A zeroed pool. Memory that is never written is never touched.
    ///
    /// # Panics
    /// If there are scales and heads are no multiple of [`LANES`]: they would not be aligned.
    pub(crate) fn new(shape: KvShape) -> Result<Self, KernelError> {
        assert!(!T::HAS_SCALES || shape.head_dim.is_multiple_of(LANES));
        let refused = |n_bytes| KernelError::Memory {
            what: "the key-value pool",
            n_bytes,
        };
        let n_elements = shape.n_elements::<T>().ok_or(refused(usize::MAX))?;
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

    /// The keys of one head in a page: `[head_dim / t, n_lanes, t]`.
    #[inline]
    pub(crate) fn keys(&self, layer_idx: usize, page: u32, head_idx: usize) -> &[T] {
        let start = self.shape.start::<T>(layer_idx, page, head_idx);
        &self.elements()[start..][..self.shape.keys_len()]
    }

    /// The values of one head in a page: `[n_runs, head_dim, t]`.
    #[inline]
    pub(crate) fn values(&self, layer_idx: usize, page: u32, head_idx: usize) -> &[T] {
        let start = self.shape.start::<T>(layer_idx, page, head_idx) + self.shape.keys_len();
        &self.elements()[start..][..self.shape.values_len::<T>()]
    }

    /// The scales of one head's keys and values in a page, `[n_lanes]` each; none where there are no codes.
    #[inline]
    pub(crate) fn scales(&self, layer_idx: usize, page: u32, head_idx: usize) -> [&[f32]; 2] {
        let shape = &self.shape;
        let start = shape.start::<T>(layer_idx, page, head_idx);
        let start = start + shape.keys_len() + shape.values_len::<T>();
        let elements = &self.elements()[start..][..2 * shape.scales_len::<T>()];
        // SAFETY: only the bytes of f32 are written there, and every bit pattern is one.
        let (before, scales, after) = unsafe { elements.align_to::<f32>() };
        // Everything before is multiples of sixteen elements, see `new`.
        debug_assert!(before.is_empty() && after.is_empty());
        scales.split_at(scales.len() / 2).into()
    }

    /// Writes tokens' keys and values, all heads of their rows of activations, `x(i)` for `slots[i]`, with what runs kernels.
    pub(crate) fn put<'x>(
        &mut self,
        pool: &mut Pool,
        layer_idx: usize,
        slots: &[Slot],
        x: impl Fn(usize) -> &'x [f32] + Sync,
        (keys, values): (Heads, Heads),
        run_kernel: impl Fn(PutSlot<'_, T>) + Sync,
    ) {
        let shape = self.shape;
        for slot in slots {
            let offset = slot.offset as usize;
            assert!(offset < shape.page_size, "no slot {offset}");
        }
        let runs = page_runs(slots);
        let elements = SharedSlice::new(self.elements_mut());
        // Where a page comes twice, two threads might write to it.
        let n_worthwhile = if has_duplicates(&runs, slots) {
            usize::MAX
        } else {
            N_WORTHWHILE
        };
        pool.run_own(slots.len(), n_worthwhile, |_, own| {
            let is_own = |run: &&Range<usize>| own.iter().any(|own| own.contains(&run.start));
            for run in runs.iter().filter(is_own) {
                for i in run.clone() {
                    for head_idx in 0..shape.n_kv_heads {
                        let start = shape.start::<T>(layer_idx, slots[i].page, head_idx);
                        // SAFETY: pages are split among the threads, so nobody else has this one.
                        let target =
                            unsafe { elements.part_mut(start..start + shape.head_len::<T>()) };
                        run_kernel(PutSlot {
                            shape,
                            target,
                            slot: slots[i].offset as usize,
                            x: x(i),
                            keys,
                            values,
                            head_idx,
                        });
                    }
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
            let source = shape.start::<T>(layer_idx, from, head_idx);
            let target = shape.start::<T>(layer_idx, to, head_idx);
            let elements = self.elements_mut();
            for (slot, element) in
                (0..n_tokens).flat_map(|i| (0..shape.head_dim).map(move |j| (i, j)))
            {
                let key = shape.key_at::<T>(slot, element);
                let value = shape.keys_len() + shape.value_at::<T>(slot, element);
                elements[target + key] = elements[source + key];
                elements[target + value] = elements[source + value];
            }
            let to_scales = shape.keys_len() + shape.values_len::<T>();
            for first in [to_scales, to_scales + shape.scales_len::<T>()] {
                let scales = source + first..source + first + n_tokens * scale_len::<T>();
                elements.copy_within(scales, target + first);
            }
        }
    }
}

/// Runs of neighbouring slots of one page.
fn page_runs(slots: &[Slot]) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let mut first = 0;
    for run in slots.chunk_by(|a, b| a.page == b.page) {
        runs.push(first..first + run.len());
        first += run.len();
    }
    runs
}

/// Whether two runs are of one page.
fn has_duplicates(runs: &[Range<usize>], slots: &[Slot]) -> bool {
    let mut pages: Vec<u32> = runs.iter().map(|run| slots[run.start].page).collect();
    pages.sort_unstable();
    pages.windows(2).any(|pair| pair[0] == pair[1])
}

/// Writes one slot of one head of a page: key, value and their scales.
pub(crate) struct PutSlot<'a, T> {
    shape: KvShape,
    /// The head's part of the page.
    target: &'a mut [T],
    slot: usize,
    /// The token's row of activations, and its heads.
    x: &'a [f32],
    keys: Heads,
    values: Heads,
    head_idx: usize,
}

impl<T: KvElement> Kernel for PutSlot<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let (shape, slot) = (self.shape, self.slot);
        let lens = [shape.keys_len(), shape.values_len::<T>()];
        let scales_len = shape.scales_len::<T>();
        let (numbers, scales) = self.target.split_at_mut(lens[0] + lens[1]);
        let (key_numbers, value_numbers) = numbers.split_at_mut(lens[0]);
        let (key_scales, value_scales) = scales.split_at_mut(scales_len);
        for (heads, numbers, scales, is_value) in [
            (self.keys, key_numbers, key_scales, false),
            (self.values, value_numbers, value_scales, true),
        ] {
            let head = &self.x[heads.first + self.head_idx * heads.head_dim..][..heads.head_dim];
            let scale = T::scale_of(head);
            for (group_idx, group) in head.as_chunks().0.iter().enumerate() {
                put_group(&shape, numbers, slot, (group_idx, group, scale), is_value);
            }
            let len = scale_len::<T>();
            T::put_scale(scale, &mut scales[len * slot..][..len]);
        }
    }
}

/// Writes sixteen elements of a slot's key or value, see [`KvShape::key_at`] and [`KvShape::value_at`].
#[inline(always)]
fn put_group<T: KvElement>(
    shape: &KvShape,
    target: &mut [T],
    slot: usize,
    (group_idx, group, scale): (usize, &[f32; LANES], f32),
    is_value: bool,
) {
    let together = T::N_TOGETHER;
    let mut rounded = [T::round(0.0, 1.0); LANES];
    for (rounded, value) in rounded.iter_mut().zip(group) {
        *rounded = T::round(*value, scale);
    }
    if is_value {
        let first = slot / together * shape.head_dim + group_idx * LANES;
        let elements = &mut target[together * first..][..together * LANES];
        for (slots, value) in elements.chunks_exact_mut(together).zip(rounded) {
            slots[slot % together] = value;
        }
    } else {
        let n_lanes = shape.n_lanes();
        let lines = &mut target[group_idx * LANES * n_lanes..][..LANES * n_lanes];
        let lines = lines.chunks_exact_mut(together * n_lanes);
        for (line, values) in lines.zip(rounded.chunks_exact(together)) {
            line[together * slot..][..together].copy_from_slice(values);
        }
    }
}
