//! The operations of [`Device`] as launches of kernels; products are in products.rs, attention is in attention.rs,
//! sampling in sample.rs.
//!
//! Activations stay in f32 and are rounded to elements (bf16 or f16) just before a product. Everything runs on one stream, so
//! an operation's inputs may be reused by the next. A GPU that fails in the middle of an operation makes it panic: the
//! engine fails that step and starts its pages anew.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::attention::{CudaKv, Planned, WHOLE_HEAD_LIMIT};
use super::compile::{ATTENTION, Constants, ROWWISE, SAMPLING, Source, Target, cache_folder};
use super::driver::{Argument, Context, Function, Memory};
use super::library::{Compiler, Driver};
use super::matrix::CudaMatrix;
use super::room::{Kept, Room, must};
use super::sample::Sampling;
use super::{CudaError, Element, probe};
use crate::{
    Activation, AttentionLayer, AttentionSpan, BlockFormat, Device, Draw, Drawn, Grain, Heads,
    KernelError, KvFormat, KvShape, MatrixPart, Norm, RopeLayout, Slot,
};

/// Dynamic shared memory of the wide kernels: two stages of 192 rows of 72 elements.
pub(super) const WIDE_SHARED: usize = 2 * 192 * 72 * 2;
/// The greatest head.
const HEAD_LIMIT: usize = 256;

/// Activations on a GPU: `[n_rows, width]` f32.
pub struct CudaBuffer {
    pub(super) width: usize,
    pub(super) n_rows: usize,
    pub(super) memory: Room,
}

/// A small vector on a GPU.
pub struct CudaVector {
    pub(super) len: usize,
    pub(super) memory: Memory,
}

/// Kernels by name.
pub(super) type Kernels = HashMap<&'static str, Function>;

impl CudaBuffer {
    /// Sets the number of rows; what they hold is unspecified.
    pub(super) fn resize(&mut self, n_rows: usize) -> &Memory {
        self.n_rows = n_rows;
        self.memory.at_least(n_rows * self.width * size_of::<f32>())
    }

    fn n_values(&self) -> usize {
        self.n_rows * self.width
    }
}

/// A GPU.
pub struct Cuda {
    pub(super) context: Arc<Context>,
    compiler: Compiler,
    /// Where cubins are kept.
    cache: Option<PathBuf>,
    architecture: String,
    pub(super) element: Element,
    kv_format: KvFormat,
    /// Of rows and of sampling.
    pub(super) kernels: Kernels,
    /// Of products, by the format of weights.
    pub(super) products: RefCell<HashMap<Option<BlockFormat>, Arc<Kernels>>>,
    /// Inputs of a product as elements.
    pub(super) rounded: Room,
    /// Products on their way to an output: gates and ups that no kernel takes together, and picked rows.
    pub(super) scratch: Room,
    /// Row numbers or positions of the operation at hand.
    pub(super) indices: Room,
    /// Pages and offsets of the slots that were last written to, which all layers of a step share.
    slots: Kept,
    /// The rows that were last selected: those that lead to logits are the same in most decode steps.
    selected: Kept,
    pub(super) planned: Planned,
    pub(super) partial_values: Room,
    pub(super) partial_sums: Room,
    pub(super) sampling: Sampling,
}

impl Cuda {
    /// Opens GPU `ordinal`, from 0, and compiles or finds its kernels.
    ///
    /// # Errors
    /// What is missing, broken or too old.
    pub fn open(ordinal: usize, element: Element) -> Result<Self, CudaError> {
        let (driver, compiler) = (Driver::open()?, Compiler::open()?);
        Self::with(driver, compiler, ordinal, element, cache_folder())
    }

    /// As [`Cuda::open`], with these libraries and cubins kept in this folder.
    pub(super) fn with(
        driver: Driver,
        compiler: Compiler,
        ordinal: usize,
        element: Element,
        cache: Option<PathBuf>,
    ) -> Result<Self, CudaError> {
        let context = Context::open(driver, ordinal)?;
        probe::check(
            context.capability,
            context.driver_number()?,
            compiler.number()?,
        )?;
        let (major, minor) = context.capability;
        // Code for the very chip where one has features of its own (Hopper, Blackwell).
        let suffix = if major >= 9 { "a" } else { "" };
        let mut device = Self {
            architecture: format!("sm_{major}{minor}{suffix}"),
            element,
            kv_format: KvFormat::Plain,
            kernels: Kernels::new(),
            products: RefCell::default(),
            rounded: Room::new(&context),
            scratch: Room::new(&context),
            indices: Room::new(&context),
            slots: Kept::new(&context),
            selected: Kept::new(&context),
            planned: Planned::new(&context),
            partial_values: Room::new(&context),
            partial_sums: Room::new(&context),
            sampling: Sampling::new(&context),
            cache,
            context,
            compiler,
        };
        for source in [ROWWISE, SAMPLING] {
            device
                .kernels
                .extend(device.load(source, Constants::Rows(element))?);
        }
        Ok(device)
    }

    /// This GPU, with pools of keys and values in a format.
    ///
    /// # Errors
    /// If the format is of CPUs only.
    pub fn with_kv_format(self, kv_format: KvFormat) -> Result<Self, KernelError> {
        if kv_format == KvFormat::F32 {
            return Err(KernelError::KvFormat {
                device: "a GPU",
                given: kv_format,
                known: "bf16, f16, int8 and fp8",
            });
        }
        Ok(Self { kv_format, ..self })
    }

    /// Bytes of memory that are free, and in all.
    ///
    /// # Errors
    /// If the driver fails.
    pub fn memory(&self) -> Result<(usize, usize), CudaError> {
        self.context.memory()
    }

    /// A source's kernels with these constants, compiled or found.
    pub(super) fn load(&self, source: Source, constants: Constants) -> Result<Kernels, CudaError> {
        let target = Target {
            architecture: self.architecture.clone(),
            constants,
        };
        let cubin = self
            .compiler
            .cubin_of(source, &target, self.cache.as_deref())?;
        let is_wide =
            matches!(constants, Constants::Heads(head_dim, _) if head_dim > WHOLE_HEAD_LIMIT);
        let is_wanted = |name: &str| name != "attention_whole" || !is_wide;
        let loaded = self.context.load(&cubin, source, is_wanted)?;
        Ok(loaded
            .into_iter()
            .map(|kernel| (kernel.name, kernel))
            .collect())
    }

    /// Runs a kernel of rows or products on blocks of 256 threads.
    pub(super) fn launch(
        &self,
        name: &str,
        grid: [usize; 2],
        n_shared: usize,
        arguments: &[Argument],
    ) {
        self.context
            .launch(&self.kernels[name], grid, 256, n_shared, arguments);
    }

    /// As many blocks of 256 threads as `n_threads` fill.
    pub(super) fn launch_each(&self, name: &str, n_threads: usize, arguments: &[Argument]) {
        self.launch(name, [n_threads.div_ceil(256), 1], 0, arguments);
    }

    /// Runs a kernel that takes every value of `x` with one number.
    fn launch_on_values(&self, name: &str, x: &CudaBuffer, number: f32) {
        let n_values = x.n_values();
        let arguments = [x.memory.held().into(), number.into(), n_values.into()];
        self.launch_each(name, n_values, &arguments);
    }
}

/// A number of bytes that the machine does not have.
fn refused(n_bytes: usize) -> KernelError {
    KernelError::Memory {
        what: "the key-value pool",
        n_bytes,
    }
}

impl Device for Cuda {
    type Buffer = CudaBuffer;
    type Matrix = CudaMatrix;
    type Vector = CudaVector;
    type Kv = CudaKv;

    fn matrix(
        &self,
        n_cols: usize,
        parts: &[MatrixPart<'_>],
        _: Grain,
    ) -> Result<Self::Matrix, KernelError> {
        for part in parts {
            part.check(n_cols)?;
        }
        Ok(self.place_matrix(n_cols, parts)?)
    }

    fn vector(&self, values: &[f32]) -> Self::Vector {
        CudaVector {
            len: values.len(),
            memory: must(self.context.place(values)),
        }
    }

    fn buffer(&self, width: usize) -> Self::Buffer {
        CudaBuffer {
            width,
            n_rows: 0,
            memory: Room::new(&self.context),
        }
    }

    fn kv(&self, shape: KvShape) -> Result<Self::Kv, KernelError> {
        let head_dim = shape.head_dim;
        if head_dim == 0 || !head_dim.is_multiple_of(16) || head_dim > HEAD_LIMIT {
            return Err(CudaError::HeadDim { given: head_dim }.into());
        }
        let KvShape {
            n_layers,
            n_pages,
            page_size,
            n_kv_heads,
            ..
        } = shape;
        let counts = [2, n_layers, n_pages, n_kv_heads, page_size];
        let bytes = |slot_bytes| {
            let n_bytes = counts.into_iter().try_fold(slot_bytes, usize::checked_mul);
            n_bytes.ok_or(refused(usize::MAX))
        };
        let zeroed = |n_bytes| -> Result<Memory, KernelError> {
            let memory = self.context.allocate(n_bytes);
            let memory = memory.map_err(|_| refused(n_bytes))?;
            memory.clear()?;
            Ok(memory)
        };
        let has_codes = self.kv_format.has_scales();
        let n_bytes = bytes(if has_codes { head_dim } else { 2 * head_dim })?;
        let n_scale_bytes = bytes(size_of::<f32>())?;
        let kernels = self.load(ATTENTION, Constants::Heads(head_dim, self.kv_format))?;
        if let Some(whole) = kernels.get("attention_whole") {
            whole.allow_shared(CudaKv::whole_shared(head_dim))?;
        }
        kernels["attention_split"].allow_shared(CudaKv::split_tiles(head_dim).1)?;
        Ok(CudaKv {
            shape,
            memory: zeroed(n_bytes)?,
            scales: has_codes.then(|| zeroed(n_scale_bytes)).transpose()?,
            kernels,
        })
    }

    fn gather(&mut self, table: &Self::Matrix, rows: &[u32], out: &mut Self::Buffer) {
        self.take_rows(table, rows, out);
    }

    fn scale(&mut self, x: &mut Self::Buffer, factor: f32) {
        self.launch_on_values("scale", x, factor);
    }

    fn softcap(&mut self, x: &mut Self::Buffer, cap: f32) {
        self.launch_on_values("softcap", x, cap);
    }

    fn norm_add(&mut self, x: &Self::Buffer, norm: Norm<'_, Self::Vector>, out: &mut Self::Buffer) {
        assert_eq!(x.width, out.width, "widths");
        assert_eq!(x.n_rows, out.n_rows, "rows to add to");
        assert_eq!(norm.weight.len, x.width, "a norm's weight");
        let arguments = [
            x.memory.held().into(),
            (&norm.weight.memory).into(),
            norm.eps.into(),
            x.n_rows.into(),
            x.width.into(),
            out.memory.held().into(),
        ];
        self.launch("norm_add", [x.n_rows.div_ceil(8), 1], 0, &arguments);
    }

    fn head_norm(&mut self, x: &mut Self::Buffer, heads: Heads, weight: &Self::Vector, eps: f32) {
        assert_eq!(weight.len, heads.head_dim, "a norm's weight");
        let arguments = [
            x.memory.held().into(),
            x.width.into(),
            heads.first.into(),
            heads.n_heads.into(),
            heads.head_dim.into(),
            (&weight.memory).into(),
            eps.into(),
            x.n_rows.into(),
        ];
        let n_heads = x.n_rows * heads.n_heads;
        self.launch("head_norm", [n_heads.div_ceil(8), 1], 0, &arguments);
    }

    fn matmul(
        &mut self,
        matrix: &Self::Matrix,
        bias: Option<&Self::Vector>,
        x: &Self::Buffer,
        norm: Option<Norm<'_, Self::Vector>>,
        out: &mut Self::Buffer,
    ) {
        self.store_product(matrix, bias, (x, norm), out);
    }

    fn matmul_picked(
        &mut self,
        matrix: &Self::Matrix,
        x: &Self::Buffer,
        norm: Option<Norm<'_, Self::Vector>>,
        rows: &[&[u32]],
    ) -> Vec<f32> {
        self.picked_product(matrix, (x, norm), rows)
    }

    fn matmul_add(
        &mut self,
        matrix: &Self::Matrix,
        bias: Option<&Self::Vector>,
        x: &Self::Buffer,
        out: &mut Self::Buffer,
    ) {
        self.add_product(matrix, bias, x, out);
    }

    fn gated(
        &mut self,
        matrix: &Self::Matrix,
        activation: Activation,
        x: &Self::Buffer,
        norm: Option<Norm<'_, Self::Vector>>,
        out: &mut Self::Buffer,
    ) {
        self.gated_product(matrix, activation, (x, norm), out);
    }

    fn rope_angles(
        &mut self,
        frequencies: &Self::Vector,
        scale: f32,
        positions: &[u32],
        out: &mut Self::Buffer,
    ) {
        self.indices.put(positions);
        let arguments = [
            (&frequencies.memory).into(),
            scale.into(),
            self.indices.held().into(),
            frequencies.len.into(),
            positions.len().into(),
            out.resize(positions.len()).into(),
        ];
        self.launch_each("rope_angles", positions.len() * frequencies.len, &arguments);
    }

    fn rope(
        &mut self,
        x: &mut Self::Buffer,
        heads: Heads,
        layout: RopeLayout,
        angles: &Self::Buffer,
    ) {
        let n_pairs = angles.width / 2;
        assert!(
            2 * n_pairs <= heads.head_dim && x.n_rows <= angles.n_rows,
            "angles of heads"
        );
        let arguments = [
            x.memory.held().into(),
            x.width.into(),
            heads.first.into(),
            heads.n_heads.into(),
            heads.head_dim.into(),
            angles.memory.held().into(),
            n_pairs.into(),
            usize::from(layout == RopeLayout::Interleaved).into(),
            x.n_rows.into(),
        ];
        self.launch_each("rope", x.n_rows * heads.n_heads * n_pairs, &arguments);
    }

    fn kv_scatter(
        &mut self,
        kv: &mut Self::Kv,
        layer_idx: usize,
        x: &Self::Buffer,
        keys: Heads,
        values: Heads,
        slots: &[Slot],
    ) {
        let shape = kv.shape;
        for slot in slots {
            assert!(
                (slot.offset as usize) < shape.page_size,
                "no slot {}",
                slot.offset
            );
            assert!(
                (slot.page as usize) < shape.n_pages,
                "no page {}",
                slot.page
            );
        }
        let numbers = slots.iter().flat_map(|slot| [slot.page, slot.offset]);
        let held_slots = self.slots.hold(numbers);
        let [layer, scales] = kv.layer(layer_idx);
        let arguments = [
            layer,
            scales,
            shape.page_size.into(),
            shape.n_kv_heads.into(),
            x.memory.held().into(),
            x.width.into(),
            keys.first.into(),
            values.first.into(),
            held_slots.into(),
            slots.len().into(),
        ];
        let n_warps = 2 * slots.len() * shape.n_kv_heads;
        let (kernel, grid) = (&kv.kernels["kv_scatter"], [n_warps.div_ceil(8), 1]);
        self.context.launch(kernel, grid, 256, 0, &arguments);
    }

    fn attention(
        &mut self,
        kv: &Self::Kv,
        layer: AttentionLayer,
        x: &Self::Buffer,
        queries: Heads,
        spans: &[AttentionSpan<'_>],
        out: &mut Self::Buffer,
    ) {
        self.attend(kv, layer, (x, queries), spans, out);
    }

    fn copy_page(&mut self, kv: &mut Self::Kv, from: u32, to: u32, n_tokens: usize) {
        let shape = kv.shape;
        assert!(
            n_tokens <= shape.page_size,
            "{n_tokens} tokens of a page of {}",
            shape.page_size
        );
        let n_pages = shape.n_pages;
        assert!(
            (from.max(to) as usize) < n_pages,
            "pages {from} and {to} of {n_pages}"
        );
        self.copy_slots(kv, from, to, n_tokens);
    }

    fn select_rows(&mut self, x: &Self::Buffer, rows: &[usize], out: &mut Self::Buffer) {
        assert_eq!(x.width, out.width, "widths");
        let arguments = [
            x.memory.held().into(),
            self.selected
                .hold(rows.iter().map(|&row| row as u32))
                .into(),
            x.width.into(),
            out.resize(rows.len()).into(),
        ];
        self.launch("select_rows", [rows.len(), 1], 0, &arguments);
    }

    fn sample(&mut self, logits: &mut Self::Buffer, draws: &[Draw<'_>]) -> Vec<Drawn> {
        self.draw_rows(logits, draws)
    }

    fn write(&mut self, out: &mut Self::Buffer, values: &[f32]) {
        assert!(
            values.len().is_multiple_of(out.width),
            "{} values",
            values.len()
        );
        must(out.resize(values.len() / out.width).upload(values));
    }

    fn read(&mut self, x: &Self::Buffer) -> Vec<f32> {
        must(x.memory.held().download(x.n_values()))
    }
}
