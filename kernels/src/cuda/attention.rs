//! Attention: pages of keys and values, and the launches that read them. The kernels are in attention.cu, what each block
//! does is planned in plan.rs.

use std::sync::Arc;

use super::device::{Cuda, CudaBuffer, Kernels};
use super::driver::{Argument, Context, Memory};
use super::plan::{ITEM_LEN, Plan, PlanShape, TILE_LEN};
use super::room::Room;
use crate::{AttentionLayer, AttentionSpan, Heads, KvShape};

/// Heads up to which attention can be computed whole.
pub(super) const WHOLE_HEAD_LIMIT: usize = 128;
/// Threads of a block of attention.
const N_THREADS: usize = 128;

/// Pages of keys and values on a GPU: `[n_layers, n_pages, 2, n_kv_heads, page_size]` slots of `head_dim` elements or codes,
/// and the attention kernels for them.
pub struct CudaKv {
    pub(super) shape: KvShape,
    pub(super) memory: Memory,
    /// A scale a slot, if slots are of codes.
    pub(super) scales: Option<Memory>,
    pub(super) kernels: Kernels,
}

/// The plan of the last attention and its arrays on the GPU: all layers of a step share them.
pub(super) struct Planned {
    shape: PlanShape,
    spans: Vec<(usize, usize, usize, Vec<u32>)>,
    plan: Plan,
    pages: Room,
    entries: Room,
    whole_items: Room,
    split_items: Room,
    merges: Room,
}

impl Planned {
    pub(super) fn new(context: &Arc<Context>) -> Self {
        let room = || Room::new(context);
        Self {
            shape: PlanShape {
                group_len: 0,
                page_size: 0,
                n_split_tiles: 0,
                has_whole: false,
            },
            spans: Vec::new(),
            plan: Plan::default(),
            pages: room(),
            entries: room(),
            whole_items: room(),
            split_items: room(),
            merges: room(),
        }
    }

    /// Plans these spans, unless they are the last ones again.
    fn update(&mut self, spans: &[AttentionSpan<'_>], shape: PlanShape) {
        let is_same = self.shape == shape
            && self.spans.len() == spans.len()
            && self.spans.iter().zip(spans).all(|(old, new)| {
                (old.0, old.1, old.2, old.3.as_slice())
                    == (new.first_row, new.n_rows, new.start, new.pages)
            });
        if is_same {
            return;
        }
        self.plan = Plan::new(spans, shape);
        // Items of no tiles end at once. With them the grid is that of the next step too, which is then the same segment.
        let n_items = self.plan.split_items.len() / ITEM_LEN;
        if n_items > 0 {
            let n_padded = n_items.next_power_of_two();
            self.plan.split_items.resize(n_padded * ITEM_LEN, 0);
        }
        self.pages.put(&self.plan.pages);
        self.entries.put(&self.plan.entries);
        self.whole_items.put(&self.plan.whole_items);
        self.split_items.put(&self.plan.split_items);
        self.merges.put(&self.plan.merges);
        self.shape = shape;
        let copies = spans.iter().map(|span| {
            let pages = span.pages.to_vec();
            (span.first_row, span.n_rows, span.start, pages)
        });
        self.spans = copies.collect();
    }
}

impl CudaKv {
    /// Slots of a layer.
    fn n_slots(&self) -> usize {
        2 * self.shape.n_pages * self.shape.n_kv_heads * self.shape.page_size
    }

    /// Bytes of a slot, without its scale.
    fn slot_bytes(&self) -> usize {
        match self.scales {
            None => 2 * self.shape.head_dim,
            Some(_) => self.shape.head_dim,
        }
    }

    /// A layer's slots, and their scales.
    pub(super) fn layer(&self, layer_idx: usize) -> [Argument; 2] {
        let first_slot = layer_idx * self.n_slots();
        let at = |memory: &Memory, slot_bytes| memory.address() + (first_slot * slot_bytes) as u64;
        let scales = self.scales.as_ref();
        [
            Argument::Address(at(&self.memory, self.slot_bytes())),
            Argument::Address(scales.map_or(0, |scales| at(scales, size_of::<f32>()))),
        ]
    }

    /// What is copied with a page, each with the halves of a word of a slot and of a layer.
    fn copied(&self) -> impl Iterator<Item = (&Memory, usize, u64)> {
        let scales = self.scales.iter().map(|scales| (scales, size_of::<f32>()));
        let parts = std::iter::once((&self.memory, self.slot_bytes())).chain(scales);
        parts.map(|(memory, slot_bytes)| {
            let slot_len = slot_bytes / size_of::<u16>();
            (memory, slot_len, (slot_len * self.n_slots()) as u64)
        })
    }

    /// Elements from one position to the next in shared memory, of keys and of values: see attention.cu.
    fn strides(head_dim: usize) -> (usize, usize) {
        let n_groups = head_dim.div_ceil(32);
        let apart = if n_groups.is_multiple_of(2) { 32 } else { 0 };
        (32 * n_groups + apart, head_dim + 8)
    }

    /// Tiles, one a warp, of a block of `attention_split`, and the shared memory they take.
    pub(super) fn split_tiles(head_dim: usize) -> (usize, usize) {
        let (key, value) = Self::strides(head_dim);
        let n_tiles = if head_dim <= WHOLE_HEAD_LIMIT { 4 } else { 2 };
        (n_tiles, n_tiles * TILE_LEN * key.max(value) * 2)
    }

    pub(super) fn whole_shared(head_dim: usize) -> usize {
        let (key, value) = Self::strides(head_dim);
        TILE_LEN * (key + value) * 2
    }
}

/// The window as a number that no position reaches where there is none.
fn window_of(layer: AttentionLayer) -> usize {
    let limit = i32::MAX as usize;
    layer.window.map_or(limit, |window| window.min(limit))
}

impl Cuda {
    /// The arguments that both attention kernels begin with.
    fn attention_arguments(
        &self,
        kv: &CudaKv,
        layer: AttentionLayer,
        (x, queries): (&CudaBuffer, Heads),
        items: &Room,
    ) -> Vec<Argument> {
        let shape = kv.shape;
        let log2_e = std::f32::consts::LOG2_E;
        let (scale, softcap) = match layer.softcap {
            None => (layer.scale * log2_e, 0.0),
            Some(cap) => (layer.scale / cap, cap * log2_e),
        };
        let [slots, scales] = kv.layer(layer.idx);
        vec![
            x.memory.held().into(),
            x.width.into(),
            queries.first.into(),
            (queries.n_heads / shape.n_kv_heads).into(),
            slots,
            scales,
            shape.page_size.into(),
            shape.n_kv_heads.into(),
            scale.into(),
            softcap.into(),
            window_of(layer).into(),
            self.planned.pages.held().into(),
            self.planned.entries.held().into(),
            items.held().into(),
        ]
    }

    /// Copies the first `n_tokens` slots of page `from` to page `to`, in all layers.
    pub(super) fn copy_slots(&self, kv: &CudaKv, from: u32, to: u32, n_tokens: usize) {
        let shape = kv.shape;
        for (memory, slot_len, layer_len) in kv.copied() {
            let arguments = [
                memory.into(),
                Argument::Wide(layer_len),
                shape.page_size.into(),
                shape.n_kv_heads.into(),
                slot_len.into(),
                (from as usize).into(),
                (to as usize).into(),
                n_tokens.into(),
            ];
            let n_blocks = shape.n_layers * 2 * shape.n_kv_heads;
            self.launch("copy_page", [n_blocks, 1], 0, &arguments);
        }
    }

    /// Plans the spans, unless the last layer had the same, computes what is whole or split, and merges what is split.
    pub(super) fn attend(
        &mut self,
        kv: &CudaKv,
        layer: AttentionLayer,
        (x, queries): (&CudaBuffer, Heads),
        spans: &[AttentionSpan<'_>],
        out: &mut CudaBuffer,
    ) {
        let (n_kv_heads, head_dim) = (kv.shape.n_kv_heads, kv.shape.head_dim);
        let (n_split_tiles, split_shared) = CudaKv::split_tiles(head_dim);
        let shape = PlanShape {
            group_len: queries.n_heads / n_kv_heads,
            page_size: kv.shape.page_size,
            n_split_tiles,
            has_whole: head_dim <= WHOLE_HEAD_LIMIT,
        };
        self.planned.update(spans, shape);
        let n_values = self.planned.plan.n_partials * queries.n_heads;
        self.partial_values.at_least(4 * n_values * head_dim);
        self.partial_sums.at_least(8 * n_values);
        let to = [out.resize(x.n_rows).into(), out.width.into()];
        let partials = [
            self.partial_values.held().into(),
            self.partial_sums.held().into(),
        ];
        let run =
            |name: &str, items: &Room, n_items: usize, n_shared: usize, last: [Argument; 2]| {
                let mut arguments = self.attention_arguments(kv, layer, (x, queries), items);
                arguments.extend(last);
                let (kernel, grid) = (&kv.kernels[name], [n_items, n_kv_heads]);
                self.context
                    .launch(kernel, grid, N_THREADS, n_shared, &arguments);
            };
        let planned = &self.planned;
        let n_whole = planned.plan.whole_items.len() / ITEM_LEN;
        if n_whole > 0 {
            let n_shared = CudaKv::whole_shared(head_dim);
            run(
                "attention_whole",
                &planned.whole_items,
                n_whole,
                n_shared,
                to,
            );
        }
        let n_split = planned.plan.split_items.len() / ITEM_LEN;
        run(
            "attention_split",
            &planned.split_items,
            n_split,
            split_shared,
            partials,
        );
        let mut arguments = vec![
            planned.merges.held().into(),
            queries.n_heads.into(),
            window_of(layer).into(),
        ];
        arguments.extend([partials, to].concat());
        let grid = [planned.plan.merges.len() / 3, queries.n_heads];
        let kernel = &kv.kernels["attention_merge"];
        self.context.launch(kernel, grid, 256, 0, &arguments);
    }
}
