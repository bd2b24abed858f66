//! Files of a cache: written beside their place, checked, and only then moved into it; one writer at a time.
//!
//! `NAME.incomplete` is what came so far, `NAME.lock` the writers' lock (taken with flock, so that it goes with its
//! process; the file itself stays, for removing it would let two hold "the" lock).

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::{Context, Mismatch, ModelsError};
use super::report::Report;

/// What a file must be, as far as its source says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Expected {
    /// Bytes.
    pub(super) size: Option<u64>,
    /// In hexadecimal, lower case.
    pub(super) sha256: Option<String>,
}

impl Expected {
    /// What is wrong with a file of this size and digest.
    pub(super) fn mismatch(&self, size: u64, sha256: &str) -> Option<Mismatch> {
        self.size_mismatch(size).or_else(|| {
            let expected = self
                .sha256
                .as_ref()
                .filter(|expected| *expected != sha256)?;
            Some(Mismatch::Sha256 {
                given: sha256.to_owned(),
                expected: expected.clone(),
            })
        })
    }

    /// What is wrong with a file of this size, whatever it holds.
    pub(super) fn size_mismatch(&self, given: u64) -> Option<Mismatch> {
        let expected = self.size.filter(|expected| *expected != given)?;
        Some(Mismatch::Size { given, expected })
    }
}

/// Makes a folder and those above it.
pub(super) fn create_folder(path: &Path) -> Result<(), ModelsError> {
    fs::create_dir_all(path).while_doing("create the folder", path)
}

/// Removes a file if it is there.
pub(super) fn remove(path: &Path) -> Result<(), ModelsError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.while_doing("remove", path),
    }
}

/// `path` with more at its end: `model.gguf` and `.lock` give `model.gguf.lock`.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// The sha256 of a file, in hexadecimal.
pub(super) fn sha256(path: &Path) -> Result<String, ModelsError> {
    let mut file = File::open(path).while_doing("read", path)?;
    let mut hasher = Sha256::new();
    hash_into(&mut file, &mut hasher).while_doing("read", path)?;
    Ok(hex(hasher))
}

fn hash_into(file: &mut File, hasher: &mut Sha256) -> io::Result<u64> {
    let mut buffer = vec![0; 1 << 16];
    let mut n_bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(n_bytes),
            n => {
                hasher.update(&buffer[..n]);
                n_bytes += n as u64;
            }
        }
    }
}

fn hex(hasher: Sha256) -> String {
    hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The right to write a file, held until dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock at `path`; waits, and says so, while another process has it.
    pub(super) fn take(path: &Path, what: &str, report: &dyn Report) -> Result<Self, ModelsError> {
        if let Some(folder) = path.parent() {
            create_folder(folder)?;
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path);
        let file = file.while_doing("create", path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                report.note(&format!("waiting for another process that fetches {what}"));
                file.lock().while_doing("lock", path)?;
            }
            // Some network file systems have no locks; the rename at the end is atomic all the same.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(error).while_doing("lock", path),
        }
        Ok(Self { _file: file })
    }
}

/// A file on its way: what came so far, and its digest.
pub(super) struct Incomplete {
    path: PathBuf,
    file: File,
    hasher: Sha256,
    n_bytes: u64,
}

impl Incomplete {
    /// Opens what an earlier attempt left, or an empty file.
    pub(super) fn open(path: PathBuf) -> Result<Self, ModelsError> {
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .while_doing("create", &path)?;
        let mut hasher = Sha256::new();
        let n_bytes = hash_into(&mut file, &mut hasher).while_doing("read", &path)?;
        Ok(Self {
            path,
            file,
            hasher,
            n_bytes,
        })
    }

    /// How many bytes there are.
    pub(super) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Throws away what there is.
    pub(super) fn restart(&mut self) -> Result<(), ModelsError> {
        *self = {
            remove(&self.path)?;
            Self::open(self.path.clone())?
        };
        Ok(())
    }

    /// Throws away what there is and the file with it.
    pub(super) fn discard(self) -> Result<(), ModelsError> {
        remove(&self.path)
    }

    /// Appends. When the disk takes no more, what came so far is removed to give its room back.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), ModelsError> {
        if let Err(error) = self.file.write_all(bytes) {
            let _ = remove(&self.path);
            return Err(error).while_doing("write", &self.path);
        }
        self.hasher.update(bytes);
        self.n_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Checks what came and moves it to `target`; gives its digest. What does not fit is thrown away.
    pub(super) fn finish(self, expected: &Expected, target: &Path) -> Result<String, ModelsError> {
        let sha256 = hex(self.hasher);
        if let Some(mismatch) = expected.mismatch(self.n_bytes, &sha256) {
            remove(&self.path)?;
            return Err(ModelsError::Mismatch {
                what: short_name(target),
                mismatch,
            });
        }
        self.file.sync_all().while_doing("write", &self.path)?;
        fs::rename(&self.path, target).while_doing("write", target)?;
        Ok(sha256)
    }
}

/// The last part of a path.
pub(super) fn short_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}
