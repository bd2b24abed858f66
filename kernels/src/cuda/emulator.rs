//! A CUDA device without a GPU, for tests: kernels compiled as C++ and run by `kernels/cuda/emulator`, which stands in for
//! the driver's library and for NVRTC's, so that all of this module runs, launches and their arguments included.
//!
//! For this crate's tests, and with the feature `emulator` for those of crates above.
#![allow(
    clippy::unwrap_used,
    reason = "a machine that cannot run a test fails it"
)]

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Once, OnceLock};

use super::compile::{ATTENTION, Constants, MATMUL, ROWWISE, SAMPLING, Source};
use super::library::{Compiler, Driver, variable};
use crate::{BlockFormat, Cuda, Element, KvFormat};

const KERNELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cuda");

/// Heads that the emulator can be asked for: their elements, and how keys and values are kept.
pub(crate) const HEADS: [(usize, KvFormat); 12] = [
    (64, KvFormat::Plain),
    (64, KvFormat::F16),
    (16, KvFormat::Plain),
    (16, KvFormat::F16),
    (32, KvFormat::Plain),
    (80, KvFormat::F16),
    (256, KvFormat::Plain),
    (64, KvFormat::Int8),
    (64, KvFormat::E4m3),
    (16, KvFormat::Int8),
    (16, KvFormat::E4m3),
    (160, KvFormat::Int8),
];

/// All that the emulator can be asked for: what is compiled together, and for what.
fn variants() -> Vec<(&'static [Source], Constants)> {
    let mut all: Vec<(&'static [Source], _)> = Vec::new();
    for element in [Element::Bf16, Element::F16] {
        all.push((&[ROWWISE, SAMPLING], Constants::Rows(element)));
        let formats = std::iter::once(None).chain(BlockFormat::ALL.map(Some));
        all.extend(formats.map(|format| (&[MATMUL][..], Constants::Weights(format, element))));
    }
    let heads = HEADS.map(|(head_dim, kv_format)| Constants::Heads(head_dim, kv_format));
    all.extend(heads.map(|heads| (&[ATTENTION][..], heads)));
    all
}

/// One C++ file of all variants.
fn generated() -> String {
    let mut text = String::from("#include \"emulator/driver.hpp\"\n");
    let mut table = String::new();
    for (i, (sources, constants)) in variants().into_iter().enumerate() {
        let definitions = constants.definitions();
        let options: String = definitions
            .iter()
            .map(|definition| format!("\"-D{definition}\","))
            .collect();
        writeln!(table, "{{{{{options}}}, {{").unwrap();
        writeln!(text, "namespace variant_{i} {{").unwrap();
        for definition in &definitions {
            writeln!(text, "#define {}", definition.replace('=', " ")).unwrap();
        }
        text.push_str("#include \"emulator/device.hpp\"\n#include \"common.cu\"\n");
        for source in sources {
            writeln!(text, "#include \"{}\"", source.name).unwrap();
            for kernel in source.kernels {
                let is_absent = *kernel == "attention_whole"
                    && matches!(constants, Constants::Heads(head_dim, _) if head_dim > 128);
                if !is_absent {
                    writeln!(table, "kernel_of(\"{kernel}\", variant_{i}::{kernel}),").unwrap();
                }
            }
        }
        text.push_str("#undef HAS_CODES\n");
        for definition in &definitions {
            let (name, _) = definition.split_once('=').unwrap_or((definition, ""));
            writeln!(text, "#undef {name}").unwrap();
        }
        text.push_str("}\n");
        table.push_str("}},\n");
    }
    write!(
        text,
        "namespace emulator {{\nstatic const std::vector<Variant>& variants() {{\n\
         static const std::vector<Variant> all = {{\n{table}}};\nreturn all;\n}}\n}}\n"
    )
    .unwrap();
    text
}

/// Everything the library is made of.
fn fingerprint(generated: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    generated.hash(&mut hasher);
    for place in [KERNELS.to_owned(), format!("{KERNELS}/emulator")] {
        let mut files: Vec<PathBuf> = std::fs::read_dir(place)
            .unwrap()
            .map(|file| file.unwrap().path())
            .filter(|path| path.is_file())
            .collect();
        files.sort();
        for file in files {
            std::fs::read(file).unwrap().hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// The emulator's library; None where there is no C++ compiler.
fn library() -> Option<&'static Path> {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let built = LIBRARY.get_or_init(|| {
        let text = generated();
        let folder = folder("emulator");
        let path = folder.join(format!("{:016x}.so", fingerprint(&text)));
        if path.exists() {
            return Some(path);
        }
        let source = path.with_extension("cpp");
        std::fs::write(&source, text).unwrap();
        let (include, runtime) = (
            format!("-I{KERNELS}"),
            format!("{KERNELS}/emulator/emulator.cpp"),
        );
        let emulator = format!("-I{KERNELS}/emulator");
        let arguments = [
            "-std=c++17",
            "-O2",
            "-ffp-contract=off",
            "-Wall",
            "-Wno-unknown-pragmas",
            &include,
            &emulator,
            source.to_str().unwrap(),
            &runtime,
        ];
        shared_library(&arguments, &path)?.unwrap_or_else(|said| panic!("{said}"));
        Some(path)
    });
    built.as_deref()
}

/// A device on the emulator, whose threads take turns as `seed` says; None where there is no C++ compiler.
///
/// With `LMRUN_TEST_GPU` set, the device is GPU 0 instead: the same tests then prove the kernels on a card.
#[must_use]
pub fn emulated(element: Element, seed: u64) -> Option<Cuda> {
    if variable("LMRUN_TEST_GPU").is_some() {
        // A card that nobody holds is set up anew for every case.
        static HELD: Once = Once::new();
        HELD.call_once(|| std::mem::forget(Cuda::open(0, element).unwrap()));
        return Some(Cuda::open(0, element).unwrap());
    }
    let Some(path) = library() else {
        skip("no C++ compiler for the CUDA emulator: install one, or set CXX");
        return None;
    };
    // SAFETY: the library that was just built, which stays open as long as the process.
    unsafe {
        let library = libloading::Library::new(path).unwrap();
        let set: libloading::Symbol<'_, unsafe extern "C" fn(u64)> =
            library.get(b"emulator_set_seed").unwrap();
        set(seed);
        std::mem::forget(library);
    }
    let (driver, compiler) = (
        Driver::open_at(path).unwrap(),
        Compiler::open_at(path).unwrap(),
    );
    Some(Cuda::with(driver, compiler, 0, element, None).unwrap())
}

/// Whether a test that cannot run is a failure, for want of what every such machine has.
pub(super) fn must_run() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty())
}

/// Tells that a test did not run, or fails where all must.
pub(super) fn skip(why: &str) {
    assert!(!must_run(), "{why}");
    tell_skipped(why);
}

pub(super) fn tell_skipped(why: &str) {
    // The one line a person reads who wonders what was tested.
    #[allow(clippy::print_stderr)]
    {
        eprintln!("skipped: {why}");
    }
}

/// The workspace's build folder.
pub(super) fn target() -> PathBuf {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../target");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| default.into(), PathBuf::from)
}

/// A folder of this name in the build folder.
pub(super) fn folder(name: &str) -> PathBuf {
    let folder = target().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Compiles sources to a shared library in one go; what the compiler said if it failed, None if there is no compiler.
pub(super) fn shared_library(arguments: &[&str], to: &Path) -> Option<Result<(), String>> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let draft = to.with_extension(format!("{}", std::process::id()));
    let output = Command::new(compiler)
        .args(["-shared", "-fPIC", "-o"])
        .arg(&draft)
        .args(arguments)
        .output()
        .ok()?;
    if !output.status.success() {
        return Some(Err(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    std::fs::rename(&draft, to).unwrap();
    Some(Ok(()))
}
