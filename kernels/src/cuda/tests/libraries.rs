//! Machines where CUDA is missing, damaged or refuses: each is one error that says so.

use std::path::PathBuf;

use super::{folder, shared_library, skip};
use crate::cuda::driver::Context;
use crate::cuda::library::{Compiler, Driver};
use crate::cuda::probe;
use crate::{CudaError, CudaProbe};

/// A library of this C text, by a name of its own.
fn library(name: &str, text: &str) -> Option<PathBuf> {
    let folder = folder(&format!("libraries-{}", std::process::id()));
    let (source, path) = (
        folder.join(format!("{name}.cpp")),
        folder.join(format!("{name}.so")),
    );
    std::fs::write(&source, text).unwrap();
    match shared_library(&[source.to_str().unwrap()], &path) {
        Some(built) => built.unwrap(),
        None => {
            skip("no C++ compiler for fake libraries: install one, or set CXX");
            return None;
        }
    }
    Some(path)
}

/// All of the driver's functions, of which `init` answers with a code and `count` tells a number of GPUs.
fn driver_text(init: i32, count: i32) -> String {
    let mut text = String::from("extern \"C\" {\n");
    for name in [
        "cuDeviceGet",
        "cuDeviceGetName",
        "cuDeviceGetAttribute",
        "cuDevicePrimaryCtxRetain",
        "cuDevicePrimaryCtxRelease_v2",
        "cuCtxSetCurrent",
        "cuMemGetInfo_v2",
        "cuMemAlloc_v2",
        "cuMemFree_v2",
        "cuMemAllocHost_v2",
        "cuMemFreeHost",
        "cuMemcpyHtoDAsync_v2",
        "cuMemcpyDtoHAsync_v2",
        "cuMemsetD8Async",
        "cuStreamCreate",
        "cuStreamDestroy_v2",
        "cuStreamSynchronize",
        "cuModuleLoadData",
        "cuModuleUnload",
        "cuModuleGetFunction",
        "cuFuncSetAttribute",
        "cuLaunchKernel",
        "cuStreamBeginCapture_v2",
        "cuStreamEndCapture",
        "cuGraphInstantiateWithFlags",
        "cuGraphLaunch",
        "cuGraphDestroy",
        "cuGraphExecDestroy",
        "cuGetErrorName",
    ] {
        text += &format!("int {name}() {{ return 999; }}\n");
    }
    text += &format!("int cuInit(unsigned) {{ return {init}; }}\n");
    text += "int cuDriverGetVersion(int* version) { return *version = 13000, 0; }\n";
    text += &format!("int cuDeviceGetCount(int* count) {{ return *count = {count}, 0; }}\n}}\n");
    text
}

#[test]
fn a_missing_library_is_named() {
    let path = PathBuf::from("/nowhere/libcuda.so.1");
    let Err(error) = Driver::open_at(&path) else {
        panic!()
    };
    assert!(matches!(&error, CudaError::Library { .. }));
    let text = error.to_string();
    assert!(
        text.starts_with("cannot open /nowhere/libcuda.so.1: "),
        "{text}"
    );
    assert!(text.contains("No such file"), "{text}");
    let Err(error) = Compiler::open_at(&path) else {
        panic!()
    };
    assert!(matches!(error, CudaError::Library { .. }));
}

#[test]
fn a_file_that_is_no_library_is_refused() {
    let path = folder("libraries-damaged").join("libcuda.so.1");
    for bytes in [&b""[..], b"not a library", b"\x7fELF\x02\x01\x01"] {
        std::fs::write(&path, bytes).unwrap();
        let Err(error) = Driver::open_at(&path) else {
            panic!()
        };
        assert!(
            error.to_string().contains("libraries-damaged/libcuda.so.1"),
            "{error}"
        );
    }
}

#[test]
fn a_library_that_lacks_a_function_is_refused() {
    let lacking = "extern \"C\" int cuInit(unsigned) { return 0; }\nextern \"C\" int nvrtcVersion(int*, int*) { return 0; }";
    let Some(path) = library("lacking", lacking) else {
        return;
    };
    let Err(error) = Driver::open_at(&path) else {
        panic!()
    };
    assert!(
        matches!(
            error,
            CudaError::Function {
                function: "cuDriverGetVersion",
                ..
            }
        ),
        "{error}"
    );
    let Err(error) = Compiler::open_at(&path) else {
        panic!()
    };
    assert!(
        matches!(
            error,
            CudaError::Function {
                function: "nvrtcCreateProgram",
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("lacking.so has no function nvrtcCreateProgram"),
        "{error}"
    );
}

#[test]
fn a_driver_that_fails_is_told_by_function_and_code() {
    let Some(path) = library("failing", &driver_text(100, 1)) else {
        return;
    };
    let Err(error) = Context::open(Driver::open_at(&path).unwrap(), 0) else {
        panic!()
    };
    assert_eq!(
        error.to_string(),
        "cuInit failed with an unknown error (100)"
    );
    // It starts, and then nothing works.
    let Some(path) = library("refusing", &driver_text(0, 1)) else {
        return;
    };
    let Err(error) = Context::open(Driver::open_at(&path).unwrap(), 0) else {
        panic!()
    };
    assert_eq!(
        error.to_string(),
        "cuDeviceGet failed with an unknown error (999)"
    );
}

#[test]
fn a_gpu_that_is_not_there_is_refused() {
    for (count, asked) in [(0, 0), (2, 2), (-1, 0)] {
        let name = format!("count-{}-{asked}", count + 1);
        let Some(path) = library(&name, &driver_text(0, count)) else {
            return;
        };
        let Err(error) = Context::open(Driver::open_at(&path).unwrap(), asked) else {
            panic!()
        };
        let n_devices = usize::try_from(count).unwrap_or(0);
        assert_eq!(error, CudaError::NoDevice { asked, n_devices });
    }
}

#[test]
fn old_gpus_and_drivers_are_refused() {
    assert_eq!(
        probe::check((7, 5), (13, 0), (13, 0)),
        Err(CudaError::Capability { given: (7, 5) })
    );
    let refused = probe::check((9, 0), (12, 8), (13, 0)).unwrap_err();
    assert!(
        refused.to_string().contains("driver is of CUDA 12.8"),
        "{refused}"
    );
    assert_eq!(probe::check((8, 0), (13, 0), (12, 9)), Ok(()));
    assert_eq!(probe::check((12, 0), (13, 0), (13, 5)), Ok(()));
}

/// Whatever this machine has.
#[test]
fn probing_never_panics() {
    let probe = CudaProbe::new();
    assert!(probe.usable(1 << 20).is_err());
    if let Err(error) = &probe.driver {
        assert_eq!(probe.usable(0), Err(error.clone()));
        assert!(probe.gpus.is_empty());
    }
}
