//! What was found to be right stays right while its size and time of change stay: a small record a file, so that a
//! model is not hashed at every start.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::error::{Context, Mismatch, ModelsError};
use super::files::{self, Expected};

/// The records, one JSON file each.
#[derive(Debug, Clone)]
pub(super) struct Records {
    folder: PathBuf,
}

/// A file as it was when its digest was taken.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Bytes.
    size: u64,
    /// Nanoseconds from 1970 to its last change.
    modified: u64,
    /// In hexadecimal.
    sha256: String,
}

impl Records {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.json"))
    }

    /// What is wrong with the file, if anything. It is read only when its record does not fit.
    ///
    /// Where no digest is expected, the one in the record is: the file must be what it was.
    pub(super) fn check(
        &self,
        key: &str,
        path: &Path,
        expected: &Expected,
    ) -> Result<Option<Mismatch>, ModelsError> {
        let (size, modified) = state(path)?;
        if let Some(mismatch) = expected.size_mismatch(size) {
            return Ok(Some(mismatch));
        }
        let record = self.read(key);
        let mut expected = expected.clone();
        if expected.sha256.is_none() {
            expected.sha256 = record.as_ref().map(|record| record.sha256.clone());
        }
        let Some(sha256) = &expected.sha256 else {
            return Ok(None);
        };
        let is_as_recorded = record.is_some_and(|record| {
            record.size == size && record.modified == modified && record.sha256 == *sha256
        });
        if is_as_recorded {
            return Ok(None);
        }
        let sha256 = files::sha256(path)?;
        let mismatch = expected.mismatch(size, &sha256);
        if mismatch.is_none() {
            self.write(
                key,
                &Record {
                    size,
                    modified,
                    sha256,
                },
            );
        }
        Ok(mismatch)
    }

    /// Remembers a file that has this digest.
    pub(super) fn remember(&self, key: &str, path: &Path, sha256: String) {
        if let Ok((size, modified)) = state(path) {
            self.write(
                key,
                &Record {
                    size,
                    modified,
                    sha256,
                },
            );
        }
    }

    /// Forgets a file.
    pub(super) fn forget(&self, key: &str) {
        let _ = fs::remove_file(self.path(key));
    }

    fn read(&self, key: &str) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.path(key)).ok()?).ok()
    }

    /// A cache that cannot be written to costs time at the next start, nothing else.
    fn write(&self, key: &str, record: &Record) {
        let Ok(text) = serde_json::to_vec(record) else {
            return;
        };
        let path = self.path(key);
        let draft = files::beside(&path, &format!(".{}", std::process::id()));
        let _ = fs::create_dir_all(&self.folder);
        if fs::write(&draft, text)
            .and_then(|()| fs::rename(&draft, path))
            .is_err()
        {
            let _ = fs::remove_file(draft);
        }
    }
}

/// A file's size and its time of change, in nanoseconds since 1970.
fn state(path: &Path) -> Result<(u64, u64), ModelsError> {
    let metadata = fs::metadata(path).while_doing("read", path)?;
    let modified = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let modified = modified.map_or(0, |elapsed| elapsed.as_nanos() as u64);
    Ok((metadata.len(), modified))
}
