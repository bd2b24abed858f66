//! What a model's name means: one we know, a path, or a repository of the Hugging Face hub.

use std::path::PathBuf;

use super::ModelsError;
use super::known::{KNOWN, Known};

/// A model's name, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    /// A model we know by a short name.
    Known(&'static Known),
    /// A file or folder of the user's.
    Path(PathBuf),
    /// `hf:ORG/REPO[:QUANT]`.
    Hub(Reference),
}

/// A repository of the hub and, of its GGUF files, which one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// `ORG/REPO`.
    pub(super) repo: String,
    /// A quantisation such as `Q4_K_M`, or a file name that ends in `.gguf`.
    pub(super) quant: Option<String>,
}

impl Name {
    /// Reads a name. A known name wins over a file that happens to be called so; `./smollm2` is the file.
    pub(super) fn parse(given: &str) -> Result<Self, ModelsError> {
        if let Some(known) = KNOWN.iter().find(|known| known.name == given) {
            return Ok(Self::Known(known));
        }
        if let Some(reference) = given.strip_prefix("hf:") {
            return Reference::parse(given, reference).map(Self::Hub);
        }
        let path = PathBuf::from(given);
        let looks_like_a_path =
            given.contains(['/', '\\']) || given.starts_with('.') || given.ends_with(".gguf");
        if path.exists() {
            return Ok(Self::Path(path));
        }
        if looks_like_a_path {
            return Err(ModelsError::Missing(path));
        }
        let known: Vec<String> = KNOWN
            .iter()
            .map(|known| format!("`{}`", known.name))
            .collect();
        Err(ModelsError::Unknown {
            given: given.to_owned(),
            known: known.join(", "),
        })
    }
}

impl Reference {
    fn parse(given: &str, reference: &str) -> Result<Self, ModelsError> {
        let refuse = |reason| ModelsError::Reference {
            given: given.to_owned(),
            reason,
        };
        let (repo, quant) = match reference.split_once(':') {
            Some((repo, quant)) => (repo, Some(quant)),
            None => (reference, None),
        };
        let Some((owner, name)) = repo.split_once('/') else {
            return Err(refuse("ORG/REPO has one slash"));
        };
        if !(is_plain(owner) && is_plain(name)) {
            return Err(refuse("ORG and REPO are letters, digits, `-`, `_` and `.`"));
        }
        if quant.is_some_and(|quant| !quant.split('/').all(is_plain)) {
            return Err(refuse("QUANT is a quantisation or a file's name"));
        }
        Ok(Self {
            repo: repo.to_owned(),
            quant: quant.map(str::to_owned),
        })
    }

    /// The name that gives this reference.
    pub(super) fn name(&self) -> String {
        match &self.quant {
            Some(quant) => format!("hf:{}:{quant}", self.repo),
            None => format!("hf:{}", self.repo),
        }
    }
}

/// Whether a part of a name can be a part of a path and of a URL as it is.
pub(super) fn is_plain(part: &str) -> bool {
    !part.is_empty()
        && part.len() <= 200
        && !part.starts_with('.')
        && part
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

#[cfg(test)]
mod tests;
