//! What can go wrong between this program and a GPU.

/// Why the CUDA device cannot be used, or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CudaError {
    /// A shared library cannot be opened.
    #[error("cannot open {library}: {reason}")]
    Library {
        /// Its name or path.
        library: String,
        /// What the system said.
        reason: String,
    },
    /// A shared library is not what its name says.
    #[error("{library} has no function {function}: it is damaged, or not of CUDA 12 or later")]
    Function {
        /// Its name or path.
        library: String,
        /// The first function that is missing.
        function: &'static str,
    },
    /// A function of CUDA failed.
    #[error("{function} failed with {name} ({code})")]
    Call {
        /// The function.
        function: &'static str,
        /// CUDA's name of the error.
        name: String,
        /// Its number.
        code: i32,
    },
    /// There is no GPU of this number.
    #[error("there is no GPU {asked}: the driver sees {n_devices}")]
    NoDevice {
        /// The number asked for, from 0.
        asked: usize,
        /// How many there are.
        n_devices: usize,
    },
    /// The GPU is too old for bf16 on tensor cores.
    #[error("the GPU has compute capability {}.{}, at least 8.0 is needed", given.0, given.1)]
    Capability {
        /// Major and minor number.
        given: (i32, i32),
    },
    /// What the compiler makes, the driver does not load.
    #[error(
        "the driver is of CUDA {}.{}, the compiler (NVRTC) of CUDA {}.{}: update the driver, or use NVRTC {}",
        driver.0, driver.1, compiler.0, compiler.1, driver.0
    )]
    Versions {
        /// Of the driver.
        driver: (i32, i32),
        /// Of NVRTC.
        compiler: (i32, i32),
    },
    /// The kernels cannot be compiled.
    #[error("NVRTC cannot compile {source_name} for {architecture}: {log}")]
    Compile {
        /// Which source.
        source_name: &'static str,
        /// `sm_90`.
        architecture: String,
        /// The compiler's first complaint.
        log: String,
    },
    /// The attention kernels have no shape for these heads.
    #[error("heads of {given} elements: the GPU's attention takes multiples of 16 up to 256")]
    HeadDim {
        /// Elements of a head.
        given: usize,
    },
}
