//! What this machine has of CUDA, without using any of it.

use super::library::{Compiler, Driver};
use super::{CudaError, driver::Context};

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuInfo {
    /// The vendor's name for it.
    pub name: String,
    /// Compute capability, major and minor.
    pub capability: (i32, i32),
    /// Bytes of memory that are free.
    pub n_free_bytes: usize,
    /// Bytes of memory in all.
    pub n_total_bytes: usize,
}

/// What was found, each part with its version or what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CudaProbe {
    /// The CUDA version of the driver.
    pub driver: Result<(i32, i32), CudaError>,
    /// The version of NVRTC, the compiler of the kernels.
    pub compiler: Result<(i32, i32), CudaError>,
    /// The GPUs; none without a driver.
    pub gpus: Vec<Result<GpuInfo, CudaError>>,
}

impl CudaProbe {
    /// Looks at the libraries and the GPUs. Never panics, whatever is missing or broken.
    #[must_use]
    pub fn new() -> Self {
        let compiler = Compiler::open().and_then(|compiler| compiler.number());
        let counted = Driver::open().and_then(|driver| Ok((driver.n_devices()?, driver.number()?)));
        let (n_devices, driver) = match counted {
            Ok((n_devices, number)) => (n_devices, Ok(number)),
            Err(error) => (0, Err(error)),
        };
        Self {
            driver,
            compiler,
            gpus: (0..n_devices).map(gpu).collect(),
        }
    }

    /// The first thing that keeps GPU `ordinal` from being used.
    ///
    /// # Errors
    /// That thing.
    pub fn usable(&self, ordinal: usize) -> Result<&GpuInfo, CudaError> {
        let driver = self.driver.clone()?;
        let gpu = self.gpus.get(ordinal).ok_or(CudaError::NoDevice {
            asked: ordinal,
            n_devices: self.gpus.len(),
        })?;
        let gpu = gpu.as_ref().map_err(CudaError::clone)?;
        let compiler = self.compiler.clone()?;
        check(gpu.capability, driver, compiler)?;
        Ok(gpu)
    }
}

impl Default for CudaProbe {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether cubins of this compiler run on such a GPU under this driver.
pub(crate) fn check(
    capability: (i32, i32),
    driver: (i32, i32),
    compiler: (i32, i32),
) -> Result<(), CudaError> {
    if capability < (8, 0) {
        return Err(CudaError::Capability { given: capability });
    }
    // Within a major version, a driver runs what a newer compiler made.
    if driver.0 < compiler.0 {
        return Err(CudaError::Versions { driver, compiler });
    }
    Ok(())
}

fn gpu(ordinal: usize) -> Result<GpuInfo, CudaError> {
    let context = Context::open(Driver::open()?, ordinal)?;
    let (n_free_bytes, n_total_bytes) = context.memory()?;
    Ok(GpuInfo {
        name: context.name.clone(),
        capability: context.capability,
        n_free_bytes,
        n_total_bytes,
    })
}
