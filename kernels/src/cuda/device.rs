//! The operations of [`Device`] as launches of kernels.
//!
//! Activations stay in f32 and are rounded to elements (bf16 or f16) just before a product. Everything runs on one stream, so
//! an operation's inputs may be reused by the next. A GPU that fails in the middle of an operation makes it panic: the
//! engine fails that step and starts its pages anew.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::attention::{CudaKv, Planned, WHOLE_HEAD_LIMIT};
use super::compile::{ATTENTION, MATMUL, ROWWISE, Source, Target, cache_folder};
use super::driver::{Argument, Context, Function, Memory};
use super::library::{Compiler, Driver};
use super::matrix::{CudaMatrix, Stretch};
use super::room::{Room, must};
use super::{CudaError, Element, probe};
use crate::{
    AttentionSpan, Device, Grain, Heads, KernelError, KvShape, MatrixPart, Norm, RopeLayout, Slot,
};

/// Rows of tokens are padded to whole groups: `GROUP_LEN` in matmul.cu.
const GROUP_LEN: usize = 64;
/// Tokens up to which the narrow kernels are used; beyond, a block's 64 tokens are worth a stage in shared memory.
const NARROW_LIMIT: usize = 64;
/// Dynamic shared memory of the wide kernels: two stages of 192 rows of 72 elements.
const WIDE_SHARED: usize = 2 * 192 * 72 * 2;
/// The greatest head.
const HEAD_LIMIT: usize = 256;

/// What a product does with its result: `Mode` in matmul.cu.
#[derive(Clone, Copy)]
enum Mode {
    Store = 0,
    Add = 1,
    Gate = 2,
}

/// Activations on a GPU: `[n_rows, width]` f32.
pub struct CudaBuffer {
    pub(super) width: usize,
    pub(super) n_rows: usize,
    pub(super) memory: Room,
}

/// A small vector on a GPU.
pub struct CudaVector {
    len: usize,
    memory: Memory,
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
    element: Element,
    kernels: Kernels,
    /// Inputs of a product as elements.
    rounded: Room,
    /// Gates and ups that no kernel takes together.
    both: Room,
    /// Row numbers or positions of the operation at hand.
    indices: Room,
    /// The slots that were last written to, which all layers of a step share.
    slots: Vec<u32>,
    slot_room: Room,
    pub(super) planned: Planned,
    pub(super) partial_values: Room,
    pub(super) partial_sums: Room,
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
            kernels: Kernels::new(),
            rounded: Room::new(&context),
            both: Room::new(&context),
            indices: Room::new(&context),
            slots: Vec::new(),
            slot_room: Room::new(&context),
            planned: Planned::new(&context),
            partial_values: Room::new(&context),
            partial_sums: Room::new(&context),
            cache,
            context,
            compiler,
        };
        // The head is of no account outside attention.
        for source in [ROWWISE, MATMUL] {
            device.kernels.extend(device.load(source, 64)?);
        }
        for (name, kernel) in &device.kernels {
            if name.starts_with("wide") {
                kernel.allow_shared(WIDE_SHARED)?;
            }
        }
        Ok(device)
    }

    /// Bytes of memory that are free, and in all.
    ///
    /// # Errors
    /// If the driver fails.
    pub fn memory(&self) -> Result<(usize, usize), CudaError> {
        self.context.memory()
    }

    fn load(&self, source: Source, head_dim: usize) -> Result<Kernels, CudaError> {
        let target = Target {
            architecture: self.architecture.clone(),
            element: self.element,
            head_dim,
        };
        let cubin = self
            .compiler
            .cubin_of(source, &target, self.cache.as_deref())?;
        let is_wanted = |name: &str| name != "attention_whole" || head_dim <= WHOLE_HEAD_LIMIT;
        let loaded = self.context.load(&cubin, source, is_wanted)?;
        Ok(loaded
            .into_iter()
            .map(|kernel| (kernel.name, kernel))
            .collect())
    }

    /// Runs a kernel of rows or products on blocks of 256 threads.
    fn launch(&self, name: &str, grid: [usize; 2], n_shared: usize, arguments: &[Argument]) {
        must(
            self.context
                .launch(&self.kernels[name], grid, 256, n_shared, arguments),
        );
    }

    /// As many blocks of 256 threads as `n_threads` fill.
    fn launch_each(&self, name: &str, n_threads: usize, arguments: &[Argument]) {
        self.launch(name, [n_threads.div_ceil(256), 1], 0, arguments);
    }

    /// Rounds the rows of `x`, normed if asked for, to elements in `self.rounded`; their stride.
    fn round(&mut self, x: &CudaBuffer, norm: Option<&Norm<'_, CudaVector>>) -> usize {
        let stride = x.width.next_multiple_of(GROUP_LEN);
        self.rounded.at_least(x.n_rows * stride * 2);
        let arguments = [
            x.memory.held().into(),
            norm.map(|norm| &norm.weight.memory).into(),
            norm.map_or(0.0, |norm| norm.eps).into(),
            x.n_rows.into(),
            x.width.into(),
            stride.into(),
            self.rounded.held().into(),
        ];
        self.launch("round_rows", [x.n_rows.div_ceil(8), 1], 0, &arguments);
        stride
    }

    /// A product with the tokens in `self.rounded`, stretch by stretch.
    fn multiply(
        &self,
        matrix: &CudaMatrix,
        (stride, n_tokens): (usize, usize),
        (mode, bias): (Mode, Option<&CudaVector>),
        (out, out_width): (&Memory, usize),
    ) {
        for stretch in &matrix.stretches {
            let is_gate = matches!(mode, Mode::Gate);
            let n_rows = if is_gate {
                stretch.n_rows / 2
            } else {
                stretch.n_rows
            };
            let after = |memory: &Memory| memory.address() + 4 * stretch.first as u64;
            let arguments = [
                (&stretch.codes).into(),
                stretch.scales.as_ref().into(),
                stretch.minimums.as_ref().into(),
                n_rows.into(),
                matrix.n_cols.into(),
                self.rounded.held().into(),
                stride.into(),
                n_tokens.into(),
                (mode as usize).into(),
                Argument::Address(bias.map_or(0, |bias| after(&bias.memory))),
                Argument::Address(after(out)),
                out_width.into(),
            ];
            let n_tiles = n_rows.div_ceil(if is_gate { 8 } else { 16 });
            let (kind, grid, n_shared) = match n_tokens {
                0..=8 => ("narrow_8", [n_tiles, 1], 0),
                9..=NARROW_LIMIT => ("narrow_32", [n_tiles, n_tokens.div_ceil(32)], 0),
                _ => (
                    "wide",
                    [n_tiles.div_ceil(8), n_tokens.div_ceil(64)],
                    WIDE_SHARED,
                ),
            };
            let name = format!("{kind}_{}", stretch.format.name());
            self.launch(&name, grid, n_shared, &arguments);
        }
    }

    /// Rows of weights that all lie in one stretch.
    fn gather_from(&mut self, stretch: &Stretch, n_cols: usize, rows: &[u32], out: u64) {
        self.indices.put(rows);
        let arguments = [
            (&stretch.codes).into(),
            stretch.scales.as_ref().into(),
            stretch.minimums.as_ref().into(),
            stretch.n_rows.into(),
            n_cols.into(),
            self.indices.held().into(),
            Argument::Address(out),
        ];
        let kernel = &self.kernels[format!("gather_{}", stretch.format.name()).as_str()];
        must(
            self.context
                .launch(kernel, [rows.len(), 1], 128, 0, &arguments),
        );
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
        Ok(CudaMatrix::place(
            &self.context,
            n_cols,
            parts,
            self.element,
        )?)
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
        let n_elements = [
            2,
            shape.n_pages,
            shape.n_kv_heads,
            shape.page_size,
            head_dim,
            shape.n_layers,
        ];
        let n_bytes = n_elements.into_iter().try_fold(2, usize::checked_mul);
        let n_bytes = n_bytes.ok_or(refused(usize::MAX))?;
        let kernels = self.load(ATTENTION, head_dim)?;
        if let Some(whole) = kernels.get("attention_whole") {
            whole.allow_shared(CudaKv::whole_shared(head_dim))?;
        }
        kernels["attention_split"].allow_shared(CudaKv::split_tiles(head_dim).1)?;
        let memory = self
            .context
            .allocate(n_bytes)
            .map_err(|_| refused(n_bytes))?;
        memory.clear()?;
        Ok(CudaKv {
            shape,
            memory,
            kernels,
        })
    }

    fn gather(&mut self, table: &Self::Matrix, rows: &[u32], out: &mut Self::Buffer) {
        let start = out.resize(rows.len()).address();
        let stretch_of = |row: u32| {
            let after = table
                .stretches
                .partition_point(|stretch| stretch.first <= row as usize);
            after.checked_sub(1).expect("a stretch begins at 0")
        };
        let mut first = 0;
        for run in rows.chunk_by(|a, b| stretch_of(*a) == stretch_of(*b)) {
            let stretch = &table.stretches[stretch_of(run[0])];
            let within: Vec<u32> = run.iter().map(|row| row - stretch.first as u32).collect();
            let at = start + (first * out.width * size_of::<f32>()) as u64;
            self.gather_from(stretch, table.n_cols, &within, at);
            first += run.len();
        }
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
        assert_eq!(x.width, matrix.n_cols, "inputs of a matrix");
        assert_eq!(out.width, matrix.n_rows, "outputs of a matrix");
        let stride = self.round(x, norm.as_ref());
        let width = out.width;
        let out = out.resize(x.n_rows);
        self.multiply(
            matrix,
            (stride, x.n_rows),
            (Mode::Store, bias),
            (out, width),
        );
    }

    fn matmul_add(
        &mut self,
        matrix: &Self::Matrix,
        bias: Option<&Self::Vector>,
        x: &Self::Buffer,
        out: &mut Self::Buffer,
    ) {
        assert_eq!(x.width, matrix.n_cols, "inputs of a matrix");
        assert_eq!(x.n_rows, out.n_rows, "rows to add to");
        let stride = self.round(x, None);
        let out = (out.memory.held(), out.width);
        self.multiply(matrix, (stride, x.n_rows), (Mode::Add, bias), out);
    }

    fn gated(
        &mut self,
        matrix: &Self::Matrix,
        x: &Self::Buffer,
        norm: Option<Norm<'_, Self::Vector>>,
        out: &mut Self::Buffer,
    ) {
        assert_eq!(x.width, matrix.n_cols, "inputs of a matrix");
        let stride = self.round(x, norm.as_ref());
        let (width, n_rows) = (out.width, x.n_rows);
        let out = out.resize(n_rows);
        if matrix.is_gate_and_up {
            return self.multiply(matrix, (stride, n_rows), (Mode::Gate, None), (out, width));
        }
        self.both.at_least(n_rows * 2 * width * size_of::<f32>());
        let both = (self.both.held(), 2 * width);
        self.multiply(matrix, (stride, n_rows), (Mode::Store, None), both);
        let arguments = [both.0.into(), width.into(), n_rows.into(), out.into()];
        self.launch_each("silu_mul", n_rows * width, &arguments);
    }

    fn rope_angles(
        &mut self,
        frequencies: &Self::Vector,
        positions: &[u32],
        out: &mut Self::Buffer,
    ) {
        self.indices.put(positions);
        let arguments = [
            (&frequencies.memory).into(),
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
        let arguments = [
            x.memory.held().into(),
            x.width.into(),
            heads.first.into(),
            heads.n_heads.into(),
            heads.head_dim.into(),
            angles.memory.held().into(),
            usize::from(layout == RopeLayout::Interleaved).into(),
            x.n_rows.into(),
        ];
        let n_pairs = x.n_rows * heads.n_heads * heads.head_dim / 2;
        self.launch_each("rope", n_pairs, &arguments);
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
        let numbers = || slots.iter().flat_map(|slot| [slot.page, slot.offset]);
        if !self.slots.iter().copied().eq(numbers()) {
            self.slots = numbers().collect();
            self.slot_room.put(&self.slots);
        }
        let arguments = [
            kv.layer(layer_idx),
            shape.page_size.into(),
            shape.n_kv_heads.into(),
            shape.head_dim.into(),
            x.memory.held().into(),
            x.width.into(),
            keys.first.into(),
            values.first.into(),
            self.slot_room.held().into(),
            slots.len().into(),
        ];
        let n_elements = slots.len() * shape.n_kv_heads * shape.head_dim;
        self.launch_each("kv_scatter", n_elements, &arguments);
    }

    fn attention(
        &mut self,
        kv: &Self::Kv,
        layer_idx: usize,
        x: &Self::Buffer,
        queries: Heads,
        spans: &[AttentionSpan<'_>],
        out: &mut Self::Buffer,
    ) {
        self.attend(kv, layer_idx, (x, queries), spans, out);
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
        let arguments = [
            kv.layer(0),
            Argument::Wide(kv.layer_len() as u64),
            shape.page_size.into(),
            shape.n_kv_heads.into(),
            shape.head_dim.into(),
            (from as usize).into(),
            (to as usize).into(),
            n_tokens.into(),
        ];
        let n_blocks = shape.n_layers * 2 * shape.n_kv_heads;
        self.launch("copy_page", [n_blocks, 1], 0, &arguments);
    }

    fn select_rows(&mut self, x: &Self::Buffer, rows: &[usize], out: &mut Self::Buffer) {
        assert_eq!(x.width, out.width, "widths");
        let rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        self.indices.put(&rows);
        let arguments = [
            x.memory.held().into(),
            self.indices.held().into(),
            x.width.into(),
            out.resize(rows.len()).into(),
        ];
        self.launch("select_rows", [rows.len(), 1], 0, &arguments);
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
