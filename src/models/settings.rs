//! Where models are kept and how the hub is reached, as the environment says.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::ModelsError;
use super::hub;

/// The hub's public server.
const ENDPOINT: &str = "https://huggingface.co";

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn folder(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// `$XDG_CACHE_HOME`, else `~/.cache`.
fn user_cache() -> Result<PathBuf, ModelsError> {
    folder("XDG_CACHE_HOME")
        .or_else(|| env::home_dir().map(|home| home.join(".cache")))
        .ok_or(ModelsError::NoHome)
}

/// lmrun's own cache: `$LMRUN_CACHE`, else `lmrun` in the user's cache.
pub(super) fn cache() -> Result<PathBuf, ModelsError> {
    match folder("LMRUN_CACHE") {
        Some(folder) => Ok(folder),
        None => Ok(user_cache()?.join("lmrun")),
    }
}

/// The hub's settings, from the variables that its own tools read.
pub(super) fn hub() -> Result<hub::Settings, ModelsError> {
    let home = match folder("HF_HOME") {
        Some(home) => home,
        None => user_cache()?.join("huggingface"),
    };
    let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
    Ok(hub::Settings {
        cache: folder("HF_HUB_CACHE").unwrap_or_else(|| home.join("hub")),
        endpoint: endpoint.trim_end_matches('/').to_owned(),
        token: variable("HF_TOKEN").or_else(|| token_file(&home)),
    })
}

/// The token that `hf auth login` left.
fn token_file(home: &Path) -> Option<String> {
    let text = fs::read_to_string(home.join("token")).ok()?;
    Some(text.trim().to_owned()).filter(|token| !token.is_empty())
}

/// Whether `HF_HUB_OFFLINE` says that nothing is to be fetched.
pub(super) fn is_offline() -> bool {
    let value = variable("HF_HUB_OFFLINE")
        .unwrap_or_default()
        .to_ascii_lowercase();
    ["1", "true", "yes", "on"].contains(&value.as_str())
}
