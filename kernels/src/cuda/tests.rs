//! The CUDA device without a GPU: its kernels compiled as C++ and run by an emulator, its sources compiled by NVRTC, and
//! machines that lack what it needs.

mod compiled;
mod emulated;
mod emulator;
mod libraries;
mod plans;

use std::path::PathBuf;
use std::process::Command;

/// Whether a test that cannot run is a failure, for want of what every such machine has.
fn must_run() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty())
}

/// Tells that a test did not run, or fails where all must.
fn skip(why: &str) {
    assert!(!must_run(), "{why}");
    tell_skipped(why);
}

fn tell_skipped(why: &str) {
    // The one line a person reads who wonders what was tested.
    #[allow(clippy::print_stderr)]
    {
        eprintln!("skipped: {why}");
    }
}

/// The workspace's build folder.
fn target() -> PathBuf {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../target");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| default.into(), PathBuf::from)
}

/// A folder of this name in the build folder.
fn folder(name: &str) -> PathBuf {
    let folder = target().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Compiles sources to a shared library in one go; what the compiler said if it failed, None if there is no compiler.
fn shared_library(arguments: &[&str], to: &std::path::Path) -> Option<Result<(), String>> {
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
