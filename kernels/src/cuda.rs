//! The CUDA device.
//!
//! The kernels are the `.cu` files of `kernels/cuda`, compiled at run time by NVRTC for the GPU at hand; the driver and NVRTC
//! are opened at run time too, so a build needs nothing of CUDA. `docs/gpu.md` says how the kernels work, in which order they
//! add, and how an emulator proves them where there is no GPU.

mod attention;
mod compile;
mod device;
mod driver;
#[cfg(any(test, feature = "emulator"))]
mod emulator;
mod error;
mod library;
mod matrix;
mod plan;
mod probe;
mod products;
mod room;
mod sample;
mod segments;
mod staging;
#[cfg(test)]
mod tests;

pub use attention::CudaKv;
pub use compile::Element;
pub use device::{Cuda, CudaBuffer, CudaVector};
#[cfg(any(test, feature = "emulator"))]
pub use emulator::emulated;
pub use error::CudaError;
pub use matrix::CudaMatrix;
pub use probe::{CudaProbe, GpuInfo};
