//! What the whole-product tests share.

pub mod candle_oracle;
pub mod constraints;
pub mod engine;
pub mod hub;
pub mod parallel;
pub mod random;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The default model's file, fetched once.
pub fn smollm2() -> PathBuf {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL
        .get_or_init(|| lmrun::models::ensure_default().expect("the default model"))
        .clone()
}

/// The binary under test.
pub fn lmrun() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lmrun"));
    command.env("NO_COLOR", "1").env_remove("LMRUN_API_KEY");
    command
}

/// An empty folder of the build's own, one a name.
pub fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder in the build's own");
    folder
}
