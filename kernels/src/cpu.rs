//! The fast CPU device: weights as files have them (of four bits, and a head's of eight, whole with AMX), activations in int8, sixteen bits, bf16 or f32, keys and values in bf16, f32 or int8.

mod attention;
mod elementwise;
mod kv;
mod matmul;
mod matrix;
mod quantise;
pub(crate) mod round;
mod upcoming;

use std::cell::RefCell;

use crate::buffer::Buffer;
use crate::lines::Arena;
use crate::pool::Pool;
#[cfg(target_arch = "aarch64")]
use crate::simd::neon::{Mixed, Neon, Signed, Widened};
use crate::simd::{Kernel, Portable, Simd};
#[cfg(target_arch = "x86_64")]
use crate::simd::{
    avx2::{Avx2, Maddubs, Vnni},
    avx512::Avx512,
};
#[cfg(any(test, all(target_arch = "x86_64", target_os = "linux")))]
use crate::squares::WithUnit;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use crate::squares::amx::Amx;
#[cfg(test)]
use crate::squares::scalar::Scalar;
use crate::squares::{SetUp, UnitKernel};
use crate::{
    Activation, AttentionLayer, AttentionSpan, Device, Draw, Drawn, Grain, Heads, KernelError,
    KvFormat, KvShape, MatrixPart, Norm, RopeLayout, Slot,
};
pub use kv::CpuKv;
use matmul::{Prepared, Product, Then};
pub use matrix::Matrix;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) use matrix::whole::nibbles::SHIFT;
#[cfg(test)]
pub(crate) use matrix::whole::nibbles::whole;
use upcoming::Upcoming;

/// The instructions that a [`Cpu`] computes with. All give the same bits, but for [`Tier::Amx`]: it has other weights of four bits, and of eight in
/// a head, and adds in another order in attention. The order is one of each architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Any machine.
    Portable,
    /// AArch64.
    Neon,
    /// AArch64 with FEAT_DotProd.
    NeonDotProd,
    /// AArch64 with FEAT_I8MM.
    NeonI8mm,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// The same with AVX-VNNI.
    AvxVnni,
    /// x86-64 with AVX-512 and VNNI.
    Avx512,
    /// The same with AMX for bf16 and bytes, on Linux.
    Amx,
}

/// A tier that the machine is known to have.
#[derive(Clone, Copy)]
enum Vectors {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2<Maddubs>),
    #[cfg(target_arch = "x86_64")]
    AvxVnni(Avx2<Vnni>),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx(Avx512, Amx),
    /// What AMX does, on any machine.
    #[cfg(test)]
    Scalar(Portable, Scalar),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon<Widened>),
    #[cfg(target_arch = "aarch64")]
    NeonDotProd(Neon<Signed>),
    #[cfg(target_arch = "aarch64")]
    NeonI8mm(Neon<Mixed>),
}

impl Vectors {
    /// The best tier of this machine that is no better than `limit`.
    fn detect(limit: Tier) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(tier) = Avx512::detect().filter(|_| limit >= Tier::Avx512) {
                #[cfg(target_os = "linux")]
                if let Some(unit) = Amx::detect().filter(|_| limit >= Tier::Amx) {
                    return Vectors::Amx(tier, unit);
                }
                return Vectors::Avx512(tier);
            }
            if let Some(tier) = Avx2::<Vnni>::detect().filter(|_| limit >= Tier::AvxVnni) {
                return Vectors::AvxVnni(tier);
            }
            if let Some(tier) = Avx2::<Maddubs>::detect().filter(|_| limit >= Tier::Avx2) {
                return Vectors::Avx2(tier);
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            if let Some(tier) = Neon::<Mixed>::detect().filter(|_| limit >= Tier::NeonI8mm) {
                return Vectors::NeonI8mm(tier);
            }
            if let Some(tier) = Neon::<Signed>::detect().filter(|_| limit >= Tier::NeonDotProd) {
                return Vectors::NeonDotProd(tier);
            }
            if limit >= Tier::Neon {
                return Vectors::Neon(Neon::new());
            }
        }
        let _ = limit;
        Vectors::Portable(Portable)
    }

    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            Vectors::Portable(tier) => tier.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx2(tier) => tier.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Vectors::AvxVnni(tier) => tier.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx512(tier) => tier.run(kernel),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Vectors::Amx(tier, _) => tier.run(kernel),
            #[cfg(test)]
            Vectors::Scalar(tier, _) => tier.run(kernel),
            #[cfg(target_arch = "aarch64")]
            Vectors::Neon(tier) => tier.run(kernel),
            #[cfg(target_arch = "aarch64")]
            Vectors::NeonDotProd(tier) => tier.run(kernel),
            #[cfg(target_arch = "aarch64")]
            Vectors::NeonI8mm(tier) => tier.run(kernel),
        }
    }

    /// Whether there is a unit for squares.
    fn has_unit(self) -> bool {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Vectors::Amx(..) => true,
            #[cfg(test)]
            Vectors::Scalar(..) => true,
            _ => false,
        }
    }

    /// Works with the calling thread's unit set up, for [`Vectors::run_with_unit`], if there is one.
    #[cfg_attr(
        not(all(target_arch = "x86_64", target_os = "linux")),
        expect(unused_variables, reason = "no such machine has a unit")
    )]
    fn set_up(self, set_up: SetUp, work: impl FnOnce()) {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Vectors::Amx(_, unit) => unit.set_up(set_up, work),
            _ => work(),
        }
    }

    /// As [`Vectors::run`], with the unit, which is set up. There is one wherever something is kept in squares.
    #[cfg_attr(
        not(any(test, all(target_arch = "x86_64", target_os = "linux"))),
        expect(unused_variables, reason = "no such machine has a unit")
    )]
    fn run_with_unit<K: UnitKernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Vectors::Amx(vectors, unit) => vectors.run(WithUnit {
                kernel,
                vectors,
                unit,
            }),
            #[cfg(test)]
            Vectors::Scalar(vectors, unit) => vectors.run(WithUnit {
                kernel,
                vectors,
                unit,
            }),
            _ => unreachable!("what is kept in squares is used where it was made"),
        }
    }
}

/// Runs a kernel on the machine's best tier that is no better than `limit`.
pub(crate) fn run_on<K: Kernel>(limit: Tier, kernel: K) -> K::Output {
    Vectors::detect(limit).run(kernel)
}

/// A CPU device that rounds activations for quantised weights, to int8 or sixteen bits, and to bf16 for those of bf16.
pub struct Cpu {
    /// In a cell, for its threads pack matrices, too, of which a shared device is asked.
    pool: RefCell<Pool>,
    vectors: Vectors,
    kv_format: KvFormat,
    /// Where matrices are placed.
    weights: RefCell<Arena>,
    /// The activations of the current product.
    prepared: Prepared,
    /// Where picked outputs lie among the others, which are not computed.
    picked: Buffer,
    /// What each thread needs for attention.
    scratch: Vec<attention::Scratch>,
    /// What each thread fetches between one attention and the next.
    upcoming: Vec<Upcoming>,
}

impl Cpu {
    /// A device of `n_threads`, the caller's own among them, with the machine's best instructions.
    #[must_use]
    pub fn new(n_threads: usize) -> Self {
        Self::with_tier(n_threads, Tier::Amx)
    }

    /// As [`Cpu::new`], with instructions no better than `limit`.
    #[must_use]
    pub fn with_tier(n_threads: usize, limit: Tier) -> Self {
        Self::with_vectors(n_threads, Vectors::detect(limit))
    }

    /// As [`Cpu::new`], with plain loops that compute what AMX does.
    #[cfg(test)]
    pub(crate) fn with_scalar_unit(n_threads: usize) -> Self {
        Self::with_vectors(n_threads, Vectors::Scalar(Portable, Scalar))
    }

    fn with_vectors(n_threads: usize, vectors: Vectors) -> Self {
        let pool = Pool::new(n_threads);
        Self {
            upcoming: std::iter::repeat_with(Upcoming::default)
                .take(pool.n_threads())
                .collect(),
            pool: RefCell::new(pool),
            vectors,
            kv_format: KvFormat::Plain,
            weights: RefCell::default(),
            prepared: Prepared::default(),
            picked: Buffer::default(),
            scratch: Vec::new(),
        }
    }

    /// This device, with pools of keys and values in a format.
    ///
    /// # Errors
    /// If the format is of GPUs only.
    pub fn with_kv_format(self, kv_format: KvFormat) -> Result<Self, KernelError> {
        kv::check(kv_format)?;
        Ok(Self { kv_format, ..self })
    }

    /// The instructions in use.
    #[must_use]
    pub fn tier(&self) -> Tier {
        match self.vectors {
            Vectors::Portable(_) => Tier::Portable,
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx2(_) => Tier::Avx2,
            #[cfg(target_arch = "x86_64")]
            Vectors::AvxVnni(_) => Tier::AvxVnni,
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx512(_) => Tier::Avx512,
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Vectors::Amx(..) => Tier::Amx,
            #[cfg(test)]
            Vectors::Scalar(..) => Tier::Amx,
            #[cfg(target_arch = "aarch64")]
            Vectors::Neon(_) => Tier::Neon,
            #[cfg(target_arch = "aarch64")]
            Vectors::NeonDotProd(_) => Tier::NeonDotProd,
            #[cfg(target_arch = "aarch64")]
            Vectors::NeonI8mm(_) => Tier::NeonI8mm,
        }
    }
}

impl Cpu {
    fn product(
        &mut self,
        matrix: &Matrix,
        x: &Buffer,
        norm: Option<Norm<'_, Vec<f32>>>,
        then: Then<'_>,
        out: &mut Buffer,
    ) {
        let norm = norm.map(|norm| (norm.weight.as_slice(), norm.eps));
        let product = Product {
            matrix,
            x,
            norm,
            then,
        };
        let (pool, prepared, upcoming) =
            (self.pool.get_mut(), &mut self.prepared, &mut self.upcoming);
        product.run(pool, self.vectors, prepared, upcoming, out);
    }
}

impl Device for Cpu {
    type Buffer = Buffer;
    type Matrix = Matrix;
    type Vector = Vec<f32>;
    type Kv = CpuKv;

    fn matrix(
        &self,
        n_cols: usize,
        parts: &[MatrixPart<'_>],
        grain: Grain,
    ) -> Result<Self::Matrix, KernelError> {
        let memory = (
            &mut *self.weights.borrow_mut(),
            &mut *self.pool.borrow_mut(),
        );
        Matrix::new(memory, self.vectors.has_unit(), n_cols, parts, grain)
    }

    fn vector(&self, values: &[f32]) -> Self::Vector {
        values.to_vec()
    }

    fn buffer(&self, width: usize) -> Self::Buffer {
        Buffer::new(width)
    }

    fn kv(&self, shape: KvShape) -> Result<Self::Kv, KernelError> {
        CpuKv::new(self.vectors, self.kv_format, shape)
    }

    fn gather(&mut self, table: &Self::Matrix, rows: &[u32], out: &mut Self::Buffer) {
        out.resize(rows.len());
        elementwise::each_row(self.pool.get_mut(), out, |row_idx, out| {
            table.read_row(rows[row_idx] as usize, out);
        });
    }

    fn scale(&mut self, x: &mut Self::Buffer, factor: f32) {
        elementwise::each_row(self.pool.get_mut(), x, |_, row| {
            row.iter_mut().for_each(|x| *x *= factor);
        });
    }

    fn softcap(&mut self, x: &mut Self::Buffer, cap: f32) {
        let vectors = self.vectors;
        elementwise::each_row(self.pool.get_mut(), x, |_, x| {
            vectors.run(elementwise::Softcap { x, cap });
        });
    }

    fn norm_add(&mut self, x: &Self::Buffer, norm: Norm<'_, Self::Vector>, out: &mut Self::Buffer) {
        let (vectors, weight, eps) = (self.vectors, norm.weight.as_slice(), norm.eps);
        elementwise::each_row(self.pool.get_mut(), out, |row_idx, out| {
            let x = x.row(row_idx);
            vectors.run(elementwise::RmsNormAdd {
                x,
                weight,
                eps,
                out,
            });
        });
    }

    fn head_norm(&mut self, x: &mut Self::Buffer, heads: Heads, weight: &Self::Vector, eps: f32) {
        let vectors = self.vectors;
        elementwise::each_row(self.pool.get_mut(), x, |_, row| {
            for head in row[heads.first..heads.end()].chunks_exact_mut(heads.head_dim) {
                vectors.run(elementwise::RmsNormInPlace {
                    x: head,
                    weight,
                    eps,
                });
            }
        });
    }

    fn matmul(
        &mut self,
        matrix: &Self::Matrix,
        bias: Option<&Self::Vector>,
        x: &Self::Buffer,
        norm: Option<Norm<'_, Self::Vector>>,
        out: &mut Self::Buffer,
    ) {
        out.resize(x.n_rows());
        let then = Then::Store(bias.map(Vec::as_slice));
        self.product(matrix, x, norm, then, out);
    }

    fn matmul_picked(
        &mut self,
        matrix: &Self::Matrix,
        x: &Self::Buffer,
        norm: Option<Norm<'_, Self::Vector>>,
        rows: &[&[u32]],
    ) -> Vec<f32> {
        let product = Product {
            matrix,
            x,
            norm: norm.map(|norm| (norm.weight.as_slice(), norm.eps)),
            then: Then::Store(None),
        };
        if self.picked.width() != matrix.n_rows() {
            self.picked = Buffer::new(matrix.n_rows());
        }
        self.picked.resize(x.n_rows());
        let (pool, prepared, out) = (self.pool.get_mut(), &mut self.prepared, &mut self.picked);
        product.run_picked(rows, pool, self.vectors, prepared, out);
        out.pick(rows)
    }

    fn matmul_add(
        &mut self,
        matrix: &Self::Matrix,
        bias: Option<&Self::Vector>,
        x: &Self::Buffer,
        out: &mut Self::Buffer,
    ) {
        let then = Then::Add(bias.map(Vec::as_slice));
        self.product(matrix, x, None, then, out);
    }

    fn gated(
        &mut self,
        matrix: &Self::Matrix,
        activation: Activation,
        x: &Self::Buffer,
        norm: Option<Norm<'_, Self::Vector>>,
        out: &mut Self::Buffer,
    ) {
        out.resize(x.n_rows());
        if matrix.is_gated() {
            return self.product(matrix, x, norm, Then::Gate(activation), out);
        }
        let mut both = Buffer::new(matrix.n_rows());
        self.matmul(matrix, None, x, norm, &mut both);
        let vectors = self.vectors;
        elementwise::each_row(self.pool.get_mut(), out, |row_idx, out| {
            let x = both.row(row_idx);
            vectors.run(elementwise::Gate { activation, x, out });
        });
    }

    fn rope_angles(
        &mut self,
        frequencies: &Self::Vector,
        scale: f32,
        positions: &[u32],
        out: &mut Self::Buffer,
    ) {
        out.resize(positions.len());
        elementwise::each_row(self.pool.get_mut(), out, |row_idx, out| {
            crate::rope::angles(frequencies, scale, positions[row_idx], out);
        });
    }

    fn rope(
        &mut self,
        x: &mut Self::Buffer,
        heads: Heads,
        layout: RopeLayout,
        angles: &Self::Buffer,
    ) {
        let vectors = self.vectors;
        elementwise::each_row(self.pool.get_mut(), x, |row_idx, row| {
            let angles = angles.row(row_idx);
            vectors.run(elementwise::Rotate {
                row,
                heads,
                layout,
                angles,
            });
        });
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
        let machine = (self.pool.get_mut(), self.vectors);
        kv.put(machine, layer_idx, slots, x, (keys, values));
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
        let machine = (self.pool.get_mut(), self.vectors);
        let memory = (&mut self.scratch, self.upcoming.as_mut_slice());
        kv.attend(machine, memory, layer, (x, queries), spans, out);
    }

    fn copy_page(&mut self, kv: &mut Self::Kv, from: u32, to: u32, n_tokens: usize) {
        kv.copy_page(from, to, n_tokens);
    }

    fn select_rows(&mut self, x: &Self::Buffer, rows: &[usize], out: &mut Self::Buffer) {
        out.select(x, rows);
    }

    fn sample(&mut self, logits: &mut Self::Buffer, draws: &[Draw<'_>]) -> Vec<Drawn> {
        logits.sample(draws, self.pool.get_mut())
    }

    fn write(&mut self, out: &mut Self::Buffer, values: &[f32]) {
        out.assign(values);
    }

    fn read(&mut self, x: &Self::Buffer) -> Vec<f32> {
        x.copied(self.pool.get_mut())
    }
}
