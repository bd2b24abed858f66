//! The cache on disk: where a repository's blobs, snapshots and references lie.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::error::{Context, ModelsError};
use super::super::files;
use super::super::name::is_plain;
use super::choose::{self, Choice};

/// How deep the folders of a snapshot are looked through.
const MAX_DEPTH: usize = 4;

/// A model in the hub's cache.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Cached {
    /// The name that gives it.
    pub(in super::super) name: String,
    /// Bytes.
    pub(in super::super) size: u64,
    /// A file, or a folder.
    pub(in super::super) path: PathBuf,
}

/// A repository's part of the cache.
pub(super) struct Repository {
    cache: PathBuf,
    /// `ORG/REPO`.
    pub(super) repo: String,
}

impl Repository {
    pub(super) fn new(cache: &Path, repo: &str) -> Self {
        Self {
            cache: cache.to_owned(),
            repo: repo.to_owned(),
        }
    }

    fn folder_name(&self) -> String {
        format!("models--{}", self.repo.replace('/', "--"))
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.cache.join(self.folder_name())
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.folder().join("blobs")
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.blobs().join(etag)
    }

    /// The lock that huggingface_hub takes for this blob, too.
    pub(super) fn lock(&self, etag: &str) -> PathBuf {
        self.cache
            .join(".locks")
            .join(self.folder_name())
            .join(format!("{etag}.lock"))
    }

    /// The key of a blob's record.
    pub(super) fn key(&self, etag: &str) -> String {
        format!("{}--{etag}", self.folder_name())
    }

    pub(super) fn snapshot_of(&self, commit: &str) -> PathBuf {
        self.folder().join("snapshots").join(commit)
    }

    /// The snapshot that `main` was at when it was last asked for.
    pub(super) fn snapshot(&self) -> Option<PathBuf> {
        let commit = fs::read_to_string(self.folder().join("refs/main")).ok()?;
        let commit = commit.trim();
        is_plain(commit)
            .then(|| self.snapshot_of(commit))
            .filter(|snapshot| snapshot.is_dir())
    }

    /// Makes `main` mean this commit.
    pub(super) fn point_main_to(&self, commit: &str) -> Result<(), ModelsError> {
        let path = self.folder().join("refs/main");
        files::create_folder(&self.folder().join("refs"))?;
        let draft = files::beside(&path, &format!(".{}", std::process::id()));
        fs::write(&draft, commit).while_doing("write", &draft)?;
        fs::rename(&draft, &path).while_doing("write", &path)
    }

    /// Links a snapshot's file to its blob, relative, so that the cache can be moved.
    pub(super) fn link(&self, commit: &str, name: &str, etag: &str) -> Result<(), ModelsError> {
        let path = self.snapshot_of(commit).join(name);
        if let Some(folder) = path.parent() {
            files::create_folder(folder)?;
        }
        let ups = "../".repeat(2 + name.matches('/').count());
        let target = PathBuf::from(format!("{ups}blobs/{etag}"));
        if fs::read_link(&path).is_ok_and(|current| current == target) {
            return Ok(());
        }
        files::remove(&path)?;
        match symlink(&target, &path, &self.blob(etag)) {
            // Another process made the same link in the meantime.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other.while_doing("create", &path),
        }
    }
}

#[cfg(unix)]
fn symlink(target: &Path, path: &Path, _blob: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

/// Where links need a privilege, the file is copied, as huggingface_hub does.
#[cfg(not(unix))]
fn symlink(_target: &Path, path: &Path, blob: &Path) -> io::Result<()> {
    fs::copy(blob, path).map(drop)
}

/// The blob that a snapshot's file links to.
pub(super) fn blob_name(path: &Path) -> Option<String> {
    let target = fs::read_link(path).ok()?;
    target.file_name()?.to_str().map(str::to_owned)
}

/// The files of a snapshot whose blobs exist, by their names in the repository.
pub(super) fn files_of(snapshot: &Path) -> Vec<String> {
    let mut names = Vec::new();
    collect(snapshot, "", MAX_DEPTH, &mut names);
    names.sort();
    names
}

fn collect(folder: &Path, prefix: &str, depth: usize, names: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = entry.path();
        if path.is_file() {
            names.push(format!("{prefix}{name}"));
        } else if path.is_dir() && depth > 0 {
            collect(&path, &format!("{prefix}{name}/"), depth - 1, names);
        }
    }
}

/// Whether every part that the index of a sharded checkpoint names is there; true without an index.
pub(super) fn has_every_shard(snapshot: &Path) -> bool {
    let Ok(text) = fs::read(snapshot.join("model.safetensors.index.json")) else {
        return true;
    };
    let Ok(index) = serde_json::from_slice::<Value>(&text) else {
        return false;
    };
    let Some(map) = index["weight_map"].as_object() else {
        return false;
    };
    map.values().all(|file| {
        file.as_str()
            .is_some_and(|file| is_plain(file) && snapshot.join(file).is_file())
    })
}

/// The blobs of a repository's folder with their sizes, unfinished ones among them.
pub(super) fn blobs_of(folder: &Path) -> Vec<(String, u64)> {
    let Ok(entries) = fs::read_dir(folder.join("blobs")) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let size = entry.metadata().ok()?.len();
            Some((entry.file_name().into_string().ok()?, size))
        })
        .collect()
}

/// Every model in the cache: each GGUF file, and each folder of safetensors.
pub(super) fn list(cache: &Path) -> Vec<Cached> {
    let Ok(entries) = fs::read_dir(cache) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let Some((owner, repo)) = name
            .strip_prefix("models--")
            .and_then(|name| name.split_once("--"))
        else {
            continue;
        };
        let repository = Repository::new(cache, &format!("{owner}/{repo}"));
        if let Some(snapshot) = repository.snapshot() {
            found.extend(models_of(&repository.repo, &snapshot));
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn models_of(repo: &str, snapshot: &Path) -> Vec<Cached> {
    let names = files_of(snapshot);
    let size = |name: &String| fs::metadata(snapshot.join(name)).map_or(0, |m| m.len());
    if let Ok(Choice::Folder(files)) = choose::choose(&names, None) {
        let size = files.iter().map(|&idx| size(&names[idx])).sum();
        return vec![Cached {
            name: format!("hf:{repo}"),
            size,
            path: snapshot.to_owned(),
        }];
    }
    let ggufs = names
        .iter()
        .filter(|name| choose::choose(&names, Some(name.as_str())).is_ok());
    ggufs
        .map(|name| Cached {
            name: format!("hf:{repo}:{name}"),
            size: size(name),
            path: snapshot.join(name),
        })
        .collect()
}
