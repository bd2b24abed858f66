//! The driver and the runtime compiler (NVRTC) as tables of functions, opened at run time.
//!
//! Sources: the CUDA driver API and NVRTC references. The functions are the ones that CUDA 12 and 13 share. A table is
//! whole or not there: a library that lacks a function is refused when it is opened, so nothing fails later for it.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::path::{Path, PathBuf};

use libloading::Library;

use super::CudaError;

/// The variable that names the driver's library instead of the system.
pub(crate) const DRIVER_VARIABLE: &str = "LMRUN_CUDA_LIBRARY";
/// The variable that names NVRTC's library instead of the system.
pub(crate) const COMPILER_VARIABLE: &str = "LMRUN_NVRTC_LIBRARY";

/// A table of functions of one library, each of which answers with a code that is 0 where all is well.
macro_rules! functions {
    ($(#[$doc:meta])* $table:ident { $($field:ident = $symbol:literal ($($argument:ty),*);)* }) => {
        $(#[$doc])*
        pub(crate) struct $table {
            $(pub(crate) $field: unsafe extern "C" fn($($argument),*) -> c_int,)*
            /// Keeps the functions where they are.
            _library: Library,
        }

        impl $table {
            fn of(library: Library, name: &Path) -> Result<Self, CudaError> {
                Ok(Self {
                    $($field: {
                        // SAFETY: the signature is the one in CUDA's reference for this name.
                        let found = unsafe { library.get($symbol.as_bytes()) };
                        *found.map_err(|_| CudaError::Function {
                            library: name.display().to_string(),
                            function: $symbol,
                        })?
                    },)*
                    _library: library,
                })
            }
        }
    };
}

/// A handle: a `CUcontext`, `CUstream`, `CUmodule`, `CUfunction`, `CUgraph` or `CUgraphExec`, or an `nvrtcProgram`.
pub(crate) type Opaque = *mut c_void;

functions! {
    /// The driver's functions.
    Driver {
        init = "cuInit" (c_uint);
        version = "cuDriverGetVersion" (*mut c_int);
        device_count = "cuDeviceGetCount" (*mut c_int);
        device = "cuDeviceGet" (*mut c_int, c_int);
        device_name = "cuDeviceGetName" (*mut c_char, c_int, c_int);
        device_attribute = "cuDeviceGetAttribute" (*mut c_int, c_int, c_int);
        retain_context = "cuDevicePrimaryCtxRetain" (*mut Opaque, c_int);
        release_context = "cuDevicePrimaryCtxRelease_v2" (c_int);
        set_context = "cuCtxSetCurrent" (Opaque);
        memory_info = "cuMemGetInfo_v2" (*mut usize, *mut usize);
        allocate = "cuMemAlloc_v2" (*mut u64, usize);
        free = "cuMemFree_v2" (u64);
        allocate_host = "cuMemAllocHost_v2" (*mut *mut c_void, usize);
        free_host = "cuMemFreeHost" (*mut c_void);
        upload = "cuMemcpyHtoDAsync_v2" (u64, *const c_void, usize, Opaque);
        download = "cuMemcpyDtoHAsync_v2" (*mut c_void, u64, usize, Opaque);
        fill = "cuMemsetD8Async" (u64, u8, usize, Opaque);
        create_stream = "cuStreamCreate" (*mut Opaque, c_uint);
        destroy_stream = "cuStreamDestroy_v2" (Opaque);
        synchronize = "cuStreamSynchronize" (Opaque);
        load_module = "cuModuleLoadData" (*mut Opaque, *const c_void);
        unload_module = "cuModuleUnload" (Opaque);
        function = "cuModuleGetFunction" (*mut Opaque, Opaque, *const c_char);
        set_attribute = "cuFuncSetAttribute" (Opaque, c_int, c_int);
        launch = "cuLaunchKernel" (
            Opaque, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Opaque, *mut *mut c_void,
            *mut *mut c_void
        );
        begin_capture = "cuStreamBeginCapture_v2" (Opaque, c_uint);
        end_capture = "cuStreamEndCapture" (Opaque, *mut Opaque);
        instantiate_graph = "cuGraphInstantiateWithFlags" (*mut Opaque, Opaque, u64);
        launch_graph = "cuGraphLaunch" (Opaque, Opaque);
        destroy_graph = "cuGraphDestroy" (Opaque);
        destroy_executable = "cuGraphExecDestroy" (Opaque);
        error_name = "cuGetErrorName" (c_int, *mut *const c_char);
    }
}

functions! {
    /// The compiler's functions.
    Compiler {
        version = "nvrtcVersion" (*mut c_int, *mut c_int);
        create = "nvrtcCreateProgram" (
            *mut Opaque, *const c_char, *const c_char, c_int, *const *const c_char, *const *const c_char
        );
        compile = "nvrtcCompileProgram" (Opaque, c_int, *const *const c_char);
        log_size = "nvrtcGetProgramLogSize" (Opaque, *mut usize);
        log = "nvrtcGetProgramLog" (Opaque, *mut c_char);
        cubin_size = "nvrtcGetCUBINSize" (Opaque, *mut usize);
        cubin = "nvrtcGetCUBIN" (Opaque, *mut c_char);
        destroy = "nvrtcDestroyProgram" (*mut Opaque);
    }
}

impl Driver {
    /// The driver's library of this machine.
    pub(crate) fn open() -> Result<Self, CudaError> {
        let names: &[&str] = if cfg!(windows) {
            &["nvcuda.dll"]
        } else {
            &["libcuda.so.1", "libcuda.so"]
        };
        if let Some(path) = variable(DRIVER_VARIABLE) {
            return Self::open_at(&path);
        }
        let candidates: Vec<_> = names.iter().map(PathBuf::from).collect();
        let (library, name) = open_first(&candidates)?;
        Self::of(library, &name)
    }

    /// A driver at a path.
    pub(crate) fn open_at(path: &Path) -> Result<Self, CudaError> {
        let (library, name) = open_first(&[path.to_owned()])?;
        Self::of(library, &name)
    }
}

impl Compiler {
    /// The newest NVRTC of this machine: where a variable says, where the system looks, where the toolkit is installed.
    pub(crate) fn open() -> Result<Self, CudaError> {
        let names: &[&str] = if cfg!(windows) {
            &["nvrtc64_130_0.dll", "nvrtc64_120_0.dll"]
        } else {
            &["libnvrtc.so.13", "libnvrtc.so.12"]
        };
        if let Some(path) = variable(COMPILER_VARIABLE) {
            return Self::open_at(&path);
        }
        let folders = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(variable);
        let folders: Vec<_> = folders.chain([PathBuf::from("/usr/local/cuda")]).collect();
        let mut candidates = Vec::new();
        for name in names {
            candidates.push(PathBuf::from(name));
            candidates.extend(folders.iter().map(|folder| folder.join("lib64").join(name)));
        }
        let (library, name) = open_first(&candidates)?;
        Self::of(library, &name)
    }

    /// NVRTC at a path.
    pub(crate) fn open_at(path: &Path) -> Result<Self, CudaError> {
        let (library, name) = open_first(&[path.to_owned()])?;
        Self::of(library, &name)
    }
}

/// A variable that is set to something.
pub(crate) fn variable(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}

/// The first of the candidates that can be opened; the error is the first's.
fn open_first(candidates: &[PathBuf]) -> Result<(Library, PathBuf), CudaError> {
    let mut first_error = None;
    for candidate in candidates {
        open_builtins(candidate);
        // SAFETY: only what is named as CUDA's library is opened; its initialisers are trusted as the user's choice.
        match unsafe { Library::new(candidate) } {
            Ok(library) => return Ok((library, candidate.clone())),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    let library = candidates.first().map(|name| name.display().to_string());
    Err(CudaError::Library {
        library: library.unwrap_or_default(),
        reason: first_error.map_or_else(String::new, |error| reason(&error)),
    })
}

/// The system's words for why a library cannot be opened, without its path, which the error names anyway.
fn reason(error: &libloading::Error) -> String {
    let text =
        std::error::Error::source(error).map_or_else(|| error.to_string(), |e| e.to_string());
    match text.split_once(": ") {
        Some((_, reason)) => reason.to_owned(),
        None => text,
    }
}

/// Opens the library of built-in functions beside NVRTC, which looks for it only where the system looks.
fn open_builtins(compiler: &Path) {
    let Some(folder) = compiler.parent().filter(|folder| folder.is_absolute()) else {
        return;
    };
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for file in files {
        let name = file.file_name();
        if name.to_string_lossy().starts_with("libnvrtc-builtins.so") {
            // SAFETY: a part of NVRTC, from the same folder. It stays open, as NVRTC itself would keep it.
            if let Ok(library) = unsafe { Library::new(file.path()) } {
                std::mem::forget(library);
            }
        }
    }
}
