//! The tensor operations of a decoder on a [`Device`].
//!
//! Three devices live here. [`Reference`] holds every weight in f32 and does each operation in the
//! plainest loop that is right: the yardstick. [`Cpu`] keeps weights quantised in tiles of 16 output
//! rows, quantises activations to int8 and runs the same source on AVX-512, AVX2, NEON or portable
//! vectors, chosen at run time, and attention on AMX. [`Cuda`] runs kernels of its own on an NVIDIA GPU.
//!
//! All reduce every output element in an order that depends on positions alone, never on what else
//! is in the batch or on the number of threads: an answer is the same, bit for bit, however the work
//! was cut.

// Vector intrinsics, the threads' shared output and zeroed memory need it; each block says why it is sound.
#![allow(unsafe_code)]

mod aligned;
mod blocks;
mod buffer;
mod cpu;
mod cuda;
mod device;
mod error;
mod kv;
mod lines;
mod peak;
mod pool;
mod quantise;
mod reference;
mod rope;
mod rows;
mod sampling;
mod share;
mod shared;
mod simd;
#[cfg_attr(
    not(all(target_arch = "x86_64", target_os = "linux")),
    allow(dead_code, reason = "no such machine has a unit but in tests")
)]
mod squares;

#[cfg(test)]
mod tests;

pub use blocks::{BLOCK_LEN, BlockFormat, quantise_q8_0};
pub use buffer::Buffer;
pub use cpu::{Cpu, CpuKv, Matrix, Tier};
#[cfg(any(test, feature = "emulator"))]
pub use cuda::emulated;
pub use cuda::{
    Cuda, CudaBuffer, CudaError, CudaKv, CudaMatrix, CudaProbe, CudaVector, Element, GpuInfo,
};
pub use device::{
    Activation, AttentionLayer, AttentionSpan, Device, Grain, Heads, MatrixData, MatrixPart, Norm,
    RopeLayout, Slot,
};
pub use error::KernelError;
pub use kv::{KvElement, KvFormat, KvPool, KvShape};
pub use peak::Peak;
pub use quantise::quantise_q4_0;
pub use reference::{Reference, ReferenceMatrix};
pub use rows::{log_sum_exp, row_max};
pub use sampling::{Adjustment, Allowed, Draw, Drawn, Sampler, choose, highest, logprob};
